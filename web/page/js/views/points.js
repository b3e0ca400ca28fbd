// Points of a VAE in the plane, with and without the decoder's noise, beside the data.

import { controls } from "../controls.js";
import { figure, h, latest } from "../dom.js";
import { fetchJson } from "../fetching.js";
import { call } from "../zoo.js";
import { seedField, temperatureField } from "./fields.js";

const COUNT = 1000;

export const points = {
  id: "points",
  title: "Points",
  fits: ({ image }) => !image,

  show(panel, { row, state, signal }) {
    const plots = h("div", { class: "plots" });
    const status = h("p", { class: "status", "aria-live": "polite" });
    const data = row.points ? fetchJson(new URL(`models/${row.points}`, document.baseURI)) : null;
    let drawn = [];
    const draw = latest(async (own) => {
      const options = form.values();
      const { points: means } = await call("sample", { n: COUNT, ...options }, { signal: own });
      const noisy = { n: COUNT, ...options, decoderNoise: true };
      const { points: draws } = await call("sample", noisy, { signal: own });
      const real = await data;
      drawn = [
        real && ["the data", Float32Array.from(real.flat())],
        ["the decoder's means", means],
        ["drawn with its noise", draws],
      ].filter(Boolean);
      show();
      status.textContent = drawn.map(([name, xy]) => `${name}: ${spread(xy)}`).join("; ") + ".";
    }, signal);
    const show = () => {
      const limits = extent(drawn.map(([, xy]) => xy));
      plots.replaceChildren(...drawn.map(([name, xy]) => figure(scatter(xy, limits, name), name)));
    };
    const form = controls([temperatureField(2), seedField()], state, draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show, { signal });
    panel.append(form.element, plots, status);
    draw();
  },
};

/** A square that holds all points. */
function extent(sets) {
  const values = sets.flatMap((xy) => Array.from(xy, Math.abs)).sort((a, b) => a - b);
  return 1.05 * values.at(-1);
}

function spread(xy) {
  const half = xy.length / 2;
  const [x, y] = [0, 1].map((d) => Array.from({ length: half }, (_, i) => xy[2 * i + d]));
  const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
  return `mean (${mean(x).toFixed(2)}, ${mean(y).toFixed(2)})`;
}

function scatter(xy, limit, label) {
  const edge = 600;
  const canvas = h("canvas", { width: edge, height: edge, class: "plot", role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const [line, ink] = ["--plot-line", "--accent"].map((name) => resolve(style, name));
  const at = (value) => edge / 2 + (value / limit) * (edge / 2);
  context.strokeStyle = line;
  context.fillStyle = line;
  context.font = "18px system-ui, sans-serif";
  const step = limit > 12 ? 10 : limit > 4 ? 5 : 1;
  for (let v = -Math.floor(limit / step) * step; v <= limit; v += step) {
    context.globalAlpha = v === 0 ? 1 : 0.4;
    context.beginPath();
    context.moveTo(at(v), 0);
    context.lineTo(at(v), edge);
    context.moveTo(0, at(v));
    context.lineTo(edge, at(v));
    context.stroke();
    context.globalAlpha = 1;
    if (v !== 0) context.fillText(String(v), at(v) + 5, edge / 2 - 6);
  }
  context.fillStyle = ink;
  context.globalAlpha = 0.55;
  for (let i = 0; i < xy.length; i += 2) {
    context.beginPath();
    context.arc(at(xy[i]), at(-xy[i + 1]), 4, 0, 2 * Math.PI);
    context.fill();
  }
  return canvas;
}

/** The colour that a property has now, which `light-dark()` decides. */
function resolve(style, name) {
  const probe = h("span", { style: `color: var(${name})` });
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
