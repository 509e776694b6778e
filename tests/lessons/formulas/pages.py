"""What the formulas on the pages of the book are about."""

from meanings import joint
from scipy import stats

SETTINGS = (
    r"\epsilon = 10^{-4}",
    r"10^{-3} \cdot 10^{-i/7}",
    "3^i",
    r"i = 0, \dots, 7",
)
SETTINGS += ("k = 5000", "k = 1", "k = 50")
LEVERS = [rf"\beta = {value}" for value in ("0", "0.1", "1", "4")]
LEVERS += [r"\sigma = 0.25", r"\sigma = 0.6", "k = 20"]


def meanings(at):
    mu, sigma, eps = map(at, ("mu", "sigma", "eps"))
    z = stats.norm.ppf(stats.norm.cdf(eps), mu, sigma)
    every = joint(at)
    posterior = every[r"p(z \mid x)"]
    gap = stats.entropy(every["q"], posterior, axis=-2)[:, None]
    to_posterior = {r"\text{posterior}": posterior, r"\text{posteriori}": posterior}
    given = {"q(z|x)": every["q"], "p(x|z)": every[r"p(x \mid z)"]}
    return {
        "": every | to_posterior | given | {r"\mathrm{KL}": gap},
        "playground": dict.fromkeys(LEVERS, "where a lever of the playground stands"),
        "references": dict.fromkeys(SETTINGS, "what a paper chose"),
        "teaching": {
            r"\log 2": stats.bernoulli.entropy(0.5),
            r"\mu": mu,
            r"\sigma": sigma,
            r"\varepsilon": eps,
            "z": z,
            r"z = \mu": "a mistake that is often made",
            "T = 1": "the temperature of the model",
        },
    }
