// The playground: a VAE of points in the plane that trains in the page, with every lever in the
// reader's hand. network.js, which comes before, computes; this file draws and listens.

const POINTS = 256; // of a data set
const MOST_OWN = 64; // points that a reader may set
const REACH = { data: 3, z: 4 }; // each plane shows from -reach to reach
const FRAME_BUDGET = 10; // milliseconds of training between two pictures, at least, and
const TRAINING_SHARE = 3; // so many times what the picture takes, up to LONGEST_FRAME
const LONGEST_FRAME = 80;
const EVALUATION_REST = 6; // an evaluation is followed by a rest of so many times its length
const SOONEST = 200; // milliseconds between two evaluations, at least
const EASY = 1e-6; // nats: where half a grid moves so little, half of it is taken next time
const MOST_HISTORY = 400; // evaluations kept: when there are more, every other one goes
const SHOWN_Q = 64; // clouds drawn one by one
const LINE = Array.from({ length: 201 }, (_, k) => REACH.z * (k / 100 - 1)); // over z, one latent
const SIDE = Array.from({ length: 81 }, (_, k) => REACH.z * (k / 40 - 1)); // over z, two latents
const QUANTILES = [-2, -1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816, 2];
const SIGMAS = [SMALLEST_SIGMA, 2]; // ends of sigma's slider, which runs in logarithms
const SEEDS = 2 ** 32;
const PACES = { full: Infinity, medium: 100, slow: 10 }; // steps a second
const INKS = ["ink", "paper", "faint", "prior", "q", "posterior", "reconstruction", "gap"];

const nearestOf = (points, a, b) => {
  let best = -1, least = Infinity;
  for (let n = 0; 2 * n < points.length; n++) {
    const away = (points[2 * n] - a) ** 2 + (points[2 * n + 1] - b) ** 2;
    if (away < least) [best, least] = [n, away];
  }
  return { index: best, away: Math.sqrt(least) };
};

/** The colours of the page as a canvas takes them; on a dark page they are lifted. */
function inksOf(root) {
  const inks = { font: `13px ${getComputedStyle(root).fontFamily}` };
  root.querySelectorAll(".pg-probe").forEach(probe => { inks[probe.dataset.ink] = getComputedStyle(probe).color; });
  return inks;
}

/** The three bytes of a colour, however it is written. */
function bytesOf(colour) {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data.subarray(0, 3);
}

/** A canvas as sharp as the screen, empty, in units of CSS pixels: { context, width, height }. */
function blank(canvas, inks) {
  const { clientWidth: width, clientHeight: height } = canvas, dots = window.devicePixelRatio || 1;
  const [across, down] = [width, height].map(side => Math.round(side * dots));
  if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
  const context = canvas.getContext("2d");
  context.setTransform(dots, 0, 0, dots, 0, 0);
  context.clearRect(0, 0, width, height);
  Object.assign(context, { font: inks.font, lineJoin: "round", lineCap: "round", textBaseline: "middle" });
  return { context, width, height };
}

function stroke(context, points, { colour, wide = 1.5, dash = [], alpha = 1, close = false }) {
  context.save();
  Object.assign(context, { strokeStyle: colour, lineWidth: wide, globalAlpha: alpha });
  context.setLineDash(dash);
  context.beginPath();
  for (const line of points) line.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (close) context.closePath();
  context.stroke();
  context.restore();
}

/** Words on a plate of paper, so that nothing behind makes them hard to read; `key` draws a piece of
 * the line that they name in front of them. */
function label(context, inks, words, x, y, { align = "left", key = null } = {}) {
  const lead = key ? 26 : 0, width = lead + context.measureText(words).width;
  const left = x - { left: 0, center: width / 2, right: width }[align];
  context.save();
  Object.assign(context, { globalAlpha: 0.85, fillStyle: inks.paper, textAlign: "left" });
  context.fillRect(left - 2, y - 8, width + 4, 16);
  Object.assign(context, { globalAlpha: 1, fillStyle: inks.ink });
  context.fillText(words, left + lead, y);
  if (key) stroke(context, [[[left + 2, y], [left + 19, y]]], { wide: 2.5, ...key });
  context.restore();
}

/** A square plane with its frame and ticks; returns where a point lies on it. */
function plane(context, inks, { width, height }, reach, names, written) {
  const left = 36, bottom = 24, side = Math.min(width - left - 6, height - bottom - 6);
  const x = value => left + (side * (value + reach)) / (2 * reach), y = value => 6 + (side * (reach - value)) / (2 * reach);
  Object.assign(context, { fillStyle: inks.ink });
  for (let tick = -2 * Math.floor((reach - 0.1) / 2); tick < reach; tick += 2) {
    stroke(context, [[[x(tick), 6], [x(tick), 6 + side]], [[left, y(tick)], [left + side, y(tick)]]], { colour: inks.faint, alpha: 0.5, wide: 1 });
    context.textAlign = "center";
    context.fillText(written(tick, 0), x(tick), 6 + side + 12);
    context.textAlign = "right";
    context.fillText(written(tick, 0), left - 5, y(tick));
  }
  context.textAlign = "right";
  context.fillText(names[0], x(reach), 6 + side + 12);
  context.fillText(names[1], left - 5, 14);
  context.textAlign = "left";
  context.strokeStyle = inks.faint;
  context.strokeRect(left, 6, side, side);
  context.beginPath(); // nothing is drawn outside the frame from here on
  context.rect(left, 6, side, side);
  context.clip();
  return { x, y, unit: side / (2 * reach), value: (px, py) => [((px - left) / side) * 2 * reach - reach, reach - ((py - 6) / side) * 2 * reach] };
}

// --- the two planes and the plot

/** The data, and what the decoder makes of the prior: a curve or a grid, with a tube of 2 sigma. */
function drawData(canvas, inks, written, { net, points, chosen, cursor }) {
  const area = blank(canvas, inks), { context } = area;
  context.save();
  const at = plane(context, inks, area, REACH.data, ["x₁ →", "x₂ ↑"], written);
  const fine = LINE.filter(z => Math.abs(z) <= 3);
  const lines = net.latents === 1 ? [fine.map(z => [z])]
    : QUANTILES.flatMap(fixed => [fine, fine].map((line, k) => line.filter((z, i) => i % 5 === 0 && Math.abs(z) <= 2)
      .map(z => (k ? [fixed, z] : [z, fixed]))));
  const paths = lines.map(line => {
    const means = meansAt(net, Float64Array.from(line.flat()));
    return line.map((_, k) => [at.x(means[2 * k]), at.y(means[2 * k + 1])]);
  });
  stroke(context, paths, { colour: inks.reconstruction, wide: 4 * sigmaOf(net) * at.unit, alpha: 0.22 });
  context.fillStyle = inks.ink;
  const big = points.length < 2 * MOST_OWN + 2 ? 3.2 : 1.7;
  for (let n = 0; 2 * n < points.length; n++) {
    context.beginPath();
    context.arc(at.x(points[2 * n]), at.y(points[2 * n + 1]), big, 0, 7);
    context.fill();
  }
  stroke(context, paths, { colour: inks.paper, wide: net.latents === 1 ? 5 : 2, alpha: 0.7 });
  stroke(context, paths, { colour: inks.reconstruction, wide: net.latents === 1 ? 3 : 1.2 });
  if (net.latents === 1) {
    for (const z of [-2, -1, 0, 1, 2]) { // where along the curve
      const [a, b] = meansAt(net, Float64Array.of(z)), words = `z = ${written(z, 0)}`;
      context.beginPath();
      context.arc(at.x(a), at.y(b), 4, 0, 7);
      context.fillStyle = inks.reconstruction;
      context.fill();
      if (z % 2 === 0) label(context, inks, words, at.x(a) + 8, at.y(b) - 12);
    }
  }
  if (chosen >= 0) {
    const spot = [at.x(points[2 * chosen]), at.y(points[2 * chosen + 1])];
    for (const [colour, wide] of [[inks.paper, 6], [inks.q, 3]]) {
      context.beginPath();
      context.arc(...spot, 8, 0, 7);
      Object.assign(context, { strokeStyle: colour, lineWidth: wide });
      context.stroke();
    }
  }
  if (cursor) {
    const [x, y] = [at.x(cursor[0]), at.y(cursor[1])];
    stroke(context, [[[x - 12, y], [x + 12, y]], [[x, y - 12], [x, y + 12]]], { colour: inks.ink, wide: 2 });
  }
  context.restore();
  canvas.valueAt = at.value;
}

const ellipse = (q, n, latents, at, size) => Array.from({ length: 41 }, (_, k) => {
  const base = 2 * latents * n, angle = (k / 20) * Math.PI;
  return [at.x(q[base] + size * Math.exp(0.5 * q[base + 2]) * Math.cos(angle)),
    at.y(q[base + 1] + size * Math.exp(0.5 * q[base + 3]) * Math.sin(angle))];
});

/** A density over the plane of z as a shade, the more opaque the denser; `line` as for sumOfQ. */
function shade(context, at, density, line, colour, highest, opaque) {
  const side = line.length, half = (line[1] - line[0]) / 2, ink = bytesOf(colour);
  const tile = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const inner = tile.getContext("2d"), picture = inner.createImageData(side, side);
  for (let j = 0; j < side; j++) {
    for (let i = 0; i < side; i++) { // the screen's y runs down, z2 runs up
      const alpha = 255 * opaque * Math.min(1, density[j * side + i] / highest);
      picture.data.set([...ink, alpha], 4 * ((side - 1 - j) * side + i));
    }
  }
  inner.putImageData(picture, 0, 0);
  const [left, top] = [at.x(line[0] - half), at.y(line[side - 1] + half)];
  context.drawImage(tile, left, top, at.x(line[side - 1] + half) - left, at.y(line[0] - half) - top);
}

/** Two latents: the prior's rings, the sum of all q as a shade, clouds as ellipses, and of the
 * chosen point q and the exact posterior. */
function drawPlane(canvas, inks, written, words, { net, points, chosen, q, density }) {
  const area = blank(canvas, inks), { context } = area;
  context.save();
  const at = plane(context, inks, area, REACH.z, ["z₁ →", "z₂ ↑"], written);
  shade(context, at, density, SIDE, inks.q, 0.16, 0.55);
  const count = q.length / 4, stride = Math.max(1, Math.floor(count / SHOWN_Q));
  const clouds = [];
  for (let n = 0; n < count; n += stride) clouds.push(ellipse(q, n, 2, at, 1));
  stroke(context, clouds, { colour: inks.q, wide: 1, alpha: 0.6 });
  const dotted = { colour: inks.prior, wide: 2, dash: [2, 5] };
  for (const radius of [1, 2, 3]) {
    const ring = ellipse([0, 0, 0, 0], 0, 2, at, radius);
    stroke(context, [ring], dotted);
  }
  label(context, inks, words.prior, at.x(0), at.y(3.45), { align: "center", key: dotted });
  if (chosen >= 0) {
    const exact = posteriorOn(SIDE, net, points, chosen);
    if (exact) shade(context, at, exact, SIDE, inks.posterior, Math.max(...exact), 0.95);
    for (const size of [1, 2]) {
      const line = ellipse(q, chosen, 2, at, size);
      stroke(context, [line], { colour: inks.paper, wide: 5, alpha: 0.8 });
      stroke(context, [line], { colour: inks.q, wide: 2.5 });
    }
    label(context, inks, words["chosen-q"], at.x(-REACH.z) + 8, at.y(-REACH.z) - 32, { key: { colour: inks.q } });
    if (exact) label(context, inks, words["chosen-posterior"], at.x(-REACH.z) + 8, at.y(-REACH.z) - 14, { key: { colour: inks.posterior, wide: 9 } });
  }
  label(context, inks, words.sum, at.x(-REACH.z) + 8, at.y(-REACH.z) - 50, { key: { colour: inks.q, wide: 9, alpha: 0.4 } });
  context.restore();
}

/** The exact posterior of a point on `line` squared; null if the grid is too coarse for it. */
function posteriorOn(line, net, points, chosen) {
  const point = points.subarray(2 * chosen, 2 * chosen + 2), exact = logLikelihood(net, point);
  if (!exact.sure) return null;
  const { grid } = exact, fine = posterior(net, grid, ...point), side = line.length, cells = new Float64Array(side * side);
  const nearest = z => Math.round((z - grid.z[0]) / grid.spacing); // on the grid
  line.forEach((up, j) => line.forEach((across, i) => {
    cells[j * side + i] = fine[nearest(up) * grid.count + nearest(across)];
  }));
  return cells;
}

/** One latent, three strips over one axis: the prior and the sum of all q; the clouds, each a bar
 * from mu - sigma to mu + sigma; of the chosen point, q and the exact posterior. */
function drawLine(canvas, inks, written, words, { net, points, chosen, q, density }) {
  const area = blank(canvas, inks), { context, width, height } = area;
  const left = 10, right = width - 10, foot = height - 24;
  const x = z => left + ((right - left) * (z + REACH.z)) / (2 * REACH.z);
  const strips = { sum: [8, 0.42 * foot], clouds: [0.46 * foot, 0.62 * foot], chosen: [0.66 * foot, foot] };
  context.fillStyle = inks.ink;
  context.textAlign = "center";
  for (const tick of [-4, -2, 0, 2]) context.fillText(written(tick, 0), x(tick), height - 12);
  context.textAlign = "right";
  context.fillText("z →", right, height - 12);
  context.textAlign = "left";
  for (const [top, bottom] of Object.values(strips)) {
    stroke(context, [[[left, bottom], [right, bottom]], ...[-2, 0, 2].map(z => [[x(z), top], [x(z), bottom]])], { colour: inks.faint, alpha: 0.6, wide: 1 });
  }
  const curve = (values, [top, bottom], highest) => Array.from(values, (value, k) =>
    [x(LINE[k]), bottom - ((bottom - top) * Math.min(highest, value)) / highest]);
  const fill = (line, bottom, colour, alpha) => {
    context.save();
    Object.assign(context, { fillStyle: colour, globalAlpha: alpha });
    context.beginPath();
    [...line, [x(REACH.z), bottom], [x(-REACH.z), bottom]].forEach(([a, b]) => context.lineTo(a, b));
    context.fill();
    context.restore();
  };
  const prior = LINE.map(z => Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI));
  const highest = Math.max(0.45, ...density), sum = curve(density, strips.sum, highest);
  fill(sum, strips.sum[1], inks.q, 0.3);
  stroke(context, [sum], { colour: inks.q, wide: 2.5 });
  stroke(context, [curve(prior, strips.sum, highest)], { colour: inks.prior, wide: 2.5, dash: [2, 5] });
  label(context, inks, words.prior, left + 2, 18, { key: { colour: inks.prior, dash: [2, 5] } });
  label(context, inks, words.sum, left + 2, 36, { key: { colour: inks.q } });

  const count = q.length / 2, stride = Math.max(1, Math.floor(count / SHOWN_Q)), [top, bottom] = strips.clouds;
  const bars = [];
  for (let n = 0; n < count; n += stride) {
    const y = top + ((n * 0.618) % 1) * (bottom - top - 3), deviation = Math.exp(0.5 * q[2 * n + 1]);
    bars.push([[x(q[2 * n] - deviation), y], [x(q[2 * n] + deviation), y]]);
  }
  stroke(context, bars, { colour: inks.q, alpha: 0.7 });
  label(context, inks, words.clouds, left + 2, top + 8, { key: { colour: inks.q, wide: 1.5 } });

  if (chosen < 0) return;
  const own = strips.chosen, mean = q[2 * chosen], deviation = Math.exp(0.5 * q[2 * chosen + 1]);
  const exact = logLikelihood(net, points.subarray(2 * chosen, 2 * chosen + 2)), { grid } = exact;
  const fine = exact.sure ? posterior(net, grid, points[2 * chosen], points[2 * chosen + 1]) : null;
  const values = LINE.map(z => Math.exp(-0.5 * ((z - mean) / deviation) ** 2) / (deviation * Math.sqrt(2 * Math.PI)));
  // The posterior's peaks may lie between the points of LINE, so it is drawn on its own grid.
  const most = 1.1 * Math.max(0.5, ...values, ...(fine ?? []));
  if (fine) {
    const line = [];
    for (let g = 0; g < fine.length; g++) {
      if (Math.abs(grid.z[g]) <= REACH.z) line.push([x(grid.z[g]), own[1] - ((own[1] - own[0]) * fine[g]) / most]);
    }
    fill(line, own[1], inks.posterior, 0.35);
    stroke(context, [line], { colour: inks.posterior, wide: 2 });
    label(context, inks, words["chosen-posterior"], left + 2, own[0] + 26, { key: { colour: inks.posterior } });
  }
  stroke(context, [curve(values, own, most)], { colour: inks.q, wide: 2.5, dash: [7, 4] });
  label(context, inks, words["chosen-q"], left + 2, own[0] + 8, { key: { colour: inks.q, dash: [6, 4] } });
}

/** ELBO and log p(x) over the steps, the gap between them; behind, the run before this one. */
function drawTime(canvas, inks, written, words, history, ghost) {
  const area = blank(canvas, inks), { context, width, height } = area;
  const all = [...ghost, ...history], left = 40, right = width - 66, bottom = height - 26;
  const steps = Math.max(100, ...all.map(entry => entry.step));
  // The first evaluations are far down and say little: the axis begins where two thirds are.
  const elbos = all.map(entry => entry.elbo).sort((a, b) => a - b);
  const highest = Math.max(...all.map(entry => entry.logP ?? entry.elbo), -10), lowest = elbos[Math.floor(elbos.length / 5)] ?? highest - 1;
  const top = highest + 0.2, low = Math.min(lowest - 0.3, highest - 1);
  const x = step => left + ((right - left) * step) / steps;
  const y = nats => 8 + ((bottom - 8) * (top - Math.max(low, nats))) / (top - low);
  context.fillStyle = inks.ink;
  context.textAlign = "right";
  const spacing = [0.2, 0.5, 1, 2, 5, 10, 50, 100, 1000].find(size => (top - low) / size <= 5) ?? 1e4;
  for (let tick = Math.ceil(low / spacing) * spacing; tick <= top; tick += spacing) {
    stroke(context, [[[left, y(tick)], [right, y(tick)]]], { colour: inks.faint, wide: 1, alpha: 0.5 });
    context.fillText(written(tick, spacing < 1 ? 1 : 0), left - 5, y(tick));
  }
  context.textAlign = "center";
  const apart = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000].find(size => steps / size <= 5) ?? 1e5;
  for (let tick = 0; tick <= steps; tick += apart) context.fillText(String(tick), x(tick), height - 12);
  context.textAlign = "left";
  context.textAlign = "right";
  context.fillText(words.steps, width - 2, height - 12);
  context.textAlign = "left";
  for (const [entries, alpha, wide] of [[ghost, 0.45, 1], [history, 1, 2.5]]) {
    if (!entries.length) continue;
    const upper = entries.filter(entry => entry.logP !== null).map(entry => [x(entry.step), y(entry.logP)]);
    const lower = entries.map(entry => [x(entry.step), y(entry.elbo)]);
    if (upper.length && entries === history) {
      const below = entries.filter(entry => entry.logP !== null).map(entry => [x(entry.step), y(entry.elbo)]);
      context.save();
      Object.assign(context, { fillStyle: inks.gap, globalAlpha: 0.4 });
      context.beginPath();
      [...upper, ...below.reverse()].forEach(([a, b]) => context.lineTo(a, b));
      context.fill();
      context.restore();
    }
    stroke(context, [upper], { colour: inks.ink, wide, alpha });
    stroke(context, [lower], { colour: inks.ink, wide, alpha, dash: [6, 4] });
  }
  const last = history.at(-1);
  if (last) {
    const exact = last.logP === null ? null : y(last.logP), bound = y(last.elbo);
    const apart = exact === null ? 0 : Math.max(0, 17 - (bound - exact)) / 2;
    if (exact !== null) context.fillText("log p(x)", right + 8, exact - apart);
    context.fillText("ELBO", right + 8, bound + apart);
  }
}

// --- the parts of the page

/** The parts of the page. The words come from vae_teach/words.toml, which holds no markup. */
function partsOf(words, { presets, choices }, uid, written) {
  const option = (value, text) => `<option value="${value}">${text}</option>`;
  const number = value => written(value, String(value).split(".")[1]?.length ?? 0);
  const lever = (name, text = number) => `<label class="pg-lever"><span>${words[name]}</span>
    <select data-lever="${name}">${choices[name].map(value => option(value, text(value))).join("")}</select></label>`;
  const named = value => words[`is-${value}`] ?? { tanh: "tanh", relu: "ReLU" }[value];
  const row = (kind, text, bar = true) => `<tr class="pg-${kind}"><th scope="row">${text}</th>
    <td class="pg-number"></td><td class="pg-bar" aria-hidden="true">${bar ? "<i></i>" : ""}</td></tr>`;
  const button = (kind, text) => `<button type="button" class="pg-${kind}">${text}</button>`;
  return `
    ${INKS.map(name => `<span class="pg-probe" data-ink="${name}"></span>`).join("")}
    <div class="pg-head">
      <label><b>${words.preset}</b>
        <select class="pg-preset">${Object.keys(presets).map(name => option(name, words[`preset-${name}`])).join("")}</select></label>
      ${button("run", words.run)}${button("step", words.step)}${button("reset", words.reset)}
    </div>
    <p class="pg-about" id="${uid}-about"></p>
    <div class="pg-planes">
      <figure>
        <div class="pg-plane" role="application" tabindex="0" aria-label="${words["data-plane"]}" aria-describedby="${uid}-help">
          <canvas class="pg-data" role="img"></canvas></div>
        <figcaption><b>${words["data-plane"]}</b> <span id="${uid}-help" class="pg-help"></span>
          <span class="pg-own">${button("undo", words.undo)} ${button("clear", words.clear)}</span></figcaption>
      </figure>
      <figure>
        <canvas class="pg-latent" role="img"></canvas>
        <figcaption><b>${words["latent-plane"]}</b> <span class="pg-chosen"></span> ${button("widest", words.widest)}</figcaption>
      </figure>
    </div>
    <p class="pg-status" role="status"></p><p class="pg-spoken" role="status"></p>
    <div class="pg-below">
      <figure class="pg-course"><canvas class="pg-time" role="img"></canvas>
        <figcaption>${words["time-caption"]}</figcaption></figure>
      <table class="pg-ledger"><caption>${words.ledger}</caption><tbody>
        ${row("reconstruction", words.reconstruction, false)}
        ${row("kl0", `− KL z₁`)}${row("kl1", `− KL z₂`)}
        ${row("elbo", "= ELBO", false)}${row("gap", `+ ${words.gap}`)}${row("logp", "= log p(x)", false)}
      </tbody></table>
    </div>
    <p class="pg-facts"></p>
    <fieldset><legend>${words.levers}</legend><div class="pg-levers">
      ${lever("data", named)}${lever("latents")}${lever("width")}${lever("activation", named)}
      <label class="pg-lever"><span>${words.sigma} <output class="pg-sigma-value"></output></span>
        <input type="range" class="pg-sigma" min="0" max="100" step="1"></label>
      <label class="pg-lever"><span>${words.learnt}</span><span class="pg-tick"><input type="checkbox" class="pg-learnt"> ${words.yes}</span></label>
      ${lever("beta")}${lever("samples")}${lever("rate")}
      <label class="pg-lever"><span>${words.seed}</span><input type="text" inputmode="numeric" class="pg-seed" autocomplete="off"></label>
      <label class="pg-lever"><span>${words.pace}</span>
        <select class="pg-pace">${Object.keys(PACES).map(name => option(name, words[`pace-${name}`])).join("")}</select></label>
    </div></fieldset>`;
}

/** Put a playground into `el`. `state` holds the traits of vae_teach.playground.Playground; `onState`
 * hears { step, elbo, log_p, weights, ... } whenever training pauses. Returns { destroy }. */
export function mount(el, { spec, settings, labels: words }, { onState = () => {} } = {}) {
  const { written } = numbersIn(words.language), fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const root = document.createElement("div"), uid = `pg-${Math.random().toString(36).slice(2)}`;
  Object.assign(root, { className: "vae-widget vae-playground", lang: words.language, role: "group", ariaLabel: words.title });
  root.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the keys for its cells
  root.innerHTML = partsOf(words, spec, uid, written);
  const part = kind => root.querySelector(`.pg-${kind}`);
  const levers = Object.fromEntries([...root.querySelectorAll("[data-lever]")].map(node => [node.dataset.lever, node]));
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  // --- what changes
  let now = { ...settings }, own = [...(settings.points ?? [])].flat(); // own: the reader's points, x1, x2, ...
  let points, net, memory, random, ledger, history = [], ghost = [], ghostOf = "";
  let running = false, taken = 0, stop = Infinity, frame = 0, evaluated = -Infinity, rest = 0, pace = "full";
  let chosen = -1, cursor = null, inks, broken = false, paceFrom = null;
  let stale = true, drawing = 0; // stale: more than the plane of the data is to be drawn; its milliseconds

  const say = text => { if (part("status").textContent !== text) part("status").textContent = text; };
  const whisper = text => { part("spoken").textContent = text; }; // what a look at the page tells

  /** New data and weights, from the seed alone. The run before stays in the plot, pale. */
  function reset() {
    const of = JSON.stringify([now.data, now.seed, now.data === "own" ? own : 0]);
    ghost = of === ghostOf ? (history.length > 1 ? history : ghost) : [];
    ghostOf = of;
    random = generatorOf(now.seed);
    points = Float64Array.from(now.data === "own" ? own : Array.from({ length: POINTS }, () => datasets[now.data](random)).flat());
    net = networkOf(now, random);
    ledger = null;
    memory = memoryOf(net);
    [taken, stop, history, broken] = [0, Infinity, [], false];
    chosen = Math.min(chosen, points.length / 2 - 1);
    if (chosen < 0 && points.length) chosen = 0;
    say(points.length ? "" : words["no-points"]);
    if (!points.length) pause();
    evaluate();
    refresh();
  }

  /** The exact numbers of the weights as they are now. */
  function evaluate() {
    const begin = performance.now(), before = ledger; // the grid that sufficed will do, or half of it
    ledger = null;
    broken = !net.weights.every(Number.isFinite);
    if (points.length && !broken) {
      ledger = ledgerOf(net, points, before ? before.grid.count / (before.moved < EASY ? 2 : 1) : 0);
      if (!Number.isFinite(ledger.elbo)) [ledger, broken] = [null, true];
    }
    if (ledger) {
      history.push({ step: taken, elbo: ledger.elbo, logP: ledger.logP });
      if (history.length > MOST_HISTORY) history = history.filter((_, k) => k % 2 === 0);
    }
    evaluated = performance.now();
    rest = Math.max(SOONEST, EVALUATION_REST * (evaluated - begin));
    stale = true;
    root.dataset.ms = (evaluated - begin).toFixed(1);
    root.dataset.state = JSON.stringify(stateNow());
    if (broken) { say(words.diverged); pause(); }
    drawNumbers();
  }

  function stateNow() {
    const { elbo = null, logP = null, gap = null, reconstruction = null, kl = [] } = ledger ?? {};
    const numbers = broken || !points.length ? [] : [...net.weights];
    return { step: taken, elbo, log_p: logP, gap, reconstruction, kl, weights: numbers, points: [...points], settings: now };
  }

  // --- how it is drawn
  function drawNumbers() {
    const put = (kind, value, scale) => {
      part(kind).querySelector(".pg-number").textContent = value === undefined || value === null ? "–" : written(value, 3);
      const bar = part(kind).querySelector("i");
      if (bar) bar.style.width = `${Math.min(100, (100 * Math.max(0, value ?? 0)) / scale)}%`;
    };
    const scale = ledger ? Math.max(1, ...ledger.kl, ledger.gap ?? 0) : 1;
    put("reconstruction", ledger?.reconstruction);
    put("kl0", ledger?.kl[0], scale);
    put("kl1", ledger?.kl[1], scale);
    part("kl1").hidden = now.latents === 1;
    put("elbo", ledger?.elbo);
    put("gap", ledger?.gap, scale);
    put("logp", ledger?.logP);
    if (ledger && ledger.logP === null) say(words["too-narrow"]);
    else if (part("status").textContent === words["too-narrow"]) say("");
  }

  function chosenSentence() {
    if (chosen < 0 || !ledger) return "";
    const at = `(${[points[2 * chosen], points[2 * chosen + 1]].map(v => written(v)).join(words.language === "pt" ? "; " : ", ")})`;
    const gap = ledger.gaps ? fill(words["chosen-gap"], { gap: written(ledger.gaps[chosen]) }) : "";
    const fine = ledger.gaps && now.latents === 1 ? modesOf(posterior(net, ledger.grid, points[2 * chosen], points[2 * chosen + 1])) : 0;
    return [fill(words.chosen, { at }), gap, fine > 1 ? fill(words.modes, { modes: fine }) : ""].filter(Boolean).join(" ");
  }

  /** The plane of the data moves with every picture, all else with new numbers. */
  function draw() {
    const begin = performance.now();
    if (stale) inks = inksOf(root);
    drawData(part("data"), inks, written, { net, points, chosen, cursor });
    if (stale) drawNews();
    stale = false;
    drawing = performance.now() - begin;
  }

  function drawNews() {
    if (ledger) {
      const { q } = ledger, line = now.latents === 1 ? LINE : SIDE, density = sumOfQ(net, q, line);
      (now.latents === 1 ? drawLine : drawPlane)(part("latent"), inks, written, words, { net, points, chosen, q, density });
      const holes = holesOf(net, density, line), sigma = written(sigmaOf(net));
      const facts = [fill(words.facts, { step: taken, sigma }), fill(words.holes, { share: written(100 * holes, 0) })];
      part("facts").textContent = facts.join(" ");
      root.dataset.holes = holes.toFixed(4);
    } else {
      blank(part("latent"), inks);
      part("facts").textContent = "";
    }
    drawTime(part("time"), inks, written, words, history, ghost);
    part("chosen").textContent = chosenSentence();
    part("widest").hidden = !ledger?.gaps;
    part("data").setAttribute("aria-label", fill(words["alt-data"], { points: points.length / 2 }));
    part("latent").setAttribute("aria-label", words[now.latents === 1 ? "alt-line" : "alt-plane"]);
    part("time").setAttribute("aria-label", words["alt-time"]);
    drawControls();
  }

  function drawControls() {
    for (const name in levers) levers[name].value = now[name];
    levers.beta.disabled = now.samples > 1; // an importance-weighted bound has no beta
    part("run").textContent = running ? words.pause : words.run;
    part("run").disabled = part("step").disabled = !points.length || broken;
    part("learnt").checked = now.learnt;
    part("sigma").disabled = now.learnt;
    const [least, most] = SIGMAS.map(Math.log), sigma = sigmaOf(net);
    part("sigma").value = (100 * (Math.log(sigma) - least)) / (most - least);
    part("sigma").setAttribute("aria-valuetext", written(sigma));
    part("sigma-value").textContent = written(sigma);
    if (document.activeElement !== part("seed")) part("seed").value = now.seed;
    part("own").hidden = now.data !== "own";
    part("help").textContent = words[now.data === "own" ? "help-own" : "help"];
  }

  // --- training: as many steps as fit between two pictures
  function train(time) {
    const { latents, width, activation, ...how } = now, begin = performance.now();
    if (how.samples > 1) how.beta = 1;
    paceFrom ??= { time, taken };
    const due = PACES[pace] === Infinity ? Infinity : paceFrom.taken + ((time - paceFrom.time) / 1000) * PACES[pace];
    const budget = Math.min(LONGEST_FRAME, Math.max(FRAME_BUDGET, TRAINING_SHARE * drawing));
    while (running && taken < Math.min(stop, due) && performance.now() - begin < budget) {
      step(net, memory, points, random, how);
      taken += 1;
    }
  }

  function onFrame(time) {
    frame = 0;
    if (running) train(time);
    const due = running && (performance.now() - evaluated > rest || taken >= stop);
    if (due) evaluate();
    if (!running || due || !calm.matches) draw();
    if (running && taken >= stop) {
      stop = Infinity;
      pause();
      say(finished());
    }
    if (running) nextFrame();
  }
  const nextFrame = () => { frame ||= requestAnimationFrame(onFrame); };
  const refresh = () => { stale = true; nextFrame(); };
  const finished = () => fill(ledger?.logP === null || !ledger ? words.paused : words["paused-numbers"], { step: taken,
    elbo: written(ledger?.elbo ?? 0), logp: written(ledger?.logP ?? 0), gap: written(ledger?.gap ?? 0) });

  function start() {
    running = true;
    paceFrom = null;
    say("");
    refresh();
  }
  function pause() {
    if (!running) return;
    running = false;
    if (!broken && history.at(-1)?.step !== taken) evaluate();
    onState(stateNow());
    refresh();
  }

  // --- what the reader does
  const on = (node, kind, act) => node.addEventListener(kind, act);
  function setPreset(name) {
    const { steps, ...asked } = spec.presets[name];
    now = { ...spec.defaults, seed: now.seed, ...asked, preset: name };
    part("preset").value = name;
    part("about").textContent = words[`about-${name}`];
    chosen = -1;
    reset();
    stop = steps;
  }
  /** The data point whose q misses most of log p(x). */
  function chooseWidest() {
    if (ledger?.gaps) chosen = ledger.gaps.indexOf(Math.max(...ledger.gaps));
    refresh();
  }
  on(part("preset"), "change", () => {
    pause();
    setPreset(part("preset").value);
    if (points.length) start();
  });
  on(part("run"), "click", () => {
    if (!running) return start();
    pause();
    say(finished());
  });
  on(part("step"), "click", () => {
    pause();
    const how = { ...now, beta: now.samples > 1 ? 1 : now.beta };
    step(net, memory, points, random, how);
    taken += 1;
    evaluate();
    if (!broken) say(finished());
    onState(stateNow());
    refresh();
  });
  on(part("reset"), "click", () => { const till = spec.presets[now.preset]?.steps ?? Infinity; reset(); stop = till; });
  on(part("pace"), "change", () => { pace = part("pace").value; paceFrom = null; });
  on(part("widest"), "click", () => { chooseWidest(); whisper(chosenSentence()); });
  const AFRESH = ["data", "latents", "width", "activation"]; // these need new weights
  for (const [name, select] of Object.entries(levers)) on(select, "change", () => {
    const value = typeof spec.choices[name][0] === "number" ? Number(select.value) : select.value;
    now = { ...now, [name]: value };
    if (AFRESH.includes(name)) reset();
    refresh();
  });
  on(part("learnt"), "change", () => {
    now = { ...now, learnt: part("learnt").checked, sigma: sigmaOf(net) };
    refresh();
  });
  on(part("sigma"), "input", () => {
    const [least, most] = SIGMAS.map(Math.log), sigma = Math.exp(least + (part("sigma").value / 100) * (most - least));
    now = { ...now, sigma };
    net.weights[net.weights.length - 1] = Math.log(sigma);
    evaluate();
    refresh();
  });
  on(part("seed"), "change", () => {
    const seed = Number(part("seed").value);
    if (!/^\d+$/.test(part("seed").value.trim()) || seed >= SEEDS) {
      say(fill(words["bad-seed"], { most: SEEDS - 1 }));
      part("seed").value = now.seed;
      return;
    }
    now = { ...now, seed };
    reset();
  });

  const pad = root.querySelector(".pg-plane");
  const bounded = value => Math.max(-REACH.data, Math.min(REACH.data, value));
  function setOwn(next) {
    const before = own.length;
    own = next;
    now = { ...now, points: Array.from({ length: own.length / 2 }, (_, n) => own.slice(2 * n, 2 * n + 2)) };
    if (!before || !own.length) return reset(); // the first point of all, or none is left
    points = Float64Array.from(own); // the network goes on learning
    chosen = Math.min(chosen, points.length / 2 - 1);
    evaluate();
    refresh();
  }
  function addPoint(a, b) {
    if (own.length >= 2 * MOST_OWN) return say(fill(words["many-points"], { most: MOST_OWN }));
    chosen = own.length / 2;
    setOwn([...own, Number(a.toFixed(3)), Number(b.toFixed(3))]);
    whisper(fill(words.points, { points: own.length / 2 }));
  }
  function removePoint(n) {
    if (n >= 0) setOwn(own.filter((_, k) => k >> 1 !== n));
    if (own.length) whisper(fill(words.points, { points: own.length / 2 }));
  }
  function pointAt(event) {
    const box = part("data").getBoundingClientRect();
    return part("data").valueAt(event.clientX - box.left, event.clientY - box.top).map(bounded);
  }
  on(pad, "pointerdown", event => {
    if (event.button) return;
    event.preventDefault();
    pad.focus({ preventScroll: true });
    cursor = null;
    const [a, b] = pointAt(event), { index, away } = nearestOf(points, a, b);
    if (now.data === "own" && !(away < 0.15)) return addPoint(a, b);
    chosen = index;
    refresh();
  });
  on(pad, "keydown", event => {
    const size = event.shiftKey ? 0.5 : 0.1;
    const moves = { ArrowLeft: [-size, 0], ArrowRight: [size, 0], ArrowDown: [0, -size], ArrowUp: [0, size] };
    const acts = { Enter: true, " ": true, Delete: true, Backspace: true };
    if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in moves || event.key in acts)) return;
    event.preventDefault();
    cursor ??= chosen >= 0 ? [points[2 * chosen], points[2 * chosen + 1]] : [0, 0];
    if (event.key in moves) {
      cursor = cursor.map((value, k) => bounded(value + moves[event.key][k]));
      const { index } = nearestOf(points, ...cursor);
      chosen = index;
      whisper(fill(words.cursor, { x: written(cursor[0], 1), y: written(cursor[1], 1) }));
    } else if (now.data === "own") {
      if (event.key === "Enter" || event.key === " ") addPoint(...cursor);
      else removePoint(nearestOf(points, ...cursor).index);
    } else whisper(chosenSentence());
    refresh();
  });
  on(pad, "blur", () => { cursor = null; refresh(); });
  on(part("undo"), "click", () => removePoint(own.length / 2 - 1));
  on(part("clear"), "click", () => { setOwn([]); pad.focus(); });
  on(root, "keydown", event => event.stopPropagation());

  // --- the page around: its width and its theme
  const sized = new ResizeObserver(refresh), themed = new MutationObserver(refresh);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  el.append(root);
  const custom = now.preset === null;
  if (custom) { part("about").textContent = words["about-own"]; part("preset").value = ""; reset(); }
  else setPreset(now.preset);
  draw();
  sized.observe(root);
  for (const node of [document.documentElement, document.body]) themed.observe(node, { attributes: true });
  dark.addEventListener("change", refresh);
  return {
    destroy() {
      running = false;
      cancelAnimationFrame(frame);
      sized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", refresh);
      root.remove();
    },
  };
}

function render({ model, el }) {
  const state = Object.fromEntries(["spec", "settings", "labels"].map(name => [name, model.get(name)]));
  const onState = value => { model.set("state", value); model.save_changes(); };
  return mount(el, state, { onState }).destroy;
}
export default { initialize, render };
