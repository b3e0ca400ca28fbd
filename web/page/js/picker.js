// Where one gives a picture: a file, dropped or pasted, a drawing, a test picture, or a sample.

import { button, canvasOf, h, latest, quiet, report } from "./dom.js";
import { drawing } from "./drawing.js";
import { readPicture } from "./image.js";
import { keep, nextTestPicture, pictureIn, textOf } from "./pictures.js";
import { anySeed } from "./random.js";
import { call } from "./zoo.js";

/**
 * Show the picture in a slot, with all ways to change it.
 *
 * @param context of the view
 * @param slot "a" or "b"
 * @param onPicture called with every picture that is shown, and an AbortSignal
 */
export function picker(context, slot, onPicture) {
  const { row, shape, state, signal } = context;
  const place = h("div", { class: "place" });
  const caption = h("figcaption");
  const show = latest(async (own) => {
    const { image, name } = await pictureIn(slot, context, own);
    if (own.aborted) return;
    place.replaceChildren(canvasOf(image, shape, 0, name));
    caption.textContent = name;
    await onPicture(image, own);
  }, signal);
  const change = (text) => {
    quiet();
    state.set(slot, text);
    show();
  };
  const read = async (file) => {
    quiet();
    try {
      keep(slot, await readPicture(file, file.name), file.name);
    } catch (error) {
      report(error);
    }
  };
  const draw = async () => {
    const canvas = await drawing();
    if (canvas) keep(slot, canvas, "your drawing");
  };
  const sample = latest(async (own) => {
    const drawn = await call("sample", { n: 1, seed: anySeed() }, { signal: own });
    change(textOf(drawn, 1, 0));
  }, signal);
  const input = h("input", {
    type: "file",
    accept: "image/*",
    hidden: true,
    onchange: () => {
      if (input.files[0]) read(input.files[0]);
      input.value = ""; // the same file may be chosen again
    },
  });
  const buttons = [
    button("File…", () => input.click(), { title: "A picture of any size; or drop one here, or paste it" }),
    button("Draw…", draw),
    row.pictures && button("Another", () => change(nextTestPicture(slot, state)), { title: "The next test picture" }),
    button("Sample", () => sample(), { title: "Have the model draw one" }),
  ];
  const element = h(
    "figure",
    { class: "picker", "data-slot": slot },
    place,
    caption,
    h("div", { class: "actions" }, buttons),
    input,
  );
  receive(element, read, signal);
  document.addEventListener("picture", ({ detail }) => detail === slot && change(null), { signal });
  show();
  return element;
}

/** Take what is dropped or pasted on the picker, or anywhere for the first one. */
function receive(element, read, signal) {
  const take = (event) => {
    const file = (event.dataTransfer ?? event.clipboardData).files[0];
    const near = event.target.closest(".picker") ?? document.querySelector(".picker");
    if (!file || near !== element) return;
    event.preventDefault();
    read(file);
  };
  document.addEventListener("drop", take, { signal });
  document.addEventListener("paste", take, { signal });
  document.addEventListener("dragover", (event) => event.preventDefault(), { signal });
}
