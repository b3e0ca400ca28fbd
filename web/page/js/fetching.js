// Files that are whole: fetched with progress, of the right size and hash, or a sentence.

/** What went wrong with a file of this page, in a sentence. */
export class FetchError extends Error {
  name = "FetchError";
}

/**
 * Fetch a file as Uint8Array.
 *
 * @param bytes the size that it must have, if known
 * @param sha256 its hash, which is compared where the browser can compute one
 * @param onSize called with the size that the server announces
 * @param onBytes called with how many bytes came in
 */
export async function fetchBytes(url, options = {}) {
  const { bytes = null, sha256 = null, onSize = null, onBytes = null } = options;
  const name = String(url).split("/").pop();
  const response = await request(url, name);
  onSize?.(Number(response.headers.get("Content-Length") ?? 0));
  const reader = response.body.getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    length += value.length;
    onBytes?.(value.length);
  }
  const data = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    data.set(chunk, offset);
    offset += chunk.length;
  }
  const wrong = bytes !== null && length !== bytes;
  if (wrong || (sha256 !== null && !(await hasHash(data, sha256)))) {
    throw new FetchError(`${name} is not the file that lvmzoo.json describes; build the page anew.`);
  }
  return data;
}

/** Fetch JSON. */
export async function fetchJson(url) {
  return (await request(url, String(url).split("/").pop())).json();
}

async function request(url, name) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new FetchError(`${name} cannot be fetched: the server does not answer.`);
  }
  if (!response.ok) throw new FetchError(`${name} cannot be fetched (${response.status}).`);
  return response;
}

async function hasHash(data, sha256) {
  if (!crypto.subtle) return true; // pages that come neither by https nor from this machine
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}
