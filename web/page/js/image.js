// Any picture -> what a model wants, as lvmzoo.load_images does it: the centred square, resized.
// The browser resizes with a filter of its own, so that values differ a little from Python's.

import { UserError } from "./errors.js";

const MOST = 512; // the edge at which pictures are kept: phones give small canvases only

/** The centred square of a file's picture, made smaller if it is large -> ImageBitmap. */
export async function readPicture(blob, name) {
  if (!blob.size) throw new UserError(`${name} is empty.`);
  const picture = new Image();
  picture.src = URL.createObjectURL(blob);
  try {
    await picture.decode();
    const { naturalWidth: width, naturalHeight: height } = picture;
    const edge = Math.min(width, height);
    const options = { ...resized(Math.min(edge, MOST)), colorSpaceConversion: "none" };
    return await createImageBitmap(picture, (width - edge) / 2, (height - edge) / 2, edge, edge, options);
  } catch {
    throw new UserError(`${name} is not a picture that this browser can read.`);
  } finally {
    URL.revokeObjectURL(picture.src);
  }
}

/**
 * A square picture as Float32Array (C, H, W) in [0, 1].
 *
 * @param picture ImageBitmap or canvas
 * @param shape [C, H, W] with C 1 or 3 and H = W
 * @param content edge of the picture inside the image, with black around it
 */
export async function fitImage(picture, [channels, size], content = size) {
  const inner = picture.width === size ? size : content;
  const margin = Math.floor((size - inner) / 2);
  const small = picture.width === inner ? picture : await createImageBitmap(picture, resized(inner));
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const context = canvas.getContext("2d", { alpha: false });
  context.drawImage(small, margin, margin);
  const { data } = context.getImageData(0, 0, size, size);
  const out = new Float32Array(channels * size * size);
  for (let i = 0; i < size * size; i++) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    // ITU-R 601, rounded as Pillow rounds it.
    if (channels === 1) out[i] = ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) / 255;
    else [r, g, b].forEach((value, c) => (out[c * size * size + i] = value / 255));
  }
  return out;
}

function resized(edge) {
  return { resizeWidth: edge, resizeHeight: edge, resizeQuality: "high" };
}
