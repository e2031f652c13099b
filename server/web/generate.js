// generate.js - a prompt, its continuation as it is written, and the controls.
import { codePanel } from "./code.js";
import { $, isAbort, pickModels, say, showError } from "./ui.js";
import { begun, follow, numbers, showNumbers, summary } from "./writing.js";

const panel = document.getElementById("generate");
const form = $("form", panel);
const output = $(".output", panel);
const [runButton, stopButton] = [$(".primary", panel), $(".stop", panel)];
let running = null; // AbortController of the stream on screen

function request() {
  const f = form.elements;
  const body = { model: f.model.value, prompt: f.prompt.value,
    ...numbers(form, ["max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"]) };
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

async function run() {
  if (running) return;
  const body = request();
  const state = begun();
  running = new AbortController();
  showError(panel);
  $(".prompt", output).textContent = body.prompt;
  $(".text", output).textContent = "";
  busy(true);
  say(panel, "Writing…");
  if (document.activeElement === runButton) stopButton.focus();
  try {
    await follow(state, "v1/generate", body, running.signal, append);
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

form.noValidate = true; // the server says what is wrong, as it would to a program
form.addEventListener("submit", (e) => { e.preventDefault(); run(); });
stopButton.addEventListener("click", () => running?.abort());
panel.addEventListener("keydown", (e) => {
  if (e.key === "Escape") running?.abort();
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) run();
});
showNumbers(form);
const drawCode = codePanel(panel, "v1/generate", request);

export function setModels(models) {
  pickModels(panel, models, (meta) => meta.task === "generate", () =>
    "No model that writes text is served. Start inferd with one: inferd --model model.gguf");
  drawCode();
}
