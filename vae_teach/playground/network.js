// A VAE of points in the plane, as small as one can be: its networks, its two objectives with
// their gradients by hand, Adam, and the exact log p(x). Nothing here touches the page.
// All tensors are flat Float64Arrays, row by row; the trailing comments are their shapes:
// B points of a batch, K samples of each, L latents, E and H hidden units, G points of a grid.

const ENCODER_WIDTH = 32; // E
const LOG_TWO_PI = Math.log(2 * Math.PI);
export const SMALLEST_SIGMA = 0.05; // of p(x|z): below it, no grid of this page would be fine enough

// --- random numbers, which a seed replays

/** The generator mulberry32 by Tommy Ettinger; normal numbers by Box and Muller. */
export function generatorOf(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal, normals: count => Float64Array.from({ length: count }, normal) };
}

/** Points in the plane by name: a function of a generator, one point a call. */
export const datasets = {
  ring({ uniform, normal }) {
    const angle = 2 * Math.PI * uniform();
    return [1.6 * Math.cos(angle) + 0.1 * normal(), 1.6 * Math.sin(angle) + 0.1 * normal()];
  },
  moons({ uniform, normal }) {
    const upper = uniform() < 0.5, angle = Math.PI * uniform(), side = upper ? 1 : -1;
    return [side * (1.4 * Math.cos(angle) - 0.7) + 0.1 * normal(), side * (1.4 * Math.sin(angle) - 0.35) + 0.1 * normal()];
  },
  spiral({ uniform, normal }) {
    const along = Math.sqrt(0.04 + 0.96 * uniform()), angle = 3 * Math.PI * along;
    return [2.1 * along * Math.cos(angle) + 0.07 * normal(), 2.1 * along * Math.sin(angle) + 0.07 * normal()];
  },
  gaussian({ normal }) { // variances 1.44 and 0.09 along the diagonals
    const long = 1.2 * normal(), short = 0.3 * normal();
    return [Math.SQRT1_2 * (long - short), Math.SQRT1_2 * (long + short)];
  },
};

// --- the networks

/** Layers as they lie in the weights: W (outputs, inputs), then b. The last weight is log sigma. */
function layersOf(latents, width) {
  let start = 0;
  const sizes = [[2, ENCODER_WIDTH], [ENCODER_WIDTH, 2 * latents], [latents, width], [width, 2]];
  return sizes.map(([inputs, outputs]) => {
    const layer = { start, inputs, outputs, biases: start + inputs * outputs };
    start = layer.biases + outputs;
    return layer;
  });
}

/** A network with weights as PyTorch draws them, or with those that are given. */
export function networkOf({ latents, width, activation, sigma }, random, weights = null) {
  const layers = layersOf(latents, width), last = layers.at(-1), count = last.biases + last.outputs;
  if (!weights) {
    weights = new Float64Array(count + 1);
    for (const { start, inputs, outputs } of layers) {
      const most = 1 / Math.sqrt(inputs);
      for (let k = 0; k < (inputs + 1) * outputs; k++) weights[start + k] = most * (2 * random.uniform() - 1);
    }
    weights[count] = Math.log(sigma);
  }
  return { latents, width, activation, layers, weights: Float64Array.from(weights) };
}

export const sigmaOf = net => Math.exp(net.weights.at(-1));

function linear(weights, { start, inputs, outputs, biases }, x) {
  const rows = x.length / inputs, y = new Float64Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < outputs; o++) {
      let sum = weights[biases + o];
      for (let i = 0, w = start + o * inputs, k = row * inputs; i < inputs; i++) sum += weights[w + i] * x[k + i];
      y[row * outputs + o] = sum;
    }
  }
  return y;
}

/** What `linear` passes back: adds to the gradient of W and b, returns that of x. */
function linearBack(weights, gradient, { start, inputs, outputs, biases }, x, dy) {
  const rows = x.length / inputs, dx = new Float64Array(x.length);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < outputs; o++) {
      const d = dy[row * outputs + o];
      gradient[biases + o] += d;
      for (let i = 0, w = start + o * inputs, k = row * inputs; i < inputs; i++) {
        gradient[w + i] += d * x[k + i];
        dx[k + i] += d * weights[w + i];
      }
    }
  }
  return dx;
}

/** tanh or ReLU, in place. This tanh is good to 1e-15 and twice as quick as the browser's. */
function activate(kind, h) {
  if (kind === "relu") for (let k = 0; k < h.length; k++) h[k] = Math.max(0, h[k]);
  else for (let k = 0; k < h.length; k++) h[k] = 1 - 2 / (Math.exp(2 * h[k]) + 1);
  return h;
}

/** Its derivative, from what it returned; in place of `dh`. */
function activateBack(kind, h, dh) {
  if (kind === "relu") for (let k = 0; k < h.length; k++) dh[k] = h[k] > 0 ? dh[k] : 0;
  else for (let k = 0; k < h.length; k++) dh[k] *= 1 - h[k] * h[k];
  return dh;
}

/** q(z|x) of each point: its L means, then its L log-variances, (B, 2L). */
export function qOf(net, x) {
  const [hidden, heads] = net.layers;
  return linear(net.weights, heads, activate(net.activation, linear(net.weights, hidden, x)));
}

/** The mean of p(x|z) at each z, (B, 2). */
export function meansAt(net, z) {
  const [, , hidden, mean] = net.layers;
  return linear(net.weights, mean, activate(net.activation, linear(net.weights, hidden, z)));
}

// --- what is maximized, and its gradient

/** The loss of a batch, minus its bound per point, in nats, and the gradient of each weight.
 * One sample: the ELBO, its KL in closed form and times beta. More: the importance-weighted
 * bound, log of the mean of w = p(x|z) p(z) / q(z|x), which has no beta.
 * x (B, 2), eps (B, K, L). */
export function objective(net, x, eps, beta = 1) {
  const { weights, latents, activation } = net, [first, heads, second, mean] = net.layers;
  const rows = x.length / 2, samples = eps.length / (rows * latents), weighted = samples > 1;
  const precision = Math.exp(-2 * weights.at(-1)), logScale = -LOG_TWO_PI - 2 * weights.at(-1);

  const h = activate(activation, linear(weights, first, x)); // (B, E)
  const q = linear(weights, heads, h); // (B, 2L)
  const z = new Float64Array(eps.length); // (B, K, L)
  for (let k = 0; k < eps.length; k++) {
    const l = k % latents, at = 2 * latents * Math.floor(k / (samples * latents)) + l;
    z[k] = q[at] + Math.exp(0.5 * q[at + latents]) * eps[k];
  }
  const g = activate(activation, linear(weights, second, z)); // (B, K, H)
  const means = linear(weights, mean, g); // (B, K, 2)

  // Each sample's part of the loss's gradient: 1/B, or its share of the weights.
  let loss = 0;
  const shares = new Float64Array(rows * samples); // (B, K)
  const squared = new Float64Array(rows * samples);
  for (let row = 0; row < rows; row++) {
    let highest = -Infinity, total = 0;
    for (let s = row * samples; s < (row + 1) * samples; s++) {
      squared[s] = (x[2 * row] - means[2 * s]) ** 2 + (x[2 * row + 1] - means[2 * s + 1]) ** 2;
      shares[s] = logScale - 0.5 * precision * squared[s]; // log p(x|z)
      for (let l = 0; weighted && l < latents; l++) { // log p(z) - log q(z|x)
        const k = s * latents + l, logvar = q[2 * latents * row + latents + l];
        shares[s] += 0.5 * (logvar + eps[k] * eps[k] - z[k] * z[k]);
      }
      highest = Math.max(highest, shares[s]);
    }
    for (let s = row * samples; s < (row + 1) * samples; s++) total += Math.exp(shares[s] - highest);
    loss -= (highest + Math.log(total / samples)) / rows;
    for (let s = row * samples; s < (row + 1) * samples; s++) shares[s] = Math.exp(shares[s] - highest) / (total * rows);
  }

  const gradient = new Float64Array(weights.length), last = weights.length - 1;
  const dMeans = new Float64Array(means.length), dq = new Float64Array(q.length);
  for (let s = 0; s < shares.length; s++) {
    const row = Math.floor(s / samples);
    for (const c of [0, 1]) dMeans[2 * s + c] = shares[s] * precision * (means[2 * s + c] - x[2 * row + c]);
    gradient[last] += shares[s] * (2 - precision * squared[s]);
  }
  const dg = activateBack(activation, g, linearBack(weights, gradient, mean, g, dMeans));
  const dz = linearBack(weights, gradient, second, z, dg); // (B, K, L)
  for (let k = 0; k < dz.length; k++) {
    const s = Math.floor(k / latents), at = 2 * latents * Math.floor(s / samples) + (k % latents);
    const d = weighted ? dz[k] + shares[s] * z[k] : dz[k];
    dq[at] += d;
    dq[at + latents] += 0.5 * (d * Math.exp(0.5 * q[at + latents]) * eps[k] - (weighted ? shares[s] : 0));
  }
  for (let row = 0; !weighted && row < rows; row++) {
    for (let l = 0, at = 2 * latents * row; l < latents; l++, at++) {
      loss += (beta / rows) * klOf(q[at], q[at + latents]);
      dq[at] += (beta / rows) * q[at];
      dq[at + latents] += (beta / rows) * 0.5 * (Math.exp(q[at + latents]) - 1);
    }
  }
  const dh = activateBack(activation, h, linearBack(weights, gradient, heads, h, dq));
  linearBack(weights, gradient, first, x, dh);
  return { loss, gradient };
}

/** KL from N(mu, exp(logvar)) to N(0, 1), in nats. */
const klOf = (mu, logvar) => 0.5 * (mu * mu + Math.exp(logvar) - 1 - logvar);

export const memoryOf = net => ({ steps: 0, mean: net.weights.map(() => 0), square: net.weights.map(() => 0) });

/** One step of Adam (Kingma and Ba, 2015), with PyTorch's constants. */
export function adam(weights, gradient, memory, rate) {
  memory.steps += 1;
  const first = 1 - 0.9 ** memory.steps, second = 1 - 0.999 ** memory.steps;
  for (let k = 0; k < weights.length; k++) {
    memory.mean[k] += 0.1 * (gradient[k] - memory.mean[k]);
    memory.square[k] += 0.001 * (gradient[k] * gradient[k] - memory.square[k]);
    weights[k] -= (rate * memory.mean[k]) / first / (Math.sqrt(memory.square[k] / second) + 1e-8);
  }
}

/** One step of training on a batch drawn with replacement from `points`, (N, 2). */
export function step(net, memory, points, random, { batch = 128, samples, beta, rate, learnt }) {
  const x = new Float64Array(2 * batch), count = points.length / 2;
  for (let row = 0; row < batch; row++) {
    const chosen = Math.floor(count * random.uniform());
    x.set(points.subarray(2 * chosen, 2 * chosen + 2), 2 * row);
  }
  const { gradient } = objective(net, x, random.normals(batch * samples * net.latents), beta);
  const last = gradient.length - 1;
  if (!learnt) gradient[last] = 0;
  adam(net.weights, gradient, memory, rate);
  if (learnt) net.weights[last] = Math.max(net.weights[last], Math.log(SMALLEST_SIGMA));
}

// --- the exact answers

const EXTENT = { 1: 10, 2: 5 }; // where the grid over z ends, by the number of latents
const COUNTS = { 1: [1024, 16384], 2: [64, 256] }; // points along an axis: fewest and most
const MOVED = 0.1; // nats, the mean over points: by how much a grid half as fine may differ
const ON_EDGE = 1e-3; // share of the mass in the outermost cells, the mean over points
const NEGLIGIBLE = 30; // nats below the highest point

/** A grid over z: its points (G, L), the decoder's means there (G, 2) and log p(z) dz (G). */
export function gridOf(net, count) {
  const { latents } = net, extent = EXTENT[latents], spacing = (2 * extent) / (count - 1);
  const size = count ** latents, z = new Float64Array(size * latents), logPrior = new Float64Array(size);
  for (let g = 0; g < size; g++) {
    logPrior[g] = latents * (Math.log(spacing) - 0.5 * LOG_TWO_PI);
    for (let l = 0; l < latents; l++) { // z1 runs fastest
      const value = spacing * (Math.floor(g / count ** l) % count) - extent;
      z[g * latents + l] = value;
      logPrior[g] -= 0.5 * value * value;
    }
  }
  return { count, extent, spacing, z, logPrior, means: meansAt(net, z) };
}

/** log of p(x, z) dz of one point at each point of a grid, (G), and its highest value. */
function logJoint(net, grid, a, b, out) {
  const precision = Math.exp(-2 * net.weights.at(-1)), logScale = -LOG_TWO_PI - 2 * net.weights.at(-1);
  const { means, logPrior } = grid;
  let highest = -Infinity;
  for (let g = 0; g < out.length; g++) {
    const across = a - means[2 * g], up = b - means[2 * g + 1];
    const value = logPrior[g] + logScale - 0.5 * precision * (across * across + up * up);
    out[g] = value;
    if (value > highest) highest = value;
  }
  return highest;
}

/** The exact posterior of a point: its density at each point of the grid, (G). */
export function posterior(net, grid, a, b) {
  const values = new Float64Array(grid.logPrior.length), highest = logJoint(net, grid, a, b, values);
  let total = 0;
  for (let g = 0; g < values.length; g++) total += values[g] = Math.exp(values[g] - highest);
  return values.map(value => value / (total * grid.spacing ** net.latents));
}

/** log p(x) of each point by the rectangle rule: { values (N), moved, edge }, the last two as
 * means over the points: what half the grid would change, and the mass in its outermost cells. */
function integrate(net, grid, points) {
  const size = grid.logPrior.length, { count } = grid, joint = new Float64Array(size);
  const halves = new Uint8Array(size); // 1: of the grid half as fine; 2: on the edge
  for (let g = 0; g < size; g++) {
    const places = net.latents === 1 ? [g] : [g % count, Math.floor(g / count)];
    halves[g] = places.every(place => place % 2 === 0) + 2 * places.some(place => place === 0 || place === count - 1);
  }
  const values = new Float64Array(points.length / 2);
  let moved = 0, edge = 0;
  for (let n = 0; n < values.length; n++) {
    const highest = logJoint(net, grid, points[2 * n], points[2 * n + 1], joint);
    const sums = [0, 0, 0, 0];
    for (let g = 0; g < size; g++) {
      if (joint[g] > highest - NEGLIGIBLE) sums[halves[g]] += Math.exp(joint[g] - highest);
    }
    const total = sums[0] + sums[1] + sums[2] + sums[3];
    values[n] = highest + Math.log(total);
    moved += Math.min(1, Math.abs(Math.log(((sums[1] + sums[3]) * 2 ** net.latents) / total))) / values.length;
    edge += (sums[2] + sums[3]) / total / values.length;
  }
  return { values, moved, edge };
}

/** Exact log p(x) of each point, on a grid refined until it is fine enough; `sure` says if it is.
 * A sum over a smooth peak errs by far less than half the grid shows: if half of it moves
 * log p(x) by 0.1 nats, the whole is wrong by less than 0.001. */
export function logLikelihood(net, points, begin = 0) {
  const [fewest, most] = COUNTS[net.latents];
  for (let count = Math.max(begin, fewest); ; count *= 2) {
    const grid = gridOf(net, count), found = integrate(net, grid, points);
    const fine = found.moved < MOVED;
    if (fine || count >= most) return { ...found, grid, sure: fine && found.edge < ON_EDGE };
  }
}

const NODES = { 1: [0.25, 6], 2: [0.8, 4] }; // spacing and end of the nodes of a standard normal

/** Reconstruction, E_q log p(x|z), and each latent's KL, for every point: sums, no samples.
 * Returns { q (N, 2L), reconstruction (N), kl (N, L) }. */
export function elboOf(net, points) {
  const { latents } = net, [spacing, end] = NODES[latents], steps = Math.round(end / spacing);
  const line = Array.from({ length: 2 * steps + 1 }, (_, k) => spacing * (k - steps));
  const nodes = latents === 1 ? line.map(a => [a]) : line.flatMap(a => line.map(b => [a, b]));
  const masses = nodes.map(node => Math.exp(-0.5 * node.reduce((sum, a) => sum + a * a, 0)));
  const total = masses.reduce((a, b) => a + b);

  const q = qOf(net, points), count = points.length / 2;
  const z = new Float64Array(count * nodes.length * latents), kl = new Float64Array(count * latents);
  for (let n = 0, k = 0; n < count; n++) {
    const at = 2 * latents * n;
    for (const node of nodes) {
      for (let l = 0; l < latents; l++) z[k++] = q[at + l] + Math.exp(0.5 * q[at + latents + l]) * node[l];
    }
    for (let l = 0; l < latents; l++) kl[latents * n + l] = klOf(q[at + l], q[at + latents + l]);
  }
  const means = meansAt(net, z), precision = Math.exp(-2 * net.weights.at(-1));
  const reconstruction = new Float64Array(count).fill(-LOG_TWO_PI - 2 * net.weights.at(-1));
  for (let n = 0, k = 0; n < count; n++) {
    for (let m = 0; m < nodes.length; m++, k += 2) {
      const squared = (points[2 * n] - means[k]) ** 2 + (points[2 * n + 1] - means[k + 1]) ** 2;
      reconstruction[n] -= (0.5 * precision * squared * masses[m]) / total;
    }
  }
  return { q, reconstruction, kl };
}

const average = values => values.reduce((a, b) => a + b, 0) / values.length;

/** The ledger of all points: log p(x) = reconstruction - KL + gap. Means, in nats a point, and
 * the gap of each point; log p(x) and the gaps are null where the grid is not fine enough. */
export function ledgerOf(net, points, begin = 0) {
  const { q, reconstruction, kl } = elboOf(net, points), { latents } = net;
  const exact = logLikelihood(net, points, begin);
  const kls = Array.from({ length: latents }, (_, l) => average(kl.filter((_, k) => k % latents === l)));
  const elbo = average(reconstruction) - kls.reduce((a, b) => a + b);
  const logP = exact.sure ? average(exact.values) : null;
  const gaps = exact.values.map((value, n) =>
    value - reconstruction[n] + kl.subarray(latents * n, latents * (n + 1)).reduce((a, b) => a + b));
  return { q, grid: exact.grid, moved: exact.moved, elbo, reconstruction: average(reconstruction), kl: kls,
    logP, gap: logP === null ? null : logP - elbo, gaps: exact.sure ? gaps : null };
}

/** The sum of all q over z, divided by their number, at each of `line` (G), or of its square (G x G). */
export function sumOfQ({ latents }, q, line) {
  const count = q.length / (2 * latents), side = line.length, density = new Float64Array(side ** latents);
  for (let n = 0; n < count; n++) {
    const at = 2 * latents * n;
    const [across, up] = Array.from({ length: latents }, (_, l) => {
      const deviation = Math.exp(0.5 * q[at + latents + l]), scale = 1 / (deviation * Math.sqrt(2 * Math.PI));
      return line.map(z => scale * Math.exp(-0.5 * ((z - q[at + l]) / deviation) ** 2));
    });
    if (latents === 1) for (let i = 0; i < side; i++) density[i] += across[i] / count;
    else for (let j = 0; j < side; j++) for (let i = 0; i < side; i++) density[j * side + i] += (across[i] * up[j]) / count;
  }
  return density;
}

/** The share of the prior that lies in holes: where the sum of all q is less than a tenth of it. */
export function holesOf({ latents }, density, line) {
  const prior = line.map(z => Math.exp(-0.5 * z * z));
  let all = 0, empty = 0;
  for (let k = 0; k < density.length; k++) {
    const mass = latents === 1 ? prior[k] : prior[k % line.length] * prior[Math.floor(k / line.length)];
    all += mass;
    if (density[k] < (0.1 * mass) / (2 * Math.PI) ** (latents / 2)) empty += mass;
  }
  return empty / all;
}

/** How many modes a density on a line has: peaks between valleys, each with a share of the mass. */
export function modesOf(density, least = 0.05) {
  const total = density.reduce((a, b) => a + b, 0), masses = [0];
  for (let k = 0; k < density.length; k++) {
    masses[masses.length - 1] += density[k] / total;
    const valley = k > 0 && density[k] <= density[k - 1] && density[k] < (density[k + 1] ?? 0);
    if (valley) masses.push(0);
  }
  return masses.filter(mass => mass >= least).length;
}
