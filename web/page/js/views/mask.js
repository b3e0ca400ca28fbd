// Which codes are forgotten: painted on the grid by pointer, or by arrow keys and space.

import { h } from "../dom.js";

export class Mask {
  /**
   * @param grid [height, width]
   * @param state keeps it in the address, four cells a digit
   * @param onChange called after a stroke
   */
  constructor([height, width], state, onChange) {
    Object.assign(this, { height, width, state, onChange });
    this.unknown = this.#read() ?? this.#where((y) => y >= height / 2);
    this.picture = h("div", { class: "place" });
    this.cells = this.unknown.map((_, i) => this.#cell(i));
    const style = `--columns: ${width}`;
    const label = "What is forgotten; arrow keys move, space changes a cell";
    this.grid = h("div", { class: "mask", role: "grid", style, "aria-label": label }, this.#rows());
    this.element = h("div", { class: "masked" }, this.picture, this.grid);
    this.presets = this.#presets();
    this.#paintBy();
    this.#keys();
    this.#show();
  }

  #cell(i) {
    const [y, x] = [Math.floor(i / this.width) + 1, (i % this.width) + 1];
    const tabindex = i === 0 ? 0 : -1;
    return h("div", { role: "gridcell", tabindex, "data-cell": i, "aria-label": `row ${y}, column ${x}` });
  }

  #rows() {
    return Array.from({ length: this.height }, (_, y) => {
      return h("div", { role: "row" }, this.cells.slice(y * this.width, (y + 1) * this.width));
    });
  }

  #presets() {
    const [h2, w2] = [this.height / 2, this.width / 2];
    const middle = (v, half) => v >= half / 2 && v < 1.5 * half;
    const shapes = {
      Bottom: (y) => y >= h2,
      Right: (y, x) => x >= w2,
      Middle: (y, x) => middle(y, h2) && middle(x, w2),
      All: () => true,
      None: () => false,
    };
    const buttons = Object.entries(shapes).map(([name, inside]) => {
      const onclick = () => {
        this.unknown = this.#where(inside);
        this.#done();
      };
      return h("button", { type: "button", onclick }, name);
    });
    return h("span", { class: "actions" }, buttons);
  }

  #paintBy() {
    let value = null; // what the current stroke paints
    const paint = (event) => {
      const cell = document.elementFromPoint(event.clientX, event.clientY)?.dataset.cell;
      if (cell === undefined) return;
      value ??= !this.unknown[cell];
      this.unknown[cell] = value;
      this.#show();
    };
    this.grid.addEventListener("pointerdown", (event) => {
      value = null;
      this.grid.setPointerCapture(event.pointerId);
      paint(event);
    });
    this.grid.addEventListener("pointermove", (event) => {
      if (value !== null) paint(event);
    });
    const end = () => {
      if (value !== null) this.#done();
      value = null;
    };
    this.grid.addEventListener("pointerup", end);
    this.grid.addEventListener("pointercancel", end);
  }

  #keys() {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.width, ArrowDown: this.width };
    this.grid.addEventListener("keydown", (event) => {
      const at = Number(event.target.dataset.cell);
      if (event.key === " " || event.key === "Enter") {
        this.unknown[at] = !this.unknown[at];
        this.#done();
      } else if (event.key in steps) {
        const to = this.cells[at + steps[event.key]];
        if (!to) return;
        this.cells.forEach((cell) => (cell.tabIndex = -1));
        to.tabIndex = 0;
        to.focus();
      } else return;
      event.preventDefault();
    });
  }

  #where(inside) {
    return Array.from({ length: this.height * this.width }, (_, i) => {
      return inside(Math.floor(i / this.width), i % this.width);
    });
  }

  #show() {
    this.cells.forEach((cell, i) => cell.setAttribute("aria-selected", this.unknown[i]));
  }

  #done() {
    this.#show();
    const bits = this.unknown.map(Number).join("");
    const digits = bits.match(/.{1,4}/g).map((part) => parseInt(part.padEnd(4, "0"), 2).toString(16));
    this.state.set("mask", digits.join(""));
    this.onChange();
  }

  #read() {
    const text = this.state.get("mask");
    const count = this.height * this.width;
    if (!text || !/^[0-9a-f]+$/.test(text) || text.length !== Math.ceil(count / 4)) return null;
    const bits = [...text].map((digit) => parseInt(digit, 16).toString(2).padStart(4, "0")).join("");
    return Array.from({ length: count }, (_, i) => bits[i] === "1");
  }
}
