// node.mjs - inferd from Node 18 or later, without a package.
//
//   INFERD_URL=http://127.0.0.1:8080 node node.mjs "Once upon a time"
import { GenerationSource } from "./generation-source.js";

const api = process.env.INFERD_URL ?? "http://127.0.0.1:8080";
const key = process.env.INFERD_KEY;
const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
const prompt = process.argv[2] ?? "Once upon a time";

async function ask(path, body) {
  const response = await fetch(api + path, { method: "POST", headers, body: JSON.stringify(body),
    signal: AbortSignal.timeout(60_000) });
  const reply = await response.json();
  if (response.ok) return reply;
  throw new Error(`${response.status} ${reply.error.code}: ${reply.error.message} ` +
    `(request ${response.headers.get("X-Request-Id")})`);
}

// At once.
const reply = await ask("/v1/generate", { prompt, max_tokens: 40, seed: 1 });
console.log(reply.choices[0].text);
console.log(`${reply.usage.completion_tokens} tokens, ${reply.choices[0].finish_reason}`);

// As it is written. A broken connection goes on where it stood.
await new Promise((resolve, reject) => {
  const source = new GenerationSource(api + "/v1/generate", { prompt, max_tokens: 40, seed: 1 }, { headers });
  source.addEventListener("message", (e) => process.stdout.write(e.text));
  source.addEventListener("done", resolve);
  source.addEventListener("error", (e) => {
    console.error(`${e.error.message}${e.retryMs === null ? "" : "; again"}`);
    if (e.retryMs === null) reject(e.error);
  });
});
console.log();

// A wrong request says what is wrong with it.
await ask("/v1/generate", { prompt, temperature: -1 }).catch((error) => console.log(error.message));
