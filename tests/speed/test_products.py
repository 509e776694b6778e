"""Linear layers by oneDNN: the same numbers, where it pays and only there.

The oracle is the same layer in float64, which never goes through oneDNN.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from vae_teach import nets, products, train
from vae_teach.data import Images

needs_onednn = pytest.mark.skipif(
    not products.available(),
    reason="needs oneDNN, which PyTorch brings on x86: uv sync on such a machine",
)


class Seen(TorchDispatchMode):
    """Counts the products that oneDNN makes."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.name() == "mkldnn::_linear_pointwise"
        return function(*args, **(kwargs or {}))


def count(work):
    with Seen() as seen:
        work()
    return seen.count


def layer(rows=128, wide=100, narrow=65, dtype=torch.float32):
    torch.manual_seed(0)
    made = torch.randn(rows, wide), torch.randn(narrow, wide), torch.randn(narrow)
    return [tensor.to(dtype).requires_grad_() for tensor in made]


SHAPES = [(128, 784, 400), (128, 400, 784), (64, 64, 64), (1000, 65, 99)]


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [True, False])
def test_value_and_gradients_are_those_of_float64(shape, biased):
    inputs = layer(*shape)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    if not biased:
        inputs, exact = inputs[:2], exact[:2]
    y, oracle = products.linear(*inputs), F.linear(*exact)
    weight = torch.cos(torch.arange(oracle.numel())).reshape(oracle.shape)
    ours = [y, *torch.autograd.grad((y * weight).sum(), inputs)]
    theirs = [oracle, *torch.autograd.grad((oracle * weight).sum(), exact)]
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        scale = other.abs().max()
        assert torch.allclose(one.double() / scale, other / scale, atol=1e-6)


@needs_onednn
def test_gradients_of_gradients_are_those_of_float64():
    inputs = layer()
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]

    def curvature(function, tensors):
        value = function(*tensors).square().sum()
        first = torch.autograd.grad(value, tensors, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), tensors)

    for one, other in zip(
        curvature(products.linear, inputs), curvature(F.linear, exact), strict=True
    ):
        scale = other.abs().max()
        assert torch.allclose(one.double() / scale, other / scale, atol=1e-5)


@needs_onednn
def test_only_the_gradients_asked_for_are_computed():
    x, weight, bias = layer()
    assert count(lambda: products.linear(x, weight, bias).sum().backward()) == 3
    kept = x.detach()  # pixels
    assert count(lambda: products.linear(kept, weight, bias).sum().backward()) == 2
    assert count(lambda: products.linear(kept, weight.detach())) == 1


@needs_onednn
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((63, 100, 100), torch.float32),
        ((128, 2, 400), torch.float32),
        ((128, 400, 2), torch.float32),
        ((128, 100, 100), torch.float64),
        ((128, 100, 100), torch.bfloat16),
    ],
)
def test_what_does_not_suit_goes_the_usual_way(shape, dtype):
    inputs = layer(*shape, dtype=dtype)
    assert count(lambda: products.linear(*inputs)) == 0
    assert torch.equal(products.linear(*inputs), F.linear(*inputs))


@needs_onednn
def test_other_precisions_are_pytorchs_own():
    x, weight, bias = layer()
    assert count(lambda: products.linear(x, weight, bias)) == 1
    with train._products_at("medium"):
        assert count(lambda: products.linear(x, weight, bias)) == 0
    with train._products_at("high"):  # on a CPU, float32 as before
        assert count(lambda: products.linear(x, weight, bias)) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight, bias).dtype == torch.bfloat16


def test_more_axes_go_the_usual_way():
    x, weight, bias = layer(64 * 64)
    several = x.detach().reshape(64, 64, -1)
    assert count(lambda: products.linear(several, weight, bias)) == 0
    assert products.linear(several, weight, bias).shape == (64, 64, 65)


@needs_onednn
def test_the_smallest_that_suits():
    assert count(lambda: products.linear(*layer(64, 64, 64))) == 1


@needs_onednn
def test_layers_go_through_it_only_within_the_context():
    net = torch.nn.Linear(100, 65)
    x, _, _ = layer()
    kept = {name: id(weight) for name, weight in net.state_dict(keep_vars=True).items()}
    for _ in range(2):
        with products.by_onednn(net), products.by_onednn(net):
            assert count(lambda: net(x)) == 1
            seen = net.state_dict(keep_vars=True)
            assert {name: id(weight) for name, weight in seen.items()} == kept
        assert count(lambda: net(x)) == 0
    with pytest.raises(ZeroDivisionError), products.by_onednn(net):
        1 / 0  # noqa: B018
    assert count(lambda: net(x)) == 0
    assert "forward" not in vars(net)


@needs_onednn
def test_fit_uses_it():
    """Two layers suit: two products forward, two for weights, one for the codes."""
    torch.manual_seed(0)
    images = Images(torch.rand(128, 784).round(), torch.zeros(128, dtype=torch.int64))
    model, how = nets.VAE(), {"epochs": 1, "device": "cpu", "progress": False}
    assert count(lambda: train.fit(model, images, **how)) == 5
    assert count(lambda: model(images.pixels)) == 0


@needs_onednn
def test_a_run_learns_the_same_with_and_without(monkeypatch):
    def learn():
        torch.manual_seed(0)
        pixels = torch.rand(256, 784).round()
        images = Images(pixels, torch.zeros(256, dtype=torch.int64))
        model = nets.VAE()
        return train.fit(model, images, epochs=3, device="cpu", progress=False)

    with_it = learn()
    monkeypatch.setattr(products, "_suits", lambda x, weight: False)
    without = learn()
    assert with_it.column("elbo") != without.column("elbo")  # another order of sums
    assert with_it.column("elbo") == pytest.approx(without.column("elbo"), rel=1e-5)


@pytest.mark.parametrize("problem", [AttributeError, RuntimeError, "wrong"])
def test_without_the_operation_layers_are_pytorchs(monkeypatch, problem):
    def product(x, weight, bias):
        if problem == "wrong":
            return x @ weight
        raise problem("no such operation")

    products.available.cache_clear()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(products, "_product", product)
            assert not products.available()
            inputs = layer()
            assert torch.equal(products.linear(*inputs), F.linear(*inputs))
            net = torch.nn.Linear(100, 65)
            with products.by_onednn(net):
                assert "forward" not in vars(net)
    finally:
        products.available.cache_clear()


@pytest.mark.parametrize("machine", ["arm64", "aarch64"])
def test_other_processors_keep_pytorchs(monkeypatch, machine):
    products.available.cache_clear()
    monkeypatch.setattr("platform.machine", lambda: machine)
    try:
        assert not products.available()
    finally:
        products.available.cache_clear()


def test_layers_on_other_devices_are_left_alone():
    net = torch.nn.Linear(100, 65, device="meta")
    with products.by_onednn(net):
        assert "forward" not in vars(net)
