// Pictures that are made on the spot, in a dialog: drawn, or taken by the camera. -> Blob or null

import { h } from "./dom.js";

const EDGE = 320;

/** Let the user draw in white on black. */
export function drawing() {
  const canvas = h("canvas", { width: EDGE, height: EDGE, class: "pad", tabindex: 0 });
  const context = canvas.getContext("2d");
  const clear = () => context.fillRect(0, 0, EDGE, EDGE);
  clear();
  Object.assign(context, { strokeStyle: "white", lineWidth: 26, lineCap: "round", lineJoin: "round" });
  const at = (event) => {
    const { left, top, width } = canvas.getBoundingClientRect();
    return [((event.clientX - left) / width) * EDGE, ((event.clientY - top) / width) * EDGE];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    context.beginPath();
    context.moveTo(...at(event));
    context.lineTo(...at(event));
    context.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    context.lineTo(...at(event));
    context.stroke();
  });
  const again = h("button", { type: "button", onclick: clear }, "Clear");
  return ask("Draw something", canvas, [again], () => canvas);
}

/** Take a picture with the camera. */
export async function camera() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    const why = refused ? "it was not allowed" : "there is none that can be used";
    throw Object.assign(new Error(`No picture from the camera: ${why}.`), { sentence: true });
  }
  const video = h("video", { autoplay: true, playsinline: true, class: "pad" });
  video.muted = true;
  video.srcObject = stream;
  try {
    return await ask("Take a picture", video, [], () => {
      const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      return canvas;
    });
  } finally {
    stream.getTracks().forEach((track) => track.stop());
  }
}

function ask(title, content, buttons, result) {
  const dialog = h(
    "dialog",
    { "aria-label": title },
    h("h2", {}, title),
    content,
    h(
      "form",
      { method: "dialog", class: "actions" },
      buttons,
      h("button", { value: "" }, "Cancel"),
      h("button", { value: "use", class: "primary" }, "Use it"),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const used = dialog.returnValue === "use";
      const canvas = used ? result() : null;
      dialog.remove();
      if (!canvas || !canvas.width) resolve(null);
      else canvas.toBlob((blob) => resolve(blob), "image/png");
    });
  });
}
