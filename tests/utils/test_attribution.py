"""Other rules in a network's ReLUs, and layers that forget: against autograd, and by what stays."""

import pytest
import torch
from torch import nn

from utils.attribution import guided_backprop, randomised_copy, replace_relus
from utils.models import load_model
from utils.testing_networks import awkward_network


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        return dout.clamp(min=0) * (ctx.saved_tensors[0] > 0)


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("parts", [False, True])
def test_every_relu_of_the_copy_goes_back_by_the_other_rule(images, parts):
    """One of the network's ReLUs stands at two places, and in the second network all work in place;
    the hooks of guided_backprop know only the first."""
    options = {"parts": parts, "hooks": True, "mixed": True}
    model, in_place = (awkward_network(3, inplace=inplace, **options) for inplace in (False, True))
    y = torch.tensor([0, 4, 1, 1, 2, 3])
    expected = guided_backprop(images, y, model)
    for network in (model, in_place):
        copied = replace_relus(network, Guided)
        X = images.clone().requires_grad_()
        scores = copied(X)
        torch.testing.assert_close(scores, model(images), rtol=0, atol=1e-12)
        (gradient,) = torch.autograd.grad(scores.gather(1, y[:, None]).sum(), X)
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
        assert not any(isinstance(module, nn.ReLU) for module in copied.modules())
        assert any(isinstance(module, nn.ReLU) for module in network.modules())


@pytest.mark.parametrize("parts", [False, True])
def test_a_layer_forgets_its_weights_and_nothing_else_does(images, parts):
    model = awkward_network(1, parts=parts, hooks=True, mixed=True)
    prefix = "features" if parts else "trunk"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [f"{prefix}.late.conv", f"{prefix}.blocks.b.bn3"]
    state = randomised_copy(model, names, images, 0).state_dict()
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
        layer, _, kind = name.rpartition(".")
        if kind in ("weight", "bias"):
            assert torch.equal(state[name], value) == (layer not in names)
    assert torch.equal(state[f"{prefix}.blocks.b.bn3.weight"], torch.ones(4, dtype=torch.float64))


def test_batchnorm_measures_the_images_anew(images):
    """Behind the new weights, each channel of a BatchNorm's output has the mean that its bias says,
    and the variance that its weight says, up to eps and the unbiased variance's N − 1."""
    model = awkward_network(2)
    copied = randomised_copy(model, ["trunk.entry.0"], images, 0)
    norm = copied.trunk.entry[1]
    outputs = copied.trunk.entry(images)
    torch.testing.assert_close(outputs.mean((0, 2, 3)), norm.bias, rtol=0, atol=1e-9)
    variance = outputs.var((0, 2, 3), unbiased=True)
    expected = norm.weight**2 * norm.running_var / (norm.running_var + norm.eps)
    torch.testing.assert_close(variance, expected, rtol=1e-9, atol=1e-9)
    assert norm.momentum == 0.37
    assert not any(module.training for module in copied.modules())


def test_a_longer_list_forgets_more_and_another_seed_otherwise(images):
    model = awkward_network(4)
    names = ["answer", "trunk.late.conv", "trunk.again"]
    short, long, other = (
        randomised_copy(model, chosen, images, seed).state_dict()
        for chosen, seed in ((names[:2], 0), (names, 0), (names, 1))
    )
    for name in names:
        weight = f"{name}.weight"
        assert torch.equal(short[weight], long[weight]) == (name in names[:2])
        assert not torch.equal(long[weight], other[weight])
    for name, value in randomised_copy(model, [], images, 0).state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_forgetting_leaves_the_global_random_numbers_alone():
    model, images = load_model("base"), torch.rand(4, 3, 64, 64)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    randomised_copy(model, ["classifier.linear", "features.conv6"], images, 0)
    assert torch.equal(torch.rand(3), expected)
