// The latents of a VAE as sliders.

import { button, canvasOf, h, latest } from "../dom.js";
import { pictureIn } from "../pictures.js";
import { anySeed } from "../random.js";
import { call } from "../zoo.js";

const MOST = 4;

export const latents = {
  id: "latents",
  title: "Latents",
  fits: ({ image, latent_dim: dim }) => Boolean(image && dim),

  show(panel, context) {
    const { facts, shape, state, signal } = context;
    const place = h("div", { class: "place" });
    const draw = latest(async (own) => {
      const z = Float32Array.from(sliders, (slider) => Number(slider.value));
      const images = await call("decode", { z }, { signal: own });
      place.replaceChildren(canvasOf(images, shape, 0, "what these latents make"));
    }, signal);
    const write = () => {
      state.set("z", sliders.map((slider) => Number(slider.value)).join(","));
      draw();
    };
    const sliders = Array.from({ length: facts.latent_dim }, (_, i) => {
      const range = { min: -MOST, max: MOST, step: 0.05, value: 0 };
      return h("input", { type: "range", ...range, "aria-label": `latent ${i + 1}`, oninput: write });
    });
    const move = (z) => sliders.forEach((slider, i) => (slider.value = z[i] ?? 0));
    const set = latest(async (own, latentsOf) => {
      move(await latentsOf(own));
      write();
    }, signal);
    const drawn = (seed) => (own) => call("prior", { n: 1, seed }, { signal: own });
    const encoded = async (own) => {
      const { image } = await pictureIn("a", context, own);
      return (await call("encode", { x: image }, { signal: own })).mean;
    };
    const buttons = [
      button("Draw from the prior", () => set(drawn(anySeed()))),
      button("From your picture", () => set(encoded)),
      button("Zero", () => set(() => [])),
    ];
    const rows = sliders.map((slider, i) => h("label", {}, h("span", {}, `z${i + 1}`), slider));
    panel.append(
      h(
        "div",
        { class: "beside large" },
        h("figure", {}, place, h("div", { class: "actions" }, buttons)),
        h("div", { class: "latents" }, rows),
      ),
    );
    const given = state.get("z");
    if (given === null) set(drawn(0));
    else {
      move(given.split(",").map(Number));
      draw();
    }
  },
};
