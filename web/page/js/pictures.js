// The pictures that views work on, in slots "a" and "b". The address says which: a number is a test
// picture, several numbers are the codes or latents of a sample, and nothing is one's own picture,
// or a test picture until there is one. One's own stay when another model is chosen.

import { UserError } from "./errors.js";
import { fitImage } from "./image.js";
import { call } from "./zoo.js";

const FIRST = { a: 13, b: 16 };
const own = {}; // {picture, name} by slot

// The model's card shows 40 test pictures, each row of ten above their reconstructions.
const [COUNT, COLUMNS, GAP] = [40, 10, 2];

/** Keep one's own picture, and tell the views. */
export function keep(slot, picture, name) {
  own[slot] = { picture, name };
  document.dispatchEvent(new CustomEvent("picture", { detail: slot }));
}

/** The test picture after the one that is shown, as the address has it. */
export function nextTestPicture(slot, state) {
  return String(((testPicture(slot, state) ?? FIRST[slot]) + 1) % COUNT);
}

/** The codes or latents of sample `index`, as the address has them. */
export function textOf({ codes, latents }, n, index) {
  const values = codes ?? latents;
  const size = values.length / n;
  const one = Array.from(values.subarray(index * size, (index + 1) * size));
  return (codes ? one : one.map((value) => Number(value.toFixed(3)))).join(",");
}

/** Whether a slot shows one's own picture, which no link holds. */
export function isOwn(slot, state) {
  return slot in own && state.get(slot) === null;
}

/** The picture in a slot as the model takes it -> {image, name}. */
export async function pictureIn(slot, { row, facts, shape, state }, signal) {
  const { content_size: content } = facts.image;
  const z = sampleOf(state.get(slot), facts);
  if (z) return { image: await call("decode", { z }, { signal }), name: "a sample" };
  if (isOwn(slot, state)) {
    const { picture, name } = own[slot];
    return { image: await fitImage(picture, shape, content), name };
  }
  if (!row.pictures) {
    const { images } = await call("sample", { n: 1, seed: slot === "a" ? 1 : 2 }, { signal });
    return { image: images, name: "a sample" };
  }
  const index = testPicture(slot, state) ?? FIRST[slot];
  const picture = await cut(new URL(row.pictures, document.baseURI), index, facts.image.size);
  return { image: await fitImage(picture, shape), name: `test picture ${index + 1} of ${row.data_title}` };
}

function testPicture(slot, state) {
  const text = state.get(slot);
  return /^\d+$/.test(text) && Number(text) < COUNT ? Number(text) : null;
}

function sampleOf(text, { codes, latent_dim: dim }) {
  if (!text?.includes(",")) return null;
  const z = text.split(",").map(Number);
  const size = codes ? codes.grid[0] * codes.grid[1] : dim;
  const possible = (value) => !codes || (Number.isInteger(value) && value >= 0 && value < codes.num_codes);
  if (z.length !== size || !z.every(Number.isFinite) || !z.every(possible)) return null;
  return codes ? Int32Array.from(z) : Float32Array.from(z);
}

async function cut(url, index, size) {
  const sheet = new Image();
  sheet.src = url;
  await sheet.decode().catch(() => {
    throw new UserError("The test pictures cannot be fetched.");
  });
  const [x, y] = [index % COLUMNS, 2 * Math.floor(index / COLUMNS)];
  return createImageBitmap(sheet, GAP + x * (size + GAP), GAP + y * (size + GAP), size, size);
}
