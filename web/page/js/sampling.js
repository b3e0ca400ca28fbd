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

/** How many particles a hole takes: one where no known code follows a hidden one. */
export function particlesFor(known, particles = 1) {
  const first = known ? known.indexOf(false) : -1;
  return first >= 0 && known.includes(true, first) ? particles : 1;
}

/**
 * Draw n grids of codes, (n, h, w).
 *
 * With known codes behind a hidden one, many particles draw each grid: a known code weighs them by
 * its probability, those of little weight are replaced by others, and one of them is drawn at the
 * end (sequential Monte Carlo, as in lvmzoo/completion.py).
 *
 * @param run (graph, inputs by name) -> outputs by name; a tensor is {data, dims}
 * @param facts `codes` and `sampling` of lvmzoo.json
 * @param noise Gumbel noise (h, w, n particles, K)
 * @param label a class, or null
 * @param guidance w in (1 + w) logits given the label - w logits without
 * @param given codes (h, w) that are kept where `known`
 * @param known booleans (h, w)
 * @param particles for each grid, where they help; see `particlesFor`
 * @param starts where resampling starts at each code and at the end, (h w + 1, n) in [0, 1)
 * @param onRow called after each row with the share that is done; may wait, or throw to stop
 */
export async function fillGrids(run, facts, n, noise, options = {}) {
  const { label = null, guidance = 0, given = null, known = null, onRow = null } = options;
  const { temperature = 1, starts = null } = options;
  const { num_codes: numCodes, grid } = facts.codes;
  const { outside, no_label: noLabel, above, left_codes: before, ...shapes } = facts.sampling;
  const [height, width] = grid;
  const cells = height * width;
  const particles = particlesFor(known, options.particles);
  const guided = guidance > 0 && label !== null;
  const first = known ? known.indexOf(false) : 0;
  const end = known && particles === 1 ? known.lastIndexOf(false) + 1 : cells;

  // The grids that are followed side by side: the given one down to its first hidden row. Under
  // guidance the graphs have each twice, with its label and without.
  let count = given ? 1 : n;
  let codes = given ? Int32Array.from(given, Number) : new Int32Array(n * cells);
  let logWeights = new Float64Array(count);
  let rows = zeros([guided ? 2 * count : count, ...shapes.rows]);
  let [columns, left] = [[], null];
  const select = (index) => {
    const both = guided ? [...index, ...index.map((i) => i + count)] : index;
    codes = pick({ data: codes, dims: [count] }, index).data;
    logWeights = pick({ data: logWeights, dims: [count] }, index).data;
    rows = pick(rows, both);
    columns = columns.map((column) => pick(column, both));
    left &&= pick(left, both);
    count = index.length;
  };
  const at = (i, y, x) => {
    return y < 0 || x < 0 ? outside : codes[((i % count) * height + y) * width + x];
  };
  const expand = () => select(new Array(n * particles).fill(0));

  for (let y = 0; y * width < end; y++) {
    if (given && y === Math.floor(first / width)) expand();
    const batch = rows.dims[0];
    const inputs = { codes: table([batch, above, width], (i, a, x) => at(i, y - above + a, x)), rows };
    if (noLabel !== null) {
      const labels = new Int32Array(batch).fill(label ?? noLabel);
      if (guided) labels.fill(noLabel, count);
      inputs.labels = { data: labels, dims: [batch] };
    }
    const row = await run("row", inputs);
    rows = row.next_rows;
    columns = unstack(row.base);
    left = zeros([batch, ...shapes.left]);
    for (let cell = y * width; cell < Math.min(end, (y + 1) * width); cell++) {
      const x = cell - y * width;
      const hidden = !known?.[cell];
      if (hidden && particles > 1) {
        const index = survivors(logWeights, particles, starts.subarray(cell * n, (cell + 1) * n));
        if (index) select(index);
      }
      const column = await run("column", {
        codes: table([rows.dims[0], before], (i, b) => at(i, y, x - before + b)),
        base: columns[x],
        left,
      });
      left = column.next_left;
      const logits = guided ? guide(column.logits.data, guidance) : column.logits.data;
      if (hidden) {
        const step = cell * count * numCodes;
        const own = noise.subarray(step, step + count * numCodes);
        drawCodes(logits, own, numCodes, options).forEach((code, i) => (codes[i * cells + cell] = code));
      } else if (particles > 1) {
        const kept = new Int32Array(count).fill(codes[cell]);
        const tempered = logits.map((value) => value / temperature);
        const nats = logProb(tempered, kept, numCodes, 1);
        logWeights.forEach((weight, i) => (logWeights[i] = weight + Math.max(nats[i], -1e30)));
      }
    }
    await onRow?.((y + 1) / height);
  }
  if (first < 0) expand(); // nothing was hidden
  if (particles > 1) {
    const last = starts.subarray(cells * n);
    select(
      Array.from(last, (start, g) => {
        const { weights } = weightsOf(logWeights, g * particles, particles);
        return g * particles + systematic(weights, 1, start)[0];
      }),
    );
  }
  return codes;
}

/** The particles that go on, or null if all do; the weights of a group that is resampled change. */
function survivors(logWeights, particles, starts) {
  let resampled = false;
  const index = Array.from(logWeights.keys());
  starts.forEach((start, g) => {
    const from = g * particles;
    const { weights, logMean } = weightsOf(logWeights, from, particles);
    if (1 / weights.reduce((sum, w) => sum + w * w, 0) >= particles / 2) return;
    systematic(weights, particles, start).forEach((m, i) => (index[from + i] = from + m));
    logWeights.fill(logMean, from, from + particles);
    resampled = true;
  });
  return resampled ? index : null;
}

/** The weights of a group, of sum 1, and the logarithm of their mean. */
function weightsOf(logWeights, from, particles) {
  const own = logWeights.subarray(from, from + particles);
  const most = own.reduce((a, b) => Math.max(a, b));
  const weights = own.map((value) => Math.exp(value - most));
  const total = weights.reduce((a, b) => a + b);
  return { weights: weights.map((w) => w / total), logMean: most + Math.log(total / particles) };
}

/** Draw `count` indices by their weights, evenly spaced from a start in [0, 1). */
function systematic(weights, count, start) {
  let [i, sum] = [0, weights[0]];
  return Array.from({ length: count }, (_, k) => {
    while (i + 1 < weights.length && sum <= (k + start) / count) sum += weights[++i];
    return i;
  });
}

/** Take parts of a tensor along its first dimension. */
function pick({ data, dims }, index) {
  const size = data.length / dims[0];
  const out = new data.constructor(index.length * size);
  index.forEach((from, i) => out.set(data.subarray(from * size, (from + 1) * size), i * size));
  return { data: out, dims: [index.length, ...dims.slice(1)] };
}

function unstack({ data, dims: [count, ...dims] }) {
  const size = data.length / count;
  return Array.from({ length: count }, (_, i) => ({ data: data.slice(i * size, (i + 1) * size), dims }));
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
