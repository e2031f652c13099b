// similarity.js - how near texts are to each other, by their embeddings.
import { post } from "./api.js";
import { codePanel } from "./code.js";
import { $, $$, h, pickModels, say, showError } from "./ui.js";

const panel = document.getElementById("similarity");
const form = $("form", panel);
const list = $(".texts", panel);
const result = $(".result", panel);
const MOST = 12; // more rows would not be read

const texts = () => $$("input", list).map((i) => i.value);
const request = () => ({ model: form.elements.model.value, input: texts() });

function number() {
  const items = $$("li", list);
  items.forEach((item, i) => {
    $("input", item).setAttribute("aria-label", `Text ${i + 1}`);
    $("button", item).setAttribute("aria-label", `Remove text ${i + 1}`);
    $("button", item).disabled = items.length <= 2;
  });
  $(".add", panel).disabled = items.length >= MOST;
}

function add(text = "") {
  const input = h("input", { type: "text", value: text, autocomplete: "off" });
  const remove = h("button", { type: "button" }, "×");
  const item = h("li", { class: "row" }, input, remove);
  remove.addEventListener("click", () => {
    const near = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    number();
    $("input", near).focus();
    drawCode();
  });
  list.append(item);
  number();
  return input;
}

// The vectors have length 1, so their product is the cosine.
const cosine = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

function draw(names, vectors) {
  const head = h("tr", {}, h("td"), ...names.map((_, i) => h("th", { scope: "col" }, String(i + 1))));
  const rows = vectors.map((a, i) => h("tr", {},
    h("th", { scope: "row" }, h("span", { class: "n" }, String(i + 1)), ` ${names[i]}`),
    ...vectors.map((b) => {
      const value = cosine(a, b);
      const cell = h("td", { class: value > 0.6 ? "cell hot" : "cell" }, value.toFixed(2));
      cell.style.setProperty("--share", Math.max(0, value).toFixed(3));
      return cell;
    })));
  result.replaceChildren(h("table", { class: "heat" },
    h("caption", {}, "Cosine similarity: 1 means the same direction, 0 unrelated."),
    h("thead", {}, head), h("tbody", {}, ...rows)));
}

async function run() {
  const body = request();
  const start = performance.now();
  showError(panel);
  try {
    const reply = await (await post("v1/embeddings", body)).json();
    draw(body.input, reply.data.map((d) => d.embedding));
    say(panel, `${body.input.length} texts, ${reply.data[0].embedding.length} dimensions, ` +
      `in ${Math.round(performance.now() - start)} ms`);
  } catch (error) {
    result.replaceChildren();
    say(panel, "");
    showError(panel, error);
  }
}

["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell today."].forEach((t) => add(t));
$(".add", panel).addEventListener("click", () => { add().focus(); drawCode(); });
form.addEventListener("submit", (e) => { e.preventDefault(); run(); });
const drawCode = codePanel(panel, "v1/embeddings", request);

export function setModels(models) {
  pickModels(panel, models, (meta) => meta.task === "embed", () =>
    "No embedding model is served, so texts cannot be compared here yet. infer-train embed makes one, and GGUF files of BERT-like embedders work too: start inferd with --model embedder.gguf beside the others.");
  drawCode();
}
