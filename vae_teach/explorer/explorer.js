// A VAE's decoder, run by the browser: a pad over the map of codes, one slider per latent
// coordinate, the decoded picture. Nothing here asks the kernel or the network for anything,
// so a saved notebook and a web page are as alive as a running one.
// Python joins shared.js and this file into one without imports: a page opened from disk cannot
// load modules, and takes a copy without the word `export` and the line `export default`.

const SIZE = 360; // side of the pad in its own drawing units
const PLATE = 9; // radius of the plates that name the classes, in those units
const PRIOR_QUANTILES = [0.2533, 0.5244, 0.8416, 1.2816]; // of N(0, 1) at 0.6, 0.7, 0.8, 0.9
const SPEED = 1.5; // latent units per second when a path is played
const SHORTEST_STEP = 0.05; // between two recorded points: 3 screen pixels, and a small path

// Latent coordinates in the pad's drawing units: the screen's y runs down, z2 runs up.
const toX = (value, extent) => SIZE * (0.5 + value / (2 * extent));
const toY = (value, extent) => SIZE * (0.5 - value / (2 * extent));

/** The place that lies `length` along a path of straight pieces; null past its end. */
function along(path, length) {
  for (let k = 1; k < path.length; k++) {
    const [from, to] = [path[k - 1], path[k]], piece = distance(from, to);
    if (length < piece) return to.map((end, i) => from[i] + (length / piece) * (end - from[i]));
    length -= piece;
  }
  return null;
}

/** What lies behind the marker, as SVG text: the prior's grid, the axes, the codes by class. */
function mapOf({ extent, prior }, codes, classes, written, across, up) {
  const x = value => toX(value, extent).toFixed(1), y = value => toY(value, extent).toFixed(1);
  const quantiles = prior ? PRIOR_QUANTILES.filter(q => q < extent) : [];
  const cross = (kind, at) => `<path class="${kind}" d="M${x(at)} 0V${SIZE}M0 ${y(at)}H${SIZE}"/>`;
  const grid = quantiles.map(q => cross("ve-prior", q) + cross("ve-prior", -q));

  const text = (kind, left, top, words) =>
    `<text class="${kind}" x="${left}" y="${top}">${words}</text>`;
  const spacing = [0.1, 0.5, 1, 2, 5, 10, 50].find(step => extent / step <= 4) ?? 100;
  const last = Math.floor(extent / spacing);
  const ticks = Array.from({ length: 2 * last + 1 }, (_, k) => {
    const at = (k - last) * spacing, number = written(at, spacing < 1 ? 1 : 0);
    return text("ve-tick", x(at), SIZE + 15, number) + text("ve-tick ve-left", -6, y(at), number);
  });
  const names = text("ve-axis ve-left", SIZE, SIZE + 32, `${symbol(across)} →`)
    + text("ve-axis ve-left", -6, -18, `${symbol(up)} ↑`);

  const median = values => values.sort((a, b) => a - b)[values.length >> 1];
  const dots = [], plates = [];
  for (const digit of [...new Set(classes)].sort()) {
    const points = codes.filter((_, n) => classes[n] === digit).map(c => [c[across], c[up]]);
    const inside = points.filter(point => Math.max(...point.map(Math.abs)) < extent);
    // One path of zero-length strokes with round ends: ten nodes to repaint, not a thousand.
    const strokes = inside.map(([a, b]) => `M${x(a)} ${y(b)}h0`).join("");
    dots.push(`<path class="ve-dots ve-digit-${digit % 10}" d="${strokes}"/>`);
    // Plates start at the medians, a hair apart: from one point nothing pushes them aside.
    plates.push({ digit, at: [Number(x(median(points.map(p => p[0])))) + Math.cos(digit),
      Number(y(median(points.map(p => p[1])))) + Math.sin(digit)] });
  }
  for (let round = 0; round < 100; round++) { // and move until none hides another
    for (const { at } of plates) for (const other of plates) {
      const gap = distance(at, other.at), push = Math.max(0, 2 * PLATE + 2 - gap) / 4;
      if (gap) other.at.forEach((place, k) => { at[k] += (push * (at[k] - place)) / gap; });
    }
  }
  const labels = plates.map(({ digit, at: [left, top] }) => `<circle class="ve-plate
    ve-digit-${digit % 10}" r="${PLATE}" cx="${left}" cy="${top}"/>${text("ve-class", left, top, digit)}`);
  return [...grid, cross("ve-zero", 0), ...ticks, names, ...dots, ...labels].join("");
}

/** The parts of the page. The words come from vae_teach/words.toml, which holds no markup. */
function partsOf(words, { layers: [[latents]], side, extent, prior, bernoulli }, kept, uid) {
  const coordinates = Array.from({ length: latents }, (_, i) => i);
  const options = coordinates.map(i => `<option value="${i}">${symbol(i)}</option>`).join("");
  const figure = kind => `<figure><canvas class="${kind}" role="img" width="${side}"
    height="${side}"></canvas><figcaption aria-hidden="true"></figcaption></figure>`; // said once, by the image
  const slider = i => `<label><i>${symbol(i)}</i><input type="range" min="${-extent}" max="${extent}"
    step="any" aria-label="z${i + 1}"><span class="ve-value" aria-hidden="true"></span></label>`;
  return `
    <div class="ve-plane" ${latents > 1 ? "" : "hidden"}>
      <div class="ve-row" ${latents > 2 ? "" : "hidden"}>
        <label>${words.across} <select>${options}</select></label>
        <label>${words.up} <select>${options}</select></label>
      </div>
      <div class="vae-explorer-pad" role="slider" tabindex="0" aria-label="${words.pad}"
        aria-roledescription="${words["pad-role"]}" aria-describedby="${uid}-help"
        aria-valuemin="${-extent}" aria-valuemax="${extent}">
        <svg viewBox="0 0 ${SIZE} ${SIZE}" aria-hidden="true">
          <rect class="ve-frame" width="${SIZE}" height="${SIZE}"/><g class="ve-map"/>
          <polyline class="ve-trail"/><rect class="ve-ring" x="-6" y="-6" width="12" height="12"/>
          <g class="ve-marker"><circle class="ve-halo" r="7"/><circle r="7"/><circle r="1"/></g>
        </svg>
      </div>
      <p class="ve-help" id="${uid}-help">${words.help} ${prior ? words.grid : ""}</p>
    </div>
    <div class="ve-side">
      <div class="ve-pictures">
        ${figure("vae-explorer-image")}${figure("vae-explorer-neighbour")}
      </div>
      <div class="ve-sliders">${coordinates.map(slider).join("")}</div>
      <fieldset><legend>${words.show}</legend>
        <div class="ve-row">
          <label><input type="radio" name="${uid}" class="ve-mean" checked>${words.mean}</label>
          <label ${bernoulli ? "" : "hidden"}><input type="radio" name="${uid}" class="ve-sample">${words.sample}</label>
          <button type="button" class="ve-again" ${bernoulli ? "" : "hidden"}>${words.again}</button>
          <label ${kept ? "" : "hidden"}><input type="checkbox" class="ve-nearest">${words.neighbour}</label>
        </div>
      </fieldset>
      <fieldset><legend>${words.path}</legend>
        <div class="ve-row">
          <button type="button" class="ve-record"></button><button type="button" class="ve-play"></button>
          <button type="button" class="ve-clear">${words.clear}</button><span role="status"></span>
        </div>
      </fieldset>
    </div>`;
}

/** Put an explorer into `el`. `state` holds the traits of vae_teach.explorer.LatentExplorer;
 * onZ and onPath hear what the reader does. Returns { setZ, setPath, destroy }. */
export function mount(el, state, { onZ = () => {}, onPath = () => {} } = {}) {
  const { spec, labels: words } = state, { layers, side, extent } = spec, latents = layers[0][0];
  const weights = unpackFloat16(state.weights), thumbnails = asBytes(state.thumbnails);
  const classes = [...asBytes(state.classes)], flat = unpackFloat16(state.codes);
  const codes = classes.map((_, n) => [...flat.subarray(n * latents, (n + 1) * latents)]); // (N, L)
  const kept = Math.floor((2 * thumbnails.length) / side ** 2); // the first codes have pictures

  const { written, separator } = numbersIn(words.language);
  const point = values => (latents > 1 ? `(${values.map(v => written(v)).join(separator)})` : written(values[0]));

  const root = document.createElement("div");
  Object.assign(root, { className: "vae-widget vae-explorer", lang: words.language, role: "group", ariaLabel: words.title });
  root.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the arrows for its cells
  root.innerHTML = partsOf(words, spec, kept, `vae-explorer-${Math.random().toString(36).slice(2)}`);
  const part = kind => root.querySelector(`.${kind}`);
  const pad = part("vae-explorer-pad"), image = part("vae-explorer-image"), sample = part("ve-sample");
  const record = part("ve-record"), play = part("ve-play"), clear = part("ve-clear");
  const status = root.querySelector("[role=status]");
  const sliders = [...root.querySelectorAll("[type=range]")], selects = root.querySelectorAll("select");

  // --- what changes, and how it is drawn
  let z = [...state.z], path = state.path, dice; // dice: a uniform number per pixel
  let chosen = [0, latents > 1 ? 1 : 0]; // the coordinates that the pad moves: across, up
  let frame = 0, moved = false, recording = false, playing = 0;
  const spot = values => [toX(values[chosen[0]], extent), toY(values[chosen[1]], extent)];
  const roll = () => { dice = Float32Array.from({ length: side * side }, Math.random); };

  function drawMap() {
    part("ve-map").innerHTML = mapOf(spec, codes, classes, written, ...chosen);
    selects.forEach((select, k) => { select.value = chosen[k]; });
  }

  function drawPicture() {
    const begin = performance.now();
    const mean = decode(weights, layers, z); // (D)
    root.dataset.ms = (performance.now() - begin).toFixed(2);
    // The dice stay until the reader draws again, so that a drag changes z and nothing else.
    paint(image, sample.checked ? mean.map((p, k) => (dice[k] < p ? 1 : 0)) : mean);
    const title = sample.checked ? words["sample-caption"] : words["mean-caption"];
    caption(image, latents > 3 ? title : `${title},\nz = ${point(z)}`);
  }

  /** Returns the class of the nearest code, and shows its image if the reader asked for it. */
  function drawNearest() {
    const away = codes.slice(0, kept || codes.length).map(code => distance(code, z));
    const index = away.indexOf(Math.min(...away)); // -1 without codes
    const shown = part("ve-nearest").checked && index >= 0;
    const canvas = part("vae-explorer-neighbour"); // four bits a pixel, the high half first
    canvas.parentNode.hidden = !shown;
    part("ve-ring").toggleAttribute("hidden", !shown);
    if (shown) {
      const pixels = Array.from({ length: side * side }, (_, k) => k + index * side * side);
      paint(canvas, pixels.map(k => ((thumbnails[k >> 1] >> (k % 2 ? 0 : 4)) & 15) / 15));
      const about = words["neighbour-caption"].replace("{kept}", kept);
      caption(canvas, about.replace("{digit}", classes[index]));
      part("ve-ring").setAttribute("transform", `translate(${spot(codes[index])})`);
    }
    return classes[index];
  }

  function drawControls(near) {
    part("ve-marker").setAttribute("transform", `translate(${spot(z)})`);
    part("ve-trail").setAttribute("points", path.map(spot).join(" "));
    const spoken = chosen.map(i => `z${i + 1} = ${written(z[i])}`);
    if (near !== undefined) spoken.push(`${words["near-class"]} ${near}`);
    pad.setAttribute("aria-valuenow", z[chosen[0]]);
    pad.setAttribute("aria-valuetext", spoken.join("; "));
    sliders.forEach((slider, i) => {
      slider.value = z[i];
      slider.setAttribute("aria-valuetext", written(z[i]));
      slider.nextSibling.textContent = written(z[i]);
    });
    record.textContent = recording ? words.stop : words.record;
    play.textContent = playing ? words.stop : words.play;
    play.hidden = clear.hidden = path.length < 2;
    const news = recording ? words.recording : path.length > 1 ? words.points : words["no-path"];
    const report = news.replace("{points}", path.length);
    if (status.textContent !== report) status.textContent = report; // or it is read out each time
  }

  function draw() {
    frame = 0;
    drawPicture();
    drawControls(drawNearest());
    root.dataset.z = JSON.stringify(z);
    if (moved) onZ(z);
    moved = false;
  }
  // However many events arrive, one picture per frame of the screen.
  const refresh = () => { frame ||= requestAnimationFrame(draw); };

  // --- what moves the point
  function go(next) {
    z = next;
    moved = true;
    if (recording && distance(z, path.at(-1)) >= SHORTEST_STEP) path = [...path, z];
    refresh();
  }
  function move(...changes) { // pairs of a coordinate and its new value
    stopPlaying();
    const next = [...z];
    for (const [i, value] of changes) {
      next[i] = Number(Math.max(-extent, Math.min(extent, value)).toFixed(4));
    }
    go(next);
  }
  function stopRecording() {
    if (recording) onPath(path);
    recording = false;
    refresh();
  }
  function stopPlaying() {
    cancelAnimationFrame(playing);
    playing = 0;
    refresh();
  }
  function startPlaying() {
    const begin = performance.now();
    const step = now => {
      const here = along(path, (Math.max(0, now - begin) / 1000) * SPEED);
      playing = here ? requestAnimationFrame(step) : 0;
      go(here ?? path.at(-1));
    };
    playing = requestAnimationFrame(step);
  }
  const moveOnPad = (left, top) => move([chosen[0], left], [chosen[1], top]);
  function follow(event) {
    const box = pad.getBoundingClientRect();
    const left = (event.clientX - box.left) / box.width, top = (event.clientY - box.top) / box.height;
    moveOnPad(extent * (2 * left - 1), extent * (1 - 2 * top));
  }

  // --- what the reader does
  const on = (node, kind, act) => node.addEventListener(kind, act);
  const onKey = (node, act) => on(node, "keydown", event => {
    const step = event.shiftKey ? 0.5 : 0.1;
    const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowDown: [0, -step],
      ArrowUp: [0, step], PageDown: [0, -1], PageUp: [0, 1] };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act(...steps[event.key]);
  });
  on(pad, "pointerdown", event => {
    if (event.button) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId); // so that a drag may leave the pad and come back
    pad.focus({ preventScroll: true });
    follow(event);
  });
  on(pad, "pointermove", event => { if (pad.hasPointerCapture(event.pointerId)) follow(event); });
  onKey(pad, (right, up) => moveOnPad(z[chosen[0]] + right, z[chosen[1]] + up));
  on(pad, "keydown", event => {
    if (event.key === "Home") { event.preventDefault(); moveOnPad(0, 0); }
  });
  sliders.forEach((slider, i) => {
    on(slider, "input", () => move([i, Number(slider.value)]));
    onKey(slider, (right, up) => move([i, z[i] + right + up])); // Home and End are the browser's
  });
  on(root, "keydown", event => event.stopPropagation());
  selects.forEach((select, k) => on(select, "change", () => {
    const now = Number(select.value), other = chosen[1 - k] === now ? chosen[k] : chosen[1 - k];
    chosen = k ? [other, now] : [now, other]; // the same one twice: they swap
    drawMap();
    refresh();
  }));
  for (const kind of ["ve-mean", "ve-sample", "ve-nearest"]) on(part(kind), "change", refresh);
  on(part("ve-again"), "click", () => { roll(); sample.checked = true; refresh(); });
  on(record, "click", () => {
    if (recording) return stopRecording();
    stopPlaying();
    recording = true;
    path = [z];
  });
  on(play, "click", () => { stopRecording(); (playing ? stopPlaying : startPlaying)(); });
  on(clear, "click", () => {
    recording = false;
    stopPlaying();
    path = [];
    onPath(path);
    record.focus(); // this button is about to hide, and focus must not fall off the widget
  });

  roll();
  drawMap();
  draw();
  el.append(root);
  return {
    setZ(next) { if (String(next) !== String(z)) { z = [...next]; refresh(); } },
    setPath(next) { if (!recording) { path = next; refresh(); } },
    destroy() { cancelAnimationFrame(frame); cancelAnimationFrame(playing); root.remove(); },
  };
}

function render({ model, el }) {
  const names = ["spec", "weights", "codes", "classes", "thumbnails", "labels", "z", "path"];
  const state = Object.fromEntries(names.map(name => [name, model.get(name)]));
  const tell = name => value => { model.set(name, value); model.save_changes(); };
  const explorer = mount(el, state, { onZ: tell("z"), onPath: tell("path") });
  const hear = { z: () => explorer.setZ(model.get("z")), path: () => explorer.setPath(model.get("path")) };
  for (const name in hear) model.on(`change:${name}`, hear[name]);
  return () => { for (const name in hear) model.off(`change:${name}`, hear[name]); explorer.destroy(); };
}
export default { initialize, render };
