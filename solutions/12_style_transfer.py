# %% [markdown]
# # Lab 12: Style transfer
#
# A network that was trained to tell a star from a fish has learned, on the way, to tell *what* is
# in a picture from *how* it is painted. In this lab you take the two apart, put the "what" of one
# picture together with the "how" of another, and let gradient descent paint.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. Content | `content_loss` | 10 |
# | 2. The image is the parameter (the exercise is optional) | `invert_features` | 30 |
# | 3. Texture without places | `gram_matrix`, `style_loss`, a written question | 45 |
# | 4. Smoothness | `tv_loss` | 10 |
# | 5. Colour | `match_colours` | 30 |
# | 6. The whole | `make_losses`, `style_transfer` | 60 |
# | 7. Ratios, mixtures, and what it is good for | a written question | 10 |
#
# The method is that of [Gatys, Ecker and Bethge (2015)](https://arxiv.org/abs/1508.06576), the
# names and signatures are CS231n's. Everything is PyTorch, and every loss has to stay
# differentiable: no NumPy, no `.item()` and no `.detach()` on the way from the image to the loss.
#
# The cells beneath an exercise are its tests. Each answers **right so far**, or says in one sentence
# what is wrong. When your work is graded, other shapes and numbers are tried as well. No exercise
# needs one that you wrote before, so a slip costs you only once. Without the optional exercise these
# are under three hours.

# %% given=true
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from utils.checks import check_close, check_tuple, run_beside, vector_jacobian_product
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def extract_features(image, network):
    """What every layer makes of an image.

    Args:
        image: tensor (N, 3, H, W) in [0, 1].
        network: nn.Sequential.

    Returns:
        list of tensors; features[l] is the output of network[l].
    """
    features = []
    for layer in network:
        image = layer(image)
        features.append(image)
    return features


def resize(image, shape):
    """The image (N, 3, H, W), smoothly scaled to shape, which is (height, width)."""
    return F.interpolate(image, size=tuple(shape), mode="bilinear", antialias=True)


def noise(seed, *shape):
    """Uniform noise in [0, 1], float64."""
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tiny_network(seed):
    """Two convolutions with random weights, float64: a network that is quick to test with."""
    layers = nn.Conv2d(3, 4, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(4, 5, 3), nn.Softplus()
    generator = torch.Generator().manual_seed(seed)
    for layer in (layers[0], layers[3]):
        nn.init.kaiming_normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers).double()


def unwrap(loss):
    """A tensor of shape (1,) as one of shape (); anything else as it is."""
    return loss[0] if isinstance(loss, torch.Tensor) and loss.shape == (1,) else loss


def gradient_of(function, inputs, position):
    """Autograd's gradient of a loss, or of the sum of what is returned, for inputs[position]."""
    values = torch.as_tensor(function(*inputs)).detach()
    gradients = vector_jacobian_product(function, inputs, torch.ones_like(values))
    return gradients[sum(isinstance(x, torch.Tensor) for x in inputs[:position])]


# %% [markdown]
# The network is `base`, which tells ten textured shapes apart. A pagoda or a dahlia was at most what
# stood behind them. Three changes prepare it for painting. BatchNorm is folded into the convolution before it, which
# changes nothing in eval mode and leaves fewer layers. Average pooling takes the place of max
# pooling: it passes the gradient to every pixel, not to the winner only. And borders are
# reflected, since zeros beyond the edge would be painted as a frame. The result is a plain
# `nn.Sequential`; `relus` says at which indices its six rectified layers are.
#
# Section 6 paints two photographs of ours and, if you like, one of your own:

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %%
import matplotlib.pyplot as plt
import numpy as np
from torch.nn.utils.fusion import fuse_conv_bn_eval

from utils.figures import contact_sheet
from utils.images import brush_strokes, load_photograph, preprocess, stained_glass
from utils.models import load_model


def without_norms(model):
    """A scene network's features: BatchNorm folded, average pooling, borders reflected."""
    layers = []
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            layers += [nn.ReflectionPad2d(1), layer]
        elif isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            layers[-1].padding = (0, 0)
        elif isinstance(layer, nn.MaxPool2d):
            layers.append(nn.AvgPool2d(2))
        else:
            layers.append(layer)
    return nn.Sequential(*layers).requires_grad_(False).to(device)


network = without_norms(load_model("base"))
relus = [index for index, layer in enumerate(network) if isinstance(layer, nn.ReLU)]

SIDE = 192
rng = np.random.default_rng(0)
pagoda = resize(preprocess(load_photograph("china")[:, 60:487]).to(device), (SIDE, SIDE))
dahlia = resize(preprocess(load_photograph("flower")[:, 110:537]).to(device), (SIDE, SIDE))
strokes = preprocess(brush_strokes(SIDE, rng)).to(device)
glass = preprocess(stained_glass(SIDE, rng)).to(device)
contact_sheet(
    torch.cat([pagoda, dahlia, strokes, glass]),
    ["content: pagoda", "content: dahlia", "style: brush strokes", "style: stained glass"],
    inches=2.2,
    heading="Two photographs, and two ways to paint them",
)

# %% [markdown]
# ## 1. Content
#
# When do two pictures show the same thing? One could compare pixels. But a picture that has to keep
# every pixel of a photograph can change nothing at all: colours and brush strokes are pixels, too.
# We need a measure that holds some things and leaves others free, and the layers of a network offer
# a choice of such measures. Let $F^\ell$ be what layer $\ell$ makes of the picture that is being
# painted and $P^\ell$ what it makes of the photograph; $i$ counts channels and $k$ positions. The
# **content loss** is
#
# $$L_{\text{content}} = w_c \sum_{i,k} \left(F^\ell_{ik} - P^\ell_{ik}\right)^2$$
#
# It is a sum, not a mean, and has no factor ½ (Gatys et al. have one; CS231n and we don't).
#
# ### Exercise: `content_loss`
# ★☆☆ · 10 minutes


# %% exercise="content_loss"
def content_loss(content_weight, content_current, content_original):
    """How far an image's features are from those of the content image.

        L = content_weight · Σ (content_current − content_original)²

    Args:
        content_weight: float, w_c.
        content_current: features F of the image that is being painted, tensor (N, C, H, W).
        content_original: features P of the content image, of the same shape.

    Returns:
        L, summed over everything: a scalar tensor that can be differentiated for content_current.
    """
    ### BEGIN SOLUTION
    return content_weight * (content_current - content_original).square().sum()
    ### END SOLUTION


# %% test="content_loss" points=1 aspect="one image"
# The squares of the differences add up to 30.
difference = torch.tensor([1, -2, 0, 3, 0, -4]).double().reshape(1, 2, 1, 3)
original = noise(0, 1, 2, 1, 3)
current = original + difference
### BEGIN EXPECTED
expected = reference.content_loss(0.7, current, original)
mistakes = {
    "the weight is left out": 30.0,
    "the weight is squared too": 0.49 * 30,
    "the loss is divided by the weight": 30 / 0.7,
    "there is a factor 1/2, which our definition doesn't have": 0.7 * 30 / 2,
    "the mean is taken, not the sum": 0.7 * 30 / 6,
    "the root of the sum is taken": 0.7 * 30**0.5,
    "absolute differences are summed, not their squares": 0.7 * 10,
    "differences are summed without being squared": 0.7 * -2,
    "the sum is squared, not each difference": 0.7 * 4,
    "squares are subtracted: subtract first, then square": (
        0.7 * (current.square() - original.square()).sum()
    ),
}
### END EXPECTED
loss = unwrap(content_loss(0.7, current, original))
name = "content_loss(0.7, current, original)"
check_close(loss, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="content_loss" points=1 aspect="a batch, and the gradient"
# The squares of the differences add up to 15, 6 and 14 for the three images.
difference = torch.tensor([[1, -2, 0, 3, 0, -1], [2, 0, 0, -1, 1, 0], [0, 1, 0, 0, -2, 3]])
difference = difference.double().reshape(3, 2, 1, 3)
original = noise(1, 3, 2, 1, 3)
current = original + difference
### BEGIN EXPECTED
expected = reference.content_loss(0.7, current, original)
mistakes = {
    "only the first image counts": 0.7 * 15,
    "only the last image counts": 0.7 * 14,
    "the mean over the batch is taken, not the sum": 0.7 * 35 / 3,
    "all images are compared with the first content image": (
        reference.content_loss(0.7, current, original[:1].expand_as(original))
    ),
}
slope = gradient_of(reference.content_loss, (0.7, current, original), 1)
slopes = {
    "part of the computation is detached": slope / 2,
    "the gradient's sign is that for content_original": -slope,
}
### END EXPECTED
loss = unwrap(content_loss(0.7, current, original))
check_close(loss, expected, "content_loss of three images", mistakes=mistakes, tolerance=1e-6)
check_close(
    gradient_of(content_loss, (0.7, current, original), 1),
    slope,
    "the gradient of content_loss for content_current, by autograd",
    mistakes=slopes,
    tolerance=1e-6,
)

# %% test="content_loss" points=1 aspect="other features"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(1, 3, 4, 6), (4, 1, 2, 2), (2, 5, 1, 3)]):
    current, original = noise(reference.seed + number, 2, *shape)
    arguments = 0.05 + number, current, original
    check_close(
        unwrap(content_loss(*arguments)),
        reference.content_loss(*arguments),
        f"content_loss for features {shape}",
        tolerance=1e-6,
    )
    check_close(
        *(
            gradient_of(function, arguments, 1)
            for function in (content_loss, reference.content_loss)
        ),
        f"the gradient of content_loss for features {shape}",
        tolerance=1e-6,
    )
check_close(
    unwrap(content_loss(2.0, current, current.clone())),
    torch.tensor(0.0),
    "content_loss of an image with itself",
)
### END HIDDEN TESTS

# %% [markdown]
# How does your loss judge three changes of the pagoda, and how do plain pixels judge them? A loss
# on its own is just a number, so each is divided by the loss that *another picture*, the dahlia,
# has at the same layer.

# %%
changes = {
    "moved by 2 pixels": pagoda.roll(2, dims=3),
    "blurred": resize(resize(pagoda, (48, 48)), (SIDE, SIDE)),
    "half as bright": 0.5 * pagoda,
}


def pixels_and_layers(image):
    """The image itself and its six rectified layers."""
    features = extract_features(image, network)
    return [image, *(features[layer] for layer in relus)]


original, other = pixels_and_layers(pagoda), pixels_and_layers(dahlia)
figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for (change, image), marker in zip(changes.items(), "osD", strict=True):
    shares = [
        float(content_loss(1.0, changed, kept) / content_loss(1.0, different, kept))
        for changed, kept, different in zip(pixels_and_layers(image), original, other, strict=True)
    ]
    print(f"{change}: pixels {shares[0]:.2f}, layers", *(f"{share:.2f}" for share in shares[1:]))
    ax.plot(range(1, 7), shares[1:], marker=marker, label=change)
    ax.plot(0, shares[0], marker=marker, color=ax.lines[-1].get_color())
ax.axhline(1, color="black", linestyle=":", label="another picture")
ax.set_xticks(range(7), ["pixels", *range(1, 7)])
ax.set(xlabel="rectified layer", ylabel="content loss, relative", ylim=0)
ax.set_title("What counts as a change of content depends on the layer")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Features aren't simply the better judge: most layers mind all three changes more than the pixels
# do. (The two photographs are so different in their pixels that any small change looks small beside
# it.) They judge by *other* things. Read them from shallow to deep. From layer 2 on, moving the
# picture matters less and less: two pixels are a quarter of another picture to layer 2, and next to
# nothing to layer 6, each of whose values stands for 8 × 8 pixels. Half the light matters the more,
# the deeper the layer. So don't take "content" for what you would call it: to the deep layers, half
# the light is as great a change of this photograph as another picture. The network was never asked
# to ignore that. And how much a change matters depends on the photograph: blur costs the pagoda's
# deep layers more than its first, since its roofs and windows are fine; exchange the two pictures
# in the cell, and it costs the dahlia's deepest layer less.
#
# ## 2. The image is the parameter
#
# What does a layer still know about a picture? Ask it: start from noise and change the *image*, by
# gradient descent, until its features at that layer are those of the photograph. The weights stay
# as they are. What comes back has all that the layer kept; what it threw away comes back as
# whatever the start happened to hold. Several layers $\ell$ can be asked at once:
#
# $$L(x) = \sum_\ell \sum_{i,k} \left(F^\ell_{ik}(x) - P^\ell_{ik}\right)^2, \qquad
# \frac{\partial L}{\partial x} = \sum_\ell \frac{\partial L_\ell}{\partial x}$$
#
# The second formula is the rule for edges that meet at a node: the image feeds all the layers, so
# the gradients that come back from them add up. Autograd does that by itself.
#
# ### Exercise: `invert_features`
# ★★☆ · 30 minutes · optional
#
# <details><summary>Hint 1: the loop</summary>
#
# `image = start.clone().requires_grad_()` makes a copy that can be optimised, and
# `torch.optim.Adam([image], lr=0.05)` an optimiser whose only parameter is the image. Then `steps`
# times: gradients to zero, loss, `loss.backward()`, step.
#
# </details>
# <details><summary>Hint 2: staying in range</summary>
#
# After each step, `with torch.no_grad(): image.clamp_(0, 1)`.
#
# </details>


# %% exercise="invert_features" changes="network.grad"
def invert_features(targets, layers, network, start, steps=100):
    """Change images until their features are the targets.

    Minimises Σ_l Σ (F_l(image) − P_l)² over the images, not over the network.

    Args:
        targets: list of tensors; targets[i] is P for layer layers[i], (N, C, H', W').
        layers: list of ints, indices into extract_features(image, network).
        network: nn.Sequential; its weights are left as they are.
        start: tensor (N, 3, H, W) in [0, 1], where the images start; not modified.
        steps: how often the gradient is computed.

    Returns:
        the images, tensor (N, 3, H, W) in [0, 1]. With 100 steps every layer of every image has
        less than a tenth of its loss at the start.
    """
    ### BEGIN SOLUTION
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        features = extract_features(image, network)
        loss = sum(
            (features[layer] - target).square().sum()
            for layer, target in zip(layers, targets, strict=True)
        )
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
    return image.detach()
    ### END SOLUTION


# %% given=true


def check_images(images, start):
    """Fail unless these are images of the start's shape, and other ones than the start."""
    assert images is not None, "invert_features returned None; is a `return` missing?"
    assert isinstance(images, torch.Tensor), f"expected a tensor, got a {type(images).__name__}."
    assert images.shape == start.shape, (
        f"expected shape {tuple(start.shape)}, got {tuple(images.shape)}."
    )
    assert not torch.equal(images.detach(), start), (
        "the images are the start: return what was optimised."
    )


def shares_left(images, start, targets, layers, network):
    """What share of its loss at the start each image has left, for each layer a tensor (N,)."""
    with torch.no_grad():
        now, before = (extract_features(x, network) for x in (images, start))
    return [
        (now[layer] - target).square().sum((1, 2, 3))
        / (before[layer] - target).square().sum((1, 2, 3))
        for layer, target in zip(layers, targets, strict=True)
    ]


# %% test="invert_features" points=1 aspect="one layer"
test_network, photograph, start = tiny_network(0), noise(3, 1, 3, 9, 11), noise(4, 1, 3, 9, 11)
targets = [extract_features(photograph, test_network)[1].detach()]
images = invert_features(targets, [1], test_network, start)
check_images(images, start)
share = float(shares_left(images, start, targets, [1], test_network)[0])
if share >= 1:  # Is the first step wrong, or what comes after it?
    once = invert_features(targets, [1], test_network, start, 1)
    at_once = float(shares_left(once, start, targets, [1], test_network)[0]) > 1
    raise AssertionError(
        f"after 100 steps the loss is {share:.3g} times what it was at the start; "
        + (
            "it rises with the first step: is it along the gradient, not against it?"
            if at_once
            else "the first step lowers it, the others don't: are gradients set to zero before each?"
        )
    )
assert share < 0.1, (
    f"the image has {share:.3g} of its loss at the start; it should have less than 0.1: are steps"
    " large enough, and are there `steps` of them?"
)

# %% test="invert_features" points=1 aspect="several layers"
test_network, photograph, start = tiny_network(0), noise(5, 1, 3, 9, 11), noise(6, 1, 3, 9, 11)
features = [layer.detach() for layer in extract_features(photograph, test_network)]
for layers in ([1, 4], [4, 1]):
    targets = [features[layer] for layer in layers]
    images = invert_features(targets, layers, test_network, start)
    check_images(images, start)
    shares = shares_left(images, start, targets, layers, test_network)
    hint = ": is the loss summed over all layers?" if min(shares) < 0.1 else "."
    for layer, share in zip(layers, shares, strict=True):
        assert share < 0.1, (
            f"asked for layers {layers}, the image has {float(share):.3g} of its loss at the start"
            f" at layer {layer}; it should have less than 0.1{hint}"
        )

# %% test="invert_features" points=1 aspect="a batch"
test_network, photograph, start = tiny_network(0), noise(7, 3, 3, 9, 11), noise(8, 3, 3, 9, 11)
targets = [extract_features(photograph, test_network)[1].detach()]
images = invert_features(targets, [1], test_network, start)
check_images(images, start)
(shares,) = shares_left(images, start, targets, [1], test_network)
hint = ": is the loss summed over all images?" if min(shares) < 0.1 else "."
for n, share in enumerate(shares):
    assert share < 0.1, (
        f"of three images, image {n} has {float(share):.3g} of its loss at the start; it should"
        f" have less than 0.1{hint}"
    )

# %% test="invert_features" points=1 aspect="in [0, 1], and as many steps"
test_network, photograph, start = tiny_network(0), noise(9, 1, 3, 9, 11), noise(10, 1, 3, 9, 11)
# Features of an image that leaves [0, 1]: descent is drawn beyond the bounds.
targets = [extract_features(1.5 * photograph, test_network)[1].detach()]
images = invert_features(targets, [1], test_network, start, steps=30)
check_images(images, start)
assert images.min() >= 0 and images.max() <= 1, (
    f"images must stay in [0, 1], but these go from {images.min():.3g} to {images.max():.3g}:"
    " clamp them."
)
few, many = (
    float(shares_left(x, start, targets, [1], test_network)[0])
    for x in (invert_features(targets, [1], test_network, start, steps=2), images)
)
assert many < 0.3, f"with 30 steps, {many:.3g} of the loss is left; it should be less than 0.3."
assert many < 0.7 * few, "30 steps get hardly further than 2: are there `steps` of them?"

# %% test="invert_features" points=1 aspect="other networks"
# Other networks, layers and images are tried here.
### BEGIN HIDDEN TESTS
trunk = awkward_network(2, gradients=True).trunk  # values in [0, 1] are small for it, as its first
first = nn.AvgPool2d(1, divisor_override=4)  # layer divides them: steps of all sizes go well
parts = first, trunk.entry, trunk.act, trunk.pool, trunk.blocks["a"], trunk.again
awkward = nn.Sequential(*parts).eval()
for number, (test_network, layers, shape, steps, bound) in enumerate(
    [  # Steps of one size suit one network and are small for the next: there they have time.
        (tiny_network(reference.seed), [3], (1, 3, 9, 8), 300, 0.1),
        (tiny_network(reference.seed), [0, 3], (3, 3, 8, 11), 300, 0.1),
        (awkward, [5, 1], (2, 3, 10, 9), 100, 0.4),
    ]
):
    photograph, start = noise(reference.seed + number, 2, *shape)
    features = extract_features(photograph, test_network)
    targets = [features[layer].detach() for layer in layers]
    images = invert_features(targets, layers, test_network, start.clone(), steps)
    check_images(images, start)
    assert images.min() >= 0 and images.max() <= 1, "images must stay in [0, 1]: clamp them."
    shares = torch.stack(shares_left(images, start, targets, layers, test_network))
    assert (shares < bound).all(), (
        f"asked for layers {layers} of {shape[0]} images {shape[2]} × {shape[3]}, at a layer an"
        f" image has {shares.max():.3g} of its loss at the start."
    )
### END HIDDEN TESTS

# %% [markdown]
# The pagoda, asked for at one layer after the other. Each image starts from the same grey noise;
# the number is the mean difference of its pixels from the photograph's.

# %%
small = resize(pagoda, (96, 96))
features = extract_features(small, network)
start = 0.5 + 0.1 * (noise(0, 1, 3, 96, 96).float().to(device) - 0.5)
images, titles = [small, start], ["photograph", "start"]
for number, layer in enumerate(relus, start=1):
    images.append(invert_features([features[layer]], [layer], network[: layer + 1], start))
    error = (images[-1] - small).abs().mean()
    titles.append(f"rectified layer {number}\npixels off by {error:.2f}")
contact_sheet(
    torch.cat(images),
    titles,
    columns=4,
    inches=2,
    heading="The deeper the layer, the less of the photograph comes back",
)

# %% [markdown]
# Layer 1 gives everything back. Layer 3 has lost the colours but has the drawing; colours go early
# because the channels of this network's training images were shuffled at random. At layer 5 the
# roofs can still be told, at layer 6 hardly anything. Beware of the fine grain, though: it isn't in
# the photograph. It is what the layer hardly sees, so nothing tells descent to remove it. Nor does a
# poor picture prove that the layer has lost everything: the optimiser had 100 steps, and a better
# one finds more in as many.
#
# Edges that meet at a node: let us check the rule on two layers.

# %%
image = start.clone().requires_grad_()
gradients = []
for layers in ([relus[0]], [relus[3]], [relus[0], relus[3]]):
    current = extract_features(image, network)
    loss = sum((current[layer] - features[layer]).square().sum() for layer in layers)
    gradients.append(torch.autograd.grad(loss, image)[0])
shallow, deep, both = gradients
difference = (shallow + deep - both).abs().max() / both.abs().max()
print(f"gradient of both layers against the sum of theirs: relative difference {difference:.1e}")

# %% [markdown]
# From here on we use a faster optimiser, L-BFGS. It remembers its last gradients to guess the
# curvature, which suits a loss without randomness such as ours. Otherwise it is your loop.


# %% given=true
def minimise(loss, image, steps):
    """Change an image by L-BFGS until a loss is small.

    Args:
        loss: function from an image to a scalar tensor.
        image: tensor (N, 3, H, W), where to start; not modified.
        steps: how often the loss and its gradient are computed, at most.

    Returns:
        the image, clamped to [0, 1].
    """
    image = image.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [image], max_iter=steps, max_eval=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(image)
        value.backward()
        return value

    optimizer.step(closure)
    return image.detach().clamp(0, 1)


# %% [markdown]
# ## 3. Texture without places
#
# Brush strokes are brush strokes wherever they are. So what describes a *style* should not know
# about places: a summary statistic of the features. Gatys et al. found one that works. Let
# $F$ have channels $i, j$ and positions $k$. The **Gram matrix**
#
# $$G_{ij} = \frac{1}{C H W} \sum_k F_{ik} F_{jk}$$
#
# says which channels are strong together: bright with curved, dark with straight. The sum over
# $k$ is where the places are lost. Mind the factor. Gatys et al. have none here and divide the loss
# instead, PyTorch's tutorial divides by $N C H W$, CS231n by $C H W$, and so do we: it makes the
# matrix independent of the image's size.
#
# ### Exercise: `gram_matrix`
# ★★☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# Flatten the positions, to (N, C, H·W). Then a Gram matrix is the product of such a matrix with its
# own transpose, for each image.
#
# </details>


# %% exercise="gram_matrix"
def gram_matrix(features, normalize=True):
    """Which channels are strong at the same positions, for each image.

        G[n, i, j] = Σ_k F[n, i, k] · F[n, j, k] / (C · H · W)

    Args:
        features: F, tensor (N, C, H, W); k runs over its H · W positions.
        normalize: whether to divide by C · H · W.

    Returns:
        tensor (N, C, C), one matrix for each image, differentiable.
    """
    ### BEGIN SOLUTION
    N, C, H, W = features.shape
    flat = features.reshape(N, C, H * W)
    gram = flat @ flat.transpose(1, 2)
    return gram / (C * H * W) if normalize else gram
    ### END SOLUTION


# %% test="gram_matrix" points=1 aspect="one image"
# Two channels, 2 × 3 positions: small enough to compute by hand.
features = torch.tensor([[[[1, 0, 2], [0, 1, 0]], [[0, 3, 1], [1, 0, 0]]]]).double()
for normalize in (True, False):
    ### BEGIN EXPECTED
    expected = reference.gram_matrix(features, normalize)
    plain = 12 * reference.gram_matrix(features)
    factor = 1 / 12 if normalize else 1
    rows = features.flatten(2)
    scrambled = features.reshape(1, 6, 2)  # isn't the transpose of (1, 2, 6)
    centred = rows - rows.mean(2, keepdim=True)
    mistakes = {
        "it is not divided by C·H·W": plain,
        "it is divided by C·H·W although normalize is False": plain / 12,
        "it is divided by H·W, not by C·H·W": plain / 6,
        "it is divided by C·H·H, not by C·H·W": plain / 8,
        "it is divided by C, not by C·H·W": plain / 2,
        "it is divided by C·C, not by C·H·W": plain / 4,
        "the axis of the images is lost: the result is (N, C, C) for one image too": expected[0],
        "positions are compared with positions, not channels with channels": (
            factor * rows.mT @ rows
        ),
        "the array is reshaped to (N, H·W, C), which scrambles the channels": (
            factor * scrambled.mT @ scrambled
        ),
        "each channel's mean is subtracted, which makes it a covariance": (
            factor * centred @ centred.mT
        ),
        "each channel is divided by its norm, which makes the entries cosines": (
            factor * F.normalize(rows, dim=2) @ F.normalize(rows, dim=2).mT
        ),
        "each channel is compared with itself only": torch.diag_embed(expected.diagonal(0, 1, 2)),
    }
    ### END EXPECTED
    name = f"gram_matrix(features, normalize={normalize})"
    gram = gram_matrix(features, normalize=normalize)
    check_close(gram, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="gram_matrix" points=1 aspect="a batch"
features = noise(5, 3, 2, 2, 5) - 0.4
### BEGIN EXPECTED
expected = reference.gram_matrix(features)
as_one = features.reshape(2, 30)  # what view(C, -1) does to a batch
stacked = features.reshape(6, 10)
mixed = features.transpose(0, 1).flatten(1)  # channels × all positions of all images
mistakes = {
    "it is divided by N·C·H·W, not by C·H·W": expected / 3,
    "the batch is summed: each image needs a Gram matrix of its own": expected.sum(0),
    "the batch is summed: each image needs its own Gram matrix": expected.sum(0, keepdim=True),
    "the batch is averaged: each image needs a Gram matrix of its own": mixed @ mixed.T / 60,
    "only the first image gets a Gram matrix": expected[0],
    "only the first of the images gets a Gram matrix": expected[:1],
    "the batch is run into the positions, as if N were 1": as_one @ as_one.T / 20,
    "the batch runs into the positions, as if N were 1": (as_one @ as_one.T)[None] / 20,
    "the batch is run into the channels: the result has N·C rows": stacked @ stacked.T / 20,
}
### END EXPECTED
name = "gram_matrix(features) for three images"
check_close(gram_matrix(features), expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="gram_matrix" points=1 aspect="the gradient"
features = noise(6, 2, 3, 4, 2)
### BEGIN EXPECTED
expected = reference.gram_matrix(features)
slope = gradient_of(reference.gram_matrix, (features,), 0)
### END EXPECTED
check_close(gram_matrix(features), expected, "gram_matrix(features)", tolerance=1e-6)
check_close(
    gradient_of(gram_matrix, (features,), 0),
    slope,
    "the gradient of the sum of gram_matrix(features), by autograd",
    mistakes={"part of the computation is detached": slope / 2},
    tolerance=1e-6,
)

# %% test="gram_matrix" points=1 aspect="other features"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(1, 1, 2, 3), (3, 5, 1, 4), (2, 2, 7, 3), (4, 3, 2, 2)]):
    features = noise(reference.seed + number, *shape) - 0.4
    for normalize in (True, False):
        check_close(
            gram_matrix(features.clone(), normalize),
            reference.gram_matrix(features, normalize),
            f"gram_matrix for features {shape}, normalize={normalize}",
            tolerance=1e-6,
        )
    upstream = noise(reference.seed + number + 9, shape[0], shape[1], shape[1]) - 0.3
    check_close(
        *(
            vector_jacobian_product(function, [features], upstream)[0]
            for function in (gram_matrix, reference.gram_matrix)
        ),
        f"the gradient by autograd through gram_matrix for features {shape}",
        tolerance=1e-6,
    )
check_close(
    gram_matrix(features.clone()),
    reference.gram_matrix(features),
    "gram_matrix without naming normalize",
    tolerance=1e-6,
)
### END HIDDEN TESTS

# %% [markdown]
# What a Gram matrix forgets: take the positions of all the features and shuffle them.

# %%
features = extract_features(strokes, network[: relus[1] + 1])[-1]
order = torch.randperm(features[0, 0].numel(), generator=torch.Generator().manual_seed(0))
shuffled = features.flatten(2)[:, :, order.to(device)].reshape(features.shape)
strengths = features.square().mean((0, 2, 3)).cpu()
channel = int(strengths.argmax())

figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
figure.suptitle("Shuffle the positions: the map is destroyed, the Gram matrix is the same")
grams = [gram_matrix(features)[0].cpu(), gram_matrix(shuffled)[0].cpu()]
panels = [features[0, channel].cpu(), shuffled[0, channel].cpu(), *grams]
titles = [f"channel {channel}", "its positions shuffled", "Gram matrix", "Gram matrix, shuffled"]
for index, (ax, panel, title) in enumerate(zip(axes, panels, titles, strict=True)):
    limit = float(grams[0].max() if index > 1 else panels[0].max())
    picture = ax.imshow(panel, cmap="viridis" if index > 1 else "magma", vmin=0, vmax=limit)
    ax.set_title(title)
    if index % 2:
        figure.colorbar(picture, ax=axes[index - 1 : index + 1], shrink=0.8)
    if index < 2:
        ax.axis("off")
    else:
        ax.set(xlabel="channel", ylabel="channel")
plt.show()
difference = (grams[0] - grams[1]).abs().max() / grams[0].max()
print(f"the two Gram matrices differ by {difference:.0e} of their maximum")

# %% [markdown]
# So it forgets places entirely, at *this* layer. But shuffle the *pixels* before the network sees
# them: the Gram matrix of the pixels themselves is the same, since the colours are the same, but
# that of any deeper layer isn't.

# %%
pixels = pagoda.flatten(2)
order = torch.randperm(pixels.shape[2], generator=torch.Generator().manual_seed(0))
confetti = pixels[:, :, order.to(device)].reshape(pagoda.shape)
differences = []
for before, after in zip(
    extract_features(pagoda, network), extract_features(confetti, network), strict=True
):
    gram = gram_matrix(before)
    differences.append(float((gram_matrix(after) - gram).norm() / gram.norm()))
shown = [0, *relus]
figure, axes = plt.subplots(
    1, 3, figsize=(9.5, 2.8), layout="constrained", width_ratios=[1, 1, 1.7]
)
figure.suptitle("Shuffle the pixels: only the pixels' own Gram matrix doesn't notice")
for ax, image in zip(axes, (pagoda, confetti), strict=False):
    ax.imshow(image[0].permute(1, 2, 0).clamp(0, 1).cpu())
    ax.axis("off")
axes[2].bar(range(7), [differences[layer] for layer in shown], color="0.4")
axes[2].set_xticks(range(7), ["pixels", *range(1, 7)])
axes[2].set(xlabel="rectified layer", ylabel="change of the Gram matrix\n(relative)")
plt.show()
print("pixels and rectified layers:", *(f"{differences[layer]:.2g}" for layer in shown))

# %% [markdown]
# That is the whole idea of the method. The first layer's windows see $3 \times 3$ pixels, so its
# Gram matrix knows what such windows look like, and how often, but not where. Deeper layers see
# larger windows. (The missing bar is a fact: the pixels' Gram matrices agree to six digits.)
#
# ### Exercise: `style_loss`
# ★★☆ · 20 minutes
#
# One layer sees strokes of one size. So style is compared at several layers, from fine to coarse,
# each with a weight:
#
# $$L_{\text{style}} = \sum_\ell w_\ell \sum_{i,j} \left(G^\ell_{ij} - A^\ell_{ij}\right)^2$$
#
# where $G^\ell$ is the Gram matrix of the image that is being painted, $A^\ell$ that of the style.
# Here, too, gradients from all the layers add up. `feats` holds *all* the layers' features;
# `style_layers` says which of them count, in the order of `style_targets` and `style_weights`.
#
# You may call your `gram_matrix` for it, or write its line out once more.


# %% exercise="style_loss"
def style_loss(feats, style_layers, style_targets, style_weights):
    """How far the style of images is from what it should be.

        L = Σ_i style_weights[i] · Σ (G_i − style_targets[i])²

    where G_i is the Gram matrix of feats[style_layers[i]], divided by C · H · W.

    Args:
        feats: the features of all layers; feats[l] is a tensor (N, C_l, H_l, W_l).
        style_layers: list of ints, the layers that count.
        style_targets: list as long; style_targets[i] is the Gram matrix that is wanted of layer
            style_layers[i], tensor (N, C, C).
        style_weights: list as long, of floats.

    Returns:
        L, summed over layers and images: a scalar tensor, differentiable in feats.
    """
    ### BEGIN SOLUTION
    loss = 0
    for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
        flat = feats[layer].flatten(2)
        gram = flat @ flat.transpose(1, 2) / feats[layer][0].numel()
        loss = loss + weight * (gram - target).square().sum()
    return loss
    ### END SOLUTION


# %% test="style_loss" points=1 aspect="one layer"
feats = [noise(40 + number, 1, 3, 4, 2 + number) for number in range(3)]
targets = [noise(43, 1, 3, 3)]
### BEGIN EXPECTED
expected = reference.style_loss(feats, [1], targets, [5.0])
gram = reference.gram_matrix(feats[1])
difference = gram - targets[0]
mistakes = {
    "feats[i] is taken instead of feats[style_layers[i]]": (
        reference.style_loss(feats, [0], targets, [5.0])
    ),
    "weights are left out": expected / 5,
    "weights are squared too": 5 * expected,
    "there is a factor 1/2, which our definition doesn't have": expected / 2,
    "the mean over a Gram matrix's entries is taken, not the sum": expected / 9,
    "Gram matrices are not divided by C·H·W": 5 * (36 * gram - targets[0]).square().sum(),
    "the Gram matrices are divided by H·W, not by C·H·W": (
        5 * (3 * gram - targets[0]).square().sum()
    ),
    "the features themselves are summed, not their products": (
        5 * (feats[1].sum((2, 3))[:, :, None] / 36 - targets[0]).square().sum()
    ),
    "absolute differences are summed, not their squares": 5 * difference.abs().sum(),
    "the root is taken of each layer's sum": 5 * difference.norm(),
    "differences are summed without being squared": 5 * difference.sum(),
    "squares are subtracted: subtract first, then square": (
        5 * (gram.square() - targets[0].square()).sum()
    ),
}
### END EXPECTED
loss = unwrap(style_loss(feats, [1], targets, [5.0]))
name = "style_loss(feats, [1], targets, [5.0])"
check_close(loss, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="style_loss" points=1 aspect="several layers"
feats = [noise(50 + number, 1, 3, 4, 2 + number) for number in range(5)]
style_layers, style_weights = [3, 0, 2], [0.5, 3.0, 20.0]
targets = [noise(55 + number, 1, 3, 3) for number in range(3)]
### BEGIN EXPECTED


def value(layers=style_layers, weights=style_weights, targets=targets):
    """The loss with other layers, weights or targets."""
    return reference.style_loss(feats, layers, targets, weights)


expected = value()
mistakes = {
    "feats[i] is taken instead of feats[style_layers[i]]": value([0, 1, 2]),
    "the order of style_layers is not that of style_targets": value(sorted(style_layers)),
    "targets are taken in the wrong order": value(targets=targets[::-1]),
    "weights are taken in the wrong order": value(weights=style_weights[::-1]),
    "weights are left out": value(weights=[1, 1, 1]),
    "weights are squared too": value(weights=[0.25, 9, 400]),
    "the first layer's weight serves all": value(weights=[0.5, 0.5, 0.5]),
    "only the first layer counts; is `return` inside the loop?": value([3], [0.5], targets[:1]),
    "only the last layer counts, = for +=": value([2], [20.0], targets[2:]),
    "the mean over the layers is taken, not the sum": expected / 3,
    "weights are divided by their sum": expected / 23.5,
}
### END EXPECTED
loss = unwrap(style_loss(feats, style_layers, targets, style_weights))
name = "style_loss(feats, [3, 0, 2], targets, [0.5, 3.0, 20.0])"
check_close(loss, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="style_loss" points=1 aspect="a batch, and the gradient"
# The layers have one shape here, so they can be one tensor, whose gradient can be asked for.
feats = noise(60, 2, 3, 4, 3, 2)  # two layers, three images, four channels
arguments = feats, [1, 0], [noise(61, 3, 4, 4), noise(62, 3, 4, 4)], [2.0, 0.5]
### BEGIN EXPECTED
_, style_layers, targets, style_weights = arguments


def value(images=slice(None)):
    """The loss of some of the images."""
    chosen = [target[images] for target in targets]
    return reference.style_loss(feats[:, images], style_layers, chosen, style_weights)


expected = reference.style_loss(*arguments)
differences = [
    reference.gram_matrix(feats[at]) - to for at, to in zip([1, 0], targets, strict=True)
]
mistakes = {
    "only the first image counts": value(slice(0, 1)),
    "only the last image counts": value(slice(2, 3)),
    "the mean over the batch is taken, not the sum": expected / 3,
    "Gram matrices are summed over the batch before they are compared": (
        2.0 * differences[0].sum(0).square().sum() + 0.5 * differences[1].sum(0).square().sum()
    ),
    "all images are compared with the first target": reference.style_loss(
        feats, style_layers, [target[:1].expand_as(target) for target in targets], style_weights
    ),
    "Gram matrices are divided by N·C·H·W, not by C·H·W": sum(
        weight * (reference.gram_matrix(feats[at]) / 3 - to).square().sum()
        for weight, at, to in zip(style_weights, style_layers, targets, strict=True)
    ),
}
slope = gradient_of(reference.style_loss, arguments, 0)
slopes = {
    "part of the computation is detached": slope / 2,
    "nothing flows back to the first layer of style_layers": slope
    * torch.tensor([1, 0]).reshape(2, 1, 1, 1, 1),
    "nothing flows back to the last layer of style_layers": slope
    * torch.tensor([0, 1]).reshape(2, 1, 1, 1, 1),
}
### END EXPECTED
loss = unwrap(style_loss(*arguments))
check_close(loss, expected, "style_loss of three images", mistakes=mistakes, tolerance=1e-6)
check_close(
    gradient_of(style_loss, arguments, 0),
    slope,
    "the gradient of style_loss for feats, by autograd",
    mistakes=slopes,
    tolerance=1e-6,
)

# %% test="style_loss" points=1 aspect="other features"
# Other layers, shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for shapes, style_layers in [
    ([(1, 2, 5, 4), (1, 4, 2, 3), (1, 3, 1, 2)], [0, 1, 2]),
    ([(3, 4, 2, 5), (3, 1, 6, 3), (3, 2, 3, 3)], [2, 1]),
    ([(2, 3, 4, 6), (2, 5, 2, 3)], [1]),
]:
    feats = [noise(reference.seed + index, *shape) for index, shape in enumerate(shapes)]
    targets = [
        noise(reference.seed + 10 + layer, shapes[layer][0], shapes[layer][1], shapes[layer][1])
        for layer in style_layers
    ]
    weights = [0.3, 2.0, 50.0][: len(style_layers)]
    check_close(
        unwrap(style_loss([f.clone() for f in feats], style_layers, targets, weights)),
        reference.style_loss(feats, style_layers, targets, weights),
        f"style_loss for layers {style_layers} of features {shapes}",
        tolerance=1e-6,
    )
feats = noise(reference.seed + 20, 3, 2, 3, 2, 5)
arguments = feats, [2, 0], list(noise(reference.seed + 21, 2, 2, 3, 3)), [0.7, 4.0]
check_close(
    *(gradient_of(function, arguments, 0) for function in (style_loss, reference.style_loss)),
    "the gradient of style_loss for feats",
    tolerance=1e-6,
)
### END HIDDEN TESTS

# %% [markdown]
# With the style loss alone, and noise to start from, descent paints a **texture**: the style, of
# nothing. Each layer's weight is one over its loss at the start, so that all have an equal say.


# %%
def synthesise(style, layers, side=128, steps=40):
    """An image from noise whose Gram matrices at these layers are the style's; small ones first."""
    part = network[: max(layers) + 1]

    def loss(targets, weights, image):
        return style_loss(extract_features(image, part), layers, targets, weights)

    image = 0.5 + 0.1 * (noise(0, 1, 3, side, side).float().to(device) - 0.5)
    for scale in (0.5, 1):
        image = resize(image, (round(scale * side), round(scale * side)))
        scaled = resize(style, (round(scale * SIDE), round(scale * SIDE)))
        features, goal = extract_features(image, part), extract_features(scaled, part)
        targets = [gram_matrix(goal[layer]) for layer in layers]
        if scale == 0.5:
            weights = [
                float(1 / style_loss(features, [layer], [target], [1.0]))
                for layer, target in zip(layers, targets, strict=True)
            ]
        image = minimise(partial(loss, targets, weights), image, steps)
    return image


depths = {
    "pixels only": [0],
    "and rectified layer 1": [0, relus[0]],
    "and 1 to 2": [0, *relus[:2]],
    "and 1 to 4": [0, *relus[:4]],
}
images, titles = [], []
for style in (strokes, glass):
    images.append(resize(style, (128, 128)))
    images += [synthesise(style, layers) for layers in depths.values()]
    titles += ["style", *depths]
contact_sheet(
    torch.cat(images),
    titles,
    columns=5,
    inches=1.9,
    heading="Texture from noise: layer 2 gives the glass its panes; the strokes lose their curl",
)

# %% [markdown]
# Pixels alone give a rough palette: their Gram matrix mixes spread and mean in one number, so that
# pale colours can meet it too. Layer 1 adds specks. For the glass, layer 2 adds panes with lead
# around them, though no two lie where they lie in the style; after that there is less to gain. For
# the brush strokes, the specks turn into short streaks and patches, and no layer brings the curl
# back: it is about as long as the windows of layer 4 are wide, 26 pixels, and nobody asks for more.
# (The image is painted at half the size first, then enlarged; section 6 says why.)
#
# ### Question: what the Gram matrix keeps
# ★★☆ · 10 minutes

# %% [markdown] question="what_gram_keeps" points=4
# You have seen that shuffling the positions of a layer's features leaves its Gram matrix alone, and
# that shuffling the pixels doesn't, except for the pixels' own.
#
# 1. Explain both in terms of the sum over $k$. If places are forgotten, how can the texture painted
#    from noise have panes with lead between them?
# 2. A classmate uses the Gram matrix of the *last* fully connected layer's outputs, (N, C), as
#    "style of the whole image". What goes wrong?
#
# Answer in two or three sentences each.
#
# ### BEGIN SOLUTION
# 1 (2 points). G sums over positions, and a sum doesn't depend on the order of its terms:
# permuting the positions of F permutes the terms, in the same way for channels i and j (1 point).
# Shuffled pixels give *other* features, not shuffled ones, since each feature is computed from a
# neighbourhood. So structure up to the size of the receptive field is in the channels, and this
# is how borders survive: a channel that answers to "lead between two panes" is asked for as often
# as in the style (1 point).
#
# 2 (2 points). There is only one position (k = 1), so G is the outer product of the output vector
# with itself, of rank one, and nothing is averaged over (1 point). It determines the outputs up to
# a common sign, so it is as specific as a content target, not a statistic of texture (1 point).
# "There is no spatial information left to sum over" is worth 1 point.
# ### END SOLUTION

# %% [markdown]
# ## 4. Smoothness
#
# Optimised images like to crackle: neighbouring pixels that differ, at a scale that no layer
# minds. **Total variation** charges for it. CS231n's is the sum of squared differences of
# neighbours, over the three colours, below and to the right:
#
# $$L_{\text{tv}} = w_t \left(\sum_{c,r,s} (x_{c,\,r+1,\,s} - x_{c,\,r,\,s})^2
#   + \sum_{c,r,s} (x_{c,\,r,\,s+1} - x_{c,\,r,\,s})^2\right)$$
#
# ### Exercise: `tv_loss`
# ★☆☆ · 10 minutes
#
# Two slices of the image, one of them moved by a pixel, do it without a loop.


# %% exercise="tv_loss"
def tv_loss(img, tv_weight):
    """How rough images are: the squared differences of neighbouring pixels.

    Args:
        img: tensor (N, 3, H, W).
        tv_weight: float, w_t.

    Returns:
        w_t times the sum of the squared differences between each pixel and the one below, and
        between each pixel and the one to the right: a scalar tensor, differentiable in img.
    """
    ### BEGIN SOLUTION
    down = img[:, :, 1:] - img[:, :, :-1]
    right = img[:, :, :, 1:] - img[:, :, :, :-1]
    return tv_weight * (down.square().sum() + right.square().sum())
    ### END SOLUTION


# %% test="tv_loss" points=1 aspect="one image"
img = noise(7, 1, 3, 4, 6)
### BEGIN EXPECTED
down, right = torch.diff(img, dim=2), torch.diff(img, dim=3)
expected = reference.tv_loss(img, 0.3)
mistakes = {
    "the weight is left out": expected / 0.3,
    "the weight is squared too": 0.3 * expected,
    "the loss is divided by the weight": expected / 0.09,
    "there is a factor 1/2, which our definition doesn't have": expected / 2,
    "only differences between rows count": 0.3 * down.square().sum(),
    "only differences between columns count": 0.3 * right.square().sum(),
    "absolute differences are summed, not their squares": (
        0.3 * (down.abs().sum() + right.abs().sum())
    ),
    "means are taken, not sums": 0.3 * (down.square().mean() + right.square().mean()),
    "the sum is divided by the number of values": expected / img.numel(),
    "only the first colour counts": 0.3 * (down[:, 0].square().sum() + right[:, 0].square().sum()),
    "the borders wrap around: the last row is compared with the first": 0.3
    * sum((img - img.roll(1, axis)).square().sum() for axis in (2, 3)),
    "colours are compared with each other, and rows, but not columns": 0.3
    * sum(torch.diff(img, dim=axis).square().sum() for axis in (1, 2)),
    "the last row and column are left out, where one of the two neighbours is missing": (
        0.3 * (down[..., :-1].square() + right[:, :, :-1].square()).sum()
    ),
    "the root is taken at each pixel": (
        0.3 * (down[..., :-1].square() + right[:, :, :-1].square()).sqrt().sum()
    ),
    "the root is taken of the sum": 0.3 * (expected / 0.3).sqrt(),
    "both differences are added before they are squared": (
        0.3 * (down[..., :-1] + right[:, :, :-1]).square().sum()
    ),
    "each pixel is compared with the next but one": 0.3
    * (
        (img[:, :, 2:] - img[:, :, :-2]).square().sum()
        + (img[..., 2:] - img[..., :-2]).square().sum()
    ),
}
### END EXPECTED
loss = unwrap(tv_loss(img, 0.3))
check_close(loss, expected, "tv_loss(img, 0.3)", mistakes=mistakes, tolerance=1e-6)

# %% test="tv_loss" points=1 aspect="a batch, and the gradient"
img = noise(8, 3, 3, 5, 4)
### BEGIN EXPECTED
expected = reference.tv_loss(img, 0.3)
mistakes = {
    "only the first image counts": reference.tv_loss(img[:1], 0.3),
    "only the last image counts": reference.tv_loss(img[2:], 0.3),
    "the mean over the batch is taken, not the sum": expected / 3,
    "images are compared with each other, too": (
        expected + 0.3 * torch.diff(img, dim=0).square().sum()
    ),
}
slope = gradient_of(reference.tv_loss, (img, 0.3), 0)
### END EXPECTED
loss = unwrap(tv_loss(img, 0.3))
check_close(loss, expected, "tv_loss of three images", mistakes=mistakes, tolerance=1e-6)
check_close(
    gradient_of(tv_loss, (img, 0.3), 0),
    slope,
    "the gradient of tv_loss for img, by autograd",
    mistakes={"part of the computation is detached": slope / 2},
    tolerance=1e-6,
)

# %% test="tv_loss" points=1 aspect="other images"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(1, 3, 7, 3), (3, 3, 2, 5), (1, 3, 1, 4), (2, 3, 5, 1)]):
    arguments = noise(reference.seed + number, *shape), 0.02 + number
    check_close(
        unwrap(tv_loss(*arguments)),
        reference.tv_loss(*arguments),
        f"tv_loss for images {shape}",
        tolerance=1e-6,
    )
    check_close(
        *(gradient_of(function, arguments, 0) for function in (tv_loss, reference.tv_loss)),
        f"the gradient of tv_loss for images {shape}",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# On its own, the total variation wants a blank page. Here it is weighed against staying close to
# a noisy photograph, $\sum (x - x_{\text{noisy}})^2 + L_{\text{tv}}$.

# %%
clean = resize(dahlia, (96, 96))
generator = torch.Generator().manual_seed(0)
noisy = (clean + 0.12 * torch.randn(clean.shape, generator=generator).to(device)).clamp(0, 1)
images, titles = [clean, noisy], ["photograph", "noisy"]
for weight in (0.3, 1.0, 5.0, 50.0):
    images.append(
        minimise(lambda x, w=weight: (x - noisy).square().sum() + tv_loss(x, w), noisy, 60)
    )
    titles.append(f"tv_weight {weight:g}")
titles = [
    f"{title}\nroughness {float(tv_loss(image, 1)):.0f}, off by {(image - clean).abs().mean():.3f}"
    for title, image in zip(titles, images, strict=True)
]
contact_sheet(
    torch.cat(images),
    titles,
    columns=6,
    inches=1.8,
    heading="A little total variation removes noise, a lot removes the flower",
)

# %% [markdown]
# Noise is rough and cheap to remove, the flower's own edges are less rough and dear: the best
# picture is at a weight near 1, nearer to the original than the noisy one by half. Beyond it the
# flower goes too. Squared differences prefer many small steps to one large one, so edges are the
# first to blur; the total variation of Rudin, Osher and Fatemi (1992) sums absolute values and
# keeps them. In section 6 a small weight makes the picture smoother. Three of the four pictures
# there lose no style to speak of by it; the dahlia in strokes gains least and pays most.
#
# ## 5. Colour
#
# Our network was trained on images whose colour channels were shuffled at random: what it answers
# hardly depends on colours, and the Gram matrices of its deeper features say little about them. So
# we give the photograph the style's colours before we start. Treat the colours of a picture as a
# cloud of points in three dimensions. Its position is the mean $\mu$, its form the covariance
#
# $$\Sigma = \frac{1}{HW} \sum_k (x_k - \mu)(x_k - \mu)^\top \quad (3 \times 3)$$
#
# We are looking for a map of colours, the same one for every pixel, that gives the cloud of the
# image $x$ the mean and covariance of the cloud of the target $t$:
#
# $$x'_k = A\,(x_k - \mu_x) + \mu_t \quad\text{with}\quad A\, \Sigma_x\, A^\top = \Sigma_t$$
#
# There are many such $A$: two of them are $\Sigma_t^{1/2}\, \Sigma_x^{-1/2}$, and $L_t L_x^{-1}$
# with the Cholesky factors $\Sigma = L L^\top$. Any is right. Scaling each channel on its own isn't
# enough: a picture in blue and ochre has channels that move *against* each other.
#
# ### Exercise: `match_colours`
# ★★★ · 30 minutes
#
# <details><summary>Hint 1: the way</summary>
#
# Flatten both pictures to 3 × (number of pixels). Subtract the means; the covariance is the product
# of such a matrix with its own transpose, divided by the number of pixels. Find $A$, multiply, add
# the target's mean, and reshape.
#
# </details>
# <details><summary>Hint 2: the root of a matrix</summary>
#
# `values, vectors = torch.linalg.eigh(covariance)` gives $\Sigma = V D V^\top$, and
# $\Sigma^{p} = V D^{p} V^\top$. Or take `torch.linalg.cholesky`, which gives $L$. A root of each
# entry (`covariance ** 0.5`) is something else.
#
# </details>


# %% exercise="match_colours"
def match_colours(image, target):
    """Give a picture the colours of another: the same mean and the same covariance.

        x'_k = A (x_k − μ_image) + μ_target   with   A Σ_image Aᵀ = Σ_target
        Σ = Σ_k (x_k − μ)(x_k − μ)ᵀ / (H · W), each picture's sum divided by its own H · W

    Args:
        image: one picture, tensor (1, 3, H, W), whose covariance Σ can be inverted.
        target: one picture, tensor (1, 3, H', W') of any size.

    Returns:
        tensor (1, 3, H, W), not clamped: some values may lie outside [0, 1].
    """
    ### BEGIN SOLUTION

    def power(covariance, exponent):
        values, vectors = torch.linalg.eigh(covariance)
        return vectors @ torch.diag(values**exponent) @ vectors.T

    pixels, wanted = image[0].flatten(1), target[0].flatten(1)
    pixels = pixels - pixels.mean(1, keepdim=True)
    mean = wanted.mean(1, keepdim=True)
    wanted = wanted - mean
    A = power(wanted @ wanted.T / wanted.shape[1], 0.5)
    A = A @ power(pixels @ pixels.T / pixels.shape[1], -0.5)
    return (A @ pixels + mean).reshape(image.shape)
    ### END SOLUTION


# %% given=true


def colours_of(matched, image):
    """The colours (3, H·W) of a result of match_colours; fail unless it is as it has to be: one map
    A x + b gives them, the same for every pixel of the image."""
    assert matched is not None, "match_colours returned None; is a `return` missing?"
    assert isinstance(matched, torch.Tensor), f"expected a tensor, got a {type(matched).__name__}."
    assert matched.shape == image.shape, (
        f"match_colours(image, target): expected shape {tuple(image.shape)}, the image's, got"
        f" {tuple(matched.shape)}."
    )
    result, colours = (x.detach().double()[0].flatten(1) for x in (matched, image))
    assert result.isfinite().all(), (
        "match_colours(image, target) has values that are NaN or infinite: does a root, or an inverse,"
        " get the covariance of the colours?"
    )
    design = torch.cat([colours, torch.ones_like(colours[:1])]).T
    left_over = result.T - design @ torch.linalg.lstsq(design, result.T).solution
    assert left_over.abs().max() < 1e-3, (
        "pixels of equal colour don't get equal colours: one map A x + b has to serve every pixel"
        " of the image."
    )
    return result


mixed = torch.tensor([[0.6, 0.3, 0.0], [0.1, 0.5, 0.2], [0.3, 0.1, 0.2]], dtype=torch.float64)


# %% test="match_colours" points=1 aspect="colours that vary one by one"
# Waves of three lengths: no two colours vary together, so both covariances are diagonal.
places = (torch.arange(32).double() + 0.5) / 32, (torch.arange(20).double() + 0.5) / 20
waves = [torch.stack([(2 * torch.pi * f * at).cos() for f in (1, 2, 3)]) for at in places]
sizes = torch.tensor([[[0.1], [0.2], [0.3]], [[0.3], [0.15], [0.1]]]).double()
means = torch.tensor([[[0.5], [0.4], [0.6]], [[0.3], [0.7], [0.5]]]).double()
image = (means[0] + sizes[0] * waves[0]).reshape(1, 3, 4, 8)
target = (means[1] + sizes[1] * waves[1]).reshape(1, 3, 5, 4)
### BEGIN EXPECTED
right = reference.match_colours(image, target)[0].flatten(1)
mean, covariance = right.mean(1), right.cov(correction=0)
before, own_mean = image[0].flatten(1).cov(correction=0), image[0].flatten(1).mean(1)
of_mean = {
    "the target's mean is not added": torch.zeros(3),
    "the image's own mean is added, not the target's": own_mean,
    "both means are added": own_mean + mean,
}
of_covariance = {
    "only the mean is moved": before,
    "the colours are whitened, but not given the target's covariance": torch.eye(3),
    "the colours are not whitened first: A is Σ_target's root alone": covariance @ before,
    "the colours are multiplied by Σ_target, not by its root, after whitening": (
        covariance @ covariance
    ),
    "A is Σ_target · Σ_image⁻¹, without roots": covariance @ before.inverse() @ covariance,
    "image and target are swapped: the covariance is scaled the other way": (
        before @ covariance.inverse() @ before
    ),
    "the sums over pixels aren't divided by their numbers": covariance * 20 / 32,
    "it is divided by the number of pixels less one: Σ has 1/HW": (
        covariance * (20 / 19) * (31 / 32)
    ),
}
### END EXPECTED
result = colours_of(match_colours(image, target), image)
name = "the mean colour of match_colours(image, target)"
check_close(result.mean(1), mean, name, mistakes=of_mean, tolerance=1e-4)
name = "the covariance of the colours of match_colours(image, target)"
cov = result.cov(correction=0)
check_close(cov, covariance, name, mistakes=of_covariance, tolerance=1e-4)

# %% test="match_colours" points=2 aspect="colours that vary together"
image = torch.einsum("ij,njhw->nihw", mixed, noise(9, 1, 3, 6, 8))
target = 0.9 - torch.einsum("ji,njhw->nihw", mixed, noise(10, 1, 3, 4, 12)) ** 2
### BEGIN EXPECTED
right = reference.match_colours(image, target)[0].flatten(1)
mean, covariance = right.mean(1), right.cov(correction=0)
before = image[0].flatten(1).cov(correction=0)
root, own_root = torch.linalg.cholesky(covariance), torch.linalg.cholesky(before)


def after(A):
    """The covariance of the colours that A makes of the image's."""
    return A @ before @ A.T


def each(power):
    """A, if each channel is scaled on its own."""
    return (covariance.diag() / before.diag()).pow(power).diag()


mistakes = {
    "only the mean is moved": before,
    "each channel is scaled on its own, and how they vary together is left": after(each(0.5)),
    "each channel is scaled by a ratio of variances, not of standard deviations": after(each(1)),
    "the colours are whitened, but not given the target's covariance": torch.eye(3),
    "the colours are not whitened first: A is Σ_target's root alone": after(root),
    "A is Σ_target · Σ_image⁻¹, without roots": after(covariance @ before.inverse()),
    "A is transposed": after((root @ own_root.inverse()).T),
    "both factors of A are in the wrong order": after(own_root.inverse() @ root),
    "image and target are swapped: the covariance is scaled the other way": after(
        own_root @ root.inverse()
    ),
    "the roots are taken of each entry, not of the matrix": after(
        covariance**0.5 @ (before**0.5).inverse()
    ),
}
### END EXPECTED
result = colours_of(match_colours(image, target), image)
check_close(result.mean(1), mean, "the mean colour of match_colours", tolerance=1e-4)
name = "the covariance of the colours of match_colours(image, target)"
check_close(result.cov(correction=0), covariance, name, mistakes=mistakes, tolerance=1e-4)

# %% test="match_colours" points=1 aspect="other pictures"
# Other pictures and sizes are tried here.
### BEGIN HIDDEN TESTS
for number, (shape, target_shape) in enumerate(
    [((9, 4), (9, 4)), ((4, 9), (12, 3)), ((5, 7), (4, 6)), ((4, 6), (9, 7))]
):
    turn = 0.5 * mixed + 0.2 * noise(reference.seed, 3, 3)
    image = torch.einsum("ij,njhw->nihw", turn, noise(reference.seed + number, 1, 3, *shape))
    target = torch.einsum("ji,njhw->nihw", mixed, noise(reference.seed + 5, 1, 3, *target_shape))
    wanted = target[0].flatten(1)
    result = colours_of(match_colours(image.clone(), target.clone()), image)
    statistics = {"mean": lambda x: x.mean(1), "covariance": lambda x: x.cov(correction=0)}
    for name, statistic in statistics.items():
        check_close(
            statistic(result),
            statistic(wanted),
            f"the {name} for an image {shape} and a target {target_shape}",
            tolerance=1e-4,
        )
### END HIDDEN TESTS

# %%
matched = {
    "photograph": pagoda,
    "style's mean only": pagoda + (strokes - pagoda).mean((2, 3), keepdim=True),
    "mean and covariance": match_colours(pagoda, strokes),
    "style": strokes,
}
figure, axes = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
figure.suptitle("Mean and covariance carry the palette over")
for (above, below), (title, image) in zip(axes.T, matched.items(), strict=True):
    image = image.clamp(0, 1)
    above.imshow(image[0].permute(1, 2, 0).cpu())
    above.set_title(title)
    above.axis("off")
    dots = resize(image, (48, 48))[0].flatten(1).cpu()
    below.scatter(dots[0], dots[2], c=dots.T.numpy(), s=6)
    below.set(xlim=(0, 1), ylim=(0, 1), xlabel="red", ylabel="blue", aspect="equal")
plt.show()

# %% [markdown]
# Moving the mean leaves the cloud's form as it was. The covariance turns the cloud: in the
# photograph red and blue rise together, in the style they don't, nor in the result. The style's
# cloud is bent, though, and mean and covariance know nothing of bends.
#
# ## 6. The whole
#
# Now put it together. The picture that we are painting shall have the content of one image and the
# style of another, and be smooth:
#
# $$L_{\text{total}} = \alpha\, L_{\text{content}} + \beta\, L_{\text{style}} + \gamma\,
# L_{\text{tv}}$$
#
# What does it need to know? The network and its layers; what the content image and the style image
# make of these layers, which is computed *once*; and then, again and again, the image that is being
# painted. So it is a function that makes a function: `make_losses` gets all that stays, prepares
# the targets, and returns `losses`, which takes an image and nothing else. An optimiser can work
# with that.
#
# One decision more. A sum over 128 × 128 × 32 squares and a sum over a few Gram matrices are
# numbers of very different size, so α/β would mean something else for each picture. Each part is
# therefore divided by something of its own size:
#
# $$L_{\text{content}} = \frac{\sum (F - P)^2}{\sum P^2}, \qquad
#   L_{\text{style}} = \frac1{|S|} \sum_{\ell \in S}
#   \frac{\sum (G^\ell - A^\ell)^2}{\sum (G^\ell_0 - A^\ell)^2}, \qquad
#   L_{\text{tv}} = \frac{1}{hw} \sum (\text{differences})^2$$
#
# $G_0^\ell$ is the Gram matrix of the content image: where style is 1, nothing has been painted
# yet, and every one of the layers $S$ has an equal say. Where content is 1, it is lost.
#
# ### Exercise: `make_losses`
# ★★★ · 30 minutes
#
# Your losses come in as arguments, `measures`. In the figures these are your own four functions;
# the tests hand in simpler ones, so that a slip in one of yours costs nothing here. All of them
# take a weight, which is where the divisors go.
#
# <details><summary>Hint 1: a function that makes a function</summary>
#
# A `def losses(image):` within `make_losses` sees all the names around it: targets, weights,
# layers. Return it without calling it.
#
# </details>
# <details><summary>Hint 2: a layer's weight</summary>
#
# `style_measure(content_features, [layer], [target], [1.0])` is what one layer's style loss is at
# the start.
#
# </details>


# %% exercise="make_losses"
def make_losses(
    content, style, network, content_layer, style_layers, weights, measures, shares=(1.0,)
):
    """What there is to minimise, as a function of the image alone.

        L_total = α L_content + β L_style + γ L_tv

    Args:
        content: the content images, tensor (N, 3, h, w).
        style: the style images, tensor (M, 3, h', w').
        network: nn.Sequential; extract_features(image, network) gives the features of all layers.
        content_layer: int, the layer at which content is compared.
        style_layers: list of ints, the layers S at which style is compared.
        weights: (α, β, γ).
        measures: the functions (content_loss, gram_matrix, style_loss, tv_loss), or others with
            the same arguments. Another statistic may have another shape than a Gram matrix: it
            takes features (N, C, H, W) and gives one tensor for each image, (N, …).
        shares: M floats. The target A of a layer is Σ_m shares[m] · statistic of style image m,
            the same for each of the N images.

    Returns:
        losses: a function. losses(image), for images (N, 3, h, w), is the tuple (L_total, parts);
            parts is the tuple (L_content, L_style, L_tv), without α, β and γ. All are scalar
            tensors, and L_total can be differentiated for the image.
            L_content: content_loss at content_layer, with the weight 1 / Σ P², where P are the
                features of `content` there, all N images.
            L_style: style_loss, where a layer has the weight 1 / (|S| · its style_loss, with
                weight 1, of `content`).
            L_tv: tv_loss with the weight 1 / (h w).
    """
    ### BEGIN SOLUTION
    content_measure, statistic, style_measure, tv_measure = measures
    with torch.no_grad():
        content_features = extract_features(content, network)
        style_features = extract_features(style, network)
        targets, style_weights = [], []
        for layer in style_layers:
            each = statistic(style_features[layer])
            target = sum(share * one for share, one in zip(shares, each, strict=True))
            targets.append(target.expand(len(content), *target.shape))
            at_start = style_measure(content_features, [layer], targets[-1:], [1.0])
            style_weights.append(1 / (len(style_layers) * at_start))
        content_weight = 1 / content_features[content_layer].square().sum()
    tv_weight = 1 / content[0, 0].numel()

    def losses(image):
        features = extract_features(image, network)
        parts = (
            content_measure(
                content_weight, features[content_layer], content_features[content_layer]
            ),
            style_measure(features, style_layers, targets, style_weights),
            tv_measure(image, tv_weight),
        )
        return sum(weight * part for weight, part in zip(weights, parts, strict=True)), parts

    return losses
    ### END SOLUTION


# %% [markdown]
# The measures of the tests: absolute differences in place of squares, and of each channel its
# largest value in place of a Gram matrix.


# %% given=true
def probe_content(weight, current, original):
    """As content_loss, but with absolute differences."""
    return weight * (current - original).abs().sum()


def probe_statistic(features):
    """In place of Gram matrices: each channel's largest value, (N, C)."""
    return features.amax((2, 3))


def probe_style(feats, layers, targets, style_weights):
    """As style_loss, but with absolute differences of these statistics."""
    terms = zip(layers, targets, style_weights, strict=True)
    return sum(w * (probe_statistic(feats[at]) - target).abs().sum() for at, target, w in terms)


def probe_tv(img, weight):
    """As tv_loss, but between left and right: how far images are from being symmetric."""
    return weight * (img - img.flip(3)).abs().sum()


PROBES = (probe_content, probe_statistic, probe_style, probe_tv)


@run_beside
def total_and_gradient(losses, image):
    """The total for an image, and its gradient with respect to the image (None without one)."""
    image = image.clone().requires_grad_()
    total = losses(image)[0]
    gradient = None
    if isinstance(total, torch.Tensor) and total.requires_grad:
        (gradient,) = torch.autograd.grad(total.sum(), image, materialize_grads=True)
    return total, gradient


def called(losses, image):
    """The total and the three parts that losses gives for an image, each unwrapped."""
    assert losses is not None, "make_losses returned None; is a `return` missing?"
    assert callable(losses), "make_losses has to return a function, losses: return it uncalled."
    total, parts = check_tuple(losses(image), ("L_total", "parts"), "losses(image)")
    names = ("L_content", "L_style", "L_tv")
    parts = check_tuple(parts, names, "parts of losses(image)")
    for name, part in zip(names, parts, strict=True):
        size = abs(float(torch.as_tensor(part).detach()))
        assert size < float("inf"), (  # not NaN either
            f"{name} of losses(image) is {size}: something is divided by 0. The targets are the"
            " style's; where they are the content's, its loss at the start is 0."
        )
    return unwrap(total), [unwrap(part) for part in parts]


# %% test="make_losses" points=3 aspect="the parts"
content, style, image = noise(20, 1, 3, 8, 11), noise(21, 1, 3, 10, 9), noise(22, 1, 3, 8, 11)
test_network, style_layers = tiny_network(20), [3, 1]
losses = make_losses(content, style, test_network, 4, style_layers, (2.0, 3.0, 5.0), PROBES)
_, parts = called(losses, image)
### BEGIN EXPECTED


def values(image, **changes):
    """The parts for an image where some arguments of make_losses are others."""
    arguments = dict(content=content, style=style, network=test_network, content_layer=4)
    arguments |= dict(style_layers=style_layers, weights=(1, 1, 1), measures=PROBES) | changes
    return [part.detach() for part in reference.make_losses(**arguments)(image)[1]]


features, at_content, at_style = (
    [layer.detach() for layer in extract_features(x, test_network)] for x in (image, content, style)
)
statistics, at_start, targets = (
    [probe_statistic(x[layer]) for layer in style_layers] for x in (features, at_content, at_style)
)
plain = [(a - b).abs().sum() for a, b in zip(statistics, targets, strict=True)]
first = [(a - b).abs().sum() for a, b in zip(at_start, targets, strict=True)]
size, absolute = at_content[4].square().sum(), at_content[4].abs().sum()
difference, tv = (features[4] - at_content[4]).abs().sum(), probe_tv(image, 1.0)
expected = values(image)
of_content = {
    "it is weighted with α: the parts come without weights": 2 * expected[0],
    "it isn't divided by Σ P²": difference,
    "it is divided by Σ |P|, not by Σ P²": difference / absolute,
    "it is divided by the number of values, not by Σ P²": difference / features[4].numel(),
    "it is divided by what the image's features add up to, not those of the content": (
        difference / features[4].square().sum()
    ),
    "the layer is the last of style_layers, not content_layer": (
        values(image, content_layer=style_layers[-1])[0]
    ),
    "the layer is the first of style_layers, not content_layer": (
        values(image, content_layer=style_layers[0])[0]
    ),
    "it is the content's own loss: `losses` doesn't use its image": torch.tensor(0.0).double(),
    "the image's pixels are compared, not its features": (
        (image - content).abs().sum() / content.square().sum()
    ),
    "the divisor is the square of the sum, not the sum of the squares": (
        difference / at_content[4].sum() ** 2
    ),
}
of_style = {
    "it is weighted with β: the parts come without weights": 3 * expected[1],
    "a layer isn't divided by its loss at the start": sum(plain) / 2,
    "neither the number of layers nor the loss at the start divides": sum(plain),
    "it isn't divided by the number of layers": 2 * expected[1],
    "the sum is divided by the sum at the start, not each layer by its own": sum(plain)
    / sum(first),
    "only the last layer counts": plain[1] / first[1],
    "only the first layer counts": plain[0] / first[0],
    "half of the first layer is all that counts": plain[0] / first[0] / 2,
    "a layer is divided by its loss for the style image itself, or for no image": (
        sum(a / b.abs().sum() for a, b in zip(plain, targets, strict=True)) / 2
    ),
    "it is the content's own loss, 1: `losses` doesn't use its image": torch.tensor(1.0).double(),
}
of_tv = {
    "it is weighted with γ: the parts come without weights": 5 * expected[2],
    "it isn't divided by h · w": tv,
    "it is divided by 3 · h · w, not by h · w": tv / image.numel(),
    "it is divided by the style's h' · w'": tv / style[0, 0].numel(),
    "it is the content's, not the image's": probe_tv(content, 1 / 88),
    "it is divided by its value at the start": tv / probe_tv(content, 1.0),
    "it is divided by the height only": tv / 8,
}
### END EXPECTED
named = zip(
    ("L_content", "L_style", "L_tv"), parts, expected, (of_content, of_style, of_tv), strict=True
)
for name, part, value, mistakes in named:
    check_close(part, value, f"{name} of losses(image)", mistakes=mistakes, tolerance=1e-6)

# %% test="make_losses" points=1 aspect="the total"
content, style, image = noise(23, 1, 3, 8, 11), noise(24, 1, 3, 10, 9), noise(25, 1, 3, 8, 11)
weights = (2.0, 3.0, 5.0)
losses = make_losses(content, style, tiny_network(23), 4, [3, 1], weights, PROBES)
total, _ = called(losses, image)
value, gradient = total_and_gradient(losses, image)
### BEGIN EXPECTED
right = reference.make_losses(content, style, tiny_network(23), 4, [3, 1], weights, PROBES)
expected, slope = (tensor.detach() for tensor in total_and_gradient(right, image))
c, s, t = (part.detach() for part in right(image)[1])
mistakes = {
    "the weights are left out": c + s + t,
    "α and β are exchanged": 3 * c + 2 * s + 5 * t,
    "β and γ are exchanged": 2 * c + 5 * s + 3 * t,
    "L_tv is missing": 2 * c + 3 * s,
    "L_style is missing": 2 * c + 5 * t,
    "L_content is missing": 3 * s + 5 * t,
    "the weights are squared": 4 * c + 9 * s + 25 * t,
    "the sum is divided by that of the weights": expected / 10,
}
slopes = {
    f"nothing flows back through {name}, which is detached": total_and_gradient(
        reference.make_losses(content, style, tiny_network(23), 4, [3, 1], some, PROBES), image
    )[1]
    for name, some in [
        ("L_content", (0.0, 3.0, 5.0)),
        ("L_style", (2.0, 0.0, 5.0)),
        ("L_tv", (2.0, 3.0, 0.0)),
    ]
}
### END EXPECTED
check_close(total, expected, "L_total of losses(image)", mistakes=mistakes, tolerance=1e-6)
check_close(value, expected, "L_total, asked a second time", tolerance=1e-6)
assert gradient is not None, (
    "autograd finds no way back from L_total to the image; is it detached, or a plain number?"
)
name = "the gradient of L_total for the image"
check_close(gradient, slope, name, mistakes=slopes, tolerance=1e-6)

# %% test="make_losses" points=2 aspect="several images, and styles with shares"
content, style, image = noise(26, 2, 3, 8, 11), noise(27, 3, 3, 9, 10), noise(28, 2, 3, 8, 11)
test_network, shares = tiny_network(26), (0.2, 0.3, 0.5)
losses = make_losses(content, style, test_network, 2, [1, 4], (1.0, 1.0, 1.0), PROBES, shares)
_, parts = called(losses, image)
### BEGIN EXPECTED


def values(content=content, style=style, shares=shares, image=image):
    """The parts with other styles or shares."""
    made = reference.make_losses(content, style, test_network, 2, [1, 4], (1, 1, 1), PROBES, shares)
    return [part.detach() for part in made(image)[1]]


expected = values()
each = [values(content[n : n + 1], image=image[n : n + 1]) for n in range(2)]
of_style = {
    "shares are left out: the styles are averaged": values(shares=(1 / 3, 1 / 3, 1 / 3))[1],
    "shares are left out: the styles are added up": values(shares=(1, 1, 1))[1],
    "only the first style counts": values(style=style[:1], shares=(1,))[1],
    "only the first style counts, with its share": values(style=style[:1], shares=(0.2,))[1],
    "only the last style counts": values(style=style[2:], shares=(1,))[1],
    "the shares are in the wrong order": values(shares=shares[::-1])[1],
    "the style images are mixed, and not what the network makes of them": (
        values(
            style=torch.einsum("m,mchw->chw", torch.tensor(shares).double(), style)[None],
            shares=(1,),
        )[1]
    ),
    "only the first image counts": each[0][1],
    "each image has a loss of its own, and they are added up": each[0][1] + each[1][1],
    "each image is divided by its own loss at the start": (each[0][1] + each[1][1]) / 2,
}
of_content = {
    "only the first image counts": each[0][0],
    "each image is divided by its own Σ P², and they are added up": each[0][0] + each[1][0],
    "each image is divided by its own Σ P², and they are averaged": (each[0][0] + each[1][0]) / 2,
}
### END EXPECTED
named = zip(
    ("L_content", "L_style", "L_tv"), parts, expected, (of_content, of_style, {}), strict=True
)
for name, part, value, mistakes in named:
    words = f"{name} of losses(image) for two images and three styles"
    check_close(part, value, words, mistakes=mistakes, tolerance=1e-6)

# %% test="make_losses" points=2 aspect="other networks and layers"
# Other images, layers, weights and shares are tried here.
### BEGIN HIDDEN TESTS
for number, (N, M, size, style_size, content_layer, style_layers) in enumerate(
    [
        (1, 1, (9, 12), (9, 12), 1, [1]),
        (3, 2, (12, 8), (9, 10), 3, [4, 0, 2]),
        (2, 1, (8, 9), (12, 13), 0, [3, 1]),
    ]
):
    seed = reference.seed + 10 * number
    content, style = noise(seed, N, 3, *size), noise(seed + 1, M, 3, *style_size)
    shares = (1.0,) if M == 1 else (0.3, 0.9)
    weights = (0.5, 2.0, 0.25 * number)
    arguments = content, style, tiny_network(seed), content_layer, style_layers, weights, PROBES
    losses, right = (
        function(*arguments, *[shares][: M - 1])
        for function in (make_losses, reference.make_losses)
    )
    call = f"layers {content_layer} and {style_layers}, {N} images and {M} styles"
    for step in range(2):  # the same function, asked for another image
        image = noise(seed + 2 + step, N, 3, *size)
        total, parts = called(losses, image)
        expected, expected_parts = right(image)
        for name, part, value in zip(
            ("L_content", "L_style", "L_tv", "L_total"),
            [*parts, total],
            [*expected_parts, expected],
            strict=True,
        ):
            check_close(part, value.detach(), f"{name} for {call}", tolerance=1e-6)
    _, gradient = total_and_gradient(losses, image)
    assert gradient is not None, "autograd finds no way back from L_total to the image."
    slope = total_and_gradient(right, image)[1]
    check_close(gradient, slope, f"the gradient of L_total for {call}", tolerance=1e-6)
### END HIDDEN TESTS

# %% [markdown]
# With your own four losses, at one scale, from the photograph: what happens to the total, and to
# its parts, while L-BFGS paints?

# %%
painter = network[: relus[3] + 1]
style_layers = [0, *relus[:4]]
MEASURES = content_loss, gram_matrix, style_loss, tv_loss

content, style = resize(pagoda, (128, 128)), resize(strokes, (128, 128))
weights = 0.1, 1.0, 0.2
losses = make_losses(content, style, painter, relus[3], style_layers, weights, MEASURES)
history, pictures = [], {0: content}


def watched(image):
    """The total, which notes its parts, and the image now and then, on the way."""
    total, parts = losses(image)
    history.append([w * float(part.detach()) for w, part in zip(weights, parts, strict=True)])
    if len(history) in (10, 20, 60):
        pictures[len(history)] = image.detach().clone()
    return total


minimise(watched, content, 60)
history = np.array(history)
figure, axes = plt.subplots(
    1, 5, figsize=(13, 2.9), layout="constrained", width_ratios=[2.2, 1, 1, 1, 1]
)
figure.suptitle("Style falls while content is spent: what the total is made of")
for part, name, look in zip(
    history.T, ("0.1 · content", "1 · style", "0.2 · tv"), ("-", "--", ":"), strict=True
):
    axes[0].semilogy(range(1, len(history) + 1), part.clip(1e-5), look, linewidth=2, label=name)
axes[0].semilogy(range(1, len(history) + 1), history.sum(1), color="black", label="total")
axes[0].set(xlabel="evaluation", ylabel="loss", ylim=(1e-4, 2))
axes[0].grid(color="0.9")
axes[0].legend(fontsize=8)
for ax, (evaluation, picture) in zip(axes[1:], pictures.items(), strict=True):
    ax.imshow(picture[0].permute(1, 2, 0).clamp(0, 1).cpu())
    ax.set_title(f"evaluation {evaluation}" if evaluation else "the start")
    ax.axis("off")
plt.show()
start, end = history[0], history[-1]
for name, weight, before, after in zip(
    ("content", "style", "tv"), weights, start, end, strict=True
):
    print(f"L_{name:8} {before / weight:.3f} at the start, {after / weight:.3f} at the end")

# %% [markdown]
# At the start the content loss is 0 and the style loss 1, by the way in which you divided them.
# Then the total falls by trading: a little content is spent, and a lot of style comes in for it.
# The first few evaluations look for the length of a step; by the twentieth nine tenths of the total
# are gone. What comes after looks like little in the curve and isn't little in the picture, where
# the blue comes in. Without the divisors, the sizes of layers and images would decide which of the
# three curves lies on top, and descent sees little but the top.
#
# **A style of your own.** The next cell is yours: give it a picture, of any size and format, and
# paint the pagoda with it. Without one it takes a scene of the kind that our network grew up with.

# %% fold=false
from utils.images import load_image
from utils.scenes import make_scenes

MY_STYLE = None  # the name of an image file of yours, such as "mine.jpg"

if MY_STYLE is None:
    scene = make_scenes(8, np.random.default_rng(3)).tensors()[0][5:6].to(device)
    my_style = resize(scene, (128, 128))
else:
    my_style = preprocess(load_image(MY_STYLE, 128)).to(device)
losses = make_losses(content, my_style, painter, relus[3], style_layers, weights, MEASURES)
my_picture = minimise(lambda image: losses(image)[0], content, 60)
*_, parts = losses(my_picture)
contact_sheet(
    torch.cat([content, my_style, my_picture]),
    ["content", "your style" if MY_STYLE else "style: a scene", "painted"],
    columns=3,
    inches=2.4,
    heading="A style of your own: content {:.2f}, style {:.2f}".format(*parts),
)

# %% [markdown]
# Without a picture of your own: the ring, which you would have called the subject of the scene, is
# nowhere in the result. Dim ground in purple covers most of the scene, so it is most of what the
# Gram matrices hold, and the pagoda turns as dim; what the sky took over is the ring's turquoise. A style is what there is *much* of. The colours came along because the pixels' own Gram
# matrix is among the layers; section 5 showed a better way.
#
# **Coarse to fine.** One trick makes painting faster and strokes larger. A network's windows have a
# fixed size in pixels, so on a small version of the picture they cover more of it. Large strokes
# are painted there, at little cost; the result is enlarged and becomes the start of the next, finer
# scale.
#
# Your function is handed a function `prepare`, which is `make_losses` with all but its first two
# arguments filled in. Called with the content and the style *at one scale*, it returns a function
# `losses`; `losses(image)` is the tuple ($L_{\text{content}}$, $L_{\text{style}}$,
# $L_{\text{tv}}$).
#
# ### Exercise: `style_transfer`
# ★★★ · 30 minutes
#
# <details><summary>Hint 1: one scale</summary>
#
# Content and style at a scale are `resize(x, (round(scale * H), round(scale * W)))`, each with
# its own H and W. At this scale, $L_{\text{total}}$ is a function of the image: write it as a `def`
# or a `lambda`, and hand it to `minimise`.
#
# </details>
# <details><summary>Hint 2: from scale to scale</summary>
#
# The image starts as the content at the first scale. At every later one it is what the scale before
# has given, resized to the content's shape at the new scale.
#
# </details>


# %% given=true
def probe_losses(content, style):
    """Three bowls, for a test: their weighted sum is smallest at an image that is easy to tell."""

    def losses(image):
        if image.shape != content.shape:
            raise ValueError(
                f"prepare was called with content {tuple(content.shape)}, but the image is"
                f" {tuple(image.shape)}: call it anew at every scale, with the image's shape"
            )
        bowls = image - content, image - style.std(), image
        return tuple(bowl.square().sum() for bowl in bowls)

    return losses


def slope_losses(content, style):
    """For a test: the style is the differences of neighbours, which are slow to act far away."""

    def losses(image):
        off = image - resize(style, image.shape[2:])
        slopes = off.diff(dim=2).square().sum() + off.diff(dim=3).square().sum()
        return (image - content).square().mean(), slopes, image.square().mean()

    return losses


# %% exercise="style_transfer"
def style_transfer(content_image, style_image, prepare, weights, scales, steps):
    """Paint the content of one image in the style of another, coarse to fine.

    Args:
        content_image: tensor (1, 3, H, W) in [0, 1]; not modified.
        style_image: tensor (M, 3, H', W') in [0, 1]; not modified.
        prepare: function that takes content (1, 3, h, w) and style (M, 3, h', w') at one scale
            and returns a function `losses`; losses(image), for an image (1, 3, h, w), is the tuple
            (L_content, L_style, L_tv) of scalar tensors.
        weights: (α, β, γ).
        scales: floats, coarse to fine, for example (0.5, 1). At scale s, content and style are
            resized to s times their own height and width, rounded.
        steps: evaluations of L_total = α L_content + β L_style + γ L_tv by `minimise`, per scale.

    Returns:
        the image at the last scale, (1, 3, h, w) in [0, 1]. The first scale starts from the
        content, every other one from what the scale before gave, resized to the content's shape.
    """
    ### BEGIN SOLUTION
    image = None

    def total(losses, image):
        return sum(w * loss for w, loss in zip(weights, losses(image), strict=True))

    for scale in scales:
        content, style = (
            resize(x, [round(scale * side) for side in x.shape[2:]])
            for x in (content_image, style_image)
        )
        start = content if image is None else resize(image, content.shape[2:])
        image = minimise(partial(total, prepare(content, style)), start, steps)
    return image
    ### END SOLUTION


# %% test="style_transfer" points=2 aspect="one scale"
content, style = noise(11, 1, 3, 12, 20), noise(12, 1, 3, 10, 16)
for weights, steps in [((2.0, 3.0, 1.0), 10), ((0.0, 0.0, 0.0), 3)]:
    ### BEGIN EXPECTED
    a, b, c = weights

    def bowl(content=content, style=style, a=a, b=b, c=c):
        """Where the three bowls of probe_losses, so weighted, add up to the least."""
        return (a * content + b * style.std()) / (a + b + c)

    expected = reference.style_transfer(content, style, probe_losses, weights, (1,), steps)
    at_other_shape = resize(style, (12, 20))
    mistakes = {}
    if a:
        mistakes |= {
            "weights are left out": bowl(a=1, b=1, c=1),
            "weights are squared": bowl(a=4, b=9, c=1),
            "α and β are swapped": bowl(a=3, b=2),
            "β and γ are swapped": bowl(b=1, c=3),
            "the content loss is missing": bowl(a=0),
            "the style loss is missing": bowl(b=0),
            "the total variation is missing": bowl(c=0),
            "nothing is optimised: the content comes back": content,
            "content and style are swapped": bowl(at_other_shape, content),
            "the style is resized to the content's shape": bowl(style=at_other_shape),
            "the image is stretched to the style's shape": bowl(resize(content, (10, 16))),
        }
    else:
        mistakes |= {
            "it starts from the style": at_other_shape,
            "it starts from zeros": torch.zeros_like(content),
            "it starts from grey": torch.full_like(content, 0.5),
        }
    ### END EXPECTED
    name = f"style_transfer at scale 1 with weights {weights}"
    name += "" if any(weights) else ", which leave the image where it starts"
    image = style_transfer(content, style, probe_losses, weights, (1,), steps)
    check_close(image, expected, name, mistakes=mistakes, tolerance=1e-4)

# %% test="style_transfer" points=1 aspect="a smaller scale"
content, style, weights = noise(13, 1, 3, 12, 20), noise(14, 1, 3, 11, 16), (2.0, 3.0, 1.0)
### BEGIN EXPECTED
expected = reference.style_transfer(content, style, probe_losses, weights, (0.5,), 10)


def bowl(content, style):
    """Where the three bowls of probe_losses add up to the least."""
    return (2 * content + 3 * style.std()) / 6


half, half_style = resize(content, (6, 10)), resize(style, (6, 8))
mistakes = {
    "the style is left at its full size": bowl(half, style),
    "the style is resized to the content's shape": bowl(half, resize(style, (6, 10))),
    "the style's sides are rounded down": bowl(half, resize(style, (5, 8))),
    "the scale is ignored": bowl(content, style),
    "the result is enlarged to the content's size": resize(expected, (12, 20)),
}
### END EXPECTED
image = style_transfer(content, style, probe_losses, weights, (0.5,), 10)
check_close(image, expected, "style_transfer at scale 0.5", mistakes=mistakes, tolerance=1e-4)

# %% test="style_transfer" points=1 aspect="from scale to scale"
wave = 0.5 + 0.4 * torch.cos(torch.linspace(0, 2 * torch.pi, 24, dtype=torch.float64))
slow, turned = wave.expand(1, 3, 4, 24), wave.flip(0).roll(12).expand(1, 3, 4, 24)
weights, scales = (1e-3, 1.0, 0.0), (0.25, 0.5, 1)
images = {
    steps: style_transfer(slow, turned, slope_losses, weights, scales, steps) for steps in (4, 12)
}
if all(isinstance(image, torch.Tensor) for image in images.values()):
    assert torch.equal(images[4], slow) or not torch.equal(images[4], images[12]), (
        "4 steps and 12 give the same image: `steps` is ignored."
    )
for steps, image in images.items():
    ### BEGIN EXPECTED

    def painted(scales, start=slow, steps=steps):
        """What comes of these scales, where the first one starts from another image than it should
        while the content is compared with the right one."""

        def total(image):
            return sum(w * loss for w, loss in zip(weights, losses(image), strict=True))

        image = start
        for scale in scales:
            content, style = (
                resize(x, [round(scale * side) for side in x.shape[2:]]) for x in (slow, turned)
            )
            losses = slope_losses(content, style)
            image = minimise(total, resize(image, content.shape[2:]), steps)
        return image

    expected = reference.style_transfer(slow, turned, slope_losses, weights, scales, steps)
    mistakes = {
        "each scale starts from the content, not from what the one before has given": painted((1,)),
        "the first scale is all: the image of the last one is wanted": painted((0.25,)),
        "the result of the first scale is enlarged, and the others are left out": resize(
            painted((0.25,)), (4, 24)
        ),
        "the scales are taken in the wrong order": painted(scales[::-1]),
        "the scales are taken in the wrong order, and the last one counts": resize(
            painted(scales[::-1]), (4, 24)
        ),
        "the scale in the middle is left out": painted((0.25, 1)),
        "`steps` are shared among the scales": painted(scales, steps=max(1, steps // 3)),
        "the first scale starts from the style": painted(scales, turned),
    }
    ### END EXPECTED
    name = f"style_transfer at scales 0.25, 0.5 and 1 with {steps} steps"
    check_close(image, expected, name, mistakes=mistakes, tolerance=1e-3)

# %% test="style_transfer" points=1 aspect="other pictures and scales"
# Other pictures, weights, scales and losses are tried here.
### BEGIN HIDDEN TESTS
for number, (shape, style_shape, scales) in enumerate(
    [((7, 9), (12, 5), (0.6, 1)), ((16, 10), (8, 8), (0.25, 0.5))]
):
    content = noise(reference.seed + number, 1, 3, *shape)
    style = noise(reference.seed + 5, 1 + number, 3, *style_shape)
    arguments = probe_losses, (1.0 + number, 0.5, 0.25), scales, 6
    check_close(
        style_transfer(content.clone(), style.clone(), *arguments),
        reference.style_transfer(content, style, *arguments),
        f"style_transfer for content {shape}, style {style_shape}, scales {scales}",
        tolerance=1e-4,
    )
    arguments = slope_losses, (0.1, 1.0, 0.5), scales, 5
    check_close(
        style_transfer(content.clone(), style.clone(), *arguments),
        reference.style_transfer(content, style, *arguments),
        f"style_transfer with other losses for content {shape}, scales {scales}",
        tolerance=1e-3,
    )
### END HIDDEN TESTS

# %% [markdown]
# Now the two of them together, in the colours of the style. Content is compared at the fourth
# rectified layer; style at the first four and in the pixels themselves, whose Gram matrix is the
# palette. We keep β = 1.


# %%
def prepare(content, style, shares=(1.0,)):
    """The three losses at one scale, without weights; of several styles, each has its share."""
    losses = make_losses(
        content, style, painter, relus[3], style_layers, (1, 1, 1), MEASURES, shares
    )
    return lambda image: losses(image)[1]


def paint(content, style, alpha=0.1, beta=1.0, gamma=0.2, scales=(0.5, 1), steps=40):
    """Style transfer of a content that has been given the colours of the style."""
    start = match_colours(content, style).clamp(0, 1)
    return style_transfer(start, style, prepare, (alpha, beta, gamma), scales, steps)


photographs = {"pagoda": pagoda, "dahlia": dahlia}
if (picture := own.load(SIDE)) is not None:
    yours = preprocess(picture).to(device)
    if torch.linalg.eigvalsh(yours[0].flatten(1).cov())[0] > 1e-6:
        photographs["yours"] = yours
    else:  # a grey one, above all
        print("The Σ of your picture's colours can't be inverted: choose one with more colours.")
images, titles = [torch.zeros_like(pagoda) + 1, strokes, glass], ["", "brush strokes", "glass"]
for name, content in photographs.items():
    images += [content, paint(content, strokes), paint(content, glass)]
    titles += [name, "", ""]
contact_sheet(
    torch.cat(images),
    titles,
    columns=3,
    inches=3,
    heading="Content from the left, style from above",
)

# %% [markdown]
# No network was ever trained to paint, and this one has seen nothing but shapes on backgrounds; yet
# the roofs stay roofs, the petals become panes, and the sky, which has little content to lose, is
# given away to the style. Where it misleads: these four share one recipe, chosen because it looks
# good on them. "Looks good" is no measurement.
#
# Does coarse to fine matter? Sixty evaluations at the full size, or spread over two or three
# scales:

# %%
final_losses = prepare(match_colours(pagoda, strokes).clamp(0, 1), strokes)
images, titles = [], []
for scales, steps in [((1,), 60), ((0.5, 1), 30), ((0.25, 0.5, 1), 20)]:
    images.append(paint(pagoda, strokes, scales=scales, steps=steps))
    content_part, style_part, _ = (float(loss) for loss in final_losses(images[-1]))
    titles.append(
        f"scales {', '.join(map(str, scales))}\ncontent {content_part:.2f}, style {style_part:.2f}"
    )
contact_sheet(
    torch.cat(images),
    titles,
    columns=3,
    inches=3,
    heading="Coarse to fine paints larger strokes with the same sixty evaluations",
)

# %% [markdown]
# At one scale descent does what it can nearby: the style is a fine relief all over the photograph.
# With two, strokes are larger, the style loss is lower, and the work was less, as half the size has
# a quarter of the pixels. A third scale paints larger strokes still, but the style loss at full
# size is no lower, and the content moves further away: at a quarter of the size, the pagoda had
# 48 × 48 pixels. Nor is it always so: with the dahlia in brush strokes, each scale more makes the
# style loss higher. The choice is one of taste again.
#
# ## 7. Ratios, mixtures, and what it is good for
#
# **α against β.** Multiply all weights by ten, and the same image is best: only ratios matter. No
# ratio is the right one; it is the painter's choice. Five of them, from little content to much:

# %%
from ipywidgets import SelectionSlider

from utils.figures import explore

content, style = resize(pagoda, (128, 128)), resize(glass, (128, 128))
start = match_colours(content, style).clamp(0, 1)
losses = prepare(start, style)
ratios = [0.02, 0.1, 0.3, 1, 3]
images = [paint(content, style, alpha=ratio, steps=30) for ratio in ratios]
reached = np.array([[float(loss) for loss in losses(image)[:2]] for image in images])
contact_sheet(
    torch.cat(images),
    [f"α/β = {ratio:g}" for ratio in ratios],
    columns=5,
    inches=2,
    heading="From nearly all style to nearly all content",
)
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(reached[:, 0], reached[:, 1], "o-", color="0.3")
for ratio, (x, y) in zip(ratios, reached, strict=True):
    ax.annotate(f"  {ratio:g}", (x, y))
ax.set(
    xlabel="content loss", ylabel="style loss", title="What is gained in style is paid in content"
)
ax.margins(0.15)
plt.show()


# Names of their own, as the slider goes on using them when you are further down.
ratio_pictures = [torch.cat([content, image, style]).cpu() for image in images]
ratio_losses = reached


def show_ratio(ratio):
    """Content, what was painted at this ratio, and style; and where it lies on the curve."""
    number = ratios.index(ratio)
    figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
    figure.suptitle("Move along the curve")
    titles = ("content", f"α/β = {ratio:g}", "style")
    for ax, picture, title in zip(axes, ratio_pictures[number], titles, strict=False):
        ax.imshow(picture.permute(1, 2, 0))
        ax.set_title(title)
        ax.set_axis_off()
    axes[3].plot(ratio_losses[:, 0], ratio_losses[:, 1], "o-", color="0.6")
    axes[3].plot(*ratio_losses[number], "o", color="#D55E00", markersize=10)
    axes[3].set(xlabel="content loss", ylabel="style loss")


explore(show_ratio, ratio=SelectionSlider(options=ratios, value=0.1, description="α/β"))

# %% [markdown]
# The choice is one along a curve: what is gained in style is paid for in content. Towards the left
# the storeys turn into panes; beyond 1 the panes go, and what is left in the sky is grain rather
# than glass. The numbers hold only for these definitions of the losses.
#
# **Two styles mixed.** A Gram matrix is a target like any other, so targets can be averaged:
# `style_image` may hold several styles, and their Gram matrices get shares.

# %%
images, titles = [], []
both = torch.cat([resize(strokes, (128, 128)), resize(glass, (128, 128))])
palettes = [match_colours(content, style[None]) for style in both]
for share in (0, 0.25, 0.5, 0.75, 1):
    start = ((1 - share) * palettes[0] + share * palettes[1]).clamp(0, 1)
    mixture = partial(prepare, shares=(1 - share, share))
    images.append(style_transfer(start, both, mixture, (0.1, 1.0, 0.2), (0.5, 1), 30))
    titles.append(f"{share:.0%} glass")
contact_sheet(
    torch.cat(images),
    titles,
    columns=5,
    inches=2,
    heading="From brush strokes to stained glass: averaged Gram matrices",
)

# %% [markdown]
# Between the two lie pictures with panes *and* strokes. The average of two Gram matrices is what a
# picture would have that shows one style in half its area, and descent takes that liberty.
#
# **Whose colours?** The style's, so far. Your `match_colours` also works the other way round: give
# the *style* the photograph's colours first (Gatys et al., 2016, *Preserving Color in Neural
# Artistic Style Transfer*). Or transfer as before, and take over only the brightness.

# %%
content, style = resize(dahlia, (128, 128)), resize(strokes, (128, 128))
painted = paint(content, style, steps=30)
recoloured = match_colours(style, content).clamp(0, 1)
contact_sheet(
    torch.cat(
        [
            content,
            painted,
            paint(content, recoloured, steps=30),
            (content + (painted - content).mean(1, keepdim=True)).clamp(0, 1),
        ]
    ),
    ["photograph", "the style's colours", "style recoloured first", "brightness only"],
    inches=2.2,
    heading="Three answers to the question whose colours to keep",
)

# %% [markdown]
# Recolouring first gives the flower in its own colours, in strokes. Taking over the brightness
# keeps the hues too, but the style's light and dark come along: the night behind the flower has
# become day.
#
# **For understanding, and for training.** A stylised picture has the shapes of one thing and the
# texture of another, so it is an instrument: which of the two does a network go by? Geirhos et al.
# (2019) asked this of ImageNet's networks, found that they follow texture, and then *trained* on
# stylised images to change it: style transfer as **data augmentation**. Here are forty scenes,
# stylised all at once (your losses take batches), and what three of our networks make of them:
# `shape` was trained on scenes whose textures say nothing about the class, `robust` on adversarial
# images.

# %% fold="Figure: Stained glass costs every network more than half its accuracy"
scenes, labels = (x.to(device) for x in make_scenes(40, np.random.default_rng(1)).tensors())
style = resize(glass, (96, 96))
recoloured = torch.cat([match_colours(scene[None], style) for scene in scenes]).clamp(0, 1)
stylised = style_transfer(recoloured, style, prepare, (0.3, 1.0, 0.2), (1,), 25)

stages = {"as they are": scenes, "glass's colours": recoloured, "glass's style": stylised}
names = ["base", "shape", "robust"]
accuracies = np.zeros((3, 3))
for row, name in enumerate(names):
    classifier = load_model(name).to(device)
    for column, images in enumerate(stages.values()):
        with torch.no_grad():
            accuracies[row, column] = (classifier(images).argmax(1) == labels).float().mean()

contact_sheet(
    torch.cat([images[:8] for images in stages.values()]),
    [stage if n == 0 else "" for stage in stages for n in range(8)],
    inches=1.1,
    heading="The scenes, in the colours and then in the style of stained glass",
)
figure, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
for row, (name, colour) in enumerate(zip(names, ("0.2", "0.5", "0.8"), strict=True)):
    ax.bar(np.arange(3) + 0.27 * (row - 1), accuracies[row], 0.25, color=colour, label=name)
ax.axhline(0.1, color="black", linestyle=":", label="chance")
ax.set_xticks(range(3), stages)
ax.set(
    ylabel="accuracy",
    ylim=(0, 1.02),
    title="Stained glass costs every network more than half its accuracy",
)
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
for name, accuracy in zip(names, accuracies, strict=True):
    print(f"{name}: " + ", ".join(f"{value:.2f}" for value in accuracy))

# %% [markdown]
# The style's colours alone cost little. Its texture costs more than half of the accuracy, although
# you would still recognise most of the shapes. `robust` keeps the most, and is still wrong more
# often than right. `shape`'s lead over `base` shrinks with more scenes: that it was trained on
# objects with strange textures doesn't prepare it for a style that dissolves outlines and fills the
# background with outlines of its own. With forty scenes, differences below 0.15 mean nothing.
#
# ### Question: weights and labels
# ★★☆ · 10 minutes

# %% [markdown] question="weights_and_labels" points=4
# 1. A classmate reports "α/β = 0.1 gives the best pictures". (a) She moves the content loss from
#    the fourth rectified layer to the second. (b) She divides Gram matrices by H·W instead of
#    C·H·W. Is 0.1 still the same setting, with `make_losses` as above, and with losses that aren't
#    divided by anything? What should a report give instead of α/β?
# 2. You want to train on stylised scenes, so that a network stops going by texture. Which label
#    does a stylised scene get? Give one thing that the figures above warn you of, and how you would
#    notice.
#
# ### BEGIN SOLUTION
# 1 (2 points). (a) is another setting either way: another layer loses content differently. (b) With
# `make_losses` the factor C cancels, because each layer's style loss is divided by its own value at
# the start; with bare losses the style loss is multiplied by C² per layer, so 0.1 isn't the same (1
# point for both). Weights mean nothing without definitions: report the losses reached, relative to
# something of their own size (the start, another picture), or the whole curve of style loss against
# content loss, as in the figure (1 point).
#
# 2 (2 points). The content's label: its shape is what is to be learned (1 point). Warnings that
# earn the other point, each with a check: the style may destroy the shape, so that the label is
# wrong (look at them; ask people; keep α/β large enough; plot accuracy against α/β); a network can
# learn the few styles, or the transfer's own artefacts (hold styles out); `shape` loses half of its
# accuracy too, so robustness to one kind of texture change need not carry over to another (test on
# kinds of change that training had not seen). "More data is better" earns nothing.
# ### END SOLUTION

# %% [markdown]
# ## With an ImageNet network
#
# Your functions take any network that is an `nn.Sequential`. SqueezeNet has seen a million
# photographs instead of ten shapes; its weights are a download of 5 MB. CS231n's settings are used
# here: content at its fourth layer, style at four layers, the shallow ones weighted up.

# %%
from utils.models import WeightsUnavailable

try:
    squeezenet = load_model("squeezenet1_1").features.requires_grad_(False).to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    # One more than CS231n's indices, as the first layer normalises.
    content_layer, layers, style_weights = 4, [2, 5, 7, 8], [20_000.0, 500.0, 12.0, 1.0]

    def squeezenet_losses(content, style):
        content_features = extract_features(content, squeezenet)[content_layer]
        style_features = extract_features(style, squeezenet)
        targets = [gram_matrix(style_features[layer]) for layer in layers]

        def losses(image):
            features = extract_features(image, squeezenet)
            return (
                content_loss(1.0, features[content_layer], content_features),
                style_loss(features, layers, targets, style_weights),
                tv_loss(image, 1.0),
            )

        return losses

    images = [pagoda, strokes]
    for content, style in [(pagoda, strokes), (strokes, pagoda)]:
        arguments = squeezenet_losses, (0.05, 1.0, 0.05), (0.5, 1), 60
        images.append(style_transfer(content, style, *arguments))
    contact_sheet(
        torch.cat(images),
        ["pagoda", "brush strokes", "pagoda as brush strokes", "brush strokes as pagoda"],
        inches=2.4,
        heading="The same functions with SqueezeNet, which knows colours",
    )

# %% [markdown]
# ## What you have now
#
# Two ways to describe a picture, by what is where and by what goes together, and the same descent
# that trains networks used to make pictures with them. You have also seen that a loss is not an
# eye: most figures here had a number that improved, and some a picture that did not.
