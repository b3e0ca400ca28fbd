// The page's side of the worker: methods that return promises.

/** What the worker could not do. `sentence` says whether its message is meant for people. */
export class ZooError extends Error {
  constructor({ kind, message }) {
    super(message);
    this.name = kind === "AbortError" ? "AbortError" : "ZooError";
    this.sentence = kind === "sentence";
  }
}

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let last = 0;

worker.addEventListener("message", ({ data: { id, result, error, progress } }) => {
  const call = waiting.get(id);
  if (progress !== undefined) return call?.onProgress?.(progress);
  waiting.delete(id);
  if (error) call.reject(new ZooError(error));
  else call.resolve(result);
});

worker.addEventListener("error", (event) => {
  const message = event.message || "this browser cannot run the page's worker";
  for (const call of waiting.values()) call.reject(new ZooError({ kind: "fault", message }));
  waiting.clear();
});

/**
 * Have the worker do something.
 *
 * @param onProgress called with the share that is done
 * @param signal an AbortSignal; the promise is then rejected with an AbortError
 */
export function call(method, args = {}, { onProgress = null, signal = null } = {}) {
  const id = ++last;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject, onProgress });
    const cancel = () => waiting.has(id) && worker.postMessage({ cancel: id });
    signal?.addEventListener("abort", cancel, { once: true });
    worker.postMessage({ id, method, args });
    if (signal?.aborted) cancel();
  });
}
