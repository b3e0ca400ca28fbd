// One model: what it is, its loading, and its views as tabs.

import { h, megabytes, report } from "./dom.js";
import { fetchJson } from "./fetching.js";
import { pictures } from "./pictures.js";
import { address } from "./state.js";
import { about } from "./views/about.js";
import { between } from "./views/between.js";
import { complete } from "./views/complete.js";
import { latents } from "./views/latents.js";
import { picture } from "./views/picture.js";
import { points } from "./views/points.js";
import { samples } from "./views/samples.js";
import { sentences } from "./words.js";
import { call } from "./zoo.js";

const VIEWS = [samples, points, picture, between, complete, latents, about];
const MODELS = new URL("../models/", import.meta.url);

export class ModelPage {
  #closed = new AbortController();
  #view = null; // ends what the current view does

  constructor(row, main) {
    this.row = row;
    this.folder = new URL(`${row.folder}/`, MODELS);
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Views" });
    this.panel = h("div", { class: "panel", role: "tabpanel", id: "panel" });
    this.bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" });
    this.text = h("p", { class: "sentences" });
    this.figures = h("p", { class: "figures" }, row.headline ?? "");
    const title = h("h1", {}, row.name);
    main.replaceChildren(title, this.text, this.figures, this.tabs, this.bar, this.panel);
    this.ready = this.#load();
  }

  close() {
    this.#closed.abort();
    this.#view?.abort();
  }

  /** Show what the address says, when the model is there. */
  async open(state) {
    try {
      await this.ready;
    } catch (error) {
      return this.#closed.signal.aborted || report(error);
    }
    if (!this.#closed.signal.aborted) this.#show(state);
  }

  async #load() {
    const facts = await fetchJson(new URL("lvmzoo.json", this.folder));
    if (this.#closed.signal.aborted) return;
    this.facts = facts;
    this.text.textContent = sentences(facts);
    const total = Object.values(facts.files).reduce((sum, { bytes }) => sum + bytes, 0);
    const waiting = h("p", { class: "status" }, `Fetching ${megabytes(total)} …`);
    this.panel.replaceChildren(waiting);
    pictures.refit();
    try {
      const args = { folder: String(this.folder), facts };
      await this.#busy(call, "load", args, this.#closed.signal);
    } catch (error) {
      waiting.textContent = "It could not be loaded.";
      throw error;
    }
  }

  #show(state) {
    const fitting = VIEWS.filter((view) => view.fits(this.facts));
    const view = fitting.find(({ id }) => id === state.view) ?? fitting[0];
    state.view = view.id;
    this.#view?.abort();
    this.#view = new AbortController();
    this.tabs.replaceChildren(...fitting.map((each) => this.#tab(each, each === view, fitting)));
    const selected = this.tabs.querySelector("[aria-selected=true]");
    selected.scrollIntoView({ inline: "center", block: "nearest" });
    this.panel.replaceChildren();
    this.panel.setAttribute("aria-label", view.title);
    view.show(this.panel, {
      facts: this.facts,
      row: this.row,
      folder: this.folder,
      state,
      signal: this.#view.signal,
      open: (id) => (location.hash = address(this.row.name, id)),
      busy: (...work) => this.#busy(...work),
    });
  }

  #tab({ id, title }, selected, fitting) {
    const attributes = { role: "tab", "aria-selected": String(selected), "aria-controls": "panel" };
    const tab = h("a", { ...attributes, href: address(this.row.name, id), tabindex: selected ? 0 : -1 }, title);
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const at = fitting.findIndex((view) => view.id === id);
      const to = fitting[(at + step + fitting.length) % fitting.length];
      location.hash = address(this.row.name, to.id);
      setTimeout(() => this.tabs.querySelector("[aria-selected=true]").focus());
    });
    return tab;
  }

  /** Call the worker with a bar that shows how far it is. */
  async #busy(work, method, args, signal) {
    this.bar.value = 0;
    this.bar.hidden = false;
    try {
      return await work(method, args, { signal, onProgress: (share) => (this.bar.value = share) });
    } finally {
      if (!signal.aborted) this.bar.hidden = true;
    }
  }
}
