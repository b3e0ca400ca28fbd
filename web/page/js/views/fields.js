// The fields that several views share.

/** Class and guidance, where the model takes a class. */
export function classFields({ classes, sampling }) {
  if (!sampling || sampling.no_label === null) return [];
  const options = [["", "any"], ...classes.map((name, i) => [i, name])];
  return [
    { key: "label", label: "Class", kind: "select", options, value: null },
    {
      key: "guidance",
      label: "Guidance",
      kind: "range",
      min: 0,
      max: 4,
      step: 0.5,
      value: 0,
      needs: "label",
      hint: "How far to go beyond the class: plainer and less varied",
    },
  ];
}

export function seedField() {
  return { key: "seed", label: "Seed", kind: "seed", value: 0, hint: "The same seed, the same again" };
}

/** All that sampling takes. */
export function drawFields(facts) {
  const temperature = { label: "Temperature", kind: "range", min: 0.1, max: 1.5, step: 0.05 };
  const fields = [...classFields(facts), { key: "temperature", ...temperature, value: 1 }];
  if (facts.codes) {
    const hint = "Only the likeliest codes that together have this probability";
    const range = { kind: "range", min: 0.05, max: 1, step: 0.05, value: 1 };
    fields.push({ key: "topP", label: "Top-p", hint, ...range });
  }
  return [...fields, seedField()];
}
