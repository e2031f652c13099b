// server.js - what the server is doing, from /metrics, once a second.
import { metrics } from "./api.js";
import { $, h, showError } from "./ui.js";

const panel = document.getElementById("server");
const HISTORY = 60; // seconds
let timer = null;
let before = null; // {at, sums} of the last poll, for rates

const bytes = (n) => n < 1e9 ? `${Math.round(n / 1e6)} MB` : `${(n / 1e9).toFixed(2)} GB`;
const count = (n) => n.toLocaleString("en", { maximumFractionDigits: n < 10 ? 1 : 0 });

const cards = [
  { title: "Running", hint: "sequences computed now", value: (m) => m.inferd_requests_running, show: count },
  { title: "Queue", hint: "sequences that wait", value: (m) => m.inferd_queue_requests, show: count },
  { title: "Generated", hint: "tokens a second", value: (m) => m.rate("inferd_generated_tokens_total"), show: count },
  { title: "Prompts", hint: "tokens a second", value: (m) => m.rate("inferd_prompt_tokens_total"), show: count },
  { title: "KV cache", hint: "blocks in use", most: 1, show: (x) => `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`,
    value: (m) => m.inferd_kv_blocks ? m.inferd_kv_blocks_used / m.inferd_kv_blocks : 0 },
  { title: "Requests", hint: "a second", value: (m) => m.rate("inferd_requests_total"), show: count },
  { title: "Connections", hint: "open", value: (m) => m.inferd_connections, show: count },
  { title: "Memory", hint: "resident", value: (m) => m.inferd_resident_memory_bytes, show: bytes },
].map((card) => ({ ...card, past: [] }));

const SVG = "http://www.w3.org/2000/svg";
function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "polyline");
  svg.setAttribute("viewBox", "0 0 120 32");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return { svg, line };
}

$(".tiles", panel).append(...cards.map((card) => {
  const { svg, line } = sparkline();
  card.line = line;
  card.number = h("span", { class: "number" }, "–");
  return h("div", { class: "card tile" }, h("dt", {}, card.title),
    h("dd", {}, card.number, h("span", { class: "hint" }, " " + card.hint)), svg);
}));

// Sums over models, and what grew per second since the last poll.
function read(samples) {
  const m = {};
  for (const s of samples) m[s.name] = (m[s.name] ?? 0) + s.value;
  const now = performance.now();
  const last = before;
  before = { at: now, sums: m };
  m.rate = (name) => last
    ? Math.max(0, ((m[name] ?? 0) - (last.sums[name] ?? 0)) / ((now - last.at) / 1000)) : 0;
  return m;
}

function update(m) {
  for (const card of cards) {
    const value = card.value(m) ?? 0;
    card.past = [...card.past, value].slice(-HISTORY);
    card.number.textContent = card.show(value);
    const most = card.most ?? Math.max(...card.past, 1e-9);
    card.line.setAttribute("points", card.past.map((v, i) =>
      `${120 - 2 * (card.past.length - 1 - i)},${(30 - 28 * v / most).toFixed(1)}`).join(" "));
  }
}

async function poll() {
  try {
    if (!document.hidden) update(read(await metrics()));
    showError(panel);
  } catch (error) {
    showError(panel, error);
  }
  if (timer !== null) timer = setTimeout(poll, 1000);
}

export function show() {
  timer = 0;
  poll();
}

export function hide() {
  clearTimeout(timer);
  timer = null;
}

export function setModels(models) {
  const row = ({ id, meta }) => h("tr", {}, h("th", { scope: "row" }, id),
    ...(meta ? [meta.task, meta.architecture, meta.quantization, count(meta.parameters), count(meta.context)]
      : ["loading", "", "", "", ""]).map((text) => h("td", {}, text)));
  $("tbody", panel).replaceChildren(...models.map(row));
}
