// examples.test.js - the pages of docs/examples, in Chromium, from an origin of
// their own, as a frontend has it.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch, open, rewrite } from "./browser.js";
import { Server, slow, small } from "./server.js";

const folder = path.join(process.env.TOP, "docs/examples");
let browser, server, files, origin;

before(async () => {
  files = createServer((ask, answer) => {
    const name = path.basename(new URL(ask.url, "http://x").pathname);
    answer.setHeader("Content-Type", name.endsWith(".js") ? "text/javascript" : "text/html");
    if (name === "favicon.ico") return answer.end();
    createReadStream(path.join(folder, name)).pipe(answer);
  });
  await new Promise((resolve) => files.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${files.address().port}`;
  server = await Server.start({ model: { small: { path: small }, slow: { path: slow } },
    cors_origins: [origin] });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  files?.close();
  assert.equal(await server?.stop(), 0);
});

const page = (name, api = server.url) =>
  open(browser, origin, `/${name}?api=${api}`, {}, [origin, api]);
const state = (p, wanted) => p.waitForFunction((re) =>
  new RegExp(re).test(document.querySelector("#state").textContent), wanted.source);

for (const name of ["fetch.html", "events.html"]) {
  test(`${name} writes, and stops`, async () => {
    const p = await page(name);
    await rewrite(p, "**/v1/generate", { ignore_eos: true }); // random weights end at random
    await p.click("form button");
    await state(p, /done/);
    assert.ok((await p.textContent("#text")).length > 20);
    await p.unroute("**/v1/generate");
    await rewrite(p, "**/v1/generate", { model: "slow", max_tokens: 8000, ignore_eos: true });
    await p.click("form button");
    await p.waitForFunction(() => document.querySelector("#text").textContent.length > 20);
    await p.click("#stop");
    await state(p, /stopped/);
    await server.idle();
    await p.check();
  });

  test(`${name} shows what is wrong`, async () => {
    const p = await page(name);
    await p.fill("[name=prompt]", "word ".repeat(2000));
    await p.click("form button");
    await state(p, /error: .*tokens/);
    await p.check([/status of 422/]);
  });

  test(`${name} is refused from an origin that is not configured`, async () => {
    const closed = await Server.start({ model: { small: { path: small } } });
    try {
      const p = await page(name, closed.url);
      await p.click("form button");
      await state(p, /[Ff]etch/);
      await p.check([/CORS policy/, /ERR_FAILED/]);
    } finally {
      await closed.stop();
    }
  });
}

test("events.html goes on when the server comes back", async () => {
  const gone = await Server.start({ model: { slow: { path: slow } }, cors_origins: [origin] });
  const p = await page("events.html", gone.url);
  await rewrite(p, "**/v1/generate", { temperature: 0, max_tokens: 600, ignore_eos: true });
  await p.click("form button");
  await p.waitForFunction(() => document.querySelector("#text").textContent.length > 20);
  gone.process.kill("SIGKILL");
  await state(p, /again in/);
  const begun = await p.textContent("#text");
  const back = await Server.start({ model: { slow: { path: slow } }, cors_origins: [origin] },
    new URL(gone.url).host);
  try {
    await state(p, /done/);
    const text = await p.textContent("#text");
    assert.ok(text.startsWith(begun) && text.length > begun.length);
    const reply = await (await fetch(back.url + "/v1/generate", { method: "POST",
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({
        prompt: "Once upon a time", temperature: 0, max_tokens: 600, ignore_eos: true }) })).json();
    assert.equal(text, reply.choices[0].text);
    await p.check([/ERR_/]);
  } finally {
    await back.stop();
  }
});
