// New pictures: a grid, each of which can be taken to the other views.

import { controls } from "../controls.js";
import { button, canvasOf, h, latest } from "../dom.js";
import { textOf } from "../pictures.js";
import { call } from "../zoo.js";
import { guidedFields, seedField, temperatureField } from "./fields.js";

const COUNTS = [4, 16, 36, 64].map((n) => [n, String(n)]);

export const samples = {
  id: "samples",
  title: "Samples",
  fits: ({ image }) => Boolean(image),

  show(panel, { facts, shape, state, signal, onProgress }) {
    const tiles = h("div", { class: "tiles" });
    const status = h("p", { class: "status", "aria-live": "polite" });
    const draw = latest(async (own) => {
      const { count, ...options } = form.values();
      const start = performance.now();
      const drawn = await call("sample", { n: count, ...options }, { signal: own, onProgress });
      const took = performance.now() - start;
      tiles.replaceChildren(...Array.from({ length: count }, (_, i) => tile(drawn, i, options)));
      tiles.style.setProperty("--columns", Math.sqrt(count));
      status.textContent = `${count} pictures in ${duration(took)}. Choose one to look closer.`;
    }, signal);
    const tile = (drawn, i, { seed, label }) => {
      const name = `sample ${i + 1} of seed ${seed}`;
      const changes = { a: textOf(drawn, form.values().count, i), class: label ?? "any" };
      const onclick = () => (location.hash = state.link("picture", changes));
      return button(canvasOf(drawn.images, shape, i, name), onclick, { title: name });
    };
    const topP = {
      key: "topP",
      label: "Top-p",
      hint: "Only the likeliest codes that together have this probability",
      ...{ kind: "range", min: 0.05, max: 1, step: 0.05, value: 1 },
    };
    const fields = [
      ...guidedFields(facts, "label", 0),
      temperatureField(1.5),
      ...(facts.codes ? [topP] : []),
      seedField(),
      { key: "count", label: "Pictures", kind: "select", options: COUNTS, value: 16 },
    ];
    const form = controls(fields, state, draw);
    panel.append(h("div", { class: "beside" }, form.element, h("div", {}, tiles, status)));
    draw();
  },
};

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.ceil(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
