// docs.js - /openapi.yaml as a page: routes, fields, examples, curl.
import { base } from "./api.js";
import { h } from "./ui.js";
import { parse } from "./yaml.js";

const METHODS = ["get", "post", "put", "patch", "delete", "options"];
const DEEPEST = 6; // schemas that hold themselves end here
let spec;

function resolve(node) {
  while (node?.$ref)
    node = node.$ref.slice(2).split("/").reduce((at, part) =>
      at[part.replaceAll("~1", "/").replaceAll("~0", "~")], spec);
  return node;
}

// Paragraphs, with `code` in them: what descriptions use of Markdown.
function prose(text = "", tag = "p") {
  return text.trim().split(/\n\s*\n/).filter(Boolean).map((paragraph) =>
    h(tag, {}, ...paragraph.split("`").map((part, i) => i % 2 ? h("code", {}, part) : part)));
}

const inJson = (value) => JSON.stringify(value);

// ---- schemas ----------------------------------------------------------------

// allOf as one schema.
function merged(schema) {
  const s = resolve(schema);
  if (!s.allOf) return s;
  const all = { ...s, properties: {}, required: [] };
  delete all.allOf;
  for (const part of [...s.allOf, { ...s, allOf: undefined }].map(merged)) {
    if (part.type) all.type = part.type;
    Object.assign(all.properties, part.properties);
    all.required.push(...(part.required ?? []));
  }
  return all;
}

function typeOf(schema, deep = 0) {
  const s = merged(schema);
  if (s.const !== undefined) return inJson(s.const);
  if (s.enum) return s.enum.map(inJson).join(" | ");
  const choices = s.oneOf ?? s.anyOf;
  if (choices) return [...new Set(choices.map((c) => typeOf(c, deep + 1)))].join(" | ");
  const types = [s.type ?? "any"].flat();
  return types.map((t) => t === "array" && s.items && deep < DEEPEST
    ? `[${typeOf(s.items, deep + 1)}]` : t).join(" | ");
}

const bounds = [
  ["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"],
  ["minLength", "characters ≥"], ["maxLength", "characters ≤"],
  ["minItems", "items ≥"], ["maxItems", "items ≤"], ["pattern", "matches"],
];

function facts(s) {
  const found = bounds.filter(([name]) => s[name] !== undefined).map(([name, sign]) => `${sign} ${s[name]}`);
  if (s.default !== undefined) found.push(`default ${inJson(s.default)}`);
  if (s.examples) found.push(`e.g. ${inJson(s.examples[0])}`);
  return found.join(" · ");
}

// The object inside: of an array, or of one of several choices.
function inner(schema, deep = 0) {
  const s = merged(schema);
  if (s.properties && Object.keys(s.properties).length) return s;
  if (deep > DEEPEST) return null;
  const next = s.items ? [s.items] : s.oneOf ?? s.anyOf ?? [];
  for (const n of next) {
    const found = inner(n, deep + 1);
    if (found) return found;
  }
  return null;
}

function field(name, schema, required, deep) {
  const s = merged(schema);
  const below = deep < DEEPEST && inner(s);
  return h("li", {},
    h("p", {}, h("code", { class: "field-name" }, name), " ",
      h("span", { class: "name" }, typeOf(s)), required ? h("strong", { class: "needed" }, " required") : ""),
    ...prose(s.description), facts(s) ? h("p", { class: "hint" }, facts(s)) : "",
    below ? h("details", {}, h("summary", {}, "fields"), fields(below, deep + 1)) : "");
}

function fields(schema, deep = 0) {
  const s = inner(schema);
  if (!s) return h("p", {}, h("span", { class: "name" }, typeOf(schema)));
  const all = Object.entries(s.properties).map(([name, child]) => [name, child, s.required?.includes(name)]);
  all.sort((a, b) => Boolean(b[2]) - Boolean(a[2]));
  return h("ul", { class: "fields" }, ...all.map(([name, child, need]) => field(name, child, need, deep)));
}

// ---- operations ---------------------------------------------------------------

const code = (text, label) => h("pre", { tabindex: "0", "aria-label": label }, h("code", {}, text));

function curl(method, path, example) {
  const at = new URL(path.slice(1), base).href.replaceAll("%7B", "{").replaceAll("%7D", "}");
  const lines = [`curl ${example?.stream ? "-N " : ""}${method === "get" ? "" : `-X ${method.toUpperCase()} `}${at}`];
  if (example) {
    lines[0] = lines[0].replace("-X POST ", "");
    lines.push("-H 'Content-Type: application/json'", `-d '${inJson(example).replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

function body(op, method, path) {
  const media = resolve(op.requestBody)?.content?.["application/json"];
  if (!media) return [h("h3", {}, "Try"), code(curl(method, path), "curl")];
  return [
    ...Object.values(media.examples ?? {}).flatMap((e) =>
      [h("h3", {}, "Try: " + e.summary), code(curl(method, path, e.value), "curl: " + e.summary)]),
    h("details", { open: true }, h("summary", {}, "Request"), fields(media.schema)),
  ];
}

function reply(status, node) {
  const r = resolve(node);
  const contents = Object.entries(r.content ?? {}).map(([mime, media]) =>
    h("details", {}, h("summary", {}, mime), fields(media.schema)));
  return h("li", {}, h("p", {}, h("code", { class: status < 400 ? "status-good" : "status-bad" }, status), " ", r.description),
    ...(status < 400 ? contents : []));
}

function operation(method, path, op, shared = []) {
  const parameters = [...shared, ...(op.parameters ?? [])].map(resolve);
  return h("article", { class: "card stack", id: op.operationId, tabindex: "-1", "aria-labelledby": `${op.operationId}-title` },
    h("h2", { id: `${op.operationId}-title` }, h("span", { class: `method ${method}` }, method.toUpperCase()), " ", h("code", {}, path)),
    h("p", { class: "summary" }, op.summary), ...prose(op.description),
    ...(parameters.length ? [h("h3", {}, "Parameters"), h("ul", { class: "fields" }, ...parameters.map((p) =>
      field(`${p.name} (${p.in})`, { ...resolve(p.schema), description: p.description }, p.required, 0)))] : []),
    ...body(op, method, path),
    h("details", {}, h("summary", {}, "Replies"),
      h("ul", { class: "fields" }, ...Object.entries(op.responses).map(([s, r]) => reply(s, r)))));
}

function page() {
  const contents = document.getElementById("contents");
  const pages = document.getElementById("pages");
  let count = 0;
  pages.append(h("section", { class: "card stack" }, h("h2", {}, spec.info.summary), ...prose(spec.info.description)));
  for (const tag of spec.tags) {
    const links = [];
    pages.append(h("h2", { class: "tag" }, `${tag.name}: ${tag.description}`));
    for (const [path, item] of Object.entries(spec.paths))
      for (const method of METHODS.filter((m) => item[m]?.tags.includes(tag.name))) {
        const op = item[method];
        pages.append(operation(method, path, op, item.parameters));
        links.push(h("li", {}, h("a", { href: "#" + op.operationId },
          h("span", { class: `method ${method}` }, method.toUpperCase()), " ", path)));
        count++;
      }
    contents.append(h("h2", {}, tag.name), h("ul", {}, ...links));
  }
  return count;
}

const state = document.getElementById("state");
try {
  const response = await fetch(new URL("openapi.yaml", base));
  if (!response.ok) throw new Error(`openapi.yaml: the server answered ${response.status}`);
  spec = parse(await response.text());
  state.textContent = `${page()} operations, version ${spec.info.version}`;
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  state.textContent = error.message;
  state.classList.add("bad");
}
