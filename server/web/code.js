// code.js - the request of a form, as a curl command and as JavaScript.
import { base, key } from "./api.js";
import { $, h } from "./ui.js";

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// The key itself is never shown.
function curl(path, body) {
  const auth = key.get() ? ` \\\n  -H "Authorization: Bearer $INFERD_KEY"` : "";
  return `curl ${body.stream ? "-N " : ""}${new URL(path, base)} \\\n` +
    `  -H 'Content-Type: application/json'${auth} \\\n` +
    `  -d ${quote(JSON.stringify(body))}`;
}

const read = `
const reply = await response.json();
if (!response.ok) throw new Error(reply.error.message);
console.log(reply);`;

const readStream = (text) => `
if (!response.ok) throw new Error((await response.json()).error.message);

let rest = "";
const text = response.body.pipeThrough(new TextDecoderStream());
for (const reader = text.getReader(); ;) {
  const { value, done } = await reader.read();
  if (done) break;
  const lines = (rest + value).split("\\n");
  rest = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const chunk = JSON.parse(line.slice(6));
    if (chunk.error) throw new Error(chunk.error.message);
    console.log(chunk.choices[0]?.${text} ?? chunk.usage);
  }
}`;

function script(path, body) {
  const auth = key.get() ? `\n    Authorization: \`Bearer \${INFERD_KEY}\`,` : "";
  const json = JSON.stringify(body, null, 2).replaceAll("\n", "\n  ");
  return `const response = await fetch("${new URL(path, base)}", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${auth}
  },
  body: JSON.stringify(${json}),
});
${(body.stream ? readStream(body.messages ? "delta.content" : "text") : read).slice(1)}`;
}

// Fill <details class="code"> of a panel; the function returned redraws it.
export function codePanel(panel, path, body) {
  const box = $(".code", panel);
  const languages = { curl, JavaScript: script };
  let language = "curl";
  const text = h("code");
  const copy = h("button", { type: "button" }, "Copy");
  const said = h("span", { class: "hint", role: "status" });
  const buttons = Object.keys(languages).map((name) => {
    const button = h("button", { type: "button" }, name);
    button.addEventListener("click", () => { language = name; draw(); });
    return button;
  });

  function draw() {
    text.textContent = languages[language](path, body());
    for (const b of buttons) b.setAttribute("aria-pressed", b.textContent === language);
    said.textContent = "";
  }
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      said.textContent = "Copied.";
    } catch { // not allowed, or not a secure context: mark it, for Ctrl + C
      getSelection().selectAllChildren(text);
      said.textContent = "Marked: copy it with Ctrl + C.";
    }
  });
  box.append(h("div", { class: "row", role: "group", "aria-label": "Language" }, ...buttons, copy, said),
    h("pre", { tabindex: "0", "aria-label": "The request as code" }, text));
  box.addEventListener("toggle", draw);
  $("form", panel).addEventListener("input", draw);
  return draw;
}
