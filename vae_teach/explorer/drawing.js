// A pad to draw a digit on; q(z|x), the exact posterior and the ledger follow the pen. The arithmetic
// is in ledger.js; here is what the reader sees and does. Python joins shared.js, ledger.js and this.

const PEN = 1.25, ERASER = 2; // pixels: half the width of a line; MNIST's lines are about 2.5 wide
const REMEMBERED = 60; // strokes that can be undone
const PLOT = 280; // side of a plot, in its own units and in pixels of its canvas
const RINGS = [[50, Math.sqrt(2 * Math.log(2))], [95, Math.sqrt(2 * Math.log(20))]]; // % of N(0, I) within
const HALVES = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.5, 4, 6, 10]; // of the close-up's side
const NAME = 15; // units between the names of two classes, at least
const QUIET = 700; // milliseconds after which a changed ledger is read out
const SHADES = [230, 105]; // of 255: how opaque the posterior's 50 % and 95 % regions are

/** A standard normal number (Box and Muller 1958). */
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
const draws = (count, latents) =>
  Array.from({ length: count }, () => Array.from({ length: latents }, normal));

/** Move an image so that its centre of mass lies in the middle, by whole pixels, as MNIST's does. */
export function centred(grey, side) {
  let mass = 0, across = 0, down = 0;
  grey.forEach((level, k) => {
    mass += level;
    across += level * (k % side);
    down += level * Math.floor(k / side);
  });
  const middle = (side - 1) / 2; // of the pixels' numbers
  const right = Math.round(middle - across / mass), below = Math.round(middle - down / mass);
  return grey.map((_, k) => {
    const x = (k % side) - right, y = Math.floor(k / side) - below;
    return mass && x >= 0 && x < side && y >= 0 && y < side ? grey[y * side + x] : 0;
  });
}

/** A line of the pen, or of the eraser, from one point to another, in pixels; its edge is soft. */
export function stroke(grey, side, [x0, y0], [x1, y1], erases) {
  const long = (x1 - x0) ** 2 + (y1 - y0) ** 2, radius = erases ? ERASER : PEN;
  return grey.map((level, k) => {
    const x = (k % side) + 0.5, y = Math.floor(k / side) + 0.5;
    const part = long ? Math.max(0, Math.min(1, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / long)) : 0;
    const away = Math.hypot(x - x0 - part * (x1 - x0), y - y0 - part * (y1 - y0));
    const ink = Math.max(0, Math.min(1, radius + 0.5 - away));
    return erases ? Math.min(level, 1 - ink) : Math.max(level, ink);
  });
}

/** Test images, one bit a pixel, the first in the highest bit. */
function imagesOf(bytes, pixels) {
  const packed = asBytes(bytes), count = Math.floor((8 * packed.length) / pixels);
  const bit = k => (packed[k >> 3] >> (7 - (k % 8))) & 1;
  return Array.from({ length: count }, (_, n) => Float32Array.from({ length: pixels }, (_, k) => bit(n * pixels + k)));
}

// --- plots: a square window on the latent plane ------------------------------------------------

/** Latent coordinates in a plot's units: z1 runs right, z2 up. */
const scaleOf = ({ middle: [a, b], half }) => ({
  x: z1 => PLOT * (0.5 + (z1 - a) / (2 * half)),
  y: z2 => PLOT * (0.5 - (z2 - b) / (2 * half)),
  size: length => (PLOT * length) / (2 * half),
});

const ringsAt = (kind, { x, y, size }, [a, b], [s1, s2]) => RINGS.map(([percent, radius]) =>
  `<ellipse class="${kind} vd-${percent}" cx="${x(a)}" cy="${y(b)}" rx="${size(s1 * radius)}" ry="${size(s2 * radius)}"/>`).join("");

/** Ticks and the names of the axes. */
function axesOf(window, written) {
  const { middle, half } = window, { x, y } = scaleOf(window);
  const step = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5].find(size => half / size <= 2.5) ?? 10;
  const decimals = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  const ticks = which => {
    const first = Math.ceil((middle[which] - half) / step), last = Math.floor((middle[which] + half) / step);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => (first + k) * step);
  };
  const right = ticks(0).map(at => `<path d="M${x(at)} ${PLOT}v5"/><text x="${x(at)}" y="${PLOT + 18}">${written(at, decimals)}</text>`);
  const up = ticks(1).map(at => `<path d="M0 ${y(at)}h-5"/><text class="vd-left" x="-8" y="${y(at)}">${written(at, decimals)}</text>`);
  return `${right.join("")}${up.join("")}<text class="vd-axis" x="${PLOT}" y="${PLOT + 34}">${symbol(0)} →</text>
    <text class="vd-axis" x="-8" y="-9">${symbol(1)} ↑</text>`;
}

/** Paint the regions that hold 50 % and 95 % of the posterior: { table, levels } in a window. */
function paintPosterior(canvas, { middle, half }, found, [red, green, blue]) {
  const context = canvas.getContext("2d"), picture = context.createImageData(PLOT, PLOT);
  const { data } = picture, pixel = (2 * half) / PLOT;
  if (found) {
    const { table: { values, rows, columns, z1, z2, step }, levels: [high, low] } = found;
    // Pixels whose middles lie within the table, which ends where there is nothing to see.
    const within = (first, count, begin) => [Math.max(0, Math.ceil((first - begin) / pixel - 0.5)),
      Math.min(PLOT - 1, Math.ceil((first + (count - 1) * step - begin) / pixel - 0.5) - 1)];
    const [left, right] = within(z1, rows, middle[0] - half), [bottom, top] = within(z2, columns, middle[1] - half);
    for (let px = left; px <= right; px++) {
      const i = (middle[0] - half + (px + 0.5) * pixel - z1) / step, row = Math.floor(i), a = i - row;
      for (let py = bottom; py <= top; py++) { // counted from below
        const j = (middle[1] - half + (py + 0.5) * pixel - z2) / step, column = Math.floor(j), b = j - column;
        const k = row * columns + column; // between four points
        const value = (1 - a) * ((1 - b) * values[k] + b * values[k + 1])
          + a * ((1 - b) * values[k + columns] + b * values[k + columns + 1]);
        if (value < low) continue;
        const at = 4 * ((PLOT - 1 - py) * PLOT + px);
        data[at] = red;
        data[at + 1] = green;
        data[at + 2] = blue;
        data[at + 3] = SHADES[value < high ? 1 : 0];
      }
    }
  }
  context.putImageData(picture, 0, 0);
}

/** The window that holds q's ellipses and the posterior's 95 %, in steps, so that it stays calm. */
function closeUp({ mu, sigma }, found) {
  const low = mu.map((m, i) => m - RINGS[1][1] * sigma[i]), high = mu.map((m, i) => m + RINGS[1][1] * sigma[i]);
  if (found) {
    const { table: { values, rows, columns, z1, z2, step }, levels } = found;
    for (let i = 0, k = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++, k++) {
        if (values[k] < levels[1]) continue;
        low[0] = Math.min(low[0], z1 + i * step);
        high[0] = Math.max(high[0], z1 + i * step);
        low[1] = Math.min(low[1], z2 + j * step);
        high[1] = Math.max(high[1], z2 + j * step);
      }
    }
  }
  const need = Math.max(high[0] - low[0], high[1] - low[1]) / 2;
  const half = HALVES.find(size => size >= 1.3 * need) ?? need * 1.3;
  return { half, middle: low.map((l, i) => Math.round(((l + high[i]) / 2 / half) * 8) * (half / 8)) };
}

/** Codes by class, and the prior's rings: what stays on the plane. */
function planeOf(window, codes, classes) {
  const scale = scaleOf(window), { x, y } = scale, parts = [ringsAt("vd-prior", scale, [0, 0], [1, 1])];
  const median = values => values.sort((a, b) => a - b)[values.length >> 1];
  const names = []; // at the medians, a hair apart, then moved until none hides another
  for (const digit of [...new Set(classes)].sort()) {
    const own = codes.filter((_, n) => classes[n] === digit);
    const dots = own.map(([a, b]) => `M${x(a).toFixed(1)} ${y(b).toFixed(1)}h0`).join("");
    parts.push(`<path class="vd-dots ve-digit-${digit % 10}" d="${dots}"/>`);
    names.push({ digit, at: [x(median(own.map(c => c[0]))) + Math.cos(digit), y(median(own.map(c => c[1]))) + Math.sin(digit)] });
  }
  for (let round = 0; round < 100; round++) {
    for (const { at } of names) for (const other of names) {
      const gap = distance(at, other.at), push = Math.max(0, NAME - gap) / 4;
      if (gap) other.at.forEach((place, k) => { at[k] += (push * (at[k] - place)) / gap; });
    }
  }
  const texts = names.map(({ digit, at: [left, top] }) => `<text class="vd-class" x="${left}" y="${top}">${digit}</text>`);
  return parts.join("") + texts.join("");
}

// --- the page ----------------------------------------------------------------------------------

/** The parts of the page. The words come from vae_teach/words.toml, which holds no markup. */
function drawingParts(words, side, hasMap, uid) {
  const button = (kind, text) => `<button type="button" class="vd-${kind}">${text}</button>`;
  const picture = (kind, text) => `<figure><canvas class="vd-${kind}" role="img" width="${side}" height="${side}"
    aria-label="${text}"></canvas><figcaption aria-hidden="true">${text}</figcaption></figure>`;
  const plot = (kind, title) => `<section class="vd-view vd-${kind}" ${hasMap ? "" : "hidden"}><p class="vd-title">${title}</p>
    <div class="vd-plot" role="img"><canvas width="${PLOT}" height="${PLOT}"></canvas>
    <svg viewBox="0 0 ${PLOT} ${PLOT}" aria-hidden="true"><rect class="vd-frame" width="${PLOT}" height="${PLOT}"/>
    <g class="vd-still"/><g class="vd-moving"/></svg></div></section>`;
  const key = (kind, text) => `<li><span class="vd-key vd-key-${kind}"></span>${text}</li>`;
  const term = (kind, name) => `<div class="vd-term"><dt><span class="vd-key vd-key-${kind}"></span>${name}</dt>
    <dd class="vd-n-${kind}"></dd></div>`;
  const sign = text => `<span class="vd-sign" aria-hidden="true">${text}</span>`;
  return `
    <section class="vd-draw">
      <p class="vd-title">${words.pad}</p>
      <div class="vd-pad" role="application" tabindex="0" aria-label="${words.pad}" aria-describedby="${uid}-help">
        <canvas width="${side}" height="${side}"></canvas>
        <svg viewBox="0 0 ${side} ${side}" aria-hidden="true"><circle class="vd-nib" r="1.4"/></svg>
      </div>
      <div class="ve-row" role="group" aria-label="${words.tool}">
        <label><input type="radio" name="${uid}" class="vd-pen" checked>${words.pen}</label>
        <label><input type="radio" name="${uid}" class="vd-eraser">${words.eraser}</label>
        <label><input type="checkbox" class="vd-centre" checked>${words.centre}</label>
      </div>
      <div class="ve-row">${button("undo", words.undo)}${button("clear", words.clear)}${button("example", words.example)}</div>
    </section>
    ${plot("lens", words.lens)}
    <section class="vd-ledger">
      <p class="vd-sentence"></p>
      <p class="vd-said vd-q-said"></p>
      <p class="vd-title">${words.numbers}</p>
      <dl class="vd-equation">${term("log-p", words.evidence)}${sign("=")}${term("elbo", words.elbo)}${sign("+")}${term("gap", words.gap)}</dl>
      <dl class="vd-equation">${term("elbo", words.elbo)}${sign("=")}${term("reconstruction", words.reconstruction)}${sign("−")}${term("kl", words.kl)}</dl>
      <div class="vd-bars" role="img">
        <div class="vd-bar"><span class="vd-b-reconstruction">−${words.reconstruction}</span><span class="vd-b-kl">${words.kl}</span></div>
        <div class="vd-bar"><span class="vd-b-log-p">−log p(x)</span><span class="vd-b-gap">${words.gap}</span></div>
        <div class="vd-ticks"></div>
      </div>
    </section>
    ${plot("plane", words.plane)}
    <section class="vd-side">
      <ul class="vd-legend" ${hasMap ? "" : "hidden"}>${key("q", words.q)}${key("posterior", words.posterior)}
        ${key("prior", words.prior)}${key("codes", words.codes)}${key("point", words.point)}</ul>
      <div class="vd-pictures">${picture("seen", words.seen)}${picture("mean", words.mean)}${picture("sample", words.sample)}</div>
      <div class="ve-row">${button("eps", words.eps)}<span class="vd-said vd-eps-said"></span></div>
      <p class="vd-help" id="${uid}-help">${words["pad-help"]}</p>
    </section>
    <p class="vd-spoken" role="status"></p>`;
}

/** Put a drawing explorer into `el`. `state` holds the traits of vae_teach.explorer.DrawingExplorer. */
export function mount(el, state) {
  const { spec, labels: words } = state, { side, extent } = spec;
  const { written, separator } = numbersIn(words.language);
  const root = document.createElement("div");
  Object.assign(root, { className: "vae-widget vae-drawing", lang: words.language, role: "group", ariaLabel: words.title });
  root.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the arrows for its cells
  el.append(root);
  const model = modelOf(state);
  if (!model) {
    root.innerHTML = `<p role="alert">${words.damaged}</p>`;
    return { destroy() { root.remove(); } };
  }
  const { latents } = model, hasMap = latents === 2;
  const evidence = hasMap ? words["log-p"] : words.bound.replace("{k}", spec.samples);
  root.innerHTML = drawingParts({ ...words, evidence }, side, hasMap, `vae-drawing-${Math.random().toString(36).slice(2)}`);
  const part = (kind, within = root) => within.querySelector(`.${kind}`);
  const pad = part("vd-pad"), lens = part("vd-lens"), plane = part("vd-plane");
  const examples = imagesOf(state.drawings, side * side), classes = [...asBytes(state.classes)];
  const flat = unpackFloat16(state.codes);
  const codes = classes.map((_, n) => [...flat.subarray(n * latents, (n + 1) * latents)]); // (N, L)
  const point = values => (latents > 8 ? "…" : `(${values.map(v => written(v)).join(separator)})`);

  // --- what changes
  let grey = new Float32Array(side * side), own = false; // own: drawn here, not a test image as it is
  let past = [], pen = [side / 2, side / 2], down = false; // pen: in pixels from the upper left corner
  let next = 0, frame = 0, quiet = 0, ledger, found; // next: the test image to come
  let dice, eps, noise;
  const throwDice = () => { dice = Float32Array.from({ length: side * side }, Math.random); };
  const drawEps = () => {
    [eps] = draws(1, latents);
    noise = hasMap ? [] : draws(spec.samples, latents);
    pixelDice = Float32Array.from({ length: side * side }, Math.random);
  };
  let pixelDice; // of the sample of pixels

  /** What the model sees: centred, and each pixel 1 with probability its grey level. */
  function pixelsSeen() {
    const levels = own && part("vd-centre").checked ? centred(grey, side) : grey;
    return Uint8Array.from(levels, (level, k) => (level > dice[k] ? 1 : 0));
  }

  // --- how it is drawn
  const colorOf = name => getComputedStyle(root).getPropertyValue(name).match(/[0-9a-f]{2}/gi).map(h => parseInt(h, 16));
  const moving = (view, svg) => { part("vd-moving", view).innerHTML = svg; };

  function drawMaps(z) {
    const { q, table, highest } = ledger;
    found = table && { table, levels: levelsOf(table, highest) };
    const window = closeUp(q, found), whole = { middle: [0, 0], half: extent }, color = colorOf("--posterior");
    const near = scaleOf(window), far = scaleOf(whole);
    paintPosterior(part("vd-plot", lens).firstElementChild, window, found, color);
    paintPosterior(part("vd-plot", plane).firstElementChild, whole, found, color);
    const dot = ({ x, y }) => `<circle class="vd-halo" cx="${x(z[0])}" cy="${y(z[1])}" r="4.5"/><circle class="vd-point" cx="${x(z[0])}" cy="${y(z[1])}" r="4.5"/>`;
    moving(lens, `${axesOf(window, written)}<svg width="${PLOT}" height="${PLOT}">${ringsAt("vd-prior", near, [0, 0], [1, 1])}
      ${ringsAt("vd-halo", near, q.mu, q.sigma)}${ringsAt("vd-q", near, q.mu, q.sigma)}${dot(near)}</svg>`);
    const [left, top] = [far.x(window.middle[0] - window.half), far.y(window.middle[1] + window.half)];
    const width = far.size(2 * window.half), box = kind => `<rect class="${kind}" x="${left}" y="${top}" width="${width}" height="${width}"/>`;
    moving(plane, `<svg width="${PLOT}" height="${PLOT}">${ringsAt("vd-q", far, q.mu, q.sigma)}${box("vd-halo")}${box("vd-box")}</svg>`);
    const alt = (view, text) => part("vd-plot", view).setAttribute("aria-label", text.replace("{mu}", point(q.mu))
      .replace("{sigma}", point(q.sigma)).replace("{count}", codes.length));
    alt(lens, words["lens-alt"]);
    alt(plane, words["plane-alt"]);
  }

  /** The five numbers as they are shown: rounded so that what is shown adds up, too. */
  function rounded() {
    const to = value => Math.round(value * 100) / 100;
    const elbo = to(ledger.elbo), kl = to(ledger.kl), logP = to(ledger.log_p ?? ledger.bound);
    return { elbo, kl, "log-p": logP, reconstruction: to(elbo + kl), gap: to(logP - elbo) };
  }

  function drawNumbers(shown) {
    for (const kind of ["log-p", "elbo", "gap", "reconstruction", "kl"]) {
      for (const place of root.querySelectorAll(`.vd-n-${kind}`)) place.textContent = shown ? written(shown[kind]) : "–";
    }
    const bars = part("vd-bars");
    bars.hidden = !shown;
    if (!shown) return;
    const total = -shown.elbo, first = Math.min(-shown.reconstruction, -shown["log-p"]);
    const begin = Math.max(0, first - 0.4 * (total - first)), wide = value => `${(100 * value) / (total - begin)}%`;
    const lengths = { kl: shown.kl, gap: shown.gap, reconstruction: -shown.reconstruction - begin, "log-p": -shown["log-p"] - begin };
    for (const [kind, length] of Object.entries(lengths)) {
      part(`vd-b-${kind}`).style.width = wide(length);
      part(`vd-b-${kind}`).classList.toggle("vd-thin", length < 0.12 * (total - begin)); // no room for its name
    }
    const step = [0.5, 1, 2, 5, 10, 20, 50, 100, 200].find(size => (total - begin) / size <= 7) ?? 500;
    const ticks = [];
    for (let at = Math.ceil(begin / step) * step; at <= total; at += step) {
      if ((at - begin) / (total - begin) > 0.02) ticks.push(`<span style="left: ${wide(at - begin)}">${written(at, step < 1 ? 1 : 0)}</span>`);
    }
    part("vd-ticks").innerHTML = `${ticks.join("")}<em>${begin ? words.axis : ""}</em>`;
    const said = { elbo: total, reconstruction: -shown.reconstruction, kl: shown.kl, logp: -shown["log-p"], gap: shown.gap };
    bars.setAttribute("aria-label", Object.entries(said).reduce((text, [name, value]) => text.replace(`{${name}}`, written(value)), words.bars));
  }

  /** What is seen, in a sentence or two. */
  function sentence(shown) {
    if (!shown) return words[ledger.problem].replace("{extent}", written(extent, 0));
    const off = (hasMap ? words.off : words["off-bound"]).replace("{gap}", written(shown.gap, 1));
    const below = spec.percentiles.filter(value => value < shown["log-p"]).length; // of 99
    const share = below < 50 ? 100 - below - 1 : below;
    const rank = below === 0 ? words.least : below === 99 ? words.most : below < 50 ? words.less : words.more;
    const about = hasMap ? "" : ` ${words["no-map"].replace("{latents}", latents).replace("{k}", spec.samples)}`;
    return `${off} ${rank.replace("{share}", share)}${about}`;
  }

  function drawLedger(pixels, z) {
    const shown = ledger.problem ? null : rounded(), said = sentence(shown);
    drawNumbers(shown);
    part("vd-sentence").textContent = said;
    clearTimeout(quiet); // read out once the pen rests
    quiet = setTimeout(() => { part("vd-spoken").textContent = said; }, QUIET);
    const { q, elbo, log_p, gap, reconstruction, kl, bound, problem } = ledger;
    root.dataset.ledger = JSON.stringify({ pixels: pixels.join(""), mu: q?.mu ?? null, logvar: q?.logvar ?? null,
      elbo, log_p, gap, reconstruction, kl, bound, problem, eps, z });
  }

  function drawPictures(pixels) {
    paint(part("vd-seen"), pixels);
    const { z, mean } = ledger.q ? decodedAt(model, ledger.q, eps) : { z: null, mean: new Float64Array(side * side) };
    paint(part("vd-mean"), mean);
    paint(part("vd-sample"), mean.map((p, k) => (pixelDice[k] < p ? 1 : 0)));
    part("vd-eps-said").textContent = `eps = ${point(eps)}`;
    part("vd-q-said").textContent = ledger.q ? `q(z|x): mu = ${point(ledger.q.mu)}, sigma = ${point(ledger.q.sigma)}` : "";
    return z;
  }

  function draw() {
    frame = 0;
    const begin = performance.now(), pixels = pixelsSeen(), ink = pixels.reduce((sum, bit) => sum + bit, 0);
    const nothing = { q: null, kl: null, reconstruction: null, elbo: null, log_p: null, gap: null };
    ledger = ink === 0 ? { ...nothing, problem: "empty" } : ink === pixels.length ? { ...nothing, problem: "full" }
      : ledgerOf(model, pixels, noise);
    root.dataset.sums = (performance.now() - begin).toFixed(2);
    paint(part("vd-pad").firstElementChild, grey);
    part("vd-nib").setAttribute("transform", `translate(${pen})`);
    const z = drawPictures(pixels);
    for (const view of [lens, plane]) view.classList.toggle("vd-off", !ledger.q);
    if (hasMap && z) drawMaps(z);
    drawLedger(pixels, z);
    part("vd-undo").disabled = !past.length;
    root.dataset.ms = (performance.now() - begin).toFixed(2);
  }
  // However many events arrive, one ledger per frame of the screen.
  const refresh = () => { frame ||= requestAnimationFrame(draw); };

  // --- what the reader does
  const on = (node, kind, act) => node.addEventListener(kind, act);
  const remember = () => { past = [...past, { grey, own }].slice(-REMEMBERED); };
  const draft = to => {
    grey = stroke(grey, side, pen, to, part("vd-eraser").checked);
    [pen, own] = [to, true];
    refresh();
  };
  const put = (image, isOwn) => { remember(); [grey, own] = [image, isOwn]; refresh(); };
  const placeOf = event => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side];
  };
  const undo = () => {
    if (!past.length) return;
    ({ grey, own } = past.at(-1));
    past = past.slice(0, -1);
    refresh();
  };
  const lower = to => { remember(); pen = to; draft(to); };
  on(pad, "pointerdown", event => {
    if (event.button) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId); // so that a line may leave the pad and come back
    pad.focus({ preventScroll: true });
    down = false;
    lower(placeOf(event));
  });
  on(pad, "pointermove", event => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? []; // what came between two frames
    for (const one of all.length ? all : [event]) draft(placeOf(one));
  });
  on(pad, "keydown", event => {
    const length = event.shiftKey ? 3 : 1;
    const steps = { ArrowLeft: [-length, 0], ArrowRight: [length, 0], ArrowUp: [0, -length], ArrowDown: [0, length] };
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      event.preventDefault();
      return undo();
    }
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === " ") {
      event.preventDefault();
      if (event.repeat) return;
      down = !down;
      if (down) lower(pen);
    } else if (event.key === "Escape") {
      down = false;
    } else if (event.key in steps) {
      event.preventDefault();
      const to = pen.map((at, i) => Math.max(0, Math.min(side, at + steps[event.key][i])));
      if (down) return draft(to);
      pen = to;
    }
    pad.classList.toggle("vd-down", down);
    refresh();
  });
  on(pad, "blur", () => { down = false; pad.classList.remove("vd-down"); });
  on(root, "keydown", event => event.stopPropagation());
  on(part("vd-undo"), "click", undo);
  on(part("vd-clear"), "click", () => { throwDice(); put(new Float32Array(side * side), true); });
  on(part("vd-example"), "click", () => { put(examples[next], false); next = (next + 1) % examples.length; });
  on(part("vd-centre"), "change", refresh);
  on(part("vd-eps"), "click", () => { drawEps(); refresh(); });

  throwDice();
  drawEps();
  if (hasMap) {
    const whole = { middle: [0, 0], half: extent };
    part("vd-still", plane).innerHTML = axesOf(whole, written) + planeOf(whole, codes, classes);
  }
  grey = examples[0]; // alive at once
  next = 1 % examples.length;
  part("vd-example").textContent = words.another;
  draw();
  return { destroy() { cancelAnimationFrame(frame); clearTimeout(quiet); root.remove(); } };
}

function render({ model, el }) {
  const names = ["spec", "weights", "encoder", "partition", "codes", "classes", "drawings", "labels"];
  const drawing = mount(el, Object.fromEntries(names.map(name => [name, model.get(name)])));
  return () => drawing.destroy();
}
export default { initialize, render };
