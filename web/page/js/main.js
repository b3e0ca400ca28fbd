// The page: the zoo, or one model of it, as the address says.

import { h, quiet, report } from "./dom.js";
import { fetchJson } from "./fetching.js";
import { showZoo } from "./gallery.js";
import { ModelPage } from "./model_page.js";
import { address, State } from "./state.js";

const main = document.getElementById("main");
const chooser = document.getElementById("chooser");
const INDEX = new URL("../models/index.json", import.meta.url);
let page = null;

async function start() {
  const rows = await fetchJson(INDEX);
  chooser.append(...rows.map(({ name }) => h("option", { value: name }, name)));
  chooser.addEventListener("change", () => {
    location.hash = address(chooser.value, new State().view);
  });
  const route = () => show(rows, new State());
  window.addEventListener("hashchange", route);
  route();
}

function show(rows, state) {
  quiet();
  const row = rows.find(({ name }) => name === state.model);
  chooser.parentElement.hidden = !row;
  if (row) {
    chooser.value = row.name;
    if (page?.row !== row) {
      page?.close();
      page = new ModelPage(row, main);
    }
    document.title = `${row.name} · lvmzoo`;
    page.open(state);
    return;
  }
  page?.close();
  page = null;
  document.title = "lvmzoo";
  showZoo(rows, main);
  if (state.model) report(Object.assign(new Error(`There is no ${state.model} here.`), { sentence: true }));
}

start().catch(report);
