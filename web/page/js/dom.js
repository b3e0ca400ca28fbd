// Elements, pictures on canvases, and messages.

import { UserError } from "./errors.js";

/** Make an element: h("p", { class: "hint" }, "text", otherElement). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((child) => (child ?? false) !== false));
  return element;
}

/** Make an element of a drawing, likewise. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A canvas with image `index` of Float32Array (n, C, S, S) in [0, 1]. */
export function canvasOf(images, [channels, height, width], index = 0, label = "") {
  const canvas = h("canvas", { width, height, class: "picture", role: "img", "aria-label": label });
  const pixels = new ImageData(width, height);
  const size = height * width;
  const start = index * channels * size;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) {
      pixels.data[4 * i + c] = Math.round(255 * images[start + (channels === 3 ? c : 0) * size + i]);
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

export function figure(content, caption, attributes = {}) {
  return h("figure", attributes, content, h("figcaption", {}, caption));
}

export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

export function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Tell the user what went wrong, until it is closed or something else is done. */
export function report(error) {
  if (error.name === "AbortError") return;
  const known = error instanceof UserError;
  if (!known) console.error(error);
  const text = known ? error.message : `Something went wrong: ${error.message}`;
  const close = button("×", quiet, { "aria-label": "Close" });
  document.getElementById("messages").replaceChildren(h("p", {}, text, close));
}

export function quiet() {
  document.getElementById("messages").replaceChildren();
}

/**
 * Wrap work of which only the last start counts: an earlier one is cancelled.
 *
 * @param work gets an AbortSignal and what the call is given
 * @param signal ends all of it
 */
export function latest(work, signal = null) {
  let controller = null;
  signal?.addEventListener("abort", () => controller?.abort());
  return async (...args) => {
    controller?.abort();
    if (signal?.aborted) return;
    controller = new AbortController();
    const { signal: own } = controller;
    try {
      await work(own, ...args);
    } catch (error) {
      if (!own.aborted) report(error);
    }
  };
}
