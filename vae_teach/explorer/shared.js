// What the course's widgets have in common: packed numbers, layers, pictures, numbers in words.
// Python puts this file before a widget's own, and both become one module without imports.

/** Numbers from little-endian half-precision bytes. Float16Array is not in every browser;
 * infinities and NaN do not occur, because Python refuses to pack them. */
export function unpackFloat16(bytes) {
  const halves = new DataView(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength);
  const numbers = new Float32Array(bytes.byteLength / 2);
  for (let k = 0; k < numbers.length; k++) {
    const half = halves.getUint16(2 * k, true);
    const exponent = (half >> 10) & 31, fraction = half & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    numbers[k] = half & 0x8000 ? -size : size;
  }
  return numbers;
}

const sigmoid = x => 1 / (1 + Math.exp(-x));
/** What may follow a layer, by the names of FOLLOWERS in Python. */
export const followers = {
  nothing: x => x,
  relu: x => Math.max(0, x),
  leaky_relu: x => Math.max(0.01 * x, x),
  "leaky_relu_0.2": x => Math.max(0.2 * x, x),
  elu: x => (x > 0 ? x : Math.expm1(x)),
  silu: x => x * sigmoid(x),
  gelu: x => x * sigmoid(Math.sqrt(8 / Math.PI) * (x + 0.044715 * x ** 3)), // (1 + tanh(u)) / 2 is sigmoid(2u)
  softplus: x => Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x))),
  tanh: Math.tanh,
  sigmoid,
};

/** The decoder mean at z. `weights` holds W (out, in) and then b, one layer after the other;
 * `layers` their sizes and what follows them, [in, out, name]. */
export function decode(weights, layers, z) {
  let start = 0, h = Float32Array.from(z); // (L)
  for (const [inputs, outputs, name] of layers) {
    const biases = start + inputs * outputs, next = new Float32Array(outputs);
    for (let o = 0; o < outputs; o++) {
      let sum = weights[biases + o];
      for (let i = 0, w = start + o * inputs; i < inputs; i++) sum += weights[w + i] * h[i];
      next[o] = followers[name](sum);
    }
    start = biases + outputs;
    h = next; // (H), ..., (D)
  }
  return h;
}

const asBytes = view => new Uint8Array(view.buffer ?? view, view.byteOffset ?? 0, view.byteLength);
const symbol = i => `z${String(i + 1).replace(/\d/g, digit => "₀₁₂₃₄₅₆₇₈₉"[digit])}`;
const distance = (a, b) => Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0));

/** White ink on black: level 255 p at each pixel. */
function paint(canvas, levels) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  levels.forEach((p, k) => picture.data.set([255 * p, 255 * p, 255 * p, 255], 4 * k));
  context.putImageData(picture, 0, 0);
}

function caption(canvas, text) {
  canvas.nextSibling.textContent = text;
  canvas.setAttribute("aria-label", text);
}

/** How a language writes numbers: { written(value, decimals), separator } of a point's coordinates. */
export function numbersIn(language) {
  const [comma, separator] = language === "pt" ? [",", "; "] : [".", ", "];
  const written = (value, decimals = 2) => value.toFixed(decimals)
    .replace(/^-(?=[0.]+$)/, "").replace("-", "−").replace(".", comma);
  return { written, separator };
}

const VIEW = "application/vnd.jupyter.widget-view+json";
const GIVEN_UP = 2500; // milliseconds after which JupyterLab no longer waits for a model

/** Called when a notebook is opened that holds an explorer. JupyterLab asks for a saved widget ten
 * times a second, for two seconds; if it comes after the last time it asked, but before it gives up,
 * it shows an error for good (ipywidgets 8.1.9, its issue 4026). So once it has given up, outputs
 * whose saved widget is nowhere shown are drawn again. Elsewhere this does nothing. */
function initialize({ model }) {
  const manager = model.widget_manager, notebook = manager?.context?.model;
  if (notebook?.cells) setTimeout(async () => {
    for (const { outputs } of notebook.cells) {
      for (let k = 0; k < (outputs?.length ?? 0); k++) {
        const output = outputs.get(k), id = output.data[VIEW]?.model_id;
        const saved = id && manager.has_model(id) && await manager.get_model(id);
        const shown = saved && (saved.comm_live || Object.keys(saved.views).length > 0);
        if (saved && !shown) outputs.set(k, output.toJSON());
      }
    }
  }, GIVEN_UP);
}
