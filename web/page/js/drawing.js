// A picture that is drawn in a dialog, in white on black.

import { h } from "./dom.js";

const EDGE = 320;

/** Let the user draw -> a canvas, or null if it was given up. */
export function drawing() {
  const canvas = h("canvas", { width: EDGE, height: EDGE, class: "pad" });
  const context = canvas.getContext("2d", { alpha: false });
  Object.assign(context, { strokeStyle: "white", lineWidth: 26, lineCap: "round", lineJoin: "round" });
  const lineTo = (event) => {
    const { left, top, width } = canvas.getBoundingClientRect();
    const [x, y] = [((event.clientX - left) / width) * EDGE, ((event.clientY - top) / width) * EDGE];
    context.lineTo(x, y);
    context.lineTo(x + 0.1, y); // a touch alone leaves a dot
    context.stroke();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    context.beginPath();
    lineTo(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && lineTo(event));
  const clear = () => context.fillRect(0, 0, EDGE, EDGE);
  const dialog = h(
    "dialog",
    { "aria-label": "Draw something" },
    h("h2", {}, "Draw something"),
    canvas,
    h(
      "form",
      { method: "dialog", class: "actions" },
      h("button", { type: "button", onclick: clear }, "Clear"),
      h("button", { value: "" }, "Cancel"),
      h("button", { value: "use", class: "primary" }, "Use it"),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "use" ? canvas : null);
    });
  });
}
