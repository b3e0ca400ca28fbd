// Everything that takes time, off the page's own thread: {id, method, args} -> {id, result},
// {id, error} or, in between, {id, progress}; {cancel: id} stops what runs.

import { loadRuntime, Model } from "./model.js";

let model = null;
const cancelled = new Set();

const methods = {
  async load({ folder, facts }, progress) {
    await model?.release();
    model = null;
    let done = 0;
    let total = Object.values(facts.files).reduce((sum, { bytes }) => sum + bytes, 0);
    const onBytes = (count) => progress(Math.min(1, (done += count) / total));
    await loadRuntime((size) => (total += size), onBytes);
    model = await Model.load(folder, facts, onBytes);
  },

  sample: (args, onRow) => model.sample({ ...args, onRow }),
  complete: (args, onRow) => model.complete({ ...args, onRow }),
  encode: ({ x }) => model.encode(x),
  decode: ({ z }) => model.decode(z),
  reconstruct: ({ images }) => model.reconstruct(images),
  mix: (args) => model.mix(args),
  prior: (args) => model.prior(args),
  codeLogProb: ({ codes, label }) => model.codeLogProb(codes, label),
};

// One at a time: the runtime computes one graph after the other anyway.
let queue = Promise.resolve();

self.addEventListener("message", ({ data }) => {
  if (data.cancel !== undefined) cancelled.add(data.cancel);
  else queue = queue.then(() => answer(data));
});

async function answer({ id, method, args }) {
  const letCancel = async () => {
    await new Promise((resolve) => setTimeout(resolve)); // lets a cancellation in
    if (cancelled.has(id)) throw new DOMException("cancelled", "AbortError");
  };
  const progress = async (value) => {
    self.postMessage({ id, progress: value });
    if (method !== "load") await letCancel(); // a model is loaded whole
  };
  try {
    await letCancel();
    self.postMessage({ id, result: await methods[method](args, progress) });
  } catch (error) {
    self.postMessage({ id, error: { name: error.name, message: String(error.message ?? error) } });
  } finally {
    cancelled.delete(id);
  }
}
