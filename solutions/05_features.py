# %% [markdown]
# # Lab 05: What a network has learned
#
# A trained network is a few hundred thousand numbers, and an image on its way through it a few
# hundred thousand more. Somewhere in there must be what it knows. In this lab you look: at the
# weights, at what they answer to a picture, at the pictures that they answer to most, and at the
# space in which the network finally tells a disc from a fish. Some of these views are honest, some
# flatter, and one will show you clusters in pure noise. So every view comes with a number or a
# control that says how far to trust it.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. Weights as images | `weights_as_images` | 15 |
# | 2. Activations by depth | `record_activations` | 20 |
# | 3. What a value sees | `receptive_window`, and a walk | 20 |
# | 4. How much of it counts (optional) | `receptive_field_gradient` | 20 |
# | 5. The patches that excite a channel | `strongest_places` | 15 |
# | 6. A map of all scenes: PCA | `pca` | 20 |
# | 7. Another map: t-SNE | `conditional_probabilities`, a question | 35 |
# | 8. What can be read off at each depth | `linear_probe` | 20 |
# | 9. One channel, one concept? | `selectivity`, a question | 35 |
# | 10. A map's judge, by hand (optional) | `trustworthiness` | 25 |
# | 11. Nearest neighbours (optional) | `nearest_neighbours` | 10 |
# | 12. With an ImageNet network (optional) | nothing: you look | 5 |
#
# Sections 4, 10, 11 and 12 are optional. The others need nothing from them, and take three hours.
#
# The cells beneath each exercise are its tests, one for each thing that can go wrong. Each answers
# **right so far**, or says in one sentence what is wrong. When your work is graded, other shapes
# and numbers are tried as well. No exercise calls one that you wrote before, so a slip costs you
# only once.
#
# Two kinds of data go round. What goes through a network is a torch tensor (N, 3, H, W) with values
# in [0, 1]. What is analysed afterwards is a NumPy array with one row for each image.

# %% given=true
from collections import OrderedDict
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import nn

from utils.checks import (
    check_close,
    check_tuple,
    eval_numerical_gradient_array,
    random_images,
)
from utils.guard import check_without
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def tiny_network(seed, activation=nn.Tanh):
    """A small network for the tests, random, in float64 and in eval mode.

    From images (N, 3, H, W) to three class scores. Its map is half as wide as the image after
    `pool`, and as high; `block` contains the modules `block.conv` and `block.activation`.
    """
    block = OrderedDict(conv=nn.Conv2d(4, 5, 3, padding=1), activation=activation())
    network = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3, padding=1),
            norm=nn.BatchNorm2d(4),
            activation=activation(),
            pool=nn.AvgPool2d((1, 2)),
            block=nn.Sequential(block),
            average=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(5, 3),
        )
    ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        network.norm.running_mean.normal_(0, 0.5, generator=generator)
        network.norm.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


# %% [markdown]
# The next cell loads `base`, a network of six convolutions that is right on about 99% of pictures
# of a textured object in clutter, and draws 300 new pictures for it, 30 of each of ten classes.
# Beside it stands `untrained`: the same architecture with random weights, which knows nothing. It
# is the control of this lab, as in the sanity checks of Adebayo et al. (2018): if it does something
# just as well as `base`, then training wasn't needed for that.

# %%
import matplotlib.pyplot as plt

from utils.figures import contact_sheet
from utils.models import load_model, make_scene_network
from utils.scenes import CLASS_NAMES, TEXTURE_NAMES, make_scenes


def to_numpy(tensor):
    return tensor.detach().cpu().numpy()


base = load_model("base").to(device)
scenes = make_scenes(300, np.random.default_rng(5))
X, labels = scenes.tensors()[0].to(device), scenes.shape_class

untrained = make_scene_network(CLASS_NAMES, torch.Generator().manual_seed(0)).to(device)
with torch.no_grad():
    for module in untrained.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of these scenes, not mixed with any older ones
    untrained(X)
    untrained.eval()
    accuracy = (to_numpy(base(X).argmax(1)) == labels).mean()
print(f"base is right on {accuracy:.1%} of these scenes")

# %% [markdown]
# If you like, bring a picture of your own: a mug, a leaf, your cat. From here on it goes through
# the network beside the scenes. `base` knows ten shapes and nothing else, and sees 64 × 64 pixels,
# so don't expect it to know what it sees: look at *how* it sees. Nothing here needs it.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% [markdown]
# ## 1. Weights as images
#
# A node's weights have the shape of what it looks at. If that is an image, they *are* an image: of
# all inputs with the same norm, the one that excites the node most. A first convolution's kernel (3, k, k) is a
# small colour picture as it stands; a fully connected node on a flattened image has 3·H·W weights
# in a row, which have to be put back in the image's shape. Weights are of any size and sign, and
# pixels are not, so each node's weights are stretched to the bytes from 0 to 255:
#
# $$\text{pixel} = \operatorname{round}\left( 255\;
#   \frac{w - \min w}{\max w - \min w} \right)$$
#
# Minimum and maximum are those of *one* node, over all its weights and all three colours.
#
# ### Exercise: `weights_as_images`
# ★☆☆ · 15 minutes
#
# <details><summary>Hint: flattened, in which order?</summary>
#
# `nn.Flatten` turns (3, H, W) into a row channel by channel: first all of red, then all of green,
# then all of blue. Undo exactly that, and only then move the colours to the last axis, where
# matplotlib wants them.
#
# </details>


# %% exercise="weights_as_images"
def weights_as_images(weight, shape):
    """Each node's weights as a picture, from 0 for its smallest weight to 255 for its largest.

        pixel = round(255 (w − min w) / (max w − min w)), min and max over one node's weights

    Args:
        weight: float array whose first axis counts F nodes: (F, 3·H·W) of a fully connected layer
            that sees a flattened image (channel by channel, as nn.Flatten does), or (F, 3, H, W)
            of a convolution. Its values stay as they are.
        shape: (3, H, W), a tuple.

    Returns:
        images: uint8 array (F, H, W, 3). A node whose weights are all the same is all 0.
    """
    ### BEGIN SOLUTION
    weight = weight.reshape(len(weight), *shape)
    lowest = weight.min(axis=(1, 2, 3), keepdims=True)
    extent = weight.max(axis=(1, 2, 3), keepdims=True) - lowest
    scaled = 255 * (weight - lowest) / np.where(extent > 0, extent, 1)
    return scaled.round().astype(np.uint8).transpose(0, 2, 3, 1)
    ### END SOLUTION


# %% test="weights_as_images" points=2 aspect="kernels of a convolution"
kernels = np.random.default_rng(0).normal([[[[1.0]], [[0.0]], [[-0.5]]]], 1, (2, 3, 4, 5))
### BEGIN EXPECTED
expected = reference.weights_as_images(kernels, (3, 4, 5))


def stretched(weight, lowest, highest):
    """From (F, 3, H, W) to pixels (F, H, W, 3), not yet rounded."""
    return (255 * (weight - lowest) / (highest - lowest)).transpose(0, 2, 3, 1)


def extremes(weight, *axes):
    return weight.min(axes, keepdims=True), weight.max(axes, keepdims=True)


lowest, highest = extremes(kernels, 1, 2, 3)
largest = np.abs(kernels).max((1, 2, 3), keepdims=True)
mistakes = {
    "pixels are cut off, not rounded": np.floor(stretched(kernels, lowest, highest) + 1e-9),
    "all nodes are stretched together: each has a minimum and a maximum of its own": (
        stretched(kernels, *extremes(kernels, 0, 1, 2, 3)).round()
    ),
    "all nodes are stretched together, and cut off instead of rounded": (
        stretched(kernels, *extremes(kernels, 0, 1, 2, 3)) // 1
    ),
    "each colour is stretched by itself: a node has one minimum and one maximum": (
        stretched(kernels, *extremes(kernels, 2, 3)).round()
    ),
    "the minimum isn't subtracted, and negative weights wrap around": (
        stretched(kernels, 0, highest).round() % 256
    ),
    "the absolute value is taken: signs are lost": (stretched(np.abs(kernels), 0, largest).round()),
    "0 is put at the middle grey: the smallest weight should be 0": (
        stretched(kernels, -largest, largest).round()
    ),
    "height and width are exchanged": (
        reference.weights_as_images(kernels.reshape(2, 3, 5, 4).swapaxes(2, 3), (3, 4, 5))
    ),
    "the colours come first: matplotlib wants them last": expected.transpose(0, 3, 1, 2),
}
### END EXPECTED
images = weights_as_images(kernels, (3, 4, 5))
if isinstance(images, np.ndarray) and images.dtype != np.uint8:
    hint = "; it looks as if pixels run from 0 to 1, not to 255" if images.max() <= 1 else ""
    raise AssertionError(f"weights_as_images: expected uint8, got {images.dtype}{hint}")
check_close(images, expected, "weights_as_images for a convolution", mistakes=mistakes)

# %% test="weights_as_images" points=1 aspect="rows of a fully connected layer"
rows = np.random.default_rng(1).normal(0, 1, (2, 60))
### BEGIN EXPECTED
expected = reference.weights_as_images(rows, (3, 4, 5))
as_pixels = rows.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)
turned = rows.reshape(2, 3, 5, 4)
mistakes = {
    "the row is reshaped to (H, W, 3) at once: it holds red first, then green, then blue": (
        reference.weights_as_images(as_pixels, (3, 4, 5))
    ),
    "height and width are exchanged in the row": (
        reference.weights_as_images(turned.swapaxes(2, 3), (3, 4, 5))
    ),
    "the colours come first: matplotlib wants them last": expected.transpose(0, 3, 1, 2),
}
### END EXPECTED
check_close(
    weights_as_images(rows, (3, 4, 5)),
    expected,
    "weights_as_images for a fully connected layer",
    mistakes=mistakes,
)

# %% test="weights_as_images" points=1 aspect="large and tiny weights, and no difference at all"
weight = np.random.default_rng(2).normal(0, 1, (3, 3, 2, 2)) * [[[[1e-9]]], [[[1.0]]], [[[1e6]]]]
weight = np.concatenate([weight, np.full((1, 3, 2, 2), 0.7)])
### BEGIN EXPECTED
expected = reference.weights_as_images(weight, (3, 2, 2))
whole = expected.copy()
whole[3] = 255
mistakes = {"a node whose weights are all the same is white: it should be black": whole}
above = weight - weight.min((1, 2, 3), keepdims=True)
extent = above.max((1, 2, 3), keepdims=True)
for epsilon in (1e-5, 1e-6, 1e-8):
    mistakes[f"a node of tiny weights is too dark: {epsilon:g} was added to its extent"] = (
        (255 * above / (extent + epsilon)).round().transpose(0, 2, 3, 1)
    )
### END EXPECTED
check_close(
    weights_as_images(weight, (3, 2, 2)),
    expected,
    "weights_as_images for nodes of tiny, usual and large weights, and one where all are 0.7",
    mistakes=mistakes,
)

# %% test="weights_as_images" points=1 aspect="general shapes"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for F, H, W in [(1, 2, 7), (5, 3, 3), (3, 6, 1)]:
    for weight_shape in [(F, 3 * H * W), (F, 3, H, W)]:
        weight = rng.normal(rng.normal(), rng.uniform(0.01, 100), weight_shape)
        expected = reference.weights_as_images(weight, (3, H, W))
        check_close(
            weights_as_images(weight, (3, H, W)),
            expected,
            f"weights_as_images for weights {weight_shape}",
        )
### END HIDDEN TESTS

# %% [markdown]
# First `base`'s own first layer. Then two linear classifiers, one fully connected layer from the
# pixels to ten scores, trained on the spot: one on scenes as above, one on scenes with a flaw in
# them. What is the flaw?


# %% fold="Figure: Weights as images: a first layer, and two linear classifiers"
def train_linear(variant):
    """The weights (10, 3·64·64) of a linear classifier, and its accuracy on 100 new scenes."""
    parts = [
        make_scenes(count, np.random.default_rng(seed), variant).tensors()
        for seed, count in ((1, 300), (2, 100))
    ]
    (inputs, targets), (new_inputs, new_targets) = [(x.flatten(1) - 0.5, y) for x, y in parts]
    linear = nn.Linear(inputs.shape[1], 10)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(linear(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (linear(new_inputs).argmax(1) == new_targets).float().mean()
    return to_numpy(linear.weight), accuracy.item()


contact_sheet(
    weights_as_images(to_numpy(base.features.conv1.weight), (3, 3, 3)),
    columns=16,
    inches=0.7,
    heading="The 16 kernels of base's first layer: too small to read",
)
plt.show()
for variant, says in [
    ("single", "Ten nodes on pixels, usual scenes: scraps and fog"),
    ("biased", "Ten nodes on pixels, flawed scenes: each class has a colour"),
]:
    weight, accuracy = train_linear(variant)
    contact_sheet(
        weights_as_images(weight, (3, 64, 64)),
        CLASS_NAMES,
        columns=10,
        inches=1.1,
        heading=f"{says} ({accuracy:.0%} right on new scenes)",
    )
    plt.show()

# %% [markdown]
# The lowest row gives the flaw away: in those scenes the *background's hue* tells the class, and
# the weights say so to anybody who looks, before a single image is misread. The accuracy says "well
# done". The row above is as honest. A linear node has one template for each class, and for a disc
# that may be anywhere, of any size and colour, there is no template. So it has pasted together
# scraps of its 300 training scenes, and on new ones isn't much better than chance, which is 10%.
#
# Where it misleads: each picture has a scale of its own, so a node of tiny, useless weights looks
# as bright as a strong one. And 3 × 3 pixels is little to look at. The next layer's kernels are
# (32, 16, 3, 3), sixteen "colours" that nobody has names for. Looking at weights ends here;
# AlexNet's first layer, 64 × 3 × 11 × 11 in torchvision, is the famous exception, and waits in
# section 12.
#
# ## 2. Activations by depth
#
# So look at the answers instead of the weights: send in an image and watch what each layer puts
# out. A **forward hook** is a function that PyTorch calls whenever a module has computed its
# output:
#
# ```python
# def hook(module, inputs, output):
#     ...
#
# handle = module.register_forward_hook(hook)
# handle.remove()
# ```
#
# ### Exercise: `record_activations`
# ★★☆ · 20 minutes
#
# <details><summary>Hint 1: which module</summary>
#
# `model.get_submodule("features.relu4")` finds a module by its name, at any depth.
#
# </details>
# <details><summary>Hint 2: a hook that knows its name</summary>
#
# A hook isn't told the module's name. Write a function `make_hook(name)` that defines a hook and
# returns it. (A hook defined in the loop itself would see the name of the loop's *last* round.)
#
# </details>
# <details><summary>Hint 3: what can happen to an output afterwards</summary>
#
# A module "in place" (`nn.ReLU(inplace=True)`) writes its result over its input, which is somebody
# else's output. Keep a copy: `output.detach().clone()`. And `try: … finally:` removes the handles
# whatever happens in between.
#
# </details>


# %% exercise="record_activations"
def record_activations(X, model, names):
    """What some of a network's modules put out for a batch of images, by forward hooks.

    The model is run once as it is, and left without hooks, even if it raises an exception.

    Args:
        X: images, float tensor (N, 3, H, W); its values stay as they are.
        model: a network in eval mode; it stays in eval mode. Each module is called once.
        names: names of modules as in model.named_modules(), such as "features.relu4"; a list.

    Returns:
        activations: a dict from each name to what that module put out, a tensor, as it was then,
            whatever modules behind it did to it.
    """
    ### BEGIN SOLUTION
    activations, handles = {}, []

    def make_hook(name):
        def hook(module, inputs, output):
            activations[name] = output.detach().clone()

        return hook

    try:
        for name in names:
            handles.append(model.get_submodule(name).register_forward_hook(make_hook(name)))
        with torch.no_grad():
            model(X)
    finally:
        for handle in handles:
            handle.remove()
    return activations
    ### END SOLUTION


# %% test="record_activations" points=2 aspect="the right tensors"
names = ["norm", "block.conv", "block", "linear"]
X_test, network = random_images(0, 2, 3, 4, 6), tiny_network(0)
### BEGIN EXPECTED
expected = reference.record_activations(X_test, network, names)
training = reference.record_activations(X_test, tiny_network(0).train(), names)
inputs = {"norm": network.conv(X_test), "block": network[:4](X_test), "linear": network[:7](X_test)}
inputs["block.conv"] = inputs["block"]
mistakes = {
    name: {
        "the module's input is recorded, not its output": inputs[name].detach(),
        "the network ran in training mode, in which images mix in BatchNorm": training[name],
        "only the first image is recorded": output[0],
        "only the first image is recorded, with its axis": output[:1],
        "the batch is averaged": output.mean(0),
        "the mean over the map is recorded, not the map": output.mean((2, 3))
        if output.ndim == 4
        else output.mean(1),
    }
    for name, output in expected.items()
}
### END EXPECTED
activations = record_activations(X_test, network, list(names))
came = type(activations).__name__
hint = "; is a `return` missing?" if activations is None else ""
assert isinstance(activations, dict), f"record_activations: expected a dict, got {came}{hint}"
hint = ""
if set(activations) < set(names):
    hint = "; it looks as if all hooks share the last name: let a function make each hook"
assert set(activations) == set(names), (
    f"record_activations: expected the names {names}, got {list(activations)}{hint}"
)
for name in names:
    check_close(
        activations[name],
        expected[name],
        f"record_activations(X, model, names)[{name!r}]",
        mistakes=mistakes[name],
    )

# %% test="record_activations" points=1 aspect="modules that work in place"
X_test, network = random_images(1, 2, 3, 4, 6), tiny_network(1, partial(nn.ReLU, inplace=True))
### BEGIN EXPECTED
expected = reference.record_activations(X_test, network, ["norm", "block.conv"])
overwritten = {name: output.relu() for name, output in expected.items()}
### END EXPECTED
activations = record_activations(X_test, network, ["norm", "block.conv"])
assert isinstance(activations, dict), "record_activations: expected a dict"
for name in expected:
    check_close(
        activations[name],
        expected[name],
        f"record_activations(X, model, names)[{name!r}], a ReLU in place behind it",
        mistakes={
            "the ReLU in place has overwritten what was recorded: keep a copy": overwritten[name]
        },
    )

# %% test="record_activations" points=1 aspect="no hook is left"
X_test, network = random_images(2, 2, 3, 4, 6), tiny_network(2)
### BEGIN EXPECTED
expected = reference.record_activations(X_test, network, ["block"])["block"]
### END EXPECTED
activations = record_activations(X_test, network, ["block"])
assert isinstance(activations, dict), "record_activations: expected a dict"
check_close(activations["block"], expected, "record_activations(X, model, ['block'])['block']")
with suppress(RuntimeError):
    record_activations(X_test[:, :2], network, ["norm", "block"])  # two colours, so this raises
assert not any(module._forward_hooks for module in network.modules()), (
    "record_activations leaves hooks on the network after an exception: remove them in a"
    " `finally` block"
)

# %% test="record_activations" points=1 aspect="other networks"
# Networks that aren't one nn.Sequential, with modules deep inside, are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, chosen in [((3, 3, 5, 4), ["linear", "conv"]), ((1, 3, 2, 8), ["block.activation"])]:
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    network = tiny_network(reference.seed, partial(nn.ReLU, inplace=True))
    expected = reference.record_activations(images, network, chosen)
    activations = record_activations(images, network, list(chosen))
    assert set(activations) == set(chosen), f"expected the names {chosen}, got others"
    for name, value in expected.items():
        check_close(activations[name], value, f"{name!r} for images {shape}")
for parts in (False, True):
    network = awkward_network(reference.seed, parts=parts, twice=False, inplace=True, hooks=True)
    chosen, images = [*network.maps, *network.blocks], random_images(reference.seed, 2, 3, 9, 8)
    expected = reference.record_activations(images, network, chosen)
    activations = record_activations(images, network, list(chosen))
    assert set(activations) == set(chosen), f"expected the names {chosen}, got others"
    for name, value in expected.items():
        check_close(activations[name], value, f"{name!r} of a network with a forward of its own")
### END HIDDEN TESTS

# %% [markdown]
# One scene on its way through the network. For each layer, the scene as coarse as the layer's maps
# are, and the eight channels with the largest values.

# %% fold="Figure: Early maps are pictures of the picture; late ones say where, and hardly what"
visible = scenes.masks.sum(axis=(1, 2)) * (labels == CLASS_NAMES.index("fish"))
shown = int(visible.argmax())  # the largest fish
layers = ["features.relu1", "features.relu2", "features.relu4", "features.relu6"]
on_their_way = {
    "Early maps are pictures of the picture; late ones say where, and hardly what": X[shown]
}
mine = own.load(64)
if mine is not None:
    mine_as_batch = torch.from_numpy(mine[None]).permute(0, 3, 1, 2).to(device) / 255
    on_their_way["Your picture on the same way"] = mine_as_batch[0]

for heading, picture in on_their_way.items():
    maps = record_activations(picture[None], base, layers)
    figure, axes = plt.subplots(4, 9, figsize=(11.5, 5.6), layout="constrained")
    figure.suptitle(heading)
    for row, name in zip(axes, layers, strict=True):
        stack = to_numpy(maps[name][0])
        strongest = stack.max(axis=(1, 2)).argsort()[::-1][:8]
        coarse = nn.functional.adaptive_avg_pool2d(picture, stack.shape[1:])
        row[0].imshow(to_numpy(coarse.permute(1, 2, 0)))
        row[0].set_title(f"picture in {' × '.join(map(str, stack.shape[1:]))}", fontsize=8, pad=2)
        row[0].set_ylabel(f"{name.removeprefix('features.')}\n{' × '.join(map(str, stack.shape))}")
        for ax, channel in zip(row[1:], strongest, strict=True):
            image = ax.imshow(stack[channel], cmap="magma", vmin=0, vmax=stack.max())
            ax.set_title(f"channel {channel}", fontsize=8, pad=2)
        figure.colorbar(image, ax=row, fraction=0.02, pad=0.005, label="activation")
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    plt.show()
    for name, stack in maps.items():
        print(f"{name}: {stack.numel():7,} values, {(stack == 0).float().mean():.0%} of them zero")

# %% [markdown]
# The first rows are large and easy to read: the seams between the scales, the fish's outline, and
# fainter, the photographed dahlia beside it. Each pool halves the side, and what remains says more
# and shows less. In the last row a blob lies around the fish, in channel after channel; the dahlia
# is gone, and no eye could tell which animal is left. Yet all that the network knows in the end is
# in there, so late maps need other tools: sections 5 to 9. (Each row has a colour scale of its own,
# and shows the strongest channels only: many others stay dark for this scene.)
#
# Two of the kind to play with: Yosinski et al.'s [Deep Visualization
# Toolbox](https://yosinski.com/deepvis) shows these maps live for a webcam, and [CNN
# Explainer](https://poloclub.github.io/cnn-explainer/) walks through a small network sum by sum.
#
# ## 3. What a value sees
#
# A value deep in the network knows only a window of the image, its **receptive field**. Lab 02
# computed its size; to cut the window out you also need its *place*. Follow one index from the top
# down: value $i$ of a layer with kernel size $k$, stride $s$ and padding $p$ reads the values from
# $i s - p$ to $i s - p + k - 1$ of the layer beneath. A whole range of values reads from where its
# first one starts to where its last one stops.
#
# ### Exercise: `receptive_window`
# ★★☆ · 20 minutes


# %% exercise="receptive_window"
def receptive_window(layers, index):
    """The pixels that one value can depend on, along one axis.

    Args:
        layers: (kernel_size, stride, padding) of each convolution or pool, three ints, from the
            image upwards, in a list. Without any layer, a value is a pixel.
        index: the value's place in the last layer's output, int from 0.

    Returns:
        The tuple (start, stop) of two ints, as in image[start:stop]: the first pixel, and the one
        *after* the last. Either may lie outside of the image, in the padding; don't cut it off.
    """
    ### BEGIN SOLUTION
    start, stop = index, index + 1
    for kernel_size, stride, padding in reversed(layers):
        start = start * stride - padding
        stop = (stop - 1) * stride - padding + kernel_size
    return start, stop
    ### END SOLUTION


# %% test="receptive_window" points=2 aspect="three layers"
layers_test = [(5, 3, 2), (4, 2, 0), (3, 1, 1)]
window = check_tuple(
    receptive_window(list(layers_test), 4), ("start", "stop"), "receptive_window(layers, 4)"
)
check_close(
    np.array(window),
    np.array([16, 42]),
    f"receptive_window({layers_test}, 4)",
    mistakes={
        "stop is the last pixel: it should be the one after": np.array([16, 41]),
        "start and size are returned: the second should be start + size": np.array([16, 26]),
        "the layers are followed from the image upwards: start at the last one": (
            np.array([19, 33])
        ),
        "the padding is ignored": np.array([24, 50]),
        "the padding is added: it moves the window towards 0": np.array([32, 58]),
        "stop is multiplied by the stride: it is the last value, stop − 1, that is": (
            np.array([16, 57])
        ),
        "stop is multiplied by the stride, and 1 is subtracted too late": np.array([16, 47]),
        "the range isn't widened: a window has kernel_size values": np.array([16, 17]),
        "the window is centred on index · jump: paddings may move it": np.array([11, 37]),
        "only the last layer counts": np.array([3, 6]),
        "the strides are ignored": np.array([1, 11]),
    },
    indices=True,
)

# %% test="receptive_window" points=1 aspect="at the border, and without layers"
for layers_test, index, expected in [
    ([], 7, (7, 8)),
    ([(3, 1, 1)], 0, (-1, 2)),
    ([(2, 2, 0), (2, 2, 0)], 3, (12, 16)),
    ([(3, 1, 1), (2, 2, 0), (3, 1, 1)], 0, (-3, 5)),
]:
    name = f"receptive_window({layers_test}, {index})"
    window = check_tuple(receptive_window(list(layers_test), index), ("start", "stop"), name)
    check_close(
        np.array(window),
        np.array(expected),
        name,
        mistakes={
            "the window is cut off at the image's edge: leave it as it is": (
                np.maximum(expected, 0)
            ),
        },
        indices=True,
    )

# %% test="receptive_window" points=1 aspect="general layers"
# Other layers and places are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for length in (1, 2, 5, 8):
    layers_test = [tuple(map(int, row)) for row in rng.integers([1, 1, 0], 5, (length, 3))]
    for index in map(int, rng.integers(0, 40, 2)):
        name = f"receptive_window({layers_test}, {index})"
        window = check_tuple(receptive_window(list(layers_test), index), ("start", "stop"), name)
        expected = np.array(reference.receptive_window(layers_test, index))
        check_close(np.array(window), expected, name, indices=True)
### END HIDDEN TESTS

# %% [markdown]
# Now walk through the network. Choose a picture, a layer, one of its channels, and a place in the
# picture, by row and column. Then you see the window that a value at this place *saw*, marked and
# cut out; the channel's map, with the value marked; and all channels of the layer, with yours
# framed. Take one place on the object from `conv1` to `relu6` and watch how the window grows. Then
# move the place in the last layer: how little the window's content changes from one to the next!

# %% fold="Choose a picture, a layer, a channel and a place: what did the value see?"
from ipywidgets import Dropdown, IntSlider
from matplotlib.patches import Rectangle

from utils.figures import explore


def windows(features, last):
    """(kernel_size, stride, padding) of each convolution and pool up to the layer named `last`."""
    chain = []
    for name, module in features.named_children():
        if isinstance(module, nn.Conv2d):
            chain.append((module.kernel_size[0], module.stride[0], module.padding[0]))
        elif isinstance(module, nn.MaxPool2d):
            chain.append((module.kernel_size, module.stride, module.padding))
        if name == last:
            return chain


def crop(image, rows, columns):
    """The part of an image (H, W, 3) between (start, stop) of rows and of columns."""
    margin = 32
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=128)
    return padded[rows[0] + margin : rows[1] + margin, columns[0] + margin : columns[1] + margin]


pictures = {name: scenes.images[labels == c][0] for c, name in enumerate(CLASS_NAMES)}
if mine is not None:
    pictures["your picture"] = mine
batch = torch.from_numpy(np.stack(list(pictures.values()))).permute(0, 3, 1, 2).to(device) / 255
walked = [name for name, _ in base.features.named_children() if name != "normalize"]
outputs = record_activations(batch, base, [f"features.{name}" for name in walked] + ["classifier"])
outputs = {name.removeprefix("features."): to_numpy(output) for name, output in outputs.items()}


def walk(picture, layer, channel, row, column):
    number = list(pictures).index(picture)
    maps, scores = outputs[layer][number], outputs["classifier"][number]
    count, side, _ = maps.shape
    channel %= count  # a layer with fewer channels begins again
    scale = 64 // side
    r, c = row // scale, column // scale
    rows, columns = (receptive_window(windows(base.features, layer), place) for place in (r, c))
    signed = maps.min() < 0

    def draw(ax, values, title):
        limit = abs(values).max() or 1
        colours = {"cmap": "RdBu_r" if signed else "magma", "vmin": -limit * signed, "vmax": limit}
        ax.imshow(values, **colours)
        ax.set_title(title)

    figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.5), width_ratios=[1, 1, 1, 1.5])
    figure.subplots_adjust(left=0.03, right=0.99, bottom=0.08, top=0.8, wspace=0.18)
    figure.suptitle(
        f"{layer}, channel {channel}, place ({r}, {c}): {maps[channel, r, c]:.2f}"
        f"      base says {CLASS_NAMES[scores.argmax()]} in the end"
    )
    axes[0].imshow(pictures[picture])
    corner, height = (columns[0] - 0.5, rows[0] - 0.5), rows[1] - rows[0]
    for colour, width in (("black", 3), ("white", 1.5)):
        axes[0].add_patch(
            Rectangle(corner, height, height, fill=False, edgecolor=colour, linewidth=width)
        )
    axes[0].set(title="the picture and the window", xlim=(-0.5, 63.5), ylim=(63.5, -0.5))
    axes[1].imshow(crop(pictures[picture], rows, columns))
    axes[1].set_title(f"what the value saw: {height} × {height}")
    draw(axes[2], maps[channel], f"channel {channel}: {side} × {side}")
    axes[2].add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fill=False, edgecolor="#56B4E9"))
    across = 8 if count <= 64 else 16
    tiles = maps.reshape(-1, across, side, side).swapaxes(1, 2).reshape(-1, across * side)
    draw(axes[3], tiles, f"all {count} channels")
    corner = (channel % across * side - 0.5, channel // across * side - 0.5)
    axes[3].add_patch(Rectangle(corner, side, side, fill=False, edgecolor="#56B4E9", linewidth=1.5))
    for ax in axes[1], axes[3]:
        ax.set_xticks([])
        ax.set_yticks([])


strongest = outputs["relu4"][CLASS_NAMES.index("fish") if mine is None else -1]
channel, r, c = np.unravel_index(strongest.argmax(), strongest.shape)
explore(
    walk,
    picture=Dropdown(options=list(pictures), value="fish" if mine is None else "your picture"),
    layer=Dropdown(options=walked, value="relu4"),
    channel=IntSlider(value=channel, min=0, max=127),
    row=IntSlider(value=4 * r, min=0, max=63),
    column=IntSlider(value=4 * c, min=0, max=63),
)

# %% [markdown]
# Bright is strong; where values may be negative, before the ReLU, red is above 0 and blue below.
# Grey in the cut-out lies outside of the picture. The single map has a colour scale of its own; on
# the right all maps of the layer share one.
#
# ## 4. How much of it counts (optional)
#
# The window is what a value *can* depend on. How much does it? Ask the gradient. Take all channels
# $A_m(r, c)$ at one place of a layer, and see how each pixel of many images moves them:
#
# $$R(i, j) = \frac{1}{N} \sum_{n=1}^{N} \sum_{k=1}^{3}
#   \left| \frac{\partial \sum_m A_{n,m}(r, c)}{\partial X_{n,k}(i, j)} \right|$$
#
# This is the *effective* receptive field of Luo et al. (2016).
#
# ### Exercise: `receptive_field_gradient`
# ★★☆ · 20 minutes · optional
#
# <details><summary>Hint</summary>
#
# This time the hook must keep the output itself, not a detached copy: the gradient has to find its
# way back through it. Autograd follows images that ask for it:
# `X = X.detach().clone().requires_grad_()`. One backward pass is enough for all images, because in
# eval mode they don't see one another.
#
# </details>


# %% exercise="receptive_field_gradient" changes="X.grad, X.requires_grad, model.grad"
def receptive_field_gradient(X, model, name, row, column):
    """How much each pixel moves the values at one place of a layer (Luo et al., 2016).

        R(i, j) = 1/N Σ_n Σ_k |∂ Σ_m A(n, m, row, column) / ∂ X(n, k, i, j)|

    The sum over the layer's channels m comes first, then the gradient, then the absolute value,
    then the sum over colours and the mean over images. The model is left without hooks.

    Args:
        X: images, float tensor (N, 3, H, W); its values stay as they are.
        model: a network in eval mode; it stays in eval mode. Gradients may be left on its
            parameters. No module in it works in place.
        name: the layer, as in model.named_modules(); it puts out A, (N, C, rows, columns).
        row, column: the place in A, ints.

    Returns:
        R: float tensor (H, W), not negative, not rescaled.
    """
    ### BEGIN SOLUTION
    X = X.detach().clone().requires_grad_()
    outputs = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: outputs.append(output)
    )
    try:
        model(X)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(outputs[0][:, :, row, column].sum(), X)
    return gradient.abs().sum(dim=1).mean(dim=0)
    ### END SOLUTION


# %% test="receptive_field_gradient" points=2 aspect="the formula"
X_test, network = random_images(1, 2, 3, 5, 8), tiny_network(1)
### BEGIN EXPECTED
expected = reference.receptive_field_gradient(X_test, network, "block", 3, 1)


def gradient_of(function, training=False):
    """∂ function(output of the block) / ∂X, by trying every pixel in turn."""
    network = tiny_network(1).train(training)

    def on_array(array):
        with torch.no_grad():
            return function(network[:5](torch.from_numpy(array))).item()

    return torch.from_numpy(eval_numerical_gradient_array(on_array, X_test.numpy(), 1.0))


def field_of(function, training=False):
    return gradient_of(function, training).abs().sum(1).mean(0)


gradient = gradient_of(lambda A: A[:, :, 3, 1].sum())
mistakes = {
    "the absolute value is missing": gradient.sum(1).mean(0),
    "the absolute value comes after the sum over colours": gradient.sum(1).abs().mean(0),
    "the absolute value comes after the mean over images": gradient.mean(0).abs().sum(0),
    "the images are added up, not averaged": 2 * expected,
    "the images are averaged twice": expected / 2,
    "the colours are averaged, not added up": expected / 3,
    "the maximum over the colours is taken, not the sum": gradient.abs().amax(1).mean(0),
    "the gradient is squared, not made absolute": gradient.square().sum(1).mean(0),
    "the mean over the images is missing": gradient.abs().sum(1),
    "only the first image counts": gradient.abs().sum(1)[0],
    "it is divided by its maximum": expected / expected.max(),
    "row and column are exchanged": field_of(lambda A: A[:, :, 1, 3].sum()),
    "the whole map is added up: only one place is asked for": field_of(lambda A: A.sum()),
    "only the first channel is asked: all of them are added up": (
        field_of(lambda A: A[:, 0, 3, 1].sum())
    ),
    "the layer's channels are averaged, not added up": expected / 5,
    "the layer's largest channel is asked, not their sum": (
        field_of(lambda A: A[:, :, 3, 1].amax(1).sum())
    ),
    "the network ran in training mode, in which images mix in BatchNorm": (
        field_of(lambda A: A[:, :, 3, 1].sum(), training=True)
    ),
}
### END EXPECTED
check_close(
    receptive_field_gradient(X_test, network, "block", 3, 1),
    expected,
    "receptive_field_gradient(X, model, 'block', 3, 1)",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="receptive_field_gradient" points=1 aspect="general shapes"
# Other images, layers and places are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, name, row, column in [
    ((3, 3, 4, 6), "conv", 0, 5),
    ((1, 3, 6, 4), "block.conv", 5, 1),
    ((4, 3, 3, 10), "pool", 1, 4),
]:
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    network = tiny_network(reference.seed)
    expected = reference.receptive_field_gradient(images, network, name, row, column)
    check_close(
        receptive_field_gradient(images, network, name, row, column),
        expected,
        f"receptive_field_gradient for images {shape}, {name!r}, place ({row}, {column})",
    )
### END HIDDEN TESTS

# %% test="receptive_field_gradient" points=1 aspect="other networks"
# Networks that aren't one nn.Sequential, with modules deep inside, are tried here.
### BEGIN HIDDEN TESTS
for parts in (False, True):
    options = {"functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    images = random_images(reference.seed, 2, 3, 9, 8)
    for name in (*network.maps, *network.blocks):
        expected = reference.receptive_field_gradient(images, network, name, 3, 1)
        check_close(
            receptive_field_gradient(images, network, name, 3, 1),
            expected,
            f"receptive_field_gradient for {name!r} of a network with a forward of its own",
        )
### END HIDDEN TESTS

# %% [markdown]
# Both together, for the value in the middle of four layers. The square is `receptive_window`'s, the
# picture is the gradient over 100 scenes, and the printed side is that of the smallest square
# around the middle with 90% of the gradient in it.


# %%
def side_holding(field, share, middle):
    """The side of the smallest square around `middle` that holds a share of the field's sum."""
    rows, columns = np.indices(field.shape)
    distance = np.maximum(abs(rows + 0.5 - middle), abs(columns + 0.5 - middle)).ravel()
    order = np.argsort(distance)
    reached = np.cumsum(field.ravel()[order]) >= share * field.sum()
    return round(2 * (distance[order][reached.argmax()] + 0.5))


figure, axes = plt.subplots(1, 4, figsize=(12, 3.9), layout="constrained")
figure.suptitle("What a value could see (square), and what moves it: the middle counts most")
for ax, number, place in zip(axes, (2, 4, 5, 6), (16, 8, 4, 4), strict=True):
    start, stop = receptive_window(windows(base.features, f"relu{number}"), place)
    name = f"features.relu{number}"
    field = to_numpy(receptive_field_gradient(X[:100].clone(), base, name, place, place))
    image = ax.imshow((field / field.max()) ** 0.5, cmap="magma", vmin=0, vmax=1)
    corner = (start - 0.5, start - 0.5)
    ax.add_patch(Rectangle(corner, stop - start, stop - start, fill=False, edgecolor="white"))
    side = side_holding(field, 0.9, (start + stop) / 2)
    ax.set_title(f"relu{number}: sees {stop - start} × {stop - start},\n90% within {side} × {side}")
    ax.set_xticks([0, 16, 32, 48, 63])
    ax.set_yticks([0, 16, 32, 48, 63] if number == 2 else [])
    outside = field.copy()
    outside[max(start, 0) : stop, max(start, 0) : stop] = 0
    assert not outside.any()
axes[0].set(xlabel="column of pixels", ylabel="row of pixels")
figure.colorbar(image, ax=axes, label="√(gradient / largest)", shrink=0.8, pad=0.01)
plt.show()

# %% [markdown]
# Not a single pixel outside the square has a gradient (the cell asserts it), so arithmetic and
# gradient agree about the border. Inside, they disagree about what matters. A pixel in the middle
# has many paths to the value, one in the corner has one, so the influence falls off like a bell,
# and the deeper the layer, the smaller the part of its window that it really uses. (The window of
# `relu6` reaches beyond the picture: a part of it is padding.) The square root in the colour scale
# lifts the faint parts; without it the corners would be black.
#
# It is an average over scenes, and sums over channels before it takes the gradient. A single
# channel in a single scene can look far off the middle.
#
# ## 5. The patches that excite a channel
#
# Now ask a channel what it likes. Search many images for the places where its activation is
# largest, and cut out what it saw there. One rule keeps the answer varied: from each image only the
# one strongest place, or a single striped object might fill the list.
#
# ### Exercise: `strongest_places`
# ★★☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# Flatten each image's map, take the maximum and its position, then sort the *images* by their
# maximum. In a map of width W the flat position is `row * W + column`.
#
# </details>


# %% exercise="strongest_places"
def strongest_places(activations, channel, count):
    """Where a channel's activation is largest, at most one place in each image.

    Args:
        activations: A, float tensor (N, C, H, W), of any sign; its values stay as they are.
        channel: which channel, int.
        count: how many places are wanted, int ≤ N.

    Returns:
        places: int64 tensor (count, 3): image, row and column of each place, the largest
            activation first. From each image comes the place where the channel is largest.
    """
    ### BEGIN SOLUTION
    width = activations.shape[3]
    best, position = activations[:, channel].flatten(1).max(dim=1)
    images = best.argsort(descending=True)[:count]
    rows, columns = position[images] // width, position[images] % width
    return torch.stack([images, rows, columns], dim=1)
    ### END SOLUTION


# %% test="strongest_places" points=2 aspect="one place in each image"
activations_test = 6 * random_images(2, 5, 3, 4, 6) - 3
activations_test[3, 1, 2, 5], activations_test[3, 1, 0, 4] = 5.0, 4.5  # the two largest, one image
activations_test[1, 1, 3, 2] = 4.0
activations_test[0, 1, 1, 0], activations_test[4, 1, 3, 3] = 3.5, 3.2
activations_test[2, 1, 0, 1], activations_test[2, 2, 1, 1] = -9.0, 7.0
### BEGIN EXPECTED
expected = reference.strongest_places(activations_test, 1, 3)


def by_order(order, maps):
    """The places of the maxima of these maps (N, 4, 6), for images in this order."""
    position = maps.flatten(1).argmax(1)
    return torch.stack([torch.tensor([i, *divmod(int(position[i]), 6)]) for i in order])


def ranked(score, maps, descending=True):
    return by_order(score.argsort(descending=descending)[:3].tolist(), maps)


chosen = activations_test[:, 1]
flat = chosen.flatten().argsort(descending=True)[:3]
position = chosen.flatten(1).argmax(1)[expected[:, 0]]
mistakes = {
    "several places come from one image: at most one may": torch.stack(
        [flat // 24, flat % 24 // 6, flat % 6], dim=1
    ),
    "the smallest come first": ranked(chosen.amax((1, 2)), chosen, descending=False),
    "the images are in their own order: the largest activation comes first": expected[[2, 1, 0]],
    "the images aren't ranked: the first ones are taken": by_order([0, 1, 2], chosen),
    "row and column are exchanged": expected[:, [0, 2, 1]],
    "the flat position is divided by the height: rows are W long": torch.stack(
        [expected[:, 0], position // 4, position % 4], dim=1
    ),
    "the channel is ignored: the first one is used": (
        reference.strongest_places(activations_test, 0, 3)
    ),
    "all channels are searched": (
        ranked(activations_test.amax((1, 2, 3)), activations_test.amax(1))
    ),
    "absolute values are compared: a negative activation isn't excitement": (
        ranked(chosen.abs().amax((1, 2)), chosen.abs())
    ),
    "images are ranked by the mean of their map, not by its maximum": (
        ranked(chosen.mean((1, 2)), chosen)
    ),
    "the image's number is missing": expected[:, 1:],
}
### END EXPECTED
check_close(
    strongest_places(activations_test, 1, 3),
    expected,
    "strongest_places(activations, 1, 3)",
    mistakes=mistakes,
    indices=True,
)

# %% test="strongest_places" points=1 aspect="general shapes"
# Other shapes, channels and numbers of places are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, channel, count in [((6, 4, 3, 7), 3, 6), ((9, 2, 5, 2), 0, 4), ((3, 1, 1, 8), 0, 1)]:
    activations_test = torch.randn(shape, generator=generator, dtype=torch.float64)
    expected = reference.strongest_places(activations_test, channel, count)
    check_close(
        strongest_places(activations_test, channel, count),
        expected,
        f"strongest_places for activations {shape}, channel {channel}, {count} places",
        indices=True,
    )
### END HIDDEN TESTS

# %% test="strongest_places" points=1 aspect="activations that are all negative"
activations_test = -random_images(4, 4, 2, 3, 5) - 1
### BEGIN EXPECTED
expected = reference.strongest_places(activations_test, 1, 3)
### END EXPECTED
check_close(
    strongest_places(activations_test, 1, 3),
    expected,
    "strongest_places where all activations are negative",
    indices=True,
)

# %% [markdown]
# The ten strongest patches for the first five channels of `relu4`: the first five, so that nobody
# chose the pretty ones. Beneath them three channels of the untrained network. What lies outside of
# the picture is grey. Above each patch is the texture of its scene's object. How far do ten patches
# agree? Count those that show the commonest texture among them: ten, if all are alike. The title
# gives this count, averaged over all 64 channels.


# %%
layer = "features.relu4"
chain = windows(base.features, "relu4")
exciting, agreement = {}, {}
for name, model, count in [("base", base, 5), ("untrained", untrained, 3)]:
    maps = record_activations(X.clone(), model, [layer])[layer].cpu()
    places = [strongest_places(maps, channel, 10) for channel in range(64)]
    exciting |= {f"{name}\nchannel {channel}": places[channel] for channel in range(count)}
    classes = [labels[to_numpy(found)[:, 0]] for found in places]
    agreement[name] = np.mean([np.bincount(row).max() for row in classes])

figure, axes = plt.subplots(len(exciting), 10, figsize=(9.5, 8), layout="constrained")
figure.suptitle(
    "The patches that excite a channel most:"
    f" {agreement['base']:.1f} of ten share a texture (untrained: {agreement['untrained']:.1f})"
)
figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
for row, (label, places) in zip(axes, exciting.items(), strict=True):
    row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for ax, (image, r, c) in zip(row, places.tolist(), strict=True):
        patch = crop(scenes.images[image], receptive_window(chain, r), receptive_window(chain, c))
        ax.imshow(patch)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(TEXTURE_NAMES[labels[image]], fontsize=7, pad=2)
plt.show()

# %% [markdown]
# Many trained channels have a taste: one texture and nothing else, or two that look alike in a
# window of this size, as a crescent's rings and a zigzag's corners do; some have one that no word
# fits. The untrained channels pick out what has strong contrast, of nearly any class. The control
# was worth it: without the names above the patches, its rows look convincing too.
#
# Where it misleads: spokes are always a flower's here, so no patch can tell whether a channel likes
# the texture or the shape (section 9 will). These are ten patches out of 300 scenes, the extreme
# end, and nothing says what the channel does on the other 290. And the window is what the channel
# *could* see; which part of it counted, section 4 tells, on average only.
#
# ## 6. A map of all scenes: PCA
#
# At the end of the convolutions each channel is averaged over its map, which leaves 128 numbers for
# each image: its **features**. An image is a point in a space of 128 dimensions, and where it lies
# is all that the last layer gets to know. To see the space, project it onto a plane. Principal
# component analysis (PCA) takes the plane in which the points are spread most. Centre the features,
# $\tilde F = F - \bar F$, and take the singular value decomposition
#
# $$\tilde F = U\, S\, V^\top, \qquad
#   \text{projected} = \tilde F\, V_{:,\,1..m} = (U S)_{:,\,1..m}, \qquad
#   \text{explained}_i = \frac{S_i^2}{\sum_j S_j^2}$$
#
# Rows of $V^\top$ are the **components**: directions of length 1, at right angles, the direction of
# largest variance first. The last formula is the share of the whole variance along each.
#
# ### Exercise: `pca`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# `np.linalg.svd(centred, full_matrices=False)` returns U, the singular values (largest first), and
# V already transposed.
#
# </details>


# %% exercise="pca" without="sklearn, torch.pca_lowrank"
def pca(features, count):
    """Principal component analysis by the singular value decomposition of the centred features.

    Calling scikit-learn's, or torch's pca_lowrank, earns no points.

    Args:
        features: float array (N, D), one row for each image; its values stay as they are.
        count: m, how many components are wanted, int ≤ min(N, D).

    Returns:
        The tuple (projected, components, explained):
        projected: float array (N, m), the centred features along each component.
        components: float array (m, D), rows of length 1, the largest variance first. Whether a
            component or its opposite is returned doesn't matter.
        explained: float array (m,), the share of the *whole* variance along each component.
    """
    ### BEGIN SOLUTION
    centred = features - features.mean(axis=0)
    _, singular_values, directions = np.linalg.svd(centred, full_matrices=False)
    components = directions[:count]
    variances = singular_values**2
    return centred @ components.T, components, variances[:count] / variances.sum()
    ### END SOLUTION


# %% given=true
def spread_points(N, D, lengths):
    """N points in D dimensions, off the origin, spread along axes at right angles.

    Along axis i their squared distances from the centre add up to lengths[i] squared. The axes,
    (len(lengths), D), are returned too.
    """
    rng = np.random.default_rng(N)
    axes, _ = np.linalg.qr(rng.normal(size=(D, len(lengths))))
    spread, _ = np.linalg.qr(np.column_stack([np.ones(N), rng.normal(size=(N, len(lengths)))]))
    return (spread[:, 1:] * lengths) @ axes.T + 4 * rng.normal(size=D), axes.T


def signs_of(rows, target):
    """(rows, 1): -1 for each row that is closer to the opposite of the target's, and 1 else."""
    if np.shape(rows) != target.shape:
        return np.ones((len(target), 1))
    return np.where((rows * target).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)


def check_up_to_sign(result, expected, name):
    """Compare all that pca returned; a component and its projections may both turn round."""
    parts = ("projected", "components", "explained")
    projected, components, explained = check_tuple(result, parts, name)
    signs = signs_of(components, expected[1])
    if np.shape(components) == expected[1].shape:
        components = components * signs
    if np.shape(projected) == expected[0].shape:
        projected = projected * signs[:, 0]
    for part, value, target in zip(
        parts, (projected, components, explained), expected, strict=True
    ):
        check_close(value, target, f"{part} from {name}", tolerance=1e-6)


# %% test="pca" points=2 aspect="the components"
features_test, _ = spread_points(9, 5, [5.0, 3.0, 1.5, 1.0, 0.5])
### BEGIN EXPECTED
_, expected, _ = reference.pca(features_test, 2)
centred = features_test - features_test.mean(0)


def directions(features):
    return np.linalg.svd(features, full_matrices=False)[2]


mistakes = {
    "the features aren't centred": directions(features_test)[:2],
    "each image's features are centred: each feature should be, over the images": (
        directions(features_test - features_test.mean(1, keepdims=True))[:2]
    ),
    "each feature is divided by its standard deviation": (
        directions(centred / features_test.std(0))[:2]
    ),
    "the smallest variance comes first": directions(centred)[:2:-1],
    "columns of Vᵀ are taken for the components: they are its rows": directions(centred)[:, :2].T,
    "the components are multiplied by their singular values": expected * [[5.0], [3.0]],
}
mistakes = {name: rows * signs_of(rows, expected) for name, rows in mistakes.items()}
### END EXPECTED
result = pca(features_test, 2)
name = "pca(features, 2) for features (9, 5)"
_, components, _ = check_tuple(result, ("projected", "components", "explained"), name)
if np.shape(components) == expected.shape:
    components = components * signs_of(components, expected)
check_close(components, expected, f"components from {name}", mistakes=mistakes, tolerance=1e-6)
check_without(pca)

# %% test="pca" points=1 aspect="the projections"
features_test, _ = spread_points(9, 5, [5.0, 3.0, 1.5, 1.0, 0.5])
### BEGIN EXPECTED
expected, axes_test, _ = reference.pca(features_test, 2)
mistakes = {
    "the features aren't centred before they are projected": features_test @ axes_test.T,
    "the singular values are missing: U alone has all spreads alike": expected / [5.0, 3.0],
    "the spreads are made alike: U has been scaled to unit variance": (
        expected / [5.0, 3.0] * np.sqrt(8)
    ),
    "the projections are in the original space again": expected @ axes_test,
}
### END EXPECTED
name = "pca(features, 2) for features (9, 5)"
parts = ("projected", "components", "explained")
projected, components, _ = check_tuple(pca(features_test, 2), parts, name)
if np.shape(projected) == expected.shape:
    projected = projected * signs_of(components, axes_test)[:, 0]  # both turn, or none
check_close(projected, expected, f"projected from {name}", mistakes=mistakes, tolerance=1e-6)
check_without(pca)

# %% test="pca" points=1 aspect="the shares of the variance"
features_test, _ = spread_points(9, 5, [5.0, 3.0, 1.5, 1.0, 0.5])
### BEGIN EXPECTED
_, _, expected = reference.pca(features_test, 2)
lengths = np.array([5.0, 3.0, 1.5, 1.0, 0.5])
raw = np.linalg.svd(features_test, full_matrices=False)[1]
mistakes = {
    "the singular values aren't squared": lengths[:2] / lengths.sum(),
    "the shares are those of the components wanted: they are of the whole variance": (
        expected / expected.sum()
    ),
    "the shares aren't squared, and of the components wanted only": lengths[:2] / 8,
    "the variances themselves are returned, not their shares": lengths[:2] ** 2 / 8,
    "the variances themselves are returned, not their shares, over N": lengths[:2] ** 2 / 9,
    "squared singular values are returned, not their shares": lengths[:2] ** 2,
    "singular values are returned, not shares of the variance": lengths[:2],
    "the shares are added up from the first on": expected.cumsum(),
    "the shares are in percent": 100 * expected,
    "the shares are taken from features that aren't centred": raw[:2] ** 2 / (raw**2).sum(),
}
### END EXPECTED
name = "pca(features, 2) for features (9, 5)"
parts = ("projected", "components", "explained")
_, _, explained = check_tuple(pca(features_test, 2), parts, name)
check_close(explained, expected, f"explained from {name}", mistakes=mistakes, tolerance=1e-6)
check_without(pca)

# %% test="pca" points=1 aspect="more features than images"
features_test, _ = spread_points(4, 7, [4.0, 2.0, 1.0])
### BEGIN EXPECTED
expected = reference.pca(features_test, 2)
### END EXPECTED
check_up_to_sign(pca(features_test, 2), expected, "pca(features, 2) for features (4, 7)")
check_without(pca)

# %% test="pca" points=1 aspect="general shapes"
# Other shapes and numbers of components are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for N, D, count in [(20, 6, 3), (5, 12, 2), (8, 8, 1), (30, 4, 4)]:
    features_test = rng.normal(size=(N, D)) * 1.5 ** -np.arange(D) + 3
    expected = reference.pca(features_test, count)
    name = f"pca(features, {count}) for features ({N}, {D})"
    check_up_to_sign(pca(features_test, count), expected, name)
check_without(pca)
### END HIDDEN TESTS

# %% test="pca" points=1 aspect="written by hand"
features_test, _ = spread_points(6, 4, [3.0, 2.0, 1.0])
### BEGIN EXPECTED
_, _, expected = reference.pca(features_test, 2)
### END EXPECTED
parts = ("projected", "components", "explained")
_, _, explained = check_tuple(pca(features_test, 2), parts, "pca(features, 2)")
check_close(explained, expected, "explained from pca(features, 2)", tolerance=1e-6)
check_without(pca)

# %% [markdown]
# Features of 300 scenes, from `base` and from the untrained network, and the pixels themselves. In
# these maps every class has its own colour and, where there is one, its own likeness for a mark.

# %%
MARKS = {
    "disc": ("o", "#0072B2"),
    "square": ("s", "#E69F00"),
    "triangle": ("^", "#009E73"),
    "star": ("*", "#CC79A7"),
    "cross": ("P", "#D55E00"),
    "ring": ("$\\bigcirc$", "black"),
    "heart": ("$\\heartsuit$", "#B22222"),
    "crescent": ("$\\supset$", "#8A6D00"),
    "flower": ((8, 2, 0), "#56B4E9"),
    "fish": ("$\\propto$", "0.45"),
}


def scatter(ax, points, title):
    """Draw points (N, 2) of the scenes, each with the mark of its class."""
    for number, (mark, colour) in enumerate(MARKS.values()):
        members = points[labels == number]
        ax.scatter(*members.T, marker=mark, color=colour, s=22, linewidth=0.6)
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])


pooled = "classifier.flatten"


def represent(images):
    """Three representations of images (N, 3, 64, 64), one row (N, D) for each."""
    features = {
        name: to_numpy(record_activations(images.clone(), model, [pooled])[pooled]).astype(float)
        for name, model in {"features of base": base, "features, untrained": untrained}.items()
    }
    return features | {"pixels": to_numpy(images.flatten(1))}


representations = represent(X)
features, untrained_features, pixels = representations.values()
its_rows = {} if mine is None else represent(mine_as_batch)

figure, axes = plt.subplots(1, 5, figsize=(15, 3.5), layout="constrained")
figure.suptitle("PCA: what is one heap in base's first two components comes apart in the next two")
analyses = {name: pca(values, 50) for name, values in representations.items()}
for ax, name, first in [
    (axes[0], "features of base", 0),
    (axes[1], "features of base", 2),
    (axes[2], "features, untrained", 0),
    (axes[3], "pixels", 0),
]:
    projected, components, explained = analyses[name]
    share = explained[first : first + 2].sum()
    scatter(ax, projected[:, first : first + 2], f"{name}\n{share:.0%} of variance")
    if its_rows:
        place = (its_rows[name] - representations[name].mean(axis=0)) @ components.T
        ax.plot(*place[0, first : first + 2], "X", color="black", mec="white", markersize=11)
    ax.set(xlabel=f"component {first + 1}", ylabel=f"component {first + 2}")
for (name, (_, _, explained)), style, colour in zip(
    analyses.items(), ("-", ":", "--"), ("#0072B2", "#0072B2", "0.5"), strict=True
):
    axes[4].plot(range(1, 31), explained[:30].cumsum(), style, color=colour, label=name)
axes[4].axvline(9, color="0.85", zorder=0)
axes[4].annotate("9", (9.3, 0.05))
axes[4].set(ylim=(0, 1.02), xlabel="components", title="share of the variance")
axes[4].legend(loc="lower right", frameon=False, fontsize=8)
handles = [
    plt.Line2D([], [], marker=mark, color=colour, linestyle="", label=name)
    for name, (mark, colour) in MARKS.items()
]
figure.legend(handles=handles, ncols=10, loc="outside lower center", frameon=False)
plt.show()
projected, _, explained = analyses["features of base"]
print(f"nine components hold {explained[:9].sum():.0%} of the variance of base's features")
for count in (2, 4, 9):
    distances = cdist(projected[:, :count], projected[:, :count])
    np.fill_diagonal(distances, np.inf)
    alike = (labels[distances.argmin(1)] == labels).mean()
    print(f"in the first {count}, the nearest scene is of the same class for {alike:.0%}")
pixel_components = analyses["pixels"][0]
brightness = np.corrcoef(pixel_components[:, 0], pixels.mean(axis=1))[0, 1]
print(f"first component of the pixels: correlation {abs(brightness):.2f} with mean brightness")

# %% [markdown]
# Nobody told PCA the classes, and yet `base`'s scenes lie by class, while pixels and random
# features lie in one heap. The plane of its first two components shows some classes well apart and
# several in a heap; in the next plane other classes come out of it. The curve on the right has a
# corner: nine directions hold nearly all the variance of `base`'s features. Nine is no accident.
# Training has pushed the ten classes as far apart as they go, towards ten corners at equal
# distances from one another, and ten such corners span nine dimensions. Papyan, Han and Donoho
# (2020) found this in many networks: *neural collapse*.
#
# Where it misleads: the plane shows a part of the variance only, so classes that overlap in it may
# be well apart in the other seven directions (section 7 will show that they are). And *much
# variance* isn't *much meaning*: the first component of the pixels is little more than bright
# against dark, as the last line printed says. (A picture of your own is a black cross: the
# components are directions, so a new point can be projected onto them. The maps of the next section
# have no place for one.)
#
# ## 7. Another map: t-SNE
#
# A plane can't show nine dimensions. t-SNE (van der Maaten and Hinton, 2008) gives up on planes. It
# asks of every point: *who are my neighbours?*, turns distances into probabilities, and then moves
# points about on a sheet of paper until the neighbours on the paper are the same. It is non-linear,
# and what it keeps of the pairwise distances is the short ones: near points stay near. From point
# $i$, point $j$ at a distance of $d_{ij}$ is seen with probability
#
# $$p_{j|i} = \frac{\exp\left(-\beta_i\, d_{ij}^2\right)}
#   {\sum_{k \ne i} \exp\left(-\beta_i\, d_{ik}^2\right)}, \qquad p_{i|i} = 0, \qquad
#   \beta_i = \frac{1}{2 \sigma_i^2}$$
#
# Each point has its own width $\sigma_i$, chosen so that every point has the same number of
# neighbours, which you set: the **perplexity**. As a point's probabilities fade slowly, "number of
# neighbours" is made precise by the entropy, in bits:
#
# $$\text{perplexity}_i = 2^{H_i}, \qquad H_i = -\sum_{j \ne i} p_{j|i} \log_2 p_{j|i}$$
#
# Check: if $m$ points have $p = 1/m$ each and the others 0, the perplexity is $m$.
#
# No formula gives the $\beta_i$ that belongs to a perplexity. But one thing is sure: the larger
# $\beta_i$, the narrower the view, and the smaller the entropy. So **bisection** finds it: keep two
# numbers with $\beta_i$ between them, try the middle, and go on with the half in which it must be.
#
# ### Exercise: `conditional_probabilities`
# ★★★ · 25 minutes
#
# <details><summary>Hint 1: one point first</summary>
#
# Write it for one row of distances, without the point itself: from a `beta` to the probabilities,
# from those to the entropy. Then put the search around it, and only then a loop over the points
# (or an axis for them). Where $p$ is 0 in floating point, $p \log_2 p$ counts as 0.
#
# </details>
# <details><summary>Hint 2: where does the search begin?</summary>
#
# $\beta$ may be anything above 0. Begin with 1, a lower bound of 0 and no upper bound
# (`np.inf`). While there is none, double $\beta$; afterwards take the middle. Each step halves the
# interval, so a hundred steps are more than enough, and no test of whether to stop is needed.
#
# </details>
# <details><summary>Hint 3: a point far from all others</summary>
#
# Its distances are so large that every `exp(-beta * d)` can be 0 in floating point, and 0/0 is no
# probability. Subtract the row's smallest distance first (the point's own doesn't count). It takes
# the same factor out of numerator and denominator, so the probabilities stay as they are.
#
# </details>


# %% exercise="conditional_probabilities" without="sklearn"
def conditional_probabilities(squared_distances, perplexity):
    """How likely each point is to see each other one as its neighbour (van der Maaten & Hinton).

        p(j|i) = exp(−β_i d²_ij) / Σ_{k≠i} exp(−β_i d²_ik),  p(i|i) = 0

    Each point i has a β_i of its own, found by bisection, for which 2 to the power of the entropy
    in bits, H_i = −Σ_j p(j|i) log₂ p(j|i), is the perplexity. Write the search yourself: calling
    scikit-learn earns no points.

    Args:
        squared_distances: d²_ij, float64 array (N, N), symmetric, 0 on the diagonal and from 1e-6
            to 1e7 elsewhere. A point may be far from all others.
        perplexity: the same for all points, a float with 1 < perplexity < N − 1.

    Returns:
        p: float64 array (N, N), p(j|i) in row i and column j. Rows add up to 1. It is right to
            four digits, or to more.
    """
    ### BEGIN SOLUTION
    N = len(squared_distances)
    others = ~np.eye(N, dtype=bool)
    nearest = squared_distances.min(axis=1, where=others, initial=np.inf)
    excess = np.where(others, squared_distances - nearest[:, None], np.inf)  # so p(i|i) is 0
    beta, low, high = np.ones(N), np.zeros(N), np.full(N, np.inf)
    for _ in range(100):
        p = np.exp(-beta[:, None] * excess)
        p /= p.sum(axis=1, keepdims=True)
        entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=1)
        too_wide = entropy > np.log2(perplexity)
        low, high = np.where(too_wide, beta, low), np.where(too_wide, high, beta)
        beta = np.where(np.isinf(high), 2 * beta, (low + high) / 2)
    return p
    ### END SOLUTION


# %% test="conditional_probabilities" points=2 aspect="seven points"
points = np.random.default_rng(4).normal(size=(7, 2))
squared = cdist(points, points, "sqeuclidean")
### BEGIN EXPECTED
from scipy.optimize import brentq
from scipy.special import entr

others = ~np.eye(7, dtype=bool)
expected = reference.conditional_probabilities(squared, 2.5)


def probabilities(beta, kept=others):
    """Each row's probabilities for these β, (7,) or a number, among the points that are kept."""
    weights = np.exp(-np.reshape(beta, (-1, 1)) * squared) * kept
    return weights / weights.sum(1, keepdims=True)


def searched(kept):
    """The probabilities of perplexity 2.5 among the points that are kept."""
    beta = [
        brentq(lambda b, i=i: entr(probabilities(b, kept)[i]).sum() - np.log(2.5), 1e-3, 30)
        for i in range(7)
    ]
    return probabilities(beta, kept)


two = np.argsort(np.where(others, squared, np.inf), axis=1)[:, :2]  # the two nearest
beta = -np.diff(np.log(np.take_along_axis(expected, two, 1)), axis=1) / np.diff(
    np.take_along_axis(squared, two, 1), axis=1
)
shared = brentq(lambda b: entr(probabilities(b)).sum(1).mean() - np.log(2.5), 1e-3, 30)
mistakes = {
    "all points share one width: each needs its own": probabilities(shared),
    "each point counts as its own neighbour: p(i|i) should be 0": searched(np.ones((7, 7))),
    "all other points are left alike: the search goes the wrong way, or doesn't get far": (
        others / 6
    ),
    "only the nearest point is left: the search goes the wrong way, or too far": (
        np.eye(7)[two[:, 0]]
    ),
    "the search goes the wrong way: a larger β makes the entropy smaller": np.where(
        entr(probabilities(1)).sum(1, keepdims=True) > np.log(2.5), others / 6, np.eye(7)[two[:, 0]]
    ),
    "β stays at 1: it should be searched for": probabilities(1),
    "σ stays at 1: it should be searched for": probabilities(0.5),
    "distances are used: they should be squared": (
        reference.conditional_probabilities(np.sqrt(squared), 2.5)
    ),
    "the squared distances are squared once more": (
        reference.conditional_probabilities(squared**2, 2.5)
    ),
    "2 is raised to an entropy in nats: H is in bits": (
        reference.conditional_probabilities(squared, np.exp(np.log2(2.5)))
    ),
    "e is raised to an entropy in bits: it should be 2": (
        reference.conditional_probabilities(squared, 2 ** np.log(2.5))
    ),
    "the entropy itself is brought to the perplexity, which is 2 to its power": (
        reference.conditional_probabilities(squared, 2**2.5)
    ),
    "rows and columns are exchanged: the point that looks has a row": expected.T,
    "the two directions are averaged already: that comes later": (expected + expected.T) / 2,
    "p(ij) is returned, the average of both directions over N: p(j|i) is asked for": (
        (expected + expected.T) / 14
    ),
    "all of p is divided by its sum: each row should add up to 1": expected / 7,
    "the rows aren't divided by their sums": np.exp(-beta * squared) * others,
    "β is returned, not the probabilities": beta[:, 0],
    "σ is returned, not the probabilities": np.sqrt(1 / (2 * beta[:, 0])),
}
### END EXPECTED
check_close(
    conditional_probabilities(squared, 2.5),
    expected,
    "conditional_probabilities(squared_distances, 2.5)",
    mistakes=mistakes,
    tolerance=1e-4,
)
check_without(conditional_probabilities)

# %% test="conditional_probabilities" points=1 aspect="dense and thin places"
rng = np.random.default_rng(5)
spreads = np.repeat([0.05, 1, 5], 5)[:, None]
points = np.repeat([0.0, 10.0, 100.0], 5)[:, None] + spreads * rng.normal(size=(15, 3))
squared = cdist(points, points, "sqeuclidean")
### BEGIN EXPECTED
expected = reference.conditional_probabilities(squared, 3)
far = np.where(np.eye(15, dtype=bool), np.inf, squared)
p = np.exp(far.min(1, keepdims=True) - far)
mistakes = {"β stays at 1": p / p.sum(1, keepdims=True)}
### END EXPECTED
check_close(
    conditional_probabilities(squared, 3),
    expected,
    "conditional_probabilities(squared_distances, 3) of a tight, a wide and a very wide group",
    mistakes=mistakes,
    tolerance=1e-4,
)
check_without(conditional_probabilities)

# %% test="conditional_probabilities" points=1 aspect="distances of any size"
points = np.random.default_rng(6).normal(size=(14, 3))
for unit in (3e-3, 300):
    squared = cdist(unit * points, unit * points, "sqeuclidean")
    ### BEGIN EXPECTED
    expected = reference.conditional_probabilities(squared, 3)
    others = squared + np.diag(np.full(14, np.inf))
    others -= others.min(1, keepdims=True)
    mistakes = {
        "all other points are left alike: the search goes the wrong way, or doesn't get far": (
            (1 - np.eye(14)) / 13
        ),
    }
    for limit in (1e3, 1e4) if unit < 1 else (1e-4,):
        p = np.exp(-limit * others)
        beyond = f"{'beyond' if unit < 1 else 'below'} {limit:g}"
        mistakes[f"β isn't searched {beyond}: distances may be of any unit"] = p / p.sum(
            1, keepdims=True
        )
    ### END EXPECTED
    check_close(
        conditional_probabilities(squared, 3),
        expected,
        f"conditional_probabilities for squared distances of about {2 * unit**2:.0e}",
        mistakes=mistakes,
        tolerance=1e-4,
    )
check_without(conditional_probabilities)

# %% test="conditional_probabilities" points=1 aspect="a point far away"
points = np.random.default_rng(7).normal(size=(9, 2))
points[4] += 1000
squared = cdist(points, points, "sqeuclidean")
### BEGIN EXPECTED
expected = reference.conditional_probabilities(squared, 3)
lost = expected.copy()
lost[4, np.arange(9) != 4] = np.nan
none = expected.copy()
none[4] = 0
alike = expected.copy()
alike[4] = (np.arange(9) != 4) / 8
closest = expected.copy()
closest[4] = np.arange(9) == squared[4].argsort()[1]
all_too_small = "exp(−β d²) is 0 for all others in the far point's row"
mistakes = {
    f"{all_too_small}, and 0/0 is no number": lost,
    f"{all_too_small}, and it stays 0": none,
    f"{all_too_small}, so the search ends with all of them alike": alike,
    f"{all_too_small}, so the search ends with the nearest alone": closest,
}
### END EXPECTED
check_close(
    conditional_probabilities(squared, 3),
    expected,
    "conditional_probabilities(squared_distances, 3), one point far from the others",
    mistakes=mistakes,
    tolerance=1e-4,
)
check_without(conditional_probabilities)

# %% test="conditional_probabilities" points=1 aspect="general shapes"
# Other numbers of points, other perplexities and other distances are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for N, perplexity, low, high in [
    *((3, 1.5, 0.1, 10), (20, 18.6, 5, 500), (41, 30, 0.002, 0.2), (15, 1.1, 0.1, 10)),
    *((14, 3, 2e-3, 3e-3), (14, 3, 200, 300), (12, 5, 0.1, 10)),
]:
    points = rng.normal(size=(N, 4)) * rng.uniform(low, high, (N, 1))
    squared = cdist(points, points, "sqeuclidean")
    expected = reference.conditional_probabilities(squared, perplexity)
    check_close(
        conditional_probabilities(squared, perplexity),
        expected,
        f"conditional_probabilities for {N} points and perplexity {perplexity}",
        tolerance=1e-4,
    )
points[3] += 1500
squared = cdist(points, points, "sqeuclidean")
expected = reference.conditional_probabilities(squared, 4)
check_close(
    conditional_probabilities(squared, 4),
    expected,
    "conditional_probabilities for 12 points, one far away",
    tolerance=1e-4,
)
check_without(conditional_probabilities)
### END HIDDEN TESTS

# %% test="conditional_probabilities" points=1 aspect="written by hand"
points = np.random.default_rng(8).normal(size=(6, 2))
squared = cdist(points, points, "sqeuclidean")
### BEGIN EXPECTED
expected = reference.conditional_probabilities(squared, 2)
### END EXPECTED
check_close(
    conditional_probabilities(squared, 2),
    expected,
    "conditional_probabilities(squared_distances, 2)",
    tolerance=1e-4,
)
check_without(conditional_probabilities)

# %% [markdown]
# What have you set when you set a perplexity? First a toy whose truth is plain to see: three groups
# of points on a plane, one tight, one wide, and one far away, outside of this picture. The circles
# around some points show how far they see: the radius is the root of $\sum_j p_{j|i}\, d_{ij}^2$. On
# the right are the scenes: how much of its probability does a scene give to others of its own class?

# %%
rng = np.random.default_rng(0)
toy = np.concatenate(
    [rng.normal(centre, spread, (50, 2)) for centre, spread in [(0, 0.3), (8, 2.0), (40, 0.3)]]
)
GROUPS = [("o", "#0072B2"), ("s", "#E69F00"), ("^", "0.4")]

figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.9), layout="constrained")
figure.suptitle("A view as wide as the neighbourhood; ask for too many, and strangers come in")
squared = cdist(toy, toy, "sqeuclidean")
for ax, wanted in zip(axes, (5, 30), strict=False):
    p = conditional_probabilities(squared, wanted)
    near = ax.inset_axes([0.52, 0.03, 0.45, 0.4], xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    near.set(xticks=[], yticks=[], aspect="equal", title="the tight one, × 3")
    near.title.set_fontsize(8)
    for axis, group, (mark, colour) in zip((near, ax), range(2), GROUPS, strict=False):
        members = range(50 * group, 50 * (group + 1))
        for drawing in {axis, ax}:
            drawing.scatter(*toy[members].T, marker=mark, color=colour, s=10)
        for i in members[::8]:
            circle = plt.Circle(toy[i], np.sqrt(p[i] @ squared[i]), fill=False, edgecolor=colour)
            axis.add_patch(circle)
    ax.set(xlim=(-3, 16), ylim=(-5.5, 14), aspect="equal", title=f"perplexity {wanted}")

perplexities = np.array([2, 5, 15, 29, 60, 100, 200])
same_class = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
shares = {}
for (name, values), style, colour in zip(
    representations.items(), ("o-", "o:", "s--"), ("#0072B2", "#0072B2", "0.5"), strict=True
):
    squared = cdist(values, values, "sqeuclidean")
    shares[name] = [
        conditional_probabilities(squared, wanted)[same_class].sum() / len(labels)
        for wanted in perplexities
    ]
    axes[2].plot(perplexities, shares[name], style, color=colour, label=name)
axes[2].axvline(29, color="0.8", zorder=0)
axes[2].annotate("29 others\nin a class", (31, 0.2), fontsize=8, color="0.4")
axes[2].set(ylim=(0, 1.02), xscale="log", xlabel="perplexity")
axes[2].set(title="probability for one's own class")
axes[2].set_xticks(perplexities, labels=perplexities, minor=False)
axes[2].minorticks_off()
axes[2].legend(loc="center left", frameon=False, fontsize=8)
axes[2].spines[["top", "right"]].set_visible(False)
plt.show()
seen = dict(zip(perplexities.tolist(), shares["features of base"], strict=True))
print(
    "in base's features, so much of a scene's probability is for its own class:\n"
    f"{seen[2]:.0%} at perplexity 2, {seen[29]:.0%} at 29, and {seen[100]:.0%} at 100"
)

# %% [markdown]
# In the tight group a small circle holds as many neighbours as a large one does in the wide group:
# each point's own $\sigma_i$ takes the density out. With a small perplexity, a point has a few
# neighbours and knows nobody else. With 100 it has to find 100, although its class has only 29
# others here, so strangers are made neighbours, whatever the features are like. Neither number is
# in the data: you put it there. (The classes come from us. t-SNE isn't told them.)
#
# The next step makes one number of two: the directions are averaged, $p_{ij} = (p_{j|i} + p_{i|j})
# / 2N$ for $N$ points. Now $p_{ij} = p_{ji}$, all of them add up to 1, and the sum over $j$ is at
# least $1/2N$ for every $i$, so that even a point far from all others has a say. On the paper the
# same two points are neighbours with $q_{ij} \propto 1 / (1 + \lVert y_i - y_j \rVert^2)$, and
# gradient descent makes the divergence $\sum_{ij} p_{ij} \log (p_{ij} / q_{ij})$ small. That is
# scikit-learn's `TSNE`, which begins with a search like yours. It now gets the toy's two
# coordinates, and has nothing to do but to leave the points where they are.

# %%
from sklearn import manifold


def tsne(points, perplexity, seed=0):
    """scikit-learn's t-SNE: a map (N, 2) of the points."""
    return manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)


figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
figure.suptitle(
    "t-SNE keeps neighbours; how large groups are, and how far apart, the perplexity decides"
)
maps = {"the truth": toy} | {f"perplexity {p}": tsne(toy, p) for p in (2, 30, 100)}
for ax, (title, points) in zip(axes, maps.items(), strict=True):
    for group, (mark, colour) in enumerate(GROUPS):
        ax.scatter(*points[50 * group : 50 * (group + 1)].T, marker=mark, color=colour, s=12)
    ax.set_title(title)
    ax.set_aspect("equal", "datalim")
    ax.set_xticks([])
    ax.set_yticks([])
plt.show()

# %% [markdown]
# The toy is *easy*, and no map is right. Perplexity 2 tears each group into shreds. Perplexity 30
# finds the three groups and makes them the same size, at about the same distance from one another:
# the views were as wide as the groups. Perplexity 100, two thirds of all points, leaves
# the far group far away, and the price is the other two: it makes up a bow and tears the tight
# group in two. Without the truth beside them, who could tell which map to believe? So neither the
# size of a cluster, nor the gap between two, nor its form means anything by itself.
#
# So a map needs a judge that doesn't look at its beauty. Venna and Kaski's (2001)
# **trustworthiness** $T$ asks of every point: are the $k$ neighbours that you have *on the map*
# really neighbours? It is 1 for a map without false neighbours, and 0 for the worst possible one.
# Here it is scikit-learn's; in section 10 you may write it yourself.

# %% [markdown]
# Now the scenes. Above, `base`'s features with three perplexities. Below, the pixels, and 300
# points of **pure noise**, drawn in 128 dimensions without any structure, twice. $T$ is
# the trustworthiness with $k = 10$.

# %%
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score

noise = np.random.default_rng(1).normal(size=features.shape)
panels = [
    ("features of base", features, 2),
    ("features of base", features, 30),
    ("features of base", features, 100),
    ("pixels", pixel_components, 30),  # 50 components: nearly the same distances
    ("noise", noise, 2),
    ("noise", noise, 30),
]
figure, axes = plt.subplots(2, 3, figsize=(12, 7.4), layout="constrained")
figure.suptitle("t-SNE: clear classes in the features; and clumps in noise, if you ask for them")
drawn = {}
for ax, (name, values, wanted) in zip(axes.flat, panels, strict=True):
    points = tsne(values, wanted)
    drawn[name, wanted] = points
    trust = manifold.trustworthiness(values, points, n_neighbors=10)
    title = f"{name}, perplexity {wanted}: T = {trust:.3f}"
    if name == "noise":
        ax.scatter(*points.T, s=12, color="0.35")
        ax.set_title(title)
        ax.set_xticks([])
        ax.set_yticks([])
    else:
        scatter(ax, points, title)
figure.legend(handles=handles, ncols=10, loc="outside lower center", frameon=False)
plt.show()

best_map = drawn["features of base", 30]
plane = analyses["features of base"][0][:, :2]
for name, points in {"features": best_map, "pixels": drawn["pixels", 30]}.items():
    print(f"silhouette of the classes on the map of {name}: {silhouette_score(points, labels):.2f}")
print("                      trustworthiness, k = 10     all distances, rank correlation")
for name, points in {"PCA, 2 components": plane, "t-SNE, perplexity 30": best_map}.items():
    correlation = spearmanr(pdist(features), pdist(points)).statistic
    trust = manifold.trustworthiness(features, points, n_neighbors=10)
    print(f"{name:20} {trust:20.3f} {correlation:30.2f}")

# %% [markdown]
# In the features there are ten islands, one for each class, at perplexity 30 and at 100, and a few
# stray scenes between them, with a trustworthiness near 1 and a high silhouette (1 would be classes
# shrunk to points, 0 classes that lie mixed). The pixels give no class away. And the noise shows
# what a map is worth without a judge: with perplexity 2 it falls into dozens of neat clumps that
# aren't there. Its low trustworthiness is the warning.
#
# Two things that trustworthiness doesn't see. Perplexity 2 tears classes apart, and T is high all
# the same, because neighbours *on the map* are true ones: it never asks who is missing. And it
# looks at $k$ neighbours only. Of *all* distances, as the rank correlation says, the flat plane of
# PCA keeps more than t-SNE does, though it is behind among neighbours. If somebody says that t-SNE
# keeps pairwise distances, ask: which?
#
# ### Question: reading a map
# ★★☆ · 10 minutes

# %% [markdown] question="reading_a_map" points=4
# A colleague shows you a t-SNE map of the features of 300 X-ray images, made with perplexity 2. She
# says: "There are about forty groups of patients. The group on the left is far from all others, so
# these images are the most unusual. And this group is much larger on paper than that one, so its
# patients vary more."
#
# 1. Which of her three conclusions does the map support? Say for each why, or why not, and which
#    figure of this lab shows it.
# 2. What would you have her do before anybody acts on the map? Name two things.
#
# ### BEGIN SOLUTION
# 1 (2.5 points). None of them. Groups: with perplexity 2 even noise breaks up into small clumps
# (noise at perplexity 2 against 30), so forty clumps may be an artefact of the setting (1 point).
# Far away: t-SNE keeps short distances only, gaps between groups mean little; in the toy the far
# group isn't far on the map at perplexities 2 and 30 (at 100 it is, so the perplexity decides), or
# the rank correlation of all distances is no better than PCA's (0.75 points). Size: each point has
# its own σ, so dense groups are spread out and wide ones drawn together; in the toy, at perplexity
# 30, the tight and the wide group come out alike (0.75 points).
#
# 2 (1.5 points). Any two of (0.75 each): repeat with several perplexities and seeds and keep what
# stays; compute trustworthiness; make a control, such as the same map of shuffled or random
# features or of an untrained network; go back to the original space: nearest neighbours, distances
# or clustering there, PCA; look at the images of a group, blind; check whether the clumps follow
# something technical (hospital, scanner) rather than the patients.
# ### END SOLUTION

# %% [markdown]
# ## 8. What can be read off at each depth
#
# Maps and patches show the network's last features, or one channel. How does the knowledge come
# about, layer by layer? Alain and Bengio (2016) ask each layer with a **linear probe**: a linear
# classifier that gets a layer's activations for some images, is trained on their labels, and then
# has to name the classes of *new* images. The network itself isn't trained any further. If a linear
# classifier can read the class off, the layer has it in plain sight.
#
# A probe for a layer with maps $A$, (N, C, h, w), from simple parts. Average each channel over its
# map; standardise each by its mean and standard deviation over the $N$ training images, so that no
# channel counts more for its unit. That gives $Z$, (N, C). Then regress on the labels, written as
# rows $e_{y_n}$ with a 1 for the class and zeros elsewhere. The penalty $\lambda$ keeps the weights
# small (ridge regression), and the least squares have a closed form:
#
# $$\min_{W,\,b}\; \frac{1}{N} \sum_{n=1}^{N} \lVert W^\top z_n + b - e_{y_n} \rVert^2
#   + \lambda \lVert W \rVert^2
#   \quad\Rightarrow\quad
#   W = \Big(\frac{Z^\top Z}{N} + \lambda I\Big)^{-1} \frac{Z^\top E}{N},
#   \qquad b = \frac{1}{N} \sum_{n=1}^{N} e_{y_n}$$
#
# The bias is that simple because $Z$ is centred. New images are standardised by the mean and the
# standard deviation of the *training* images: the probe must not learn from what it is judged by.
#
# ### Exercise: `linear_probe`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# `np.eye(classes)[labels]` are the rows $e_{y_n}$. `np.linalg.solve(A, B)` is $A^{-1} B$, and
# doesn't compute the inverse.
#
# </details>


# %% exercise="linear_probe" without="sklearn, torch"
def linear_probe(activations, labels, new_activations, penalty):
    """Class scores of new images, by ridge regression on a layer (Alain and Bengio, 2016).

        W = (ZᵀZ / N + λ I)⁻¹ ZᵀE / N,  b = mean of E's rows,  scores = Z_new W + b

    Z: each channel averaged over its map, less its mean over the training images, divided by its
    standard deviation over them. E: (N, K), 1 at each image's class and 0 elsewhere. NumPy has all
    that it takes: calling scikit-learn or torch earns no points.

    Args:
        activations: of N training images, float array (N, C, h, w). C may be larger than N.
        labels: their classes, int array (N,), from 0 to K − 1; each occurs at least once.
        new_activations: of M new images, float array (M, C, h, w).
        penalty: λ, a float above 0.

    Returns:
        scores: float array (M, K). A channel that is 0 for all training images has no say (the
            standard deviation that it is divided by counts as 1).
    """
    ### BEGIN SOLUTION
    features, new_features = activations.mean(axis=(2, 3)), new_activations.mean(axis=(2, 3))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    Z, Z_new = (features - mean) / deviation, (new_features - mean) / deviation
    E = np.eye(labels.max() + 1)[labels]
    N, C = Z.shape
    W = np.linalg.solve(Z.T @ Z / N + penalty * np.eye(C), Z.T @ E / N)
    return Z_new @ W + E.mean(axis=0)
    ### END SOLUTION


# %% [markdown]
# **The regression.** Maps of a single place, and channels that are standardised already.

# %% test="linear_probe" points=2 aspect="the regression"
rng = np.random.default_rng(9)
A = rng.normal(size=(14, 4, 1, 1))
A = (A - A.mean(0)) / A.std(0)
labels_test = np.array([2, 0, 1, 0, 2, 0, 0, 1, 0, 2, 0, 0, 1, 0])
A_new = rng.normal(size=(5, 4, 1, 1))
### BEGIN EXPECTED
expected = reference.linear_probe(A, labels_test, A_new, 0.3)
Z, Z_new, E = A[:, :, 0, 0], A_new[:, :, 0, 0], np.eye(3)[labels_test]


def scores_of(Z, E, Z_new, penalty):
    return Z_new @ np.linalg.solve(Z.T @ Z + penalty * np.eye(Z.shape[1]), Z.T @ E)


with_ones, new_with_ones = (np.column_stack([z, np.ones(len(z))]) for z in (Z, Z_new))
raised = np.exp(expected - expected.max(1, keepdims=True))
mistakes = {
    "the bias is missing: the mean of E's rows": expected - E.mean(0),
    "the bias is 1 / K for each class: it is the class's share of the training images": (
        expected - E.mean(0) + 1 / 3
    ),
    "the penalty is on the bias too": scores_of(with_ones, E, new_with_ones, 14 * 0.3),
    "the penalty is on the bias too, and isn't multiplied by N": (
        scores_of(with_ones, E, new_with_ones, 0.3)
    ),
    "ZᵀZ isn't divided by N, or λ not multiplied by it": scores_of(Z, E, Z_new, 0.3) + E.mean(0),
    "ZᵀE isn't divided by N": 14 * (expected - E.mean(0)) + E.mean(0),
    "the penalty is missing": scores_of(Z, E, Z_new, 0) + E.mean(0),
    "the penalty is squared": scores_of(Z, E, Z_new, 14 * 0.3**2) + E.mean(0),
    "the penalty is subtracted": scores_of(Z, E, Z_new, -14 * 0.3) + E.mean(0),
    "the numbers of the classes are regressed on: a class is a row of E": (
        scores_of(Z, labels_test - labels_test.mean(), Z_new, 14 * 0.3) + labels_test.mean()
    ),
    "E has −1 where the image's class isn't: it has 0": 2 * expected - 1,
    "1e-05 was added to the deviation: only a deviation of 0 counts as 1": (
        scores_of(Z / (1 + 1e-5), E, Z_new / (1 + 1e-5), 14 * 0.3) + E.mean(0)
    ),
    "the scores are those of the training images": (scores_of(Z, E, Z, 14 * 0.3) + E.mean(0)),
    "a softmax is taken of the scores": raised / raised.sum(1, keepdims=True),
    "the classes are returned, not the scores": expected.argmax(1),
    "scores are (K, M): they should be (M, K)": expected.T,
}
### END EXPECTED
check_close(
    linear_probe(A, labels_test, A_new, 0.3),
    expected,
    "linear_probe(activations, labels, new_activations, 0.3)",
    mistakes=mistakes,
    tolerance=1e-6,
)
check_without(linear_probe)

# %% test="linear_probe" points=2 aspect="channels are standardised"
rng = np.random.default_rng(10)
A, A_new = rng.normal(size=(11, 3, 1, 1)), rng.normal(1, 1, (6, 3, 1, 1))
unit, shift = np.array([[[0.1]], [[1.0]], [[20.0]]]), np.array([[[1.0]], [[-2.0]], [[30.0]]])
A, A_new = A * unit + shift, A_new * unit + shift
labels_test = np.array([0, 1, 1, 3, 0, 2, 2, 0, 3, 1, 0])
### BEGIN EXPECTED
expected = reference.linear_probe(A, labels_test, A_new, 0.5)
both = np.concatenate([A, A_new])


def scaled(A, A_new):
    """The scores for features that are taken as they come."""
    Z, Z_new, E = A[:, :, 0, 0], A_new[:, :, 0, 0], np.eye(4)[labels_test]
    weights = np.linalg.solve(Z.T @ Z + 0.5 * len(Z) * np.eye(3), Z.T @ E)
    return Z_new @ weights + E.mean(0)


def standard(A, by, ddof=0):
    return (A - by.mean(0)) / by.std(0, ddof=ddof)


mistakes = {
    "the channels aren't standardised": scaled(A, A_new),
    "the channels are centred, and not divided by their deviation": (
        scaled(A - A.mean(0), A_new - A.mean(0))
    ),
    "the channels are divided by their variance": (
        scaled((A - A.mean(0)) / A.var(0), (A_new - A.mean(0)) / A.var(0))
    ),
    "the new images are standardised by their own mean and deviation": (
        scaled(standard(A, A), standard(A_new, A_new))
    ),
    "mean and deviation are those of all images: the new ones mustn't be looked at": (
        scaled(standard(A, both), standard(A_new, both))
    ),
    "the new images aren't standardised": scaled(standard(A, A), A_new),
    "the variance is divided by N − 1: here it is by N": (
        scaled(standard(A, A, 1), standard(A_new, A, 1))
    ),
    "all channels are standardised together: each has its own mean and deviation": (
        scaled((A - A.mean()) / A.std(), (A_new - A.mean()) / A.std())
    ),
}
for epsilon in (1e-5, 1e-6):
    mistakes[f"{epsilon:g} was added to the deviation: only a deviation of 0 counts as 1"] = scaled(
        *((a - A.mean(0)) / (A.std(0) + epsilon) for a in (A, A_new))
    )
### END EXPECTED
check_close(
    linear_probe(A, labels_test, A_new, 0.5),
    expected,
    "linear_probe(activations, labels, new_activations, 0.5) for channels of any unit",
    mistakes=mistakes,
    tolerance=1e-6,
)
check_without(linear_probe)

# %% test="linear_probe" points=1 aspect="maps are averaged"
rng = np.random.default_rng(11)
A, A_new = rng.gamma(1, 1, (10, 3, 2, 4)), rng.gamma(1, 1, (4, 3, 2, 4))
labels_test = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1])
### BEGIN EXPECTED
expected = reference.linear_probe(A, labels_test, A_new, 0.2)


def pooled_by(pool):
    parts = (pool(x).reshape(len(x), -1, 1, 1) for x in (A, A_new))
    return reference.linear_probe(next(parts), labels_test, next(parts), 0.2)


mistakes = {
    "the largest value of each map is taken: it should be the mean": (
        pooled_by(lambda x: x.max((2, 3)))
    ),
    "every place is a feature of its own: average over the map": pooled_by(lambda x: x),
    "it is averaged over the height only": pooled_by(lambda x: x.mean(2)),
    "it is averaged over the width only": pooled_by(lambda x: x.mean(3)),
    "it is averaged over the channels": pooled_by(lambda x: x.mean(1)),
    "only one place of the map is used": pooled_by(lambda x: x[:, :, 0, 0]),
}
### END EXPECTED
check_close(
    linear_probe(A, labels_test, A_new, 0.2),
    expected,
    "linear_probe(activations, labels, new_activations, 0.2) for maps (2, 4)",
    mistakes=mistakes,
    tolerance=1e-6,
)
check_without(linear_probe)

# %% test="linear_probe" points=1 aspect="a channel that is always 0"
rng = np.random.default_rng(12)
A, A_new = rng.gamma(1, 1, (9, 4, 2, 2)), rng.gamma(1, 1, (5, 4, 2, 2))
A[:, 1] = 0
labels_test = np.array([1, 0, 2, 1, 0, 2, 1, 2, 1])
### BEGIN EXPECTED
expected = reference.linear_probe(A, labels_test, A_new, 0.1)
mistakes = {"0/0 for the channel that is always 0 makes everything NaN": np.full((5, 3), np.nan)}
### END EXPECTED
check_close(
    linear_probe(A, labels_test, A_new, 0.1),
    expected,
    "linear_probe(activations, labels, new_activations, 0.1), a channel always 0 in training",
    mistakes=mistakes,
    tolerance=1e-6,
)
check_without(linear_probe)

# %% test="linear_probe" points=1 aspect="general shapes"
# Other shapes, also with more channels than images, are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for N, C, K, M, h, w in [(8, 20, 3, 6, 2, 3), (30, 5, 7, 1, 4, 1), (6, 1, 6, 9, 1, 2)]:
    labels_test = np.concatenate([np.arange(K), rng.integers(K, size=N - K)])
    rng.shuffle(labels_test)
    A, A_new = (rng.normal(rng.normal(size=(C, 1, 1)), 2, (n, C, h, w)) for n in (N, M))
    penalty = 10 ** rng.uniform(-2, 0.5)
    expected = reference.linear_probe(A, labels_test, A_new, penalty)
    check_close(
        linear_probe(A, labels_test, A_new, penalty),
        expected,
        f"linear_probe for {N} images and {M} new ones, {C} channels, {K} classes",
        tolerance=1e-6,
    )
check_without(linear_probe)
### END HIDDEN TESTS

# %% test="linear_probe" points=1 aspect="written by hand"
rng = np.random.default_rng(13)
A, A_new = rng.normal(size=(9, 2, 2, 2)), rng.normal(size=(3, 2, 2, 2))
labels_test = np.arange(9) % 2
### BEGIN EXPECTED
expected = reference.linear_probe(A, labels_test, A_new, 0.4)
### END EXPECTED
check_close(
    linear_probe(A, labels_test, A_new, 0.4),
    expected,
    "linear_probe(activations, labels, new_activations, 0.4)",
    tolerance=1e-6,
)
check_without(linear_probe)

# %% [markdown]
# Probes at six depths, of `base` and of the untrained network, trained on the 300 scenes and judged
# by 300 new ones. The first asks for the class, as `base` was trained to answer. The two others ask
# for what nobody has taught it: which colour is strongest in the background, and whether the object
# is large (larger than half of the objects are).

# %%
relus = [f"features.relu{number}" for number in range(1, 7)]
fresh = make_scenes(300, np.random.default_rng(6))
X_fresh = fresh.tensors()[0].to(device)


def strongest_colour(scenes):
    """0, 1 or 2: whether red, green or blue is strongest in the mean of each background."""
    behind = ~scenes.masks[..., None]
    return ((scenes.images * behind).sum(axis=(1, 2)) / behind.sum(axis=(1, 2))).argmax(axis=1)


def area(scenes):
    return scenes.masks.sum(axis=(1, 2))


middle = np.median(area(scenes))
tasks = {
    "the class": (labels, fresh.shape_class),
    "the background's colour": (strongest_colour(scenes), strongest_colour(fresh)),
    "is the object large?": (area(scenes) > middle, area(fresh) > middle),
}
by_depth = {(task, name): [] for task in tasks for name in ("base", "untrained")}
for name, model in {"base": base, "untrained": untrained}.items():
    maps = record_activations(X.clone(), model, relus)
    fresh_maps = record_activations(X_fresh.clone(), model, relus)
    for relu in relus:
        # Averaged here already, as three probes need the same features.
        A, A_fresh = (
            to_numpy(stack[relu].mean((2, 3), keepdim=True)).astype(float)
            for stack in (maps, fresh_maps)
        )
        for task, (known, truth) in tasks.items():
            answers = linear_probe(A, known.astype(int), A_fresh, 0.01).argmax(axis=1)
            by_depth[task, name].append((answers == truth).mean())

figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.6), layout="constrained", sharey=True)
figure.suptitle("What a linear probe reads off: the class appears, the background's colour fades")
for ax, (task, (_, truth)) in zip(axes, tasks.items(), strict=True):
    ax.plot(range(1, 7), by_depth[task, "base"], "o-", color="#0072B2", label="base")
    ax.plot(range(1, 7), by_depth[task, "untrained"], "s--", color="0.5", label="untrained")
    ax.axhline(np.bincount(truth).max() / len(truth), color="0.7", linestyle=":")
    ax.set_title(task)
    ax.set_xticks(range(1, 7), [name.removeprefix("features.") for name in relus])
    ax.spines[["top", "right"]].set_visible(False)
axes[0].annotate("the commonest answer", (6, 0.115), ha="right", fontsize=8, color="0.4")
axes[0].set(ylim=(0, 1.02), ylabel="right on 300 new scenes")
axes[0].legend(loc="center right", frameon=False)
plt.show()
first, last = by_depth["the class", "base"][0], by_depth["the class", "base"][-1]
print(f"the class: {first:.0%} at relu1, {last:.0%} at relu6 of base")
print(
    f"at most {max(by_depth['the class', 'untrained']):.0%} at any depth of the untrained network"
)

# %% [markdown]
# The class isn't there at the first layer, and then comes step by step; no single layer "does" it.
# Random layers have as many channels and the same architecture, and give little to read off: so the
# class comes from training. In the middle is the reverse. Random layers hand the background's
# colour on to the end, while `base` loses it layer by layer. The class doesn't depend on it, and in
# training the colours were shuffled: two possible reasons, which the figure can't tell apart. On
# the right is a surprise: nobody asked `base` for the size, and its late
# layers give it away better than its early ones.
#
# That is the limit of every probe. It shows that something *is there*, and not that the network
# *uses* it: ten scores come out of `base`, and none of them is a size. Whether it uses something,
# only an experiment can tell that takes it away (the next section has one). Nor does a low accuracy
# show that something is gone. It may be there in a form that a line can't read, or in the places,
# which the probe has averaged away. And late layers have more channels than early ones, which makes
# any probe's work easier. Therefore the control, the untrained network. (Hewitt and Liang, 2019,
# use another one: the same probe, asked for labels that were drawn at random. What it can do there
# is its own work, and not the layer's knowledge.)
#
# ## 9. One channel, one concept?
#
# It is tempting to give channels names: the ring channel, the face neuron. So measure how far a
# channel is devoted to one class. Morcos et al. (2018) compare its mean activation for the class it
# likes most with that for all others:
#
# $$\text{selectivity}_m = \frac{\mu_{\max} - \mu_{-\max}}{\mu_{\max} + \mu_{-\max}}$$
#
# With $\mu_c$ the mean of channel $m$'s activation over the images of class $c$, $\mu_{\max}$ is
# the largest of the $\mu_c$, and $\mu_{-\max}$ the mean of the *other* classes' $\mu_c$. It is 0
# for a channel that likes all classes alike and 1 for one that answers to a single class.
#
# ### Exercise: `selectivity`
# ★★☆ · 15 minutes


# %% exercise="selectivity"
def selectivity(activations, labels):
    """How far each channel is devoted to one class (Morcos et al., 2018).

        (μ_max − μ_−max) / (μ_max + μ_−max)

    μ_max: the channel's largest mean over a class. μ_−max: the mean of its means over the *other*
    classes, each class counting alike, however many images it has.

    Args:
        activations: float array (N, C), not negative: C channels for each of N images.
        labels: the images' classes, int array (N,), from 0 to K − 1; each occurs at least once.

    Returns:
        selectivity: float array (C,), from 0 to 1; 0 for a channel that is zero for all images.
    """
    ### BEGIN SOLUTION
    classes = labels.max() + 1
    means = np.stack([activations[labels == c].mean(axis=0) for c in range(classes)])
    largest = means.max(axis=0)
    others = (means.sum(axis=0) - largest) / (classes - 1)
    total = largest + others
    return (largest - others) / np.where(total > 0, total, 1)
    ### END SOLUTION


# %% test="selectivity" points=2 aspect="classes of any size"
rng = np.random.default_rng(7)
labels_test = np.array([2, 0, 1, 0, 2, 3, 0, 0, 3, 0, 1, 0])  # class 0 is half of them
activations_test = rng.gamma(1, 1, (12, 5)) * (1 + rng.integers(0, 3, (4, 5))[labels_test])
### BEGIN EXPECTED
expected = reference.selectivity(activations_test, labels_test)
means = np.stack([activations_test[labels_test == c].mean(0) for c in range(4)])
ordered = np.sort(means, axis=0)
largest, others = ordered[-1], ordered[:-1].mean(0)
maxima = np.stack([activations_test[labels_test == c].max(0) for c in range(4)])
maxima.sort(axis=0)
outside = np.array(
    [activations_test[labels_test != means[:, m].argmax(), m].mean() for m in range(5)]
)


def index(largest, others):
    return (largest - others) / (largest + others)


mistakes = {
    "all other images are averaged together: each class should count alike": (
        index(largest, outside)
    ),
    "the mean over all classes is used: the favourite should be left out of it": (
        index(largest, means.mean(0))
    ),
    "the mean over all images is used: the favourite should be left out of it": (
        index(largest, activations_test.mean(0))
    ),
    "the second largest mean is used, not the mean of all others": index(largest, ordered[-2]),
    "the smallest mean is used, not the mean of all others": index(largest, ordered[0]),
    "the other classes' means are added up, not averaged": index(largest, ordered[:-1].sum(0)),
    "the median of the others is used, not the mean": (index(largest, np.median(ordered[:-1], 0))),
    "largest activations are compared: they should be means over a class": (
        index(maxima[-1], maxima[:-1].mean(0))
    ),
    "only the difference is returned: divide it by the sum": largest - others,
    "the difference is divided by the largest mean, not by the sum": (largest - others) / largest,
    "the ratio of the two is returned": others / largest,
    "the favourite class is returned, not the selectivity": means.argmax(0),
}
### END EXPECTED
check_close(
    selectivity(activations_test, labels_test),
    expected,
    "selectivity(activations, labels)",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="selectivity" points=1 aspect="a channel that is zero for all images"
activations_test = np.random.default_rng(8).gamma(1, 1, (9, 4))
activations_test[:, 2] = 0
labels_test = np.array([0, 1, 2, 1, 0, 2, 2, 1, 1])
### BEGIN EXPECTED
expected = reference.selectivity(activations_test, labels_test)
channel = np.arange(4) == 2
mistakes = {
    "a channel that is zero for all images gives 0/0: it should be 0": (
        np.where(channel, np.nan, expected)
    ),
    "a channel that is zero for all images gets 1: it should be 0": np.where(channel, 1, expected),
}
### END EXPECTED
check_close(
    selectivity(activations_test, labels_test),
    expected,
    "selectivity where a channel is zero for all images",
    tolerance=1e-6,
    mistakes=mistakes,
)

# %% test="selectivity" points=1 aspect="general shapes"
# Other numbers of images, channels and classes, and tiny activations, are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for N, C, K, size in [(20, 3, 2, 1), (30, 6, 7, 1e-9), (9, 1, 9, 1e6)]:
    labels_test = np.concatenate([np.arange(K), rng.integers(K, size=N - K)])
    rng.shuffle(labels_test)
    activations_test = size * np.maximum(rng.normal(0.3, 1, (N, C)), 0)
    expected = reference.selectivity(activations_test, labels_test)
    check_close(
        selectivity(activations_test, labels_test),
        expected,
        f"selectivity for {N} images, {C} channels, {K} classes",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# How selective are channels at each depth, and does a selective channel do what its name would say?
# Three experiments on `base`'s last layer.
#
# 1. **Removal.** Set to zero the channels that prefer a class most, and see how many of its scenes
#    are still recognised.
# 2. **Another basis.** A channel is one axis of the space. Take 128 *random* directions, at right
#    angles, and see how well the best of them tells each class from the rest.
# 3. **Shape or texture.** In the training scenes a ring always has zigzags on it. Show the "ring
#    channel" scenes in which it doesn't: the shape of one class with the texture of another.

# %%
figure, ax = plt.subplots(figsize=(9, 3.6), layout="constrained")
selectivities = {}
for name, model, colour, shift in [
    ("untrained", untrained, "0.75", 0.18),
    ("base", base, "#56B4E9", -0.18),
]:
    selectivities[name] = [
        selectivity(to_numpy(maps).mean(axis=(2, 3)), labels)
        for maps in record_activations(X.clone(), model, relus).values()
    ]
    boxes = ax.boxplot(
        selectivities[name],
        positions=np.arange(6) + shift,
        widths=0.3,
        whis=(0, 100),
        patch_artist=True,
    )
    plt.setp(boxes["boxes"], facecolor=colour)
    plt.setp(boxes["medians"], color="black")
    boxes["boxes"][0].set_label(name)
ax.set_xticks(range(6), labels=[name.removeprefix("features.") for name in relus])
ax.set(ylim=(0, 1), ylabel="selectivity of the channels")
ax.set_title("Channels grow selective with depth: training does that, not the architecture")
ax.legend(loc="upper left", frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
from scipy.stats import rankdata

linear = base.classifier.linear
weight, bias = to_numpy(linear.weight), to_numpy(linear.bias)
means = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
preference = means - (means.sum(axis=0) - means) / 9  # (10, 128)


def recall_without(removed, c):
    """The share of class c that base still recognises when some of its features are set to 0."""
    kept = features.copy()
    kept[:, removed] = 0
    return ((kept @ weight.T + bias).argmax(axis=1) == c)[labels == c].mean()


rng = np.random.default_rng(3)
gone = [0, 1, 2, 4, 8, 12, 16, 24, 32, 48]
recalls = {
    "those that prefer it most": [
        np.mean([recall_without(preference[c].argsort()[::-1][:n], c) for c in range(10)])
        for n in gone
    ],
    "any, at random": [
        np.mean([recall_without(rng.permutation(128)[:n], c) for c in range(10)]) for n in gone
    ],
}


def areas_under_roc(values, truth):
    """For each column of values (N, C): how well it tells the images of each class from the rest.

    The area under the ROC curve is the share of pairs, one image of the class and one of the rest,
    in which the class's has the larger value. Returns (10, C).
    """
    ranks = rankdata(values, axis=0)
    sizes = np.bincount(truth, minlength=10)[:, None]
    sums = np.stack([ranks[truth == c].sum(axis=0) for c in range(10)])
    return (sums - sizes * (sizes + 1) / 2) / (sizes * (len(truth) - sizes))


def best_detector(values):
    """For each class, the largest area under the ROC curve that a column of `values` reaches."""
    areas = areas_under_roc(values, labels)
    return np.maximum(areas, 1 - areas).max(axis=1)  # a direction or its opposite


directions, _ = np.linalg.qr(rng.normal(size=(128, 128)))
detectors = {
    "channels": best_detector(features),
    "random directions": best_detector(features @ directions),
    "random, untrained": best_detector(untrained_features @ directions),
}

conflict = make_scenes(200, np.random.default_rng(11), "cue_conflict")
X_conflict = conflict.tensors()[0].to(device)
conflict_features = to_numpy(record_activations(X_conflict, base, [pooled])[pooled])
scores = selectivity(features, labels)
named = [
    max(np.flatnonzero(means.argmax(axis=0) == c), key=lambda channel: scores[channel])
    for c in range(10)
]
shape_areas, texture_areas = (
    areas_under_roc(conflict_features[:, named], truth).diagonal()
    for truth in (conflict.shape_class, conflict.texture_class)
)

figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
preferring, at_random = recalls.values()
axes[0].plot(gone, preferring, "o-", color="#0072B2")
axes[0].plot(gone, at_random, "s--", color="0.5")
axes[0].annotate("any, at random", (29, 0.94), color="0.4", va="center")
axes[0].annotate("those that\nprefer it\nmost", (1, 0.6), color="#0072B2", va="center")
axes[0].set(ylim=(0, 1.05), xlabel="channels removed, of 128", ylabel="recall of the class")
axes[0].set_title(f"1. Twelve gone, and {preferring[gone.index(12)]:.0%} still recognised")
for place, values in enumerate(detectors.values()):
    axes[1].plot(np.linspace(-0.25, 0.25, 10) + place, values, "o", color="#0072B2")
axes[1].set_xticks(range(3), [what.replace(" ", "\n", 1) for what in detectors])
axes[1].set(ylim=(0.45, 1.02), ylabel="best detector of a class, area under ROC")
axes[1].set_title("2. Random directions do as well")
axes[2].hlines(range(10), shape_areas, texture_areas, color="0.8", zorder=0)
axes[2].plot(shape_areas, range(10), "s", color="#E69F00", label="its shape")
axes[2].plot(texture_areas, range(10), "o", color="#0072B2", label="its texture")
axes[2].axvline(0.5, color="0.6", linestyle=":")
axes[2].set_yticks(
    range(10), [f"“{name}” ({channel})" for name, channel in zip(CLASS_NAMES, named, strict=True)]
)
axes[2].set(xlim=(0.25, 1.02), ylim=(10.9, -0.6), xlabel="area under ROC; 0.5 is chance")
axes[2].set_title("3. The “ring channel” doesn't know rings")
axes[2].legend(loc="lower center", ncols=2, frameon=False)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
prefer = np.bincount(means.argmax(axis=0), minlength=10)
print(f"each class is preferred by {prefer.min()} to {prefer.max()} of the 128 channels")

# %% [markdown]
# By selectivity alone the case looks closed: in the last layer every channel has a favourite, and
# an untrained network has nothing like it. The experiments open it again.
#
# 1. No single channel is needed. Take away the twelve channels that prefer a class most, and nearly
#    all of its scenes are still recognised. Most of them are lost only when 24 channels are gone;
#    that is more than there are channels whose favourite is this class. (Remove 48 channels at
#    random, and the loss is too small to see.)
# 2. No channel is *special*. The best of 128 random directions, each a mixture of all channels,
#    tells a class from the rest just as well. The information is in the space; its axes are no
#    better than other directions. This is what is meant by a **distributed representation**;
#    Szegedy et al. (2014) found it with random directions, too.
# 3. And the *name* was ours. The channel that is active for rings is active for zigzags. Shown
#    rings without zigzags, it tells them from other shapes no better than a coin would. Nearly
#    every other class has the same story. In our data a ring never came without its zigzags, so
#    neither selectivity nor the patches of section 5 could tell the two apart.
#
# So say "this channel is active for …, in these data", and not "the ring neuron". Whether a
# picture of a network has made anybody understand it is a question about people, and it takes
# people to answer it: can they, having seen the picture, *foresee* what the network will do, and
# where it will go wrong? Doshi-Velez and Kim (2017) called for such user studies, and by now there
# are some. In one of them, people had to foretell which of two images excites a channel more. They
# were right more often when they had been shown natural images that excite it than when they had
# been shown images made to excite it (Borowski et al., 2021).
#
# ### Question: the ring detector
# ★★☆ · 20 minutes

# %% [markdown] question="ring_detector" points=5
# Somebody shows you ten patches that excite a channel most, all of them rings, and a selectivity of
# 0.75. "Here is the network's ring detector. Now we understand how it recognises rings, and we can
# see when it will go wrong."
#
# 1. Give three objections, each with the experiment in this lab that backs it.
# 2. "We understand" and "we can see" are claims about *people*. Sketch a user study that tests the
#    second one: who takes part, what they are shown, what they have to do, what is measured, and
#    what it is compared with.
#
# ### BEGIN SOLUTION
# 1 (3 points, 1 for each objection with its experiment; any three). Rings always wore zigzags in
# these images: with shape and texture exchanged, the channel answers to zigzags and not to rings.
# It isn't needed: without it, and without many others that prefer rings, rings are still
# recognised, so it can't be how the network recognises them. It isn't special: random directions of
# the same space tell classes apart as well; the concept is distributed over many channels. The
# patches are the ten best of 300 scenes: they say nothing of what else excites the channel less,
# and such patches look alike for channels of an untrained network too; selectivity of the control
# belongs beside it. The patch shows what lay in the window, not which part of it counted (effective
# receptive field).
#
# 2 (2 points). A forecast: people who know the task but not this network; some see the explanation
# (patches, selectivity), a second group sees as many images with the network's answers and no
# explanation, or a placebo such as an untrained network's patches (1 point for a comparison of this
# kind). All are shown new images, among them ones on which the network errs, such as rings without
# zigzags, and have to foretell its answer, or whether it will be right, before they see it; what is
# measured is how often they are right, and how sure they were (1 point). Asking whether people
# *like* or *believe* the picture measures persuasion, not understanding: no point for that.
# ### END SOLUTION

# %% [markdown]
# ## 10. A map's judge, by hand (optional)
#
# Section 7 asked of every point on a map: are the $k$ neighbours that you have here really
# neighbours? If one of them is only the $r$-th nearest in the original space, with $r > k$, it
# costs $r - k$:
#
# $$T = 1 - \frac{2}{N k\, (2N - 3k - 1)} \sum_{i=1}^{N} \sum_{j \in \mathcal{M}_k(i)}
#   \max\left(0,\; r(i, j) - k\right)$$
#
# $\mathcal{M}_k(i)$ are the $k$ nearest points to $i$ on the map, $i$ itself not counted; $r(i, j)$
# is $j$'s rank among $i$'s neighbours in the original space, 1 for the nearest. The factor brings
# the worst possible map to 0, and a map without false neighbours has 1.
#
# ### Exercise: `trustworthiness`
# ★★★ · 25 minutes · optional
#
# <details><summary>Hint: ranks from distances</summary>
#
# `cdist(a, b)` from scipy, imported above, returns the distances of all rows of a to all rows of b.
# `np.argsort` of a row lists the points from the nearest to the farthest. What you need is the
# inverse: for each point, its position in that list. An argsort of the argsort does it, and it
# gives the point itself the rank 0, for nothing is nearer.
#
# </details>


# %% exercise="trustworthiness" without="sklearn"
def trustworthiness(features, points, k):
    """Venna and Kaski's trustworthiness of a map: whether neighbours on it are neighbours.

        T = 1 − 2 / (N k (2N − 3k − 1)) · Σ_i Σ_{j in M_k(i)} max(0, r(i, j) − k)

    M_k(i): the k points nearest to i on the map, without i. r(i, j): the rank of j by its distance
    from i in the original space, 1 for the nearest. Distances are Euclidean. Calling scikit-learn
    earns no points.

    Args:
        features: the original space, float array (N, D).
        points: the map, float array (N, 2), or of any other dimension. No two distances from a
            point are equal, in neither space.
        k: how many neighbours are asked for, int < N / 2.

    Returns:
        T, a float from 0 to 1.
    """
    ### BEGIN SOLUTION
    N = len(features)
    in_space, on_map = cdist(features, features), cdist(points, points)
    rank = in_space.argsort(axis=1).argsort(axis=1)  # 0 for the point itself
    neighbours = on_map.argsort(axis=1)[:, 1 : k + 1]
    excess = np.take_along_axis(rank, neighbours, axis=1) - k
    return float(1 - 2 / (N * k * (2 * N - 3 * k - 1)) * np.maximum(excess, 0).sum())
    ### END SOLUTION


# %% test="trustworthiness" points=3 aspect="the formula"
rng = np.random.default_rng(5)
space, flat_map = rng.normal(size=(11, 4)), rng.normal(size=(11, 2))
### BEGIN EXPECTED
N, k = 11, 3
expected = reference.trustworthiness(space, flat_map, k)


def cost(space, flat_map, first=1, penalty=lambda rank, k: max(0, rank - k)):
    """The double sum, where lists of neighbours begin `first` places from the point itself."""
    total = 0
    for i in range(N):
        nearest, mapped = (
            sorted(range(N), key=lambda j, of=of: ((of[j] - of[i]) ** 2).sum())
            for of in (space, flat_map)
        )
        total += sum(penalty(nearest.index(j), k) for j in mapped[first : first + k])
    return total


def scaled(penalty):
    return 1 - factor * cost(space, flat_map, penalty=penalty)


factor = 2 / (N * k * (2 * N - 3 * k - 1))
right = cost(space, flat_map)
mistakes = {
    "the two spaces are exchanged, which measures continuity": (1 - factor * cost(flat_map, space)),
    "each point counts as its own neighbour on the map": (
        1 - factor * cost(space, flat_map, first=0)
    ),
    "ranks begin with 0: the nearest has rank 1": scaled(lambda rank, k: max(0, rank - 1 - k)),
    "ranks begin with 2 for the nearest: the point itself should have 0": (
        scaled(lambda rank, k: max(0, rank + 1 - k))
    ),
    "ranks beyond k cost their whole rank: they cost r − k": (
        scaled(lambda rank, k: rank if rank > k else 0)
    ),
    "false neighbours are counted, each as 1: they cost r − k": (scaled(lambda rank, k: rank > k)),
    "the share of true neighbours is returned: false ones should cost r − k": (
        1 - cost(space, flat_map, penalty=lambda rank, k: rank > k) / (N * k)
    ),
    "the max(0, …) is missing: true neighbours earn nothing": scaled(lambda rank, k: rank - k),
    "it isn't subtracted from 1": factor * right,
    "the 2 of the factor is missing": 1 - factor / 2 * right,
    "the cost is averaged over the N·k neighbours: the factor differs": 1 - right / (N * k),
    "the factor is missing": 1.0 - right,
    "the neighbours in the original space are looked up: those on the map should be": 1.0,
}
### END EXPECTED
check_close(
    trustworthiness(space, flat_map, 3),
    expected,
    "trustworthiness(features, points, 3)",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(trustworthiness)

# %% test="trustworthiness" points=1 aspect="general shapes"
# Other numbers of points and neighbours, and a perfect map, are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for N, D, k in [(5, 3, 2), (12, 2, 1), (20, 6, 9), (9, 1, 4)]:
    space, flat_map = rng.normal(size=(N, D)), rng.normal(size=(N, 2))
    expected = reference.trustworthiness(space, flat_map, k)
    check_close(
        trustworthiness(space, flat_map, k),
        expected,
        f"trustworthiness for {N} points and k = {k}",
        tolerance=1e-6,
    )
check_close(trustworthiness(space, 7 * space - 1, 3), 1.0, "trustworthiness of a perfect map")
check_without(trustworthiness)
### END HIDDEN TESTS

# %% test="trustworthiness" points=1 aspect="written by hand"
rng = np.random.default_rng(7)
space, flat_map = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
### BEGIN EXPECTED
expected = reference.trustworthiness(space, flat_map, 2)
### END EXPECTED
name = "trustworthiness(features, points, 2)"
check_close(trustworthiness(space, flat_map, 2), expected, name, tolerance=1e-6)
check_without(trustworthiness)

# %% [markdown]
# The maps of section 7 once more, by how many neighbours are looked at.

# %%
figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
counts = [1, 2, 5, 10, 20, 40, 80]
judged = {"PCA, 2 components": (features, plane)} | {
    f"t-SNE of {name}, perplexity {wanted}": ({"noise": noise}.get(name, features), points)
    for (name, wanted), points in drawn.items()
    if name in ("features of base", "noise")
}
looks = [(":", "black"), ("^-", "#0072B2"), ("o-", "#0072B2"), ("s-", "#0072B2")]
looks += [("^--", "0.5"), ("o--", "0.5")]
for (name, (values, points)), (style, colour) in zip(judged.items(), looks, strict=True):
    by_k = [trustworthiness(values, points, k) for k in counts]
    ax.plot(counts, by_k, style, color=colour, label=name)
ax.set(xscale="log", xlabel="k, neighbours that are looked at", ylabel="trustworthiness")
ax.set_xticks(counts, labels=counts, minor=False)
ax.minorticks_off()
figure.suptitle("One k isn't enough: nearest neighbours flatter noise, far ones don't")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# By the nearest neighbour alone ($k = 1$), the best map of noise beats the flat plane of PCA: t-SNE
# puts pairs side by side, and there are pairs in noise as well. The more neighbours are looked at,
# the worse the noise fares. Beyond a class's 29 others the maps of `base`'s features fall, too:
# which island lies next to which isn't kept, and with perplexity 2 least of all. So a single T with
# a single k says little; draw the curve.

# %% [markdown]
# ## 11. Nearest neighbours (optional)
#
# The plainest view of a space uses no map at all: take a point and look at who lives next to it.
#
# $$d(q, g) = \lVert q - g \rVert_2 = \sqrt{\textstyle\sum_i (q_i - g_i)^2}$$
#
# ### Exercise: `nearest_neighbours`
# ★☆☆ · 10 minutes · optional


# %% exercise="nearest_neighbours" without="sklearn"
def nearest_neighbours(queries, gallery, count):
    """The rows of a gallery that are nearest to each query, by Euclidean distance.

    Calling scikit-learn earns no points.

    Args:
        queries: float array (Q, D).
        gallery: float array (N, D).
        count: how many neighbours are wanted, int ≤ N.

    Returns:
        indices: int array (Q, count), rows of the gallery, the nearest first.
    """
    ### BEGIN SOLUTION
    return cdist(queries, gallery).argsort(axis=1)[:, :count]
    ### END SOLUTION


# %% test="nearest_neighbours" points=1 aspect="several queries"
rng = np.random.default_rng(6)
gallery = rng.normal(1, 1, (9, 3)) * rng.uniform(0.5, 2, (9, 1))
queries = rng.normal(1, 1, (4, 3))
### BEGIN EXPECTED
expected = reference.nearest_neighbours(queries, gallery, 3)
differences = queries[:, None] - gallery
distances = np.sqrt((differences**2).sum(-1))
product = queries @ gallery.T
mistakes = {
    "the farthest come first": distances.argsort(1)[:, ::-1][:, :3],
    "the neighbours are right but not in order: the nearest comes first": expected[:, ::-1],
    "the nearest is left out, as if each query were in the gallery": distances.argsort(1)[:, 1:4],
    "absolute differences are added up: the Euclidean distance squares them": (
        np.abs(differences).sum(-1).argsort(1)[:, :3]
    ),
    "the largest difference is compared: the Euclidean distance sums all squares": (
        np.abs(differences).max(-1).argsort(1)[:, :3]
    ),
    "inner products are compared, the largest first": (-product).argsort(1)[:, :3],
    "angles (cosine similarity) are compared": (
        (-product / np.linalg.norm(gallery, axis=1)).argsort(1)[:, :3]
    ),
    "signed differences are added up": differences.sum(-1).argsort(1)[:, :3],
    "queries and gallery are exchanged": distances.T.argsort(1)[:, :3],
    "the distances are returned, not the rows": np.sort(distances, 1)[:, :3],
    "squared distances are returned, not the rows": np.sort(distances**2, 1)[:, :3],
}
### END EXPECTED
check_close(
    nearest_neighbours(queries, gallery, 3),
    expected,
    "nearest_neighbours(queries, gallery, 3)",
    mistakes=mistakes,
    indices=True,
)
check_without(nearest_neighbours)

# %% test="nearest_neighbours" points=1 aspect="general shapes"
# Other numbers of queries, rows and neighbours are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for Q, N, D, count in [(1, 12, 5, 4), (6, 3, 2, 3), (5, 20, 9, 1), (20, 700, 6, 30)]:
    queries, gallery = rng.normal(size=(Q, D)), rng.normal(size=(N, D))
    expected = reference.nearest_neighbours(queries, gallery, count)
    check_close(
        nearest_neighbours(queries, gallery, count),
        expected,
        f"nearest_neighbours for {Q} queries in a gallery of {N}",
        indices=True,
    )
check_without(nearest_neighbours)
### END HIDDEN TESTS

# %% test="nearest_neighbours" points=1 aspect="written by hand"
rng = np.random.default_rng(10)
queries, gallery = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
### BEGIN EXPECTED
expected = reference.nearest_neighbours(queries, gallery, 2)
### END EXPECTED
name = "nearest_neighbours(queries, gallery, 2)"
check_close(nearest_neighbours(queries, gallery, 2), expected, name, indices=True)
check_without(nearest_neighbours)

# %% [markdown]
# Each query is a scene among the 300, so its nearest neighbour is itself and is skipped. For a
# harder question, 100 scenes of five classes that `base` has never seen, hexagons and arrows and
# drops, look for neighbours among each other.

# %%
new = make_scenes(100, np.random.default_rng(9), "held_out")
X_new = new.tensors()[0].to(device)
new_representations = represent(X_new)

chosen = [int(np.flatnonzero(labels == c)[1]) for c in (1, 3, 5, 8)]
queries = {name: representations[name][chosen] for name in ("pixels", "features of base")}
asked = [(scenes.images[query], CLASS_NAMES[labels[query]]) for query in chosen]
if mine is not None:
    asked.append((mine, "yours"))
    queries = {name: np.concatenate([rows, its_rows[name]]) for name, rows in queries.items()}
neighbours = {
    name: nearest_neighbours(rows, representations[name], 6) for name, rows in queries.items()
}

figure, axes = plt.subplots(len(asked), 12, figsize=(12.5, 1.22 * len(asked)))
figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.84, wspace=0.06, hspace=0.22)
figure.suptitle("Neighbours in pixels share a background, neighbours in features share a class")
for row, (picture, own_name), *found in zip(axes, asked, *neighbours.values(), strict=True):
    # A scene's nearest neighbour is the scene itself; a picture of yours isn't in the gallery.
    in_pixels, in_features = (rows[:5] if own_name == "yours" else rows[1:] for rows in found)
    row[0].imshow(picture)
    row[0].set_title(own_name, fontsize=9, pad=2)
    for ax, image in zip(row[1:], [*in_pixels, None, *in_features], strict=True):
        if image is not None:
            name = CLASS_NAMES[labels[image]]
            ax.imshow(scenes.images[image])
            ax.set_title(name if own_name in (name, "yours") else f"({name})", fontsize=9, pad=2)
    for ax in row:
        ax.axis("off")
axes[0, 0].annotate("query", (0.5, 1.3), xycoords="axes fraction", ha="center")
axes[0, 3].annotate("nearest in pixels", (0.5, 1.3), xycoords="axes fraction", ha="center")
axes[0, 9].annotate("nearest in features", (0.5, 1.3), xycoords="axes fraction", ha="center")
plt.show()

print("of the 5 nearest, share the class      ten classes    five new classes")
for name in representations:
    same = []
    for values, truth in [
        (representations[name], labels),
        (new_representations[name], new.shape_class),
    ]:
        indices = nearest_neighbours(values, values, 6)[:, 1:]
        same.append((truth[indices] == truth[:, None]).mean())
    print(f"{name:38} {same[0]:8.0%} {same[1]:18.0%}")
print(f"{'by chance':38} {'10%':>8} {'20%':>18}")

# %% [markdown]
# Names in brackets are of another class than the query's. In pixels a scene's neighbour is whatever
# has a similar background, since most pixels are background, and a disc that has moved by ten
# pixels is a stranger; the share of the right class is that of chance. In features the neighbours
# are nearly always right, wherever the object lies and whatever is behind it. What is more, they
# are mostly right for classes that nobody told the network about: this is why features can be
# reused, which is lab 04.
#
# Where it misleads: "nearest" is relative. Something is always nearest, even to a picture unlike
# any other, and the figure doesn't show how far away it is. (A picture of your own is such a
# stranger: its row, the last one, shows which scenes `base` finds least unlike it.)

# %% [markdown]
# ## 12. With an ImageNet network (optional)
#
# Your functions look into any network. AlexNet's first layer, the famous exception of section 1,
# has kernels large enough to see: 64 × 3 × 11 × 11. Then SqueezeNet, on a photograph or on your
# picture: its maps at four depths, and what moves the middle of its last one.

# %%
from utils.images import load_photograph, preprocess
from utils.models import WeightsUnavailable

try:
    alexnet, squeezenet = load_model("alexnet"), load_model("squeezenet1_1").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    first = next(module for module in alexnet.features if isinstance(module, nn.Conv2d))
    contact_sheet(
        weights_as_images(to_numpy(first.weight), (3, 11, 11)),
        columns=16,
        inches=0.65,
        heading="AlexNet's first layer: gratings in all directions, and colours",
    )
    plt.show()

    photograph = load_photograph("flower") if mine is None else own.load((224, 336))
    photograph = nn.functional.interpolate(
        preprocess(photograph), (224, 336), mode="bilinear", antialias=True
    )
    photograph = photograph.clamp(0, 1).to(device)  # rounding may have left the range
    convolutions = ["features.0", "features.4", "features.7", "features.12"]
    maps = record_activations(photograph.clone(), squeezenet, convolutions)
    field = receptive_field_gradient(photograph.clone(), squeezenet, "features.12", 6, 9)
    figure, axes = plt.subplots(4, 6, figsize=(12, 5.6), layout="constrained")
    figure.suptitle("SqueezeNet: the strongest channels at four depths")
    for row, (name, stack) in zip(axes, maps.items(), strict=True):
        stack = to_numpy(stack[0])
        row[0].imshow(to_numpy(photograph[0].permute(1, 2, 0)))
        row[0].set_ylabel(f"{name}\n{' × '.join(map(str, stack.shape))}")
        strongest = stack.max(axis=(1, 2)).argsort()[::-1][:5]
        for ax, channel in zip(row[1:], strongest, strict=True):
            image = ax.imshow(stack[channel], cmap="magma", vmin=0, vmax=stack.max())
            ax.set_title(f"channel {channel}", fontsize=8, pad=2)
        figure.colorbar(image, ax=row, fraction=0.02, pad=0.005, label="activation")
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    plt.show()
    figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    image = ax.imshow(to_numpy(field / field.max()) ** 0.5, cmap="magma", vmin=0, vmax=1)
    ax.set_title("What moves the place (6, 9) of features.12")
    figure.colorbar(image, ax=ax, label="√(gradient / largest)")
    plt.show()

# %% [markdown]
# Gratings like AlexNet's turn up in nearly every network trained on photographs, whatever it was
# trained for, and in the visual cortex of cats: they are what photographs are made of, rather than
# what the task asks for. In the deep maps look for channels that light up on the subject and stay
# dark elsewhere (on the flower, say, and not on the leaves), and then don't call them its detectors.
#
# ## What you have now
#
# Six ways of looking into a network, and what each of them leaves out: weights as images (the
# first layer only), activations (too many), the strongest patches (only the strongest), maps in two
# dimensions (only the near), probes (what is there, used or not), neighbours (only what is there).
# And a habit: put the control beside the picture. A network with random weights, a cloud of noise,
# the pixels themselves: what they can do too isn't knowledge. Lab 06 goes on with the question that
# none of these views answers: which pixels made the network say *fish*?
