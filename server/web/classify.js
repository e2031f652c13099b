// classify.js - a text's classes as bars, and which words spoke for the best.
import { post } from "./api.js";
import { codePanel } from "./code.js";
import { $, h, pickModels, say, showError } from "./ui.js";

const panel = document.getElementById("classify");
const form = $("form", panel);
const result = $(".result", panel);

function request() {
  const f = form.elements;
  const body = { model: f.model.value, input: f.input.value };
  if (f.top_k.value) body.top_k = Number(f.top_k.value);
  if (f.explain.checked) body.explain = true;
  return body;
}

const percent = (score) => (100 * score).toFixed(score < 0.0995 ? 1 : 0) + " %";

function bar({ label, score }) {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${100 * Math.min(1, Math.max(0, score))}%`;
  return h("li", {}, h("span", { class: "label" }, label),
    h("span", { class: "score" }, percent(score)),
    h("span", { class: "rail", "aria-hidden": "true" }, fill));
}

// Offsets count bytes of UTF-8. What lies between tokens is shown bare.
function marked(input, explanation) {
  const bytes = new TextEncoder().encode(input);
  const cut = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
  const most = Math.max(...explanation.map((t) => Math.abs(t.attribution)), 1e-9);
  const line = h("p", { class: "marked" });
  let at = 0;
  for (const t of explanation) {
    if (t.start > at) line.append(cut(at, t.start));
    if (t.end <= at) continue;
    const share = t.attribution / most;
    const mark = h("mark", { class: share < 0 ? "against" : "for", title: t.attribution.toFixed(3) },
      cut(Math.max(at, t.start), t.end));
    mark.style.setProperty("--share", Math.abs(share).toFixed(3));
    line.append(mark);
    at = t.end;
  }
  line.append(cut(at));
  return line;
}

// The same in words, for those who do not see colours.
function inWords(explanation, label) {
  const best = explanation.filter((t) => t.attribution > 0)
    .sort((a, b) => b.attribution - a.attribution).slice(0, 3)
    .map((t) => `“${t.token.trim()}” (+${t.attribution.toFixed(2)})`);
  return best.length ? `Most for ${label}: ${best.join(", ")}.` : `No word speaks for ${label}.`;
}

function draw(input, item) {
  result.replaceChildren(
    h("p", { class: "verdict" }, item.label ?? "no class"),
    h("ol", { class: "bars", "aria-label": "Probabilities" }, ...item.labels.map(bar)));
  if (item.explanation)
    result.append(h("h3", {}, "Why"), marked(input, item.explanation),
      h("p", { class: "hint" }, inWords(item.explanation, item.labels[0]?.label ?? item.label),
        " Green words speak for it, orange ones against it."));
}

async function run() {
  const body = request();
  const start = performance.now();
  showError(panel);
  result.setAttribute("aria-busy", "true");
  try {
    const reply = await (await post("v1/classify", body)).json();
    draw(body.input, reply.data[0]);
    say(panel, `${reply.data[0].label}: ${percent(reply.data[0].labels[0]?.score ?? 0)}, ` +
      `in ${Math.round(performance.now() - start)} ms`);
  } catch (error) {
    result.replaceChildren();
    say(panel, "");
    showError(panel, error);
  } finally {
    result.removeAttribute("aria-busy");
  }
}

form.noValidate = true;
form.addEventListener("submit", (e) => { e.preventDefault(); run(); });
form.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) run();
});
const drawCode = codePanel(panel, "v1/classify", request);

export function setModels(models) {
  pickModels(panel, models, (meta) => meta.task === "classify", () =>
    "No classifier is served. infer-train classify makes one of labelled examples; then start inferd with --model classifier.gguf beside the others.");
  drawCode();
}
