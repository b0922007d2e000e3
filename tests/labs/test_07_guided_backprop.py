"""Lab 07's reference implementations against Captum, PyTorch and the lecture's worked example."""

from collections import OrderedDict

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from autograder.authoring.reference import load_reference
from utils.checks import count_hooks
from utils.models import load_model
from utils.scenes import CLASS_NAMES

# Captum says at every call that it sets hooks and requires gradients.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:captum")

reference = load_reference("07_guided_backprop")


def assert_agrees(actual, expected, tolerance=1e-5):
    """Agreement to the tolerance, as a part of the largest expected magnitude."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.fixture(scope="module")
def base():
    return load_model("base")


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels():
    return torch.tensor([3, 0, len(CLASS_NAMES) - 1])


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("backprop", [[-2, 0, -1], [6, 0, 0], [0, -1, 3]]),
        ("deconvnet", [[0, 3, 0], [6, 0, 1], [2, 0, 3]]),
        ("guided", [[0, 0, 0], [6, 0, 0], [0, 0, 3]]),
    ],
)
def test_rules_on_the_lectures_example(rule, rows):
    x = torch.tensor([[1.0, -1, 5], [2, -5, -7], [-3, 2, 4]], requires_grad=True)
    dout = torch.tensor([[-2.0, 3, -1], [6, -3, 1], [2, -1, 3]])
    functions = {
        "backprop": reference.BackpropReLU,
        "deconvnet": reference.DeconvReLU,
        "guided": reference.GuidedReLU,
    }
    y = functions[rule].apply(x)
    assert torch.equal(y, torch.tensor([[1.0, 0, 5], [2, 0, 0], [0, 2, 4]]))
    expected = torch.tensor(rows, dtype=torch.float32)
    assert torch.equal(torch.autograd.grad(y, x, dout)[0], expected)
    assert torch.equal(reference.relu_backward(dout, x.detach(), rule), expected)


def test_backprop_rule_against_autograd():
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[0, 0] = 0
    dout = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(x.relu(), x, dout)
    assert torch.equal(reference.relu_backward(dout, x.detach(), "backprop"), expected)


def test_guided_backprop_against_captum(base, images, labels):
    expected = captum.attr.GuidedBackprop(base).attribute(images, target=labels)
    assert_agrees(reference.guided_backprop(images, labels, base), expected)
    copied = reference.replace_relus(base, reference.GuidedReLU)
    X = images.clone().requires_grad_()
    score = copied(X).gather(1, labels[:, None]).sum()
    assert_agrees(torch.autograd.grad(score, X)[0], expected)


def test_guided_backprop_of_a_residual_network_against_captum():
    """Its ReLUs work in place, and each block uses one of them twice: only the copy can do that."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    copied = reference.replace_relus(network, reference.GuidedReLU)
    X = torch.rand(2, 3, 48, 64).requires_grad_()
    y = torch.tensor([1, 3])
    (guided,) = torch.autograd.grad(copied(X).gather(1, y[:, None]).sum(), X)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    with torch.no_grad():
        assert_agrees(copied(X), network(X))
    assert_agrees(guided, reference.guided_backprop(X, y, network))
    assert_agrees(guided, captum.attr.GuidedBackprop(network).attribute(X.detach(), target=y))


def test_deconvnet_against_captum():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, (3, 5), padding=(1, 2)),
        nn.ReLU(),
        nn.MaxPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(6 * 3 * 3, 10),
        nn.ReLU(),
        nn.Linear(10, 4),
    )
    X, y = torch.rand(3, 3, 13, 19), torch.tensor([2, 0, 3])
    expected = captum.attr.Deconvolution(network).attribute(X, target=y)
    assert_agrees(reference.deconvnet(X, y, network), expected)


def test_deconvnet_of_a_whole_network_against_captum(base, images, labels):
    copied = reference.replace_relus(base, reference.DeconvReLU)
    X = images.clone().requires_grad_()
    (ours,) = torch.autograd.grad(copied(X).gather(1, labels[:, None]).sum(), X)
    assert_agrees(ours, captum.attr.Deconvolution(base).attribute(images, target=labels))


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2), ((3, 1), 1)])
def test_max_unpool_against_poolings_gradient(window, stride):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 7, 9, generator=generator, dtype=torch.float64).requires_grad_()
    pooled, switches = F.max_pool2d(x, window, stride, return_indices=True)
    z = torch.randn(pooled.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(pooled, x, z)
    assert_agrees(reference.max_unpool(z, switches, (7, 9)), expected, tolerance=1e-12)
    if window == stride:
        unpooled = F.max_unpool2d(z, switches, window, stride, output_size=(7, 9))
        assert torch.equal(reference.max_unpool(z, switches, (7, 9)), unpooled)


@pytest.mark.parametrize("name", ["relu2", "conv4", "relu6"])
def test_neuron_gradient_against_captum(base, images, name):
    layer = base.features.get_submodule(name)
    neuron = (5, 3, 6)
    assert_agrees(
        reference.neuron_gradient(images, base, layer, *neuron),
        captum.attr.NeuronGradient(base, layer).attribute(images, neuron_selector=neuron),
    )


def test_neuron_gradient_stays_in_the_receptive_field(base, images):
    """26 × 26 pixels for ReLU 4, from row 4r − 11 and column 4c − 11 on, as in the lab's figure."""
    gradient = reference.neuron_gradient(images, base, base.features.norm4, 20, 5, 9)
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[9:35, 25:51] = False
    assert gradient.any()
    assert not gradient[..., outside].any()


def test_everything_is_left_as_it_was(base, images, labels):
    hooks = count_hooks(base)
    before = OrderedDict((name, value.clone()) for name, value in base.state_dict().items())
    reference.guided_backprop(images, labels, base)
    reference.neuron_gradient(images, base, base.features.relu4, 0, 1, 2)
    reference.replace_relus(base, reference.GuidedReLU)
    assert count_hooks(base) == hooks == 0
    assert sum(isinstance(module, nn.ReLU) for module in base.modules()) == 6
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    assert all(parameter.grad is None for parameter in base.parameters())


def test_guided_backprop_refuses_a_network_without_relu_modules(images, labels):
    network = reference.FunctionalNetwork()
    with pytest.raises(ValueError, match=r"nn\.ReLU"):
        reference.guided_backprop(images, labels.clamp(max=3), network)
