// What one takes along from a view: its pictures as a file, and a link to all that it shows.

import { button, h, report } from "./dom.js";
import { UserError } from "./errors.js";
import { isOwn } from "./pictures.js";

const GAP = 2;

/**
 * @param panel whose pictures are saved
 * @param name of the file, without its ending
 */
export function share(panel, state, name) {
  const said = h("span", { class: "hint", role: "status" });
  const copyLink = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      const own = [...panel.querySelectorAll(".picker")].some(({ dataset }) => isOwn(dataset.slot, state));
      said.textContent = own ? "Copied. It does not hold your own picture." : "Copied.";
    } catch {
      report(new UserError("The browser does not allow it: copy the link from its address bar."));
    }
  };
  const buttons = [button("Save picture", () => save(panel, name)), button("Copy link", copyLink)];
  return h("div", { class: "share actions" }, buttons, said);
}

/** Save the pictures as one PNG; small ones four times as large, so that they can be seen. */
function save(panel, name) {
  const group = panel.querySelector(".tiles, .strip") ?? panel;
  const pictures = [...group.querySelectorAll("canvas")];
  if (!pictures.length) return;
  const columns = Number(group.style.getPropertyValue("--columns")) || pictures.length;
  const { width, height } = pictures[0];
  const scale = width < 200 ? 4 : 1;
  const [across, down] = [scale * (width + GAP), scale * (height + GAP)];
  const all = h("canvas", { width: columns * across, height: Math.ceil(pictures.length / columns) * down });
  const context = all.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, all.width, all.height);
  context.imageSmoothingEnabled = false;
  pictures.forEach((picture, i) => {
    const [x, y] = [(i % columns) * across, Math.floor(i / columns) * down];
    context.drawImage(picture, x, y, scale * width, scale * height);
  });
  h("a", { href: all.toDataURL(), download: `${name}.png` }).click();
}
