// What a page can say of an image x without a kernel: q(z|x) = N(mu, sigma^2), and with two latents
// the exact posterior on a lattice, log p(x), the ELBO and the gap between them.
//
// log p(x|z) = x . l(z) - A(z), where l(z) are the decoder's log-odds, W h(z) + b, and
// A(z) = sum_d log(1 + exp l_d(z)) is the same for every image: Python computed it on the lattice.
// What is left for an image is x . l(z) = (W^T x) . h(z) + b . x, one number a hidden unit.

const NEGLIGIBLE = 18; // nats below the highest point: e^-18 = 1.5e-8 of it is left out
const STRIDE = 4; // lattice steps from scout to scout: 0.1
const EDGE_SHARE = 0.01; // of the posterior that may lie within a scout of the edge: some 0.02 nats lie beyond
const COARSE = 0.2; // nats that the sum moves at twice the spacing (it errs by a seventh of that): more, and it is summed anew
const FINER = 2; // times as many points along each axis, then
const MOST_POINTS = 20_000; // of such a sum
const NARROW = 0.8; // steps of the lattice: sums over a narrower q take their own points
const REACH = 6; // standard deviations of q that a sum over it covers

const softplus = x => (x > 0 ? x + Math.log(1 + Math.exp(-x)) : Math.log(1 + Math.exp(x)));

/** Layers [in, out, name] with their own pieces of the packed weights, W (out, in) and then b. */
function layersOf(bytes, rows) {
  const numbers = unpackFloat16(bytes);
  let start = 0;
  return rows.map(([inputs, outputs, name]) => {
    const W = numbers.subarray(start, start += inputs * outputs);
    const b = numbers.subarray(start, start += outputs);
    return { inputs, outputs, name, follow: followers[name], W, b };
  });
}

/** A(z) from its differences, and where it is known. Two running sums undo what Python did. */
function latticeOf(bytes, { extent, spacing, start, steps }) {
  const side = Math.round((2 * extent) / spacing) + 1; // points along each axis
  const numbers = new DataView(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength);
  const A = new Float32Array(side * side); // z2 runs fastest
  const above = new Int32Array(side);
  for (let i = 0; i < side; i++) {
    for (let j = 0, across = 0; j < side; j++) {
      across += numbers.getInt16(2 * (i * side + j), true);
      above[j] += across;
      A[i * side + j] = (start + above[j]) / steps;
    }
  }
  return { A, side, spacing, extent };
}

/** The model that a widget's traits hold; null if their bytes are not as many as they should be. */
export function modelOf({ spec, weights, encoder, partition }) {
  const needed = rows => rows.reduce((sum, [inputs, outputs]) => sum + 2 * (inputs + 1) * outputs, 0);
  const latents = spec.layers[0][0], side = Math.round((2 * spec.extent) / spec.spacing) + 1;
  const whole = weights.byteLength === needed(spec.layers)
    && encoder.byteLength === needed(spec.encoder.layers)
    && partition.byteLength === (latents === 2 ? 2 * side * side : 0);
  if (!whole) return null;
  const decoder = layersOf(weights, spec.layers);
  return {
    latents, decoder, hidden: decoder.slice(0, -1), last: decoder.at(-1),
    encoder: layersOf(encoder, spec.encoder.layers), heads: spec.encoder,
    lattice: latents === 2 ? latticeOf(partition, spec) : null,
    bends: decoder.length === 2 ? BENDS[decoder[0].name] : undefined,
  };
}

/** Run layers, the last of them without what follows it. */
function run(layers, h) {
  for (const { inputs, outputs, follow, W, b } of layers) {
    const next = new Float64Array(outputs), last = W === layers.at(-1).W;
    for (let o = 0, w = 0; o < outputs; o++) {
      let sum = b[o];
      for (let i = 0; i < inputs; i++) sum += W[w++] * h[i];
      next[o] = last ? sum : follow(sum);
    }
    h = next;
  }
  return h;
}

// What the second head gives, by the names of SPREADS in Python, as a log-variance.
const LOG_VARIANCE = {
  "log-variance": s => s,
  "log standard deviation": s => 2 * s,
  "standard deviation": s => 2 * Math.log(s),
  variance: s => Math.log(s),
};
const LOGVAR_LIMIT = 10; // as nets.LOGVAR_LIMIT

/** q(z|x) of pixels 0 or 1: { mu, logvar, sigma }, L numbers each. */
export function encode({ encoder, heads, latents }, pixels) {
  const out = run(encoder, pixels);
  const logvar = Array.from(out.slice(latents), s => Math.max(-LOGVAR_LIMIT,
    Math.min(LOGVAR_LIMIT, LOG_VARIANCE[heads.spread](followers[heads.follower](s)))));
  return { mu: [...out.slice(0, latents)], logvar, sigma: logvar.map(s => Math.exp(s / 2)) };
}

const logits = (model, z) => run(model.decoder, z);
const logPrior = z => -0.5 * z.reduce((sum, c) => sum + c * c + Math.log(2 * Math.PI), 0);
const klOf = ({ mu, logvar }) =>
  0.5 * mu.reduce((sum, m, i) => sum + m * m + Math.exp(logvar[i]) - 1 - logvar[i], 0);

/** An image as the decoder's last layer sees it: x . l(z) = v . h(z) + offset. */
function projected({ last: { inputs, outputs, W, b } }, pixels) {
  const v = new Float64Array(inputs);
  let offset = 0;
  for (let d = 0; d < outputs; d++) {
    if (!pixels[d]) continue;
    offset += b[d];
    for (let k = 0, w = d * inputs; k < inputs; k++) v[k] += W[w + k];
  }
  return { v, offset };
}

// Slopes below and above 0 of what bends there once, so that a row can be summed bend by bend.
const BENDS = { relu: [0, 1], leaky_relu: [0.01, 1], "leaky_relu_0.2": [0.2, 1], nothing: [1, 1] };

/** The hidden units on the points (z1, first), (z1, first + step), ... of a row. A ReLU is straight
 * along a line but for one bend, so each unit is told as tell(n, unit, height, slope): from point n on
 * add height + slope * (the point's number). Once from 0 on, and once more where it bends. */
function unitsAlongRow({ bends: [below, above], hidden: [{ W, b, outputs }] }, z1, first, step, count, tell) {
  for (let k = 0; k < outputs; k++) {
    const start = W[2 * k] * z1 + W[2 * k + 1] * first + b[k], slope = W[2 * k + 1] * step;
    const active = start > 0 || (start === 0 && slope > 0), now = active ? above : below;
    tell(0, k, now * start, now * slope);
    const bend = Math.ceil(-start / slope), change = below + above - 2 * now;
    if (bend > 0 && bend < count) tell(bend, k, change * start, change * slope); // not for NaN
  }
}

/** h(z), point by point: for whatever does not bend as a ReLU does. */
const unitsAt = (model, z) => model.hidden.reduce((h, layer) => run([layer], h).map(layer.follow), z);

/** x . l(z) at the points of a row. The sum of straight pieces is straight from bend to bend: 400
 * units and 400 points cost 800 steps, where unit by unit they cost 160,000. */
function alongRow(model, { v, offset }, z1, first, step, count) {
  const row = new Float64Array(count);
  if (!model.bends) {
    return row.map((_, n) => unitsAt(model, [z1, first + step * n]).reduce((sum, h, k) => sum + v[k] * h, offset));
  }
  const jumps = new Float64Array(count), turns = new Float64Array(count);
  unitsAlongRow(model, z1, first, step, count, (n, k, height, slope) => {
    jumps[n] += v[k] * height;
    turns[n] += v[k] * slope;
  });
  for (let n = 0, height = offset, slope = 0; n < count; n++) {
    height += jumps[n];
    slope += turns[n];
    row[n] = height + slope * n;
  }
  return row;
}

/** A(z) at the points of a row, off the lattice: every log-odds is straight from bend to bend, too. */
function partitionAlongRow(model, z1, first, step, count) {
  const { W, b, inputs, outputs } = model.last, row = new Float64Array(count);
  if (!model.bends) {
    return row.map((_, n) => logits(model, [z1, first + step * n]).reduce((sum, l) => sum + softplus(l), 0));
  }
  const height = Float64Array.from(b), slope = new Float64Array(outputs);
  const told = Array.from({ length: count }, () => []);
  unitsAlongRow(model, z1, first, step, count, (n, ...unit) => told[n].push(unit));
  for (let n = 0; n < count; n++) {
    for (const [k, up, turn] of told[n]) {
      for (let d = 0, w = k; d < outputs; d++, w += inputs) {
        height[d] += W[w] * up;
        slope[d] += W[w] * turn;
      }
    }
    let sum = 0;
    for (let d = 0; d < outputs; d++) sum += softplus(height[d] + slope[d] * n);
    row[n] = sum;
  }
  return row;
}

/** log p(x|z) on part of the lattice: every `stride`-th point of rows and columns
 * [top, bottom) x [left, right). Returns a table { values, rows, columns, z1, z2, step, ... }. */
function onLattice(model, image, [top, bottom, left, right], stride = 1) {
  const { A, side, spacing, extent } = model.lattice, at = k => k * spacing - extent;
  const rows = Math.ceil((bottom - top) / stride), columns = Math.ceil((right - left) / stride);
  const values = new Float64Array(rows * columns), step = stride * spacing;
  for (let i = 0; i < rows; i++) {
    const row = alongRow(model, image, at(top + i * stride), at(left), step, columns);
    for (let j = 0, a = (top + i * stride) * side + left; j < columns; j++, a += stride) {
      values[i * columns + j] = row[j] - A[a];
    }
  }
  return { values, rows, columns, z1: at(top), z2: at(left), step, top, left, stride };
}

/** The same on points off the lattice, where A(z) is not known yet: for what is narrower than the lattice. */
function onOwnPoints(model, image, { z1, z2, rows, columns, step }) {
  const values = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const row = alongRow(model, image, z1 + i * step, z2, step, columns);
    const A = partitionAlongRow(model, z1 + i * step, z2, step, columns);
    for (let j = 0; j < columns; j++) values[i * columns + j] = row[j] - A[j];
  }
  return { values, rows, columns, z1, z2, step };
}

/** Add log p(z) to a table of log p(x|z). */
function withPrior(table) {
  const { values, rows, columns, z1, z2, step } = table;
  for (let i = 0; i < rows; i++) {
    const a = z1 + i * step, flat = -0.5 * a * a - Math.log(2 * Math.PI);
    for (let j = 0; j < columns; j++) values[i * columns + j] += flat - 0.5 * (z2 + j * step) ** 2;
  }
  return table;
}

/** The rows and columns [top, bottom, left, right) of a table where its mass lies, one more around. */
function massOf({ values, rows, columns }) {
  let highest = -Infinity, top = rows, bottom = 0, left = columns, right = 0;
  for (const value of values) if (value > highest) highest = value;
  for (let i = 0, k = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, k++) {
      if (values[k] < highest - NEGLIGIBLE) continue;
      top = Math.min(top, i);
      bottom = Math.max(bottom, i + 1);
      left = Math.min(left, j);
      right = Math.max(right, j + 1);
    }
  }
  return [Math.max(0, top - 1), Math.min(rows, bottom + 1), Math.max(0, left - 1), Math.min(columns, right + 1)];
}

/** The integral of exp(table): { logSum, moved, highest }. `moved` is how far it moves, at most, on
 * every second point along each axis, for the four ways to begin. */
function integral({ values, rows, columns, step }) {
  let highest = -Infinity;
  for (const value of values) if (value > highest) highest = value;
  const sums = [0, 0, 0, 0];
  for (let i = 0, k = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, k++) {
      if (values[k] > highest - NEGLIGIBLE) sums[2 * (i % 2) + (j % 2)] += Math.exp(values[k] - highest);
    }
  }
  const total = sums[0] + sums[1] + sums[2] + sums[3];
  const moved = Math.max(...sums.map(sum => Math.abs(Math.log((4 * sum) / total))));
  return { logSum: highest + Math.log(total) + 2 * Math.log(step), moved, highest, total };
}

/** The share of a posterior's mass that lies within a scout of the plane's edge. */
function shareOnEdge({ values, rows, columns, top, left }, { side }, { highest, total }) {
  let sum = 0;
  const isEdge = k => k < STRIDE || k >= side - STRIDE;
  for (let i = 0, k = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, k++) {
      if (isEdge(top + i) || isEdge(left + j)) sum += Math.exp(values[k] - highest);
    }
  }
  return sum / total;
}

/** Exact log p(x) and the posterior: { logP, table }, the table of log p(x, z) where its mass lies.
 * Or { problem }: "outside" if the posterior leaves the plane, "narrow" if no sum is fine enough. */
function integrate(model, image) {
  const { side } = model.lattice;
  const scouts = withPrior(onLattice(model, image, [0, side, 0, side], STRIDE));
  const box = massOf(scouts).map((k, which) => Math.min(side, STRIDE * k - (which % 2 ? STRIDE - 1 : 0)));
  let table = withPrior(onLattice(model, image, box)), sum = integral(table);
  if (!(shareOnEdge(table, model.lattice, sum) < EDGE_SHARE)) return { problem: "outside" };
  while (!(sum.moved < COARSE)) {
    const [top, bottom, left, right] = massOf(table), { z1, z2, step } = table;
    const own = { z1: z1 + top * step, z2: z2 + left * step, step: step / FINER,
      rows: (bottom - top - 1) * FINER + 1, columns: (right - left - 1) * FINER + 1 };
    if (!(own.rows * own.columns <= MOST_POINTS)) return { problem: "narrow" };
    table = withPrior(onOwnPoints(model, image, own));
    sum = integral(table);
  }
  return { logP: sum.logSum, table, highest: sum.highest, moved: sum.moved };
}

/** E_q[log p(x|z)]: the reconstruction term. On the lattice, where q covers enough of its points;
 * else on eps = -6, -5, ..., 6 along each axis (a sum over a Gaussian errs by e^-19 there). */
function reconstruction(model, image, { mu, sigma }) {
  const { side, spacing, extent } = model.lattice;
  const fits = mu.every((m, i) => sigma[i] > NARROW * spacing && Math.abs(m) + REACH * sigma[i] < extent);
  if (!fits) return onEps(model, image, mu, sigma);
  const table = onLattice(model, image, mu.flatMap((m, i) => [
    Math.floor((m - REACH * sigma[i] + extent) / spacing),
    Math.min(side, Math.ceil((m + REACH * sigma[i] + extent) / spacing) + 1)]));
  let total = 0, sum = 0;
  for (let i = 0, k = 0; i < table.rows; i++) {
    const first = ((table.z1 + i * table.step - mu[0]) / sigma[0]) ** 2;
    for (let j = 0; j < table.columns; j++, k++) {
      const weight = Math.exp(-0.5 * (first + ((table.z2 + j * table.step - mu[1]) / sigma[1]) ** 2));
      total += weight;
      sum += weight * table.values[k];
    }
  }
  return sum / total;
}

function onEps(model, image, mu, sigma) {
  let total = 0, sum = 0;
  for (let e1 = -REACH; e1 <= REACH; e1++) {
    for (let e2 = -REACH; e2 <= REACH; e2++) {
      const weight = Math.exp(-0.5 * (e1 * e1 + e2 * e2));
      if (weight < 1e-8) continue;
      total += weight;
      sum += weight * logConditional(model, image, [mu[0] + sigma[0] * e1, mu[1] + sigma[1] * e2]);
    }
  }
  return sum / total;
}

/** log p(x|z) at one z, decoded. */
function logConditional(model, { pixels }, z) {
  return logits(model, z).reduce((sum, l, d) => sum + (pixels[d] ? l : 0) - softplus(l), 0);
}

const fromQ = ({ mu, sigma }, eps) => mu.map((m, i) => m + sigma[i] * eps[i]);

/** For other than two latents: the importance-weighted bound with draws `noise` (k of eps (L)),
 * and the mean of log p(x|z) over the same draws. */
function sampled(model, image, q, noise) {
  const weights = [], fits = noise.map(eps => {
    const z = fromQ(q, eps), fit = logConditional(model, image, z);
    const logQ = logPrior(eps) - 0.5 * q.logvar.reduce((sum, s) => sum + s, 0);
    weights.push(fit + logPrior(z) - logQ);
    return fit;
  });
  const highest = Math.max(...weights);
  const mean = weights.reduce((sum, w) => sum + Math.exp(w - highest), 0) / noise.length;
  return { bound: highest + Math.log(mean), fit: fits.reduce((sum, f) => sum + f, 0) / noise.length };
}

/** Decoder means at z = mu + sigma * eps: { z, mean }, each pixel's probability. */
export function decodedAt(model, q, eps) {
  const z = fromQ(q, eps);
  return { z, mean: logits(model, z).map(sigmoid) };
}

/** How high log p(x, z) is, at least, where 50 % and 95 % of the posterior lie. Between four points of
 * the table the surface is the one that is painted, seen at 3 x 3 places. */
export function levelsOf({ values, rows, columns }, highest) {
  const bins = 500, depth = 10, mass = new Float64Array(bins); // of 0.02 nats; e^-10 is left out
  const places = [1 / 6, 1 / 2, 5 / 6];
  for (let i = 0; i < rows - 1; i++) {
    for (let j = 0, k = i * columns; j < columns - 1; j++, k++) {
      const [v, w, x, y] = [values[k], values[k + 1], values[k + columns], values[k + columns + 1]];
      if (Math.max(v, w, x, y) < highest - depth) continue;
      for (const a of places) for (const b of places) {
        const below = highest - (1 - a) * ((1 - b) * v + b * w) - a * ((1 - b) * x + b * y);
        if (below < depth) mass[Math.floor((below / depth) * bins)] += Math.exp(-below);
      }
    }
  }
  const total = mass.reduce((sum, m) => sum + m, 0);
  return [0.5, 0.95].map(share => {
    let sum = 0, bin = 0;
    while (sum < share * total) sum += mass[bin++];
    return highest - (bin / bins) * depth;
  });
}

/** The ledger of an image: log_p = elbo + gap, elbo = reconstruction - kl. With a `problem` in place
 * of numbers that would be wrong. `noise`: draws of eps, of which models with other than two latents
 * use all, for the bound that stands in for log p(x). */
export function ledgerOf(model, pixels, noise) {
  const q = encode(model, pixels), kl = klOf(q), none = { log_p: null, gap: null };
  const image = { pixels, ...projected(model, pixels) };
  if (model.latents !== 2) {
    const { bound, fit } = sampled(model, image, q, noise);
    return { q, kl, ...none, bound, reconstruction: fit, elbo: fit - kl };
  }
  const { problem, logP, table, highest, moved } = integrate(model, image);
  if (problem) return { q, kl: null, ...none, problem, reconstruction: null, elbo: null };
  const fit = reconstruction(model, image, q), elbo = fit - kl;
  return { q, kl, log_p: logP, gap: logP - elbo, reconstruction: fit, elbo, table, highest, moved };
}
