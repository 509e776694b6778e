"""What the formulas of lesson 03 are about."""

import numpy as np
from meanings import LINE, definitions, law, normal, slope, tensor
from scipy import optimize, stats
from torch.distributions import AffineTransform, Normal, kl_divergence
from torch.nn import functional as F

from vae_teach import exact

MU, LOGVAR = r"\mu", r"\log \sigma^2"


def meanings(at):
    lesson = definitions("03_reparameterization", "f", "slope", "average")
    mu, logvar = at(MU), at(LOGVAR) - 1.2
    sigma, eps = np.exp(logvar / 2), at("eps")
    q, noise = normal(mu, sigma), normal(0, 1)

    def f(z):
        return lesson["f"](tensor(z)).numpy()

    def f_slope(z):
        return lesson["slope"](tensor(z)).numpy()

    gaussian = {MU: mu, r"\sigma": sigma, r"\varepsilon": eps}
    gaussian["z"] = stats.norm.ppf(stats.norm.cdf(eps), mu, sigma)
    average = {"z": LINE, "f(z)": f(LINE), "f": f(LINE), "q": q, "q(z)": q}
    average |= {r"\mathbb{E}": q, r"\nabla": (MU, LOGVAR), MU: mu, r"\sigma": sigma}
    own = {"q =": law(Normal(mu, sigma).log_prob)}

    # the mean squares of the two terms over all phases of sin(a z + phase)
    def squares(a):
        phases = np.arange(8)[:, None, None] * (np.pi / 4)
        angle = a * sigma * LINE + phases
        terms = np.sin(angle) * LINE / sigma, a * np.cos(angle)
        return [np.mean(np.sum(noise * term**2, -2)) for term in terms]

    crossing = optimize.brentq(lambda a: np.subtract(*squares(a)), 0.1, 9) * sigma
    log_q = stats.norm.logpdf
    score = [
        slope(lambda mu: log_q(LINE, mu, sigma), mu),
        slope(lambda logvar: log_q(LINE, mu, np.exp(logvar / 2)), logvar),
    ]
    a, draws = at("a"), at("draws", 4, 1, 1)
    others = np.array([np.delete(draws, i).mean() for i in range(4)])[:, None, None]
    scores = at("scores", 4, 1, 1)
    theta = at(r"\theta")
    v = F.softplus(tensor(theta)).item()
    of_v = slope(lambda t: F.softplus(tensor(t)).item(), theta)
    of_density = slope(lambda v: stats.norm.logpdf(LINE, 0, np.sqrt(v)), v) * of_v
    information = np.sum(normal(0, np.sqrt(v)) * of_density**2)

    def differ(v):  # by how much the two slopes differ
        return v - (1 - np.exp(-v))

    u, rate = at("u") / 2, at(r"\lambda")
    shape, fixed = at(r"\theta"), at.still(r"\theta")  # of a gamma, and there alone
    where = stats.gamma.ppf(u, fixed)
    counts = np.arange(60)[None, :, None]
    logits, gumbel = at("logits", 1, 1, 3), at("gumbel", 1, 1, 3)
    linear = exact.LinearGaussian(tensor(at("W", 3, 1)), tensor(at("b", 3)), 1.0)
    prior, likelihood = at.density("prior", 1, 7, 1), at.density("x", 1, 7, 1)
    start, after = at("start"), at("after")
    return {
        "": gaussian,
        "average-text": average | own | {"i": 1j},
        "score-text": average
        | {
            r"\int f(z)\, q(z)\, dz": lesson["average"](tensor(mu), tensor(logvar)),
            r"\varepsilon": (LINE - mu) / sigma,
        },
        "average-seen": {r"\mu = 0": "a place in the picture"},
        "baseline-text": average
        | {
            "b": at("b"),
            r"f(z)\,\nabla \log q(z)": f(LINE) * np.stack(score),
            "S": 4,
            "f_i": draws,
            r"\bar f": draws.mean(),
            r"\bar f_{-i}": others,
        },
        "pathwise-text": average
        | {"f": f, r"\mathbb{E}_\varepsilon": noise, r"\varepsilon": LINE}
        | {"z =": AffineTransform(mu, sigma)(tensor(LINE))},
        "pathwise-derivatives": {
            "f": f(mu + sigma * eps),
            "f'(z)": f_slope(mu + sigma * eps),
        },
        "panel-text": {r"\sigma": at(r"\sigma"), "z": mu + at(r"\sigma") * eps},
        "waves-text": {
            r"f(z) = \sin(a z + \varphi)": "a definition",
            "f(z) = 1": "a definition",
            r"\sin^2": "its argument is any",
            r"\cos^2": "its argument is any",
            r"|\varepsilon|/\sigma": abs(
                slope(lambda mu: stats.norm.logpdf(gaussian["z"], mu, sigma), mu)
            ),
            r"\mathbb{E}[\varepsilon^2]": stats.norm.moment(2),
            "a": a,
            r"\frac{1}{2}": np.mean(np.sin(np.arange(8) * np.pi / 4) ** 2),
            r"\frac{1}{2\sigma^2}": squares(a)[0],
            r"\frac{a^2}{2}": squares(a)[1],
            r"a\sigma =": crossing,
            "P(z > 0)": stats.norm.sf(0, mu, sigma),
        },
        "vae-text": own
        | {
            r"\partial": kl_divergence(
                Normal(tensor(mu), tensor(sigma)), Normal(0.0, 1.0)
            ).item(),
            r"f(z) = \log p(x \mid z)": "a definition",
        },
        "vae-many-text": {
            "S": 4,
            "f_i": draws,
            r"\bar f": draws.mean(),
            "s_i": scores,
            r"\frac{1}{S - 1} \sum_i (f_i - \bar f)\, s_i": (
                np.cov(draws.ravel(), scores.ravel())[0, 1]
            ),
        },
        "logvar-text": {
            r"\theta": theta,
            "v": v,
            r"\log(1 + e^\theta)": v,
            "1 - e^{-v}": of_v,
            "v^2/2": v**2 / 2 * slope(lambda t: slope(differ, t, 5e-4), 0, 5e-4),
            "(1 - e^{-v})^2 / (2 v^2)": information,
            r"\theta = 4.6": "rounded",
            "e^{100}": "a large number",
        },
        "no-path-text": {
            "u": u,
            "F(z)": stats.gamma.cdf(where, fixed),
            "F": stats.gamma.cdf(where, shape),
            "z": stats.gamma.ppf(u, shape),
            "q(z)": stats.gamma.pdf(where, fixed),
        },
        "poisson-text": {
            "k": counts,
            r"\lambda": rate,
            r"\mathbb{E}": stats.poisson.pmf(counts, rate),
            "p": lambda k: stats.poisson.pmf(k, rate),
            "f": np.sqrt,
        },
        "gumbel-text": {
            "u": u,
            r"-\log(-\log u)": stats.gumbel_r.ppf(u),
            r"\text{logits}": logits,
            r"\text{noise}": gumbel,
            r"\text{ruído}": gumbel,
            r"\tau": at("tau"),
            "y": F.softmax(tensor(logits + gumbel) / at("tau"), -1),
        },
        "landing-text": {
            "p(x, z)": prior * likelihood,
            "q(z)": prior * likelihood / (prior * likelihood).sum(),
            r"\log p(x, z) - \log q(z)": np.log((prior * likelihood).sum()),
            "W": at("W", 3, 1)[:, 0],
            "b": at("b", 3),
            "x": linear.decode_logits(tensor([eps])).numpy(),
            "z": eps,
        },
        "solution-surrogate-text": {
            r"-\frac{1}{2}": slope(
                lambda width: log_q(mu + width * eps, mu, width) * sigma / 2, sigma
            ),
        },
        "exercise-path-text": {
            "a": start,
            "r": rate,
            "z": start + after,
            "1 - e^{-r(z - a)}": stats.expon.cdf(start + after, start, 1 / rate),
        },
    }
