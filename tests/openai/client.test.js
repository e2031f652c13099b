// client.test.js - calls of the official openai client, against the real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { Server, embedder, slow, small } from "./server.js";

const messages = [{ role: "system", content: "Be brief." },
  { role: "user", content: "Once upon a time" }];
const base = { model: "small", messages, max_completion_tokens: 16, seed: 7 };
const config = {
  model: {
    small: { path: small },
    slow: { path: slow, max_running: 1, max_waiting: 0 },
    base: { path: small, chat_template: "plain" },
    embedder: { path: embedder },
  },
  api_keys: [{ name: "a", key: "key-a" },
    { name: "one", key: "key-one", concurrency: 1 },
    { name: "few", key: "key-few", models: ["small"] }],
};
let server, client;

// A client that keeps the statuses and the bodies of what it sends.
function connect(key, options = {}) {
  const sent = [], bodies = [];
  const c = new OpenAI({
    apiKey: key, baseURL: server.url + "/v1", maxRetries: 0, ...options,
    fetch: async (url, init) => {
      const reply = await fetch(url, init);
      sent.push(reply.status);
      if (init.body) bodies.push(JSON.parse(init.body));
      return reply;
    },
  });
  return Object.assign(c, { sent, bodies });
}

before(async () => {
  server = await Server.start(config);
  client = connect("key-a");
});
after(async () => assert.equal(await server.stop(), 0));

test("chat", async () => {
  const r = await client.chat.completions.create(base);
  assert.equal(r.object, "chat.completion");
  assert.equal(r.choices[0].message.role, "assistant");
  assert.equal(typeof r.choices[0].message.content, "string");
  assert.ok(["stop", "length"].includes(r.choices[0].finish_reason));
  assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens);
  assert.ok(r._request_id);
});

test("the same seed, the same answer", async () => {
  const text = async (seed) => (await client.chat.completions.create({ ...base, seed }))
    .choices[0].message.content;
  assert.equal(await text(7), await text(7));
  assert.notEqual(await text(7), await text(8));
});

test("stream, with usage", async () => {
  const whole = await client.chat.completions.create(base);
  const stream = await client.chat.completions.create({
    ...base, stream: true, stream_options: { include_usage: true } });
  let text = "", usage, finish, role;
  for await (const chunk of stream) {
    role ??= chunk.choices[0]?.delta.role;
    text += chunk.choices[0]?.delta.content ?? "";
    finish ??= chunk.choices[0]?.finish_reason;
    usage ??= chunk.usage;
  }
  assert.equal(role, "assistant");
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finish, whole.choices[0].finish_reason);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("the stream helper", async () => {
  const whole = await client.chat.completions.create(base);
  // older clients have it elsewhere
  const chat = client.chat.completions.stream ? client.chat : client.beta.chat;
  const runner = chat.completions.stream(base);
  assert.equal(await runner.finalContent(), whole.choices[0].message.content);
});

test("n, stop, logprobs", async () => {
  const r = await client.chat.completions.create({
    ...base, n: 3, logprobs: true, top_logprobs: 2, stop: ["\u0001"] });
  assert.equal(r.choices.length, 3);
  for (const [i, c] of r.choices.entries()) {
    assert.equal(c.index, i);
    assert.ok(c.logprobs.content.length > 0);
    for (const t of c.logprobs.content) {
      assert.ok(t.logprob <= 0);
      assert.equal(t.top_logprobs.length, 2);
    }
  }
});

test("completions, and their stream", async () => {
  const fields = { model: "small", prompt: "Once upon", max_tokens: 12, seed: 1 };
  const r = await client.completions.create({ ...fields, logprobs: 1, echo: true });
  assert.ok(r.choices[0].text.startsWith("Once upon"));
  assert.equal(r.choices[0].logprobs.tokens.length, r.choices[0].logprobs.token_logprobs.length);
  const whole = await client.completions.create(fields);
  let text = "";
  for await (const chunk of await client.completions.create({ ...fields, stream: true }))
    text += chunk.choices[0].text;
  assert.equal(text, whole.choices[0].text);
});

test("models", async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.deepEqual(ids, ["small", "slow", "base", "embedder"]);
  assert.equal((await client.models.retrieve("slow")).id, "slow");
  await assert.rejects(client.models.retrieve("none"), OpenAI.NotFoundError);
});

test("JSON schema and JSON mode", async () => {
  const schema = {
    type: "object", required: ["name", "ok"], additionalProperties: false,
    properties: { name: { type: "string", maxLength: 8 }, ok: { type: "boolean" },
      n: { type: "integer", minimum: 0, maximum: 9 } } };
  for (let seed = 0; seed < 5; seed++) {
    const r = await client.chat.completions.create({
      ...base, seed, max_completion_tokens: 200,
      response_format: { type: "json_schema", json_schema: { name: "x", strict: true, schema } } });
    const c = r.choices[0];
    assert.equal(c.finish_reason, "stop");
    const value = JSON.parse(c.message.content);
    assert.ok([...value.name].length <= 8 && typeof value.ok === "boolean");
    const o = await client.chat.completions.create({
      ...base, seed, max_completion_tokens: 300, response_format: { type: "json_object" } });
    if (o.choices[0].finish_reason === "stop")
      assert.equal(typeof JSON.parse(o.choices[0].message.content), "object");
  }
  await assert.rejects(client.chat.completions.create({
    ...base, response_format: { type: "json_schema",
      json_schema: { name: "x", schema: { not: {} } } } }),
    (e) => e instanceof OpenAI.BadRequestError && e.code === "invalid_schema"
      && /not/.test(e.message) && e.param === "response_format");
});

const texts = ["Where is my card?", "", "A man plays a guitar. \u{1f600}"];
const length = (v) => Math.hypot(...v);

test("embeddings: base64 on the wire, numbers for the caller", async () => {
  const c = connect("key-a");
  const packed = await c.embeddings.create({ model: "embedder", input: texts });
  const plain = await c.embeddings.create({ model: "embedder", input: texts, encoding_format: "float" });
  assert.deepEqual(c.bodies.map((b) => b.encoding_format), ["base64", "float"]);
  assert.deepEqual(packed.data.map((d) => d.index), [0, 1, 2]);
  for (const [i, { embedding }] of packed.data.entries()) {
    assert.equal(embedding.length, 64);
    assert.ok(Math.abs(length(embedding) - 1) < 1e-5);
    assert.deepEqual([...embedding], plain.data[i].embedding.map(Math.fround));
  }
  assert.ok(plain.usage.prompt_tokens > 0 && plain.usage.total_tokens === plain.usage.prompt_tokens);
  const raw = await c.embeddings.create({ model: "embedder", input: texts, encoding_format: "base64" });
  const bytes = Buffer.from(raw.data[0].embedding, "base64");
  assert.equal(bytes.length, 4 * 64);
  assert.equal(bytes.readFloatLE(0), packed.data[0].embedding[0]);
});

test("embeddings: one text, dimensions, token ids", async () => {
  const ask = async (input, fields = {}) => (await client.embeddings.create({
    model: "embedder", input, ...fields })).data.map((d) => [...d.embedding]);
  const [whole] = await ask(texts[0]);
  const [cut] = await ask(texts[0], { dimensions: 16 });
  assert.equal(cut.length, 16);
  const norm = length(whole.slice(0, 16));
  for (let i = 0; i < 16; i++) assert.ok(Math.abs(cut[i] - whole[i] / norm) < 1e-5);
  const { tokens } = await client.post("/tokenize", { body: { model: "embedder", text: texts[0] } });
  const ids = tokens.map((t) => t.id);
  assert.deepEqual(await ask(ids), [whole]);
  assert.deepEqual(await ask([ids, ids]), [whole, whole]);
});

const rejects = (promise, type, status) => assert.rejects(promise, (e) => {
  assert.ok(e instanceof type, `${e.constructor.name}: ${e.message}`);
  assert.equal(e.status, status);
  assert.ok(e.requestID ?? e.request_id);
  return true;
});

test("embeddings: errors", async () => {
  const ask = (fields) => client.embeddings.create({ model: "embedder", input: "x", ...fields });
  await rejects(ask({ dimensions: 65 }), OpenAI.BadRequestError, 400);
  await rejects(ask({ input: [] }), OpenAI.BadRequestError, 400);
  await rejects(ask({ input: "word ".repeat(2000) }), OpenAI.UnprocessableEntityError, 422);
  await assert.rejects(ask({ model: "small" }), (e) =>
    e instanceof OpenAI.BadRequestError && e.code === "wrong_task" && e.param === "model");
  await assert.rejects(client.completions.create({ model: "embedder", prompt: "x" }), (e) =>
    e instanceof OpenAI.BadRequestError && e.code === "wrong_task");
});

test("errors become its exception classes", async () => {
  const ask = (fields, c = client) => c.chat.completions.create({ ...base, ...fields });
  await rejects(ask({ temperature: 1000 }), OpenAI.BadRequestError, 400);
  await rejects(ask({ messages: [] }), OpenAI.BadRequestError, 400);
  await rejects(ask({ tools: [{ type: "function", function: { name: "f" } }] }),
    OpenAI.BadRequestError, 400);
  await rejects(ask({}, connect("wrong")), OpenAI.AuthenticationError, 401);
  await rejects(ask({ model: "gpt-9" }), OpenAI.NotFoundError, 404);
  await rejects(ask({ messages: [{ role: "user", content: "word ".repeat(2000) }] }),
    OpenAI.UnprocessableEntityError, 422);
  await rejects(ask({ stream: true, n: -1 }), OpenAI.BadRequestError, 400);
  await rejects(ask({ model: "slow" }, connect("key-few")), OpenAI.PermissionDeniedError, 403);
  await rejects(ask({ user: "x".repeat(3 << 20) }), OpenAI.APIError, 413);
  await rejects(ask({ model: "slow", deadline_ms: 1,
    messages: [{ role: "user", content: "word ".repeat(900) }] }), OpenAI.InternalServerError, 504);
});

test("no server, too slow, given up: its other classes", async () => {
  const ask = (c, options) => c.chat.completions.create({ ...base, model: "slow",
    max_completion_tokens: 8000, ignore_eos: true }, options);
  await assert.rejects(ask(connect("key-a", { baseURL: "http://127.0.0.1:9/v1" })),
    OpenAI.APIConnectionError);
  await assert.rejects(ask(connect("key-a", { timeout: 100 })), OpenAI.APIConnectionTimeoutError);
  await server.idle();
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 100);
  await assert.rejects(ask(client, { signal: abort.signal }), OpenAI.APIUserAbortError);
  await server.idle();
});

test("an aborted stream stops its work", async () => {
  const stream = await client.chat.completions.create({
    model: "slow", messages, stream: true, max_completion_tokens: 8000, ignore_eos: true });
  let n = 0;
  for await (const _ of stream) {
    void _;
    if (++n === 3) stream.controller.abort();
  }
  assert.ok(n >= 3 && n < 4000);
  const before = await server.metric("inferd_cancelled_total");
  await server.idle();
  await server.until("inferd_cancelled_total", (v) => v >= Math.max(before, 1));
});

// On a server that has measured no speed yet: its Retry-After is a second.
test("retries on 503 and 429, as Retry-After says", async () => {
  assert.equal(await server.stop(), 0);
  server = await Server.start(config);
  for (const [key, status] of [["key-a", 503], ["key-one", 429]]) {
    const abort = new AbortController();
    const stream = await connect(key).chat.completions.create({
      model: "slow", messages, stream: true, max_completion_tokens: 8000,
      ignore_eos: true }, { signal: abort.signal });
    await server.until("inferd_requests_running", (v) => v === 1);
    const ask = (c) => c.chat.completions.create({
      ...base, model: "slow", max_completion_tokens: 1 });
    await assert.rejects(ask(connect(key)), (e) => {
      assert.ok(e instanceof (status === 429 ? OpenAI.RateLimitError
        : OpenAI.InternalServerError), e.constructor.name);
      assert.equal(e.status, status);
      assert.ok(Number(e.headers.get?.("retry-after") ?? e.headers["retry-after"]) >= 1);
      return true;
    });
    const c = connect(key, { maxRetries: 4 });
    const start = Date.now();
    setTimeout(() => abort.abort(), 300);
    const r = await ask(c);
    assert.equal(r.choices.length, 1);
    assert.equal(c.sent[0], status);
    assert.equal(c.sent.at(-1), 200);
    assert.ok(Date.now() - start >= 900, "it waited for Retry-After");
    await assert.rejects(async () => { for await (const _ of stream) void _; throw new Error("done"); });
    await server.idle();
  }
});
