// The fields that several views share.

import { takesClass } from "../words.js";

/**
 * A class, where the model takes one.
 *
 * @param key how the address calls it
 * @param value the default: a class, or null for none
 */
export function classField(facts, key, value) {
  if (!takesClass(facts)) return [];
  const options = [[null, "any"], ...facts.classes.map((name, i) => [i, name])];
  return [{ key, label: "Class", kind: "select", options, value }];
}

/** A class and how far to follow it. */
export function guidedFields(facts, key, value) {
  const hint = "How far to go beyond the class: plainer and less varied";
  const range = { kind: "range", min: 0, max: 4, step: 0.5, value: 2 };
  const guidance = { key: "guidance", label: "Guidance", hint, needs: key, ...range };
  return classField(facts, key, value).flatMap((field) => [field, guidance]);
}

export function temperatureField(max) {
  return { key: "temperature", label: "Temperature", kind: "range", min: 0.1, max, step: 0.05, value: 1 };
}

export function seedField() {
  return { key: "seed", label: "Seed", kind: "seed", value: 0, hint: "The same seed, the same again" };
}
