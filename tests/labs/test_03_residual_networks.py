"""Lab 03's reference implementations against torchvision, autograd, NumPy and brute force."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy.special import comb
from torch import nn
from torchvision.models.resnet import BasicBlock

from autograder.authoring.reference import load_reference
from utils.checks import count_hooks, eval_numerical_gradient_array, rel_error

reference = load_reference("03_residual_networks")


def assert_agrees(actual, expected, tolerance=1e-12):
    """Agreement to the tolerance, as a part of the largest expected magnitude."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert abs(actual - expected).max() <= tolerance * abs(expected).max()


@pytest.fixture
def block_inputs():
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape) for shape in ((6, 4), (4, 7), (7,), (7, 4), (4,))]


def torch_block(x, w1, b1, w2, b2):
    hidden = F.relu(F.linear(x, w1.T, b1))
    return F.relu(torch.add(x, F.linear(hidden, w2.T, b2)))


def test_residual_forward_against_torch(block_inputs):
    out, cache = reference.residual_forward(*block_inputs)
    assert_agrees(out, torch_block(*map(torch.from_numpy, block_inputs)).numpy())
    assert [part.shape for part in cache] == [(6, 4), (4, 7), (7, 4), (6, 7), (6, 4)]


def test_residual_backward_against_autograd_and_differences(block_inputs):
    dout = np.random.default_rng(1).standard_normal((6, 4))
    _, cache = reference.residual_forward(*block_inputs)
    gradients = reference.residual_backward(dout, cache)
    variables = [torch.tensor(value, requires_grad=True) for value in block_inputs]
    expected = torch.autograd.grad(torch_block(*variables), variables, torch.from_numpy(dout))
    for place, (gradient, oracle) in enumerate(zip(gradients, expected, strict=True)):
        assert_agrees(gradient, oracle.numpy())

        def out_for(value, place=place):
            inputs = [*block_inputs[:place], value, *block_inputs[place + 1 :]]
            return reference.residual_forward(*inputs)[0]

        numerical = eval_numerical_gradient_array(out_for, block_inputs[place], dout)
        assert rel_error(gradient, numerical) < 1e-6


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 6, 2), (5, 3, 1), (4, 4, 2)])
def test_residual_block_against_torchvision(shape, training):
    in_channels, out_channels, stride = shape
    projection = None
    if stride != 1 or in_channels != out_channels:
        projection = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    theirs = reference.randomised(BasicBlock(in_channels, out_channels, stride, projection), seed=2)
    ours = reference.ResidualBlock(*shape).double()
    state = {key.replace("downsample", "shortcut"): v for key, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    x = torch.randn(3, in_channels, 7, 10, generator=torch.Generator().manual_seed(3)).double()
    outputs, gradients = [], []
    for block in (ours.train(training), theirs.train(training)):
        variable = x.clone().requires_grad_()
        output = block(variable)
        outputs.append(output.detach())
        gradients.append(torch.autograd.grad(output.square().sum(), variable)[0])
    assert_agrees(*outputs)
    assert_agrees(*gradients)
    for (name, value), other in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name  # the running statistics moved alike


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_residual_blocks_make_torchvisions_networks(name, training):
    blocks = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}[name]
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=5).train(training)
    ours = reference.make_resnet(reference.ResidualBlock, blocks, 5).train(training)
    state = {key.replace("downsample", "shortcut"): v for key, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert_agrees(ours(images), theirs(images), tolerance=1e-5)
    count = sum(parameter.numel() for parameter in ours.parameters())
    published = {"resnet18": 11_689_512, "resnet34": 21_797_672}[name]
    assert count == published - 995 * 513  # five classes in place of ImageNet's thousand


@pytest.mark.parametrize("training", [True, False])
def test_gradient_norms_against_a_shift_of_the_output(training):
    """The gradient for an output is the gradient for a zero that is added to it."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None, num_classes=4).double().train(training)
    X, y = torch.randn(3, 3, 40, 56, dtype=torch.float64), torch.tensor([1, 3, 0])
    names = ["layer3.1", "conv1", "layer1.0", "fc"]
    norms = reference.gradient_norms(X, y, copy.deepcopy(network), names)
    for name, norm in zip(names, norms, strict=True):
        shifts = []

        def shift(module, inputs, output, shifts=shifts):
            shifts.append(torch.zeros_like(output).requires_grad_())
            return output + shifts[0]

        shifted = copy.deepcopy(network)
        shifted.get_submodule(name).register_forward_hook(shift)
        loss = F.cross_entropy(shifted(X), y)
        (gradient,) = torch.autograd.grad(loss, shifts)
        assert norm.item() == pytest.approx(gradient.square().sum().sqrt().item(), rel=1e-9)


def test_gradient_norms_leaves_no_hook_after_an_exception():
    network = reference.network_of_blocks(0)
    with pytest.raises(RuntimeError):
        reference.gradient_norms(
            torch.zeros(1, 5, 4, 4).double(), torch.tensor([0]), network, ["stem"]
        )
    assert count_hooks(network) == 0


def test_path_contributions_add_up_to_the_output():
    generator = np.random.default_rng(4)
    x, weights = generator.standard_normal((3, 5)), generator.standard_normal((7, 5, 5))
    contributions = reference.path_contributions(x, list(weights))
    product = np.linalg.multi_dot([np.eye(5) + weight for weight in weights])
    assert_agrees(contributions.sum(0), x @ product)
    assert_agrees(contributions[-1], x @ np.linalg.multi_dot(weights))


def test_path_contributions_of_equal_blocks_are_binomial():
    """Where all branches are the same matrix W, the part of length k is C(L, k) x W^k."""
    generator = np.random.default_rng(5)
    x, weight = generator.standard_normal((2, 4)), generator.standard_normal((4, 4))
    contributions = reference.path_contributions(x, [weight] * 9)
    for k, contribution in enumerate(contributions):
        expected = comb(9, k, exact=True) * x @ np.linalg.matrix_power(weight, k)
        assert_agrees(contribution, expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_init_against_torchvisions_own(name):
    networks = []
    for zero_init in (False, True):
        torch.manual_seed(2)
        networks.append(
            torchvision.models.get_model(name, num_classes=2, zero_init_residual=zero_init)
        )
    ours, theirs = networks
    reference.zero_init_last_norm(ours)
    zeros = 0
    for (key, value), expected in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), key
        zeros += key.endswith("weight") and not value.any()
    assert zeros == {"resnet18": 8, "resnet50": 16}[name]


def test_zero_init_makes_blocks_the_identity():
    block = reference.randomised(reference.ResidualBlock(4, 4), seed=6)
    nn.init.zeros_(block.bn2.bias)
    reference.zero_init_last_norm(block)
    x = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(6)).double()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("training", [True, False])
def test_remove_blocks_against_a_hook_that_hands_on_the_input(training):
    torch.manual_seed(3)
    network = torchvision.models.resnet18(weights=None, num_classes=4).train(training)
    names = ["layer3.1", "layer1.0", "layer1.1"]
    X = torch.rand(2, 3, 48, 64)
    ours = reference.remove_blocks(network, names)
    assert ours.training == training
    with torch.no_grad():
        full = copy.deepcopy(network)(X)
        bypassed = copy.deepcopy(network)
        for name in names:
            bypassed.get_submodule(name).register_forward_hook(
                lambda module, inputs, output: inputs[0]
            )
        # In training mode the hidden block still sees the batch, but its output is dropped.
        assert_agrees(ours(X), bypassed(X), tolerance=1e-6)
        assert torch.equal(network(X), full)
    assert type(network.layer1[0]) is BasicBlock
