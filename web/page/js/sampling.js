// Grids of codes, drawn in raster order by the two graphs `row` and `column`, whose inputs and
// outputs lvmzoo.json describes. The noise of a whole grid is drawn before its first code.

/**
 * Draw one code for each of n grids from softmax(logits / temperature), cut to the likeliest codes.
 *
 * @param logits (n, K); changed
 * @param noise Gumbel noise (n, K)
 * @param topP draw among the fewest codes that together have at least this probability
 */
export function drawCodes(logits, noise, numCodes, { temperature = 1, topP = 1 } = {}) {
  const codes = new Int32Array(noise.length / numCodes);
  for (let i = 0; i < codes.length; i++) {
    const row = logits.subarray(i * numCodes, (i + 1) * numCodes);
    if (temperature !== 1) {
      const most = row.reduce((a, b) => Math.max(a, b));
      for (let k = 0; k < numCodes; k++) row[k] = (row[k] - most) / temperature;
    }
    if (topP < 1) keepLikeliest(row, topP);
    let best = -Infinity;
    for (let k = 0; k < numCodes; k++) {
      const value = row[k] + noise[i * numCodes + k];
      if (value > best) [best, codes[i]] = [value, k];
    }
  }
  return codes;
}

function keepLikeliest(row, topP) {
  const order = Array.from(row.keys()).sort((a, b) => row[b] - row[a] || a - b);
  const weights = order.map((k) => Math.exp(row[k] - row[order[0]]));
  const total = weights.reduce((a, b) => a + b);
  let before = 0; // the probability of the likelier codes
  order.forEach((k, rank) => {
    if (rank > 0 && before >= topP) row[k] = -Infinity;
    before += weights[rank] / total;
  });
}

/** log softmax over K of logits (n, K, cells) at codes (n, cells): (n, cells) in nats. */
export function logProb(logits, codes, numCodes, cells) {
  const out = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const at = (k) => logits[(Math.floor(i / cells) * numCodes + k) * cells + (i % cells)];
    let most = -Infinity;
    for (let k = 0; k < numCodes; k++) most = Math.max(most, at(k));
    let sum = 0;
    for (let k = 0; k < numCodes; k++) sum += Math.exp(at(k) - most);
    out[i] = at(Number(codes[i])) - most - Math.log(sum);
  }
  return out;
}

/**
 * Draw n grids of codes, (n, h, w).
 *
 * @param run (graph, inputs by name) -> outputs by name; a tensor is {data, dims}
 * @param facts `codes` and `sampling` of lvmzoo.json
 * @param noise Gumbel noise (h, w, n, K)
 * @param label a class, or null
 * @param guidance w in (1 + w) logits given the label - w logits without
 * @param given codes (h, w) that are kept where `known`
 * @param known booleans (h, w)
 * @param onRow called after each row with the share that is done; may wait, or throw to stop
 */
export async function fillGrids(run, facts, n, noise, options = {}) {
  const { label = null, guidance = 0, given = null, known = null, onRow = null } = options;
  const { num_codes: numCodes, grid } = facts.codes;
  const { outside, no_label: noLabel, above, left_codes: before, ...shapes } = facts.sampling;
  const [height, width] = grid;
  const guided = guidance > 0 && label !== null;
  const batch = guided ? 2 * n : n;
  const labels = new Int32Array(batch).fill(label ?? noLabel ?? 0);
  if (guided) labels.fill(noLabel, n);
  const codes = new Int32Array(n * height * width);
  const at = (i, y, x) => {
    return y < 0 || x < 0 ? outside : codes[((i % n) * height + y) * width + x];
  };
  let rows = zeros([batch, ...shapes.rows]);
  for (let y = 0; y < height; y++) {
    const seen = table([batch, above, width], (i, a, x) => at(i, y - above + a, x));
    const inputs = { codes: seen, rows };
    if (noLabel !== null) inputs.labels = { data: labels, dims: [batch] };
    const row = await run("row", inputs);
    rows = row.next_rows;
    let left = zeros([batch, ...shapes.left]);
    const size = row.base.data.length / width;
    for (let x = 0; x < width; x++) {
      const column = await run("column", {
        codes: table([batch, before], (i, b) => at(i, y, x - before + b)),
        base: { data: row.base.data.slice(x * size, (x + 1) * size), dims: row.base.dims.slice(1) },
        left,
      });
      left = column.next_left;
      const logits = guided ? guide(column.logits.data, guidance) : column.logits.data;
      const step = (y * width + x) * n * numCodes;
      const drawn = drawCodes(logits, noise.subarray(step, step + n * numCodes), numCodes, options);
      const kept = known?.[y * width + x];
      for (let i = 0; i < n; i++) {
        codes[(i * height + y) * width + x] = kept ? given[y * width + x] : drawn[i];
      }
    }
    await onRow?.((y + 1) / height);
  }
  return codes;
}

function guide(logits, weight) {
  const half = logits.length / 2;
  return logits.subarray(0, half).map((v, i) => (1 + weight) * v - weight * logits[half + i]);
}

function zeros(dims) {
  return { data: new Float32Array(dims.reduce((a, b) => a * b)), dims };
}

/** Integers by a function of their indices. */
function table(dims, value) {
  const data = new Int32Array(dims.reduce((a, b) => a * b));
  const index = dims.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = value(...index);
    for (let d = dims.length - 1; d >= 0 && ++index[d] === dims[d]; d--) index[d] = 0;
  }
  return { data, dims };
}
