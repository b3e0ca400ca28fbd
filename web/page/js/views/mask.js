// Which codes are forgotten: boxes that one ticks by a stroke of the pointer, or by arrow keys and space.

import { button, h } from "../dom.js";

export class Mask {
  /**
   * @param grid [height, width]
   * @param state keeps it in the address, as a hexadecimal number with a bit for each cell
   * @param onChange called after a stroke
   */
  constructor([height, width], state, onChange) {
    Object.assign(this, { height, width, state, onChange });
    this.cells = Array.from({ length: height * width }, (_, i) => {
      const name = `row ${Math.floor(i / width) + 1}, column ${(i % width) + 1}`;
      return h("input", { type: "checkbox", tabindex: i ? -1 : 0, "data-cell": i, "aria-label": name });
    });
    this.#tick(this.#read() ?? ((y) => y >= height / 2));
    this.picture = h("div", { class: "place" });
    const label = "What is forgotten; arrow keys move, space changes a cell";
    const attributes = { class: "mask", role: "group", style: `--columns: ${width}`, "aria-label": label };
    this.grid = h("div", attributes, this.cells);
    this.element = h("div", { class: "masked" }, this.picture, this.grid);
    this.presets = h("span", { class: "actions" }, this.#presets());
    this.grid.addEventListener("change", () => this.#done());
    this.#strokes();
    this.#arrows();
  }

  get hidden() {
    return this.cells.map((cell) => cell.checked);
  }

  #presets() {
    const [bottom, right] = [this.height / 2, this.width / 2];
    const inner = (v, half) => v >= half / 2 && v < 1.5 * half;
    const shapes = {
      Bottom: (y) => y >= bottom,
      Right: (y, x) => x >= right,
      Middle: (y, x) => inner(y, bottom) && inner(x, right),
      All: () => true,
      None: () => false,
    };
    return Object.entries(shapes).map(([name, inside]) => {
      return button(name, () => {
        this.#tick(inside);
        this.#done();
      });
    });
  }

  #tick(inside) {
    this.cells.forEach((cell, i) => {
      cell.checked = inside(Math.floor(i / this.width), i % this.width);
    });
  }

  #strokes() {
    let value = null; // what the current stroke paints
    const paint = ({ clientX, clientY }) => {
      const cell = document.elementFromPoint(clientX, clientY);
      if (this.cells.includes(cell)) cell.checked = value;
    };
    this.grid.addEventListener("pointerdown", (event) => {
      value = !event.target.checked;
      this.grid.setPointerCapture(event.pointerId);
      paint(event);
    });
    this.grid.addEventListener("pointermove", (event) => value !== null && paint(event));
    this.grid.addEventListener("lostpointercapture", () => {
      value = null;
      this.#done();
    });
    // A click by pointer ends a stroke, which has ticked the cell already.
    this.grid.addEventListener("click", (event) => event.detail && event.preventDefault());
  }

  #arrows() {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.width, ArrowDown: this.width };
    this.grid.addEventListener("keydown", (event) => {
      const to = this.cells[this.cells.indexOf(event.target) + steps[event.key]];
      if (!to) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    });
  }

  #done() {
    const bits = this.hidden.map(Number).join("");
    const digits = Math.ceil(bits.length / 4);
    this.state.set("mask", BigInt(`0b${bits}`).toString(16).padStart(digits, "0"));
    this.onChange();
  }

  #read() {
    const text = this.state.get("mask") ?? "";
    if (!/^[0-9a-f]+$/.test(text)) return null;
    const bits = BigInt(`0x${text}`).toString(2).padStart(this.cells.length, "0");
    return bits.length === this.cells.length ? (y, x) => bits[y * this.width + x] === "1" : null;
  }
}
