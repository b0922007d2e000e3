# %% [markdown]
# # Lab 01: Convolution, forward and back
#
# A convolution layer looks at an image through a small window and asks the same question
# everywhere. You will write such a layer from nothing, teach it, make it fast, and put a max
# pooling layer after it.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. A window slides over an image | `cross_correlate2d`, `convolve2d`, one answer in words | 55 |
# | 2. The way back, on one channel | `kernel_gradient`, `input_gradient` | 45 |
# | 3. The layer | `conv_forward_naive`, its gradients in one loop | 55 |
# | 3. The gradients in three parts (optional) | one for the filters, the input, the biases | 60 |
# | 4. The layer as a matrix product (optional) | `im2col`, `col2im`, and the two products | 80 |
# | 5. Max pooling (optional) | its forward and its backward pass | 45 |
# | 6. A network that learns digits (optional) | `three_layer_loss` | 40 |
#
# What isn't marked as optional takes under three hours, and needs nothing from the optional parts.
# The optional parts are a second sitting or two: the gradients once more, the layer made fast, max
# pooling, and a network (section 6) that is put together from your work in 4 and 5.
#
# Every exercise is a function to finish. The cells beneath it are its tests, one for each thing
# that can go wrong. Each answers **right so far**, or says in one sentence what is wrong. When your
# work is graded, other shapes, strides and numbers are tried as well. NumPy is all you need; loops
# are welcome. No exercise needs one that you wrote before, so a slip costs you only once.

# %% given=true
import numpy as np
import scipy.signal
import torch

from utils.checks import check_close, check_tuple, eval_numerical_gradient_array, rel_error
from utils.guard import check_without


def random_layer(seed, x_shape, w_shape, stride=1, pad=0):
    """A convolution layer to test with, all of it float64: images, filters, biases, conv_param, and
    an upstream gradient of its output's shape."""
    rng = np.random.default_rng(seed)
    x, w, b = (rng.standard_normal(shape) for shape in (x_shape, w_shape, w_shape[:1]))
    H_out, W_out = (np.array(x_shape[2:]) + 2 * pad - w_shape[2:]) // stride + 1
    dout = rng.standard_normal((len(x), len(w), H_out, W_out))
    return x, w, b, {"stride": stride, "pad": pad}, dout


# %% [markdown]
# The next cell sets up the figures: signed numbers are shown in red (positive) and blue
# (negative), white is zero, and the numbers stand in the cells, so that the picture can be read
# in greyscale too.

# %% fold="How figures show numbers"
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle


def show_numbers(ax, array, title, limit=None):
    """Draw a small matrix with its numbers, in colours that are symmetric about zero."""
    limit = limit or np.nanmax(np.abs(array))
    ax.imshow(array, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(array):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            text = f"{value + 0.0:g}".replace("-", "−")  # + 0.0 turns −0 into 0
            ax.text(column, row, text, ha="center", va="center", color=colour)
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])


def outline(ax, row, column, height, width, colour="black"):
    """Draw a frame around a window of a matrix drawn with imshow."""
    corner = (column - 0.5, row - 0.5)
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=3))


# %% [markdown]
# ## 1. A window slides over an image
#
# An edge looks the same in the top left corner of a photograph as in the bottom right. So it is
# wasteful to learn an edge detector for every place: one small **kernel** $k$ of weights will do,
# if it visits every place in turn. Lay it over the image $x$, multiply what lies on top of each
# other, add up, move on by one pixel:
#
# $$y(r, c) = \sum_a \sum_b x(r + a,\; c + b)\; k(a, b)$$
#
# This is the **cross-correlation** of $x$ and $k$. Deep learning calls it convolution; you will
# see in a moment what the difference is, and in section 2 why it matters.
#
# ### Exercise: `cross_correlate2d`
# ★☆☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# The window that $y(r, c)$ sees is a slice of $x$ that begins at row $r$ and column $c$ and has the
# kernel's shape. Arrays of the same shape can be multiplied as they are.
#
# </details>


# %% exercise="cross_correlate2d" without="scipy, torch"
def cross_correlate2d(x, kernel):
    """Slide a kernel over an image and add up the products at every place.

        y(r, c) = Σ_a Σ_b x(r + a, c + b) · kernel(a, b)

    Only places where the kernel lies wholly inside the image count. Write it yourself: calling
    SciPy or PyTorch costs a point.

    Args:
        x: image, float64 array (H, W).
        kernel: float64 array (kH, kW), kH ≤ H and kW ≤ W.

    Returns:
        y: float64 array (H − kH + 1, W − kW + 1).
    """
    ### BEGIN SOLUTION
    kernel_height, kernel_width = kernel.shape
    y = np.zeros((x.shape[0] - kernel_height + 1, x.shape[1] - kernel_width + 1))
    for r, c in np.ndindex(y.shape):
        y[r, c] = np.sum(x[r : r + kernel_height, c : c + kernel_width] * kernel)
    return y
    ### END SOLUTION


# %% test="cross_correlate2d" points=1 aspect="one place"
rng = np.random.default_rng(0)
x, kernel = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
### BEGIN EXPECTED
expected = reference.cross_correlate2d(x, kernel)
mistakes = {
    "the kernel is flipped, which makes it a convolution": (
        reference.cross_correlate2d(x, kernel[::-1, ::-1])
    ),
    "the kernel is upside down": reference.cross_correlate2d(x, kernel[::-1]),
    "the kernel is flipped left to right": reference.cross_correlate2d(x, kernel[:, ::-1]),
    "the last row and the last column of windows are left out": np.zeros((0, 0)),
    "the window is summed without the kernel's weights": np.array([[x.sum()]]),
    "only the last product is kept": x[-1:, -1:] * kernel[-1, -1],
    "the mean of the products is taken, not their sum": expected / kernel.size,
    "the products aren't summed": x * kernel,
}
### END EXPECTED
y = cross_correlate2d(x, kernel)
name = "cross_correlate2d(x, kernel) for a kernel of the image's size"
check_close(y, expected, name, mistakes=mistakes)

# %% test="cross_correlate2d" points=1 aspect="every place"
rng = np.random.default_rng(1)
x, kernel = rng.standard_normal((5, 7)), rng.standard_normal((2, 3))
### BEGIN EXPECTED
expected = reference.cross_correlate2d(x, kernel)
windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape)
centred = np.zeros(x.shape)
centred[:4, 1:6] = expected
mistakes = {
    "the kernel is flipped, which makes it a convolution": (
        reference.cross_correlate2d(x, kernel[::-1, ::-1])
    ),
    "the kernel is upside down": reference.cross_correlate2d(x, kernel[::-1]),
    "the kernel is flipped left to right": reference.cross_correlate2d(x, kernel[:, ::-1]),
    "the last row and the last column of windows are left out": expected[:-1, :-1],
    "the image is padded": reference.cross_correlate2d(np.pad(x, ((1, 0), (1, 1))), kernel),
    "the image is padded on all sides": reference.convolve2d(x, kernel[::-1, ::-1]),
    "the image isn't padded, and the output's border stays zero": centred,
    "the windows lie side by side": expected[::2, ::3],
    "the window is summed without the kernel's weights": windows.sum(axis=(2, 3)),
    "only the last product is kept": windows[:, :, -1, -1] * kernel[-1, -1],
    "the mean of the products is taken, not their sum": expected / kernel.size,
}
### END EXPECTED
y = cross_correlate2d(x, kernel)
check_close(y, expected, "cross_correlate2d(x, kernel)", mistakes=mistakes)

# %% test="cross_correlate2d" points=1 aspect="general shapes"
# Other images and kernels are tried here, down to a kernel of one pixel.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for shape, kernel_shape in [((6, 4), (3, 2)), ((4, 9), (1, 4)), ((3, 5), (3, 5)), ((2, 3), (1, 1))]:
    x, kernel = rng.standard_normal(shape), rng.standard_normal(kernel_shape)
    expected = reference.cross_correlate2d(x, kernel)
    check_close(
        cross_correlate2d(x, kernel),
        expected,
        f"cross_correlate2d for an image {shape} and a kernel {kernel_shape}",
    )
### END HIDDEN TESTS

# %% test="cross_correlate2d" points=1 aspect="written by hand"
rng = np.random.default_rng(2)
x, kernel = rng.standard_normal((4, 5)), rng.standard_normal((3, 2))
### BEGIN EXPECTED
expected = reference.cross_correlate2d(x, kernel)
### END EXPECTED
check_close(cross_correlate2d(x, kernel), expected, "cross_correlate2d(x, kernel)")
check_without(cross_correlate2d)

# %% [markdown]
# Watch your function at work. Where your notebook can show a slider, you can also move the window
# yourself, beneath the figure.

# %% fold="One output value is one window, multiplied by the kernel and summed"
from ipywidgets import IntSlider

from utils.figures import explore

# Names of their own, as the slider goes on using them when you are further down.
steps_image = np.array(
    [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0]], dtype=float
)
steps_kernel = np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]], dtype=float)
steps_output = cross_correlate2d(steps_image, steps_kernel)


def draw_step(axes, step):
    """Draw the window, the products and the sum at one step."""
    row, column = divmod(step, steps_output.shape[1])
    products = steps_image[row : row + 3, column : column + 3] * steps_kernel
    so_far = np.where(np.arange(steps_output.size) <= step, steps_output.ravel(), np.nan)
    show_numbers(axes[0], steps_image, "image and window", limit=3)
    outline(axes[0], row, column, 3, 3)
    show_numbers(axes[1], steps_kernel, "kernel", limit=3)
    show_numbers(
        axes[2], products, f"products, sum {steps_output[row, column]:g}".replace("-", "−"), limit=3
    )
    show_numbers(axes[3], so_far.reshape(steps_output.shape), "output so far", limit=3)
    outline(axes[3], row, column, 1, 1)


figure, axes = plt.subplots(3, 4, figsize=(10, 6.4), layout="constrained")
figure.suptitle("One output value is one window, multiplied by the kernel and summed")
for row_of_axes, step in zip(axes, [0, 1, 5], strict=True):
    draw_step(row_of_axes, step)
    row_of_axes[0].set_ylabel(f"step {step + 1}")
plt.show()


def one_step(step):
    _, axes = plt.subplots(1, 4, figsize=(10, 2.3), layout="constrained")
    draw_step(axes, step - 1)


explore(one_step, step=IntSlider(value=3, min=1, max=steps_output.size))


# %% [markdown]
# Every row is one step: the framed window times the kernel gives the products, and their sum is
# the framed output value. The kernel subtracts the left column of its window from the right one,
# so it answers with a positive number where the image turns from dark to bright, and with a
# negative one where it turns back.
#
# Now the same thing on a photograph: ours, or one of your own.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %%
from utils.images import load_photograph

photograph = own.load((213, 320))
if photograph is None:
    photograph = load_photograph("china")[:426]
    photograph = photograph.reshape(213, 2, 320, 2, 3).mean(axis=(1, 3))  # at half the size
photograph = photograph.mean(axis=2) / 255
kernels = {
    "blur: the mean of 5 × 5 pixels": np.full((5, 5), 1 / 25),
    "vertical edges": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4,
    "horizontal edges": np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]) / 4,
    "centre minus surround": np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 2,
    "blur along the diagonal": np.eye(11) / 11,
}
figure, axes = plt.subplots(2, 3, figsize=(12, 5.2), layout="constrained")
figure.suptitle("A handful of weights decides what is kept of a photograph")
grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
signed = {"cmap": "RdBu_r", "vmin": -0.6, "vmax": 0.6}
brightness = axes[0, 0].imshow(photograph, **grey)
axes[0, 0].set_title("the photograph")
for ax, (title, kernel) in zip(axes.flat[1:], kernels.items(), strict=True):
    result = cross_correlate2d(photograph, kernel)
    picture = ax.imshow(result, **(signed if kernel.min() < 0 else grey))
    if kernel.min() < 0:
        response = picture
    ax.set_title(title)
for ax in axes.flat:
    ax.axis("off")
figure.colorbar(brightness, ax=axes[:, 0], location="left", shrink=0.6, label="brightness")
figure.colorbar(response, ax=axes[:, 2], shrink=0.6, label="response")
plt.show()

# %% [markdown]
# A kernel whose weights are positive and sum to one averages: the picture blurs, along a diagonal
# only if the weights lie on one. A kernel whose weights sum to zero compares: flat regions give
# zero, and the sign says on which side it is brighter. Mind that red and blue show a *difference*
# of brightness, not brightness, and that the outputs are a little smaller than the photograph (by
# the kernel's size less one), which you can't see at this scale.
#
# Your turn: change the kernel, and run the next cell again.

# %% fold=false
kernel = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]) / 4

result = cross_correlate2d(photograph, kernel)
limit = np.abs(result).max()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
figure.suptitle("What your kernel answers")
axes[0].imshow(photograph, **grey)
response = axes[1].imshow(result, cmap="RdBu_r", vmin=-limit, vmax=limit)
figure.colorbar(response, ax=axes[1], shrink=0.8, label="response")
for ax in axes:
    ax.axis("off")
plt.show()

# %% [markdown]
# ### Exercise: `convolve2d`
# ★★☆ · 20 minutes
#
# The **convolution** of mathematics has minus signs:
#
# $$y(r, c) = \sum_a \sum_b x(r - a,\; c - b)\; k(a, b)$$
#
# where $x$ counts as zero outside the image. Read it from the pixel's side: the pixel at
# $(r', c')$ reaches the output at $(r' + a, c' + b)$ with weight $k(a, b)$, so each pixel *stamps
# a copy of the kernel*, scaled by its own value, onto the output. Cross-correlation collects,
# convolution hands out. Some stamps reach over the right and the lower border, so the output is
# larger than the image.
#
# <details><summary>Hint 1: stamping</summary>
#
# Start from zeros and visit the pixels of $x$. Which part of $y$ does the stamp of one pixel cover?
# Stamps overlap.
#
# </details>
# <details><summary>Hint 2: collecting</summary>
#
# Slide the kernel as before, but flip it upside down *and* left to right first, and let it begin
# where only its last row and column touch the image: how many zeros does the image need around it?
#
# </details>


# %% exercise="convolve2d" without="scipy, torch"
def convolve2d(x, kernel):
    """Convolve an image with a kernel; outside the image x is zero.

        y(r, c) = Σ_a Σ_b x(r − a, c − b) · kernel(a, b)

    Write it yourself: calling SciPy or PyTorch costs a point.

    Args:
        x: image, float64 array (H, W).
        kernel: float64 array (kH, kW) of any size, even larger than the image.

    Returns:
        y: every value that can differ from zero, float64 array (H + kH − 1, W + kW − 1).
    """
    ### BEGIN SOLUTION
    height, width = x.shape
    kernel_height, kernel_width = kernel.shape
    y = np.zeros((height + kernel_height - 1, width + kernel_width - 1))
    for r, c in np.ndindex(x.shape):
        y[r : r + kernel_height, c : c + kernel_width] += x[r, c] * kernel
    return y
    ### END SOLUTION


# %% test="convolve2d" points=1 aspect="one pixel"
kernel = np.random.default_rng(3).standard_normal((2, 3))
x = np.zeros((3, 4))
x[1, 2] = 0.6
### BEGIN EXPECTED
expected = reference.convolve2d(x, kernel)
overwritten = np.zeros(expected.shape)
for r, c in np.ndindex(x.shape):
    overwritten[r : r + 2, c : c + 3] = x[r, c] * kernel
mistakes = {
    "the kernel is not flipped, which makes it a cross-correlation": (
        reference.convolve2d(x, kernel[::-1, ::-1])
    ),
    "the kernel is flipped upside down only": reference.convolve2d(x, kernel[:, ::-1]),
    "the kernel is flipped left to right only": reference.convolve2d(x, kernel[::-1]),
    "the kernel is transposed": reference.convolve2d(x, kernel.T),
    "the kernel is transposed instead of flipped": reference.convolve2d(x, kernel.T[::-1, ::-1]),
    "only stamps that lie wholly inside count": expected[1:-1, 2:-2],
    "the output is cut to the image's size": expected[:3, 1:5],
    "the output is cut to the image's size on two sides": expected[:3, :4],
    "stamps overwrite each other where they overlap, = where += belongs": overwritten,
    "the stamp isn't scaled by its pixel's value": reference.convolve2d(x != 0, kernel),
}
### END EXPECTED
y = convolve2d(x, kernel)
check_close(y, expected, "convolve2d(x, kernel) for one bright pixel", mistakes=mistakes)

# %% test="convolve2d" points=1 aspect="every pixel"
rng = np.random.default_rng(4)
x, kernel = rng.standard_normal((4, 6)), rng.standard_normal((2, 3))
### BEGIN EXPECTED
expected = reference.convolve2d(x, kernel)
overwritten = np.zeros(expected.shape)
for r, c in np.ndindex(x.shape):
    overwritten[r : r + 2, c : c + 3] = x[r, c] * kernel
mistakes = {
    "the kernel is not flipped, which makes it a cross-correlation": (
        reference.convolve2d(x, kernel[::-1, ::-1])
    ),
    "the kernel is flipped upside down only": reference.convolve2d(x, kernel[:, ::-1]),
    "the kernel is flipped left to right only": reference.convolve2d(x, kernel[::-1]),
    "the kernel is transposed": reference.convolve2d(x, kernel.T),
    "the kernel is transposed instead of flipped": reference.convolve2d(x, kernel.T[::-1, ::-1]),
    "only stamps that lie wholly inside count": expected[1:-1, 2:-2],
    "the output is cut to the image's size": expected[:4, 1:7],
    "the output is cut to the image's size on two sides": expected[:4, :6],
    "stamps overwrite each other where they overlap, = where += belongs": overwritten,
}
### END EXPECTED
y = convolve2d(x, kernel)
check_close(y, expected, "convolve2d(x, kernel)", mistakes=mistakes)

# %% test="convolve2d" points=1 aspect="general shapes"
# Other images and kernels are tried here, and kernels larger than the image.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for shape, kernel_shape in [((5, 3), (3, 2)), ((3, 8), (1, 4)), ((2, 3), (4, 5)), ((3, 2), (1, 1))]:
    x, kernel = rng.standard_normal(shape), rng.standard_normal(kernel_shape)
    expected = reference.convolve2d(x, kernel)
    check_close(
        convolve2d(x, kernel),
        expected,
        f"convolve2d for an image {shape} and a kernel {kernel_shape}",
    )
### END HIDDEN TESTS

# %% test="convolve2d" points=1 aspect="written by hand"
rng = np.random.default_rng(5)
x, kernel = rng.standard_normal((3, 5)), rng.standard_normal((3, 2))
### BEGIN EXPECTED
expected = reference.convolve2d(x, kernel)
### END EXPECTED
check_close(convolve2d(x, kernel), expected, "convolve2d(x, kernel)")
check_without(convolve2d)

# %% [markdown]
# An image with one bright pixel tells the two apart.

# %%
impulse = np.zeros((9, 9))
impulse[4, 4] = 1
letter = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=float)

panels = {
    "image": impulse,
    "kernel": letter,
    "convolve2d": convolve2d(impulse, letter),
    "cross_correlate2d": cross_correlate2d(impulse, letter),
}
widths = [panel.shape[1] for panel in panels.values()]
figure, axes = plt.subplots(1, 4, figsize=(9, 4.9), width_ratios=widths, layout="constrained")
figure.suptitle("One bright pixel: convolution stamps the kernel, cross-correlation a flipped one")
for ax, (title, panel) in zip(axes, panels.items(), strict=True):
    ax.imshow(panel, cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"{title}\n{panel.shape[0]} × {panel.shape[1]}")
    ax.set_xticks([])
    ax.set_yticks([])
plt.show()

# %% [markdown]
# The letter comes out upright only from the convolution. With a kernel that looks the same when
# turned by 180° (a blur, say) you couldn't tell them apart, and nor could a test that uses it. The
# two outputs also differ in size: `convolve2d` keeps all places that a stamp can reach,
# `cross_correlate2d` only those at which the kernel lies wholly inside the image.
#
# ### Question: why flip?
# ★★☆ · 15 minutes

# %% [markdown] question="why_flip" points=4
# The layer that deep learning calls a convolution computes a cross-correlation.
#
# 1. A network was trained with cross-correlations, and now somebody replaces each one by a true
#    convolution. What has to be done to the trained kernels so that the network's outputs stay
#    the same, and would it have mattered had the network been *trained* with convolutions?
# 2. In section 2 you will compute the gradient for the input with a convolution, so the flip
#    turns up after all. Where does it come from? (Come back to this part then.)
#
# Answer in two or three sentences each.
#
# ### BEGIN SOLUTION
# 1 (2 points). Every kernel has to be flipped along both spatial axes, within each pair of input
# and output channel (1 point); not transposed, and channels keep their order. Training would
# simply have learned the flipped kernels, since initial weights have no preferred direction, so
# nothing is gained or lost (1 point). Full marks also for naming what does need the convolution's
# sign: it commutes and is associative, which matters to signal processing, not to learning.
#
# 2 (2 points). Pixel r' is read by output r' − a through weight a, because output r reads pixel
# r + a (1 point). Seen from the pixel the offset changes its sign, and this is the minus sign in
# the convolution: the backward pass sends each upstream value back along the weights by which it
# came (1 point). "Transposing the forward pass's matrix" is as good an answer. Not enough:
# "because the chain rule says so"; wrong: "to undo the convolution" (a gradient isn't an inverse).
# ### END SOLUTION

# %% [markdown]
# ## 2. The way back, on one channel
#
# To learn, a layer has to know how the loss $L$ changes with each of its weights, and to pass on
# how it changes with each of its inputs. It is told the **upstream gradient**
# $\partial L / \partial y$, which we call `dout`. The rest is the chain rule, and everything in it
# is decided by *who touches whom*.
#
# **The kernel.** One kernel looks at all $N$ images of a batch. In
# $y(n, r, c) = \sum_a \sum_b x(n, r + a, c + b)\, k(a, b)$, the weight $k(a', b')$ meets the pixel
# $x(n, r + a', c + b')$ on the way to $y(n, r, c)$, and it does so for every output of every image:
#
# $$\frac{\partial L}{\partial k(a', b')}
#   = \sum_n \sum_r \sum_c \frac{\partial L}{\partial y(n, r, c)}\; x(n,\; r + a',\; c + b')$$
#
# For each image this is the cross-correlation of the input with the upstream gradient, which now
# plays the kernel's part; and what the images say of their common kernel adds up.
#
# **The input.** The pixel $x(n, r', c')$ is touched by the output $y(n, r' - a, c' - b)$ through
# the weight $k(a, b)$, and by no other image's output:
#
# $$\frac{\partial L}{\partial x(n, r', c')}
#   = \sum_a \sum_b \frac{\partial L}{\partial y(n,\; r' - a,\; c' - b)}\; k(a, b)$$
#
# There are the minus signs: it is the convolution of the upstream gradient with the kernel, image
# by image.

# %% fold="A weight touches a window of the input, a pixel a window of the output"
figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
figure.suptitle("A weight touches a window of the input, a pixel a window of the output")
input_shape, kernel_shape, output_shape = (6, 7), (3, 3), (4, 5)


def show_touched(ax, shape, row, column, height, width, title):
    """Draw an empty matrix in which one window is marked."""
    touched = np.zeros(shape)
    touched[row : row + height, column : column + width] = 1
    ax.imshow(touched, cmap="Blues", vmin=0, vmax=1.6)
    ax.set_xticks(np.arange(-0.5, shape[1]), labels=[])
    ax.set_yticks(np.arange(-0.5, shape[0]), labels=[])
    ax.grid(color="grey", linewidth=0.5)
    ax.tick_params(length=0)
    ax.set_title(title)


show_touched(axes[0, 0], input_shape, 2, 1, *output_shape, "The pixels x(r + 2, c + 1) …")
show_touched(axes[0, 1], kernel_shape, 2, 1, 1, 1, "… all meet the weight k(2, 1) …")
show_touched(axes[0, 2], output_shape, 0, 0, *output_shape, "… one for each output y(r, c)")
show_touched(axes[1, 0], input_shape, 3, 3, 1, 1, "The pixel x(3, 3) …")
show_touched(axes[1, 1], kernel_shape, 0, 0, 3, 3, "… meets each weight k(a, b) …")
show_touched(axes[1, 2], output_shape, 1, 1, 3, 3, "… for the output y(3 − a, 3 − b)")
for ax, name in zip(axes[1], ["input x", "kernel k", "output y"], strict=True):
    ax.set_xlabel(name)
plt.show()

# %% [markdown]
# Above, the window has the size of the *output*: the gradient of one weight is a sum over that
# many products. Below, it has the size of the *kernel*, and it reaches up and to the left of the
# pixel. A pixel near the border is touched by fewer outputs; the figure shows one for which the
# whole window fits. In the sum, the outputs that don't exist count as zero.
#
# ### Exercise: `kernel_gradient`
# ★★☆ · 15 minutes
#
# From here on you may call SciPy as well: `scipy.signal.correlate2d` and `scipy.signal.convolve2d`
# are your two functions for one image, with a `mode` that says what happens at the border.


# %% exercise="kernel_gradient"
def kernel_gradient(x, dout):
    """The gradient of the loss for a kernel that was slid over a batch of images.

    For each image n, y[n] is the cross-correlation of x[n] with the kernel.

    Args:
        x: the images, float64 array (N, H, W).
        dout: upstream gradient ∂L/∂y, float64 array (N, H − kH + 1, W − kW + 1).

    Returns:
        dkernel: ∂L/∂kernel, summed over the images, float64 array (kH, kW).
    """
    ### BEGIN SOLUTION
    H_out, W_out = dout.shape[1:]
    dkernel = np.zeros((x.shape[1] - H_out + 1, x.shape[2] - W_out + 1))
    for a, b in np.ndindex(dkernel.shape):
        dkernel[a, b] = np.sum(dout * x[:, a : a + H_out, b : b + W_out])
    return dkernel
    ### END SOLUTION


# %% test="kernel_gradient" points=1 aspect="one image"
rng = np.random.default_rng(6)
x, dout = rng.standard_normal((1, 6, 7)), rng.standard_normal((1, 5, 5))
### BEGIN EXPECTED
expected = reference.kernel_gradient(x, dout)
image, upstream = x[0], dout[0]
mistakes = {
    "dout is flipped, as in a convolution": reference.kernel_gradient(x, dout[:, ::-1, ::-1]),
    "the gradient comes out flipped, as with exchanged arguments": expected[::-1, ::-1],
    "x is padded": reference.convolve2d(image, upstream[::-1, ::-1]),
    "x is padded, and dout is flipped": reference.convolve2d(image, upstream),
    "x is padded to keep its size": reference.convolve2d(image, upstream[::-1, ::-1])[2:-2, 2:-2],
    "the mean over the outputs is taken, not the sum": expected / upstream.size,
    "dout is left out": reference.kernel_gradient(x, np.ones(dout.shape)),
    "the gradient keeps an axis for the images: they share one kernel": expected[None],
}
### END EXPECTED
dkernel = kernel_gradient(x, dout)
check_close(dkernel, expected, "kernel_gradient(x, dout) for one image", mistakes=mistakes)

# %% test="kernel_gradient" points=1 aspect="a batch"
rng = np.random.default_rng(7)
x, dout = rng.standard_normal((3, 6, 7)), rng.standard_normal((3, 5, 5))
### BEGIN EXPECTED
expected = reference.kernel_gradient(x, dout)
of_images = np.stack([reference.kernel_gradient(x[[n]], dout[[n]]) for n in range(3)])
mistakes = {
    "the images aren't summed: they share one kernel": of_images,
    "only the first image counts": of_images[0],
    "only the last image counts": of_images[-1],
    "the mean over the images is taken, not the sum": expected / 3,
    "the mean over the outputs is taken, not the sum": expected / 25,
    "the mean over images and outputs is taken, not the sum": expected / 75,
    "every image meets the upstream gradient of all images": (
        reference.kernel_gradient(x.sum(axis=0, keepdims=True), dout.sum(axis=0, keepdims=True))
    ),
}
### END EXPECTED
dkernel = kernel_gradient(x, dout)
check_close(dkernel, expected, "kernel_gradient(x, dout)", mistakes=mistakes)

# %% test="kernel_gradient" points=1 aspect="general shapes"
# Other batches are tried here, and kernels from one pixel to the whole image.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for N, shape, dout_shape in [
    (2, (5, 8), (3, 4)),
    (4, (6, 3), (6, 1)),
    (1, (4, 5), (1, 1)),
    (3, (3, 4), (3, 4)),
]:
    x, dout = rng.standard_normal((N, *shape)), rng.standard_normal((N, *dout_shape))
    expected = reference.kernel_gradient(x, dout)
    check_close(
        kernel_gradient(x, dout),
        expected,
        f"kernel_gradient for x {x.shape} and dout {dout.shape}",
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `input_gradient`
# ★★☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# Or hand out, weight by weight: the weight $k(a, b)$ sends all of `dout` back, scaled by itself, to
# the pixels that it has met. They are a window of `dx` that begins at row $a$ and column $b$.
#
# </details>


# %% exercise="input_gradient"
def input_gradient(dout, kernel):
    """The gradient of the loss for a batch of images that a kernel was slid over.

    For each image n, y[n] is the cross-correlation of x[n] with the kernel. Outside of its borders
    dout counts as zero.

    Args:
        dout: upstream gradient ∂L/∂y, float64 array (N, H − kH + 1, W − kW + 1).
        kernel: float64 array (kH, kW).

    Returns:
        dx: ∂L/∂x, float64 array (N, H, W).
    """
    ### BEGIN SOLUTION
    N, H_out, W_out = dout.shape
    dx = np.zeros((N, H_out + kernel.shape[0] - 1, W_out + kernel.shape[1] - 1))
    for a, b in np.ndindex(kernel.shape):
        dx[:, a : a + H_out, b : b + W_out] += dout * kernel[a, b]
    return dx
    ### END SOLUTION


# %% test="input_gradient" points=1 aspect="one image"
rng = np.random.default_rng(8)
dout, kernel = rng.standard_normal((1, 4, 5)), rng.standard_normal((2, 3))
### BEGIN EXPECTED
expected = reference.input_gradient(dout, kernel)
unflipped = reference.input_gradient(dout, kernel[::-1, ::-1])
mistakes = {
    "the kernel is not flipped, as in a cross-correlation": unflipped,
    "the gradient comes out flipped": expected[:, ::-1, ::-1],
    "the kernel is flipped upside down only": reference.input_gradient(dout, kernel[:, ::-1]),
    "the kernel is flipped left to right only": reference.input_gradient(dout, kernel[::-1]),
    "the kernel is transposed instead of flipped": (
        reference.input_gradient(dout, kernel.T[::-1, ::-1])
    ),
    "dout is not padded": expected[:, 1:-1, 2:-2],
    "dout is not padded, and the kernel not flipped": unflipped[:, 1:-1, 2:-2],
    "the gradient is cut to dout's size": expected[:, :4, 1:6],
}
### END EXPECTED
dx = input_gradient(dout, kernel)
check_close(dx, expected, "input_gradient(dout, kernel) for one image", mistakes=mistakes)

# %% test="input_gradient" points=1 aspect="a batch"
rng = np.random.default_rng(9)
dout, kernel = rng.standard_normal((3, 4, 5)), rng.standard_normal((2, 3))
### BEGIN EXPECTED
expected = reference.input_gradient(dout, kernel)
mistakes = {
    "the images are summed: each has a gradient of its own": expected.sum(axis=0),
    "the mean over the images is taken: each has a gradient of its own": expected.mean(axis=0),
    "each image gets a share of its gradient only": expected / 3,
    "only the first image gets its gradient": expected[:1],
    "only the last image gets its gradient": expected * np.array([0, 0, 1])[:, None, None],
    "the kernel is not flipped, as in a cross-correlation": (
        reference.input_gradient(dout, kernel[::-1, ::-1])
    ),
}
### END EXPECTED
dx = input_gradient(dout, kernel)
check_close(dx, expected, "input_gradient(dout, kernel)", mistakes=mistakes)

# %% test="input_gradient" points=1 aspect="general shapes"
# Other batches and kernels are tried here, and kernels larger than dout.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for dout_shape, kernel_shape in [
    ((2, 5, 3), (3, 2)),
    ((3, 2, 2), (4, 3)),
    ((1, 1, 1), (2, 3)),
    ((4, 3, 4), (1, 1)),
]:
    dout, kernel = rng.standard_normal(dout_shape), rng.standard_normal(kernel_shape)
    expected = reference.input_gradient(dout, kernel)
    check_close(
        input_gradient(dout, kernel),
        expected,
        f"input_gradient for dout {dout_shape} and a kernel {kernel_shape}",
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Can you trust a gradient?
#
# You needn't believe a formula. Move the kernel by a small step $h$ in some direction, look how
# much the loss moves, and compare: this is the **gradient check**. There are two ways of doing it,
#
# $$\underbrace{\frac{L(k + h d) - L(k)}{h}}_{\text{forward difference}}
# \qquad\text{and}\qquad
# \underbrace{\frac{L(k + h d) - L(k - h d)}{2h}}_{\text{central difference}}$$
#
# and one thing to choose, $h$.

# %%
rng = np.random.default_rng(4)
x, kernel = rng.standard_normal((12, 14)), rng.standard_normal((3, 3))


def loss(kernel):
    return np.tanh(cross_correlate2d(x, kernel)).sum()


dout = 1 - np.tanh(cross_correlate2d(x, kernel)) ** 2
gradient = kernel_gradient(x[None], dout[None])

steps = np.logspace(-14, 0, 43)
directions = rng.standard_normal((10, 3, 3))
exact = np.array([np.sum(gradient * d) for d in directions])
errors = {"forward": [], "central": []}
for h in steps:
    above, at, below = (
        np.array([loss(kernel + shift * d) for d in directions]) for shift in (h, 0, -h)
    )
    for name, slope in {"forward": (above - at) / h, "central": (above - below) / (2 * h)}.items():
        errors[name].append(np.abs(slope - exact).mean() / np.abs(exact).mean())

# %%
figure, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
ax.loglog(steps, errors["forward"], color="#E69F00", marker="s", markersize=4)
ax.loglog(steps, errors["central"], color="#0072B2", marker="o", markersize=4)
ax.text(1e-6, 3e-4, "forward difference:\ntruncation ∝ h", color="#8A6000", ha="right")
ax.text(3e-3, 3e-8, "central difference:\ntruncation ∝ h²", color="#0072B2")
ax.text(2e-13, 5e-7, "both:\nround-off ∝ 1/h", color="0.3")
ax.set_xlabel("step h")
ax.set_ylabel("relative error of the slope")
ax.set_title("The best step is neither large nor tiny: truncation meets round-off")
ax.grid(color="0.9")
plt.show()

# %% [markdown]
# Read it from the right. A large step runs into the loss's curvature: this **truncation** error
# falls with $h$ for the forward difference, and with $h^2$ for the central one. From the left it is
# **round-off** that grows, since two nearly equal numbers are subtracted and what few digits remain
# are divided by $h$. Central differences do best a little below $h = 10^{-5}$ here;
# `eval_numerical_gradient_array` takes $10^{-5}$, which is safe for most losses. All this is
# float64: in float32 (not drawn), with 7 digits instead of 16, the left flank would lie almost nine
# powers of ten higher, and no step would give you more than four digits or so. One caution: at a
# kink, such as a ReLU at zero or two equal values under max pooling, the check can fail although
# the gradient is right.
#
# ## 3. The layer
#
# A real layer does the same for $N$ images of $C$ channels with $F$ filters at once. A filter has
# a kernel for each input channel and adds them up, plus one bias:
#
# $$y(n, f, r, c) = b(f) + \sum_i \sum_a \sum_b
#   x_{\text{pad}}(n,\; i,\; S r + a,\; S c + b)\; w(f, i, a, b)$$
#
# The **stride** $S$ is how far the window moves from one output to the next, and $x_{\text{pad}}$
# is $x$ with `pad` rows and columns of zeros on each of its four sides, so that an image of height
# $H$ gives an output of height
#
# $$H_{\text{out}} = \frac{H + 2\,\text{pad} - k_H}{S} + 1,$$
#
# and likewise for its width. Wherever we call your layer, this division leaves no remainder.
#
# ### Exercise: `conv_forward_naive`
# ★★☆ · 30 minutes
#
# <details><summary>Hint</summary>
#
# `np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))` pads height and width only. Then take one
# output value at a time: `for n, f, r, c in np.ndindex(out.shape)`. Its window holds all channels.
#
# </details>


# %% exercise="conv_forward_naive" without="torch"
def conv_forward_naive(x, w, b, conv_param):
    """The forward pass of a convolution layer.

    Write it yourself: calling PyTorch costs a point.

    Args:
        x: images, float64 array (N, C, H, W).
        w: filters, float64 array (F, C, kH, kW).
        b: biases, float64 array (F,).
        conv_param: dictionary with the integers "stride" (≥ 1, for both axes) and "pad" (≥ 0,
            rows and columns of zeros on each side).

    Returns:
        out: float64 array (N, F, H_out, W_out), H_out = (H + 2·pad − kH) / stride + 1, and
            likewise W_out.
        cache: the tuple (x, w, b, conv_param), for the backward pass.
    """
    ### BEGIN SOLUTION
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, _, H, W = x.shape
    F, _, kH, kW = w.shape
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, (H + 2 * pad - kH) // stride + 1, (W + 2 * pad - kW) // stride + 1))
    for n, f, r, c in np.ndindex(out.shape):
        top, left = stride * r, stride * c
        window = x_padded[n, :, top : top + kH, left : left + kW]
        out[n, f, r, c] = np.sum(window * w[f]) + b[f]
    return out, (x, w, b, conv_param)
    ### END SOLUTION


# %% test="conv_forward_naive" points=1 aspect="one channel, one filter"
x, w, b, conv_param, _ = random_layer(10, (1, 1, 5, 6), (1, 1, 3, 2))
### BEGIN EXPECTED
expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(2, 3))
mistakes = {
    "the kernel is flipped, as in a convolution": (
        reference.conv_forward_naive(x, w[:, :, ::-1, ::-1], b, conv_param)[0]
    ),
    "the kernel is transposed": (
        reference.conv_forward_naive(x, w.swapaxes(2, 3), b, conv_param)[0]
    ),
    "the bias is missing": expected - b,
    "the bias is subtracted": expected - 2 * b,
    "the bias is added once per weight": expected + 5 * b,
    "the last row and the last column of windows are left out": expected[:, :, :-1, :-1],
    "only the last product is kept": windows[..., -1, -1] * w[..., -1, -1] + b,
    "the mean over the window is taken, not the sum": (expected - b) / 6 + b,
}
### END EXPECTED
call = "conv_forward_naive for one channel and one filter"
out, _ = check_tuple(conv_forward_naive(x, w, b, conv_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}", mistakes=mistakes)

# %% test="conv_forward_naive" points=2 aspect="channels, filters and a batch"
x, w, b, conv_param, _ = random_layer(11, (2, 3, 5, 6), (4, 3, 3, 2))
### BEGIN EXPECTED
expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
bias = b[:, None, None]
of_channels = [
    reference.conv_forward_naive(x[:, [i]], w[:, [i]], b, conv_param)[0] for i in range(3)
]
mistakes = {
    "the bias is missing": expected - bias,
    "the bias is added once per channel": expected + 2 * bias,
    "the bias is added once per weight": expected + 17 * bias,
    "only the first channel counts": of_channels[0],
    "only the last channel counts": of_channels[-1],
    "the mean over the channels is taken, not the sum": (expected - bias) / 3 + bias,
    "only the first image is computed": np.stack([expected[0], 0 * expected[1]]),
    "only the last image is computed": np.stack([0 * expected[0], expected[1]]),
    "all images get the last one's result": np.stack([expected[1], expected[1]]),
    "all filters get the first one's result": expected[:, [0, 0, 0, 0]],
    "the mean over the window is taken, not the sum": (expected - bias) / 18 + bias,
}
### END EXPECTED
call = "conv_forward_naive for two images, three channels and four filters"
out, _ = check_tuple(conv_forward_naive(x, w, b, conv_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}", mistakes=mistakes)

# %% test="conv_forward_naive" points=1 aspect="padding"
for pad in (1, 2):
    x, w, b, conv_param, _ = random_layer(12, (2, 3, 5, 6), (4, 3, 3, 2), pad=pad)
    no_pad = {"stride": 1, "pad": 0}
    ### BEGIN EXPECTED
    expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
    two_sides = np.pad(x, ((0, 0), (0, 0), (pad, 0), (pad, 0)))
    height_only = np.pad(x, ((0, 0), (0, 0), (pad, pad), (0, 0)))
    repeated = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")
    mistakes = {
        "the padding is missing": reference.conv_forward_naive(x, w, b, no_pad)[0],
        "only two of the four sides are padded": (
            reference.conv_forward_naive(two_sides, w, b, no_pad)[0]
        ),
        "only the height is padded": reference.conv_forward_naive(height_only, w, b, no_pad)[0],
        "the padding repeats the border, not zeros": (
            reference.conv_forward_naive(repeated, w, b, no_pad)[0]
        ),
        "the padding is one wide, whatever pad says": (
            reference.conv_forward_naive(x, w, b, {"stride": 1, "pad": 1})[0]
        ),
    }
    ### END EXPECTED
    call = f"conv_forward_naive at pad {pad}"
    out, _ = check_tuple(conv_forward_naive(x, w, b, conv_param), ("out", "cache"), call)
    check_close(out, expected, f"out of {call}", mistakes=mistakes)

# %% test="conv_forward_naive" points=1 aspect="stride"
x, w, b, conv_param, _ = random_layer(13, (2, 3, 5, 6), (4, 3, 3, 2), stride=2, pad=1)
### BEGIN EXPECTED
expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
dense = reference.conv_forward_naive(x, w, b, {"stride": 1, "pad": 1})[0]
mistakes = {
    "the stride is ignored": dense,
    "the stride is ignored where the window is placed": dense[:, :, :3, :4],
    "the stride is heeded for the height only": dense[:, :, ::2],
    "the stride is heeded for the width only": dense[:, :, :, ::2],
    "the last row and the last column of windows are left out": expected[:, :, :-1, :-1],
}
### END EXPECTED
call = "conv_forward_naive at stride 2, pad 1"
out, _ = check_tuple(conv_forward_naive(x, w, b, conv_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}", mistakes=mistakes)

# %% test="conv_forward_naive" points=1 aspect="the cache"
x, w, b, conv_param, _ = random_layer(14, (2, 3, 5, 6), (4, 3, 3, 2), pad=1)
### BEGIN EXPECTED
expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
mistakes = {"it is the padded x": np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))}
### END EXPECTED
call = "conv_forward_naive at pad 1"
out, cache = check_tuple(conv_forward_naive(x, w, b, conv_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}")
cached = check_tuple(cache, ("x", "w", "b", "conv_param"), f"the cache of {call}")
check_close(cached[0], x, f"x in the cache of {call}", mistakes=mistakes)
check_close(cached[1], w, f"w in the cache of {call}")
check_close(cached[2], b, f"b in the cache of {call}")
assert cached[3] == conv_param, f"conv_param in the cache of {call} isn't the one handed in."

# %% test="conv_forward_naive" points=1 aspect="general shapes"
# Layers of other shapes, strides and paddings are tried here.
### BEGIN HIDDEN TESTS
for x_shape, w_shape, stride, pad in [
    ((2, 2, 6, 5), (3, 2, 2, 3), 2, 1),
    ((1, 1, 4, 4), (1, 1, 4, 4), 1, 0),
    ((3, 4, 4, 7), (2, 4, 1, 1), 3, 0),
    ((2, 3, 3, 6), (5, 3, 3, 2), 1, 2),
]:
    x, w, b, conv_param, _ = random_layer(reference.seed, x_shape, w_shape, stride, pad)
    expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
    check_close(
        conv_forward_naive(x, w, b, conv_param)[0],
        expected,
        f"out of conv_forward_naive for x {x_shape}, w {w_shape}, stride {stride}, pad {pad}",
    )
### END HIDDEN TESTS

# %% test="conv_forward_naive" points=1 aspect="written by hand"
x, w, b, conv_param, _ = random_layer(15, (2, 3, 5, 6), (4, 3, 3, 2))
### BEGIN EXPECTED
expected = reference.conv_forward_naive(x, w, b, conv_param)[0]
### END EXPECTED
call = "conv_forward_naive(x, w, b, conv_param)"
out, _ = check_tuple(conv_forward_naive(x, w, b, conv_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}")
check_without(conv_forward_naive)

# %% [markdown]
# ### Exercise: `conv_backward_kernel`
# ★★☆ · 25 minutes · optional
#
# Section 2 has already told you the answer for one image, one channel and stride 1. For a whole
# layer, filter $f$ is used on every image, and its slice $i$ only meets channel $i$:
#
# $$\frac{\partial L}{\partial w(f, i, a, b)} = \sum_n \sum_r \sum_c
#   \frac{\partial L}{\partial y(n, f, r, c)}\; x_{\text{pad}}(n,\; i,\; S r + a,\; S c + b)$$
#
# <details><summary>Hint</summary>
#
# For one weight $(a, b)$ the pixels on the right are `x_padded[:, :, a::stride, b::stride]`, cut to
# the output's height and width. Multiply by `dout` and sum over everything but $f$ and $i$.
#
# </details>


# %% exercise="conv_backward_kernel" without="torch"
def conv_backward_kernel(dout, cache):
    """The gradient of a convolution layer for its filters: cross-correlate input and dout.

    Write it yourself: calling PyTorch costs a point.

    Args:
        dout: upstream gradient, float64 array (N, F, H_out, W_out).
        cache: (x, w, b, conv_param) from conv_forward_naive; x is (N, C, H, W), not padded.

    Returns:
        dw: ∂L/∂w, summed over the batch, float64 array (F, C, kH, kW).
    """
    ### BEGIN SOLUTION
    x, w, _, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H_out, W_out = dout.shape[2:]
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dw = np.zeros(w.shape)
    for a, b in np.ndindex(w.shape[2:]):
        touched = x_padded[:, :, a::stride, b::stride][:, :, :H_out, :W_out]
        dw[:, :, a, b] = np.einsum("nfrc,nirc->fi", dout, touched)
    return dw
    ### END SOLUTION


# %% test="conv_backward_kernel" points=1 aspect="one channel, one filter"
x, w, b, conv_param, dout = random_layer(16, (1, 1, 5, 6), (1, 1, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_kernel(dout, cache)
mistakes = {
    "dout is flipped, as in a convolution": (
        reference.conv_backward_kernel(dout[:, :, ::-1, ::-1], cache)
    ),
    "the gradient comes out flipped": expected[:, :, ::-1, ::-1],
    "dout is left out": reference.conv_backward_kernel(np.ones(dout.shape), cache),
    "only the last output counts, = where += belongs": (dout[:, :, -1:, -1:] * x[:, :, -3:, -2:]),
    "the mean over the outputs is taken, not the sum": expected / 15,
}
### END EXPECTED
dw = conv_backward_kernel(dout, cache)
call = "conv_backward_kernel for one channel and one filter"
check_close(dw, expected, call, mistakes=mistakes)

# %% test="conv_backward_kernel" points=1 aspect="channels, filters and a batch"
x, w, b, conv_param, dout = random_layer(17, (2, 3, 5, 6), (4, 3, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_kernel(dout, cache)
mistakes = {
    "only the first image counts": (
        reference.conv_backward_kernel(dout[:1], (x[:1], w, b, conv_param))
    ),
    "only the last image counts": (
        reference.conv_backward_kernel(dout[1:], (x[1:], w, b, conv_param))
    ),
    "the mean over the batch is taken, not the sum": expected / 2,
    "the mean over the outputs is taken, not the sum": expected / 15,
    "the mean over images and outputs is taken, not the sum": expected / 30,
    "all channels share one gradient": expected.sum(axis=1, keepdims=True).repeat(3, axis=1),
    "all filters share one gradient": expected.sum(axis=0, keepdims=True).repeat(4, axis=0),
    "filters and channels are exchanged": expected.swapaxes(0, 1),
}
### END EXPECTED
dw = conv_backward_kernel(dout, cache)
call = "conv_backward_kernel for two images, three channels and four filters"
check_close(dw, expected, call, mistakes=mistakes)

# %% test="conv_backward_kernel" points=1 aspect="padding and stride"
for stride in (1, 2):
    x, w, b, conv_param, dout = random_layer(18, (2, 3, 5, 6), (4, 3, 3, 2), stride, pad=1)
    cache = (x, w, b, conv_param)
    ### BEGIN EXPECTED
    expected = reference.conv_backward_kernel(dout, cache)
    H_out, W_out = dout.shape[2:]
    x_padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corner, dense = x_padded[:, :, : H_out + 2, : W_out + 1], {"stride": 1, "pad": 0}
    repeated = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    not_padded = np.pad(x, ((0, 0), (0, 0), (0, 2), (0, 2)))
    mistakes = {
        "the stride is ignored": reference.conv_backward_kernel(dout, (corner, w, b, dense)),
        "the padding repeats the border, not zeros": (
            reference.conv_backward_kernel(dout, (repeated, w, b, {"stride": stride, "pad": 0}))
        ),
        "only two of the four sides are padded": (
            reference.conv_backward_kernel(dout, (not_padded, w, b, {"stride": stride, "pad": 0}))
        ),
    }
    ### END EXPECTED
    call = f"conv_backward_kernel at stride {stride}, pad 1"
    check_close(conv_backward_kernel(dout, cache), expected, call, mistakes=mistakes)

# %% test="conv_backward_kernel" points=1 aspect="general shapes"
# Filters of other shapes, other strides and paddings are tried here.
### BEGIN HIDDEN TESTS
for x_shape, w_shape, stride, pad in [
    ((2, 2, 6, 5), (3, 2, 2, 3), 2, 1),
    ((1, 1, 4, 4), (1, 1, 4, 4), 1, 0),
    ((3, 4, 4, 7), (2, 4, 1, 1), 3, 0),
    ((2, 3, 3, 6), (5, 3, 3, 2), 1, 2),
]:
    x, w, b, conv_param, dout = random_layer(reference.seed, x_shape, w_shape, stride, pad)
    cache = (x, w, b, conv_param)
    expected = reference.conv_backward_kernel(dout, cache)
    check_close(
        conv_backward_kernel(dout, cache),
        expected,
        f"conv_backward_kernel for x {x_shape}, w {w_shape}, stride {stride}, pad {pad}",
    )
### END HIDDEN TESTS

# %% test="conv_backward_kernel" points=1 aspect="written by hand"
x, w, b, conv_param, dout = random_layer(19, (2, 3, 5, 6), (4, 3, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_kernel(dout, cache)
### END EXPECTED
check_close(conv_backward_kernel(dout, cache), expected, "conv_backward_kernel(dout, cache)")
check_without(conv_backward_kernel)

# %% [markdown]
# ### Exercise: `conv_backward_input`
# ★★★ · 30 minutes · optional
#
# At stride 1 the gradient for channel $i$ of the padded image is the convolution of section 2,
# summed over the filters:
#
# $$\frac{\partial L}{\partial x_{\text{pad}}(n, i)}
#   = \sum_f \frac{\partial L}{\partial y(n, f)} * w(f, i)$$
#
# Two things are new. With a stride, outputs lie $S$ pixels apart in the input's grid: spread `dout`
# out with $S - 1$ zeros between its values before you convolve. And the loss doesn't care about the
# padding, so cut its share away.
#
# <details><summary>Hint: spreading</summary>
#
# `spread[:, :, ::stride, ::stride] = dout`, where `spread` is `stride * (H_out - 1) + 1` high. The
# convolution (`scipy.signal.convolve2d`, full) then has just the size of the padded image.
#
# </details>
# <details><summary>Hint: cutting</summary>
#
# `dx_padded[:, :, pad : pad + H, pad : pad + W]`. What would `pad:-pad` give if `pad` is 0?
#
# </details>


# %% exercise="conv_backward_input" without="torch"
def conv_backward_input(dout, cache):
    """The gradient of a convolution layer for its input: convolve dout with the filters.

    Write it yourself: calling PyTorch costs a point.

    Args:
        dout: upstream gradient, float64 array (N, F, H_out, W_out).
        cache: (x, w, b, conv_param) from conv_forward_naive; x is (N, C, H, W), not padded.

    Returns:
        dx: ∂L/∂x, without the padding's share, float64 array (N, C, H, W).
    """
    ### BEGIN SOLUTION
    x, w, _, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, F, H_out, W_out = dout.shape
    _, C, H, W = x.shape
    spread = np.zeros((N, F, stride * (H_out - 1) + 1, stride * (W_out - 1) + 1))
    spread[:, :, ::stride, ::stride] = dout
    dx_padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for n, i, f in np.ndindex(N, C, F):
        dx_padded[n, i] += scipy.signal.convolve2d(spread[n, f], w[f, i], mode="full")
    return dx_padded[:, :, pad : pad + H, pad : pad + W]
    ### END SOLUTION


# %% test="conv_backward_input" points=1 aspect="one channel, one filter"
x, w, b, conv_param, dout = random_layer(20, (1, 1, 5, 6), (1, 1, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_input(dout, cache)
unflipped, overwritten = w[:, :, ::-1, ::-1], np.zeros(x.shape)
for r, c in np.ndindex(dout.shape[2:]):
    overwritten[:, :, r : r + 3, c : c + 2] = dout[:, :, [[r]], [[c]]] * w
mistakes = {
    "the kernel is not flipped, as in a cross-correlation": (
        reference.conv_backward_input(dout, (x, unflipped, b, conv_param))
    ),
    "the gradient comes out flipped": expected[:, :, ::-1, ::-1],
    "windows overwrite each other where they overlap, = where += belongs": overwritten,
    "the padding is cut with pad:-pad, which is empty at pad 0": np.zeros((1, 1, 0, 0)),
    "the gradient is cut to dout's size": expected[:, :, 1:-1, :-1],
    "dout is left out": reference.conv_backward_input(np.ones(dout.shape), cache),
}
### END EXPECTED
dx = conv_backward_input(dout, cache)
call = "conv_backward_input for one channel and one filter"
check_close(dx, expected, call, mistakes=mistakes)

# %% test="conv_backward_input" points=1 aspect="channels, filters and a batch"
x, w, b, conv_param, dout = random_layer(21, (2, 3, 5, 6), (4, 3, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_input(dout, cache)
mistakes = {
    "only the first filter counts": (
        reference.conv_backward_input(dout[:, :1], (x, w[:1], b[:1], conv_param))
    ),
    "only the last filter counts": (
        reference.conv_backward_input(dout[:, 3:], (x, w[3:], b[3:], conv_param))
    ),
    "the mean over the filters is taken, not the sum": expected / 4,
    "the mean over the batch is taken, not the sum": expected / 2,
    "all channels share one gradient": expected.sum(axis=1, keepdims=True).repeat(3, axis=1),
    "only the last image gets its gradient": np.stack([0 * expected[0], expected[1]]),
    "the padding is cut with pad:-pad, which is empty at pad 0": np.zeros((2, 3, 0, 0)),
}
### END EXPECTED
dx = conv_backward_input(dout, cache)
call = "conv_backward_input for two images, three channels and four filters"
check_close(dx, expected, call, mistakes=mistakes)

# %% test="conv_backward_input" points=1 aspect="padding"
for pad in (1, 2):
    x, w, b, conv_param, dout = random_layer(22, (2, 3, 5, 6), (4, 3, 3, 2), pad=pad)
    cache = (x, w, b, conv_param)
    ### BEGIN EXPECTED
    expected = reference.conv_backward_input(dout, cache)
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    uncut = reference.conv_backward_input(dout, (x_padded, w, b, {"stride": 1, "pad": 0}))
    mistakes = {
        "the padding's share is not cut away": uncut,
        "the padding's share is cut away on two sides only": uncut[:, :, :5, :6],
        "the padding's share is cut away on the wrong two sides": uncut[:, :, -5:, -6:],
        "the padding is taken to be one wide, whatever pad says": uncut[:, :, 1:6, 1:7],
    }
    ### END EXPECTED
    call = f"conv_backward_input at pad {pad}"
    check_close(conv_backward_input(dout, cache), expected, call, mistakes=mistakes)

# %% test="conv_backward_input" points=1 aspect="stride"
x, w, b, conv_param, dout = random_layer(23, (2, 3, 5, 6), (4, 3, 3, 2), stride=2, pad=1)
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_input(dout, cache)
packed, overwritten = np.zeros((2, 3, 7, 8)), np.zeros((2, 3, 7, 8))
for r, c in np.ndindex(dout.shape[2:]):
    share = np.einsum("nf,fiab->niab", dout[:, :, r, c], w)
    packed[:, :, r : r + 3, c : c + 2] += share
    overwritten[:, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 2] = share
mistakes = {
    "the stride is ignored": packed[:, :, 1:-1, 1:-1],
    "windows overwrite each other where they overlap, = where += belongs": (
        overwritten[:, :, 1:-1, 1:-1]
    ),
    "the padding's share is not cut away": np.pad(expected, ((0, 0), (0, 0), (1, 1), (1, 1))),
}
### END EXPECTED
call = "conv_backward_input at stride 2, pad 1"
check_close(conv_backward_input(dout, cache), expected, call, mistakes=mistakes)

# %% test="conv_backward_input" points=1 aspect="general shapes"
# Images and filters of other shapes, strides and paddings are tried here.
### BEGIN HIDDEN TESTS
for x_shape, w_shape, stride, pad in [
    ((2, 2, 6, 5), (3, 2, 2, 3), 2, 1),
    ((1, 1, 4, 4), (1, 1, 4, 4), 1, 0),
    ((3, 4, 4, 7), (2, 4, 1, 1), 3, 0),
    ((2, 3, 3, 6), (5, 3, 3, 2), 1, 2),
]:
    x, w, b, conv_param, dout = random_layer(reference.seed, x_shape, w_shape, stride, pad)
    cache = (x, w, b, conv_param)
    expected = reference.conv_backward_input(dout, cache)
    check_close(
        conv_backward_input(dout, cache),
        expected,
        f"conv_backward_input for x {x_shape}, w {w_shape}, stride {stride}, pad {pad}",
    )
### END HIDDEN TESTS

# %% test="conv_backward_input" points=1 aspect="written by hand"
x, w, b, conv_param, dout = random_layer(24, (2, 3, 5, 6), (4, 3, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_input(dout, cache)
### END EXPECTED
check_close(conv_backward_input(dout, cache), expected, "conv_backward_input(dout, cache)")
check_without(conv_backward_input)

# %% [markdown]
# ### Exercise: `conv_backward_bias`
# ★☆☆ · 5 minutes · optional
#
# The bias of a filter is added to each of its outputs. Who touches whom?


# %% exercise="conv_backward_bias"
def conv_backward_bias(dout):
    """The gradient of a convolution layer for its biases.

    Args:
        dout: upstream gradient, float64 array (N, F, H_out, W_out).

    Returns:
        db: ∂L/∂b, one number per filter, float64 array (F,).
    """
    ### BEGIN SOLUTION
    return dout.sum(axis=(0, 2, 3))
    ### END SOLUTION


# %% test="conv_backward_bias" points=1 aspect="one image"
dout = np.random.default_rng(25).standard_normal((1, 3, 4, 5))
### BEGIN EXPECTED
expected = reference.conv_backward_bias(dout)
mistakes = {
    "there is one bias per pixel, not one per filter": dout.sum(axis=0),
    "there is one bias per image, not one per filter": dout.sum(axis=(1, 2, 3)),
    "the images are not summed": dout.sum(axis=(2, 3)),
    "all filters share one bias": dout.sum(),
    "the sum's axes are kept": dout.sum(axis=(0, 2, 3), keepdims=True),
    "the mean is taken, not the sum": expected / 20,
    "only the last pixel counts, = where += belongs": dout[-1, :, -1, -1],
}
### END EXPECTED
db = conv_backward_bias(dout)
check_close(db, expected, "conv_backward_bias(dout) for one image", mistakes=mistakes)

# %% test="conv_backward_bias" points=1 aspect="a batch"
dout = np.random.default_rng(26).standard_normal((2, 3, 4, 5))
### BEGIN EXPECTED
expected = reference.conv_backward_bias(dout)
mistakes = {
    "the images are not summed": dout.sum(axis=(2, 3)),
    "only the first image counts": dout[0].sum(axis=(1, 2)),
    "only the last image counts": dout[-1].sum(axis=(1, 2)),
    "the mean over the batch is taken, not the sum": expected / 2,
    "the mean over the pixels is taken, not the sum": expected / 20,
    "the mean over images and pixels is taken, not the sum": expected / 40,
}
### END EXPECTED
check_close(conv_backward_bias(dout), expected, "conv_backward_bias(dout)", mistakes=mistakes)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for shape in [(3, 2, 1, 4), (1, 5, 2, 2), (4, 1, 3, 1)]:
    dout = rng.standard_normal(shape)
    expected = reference.conv_backward_bias(dout)
    check_close(conv_backward_bias(dout), expected, f"conv_backward_bias for dout {shape}")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `conv_backward_naive`
# ★★☆ · 20 minutes
#
# So far each weight and each pixel *collected* its gradient. There is another way to the same
# numbers: walk through the outputs exactly as the forward pass did, and let each output *hand out*
# its upstream value $\partial L / \partial y(n, f, r, c)$ to all that it has read: to the pixels
# of its window in proportion to the weights, to the weights in proportion to the pixels, and to
# its bias. One loop does all three. If you have written the three optional parts, don't call them
# here: two ways that share nothing, and lead to the same numbers, check each other.
#
# <details><summary>Hint</summary>
#
# Two windows can share a pixel, and then both hand something to it. That is `+=`.
#
# </details>


# %% exercise="conv_backward_naive" without="torch"
def conv_backward_naive(dout, cache):
    """The backward pass of a convolution layer, in one loop over its outputs.

    Write it yourself: calling PyTorch costs a point.

    Args:
        dout: upstream gradient, float64 array (N, F, H_out, W_out).
        cache: (x, w, b, conv_param) from conv_forward_naive; x is (N, C, H, W), not padded.

    Returns:
        the tuple (dx, dw, db), float64 arrays of the shapes of x, w and b.
    """
    ### BEGIN SOLUTION
    x, w, b, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    H, W = x.shape[2:]
    kH, kW = w.shape[2:]
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dx_padded, dw, db = np.zeros(x_padded.shape), np.zeros(w.shape), np.zeros(b.shape)
    for (n, f, r, c), upstream in np.ndenumerate(dout):
        top, left = stride * r, stride * c
        window = np.s_[n, :, top : top + kH, left : left + kW]
        dx_padded[window] += upstream * w[f]
        dw[f] += upstream * x_padded[window]
        db[f] += upstream
    return dx_padded[:, :, pad : pad + H, pad : pad + W], dw, db
    ### END SOLUTION


# %% test="conv_backward_naive" points=2 aspect="the gradient of x"
for stride, pad in [(1, 0), (1, 1), (2, 1)]:
    x, w, b, conv_param, dout = random_layer(27, (2, 3, 5, 6), (4, 3, 3, 2), stride, pad)
    cache = (x, w, b, conv_param)
    ### BEGIN EXPECTED
    dx, dw, db = reference.conv_backward_naive(dout, cache)
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    no_pad = (x_padded, w, b, {"stride": stride, "pad": 0})
    uncut = reference.conv_backward_input(dout, no_pad)
    packed, overwritten = np.zeros(uncut.shape), np.zeros(uncut.shape)
    for (n, f, r, c), upstream in np.ndenumerate(dout):
        packed[n, :, r : r + 3, c : c + 2] += upstream * w[f]
        top, left = stride * r, stride * c
        overwritten[n, :, top : top + 3, left : left + 2] = upstream * w[f]
    inside = np.s_[:, :, pad : pad + 5, pad : pad + 6]
    unflipped = (x, w[:, :, ::-1, ::-1], b, conv_param)
    mistakes = {
        "the order is not (dx, dw, db) but (dw, dx, db)": dw,
        "the order is not (dx, dw, db) but (db, …)": db,
        "the padding's share is not cut away": uncut,
        "the padding's share is cut away on two sides only": uncut[:, :, :5, :6],
        "the padding is cut with pad:-pad, which is empty at pad 0": uncut[:, :, 0:0, 0:0],
        "windows overwrite each other where they overlap, = where += belongs": overwritten[inside],
        "the stride is ignored": packed[inside],
        "the kernel is flipped": reference.conv_backward_input(dout, unflipped),
        "only the last filter counts": (
            reference.conv_backward_input(dout[:, 3:], (x, w[3:], b[3:], conv_param))
        ),
        "the mean over the batch is taken, not the sum": dx / 2,
    }
    ### END EXPECTED
    call = f"conv_backward_naive at stride {stride}, pad {pad}"
    result = check_tuple(conv_backward_naive(dout, cache), ("dx", "dw", "db"), call)
    check_close(result[0], dx, f"dx of {call}", mistakes=mistakes)

# %% test="conv_backward_naive" points=1 aspect="the gradient of w"
for stride, pad in [(1, 0), (1, 1), (2, 1)]:
    x, w, b, conv_param, dout = random_layer(28, (2, 3, 5, 6), (4, 3, 3, 2), stride, pad)
    cache = (x, w, b, conv_param)
    ### BEGIN EXPECTED
    dx, dw, db = reference.conv_backward_naive(dout, cache)
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    packed = np.zeros(w.shape)
    for (n, f, r, c), upstream in np.ndenumerate(dout):
        packed[f] += upstream * x_padded[n, :, r : r + 3, c : c + 2]
    last = x_padded[-1, :, -3:, -2:] * dout[-1, :, -1, -1, None, None, None]
    mistakes = {
        "the order is not (dx, dw, db) but (dw, dx, db)": dx,
        "the order is not (dx, dw, db) but (dx, db, dw)": db,
        "only the last output counts, = where += belongs": last,
        "only the last image counts": (
            reference.conv_backward_kernel(dout[1:], (x[1:], w, b, conv_param))
        ),
        "the stride is ignored": packed,
        "the gradient comes out flipped": dw[:, :, ::-1, ::-1],
        "the mean over the batch is taken, not the sum": dw / 2,
    }
    ### END EXPECTED
    call = f"conv_backward_naive at stride {stride}, pad {pad}"
    result = check_tuple(conv_backward_naive(dout, cache), ("dx", "dw", "db"), call)
    check_close(result[1], dw, f"dw of {call}", mistakes=mistakes)

# %% test="conv_backward_naive" points=1 aspect="the gradient of b"
x, w, b, conv_param, dout = random_layer(29, (2, 3, 5, 6), (4, 3, 3, 2), stride=2, pad=1)
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
_, dw, db = reference.conv_backward_naive(dout, cache)
mistakes = {
    "the order is not (dx, dw, db) but (dx, db, dw)": dw,
    "there is one bias per pixel, not one per filter": dout.sum(axis=0),
    "only the last output counts, = where += belongs": dout[-1, :, -1, -1],
    "only the last image counts": dout[-1].sum(axis=(1, 2)),
    "the mean over the batch is taken, not the sum": db / 2,
    "the mean over images and pixels is taken, not the sum": dout.mean(axis=(0, 2, 3)),
}
### END EXPECTED
call = "conv_backward_naive(dout, cache)"
result = check_tuple(conv_backward_naive(dout, cache), ("dx", "dw", "db"), call)
check_close(result[2], db, f"db of {call}", mistakes=mistakes)

# %% test="conv_backward_naive" points=1 aspect="general shapes"
# All three gradients are tried here, for other shapes, strides and paddings.
### BEGIN HIDDEN TESTS
for x_shape, w_shape, stride, pad in [
    ((2, 2, 6, 5), (3, 2, 2, 3), 2, 1),
    ((1, 1, 4, 4), (1, 1, 4, 4), 1, 0),
    ((3, 4, 4, 7), (2, 4, 1, 1), 3, 0),
    ((2, 3, 3, 6), (5, 3, 3, 2), 1, 2),
]:
    x, w, b, conv_param, dout = random_layer(reference.seed, x_shape, w_shape, stride, pad)
    cache = (x, w, b, conv_param)
    expected = reference.conv_backward_naive(dout, cache)
    call = f"conv_backward_naive for x {x_shape}, w {w_shape}, stride {stride}, pad {pad}"
    result = check_tuple(conv_backward_naive(dout, cache), ("dx", "dw", "db"), call)
    for name, actual, part in zip(("dx", "dw", "db"), result, expected, strict=True):
        check_close(actual, part, f"{name} of {call}")
### END HIDDEN TESTS

# %% test="conv_backward_naive" points=1 aspect="written by hand"
x, w, b, conv_param, dout = random_layer(30, (2, 3, 5, 6), (4, 3, 3, 2))
cache = (x, w, b, conv_param)
### BEGIN EXPECTED
expected = reference.conv_backward_naive(dout, cache)
### END EXPECTED
call = "conv_backward_naive(dout, cache)"
result = check_tuple(conv_backward_naive(dout, cache), ("dx", "dw", "db"), call)
for name, actual, part in zip(("dx", "dw", "db"), result, expected, strict=True):
    check_close(actual, part, f"{name} of {call}")
check_without(conv_backward_naive)

# %% [markdown]
# Is it right? Ask the gradient check.

# %%
rng = np.random.default_rng(10)
x, w = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 3, 3))
b, dout = rng.standard_normal(4), rng.standard_normal((2, 4, 3, 4))
conv_param = {"stride": 2, "pad": 1}
out, cache = conv_forward_naive(x, w, b, conv_param)

numerical = {
    "dx": eval_numerical_gradient_array(
        lambda x: conv_forward_naive(x, w, b, conv_param)[0], x, dout
    ),
    "dw": eval_numerical_gradient_array(
        lambda w: conv_forward_naive(x, w, b, conv_param)[0], w, dout
    ),
    "db": eval_numerical_gradient_array(
        lambda b: conv_forward_naive(x, w, b, conv_param)[0], b, dout
    ),
}
handed_out = dict(zip(numerical, conv_backward_naive(dout, cache), strict=True))
print("rel_error   handed out–numerical")
for name, gradient in handed_out.items():
    print(f"{name} {rel_error(gradient, numerical[name]):29.0e}")

# %% [markdown]
# They agree to eight digits or more: the layer is linear, so nothing is truncated, and only
# round-off is left. (The next cell is optional: it compares with the three parts.)

# %%
collected = {
    "dx": conv_backward_input(dout, cache),
    "dw": conv_backward_kernel(dout, cache),
    "db": conv_backward_bias(dout),
}
print("rel_error   collected–handed out")
for name, gradient in collected.items():
    print(f"{name} {rel_error(gradient, handed_out[name]):29.0e}")

# %% [markdown]
# Your two ways agree far better than either does with the numerical gradient: what is left there is
# the check's error, not yours.
#
# ### A layer that learns
#
# That's all it takes to learn. Show the layer a photograph and the same photograph filtered by a
# kernel that it doesn't know; start from random weights, and go downhill.

# %%
patch = load_photograph("flower")[100:228:5, 300:444:5].mean(axis=2) / 255
secret = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
x, conv_param = patch[None, None] - patch.mean(), {"stride": 1, "pad": 0}
target, _ = conv_forward_naive(x, secret[None, None], np.zeros(1), conv_param)

w, b = 0.5 * np.random.default_rng(11).standard_normal((1, 1, 3, 3)), np.ones(1)
losses, snapshots = [], {}
for step in range(301):
    out, cache = conv_forward_naive(x, w, b, conv_param)
    losses.append(np.mean((out - target) ** 2))
    if step in (0, 10, 100, 300):
        snapshots[f"step {step}"] = w[0, 0].copy()
    _, dw, db = conv_backward_naive(2 * (out - target) / out.size, cache)
    w -= 1.0 * dw
    b -= 0.1 * db

# %%
figure, axes = plt.subplot_mosaic(
    [["loss"] * 5, [*snapshots, "the secret kernel"]], figsize=(10, 5), layout="constrained"
)
figure.suptitle("Gradient descent through your layer finds the kernel that made the picture")
axes["loss"].semilogy(losses, color="#0072B2")
axes["loss"].set_xlabel("step")
axes["loss"].set_ylabel("mean squared error")
axes["loss"].grid(color="0.9")
for name, kernel in {**snapshots, "the secret kernel": secret}.items():
    show_numbers(axes[name], kernel.round(2), name, limit=0.6)
plt.show()

# %% [markdown]
# The picture reveals its kernel. Most of the error is gone in a few steps; the rest takes hundreds,
# because neighbouring pixels are much alike, so weights that differ only in how they tell
# neighbours apart give almost the same picture. That the loss falls doesn't prove a gradient
# right: half of it, or only its sign, would have gone downhill too. A gradient check proves more.
#
# ## 4. The layer as a matrix product (optional)
#
# Loops in Python are slow, and matrix products are what processors do best. So copy every window
# into a column of a matrix: **im2col**. A filter, written as a row, meets all the windows at once
# in one product: the layer has become a fully connected one, applied to every window with the same
# weights,
#
# $$\text{out}(n) = W\, \text{columns}(n) + b,\qquad
#   W\colon F \times (C k_H k_W),\quad \text{columns}(n)\colon (C k_H k_W) \times L,\quad
#   L = H_{\text{out}} W_{\text{out}}$$
#
# Going back, the gradient for the columns has to be returned to the image: a pixel that was copied
# into several windows gets the *sum* of what they send back. That is **col2im**.
#
# ### Exercise: `im2col`
# ★★☆ · 30 minutes · optional
#
# The order inside the matrix is a matter of taste, so the docstring fixes it; it is PyTorch's
# (`torch.nn.functional.unfold`).
#
# <details><summary>Hint</summary>
#
# Fill an array of shape (N, C, kH, kW, H_out, W_out): for one place $(a, b)$ in the window,
# `[:, :, a, b]` is every `stride`-th pixel, starting at $(a, b)$. Reshape at the end.
#
# </details>


# %% exercise="im2col" without="torch"
def im2col(x, kernel_height, kernel_width, stride, pad):
    """Copy every window of the images into a column of a matrix.

    Write it yourself: calling PyTorch costs a point.

    Args:
        x: images, float64 array (N, C, H, W).
        kernel_height, kernel_width: the window's size in pixels.
        stride: pixels from one window to the next, for both axes.
        pad: rows and columns of zeros on each of the four sides.

    Returns:
        columns: float64 array (N, C · kernel_height · kernel_width, H_out · W_out). Down a column
            the window is read channel by channel, each of them row by row; the windows stand in
            their order in the image, row by row.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    H_out = (H + 2 * pad - kernel_height) // stride + 1
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    columns = np.zeros((N, C, kernel_height, kernel_width, H_out, W_out))
    for a, b in np.ndindex(kernel_height, kernel_width):
        columns[:, :, a, b] = x_padded[:, :, a::stride, b::stride][:, :, :H_out, :W_out]
    return columns.reshape(N, C * kernel_height * kernel_width, H_out * W_out)
    ### END SOLUTION


# %% test="im2col" points=1 aspect="one channel"
x = np.random.default_rng(31).standard_normal((1, 1, 5, 6))
### BEGIN EXPECTED
expected = reference.im2col(x, 3, 2, 1, 0)
split = expected.reshape(1, 1, 3, 2, 3, 5)
orders = {
    "a window is read column by column": (0, 1, 3, 2, 4, 5),
    "the windows stand column by column": (0, 1, 2, 3, 5, 4),
    "the array is reshaped before its axes are in order": (0, 4, 5, 1, 2, 3),
}
mistakes = {
    **{order: split.transpose(axes).reshape(expected.shape) for order, axes in orders.items()},
    "the windows stand in rows": expected.swapaxes(1, 2),
    "the window's height and width are exchanged": reference.im2col(x, 2, 3, 1, 0),
    "the windows lie side by side": split[:, :, :, :, ::3, ::2].reshape(1, 6, 3),
    "the last row and the last column of windows are left out": (
        split[:, :, :, :, :-1, :-1].reshape(1, 6, 8)
    ),
}
### END EXPECTED
call = "im2col for one channel and windows 3 × 2"
check_close(im2col(x, 3, 2, 1, 0), expected, call, mistakes=mistakes)

# %% test="im2col" points=1 aspect="channels and a batch"
x = np.random.default_rng(32).standard_normal((2, 3, 5, 6))
### BEGIN EXPECTED
expected = reference.im2col(x, 3, 2, 1, 0)
split = expected.reshape(2, 3, 3, 2, 3, 5)
mistakes = {
    "the channel changes fastest down a column": (
        split.transpose(0, 2, 3, 1, 4, 5).reshape(expected.shape)
    ),
    "the array is reshaped before its axes are in order": (
        split.transpose(0, 4, 5, 1, 2, 3).reshape(expected.shape)
    ),
    "the windows stand in rows": expected.swapaxes(1, 2),
    "all images share one matrix": np.concatenate([*expected], axis=1),
    "all images share one matrix, in turns": np.dstack([*expected]).reshape(18, -1),
    "the channels are summed": split.sum(axis=1).reshape(2, 6, 15),
    "only the first image gets its matrix": expected[:1],
}
### END EXPECTED
call = "im2col for two images of three channels and windows 3 × 2"
check_close(im2col(x, 3, 2, 1, 0), expected, call, mistakes=mistakes)

# %% test="im2col" points=1 aspect="padding and stride"
x = np.random.default_rng(33).standard_normal((2, 3, 5, 7))
for (kH, kW), stride, pad in [((3, 2), 1, 1), ((3, 3), 2, 1), ((5, 3), 2, 2)]:
    ### BEGIN EXPECTED
    expected = reference.im2col(x, kH, kW, stride, pad)
    x_padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    repeated = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")
    two_sides = np.pad(x, ((0, 0), (0, 0), (2 * pad, 0), (2 * pad, 0)))
    mistakes = {
        "the stride is ignored": reference.im2col(x, kH, kW, 1, pad),
        "the padding is missing": reference.im2col(x, kH, kW, stride, 0),
        "the padding repeats the border, not zeros": (
            reference.im2col(repeated, kH, kW, stride, 0)
        ),
        "the padding lies on two of the four sides": (
            reference.im2col(two_sides, kH, kW, stride, 0)
        ),
        "the padding is one wide, whatever pad says": reference.im2col(x, kH, kW, stride, 1),
    }
    ### END EXPECTED
    call = f"im2col for windows {kH} × {kW}, stride {stride}, pad {pad}"
    check_close(im2col(x, kH, kW, stride, pad), expected, call, mistakes=mistakes)

# %% test="im2col" points=1 aspect="general shapes"
# Images and windows of other shapes, strides and paddings are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for x_shape, kernel_shape, stride, pad in [
    ((2, 2, 6, 5), (2, 3), 2, 1),
    ((1, 1, 4, 4), (4, 4), 1, 0),
    ((3, 4, 4, 7), (1, 1), 3, 0),
    ((2, 3, 3, 6), (3, 2), 1, 2),
]:
    x = rng.standard_normal(x_shape)
    expected = reference.im2col(x, *kernel_shape, stride, pad)
    check_close(
        im2col(x, *kernel_shape, stride, pad),
        expected,
        f"im2col for x {x_shape}, windows {kernel_shape}, stride {stride}, pad {pad}",
    )
### END HIDDEN TESTS

# %% test="im2col" points=1 aspect="written by hand"
x = np.random.default_rng(34).standard_normal((2, 3, 5, 6))
### BEGIN EXPECTED
expected = reference.im2col(x, 2, 3, 1, 0)
### END EXPECTED
check_close(im2col(x, 2, 3, 1, 0), expected, "im2col for windows 2 × 3")
check_without(im2col)

# %% [markdown]
# ### Exercise: `conv_forward_matmul`
# ★☆☆ · 10 minutes · optional
#
# The columns are given to you, so this is one line of linear algebra. `@` treats the last two axes
# as matrices and does it for every image.


# %% exercise="conv_forward_matmul"
def conv_forward_matmul(columns, w, b):
    """The forward pass of a convolution layer as a matrix product.

    Args:
        columns: the windows, float64 array (N, C · kH · kW, L), ordered as im2col orders them.
        w: filters, float64 array (F, C, kH, kW).
        b: biases, float64 array (F,).

    Returns:
        out: float64 array (N, F, L), L being the number of windows.
    """
    ### BEGIN SOLUTION
    return w.reshape(len(w), -1) @ columns + b[:, np.newaxis]
    ### END SOLUTION


# %% test="conv_forward_matmul" points=1 aspect="one image"
rng = np.random.default_rng(35)
columns, w = rng.standard_normal((1, 18, 5)), rng.standard_normal((4, 3, 2, 3))
b = rng.standard_normal(4)
### BEGIN EXPECTED
expected = reference.conv_forward_matmul(columns, w, b)
products = expected - b[:, None]
channel_last, transposed = w.transpose(0, 2, 3, 1), w.swapaxes(2, 3)
mistakes = {
    "the bias is missing": products,
    "the bias is added once per weight": products + 18 * b[:, None],
    "the axes F and L are exchanged": expected.swapaxes(1, 2),
    "w is reshaped to (C · kH · kW, F), which scrambles the filters": (
        w.reshape(18, 4).T @ columns + b[:, None]
    ),
    "a filter's channel changes fastest": channel_last.reshape(4, 18) @ columns + b[:, None],
    "a filter is read column by column": transposed.reshape(4, 18) @ columns + b[:, None],
    "the axis of the images is missing": expected[0],
}
### END EXPECTED
out = conv_forward_matmul(columns, w, b)
check_close(out, expected, "conv_forward_matmul(columns, w, b) for one image", mistakes=mistakes)

# %% test="conv_forward_matmul" points=1 aspect="a batch"
rng = np.random.default_rng(36)
columns, w = rng.standard_normal((2, 18, 4)), rng.standard_normal((4, 3, 2, 3))
b = rng.standard_normal(4)
### BEGIN EXPECTED
expected = reference.conv_forward_matmul(columns, w, b)
products = expected - b[:, None]
mistakes = {
    "the bias is missing": products,
    "the bias is added per window, not per filter": products + b,
    "the images are added up": expected.sum(axis=0),
    "all images get the first one's result": np.stack([expected[0], expected[0]]),
    "all images get the last one's result": np.stack([expected[1], expected[1]]),
    "the axes F and L are exchanged": expected.swapaxes(1, 2),
}
### END EXPECTED
out = conv_forward_matmul(columns, w, b)
check_close(out, expected, "conv_forward_matmul(columns, w, b)", mistakes=mistakes)

# %% test="conv_forward_matmul" points=1 aspect="general shapes"
# Columns and filters of other shapes are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for w_shape, N, L in [((5, 2, 3, 1), 3, 7), ((1, 1, 2, 2), 1, 1), ((2, 4, 1, 3), 2, 5)]:
    columns = rng.standard_normal((N, np.prod(w_shape[1:]), L))
    w, b = rng.standard_normal(w_shape), rng.standard_normal(w_shape[0])
    expected = reference.conv_forward_matmul(columns, w, b)
    check_close(
        conv_forward_matmul(columns, w, b),
        expected,
        f"conv_forward_matmul for columns {columns.shape} and w {w_shape}",
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `conv_backward_matmul`
# ★★☆ · 15 minutes · optional
#
# For one image $Y = W X + b$, and with the upstream gradient $\partial L/\partial Y$
#
# $$\frac{\partial L}{\partial X} = W^{\mathsf T} \frac{\partial L}{\partial Y},\qquad
#   \frac{\partial L}{\partial W} = \frac{\partial L}{\partial Y} X^{\mathsf T}.$$
#
# Every image has a matrix $X$ of its own; $W$ and $b$ are shared, so their gradients are summed.


# %% exercise="conv_backward_matmul"
def conv_backward_matmul(dout, columns, w):
    """The backward pass of out = conv_forward_matmul(columns, w, b).

    Args:
        dout: upstream gradient ∂L/∂out, float64 array (N, F, L).
        columns: float64 array (N, C · kH · kW, L), ordered as im2col orders them.
        w: filters, float64 array (F, C, kH, kW).

    Returns:
        the tuple (dcolumns, dw, db): ∂L/∂columns like columns, ∂L/∂w like w, and ∂L/∂b of shape
        (F,), all float64; dw and db are summed over the batch.
    """
    ### BEGIN SOLUTION
    dcolumns = w.reshape(len(w), -1).T @ dout
    dw = (dout @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    return dcolumns, dw, dout.sum(axis=(0, 2))
    ### END SOLUTION


# %% test="conv_backward_matmul" points=1 aspect="the gradient of columns"
rng = np.random.default_rng(37)
columns, w = rng.standard_normal((2, 18, 5)), rng.standard_normal((4, 3, 2, 3))
dout = rng.standard_normal((2, 4, 5))
### BEGIN EXPECTED
dcolumns, dw, db = reference.conv_backward_matmul(dout, columns, w)
mistakes = {
    "the order is not (dcolumns, dw, db) but (dw, dcolumns, db)": dw,
    "the order is not (dcolumns, dw, db) but (db, …)": db,
    "w is reshaped to (C · kH · kW, F), which scrambles the filters": w.reshape(18, 4) @ dout,
    "a filter's channel changes fastest": w.transpose(0, 2, 3, 1).reshape(4, 18).T @ dout,
    "the images are added up, but each has its own columns": dcolumns.sum(axis=0),
    "the mean over the batch is taken: each image has its own columns": dcolumns / 2,
}
### END EXPECTED
call = "conv_backward_matmul(dout, columns, w)"
result = conv_backward_matmul(dout, columns, w)
result = check_tuple(result, ("dcolumns", "dw", "db"), call)
check_close(result[0], dcolumns, f"dcolumns of {call}", mistakes=mistakes)

# %% test="conv_backward_matmul" points=1 aspect="the gradient of w"
rng = np.random.default_rng(38)
columns, w = rng.standard_normal((2, 18, 5)), rng.standard_normal((4, 3, 2, 3))
dout = rng.standard_normal((2, 4, 5))
### BEGIN EXPECTED
dcolumns, dw, db = reference.conv_backward_matmul(dout, columns, w)
of_images = np.einsum("nfl,nkl->nfk", dout, columns)
mistakes = {
    "the order is not (dcolumns, dw, db) but (dw, dcolumns, db)": dcolumns,
    "the order is not (dcolumns, dw, db) but (dcolumns, db, dw)": db,
    "it is not reshaped to w's shape": dw.reshape(4, 18),
    "the images are not summed": of_images.reshape(2, *w.shape),
    "the images are not summed, nor reshaped": of_images,
    "only the last image counts": of_images[-1].reshape(w.shape),
    "the mean over the batch is taken, not the sum": dw / 2,
    "the mean over the windows is taken, not the sum": dw / 5,
    "it is reshaped to w's shape while still transposed": dw.reshape(4, 18).T.reshape(w.shape),
}
### END EXPECTED
call = "conv_backward_matmul(dout, columns, w)"
result = conv_backward_matmul(dout, columns, w)
result = check_tuple(result, ("dcolumns", "dw", "db"), call)
check_close(result[1], dw, f"dw of {call}", mistakes=mistakes)

# %% test="conv_backward_matmul" points=1 aspect="the gradient of b"
rng = np.random.default_rng(39)
columns, w = rng.standard_normal((2, 18, 5)), rng.standard_normal((4, 3, 2, 3))
dout = rng.standard_normal((2, 4, 5))
### BEGIN EXPECTED
_, dw, db = reference.conv_backward_matmul(dout, columns, w)
mistakes = {
    "the order is not (dcolumns, dw, db) but (dcolumns, db, dw)": dw,
    "the images are not summed": dout.sum(axis=2),
    "the windows are not summed": dout.sum(axis=0),
    "there is one bias per window, not one per filter": dout.sum(axis=(0, 1)),
    "only the last image counts": dout[-1].sum(axis=1),
    "the mean over the batch is taken, not the sum": db / 2,
    "the mean over the windows is taken, not the sum": db / 5,
    "the mean over images and windows is taken, not the sum": db / 10,
}
### END EXPECTED
call = "conv_backward_matmul(dout, columns, w)"
result = conv_backward_matmul(dout, columns, w)
result = check_tuple(result, ("dcolumns", "dw", "db"), call)
check_close(result[2], db, f"db of {call}", mistakes=mistakes)

# %% test="conv_backward_matmul" points=1 aspect="general shapes"
# All three gradients are tried here, for columns and filters of other shapes.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for w_shape, N, L in [((5, 2, 3, 1), 3, 7), ((1, 1, 2, 2), 1, 1), ((2, 4, 1, 3), 2, 5)]:
    columns, w = rng.standard_normal((N, np.prod(w_shape[1:]), L)), rng.standard_normal(w_shape)
    dout = rng.standard_normal((N, w_shape[0], L))
    expected = reference.conv_backward_matmul(dout, columns, w)
    call = f"conv_backward_matmul for columns {columns.shape} and w {w_shape}"
    parts = ("dcolumns", "dw", "db")
    result = check_tuple(conv_backward_matmul(dout, columns, w), parts, call)
    for name, actual, part in zip(parts, result, expected, strict=True):
        check_close(actual, part, f"{name} of {call}")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `col2im`
# ★★☆ · 25 minutes · optional
#
# Now `dcolumns` has to go home: each value to the pixel that it was copied from.
#
# <details><summary>Hint</summary>
#
# Undo the last reshape of `im2col`, then run its loop with the two sides of the assignment
# exchanged. Which operator does "gets the sum" ask for?
#
# </details>


# %% exercise="col2im" without="torch"
def col2im(columns, x_shape, kernel_height, kernel_width, stride, pad):
    """Add every column back onto the pixels that im2col had copied into it.

    It is im2col's gradient, not its inverse: a pixel that lies in several windows gets the sum.
    Write it yourself: calling PyTorch costs a point.

    Args:
        columns: float64 array (N, C · kernel_height · kernel_width, H_out · W_out), ordered as
            im2col orders them.
        x_shape: the images' shape (N, C, H, W), without padding.
        kernel_height, kernel_width, stride, pad: as for im2col.

    Returns:
        x: float64 array (N, C, H, W); what falls on the padding is dropped.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x_shape
    H_out = (H + 2 * pad - kernel_height) // stride + 1
    W_out = (W + 2 * pad - kernel_width) // stride + 1
    windows = columns.reshape(N, C, kernel_height, kernel_width, H_out, W_out)
    x_padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for a, b in np.ndindex(kernel_height, kernel_width):
        x_padded[:, :, a::stride, b::stride][:, :, :H_out, :W_out] += windows[:, :, a, b]
    return x_padded[:, :, pad : pad + H, pad : pad + W]
    ### END SOLUTION


# %% test="col2im" points=1 aspect="windows side by side"
columns = np.random.default_rng(40).standard_normal((2, 12, 6))
x_shape = (2, 3, 4, 6)
### BEGIN EXPECTED
expected = reference.col2im(columns, x_shape, 2, 2, 2, 0)
channel_last = columns.reshape(2, 2, 2, 3, 6).transpose(0, 3, 1, 2, 4).reshape(2, 12, 6)
transposed = columns.reshape(2, 3, 2, 2, 6).swapaxes(2, 3).reshape(2, 12, 6)
by_column = columns.reshape(2, 12, 3, 2).swapaxes(2, 3).reshape(2, 12, 6)
mistakes = {
    "the channel is taken to change fastest down a column": (
        reference.col2im(channel_last, x_shape, 2, 2, 2, 0)
    ),
    "a window is taken to be read column by column": (
        reference.col2im(transposed, x_shape, 2, 2, 2, 0)
    ),
    "the windows are taken to stand column by column": (
        reference.col2im(by_column, x_shape, 2, 2, 2, 0)
    ),
    "the columns are only reshaped": columns.reshape(x_shape),
    "the padding is cut with pad:-pad, which is empty at pad 0": np.zeros((2, 3, 0, 0)),
}
### END EXPECTED
call = "col2im for windows 2 × 2 that lie side by side, stride 2, pad 0"
check_close(col2im(columns, x_shape, 2, 2, 2, 0), expected, call, mistakes=mistakes)

# %% test="col2im" points=1 aspect="windows that overlap"
for (kH, kW), stride in [((2, 3), 1), ((3, 3), 2)]:
    H_out, W_out = (5 - kH) // stride + 1, (7 - kW) // stride + 1
    rng = np.random.default_rng(41)
    columns = rng.standard_normal((2, 3 * kH * kW, H_out * W_out))
    ### BEGIN EXPECTED
    expected = reference.col2im(columns, (2, 3, 5, 7), kH, kW, stride, 0)
    windows = columns.reshape(2, 3, kH, kW, H_out, W_out)
    overlaps = reference.col2im(np.ones(columns.shape), (2, 3, 5, 7), kH, kW, stride, 0)
    by_column = columns.reshape(2, -1, W_out, H_out).swapaxes(2, 3).reshape(columns.shape)
    overwritten, overwritten_places = np.zeros(expected.shape), np.zeros(expected.shape)
    for r, c in np.ndindex(H_out, W_out):
        top, left = stride * r, stride * c
        overwritten[:, :, top : top + kH, left : left + kW] = windows[..., r, c]
    for a, b in np.ndindex(kH, kW):
        overwritten_places[:, :, a::stride, b::stride][:, :, :H_out, :W_out] = windows[:, :, a, b]
    mistakes = {
        "windows overwrite each other where they overlap, = where += belongs": overwritten,
        "values overwrite each other where windows overlap, = where += belongs": overwritten_places,
        "the mean of overlapping values is taken, not the sum": expected / overlaps,
        "the windows are taken to stand column by column": (
            reference.col2im(by_column, (2, 3, 5, 7), kH, kW, stride, 0)
        ),
        "the padding is cut with pad:-pad, which is empty at pad 0": expected[:, :, :0, :0],
    }
    ### END EXPECTED
    call = f"col2im for windows {kH} × {kW}, stride {stride}, pad 0"
    x = col2im(columns, (2, 3, 5, 7), kH, kW, stride, 0)
    check_close(x, expected, call, mistakes=mistakes)

# %% test="col2im" points=1 aspect="padding"
for pad in (1, 2):
    columns = np.random.default_rng(42).standard_normal((2, 18, (3 + 2 * pad) * (6 + 2 * pad)))
    ### BEGIN EXPECTED
    expected = reference.col2im(columns, (2, 3, 5, 7), 3, 2, 1, pad)
    uncut = reference.col2im(columns, (2, 3, 5 + 2 * pad, 7 + 2 * pad), 3, 2, 1, 0)
    mistakes = {
        "the padding's share is not cut away": uncut,
        "the padding's share is cut away on two sides only": uncut[:, :, :5, :7],
        "the padding's share is cut away on the wrong two sides": uncut[:, :, -5:, -7:],
        "the padding is taken to be one wide, whatever pad says": uncut[:, :, 1:6, 1:8],
    }
    ### END EXPECTED
    call = f"col2im for windows 3 × 2, stride 1, pad {pad}"
    x = col2im(columns, (2, 3, 5, 7), 3, 2, 1, pad)
    check_close(x, expected, call, mistakes=mistakes)

# %% test="col2im" points=1 aspect="general shapes"
# Columns of other images, windows, strides and paddings are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for x_shape, kernel_shape, stride, pad in [
    ((2, 2, 6, 5), (2, 3), 2, 1),
    ((1, 1, 4, 4), (4, 4), 1, 0),
    ((3, 4, 4, 7), (1, 1), 3, 0),
    ((2, 3, 3, 6), (3, 2), 1, 2),
    ((1, 2, 3, 4), (3, 2), 1, 3),
]:
    columns = rng.standard_normal(
        reference.im2col(np.zeros(x_shape), *kernel_shape, stride, pad).shape
    )
    expected = reference.col2im(columns, x_shape, *kernel_shape, stride, pad)
    check_close(
        col2im(columns, x_shape, *kernel_shape, stride, pad),
        expected,
        f"col2im for x {x_shape}, windows {kernel_shape}, stride {stride}, pad {pad}",
    )
### END HIDDEN TESTS

# %% test="col2im" points=1 aspect="written by hand"
columns = np.random.default_rng(43).standard_normal((2, 18, 12))
### BEGIN EXPECTED
expected = reference.col2im(columns, (2, 3, 4, 6), 2, 3, 1, 0)
### END EXPECTED
x = col2im(columns, (2, 3, 4, 6), 2, 3, 1, 0)
check_close(x, expected, "col2im for windows 2 × 3")
check_without(col2im)

# %% [markdown]
# You have the whole layer again, in four short pieces. Put them together, and let it race your
# loops and PyTorch.


# %%
def conv_forward_im2col(x, w, b, conv_param):
    """The layer's forward pass by im2col and one matrix product per image."""
    stride, pad = conv_param["stride"], conv_param["pad"]
    H_out, W_out = (np.array(x.shape[2:]) + 2 * pad - w.shape[2:]) // stride + 1
    columns = im2col(x, *w.shape[2:], stride, pad)
    return conv_forward_matmul(columns, w, b).reshape(len(x), len(w), H_out, W_out)


# %%
import timeit

from threadpoolctl import threadpool_limits

rng = np.random.default_rng(16)
w, b = rng.standard_normal((8, 4, 3, 3)), rng.standard_normal(8)
conv_param = {"stride": 1, "pad": 1}
layer = torch.nn.Conv2d(4, 8, 3, padding=1, dtype=torch.float64).requires_grad_(False)
sizes = np.array([4, 8, 16, 32, 64])
contestants = {
    "loops": (lambda x: conv_forward_naive(x, w, b, conv_param), "#D55E00", "s"),
    "im2col": (lambda x: conv_forward_im2col(x, w, b, conv_param), "#0072B2", "o"),
    "PyTorch": (lambda x: layer(torch.from_numpy(x)), "#009E73", "^"),
}
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
seconds = {}
with threadpool_limits(1):  # all three use one thread
    for name, (forward, colour, marker) in contestants.items():
        seconds[name] = []
        for size in sizes:
            image = rng.standard_normal((1, 4, size, size))
            forward(image)  # the first call also pays for caches
            times = timeit.repeat(
                "forward(image)", number=1, repeat=5, globals={"forward": forward, "image": image}
            )
            seconds[name].append(min(times))
        ax.loglog(sizes, seconds[name], color=colour, marker=marker, label=name)
ax.set_xticks(sizes, labels=[f"{size}²" for size in sizes])
ax.minorticks_off()
ax.set_xlabel("pixels")
ax.set_ylabel("seconds, forward pass")
ax.legend(frameon=False)
ax.set_title("The same sums, as one matrix product: what an image costs")
ax.grid(color="0.9")
plt.show()
ratios = np.array(seconds["loops"]) / seconds["im2col"]
print("loops / im2col:", ", ".join(f"{r:.0f} at {s}²" for r, s in zip(ratios, sizes, strict=True)))

# %% [markdown]
# Both axes are logarithmic, so a straight line is a power law, and a fixed distance between two
# lines a fixed ratio. All three compute the same sums (PyTorch's layer with random weights of its
# own); what differs is what one of them costs. The loops' line is straight from the start: Python
# goes once round its loop for each output value. The other two start flat, where fixed costs of a
# call outweigh the arithmetic, and rise once there is work. The line beneath the figure says how
# many times as long the loops take. The figure says nothing about memory: at stride 1 the columns
# hold nearly every pixel $k_H k_W$ times, which is im2col's price. And its seconds are your
# machine's.
#
# ## 5. Max pooling (optional)
#
# A max pooling layer keeps the strongest response in each window and forgets where exactly it was:
#
# $$y(n, i, r, c) = \max_{a, b}\; x(n,\; i,\; S r + a,\; S c + b)$$
#
# It has no weights, and each channel is pooled by itself.
#
# ### Exercise: `max_pool_forward_naive`
# ★☆☆ · 20 minutes · optional


# %% exercise="max_pool_forward_naive" without="torch"
def max_pool_forward_naive(x, pool_param):
    """The forward pass of a max pooling layer.

    Write it yourself: calling PyTorch costs a point.

    Args:
        x: float64 array (N, C, H, W), of any sign.
        pool_param: dictionary with the integers "pool_height" and "pool_width", the window's size,
            and "stride" (for both axes). Windows may overlap, or leave gaps.

    Returns:
        out: float64 array (N, C, H_out, W_out), H_out = (H − pool_height) / stride + 1, and
            likewise W_out. Wherever we call it, the division leaves no remainder.
        cache: the tuple (x, pool_param), for the backward pass.
    """
    ### BEGIN SOLUTION
    height, width = pool_param["pool_height"], pool_param["pool_width"]
    stride = pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - height) // stride + 1, (W - width) // stride + 1))
    for r, c in np.ndindex(out.shape[2:]):
        top, left = stride * r, stride * c
        out[:, :, r, c] = x[:, :, top : top + height, left : left + width].max(axis=(2, 3))
    return out, (x, pool_param)
    ### END SOLUTION


# %% test="max_pool_forward_naive" points=1 aspect="windows side by side"
x = np.random.default_rng(44).standard_normal((2, 3, 4, 6)) - 1
pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
### BEGIN EXPECTED
expected = reference.max_pool_forward_naive(x, pool_param)[0]
windows = x.reshape(2, 3, 2, 2, 3, 2)
dense = reference.max_pool_forward_naive(x, pool_param | {"stride": 1})[0]
mistakes = {
    "the maximum is sought from zero upwards, but x may be negative": np.maximum(expected, 0),
    "the mean of the window is taken": windows.mean(axis=(3, 5)),
    "the minimum of the window is taken": windows.min(axis=(3, 5)),
    "the window is summed": windows.sum(axis=(3, 5)),
    "the largest magnitude is taken": np.abs(windows).max(axis=(3, 5)),
    "the window's first pixel is taken": windows[:, :, :, 0, :, 0],
    "the stride is ignored": dense,
    "the stride is ignored where the window is placed": dense[:, :, :2, :3],
    "the channels are pooled together": expected.max(axis=1, keepdims=True).repeat(3, axis=1),
    "the images are pooled together": expected.max(axis=0, keepdims=True).repeat(2, axis=0),
}
### END EXPECTED
call = "max_pool_forward_naive for windows 2 × 2, stride 2"
out, _ = check_tuple(max_pool_forward_naive(x, pool_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}", mistakes=mistakes)

# %% test="max_pool_forward_naive" points=1 aspect="windows of any shape and stride"
for height, width, stride in [(2, 3, 2), (3, 2, 1), (2, 2, 3)]:
    x = np.random.default_rng(45).standard_normal((2, 3, 6 + height, 12 + width)) - 1
    pool_param = {"pool_height": height, "pool_width": width, "stride": stride}
    ### BEGIN EXPECTED
    expected = reference.max_pool_forward_naive(x, pool_param)[0]
    dense, high, wide, exchanged = (
        reference.max_pool_forward_naive(x, pool_param | change)[0]
        for change in (
            {"stride": 1},
            {"pool_width": height},
            {"pool_height": width},
            {"pool_width": height, "pool_height": width},
        )
    )
    rows, columns = x.shape[2] // height, x.shape[3] // width
    side_by_side = x[:, :, : rows * height, : columns * width]
    side_by_side = side_by_side.reshape(2, 3, rows, height, columns, width).max(axis=(3, 5))
    mistakes = {
        "the maximum is sought from zero upwards, but x may be negative": np.maximum(expected, 0),
        "the stride is ignored": dense,
        "the stride is ignored where the window is placed": (
            dense[:, :, : expected.shape[2], : expected.shape[3]]
        ),
        "the stride is ignored, and windows lie side by side": side_by_side,
        "the window is taken to be square, as wide as it is high": high,
        "the window is taken to be square, as high as it is wide": wide,
        "the window's height and width are exchanged": exchanged,
    }
    ### END EXPECTED
    call = f"max_pool_forward_naive for windows {height} × {width}, stride {stride}"
    out, _ = check_tuple(max_pool_forward_naive(x, pool_param), ("out", "cache"), call)
    check_close(out, expected, f"out of {call}", mistakes=mistakes)

# %% test="max_pool_forward_naive" points=1 aspect="the cache"
x = np.random.default_rng(46).standard_normal((2, 3, 4, 6)) - 1
pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
### BEGIN EXPECTED
expected = reference.max_pool_forward_naive(x, pool_param)[0]
mistakes = {"it is the output, not x": expected}
### END EXPECTED
call = "max_pool_forward_naive for windows 2 × 2, stride 2"
out, cache = check_tuple(max_pool_forward_naive(x, pool_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}")
cached = check_tuple(cache, ("x", "pool_param"), f"the cache of {call}")
check_close(cached[0], x, f"x in the cache of {call}", mistakes=mistakes)
assert cached[1] == pool_param, f"pool_param in the cache of {call} isn't the one handed in."

# %% test="max_pool_forward_naive" points=1 aspect="general shapes"
# Images, windows and strides of other sizes are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for x_shape, height, width, stride in [
    ((2, 2, 5, 8), 3, 2, 2),
    ((1, 1, 4, 3), 4, 3, 1),
    ((3, 2, 7, 4), 1, 1, 3),
    ((2, 3, 3, 9), 1, 5, 2),
]:
    x = rng.standard_normal(x_shape)
    pool_param = {"pool_height": height, "pool_width": width, "stride": stride}
    expected = reference.max_pool_forward_naive(x, pool_param)[0]
    check_close(
        max_pool_forward_naive(x, pool_param)[0],
        expected,
        f"max_pool_forward_naive for x {x_shape}, windows {height} × {width}, stride {stride}",
    )
### END HIDDEN TESTS

# %% test="max_pool_forward_naive" points=1 aspect="written by hand"
x = np.random.default_rng(47).standard_normal((2, 3, 4, 6))
pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
### BEGIN EXPECTED
expected = reference.max_pool_forward_naive(x, pool_param)[0]
### END EXPECTED
call = "max_pool_forward_naive for windows 2 × 2, stride 2"
out, _ = check_tuple(max_pool_forward_naive(x, pool_param), ("out", "cache"), call)
check_close(out, expected, f"out of {call}")
check_without(max_pool_forward_naive)

# %% [markdown]
# ### Exercise: `max_pool_backward_naive`
# ★★☆ · 25 minutes · optional
#
# Only the largest value of a window was used, so it alone gets the window's upstream value; if it
# was the largest of several windows, it gets what each of them sends.
#
# <details><summary>Hint</summary>
#
# `np.unravel_index(window.argmax(), window.shape)` is the place of the maximum in a window.
#
# </details>


# %% exercise="max_pool_backward_naive" without="torch"
def max_pool_backward_naive(dout, cache):
    """The backward pass of a max pooling layer.

    Write it yourself: calling PyTorch costs a point.

    Args:
        dout: upstream gradient, float64 array (N, C, H_out, W_out).
        cache: (x, pool_param) from max_pool_forward_naive. No window has two equal maxima.

    Returns:
        dx: ∂L/∂x, float64 array (N, C, H, W).
    """
    ### BEGIN SOLUTION
    x, pool_param = cache
    height, width = pool_param["pool_height"], pool_param["pool_width"]
    stride = pool_param["stride"]
    dx = np.zeros(x.shape)
    for (n, i, r, c), upstream in np.ndenumerate(dout):
        top, left = stride * r, stride * c
        window = x[n, i, top : top + height, left : left + width]
        a, b = np.unravel_index(window.argmax(), window.shape)
        dx[n, i, top + a, left + b] += upstream
    return dx
    ### END SOLUTION


# %% test="max_pool_backward_naive" points=1 aspect="windows side by side"
rng = np.random.default_rng(48)
x, dout = rng.standard_normal((2, 3, 4, 6)) - 1, rng.standard_normal((2, 3, 2, 3))
pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
### BEGIN EXPECTED
expected = reference.max_pool_backward_naive(dout, (x, pool_param))
everyone, corner = dout.repeat(2, axis=2).repeat(2, axis=3), np.zeros(x.shape)
corner[:, :, ::2, ::2] = dout
mistakes = {
    "the whole window gets dout, not only its maximum": everyone,
    "dout is shared by the whole window, as in mean pooling": everyone / 4,
    "the window's first pixel gets dout, not its maximum": corner,
    "the window's smallest value gets dout, not its largest": (
        reference.max_pool_backward_naive(dout, (-x, pool_param))
    ),
    "dout is left out": (expected != 0).astype(float),
    "the maximum itself is passed back, not dout": (expected != 0) * x,
    "dout is multiplied by the maximum": expected * x,
}
### END EXPECTED
call = "max_pool_backward_naive for windows 2 × 2, stride 2"
dx = max_pool_backward_naive(dout, (x, pool_param))
check_close(dx, expected, call, mistakes=mistakes)

# %% test="max_pool_backward_naive" points=2 aspect="windows that overlap"
for height, width, stride in [(2, 3, 2), (3, 2, 1)]:
    x, _, _, _, dout = random_layer(
        49, (2, 3, 4 + height, 6 + width), (3, 3, height, width), stride
    )
    pool_param = {"pool_height": height, "pool_width": width, "stride": stride}
    ### BEGIN EXPECTED
    expected = reference.max_pool_backward_naive(dout, (x, pool_param))
    everyone, overwritten, overwritten_values = np.zeros((3, *x.shape))
    for (n, i, r, c), upstream in np.ndenumerate(dout):
        top, left = stride * r, stride * c
        at = np.s_[n, i, top : top + height, left : left + width]
        is_maximum = x[at] == x[at].max()
        everyone[at] += upstream
        overwritten[at] = upstream * is_maximum
        overwritten_values[at][is_maximum] = upstream
    mistakes = {
        "windows overwrite each other where they overlap, = where += belongs": overwritten,
        "values overwrite each other where windows overlap, = where += belongs": overwritten_values,
        "the whole window gets dout, not only its maximum": everyone,
        "dout is shared by the whole window, as in mean pooling": everyone / (height * width),
        "dout is multiplied by the maximum": expected * x,
    }
    ### END EXPECTED
    call = f"max_pool_backward_naive for windows {height} × {width}, stride {stride}"
    dx = max_pool_backward_naive(dout, (x, pool_param))
    check_close(dx, expected, call, mistakes=mistakes)

# %% test="max_pool_backward_naive" points=1 aspect="general shapes"
# Gradients for images, windows and strides of other sizes are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for x_shape, height, width, stride in [
    ((2, 2, 5, 8), 3, 2, 2),
    ((1, 1, 4, 3), 4, 3, 1),
    ((3, 2, 7, 4), 1, 1, 3),
    ((2, 3, 3, 9), 1, 5, 2),
]:
    x = rng.standard_normal(x_shape)
    cache = (x, {"pool_height": height, "pool_width": width, "stride": stride})
    dout = rng.standard_normal(reference.max_pool_forward_naive(*cache)[0].shape)
    expected = reference.max_pool_backward_naive(dout, cache)
    check_close(
        max_pool_backward_naive(dout, cache),
        expected,
        f"max_pool_backward_naive for x {x_shape}, windows {height} × {width}, stride {stride}",
    )
### END HIDDEN TESTS

# %% test="max_pool_backward_naive" points=1 aspect="written by hand"
rng = np.random.default_rng(50)
x, dout = rng.standard_normal((2, 3, 4, 6)), rng.standard_normal((2, 3, 2, 3))
pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
### BEGIN EXPECTED
expected = reference.max_pool_backward_naive(dout, (x, pool_param))
### END EXPECTED
dx = max_pool_backward_naive(dout, (x, pool_param))
check_close(dx, expected, "max_pool_backward_naive for windows 2 × 2, stride 2")
check_without(max_pool_backward_naive)

# %%
x = np.array([[1, 4, 2, 0, 1], [3, 9, 5, 2, 6], [0, 2, 1, 7, 3], [8, 1, 0, 2, 5], [2, 3, 4, 1, 0]])
x = x[None, None].astype(float)
figure, axes = plt.subplots(2, 3, figsize=(9, 5.8), layout="constrained")
figure.suptitle("Where windows overlap, one pixel can win several of them")
for row_of_axes, (size, stride) in zip(axes, [(2, 3), (3, 1)], strict=True):
    pool_param = {"pool_height": size, "pool_width": size, "stride": stride}
    out, cache = max_pool_forward_naive(x, pool_param)
    dx = max_pool_backward_naive(np.ones(out.shape), cache)
    show_numbers(row_of_axes[0], x[0, 0], "input, first and last window", limit=12)
    outline(row_of_axes[0], 0, 0, size, size)
    outline(row_of_axes[0], 5 - size, 5 - size, size, size, "0.5")
    show_numbers(row_of_axes[1], out[0, 0], f"output, windows {size} × {size}, stride {stride}", 12)
    show_numbers(row_of_axes[2], dx[0, 0], "gradient, if dout is all ones", limit=6)
plt.show()

# %% [markdown]
# Pooling doesn't spread the gradient, it routes it: the pixel that won a window gets its whole
# upstream value and every other pixel nothing. In the lower row the 9 wins four windows and
# their values add up; code that assigns where it should add writes a 1 there, and is right as long
# as windows don't overlap, which is why a test must let them. (The numbers are whole only to be
# legible. With equal maxima, the gradient would have to choose.)
#
# ## 6. A network that learns digits (optional)
#
# You have all the layers of a small convolutional network. Put them together and let it learn
# something real, without a line of anybody else's network code:
#
# $$x \;\to\; \text{convolution } (w_1, b_1) \;\to\; \mathrm{ReLU} \;\to\; \text{pooling} \;\to\;
#   \text{flatten} \;\to\; \text{scores } s = h\, W_2 + b_2 \;\to\; L$$
#
# Two parts are new, and short. $\mathrm{ReLU}(z) = \max(z, 0)$ passes the gradient where $z > 0$.
# And the **softmax loss** compares an image's scores with its class $y_n$:
#
# $$p_{nc} = \frac{e^{s_{nc}}}{\sum_j e^{s_{nj}}}, \qquad
#   L = -\frac1N \sum_n \log p_{n y_n}, \qquad
#   \frac{\partial L}{\partial s_{nc}} = \frac{1}{N} \left(p_{nc} - [c = y_n]\right)$$
#
# The gradient says what training does: push down each class by the probability that it got, and
# push up the right one. From there it goes back through the layers in reverse order, each with what
# its forward pass has kept.
#
# ### Exercise: `three_layer_loss`
# ★★★ · 40 minutes · optional
#
# The convolution and the pooling come in as arguments, each as a pair of functions. When the
# network learns digits these are yours; the tests hand in simpler ones, so that a slip in an
# earlier exercise costs nothing here.
#
# <details><summary>Hint 1: large scores</summary>
#
# $e^{1000}$ is infinite. Subtract from each image's scores their maximum: $p$ stays the same, and
# no exponential is above 1. Then $\log p = s - \log \sum e^s$ needs no division.
#
# </details>
# <details><summary>Hint 2: the linear layer</summary>
#
# For $s = h W_2 + b_2$: $dW_2 = h^\mathsf{T}\, ds$, $db_2$ is the sum of $ds$ over the batch, and
# $dh = ds\, W_2^\mathsf{T}$, which then gets the pooled maps' shape.
#
# </details>


# %% exercise="three_layer_loss" without="torch"
def three_layer_loss(x, y, params, conv, pool):
    """The loss of a small convolutional network, and its gradient for all parameters.

        convolution → ReLU → pooling → flatten → linear layer → softmax loss

    Write the ReLU, the linear layer and the loss yourself: calling PyTorch costs a point.

    Args:
        x: images, float64 array (N, C, H, W).
        y: their classes, int64 array (N,), from 0.
        params: dictionary of float64 arrays: "w1" and "b1", which the convolution takes; "w2",
            (D, K), where D is the number of values that an image has after pooling, read in NumPy's
            order, and K the number of classes; and "b2", (K,).
        conv: the pair (forward, backward). out, cache = forward(x, w1, b1), out being
            (N, F, H', W'); dx, dw, db = backward(dout, cache).
        pool: the pair (forward, backward). out, cache = forward(x), out being (N, F, h, w);
            dx = backward(dout, cache).

    Returns:
        loss: float, the mean over the images of −log p of their class, finite also where scores are
            as large as 1000.
        grads: dictionary with the keys of params: ∂loss/∂ of each, of its shape.
    """
    ### BEGIN SOLUTION
    (conv_forward, conv_backward), (pool_forward, pool_backward) = conv, pool
    maps, conv_cache = conv_forward(x, params["w1"], params["b1"])
    pooled, pool_cache = pool_forward(np.maximum(maps, 0))
    N = len(x)
    flat = pooled.reshape(N, -1)
    scores = flat @ params["w2"] + params["b2"]

    scores -= scores.max(axis=1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(N), y].mean()

    dscores = np.exp(log_p)
    dscores[np.arange(N), y] -= 1
    dscores /= N
    dflat = dscores @ params["w2"].T
    dmaps = pool_backward(dflat.reshape(pooled.shape), pool_cache) * (maps > 0)
    _, dw1, db1 = conv_backward(dmaps, conv_cache)
    return loss, {"w1": dw1, "b1": db1, "w2": flat.T @ dscores, "b2": dscores.sum(axis=0)}
    ### END SOLUTION


# %% [markdown]
# The layers of the tests: a "convolution" that only sums the channels, weighs them and adds a bias
# that grows from left to right, and a "pooling" that keeps every second pixel. The convolution's
# backward pass gives twice the gradient, so that the tests see whether you ask it.


# %% given=true
def probe_conv_forward(x, w, b):
    """F maps from the sum of all channels, each with a weight and a bias, which counts once in the
    first column, twice in the second, and so on: w and b are (F,)."""
    total = x.sum(axis=1, keepdims=True)
    column = np.arange(1, x.shape[3] + 1)
    return w[:, None, None] * total + b[:, None, None] * column, (total, w)


def probe_conv_backward(dout, cache):
    """Twice the gradients (dx, dw, db) of probe_conv_forward; dx for the sum of the channels."""
    total, w = cache
    dout = 2 * dout
    dx = (dout * w[:, None, None]).sum(axis=1, keepdims=True)
    column = np.arange(1, dout.shape[3] + 1)
    return dx, (dout * total).sum(axis=(0, 2, 3)), (dout * column).sum(axis=(0, 2, 3))


def probe_pool_forward(x):
    """Every second pixel of every second row, and the shape before."""
    return x[:, :, ::2, ::2].copy(), x.shape


def probe_pool_backward(dout, shape):
    """The gradient of probe_pool_forward: zero where a pixel was left out."""
    dx = np.zeros(shape)
    dx[:, :, ::2, ::2] = dout
    return dx


PROBE_CONV = (probe_conv_forward, probe_conv_backward)
PROBE_POOL = (probe_pool_forward, probe_pool_backward)


def random_network(seed, N, C, H, W, F, K, scale=1.0):
    """Images, classes and parameters to test with; scores of about this size."""
    rng = np.random.default_rng(seed)
    D = F * -(-H // 2) * -(-W // 2)
    params = {
        "w1": rng.standard_normal(F),
        "b1": rng.standard_normal(F),
        "w2": scale * rng.standard_normal((D, K)) / np.sqrt(D),
        "b2": scale * rng.standard_normal(K),
    }
    return rng.standard_normal((N, C, H, W)), rng.integers(K, size=N), params


def call_loss(function, network):
    """The loss and the dictionary of gradients that a function gives for a random network."""
    result = function(*network, PROBE_CONV, PROBE_POOL)
    return check_tuple(result, ("loss", "grads"), "three_layer_loss(x, y, params, conv, pool)")


def check_gradients(grads, expected, names, mistakes=None, tolerance=None):
    """Fail unless these gradients are right."""
    assert isinstance(grads, dict), "grads has to be a dictionary with the keys of params."
    for name in names:
        assert name in grads, f"grads has no {name!r}; its keys are those of params."
        check_close(
            grads[name],
            expected[name],
            f"grads[{name!r}]",
            mistakes={text: values[name] for text, values in (mistakes or {}).items()},
            tolerance=tolerance,
        )


# %% test="three_layer_loss" points=2 aspect="the loss"
network = x, y, params = random_network(51, 3, 2, 4, 6, 5, 4)
loss, _ = call_loss(three_layer_loss, network)
### BEGIN EXPECTED
expected, _ = reference.three_layer_loss(x, y, params, PROBE_CONV, PROBE_POOL)
maps = probe_conv_forward(x, params["w1"], params["b1"])[0]


def scores_of(maps, order=(0, 1, 2, 3)):
    """The scores that come of these maps before pooling."""
    pooled = probe_pool_forward(maps)[0].transpose(order)
    return pooled.reshape(3, -1) @ params["w2"] + params["b2"]


def losses_of(scores):
    """Each image's loss."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(3), y]


scores = scores_of(np.maximum(maps, 0))
each = losses_of(scores)
p = np.exp(-each)
mistakes = {
    "the images' losses are added up: the mean is asked for": each.sum(),
    "only the first image counts": each[0],
    "only the last image counts": each[-1],
    "the ReLU is missing": losses_of(scores_of(maps)).mean(),
    "b2 is missing": losses_of(scores - params["b2"]).mean(),
    "the values are flattened in another order than NumPy's: reshape(N, -1)": (
        losses_of(scores_of(np.maximum(maps, 0), (0, 2, 3, 1))).mean()
    ),
    "the absolute value stands where the ReLU belongs": losses_of(scores_of(np.abs(maps))).mean(),
    "the minus sign is missing": -expected,
    "it is the mean probability, without the logarithm": p.mean(),
    "it is minus the mean probability, without the logarithm": -p.mean(),
    "the logarithm is taken of the mean probability: take the mean of the logarithms": (
        -np.log(p.mean())
    ),
    "the scores themselves are taken, without the softmax": -scores[np.arange(3), y].mean(),
    "the softmax runs over the images, not over the classes": (
        (np.log(np.exp(scores).sum(axis=0))[y] - scores[np.arange(3), y]).mean()
    ),
    "the logarithm is to the base of 2": expected / np.log(2),
    "y is ignored: the predicted class is taken": (
        np.log(np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)).mean()
    ),
    "the scores go through a ReLU as well": losses_of(np.maximum(scores, 0)).mean(),
}
### END EXPECTED
name = "the loss of three_layer_loss(x, y, params, conv, pool)"
check_close(loss, expected, name, mistakes=mistakes)

# %% test="three_layer_loss" points=2 aspect="the gradients of the linear layer"
network = x, y, params = random_network(52, 3, 2, 4, 6, 5, 4)
_, grads = call_loss(three_layer_loss, network)
### BEGIN EXPECTED
_, expected = reference.three_layer_loss(x, y, params, PROBE_CONV, PROBE_POOL)
maps = probe_conv_forward(x, params["w1"], params["b1"])[0]
rectified = np.maximum(maps, 0)


def upwards(dscores, maps=rectified):
    """The linear layer's gradients for these upstream values."""
    flat = probe_pool_forward(maps)[0].reshape(3, -1)
    return {"w2": flat.T @ dscores, "b2": dscores.sum(axis=0)}


scores = probe_pool_forward(rectified)[0].reshape(3, -1) @ params["w2"] + params["b2"]
p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
right = np.eye(4)[y]
mistakes = {
    "it isn't divided by N": upwards(p - right),
    "it is divided by N twice": upwards((p - right) / 9),
    "the sign is wrong": upwards((right - p) / 3),
    "the 1 of the right class isn't subtracted": upwards(p / 3),
    "only the right class gets a gradient": upwards((p - 1) * right / 3),
    "only −1/N for the right class comes back, and nothing for the others": upwards(-right / 3),
    "the scores take the place of the probabilities": upwards((scores - right) / 3),
    "what comes before the ReLU is multiplied, not what comes after it": (
        upwards((p - right) / 3, maps)
    ),
}
### END EXPECTED
check_gradients(grads, expected, ("w2", "b2"), mistakes)

# %% test="three_layer_loss" points=2 aspect="the gradients of the convolution"
network = x, y, params = random_network(53, 3, 2, 4, 6, 5, 4)
_, grads = call_loss(three_layer_loss, network)
### BEGIN EXPECTED
_, expected = reference.three_layer_loss(x, y, params, PROBE_CONV, PROBE_POOL)
maps, cache = probe_conv_forward(x, params["w1"], params["b1"])
pooled, shape = probe_pool_forward(np.maximum(maps, 0))
scores = pooled.reshape(3, -1) @ params["w2"] + params["b2"]
dscores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True) - np.eye(4)[y]


def down(dmaps):
    """The convolution's gradients for these upstream values."""
    return dict(zip(("w1", "b1"), probe_conv_backward(dmaps, cache)[1:], strict=True))


dflat = dscores @ params["w2"].T / 3
spread = probe_pool_backward(dflat.reshape(pooled.shape), shape)
scrambled = dflat.reshape(3, 2, 3, 5).transpose(0, 3, 1, 2)
mistakes = {
    "the gradient passes the ReLU everywhere: only where its input is positive": down(spread),
    "the ReLU lets the negative half pass": down(spread * (maps < 0)),
    "the gradient itself is rectified, as if it went forward": down(np.maximum(spread, 0)),
    "the gradient is multiplied by the ReLU's output": down(spread * np.maximum(maps, 0)),
    "it isn't divided by N": {key: 3 * expected[key] for key in ("w1", "b1")},
    "the 1 of the right class isn't subtracted": down(
        probe_pool_backward(
            ((dscores + np.eye(4)[y]) @ params["w2"].T / 3).reshape(pooled.shape), shape
        )
        * (maps > 0)
    ),
    "the values are given back in another order than they were flattened in": (
        down(probe_pool_backward(scrambled, shape) * (maps > 0))
    ),
    "the sign is wrong": {key: -expected[key] for key in ("w1", "b1")},
    "it isn't what the convolution's backward pass gives, which here is twice the gradient": {
        key: expected[key] / 2 for key in ("w1", "b1")
    },
}
### END EXPECTED
check_gradients(grads, expected, ("w1", "b1"), mistakes)

# %% test="three_layer_loss" points=1 aspect="large scores"
network = random_network(54, 3, 2, 4, 6, 5, 4, scale=1000.0)
loss, grads = call_loss(three_layer_loss, network)
### BEGIN EXPECTED
expected, gradients = reference.three_layer_loss(*network, PROBE_CONV, PROBE_POOL)
### END EXPECTED
assert np.isfinite(loss), (
    f"the loss for scores of about 1000 is {loss}: exponentials overflow. Subtract each image's"
    " largest score first, and take the logarithm of the sum, not of a probability that is 0."
)
check_close(loss, expected, "the loss for scores of about 1000")
check_gradients(grads, gradients, ("w1", "b1", "w2", "b2"))

# %% test="three_layer_loss" points=2 aspect="other networks"
# Other shapes and numbers are tried here.
### BEGIN HIDDEN TESTS
for number, shape in enumerate([(1, 1, 2, 3, 2, 2), (5, 3, 5, 4, 1, 6), (4, 1, 6, 6, 3, 3)]):
    network = random_network(reference.seed + number, *shape)
    loss, grads = call_loss(three_layer_loss, network)
    expected, gradients = reference.three_layer_loss(*network, PROBE_CONV, PROBE_POOL)
    check_close(loss, expected, f"the loss for N, C, H, W, F, K = {shape}")
    check_gradients(grads, gradients, tuple(gradients))
    assert set(grads) == set(gradients), "grads has keys that params hasn't."
### END HIDDEN TESTS

# %% test="three_layer_loss" points=1 aspect="written by hand"
network = random_network(55, 2, 1, 4, 4, 3, 5)
loss, grads = call_loss(three_layer_loss, network)
### BEGIN EXPECTED
expected, gradients = reference.three_layer_loss(*network, PROBE_CONV, PROBE_POOL)
### END EXPECTED
check_close(loss, expected, "the loss of three_layer_loss(x, y, params, conv, pool)")
check_gradients(grads, gradients, tuple(gradients))
check_without(three_layer_loss)

# %% [markdown]
# Now with *your* convolution, as matrix products, and *your* pooling. Scikit-learn's digits are
# 1,797 handwritten digits of 8 × 8 pixels. Every fourth is held back; the network never learns
# from those. Before it learns anything, your gradient is checked once more, through all layers.


# %% fold=false
def conv_forward_digits(x, w, b):
    """Your layer by im2col, with stride 1 and a padding that keeps the size."""
    pad = w.shape[2] // 2
    columns = im2col(x, *w.shape[2:], 1, pad)
    out = conv_forward_matmul(columns, w, b).reshape(len(x), len(w), *x.shape[2:])
    return out, (columns, x.shape, w, pad)


def conv_backward_digits(dout, cache):
    """Its gradients, by two matrix products and col2im."""
    columns, x_shape, w, pad = cache
    dout = dout.reshape(*dout.shape[:2], -1)
    dcolumns, dw, db = conv_backward_matmul(dout, columns, w)
    return col2im(dcolumns, x_shape, *w.shape[2:], 1, pad), dw, db


def pool_forward_digits(x):
    return max_pool_forward_naive(x, {"pool_height": 2, "pool_width": 2, "stride": 2})


DIGITS_CONV = (conv_forward_digits, conv_backward_digits)
DIGITS_POOL = (pool_forward_digits, max_pool_backward_naive)


def new_parameters(rng, filters=8):
    """A network for 8 × 8 digits: weights of the deviation √(2 / inputs), biases zero."""
    values = filters * 4 * 4
    return {
        "w1": rng.standard_normal((filters, 1, 3, 3)) * np.sqrt(2 / 9),
        "b1": np.zeros(filters),
        "w2": rng.standard_normal((values, 10)) * np.sqrt(2 / values),
        "b2": np.zeros(10),
    }


# %%
from functools import partial

from sklearn.datasets import load_digits
from tqdm.auto import tqdm

digits = load_digits()
pictures, classes = digits.images[:, None] / 16 - 0.3, digits.target
held_out = np.arange(len(pictures)) % 4 == 0
train_x, train_y = pictures[~held_out], classes[~held_out]
test_x, test_y = pictures[held_out], classes[held_out]

rng = np.random.default_rng(0)
params = new_parameters(rng)
few = train_x[:5] + 0.01 * rng.standard_normal((5, 1, 8, 8)), train_y[:5]  # no two equal maxima


def loss_with(name, value):
    """The loss of a few digits with one parameter replaced."""
    return three_layer_loss(*few, params | {name: value}, DIGITS_CONV, DIGITS_POOL)[0]


_, grads = three_layer_loss(*few, params, DIGITS_CONV, DIGITS_POOL)
for name in ("w1", "b1", "b2"):  # w2 has 1,280 weights: its check would take a while
    numerical = eval_numerical_gradient_array(partial(loss_with, name), params[name], 1.0)
    print(f"{name}: rel_error {rel_error(grads[name], numerical):.0e}")


# %%
def predict(x, params):
    """The class with the highest score, for each image."""
    maps, _ = conv_forward_digits(x, params["w1"], params["b1"])
    pooled, _ = pool_forward_digits(np.maximum(maps, 0))
    return (pooled.reshape(len(x), -1) @ params["w2"] + params["b2"]).argmax(axis=1)


EPOCHS, BATCH, RATE, MOMENTUM = 5, 32, 0.1, 0.9
velocity = {name: np.zeros(value.shape) for name, value in params.items()}
first_w1, losses, accuracies = params["w1"].copy(), [], [np.mean(predict(test_x, params) == test_y)]
STEPS = len(train_x) // BATCH  # each time through the training digits
with threadpool_limits(1), tqdm(total=EPOCHS * STEPS, unit="step") as bar:
    for _ in range(EPOCHS):
        for chosen in rng.permutation(len(train_x))[: STEPS * BATCH].reshape(STEPS, BATCH):
            loss, grads = three_layer_loss(
                train_x[chosen], train_y[chosen], params, DIGITS_CONV, DIGITS_POOL
            )
            for name in params:
                velocity[name] = MOMENTUM * velocity[name] - RATE * grads[name]
                params[name] = params[name] + velocity[name]
            losses.append(loss)
            bar.update()
        accuracies.append(np.mean(predict(test_x, params) == test_y))
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.2f}", accuracy=f"{accuracies[-1]:.1%}")

# %%
answers = predict(test_x, params)
wrong = np.flatnonzero(answers != test_y)
figure, axes = plt.subplot_mosaic(
    [["loss"] * 4 + ["accuracy"] * 4, [f"w{n}" for n in range(8)], [f"d{n}" for n in range(8)]],
    figsize=(11, 6.6),
    layout="constrained",
    height_ratios=[2.2, 1, 1],
)
figure.suptitle(
    f"Your layers read digits: {accuracies[-1]:.1%} of {len(test_y)} that they never saw"
)
axes["loss"].semilogy(losses, color="0.8", label="each step")
axes["loss"].semilogy(
    np.arange(9, len(losses)),
    np.convolve(losses, np.ones(10) / 10, "valid"),
    color="#0072B2",
    label="mean of ten",
)
axes["loss"].set(xlabel="step", ylabel="loss on the batch")
axes["loss"].legend(frameon=False)
axes["accuracy"].plot(range(EPOCHS + 1), accuracies, "o-", color="#D55E00")
axes["accuracy"].axhline(0.1, color="0.6", linestyle=":")
axes["accuracy"].text(EPOCHS, 0.12, "guessing", ha="right", color="0.4")
axes["accuracy"].set(
    xlabel="times through the training digits", ylabel="right, held-out", ylim=(0, 1)
)
limit = np.abs(params["w1"]).max()
for n, ax in ((n, axes[f"w{n}"]) for n in range(8)):
    kernels = ax.imshow(params["w1"][n, 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(f"kernel {n}", fontsize=9)
figure.colorbar(kernels, ax=[axes[f"w{n}"] for n in range(8)], shrink=0.9)
for n, ax in ((n, axes[f"d{n}"]) for n in range(8)):
    if n < len(wrong):
        ax.imshow(test_x[wrong[n], 0], cmap="gray_r")
        ax.set_title(f"{test_y[wrong[n]]}, read as {answers[wrong[n]]}", fontsize=9)
for name, ax in axes.items():
    if name[0] in "wd":
        ax.axis("off")
plt.show()
moved = np.linalg.norm(params["w1"] - first_w1) / np.linalg.norm(first_w1)
print(f"{len(wrong)} of {len(test_y)} held-out digits are read wrongly")
print(f"the kernels' weights have moved by {moved:.0%} of their norm at the start")

# %% [markdown]
# Every number in this figure went through your functions, forward and back. Held-out digits tell
# what the training loss can't: that the network reads digits, and hasn't just learned the training
# pictures by heart. (They come from the same writers, though; a stranger's digits may be harder.)
# The last row shows some that it reads wrongly; you might have misread one or the other, too. Don't
# look for strokes of digits in the kernels: nine weights hold an edge or a corner at most, and the
# linear layer puts these together, each at its place. Networks with more layers of convolution
# build larger parts from small ones, wherever they are.
#
# ## What you have now
#
# A layer that runs forwards and backwards, with the optional parts also fast and in a network that
# reads, and three ways of not having to believe anybody: a derivation, a gradient check, and
# somebody else's implementation. The question in section 1 has a second part that you can answer
# now.
