// One picture: how it comes back, and what the model writes down of it.

import { controls } from "../controls.js";
import { canvasOf, figure, h, latest, svg } from "../dom.js";
import { picker } from "../picker.js";
import { call } from "../zoo.js";
import { classField } from "./fields.js";

export const picture = {
  id: "picture",
  title: "Your picture",
  fits: ({ image }) => Boolean(image),

  show(panel, context) {
    const { facts, shape, state, signal } = context;
    const status = h("p", { class: "status", "aria-live": "polite" });
    const results = h("div", { class: "results" });
    let image = null;
    const work = latest(async (own) => {
      if (!image) return;
      const { codes, mean, log_std: logStd } = await call("encode", { x: image }, { signal: own });
      const back = await call("decode", { z: codes ?? mean }, { signal: own });
      const shown = [figure(canvasOf(back, shape, 0, "reconstruction"), "as it comes back")];
      let written = `${facts.latent_dim} numbers stand for it.`;
      if (codes) {
        const { class: label = null } = form.values();
        const nats = await call("codeLogProb", { codes, label }, { signal: own });
        const bits = nats.map((value) => -value / Math.LN2);
        shown.push(...codeFigures(codes, bits, facts.codes));
        written = cost(bits, facts, label);
      } else shown.push(latentFigure(mean, logStd));
      results.replaceChildren(...shown, status);
      status.textContent = `Reconstructed at ${psnr(image, back).toFixed(1)} dB PSNR. ${written}`;
    }, signal);
    const chosen = picker(context, "a", (x) => {
      image = x;
      return work();
    });
    const form = controls(classField(facts, "class", null), state, work);
    panel.append(
      h("div", { class: "beside" }, h("div", {}, chosen, form.element), results),
    );
  },
};

function psnr(a, b) {
  const mse = a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0) / a.length;
  return -10 * Math.log10(mse);
}

function cost(bits, { codes, classes }, label) {
  const total = bits.reduce((a, b) => a + b, 0);
  const plain = bits.length * Math.log2(codes.num_codes);
  const given = label === null ? "" : `, told that it is "${classes[label]}"`;
  return (
    `The prior writes its ${bits.length} codes in ${total.toFixed(0)} bits, ` +
    `${(total / 8).toFixed(1)} bytes${given}; ` +
    `without a prior they take ${plain.toFixed(0)}.`
  );
}

function codeFigures(codes, bits, { num_codes: count, grid }) {
  const colour = (code) => `oklch(0.72 0.13 ${((code * 137.508) % 360).toFixed(1)})`;
  const most = Math.log2(count) * 1.5;
  const heat = (value) => {
    const share = Math.min(1, value / most);
    return `color-mix(in oklab, var(--heat) ${(100 * share).toFixed(0)}%, var(--surface))`;
  };
  return [
    figure(
      cells(grid, "codes", (i) => [colour(codes[i]), codes[i], `code ${codes[i]}`, "dark"]),
      "its codes",
    ),
    figure(
      cells(grid, "bits of each code", (i) => {
        return [heat(bits[i]), bits[i].toFixed(1), `${bits[i].toFixed(2)} bits`, "plain"];
      }),
      "bits per code",
    ),
  ];
}

/** A grid of coloured cells with a short text and a longer one. */
function cells([height, width], label, describe) {
  const drawn = Array.from({ length: height * width }, (_, i) => {
    const [fill, text, title, ink] = describe(i);
    const [x, y] = [10 * (i % width), 10 * Math.floor(i / width)];
    return svg(
      "g",
      {},
      svg("title", {}, title),
      svg("rect", { x, y, width: 10, height: 10, style: `fill: ${fill}` }),
      svg("text", { x: x + 5, y: y + 5, class: ink }, String(text)),
    );
  });
  const viewBox = `0 0 ${10 * width} ${10 * height}`;
  return svg("svg", { viewBox, class: "cells", role: "img", "aria-label": label }, ...drawn);
}

/** Posterior means as bars from zero, with one standard deviation to each side. */
function latentFigure(mean, logStd) {
  const most = Math.max(2, ...Array.from(mean, (m, i) => Math.abs(m) + Math.exp(logStd[i])));
  const step = 100 / mean.length;
  const y = (value) => 50 - (45 * value) / most;
  const bars = Array.from(mean, (m, i) => {
    const [x, std] = [(i + 0.5) * step, Math.exp(logStd[i])];
    const [top, bottom] = [Math.max(m, 0), Math.min(m, 0)];
    return svg(
      "g",
      {},
      svg("title", {}, `z${i + 1} = ${m.toFixed(2)} ± ${std.toFixed(2)}`),
      svg("rect", { x: x - step * 0.35, y: y(top), width: step * 0.7, height: y(bottom) - y(top) }),
      svg("line", { x1: x, x2: x, y1: y(m - std), y2: y(m + std) }),
    );
  });
  const axis = svg("line", { x1: 0, x2: 100, y1: 50, y2: 50, class: "axis" });
  const chart = svg(
    "svg",
    { viewBox: "0 2 100 96", class: "bars", role: "img", "aria-label": "latents" },
    axis,
    ...bars,
  );
  return figure(chart, "its latents, ± one standard deviation");
}
