// Fields whose values live in the address.

import { button, h } from "./dom.js";
import { anySeed } from "./random.js";

/**
 * Show fields -> {element, values}: a form, and a function that reads it.
 *
 * @param fields {key, label, kind: "range" | "select" | "seed", value: the default, hint, min, max,
 *   step, options: [[value, text]], needs: key of another field that must not be null}
 * @param state where the values are kept
 * @param onChange called after a change
 */
export function controls(fields, state, onChange) {
  const values = () => Object.fromEntries(fields.map((field) => [field.key, read(field, state)]));
  const rows = fields.map((field) => {
    const row = WIDGETS[field.kind](field, read(field, state));
    row.addEventListener("input", ({ target }) => {
      state.set(field.key, target.value === textOf(field.value) ? null : target.value);
      settle();
      onChange();
    });
    return row;
  });
  const settle = () => {
    const now = values();
    fields.forEach(({ needs }, i) => (rows[i].hidden = needs && now[needs] === null));
  };
  settle();
  const element = h("form", { class: "controls", onsubmit: (event) => event.preventDefault() }, rows);
  return { element, values };
}

/** The value of a field, or its default where the address holds none that can be. */
function read({ key, kind, value, min, max, options }, state) {
  const text = state.get(key);
  if (text === null) return value;
  if (kind === "select") return (options.find(([v]) => textOf(v) === text) ?? [value])[0];
  const number = Number(text);
  if (text === "" || !Number.isFinite(number)) return value;
  if (kind === "seed") return Number.isSafeInteger(number) && number >= 0 ? number : value;
  return Math.min(max, Math.max(min, number));
}

function textOf(value) {
  return String(value ?? "any");
}

const WIDGETS = {
  select({ key, label, hint, options }, value) {
    const choices = options.map(([v, text]) => {
      return h("option", { value: textOf(v), selected: v === value }, text);
    });
    return row(key, label, h("select", { id: key, title: hint }, choices));
  },

  seed({ key, label, hint }, value) {
    const input = h("input", { id: key, type: "number", min: 0, step: 1, value, title: hint });
    const renew = () => {
      input.value = anySeed();
      input.dispatchEvent(new Event("input", { bubbles: true }));
    };
    return row(key, label, h("span", { class: "seed" }, input, button("New", renew)));
  },

  range({ key, label, hint, min, max, step }, value) {
    const digits = step < 0.1 ? 2 : 1;
    const output = h("output", { for: key }, value.toFixed(digits));
    const oninput = ({ target }) => (output.textContent = Number(target.value).toFixed(digits));
    const input = h("input", { id: key, type: "range", min, max, step, value, title: hint, oninput });
    return row(key, label, input, output);
  },
};

function row(id, label, ...content) {
  return h("div", { class: "field" }, h("label", { for: id }, label), ...content);
}
