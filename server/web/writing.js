// writing.js - what Generate and Chat share: the sampling fields, the stream,
// and the line below it that says how it went.
import { stream } from "./api.js";
import { $$ } from "./ui.js";

const off = { top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1 };

// The numbers of a form. What is off stays out: short code to copy.
export function numbers(form, names) {
  const body = {};
  for (const name of names) {
    const { value } = form.elements[name];
    if (value !== "" && Number(value) !== off[name]) body[name] = Number(value);
  }
  return body;
}

// Beside each slider its number, now and as it moves.
export function showNumbers(form) {
  const show = () => {
    for (const out of $$("output[for]", form))
      out.textContent = document.getElementById(out.getAttribute("for")).value;
  };
  form.addEventListener("input", show);
  show();
}

export const begun = () => ({ start: performance.now(), first: performance.now(), deltas: 0 });

// Pass on the text as it comes; what else the chunks tell goes into state.
export async function follow(state, path, body, signal, show) {
  for await (const chunk of stream(path, body, signal)) {
    const choice = chunk.choices[0];
    const text = choice?.text ?? choice?.delta?.content;
    if (text) {
      if (!state.deltas++) state.first = performance.now();
      show(text);
    }
    state.reason = choice?.finish_reason ?? state.reason;
    state.usage = chunk.usage ?? state.usage;
  }
}

const reasons = { stop: "ended by itself", length: "reached the length", deadline: "ran out of time", cancelled: "cancelled" };

// Tokens are counted by the server; a text that was stopped has no usage.
export function summary(state) {
  const seconds = (performance.now() - state.first) / 1000;
  const rate = state.usage && seconds > 0.01
    ? `, ${Math.round(state.usage.completion_tokens / seconds)} tokens/s` : "";
  return `${reasons[state.reason] ?? state.reason ?? "stopped"}: ` +
    (state.usage ? `${state.usage.completion_tokens} tokens` : `${state.deltas} pieces`) + rate +
    ` (first after ${Math.round(state.first - state.start)} ms)`;
}
