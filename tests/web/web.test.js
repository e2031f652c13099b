// web.test.js - the pages, clicked and typed at in Chromium, against inferd.
//
// Whatever a page writes to the console, and every request to another host,
// fails the test it happens in.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch, open as openPage, rewrite } from "./browser.js";
import { Server, slow } from "./server.js";

const top = process.env.TOP;
const stories = path.join(top, "../shared/oracle/stories260K/model-Q8_0.gguf");
const embedder = path.join(top, "../shared/oracle/bert-mean/model-F32.gguf");
const models = {
  ...(existsSync(stories) && { story: stories }), slow,
  intents: path.join(top, "models/intents.gguf"),
};
let browser, server;

before(async () => {
  server = await Server.start({ model: models });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  assert.equal(await server?.stop(), 0);
});

const open = (at = "/", options = {}, url = server.url) => openPage(browser, url, at, options);

const status = (page, section, wanted) => page.waitForFunction(([id, re]) =>
  new RegExp(re).test(document.querySelector(`#${id} .status`).textContent), [section, wanted.source]);

test("generate streams what the API answers", async () => {
  const page = await open();
  await page.selectOption("#g-model", existsSync(stories) ? "story" : "slow");
  await page.fill("#g-prompt", "Once upon a time");
  await page.fill("#g-temp", "0");
  await page.fill("#g-max", "40");
  await page.click("#generate .primary");
  await status(page, "generate", /40 tokens|ended/);
  const body = { prompt: "Once upon a time", temperature: 0, max_tokens: 40, top_p: 0.95,
    model: await page.inputValue("#g-model") };
  const reply = await (await fetch(server.url + "/v1/generate", { method: "POST",
    headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
  assert.equal(await page.textContent("#generate .text"), reply.choices[0].text);
  await page.check();
});

test("text grows while it is written, and Stop frees the server", async () => {
  const page = await open();
  await rewrite(page, "**/v1/generate", { ignore_eos: true }); // random weights end at random
  await page.selectOption("#g-model", "slow");
  await page.fill("#g-max", "8000");
  await page.focus("#g-prompt");
  await page.keyboard.press("Control+Enter");
  const length = () => page.evaluate(() => document.querySelector("#generate .text").textContent.length);
  await page.waitForFunction(() => document.querySelector("#generate .text").textContent.length > 20);
  const first = await length();
  await page.waitForFunction((n) => document.querySelector("#generate .text").textContent.length > n, first);
  assert.equal(await page.getAttribute("#generate .output", "aria-busy"), "true");
  await page.click("#generate .stop");
  await status(page, "generate", /stopped/);
  await server.idle();
  assert.equal(await page.isDisabled("#generate .stop"), true);
  await page.check();
});

test("errors are shown as the server words them", async () => {
  const page = await open();
  await page.fill("#g-max", "-1");
  await page.click("#generate .primary");
  await page.waitForSelector("#generate .error:not([hidden])");
  assert.match(await page.textContent("#generate .error"), /max_tokens/);
  await page.check([/status of 400/]);
});

test("classify shows bars and marks the words that decided", async () => {
  const page = await open("/#classify");
  await page.fill("#c-input", "Where is my new card? 🙂 It should be here.");
  await page.fill("#c-topk", "3");
  await page.click("#classify .primary");
  await status(page, "classify", / ms/);
  assert.equal(await page.locator("#classify .bars li").count(), 3);
  assert.equal(await page.textContent("#classify .marked"), "Where is my new card? 🙂 It should be here.");
  assert.ok(await page.locator("#classify mark.for").count() > 0);
  const widths = await page.$$eval("#classify .fill", (all) => all.map((f) => f.getBoundingClientRect().width));
  assert.ok(widths[0] > widths[1], String(widths));
  await page.check();
});

test("similarity says kindly that it has no model", async () => {
  const page = await open("/#similarity");
  await page.waitForSelector("#similarity .note:not([hidden])");
  assert.match(await page.textContent("#similarity .note"), /No embedding model/);
  assert.equal(await page.isVisible("#similarity form"), false);
  await page.check();
});

test("similarity draws a heat map", { skip: !existsSync(embedder) && "no embedding model" }, async () => {
  const other = await Server.start({ model: { embedder } });
  try {
    const page = await open("/#similarity", {}, other.url);
    await page.waitForSelector("#s-model option", { state: "attached" });
    await page.click("#similarity .add");
    await page.keyboard.type("A man is playing a guitar.");
    await page.click("#similarity .primary");
    await status(page, "similarity", /4 texts/);
    const cells = await page.$$eval("#similarity .cell", (all) => all.map((c) => Number(c.textContent)));
    assert.equal(cells.length, 16);
    for (let i = 0; i < 4; i++) {
      assert.equal(cells[5 * i], 1);
      for (let j = 0; j < 4; j++) assert.equal(cells[4 * i + j], cells[4 * j + i]);
    }
    assert.equal(cells[3], 1); // the first and the last are the same text
    await page.screenshot({ path: "similarity-desktop-map.png", fullPage: true });
    await page.check();
  } finally {
    await other.stop();
  }
});

test("server shows live figures", async () => {
  const page = await open("/#server");
  await page.waitForFunction(() =>
    (document.querySelector("#server polyline").getAttribute("points") ?? "").split(" ").length >= 2);
  assert.equal(await page.locator("#server tbody tr").count(), Object.keys(models).length);
  assert.match(await page.textContent("#server .tile:last-child .number"), /MB|GB/);
  await page.check();
});

test("the code shown is the request, and runs", async () => {
  const page = await open("/#classify");
  await page.fill("#c-input", "it's \"here\"");
  await page.click("#classify .code summary");
  const curl = await page.textContent("#classify pre");
  const reply = JSON.parse(execFileSync("sh", ["-c", curl.replace("curl ", "curl -s ")]));
  assert.equal(reply.model, "intents");
  await page.click("#classify .code button:has-text('JavaScript')");
  const script = await page.textContent("#classify pre");
  const lines = [];
  const run = new (Object.getPrototypeOf(async () => {}).constructor)("console", script);
  await run({ log: (x) => lines.push(x) });
  assert.equal(lines[0].data[0].label, reply.data[0].label);
  await page.check();
});

test("a key is asked for, kept in the session, and never shown", async () => {
  const locked = await Server.start({ model: models, api_keys: [{ name: "k", key: "sesame-1" }] });
  try {
    const page = await open("/", {}, locked.url);
    await page.waitForFunction(() => /key/.test(document.querySelector("#state").textContent));
    await page.fill("#api-key", "sesame-1");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#g-model option", { state: "attached" });
    await page.click("#generate .code summary");
    const code = await page.textContent("#generate pre");
    assert.ok(code.includes("$INFERD_KEY") && !code.includes("sesame"));
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    await page.check([/status of 401/]);
  } finally {
    await locked.stop();
  }
});

test("tabs and controls work by keyboard and have names", async () => {
  const page = await open();
  await page.focus("#tab-generate");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.isVisible("#chat"), true);
  assert.equal(await page.isVisible("#generate"), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "tab-chat");
  await page.keyboard.press("End");
  assert.equal(await page.isVisible("#server"), true);
  const nameless = await page.$$eval("input, select, textarea, button", (all) => all.filter((e) =>
    !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML));
  assert.deepEqual(nameless, []);
  await page.check();
});

test("the reference reads the contract as PyYAML does, and shows all of it", async () => {
  const spec = JSON.parse(execFileSync(process.env.PYTHON ?? "python3", ["-c",
    "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)",
    path.join(top, "openapi.yaml")], { maxBuffer: 1 << 26 }));
  const page = await open("/docs");
  await page.waitForFunction(() => /operations/.test(document.querySelector("#state").textContent));
  assert.deepEqual(await page.evaluate(async () => {
    const { parse } = await import("/web/yaml.js");
    return parse(await (await fetch("/openapi.yaml")).text());
  }), spec);
  const ids = Object.values(spec.paths).flatMap((item) =>
    Object.values(item).map((op) => op.operationId).filter(Boolean)).sort();
  assert.deepEqual((await page.$$eval("article", (all) => all.map((a) => a.id))).sort(), ids);
  await page.click("#contents a[href='#classify']");
  assert.match(page.url(), /#classify$/);
  const names = await page.$$eval("#classify .field-name", (all) => all.map((n) => n.textContent));
  for (const name of ["input", "model", "top_k", "explain", "labels", "attribution"])
    assert.ok(names.includes(name), name);
  assert.match(await page.textContent("#classify pre"), /v1\/classify[^]*how do I reset/);
  await page.check();
});

test("a wrong line of YAML is an error that names it", async () => {
  const page = await open("/docs");
  const errors = await page.evaluate(async () => {
    const { parse } = await import("/web/yaml.js");
    return ["a: 1\n   b: 2", "a: [1, 2", "a: 'x", "a: {b: 1} c", "- 1\nb: 2", "a: *gone"].map((text) => {
      try { return JSON.stringify(parse(text)); } catch (e) { return e.message; }
    });
  });
  for (const e of errors) assert.match(e, /^yaml, line \d+: /);
  await page.check();
});

test("nothing is wider than a phone; screenshots for people", async () => {
  for (const [name, width, colorScheme] of [["desktop", 1280, "light"], ["desktop", 1280, "dark"],
    ["phone", 390, "light"], ["phone", 390, "dark"]]) {
    const page = await open("/", { viewport: { width, height: 844 }, colorScheme });
    await page.waitForSelector("#c-model option", { state: "attached" });
    for (const section of ["generate", "classify", "similarity", "server"]) {
      await page.click(`#tab-${section}`);
      if (section === "classify") {
        await page.click("#classify .primary");
        await status(page, section, / ms/);
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${section} ${width}`);
      await page.screenshot({ path: `${section}-${name}-${colorScheme}.png`, fullPage: true });
    }
    await page.goto(server.url + "/docs#classify");
    await page.waitForFunction(() => /operations/.test(document.querySelector("#state").textContent));
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `docs ${width}`);
    await page.screenshot({ path: `docs-${name}-${colorScheme}.png` });
    await page.check();
  }
});
