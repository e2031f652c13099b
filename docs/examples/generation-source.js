// generation-source.js - EventSource for a POST: chunks as events, an error
// event, reconnects, close(). For browsers (a module) and Node 18 and later.
//
//   const source = new GenerationSource("http://127.0.0.1:8080/v1/generate",
//     { prompt: "Once upon a time", max_tokens: 64 });
//   source.addEventListener("message", (e) => show(e.text)); // e.data: the chunk
//   source.addEventListener("error", (e) => warn(e.error, e.retryMs)); // retryMs null: given up
//   source.addEventListener("done", (e) => finished(e.reason)); // finish_reason
//   stopButton.onclick = () => source.close();
//
// A connection that breaks is opened again, and the text goes on where it
// stood: the same seed gives the same text, so what was shown before is
// skipped. 429 and 503 wait as long as Retry-After says. Any other answer than
// 200, and an error that the server puts into the stream, is final.
// Works with /v1/generate, /v1/completions and /v1/chat/completions, n: 1.

const TRIES = 5; // in a row, none of which brought anything new
const sleep = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});

// The data of each event of a response; comments (pings) are dropped.
export async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "", data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines.map((l) => l.replace(/\r$/, ""))) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}

export class GenerationSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  readyState = GenerationSource.CONNECTING;
  #abort = new AbortController();
  #shown = 0; // characters of text in the events so far
  #failures = 0;

  constructor(url, body, { headers = {} } = {}) {
    super();
    const seed = body.seed ?? Math.floor(Math.random() * 2 ** 31);
    this.#run(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify({ ...body, seed, stream: true }),
      signal: this.#abort.signal,
    });
  }

  // The server stops working for it at its next token.
  close() {
    this.readyState = GenerationSource.CLOSED;
    this.#abort.abort();
  }

  #emit(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }

  async #run(url, init) {
    while (this.readyState !== GenerationSource.CLOSED) {
      try {
        await this.#attempt(await fetch(url, init));
      } catch (error) {
        if (this.readyState === GenerationSource.CLOSED) return;
        await this.#failed(error);
      }
    }
  }

  async #failed(error) {
    const wait = error.final || ++this.#failures >= TRIES ? null
      : error.retryMs ?? 250 * 2 ** this.#failures * (0.5 + Math.random());
    this.readyState = wait === null ? GenerationSource.CLOSED : GenerationSource.CONNECTING;
    this.#emit("error", { error, retryMs: wait });
    if (wait !== null) await sleep(wait, this.#abort.signal).catch(() => {});
  }

  async #attempt(response) {
    if (!response.ok) throw await refusal(response);
    this.readyState = GenerationSource.OPEN;
    this.#emit("open");
    let skip = this.#shown, reason = null;
    for await (const data of events(response)) {
      if (data === "[DONE]") {
        this.readyState = GenerationSource.CLOSED;
        this.#emit("done", { reason });
        return;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) throw Object.assign(new Error(chunk.error.message), { final: true });
      const choice = chunk.choices[0];
      const text = choice?.text ?? choice?.delta?.content ?? "";
      const fresh = text.slice(skip);
      reason = choice?.finish_reason ?? reason;
      skip = Math.max(0, skip - text.length);
      this.#shown += fresh.length;
      if (fresh) this.#failures = 0;
      if (fresh || !text) this.#emit("message", { data: chunk, text: fresh });
    }
    throw new Error("the connection broke");
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const error = new Error(body.error?.message ?? `status ${response.status}`);
  const again = response.status === 429 || response.status === 503;
  const seconds = Number(response.headers.get("Retry-After"));
  return Object.assign(error, { status: response.status, final: !again,
    retryMs: again && seconds > 0 ? 1000 * seconds : undefined });
}
