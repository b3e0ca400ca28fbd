// Two pictures, and all that lies between them.

import { canvasOf, figure, h, latest } from "../dom.js";
import { picker } from "../picker.js";
import { pictures } from "../pictures.js";
import { call } from "../zoo.js";

const STEPS = 9;

export const between = {
  id: "between",
  title: "Between two",
  fits: ({ image }) => Boolean(image),

  show(panel, context) {
    const { facts, state, signal } = context;
    const shape = [facts.image.channels, facts.image.size, facts.image.size];
    let ends = null;
    const large = h("div", { class: "place" });
    const strip = h("div", { class: "strip" });
    const slider = h("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Between" });
    const position = Number(state.get("t") ?? 0.5);
    slider.value = position >= 0 && position <= 1 ? position : 0.5;

    const showOne = latest(async (own) => {
      if (!ends) return;
      const weights = [Number(slider.value)];
      const images = await call("mix", { ...ends, weights }, { signal: own });
      large.replaceChildren(canvasOf(images, shape, 0, `at ${weights[0]}`));
    }, signal);
    const move = (value) => {
      slider.value = value;
      state.set("t", Number(value) === 0.5 ? null : value);
      showOne();
    };
    slider.addEventListener("input", () => move(slider.value));

    const showAll = latest(async (own) => {
      const encoded = [];
      for (const slot of ["a", "b"]) {
        const x = await pictures.get(slot, facts, own);
        encoded.push(await call("encode", { x }, { signal: own }));
      }
      ends = { from: encoded[0], to: encoded[1] };
      const weights = Array.from({ length: STEPS }, (_, i) => i / (STEPS - 1));
      const images = await call("mix", { ...ends, weights }, { signal: own });
      strip.replaceChildren(
        ...weights.map((weight, i) => {
          const label = `${Math.round(100 * weight)} %`;
          const onclick = () => move(weight);
          return h("button", { type: "button", onclick, title: label }, canvasOf(images, shape, i, label));
        }),
      );
      await showOne();
    }, signal);

    const [a, b] = ["a", "b"].map((slot) => {
      return picker(context, slot, slot === "a" ? "from" : "to", showAll);
    });
    panel.append(
      h("div", { class: "between" }, a.element, figure(large, slider, { class: "middle" }), b.element),
      strip,
    );
    a.show().then(b.show).then(showAll);
  },
};
