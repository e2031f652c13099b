// chat.js - a conversation. The page keeps it, and sends all of it each time:
// the server remembers nothing between two requests.
import { codePanel } from "./code.js";
import { $, h, isAbort, pickModels, say, showError } from "./ui.js";
import { begun, follow, numbers, showNumbers, summary } from "./writing.js";

const panel = document.getElementById("chat");
const form = $("form", panel);
const log = $(".log", panel);
const [sendButton, stopButton, clearButton] = [".primary", ".stop", ".clear"].map((c) => $(c, panel));
const names = { user: "You", assistant: "Model" };
let messages = []; // of the user and the model, in turn
let running = null; // AbortController of the answer that is being written

function request(next = form.elements.message.value.trim()) {
  const f = form.elements;
  const system = f.system.value.trim();
  return { model: f.model.value,
    messages: [...system ? [{ role: "system", content: system }] : [], ...messages,
      ...next ? [{ role: "user", content: next }] : []],
    ...numbers(form, ["max_completion_tokens", "temperature", "top_p", "seed"]),
    stream: true, stream_options: { include_usage: true } };
}

// One turn on the page; the function returned adds to its text.
function turn(role, content) {
  const text = h("p", { class: "turn-text" }, content);
  const item = h("li", { class: `turn ${role}` }, h("p", { class: "who" }, names[role]), text);
  log.append(item);
  item.scrollIntoView({ block: "nearest" });
  return { item, add: (more) => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    text.append(more);
    if (atEnd) log.scrollTop = log.scrollHeight;
  } };
}

function busy(on) {
  log.setAttribute("aria-busy", on);
  stopButton.disabled = !on;
  sendButton.disabled = on;
  clearButton.disabled = on || !messages.length;
  $(".empty", panel).hidden = log.childElementCount > 0;
}

// Nothing came of it: the message goes back to where it was typed.
function takeBack(asked, answer, text) {
  asked.item.remove();
  answer.item.remove();
  form.elements.message.value ||= text;
}

async function send() {
  const text = form.elements.message.value.trim();
  if (running || !text) return;
  const body = request(text);
  const state = begun();
  let written = "";
  running = new AbortController();
  showError(panel);
  form.elements.message.value = "";
  const [asked, answer] = [turn("user", text), turn("assistant", "")];
  busy(true);
  say(panel, "Writing…");
  try {
    await follow(state, "v1/chat/completions", body, running.signal, (more) => {
      written += more;
      answer.add(more);
    });
    say(panel, summary(state));
  } catch (error) {
    if (!isAbort(error)) showError(panel, error);
    say(panel, isAbort(error) ? summary(state) : "");
  }
  running = null;
  if (written || state.reason)
    messages.push({ role: "user", content: text }, { role: "assistant", content: written });
  else
    takeBack(asked, answer, text);
  busy(false);
  drawCode();
  form.elements.message.focus();
}

function clear() {
  messages = [];
  log.replaceChildren();
  showError(panel);
  say(panel, "Cleared.");
  busy(false);
  drawCode();
  form.elements.message.focus();
}

form.noValidate = true; // the server says what is wrong, as it would to a program
form.addEventListener("submit", (e) => { e.preventDefault(); send(); });
stopButton.addEventListener("click", () => running?.abort());
clearButton.addEventListener("click", clear);
panel.addEventListener("keydown", (e) => e.key === "Escape" && running?.abort());
// Not the Enter that ends a word in an input method.
form.elements.message.addEventListener("keydown", (e) => {
  if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
  e.preventDefault();
  send();
});
showNumbers(form);
const drawCode = codePanel(panel, "v1/chat/completions", () => request());

export function setModels(models) {
  const writes = models.some((m) => m.meta?.task === "generate");
  pickModels(panel, models, (meta) => meta.chat, () => writes
    ? "No model here has a chat template that inferd knows, so none was trained to answer messages: Generate continues a text instead. The server's option chat_template names a family; plain suits any model."
    : "No model that writes text is served. Start inferd with one: inferd --model model.gguf");
  busy(running !== null);
  drawCode();
}
