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
# The cells beneath each exercise are its tests. Each answers **right so far**, or says in one
# sentence what is wrong. When your work is graded, other shapes and networks are tried as well. No
# exercise calls one that you wrote before, so a slip costs you only once. The figures do: they use
# your functions, and mean something once these are right.

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
    in_other_mode,
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


# %% given=true
def block_inputs(seed, N, D, H):
    """Random inputs to test with: the list [x, w1, b1, w2, b2] in float64."""
    shapes = [(N, D), (D, H), (H,), (H, D), (D,)]
    return [random_array(seed + place, *shape) for place, shape in enumerate(shapes)]


def call_forward(function, inputs):
    """The output of a function for a residual block, and the parts of its cache by name."""
    call, names = "residual_forward(x, w1, b1, w2, b2)", ("x", "w1", "w2", "h", "out")
    out, cache = check_tuple(function(*inputs), ("out", "cache"), call)
    return out, dict(zip(names, check_tuple(cache, names, "cache"), strict=True))


# %% test="residual_forward" points=2 aspect="the output"
inputs = block_inputs(0, 5, 4, 6)
### BEGIN EXPECTED
expected, _ = reference.residual_forward(*inputs)
x, w1, b1, w2, b2 = inputs
before = x @ w1 + b1
h = before.clip(0)
branch = h @ w2 + b2
mistakes = {
    "x isn't added: there is no skip": branch.clip(0),
    "x isn't added, and the last ReLU is missing": branch,
    "x is added after the last ReLU: first add, then the ReLU": branch.clip(0) + x,
    "the last ReLU is missing": x + branch,
    "the first ReLU is missing": (x + before @ w2 + b2).clip(0),
    "both ReLUs are missing": x + before @ w2 + b2,
    "the second bias is missing": (x + h @ w2).clip(0),
    "the first bias is missing": (x + (x @ w1).clip(0) @ w2 + b2).clip(0),
    "both biases are missing": (x + (x @ w1).clip(0) @ w2).clip(0),
    "the first bias is added after the ReLU": (x + ((x @ w1).clip(0) + b1) @ w2 + b2).clip(0),
    "ReLU(x) is added, not x": (x.clip(0) + branch).clip(0),
    "the branch goes through a ReLU before the sum": (x + branch.clip(0)).clip(0),
    "x is multiplied by the branch, not added": (x * branch).clip(0),
    "x is subtracted from the branch, not added": (branch - x).clip(0),
    "the branch is missing: only x comes through": x.clip(0),
}
### END EXPECTED
out, _ = call_forward(residual_forward, inputs)
check_close(out, expected, "out", mistakes=mistakes)

# %% test="residual_forward" points=1 aspect="the cache"
inputs = block_inputs(10, 4, 3, 5)
### BEGIN EXPECTED
_, (x, w1, w2, h, out) = reference.residual_forward(*inputs)
expected = {"x": x, "w1": w1, "w2": w2, "h": h, "out": out}
before, branch = x @ w1 + inputs[2], h @ w2 + inputs[4]
mistakes = {
    "h": {
        "h is taken before its ReLU, or the first ReLU is missing": before,
        "the first bias isn't in h": (x @ w1).clip(0),
    },
    "out": {
        "out is taken before its ReLU, or the last ReLU is missing": x + branch,
        "out is the branch alone: there is no skip in it": branch,
        "out is the rectified branch: there is no skip in it": branch.clip(0),
    },
}
### END EXPECTED
_, cache = call_forward(residual_forward, inputs)
for name, value in expected.items():
    check_close(cache[name], value, f"{name} in the cache", mistakes=mistakes.get(name))

# %% test="residual_forward" points=1 aspect="other shapes"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(2, 6, 3), (1, 2, 7), (5, 4, 4)]):
    inputs = block_inputs(reference.seed + 5 * number, *shape)
    expected, expected_cache = reference.residual_forward(*inputs)
    out, cache = call_forward(residual_forward, inputs)
    name = "residual_forward for N = {}, D = {}, H = {}".format(*shape)
    check_close(out, expected, f"out of {name}")
    for (part, value), right in zip(cache.items(), expected_cache, strict=True):
        check_close(value, right, f"{part} in the cache of {name}")
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


# %% exercise="residual_backward" without="torch"
def residual_backward(dout, cache):
    """The backward pass of a residual block of two fully connected layers.

    Write it out in NumPy: calling PyTorch, which has autograd, costs a point.

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


# %% given=true
def call_backward(function, dout, cache):
    """The five gradients of a function for a residual block, by name."""
    names = ("dx", "dw1", "db1", "dw2", "db2")
    gradients = check_tuple(function(dout, cache), names, "residual_backward(dout, cache)")
    return dict(zip(names, gradients, strict=True))


# %% test="residual_backward" points=1 aspect="the second layer"
dout = random_array(15, 5, 3)
### BEGIN EXPECTED
_, cache = reference.residual_forward(*block_inputs(10, 5, 3, 4))
_, _, _, *expected = reference.residual_backward(dout, cache)
x, w1, w2, h, out = cache


def second(dsum, h=h):
    """dw2 and db2 for this gradient of the sum."""
    return h.T @ dsum, dsum.sum(0)


mistakes = {
    "dout passes the last ReLU everywhere: only where out > 0": second(dout),
    "the last ReLU's mask is turned round": second(dout * (out <= 0)),
    "dout is multiplied by out, not by its mask": second(dout * out),
    "the gradient itself is rectified, as if it went forward": second(dout.clip(0)),
    "the mean over the batch is taken: it is a sum": second(dout * (out > 0) / 5),
    "h's mask takes the place of h": (second(dout * (out > 0), h > 0)[0], None),
}
### END EXPECTED
gradients = call_backward(residual_backward, dout, cache)
for place, name in enumerate(("dw2", "db2")):
    guesses = {text: pair[place] for text, pair in mistakes.items() if pair[place] is not None}
    check_close(gradients[name], expected[place], name, mistakes=guesses)

# %% test="residual_backward" points=1 aspect="the first layer"
dout = random_array(25, 5, 3)
### BEGIN EXPECTED
_, cache = reference.residual_forward(*block_inputs(20, 5, 3, 4))
_, *expected, _, _ = reference.residual_backward(dout, cache)
x, w1, w2, h, out = cache
dsum = dout * (out > 0)


def first(dhidden):
    """dw1 and db1 for this gradient of x w1 + b1."""
    return x.T @ dhidden, dhidden.sum(0)


mistakes = {
    "the gradient passes the first ReLU everywhere: only where h > 0": first(dsum @ w2.T),
    "the mask of the last ReLU is missing: only where out > 0": first(dout @ w2.T * (h > 0)),
    "both ReLUs are passed everywhere: only where h > 0 and out > 0": first(dout @ w2.T),
    "the first ReLU's mask is turned round": first(dsum @ w2.T * (h <= 0)),
    "the gradient is multiplied by h, not by its mask": first(dsum @ w2.T * h),
    "the gradient itself is rectified, as if it went forward": first((dsum @ w2.T).clip(0)),
    "the mean over the batch is taken: it is a sum": first(dsum @ w2.T * (h > 0) / 5),
}
### END EXPECTED
gradients = call_backward(residual_backward, dout, cache)
for place, name in enumerate(("dw1", "db1")):
    guesses = {text: pair[place] for text, pair in mistakes.items()}
    check_close(gradients[name], expected[place], name, mistakes=guesses)

# %% test="residual_backward" points=1 aspect="the input"
dout = random_array(35, 5, 3)
### BEGIN EXPECTED
_, cache = reference.residual_forward(*block_inputs(30, 5, 3, 4))
expected = reference.residual_backward(dout, cache)[0]
_, w1, w2, h, out = cache
dsum = dout * (out > 0)
through = expected - dsum
mistakes = {
    "the skip is missing: x also gets the gradient of the sum": through,
    "only the skip is there: x also gets what comes through the layers": dsum,
    "the skip hands on dout as it is: the last ReLU is above the sum": through + dout,
    "the two ways are multiplied: gradients that meet add": through * dsum,
    "the two ways are subtracted: gradients that meet add": dsum - through,
    "the skip is counted twice": through + 2 * dsum,
    "the mask of the last ReLU is missing: only where out > 0": (
        dout + (dout @ w2.T * (h > 0)) @ w1.T
    ),
    "the gradient passes the first ReLU everywhere: only where h > 0": dsum + dsum @ w2.T @ w1.T,
    "both ReLUs are passed everywhere: only where h > 0 and out > 0": dout + dout @ w2.T @ w1.T,
    "dx is divided by N: each vector has a gradient of its own": expected / 5,
}
### END EXPECTED
gradients = call_backward(residual_backward, dout, cache)
check_close(gradients["dx"], expected, "dx", mistakes=mistakes)

# %% test="residual_backward" points=1 aspect="other shapes"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, (N, D, H) in enumerate([(2, 6, 3), (1, 2, 7), (5, 4, 4)]):
    seed = reference.seed + 6 * number
    dout = random_array(seed + 5, N, D)
    _, cache = reference.residual_forward(*block_inputs(seed, N, D, H))
    expected = reference.residual_backward(dout, cache)
    gradients = call_backward(residual_backward, dout, cache)
    for (part, gradient), right in zip(gradients.items(), expected, strict=True):
        check_close(gradient, right, f"{part} for N = {N}, D = {D}, H = {H}")
### END HIDDEN TESTS

# %% test="residual_backward" points=1 aspect="written by hand"
dout = random_array(45, 2, 4)
### BEGIN EXPECTED
_, cache = reference.residual_forward(*block_inputs(40, 2, 4, 3))
expected = reference.residual_backward(dout, cache)
### END EXPECTED
gradients = call_backward(residual_backward, dout, cache)
for (name, gradient), right in zip(gradients.items(), expected, strict=True):
    check_close(gradient, right, name)
check_without(residual_backward)

# %% [markdown]
# The numerical gradient is a judge for every formula:

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
# plain stack is a product of 80 layers. A product of many numbers below 1 is next to
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


# %% given=true fold=false
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
    nn.BatchNorm2d, made in __init__. Put the block together yourself: one of torchvision's in it
    costs a point.

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
# The shape of the output says nothing about a block: it is right without any skip, too. So the
# tests put random numbers into your block's layers, let it work, and compare with what a right
# block gives. They find the layers by their shapes, not by their names; where two could be
# exchanged, both ways are tried.


# %% given=true
@run_beside
def entry_shapes(block):
    """The shapes of a block's parameters and buffers by name; what has two names has one here."""
    entries = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    return {name: tuple(entry.shape) for name, entry in entries.items()}


@run_beside
def at_work(block, state, x, training, upstream):
    """Put numbers into a block's parameters and buffers, and run it once, in float64.

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
    if isinstance(output, torch.Tensor):
        fits = output.shape == upstream.shape and torch.equal(copied, x)
        if fits and output.requires_grad:
            gradient = torch.autograd.grad(output, variable, upstream, materialize_grads=True)[0]
        output = output.detach()
    after = {name: entries[name].detach().clone() for name in state}
    return output, gradient, copied.detach(), after


OF_NORM = ("weight", "bias", "running_mean", "running_var")  # a BatchNorm's entries


def random_layers(seed, in_channels, out_channels, stride=1):
    """Random numbers, float64, for the layers of a residual block: a dict of their entries for
    each of its convolutions and BatchNorms."""
    generator = torch.Generator().manual_seed(seed)
    convs, norms = {"conv1": (in_channels, 3), "conv2": (out_channels, 3)}, ["bn1", "bn2"]
    if stride != 1 or in_channels != out_channels:
        convs["shortcut.0"] = in_channels, 1
        norms.append("shortcut.1")
    layers = {name: {} for name in (*convs, *norms)}
    for name, (channels, side) in convs.items():
        weight = torch.empty(out_channels, channels, side, side, dtype=torch.float64)
        layers[name]["weight"] = weight.normal_(0, 0.5, generator=generator)
    for name in norms:
        for entry in OF_NORM:
            value = torch.empty(out_channels, dtype=torch.float64)
            if entry.startswith("running"):
                layers[name][entry] = value.uniform_(0.5, 1.5, generator=generator)
            else:
                layers[name][entry] = value.normal_(0, 0.5, generator=generator)
    return layers


def entries_of(layers):
    """The entries of all layers, each under its full name, such as "bn1.weight"."""
    return {f"{name}.{entry}": value for name in layers for entry, value in layers[name].items()}


def check_layers(shapes, layers, name):
    """Fail unless the entries of a block have the shapes that a residual block's have.

    Returns:
        The names of the block's convolutions, and of its BatchNorms.
    """
    found = {}
    for entry, shape in shapes.items():
        layer, _, own = entry.rpartition(".")
        found.setdefault(layer, {})[own] = shape
    norms = [layer for layer, own in found.items() if "running_mean" in own]
    convs = [layer for layer, own in found.items() if len(own.get("weight", ())) == 4]
    main = [layer for layer in convs if found[layer]["weight"][2:] == (3, 3)]
    others = [layer for layer in convs if layer not in main]
    assert convs or norms, (
        f"{name}: there is no nn.Conv2d or nn.BatchNorm2d that __init__ made as an attribute of"
        " self; a plain list hides modules, and those made in forward are new at every call."
    )
    assert len(main) == 2, (
        f"{name}: expected two 3 × 3 convolutions, got {len(main)}; the shortcut is an identity or"
        " a 1 × 1 convolution."
    )
    assert len(others) <= 1 and all(found[conv]["weight"][2:] == (1, 1) for conv in others), (
        f"{name}: beside the two 3 × 3 convolutions there may be one 1 × 1 convolution only."
    )
    projects = "shortcut.0" in layers
    assert others or not projects, (
        f"{name}: x doesn't fit the branch's output, so the shortcut must be a 1 × 1 convolution"
        " with BatchNorm; none was made."
    )
    assert projects or not others, (
        f"{name}: there is a projection where x fits already; the shortcut is the identity, and"
        " has no layers."
    )
    assert not any("bias" in found[conv] for conv in convs), (
        f"{name}: convolutions have no bias here."
    )
    came = sorted(found[conv]["weight"] for conv in convs)
    weights = [layer["weight"] for layer in layers.values() if "bias" not in layer]
    expected = sorted(tuple(weight.shape) for weight in weights)
    assert came == expected, (
        f"{name}: expected convolutions whose weights have the shapes {expected}, got {came}."
    )
    assert len(norms) == len(convs), (
        f"{name}: expected {len(convs)} BatchNorms, one after each convolution, got {len(norms)}."
    )
    channels = tuple(layers["bn1"]["bias"].shape)
    for norm in norms:
        assert all(found[norm].get(entry) == channels for entry in OF_NORM), (
            f"{name}: each BatchNorm has a weight, a bias and running statistics of {channels[0]}"
            " channels, those of the convolution before it."
        )
    more = [layer for layer in found if layer not in (*convs, *norms)]
    assert not more, f"{name}: there is {more[0]!r}, which a residual block doesn't have."
    return convs, norms


def block_at_work(block, layers, x, upstream, expected, name, training=False, mistakes=None):
    """Fail unless a block has the right layers and, with these numbers in them, gives `expected`.

    Returns:
        The gradient of sum(output · upstream) for x, or None; and the layers after the run.
    """
    shapes, roles, runs = entry_shapes(block), list(layers), []
    convs, norms = check_layers(shapes, layers, name)
    for names in (a + b for a in permutations(convs) for b in permutations(norms)):
        state = {
            f"{own}.{entry}": value
            for own, role in zip(names, roles, strict=True)
            for entry, value in layers[role].items()
        }
        if any(shapes[entry] != value.shape for entry, value in state.items()):
            continue
        output, gradient, x_after, after = at_work(block, state, x, training, upstream)
        assert isinstance(output, torch.Tensor), f"{name} returns no tensor; is a `return` missing?"
        assert torch.equal(x_after, x), f"{name}: the input x is modified in place."
        by_role = {
            role: {entry: after[f"{own}.{entry}"] for entry in layers[role]}
            for own, role in zip(names, roles, strict=True)
        }
        runs.append((output, gradient, by_role))
    # The way in which the values are right, or else those of a known mistake.
    values = [expected, *(mistakes or {}).values()]
    fitting = (
        run
        for value in values
        for run in runs
        if run[0].shape == value.shape and torch.allclose(run[0], value, rtol=1e-6, atol=1e-6)
    )
    output, gradient, after = next(fitting, runs[0])
    check_close(output, expected, name, mistakes=mistakes)
    return gradient, after


# %% test="ResidualBlock" points=2 aspect="the identity"
# The same number of channels and stride 1, in eval mode.
x, upstream, layers = (
    random_tensor(30, 3, 4, 5, 7),
    random_tensor(31, 3, 4, 5, 7),
    random_layers(30, 4, 4),
)
### BEGIN EXPECTED
right = reference.ResidualBlock(4, 4)
state = entries_of(layers)
expected = at_work(right, state, x, False, upstream)[0]
right.requires_grad_(False)
conv1, bn1, conv2, bn2 = right.conv1, right.bn1, right.conv2, right.bn2
before = bn1(conv1(x))
branch, linear = bn2(conv2(before.relu())), bn2(conv2(before))
mistakes = {
    "the shortcut isn't added: this is a plain block": branch.relu(),
    "the shortcut isn't added, and the last ReLU is missing": branch,
    "the shortcut is added after the last ReLU: first add, then the ReLU": branch.relu() + x,
    "the last ReLU is missing": branch + x,
    "the ReLU between the convolutions is missing": (linear + x).relu(),
    "both ReLUs are missing": linear + x,
    "the branch is missing: only the shortcut comes out": x.relu(),
    "the shortcut goes through a ReLU of its own": (branch + x.relu()).relu(),
    "the branch goes through a ReLU before the sum": (branch.relu() + x).relu(),
    "the shortcut is multiplied, not added": (branch * x).relu(),
    "the shortcut is added twice": (branch + 2 * x).relu(),
    "one BatchNorm serves twice: each convolution needs one of its own": (
        (bn1(conv2(before.relu())) + x).relu()
    ),
    "the first BatchNorm is missing": (bn2(conv2(conv1(x).relu())) + x).relu(),
    "the second BatchNorm is missing": (conv2(before.relu()) + x).relu(),
    "both BatchNorms of the branch are missing": (conv2(conv1(x).relu()) + x).relu(),
    "the first ReLU comes before its BatchNorm": (bn2(conv2(bn1(conv1(x).relu()))) + x).relu(),
    "the second BatchNorm comes after the sum": bn2(conv2(before.relu()) + x).relu(),
    "one convolution is called twice": (bn2(conv1(before.relu())) + x).relu(),
    "BatchNorm and ReLU come before the convolutions, where they come after them": (
        conv2(bn2(conv1(bn1(x).relu())).relu()) + x
    ),
    "BatchNorm and ReLU come before the convolutions, but for the last ReLU": (
        (conv2(bn2(conv1(bn1(x).relu())).relu()) + x).relu()
    ),
}
### END EXPECTED
block, name = ResidualBlock(4, 4), "ResidualBlock(4, 4) in eval mode"
block_at_work(block, layers, x, upstream, expected, name, mistakes=mistakes)

# %% test="ResidualBlock" points=2 aspect="the projection"
# More channels, half the size, or both, in eval mode.
for arguments in [(4, 6, 2), (4, 6, 1), (4, 4, 2)]:
    in_channels, out_channels, stride = arguments
    x, layers = random_tensor(32, 3, in_channels, 5, 8), random_layers(32, *arguments)
    upstream = random_tensor(33, 3, out_channels, -(-5 // stride), 8 // stride)
    ### BEGIN EXPECTED
    right = reference.ResidualBlock(*arguments)
    state = entries_of(layers)
    expected = at_work(right, state, x, False, upstream)[0]
    right.requires_grad_(False)
    branch = right.bn2(right.conv2(right.bn1(right.conv1(x)).relu()))
    unscaled, shortcut = right.shortcut[0](x), right.shortcut(x)
    late = right.bn1(F.conv2d(x, right.conv1.weight, padding=1)).relu()
    late = right.bn2(F.conv2d(late, right.conv2.weight, stride=stride, padding=1))
    mistakes = {
        "the shortcut isn't added: this is a plain block": branch.relu(),
        "the shortcut is added after the last ReLU: first add, then the ReLU": (
            branch.relu() + shortcut
        ),
        "the last ReLU is missing": branch + shortcut,
        "the shortcut goes through a ReLU of its own": (branch + shortcut.relu()).relu(),
        "the branch goes through a ReLU before the sum": (branch.relu() + shortcut).relu(),
        "the projection's BatchNorm isn't in the sum": (branch + unscaled).relu(),
        "the projection's ReLU comes before its BatchNorm": (
            (branch + right.shortcut[1](unscaled.relu())).relu()
        ),
        "the branch is missing: only the shortcut comes out": shortcut.relu(),
    }
    if stride > 1:
        text = "the first convolution has the stride, not the second"
        mistakes[text] = (late + shortcut).relu()
    ### END EXPECTED
    name = "ResidualBlock({}, {}, stride={}) in eval mode".format(*arguments)
    block = ResidualBlock(in_channels, out_channels, stride=stride)
    block_at_work(block, layers, x, upstream, expected, name, mistakes=mistakes)

# %% test="ResidualBlock" points=2 aspect="the way back"
for arguments in [(4, 4, 1), (4, 6, 2)]:
    in_channels, out_channels, stride = arguments
    x, layers = random_tensor(34, 2, in_channels, 6, 4), random_layers(34, *arguments)
    upstream = random_tensor(35, 2, out_channels, 6 // stride, 4 // stride)
    ### BEGIN EXPECTED
    right = reference.ResidualBlock(*arguments)
    state = entries_of(layers)
    output, expected, _, _ = at_work(right, state, x, False, upstream)
    variable = x.clone().requires_grad_()
    branch = right.bn2(right.conv2(right.bn1(right.conv1(variable)).relu()))
    (of_branch,) = torch.autograd.grad(branch, variable, upstream * (output > 0))
    mistakes = {
        "nothing goes back through the shortcut: is it detached?": of_branch,
        "nothing goes back through the branch: is it detached?": expected - of_branch,
    }
    ### END EXPECTED
    name = "ResidualBlock({}, {}, stride={})".format(*arguments)
    block = ResidualBlock(*arguments)
    gradient, _ = block_at_work(block, layers, x, upstream, output, name)
    assert gradient is not None, f"{name}: autograd finds no way from the output back to x."
    check_close(gradient, expected, f"the gradient for x of {name}", mistakes=mistakes)

# %% test="ResidualBlock" points=1 aspect="training mode"
for arguments in [(4, 4, 1), (4, 6, 2)]:
    in_channels, out_channels, stride = arguments
    x, layers = random_tensor(36, 3, in_channels, 6, 4), random_layers(36, *arguments)
    upstream = random_tensor(37, 3, out_channels, 6 // stride, 4 // stride)
    ### BEGIN EXPECTED
    right = reference.ResidualBlock(*arguments)
    state = entries_of(layers)
    in_eval = {"it runs in eval mode": at_work(right, state, x, False, upstream)[0]}
    expected, _, _, after = at_work(right, state, x, True, upstream)
    statistics = {name: value for name, value in after.items() if "running" in name}
    ### END EXPECTED
    name = "ResidualBlock({}, {}, stride={}) in training mode".format(*arguments)
    block = ResidualBlock(*arguments)
    _, after = block_at_work(block, layers, x, upstream, expected, name, True, in_eval)
    for entry, value in statistics.items():
        layer, _, own = entry.rpartition(".")
        guesses = {"it doesn't move": layers[layer][own]}
        what = f"a BatchNorm's {own} after a run of {name}"
        check_close(after[layer][own], value, what, mistakes=guesses)

# %% test="ResidualBlock" points=2 aspect="other blocks"
# Other numbers of channels, strides and sizes are tried here, in both modes.
### BEGIN HIDDEN TESTS
for number, (arguments, size) in enumerate(
    [
        ((3, 3, 1), (6, 4)),
        ((5, 5, 1), (3, 3)),
        ((6, 3, 1), (4, 5)),
        ((2, 5, 3), (7, 9)),
        ((5, 5, 2), (7, 4)),
    ]
):
    seed, (in_channels, out_channels, stride) = reference.seed + 3 * number, arguments
    x, layers = random_tensor(seed, 3, in_channels, *size), random_layers(seed + 1, *arguments)
    upstream = random_tensor(seed + 2, 3, out_channels, *(-(-side // stride) for side in size))
    state = entries_of(layers)
    for training in (False, True):
        right = reference.ResidualBlock(*arguments)
        expected, right_gradient, _, statistics = at_work(right, state, x, training, upstream)
        name = "ResidualBlock({}, {}, stride={})".format(*arguments)
        name += f" in {'training' if training else 'eval'} mode"
        own = ResidualBlock(*arguments)
        gradient, after = block_at_work(own, layers, x, upstream, expected, name, training)
        assert gradient is not None, f"{name}: autograd finds no way from the output back to x."
        check_close(gradient, right_gradient, f"the gradient for x of {name}")
        for layer, entries in after.items():
            for entry, value in entries.items():
                check_close(value, statistics[f"{layer}.{entry}"], f"{entry} after {name}")
### END HIDDEN TESTS


# %% given=true
@run_beside
def from_torchvision(block):
    """The names of torchvision's classes that a block is made of."""
    classes = {kind for module in block.modules() for kind in type(module).__mro__}
    return sorted(kind.__name__ for kind in classes if kind.__module__.startswith("torchvision"))


# %% test="ResidualBlock" points=1 aspect="written by hand"
x, upstream, layers = (
    random_tensor(38, 2, 3, 4, 5),
    random_tensor(39, 2, 3, 4, 5),
    random_layers(38, 3, 3),
)
### BEGIN EXPECTED
state = entries_of(layers)
expected = at_work(reference.ResidualBlock(3, 3), state, x, False, upstream)[0]
### END EXPECTED
block = ResidualBlock(3, 3)
block_at_work(block, layers, x, upstream, expected, "ResidualBlock(3, 3) in eval mode")
theirs = from_torchvision(block)
assert not theirs, f"ResidualBlock is made of torchvision's {theirs[0]}: put it together yourself."

# %% [markdown]
# Stacks of your block, three stages of five: with the stem and the linear layer that is a network
# of 32 layers (projections aren't counted). It is told apart from its plain twin by the skips
# alone. The pictures to train on are cut from the scenes: six classes, 32 × 32 pixels around the
# object.

# %% fold="The crops, and stacks of your block"
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
    return network.to(device)


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
# The tests have a small network with skips, in which some modules are called by names such as
# `"trunk.blocks.a"`.

# %% test="gradient_norms" points=2 aspect="one layer"
model, names = awkward_network(40, functional=True, dropout=False), ["trunk.late.conv"]
X, y = random_tensor(40, 3, 3, 9, 8), torch.tensor([2, 0, 4])
### BEGIN EXPECTED
expected = reference.gradient_norms(X, y, model, names)
layer, kept = model.get_submodule(names[0]), {}
handle = layer.register_forward_hook(
    lambda module, inputs, output: kept.update(input=inputs[0], output=output)
)
scores = model(X)
handle.remove()
loss = F.cross_entropy(scores, y)


def gradient(target, place="output"):
    """The gradient for what comes out of the layer, or goes into it."""
    return torch.autograd.grad(target, kept[place], retain_graph=True)[0]


right = gradient(loss)
each = right.flatten(1).norm(dim=1)
weights = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
values = {
    "the loss is the sum over the batch, where the mean is asked for": 3 * right.norm(),
    "the square root is missing": right.square().sum(),
    "the absolute values are added up: the norm is the root of the sum of squares": (
        right.abs().sum()
    ),
    "the largest value is taken, not the norm": right.abs().max(),
    "the root of the mean square is taken, not of the sum": right.square().mean().sqrt(),
    "each image's norm is taken and averaged: the norm is over the whole batch": each.mean(),
    "each image's norm is taken and added up: the norm is over the whole batch": each.sum(),
    "only the first image counts": each[0],
    "the scores are differentiated, not the loss": gradient(scores.sum()).norm(),
    "the score of each image's class is differentiated, not the loss": (
        gradient(scores.gather(1, y[:, None]).sum()).norm()
    ),
    "the scores go through a softmax before the cross-entropy, which has one of its own": (
        gradient(F.cross_entropy(scores.softmax(1), y)).norm()
    ),
    "it is the norm of the output itself, not of its gradient": kept["output"].norm(),
    "it is the gradient for the module's parameters, not for its output": (
        torch.cat([weight.flatten() for weight in weights]).norm()
    ),
    "it is the gradient for the module's weight, not for its output": weights[0].norm(),
    "it is the gradient for the module's input, not for its output": gradient(loss, "input").norm(),
}
mistakes = {text: value.detach().reshape(1) for text, value in values.items()}
### END EXPECTED
norms = gradient_norms(X, y, model, list(names))
name = f"gradient_norms for {names} in eval mode"
check_close(norms, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="gradient_norms" points=1 aspect="several layers"
# Somebody else's hooks hang on this network; they stay, and yours go.
model = awkward_network(41, functional=True, hooks=True, mixed=True, gradients=True)
names = ["trunk.blocks.b", "trunk.late.rectify", "trunk.blocks.a", "trunk.late.conv"]
X, y = random_tensor(41, 3, 3, 9, 8), torch.tensor([1, 3, 0])
### BEGIN EXPECTED
expected = reference.gradient_norms(X, y, model, names)
running = [names.index(f"trunk.{name}") for name in ("blocks.a", "blocks.b", "late.conv")] + [1]
mistakes = {
    "the norms are in the order in which the modules run, not in that of names": expected[running],
    "the norms are in the order of the way back, not in that of names": expected[running[::-1]],
    "the order of names is reversed": expected.flip(0),
    "all norms are that of the last name": expected[-1:].expand(4),
    "all norms are that of the first name": expected[:1].expand(4),
    "gradients pile up from one name to the next": expected.cumsum(0),
}
### END EXPECTED
norms = gradient_norms(X, y, model, list(names))
name = f"gradient_norms for {names} in eval mode"
check_close(norms, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="gradient_norms" points=1 aspect="training mode"
model = awkward_network(42, functional=True, dropout=False).train()
names = ["trunk.blocks.a", "trunk.late.conv"]
X, y = random_tensor(42, 4, 3, 9, 8), torch.tensor([2, 0, 4, 1])
### BEGIN EXPECTED
expected = reference.gradient_norms(X, y, copy.deepcopy(model), names)
guess = in_other_mode(reference.gradient_norms, X, y, model, names)
mistakes = {"the model runs in eval mode, not in the mode that it is in": guess}
### END EXPECTED
norms = gradient_norms(X, y, model, list(names))
name = f"gradient_norms for {names} in training mode"
check_close(norms, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="gradient_norms" points=2 aspect="other networks"
# Other networks, layers and batches are tried here, in both modes.
### BEGIN HIDDEN TESTS
options = {"functional": True, "hooks": True, "gradients": True, "dropout": False}
for number, (parts, training, shape) in enumerate(
    [
        (False, True, (4, 3, 9, 8)),
        (True, False, (4, 3, 9, 8)),
        (False, False, (1, 3, 7, 5)),
        (True, True, (4, 3, 6, 11)),
    ]
):
    seed = reference.seed + number
    model = awkward_network(seed, parts=parts, mixed=True, **options)
    if training:
        model.train()
    X, y = random_tensor(seed, *shape), torch.tensor([2, 0, 4, 1])[: shape[0]]
    head = "classifier" if parts else "answer"
    names = [model.maps[0], head, *model.blocks, model.maps[1]][number:]
    expected = reference.gradient_norms(X, y, copy.deepcopy(model), names)
    check_close(
        gradient_norms(X, y, model, list(names)),
        expected,
        f"gradient_norms for {len(names)} layers of a network with a forward of its own",
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
    print(
        f"{name:8}: {growth[name]:.0f} times larger after the first block than after the last,"
        f" {growth[name] ** (1 / 14):.2f}-fold for each block on average"
    )
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
# nearly the same factor, the one that is printed. It *explodes*, although BatchNorm keeps the
# signal's size in order on the way forward: forward and back aren't mirror images. (In theory, each
# pair of BatchNorm and ReLU brings a factor of about 1.2 at the start; Yang et al., 2019. A block
# has two of them.) With skips the curve
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
# The plain network of 32 layers gets little further than guessing, on the very images that it is
# trained on; its little sister of 14 layers learns. He et al. call this **degradation**, and saw it
# with over a thousand times our training. With skips, 32 layers train.
#
# What the figure doesn't say: that deeper is better. This task is so easy that 14 layers are
# enough. Look at the two residual networks: the deeper one has the *higher* training loss, so by
# our own definition some degradation is left. Skips took away most of the harm of depth here, and
# not all of it; section 6 takes away the rest. The *use* of depth shows on tasks that need it. And
# 120 steps from one seed are a sprint: in a longer race the plain network may get further.
#
# Did the gradient vanish in the plain network? We have measured it on the way.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
figure.suptitle("At four moments of the race, the deep plain network's gradient hasn't vanished")
for ax, kind in zip(axes, ("plain", "residual"), strict=True):
    norms = records[f"{kind}, 32 layers"][1]
    looks = [(0.0, "o"), (0.3, "s"), (0.55, "D"), (0.8, "^")]
    for (shade, marker), (step, values) in zip(looks, norms.items(), strict=True):
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
# and other seeds give other curves: here and there it is several times larger than in the residual
# network, elsewhere several times smaller, but nowhere is it lost. He et al. (2016) report healthy
# norms of theirs as well. A norm tells how long a gradient is, and not whether it points somewhere
# useful. Balduzzi et al. (2017) looked at that: in deep plain networks the gradients of two nearly
# equal inputs are as unlike as white noise, and with skips they are much more alike.
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


# %% test="path_contributions" points=1 aspect="one block"
x, weights = random_array(50, 2, 3), [random_array(51, 3, 3)]
### BEGIN EXPECTED
expected = reference.path_contributions(x, weights)
straight, branch = expected
mistakes = {
    "the weights are transposed: a block gives x + x W, not x + W x": (
        np.stack([x, x @ weights[0].T])
    ),
    "the branch comes first: it is contributions[1]": np.stack([branch, straight]),
    "contributions[1] is the whole output: the straight path is in contributions[0]": (
        np.stack([straight, straight + branch])
    ),
    "only the output is returned: split it by length": straight + branch,
    "the path without a branch is missing": expected[1:],
    "the path through the branch is missing": expected[:1],
    "the mean of the two ways is taken: they are added": expected / 2,
}
### END EXPECTED
contributions = path_contributions(x, list(weights))
check_close(contributions, expected, "path_contributions for one block", mistakes=mistakes)

# %% test="path_contributions" points=2 aspect="several blocks"
x, weights = random_array(52, 2, 3), [random_array(53 + number, 3, 3) for number in range(4)]
### BEGIN EXPECTED
expected = reference.path_contributions(x, weights)
outputs, through, replaced = [x], [x], [x, *(np.zeros_like(x) for _ in weights)]
for weight in weights:
    outputs.append(outputs[-1] + outputs[-1] @ weight)
    through.append(through[-1] @ weight)
    for k in range(1, len(replaced)):
        replaced[k] = replaced[k] + replaced[k - 1] @ weight
count = np.array([1, 4, 6, 4, 1])[:, None, None]
mistakes = {
    "a sum is used after it has been replaced: c[k] needs the c[k − 1] from before the block": (
        np.stack(replaced)
    ),
    "c[k] is only the path through the first k branches: add all paths of this length": (
        np.stack(through)
    ),
    "c[k] is the signal after k blocks, not what went through k branches": np.stack(outputs),
    "c[k] is what block k adds to the signal, not what went through k branches": (
        np.stack([x, *np.diff(outputs, axis=0)])
    ),
    "c[k] is only what the last block adds": (
        expected - reference.path_contributions(x, [*weights[:-1], np.zeros((3, 3))])
    ),
    "the blocks are taken from the last to the first": (
        reference.path_contributions(x, weights[::-1])
    ),
    "the weights are transposed: a block gives x + x W, not x + W x": (
        reference.path_contributions(x, [weight.T for weight in weights])
    ),
    "the longest path comes first": expected[::-1],
    "the mean over the paths is taken: it is a sum": expected / count,
    "only the output is returned: split it by length": outputs[-1],
    "the longest path of all is missing": expected[:-1],
    "the path without a branch is missing": expected[1:],
    "these are running sums over k": expected.cumsum(0),
}
### END EXPECTED
contributions = path_contributions(x, list(weights))
check_close(contributions, expected, "path_contributions for four blocks", mistakes=mistakes)

# %% test="path_contributions" points=2 aspect="other stacks"
# Other shapes, and stacks of other depths, are tried here; also one without a block.
### BEGIN HIDDEN TESTS
for number, (N, D, L) in enumerate([(3, 2, 6), (1, 4, 1), (2, 3, 0), (2, 3, 30)]):
    seed = reference.seed + 100 * number
    x = random_array(seed, N, D)
    weights = [0.5 * random_array(seed + 1 + place, D, D) for place in range(L)]
    expected = reference.path_contributions(x, weights)
    name = f"path_contributions for N = {N}, D = {D} and {L} blocks"
    check_close(path_contributions(x, list(weights)), expected, name)
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


# %% test="zero_init_last_norm" points=1 aspect="one block"
# The model is a block with a projection itself.
block = mixed_network(60).stage1[1]
check_zeroed(zero_init_last_norm, block, {"bn2.weight"})

# %% test="zero_init_last_norm" points=1 aspect="a network"
check_zeroed(
    zero_init_last_norm,
    mixed_network(61),
    {
        "stage1.0.bn2.weight",
        "stage1.1.bn2.weight",
        "stage2.0.0.bn3.weight",
        "stage2.1.bn3.weight",
    },
)

# %% test="zero_init_last_norm" points=1 aspect="blocks that aren't torchvision's"
check_zeroed(
    zero_init_last_norm,
    awkward_network(62, hooks=True),
    {"trunk.blocks.a.bn2.weight", "trunk.blocks.b.bn3.weight"},
)

# %% test="zero_init_last_norm" points=2 aspect="other networks"
# Other networks, and parts of them, are tried here.
### BEGIN HIDDEN TESTS
model = mixed_network(reference.seed)
check_zeroed(zero_init_last_norm, model.stage2[1], {"bn3.weight"})
check_zeroed(zero_init_last_norm, model.stage2, {"0.0.bn3.weight", "1.bn3.weight"})
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
# nothing more. And nothing is thrown about in the first steps, in which the usual start has a loss
# further *above* that of guessing. What was left of degradation in section 4 is gone: the training
# loss ends about where that of the residual network of 14 layers does. Goyal et al. used
# $\gamma = 0$ with batches of 8,192 images, where the first steps are most delicate; torchvision
# has it as `zero_init_residual=True`. The order of the curves on the right is that of one small
# task; the left half is general.
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


# %% given=true
def network_of_blocks(seed):
    """A small random network for the tests, in eval mode, in float64.

    A convolution "stem" (no ReLU follows it), five blocks "blocks.0" … "blocks.4", one
    "deep.inner.block" two levels down, and a "head".
    """
    inner = nn.Sequential(OrderedDict(block=PlainBlock(4, 4)))
    network = nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 4, 3, padding=1),
            blocks=nn.Sequential(*(PlainBlock(4, 4) for _ in range(5))),
            deep=nn.Sequential(OrderedDict(pool=nn.AvgPool2d(2), inner=inner)),
            head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        )
    )
    return randomised(network, seed).eval()


# %% test="remove_blocks" points=1 aspect="one block"
model, X, names = network_of_blocks(70), random_tensor(70, 2, 3, 6, 8), ["blocks.2"]
### BEGIN EXPECTED


def without(names):
    """The scores when some blocks are left out."""
    return reference.remove_blocks(model, names)(X).detach()


everything = [*(f"blocks.{number}" for number in range(5)), "deep.inner.block"]
expected = without(names)
emptied = copy.deepcopy(model)
for parameter in emptied.blocks[2].parameters():
    nn.init.zeros_(parameter)
in_training = reference.remove_blocks(model, names).train()
mistakes = {
    "nothing is taken out": without([]),
    "all blocks are taken out": without(everything),
    "the others are taken out, and the block in names is kept": (
        without([name for name in everything if name not in names])
    ),
    "the block before it is taken out": without(["blocks.1"]),
    "the block after it is taken out": without(["blocks.3"]),
    "the whole part that the block is in is taken out": without(["blocks"]),
    "the block's weights are set to 0, so it hands on zeros": emptied(X).detach(),
    "the copy runs in training mode: it should be in the model's": in_training(X).detach(),
}
### END EXPECTED
copied = remove_blocks(model, list(names))
assert callable(copied), "remove_blocks returns nothing to call; is a `return` missing?"
check_close(copied(X), expected, f"remove_blocks(model, {names})(X)", mistakes=mistakes)

# %% test="remove_blocks" points=2 aspect="several blocks"
names, X = ["blocks.0", "deep.inner.block", "blocks.2"], random_tensor(71, 2, 3, 6, 8)
model = network_of_blocks(71)
### BEGIN EXPECTED


def without(names):
    """The scores when some blocks are left out."""
    return reference.remove_blocks(model, names)(X).detach()


everything = [*(f"blocks.{number}" for number in range(5)), "deep.inner.block"]
expected = without(names)
mistakes = {
    "nothing is taken out": without([]),
    "only the first block of names is taken out": without(names[:1]),
    "only the last block of names is taken out": without(names[-1:]),
    "blocks deeper inside the model are left in": without(["blocks.0", "blocks.2"]),
    "blocks move up when one is deleted, and then the wrong one goes": (
        without(["blocks.0", "deep.inner.block", "blocks.3"])
    ),
    "the others are taken out, and the blocks in names are kept": (
        without([name for name in everything if name not in names])
    ),
    "all blocks are taken out": without(everything),
}
### END EXPECTED
copied = remove_blocks(model, list(names))
assert callable(copied), "remove_blocks returns nothing to call; is a `return` missing?"
check_close(copied(X), expected, f"remove_blocks(model, {names})(X)", mistakes=mistakes)

# %% test="remove_blocks" points=2 aspect="other networks"
# Other networks and lists of blocks are tried here, in both modes; also an empty list.
### BEGIN HIDDEN TESTS
X = random_tensor(reference.seed, 2, 3, 9, 8)
for number, (names, training) in enumerate(
    [
        ([], False),
        (["blocks.4", "blocks.0", "blocks.3"], True),
        (["blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4"], False),
    ]
):
    model = network_of_blocks(reference.seed + number).train(training)
    expected = reference.remove_blocks(model, names)(X).detach()
    check_close(remove_blocks(model, list(names))(X), expected, f"remove_blocks(model, {names})(X)")
for parts in (False, True):
    options = {"inplace": True, "hooks": True, "mixed": True, "gradients": True}
    model = awkward_network(reference.seed, parts=parts, **options)
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
    "One block less ruins the plain network, and costs little where γ = 0 was the start"
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
# so theirs is the fair comparison: without skips any missing block takes away most of the skill,
# with skips the last one can nearly be spared. The deeper networks have one more reason to bear it,
# as a block is a smaller part of them. Now more and more blocks go, in four random orders.

# %%
figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
for name, marker in zip(chosen, ["s", "D", "o", "^"], strict=True):
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
ax.set_title("Of the two with 32 layers, the one that began as the identity fades more slowly")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The plain network needs each of its layers, as each was trained on what the one before gives. The
# residual network that started with $\gamma = 0$ does as Veit et al. say: a block less costs little
# on average, and with each further block it gets worse *gradually*, as if members left a committee.
#
# The one with the usual start doesn't quite. Its first block is dearly missed, and with two in five
# of its blocks gone little is left of its skill. So it isn't the wiring alone that makes a crowd of
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
# the work of a 3 × 3 convolution, so every stage costs about the same. ResNet-18 has two blocks in each
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

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), width_ratios=[1, 1.7], layout="constrained")
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
axes[1].set_title("Stage by stage: half the values, about four times the weights", fontsize=11)
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
