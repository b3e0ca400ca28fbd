// Noise from a seed: the same seed gives the same numbers, and so the same pictures.

/** A source of uniform numbers in (0, 1): sfc32, started from the seed by a mix of its bits. */
export function uniform(seed) {
  let [a, b, c, d] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, 0x9e3779b9, 1];
  const next = () => {
    const sum = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return ((sum >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 15; i++) next(); // until every bit of the seed has reached every bit
  return next;
}

/** N(0, 1), as Float32Array. */
export function normal(count, source) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(source()));
    const angle = 2 * Math.PI * source();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** Gumbel noise: the largest of logits plus it is a draw from their softmax. */
export function gumbel(count, source) {
  return Float32Array.from({ length: count }, () => -Math.log(-Math.log(source())));
}

/** A seed that nobody has chosen, short enough to be read aloud. */
export function anySeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
}
