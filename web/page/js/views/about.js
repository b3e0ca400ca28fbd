// What is known of a model: figures, files, where it comes from, its card.

import { h, megabytes, report } from "../dom.js";
import { fetchText } from "../fetching.js";
import { folderOf } from "../zoo.js";

export const about = {
  id: "about",
  title: "About",
  fits: () => true,

  show(panel, { facts, row }) {
    const { entry } = facts;
    const rows = [
      ["class", facts.model_class],
      ["data", row.data_title || facts.dataset || "its owner's own"],
      row.parameters && ["parameters", row.parameters.toLocaleString("en")],
      entry && ["paper", paper(entry.paper)],
      entry && ["licence", `${entry.licence}; data: ${entry.data_licence}`],
      ["files", files(facts, folderOf(row))],
      row.repository && ["on the Hub", link(`https://huggingface.co/${row.repository}`, row.repository)],
      ["in Python", h("code", {}, `lvmzoo.from_pretrained("${row.name}")`)],
      ["in a shell", h("code", {}, `lvmzoo export ${row.name} -o onnx`)],
    ].filter(Boolean);
    const figures = Object.entries(entry?.metrics ?? {}).map(([name, value]) => {
      return [name.replaceAll("_", " "), value.toLocaleString("en", { maximumSignificantDigits: 5 })];
    });
    const card = h("article", { class: "card" });
    panel.append(
      h("div", { class: "facts" }, table("Facts", rows), figures.length > 0 && table("On the test split", figures)),
      card,
    );
    if (row.card) showCard(card, new URL(row.card, document.baseURI)).catch(report);
  },
};

async function showCard(element, url) {
  const [{ marked }, text] = await Promise.all([import("../../vendor/marked.esm.js"), fetchText(url)]);
  const markdown = text.replace(/^---\n.*?\n---\n/s, ""); // without the metadata for the Hub
  const parsed = new DOMParser().parseFromString(marked.parse(markdown), "text/html");
  for (const image of parsed.images) image.src = new URL(image.getAttribute("src"), url);
  for (const anchor of parsed.links) anchor.href = new URL(anchor.getAttribute("href"), url);
  for (const empty of parsed.querySelectorAll("th:empty")) empty.outerHTML = "<td></td>"; // heads nothing
  parsed.querySelector("h1")?.remove(); // the page has it
  element.replaceChildren(...parsed.body.childNodes);
}

function table(caption, rows) {
  return h(
    "table",
    {},
    h("caption", {}, caption),
    h("tbody", {}, rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))),
  );
}

function files(facts, folder) {
  const described = Object.entries(facts.files).map(([name, { bytes }]) => [name, megabytes(bytes)]);
  return [["lvmzoo.json", ""], ...described].map(([name, size]) => {
    return h("div", {}, link(new URL(name, folder), name), ` ${size}`);
  });
}

function paper(text) {
  const [, title, url] = /^(.*?),? *(https?:\S+)$/.exec(text) ?? [null, text, null];
  return url ? link(url, title) : title;
}

function link(url, text) {
  return h("a", { href: url }, text);
}
