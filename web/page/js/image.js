// Any picture -> what a model wants, as lvmzoo.load_images does it: cropped to a centred square,
// resized with an antialiased bicubic filter. The arithmetic is that of Pillow, to the bit: a canvas
// would resize with another filter.

export const MAX_PIXELS = 50_000_000;

// Pillow's fixed point: 8 bits of the pixel, 2 for overshoot, the rest for the coefficient.
const PRECISION = 32 - 8 - 2;
const SUPPORT = 2;

/** What is wrong with a picture, in a sentence for the person who gave it. */
export class PictureError extends Error {
  name = "PictureError";
}

/** Decode a Blob -> {width, height, data: RGBA on black}. */
export async function decodeImage(blob, name = "the picture") {
  if (!blob.size) throw new PictureError(`${name} is empty.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new PictureError(`${name} is not a picture that this browser can read.`);
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    const millions = Math.round((width * height) / 1e6);
    throw new PictureError(`${name} has ${millions} megapixels; at most 50 are read.`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

/**
 * Crop and resize an RGBA picture -> Float32Array (C, H, W) in [0, 1].
 *
 * @param picture {width, height, data}
 * @param shape [C, H, W] with C 1 or 3 and H = W
 * @param content edge of the picture inside the image, with black around it; null for all of it
 */
export function fitImage(picture, [channels, size], content = null) {
  let image = toChannels(picture, channels);
  const inner = content ?? size;
  let margin = 0;
  if (image.width !== size || image.height !== size) {
    if (image.width !== inner || image.height !== inner) image = resizeSquare(image, inner);
    margin = Math.floor((size - inner) / 2);
  }
  const out = new Float32Array(channels * size * size);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++) {
        const value = image.data[(y * image.width + x) * channels + c] / 255;
        out[(c * size + y + margin) * size + x + margin] = value;
      }
    }
  }
  return out;
}

/** RGBA -> {width, height, channels, data} with 1 channel (ITU-R 601, as Pillow's "L") or 3. */
export function toChannels({ width, height, data }, channels) {
  const out = new Uint8Array(width * height * channels);
  for (let i = 0, j = 0; i < data.length; i += 4, j += channels) {
    if (channels === 1) {
      out[j] = (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
    } else {
      out[j] = data[i];
      out[j + 1] = data[i + 1];
      out[j + 2] = data[i + 2];
    }
  }
  return { width, height, channels, data: out };
}

/** The centred square of a picture, resized to size x size. */
export function resizeSquare({ width, height, channels, data }, size) {
  const edge = Math.min(width, height);
  const columns = coefficients(width, (width - edge) / 2, edge, size);
  const rows = coefficients(height, (height - edge) / 2, edge, size);
  const narrow = new Uint8Array(height * size * channels);
  const wide = { outer: height, inSize: width, inner: channels };
  resample(data, wide, columns, narrow);
  const out = new Uint8Array(size * size * channels);
  resample(narrow, { outer: 1, inSize: height, inner: size * channels }, rows, out);
  return { width: size, height: size, channels, data: out };
}

/** Resample the middle axis of (outer, inSize, inner) bytes. */
function resample(data, { outer, inSize, inner }, { starts, weights }, out) {
  const size = starts.length;
  for (let o = 0; o < outer; o++) {
    for (let x = 0; x < size; x++) {
      const kernel = weights[x];
      const from = (o * inSize + starts[x]) * inner;
      const to = (o * size + x) * inner;
      for (let i = 0; i < inner; i++) {
        let sum = 1 << (PRECISION - 1);
        for (let k = 0; k < kernel.length; k++) sum += data[from + k * inner + i] * kernel[k];
        out[to + i] = Math.max(0, Math.min(255, sum >> PRECISION));
      }
    }
  }
}

/** For each output, the first input that it sees and the fixed-point weights from there on. */
function coefficients(inSize, start, length, size) {
  const scale = length / size;
  const stretch = Math.max(scale, 1); // a reduction widens the filter: antialiasing
  const starts = [];
  const weights = [];
  for (let x = 0; x < size; x++) {
    const centre = start + (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - SUPPORT * stretch + 0.5));
    const last = Math.min(inSize, Math.trunc(centre + SUPPORT * stretch + 0.5));
    const kernel = [];
    for (let i = first; i < last; i++) kernel.push(bicubic((i - centre + 0.5) * (1 / stretch)));
    const total = kernel.reduce((a, b) => a + b, 0);
    starts.push(first);
    weights.push(Int32Array.from(kernel, (w) => roundAway((w / total) * 2 ** PRECISION)));
  }
  return { starts, weights };
}

function roundAway(x) {
  return Math.trunc(x < 0 ? x - 0.5 : x + 0.5);
}

function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}
