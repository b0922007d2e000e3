# %% [markdown]
# # Lab 04: Transfer learning
#
# Somebody has trained a network on twelve thousand labelled pictures. You have twenty-five, and of
# other things. Most networks in use today were made like that: take one that has learned to see
# something, and teach it the rest. You will do it in two ways, find out when each of them is the
# better one, and fall into the trap that BatchNorm sets for everybody once.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. A new head | `replace_head` | 20 |
# | 2. Freeze | `freeze`, `training_mode` | 35 |
# | 3. What the head sees | `extract_features` | 20 |
# | 4. A head alone | `train_head` | 30 |
# | 5. Finetune | `parameter_groups`, one answer in words | 40 |
# | 5. The head first (optional) | `head_then_finetune` | 30 |
# | 6. Few labels, or none: six settings | nothing: you look | 10 |
# | 6. Six cases to name (optional) | one answer in words | 20 |
# | 7. Adapt to another look | `adapt_batchnorm` | 25 |
# | 8. Pseudo-labels (optional) | `pseudo_label_loss` | 30 |
# | 9. With an ImageNet network (optional) | nothing: you look | 10 |
#
# `head_then_finetune`, the question in section 6, and sections 8 and 9 are optional. The rest takes
# three hours and needs no exercise from them; only the last part of section 5's question asks you
# to read the first lines of sections 7 and 8.
#
# The cells beneath each exercise are its tests. Each answers **right so far**, or says in one
# sentence what is wrong. When your work is graded, other networks, shapes and classes are tried as
# well. No exercise needs one that you wrote before, so a slip costs you only once.

# %% given=true
import copy
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils.checks import (
    check_close,
    check_tuple,
    random_images,
    run_beside,
    vector_jacobian_product,
)
from utils.changes import call_on_copies
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def random_tensor(seed, *shape):
    """Normally distributed numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_labels(seed, count, classes):
    """Classes, int64 (count,), of which each occurs if there are enough."""
    generator = torch.Generator().manual_seed(seed)
    return torch.arange(count)[torch.randperm(count, generator=generator)] % classes


class SmallMemory(nn.Module):
    """A module that lets few images through at a time, and hands on what it gets."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, images):
        if len(images) > self.most:
            raise MemoryError(f"{len(images)} images at once, where {self.most} fit")
        return images


def tiny_network(seed, classes=4, hidden=True, most=1000):
    """A small random network for the tests, in eval mode and float64, from images (N, 3, H, W).

    Where `hidden`, a second linear layer with BatchNorm and dropout stands before the head. More
    than `most` images at a time are too many for it.
    """
    features = OrderedDict(
        memory=SmallMemory(most),
        conv1=nn.Conv2d(3, 5, 3, padding=1, bias=False),
        norm1=nn.BatchNorm2d(5),
        relu1=nn.ReLU(),
        drop=nn.Dropout2d(0.3),
        conv2=nn.Conv2d(5, 6, (2, 3)),
        norm2=nn.BatchNorm2d(6),
        relu2=nn.ReLU(),
    )
    classifier = OrderedDict(pool=nn.AdaptiveAvgPool2d((1, 2)), flatten=nn.Flatten())
    if hidden:
        classifier |= OrderedDict(
            hidden=nn.Linear(12, 9), norm=nn.BatchNorm1d(9), relu=nn.ReLU(), drop=nn.Dropout(0.3)
        )
    classifier["linear"] = nn.Linear(9 if hidden else 12, classes)
    network = nn.Sequential(
        OrderedDict(features=nn.Sequential(features), classifier=nn.Sequential(classifier))
    )
    generator = torch.Generator().manual_seed(seed)
    network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5, generator=generator)
    return network


def require_gradients(model, names):
    """Freeze all parameters but those whose names are given."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def modes_of(model):
    """One number for each module, in their order: 1 where it is in training mode."""
    return np.array([int(module.training) for module in model.modules()])


def is_norm(module):
    """Whether a module is a BatchNorm layer, for vectors or for maps."""
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)


def which_require_gradients(network):
    """One number for each parameter, in their order: 1 where it requires a gradient."""
    return np.array([int(parameter.requires_grad) for parameter in network.parameters()])


def clusters(seed, count, classes, dimensions):
    """Features φ, float64 (count, dimensions), around another point for each class, and labels."""
    labels = random_labels(seed, count, classes)
    centres = random_tensor(seed + 1, classes, dimensions)
    return random_tensor(seed + 2, count, dimensions) + 0.5 + centres[labels], labels


def wrong_factors(penalty, count, numbers):
    """By mistake, the factors of `check_minimum` for a loss of `count` examples and a matrix W of
    so many numbers. 0.01 is the penalty that train_head takes by itself."""
    factors = {
        "the bias is penalised, too": (1.0, penalty, penalty),
        "the factor 1/2 is missing from the penalty": (1.0, 2 * penalty, 0.0),
        "there is no penalty, and the weights grow for ever": (1.0, 0.0, 0.0),
        "the loss is summed over the examples: it is their mean": (float(count), penalty, 0.0),
        "the mean of the squares is penalised, and not their sum": (1.0, penalty / numbers, 0.0),
        "there is no bias": (1.0, penalty, None),
    }
    if penalty != 0.01:
        factors[f"λ is 0.01 where it should be {penalty}"] = (1.0, 0.01, 0.0)
    return factors


def check_minimum(result, features, labels, classes, factors, mistakes):
    """Fail unless train_head's result (W, b) is where a loss has no slope.

    Args:
        factors: of the cross-entropy's gradient, of W and of b, in the gradient of the loss; b's is
            None if only W is learned.
        mistakes: the factors that belong to other losses, by mistake.
    """
    weight, bias = check_tuple(result, ("weight", "bias"), "train_head")
    for value, shape, what in [
        (weight, (classes, features.shape[1]), "weight"),
        (bias, (classes,), "bias"),
    ]:
        assert isinstance(value, torch.Tensor), (
            f"train_head: expected a tensor as {what}, got {type(value).__name__}."
        )
        assert tuple(value.shape) == shape, (
            f"train_head: expected a {what} of shape {shape}, got {tuple(value.shape)}."
        )
        assert value.dtype == features.dtype, (
            f"train_head: expected a {what} of {features.dtype}, as the features', got"
            f" {value.dtype}."
        )
        assert value.isfinite().all(), f"train_head: the {what} is not finite; too large steps?"
    W, b = (value.detach().double().requires_grad_() for value in (weight, bias))
    loss = F.cross_entropy(features.double() @ W.T + b, labels)
    of_W, of_b = torch.autograd.grad(loss, [W, b])

    def slope(of_loss, of_weight, of_bias):
        """The largest component of a loss's gradient."""
        parts = [of_loss * of_W + of_weight * W]
        parts += [] if of_bias is None else [of_loss * of_b + of_bias * b]
        return max(part.abs().max().item() for part in parts)

    steepest = slope(*factors)
    if steepest <= 0.002:
        return
    reason = "more steps, or smaller ones towards the end"
    if loss > np.log(classes) + 1e-6:
        reason = "the loss is larger than at zero; is it maximised, or are the steps too large"
    found = {mistake: slope(*wrong) for mistake, wrong in mistakes.items()}
    if found and min(found.values()) <= 0.004:
        reason = f"it looks as if {min(found, key=found.get)}"
    raise AssertionError(
        f"train_head: a component of the gradient is {steepest:.2g} where it stops, more than"
        f" 0.002, for λ = {factors[1]} and features {tuple(features.shape)}: {reason}."
    )


@run_beside
def numbers_of_head(network):
    """The weight and the bias of a network's head."""
    head = network.classifier[-1]
    if getattr(head, "bias", None) is None:
        raise AssertionError("the new head has no bias; nn.Linear has one by default.")
    return head.weight.detach(), head.bias.detach()


@run_beside
def at_work(network, X, weight, bias, upstream):
    """The scores of a network with this weight and bias put into its head, and the gradients of
    sum(scores · upstream) for both, or None where they don't require any."""
    numbers_of_head(network)  # says so if the bias is missing
    network.eval()
    head = network.classifier[-1]
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    scores, numbers = network(X), [head.weight, head.bias]
    if scores.shape != upstream.shape or not all(number.requires_grad for number in numbers):
        return scores.detach(), None
    return scores.detach(), torch.autograd.grad(scores, numbers, upstream)


@run_beside
def state_after_training(replace_head, model, classes):
    """The model's own parameters after all those of its copy with another head were changed."""
    changed = replace_head(model, classes)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 1
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def check_trainable_head(changed, classes, inner, X, seed, name):
    """Fail unless, with random numbers in its head, a network gives the scores and the gradients of
    a linear layer on `inner`, (N, D)."""
    weight, bias = random_tensor(seed, classes, inner.shape[1]), random_tensor(seed + 9, classes)
    upstream = random_tensor(seed + 18, len(X), classes)
    scores, gradients = at_work(changed, X, weight, bias, upstream)
    check_close(
        scores,
        inner @ weight.T + bias,
        f"the scores after numbers were put into the new head of {name}",
    )
    assert gradients is not None, (
        f"the new head of {name} can't be trained: its parameters have to require a gradient."
    )
    for what, gradient, expected in zip(
        ("weight", "bias"), gradients, (upstream.T @ inner, upstream.sum(0)), strict=True
    ):
        check_close(gradient, expected, f"the gradient for the {what} of the new head of {name}")


def check_shares_nothing(replace_head, model, classes, name):
    """Fail if changing the copy's parameters changes the model's."""
    after = state_after_training(replace_head, model, classes)
    shared = [key for key, own in model.named_parameters() if not torch.equal(after[key], own)]
    assert not shared, (
        f"{name}: the copy shares {len(shared)} parameters with the model, such as {shared[0]}:"
        " training it changes both."
    )


@run_beside
def running_statistics(network):
    """All running means and variances of a network's BatchNorm, one layer after the other."""
    norms = [module for _, module in sorted(network.named_modules()) if is_norm(module)]
    return torch.cat([torch.cat([norm.running_mean, norm.running_var]) for norm in norms])


@run_beside
def all_parameters(network):
    """All parameters of a network as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@run_beside
def momenta_and_training(network):
    """The momentum of each BatchNorm layer, and the names of the modules in training mode."""
    modules = sorted(network.named_modules())
    momenta = [module.momentum for _, module in modules if is_norm(module)]
    return momenta, [name or "the network" for name, module in modules if module.training]


@run_beside
def carries_graph(function, *arguments):
    """Whether autograd could go back from the function's result."""
    return bool(function(*arguments).requires_grad)


@run_beside
def after_a_step(parameter_groups, model, head_lr, features_lr, gradients):
    """The model's parameters after a step of plain gradient descent with these gradients."""
    optimizer = torch.optim.SGD(parameter_groups(model, head_lr, features_lr), lr=0.123)
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name]
    optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def rates_by_parameter(parameter_groups, model, head_lr, features_lr):
    """By what multiple of its gradient a step lowers each parameter, an array in their order."""
    before = {name: value.detach() for name, value in model.named_parameters()}
    gradients = {name: 1 + random_tensor(7, *value.shape) for name, value in before.items()}
    moved = copy.deepcopy(model)
    after = after_a_step(parameter_groups, moved, head_lr, features_lr, gradients)
    rates = []
    for name, gradient in gradients.items():
        step = before[name] - after[name]
        rates.append(float((step * gradient).sum() / gradient.square().sum()))
        check_close(step, rates[-1] * gradient, f"the step of {name}", tolerance=1e-6)
    return np.array(rates)


def check_rates(parameter_groups, model, expected, mistakes):
    """Fail unless the groups for the rates 1/2 and 1/16 give each parameter the rate expected."""
    parameter_groups(model, 0.5, 0.0625)
    try:
        rates = rates_by_parameter(parameter_groups, model, 0.5, 0.0625)
    except ValueError as error:
        if "more than one parameter group" in str(error):
            raise AssertionError(
                "parameter_groups: a parameter is in two groups; model.parameters() has the head's,"
                " too"
            ) from error
        raise
    check_close(
        rates,
        expected,
        "by what multiple of its gradient a step of SGD lowers each parameter",
        mistakes=mistakes,
        tolerance=1e-6,
    )


# %% [markdown]
# ## The old task and two new ones
#
# The network `base` has learned ten classes of textured objects. Two tasks are waiting for it:
#
# - a **near** target: five classes that it has never seen, drawn in the same manner;
# - a **far** target: scikit-learn's handwritten digits, grey, flat and without any background.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from utils.models import load_model, make_scene_network
from utils.scenes import CLASS_NAMES, HELD_OUT_CLASS_NAMES, make_scenes

# In this layout in memory a network answers about a fifth sooner.
base = load_model("base").to(device, memory_format=torch.channels_last)


def scene_tensors(count, seed, variant="single"):
    """Scenes as images (count, 3, 64, 64) and classes (count,)."""
    drawn = make_scenes(count, np.random.default_rng(seed), variant)
    return tuple(tensor.to(device) for tensor in drawn.tensors())


def digit_tensors(side):
    """All 1797 digits as images (1797, 3, side, side), each of 8 × 8 pixels, and their classes."""
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float()[:, None].expand(-1, 3, -1, -1)
    images = F.interpolate(images, (side, side), mode="nearest")
    return images.to(device), torch.from_numpy(digits.target).to(device)


SIDE = 16
old_images, old_labels = scene_tensors(120, 40)
near_images, near_labels = scene_tensors(400, 41, "held_out")
near_test_images, near_test_labels = scene_tensors(200, 42, "held_out")
digit_images, digit_labels = digit_tensors(SIDE)
shuffled = torch.randperm(len(digit_labels), generator=torch.Generator().manual_seed(43))
far_images, far_test_images = digit_images[shuffled[:1000]], digit_images[shuffled[1000:1400]]
far_labels, far_test_labels = digit_labels[shuffled[:1000]], digit_labels[shuffled[1000:1400]]


def in_order(labels, classes, count):
    """The first `count` examples of classes 0, 1, 2, …, as far as there are classes."""
    rows = [torch.nonzero(labels == c)[:count, 0] for c in range(classes)]
    return torch.stack(rows, 1).flatten().cpu()


figure, axes = plt.subplots(3, 10, figsize=(11, 4.4), layout="constrained")
figure.suptitle("What base has learned (top), a near target (middle) and a far one (bottom)")
for row, images, labels, names in [
    (axes[0], old_images, old_labels, CLASS_NAMES),
    (axes[1], near_images, near_labels, HELD_OUT_CLASS_NAMES),
    (axes[2], far_images, far_labels, range(10)),
]:
    places = in_order(labels, len(names), 10 // len(names))
    for ax, place in zip(row, places, strict=True):
        ax.imshow(images[place].permute(1, 2, 0).cpu())
        ax.set_title(names[labels[place]], fontsize=9)
        ax.set_axis_off()
plt.show()

# %% [markdown]
# The near target shares everything with the old task but the classes: the same backgrounds, the
# same distractors, textures of the same kind. The digits share nothing but the name of image
# classification. They come in 8 × 8 pixels; we draw each twice as large, since a network that
# halves its maps three times would have nothing left of 8 × 8. It averages over all places in the
# end, so any size will do.
#
# A third thing to show to `base` can be a **picture of your own**: one object, large in the
# picture, of anything. It will appear below beside the scenes, twice. No exercise needs it.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% [markdown]
# ## 1. A new head
#
# A classifier of this kind is a function in two parts: features $\phi(x) \in \mathbb{R}^D$, made by
# everything but the last layer, and on top of them one linear layer, the **head**:
#
# $$s(x) = W \phi(x) + b, \qquad W \in \mathbb{R}^{C \times D}$$
#
# Each row of $W$ belongs to one class. Other classes need other rows, and so the head is the one
# part that cannot be transferred. How should the new one start? Randomly, usually. We start it at
# **zero**: all scores are 0, all classes equally likely, the loss is $\log C$ to the last digit
# (a fine thing to check before any training!), and in the first step the gradient for the features
# is zero too: $\partial L / \partial \phi = W^\top \, \partial L / \partial s$. A random head would
# spend its first steps on pushing good features in random directions.
#
# ### Exercise: `replace_head`
# ★☆☆ · 20 minutes
#
# All our networks have two parts, `model.features` and `model.classifier`, and the head is the last
# module of the second, `model.classifier[-1]`.
#
# <details><summary>Hint</summary>
#
# `copy.deepcopy(model)`; a linear layer knows its `in_features`; an `nn.Sequential` lets you assign
# to `classifier[-1]`; `nn.init.zeros_`; and `.to(weight)` moves a layer to a tensor's device and
# dtype.
#
# </details>


# %% exercise="replace_head"
def replace_head(model, classes):
    """A copy of a network with a new head, for other classes.

    The model itself stays as it is, and the copy shares no parameter with it.

    Args:
        model: nn.Module with two parts, model(X) = model.classifier(model.features(X)). The
            classifier is an nn.Sequential whose last module, the head, is an nn.Linear with a bias.
        classes: int, the number C of new classes.

    Returns:
        changed: nn.Module with the same parts. Its head, changed.classifier[-1], is an nn.Linear to
            C scores with a bias, both weight and bias zero, trainable, on the device and with the
            dtype of the old one. Everything else is the model's, weights and statistics included.
    """
    ### BEGIN SOLUTION
    changed = copy.deepcopy(model)
    old = changed.classifier[-1]
    head = nn.Linear(old.in_features, classes).to(old.weight)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    changed.classifier[-1] = head
    return changed
    ### END SOLUTION


# %% test="replace_head" points=2 aspect="a new head"
X, model = random_images(0, 3, 3, 6, 9), tiny_network(0)
### BEGIN EXPECTED
inner = model.classifier[:-1](model.features(X)).detach()
### END EXPECTED
changed = replace_head(model, 7)
assert callable(changed), "replace_head returns no network; is a `return` missing?"
weight, bias = numbers_of_head(changed)
check_close(weight, torch.zeros(7, 9), "the weight of replace_head(model, 7)'s new head")
check_close(bias, torch.zeros(7), "the bias of replace_head(model, 7)'s new head")
check_trainable_head(changed, 7, inner, X, 1, "replace_head(model, 7)")

# %% test="replace_head" points=2 aspect="the model stays as it is"
X, model = random_images(2, 2, 3, 6, 9), tiny_network(2, hidden=False)
### BEGIN EXPECTED
inner = model.classifier[:-1](model.features(X)).detach()
### END EXPECTED
changed = replace_head(model, 3)
assert callable(changed), "replace_head returns no network; is a `return` missing?"
check_close(changed(X).detach(), torch.zeros(2, 3), "the scores of replace_head(model, 3)")
check_trainable_head(changed, 3, inner, X, 2, "replace_head(model, 3)")
check_shares_nothing(replace_head, model, 3, "replace_head(model, 3)")

# %% test="replace_head" points=1 aspect="other networks"
# Other networks and numbers of classes are tried here.
### BEGIN HIDDEN TESTS
for seed, classes, hidden in [(0, 2, False), (1, 4, True), (2, 9, False)]:
    seed += reference.seed
    X, model = random_images(seed, 2, 3, 5, 7), tiny_network(seed, classes=3, hidden=hidden)
    with torch.no_grad():
        inner = model.classifier[:-1](model.features(X))
    name = f"replace_head(model, {classes}) for a head of {inner.shape[1]} inputs"
    changed = replace_head(model, classes)
    check_close(changed(X), torch.zeros(2, classes), f"the scores of {name}")
    check_trainable_head(changed, classes, inner, X, seed, name)
    check_shares_nothing(replace_head, model, classes, name)
options = {"inplace": True, "hooks": True, "mixed": True, "gradients": True}
X, model = random_images(seed, 2, 3, 9, 8), awkward_network(seed, parts=True, **options)
with torch.no_grad():
    inner = model.classifier[:-1](model.features(X))
name = "replace_head(model, 3) for a network with a forward of its own"
changed = replace_head(model, 3)
check_close(changed(X), torch.zeros(2, 3), f"the scores of {name}")
check_trainable_head(changed, 3, inner, X, seed, name)
check_shares_nothing(replace_head, model, 3, name)
### END HIDDEN TESTS

# %% [markdown]
# Why can't we keep the old head? Ask `base` about things it has no word for, and see which of its
# ten words it takes.

# %%
shown = {
    name: near_test_images[near_test_labels == c] for c, name in enumerate(HELD_OUT_CLASS_NAMES)
}
mine = own.load(96)
if mine is not None:
    windows = torch.from_numpy(mine).to(device).unfold(0, 64, 16).unfold(1, 64, 16)
    shown["yours, 9 crops"] = windows.flatten(0, 1) / 255
with torch.no_grad():
    probabilities = {name: base(images).softmax(1).cpu() for name, images in shown.items()}
answers = torch.stack([F.one_hot(p.argmax(1), 10).float().mean(0) for p in probabilities.values()])
sure = torch.cat([probabilities[name].amax(1) for name in HELD_OUT_CLASS_NAMES])

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
picture = ax.imshow(answers, cmap="viridis", vmin=0, vmax=1)
ax.set_xticks(range(10), CLASS_NAMES, rotation=45, ha="right")
ax.set_yticks(range(len(shown)), shown)
ax.set(xlabel="base answers", ylabel="shown")
for (row, column), value in np.ndenumerate(answers.numpy()):
    if value >= 0.1:
        ax.text(
            column,
            row,
            f"{value:.0%}",
            ha="center",
            va="center",
            fontsize=8,
            color="black" if value > 0.5 else "white",
        )
figure.colorbar(picture, ax=ax, shrink=0.8, label="share of the scenes")
figure.suptitle(
    f"Five unknown classes, ten known words: {(sure > 0.9).mean(dtype=float):.0%} of the answers"
    " are given with more than 90%"
)
plt.show()

fresh = replace_head(base, 5)
with torch.no_grad():
    loss = F.cross_entropy(fresh(near_test_images[:100]), near_test_labels[:100]).item()
print(f"loss with the new head: {loss:.6f}; log 5 = {np.log(5):.6f}")

# %% [markdown]
# Without a word for it, the network doesn't say so: it takes the word whose features come closest,
# and is often sure of it. (If you have given it a picture, the last row shows its answers to nine
# overlapping parts of it; has it found a word for yours?) The new head knows nothing, and says
# exactly that.
#
# ## 2. Freeze
#
# With 25 labelled pictures, a head has 645 numbers to learn, the whole network more than 283,000.
# So the first recipe is to **freeze** everything but the head: $\phi$ stays what it is, and only
# $W$ and $b$ are learned.
#
# ### Exercise: `freeze`
# ★☆☆ · 10 minutes
#
# A parameter is frozen if its `requires_grad` is False: autograd computes no gradient for it, and
# an optimiser passes over it.


# %% exercise="freeze" changes="model.requires_grad"
def freeze(model):
    """Freeze all parameters of a network but those of its head, in place.

    Only `requires_grad` changes: False for every parameter outside the head, True for the head's
    weight and bias, whatever they were before. Values, modes and modules stay as they are.

    Args:
        model: nn.Module whose head is model.classifier[-1], an nn.Linear. There may be other layers
            with parameters in model.classifier.
    """
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in model.classifier[-1].parameters():
        parameter.requires_grad_(True)
    ### END SOLUTION


# %% test="freeze" points=2 aspect="all but the head"
model = tiny_network(3)
names = [name for name, _ in model.named_parameters()]


### BEGIN EXPECTED
def trainable_if(condition):
    """One number for each parameter: 1 where the condition holds for its name."""
    return np.array([int(condition(name)) for name in names])


expected = trainable_if(lambda name: name.startswith("classifier.linear."))
mistakes = {
    "nothing is frozen: it is each parameter, not a module, that has a requires_grad": (
        np.ones_like(expected)
    ),
    "the head is frozen as well": np.zeros_like(expected),
    "the head is frozen, and the rest is not: it should be the other way round": 1 - expected,
    "only model.features is frozen: there are hidden layers in model.classifier": (
        trainable_if(lambda name: name.startswith("classifier."))
    ),
    "only weights are frozen: biases are parameters, too": (
        trainable_if(lambda name: name.endswith("bias") or name.startswith("classifier.linear"))
    ),
    "BatchNorm's parameters are left out: its weight and bias have to be frozen, too": (
        trainable_if(lambda name: "norm" in name or name.startswith("classifier.linear."))
    ),
    "only the head's weight can be trained, not its bias": (
        trainable_if(lambda name: name == "classifier.linear.weight")
    ),
}
### END EXPECTED
for training in (False, True):
    _, frozen = call_on_copies(freeze, model.train(training))
    check_close(
        which_require_gradients(frozen),
        expected,
        "which parameters require a gradient after freeze(model)",
        mistakes=mistakes,
    )

# %% test="freeze" points=1 aspect="whatever they were before"
model = tiny_network(4)
model.classifier.linear.weight.requires_grad_(False)
model.features.conv1.weight.requires_grad_(False)
names = [name for name, _ in model.named_parameters()]
### BEGIN EXPECTED
expected = np.array([int(name.startswith("classifier.linear.")) for name in names])
mistakes = {
    "nothing has changed": which_require_gradients(model),
    "the head stays frozen where it was before": (
        np.array([int(name == "classifier.linear.bias") for name in names])
    ),
    "what was frozen is trained now, and the other way round": 1 - which_require_gradients(model),
}
### END EXPECTED
_, frozen = call_on_copies(freeze, model)
check_close(
    which_require_gradients(frozen),
    expected,
    "which parameters require a gradient after freeze(model), where the head's weight didn't",
    mistakes=mistakes,
)

# %% test="freeze" points=1 aspect="other networks"
# Other networks are tried here.
### BEGIN HIDDEN TESTS
for seed, hidden in [(0, False), (1, True)]:
    model, expected = (tiny_network(reference.seed + seed, hidden=hidden) for _ in range(2))
    for network in (model, expected):
        for number, parameter in enumerate(network.parameters()):
            parameter.requires_grad_(number % 2 == seed)
    _, model = call_on_copies(freeze, model)
    reference.freeze(expected)
    check_close(
        which_require_gradients(model),
        which_require_gradients(expected),
        f"which parameters require a gradient (hidden layers in the classifier: {hidden})",
    )
model = awkward_network(reference.seed, parts=True, hooks=True, mixed=True, gradients=True)
names = [name for name, _ in model.named_parameters()]
model.classifier[-1].requires_grad_(False)
_, model = call_on_copies(freeze, model)
check_close(
    which_require_gradients(model),
    np.array([int(name.startswith("classifier.6.")) for name in names]),
    "which parameters of another network require a gradient after freeze(model)",
    mistakes={
        "the last nn.Linear of model.modules() is taken for the head": (
            np.array([int(name.startswith("features.across.")) for name in names])
        ),
    },
)
### END HIDDEN TESTS

# %%
frozen = replace_head(base, 5)
freeze(frozen)
layers = [
    (name, module)
    for name, module in frozen.named_modules()
    if list(module.parameters(recurse=False))
]
sizes = [sum(p.numel() for p in module.parameters()) for _, module in layers]
moving = [all(p.requires_grad for p in module.parameters()) for _, module in layers]
figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
for kind, colour, hatch in [(False, "#56B4E9", None), (True, "#D55E00", "///")]:
    chosen = [place for place, moves in enumerate(moving) if moves == kind]
    ax.barh(
        chosen,
        [sizes[place] for place in chosen],
        color=colour,
        hatch=hatch,
        edgecolor="white",
        label="trainable" if kind else "frozen",
    )
for place, size in enumerate(sizes):
    ax.text(size * 1.1, place, f"{size:,}", va="center", fontsize=8)
ax.set_yticks(range(len(layers)), [name.split(".")[-1] for name, _ in layers])
ax.invert_yaxis()
ax.set_xscale("log")
ax.set(xlabel="parameters (logarithmic)", xlim=(10, 1e6))
learned = sum(size for size, moves in zip(sizes, moving, strict=True) if moves)
ax.set_title(f"Frozen, {learned:,} of {sum(sizes):,} numbers are left to learn")
ax.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# Mind the logarithmic scale: the bars show the order of magnitude, the numbers beside them the
# rest. Nearly four fifths of all parameters are in the last two convolutions.
#
# ### The trap
#
# A BatchNorm layer holds two kinds of numbers. Its weight and bias are parameters, and `freeze` has
# frozen them. Its running mean and variance are **buffers**: no gradient ever reaches them. They
# are an average of what the layer has seen *in training mode*, and in training mode they move with
# every forward pass:
#
# $$\mu \leftarrow 0.9\, \mu + 0.1\, \mu_\text{batch}, \qquad
#   \sigma^2 \leftarrow 0.9\, \sigma^2 + 0.1\, \sigma^2_\text{batch}$$
#
# Every training loop begins with `model.train()`, as dropout needs it. So a network all of whose
# parameters are frozen changes all the same. For the head this means features that drift while it
# learns on them. For whoever shares the features, a second head for the old task for example, it
# means that *their* network changes.
#
# ### Exercise: `training_mode`
# ★★☆ · 25 minutes
#
# Write the line that should stand at the beginning of the training loop instead.
#
# <details><summary>Hint 1: which layers</summary>
#
# `model.modules()` goes through all levels, and `is_norm(module)`, given above, knows a BatchNorm
# layer.
#
# </details>
# <details><summary>Hint 2: the order</summary>
#
# `module.train()` and `module.eval()` set the mode of a module *and of everything inside it*.
#
# </details>


# %% exercise="training_mode" changes="model.training"
def training_mode(model):
    """Put a network into training mode, but its frozen BatchNorm layers into eval mode, in place.

    A BatchNorm layer is frozen if neither its weight nor its bias requires a gradient. All other
    modules are in training mode afterwards (module.training is True), whatever mode they were in:
    dropout, BatchNorm that is not frozen, and containers, too. No value changes, and no parameter's
    `requires_grad`.

    Args:
        model: nn.Module with nn.BatchNorm1d and nn.BatchNorm2d layers at any depth, each with a
            weight and a bias.
    """
    ### BEGIN SOLUTION
    model.train()
    for module in model.modules():
        if is_norm(module) and not (module.weight.requires_grad or module.bias.requires_grad):
            module.eval()
    ### END SOLUTION


# %% test="training_mode" points=2 aspect="which modules"
model = tiny_network(4)
require_gradients(
    model,
    [
        *("features.norm2.weight", "features.norm2.bias", "features.conv2.weight"),
        *("classifier.linear.weight", "classifier.linear.bias"),
    ],
)
### BEGIN EXPECTED
names = [name for name, _ in model.named_modules()]


def modes_if(condition):
    """One number for each module: 1 where the condition holds for its name."""
    return np.array([int(condition(name)) for name in names])


norms = {"features.norm1", "features.norm2", "classifier.norm"}
still = {"features.norm1", "classifier.norm"}
expected = modes_if(lambda name: name not in still)
mistakes = {
    "all modules are in training mode, frozen BatchNorm included": np.ones_like(expected),
    "the other modules keep their mode, or are in eval mode: call model.train() first": (
        np.zeros_like(expected)
    ),
    "all BatchNorm is in eval mode: norm2 isn't frozen and should learn": (
        modes_if(lambda name: name not in norms)
    ),
    "BatchNorm1d, in the classifier, is forgotten": (
        modes_if(lambda name: name != "features.norm1")
    ),
    "BatchNorm that isn't frozen is in eval mode, and frozen BatchNorm isn't": (
        modes_if(lambda name: name != "features.norm2")
    ),
    "dropout is in eval mode": (modes_if(lambda name: name not in still and "drop" not in name)),
    "the whole of model.features is in eval mode, dropout included": (
        modes_if(lambda name: name.split(".")[0] != "features" and name not in still)
    ),
    "model.features is in eval mode, and BatchNorm in the classifier is forgotten": (
        modes_if(lambda name: name.split(".")[0] != "features")
    ),
    "other frozen layers are in eval mode, not BatchNorm alone": (
        modes_if(lambda name: name not in {*still, "features.conv1", "classifier.hidden"})
    ),
}
### END EXPECTED
for start in (False, True):
    _, changed = call_on_copies(training_mode, model.train(start))
    check_close(
        modes_of(changed),
        expected,
        f"which modules are in training mode (all were in {'training' if start else 'eval'} mode)",
        mistakes=mistakes,
    )

# %% test="training_mode" points=1 aspect="half frozen"
for kept in ("weight", "bias"):
    model = tiny_network(5)
    require_gradients(model, [f"features.norm1.{kept}"])
    ### BEGIN EXPECTED
    names = [name for name, _ in model.named_modules()]
    expected = np.array([int(n not in ("features.norm2", "classifier.norm")) for n in names])
    all_still = expected * np.array([int(name != "features.norm1") for name in names])
    mistakes = {
        f"a BatchNorm layer is taken for frozen though its {kept} requires a gradient": all_still,
        "all modules are in training mode, frozen BatchNorm included": np.ones_like(expected),
    }
    ### END EXPECTED
    _, changed = call_on_copies(training_mode, model)
    name = f"which modules are in training mode where of norm1 the {kept} alone learns"
    check_close(modes_of(changed), expected, name, mistakes=mistakes)

# %% test="training_mode" points=2 aspect="other networks"
# Other networks are tried here, and whether their running statistics stay where they should.
### BEGIN HIDDEN TESTS
for seed, chosen in [
    (0, ["features.norm1.weight", "classifier.linear.weight"]),
    (1, ["classifier.norm.bias", "features.norm2.weight", "features.norm2.bias"]),
    (2, [name for name, _ in tiny_network(0).named_parameters()]),
    (3, []),
]:
    model, expected = (tiny_network(reference.seed + seed) for _ in range(2))
    for network in (model, expected):
        require_gradients(network, chosen)
        network.features.train(seed % 2 == 0)
    _, model = call_on_copies(training_mode, model)
    reference.training_mode(expected)
    check_close(
        modes_of(model),
        modes_of(expected),
        f"which modules are in training mode where {len(chosen)} parameters require a gradient",
    )
    model(random_images(reference.seed, 4, 3, 5, 6))
    for name, module in model.named_modules():
        if is_norm(module) and not any(name in parameter for parameter in chosen):
            start = tiny_network(reference.seed + seed).get_submodule(name)
            check_close(module.running_mean, start.running_mean, f"{name}'s running mean")
model = awkward_network(reference.seed, parts=True, hooks=True, mixed=True, gradients=True)
learning = {"features.blocks.b.bn3", "features.entry.1"}
require_gradients(model, ["features.blocks.b.bn3.bias", "features.entry.1.weight"])
_, changed = call_on_copies(training_mode, model)
modules = dict(model.named_modules())
check_close(
    modes_of(changed),
    np.array([int(name in learning or not is_norm(m)) for name, m in modules.items()]),
    "which modules of another network are in training mode",
    mistakes={
        "BatchNorm deeper than in the first level of features and classifier isn't found": (
            np.array([int(name != "classifier.3") for name in modules])
        ),
    },
)
### END HIDDEN TESTS

# %% [markdown]
# Now the experiment. Freeze every parameter of `base`, its head included, and show it batches of 32
# digits, once after `model.train()` and once after `training_mode(model)`. There is no loss and no
# optimiser. What happens to the *old* task?

# %%


@torch.no_grad()
def predict(model, images):
    """The class with the highest score, in eval mode, 100 images at a time."""
    model.eval()
    return torch.cat([model(part).argmax(1) for part in images.split(100)])


def accuracy(model, images, labels):
    """The share of images that are classified rightly."""
    return (predict(model, images) == labels).float().mean().item()


def show_batches(prepare, counts):
    """Accuracy on the old task after each number of batches of digits, and the network."""
    network = copy.deepcopy(base).requires_grad_(False)
    order = torch.randperm(len(far_images), generator=torch.Generator().manual_seed(44)).split(32)
    measured, seen = [], 0
    for count in counts:
        prepare(network)
        for batch in order[seen:count]:
            network(far_images[batch])
        seen = count
        measured.append(accuracy(network, old_images, old_labels))
    return measured, network


batches = [0, 2, 4, 10, 30]
by_train, drifted = show_batches(lambda network: network.train(), batches)
by_mode, _ = show_batches(training_mode, batches)
norms = [name for name, module in base.named_modules() if is_norm(module)]
spread = [
    (drifted.get_submodule(name).running_var / base.get_submodule(name).running_var).sqrt().cpu()
    for name in norms
]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
figure.suptitle("Every parameter is frozen, and still train() costs the network its old task")
left.plot(batches, by_mode, color="#0072B2", marker="o", label="training_mode(model)")
left.plot(batches, by_train, color="#D55E00", marker="s", linestyle="--", label="model.train()")
left.axhline(0.1, color="0.5", linewidth=1, linestyle=":")
left.text(batches[-1], 0.09, "chance", ha="right", va="top", color="0.4")
left.set(xlabel="batches of digits seen", ylabel="accuracy on the old ten classes", ylim=(0, 1.05))
left.legend(frameon=False, loc="center right")
right.boxplot(
    spread,
    tick_labels=[name.split(".")[-1] for name in norms],
    showfliers=False,
    medianprops={"color": "#D55E00", "linewidth": 2},
)
right.axhline(1, color="0.5", linewidth=1, linestyle=":")
right.set_yscale("log")
right.set_yticks([0.25, 0.5, 1, 2], ["1/4", "1/2", "1", "2"])
right.minorticks_off()
right.set(ylabel="running deviation, now / before")
right.set_title("What model.train() did to the channels (box: middle half)", fontsize=10)
plt.show()
print(f"old task: {by_mode[-1]:.1%} after training_mode, {by_train[-1]:.1%} after model.train()")

# %% [markdown]
# Thirty batches of digits are enough: the network forgets its ten classes although not one of its
# parameters has changed. Nothing warns you, and no gradient was computed. The right panel shows
# what has moved: every BatchNorm layer divides by its running deviation, and these now fit digits,
# not scenes (the boxes are the middle half of a layer's channels, the line is their median). The
# running means have moved as well. Layer by layer it adds up.
#
# Statistics that follow the images can be wanted, and in section 7 you will make a method of them.
# But then it should be a decision. The other half of the trap can't be
# seen here: in training mode each image's features depend on which others are in its batch.
#
# ## 3. What the head sees
#
# Freezing has a great advantage: for a given image $\phi(x)$ never changes. So it need be computed
# only once, and what remains of the training is a linear problem that takes a fraction of a second.
#
# ### Exercise: `extract_features`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# A slice of an `nn.Sequential` is an `nn.Sequential`: `model.classifier[:-1]` is everything but the
# head. `tensor.split(n)` cuts a tensor into parts of n, the last of which may be shorter.
#
# </details>


# %% exercise="extract_features" changes="model.training"
def extract_features(model, images, batch_size=100):
    """What a network's head gets to see of each image.

    The model runs in eval mode, so that an image's features don't depend on the other images; its
    running statistics stay as they are. In which mode it is left doesn't matter.

    Args:
        model: nn.Module with model(X) = model.classifier(model.features(X)), whose head is
            model.classifier[-1]; in any mode.
        images: float tensor (N, 3, H, W), N ≥ 1.
        batch_size: int, the largest number of images that may go through the network at once; it
            needn't divide N.

    Returns:
        features: float tensor (N, D), the head's inputs in the order of the images, without a
            graph to go back through (features.requires_grad is False).
    """
    ### BEGIN SOLUTION
    model.eval()
    with torch.no_grad():
        parts = [model.classifier[:-1](model.features(part)) for part in images.split(batch_size)]
    return torch.cat(parts)
    ### END SOLUTION


# %% test="extract_features" points=2 aspect="what the head sees"
X, model = random_images(5, 3, 3, 5, 8), tiny_network(5)
### BEGIN EXPECTED
expected = reference.extract_features(model, X)
with torch.no_grad():
    maps = model.features(X)
    mistakes = {
        "the head is not left out: these are scores": model.classifier(maps),
        "these are the maps of model.features: there is more before the head": maps,
        "these are the flattened maps of model.features: pooling is left out": maps.flatten(1),
        "these are the pooled maps: there is a hidden layer before the head": (
            model.classifier[:2](maps)
        ),
        "the ReLU before the head is left out": model.classifier[:4](maps),
    }
### END EXPECTED
name = "extract_features(model, images)"
check_close(extract_features(model, X), expected, name, mistakes=mistakes)

# %% test="extract_features" points=1 aspect="a few at a time"
X, model = random_images(6, 8, 3, 5, 8), tiny_network(6, most=3)
### BEGIN EXPECTED
expected = reference.extract_features(model, X, 3)
mistakes = {
    "the last, shorter batch is left out": expected[:6],
    "only the first batch is kept": expected[:3],
    "only the last batch is kept": expected[6:],
}
### END EXPECTED
name = "extract_features(model, images, 3) for 8 images"
check_close(extract_features(model, X, 3), expected, name, mistakes=mistakes)

# %% test="extract_features" points=1 aspect="eval mode, and no graph"
X, model = random_images(7, 4, 3, 5, 8), tiny_network(7)
### BEGIN EXPECTED
expected = reference.extract_features(copy.deepcopy(model), X)
### END EXPECTED
name = "extract_features of a model in training mode"
check_close(extract_features(model.train(), X), expected, name)
assert not carries_graph(extract_features, tiny_network(7), X, 3), (
    "the features carry autograd's graph with them, and with it every map of every image:"
    " compute them under torch.no_grad()."
)

# %% test="extract_features" points=1 aspect="other networks"
# Other networks, numbers of images and sizes are tried here.
### BEGIN HIDDEN TESTS
for seed, count, size, most, hidden in [
    (0, 4, (4, 6), 4, False),
    (1, 5, (7, 3), 1, True),
    (2, 3, (6, 5), 50, False),
]:
    seed += reference.seed
    X = random_images(seed, count, 3, *size)
    model = tiny_network(seed, hidden=hidden, most=most).train()
    features = extract_features(model, X, most)
    check_close(
        features,
        reference.extract_features(model, X, most),
        f"extract_features of {count} images, {most} at a time",
    )
check_close(
    extract_features(tiny_network(seed), random_images(seed, 101, 3, 4, 5)),
    reference.extract_features(tiny_network(seed), random_images(seed, 101, 3, 4, 5)),
    "extract_features without a batch_size",
)
options = {"inplace": True, "hooks": True, "mixed": True, "gradients": True}
X, model = random_images(seed, 5, 3, 9, 8), awkward_network(seed, parts=True, **options)
expected = reference.extract_features(copy.deepcopy(model), X, 2)
for start in (model, copy.deepcopy(model).train()):
    check_close(
        extract_features(start, X, 2),
        expected,
        "extract_features of a network with a forward of its own",
    )
### END HIDDEN TESTS

# %% [markdown]
# Are the new classes in these features already, before anybody has trained anything? We look at
# their first two principal components.

# %%
near_features, near_test_features, far_features, far_test_features = (
    extract_features(base, images)
    for images in (near_images, near_test_images, far_images, far_test_images)
)


def two_components(points):
    """The coordinates of points (N, D) along their first two principal components, and the share
    of the variance that these hold."""
    centred = points - points.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    explained = sizes[:2].square().sum() / sizes.square().sum()
    return (centred @ directions[:2].T).cpu(), explained.item()


colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
figure.suptitle("In base's features most classes that it never saw lie apart; digits overlap")
points, explained = two_components(near_features[:300])
for number, (name, marker) in enumerate(zip(HELD_OUT_CLASS_NAMES, "o^sXD", strict=True)):
    chosen = (near_labels[:300] == number).cpu()
    left.scatter(
        *points[chosen].T, s=22, color=colours[number], marker=marker, alpha=0.7, label=name
    )
left.set_title(f"near target ({explained:.0%} of the variance)", fontsize=10)
left.legend(frameon=False, fontsize=8)
points, explained = two_components(far_features[:300])
for (x, y), digit in zip(points.tolist(), far_labels[:300].tolist(), strict=True):
    right.text(
        x, y, str(digit), fontsize=8, ha="center", va="center", color=plt.cm.viridis(digit / 11)
    )
right.set(xlim=(points[:, 0].min() - 0.2, points[:, 0].max() + 0.2))
right.set(ylim=(points[:, 1].min() - 0.2, points[:, 1].max() + 0.2))
right.set_title(f"far target ({explained:.0%} of the variance)", fontsize=10)
for ax in (left, right):
    ax.set(xlabel="first component", ylabel="second component")
plt.show()

# %% [markdown]
# Nobody has told the network about hexagons and arrows, and still most of the five classes fall
# into groups of their own. The digits form a smear. But two dimensions of 128 are a keyhole: groups
# that overlap here may well lie apart along a third component, and a head is allowed to use all
# 128. So we measure.
#
# ## 4. A head alone
#
# Learning the head on frozen features is **softmax regression**. With $N$ features $\phi_n$ and
# classes $y_n$, minimise over $W$ and $b$
#
# $$L(W, b) = -\frac{1}{N} \sum_n \log \mathrm{softmax}(W \phi_n + b)_{y_n}
#   + \frac{\lambda}{2} \sum_{c, d} W_{cd}^2$$
#
# With 25 examples and 128 dimensions the classes can nearly always be separated, and without the
# second term the loss would fall for ever while $W$ grows. The bias isn't penalised: it only says
# how frequent a class is. $L$ is convex, so where its gradient is zero, there is its minimum, and
# there is only one (up to a constant added to all biases, which no softmax notices). That is how
# your head is tested: **by the gradient at the place where you have stopped**. How you got there is
# your business.
#
# ### Exercise: `train_head`
# ★★☆ · 30 minutes
#
# <details><summary>Hint 1: by gradient descent</summary>
#
# Start at zero, compute the loss of *all* N at once with `F.cross_entropy` and take its gradient.
# With the penalties in this lab (λ between 0.01 and 0.3) Adam arrives after 1000 steps or so, if
# its learning rate falls towards the end.
#
# </details>
# <details><summary>Hint 2: faster</summary>
#
# `torch.optim.LBFGS([W, b], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-4)`
# takes a function that clears the gradients, computes the loss, calls `backward()` and returns the
# loss. One call of `step` with this function does it all.
#
# </details>


# %% exercise="train_head"
def train_head(features, labels, classes, penalty=0.01):
    """Softmax regression on frozen features.

    Minimises L(W, b) = mean over n of the cross-entropy of W φ_n + b and y_n
                        + penalty / 2 · (the sum of the squares of W, without b).

    Any method will do that gets to where no component of the gradient of L for W and b is larger
    than 0.002, in some seconds.

    Args:
        features: φ, float tensor (N, D), values of order 1; columns may be much alike.
        labels: y, int64 tensor (N,), from 0 to classes − 1.
        classes: int C.
        penalty: float λ > 0.

    Returns:
        (weight, bias): W, float tensor (C, D), and b, float tensor (C,), as nn.Linear has them, of
            the features' dtype.
    """
    ### BEGIN SOLUTION
    weight = features.new_zeros(classes, features.shape[1]).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-4
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
    ### END SOLUTION


# %% test="train_head" points=2 aspect="the minimum"
features, labels = clusters(6, 40, 3, 6)
### BEGIN EXPECTED
factors, mistakes = (1.0, 0.05, 0.0), wrong_factors(0.05, 40, 18)
### END EXPECTED
check_minimum(train_head(features, labels, 3, 0.05), features, labels, 3, factors, mistakes)

# %% test="train_head" points=1 aspect="another penalty, and the usual one"
features, labels = clusters(8, 25, 4, 12)
for options, penalty in [((0.2,), 0.2), ((), 0.01)]:
    ### BEGIN EXPECTED
    factors, mistakes = (1.0, penalty, 0.0), wrong_factors(penalty, 25, 48)
    ### END EXPECTED
    result = train_head(features, labels, 4, *options)
    check_minimum(result, features, labels, 4, factors, mistakes)

# %% test="train_head" points=1 aspect="features that are alike"
features, labels = clusters(10, 60, 5, 16)
features = features[:, :1] + 0.2 * features
### BEGIN EXPECTED
factors, mistakes = (1.0, 0.02, 0.0), wrong_factors(0.02, 60, 80)
### END EXPECTED
check_minimum(train_head(features, labels, 5, 0.02), features, labels, 5, factors, mistakes)

# %% test="train_head" points=2 aspect="other numbers"
# Other numbers of examples and classes, other penalties and float32 are tried here.
### BEGIN HIDDEN TESTS
for number, (penalty, count, classes, dimensions, dtype) in enumerate(
    [
        (0.03, 30, 5, 8, torch.float64),
        (0.3, 64, 2, 20, torch.float64),
        (0.01, 50, 3, 10, torch.float32),
        (0.01, 300, 10, 20, torch.float64),
    ]
):
    features, labels = clusters(reference.seed + number, count, classes, dimensions)
    if number == 3:  # where 20 steps aren't enough
        features = features[:, :1] + 0.2 * features
    result = train_head(features.to(dtype), labels.clone(), classes, penalty)
    factors, mistakes = (1.0, penalty, 0.0), wrong_factors(penalty, count, classes * dimensions)
    check_minimum(result, features.to(dtype), labels, classes, factors, mistakes)
### END HIDDEN TESTS

# %% [markdown]
# Now the question of this lab: how good does it get, with how many labels? We compare with the same
# regression on the **pixels** themselves, in grey and 16 × 16 of them. For each number of labels we
# draw the labelled examples several times.

# %%


def few_labels(labels, per_class, seed):
    """Places of `per_class` examples of each class, drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    return torch.cat([order[labels[order] == c][:per_class] for c in labels.unique()])


def head_accuracy(points, labels, test_points, test_labels, per_class, seed):
    """Test accuracy of a head that was trained on a few points of each class."""
    chosen = few_labels(labels, per_class, seed)
    classes = len(labels.unique())
    weight, bias = train_head(points[chosen], labels[chosen], classes)
    return ((test_points @ weight.T + bias).argmax(1) == test_labels).float().mean().item()


def grey_pixels(images):
    """16 × 16 grey values of each image, scaled to be of order 1."""
    return 3 * (F.adaptive_avg_pool2d(images.mean(1), 16) - 0.5).flatten(1)


targets = {
    "near": (near_images, near_labels, near_test_images, near_test_labels),
    "far": (far_images, far_labels, far_test_images, far_test_labels),
}
features = {
    "near": (near_features, near_test_features),
    "far": (far_features, far_test_features),
}
pixels = {
    target: (grey_pixels(images), grey_pixels(test_images))
    for target, (images, _, test_images, _) in targets.items()
}
label_counts = [1, 2, 5, 20, 60]


def learning_curve(target, points, test_points, draws):
    """Test accuracy of heads, an array (numbers of labels, draws of the labelled examples)."""
    _, labels, _, test_labels = targets[target]
    return np.array(
        [
            [
                head_accuracy(points, labels, test_points, test_labels, count, seed)
                for seed in range(draws)
            ]
            for count in label_counts
        ]
    )


frozen_curve = {target: learning_curve(target, *features[target], draws=4) for target in targets}
pixel_curve = {target: learning_curve(target, *pixels[target], draws=2) for target in targets}


def plot_band(ax, counts, curve, colour, marker, style, label):
    """The mean of a curve over its seeds, and the range from the worst to the best."""
    ax.fill_between(counts, curve.min(1), curve.max(1), color=colour, alpha=0.2, linewidth=0)
    ax.plot(counts, curve.mean(1), color=colour, marker=marker, linestyle=style, label=label)


def label_axes(ax, target, classes):
    """Titles, ticks and the level of chance of a learning curve."""
    ax.set_xscale("log")
    ax.set_xticks(label_counts, label_counts)
    ax.minorticks_off()
    ax.axhline(1 / classes, color="0.5", linewidth=1, linestyle=":")
    ax.text(label_counts[-1], 1 / classes - 0.01, "chance", ha="right", va="top", color="0.4")
    ax.set(xlabel="labels for each class", ylim=(0, 1.02))
    ax.set_title(f"{target} target: {classes} classes", fontsize=10)
    ax.grid(color="0.92")


figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
figure.suptitle("What helps on the near target hurts on the far one: features against plain pixels")
for ax, target, classes in zip(axes, targets, (5, 10), strict=True):
    plot_band(
        ax, label_counts, frozen_curve[target], "#0072B2", "o", "-", "a head on base's features"
    )
    plot_band(ax, label_counts, pixel_curve[target], "#D55E00", "s", "--", "a head on grey pixels")
    label_axes(ax, target, classes)
axes[0].set_ylabel("test accuracy")
axes[0].legend(frameon=False, loc="center right")
plt.show()

# %% [markdown]
# On the near target *one* label for each of five classes gives about three quarters right, where
# pixels stay near chance; with 20 the head is above 90%. On the digits it is the other way round:
# from the first label on, 256 plain pixels beat 128 features that a network has learned. (Drawing
# the digits larger doesn't help: at 64 × 64, from five labels on, the features do worse still.) The
# bands go from the worst to the best of a few draws. `base` has learned to tell textures anywhere
# in the picture, and averages over all places in the end; a 3 differs from a 5 by little else than
# where its strokes are. **Features don't just know things, they have also thrown things away**, and
# what is gone no head can bring back.
#
# ## 5. Finetune
#
# What can bring it back is to train the features, too: **finetuning**. But the two parts are in
# different situations. The head starts from nothing and has to go far; the features start from
# something good that big steps would destroy. So they get **two learning rates**, a large one for
# the head and a smaller one for the rest. PyTorch's optimisers take a list of *parameter groups*
# for that, dictionaries such as `{"params": [...], "lr": 0.01}`.
#
# ### Exercise: `parameter_groups`
# ★★☆ · 20 minutes
#
# <details><summary>Hint 1: what is left when the head is gone</summary>
#
# `model.parameters()` holds the head's parameters, too, and an optimiser refuses a parameter that
# is in two groups. Not all that isn't the head's is in `model.features`, either.
#
# </details>
# <details><summary>Hint 2: is this parameter the head's?</summary>
#
# `parameter in list_of_parameters` compares tensors value by value, and fails. Ask whether it is
# the same *object*: compare by `is`, or keep the `id(parameter)` of each in a set.
#
# </details>


# %% exercise="parameter_groups"
def parameter_groups(model, head_lr, features_lr):
    """Parameter groups for an optimiser: one learning rate for the head, one for everything else.

    Every parameter that requires a gradient is in exactly one group. Parameters that are frozen
    (requires_grad is False) are in none. The model isn't changed.

    Args:
        model: nn.Module whose head is model.classifier[-1], an nn.Linear. Other layers of
            model.classifier don't belong to the head.
        head_lr: float, the learning rate of the head's weight and bias.
        features_lr: float, the learning rate of all other parameters.

    Returns:
        groups: list of dicts, each with "params" (a list of parameters, possibly empty) and "lr",
            as torch.optim.SGD and AdamW take it. How many groups there are, and in which order, is
            up to you.
    """
    ### BEGIN SOLUTION
    head = list(model.classifier[-1].parameters())
    in_head = {id(parameter) for parameter in head}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in in_head]
    return [
        {"params": [p for p in parameters if p.requires_grad], "lr": rate}
        for parameters, rate in ((head, head_lr), (rest, features_lr))
    ]
    ### END SOLUTION


# %% test="parameter_groups" points=2 aspect="two rates"
model = tiny_network(9)
names = [name for name, _ in model.named_parameters()]


### BEGIN EXPECTED
def rates_if(rate):
    """The rate of each parameter, from a function of its name."""
    return np.array([rate(name) for name in names])


def head_or(other):
    """The head's rate for the head, and `other` for the rest."""
    return lambda name: 0.5 if name.startswith("classifier.linear.") else other(name)


expected = rates_if(head_or(lambda name: 0.0625))
mistakes = {
    "the two rates are exchanged": 0.5625 - expected,
    "all parameters have the head's rate": rates_if(lambda name: 0.5),
    "all parameters have the features' rate": rates_if(lambda name: 0.0625),
    "only the head is in a group": rates_if(head_or(lambda name: 0)),
    "the head is in no group": (
        rates_if(lambda name: 0 if name.startswith("classifier.linear.") else 0.0625)
    ),
    "the whole classifier has the head's rate: its hidden layers aren't the head": (
        rates_if(lambda name: 0.5 if name.startswith("classifier") else 0.0625)
    ),
    "hidden layers of the classifier are in no group": (
        rates_if(head_or(lambda name: 0 if name.startswith("classifier") else 0.0625))
    ),
    "biases are in no group": (
        rates_if(lambda name: 0 if name.endswith("bias") else head_or(lambda _: 0.0625)(name))
    ),
    "the head's bias has the features' rate": (
        rates_if(lambda name: 0.5 if name == "classifier.linear.weight" else 0.0625)
    ),
    "the rates aren't in the groups: the optimiser's own is used; the key is \"lr\"": (
        rates_if(lambda name: 0.123)
    ),
    'the groups\' rates of the features are missing: the key is "lr"': (
        rates_if(head_or(lambda name: 0.123))
    ),
}
### END EXPECTED
check_rates(parameter_groups, model, expected, mistakes)

# %% test="parameter_groups" points=1 aspect="frozen parameters"
model = tiny_network(10)
fixed = {"features.conv1.weight", "features.norm1.weight", "classifier.hidden.bias"}
for name, parameter in model.named_parameters():
    parameter.requires_grad_(name not in fixed)
### BEGIN EXPECTED
unfrozen = np.array(
    [0.5 if n.startswith("classifier.linear.") else 0.0625 for n, _ in model.named_parameters()]
)
expected = unfrozen * which_require_gradients(model)
mistakes = {
    f"{len(fixed)} frozen parameters are in the groups; leave them out": unfrozen,
    "only the head is in a group": np.where(expected == 0.5, expected, 0),
}
### END EXPECTED
check_rates(parameter_groups, model, expected, mistakes)

# %% test="parameter_groups" points=2 aspect="other networks"
# Other networks are tried here.
### BEGIN HIDDEN TESTS
for seed, hidden, (head_lr, features_lr) in [(0, False, (0.25, 0.75)), (1, True, (0.5, 0.125))]:
    model = tiny_network(reference.seed + seed, hidden=hidden)
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(seed == 0 or number % 3 > 0)
    check_close(
        rates_by_parameter(parameter_groups, model, head_lr, features_lr),
        rates_by_parameter(reference.parameter_groups, model, head_lr, features_lr),
        f"each parameter's rate for {head_lr} and {features_lr}",
        tolerance=1e-6,
    )
model = awkward_network(reference.seed, parts=True, hooks=True, mixed=True, gradients=True)


def rates_of_another(head):
    """The rate of each parameter of the other network if its head had this name."""
    parameters = model.named_parameters()
    return np.array(
        [p.requires_grad * (0.5 if n.startswith(head) else 0.0625) for n, p in parameters]
    )


check_close(
    rates_by_parameter(parameter_groups, model, 0.5, 0.0625),
    rates_of_another("classifier.6."),
    "each parameter's rate in another network",
    tolerance=1e-6,
    mistakes={
        "the last nn.Linear of model.modules() is taken for the head": (
            rates_of_another("features.across.")
        ),
        "the head isn't found, as its name is another one: it is model.classifier[-1]": (
            rates_of_another("no such name")
        ),
    },
)
### END HIDDEN TESTS

# %% [markdown]
# Everything is there now: a new head, groups with two rates, the right mode. The loop itself is
# four lines. First we turn one knob, the features' rate, from nothing (frozen) to the head's own.

# %%


def train(model, head_lr, features_lr, images, labels, *, steps, seed, batch_size):
    """Train a network in place: steps of AdamW, each on a batch drawn anew."""
    optimizer = torch.optim.AdamW(parameter_groups(model, head_lr, features_lr), weight_decay=0.02)
    generator = torch.Generator().manual_seed(seed)
    training_mode(model)
    for _ in range(steps):
        batch = torch.randperm(len(images), generator=generator)[:batch_size]
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


STEPS = {"near": {1: 10, 2: 10, 5: 14, 20: 20}, "far": {1: 15, 5: 30, 10: 30, 20: 40}}
BATCH = {"near": 16, "far": 32}


def trained_accuracy(target, per_class, seed, features_lr, *, scratch=False):
    """Test accuracy after training on a few labels of each class of a target."""
    images, labels, test_images, test_labels = targets[target]
    names = HELD_OUT_CLASS_NAMES if target == "near" else range(10)
    if scratch:
        generator = torch.Generator().manual_seed(seed)
        network = make_scene_network([str(name) for name in names], generator).to(device)
    else:
        network = replace_head(base, len(names))
        if features_lr == 0:
            freeze(network)
    chosen = few_labels(labels, per_class, seed)
    train(
        network,
        features_lr if scratch else 1e-2,
        features_lr,
        images[chosen],
        labels[chosen],
        steps=STEPS[target][per_class],
        seed=seed,
        batch_size=BATCH[target],
    )
    return accuracy(network, test_images, test_labels)


rates = [0, 1e-4, 1e-3, 1e-2]
by_rate = {
    "near target, 2 labels for each class": [trained_accuracy("near", 2, 0, r) for r in rates],
    "far target, 10 labels for each class": [trained_accuracy("far", 10, 0, r) for r in rates],
}
figure, ax = plt.subplots(figsize=(7.6, 3.6), layout="constrained")
for (name, measured), colour, marker, style in zip(
    by_rate.items(), ("#0072B2", "#D55E00"), "os", ("-", "--"), strict=True
):
    ax.plot(measured, color=colour, marker=marker, linestyle=style, label=name)
ax.set_xticks(range(4), ["0 (frozen)", "0.0001", "0.001", "0.01"])
ax.set(xlabel="learning rate of the features (the head's is 0.01)", ylim=(0, 1))
ax.set_ylabel("test accuracy")
ax.set_title("The near target wants its features left alone, the far one wants them changed")
ax.grid(color="0.92")
ax.legend(frameon=False, loc="lower center")
plt.show()
ten_steps = [by_rate["near target, 2 labels for each class"][0]]  # the first of four draws
ten_steps += [trained_accuracy("near", 2, seed, 0) for seed in range(1, 4)]
converged = frozen_curve["near"][label_counts.index(2)]
print("near target, 2 labels for each class, frozen features, four draws of labels:")
for name, measured in {"ten steps of AdamW": ten_steps, "section 4's head": converged}.items():
    print(f"{name:18} {np.mean(measured):.2f} on average, from {min(measured):.2f}", end=" ")
    print(f"to {max(measured):.2f}")

# %% [markdown]
# One draw of labels for each point, so don't read more from it than the direction of the two lines.
# The rate that suits the digits best costs the near target part of what it had for nothing.
#
# "Frozen" isn't quite section 4's head, as the lines printed say. The first point of the blue line
# is a lucky draw. And even on average ten steps of AdamW do a little better than the head that was
# trained until nothing changed any more: with ten pictures, to stop **early** keeps a head from
# fitting them too closely.
#
# Now the whole picture: accuracy against labels for each class, for the three recipes on both
# targets. **Freeze** is section 4's head, **finetune** has the rates 0.01 and 0.0003, and **from
# scratch** is the same network from random weights, for as many steps, with the rate 0.003 for
# everything. This is the most expensive cell of the lab.

# %%
recipes = {
    "finetune": {"features_lr": 3e-4},
    "from scratch": {"features_lr": 3e-3, "scratch": True},
}
counts = [1, 5, 20]
curves = {
    (target, recipe): np.array(
        [
            [
                trained_accuracy(target, count, seed, **settings)
                for seed in range(1 if (target, recipe) == ("near", "from scratch") else 2)
            ]
            for count in counts
        ]
    )
    for target in targets
    for recipe, settings in recipes.items()
}

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
figure.suptitle("Freezing wins while labels are few and the target is near; far away it loses")
for ax, target, classes in zip(axes, targets, (5, 10), strict=True):
    plot_band(ax, label_counts, frozen_curve[target], "#0072B2", "o", "-", "freeze")
    for recipe, colour, marker, style in [
        ("finetune", "#D55E00", "s", "--"),
        ("from scratch", "#000000", "^", ":"),
    ]:
        plot_band(ax, counts, curves[target, recipe], colour, marker, style, recipe)
    label_axes(ax, target, classes)
axes[0].set_ylabel("test accuracy")
axes[0].legend(frameon=False, loc="center right")
plt.show()
for (target, recipe), curve in curves.items():
    frozen_at = {count: frozen_curve[target][label_counts.index(count)] for count in counts}
    print(
        f"{target:4} {recipe:12}",
        *(
            f"{count:2} labels: {values.mean():.2f} (freeze {frozen_at[count].mean():.2f})"
            for count, values in zip(counts, curve, strict=True)
        ),
        sep="   ",
    )
same_rate = np.mean([trained_accuracy("far", 5, seed, 3e-3) for seed in range(2)])
print(
    f"far  finetune with from scratch's rate for the features, 0.003:    5 labels: {same_rate:.2f}"
)

# %% [markdown]
# **Near**: freezing is as good as finetuning or better wherever labels are few. From scratch, in as
# few steps as the others need, one is hardly above chance, even with a hundred pictures. (More
# steps help, and not enough: three trials with 300 of them ended between two fifths and three
# quarters.) **Far**: freezing falls behind both others, far behind from five labels on. And mind
# the dotted line: a network that has never seen anything does *better* here than the finetuned one.
# That is called **negative transfer**. What was learned isn't neutral: first the features have to
# unlearn. But most of the gap in the figure is the learning rate: the last line printed gives
# finetuning the rate of the dotted line, and a part of the gap is left. A small rate protects good
# features, and on a far target there is little to protect.
#
# What the figure can't tell: finetuning has two draws, from scratch on the near target only one;
# each recipe has its own best rates and number of steps, and we haven't searched for them, least of
# all for scratch on the near target; and our network is tiny. Networks trained on a million
# photographs have more general features, and with them even far targets usually gain. Look at the
# *kind* of difference, not at the second digit.
#
# ### The head first (optional)
#
# A head of zeros leaves the features alone in the first step, but not in the second: by then the
# head has a direction, a poor one, and the features are bent to suit it. Kumar et al.
# (*Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*, ICLR 2022)
# draw the conclusion that you may have drawn already: first train the head on features that stand
# still, then finetune everything from there with a small rate. When the second phase begins, the
# head's gradients ask for little.
#
# ### Exercise: `head_then_finetune`
# ★★☆ · 30 minutes · optional
#
# All steps are plain gradient descent, $\theta \leftarrow \theta - \eta\, \partial L / \partial
# \theta$, on all images at once, so that nothing is left to chance.
#
# <details><summary>Hint</summary>
#
# An optimiser moves only the parameters that it is given, so each phase can have its own
# `torch.optim.SGD`. But `backward()` adds to the `.grad` of *all* that require one: when does each
# have to be cleared?
#
# </details>


# %% exercise="head_then_finetune"
def head_then_finetune(model, images, labels, head_steps, head_lr, steps, lr):
    """Train the head of a network, then all of it (Kumar et al., 2022), by gradient descent.

    First, `head_steps` steps with the rate `head_lr` on the head's weight and bias alone; then
    `steps` steps with the rate `lr` on every parameter, the head's too. The loss is the mean
    cross-entropy of all images. The network is in eval mode all the time: dropout does nothing, and
    BatchNorm's statistics stay. Parameters that are frozen (requires_grad is False) never move.

    Args:
        model: nn.Module whose head is model.classifier[-1], an nn.Linear. It stays as it is.
        images: float tensor (N, 3, H, W).
        labels: int64 tensor (N,).
        head_steps, steps: int ≥ 0.
        head_lr, lr: float > 0.

    Returns:
        trained: a trained copy of the model, in eval mode.
    """
    ### BEGIN SOLUTION
    trained = copy.deepcopy(model).eval()
    head = trained.classifier[-1]
    with torch.no_grad():
        features = trained.classifier[:-1](trained.features(images))
    phases = [(head, features, head_steps, head_lr), (trained, images, steps, lr)]
    for part, inputs, count, rate in phases:
        optimizer = torch.optim.SGD(part.parameters(), lr=rate)  # it passes over what has no .grad
        for _ in range(count):
            trained.zero_grad()
            F.cross_entropy(part(inputs), labels).backward()
            optimizer.step()
    return trained
    ### END SOLUTION


# %% test="head_then_finetune" points=2 aspect="the head, then all"
X, y, model = random_images(30, 4, 3, 5, 6), torch.tensor([2, 0, 3, 1]), tiny_network(30)


### BEGIN EXPECTED
def trained(head_steps, head_lr, steps, lr, start=model):
    """All parameters after the right training, with other numbers."""
    network = reference.head_then_finetune(start, X, y, head_steps, head_lr, steps, lr)
    return all_parameters(network)


expected = trained(3, 0.2, 2, 0.05)
only_head = reference.head_then_finetune(model, X, y, 3, 0.2, 0, 1.0)
behind = copy.deepcopy(only_head)
behind.classifier[-1].requires_grad_(False)
at_both = reference.head_then_finetune(model, X, y, 0, 1.0, 3, 0.2)
mistakes = {
    "nothing has moved": all_parameters(model),
    "only the head is trained: the second phase is missing": all_parameters(only_head),
    "the first phase is missing": trained(0, 1.0, 2, 0.05),
    "the first phase moves the features, too": trained(0, 1.0, 2, 0.05, at_both),
    "the second phase leaves the head where it is": trained(0, 1.0, 2, 0.05, behind),
    "the second phase trains the head alone": trained(2, 0.05, 0, 1.0, only_head),
    "the rates of the phases are exchanged": trained(3, 0.05, 2, 0.2),
    "the numbers of steps are exchanged": trained(2, 0.2, 3, 0.05),
    "the second phase has the head's rate": trained(3, 0.2, 2, 0.2),
    "the loss is the sum over the images: it is their mean": trained(3, 0.8, 2, 0.2),
    "one step is missing in each phase": trained(2, 0.2, 1, 0.05),
}
### END EXPECTED
result = head_then_finetune(model, X, y, 3, 0.2, 2, 0.05)
assert callable(result), "head_then_finetune returns no network; is a `return` missing?"
name = "all parameters after head_then_finetune(model, images, labels, 3, 0.2, 2, 0.05)"
check_close(all_parameters(result), expected, name, mistakes=mistakes)

# %% test="head_then_finetune" points=2 aspect="what must not move"
X, y, model = random_images(31, 4, 3, 5, 6), torch.tensor([1, 3, 0, 1]), tiny_network(31)
require_gradients(
    model, ["features.conv2.weight", "classifier.hidden.bias", "classifier.linear.weight"]
)
### BEGIN EXPECTED
expected = all_parameters(reference.head_then_finetune(model, X, y, 2, 0.2, 2, 0.1))
thawed = copy.deepcopy(model).requires_grad_(True)
half = reference.head_then_finetune(model, X, y, 2, 0.2, 0, 1.0).requires_grad_(True)
mistakes = {
    "frozen parameters move": (
        all_parameters(reference.head_then_finetune(thawed, X, y, 2, 0.2, 2, 0.1))
    ),
    "frozen parameters move in the second phase": (
        all_parameters(reference.head_then_finetune(half, X, y, 0, 1.0, 2, 0.1))
    ),
}
statistics = running_statistics(model)
### END EXPECTED
result = head_then_finetune(model.train(), X, y, 2, 0.2, 2, 0.1)
assert callable(result), "head_then_finetune returns no network; is a `return` missing?"
name = "all parameters after head_then_finetune of a model in training mode, partly frozen"
check_close(all_parameters(result), expected, name, mistakes=mistakes)
name = "BatchNorm's statistics after head_then_finetune"
check_close(running_statistics(result), statistics, name)
_, in_training = momenta_and_training(result)
assert not in_training, f"head_then_finetune: {in_training[0]} is in training mode: eval is wanted."

# %% test="head_then_finetune" points=2 aspect="other networks"
# Other networks, and other numbers of steps, are tried here.
### BEGIN HIDDEN TESTS
for number, (head_steps, steps) in enumerate([(0, 3), (4, 0), (2, 1)]):
    seed = reference.seed + number
    X, y = random_images(seed, 5, 3, 6, 7), random_labels(seed, 5, 4)
    model = tiny_network(seed, hidden=number == 1)
    settings = (head_steps, 0.3, steps, 0.05)
    check_close(
        all_parameters(head_then_finetune(model, X, y, *settings)),
        all_parameters(reference.head_then_finetune(model, X, y, *settings)),
        f"all parameters after {head_steps} steps of the head and {steps} of all",
    )
options = {"inplace": True, "functional": True, "hooks": True, "mixed": True, "gradients": True}
model = awkward_network(reference.seed, parts=True, **options)
X, y = random_images(reference.seed, 4, 3, 9, 8), random_labels(reference.seed, 4, 5)
check_close(
    all_parameters(head_then_finetune(model, X, y, 2, 0.1, 2, 0.01)),
    all_parameters(reference.head_then_finetune(model, X, y, 2, 0.1, 2, 0.01)),
    "all parameters of another network",
)
### END HIDDEN TESTS

# %% [markdown]
# The near target with two labels for each class, and the digits with ten. Each time the whole
# network is finetuned with the same small rate, once from a head of zeros, and once after the head
# has had 100 steps of its own.

# %%
small_steps = {"near": [0, 5, 10], "far": [0, 10, 20]}
small_rate, labels_of_each = {"near": 0.01, "far": 0.003}, {"near": 2, "far": 10}


def after_each(target, seed, head_steps):
    """Test accuracy after more and more steps of finetuning, `head_steps` of the head before."""
    images, labels, *test = targets[target]
    test = [part[:100] for part in test]
    few = few_labels(labels, labels_of_each[target], seed)
    few_images, of_few = images[few], labels[few]
    network = replace_head(base, len(labels.unique()))
    network = head_then_finetune(network, few_images, of_few, head_steps, 0.5, 0, 1.0)
    measured = [accuracy(network, *test)]
    for count in np.diff(small_steps[target]).tolist():
        network = head_then_finetune(network, few_images, of_few, 0, 1.0, count, small_rate[target])
        measured.append(accuracy(network, *test))
    return measured


figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
figure.suptitle("With one small rate for all, it matters that the head comes first")
for ax, target in zip(axes, targets, strict=True):
    for head_steps, colour, marker, style, label in [
        (100, "#0072B2", "o", "-", "the head first"),
        (0, "#D55E00", "s", "--", "everything at once"),
    ]:
        curve = np.array([after_each(target, seed, head_steps) for seed in range(2)]).T
        plot_band(ax, small_steps[target], curve, colour, marker, style, label)
    ax.set_xticks(small_steps[target])
    ax.set(xlabel=f"steps of the whole network, rate {small_rate[target]}", ylim=(0, 1))
    ax.set_title(f"{target} target, {labels_of_each[target]} labels for each class", fontsize=10)
    ax.grid(color="0.92")
axes[0].set_ylabel("accuracy on 100 test images")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# Two draws of labels each, few steps, and 100 test images: look at the direction. **Near**, the
# head is good already, and the second phase changes little. **Far**, the head alone is poor, and
# the second phase makes it better. So here the recipe is safe on both targets, and one seldom knows
# beforehand which of the two one has.
#
# Everything at once stays far behind, with the same steps. The figure can't say why: features may
# have been bent to a poor head, as the paper found, or a head of zeros just doesn't get far at so
# small a rate. Here it is mostly the rate. With section 5's remedy, a larger rate for the head
# alone, 0.1 in our trials, the gap closes on the near target, and by more than half on the digits.
# And the paper is about test images that look *different*: whether the order helps there, too, you
# can try with section 7's fog.
#
# ### Question: which would you do?
# ★★☆ · 20 minutes

# %% [markdown] question="which_recipe" points=5
# A hospital has a network that was trained on a million photographs of everyday things, and wants
# to tell four kinds of cells under a microscope. There are 40 labelled pictures of each kind.
#
# 1. Somebody has trained a head on frozen features and got 71%, and concludes: "transfer learning
#    doesn't work for cells." Name two experiments of this lab that you would do before you agree,
#    and for each what you would conclude from which outcome.
# 2. Another one finetunes with one learning rate, 0.01, for everything, begins the loop with
#    `model.train()`, and *keeps* the network as the shared features of three other tasks in the
#    hospital. Which two things will go wrong, and how would each have been avoided?
# 3. Twenty thousand more pictures of such cells are there, without labels. Which of the methods in
#    sections 6 to 8 suits, and what must be true of those pictures?
#
# ### BEGIN SOLUTION
# 1 (2 points, one for each experiment with its conclusion). For instance: finetune with a small
# rate for the features (better: the frozen features have thrown away what matters, transfer as
# such isn't refuted); from scratch (worse than 71%: transfer *does* help; better: negative
# transfer); a head on raw pixels or simple features (better: the features hurt); the accuracy
# against the number of labels (still rising: labels are missing, not features); several draws of
# the labels, for the spread. An experiment without a conclusion earns half.
#
# 2 (2 points). A rate that suits a new head destroys the features in the first steps: two parameter
# groups, or train the head first (1 point). The other tasks' heads were trained on the old
# features: finetuning moves the weights and train() moves BatchNorm's running statistics, even of
# frozen layers; so their accuracy falls. Avoided by a copy of its own, or by freezing *and* eval
# mode for BatchNorm (1 point; naming only the weights earns half).
#
# 3 (1 point). Semi-supervised learning, pseudo-labels for example: the pictures must come from the
# same distribution, that is the same four kinds of cells, in similar shares, by the same
# microscope; and the start must be good enough for most pseudo-labels to be right.
# ### END SOLUTION

# %% [markdown]
# ## 6. Few labels, or none: six settings
#
# "Few labels" is not one problem. What can be done depends on what the **source** has, what is
# known of the **target** while you train, and on what has shifted between them:
#
# - a **semantic** shift: other *classes*. The target has a class that none of the sources has.
# - a **non-semantic** shift: another *look* (drawings for photographs, night for day).
#
# The names in the literature:
#
# | setting | source | known of the target in training | shift |
# |---|---|---|---|
# | semi-supervised | labelled | images, no labels | none |
# | domain adaptation | labelled | images, no labels | non-semantic |
# | domain generalisation | labelled, several | nothing | non-semantic |
# | cross-task transfer | labelled | images, no labels | semantic |
# | few-shot | labelled | few labels per class | semantic |
# | self-supervised | unlabelled | many labels | any: both kinds are allowed |
#
# Where the shift is semantic, the look may have changed as well; where it is called non-semantic,
# the classes haven't. Everything else has other names, such as plain supervised learning.

# %% [markdown]
# Two of these words you will need below, so read the table from its last column: ask first whether
# the target has a class that no source has, then whether its look is new, and then what is there of
# it. Here are the same six in our world of scenes. Corruptions are the non-semantic shift, and
# held-out classes the semantic one.

# %%
from dataclasses import replace

from utils.corruptions import corrupt


def look_of(variant, look, seed):
    """Three scenes of a variant in a look, uint8."""
    generator = np.random.default_rng(seed)
    shown = generator.permutation(5 if variant == "held_out" else 10)[:3]
    drawn = make_scenes(3, generator, variant, shape_class=shown).images
    return drawn if look == "clear" else corrupt(drawn, look, 4, generator)


cases = [  # name, the sources' looks, are they labelled, the target's variant and look, known of it
    ("semi-supervised", ["clear"], True, ("single", "clear"), "images"),
    ("domain adaptation", ["clear"], True, ("single", "fog"), "images"),
    ("domain generalisation", ["clear", "gaussian_noise"], True, ("single", "fog"), "nothing"),
    ("cross-task transfer", ["clear"], True, ("held_out", "clear"), "images"),
    ("few-shot", ["clear"], True, ("held_out", "clear"), "few labels"),
    ("self-supervised", ["clear"], False, ("held_out", "fog"), "many labels"),
]
figure, axes = plt.subplots(len(cases), 7, figsize=(8.6, 8.6), layout="constrained")
figure.suptitle("Six ways to be short of labels: what you learn from (left), what you want (right)")
for number, (row, case) in enumerate(zip(axes, cases, strict=True)):
    setting, sources, labelled, target, known = case
    left = np.concatenate([look_of("single", look, 50 + number) for look in sources])
    left = left[[0, 1, 2]] if len(sources) == 1 else left[[0, 1, 5]]
    right = look_of(*target, 60 + number)
    for ax in row:
        ax.set_axis_off()
    for ax, picture in zip(row[:3], left, strict=True):
        ax.imshow(picture)
    for ax, picture in zip(row[4:], right, strict=True):
        ax.imshow(picture, alpha=0.35 if known == "nothing" else 1)
    has = "labelled" if labelled else "unlabelled"
    row[1].set_title(f"{len(sources)} source{'s' * (len(sources) > 1)}, {has}", fontsize=8)
    row[5].set_title(f"in training: {known}", fontsize=8)
    row[3].text(0.5, 0.5, setting.replace(" ", "\n") + "\n→", ha="center", va="center", fontsize=10)
plt.show()

# %% [markdown]
# Pale pictures are those that nobody has seen in training. So far this lab was the fifth row, and
# on the digits few-shot with both shifts at once. The word for a case isn't the point: each row
# forbids another method. Without images of the target you can't adapt to them; with new classes a
# pseudo-label from the old head means nothing.
#
# ### Question: name the setting
# ★☆☆ · 20 minutes · optional

# %% [markdown] question="name_the_setting" points=6
# Which setting is it, and what exactly has shifted? Answer each with one sentence, and say which
# fact decides.
#
# 1. A network finds road damage on photographs from Berlin. A city in the tropics sends 50,000
#    photographs of its own, without labels; the kinds of damage are the same.
# 2. A seller's network knows 4,000 products, with thousands of pictures each. On Monday 30 new
#    products arrive, with four pictures each.
# 3. Three hospitals have labelled X-rays from their machines. The network will be sold to hospitals
#    whose machines nobody has seen yet. It looks for the same illnesses.
# 4. You have 2,000 labelled and 200,000 unlabelled recordings by the same microphone of the same
#    twelve bird species, drawn by lot from one collection.
# 5. A network is trained to put the pieces of a million shuffled photographs, of which nobody has
#    said what they show, back in their places. Then it learns from 50,000 labelled X-rays.
# 6. A network knows 200 kinds of garden flowers from labelled photographs. A mountain guide sends
#    3,000 photographs of alpine flowers, none of them among the 200, and wants them sorted by kind.
#    Nobody has named any.
#
# ### BEGIN SOLUTION
# One point each; half for the right name without the deciding fact.
#
# 1. Domain adaptation: same classes, another look (light, roads, cameras: non-semantic), and images
#    of the target are there, without labels.
# 2. Few-shot: new classes (semantic), a few labels of each.
# 3. Domain generalisation: several labelled sources, same classes, another look, and nothing of the
#    target is known in training.
# 4. Semi-supervised: no shift at all, as labelled and unlabelled were drawn by lot from one
#    collection. (That they are sounds, made into pictures or not, doesn't matter.)
# 5. Self-supervised: the source has no labels, the target has many. (That classes and look differ
#    is allowed, and doesn't decide.)
# 6. Cross-task transfer: new classes (semantic), and the target's images come without labels.
# ### END SOLUTION

# %% [markdown]
# ## 7. Adapt to another look
#
# The second row of the table: the classes are the old ones, but it is foggy now. There are images
# of the fog, and nobody has labelled them. What can one do without a label?
#
# Section 2's trap is half of an answer. There `model.train()` destroyed a network, because its
# BatchNorm layers took on the statistics of images that had nothing to do with its task. Fog does
# the same from the other side: the weights are as good as ever, but each layer now subtracts a mean
# and divides by a deviation that aren't those of what comes in. So measure them anew, on the
# target's images, and leave all else alone. That is **AdaBN** (Li et al., *Revisiting Batch
# Normalization for Practical Domain Adaptation*, 2017): no labels, no gradients, no training.
#
# With few images a measured mean is a rough guess, and the old one may be the better guess. So one
# lets the old statistics count like $n_0$ images more, a **prior** (Schneider et al., *Improving
# Robustness Against Common Corruptions by Covariate Shift Adaptation*, NeurIPS 2020). With $N$
# images, for each channel of each layer:
#
# $$\mu \leftarrow \frac{n_0\, \mu_\text{old} + N \mu_\text{images}}{n_0 + N}, \qquad
#   \sigma^2 \leftarrow \frac{n_0\, \sigma^2_\text{old} + N \sigma^2_\text{images}}{n_0 + N}$$
#
# For $n_0 = 0$ this is AdaBN, and for $n_0 \to \infty$ nothing changes.
#
# ### Exercise: `adapt_batchnorm`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1: who measures</summary>
#
# A BatchNorm layer measures its input in training mode, in every forward pass, and needs no help
# for it. Who else has another opinion of training mode, and should not be in it?
#
# </details>
# <details><summary>Hint 2: how much of the old remains</summary>
#
# Section 2 has the rule by which a layer takes in what it has measured; its 0.1 is the layer's
# attribute `momentum`. Which momentum makes the rule the equation above?
#
# </details>


# %% exercise="adapt_batchnorm"
def adapt_batchnorm(model, images, prior=0):
    """A copy of a network whose BatchNorm layers have the statistics of other images.

    The old ones count as `prior` images more: μ = (prior · μ_old + N · μ_images) / (prior + N) for
    each layer's running mean, and the same for its running variance.

    μ_images and σ²_images are those of the layer's input over the N images (and all places, where
    it has places), for each channel, in one forward pass of all images in which every BatchNorm
    layer is in training mode, and so normalises by what it measures, and everything else is in eval
    mode. The variance is PyTorch's, divided by the number of values less one.

    Args:
        model: nn.Module in any mode, with nn.BatchNorm1d and nn.BatchNorm2d layers at any depth,
            each with a momentum of its own. It stays as it is.
        images: float tensor (N, 3, H, W), N ≥ 2. Nobody knows what they show.
        prior: n₀, float ≥ 0.

    Returns:
        adapted: the copy, all of it in eval mode. Parameters are the model's, and so is each
            layer's momentum.
    """
    ### BEGIN SOLUTION
    adapted = copy.deepcopy(model).eval()
    norms = [module for module in adapted.modules() if is_norm(module)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = len(images) / (prior + len(images))
    with torch.no_grad():
        adapted(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
    return adapted
    ### END SOLUTION


# %% test="adapt_batchnorm" points=2 aspect="the images' statistics"
X, model = random_images(20, 4, 3, 5, 6) + torch.arange(3.0)[:, None, None], tiny_network(20)
### BEGIN EXPECTED
old = running_statistics(model)
expected = running_statistics(reference.adapt_batchnorm(model, X))
layers = ["features.norm1", "features.norm2", "classifier.norm"]
# In the order of `running_statistics`: channels, and values for each channel.
shapes = [(9, 4), (5, 4 * 5 * 6), (6, 4 * 4 * 4)]
is_variance = torch.cat([torch.arange(2 * channels) >= channels for channels, _ in shapes])
values = torch.cat([torch.full((2 * channels,), count) for channels, count in shapes])


def after_passes(training, parts, momentum):
    """The network after passes of these parts, with some layers in training mode."""
    network = copy.deepcopy(model)
    for name in training:
        network.get_submodule(name).train().momentum = momentum
    for part in parts:
        network(part)
    return network


alone = copy.deepcopy(model)
for layer in layers:
    measured = after_passes([layer], [X], 1.0).get_submodule(layer)
    alone.get_submodule(layer).load_state_dict(measured.state_dict())
in_turn = copy.deepcopy(model)
for layer in layers:
    in_turn.get_submodule(layer).train().momentum = 1.0
    in_turn(X)
    in_turn.eval()
mistakes = {
    "nothing was measured: BatchNorm does that in training mode only": old,
    "the old statistics are mixed in, by BatchNorm's usual momentum of 0.1": (
        0.9 * old + 0.1 * expected
    ),
    "statistics were reset, and then mixed with 0.1 of the new ones": (
        0.9 * is_variance + 0.1 * expected
    ),
    "statistics were reset, and nothing was measured": is_variance.double(),
    "only half of the images count": running_statistics(after_passes(layers, [X[:2]], 1.0)),
    "only the last part of the images counts": (
        running_statistics(after_passes(layers, [X[2:]], 1.0))
    ),
    "the images passed in two parts": running_statistics(after_passes(layers, X.split(2), None)),
    "BatchNorm1d, in the classifier, is forgotten": (
        running_statistics(after_passes(layers[:2], [X], 1.0))
    ),
    "layers still normalise by the old statistics while others are measured": (
        running_statistics(alone)
    ),
    "layers are adapted one after the other: one pass in training mode measures all": (
        running_statistics(in_turn)
    ),
    "the variance is divided by the number of values: PyTorch's is divided by one less": (
        torch.where(is_variance, expected * (values - 1) / values, expected)
    ),
    "deviations are kept where variances belong": (
        torch.where(is_variance, expected.sqrt(), expected)
    ),
    "only means are adapted": torch.where(is_variance, old, expected),
    "only variances are adapted": torch.where(is_variance, expected, old),
}
### END EXPECTED
adapted = adapt_batchnorm(model, X)
assert callable(adapted), "adapt_batchnorm returns no network; is a `return` missing?"
statistics = running_statistics(adapted)
again = running_statistics(adapt_batchnorm(model, X))
assert torch.equal(statistics, again), (
    "two calls of adapt_batchnorm(model, images) give two results: dropout is in training mode."
)
check_close(
    statistics,
    expected,
    "the running means and variances after adapt_batchnorm(model, images)",
    mistakes=mistakes,
)

# %% test="adapt_batchnorm" points=2 aspect="a prior"
X, model = random_images(21, 3, 3, 6, 5) + torch.arange(3.0)[:, None, None], tiny_network(21)
### BEGIN EXPECTED
old = running_statistics(model)
new = running_statistics(reference.adapt_batchnorm(model, X))
expected = running_statistics(reference.adapt_batchnorm(model, X, 5))
mistakes = {
    "the prior isn't used": new,
    "the old and the new statistics are exchanged": 5 / 8 * new + 3 / 8 * old,
    "the prior is taken for the images' number, and 1 for its own": (5 * new + old) / 6,
    "the images count as one, however many there are": (5 * old + new) / 6,
    "both count alike": (old + new) / 2,
    "the momentum is one over the prior": 4 / 5 * old + 1 / 5 * new,
    "the momentum is N / prior: it is divided by the sum": 2 / 5 * old + 3 / 5 * new,
    "the momentum is 1 / (prior + N)": 7 / 8 * old + 1 / 8 * new,
    "the momentum is the prior": 5 * new - 4 * old,
    "BatchNorm's usual momentum of 0.1 was left": 0.9 * old + 0.1 * new,
}
### END EXPECTED
check_close(
    running_statistics(adapt_batchnorm(model, X, 5)),
    expected,
    "the running means and variances after adapt_batchnorm(model, images, 5) for 3 images",
    mistakes=mistakes,
)

# %% test="adapt_batchnorm" points=2 aspect="the copy"
X, model = random_images(22, 4, 3, 5, 6), tiny_network(22)
for momentum, norm in zip((0.3, None, 0.05), filter(is_norm, model.modules()), strict=True):
    norm.momentum = momentum
others = random_images(23, 2, 3, 7, 6)
### BEGIN EXPECTED
expected = reference.adapt_batchnorm(model, X, 2)(others).detach()
mistakes = {
    "it is the old network": model(others).detach(),
    "the prior isn't used": reference.adapt_batchnorm(model, X)(others).detach(),
}
### END EXPECTED
for training in (False, True):
    adapted = adapt_batchnorm(model.train(training), X, 2)
    assert callable(adapted), "adapt_batchnorm returns no network; is a `return` missing?"
    momenta, in_training = momenta_and_training(adapted)
    assert not in_training, (
        f"adapt_batchnorm: {in_training[0]} of the copy is in training mode: all of it should be in"
        " eval mode."
    )
    check_close(
        adapted(others).detach(), expected, "scores of the adapted network", mistakes=mistakes
    )
    kept, _ = momenta_and_training(model)
    assert momenta == kept, (
        f"adapt_batchnorm: the momenta of the copy's BatchNorm layers are {momenta} and should be"
        f" the model's, {kept}."
    )

# %% test="adapt_batchnorm" points=2 aspect="other networks"
# Networks that aren't two nn.Sequentials, other numbers of images and other priors are tried here.
### BEGIN HIDDEN TESTS
for number, (count, prior) in enumerate([(2, 0.5), (7, 0), (5, 40)]):
    seed = reference.seed + number
    X, model = random_images(seed, count, 3, 6, 7), tiny_network(seed, hidden=number > 0)
    expected = running_statistics(reference.adapt_batchnorm(model, X, prior))
    check_close(
        running_statistics(adapt_batchnorm(model.train(number == 1), X, prior)),
        expected,
        f"the running means and variances for {count} images and a prior of {prior}",
    )
options = {"inplace": True, "functional": True, "hooks": True, "mixed": True, "gradients": True}
for parts, dtype in [(True, torch.float64), (False, torch.float32)]:
    model = awkward_network(reference.seed, parts=parts, dtype=dtype, **options)
    X, others = (random_images(reference.seed + n, 4 - n, 3, 9, 8).to(dtype) for n in (0, 1))
    for prior in (0, 3):
        right = reference.adapt_batchnorm(model, X, prior)
        adapted = adapt_batchnorm(model, X, prior)
        name = f"of another network, adapted with a prior of {prior}"
        check_close(
            running_statistics(adapted),
            running_statistics(right),
            f"the running means and variances {name}",
        )
        check_close(adapted(others).detach(), right(others).detach(), f"the scores {name}")
        momenta, in_training = momenta_and_training(adapted)
        assert momenta == momenta_and_training(model)[0], f"the momenta {name}, aren't its own"
        assert not in_training, f"{in_training[0]} {name}, is in training mode"
plain = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).double()
check_close(
    adapt_batchnorm(plain, X.double())(X.double()).detach(),
    plain(X.double()).detach(),
    "the results of a network without BatchNorm",
)
### END HIDDEN TESTS

# %% [markdown]
# Does it help? `base` meets fog, and pictures that were squeezed into a small JPEG file. It gets to
# see 2, 8 or 32 images of the same kind, without labels, and is then asked about others.

# %%
few_classes = np.random.default_rng(70).permutation(10)[:2]


def shifted(count, shift, seed, shown=None):
    """Scenes under a shift (a corruption and its severity, or None): images and classes.

    Where `shown` is given, only these classes occur.
    """
    generator = np.random.default_rng(seed)
    classes = None if shown is None else shown[np.arange(count) % len(shown)]
    scenes = make_scenes(count, generator, shape_class=classes)
    if shift is not None:
        scenes = replace(scenes, images=corrupt(scenes.images, *shift, generator))
    return tuple(tensor.to(device) for tensor in scenes.tensors())


shifts = {"fog": ("fog", 5), "JPEG": ("jpeg_compression", 5)}
seen_counts = [2, 8, 32]
ways = {  # the prior, and the classes of the images that are seen
    "AdaBN": (0, "ten"),
    "with a prior of 16 images": (16, "ten"),
    "AdaBN, but the images show two classes only": (0, "two"),
}
shifted_tests = {name: shifted(60, shift, 71) for name, shift in shifts.items()}
as_it_was = {name: accuracy(base, *test) for name, test in shifted_tests.items()}


def adapted_accuracies(name, seed):
    """Accuracy under a shift, a row for each way, after more and more images drawn by the seed."""
    seen = {
        "ten": shifted(seen_counts[-1], shifts[name], 80 + seed)[0],
        "two": shifted(seen_counts[-1], shifts[name], 80 + seed, few_classes)[0],
    }
    return [
        [
            accuracy(adapt_batchnorm(base, seen[classes][:count], prior), *shifted_tests[name])
            for count in seen_counts
        ]
        for prior, classes in ways.values()
    ]


adapted = {  # arrays (ways, numbers of images, draws)
    name: np.stack([adapted_accuracies(name, seed) for seed in range(3)], -1) for name in shifts
}
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
figure.suptitle(
    "Without a label, new statistics clear the fog; where little is lost, few images harm"
)
for ax, name in zip(axes, shifts, strict=True):
    ax.axhline(as_it_was[name], color="0.4", linestyle=":", label="base as it was")
    for way, curve, colour, marker, style in zip(
        ways,
        adapted[name],
        ("#D55E00", "#0072B2", "#000000"),
        "so^",
        ("-", "--", "-."),
        strict=True,
    ):
        plot_band(ax, seen_counts, curve, colour, marker, style, way)
    ax.set_xscale("log")
    ax.set_xticks(seen_counts, seen_counts)
    ax.minorticks_off()
    ax.set(xlabel="unlabelled images seen", ylim=(0.4, 1.02))
    ax.set_title(f"{name}, severity {shifts[name][1]}", fontsize=10)
    ax.grid(color="0.92")
axes[0].set_ylabel("accuracy on 60 other images")
axes[0].legend(frameon=False, loc="lower right", fontsize=8)
plt.show()
for name in shifts:
    print(f"{name}: {as_it_was[name]:.2f} as it was; with {seen_counts[-1]} images:")
    for way, curve in zip(ways, adapted[name], strict=True):
        print(f"    {way}: {curve[-1].mean():.2f}")
clear_test = shifted(60, None, 71)
for_fog = adapt_batchnorm(base, shifted(32, shifts["fog"], 80)[0])
print(f"clear day: {accuracy(base, *clear_test):.2f} as it was;", end=" ")
print(f"the copy for the fog: {accuracy(for_fog, *clear_test):.2f}")

# %% [markdown]
# The bands go from the worst to the best of three draws of the images seen, and the test has 60
# images, one of which is more than a percent. **Fog**: eight images without a label repair most of
# what the fog has broken. It moves every pixel towards grey, and so every layer's mean and
# deviation, and that is just what is put right. **JPEG**: little was lost, so little can be won,
# and with two images AdaBN does harm, for two images are no sample. The prior keeps the network
# from believing them. Where there is much to mend it is a brake.
#
# The black line has a warning. All is as before, the fog and the number of images, but they show
# two classes of ten. BatchNorm can't know that its means have moved because of the classes, and
# takes that away as well. So the word *unlabelled* hides an assumption: the classes must have about
# the same shares as in the test. And one trouble you know from section 2: what suits the fog
# doesn't suit a clear day, as the last line printed says. The copy is for the fog alone.
#
# Now turn the knobs yourself: the look, how many images are seen and of how many classes, and the
# prior. The right panel says *why* it works or doesn't: it shows how widely the test images' values
# spread after BatchNorm has divided them by its deviation. A spread of 1 is what the next layer
# has been trained for.

# %% fold="Figure: how many images, of which classes, and how strong a prior?"
from ipywidgets import Dropdown, IntSlider

from utils.figures import explore

looks = {"clear": None, "noise": ("gaussian_noise", 5), "low contrast": ("contrast", 3), **shifts}
parts = {  # images to see, of ten classes or of two, and others for the test
    part: make_scenes(len(classes), np.random.default_rng(seed), shape_class=classes)
    for seed, (part, classes) in enumerate(
        {
            "ten": np.arange(32) % 10,
            "two": few_classes[np.arange(32) % 2],
            "test": np.arange(40) % 10,
        }.items(),
        start=90,
    )
}
norms = [name for name, module in base.named_modules() if is_norm(module)]


def look_on(network, images):
    """The answers to images, and for each BatchNorm layer the deviation of what it normalises over
    the deviation that it divides by: the median of its channels."""
    spreads, handles = [], []

    def compare(norm, inputs):
        spreads.append((inputs[0].var((0, 2, 3)) / norm.running_var).sqrt().median().item())

    for name in norms:
        handles.append(network.get_submodule(name).register_forward_pre_hook(compare))
    answers = predict(network, images)
    for handle in handles:
        handle.remove()
    return answers, spreads


def in_look(look, part):
    """One of the parts, in a look: the test's has the student's own behind it if there is one."""
    pictures, mine = parts[part].images, own.load(64)
    if part == "test" and mine is not None:
        pictures = np.concatenate([pictures, mine[None]])
    if looks[look] is not None:
        pictures = corrupt(pictures, *looks[look], np.random.default_rng(91))
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2) / 255


# What no slider changes is computed once.
in_looks = {look: {part: in_look(look, part) for part in parts} for look in looks}
as_before = {look: look_on(base, images["test"]) for look, images in in_looks.items()}


def adapt_and_look(look, images, prior, classes):
    """Two pictures with the answers before and after; the layers' spreads, and the accuracy."""
    test, before = in_looks[look]["test"], as_before[look]
    after = look_on(adapt_batchnorm(base, in_looks[look][classes][:images], prior), test)
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), width_ratios=(1, 1, 2.2))
    figure.subplots_adjust(0.01, 0.12, 0.99, 0.82, wspace=0.15)  # quicker than a layout engine
    figure.suptitle("Before and after the network has seen images of this look")
    for ax, place in zip(axes, (1, 40 if len(test) > 40 else 2), strict=False):
        ax.imshow(test[place].permute(1, 2, 0).cpu())
        first, then = (CLASS_NAMES[answers[place]] for answers, _ in (before, after))
        ax.set_title("yours" if place == 40 else CLASS_NAMES[place], fontsize=9)
        ax.set_xlabel(f"“{first}” → “{then}”")
        ax.set(xticks=[], yticks=[])
    for name, (answers, spreads), colour, marker in [
        ("before", before, "#D55E00", "s"),
        ("after", after, "#0072B2", "o"),
    ]:
        share = (answers[:40].cpu() == torch.arange(40) % 10).float().mean().item()
        label = f"{name}: {share:.1%} of 40 scenes right"
        axes[2].plot(spreads, color=colour, marker=marker, label=label)
    axes[2].axhline(1, color="0.5", linewidth=1, linestyle=":")
    axes[2].set_xticks(range(len(norms)), [name.split(".")[-1] for name in norms], fontsize=8)
    axes[2].set(ylim=(0, 2))
    axes[2].set_title("spread of the normalised values, by layer", fontsize=9)
    axes[2].legend(frameon=False, fontsize=8, loc="upper left")


explore(
    adapt_and_look,
    look=Dropdown(options=list(looks), value="fog"),
    images=IntSlider(value=8, min=2, max=32),
    prior=IntSlider(value=0, min=0, max=64, step=4),
    classes=Dropdown(options=["ten", "two"]),
)

# %% [markdown]
# Fog makes all pictures flatter, and so the values in every layer: before, they spread half as
# widely as the next layer is used to, or less. After eight images they fit.
#
# Three things to try. *Clear, two images, no prior*: the network forgets what it knew. Look at the
# last layer, whose channels answer to few images each, so that two tell little about them; then
# raise the prior until it does no harm. *Fog, 32 images, two classes*: the first layers, which see
# colours and edges, fit as well as with all ten; the last ones, which see classes, don't. *Fog, and
# a strong prior*: how many images does it take now? (Forty scenes are few: one of them is 2.5%.
# And the right panel is measured on the test's images, which nobody would have while adapting.)

# %% [markdown]
# ## 8. Pseudo-labels (optional)
#
# The smallest semi-supervised method fits into one line (Lee, 2013): where the network is asked
# about an unlabelled image, take its answer for the label, and train on it. With scores $s_n$ and
# labels $y_n$ for $N$ labelled images, and scores $u_m$ for $M$ unlabelled ones, let
#
# $$\hat y_m = \arg\max_c u_{mc}, \qquad p_m = \max_c \mathrm{softmax}(u_m)_c,$$
#
# $$L = \frac{1}{N} \sum_n \mathrm{CE}(s_n, y_n)
#   + \alpha \, \frac{1}{M} \sum_m [p_m \ge \tau] \, \mathrm{CE}(u_m, \hat y_m)$$
#
# Why should that help, as it tells the network nothing that it doesn't say itself? Because CE makes
# its answers *surer*, and the cheapest way to be sure about many images at once is to move the
# borders between classes to where there are few images: into the gaps between the groups that you
# saw in section 3. Two knobs keep it sane: $\alpha$ starts at 0 and rises, so that the first
# answers aren't taken seriously; and in later work (FixMatch, Sohn et al., 2020) only answers with
# a probability of at least $\tau$ count.
#
# ### Exercise: `pseudo_label_loss`
# ★★☆ · 30 minutes · optional
#
# <details><summary>Hint</summary>
#
# `F.cross_entropy(..., reduction="none")` gives one number for each image. The answers and the
# condition are constants: nothing should flow back through them, and through `argmax` and `>=`
# nothing does.
#
# </details>


# %% exercise="pseudo_label_loss"
def pseudo_label_loss(scores, labels, unlabelled_scores, alpha, threshold):
    """Cross-entropy on labelled images, and on confident answers to unlabelled ones (Lee, 2013).

    L = mean over n of CE(s_n, y_n) + α · (the sum over all m with p_m ≥ τ of CE(u_m, ŷ_m)) / M

    The second sum is divided by the number M of *all* unlabelled images. If none is confident, it
    is 0.

    Args:
        scores: s, float tensor (N, C), before the softmax.
        labels: y, int64 tensor (N,).
        unlabelled_scores: u, float tensor (M, C), before the softmax. They are trained: the
            gradient flows through them, but not through the answers ŷ_m, nor through the condition.
        alpha: float α ≥ 0, the weight of the second term.
        threshold: float τ, from 0 to 1, for the probability p_m of the answer.

    Returns:
        loss: tensor without axes, differentiable for scores and unlabelled_scores.
    """
    ### BEGIN SOLUTION
    confidence, answers = unlabelled_scores.softmax(1).max(1)
    each = F.cross_entropy(unlabelled_scores, answers, reduction="none")
    return F.cross_entropy(scores, labels) + alpha * (each * (confidence >= threshold)).mean()
    ### END SOLUTION


# %% test="pseudo_label_loss" points=2 aspect="some answers are confident"
s, y, u = random_tensor(10, 5, 4), random_labels(11, 5, 4), 2 * random_tensor(12, 7, 4)
alpha, tau = 0.75, 0.7
### BEGIN EXPECTED
expected = reference.pseudo_label_loss(s, y, u, alpha, tau)
probability, answer = u.softmax(1).max(1)
confident = probability >= tau
labelled = F.cross_entropy(s, y)
of_each = F.cross_entropy(u, answer, reduction="none")
soft = (F.cross_entropy(u, u.softmax(1), reduction="none") * confident).mean()
squashed = (F.cross_entropy(u.softmax(1), answer, reduction="none") * confident).mean()
second = (of_each * confident).mean()
mistakes = {
    "unconfident answers count, too: the threshold isn't used": labelled + alpha * of_each.mean(),
    "only answers that are NOT confident count": labelled + alpha * (of_each * ~confident).mean(),
    "the threshold is compared with scores: it is one for probabilities": (
        labelled + alpha * (of_each * (u.amax(1) >= tau)).mean()
    ),
    "the second sum is divided by the number of confident answers: M counts all": (
        labelled + alpha * of_each[confident].mean()
    ),
    "the second sum isn't divided by M": labelled + alpha * of_each[confident].sum(),
    "the second sum is divided by N, the number of labelled images": (
        labelled + alpha * of_each[confident].sum() / len(s)
    ),
    "the losses of the labelled images are summed: it is their mean": (
        F.cross_entropy(s, y, reduction="sum") + alpha * second
    ),
    "alpha isn't used": labelled + second,
    "alpha is the weight of the first term": alpha * labelled + second,
    "alpha is the weight of both terms": alpha * (labelled + second),
    "the first term is left out": alpha * second,
    "the second term is left out": labelled,
    "the softmax is taken twice: cross-entropy takes scores": labelled + alpha * squashed,
    "the softmax runs over the images, not over the classes": (
        labelled + alpha * (of_each * (u.softmax(0).amax(1) >= tau)).mean()
    ),
    "the probabilities themselves are the targets: the answer is one class": (
        labelled + alpha * soft
    ),
}
### END EXPECTED
check_close(
    pseudo_label_loss(s, y, u, alpha, tau),
    expected,
    "pseudo_label_loss(scores, labels, unlabelled_scores, 0.75, 0.7)",
    mistakes=mistakes,
)

# %% test="pseudo_label_loss" points=1 aspect="none, or all, or just so"
s, y, u = random_tensor(13, 3, 2), random_labels(14, 3, 2), random_tensor(15, 5, 2)
u[2] = 0  # two answers alike: a probability of exactly 1/2, which meets the threshold 1/2
for tau, what in [(1.0, "no answer is confident"), (0.0, "all are"), (0.5, "one just meets τ")]:
    ### BEGIN EXPECTED
    expected = reference.pseudo_label_loss(s, y, u, 2.0, tau)
    of_each = F.cross_entropy(u, u.argmax(1), reduction="none")
    above = of_each * (u.softmax(1).amax(1) > tau)
    mistakes = {
        "a probability of exactly τ doesn't count": F.cross_entropy(s, y) + 2 * above.mean()
    }
    ### END EXPECTED
    name = f"pseudo_label_loss where {what} (threshold {tau})"
    check_close(pseudo_label_loss(s, y, u, 2.0, tau), expected, name, mistakes=mistakes)

# %% test="pseudo_label_loss" points=2 aspect="the gradient"
s, y, u = random_tensor(16, 4, 3), random_labels(17, 4, 3), 2 * random_tensor(18, 6, 3)
one = torch.ones((), dtype=torch.float64)
### BEGIN EXPECTED
value = reference.pseudo_label_loss(s, y, u, 0.75, 0.7)
expected = vector_jacobian_product(reference.pseudo_label_loss, [s, y, u, 0.75, 0.7], one)


def trained_towards_probabilities(u):
    confident = u.softmax(1).amax(1) >= 0.7
    return 0.75 * (F.cross_entropy(u, u.softmax(1), reduction="none") * confident).mean()


mistakes = [
    {"nothing flows back through them": torch.zeros_like(s)},
    {
        "nothing flows back through them": torch.zeros_like(u),
        "the targets are probabilities, and learn as well": (
            vector_jacobian_product(trained_towards_probabilities, [u], one)[0]
        ),
    },
]
### END EXPECTED
check_close(pseudo_label_loss(s, y, u, 0.75, 0.7), value, "pseudo_label_loss")
gradients = vector_jacobian_product(pseudo_label_loss, [s, y, u, 0.75, 0.7], one)
for number, what in enumerate(["scores", "unlabelled scores"]):
    check_close(
        gradients[number],
        expected[number],
        f"the gradient of pseudo_label_loss for the {what}",
        mistakes=mistakes[number],
    )

# %% test="pseudo_label_loss" points=1 aspect="other numbers"
# Other numbers of images and classes, thresholds, and scores as large as 1000 are tried here.
### BEGIN HIDDEN TESTS
one = torch.ones((), dtype=torch.float64)
for seed, count, more, classes, alpha, tau, scale in [
    (0, 3, 20, 5, 2.0, 0.6, 2),
    (1, 6, 2, 3, 0.5, 0.0, 2),
    (2, 2, 9, 2, 0.0, 0.9, 2),
    (3, 4, 8, 3, 1.0, 0.5, 1000),
    (4, 1, 1, 4, 1.0, 0.3, 1),
]:
    seed += reference.seed
    s, y = scale * random_tensor(seed, count, classes), random_labels(seed, count, classes)
    u = scale * random_tensor(seed + 9, more, classes)
    if scale == 1000:
        y = s.argmin(1)  # wrong answers, so that there is a gradient
    name = (
        f"pseudo_label_loss for {count} labelled and {more} unlabelled images, α {alpha}, τ {tau}"
    )
    check_close(
        pseudo_label_loss(s, y, u, alpha, tau),
        reference.pseudo_label_loss(s, y, u, alpha, tau),
        name,
    )
    both = [  # joined, for that of a score of 1000 is nothing but rounding
        torch.cat(vector_jacobian_product(loss, [s, y, u, alpha, tau], one))
        for loss in (pseudo_label_loss, reference.pseudo_label_loss)
    ]
    check_close(*both, f"the gradient of {name}, for all scores")
### END HIDDEN TESTS

# %% [markdown]
# Each run starts with section 4's head, from one, two or five labels for each class, and goes on
# for 40 steps with all other training pictures, whose labels it doesn't see. As the first
# answers come from a trained head, $\alpha$ is 1 from the first step; $\tau$ is 0.6.

# %%


def semi_supervised(target, per_class, seed, *, penalty=0.01, steps=40):
    """Test accuracy of a head before and after training with pseudo-labels, and how its answers
    to the unlabelled pictures are afterwards: how sure, and whether right."""
    points, test_points = features[target]
    _, labels, _, test_labels = targets[target]
    chosen = few_labels(labels, per_class, seed)
    unlabelled = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    unlabelled[chosen] = False
    head = train_head(points[chosen], labels[chosen], len(labels.unique()), penalty)
    weight, bias = (value.clone().requires_grad_() for value in head)

    def test_accuracy():
        with torch.no_grad():
            right = (test_points @ weight.T + bias).argmax(1) == test_labels
        return right.float().mean().item()

    before = test_accuracy()
    optimizer = torch.optim.Adam([weight, bias], lr=0.02)
    for _ in range(steps):
        scores = points @ weight.T + bias
        loss = pseudo_label_loss(scores[chosen], labels[chosen], scores[unlabelled], 1.0, 0.6)
        loss = loss + penalty / 2 * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        sure, answers = (points[unlabelled] @ weight.T + bias).softmax(1).max(1)
    return before, test_accuracy(), sure.cpu(), (answers == labels[unlabelled]).cpu()


few_counts = [1, 2, 5]
runs = {
    target: [[semi_supervised(target, count, seed) for seed in range(5)] for count in few_counts]
    for target in targets
}
figure, axes = plt.subplots(1, 3, figsize=(12.5, 4), layout="constrained")
figure.suptitle("Pseudo-labels make a good start better, and a poor one no better, or worse")
for ax, target in zip(axes[:2], targets, strict=True):
    without, together = (
        np.array([[run[part] for run in row] for row in runs[target]]) for part in (0, 1)
    )
    for place in range(len(few_counts)):
        ax.plot([0, 1], np.stack([without[place], together[place]]), color="0.75", linewidth=1)
        ax.plot(
            [0, 1],
            [without[place].mean(), together[place].mean()],
            color=["#0072B2", "#D55E00", "#000000"][place],
            marker="os^"[place],
            linewidth=2.5,
            label=f"{few_counts[place]} label{'s' * (place > 0)} for each class",
        )
    ax.set_xticks([0, 1], ["labels only", "+ pseudo-labels"])
    ax.set(xlim=(-0.2, 1.2), ylim=(0, 1))
    ax.set_title(f"{target} target")
    ax.grid(color="0.92", axis="y")
    print(
        f"{target:4}",
        *(
            f"{count} labels: {a.mean():.3f} → {b.mean():.3f}"
            for count, a, b in zip(few_counts, without, together, strict=True)
        ),
        sep="   ",
    )
axes[0].set_ylabel("test accuracy")
axes[0].legend(frameon=False, loc="lower right")
edges = np.array([0.0, 0.4, 0.6, 0.8, 1.0])
ax = axes[2]
for target, colour, marker, style in [("near", "#0072B2", "o", "-"), ("far", "#D55E00", "s", "--")]:
    every = [run for row in runs[target] for run in row]
    sure, right = (torch.cat([run[part] for run in every]).float().numpy() for part in (2, 3))
    bins = np.digitize(sure, edges[1:-1])
    ax.plot(
        [sure[bins == b].mean() for b in range(4)],
        [right[bins == b].mean() for b in range(4)],
        color=colour,
        marker=marker,
        linestyle=style,
        label=f"{target} target",
    )
ax.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
ax.text(0.05, 0.09, "as sure as right", rotation=45, color="0.4", fontsize=8)
ax.set(
    xlabel="probability of the answer", ylabel="share of right answers", ylim=(0, 1), xlim=(0, 1)
)
ax.set_title("afterwards, on the unlabelled pictures")
ax.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# Each grey line is one draw of the labelled pictures, the thick ones are their means. On the near
# target, from two labels for each class on, the unlabelled pictures are worth a few points of
# accuracy. With a single label it is a gamble: a class whose one example is unlucky loses its
# pictures to its neighbour, and the method calls that right. On the digits nothing is won with any
# of these numbers: too many answers are wrong, and whoever learns from wrong answers becomes surer
# of them (**confirmation bias**). The right panel shows how much: of the digits' answers that come
# with more than 80% not even every second one is right, and those are the ones that the threshold
# lets through. So watch out: the loss falls in all cases, and without labels nobody sees the
# difference.
#
# ## 9. With an ImageNet network (optional)
#
# The same functions on a network that has learned from 1.2 million photographs: are its features
# better for our targets than those of `base`, which has seen nothing but scenes?

# %%
from utils.models import WeightsUnavailable

try:
    resnet = load_model("resnet18").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    untouched = replace_head(resnet, 5)
    freeze(untouched)
    left = sum(p.numel() for p in untouched.parameters() if p.requires_grad)
    print(f"resnet18 with a new head: {left:,} parameters left to learn")

    def enlarged(images):
        return F.interpolate(images, (96, 96), mode="bilinear")

    measured = {}
    for target, (images, labels, test_images, test_labels) in targets.items():
        few = few_labels(labels, 10, 0)
        test_images, test_labels = test_images[:200], test_labels[:200]
        pairs = {
            "base": (features[target][0][few], features[target][1][:200]),
            "resnet18": tuple(
                extract_features(resnet, enlarged(part)) for part in (images[few], test_images)
            ),
            "grey pixels": (grey_pixels(images[few]), grey_pixels(test_images)),
        }
        for name, (points, test_points) in pairs.items():
            scale = points.std()
            weight, bias = train_head(points / scale, labels[few], len(labels.unique()))
            answers = (test_points / scale @ weight.T + bias).argmax(1)
            measured[target, name] = (answers == test_labels).float().mean().item()
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for number, (target, hatch, colour) in enumerate(
        [("near", None, "#0072B2"), ("far", "//", "#E69F00")]
    ):
        values = [measured[target, name] for name in pairs]
        ax.bar(
            np.arange(3) + 0.4 * number - 0.2,
            values,
            0.38,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=f"{target} target",
        )
        for place, value in enumerate(values):
            ax.text(place + 0.4 * number - 0.2, value + 0.01, f"{value:.2f}", ha="center")
    ax.set_xticks(
        range(3), [f"frozen: {name}" if name != "grey pixels" else name for name in pairs]
    )
    ax.set(ylabel="test accuracy", ylim=(0, 1.1))
    ax.set_title("A head on three kinds of features, 10 labels for each class")
    ax.legend(frameon=False, ncols=2)
    plt.show()

# %% [markdown]
# Which features suit which target now, and what do the plain pixels say to that? Near and far are
# no properties of a task, but of a pair: to a network of photographs, our scenes may be as foreign
# as the digits.
#
# ## What you have now
#
# A new head, a frozen body with its BatchNorm held still, two learning rates, and a reason for
# choosing among them: few labels and a near target speak for freezing; more labels, or a far
# target, for finetuning; and far enough away it is worth asking whether to transfer at all. Lab 05
# looks into the features that you have used here as they were.
