// browser.js - Chromium, and pages that may say and ask nothing unexpected.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

// Chromium refuses its sandbox to root; the pages are our own.
export const launch = () => chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

// Change the fields of the requests that a page makes.
export const rewrite = (page, path, fields) => page.route(path, (route, request) =>
  route.continue({ postData: JSON.stringify({ ...request.postDataJSON(), ...fields }) }));

// A fresh page at url + at. check() fails if anything was written to the
// console, or asked of an address that begins with none of `hosts`.
export async function open(browser, url, at = "/", options = {}, hosts = [url]) {
  const page = await (await browser.newContext(options)).newPage();
  const said = [];
  page.on("console", (m) => said.push(`${m.type()}: ${m.text()}`));
  page.on("pageerror", (e) => said.push(`error: ${e.message}`));
  page.on("request", (r) => hosts.some((h) => r.url().startsWith(h)) || said.push(`asked ${r.url()}`));
  await page.goto(url + at);
  page.check = async (expected = []) => {
    assert.deepEqual(said.filter((s) => !expected.some((e) => e.test(s))), []);
    await page.context().close();
  };
  return page;
}
