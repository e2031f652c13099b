// chat.test.js - the conversation of the playground, typed and clicked.
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch, open as openPage, rewrite } from "./browser.js";
import { Server, slow, small } from "./server.js";

const intents = path.join(process.env.TOP, "models/intents.gguf");
// Random weights also write NUL (token 3), which no message may contain.
const bias = { logit_bias: { 3: -100 } };
let browser, server;

before(async () => {
  server = await Server.start({ model: {
    small: { path: small }, slow: { path: slow }, intents: { path: intents } } });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  assert.equal(await server?.stop(), 0);
});

const open = (options, url = server.url) => openPage(browser, url, "/#chat", options);
const status = (page, wanted) => page.waitForFunction((re) =>
  new RegExp(re).test(document.querySelector("#chat .status").textContent), wanted.source);
const turns = (page) => page.$$eval("#chat .turn-text", (all) => all.map((t) => t.textContent));
const ask = async (body) => (await (await fetch(server.url + "/v1/chat/completions", { method: "POST",
  headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json())
  .choices[0].message.content;

test("a conversation goes to the model as a whole, and is what the API answers", async () => {
  const page = await open();
  const sent = [];
  page.on("request", (r) => r.url().endsWith("/chat/completions") && sent.push(r.postDataJSON()));
  await page.waitForSelector("#t-model option", { state: "attached" });
  assert.deepEqual(await page.$$eval("#t-model option", (all) => all.map((o) => o.value)), ["small", "slow"]);
  await page.fill("#t-system", "Be brief.");
  await rewrite(page, "**/v1/chat/completions", bias);
  await page.fill("#t-temp", "0");
  await page.fill("#t-max", "20");
  await page.fill("#t-message", "Who are you?");
  await page.keyboard.press("Enter");
  await status(page, /20 tokens|ended/);
  assert.equal(await page.inputValue("#t-message"), "");
  assert.equal(await page.evaluate(() => document.activeElement.id), "t-message");
  await page.keyboard.type("And");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("I?");
  await page.click("#chat .primary");
  await page.waitForFunction(() => document.querySelectorAll("#chat .turn").length === 4);
  await status(page, /20 tokens|ended/);
  const shown = await turns(page);
  const body = { model: "small", temperature: 0, max_completion_tokens: 20, top_p: 0.95, ...bias };
  const first = [{ role: "system", content: "Be brief." }, { role: "user", content: "Who are you?" }];
  assert.equal(shown[1], await ask({ ...body, messages: first }));
  const second = [...first, { role: "assistant", content: shown[1] }, { role: "user", content: "And\nI?" }];
  assert.deepEqual(sent.map((s) => s.messages), [first, second]);
  assert.equal(shown[3], await ask({ ...body, messages: second }));
  assert.deepEqual([shown[0], shown[2]], ["Who are you?", "And\nI?"]);
  await page.check();
});

test("Stop keeps what was written, and frees the server; Clear forgets", async () => {
  const page = await open();
  await rewrite(page, "**/v1/chat/completions", { ignore_eos: true, max_completion_tokens: 8000 });
  await page.waitForSelector("#t-model option", { state: "attached" });
  assert.equal(await page.isDisabled("#chat .clear"), true);
  await page.selectOption("#t-model", "slow");
  await page.fill("#t-message", "Go on for ever.");
  await page.click("#chat .primary");
  await page.waitForFunction(() => document.querySelector("#chat .assistant .turn-text")?.textContent.length > 20);
  assert.equal(await page.isDisabled("#chat .primary"), true);
  assert.equal(await page.isDisabled("#chat .clear"), true);
  await page.click("#chat .stop");
  await status(page, /stopped/);
  await server.idle();
  const [, answer] = await turns(page);
  assert.ok(answer.length > 20);
  await page.click("#chat .code summary");
  const code = await page.textContent("#chat pre");
  assert.ok(code.includes("Go on for ever.") && code.includes('"role":"assistant"'), code);
  await page.click("#chat .clear");
  assert.deepEqual(await turns(page), []);
  assert.equal(await page.isVisible("#chat .empty"), true);
  assert.ok(!(await page.textContent("#chat pre")).includes("Go on"));
  await page.check();
});

test("Esc stops; the next answer follows what there was", async () => {
  const page = await open();
  const sent = [];
  page.on("request", (r) => r.url().endsWith("/chat/completions") && sent.push(r.postDataJSON().messages));
  await rewrite(page, "**/v1/chat/completions", { ignore_eos: true, ...bias });
  await page.waitForSelector("#t-model option", { state: "attached" });
  await page.selectOption("#t-model", "slow");
  await page.fill("#t-max", "8000");
  await page.fill("#t-message", "One");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#chat .assistant .turn-text")?.textContent.length > 20);
  await page.keyboard.press("Escape");
  await status(page, /stopped/);
  await page.fill("#t-max", "3");
  await page.fill("#t-message", "Two");
  await page.keyboard.press("Enter");
  await status(page, /3 tokens/);
  const shown = await turns(page);
  assert.deepEqual(sent[1], [{ role: "user", content: "One" },
    { role: "assistant", content: shown[1] }, { role: "user", content: "Two" }]);
  await page.check();
});

test("an error gives the message back", async () => {
  const page = await open();
  await page.waitForSelector("#t-model option", { state: "attached" });
  await page.fill("#t-message", "word ".repeat(3000));
  await page.click("#chat .primary");
  await page.waitForSelector("#chat .error:not([hidden])");
  assert.match(await page.textContent("#chat .error"), /tokens/);
  assert.deepEqual(await turns(page), []);
  assert.match(await page.inputValue("#t-message"), /^word word/);
  await page.fill("#t-message", "word");
  await page.click("#chat .primary");
  await status(page, /tokens|ended/);
  assert.equal(await page.isVisible("#chat .error"), false);
  assert.equal((await turns(page)).length, 2);
  await page.check([/status of 422/]);
});

test("without a template it says why, and what to do", async () => {
  const other = await Server.start({ model: {
    text: path.join(process.env.TOP, "models/text.gguf"), intents } });
  try {
    const page = await open({}, other.url);
    await page.waitForSelector("#chat .note:not([hidden])");
    assert.match(await page.textContent("#chat .note"), /no.* chat template .*chat_template/i);
    assert.equal(await page.isVisible("#chat form"), false);
    await page.check();
  } finally {
    await other.stop();
  }
});

test("the code shown runs", async () => {
  const page = await open();
  await page.waitForSelector("#t-model option", { state: "attached" });
  await page.fill("#t-temp", "0");
  await page.fill("#t-max", "5");
  await page.fill("#t-message", "it's \"you\"");
  await page.click("#chat .code summary");
  await page.click("#chat .code button:has-text('JavaScript')");
  const script = await page.textContent("#chat pre");
  const lines = [];
  await new (Object.getPrototypeOf(async () => {}).constructor)("console", script)({ log: (x) => lines.push(x) });
  const whole = await ask({ model: "small", temperature: 0, top_p: 0.95, max_completion_tokens: 5,
    messages: [{ role: "user", content: "it's \"you\"" }] });
  assert.equal(lines.filter((l) => typeof l === "string").join(""), whole);
  await page.check();
});

test("names for a reader, room on a phone; screenshots for people", async () => {
  for (const [name, width, colorScheme] of [["desktop", 1280, "light"], ["desktop", 1280, "dark"],
    ["phone", 390, "light"], ["phone", 390, "dark"]]) {
    const page = await open({ viewport: { width, height: 844 }, colorScheme });
    await page.waitForSelector("#t-model option", { state: "attached" });
    await rewrite(page, "**/v1/chat/completions", bias);
    await page.fill("#t-max", "30");
    for (const text of ["Where is my card?", "It should have come a week ago, to the address in my account."]) {
      await page.fill("#t-message", text);
      await page.click("#chat .primary");
      await page.waitForFunction(() => document.querySelector("#chat .log").getAttribute("aria-busy") === "false");
    }
    assert.equal((await turns(page)).length, 4);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `chat ${width}`);
    const nameless = await page.$$eval("#chat input, #chat select, #chat textarea, #chat button", (all) =>
      all.filter((e) => !(e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML));
    assert.deepEqual(nameless, []);
    await page.screenshot({ path: `chat-${name}-${colorScheme}.png`, fullPage: true });
    await page.check();
  }
});
