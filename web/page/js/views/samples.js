// New pictures: a grid, each of which can be taken to the other views.

import { controls } from "../controls.js";
import { canvasOf, h, imageAt, latest } from "../dom.js";
import { pictures } from "../pictures.js";
import { call } from "../zoo.js";
import { drawFields } from "./fields.js";

export const samples = {
  id: "samples",
  title: "Samples",
  fits: ({ image }) => Boolean(image),

  show(panel, context) {
    const { facts, state, signal, open, busy } = context;
    const shape = [facts.image.channels, facts.image.size, facts.image.size];
    const grid = h("div", { class: "tiles", "aria-label": "Samples" });
    const status = h("p", { class: "status", "aria-live": "polite" });
    const draw = latest(async (own) => {
      const { count, ...options } = form.values();
      const start = performance.now();
      const { images } = await busy(call, "sample", { n: count, ...options }, own);
      const took = performance.now() - start;
      grid.replaceChildren(
        ...Array.from({ length: count }, (_, i) => tile(images, i, options.seed)),
      );
      grid.style.setProperty("--columns", Math.round(Math.sqrt(count)));
      status.textContent = `${count} pictures in ${duration(took)}. Choose one to look closer.`;
    }, signal);

    const tile = (images, i, seed) => {
      const label = `sample ${i + 1} of seed ${seed}`;
      const onclick = () => {
        pictures.keep("a", imageAt(images, shape, i), label);
        open("picture");
      };
      return h("button", { type: "button", onclick, title: label }, canvasOf(images, shape, i, label));
    };

    const counts = [4, 16, 36, 64].map((n) => [n, String(n)]);
    const form = controls(
      [
        ...drawFields(facts),
        { key: "count", label: "Pictures", kind: "select", options: counts, value: 16 },
      ],
      state,
      draw,
    );
    panel.append(h("div", { class: "beside" }, form.element, h("div", {}, grid, status)));
    draw();
  },
};

function duration(milliseconds) {
  return milliseconds < 1000
    ? `${Math.max(1, Math.round(milliseconds))} ms`
    : `${(milliseconds / 1000).toFixed(1)} s`;
}
