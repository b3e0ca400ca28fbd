// Where one gives a picture: a file, dropped or pasted, a drawing, the camera, or a sample.

import { camera, drawing } from "./capture.js";
import { canvasOf, h, latest, quiet, report } from "./dom.js";
import { pictures } from "./pictures.js";
import { anySeed } from "./random.js";

const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Show the picture in a slot, with all ways to change it.
 *
 * @param context of the view
 * @param slot "a" or "b"
 * @param onChange called when there is another picture
 */
export function picker({ facts, signal }, slot, caption, onChange) {
  const { channels, size } = facts.image;
  const input = h("input", { type: "file", accept: "image/*", class: "unseen", tabindex: -1 });
  const place = h("div", { class: "place" });
  const show = async () => {
    const image = await pictures.get(slot, facts, signal);
    place.replaceChildren(canvasOf(image, [channels, size, size], 0, pictures.slots[slot].name));
  };
  const change = async (work) => {
    quiet();
    try {
      await work();
      await show();
      onChange();
    } catch (error) {
      report(error);
    }
  };
  const take = (file) => file && change(() => pictures.take(slot, file, file.name || "the picture"));
  const ask = (dialog) => async () => {
    try {
      take(await dialog());
    } catch (error) {
      report(error);
    }
  };
  const button = (text, onclick, hint) => h("button", { type: "button", onclick, title: hint }, text);
  const draw = () => change(() => pictures.draw(slot, facts, anySeed(), signal));
  const element = h(
    "figure",
    { class: "picker", "data-slot": slot },
    place,
    h("figcaption", {}, caption),
    h(
      "div",
      { class: "actions" },
      button("File…", () => input.click(), "A picture of any size; or drop one here, or paste it"),
      button("Draw…", ask(drawing)),
      hasCamera && button("Camera…", ask(camera)),
      button("Sample", draw, "Have the model draw one"),
    ),
    input,
  );
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = "";
  });
  receive(element, take, signal);
  return { element, show: latest(show, signal) };
}

function receive(element, take, signal) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  const paste = (event) => {
    const here = document.querySelector(".picker:hover, .picker:focus-within");
    if ((here ?? document.querySelector(".picker")) !== element) return;
    take(event.clipboardData.files[0]);
  };
  document.addEventListener("paste", paste, { signal });
}
