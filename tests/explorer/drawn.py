"""The committed drawing explorer: its model in PyTorch, its arithmetic in Node.js."""

import base64
import functools
import json
import subprocess
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss

from vae_teach import exact, words
from vae_teach.densities import log_bernoulli
from vae_teach.explorer import FOLLOWERS, DrawingExplorer
from vae_teach.nets import VAE

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "book" / "widgets" / "drawing.json"
BYTES = ("weights", "encoder", "partition", "codes", "classes", "drawings")
RUN = """
import { readFileSync } from "node:fs";
const { modelOf, ledgerOf, encode, centred, stroke } = await import("./widget.mjs");
const { state, asked } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const traits = { ...state.plain };
for (const [name, text] of Object.entries(state.bytes))
  traits[name] = new DataView(Uint8Array.from(Buffer.from(text, "base64")).buffer);
const model = modelOf(traits);
const answers = asked.map(([pixels, noise]) => {
  const x = Uint8Array.from(pixels, Number);
  const { table, highest, ...numbers } = ledgerOf(model, x, noise);
  return { ...numbers, step: table?.step };
});
console.log(JSON.stringify(answers));
"""


def stored_state():
    """Return the start page's widget: plain traits, and bytes in base64."""
    content = json.loads(STORED.read_text(encoding="utf-8"))
    inflated = {
        name: base64.b64encode(zlib.decompress(base64.b64decode(text))).decode()
        for name, text in content["bytes"].items()
    }
    plain = {"spec": content["spec"], "labels": DrawingExplorer.words()}
    return {"plain": plain, "bytes": inflated}


def state_of(widget):
    """Return a widget's traits as ``stored_state`` does."""
    coded = {n: base64.b64encode(getattr(widget, n)).decode() for n in BYTES}
    return {"plain": {"spec": widget.spec, "labels": widget.labels}, "bytes": coded}


def halves(state, name):
    packed = base64.b64decode(state["bytes"][name])
    return torch.from_numpy(np.frombuffer(packed, "<f2").astype(np.float32))


@functools.cache
def stored_model():
    """Return the VAE that the start page holds, both networks, rounded as there."""
    state, model = stored_state(), VAE()
    parts = {
        "encoder": (model.encoder_hidden, model.encoder_mu, model.encoder_logvar),
        "weights": (model.decoder_hidden, model.decoder_logits),
    }
    with torch.no_grad():
        for name, (hidden, *ends) in parts.items():
            tensors = [hidden.weight, hidden.bias]
            tensors += [end.weight for end in ends] + [end.bias for end in ends]
            numbers = halves(state, name)
            for tensor in tensors:
                values, numbers = numbers.tensor_split([tensor.numel()])
                tensor.copy_(values.reshape(tensor.shape))
            assert len(numbers) == 0
    return model.eval()


def stored_images(state):
    """Return the test images that the pad offers, (N, D)."""
    packed = np.frombuffer(base64.b64decode(state["bytes"]["drawings"]), np.uint8)
    return torch.from_numpy(np.unpackbits(packed)).reshape(-1, 784).float()


def ledgers(folder, state, pixels, noise=()):
    """Return what the page's own code says of images (B, D), one dict each."""
    (folder / "widget.mjs").write_text(DrawingExplorer._esm, encoding="utf-8")
    (folder / "run.mjs").write_text(RUN, encoding="utf-8")
    asked = ["".join(str(int(bit)) for bit in row) for row in pixels]
    content = {"state": state, "asked": [[x, list(noise)] for x in asked]}
    (folder / "asked.json").write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run(
        ["node", "run.mjs", "asked.json"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def true_log_p(model, x):
    return exact.log_likelihood(model, x, dtype=torch.float64)


@torch.no_grad()
def true_elbo(model, x, mu, logvar, *, points=40):
    """ELBO of one image (D,) by Gauss-Hermite quadrature over q, with NumPy's nodes."""
    nodes, weights = (torch.tensor(t) for t in hermegauss(points))
    eps = torch.cartesian_prod(nodes, nodes)  # (G, 2)
    weights = torch.outer(weights, weights).flatten() / weights.sum() ** 2
    mu, logvar = (torch.tensor(t, dtype=torch.float64) for t in (mu, logvar))
    z = (mu + torch.exp(logvar / 2) * eps).float()
    fits = log_bernoulli(x.expand(len(z), -1), model.decode_logits(z)).double()
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    return float((weights * fits).sum() - kl)


def logits_of(state, z):
    """Decode z (G, 2) as the packed layers say, without the last follower."""
    numbers, h = halves(state, "weights").double(), z.double()
    rows = state["plain"]["spec"]["layers"]
    for inputs, outputs, name in rows:
        w, b, numbers = numbers.split(
            [inputs * outputs, outputs, len(numbers) - (inputs + 1) * outputs]
        )
        h = h @ w.reshape(outputs, inputs).T + b
        if len(numbers):
            h = FOLLOWERS[name](h)
    return h


def in_language(language):
    """Set a language and return the state of the start page in it."""
    words.use_language(language)
    return stored_state()
