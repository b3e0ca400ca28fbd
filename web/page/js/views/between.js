// Two pictures, and all that lies between them.

import { button, canvasOf, figure, h, latest } from "../dom.js";
import { picker } from "../picker.js";
import { call } from "../zoo.js";

const STEPS = 9;

export const between = {
  id: "between",
  title: "Between two",
  fits: ({ image }) => Boolean(image),

  show(panel, context) {
    const { shape, state, signal } = context;
    const ends = {}; // what each picture is encoded as
    const large = h("div", { class: "place" });
    const strip = h("div", { class: "strip" });
    const slider = h("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Between" });
    slider.value = Number(state.get("t") ?? 0.5);
    const mix = (weights, own) => call("mix", { from: ends.a, to: ends.b, weights }, { signal: own });

    const showOne = latest(async (own) => {
      const weight = Number(slider.value);
      const images = await mix([weight], own);
      large.replaceChildren(canvasOf(images, shape, 0, `at ${weight}`));
    }, signal);
    const move = (value) => {
      slider.value = value;
      state.set("t", String(value));
      showOne();
    };
    slider.addEventListener("input", () => move(slider.value));

    const end = (slot) => async (x, own) => {
      ends[slot] = await call("encode", { x }, { signal: own });
      if (!ends.a || !ends.b) return;
      const weights = Array.from({ length: STEPS }, (_, i) => i / (STEPS - 1));
      const images = await mix(weights, own);
      const steps = weights.map((weight, i) => {
        const name = `${Math.round(100 * weight)} %`;
        return button(canvasOf(images, shape, i, name), () => move(weight), { title: name });
      });
      strip.replaceChildren(...steps);
      await showOne();
    };
    const middle = figure(large, slider, { class: "middle" });
    const [a, b] = ["a", "b"].map((slot) => picker(context, slot, end(slot)));
    panel.append(h("div", { class: "between" }, a, middle, b), strip);
  },
};
