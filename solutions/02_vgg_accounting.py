# %% [markdown]
# # Lab 02: What a network costs
#
# VGG-16 is thirteen convolutions, five pools and three fully connected layers, with ReLUs in
# between. That makes it the ideal network for bookkeeping: how many numbers does it hold, how many
# does it learn, how many multiplications does one photograph cost, and will it fit on your graphics
# card? You will answer with formulas short enough to work out by hand, catch a famous mistake, and
# in the end let the computer keep the books of any network.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. One layer | `output_size`, `conv_parameters`, `conv_multiply_adds` | 30 |
# | 2. The whole of VGG-16 | `vgg_table` | 30 |
# | 3. The puzzle of the 24 million | `total_with_inputs`, and an answer in words | 25 |
# | 4. What has to fit in memory | `inference_peak`, `bytes_for_backward`, `largest_batch` | 45 |
# | 5. How far a value sees (optional) | `receptive_field` | 20 |
# | 6. Any network at all | `account`, and an answer in words | 45 |
#
# Section 5 is optional. The others need nothing from it, and take just under three hours.
#
# The cells beneath each exercise are its tests. Each answers **right so far**, or says in one
# sentence what is wrong. Everything in this lab is a whole number, so they are exact. And nothing
# in it needs a trained network or a large machine: PyTorch has a **meta device**, whose tensors
# have a shape and no numbers in them, so that a network of 138 million weights takes next to no
# memory and time.
#
# Three conventions, because people who disagree about such numbers often only count differently:
#
# - A **value** is one number that a layer puts out, for *one* image. ReLU works in place, so it
#   adds no values of its own.
# - A **multiply-add** is one multiplication with the addition that follows it. "FLOPs" are twice as
#   many, except where somebody calls multiply-adds FLOPs. We count those of convolutions and
#   fully connected layers, without adding the bias.
# - 1 MB is $10^6$ bytes, 1 MiB is $2^{20}$ bytes. A float32 takes 4 bytes.

# %% given=true
from contextlib import suppress
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from utils.checks import check_close, check_tuple
from utils.guard import check_without
from utils.testing_networks import awkward_network

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
FULLY_CONNECTED = [4096, 4096, 1000]
COLUMNS = ("output_shape", "values", "parameters", "multiply_adds")
ROW = ("name", "output_shape", "parameters", "multiply_adds")


def check_rows(table, columns, name):
    """Return the rows of a table if each is a tuple of as many values as there are columns."""
    if not isinstance(table, list | tuple):
        hint = "; is a `return` missing?" if table is None else ""
        raise AssertionError(f"{name}: expected a list of rows, got {type(table).__name__}{hint}.")
    return [
        check_tuple(row, columns, f"row {number} of {name}") for number, row in enumerate(table)
    ]


def check_table(table, name):
    """Return the columns of a vgg_table: shapes (rows, 3), values, parameters, multiply-adds."""
    rows = check_rows(table, COLUMNS, name)
    shapes = [
        check_tuple(row[0], "CHW", f"output_shape in row {number} of {name}")
        for number, row in enumerate(rows)
    ]
    return np.array(shapes), *(np.array([row[column] for row in rows]) for column in (1, 2, 3))


# %%
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
MiB = 2**20

# %% [markdown]
# ## 1. One layer
#
# Whatever a layer costs is decided by how many outputs it has. Along one axis, a window of
# $k$ taps that are $d$ pixels apart (the **dilation**) covers $d (k - 1) + 1$ pixels. Lay it over
# $n$ pixels with $p$ zeros added at either end, move it by $s$ pixels (the **stride**) from one
# output to the next, and the number of places where it fits is
#
# $$n_{\text{out}} = \left\lfloor \frac{n + 2p - d\,(k - 1) - 1}{s} \right\rfloor + 1$$
#
# The brackets mean rounding down: if the pixels left over at the end are too few for one more step,
# they are dropped.
#
# ### Exercise: `output_size`
# ★☆☆ · 10 minutes


# %% exercise="output_size" without="torch"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    """How many outputs a convolution or a pool has along one axis.

    Write the formula yourself: asking a layer of PyTorch costs a point.

    Args:
        size: n, pixels along the axis, int.
        kernel_size: k, taps of the window, int ≥ 1.
        stride: s, int ≥ 1.
        padding: p, zeros added at *each* end, int ≥ 0.
        dilation: d, pixels from one tap to the next, int ≥ 1.

    Returns:
        The number of outputs, int. Wherever we call it, the window fits at least once.
    """
    ### BEGIN SOLUTION
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
    ### END SOLUTION


# %% test="output_size" points=1 aspect="stride, padding and dilation"
for size, kernel_size, stride, padding, dilation in [
    (10, 4, 1, 0, 1),
    (9, 4, 1, 2, 1),
    (9, 4, 3, 0, 1),
    (16, 6, 3, 0, 1),
    (14, 4, 1, 0, 3),
    (18, 5, 2, 6, 3),
]:
    ### BEGIN EXPECTED
    n, k, s, p, d = size, kernel_size, stride, padding, dilation
    expected = reference.output_size(n, k, s, p, d)
    last_start = n + 2 * p - d * (k - 1) - 1
    mistakes = {
        "the stride divides the + 1 too: the first window costs no step": (last_start + 1) // s,
        "the padding is ignored": reference.output_size(n, k, s, 0, d),
        "the padding is added at one end only: both ends get it": (
            reference.output_size(n + p, k, s, 0, d)
        ),
        "the stride is ignored": reference.output_size(n, k, 1, p, d),
        "the result is rounded up: a window that doesn't fit has no output": (
            -(last_start // -s) + 1
        ),
        "the result isn't rounded down": last_start / s + 1,
        "the dilation is ignored": reference.output_size(n, k, s, p, 1),
        "the window covers dilation · kernel_size pixels: the last tap needs no gap after it": (
            (n + 2 * p - d * k) // s + 1
        ),
        "the dilation is taken for the number of pixels skipped between taps": (
            reference.output_size(n, k, s, p, d + 1)
        ),
    }
    if stride == 1:  # with a larger one, these can't be told from others
        mistakes |= {
            "the last window is forgotten: there is one more output than there are steps": (
                expected - 1
            ),
            "the last window sticks out by a pixel: it covers one more than its gaps": (
                expected + 1
            ),
        }
    ### END EXPECTED
    check_close(
        output_size(size, kernel_size, stride, padding, dilation),
        expected,
        f"output_size({size}, {kernel_size}, {stride=}, {padding=}, {dilation=})",
        mistakes=mistakes,
    )

# %% test="output_size" points=1 aspect="general sizes"
# Other sizes and windows are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for _ in range(20):
    kernel_size, stride, padding, dilation = (int(rng.integers(low, 6)) for low in (1, 1, 0, 1))
    size = dilation * (kernel_size - 1) + int(rng.integers(1, 30))
    expected = reference.output_size(size, kernel_size, stride, padding, dilation)
    check_close(
        output_size(size, kernel_size, stride, padding, dilation),
        expected,
        f"output_size({size}, {kernel_size}, {stride=}, {padding=}, {dilation=})",
    )
check_close(
    output_size(9, 4), reference.output_size(9, 4), "output_size(9, 4), the rest by default"
)
check_close(output_size(5, 5, 3), reference.output_size(5, 5, 3), "a window that fits just once")
### END HIDDEN TESTS

# %% test="output_size" points=1 aspect="written by hand"
for arguments in [(9, 4), (97, 4, 3, 4, 2)]:
    ### BEGIN EXPECTED
    expected = reference.output_size(*arguments)
    ### END EXPECTED
    check_close(output_size(*arguments), expected, f"output_size{arguments}")
check_without(output_size)

# %%
figure, axes = plt.subplots(2, 2, figsize=(11, 5), layout="constrained")
figure.suptitle("Stride thins out the outputs, padding adds some, dilation widens the window")
for ax, (stride, padding, dilation) in zip(
    axes.flat, [(1, 0, 1), (1, 1, 1), (2, 0, 1), (1, 0, 2)], strict=True
):
    outputs = output_size(8, 3, stride, padding, dilation)
    pixels = np.arange(-padding, 8 + padding)
    touched = set()
    for output in range(outputs):
        taps = [output * stride - padding + tap * dilation for tap in range(3)]
        touched.update(taps)
        centre, dark = sum(taps) / 3, output % 2
        for tap in taps:
            ax.plot([tap, centre], [0, 1], color=BLUE if dark else ORANGE, zorder=1)
        ax.scatter(centre, 1, s=150, color=BLUE if dark else ORANGE, edgecolor="black")
    used = [pixel in touched and 0 <= pixel < 8 for pixel in pixels]
    faces = ["0.35" if is_used else "white" for is_used in used]
    ax.scatter(pixels, 0 * pixels, s=170, marker="s", color=faces, edgecolor="black")
    for pixel in pixels:
        if not 0 <= pixel < 8:
            ax.annotate("zero", (pixel, -0.28), ha="center", va="top")
        elif pixel not in touched:
            ax.annotate("dropped", (pixel, -0.28), ha="center", va="top")
    ax.set_title(f"stride {stride}, padding {padding}, dilation {dilation}: 8 → {outputs}")
    ax.set(ylim=(-0.7, 1.3), xlim=(-1.6, 8.6))
    ax.axis("off")
plt.show()

# %% [markdown]
# Squares are pixels, circles are outputs, and lines say who sees whom; the two colours only keep
# neighbours apart. With stride 2 the last pixel fits into no window and is dropped without a word,
# so 7 pixels and 8 pixels give the same number of outputs: the output's size alone doesn't tell you
# the input's. VGG-16 uses one setting throughout, $k = 3$, $s = 1$, $p = 1$, which leaves
# the size as it is, and pools of $k = s = 2$, which halve it.
#
# ### Exercise: `conv_parameters`
# ★☆☆ · 10 minutes
#
# A convolution layer has $C_{\text{out}}$ filters. Each looks at *all* $C_{\text{in}}$ channels
# through a window of its own weights, and may have one bias:
#
# $$\text{parameters} = C_{\text{out}} \left( C_{\text{in}}\, k_H k_W + [\text{bias}] \right)$$
#
# A fully connected layer is the special case in which the window covers the whole input: VGG's
# first one sees 512 channels of 7 × 7 at once, with 4096 filters.


# %% exercise="conv_parameters" without="torch"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    """How many numbers a convolution layer learns.

    Write the formula yourself: asking a layer of PyTorch costs a point.

    Args:
        in_channels: C_in, int.
        out_channels: C_out, int; the number of filters.
        kernel_size: the window's (height, width), a tuple of two ints.
        bias: whether each filter has a bias, bool.

    Returns:
        The number of parameters, int.
    """
    ### BEGIN SOLUTION
    kernel_height, kernel_width = kernel_size
    return out_channels * (in_channels * kernel_height * kernel_width + bias)
    ### END SOLUTION


# %% test="conv_parameters" points=1 aspect="weights, then biases"
for bias in (False, True):
    ### BEGIN EXPECTED
    expected = reference.conv_parameters(5, 7, (2, 3), bias)
    weights = reference.conv_parameters(5, 7, (2, 3), False)
    mistakes = {
        "bias=False is ignored": weights + 7,
        "the biases are missing": weights,
        "each filter has one window for all channels: it needs one for each of them": (
            reference.conv_parameters(1, 7, (2, 3), bias)
        ),
        "there is a single filter: there are out_channels of them": (
            reference.conv_parameters(5, 1, (2, 3), bias)
        ),
        "the window is taken for square, as wide as it is high": (
            reference.conv_parameters(5, 7, (2, 2), bias)
        ),
        "the window is taken for square, as high as it is wide": (
            reference.conv_parameters(5, 7, (3, 3), bias)
        ),
        "height and width of the window are added, not multiplied": (
            reference.conv_parameters(5, 7, (1, 2 + 3), bias)
        ),
        "there is a bias for each input channel: each filter has one": weights + 5 * bias,
        "there is a bias for each pair of channels: each filter has one": weights + 5 * 7 * bias,
        "there is a bias for each weight: each filter has one": 2 * weights if bias else weights,
        "there is a single bias: each filter has one": weights + bias,
    }
    ### END EXPECTED
    check_close(
        conv_parameters(5, 7, (2, 3), bias),
        expected,
        f"conv_parameters(5, 7, (2, 3), {bias=})",
        mistakes=mistakes,
    )

# %% test="conv_parameters" points=1 aspect="general layers"
# Layers of other sizes are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for _ in range(10):
    in_channels, out_channels, height, width = map(int, rng.integers(1, 40, size=4))
    bias = bool(rng.integers(2))
    expected = reference.conv_parameters(in_channels, out_channels, (height, width), bias)
    check_close(
        conv_parameters(in_channels, out_channels, (height, width), bias),
        expected,
        f"conv_parameters({in_channels}, {out_channels}, ({height}, {width}), {bias=})",
    )
expected = reference.conv_parameters(3, 2, (4, 6))
check_close(conv_parameters(3, 2, (4, 6)), expected, "conv_parameters with a bias by default")
### END HIDDEN TESTS

# %% test="conv_parameters" points=1 aspect="written by hand"
### BEGIN EXPECTED
expected = reference.conv_parameters(2, 3, (4, 5))
### END EXPECTED
name = "conv_parameters(2, 3, (4, 5)), with biases by default"
check_close(conv_parameters(2, 3, (4, 5)), expected, name)
check_without(conv_parameters)

# %%
channels = 256
designs = {
    "one 7 × 7\n(sees 7 × 7)": [(channels, channels, (7, 7))],
    "one 5 × 5\n(sees 5 × 5)": [(channels, channels, (5, 5))],
    "three 3 × 3\n(sees 7 × 7)": [(channels, channels, (3, 3))] * 3,
    "two 3 × 3\n(sees 5 × 5)": [(channels, channels, (3, 3))] * 2,
    "1 × 7, then 7 × 1\n(sees 7 × 7)": [(channels, channels, (1, 7)), (channels, channels, (7, 1))],
    "1 × 1 to 64 channels, 3 × 3,\n1 × 1 back (sees 3 × 3)": [
        (channels, 64, (1, 1)),
        (64, 64, (3, 3)),
        (64, channels, (1, 1)),
    ],
}
totals = [sum(conv_parameters(*layer) for layer in layers) for layers in designs.values()]
figure, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
bars = ax.barh(list(designs), np.array(totals) / 1e6, color=BLUE)
ax.bar_label(bars, [f"{total:,}" for total in totals], padding=4)
ax.invert_yaxis()
ax.set_xlim(right=3.9)
ax.set_xlabel("parameters in millions, biases included")
ax.set_title("256 channels to 256: three small windows see as far as a large one, for 55%")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# This is the idea of VGG: never use a large window. Three layers of 3 × 3 see as far as one of
# 7 × 7 (section 5 says how to compute that) with $27 C^2$ weights in place of $49 C^2$, and have
# two more ReLUs between them. The last bar is ResNet's bottleneck: squeeze the channels first,
# look around cheaply, widen again. Parameters aren't everything, though: the three layers put out
# three times the values, and section 4 shows what that costs.
#
# ### Exercise: `conv_multiply_adds`
# ★☆☆ · 10 minutes
#
# Every output value is a sum over the window and all input channels. So the work is
#
# $$\text{multiply-adds}
#   = \underbrace{C_{\text{out}} H_{\text{out}} W_{\text{out}}}_{\text{output values}}
#   \times \underbrace{C_{\text{in}}\, k_H k_W}_{\text{products in each}}$$


# %% exercise="conv_multiply_adds" without="torch"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    """How many multiply-adds a convolution layer takes for one image; the bias isn't counted.

    Write the formula yourself: asking PyTorch costs a point.

    Args:
        in_channels: C_in, int.
        output_shape: the output's (C_out, H_out, W_out), a tuple of three ints.
        kernel_size: the window's (height, width), a tuple of two ints.

    Returns:
        The number of multiply-adds, int.
    """
    ### BEGIN SOLUTION
    out_channels, height, width = output_shape
    kernel_height, kernel_width = kernel_size
    return out_channels * height * width * in_channels * kernel_height * kernel_width
    ### END SOLUTION


# %% test="conv_multiply_adds" points=1 aspect="one layer"
output_shape, kernel_size = (7, 4, 5), (2, 3)
### BEGIN EXPECTED
expected = reference.conv_multiply_adds(5, output_shape, kernel_size)
values, products = 7 * 4 * 5, 5 * 2 * 3
mistakes = {
    "FLOPs are counted: a multiplication and its addition are one multiply-add": 2 * expected,
    "FLOPs are counted, without the first addition of each sum": values * (2 * products - 1),
    "the bias is counted": values * (products + 1),
    "only one input channel is summed over: each output value takes all of them": (
        reference.conv_multiply_adds(1, output_shape, kernel_size)
    ),
    "only one filter is counted: there are C_out of them": (
        reference.conv_multiply_adds(5, (1, 4, 5), kernel_size)
    ),
    "the layer's weights are counted: each is used at every position": (
        reference.conv_multiply_adds(5, (7, 1, 1), kernel_size)
    ),
    "only the output values are counted: each of them is a sum of products": values,
    "the window is left out: each output value takes all of its pixels": (
        reference.conv_multiply_adds(5, output_shape, (1, 1))
    ),
    "the window is taken for square, as wide as it is high": (
        reference.conv_multiply_adds(5, output_shape, (2, 2))
    ),
    "the window is taken for square, as high as it is wide": (
        reference.conv_multiply_adds(5, output_shape, (3, 3))
    ),
    "the output is taken for square, as wide as it is high": (
        reference.conv_multiply_adds(5, (7, 4, 4), kernel_size)
    ),
    "the output is taken for square, as high as it is wide": (
        reference.conv_multiply_adds(5, (7, 5, 5), kernel_size)
    ),
    "the last of the additions is left out: count each multiplication": values * (products - 1),
    "output values and products are added, not multiplied": values + products,
}
### END EXPECTED
check_close(
    conv_multiply_adds(5, output_shape, kernel_size),
    expected,
    f"conv_multiply_adds(5, {output_shape}, {kernel_size})",
    mistakes=mistakes,
)

# %% test="conv_multiply_adds" points=1 aspect="general layers"
# Layers of other sizes are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for _ in range(10):
    in_channels, *output_shape = map(int, rng.integers(1, 40, size=4))
    output_shape, kernel_size = tuple(output_shape), tuple(map(int, rng.integers(1, 8, size=2)))
    expected = reference.conv_multiply_adds(in_channels, output_shape, kernel_size)
    check_close(
        conv_multiply_adds(in_channels, output_shape, kernel_size),
        expected,
        f"conv_multiply_adds({in_channels}, {output_shape}, {kernel_size})",
    )
### END HIDDEN TESTS

# %% test="conv_multiply_adds" points=1 aspect="written by hand"
# VGG-16's first layer.
### BEGIN EXPECTED
expected = reference.conv_multiply_adds(3, (64, 224, 224), (3, 3))
### END EXPECTED
name = "conv_multiply_adds(3, (64, 224, 224), (3, 3))"
check_close(conv_multiply_adds(3, (64, 224, 224), (3, 3)), expected, name)
check_without(conv_multiply_adds)

# %%
sides = np.array([28, 56, 112, 224, 448])
curves = {
    "multiply-adds": ([conv_multiply_adds(64, (64, n, n), (3, 3)) for n in sides], GREEN, "^"),
    "values": ([64 * output_size(n, 3, padding=1) ** 2 for n in sides], BLUE, "o"),
    "parameters": ([conv_parameters(64, 64, (3, 3)) for _ in sides], ORANGE, "s"),
}
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
for name, (counts, colour, marker) in curves.items():
    ax.loglog(sides, counts, color=colour, marker=marker)
    ax.annotate(name, (sides[-1] * 1.08, counts[-1]), color=colour, va="center")
ax.set_xticks(sides, labels=[f"{n} × {n}" for n in sides])
ax.minorticks_off()
ax.set_xlim(right=1000)
ax.set_xlabel("image")
ax.set_ylabel("count (logarithmic)")
ax.set_title("Twice the side costs four times the values and work, and no parameter more")
ax.grid(color="0.9")
plt.show()

# %% [markdown]
# The figure shows one layer, 64 channels to 64. Parameters say nothing about the size of the
# image: a convolution with few of them can still be the most expensive layer of a network. Keep
# that in mind whenever a network is called "small".
#
# ## 2. The whole of VGG-16
#
# Now chain the layers. In the list `VGG16` (it is in the given cell at the top, which unfolds with a
# click) a number is a 3 × 3 convolution with that many filters (stride 1, padding 1), and an `"M"`
# is a 2 × 2 max pool of stride 2. Then come the fully connected layers of `FULLY_CONNECTED`. The
# first of them sees the whole last map, so it has $512 \cdot 7 \cdot 7$ weights for each of its 4096
# outputs.
#
# ### Exercise: `vgg_table`
# ★★☆ · 30 minutes
#
# Call your own functions where they fit, or write the little that a 3 × 3 layer needs in place: as
# you like.
#
# <details><summary>Hint</summary>
#
# Go through the layers with three variables in hand, the `channels`, `height` and `width` of what
# came out last, and append one row for each layer. A fully connected layer takes
# `channels * height * width` inputs and leaves a map of 1 × 1.
#
# </details>


# %% exercise="vgg_table" without="torch"
def vgg_table(convolutions, fully_connected, input_shape):
    """The books of a network like VGG, for one image, biases not counted.

    Write them with formulas: running a network of PyTorch costs a point.

    Args:
        convolutions: the layers before the fully connected ones, a list: an int is a 3 × 3
            convolution with that many filters, stride 1, padding 1; "M" is a 2 × 2 max pool of
            stride 2 (which drops an odd row or column).
        fully_connected: the outputs of each fully connected layer, a list of ints.
        input_shape: the image's (C, H, W), a tuple.

    Returns:
        One row for the input and one for each layer, a list of tuples
            (output_shape, values, parameters, multiply_adds):
        output_shape: the tuple (C, H, W); (F, 1, 1) after a fully connected layer with F outputs.
        values: how many values the layer puts out, int.
        parameters: how many weights it has, int; 0 for the input and for pools.
        multiply_adds: int; 0 for the input and for pools.
    """
    ### BEGIN SOLUTION
    channels, height, width = input_shape
    table = [(input_shape, channels * height * width, 0, 0)]
    for layer in convolutions:
        if layer == "M":
            height, width = height // 2, width // 2
            weights = 0
        else:
            weights = layer * channels * 3 * 3
            channels = layer
        shape = (channels, height, width)
        table.append((shape, channels * height * width, weights, weights * height * width))
    for outputs in fully_connected:
        weights = outputs * channels * height * width
        channels, height, width = outputs, 1, 1
        table.append(((channels, 1, 1), channels, weights, weights))
    return table
    ### END SOLUTION


# %% test="vgg_table" points=1 aspect="output shapes"
for convolutions, fully_connected, input_shape in [
    (VGG16, FULLY_CONNECTED, (3, 224, 224)),
    ([8, "M", 16, "M"], [10, 7], (3, 11, 14)),
]:
    ### BEGIN EXPECTED
    table = reference.vgg_table(convolutions, fully_connected, input_shape)
    expected = np.array([row[0] for row in table])
    is_pool = np.array([layer == "M" for layer in ["input", *convolutions, *fully_connected]])

    full = expected[len(convolutions) + 1 :]
    no_pools, high_pools, rounded, bordered = (
        [input_shape],
        [input_shape],
        [input_shape],
        [input_shape],
    )
    for layer in convolutions:
        for rows, border, halve in [
            (no_pools, 0, lambda H, W: (H, W)),
            (high_pools, 0, lambda H, W: (H // 2, W)),
            (rounded, 0, lambda H, W: (-(H // -2), -(W // -2))),
            (bordered, 2, lambda H, W: (H // 2, W // 2)),
        ]:
            C, H, W = rows[-1]
            rows.append((C, *halve(H, W)) if layer == "M" else (layer, H - border, W - border))

    mistakes = {
        "the row of the input is missing": expected[1:],
        "the rows of the pools are missing": expected[~is_pool],
        "the rows of the fully connected layers are missing": expected[: len(convolutions) + 1],
        "the shapes are (H, W, C): the channels come first": expected[:, [1, 2, 0]],
        "height and width are exchanged": expected[:, [0, 2, 1]],
        "pools don't halve the map": np.array([*no_pools, *full]),
        "pools halve the height only": np.array([*high_pools, *full]),
        "pools round up: an odd row or column is dropped": np.array([*rounded, *full]),
        "convolutions lose a border of one pixel: with padding 1 they keep the size": (
            np.array([*bordered, *full])
        ),
    }
    ### END EXPECTED
    name = f"vgg_table({convolutions}, {fully_connected}, {input_shape})"
    shapes, _, _, _ = check_table(vgg_table(convolutions, fully_connected, input_shape), name)
    check_close(shapes, expected, f"the column of output shapes of {name}", mistakes=mistakes)

# %% test="vgg_table" points=1 aspect="values"
### BEGIN EXPECTED
table = reference.vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224))
expected = np.array([row[1] for row in table])
shapes = np.array([row[0] for row in table])
learns = np.array([row[2] > 0 for row in table])
place = np.arange(len(table))
mistakes = {
    "bytes are counted: each value counts as one": 4 * expected,
    "pools put out nothing: their outputs are values too": expected * (learns | (place == 0)),
    "the input's values are missing": expected * (place > 0),
    "the channels are left out": shapes[:, 1] * shapes[:, 2],
    "only the channels are counted: a map has a value at each place": shapes[:, 0],
    "the input and the output are counted: only what a layer puts out": (
        expected + np.concatenate([[0], expected[:-1]])
    ),
    "ReLU's outputs are counted too: it works in place": (
        expected * np.where(learns & (place < len(table) - 1), 2, 1)
    ),
}
### END EXPECTED
name = "vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224))"
_, values, _, _ = check_table(vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224)), name)
check_close(values, expected, f"the column of values of {name}", mistakes=mistakes)

# %% test="vgg_table" points=1 aspect="parameters"
### BEGIN EXPECTED
table = reference.vgg_table(VGG16, FULLY_CONNECTED, (3, 256, 320))
expected = np.array([row[2] for row in table])
outputs, inputs = (
    np.array([shape[0] for shape, *_ in rows]) for rows in (table, table[:1] + table)
)
place = np.arange(len(table))
is_full = place >= len(table) - 3
is_convolution = (expected > 0) & ~is_full
mistakes = {
    "biases are counted": expected + outputs * (expected > 0),
    "every convolution sees 3 channels: it sees those of the layer before": np.where(
        is_convolution, 3 * 3 * 3 * outputs, expected
    ),
    "a convolution sees as many channels as it puts out: it sees those of the layer before": (
        np.where(is_convolution, 3 * 3 * outputs**2, expected)
    ),
    "each filter has one 3 × 3 window for all channels": np.where(
        is_convolution, 3 * 3 * outputs, expected
    ),
    "a window has 3 weights: it has 3 × 3": np.where(is_convolution, expected // 3, expected),
    "the first fully connected layer sees a value of each channel: it sees the whole map": np.where(
        place == len(table) - 3, 4096 * 512, expected
    ),
    "every fully connected layer sees the last map: the others see the one before": (
        np.where(is_full, table[-4][1] * outputs, expected)
    ),
    "pools have weights: they only take a maximum": np.where(
        (expected == 0) & (place > 0), 2 * 2 * outputs, expected
    ),
    "pools have weights, as a convolution has: they only take a maximum": np.where(
        (expected == 0) & (place > 0), 3 * 3 * outputs * inputs[:-1], expected
    ),
}
### END EXPECTED
name = "vgg_table(VGG16, FULLY_CONNECTED, (3, 256, 320))"
_, _, parameters, _ = check_table(vgg_table(VGG16, FULLY_CONNECTED, (3, 256, 320)), name)
check_close(parameters, expected, f"the column of parameters of {name}", mistakes=mistakes)

# %% test="vgg_table" points=1 aspect="multiply-adds"
### BEGIN EXPECTED
table = reference.vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224))
values, weights, expected = (np.array([row[n] for row in table]) for n in (1, 2, 3))
is_full = np.arange(len(table)) >= len(table) - 3
mistakes = {
    "FLOPs are counted: a multiplication and its addition are one multiply-add": 2 * expected,
    "the weights are counted: each is used at every position": weights,
    "fully connected layers take no multiply-adds: each weight is used once": (
        np.where(is_full, 0, expected)
    ),
    "each weight of a fully connected layer is used at 7 × 7 positions: it is used once": (
        np.where(np.arange(len(table)) == len(table) - 3, 49 * weights, expected)
    ),
    "the weights are multiplied with the output values: positions are enough": weights * values,
    "the biases are counted": np.where(weights > 0, expected + values, 0),
    "a pool's comparisons are counted: it multiplies nothing": np.where(
        (weights == 0) & (np.arange(len(table)) > 0), 2 * 2 * values, expected
    ),
}
### END EXPECTED
name = "vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224))"
_, _, _, multiply_adds = check_table(vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224)), name)
check_close(multiply_adds, expected, f"the column of multiply-adds of {name}", mistakes=mistakes)

# %% test="vgg_table" points=1 aspect="general networks"
# Other networks and images are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for convolutions, fully_connected, input_shape in [
    ([8, "M", 16, "M", 16, 32, "M"], [10], (3, 50, 37)),
    (["M", 5, 7], [11, 13], (2, 9, 14)),
    ([int(n) for n in rng.integers(1, 30, size=4)], [3, 4, 5, 6], (1, 5, 4)),
    ([6, "M", "M"], [], (4, 13, 10)),
]:
    name = f"vgg_table({convolutions}, {fully_connected}, {input_shape})"
    expected = reference.vgg_table(convolutions, fully_connected, input_shape)
    rows = check_rows(vgg_table(convolutions, fully_connected, input_shape), COLUMNS, name)
    assert len(rows) == len(expected), f"{name}: expected {len(expected)} rows, got {len(rows)}."
    for number, (row, expected_row) in enumerate(zip(rows, expected, strict=True)):
        check_close(np.array(row[0]), np.array(expected_row[0]), f"row {number} of {name}, shape")
        check_close(np.array(row[1:]), np.array(expected_row[1:]), f"row {number} of {name}")
### END HIDDEN TESTS

# %% test="vgg_table" points=1 aspect="written by hand"
### BEGIN EXPECTED
table = reference.vgg_table([4, "M", 5], [6], (2, 7, 9))
expected = np.array([(*shape, *numbers) for shape, *numbers in table])
### END EXPECTED
name = "vgg_table([4, 'M', 5], [6], (2, 7, 9))"
shapes, *numbers = check_table(vgg_table([4, "M", 5], [6], (2, 7, 9)), name)
check_close(np.column_stack([shapes, *numbers]), expected, name)
check_without(vgg_table)

# %% [markdown]
# Here it is, with its totals. The lecture's table is the columns of values and parameters.

# %%
import torchvision

table = vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224))
layer_names = [
    "input",
    *("pool" if layer == "M" else f"conv3-{layer}" for layer in VGG16),
    *(f"fc-{outputs}" for outputs in FULLY_CONNECTED),
]
print(f"{'layer':10} {'output':>13} {'values':>11} {'parameters':>12} {'multiply-adds':>15}")
for layer_name, ((C, H, W), values, parameters, multiply_adds) in zip(
    layer_names, table, strict=True
):
    shape = f"{H}×{W}×{C}"
    print(f"{layer_name:10} {shape:>13} {values:11,} {parameters:12,} {multiply_adds:15,}")

total_values, total_parameters, total_multiply_adds = (
    sum(row[column] for row in table) for column in (1, 2, 3)
)
print(f"{'total':24} {total_values:11,} {total_parameters:12,} {total_multiply_adds:15,}")

biases = sum(shape[0] for shape, _, parameters, _ in table if parameters)
weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1
print(f"\nmemory in float32: {4 * total_values / MiB:.1f} MiB")
print(f"with its {biases:,} biases: {total_parameters + biases:,} parameters")
print(f"torchvision says:           {weights.meta['num_params']:,} parameters,", end=" ")
print(f"{weights.meta['_ops']} billion multiply-adds")

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 6), sharey=True, layout="constrained")
figure.suptitle("Values are at the start, parameters at the end, work in between")
columns = {
    "values, in millions": (1, 1e6, BLUE),
    "parameters, in millions": (2, 1e6, ORANGE),
    "multiply-adds, in billions": (3, 1e9, GREEN),
}
places = np.arange(len(table))
for ax, (title, (column, unit, colour)) in zip(axes, columns.items(), strict=True):
    counts = np.array([row[column] for row in table])
    bars = ax.barh(places, counts / unit, color=colour)
    shares = 100 * counts / counts.sum()
    ax.bar_label(bars, [f"{share:.0f}%" if share >= 2 else "" for share in shares], padding=3)
    ax.set_title(title)
    ax.set_xlim(right=1.15 * counts.max() / unit)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(
    places, [f"{layer_name}  {place}" for place, layer_name in enumerate(layer_names)]
)
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# More than two fifths of the *values* are in the first two convolutions, and three quarters of the
# *parameters* in the first fully connected layer. The *work* is spread over the convolutions; the
# first has little of it, since it sees three channels only, and the last three have less than those
# before them. What joins the panels is one number for each layer. A weight of a convolution is used
# at every position of its output: 50,176 times in the first two layers, 196 times in the last three
# convolutions; a weight of a fully connected layer is used once. Multiply the middle panel by that
# number and you have the right one.
#
# What the figure doesn't show is time. For a single image, a graphics card may wait longer for the
# 411 MB of weights of the first fully connected layer to arrive than for the arithmetic of a
# convolution that does nine times the work.
#
# ## 3. The puzzle of the 24 million
#
# The rows sum to 15,237,608 values, or 58.1 MiB per image in float32. Yet
# [the course notes of Stanford's CS231n](https://cs231n.github.io/convolutional-networks/), from
# which very many people have learned, give the total of these very rows as **24 million values,
# 93 MB per image**, forward pass only. It has been copied ever since. Where could it come from?
#
# Imagine a bookkeeper who goes from layer to layer and asks "what do you hold?". A convolution
# answers: my output, and, since I'll need it for my weights' gradient, my input.
#
# ### Exercise: `total_with_inputs`
# ★★☆ · 10 minutes


# %% exercise="total_with_inputs"
def total_with_inputs(table):
    """The total of a bookkeeper who enters every layer's output, and the input of those that learn.

        Σ values of every row  +  Σ values of the row *before* each row that has parameters

    Args:
        table: rows (output_shape, values, parameters, multiply_adds) as in vgg_table; the first
            row is the input's. A row's input is the row before it.

    Returns:
        The number of values entered, int.
    """
    ### BEGIN SOLUTION
    total = sum(values for _, values, _, _ in table)
    for before, row in pairwise(table):
        if row[2]:
            total += before[1]
    return total
    ### END SOLUTION


# %% test="total_with_inputs" points=1 aspect="a small table"
small = [  # a pool comes first, so its own input and the convolution's differ
    ((3, 8, 10), 240, 0, 0),
    ((3, 4, 5), 60, 0, 0),
    ((7, 4, 5), 140, 189, 3780),
    ((7, 2, 2), 28, 0, 0),
    ((11, 1, 1), 11, 308, 308),
    ((5, 1, 1), 5, 55, 55),
]
### BEGIN EXPECTED
expected = reference.total_with_inputs(small)
values, parameters = (np.array([row[n] for row in small]) for n in (1, 2))
learns = parameters > 0
inputs = expected - values.sum()
mistakes = {
    "only the outputs are entered": values.sum(),
    "only the inputs of layers that learn are entered": inputs,
    "pools enter their inputs too: only layers with parameters do": 2 * values.sum() - values[-1],
    "everything is entered twice": 2 * values.sum(),
    "layers that learn enter their output twice: it is the input that is entered": (
        values.sum() + values[learns].sum()
    ),
    "pools and the image leave out their outputs: every layer enters its own": (
        values[learns].sum() + inputs
    ),
    "the image itself is left out: the first row counts as well": expected - values[0],
    "the row after a layer that learns is entered, not the one before": (
        values.sum() + values[1:][learns[:-1]].sum()
    ),
    "the inputs are those of the layers without parameters": (
        values.sum() + values[:-1][~learns[1:]].sum()
    ),
    "the rows before are those that learn: it is the row itself that has to learn": (
        values.sum() + values[:-1][learns[:-1]].sum()
    ),
    "the parameters of layers that learn are entered, not their inputs": (
        values.sum() + parameters.sum()
    ),
    "a fully connected layer enters no input: it learns, too": (
        values.sum() + values[:-1][learns[1:] & (values[1:] > 11)].sum()
    ),
}
### END EXPECTED
check_close(total_with_inputs(list(small)), expected, "total_with_inputs(small)", mistakes=mistakes)

# %% test="total_with_inputs" points=1 aspect="general tables"
# Other tables are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for convolutions, fully_connected in [
    ([4, 8, "M", 8], [10, 10]),
    (["M", 5, "M"], [3]),
    ([3, "M", "M"], []),
]:
    height, width = map(int, rng.integers(8, 30, size=2))
    books = reference.vgg_table(convolutions, fully_connected, (3, height, width))
    expected = reference.total_with_inputs(books)
    check_close(
        total_with_inputs(books),
        expected,
        f"total_with_inputs of the table of {convolutions}, {fully_connected}",
    )
### END HIDDEN TESTS

# %%
VGG19 = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]


def total(convolutions, side):
    return sum(row[1] for row in vgg_table(convolutions, FULLY_CONNECTED, (3, side, side)))


relu_outputs = sum(row[1] for row in table if row[2]) - 1000  # the scores have no ReLU
suspects = {
    "the rows": total(VGG16, 224),
    "the rows of VGG-19": total(VGG19, 224),
    "the rows for images of 256 × 256": total(VGG16, 256),
    "outputs, and inputs of layers that learn": total_with_inputs(table),
    "outputs, and those of ReLU again": total(VGG16, 224) + relu_outputs,
    "forward and backward, each the rows": 2 * total(VGG16, 224),
}
counts = np.array(list(suspects.values()))
figure, ax = plt.subplots(figsize=(10, 4), layout="constrained")
ax.axvspan(23.5, 24.5, color="0.82")
ax.annotate("rounds to\n24 million", (24, -0.55), ha="center", va="bottom")
bars = ax.barh(list(suspects), counts / 1e6, color=[BLUE] * 3 + ["#B34700"] + [BLUE] * 2)
labels = [f"{n:,} = {4 * n / MiB:.1f} MiB" for n in counts]
ax.bar_label(bars, labels, label_type="center", color="white")
ax.set_ylim(5.6, -1.4)
ax.set_xlabel("values in millions")
ax.set_title("Six ways to keep the books, and one that gives 24 million and 93 MiB")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# One suspect fits, and it fits both numbers. Look closely before you call it solved: the grey band
# is a million wide, and of a hundred ways to keep the books some would land in it by chance.
#
# ### Question: the puzzle solved?
# ★★☆ · 15 minutes

# %% [markdown] question="twenty_four_million" points=4
# 1. Take the second convolution of VGG-16 and the pool after it. Which tensors does our
#    bookkeeper enter twice, and why does a program that runs the network hold each of them once?
# 2. 24,000,000 × 4 bytes is neither 93 MB nor 93 MiB. Show with the suspect's exact count which
#    unit and which roundings make "24 million values" and "93 MB" agree.
# 3. Is the origin of the number proven now? Say what the evidence is worth, and what better
#    evidence would be. Then write one honest sentence that could replace the wrong one in a
#    lecture.
#
# ### BEGIN SOLUTION
# 1 (1.5 points). The first convolution's output is entered as its output and again as the second
# one's input; likewise the pool's output, which is the next convolution's input. (The second
# convolution's own output is entered once, since a pool enters no input.) In memory an output and
# the next layer's input are one tensor with two users, not two tensors.
#
# 2 (1 point). 24,352,744 × 4 = 97,410,976 bytes = 97.4 MB = 92.9 MiB. So the count was rounded
# down to 24 million (to the nearest million), the bytes were divided by 2^20, rounded up to 93,
# and called MB. Full marks for other reconstructions if the arithmetic is right and they name the
# unit, for instance 24,000,000 × 4 / 1024 / 1000 = 93.75 cut off to 93.
#
# 3 (1.5 points). No: it is a bookkeeping that fits two digits, and "24M" and "93 MB" are not
# independent, so they are one fact and not two; we tried several bookkeepings after seeing the
# answer (1 point for either). Better evidence: the author's own spreadsheet or word, or a second
# figure from the same source that the same bookkeeping predicts (another network, another row).
# An honest sentence says what is counted and in which unit, such as: "Stored once each, the
# outputs of all layers of VGG-16 (ReLU in place) for one 224 × 224 image are 15.2 million values,
# 58.1 MiB in float32" (0.5 points).
# ### END SOLUTION

# %% [markdown]
# ## 4. What has to fit in memory
#
# Even the honest total answers a question that nobody asks. What you want to know is whether the
# network *fits*, and that depends on when a tensor may be forgotten.
#
# To **use** a trained network, each output is needed until the next layer has read it, and then
# never again. While a layer works there are just two tensors: its input and its output.
#
# ### Exercise: `inference_peak`
# ★☆☆ · 5 minutes


# %% exercise="inference_peak"
def inference_peak(values):
    """The most values that a chain of layers holds at once if it forgets as early as it can.

    A layer's input is dropped as soon as its output is complete.

    Args:
        values: the number of values of the input, then of each layer's output, in order; a list
            of at least two ints.

    Returns:
        The largest sum of a layer's input and output, int.
    """
    ### BEGIN SOLUTION
    return max(before + after for before, after in pairwise(values))
    ### END SOLUTION


# %% test="inference_peak" points=1 aspect="three chains"
for values in [50, 30, 47, 10, 9, 64, 5, 40], [3, 4, 90, 70], [20, 60, 70, 10, 5]:
    ### BEGIN EXPECTED
    expected = reference.inference_peak(values)
    mistakes = {
        "all values are added up: what has been read is dropped": sum(values),
        "only the largest tensor counts: a layer holds its input and its output": max(values),
        "twice the largest tensor is held: input and output differ in size": 2 * max(values),
        "the two largest tensors are added: they needn't be neighbours": sum(sorted(values)[-2:]),
        "the first layer's input is left out": reference.inference_peak(values[1:]),
        "the last layer's output is left out": reference.inference_peak(values[:-1]),
        "the last output is taken for the first layer's input": (
            reference.inference_peak([values[-1], *values])
        ),
        "three tensors in a row are held: two are enough": max(
            map(sum, zip(values, values[1:], values[2:], strict=False))
        ),
        "every second layer is left out": max(
            map(sum, zip(values[::2], values[1::2], strict=False))
        ),
    }
    ### END EXPECTED
    check_close(
        inference_peak(list(values)), expected, f"inference_peak({values})", mistakes=mistakes
    )

# %% test="inference_peak" points=1 aspect="general chains"
# Other chains are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for length in (0, 1, 6, 18):
    small = [int(n) for n in rng.integers(1, 500, size=length)]
    for values in ([700, *small, 800], [*small, 700, 900], [900, 700, *small]):
        expected = reference.inference_peak(values)
        check_close(inference_peak(list(values)), expected, f"inference_peak({values})")
### END HIDDEN TESTS

# %% [markdown]
# To **train** it, nearly everything has to be kept until the way back. The next figure follows
# VGG-16's values through both, layer by layer.

# %%
values = np.array([row[1] for row in table])
kept = np.cumsum(values)
forward = np.arange(1, len(values))
inference = values[:-1] + values[1:]
# On the way back a layer turns the gradient of its output into the gradient of its input.
way_back = (kept[1:] + inference)[::-1]

figure, ax = plt.subplots(figsize=(10, 4.6), layout="constrained")
steps = np.arange(1, 2 * len(values) - 1)
training = np.concatenate([kept[1:], way_back])
ax.step(steps, 4 * training / MiB, where="mid", color=ORANGE, linewidth=2)
ax.step(forward, 4 * inference / MiB, where="mid", color=BLUE, linewidth=2)
ax.axvline(len(values) - 0.5, color="0.5", linestyle=":")
peak = inference_peak([int(n) for n in values])
ax.annotate(f"inference: at most {4 * peak / MiB:.1f} MiB", (6.7, 9), color=BLUE)
top = f"training: {4 * kept[-1] / MiB:.1f} MiB at the turn"
ax.annotate(top, (len(values) - 1, 62), color="#9A6A00", ha="right")
ticks = [1, 4, 7, 11, 15, 19]
ax.set_xticks(
    [*ticks, *(2 * len(values) - 1 - tick for tick in reversed(ticks))],
    [f"{layer_names[tick]}  {tick}" for tick in [*ticks, *reversed(ticks)]],
    rotation=40,
    ha="right",
)
ax.set_xlabel("forward to the dotted line, layer by layer, and back again")
ax.set_ylabel("values held for one image, MiB")
ax.set_ylim(0, 72)
ax.set_title("Using a network needs two tensors at a time, training it needs them all")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The peak of inference is at the second convolution, whose input and output are the largest
# tensors there are. In training, memory grows most in the first layers, and is given back only when
# the way back has come down to them; the gradients on their way add little near the turn.
# Frameworks hold on to more than this, mostly scratch space for fast convolutions, and a network
# with skip connections has to keep a third tensor, the one that skips.
#
# So which tensors does the way back really need? Each layer answers for itself:
#
# | layer | its gradient is | so it needs |
# |---|---|---|
# | convolution, fully connected | for the weights: upstream × **input** | its input |
# | ReLU | upstream where the output is positive, else 0 | its output |
# | max pool | upstream, sent to where the maximum was | that place: one byte per output |
# | dropout | upstream where the value was kept, else 0 | that mask: one byte per output |
#
# And what nobody needs is dropped. A convolution's own output, for one: once ReLU has read it, it
# is of no use to anybody.
#
# ### Exercise: `bytes_for_backward`
# ★★★ · 25 minutes
#
# <details><summary>Hint</summary>
#
# First collect the *places* of all tensors that somebody needs, in a set, so that a tensor which
# two layers need is in it once. Layer number i reads tensor i − 1 and writes tensor i.
#
# </details>


# %% exercise="bytes_for_backward"
def bytes_for_backward(layers):
    """How many bytes a chain of layers keeps for its backward pass, for one image.

    Args:
        layers: a list of tuples (kind, values), in order. The first is ("input", …), the image.
            Every other is a layer, which reads what the one before it puts out; its kind is
            "conv", "linear", "relu", "pool" (a max pool) or "dropout".
            values: the number of values that it puts out, int.

    Returns:
        int, the sum of
        4 bytes for each value of every tensor that some layer needs, counted once however many
            need it: "conv" and "linear" need their input, "relu" needs its output;
        1 byte for each value that a "pool" puts out (where in its window the maximum was);
        1 byte for each value that a "dropout" puts out (whether it was kept).
    """
    ### BEGIN SOLUTION
    needed, extra = set(), 0
    for place, (kind, values) in enumerate(layers):
        if kind in ("conv", "linear"):
            needed.add(place - 1)
        elif kind == "relu":
            needed.add(place)
        elif kind in ("pool", "dropout"):
            extra += values
    return 4 * sum(layers[place][1] for place in needed) + extra
    ### END SOLUTION


# %% test="bytes_for_backward" points=1 aspect="layers that learn"
for layers in [
    [("input", 48), ("conv", 80), ("conv", 24), ("conv", 36)],
    [("input", 7), ("linear", 90), ("linear", 3), ("linear", 11)],
]:
    ### BEGIN EXPECTED
    expected = reference.bytes_for_backward(layers)
    outputs = sum(values for _, values in layers[1:])
    mistakes = {
        "values are counted, not bytes: a float32 has 4": expected // 4,
        "the output of a layer that learns is kept, not its input": 4 * outputs,
        "the image itself is left out: the first layer needs it": expected - 4 * layers[0][1],
        "every layer's output is kept, whether needed or not": 4 * (layers[0][1] + outputs),
        f"a {layers[1][0]} layer keeps nothing: it needs its input": 0,
    }
    ### END EXPECTED
    name = f"bytes_for_backward({layers})"
    check_close(bytes_for_backward(list(layers)), expected, name, mistakes=mistakes)

# %% test="bytes_for_backward" points=1 aspect="ReLU"
for layers in [
    [("input", 48), ("conv", 80), ("relu", 80)],
    [("input", 48), ("conv", 80), ("relu", 80), ("conv", 24), ("relu", 24), ("linear", 5)],
]:
    ### BEGIN EXPECTED
    expected = reference.bytes_for_backward(layers)
    no_relu = [("nothing" if kind == "relu" else kind, n) for kind, n in layers]
    rectified = sum(values for kind, values in layers if kind == "relu")
    mistakes = {
        "ReLU needs nothing: it needs its output": reference.bytes_for_backward(no_relu),
        "ReLU keeps a byte for each value: it needs its output, in float32": (
            reference.bytes_for_backward(no_relu) + rectified
        ),
    }
    if len(layers) == 3:
        mistakes[
            "ReLU's input is kept, or every layer's output, whether needed or not: ReLU's output"
            " tells where it was positive"
        ] = expected + 4 * rectified
    else:
        mistakes[
            "a ReLU and the layer after it count a tensor each: both need ReLU's output, once"
        ] = expected + 4 * rectified
    ### END EXPECTED
    name = f"bytes_for_backward({layers})"
    check_close(bytes_for_backward(list(layers)), expected, name, mistakes=mistakes)

# %% test="bytes_for_backward" points=1 aspect="pools and dropout"
for layers in [
    [("input", 48), ("conv", 80), ("pool", 20), ("conv", 12)],
    [("input", 7), ("linear", 90), ("dropout", 90), ("linear", 3)],
]:
    ### BEGIN EXPECTED
    expected = reference.bytes_for_backward(layers)
    (_, before), (kind, values) = layers[1:3]
    needed = {"pool": "the place of each maximum", "dropout": "its mask"}[kind]
    mistakes = {
        f"a {kind} keeps its input, too: {needed} is enough": expected + 4 * before,
        f"a {kind} keeps its input instead of {needed}": expected + 4 * before - values,
        f"a {kind} keeps nothing: it needs {needed}": expected - values,
        "every layer's output is kept, whether needed or not": (
            4 * sum(values for _, values in layers) + values
        ),
    }
    if kind == "pool":  # a dropout's mask is as large as its input, so this can't be told there
        mistakes["places and masks take 4 bytes each: one is enough"] = expected + 3 * values
    ### END EXPECTED
    name = f"bytes_for_backward({layers})"
    check_close(bytes_for_backward(list(layers)), expected, name, mistakes=mistakes)

# %% test="bytes_for_backward" points=1 aspect="VGG in small"
layers = [("input", 48), ("conv", 80), ("relu", 80), ("pool", 20), ("linear", 13)]
layers += [("relu", 13), ("dropout", 13), ("linear", 5)]
### BEGIN EXPECTED
expected = reference.bytes_for_backward(layers)
### END EXPECTED
check_close(bytes_for_backward(list(layers)), expected, f"bytes_for_backward({layers})")

# %% test="bytes_for_backward" points=1 aspect="general chains"
# Other chains are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
kinds = ["conv", "linear", "relu", "pool", "dropout"]
for length in (0, 1, 3, 6, 12, 24):
    chosen = ["input", *(kinds[n] for n in rng.integers(5, size=length))]
    layers = [(kind, int(rng.integers(1, 99))) for kind in chosen]
    expected = reference.bytes_for_backward(layers)
    check_close(bytes_for_backward(list(layers)), expected, f"bytes_for_backward({layers})")
### END HIDDEN TESTS

# %% [markdown]
# PyTorch tells what it keeps, if you ask it by `saved_tensors_hooks`. So compare your books with
# its own, and with two others: somebody who keeps the output of every module, and VGG-16 with a
# BatchNorm after each convolution.

# %%
KINDS = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    nn.Dropout: "dropout",
}


def bytes_kept_by_torch(model, side=224, images=2):
    """What PyTorch keeps for the backward pass, bytes per image: (float tensors, all others)."""
    own = {tensor.untyped_storage() for tensor in model.state_dict().values()}
    saved = {}  # by storage: tensors that share one take memory once

    def keep(tensor):
        if tensor.untyped_storage() not in own:
            saved[tensor.untyped_storage()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.zeros(images, 3, side, side, device="meta"))
    kept = np.zeros(2)
    for storage, tensor in saved.items():
        kept[0 if tensor.is_floating_point() else 1] += storage.nbytes() / images
    return kept


def network(name):
    """One of torchvision's networks, without any numbers in it."""
    auxiliary = name in ("googlenet", "inception_v3")  # a second classifier, for training
    options = {"aux_logits": True, "init_weights": False} if auxiliary else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, **options)


vgg16 = network("vgg16")
modules = [*vgg16.features, *vgg16.classifier]
layers, tensor = [("input", 3 * 224 * 224)], torch.zeros(1, 3, 224, 224, device="meta")
for module in modules:
    tensor = module(tensor.flatten(1) if isinstance(module, nn.Linear) else tensor)
    layers.append((KINDS[type(module)], tensor.numel()))

masks = sum(values for kind, values in layers if kind in ("pool", "dropout"))
kept_bytes = bytes_for_backward(layers)
without_relus = bytes_for_backward([layer for layer in layers if layer[0] != "relu"])
bars = {
    "every module's output": (4 * sum(values for _, values in layers), 0),
    "bytes_for_backward": (kept_bytes - masks, masks),
    "bytes_for_backward, without ReLUs": (without_relus - masks, masks),
    "PyTorch": bytes_kept_by_torch(vgg16),
    "PyTorch, with BatchNorm": bytes_kept_by_torch(network("vgg16_bn")),
}
floats, rest = np.array(list(bars.values())).T / MiB
figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
ax.barh(list(bars), floats, color=BLUE, label="float32 tensors")
ends = ax.barh(list(bars), rest, left=floats, color=ORANGE, label="places of maxima, masks")
ax.bar_label(ends, [f"{n:.1f} MiB" for n in floats + rest], padding=4)
ax.invert_yaxis()
ax.set_xlim(right=145)
ax.set_xlabel("kept for the backward pass of VGG-16, MiB per image")
ax.set_title("ReLU costs memory where a pool follows, BatchNorm costs more")
ax.legend(loc="center right", frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# PyTorch keeps the same tensors as your books, and one more: a pool that changes nothing (VGG's
# adaptive one) makes a copy. And it spends more on places and masks: eight bytes rather than one on
# the place of a maximum, and, on this device, four on each value of dropout's mask, which therefore
# counts as float32 in its bar.
#
# What does a ReLU cost? Between two convolutions nothing: its output is the next convolution's
# input, which is kept anyway. Before a pool it is another matter. The pool needs only places, so
# the ReLU's output is kept for the ReLU alone, and VGG has such a ReLU at the end of each block:
# hence the third bar. BatchNorm needs its input. That is the convolution's output, which could be
# dropped before; now it is kept, after every convolution. The figure counts what is kept *for
# autograd*; weights, their gradients and the optimiser come next, and those don't grow with the
# batch.
#
# ### Exercise: `largest_batch`
# ★★☆ · 15 minutes
#
# A card of $M$ bytes has to hold, in float32, each weight, its gradient, and what the optimiser
# remembers of it: nothing for plain SGD, a velocity with momentum, two moments with Adam. The rest
# is for the images.


# %% exercise="largest_batch"
def largest_batch(card_bytes, parameters, bytes_per_image, optimizer):
    """How many images fit on a card at once in training; scratch space isn't counted.

    Args:
        card_bytes: the card's memory, int.
        parameters: how many parameters the network has, int, in float32 like all that goes with
            them.
        bytes_per_image: what is kept for each image's backward pass, int.
        optimizer: "sgd" (remembers nothing), "momentum" (one value per parameter) or "adam" (two
            values per parameter).

    Returns:
        The largest number of images, int; 0 if not even the parameters fit with all that goes
        with them.
    """
    ### BEGIN SOLUTION
    remembered = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
    left = card_bytes - 4 * parameters * (2 + remembered)
    return max(0, left // bytes_per_image)
    ### END SOLUTION


# %% test="largest_batch" points=1 aspect="three optimisers"
for optimizer in ("sgd", "adam", "momentum"):
    ### BEGIN EXPECTED
    card, P, B = 100_000, 1_000, 700
    expected = reference.largest_batch(card, P, B, optimizer)
    copies = {"sgd": 2, "momentum": 3, "adam": 4}[optimizer]
    left = card - 4 * P * copies
    mistakes = {
        "a part of an image is counted: round down": left / B,
        "the result is rounded up: the last image doesn't fit": -(left // -B),
        "weights and all that goes with them are left out": card // B,
        "the parameters are counted, not their bytes": (card - P * copies) // B,
        "every image needs weights of its own: they are shared": card // (B + 4 * P * copies),
        "a value too many is counted for each parameter": (left - 4 * P) // B,
        "bytes_per_image is multiplied by 4: it is in bytes already": left // (4 * B),
        "weights and all that goes with them are added to the card": (card + 4 * P * copies) // B,
    }
    if optimizer == "adam":
        mistakes["what the optimiser remembers is left out"] = (card - 8 * P) // B
    else:
        mistakes["the weights, or their gradients, are left out: both take 4 bytes each"] = (
            left + 4 * P
        ) // B
    ### END EXPECTED
    name = f"largest_batch(100_000, 1_000, 700, {optimizer!r})"
    check_close(largest_batch(100_000, 1_000, 700, optimizer), expected, name, mistakes=mistakes)

# %% test="largest_batch" points=1 aspect="a full card, and one too small"
for card_bytes, optimizer in [(8_000 + 3 * 700, "sgd"), (12_900, "adam"), (8_000, "sgd")]:
    ### BEGIN EXPECTED
    expected = reference.largest_batch(card_bytes, 1_000, 700, optimizer)
    left = card_bytes - {"sgd": 8_000, "adam": 16_000}[optimizer]
    mistakes = {
        "the number is negative where nothing fits: it should be 0": left // 700,
        "the number is positive where nothing fits: it should be 0": abs(left) // 700,
        "there is one image where none fits: it should be 0": max(1, left // 700),
    }
    if left > 0:
        mistakes = {"an image that fills the card to the last byte fits": (left - 1) // 700}
    ### END EXPECTED
    name = f"largest_batch({card_bytes}, 1_000, 700, {optimizer!r})"
    check_close(largest_batch(card_bytes, 1_000, 700, optimizer), expected, name, mistakes=mistakes)

# %% test="largest_batch" points=1 aspect="general cards"
# Other cards and networks are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for optimizer in ("adam", "momentum", "sgd"):
    for card_bytes in map(int, rng.integers(0, 10**9, size=6)):
        parameters, bytes_per_image = int(rng.integers(1, 10**8)), int(rng.integers(1, 10**7))
        expected = reference.largest_batch(card_bytes, parameters, bytes_per_image, optimizer)
        check_close(
            largest_batch(card_bytes, parameters, bytes_per_image, optimizer),
            expected,
            f"largest_batch({card_bytes}, {parameters}, {bytes_per_image}, {optimizer!r})",
        )
### END HIDDEN TESTS

# %%
GiB = 2**30
parameters = sum(parameter.numel() for parameter in vgg16.parameters())
batches = np.arange(513)
figure, ax = plt.subplots(figsize=(9, 4.8), layout="constrained")
for optimizer, copies, style in [("Adam", 4, "-"), ("SGD", 2, "--")]:
    needed_bytes = 4 * parameters * copies + kept_bytes * batches
    ax.plot(batches, needed_bytes / GiB, style, color=ORANGE, label=f"training with {optimizer}")
peak_bytes = 4 * parameters + 4 * peak * batches
ax.plot(batches, peak_bytes / GiB, color=BLUE, label="inference")
for card in (8, 16, 24):
    fits = largest_batch(card * GiB, parameters, kept_bytes, "adam")
    ax.axhline(card, color="0.6", linewidth=1, zorder=0)
    ax.plot(fits, card, "o", color="black")
    ax.annotate(f"{card} GiB: {fits} images", (fits - 8, card + 0.4), ha="right")
ax.set(xlim=(0, 512), ylim=(0, 28), xlabel="images in a batch", ylabel="memory, GiB")
ax.set_title("Parameters are paid once, activations for every image")
ax.legend(loc="lower right", frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"with Adam, parameters and all that goes with them: {16 * parameters / GiB:.2f} GiB")
print(f"as much as the activations of {16 * parameters / kept_bytes:.0f} images")

# %% [markdown]
# Dots mark your answers, with Adam. They are upper bounds: a real run also pays for the driver, for
# scratch space and for gaps between tensors, so expect to fit fewer. The lines of Adam and SGD are
# parallel: they differ in where they start, since an optimiser's memory is paid once, and not in
# their slope, which is the activations of one image. So when memory runs out, ask what takes most
# of it. If it is the activations, take a smaller batch, or keep only some of them and compute the
# others again on the way back ("checkpointing"). If it is the parameters with all that goes with
# them, a smaller batch won't help you.
#
# ## 5. How far a value sees (optional)
#
# A value deep in the network depends on a window of the image: its **receptive field**. Follow a
# chain of layers upwards with two numbers: $r$ is how many pixels one value sees along an axis, and
# the **jump** $j$ is how many pixels further its neighbour's window begins. For the image itself,
# $r = j = 1$.
# A layer with a window of $k$ taps, dilation $d$ and stride $s$ gives
#
# $$r \leftarrow r + d\,(k - 1)\; j, \qquad\text{then}\qquad j \leftarrow s\, j$$
#
# Its taps are $d \cdot j$ pixels apart in the image; its stride matters only to the layers above.
#
# ### Exercise: `receptive_field`
# ★★☆ · 20 minutes · optional


# %% exercise="receptive_field"
def receptive_field(layers):
    """How many pixels one value sees, and how far off its neighbour's window is, along one axis.

    Args:
        layers: (kernel_size, stride, dilation) of each convolution or pool, three ints, from the
            image upwards, in a list. Without any layer, a value is a pixel.

    Returns:
        The tuple (size, jump) after the last layer:
        size: r, pixels from the first to the last that a value depends on, int.
        jump: j, pixels from one value's receptive field to its neighbour's, int.
    """
    ### BEGIN SOLUTION
    size = jump = 1
    for kernel_size, stride, dilation in layers:
        size += dilation * (kernel_size - 1) * jump
        jump *= stride
    return size, jump
    ### END SOLUTION


# %% test="receptive_field" points=1 aspect="layers of stride 1"
for layers in [(3, 1, 1)], [(4, 1, 1), (3, 1, 1), (3, 1, 1)]:
    ### BEGIN EXPECTED
    expected, jump = reference.receptive_field(layers)
    wider = [(k + 1, s, d) for k, s, d in layers]
    mistakes = {
        "size and jump are exchanged": jump,
        "a value sees itself only once: the size starts at 1": expected - 1,
        "each layer adds its kernel_size: one less, as the windows overlap": (
            reference.receptive_field(wider)[0]
        ),
    }
    if len(layers) > 1:  # a single layer adds one too many, and starts with one too few
        mistakes |= {
            "each layer adds its kernel_size, from a start of 0": (
                reference.receptive_field(wider)[0] - 1
            ),
            "only the last layer counts": reference.receptive_field(layers[-1:])[0],
            "only the first layer counts": reference.receptive_field(layers[:1])[0],
            "the layers' windows are multiplied": int(np.prod([k for k, _, _ in layers])),
        }
    ### END EXPECTED
    name = f"receptive_field({layers})"
    size, _ = check_tuple(receptive_field(list(layers)), ("size", "jump"), name)
    check_close(size, expected, f"size from {name}", mistakes=mistakes)

# %% test="receptive_field" points=1 aspect="strides and dilation"
for layers in [
    [(5, 3, 1)],
    [(3, 1, 1), (2, 2, 1), (5, 1, 1)],
    [(4, 3, 1), (3, 2, 1)],
    [(3, 1, 3)],
    [(7, 2, 1), (3, 2, 2), (2, 3, 1), (4, 1, 3)],
]:
    ### BEGIN EXPECTED
    expected, _ = reference.receptive_field(layers)
    strides = [s for _, s, _ in layers]
    own_stride = [(k, s, d) for (k, _, d), s in zip(layers, [*strides[1:], 1], strict=True)]
    mistakes = {
        "a layer's own stride widens its own window: update the jump afterwards": (
            reference.receptive_field([(1, strides[0], 1), *own_stride])[0]
        ),
        "strides are ignored: the layers above see further": (
            reference.receptive_field([(k, 1, d) for k, _, d in layers])[0]
        ),
        "the dilation is ignored": reference.receptive_field([(k, s, 1) for k, s, _ in layers])[0],
        "the dilation is counted once for the layer, not for each step between taps": (
            reference.receptive_field([(k + d - 1, s, 1) for k, s, d in layers])[0]
        ),
        "the layers are followed from the top down": reference.receptive_field(layers[::-1])[0],
        "only the last stride counts: the jump is a product": 1
        + sum(
            d * (k - 1) * before
            for (k, _, d), before in zip(layers, [1, *strides[:-1]], strict=True)
        ),
    }
    ### END EXPECTED
    name = f"receptive_field({layers})"
    size, _ = check_tuple(receptive_field(list(layers)), ("size", "jump"), name)
    check_close(size, expected, f"size from {name}", mistakes=mistakes)

# %% test="receptive_field" points=1 aspect="the jump"
for layers in [(3, 2, 1), (4, 3, 5)], [(5, 3, 1), (2, 4, 4), (3, 2, 3)]:
    ### BEGIN EXPECTED
    size, expected = reference.receptive_field(layers)
    strides, dilations = [s for _, s, _ in layers], [d for _, _, d in layers]
    mistakes = {
        "size and jump are exchanged": size,
        "strides are added: they multiply": sum(strides),
        "strides are added to 1: they multiply": 1 + sum(strides),
        "it is the last layer's stride alone": strides[-1],
        "the last layer's stride is left out": expected // strides[-1],
        "the first layer's stride is left out": expected // strides[0],
        "the dilation changes it: it only widens the window": expected * int(np.prod(dilations)),
        "the jump isn't updated": 1,
    }
    if len(layers) == 2:
        del mistakes["the first layer's stride is left out"]
    ### END EXPECTED
    name = f"receptive_field({layers})"
    _, jump = check_tuple(receptive_field(list(layers)), ("size", "jump"), name)
    check_close(jump, expected, f"jump from {name}", mistakes=mistakes)

# %% test="receptive_field" points=1 aspect="general layers"
# Other layers, and none at all, are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for length in (0, 1, 4, 9):
    layers = [tuple(map(int, row)) for row in rng.integers(1, 5, size=(length, 3))]
    name = f"receptive_field({layers})"
    expected = np.array(reference.receptive_field(layers))
    result = check_tuple(receptive_field(list(layers)), ("size", "jump"), name)
    check_close(np.array(result), expected, name)
### END HIDDEN TESTS

# %% [markdown]
# What does that come to on a photograph: ours, or one of your own?

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %%
from matplotlib.patches import Rectangle

from utils.images import load_photograph
from utils.models import make_scene_network
from utils.scenes import CLASS_NAMES, make_scenes


def windows(features):
    """(kernel_size, stride, dilation) of each convolution and pool, with the place of each."""
    chain = []
    for place, module in enumerate(features):
        if isinstance(module, nn.Conv2d):
            chain.append((place, (module.kernel_size[0], module.stride[0], module.dilation[0])))
        elif isinstance(module, nn.MaxPool2d):
            chain.append((place, (module.kernel_size, module.stride, module.dilation)))
    return chain


scene = make_scenes(1, np.random.default_rng(3)).images[0]
scene_network = make_scene_network(CLASS_NAMES, torch.Generator().manual_seed(0))
photograph = own.load(224)
if photograph is None:
    photograph = load_photograph("flower")[100:324, 190:414]
panels = {
    "VGG-16 on 224 × 224": (photograph, vgg16.features),
    "our network for scenes, on 64 × 64": (scene, scene_network.features),
}
figure, axes = plt.subplots(1, 2, figsize=(11, 5.9), layout="constrained")
figure.suptitle("At the end of the convolutions, one value sees nearly the whole image")
for ax, (title, (picture, features)) in zip(axes, panels.items(), strict=True):
    ax.imshow(picture, alpha=0.75)
    chain = windows(features)
    convs = [n for n, (place, _) in enumerate(chain) if isinstance(features[place], nn.Conv2d)]
    last = [n for n in convs if n + 1 not in convs]  # the last convolution of each block
    for number, colour in zip(last, plt.cm.magma(np.linspace(0, 0.8, len(last))), strict=True):
        size, jump = receptive_field([window for _, window in chain[: number + 1]])
        corner = (picture.shape[1] - size) / 2 - 0.5
        ax.add_patch(
            Rectangle((corner, corner), size, size, fill=False, edgecolor="white", linewidth=5)
        )
        label = f"convolution {convs.index(number) + 1}: {size} × {size}, jump {jump}"
        ax.add_patch(
            Rectangle(
                (corner, corner), size, size, fill=False, edgecolor=colour, linewidth=3, label=label
            )
        )
    ax.set_title(title)
    ax.axis("off")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), frameon=False)
plt.show()

# %% [markdown]
# The squares are what one value in the middle of the map sees, at the last convolution of each
# block. The first layers see a few pixels and can at best tell edges and dots; only after several
# pools can a value know of a petal, let alone a flower. Pools widen the field of all that comes
# after them by doubling the jump, which is why the squares grow faster and faster.
#
# The figure could mislead in one way. A pixel in the corner of the square has few paths to the
# value, one in its centre has many, so the field that counts in effect is smaller than the square
# and has soft edges. How much smaller depends on the depth and on the weights: lab 05 measures it
# in a small network, by a gradient.
#
# Not every value lies in the middle. Choose a layer of VGG-16 and one of its values: where is its
# window in the photograph, and how much of it lies outside?

# %% fold="Choose a value of VGG-16: what does it see?"
from ipywidgets import FloatSlider, IntSlider

from utils.figures import explore

chain = windows(vgg16.features)


def draw_window(layer, down, right):
    """The window of one value, at these shares of the way down and right in its layer's map."""
    kept = chain[:layer]
    size, jump = receptive_field([window for _, window in kept])
    side, step, first = 224, 1, 0.0  # of the map; first: where its first window's middle lies
    for place, (kernel_size, stride, dilation) in kept:
        padding = vgg16.features[place].padding
        padding = padding if isinstance(padding, int) else padding[0]
        first += step * ((kernel_size - 1) * dilation / 2 - padding)
        side = output_size(side, kernel_size, stride, padding, dilation)
        step *= stride
    row, column = (round(share * (side - 1)) for share in (down, right))
    corner = [first + jump * index - size / 2 for index in (column, row)]
    kind = "convolution" if isinstance(vgg16.features[kept[-1][0]], nn.Conv2d) else "pool"
    _, ax = plt.subplots(figsize=(6, 4.6), layout="constrained")
    ax.set_facecolor("0.85")
    ax.imshow(photograph)
    ax.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="white", linewidth=5))
    ax.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="black", linewidth=2))
    ax.set(xlim=(-110, 334), ylim=(334, -110), xticks=[0, 112, 224], yticks=[0, 112, 224])
    ax.set_title(
        f"layer {layer}, a {kind}: value ({row}, {column}) of {side} × {side}"
        f" sees {size} × {size} pixels",
        fontsize=10,
    )


explore(
    draw_window,
    layer=IntSlider(value=10, min=1, max=len(chain)),
    down=FloatSlider(value=0.3, min=0, max=1, step=0.01),
    right=FloatSlider(value=0.5, min=0, max=1, step=0.01),
)

# %% [markdown]
# The grey frame is where there is no photograph. What a window finds there comes from the zeros
# with which each convolution pads its own input. The window of a value in the corner of a deep
# layer holds more of that than of the picture. So deep layers can tell where in the picture they
# are, although every layer does the same at every place (Islam et al., 2020, *How Much Position
# Information Do Convolutional Neural Networks Encode?*, ICLR).
#
# ## 6. Any network at all
#
# Nobody keeps books by hand for ResNet-50 and its more than a hundred layers. A **forward hook**
# does it for you: a function that PyTorch calls whenever a module has computed its output.
#
# ```python
# def hook(module, inputs, output):
#     ...
#
# handle = module.register_forward_hook(hook)
# handle.remove()
# ```
#
# Hook every module that contains no others (convolution, ReLU, …, not the blocks made of them),
# send a meta tensor through, and write down what goes by. For the multiply-adds of a convolution
# it helps to know that `weight` has the shape $(C_{\text{out}}, C_{\text{in}} / \text{groups},
# k_H, k_W)$: with **groups** a filter sees only a part of the channels.
#
# ### Exercise: `account`
# ★★★ · 30 minutes
#
# <details><summary>Hint 1: which modules</summary>
#
# `model.named_modules()` goes through all of them, at every depth. Those without
# `list(module.children())` contain no others.
#
# </details>
# <details><summary>Hint 2: a hook that knows its name</summary>
#
# A hook isn't told the module's name. Write a function `make_hook(name)` that defines a hook and
# returns it. (A hook defined in the loop itself would see the name of the loop's *last* round.)
#
# </details>
# <details><summary>Hint 3: leave no hook behind</summary>
#
# `try: … finally:` removes the handles whatever happens in between.
#
# </details>


# %% exercise="account"
def account(model, input_shape):
    """The books of any network, for one image, written down by forward hooks.

    The model is run once as it is, on zeros, and left as it was: without hooks, even if it raises
    an exception, and with every module in the mode (training or evaluation) in which it was.

    Args:
        model: an nn.Module on the meta device, whose modules each put out one tensor.
        input_shape: the image's (C, H, W), a tuple.

    Returns:
        One row for each call of a module that contains no other modules, in the order of the
        calls, a list of tuples (name, output_shape, parameters, multiply_adds):
        name: the module's name in model.named_modules(), str.
        output_shape: without the axis of the batch, a tuple of ints.
        parameters: how many parameters the module has, biases included, int; 0 if the module has
            been called before, because its parameters exist only once.
        multiply_adds: of this call, int; biases not counted, 0 for all modules other than
            nn.Conv2d and nn.Linear.
    """
    ### BEGIN SOLUTION
    rows, called = [], set()

    def make_hook(name):
        def hook(module, inputs, output):
            parameters = multiply_adds = 0
            if name not in called:
                parameters = sum(parameter.numel() for parameter in module.parameters())
            if isinstance(module, nn.Conv2d | nn.Linear):
                multiply_adds = output.numel() * module.weight[0].numel()
            called.add(name)
            rows.append((name, tuple(output.shape[1:]), parameters, multiply_adds))

        return hook

    handles = []
    try:
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(make_hook(name)))
        with torch.no_grad():
            model(torch.zeros(1, *input_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return rows
    ### END SOLUTION


# %% [markdown]
# The tests use a little network with everything that makes books go wrong: modules in modules,
# groups, a ReLU and a convolution that are used twice, a shortcut that is defined before the
# layers that it skips but called after them, and a BatchNorm that is frozen in evaluation mode.


# %% given=true
class Tangle(nn.Module):
    """A network of three classes for images (3, H, W), with traps for bookkeepers."""

    def __init__(self):
        super().__init__()
        self.shortcut = nn.Conv2d(8, 8, 1, bias=False)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, (3, 2), stride=2), nn.BatchNorm2d(8))
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.relu = nn.ReLU()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))
        self.stem[1].eval()

    def forward(self, x):
        x = self.relu(self.stem(x))
        return self.head(self.relu(self.grouped(self.grouped(x)) + self.shortcut(x)))


# %% test="account" points=1 aspect="the calls and their outputs"
tangle = Tangle().to("meta")
### BEGIN EXPECTED
expected = reference.account(tangle, (3, 11, 14))
calls, shapes = [row[0] for row in expected], [row[1] for row in expected]
leaves = [name for name, module in tangle.named_modules() if not list(module.children())]
types = [type(tangle.get_submodule(name)).__name__ for name in calls]
mistakes = {
    "modules that contain others have rows: only the innermost should": (
        [*calls[:2], "stem", *calls[2:], "head", ""]
    ),
    "all hooks share the last name: let a function make each hook": [calls[-1]] * len(calls),
    "each module has one row: each *call* should have one": list(dict.fromkeys(calls)),
    "each module has one row, called or not: each *call* should have one": leaves,
    "modules inside of modules are left out": [name for name in calls if "." not in name],
    "the class stands for the name": types,
    "a name has lost its path": [name.rsplit(".")[-1] for name in calls],
    "the rows are sorted: they should be in the order of the calls": sorted(calls),
    "the rows are in the order in which the modules were defined": [
        name for leaf in leaves for name in calls if name == leaf
    ],
}
### END EXPECTED
call = "account(tangle, (3, 11, 14))"
rows = check_rows(account(tangle, (3, 11, 14)), ROW, call)
names = [row[0] for row in rows]
cause = next((f"; it looks as if {m}" for m, wrong in mistakes.items() if names == wrong), "")
assert names == calls, f"{call}: expected rows {', '.join(calls)}; got {names}{cause}."
for name, row, shape in zip(calls, rows, shapes, strict=True):
    came = tuple(row[1]) if isinstance(row[1], list | tuple) else row[1]
    cause = "; leave out the axis of the batch" if came == (1, *shape) else ""
    assert came == shape, (
        f"{call}: expected the output shape {shape} in the row {name}, got {came}{cause}."
    )

# %% test="account" points=1 aspect="parameters"
tangle = Tangle().to("meta")
### BEGIN EXPECTED
expected = np.array([row[2] for row in reference.account(tangle, (3, 11, 14))])
biases, place = np.array([8, 0, 0, 8, 0, 0, 0, 0, 0, 3]), np.arange(10)
mistakes = {
    "a module that is called twice counts its parameters twice: they exist once": (
        expected + 152 * (place == 4)
    ),
    "the last call of a module has its parameters: the first should": (
        expected + 152 * (place == 4) - 152 * (place == 3)
    ),
    "the biases are missing": expected - biases - 8 * (place == 1),
    "the biases of convolutions and fully connected layers are missing": expected - biases,
    "BatchNorm's parameters are missing": expected * (place != 1),
    "BatchNorm's running statistics are counted: they aren't parameters": (
        expected + 17 * (place == 1)
    ),
    "groups are ignored: a filter sees only its group's channels": expected + 432 * (place == 3),
}
### END EXPECTED
call = "account(tangle, (3, 11, 14))"
rows = check_rows(account(tangle, (3, 11, 14)), ROW, call)
parameters = np.array([row[2] for row in rows])
check_close(parameters, expected, f"the parameters of {call}", mistakes=mistakes)

# %% test="account" points=1 aspect="multiply-adds"
tangle = Tangle().to("meta")
### BEGIN EXPECTED
expected = np.array([row[3] for row in reference.account(tangle, (3, 11, 14))])
outputs, place = np.array([280, 0, 0, 280, 280, 280, 0, 0, 0, 3]), np.arange(10)
mistakes = {
    "FLOPs are counted: a multiplication and its addition are one multiply-add": 2 * expected,
    "groups are ignored: a filter sees only its group's channels": (
        expected * np.where((place == 3) | (place == 4), 4, 1)
    ),
    "biases are counted": expected + outputs * (place != 5),  # the shortcut has none
    "the second call of a module counts no work: it takes as much as the first": (
        expected * (place != 4)
    ),
    "fully connected layers take no multiply-adds: each weight is one": expected * (place != 9),
    "the weights are counted: each is used at every position": (
        expected // np.where(place < 9, 5 * 7, 1)
    ),
    "a window is taken for square": expected * np.where(place == 0, 3, 2) // 2,
    "BatchNorm's multiplications are counted: only nn.Conv2d and nn.Linear are": (
        expected + 280 * (place == 1)
    ),
}
### END EXPECTED
call = "account(tangle, (3, 11, 14))"
rows = check_rows(account(tangle, (3, 11, 14)), ROW, call)
multiply_adds = np.array([row[3] for row in rows])
check_close(multiply_adds, expected, f"the multiply-adds of {call}", mistakes=mistakes)

# %% test="account" points=1 aspect="no hook is left"
tangle = Tangle().to("meta")
### BEGIN EXPECTED
calls = [row[0] for row in reference.account(tangle, (3, 11, 14))]
### END EXPECTED
rows = check_rows(account(tangle, (3, 11, 14)), ROW, "account(tangle, (3, 11, 14))")
names = [row[0] for row in rows]
assert names == calls, f"account(tangle, (3, 11, 14)): expected rows {calls}; got {names}."
with suppress(RuntimeError):
    account(tangle, (5, 11, 14))  # the network takes three channels, so this raises
assert not any(module._forward_hooks for module in tangle.modules()), (
    "account leaves hooks on the network after an exception: remove them in a `finally` block."
)

# %% test="account" points=2 aspect="other networks"
# Networks with other layers, and forwards of their own, are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
sequence = nn.Sequential(
    nn.Conv2d(3, 6, 5, stride=2, padding=1, dilation=2, bias=False),
    nn.Sequential(nn.ReLU(), nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 12, (1, 3), groups=3))),
    nn.Sequential(nn.MaxPool2d(3, 2), nn.Dropout(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()),
    nn.Linear(72, 1, bias=False),
).to("meta")
sequence[1].eval()
another = awkward_network(reference.seed, hooks=True, mixed=True, dtype=torch.float32).to("meta")
for model, name in [
    (sequence, "a sequence of layers"),
    (Tangle().to("meta"), "tangle"),
    (another, "a network with a forward of its own"),
]:
    height, width = map(int, rng.integers(40, 90, size=2))
    expected = reference.account(model, (3, height, width))
    rows = check_rows(account(model, (3, height, width)), ROW, f"account of {name}")
    assert [row[0] for row in rows] == [row[0] for row in expected], (
        f"account of {name}: the rows' names are not those of the calls, in order."
    )
    assert [tuple(row[1]) for row in rows] == [row[1] for row in expected], (
        f"account of {name} for images {height} × {width}: the output shapes are wrong."
    )
    check_close(
        np.array([row[2] for row in rows]),
        np.array([row[2] for row in expected]),
        f"parameters in account of {name} for images {height} × {width}",
    )
    modules = [model.get_submodule(row[0]) for row in expected]
    weights = [m.weight.numel() if isinstance(m, nn.Linear) else 0 for m in modules]
    check_close(
        np.array([row[3] for row in rows]),
        np.array([row[3] for row in expected]),
        f"multiply_adds in account of {name} for images {height} × {width}",
        mistakes={
            "a fully connected layer is taken to work once: it works at each position of a map": (
                np.array([n or row[3] for n, row in zip(weights, expected, strict=True)])
            ),
        },
    )
### END HIDDEN TESTS

# %% [markdown]
# Torchvision publishes, with each network, its number of parameters and its multiply-adds (in
# billions, to three decimals). Do your books agree?

# %%
networks = [
    *("alexnet", "vgg11", "vgg16", "vgg19_bn", "resnet18", "resnet50", "resnext50_32x4d"),
    *("wide_resnet50_2", "squeezenet1_0", "squeezenet1_1", "densenet121", "googlenet"),
    *("inception_v3", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2_x1_0", "mnasnet1_0"),
    "convnext_tiny",
]
books = {}
print(
    f"{'network':20} {'parameters':>12} {'published':>12}   {'multiply-adds':>15} {'published':>9}"
)
for name in networks:
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    side = weights.transforms().crop_size[0]
    rows = account(network(name).eval(), (3, side, side))
    books[name] = rows
    parameters, multiply_adds = (sum(row[column] for row in rows) for column in (2, 3))
    counts = parameters, weights.meta["num_params"], multiply_adds, weights.meta["_ops"]
    same = parameters == counts[1] and round(multiply_adds / 1e9, 3) == counts[3]
    print(f"{name:20} {counts[0]:12,} {counts[1]:12,}   {counts[2]:15,} {counts[3]:9.3f}", end="")
    print("" if same else "  ←")

# %% [markdown]
# Sixteen of the eighteen networks agree in every digit. The other two, marked by an arrow, lack
# parameters, and teach what hooks can't see. Inception has a second classifier that helps in
# training only: its parameters exist, but in evaluation nobody calls it. ConvNeXt scales its
# channels by a parameter that belongs to a block and not to a module of its own; hooks on the
# innermost modules pass it by. Vision transformers hide much more in that way: ViT-B/16 a third of
# its parameters. So check the books against something independent, each time.
#
# ## ImageNet networks: VGG against ResNet and SqueezeNet
#
# Books need no trained weights, so nothing is downloaded here, and you can put in any network that
# you like. Three ideas have saved most of VGG's parameters and work since: average each channel
# over the whole map in place of the large fully connected layers (ResNet, SqueezeNet), squeeze the
# channels with 1 × 1 windows before looking around (SqueezeNet, ResNet-50), and halve the map
# early, before there are many channels (ResNet, SqueezeNet). What have they done to memory and to
# accuracy?

# %%
compared = ["alexnet", "vgg16", "resnet18", "resnet50", "squeezenet1_1"]
accuracies = [
    torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"][
        "acc@1"
    ]
    for name in compared
]
panels = {
    "parameters, millions": [sum(row[2] for row in books[name]) / 1e6 for name in compared],
    "multiply-adds, billions": [sum(row[3] for row in books[name]) / 1e9 for name in compared],
    "kept for training,\nMiB per image": [
        sum(bytes_kept_by_torch(network(name))) / MiB for name in compared
    ],
    "ImageNet accuracy, %": accuracies,
}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharey=True, layout="constrained")
figure.suptitle(
    "ResNet-50 beats VGG-16 with a fifth of the parameters, and more memory in training"
)
for ax, (title, counts), colour in zip(
    axes, panels.items(), (ORANGE, GREEN, BLUE, "0.45"), strict=True
):
    bars = ax.barh(compared, counts, color=colour)
    ax.bar_label(bars, [f"{count:.3g}" for count in counts], padding=3)
    ax.set_title(title)
    ax.set_xlim(right=1.3 * max(counts))
    ax.spines[["top", "right"]].set_visible(False)
axes[0].invert_yaxis()
plt.show()

# %%
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
for name, colour, style in [
    ("vgg16", ORANGE, "-"),
    ("resnet50", BLUE, "--"),
    ("squeezenet1_1", GREEN, "-."),
]:
    learning = [row for row in books[name] if row[3]]
    work, parameters = (np.cumsum([0, *(row[column] for row in learning)]) for column in (3, 2))
    ax.plot(
        100 * work / work[-1], 100 * parameters / parameters[-1], style, color=colour, label=name
    )
ax.set_xlabel("multiply-adds done so far, %")
ax.set_ylabel("parameters used so far, %")
ax.set_title("VGG-16 has done 99% of its work before it uses 89% of its parameters")
ax.legend(loc="upper left", frameon=False)
ax.grid(color="0.9")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Each curve follows a network from its first layer to its last, convolutions and fully connected
# layers only. It is steep where a weight is used at few positions. All three bend upwards, because
# maps only ever shrink; VGG's ends in a wall, its fully connected layers. The accuracies are of
# torchvision's first published weights. They depend on how a network was trained, too (with a newer
# recipe, the same ResNet-50 reaches 80.9%), so don't read them as a verdict on the design alone.
# And no bar here is a time: many thin layers may keep a graphics card less busy than a few thick
# ones.
#
# ### Question: where to save?
# ★★☆ · 15 minutes

# %% [markdown] question="where_to_save" points=4
# 1. ResNet-50 has a fifth of VGG-16's parameters. Which part of VGG did it do without, and what
#    stands in its place? Give the number of VGG-16's parameters that this part accounts for.
# 2. Yet it keeps *more* for each image in training. Why? (The figure in section 4 with BatchNorm
#    in it helps.)
# 3. You have to run one network on a phone that has little storage, and to train another on a card
#    whose memory is too small for the batch you want. Which of this lab's numbers decides in each
#    case, and what would you change first?
#
# ### BEGIN SOLUTION
# 1 (1 point). The two large fully connected layers (4096 outputs each): 102,764,544 + 16,781,312 =
# 119,545,856 parameters with biases, 119,537,664 without; with the last layer 123.6 million are
# fully connected. ResNet averages each channel over the map (global average pooling) and has one
# linear layer.
#
# 2 (1.5 points). Parameters and activations have little to do with each other: values depend on
# maps × channels × layers. ResNet-50 has many more layers (53 convolutions against 13), and wide
# outputs of 1 × 1 convolutions (0.75 points); each has a BatchNorm, which needs its input, so that
# a convolution's output is kept besides ReLU's (0.75 points).
#
# 3 (1.5 points). Phone: parameters (what has to be stored and loaded), then the inference peak and
# multiply-adds for battery and speed; drop the fully connected layers, use fewer bits per weight,
# or take SqueezeNet (0.75 points). Card: activations per image; smaller images (the square of the
# side), a smaller batch with accumulated gradients, checkpointing or half precision; another
# optimiser or fewer parameters save a constant only (0.75 points).
# ### END SOLUTION

# %% [markdown]
# ## What you have now
#
# Books that balance to the last digit: what a network stores, what it computes, what it keeps, how
# far it sees. And a habit that outlasts VGG: when somebody gives you a number, ask *values or
# bytes, MB or MiB, multiply-adds or FLOPs, counted once or twice*, and do the sum.
