# %% [markdown]
# # Lab 03: Residual networks
#
# Twenty layers learn better than eight. So fifty should be better still? They are worse, even on
# the images that they are trained on. Then, in 2015, somebody added a plus sign, and networks of
# up to 152 layers won the ImageNet and COCO competitions of that year. You will put in this plus
# sign yourself: by hand, as a module, forty times in a row. And you will measure what it does, on
# the way forward and on the way back.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. A skip by hand | `residual_forward`, `residual_backward` | 35 |
# | 2. The block | `ResidualBlock` | 25 |
# | 3. What comes back | `gradient_norms` | 25 |
# | 4. A race | an answer in words | 20 |
# | 5. Many short paths (optional) | `path_contributions` | 25 |
# | 6. Starting as the identity | `zero_init_last_norm`, an answer in words | 30 |
# | 7. Taking blocks out (optional) | `remove_blocks` | 15 |
# | 8. ResNet-18 from your blocks | `make_resnet` | 45 |
#
# Without the two optional sections these are three hours. No other exercise needs them.
#
# The cell beneath each exercise is its test: **if it says nothing, your code is right so far**;
# otherwise it says in one sentence what is wrong. When your work is graded, other shapes and
# networks are tried as well. No exercise calls one that you wrote before, so a slip costs you only
# once. The figures do: they use your functions, and mean something once these are right.

# %% given=true
import copy
import zlib
from collections import OrderedDict
from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from utils.checks import (
    check_close,
    check_tuple,
    eval_numerical_gradient_array,
    run_beside,
)
from utils.changes import call_on_copies
from utils.guard import check_without
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def random_array(seed, *shape):
    """Normally distributed numbers, a NumPy array in float64."""
    return np.random.default_rng(seed).standard_normal(shape)


def random_tensor(seed, *shape):
    """Normally distributed numbers, a tensor in float64."""
    return torch.from_numpy(random_array(seed, *shape))


def randomised(network, seed):
    """The network in float64 with random weights, biases and BatchNorm statistics."""
    generator = torch.Generator().manual_seed(seed)
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5, generator=generator)
    return network


# %%
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"  # told apart by everybody

# %% [markdown]
# ## 1. A skip by hand
#
# A network of ordinary layers passes everything through everything: what layer 3 knows reaches
# layer 40 only if each layer between them learned to hand it on. He et al. (2016) let two layers
# compute not the new features but only what is to be *added* to the old ones, the **residual**
# $F(x)$. For vectors, with the layers written out:
#
# $$h = \mathrm{ReLU}(x W_1 + b_1), \qquad F(x) = h W_2 + b_2, \qquad
#   y = \mathrm{ReLU}\big(x + F(x)\big)$$
#
# The $x$ in the last term is the **skip**: it goes around both layers, on a path without weights.
# To do nothing, such a block has to learn $F = 0$ only. Two ordinary layers would have to learn the
# identity.
#
# ### Exercise: `residual_forward`
# ★☆☆ · 15 minutes


# %% exercise="residual_forward"
def residual_forward(x, w1, b1, w2, b2):
    """The forward pass of a residual block of two fully connected layers (He et al., 2016).

        h = ReLU(x w1 + b1),  out = ReLU(x + h w2 + b2)

    Args:
        x: input, one vector per row, float array (N, D).
        w1, b1: first layer, (D, H) and (H,).
        w2, b2: second layer, (H, D) and (D,).

    Returns:
        out: float array (N, D).
        cache: the tuple (x, w1, w2, h, out), which the way back will need; h is (N, H).
    """
    ### BEGIN SOLUTION
    h = np.maximum(x @ w1 + b1, 0)
    out = np.maximum(x + h @ w2 + b2, 0)
    return out, (x, w1, w2, h, out)
    ### END SOLUTION


# %% test="residual_forward" points=4
inputs = x, w1, b1, w2, b2 = [
    random_array(seed, *shape) for seed, shape in enumerate([(4, 3), (3, 5), (5,), (5, 3), (3,)])
]
result = residual_forward(*inputs)
out, cache = check_tuple(result, ("out", "cache"), "residual_forward(x, w1, b1, w2, b2)")
before = x @ w1 + b1
h = np.where(before > 0, before, 0)
branch = h @ w2 + b2
expected = np.where(x + branch > 0, x + branch, 0)
check_close(
    out,
    expected,
    "out",
    mistakes={
        "x isn't added: there is no skip": branch.clip(0),
        "x isn't added, and the last ReLU is missing": branch,
        "x is added after the last ReLU: first add, then the ReLU": branch.clip(0) + x,
        "the last ReLU is missing": x + branch,
        "the first ReLU is missing": (x + before @ w2 + b2).clip(0),
        "both ReLUs are missing": x + before @ w2 + b2,
        "the second bias is missing": (x + h @ w2).clip(0),
        "the first bias is missing": (x + (x @ w1).clip(0) @ w2 + b2).clip(0),
        "both biases are missing": (x + (x @ w1).clip(0) @ w2).clip(0),
        "ReLU(x) is added, not x": (x.clip(0) + branch).clip(0),
        "x is multiplied by the branch, not added": (x * branch).clip(0),
        "x is subtracted from the branch, not added": (branch - x).clip(0),
    },
)
parts = check_tuple(cache, ("x", "w1", "w2", "h", "out"), "cache")
for name, part, value in zip(
    ("x", "w1", "w2", "h", "out"), parts, (x, w1, w2, h, expected), strict=True
):
    check_close(
        part,
        value,
        f"{name} in the cache",
        mistakes={
            "h is taken before its ReLU": before,
            "out is taken before its ReLU": x + branch,
            "out is the branch without the skip": branch,
        },
    )
### BEGIN HIDDEN TESTS
for number, (N, D, H) in enumerate([(2, 6, 3), (1, 2, 7), (5, 4, 4)]):
    shapes = [(N, D), (D, H), (H,), (H, D), (D,)]
    inputs = [
        random_array(reference.seed + 5 * number + place, *shape)
        for place, shape in enumerate(shapes)
    ]
    name = f"residual_forward for N = {N}, D = {D}, H = {H}"
    out, cache = check_tuple(
        residual_forward(*(value.copy() for value in inputs)), ("out", "cache"), name
    )
    expected, expected_cache = reference.residual_forward(*inputs)
    check_close(out, expected, f"out of {name}")
    parts = check_tuple(cache, ("x", "w1", "w2", "h", "out"), f"cache of {name}")
    for part, value in zip(parts, expected_cache, strict=True):
        check_close(part, value, f"the cache of {name}")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `residual_backward`
# ★★☆ · 20 minutes
#
# Now back. A sum hands its upstream gradient to *both* of its terms, unchanged. So the gradient
# takes two ways down to $x$, and where two ways meet, they add. Without the last ReLU:
#
# $$\frac{\partial L}{\partial x} = \frac{\partial L}{\partial y}
#   \left(I + \frac{\partial F}{\partial x}\right)$$
#
# That $I$ is the point of it all: whatever the layers do to the gradient, even if they destroy it,
# the other part arrives.
#
# <details><summary>Hint 1: the order</summary>
#
# From the end: through the last ReLU, which passes the gradient where `out > 0`; then one copy
# straight on to `x`, and one through $W_2$, the first ReLU and $W_1$ to `x` as well.
#
# </details>
# <details><summary>Hint 2: one layer</summary>
#
# For $f = h W + b$ with upstream gradient $d$: $dh = d\, W^\top$, $dW = h^\top d$, and $db$ is the
# sum of $d$ over the batch. The shapes leave no other choice.
#
# </details>


# %% exercise="residual_backward"
def residual_backward(dout, cache):
    """The backward pass of a residual block of two fully connected layers.

    Args:
        dout: upstream gradient, float array (N, D).
        cache: the tuple (x, w1, w2, h, out) of the forward pass, where
            h = ReLU(x w1 + b1), (N, H), and out = ReLU(x + h w2 + b2), (N, D).
            A ReLU passes the gradient where its output is positive.

    Returns:
        The gradients (dx, dw1, db1, dw2, db2), each of its variable's shape: (N, D), (D, H), (H,),
        (H, D) and (D,). They are sums over the batch, where they are sums at all.
    """
    ### BEGIN SOLUTION
    x, w1, w2, h, out = cache
    dsum = dout * (out > 0)
    dhidden = (dsum @ w2.T) * (h > 0)
    dx = dsum + dhidden @ w1.T
    return dx, x.T @ dhidden, dhidden.sum(0), h.T @ dsum, dsum.sum(0)
    ### END SOLUTION


# %% test="residual_backward" points=5
x, w1, b1, w2, b2 = inputs = [
    random_array(seed, *shape)
    for seed, shape in enumerate([(4, 3), (3, 5), (5,), (5, 3), (3,)], start=10)
]
dout = random_array(15, 4, 3)
h = np.maximum(x @ w1 + b1, 0)
out = np.maximum(x + h @ w2 + b2, 0)
result = residual_backward(dout, (x, w1, w2, h, out))
names = ("dx", "dw1", "db1", "dw2", "db2")
gradients = check_tuple(result, names, "residual_backward(dout, cache)")


def autograd(target):
    """The gradients by autograd for a function of x and the branch, in torch."""
    variables = [torch.tensor(value, requires_grad=True) for value in inputs]
    x, w1, b1, w2, b2 = variables
    value = target(x, (x @ w1 + b1).relu() @ w2 + b2)
    return torch.autograd.grad(value, variables, torch.tensor(dout), materialize_grads=True)


right = autograd(lambda x, branch: (x + branch).relu())
# What `dout` gives without the mask of the last ReLU, or without that of the first.
no_last = autograd(lambda x, branch: x + branch)
mask = out > 0
open_hidden = (dout * mask) @ w2.T
no_first = [dout * mask + open_hidden @ w1.T, x.T @ open_hidden, open_hidden.sum(0)]
no_mask = [dout + dout @ w2.T @ w1.T, x.T @ (dout @ w2.T), (dout @ w2.T).sum(0)]
for place, (name, gradient) in enumerate(zip(names, gradients, strict=True)):
    expected = right[place].numpy()
    guesses = {
        "dout passes the last ReLU everywhere: only where out > 0": no_last[place].numpy(),
    }
    if place < 3:
        guesses["the gradient passes the first ReLU everywhere: only where h > 0"] = no_first[place]
        guesses["both ReLUs are passed everywhere: only where h > 0 and out > 0"] = no_mask[place]
    if place == 0:
        through = expected - dout * mask
        guesses |= {
            "the skip is missing: x also gets the gradient of the sum": through,
            "only the skip is there: x also gets what comes through the layers": dout * mask,
            "the skip hands on dout as it is: the last ReLU is above the sum": through + dout,
            "the skip isn't masked, and neither is the branch": no_last[place].numpy(),
            "the two ways are multiplied: gradients that meet add": through * (dout * mask),
            "the skip is counted twice": through + 2 * dout * mask,
        }
    else:
        guesses["the mean over the batch is taken: it is a sum"] = expected / len(x)
    check_close(gradient, expected, name, mistakes=guesses)
### BEGIN HIDDEN TESTS
for number, (N, D, H) in enumerate([(2, 6, 3), (1, 2, 7), (5, 4, 4)]):
    shapes = [(N, D), (D, H), (H,), (H, D), (D,), (N, D)]
    *inputs, dout = (
        random_array(reference.seed + 6 * number + place, *shape)
        for place, shape in enumerate(shapes)
    )
    _, cache = reference.residual_forward(*inputs)
    name = f"residual_backward for N = {N}, D = {D}, H = {H}"
    names = ("dx", "dw1", "db1", "dw2", "db2")
    result = residual_backward(dout.copy(), tuple(value.copy() for value in cache))
    gradients = check_tuple(result, names, name)
    for part, gradient, expected in zip(
        names, gradients, reference.residual_backward(dout, cache), strict=True
    ):
        check_close(gradient, expected, f"{part} of {name}")
### END HIDDEN TESTS

# %% [markdown]
# The numerical gradient is the judge whom one can take everywhere:

# %%
inputs = [
    random_array(seed, *shape)
    for seed, shape in enumerate([(4, 3), (3, 5), (5,), (5, 3), (3,)], start=20)
]
dout = random_array(25, 4, 3)
gradients = residual_backward(dout, residual_forward(*inputs)[1])
for place, name in enumerate(("dx", "dw1", "db1", "dw2", "db2")):

    def out_for(value, place=place):
        return residual_forward(*inputs[:place], value, *inputs[place + 1 :])[0]

    numerical = eval_numerical_gradient_array(out_for, inputs[place], dout)
    print(f"{name:4} largest difference {np.abs(numerical - gradients[place]).max():.0e}")

# %% [markdown]
# Now the two functions in a stack of 40 blocks, 32 numbers wide. Weights are drawn with the
# deviation $s\,\sqrt{2/n}$, where $n$ is the number of a layer's inputs; $s = 1$ is the choice by
# which ReLU layers neither shrink nor grow their signals on average (He et al., 2015). Beside it, a
# stack of the same layers without the skips. A random gradient is sent in at the top.

# %%
WIDTH, DEPTH = 32, 40


def norms_going_back(skip, scale, generator):
    """The gradient's norm above and below each of DEPTH blocks, from the input to the top."""
    x, caches = generator.standard_normal((64, WIDTH)), []
    deviation = scale * np.sqrt(2 / WIDTH)
    for _ in range(DEPTH):
        w1, w2 = deviation * generator.standard_normal((2, WIDTH, WIDTH))
        if skip:
            x, cache = residual_forward(x, w1, np.zeros(WIDTH), w2, np.zeros(WIDTH))
        else:
            h = np.maximum(x @ w1, 0)
            x = np.maximum(h @ w2, 0)
            cache = w1, w2, h, x
        caches.append(cache)
    gradient = generator.standard_normal(x.shape)
    norms = [np.linalg.norm(gradient)]
    for cache in reversed(caches):
        if skip:
            gradient = residual_backward(gradient, cache)[0]
        else:
            w1, w2, h, out = cache
            gradient = ((gradient * (out > 0)) @ w2.T * (h > 0)) @ w1.T
        norms.append(np.linalg.norm(gradient))
    return np.array(norms[::-1]) / norms[0]


figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
figure.suptitle("Small weights starve the plain stack of gradient; with skips they are harmless")
styles = {0.1: (BLUE, "-"), 0.5: (GREEN, "--"), 1.0: (ORANGE, "-."), 1.5: (PINK, ":")}
for ax, skip in zip(axes, (False, True), strict=True):
    for scale, (colour, line) in styles.items():
        norms = norms_going_back(skip, scale, np.random.default_rng(0))
        ax.semilogy(norms, line, color=colour, linewidth=2, label=f"s = {scale}")
        print(
            f"{'residual' if skip else 'plain':8} s = {scale}: {norms[0]:.0e} arrives at the input"
        )
    ax.set(xlabel="blocks below", ylim=(1e-14, 1e18))
    ax.set_title("with skips" if skip else "plain")
    ax.grid(color="0.9")
axes[0].set_ylabel("gradient's norm (at the top: 1)")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Read each curve from the right, where the gradient comes in, to the left, where it arrives. The
# plain stack is a product of 80 layers. The product of many numbers that are a little below 1 is
# nothing: at $s = 0.5$ the gradient is gone, and at $s = 0.1$ its curve leaves the picture at once.
# At $s = 1.5$ it explodes. Only near $s = 1$ does it arrive, and training will move the weights
# away from there. With skips, small weights do no harm, since beside the product there is always
# the $I$.
#
# But see the right half to its end: with skips, the curves for *large* weights rise even higher.
# $I + \partial F/\partial x$ protects from vanishing, not from exploding, and $s = 1$, just right
# for the plain stack, is too much here: each block *adds* to what it gets. Real residual networks
# keep $F$ small by BatchNorm, and by how they start (section 6).
#
# ## 2. The block
#
# In images the two layers are 3 × 3 convolutions, each with BatchNorm. Here they are without the
# skip, as a module; `in_channels`, `out_channels` and `stride` are those of the first convolution.


# %% given=true
class PlainBlock(nn.Module):
    """Two 3 × 3 convolutions, each with BatchNorm and ReLU: (N, in, H, W) to (N, out, …)."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


# %% [markdown]
# The residual block of ResNet-18 and -34 adds the skip where it was in section 1, **before** the
# last ReLU:
#
# $$y = \mathrm{ReLU}\big(S(x) + F(x)\big), \qquad
#   F = \text{BN}_2 \circ \text{conv}_2 \circ \mathrm{ReLU} \circ \text{BN}_1 \circ \text{conv}_1$$
#
# Where $F$ keeps the shape, $S(x) = x$. At the few places where a network halves the size or gets
# more channels, $x$ doesn't fit any more, and $S$ is a **projection**: a 1 × 1 convolution with the
# stride of the block, and BatchNorm. Everywhere else $S$ is the identity and has no weights. That
# is the point of the skip: the signal, and the gradient, can pass it unchanged.
#
# ### Exercise: `ResidualBlock`
# ★★☆ · 25 minutes
#
# <details><summary>Hint: two shortcuts, one forward</summary>
#
# `nn.Identity()` is a module that hands on its input, `nn.Sequential(…)` can hold the projection.
# Either of them can be `self.shortcut`.
#
# </details>


# %% exercise="ResidualBlock"
class ResidualBlock(PlainBlock):
    """The basic block of He et al. (2016): y = ReLU(S(x) + BN(conv(ReLU(BN(conv(x)))))).

    The branch has the layers of PlainBlock, which are there already: conv1, bn1, conv2 and bn2. S
    is the identity, without any parameter, where x has the shape of the branch's output already:
    stride 1 and in_channels = out_channels. Otherwise S is a 1 × 1 convolution with the stride,
    without a bias, and BatchNorm, with nothing after it. They are an nn.Conv2d and an
    nn.BatchNorm2d, made in __init__.

    Args:
        in_channels, out_channels: the number of channels of x and of the result.
        stride: of the first convolution, and of the projection.
    """

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        ### BEGIN SOLUTION
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        ### END SOLUTION

    def forward(self, x):
        """From x, float tensor (N, in_channels, H, W), to (N, out_channels, H', W').

        H' is H / stride, rounded up; W' likewise. x is not modified.
        """
        ### BEGIN SOLUTION
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(hidden)))
        ### END SOLUTION


# %% [markdown]
# The shape of the output says nothing about a block: it is right without any skip, too. So the test
# puts random weights into your block, lets it work, and computes from the same weights what should
# come out. It finds the layers by what they do, not by their names.


# %% given=true
@run_beside
def entry_shapes(block):
    """The shapes of a block's parameters and buffers by name; what has two names has one here."""
    entries = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    return {name: tuple(entry.shape) for name, entry in entries.items()}


@run_beside
def at_work(block, state, x, training, upstream):
    """Put values into a block's parameters and buffers, and run it once, in float64.

    Returns:
        The output; the gradient of sum(output · upstream) for x, or None where none is to be had;
        x after the run; and the parameters and buffers after the run.
    """
    block.double().train(training)
    entries = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    with torch.no_grad():
        for name, value in state.items():
            entries[name].copy_(value)
    variable = x.clone().requires_grad_()
    copied = variable * 1  # not a leaf: what is written into it in place can be noticed
    output, gradient = block(copied), None
    fits = isinstance(output, torch.Tensor) and output.shape == upstream.shape
    if fits and output.requires_grad and torch.equal(copied, x):
        gradient = torch.autograd.grad(output, variable, upstream, materialize_grads=True)[0]
    after = {name: entries[name].detach() for name in state}
    return output, gradient, copied.detach(), after


OF_NORM = ("weight", "bias", "running_mean", "running_var")  # a BatchNorm's entries


def check_layers(shapes, in_channels, out_channels, projects, name):
    """Fail unless a block has the layers of a residual block, by the shapes of their entries.

    Returns:
        The names of the 3 × 3 convolutions, of the 1 × 1 convolutions and of the BatchNorms.
    """
    layers = {}
    for entry, shape in shapes.items():
        layer, _, own = entry.rpartition(".")
        layers.setdefault(layer, {})[own] = shape
    norms = [layer for layer, own in layers.items() if "running_mean" in own]
    convs = [layer for layer, own in layers.items() if len(own.get("weight", ())) == 4]
    main = [layer for layer in convs if layers[layer]["weight"][2:] == (3, 3)]
    others = [layer for layer in convs if layer not in main]
    assert convs or norms, (
        f"{name}: there is no nn.Conv2d or nn.BatchNorm2d that __init__ made as an attribute of"
        " self; a plain list hides modules, and those made in forward are new at every call."
    )
    assert len(main) == 2, (
        f"{name}: expected two 3 × 3 convolutions, got {len(main)}; the shortcut is an identity or"
        " a 1 × 1 convolution."
    )
    assert len(others) <= 1 and all(layers[c]["weight"][2:] == (1, 1) for c in others), (
        f"{name}: beside the two 3 × 3 convolutions there may be one 1 × 1 convolution only."
    )
    assert others or not projects, (
        f"{name}: x doesn't fit the branch's output, so the shortcut must be a 1 × 1 convolution"
        " with BatchNorm; none was made."
    )
    assert not any("bias" in layers[conv] for conv in convs), (
        f"{name}: convolutions have no bias here."
    )
    found = sorted(layers[conv]["weight"] for conv in convs)
    expected = [(out_channels, in_channels, 3, 3), (out_channels, out_channels, 3, 3)]
    expected = sorted(expected + [(out_channels, in_channels, 1, 1)] * len(others))
    assert found == expected, (
        f"{name}: expected convolutions whose weights have the shapes {expected}, got {found}."
    )
    assert len(norms) == len(convs), (
        f"{name}: expected {len(convs)} BatchNorms, one after each convolution, got {len(norms)}."
    )
    for norm in norms:
        assert all(layers[norm].get(own) == (out_channels,) for own in OF_NORM), (
            f"{name}: each BatchNorm has a weight, a bias and running statistics of {out_channels}"
            " channels, those of the convolution before it."
        )
    return main, others, norms


def random_state(shapes, layers, seed):
    """Random values for the layers' parameters and statistics, in float64."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        layer, _, own = name.rpartition(".")
        if layer in layers and own in OF_NORM:
            value = torch.empty(shape, dtype=torch.float64)
            if own.startswith("running"):
                state[name] = value.uniform_(0.5, 1.5, generator=generator)
            else:
                state[name] = value.normal_(0, 0.5, generator=generator)
    return state


class Expected:
    """What comes out of a residual block if its layers are these, and what known mistakes give.

    Args:
        x: the input, which requires a gradient.
        layers: the entries of conv1, norm1, conv2, norm2, projection and its norm, a dict each, or
            None.
    """

    def __init__(self, x, layers, stride, training, projects):
        self.x, self.layers, self.stride, self.training = x, layers, stride, training
        conv1, norm1, _, norm2, projection, projection_norm = layers
        self.convolved = self.conv(x, conv1, stride)
        self.before = self.norm(self.convolved, norm1)
        self.branch = self.after(self.before.relu(), norm2)
        self.shortcut = self.unscaled = x
        if projection:
            self.unscaled = self.conv(x, projection, stride)
        if projects:
            self.shortcut = self.norm(self.unscaled, projection_norm)
        self.projects = projects
        self.output = (self.shortcut + self.branch).relu()

    @staticmethod
    def conv(x, layer, stride):
        """A convolution that keeps the size where the stride is 1."""
        return F.conv2d(x, layer["weight"], None, stride, layer["weight"].shape[-1] // 2)

    def norm(self, x, layer):
        """A BatchNorm."""
        mean, variance = layer["running_mean"].clone(), layer["running_var"].clone()
        return F.batch_norm(x, mean, variance, layer["weight"], layer["bias"], self.training)

    def after(self, hidden, norm2):
        """The end of the branch: the second convolution and a BatchNorm."""
        return self.norm(self.conv(hidden, self.layers[2], 1), norm2)

    def statistics(self):
        """The running mean and variance of each BatchNorm after the run, by its place in layers."""
        inputs = {1: self.convolved, 3: self.conv(self.before.relu(), self.layers[2], 1)}
        if self.projects:
            inputs[5] = self.unscaled
        found = {}
        for place, value in inputs.items():
            mean, variance = (
                self.layers[place][name].clone() for name in ("running_mean", "running_var")
            )
            F.batch_norm(value.detach(), mean, variance, training=self.training)
            found[place] = {"running_mean": mean, "running_var": variance}
        return found

    def mistakes(self):
        """What known mistakes would give, by their names."""
        x, branch, shortcut, before = self.x, self.branch, self.shortcut, self.before
        conv1, norm1, conv2, norm2, projection, projection_norm = self.layers
        linear = self.after(before, norm2)
        guesses = {
            "the shortcut isn't added: this is a plain block": branch.relu(),
            "the shortcut isn't added, and the last ReLU is missing": branch,
            "the shortcut is added after the last ReLU: first add, then the ReLU": (
                branch.relu() + shortcut
            ),
            "the last ReLU is missing": branch + shortcut,
            "the ReLU between the convolutions is missing": (linear + shortcut).relu(),
            "both ReLUs are missing": linear + shortcut,
            "the branch is missing: only the shortcut comes out": shortcut.relu(),
            "the shortcut goes through a ReLU of its own": (branch + shortcut.relu()).relu(),
            "the branch goes through a ReLU before the sum": (branch.relu() + shortcut).relu(),
            "the shortcut is multiplied, not added": (branch * shortcut).relu(),
            "the shortcut is added twice": (branch + 2 * shortcut).relu(),
            "one BatchNorm serves twice: each convolution needs one of its own": (
                (self.after(before.relu(), norm1) + shortcut).relu()
            ),
            "the first BatchNorm is missing": (
                (self.after(self.convolved.relu(), norm2) + shortcut).relu()
            ),
            "the second BatchNorm is missing": (
                (self.conv(before.relu(), conv2, 1) + shortcut).relu()
            ),
            "both BatchNorms of the branch are missing": (
                (self.conv(self.convolved.relu(), conv2, 1) + shortcut).relu()
            ),
            "the first ReLU comes before its BatchNorm": (
                (self.after(self.norm(self.convolved.relu(), norm1), norm2) + shortcut).relu()
            ),
            "the second BatchNorm comes after the sum": self.norm(
                self.conv(before.relu(), conv2, 1) + shortcut, norm2
            ).relu(),
        }
        if self.projects:
            guesses["the projection's BatchNorm isn't in the sum"] = (branch + self.unscaled).relu()
        elif projection:
            guesses["there is a projection where x fits already: the shortcut is the identity"] = (
                branch + self.norm(self.unscaled, projection_norm)
            ).relu()
        if self.stride != 1:
            late = self.norm(self.conv(x, conv1, 1), norm1).relu()
            late = self.norm(self.conv(late, conv2, self.stride), norm2)
            guesses["the first convolution has the stride, not the second"] = (
                late + shortcut
            ).relu()
        if conv1["weight"].shape == conv2["weight"].shape:
            twice = self.norm(self.conv(before.relu(), conv1, 1), norm2)
            guesses["both 3 × 3 convolutions are one module, called twice"] = (
                twice + shortcut
            ).relu()
            early = self.conv(self.norm(x, norm1).relu(), conv1, self.stride)
            early = self.conv(self.norm(early, norm2).relu(), conv2, 1)
            words = "BatchNorm and ReLU come before the convolutions, where they come after them"
            guesses[words] = early + self.unscaled
            guesses[f"{words}, but for the last ReLU"] = (early + self.unscaled).relu()
        return guesses


def check_block(block_class, in_channels, out_channels, stride, size, training, seed):
    """Fail unless the block computes what a residual block computes from the same weights."""
    mode = "training" if training else "eval"
    name = f"ResidualBlock({in_channels}, {out_channels}, stride={stride}) in {mode} mode"
    projects = stride != 1 or in_channels != out_channels
    x = random_tensor(seed, 3, in_channels, *size)
    rows, columns = (-(-side // stride) for side in size)
    upstream = random_tensor(seed + 1, 3, out_channels, rows, columns)
    block = block_class(in_channels, out_channels, stride)
    shapes = entry_shapes(block)
    main, others, norms = check_layers(shapes, in_channels, out_channels, projects, name)
    state = random_state(shapes, {*main, *others, *norms}, seed)
    output, gradient, x_after, after = at_work(block, state, x, training, upstream)
    assert isinstance(output, torch.Tensor), f"{name} returns no tensor; is a `return` missing?"
    output = output.detach()
    assert torch.equal(x_after, x), f"{name}: the input x is modified in place; don't write x += …."

    def layer(name):
        return {own: state[f"{name}.{own}"] for own in OF_NORM if f"{name}.{own}" in state}

    # Which layer stands where, nobody says: each assignment that the shapes allow is tried.
    assignments = [
        [first, norm1, second, norm2, *(others or [None]), *(rest or [None])]
        for first, second in permutations(main)
        if shapes[f"{first}.weight"] == (out_channels, in_channels, 3, 3)
        if shapes[f"{second}.weight"] == (out_channels, out_channels, 3, 3)
        for norm1, norm2, *rest in permutations(norms)
    ]
    variable = x.clone().requires_grad_()
    candidates = [
        Expected(variable, [at and layer(at) for at in places], stride, training, projects)
        for places in assignments
    ]

    def fits(value):
        return output.shape == value.shape and torch.allclose(output, value, rtol=1e-6, atol=1e-6)

    place = next((i for i, c in enumerate(candidates) if fits(c.output)), None)
    if place is None:  # Take the assignment for which the values are those of a mistake we know.
        known = (i for i, c in enumerate(candidates) if any(map(fits, c.mistakes().values())))
        place = next(known, 0)
    expected = candidates[place]
    check_close(output, expected.output, name, mistakes=expected.mistakes())
    (right,) = torch.autograd.grad(expected.output, variable, upstream, retain_graph=True)
    (of_branch,) = torch.autograd.grad(expected.branch, variable, upstream * (output > 0))
    assert gradient is not None, f"{name}: autograd finds no way from the output back to x."
    guesses = {
        "nothing goes back through the shortcut: is it detached?": of_branch,
        "nothing goes back through the branch: is it detached?": right - of_branch,
    }
    check_close(gradient, right, f"the gradient for x of {name}", mistakes=guesses)
    for norm, statistics in expected.statistics().items():
        for own, value in statistics.items():
            entry = f"{assignments[place][norm]}.{own}"
            check_close(after[entry], value, f"{entry} after {name}")
    count = 9 * out_channels * (in_channels + out_channels) + 4 * out_channels
    count += projects * (in_channels + 2) * out_channels
    made = sum(
        int(np.prod(shape))
        for entry, shape in shapes.items()
        if not entry.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    hint = ": a projection is made that isn't needed" if others and not projects else ""
    assert made == count, f"{name}: expected {count} parameters, got {made}{hint}."


# %% [markdown]
# **The identity**: same number of channels, stride 1, in both modes.

# %% test="ResidualBlock" points=5
for training in (True, False):
    check_block(ResidualBlock, 4, 4, 1, (5, 7), training, seed=30)
### BEGIN HIDDEN TESTS
for seed, (channels, size) in enumerate([(3, (6, 4)), (5, (3, 3))], start=reference.seed):
    for training in (True, False):
        check_block(ResidualBlock, channels, channels, 1, size, training, seed)
### END HIDDEN TESTS

# %% [markdown]
# **The projection**: more channels, half the size, or both.

# %% test="ResidualBlock" points=5
for in_channels, out_channels, stride in [(4, 6, 2), (4, 6, 1), (4, 4, 2)]:
    for training in (True, False):
        check_block(ResidualBlock, in_channels, out_channels, stride, (5, 8), training, seed=31)
### BEGIN HIDDEN TESTS
cases = [(6, 3, 1, (4, 5)), (2, 5, 3, (7, 9)), (5, 5, 2, (7, 4))]
for seed, (in_channels, out_channels, stride, size) in enumerate(cases, start=reference.seed):
    for training in (True, False):
        check_block(ResidualBlock, in_channels, out_channels, stride, size, training, seed)
### END HIDDEN TESTS

# %% [markdown]
# Stacks of your block, three stages of five: with the stem and the linear layer that is a network
# of 32 layers (projections aren't counted). It is told apart from its plain twin by the skips
# alone. The pictures to train on are cut from the scenes: six classes, 32 × 32 pixels around the
# object.

# %%
from utils.figures import contact_sheet
from utils.scenes import CLASS_NAMES, make_scenes

CLASSES, SIDE = 6, 32


def make_crops(count, seed):
    """Crops around the object from those of `count` scenes that are of the first CLASSES classes.

    Returns:
        crops: float32 (N, 3, SIDE, SIDE), values about 0; labels: int64 (N,).
    """
    scenes = make_scenes(count, np.random.default_rng(seed))
    images, labels = scenes.tensors()
    crops = []
    for image, mask in zip(images, scenes.masks, strict=True):
        row, column = (
            int(np.clip(np.mean(places) - SIDE / 2, 0, 64 - SIDE)) for places in np.nonzero(mask)
        )
        crops.append(image[:, row : row + SIDE, column : column + SIDE])
    chosen = labels < CLASSES
    return ((torch.stack(crops)[chosen] - 0.45) / 0.25).to(device), labels[chosen].to(device)


def make_stack(block, blocks_per_stage, seed=0):
    """A network of three stages of 8, 16 and 32 channels, with random weights.

    Args:
        block: the class of its blocks, such as PlainBlock or ResidualBlock.
        blocks_per_stage: n, for 6 n + 2 layers.

    Returns:
        nn.Sequential; its blocks are called "stage1.0", "stage1.1", …, "stage3.0", ….
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        parts, channels = OrderedDict(stem=stem), 8
        for stage, width in enumerate((8, 16, 32), start=1):
            strides = [2 if stage > 1 else 1] + [1] * (blocks_per_stage - 1)
            inputs = [channels] + [width] * (blocks_per_stage - 1)
            parts[f"stage{stage}"] = nn.Sequential(
                *(block(*each) for each in zip(inputs, [width] * len(inputs), strides, strict=True))
            )
            channels = width
        parts["head"] = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)
        )
        network = nn.Sequential(parts)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # as in section 1 with s = 1
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network.to(device, memory_format=torch.channels_last)


def block_names(network):
    """The names of a stack's blocks, from the first to the last."""
    return [
        f"{stage}.{number}"
        for stage, blocks in network.named_children()
        if stage.startswith("stage")
        for number in range(len(blocks))
    ]


train_images, train_labels = make_crops(1800, seed=3)
test_images, test_labels = make_crops(600, seed=4)
contact_sheet(
    (train_images[:12] * 0.25 + 0.45),
    [CLASS_NAMES[label] for label in train_labels[:12]],
    columns=12,
    inches=0.9,
    heading=f"{len(train_images)} crops to train on: the texture alone would tell the class",
)
plt.show()

plain, residual = make_stack(PlainBlock, 5), make_stack(ResidualBlock, 5)
with torch.no_grad():
    for name, network in [("plain", plain), ("residual", residual)]:
        count = sum(parameter.numel() for parameter in network.parameters())
        scores = tuple(network(train_images[:4]).shape)
        print(f"{name}: {count:,} parameters, scores of shape {scores}")

# %% [markdown]
# The two projections are all that the residual network has more. The skips themselves cost no
# parameter, and hardly any time.
#
# ## 3. What comes back
#
# How much of the loss's gradient arrives at each depth? For a layer with output $a$, a tensor for
# the whole batch, we want the norm
#
# $$\left\lVert \frac{\partial L}{\partial a} \right\rVert_2
#   = \sqrt{\sum_i \left(\frac{\partial L}{\partial a_i}\right)^2}, \qquad
#   L = \text{mean cross-entropy of the batch.}$$
#
# ### Exercise: `gradient_norms`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1: getting hold of an output</summary>
#
# `model.get_submodule("stage1.0")` is the module. A **forward hook** on it is called after it has
# run: `handle = module.register_forward_hook(hook)` with a function `hook(module, inputs, output)`
# that returns nothing. `handle.remove()` takes it away again.
#
# </details>
# <details><summary>Hint 2: its gradient</summary>
#
# `torch.autograd.grad(loss, outputs)` takes a list of tensors that the loss was computed from, and
# gives their gradients in the same order. Or tell each of them to `retain_grad()` before
# `loss.backward()`, and find the gradient in its `.grad`.
#
# </details>


# %% exercise="gradient_norms" changes="model.grad, model.statistics"
def gradient_norms(X, y, model, names):
    """The norm of the loss's gradient with respect to the outputs of some of a network's modules.

    The model runs in the mode that it is in, and comes back without hooks and in the same mode. Its
    parameters don't change; gradients left in their `.grad`, and BatchNorm statistics that moved,
    don't matter.

    Args:
        X: images, float tensor (N, 3, H, W).
        y: their classes, int64 tensor (N,).
        model: from images to class scores (N, C). The loss is the mean cross-entropy.
        names: a list of names of modules, as in model.get_submodule(name), in any order. Each of
            them runs once; nothing changes its output in place.

    Returns:
        norms: float tensor (len(names),), in the order of `names`: the square root of the sum of
            the squares over the whole gradient, batch included.
    """
    ### BEGIN SOLUTION
    outputs = {}

    def keep(name):
        def hook(module, inputs, output):
            outputs[name] = output

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        loss = F.cross_entropy(model(X), y)
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
    return torch.stack([gradient.norm() for gradient in gradients])
    ### END SOLUTION


# %% [markdown]
# The test has a small network of torchvision's blocks, from which it takes the layers one by one.


# %% given=true
def tiny_network(seed, training=False):
    """A small random network for the tests: from (N, 3, H, W) to three scores, in float64.

    A convolution "stem" (no ReLU follows it), five residual blocks "blocks.0" … "blocks.4", one
    "deep.inner.block" two levels down, and a "head".
    """
    inner = nn.Sequential(OrderedDict(block=BasicBlock(4, 4)))
    network = nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 4, 3, padding=1),
            blocks=nn.Sequential(*(BasicBlock(4, 4) for _ in range(5))),
            deep=nn.Sequential(OrderedDict(pool=nn.AvgPool2d(2), inner=inner)),
            head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        )
    )
    return randomised(network, seed).train(training)


TINY_LAYERS = ["stem", *(f"blocks.{number}" for number in range(5))]
TINY_LAYERS += ["deep.pool", "deep.inner.block", "head"]


def tiny_forward(network, X, left_out=()):
    """The scores of a tiny network without some layers, and each layer's output by name."""
    outputs = {}
    for name in TINY_LAYERS:
        X = X if name in left_out else network.get_submodule(name)(X)
        outputs[name] = X
    return X, outputs


def norms_and_mistakes(X, y, names, training, seed):
    """The gradient norms of a tiny network's layers, and what known mistakes would give."""
    network = tiny_network(seed, training)
    scores, outputs = tiny_forward(network, X)
    layers = [outputs[name] for name in names]

    def gradients(target):
        return torch.autograd.grad(target.sum(), layers, retain_graph=True)

    def norms(tensors):
        return torch.stack([tensor.detach().norm() for tensor in tensors])

    def of_parameters():
        loss = F.cross_entropy(tiny_forward(network, X)[0], y)
        parameters = [list(network.get_submodule(name).parameters()) for name in names]
        found = [torch.autograd.grad(loss, part, retain_graph=True) for part in parameters]
        return norms([torch.cat([one.flatten() for one in part]) for part in found])

    right = gradients(F.cross_entropy(scores, y))
    expected = norms(right)
    order = sorted(range(len(names)), key=lambda place: TINY_LAYERS.index(names[place]))
    return expected, {
        "the norms are in the order in which the modules run, not in that of names": (
            expected[order]
        ),
        "the norms are in the order of the way back, not in that of names": expected[order[::-1]],
        "the order of names is reversed": expected.flip(0),
        "the loss is the sum over the batch, where the mean is asked for": expected * len(X),
        "the square root is missing": expected**2,
        "the absolute values are added up: the norm is the root of the sum of squares": (
            torch.stack([gradient.abs().sum() for gradient in right])
        ),
        "the largest value is taken, not the norm": (
            torch.stack([gradient.abs().max() for gradient in right])
        ),
        "the root of the mean square is taken, not of the sum": (
            torch.stack([gradient.square().mean().sqrt() for gradient in right])
        ),
        "each image's norm is taken and averaged: the norm is over the whole batch": (
            torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in right])
        ),
        "the scores are differentiated, not the loss": lambda: norms(gradients(scores)),
        "the score of each image's class is differentiated, not the loss": lambda: norms(
            gradients(scores.gather(1, y[:, None]))
        ),
        "it is the norm of the outputs themselves, not of their gradients": lambda: norms(layers),
        "it is the gradient for the modules' parameters, not for their outputs": of_parameters,
        "the model runs in the other mode: leave it as it is": lambda: norms_and_mistakes(
            X, y, names, not training, seed
        )[0],
    }


# %% test="gradient_norms" points=6
names = ["blocks.3", "stem", "deep.inner.block", "blocks.0"]
X, y = random_tensor(40, 4, 3, 6, 9), torch.tensor([2, 0, 1, 1])
for training in (True, False):
    model = tiny_network(40, training)
    mode = "training" if training else "eval"
    norms = gradient_norms(X, y, model, list(names))
    expected, mistakes = norms_and_mistakes(X, y, names, training, seed=40)
    name = f"gradient_norms for {names} in {mode} mode"
    check_close(norms, expected, name, mistakes=mistakes, tolerance=1e-6)
### BEGIN HIDDEN TESTS
for seed, shape, training, names in [
    (0, (2, 3, 4, 6), True, TINY_LAYERS[:-1]),
    (1, (3, 3, 8, 5), False, ["deep.pool", "blocks.4", "blocks.1"]),
    (2, (1, 3, 5, 5), False, ["blocks.2"]),
]:
    seed += reference.seed
    X, y = random_tensor(seed, *shape), torch.arange(shape[0]) % 3
    model = tiny_network(seed, training)
    check_close(
        gradient_norms(X.clone(), y.clone(), model, list(names)),
        reference.gradient_norms(X, y, tiny_network(seed, training), names),
        f"gradient_norms for images {shape} and {len(names)} names",
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"functional": True, "hooks": True, "mixed": True, "gradients": True}
    model = awkward_network(reference.seed, parts=parts, **options)
    X, y = random_tensor(reference.seed, 4, 3, 9, 8), torch.tensor([2, 0, 4, 1])
    names = [model.maps[0], *model.blocks, model.maps[1]]
    expected = reference.gradient_norms(X, y, model, names)
    check_close(
        gradient_norms(X, y, model, list(names)),
        expected,
        "gradient_norms for a network with a forward of its own",
        tolerance=1e-6,
    )
### END HIDDEN TESTS

# %% [markdown]
# The two networks of 32 layers, untrained. Both have BatchNorm after every convolution and the
# weights of $s = 1$.

# %%
batch = train_images[:48], train_labels[:48]
figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
growth = {}
for name, network, colour, marker in [
    ("plain", plain, ORANGE, "s"),
    ("residual", residual, BLUE, "o"),
]:
    norms = gradient_norms(*batch, copy.deepcopy(network).train(), block_names(network)).cpu()
    growth[name] = (norms[0] / norms[-1]).item()
    ax.semilogy(range(1, 16), norms, color=colour, marker=marker, label=name)
    print(f"{name:8}: {growth[name]:.0f} times larger after the first block than after the last")
for first in (6, 11):
    ax.axvline(first, color="0.8", linestyle=":", zorder=0)
ax.set(xlabel="block (dotted: where a stage begins)", ylabel="gradient's norm", xticks=range(1, 16))
ax.set_title(
    f"Untrained, the gradient grows {growth['plain']:,.0f}-fold on its way down the plain stack,"
    f" {growth['residual']:.0f}-fold with skips",
    fontsize=11,
)
ax.grid(color="0.9")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The plain stack's line is straight on the logarithmic axis: every block multiplies the gradient by
# nearly the same factor, about 1.4. It *explodes*, although BatchNorm keeps the signal's
# size in order on the way forward: forward and back aren't mirror images. (Each pair of BatchNorm
# and ReLU brings a factor of about 1.2 at the start; Yang et al., 2019.) With skips the curve
# bends: within a stage the signal, to which each block adds, gets larger from block to block, so
# that later blocks change it, and the gradient, by a smaller part. Where a stage begins, the
# projection, with a BatchNorm of its own, starts the sum anew.
#
# Take this figure for what it is: the start. It says nothing yet about learning.
#
# ## 4. A race
#
# Four networks, the same crops in the same order, the same optimiser (AdamW, one-cycle schedule up
# to 0.01), 120 steps of 48 crops. It takes well under a minute on a laptop that does nothing else,
# and longer on a busy machine.

# %%
STEPS, BATCH = 120, 48


def train(network):
    """Train a network in place.

    Returns:
        losses: of each step, array (STEPS,); norms: after some steps, gradient norms by block.
    """
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, STEPS, pct_start=0.2)
    losses, norms, order = [], {}, []
    network.train()
    for step in range(STEPS):
        if step in (0, 30, 60, 119):
            norms[step] = gradient_norms(*batch, copy.deepcopy(network), block_names(network)).cpu()
        if len(order) < BATCH:
            order = torch.randperm(len(train_images), generator=generator)
        chosen, order = order[:BATCH].to(device), order[BATCH:]
        loss = F.cross_entropy(network(train_images[chosen]), train_labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    network.eval()
    return np.array(losses), norms


@torch.no_grad()
def accuracy(network, images=test_images, labels=test_labels):
    """The share of crops whose class gets the highest score."""
    return (network(images).argmax(1) == labels).float().mean().item()


def smooth(losses, window=10):
    """The mean over the last ten steps."""
    return np.convolve(losses, np.ones(window) / window, "valid")


racers = {
    "plain, 14 layers": make_stack(PlainBlock, 2),
    "plain, 32 layers": plain,
    "residual, 14 layers": make_stack(ResidualBlock, 2),
    "residual, 32 layers": residual,
}
LOOKS = {
    "plain, 14 layers": (ORANGE, ":"),
    "plain, 32 layers": (ORANGE, "-"),
    "residual, 14 layers": (BLUE, ":"),
    "residual, 32 layers": (BLUE, "-"),
}
records = {name: train(network) for name, network in racers.items()}

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
print("                      loss at the end    accuracy on the crops    on fresh ones")
for name, (losses, _) in records.items():
    colour, line = LOOKS[name]
    ax.plot(smooth(losses), line, color=colour, linewidth=2, label=name)
    seen = accuracy(racers[name], train_images, train_labels)
    print(f"{name:20} {losses[-10:].mean():13.2f} {seen:20.0%} {accuracy(racers[name]):20.0%}")
ax.axhline(np.log(CLASSES), color="0.6", linewidth=1)
ax.annotate(
    "guessing",
    (len(smooth(losses)) - 1, np.log(CLASSES)),
    (0, 4),
    color="0.4",
    textcoords="offset points",
    ha="right",
)
ax.set(xlabel="step", ylabel="training loss (mean of ten steps)", ylim=(0, None))
ax.set_title("Eighteen layers more ruin the plain network; the residual one can bear them")
ax.legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# The plain network of 32 layers hardly leaves guessing, on the very images that it is trained on;
# its little sister of 14 layers learns. He et al. call this **degradation**, and saw it with over a
# thousand times our training. With skips, 32 layers train.
#
# What the figure doesn't say: that deeper is better. This task is so easy that 14 layers are
# enough. Look at the two residual networks: the deeper one has the *higher* training loss, so by
# our own definition some degradation is left. Skips took away most of the harm of depth here, and
# not all of it; section 6 takes away the rest. The *use* of depth shows on tasks that need it. And
# 120 steps from one seed are a sprint: the plain network may get further in a longer race, if not
# as far.
#
# Did the gradient vanish in the plain network? We have measured it on the way.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
figure.suptitle("At no time of the race does the deep plain network's gradient vanish")
for ax, kind in zip(axes, ("plain", "residual"), strict=True):
    norms = records[f"{kind}, 32 layers"][1]
    for shade, marker, (step, values) in zip(
        (0.0, 0.3, 0.55, 0.8), "osD^", norms.items(), strict=True
    ):
        label = f"after {step} steps" if step else "at the start"
        colour = plt.get_cmap("viridis")(shade)
        ax.semilogy(range(1, 16), values, color=colour, marker=marker, markersize=4, label=label)
    ax.set(xlabel="block", title=f"{kind}, 32 layers", xticks=range(1, 16, 2))
    ax.grid(color="0.9")
    at_first_block = (f"{values[0]:.2f} at step {step}" for step, values in norms.items())
    print(f"{kind}: gradient's norm after block 1:", ", ".join(at_first_block))
axes[0].set_ylabel("gradient's norm")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# So the popular answer, "skips cure vanishing gradients", isn't what happened here: with BatchNorm
# the gradient's norm in the plain network was *large* at the start. Later on it goes up and down,
# other seeds give other curves, and it is about as large as in the residual network or a few times
# larger. He et al. (2016) report healthy norms of theirs as well. A norm tells how long a
# gradient is, and not whether it points somewhere useful. Balduzzi et al. (2017) looked at that: in
# deep plain networks the gradients of two nearly equal inputs are as unlike as white noise, and
# with skips they are much more alike.
#
# ### Question: two explanations
# ★★☆ · 15 minutes

# %% [markdown] question="degradation" points=4
# 1. A friend sees the race and says: "Of course, the deeper network overfits." Which numbers say
#    that this isn't so?
# 2. Show that a plain network of 32 layers *could* have fitted the training crops at least as well
#    as the one of 14: how would you set its weights? (A block that follows a ReLU gets no negative
#    values. Leave BatchNorm aside, or say what it has to do.) What, then, is the skip good for?
#
# ### BEGIN SOLUTION
# 1 (1 point). Overfitting means low training loss and a gap between training and test. The deep
# plain network has a high *training* loss and a low accuracy on the crops that it was trained on,
# about the same as on fresh ones.
#
# 2 (3 points). Copy the 14 layers and let the further blocks be the identity (1 point): each kernel
# has a 1 in its centre from channel i to channel i and zeros elsewhere, and ReLU doesn't change
# what is not negative; BatchNorm has to undo its own scaling, with γ equal to the standard
# deviation and β to the mean (1 point for both; with BatchNorm left aside, for the kernels). So the
# deep network contains the shallow one: it is not the capacity that is missing, it is the
# optimiser that doesn't find such weights from a random start. A residual block is the identity (of
# what isn't negative) with F = 0, which is near its start and which it need not find: the skip
# makes learning easier, it doesn't make more functions possible (1 point).
# ### END SOLUTION

# %% [markdown]
# ## 5. Many short paths (optional)
#
# Follow the signal through three residual blocks without ReLUs around them. At each block it goes
# straight on or through the branch, so there are $2^3 = 8$ **paths**:
#
# $$(I + F_3)(I + F_2)(I + F_1)\,x = x + F_1 x + F_2 x + F_3 x
#   + F_2 F_1 x + F_3 F_1 x + F_3 F_2 x + F_3 F_2 F_1 x$$
#
# Veit et al. (2016) proposed to see a residual network as such a collection of paths of all
# lengths. For 110 layers in 54 blocks there are $2^{54}$ of them, and only one goes through
# everything. Which of them carry the signal? Sort by length: let $c_k$ be the sum of all that has
# gone through exactly $k$ branches. In the example, $c_0 = x$, and $c_1$ has three terms. Nobody
# has to add up $2^{54}$ paths, however.
#
# ### Exercise: `path_contributions`
# ★★☆ · 25 minutes · optional
#
# <details><summary>Hint</summary>
#
# Go block by block, with a list of what has come through 0, 1, 2, … branches so far. What goes
# through $k$ branches of $l + 1$ blocks went through $k$ of the first $l$ and straight on, or
# through $k - 1$ of them and then through the new branch. Don't change a sum that you still need.
#
# </details>


# %% exercise="path_contributions"
def path_contributions(x, weights):
    """The output of a stack of linear residual blocks x → x + x W, split by the paths' lengths.

    Args:
        x: the input, one vector per row, float array (N, D).
        weights: a list of L arrays (D, D), first block first; possibly empty.

    Returns:
        contributions: float array (L + 1, N, D). contributions[k] is the sum over all paths that go
            through exactly k branches and straight on at the other L − k blocks. All together they
            add up to the stack's output.
    """
    ### BEGIN SOLUTION
    contributions = np.zeros((len(weights) + 1, *x.shape))
    contributions[0] = x
    for weight in weights:
        contributions[1:] += contributions[:-1] @ weight
    return contributions
    ### END SOLUTION


# %% test="path_contributions" points=5
from itertools import combinations

x, weights = random_array(50, 2, 3), [random_array(51 + number, 3, 3) for number in range(4)]
contributions = path_contributions(x, list(weights))


def by_paths(x, weights):
    """Every path by itself, all 2 ** L of them, sorted by length."""
    total = np.zeros((len(weights) + 1, *x.shape))
    for length in range(len(weights) + 1):
        for branches in combinations(range(len(weights)), length):
            value = x
            for branch in branches:
                value = value @ weights[branch]
            total[length] += value
    return total


def updated_in_place():
    """What comes of it if c[k − 1] is replaced before c[k] needs it."""
    total = np.zeros((len(weights) + 1, *x.shape))
    total[0] = x
    for weight in weights:
        for k in range(1, len(weights) + 1):
            total[k] = total[k] + total[k - 1] @ weight
    return total


def straight_through():
    """Only the path through the first k branches, for each k."""
    total = [x]
    for weight in weights:
        total.append(total[-1] @ weight)
    return np.stack(total)


expected = by_paths(x, weights)
outputs = [x]
for weight in weights:
    outputs.append(outputs[-1] + outputs[-1] @ weight)
count = np.array([1, 4, 6, 4, 1])[:, None, None]
check_close(
    contributions,
    expected,
    "path_contributions(x, weights)",
    mistakes={
        "a sum is used after it has been replaced: c[k] needs the c[k − 1] from before the block": (
            updated_in_place
        ),
        "c[k] is only the path through the first k branches: add all paths of this length": (
            straight_through
        ),
        "it is the signal after k blocks, not what went through k branches": np.stack(outputs),
        "it is what block k adds to the signal, not what went through k branches": (
            np.stack([x, *np.diff(outputs, axis=0)])
        ),
        "the blocks are taken from the last to the first": lambda: by_paths(x, weights[::-1]),
        "the weights are transposed: a block gives x + x W, not x + W x": (
            lambda: by_paths(x, [weight.T for weight in weights])
        ),
        "the longest path comes first": expected[::-1],
        "the mean over the paths is taken: it is a sum": expected / count,
        "only the output is returned: split it by length": outputs[-1],
        "the longest path of all is missing": expected[:-1],
        "the path without a branch is missing": expected[1:],
        "these are running sums over k": expected.cumsum(0),
    },
)
### BEGIN HIDDEN TESTS
for number, (N, D, L) in enumerate([(3, 2, 6), (1, 4, 1), (2, 3, 0), (2, 3, 30)]):
    seed = reference.seed + 100 * number
    x = random_array(seed, N, D)
    weights = [0.5 * random_array(seed + 1 + place, D, D) for place in range(L)]
    check_close(
        path_contributions(x.copy(), [weight.copy() for weight in weights]),
        reference.path_contributions(x, weights),
        f"path_contributions for N = {N}, D = {D} and {L} blocks",
    )
### END HIDDEN TESTS

# %% [markdown]
# Thirty blocks of 64 numbers, with random weights whose branch makes a vector $s$ times as long.
# How many paths there are of each length is known without counting: $\binom{30}{k}$.

# %%
from math import comb

BLOCKS, D = 30, 64
generator = np.random.default_rng(0)
x = generator.standard_normal((200, D))
lengths = np.arange(BLOCKS + 1)
paths = np.array([comb(BLOCKS, k) for k in lengths]) / 2.0**BLOCKS

figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
ax.bar(lengths, paths, color="0.8", label="paths there are")
print(f"mean length of a path: {lengths @ paths:.1f} branches", end="")
print(f"; {paths[15:].sum():.0%} of the paths go through 15 or more")
for s, colour, marker in [(0.2, GREEN, "^"), (0.4, BLUE, "o"), (0.7, ORANGE, "s")]:
    weights = s / np.sqrt(D) * generator.standard_normal((BLOCKS, D, D))
    energy = np.square(path_contributions(x, list(weights))).sum((1, 2))
    share = energy / energy.sum()
    ax.plot(lengths, share, color=colour, marker=marker, markersize=4, label=f"signal, s = {s}")
    print(f"mean length of the signal's path, s = {s}: {lengths @ share:.1f} branches")
ax.set(xlabel="branches that a path goes through", ylabel="share")
ax.set_title("Most paths are long, and most of the signal takes short ones")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Grey: more than half of all paths go through 15 branches or more. But each multiplies by $s$, so a
# path of length $k$ carries $s^k$, and the long ones next to nothing, however many they are. For
# $s = 0.4$ the signal has gone through about four branches of thirty. The gradient comes back along
# the same paths, with the same products. A deep residual network works like a crowd of shallow
# ones, say Veit et al.; it doesn't make a signal come through 100 layers, it avoids the need.
#
# The limits: here blocks are linear and their weights random. With ReLUs a path depends on what the
# others carry, and no split into $2^n$ terms is exact. And $s$ is our choice. For large $D$ the
# share of length $k$ is $\binom{L}{k} s^{2k} / (1 + s^2)^L$, so we can move it: where does most of
# the signal go if branches are *stronger* than the skip? And does a deeper network send it through
# more branches, or through a larger share of them?

# %% fold="Move s and the depth: how many branches does the signal go through?"
from ipywidgets import FloatSlider, IntSlider

from utils.figures import explore


def draw_lengths(s, blocks):
    """Paths by their length, and the signal that they carry, in expectation."""
    lengths = np.arange(blocks + 1)
    count = np.array([comb(blocks, k) for k in lengths], dtype=float)
    paths, signal = count / 2.0**blocks, count * s ** (2.0 * lengths) / (1 + s**2) ** blocks
    _, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
    ax.bar(lengths, paths, color="0.8", label="paths there are")
    ax.plot(lengths, signal, color=BLUE, marker="o", markersize=4, label="signal")
    ax.set(xlabel="branches that a path goes through", ylabel="share", ylim=(0, None))
    ax.set_title(
        f"s = {s:.2f}: the signal has gone through {lengths @ signal:.1f} of {blocks} branches"
    )
    ax.legend(frameon=False)


explore(
    draw_lengths,
    s=FloatSlider(value=0.4, min=0.05, max=2, step=0.05),
    blocks=IntSlider(value=30, min=2, max=60),
)

# %% [markdown]
# At $s = 1$ the signal is spread as the paths are, and beyond it long paths win. The *share* of the
# branches depends on $s$ alone: $s^2 / (1 + s^2)$ of them, however deep the network.

# %% [markdown]
# ## 6. Starting as the identity
#
# If a residual block should begin by doing nothing, why not make it? Each BatchNorm ends with
# $\gamma \hat{x} + \beta$, where $\hat{x}$ is the normalised signal, and $\gamma$ (`weight`) starts
# at 1, $\beta$ (`bias`) at 0. Goyal et al. (2017) start the **last** BatchNorm of each residual
# block at $\gamma = 0$ instead, and everything else as always. Then $F = 0$, and a network of 32
# layers begins its life as its stem, its projections and its linear layer.
#
# ### Exercise: `zero_init_last_norm`
# ★★☆ · 15 minutes
#
# Your function should do for torchvision's blocks and for your own: a residual block is known by
# having a `bn2`. In a `Bottleneck`, a block of three convolutions, `bn3` comes after it.
#
# <details><summary>Hint</summary>
#
# `model.modules()` goes through all modules at any depth, and `hasattr(module, "bn2")` asks whether
# one is a block. `nn.init.zeros_(parameter)` sets values in place.
#
# </details>


# %% exercise="zero_init_last_norm" changes="model.value"
def zero_init_last_norm(model):
    """Let every residual block of a network start as its shortcut alone (Goyal et al., 2017).

    The last BatchNorm of a block's branch gets γ = 0: the `weight` of the block's bn3 if it has
    one, otherwise of its bn2. All else stays as it is: β, the other BatchNorms, those in the
    shortcuts included, and all convolutions.

    The model is changed in place. Its parameters stay the same objects (an optimiser may hold them)
    and can still be trained.

    Args:
        model: nn.Module with residual blocks at any depth. A module is a residual block if it has
            an attribute bn2. The model may also be a block itself.
    """
    ### BEGIN SOLUTION
    for module in model.modules():
        if hasattr(module, "bn2"):
            last = module.bn3 if hasattr(module, "bn3") else module.bn2
            nn.init.zeros_(last.weight)
    ### END SOLUTION


# %% given=true
def mixed_network(seed):
    """A small random network for the tests with both of torchvision's blocks, two with projections.

    In training mode, in float64. Its stem has a BatchNorm, called "stem.bn1".
    """

    def projection(in_channels, out_channels):
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, 2, bias=False), nn.BatchNorm2d(out_channels)
        )

    network = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(
                OrderedDict(conv1=nn.Conv2d(3, 4, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(4))
            ),
            stage1=nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 6, 2, projection(4, 6))),
            stage2=nn.Sequential(
                nn.Sequential(Bottleneck(6, 2, 2, projection(6, 8))), Bottleneck(8, 2)
            ),
            head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        )
    )
    return randomised(network, seed).train()


def check_zeroed(function, model, last):
    """Fail unless a function sets the parameters named in `last` to 0, in place, and no other."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    norms = {key for key, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    _, changed_model = call_on_copies(function, model)
    after = changed_model.state_dict()
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    zero = {key for key in changed if not after[key].any()}

    def of(names, kind="weight"):
        return {f"{name}.{kind}" for name in names}

    owners = {key.removesuffix(".weight") for key in last}
    in_blocks = {key for key in norms if not key.startswith("stem")}
    main = {key for key in in_blocks if "downsample" not in key}
    looks = {
        "β (`bias`) is set to 0, not γ (`weight`)": of(owners, "bias"),
        "both γ and β are set to 0: only γ should be": of(owners) | of(owners, "bias"),
        "all BatchNorms are set to 0": of(norms),
        "all BatchNorms inside of blocks are set to 0, the shortcuts' too": of(in_blocks),
        "all BatchNorms of the branches are set to 0, not only the last": of(main),
        "the shortcuts' BatchNorms are set to 0 as well": (
            of(owners) | {key for key in of(in_blocks) if "downsample" in key}
        ),
        "the BatchNorm defined last in a block is taken, which may be the shortcut's": of(
            {
                f"{block}.downsample.1" if f"{block}.downsample.1" in norms else owner
                for owner in owners
                for block in [owner.rpartition(".")[0]]
            }
        ),
        "a Bottleneck's bn2 is set to 0 as well, but bn3 alone is its last": (
            {key for key in of(main) if key.endswith(("bn2.weight", "bn3.weight"))}
        ),
        "bn2 is taken in every block, but a Bottleneck's last BatchNorm is bn3": (
            {key for key in of(main) if key.endswith("bn2.weight")}
        ),
        "Bottlenecks are left out": {key for key in last if key.endswith("bn2.weight")},
        "only Bottlenecks are dealt with": {key for key in last if key.endswith("bn3.weight")},
        "the first BatchNorm of each block is taken": {
            key for key in of(main) if key.endswith("bn1.weight")
        },
        "every bn1 is set to 0": {key for key in of(norms) if key.endswith("bn1.weight")},
        "the last convolution's weights are set to 0, not γ": {
            key.replace("bn", "conv") for key in last
        },
        "no block is found, as they lie deeper inside the model than its children or aren't"
        " torchvision's, or new parameters are made where values should be set in place": set(),
    }
    if changed != last or zero != last:
        looks = next((text for text, keys in looks.items() if keys == changed), None)
        if changed == last:
            looks = "γ is changed, but isn't 0"
        looks = f"; it looks as if {looks}" if looks else ""
        raise AssertionError(
            f"zero_init_last_norm changes {len(changed)} of the model's tensors{looks}. Expected 0"
            f" in {', '.join(sorted(last))}, and in nothing else."
        )


# %% test="zero_init_last_norm" points=5
check_zeroed(
    zero_init_last_norm,
    mixed_network(60),
    {"stage1.0.bn2.weight", "stage1.1.bn2.weight"}
    | {"stage2.0.0.bn3.weight", "stage2.1.bn3.weight"},
)
check_zeroed(  # a network whose blocks aren't torchvision's
    zero_init_last_norm,
    awkward_network(61, hooks=True),
    {"trunk.blocks.a.bn2.weight", "trunk.blocks.b.bn3.weight"},
)
### BEGIN HIDDEN TESTS
check_zeroed(zero_init_last_norm, mixed_network(reference.seed).stage1[1], {"bn2.weight"})
check_zeroed(
    zero_init_last_norm, mixed_network(reference.seed).stage2, {"0.0.bn3.weight", "1.bn3.weight"}
)
for parts in (False, True):
    model = awkward_network(reference.seed, parts=parts, hooks=True, mixed=True, gradients=True)
    short, long = model.blocks
    check_zeroed(zero_init_last_norm, model, {f"{short}.bn2.weight", f"{long}.bn3.weight"})
### END HIDDEN TESTS

# %% [markdown]
# What becomes of the gradient at the start, and of the race?

# %%
gentle = make_stack(ResidualBlock, 5)
zero_init_last_norm(gentle)
start = gradient_norms(*batch, copy.deepcopy(gentle), block_names(gentle)).cpu()
usual = records["residual, 32 layers"][1][0]
records["γ = 0, 32 layers"] = train(gentle)
racers["γ = 0, 32 layers"] = gentle
LOOKS["γ = 0, 32 layers"] = (GREEN, "--")

figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
for values, (colour, _), marker, label in [
    (usual, LOOKS["residual, 32 layers"], "o", "γ = 1"),
    (start, LOOKS["γ = 0, 32 layers"], "^", "γ = 0 in each block's last"),
]:
    axes[0].semilogy(range(1, 16), values, color=colour, marker=marker, label=label)
axes[0].set(xlabel="block", ylabel="gradient's norm", ylim=(0.005, None), xticks=range(1, 16))
axes[0].set_title("At the start: no growth within a stage")
axes[0].grid(color="0.9")
axes[0].legend(frameon=False)
for name in ("plain, 32 layers", "residual, 14 layers", "residual, 32 layers", "γ = 0, 32 layers"):
    losses = records[name][0]
    colour, line = LOOKS[name]
    axes[1].plot(smooth(losses), line, color=colour, linewidth=2, label=name)
    print(
        f"{name:20} loss: first ten {losses[:10].mean():.2f}, last ten {losses[-10:].mean():.2f},"
        f" accuracy on fresh crops {accuracy(racers[name]):.0%}"
    )
axes[1].set(xlabel="step", ylabel="training loss (mean of ten steps)", ylim=(0, None))
axes[1].set_title("In the race: no stumbling at the start")
axes[1].legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# With $\gamma = 0$ the gradient runs through a stage on the skips alone. Behind the stage's last
# block it loses what falls on closed ReLUs; those below are closed at the same places and take
# nothing more. And nothing is thrown about in the first steps, where the usual start has a loss
# *above* that of guessing. What was left of degradation in section 4 is gone: the training loss
# ends about where that of the residual network of 14 layers does. Goyal et al. used $\gamma = 0$
# with batches of 8,192 images, where the first steps are most delicate; torchvision has it as
# `zero_init_residual=True`. The order of the curves on the right is that of one small task; the
# left half is general.
#
# ### Question: does it wake up?
# ★★☆ · 15 minutes

# %% [markdown] question="wake_up" points=4
# If all weights of an ordinary network start at zero, it never learns. Here each block's last
# $\gamma$ is zero. For one such block, with the output $\mathrm{ReLU}(x + \gamma \hat{z} + \beta)$,
# where $\hat{z}$ is the normalised output of the second convolution:
#
# 1. Which parameters of the branch get a gradient in the first step, and which get exactly zero?
#    Why?
# 2. Why does the block wake up all the same, and why don't all its channels learn the same thing?
#
# ### BEGIN SOLUTION
# 1 (2 points). With d the gradient that has come through the ReLU: ∂L/∂γ = Σ d · ẑ (per channel,
# summed over batch and places), which isn't zero, and ∂L/∂β = Σ d (1 point for γ and β).
# Everything below gets its gradient multiplied by γ = 0: both convolutions, and γ and β of the
# first BatchNorm, get exactly zero (1 point).
#
# 2 (2 points). After the first step γ isn't zero any more, so from the second step on gradient
# reaches the convolutions (1 point). Their weights started at random, so ẑ differs from channel to
# channel, and with it ∂L/∂γ and all that follows; in an all-zero network all units of a layer are
# alike and stay so, or get no gradient for ever (1 point).
# ### END SOLUTION

# %% [markdown]
# ## 7. Taking blocks out (optional)
#
# If a residual network is a crowd of paths, then without one of its blocks it should still do: half
# of the paths are left. Take a layer out of a plain network, and there is no path any more. Veit et
# al. tried it, on networks that were trained with all their blocks.
#
# To take a block out means to put the identity at its place. That goes for blocks whose output has
# the shape of their input; those with projections stay.
#
# ### Exercise: `remove_blocks`
# ★★☆ · 15 minutes · optional
#
# <details><summary>Hint</summary>
#
# `copy.deepcopy(model)` copies a module with everything in it; `copied.set_submodule(name, module)`
# puts a module at a place such as `"stage1.0"`. A block that is deleted from an `nn.Sequential`
# makes all later ones move up and change their names.
#
# </details>


# %% exercise="remove_blocks"
def remove_blocks(model, names):
    """A copy of a network in which some blocks hand on their input unchanged (Veit et al., 2016).

    The model itself stays as it is.

    Args:
        model: nn.Module.
        names: a list of names of modules in it, such as "stage1.2" or "features.layer1.0", as in
            model.get_submodule(name), in any order and possibly empty. The output of each has the
            shape of its input.

    Returns:
        copied: nn.Module, in the model's mode, that computes what the model would compute if each
            module in `names` were the identity.
    """
    ### BEGIN SOLUTION
    copied = copy.deepcopy(model)
    for name in names:
        copied.set_submodule(name, nn.Identity())
    return copied
    ### END SOLUTION


# %% test="remove_blocks" points=5
names, X = ["blocks.0", "deep.inner.block", "blocks.2"], random_tensor(70, 2, 3, 6, 8)
model = tiny_network(70)
copied = remove_blocks(model, list(names))
assert callable(copied), "remove_blocks returns nothing to call; is a `return` missing?"
scores = copied(X)


def without(left_out, seed=70):
    """The scores of the tiny network when some layers are left out."""
    return tiny_forward(tiny_network(seed), X, left_out)[0].detach()


def only_skips():
    """The scores where the blocks' weights are all 0, so that their last ReLU is still there."""
    network = tiny_network(70)
    for name in names:
        for parameter in network.get_submodule(name).parameters():
            parameter.data.zero_()
    return tiny_forward(network, X)[0].detach()


blocks = {name for name in TINY_LAYERS if "block" in name}
check_close(
    scores,
    without(names),
    f"remove_blocks(model, {names})(X)",
    mistakes={
        "nothing is taken out": without([]),
        "only the first block of names is taken out": lambda: without(names[:1]),
        "only the last block of names is taken out": lambda: without(names[-1:]),
        "blocks deeper inside the model are left in": lambda: without(["blocks.0", "blocks.2"]),
        "blocks move up when one is deleted, and then the wrong one goes": (
            lambda: without(["blocks.0", "deep.inner.block", "blocks.3"])
        ),
        "the blocks in names are kept and the others taken out": (
            lambda: without(blocks - set(names))
        ),
        "all blocks are taken out": lambda: without(blocks),
        "the whole part that a block is in is taken out": (
            lambda: without([name for name in TINY_LAYERS if name.startswith(("blocks", "deep"))])
        ),
        "the blocks' weights are set to 0, which leaves their last ReLU": only_skips,
        "the copy runs in training mode: it should be in the model's": (
            lambda: tiny_forward(tiny_network(70, training=True), X, names)[0].detach()
        ),
    },
)
### BEGIN HIDDEN TESTS
for number, (names, training) in enumerate(
    [
        ([], False),
        (["blocks.4", "blocks.0", "blocks.3"], True),
        (["blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4"], False),
    ]
):
    seed = reference.seed + number
    model, twin = tiny_network(seed, training), tiny_network(seed, training)
    check_close(
        remove_blocks(model, list(names))(X),
        reference.remove_blocks(twin, names)(X).detach(),
        f"remove_blocks(model, {names})(X)",
    )
for parts in (False, True):
    options = {"inplace": True, "hooks": True, "mixed": True, "gradients": True}
    model = awkward_network(reference.seed, parts=parts, **options)
    X = random_tensor(reference.seed, 2, 3, 9, 8)
    for names in (model.blocks[:1], model.blocks[1:], model.blocks):
        expected = reference.remove_blocks(model, names)(X).detach()
        check_close(
            remove_blocks(model, list(names))(X),
            expected,
            f"the scores of another network without {len(names)} of its 2 blocks",
        )
### END HIDDEN TESTS

# %% [markdown]
# One block at a time, from each of the trained networks that learned the task.

# %%


def removable(network):
    """The names of a stack's blocks that keep the shape: all but the first of stages 2 and 3."""
    return [name for name in block_names(network) if name not in ("stage2.0", "stage3.0")]


chosen = ["plain, 14 layers", "residual, 14 layers", "residual, 32 layers", "γ = 0, 32 layers"]
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained", sharey=True)
figure.suptitle(
    "One block less ruins the plain network, and hardly hurts the one that began with γ = 0"
)
for ax, name in zip(axes, chosen, strict=True):
    network = racers[name]
    names = block_names(network)
    single = [
        accuracy(remove_blocks(network, [block])) if block in removable(network) else np.nan
        for block in names
    ]
    ax.bar(range(1, len(names) + 1), single, color=LOOKS[name][0])
    ax.axhline(accuracy(network), color="black", label="all blocks")
    ax.axhline(1 / CLASSES, color="0.5", linestyle=":", label="guessing")
    ax.set(title=name, xlabel="block that is taken out", ylim=(0, 1))
    ax.set_xticks(range(1, len(names) + 1, 1 if len(names) < 10 else 2))
    print(
        f"{name:20} all {accuracy(network):.2f}; one less: mean {np.nanmean(single):.2f},"
        f" worst {np.nanmin(single):.2f}"
    )
axes[0].set_ylabel("accuracy on fresh crops")
axes[0].legend(frameon=False, loc="center right")
plt.show()

# %% [markdown]
# A gap stands where a block has to stay. The two networks of 14 layers differ in their skips alone,
# so theirs is the fair comparison: without skips any missing block leaves little more than
# guessing, with skips some can be spared. The deeper networks have one more reason to bear it, as a
# block is a smaller part of them. Now more and more blocks go, in four random orders.

# %%
figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
for name, marker in zip(chosen, "sDo^", strict=True):
    network, names = racers[name], removable(racers[name])
    counts = [*(count for count in (0, 1, 2, 3, 5, 8) if count < len(names)), len(names)]
    orders = [list(np.random.default_rng(seed).permutation(names)) for seed in range(4)]
    means = [
        np.mean([accuracy(remove_blocks(network, order[:count])) for order in orders])
        for count in counts
    ]
    colour, line = LOOKS[name]
    shares = np.array(counts) / len(names)
    ax.plot(shares, means, line, color=colour, marker=marker, linewidth=2, label=name)
    print(
        f"{name:20}", *(f"{count}: {mean:.2f}" for count, mean in zip(counts, means, strict=True))
    )
ax.axhline(1 / CLASSES, color="0.5", linestyle=":", label="guessing")
ax.set(xlabel="share of the removable blocks that are taken out", ylabel="accuracy", ylim=(0, 1))
ax.set_title("The network that began as the identity fades most slowly")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The plain network needs each of its layers, as each was trained on what the one before gives. The
# residual network that started with $\gamma = 0$ does as Veit et al. say: a block less costs
# little, and with each further block it gets worse *gradually*, as if members left a committee.
#
# The one with the usual start doesn't quite. Its first blocks can hardly be spared, and after a
# third of them little is left of its skill. So it isn't the wiring alone that makes a crowd of
# short paths: it depends on how much the single branches do, which is $s$ in section 5, and here a
# matter of start and training. Veit et al. saw the gentle decline in networks of 54 blocks, well
# trained. Ours have 15, and a sprint behind them. Nor is robustness against *surgery* robustness
# against anything that happens to images.
#
# ## 8. ResNet-18 from your blocks
#
# Is your block the one that the world uses? There is a hard test: build ResNet-18 from it, give it
# the weights of torchvision's, and ask both the same. Eight blocks in four stages are all that is
# between a stem, which makes a large photograph small, and a linear layer:
#
# | name | what it is | 224 × 224 pixels become |
# |---|---|---|
# | `conv1`, `bn1`, `relu` | 7 × 7, stride 2, padding 3, without a bias; BatchNorm; ReLU | 64 × 112 × 112 |
# | `maxpool` | max pooling, 3 × 3, stride 2, padding 1 | 64 × 56 × 56 |
# | `layer1` | blocks that keep the shape | 64 × 56 × 56 |
# | `layer2` | the first block halves the size and doubles the channels | 128 × 28 × 28 |
# | `layer3` | likewise | 256 × 14 × 14 |
# | `layer4` | likewise | 512 × 7 × 7 |
# | `avgpool` | the mean over all places | 512 |
# | `fc` | a linear layer | a score for each class |
#
# A stage that halves the size doubles the channels: a fourth of the places, each with four times
# the work of a 3 × 3 convolution, so every stage costs the same. ResNet-18 has two blocks in each
# stage, ResNet-34 has 3, 4, 6 and 3.
#
# ### Exercise: `make_resnet`
# ★★☆ · 30 minutes
#
# <details><summary>Hint 1: names</summary>
#
# `nn.Sequential(OrderedDict(conv1=…, bn1=…, …))` runs its parts in order, and their names are the
# names of its parameters: `conv1.weight`, `layer1.0.bn2.bias`. Or write an `nn.Module` of your own
# within the cell.
#
# </details>
# <details><summary>Hint 2: a stage</summary>
#
# Only the first block of a stage may have a stride, or take another number of channels than it
# gives: `block(inputs, channels, stride)`. All others are `block(channels, channels)`. Keep count
# of the channels from stage to stage.
#
# </details>


# %% exercise="make_resnet" without="torchvision"
def make_resnet(block, blocks_per_stage, classes, width=64):
    """A residual network for images, with the layers and the names of torchvision's ResNet-18.

        conv1, bn1, relu, maxpool, layer1, layer2, layer3, layer4, avgpool, fc

    They are those of the table above, `width` standing for its 64. A stage such as layer2 is an
    nn.Sequential of blocks, called "layer2.0", "layer2.1", …. Each stage after the first gives
    twice as many channels as the one before, and the first of its blocks has stride 2; every other
    block has stride 1. Put the parts together yourself: calling torchvision costs a point.

    Args:
        block: the class of the blocks; block(in_channels, out_channels, stride=1) is a module.
        blocks_per_stage: how many blocks layer1, layer2, layer3 and layer4 have, four integers ≥ 1.
        classes: the number of scores.
        width: the number of channels after the stem.

    Returns:
        nn.Module, from images (N, 3, H, W), H and W ≥ 32, to scores (N, classes): what fc gives,
        which has a bias. It starts with random weights, whichever. relu, maxpool and avgpool have
        no weights, so they may have other names, or be calls in a forward.
    """
    ### BEGIN SOLUTION
    parts = OrderedDict(
        conv1=nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    inputs = width
    for stage, count in enumerate(blocks_per_stage):
        channels = width * 2**stage
        first = block(inputs, channels, 1 if stage == 0 else 2)
        others = [block(channels, channels) for _ in range(count - 1)]
        parts[f"layer{stage + 1}"] = nn.Sequential(first, *others)
        inputs = channels
    parts["avgpool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)
    ### END SOLUTION


# %% [markdown]
# The tests build networks of narrow *plain* blocks, so that a slip in `ResidualBlock` costs nothing
# here, and put the same numbers into yours and into torchvision's.


# %% given=true
class SmallBlock(nn.Module):
    """One convolution and a tanh, for the tests: a block that isn't ours."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)

    def forward(self, x):
        return torch.tanh(self.conv(x))


@run_beside
def scores_with(network, images, seed, training=False):
    """The scores of a network in float64 whose parameters and statistics are drawn anew, each from
    the seed and from its own name, so that two networks with the same names have the same ones."""
    network.double().train(training)
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if value.is_floating_point():
            generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if value.ndim > 1:
                drawn *= (2 / value[0].numel()) ** 0.5
            elif name.endswith(("weight", "running_var")):  # a BatchNorm's
                drawn = 1 + 0.3 * drawn.abs()
            value.data.copy_(drawn)
    return network(images)


@run_beside
def not_random(network):
    """The names of the weights of convolutions and linear layers that aren't random numbers."""
    weights = [(name, value) for name, value in network.named_parameters() if value.ndim > 1]
    return [name for name, value in weights if not value.std() > 0]  # also where it is NaN


def check_parts(network, expected, name):
    """Fail unless a network has parameters and statistics of these shapes, and random weights."""
    assert network is not None, "make_resnet returned None; is a `return` missing?"
    found = entry_shapes(network)
    assert found, (
        f"{name}: the network has no parameters. Modules in a plain list are hidden from it: make"
        " them parts of an nn.Sequential, or attributes of self."
    )
    missing = [entry for entry in expected if entry not in found]
    others = [entry for entry in found if entry not in expected]
    if missing:
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        instead = f"; instead there is {others[0]!r}" if others else ""
        raise AssertionError(f"{name}: there is no {missing[0]!r}{more}{instead}.")
    hint = "; convolutions have no bias here" if "conv1.bias" in others else ""
    assert not others, f"{name}: there is {others[0]!r}, which shouldn't be{hint}."
    for entry, shape in expected.items():
        assert tuple(found[entry]) == tuple(shape), (
            f"{name}: expected that {entry} has the shape {tuple(shape)}, got {found[entry]}."
        )
    alike = not_random(network)
    assert not alike, (
        f"{name}: the numbers in {alike[0]} are all alike, or no numbers; leave the random ones"
        " that PyTorch's layers start with."
    )


# %% test="make_resnet" points=2 aspect="the layers"
network = make_resnet(PlainBlock, (1, 2, 1, 3), 5, width=4)
### BEGIN EXPECTED
expected = entry_shapes(reference.make_resnet(PlainBlock, (1, 2, 1, 3), 5, width=4))
### END EXPECTED
check_parts(network, expected, "make_resnet(PlainBlock, (1, 2, 1, 3), 5, width=4)")

# %% test="make_resnet" points=2 aspect="the scores of torchvision's"
images = random_tensor(80, 2, 3, 64, 96)
network = make_resnet(PlainBlock, (1, 2, 1, 3), 5, width=4)
### BEGIN EXPECTED


def theirs(**changes):
    """What torchvision's ResNet gives with blocks and a stem as narrow as ours, and with changes
    to its modules: their names, with _ for a dot, to what changes them."""

    class Narrow(PlainBlock):
        expansion = 1

        def __init__(self, in_channels, out_channels, stride=1, *_, **__):
            super().__init__(in_channels // 16, out_channels // 16, stride)

    network = torchvision.models.resnet.ResNet(Narrow, [1, 2, 1, 3], 5)
    network.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
    network.bn1, network.fc = nn.BatchNorm2d(4), nn.Linear(32, 5)
    for name, change in changes.items():
        place = name.replace("_", ".")
        if isinstance(change, nn.Module):
            network.set_submodule(place, change)
        else:
            for key, value in change.items():
                setattr(network.get_submodule(place), key, value)
    return scores_with(network, images, 80).detach()


one, two = {"stride": (1, 1)}, {"stride": (2, 2)}
firsts = [f"layer{stage}_0_conv1" for stage in (2, 3, 4)]
expected = theirs()
parts = entry_shapes(reference.make_resnet(PlainBlock, (1, 2, 1, 3), 5, width=4))
mistakes = {
    "the stem has no max pooling": theirs(maxpool=nn.Identity()),
    "the stem's ReLU is missing": theirs(relu=nn.Identity()),
    "the stem has neither a ReLU nor max pooling": (
        theirs(relu=nn.Identity(), maxpool=nn.Identity())
    ),
    "the stem's max pooling has no padding": theirs(maxpool=nn.MaxPool2d(3, 2)),
    "the stem's max pooling has windows of 2 × 2": theirs(maxpool=nn.MaxPool2d(2, 2)),
    "the stem has average pooling, where max pooling belongs": (
        theirs(maxpool=nn.AvgPool2d(3, 2, 1))
    ),
    "the stem's max pooling has stride 1": theirs(maxpool=nn.MaxPool2d(3, 1, 1)),
    "conv1 has stride 1": theirs(conv1=one),
    "conv1 has no padding": theirs(conv1={"padding": (0, 0)}),
    "conv1 has a padding of 1, not of 3": theirs(conv1={"padding": (1, 1)}),
    "layer1 halves the size as well: its first block has stride 1": theirs(layer1_0_conv1=two),
    "no stage halves the size": theirs(**dict.fromkeys(firsts, one)),
    "all blocks of a stage have stride 2, not only its first": (
        theirs(layer2_1_conv1=two, layer4_1_conv1=two, layer4_2_conv1=two)
    ),
    "the last block of a stage has the stride, not its first": (
        theirs(layer2_0_conv1=one, layer2_1_conv1=two, layer4_0_conv1=one, layer4_2_conv1=two)
    ),
    "layer4 doesn't halve the size": theirs(layer4_0_conv1=one),
    "the largest value of each channel is taken, not the mean over the places": (
        theirs(avgpool=nn.AdaptiveMaxPool2d(1))
    ),
    "the sum over the places is taken, not their mean": (theirs(avgpool=nn.LPPool2d(1, (2, 3)))),
    "the scores go through a softmax": expected.softmax(1),
    "the scores go through a ReLU": expected.relu(),
}
### END EXPECTED
call = "make_resnet(PlainBlock, (1, 2, 1, 3), 5, width=4)"
check_parts(network, parts, call)
name = f"the scores of {call} in eval mode"
check_close(scores_with(network, images, 80), expected, name, mistakes=mistakes)

# %% test="make_resnet" points=2 aspect="other networks"
# Other blocks, depths, widths, classes and images are tried here, in both modes.
### BEGIN HIDDEN TESTS
for number, (block, blocks, classes, width, size) in enumerate(
    [
        (PlainBlock, (2, 2, 2, 2), 3, 6, (37, 65)),
        (SmallBlock, (1, 1, 1, 1), 10, 64, (32, 32)),
        (SmallBlock, [3, 1, 4, 2], 1, 5, (70, 33)),
        (PlainBlock, (1, 3, 2, 1), 7, 3, (33, 48)),
    ]
):
    seed = reference.seed + number
    images = random_tensor(seed, 2, 3, *size)
    arguments = (block, blocks, classes) if width == 64 else (block, blocks, classes, width)
    own, right = make_resnet(*arguments), reference.make_resnet(*arguments)
    name = f"make_resnet({block.__name__}, {blocks}, {classes}, {width})"
    check_parts(own, entry_shapes(right), name)
    for training in (False, True):
        check_close(
            scores_with(own, images, seed, training),
            scores_with(right, images, seed, training).detach(),
            f"the scores of {name} for images {size}",
            tolerance=1e-6,
        )
### END HIDDEN TESTS

# %% test="make_resnet" points=1 aspect="written by hand"
network = make_resnet(PlainBlock, (1, 1, 2, 1), 4, width=2)
images = random_tensor(81, 1, 3, 40, 64)
### BEGIN EXPECTED
right = reference.make_resnet(PlainBlock, (1, 1, 2, 1), 4, width=2)
expected = scores_with(right, images, 81).detach()
### END EXPECTED
name = "the scores of make_resnet(PlainBlock, (1, 1, 2, 1), 4, width=2)"
check_close(scores_with(network, images, 81), expected, name)
check_without(make_resnet)

# %% [markdown]
# Now with *your* block, and at full size. torchvision calls a block's projection `downsample`; you
# chose a name of your own, so these few entries are matched by their order.

# %%
CROPS = F.interpolate(test_images[:16], 64)
STAGES = ("layer1", "layer2", "layer3", "layer4")
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None, num_classes=CLASSES).to(device)
    resnet = make_resnet(ResidualBlock, (2, 2, 2, 2), CLASSES).to(device)
state, own_names = theirs.state_dict(), set(resnet.state_dict())
renamed = (name for name in resnet.state_dict() if name not in state)
resnet.load_state_dict(
    {name if name in own_names else next(renamed): value for name, value in state.items()}
)
shapes = {}
handles = [
    resnet.get_submodule(name).register_forward_hook(
        lambda module, inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])})
    )
    for name in ("conv1", *STAGES, "fc")
]
with torch.no_grad():
    resnet.eval()(torch.zeros(1, 3, 224, 224, device=device))
    for handle in handles:
        handle.remove()
    scores, their_scores = resnet(CROPS), theirs.eval()(CROPS)
difference = (scores - their_scores).abs().max().item()
counts = {
    name: sum(parameter.numel() for parameter in resnet.get_submodule(name).parameters())
    for name in shapes
}
for name, shape in shapes.items():
    print(f"{name:7} {' × '.join(map(str, shape)):>15} {counts[name]:>12,} parameters")
print(f"in all {sum(parameter.numel() for parameter in resnet.parameters()):,} parameters")
print(f"your ResNet-18 and torchvision's: scores differ by at most {difference:.0e}")

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
axes[0].scatter(their_scores.cpu(), scores.cpu(), color=BLUE, s=14, alpha=0.6)
ends = [their_scores.min().item(), their_scores.max().item()]
axes[0].plot(ends, ends, color="0.5", linewidth=1, zorder=0)
axes[0].set(xlabel="torchvision's ResNet-18", ylabel="yours", aspect="equal")
axes[0].set_title(f"{scores.numel()} scores on the same weights")
places, total = np.arange(4), sum(counts.values())
values = [int(np.prod(shapes[name])) for name in STAGES]
axes[1].bar(
    places - 0.2, np.array(values) / sum(values), 0.4, color=ORANGE, label="values of its output"
)
axes[1].bar(
    places + 0.2, [counts[name] / total for name in STAGES], 0.4, color=BLUE, label="parameters"
)
axes[1].set_xticks(places, STAGES)
axes[1].set(ylabel="share", ylim=(0, 1))
axes[1].set_title("From stage to stage: half the values, nearly four times the weights")
axes[1].legend(frameon=False, loc="upper center")
figure.suptitle("Eight of your blocks, a stem and a linear layer are ResNet-18")
plt.show()

# %% [markdown]
# The points lie on the line, and what the last printed line says is float32's rounding, if anything:
# your network *is* torchvision's, projections, strides, names and all. What ImageNet taught the
# one, the other can load. (With random weights the scores say nothing about the crops.) The right
# half shows the trade between the stages: the early ones hold the values, and the last one alone
# most of the weights. Lab 02 keeps these books for VGG-16, whose linear layers hold most; here the
# mean over the places has made the last layer tiny.
#
# Your other functions take it as they took the stacks:

# %%
resnet_blocks = [f"{stage}.{number}" for stage in STAGES for number in (0, 1)]
growth = []
figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
for label, colour, marker in [("γ = 1", BLUE, "o"), ("γ = 0 in each block's last", GREEN, "^")]:
    norms = gradient_norms(CROPS, test_labels[:16], resnet.train(), resnet_blocks).cpu()
    ax.semilogy(resnet_blocks, norms, color=colour, marker=marker, label=label)
    growth.append((norms[0] / norms[-1]).item())
    zero_init_last_norm(resnet)
ax.set(xlabel="block", ylabel="gradient's norm")
steep, slight = growth
ax.set_title(
    f"ResNet-18 before training: the gradient grows {steep:.1f}-fold on its way down,"
    f" {slight:.1f}-fold with γ = 0",
    fontsize=10,
)
ax.grid(color="0.9")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The figure repeats section 6 for a network of another width: with $\gamma = 1$ the gradient grows
# on nearly every step down, with $\gamma = 0$ it goes up and down instead. It loses at the ReLU
# that ends a stage, and gains at a projection, the only layers that it meets. Eight blocks are
# few, so the factors are small.
#
# ### Blocks out of a trained network (optional)
#
# With the weights that 1.2 million photographs have taught it, we can take its blocks out, too. The
# figure uses your function from section 7. It shows our photographs and, if you like, one of yours.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %%
from utils.images import load_photograph, preprocess
from utils.models import WeightsUnavailable, load_model

try:
    trained = load_model("resnet18").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    photographs = [load_photograph(name) for name in ("flower", "china")]
    if (picture := own.load((427, 640))) is not None:
        photographs.append(picture)
    photographs = preprocess(np.stack(photographs))
    photographs = F.interpolate(photographs, (224, 336), mode="bilinear", antialias=True)
    photographs = photographs.clamp(0, 1).to(device)  # rounding may have left the range
    dispensable = ["features.layer1.0", *(f"features.{stage}.1" for stage in STAGES)]
    count = len(photographs)
    figure, axes = plt.subplots(1, count, figsize=(5.5 * count, 3.6), layout="constrained")
    figure.suptitle("ResNet-18 without one of its five removable blocks")
    with torch.no_grad():
        best = trained(photographs).argmax(1)
        kept = [trained, *(remove_blocks(trained, [name]) for name in dispensable)]
        shares = torch.stack([network(photographs).softmax(1) for network in kept]).cpu()
    ticks = ["all blocks", *(name.removeprefix("features.") for name in dispensable)]
    for number, ax in enumerate(axes):
        ax.barh(ticks, shares[:, number, best[number]], color="#A6CEE3")
        for place, answer in enumerate(shares[:, number].argmax(1)):
            ax.text(0.02, place, trained.class_names[answer], va="center", color="0.2")
        ax.set(title=f"of “{trained.class_names[best[number]]}”", xlim=(0, 1), xlabel="probability")
        ax.invert_yaxis()
    plt.show()

# %% [markdown]
# Where you see the last figure: does one block less change the answer, and is the last block of a
# stage as dispensable as its neighbours? Five blocks are few; try `"resnet50"`, whose stages are
# longer.
#
# ## What you have now
#
# A plus sign, seen from all sides. On the way back it adds an $I$ to every factor of a long
# product; on the way forward it makes the identity the thing that a block needn't learn. Depth
# then does far less harm, and none that we could see in a network that starts as the identity. The
# plus sign has stayed: every transformer is a stack of residual blocks, and some of them start
# their branches at or near zero.
