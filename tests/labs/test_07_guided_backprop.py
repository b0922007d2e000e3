"""Lab 07's reference implementations against Captum, PyTorch and the lecture's worked example."""

from collections import OrderedDict

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy.stats import spearmanr
from torch import nn

from autograder.authoring.reference import load_reference
from utils.attribution import randomised_copy, replace_relus
from utils.checks import count_hooks
from utils.models import load_model
from utils.scenes import CLASS_NAMES, make_scenes

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
    copied = replace_relus(base, reference.GuidedReLU)
    X = images.clone().requires_grad_()
    score = copied(X).gather(1, labels[:, None]).sum()
    assert_agrees(torch.autograd.grad(score, X)[0], expected)


def test_guided_backprop_of_a_residual_network_against_captum():
    """Its ReLUs work in place, and each block uses one of them twice: only the copy can do that."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    copied = replace_relus(network, reference.GuidedReLU)
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
    copied = replace_relus(base, reference.DeconvReLU)
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


@pytest.mark.parametrize("number", range(1, 7))
def test_neuron_gradient_stays_in_the_receptive_field(base, images, number):
    """And fills it, over some channels and pictures: no number of RECEPTIVE_FIELDS is too large."""
    layer = base.features.get_submodule(f"norm{number}")
    size, stride, offset = reference.RECEPTIVE_FIELDS[f"relu{number}"]
    row, column = 32 // stride - 1, 32 // stride + 1
    touched = torch.zeros(64, 64, dtype=torch.bool)
    for channel in range(16):
        gradient = reference.neuron_gradient(images, base, layer, channel, row, column)
        touched |= gradient.ne(0).any(0).any(0)
    seen = torch.zeros(64, 64, dtype=torch.bool)
    top, left = offset + stride * row, offset + stride * column
    seen[max(top, 0) : top + size, max(left, 0) : left + size] = True
    assert not (touched & ~seen).any()
    for axis in (0, 1):
        assert torch.equal(touched.any(axis), seen.any(axis))


def test_top_patches_against_a_search_by_hand():
    """Pixels carry their own coordinates, so that a patch says where it was cut out."""
    generator = torch.Generator().manual_seed(5)
    rows, columns = torch.meshgrid(torch.arange(13.0), torch.arange(18.0), indexing="ij")
    X = torch.stack([torch.stack([torch.full((13, 18), n), rows, columns]) for n in range(6)])
    activations = torch.randn(6, 2, 4, 5, generator=generator) - 1.5
    size, stride, offset = 7, 3, -2
    excited = [n for n in range(6) if activations[n, 1].max() > 0]
    assert 2 <= len(excited) < 6
    patches = reference.top_patches(X, activations, 1, (size, stride, offset), 6)
    assert sorted(image for image, _, _ in patches) == excited
    strengths = [activations[image, 1].max() for image, _, _ in patches]
    assert strengths == sorted(strengths, reverse=True)
    for image, window, patch in patches:
        row, column = (activations[image, 1] == activations[image, 1].max()).nonzero()[0].tolist()
        sees = [
            [i for i in range(length) if 0 <= i - offset - stride * at < size]
            for length, at in ((13, row), (18, column))
        ]
        assert window == (sees[0][0], sees[0][-1] + 1, sees[1][0], sees[1][-1] + 1)
        assert patch[0].eq(image).all()
        assert patch[1, :, 0].tolist() == sees[0]
        assert patch[2, 0].tolist() == sees[1]
    assert len(reference.top_patches(X, activations, 1, (size, stride, offset), 2)) == 2


def test_similarity_by_depth_against_scipy_pair_by_pair(base, images, labels):
    layers = ["classifier.linear", "features.conv6", "features.conv1"]

    def explain(X, y, network):
        return reference.guided_backprop(X, y, network).abs().sum(1)

    def randomise(model, names):
        return randomised_copy(model, names, images, seed=1)

    same, other = reference.similarity_by_depth(images, labels, base, layers, explain, randomise)
    original = explain(images, labels, base)
    for depth in range(4):
        maps = explain(images, labels, randomise(base, layers[:depth]))
        rho = {
            (n, m): spearmanr(original[n].flatten(), maps[m].flatten()).statistic
            for n in range(3)
            for m in range(3)
        }
        expected = np.mean([value for (n, m), value in rho.items() if n == m])
        assert same[depth] == pytest.approx(expected, abs=1e-12)
        expected = np.mean([value for (n, m), value in rho.items() if n != m])
        assert other[depth] == pytest.approx(expected, abs=1e-12)
    assert same[0] == pytest.approx(1)


def test_what_the_lab_says_of_random_weights(base):
    """Of its eight scenes and three draws, for the linear layer and for all layers."""
    images, labels = make_scenes(200, np.random.default_rng(7)).tensors()
    layers = ["classifier.linear", *(f"features.conv{number}" for number in range(6, 0, -1))]
    rules = {"backprop": reference.BackpropReLU, "guided": reference.GuidedReLU}
    curves = {}
    for rule, function in rules.items():

        def explain(X, y, network, function=function):
            X = X.clone().requires_grad_()
            score = replace_relus(network, function)(X).gather(1, y[:, None]).sum()
            return torch.autograd.grad(score, X)[0].abs().sum(1)

        for names in (layers[:1], layers):
            forgotten = [n.replace("conv", kind) for n in names for kind in ("conv", "norm")]
            curves[rule, len(names)] = np.mean(
                [
                    reference.similarity_by_depth(
                        images[:8],
                        labels[:8],
                        base,
                        ["all"],
                        explain,
                        lambda model, chosen, seed=seed, forgotten=forgotten: randomised_copy(
                            model, dict.fromkeys(forgotten) if chosen else [], images[:60], seed
                        ),
                    )
                    for seed in range(3)
                ],
                axis=0,
            )[:, 1]
    assert curves["guided", 1][0] > 0.9
    assert 0.55 < curves["backprop", 1][0] < 0.75
    assert all(0.15 < other < 0.3 for _, other in curves.values())
    same, other = curves["guided", 7]
    assert 0.45 < same < 0.6
    assert 2 < same / other < 2.8
    assert curves["backprop", 7][0] < 0.4


def test_different_channels_draw_the_same_by_the_guided_rule(base):
    """What the lab says of the eight strongest channels at a place of ReLU 4."""
    images, _ = make_scenes(200, np.random.default_rng(7)).tensors()
    alike = {"backprop": [], "guided": []}
    for rule, function in zip(alike, (reference.BackpropReLU, reference.GuidedReLU), strict=True):
        network = replace_relus(base, function)
        for image in images[:8]:
            with torch.no_grad():
                strongest = base.features[:15](image[None])[0, :, 8, 8].topk(8).indices.tolist()
            gradients = [
                reference.neuron_gradient(
                    image[None], network, network.features.relu4, channel, 8, 8
                ).flatten()
                for channel in strongest
            ]
            correlations = torch.corrcoef(torch.stack(gradients))
            alike[rule].append(correlations[~torch.eye(8, dtype=torch.bool)].mean().item())
    assert np.mean(alike["guided"]) > 0.8
    assert np.mean(alike["backprop"]) < 0.35


def gradient_of_score(X, y, network):
    X = X.clone().requires_grad_()
    return torch.autograd.grad(network(X).gather(1, y[:, None]).sum(), X)[0]


def share_inside(maps, masks):
    return ((maps * masks).sum((1, 2)) / maps.sum((1, 2))).mean().item()


def correlation(some, others):
    pairs = zip(some.flatten(1), others.flatten(1), strict=True)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])


RULES = {
    "backprop": reference.BackpropReLU,
    "deconvnet": reference.DeconvReLU,
    "guided": reference.GuidedReLU,
}


def test_what_the_lab_says_of_how_much_lies_on_the_object(base):
    scenes = make_scenes(200, np.random.default_rng(7))
    X, y = scenes.tensors()
    masks = torch.from_numpy(scenes.masks)
    assert 0.11 < masks.float().mean() < 0.14  # about an eighth
    share = {
        rule: share_inside(
            gradient_of_score(X, y, replace_relus(base, function)).abs().sum(1), masks
        )
        for rule, function in RULES.items()
    }
    assert share["deconvnet"] < share["backprop"] < share["guided"]
    assert share["guided"] > 0.5
    assert 1.5 < share["guided"] / share["backprop"] < 2


def test_what_the_lab_says_of_two_questions(base):
    pairs = make_scenes(48, np.random.default_rng(71), "two_objects")
    X, first = pairs.tensors()
    second = torch.from_numpy(pairs.second.shape_class)
    absent = (first + 1) % 10
    absent = torch.where(absent == second, (absent + 1) % 10, absent)
    one_mask, other_mask = torch.from_numpy(pairs.masks), torch.from_numpy(pairs.second.masks)
    alike = {}
    for rule, function in RULES.items():
        network = replace_relus(base, function)
        signed = [gradient_of_score(X, asked, network) for asked in (first, second, absent)]
        one, two, none = (gradients.abs().sum(1) for gradients in signed)
        alike[rule] = correlation(one, two), correlation(one, none)
        if rule == "guided":
            on_it, on_other = share_inside(one, one_mask), share_inside(one, other_mask)
            assert 0.4 < on_it < 0.6 and 0.1 < on_other < 0.25
            assert abs(share_inside(none, one_mask | other_mask) - on_it - on_other) < 0.1
            leans = (one * one_mask).sum((1, 2)) > (one * other_mask).sum((1, 2))
            assert leans.float().mean() > 0.85
        if rule == "backprop":
            assert correlation(signed[0].sum(1), signed[1].sum(1)) < -0.1
    assert min(alike["deconvnet"]) > 0.8
    assert all(min(values) > 0.3 for values in alike.values())
    for name in ("shape", "robust"):
        network = replace_relus(load_model(name), reference.GuidedReLU)
        one, two = (gradient_of_score(X, asked, network).abs().sum(1) for asked in (first, second))
        assert correlation(one, two) > alike["guided"][0] + 0.15


def test_captum_gives_the_plain_gradient_where_relus_are_calls(base, images, labels):
    class CallsRelu:
        apply = F.relu

    X = images.clone().requires_grad_()
    (plain,) = torch.autograd.grad(base(X).gather(1, labels[:, None]).sum(), X)
    calls_relu = replace_relus(base, CallsRelu)
    assert_agrees(captum.attr.GuidedBackprop(calls_relu).attribute(images, target=labels), plain)
    with pytest.raises(ValueError, match=r"nn\.ReLU"):
        reference.guided_backprop(images, labels, calls_relu)


def test_everything_is_left_as_it_was(base, images, labels):
    hooks = count_hooks(base)
    before = OrderedDict((name, value.clone()) for name, value in base.state_dict().items())
    reference.guided_backprop(images, labels, base)
    reference.neuron_gradient(images, base, base.features.relu4, 0, 1, 2)
    assert count_hooks(base) == hooks == 0
    assert sum(isinstance(module, nn.ReLU) for module in base.modules()) == 6
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    assert all(parameter.grad is None for parameter in base.parameters())


def test_guided_backprop_refuses_a_network_without_relu_modules(images, labels):
    network = reference.FunctionalNetwork()
    with pytest.raises(ValueError, match=r"nn\.ReLU"):
        reference.guided_backprop(images, labels.clamp(max=3), network)
