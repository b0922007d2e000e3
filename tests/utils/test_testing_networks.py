"""Tests of utils.testing_networks: every awkward trait is there, and the network works."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch import nn

from utils.checks import count_hooks, random_images
from utils.testing_networks import awkward_network

X = random_images(0, 2, 3, 12, 10)


def calls(network, images=X):
    """The names of the leaf modules in the order of their calls, with each call's input."""
    names = {module: name for name, module in network.named_modules()}
    seen = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, _: seen.append((module, inputs[0])))
        for module in names
        if not list(module.children())
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return [(names[module], module, argument) for module, argument in seen]


def everything(network):
    return {
        name: (tensor.clone(), tensor.requires_grad, tensor.grad)
        for name, tensor in network.state_dict(keep_vars=True).items()
    }


@pytest.mark.parametrize("parts", [False, True])
def test_a_seed_decides_everything_and_the_global_generator_nothing(parts):
    options = {"parts": parts, "gradients": True, "mixed": True}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = awkward_network(3, **options)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    torch.testing.assert_close(everything(awkward_network(3, **options)), everything(first))
    other = awkward_network(4, **options).state_dict()
    for name, value in first.state_dict().items():
        assert name.endswith("num_batches_tracked") or not torch.equal(other[name], value), name


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))]
)
def test_it_travels(parts, copied):
    network = awkward_network(0, parts=parts, hooks=True, gradients=True, mixed=True)
    again = copied(network)
    assert type(again) is type(network)
    torch.testing.assert_close(again(X), network(X), rtol=0, atol=0)
    torch.testing.assert_close(everything(again), everything(network))
    assert count_hooks(again) == count_hooks(network) > 0
    assert [m.training for m in again.modules()] == [m.training for m in network.modules()]


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_and_gradients(parts, inplace, dtype):
    for seed in range(5):
        network = awkward_network(seed, classes=4, parts=parts, inplace=inplace, dtype=dtype)
        for size in ((12, 10), (5, 5), (9, 16)):
            images = random_images(seed, 3, 3, *size).to(dtype).requires_grad_()
            scores = network(images)
            assert scores.shape == (3, 4) and scores.dtype == dtype
            (gradient,) = torch.autograd.grad(scores[:, 1].sum(), images)
            assert (gradient.flatten(1) != 0).any(1).all()
            assert scores.abs().max() < 200
            assert size != (12, 10) or scores.std(0).max() > 0.1
            one = network(images[1:2])
            # Images don't mix in eval mode; one and three may be convolved in another order,
            # though, which rounds otherwise.
            rounding = 1e-4 if dtype == torch.float32 else 1e-9
            torch.testing.assert_close(one, scores[1:2], rtol=rounding, atol=rounding)


@pytest.mark.parametrize("parts", [False, True])
def test_what_is_always_there(parts):
    network = awkward_network(1, parts=parts)
    names = [name for name, _ in network.named_modules()]
    assert max(name.count(".") for name in names) >= 3  # four deep
    assert not isinstance(network, nn.Sequential)
    order = [name for name, *_ in calls(network)]
    registered = [name for name in names if name in order]
    first_calls = list(dict.fromkeys(order))
    assert first_calls != registered
    assert first_calls[-1] != registered[-1]  # the head isn't the last module

    modules = dict(network.named_modules())
    convolutions = [m for m in modules.values() if isinstance(m, nn.Conv2d)]
    assert any(m.kernel_size[0] != m.kernel_size[1] for m in convolutions)
    assert any(m.stride[0] != m.stride[1] for m in convolutions)
    assert any(m.groups > 1 for m in convolutions)
    assert {m.bias is None for m in convolutions} == {True, False}
    pools = [m for m in modules.values() if isinstance(m, nn.MaxPool2d)]
    assert all(m.stride[0] < m.kernel_size[0] and m.stride[1] < m.kernel_size[1] for m in pools)
    norms = [m for m in modules.values() if isinstance(m, nn.BatchNorm2d)]
    assert len({m.momentum for m in norms}) >= 3 and len({m.eps for m in norms}) >= 2
    assert all((m.running_mean.abs() > 1e-3).any() and m.running_var.min() >= 0.5 for m in norms)
    assert any((m.weight < 0).any() for m in norms)
    assert any(isinstance(m, nn.Linear) and x.ndim == 4 for _, m, x in calls(network))
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert len(frozen) == 1 and frozen[0] == f"{order[0]}.weight"
    assert not any(module.training for module in network.modules())
    assert sum(isinstance(module, nn.Dropout) for module in network.modules()) == 1
    assert count_hooks(network) == 0
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("parts", [False, True])
def test_blocks_and_maps_are_what_they_are_said_to_be(parts):
    network = awkward_network(2, parts=parts)
    inputs, outputs = {}, {}

    def record(name, given, result):
        inputs.setdefault(name, []).append(given[0])
        outputs.setdefault(name, []).append(result.clone())

    for name in (*network.blocks, *network.maps):
        network.get_submodule(name).register_forward_hook(
            lambda _, given, result, name=name: record(name, given, result)
        )
    network(X)
    assert all(len(runs) == 1 for runs in outputs.values())
    assert list(outputs) == [*network.blocks, *network.maps]  # in the order in which they run
    for name in network.blocks:
        block = network.get_submodule(name)
        last = getattr(block, "bn3", None) or block.bn2
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        torch.testing.assert_close(block(inputs[name][0]), inputs[name][0].relu())  # the skip
    convolution, rectified = (outputs[name][0] for name in network.maps)
    assert convolution.shape[:2] == (2, 5) and min(convolution.shape[2:]) > 1
    torch.testing.assert_close(convolution.relu(), rectified)
    assert 0.05 < (rectified > 0).double().mean() < 0.95


def test_in_two_parts():
    network = awkward_network(0, classes=7, parts=True)
    torch.testing.assert_close(network.classifier(network.features(X)), network(X))
    assert isinstance(network.classifier, nn.Sequential)
    head = network.classifier[-1]
    assert isinstance(head, nn.Linear) and head.out_features == 7 and head.bias is not None
    assert any(isinstance(module, nn.BatchNorm1d) for module in network.classifier)
    assert sum(isinstance(module, nn.Linear) for module in network.classifier) == 2
    assert next(iter(dict(network.named_children()))) == "classifier"


def test_a_head_that_no_name_gives_away():
    network = awkward_network(0, classes=7)
    assert not hasattr(network, "classifier") and not hasattr(network, "features")
    assert network.answer.out_features == 7
    assert list(network.children())[-1] is not network.answer


@pytest.mark.parametrize("parts", [False, True])
def test_modules_that_run_twice_or_just_once(parts):
    counts = Counter(module for _, module, _ in calls(awkward_network(0, parts=parts)))
    twice = [type(module) for module, count in counts.items() if count == 2]
    assert sorted(kind.__name__ for kind in twice) == ["Conv2d", "ReLU", "ReLU"]
    network = awkward_network(0, parts=parts, twice=False)
    counts = Counter(module for _, module, _ in calls(network))
    leaves = [module for module in network.modules() if not list(module.children())]
    assert [counts[module] for module in leaves] == [1] * len(leaves)


@pytest.mark.parametrize("parts", [False, True])
def test_options(parts):
    network = awkward_network(0, parts=parts)
    relus = [m for m in network.modules() if isinstance(m, nn.ReLU)]
    assert not any(relu.inplace for relu in relus)
    inplace = awkward_network(0, parts=parts, inplace=True)
    assert all(m.inplace for m in inplace.modules() if isinstance(m, nn.ReLU))
    torch.testing.assert_close(inplace(X), network(X))

    functional = awkward_network(0, parts=parts, functional=True)
    torch.testing.assert_close(functional(X), network(X))
    kinds = [[type(module) for _, module, _ in calls(n)] for n in (network, functional)]
    assert kinds[0].count(nn.ReLU) == kinds[1].count(nn.ReLU) + 1

    bare = awkward_network(0, parts=parts, dropout=False)
    assert not any(isinstance(module, nn.Dropout) for module in bare.modules())
    torch.testing.assert_close(bare(X), network(X))

    mixed = awkward_network(0, parts=parts, mixed=True)
    assert {module.training for module in mixed.modules()} == {False, True}
    assert not mixed.training
    torch.testing.assert_close(mixed(X), network(X))

    watched = awkward_network(0, parts=parts, hooks=True)
    assert count_hooks(watched) == 3
    torch.testing.assert_close(watched(X), network(X))

    held = awkward_network(0, parts=parts, gradients=True)
    assert {parameter.grad is None for parameter in held.parameters()} == {False, True}
    assert all(p.requires_grad or p.grad is None for p in held.parameters())
