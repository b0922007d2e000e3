# %% [markdown]
# # Lab 02: What a network costs
#
# VGG-16 is thirteen convolutions, five pools and three fully connected layers, and nothing else.
# That makes it the ideal network to do the books of: how many numbers does it hold, how many does
# it learn, how many multiplications is one photograph worth, and will it fit on your graphics
# card? You will answer with formulas short enough for the back of an envelope, catch a famous
# mistake, and in the end let the computer keep the books of any network.
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
# Everything in this lab is a whole number, so the tests are exact. And nothing in it needs a
# trained network or a large machine: PyTorch has a **meta device**, whose tensors have a shape and
# no numbers in them, so that a network of 138 million weights takes no memory and no time.
#
# Three conventions, because half of all disagreements about these figures are about conventions:
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
from torch.utils.flop_counter import FlopCounterMode

from utils.checks import check_close, check_tuple
from utils.testing_networks import awkward_network

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
FULLY_CONNECTED = [4096, 4096, 1000]
COLUMNS = ("output_shape", "values", "parameters", "multiply_adds")


def check_rows(table, columns, name):
    """Return the rows of a table if each is a tuple of as many values as there are columns."""
    if not isinstance(table, list | tuple):
        hint = "; is a `return` missing?" if table is None else ""
        raise AssertionError(f"{name}: expected a list of rows, got {type(table).__name__}{hint}.")
    return [
        check_tuple(row, columns, f"row {number} of {name}") for number, row in enumerate(table)
    ]


def torch_multiply_adds(layer, *input_shape):
    """PyTorch's own count for one input. Its FLOPs count a multiply-add as two."""
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, *input_shape, device="meta"))
    return counter.get_total_flops() // 2


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
# The brackets mean rounding down: pixels that are left over at the end, too few for one more step,
# are dropped.
#
# ### Exercise: `output_size`
# ★☆☆ · 10 minutes


# %% exercise="output_size"
def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    """How many outputs a convolution or a pool has along one axis.

        ⌊(size + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1

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


# %% test="output_size" points=2
for size, kernel_size, stride, padding, dilation in [
    (11, 4, 1, 0, 1),
    (11, 4, 1, 2, 1),
    (11, 4, 3, 2, 1),
    (12, 3, 2, 0, 1),
    (17, 3, 1, 0, 3),
    (20, 4, 3, 1, 2),
]:
    n, k, s, p, d = size, kernel_size, stride, padding, dilation
    expected = nn.Conv1d(1, 1, k, s, p, d, device="meta")(torch.zeros(1, 1, n, device="meta"))
    check_close(
        output_size(size, kernel_size, stride, padding, dilation),
        expected.shape[2],
        f"output_size({size}, {kernel_size}, {stride=}, {padding=}, {dilation=})",
        mistakes={
            "the stride divides the + 1 too: the first window costs no step": (
                (n + 2 * p - d * (k - 1)) // s
            ),
            "the last window is forgotten: there is one more output than there are steps": (
                (n + 2 * p - d * (k - 1) - 1) // s
            ),
            "the padding is ignored": (n - d * (k - 1) - 1) // s + 1,
            "the padding is added at one end only: both ends get it": (
                (n + p - d * (k - 1) - 1) // s + 1
            ),
            "the stride is ignored": n + 2 * p - d * (k - 1),
            "the result is rounded up: a window that doesn't fit has no output": (
                -((n + 2 * p - d * (k - 1) - 1) // -s) + 1
            ),
            "the result isn't rounded down": (n + 2 * p - d * (k - 1) - 1) / s + 1,
            "the dilation is ignored": (n + 2 * p - k) // s + 1,
            "the window covers dilation · kernel_size pixels: the last tap needs no gap after it": (
                (n + 2 * p - d * k) // s + 1
            ),
            "the dilation is taken for the number of pixels skipped between taps": (
                (n + 2 * p - (d + 1) * (k - 1) - 1) // s + 1
            ),
        },
    )
check_close(output_size(9, 4), 6, "output_size(9, 4), with the default values")
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for _ in range(20):
    kernel_size, stride, padding, dilation = (int(rng.integers(low, 6)) for low in (1, 1, 0, 1))
    size = dilation * (kernel_size - 1) + int(rng.integers(1, 30))
    check_close(
        output_size(size, kernel_size, stride, padding, dilation),
        reference.output_size(size, kernel_size, stride, padding, dilation),
        f"output_size({size}, {kernel_size}, {stride=}, {padding=}, {dilation=})",
    )
### END HIDDEN TESTS

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
# so an image of 7 pixels and one of 8 give the same size: you can't compute the way back from the
# output's size alone. VGG-16 uses one setting throughout, $k = 3$, $s = 1$, $p = 1$, which leaves
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


# %% exercise="conv_parameters"
def conv_parameters(in_channels, out_channels, kernel_size, bias=True):
    """How many numbers a convolution layer learns.

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
    return out_channels * (in_channels * kernel_height * kernel_width + bool(bias))
    ### END SOLUTION


# %% test="conv_parameters" points=2
for in_channels, out_channels, kernel_size, bias in [
    (5, 7, (2, 3), False),
    (5, 7, (2, 3), True),
    (512, 4096, (7, 7), False),
]:
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias, device="meta")
    expected = sum(parameter.numel() for parameter in layer.parameters())
    height, width = kernel_size
    weights = in_channels * out_channels * height * width
    check_close(
        conv_parameters(in_channels, out_channels, kernel_size, bias),
        expected,
        f"conv_parameters({in_channels}, {out_channels}, {kernel_size}, {bias=})",
        mistakes={
            "bias=False is ignored": weights + out_channels,
            "the biases are missing": weights,
            "each filter has one window for all channels: it needs one for each of them": (
                out_channels * (height * width + bias)
            ),
            "there is a single filter: there are out_channels of them": (
                in_channels * height * width + bias
            ),
            "the window is taken for square, as wide as it is high": (
                out_channels * (in_channels * height**2 + bias)
            ),
            "the window is taken for square, as high as it is wide": (
                out_channels * (in_channels * width**2 + bias)
            ),
            "height and width of the window are added, not multiplied": (
                out_channels * (in_channels * (height + width) + bias)
            ),
            "there is a bias for each input channel: each filter has one": weights + in_channels,
            "there is a bias for each pair of channels: each filter has one": (
                weights + in_channels * out_channels
            ),
            "there is a single bias: each filter has one": weights + 1,
        },
    )
check_close(conv_parameters(2, 3, (4, 5)), 123, "conv_parameters(2, 3, (4, 5)), bias by default")
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for _ in range(10):
    in_channels, out_channels, height, width = map(int, rng.integers(1, 40, size=4))
    bias = bool(rng.integers(2))
    check_close(
        conv_parameters(in_channels, out_channels, (height, width), bias),
        reference.conv_parameters(in_channels, out_channels, (height, width), bias),
        f"conv_parameters({in_channels}, {out_channels}, ({height}, {width}), {bias=})",
    )
### END HIDDEN TESTS

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
# 7 × 7 (you will compute that in section 5) with $27 C^2$ weights in place of $49 C^2$, and have
# two more ReLUs between them. The last bar is ResNet's bottleneck: squeeze the channels first,
# look around cheaply, widen again. Parameters aren't everything, though: the three layers put out
# three times the values, and you will meet the bill for that in section 4.
#
# ### Exercise: `conv_multiply_adds`
# ★☆☆ · 10 minutes
#
# Every output value is a sum over the window and all input channels. So the work is
#
# $$\text{multiply-adds}
#   = \underbrace{C_{\text{out}} H_{\text{out}} W_{\text{out}}}_{\text{output values}}
#   \times \underbrace{C_{\text{in}}\, k_H k_W}_{\text{products in each}}$$


# %% exercise="conv_multiply_adds"
def conv_multiply_adds(in_channels, output_shape, kernel_size):
    """How many multiply-adds a convolution layer takes for one image; the bias isn't counted.

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


# %% test="conv_multiply_adds" points=2
for in_channels, output_shape, kernel_size in [
    (5, (7, 4, 5), (2, 3)),
    (3, (64, 224, 224), (3, 3)),
]:
    (out_channels, height, width), (kernel_height, kernel_width) = output_shape, kernel_size
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, device="meta")
    expected = torch_multiply_adds(
        layer, in_channels, height + kernel_height - 1, width + kernel_width - 1
    )
    values, positions = out_channels * height * width, height * width
    products = in_channels * kernel_height * kernel_width
    check_close(
        conv_multiply_adds(in_channels, output_shape, kernel_size),
        expected,
        f"conv_multiply_adds({in_channels}, {output_shape}, {kernel_size})",
        mistakes={
            "FLOPs are counted: a multiplication and its addition are one multiply-add": (
                2 * expected
            ),
            "the bias is counted": expected + values,
            "only one input channel is summed over: each output value takes all of them": (
                values * kernel_height * kernel_width
            ),
            "only one filter is counted: there are C_out of them": positions * products,
            "the layer's weights are counted: each is used at every position": (
                out_channels * products
            ),
            "only the output values are counted: each of them is a sum of products": values,
            "the window is taken for square, as wide as it is high": (
                values * in_channels * kernel_height**2
            ),
            "the window is taken for square, as high as it is wide": (
                values * in_channels * kernel_width**2
            ),
            "the output is taken for square, as wide as it is high": (
                out_channels * height**2 * products
            ),
            "the output is taken for square, as high as it is wide": (
                out_channels * width**2 * products
            ),
            "the last of the additions is left out: count each multiplication": (
                values * (products - 1)
            ),
        },
    )
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for _ in range(10):
    in_channels, *output_shape = map(int, rng.integers(1, 40, size=4))
    output_shape, kernel_size = tuple(output_shape), tuple(map(int, rng.integers(1, 8, size=2)))
    check_close(
        conv_multiply_adds(in_channels, output_shape, kernel_size),
        reference.conv_multiply_adds(in_channels, output_shape, kernel_size),
        f"conv_multiply_adds({in_channels}, {output_shape}, {kernel_size})",
    )
### END HIDDEN TESTS

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
ax.set_title("Twice the side costs four times the memory and work, and no parameter more")
ax.grid(color="0.9")
plt.show()

# %% [markdown]
# The figure shows one layer, 64 channels to 64. Parameters say nothing about the size of the
# image: a convolution with few of them can still be the most expensive layer of a network. Keep
# that in mind whenever a network is called "small".
#
# ## 2. The whole of VGG-16
#
# Now chain the layers. In the list `VGG16` of the first cell a number is a 3 × 3 convolution with
# that many filters (stride 1, padding 1) and an `"M"` is a 2 × 2 max pool of stride 2. Then come
# the fully connected layers of `FULLY_CONNECTED`. The first of them sees the whole last map, so it
# has $512 \cdot 7 \cdot 7$ weights for each of its 4096 outputs.
#
# ### Exercise: `vgg_table`
# ★★☆ · 30 minutes
#
# Write the formulas out here: a 3 × 3 layer needs but a short one, and a slip above then won't
# cost you twice.
#
# <details><summary>Hint</summary>
#
# Go through the layers with three variables in hand, the `channels`, `height` and `width` of what
# came out last, and append one row for each layer. A fully connected layer takes
# `channels * height * width` inputs and leaves a map of 1 × 1.
#
# </details>


# %% exercise="vgg_table"
def vgg_table(convolutions, fully_connected, input_shape):
    """The books of a network like VGG, for one image, biases not counted.

    Args:
        convolutions: the layers before the fully connected ones, a list: an int is a 3 × 3
            convolution with that many filters, stride 1, padding 1; "M" is a 2 × 2 max pool of
            stride 2 (which drops an odd row or column).
        fully_connected: the outputs of each fully connected layer, a list of ints.
        input_shape: the image's (C, H, W).

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
    table = [(tuple(input_shape), channels * height * width, 0, 0)]
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


# %% test="vgg_table" points=6
# The lecture's table, row for row.
lecture = [
    ((3, 224, 224), 150_528, 0),
    ((64, 224, 224), 3_211_264, 1_728),
    ((64, 224, 224), 3_211_264, 36_864),
    ((64, 112, 112), 802_816, 0),
    ((128, 112, 112), 1_605_632, 73_728),
    ((128, 112, 112), 1_605_632, 147_456),
    ((128, 56, 56), 401_408, 0),
    ((256, 56, 56), 802_816, 294_912),
    ((256, 56, 56), 802_816, 589_824),
    ((256, 56, 56), 802_816, 589_824),
    ((256, 28, 28), 200_704, 0),
    ((512, 28, 28), 401_408, 1_179_648),
    ((512, 28, 28), 401_408, 2_359_296),
    ((512, 28, 28), 401_408, 2_359_296),
    ((512, 14, 14), 100_352, 0),
    ((512, 14, 14), 100_352, 2_359_296),
    ((512, 14, 14), 100_352, 2_359_296),
    ((512, 14, 14), 100_352, 2_359_296),
    ((512, 7, 7), 25_088, 0),
    ((4096, 1, 1), 4_096, 102_760_448),
    ((4096, 1, 1), 4_096, 16_777_216),
    ((1000, 1, 1), 1_000, 4_096_000),
]
name = "vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224))"
rows = check_rows(vgg_table(VGG16, FULLY_CONNECTED, (3, 224, 224)), COLUMNS, name)
shapes = np.array([check_tuple(row[0], "CHW", f"output_shape in a row of {name}") for row in rows])
values, parameters, multiply_adds = (np.array([row[n] for row in rows]) for n in (1, 2, 3))

expected_shapes = np.array([row[0] for row in lecture])
expected_values = np.array([row[1] for row in lecture])
expected_parameters = np.array([row[2] for row in lecture])
pool = np.array([layer == "M" for layer in ["input", *VGG16, *FULLY_CONNECTED]])
fully_connected = np.arange(22) > 18
shrinking = [224, 222, 220, 110, 108, 106, 53, 51, 49, 47, 23, 21, 19, 17, 8, 6, 4, 2, 1, 1, 1, 1]
convolution = ~pool & ~fully_connected & (np.arange(22) > 0)
check_close(
    shapes,
    expected_shapes,
    f"the column of output shapes of {name}",
    mistakes={
        "the row of the input is missing": expected_shapes[1:],
        "the rows of the pools are missing": expected_shapes[~pool],
        "the shapes are (H, W, C): the channels come first": expected_shapes[:, [1, 2, 0]],
        "pools don't halve the map": np.where(
            (np.arange(22) < 19)[:, None], expected_shapes * [1, 0, 0] + [0, 224, 224], [0, 1, 1]
        )
        + np.where(fully_connected[:, None], expected_shapes * [1, 0, 0], 0),
        "pools halve the height only": np.where(
            fully_connected[:, None], expected_shapes, expected_shapes * [1, 1, 0] + [0, 0, 224]
        ),
        "convolutions lose a border of one pixel: with padding 1 they keep the size": (
            np.column_stack([expected_shapes[:, 0], shrinking, shrinking])
        ),
        "the rows of the fully connected layers are missing": expected_shapes[:19],
    },
)
check_close(
    values,
    expected_values,
    f"the column of values of {name}",
    mistakes={
        "bytes are counted: each value counts as one": 4 * expected_values,
        "pools put out nothing: their outputs are values too": expected_values * ~pool,
        "the input's values are missing": expected_values * (np.arange(22) > 0),
        "the channels are left out": expected_shapes[:, 1] * expected_shapes[:, 2],
        "ReLU's outputs are counted too: it works in place": expected_values
        * np.where(convolution | (fully_connected & (np.arange(22) < 21)), 2, 1),
    },
)
of_previous = np.roll(expected_shapes, 1, axis=0).prod(axis=1)
previous_channels = np.roll(expected_shapes[:, 0], 1)
check_close(
    parameters,
    expected_parameters,
    f"the column of parameters of {name}",
    mistakes={
        "biases are counted": expected_parameters
        + ~pool * (np.arange(22) > 0) * expected_shapes[:, 0],
        "every convolution sees 3 channels: it sees those of the layer before": np.where(
            convolution, 27 * expected_shapes[:, 0], expected_parameters
        ),
        "a convolution sees as many channels as it puts out": np.where(
            convolution, 9 * expected_shapes[:, 0] ** 2, expected_parameters
        ),
        "each filter has one 3 × 3 window for all channels": np.where(
            convolution, 9 * expected_shapes[:, 0], expected_parameters
        ),
        "the first fully connected layer sees 512 values: it sees 512 · 7 · 7": np.where(
            np.arange(22) == 19, 4096 * 512, expected_parameters
        ),
        "every fully connected layer sees 512 · 7 · 7 values: the others see the one before": (
            np.where(fully_connected, 512 * 7 * 7 * expected_shapes[:, 0], expected_parameters)
        ),
        "pools have weights: they only take a maximum": np.where(
            pool, 9 * expected_shapes[:, 0] * previous_channels, expected_parameters
        ),
    },
)
expected_multiply_adds = expected_parameters * expected_shapes[:, 1] * expected_shapes[:, 2]
check_close(
    multiply_adds,
    expected_multiply_adds,
    f"the column of multiply-adds of {name}",
    mistakes={
        "FLOPs are counted: a multiplication and its addition are one multiply-add": (
            2 * expected_multiply_adds
        ),
        "the weights are counted: each is used at every position": expected_parameters,
        "fully connected layers take no multiply-adds: each weight is used once": (
            expected_multiply_adds * ~fully_connected
        ),
        "each weight of a fully connected layer is used at 7 × 7 positions: it is used once": (
            np.where(np.arange(22) == 19, 49 * expected_parameters, expected_multiply_adds)
        ),
        "the weights are multiplied with the output values: positions are enough": (
            expected_parameters * expected_values
        ),
        "the biases are counted": expected_multiply_adds
        + np.where(expected_parameters > 0, expected_values, 0),
    },
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for convolutions, fully_connected, input_shape in [
    ([8, "M", 16, "M", 16, 32, "M"], [10], (3, 50, 37)),
    (["M", 5, 7], [11, 13], (2, 9, 14)),
    ([int(n) for n in rng.integers(1, 30, size=4)], [3, 4, 5, 6], (1, 5, 4)),
]:
    name = f"vgg_table({convolutions}, {fully_connected}, {input_shape})"
    rows = check_rows(vgg_table(convolutions, fully_connected, input_shape), COLUMNS, name)
    expected = reference.vgg_table(convolutions, fully_connected, input_shape)
    assert len(rows) == len(expected), f"{name}: expected {len(expected)} rows, got {len(rows)}."
    for number, (row, expected_row) in enumerate(zip(rows, expected, strict=True)):
        check_close(np.array(row[0]), np.array(expected_row[0]), f"row {number} of {name}, shape")
        check_close(np.array(row[1:]), np.array(expected_row[1:]), f"row {number} of {name}")
### END HIDDEN TESTS

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
# Most *values* are in the first two convolutions, most *parameters* in the first fully connected
# layer, and the *work* is spread over all convolutions, though the last three weigh less. The
# reason is a single number. A weight of a convolution is used at every position: 50,176 times in
# the first layers, 196 times in the last convolutions, once in a fully connected layer. Multiply
# the middle panel by that and you have the right one.
#
# What the figure doesn't show is time. A graphics card may wait longer for the 411 MB of weights
# of the first fully connected layer to arrive than for the arithmetic of a convolution that does
# ten times the work.
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


# %% test="total_with_inputs" points=2
small = [  # a pool comes first, so its own input and the convolution's differ
    ((3, 8, 10), 240, 0, 0),
    ((3, 4, 5), 60, 0, 0),
    ((7, 4, 5), 140, 189, 3780),
    ((7, 2, 2), 28, 0, 0),
    ((11, 1, 1), 11, 308, 308),
    ((5, 1, 1), 5, 55, 55),
]
outputs, learning = np.array([row[1] for row in small]), np.array([row[2] > 0 for row in small])
check_close(
    total_with_inputs(small),
    583,
    "total_with_inputs(small)",
    mistakes={
        "only the outputs are entered": outputs.sum(),
        "only the inputs of layers that learn are entered": 99,
        "pools enter their inputs too: only layers with parameters do": 963,
        "everything is entered twice": 2 * outputs.sum(),
        "layers that learn enter their output twice: it is the input that is entered": (
            outputs.sum() + outputs[learning].sum()
        ),
        "pools and the input leave out their outputs: every layer enters its own": (
            outputs[learning].sum() + 99
        ),
        "the row after a layer that learns is entered, not the one before": (
            outputs.sum() + 28 + 5
        ),
        "the inputs are those of the layers without parameters": outputs.sum() + 240 + 140,
    },
)
check_close(total_with_inputs(small[:3]), 500, "total_with_inputs(small[:3])")
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for convolutions, fully_connected in [([4, 8, "M", 8], [10, 10]), (["M", 5, "M"], [3])]:
    height, width = map(int, rng.integers(8, 30, size=2))
    books = reference.vgg_table(convolutions, fully_connected, (3, height, width))
    check_close(
        total_with_inputs(books),
        reference.total_with_inputs(books),
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
# is a million wide, and if we had tried a hundred bookkeepings, some would have hit it by chance.
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


# %% test="inference_peak" points=2
values = [50, 30, 47, 10, 9, 64, 5, 40]
expected = 80  # 50 and 30; 47 + 30 and 9 + 64 are less
check_close(
    inference_peak(list(values)),
    expected,
    f"inference_peak({values})",
    mistakes={
        "all values are added up: what has been read is dropped": sum(values),
        "only the largest tensor counts: a layer holds its input and its output": max(values),
        "the two largest tensors are added: they needn't be neighbours": 64 + 50,
        "the first layer's input is left out": 77,
        "the last output is taken for the first layer's input": 90,
        "three tensors in a row are held: two are enough": 127,
        "twice the largest tensor is held": 2 * max(values),
    },
)
check_close(inference_peak([3, 4, 90, 70]), 160, "inference_peak([3, 4, 90, 70])")
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for length in (2, 3, 8, 20):
    values = [int(n) for n in rng.integers(1, 1000, size=length)]
    check_close(
        inference_peak(list(values)), reference.inference_peak(values), f"inference_peak({values})"
    )
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
# tensors there are. In training, memory climbs in the first layers already and stays there until
# the way back has come down to them; the gradients in transit add little at the top. Frameworks
# hold on to more than this, mostly scratch space for fast convolutions, and a network with
# skip connections has to keep a third tensor, the one that is skipping.
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


# %% test="bytes_for_backward" points=5
cases = {
    "two convolutions": [("input", 48), ("conv", 80), ("conv", 24)],
    "a convolution with a ReLU": [("input", 48), ("conv", 80), ("relu", 80)],
    "a ReLU between convolutions": [("input", 48), ("conv", 80), ("relu", 80), ("conv", 24)],
    "a pool behind a convolution": [("input", 48), ("conv", 80), ("pool", 20), ("conv", 12)],
    "a dropout between linear layers": [
        ("input", 7),
        ("linear", 90),
        ("dropout", 90),
        ("linear", 3),
    ],
    "VGG in small": [
        ("input", 48),
        ("conv", 80),
        ("relu", 80),
        ("pool", 20),
        ("linear", 13),
        ("relu", 13),
        ("dropout", 13),
        ("linear", 5),
    ],
}
right = {
    "two convolutions": 4 * (48 + 80),
    "a convolution with a ReLU": 4 * (48 + 80),
    "a ReLU between convolutions": 4 * (48 + 80),
    "a pool behind a convolution": 4 * (48 + 20) + 20,
    "a dropout between linear layers": 4 * (7 + 90) + 90,
    "VGG in small": 4 * (48 + 80 + 20 + 13 + 13) + 20 + 13,
}


def needs(rules, layers, count_each=False, mask_bytes=1):
    """What another set of rules would keep: from a kind to "input", "output" or "mask"."""
    places, masks = [], 0
    for place, (kind, values) in enumerate(layers):
        for rule in rules.get(kind, "").split():
            places += {"input": [place - 1], "output": [place], "mask": []}[rule]
            masks += values if rule == "mask" else 0
    places = places if count_each else set(places)
    return 4 * sum(layers[place][1] for place in places) + mask_bytes * masks


rules = {"conv": "input", "linear": "input", "relu": "output", "pool": "mask", "dropout": "mask"}
learn_output = {"conv": "output", "linear": "output"}
for case, layers in cases.items():
    pools = sum(values for kind, values in layers if kind == "pool")
    check_close(
        bytes_for_backward(list(layers)),
        right[case],
        f"bytes_for_backward for {case}",
        mistakes={
            "values are counted, not bytes: a float32 has 4": (
                needs(rules, layers, mask_bytes=4) // 4
            ),
            "values are counted, not bytes: a float32 has 4 (masks left out)": (
                needs(rules, layers, mask_bytes=0) // 4
            ),
            "the output of a layer that learns is kept, not its input": (
                needs(rules | learn_output, layers)
            ),
            "the image itself is left out: the first convolution needs it": (
                right[case] - 4 * layers[0][1]
            ),
            "a ReLU and the layer after it count a tensor each: both need ReLU's output, once": (
                needs(rules, layers, count_each=True)
            ),
            "ReLU needs its input too: the output tells where it was positive": (
                needs(rules | {"relu": "input output"}, layers)
            ),
            "ReLU needs nothing: it needs its output": needs(rules | {"relu": ""}, layers),
            "a convolution keeps nothing: it needs its input": needs(rules | {"conv": ""}, layers),
            "a linear layer keeps nothing: it needs its input": (
                needs(rules | {"linear": ""}, layers)
            ),
            "a pool keeps its input: where the maximum was is enough": (
                needs(rules | {"pool": "input mask"}, layers)
            ),
            "a pool keeps its input instead of where the maximum was": (
                needs(rules | {"pool": "input"}, layers)
            ),
            "a pool keeps nothing: it needs to know where the maximum was": right[case] - pools,
            "a dropout keeps its input: the mask is enough": (
                needs(rules | {"dropout": "input mask"}, layers)
            ),
            "a dropout keeps its input instead of its mask": (
                needs(rules | {"dropout": "input"}, layers)
            ),
            "a dropout keeps nothing: it needs its mask": needs(rules | {"dropout": ""}, layers),
            "masks and places take 4 bytes each: one is enough": (
                needs(rules, layers, mask_bytes=4)
            ),
            "masks and places aren't counted": needs(rules, layers, mask_bytes=0),
            "every layer's output is kept, whether needed or not": 4
            * sum(values for _, values in layers)
            + needs({"pool": "mask", "dropout": "mask"}, layers),
            "every layer's output is kept, whether needed or not, and masks aren't": 4
            * sum(values for _, values in layers),
        },
    )
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
kinds = ["conv", "linear", "relu", "pool", "dropout"]
for length in (1, 3, 6, 12, 24):
    chosen = ["input", *(kinds[n] for n in rng.integers(5, size=length))]
    layers = [(kind, int(rng.integers(1, 99))) for kind in chosen]
    check_close(
        bytes_for_backward(list(layers)),
        reference.bytes_for_backward(layers),
        f"bytes_for_backward({layers})",
    )
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
# Your tensors and PyTorch's agree almost to the last one. PyTorch spends eight bytes rather than
# one on the place of a maximum, on this device it stores dropout's mask as floats, and a pool that
# changes nothing (VGG's adaptive one) makes a copy.
#
# What does a ReLU cost? Between two convolutions nothing: its output is the next convolution's
# input, which is kept anyway. Before a pool it is another matter. The pool needs only places, so
# the ReLU's output is kept for the ReLU alone, and VGG has such a ReLU at the end of each block:
# hence the third bar. BatchNorm needs its input, which is just the convolution's output that could
# be dropped before, after every convolution. The figure counts what is kept *for autograd*;
# weights, their gradients and the optimiser come next, and those don't grow with the batch.
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


# %% test="largest_batch" points=3
for optimizer, copies in [("sgd", 2), ("momentum", 3), ("adam", 4)]:
    for card_bytes in (100_000, 12_000):
        P, B = 1_000, 700
        left = card_bytes - 4 * P * copies
        check_close(
            largest_batch(card_bytes, P, B, optimizer),
            max(0, left // B),
            f"largest_batch({card_bytes}, {P}, {B}, {optimizer!r})",
            mistakes={
                "the number is negative where nothing fits: it should be 0": left // B,
                "a part of an image is counted: round down": max(0, left / B),
                "the result is rounded up: the last image doesn't fit": max(0, -(left // -B)),
                "weights and all that goes with them are left out": card_bytes // B,
                "what the optimiser remembers is left out": max(0, (card_bytes - 8 * P) // B),
                "the weights, or their gradients, are left out: both take 4 bytes each": (
                    max(0, (left + 4 * P) // B)
                ),
                "the parameters are counted, not their bytes": max(
                    0, (card_bytes - P * copies) // B
                ),
                "every image needs weights of its own: they are shared": (
                    card_bytes // (B + 4 * P * copies)
                ),
                "a value too many is counted for each parameter": max(0, (left - 4 * P) // B),
                "bytes_per_image is multiplied by 4: it is in bytes already": max(
                    0, left // (4 * B)
                ),
            },
        )
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for optimizer in ("adam", "momentum", "sgd"):
    for card_bytes in map(int, rng.integers(0, 10**9, size=6)):
        parameters, bytes_per_image = int(rng.integers(1, 10**8)), int(rng.integers(1, 10**7))
        check_close(
            largest_batch(card_bytes, parameters, bytes_per_image, optimizer),
            reference.largest_batch(card_bytes, parameters, bytes_per_image, optimizer),
            f"largest_batch({card_bytes}, {parameters}, {bytes_per_image}, {optimizer!r})",
        )
check_close(largest_batch(8_000 + 700, 1_000, 700, "sgd"), 1, "one image that fits exactly")
### END HIDDEN TESTS

# %%
GiB = 2**30
parameters = sum(parameter.numel() for parameter in vgg16.parameters())
batches = np.arange(513)
figure, ax = plt.subplots(figsize=(9, 4.8), layout="constrained")
for optimizer, copies, style in [("adam", 4, "-"), ("sgd", 2, "--")]:
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
# their slope, which is the activations of one image. So when memory runs out, ask which of the two
# takes it. If it is the slope, take a smaller batch, or keep only some of the activations and
# compute the others again on the way back ("checkpointing"). If it is the start, that is the
# parameters and all that goes with them, a smaller batch won't help you.
#
# ## 5. How far a value sees (optional)
#
# A value deep in the network depends on a window of the image: its **receptive field**. Follow a
# chain of layers upwards with two numbers. The **jump** $j$ is how many pixels apart two
# neighbouring values see, and $r$ is how many pixels one value sees. For the image, $r = j = 1$.
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
    """How many pixels one value sees, and how far apart neighbouring values see, along one axis.

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


# %% test="receptive_field" points=4
cases = {
    "one 3-tap layer": ([(3, 1, 1)], (3, 1)),
    "three 3-tap layers": ([(3, 1, 1)] * 3, (7, 1)),
    "a 5-tap layer of stride 3": ([(5, 3, 1)], (5, 3)),
    "a 3-tap layer, a pool, a 5-tap layer": ([(3, 1, 1), (2, 2, 1), (5, 1, 1)], (12, 2)),
    "a stride of 3, then one of 2": ([(4, 3, 1), (3, 2, 1)], (10, 6)),
    "a dilation of 3": ([(3, 1, 3)], (7, 1)),
    "all together": ([(7, 2, 1), (3, 2, 2), (2, 3, 1), (4, 1, 3)], (127, 12)),
}


def wrong_size(layers, grow, start=1):
    """The size that another rule would give: grow(k, s, d, jump before the layer)."""
    size, jump = start, 1
    for k, s, d in layers:
        size, jump = size + grow(k, s, d, jump), jump * s
    return size


for case, (layers, (size, jump)) in cases.items():
    name = f"receptive_field for {case}"
    came_size, came_jump = check_tuple(receptive_field(list(layers)), ("size", "jump"), name)
    check_close(
        came_size,
        size,
        f"size from {name}",
        mistakes={
            "size and jump are exchanged": jump,
            "a value sees itself only once: the size starts at 1": size - 1,
            "each layer adds its kernel_size: one less, as the windows overlap": wrong_size(
                layers, lambda k, s, d, j: d * k * j
            ),
            "each layer adds its kernel_size, from a start of 0": wrong_size(
                layers, lambda k, s, d, j: d * k * j, start=0
            ),
            "a layer's own stride widens its own window: update the jump afterwards": wrong_size(
                layers, lambda k, s, d, j: d * (k - 1) * j * s
            ),
            "strides are ignored: the layers above see further": wrong_size(
                layers, lambda k, s, d, j: d * (k - 1)
            ),
            "the dilation is ignored": wrong_size(layers, lambda k, s, d, j: (k - 1) * j),
            "the dilation is counted once for the layer, not for each step between taps": (
                wrong_size(layers, lambda k, s, d, j: (k - 1 + d - 1) * j)
            ),
            "the layers are followed from the top down": wrong_size(
                layers[::-1], lambda k, s, d, j: d * (k - 1) * j
            ),
            "only the last layer counts": layers[-1][2] * (layers[-1][0] - 1) + 1,
        },
    )
    check_close(
        came_jump,
        jump,
        f"jump from {name}",
        mistakes={
            "strides are added: they multiply": sum(s for _, s, _ in layers),
            "strides are added to 1: they multiply": 1 + sum(s for _, s, _ in layers),
            "it is the last layer's stride alone": layers[-1][1],
            "it is the last layer's stride left out": jump // layers[-1][1],
            "the dilation changes it: it only widens the window": jump
            * int(np.prod([d for _, _, d in layers])),
            "the jump isn't updated": 1,
        },
    )
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for length in (0, 1, 4, 9):
    layers = [tuple(map(int, row)) for row in rng.integers(1, 5, size=(length, 3))]
    name = f"receptive_field({layers})"
    result = check_tuple(receptive_field(list(layers)), ("size", "jump"), name)
    check_close(np.array(result), np.array(reference.receptive_field(layers)), name)
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
# Not every value lies in the middle. Choose a layer of VGG-16 and one of its values, and see its
# window in the photograph, and what a value at the border gets instead of pixels.

# %% fold="Choose a value of VGG-16: what does it see?"
from ipywidgets import FloatSlider, IntSlider

from utils.figures import explore

chain = windows(vgg16.features)


def draw_window(layer, down, right):
    """The window of one value, at these shares of the way down and right in its layer's map."""
    kept = chain[:layer]
    size, jump = receptive_field([window for _, window in kept])
    side, first = 224, 0.0  # of the map; where the middle of its first window lies
    step = 1
    for place, (kernel_size, stride, dilation) in kept:
        padding = vgg16.features[place].padding
        padding = padding if isinstance(padding, int) else padding[0]
        first += step * ((kernel_size - 1) * dilation / 2 - padding)
        side = (side + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
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
# The grey frame is where there is no photograph: the layers' padding fills it with zeros (pools
# have none). A value in the corner of a deep layer sees more of that than of the picture. So deep
# layers can tell where in the picture they are, although every layer does the same at every place
# (Islam et al., 2020, *How Much Position Information Do Convolutional Neural Networks Encode?*).
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
# The test uses a little network with everything that makes books go wrong: modules in modules,
# groups, a ReLU and a convolution that are used twice, and a shortcut that is defined before the
# layers that it skips but called after them.


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

    def forward(self, x):
        x = self.relu(self.stem(x))
        return self.head(self.relu(self.grouped(self.grouped(x)) + self.shortcut(x)))


# %% test="account" points=6
ROW = ("name", "output_shape", "parameters", "multiply_adds")
tangle = Tangle().to("meta")
tangle.stem[1].eval()  # as when BatchNorm is frozen: the others are in training mode
name = "account(tangle, (3, 11, 14))"
rows = check_rows(account(tangle, (3, 11, 14)), ROW, name)

calls = ["stem.0", "stem.1", "relu", "grouped", "grouped", "shortcut", "relu"]
calls += ["head.0", "head.1", "head.2"]
names = [row[0] for row in rows]
leaves = [key for key, module in tangle.named_modules() if not list(module.children())]
contains = sorted({key for key, module in tangle.named_modules() if list(module.children())})
if names != calls:
    looks = ""
    if any(key in contains for key in names):
        looks = "; it looks as if modules that contain others have rows: only the innermost should"
    elif set(names) == {calls[-1]}:
        looks = "; it looks as if all hooks share the last name: let a function make each hook"
    elif sorted(names) == sorted(leaves):
        looks = "; it looks as if each module has one row: each *call* should have one"
    elif names and set(names) < set(calls) and not any("." in key for key in names):
        looks = "; it looks as if modules inside of modules are left out"
    elif sorted(names) == sorted(calls):
        looks = "; it looks as if the rows aren't in the order of the calls"
    elif names and {key for key in names} <= {type(m).__name__ for m in tangle.modules()}:
        looks = "; it looks as if the class stands for the name"
    raise AssertionError(f"{name}: expected rows {', '.join(calls)}; got {names}{looks}.")

shapes = [(8, 5, 7)] * 7 + [(8, 2, 2), (32,), (3,)]
for key, row, shape in zip(calls, rows, shapes, strict=True):
    with_batch = row[1] is not None and tuple(row[1]) == (1, *shape)
    hint = "; leave out the axis of the batch" if with_batch else ""
    assert isinstance(row[1], list | tuple) and tuple(row[1]) == shape, (
        f"{name}: expected the output shape {shape} in the row {key}, got {row[1]}{hint}."
    )

is_conv = np.array([key in ("stem.0", "grouped", "shortcut") for key in calls])
expected = np.array([152, 16, 0, 152, 0, 64, 0, 0, 0, 99])
biases = np.array([8, 0, 0, 8, 0, 0, 0, 0, 0, 3])
check_close(
    np.array([row[2] for row in rows]),
    expected,
    f"the parameters of {name}",
    mistakes={
        "a module that is called twice counts its parameters twice: they exist once": (
            expected + 152 * (np.arange(10) == 4)
        ),
        "the biases are missing": expected - biases - 8 * (np.arange(10) == 1),
        "the biases of convolutions and fully connected layers are missing": expected - biases,
        "BatchNorm's parameters are missing": expected * (np.arange(10) != 1),
        "BatchNorm's running statistics are counted: they aren't parameters": (
            expected + 17 * (np.arange(10) == 1)
        ),
        "groups are ignored: a filter sees only its group's channels": (
            expected + 432 * (np.arange(10) == 3)
        ),
    },
)
expected = np.array([5040, 0, 0, 5040, 5040, 2240, 0, 0, 0, 96])
outputs = np.array([280, 0, 0, 280, 280, 280, 0, 0, 0, 3])
check_close(
    np.array([row[3] for row in rows]),
    expected,
    f"the multiply-adds of {name}",
    mistakes={
        "FLOPs are counted: a multiplication and its addition are one multiply-add": 2 * expected,
        "groups are ignored: a filter sees only its group's channels": np.array(
            [5040, 0, 0, 20160, 20160, 2240, 0, 0, 0, 96]
        ),
        "biases are counted": expected + outputs - 280 * (np.arange(10) == 5),
        "the second call of a module counts no work: it takes as much as the first": (
            expected * (np.arange(10) != 4)
        ),
        "fully connected layers take no multiply-adds": expected * is_conv,
        "the weights are counted: each is used at every position": np.where(
            is_conv, expected // 35, expected
        ),
        "parameters times positions are counted, biases included": np.array(
            [5320, 0, 0, 5320, 5320, 2240, 0, 0, 0, 99]
        ),
        "a window is taken for square": np.array([7560, 0, 0, 5040, 5040, 2240, 0, 0, 0, 96]),
        "BatchNorm's multiplications are counted: only nn.Conv2d and nn.Linear are": (
            expected + 280 * (np.arange(10) == 1)
        ),
    },
)
with suppress(RuntimeError):
    account(tangle, (5, 11, 14))  # the network takes three channels, so this raises
assert not any(module._forward_hooks for module in tangle.modules()), (
    "account leaves hooks on the network after an exception: remove them in a `finally` block."
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
sequence = nn.Sequential(
    nn.Conv2d(3, 6, 5, stride=2, padding=1, dilation=2, bias=False),
    nn.Sequential(nn.ReLU(), nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 12, (1, 3), groups=3))),
    nn.Sequential(nn.MaxPool2d(3, 2), nn.Dropout(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()),
    nn.Linear(72, 7, bias=False),
).to("meta")
sequence[1].eval()
another = awkward_network(reference.seed, hooks=True, mixed=True, dtype=torch.float32).to("meta")
for model, name in [
    (sequence, "a sequence of layers"),
    (tangle, "tangle"),
    (another, "a network with a forward of its own"),
]:
    height, width = map(int, rng.integers(40, 90, size=2))
    rows = check_rows(account(model, (3, height, width)), ROW, f"account of {name}")
    expected = reference.account(model, (3, height, width))
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
# All agree in every digit but two, marked by an arrow, and these teach what hooks can't see.
# Inception has a second classifier that helps in training only: its parameters exist, but in
# evaluation nobody calls it. ConvNeXt scales its channels by a parameter that belongs to a block
# and not to a module of its own; hooks on the innermost modules pass it by. Vision transformers
# hide much more in that way. So check the books against something independent, each time.
#
# ## ImageNet networks: VGG against ResNet and SqueezeNet
#
# Books need no trained weights, so nothing is downloaded here, and you can put in any network that
# you like. Three ideas have saved most of VGG's parameters and work since: average each channel
# over the whole map in place of the large fully connected layers (ResNet, SqueezeNet), squeeze the
# channels with 1 × 1 windows before looking around (SqueezeNet, ResNet-50), and halve the map
# early, before there are many channels (both). What did it do to memory and to accuracy?

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
# layers only. All of them bend upwards, because maps shrink while channels multiply; VGG's ends in
# a wall, its fully connected layers. The accuracies are of torchvision's first published weights
# and depend on how a network was trained as much as on its architecture, so don't read them as a
# verdict on the design alone. And no bar here is a time: SqueezeNet's and ResNet's many
# thin layers keep a graphics card less busy than VGG's thick ones.
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
# Books that balance to the last digit, for any convolutional network: what it stores, what it does,
# what it keeps, how far it sees. And a habit that outlasts VGG: when somebody gives you a number,
# ask *values or bytes, MB or MiB, multiply-adds or FLOPs, counted once or twice*, and do the sum.
