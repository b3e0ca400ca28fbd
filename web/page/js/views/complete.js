// A picture of which a part is forgotten, and eight endings that the prior finds.

import { controls } from "../controls.js";
import { canvasOf, figure, h, latest } from "../dom.js";
import { picker } from "../picker.js";
import { call } from "../zoo.js";
import { guidedFields, seedField } from "./fields.js";
import { Mask } from "./mask.js";

const ENDINGS = 8;
const PARTICLES = 16; // for each, where what is kept lies behind what is hidden

export const complete = {
  id: "complete",
  title: "Complete",
  fits: ({ codes }) => Boolean(codes),

  show(panel, context) {
    const { facts, shape, state, signal, onProgress } = context;
    let codes = null;
    const tiles = h("div", { class: "tiles", style: "--columns: 4" });
    const status = h("p", { class: "status", "aria-live": "polite" });
    const finish = latest(async (own) => {
      if (!codes) return;
      const known = mask.hidden.map((cell) => !cell);
      const { class: label, ...options } = form.values();
      const args = { codes, known, n: ENDINGS, particles: PARTICLES, label, ...options };
      const { images } = await call("complete", args, { signal: own, onProgress });
      const canvases = Array.from({ length: ENDINGS }, (_, i) => canvasOf(images, shape, i, `ending ${i + 1}`));
      tiles.replaceChildren(...canvases);
      status.textContent = `${mask.hidden.filter(Boolean).length} of ${known.length} codes drawn anew.`;
    }, signal);
    const mask = new Mask(facts.codes.grid, state, finish);
    const form = controls([...guidedFields(facts, "class", null), seedField()], state, finish);
    const chosen = picker(context, "a", async (x, own) => {
      codes = (await call("encode", { x }, { signal: own })).codes;
      const back = await call("decode", { z: codes }, { signal: own });
      mask.picture.replaceChildren(canvasOf(back, shape, 0, "reconstruction"));
      await finish();
    });
    const hint =
      "Paint over what the model should forget. It draws these codes anew, each ending " +
      `${PARTICLES} times, and keeps what fits all that you left.`;
    panel.append(
      h(
        "div",
        { class: "beside" },
        h("div", {}, chosen, form.element),
        h(
          "div",
          { class: "completing" },
          figure(mask.element, mask.presets),
          h("div", {}, tiles, status, h("p", { class: "hint" }, hint)),
        ),
      ),
    );
  },
};
