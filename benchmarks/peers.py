"""One epoch of the same VAE: vae_teach's fit beside JAX, Pyro, Lightning and pythae.

Run: uv run --group peers python benchmarks/peers.py [--rounds 5] [--images 60000]
     [--threads N] [--fused]
Writes results/peers.json, or results/peers_fused.json with --fused.

All train ``nets.VAE`` from the same weights on the CPU, with the same binary images in
memory, batch size and learning rate; each does the rest as its own manual shows, with
logs, bars, checkpoints and validation off. Only the epoch is timed: models, datasets
and trainers are made before. Manuals show Adam as it comes; ``fit`` asks PyTorch for
its fused form, which ``--fused`` gives to those that have PyTorch's too. JAX compiles a
whole epoch, before the clock runs.
"""

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import contest
import torch
import torch.nn.functional as F
from results import read_options, write
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae_teach import data, nets, train

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
DEVICE = "cpu"
TEST_SEED = 0
PACKAGES = {
    "JAX": "jax",
    "Pyro": "pyro-ppl",
    "Lightning": "lightning",
    "pythae": "pythae",
}

Row = dict[str, Any]
Settings = dict[str, Any]


@dataclass
class Contestant:
    """One way to train; a call trains a fresh model and returns the epoch's seconds.

    Args:
        epoch: trains the model it is given for one epoch and returns the seconds.
        models: all that were trained, in order, to be tested when the clock is off.
    """

    epoch: Callable[[nets.VAE], float]
    models: list[nets.VAE] = field(default_factory=list)

    def __call__(self) -> float:
        """Train once; in the same round all contestants start from the same weights."""
        torch.manual_seed(len(self.models))
        model = nets.VAE()
        self.models.append(model)
        return self.epoch(model)


def vae_teach_fit(images: data.Images, adam: Settings) -> Contestant:
    """Train with ``train.fit``: its Adam is always fused, its clock its own."""

    def epoch(model: nets.VAE) -> float:
        history = train.fit(
            model,
            images,
            epochs=1,
            batch_size=BATCH_SIZE,
            learning_rate=adam["lr"],
            device=DEVICE,
            progress=False,
        )
        return history.column("seconds")[0]

    return Contestant(epoch)


def in_jax(images: data.Images, adam: Settings) -> Contestant:
    """Train with optax, the whole epoch one compiled ``lax.scan`` over its batches."""
    import jax
    import optax

    optimizer = optax.adam(adam["lr"])
    bits = jax.numpy.asarray(images.pixels.numpy())
    whole = len(images) // BATCH_SIZE * BATCH_SIZE

    def step(carried: Any, chosen: Any) -> tuple[Any, Any]:
        weights, state, key = carried
        key, own = jax.random.split(key)
        loss, slopes = jax.value_and_grad(jax_loss)(weights, bits[chosen], own)
        updates, state = optimizer.update(slopes, state)
        return (optax.apply_updates(weights, updates), state, key), loss

    @jax.jit
    def train_epoch(weights: Any, key: Any) -> tuple[Any, Any]:
        key, own = jax.random.split(key)
        order = jax.random.permutation(own, len(images))
        carried = (weights, optimizer.init(weights), key)
        batches = order[:whole].reshape(-1, BATCH_SIZE)
        carried, losses = jax.lax.scan(step, carried, batches)
        if whole < len(images):  # the last batch is smaller
            carried, _ = step(carried, order[whole:])
        return carried[0], losses.mean()

    def epoch(model: nets.VAE) -> float:
        own = {n: jax.numpy.asarray(w.numpy()) for n, w in model.state_dict().items()}
        key = jax.random.key(torch.initial_seed())
        compiled = train_epoch.lower(own, key).compile()  # from the second one, kept
        start = time.perf_counter()
        own, _ = jax.block_until_ready(compiled(own, key))
        seconds = time.perf_counter() - start
        model.load_state_dict({n: torch.tensor(jax.device_get(own[n])) for n in own})
        return seconds

    return Contestant(epoch)


def jax_loss(weights: dict[str, Any], x: Any, key: Any) -> Any:
    """Return minus the ELBO per image of ``nets.VAE`` with these weights."""
    import jax
    import jax.numpy as jnp

    def layer(name: str, inputs: Any) -> Any:
        return inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    h = jax.nn.relu(layer("encoder_hidden", x))  # (B, H)
    mu = layer("encoder_mu", h)  # (B, L)
    logvar = layer("encoder_logvar", h).clip(-nets.LOGVAR_LIMIT, nets.LOGVAR_LIMIT)
    z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
    logits = layer("decoder_logits", jax.nn.relu(layer("decoder_hidden", z)))  # (B, D)
    misfit = jnp.sum(jnp.logaddexp(0, logits) - x * logits)
    kl = -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar))
    return (misfit + kl) / len(x)


def pyro(images: data.Images, adam: Settings) -> Contestant:
    """Train with SVI, as in Pyro's VAE example: a model, a guide and Trace_ELBO."""
    import pyro
    from pyro.infer import SVI, Trace_ELBO
    from pyro.optim import Adam

    pyro.enable_validation(False)  # checks that its manual keeps for debugging
    loader = load_batches(images)

    def epoch(vae: nets.VAE) -> float:
        pyro.clear_param_store()
        svi = SVI(*pyro_sides(vae), Adam(adam), loss=Trace_ELBO())
        return time_of(lambda: sum(svi.step(x) for (x,) in loader))

    return Contestant(epoch)


def pyro_sides(vae: nets.VAE) -> tuple[Callable[[Tensor], None], ...]:
    """Return p(x, z) and q(z|x) as the two functions that Pyro works with."""
    import pyro
    from pyro.distributions import Bernoulli, Normal

    def model(x: Tensor) -> None:
        with pyro.plate("images", len(x)):
            mean, std = x.new_zeros(vae.latent_dim), x.new_ones(vae.latent_dim)
            z = pyro.sample("z", Normal(mean, std).to_event(1))  # (B, L)
            # From logits: the example's probabilities take longer for the same numbers.
            pixels = Bernoulli(logits=vae.decode_logits(z)).to_event(1)
            pyro.sample("x", pixels, obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("vae", vae)  # all its weights, the decoder's too
        with pyro.plate("images", len(x)):
            mu, logvar = vae.encode(x)  # (B, L), (B, L)
            pyro.sample("z", Normal(mu, torch.exp(0.5 * logvar)).to_event(1))

    return model, guide


def lightning(images: data.Images, adam: Settings) -> Contestant:
    """Train with a Trainer, on the loss that most write."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.utilities import disable_possible_user_warnings

    disable_possible_user_warnings()  # it would advise worker processes
    loader, module_class = load_batches(images), lightning_module(adam)

    def epoch(model: nets.VAE) -> float:
        module = module_class(model)
        Trainer(max_epochs=1, **quiet_trainer()).fit(module, loader)
        return module.seconds

    return Contestant(epoch)


def lightning_module(adam: Settings) -> type:
    """Return the class that tells Lightning how to train, and times the epoch."""
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self, vae: nets.VAE) -> None:
            super().__init__()
            self.vae = vae

        def training_step(self, batch: list[Tensor]) -> Tensor:
            (x,) = batch
            return usual_loss(x, *self.vae(x))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), **adam)

        def on_train_epoch_start(self) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            self.seconds = time.perf_counter() - self.start

    return Module


def quiet_trainer() -> Settings:
    """Return Lightning's settings for a training that does nothing else."""
    return {
        "accelerator": DEVICE,
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def pythae(images: data.Images, adam: Settings) -> Contestant:
    """Train with pythae's VAE and BaseTrainer, the networks brought along."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer

    dataset = BaseDataset(data.grey(images.pixels), images.labels)
    encoder, decoder = pythae_networks()

    def epoch(model: nets.VAE) -> float:
        config = VAEConfig(
            input_dim=(model.input_dim,),
            latent_dim=model.latent_dim,
            reconstruction_loss="bce",
        )
        vae = VAE(config, encoder=encoder(model), decoder=decoder(model))
        with tempfile.TemporaryDirectory() as folder:
            settings = pythae_settings(folder, adam)
            trainer = BaseTrainer(vae, dataset, training_config=settings)
            trainer.prepare_training()
            # A bar and a printer, which no setting leaves out.
            trainer.callback_handler.callbacks.clear()
            return time_of(lambda: trainer.train_step(1))

    return Contestant(epoch)


def pythae_networks() -> tuple[type, type]:
    """Return the two halves of ``nets.VAE`` as classes that pythae accepts."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, vae: nets.VAE) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, x: Tensor) -> ModelOutput:
            mu, logvar = self.vae.encode(x)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self, vae: nets.VAE) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.vae.decode(z))

    return Encoder, Decoder


def pythae_settings(folder: str, adam: Settings) -> Any:
    """Return pythae's settings for one epoch, whose traces go to ``folder``."""
    from pythae.trainers import BaseTrainerConfig

    others = {name: value for name, value in adam.items() if name != "lr"}
    return BaseTrainerConfig(
        output_dir=folder,
        num_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=adam["lr"],
        optimizer_params=others,
        no_cuda=True,
        seed=torch.initial_seed(),  # the round's; it would set one of its own
    )


def load_batches(images: data.Images) -> DataLoader:
    """Return the batches of an epoch as PyTorch's manual makes them of tensors."""
    dataset = TensorDataset(data.grey(images.pixels))
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)


def usual_loss(x: Tensor, logits: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return minus the ELBO per image, as PyTorch's VAE example but from logits."""
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def time_of(work: Callable[[], Any]) -> float:
    """Return the seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


PEERS = {"JAX": in_jax, "Pyro": pyro, "Lightning": lightning, "pythae": pythae}


def installed() -> dict[str, str]:
    """Return the version of each peer that is here; say how to get the others."""
    versions = {}
    for name, package in PACKAGES.items():
        try:
            versions[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            print(f"{name} is left out: uv sync --group peers installs it.")
    return versions


def tested(models: list[nets.VAE], test: data.Images) -> Row:
    """Return the one-sample test ELBO, averaged over the models of all rounds.

    The standard error is over images; the extremes are over rounds.
    """
    measured = []
    for model in models:
        torch.manual_seed(TEST_SEED)
        measured.append(train.evaluate(model, test).elbo)  # (N,)
    elbos = torch.stack(measured)  # (rounds, N)
    each_round = elbos.mean(1)
    return {
        "test_elbo": round(elbos.mean().item(), 3),
        "standard_error": round(train.standard_error(elbos.mean(0)), 3),
        "lowest_elbo": round(each_round.min().item(), 3),
        "highest_elbo": round(each_round.max().item(), 3),
    }


def compared(seconds: dict[str, list[float]], name: str) -> Row:
    """Return how many times as fast as ``name`` our ``fit`` is, round by round."""
    pair = {"fit": seconds["fit"], name: seconds[name]}
    rows = contest.compare(pair, against=name)
    ours, theirs = rows[0], rows[-1]
    return {
        "name": name,
        "seconds": theirs["seconds"],
        "fit_times_as_fast": ours["times_faster"],
        "lowest": ours["lowest"],
        "highest": ours["highest"],
        "rounds": ours["rounds"],
    }


def tell(row: Row) -> None:
    """Print one row of the table."""
    print(
        f"{row['name']:<10} {row['seconds']:8.3f} s   "
        f"fit is {row['fit_times_as_fast']:5.2f} times as fast "
        f"({row['lowest']:.2f} to {row['highest']:.2f})   "
        f"test ELBO {row['test_elbo']:.2f} ± {row['standard_error']:.2f}"
    )


def first_images(count: int) -> data.Images:
    """Return the first training images, with bits drawn once: the same for all."""
    whole = data.load("mnist", "train", binarize="fixed")
    return replace(whole, pixels=whole.pixels[:count], labels=whole.labels[:count])


def main() -> None:
    """Time all in turns, test what they learnt, and write it down."""
    options = read_options(__doc__, flags=["fused"], images=60_000, rounds=5)
    logging.disable(logging.INFO)  # trainers announce themselves; warnings still pass
    images, versions = first_images(options.images), installed()
    if not versions:
        raise SystemExit(1)  # fit alone is no comparison, and would replace one
    adam = {"lr": LEARNING_RATE} | ({"fused": True} if options.fused else {})
    found = {"fit": vae_teach_fit(images, adam)}
    found |= {name: PEERS[name](images, adam) for name in versions}
    seconds = contest.in_turns(found, options.rounds)
    rows, test = [], data.load("mnist", "test")
    for name, contestant in found.items():
        counted = contestant.models[-options.rounds :]  # not the one thrown away
        rows.append(compared(seconds, name) | tested(counted, test))
        tell(rows[-1])
    content = {
        "versions": versions,
        "device": DEVICE,
        "images": len(images),
        "batch_size": BATCH_SIZE,
        "threads": torch.get_num_threads(),
        "adam_of_peers": adam,
        "rounds": options.rounds,
        "rows": rows,
    }
    write("peers_fused" if options.fused else "peers", content, options.out)


if __name__ == "__main__":
    main()
