// The zoo: every model with samples of it, in groups.

import { h, megabytes } from "./dom.js";
import { address } from "./state.js";
import { groupOf, kindOf } from "./words.js";

const MODELS = new URL("../models/", import.meta.url);

export function showZoo(rows, main) {
  const groups = new Map();
  for (const row of rows) {
    const heading = row.own ? "Your own" : groupOf(row);
    groups.set(heading, [...(groups.get(heading) ?? []), row]);
  }
  main.replaceChildren(
    h(
      "section",
      { class: "intro" },
      h("h1", {}, "A zoo of latent variable models"),
      h(
        "p",
        {},
        "Each of these models has learned from thousands of pictures: it draws new ones, and takes yours " +
          "apart and puts it together again. Choose one: it is fetched once and then runs here, in " +
          "your browser, which no picture of yours leaves.",
      ),
    ),
    ...Array.from(groups, ([heading, members]) => {
      const words = members[0].own ? "Models from folders of yours." : kindOf(members[0]);
      return h(
        "section",
        { class: "group" },
        h("div", {}, h("h2", {}, heading), h("p", { class: "hint" }, words)),
        h("div", { class: "cards" }, members.map(card)),
      );
    }),
  );
}

function card(row) {
  return h(
    "a",
    { class: "card", href: address(row.name) },
    h("img", { src: new URL(`${row.folder}/samples.png`, MODELS), alt: "" }),
    h("span", { class: "name" }, breakable(row.name)),
    h("span", { class: "hint" }, `${row.data_title || "its owner's data"} · ${megabytes(row.bytes)}`),
  );
}

/** A name that may go on in the next line after each of its parts. */
function breakable(name) {
  return name.split(/(?<=[_/])/).flatMap((part) => [part, h("wbr")]);
}
