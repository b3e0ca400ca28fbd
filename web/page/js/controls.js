// Fields whose values live in the address.

import { h } from "./dom.js";
import { anySeed } from "./random.js";

/**
 * Show fields -> {element, values}: a form, and a function that reads it.
 *
 * @param fields {key, label, kind: "range" | "select" | "seed" | "check", value: the default,
 *   hint, min, max, step, options: [[value, text]], needs: key of another field that must be set}
 * @param state where the values are kept
 * @param onChange called after a change
 */
export function controls(fields, state, onChange) {
  const inputs = new Map(fields.map((field) => [field.key, widget(field, read(field, state))]));
  const values = () => {
    return Object.fromEntries(fields.map((field) => [field.key, read(field, state)]));
  };
  const settle = () => {
    const now = values();
    for (const { key, needs } of fields) {
      if (needs) inputs.get(key).element.hidden = !isSet(now[needs]);
    }
  };
  for (const field of fields) {
    const { input, show } = inputs.get(field.key);
    input.addEventListener("input", () => {
      const value = field.kind === "check" ? String(input.checked) : input.value;
      state.set(field.key, value === String(field.value ?? "") ? null : value);
      show(read(field, state));
      settle();
      onChange(field.key);
    });
  }
  settle();
  const elements = fields.map(({ key }) => inputs.get(key).element);
  const element = h("form", { class: "controls", onsubmit: (e) => e.preventDefault() }, elements);
  return { element, values };
}

function isSet(value) {
  return value !== null && value !== false;
}

/** The value of a field, or its default where the address holds none that can be. */
function read({ key, kind, value, min, max, options }, state) {
  const text = state.get(key);
  if (text === null) return value;
  if (kind === "check") return text === "true";
  if (kind === "select") return options.some(([v]) => String(v) === text) ? Number(text) : value;
  const number = Number(text);
  if (text === "" || !Number.isFinite(number)) return value;
  if (kind === "seed") return Number.isSafeInteger(number) && number >= 0 ? number : value;
  return Math.min(max, Math.max(min, number));
}

function widget(field, value) {
  const { kind, key, label, hint, min, max, step, options } = field;
  const id = `field-${key}`;
  const title = hint ?? null;
  if (kind === "select") {
    const chosen = (v) => String(v) === String(value ?? "");
    const input = h(
      "select",
      { id, title },
      options.map(([v, text]) => h("option", { value: v, selected: chosen(v) }, text)),
    );
    return { input, show: () => {}, element: row(id, label, input) };
  }
  if (kind === "check") {
    const input = h("input", { id, type: "checkbox", checked: value, title });
    return { input, show: () => {}, element: row(id, label, input) };
  }
  if (kind === "seed") {
    const input = h("input", { id, type: "number", min: 0, step: 1, value, title });
    const again = h("button", {
      type: "button",
      onclick: () => {
        input.value = anySeed();
        input.dispatchEvent(new Event("input"));
      },
    });
    again.textContent = "New";
    return { input, show: () => {}, element: row(id, label, h("span", { class: "seed" }, input, again)) };
  }
  const input = h("input", { id, type: "range", min, max, step, value, title });
  const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  const output = h("output", { for: id }, value.toFixed(digits));
  const show = (v) => (output.textContent = v.toFixed(digits));
  return { input, show, element: row(id, label, input, output) };
}

function row(id, label, ...content) {
  return h("div", { class: "field" }, h("label", { for: id }, label), ...content);
}
