"""Checks accept right answers however written, and reject the usual wrong ones."""

import copy
import math
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from vae_teach import data
from vae_teach.checks import tour as checks
from vae_teach.nets import VAE


def kl(mu, logvar, tau):
    variance = logvar.exp()
    return (math.log(tau) - logvar / 2 + (variance + mu**2) / (2 * tau**2) - 0.5).sum(1)


def draw(mu, logvar, eps):
    return mu + logvar.exp().sqrt() * eps


def beta_loss(x, logits, mu, logvar, beta):
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return (loss + beta * kl(mu, logvar, 1.0)).mean()


def grid_mass(extent, latents):
    return math.erf(extent / math.sqrt(2)) ** latents


RIGHT = {
    checks.kl: [kl, lambda m, v, t: kl(m, v, t) + 0.0],
    checks.draw: [draw, lambda m, v, e: torch.addcmul(m, torch.exp(v / 2), e)],
    checks.beta_loss: [beta_loss, lambda *a: beta_loss(*a).item()],
    checks.grid_mass: [
        grid_mass,
        lambda a, n: torch.tensor(grid_mass(a, n)),
        lambda a, n: torch.tensor([grid_mass(a, n)]),
        lambda a, n: np.float32(grid_mass(a, n)),
    ],
}


def kl_in(mu, logvar, tau, *, mean=2, variance=2, logs=2):
    terms = mu**2 / tau**mean + logvar.exp() / tau**variance - 1 - logvar
    return 0.5 * (terms + logs * math.log(tau)).sum(1)


def terms_of_kl(mu, logvar, tau):
    columns = zip(mu.T, logvar.T, strict=True)
    return torch.stack([kl(m[:, None], v[:, None], tau) for m, v in columns], 1)


def terms(x, logits, mu, logvar):
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return loss, 0.5 * (mu**2 + logvar.exp() - 1 - logvar)  # (B, D), (B, L)


def ball(extent, latents):
    return torch.distributions.Chi2(torch.tensor(float(latents))).cdf(
        torch.tensor(extent**2)
    )


# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.kl, lambda m, v, t: kl(m, v, 1.0), "does not depend on tau"),
    (checks.kl, lambda m, v, t: kl(m, v, t**0.5), "read as the prior's variance"),
    (checks.kl, lambda *a: kl_in(*a, mean=0), "term of the mean ignores tau"),
    (checks.kl, lambda *a: kl_in(*a, variance=0), "term of the variance ignores tau"),
    (checks.kl, lambda *a: kl_in(*a, mean=1, variance=1), "You divided by tau"),
    (checks.kl, lambda *a: kl_in(*a, logs=0), "missing from the logarithm"),
    (checks.kl, lambda *a: kl_in(*a, logs=1), "Only half of the logarithm"),
    (checks.kl, lambda *a: kl_in(*a, logs=-2), "logarithm of tau entered with"),
    (checks.kl, lambda *a: kl_in(*a, logs=0) + math.log(a[2]), "entered once only"),
    (checks.kl, lambda m, v, t: kl(m.T, v.T, t), "You summed over the batch; each"),
    (checks.kl, lambda m, v, t: kl(m, v, t).sum(), "into one number"),
    (checks.kl, lambda m, v, t: kl(m, v, t).mean(), "averaged over the batch; the"),
    (checks.kl, lambda m, v, t: kl(m, v, t) / m.shape[1],
     "You averaged over the latent dimensions. "),
    (checks.kl, lambda m, v, t: kl(m, v, t)[None], "axis did you sum"),
    (checks.kl, lambda m, v, t: -kl(m, v, t), "never negative"),
    (checks.kl, lambda m, v, t: 2 * kl(m, v, t), "twice"),
    (checks.kl, lambda m, v, t: kl(m, v, t) + m.shape[1] / 2, "With tau = 1"),
    (checks.kl, lambda m, v, t: kl(m, 2 * v, t), "read as the log"),
    (checks.kl, lambda m, v, t: kl(m, v / 2, t), "where the variance should be"),
    (checks.kl, lambda *a: terms_of_kl(*a).mean(), "You averaged everything"),
    (checks.kl, terms_of_kl, "are still apart"),
    (checks.kl, lambda m, v, t: kl(m, v, t) + ((m - m**2) / t**2).sum(1) / 2,
     "it would lower the KL"),
    (checks.kl, lambda m, v, t: (
        v / 2 - math.log(t) + (t**2 + m**2) / (2 * v.exp()) - 0.5
    ).sum(1), "the other way round"),
    (checks.kl, lambda m, v, t: kl(m, v, min(t, 1.0)), "values differ"),
    (checks.kl, lambda m, v, t: kl(m, v, max(t, 1.0)), "values differ"),
    (checks.kl, lambda m, v, t: kl_in(m, v, t, logs=0) + 3 * math.log(t),
     "values differ"),
    (checks.kl, lambda m, v, t: kl_in(m, v, t, logs=0) + 2 * math.log(t),
     "values differ"),
    (checks.kl, lambda m, v, t: kl(m, -v, t), "values differ"),
    (checks.kl, lambda m, v, t: kl(m, v, t) + 0.01, "values differ"),
    (checks.kl, lambda m, v, t: kl(m, v.log(), t), "infinities or NaN"),
    (checks.draw, lambda m, v, e: m + v.exp() * e, "multiplied by the variance"),
    (checks.draw, lambda m, v, e: m + v * e, "a logarithm, "),
    (checks.draw, lambda m, v, e: m + v.sqrt() * e, "has no square root"),
    (checks.draw, lambda m, v, e: m + v**0.5 * e, "has no square root"),
    (checks.draw, lambda m, v, e: draw(m, v, e).detach().numpy(), "cut the graph"),
    (checks.draw, lambda m, v, e: m + e, "which was left out"),
    (checks.draw, lambda m, v, e: m + 0 * e, "noise was left out"),
    (checks.draw, lambda m, v, e: draw(m, v, torch.randn_like(e)), "the same eps"),
    (checks.draw, lambda m, v, e: draw(m, v, e).detach(), "cut the graph"),
    (checks.draw, lambda m, v, e: draw(m.detach(), v, e), "cut the graph"),
    (checks.draw, lambda m, v, e: draw(m, v.detach(), e), "cut the graph"),
    (checks.draw,
     lambda m, v, e: draw(m, v, e).detach() + 2 * (m + v - (m + v).detach()),
     "values differ"),
    (checks.draw, lambda m, v, e: draw(m, v, e)[:, :2], "axis did you sum"),
    (checks.draw, lambda m, v, e: draw(torch.where(m < 1, 1, m), v, e),
     "values differ"),
    (checks.draw, lambda m, v, e: draw(0 * m, v, e), "the mean is missing"),
    (checks.draw, lambda m, v, e: draw(m, v, -e), "noise enters with its sign"),
    (checks.draw, lambda m, v, e: draw(m, -v, e), "width is inverted"),
    (checks.draw, lambda m, v, e: draw(-m, v, e), "values differ"),
    (checks.draw, lambda m, v, e: draw(m, v, e)[0], "axis did you sum"),
    (checks.beta_loss, lambda *a: beta_loss(*a) * len(a[0]), "grow with batch_size"),
    (checks.beta_loss, lambda x, y, m, v, b: (
        terms(x, y, m, v)[0].sum(1) + b * kl(m, v, 1.0)
    ), "one number per image; a loss"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], min(a[4], 3.0)), "values differ"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], max(a[4], 1.0)), "values differ"),
    (checks.beta_loss, lambda *a: beta_loss(*a) * len(a[0]) / 4, "values differ"),
    (checks.beta_loss, lambda *a: beta_loss(*a) * len(a[0]) / 5, "values differ"),
    (checks.beta_loss, lambda *a: -beta_loss(*a), "ELBO should be large"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], 1), "on beta"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], -a[4]), "KL entered"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], 1 / a[4]) * a[4], "other term"),
    (checks.beta_loss, lambda *a: beta_loss(*a[:4], 1) * a[4], "both terms"),
    (checks.beta_loss,
     lambda x, logits, m, v, b: (F.binary_cross_entropy_with_logits(logits, x)
                                 + b * kl(m, v, 1.0).mean()),
     "averaged over the pixels: a"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].mean() + terms(*a[:4])[0].sum(1).mean(),
     "In the KL you averaged over the latent dimensions"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].mean() + terms(*a[:4])[0].mean(),
     "Both call for sums"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].sum(1).mean() + terms(*a[:4])[0].sum(),
     "The reconstruction was summed over the batch"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].sum() + terms(*a[:4])[0].sum(1).mean(),
     "The KL was summed over the batch"),
    (checks.beta_loss,
     lambda *a: a[4] * terms(*a[:4])[1].sum(1).mean() - terms(*a[:4])[0].sum(1).mean(),
     "favour improbable images"),
    (checks.grid_mass, lambda a, n: grid_mass(a, 1), "a single axis"),
    (checks.grid_mass, lambda a, n: (0.5 + grid_mass(a, 1) / 2) ** n, "two sides"),
    (checks.grid_mass, lambda a, n: 1 - grid_mass(a, n), "left outside"),
    (checks.grid_mass, lambda a, n: n * grid_mass(a, 1), "exceeds 1"),
    (checks.grid_mass, lambda a, n: (grid_mass(a, 1) / 2) ** n,
     "Only half of each axis"),
    (checks.grid_mass, lambda a, n: 1 - math.exp(-a * a / 2), "circle"),
    (checks.grid_mass, ball, "mass of a ball"),
    (checks.grid_mass, lambda a, n: math.erf(a) ** n, "erf is not"),
    (checks.grid_mass, lambda a, n: 100 * grid_mass(a, n), "a percentage"),
    (checks.grid_mass, lambda a, n: grid_mass(a, n) + 1e-3, "values differ"),
    (checks.grid_mass, lambda a, n: grid_mass(a, 2), "values differ"),
    (checks.grid_mass, lambda a, n: grid_mass(a, 5), "values differ"),
    (checks.grid_mass, lambda a, n: grid_mass(min(a, 1.8), n), "values differ"),
    (checks.grid_mass, lambda a, n: grid_mass(max(a, 1.2), n), "values differ"),
    (checks.grid_mass, lambda a, n: grid_mass(round(a), n), "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.kl: checks.KL_MISTAKES,
    checks.draw: checks.DRAW_MISTAKES,
    checks.beta_loss: checks.BETA_MISTAKES,
    checks.grid_mass: checks.MASS_MISTAKES,
}


# --- the checks of models -------------------------------------------------------------


def blind(*logits, latent_dim=3):
    """Return a model that looks at no image: its ELBO is that of independent pixels."""
    model = VAE(len(logits), hidden_dim=1, latent_dim=latent_dim)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder_logits.bias.copy_(torch.tensor(logits))
    return model


def dots(lit):
    """Return images of one pixel: ``lit`` of the first 2,000, and none of 500 more."""
    pixels = torch.cat((torch.zeros(2000 - lit), torch.ones(lit), torch.zeros(500)))
    return data.Images(pixels[:, None], torch.zeros(2500, dtype=torch.long))


EVEN = blind(0.0, latent_dim=2)  # odds of one to one
BETTER = blind(math.log(1.5))  # gains log 1.2 nats on a lit pixel, loses log 1.25 else


def against(reference, images):
    """Return the check of a model against this reference, on these images."""

    def more_latents(model):
        return checks.more_latents(model, reference, images)

    return more_latents


clear = against(EVEN, dots(1193))  # by 4.2 standard errors
unclear = against(EVEN, dots(1184))  # by 3.8
alone = data.Images(torch.ones(1, 1), torch.zeros(1, dtype=torch.long))  # no spread


def other_dataset(model):
    """Check a model of ``strokes``: 2,000 black images of 300 pixels, and 500 white."""
    pixels = torch.cat((torch.zeros(2000, 300), torch.ones(500, 300)))
    images = data.Images(pixels, torch.zeros(2500, dtype=torch.long))
    strokes = {("strokes", "test"): images}
    with patch.object(checks.data, "load", lambda *name: strokes[name]):
        return checks.other_dataset(model)


def reaching(nats, **sizes):
    """Return a model whose ELBO is so many nats on an image of 300 black pixels."""
    black = math.exp(nats / 300)
    return blind(*[math.log(1 / black - 1)] * 300, **sizes)


class Quits(VAE):
    def encode(self, x):
        raise SystemExit("bye")


RIGHT_MODELS = {
    clear: [BETTER, copy.deepcopy(BETTER).double(), copy.deepcopy(BETTER).bfloat16()],
    other_dataset: [
        reaching(-149.6, latent_dim=2),
        reaching(-149.6, latent_dim=2).double(),
    ],
}
WRONG_MODELS = [
    (unclear, BETTER, "no clear gain"),
    (clear, blind(0.0), "changed by 0.0 ± 0.0 nats"),
    (clear, blind(-math.log(1.5)), "no clear gain"),
    (clear, blind(math.log(1.5), latent_dim=2), "latent_dim=2; the question"),
    (clear, blind(math.log(1.5), latent_dim=1), "latent_dim=1; the question"),
    (clear, blind(math.nan), "training diverged"),
    (clear, blind(0.0, 0.0), "2 pixels; those of the question have 1"),
    (clear, Quits(1), "stopped with SystemExit: bye"),
    (clear, ..., "No answer yet"),
    (clear, None, "No answer yet"),
    (clear, "a model", "Got str"),
    (against(blind(math.nan), dots(1193)), BETTER, "training diverged"),
    (against(blind(0.0, 0.0), dots(1193)), BETTER, "takes images of 2 pixels"),
    (against(EVEN, alone), BETTER, "no clear gain"),
    (other_dataset, reaching(-150.4, latent_dim=2), "asks for −150 at least"),
    (
        other_dataset,
        reaching(-100.0, latent_dim=1),
        "latent_dim=1; the question asks for two",
    ),
    (
        other_dataset,
        reaching(-100.0, latent_dim=3),
        "latent_dim=3; the question asks for two",
    ),
    (other_dataset, reaching(math.nan, latent_dim=2), "training diverged"),
    (other_dataset, VAE(100), "takes images of 100 pixels"),
    (other_dataset, ..., "No answer yet"),
    (other_dataset, 3, "Got int"),
]
PRAISE = {
    checks.kl: ("KL agrees with that of", "KL coincide com a de"),
    checks.draw: ("draw is as expected", "amostra é a esperada"),
    checks.beta_loss: ("With beta = 1", "Com beta = 1"),
    checks.grid_mass: ("prior mass inside the grid", "massa da priori dentro da grade"),
    clear: ("rose by 0.0 ± 0.0 nats", "subiu 0,0 ± 0,0 nats"),
    other_dataset: (
        "drawn digits is −149.6 nats",
        "dígitos desenhados é de −149,6 nats",
    ),
}
IN_PORTUGUESE = {
    "does not depend on tau": "não depende de tau",
    "read as the prior's variance": "lido como a variância da priori",
    "term of the mean ignores tau": "termo da média não leva tau em conta",
    "term of the variance ignores tau": "termo da variância não leva tau em conta",
    "You divided by tau": "Você dividiu por tau",
    "missing from the logarithm": "Falta tau no logaritmo",
    "Only half of the logarithm": "só entrou pela metade",
    "logarithm of tau entered with": "logaritmo de tau entrou com o sinal",
    "entered once only": "entrou uma única vez",
    "You summed over the batch; each": "Você somou sobre o lote, mas cada imagem",
    "into one number": "num número só",
    "You averaged everything": "média de tudo",
    "averaged over the batch; the": "média sobre o lote, mas a função",
    "are still apart": "Falta reunir",
    "You averaged over the latent dimensions. ": "média sobre as dimensões latentes. ",
    "never negative": "nunca é negativa",
    "twice": "o dobro",
    "With tau = 1": "Com tau = 1",
    "read as the log": "logvar foi lido",
    "where the variance should be": "Onde deveria estar a variância",
    "it would lower the KL": "ele diminuiria a KL",
    "the other way round": "no sentido contrário",
    "multiplied by the variance": "multiplicado pela variância",
    "a logarithm, ": "um logaritmo, ",
    "has no square root": "não tem raiz quadrada",
    "cut the graph": "cortou o grafo",
    "which was left out": "que ficou de fora",
    "noise was left out": "o ruído ficou de fora",
    "the mean is missing": "falta a média",
    "noise enters with its sign": "ruído entra com o sinal",
    "width is inverted": "largura está invertida",
    "the same eps": "o mesmo eps",
    "grow with batch_size": "cresceria com batch_size",
    "one number per image; a loss": "um número por imagem, mas a perda",
    "ELBO should be large": "queremos um ELBO grande",
    "on beta": "não depende de beta",
    "KL entered": "A KL entrou",
    "other term": "peso do outro termo",
    "both terms": "os dois termos",
    "averaged over the pixels: a": "média sobre os pixels: isso é",
    "In the KL you averaged over the latent dimensions": "Na KL, você tirou a média",
    "Both call for sums": "o certo é somar",
    "The reconstruction was summed over the batch": "Você somou a reconstrução sobre",
    "The KL was summed over the batch": "Você somou a KL sobre o lote",
    "favour improbable images": "imagens improváveis",
    "a single axis": "um só eixo",
    "two sides": "dois lados",
    "left outside": "fica de fora da grade",
    "exceeds 1": "passa de 1",
    "Only half of each axis": "Só metade de cada eixo",
    "circle": "círculo",
    "mass of a ball": "massa de uma bola",
    "erf is not": "erf não é",
    "a percentage": "em porcentagem",
    "no clear gain": "não é um ganho claro",
    "changed by 0.0 ± 0.0 nats": "mudou em 0,0 ± 0,0 nats",
    "latent_dim=1; the question": "latent_dim=1; a questão",
    "latent_dim=2; the question": "latent_dim=2; a questão",
    "latent_dim=1; the question asks for two": "latent_dim=1; a questão pede duas",
    "latent_dim=3; the question asks for two": "latent_dim=3; a questão pede duas",
    "training diverged": "treinamento divergiu",
    "2 pixels; those of the question have 1": "2 pixels; as da questão têm 1",
    "takes images of 2 pixels": "recebe imagens de 2 pixels",
    "takes images of 100 pixels": "recebe imagens de 100 pixels",
    "asks for −150 at least": "pede ao menos −150",
    "Got str": "Recebi str",
    "Got int": "Recebi int",
}
