// The page: the zoo, or one model of it, as the address says.

import { UserError } from "./errors.js";
import { h, quiet, report } from "./dom.js";
import { fetchJson } from "./fetching.js";
import { Gallery } from "./gallery.js";
import { ModelPage } from "./model_page.js";
import { address, State } from "./state.js";
import { inOrder } from "./words.js";

const main = document.getElementById("main");
const chooser = document.getElementById("chooser");
let page = null;

async function start() {
  const rows = inOrder(await fetchJson(new URL("models/index.json", document.baseURI)));
  chooser.append(...rows.map(({ name }) => h("option", { value: name }, name)));
  chooser.addEventListener("change", () => {
    location.hash = address(chooser.value, new State().view);
  });
  window.addEventListener("hashchange", async () => {
    await show(rows, new State());
    // What had the focus is gone: who came by keyboard goes on in the view.
    if (document.activeElement === document.body) main.focus({ preventScroll: true });
  });
  await show(rows, new State());
}

function show(rows, state) {
  quiet();
  const row = rows.find(({ name }) => name === state.model) ?? null;
  chooser.parentElement.hidden = !row;
  document.title = row ? `${row.name} · lvmzoo` : "lvmzoo";
  if (row) chooser.value = row.name;
  if (page?.row !== row) {
    if (page) window.scrollTo(0, 0);
    page?.close();
    page = row ? new ModelPage(row, main) : new Gallery(rows, main);
  }
  if (state.model && !row) report(new UserError(`There is no ${state.model} here.`));
  return page.open(state);
}

start().catch(report);
