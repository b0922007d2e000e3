# %% [markdown]
# # Lab 08: Grad-CAM
#
# A network looks at a picture and says *fish*. Where in the picture is the evidence? A saliency map
# answers pixel by pixel, and often in grains of sand. **Grad-CAM** (Selvaraju et al., 2017) asks a
# deep layer instead: its channels know *what*, and its few places still tell roughly *where*. The
# answer is coarse, but it listens to the question: in a picture of a dog and a cat it lights the
# dog when it is asked for the dog, and the cat when it is asked for the cat.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. The last feature maps know where | `class_activation_map` | 15 |
# | 2. Listening in on a network | `record_output` | 25 |
# | 3. Grad-CAM | `grad_cam`, and a proof | 65 |
# | 4. One picture, two answers | nothing: you look | 10 |
# | 5. How good is a map? | `pointing_game` | 20 |
# | 5. How well does it cover? (optional) | `intersection_over_union` | 10 |
# | 6. Does the network need what the map shows? | `insertion_deletion` | 20 |
# | 7. A network that has no class activation map | nothing: you look | 5 |
# | 8. Which layer? (optional) | nothing: you look | 10 |
# | 9. Guided Grad-CAM (optional) | `guided_grad_cam` | 15 |
# | 10. A network unmasked | a verdict in writing | 20 |
# | 11. The same with Captum (optional) | nothing: you compare | 5 |
# | 12. With an ImageNet network (optional) | nothing: you look | 10 |
#
# What is optional can be left out: nothing else needs it. The rest takes three hours.
#
# The cells beneath each exercise are its tests, one for each thing that can go wrong. Each answers
# **right so far**, or says in one sentence what is wrong. When your work is graded, other networks,
# shapes and classes are tried as well. No exercise calls one that you wrote before, so a slip costs
# you only once.

# %% given=true
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from utils.attribution import guided_backprop
from utils.checks import check_close, check_tuple, hooks_left, in_other_mode, random_images
from utils.guard import check_without
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def tiny_network(seed, grid=(2, 2), inplace=False):
    """A small network with random weights, in float64 and in eval mode, for the tests.

    From images (N, 3, H, W) to four class scores. Where `grid` is 1, it averages over all places
    before its linear layer; otherwise the linear layer knows the places of a grid apart.
    """
    places = nn.AdaptiveAvgPool2d(grid)
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 5, 3, padding=1),
            norm1=nn.BatchNorm2d(5, momentum=1),
            relu1=nn.ReLU(inplace),
            pool=nn.AvgPool2d((2, 3)),
            conv2=nn.Conv2d(5, 6, 3, padding=1),
            norm2=nn.BatchNorm2d(6, momentum=1),
            relu2=nn.ReLU(inplace),
            average=places,
            flatten=nn.Flatten(),
            linear=nn.Linear(6 if grid == 1 else 6 * grid[0] * grid[1], 4),
        )
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        network(random_images(seed, 8, 3, 6, 9))  # sets the statistics of both BatchNorms
    return network.eval()


def see_through_network(weight):
    """A network in float64 whose layer `features` returns the image itself.

    The score of class c is the mean over all places of Σ_k weight[c, k] · image[k]; weight: (C, 3).
    """
    features = nn.Conv2d(3, 3, 1, bias=False).double()
    linear = nn.Linear(3, len(weight), bias=False).double()
    with torch.no_grad():
        features.weight.copy_(torch.eye(3)[:, :, None, None])
        linear.weight.copy_(weight)
    layers = OrderedDict(
        features=features, average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=linear
    )
    return nn.Sequential(layers).eval()


def form(maps):
    """Maps, each divided by its largest value, if it has one: what is left without their scale."""
    if not isinstance(maps, torch.Tensor) or maps.ndim < 2:
        return maps
    largest = maps.flatten(1).amax(1).reshape(-1, *[1] * (maps.ndim - 1))
    return maps / torch.where(largest == 0, 1, largest)


# %% [markdown]
# The next cell loads a network of six convolutions and a linear layer, and pictures to ask it
# about: a textured object in clutter, of which we know where it is.

# %%
import matplotlib.pyplot as plt
import numpy as np

from utils.figures import contact_sheet, explore, overlay
from utils.models import load_model
from utils.scenes import CLASS_NAMES, make_scenes

base = load_model("base").to(device)
last_layer = base.get_submodule(base.last_conv)
scenes = make_scenes(120, np.random.default_rng(8))
images, labels = (tensor.to(device) for tensor in scenes.tensors())
print(base)

# %% [markdown]
# Have you a picture of your own? Name its file here, or upload it. Nothing needs it, but section 4
# then lets you ask about it, and section 12 asks a network that knows photographs.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% [markdown]
# ## 1. The last feature maps know where
#
# Look at how the network printed above ends. The last ReLU gives 128 **feature maps** $A_k$ of 8 ×
# 8 places. `AdaptiveAvgPool2d(1)` takes the mean of each map (*global average pooling*), and one
# linear layer turns these 128 means into class scores:
#
# $$s_c = b_c + \sum_k W_{ck}\; \frac{1}{hw} \sum_{i, j} A_k(i, j)
#       = b_c + \frac{1}{hw} \sum_{i, j} \underbrace{\sum_k W_{ck}\, A_k(i, j)}_{M_c(i, j)}$$
#
# Only the order of two sums was changed, and yet there it is: but for the constant $b_c$, the score
# is the mean of a *map* $M_c$ that says how much each place contributes to class $c$. It is the
# **class activation map**, CAM for short (Zhou et al., 2016).
#
# ### Exercise: `class_activation_map`
# ★☆☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# `weight[y]` holds one row of weights for each image, shape (N, K). Either give it two more axes,
# so that it can be multiplied with the feature maps, or let `torch.einsum` say which axis is
# summed.
#
# </details>


# %% exercise="class_activation_map"
def class_activation_map(features, weight, y):
    """How much each place contributes to a class's score, for a network that averages over places.

        M(n, i, j) = Σ_k weight[y_n, k] · features(n, k, i, j)

    Args:
        features: the last feature maps, float tensor (N, K, h, w).
        weight: of the linear layer behind the global average pooling, float tensor (C, K).
        y: the class asked for, for each image, int64 tensor (N,).

    Returns:
        maps: float tensor (N, h, w), signed: a place can speak against the class.
    """
    ### BEGIN SOLUTION
    return torch.einsum("nk,nkij->nij", weight[y], features)
    ### END SOLUTION


# %% test="class_activation_map" points=1 aspect="one image"
generator = torch.Generator().manual_seed(0)
features = torch.rand(1, 4, 2, 5, generator=generator, dtype=torch.float64)
weight, y = torch.randn(4, 4, generator=generator, dtype=torch.float64), torch.tensor([3])
### BEGIN EXPECTED
expected = reference.class_activation_map(features, weight, y)
weighted = weight[y][:, :, None, None] * features
mistakes = {
    "the mean over the channels is taken where their sum is needed": weighted.mean(1),
    "weight's axes are exchanged: row c of weight belongs to class c": (
        reference.class_activation_map(features, weight.T, y)
    ),
    "the channel with the largest contribution stands for all: add them up": weighted.amax(1),
    "the channels aren't weighted: the features are simply summed": features.sum(1),
    "negative values are set to zero: evidence against the class counts too": expected.relu(),
    "the absolute value is taken: evidence against the class counts too": expected.abs(),
    "negative weights are left out": (weighted.relu()).sum(1),
    "the maps are averaged over the places, which gives the score": expected.mean((1, 2)),
    "each map is divided by its largest value: leave it as it is": expected / expected.amax(),
    "the channels aren't summed": weighted,
}
### END EXPECTED
name = "class_activation_map(features, weight, y) for one image"
check_close(class_activation_map(features, weight, y), expected, name, mistakes=mistakes)

# %% test="class_activation_map" points=1 aspect="a batch"
generator = torch.Generator().manual_seed(1)
features = torch.rand(3, 4, 2, 5, generator=generator, dtype=torch.float64)
weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
y = torch.tensor([2, 0, 5])
### BEGIN EXPECTED
expected = reference.class_activation_map(features, weight, y)
best = (features.mean((2, 3)) @ weight.T).argmax(1)
mistakes = {
    "every image is asked for the first image's class": (
        reference.class_activation_map(features, weight, y[[0, 0, 0]])
    ),
    "y is ignored: image n is asked for class n": (
        reference.class_activation_map(features, weight, torch.arange(3))
    ),
    "y is ignored: the class with the highest score is asked for": (
        reference.class_activation_map(features, weight, best)
    ),
    "every image is asked for all classes in y, and the answers are added up": (
        torch.einsum("mk,nkij->nij", weight[y], features)
    ),
    "the batch is averaged: each image has a map of its own": expected.mean(0, keepdim=True),
}
### END EXPECTED
name = "class_activation_map(features, weight, y)"
check_close(class_activation_map(features, weight, y), expected, name, mistakes=mistakes)

# %% test="class_activation_map" points=1 aspect="general shapes"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, classes in [((4, 6, 3, 2), 3), ((1, 2, 1, 4), 5), ((5, 3, 2, 2), 7), ((2, 3, 1, 1), 9)]:
    features = torch.randn(shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, shape[1], generator=generator, dtype=torch.float64)
    y = torch.randint(classes, shape[:1], generator=generator)
    expected = reference.class_activation_map(features, weight, y)
    check_close(
        class_activation_map(features, weight, y),
        expected,
        f"class_activation_map for features {shape} and {classes} classes",
    )
### END HIDDEN TESTS

# %% [markdown]
# What does such a sum look like? Below, three scenes, the three channels that add most to the score
# of each scene's class, and the sum over all 128.

# %%
with torch.no_grad():
    features = base.features(images[:3])
    weight = base.classifier.linear.weight.detach()
    maps = class_activation_map(features, weight, labels[:3])
shares = weight[labels[:3]] * features.mean((2, 3)) / maps.mean((1, 2))[:, None]
strongest = shares.topk(3)
contributions = weight[labels[:3], :, None, None] * features
limit = maps.abs().max().item()
strong = max(contributions[n, strongest.indices[n]].abs().max().item() for n in range(3))

figure, axes = plt.subplots(3, 5, figsize=(10, 6), layout="constrained")
figure.suptitle("A class activation map adds up what 128 channels saw")
for row, scene in zip(axes, range(3), strict=True):
    row[0].imshow(scenes.images[scene])
    row[0].set_title(CLASS_NAMES[labels[scene]])
    for ax, share, channel in zip(
        row[1:4], strongest.values[scene], strongest.indices[scene], strict=True
    ):
        contribution = contributions[scene, channel].cpu()
        one = ax.imshow(contribution, cmap="RdBu_r", vmin=-strong, vmax=strong)
        ax.set_title(f"channel {channel} ({share:.0%})")
    total = row[4].imshow(maps[scene].cpu(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    row[4].set_title("sum of all 128")
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
figure.colorbar(one, ax=axes[:, :4], shrink=0.6, label="one channel's contribution")
figure.colorbar(total, ax=axes[:, 4], shrink=0.6, label="sum")
plt.show()

# %% [markdown]
# Red speaks for the class, blue (there is next to none here) against it, and the percentage is the
# channel's share of the map's mean. Even the strongest channels add hardly more than a tenth each:
# no single one is "the heart channel", and it is their sum that finds the object. Mind the grid: a
# place is 8 × 8 pixels of the scene, and because of all the convolutions before it, it *sees* a
# good deal more than these 64 pixels.
#
# CAM has a condition, though: the network must end in average pooling and one linear layer. VGG-16
# has three linear layers; a captioning network has no such end at all. To lift the condition we
# need two things: to get at a layer in the middle of a network, and to find weights for its
# channels.
#
# ## 2. Listening in on a network
#
# A **hook** is a function that PyTorch calls whenever a module has run. A forward hook gets the
# module, its inputs and its output; `layer.register_forward_hook(hook)` hangs it on the layer and
# returns a handle, whose `remove()` takes it off again. Three things go wrong with hooks in
# practice:
#
# - **It stays.** A hook that isn't removed is called in every later run, slows the network down and
#   keeps old activations in memory. It also stays when the network raises an exception before your
#   code gets as far as `remove()`.
# - **It changes the network.** Whatever a forward hook returns, other than `None`, replaces the
#   layer's output.
# - **It records what isn't true for long.** A layer that works *in place*, such as
#   `nn.ReLU(inplace=True)`, writes its result over its input: the very tensor that the layer before
#   it has returned, and that you have just recorded. `.detach()` doesn't help, as it shares the
#   memory.
#
# ### Exercise: `record_output`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1: how a hook gets its result out</summary>
#
# Make an empty list, and let the hook append to it. A hook can be a nested function or a lambda.
#
# </details>
# <details><summary>Hint 2: whatever happens</summary>
#
# Python runs a `finally:` block on the way out of its `try:`, whether by the normal way or by an
# exception.
#
# </details>


# %% exercise="record_output" changes="model.statistics, layer.statistics"
def record_output(X, model, layer):
    """What one layer returns while the model looks at images.

    No hook is left behind, even where the model raises an exception, which goes on to whoever
    called; and the model stays in the mode (training or eval) in which it comes.

    Args:
        X: images, float tensor (N, 3, H, W).
        model: nn.Module, of any build. Some of its modules may work in place, and so overwrite
            what `layer` has returned; other people's hooks on them stay.
        layer: a module anywhere inside the model; it runs once and returns one tensor.

    Returns:
        output: tensor of the values that the layer returned, before anything overwrites them.
    """
    ### BEGIN SOLUTION
    recorded = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: recorded.append(output.detach().clone())
    )
    try:
        model(X)
    finally:
        handle.remove()
    return recorded[0]
    ### END SOLUTION


# %% test="record_output" points=1 aspect="the right tensor"
X, model = random_images(1, 2, 3, 6, 9), tiny_network(1)
### BEGIN EXPECTED
expected = reference.record_output(X, model, model.pool)
mistakes = {
    "the layer's input is recorded, not its output": (
        reference.record_output(X, model, model.relu1)
    ),
    "the next layer's output is recorded": reference.record_output(X, model, model.conv2),
    "the first image alone is recorded": expected[:1],
    "the first image alone is recorded, without its batch axis": expected[0],
    "the result of the whole model is returned": model(X).detach(),
    "the layer looks at the images itself: it has to run inside the model": model.pool(X),
    "the model runs in training mode: it stays in the mode in which it comes": (
        in_other_mode(reference.record_output, X, model, model.pool)
    ),
}
### END EXPECTED
check_close(
    record_output(X, model, model.pool),
    expected,
    "record_output for model.pool",
    mistakes=mistakes,
)

# %% test="record_output" points=2 aspect="a module behind it works in place"
X, model = random_images(1, 2, 3, 6, 9), tiny_network(1, inplace=True)
### BEGIN EXPECTED
expected = reference.record_output(X, model, model.norm1)
mistakes = {
    "a later module has overwritten the output in place: copy it inside the hook": expected.relu()
}
### END EXPECTED
check_close(
    record_output(X, model, model.norm1),
    expected,
    "record_output for model.norm1, with an in-place ReLU behind it",
    mistakes=mistakes,
)

# %% test="record_output" points=2 aspect="everything as it was"
X, model = random_images(2, 2, 3, 6, 9), tiny_network(2)
### BEGIN EXPECTED
expected = reference.record_output(X, model, model.relu2)
training = tiny_network(2).train()
in_training = reference.record_output(X, training, training.relu2)
mistakes = {"the model runs in eval mode: it stays in the mode in which it comes": expected}
### END EXPECTED
check_close(record_output(X, model, model.relu2), expected, "record_output for model.relu2")
two_colours = X[:, :2]  # the first layer refuses them
assert hooks_left(record_output, two_colours, model, model.relu2) == 0, (
    "record_output leaves its hook behind after an exception."
)
try:
    record_output(two_colours, model, model.relu2)
except Exception:
    pass
else:
    raise AssertionError("record_output hides the model's exception: let it go on to the caller.")
model = tiny_network(2).train()
name = "record_output for model.relu2 of a model in training mode"
check_close(record_output(X, model, model.relu2), in_training, name, mistakes=mistakes)
### BEGIN HIDDEN TESTS
model = tiny_network(reference.seed)
expected = reference.record_output(X, model, model.relu2)
name = "record_output for another network"
check_close(record_output(X, model, model.relu2), expected, name)
small = random_images(0, 1, 3, 1, 1)  # too small for the pooling
assert hooks_left(record_output, small, model, model.conv1) == 0, (
    "record_output leaves its hook behind after an exception in a module behind the layer."
)
### END HIDDEN TESTS

# %% test="record_output" points=1 aspect="other networks"
# Networks that aren't one nn.Sequential, with layers deep inside, are tried here.
### BEGIN HIDDEN TESTS
later = "a later module has overwritten the output in place: copy it inside the hook"
for seed, shape in [(reference.seed, (3, 3, 4, 6)), (reference.seed + 1, (1, 3, 8, 7))]:
    X, model = random_images(seed, *shape), tiny_network(seed, inplace=True)
    for layer in (model.conv1, model.norm1, model.conv2, model.relu2, model.linear):
        expected = reference.record_output(X, model, layer)
        check_close(
            record_output(X, model, layer),
            expected,
            f"record_output for images {shape} and the layer {layer}",
            mistakes={later: expected.relu()},
        )
for number, options in enumerate([{"inplace": True}, {"parts": True, "dtype": torch.float32}]):
    seed = reference.seed + number
    model = awkward_network(seed, mixed=True, hooks=True, gradients=True, **options)
    X = random_images(seed, 2, 3, 9, 8).to(options.get("dtype", torch.float64))
    for path in (*model.maps, *model.blocks):
        layer = model.get_submodule(path)
        expected = reference.record_output(X, model, layer)
        check_close(
            record_output(X, model, layer),
            expected,
            f"record_output for the layer {path} of a network with a forward of its own",
            mistakes={later: expected.relu()},
        )
### END HIDDEN TESTS

# %% [markdown]
# The third trap is easy to fall into, since nothing warns you. Here is what a hook that just keeps
# `output` has in the end, and what your function returns, for the *same* layer: a normalised
# convolution with an in-place ReLU behind it.

# %%
from copy import deepcopy

in_place = deepcopy(base)
in_place.features.relu2.inplace = True
kept = []


def keep(module, inputs, output):
    kept.append(output)


handle = in_place.features.norm2.register_forward_hook(keep)
with torch.no_grad():
    in_place(images[:1])
handle.remove()
yours = record_output(images[:1], in_place, in_place.features.norm2).detach()

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
figure.suptitle("Only a copy still has the negative half after an in-place ReLU")
axes[0].imshow(scenes.images[0])
axes[0].set_title("scene")
for ax, name, maps in zip(
    axes[1:], ["what the hook kept", "record_output"], [kept[0], yours], strict=True
):
    picture = ax.imshow(maps[0, 20].cpu(), cmap="RdBu_r", vmin=-4, vmax=4)
    ax.set_title(f"{name}:\n{(maps < 0).float().mean():.0%} negative")
for ax in axes:
    ax.set_xticks([])
    ax.set_yticks([])
figure.colorbar(picture, ax=axes, shrink=0.8, label="channel 20 of norm2")
plt.show()

# %% [markdown]
# What the hook kept is the *next* layer's output under a wrong name. `load_model` gives you
# networks whose ReLUs don't work in place; torchvision's own do.
#
# ## 3. Grad-CAM
#
# How much does channel $k$ matter to class $c$? Where there is no weight $W_{ck}$ to read off, the
# gradient says it: by how much would the score $s_c$ rise if $A_k$ were a little larger? Every
# place $(i, j)$ has its own answer, so Grad-CAM takes the mean over the places:
#
# $$\alpha_k = \frac{1}{hw} \sum_{i, j} \frac{\partial s_c}{\partial A_k(i, j)}
#   \qquad\qquad
#   L_c = \mathrm{ReLU}\Big(\sum_k \alpha_k A_k\Big)$$
#
# The ReLU keeps what speaks *for* the class: a place with a negative sum probably shows something
# that belongs to another one. The map $L_c$ has the layer's few places; it is upsampled to the
# image's size, and divided by its largest value, so that maps can be compared by eye.
#
# Take the gradient of the class **score**, not of its softmax probability or of the loss, for the
# reason that you know from saliency maps: those rise as well when *other* classes are pushed down.
# For a batch, take it of the *sum* of the scores asked for: no image has a part in another one's
# score, so each gets its own gradient.
#
# ### Exercise: `grad_cam`
# ★★★ · 45 minutes
#
# Write it out in full. Its tests look at one thing each: the map's form, its upsampling, its range,
# a frozen network, and whether you leave everything as you found it.
#
# <details><summary>Hint 1: the feature maps and their gradient</summary>
#
# Record the layer's output with a forward hook as before, but neither detached nor copied: it has
# to stay the tensor that the scores were computed from. Then `torch.autograd.grad(score,
# activations)` returns a tuple with the one gradient that you need. It computes no gradient for any
# parameter, which makes it faster than `score.backward()`.
#
# </details>
# <details><summary>Hint 2: the scores asked for</summary>
#
# `scores[:, y]` has shape (N, N): every image's score for every class in `y`. You need one score
# for each image, by `scores.gather(1, …)` or by `scores[torch.arange(N), y]`.
#
# </details>
# <details><summary>Hint 3: upsampling</summary>
#
# `F.interpolate(maps, size, mode="bilinear", align_corners=False)` wants maps with a channel axis,
# (N, 1, h, w). The mean and the sum keep an axis if you say `keepdim=True`.
#
# </details>
# <details><summary>Hint 4: the division</summary>
#
# The largest value of each map is `maps.amax(dim=(1, 2), keepdim=True)`. Where it is zero there was
# no evidence at all, and 0/0 would give NaN.
#
# </details>


# %% exercise="grad_cam" changes="X.grad, X.requires_grad, model.grad, model.statistics, layer.grad, layer.statistics" without="captum, pytorch_grad_cam"
def grad_cam(X, y, model, layer):
    """Grad-CAM: where in each image a layer sees evidence for a class (Selvaraju et al., 2017).

        α_k = mean over (i, j) of ∂s_y / ∂A_k(i, j)
        map = ReLU(Σ_k α_k A_k), then upsampled, then divided by its largest value

    No hook is left behind, even where the model raises an exception. The model stays in the mode in
    which it comes, and its parameters and X keep their values; gradients left in `.grad` don't
    matter. Write it by hand: a library's Grad-CAM earns no points.

    Args:
        X: images, float tensor (N, 3, H, W).
        y: the class asked for, for each image, int64 tensor (N,); not always the predicted one.
        model: from images to class scores s, float tensor (N, C). None of its modules works in
            place. Some or all of its parameters may be frozen, and other people's hooks may hang
            on its modules.
        layer: the module whose output is A, float tensor (N, K, h, w): anywhere inside the model,
            which needn't be an nn.Sequential. It runs once.

    Returns:
        cam: float tensor (N, H, W) with values between 0 and 1. Upsampling is bilinear with
            align_corners=False. Each map's largest value is 1, whatever its smallest; a map
            without any positive evidence is all zeros.
    """
    ### BEGIN SOLUTION
    captured = []
    handle = layer.register_forward_hook(lambda module, inputs, output: captured.append(output))
    try:
        # Where the parameters are frozen, only an input that needs a gradient makes a graph.
        scores = model(X.detach().clone().requires_grad_())
    finally:
        handle.remove()
    (activations,) = captured
    score = scores.gather(1, y[:, None]).sum()
    (gradients,) = torch.autograd.grad(score, activations)

    alpha = gradients.mean(dim=(2, 3), keepdim=True)
    maps = (alpha * activations.detach()).sum(dim=1, keepdim=True).relu()
    maps = F.interpolate(maps, X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)
    ### END SOLUTION


# %% [markdown]
# **The form.** This layer has as many places as the image has pixels, so no upsampling is
# needed; and maps are compared up to their scale.

# %% test="grad_cam" points=3 aspect="the form, one image"
X, y, model = random_images(19, 1, 3, 6, 9), torch.tensor([0]), tiny_network(19)
### BEGIN EXPECTED
A = model[:3](X).detach().requires_grad_()  # conv1, norm1, relu1


def gradient_of(score):
    return torch.autograd.grad(score(model[3:](A)).sum(), A)[0]


def form_of(score, axes=(2, 3)):
    return form((gradient_of(score).mean(axes, keepdim=True) * A).sum(1).relu())


gradient = gradient_of(lambda scores: scores[:, 0])
signed = (gradient.mean((2, 3), keepdim=True) * A).sum(1)
predicted = model(X).argmax(1)
expected = form(reference.grad_cam(X, y, model, model.relu1))
mistakes = {
    "the ReLU is missing: only evidence for the class counts": form(signed),
    "the absolute value is taken where a ReLU is needed": form(signed.abs()),
    "normalising comes before the ReLU: first set negative values to zero, then divide": (
        form(signed - signed.amin((1, 2), keepdim=True))
    ),
    "the sign is reversed: it is the evidence against the class": form((-signed).relu()),
    "the gradient isn't averaged over the places: α has one value for each channel": (
        form((gradient * A).sum(1).relu())
    ),
    "the gradient is averaged over the channels: α needs the mean over places": (
        form_of(lambda scores: scores[:, 0], 1)
    ),
    "the gradient is averaged over the height only": form_of(lambda scores: scores[:, 0], 2),
    "the gradient is averaged over the width only": form_of(lambda scores: scores[:, 0], 3),
    "the gradient's absolute values are averaged: α is signed": (
        form((gradient.abs().mean((2, 3), keepdim=True) * A).sum(1).relu())
    ),
    "the ReLU is applied to α, before the sum: a channel may speak against the class": (
        form((gradient.mean((2, 3), keepdim=True).relu() * A).sum(1))
    ),
    "the gradient's negative values are left out before the mean: α is signed": (
        form((gradient.relu().mean((2, 3), keepdim=True) * A).sum(1).relu())
    ),
    "α is the largest gradient of its channel, not the mean": (
        form((gradient.amax((2, 3), keepdim=True) * A).sum(1).relu())
    ),
    "the gradient is that of the layer's input: α needs that of its output": (
        form(((gradient * (A > 0)).mean((2, 3), keepdim=True) * A).sum(1).relu())
    ),
    "the activations are missing: α has to weight them": form(gradient.sum(1).relu()),
    "y is ignored: the predicted class is asked for": (
        form_of(lambda scores: scores[:, predicted])
    ),
    "the scores of all classes are summed: each image is asked for its own": (
        form_of(lambda scores: scores)
    ),
    "the gradient of the loss is taken instead of the score's": (
        form_of(lambda scores: -scores.log_softmax(1)[:, 0])
    ),
    "the gradient of a softmax probability, or of its logarithm, was taken, not the score's": (
        form_of(lambda scores: scores.softmax(1)[:, 0])
    ),
}
mistakes = {name: value.detach() for name, value in mistakes.items()}
mistakes["the channels aren't weighted, or all with one number: each has its own α"] = form(
    A.sum(1)
)
### END EXPECTED
check_close(
    form(grad_cam(X, y, model, model.relu1)),
    expected,
    "the form of grad_cam(X, y, model, model.relu1) for one image",
    tolerance=1e-5,
    mistakes=mistakes,
)
check_without(grad_cam)

# %% test="grad_cam" points=2 aspect="the form, a batch"
X, y, model = random_images(13, 3, 3, 6, 9), torch.tensor([3, 0, 1]), tiny_network(13)
### BEGIN EXPECTED
A = model[:3](X).detach().requires_grad_()


def gradient_of(score):
    return torch.autograd.grad(score(model[3:](A)).sum(), A)[0]


def form_of(score, axes=(2, 3)):
    return form((gradient_of(score).mean(axes, keepdim=True) * A).sum(1).relu()).detach()


def own_score(scores):
    return scores[torch.arange(3), y]


expected = form(reference.grad_cam(X, y, model, model.relu1))
mistakes = {
    "the gradient is averaged over the batch as well: each image has its own α": (
        form_of(own_score, (0, 2, 3))
    ),
    "the gradient is averaged over the batch: α needs the mean over places": (
        form_of(own_score, 0)
    ),
    "y is ignored: the predicted class is asked for": (
        form(reference.grad_cam(X, model(X).argmax(1), model, model.relu1))
    ),
    "every image is asked for all classes in y: scores[:, y] has shape (N, N)": (
        form_of(lambda scores: scores[:, y])
    ),
    "every image is asked for the first image's class": (
        form(reference.grad_cam(X, y[[0, 0, 0]], model, model.relu1))
    ),
    "the model runs in training mode, where BatchNorm uses the batch's statistics": lambda: form(
        in_other_mode(reference.grad_cam, X, y, model, model.relu1)()
    ),
}
### END EXPECTED
check_close(
    form(grad_cam(X, y, model, model.relu1)),
    expected,
    "the form of grad_cam(X, y, model, model.relu1)",
    tolerance=1e-5,
    mistakes=mistakes,
)
check_without(grad_cam)

# %% [markdown]
# **The upsampling**, for a layer with fewer places than the image has pixels.

# %% test="grad_cam" points=2 aspect="the upsampling"
X, y, model = random_images(10, 2, 3, 8, 15), torch.tensor([1, 3]), tiny_network(10, grid=1)
### BEGIN EXPECTED
# This network averages over places, so its Grad-CAM is the ReLU of its class activation map.
maps = reference.class_activation_map(model[:7](X), model.linear.weight, y).detach()
signed, coarse = maps[:, None], maps[:, None].relu()


def resized(maps, mode="bilinear", size=(8, 15), **options):
    return F.interpolate(maps, size, mode=mode, **options)


expected = form(reference.grad_cam(X, y, model, model.relu2))
mistakes = {
    "the map isn't upsampled to the images' size": form(coarse[:, 0]),
    "upsampling has align_corners=True": form(resized(coarse, align_corners=True)[:, 0]),
    "upsampling takes the nearest value instead of being bilinear": (
        form(resized(coarse, "nearest")[:, 0])
    ),
    "upsampling is bicubic, not bilinear": form(resized(coarse, "bicubic")[:, 0]),
    "the ReLU comes after upsampling: it has to come before": form(resized(signed)[:, 0].relu()),
    "the ReLU is missing: only evidence for the class counts": form(resized(signed)[:, 0]),
    "normalising comes before the ReLU: first set negative values to zero, then divide": (
        form((resized(signed) - resized(signed).amin((2, 3), keepdim=True))[:, 0])
    ),
    "height and width are exchanged": form(resized(coarse, size=(15, 8))[:, 0]),
    "the result keeps a channel axis": form(resized(coarse)),
}
### END EXPECTED
check_close(
    form(grad_cam(X, y, model, model.relu2)),
    expected,
    "the form of grad_cam(X, y, model, model.relu2), a layer of 4 × 5 places for 8 × 15 pixels",
    tolerance=1e-5,
    mistakes=mistakes,
)
check_without(grad_cam)

# %% [markdown]
# **The range**, on a network whose features are the image itself: its class 0 counts red, class 1
# counts against red, class 2 counts red minus green. Then a map **without any evidence**.

# %% test="grad_cam" points=2 aspect="the range"
model = see_through_network(torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, -1, 0]]))
X, y = 0.2 + 0.2 * random_images(5, 3, 3, 3, 5), torch.tensor([0, 0, 2])
X[1] *= 2  # stronger evidence than in the other images
### BEGIN EXPECTED
signed = torch.stack([X[0, 0], X[1, 0], X[2, 0] - X[2, 1]])
evidence = signed.relu()
largest, lowest = evidence.amax((1, 2), keepdim=True), signed.amin((1, 2), keepdim=True)
least = evidence.amin((1, 2), keepdim=True)
expected = reference.grad_cam(X, y, model, model.features)
mistakes = {
    "the maps aren't divided by their largest values": evidence / 15,
    "the maps aren't divided by their largest values, and α is a sum": evidence,
    "the maps aren't divided by their largest values, and scores are averaged over images": (
        evidence / 15 / 3
    ),
    "the largest value of the whole batch divides them all: each map has its own": (
        evidence / evidence.max()
    ),
    "normalising comes before the ReLU: first set negative values to zero, then divide": (
        (signed - lowest) / (largest - lowest)
    ),
    "dividing comes before the ReLU, by the largest magnitude": (
        (signed / signed.abs().amax((1, 2), keepdim=True)).relu()
    ),
    "the smallest value is subtracted: only divide by the largest": (
        (evidence - least) / (largest - least)
    ),
    "the maps are divided by their sums, not by their largest values": (
        evidence / evidence.sum((1, 2), keepdim=True)
    ),
    "the maps are divided by their means, not by their largest values": (
        evidence / evidence.mean((1, 2), keepdim=True)
    ),
    "the maps run from 0 to 255, not from 0 to 1": 255 * expected,
    "there is no ReLU: only evidence for the class counts": signed / largest,
}
for floor in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
    mistakes[f"{floor:g} is added to the largest values, which is too much: they can be small"] = (
        evidence / (largest + 15 * floor)
    )
### END EXPECTED
name = "grad_cam for a network that counts red"
cam = grad_cam(X, y, model, model.features)
check_close(cam, expected, name, tolerance=1e-5, mistakes=mistakes)
X, y, model = random_images(20, 2, 3, 14, 15), torch.tensor([0, 2]), tiny_network(20, grid=1)
### BEGIN EXPECTED
maps = reference.class_activation_map(model[:7](X), model.linear.weight, y).detach().relu()
before = F.interpolate(form(maps)[:, None], (14, 15), mode="bilinear").amax((1, 2, 3))
mistakes = {"the maps are divided before they are upsampled, which flattens their peaks": before}
### END EXPECTED
name = "the largest values of two maps from a coarser layer"
peaks = grad_cam(X, y, model, model.relu2).amax((1, 2))
check_close(peaks, torch.ones(2), name, tolerance=1e-5, mistakes=mistakes)
check_without(grad_cam)

# %% test="grad_cam" points=1 aspect="no evidence"
model = see_through_network(torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, -1, 0]]))
X, y = 0.2 + 0.2 * random_images(5, 2, 3, 3, 5), torch.tensor([0, 1])
### BEGIN EXPECTED
signed = torch.stack([X[0, 0], -X[1, 0]])
lowest, highest = signed.amin((1, 2), keepdim=True), signed.amax((1, 2), keepdim=True)
divided = (signed / highest).relu()
expected = reference.grad_cam(X, y, model, model.features)
mistakes = {
    "normalising comes before the ReLU: a map without evidence has to be all zeros": (
        (signed - lowest) / (highest - lowest)
    ),
    "dividing comes before the ReLU: the largest value of a map can be negative": (
        divided / divided.max()
    ),
    "a map without evidence is all ones: it has to be all zeros": (
        torch.stack([expected[0], torch.ones(3, 5)])
    ),
    "there is no ReLU: only evidence for the class counts": (
        signed / signed.abs().amax((1, 2), keepdim=True)
    ),
}
### END EXPECTED
cam = grad_cam(X, y, model, model.features)
assert not isinstance(cam, torch.Tensor) or torch.isfinite(cam).all(), (
    "grad_cam gives NaN or infinite values: where there is no positive evidence,"
    " the map is all zeros, not 0/0."
)
if isinstance(cam, torch.Tensor) and cam.max() > 0:
    cam = cam / cam.max()  # the first map's scale is another test's matter
check_close(
    cam,
    expected,
    "the form of grad_cam where one of two images shows no evidence",
    tolerance=1e-5,
    mistakes=mistakes,
)
check_without(grad_cam)
### BEGIN HIDDEN TESTS
X = 0.1 + random_images(reference.seed, 5, 3, 4, 7)
weight = torch.rand(6, 3, generator=torch.Generator().manual_seed(reference.seed)) - 0.5
weight[[0, 5, 3], [0, 1, 2]] = 1.5  # so much evidence that 1e-8 in the divisor isn't felt
weight[2] = -weight[2].abs()
model, y = see_through_network(weight), torch.tensor([2, 0, 5, 2, 3])
expected = reference.grad_cam(X, y, model, model.features)
cam = grad_cam(X, y, model, model.features)
check_close(cam, expected, "grad_cam where two of five images show no evidence", tolerance=1e-5)
### END HIDDEN TESTS

# %% [markdown]
# **A frozen network**, none of whose parameters needs a gradient, and **everything as it was**.

# %% test="grad_cam" points=1 aspect="a frozen model"
X, y, model = random_images(16, 2, 3, 6, 9), torch.tensor([1, 3]), tiny_network(16)
model.requires_grad_(False)
### BEGIN EXPECTED
expected = form(reference.grad_cam(X, y, model, model.relu1))
### END EXPECTED
name = "the form of grad_cam for a model whose parameters are all frozen"
check_close(form(grad_cam(X, y, model, model.relu1)), expected, name, tolerance=1e-5)
check_without(grad_cam)

# %% test="grad_cam" points=2 aspect="everything as it was"
X, y, model = random_images(6, 2, 3, 6, 9), torch.tensor([2, 0]), tiny_network(6)
### BEGIN EXPECTED
expected = form(reference.grad_cam(X, y, model, model.relu2))
### END EXPECTED
name = "the form of grad_cam(X, y, model, model.relu2)"
check_close(form(grad_cam(X, y, model, model.relu2)), expected, name, tolerance=1e-5)
assert hooks_left(grad_cam, X[:, :2], y, model, model.relu2) == 0, (
    # Two colour channels: conv1 refuses.
    "grad_cam leaves a hook behind after an exception in the model."
)
grad_cam(X, y, model.train(), model.relu2)
check_without(grad_cam)
### BEGIN HIDDEN TESTS
for seed in range(reference.seed, reference.seed + 100):
    model = tiny_network(seed)
    expected = form(reference.grad_cam(X, y, model, model.relu1))
    # Evidence in some places and none in others: neither 0/0 nor a floor is this test's matter.
    if expected.amax((1, 2)).min() > 0 and expected.amin((1, 2)).max() == 0:
        break
name = "the form of grad_cam for another network"
check_close(form(grad_cam(X, y, model, model.relu1)), expected, name, tolerance=1e-5)
for layer in (model.conv1, model.relu2):
    # Images too small for the pooling, and classes that there aren't.
    assert hooks_left(grad_cam, X[..., :1, :1], y, model, layer) == 0, (
        "grad_cam leaves a hook behind after an exception in the model."
    )
    assert hooks_left(grad_cam, X, y + 4, model, layer) == 0, (
        "grad_cam leaves a hook behind after an exception that a wrong class raises."
    )
### END HIDDEN TESTS

# %% test="grad_cam" points=3 aspect="other networks and layers"
# Other layers and shapes, and networks that aren't one nn.Sequential, are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for number, shape in enumerate([(4, 3, 4, 6), (1, 3, 5, 6), (2, 3, 9, 7), (3, 3, 11, 8)]):
    seed = reference.seed + number
    X, model = random_images(seed, *shape), tiny_network(seed)
    y = torch.randint(4, shape[:1], generator=generator)
    for layer in (model.norm1, model.relu1, model.conv2, model.relu2):
        expected = form(reference.grad_cam(X, y, model, layer))
        check_close(
            form(grad_cam(X, y, model, layer)),
            expected,
            f"the form of grad_cam for images {shape}",
            tolerance=1e-5,
        )
for number, (parts, dtype) in enumerate([(False, torch.float64), (True, torch.float32)]):
    seed = reference.seed + number
    model = awkward_network(seed, parts=parts, mixed=True, hooks=True, gradients=True, dtype=dtype)
    X = random_images(seed, 3, 3, 9, 8).to(dtype)
    y = torch.randint(5, (3,), generator=generator)
    for path in (*model.maps, *model.blocks):
        layer = model.get_submodule(path)
        expected = form(reference.grad_cam(X, y, model, layer))
        check_close(
            form(grad_cam(X, y, model, layer)),
            expected,
            f"the form of grad_cam for the layer {path} of a network with a forward of its own",
            tolerance=1e-5 if dtype == torch.float64 else 1e-3,
        )
check_without(grad_cam)
### END HIDDEN TESTS

# %% test="grad_cam" points=1 aspect="written by hand"
X, y, model = random_images(13, 2, 3, 6, 9), torch.tensor([1, 3]), tiny_network(13)
### BEGIN EXPECTED
expected = form(reference.grad_cam(X, y, model, model.relu1))
### END EXPECTED
name = "the form of grad_cam(X, y, model, model.relu1)"
check_close(form(grad_cam(X, y, model, model.relu1)), expected, name, tolerance=1e-5)
check_without(grad_cam)

# %% [markdown]
# Time to look at something.

# %% fold="Figure: Grad-CAM lights the object that is asked for; its true outline is in white"
cam = grad_cam(images[:8], labels[:8], base, last_layer)
overlay(
    images[:8],
    cam,
    [CLASS_NAMES[c] for c in labels[:8]],
    masks=scenes.masks[:8],
    columns=4,
    inches=2.2,
    heading="Grad-CAM lights the object that is asked for; its true outline is in white",
)
plt.show()

# %% [markdown]
# The scale is the same for all eight and ends at 1, since each map was divided by its own largest
# value. The blobs are round, and fill the gaps between the points of a star: that is the 8 × 8
# grid, smoothed by the upsampling. Don't read a Grad-CAM's *outline* as the outline of anything.
#
# Is it CAM after all? For a network that ends in average pooling and a linear layer,
# Grad-CAM promises the same map as section 1, up to its ReLU and its scale. We ask both about the
# 64 places of a few scenes, for the class that is there and for one that isn't. (The first layer of
# `end` returns the feature maps that are handed in, so no upsampling blurs the comparison.)

# %%
with torch.no_grad():
    last_features = base.features(images[:3])
end = nn.Sequential(nn.Identity(), base.classifier)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", sharey=True)
figure.suptitle("Grad-CAM is CAM without its negative half, each map on a scale of its own")
for scene, ax in enumerate(axes):
    features = last_features[scene : scene + 1]
    for asked, marker, colour in (
        (labels[scene : scene + 1], "o", "#0072B2"),
        ((labels[scene : scene + 1] + 3) % 10, "^", "#E69F00"),
    ):
        by_weights = class_activation_map(features, base.classifier.linear.weight, asked)
        by_gradients = grad_cam(features, asked, end, end[0])
        ax.scatter(
            *(maps.detach().cpu().flatten() for maps in (by_weights, by_gradients)),
            s=14,
            marker=marker,
            color=colour,
            alpha=0.7,
            label=f"asked for {CLASS_NAMES[asked]}",
        )
    ax.set(title=f"a {CLASS_NAMES[labels[scene]]}", xlabel="CAM at a place")
    ax.axvline(0, color="0.7", linewidth=1)
    ax.legend(frameon=False, fontsize=8)
axes[0].set_ylabel("Grad-CAM at this place")
plt.show()

# %% [markdown]
# Left of zero Grad-CAM is zero, right of it a straight line, whose slope is another one for each
# map: it is one over the map's largest value. Mind what this does to the class that isn't there:
# its little evidence is drawn up to 1 as well. That all places lie on two lines is no coincidence,
# and you can show why.
#
# ### Question: why are they the same?
# ★★☆ · 20 minutes

# %% [markdown] question="why_the_same" points=5
# 1. A network ends in global average pooling over $h \times w$ places and a linear layer with
#    weights $W$. Write down $\partial s_c / \partial A_k(i, j)$, then $\alpha_k$, and conclude how
#    the map $L_c$ is related to the class activation map $M_c$. (One line each.)
# 2. VGG-16 flattens its last feature maps and puts three linear layers behind them. Which step of
#    your argument fails, and what does the mean over $(i, j)$ throw away there?
#
# ### BEGIN SOLUTION
# 1 (3 points). $s_c = b_c + \sum_k W_{ck} \frac{1}{hw} \sum_{ij} A_k(i, j)$, so $\partial s_c /
# \partial A_k(i, j) = W_{ck} / (hw)$, the same at every place (1 point). Its mean is $\alpha_k =
# W_{ck} / (hw)$ (1 point), so $L_c = \mathrm{ReLU}(M_c) / (hw)$; dividing by the largest value
# removes the factor (1 point). Forgetting the ReLU costs half a point.
#
# 2 (2 points). The gradient is no longer the same at every place, nor independent of the image: the
# linear layers weight each place on its own, and their ReLUs make it depend on the image (1 point).
# The mean throws away at *which* places a channel matters to the class: the map says where the
# channel is active, not where its activity counts (1 point). "Grad-CAM can't be computed for VGG"
# is wrong.
# ### END SOLUTION

# %% [markdown]
# ## 4. One picture, two answers
#
# Here is what Grad-CAM is loved for. Each of these scenes holds two objects of different classes.
# We ask the same network about the same picture three times: for the one, for the other, and for a
# class that isn't there at all.

# %% fold="Figure: Asked for one object it lights that one, asked for the other, the other"
pairs = make_scenes(60, np.random.default_rng(14), "two_objects")
pair_images, first = (tensor.to(device) for tensor in pairs.tensors())
second = torch.from_numpy(pairs.second.shape_class).to(device)
absent = (first + 1) % 10
absent = torch.where(absent == second, (absent + 1) % 10, absent)
answers = [grad_cam(pair_images, asked, base, last_layer) for asked in (first, second, absent)]

shown = slice(0, 4)
titles = [
    f"asked for {CLASS_NAMES[asked]}{note}"
    for asked_in_row, note in ((first, ""), (second, ""), (absent, "\n(absent)"))
    for asked in asked_in_row[shown]
]
contact_sheet(
    pair_images[shown],
    [
        f"{CLASS_NAMES[a]} and {CLASS_NAMES[b]}"
        for a, b in zip(first[shown], second[shown], strict=True)
    ],
    columns=4,
    inches=2,
    heading="Four scenes with two objects each",
)
overlay(
    pair_images[shown].repeat(3, 1, 1, 1),
    torch.cat([answer[shown] for answer in answers]),
    titles,
    masks=np.concatenate([pairs.masks[shown], pairs.second.masks[shown], 0 * pairs.masks[shown]]),
    columns=4,
    inches=2,
    heading="Asked for one object it lights that one, asked for the other, the other",
)
plt.show()


# %%
def correlation(maps, others):
    """The mean correlation of map n with other map n; a map of zeros is correlated with nothing."""
    two = [torch.stack([a.flatten(), b.flatten()]) for a, b in zip(maps, others, strict=True)]
    return np.mean([torch.corrcoef(both)[0, 1].item() for both in two if both.any(1).all()])


print(f"correlation of the two maps of a scene, mean of 60: {correlation(*answers[:2]):+.2f}")

# %% [markdown]
# The first two rows are the dog and the cat of the introduction. The third one is a warning: there
# is no such object, and still some spot shines as brightly as the objects above (unless nothing at
# all speaks for the class, which leaves the map dark). **Dividing by the largest value hides how
# much evidence there was.** Before you believe a bright spot, look at the size of the map before
# its division, or simply at the score.

# %%
with torch.no_grad():
    pair_scores = base(pair_images)
    pair_maps = [
        class_activation_map(base.features(pair_images), base.classifier.linear.weight, asked)
        for asked in (first, second, absent)
    ]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
figure.suptitle("What the division hides: for an absent class there is hardly any evidence")
names = ["one object", "the other", "absent class"]
peaks = [maps.relu().amax((1, 2)).cpu() for maps in pair_maps]
scores = [pair_scores.gather(1, asked[:, None])[:, 0].cpu() for asked in (first, second, absent)]
for ax, values, label in zip(
    axes, (peaks, scores), ["largest value of the map M", "class score"], strict=True
):
    ax.boxplot(values, widths=0.6, medianprops={"color": "black"})
    ax.set_xticks([1, 2, 3], names)
    ax.set_ylabel(label)
    ax.grid(axis="y", color="0.9")
plt.show()

# %% [markdown]
# For the classes that are there, the undivided map typically reaches about 40, for the absent ones
# only a few. So show the score beside a Grad-CAM, or say that it was high.
#
# Where your notebook can show menus, ask your own questions here: any picture, any class, any layer.
# If you gave a picture of your own, it comes first, cut to a square of 64 × 64 pixels: the network
# knows ten classes and no photographs, so what it answers is what it would see *if* there were one
# of them. Watch the score.

# %% fold="Ask for any class in any picture, at any layer"
from ipywidgets import Dropdown

from utils.images import preprocess

layers = [f"features.relu{number}" for number in range(1, 7)]
pictures = {
    f"{CLASS_NAMES[a]} and {CLASS_NAMES[b]} ({number})": pair_images[number - 1 : number]
    for number, (a, b) in enumerate(zip(first, second, strict=True), start=1)
}
mine = own.load(base.input_size)
if mine is not None:
    pictures = {"your picture": preprocess(mine).to(device)} | pictures


def ask(picture, asked, layer):
    image, y = pictures[picture], torch.tensor([CLASS_NAMES.index(asked)], device=device)
    with torch.no_grad():
        scores = base(image)[0]
    overlay(
        image,
        grad_cam(image, y, base, base.get_submodule(layer)),
        [f"{asked}: score {scores[y].item():.1f}; the highest is {scores.max():.1f}"],
        inches=4,
    )


explore(
    ask,
    picture=Dropdown(options=list(pictures)),
    asked=Dropdown(options=CLASS_NAMES, value=CLASS_NAMES[first[0]], description="class"),
    layer=Dropdown(options=layers, value=base.last_conv),
)

# %% [markdown]
# ### What speaks against it?
#
# The ReLU throws half of the answer away. Ask for the *negative* score, and Grad-CAM shows the
# other half: where the network sees something that speaks against the class. Selvaraju et al. call
# it a **counterfactual** explanation, for it says what would have to be gone. And it can be put to
# the test: blur what the map shows, and the class ought to become *more* probable.

# %% fold="Figure: What speaks against the one object is the other one, whose outline is in white"
from scipy.ndimage import gaussian_filter


class Negative(nn.Module):
    def forward(self, scores):
        return -scores


def blur(images):
    """Images (N, 3, H, W), blurred so much that the network recognises nothing in them."""
    return torch.from_numpy(gaussian_filter(images.cpu().numpy(), (0, 0, 5, 5))).to(device)


against = grad_cam(pair_images, first, nn.Sequential(base, Negative()), last_layer)
region = against >= 0.5
blurred = blur(pair_images)
without = torch.where(region[:, None], blurred, pair_images)
mirrored = torch.where(region.flip(2)[:, None], blurred, pair_images)
with torch.no_grad():
    before, after, control = (
        base(tried).softmax(1).gather(1, first[:, None])[:, 0].cpu()
        for tried in (pair_images, without, mirrored)
    )
overlay(
    pair_images[shown],
    against[shown],
    [
        f"against {CLASS_NAMES[c]}: p = {p:.2f}"
        for c, p in zip(first[shown], before[shown], strict=True)
    ],
    masks=pairs.second.masks[shown],
    columns=4,
    inches=2.1,
    heading="What speaks against the one object is the other one, whose outline is in white",
)
contact_sheet(
    without[shown],
    [f"{CLASS_NAMES[c]}: p = {p:.2f}" for c, p in zip(first[shown], after[shown], strict=True)],
    columns=4,
    inches=2.1,
    heading="With that blurred, the network is sure of the first object",
)
plt.show()
print(f"probability of the first object, mean of {len(pairs)} scenes: {before.mean():.2f}")
print(f"  with the region blurred that speaks against it:    {after.mean():.2f}")
print(f"  with the same region, mirrored, blurred instead:   {control.mean():.2f}")

# %% [markdown]
# The map leads to the other object without ever having been asked for its class, and to change the
# picture there changes the answer, while the same region on the wrong side changes little. This is
# more than a bright spot: an *intervention* that the map foretold. Only be careful with the word
# "against": the probabilities of all classes add up to one, so whatever speaks for another class
# makes this one less probable, even where its own score stays the same.
#
# ## 5. How good is a map?
#
# A few pictures that look right prove little: we like to see what we expect. Our scenes come
# with a **mask** of the object's pixels, so we can count.
#
# The **pointing game** (Zhang et al., 2016) asks one thing of a map: is its brightest pixel on the
# object? As coarse maps peak in the middle of a place, a few pixels of tolerance are usually
# granted.
#
# ### Exercise: `pointing_game`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# `cam[n].argmax()` counts through the map row by row; `divmod(index, W)` turns the count into a row
# and a column. For the distances, lay the coordinates of all pixels of the mask beside it:
# `masks[n].nonzero()` has shape (number of pixels, 2).
#
# </details>


# %% exercise="pointing_game"
def pointing_game(cam, masks, tolerance=0):
    """Whether each map's brightest pixel lies on the object, or close to it (Zhang et al., 2016).

    Args:
        cam: maps, float tensor (N, H, W), none of them negative.
        masks: the objects' pixels, bool tensor (N, H, W); no mask is empty.
        tolerance: how far from the nearest pixel of the mask, in pixels, the brightest one may
            lie to count as a hit, this distance included. Distances are Euclidean, between the
            pixels' centres.

    Returns:
        hits: bool tensor (N,). A map that is zero everywhere points nowhere: no hit.
    """
    ### BEGIN SOLUTION
    hits = []
    for heat, mask in zip(cam, masks, strict=True):
        row, column = divmod(heat.argmax().item(), heat.shape[1])
        peak = torch.tensor([row, column], device=mask.device)
        distances = (mask.nonzero() - peak).double().square().sum(1).sqrt()
        hits.append(heat.max() > 0 and distances.min() <= tolerance)
    return torch.tensor(hits)
    ### END SOLUTION


# %% test="pointing_game" points=1 aspect="strictly"
cam = torch.zeros(6, 5, 9, dtype=torch.float64)
masks = torch.zeros(6, 5, 9, dtype=torch.bool)
masks[:, 1:3, 4:6] = True
masks[5, 0, 0] = True
for n, (row, column) in enumerate([(2, 4), (4, 2), (1, 0), (4, 4), (2, 5)]):
    cam[n, row, column] = 0.5 + 0.1 * n  # the last map stays zero
cam[2, 2, 4] = 0.6  # bright, on the object, and not the brightest
masks[3, 4, 8] = True  # beside the peak, and far away
hits = pointing_game(cam, masks)
assert getattr(hits, "ndim", 0) > 0 or not isinstance(hits, float | torch.Tensor), (
    "pointing_game returns one number for all maps: each needs a hit or a miss of its own."
)
check_close(
    hits,
    torch.tensor([True, False, False, False, True, False]),
    "pointing_game(cam, masks)",
    mistakes={
        "row and column are exchanged": torch.tensor([False, True, False, False, False, False]),
        "a map that is zero everywhere counts as a hit": (
            torch.tensor([True, False, False, False, True, True])
        ),
        "the brightest pixel of the whole batch is used, not each map's own": (
            torch.tensor([True, True, True, True, True, True])
        ),
        "hits and misses are exchanged": torch.tensor([False, True, True, True, False, True]),
        "argmax's answer is divided by the map's height: a row has as many pixels as the map is"
        " wide": torch.tensor([False, False, True, False, False, False]),
        "the brightest pixel is within the rows and columns of the mask, but not on it": (
            torch.tensor([True, False, False, True, True, False])
        ),
        "one bright pixel on the object is enough: only the brightest counts": (
            torch.tensor([True, False, True, False, True, False])
        ),
    },
)

# %% test="pointing_game" points=2 aspect="a tolerance"
cam = torch.zeros(5, 5, 9, dtype=torch.float64)
masks = torch.zeros(5, 5, 9, dtype=torch.bool)
masks[:, 1:3, 4:6] = True
for n, (row, column) in enumerate([(2, 4), (4, 2), (3, 6), (2, 1), (4, 1)]):
    cam[n, row, column] = 0.5 + 0.1 * n
check_close(
    pointing_game(cam, masks, tolerance=3),
    torch.tensor([True, True, True, True, False]),
    "pointing_game(cam, masks, tolerance=3)",
    mistakes={
        "the tolerance is ignored": torch.tensor([True, False, False, False, False]),
        "a distance equal to the tolerance doesn't count: it should": (
            torch.tensor([True, True, True, False, False])
        ),
        "the distance is measured by row and column apart, as on a chessboard, where it should be"
        " Euclidean": torch.tensor([True, True, True, True, True]),
        "the distance is measured by row and column added up, where it should be Euclidean": (
            torch.tensor([True, False, True, True, False])
        ),
        "the squared distance is compared with the tolerance: take its root": (
            torch.tensor([True, False, True, False, False])
        ),
    },
)
for tolerance, hit, mistake in [
    (1, False, "the distance is measured by row and column apart, as on a chessboard"),
    (1.5, True, "the tolerance is rounded down: it needn't be a whole number"),
]:
    check_close(
        pointing_game(cam[2:3], masks[2:3], tolerance=tolerance),
        torch.tensor([hit]),
        f"pointing_game at tolerance {tolerance} for a pixel that touches a corner of the mask",
        mistakes={mistake: torch.tensor([not hit])},
    )

# %% test="pointing_game" points=1 aspect="general shapes"
# Other shapes, masks and tolerances are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, share in [((40, 9, 6), 0.05), ((30, 5, 12), 0.3), ((1, 3, 4), 0.1)]:
    cam = torch.rand(shape, generator=generator, dtype=torch.float64)
    masks = torch.rand(shape, generator=generator) < share
    masks[:, 2, 3] = True
    cam[3:4] = 0
    for tolerance in (0, 1, 1.5, 2.3, 3):
        expected = reference.pointing_game(cam, masks, tolerance)
        check_close(
            pointing_game(cam, masks, tolerance=tolerance),
            expected,
            f"pointing_game for maps {shape} at tolerance {tolerance}",
        )
### END HIDDEN TESTS

# %% [markdown]
# How does Grad-CAM do on 120 scenes that the network has never seen?

# %%
scene_masks = torch.from_numpy(scenes.masks)
scene_maps = grad_cam(images, labels, base, last_layer).cpu()
tolerances = np.arange(0, 9)
hits = [pointing_game(scene_maps, scene_masks, t).float().mean().item() for t in tolerances]

plt.figure(figsize=(5.4, 3.2), layout="constrained")
plt.title("Grad-CAM points well, nearly always within a few pixels")
plt.plot(tolerances, hits, marker="o", color="#0072B2")
plt.xlabel("tolerance in pixels")
plt.ylabel("hits in the pointing game")
plt.ylim(0, 1.03)
plt.grid(color="0.9")
plt.show()
print(f"pointing game: {hits[0]:.2f} strictly, {hits[3]:.2f} within 3 pixels")

# %% [markdown]
# In roughly four scenes out of five the peak is on the object, and with three pixels of tolerance
# in more than nine out of ten. With a generous tolerance, though, everything points well: eight
# pixels are a whole place of the last layer, and an eighth of the picture.
#
# ### How well does it cover? (optional)
#
# The pointing game looks at one pixel out of 4096. **Intersection over union** looks at all: call
# every pixel *lit* whose value reaches a threshold $t$, and compare the lit region $R$ with the
# mask $O$,
#
# $$\mathrm{IoU} = \frac{|R \cap O|}{|R \cup O|},$$
#
# which is 1 only if they are the same, and 0 if they have nothing in common. A region that is too
# large loses as well as one that is too small.
#
# ### Exercise: `intersection_over_union` (optional)
# ★☆☆ · 10 minutes · optional


# %% exercise="intersection_over_union"
def intersection_over_union(cam, masks, threshold=0.5):
    """How well the lit region of each map covers the object.

        IoU = |lit ∩ object| / |lit ∪ object|,   lit where cam ≥ threshold

    Args:
        cam: maps, float tensor (N, H, W) with values between 0 and 1.
        masks: the objects' pixels, bool tensor (N, H, W); no mask is empty.
        threshold: the value from which on a pixel is lit, this value included.

    Returns:
        iou: float tensor (N,) with values between 0 and 1.
    """
    ### BEGIN SOLUTION
    lit = cam >= threshold
    return (lit & masks).sum((1, 2)) / (lit | masks).sum((1, 2))
    ### END SOLUTION


# %% test="intersection_over_union" points=1 aspect="one image"
cam, masks = random_images(7, 1, 4, 6), torch.zeros(1, 4, 6, dtype=torch.bool)
masks[0, 1:3, 2:6], masks[0, 2, 5] = True, False
cam[0, 1, 2] = cam[0, 0, 1] = 0.5
### BEGIN EXPECTED
lit, strictly = cam >= 0.5, cam > 0.5
both, either = (lit & masks).sum((1, 2)).double(), (lit | masks).sum((1, 2))
sizes = lit.sum((1, 2)) + masks.sum((1, 2))
expected = reference.intersection_over_union(cam, masks)
mistakes = {
    "a value equal to the threshold isn't lit: it should be": (
        (strictly & masks).sum((1, 2)) / (strictly | masks).sum((1, 2))
    ),
    "the intersection is divided by the object's size (recall)": both / masks.sum((1, 2)),
    "the intersection is divided by the lit region's size (precision)": both / lit.sum((1, 2)),
    "the intersection is divided by both sizes added up: the union counts no pixel twice": (
        both / sizes
    ),
    "it is the Dice coefficient, 2 |R ∩ O| / (|R| + |O|)": 2 * both / sizes,
    "it is the share of pixels on which region and mask agree": (
        (lit == masks).double().mean((1, 2))
    ),
    "the intersection is divided by the number of all pixels": both / 24,
    "the map's values are summed inside the mask: count lit pixels": (
        (cam * masks).sum((1, 2)) / either
    ),
    "the fraction is rounded down to an integer": both // either,
    "what is in both is left out of the union": both / (lit ^ masks).sum((1, 2)),
    "the pixels below the threshold are called lit": (
        (~lit & masks).sum((1, 2)) / (~lit | masks).sum((1, 2))
    ),
    "the map's values are compared with the mask as they are: first call pixels lit or not": (
        torch.minimum(cam, masks.double()).sum((1, 2))
        / torch.maximum(cam, masks.double()).sum((1, 2))
    ),
}
### END EXPECTED
check_close(
    intersection_over_union(cam, masks),
    expected,
    "intersection_over_union(cam, masks) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="intersection_over_union" points=1 aspect="a batch and a threshold"
cam, masks = random_images(7, 3, 4, 6), torch.zeros(3, 4, 6, dtype=torch.bool)
masks[0, 1:3, 2:6], masks[1, :, :3], masks[2, 3, 4] = True, True, True
### BEGIN EXPECTED
expected = reference.intersection_over_union(cam, masks)
lit = cam >= 0.5
mistakes = {
    "all images are pooled into one number: each has its own": (
        (lit & masks).sum() / (lit | masks).sum()
    ),
    "all images are averaged into one number: each has its own": expected.mean(),
    "the first image's mask is used for all of them": (
        reference.intersection_over_union(cam, masks[[0, 0, 0]])
    ),
    "the threshold is taken for a part of each map's largest value": (
        reference.intersection_over_union(form(cam), masks)
    ),
}
at_a_quarter = reference.intersection_over_union(cam, masks, 0.25)
ignored = {"the threshold is ignored": expected}
### END EXPECTED
check_close(
    intersection_over_union(cam, masks),
    expected,
    "intersection_over_union(cam, masks)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_close(
    intersection_over_union(cam, masks, threshold=0.25),
    at_a_quarter,
    "intersection_over_union(cam, masks, threshold=0.25)",
    tolerance=1e-6,
    mistakes=ignored,
)

# %% test="intersection_over_union" points=1 aspect="general shapes"
# Other shapes and thresholds are tried here, among them some that light nothing and everything.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, threshold in [((5, 7, 4), 0.8), ((1, 3, 9), 0.1), ((4, 2, 2), 1.5), ((2, 3, 5), 0)]:
    cam = torch.rand(shape, generator=generator, dtype=torch.float64)
    masks = torch.rand(shape, generator=generator) < 0.4
    masks[:, 0, 1] = True
    cam[:, 1, 0] = threshold
    expected = reference.intersection_over_union(cam, masks, threshold)
    check_close(
        intersection_over_union(cam, masks, threshold),
        expected,
        f"intersection_over_union for maps {shape} at threshold {threshold}",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# Which threshold suits Grad-CAM, and how well does the lit region cover the object then?

# %%
thresholds = np.linspace(0.05, 0.95, 19)
iou = [intersection_over_union(scene_maps, scene_masks, t).mean().item() for t in thresholds]
plt.figure(figsize=(5.4, 3.2), layout="constrained")
plt.title("Grad-CAM draws badly, whatever the threshold")
plt.plot(thresholds, iou, marker="o", color="#0072B2")
plt.xlabel("threshold")
plt.ylabel("mean IoU with the mask")
plt.ylim(0, 1.03)
plt.grid(color="0.9")
plt.show()
print(f"mean IoU: at best {max(iou):.2f}, at threshold {thresholds[np.argmax(iou)]:.2f}")

# %% [markdown]
# The usual threshold of a half lights far more than the object; a higher one shrinks the blob until
# it fits better, but it stays a blob. Mind that we chose the best threshold *with* the masks, which
# nobody has where a map is really needed.
#
# ## 6. Does the network need what the map shows?
#
# The pointing game asks whether a map finds *our* object. Whether it finds what *the network* goes
# by is another question, and it needs no mask: change those pixels, and see what the network says.
# **Insertion** starts from a blurred image, in which the network recognises nothing, and puts the
# pixels of the true one back, the most important first by the map's word. **Deletion** goes the
# other way: it blurs the most important pixels of the true image first (Petsiuk et al., 2018). What
# we watch is the probability of the class asked for. A good map makes it rise soon in the one and
# fall soon in the other, so that the *area* beneath the first curve is large and beneath the second
# one small.
#
# ### Exercise: `insertion_deletion`
# ★★☆ · 20 minutes
#
# <details><summary>Hint 1: which pixels</summary>
#
# `argsort` says which pixel comes first, which second, and so on. What you need is the reverse: at
# which position does each pixel come? That is its *rank*, and the `argsort` of the `argsort`. A
# pixel is chosen where its rank is smaller than the number of pixels to choose. Equal values keep
# their order with `stable=True` only.
#
# </details>
# <details><summary>Hint 2: mixing two images</summary>
#
# `torch.where(chosen, inside, outside)` takes each value from the one or from the other. A mask
# (N, H, W) needs an axis for the colour channels first.
#
# </details>


# %% exercise="insertion_deletion"
def insertion_deletion(X, y, model, maps, baseline, fractions):
    """Insertion and deletion curves of maps (Petsiuk et al., 2018).

    At a fraction q, the q · H · W pixels with the largest values in an image's map are chosen, with
    all their colours: a whole number of them, the nearest to q · H · W. Then

        insertion(q) = p_y(image that is X at the chosen pixels, and the baseline elsewhere)
        deletion(q)  = p_y(image that is the baseline at the chosen pixels, and X elsewhere)

    where p_y is the softmax probability of the class asked for.

    Args:
        X: images, float tensor (N, 3, H, W).
        y: the class asked for, for each image, int64 tensor (N,).
        model: from images to class scores (N, C). It stays in the mode in which it comes.
        maps: one for each image, float tensor (N, H, W), signed. Of pixels with equal values, the
            one that comes first row by row is chosen first.
        baseline: what stands for "nothing to see" in each image, float tensor (N, 3, H, W).
        fractions: between 0 and 1, float tensor (S,).

    Returns:
        insertion: float tensor (N, S).
        deletion: float tensor (N, S).
    """
    ### BEGIN SOLUTION
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).reshape(maps.shape)
    insertion, deletion = [], []
    with torch.no_grad():
        for fraction in fractions:
            chosen = (rank < (fraction * rank[0].numel()).round())[:, None]
            for curve, inside, outside in ((insertion, X, baseline), (deletion, baseline, X)):
                probabilities = model(torch.where(chosen, inside, outside)).softmax(dim=1)
                curve.append(probabilities.gather(1, y[:, None])[:, 0])
    return torch.stack(insertion, dim=1), torch.stack(deletion, dim=1)
    ### END SOLUTION


# %% [markdown]
# **Insertion**, then **deletion**, for one image of 6 × 9 pixels and a map without equal values.

# %% test="insertion_deletion" points=2 aspect="insertion, one image"
X, y, model = random_images(64, 1, 3, 6, 9), torch.tensor([1]), tiny_network(64)
maps, baseline = random_images(65, 1, 6, 9) - 0.5, random_images(66, 1, 3, 6, 9) / 2
fractions = torch.tensor([0, 0.05, 0.3, 0.7, 1], dtype=torch.float64)
### BEGIN EXPECTED
expected, by_deletion = reference.insertion_deletion(X, y, model, maps, baseline, fractions)


def inserted(maps=maps, X=X, baseline=baseline, fractions=fractions):
    return reference.insertion_deletion(X, y, model, maps, baseline, fractions)[0]


def curve(chosen, answer=lambda scores: scores.softmax(1)[:, 1], nothing=baseline):
    mixed = [torch.where(pixels, X, nothing) for pixels in chosen]
    with torch.no_grad():
        return torch.stack([answer(model(image)) for image in mixed], dim=1)


order = maps.flatten(1).argsort(dim=1, descending=True)
rank = order.argsort(dim=1).reshape(maps.shape)
right = [rank < round(54 * q) for q in fractions.tolist()]
mistakes = {
    "insertion and deletion are exchanged": by_deletion,
    "the smallest values of the map come first": inserted(-maps),
    "the largest magnitudes come first: maps are signed": inserted(maps.abs()),
    "negative values of the map count as zero: they have an order as well": inserted(maps.relu()),
    "the chosen pixels are added to the baseline: they take its place": (inserted(X=X + baseline)),
    "argsort's answer is used as each pixel's rank: it says which pixel comes first": (
        curve([order.reshape(maps.shape) < round(54 * q) for q in fractions.tolist()])
    ),
    "pixels are chosen where the map reaches a fraction of its largest value": (
        curve([maps >= (1 - q) * maps.max() for q in fractions.tolist()])
    ),
    "the number of pixels is rounded down, not to the nearest": (
        curve([rank < int(54 * q) for q in fractions.tolist()])
    ),
    "the number of pixels is rounded up, not to the nearest": (
        curve([rank < -int(-54 * q // 1) for q in fractions.tolist()])
    ),
    "one pixel too many is chosen: ranks start at zero": (
        curve([rank <= round(54 * q) for q in fractions.tolist()])
    ),
    "a step inserts its own pixels only, and forgets those of the steps before": (
        curve([now & ~before for now, before in zip(right, [right[0], *right], strict=False)])
    ),
    "outside of the chosen pixels the image is black: the baseline belongs there": (
        curve(right, nothing=torch.zeros(()))
    ),
    "the class score is returned, not its probability": curve(right, lambda scores: scores[:, 1]),
    "sigmoid takes the place of softmax": curve(right, lambda scores: scores.sigmoid()[:, 1]),
    "it is returned whether the class is predicted, not its probability": (
        curve(right, lambda scores: (scores.argmax(1) == 1).double())
    ),
    "the logarithm of the probability is returned": (
        curve(right, lambda scores: scores.log_softmax(1)[:, 1])
    ),
    "the largest probability is returned, whatever its class": (
        curve(right, lambda scores: scores.softmax(1).amax(1))
    ),
    "y is ignored: the predicted class is asked for": (
        curve(right, lambda scores: scores.softmax(1)[:, model(X).argmax()])
    ),
    "the probability is divided by that of the whole image": expected / expected[:, -1:],
    "the fractions are taken in reverse": expected.flip(1),
}
### END EXPECTED
name = "insertion_deletion(X, y, model, maps, baseline, fractions) for one image"
insertion, _ = check_tuple(
    insertion_deletion(X, y, model, maps, baseline, fractions), ("insertion", "deletion"), name
)
name = "insertion for one image and the fractions 0, 0.05, 0.3, 0.7 and 1"
check_close(insertion, expected, name, mistakes=mistakes)

# %% test="insertion_deletion" points=2 aspect="deletion, one image"
X, y, model = random_images(111, 1, 3, 6, 9), torch.tensor([1]), tiny_network(111)
maps, baseline = random_images(112, 1, 6, 9) - 0.5, random_images(113, 1, 3, 6, 9) / 2
fractions = torch.tensor([0, 0.05, 0.3, 0.7, 1], dtype=torch.float64)
### BEGIN EXPECTED
by_insertion, expected = reference.insertion_deletion(X, y, model, maps, baseline, fractions)
nothing = torch.zeros_like(X)
mistakes = {
    "insertion and deletion are exchanged": by_insertion,
    "the smallest values of the map come first, where deletion starts with the largest": (
        reference.insertion_deletion(X, y, model, -maps, baseline, fractions)[1]
    ),
    "deletion is one minus insertion: the network has to look at the other images": (
        1 - by_insertion
    ),
    "deletion is insertion read backwards: the pixels that are left are the least important": (
        by_insertion.flip(1)
    ),
    "the chosen pixels are black: the baseline belongs there": (
        reference.insertion_deletion(X, y, model, maps, nothing, fractions)[1]
    ),
    "what deletion takes away is added up: 1 − p is returned": 1 - expected,
    "the drop of the probability is returned, not the probability": expected[:, :1] - expected,
    "the probability is divided by that of the whole image": expected / expected[:, :1],
}
### END EXPECTED
name = "insertion_deletion(X, y, model, maps, baseline, fractions) for one image"
_, deletion = check_tuple(
    insertion_deletion(X, y, model, maps, baseline, fractions), ("insertion", "deletion"), name
)
name = "deletion for one image and the fractions 0, 0.05, 0.3, 0.7 and 1"
check_close(deletion, expected, name, mistakes=mistakes)

# %% test="insertion_deletion" points=2 aspect="a batch"
X, y, model = random_images(50, 3, 3, 6, 9), torch.tensor([3, 0, 1]), tiny_network(50)
maps, baseline = random_images(51, 3, 6, 9) - 0.5, random_images(52, 3, 3, 6, 9) / 2
maps[1] += 0.2
fractions = torch.tensor([0.05, 0.3, 0.7], dtype=torch.float64)
### BEGIN EXPECTED
expected = torch.stack(reference.insertion_deletion(X, y, model, maps, baseline, fractions))


def curves(y=y, maps=maps, baseline=baseline):
    return torch.stack(reference.insertion_deletion(X, y, model, maps, baseline, fractions))


def over_the_batch(q):
    """The probabilities at one fraction, where softmax runs over the images, not the classes."""
    rank = maps.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).reshape(maps.shape)
    chosen = (rank < round(54 * q))[:, None]
    mixed = torch.where(chosen, X, baseline), torch.where(chosen, baseline, X)
    with torch.no_grad():
        return torch.stack([model(image).softmax(0)[torch.arange(3), y] for image in mixed])


pooled = maps.flatten().argsort(descending=True).argsort().reshape(maps.shape)
best = model(X).argmax(1)
mistakes = {
    "the first image's map is used for all of them": curves(maps=maps[[0, 0, 0]]),
    "the first image's baseline is used for all of them": curves(baseline=baseline[[0, 0, 0]]),
    "every image is asked for the first image's class": curves(y=y[[0, 0, 0]]),
    "y is ignored: the predicted class is asked for": curves(y=best),
    "the softmax runs over the images, not over the classes": (
        torch.stack([over_the_batch(q) for q in fractions.tolist()], dim=2)
    ),
    "the curves are averaged over the images: each has its own": expected.mean(1),
    "the curves have their axes exchanged: expected is (N, S)": expected.transpose(1, 2),
    "pixels are ranked over the whole batch: each image has its own order": (
        torch.stack(
            [
                torch.stack(
                    [
                        model(torch.where((pooled < round(162 * q))[:, None], inside, outside))
                        .softmax(1)
                        .gather(1, y[:, None])[:, 0]
                        for q in fractions.tolist()
                    ],
                    dim=1,
                ).detach()
                for inside, outside in ((X, baseline), (baseline, X))
            ]
        )
    ),
}
### END EXPECTED
name = "insertion_deletion(X, y, model, maps, baseline, fractions)"
answer = check_tuple(
    insertion_deletion(X, y, model, maps, baseline, fractions), ("insertion", "deletion"), name
)
for number, curve in enumerate(("insertion", "deletion")):
    check_close(
        answer[number],
        expected[number],
        f"{curve} for three images",
        mistakes={mistake: value[number] for mistake, value in mistakes.items()},
    )

# %% [markdown]
# **Equal values**: half of a Grad-CAM is zero, and its pixels have an order all the same.

# %% test="insertion_deletion" points=1 aspect="equal values"
X, y, model = random_images(41, 2, 3, 6, 9), torch.tensor([3, 0]), tiny_network(41)
maps, baseline = (4 * random_images(42, 2, 6, 9)).floor(), random_images(43, 2, 3, 6, 9) / 2
fractions = torch.tensor([0.2, 0.6], dtype=torch.float64)  # 11 and 32 pixels of 54
place = torch.arange(54.0).reshape(6, 9)
unequal = maps - place / 1e4  # the same order, and no two values alike
### BEGIN EXPECTED
expected = torch.stack(reference.insertion_deletion(X, y, model, maps, baseline, fractions))


def curves(adjusted):
    return torch.stack(reference.insertion_deletion(X, y, model, adjusted, baseline, fractions))


def with_all_equals(q, strictly):
    """The curves at one fraction, where all pixels of the last value that fits go together."""
    values = maps.flatten(1).sort(dim=1, descending=True).values
    last = values[:, round(54 * q) - 1][:, None, None]
    chosen = (maps > last if strictly else maps >= last)[:, None]
    with torch.no_grad():
        return torch.stack(
            [
                model(torch.where(chosen, a, b)).softmax(1)[torch.arange(2), y]
                for a, b in ((X, baseline), (baseline, X))
            ]
        )


column_by_column = torch.arange(54.0).reshape(9, 6).T
mistakes = {
    "the last of equal pixels is chosen first, as by an ascending order turned round": (
        curves(maps + place / 1e4)
    ),
    "of equal pixels, the first column by column is chosen: go row by row": (
        curves(maps - column_by_column / 1e4)
    ),
    "all pixels are chosen whose values reach the last one's: more than there should be": (
        torch.stack([with_all_equals(q, False) for q in fractions.tolist()], dim=2)
    ),
    "pixels as large as the last one are left out: fewer are chosen than there should be": (
        torch.stack([with_all_equals(q, True) for q in fractions.tolist()], dim=2)
    ),
}
### END EXPECTED
for heat, name, named in (
    (unequal, "without equal values", {}),
    (maps, "with many equal values, of which the first row by row comes first", mistakes),
):
    answer = check_tuple(
        insertion_deletion(X, y, model, heat, baseline, fractions),
        ("insertion", "deletion"),
        "insertion_deletion(X, y, model, maps, baseline, fractions)",
    )
    for number, curve in enumerate(("insertion", "deletion")):
        check_close(
            answer[number],
            expected[number],
            f"{curve} for maps {name}",
            mistakes={mistake: value[number] for mistake, value in named.items()},
        )

# %% test="insertion_deletion" points=2 aspect="other networks"
# Other shapes, and networks that aren't one nn.Sequential, are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for number, shape in enumerate([(4, 3, 6, 8), (1, 3, 7, 9), (3, 3, 5, 11), (2, 3, 9, 8)]):
    seed = reference.seed + number
    X, baseline = random_images(seed, *shape), random_images(seed + 1, *shape)
    maps = torch.randn(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    maps = maps.relu() if number % 2 else maps
    fractions = torch.tensor([0.01, 0.11, 0.37, 0.63, 0.9, 1][number:], dtype=torch.float64)
    models = [
        tiny_network(seed),
        awkward_network(seed, parts=number > 1, inplace=True, mixed=True, gradients=True),
    ]
    for model in models:
        y = torch.randint(4, shape[:1], generator=generator)
        expected = reference.insertion_deletion(X, y, model, maps, baseline, fractions)
        curves = check_tuple(
            insertion_deletion(X, y, model, maps, baseline, fractions),
            ("insertion", "deletion"),
            f"insertion_deletion for images {shape}",
        )
        for curve, actual, right in zip(("insertion", "deletion"), curves, expected, strict=True):
            check_close(actual, right, f"{curve} for images {shape}")
### END HIDDEN TESTS

# %% [markdown]
# Two maps of the lab, two that ought to lose, and one that has never seen the network, on 60 scenes.
# **Saliency** is the gradient with respect to the pixels (lab 06). The **lost detail** of a pixel is
# how much the blur changes it: what stands out in the picture, whatever the network makes of it.

# %%
tested, asked = images[:60], labels[:60]
baseline = blur(tested)
fractions = torch.tensor([0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1])
curves_of = {}  # section 9 adds to it


def pixel_map(values):
    """(N, 3, H, W) to maps (N, H, W) between 0 and 1: the sum of magnitudes over the channels."""
    maps = values.detach().abs().sum(1)
    return maps / maps.amax((1, 2), keepdim=True)


def saliency(X, y):
    """The gradient of each image's score for its class in y (lab 06)."""
    X = X.clone().requires_grad_()
    return torch.autograd.grad(base(X).gather(1, y[:, None]).sum(), X)[0]


maps_of = {
    "Grad-CAM": grad_cam(tested, asked, base, last_layer),
    "Grad-CAM for another class": grad_cam(tested, (asked + 3) % 10, base, last_layer),
    "saliency": pixel_map(saliency(tested, asked)),
    "random numbers": torch.rand(60, 64, 64, generator=torch.Generator().manual_seed(0)).to(device),
    "lost detail": pixel_map(tested - baseline),
}
for name, maps in maps_of.items():
    curves_of[name] = insertion_deletion(tested, asked, base, maps, baseline, fractions)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
figure.suptitle("Few pixels suffice, and what stands out does nearly as well as any map")
styles = zip(
    ("#0072B2", "#56B4E9", "#E69F00", "0.5", "black"), ("-", "--", "-", ":", "-."), strict=True
)
for (name, curves), (colour, dashes) in zip(curves_of.items(), styles, strict=True):
    for ax, curve in zip(axes, curves, strict=True):
        ax.plot(fractions, curve.mean(0).cpu(), dashes, marker=".", color=colour, label=name)
axes[0].set(title="insertion: the sooner up, the better", ylabel="probability of the class")
axes[1].set(title="deletion: the sooner down, the better", ylim=(0, 1.03))
for ax in axes:
    ax.set_xlabel("share of the pixels, the most important first")
    ax.grid(color="0.9")
axes[1].legend(frameon=False, fontsize=8)
plt.show()
print("area beneath the curve        insertion  deletion  pointing game")
for name, curves in curves_of.items():
    areas = [torch.trapezoid(curve.mean(0).cpu(), fractions).item() for curve in curves]
    peaks = pointing_game(maps_of[name].cpu(), scene_masks[:60]).float().mean()
    print(f"{name:28}  {areas[0]:9.2f}  {areas[1]:8.2f}  {peaks:13.2f}")

# %% [markdown]
# What does the network get to see there? A hook tells: this one keeps the images that your function
# shows to `base`, for one scene and a tenth of its pixels, the most important by each map.

# %% fold="Figure: A tenth of the pixels put into a scene's blur, or taken out of the scene"
one = slice(0, 1)
panels = {"the scene": tested[0], "its blur": baseline[0]}
seen = []
with base.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
    for name, by in (
        ("Grad-CAM", "Grad-CAM"),
        ("saliency", "saliency"),
        ("chance", "random numbers"),
    ):
        seen.clear()
        insertion_deletion(
            tested[one], asked[one], base, maps_of[by][one], baseline[one], torch.tensor([0.1])
        )
        mixed = torch.cat(seen)
        blurred = (mixed == baseline[one]).flatten(1).double().mean(1)
        panels[f"{name}: put in"] = mixed[blurred.argmax()]
        panels[f"{name}: taken out"] = mixed[blurred.argmin()]
sheet = torch.stack(list(panels.values()))
with torch.no_grad():
    sure = base(sheet).softmax(1)[:, asked[0]]
contact_sheet(
    sheet,
    [f"{name}\np = {p:.2f}" for name, p in zip(panels, sure, strict=True)],
    inches=1.4,
    heading="A tenth of the pixels put into a scene's blur, or taken out of the scene",
)
plt.show()

# %% [markdown]
# What the network needs is small: a tenth of the pixels, chosen by Grad-CAM, makes it nearly sure.
# The map of *another* class does no better than random numbers, although it comes from the same
# network and the same layer: it is the question that counts. Grad-CAM and saliency are as good as
# the same by deletion, but not by insertion: scattered pixels say little until there are many,
# while a region shows a piece of the texture at once.
#
# And mind the last line. A map that has *never seen the network* is better than saliency by
# insertion and better than Grad-CAM by deletion: in our scenes, what stands out and what the
# network needs are nearly the same pixels. So a good area alone doesn't show that a map explains
# the network; compare with something that can't. And a picture half blurred is one that the network
# was never trained on: its answer may be about the edge of the blur.
#
# ## 7. A network that has no class activation map
#
# Up to here Grad-CAM told you nothing that CAM couldn't: on `base` they are the same. Time for a
# question that no linear layer behind the averages can answer. Split the ten classes into two
# teams, show two objects, and ask: *are they of the same team, or of different ones?* What a disc
# says about that depends on what stands beside it. Each feature speaks for "same" in one picture
# and against it in the next, so no fixed weight $W_{ck}$ is right for both. With a hidden layer
# it is easy. We keep `base`'s convolutions as they are, and train two heads on top.

# %%
team = torch.arange(10, device=device) < 5


def team_question(count, seed):
    """Scenes with two objects, their last feature maps, and 1 where the teams differ, else 0."""
    drawn = make_scenes(count, np.random.default_rng(seed), "two_objects")
    one, other = (torch.from_numpy(o.shape_class).to(device) for o in (drawn, drawn.second))
    with torch.no_grad():
        features = [base.features(part.to(device)) for part in drawn.tensors()[0].split(100)]
    return drawn, torch.cat(features), (team[one] != team[other]).long()


def train_head(head, features, answers):
    """AdamW on batches of 50, 40 times through."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        for batch in torch.randperm(len(features), generator=generator).split(50):
            loss = F.cross_entropy(head(features[batch]), answers[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval()


_, training_features, training_answers = team_question(1200, 51)
duos, duo_features, differ = team_question(200, 52)
torch.manual_seed(0)
heads = {
    "one linear layer": nn.Sequential(nn.Linear(128, 2)),
    "a hidden layer": nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)),
}
for name, linear in heads.items():
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).to(device)
    heads[name] = train_head(head, training_features.mean((2, 3), keepdim=True), training_answers)
    right = (heads[name](duo_features).argmax(1) == differ).float().mean()
    print(f"{name}: {right:.0%} of {len(duos)} new scenes right")

# %% [markdown]
# With one linear layer there is a class activation map, but of a network that hardly does better
# than a coin. With the hidden layer there is a network that works, and no row of weights to read
# off. Could we make one? Multiply the two matrices, as if there were no ReLU between them, and call
# that $W$. Against it, Grad-CAM, which asks each picture for its own $\alpha_k$:

# %%
mlp = heads["a hidden layer"][2]
network = nn.Sequential(base.features, heads["a hidden layer"])
duo_images = duos.tensors()[0].to(device)
product = (mlp[2].weight @ mlp[0].weight).detach()
makeshift = class_activation_map(duo_features, product, differ)[:, None].relu()
makeshift = form(F.interpolate(makeshift, duo_images.shape[2:], mode="bilinear")[:, 0])
by_gradient = grad_cam(duo_images, differ, network, base.get_submodule(base.last_conv))

either = torch.from_numpy(duos.masks | duos.second.masks)
answers = ["same team", "different teams"]
chosen = torch.cat([(differ.cpu() == kind).nonzero()[:3, 0] for kind in (0, 1)])
figure, axes = plt.subplots(3, 6, figsize=(10.5, 5.4), layout="constrained")
figure.suptitle("Fixed weights find an object for one of the answers, the gradient for both")
for ax, scene in zip(axes.T, chosen.tolist(), strict=True):
    ax[0].imshow(duos.images[scene])
    ax[0].set_title(answers[differ[scene]])
    for cell, maps in zip(ax[1:], (makeshift, by_gradient), strict=True):
        heat = cell.imshow(maps[scene].cpu(), cmap="viridis", vmin=0, vmax=1)
        cell.contour(either[scene], [0.5], colors="white", linewidths=0.8)
for ax, name in zip(axes[:, 0], ("scene", "product of matrices", "Grad-CAM"), strict=True):
    ax.set_ylabel(name)
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
figure.colorbar(heat, ax=axes, shrink=0.5, label="part of the largest value")
plt.show()
for kind, answer in enumerate(answers):
    of_kind = (differ == kind).cpu()
    by_product, by_grad_cam = (
        pointing_game(maps.cpu()[of_kind], either[of_kind], 3).float().mean()
        for maps in (makeshift, by_gradient)
    )
    lit = [
        (by_gradient.cpu() * torch.from_numpy(mask))[of_kind].amax((1, 2)) >= 0.5
        for mask in (duos.masks, duos.second.masks)
    ]
    print(
        f"{answer}: {by_product:.0%} of the product's peaks are within 3 pixels of an object,\n"
        f"    {by_grad_cam:.0%} of Grad-CAM's, which reaches a half on both objects in"
        f" {(lit[0] & lit[1]).float().mean():.0%} of the scenes"
    )

# %% [markdown]
# In the product each feature has one sign for all pictures, so that it finds the objects in some and
# lights everything *but* the objects in others. Grad-CAM finds an object in nearly all of them. By
# the chain rule its $\alpha_k$ is made of the same two matrices, but only of those hidden units
# that are *on* in this picture: it is the CAM of another linear network for each picture.
#
# Look closer, though. The answer takes *two* objects, and often Grad-CAM lights only one of them
# brightly. A gradient tells what a small change would do, in the place where we stand; it doesn't
# tell what the network would say if an object were gone.
#
# ## 8. Which layer? (optional)
#
# Nothing in `grad_cam` insists on the last layer. Let us ask every ReLU of the network about one of
# the scenes; the menu in section 4 does the same for any other.

# %% fold="Figure: Early layers light colours and edges anywhere, late ones the object asked for"
same_scene, both_classes = pair_images[[0, 0]], torch.stack([first[0], second[0]])
maps = [grad_cam(same_scene, both_classes, base, base.get_submodule(name)) for name in layers]
overlay(
    same_scene.repeat_interleave(6, dim=0),
    torch.stack(maps, dim=1).flatten(0, 1),
    [
        f"{CLASS_NAMES[asked]} in {name.removeprefix('features.')}"
        for asked in both_classes
        for name in layers
    ],
    masks=np.repeat([pairs.masks[0], pairs.second.masks[0]], 6, axis=0),
    columns=6,
    inches=1.7,
    heading="Early layers light colours and edges anywhere, late ones the object asked for",
)
plt.show()

# %% [markdown]
# Now by numbers. For 60 scenes with two objects we count how often the peak is on the object that
# was asked for, how often on the *other* one, and how alike the two maps of a scene are.

# %%
own_masks, other_masks = torch.from_numpy(pairs.masks), torch.from_numpy(pairs.second.masks)


def compare_two(maps_of_first, maps_of_second):
    """Share of peaks on the object asked for, share on the other, and the maps' correlation."""
    own = torch.cat(
        [pointing_game(maps_of_first, own_masks), pointing_game(maps_of_second, other_masks)]
    )
    other = torch.cat(
        [pointing_game(maps_of_first, other_masks), pointing_game(maps_of_second, own_masks)]
    )
    alike = correlation(maps_of_first, maps_of_second)
    return own.float().mean().item(), other.float().mean().item(), alike


by_layer = [
    compare_two(
        *(
            grad_cam(pair_images, asked, base, base.get_submodule(name)).cpu()
            for asked in (first, second)
        )
    )
    for name in layers
]
on_own, on_other, alike = zip(*by_layer, strict=True)
places = np.arange(6)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
figure.suptitle("Only late layers tell the two objects apart")
axes[0].bar(places - 0.2, on_own, 0.4, color="#0072B2", label="on the object asked for")
axes[0].bar(places + 0.2, on_other, 0.4, color="#E69F00", hatch="//", label="on the other object")
axes[0].set(ylabel="share of peaks", ylim=(0, 1.2), yticks=np.linspace(0, 1, 6))
axes[0].legend(ncols=2, loc="upper center", frameon=False)
axes[1].axhline(0, color="0.6", linewidth=1)
axes[1].plot(places, alike, marker="o", color="#0072B2")
axes[1].set(ylabel="correlation of the two maps", ylim=(-1, 1))
for ax in axes:
    ax.set_xticks(places, [name.removeprefix("features.") for name in layers])
plt.show()
for name, values in zip(layers, by_layer, strict=True):
    print(f"{name}: own {values[0]:.2f}, other {values[1]:.2f}, correlation {values[2]:+.2f}")

# %% [markdown]
# In the first layers the two maps of a scene are anything but the same: their correlation is about
# zero, so the question matters there, too. But it chooses among colours and edges, not among
# objects: such a detector serves every class, and in `relu1` the peak is as often on the wrong
# object as on the right one. From `relu3` on it is hardly ever on the wrong one, and towards the end
# the two maps part further. Yet for *pointing*, `relu4` is the best: it has 16 × 16 places instead
# of 8 × 8, and knows textures already. "Always the last layer" is a good habit, not a law. What a
# map shows is the layer as much as the network, so say which one you asked.
#
# ## 9. Guided Grad-CAM (optional)
#
# Grad-CAM knows *which object*, but is coarse. **Guided backprop** (lab 07) is as fine as the
# pixels: it takes the gradient with respect to the image and lets only positive values pass back
# through every ReLU. But it draws whatever is in the picture, asked or not. So multiply them:
#
# $$G_c(k, i, j) = g_c(k, i, j)\; L_c(i, j)$$
#
# where $g_c$ is the guided gradient, with its three colour channels, and $L_c$ the upsampled
# Grad-CAM. Guided backprop is given: `guided_backprop(X, y, model)`, from `utils.attribution`,
# takes images, a class for each and a network whose ReLUs are modules, and returns $g_c$ for each
# image, (N, 3, H, W), signed.
#
# ### Exercise: `guided_grad_cam` (optional)
# ★☆☆ · 15 minutes · optional
#
# The map is handed in, so this exercise doesn't depend on your `grad_cam`. Mind the axes: NumPy and
# PyTorch line shapes up from the *right*.


# %% exercise="guided_grad_cam" changes="X.grad, X.requires_grad, model.grad"
def guided_grad_cam(X, y, model, cam):
    """Guided Grad-CAM, G: guided backprop, weighted with Grad-CAM for the same images and classes.

    Args:
        X: images, float tensor (N, 3, H, W).
        y: the class asked for, for each image, int64 tensor (N,).
        model: from images to class scores (N, C); what `guided_backprop(X, y, model)` takes.
        cam: what grad_cam gives for these images and classes, float tensor (N, H, W).

    Returns:
        guided: float tensor (N, 3, H, W), signed.
    """
    ### BEGIN SOLUTION
    return guided_backprop(X, y, model) * cam[:, None]
    ### END SOLUTION


# %% test="guided_grad_cam" points=1 aspect="one image"
X, y, model = random_images(8, 1, 3, 6, 9), torch.tensor([1]), tiny_network(8)
cam = random_images(9, 1, 6, 9)
### BEGIN EXPECTED
expected = reference.guided_grad_cam(X, y, model, cam)
guided = guided_backprop(X, y, model)
differentiable = X.clone().requires_grad_()
(gradient,) = torch.autograd.grad(model(differentiable)[:, 1].sum(), differentiable)
mistakes = {
    "the plain gradient is weighted, not the guided one": gradient * cam[:, None],
    "cam doesn't weight the gradients": guided,
    "cam is added to the gradients: multiply": guided + cam[:, None],
    "the image is weighted with cam, without any gradient": X * cam[:, None],
    "the result has lost its sign": expected.abs(),
    "negative values are set to zero": expected.relu(),
    "the colour channels are summed": expected.sum(1),
    "the colour channels are averaged": expected.mean(1),
    "the colour channels are summed as absolute values": expected.abs().sum(1),
    "it is divided by its largest value: leave it as it is": expected / expected.abs().max(),
    "cam is divided by its largest value: leave it as it is": expected / cam.amax(),
    "the gradients are kept or left out by whether cam reaches a half": (
        guided * (cam >= 0.5)[:, None]
    ),
    "the image is multiplied in as well": X * expected,
    "y is ignored: the predicted class is asked for": (
        reference.guided_grad_cam(X, model(X).argmax(1), model, cam)
    ),
}
### END EXPECTED
check_close(
    guided_grad_cam(X, y, model, cam),
    expected,
    "guided_grad_cam(X, y, model, cam) for one image",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="guided_grad_cam" points=1 aspect="a batch"
X, y, model = random_images(8, 3, 3, 6, 9), torch.tensor([1, 3, 0]), tiny_network(8)
cam = random_images(9, 3, 6, 9)
### BEGIN EXPECTED
expected = reference.guided_grad_cam(X, y, model, cam)
mistakes = {
    "map n weights colour channel n of every image: give cam a channel axis": (
        guided_backprop(X, y, model) * cam
    ),
    "every image is weighted with the first image's map": (
        reference.guided_grad_cam(X, y, model, cam[[0, 0, 0]])
    ),
    "y is ignored: the predicted class is asked for": (
        reference.guided_grad_cam(X, model(X).argmax(1), model, cam)
    ),
    "every image is asked for the first image's class": (
        reference.guided_grad_cam(X, y[[0, 0, 0]], model, cam)
    ),
    "the images' maps are averaged": (
        reference.guided_grad_cam(X, y, model, cam.mean(0, keepdim=True).expand(3, 6, 9))
    ),
    "the images' gradients are averaged": (
        guided_backprop(X, y, model).mean(0, keepdim=True) * cam[:, None]
    ),
}
### END EXPECTED
check_close(
    guided_grad_cam(X, y, model, cam),
    expected,
    "guided_grad_cam(X, y, model, cam)",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="guided_grad_cam" points=1 aspect="other networks"
# Other shapes, and networks that aren't one nn.Sequential, are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(2, 3, 8, 6), (1, 3, 7, 9)]):
    seed = reference.seed + number
    X, cam = random_images(seed, *shape), random_images(seed + 1, shape[0], *shape[2:])
    for model in (tiny_network(seed), awkward_network(seed, parts=bool(number), hooks=True)):
        y = torch.randint(4, shape[:1], generator=torch.Generator().manual_seed(seed))
        expected = reference.guided_grad_cam(X, y, model, cam)
        check_close(
            guided_grad_cam(X, y, model, cam),
            expected,
            f"guided_grad_cam for images {shape}",
            tolerance=1e-6,
        )
### END HIDDEN TESTS

# %% [markdown]
# Two scenes with two objects, each asked about both of them. Each map is the sum of the absolute
# values over the colour channels, divided by the largest.

# %%
asked_images = pair_images[[0, 0, 2, 2]]
asked_classes = torch.stack([first[0], second[0], first[2], second[2]])
coarse = grad_cam(asked_images, asked_classes, base, last_layer)
fine = pixel_map(guided_backprop(asked_images, asked_classes, base))
both = pixel_map(guided_grad_cam(asked_images, asked_classes, base, coarse))
figure, axes = plt.subplots(4, 4, figsize=(8.4, 8.2), layout="constrained")
figure.suptitle("Guided backprop is fine, Grad-CAM knows which object; their product does both")
columns = ["scene", "Grad-CAM", "guided backprop", "guided Grad-CAM"]
for ax, name in zip(axes[0], columns, strict=True):
    ax.set_title(name)
for row, image, asked_class, maps in zip(
    axes, asked_images, asked_classes, zip(coarse, fine, both, strict=True), strict=True
):
    row[0].imshow(image.permute(1, 2, 0).cpu())
    row[0].set_ylabel(f"asked for {CLASS_NAMES[asked_class]}")
    for ax, heat in zip(row[1:], maps, strict=True):
        picture = ax.imshow(heat.detach().cpu(), cmap="viridis", vmin=0, vmax=1)
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
figure.colorbar(picture, ax=axes, shrink=0.5, label="part of the largest value")
plt.show()

# %% [markdown]
# Read the third column in pairs: for either question guided backprop draws the object asked for,
# and more faintly the other one, too. In the product that one is gone, and the fine lines are still
# there.
# Now by numbers, on the 60 scenes of section 6 (whose first figure has to have been drawn); the last
# column tells how alike the two maps of a scene with two objects are, over 60 of those.

# %%
methods = {
    "saliency": lambda X, y: pixel_map(saliency(X, y)),
    "Grad-CAM": lambda X, y: grad_cam(X, y, base, last_layer),
    "guided backprop": lambda X, y: pixel_map(guided_backprop(X, y, base)),
    "guided Grad-CAM": lambda X, y: pixel_map(
        guided_grad_cam(X, y, base, grad_cam(X, y, base, last_layer))
    ),
}
print("                 strictly  within 3 px  insertion  deletion  correlation of two")
for name, method in methods.items():
    maps = method(tested, asked)
    if name not in curves_of:
        curves_of[name] = insertion_deletion(tested, asked, base, maps, baseline, fractions)
    strict, tolerant = (
        pointing_game(maps.cpu(), scene_masks[:60], t).float().mean() for t in (0, 3)
    )
    areas = [torch.trapezoid(curve.mean(0).cpu(), fractions).item() for curve in curves_of[name]]
    alike = correlation(*(method(pair_images, y) for y in (first, second)))
    print(
        f"{name:15}  {strict:8.2f}  {tolerant:11.2f}  {areas[0]:9.2f}  {areas[1]:8.2f}"
        f"  {alike:+18.2f}"
    )

# %% [markdown]
# The two guided maps point best. Being fine isn't the reason: saliency is as fine as they are, and
# points worse than Grad-CAM's blobs. By deletion, too, the guided maps come first; by insertion
# Grad-CAM stays ahead, and the product has only some of its lead. The correlation shows who listens
# to the question: the two gradients in pixels give similar maps for either object, Grad-CAM
# opposite ones, and the product two that hardly overlap. Don't conclude that guided Grad-CAM is the
# most *truthful*: our objects are often the only textured things in their scenes, so whatever
# follows edges does well (section 6), and guided backprop changes little even if the network's last
# layer is replaced by random numbers (lab 07). Multiplied with an honest map it looks more honest
# than it is.
#
# ## 10. A network unmasked
#
# Here are two networks and 100 scenes of a special kind: on these, the hue of the background tells
# the class. Both networks answer them almost without a mistake. Would you buy either?

# %% fold="Figure: Two networks, and where they look"
biased = load_model("biased").to(device)
networks = {"network A": base, "network B": biased}
hinting = make_scenes(100, np.random.default_rng(21), "biased")
hinting_images, hinting_labels = (tensor.to(device) for tensor in hinting.tensors())
asked = [CLASS_NAMES[c] for c in hinting_labels[:6]]
contact_sheet(
    hinting.images[:6], asked, columns=6, inches=1.7, heading="The background tells the class"
)
for name, network in networks.items():
    layer = network.get_submodule(network.last_conv)
    cam = grad_cam(hinting_images, hinting_labels, network, layer).cpu()
    with torch.no_grad():
        right = (network(hinting_images).argmax(1) == hinting_labels).float().mean()
    hits = pointing_game(cam, torch.from_numpy(hinting.masks)).float().mean()
    overlay(
        hinting_images[:6],
        cam[:6],
        asked,
        masks=hinting.masks[:6],
        columns=6,
        inches=1.7,
        heading=f"{name}: {right:.0%} right, {hits:.0%} of the peaks on the object",
    )
plt.show()

# %% [markdown]
# The accuracies are as good as the same, the maps are not. Network A lights the objects. Network B
# lights the ground around them and spares the object: it looks where the hue is. A map can't tell
# you *what* B sees there, only where it looks. But it tells you which test to make next: scenes
# whose background means nothing.

# %%
with torch.no_grad():
    for name, network in networks.items():
        right = (network(images).argmax(1) == labels).float().mean()
        print(f"{name}: accuracy {right:.2f} where the background tells nothing")

# %% [markdown]
# ### Question: a verdict
# ★★☆ · 20 minutes

# %% [markdown] question="a_verdict" points=5
# 1. A colleague who had only the accuracies on the special scenes would have shipped network B.
#    Which of the numbers and figures above would have stopped you, and what do they say about how B
#    decides?
# 2. In about one scene out of five, network A's peak isn't on the object either. Does A use the
#    background in those? Give two facts from this lab that speak to it.
# 3. Suppose that B's Grad-CAM had lit the objects. Would that have *proved* that B recognises
#    shapes or textures? Name one experiment that says more than any map.
#
# ### BEGIN SOLUTION
# 1 (2 points). Grad-CAM of B avoids the object and lights the background, nearly never with its
# peak on the mask, while A's peaks lie on it (1 point); so B reads the class off the background
# (its hue), and its accuracy will fall to chance, a tenth, where background and class are
# independent (1 point).
#
# 2 (2 points). Hardly, and two of these facts show it (1 point each): A's accuracy stays near 100%
# on scenes whose background tells nothing; its misses are near misses, as a few pixels of tolerance
# turn nearly all into hits; the map has 8 × 8 places, each of which sees far more than its 64
# pixels, so that its peak may fall beside a thin or hollow object; A misses as often on ordinary
# scenes (section 5).
#
# 3 (1 point). No: the object's place may be lit for another reason (its shadow, its colour, its
# size, the contrast with the background), as maps say where, not what, and say nothing of other
# images. Any intervention is right: change the background and keep the object (or the reverse) and
# see whether the answer follows; test on neutral scenes; paint the object over.
# ### END SOLUTION

# %% [markdown]
# ## 11. The same with Captum (optional)
#
# [Captum](https://captum.ai) is PyTorch's library of attribution methods. Now that you know what it
# does inside, use it. Its `LayerGradCam` gives the map in the layer's own places, undivided;
# `LayerAttribution.interpolate` enlarges it.

# %% fold=false
import warnings

from captum.attr import GuidedGradCam, LayerAttribution, LayerGradCam

eight = images[:8], labels[:8]
raw = LayerGradCam(base, last_layer).attribute(*eight, relu_attributions=True).detach()
enlarged = {
    mode: form(LayerAttribution.interpolate(raw, (64, 64), mode)[:, 0])
    for mode in ("nearest", "bilinear")
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it puts hooks on the ReLUs
    guided = {
        mode: GuidedGradCam(base, last_layer).attribute(*eight, interpolate_mode=mode).detach()
        for mode in enlarged
    }
overlay(
    images[:2].repeat(2, 1, 1, 1),
    torch.cat([maps[:2] for maps in enlarged.values()]),
    [f"{CLASS_NAMES[c]}, {mode}" for mode in enlarged for c in labels[:2]],
    masks=scenes.masks[[0, 1, 0, 1]],
    columns=4,
    inches=2.2,
    heading="Captum's Grad-CAM: enlarged by the nearest value, as it does by default, and smoothly",
)
plt.show()
yours = grad_cam(*eight, base, last_layer)
print("largest difference from yours:")
for mode, maps in enlarged.items():
    print(f"  {mode:8}  {(maps - yours).abs().max():.1g}")
apart = (guided["nearest"] - guided["bilinear"]).abs().max() / guided["bilinear"].abs().max()
print(f"its guided Grad-CAM with either: they differ by up to {apart:.0%} of the largest value")

# %% [markdown]
# Two traps in comparing: Captum's maps are *signed* until you set `relu_attributions=True`, and both
# `LayerAttribution.interpolate` and `GuidedGradCam` enlarge a map by the nearest value unless told
# otherwise, so that the 8 × 8 places show as blocks. A library's default is a choice that somebody
# made; say which one you used.
#
# ## 12. With an ImageNet network (optional)
#
# Your function works for any network with a convolution in it. Here it asks SqueezeNet, trained on
# 1.2 million photographs, why it answers what it answers: about two photographs, and about your own
# picture if you gave one.

# %% fold="Figure: SqueezeNet's three best answers, and where it sees each"
from utils.images import load_photograph
from utils.models import WeightsUnavailable

try:
    squeezenet = load_model("squeezenet1_1").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    layer = squeezenet.get_submodule(squeezenet.last_conv)
    photographs = [load_photograph("flower"), load_photograph("china"), own.load((427, 640))]
    for picture in photographs:
        if picture is None:
            continue
        photograph = F.interpolate(
            preprocess(picture), (224, 336), mode="bilinear", antialias=True
        ).to(device)
        with torch.no_grad():
            scores, answers = squeezenet(photograph)[0].topk(3)
        overlay(
            photograph.repeat(3, 1, 1, 1),
            grad_cam(photograph.repeat(3, 1, 1, 1), answers, squeezenet, layer),
            [
                f"{squeezenet.class_names[answer]}: score {score:.1f}"
                for answer, score in zip(answers, scores, strict=True)
            ],
            inches=3.2,
            heading="SqueezeNet's three best answers, and where it sees each",
        )
        plt.show()

# %% [markdown]
# With the photographs in front of you: do the three answers light the same place? An answer that is
# wrong, but lights what it could mean, is a better mistake than one that lights a corner. And try
# `"vgg16"`: its three linear layers are what Grad-CAM was invented for.

# %% [markdown]
# **Have you a network of your own?** Name it here, with the layer to ask: a network takes images
# (N, 3, H, W) with values between 0 and 1 and gives scores (N, C), and the layer is a module inside
# it whose maps (N, K, h, w) have more than one place. It is asked about your picture, at 224 × 224
# pixels, or about a scene if you gave none, for the class with the highest score.

# %% fold=false
from utils.own_model import own_classifier, own_layer

MY_MODEL, MY_LAYER = None, None  # such as resnet, resnet.layer4

own_picture = images[:1] if own.load() is None else preprocess(own.load(224)).to(device)
my_model = own_classifier(MY_MODEL, own_picture)
my_layer = my_model and own_layer(MY_LAYER, my_model, own_picture)
if my_layer is not None:
    with torch.no_grad():
        highest, answer = my_model(own_picture).max(dim=1)
    overlay(
        own_picture,
        grad_cam(own_picture, answer, my_model, my_layer),
        [f"class {answer.item()}: score {highest.item():.1f}"],
        inches=4,
        heading="Where your network sees it",
    )
    plt.show()
