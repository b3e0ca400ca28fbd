// One model: what it is, and its views.

import { h, megabytes, report } from "./dom.js";
import { share } from "./share.js";
import { address } from "./state.js";
import { about } from "./views/about.js";
import { between } from "./views/between.js";
import { complete } from "./views/complete.js";
import { latents } from "./views/latents.js";
import { picture } from "./views/picture.js";
import { points } from "./views/points.js";
import { samples } from "./views/samples.js";
import { sentences } from "./words.js";
import { load } from "./zoo.js";

const VIEWS = [samples, points, picture, between, complete, latents, about];

export class ModelPage {
  #state = null; // what is shown
  #view = new AbortController(); // ends what the current view does
  #views;
  #links;
  #bar = h("progress", { max: 1, hidden: true, "aria-label": "Progress" });
  #panel = h("section", { class: "panel" });

  constructor(row, main) {
    this.row = row;
    this.#views = VIEWS.filter((view) => view.fits(row));
    this.#links = this.#views.map(({ id, title }) => {
      // The address of now, with all that was chosen until the click.
      const onclick = ({ currentTarget }) => (currentTarget.href = this.#state.link(id));
      return h("a", { href: address(row.name, id), onclick }, title);
    });
    const described = h(
      "div",
      { class: "described" },
      h("h1", {}, row.name),
      h("p", {}, sentences(row)),
      h("p", { class: "hint" }, row.headline),
    );
    const tabs = h("nav", { class: "tabs", "aria-label": "Views" }, this.#links);
    main.replaceChildren(described, tabs, this.#bar, this.#panel);
  }

  close() {
    this.#view.abort();
  }

  /** Show what the address says, when the model is there. */
  async open(state) {
    this.#state = state;
    this.#view.abort();
    this.#view = new AbortController();
    const { signal } = this.#view;
    const view = this.#views.find(({ id }) => id === state.view) ?? this.#views[0];
    state.view = view.id;
    this.#views.forEach((each, i) => {
      if (each === view) this.#links[i].setAttribute("aria-current", "page");
      else this.#links[i].removeAttribute("aria-current");
    });
    const onProgress = (share) => {
      this.#bar.value = share;
      this.#bar.hidden = share >= 1 || signal.aborted;
    };
    try {
      this.#panel.replaceChildren(h("p", { class: "status" }, `Fetching ${megabytes(this.row.bytes)} …`));
      const facts = await load(this.row, onProgress);
      if (signal.aborted) return;
      this.#bar.hidden = true;
      this.#panel.replaceChildren();
      const shape = facts.image && [facts.image.channels, facts.image.size, facts.image.size];
      view.show(this.#panel, { row: this.row, facts, shape, state, signal, onProgress });
      if (view !== about) this.#panel.append(share(this.#panel, state, `${this.row.name}-${view.id}`));
    } catch (error) {
      if (signal.aborted) return;
      this.#bar.hidden = true;
      this.#panel.replaceChildren(h("p", { class: "status" }, "The model could not be loaded."));
      report(error);
    }
  }
}
