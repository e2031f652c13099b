// ui.js - small helpers that the sections share.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// An element: h("p", {class: "hint"}, "text", child…).
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// What went wrong, as the server words it; the alert is read out at once.
export function showError(panel, error) {
  const box = $(".error", panel);
  box.hidden = !error;
  box.textContent = !error ? "" : error instanceof TypeError
    ? "The server cannot be reached." : error.message;
}

export const say = (panel, text) => { $(".status", panel).textContent = text; };

export const isAbort = (error) => error.name === "AbortError";

// Tabs after the ARIA pattern: arrows move, one stop in the tab order. The
// address keeps the choice.
export function tabs(list, changed) {
  const all = $$("[role=tab]", list);
  const select = (tab) => {
    for (const t of all) {
      t.setAttribute("aria-selected", t === tab);
      t.tabIndex = t === tab ? 0 : -1;
      document.getElementById(t.getAttribute("aria-controls")).hidden = t !== tab;
    }
    changed(tab.getAttribute("aria-controls"));
  };
  const pick = (tab) => {
    history.replaceState(null, "", "#" + tab.getAttribute("aria-controls"));
    select(tab);
  };
  const named = () => all.find((t) => "#" + t.getAttribute("aria-controls") === location.hash);
  list.addEventListener("click", (e) => e.target.closest("[role=tab]") && pick(e.target.closest("[role=tab]")));
  list.addEventListener("keydown", (e) => {
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[e.key];
    if (at < 0 || to === undefined) return;
    e.preventDefault();
    const tab = all[(to + all.length) % all.length];
    pick(tab);
    tab.focus();
  });
  addEventListener("hashchange", () => named() && select(named()));
  select(named() ?? all[0]);
}

// Fill a picker with the models that fit; without any, say why instead.
export function pickModels(panel, models, fits, advice) {
  const mine = models.filter((m) => m.meta && fits(m.meta));
  const waiting = models.filter((m) => !m.meta);
  const picker = $("select[name=model]", panel);
  const old = picker.value;
  picker.replaceChildren(...mine.map((m) => h("option", { value: m.id }, m.id)));
  if (mine.some((m) => m.id === old)) picker.value = old;
  const note = $(".note", panel);
  note.hidden = mine.length > 0;
  $("form", panel).hidden = $(".code", panel).hidden = !mine.length;
  if (!mine.length)
    note.replaceChildren(waiting.length
      ? `Still loading: ${waiting.map((m) => m.id).join(", ")}.` : advice());
}
