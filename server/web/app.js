// app.js - the playground: tabs, the key, and which models there are.
import * as api from "./api.js";
import * as chat from "./chat.js";
import * as classify from "./classify.js";
import * as generate from "./generate.js";
import * as server from "./server.js";
import * as similarity from "./similarity.js";
import { $, tabs } from "./ui.js";

const state = document.getElementById("state");
const sections = { generate, chat, classify, similarity, server };
let visible = "generate";

function show(models) {
  for (const s of Object.values(sections)) s.setModels?.(models);
}

// Ask until every model is loaded; after an error, slowly.
async function refresh() {
  try {
    const models = await api.models();
    const loading = models.filter((m) => !m.meta).length;
    show(models);
    state.textContent = loading ? `loading ${loading} of ${models.length} models…`
      : models.length === 1 ? "1 model" : `${models.length} models`;
    state.classList.remove("bad");
    if (loading) setTimeout(refresh, 500);
  } catch (error) {
    state.textContent = error instanceof TypeError ? "the server cannot be reached" : error.message;
    state.classList.add("bad");
    if (error.status === 401) $(".key").open = true;
    else setTimeout(refresh, 3000);
  }
}

const input = document.getElementById("api-key");
input.value = api.key.get();
input.form.addEventListener("submit", (e) => { e.preventDefault(); $(".key").open = false; });
input.addEventListener("change", () => { api.key.set(input.value.trim()); refresh(); });

tabs($("[role=tablist]"), (name) => {
  sections[visible].hide?.();
  visible = name;
  sections[visible].show?.();
});
refresh();
