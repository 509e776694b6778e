"""What the formulas of lesson 04 are about."""

import numpy as np
from meanings import definitions, tensor
from scipy import special
from torch import nn
from torch.nn import functional as F

from vae_teach import densities


def meanings(at):
    inputs, outputs = 1 + round(9 * at("a")), 1 + round(9 * at("b"))
    layer = nn.Linear(inputs, outputs, bias=False)
    products, sums = layer.weight.numel(), outputs * inputs  # of each row, from zero
    x, p, share = (at(name) / 2 for name in ("x", "p", "s"))
    logits = tensor([special.logit(p)]).requires_grad_()
    densities.log_bernoulli(tensor([x]), logits).backward()
    amdahl = definitions("04_gpu_training", "solution_amdahl")["solution_amdahl"]
    return {
        "work": {
            "a": inputs,
            "b": outputs,
            "a b": products,
            "2ab": products + sums,
        },
        "ladder": {
            "p": p,
            "x": x,
            r"\ell": special.logit(p),
            r"\log(1 + e^\ell) - x \ell": F.binary_cross_entropy(tensor(p), tensor(x)),
            r"\log(1 + e^{20})": np.logaddexp(0, 20),
            r"x - \mathrm{sigmoid}(\ell)": logits.grad,
        },
        "solution-amdahl-text": {"s": share, "1 / (1 - s)": amdahl(share, np.inf)},
    }
