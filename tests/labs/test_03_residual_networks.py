"""Lab 03's reference implementations against torchvision, autograd, NumPy and brute force."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy.special import comb
from torch import nn
from torchvision.models.resnet import BasicBlock
from walk import walk

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


@pytest.fixture(scope="module")
def lab():
    """The numbers behind the lab's figures."""
    return walk("03_residual_networks")


PLAIN, RESIDUAL, GENTLE = "plain, 32 layers", "residual, 32 layers", "γ = 0, 32 layers"
SHORT_PLAIN, SHORT_RESIDUAL = "plain, 14 layers", "residual, 14 layers"
# The block and the blocks per stage of each network in the lab's race.
RACERS = {
    SHORT_PLAIN: ("PlainBlock", 2),
    PLAIN: ("PlainBlock", 5),
    SHORT_RESIDUAL: ("ResidualBlock", 2),
    RESIDUAL: ("ResidualBlock", 5),
    GENTLE: ("ResidualBlock", 5),
}


@dataclass
class Racer:
    """What the lab's figures show of one network.

    Attributes:
        losses: of each step.
        norms: the gradient's by block, after some steps.
        seen, fresh: its accuracy on the crops that it was trained on, and on others.
        single: its accuracy without each of its removable blocks.
        fewer: its accuracy by the number of blocks that are gone, the mean over four orders.
    """

    losses: np.ndarray
    norms: dict[int, np.ndarray]
    seen: float
    fresh: float
    single: np.ndarray
    fewer: dict[int, float]

    @property
    def end(self):
        return self.losses[-10:].mean()

    def skill_left(self, accuracy):
        """The part of what it can do better than guessing."""
        return (accuracy - 1 / 6) / (self.fresh - 1 / 6)


def measured(lab, network, losses, norms):
    """A trained network's figures, from the lab's own functions."""
    accuracy, names = lab["accuracy"], lab["removable"](network)
    orders = [np.random.default_rng(seed).permutation(names) for seed in range(4)]

    def without(gone):
        return accuracy(reference.remove_blocks(network, gone))

    return Racer(
        losses=losses,
        norms={step: values.numpy() for step, values in norms.items()},
        seen=accuracy(network, lab["train_images"], lab["train_labels"]),
        fresh=accuracy(network),
        single=np.array([without([name]) for name in names]),
        fewer={
            count: np.mean([without(list(order[:count])) for order in orders])
            for count in (1, 2, 3, 5, 8)
            if count < len(names)
        },
    )


@pytest.fixture(scope="module")
def races(lab):
    """The lab's race, and two with other weights and other crops: Racers by name."""
    found = [{name: measured(lab, lab["racers"][name], *lab["records"][name]) for name in RACERS}]
    for seed in (1, 2):
        with pytest.MonkeyPatch.context() as patch:  # for the lab's functions, which use these
            images, labels = lab["make_crops"](1800, seed=100 + seed)
            patch.setitem(lab, "train_images", images)
            patch.setitem(lab, "train_labels", labels)
            patch.setitem(lab, "batch", (images[:48], labels[:48]))
            race = {}
            for name, (block, blocks_per_stage) in RACERS.items():
                network = lab["make_stack"](lab[block], blocks_per_stage, seed)
                if name == GENTLE:
                    reference.zero_init_last_norm(network)
                race[name] = measured(lab, network, *lab["train"](network))
            found.append(race)
    return found


@pytest.mark.slow
def test_skips_protect_from_vanishing_and_not_from_exploding(lab):
    for seed in range(4):

        def arriving(skip, scale, seed=seed):
            return lab["norms_going_back"](skip, scale, np.random.default_rng(seed))[0]

        plain, residual = (
            {scale: arriving(skip, scale) for scale in lab["styles"]} for skip in (False, True)
        )
        assert plain[0.1] < 1e-50 and plain[0.5] < 1e-15 and plain[1.5] > 1e8
        assert 1e-4 < plain[1.0] < 1e4
        assert all(0.1 < residual[scale] < 10 for scale in (0.1, 0.5))
        assert all(residual[scale] > 100 * plain[scale] for scale in (1.0, 1.5))


@pytest.mark.slow
def test_two_projections_are_all_that_the_residual_network_has_more(lab):
    plain, residual = (dict(lab[name].named_parameters()) for name in ("plain", "residual"))
    more = {name: value for name, value in residual.items() if name not in plain}
    assert {name.rpartition(".shortcut")[0] for name in more} == {"stage2.0", "stage3.0"}
    assert len(more) == 6  # of each a convolution's weight, and a BatchNorm's two
    assert all(plain[name].shape == residual[name].shape for name in plain)
    for parameters in (plain, residual):
        layers = [name for name in parameters if parameters[name].ndim > 1 and name not in more]
        assert len(layers) == 32


@pytest.mark.slow
def test_the_figures_gradients_can_be_viewed_as_one_vector(lab):
    """A `gradient.view(-1)` passes the tests of gradient_norms; so it should in the figures."""
    for block in ("PlainBlock", "ResidualBlock"):
        network, outputs = lab["make_stack"](lab[block], 2), []
        for name in lab["block_names"](network):
            network.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, outputs=outputs: outputs.append(output)
            )
        images, labels = lab["batch"]
        loss = F.cross_entropy(network(images), labels)
        assert all(each.is_contiguous() for each in torch.autograd.grad(loss, outputs))


@pytest.mark.slow
def test_the_gradient_before_training(lab):
    """Sections 3 and 6, with other weights."""
    for seed in range(4):

        def norms(block, gentle=False, seed=seed):
            network = lab["make_stack"](lab[block], 5, seed)
            if gentle:
                reference.zero_init_last_norm(network)
            names = lab["block_names"](network)
            return reference.gradient_norms(*lab["batch"], network, names).numpy()

        plain, residual = norms("PlainBlock"), norms("ResidualBlock")
        assert np.corrcoef(np.arange(15), np.log(plain))[0, 1] < -0.99  # "is straight"
        assert plain[0] / plain[-1] > 3 * residual[0] / residual[-1] > 9
        by_stage = residual.reshape(3, 5)
        growth = by_stage[:, :-1] / by_stage[:, 1:]
        assert (growth[:, 0] > growth[:, -1] + 0.1).all()  # "the curve bends"
        assert (by_stage[1:, 0] > by_stage[:-1, -1]).all()  # "starts the sum anew"
        gentle = norms("ResidualBlock", gentle=True).reshape(3, 5)
        np.testing.assert_allclose(gentle[:, :-1], gentle[:, [0] * 4], rtol=1e-4)
        assert (gentle[:, -1] > 1.1 * gentle[:, 0]).all()  # "loses what falls on closed ReLUs"


@pytest.mark.slow
def test_depth_harms_the_plain_network_most_and_the_gentle_one_not_at_all(races):
    guessing, harm, left = np.log(6), [], []
    for race in races:
        assert race[PLAIN].end > guessing - 0.4 and race[PLAIN].seen < 0.5
        assert abs(race[PLAIN].seen - race[PLAIN].fresh) < 0.1  # "the deeper network overfits"
        assert race[SHORT_PLAIN].end < 0.75 and race[SHORT_PLAIN].seen > 0.7
        assert race[RESIDUAL].end < 0.75 and race[RESIDUAL].seen > 0.7
        harm.append(race[RESIDUAL].end - race[SHORT_RESIDUAL].end)
        left.append(race[GENTLE].end - race[SHORT_RESIDUAL].end)
        assert 0 < harm[-1] < (race[PLAIN].end - race[SHORT_PLAIN].end) / 2
        assert left[-1] < 0.12
        start = race[RESIDUAL].losses[:10].mean()
        assert start > max(guessing, race[GENTLE].losses[:10].mean())
        assert race[GENTLE].losses[:10].mean() < guessing + 0.06
    assert np.mean(harm) > 0.1 and np.mean(left) < 0.06


@pytest.mark.slow
def test_the_deep_plain_networks_gradient_is_large_at_first_and_never_lost(races):
    for race in races:
        plain, residual = race[PLAIN].norms, race[RESIDUAL].norms
        assert plain[0][0] > 3 * residual[0][0]
        assert all((plain[step] > residual[step] / 50).all() for step in plain)
    ratios = np.array(
        [
            race[PLAIN].norms[step] / race[RESIDUAL].norms[step]
            for race in races
            for step in (30, 60, 119)
        ]
    )
    assert ratios.max() > 2 and ratios.min() < 1 / 2


@pytest.mark.slow
def test_a_block_less(races):
    for race in races:
        plain, short, usual, gentle = (
            race[name] for name in (SHORT_PLAIN, SHORT_RESIDUAL, RESIDUAL, GENTLE)
        )
        assert plain.skill_left(plain.single.max()) < 0.5
        assert short.single[-1] > short.fresh - 0.15
        assert gentle.single.mean() > gentle.fresh - 0.12
        assert usual.single[0] < usual.fresh - 0.15


@pytest.mark.slow
def test_more_and_more_blocks_less(races):
    for race in races:
        plain, usual, gentle = (race[name] for name in (SHORT_PLAIN, RESIDUAL, GENTLE))
        assert plain.skill_left(plain.fewer[1]) < 0.3
        assert usual.skill_left(usual.fewer[5]) < 0.35 < 0.5 < gentle.skill_left(gentle.fewer[5])
        for count, accuracy in gentle.fewer.items():
            assert gentle.skill_left(accuracy) > usual.skill_left(usual.fewer[count])
        course = [gentle.fresh, *gentle.fewer.values()]
        assert (np.diff(course) < 0.02).all()  # "gradually"
        assert min(np.diff(course)) > -0.4


@pytest.mark.slow
def test_most_paths_are_long_and_most_of_the_signal_takes_short_ones(lab):
    assert lab["paths"][15:].sum() > 0.5
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        x, lengths = generator.standard_normal((200, 64)), np.arange(31)
        for s in (0.2, 0.4, 0.7, 1.0, 1.5):
            weights = s / 8 * generator.standard_normal((30, 64, 64))
            energy = np.square(reference.path_contributions(x, list(weights))).sum((1, 2))
            mean = lengths @ energy / energy.sum()
            assert mean == pytest.approx(30 * s**2 / (1 + s**2), abs=1)
            if s < 1:
                assert energy[15:].sum() < 0.1 * energy.sum()


@pytest.mark.slow
def test_what_the_lab_says_of_resnet_18(lab):
    values = np.array([np.prod(lab["shapes"][name]) for name in lab["STAGES"]])
    weights = np.array([lab["counts"][name] for name in lab["STAGES"]])
    assert (values[:-1] == 2 * values[1:]).all()
    assert all(3.5 < ratio < 4.1 for ratio in weights[1:] / weights[:-1])
    assert weights[-1] > sum(lab["counts"].values()) / 2
    assert (lab["scores"] - lab["their_scores"]).abs().max() < 1e-4
    for seed in range(3):
        torch.manual_seed(seed)
        network = torchvision.models.resnet18(weights=None, num_classes=6).train()
        both = []
        for _ in range(2):
            images, labels = lab["CROPS"], lab["test_labels"][:16]
            norms = reference.gradient_norms(images, labels, network, lab["resnet_blocks"])
            both.append((norms[:-1] / norms[1:]).numpy())
            reference.zero_init_last_norm(network)
        usual, gentle = both
        assert (usual > 1).sum() >= 6  # "on nearly every step down"
        assert (gentle[::2] < 1).all()  # from a stage's last block to its first: a ReLU
        assert (gentle[1::2] > 1).all()  # and on through its projection
        assert usual.prod() > 1.5 * gentle.prod()
