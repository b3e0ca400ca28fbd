// The latents of a VAE as sliders.

import { canvasOf, h, latest } from "../dom.js";
import { pictures } from "../pictures.js";
import { anySeed } from "../random.js";
import { call } from "../zoo.js";

const MOST = 4;

export const latents = {
  id: "latents",
  title: "Latents",
  fits: ({ image, latent_dim: dim }) => Boolean(image && dim),

  show(panel, { facts, state, signal }) {
    const { channels, size } = facts.image;
    const place = h("div", { class: "place" });
    const draw = latest(async (own) => {
      const z = Float32Array.from(sliders, (slider) => Number(slider.value));
      const images = await call("decode", { z }, { signal: own });
      place.replaceChildren(canvasOf(images, [channels, size, size], 0, "what these latents make"));
    }, signal);
    const write = () => {
      const values = sliders.map((slider) => Number(slider.value));
      state.set("z", values.some(Boolean) ? values.join(",") : null);
      draw();
    };
    const set = (z) => {
      sliders.forEach((slider, i) => (slider.value = z[i]));
      write();
    };
    const start = (state.get("z") ?? "").split(",").map(Number);
    const sliders = Array.from({ length: facts.latent_dim }, (_, i) => {
      const label = `latent ${i + 1}`;
      const range = { min: -MOST, max: MOST, step: 0.05, value: 0 };
      const slider = h("input", { type: "range", ...range, "aria-label": label, oninput: write });
      slider.value = Number.isFinite(start[i]) ? start[i] : 0;
      return slider;
    });
    const fromPicture = latest(async (own) => {
      const x = await pictures.get("a", facts, own);
      set((await call("encode", { x }, { signal: own })).mean);
    }, signal);
    const random = latest(async (own) => {
      set(await call("prior", { n: 1, seed: anySeed() }, { signal: own }));
    }, signal);
    const button = (text, onclick) => h("button", { type: "button", onclick }, text);
    panel.append(
      h(
        "div",
        { class: "beside large" },
        h(
          "figure",
          {},
          place,
          h(
            "div",
            { class: "actions" },
            button("Draw from the prior", () => random()),
            button("Your picture", () => fromPicture()),
            button("Zero", () => set(sliders.map(() => 0))),
          ),
        ),
        h(
          "div",
          { class: "latents" },
          sliders.map((slider, i) => h("label", {}, h("span", {}, `z${i + 1}`), slider)),
        ),
      ),
    );
    draw();
  },
};
