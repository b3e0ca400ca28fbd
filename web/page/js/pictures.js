// The pictures that the views work on: one's own, or samples of the model until there are some.

import { imageAt } from "./dom.js";
import { call } from "./zoo.js";

/** Slots a and b. One's own pictures stay when another model is chosen; samples do not. */
class Pictures {
  slots = { a: {}, b: {} };

  /** Take a file, or a Blob of any kind. */
  async take(slot, blob, name) {
    const image = await call("picture", { blob, name });
    this.slots[slot] = { blob, name, image };
  }

  /** Take an image that the model made. */
  keep(slot, image, name) {
    this.slots[slot] = { image, name };
  }

  /** Draw a new sample into a slot. */
  async draw(slot, facts, seed, signal = null) {
    const { images } = await call("sample", { n: 1, seed, temperature: 0.8 }, { signal });
    const { channels, size } = facts.image;
    this.keep(slot, imageAt(images, [channels, size, size], 0), `sample ${seed}`);
  }

  /** The image in a slot as the current model takes it. */
  async get(slot, facts, signal = null) {
    const held = this.slots[slot];
    if (!held.image && held.blob) held.image = await call("picture", held);
    if (!held.image) await this.draw(slot, facts, slot === "a" ? 1 : 2, signal);
    return this.slots[slot].image;
  }

  /** Another model was chosen: files are fitted to it when they are next needed. */
  refit() {
    for (const [slot, { blob, name }] of Object.entries(this.slots)) {
      this.slots[slot] = blob ? { blob, name } : {};
    }
  }
}

export const pictures = new Pictures();
