# %% [markdown]
# # Lab 07: Guided backprop
#
# The gradient of a score with respect to the image says which pixels matter, and shows mostly
# noise. Change one line of backpropagation, the one for the ReLU, and crisp drawings of the object
# come out. They are among the most beautiful pictures that one can get from a network. You will
# make them in several ways, and then measure how much they tell.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. One ReLU, three ways back | `relu_backward` | 15 |
# | 2. The rules as PyTorch functions | `DeconvReLU`, `GuidedReLU` | 25 |
# | 3. A whole network | `guided_backprop`, one answer in words | 45 |
# | 4. The deconvnet, by hand (optional) | `max_unpool`, `deconvnet` | 55 |
# | 5. One neuron | `neuron_gradient`, `top_patches` | 45 |
# | 6. What does the map know? | `similarity_by_depth`, a verdict in writing | 50 |
# | 7. The same with Captum (optional) | nothing: you look | 10 |
# | 8. With an ImageNet network (optional) | nothing: you look | 10 |
#
# Sections 4, 7 and 8 are optional. The others need nothing from them, and take three hours.
#
# The cells beneath each exercise are its tests. Each answers **right so far**, or says in one
# sentence what is wrong. When your work is graded, other networks, shapes and classes are tried as
# well. No exercise needs one that you wrote before, so a slip costs you only once.

# %% given=true
from collections import OrderedDict

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import nn

from utils.attribution import randomised_copy, replace_relus
from utils.checks import (
    check_close,
    check_tuple,
    eval_numerical_gradient_array,
    hooks_left,
    random_images,
    run_beside,
    vector_jacobian_product,
)
from utils.guard import check_without
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def random_tensor(seed, *shape):
    """Normally distributed numbers in float64, every ninth of them exactly zero."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    numbers.view(-1)[::9] = 0
    return numbers


def randomised(network, seed):
    """The network in float64 and in eval mode, with random weights and BatchNorm statistics."""
    generator = torch.Generator().manual_seed(seed)
    network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5, generator=generator)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5, generator=generator)
    return network


def tiny_network(seed, inplace=False, shared=False):
    """A small random network for the tests, from images (N, 3, H, W) to four class scores.

    Where `shared`, the first two of its three ReLUs are one and the same module.
    """
    relu1 = nn.ReLU(inplace)
    features = OrderedDict(
        conv1=nn.Conv2d(3, 5, 3, padding=1),
        norm1=nn.BatchNorm2d(5),
        relu1=relu1,
        pool=nn.MaxPool2d((2, 3)),
        conv2=nn.Conv2d(5, 6, 3, padding=1),
        norm2=nn.BatchNorm2d(6),
        relu2=relu1 if shared else nn.ReLU(inplace),
    )
    classifier = OrderedDict(
        average=nn.AdaptiveAvgPool2d((2, 2)),
        flatten=nn.Flatten(),
        hidden=nn.Linear(24, 8),
        relu3=nn.ReLU(inplace),
        linear=nn.Linear(8, 4),
    )
    parts = OrderedDict(features=nn.Sequential(features), classifier=nn.Sequential(classifier))
    return randomised(nn.Sequential(parts), seed)


class FunctionalNetwork(nn.Module):
    """A network that calls F.relu instead of having nn.ReLU modules."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 4, 3)

    def forward(self, images):
        return F.relu(self.conv2(F.relu(self.conv1(images)))).mean((2, 3))


@run_beside
def gradient_afterwards(function, arguments, model, X, upstream):
    """The plain gradient through `model` after function(*arguments) has had it in its hands."""
    function(*arguments)
    return vector_jacobian_product(model, [X], upstream)[0]


# %% [markdown]
# The next cell loads a network of six convolutions and a linear layer, each convolution with
# BatchNorm and a ReLU, and pictures to ask it about: textured objects in clutter, of which we know
# where they are.

# %%
import matplotlib.pyplot as plt

from utils.models import load_model
from utils.scenes import CLASS_NAMES, make_scenes

base = load_model("base").to(device)
scenes = make_scenes(200, np.random.default_rng(7))
images, labels = (tensor.to(device) for tensor in scenes.tensors())
masks = torch.from_numpy(scenes.masks)


def show_numbers(ax, array, title, limit=8):
    """Draw a small matrix with its numbers, in colours that are symmetric about zero."""
    ax.imshow(array, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(np.asarray(array)):
        colour = "white" if abs(value) > 0.6 * limit else "black"
        text = f"{value + 0.0:g}".replace("-", "−")  # + 0.0 turns −0 into 0
        ax.text(column, row, text, ha="center", va="center", color=colour)
    ax.set_title(title)


def without_ticks(axes):
    """Leave out the ticks of all axes: pixels needn't be counted."""
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])


# %% [markdown]
# You can put in a picture of your own, of anything. It will appear beside the scenes, asked for the
# class that the network takes it for. No exercise needs it.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% [markdown]
# ## 1. One ReLU, three ways back
#
# On the way forward a ReLU lets positive numbers pass and stops the others: $y = \max(x, 0)$. On
# the way back it gets an upstream gradient $R = \partial L / \partial y$ and has to hand something
# on. What, is settled by calculus: where $x > 0$ it was the identity, so $R$ passes, elsewhere it
# was constant, so zero does.
#
# $$\text{backprop:} \quad R \cdot [x > 0]$$
#
# A negative $R$ says: *less of this would raise the score*. Two papers wanted to see only what
# speaks **for** a score, and broke with calculus at this one place:
#
# $$\text{deconvnet:} \quad R \cdot [R > 0] \qquad\qquad
#   \text{guided backprop:} \quad R \cdot [R > 0] \cdot [x > 0]$$
#
# The **deconvnet** (Zeiler & Fergus, 2014) applies a ReLU to the signal on its way *back*, and
# doesn't look at $x$ at all. **Guided backprop** (Springenberg et al., 2015) does both: whatever
# was stopped on the way forward stays stopped, and what is negative on the way back stops too.
#
# ### Exercise: `relu_backward`
# ★☆☆ · 15 minutes


# %% exercise="relu_backward"
def relu_backward(dout, x, rule):
    """Send an upstream gradient back through a ReLU by one of three rules.

        backprop: dout · [x > 0]    deconvnet: dout · [dout > 0]    guided: both conditions

    Args:
        dout: upstream gradient R, float tensor of any shape.
        x: the ReLU's input on the way forward, float tensor of the same shape. Where it is exactly
            0, it doesn't count as positive.
        rule: "backprop", "deconvnet" or "guided".

    Returns:
        dx: what goes on downwards, float tensor of the same shape.
    """
    ### BEGIN SOLUTION
    if rule != "deconvnet":
        dout = dout * (x > 0)
    if rule != "backprop":
        dout = dout * (dout > 0)
    return dout
    ### END SOLUTION


# %% test="relu_backward" points=2 aspect="the lecture's example"
lecture_x = torch.tensor([[1.0, -1, 5], [2, -5, -7], [-3, 2, 4]])
lecture_dout = torch.tensor([[-2.0, 3, -1], [6, -3, 1], [2, -1, 3]])
for rule in ("backprop", "deconvnet", "guided"):
    ### BEGIN EXPECTED
    rules = ("backprop", "deconvnet", "guided")
    values = {one: reference.relu_backward(lecture_dout, lecture_x, one) for one in rules}
    expected = values[rule]
    mistakes = {
        "dout passes as it is": lecture_dout,
        "the ReLU of x is passed back, not the gradient": lecture_x.clamp(min=0),
        "dout is multiplied by ReLU(x): only whether x is positive counts": (
            expected * lecture_x.clamp(min=0)
        ),
        "only the mask is passed back, of zeros and ones": (expected != 0).double(),
        "negative values pass, and positive ones are stopped": lecture_dout.clamp(max=0),
        **{f"it is the rule of {one}": values[one] for one in rules if one != rule},
    }
    ### END EXPECTED
    dx = relu_backward(lecture_dout, lecture_x, rule)
    check_close(dx, expected, f"relu_backward(dout, x, {rule!r})", mistakes=mistakes)

# %% test="relu_backward" points=2 aspect="zeros, and any shape"
x, dout = random_tensor(0, 3, 2, 4, 5), random_tensor(1, 5, 4, 3, 2).reshape(3, 2, 4, 5)
x[0, 0], dout[0, 0, 0] = 0, 1
for rule in ("backprop", "deconvnet", "guided"):
    ### BEGIN EXPECTED
    expected = reference.relu_backward(dout, x, rule)
    mistakes = {}
    if rule != "deconvnet":
        mistakes["where x is exactly 0, dout passes: x has to be positive"] = torch.where(
            x == 0, dout.clamp(min=0) if rule == "guided" else dout, expected
        )
    ### END EXPECTED
    name = f"relu_backward(dout, x, {rule!r}) for x {tuple(x.shape)}"
    check_close(relu_backward(dout, x, rule), expected, name, mistakes=mistakes)
### BEGIN HIDDEN TESTS
for seed, shape in enumerate([(7,), (2, 9), (1, 3, 5, 2)]):
    x, dout = (random_tensor(reference.seed + 2 * seed + one, *shape) for one in (0, 1))
    for rule in ("backprop", "deconvnet", "guided"):
        expected = reference.relu_backward(dout, x, rule)
        name = f"relu_backward by the rule {rule!r} for x {shape}"
        check_close(relu_backward(dout, x, rule), expected, name)
### END HIDDEN TESTS

# %% [markdown]
# Here is the lecture's example, by your function.

# %%
lecture_x = torch.tensor([[1.0, -1, 5], [2, -5, -7], [-3, 2, 4]])
lecture_dout = torch.tensor([[-2.0, 3, -1], [6, -3, 1], [2, -1, 3]])
figure, axes = plt.subplots(2, 3, figsize=(7.6, 5.4), layout="constrained")
figure.suptitle("One upstream gradient, three ways back through the same ReLU")
show_numbers(axes[0, 0], lecture_x, "forward: input x")
show_numbers(axes[0, 1], lecture_x.relu(), "forward: ReLU(x)")
show_numbers(axes[0, 2], lecture_dout, "upstream gradient R")
for ax, rule in zip(axes[1], ("backprop", "deconvnet", "guided"), strict=True):
    show_numbers(ax, relu_backward(lecture_dout, lecture_x, rule), rule)
without_ticks(axes)
plt.show()

# %% [markdown]
# Compare place by place. At the top left, $x = 1$ was let through and $R = -2$: backprop hands on
# the −2, the other two don't want to hear it. Beside it, $x = -1$ was stopped: nothing that happens
# there can change the output, and still the deconvnet hands on a 3. Only two numbers of nine
# survive both conditions.
#
# ## 2. The rules as PyTorch functions
#
# To use such a rule in a network, autograd has to know it. A `torch.autograd.Function` is a forward
# and a backward pass, written side by side. Here is the ordinary ReLU as one.


# %% given=true fold=false
class BackpropReLU(torch.autograd.Function):
    """The ReLU as calculus has it. Use it as BackpropReLU.apply(x)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)  # what the way back will need
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        (x,) = ctx.saved_tensors
        return dout * (x > 0)


# %% [markdown]
# `forward` computes, and puts aside in `ctx` what the way back will need. `backward` gets the
# upstream gradient, and returns one gradient for each argument that `forward` had after `ctx`.
# Nobody checks that it is the true one, and that is how we get our way. But neither method may
# change what it is given in place: others may still need it.
#
# ### Exercise: `DeconvReLU`
# ★☆☆ · 10 minutes


# %% exercise="DeconvReLU"
class DeconvReLU(torch.autograd.Function):
    """A ReLU that on the way back passes what is positive there: dout · [dout > 0].

    Use it as DeconvReLU.apply(x).
    """

    @staticmethod
    def forward(ctx, x):
        """The ReLU of x, a float tensor of any shape; this part is done."""
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, dout):
        """From the upstream gradient, a float tensor of x's shape, to what goes on downwards."""
        ### BEGIN SOLUTION
        return dout.clamp(min=0)
        ### END SOLUTION


# %% test="DeconvReLU" points=3 aspect="both ways"
x, upstream = random_tensor(2, 3, 2, 4, 5), random_tensor(3, 3, 2, 4, 5) + 0.1
### BEGIN EXPECTED
expected = torch.where(x > 0, x, 0)
mistakes = {
    "forward returns x as it is: the way forward is an ordinary ReLU": x,
    "forward takes the absolute value": x.abs(),
    "forward returns a mask of zeros and ones": (x > 0).double(),
}
expected_back = torch.where(upstream > 0, upstream, 0)
mistakes_back = {
    "it is the ordinary gradient: x, not dout, decides what passes": (
        torch.where(x > 0, upstream, 0)
    ),
    "both x and dout decide what passes, which is guided backprop": (
        torch.where((x > 0) & (upstream > 0), upstream, 0)
    ),
    "dout passes as it is": upstream,
    "only the mask is passed back, of zeros and ones": (upstream > 0).double(),
    "the absolute value of dout is passed back": upstream.abs(),
    "positive values are stopped, and negative ones pass": upstream.clamp(max=0),
    "the ReLU of x is passed back, not of dout": torch.where(x > 0, x, 0),
}
### END EXPECTED
check_close(DeconvReLU.apply(x), expected, "DeconvReLU.apply(x)", mistakes=mistakes)
(dx,) = vector_jacobian_product(DeconvReLU.apply, [x], upstream)
check_close(dx, expected_back, "the gradient through DeconvReLU", mistakes=mistakes_back)
### BEGIN HIDDEN TESTS
for seed, shape in enumerate([(6,), (4, 7), (1, 2, 3, 5)]):
    x, upstream = (random_tensor(reference.seed + 2 * seed + one, *shape) for one in (0, 1))
    name = f"DeconvReLU for x {shape}"
    check_close(DeconvReLU.apply(x), reference.DeconvReLU.apply(x), name)
    check_close(
        vector_jacobian_product(DeconvReLU.apply, [x], upstream)[0],
        vector_jacobian_product(reference.DeconvReLU.apply, [x], upstream)[0],
        f"the gradient through {name}",
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `GuidedReLU`
# ★☆☆ · 15 minutes
#
# This time both methods are yours: the way back depends on $x$.


# %% exercise="GuidedReLU"
class GuidedReLU(torch.autograd.Function):
    """A ReLU that on the way back passes what is positive both ways: dout · [dout > 0] · [x > 0].

    Use it as GuidedReLU.apply(x). Where x is exactly 0, nothing passes.
    """

    @staticmethod
    def forward(ctx, x):
        """The ReLU of x, a float tensor of any shape."""
        ### BEGIN SOLUTION
        ctx.save_for_backward(x)
        return x.clamp(min=0)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dout):
        """From the upstream gradient, a float tensor of x's shape, to what goes on downwards."""
        ### BEGIN SOLUTION
        (x,) = ctx.saved_tensors
        return dout.clamp(min=0) * (x > 0)
        ### END SOLUTION


# %% test="GuidedReLU" points=3 aspect="both ways"
x, upstream = random_tensor(4, 3, 2, 4, 5), random_tensor(5, 3, 2, 4, 5) + 0.1
### BEGIN EXPECTED
expected = torch.where(x > 0, x, 0)
mistakes = {
    "forward returns x as it is: the way forward is an ordinary ReLU": x,
    "forward takes the absolute value": x.abs(),
    "forward returns a mask of zeros and ones": (x > 0).double(),
}
expected_back = torch.where((x > 0) & (upstream > 0), upstream, 0)
mistakes_back = {
    "where x is exactly 0, dout passes: x has to be positive": (
        torch.where((x >= 0) & (upstream > 0), upstream, 0)
    ),
    "it is the ordinary gradient: negative values of dout have to stop": (
        torch.where(x > 0, upstream, 0)
    ),
    "x doesn't matter, which is the deconvnet's rule": upstream.clamp(min=0),
    "dout passes as it is": upstream,
    "only the mask is passed back, of zeros and ones": ((x > 0) & (upstream > 0)).double(),
    "dout is multiplied by ReLU(x): only whether x is positive counts": (
        torch.where(x > 0, x, 0) * upstream.clamp(min=0)
    ),
    "the absolute value of dout is passed back where x is positive": (
        torch.where(x > 0, upstream.abs(), 0)
    ),
}
### END EXPECTED
check_close(GuidedReLU.apply(x), expected, "GuidedReLU.apply(x)", mistakes=mistakes)
(dx,) = vector_jacobian_product(GuidedReLU.apply, [x], upstream)
check_close(dx, expected_back, "the gradient through GuidedReLU", mistakes=mistakes_back)
### BEGIN HIDDEN TESTS
for seed, shape in enumerate([(6,), (4, 7), (1, 2, 3, 5)]):
    x, upstream = (random_tensor(reference.seed + 2 * seed + one, *shape) for one in (0, 1))
    name = f"GuidedReLU for x {shape}"
    check_close(GuidedReLU.apply(x), reference.GuidedReLU.apply(x), name)
    check_close(
        vector_jacobian_product(GuidedReLU.apply, [x], upstream)[0],
        vector_jacobian_product(reference.GuidedReLU.apply, [x], upstream)[0],
        f"the gradient through {name}",
    )
### END HIDDEN TESTS

# %% [markdown]
# The 3 × 3 example again, only real: channel 20 of the network's third ReLU, on the way back from
# the score of the scene's class. Everything above this layer is untouched, so all three get the
# same $R$.

# %%
rules = {"backprop": BackpropReLU, "deconvnet": DeconvReLU, "guided": GuidedReLU}
place = list(base.features).index(base.features.relu3)
with torch.no_grad():
    x = base.features[:place](images[:1])
y = x.relu().requires_grad_()
score = base.classifier(base.features[place + 1 :](y))[0, labels[0]]
(upstream,) = torch.autograd.grad(score, y)
panels = {"input x": x, "upstream R": upstream}
for rule, function in rules.items():
    (dx,) = vector_jacobian_product(function.apply, [x], upstream)
    panels[f"{rule}: {dx.ne(0).float().mean():.0%} pass"] = dx

channel = 20
figure, axes = plt.subplots(1, 6, figsize=(13, 2.7), layout="constrained")
figure.suptitle("The deconvnet passes what is red in R, guided backprop only where x was red, too")
axes[0].imshow(scenes.images[0])
axes[0].set_title("scene")
for ax, (title, values) in zip(axes[1:], panels.items(), strict=True):
    limit = (x if values is x else upstream)[0, channel].abs().max().item()
    picture = ax.imshow(values[0, channel].cpu(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(title)
    if values is x:
        figure.colorbar(picture, ax=ax, shrink=0.7, label="activation")
figure.colorbar(picture, ax=axes[-1], shrink=0.7, label="gradient")
without_ticks(axes)
plt.show()

# %% [markdown]
# Red is positive, blue negative; the percentages count all 64 channels of this layer. Backprop
# keeps red and blue wherever $x$ was red. The deconvnet keeps all that is red in $R$, also where
# nothing came up. Guided backprop keeps least, and there are six such gates in a row: what arrives
# at the image has been positive at each of them.
#
# ## 3. A whole network
#
# We want a network that is the same in everything but the way back through its ReLUs. The network
# itself should stay as it is: somebody may want to train it, or to compare it with the changed one.
# So we work on a copy: `replace_relus(model, function)`, from `utils.attribution`, copies a network
# and puts such a `Function` at the place of every `nn.ReLU` in it, however deep, also where one
# module stands at two places.
#
# One line per rule, and no line about convolutions, BatchNorm or pooling: autograd does these as
# always.

# %%


def gradient_of_score(X, y, model):
    """∂s_y/∂X, the gradient of each image's score for its class in y, (N, 3, H, W)."""
    X = X.clone().requires_grad_()
    return torch.autograd.grad(model(X).gather(1, y[:, None]).sum(), X)[0]


def pixel_map(gradients):
    """(N, 3, H, W) to maps (N, H, W) in [0, 1]: absolute values, summed over the colours."""
    maps = gradients.abs().sum(1)
    return maps / maps.amax((1, 2), keepdim=True)


def with_own(X, y):
    """Pictures and their classes, your own last, if there is one, with the network's answer."""
    picture = own.load(64)
    if picture is None:
        return X, y
    mine = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        answer = base(mine).argmax(1)
    return torch.cat([X, mine]), torch.cat([y, answer])


networks = {rule: replace_relus(base, function) for rule, function in rules.items()}
shown, shown_labels = with_own(images[:6], labels[:6])
figure, axes = plt.subplots(4, len(shown), figsize=(11, 7.6), layout="constrained")
figure.suptitle("Noise, clouds, a drawing: one network, three ways back from the same score")
for ax, image, label in zip(axes[0], shown.permute(0, 2, 3, 1).cpu(), shown_labels, strict=True):
    ax.imshow(image)
    ax.set_title(CLASS_NAMES[label])
for row, (rule, network) in zip(axes[1:], networks.items(), strict=True):
    row[0].set_ylabel(rule)
    for ax, heat in zip(
        row, pixel_map(gradient_of_score(shown, shown_labels, network)), strict=True
    ):
        picture = ax.imshow(heat.cpu(), cmap="viridis", vmin=0, vmax=1)
without_ticks(axes)
figure.colorbar(picture, ax=axes[1:], shrink=0.5, label="part of the largest value")
plt.show()

# %% [markdown]
# The plain gradient is speckled and spills over the object's rim. The deconvnet covers the whole
# picture: what came up decides nothing at its ReLUs, so the background is drawn as well. Guided
# backprop has both gates, and the object stands before an empty background. Mind what these maps
# leave out: they show sizes, no signs, and each is divided by its own largest value, so a faint map
# looks as strong as a strong one.
#
# ### Exercise: `guided_backprop`
# ★★★ · 30 minutes
#
# A copy is safe, but a copy of VGG-16 is half a gigabyte. The other way is to listen in on the
# network itself: a **full backward hook** on a module is called on the way back, as `hook(module,
# dx, dout)`. Both are tuples: `dout` holds the upstream gradient and `dx` what the module is about
# to hand on; what the hook returns instead of `None` is handed on in its place, as a tuple again.
# Three things go wrong with such hooks in practice:
#
# - **They stay.** A hook that isn't removed changes every later gradient, also in training. It
#   stays, too, where the network raises an exception before your code gets as far as `remove()`.
# - **They hear modules only.** A network that calls the function `F.relu` has no module to hook,
#   and you get the plain gradient without a word. Raise a `ValueError` there.
# - **They don't go with in-place ReLUs**: PyTorch raises an error.
#
# Hooks, a copy that you make yourself, or something cleverer: the tests take them all.
#
# <details><summary>Hint 1: what the hook returns</summary>
#
# `dx[0]` has been through the ordinary rule already. What is missing to make it the guided one?
#
# </details>
# <details><summary>Hint 2: whatever happens</summary>
#
# `module.register_full_backward_hook(hook)` returns a handle with a method `remove()`. Python runs
# a `finally:` block on the way out of its `try:`, whether by the normal way or by an exception.
#
# </details>
# <details><summary>Hint 3: the scores asked for</summary>
#
# `scores[:, y]` has shape (N, N): every image's score for every class in `y`. You need one score
# for each image, by `scores.gather(1, …)` or by `scores[torch.arange(N), y]`. Their sum can be
# differentiated at once, as no image has a part in another one's score.
#
# </details>


# %% exercise="guided_backprop" changes="X.grad, X.requires_grad, model.grad, model.statistics" without="utils.attribution, captum"
def guided_backprop(X, y, model):
    """Guided backprop from each image's score for a class (Springenberg et al., 2015).

    Every ReLU hands on dout · [dout > 0] · [x > 0], everything else its ordinary gradient.

    The model comes back as it was: no hook is left behind, even after an exception; its modules,
    their mode and the parameters' values are the same. X is not modified. Gradients left in `.grad`
    don't matter. Write it by hand: a library's, or utils.attribution's, earns no points.

    Args:
        X: images, float tensor (N, 3, H, W).
        y: the class asked for, for each image, int64 tensor (N,); not always the predicted one.
        model: from images to class scores, float tensor (N, C), not to probabilities. Its nn.ReLU
            modules may be at any depth; none works in place.

    Returns:
        guided: float tensor (N, 3, H, W), signed: what the first layer hands on, as it is.

    Raises:
        ValueError: the model has no nn.ReLU module (it may call F.relu, which has no hooks).
    """
    ### BEGIN SOLUTION
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError("there is no nn.ReLU module whose way back could be changed")
    X = X.detach().clone().requires_grad_()
    handles = [
        relu.register_full_backward_hook(lambda module, dx, dout: (dx[0].clamp(min=0),))
        for relu in relus
    ]
    try:
        score = model(X).gather(1, y[:, None]).sum()
        (guided,) = torch.autograd.grad(score, X)
    finally:
        for handle in handles:
            handle.remove()
    return guided
    ### END SOLUTION


# %% [markdown]
# **The values.**

# %% test="guided_backprop" points=5 aspect="the values"
X, y, model = random_images(13, 3, 3, 6, 9), torch.tensor([3, 0, 1]), tiny_network(13)
### BEGIN EXPECTED
each, layers = torch.arange(3), [*model.features, *model.classifier]
with torch.no_grad():
    inputs = [X]
    for layer in layers:
        inputs.append(layer(inputs[-1]))
scores = inputs[-1].requires_grad_()


def walk_back(target=lambda scores: scores[each, y], rule="guided", ruled=(0, 1, 2)):
    """From the gradient of the target back to X, by the rule in the ReLUs with these numbers."""
    (gradient,) = torch.autograd.grad(target(scores).sum(), scores)
    number = 3
    for layer, x in zip(reversed(layers), inputs[-2::-1], strict=True):
        if isinstance(layer, nn.ReLU):
            number -= 1
            if number in ruled:
                gradient = gradient.clamp(min=0)
            if rule == "guided" or number not in ruled:
                gradient = torch.where(x > 0, gradient, 0)
        else:
            (gradient,) = vector_jacobian_product(layer, [x], gradient)
    return gradient


expected = walk_back()
mistakes = {
    "it is the plain gradient: no ReLU goes back by the guided rule": lambda: walk_back(ruled=()),
    "x doesn't matter in the ReLUs, which is the deconvnet's rule": (
        lambda: walk_back(rule="deconvnet")
    ),
    "only the last ReLU goes back by the guided rule": lambda: walk_back(ruled=(2,)),
    "only the first ReLU goes back by the guided rule": lambda: walk_back(ruled=(0,)),
    "negative values are set to zero once, in the image, and not in every ReLU": (
        lambda: walk_back(ruled=()).clamp(min=0)
    ),
    "negative values of the result are set to zero: it is signed": expected.clamp(min=0),
    "the absolute value is taken: the result is signed": expected.abs(),
    "the result is multiplied by the image": expected * X,
    "the colour channels are summed": expected.sum(1),
    "the maximum over the colour channels is taken": expected.abs().amax(1),
    "each result is divided by its largest value: leave it as it is": (
        expected / expected.abs().amax((1, 2, 3), keepdim=True)
    ),
    "y is ignored: the predicted class is asked for": (
        lambda: walk_back(lambda scores: scores[each, scores.argmax(1)])
    ),
    "the scores of all classes are summed: each image is asked for its own": (
        lambda: walk_back(lambda scores: scores)
    ),
    "every image is asked for all classes in y: scores[:, y] has shape (N, N)": (
        lambda: walk_back(lambda scores: scores[:, y])
    ),
    "every image is asked for the first image's class": (
        lambda: walk_back(lambda scores: scores[:, y[0]])
    ),
    "the mean over the images' scores is taken, which divides by N": expected / 3,
    "the gradient of the loss is taken instead of the score's": (
        lambda: walk_back(lambda scores: F.cross_entropy(scores, y, reduction="sum"))
    ),
    "the gradient of the mean loss is taken instead of the score's": (
        lambda: walk_back(lambda scores: F.cross_entropy(scores, y))
    ),
    "the gradient of the softmax probability is taken instead of the score's": (
        lambda: walk_back(lambda scores: scores.softmax(1)[each, y])
    ),
    "the gradient of the log-probability is taken instead of the score's": (
        lambda: walk_back(lambda scores: scores.log_softmax(1)[each, y])
    ),
    "the model runs in training mode: BatchNorm must not use the batch's statistics": (
        lambda: reference.guided_backprop(X, y, tiny_network(13).train())
    ),
}
### END EXPECTED
check_close(
    guided_backprop(X, y, model), expected, "guided_backprop(X, y, model)", mistakes=mistakes
)
check_without(guided_backprop)
### BEGIN HIDDEN TESTS
for seed, shape, shared in [
    (0, (4, 3, 4, 6), False),
    (1, (1, 3, 9, 7), False),
    (2, (2, 3, 5, 8), True),
]:
    seed += reference.seed
    X, model = random_images(seed, *shape), tiny_network(seed, shared=shared)
    y = torch.randint(4, shape[:1], generator=torch.Generator().manual_seed(seed))
    expected = reference.guided_backprop(X, y, model)
    check_close(guided_backprop(X, y, model), expected, f"guided_backprop for images {shape}")
for parts in (False, True):
    model = awkward_network(reference.seed, parts=parts, hooks=True, mixed=True, gradients=True)
    X, y = random_images(reference.seed, 2, 3, 9, 8), torch.tensor([4, 1])
    expected = reference.guided_backprop(X, y, model)
    check_close(
        guided_backprop(X, y, model),
        expected,
        "guided_backprop for a network with a forward of its own",
    )
### END HIDDEN TESTS

# %% [markdown]
# **A network that calls F.relu.** Either raise a `ValueError`, or get it right all the same.

# %% test="guided_backprop" points=2 aspect="calls of F.relu"
X, y = random_images(14, 2, 3, 5, 6), torch.tensor([2, 0])
model = randomised(FunctionalNetwork(), 14)
### BEGIN EXPECTED
with_modules = reference.guided_backprop(X, y, tiny_network(14))
differentiable = X.clone().requires_grad_()
middle = F.relu(model.conv1(differentiable))
deep = model.conv2(middle)
upstream = F.one_hot(y, 4).double()[:, :, None, None].expand(deep.shape) / deep[0, 0].numel()
(plain,) = torch.autograd.grad(deep, differentiable, upstream * (deep > 0), retain_graph=True)
(at_middle,) = torch.autograd.grad(deep, middle, upstream * (deep > 0), retain_graph=True)
(expected,) = torch.autograd.grad(middle, differentiable, at_middle.clamp(min=0))
mistakes = {"it is the plain gradient, and nobody is told: raise a ValueError": plain}
### END EXPECTED
check_without(guided_backprop)
check_close(guided_backprop(X, y, tiny_network(14)), with_modules, "guided_backprop")
try:
    result = guided_backprop(X, y, model)
except ValueError:
    pass
else:
    name = "guided_backprop for a network that calls F.relu"
    check_close(result, expected, name, mistakes=mistakes)

# %% [markdown]
# **Written by hand**, and **everything as it was**.

# %% test="guided_backprop" points=2 aspect="written by hand"
X, y, model = random_images(16, 2, 3, 6, 9), torch.tensor([1, 3]), tiny_network(16)
### BEGIN EXPECTED
expected = reference.guided_backprop(X, y, model)
### END EXPECTED
check_close(guided_backprop(X, y, model), expected, "guided_backprop(X, y, model)")
check_without(guided_backprop)

# %% test="guided_backprop" points=3 aspect="everything as it was"
X, y, model = random_images(15, 2, 3, 6, 9), torch.tensor([2, 0]), tiny_network(15)
upstream = random_tensor(15, 2, 4)
### BEGIN EXPECTED
expected = reference.guided_backprop(X, y, model)
### END EXPECTED
check_close(guided_backprop(X, y, model), expected, "guided_backprop(X, y, model)")
assert hooks_left(guided_backprop, X[:, :2], y, model) == 0, (
    # Two colour channels: conv1 refuses.
    "guided_backprop leaves a hook behind after an exception in the model."
)
before = vector_jacobian_product(model, [X], upstream)[0]
after = gradient_afterwards(guided_backprop, (X, y, model), model, X, upstream)
assert torch.equal(before, after), (
    "guided_backprop changes the model, whose plain gradient is another one afterwards."
)
guided_backprop(X, y, tiny_network(15).train())
check_without(guided_backprop)
### BEGIN HIDDEN TESTS
model = tiny_network(reference.seed)
expected = reference.guided_backprop(X, y, model)
check_close(guided_backprop(X, y, model), expected, "guided_backprop for another network")
assert hooks_left(guided_backprop, X, y + 4, model) == 0, (
    "guided_backprop leaves a hook behind after an exception that a wrong class raises."
)
### END HIDDEN TESTS

# %% [markdown]
# First the three traps, on three networks that compute exactly the same scores.

# %%
from textwrap import shorten


class CallsRelu:
    """Stands for a torch.autograd.Function, and calls F.relu."""

    apply = F.relu


in_place = load_model("base").to(device)
for module in in_place.modules():
    if isinstance(module, nn.ReLU):
        module.inplace = True
expected = gradient_of_score(images[:4], labels[:4], networks["guided"])
plain = gradient_of_score(images[:4], labels[:4], base)
for name, network in {
    "nn.ReLU": base,
    "F.relu": replace_relus(base, CallsRelu),
    "nn.ReLU(inplace=True)": in_place,
}.items():
    try:
        guided = guided_backprop(images[:4], labels[:4], network)
    except (ValueError, RuntimeError) as error:
        print(f"{name}: {type(error).__name__}: {shorten(str(error), 90)}")
    else:
        difference = (guided - expected).abs().max() / expected.abs().max()
        print(f"{name}: differs from the copy's by {difference:.1g} of the largest value")

# %% [markdown]
# Hooks and copy agree. The second network is the dangerous one: without your `ValueError` you would
# have got a plain gradient and called it guided. In-place ReLUs at least fail with an error;
# torchvision's own networks have them, `load_model` switches them off, and a copy by
# `replace_relus` doesn't mind. (If yours handles the second or the third network too: well done.)
#
# Now the pictures again, this time with signs and in colour: what should become brighter in which
# colour, and what darker?

# %%
plain = gradient_of_score(shown, shown_labels, base)
guided = guided_backprop(shown, shown_labels, base)
figure, axes = plt.subplots(2, len(shown), figsize=(11, 4.2), layout="constrained")
figure.suptitle("The same in colour: grey is no change, and each picture has a scale of its own")
for row, name, gradients in zip(axes, ("backprop", "guided"), (plain, guided), strict=True):
    row[0].set_ylabel(name)
    for ax, gradient in zip(row, gradients.permute(0, 2, 3, 1).cpu(), strict=True):
        ax.imshow((0.5 + 0.5 * gradient / gradient.abs().quantile(0.998)).clip(0, 1))
without_ticks(axes)
plt.show()


def share_inside(maps, masks):
    """How much of each map lies on the masks' pixels."""
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


print(f"an object covers {masks.float().mean():.0%} of its scene")
for rule, network in networks.items():
    maps = pixel_map(gradient_of_score(images, labels, network)).cpu()
    brightest = maps.flatten(1).argmax(1, keepdim=True)
    hits = masks.flatten(1).gather(1, brightest).float().mean()
    inside = share_inside(maps, masks).mean()
    print(f"{rule:9}  {inside:.0%} of the map on the object, brightest pixel on it in {hits:.0%}")

# %% [markdown]
# Dots, bricks and grids can be read off the guided pictures, hardly any off the plain gradients.
# They are nearly grey, since the network was trained with the colour channels shuffled. The numbers
# agree with the eye: the object covers about an eighth of its scene, and the guided map has more
# than half of its weight there, nearly twice as much as the plain gradient's. Remember these
# numbers in section 6, where we ask what they are worth.
#
# ### Question: is it a gradient?
# ★★☆ · 15 minutes

# %% [markdown] question="is_it_a_gradient" points=4
# Let $f(x_1, x_2) = \mathrm{ReLU}(x_1) - \mathrm{ReLU}(x_2)$ and $g(x_1, x_2) =
# \mathrm{ReLU}(x_1) + \mathrm{ReLU}(x_2)$.
#
# 1. At the point $(2, 1)$, send $\partial f = 1$ back by each of the three rules. What do
#    you get for $(x_1, x_2)$? What would you tell somebody who reads the guided result as "$x_2$
#    doesn't matter to $f$"?
# 2. Do the same for $g$ at the point $(2, -1)$. Which of the three answers can't be right about
#    small changes of $x_1$ and $x_2$, and why?
#
# ### BEGIN SOLUTION
# 1 (2 points). The upstream gradient at the two ReLUs is $(1, -1)$. Backprop gives $(1, -1)$, the
# deconvnet and guided backprop give $(1, 0)$ (1 point). $x_2$ matters as much as $x_1$, only in the
# other direction: evidence *against* is left out by construction, so its absence from the map says
# nothing (1 point).
#
# 2 (2 points). The upstream gradient is $(1, 1)$. Backprop and guided backprop give $(1, 0)$, the
# deconvnet gives $(1, 1)$ (1 point). The deconvnet's can't be right: near $x_2 = -1$ the value of
# $g$ doesn't depend on $x_2$ at all, but the deconvnet doesn't look at $x$ (1 point). Also accept:
# neither deconvnet nor guided backprop is the gradient of any function of the image, so no size of
# change in the score follows from them.
# ### END SOLUTION

# %% [markdown]
# ## 4. The deconvnet, by hand (optional)
#
# The deconvnet is older than the view of it that you have just seen. Zeiler and Fergus thought of a
# network that runs *downwards*: take the value that interests you, and undo the layers one by one,
# each by a counterpart. A ReLU is undone by a ReLU, a convolution by the transposed convolution
# with the same weights (lab 01: the flipped kernel), and max pooling by **unpooling**. Pooling
# forgets where in its window the maximum was, so that place is written down on the way up. These
# notes are the **switches**.
#
# ### Exercise: `max_unpool`
# ★★☆ · 20 minutes · optional
#
# PyTorch's pooling gives switches if asked, `F.max_pool2d(x, 2, return_indices=True)`: for each
# window the place of its maximum, with the places of a map counted row by row.
#
# <details><summary>Hint</summary>
#
# Start from zeros of shape (N, K, H · W). `scatter_add_(2, places, values)` adds values at places
# along axis 2. Or write loops, where `divmod(place, W)` is the row and the column.
#
# </details>


# %% exercise="max_unpool"
def max_unpool(z, switches, size):
    """Put each value where its window had its maximum; everywhere else is zero.

    Where windows overlap, one place can be the maximum of several: their values add up, as in
    pooling's backward pass.

    Args:
        z: values to put back, float tensor (N, K, h, w).
        switches: the place of each window's maximum, int64 tensor (N, K, h, w): row · W + column
            in the map before pooling.
        size: (H, W), the size of that map.

    Returns:
        unpooled: float tensor (N, K, H, W).
    """
    ### BEGIN SOLUTION
    N, K = z.shape[:2]
    unpooled = z.new_zeros(N, K, size[0] * size[1])
    unpooled.scatter_add_(2, switches.flatten(2), z.flatten(2))
    return unpooled.reshape(N, K, *size)
    ### END SOLUTION


# %% test="max_unpool" points=4 aspect="side by side, and overlapping"
for window, stride, size in [((2, 3), (2, 3), (4, 9)), ((2, 3), (1, 2), (4, 7))]:
    x = random_images(20, 2, 3, *size)
    pooled, switches = F.max_pool2d(x, window, stride, return_indices=True)
    z = random_images(21, *pooled.shape) - 0.3

    ### BEGIN EXPECTED
    def put_back(z, places, size):
        """Add up values at places, which are counted row by row."""
        values, places = (tensor.expand(2, 3, -1, -1).flatten(2) for tensor in (z, places))
        empty = torch.zeros(2, 3, size[0] * size[1], dtype=torch.float64)
        return empty.scatter_add(2, places, values).reshape(2, 3, *size)

    (expected,) = vector_jacobian_product(F.max_pool2d, [x, window, stride], z)
    H, W = size
    first = torch.arange(H * W).reshape(1, 1, H, W)[..., :: stride[0], :: stride[1]]
    first = first[..., : z.shape[2], : z.shape[3]]
    mistakes = {
        "values overwrite each other where windows overlap: they have to add up": (
            F.max_unpool2d(z, switches, window, stride, output_size=size)
        ),
        "the switches aren't used: each value is in its window's first place": (
            put_back(z, first, size)
        ),
        "the switches aren't used: each value fills a whole window": (
            F.interpolate(z, size, mode="nearest")
        ),
        "places are counted column by column: they are row · W + column": (
            put_back(z, switches, (W, H)).transpose(2, 3)
        ),
        "switches are divided by H: they are row · W + column": put_back(
            z, ((switches // H).clamp(max=H - 1) * W + switches % H), size
        ),
        "the first channel's switches are used for all": put_back(z, switches[:, :1], size),
        "the first image's switches are used for all": put_back(z, switches[:1], size),
        "negative values are left out: unpooling isn't a ReLU": (
            put_back(z.clamp(min=0), switches, size)
        ),
        "the maxima themselves are put back, not z": put_back(pooled, switches, size),
        "ones are put back, not z": put_back(torch.ones_like(z), switches, size),
    }
    ### END EXPECTED
    name = f"max_unpool for windows of {window}, {stride} apart"
    check_close(max_unpool(z, switches, size), expected, name, mistakes=mistakes)
### BEGIN HIDDEN TESTS
for seed, size, window, stride in [(0, (5, 8), 3, 2), (1, (7, 4), 2, 2), (2, (3, 9), (3, 1), 1)]:
    x = random_images(reference.seed + seed, 3, 2, *size)
    pooled, switches = F.max_pool2d(x, window, stride, return_indices=True)
    z = random_tensor(reference.seed + seed, *pooled.shape)
    expected = reference.max_unpool(z, switches, size)
    check_close(max_unpool(z, switches, size), expected, f"max_unpool for a map of {size}")
### END HIDDEN TESTS

# %% [markdown]
# What are the switches worth? Pool a thin ring, and put the maxima back with their switches and
# without them, each in its window's first place.

# %%
across = torch.linspace(-1, 1, 40, dtype=torch.float64)
ring = torch.exp(-(((across[:, None] ** 2 + across**2).sqrt() - 0.7) ** 2) / 0.004)[None, None]
places = torch.arange(ring.numel()).reshape(ring.shape)
figure, axes = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
figure.suptitle("Switches remember where in its window each maximum was")
for row, window in zip(axes, (2, 4), strict=True):
    pooled, switches = F.max_pool2d(ring, window, return_indices=True)
    without = places[..., ::window, ::window]
    panels = {
        "input": ring,
        f"pooled, {window} × {window}": pooled,
        "unpooled with switches": max_unpool(pooled, switches, (40, 40)),
        "without switches": max_unpool(pooled, without, (40, 40)),
    }
    for ax, (title, panel) in zip(row, panels.items(), strict=True):
        picture = ax.imshow(panel[0, 0], cmap="viridis", vmin=0, vmax=1)
        ax.set_title(title)
without_ticks(axes)
figure.colorbar(picture, ax=axes, shrink=0.6, label="value")
plt.show()

# %% [markdown]
# The maxima return to the ring with the switches. Without them they go to the corners of a coarse
# grid, and a ring becomes a square. Two things are worth noting. The unpooled map is mostly zeros:
# what pooling threw away stays lost. And the switches come from *this image*: whatever the signal
# from above says, it is laid out along the image's own lines. Some of what looks like the network's
# knowledge in such pictures is the image itself.
#
# ### Exercise: `deconvnet`
# ★★★ · 35 minutes · optional
#
# Go up through the layers and keep what the way down will need; start from a 1 in the class's
# place and zeros elsewhere; go down. (Zeiler and Fergus start from the activation itself, which
# only changes the picture's scale.) In formulas, with $z$ the signal on its way:
#
# | layer | on the way up | on the way down |
# |---|---|---|
# | linear | $y = W x + b$ | $W^\top z$ |
# | flatten | (N, K, h, w) → (N, K·h·w) | back to (N, K, h, w) |
# | max pooling | maximum of each window | $z$ at the switch, 0 elsewhere |
# | ReLU | $\max(x, 0)$ | $\max(z, 0)$ |
# | convolution | $y = w \star x + b$ | $z$ convolved with $w$: `F.conv_transpose2d` |
#
# Biases were added to what came up. On the way down they play no part.
#
# <details><summary>Hint 1: what to keep</summary>
#
# A list with an entry for each layer. Flatten and pooling need their input's shape, pooling also
# its switches.
#
# </details>
# <details><summary>Hint 2: unpooling</summary>
#
# As the windows lie side by side here, `F.max_unpool2d(z, switches, kernel_size, stride,
# output_size=size)` does the same as your `max_unpool`.
#
# </details>


# %% exercise="deconvnet" changes="X.grad, X.requires_grad, model.grad" without="captum"
def deconvnet(X, y, model):
    """The deconvnet's picture of a class in each image (Zeiler & Fergus, 2014).

    The signal starts as 1 in the place of class y_n and 0 in all others, and runs down through the
    layers' counterparts. Where there is a ReLU, it goes on as ReLU(z). Calling Captum earns no
    points.

    Args:
        X: images, float tensor (N, C, H, W).
        y: the class asked for, for each image, int64 tensor (N,); not always the predicted one.
        model: nn.Sequential of these layers, in any order that makes sense: nn.Conv2d (stride 1, no
            dilation, one group, zero padding given in numbers, any kernel size), nn.ReLU,
            nn.MaxPool2d (no padding; windows lie side by side, and a last row or column that fills
            no window is left out), nn.Flatten, nn.Linear. Its result are the scores (N, classes).

    Returns:
        z: float tensor (N, C, H, W), signed: what comes out below the first layer, as it is.
    """
    ### BEGIN SOLUTION
    ascent = []
    x = X
    with torch.no_grad():
        for layer in model:
            shape, switches = x.shape, None
            if isinstance(layer, nn.MaxPool2d):
                x, switches = F.max_pool2d(x, layer.kernel_size, layer.stride, return_indices=True)
            else:
                x = layer(x)
            ascent.append((layer, shape, switches))

        z = F.one_hot(y, x.shape[1]).to(x.dtype)
        for layer, shape, switches in reversed(ascent):
            if isinstance(layer, nn.Linear):
                z = z @ layer.weight
            elif isinstance(layer, nn.Flatten):
                z = z.reshape(shape)
            elif isinstance(layer, nn.MaxPool2d):
                z = F.max_unpool2d(
                    z, switches, layer.kernel_size, layer.stride, output_size=shape[2:]
                )
            elif isinstance(layer, nn.ReLU):
                z = z.relu()
            else:
                z = F.conv_transpose2d(z, layer.weight, padding=layer.padding)
    return z
    ### END SOLUTION


# %% test="deconvnet" points=6 aspect="a whole network"
X, y = random_images(30, 3, 2, 7, 12), torch.tensor([4, 0, 2])
model = randomised(
    nn.Sequential(
        nn.Conv2d(2, 5, (3, 5), padding=(1, 2)),
        nn.ReLU(),
        nn.MaxPool2d((2, 3)),
        nn.Conv2d(5, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(10, 5),
    ),
    30,
)
### BEGIN EXPECTED
with torch.no_grad():
    inputs = [X]
    for layer in model:
        inputs.append(layer(inputs[-1]))
one = F.one_hot(y, 5).double()


def walk_down(z=one, **instead):
    """From z down to the images; for a kind of layer in `instead`, by the function given there."""
    for layer, x in zip(reversed(model), inputs[-2::-1], strict=True):
        kind = type(layer).__name__
        if kind in instead:
            z = instead[kind](z, x, layer)
        elif kind == "ReLU":
            z = z.clamp(min=0)
        else:
            (z,) = vector_jacobian_product(layer, [x], z)
    return z


def into_the_first_place(z, x, layer):
    first = torch.arange(x[0, 0].numel()).reshape(x.shape[2:])
    size = layer.kernel_size if isinstance(layer.kernel_size, tuple) else (layer.kernel_size,) * 2
    places = first[:: size[0], :: size[1]][: z.shape[2], : z.shape[3]].expand_as(z)
    return F.max_unpool2d(z, places, size, output_size=x.shape[2:])


expected = walk_down()
mistakes = {
    "the ReLU's input decides what passes, which is the plain gradient": (
        lambda: walk_down(ReLU=lambda z, x, layer: z * (x > 0))
    ),
    "both ways decide what passes in the ReLUs, which is guided backprop": (
        lambda: walk_down(ReLU=lambda z, x, layer: z.clamp(min=0) * (x > 0))
    ),
    "there is no ReLU on the way down": lambda: walk_down(ReLU=lambda z, x, layer: z),
    "pooling is undone without its switches: each value is in its window's first place": (
        lambda: walk_down(MaxPool2d=into_the_first_place)
    ),
    "pooling is undone without its switches, by enlarging": (
        lambda: walk_down(MaxPool2d=lambda z, x, layer: F.interpolate(z, x.shape[2:]))
    ),
    "the kernels aren't flipped on the way down: a cross-correlation where a convolution is": (
        lambda: walk_down(
            Conv2d=lambda z, x, layer: F.conv2d(
                z, layer.weight.transpose(0, 1), padding=layer.padding
            )
        )
    ),
    "the biases of the convolutions are taken off on the way down: they play no part": (
        lambda: walk_down(
            Conv2d=lambda z, x, layer: F.conv_transpose2d(
                z - layer.bias.detach()[:, None, None],
                layer.weight.detach(),
                None,
                1,
                layer.padding,
            )
        )
    ),
    "the signal starts from the score, not from 1": lambda: walk_down(one * inputs[-1]),
    "the signal starts from all the scores, not from one class": lambda: walk_down(inputs[-1]),
    "the signal starts from the softmax probability, not from 1": (
        lambda: walk_down(one * inputs[-1].softmax(1))
    ),
    "the signal starts from 1 in every class": lambda: walk_down(torch.ones_like(one)),
    "y is ignored: the predicted class is asked for": (
        lambda: walk_down(F.one_hot(inputs[-1].argmax(1), 5).double())
    ),
    "every image is asked for the first image's class": (lambda: walk_down(one[:1].expand_as(one))),
    "negative values of the result are set to zero: there is no ReLU below the first layer": (
        lambda: walk_down().clamp(min=0)
    ),
}
### END EXPECTED
check_close(deconvnet(X, y, model), expected, "deconvnet(X, y, model)", mistakes=mistakes)
check_without(deconvnet)
### BEGIN HIDDEN TESTS
for seed, channels, size, places, layers in [
    (0, 3, (6, 5), 6, [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, (1, 2), padding=(0, 1))]),
    (1, 1, (9, 4), 8, [nn.Conv2d(1, 3, 2, padding=1), nn.ReLU(), nn.MaxPool2d((3, 2)), nn.ReLU()]),
]:
    seed += reference.seed
    X = random_images(seed, 4, channels, *size)
    with torch.no_grad():
        flat = nn.Sequential(*layers).double()(X).flatten(1).shape[1]
    head = [nn.Flatten(), nn.Linear(flat, places), nn.ReLU(), nn.Linear(places, 3)]
    model = randomised(nn.Sequential(*layers, *head), seed)
    # The last of the three classes is never asked for.
    y = torch.randint(2, (4,), generator=torch.Generator().manual_seed(seed))
    expected = reference.deconvnet(X, y, model)
    check_close(
        deconvnet(X, y, model),
        expected,
        f"deconvnet for images {tuple(X.shape)} and a network of {len(model)} layers",
    )
### END HIDDEN TESTS

# %% [markdown]
# To see it on our scenes we need `base` as a sequence of such layers. BatchNorm with fixed
# statistics is a scale and a shift, so it can be folded into the convolution before it, and
# averaging 8 × 8 places before a linear layer is a linear layer with 64 times as many, smaller
# weights.

# %%
from torch.nn.utils.fusion import fuse_conv_bn_eval

layers = dict(base.features.named_children())
sequence = []
for name, layer in layers.items():
    if isinstance(layer, nn.Conv2d):
        sequence.append(fuse_conv_bn_eval(layer, layers[name.replace("conv", "norm")]))
    elif isinstance(layer, nn.ReLU | nn.MaxPool2d):
        sequence.append(layer)
linear = nn.Linear(128 * 64, 10, device=device)
with torch.no_grad():
    linear.weight.copy_(base.classifier.linear.weight.repeat_interleave(64, dim=1) / 64)
    linear.bias.copy_(base.classifier.linear.bias)
sequence = nn.Sequential(*sequence, nn.Flatten(), linear)

normalised = layers["normalize"](images[:4])
with torch.no_grad():
    print(f"scores differ by at most {(sequence(normalised) - base(images[:4])).abs().max():.1g}")
by_hand = deconvnet(normalised, labels[:4], sequence)
by_autograd = {
    rule: gradient_of_score(normalised, labels[:4], replace_relus(sequence, function))
    for rule, function in rules.items()
}

figure, axes = plt.subplots(3, 4, figsize=(9, 6.4), layout="constrained")
for rule, gradients in by_autograd.items():
    difference = (by_hand - gradients).abs().max() / gradients.abs().max()
    print(
        f"by hand, and {rule} by autograd: differ by at most {difference:.1g} of the largest value"
    )
figure.suptitle("The deconvnet by hand and by autograd: the same pictures")
rows = {"scene": images[:4], "by hand": by_hand, "by autograd": by_autograd["deconvnet"]}
for row, (name, pictures) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name)
    for ax, picture in zip(row, pictures.permute(0, 2, 3, 1).cpu().detach(), strict=True):
        if name != "scene":
            picture = (0.5 + 0.5 * picture / picture.abs().quantile(0.998)).clip(0, 1)
        ax.imshow(picture)
without_ticks(axes)
plt.show()

# %% [markdown]
# No coincidence: multiplying by $W^\top$, the transposed convolution and unpooling *are* the
# backward passes of a linear layer, a convolution (lab 01) and max pooling. Running a network
# downwards is backpropagation, and the ReLU is the only place where the deconvnet differs from it
# (Simonyan et al., 2014). The pictures show the distractors, too, and a regular grain all over: the
# traces of unpooling, not of the scene.
#
# ## 5. One neuron
#
# Nothing says that we have to start from a class. Any **neuron** deep in the network, one channel
# at one place, has an activation, and the activation has a gradient with respect to the image.
# Which pixels would have to change for it to fire more?
#
# $$\frac{\partial A_k(r, c)}{\partial X}$$
#
# ### Exercise: `neuron_gradient`
# ★★☆ · 20 minutes
#
# This one is the plain gradient. Handed a network from `replace_relus`, it will be the deconvnet's
# or the guided one.
#
# <details><summary>Hint</summary>
#
# `layer.register_forward_hook(hook)` calls `hook(module, inputs, output)` whenever the layer has
# run, and returns a handle to remove it by. Let the hook put the output into a list, neither
# detached nor copied: it has to stay the tensor that was computed from the images.
#
# </details>


# %% exercise="neuron_gradient" changes="X.grad, X.requires_grad, model.grad, model.statistics, layer.grad, layer.statistics" without="captum"
def neuron_gradient(X, model, layer, channel, row, column):
    """The gradient of one neuron's activation with respect to each image.

        ∂A(n, channel, row, column) / ∂X(n), for every image n

    No hook is left behind, even after an exception. The model stays in the mode in which it comes,
    and its parameters and X keep their values; gradients left in `.grad` don't matter. Calling
    Captum earns no points.

    Args:
        X: images, float tensor (N, 3, H, W).
        model: nn.Module that takes the images. None of its modules works in place.
        layer: the module in the model whose output is A, float tensor (N, K, h, w); it runs once.
        channel, row, column: which neuron, the same in every image; integers, not negative.

    Returns:
        gradient: float tensor (N, 3, H, W), signed.
    """
    ### BEGIN SOLUTION
    X = X.detach().clone().requires_grad_()
    captured = []
    handle = layer.register_forward_hook(lambda module, inputs, output: captured.append(output))
    try:
        model(X)
    finally:
        handle.remove()
    (activations,) = captured
    return torch.autograd.grad(activations[:, channel, row, column].sum(), X)[0]
    ### END SOLUTION


# %% [markdown]
# **The values**, against central differences: every pixel is nudged up and down.

# %% test="neuron_gradient" points=5 aspect="the values"
X, model = random_images(40, 2, 3, 6, 9), tiny_network(40)
channel, row, column = 1, 1, 2
### BEGIN EXPECTED
lower = model.features[:5]  # up to conv2


def by_nudging(target, upto=lower):
    """The gradient of sum(target(A)) for X by central differences."""
    with torch.no_grad():
        return torch.from_numpy(
            eval_numerical_gradient_array(
                lambda x: target(upto(torch.from_numpy(x))).sum().item(), X.numpy(), 1.0
            )
        )


expected = by_nudging(lambda A: A[:, channel, row, column])
mistakes = {
    "row and column are exchanged": lambda: by_nudging(lambda A: A[:, channel, column, row]),
    "the whole channel is added up: one place of it is asked for": (
        lambda: by_nudging(lambda A: A[:, channel])
    ),
    "the whole channel is averaged: one place of it is asked for": (
        lambda: by_nudging(lambda A: A[:, channel].mean((1, 2)))
    ),
    "all channels are added up at that place": lambda: by_nudging(lambda A: A[:, :, row, column]),
    "the layer's whole output is added up": lambda: by_nudging(lambda A: A),
    "only the first image's neuron is asked for": (
        lambda: by_nudging(lambda A: A[0, channel, row, column])
    ),
    "the mean over the images is taken, which divides by N": expected / 2,
    "the neuron's square is differentiated, or the gradient multiplied by the activation": (
        lambda: by_nudging(lambda A: A[:, channel, row, column] ** 2 / 2)
    ),
    "the layer's input is asked, not its output": (
        lambda: by_nudging(lambda A: A[:, channel, row, column], model.features[:4])
    ),
    "the activation goes through a ReLU first": (
        lambda: by_nudging(lambda A: A[:, channel, row, column].relu())
    ),
    "the sign is lost: the gradient is signed": expected.abs(),
    "negative values are set to zero: the gradient is signed": expected.clamp(min=0),
    "the colour channels are summed": expected.sum(1),
    "only the image of the first axis is returned": expected[0],
}
### END EXPECTED
check_close(
    neuron_gradient(X, model, model.features.conv2, channel, row, column),
    expected,
    "neuron_gradient of model.features.conv2",
    tolerance=1e-6,
    mistakes=mistakes,
)
check_without(neuron_gradient)
### BEGIN HIDDEN TESTS
for seed, shape, name, neuron in [
    (0, (3, 3, 4, 6), "conv2", (1, 0, 1)),
    (1, (1, 3, 8, 7), "norm1", (3, 7, 2)),
    (2, (2, 3, 5, 12), "norm2", (0, 1, 3)),
    (3, (2, 3, 5, 12), "pool", (2, 1, 0)),
]:
    seed += reference.seed
    X, model = random_images(seed, *shape), tiny_network(seed)
    layer = model.features.get_submodule(name)
    expected = reference.neuron_gradient(X, model, layer, *neuron)
    check_close(
        neuron_gradient(X, model, layer, *neuron),
        expected,
        f"neuron_gradient of neuron {neuron} of {name} for images {shape}",
    )
for parts in (False, True):
    options = {"parts": parts, "functional": True, "hooks": True, "mixed": True}
    model = awkward_network(reference.seed, **options)
    X = random_images(reference.seed, 2, 3, 9, 8)
    for path in (*model.maps, *model.blocks):
        layer = model.get_submodule(path)
        expected = reference.neuron_gradient(X, model, layer, 1, 2, 0)
        check_close(
            neuron_gradient(X, model, layer, 1, 2, 0),
            expected,
            f"neuron_gradient of {path} of a network with a forward of its own",
        )
### END HIDDEN TESTS

# %% [markdown]
# **Everything as it was.**

# %% test="neuron_gradient" points=3 aspect="everything as it was"
X, model = random_images(41, 2, 3, 6, 9), tiny_network(41)
### BEGIN EXPECTED
expected = reference.neuron_gradient(X, model, model.features.relu2, 1, 0, 2)
### END EXPECTED
gradient = neuron_gradient(X, model, model.features.relu2, 1, 0, 2)
check_close(gradient, expected, "neuron_gradient of model.features.relu2")
assert hooks_left(neuron_gradient, X[:, :2], model, model.features.relu2, 1, 0, 2) == 0, (
    # Two colour channels: conv1 refuses.
    "neuron_gradient leaves its hook behind after an exception in the model."
)
training = tiny_network(41).train()
neuron_gradient(X, training, training.features.relu2, 1, 0, 2)
check_without(neuron_gradient)
### BEGIN HIDDEN TESTS
model = tiny_network(reference.seed)
layer = model.features.conv2
expected = reference.neuron_gradient(X, model, layer, 1, 0, 2)
check_close(
    neuron_gradient(X, model, layer, 1, 0, 2), expected, "neuron_gradient for another network"
)
assert hooks_left(neuron_gradient, X, model, layer, 99, 0, 2) == 0, (
    "neuron_gradient leaves its hook behind after an exception that a wrong channel raises."
)
### END HIDDEN TESTS

# %% [markdown]
# Which neurons are worth a look? Those of which we know what excites them. So search many pictures
# for the places where a channel fires most, and cut out what it saw there. That is its **receptive
# field**, a square of `size` × `size` pixels. Lab 02 computes such sizes; to cut one out, we need
# its place as well. The next neuron to the right sees the same square, `stride` pixels further
# right, and the first one's square begins at `offset`, which is negative: it hangs over the
# border, into the padding.
#
# $$\text{neuron } (r, c) \text{ sees the rows from } \mathit{offset} + \mathit{stride} \cdot r
#   \text{ and the columns from } \mathit{offset} + \mathit{stride} \cdot c$$
#
# For the ReLUs of our network these three numbers are:

# %% given=true fold=false
RECEPTIVE_FIELDS = {  # (size, stride, offset), in pixels, along both axes
    "relu1": (3, 1, -1),
    "relu2": (8, 2, -3),
    "relu3": (18, 4, -7),
    "relu4": (26, 4, -11),
    "relu5": (46, 8, -19),
    "relu6": (62, 8, -27),
}

# %% [markdown]
# ### Exercise: `top_patches`
# ★★☆ · 25 minutes
#
# Two rules keep the patches honest. From each picture comes at most one, or a single striped object
# might fill the list. And a picture in which the channel is nowhere positive hasn't excited it at
# all: a channel that answers to two pictures of a hundred has two patches, however many you want.
#
# <details><summary>Hint 1: from each picture its strongest place</summary>
#
# `values, places = maps.flatten(1).max(1)` gives, for maps (N, h, w), each map's largest value and
# its place, counted row by row. `divmod(place, w)` is the row and the column.
#
# </details>
# <details><summary>Hint 2: at the border</summary>
#
# A slice that begins at −3 doesn't begin outside of the picture: Python counts it from the other
# end.
#
# </details>


# %% exercise="top_patches"
def top_patches(X, activations, channel, field, count):
    """The patches of pictures that excite one channel of a layer most.

    From each picture comes at most one patch: what the neuron sees at whose place the channel is
    largest. A picture in which the channel is nowhere positive (> 0) has none. The neuron at
    (row, column) sees the `size` rows of pixels from offset + stride · row on, and the `size`
    columns from offset + stride · column on; of these, the patch has those that lie in the picture.

    Args:
        X: pictures, float tensor (N, 3, H, W).
        activations: the layer's output for them, float tensor (N, K, h, w), of any sign.
        channel: which of the K channels, int.
        field: (size, stride, offset), three ints: the layer's receptive field, along both axes.
        count: how many patches are wanted, int. Where fewer pictures excite the channel, there are
            fewer.

    Returns:
        patches: list of tuples (image, window, patch), the largest activation first.
            image: int, the picture's place in X.
            window: (top, bottom, left, right), four ints: the patch has the picture's rows from top
                to bottom − 1, and its columns from left to right − 1.
            patch: float tensor (3, bottom − top, right − left), these pixels of the picture.
    """
    ### BEGIN SOLUTION
    size, stride, offset = field
    H, W = X.shape[2:]
    values, places = activations[:, channel].flatten(1).max(1)
    patches = []
    for image in values.argsort(descending=True)[:count].tolist():
        if values[image] > 0:
            row, column = divmod(places[image].item(), activations.shape[3])
            top, left = offset + stride * row, offset + stride * column
            bottom, right = min(top + size, H), min(left + size, W)
            top, left = max(top, 0), max(left, 0)
            patch = X[image, :, top:bottom, left:right]
            patches.append((image, (top, bottom, left, right), patch))
    return patches
    ### END SOLUTION


# %% given=true
def parts_of(patches):
    """What top_patches has returned: the pictures' numbers, the windows (k, 4), and the patches."""
    name = "top_patches(X, activations, channel, field, count)"
    assert patches is not None, f"{name} returned None; is a `return` missing?"
    assert isinstance(patches, list | tuple), f"{name}: expected a list of tuples."
    rows = [
        check_tuple(row, ("image", "window", "patch"), f"an entry of {name}") for row in patches
    ]
    sides = ("top", "bottom", "left", "right")
    windows = [check_tuple(row[1], sides, f"a window of {name}") for row in rows]
    whole = None if rows else int
    numbers, windows = np.array([row[0] for row in rows], whole), np.array(windows, whole)
    return numbers, windows.reshape(-1, 4), [row[2] for row in rows]


# %% test="top_patches" points=2 aspect="which pictures"
X, activations = random_images(50, 8, 3, 15, 22), 2 * random_images(50, 8, 3, 5, 7) - 1
activations[2, 1, 2, 4], activations[2, 1, 3, 1], activations[2, 1, 1, 1] = 3, 2.9, 2.8
activations[6, 1, 1, 5], activations[0, 1, 3, 2], activations[3, 1, 2, 2] = 2.5, 2, 1.5
activations[5, 1, 2, 3], activations[7, 2, 1, 3], activations[4, 0, 2, 2] = -4, 3.5, 2.7
### BEGIN EXPECTED
maps = activations[:, 1].flatten(1)


def ranked(strength):
    """The numbers of the four pictures with the largest strength."""
    return strength.argsort(descending=True)[:4].numpy()


expected = np.array(
    [image for image, _, _ in reference.top_patches(X, activations, 1, (6, 3, -2), 4)]
)
mistakes = {
    "several patches come from one picture: at most one may": ranked(maps.flatten()) // 35,
    "the smallest activation comes first": ranked(-maps.amax(1)),
    "the pictures are in their own order: the largest activation comes first": np.sort(expected),
    "the pictures aren't ranked: the first ones are taken": np.arange(4),
    "pictures are ranked by the mean of their map, not by its maximum": ranked(maps.mean(1)),
    "absolute values are compared: a negative activation isn't excitement": (
        ranked(maps.abs().amax(1))
    ),
    "the channel is ignored: the first one is searched": (
        ranked(activations[:, 0].flatten(1).amax(1))
    ),
    "all channels are searched": ranked(activations.flatten(1).amax(1)),
    "`count` is ignored: every picture has a patch": (
        maps.amax(1).argsort(descending=True).numpy()
    ),
}
### END EXPECTED
numbers, _, _ = parts_of(top_patches(X, activations, 1, (6, 3, -2), 4))
check_close(numbers, expected, "the pictures of top_patches", mistakes=mistakes, indices=True)

# %% test="top_patches" points=2 aspect="windows inside of the pictures"
X, activations = random_images(52, 3, 3, 15, 22), random_images(53, 3, 4, 5, 7)
activations[2, 1, 3, 2], activations[0, 1, 1, 4] = 3, 2
### BEGIN EXPECTED
expected = np.array([[7, 13, 4, 10], [1, 7, 10, 16]])
rows, columns = np.array([[3, 2], [1, 4]]).T
flat = 7 * rows + columns


def windows(top, left, size=6):
    return np.stack([top, top + size, left, left + size], 1).clip(0, [15, 15, 22, 22])


def at(rows, columns, stride=3, offset=-2):
    return windows(offset + stride * rows, offset + stride * columns)


top, bottom, left, right = expected.T
mistakes = {
    "rows and columns are exchanged: a window is (top, bottom, left, right)": at(columns, rows),
    "the place is divided by the map's height: its rows are w long": at(flat // 5, flat % 5),
    "the offset is left out": at(rows, columns, offset=0),
    "the offset is subtracted: it is negative already": at(rows, columns, offset=2),
    "the stride is left out": at(rows, columns, stride=1),
    "the offset is multiplied by the stride": at(rows, columns, offset=-6),
    "size and stride are exchanged": windows(-2 + 6 * rows, -2 + 6 * columns, 3),
    "stride and offset are exchanged": at(rows, columns, stride=-2, offset=3),
    "the window is centred on stride · index: it begins at offset + stride · index": (
        at(rows, columns, offset=-3)
    ),
    "bottom and right are the last pixels: they should be the ones after": (
        expected - np.array([0, 1, 0, 1])
    ),
    "the window is (top, left, bottom, right): its order is top, bottom, left, right": (
        np.stack([top, left, bottom, right], 1)
    ),
    "the window has a height and a width: bottom and right are rows and columns of the picture": (
        np.stack([top, bottom - top, left, right - left], 1)
    ),
    "the windows are in another order than the pictures": expected[::-1],
}
### END EXPECTED
_, came, _ = parts_of(top_patches(X, activations, 1, (6, 3, -2), 2))
check_close(came, expected, "the windows of top_patches", mistakes=mistakes, indices=True)

# %% test="top_patches" points=1 aspect="patches inside of the pictures"
X, activations = random_images(54, 3, 3, 15, 22), random_images(55, 3, 4, 5, 7)
activations[2, 1, 3, 2], activations[0, 1, 1, 4] = 3, 2
_, _, patches = parts_of(top_patches(X, activations, 1, (6, 3, -2), 2))
for number in (0, 1):
    ### BEGIN EXPECTED
    image, (top, bottom, left, right), expected = reference.top_patches(
        X, activations, 1, (6, 3, -2), 2
    )[number]
    mistakes = {
        "row and column are exchanged": X[image, :, left:right, top:bottom],
        "it is cut from the first picture": X[0, :, top:bottom, left:right],
        "its last row and column are missing": expected[:, :-1, :-1],
        "the colours are averaged": expected.mean(0),
        "the colours are the last axis": expected.permute(1, 2, 0),
        "everything outside of the window is set to zero: cut it out": F.pad(
            expected, (left, 22 - right, top, 15 - bottom)
        ),
    }
    ### END EXPECTED
    assert number < len(patches), f"expected two patches, got {len(patches)}."
    check_close(patches[number], expected, f"patch {number} of top_patches", mistakes=mistakes)

# %% test="top_patches" points=3 aspect="at the border"
X, activations = random_images(56, 5, 3, 15, 21), random_images(57, 5, 4, 5, 7)
activations[3, 2, 0, 3], activations[1, 2, 2, 0], activations[4, 2, 4, 6] = 5, 4, 3
activations[0, 2, 0, 6], activations[2, 2, 3, 5] = 2.5, 2
### BEGIN EXPECTED
expected = np.array(
    [[0, 4, 7, 13], [4, 10, 0, 4], [10, 15, 16, 21], [0, 4, 16, 21], [7, 13, 13, 19]]
)
expected_patches = [
    patch for _, _, patch in reference.top_patches(X, activations, 2, (6, 3, -2), 5)
]
whole = np.array(
    [[-2, 4, 7, 13], [4, 10, -2, 4], [10, 16, 16, 22], [-2, 4, 16, 22], [7, 13, 13, 19]]
)
moved = whole + np.array(
    [[2, 2, 0, 0], [0, 0, 2, 2], [-1, -1, -1, -1], [2, 2, -1, -1], [0, 0, 0, 0]]
)
mistakes = {
    "windows hang over the border: cut them off there": whole,
    "windows are moved into the picture, whole: cut them off at the border": moved,
    "windows are cut off at the top and at the left only": whole.clip(min=0),
    "windows are cut off at the bottom and at the right only": np.minimum(whole, [15, 15, 21, 21]),
    "bottom and right are measured from where the cut-off window begins": np.minimum(
        np.repeat(whole[:, ::2].clip(0), 2, axis=1) + np.array([0, 6, 0, 6]),
        [15, 15, 21, 21],
    ),
    "the last row and column of the picture are never in a window": (
        np.minimum(whole, [14, 14, 20, 20]).clip(min=0)
    ),
    "rows are cut off at W, and columns at H": np.minimum(whole, [21, 21, 15, 15]).clip(min=0),
    "columns are cut off at H as well: W is their bound": whole.clip(0, 15),
    "rows are cut off at W as well: H is their bound": whole.clip(0, 21),
    "windows are cut off at the size of the activations": (
        np.minimum(whole, [5, 5, 7, 7]).clip(min=0)
    ),
    "windows that aren't whole are left out: cut them off at the border": whole[4:],
}
### END EXPECTED
_, came, patches = parts_of(top_patches(X, activations, 2, (6, 3, -2), 5))
check_close(came, expected, "the windows of top_patches", mistakes=mistakes, indices=True)
for number, (patch, right) in enumerate(zip(patches, expected_patches, strict=True)):
    check_close(patch, right, f"patch {number} of top_patches")
### BEGIN HIDDEN TESTS
for seed, shape, size, field, count in [
    (0, (7, 3, 9, 20), (4, 9), (5, 2, -1), 5),
    (1, (1, 3, 14, 6), (13, 5), (2, 1, 0), 3),
    (2, (6, 3, 40, 31), (5, 4), (26, 8, -11), 6),
    (3, (4, 3, 30, 17), (7, 4), (3, 4, 1), 2),
]:
    seed += reference.seed
    X, activations = random_images(seed, *shape), random_tensor(seed, shape[0], 3, *size) + 1
    activations[:, 2, -1, 0] = -9  # the largest magnitude is no excitement
    expected = parts_of(reference.top_patches(X, activations, 2, field, count))
    came = parts_of(top_patches(X, activations, 2, field, count))
    name = f"top_patches for pictures {shape} and activations {tuple(activations.shape)}"
    check_close(came[0], expected[0], f"the pictures of {name}", indices=True)
    check_close(came[1], expected[1], f"the windows of {name}", indices=True)
    for patch, right in zip(came[2], expected[2], strict=True):
        check_close(patch, right, f"a patch of {name}")
### END HIDDEN TESTS

# %% test="top_patches" points=2 aspect="pictures that don't excite it"
X, activations = random_images(58, 5, 3, 15, 22), 2 * random_images(59, 5, 4, 5, 7) - 1
activations[0, 3], activations[3, 3], activations[1, 3, 1, 5] = 0, -1 - activations[3, 3], 3
activations[3, 3, 2, 2] = -0.01
### BEGIN EXPECTED
everyone = activations[:, 3].flatten(1).amax(1).argsort(descending=True).numpy()
expected = everyone[:3]
mistakes = {
    "a picture in which the channel is 0 everywhere has a patch": everyone[:4],
    "a picture in which the channel is negative everywhere has a patch": everyone,
    "only the first of them is left": everyone[:1],
}
### END EXPECTED
numbers, _, _ = parts_of(top_patches(X, activations, 3, (6, 3, -2), 5))
check_close(numbers, expected, "the pictures of top_patches", mistakes=mistakes, indices=True)
assert len(parts_of(top_patches(X, -activations.abs(), 3, (6, 3, -2), 2))[0]) == 0, (
    "top_patches finds patches for a channel that is nowhere positive in any picture."
)
### BEGIN HIDDEN TESTS
X = random_images(reference.seed, 9, 3, 12, 15)  # all windows lie inside
activations = (random_tensor(reference.seed, 9, 2, 3, 4) - 1.2).relu()
activations[0, 1], activations[4, 1, 2, 1] = 20, 50  # the largest mean, and the largest value
activations[0, 1, 1, 3] = 21
expected = parts_of(reference.top_patches(X, activations, 1, (6, 3, 0), 7))
came = parts_of(top_patches(X, activations, 1, (6, 3, 0), 7))
check_close(came[0], expected[0], "the pictures for rectified activations", indices=True)
check_close(came[1], expected[1], "the windows for rectified activations", indices=True)
### END HIDDEN TESTS

# %% [markdown]
# Below, the patches, of 300 scenes, that excite a channel of the fourth ReLU most; and underneath,
# by each rule, what in the patch excites it.

# %%
many = make_scenes(300, np.random.default_rng(70))
many_images, _ = (tensor.to(device) for tensor in many.tensors())
with torch.no_grad():
    activations = base.features[:15](many_images)  # up to ReLU 4


def draw_neuron(channel, count=6):
    """Draw the patches that excite a channel most, and their gradients by the three rules."""
    size, stride, offset = field = RECEPTIVE_FIELDS["relu4"]
    patches = top_patches(many_images, activations, channel, field, count)
    figure, axes = plt.subplots(4, count, figsize=(1.35 * count + 1, 5.8), layout="constrained")
    figure.suptitle(f"What excites channel {channel} of ReLU 4")
    for column_of_axes, (number, window, patch) in zip(axes.T, patches, strict=True):
        top, bottom, left, right = window
        place = activations[number, channel].argmax().item()
        row, column = divmod(place, activations.shape[3])
        seen = {
            "extent": (left, right, bottom, top),
            "interpolation": "nearest",
        }
        column_of_axes[0].imshow(patch.permute(1, 2, 0).cpu(), **seen)
        column_of_axes[0].set_title(CLASS_NAMES[many.shape_class[number]])
        image = many_images[number : number + 1]
        for ax, network in zip(column_of_axes[1:], networks.values(), strict=True):
            layer = network.features.relu4
            gradient = neuron_gradient(image, network, layer, channel, row, column)[0].sum(0)
            gradient = gradient[top:bottom, left:right].cpu()
            ax.imshow(gradient / gradient.abs().max(), cmap="RdBu_r", vmin=-1, vmax=1, **seen)
        for ax in column_of_axes:  # a window that hangs over the border is drawn in full
            ax.set(
                xlim=(offset + stride * column, offset + stride * column + size),
                ylim=(offset + stride * row + size, offset + stride * row),
                facecolor="0.85",
            )
    for ax, name in zip(axes[:, 0], ["patch", *networks], strict=True):
        ax.set_ylabel(name)
    without_ticks(axes)
    figure.colorbar(
        axes[1, -1].images[0], ax=axes[1:], shrink=0.6, label="part of the largest value"
    )
    plt.show()


for channel in (3, 9):
    draw_neuron(channel)

# %% [markdown]
# Channel 9 is after curved stripes, or what it takes for some: its guided gradient follows the
# crescents' bands, red where the image should become lighter and blue where it should become
# darker. Channel 3 likes light bars on dark, in a grid, between blotches, in a flower, and is hard
# to put a name to. Where a window hangs over the border, grey stands for the padding, in which the
# network sees zeros. Plain backprop shows the same place, but also everything that *lowers* the
# activation, and the lines drown in it. Don't name a channel after such patches too soon, though:
# they are the top of 300 scenes, all from one world, and most of what a channel does is to answer a
# little to very many things.
#
# So look at neurons from the other side, too: choose a place in a picture, and see which channels
# answer there, the strongest first, and to what. Where your notebook can show menus, move the place
# over an edge, from the object to the background, and up through the layers.

# %% fold="Choose a layer and a place: which channels answer, and to what?"
from ipywidgets import Dropdown, IntSlider
from matplotlib.patches import Rectangle

from utils.figures import explore

pictures = {f"scene {number}: {CLASS_NAMES[labels[number]]}": images[number] for number in range(8)}
if len(shown) > 6:
    pictures["your own"] = shown[-1]


def ask_neuron(layer, picture, row, column, rank):
    """Draw what excites the channel that is the rank-th strongest at a pixel's place."""
    image = pictures[picture][None]
    size, stride, offset = RECEPTIVE_FIELDS[layer]
    r, c = row // stride, column // stride
    with torch.no_grad():
        depth = 1 + list(base.features).index(base.features.get_submodule(layer))
        values, channels = base.features[:depth](image)[0, :, r, c].sort(descending=True)
    value, channel = values[rank - 1].item(), channels[rank - 1].item()
    top, left = offset + stride * r, offset + stride * c
    # No constrained layout, which would take half of the time that a drawing has.
    places = {"left": 0.01, "right": 0.89, "bottom": 0.03, "top": 0.82, "wspace": 0.04}
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.5), gridspec_kw=places)
    figure.suptitle(
        f"Channel {channel} of {layer} fires here with {value:.2f}, number {rank} of {len(values)}"
    )
    axes[0].imshow(image[0].permute(1, 2, 0).cpu())
    axes[0].add_patch(Rectangle((left - 0.5, top - 0.5), size, size, fill=False, edgecolor="white"))
    axes[0].plot(column, row, "+", color="white")
    axes[0].set(title="what the neuron sees", xlim=(-0.5, 63.5), ylim=(63.5, -0.5))
    for ax, rule in zip(axes[1:], ("backprop", "guided"), strict=True):
        network = networks[rule]
        at = network.features.get_submodule(layer)
        gradient = neuron_gradient(image, network, at, channel, r, c)[0].sum(0).cpu()
        largest = gradient.abs().max().item() or 1  # a neuron that doesn't fire has no gradient
        shown_map = ax.imshow(gradient / largest, cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set(xlim=(left - 0.5, left + size - 0.5), ylim=(top + size - 0.5, top - 0.5))
        ax.set(title=rule, facecolor="0.85")
    without_ticks(axes)
    bar = figure.add_axes([0.905, 0.1, 0.012, 0.65])
    figure.colorbar(shown_map, cax=bar, label="part of the largest value")


explore(
    ask_neuron,
    layer=Dropdown(options=list(RECEPTIVE_FIELDS), value="relu4"),
    picture=Dropdown(options=list(pictures)),
    row=IntSlider(value=34, min=0, max=63),
    column=IntSlider(value=30, min=0, max=63),
    rank=IntSlider(value=1, min=1, max=16),
)

# %% [markdown]
# In `relu1` a channel that fires has its own 3 × 3 kernel for a gradient, whatever the picture
# (drawn is its sum over the colours). Further up, the windows grow and the guided gradient begins
# to draw; in `relu6` the window covers nearly the whole scene, and whether the object is drawn depends on how near the
# place is to it. But go through the ranks at one place of `relu4` and watch the right-hand picture:
# it hardly changes. How alike are the guided gradients of *different* channels at one place?

# %%
inside = [(image[None], r, c) for image in images[:8] for r, c in ((5, 10), (8, 8), (10, 5))]
for rule in ("backprop", "guided"):
    layer = networks[rule].features.relu4
    alike_at = []
    for image, r, c in inside:
        with torch.no_grad():
            strongest = base.features[:15](image)[0, :, r, c].topk(8).indices.tolist()
        gradients = [
            neuron_gradient(image, networks[rule], layer, channel, r, c).flatten().cpu()
            for channel in strongest
        ]
        correlations = torch.corrcoef(torch.stack(gradients))
        alike_at.append(correlations[~torch.eye(8, dtype=torch.bool)].mean().item())
    print(
        f"{rule}: the gradients of the eight strongest channels at one place correlate by"
        f" {np.mean(alike_at):.2f}, on average over {len(inside)} places"
    )

# %% [markdown]
# By the guided rule, eight different channels draw nearly the same picture; their plain gradients
# have little in common. The channels' weights differ, but whatever is positive passes, and goes
# where the image has its edges. The drawing shows *where* the neuron looks more than *what for*. Is
# that so for a class's score as well?
#
# ## 6. What does the map know?
#
# A drawing this crisp is convincing. That is the problem: we like it *because* it looks like the
# object. Whether it tells us anything about the **network** is another question, and it can be
# asked of the map itself. Two tests:
#
# 1. **Ask for something else.** A map that explains a class's score should depend on the class.
# 2. **Break the network.** A map that explains the network should not survive when its weights are
#    replaced by random ones (Adebayo et al., 2018).
#
# ### Another question, another answer?
#
# The scenes below hold two objects each. We ask for the one, for the other, and for a class that
# isn't there.

# %%
pairs = make_scenes(48, np.random.default_rng(71), "two_objects")
pair_images, first = (tensor.to(device) for tensor in pairs.tensors())
second = torch.from_numpy(pairs.second.shape_class).to(device)
absent = (first + 1) % 10
absent = torch.where(absent == second, (absent + 1) % 10, absent)
questions = {"one object": first, "the other": second, "an absent class": absent}

figure, axes = plt.subplots(4, 6, figsize=(11, 7.6), layout="constrained")
figure.suptitle("Guided backprop leans to the object that is asked for, but draws both")
for ax, scene in zip(axes[0], pairs.images, strict=False):
    ax.imshow(scene)
for row, (question, asked) in zip(axes[1:], questions.items(), strict=True):
    row[0].set_ylabel(question)
    maps = pixel_map(guided_backprop(pair_images[:6], asked[:6], base))
    for ax, heat, label in zip(row, maps, asked, strict=False):
        picture = ax.imshow(heat.cpu(), cmap="viridis", vmin=0, vmax=1)
        ax.set_title(CLASS_NAMES[label])
without_ticks(axes)
figure.colorbar(picture, ax=axes[1:], shrink=0.5, label="part of the largest value")
plt.show()

# %% [markdown]
# Now by numbers, on 48 such scenes: where is the map's weight, and how alike are the maps that
# answer two different questions? Beside our three rules stands Grad-CAM (lab 08), which for this
# network is the ReLU of a weighted sum of the last feature maps.

# %%


def grad_cam(X, y):
    """Grad-CAM of `base` in the few lines that suffice for a network that ends in an average."""
    with torch.no_grad():
        features = base.features(X)
        maps = torch.einsum("nk,nkij->nij", base.classifier.linear.weight[y], features).relu()
        return F.interpolate(maps[:, None], X.shape[2:], mode="bilinear")[:, 0].cpu()


def correlation(some, others):
    """The mean over images of the correlation between two maps."""
    pairs_of_maps = zip(some.flatten(1), others.flatten(1), strict=True)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs_of_maps if a.any() and b.any()])


methods = {
    rule: lambda X, y, network=network: pixel_map(gradient_of_score(X, y, network)).cpu()
    for rule, network in networks.items()
}
methods["Grad-CAM"] = grad_cam
one_mask, other_mask = (torch.from_numpy(truth.masks) for truth in (pairs, pairs.second))
alike = {}
print(
    "            asked for one object:      absent class:  correlation of the maps for one object"
)
print("            on it   on the other       on the two     and the other    and an absent class")
for name, method in methods.items():
    one, two, none = (method(pair_images, asked) for asked in questions.values())
    shares = [
        share_inside(one, one_mask),
        share_inside(one, other_mask),
        share_inside(none, one_mask | other_mask),
    ]
    on_it, on_other, on_two = (share.nanmean().item() for share in shares)  # a map can be all zeros
    alike[name] = correlation(one, two), correlation(one, none)
    print(
        f"{name:10} {on_it:6.0%} {on_other:14.0%} {on_two:16.0%}"
        f" {alike[name][0]:+17.2f} {alike[name][1]:+22.2f}"
    )
for name in ("shape", "robust"):
    guided_network = replace_relus(load_model(name).to(device), GuidedReLU)
    one, two = (
        pixel_map(gradient_of_score(pair_images, asked, guided_network)).cpu()
        for asked in (first, second)
    )
    print(f"guided, network {name!r}: one object and the other {correlation(one, two):+.2f}")
for rule in ("backprop", "guided"):
    one, two = (
        gradient_of_score(pair_images[:20], asked[:20], networks[rule]).sum(1).cpu()
        for asked in (first, second)
    )
    print(f"{rule}, with its signs: one object and the other {correlation(one, two):+.2f}")

figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
places = np.arange(len(alike))
two_objects, one_absent = zip(*alike.values(), strict=True)
ax.bar(places - 0.2, two_objects, 0.4, color="#0072B2", label="one object and the other")
label = "one object and an absent class"
ax.bar(places + 0.2, one_absent, 0.4, color="#E69F00", hatch="//", label=label)
ax.axhline(0, color="0.4", linewidth=1)
ax.set_xticks(places, alike)
ax.set(ylabel="correlation of the two maps", ylim=(-1, 1))
ax.set_title("Ask twice: by each rule the two answers are alike, by Grad-CAM they aren't")
ax.legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# Asked for one object, guided backprop puts on average about half of its weight on it and about a
# sixth on the other: it leans to the right side, in nearly every scene (though not in the fourth
# column). But asked for a class that *isn't there*, it puts about as much on the two objects
# together as before, and draws them as crisply. Nothing in the picture tells you that the question
# was wrong. How far it leans also depends on the network: for `shape` and `robust` the maps for
# the two objects are much more alike. The deconvnet's maps hardly depend on the question at all.
# Grad-CAM's two maps exclude each other, and for an absent class little is left on the objects.
#
# Why? A class only chooses with which weights the signal starts in the channels of the last layer.
# From there on every gate lets positive values pass, whichever class they came from, and sends them
# to wherever the image had its active edges. The plain gradient's maps look alike here, too, but
# that is our doing, as we took absolute values. With signs, its two maps anti-correlate: what
# raises the one class tends to lower the other. Guided backprop has thrown this away.
#
# ### A broken network
#
# Now we let the network forget, from the top downwards: first the linear layer alone, then also the
# last convolution, and so on to the first. This is the *cascading randomisation* of Adebayo et al.
# (2018). `randomised_copy(model, names, images, seed)`, from `utils.attribution`, gives a copy in
# which the layers with these names start anew from random weights; BatchNorm's statistics are
# measured anew on `images`, so that the signal neither dies nor explodes. A network whose linear
# layer is random answers at random. Its explanation should change, too.
#
# How much does it change? The eye is a poor judge here, so we need a number. **Spearman's rank
# correlation** ρ asks whether two maps agree in which pixels are brighter: each value is replaced by
# its rank among the map's values (equal values share the mean of their ranks), and the ranks are
# correlated. It doesn't care about scales, and needs none of the maps to be normalised.
#
# A number alone means little. Is 0.5 much? Maps of *any* two pictures are a little alike, as they
# are darker at the rim than in the middle. So the measurement needs a control: compare with the map
# of **another picture**. Only what lies above the control belongs to the picture at hand.
#
# ### Exercise: `similarity_by_depth`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1: two loops in one matrix</summary>
#
# For N pictures there are N × N correlations between an original map and a new one. The diagonal of
# this matrix is about the same picture, all the rest is the control.
#
# </details>
# <details><summary>Hint 2: rank correlation</summary>
#
# `scipy.stats.spearmanr(a, b).statistic` compares two maps, each flattened to one axis. Or take the
# ranks of many at once by `scipy.stats.rankdata(maps, axis=1)`, and correlate them by `np.corrcoef`.
#
# </details>


# %% exercise="similarity_by_depth"
def similarity_by_depth(X, y, model, layers, explain, randomise):
    """How alike a method's maps stay while a network forgets, layer by layer from the top.

        M(d, n) = the map of picture n by the network whose first d of `layers` are random
        same(d) = mean over n of ρ(M(0, n), M(d, n))
        other(d) = mean over all pairs n ≠ m of ρ(M(0, n), M(d, m)), the control

    for d = 0, 1, …, len(layers), with ρ Spearman's rank correlation over all H · W pixels.

    Args:
        X: pictures, float tensor (N, 3, H, W), N > 1.
        y: the class asked for, for each picture, int64 tensor (N,), whatever a network says.
        model: the trained network, nn.Module. It isn't changed.
        layers: list of its layers' names, the top one (nearest to the scores) first.
        explain: a function. explain(X, y, network) are the maps, float tensor (N, H, W) on the CPU,
            detached, none of them constant.
        randomise: a function. randomise(model, names) is a copy of the model in which the layers in
            the list `names` are random, and only these; for an empty list it is a plain copy.

    Returns:
        (same, other): two float64 arrays of 1 + len(layers) values.
    """
    ### BEGIN SOLUTION
    original = explain(X, y, model).flatten(1)
    N = len(X)
    same, other = [], []
    for depth in range(len(layers) + 1):
        maps = explain(X, y, randomise(model, layers[:depth])).flatten(1)
        ranks = scipy.stats.rankdata(torch.cat([original, maps]), axis=1)
        rho = np.corrcoef(ranks)[:N, N:]
        same.append(rho.diagonal().mean())
        other.append(rho[~np.eye(N, dtype=bool)].mean())
    return np.array(same), np.array(other)
    ### END SOLUTION


# %% given=true
def probe_maps(X, y, network):
    """Maps to test with, (N, H, W): what is positive in the gradients of the scores for y."""
    X = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(X).gather(1, y[:, None]).sum(), X)
    return gradient.sum(1).clamp(min=0)


def forget(model, names):
    """A copy of a network with random layers, for the tests."""
    return randomised_copy(model, names, random_images(60, 8, 3, 6, 9), seed=60)


def two_curves(result):
    """The two curves that similarity_by_depth has returned, as arrays."""
    name = "similarity_by_depth(X, y, model, layers, explain, randomise)"
    same, other = check_tuple(result, ("same", "other"), name)
    return np.array(same, dtype=float), np.array(other, dtype=float)


# %% test="similarity_by_depth" points=3 aspect="the same picture"
X, y, model = random_images(61, 4, 3, 6, 9), torch.tensor([2, 0, 3, 1]), tiny_network(61)
layers = ["classifier.linear", "classifier.hidden", "features.conv2", "features.conv1"]
### BEGIN EXPECTED
originals = probe_maps(X, y, model).flatten(1).numpy()
networks_by_depth = [forget(model, layers[:depth]) for depth in range(5)]


def by_depth(
    networks, compare=lambda a, b: scipy.stats.spearmanr(a, b).statistic, y=y, first=originals
):
    """The mean over pictures of a comparison between the original maps and those of networks."""
    all_maps = [probe_maps(X, y, network).flatten(1).numpy() for network in networks]
    return np.array(
        [np.mean([compare(a, b) for a, b in zip(first, maps, strict=True)]) for maps in all_maps]
    )


def own_ranks(a, b):
    """The correlation of ranks where equal values have ranks of their own."""
    return np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1]


expected, control = reference.similarity_by_depth(X, y, model, layers, probe_maps, forget)
maps_by_depth = [probe_maps(X, y, network).flatten(1).numpy() for network in networks_by_depth]
mistakes = {
    "it is the control: same and other are exchanged": control,
    "at each depth one layer only is random: those above it stay random, too": by_depth(
        [model, *(forget(model, [layer]) for layer in layers)]
    ),
    "the layers forget from the bottom up: the first of `layers` are the first to forget": by_depth(
        [forget(model, layers[4 - depth :]) for depth in range(5)]
    ),
    "one layer too many is random at each depth: at depth 0 there is none": by_depth(
        [forget(model, layers[: depth + 1]) for depth in range(5)]
    ),
    "each map is compared with that of the depth before: compare with the trained network's": (
        np.array(
            [
                np.mean([scipy.stats.spearmanr(*pair).statistic for pair in zip(a, b, strict=True)])
                for a, b in zip([originals, *maps_by_depth], maps_by_depth, strict=False)
            ]
        )
    ),
    "the values are correlated, not their ranks": by_depth(
        networks_by_depth, lambda a, b: np.corrcoef(a, b)[0, 1]
    ),
    "equal values have ranks of their own: they share the mean of their ranks": by_depth(
        networks_by_depth, own_ranks
    ),
    "it is Kendall's correlation, not Spearman's": by_depth(
        networks_by_depth, lambda a, b: scipy.stats.kendalltau(a, b).statistic
    ),
    "all pictures are strung together: each has a correlation of its own": np.array(
        [scipy.stats.spearmanr(originals.ravel(), maps.ravel()).statistic for maps in maps_by_depth]
    ),
    "the pictures' mean maps are compared: each picture has a correlation of its own": np.array(
        [scipy.stats.spearmanr(originals.mean(0), maps.mean(0)).statistic for maps in maps_by_depth]
    ),
    "only the first picture counts": np.array(
        [scipy.stats.spearmanr(originals[0], maps[0]).statistic for maps in maps_by_depth]
    ),
    "y is ignored: each network is asked for what it predicts": np.array(
        [
            np.mean(
                [
                    scipy.stats.spearmanr(*pair).statistic
                    for pair in zip(
                        originals,
                        probe_maps(X, network(X).argmax(1), network).flatten(1).numpy(),
                        strict=True,
                    )
                ]
            )
            for network in networks_by_depth
        ]
    ),
    "the trained network, at depth 0, is left out": expected[1:],
    "the network that has forgotten all layers is left out": expected[:-1],
}
### END EXPECTED
same, _ = two_curves(similarity_by_depth(X, y, model, list(layers), probe_maps, forget))
check_close(same, expected, "`same` of similarity_by_depth", tolerance=1e-5, mistakes=mistakes)

# %% test="similarity_by_depth" points=3 aspect="another picture"
X, y, model = random_images(62, 4, 3, 6, 9), torch.tensor([1, 3, 0, 2]), tiny_network(62)
layers = ["classifier.linear", "classifier.hidden", "features.conv2", "features.conv1"]
### BEGIN EXPECTED
same, expected = reference.similarity_by_depth(X, y, model, layers, probe_maps, forget)
maps_by_depth = [
    probe_maps(X, y, forget(model, layers[:depth])).flatten(1).numpy() for depth in range(5)
]
originals = maps_by_depth[0]


def control(chosen, first=None):
    """The mean, at each depth, of ρ(M(0, n), M(d, m)) over the chosen pairs (n, m)."""
    curve = []
    for maps in maps_by_depth:
        rows = originals if first is None else maps
        curve.append(
            np.mean([scipy.stats.spearmanr(rows[n], maps[m]).statistic for n, m in chosen])
        )
    return np.array(curve)


every = [(n, m) for n in range(4) for m in range(4)]
pairs = [(n, m) for n, m in every if n != m]
mistakes = {
    "it is `same`: the original map has to be another picture's": same,
    "the pictures' own maps are counted, too: n ≠ m": control(every),
    "each picture is compared with the next one only: all pairs n ≠ m count": control(
        [(n, (n + 1) % 4) for n in range(4)]
    ),
    "each picture is compared with the one before only: all pairs n ≠ m count": control(
        [(n, n - 1) for n in range(4)]
    ),
    "only pairs with n < m count: (n, m) and (m, n) are different pairs": control(
        [(n, m) for n, m in pairs if n < m]
    ),
    "only pairs with n > m count: (n, m) and (m, n) are different pairs": control(
        [(n, m) for n, m in pairs if n > m]
    ),
    "only the first picture is compared with the others": control([(0, m) for m in range(1, 4)]),
    "both maps are of the changed network: the first is the trained one's": control(
        pairs, first="changed"
    ),
    "both maps are of the trained network: the second is the changed one's": (
        np.full(5, control(pairs)[0])
    ),
    "the sum over the pairs n ≠ m is divided by N²: it has N (N − 1) terms": expected * 3 / 4,
    "the difference of `same` and the control is returned": same - expected,
}
### END EXPECTED
_, other = two_curves(similarity_by_depth(X, y, model, list(layers), probe_maps, forget))
check_close(other, expected, "`other` of similarity_by_depth", tolerance=1e-5, mistakes=mistakes)

# %% test="similarity_by_depth" points=2 aspect="other networks"
# Other networks, pictures and layers are tried here.
### BEGIN HIDDEN TESTS
model = awkward_network(reference.seed, hooks=True, gradients=True)
for seed, shape, classes, layers in [
    (0, (2, 3, 9, 8), [4, 1], ["answer", "trunk.late.conv", "trunk.blocks.b.middle"]),
    (1, (5, 3, 7, 9), [0, 3, 2, 2, 1], ["trunk.entry.0"]),
]:
    X, y = random_images(reference.seed + seed, *shape), torch.tensor(classes)
    expected = reference.similarity_by_depth(X, y, model, layers, probe_maps, forget)
    came = two_curves(similarity_by_depth(X, y, model, list(layers), probe_maps, forget))
    name = f"similarity_by_depth for pictures {shape} and {len(layers)} layers"
    check_close(came[0], expected[0], f"`same` of {name}", tolerance=1e-5)
    check_close(came[1], expected[1], f"`other` of {name}", tolerance=1e-5)
### END HIDDEN TESTS

# %% [markdown]
# Eight scenes, our three rules, and three random draws of each network. A convolution forgets
# together with its BatchNorm.

# %% fold="Figure: Guided backprop draws the object for a network that knows nothing"
from functools import cache

layers = ["classifier.linear", *(f"features.conv{number}" for number in range(6, 0, -1))]
names = ["none", "linear", *(f"+ conv{number}" for number in range(6, 0, -1))]


@cache
def forgetful(count, seed):
    """`base` with its last `count` layers random."""
    forgotten = [name.replace("conv", kind) for name in layers[:count] for kind in ("conv", "norm")]
    return randomised_copy(base, dict.fromkeys(forgotten), images[:60], seed)


def maps_by(function):
    """The method, from (X, y, network) to maps, that goes back through ReLUs by a Function."""
    return lambda X, y, network: pixel_map(
        gradient_of_score(X, y, replace_relus(network, function))
    ).cpu()


def randomiser(seed):
    return lambda model, names: forgetful(len(names), seed)


tested, asked = images[:8], labels[:8]
seeds = range(3)
curves = {
    rule: np.mean(
        [
            similarity_by_depth(tested, asked, base, layers, maps_by(function), randomiser(seed))
            for seed in seeds
        ],
        axis=0,
    )
    for rule, function in rules.items()
}
accuracy = np.zeros(8)
for count in range(8):
    for seed in seeds:
        with torch.no_grad():
            answers = forgetful(count, seed)(images[140:]).argmax(1)
        accuracy[count] += (answers == labels[140:]).float().mean().item() / len(seeds)

headings = (
    "Guided backprop draws the object for a network that knows nothing",
    "Your own picture, while the network forgets",
)
for heading, one, answer in zip(headings, *with_own(images[1:2], labels[1:2]), strict=False):
    figure, axes = plt.subplots(3, 9, figsize=(13, 4.9), layout="constrained")
    figure.suptitle(heading)
    for row, (rule, function) in zip(axes, rules.items(), strict=True):
        row[0].imshow(one.permute(1, 2, 0).cpu())
        row[0].set_ylabel(rule)
        for count, ax in enumerate(row[1:]):
            heat = maps_by(function)(one[None], answer[None], forgetful(count, 0))[0]
            picture = ax.imshow(heat, cmap="viridis", vmin=0, vmax=1)
            if rule == "backprop":
                ax.set_title(names[count])
    axes[0, 0].set_title("random layers:")
    without_ticks(axes)
    figure.colorbar(picture, ax=axes, shrink=0.6, label="part of the largest value")
    plt.show()

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
styles = {"backprop": ("#0072B2", "o"), "deconvnet": ("#E69F00", "s"), "guided": ("#009E73", "^")}
print("rank correlation with the original map, by number of random layers")
for rule, (colour, marker) in styles.items():
    same, other = curves[rule]
    ax.plot(same, color=colour, marker=marker, label=f"{rule}: the same picture")
    ax.plot(other, color=colour, marker=marker, linestyle=":", markersize=4)
    print(f"{rule:10} the same picture   ", *(f"{rho:+.2f}" for rho in same))
    print(f"{'':10} another picture    ", *(f"{rho:+.2f}" for rho in other))
print(f"{'accuracy':30}", *(f"{share:5.2f}" for share in accuracy))
ax.plot([], color="0.4", linestyle=":", label="dotted: another picture, the control")
ax.plot(accuracy, color="black", linestyle="--", label="the network's accuracy")
ax.set_xticks(range(8), names)
ax.set(xlabel="layers with random weights, from the top", ylim=(0, 1.3))
ax.set_ylabel("rank correlation with the original")
ax.set_title("The network's knowledge is gone at once, the guided map fades slowly")
ax.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
ax.grid(color="0.9")
plt.show()

down, right = torch.gradient(tested.mean(1).cpu(), dim=(1, 2))
edges = (down**2 + right**2).sqrt().flatten(1)
guided_maps = maps_by(GuidedReLU)(tested, asked, base).flatten(1)
between = scipy.stats.spearmanr(guided_maps, edges, axis=1).statistic[:8, 8:]
print(
    f"guided maps and edges of the same picture: {between.diagonal().mean():.2f},"
    f" of another one: {between[~np.eye(8, dtype=bool)].mean():.2f}"
)

# %% [markdown]
# With a random linear layer the network is nearly always wrong, and the guided map still has a
# rank correlation above 0.9 with the original: as an explanation of *why the network says star* it
# has failed, since the network doesn't say star any more. The plain gradient falls to about 0.65
# at once. And the control says how much of that is about the picture. Maps of two *different*
# pictures have about 0.2, whatever the rule and however much is forgotten: so little is worth
# nothing. With all weights random, the plain gradient and the deconvnet end not far above it; the
# guided map is still at more than twice the control, and the star in the first figure can still be
# made out. A good part of the map is a property of the image and of the architecture: convolutions, ReLUs
# and pooling, sent there and back, bring out edges, as an edge detector without any network does
# (the last line). Nie et al. (2018) argue from theory that guided backprop and the deconvnet
# essentially recover a part of the image.
#
# So the good marks of section 3 don't contradict this. The object is where a scene has most
# contrast and edges; a method that draws those will point at the object, whatever the network
# knows. **A map that lies on the object isn't evidence that the network looks at it.** Where our
# test has its limits: these are eight scenes, one small network and three draws of its weights, and
# a rank correlation counts the many dim pixels as much as the few bright ones that the eye sees.
#
# ### Question: would you trust it?
# ★★☆ · 20 minutes

# %% [markdown] question="verdict" points=5
# A colleague shows you a network that tells malignant from benign moles, and a guided backprop map
# for one photograph: a fine drawing of the mole's rim and of its texture, and nothing of the skin
# around it. "So the network looks at the mole, and at the right features of it. We can use it."
# Answer in at most ten sentences:
#
# 1. What does the map show, and what doesn't it show? Use two measurements from this lab, with
#    their numbers.
# 2. Which two experiments would you ask for before you believe the first half of the sentence
#    ("looks at the mole")?
#
# ### BEGIN SOLUTION
# 1 (3 points). It shows which edges and textures of the image pass through the network's early
# layers where its ReLUs are active, much like an edge detector or a reconstruction of the image; it
# doesn't show that the *decision* depends on them (1 point). One point for each measurement that is
# used rightly, with its number: after the linear layer alone is randomised, the map keeps a rank
# correlation above 0.9 with the original while accuracy falls to chance or below; asked for an
# absent class, it still puts about 60% of its weight on the two objects; with all weights random
# its correlation with the original is still about 0.5, where the map of another picture has about
# 0.2. Only quoting the numbers of section 3 in the
# map's favour (it lies on the object) earns nothing here: a map can lie on the object whatever the
# network knows.
#
# 2 (2 points, one each). For instance: the randomisation test on *their* network; the map for the
# other class, to see whether it differs; Grad-CAM, whose maps depend on the class; covering the
# mole or the skin and watching the score; photographs with the mole pasted on other skin, or a
# ruler or pen mark taken away (a dataset bias); accuracy on data from another clinic. "More
# pictures" alone earns nothing.
# ### END SOLUTION

# %% [markdown]
# ## 7. The same with Captum (optional)
#
# In practice you will call a library. **Captum** is PyTorch's own for explanations (Kokhlikyan et
# al., 2020). Its `GuidedBackprop` and `Deconvolution` set hooks on the ReLU modules, as you have
# done, and warn at every call that they do (we keep that quiet here).

# %%
import warnings

from captum.attr import Deconvolution, GuidedBackprop, NeuronGuidedBackprop


X, y = images[:6], labels[:6]


def by_captum(method, network, **asked):
    """The maps of X by a method of Captum's, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(network).attribute(X, **asked)


def neuron_of_relu4(network):
    return NeuronGuidedBackprop(network, network.features.relu4)


neuron = (9, 5, 7)  # channel, row and column in ReLU 4
guided_network = networks["guided"]
pairs_of_maps = {
    "guided": (guided_backprop(X, y, base), by_captum(GuidedBackprop, base, target=y)),
    "deconvnet": (
        gradient_of_score(X, y, networks["deconvnet"]),
        by_captum(Deconvolution, base, target=y),
    ),
    "one neuron, guided": (
        neuron_gradient(X, guided_network, guided_network.features.relu4, *neuron),
        by_captum(neuron_of_relu4, base, neuron_selector=neuron),
    ),
}


def apart(some, others):
    """The largest difference of two maps, as a part of the largest value."""
    return ((some - others).abs().max() / others.abs().max()).item()


for name, (ours, theirs) in pairs_of_maps.items():
    print(f"{name}: yours and Captum's differ by {apart(ours, theirs):.1g} of the largest value")
calls_relu = replace_relus(base, CallsRelu)
silent = by_captum(GuidedBackprop, calls_relu, target=y)
print(
    "a network that calls F.relu: Captum's guided backprop differs by"
    f" {apart(silent, pairs_of_maps['guided'][0]):.0%} from the guided gradient, by"
    f" {apart(silent, gradient_of_score(X, y, base)):.1g} from the plain one"
)

figure, axes = plt.subplots(4, len(X), figsize=(11, 7.4), layout="constrained")
figure.suptitle("Your maps and Captum's are the same pictures")
rows = [
    (f"{rule}, {whose}", maps)
    for rule in ("guided", "deconvnet")
    for whose, maps in zip(("yours", "Captum's"), pairs_of_maps[rule], strict=True)
]
for row, (name, maps) in zip(axes, rows, strict=True):
    row[0].set_ylabel(name)
    for ax, heat in zip(row, pixel_map(maps).cpu(), strict=True):
        picture = ax.imshow(heat, cmap="viridis", vmin=0, vmax=1)
for ax, label in zip(axes[0], y, strict=True):
    ax.set_title(CLASS_NAMES[label])
without_ticks(axes)
figure.colorbar(picture, ax=axes, shrink=0.5, label="part of the largest value")
plt.show()

# %% [markdown]
# The same numbers, to rounding. What differs is around them:
#
# - A network that calls `F.relu` gets the *plain* gradient from Captum under the name of the guided
#   one, without a word (the last line printed). Your function raises a `ValueError`.
# - `target` may be one class for all pictures, or one for each; without it a network with several
#   scores is refused. What comes back is signed and has three colours, as yours: whether to take
#   absolute values, and how to draw, is left to you, and papers differ in it.
# - Captum starts a neuron's map at any layer that you name, by the same gates.
#
# A library saves you the hooks. It doesn't run the two tests of section 6 for you.
#
# ## 8. With an ImageNet network (optional)
#
# The same functions, on a network that has learned a thousand classes from 1.2 million photographs.
# If you have put in a picture of your own, it is the last one.

# %%
from utils.images import load_photograph, preprocess
from utils.models import WeightsUnavailable

try:
    squeezenet = load_model("squeezenet1_1").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    photographs = [load_photograph(name) for name in ("flower", "china")]
    if (picture := own.load((427, 640))) is not None:
        photographs.append(picture)
    photographs = torch.cat([preprocess(photograph) for photograph in photographs])
    photographs = F.interpolate(photographs, (224, 336), mode="bilinear", antialias=True)
    photographs = photographs.clamp(0, 1).to(device)  # rounding may have left the range
    with torch.no_grad():
        best = squeezenet(photographs).topk(2).indices
    asked = [(number, answer) for number, two in enumerate(best.tolist()) for answer in two]
    size = (13, 2.15 * len(asked))
    figure, axes = plt.subplots(len(asked), 4, figsize=size, layout="constrained")
    figure.suptitle("SqueezeNet's two best answers for each photograph, by each rule")
    for row, (number, answer) in zip(axes, asked, strict=True):
        row[0].imshow(photographs[number].permute(1, 2, 0).cpu())
        row[0].set_title(squeezenet.class_names[answer])
        for ax, (rule, function) in zip(row[1:], rules.items(), strict=True):
            network = replace_relus(squeezenet, function)
            y = torch.tensor([answer], device=device)
            gradient = gradient_of_score(photographs[number : number + 1], y, network)[0].cpu()
            ax.imshow(
                (0.5 + 0.5 * gradient / gradient.abs().quantile(0.998)).clip(0, 1).permute(1, 2, 0)
            )
            ax.set_title(rule)
    without_ticks(axes)
    plt.show()

# %% [markdown]
# Compare the two rows of each photograph. Does the guided picture change with the answer, and as
# much as the plain gradient does? And what does it draw that isn't the thing it names?
#
# ## What you have now
#
# Three rules for one layer, three ways to bring them into a network (a copy, hooks, and in section 4
# a walk by hand), the gradient of a single neuron and the patches that excite it, and two tests that
# any map should pass before it is believed. Guided backprop remains useful as a drawing of *what a network can see*.
# Lab 08 multiplies it with Grad-CAM, which knows which object was asked for.
