"""What processes do in test_processes.py: parallel_worker.py FOLDER.

The noise is a function of the image, and nothing else is random once the batch holds
all images: so one process and several must compute the same.
"""

import os
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from vae_teach import nets, train
from vae_teach.bounds import Bound
from vae_teach.data import Images
from vae_teach.densities import kl_to_standard_normal, log_bernoulli
from vae_teach.speed.processes import Team, processes
from vae_teach.words import use_language

use_language("en")


def own_noise(model, x):
    """The ELBO at one z an image, with noise that the image alone decides."""
    mu, logvar = model.encode(x)
    table = torch.linspace(1, 90, x.shape[1] * model.latent_dim, dtype=x.dtype)
    eps = 2 * torch.sin(x @ table.reshape(x.shape[1], -1))  # (B, L)
    logits = model.decode_logits(mu + torch.exp(logvar / 2) * eps)
    reconstruction = log_bernoulli(x, logits)
    kl = kl_to_standard_normal(mu, logvar)
    return Bound(reconstruction - kl, reconstruction, kl)


def make(count=64, dtype=torch.float64):
    """A bar of four pixels that slides over sixteen."""
    torch.manual_seed(0)
    place = torch.rand(count, 1) * 12
    columns = torch.arange(16)
    pixels = ((columns >= place) & (columns < place + 4)).to(dtype)
    labels = torch.zeros(count, dtype=torch.int64)
    return nets.VAE(16, 8, 2).to(dtype), Images(pixels, labels, "bits")


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradient(place, folder):
    """The gradient of one step, on batches that share out evenly, unevenly, not."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        for size in (64, 7, 1):
            model, images = make(dtype=dtype)
            run = train.Run(model, images, objective=own_noise, team=Team(place))
            run.step(torch.arange(size) * 3 % 64)
            grads = torch.cat([p.grad.flatten() for p in model.parameters()])
            found[f"{dtype}-{size}".removeprefix("torch.")] = grads
    return found


def fit(place, folder, epochs=6, **options):
    model, images = make()
    settings = {"epochs": epochs, "batch_size": 64, "device": place, "progress": False}
    settings["objective"] = own_noise
    history = train.fit(model, images, **settings | options)
    rows = [[row["elbo"], row["kl"]] for row in history.rows]
    return {"weights": weights(model), "rows": torch.tensor(rows, dtype=torch.float64)}


def random_run(place, folder, epochs, **options):
    """A run as lessons have it: dynamic bits, own noise, several batches an epoch."""
    _, images = make(256)
    grey = Images(images.pixels * 0.9 + 0.05, images.labels, "grey", dynamic=True)
    torch.manual_seed(0)
    model = nets.VAE(16, 8, 2).double()
    settings = {"epochs": epochs, "batch_size": 60, "device": place, "progress": False}
    history = train.fit(model, grey, **settings | options)
    elbos = torch.tensor(history.column("elbo"), dtype=torch.float64)
    return {"weights": weights(model), "elbos": elbos}


def resume(place, folder):
    path = folder / "run.safetensors"
    whole = random_run(place, folder, 4)
    random_run(place, folder, 2, checkpoint=path)
    parts = random_run(place, folder, 4, checkpoint=path)
    return whole | {f"resumed-{name}": value for name, value in parts.items()}


def learn(place, folder):
    return random_run(place, folder, 60, learning_rate=1e-2)


def unshared(place, folder):
    """The first process finds a file, the others do not."""
    path = folder / f"unshared-{Team(place).rank}.safetensors"
    if Team(place).leads:
        path.write_bytes((folder / "one.safetensors").read_bytes())
    return refusal(lambda: fit(place, folder, checkpoint=path))


def small_batch(place, folder):
    return refusal(lambda: fit(place, folder, batch_size=1))


def refusal(run):
    """Return the sentence a run is refused with, as bytes."""
    try:
        run()
    except ValueError as error:
        return {"said": torch.tensor(list(str(error).encode()), dtype=torch.uint8)}
    return {}


def same_everywhere(place, folder):
    """Weights stay equal in all processes, which each save theirs."""
    found = random_run(place, folder, 2)
    found["order"] = Team(place).shuffle(50, epoch=3)
    found["noise"] = torch.rand(5)
    save_file(found, folder / f"rank{Team(place).rank}.safetensors")
    return {}


def start(folder, several, jobs):
    """Fork the processes that torchrun would start, in the environment it makes.

    What needs seconds is imported once. That torchrun does the same is for
    test_command.py to show.
    """
    with socket.socket() as door:
        door.bind(("localhost", 0))
        port = door.getsockname()[1]
    children = []
    for rank in map(str, range(several)):
        if (child := os.fork()) == 0:
            place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(several)}
            os.environ.update(place | who)
            work(folder, jobs)
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        sys.exit(f"one of {several} processes failed")


def work(folder, jobs):
    with processes("cpu") as place:
        for job in jobs:
            results = globals()[job](place, folder)
            if results and Team(place).leads:
                size = dist.get_world_size()
                save_file(results, folder / f"{job}-{size}.safetensors")


if __name__ == "__main__":
    torch.optim.Adam([torch.zeros(1)]).zero_grad()  # imports all that training needs
    folder = Path(sys.argv[1])
    most = ("gradient", "fit", "learn", "resume", "same_everywhere")
    start(folder, 2, (*most, "small_batch", "unshared"))
    start(folder, 3, ["gradient"])
