// A picture of which a part is forgotten, and eight endings that the prior finds.

import { controls } from "../controls.js";
import { canvasOf, figure, h, latest } from "../dom.js";
import { picker } from "../picker.js";
import { pictures } from "../pictures.js";
import { call } from "../zoo.js";
import { classFields, seedField } from "./fields.js";
import { Mask } from "./mask.js";

const ENDINGS = 8;

export const complete = {
  id: "complete",
  title: "Complete",
  fits: ({ codes }) => Boolean(codes),

  show(panel, context) {
    const { facts, state, signal, busy } = context;
    const shape = [facts.image.channels, facts.image.size, facts.image.size];
    let codes = null;
    const endings = h("div", { class: "tiles", style: "--columns: 4", "aria-label": "Endings" });
    const status = h("p", { class: "status", "aria-live": "polite" });
    const finish = latest(async (own) => {
      if (!codes) return;
      const known = mask.unknown.map((cell) => !cell);
      const args = { codes, known, n: ENDINGS, ...form.values() };
      const { images } = await busy(call, "complete", args, own);
      endings.replaceChildren(
        ...Array.from({ length: ENDINGS }, (_, i) => canvasOf(images, shape, i, `ending ${i + 1}`)),
      );
      const drawn = mask.unknown.filter(Boolean).length;
      status.textContent = `${drawn} of ${known.length} codes drawn anew.`;
    }, signal);
    const mask = new Mask(facts.codes.grid, state, finish);
    const begin = latest(async (own) => {
      const x = await pictures.get("a", facts, own);
      codes = (await call("encode", { x }, { signal: own })).codes;
      const back = await call("decode", { z: codes }, { signal: own });
      mask.picture.replaceChildren(canvasOf(back, shape, 0, "reconstruction"));
      await finish();
    }, signal);
    const chosen = picker(context, "a", "the picture", begin);
    const form = controls([...classFields(facts), seedField()], state, finish);
    const hint =
      "Paint what is to be forgotten. Codes are drawn in reading order, so that what you keep has " +
      "no influence on what lies before it.";
    panel.append(
      h(
        "div",
        { class: "beside" },
        h("div", {}, chosen.element, form.element),
        h(
          "div",
          { class: "completing" },
          h("div", {}, figure(mask.element, mask.presets), h("p", { class: "hint" }, hint)),
          h("div", {}, endings, status),
        ),
      ),
    );
    chosen.show().then(begin);
  },
};
