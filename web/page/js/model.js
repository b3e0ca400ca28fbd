// A model of the zoo over its exported graphs; what a graph takes and gives stands in lvmzoo.json.
// Images are Float32Array (n, C, S, S) in [0, 1], codes Int32Array (n, h, w).

import * as ort from "../vendor/ort.wasm.bundle.min.js";
import { fetchBytes } from "./fetching.js";
import { gumbel, normal, uniform } from "./random.js";
import { fillGrids, logProb, particlesFor } from "./sampling.js";

const RUNTIME = new URL("../vendor/ort-wasm-simd-threaded.wasm", import.meta.url);

/** Fetch the runtime, once. */
export async function loadRuntime(onSize, onBytes) {
  if (ort.env.wasm.wasmBinary) return;
  ort.env.wasm.numThreads = 1; // more would need headers that not every server sends
  ort.env.wasm.wasmBinary = await fetchBytes(RUNTIME, { onSize, onBytes });
}

export class Model {
  constructor(facts, sessions) {
    this.facts = facts;
    this.sessions = sessions;
  }

  /** Fetch the graphs beside lvmzoo.json and start them. */
  static async load(folder, facts, onBytes) {
    const sessions = {};
    for (const [file, { sha256 }] of Object.entries(facts.files)) {
      // The hash in the address: a copy of an earlier site is not taken for this one.
      const data = await fetchBytes(new URL(`${file}?${sha256.slice(0, 8)}`, folder), { sha256, onBytes });
      sessions[file.replace(/\.onnx$/, "")] = await ort.InferenceSession.create(data, {
        executionProviders: ["wasm"],
      });
    }
    return new Model(facts, sessions);
  }

  async release() {
    for (const session of Object.values(this.sessions)) await session.release();
  }

  /** Run a graph: {name: {data, dims}} -> {name: {data, dims}}; integers are int64 there. */
  async run(graph, inputs) {
    const feeds = {};
    for (const [name, { data, dims }] of Object.entries(inputs)) {
      feeds[name] =
        data instanceof Int32Array
          ? new ort.Tensor("int64", BigInt64Array.from(data, BigInt), dims)
          : new ort.Tensor("float32", data, dims);
    }
    const outputs = await this.sessions[graph].run(feeds);
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { data, dims }]) => [
        name,
        { data: data instanceof BigInt64Array ? Int32Array.from(data, Number) : data, dims },
      ]),
    );
  }

  get imageShape() {
    const { channels, size } = this.facts.image;
    return [channels, size, size];
  }

  /** Images or points -> {codes, features}, or {mean, log_std} of the posterior. */
  async encode(x) {
    const shape = this.facts.image ? this.imageShape : [2];
    const name = this.facts.image ? "images" : "points";
    const n = x.length / product(shape);
    const outputs = await this.run("encode", { [name]: { data: x, dims: [n, ...shape] } });
    return Object.fromEntries(Object.entries(outputs).map(([key, { data }]) => [key, data]));
  }

  /** Codes or latents -> images. */
  async decode(z) {
    const { codes, latent_dim: dim } = this.facts;
    const [name, shape] = codes ? ["codes", codes.grid] : ["latents", [dim]];
    const dims = [z.length / product(shape), ...shape];
    return (await this.run("decode", { [name]: { data: z, dims } })).images.data;
  }

  /** What `decode` takes of images that were encoded. */
  async reconstruct(images) {
    const { codes, mean } = await this.encode(images);
    return this.decode(codes ?? mean);
  }

  /**
   * Draw n images.
   *
   * @param noise what the seed would give: N(0, I) (n, D), or Gumbel noise (h, w, n, K)
   */
  async sample({ n, seed = 0, noise = null, temperature = 1, ...options }) {
    const { codes } = this.facts;
    if (codes) {
      const drawn = await this.fill(n, noise, { seed, temperature, ...options });
      return { images: await this.decode(drawn), codes: drawn };
    }
    const latents = await this.prior({ n, seed, noise, temperature });
    return this.facts.image
      ? { images: await this.decode(latents), latents }
      : this.points(latents, { seed, ...options });
  }

  /** Draw n latents from the prior. */
  async prior({ n, seed = 0, noise = null, temperature = 1 }) {
    const dim = this.facts.latent_dim;
    noise = (noise ?? normal(n * dim, uniform(seed))).map((value) => value * temperature);
    if (!this.sessions.prior) return noise;
    return (await this.run("prior", { noise: { data: noise, dims: [n, dim] } })).latents.data;
  }

  /** Latents -> points, the decoder's mean or a draw from it. */
  async points(latents, { seed = 0, decoderNoise = false, decoderDraws = null }) {
    const dims = [latents.length / this.facts.latent_dim, this.facts.latent_dim];
    const { mean, log_std: logStd } = await this.run("decode", { latents: { data: latents, dims } });
    if (!decoderNoise) return { points: mean.data };
    const noise = decoderDraws ?? normal(mean.data.length, uniform(seed + 2 ** 32));
    return { points: mean.data.map((m, i) => m + Math.exp(logStd.data[i]) * noise[i]) };
  }

  /** Decode between two encoded images, at weights from 0 (the first) to 1. */
  async mix({ from, to, weights }) {
    const [a, b] = [from.features ?? from.mean, to.features ?? to.mean];
    const n = weights.length;
    const lines = new Float32Array(n * a.length);
    weights.forEach((t, i) => {
      for (let j = 0; j < a.length; j++) {
        lines[i * a.length + j] =
          t < 0.5 ? a[j] + t * (b[j] - a[j]) : b[j] - (b[j] - a[j]) * (1 - t);
      }
    });
    if (!this.facts.codes) return this.decode(lines);
    const grid = this.facts.codes.grid;
    const dims = [n, a.length / product(grid), ...grid];
    return this.decode((await this.run("quantize", { features: { data: lines, dims } })).codes.data);
  }

  /** Log-probability of every code given those before it, (n, h, w) in nats. */
  async codeLogProb(codes, label = null) {
    const { num_codes: numCodes, grid } = this.facts.codes;
    const { no_label: noLabel } = this.facts.sampling;
    const n = codes.length / product(grid);
    const inputs = { codes: { data: codes, dims: [n, ...grid] } };
    if (noLabel !== null) {
      inputs.labels = { data: new Int32Array(n).fill(label ?? noLabel), dims: [n] };
    }
    const { logits } = await this.run("logits", inputs);
    return logProb(logits.data, codes, numCodes, product(grid));
  }

  /** Keep the known codes (h, w) and fill what is hidden, n times, by particles; see `fillGrids`. */
  async complete({ codes, n, noise = null, ...options }) {
    const drawn = await this.fill(n, noise, { given: codes, ...options });
    return { images: await this.decode(drawn), codes: drawn };
  }

  fill(n, noise, { seed, starts = null, ...options }) {
    const { num_codes: numCodes, grid } = this.facts.codes;
    const particles = particlesFor(options.known, options.particles);
    noise ??= gumbel(product(grid) * n * particles * numCodes, uniform(seed));
    starts ??= Float64Array.from({ length: (product(grid) + 1) * n }, uniform(seed + 2 ** 32));
    const run = (graph, inputs) => this.run(graph, inputs);
    return fillGrids(run, this.facts, n, noise, { starts, ...options });
  }
}

function product(numbers) {
  return numbers.reduce((a, b) => a * b, 1);
}
