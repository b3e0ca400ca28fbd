// The page's side of the worker: the model that it holds, and methods that return promises.

import { UserError } from "./errors.js";
import { fetchJson } from "./fetching.js";

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let last = 0;
let broken = null; // why the worker does not run
let loaded = null; // {row, facts} of the model that the worker holds or fetches

/** Where the files of a model lie. */
export function folderOf(row) {
  return new URL(`models/${row.folder}/`, document.baseURI);
}

/** Have the worker hold a model, unless it does -> what lvmzoo.json says of it. */
export function load(row, onProgress) {
  if (loaded?.row !== row) {
    const started = { row };
    loaded = started;
    started.facts = fetchModel(row, onProgress).catch((error) => {
      if (loaded === started) loaded = null;
      throw error;
    });
  }
  return loaded.facts;
}

async function fetchModel(row, onProgress) {
  const folder = folderOf(row);
  const facts = await fetchJson(new URL("lvmzoo.json", folder));
  if (loaded.row !== row) throw new DOMException("another model was chosen", "AbortError");
  await call("load", { folder: folder.href, facts }, { onProgress });
  onProgress(1);
  return facts;
}

/**
 * Have the worker do something.
 *
 * @param onProgress called with the share that is done
 * @param signal an AbortSignal; the promise is then rejected with an AbortError
 */
export function call(method, args = {}, { onProgress = null, signal = null } = {}) {
  const id = ++last;
  return new Promise((resolve, reject) => {
    if (broken) throw broken;
    waiting.set(id, { resolve, reject, onProgress });
    const cancel = () => waiting.has(id) && worker.postMessage({ cancel: id });
    signal?.addEventListener("abort", cancel, { once: true });
    worker.postMessage({ id, method, args });
    if (signal?.aborted) cancel();
  });
}

worker.addEventListener("message", ({ data: { id, result, error, progress } }) => {
  const call = waiting.get(id);
  if (progress !== undefined) return call?.onProgress?.(progress);
  waiting.delete(id);
  if (!error) call?.resolve(result);
  else if (error.name === "UserError") call?.reject(new UserError(error.message));
  else call?.reject(new DOMException(error.message, error.name));
});

worker.addEventListener("error", () => {
  broken = new UserError(
    "The models do not start: a file of the page is missing, or this browser is too old. Reload the page.",
  );
  for (const { reject } of waiting.values()) reject(broken);
  waiting.clear();
});
