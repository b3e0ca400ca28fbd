// Files that are whole, fetched with progress, or a sentence that says what is wrong.

import { UserError } from "./errors.js";

/**
 * Fetch a file as Uint8Array.
 *
 * @param sha256 its hash, which is compared where the browser can compute one
 * @param onSize called with the size that the server announces
 * @param onBytes called with how many bytes came in
 */
export async function fetchBytes(url, { sha256 = null, onSize = null, onBytes = null } = {}) {
  const response = await request(url);
  onSize?.(Number(response.headers.get("Content-Length")));
  const counted = new TransformStream({
    transform(chunk, out) {
      onBytes?.(chunk.length);
      out.enqueue(chunk);
    },
  });
  const data = await new Response(response.body.pipeThrough(counted)).arrayBuffer().catch(() => {
    throw new UserError(`The connection broke while ${nameOf(url)} was fetched.`);
  });
  // Browsers offer no hash to pages that come neither by https nor from this machine.
  if (sha256 !== null && crypto.subtle && (await hashOf(data)) !== sha256) {
    throw new UserError(`${nameOf(url)} is not the file that belongs to this page: reload it.`);
  }
  return new Uint8Array(data);
}

/** Fetch JSON, and never a copy that the server may have renewed. */
export async function fetchJson(url) {
  return (await request(url, { cache: "no-cache" })).json();
}

export async function fetchText(url) {
  return (await request(url)).text();
}

async function request(url, options = {}) {
  const response = await fetch(url, options).catch(() => {
    throw new UserError(`${nameOf(url)} cannot be fetched: the server does not answer.`);
  });
  if (response.ok) return response;
  throw new UserError(
    `${nameOf(url)} cannot be fetched (${response.status}). ` +
      "If the site has changed since you opened this page, reload it.",
  );
}

function nameOf(url) {
  return url.pathname.split("/").pop();
}

async function hashOf(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
