// api.js - the server's routes as functions. Nothing here touches the page.

// The folder that / is in, so that a proxy may put inferd below any path.
export const base = new URL("../", import.meta.url);

const KEY = "inferd-api-key";
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY),
};

// An answer that is an error, in the server's own words.
export class ApiError extends Error {
  constructor(status, error = {}) {
    super(error.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = error.code;
    this.param = error.param;
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  const response = await fetch(new URL(path, base), { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(response.status, body.error);
}

export const post = (path, body, signal) => call(path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

export const models = async () => (await (await call("v1/models")).json()).data;

// Samples of /metrics: [{name, labels, value}].
export async function metrics() {
  const text = await (await call("metrics")).text();
  const samples = [];
  for (const line of text.split("\n")) {
    const match = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[name] = value.replace(/\\(.)/g, "$1");
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

// The chunks of a stream, as they come. An error in it is thrown.
export async function* stream(path, body, signal) {
  const response = await post(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the stream ended early: the server stopped, or the connection broke");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue; // a ping, or between events
      if (line === "data: [DONE]") return;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new ApiError(response.status, chunk.error);
      yield chunk;
    }
  }
}
