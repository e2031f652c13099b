// generate.js - a prompt, its continuation as it is written, and the controls.
import { stream } from "./api.js";
import { codePanel } from "./code.js";
import { $, $$, isAbort, pickModels, say, showError } from "./ui.js";

const panel = document.getElementById("generate");
const form = $("form", panel);
const output = $(".output", panel);
const [runButton, stopButton] = [$(".primary", panel), $(".stop", panel)];
let running = null; // AbortController of the stream on screen

// What the form says. What is at its default stays out: short code to copy.
function request() {
  const f = form.elements;
  const off = { top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1 };
  const body = { model: f.model.value, prompt: f.prompt.value };
  for (const name of ["max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"])
    if (f[name].value !== "" && Number(f[name].value) !== off[name])
      body[name] = Number(f[name].value);
  if (f.stop.value) body.stop = f.stop.value.replaceAll("\\n", "\n");
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

function busy(on) {
  output.setAttribute("aria-busy", on);
  stopButton.disabled = !on;
  runButton.disabled = on;
}

// Keep the end in sight, unless the reader has scrolled away from it.
function append(text) {
  const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
  $(".text", output).append(text);
  if (atEnd) output.scrollTop = output.scrollHeight;
}

const reasons = { stop: "ended by itself", length: "reached the length", deadline: "ran out of time", cancelled: "cancelled" };

// Tokens are counted by the server; a text that was stopped has no usage.
function summary(state) {
  const seconds = (performance.now() - state.first) / 1000;
  const rate = state.usage && seconds > 0.01
    ? `, ${Math.round(state.usage.completion_tokens / seconds)} tokens/s` : "";
  return `${reasons[state.reason] ?? state.reason ?? "stopped"}: ` +
    (state.usage ? `${state.usage.completion_tokens} tokens` : `${state.deltas} pieces`) + rate +
    ` (first after ${Math.round(state.first - state.start)} ms)`;
}

async function run() {
  if (running) return;
  const body = request();
  const state = { start: performance.now(), first: performance.now(), deltas: 0 };
  running = new AbortController();
  showError(panel);
  $(".prompt", output).textContent = body.prompt;
  $(".text", output).textContent = "";
  busy(true);
  say(panel, "Writing…");
  if (document.activeElement === runButton) stopButton.focus();
  try {
    for await (const chunk of stream("v1/generate", body, running.signal)) {
      const choice = chunk.choices[0];
      if (choice?.text) {
        if (!state.deltas++) state.first = performance.now();
        append(choice.text);
      }
      state.reason = choice?.finish_reason ?? state.reason;
      state.usage = chunk.usage ?? state.usage;
    }
    say(panel, summary(state));
  } catch (error) {
    if (!isAbort(error)) showError(panel, error);
    say(panel, isAbort(error) ? summary(state) : "");
  } finally {
    running = null;
    const focused = document.activeElement === stopButton;
    busy(false);
    if (focused) runButton.focus();
  }
}

function showNumbers() {
  for (const out of $$("output[for]", form))
    out.textContent = document.getElementById(out.getAttribute("for")).value;
}

form.noValidate = true; // the server says what is wrong, as it would to a program
form.addEventListener("submit", (e) => { e.preventDefault(); run(); });
form.addEventListener("input", showNumbers);
stopButton.addEventListener("click", () => running?.abort());
panel.addEventListener("keydown", (e) => {
  if (e.key === "Escape") running?.abort();
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) run();
});
showNumbers();
const drawCode = codePanel(panel, "v1/generate", request);

export function setModels(models) {
  pickModels(panel, models, "generate", () =>
    "No model that writes text is served. Start inferd with one: inferd --model model.gguf");
  drawCode();
}
