# %% [markdown]
# # Lab 06: Saliency maps
#
# A network says *fish*. Which pixels made it say so? The cheapest answer costs one backward pass:
# the gradient of the class score with respect to the **image**. In this lab you compute it, clean
# it, set two other answers beside it, score them all, cut objects out of pictures, and then find
# out how far such maps can be trusted. Not as far as their looks suggest.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. Which pixels matter? | `compute_saliency_maps` | 20 |
# | 2. The score, not the probability | `score_gradients` | 20 |
# | 2. Why not the probability? (optional) | `probability_gradient` | 15 |
# | 3. Less noise | `smooth_grad` | 20 |
# | 4. Does it point at the object? | `pointing_game` | 10 |
# | 5. Hide a piece | `occlusion_map` | 20 |
# | 6. All the way from grey | `integrated_gradients` | 20 |
# | 7. Erase by rank | `deletion_curve` | 20 |
# | 8. Segmentation for free | `saliency_seeds` | 10 |
# | 8. How good is a segment? (optional) | `intersection_over_union` | 10 |
# | 9. A network that cheats | a question | 15 |
# | 10. A sanity check | `randomise_layers`, a question | 25 |
# | 10. A trap in the sanity check (optional) | `recompute_batchnorm` | 20 |
# | 11. The same with Captum (optional) | nothing: you look | 10 |
# | 12. Mistakes explain themselves (optional) | nothing: you look | 5 |
# | 13. With an ImageNet network (optional) | nothing: you look | 5 |
#
# What isn't marked as optional takes three hours, and needs nothing from the optional parts.
#
# The cells beneath each exercise are its tests, one for each thing that can go wrong. Each answers
# **right so far**, or says in one sentence what is wrong. When your work is graded, other networks,
# shapes and classes are tried as well. No exercise calls one that you wrote before, so a slip costs
# you only once. Images are tensors (N, 3, H, W) with values in [0, 1]; the networks normalise them
# themselves.

# %% given=true
import copy
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from utils.checks import check_close, in_other_mode, random_images
from utils.guard import check_without
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def tiny_network(seed, width=4, activation=nn.Tanh):
    """A small network for the tests, random, in float64 and in eval mode.

    From images (N, 3, H, W) of any size from 3 × 3 to five class scores (N, 5).
    """
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, width, 3, padding=1),
            norm1=nn.BatchNorm2d(width),
            act1=activation(),
            conv2=nn.Conv2d(width, width, 3, stride=2, padding=1),
            norm2=nn.BatchNorm2d(width),
            act2=activation(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(width, 5),
        )
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        network.linear.weight *= 4
        for norm in (network.norm1, network.norm2):
            norm.running_mean.normal_(0, 0.5, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


# %% [markdown]
# Have you a picture of your own? Name it here, or upload it below: it will stand beside the lab's
# pictures wherever it says something, asked for the class that `base` takes it for, though it may
# be none of the ten. It has no outline, as nobody has drawn one. No exercise needs it.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% [markdown]
# The next cell loads three networks that were trained on pictures of a textured object in clutter,
# and draws 48 new pictures. `base` was trained on pictures that were mirrored, shifted, and had
# their colour channels exchanged at random, so that a colour tells it little about the class.
# `robust` also saw images that were changed to mislead it (lab 10). `biased` learned from pictures
# with a flaw that you will find.

# %% fold="The networks, the scenes, and `show_rows`, which draws them with their maps"
import matplotlib.pyplot as plt
import numpy as np

from utils.models import load_model
from utils.scenes import CLASS_NAMES, make_scenes

networks = {name: load_model(name).to(device) for name in ("base", "robust", "biased")}
base, robust, biased = networks.values()
scenes = make_scenes(48, np.random.default_rng(6))
X, y = (tensor.to(device) for tensor in scenes.tensors())
masks = torch.from_numpy(scenes.masks).to(device)

# What most figures show: seven scenes and, if you chose one, your picture.
X_shown, y_shown, outlines = X[:7], y[:7], masks[:7]
titles = [CLASS_NAMES[label] for label in y_shown]
mine = own.load(64)
if mine is not None:
    mine = (torch.from_numpy(mine).permute(2, 0, 1)[None] / 255).to(X)
    X_shown, y_shown = torch.cat([X_shown, mine]), torch.cat([y_shown, base(mine).argmax(1)])
    outlines = torch.cat([outlines, torch.zeros_like(outlines[:1])])
    titles.append(f"yours: {CLASS_NAMES[y_shown[-1]]}?")


def show_rows(rows, heading, titles=(), outlines=None, inches=1.35):
    """Draw a figure with one row for each entry of `rows`, from its label to images or maps.

    Maps (N, H, W) are each scaled to their own 99th percentile, so that a few extreme pixels don't
    leave the rest dark; maps with negative values are drawn in red and blue about white.
    """
    count = len(next(iter(rows.values())))
    size = (inches * count + 1.2, (inches + 0.05) * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), count, figsize=size, layout="constrained", squeeze=False)
    figure.suptitle(heading)
    bars = {}
    for axes_of_row, (label, row) in zip(axes, rows.items(), strict=True):
        axes_of_row[0].set_ylabel(label)
        for index, (ax, picture) in enumerate(zip(axes_of_row, row.detach().cpu(), strict=True)):
            ax.set_xticks([])
            ax.set_yticks([])
            if picture.ndim == 3:
                ax.imshow(picture.permute(1, 2, 0).clamp(0, 1))
                continue
            picture = picture / picture.abs().flatten().quantile(0.99)
            signed = bool((row < 0).any())
            colours = {"cmap": "RdBu_r", "vmin": -1} if signed else {"cmap": "magma", "vmin": 0}
            bars[signed] = ax.imshow(picture, vmax=1, **colours)
            if outlines is not None and outlines[index].any():
                line = "black" if signed else "white"
                ax.contour(outlines[index].cpu(), [0.5], colors=line, linewidths=0.8)
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=9)
    for signed, image in bars.items():
        label = "signed map" if signed else "map"
        bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01, ticks=[-1, 0, 1])
        bar.set_label(f"{label} / its 99th percentile", fontsize=8)
    plt.show()


# %% [markdown]
# ## 1. Which pixels matter?
#
# Let $s_c(x)$ be the network's score for class $c$, the number *before* the softmax. For a small
# change $\varepsilon$ of the image,
#
# $$s_c(x + \varepsilon) \approx s_c(x) + \sum_{i} \frac{\partial s_c}{\partial x_i}\,
#   \varepsilon_i$$
#
# so $|\partial s_c / \partial x_i|$ says how fast the score changes when the single value $x_i$
# does. In training, the backward pass says how to change the *weights*. The same backward pass
# says how one would have to change the *image*; here you only look at the answer, and leave the
# image as it is. A pixel has three values, red, green and blue. Adding up their magnitudes gives
# the **saliency map**:
#
# $$M(r, c) = \sum_{k=1}^{3} \left| \frac{\partial s_y}{\partial x_k(r, c)} \right|$$
#
# The paper that introduced it (Simonyan, Vedaldi and Zisserman, 2014) takes the *maximum* over the
# three channels instead of the sum, and so does the course CS231n. We take the **sum**: absolute
# value first, then the sum. In section 2 you can see how much difference this makes.
#
# ### Exercise: `compute_saliency_maps`
# ★★☆ · 20 minutes
#
# <details><summary>Hint 1: a gradient for the image</summary>
#
# Autograd only follows tensors that ask for it: `X = X.detach().clone().requires_grad_()`. Then
# either `backward()` and `X.grad`, or `torch.autograd.grad(number, X)`, which leaves the network's
# parameters alone and is faster.
#
# </details>
# <details><summary>Hint 2: a whole batch in one backward pass</summary>
#
# In eval mode an image's scores depend on that image only. So the gradient of the *sum* of the N
# right scores holds the N gradients you want. `scores.gather(1, y[:, None])` picks the score of
# each image's own class; `scores[:, y]` picks something else.
#
# </details>


# %% exercise="compute_saliency_maps" changes="X.grad, X.requires_grad, model.grad" without="captum"
def compute_saliency_maps(X, y, model):
    """How strongly each pixel of each image can move the score of the image's class y.

        M(n, r, c) = Σ_k |∂ s(n, y_n) / ∂ X(n, k, r, c)|

    The absolute value comes first, then the sum over the three channels (not the maximum).
    Calling Captum earns no points.

    Args:
        X: images, float tensor (N, 3, H, W); its values stay as they are.
        y: the class asked about for each image, int64 tensor (N,). It need not be the class that
            the network would choose.
        model: a network in eval mode, from (N, 3, H, W) to class scores s, (N, C), before any
            softmax. It stays in eval mode. Gradients may be left on its parameters.

    Returns:
        saliency: float tensor (N, H, W), not negative, not rescaled.
    """
    ### BEGIN SOLUTION
    X = X.detach().clone().requires_grad_()
    scores = model(X).gather(1, y[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), X)
    return gradient.abs().sum(dim=1)
    ### END SOLUTION


# %% test="compute_saliency_maps" points=2 aspect="one image"
X_test, y_test, network = random_images(0, 1, 3, 4, 5), torch.tensor([3]), tiny_network(0)
### BEGIN EXPECTED


def gradient_of(number):
    """The gradient of a number made of the scores, with its sign."""
    x = X_test.clone().requires_grad_()
    return torch.autograd.grad(number(network(x)).sum(), x)[0]


def saliency_of(number):
    return gradient_of(number).abs().sum(1)


gradient = gradient_of(lambda scores: scores[:, 3])
expected = reference.compute_saliency_maps(X_test, y_test, network)
mistakes = {
    "the absolute value is missing": gradient.sum(1),
    "the absolute value comes after the sum over the channels": gradient.sum(1).abs(),
    "the maximum over the channels is taken, as in Simonyan's paper, not the sum": (
        gradient.abs().amax(1)
    ),
    "the maximum over the channels is taken, and no absolute value": gradient.amax(1),
    "the mean over the channels is taken, not the sum": gradient.abs().mean(1),
    "the channels are squared, not made absolute": gradient.square().sum(1),
    "the length of the gradient over the channels is taken": gradient.norm(dim=1),
    "the sum over the channels is missing": gradient.abs(),
    "the channel axis is kept, with length 1": expected[:, None],
    "each map is divided by its maximum": expected / expected.max(),
    "the gradient is multiplied by the image": (gradient * X_test).abs().sum(1),
    "it is the gradient of the cross-entropy loss, not of the score": (
        saliency_of(lambda scores: F.cross_entropy(scores, y_test))
    ),
    "it is the gradient of the softmax's probability, not of the score": (
        saliency_of(lambda scores: scores.softmax(1)[:, 3])
    ),
    "the class that the network predicts is used: y is ignored": (
        saliency_of(lambda scores: scores.amax(1))
    ),
    "the scores of all classes are added up: y is ignored": saliency_of(lambda scores: scores),
}
### END EXPECTED
check_close(
    compute_saliency_maps(X_test, y_test, network),
    expected,
    "compute_saliency_maps(X, y, model) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(compute_saliency_maps)

# %% test="compute_saliency_maps" points=2 aspect="a batch"
X_test, y_test, network = random_images(1, 2, 3, 4, 5), torch.tensor([3, 0]), tiny_network(1)
### BEGIN EXPECTED


def with_label_of(number):
    """The maps by a number made of the scores."""
    x = X_test.clone().requires_grad_()
    return torch.autograd.grad(number(network(x)), x)[0].abs().sum(1)


expected = reference.compute_saliency_maps(X_test, y_test, network)
mistakes = {
    "the scores are averaged over the batch: add them up": expected / 2,
    "the maps of the whole batch are added up": expected.sum(0),
    "each map is divided by its maximum": expected / expected.amax((1, 2), keepdim=True),
    "it is the gradient of the cross-entropy loss, not of the score": (
        with_label_of(lambda scores: F.cross_entropy(scores, y_test, reduction="sum"))
    ),
    "it is the gradient of the cross-entropy loss, averaged, not of the score": (
        with_label_of(lambda scores: F.cross_entropy(scores, y_test))
    ),
    "the class that the network predicts is used: y is ignored": (
        with_label_of(lambda scores: scores.amax(1).sum())
    ),
    "every image is asked for every label of the batch, as scores[:, y] does": (
        with_label_of(lambda scores: scores[:, y_test].sum())
    ),
    "the first image's label is used for all images": (
        with_label_of(lambda scores: scores[:, y_test[0]].sum())
    ),
    "the model computes in training mode, in which images mix in BatchNorm": (
        in_other_mode(reference.compute_saliency_maps, X_test, y_test, network)
    ),
}
### END EXPECTED
check_close(
    compute_saliency_maps(X_test, y_test, network),
    expected,
    "compute_saliency_maps(X, y, model)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(compute_saliency_maps)

# %% test="compute_saliency_maps" points=2 aspect="other networks"
# Other shapes, classes and networks are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, activation in [((3, 3, 7, 4), nn.ReLU), ((1, 3, 5, 6), nn.SiLU), ((5, 3, 4, 9), nn.ELU)]:
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, shape[:1], generator=generator)
    network = tiny_network(reference.seed + 1, activation=activation)
    check_close(
        compute_saliency_maps(images.clone(), labels.clone(), network),
        reference.compute_saliency_maps(images, labels, network),
        f"compute_saliency_maps for images {shape}",
        tolerance=1e-6,
    )
images, labels = images.float(), labels[:5]
network = tiny_network(reference.seed + 2, activation=nn.ReLU).float()
check_close(
    compute_saliency_maps(images.clone(), labels.clone(), network),
    reference.compute_saliency_maps(images, labels, network),
    "compute_saliency_maps in float32",
    tolerance=1e-4,
)
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    images, labels = random_images(reference.seed, 3, 3, 9, 8), torch.tensor([1, 4, 0])
    expected = reference.compute_saliency_maps(images, labels, network)
    check_close(
        compute_saliency_maps(images.clone(), labels.clone(), network),
        expected,
        "compute_saliency_maps for a network with a forward of its own",
        tolerance=1e-6,
    )
check_without(compute_saliency_maps)
### END HIDDEN TESTS

# %% test="compute_saliency_maps" points=1 aspect="written by hand"
X_test, y_test, network = random_images(7, 2, 3, 3, 4), torch.tensor([2, 4]), tiny_network(7)
### BEGIN EXPECTED
expected = reference.compute_saliency_maps(X_test, y_test, network)
### END EXPECTED
check_close(
    compute_saliency_maps(X_test, y_test, network),
    expected,
    "compute_saliency_maps(X, y, model)",
    tolerance=1e-6,
)
check_without(compute_saliency_maps)

# %% [markdown]
# Two networks look at the same pictures. (`X_shown.clone()` hands your function a copy, so that it
# may do with it as it likes.)

# %%
show_rows(
    {
        "scene": X_shown,
        "base": compute_saliency_maps(X_shown.clone(), y_shown, base),
        "robust": compute_saliency_maps(X_shown.clone(), y_shown, robust),
    },
    "Where a small change of a pixel moves the score of the class above most",
    titles,
    outlines,
)

# %% [markdown]
# White outlines are the true object, which no network was ever shown: they were trained on class
# names alone. `base`, right on about 99% of such pictures, has a grainy map that gathers around
# the object and strays far from it. The map of `robust` is tidier. That fits its training: a
# network that small changes of any pixel rarely mislead should have small gradients where nothing
# of the object is. It is a reading of the figure, though, and not a proof.
#
# Read the map for what it is: bright means *the score would change*, not *this pixel spoke for
# the class*. It could have spoken against it. And each map has its own scale, so don't compare the
# brightness of one with another's.
#
# ## 2. The score, not the probability
#
# To see what the sum and the absolute value have thrown away, compute the gradient itself, with
# its sign, and for all classes at once:
#
# $$J(n, c, k, i, j) = \frac{\partial s_c(x_n)}{\partial x_{n,k}(i, j)}$$
#
# Each class needs a backward pass of its own; the forward pass is the same for all.
#
# ### Exercise: `score_gradients`
# ★★☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# Loop over the classes and stack the results on axis 1. PyTorch frees what it remembered of the
# forward pass after the first backward pass, unless you say `retain_graph=True`. If you use
# `backward()`, gradients *add up* in `X.grad`.
#
# </details>


# %% exercise="score_gradients" changes="X.grad, X.requires_grad, model.grad" without="captum"
def score_gradients(X, model):
    """The gradient of every class's score with respect to every image, with its sign.

    Calling Captum earns no points.

    Args:
        X: images, float tensor (N, 3, H, W); its values stay as they are.
        model: a network in eval mode, from (N, 3, H, W) to class scores (N, C). It stays in eval
            mode. Gradients may be left on its parameters.

    Returns:
        gradients: float tensor (N, C, 3, H, W): entry [n, c] is ∂ s_c(X[n]) / ∂ X[n].
    """
    ### BEGIN SOLUTION
    X = X.detach().clone().requires_grad_()
    scores = model(X)
    gradients = [
        torch.autograd.grad(score_of_class.sum(), X, retain_graph=True)[0]
        for score_of_class in scores.unbind(1)
    ]
    return torch.stack(gradients, dim=1)
    ### END SOLUTION


# %% test="score_gradients" points=1 aspect="one image"
X_test, network = random_images(2, 1, 3, 3, 4), tiny_network(2)
### BEGIN EXPECTED


def stacked_gradients(numbers):
    """The gradients of numbers (1, 5) made of the scores, for every class."""
    x = X_test.clone().requires_grad_()
    each = [torch.autograd.grad(numbers(network(x))[0, c], x)[0] for c in range(5)]
    return torch.stack(each, dim=1)


expected = reference.score_gradients(X_test, network)
mistakes = {
    "gradients pile up from one class to the next: X.grad is not reset": expected.cumsum(1),
    "the absolute value is taken: the sign is wanted here": expected.abs(),
    "the absolute value is taken and the channels are added up": expected.abs().sum(2),
    "the channels are added up": expected.sum(2),
    "every class holds the gradients of all classes added up": (
        expected.sum(1, keepdim=True).expand_as(expected)
    ),
    "only the last class's gradient is kept, and repeated": expected[:, -1:].expand_as(expected),
    "it is the gradient of the softmax's probabilities, not of the scores": (
        stacked_gradients(lambda scores: scores.softmax(1))
    ),
    "it is the gradient of the log-probabilities, not of the scores": (
        stacked_gradients(lambda scores: scores.log_softmax(1))
    ),
}
### END EXPECTED
check_close(
    score_gradients(X_test, network),
    expected,
    "score_gradients(X, model) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(score_gradients)

# %% test="score_gradients" points=1 aspect="a batch"
X_test, network = random_images(1, 2, 3, 3, 4), tiny_network(1)
### BEGIN EXPECTED
expected = reference.score_gradients(X_test, network)
mistakes = {
    "gradients pile up from one class to the next: X.grad is not reset": expected.cumsum(1),
    "the scores are averaged over the batch: add them up": expected / 2,
    "the batch is added up: each image has its own gradient": expected.sum(0),
    "the model computes in training mode, in which images mix in BatchNorm": (
        in_other_mode(reference.score_gradients, X_test, network)
    ),
}
### END EXPECTED
check_close(
    score_gradients(X_test, network),
    expected,
    "score_gradients(X, model)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(score_gradients)

# %% test="score_gradients" points=2 aspect="other networks"
# Other shapes, numbers of classes and networks are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(3, 3, 7, 4), (1, 3, 5, 6), (5, 3, 4, 4)]:
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    network = tiny_network(reference.seed + 1, activation=nn.ReLU)
    check_close(
        score_gradients(images.clone(), network),
        reference.score_gradients(images, network),
        f"score_gradients for images {shape}",
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, classes=4, **options)
    images = random_images(reference.seed, 2, 3, 9, 8)
    expected = reference.score_gradients(images, network)
    check_close(
        score_gradients(images.clone(), network),
        expected,
        "score_gradients for a network with a forward of its own",
        tolerance=1e-6,
    )
check_without(score_gradients)
### END HIDDEN TESTS

# %% test="score_gradients" points=1 aspect="written by hand"
X_test, network = random_images(10, 2, 3, 4, 3), tiny_network(10)
### BEGIN EXPECTED
expected = reference.score_gradients(X_test, network)
### END EXPECTED
check_close(score_gradients(X_test, network), expected, "score_gradients(X, model)", tolerance=1e-6)
check_without(score_gradients)

# %%
gradients = score_gradients(X_shown.clone(), base)
signed = gradients[torch.arange(len(y_shown)), y_shown]
show_rows(
    {
        "scene": X_shown,
        "red, signed": signed[:, 0],
        "sum |·|": signed.abs().sum(1),
        "max |·|": signed.abs().amax(1),
    },
    "The gradient flips its sign from pixel to pixel; sum and maximum tell the same story",
    titles,
)
pairs = zip(signed.abs().sum(1), signed.abs().amax(1), strict=True)
agreement = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item() for a, b in pairs]
print(f"correlation of the sum's map with the maximum's: {np.mean(agreement):.2f} on average")

# %% [markdown]
# The signed gradient (here for red) flips from pixel to pixel, so a reader can't tell "brighter
# here" from "darker here": that is why one takes the absolute value, and you will see in section 9
# what it costs. The sum and Simonyan's maximum tell nearly the same story: the printed
# correlation is close to 1.
#
# Now for a choice that does matter. Why the *score*, and not the probability
# $p_y = e^{s_y} / \sum_c e^{s_c}$, which is what the network finally tells us? Take the derivative
# of the softmax, and there are the gradients of all classes:
#
# $$\frac{\partial p_y}{\partial x} = p_y \left( \frac{\partial s_y}{\partial x}
#   - \sum_c p_c\, \frac{\partial s_c}{\partial x} \right)$$
#
# Ask for one object in pictures of two. The classes are a fair test of a map: it should light the
# object that it was asked for. For the probability's map, your function is handed a network that
# ends in a softmax.

# %%
pairs = make_scenes(48, np.random.default_rng(7), "two_objects")
X_two, y_first = (tensor.to(device) for tensor in pairs.tensors())
first, second = (torch.from_numpy(objects.masks).to(device) for objects in (pairs, pairs.second))
with_softmax = nn.Sequential(base, nn.Softmax(dim=1)).eval()
maps_two = {
    "score": compute_saliency_maps(X_two.clone(), y_first, base),
    "probability": compute_saliency_maps(X_two.clone(), y_first, with_softmax),
}
show_rows(
    {"scene": X_two[:7]} | {name: maps[:7] for name, maps in maps_two.items()},
    "Asked for the outlined object, the probability also lights its rival",
    [CLASS_NAMES[label] for label in y_first[:7]],
    first,
)


def share_of_peaks(maps, regions):
    """The share of maps whose largest value lies in the region."""
    peaks = maps.flatten(1).argmax(1, keepdim=True)
    return regions.flatten(1).gather(1, peaks).float().mean().item()


print("share of maps whose peak lies on       the object asked for    the other object")
for name, maps in maps_two.items():
    print(f"{name:>30} {share_of_peaks(maps, first):22.2f} {share_of_peaks(maps, second):19.2f}")
with torch.no_grad():
    p_single = base(X).softmax(1).gather(1, y[:, None])
print(f"single objects: half of the probabilities are above {p_single.median():.5f}")

# %% [markdown]
# The score's map peaks on the object asked for far more often than on the other one. The
# probability's peaks on either about equally often, whatever it is asked for. It has two ways to
# rise: the score of *disc* goes up, or that of its rival goes down, and $\sum_c p_c\,
# \partial s_c / \partial x$ is where the rival comes in. A question about the disc got an answer
# about the fish.
#
# There is a second reason. Where the network is sure, $p_y \approx 1$ and the bracket is
# $\approx 0$: the probability has nowhere to go, its gradient vanishes, and so does that of the
# cross-entropy loss, which is $-\frac{1}{p_y} \partial p_y / \partial x$: the same map on another
# scale. As the last line printed says, this network is sure most of the time.
#
# ### Exercise: `probability_gradient`
# ★★☆ · 15 minutes · optional
#
# <details><summary>Hint</summary>
#
# `torch.softmax` copes with scores of any size; `exp` alone overflows beyond 709. To multiply
# probabilities (N, C) by gradients (N, C, 3, H, W), give them three more axes:
# `p[:, :, None, None, None]`. And $\sum_c$ runs over *all* classes, y included.
#
# </details>


# %% exercise="probability_gradient"
def probability_gradient(scores, gradients, y):
    """The gradient of the probability of class y, from the gradients of all scores.

        ∂p_y/∂x = p_y · (∂s_y/∂x − Σ_c p_c ∂s_c/∂x),   p = softmax(s)

    Args:
        scores: s, float tensor (N, C), of any size.
        gradients: ∂s_c/∂x, float tensor (N, C, 3, H, W).
        y: classes, int64 tensor (N,).

    Returns:
        gradient: ∂p_y/∂x, float tensor (N, 3, H, W), with its sign.
    """
    ### BEGIN SOLUTION
    image = torch.arange(len(y), device=y.device)
    p = scores.softmax(dim=1)[:, :, None, None, None]
    return p[image, y] * (gradients[image, y] - (p * gradients).sum(dim=1))
    ### END SOLUTION


# %% test="probability_gradient" points=1 aspect="one image"
scores_test = torch.tensor([[1.0, 0.5, -1.0, 2.0]], dtype=torch.float64)
gradients_test, y_test = random_images(3, 1, 4, 3, 2, 3) - 0.5, torch.tensor([2])
### BEGIN EXPECTED
expected = reference.probability_gradient(scores_test, gradients_test, y_test)
p, of_y = scores_test.softmax(1)[:, :, None, None, None], gradients_test[:, 2]
p_y, mean = p[:, 2], (p * gradients_test).sum(1)
mistakes = {
    "the factor p_y is missing, which makes it the gradient of log p_y": of_y - mean,
    "the gradients of the other classes are missing: p_y (1 − p_y) ∂s_y/∂x is not all": (
        p_y * (1 - p_y) * of_y
    ),
    "the gradients of the other classes are missing": p_y * of_y,
    "class y is left out of the sum over all classes": p_y * (of_y - mean + p_y * of_y),
    "the other classes are added, not subtracted": p_y * (of_y + mean),
    "the other classes count alike, not by their probabilities": (
        p_y * (of_y - gradients_test.mean(1))
    ),
    "the absolute value is taken: the sign is wanted here": expected.abs(),
    "the scores are used where the probabilities belong": (
        scores_test[0, 2] * (of_y - (scores_test[:, :, None, None, None] * gradients_test).sum(1))
    ),
    "y is ignored: the most probable class is asked for": (
        reference.probability_gradient(scores_test, gradients_test, scores_test.argmax(1))
    ),
}
### END EXPECTED
check_close(
    probability_gradient(scores_test, gradients_test, y_test),
    expected,
    "probability_gradient(scores, gradients, y) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="probability_gradient" points=1 aspect="a batch, and large scores"
scores_test = torch.tensor([[1.0, 0.5, -1.0, 2.0], [0.0, 1.5, 1.0, 0.3]], dtype=torch.float64)
gradients_test, y_test = random_images(2, 2, 4, 3, 2, 3) - 0.5, torch.tensor([2, 1])
for shift in (0, 1000):
    ### BEGIN EXPECTED
    expected = reference.probability_gradient(scores_test + shift, gradients_test, y_test)
    p = scores_test.softmax(0)[:, :, None, None, None]
    mistakes = {
        "the softmax runs over the batch, not over the classes": p[[0, 1], y_test]
        * (gradients_test[[0, 1], y_test] - (p * gradients_test).sum(1)),
        "every image is asked for the first image's class": (
            reference.probability_gradient(scores_test, gradients_test, y_test[[0, 0]])
        ),
        "exp overflows beyond 709": torch.full_like(expected, torch.nan),
    }
    ### END EXPECTED
    check_close(
        probability_gradient(scores_test + shift, gradients_test, y_test),
        expected,
        f"probability_gradient for scores near {shift}",
        tolerance=1e-6,
        mistakes=mistakes,
    )

# %% test="probability_gradient" points=2 aspect="general shapes"
# Other numbers of images and classes are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for N, C, H, W in [(3, 6, 2, 5), (1, 2, 4, 3), (4, 4, 4, 2)]:
    scores = 3 * torch.randn(N, C, generator=generator, dtype=torch.float64)
    gradients = torch.randn(N, C, 3, H, W, generator=generator, dtype=torch.float64)
    labels = torch.randint(C, (N,), generator=generator)
    check_close(
        probability_gradient(scores.clone(), gradients.clone(), labels.clone()),
        reference.probability_gradient(scores, gradients, labels),
        f"probability_gradient for {N} images, {C} classes",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Two ways to one map (optional)
#
# Your formula, on the gradients of all scores, should give what came of the softmax in the network.

# %%
with torch.no_grad():
    scores_two = base(X_two[:7])
gradients_two = score_gradients(X_two[:7].clone(), base)
by_formula = probability_gradient(scores_two, gradients_two, y_first[:7]).abs().sum(1)
apart = (by_formula - maps_two["probability"][:7]).abs().max() / by_formula.max()
print(f"largest difference of the two maps: {apart.item():.0e} of the largest value")

# %% [markdown]
# ## 3. Less noise
#
# The gradient of a network with ReLUs is constant in small regions and jumps between them, so one
# image's gradient says little about an image that is almost the same. SmoothGrad (Smilkov et al.,
# 2017) takes the mean over a neighbourhood: add noise, take the gradient, repeat, average. What
# flips its sign from sample to sample cancels, and what all samples agree on stays:
#
# $$M = \sum_{k=1}^{3} \left| \frac{1}{S} \sum_{t=1}^{S}
#   \frac{\partial s_y}{\partial x_k}(x + \varepsilon_t) \right|, \qquad
#   \varepsilon_t \sim \mathcal{N}(0, \sigma^2)$$
#
# ### Exercise: `smooth_grad`
# ★★☆ · 20 minutes
#
# Your function is handed the noise, so that what it returns can be checked to the last digit.
#
# <details><summary>Hint</summary>
#
# Write the gradient out again, in a loop over `noise`; `compute_saliency_maps` can't help, since it
# takes the absolute value too early.
#
# </details>


# %% exercise="smooth_grad" changes="X.grad, X.requires_grad, model.grad" without="captum"
def smooth_grad(X, y, model, noise):
    """SmoothGrad (Smilkov et al., 2017): the saliency map of a gradient averaged over noisy images.

        M(n, r, c) = Σ_k |1/S Σ_t ∂ s(n, y_n) / ∂ X(n, k, r, c), taken at X + noise[t]|

    First the mean of the signed gradients, then the absolute value, then the sum over channels.
    Calling Captum earns no points.

    Args:
        X: images, float tensor (N, 3, H, W); its values stay as they are.
        y: the class asked about for each image, int64 tensor (N,).
        model: a network in eval mode, from (N, 3, H, W) to class scores (N, C). It stays in eval
            mode. Gradients may be left on its parameters.
        noise: what to add to the images, float tensor (S, N, 3, H, W), scaled already. Noisy images
            may leave [0, 1]: don't clamp them.

    Returns:
        saliency: float tensor (N, H, W), not negative, not rescaled.
    """
    ### BEGIN SOLUTION
    mean = torch.zeros_like(X)
    for perturbation in noise:
        noisy = (X + perturbation).detach().requires_grad_()
        scores = model(noisy).gather(1, y[:, None])
        mean += torch.autograd.grad(scores.sum(), noisy)[0] / len(noise)
    return mean.abs().sum(dim=1)
    ### END SOLUTION


# %% test="smooth_grad" points=1 aspect="one image"
X_test, y_test, network = random_images(5, 1, 3, 3, 4), torch.tensor([4]), tiny_network(5)
noise_test = random_images(6, 3, 1, 3, 3, 4) - 0.4
### BEGIN EXPECTED


def gradients_at(images, number=lambda scores: scores[:, 4]):
    """The gradient of a number made of the scores, at each image (S, 3, 3, 4)."""
    x = images.flatten(0, 1).clone().requires_grad_()
    return torch.autograd.grad(number(network(x)).sum(), x)[0][:, None]


samples = gradients_at(X_test + noise_test)
expected = reference.smooth_grad(X_test, y_test, network, noise_test)
mistakes = {
    "the absolute value comes before the mean over the samples, where nothing cancels": (
        samples.abs().mean(0).sum(1)
    ),
    "the absolute value comes before the sum over the samples, where nothing cancels": (
        samples.abs().sum((0, 2))
    ),
    "the absolute value comes after the sum over the channels": samples.mean(0).sum(1).abs(),
    "the absolute value is missing": samples.mean(0).sum(1),
    "the samples are added up, not averaged": samples.sum(0).abs().sum(1),
    "the maximum over the channels is taken, not the sum": samples.mean(0).abs().amax(1),
    "the mean over the channels is taken, not the sum": samples.mean(0).abs().mean(1),
    "only the last sample counts": samples[-1].abs().sum(1),
    "only the first sample counts": samples[0].abs().sum(1),
    "the mean is taken over the images, before the gradient": (
        gradients_at((X_test + noise_test).mean(0, keepdim=True))[0].abs().sum(1)
    ),
    "the noise piles up from sample to sample: add each to the clean image": (
        gradients_at(X_test + noise_test.cumsum(0)).mean(0).abs().sum(1)
    ),
    "no noise is added": gradients_at(X_test[None])[0].abs().sum(1),
    "noisy images are clamped to [0, 1]": (
        gradients_at((X_test + noise_test).clamp(0, 1)).mean(0).abs().sum(1)
    ),
    "it is the gradient of the cross-entropy loss, not of the score": (
        gradients_at(X_test + noise_test, lambda scores: scores.log_softmax(1)[:, 4])
        .mean(0)
        .abs()
        .sum(1)
    ),
}
### END EXPECTED
check_close(
    smooth_grad(X_test, y_test, network, noise_test),
    expected,
    "smooth_grad(X, y, model, noise) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(smooth_grad)

# %% test="smooth_grad" points=1 aspect="a batch"
X_test, y_test, network = random_images(3, 2, 3, 3, 4), torch.tensor([4, 1]), tiny_network(3)
noise_test = random_images(4, 3, 2, 3, 3, 4) - 0.4
### BEGIN EXPECTED
expected = reference.smooth_grad(X_test, y_test, network, noise_test)


def with_labels(labels):
    return reference.smooth_grad(X_test, labels, network, noise_test)


def signed_sum(noise, labels):
    """The sum of the gradients over some samples, with its sign."""
    total = torch.zeros_like(X_test)
    for sample in noise:
        x = (X_test + sample).requires_grad_()
        total += torch.autograd.grad(network(x)[[0, 1], labels].sum(), x)[0]
    return total


mistakes = {
    "labels and images don't match: each image's label stands S times in a row": sum(
        signed_sum(noise_test[n : n + 1], labels)
        for n, labels in enumerate(y_test.repeat_interleave(3).reshape(3, 2))
    )
    .abs()
    .sum(1)
    / 3,
    "the first image's label is used for all images": with_labels(y_test[[0, 0]]),
    "y is ignored: the predicted class is asked for": with_labels(network(X_test).argmax(1)),
    "the scores are averaged over the batch: add them up": expected / 2,
    "the first image's noise is used for all": (
        reference.smooth_grad(X_test, y_test, network, noise_test[:, [0, 0]])
    ),
    "the model computes in training mode, in which images mix in BatchNorm": (
        in_other_mode(reference.smooth_grad, X_test, y_test, network, noise_test)
    ),
}
### END EXPECTED
check_close(
    smooth_grad(X_test, y_test, network, noise_test),
    expected,
    "smooth_grad(X, y, model, noise)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(smooth_grad)

# %% test="smooth_grad" points=2 aspect="other networks"
# Other shapes, numbers of samples and networks are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for S, shape in [(4, (3, 3, 7, 4)), (1, (2, 3, 3, 5)), (5, (1, 3, 4, 4))]:
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(S, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, shape[:1], generator=generator)
    network = tiny_network(reference.seed + 1, activation=nn.ReLU)
    check_close(
        smooth_grad(images.clone(), labels.clone(), network, noise.clone()),
        reference.smooth_grad(images, labels, network, noise),
        f"smooth_grad for images {shape}, {S} samples",
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    images, labels = random_images(reference.seed, 2, 3, 9, 8), torch.tensor([1, 4])
    noise = random_images(reference.seed + 1, 3, 2, 3, 9, 8) - 0.5
    expected = reference.smooth_grad(images, labels, network, noise)
    check_close(
        smooth_grad(images.clone(), labels.clone(), network, noise.clone()),
        expected,
        "smooth_grad for a network with a forward of its own",
        tolerance=1e-6,
    )
check_without(smooth_grad)
### END HIDDEN TESTS

# %% test="smooth_grad" points=1 aspect="written by hand"
X_test, y_test, network = random_images(11, 2, 3, 4, 3), torch.tensor([2, 0]), tiny_network(11)
noise_test = random_images(12, 4, 2, 3, 4, 3) - 0.5
### BEGIN EXPECTED
expected = reference.smooth_grad(X_test, y_test, network, noise_test)
### END EXPECTED
check_close(
    smooth_grad(X_test, y_test, network, noise_test),
    expected,
    "smooth_grad(X, y, model, noise)",
    tolerance=1e-6,
)
check_without(smooth_grad)


# %%
def gaussian_noise(samples, images, sigma):
    """Normal noise of standard deviation sigma, (samples, N, 3, H, W), always the same."""
    generator = torch.Generator().manual_seed(0)
    return (sigma * torch.randn(samples, *images.shape, generator=generator)).to(device)


def smooth(images, labels, model, samples=16, sigma=0.15):
    """SmoothGrad with noise drawn for the occasion."""
    noise = gaussian_noise(samples, images, sigma)
    return smooth_grad(images.clone(), labels, model, noise)


one, label = X[3:4], y[3:4]
figure_settings = {
    "noise σ = 0.15": [(samples, 0.15) for samples in (1, 4, 16, 64)],
    "16 samples": [(16, sigma) for sigma in (0.02, 0.1, 0.3, 0.8)],
}
figure, axes = plt.subplots(2, 5, figsize=(9, 4.2), layout="constrained")
figure.suptitle("More samples: less grain. More noise: first clearer, then about another image")
axes[0, 0].imshow(one[0].permute(1, 2, 0).cpu())
axes[0, 0].set_title(f"scene: {CLASS_NAMES[label]}")
axes[1, 0].imshow((one + gaussian_noise(1, one, 0.3)[0])[0].permute(1, 2, 0).clamp(0, 1).cpu())
axes[1, 0].set_title("with noise σ = 0.3")
for row, (name, settings) in zip(axes, figure_settings.items(), strict=True):
    row[0].set_ylabel(name)
    for ax, (samples, sigma) in zip(row[1:], settings, strict=True):
        saliency_map = smooth(one, label, base, samples, sigma)[0].detach().cpu()
        image = ax.imshow(saliency_map / saliency_map.quantile(0.99), cmap="magma", vmin=0, vmax=1)
        ax.contour(masks[3].cpu(), [0.5], colors="white", linewidths=0.8)
        ax.set_title(f"S = {samples}, σ = {sigma}", fontsize=9)
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
figure.colorbar(image, ax=axes, shrink=0.7, label="saliency / its 99th percentile")
plt.show()

# %% [markdown]
# Averaging clears the background in the upper row: there the gradient pointed now this way, now
# that. The lower row shows the price. σ is in units of the image's range [0, 1], and with too much
# noise the map explains pictures that have little to do with the one you asked about. A smooth map
# is no proof of anything: you have made it look more convincing without asking whether it is right.
# That comes in the next section. Before that, play with it, where your notebook can show sliders:
# choose a picture of two objects, or your own, then a class and a σ. Could you tell from the map
# alone which class was asked for? (Each map takes six samples only, so that it comes at once.)

# %% fold="Choose a picture, a class and a σ: could you tell the class from the map alone?"
from ipywidgets import Dropdown, FloatSlider

from utils.figures import explore

askable = {f"scene {n}": X_two[n : n + 1] for n in range(4)}
if mine is not None:
    askable = {"my picture": mine} | askable


def ask(picture, asked, σ):
    image, label = askable[picture], torch.tensor([CLASS_NAMES.index(asked)], device=device)
    saliency = smooth(image, label, base, samples=6, sigma=σ)[0].detach().cpu()
    with torch.no_grad():
        score = base(image)[0, label].item()
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.2), layout="constrained")
    axes[0].imshow(image[0].permute(1, 2, 0).cpu())
    axes[0].set_title(picture)
    shown = axes[1].imshow(saliency / saliency.quantile(0.99), cmap="magma", vmin=0, vmax=1)
    axes[1].set_title(f"asked for {asked}: score {score:.1f}")
    for ax in axes:
        ax.set_axis_off()
    figure.colorbar(shown, ax=axes[1], label="saliency / its 99th percentile")


explore(
    ask,
    picture=Dropdown(options=list(askable)),
    asked=Dropdown(options=CLASS_NAMES, value=CLASS_NAMES[y_first[0]], description="class"),
    σ=FloatSlider(value=0.1, min=0, max=0.5, step=0.02, continuous_update=False),
)

# %% [markdown]
# ## 4. Does it point at the object?
#
# We know the true masks, so we can keep score. In the **pointing game** (Zhang et al., 2016) a map
# wins if its largest value lies on the object.
#
# ### Exercise: `pointing_game`
# ★☆☆ · 10 minutes
#
# <details><summary>Hint</summary>
#
# `saliency.flatten(1)` has shape (N, H·W): its `argmax(1)` is the place of each map's peak. Flatten
# the masks as well and you never need a row or a column.
#
# </details>


# %% exercise="pointing_game"
def pointing_game(saliency, masks):
    """Whether each map's largest value lies on the object.

    Args:
        saliency: maps, float tensor (N, H, W). No map has two equal maxima.
        masks: the objects' pixels, bool tensor (N, H, W).

    Returns:
        hits: bool tensor (N,).
    """
    ### BEGIN SOLUTION
    peaks = saliency.flatten(1).argmax(dim=1, keepdim=True)
    return masks.flatten(1).gather(1, peaks)[:, 0]
    ### END SOLUTION


# %% test="pointing_game" points=2 aspect="hits and misses"
maps_test = random_images(5, 6, 4, 7)
for n, (row, column) in enumerate([(1, 2), (2, 1), (3, 6), (0, 5), (2, 3), (1, 4)]):
    maps_test[n, row, column] = 2 + n
maps_test[:5, 0, 0], maps_test[5, 1, 3] = -1, -1
masks_test = torch.zeros(6, 4, 7, dtype=torch.bool)
masks_test[0, 1, 2], masks_test[1, [1, 3], [2, 3]], masks_test[2, 2:, 5:] = True, True, True
masks_test[3, :, :5], masks_test[4, 1:3, 2:4], masks_test[5, [1, 1], [3, 5]] = True, True, True
### BEGIN EXPECTED
expected = reference.pointing_game(maps_test, masks_test)
by_height = [
    mask[min(peak // 4, 3), peak % 4]
    for mask, peak in zip(masks_test, maps_test.flatten(1).argmax(1), strict=True)
]
above_mean = maps_test > maps_test.mean((1, 2), keepdim=True)
mistakes = {
    "row and column are exchanged": torch.tensor([False, True, False, False, False, False]),
    "hits and misses are exchanged": ~expected,
    "the object's bounding box is used, not its mask": (
        torch.tensor([True, False, True, False, True, True])
    ),
    "the peak of the whole batch is used, not each map's own": masks_test[:, 1, 4],
    "the peak is divided by the height instead of the width": torch.stack(by_height),
    "the share of hits is returned, not each map's own": expected.double().mean(),
    "the smallest value is looked for, not the largest": (
        reference.pointing_game(-maps_test, masks_test)
    ),
    "one pixel on the object above the map's mean is enough: only the peak counts": (
        (above_mean & masks_test).any(2).any(1)
    ),
}
alone = expected[:1]
### END EXPECTED
check_close(
    pointing_game(maps_test, masks_test),
    expected,
    "pointing_game(saliency, masks)",
    mistakes=mistakes,
)
check_close(
    pointing_game(maps_test[:1], masks_test[:1]),
    alone,
    "pointing_game(saliency, masks) for one map",
)

# %% test="pointing_game" points=1 aspect="general shapes"
# Other shapes are tried here, and maps with negative values.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(40, 3, 5), (40, 6, 2), (1, 4, 4)]:
    maps = torch.rand(shape, generator=generator) - 0.5
    masks_random = torch.rand(shape, generator=generator) < 0.5
    check_close(
        pointing_game(maps.clone(), masks_random.clone()),
        reference.pointing_game(maps, masks_random),
        f"pointing_game for maps {shape}",
    )
### END HIDDEN TESTS

# %% [markdown]
# A score means nothing alone, so here are three that need no network: a peak drawn blindly (the
# object's share of the image), a peak in the middle of the image, and the strongest edge of the
# image itself, found by a blurred Sobel filter.

# %%
from skimage.filters import gaussian, sobel

smooth_maps = {
    name: smooth(X, y, network) for name, network in networks.items() if name != "biased"
}
edges = torch.stack(
    [torch.from_numpy(gaussian(sobel(image.mean(-1)), 2)) for image in scenes.images]
)
pointing = {
    "blind guess": masks.float().mean().item(),
    "middle of the image": masks[:, 32, 32].float().mean().item(),
    "strongest edge, no network": pointing_game(edges.to(device), masks).float().mean().item(),
}
for name, network in list(networks.items())[:2]:
    plain = compute_saliency_maps(X.clone(), y, network)
    pointing[f"{name}: gradient"] = pointing_game(plain, masks).float().mean().item()
    hits = pointing_game(smooth_maps[name], masks)
    pointing[f"{name}: SmoothGrad"] = hits.float().mean().item()

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
bars = ax.barh(list(pointing), list(pointing.values()), color=["0.7"] * 3 + ["#0072B2"] * 4)
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.invert_yaxis()
ax.set_xlim(0, 1.08)
ax.set_xlabel("share of peaks on the object")
ax.set_title(
    "Saliency finds the object, and so does an edge filter (grey: no network)", fontsize=11
)
plt.show()

# %% [markdown]
# Every map beats a blind guess by far. The four blue bars are too close to be ranked: with 48
# pictures a share of 0.9 is uncertain by about ±0.04. And look at the third grey bar. A filter that
# has never seen a class comes close, since the objects are the most contrasty things in these
# pictures. So a high score shows that the map finds *the object*, not that it explains *the
# network*. An edge filter can't say which of two objects is the disc, though: remember the
# two-object test of section 2 as the fairer one.

# %% [markdown]
# ## 5. Hide a piece
#
# A gradient speaks of small changes. Zeiler and Fergus (2014) make a large one: they slide a grey
# patch over the image, and record how far the score of the class falls while a piece is hidden.
# That needs no gradient, so it works for any network, even for one that you can only ask. With
# $x^{ab}$ for the image whose patch at $(a, b)$ is grey,
#
# $$F(a, b) = s_y(x) - s_y(x^{ab})$$
#
# Where patches overlap, a pixel is under several of them. Its value in the map is the **mean** of
# their falls:
#
# $$M(r, c) = \frac{1}{|P_{rc}|} \sum_{(a, b) \in P_{rc}} F(a, b), \qquad
#   P_{rc} = \text{the patches that hide pixel } (r, c)$$
#
# ### Exercise: `occlusion_map`
# ★★☆ · 20 minutes
#
# <details><summary>Hint 1: where the patches lie</summary>
#
# Their upper edges are in the rows `range(0, H - size + 1, stride)`; the `+ 1` lets the last patch
# touch the lower edge of the image. All images of the batch can be hidden at the same place at
# once.
#
# </details>
# <details><summary>Hint 2: the mean where patches overlap</summary>
#
# Keep two tensors: one to which each patch adds its fall, and one in which it counts.
#
# </details>


# %% exercise="occlusion_map" without="captum"
def occlusion_map(X, y, model, size=16, stride=8, grey=0.5):
    """How far the score of class y falls where a grey patch hides a piece (Zeiler & Fergus, 2014).

        F(n, a, b) = s(n, y_n) − s(n, y_n) with X[n, :, a : a + size, b : b + size] = grey
        M(n, r, c) = the mean of F(n, a, b) over all patches that hide pixel (r, c)

    Write the loop yourself: calling Captum earns no points.

    Args:
        X: images, float tensor (N, 3, H, W); it stays as it is.
        y: the class asked about for each image, int64 tensor (N,).
        model: a network in eval mode, from (N, 3, H, W) to class scores s, (N, C), before any
            softmax. It stays in eval mode.
        size: height and width of the patch, in pixels.
        stride: the patches' upper left corners (a, b) are all multiples of `stride` for which the
            patch lies wholly inside the image. stride ≤ size, and stride divides H − size and
            W − size, so that each pixel is hidden at least once.
        grey: the value that the three channels of the patch take.

    Returns:
        map: float tensor (N, H, W): M, positive where hiding makes the score fall.
    """
    ### BEGIN SOLUTION
    N, _, H, W = X.shape
    falls, patches = X.new_zeros(N, H, W), X.new_zeros(H, W)
    with torch.no_grad():
        scores = model(X).gather(1, y[:, None])
        for a in range(0, H - size + 1, stride):
            for b in range(0, W - size + 1, stride):
                hidden = X.clone()
                hidden[:, :, a : a + size, b : b + size] = grey
                fall = scores - model(hidden).gather(1, y[:, None])
                falls[:, a : a + size, b : b + size] += fall[:, :, None]
                patches[a : a + size, b : b + size] += 1
    return falls / patches
    ### END SOLUTION


# %% test="occlusion_map" points=2 aspect="one image"
X_test, y_test, network = random_images(30, 1, 3, 6, 8), torch.tensor([3]), tiny_network(30)
### BEGIN EXPECTED
corners = [(a, b) for a in (0, 2) for b in (0, 2, 4)]


def patches_at(corners):
    """bool (P, 1, 6, 8): each patch's pixels."""
    patches = torch.zeros(len(corners), 1, 6, 8, dtype=torch.bool)
    for patch, (a, b) in zip(patches, corners, strict=True):
        patch[:, a : a + 4, b : b + 4] = True
    return patches


@torch.no_grad()
def falls_of(hidden, number=lambda scores: scores[:, 3]):
    """How far a number made of the scores falls for each image of `hidden`, (P, 1, 1, 1)."""
    return (number(network(X_test)) - number(network(hidden)))[:, None, None, None]


def mean(falls, patches):
    return ((falls * patches).sum(0) / patches.sum(0)).double()


def map_of(number):
    return mean(falls_of(hidden, number), patches)


def map_at(corners):
    patches = patches_at(corners)
    return mean(falls_of(torch.where(patches, 0.5, X_test)), patches)


patches = patches_at(corners)
hidden = torch.where(patches, 0.5, X_test)
falls = falls_of(hidden)
expected = reference.occlusion_map(X_test, y_test, network, size=4, stride=2)
last = torch.zeros_like(expected)
for fall, patch in zip(falls.flatten(), patches, strict=True):
    last[patch] = fall
red_only = torch.cat([hidden[:, :1], X_test[:, 1:].expand(len(hidden), -1, -1, -1)], dim=1)
mistakes = {
    "the sign is exchanged: it is the score's rise, not its fall": -expected,
    "the fall's absolute value is taken: the score may rise as well": expected.abs(),
    "falls are added up where patches overlap: take their mean": (falls * patches).sum(0),
    "the last patch decides where patches overlap (= for +=): take the mean": last,
    "the largest fall is kept where patches overlap: take their mean": (
        (falls.masked_fill(~patches, -torch.inf)).amax(0)
    ),
    "falls are divided by the number of all patches, not of those over the pixel": (
        (falls * patches).mean(0)
    ),
    "the score of the hidden image is recorded, not its fall": network(X_test)[0, 3] - expected,
    "each map is divided by its largest value: leave it as it is": expected / expected.max(),
    "there is one fall for each patch: each pixel needs a value": falls.reshape(1, 2, 3),
    "a patch stays where it was when the next one comes: hide in a new copy": (
        mean(falls_of(torch.where(patches.cumsum(0) > 0, 0.5, X_test)), patches)
    ),
    "the patch is black: `grey` is ignored": mean(falls_of(X_test * ~patches), patches),
    "the patch covers the first channel only": mean(falls_of(red_only), patches),
    "everything but the patch is hidden": (
        mean(falls_of(torch.where(patches, X_test, 0.5)), patches)
    ),
    "it is the fall of the probability, not of the score": (
        map_of(lambda scores: scores.softmax(1)[:, 3])
    ),
    "it is the fall of the log-probability (the rise of the loss), not of the score": (
        map_of(lambda scores: scores.log_softmax(1)[:, 3])
    ),
    "y is ignored: it is the fall of the highest score": map_of(lambda scores: scores.amax(1)),
    "y is ignored: it is the fall of all scores' sum": map_of(lambda scores: scores.sum(1)),
    "the patches move by 1: `stride` is ignored": (
        map_at([(a, b) for a in range(3) for b in range(5)])
    ),
    "the patches move by their own size: `stride` is ignored": map_at([(0, 0), (0, 4)]),
    "the last patches are missing: `range` ends one too early": map_at([(0, 0), (0, 2)]),
}
### END EXPECTED
check_close(
    occlusion_map(X_test, y_test, network, size=4, stride=2),
    expected,
    "occlusion_map(X, y, model, size=4, stride=2)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(occlusion_map)

# %% test="occlusion_map" points=1 aspect="a batch and another grey"
X_test, y_test, network = random_images(31, 3, 3, 7, 5), torch.tensor([4, 0, 2]), tiny_network(31)
### BEGIN EXPECTED
options = {"size": 3, "stride": 2, "grey": 0.2}
expected = reference.occlusion_map(X_test, y_test, network, **options)
every_label = [
    reference.occlusion_map(X_test, y_test[[n, n, n]], network, **options) for n in range(3)
]
mistakes = {
    "`grey` is ignored: 0.5 is used": reference.occlusion_map(X_test, y_test, network, 3, 2),
    "every image is asked for every label of the batch, as scores[:, y] does": sum(every_label),
    "every image is asked for the first image's class": every_label[0],
    "y is ignored: the predicted class is asked for": (
        reference.occlusion_map(X_test, network(X_test).argmax(1), network, **options)
    ),
    "the falls are averaged over the batch": expected.mean(0).expand(3, 7, 5),
    "the falls are added up over the batch": expected.sum(0).expand(3, 7, 5),
    "the model computes in training mode, in which images mix in BatchNorm": (
        in_other_mode(reference.occlusion_map, X_test, y_test, network, **options)
    ),
}
### END EXPECTED
check_close(
    occlusion_map(X_test, y_test, network, size=3, stride=2, grey=0.2),
    expected,
    "occlusion_map(X, y, model, size=3, stride=2, grey=0.2)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(occlusion_map)

# %% test="occlusion_map" points=2 aspect="other networks and patches"
# Other shapes, patches and networks are tried here.
### BEGIN HIDDEN TESTS
cases = [((2, 3, 9, 6), 3, 3, 0.1), ((1, 3, 5, 8), 2, 1, 0.9), ((4, 3, 6, 6), 6, 4, 0.5)]
for number, (shape, size, stride, grey) in enumerate(cases):
    seed = reference.seed + number
    X_test, network = random_images(seed, *shape), tiny_network(seed, activation=nn.ReLU)
    y_test = torch.randint(5, shape[:1], generator=torch.Generator().manual_seed(seed))
    expected = reference.occlusion_map(X_test, y_test, network, size, stride, grey)
    check_close(
        occlusion_map(X_test, y_test, network, size, stride, grey),
        expected,
        f"occlusion_map for images {shape}, patches of {size} at stride {stride}",
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test, y_test = random_images(reference.seed, 2, 3, 9, 7), torch.tensor([1, 4])
    expected = reference.occlusion_map(X_test, y_test, network, size=5, stride=2)
    check_close(
        occlusion_map(X_test, y_test, network, size=5, stride=2),
        expected,
        "occlusion_map for a network with a forward of its own",
        tolerance=1e-6,
    )
check_without(occlusion_map)
### END HIDDEN TESTS

# %% test="occlusion_map" points=1 aspect="written by hand"
X_test, y_test, network = random_images(32, 2, 3, 4, 6), torch.tensor([1, 0]), tiny_network(32)
### BEGIN EXPECTED
expected = reference.occlusion_map(X_test, y_test, network, size=2, stride=2)
### END EXPECTED
check_close(
    occlusion_map(X_test, y_test, network, size=2, stride=2),
    expected,
    "occlusion_map(X, y, model, size=2, stride=2)",
    tolerance=1e-6,
)
check_without(occlusion_map)

# %%
show_rows(
    {
        "scene": X_shown,
        "gradient": compute_saliency_maps(X_shown.clone(), y_shown, base),
        "patches 16 × 16": occlusion_map(X_shown, y_shown, base),
        "patches 8 × 8": occlusion_map(X_shown, y_shown, base, size=8, stride=4),
    },
    "Where hiding a piece makes the score fall (red), and where it makes it rise (blue)",
    titles,
    outlines,
)

# %% [markdown]
# Red: hiding this piece makes the score fall, so the piece spoke for the class. Blue: hiding it
# makes the score rise. A sign that a reader can use, at last; and regions, not grains. The price is
# in the third row: what is smaller than the patch can't be told apart. A smaller patch (fourth row)
# needs more passes through the network, which are counted below, and may hide too little of an
# object to matter. And a grey square is a thing in the picture, too: the network answers for a kind
# of picture that it was never trained on, and what the square *is* may count beside what it hides.

# %%
for size, stride in [(16, 8), (8, 4)]:
    patches = ((64 - size) // stride + 1) ** 2
    print(f"{size} × {size} pixels: {patches} patches, so {patches + 1} forward passes for a map")
print("a gradient: 1 forward and 1 backward pass")

# %% [markdown]
# ## 6. All the way from grey
#
# Can one have the fineness of a gradient and the sign of an experiment? A gradient describes the
# score next to the image only: a score that has levelled off there has a small gradient, however
# much the object did for it. So walk. **Integrated gradients** (Sundararajan, Taly and Yan, 2017)
# take a straight path from a *baseline* $b$, an image that shows nothing, to the image $x$, and
# average the gradients on the way:
#
# $$A_k(r, c) = (x - b)_k(r, c) \int_0^1 \frac{\partial s_y}{\partial x_k(r, c)}
#   \bigl(b + \alpha\,(x - b)\bigr)\, d\alpha$$
#
# By the chain rule and the fundamental theorem of calculus these attributions have a property that
# no map had so far, **completeness**: their sum is all that happened to the score on the way,
#
# $$\sum_{k, r, c} A_k(r, c) = s_y(x) - s_y(b).$$
#
# A computer takes the integral's mean over S points. We take the midpoints of S equal pieces,
# $\alpha_t = (t - \tfrac12) / S$, which needs fewer points than the pieces' ends (the paper's sum)
# for the same error.
#
# ### Exercise: `integrated_gradients`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# It is `smooth_grad` with other images: a loop over the S points, in each the signed gradient at
# `baseline + alpha * (X - baseline)`, and their mean. Multiply once, at the end.
#
# </details>


# %% exercise="integrated_gradients" changes="X.grad, X.requires_grad, model.grad" without="captum"
def integrated_gradients(X, y, model, baseline, steps=16):
    """Integrated gradients (Sundararajan, Taly & Yan, 2017), by the midpoint rule.

        A = (X − baseline) · 1/S Σ_t ∂ s_y / ∂ x, taken at x = baseline + α_t (X − baseline)
        α_t = (t − 1/2) / S,   t = 1, …, S

    Write the sum yourself: calling Captum earns no points.

    Args:
        X: images, float tensor (N, 3, H, W); its values stay as they are.
        y: the class asked about for each image, int64 tensor (N,).
        model: a network in eval mode, from (N, 3, H, W) to class scores s, (N, C), before any
            softmax. It stays in eval mode. Gradients may be left on its parameters.
        baseline: where each image's path begins, float tensor (N, 3, H, W).
        steps: S, the number of points on the path.

    Returns:
        attributions: float tensor (N, 3, H, W): A, with its sign.
    """
    ### BEGIN SOLUTION
    mean = torch.zeros_like(X)
    for t in range(steps):
        point = (baseline + (t + 0.5) / steps * (X - baseline)).detach().requires_grad_()
        scores = model(point).gather(1, y[:, None])
        mean += torch.autograd.grad(scores.sum(), point)[0] / steps
    return (X - baseline) * mean
    ### END SOLUTION


# %% test="integrated_gradients" points=2 aspect="one image"
X_test, y_test, network = random_images(40, 1, 3, 3, 4), torch.tensor([2]), tiny_network(40)
baseline_test = random_images(41, 1, 3, 3, 4)
### BEGIN EXPECTED
way = X_test - baseline_test


def gradients_at(alphas, start=baseline_test, way=way, number=lambda scores: scores[:, 2]):
    """The gradients of a number made of the scores at points start + α · way, (points, 3, 3, 4)."""
    points = torch.cat([start + alpha * way for alpha in alphas]).requires_grad_()
    return torch.autograd.grad(number(network(points)).sum(), points)[0]


def path(alphas, **options):
    return way * gradients_at(alphas, **options).mean(0)


middles = [1 / 6, 1 / 2, 5 / 6]
gradients = gradients_at(middles)
expected = reference.integrated_gradients(X_test, y_test, network, baseline_test, steps=3)
mistakes = {
    "the factor X − baseline is missing": gradients.mean(0)[None],
    "it is multiplied by X, not by X − baseline": X_test * gradients.mean(0),
    "the factor's sign is exchanged: it is X − baseline": -expected,
    "the gradients are added up, not averaged": way * gradients.sum(0),
    "the absolute value is taken: the sign is wanted here": expected.abs(),
    "the gradients' absolute values are averaged": way * gradients.abs().mean(0),
    "the channels are added up": expected.sum(1),
    "the attributions are averaged over the channels": expected.mean(1),
    "the points are the pieces' ends, t / S, not their middles": path([1 / 3, 2 / 3, 1]),
    "the points are the pieces' beginnings, (t − 1) / S, not their middles": (
        path([0, 1 / 3, 2 / 3])
    ),
    "the points run from 0 to 1 inclusive, as linspace(0, 1, S) has them": path([0, 1 / 2, 1]),
    "the points are t / (S + 1)": path([1 / 4, 1 / 2, 3 / 4]),
    "`steps` is ignored: there are 16 points": path([(t + 0.5) / 16 for t in range(16)]),
    "the gradient is taken at X alone": path([1]),
    "the gradient is taken at the baseline alone": path([0]),
    "the gradient is taken once, in the middle of the path": path([1 / 2]),
    "only the last point counts": path(middles[-1:]),
    "the path begins at black, α X: the baseline is ignored there": (
        path(middles, start=0 * way, way=X_test)
    ),
    "the baseline is ignored: black is used for it": (
        X_test * gradients_at(middles, start=0 * way, way=X_test).mean(0)
    ),
    "the points are baseline + α X: the path leads to X": path(middles, way=X_test),
    "it is the gradient of the softmax's probability, not of the score": (
        path(middles, number=lambda scores: scores.softmax(1)[:, 2])
    ),
    "it is the gradient of the log-probability, not of the score": (
        path(middles, number=lambda scores: scores.log_softmax(1)[:, 2])
    ),
    "it is the gradient of the cross-entropy loss, not of the score": (
        path(middles, number=lambda scores: -scores.log_softmax(1)[:, 2])
    ),
    "y is ignored: it is the gradient of the highest score": (
        path(middles, number=lambda scores: scores.amax(1))
    ),
    "the scores of all classes are added up: y is ignored": (
        path(middles, number=lambda scores: scores.sum(1))
    ),
}
### END EXPECTED
check_close(
    integrated_gradients(X_test, y_test, network, baseline_test, steps=3),
    expected,
    "integrated_gradients(X, y, model, baseline, steps=3) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(integrated_gradients)

# %% test="integrated_gradients" points=1 aspect="a batch"
X_test, y_test, network = random_images(42, 3, 3, 4, 3), torch.tensor([4, 0, 1]), tiny_network(42)
baseline_test = random_images(43, 3, 3, 4, 3)
### BEGIN EXPECTED
inputs = (X_test, y_test, network, baseline_test)
expected = reference.integrated_gradients(*inputs, steps=2)


def with_labels(labels):
    return reference.integrated_gradients(X_test, labels, network, baseline_test, steps=2)


every_label = [with_labels(y_test[[n, n, n]]) for n in range(3)]
# Two points for each of three images: the labels [4, 4, 0], [0, 1, 1] instead of [4, 0, 1] twice.
halves = [
    (X_test - baseline_test)
    * reference.integrated_gradients(point + 0.5, labels, network, point - 0.5, steps=1)
    for alpha, labels in [(0.25, y_test[[0, 0, 1]]), (0.75, y_test[[1, 2, 2]])]
    for point in [baseline_test + alpha * (X_test - baseline_test)]
]
mistakes = {
    "every image is asked for the first image's class": every_label[0],
    "every image is asked for every label of the batch, as scores[:, y] does": sum(every_label),
    "y is ignored: the predicted class is asked for": with_labels(network(X_test).argmax(1)),
    "the scores are averaged over the batch: add them up": expected / 3,
    "the attributions are averaged over the batch": expected.mean(0).expand(3, 3, 4, 3),
    "every path begins at the first image's baseline": reference.integrated_gradients(
        X_test, y_test, network, baseline_test[[0, 0, 0]], steps=2
    ),
    "labels and points don't match: each image's label stands S times in a row": sum(halves) / 2,
    "the model computes in training mode, in which images mix in BatchNorm": (
        in_other_mode(reference.integrated_gradients, *inputs, steps=2)
    ),
}
### END EXPECTED
check_close(
    integrated_gradients(X_test, y_test, network, baseline_test, steps=2),
    expected,
    "integrated_gradients(X, y, model, baseline, steps=2)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(integrated_gradients)

# %% test="integrated_gradients" points=2 aspect="other networks"
# Other shapes, numbers of steps and networks are tried here.
### BEGIN HIDDEN TESTS
for number, (shape, steps) in enumerate([((2, 3, 7, 4), 5), ((1, 3, 3, 6), 1), ((4, 3, 4, 4), 4)]):
    seed = reference.seed + number
    X_test, network = random_images(seed, *shape), tiny_network(seed, activation=nn.SiLU)
    baseline_test = random_images(seed + 1, *shape) - 0.3
    y_test = torch.randint(5, shape[:1], generator=torch.Generator().manual_seed(seed))
    expected = reference.integrated_gradients(X_test, y_test, network, baseline_test, steps)
    check_close(
        integrated_gradients(X_test, y_test, network, baseline_test, steps),
        expected,
        f"integrated_gradients for images {shape}, {steps} steps",
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test, y_test = random_images(reference.seed, 2, 3, 9, 8), torch.tensor([1, 4])
    baseline_test = random_images(reference.seed + 1, 2, 3, 9, 8)
    expected = reference.integrated_gradients(X_test, y_test, network, baseline_test, 3)
    check_close(
        integrated_gradients(X_test, y_test, network, baseline_test, 3),
        expected,
        "integrated_gradients for a network with a forward of its own",
        tolerance=1e-6,
    )
check_without(integrated_gradients)
### END HIDDEN TESTS

# %% test="integrated_gradients" points=1 aspect="written by hand"
X_test, y_test, network = random_images(44, 2, 3, 3, 5), torch.tensor([0, 3]), tiny_network(44)
baseline_test = torch.full_like(X_test, 0.5)
### BEGIN EXPECTED
expected = reference.integrated_gradients(X_test, y_test, network, baseline_test, steps=4)
### END EXPECTED
check_close(
    integrated_gradients(X_test, y_test, network, baseline_test, steps=4),
    expected,
    "integrated_gradients(X, y, model, baseline, steps=4)",
    tolerance=1e-6,
)
check_without(integrated_gradients)

# %%
grey = torch.full_like(X, 0.5)
attributions = integrated_gradients(X.clone(), y, base, grey)
attributions_shown = integrated_gradients(
    X_shown.clone(), y_shown, base, torch.full_like(X_shown, 0.5)
)
show_rows(
    {
        "scene": X_shown,
        "gradient, signed": signed.sum(1),
        "integrated": attributions_shown.sum(1),
    },
    "Attributions (red: for the class, blue: against it) gather on the object",
    titles,
    outlines,
)

with torch.no_grad():
    risen = (base(X) - base(grey)).gather(1, y[:, None])[:, 0].cpu()
sums = {
    steps: integrated_gradients(X.clone(), y, base, grey, steps).sum((1, 2, 3)).detach().cpu()
    for steps in (2, 4)
} | {16: attributions.sum((1, 2, 3)).detach().cpu()}
figure, ax = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
ax.axline((0, 0), slope=1, color="0.6", linewidth=1)
looks = [("^", "#E69F00"), ("s", "#56B4E9"), ("o", "black")]
for (steps, total), (marker, colour) in zip(sums.items(), looks, strict=True):
    error = (total - risen).abs().mean()
    label = f"{steps} steps: {error:.2f} off on average"
    ax.scatter(risen, total, s=16, marker=marker, color=colour, label=label)
ax.set_xlabel("score of the image − score of grey")
ax.set_ylabel("sum of the attributions")
ax.set_title("Completeness: with enough steps, every point is on the line", fontsize=11)
ax.legend(fontsize=9)
plt.show()

# %% [markdown]
# The sum of 12,288 attributions is one number that can be checked, and the second figure checks it:
# with 16 steps, each of the 48 sums is the score's rise from grey to the image, up to a little that
# more steps take away. Make this check whenever you use the method; it costs two forward passes.
#
# It doesn't say that each single attribution is right: many ways of sharing out the rise have the
# same sum, and in the first figure grains still flip their sign from pixel to pixel. And all of
# them are shares of a *difference*. Where image and baseline are the same, $x - b = 0$, and a pixel
# gets nothing, whatever the network makes of it. From grey, a grey object is worth nothing; from
# black, a black one. So a map of this kind has to be shown with its baseline.
#
# ## 7. Erase by rank
#
# Four ways to make a map by now. Which is right? A map ranks pixels. If the ranking is good, then
# the pixels at its top are those that the network needs, so erase them, in this order, and watch
# the probability of the class: the sooner it falls, the better the ranking. This is the **deletion
# curve** (Petsiuk, Das and Saenko, 2018). The area under it is the map's mark; less is better. No
# mask is needed, so it can be had for any picture.
#
# ### Exercise: `deletion_curve`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# `saliency.flatten(1).argsort(dim=1, descending=True)` says which pixel comes first, second, … For
# a mask of erased pixels you need the opposite: the *rank* of each pixel. The `argsort` of an
# `argsort` is that.
#
# </details>


# %% exercise="deletion_curve"
def deletion_curve(X, y, model, saliency, filling, steps=16):
    """The probability of class y while pixels are erased, the most salient ones first.

    At point t = 0, 1, …, S of the curve, the t · H·W / S pixels of largest saliency have the
    colour that `filling` has there, in all three channels, and the others are as in X. (The causal
    metric "deletion" of Petsiuk, Das & Saenko, RISE, 2018.)

    Args:
        X: images, float tensor (N, 3, H, W); it stays as it is.
        y: the class asked about for each image, int64 tensor (N,).
        model: a network in eval mode, from (N, 3, H, W) to class scores (N, C), before the
            softmax. It stays in eval mode.
        saliency: a map for each image, float tensor (N, H, W), of any sign. Pixels of equal
            saliency may be erased in any order.
        filling: what is put in the place of erased pixels, float tensor (N, 3, H, W).
        steps: S, which divides H · W.

    Returns:
        curve: float tensor (N, S + 1): the softmax's probability of y_n, from the whole image to
            the one that is all filling.
    """
    ### BEGIN SOLUTION
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    rank = order.argsort(dim=1).reshape(saliency.shape)
    pixels, curve = saliency[0].numel() // steps, []
    with torch.no_grad():
        for t in range(steps + 1):
            erased = (rank < t * pixels)[:, None]
            scores = model(torch.where(erased, filling, X))
            curve.append(scores.softmax(dim=1).gather(1, y[:, None]))
    return torch.cat(curve, dim=1)
    ### END SOLUTION


# %% test="deletion_curve" points=2 aspect="one image"
X_test, y_test, network = random_images(50, 1, 3, 4, 6), torch.tensor([3]), tiny_network(50)
map_test, filling_test = random_images(51, 1, 4, 6) - 0.5, random_images(52, 1, 3, 4, 6)
### BEGIN EXPECTED
expected = reference.deletion_curve(X_test, y_test, network, map_test, filling_test, steps=4)


def with_map(saliency):
    return reference.deletion_curve(X_test, y_test, network, saliency, filling_test, steps=4)


rank = (-map_test).flatten().argsort().argsort().reshape(4, 6)
shares = (map_test.max() - map_test) / (map_test.max() - map_test.min())


@torch.no_grad()
def curve(erased, filling=filling_test, number=lambda scores: scores.softmax(1)[:, 3]):
    """A number made of the scores, (1, points), with the pixels of each bool (4, 6) erased."""
    return number(network(torch.cat([torch.where(e, filling, X_test) for e in erased])))[None]


so_far = [rank < 6 * t for t in range(5)]
mistakes = {
    "the least salient pixels are erased first": with_map(-map_test),
    "the saliency's absolute value is ranked": with_map(map_test.abs()),
    "an order isn't a rank: argsort says which pixel comes t-th, not when a pixel's turn is": (
        with_map(-(-map_test).flatten().argsort().reshape(1, 4, 6).double())
    ),
    "the pixels are erased row by row: the saliency is ignored": (
        with_map(-torch.arange(24.0).reshape(1, 4, 6))
    ),
    "only the pixels of the last step are erased: those before came back": (
        curve([(rank < 6 * t) & (rank >= 6 * t - 6) for t in range(5)])
    ),
    "pixels are put in, not erased: that is the insertion curve": curve([~e for e in so_far]),
    "pixels are put in, least salient first, which is the curve backwards": expected.flip(1),
    "erased pixels are black: `filling` is ignored": curve(so_far, 0 * filling_test),
    "erased pixels are grey: `filling` is ignored": curve(so_far, 0 * filling_test + 0.5),
    "erased pixels get the filling's mean colour": (
        curve(so_far, filling_test.mean((2, 3), keepdim=True))
    ),
    "one channel is erased only: a pixel has three": (
        curve(so_far, torch.cat([filling_test[:, :1], X_test[:, 1:]], 1))
    ),
    "the shares are taken of the range of values, not of the pixels": (
        curve([shares <= t / 4 if t else shares < 0 for t in range(5)])
    ),
    "one pixel is erased at each step, not H·W / S": curve([rank < t for t in range(5)]),
    "S pixels are erased at each step, not H·W / S": curve([rank < 4 * t for t in range(5)]),
    "one pixel too many is erased at each point": curve([rank <= 6 * t for t in range(5)]),
    "the first point is missing: the whole image counts too": expected[:, 1:],
    "the last point is missing: all filling counts too": expected[:, :-1],
    "it is the score, not the probability": curve(so_far, number=lambda scores: scores[:, 3]),
    "it is the logarithm of the probability": expected.log(),
    "it is the fall of the probability, not the probability": expected[:, :1] - expected,
    "it is divided by the whole image's probability": expected / expected[:, :1],
    "it is the highest probability: y is ignored": (
        curve(so_far, number=lambda scores: scores.softmax(1).amax(1))
    ),
    "the probability is a sigmoid's: the classes exclude each other": (
        curve(so_far, number=lambda scores: scores[:, 3].sigmoid())
    ),
    "the area under the curve is returned: the curve itself is asked for": (
        torch.trapezoid(expected, dx=1 / 4)
    ),
}
### END EXPECTED
check_close(
    deletion_curve(X_test, y_test, network, map_test, filling_test, steps=4),
    expected,
    "deletion_curve(X, y, model, saliency, filling, steps=4) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="deletion_curve" points=1 aspect="a batch"
X_test, y_test, network = random_images(53, 3, 3, 5, 4), torch.tensor([0, 3, 2]), tiny_network(53)
map_test, filling_test = random_images(54, 3, 5, 4), random_images(55, 3, 3, 5, 4)
map_test[1] += 0.3
### BEGIN EXPECTED
inputs = (X_test, y_test, network, map_test, filling_test)
expected = reference.deletion_curve(*inputs, steps=5)


def with_labels(labels):
    return reference.deletion_curve(X_test, labels, network, map_test, filling_test, steps=5)


rank = (-map_test).flatten().argsort().argsort().reshape(3, 5, 4)
with torch.no_grad():
    pictures = [torch.where((rank < 12 * t)[:, None], filling_test, X_test) for t in range(6)]
    as_one = [network(images).softmax(1).gather(1, y_test[:, None]) for images in pictures]
mistakes = {
    "every image is asked for the first image's class": with_labels(y_test[[0, 0, 0]]),
    "y is ignored: the class predicted for the whole image is asked for": (
        with_labels(network(X_test).argmax(1))
    ),
    "the pixels of all images are ranked together: each map has its own order": (
        torch.cat(as_one, dim=1)
    ),
    "every image is erased in the first map's order": reference.deletion_curve(
        X_test, y_test, network, map_test[[0, 0, 0]], filling_test, steps=5
    ),
    "every image is filled from the first filling": reference.deletion_curve(
        X_test, y_test, network, map_test, filling_test[[0, 0, 0]], steps=5
    ),
    "points and images are exchanged: one row for each image is asked for": expected.T,
    "the curves are averaged over the batch": expected.mean(0),
    "the model computes in training mode, in which images mix in BatchNorm": (
        in_other_mode(reference.deletion_curve, *inputs, steps=5)
    ),
}
### END EXPECTED
check_close(
    deletion_curve(X_test, y_test, network, map_test, filling_test, steps=5),
    expected,
    "deletion_curve(X, y, model, saliency, filling, steps=5)",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="deletion_curve" points=2 aspect="other networks"
# Other shapes, numbers of steps and networks are tried here.
### BEGIN HIDDEN TESTS
cases = [((2, 3, 6, 4), 24), ((1, 3, 3, 6), 1), ((4, 3, 4, 4), 8), ((3, 3, 4, 8), 16)]
for number, (shape, steps) in enumerate(cases):
    seed = reference.seed + number
    X_test, network = random_images(seed, *shape), tiny_network(seed, activation=nn.ReLU)
    filling_test = random_images(seed + 1, *shape)
    map_test = random_images(seed + 2, shape[0], *shape[2:]) - 0.7
    y_test = torch.randint(5, shape[:1], generator=torch.Generator().manual_seed(seed))
    expected = reference.deletion_curve(X_test, y_test, network, map_test, filling_test, steps)
    check_close(
        deletion_curve(X_test, y_test, network, map_test, filling_test, steps),
        expected,
        f"deletion_curve for images {shape}, {steps} steps",
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test, y_test = random_images(reference.seed, 2, 3, 9, 8), torch.tensor([1, 4])
    filling_test = random_images(reference.seed + 1, 2, 3, 9, 8)
    map_test = random_images(reference.seed + 2, 2, 9, 8)
    expected = reference.deletion_curve(X_test, y_test, network, map_test, filling_test, 6)
    check_close(
        deletion_curve(X_test, y_test, network, map_test, filling_test, 6),
        expected,
        "deletion_curve for a network with a forward of its own",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# Six orders compete: the four maps of this lab, and two that know nothing of the network, the edge
# filter of section 4 and an order drawn by lot. Erased pixels turn grey. The whole is repeated with
# another filling: the image itself, blurred until nothing can be recognised in it.

# %%
by_lot = torch.rand(X[:, 0].shape, generator=torch.Generator().manual_seed(0)).to(device)
orders = {
    "gradient": compute_saliency_maps(X.clone(), y, base),
    "SmoothGrad": smooth_maps["base"],
    "integrated": attributions.sum(1),
    "occlusion": occlusion_map(X, y, base),
    "edges, no network": edges.to(device),
    "by lot": by_lot,
}
blurry_images = np.stack([gaussian(image, 6, channel_axis=-1) for image in scenes.images / 255])
fillings = {"grey": grey, "blurred": torch.from_numpy(blurry_images).permute(0, 3, 1, 2).to(X)}
# The same network in a layout in which it answers more quickly: here it is asked 9,792 times.
quick = copy.deepcopy(base).to(memory_format=torch.channels_last)
deletion = {
    (name, filling): deletion_curve(X, y, quick, order.detach(), pixels).cpu()
    for name, order in orders.items()
    for filling, pixels in fillings.items()
}
areas = {key: torch.trapezoid(curve, dx=1 / 16) for key, curve in deletion.items()}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
figure.suptitle("All maps erase the class quickly, the edge filter nearly so, the lot slowly")
looks = [("-", "#0072B2"), ("--", "#56B4E9"), ("-", "black"), ("-.", "#D55E00"), (":", "0.3")]
looks.append(("-", "0.65"))
for ax, filling in zip(axes, fillings, strict=True):
    for name, (style, colour) in zip(orders, looks, strict=True):
        curve = deletion[name, filling].mean(0)
        ax.plot(np.linspace(0, 1, 17), curve, style, color=colour, label=name)
    ax.axhline(0.1, color="0.8", linewidth=1, zorder=0)
    ax.set_xlabel("share of the pixels erased")
    ax.set_title(f"erased pixels are {filling}", fontsize=10)
axes[0].set_ylabel("probability of the class, mean")
axes[0].legend(fontsize=8)
plt.show()

print("area under the deletion curve, mean of 48 scenes ± its standard error")
print(f"{'':18} {'grey':>14} {'blurred':>14}")
for name in orders:
    cells = [areas[name, filling] for filling in fillings]
    print(f"{name:18}", *(f"{a.mean():7.3f} ± {a.std() / len(a) ** 0.5:.3f}" for a in cells))


def erased_by(name, steps):
    """The first seven scenes without the first `steps` sixteenths of an order's pixels."""
    rank = (-orders[name][:7]).flatten(1).argsort(1).argsort(1).reshape(7, 64, 64)
    return torch.where((rank < steps * 256)[:, None], grey[:7], X[:7])


by_rank, left = deletion["integrated", "grey"][:, 1], deletion["by lot", "grey"][:, 5]
show_rows(
    {
        "scene": X[:7],
        "integrated:\n1/16 erased": erased_by("integrated", 1),
        "by lot:\n5/16 erased": erased_by("by lot", 5),
    },
    "What the network is asked about: pictures of a kind that it has never seen",
    [f"{CLASS_NAMES[y[n]]}\np: {by_rank[n]:.2f} and {left[n]:.2f}" for n in range(7)],
)
print(f"mean probability: {by_rank.mean():.2f} and {left.mean():.2f}, of 48 scenes")

# %% [markdown]
# Every map beats the lot by far, so every map knows something. Between the maps look twice before
# you rank them. The edge filter, which knows nothing of the network, does about as well as
# occlusion. The differences between neighbours in the table are of the size of their standard
# errors, and some nearly vanish with the other filling. And on the left the winner has an
# advantage: integrated gradients from *grey* measure just what turning pixels *grey* does. (On the
# right, where erased pixels turn into something else, they are first as well.)
#
# Then look at the pictures. With one sixteenth of the pixels gone, scattered over the object, you
# still see what it is; the network doesn't. With five sixteenths erased by lot you see it, too, and
# on average the network is half lost. So a curve falls for two reasons that it can't tell apart:
# the evidence is gone, or the picture is of a kind on which the network never learned to answer.
# Smooth maps, such as occlusion's, erase whole regions. Grainy maps sow single grey pixels all over
# the object, and single grey pixels alone upset the network, as the lot shows. Hooker et al. (2019)
# therefore train the network anew on erased pictures before they ask it. That costs a training for
# each map and each share, and it answers for another network than the one in question.

# %% [markdown]
# ## 8. Segmentation for free
#
# Nobody told the network where an object ends. Yet a saliency map and a classical method, in which
# nothing is learned from labelled masks, cut it out (Simonyan et al., 2014). The map gives the
# **seeds**: its most salient pixels are surely object, its least salient ones surely background.
# Two mixtures of Gaussians then learn the colours of the seeds, in this one picture; and where the
# colours leave a doubt, a random walker (Grady, 2006) asks which seeds are reached first without
# crossing an edge. (Simonyan et al. use graph cuts for this last step.)
#
# ### Exercise: `saliency_seeds`
# ★☆☆ · 10 minutes
#
# <details><summary>Hint</summary>
#
# Two thresholds do: `saliency.flatten().quantile(1 − object_share)` and
# `saliency.flatten().quantile(background_share)`.
#
# </details>


# %% exercise="saliency_seeds"
def saliency_seeds(saliency, object_share=0.05, background_share=0.7):
    """Where a saliency map is sure: seeds for a segmentation.

    Args:
        saliency: one map, float tensor (H, W), no two values equal.
        object_share: the share of all pixels, those of largest value, that are surely object.
        background_share: the share of all pixels, those of smallest value, that are surely
            background. In the tests both shares come to whole numbers of pixels.

    Returns:
        seeds: int64 tensor (H, W): 1 object, 2 background, 0 undecided.
    """
    ### BEGIN SOLUTION
    values = saliency.flatten()
    seeds = torch.zeros_like(saliency, dtype=torch.int64)
    seeds[saliency > values.quantile(1 - object_share)] = 1
    seeds[saliency < values.quantile(background_share)] = 2
    return seeds
    ### END SOLUTION


# %% test="saliency_seeds" points=2 aspect="one map"
saliency_test = random_images(6, 5, 8) ** 3 + 0.5
### BEGIN EXPECTED
expected = reference.saliency_seeds(saliency_test, object_share=0.1, background_share=0.4)
rank = saliency_test.flatten().argsort().argsort().reshape(5, 8)
lowest, highest = saliency_test.min(), saliency_test.max()


def between(high, low, values=saliency_test):
    """Seeds from the values from `high` on and below `low`."""
    return (values >= high).long() + 2 * (values < low).long()


mistakes = {
    "the labels of object and background are exchanged": (3 - expected) * (expected > 0),
    "undecided pixels are labelled background": expected + 2 * (expected == 0),
    "the background's label is -1, not 2": expected - 3 * (expected == 2),
    "object is 2 and undecided is 1": torch.tensor([1, 2, 0])[expected],
    "the shares are taken of the largest value, not of the pixels": (
        between(0.9 * highest, 0.4 * highest)
    ),
    "the shares are taken of the range of values, not of the pixels": between(
        highest - 0.1 * (highest - lowest), lowest + 0.4 * (highest - lowest)
    ),
    "the most salient pixels are taken for background, and the least for object": (
        2 * (rank >= 24).long() + (rank < 4).long()
    ),
    "object_share is used as the threshold's own quantile: 1 − object_share is meant": (
        torch.where(rank < 16, 2, (rank >= 4).long())
    ),
    "object_share and background_share are exchanged": between(24, 4, rank),
    "the quantiles are taken of each row": (
        (saliency_test > saliency_test.quantile(0.9, dim=1, keepdim=True)).long()
        + 2 * (saliency_test < saliency_test.quantile(0.4, dim=1, keepdim=True)).long()
    ),
    "the shares are ignored: the defaults are used": between(38, 28, rank),
}
### END EXPECTED
seeds = saliency_seeds(saliency_test, object_share=0.1, background_share=0.4)
check_close(
    seeds,
    expected,
    "saliency_seeds(saliency, object_share=0.1, background_share=0.4)",
    mistakes=mistakes,
)
assert seeds.dtype == torch.int64, f"saliency_seeds: expected int64, got {seeds.dtype}"

# %% test="saliency_seeds" points=1 aspect="general shares"
# Other maps and shares are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, shares in [((4, 5), (0.05, 0.5)), ((10, 6), (0.2, 0.3)), ((8, 8), (0.25, 0.125))]:
    # An even spread of ranks, moved off the thresholds and below zero.
    maps = torch.randperm(shape[0] * shape[1], generator=generator).double().reshape(shape) ** 1.3
    check_close(
        saliency_seeds(maps - 20, *shares),
        reference.saliency_seeds(maps - 20, *shares),
        f"saliency_seeds for a map {shape}, shares {shares}",
    )
### END HIDDEN TESTS

# %%
from matplotlib.colors import ListedColormap
from skimage.segmentation import random_walker
from sklearn.mixture import GaussianMixture


def segment(image, seeds):
    """Grow seeds (H, W) by colours and edges; image: uint8 (H, W, 3). Returns a bool mask."""
    colours = image.reshape(-1, 3) / 255
    object_colours, background_colours = (
        GaussianMixture(3, reg_covar=1e-3, random_state=0).fit(colours[seeds.ravel() == label])
        for label in (1, 2)
    )
    evidence = object_colours.score_samples(colours) - background_colours.score_samples(colours)
    evidence = gaussian(evidence.clip(-6, 6).reshape(seeds.shape), 1)
    return random_walker(evidence, seeds, beta=60, mode="bf") == 1


def blurred(maps):
    return torch.stack([torch.from_numpy(gaussian(m.detach().cpu().numpy(), 2)) for m in maps])


soft_maps = blurred(smooth_maps["base"])
seeds = torch.stack([saliency_seeds(saliency) for saliency in soft_maps])
cut_outs = torch.stack(
    [
        torch.from_numpy(segment(image, s.numpy()))
        for image, s in zip(scenes.images, seeds, strict=True)
    ]
)
thresholds = soft_maps.flatten(1).quantile(1 - masks.float().mean().item(), dim=1)
thresholded = soft_maps > thresholds[:, None, None]
wrong_pixels = (cut_outs != masks.cpu()).float().mean((1, 2))
columns = [
    (scenes.images[i], seeds[i], cut_outs[i], CLASS_NAMES[y[i]], f"{wrong_pixels[i]:.0%} wrong", i)
    for i in wrong_pixels.argsort()[torch.linspace(0, 47, 7).long()]
]
if mine is not None:
    picture, its_seeds = own.load(64), saliency_seeds(blurred(smooth(mine, y_shown[7:], base))[0])
    columns.append((picture, its_seeds, segment(picture, its_seeds.numpy()), titles[7], "", None))
seed_colours = ListedColormap(["white", "#D55E00", "#56B4E9"])
size = (1.5 * len(columns), 5)
figure, axes = plt.subplots(3, len(columns), figsize=size, layout="constrained")
figure.suptitle("Cut out without ever having seen a mask, from the best to the worst of 48")
for column, (picture, its_seeds, segmented, title, verdict, index) in zip(
    axes.T, columns, strict=True
):
    column[0].imshow(picture)
    column[0].set_title(title, fontsize=9)
    seed_image = column[1].imshow(its_seeds, cmap=seed_colours, vmin=0, vmax=2)
    column[2].imshow(np.where(segmented[..., None], picture, 255))
    column[2].set_title(verdict, fontsize=9)
    if index is not None:
        column[2].contour(masks[index].cpu(), [0.5], colors="black", linewidths=0.8)
for row, name in zip(axes, ["scene", "seeds", "segment\n(line: truth)"], strict=True):
    row[0].set_ylabel(name)
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
bar = figure.colorbar(seed_image, ax=axes[1], ticks=[1 / 3, 1, 5 / 3])
bar.ax.set_yticklabels(["undecided", "object", "background"], fontsize=8)
plt.show()
wrong_by_threshold = (thresholded != masks.cpu()).float().mean()
print(
    f"pixels on the wrong side, mean: {wrong_pixels.mean():.1%} grown from seeds,"
    f" {wrong_by_threshold:.1%} by a threshold, {masks.float().mean():.1%} if nothing is cut out"
)

# %% [markdown]
# The map is blurred, its top 5% and bottom 70% become seeds, and colours and edges do the rest.
# Growing beats cutting the same blurred map at one threshold, although that threshold was told how
# large objects are on average. It fails, as in the last columns, where the seeds are wrong (a peak
# beside the object teaches the wrong colours) or where the background has the object's colours.
# Nothing here was supervised by masks; but we did choose the shares, the blur and the settings of
# the colour model by looking at results. (A picture of your own comes last. If what is cut out
# isn't what you would have cut out, look at its seeds.)

# %% [markdown]
# ### Exercise: `intersection_over_union`
# ★☆☆ · 10 minutes · optional
#
# Few pixels on the wrong side can still be half of a small object. How good is a segmentation?
# Count the pixels that it shares with the truth, and divide by those that either of the two has:
#
# $$\mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}$$
#
# Background that both leave out doesn't count, so an empty segmentation can't shine.


# %% exercise="intersection_over_union"
def intersection_over_union(segments, masks):
    """How well each segment covers its mask: |A ∩ B| / |A ∪ B|.

    Args:
        segments: bool tensor (N, H, W).
        masks: bool tensor (N, H, W).

    Returns:
        iou: float tensor (N,) with values from 0 to 1; 1 where segment and mask are both empty.
    """
    ### BEGIN SOLUTION
    intersection = (segments & masks).sum(dim=(1, 2))
    union = (segments | masks).sum(dim=(1, 2))
    return torch.where(union > 0, intersection / union, 1.0)
    ### END SOLUTION


# %% test="intersection_over_union" points=1 aspect="a batch, and one segment"
segments_test = random_images(8, 4, 4, 6) < torch.tensor([0.2, 0.5, 0.7, 0.0])[:, None, None]
masks_test = random_images(9, 4, 4, 6) < torch.tensor([0.6, 0.4, 0.5, 0.3])[:, None, None]
### BEGIN EXPECTED
expected = reference.intersection_over_union(segments_test, masks_test)
both, either = (segments_test & masks_test).sum((1, 2)), (segments_test | masks_test).sum((1, 2))
sizes = segments_test.sum((1, 2)) + masks_test.sum((1, 2))
mistakes = {
    "the union counts the shared pixels twice": both / sizes,
    "it is the Dice coefficient, 2 |A ∩ B| / (|A| + |B|)": 2 * both / sizes,
    "it is divided by the mask alone: pixels outside it cost nothing": (
        both / masks_test.sum((1, 2))
    ),
    "it is divided by the image: the share of pixels in both": both / 24,
    "it is the share of pixels on which both agree, background included": (
        (segments_test == masks_test).double().mean((1, 2))
    ),
    "the whole batch is counted as one image": both.sum() / either.sum(),
    "the mean over the batch is returned": expected.mean(),
    "it is rounded down to whole numbers": both // either,
}
alone = expected[:1]
### END EXPECTED
check_close(
    intersection_over_union(segments_test, masks_test),
    expected,
    "intersection_over_union(segments, masks)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_close(
    intersection_over_union(segments_test[:1], masks_test[:1]),
    alone,
    "intersection_over_union(segments, masks) for one segment",
    tolerance=1e-6,
)

# %% test="intersection_over_union" points=1 aspect="empty masks"
segments_test, masks_test = torch.zeros(2, 3, 4).bool(), torch.zeros(2, 3, 4).bool()
masks_test[1, 0, 0] = True
### BEGIN EXPECTED
expected = reference.intersection_over_union(segments_test, masks_test)
mistakes = {
    "two empty masks give 0: they agree, so 1": torch.tensor([0.0, 0.0]),
    "0 / 0 is not dealt with: two empty masks agree, so 1": torch.tensor([torch.nan, 0.0]),
}
### END EXPECTED
check_close(
    intersection_over_union(segments_test, masks_test),
    expected,
    "intersection_over_union where both are empty, and where the segment is",
    mistakes=mistakes,
)

# %% test="intersection_over_union" points=1 aspect="general shapes"
# Other shapes are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(5, 3, 8), (1, 6, 2), (3, 4, 4)]:
    segments = torch.rand(shape, generator=generator) < 0.4
    masks_random = torch.rand(shape, generator=generator) < 0.6
    check_close(
        intersection_over_union(segments.clone(), masks_random.clone()),
        reference.intersection_over_union(segments, masks_random),
        f"intersection_over_union for masks {shape}",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# ### The same segments, scored (optional)

# %%
for name, cut_out in [("grown from seeds", cut_outs), ("by a threshold", thresholded)]:
    iou = intersection_over_union(cut_out, masks.cpu())
    print(f"{name:16}: IoU {iou.mean():.2f} on average, {iou.min():.2f} at worst")

# %% [markdown]
# ## 9. A network that cheats
#
# In a famous experiment a classifier told wolves from huskies by the snow behind the wolves. It
# was made bad on purpose: its twenty training pictures were chosen so that there was snow behind
# every wolf and behind no husky. Then 27 students judged it. Before they saw its explanations, 10
# trusted it, and 12 thought of the snow; afterwards 3 trusted it, and 25 named the snow (Ribeiro
# et al., 2016). `biased` is such a network: all its training pictures had a background whose hue
# tells the class. And unlike the other networks it was trained without exchanging colour channels,
# so that nothing took this cue away.

# %%
cheat = make_scenes(48, np.random.default_rng(2), "biased")
X_cheat, y_cheat = (tensor.to(device) for tensor in cheat.tensors())
masks_cheat = torch.from_numpy(cheat.masks).to(device)


def accuracy(model, images, labels):
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


print("accuracy        coloured backgrounds   neutral backgrounds")
for name in ("base", "biased"):
    print(
        f"{name:14} {accuracy(networks[name], X_cheat, y_cheat):21.2f}"
        f" {accuracy(networks[name], X, y):21.2f}"
    )
cheat_maps = {name: smooth(X_cheat, y_cheat, networks[name]) for name in ("base", "biased")}
show_rows(
    {"scene": X_cheat[:7]} | {name: maps[:7] for name, maps in cheat_maps.items()},
    "SmoothGrad of biased is spread out: a hint, not a proof",
    [CLASS_NAMES[label] for label in y_cheat[:7]],
    masks_cheat,
)
for name, maps in cheat_maps.items():
    share = pointing_game(maps, masks_cheat).float().mean().item()
    print(f"{name}: {share:.2f} of SmoothGrad's peaks lie on the object")
print(f"the object's share of the image: {masks_cheat.float().mean():.2f}")

# %% [markdown]
# The network fails where the background is neutral, so it must be using the colour. Its maps hint
# at it: they are spread over the whole picture. But they are hard to read. Some maps of `base` are
# spread out as well, and the peaks of `biased` still lie on the object more than twice as often as
# chance would have them. Shown one well-chosen map, you might sign this network off.
#
# Two of your functions ask otherwise. Occlusion makes the change that a gradient only speaks of. And
# the attributions of integrated gradients are shares of one sum, signed, so that they may be added
# up over a region: what did the object do for the score, as a whole, and what the background? The
# absolute value can't answer that. A colour cast is *many small pushes in the same direction*, tiny
# at each pixel and all of the same sign, while the grains on the object are large and cancel.
#
# On the right of the figure is an experiment that needs no map: exchange the colour channels of one
# region, leave the rest, and count the right answers.

# %%
some, y_some, masks_some = X_cheat[:24], y_cheat[:24], masks_cheat[:24]
grey_some = torch.full_like(some, 0.5)
other_colours = X_cheat[:, [1, 2, 0]]  # red becomes green, and so on
is_object = masks_cheat[:, None]
shares, changed, cheat_rows, on_object = {}, {}, {"scene": X_cheat[:7]}, {}
for name in ("base", "biased"):
    network = networks[name]
    parts = integrated_gradients(some.clone(), y_some, network, grey_some).sum(1).detach()
    shares[name] = [
        (parts * region).sum((1, 2)).mean().item() for region in (masks_some, ~masks_some)
    ]
    hiding = occlusion_map(some, y_some, network)
    cheat_rows[f"{name}:\nocclusion"] = hiding[:7]
    on_object[name] = pointing_game(hiding, masks_some).float().mean().item()
    changed[name] = [
        accuracy(network, torch.where(is_object, other_colours, X_cheat), y_cheat),
        accuracy(network, torch.where(is_object, X_cheat, other_colours), y_cheat),
    ]
show_rows(
    cheat_rows,
    "Hide a piece: base misses the object, biased the background",
    [CLASS_NAMES[label] for label in y_some[:7]],
    masks_some,
)
for name, share in on_object.items():
    print(f"{name}: {share:.2f} of occlusion's peaks lie on the object, of 24 scenes")

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
figure.suptitle("The sums say who did the work, and an experiment agrees")
for ax, values, label, form in [
    (axes[0], shares, "sum of integrated gradients, mean", "{:z.1f}"),
    (axes[1], changed, "accuracy with this region's colours exchanged", "%.2f"),
]:
    for offset, (name, colour) in [(-0.2, ("base", "0.6")), (0.2, ("biased", "#0072B2"))]:
        bars = ax.bar(np.arange(2) + offset, values[name], 0.38, label=name, color=colour)
        ax.bar_label(bars, fmt=form, padding=2)
    ax.axhline(0, color="0.7", linewidth=1)
    ax.set_xticks([0, 1], labels=["object", "background"])
    ax.set_ylabel(label, fontsize=9)
    ax.margins(y=0.15)
axes[0].legend()
plt.show()

blurry_some = np.stack([gaussian(image, 6, channel_axis=-1) for image in cheat.images[:24] / 255])
blurry_some = torch.from_numpy(blurry_some).permute(0, 3, 1, 2).to(X)
parts = integrated_gradients(some.clone(), y_some, biased, blurry_some).sum(1).detach()
print(
    "biased, from the blurred image instead of grey:"
    f" object {(parts * masks_some).sum((1, 2)).mean():.1f},"
    f" background {(parts * ~masks_some).sum((1, 2)).mean():.1f}"
)

# %% [markdown]
# For `base` the object does all of the work, and the background a little against it. For `biased`
# it is the other way round: the object comes to about nothing, as a whole, although the largest
# grains of SmoothGrad's maps are often on it. Occlusion agrees, and so does the experiment.
# `biased` doesn't mind a recoloured object at all, and loses everything with a recoloured
# background. (That `base` minds neither is no surprise: it has seen channels exchanged all through
# its training.)
#
# Don't conclude that sums always tell. The last line printed starts the path at the blurred image
# instead of grey. The blurred image has the same hue, so nothing is left for the background to be
# credited with: the cheat is gone from the sums, and not from the network. The choice of the
# baseline was the choice of what can be found. A map raises a suspicion; it has to be tested by
# changing what you suspect.
#
# ### Question: the wolf and the snow
# ★★☆ · 10 minutes

# %% [markdown] question="wolf_and_snow" points=4
# A colleague shows you a SmoothGrad map of a network that recognises wolves. Its brightest spot is
# the wolf's face. "So it looks at the wolf, not at the snow. We can ship it."
#
# 1. Why doesn't this follow? Use what you measured for `biased`, with numbers.
# 2. Which experiment would you ask for, on which pictures, and which outcome would convince you?
#
# Answer in three or four sentences each.
#
# ### BEGIN SOLUTION
# 1 (2 points). More than a third of SmoothGrad's peaks of `biased` lie on the object, against a
# seventh by chance, and still the network decides by the background alone: accuracy about 1 with
# the object's colours exchanged, 0 with the background's; or the sums of integrated gradients, about
# 0 on the object and all on the background (1 point, with some such number). Reason:
# the map shows the magnitude for each pixel on its own; a cue spread over a large region is weak at
# each pixel and coherent in sign, which the absolute value hides, while fine structure of the
# object gives large values that cancel (1 point). Also right: large gradient means sensitivity, not
# use; one map of one picture is no evidence about a network. Not enough: "saliency maps are noisy".
#
# 2 (2 points). Any intervention that separates the two cues: wolves cut out and put on grass, and
# huskies on snow; or the background recoloured, replaced or blanked out (1 point). Convincing is an
# accuracy, on many pictures, that stays the same when only the background changes, and falls when
# only the animal does (1 point). Give 1 of 2 for "test on wolves without snow" with no statement of
# the outcome or of the counterpart. Looking at more maps, or at another kind of map, is no
# experiment.
# ### END SOLUTION

# %% [markdown]
# ## 10. A sanity check
#
# Does a saliency map depend on what the network has *learned* at all? Adebayo et al. (2018) ask it
# in the simplest way: destroy what was learned, by drawing the weights anew, layer by layer from
# the last one back, and look whether the map changes. If it doesn't, it was showing something else,
# such as the edges of the image.
#
# ### Exercise: `randomise_layers`
# ★★☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# `copy.deepcopy(model)` copies a network with its weights, and `network.get_submodule("conv1")`
# finds a layer by its name. `nn.init.normal_(tensor, std=…, generator=generator)` fills a
# parameter, also one that asks for gradients.
#
# </details>


# %% exercise="randomise_layers"
def randomise_layers(model, names, generator):
    """A copy of a network in which some layers have forgotten what they learned.

    In each of the layers the weights are drawn anew from a normal distribution of mean 0 and the
    standard deviation that this layer's weights had. Everything else stays: biases, all other
    layers, BatchNorm's statistics, eval or training mode.

    Args:
        model: a network; it is not changed itself.
        names: list of layers' names, such as ["classifier.linear", "features.conv6"], each with a
            parameter `weight`.
        generator: the only source of randomness, a torch.Generator on the network's device.

    Returns:
        randomised: the changed copy, an nn.Module.
    """
    ### BEGIN SOLUTION
    randomised = copy.deepcopy(model)
    for name in names:
        weight = randomised.get_submodule(name).weight
        nn.init.normal_(weight, std=weight.std().item(), generator=generator)
    return randomised
    ### END SOLUTION


# %% test="randomise_layers" points=2 aspect="the weights"
network = tiny_network(4, width=24)
before = {name: value.clone() for name, value in network.state_dict().items()}
chosen_layers = ["linear", "conv2"]
randomised = randomise_layers(network, chosen_layers, torch.Generator().manual_seed(0))
assert randomised is not None, "randomise_layers returned None; is a `return` missing?"
state = randomised.state_dict()
assert not randomised.training, "the copy is in training mode: the model was in eval mode"
for name, value in state.items():
    if name not in ("linear.weight", "conv2.weight"):
        assert torch.equal(value, before[name]), (
            f"{name} was changed too: only the weights of the layers named are drawn anew"
        )
for name in ("linear.weight", "conv2.weight"):
    old, new = before[name].flatten(), state[name].flatten()
    assert not torch.equal(old, new), f"{name} is as it was: every layer named has to be drawn anew"
    assert not torch.equal(old.sort().values, new.sort().values), (
        f"the old values of {name} were shuffled: they have to be drawn anew"
    )
    correlation = torch.corrcoef(torch.stack([old, new]))[0, 1].item()
    assert abs(correlation) < 0.4, (
        f"the new {name} correlates with the old one ({correlation:.2f}); was noise added to it?"
    )
    ratio = (new.std() / old.std()).item()
    assert 0.75 < ratio < 1.3, (
        f"the standard deviation of {name} became {ratio:.2f} times what it was; it should stay"
    )
    assert abs(new.mean()) < 0.4 * old.std(), (
        f"the mean of {name} should be 0, got {new.mean():.3g}"
    )
    assert new.abs().max() > 1.9 * new.std(), (
        f"the values of {name} end too early for a normal distribution; were they drawn uniformly?"
    )
again = randomise_layers(network, chosen_layers, torch.Generator().manual_seed(0)).state_dict()
assert all(torch.equal(state[name], again[name]) for name in state), (
    "equal generators gave different weights: draw from the generator and nothing else"
)
other = randomise_layers(network, chosen_layers, torch.Generator().manual_seed(1)).state_dict()
assert not torch.equal(state["conv2.weight"], other["conv2.weight"]), (
    "two generators with different seeds gave the same weights: the generator is not used"
)

# %% test="randomise_layers" points=1 aspect="other networks"
# Other layers and networks are tried here.
### BEGIN HIDDEN TESTS
network = tiny_network(reference.seed, width=20)
generator = torch.Generator().manual_seed(reference.seed)
randomised = randomise_layers(network, ["conv1"], generator).state_dict()
for name, value in network.state_dict().items():
    changed = not torch.equal(value, randomised[name])
    assert changed == (name == "conv1.weight"), (
        f"asked for conv1 alone, {name} {'was changed' if changed else 'stayed as it was'}"
    )
untouched = randomise_layers(network, [], generator).state_dict()
for name, value in network.state_dict().items():
    assert torch.equal(value, untouched[name]), f"asked for no layer, {name} was changed"
for parts, names in [(False, ["trunk.late.conv", "answer"]), (True, ["features.blocks.b.middle"])]:
    network = awkward_network(reference.seed, parts=parts, hooks=True, gradients=True)
    randomised = randomise_layers(network, list(names), generator).state_dict()
    for name, value in network.state_dict().items():
        changed = not torch.equal(value, randomised[name])
        assert changed == (name.removesuffix(".weight") in names), (
            f"asked for {names}, {name} {'was changed' if changed else 'stayed as it was'}"
        )
assert randomise_layers(tiny_network(0).train(), ["linear"], generator).training, (
    "the copy of a network in training mode should be in training mode"
)
### END HIDDEN TESTS

# %% [markdown]
# There is a trap in this check. In eval mode a BatchNorm layer normalises by the mean and variance
# that it met *in training*, and behind random weights these are wrong: activations drift further
# off with every layer, and ReLUs die or stop mattering. The map would then change because the
# network is broken, not because it has forgotten. So BatchNorm has to measure anew; `update_bn`,
# from torch, lets it.
#
# Now destroy `base` from its last layer to its first, and follow three measures: the rank
# correlation of the saliency maps (Spearman's, as Adebayo et al. have it), the same after a blur,
# which is how an eye compares two maps, and the correlation of the signed gradients.

# %%
from scipy.stats import spearmanr
from torch.optim.swa_utils import update_bn

layers = ["classifier.linear", *(f"features.conv{number}" for number in range(6, 0, -1))]


def randomised_base(names, seed):
    """The base network with some layers randomised and its BatchNorm measured anew."""
    generator = torch.Generator().manual_seed(seed)
    network = randomise_layers(load_model("base"), names, generator).to(device)
    update_bn([X], network)
    return network.eval()


def mean_rank_correlation(first, second):
    pairs = zip(first.detach().cpu().flatten(1), second.detach().cpu().flatten(1), strict=True)
    return np.mean([spearmanr(a, b).statistic for a, b in pairs])


def signed_and_maps(model):
    gradient = score_gradients(X[:8].clone(), model)[torch.arange(8), y[:8]]
    return gradient, compute_saliency_maps(X[:8].clone(), y[:8], model)


original, original_maps = signed_and_maps(base)
soft = blurred(original_maps)


def correlation_with_others(maps):
    """The mean rank correlation of each map with the trained maps of the seven other pictures."""
    return np.mean([mean_rank_correlation(soft.roll(shift, 0), maps) for shift in range(1, 8)])


curves = {
    "saliency maps": [1.0],
    "saliency maps, blurred": [1.0],
    "blurred, with other pictures' maps": [correlation_with_others(soft)],
    "signed gradients": [1.0],
}
rows = {"scene": X[:7], "trained": original_maps[:7]}
for depth in range(1, len(layers) + 1):
    gradient, maps = signed_and_maps(randomised_base(layers[:depth], seed=0))
    curves["saliency maps"].append(mean_rank_correlation(original_maps, maps))
    soft_random = blurred(maps)
    curves["saliency maps, blurred"].append(mean_rank_correlation(soft, soft_random))
    curves["blurred, with other pictures' maps"].append(correlation_with_others(soft_random))
    curves["signed gradients"].append(mean_rank_correlation(original, gradient))
    if depth in (1, 3, 7):
        rows[f"random:\n{'all' if depth == 7 else f'last {depth}'}"] = maps[:7]
show_rows(
    rows, "Layer by layer forgotten: the maps fade, yet objects still shine through", outlines=masks
)

if mine is not None:
    forgetful = [base, *(randomised_base(layers[:depth], seed=0) for depth in (1, 3, 7))]
    maps = [compute_saliency_maps(mine.clone(), y_shown[7:], network) for network in forgetful]
    show_rows(
        {"yours": mine.expand(4, -1, -1, -1), "map": torch.cat(maps)},
        f"Your picture, asked for {CLASS_NAMES[y_shown[-1]]}",
        ["trained", "last random", "last 3 random", "all random"],
    )

figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
looks = [("o-", "#0072B2"), ("s--", "#D55E00"), ("d-.", "0.55"), ("^:", "#009E73")]
for (name, values), (style, colour) in zip(curves.items(), looks, strict=True):
    ax.plot(values, style, color=colour, label=name)
ax.axhline(0, color="0.7", linewidth=1)
names = ["none", "linear", *(f"+ conv{number}" for number in range(6, 0, -1))]
ax.set_xticks(range(8), labels=names)
ax.set_xlabel("layers randomised, from the last one back")
ax.set_ylabel("rank correlation with the trained")
ax.set_title("What survives random weights can't be what was learned")
ax.set_ylim(top=1.05)
ax.legend(fontsize=9)
plt.show()

on_one, on_asked, on_other = [], [], []
for seed in range(6):
    network = randomised_base(layers, seed)
    on_one.append(share_of_peaks(compute_saliency_maps(X.clone(), y, network), masks))
    maps = compute_saliency_maps(X_two.clone(), y_first, network)
    on_asked.append(share_of_peaks(maps, first))
    on_other.append(share_of_peaks(maps, second))
print("six networks with random weights, on average:")
print(f"  one object:  {np.mean(on_one):.2f} of the peaks lie on it", end="")
print(f" (the trained network: {pointing['base: gradient']:.2f})")
print(
    f"  two objects: {np.mean(on_asked):.2f} on the one asked for, {np.mean(on_other):.2f} on the other"
)
print("  each of them:", *(f"{a:.2f}/{b:.2f}" for a, b in zip(on_asked, on_other, strict=True)))

# %% [markdown]
# Everything that was learned is gone, and the maps still correlate with the trained network's, the
# blurred ones strongly. How much of that is about the picture? The grey line is the control: it
# compares the map of a picture with the trained maps of *other* pictures. They correlate too, for
# a reason that isn't in the pictures: most maps are darker at the rim than in the middle. Only what
# lies between the grey and the dashed line belongs to the picture itself. It is there, and no
# weight was learned, so it can only be the picture's own contrast, to which a convolutional
# network reacts whatever its weights. The signed gradients drop to zero at once, with the last
# layer: once more the absolute value removed the information that differed. And the line about one
# object puts section 4 in its place: networks that know nothing point at the object more often
# than not.
#
# So is saliency useless? No. Random weights fail the two-object test of section 2: on average they
# point at the object asked for no more often than at the other (one such network alone may look as
# if it did). And the maps of section 9 raised a suspicion that an experiment then confirmed. But a
# map that only *looks* sensible has shown nothing about the network. Two warnings the other way: a
# correlation of maps is a coarse measure, and a map that does change after randomisation isn't
# right for that reason alone.
#
# ### Question: a score to report
# ★★☆ · 10 minutes

# %% [markdown] question="fair_score" points=4
# You want to report how well the plain gradient explains `base`, and you have its pointing-game
# score from section 4.
#
# 1. Which numbers of this lab belong beside it, and what is left of the score once they stand
#    there?
# 2. Which test from this lab would you report instead, or design yourself, so that neither an edge
#    filter nor a network with random weights can pass it? Say why they can't.
#
# ### BEGIN SOLUTION
# 1 (2 points). The score of networks with random weights and that of the edge filter (1 point;
# both, or one of them with the blind guess). Against a blind guess the map looks very good; most of
# that lead is had by random weights and by the edge filter too, so that the score measures above
# all the contrast of objects in these pictures, not what the network has learned (1 point). Numbers
# as the student's notebook prints them.
#
# 2 (2 points). Any test in which the right answer depends on the class asked for or on what the
# network computes: the peak on the object asked for and not on the other one, in pictures of two
# (1 point). An edge filter has no class to be asked for and gives one map for both, so it can't be
# right about both; a random network's scores have learned nothing of the classes, so its maps don't
# prefer the right object (1 point). Also right: predicting from a map what an intervention does, as
# in section 9. Not enough: the area under the deletion curve, unless it is compared with the edge
# filter's, which comes close (section 7).
# ### END SOLUTION

# %% [markdown]
# ### Exercise: `recompute_batchnorm`
# ★★★ · 20 minutes · optional
#
# What does `update_bn` do for you? Write it for one batch.
#
# <details><summary>Hint</summary>
#
# In training mode every forward pass measures the batch, and updates
# `running = (1 − momentum) · running + momentum · measured`. What should `momentum` be for one pass
# to forget the old value? (Or: `reset_running_stats()` and `momentum = None`, which averages over
# passes.) Put momentum and mode back afterwards. No gradients are needed.
#
# </details>


# %% exercise="recompute_batchnorm" changes="model" without="torch.optim"
def recompute_batchnorm(model, images):
    """Give every nn.BatchNorm2d of a network the statistics of these images.

    `running_mean` and `running_var` become the mean and the unbiased variance (the one that torch
    keeps) of the layer's input over the batch and all places, per channel, where all layers before
    it normalise by their new statistics too. Weights and biases stay, and so do each layer's
    momentum and the network's mode, eval or training. Calling `update_bn` earns no
    points.

    Args:
        model: a network without dropout; it may be changed, or copied.
        images: float tensor (N, 3, H, W), N > 1, all of one batch.

    Returns:
        model: the network with the new statistics.
    """
    ### BEGIN SOLUTION
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.momentum = 1.0  # one pass replaces what was there
    model.train()
    with torch.no_grad():
        model(images)
    model.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model
    ### END SOLUTION


# %% test="recompute_batchnorm" points=3 aspect="the statistics"
images_test = random_images(14, 3, 3, 5, 4) + torch.tensor([0.0, 0.3, 0.9])[:, None, None, None]


def statistics_of(state):
    """running_mean and running_var of norm1 and norm2, shape (2, 2, channels)."""
    return torch.stack(
        [
            torch.stack([state[f"{norm}.{name}"] for norm in ("norm1", "norm2")])
            for name in ("running_mean", "running_var")
        ]
    )


old_state = tiny_network(5).state_dict()
old = statistics_of(old_state)
### BEGIN EXPECTED


@torch.no_grad()
def measured(images, correction=1, normalise_by=None):
    """Mean and variance of the input of norm1 and norm2, as one row each, by hand.

    `normalise_by` is what the layers normalise by where it isn't what was measured.
    """
    means, variances = [], []
    for layer in tiny_network(5):
        if isinstance(layer, nn.BatchNorm2d):
            means.append(images.mean((0, 2, 3)))
            variances.append(images.var((0, 2, 3), correction=correction))
            mean, variance = means[-1], images.var((0, 2, 3), correction=0)
            if normalise_by is not None:
                mean, variance = (part[len(means) - 1] for part in normalise_by)
            images = F.batch_norm(images, mean, variance, layer.weight, layer.bias)
        else:
            images = layer(images)
    return torch.stack([torch.stack(means), torch.stack(variances)])


right = reference.recompute_batchnorm(tiny_network(5), images_test)
expected = statistics_of(right.state_dict())
one_by_one = torch.stack([measured(image[None]) for image in images_test])
mistakes = {
    "nothing was measured: BatchNorm does that in training mode only": old,
    "the old statistics are mixed in, as with BatchNorm's usual momentum of 0.1": (
        0.9 * old + 0.1 * expected
    ),
    "statistics were reset and then mixed with 0.1 of the new ones": (
        old.new_tensor([0.0, 0.9])[:, None, None] + 0.1 * expected
    ),
    "statistics were reset, and nothing was measured": (
        old.new_tensor([0.0, 1.0])[:, None, None] + 0 * expected
    ),
    "the layers still normalise by their old statistics when the next one is measured": (
        measured(images_test, normalise_by=old)
    ),
    "the layers still normalise by their old statistics, and the variance is biased": (
        measured(images_test, correction=0, normalise_by=old)
    ),
    "the biased variance is kept; torch keeps the unbiased one": (
        measured(images_test, correction=0)
    ),
    "standard deviations are kept where variances belong": torch.stack(
        [expected[0], expected[1].sqrt()]
    ),
    "images were passed one by one: what differs between them is lost": one_by_one.mean(0),
    "only the last image counts": one_by_one[-1],
    "the images of the batch were passed one by one, with BatchNorm's usual momentum": (
        0.9**3 * old + 0.1 * (0.81 * one_by_one[0] + 0.9 * one_by_one[1] + one_by_one[2])
    ),
}
### END EXPECTED
for training in (False, True):
    network = tiny_network(5).train(training)
    result = recompute_batchnorm(network, images_test)
    assert result is not None, "recompute_batchnorm returned None; is a `return` missing?"
    state = result.state_dict()
    check_close(
        statistics_of(state),
        expected,
        "running_mean and running_var after recompute_batchnorm",
        mistakes=mistakes,
    )
    assert result.training == training, (
        f"the network was in {'training' if training else 'eval'} mode and isn't any more"
    )
    assert result.norm1.training == training, "BatchNorm's mode differs from the network's"
    assert result.norm1.momentum == 0.1, "BatchNorm's momentum was 0.1 and isn't any more"
    for name, value in state.items():
        assert name.split(".")[1].startswith(("running", "num")) or torch.equal(
            value, old_state[name]
        ), f"{name} was changed: only BatchNorm's statistics are measured anew"
check_without(recompute_batchnorm)

# %% test="recompute_batchnorm" points=2 aspect="other networks"
# Other shapes and networks are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(2, 3, 6, 3), (5, 3, 4, 7)]:
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    network, right = (tiny_network(reference.seed, activation=nn.ReLU) for _ in range(2))
    state = recompute_batchnorm(network, images.clone()).state_dict()
    for name, value in reference.recompute_batchnorm(right, images).state_dict().items():
        if not name.endswith("num_batches_tracked"):
            check_close(state[name], value, f"{name} after recompute_batchnorm, images {shape}")
options = {"inplace": True, "functional": True, "dropout": False, "hooks": True, "gradients": True}
network, right = (awkward_network(reference.seed, **options) for _ in range(2))
images = random_images(reference.seed, 3, 3, 9, 8)
expected = reference.recompute_batchnorm(right, images).state_dict()
momenta = [m.momentum for m in right.modules() if isinstance(m, nn.BatchNorm2d)]
result = recompute_batchnorm(network, images.clone())
state = result.state_dict()
for name, value in expected.items():
    if not name.endswith("num_batches_tracked"):
        check_close(state[name], value, f"{name} of a network with a forward of its own")
names = [name for name, m in right.named_modules() if isinstance(m, nn.BatchNorm2d)]
assert [result.get_submodule(name).momentum for name in names] == momenta, (
    "BatchNorm layers have momenta of their own, and one of them isn't what it was any more"
)
network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).double().eval()
weight = network[0].weight.detach().clone()
result = recompute_batchnorm(network, images.clone())
assert torch.equal(result.state_dict()["0.weight"], weight), (
    "a network without BatchNorm should come back as it was"
)
check_without(recompute_batchnorm)
### END HIDDEN TESTS

# %% test="recompute_batchnorm" points=1 aspect="written by hand"
images_test, network = random_images(15, 3, 3, 4, 6), tiny_network(6)
### BEGIN EXPECTED
expected = reference.recompute_batchnorm(copy.deepcopy(network), images_test).norm2.running_var
### END EXPECTED
check_close(
    recompute_batchnorm(network, images_test).norm2.running_var,
    expected,
    "running_var of the second layer after recompute_batchnorm",
)
check_without(recompute_batchnorm)

# %% [markdown]
# ## 11. The same with Captum (optional)
#
# Captum is the library with which practitioners draw such maps. You have written what it does, so
# you know what to ask of it. Here are its maps of one scene beside yours.

# %% fold=false
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency

one, asked = X[3:4].clone().requires_grad_(), y[3:4]
torch.manual_seed(0)  # NoiseTunnel draws from the global generator
theirs = {  # (1, 3, 64, 64) each: the sum over the channels is still to be taken
    "gradient": Saliency(base).attribute(one, asked),
    "SmoothGrad": NoiseTunnel(Saliency(base))
    .attribute(one, nt_samples=16, stdevs=0.15, target=asked, abs=False)
    .abs(),
    "integrated": IntegratedGradients(base).attribute(
        one, baselines=0.5, target=asked, n_steps=16, method="riemann_middle"
    ),
    "occlusion": Occlusion(base).attribute(
        one, (3, 16, 16), strides=(3, 8, 8), baselines=0.5, target=asked
    )
    / 3,  # Captum gives each channel the patch's whole fall
}
ours = {name: orders[name][3:4] for name in theirs}

# %%
summed = {name: maps.sum(1) for name, maps in theirs.items()}
figure, axes = plt.subplots(2, 5, figsize=(10, 4.2), layout="constrained")
figure.suptitle("Captum's maps (below) are yours")
axes[0, 0].imshow(scenes.images[3])
axes[0, 0].set_title(CLASS_NAMES[asked])
for row, name, maps in zip(axes, ("yours", "Captum's"), (ours, summed), strict=True):
    row[1].set_ylabel(name)
    for ax, (method, one_map) in zip(row[1:], maps.items(), strict=True):
        shown = one_map[0].detach().cpu()
        shown = shown / shown.abs().flatten().quantile(0.99)
        image = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set_title(method, fontsize=9)
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
axes[1, 0].set_visible(False)
figure.colorbar(image, ax=axes, shrink=0.7, label="map / its 99th percentile")
plt.show()
for name, their_map in summed.items():
    apart = (their_map - ours[name]).abs().max() / ours[name].abs().max()
    print(f"{name:10}: the two differ by {apart.item():.1g} of the largest value")

# %% [markdown]
# Three agree to rounding; the two SmoothGrads drew other noise. What one has to know to get there,
# in Captum as in any such library:
#
# - It explains the number that the function *you hand it* returns. Hand it a network that ends in
#   a softmax, and all maps are about the probability (section 2); nothing warns you.
# - `Saliency` takes absolute values by itself, and leaves the sum over channels to you. Behind a
#   `NoiseTunnel` that is too early: without `abs=False`, magnitudes would be averaged, and nothing
#   would cancel (section 3).
# - The baseline, if you don't give one, is zero: black where images run from 0 to 1, the mean
#   colour where they were normalised before. It is a part of the result (sections 6 and 9), so say
#   which one it was. `return_convergence_delta=True` returns how far completeness was missed.
# - Networks belong in eval mode, and ReLUs that work in place, or that are used twice, break the
#   methods that need hooks (guided backpropagation, DeepLIFT); the four above need none.

# %% [markdown]
# ## 12. Mistakes explain themselves (optional)
#
# A wrong prediction deserves two maps: one for the class that the network chose, and one for the
# class that it should have chosen. `base` is wrong on less than 1% of these scenes, so we make life
# harder for it: the pictures are out of focus.

# %%
from utils.corruptions import corrupt

many = make_scenes(150, np.random.default_rng(8))
blurry = corrupt(many.images, "defocus_blur", 3, np.random.default_rng(0))
X_blurry = (torch.from_numpy(blurry).permute(0, 3, 1, 2) / 255).to(device)
y_blurry = torch.from_numpy(many.shape_class).to(device)
with torch.no_grad():
    answers = torch.cat([base(batch).argmax(1) for batch in X_blurry.split(50)])
wrong = (answers != y_blurry).nonzero()[:7, 0]
print(f"base is wrong on {(answers != y_blurry).sum()} of {len(y_blurry)} scenes out of focus")
show_rows(
    {
        "scene": X_blurry[wrong],
        "chosen class": smooth(X_blurry[wrong], answers[wrong], base, sigma=0.05),
        "right class": smooth(X_blurry[wrong], y_blurry[wrong], base, sigma=0.05),
    },
    "Wrong predictions: what the answer hangs on, and what the truth hangs on",
    [f"{CLASS_NAMES[answers[i]]}, not\n{CLASS_NAMES[y_blurry[i]]}" for i in wrong],
    torch.from_numpy(many.masks).to(device)[wrong],
)

elsewhere = {
    "base, out of focus": (base, X_blurry, answers, y_blurry),
    "biased, neutral background": (biased, X, biased(X).argmax(1), y),
}
peaks_of_wrong = {}
for name, (network, pictures, chosen_class, truth) in elsewhere.items():
    wrong_masks = torch.from_numpy(many.masks).to(device) if network is base else masks
    some = (chosen_class != truth).nonzero()[:24, 0]
    maps = smooth(pictures[some], chosen_class[some], network, sigma=0.05)
    peaks_of_wrong[name] = pointing_game(maps, wrong_masks[some]).float().mean().item()
    print(f"{name}: {peaks_of_wrong[name]:.2f} of the wrong answers' peaks lie on the object")

# %% [markdown]
# The two maps of a picture are much alike. They tell you what the mistake was *not*: the network
# wasn't distracted by the clutter. It looked at the object, whose texture the blur has weakened,
# and took it for something else. Compare the wrong answers of `biased`, in the last line
# printed: most of their peaks lie somewhere in the background. One network needs sharper pictures
# to learn from, the other one different pictures. The maps say where an answer hangs, not why it
# is *heart* and not *square*.
#
# ## 13. With an ImageNet network (optional)
#
# Your functions work for any classifier. Here they ask SqueezeNet, trained on 1.2 million
# photographs; and if you chose a picture of your own, it is the last one.

# %%
from utils.images import load_photograph, preprocess
from utils.models import WeightsUnavailable

try:
    squeezenet = load_model("squeezenet1_1").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    photographs = {name: load_photograph(name) for name in ("flower", "china")}
    if (photograph := own.load((224, 336))) is not None:
        photographs["mine"] = photograph
    for photograph in photographs.values():
        photograph = F.interpolate(
            preprocess(photograph), (224, 336), mode="bilinear", antialias=True
        ).to(device)
        with torch.no_grad():
            answer = squeezenet(photograph).argmax(1)
        plain = compute_saliency_maps(photograph.clone(), answer, squeezenet)
        averaged = smooth(photograph, answer, squeezenet)
        figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained")
        figure.suptitle(f"SqueezeNet's answer: {squeezenet.class_names[answer]}")
        axes[0].imshow(photograph[0].permute(1, 2, 0).clamp(0, 1).cpu())
        axes[0].set_title("photograph")
        for ax, title, saliency in [
            (axes[1], "gradient", plain),
            (axes[2], "SmoothGrad", averaged),
        ]:
            saliency = saliency[0].detach().cpu()
            image = ax.imshow(saliency / saliency.quantile(0.99), cmap="magma", vmin=0, vmax=1)
            ax.set_title(title)
        for ax in axes:
            ax.set_axis_off()
        figure.colorbar(image, ax=axes, label="saliency / its 99th percentile")
        plt.show()

# %% [markdown]
# There is no mask to check against, so the usual thing happens: one looks at the map, sees the
# subject of the photograph in it, and is pleased. You know by now what to ask next.
#
# **Have you a network of your own?** Name it here: it takes images (N, 3, H, W) with values between
# 0 and 1, and gives scores (N, C). It is asked about your picture, at 224 × 224 pixels, or about a
# scene if you gave none, for the class with the highest score.

# %% fold=false
from utils.own_model import own_classifier

MY_MODEL = None  # such as squeezenet

own_picture = X[:1] if own.load() is None else preprocess(own.load(224)).to(device)
my_model = own_classifier(MY_MODEL, own_picture)
if my_model is not None:
    with torch.no_grad():
        highest, answer = my_model(own_picture).max(dim=1)
    saliency = compute_saliency_maps(own_picture.clone(), answer, my_model)[0].detach().cpu()
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
    figure.suptitle(f"Your network's answer: class {answer.item()}, score {highest.item():.1f}")
    axes[0].imshow(own_picture[0].permute(1, 2, 0).cpu())
    image = axes[1].imshow(saliency / saliency.quantile(0.99), cmap="magma", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="saliency / its 99th percentile")
    for ax, title in zip(axes, ["picture", "gradient"], strict=True):
        ax.set_title(title)
        ax.set_axis_off()
    plt.show()

# %% [markdown]
# ## What you have now
#
# An explanation that costs one backward pass, an average that makes it smoother, and two others that
# keep the sign; a way to cut out objects; and six ways of not being fooled: a baseline without a
# network, a question with two answers, a sum that must come out right, pixels erased by rank, an
# experiment, and a network that knows nothing. Guided backpropagation (lab 07) and Grad-CAM
# (lab 08) make prettier maps. Ask them the same questions.
