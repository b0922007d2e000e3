"""Lab 10's reference implementations against foolbox, SciPy and autograd."""

import copy
from io import BytesIO

import eagerpy as ep
import foolbox
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foolbox.attacks.carlini_wagner import best_other_classes
from PIL import Image
from scipy.optimize import linprog, minimize
from torch import nn

from autograder.authoring.reference import load_reference
from utils.models import load_model
from utils.scenes import make_scenes

reference = load_reference("10_adversarial_examples")


@pytest.fixture(scope="module")
def scenes():
    """Sixteen scenes, their labels, and the network that knows them."""
    return *make_scenes(16, np.random.default_rng(1)).tensors(), load_model("base")


def as_foolbox(model):
    return foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")


def assert_in_ball(X_adv, X, epsilon, order):
    """In [0, 1] and, but for a slack of 1e-6, in the ball of this norm."""
    assert X_adv.min() >= 0
    assert X_adv.max() <= 1
    assert torch.linalg.vector_norm((X_adv - X).flatten(1), order, dim=1).max() <= epsilon + 1e-6


def test_make_fooling_image_fools_by_a_small_change(scenes):
    X, y, model = scenes
    targets = (y + 1 + torch.arange(16) % 9) % 10
    fooling = torch.cat(
        [
            reference.make_fooling_image(x[None], target.item(), model)
            for x, target in zip(X, targets, strict=True)
        ]
    )
    criterion = foolbox.criteria.TargetedMisclassification(targets)
    assert criterion(fooling, as_foolbox(model)(fooling)).all()
    assert (fooling - X).square().mean((1, 2, 3)).sqrt().max() <= 0.06
    assert fooling.min() >= 0
    assert fooling.max() <= 1


def test_linear_perturbation_is_optimal():
    w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = w.flatten().numpy()
    best = linprog(-weights, bounds=[(-0.3, 0.3)] * 12).x
    delta = reference.linear_perturbation(w, 0.3, "linf")
    np.testing.assert_allclose(delta.flatten(), best, atol=1e-9)
    ball = {"type": "ineq", "fun": lambda delta: 0.3**2 - delta @ delta}
    best = minimize(lambda delta: -weights @ delta, weights / 100, constraints=ball).x
    delta = reference.linear_perturbation(w, 0.3, "l2")
    np.testing.assert_allclose(delta.flatten(), best, atol=1e-4)


@pytest.mark.parametrize("epsilon", [4 / 255, 8 / 255])
def test_fgsm_against_foolbox(scenes, epsilon):
    X, y, model = scenes
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    _, expected, _ = attack(as_foolbox(model), X, y, epsilons=epsilon)
    actual = reference.fgsm(X, y, model, epsilon)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert_in_ball(actual, X, epsilon, torch.inf)


class LinfPGDFrom(foolbox.attacks.LinfPGD):
    """foolbox's attack, from a given perturbation."""

    def __init__(self, start, **arguments):
        super().__init__(**arguments)
        self.start = start

    def get_random_start(self, x0, epsilon):
        return x0 + self.start


@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_against_foolbox(random_start):
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(6, 3, 9, 7, generator=generator, dtype=torch.float64)
    y, model = torch.tensor([0, 1, 2, 3, 1, 2]), reference.tiny_network(3)
    start = (2 * torch.rand(X.shape, generator=generator, dtype=torch.float64) - 1) * 8 / 255
    attack = LinfPGDFrom(start, steps=10, abs_stepsize=2 / 255, random_start=random_start)
    _, expected, _ = attack(as_foolbox(model), X, y, epsilons=8 / 255)
    actual = reference.pgd(X, y, model, 8 / 255, 2 / 255, 10, start if random_start else None)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert_in_ball(actual, X, 8 / 255, torch.inf)


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_pgd_l2_against_foolbox(epsilon):
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(6, 3, 9, 7, generator=generator, dtype=torch.float64)
    y, model = torch.tensor([0, 1, 2, 3, 1, 2]), reference.tiny_network(3)
    attack = foolbox.attacks.L2PGD(steps=10, abs_stepsize=epsilon / 4, random_start=False)
    _, expected, _ = attack(as_foolbox(model), X, y, epsilons=epsilon)
    actual = reference.pgd_l2(X, y, model, epsilon, epsilon / 4, 10)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert_in_ball(actual, X, epsilon, 2)


@pytest.mark.parametrize("least_likely", [False, True])
def test_targeted_pgd_against_foolbox(least_likely):
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(6, 3, 9, 7, generator=generator, dtype=torch.float64)
    model = reference.tiny_network(3)
    targets = model(X).argmin(1) if least_likely else torch.tensor([3, 2, 1, 0, 0, 3])
    start = torch.rand(X.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    start = (2 * start - 1) * 8 / 255
    attack = LinfPGDFrom(start, steps=10, abs_stepsize=2 / 255, random_start=True)
    criterion = foolbox.criteria.TargetedMisclassification(targets)
    _, expected, _ = attack(as_foolbox(model), X, criterion, epsilons=8 / 255)
    actual = reference.targeted_pgd(
        X,
        None if least_likely else targets,
        model,
        8 / 255,
        2 / 255,
        10,
        torch.Generator().manual_seed(5),
    )
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert_in_ball(actual, X, 8 / 255, torch.inf)


class MarginPGD(LinfPGDFrom):
    """foolbox's attack, on the margin in place of the cross-entropy."""

    def get_loss_fn(self, model, labels):
        def loss(inputs):
            scores = model(inputs)
            rivals = best_other_classes(scores, labels)
            rows = range(len(labels))
            return (scores[rows, rivals] - scores[rows, labels]).sum()

        return loss


def test_adaptive_attack_keeps_the_best_of_what_foolbox_shows():
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(6, 3, 9, 7, generator=generator, dtype=torch.float64)
    y, model = torch.tensor([0, 1, 2, 3, 1, 2]), reference.tiny_network(3)
    starts = (2 * torch.rand(3, *X.shape, generator=generator, dtype=torch.float64) - 1) * 0.1
    shown = []
    for start in starts:
        shown.append((X + start).clamp(0, 1))
        for steps in range(1, 6):
            attack = MarginPGD(start, steps=steps, abs_stepsize=0.05, random_start=True)
            shown.append(attack(as_foolbox(model), X, y, epsilons=0.1)[1])
    with torch.no_grad():
        margins = torch.stack([reference.logit_margin(model(images), y) for images in shown])
    actual = reference.adaptive_attack(X, y, model, 0.1, 0.05, 5, starts)
    best = torch.stack(shown)[margins.argmin(0), range(6)]
    torch.testing.assert_close(actual, best, rtol=0, atol=1e-6)
    assert len(set((margins.argmin(0) % 6).tolist())) > 1
    assert_in_ball(actual, X, 0.1, torch.inf)


def test_half_colour_is_nearer_to_jpeg_than_the_identity(scenes):
    X, _, _ = scenes
    decoded = []
    for image in (255 * X).round().byte().permute(0, 2, 3, 1).numpy():
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75)
        decoded.append(np.array(Image.open(file)))
    jpeg = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2) / 255
    error = (reference.half_colour(X) - jpeg).square().mean((1, 2, 3))
    assert (error < (X - jpeg).square().mean((1, 2, 3))).all()


def test_logit_margin_against_foolbox():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 7, generator=generator)
    y = torch.randint(0, 7, (50,), generator=generator)
    rivals = best_other_classes(ep.astensor(scores), ep.astensor(y)).raw
    expected = scores[torch.arange(50), y] - scores[torch.arange(50), rivals]
    torch.testing.assert_close(reference.logit_margin(scores, y), expected)


def test_one_pixel_attack_finds_what_trying_everything_finds():
    model = reference.tiny_network(4)
    x = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = model(x[None]).detach()
    y = scores.argmax(1)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    tried = x.repeat(5, 4, 8, 1, 1, 1)
    for row, column in np.ndindex(5, 4):
        tried[row, column, :, :, row, column] = corners
    best = reference.logit_margin(model(tried.flatten(0, 2)), y.expand(160)).min()
    x_adv = reference.one_pixel_attack(
        x, y.item(), model, reference.logit_margin, seed=0, popsize=20, maxiter=60
    )
    assert (x_adv != x).any(0).sum() <= 1
    margin = reference.logit_margin(model(x_adv[None]), y)[0]
    assert margin <= best + 0.05 * (reference.logit_margin(scores, y)[0] - best)


def test_estimate_gradient_against_autograd():
    generator = torch.Generator().manual_seed(0)
    model = reference.tiny_network(5)
    x = torch.rand(3, 4, 2, generator=generator, dtype=torch.float64)

    def f(images):
        return model(images).square().sum(1)

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(leaf[None]).sum(), leaf)
    # Along a basis of length √24 the mean of u uᵀ is the identity: nothing is left to chance.
    basis = torch.linalg.qr(torch.randn(24, 24, generator=generator, dtype=torch.float64)).Q
    with torch.no_grad():
        actual = reference.estimate_gradient(f, x, 24**0.5 * basis.view(24, 3, 4, 2), 1e-5)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def untouched(X, y, model):
    return X


def test_adversarial_training_step_without_an_attack_is_training():
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(5, 3, 6, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0])
    model, twin = reference.tiny_network(6), reference.tiny_network(6).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = reference.adversarial_training_step(X, y, model, optimizer, untouched)

    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    expected = F.cross_entropy(twin(X), y)
    expected.backward()
    plain.step()
    assert loss == pytest.approx(expected.item())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name])


class Noise:
    """Normal noise from its own generator."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, X):
        return X + 0.1 * torch.randn(X.shape, generator=self.generator, dtype=X.dtype)


class Noisy(nn.Module):
    """A network behind that noise."""

    def __init__(self, model):
        super().__init__()
        self.model, self.noise = model, Noise()

    def forward(self, X):
        return self.model(self.noise(X))


def test_expected_scores_against_foolbox():
    generator = torch.Generator().manual_seed(0)
    model = reference.tiny_network(7)
    X = torch.rand(4, 3, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    averaged = foolbox.models.ExpectationOverTransformationWrapper(
        as_foolbox(Noisy(model).eval()), n_steps=5
    )
    expected = averaged(X)
    actual = reference.expected_scores(X, model, Noise(), 5)
    torch.testing.assert_close(actual, expected)
    upstream = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    gradients = [torch.autograd.grad(scores, X, upstream)[0] for scores in (actual, expected)]
    torch.testing.assert_close(*gradients)


def test_expected_scores_through_an_approximation_are_a_chain_of_jacobians():
    generator = torch.Generator().manual_seed(0)
    model = reference.tiny_network(7)
    X = torch.rand(2, 3, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    defended = Noise()(X.detach())
    upstream = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    scores = reference.expected_scores(X, model, Noise(), 1, reference.half_colour)
    (actual,) = torch.autograd.grad(scores, X, upstream)
    into_model = torch.autograd.functional.vjp(model, defended, upstream)[1]
    through = torch.autograd.functional.vjp(reference.half_colour, X.detach(), into_model)[1]
    torch.testing.assert_close(actual, through)


def share_right(model, images, y):
    with torch.no_grad():
        return (model(images).argmax(1) == y).double().mean().item()


def uniform(X, generator):
    """Uniform in [-1, 1)."""
    return 2 * torch.rand(X.shape, generator=generator) - 1


def attacked(X, y, model, level, generator):
    """Seven steps of PGD at ε = level/255 from a random start, as in the lab."""
    epsilon = level / 255
    start = epsilon * uniform(X, generator)
    return reference.pgd(X, y, model, epsilon, epsilon / 4, 7, start).detach()


@pytest.fixture(scope="module")
def networks():
    names = ("base", "shape", "robust")
    return {name: load_model(name).to(memory_format=torch.channels_last) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 1, 2])
def test_what_the_lab_says_of_attacks_and_transfer(networks, seed):
    """For the lab's 48 scenes and others: what noise, one step, many steps and transfer do."""
    X, y = make_scenes(48, np.random.default_rng(seed)).tensors()
    generator = torch.Generator().manual_seed(seed)
    base, _, robust = networks.values()
    assert share_right(base, (X + 8 / 255 * uniform(X, generator).sign()).clamp(0, 1), y) > 0.9
    assert share_right(base, reference.fgsm(X, y, base, 8 / 255), y) < 0.5
    made = {name: attacked(X, y, network, 8, generator) for name, network in networks.items()}
    right = {
        (asked, name): share_right(networks[asked], images, y)
        for name, images in made.items()
        for asked in networks
    }
    assert right["base", "base"] <= 0.05
    assert right["robust", "robust"] < 0.5
    at_4 = share_right(robust, attacked(X, y, robust, 4, generator), y)
    assert at_4 > 0.6
    assert right["robust", "base"] < share_right(robust, X, y) - 0.2
    assert right["base", "robust"] < right["robust", "robust"]
    assert right["base", "shape"] > right["base", "robust"]
    assert right["robust", "shape"] > right["robust", "base"]
    assert right["base", "shape"] < share_right(base, X, y)

    bounded = attacked(X, y, base, 4, generator)
    short = reference.pgd_l2(X, y, base, 1, 0.25, 7)
    lengths = [(images - X).flatten(1).norm(dim=1).mean() for images in (bounded, short)]
    assert lengths[1] < lengths[0]
    in_max_norm = share_right(base, bounded, y)
    in_length = share_right(base, short, y)
    assert in_length < in_max_norm + 0.15
    robust_in_length = share_right(robust, reference.pgd_l2(X, y, robust, 1, 0.25, 7), y)
    assert 0 < robust_in_length - in_length < at_4 - in_max_norm


@pytest.mark.slow
def test_what_the_lab_says_of_targets(networks):
    base, generator = networks["base"], torch.Generator().manual_seed(0)
    X, y = (tensor[:20] for tensor in make_scenes(1500, np.random.default_rng(10)).tensors())
    reached = []
    for target in range(10):
        targets = torch.full_like(y, target)
        images = reference.targeted_pgd(X, targets, base, 4 / 255, 1 / 255, 7, generator)
        with torch.no_grad():
            reached.append((base(images).argmax(1) == target)[y != target])
    away = 1 - share_right(base, attacked(X, y, base, 4, generator), y)
    assert torch.cat(reached).double().mean() < away
    others = torch.tensor([target for target in range(10) if target != y[2]])
    nine = X[2:3].expand(9, -1, -1, -1)
    images = reference.targeted_pgd(nine, others, base, 8 / 255, 2 / 255, 7, generator)
    assert share_right(base, images, others) > 0.85


@pytest.mark.slow
def test_what_the_lab_says_of_two_dozen_steps_of_training(networks):
    base, robust = networks["base"], networks["robust"]
    images, labels = (t[:868] for t in make_scenes(1500, np.random.default_rng(10)).tensors())
    X, y, generator = images[:48], labels[:48], torch.Generator().manual_seed(0)

    def attack(X, y, model):
        start = X + 4 / 255 * uniform(X, generator)
        change = reference.fgsm(start, y, model, 5 / 255) - X
        return (X + change.clamp(-4 / 255, 4 / 255)).clamp(0, 1)

    trained = copy.deepcopy(base)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3)
    for part in range(100, 868, 32):
        batch = images[part : part + 32], labels[part : part + 32]
        reference.adversarial_training_step(*batch, trained, optimizer, attack)
    trained.eval()
    before, after, long = (
        share_right(network, attacked(X, y, network, 4, generator), y)
        for network in (base, trained, robust)
    )
    assert after > before + 0.3
    assert after < long + 0.05
    assert share_right(trained, X, y) > 0.9
