// The zoo: a model that draws on the spot, and every model with samples of it.

import { button, canvasOf, h, latest, megabytes } from "./dom.js";
import { anySeed } from "./random.js";
import { address } from "./state.js";
import { takesClass, titleOf } from "./words.js";
import { call, folderOf, load } from "./zoo.js";

const DRAWN = 8;
const PYTHON = `import lvmzoo

model = lvmzoo.from_pretrained("vqvae_gated_cifar10")
images = model.sample(8, labels="horse", guidance=2)`;

export class Gallery {
  row = null; // of no model
  #closed = new AbortController();

  constructor(rows, main) {
    const shown = rows.find((row) => takesClass(row) && !row.own);
    main.replaceChildren(
      h(
        "section",
        { class: "intro" },
        h(
          "div",
          {},
          h("h1", {}, "A zoo of latent variable models"),
          h(
            "p",
            {},
            "These models have learned from thousands of pictures. They draw new ones; they take yours apart " +
              "and put them together again. All of it happens in your browser: your pictures never leave it.",
          ),
          h("pre", {}, PYTHON),
        ),
        shown && demonstration(shown, this.#closed.signal),
      ),
      h("h2", {}, "All models"),
      h("div", { class: "cards" }, rows.map(card)),
    );
  }

  open() {}

  close() {
    this.#closed.abort();
  }
}

/** One model that draws pictures of a class, on a click. */
function demonstration(row, signal) {
  const tiles = h("div", { class: "tiles", style: "--columns: 4" });
  const bar = h("progress", { max: 1, hidden: true, "aria-label": "Progress" });
  const size = megabytes(row.bytes);
  const status = h("p", { class: "status", "aria-live": "polite" });
  status.textContent = `Choose one, and your browser draws it. The model is fetched once (${size}).`;
  const onProgress = (share) => {
    bar.value = share;
    bar.hidden = share >= 1;
  };
  const draw = latest(async (own, label) => {
    const seed = anySeed();
    const name = row.classes[label];
    status.textContent = `Fetching the model (${size}) …`;
    const { image } = await load(row, onProgress);
    if (own.aborted) return;
    status.textContent = `Drawing ${name} …`;
    const args = { n: DRAWN, seed, label, guidance: 2 };
    const { images } = await call("sample", args, { signal: own, onProgress });
    const shape = [image.channels, image.size, image.size];
    tiles.replaceChildren(...Array.from({ length: DRAWN }, (_, i) => canvasOf(images, shape, i, name)));
    const more = address(row.name, "samples", { label, seed });
    status.replaceChildren(`${name}: drawn by your browser just now. `, h("a", { href: more }, "All controls"));
  }, signal);
  const buttons = row.classes.map((name, label) => button(name, () => draw(label)));
  tiles.append(h("img", { src: samplesOf(row), alt: "" })); // until others are drawn
  return h(
    "div",
    { class: "demonstration" },
    h("h2", {}, "Have one drawn"),
    h("div", { class: "actions" }, buttons),
    bar,
    tiles,
    status,
  );
}

function card(row) {
  return h(
    "a",
    { class: "card", href: address(row.name) },
    h("img", { src: samplesOf(row), alt: "" }),
    h("span", { class: "name" }, breakable(row.name)),
    h("span", { class: "hint" }, titleOf(row)),
    h("span", { class: "hint" }, `${row.own ? "your own" : row.data_title} · ${megabytes(row.bytes)}`),
  );
}

function samplesOf(row) {
  return new URL("samples.png", folderOf(row));
}

/** A name that may go on in the next line after each of its parts. */
function breakable(name) {
  return name.split(/(?<=[_/])/).flatMap((part) => [part, h("wbr")]);
}
