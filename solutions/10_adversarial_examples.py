# %% [markdown]
# # Lab 10: Adversarial examples
#
# Take a picture of a ring that a network gets right, and is sure of. Change it so little that you
# need a magnifying glass to see it. Now the network says *fish*, and is nearly as sure of that.
# Szegedy et al. (2014) found such pictures, and called them *adversarial examples*. In this lab you
# make them in half a dozen ways, find out why they exist at all (a straight line is enough), and
# then change sides: you defend a network, and break your own defences.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. Fool it on purpose | `make_fooling_image` | 25 |
# | 2. A straight line is enough | `linear_perturbation` | 15 |
# | 2. Why linear? (optional) | an answer in words | 10 |
# | 3. One step | `fgsm` | 15 |
# | 4. Many steps | `pgd`, `targeted_pgd` | 40 |
# | 4. In the Euclidean norm (optional) | `pgd_l2` | 25 |
# | 5. One pixel (optional) | `one_pixel_attack` | 35 |
# | 6. Without the gradient: transfer | nothing: you look | 5 |
# | 6. Queries (optional) | `estimate_gradient` | 20 |
# | 7. A defence | `adversarial_training_step` | 20 |
# | 7. Cheaper defences, and how they fall | `expected_scores`, `adaptive_attack`, a review | 60 |
# | 8. With an ImageNet network (optional) | nothing: you look | 10 |
#
# What isn't marked as optional takes three hours, and needs nothing from the optional parts.
#
# The cells beneath each exercise are its tests. Each answers **right so far**, or says in one
# sentence what is wrong. When your work is graded, other networks, images
# and radii are tried as well. No exercise calls one that you wrote before, so a slip costs you only
# once. Images are tensors in [0, 1] everywhere, and networks normalise inside, so one grey level of
# an 8-bit image is always 1/255.

# %% given=true
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import differential_evolution
from torch import nn

from utils.checks import check_close, random_images, run_beside, vector_jacobian_product
from utils.changes import call_on_copies
from utils.models import load_model
from utils.scenes import make_scenes
from utils.testing_networks import awkward_network

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def linear_network(weight):
    """A linear classifier to test on: scores = weight · pixels, for weight (C, 3, H, W)."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=False, dtype=torch.float64)
    layer.weight.data = weight.flatten(1).clone()
    return nn.Sequential(nn.Flatten(), layer).eval()


def tiny_network(seed, classes=4):
    """A random convolutional network to test on, with BatchNorm, in float64 and in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, classes),
    ).double()
    for value in network.parameters():
        value.data = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    network[1].running_mean = torch.randn(6, generator=generator, dtype=torch.float64)
    network[1].running_var = 1 + torch.rand(6, generator=generator, dtype=torch.float64)
    return network.eval()


@run_beside
def twice(attack, *arguments):
    """The images of two calls, one after the other, with the same generator."""
    return attack(*arguments), attack(*arguments)


# %% [markdown]
# The networks of this lab know ten shapes: `base` was trained in the ordinary way, `shape` so that
# texture doesn't help it, and `robust` against an attack that you will write in section 3. The
# next cell loads them and draws the scenes. Unless something else is said, accuracies are measured
# on the same 48 of them, `X` with labels `y`: a small sample, in which one scene is two per cent.
#
# Bring a picture of your own, if you like: the figures will show it fooled beside the scenes. The
# networks take it for one of their ten shapes, whatever it is; it is scaled to 64 × 64 pixels.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %%
import matplotlib.pyplot as plt

from utils.figures import contact_sheet, explore
from utils.images import deprocess, preprocess

names = ("base", "shape", "robust")
networks = {name: load_model(name).to(device, memory_format=torch.channels_last) for name in names}
base = networks["base"]
class_names = base.class_names
scenes = make_scenes(1500, np.random.default_rng(10))
images, labels = (tensor.to(device) for tensor in scenes.tensors())
masks = torch.from_numpy(scenes.masks).to(device)
X, y = images[:48], labels[:48]


@torch.no_grad()
def scores_of(model, images):
    """Class scores of any number of images, a few at a time."""
    return torch.cat([model(part) for part in images.split(32)])


def accuracy(model, images, labels):
    """The share of images whose label gets the highest score."""
    return (scores_of(model, images).argmax(1) == labels).float().mean().item()


def captions(model, images):
    """What a network says to each image, with its probability."""
    confidences, answers = scores_of(model, images).softmax(1).max(1)
    return [f"{class_names[k]} {p:.0%}" for k, p in zip(answers, confidences, strict=True)]


def own_picture():
    """Your own picture, (1, 3, 64, 64) in [0, 1]; without one, no picture, (0, 3, 64, 64)."""
    picture = own.load(64)
    return X[:0] if picture is None else preprocess(picture[None]).to(device)


def show_image(ax, image):
    """Draw one image (3, H, W) without a frame."""
    ax.imshow(deprocess(image[None])[0])
    ax.set(xticks=[], yticks=[])


for name, network in networks.items():
    print(f"{name:6}: accuracy {accuracy(network, X, y):.2f} on X, y")

# %% [markdown]
# ## 1. Fool it on purpose
#
# Training moves the *weights* so that the loss falls. The gradient for the *image* is there for the
# same price, so leave the weights alone and climb: if $s_t(x)$ is the network's score for a class
# $t$ of your choice, repeat
#
# $$x \leftarrow \text{clamp}\!\left(x + \eta\,
#   \frac{\nabla_x s_t(x)}{\lVert\nabla_x s_t(x)\rVert_2},\; 0,\; 1\right)$$
#
# until $t$ has the highest score of all. Dividing by the gradient's length makes each step $\eta$
# long, however steep the score is.
#
# ### Exercise: `make_fooling_image`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1</summary>
#
# A step of length $\eta = 0.5$ does well for images of 64 × 64 pixels; ten steps are usually
# enough. Give up after a hundred.
#
# </details>
# <details><summary>Hint 2: an image that is fit for gradients</summary>
#
# Work on `X.clone()`. In each round call `.requires_grad_()` on your image, ask
# `torch.autograd.grad(score, image)` for the gradient, and make the next image from
# `image.detach()`, so that the graph of the last round is forgotten.
#
# </details>


# %% exercise="make_fooling_image" changes="X.grad, X.requires_grad, model.grad"
def make_fooling_image(X, target_y, model):
    """An image that looks like X and that the network takes for another class.

        x ← clamp(x + η g / ‖g‖₂, 0, 1),   g = ∇_x s_target(x),   until s_target is the highest

    Other rules for the step or for when to stop are fine, too.

    Args:
        X: one image, float32 (1, 3, H, W) in [0, 1]. It stays as it is.
        target_y: the class to be seen, an int; not what the network sees in X.
        model: a network in eval mode, from images to class scores (1, C). It stays as it is.

    Returns:
        X_fooling: like X, in [0, 1]. The network gives target_y its highest score, and the root
            mean square of X_fooling − X is at most 0.06.
    """
    ### BEGIN SOLUTION
    X_fooling = X.clone()
    for _ in range(100):
        X_fooling.requires_grad_()
        scores = model(X_fooling)
        if scores.argmax(1).item() == target_y:
            break
        (gradient,) = torch.autograd.grad(scores[0, target_y], X_fooling)
        X_fooling = (X_fooling.detach() + 0.5 * gradient / gradient.norm()).clamp(0, 1)
    return X_fooling.detach()
    ### END SOLUTION


# %% given=true
def check_fooling(X_fooling, picture, target, network):
    """Fail unless an image looks like the picture and the network takes it for the target."""
    assert X_fooling is not None, "make_fooling_image returned None; is a `return` missing?"
    assert X_fooling.shape == picture.shape, (
        f"X_fooling: expected shape {tuple(picture.shape)}, got {tuple(X_fooling.shape)}."
    )
    with torch.no_grad():
        before, after = (network(images.detach())[0] for images in (picture, X_fooling))
    change = (X_fooling.detach() - picture).square().mean().sqrt().item()
    assert torch.isfinite(X_fooling).all(), "X_fooling has values that are NaN or infinite."
    assert change > 0, "X_fooling is X itself: nothing was changed."
    assert after[target] > before[target], (
        f"the target's score fell from {before[target]:.2f} to {after[target]:.2f}: is the sign"
        " reversed, or is it another class whose score you climb?"
    )
    assert X_fooling.min() >= -1e-6 and X_fooling.max() <= 1 + 1e-6, (
        f"X_fooling runs from {X_fooling.min():.3f} to {X_fooling.max():.3f}; an image has to be"
        " clamped to [0, 1]."
    )
    assert change <= 0.06, (
        f"X_fooling changes the image by {change:.3f} (root mean square), more than 0.06: stop as"
        " soon as the network is fooled, take smaller steps, and return the image, not the change."
    )
    assert after.argmax() == target, (
        f"the network gives class {after.argmax()} {after.max():.2f} and the target, {target}, only"
        f" {after[target]:.2f}: climb the target's score, in more steps, until it is the highest."
    )


# %% test="make_fooling_image" points=2 aspect="a scene"
network = load_model("base")
pictures, _ = make_scenes(2, np.random.default_rng(0), "biased").tensors()  # loads no photograph
with torch.no_grad():
    target = int(network(pictures[:1])[0].argsort()[4])
picture = pictures[:1].clone()
check_fooling(make_fooling_image(pictures[:1], target, network), picture, target, network)

# %% test="make_fooling_image" points=1 aspect="a scene that isn't square"
network = load_model("base")
pictures, _ = make_scenes(2, np.random.default_rng(0), "biased").tensors()
pictures = pictures[1:, :, :, 8:56]
with torch.no_grad():
    target = int(network(pictures)[0].argsort()[4])
picture = pictures.clone()
check_fooling(make_fooling_image(pictures, target, network), picture, target, network)

# %% test="make_fooling_image" points=1 aspect="other scenes and targets"
### BEGIN HIDDEN TESTS
network = load_model("base")
rng = np.random.default_rng(reference.seed)
pictures, _ = make_scenes(3, rng, "biased").tensors()
for picture, target in zip(pictures[:, None, :, 4:], rng.permutation(10), strict=False):
    with torch.no_grad():
        before = network(picture)[0]
    target = int(target) if target != before.argmax() else int(before.argmin())
    X_fooling = make_fooling_image(picture.clone(), target, network).detach()
    with torch.no_grad():
        after = network(X_fooling)[0]
    change = (X_fooling - picture).square().mean().sqrt().item()
    assert after.argmax() == target, f"class {target} is not seen in X_fooling"
    assert 0 < change <= 0.06 and X_fooling.min() >= -1e-6 and X_fooling.max() <= 1 + 1e-6, (
        f"X_fooling is out of bounds: it changes the image by {change:.3f} (root mean square)"
    )
### END HIDDEN TESTS

# %% [markdown]
# Seven scenes, and for each a class that it has nothing to do with (and your own picture, if there
# is one, with another class than the one that the network sees in it):

# %% fold="Figure: What it is, what the network sees in it now, and what was changed"
originals = torch.cat([X[:7], own_picture()])
seen = torch.cat([y[:7], scores_of(base, originals[7:]).argmax(1)])
targets = (seen + torch.arange(2, 2 + len(seen), device=device)) % 10
fooling = torch.cat(
    [
        make_fooling_image(image[None], target.item(), base)
        for image, target in zip(originals, targets, strict=True)
    ]
).detach()
magnified = 0.5 + 5 * (fooling - originals)
contact_sheet(
    torch.cat([originals, fooling, magnified]),
    captions(base, originals) + captions(base, fooling) + ["change × 10"] * len(seen),
    columns=len(seen),
    heading="Top: what it is. Middle: what the network sees in it now. Bottom: what was changed",
)
plt.show()

tried = X[7:37]
wanted = (y[7:37] + torch.arange(1, 31, device=device) % 9 + 1) % 10
fooled = torch.cat(
    [
        make_fooling_image(image[None], target.item(), base)
        for image, target in zip(tried, wanted, strict=True)
    ]
).detach()
sizes = (fooled - tried).square().mean((1, 2, 3)).sqrt()
print(f"{accuracy(base, fooled, wanted):.0%} of 30 more scenes fooled, to a class of our choice;")
print(f"median change {255 * sizes.median():.1f} grey levels of 255 (root mean square)")

# %% [markdown]
# Nothing in the middle row looks like its caption. The changes (grey means none) are small,
# scattered and, to us, without meaning. They gather where the network would look for the new class:
# mostly on the object, at times on some distractor that lends itself to it. Mind the factor of ten
# in the last row: without it you would see plain grey.
#
# ## 2. A straight line is enough
#
# Surely this is a freak of deep, crooked, overfitted functions? It isn't. Take the plainest
# classifier there is, a linear one: $s(x) = w \cdot x + b$. Add a perturbation $\delta$:
#
# $$s(x + \delta) = s(x) + w \cdot \delta$$
#
# Nobody shall notice, so no pixel may change by more than $\varepsilon$: $\lVert\delta\rVert_\infty
# = \max_i |\delta_i| \le \varepsilon$. Which $\delta$ raises the score most? And if it is the
# length that is bounded, $\lVert\delta\rVert_2 = \sqrt{\sum_i \delta_i^2} \le \varepsilon$? Each
# product $w_i \delta_i$ may be tiny. But there are as many of them as there are pixels, and you
# choose all of their signs.
#
# ### Exercise: `linear_perturbation`
# ★☆☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# In the first case every pixel can be decided on its own. In the second remember that
# $w \cdot \delta = \lVert w\rVert_2 \lVert\delta\rVert_2 \cos\varphi$.
#
# </details>


# %% exercise="linear_perturbation"
def linear_perturbation(w, epsilon, norm):
    """The perturbation δ that raises a linear score w · x + b the most.

        argmax over δ of Σ_i w_i δ_i   where ‖δ‖ ≤ ε

    Args:
        w: the weights, float64 tensor of any shape, without zeros.
        epsilon: the bound ε > 0 on the perturbation's norm.
        norm: "linf", which bounds the largest |δ_i|, or "l2", which bounds the square root of
            Σ_i δ_i² over all values together.

    Returns:
        delta: float64 tensor of w's shape.
    """
    ### BEGIN SOLUTION
    if norm == "linf":
        return epsilon * w.sign()
    return epsilon * w / w.norm()
    ### END SOLUTION


# %% test="linear_perturbation" points=1 aspect="the maximum norm"
w = torch.tensor([[2.0, -1.0, 0.5], [-4.0, 0.05, 3.0]], dtype=torch.float64)
### BEGIN EXPECTED
expected = reference.linear_perturbation(w, 0.1, "linf")
mistakes = {
    "ε is left out": w.sign(),
    "the weights themselves are taken, not their signs": 0.1 * w,
    "the weights are clamped to [−ε, ε]: every pixel can use all of ε": w.clamp(-0.1, 0.1),
    "it lowers the score: the sign is reversed": -0.1 * w.sign(),
    "the weights' absolute values are taken": 0.1 * w.abs().sign(),
    "all of it went into the largest weight": 0.1 * w.sign() * (w.abs() == 4),
    "this is the answer for the other norm": 0.1 * w / w.norm(),
    "w is divided by its largest value": 0.1 * w / 4,
    "ε is shared among the pixels: each may move by all of it": 0.1 * w.sign() / 6,
}
### END EXPECTED
name = 'linear_perturbation(w, 0.1, "linf")'
check_close(linear_perturbation(w, 0.1, "linf"), expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="linear_perturbation" points=1 aspect="the Euclidean norm"
w = torch.tensor([[2.0, -1.0, 0.5], [-4.0, 0.25, 3.0]], dtype=torch.float64)
### BEGIN EXPECTED
expected = reference.linear_perturbation(w, 0.1, "l2")
mistakes = {
    "ε is left out": w / w.norm(),
    "the weights themselves are taken, not their direction": 0.1 * w,
    "it lowers the score: the sign is reversed": -0.1 * w / w.norm(),
    "the weights' absolute values are taken": 0.1 * w.abs() / w.norm(),
    "all of it went into the largest weight": 0.1 * w.sign() * (w.abs() == 4),
    "each row has a norm of its own": 0.1 * w / w.norm(dim=1, keepdim=True),
    "each column has a norm of its own": 0.1 * w / w.norm(dim=0),
    "w is divided by its largest singular value: it is the norm of all values as one vector": (
        0.1 * w / torch.linalg.matrix_norm(w, 2)
    ),
    "w is divided by Σ|w|, not by the square root of Σw²": 0.1 * w / w.abs().sum(),
    "w is divided by Σw², not by its square root": 0.1 * w / w.square().sum(),
    "w is divided by its largest value": 0.1 * w / 4,
    "this is the answer for the other norm": 0.1 * w.sign(),
    "it is the signs' direction, not that of the weights": 0.1 * w.sign() / 6**0.5,
}
### END EXPECTED
name = 'linear_perturbation(w, 0.1, "l2")'
check_close(linear_perturbation(w, 0.1, "l2"), expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="linear_perturbation" points=1 aspect="other shapes"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(7,), (3, 2, 5), (1,)]:
    w = torch.randn(shape, generator=generator, dtype=torch.float64)
    for norm in ("linf", "l2"):
        check_close(
            linear_perturbation(w.clone(), 0.3, norm),
            reference.linear_perturbation(w, 0.3, norm),
            f'linear_perturbation for w of shape {shape} and "{norm}"',
            tolerance=1e-6,
        )
### END HIDDEN TESTS

# %% [markdown]
# A worked example, small enough for pencil and paper (Andrej Karpathy's): ten pixels, ten weights.

# %% fold="Figure: No pixel changes by more than 0.5, yet the answer does"
x = torch.tensor([2, -1, 3, -2, 2, 2, 1, -4, 5, 1], dtype=torch.float64)
w = torch.tensor([-1, -1, 1, -1, 1, -1, 1, 1, -1, 1], dtype=torch.float64)
delta = linear_perturbation(w, 0.5, "linf")

figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for values, offset, colour, name in ((x, -0.2, "0.7", "x"), (x + delta, 0.2, "#0072B2", "x + δ")):
    total = w @ values
    name += f": score {total:g}, probability {total.sigmoid():.0%}"
    axes[0].bar(np.arange(10) + offset, w * values, 0.4, color=colour, label=name)
axes[0].axhline(0, color="black", linewidth=0.8)
axes[0].set(xticks=range(10), xlabel="pixel i", ylabel="its share of the score, $w_i x_i$")
axes[0].set(title="No pixel changes by more than 0.5, yet the answer does", ylim=(-6, 9))
axes[0].legend(loc="upper center", frameon=False)

sizes = 2 ** np.arange(4, 19)
generator = torch.Generator().manual_seed(0)
worst, noise = [], []
for size in sizes:
    w = torch.randn(int(size), generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (20, int(size)), generator=generator).double() * 2 - 1
    worst.append(w @ linear_perturbation(w, 8 / 255, "linf"))
    noise.append((8 / 255 * signs @ w).abs().mean())
axes[1].loglog(sizes, worst, color="#0072B2", marker="o", label="chosen signs: ∝ pixels")
axes[1].loglog(sizes, noise, color="#E69F00", marker="s", label="random signs: ∝ √pixels")
for side in (64, 224):
    axes[1].axvline(3 * side**2, color="0.6", linestyle=":")
    label = f"{side} × {side} × 3 "
    place = axes[1].get_xaxis_transform()
    axes[1].text(3 * side**2, 0.02, label, rotation=90, ha="right", color="0.4", transform=place)
axes[1].set(
    xlabel="pixels", ylabel="change of the score", title="ε = 8/255 each, but there are many"
)
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# On the left each of ten bars rises by 0.5; together they lift the score from −3 to 2, from 5% to
# 88%. On the right the weights are random, one for each pixel: what you can gain grows with the
# number of pixels, $\varepsilon \lVert w\rVert_1$, while random signs mostly cancel and gain only
# its square root. At the size of a photograph the ratio is in the hundreds. So noise of the same
# size is harmless. And a *large* image is easier to attack than a small one, unless the margin by
# which the right class leads grows with the number of pixels, too.
#
# Does it happen to a trained classifier? Here is logistic regression on handwritten digits, all of
# 8 × 8 pixels. To turn class $a$ into class $b$, the score to raise is the difference $s_b - s_a$,
# whose weights are $w_b - w_a$.

# %%
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

digits = load_digits()
pixels, answers = digits.data / 16, digits.target
classifier = LogisticRegression(max_iter=1000).fit(pixels[:1200], answers[:1200])
weights = torch.from_numpy(classifier.coef_)
pixels, answers = pixels[1200:], answers[1200:]
scores = classifier.decision_function(pixels)
scores[np.arange(len(answers)), answers] = -np.inf  # so that the highest is the strongest rival
directions = torch.stack(
    [
        linear_perturbation(weights[rival] - weights[answer], 1, "linf")
        for answer, rival in zip(answers, scores.argmax(1), strict=True)
    ]
).numpy()
random_signs = np.random.default_rng(0).choice([-1.0, 1.0], directions.shape)


def digit_accuracy(perturbation):
    return classifier.score(np.clip(pixels + perturbation, 0, 1), answers)


figure = plt.figure(figsize=(11, 3.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
right_ones = np.where(classifier.predict(pixels) == answers, answers, -1)
shown = [np.flatnonzero(right_ones == digit)[0] for digit in range(6)]
for row, epsilon in zip(left.subplots(2, 6), (0, 0.2), strict=True):
    changed = np.clip(pixels + epsilon * directions, 0, 1)[shown]
    for ax, picture, answer in zip(row, changed, classifier.predict(changed), strict=True):
        ax.imshow(picture.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"“{answer}”", fontsize=10)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"ε = {epsilon}")
left.suptitle("Six digits, and what the linear classifier reads")
ax = right.subplots()
epsilons = np.linspace(0, 0.3, 13)
ax.plot(epsilons, [digit_accuracy(e * random_signs) for e in epsilons], "s--", color="#E69F00")
ax.plot(epsilons, [digit_accuracy(e * directions) for e in epsilons], "o-", color="#0072B2")
ax.text(0.3, 0.93, "random signs", color="#8A6000", ha="right")
ax.text(0.13, 0.45, "chosen signs", color="#0072B2")
ax.set(
    xlabel="ε", ylabel="accuracy", ylim=(-0.03, 1.05), title="64 pixels and no hidden layer suffice"
)
plt.show()

# %% [markdown]
# A linear classifier without a single hidden layer falls as well, and at this small size you can
# still see how: 64 pixels are few, so each has to change by a lot. This is the argument of
# Goodfellow et al. (2015): it isn't that networks are too crooked. Piece by piece, between the
# kinks of its ReLUs, a network is *linear*, and there are thousands of pixels whose small changes
# add up. It isn't the last word. Ilyas et al. (2019) trained new networks on adversarial examples
# with their wrong labels, and these were right about many *untouched* pictures: so what an attack
# changes isn't mere noise, it is a pattern that does predict the class, and that people don't see.
#
# ### Question: why linear?
# ★★☆ · 10 minutes · optional

# %% [markdown] question="why_linear" points=3
# At first, adversarial examples were taken for pockets of nonsense in a function that is too
# crooked. Like the rationals among the reals they would lie everywhere, but so thinly that you
# would never hit one by chance.
#
# 1. Name one thing that you have measured above which speaks *for* linearity as the explanation.
# 2. Somebody proposes to rescue the linear classifier by dividing all its weights by 100. Does this
#    help? Say what happens to the score, to the perturbation and to the answer.
#
# Two or three sentences each.
#
# ### BEGIN SOLUTION
# 1 (1 point). Any one of: a linear classifier, which has no crooks, is fooled as well; the gain
# grows in proportion to the number of pixels at fixed ε, while random signs gain its square root,
# as the formula says; random noise of the same size does nothing, so the direction matters, not
# the place. Also good: one gradient, followed a long way, keeps working. Not enough: "networks use
# ReLUs, which are linear" (no measurement).
#
# 2 (2 points). It does not help (1 point): all scores and all changes of scores shrink by the same
# factor, the perturbation depends on the weights' signs only (or direction, for L2), so the same δ
# flips the same decisions (1 point). Only the reported probabilities get closer to one another.
# What would help is a larger distance between the classes in units of ‖w_b − w_a‖₁, that is, a
# margin that is large in relation to the weights. Saying that the softmax's confidence falls is
# right but doesn't earn the point by itself.
# ### END SOLUTION

# %% [markdown]
# ## 3. One step
#
# If a network is nearly linear near $x$, its gradient plays the part of $w$. The attacker wants the
# loss $L$ for the true label $y$ to grow, with no pixel moving by more than $\varepsilon$. You have
# just found the best move; with the clamp that keeps it an image, it is the **fast gradient sign
# method** (Goodfellow et al. 2015):
#
# $$x_{\text{adv}} = \text{clamp}\!\left(x + \varepsilon\,
#   \text{sign}\, \nabla_x L(f(x), y),\; 0,\; 1\right)$$
#
# This is an *untargeted* attack: any wrong answer will do. Hence the loss of the true label, and
# not the score of another.
#
# ### Exercise: `fgsm`
# ★☆☆ · 15 minutes


# %% exercise="fgsm" changes="X.grad, X.requires_grad, model.grad"
def fgsm(X, y, model, epsilon):
    """The fast gradient sign method.

        x_adv = clamp(x + ε sign ∇_x L(f(x), y), 0, 1),   L the cross-entropy

    Args:
        X: images, float tensor (N, 3, H, W) in [0, 1]. They stay as they are.
        y: their labels, int64 (N,), right or wrong: the loss of these is what grows.
        model: a network in eval mode, from images to class scores (N, C). It stays as it is.
        epsilon: how far each value may move.

    Returns:
        X_adv: like X.
    """
    ### BEGIN SOLUTION
    X_adv = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
    return (X + epsilon * gradient.sign()).clamp(0, 1)
    ### END SOLUTION


# %% test="fgsm" points=1 aspect="one image"
X_test, weight = 0.3 + 0.4 * random_images(50, 1, 3, 2, 4), random_images(51, 4, 3, 2, 4) - 0.5
network, y_test = linear_network(weight), torch.tensor([1])
### BEGIN EXPECTED
# For a linear network the gradient is known: Σ_k (p_k − [k = y]) w_k.
p = network(X_test).softmax(1)[0].detach()
assert p.argmax() != 1  # what it sees is another class than y
gradient = torch.einsum("k,kchw->chw", p - F.one_hot(y_test, 4)[0], weight)[None]
seen = torch.einsum("k,kchw->chw", p - F.one_hot(p.argmax(), 4), weight)[None]
expected = reference.fgsm(X_test, y_test, network, 0.1)
mistakes = {
    "the step goes down the loss, which makes the image easier": X_test - 0.1 * gradient.sign(),
    "the gradient's sign is not taken": X_test + 0.1 * gradient,
    "the gradient is scaled to length 1 instead of taking its sign": (
        X_test + 0.1 * gradient / gradient.norm()
    ),
    "y is ignored and the network's own answer used": X_test + 0.1 * seen.sign(),
    "the score of y is raised, which makes the image easier": X_test + 0.1 * weight[1].sign(),
    "the score of y is lowered; it is the cross-entropy that has to grow": (
        X_test - 0.1 * weight[1].sign()
    ),
    "the perturbation is returned, not the image": 0.1 * gradient.sign(),
    "ε is left out": (X_test + gradient.sign()).clamp(0, 1),
    "nothing was changed": X_test,
}
### END EXPECTED
check_close(fgsm(X_test, y_test, network, 0.1), expected, "fgsm for one image", mistakes=mistakes)

# %% test="fgsm" points=1 aspect="a batch, in [0, 1]"
X_test, weight = random_images(52, 3, 3, 2, 4), random_images(53, 4, 3, 2, 4) - 0.5
X_test[0, :, 0, :2], X_test[1, :, 1, 2:] = 1, 0  # where the clamp has to act
network = linear_network(weight)
with torch.no_grad():
    ranking = network(X_test).argsort(1)
y_test = torch.stack([ranking[0, 0], ranking[1, -1], ranking[2, 1]])  # one of them is predicted
### BEGIN EXPECTED
errors = network(X_test).softmax(1).detach() - F.one_hot(y_test, 4)
gradient = torch.einsum("nk,kchw->nchw", errors, weight)
step = 0.1 * gradient.sign()
leaf = X_test.clone().requires_grad_()
(of_probabilities,) = torch.autograd.grad(F.cross_entropy(network(leaf).softmax(1), y_test), leaf)
expected = reference.fgsm(X_test, y_test, network, 0.1)
mistakes = {
    "the result is not clamped to [0, 1]": X_test + step,
    "the perturbation is clamped to [0, 1] instead of the image": X_test + step.clamp(0, 1),
    "images that the network gets wrong already are left as they are": torch.stack(
        [X_test[0], expected[1], X_test[2]]
    ),
    "only the first image is attacked": torch.cat([expected[:1], X_test[1:]]),
    "probabilities are handed to the cross-entropy, which takes scores": torch.clamp(
        X_test + 0.1 * of_probabilities.sign(), 0, 1
    ),
    "all images share one gradient": (X_test + 0.1 * gradient.mean(0).sign()).clamp(0, 1),
    "what belongs to the first label is used for all": reference.fgsm(
        X_test, y_test[:1].expand(3), network, 0.1
    ),
    "the gradient's sign is not taken": (X_test + 0.1 * gradient / 3).clamp(0, 1),
}
### END EXPECTED
check_close(fgsm(X_test, y_test, network, 0.1), expected, "fgsm for a batch", mistakes=mistakes)

# %% test="fgsm" points=1 aspect="other networks and radii"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
network = tiny_network(reference.seed)
for shape, epsilon in [((4, 3, 6, 5), 0.03), ((1, 3, 4, 7), 0.2)]:
    X_test = torch.rand(shape, generator=generator, dtype=torch.float64)
    y_test = torch.randint(0, 4, shape[:1], generator=generator)
    expected = reference.fgsm(X_test.clone(), y_test, network, epsilon)
    X_adv = fgsm(X_test.clone(), y_test, network, epsilon)
    check_close(X_adv, expected, f"fgsm for images {shape} and ε = {epsilon}")
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test = torch.rand(3, 3, 9, 8, generator=generator, dtype=torch.float64)
    y_test = torch.tensor([4, 1, 0])
    expected = reference.fgsm(X_test, y_test, network, 0.03)
    X_adv = fgsm(X_test.clone(), y_test, network, 0.03)
    check_close(X_adv, expected, "fgsm for a network with a forward of its own")
### END HIDDEN TESTS

# %% [markdown]
# One scene at three radii. Where your notebook can show sliders, you can turn the radius up
# yourself, and choose another scene. Your own picture is the last of them; its “true class” is what
# the network saw before the attack.

# %%
from ipywidgets import IntSlider


# Names of their own, as the sliders go on using them when you are further down.
attackable = torch.cat([X, own_picture()])
attackable_labels = torch.cat([y, scores_of(base, attackable[len(X) :]).argmax(1)])


def show_attack(axes, number, levels):
    """A picture, attacked with ε = levels/255: the image, the perturbation, the network's answer."""
    image, label = attackable[number : number + 1], attackable_labels[number : number + 1]
    attacked = fgsm(image, label, base, levels / 255)
    probabilities = scores_of(base, attacked).softmax(1)[0].cpu().numpy()
    show_image(axes[0], attacked[0])
    axes[0].set_title(f"ε = {levels}/255")
    change = 255 * (attacked - image)[0, 0].cpu().numpy()
    limit = max(levels, 1)
    shown = axes[1].imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[1].set_title("perturbation of red")
    axes[1].axis("off")
    axes[1].figure.colorbar(shown, ax=axes[1], label="grey levels")
    colours = ["#0072B2" if k == label.item() else "#E69F00" for k in range(10)]
    axes[2].barh(class_names, probabilities, color=colours)
    axes[2].invert_yaxis()
    answer = probabilities.argmax()
    axes[2].set(xlim=(0, 1), xlabel="probability")
    axes[2].set_title(f"“{class_names[answer]}” ({probabilities[answer]:.0%})")


figure, axes = plt.subplots(3, 3, figsize=(9, 8), width_ratios=(1, 1.2, 1.3), layout="constrained")
figure.suptitle("One step along the sign of the gradient (blue bar: the true class)")
for row, levels in zip(axes, (0, 2, 8), strict=True):
    show_attack(row, 2, levels)
plt.show()


def attack_one(scene, levels):
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), width_ratios=(1, 1.2, 1.3))
    figure.subplots_adjust(0.01, 0.18, 0.98, 0.9, wspace=0.62)  # quicker than a layout engine
    show_attack(axes, scene, levels)


explore(
    attack_one,
    scene=IntSlider(value=2, max=len(attackable) - 1),
    levels=IntSlider(value=4, max=16, description="255 ε"),
)


# %% [markdown]
# A step of 2/255 is enough for this scene. (The colour bars differ: each reaches to ε.) The
# perturbation has full strength everywhere, on the sky as on the object, except where a pixel is
# black or white already: under this bound a pixel costs nothing, so all of them are used. Try other
# scenes: for some the answer flips and flips back as ε grows, and for some one step never does it,
# because the gradient is only a promise about the near neighbourhood. To see how often it works,
# one scene won't do.
#
# ## 4. Many steps
#
# A network isn't *quite* linear: after a step of 8/255 the gradient has turned. So take smaller
# steps of length $\alpha$, look at the gradient anew after each, and come back whenever you have
# left the ball of radius $\varepsilon$ around the original. This is **projected gradient descent**
# (on the negative loss; Madry et al. 2018), the yardstick by which defences are measured:
#
# $$x \leftarrow \text{clamp}\Big(x_0 + \Pi_\varepsilon\big(x + \alpha\, \text{sign}\,
#   \nabla_x L(f(x), y) - x_0\big),\; 0,\; 1\Big)$$
#
# $\Pi_\varepsilon$ projects to the nearest perturbation in the ball. In the maximum norm this is
# simple: each value is clamped to $[-\varepsilon, \varepsilon]$. Often one starts from a random
# point of the ball instead of its centre; your function takes such a start as an argument.
#
# ### Exercise: `pgd`
# ★★☆ · 25 minutes
#
# <details><summary>Hint</summary>
#
# Keep the original X for the projection. In each step: gradient at the *latest* image, step,
# subtract X, clamp to the ball, add X, clamp to [0, 1]. Cut the graph with `.detach()`.
#
# </details>


# %% exercise="pgd" changes="X.grad, X.requires_grad, model.grad"
def pgd(X, y, model, epsilon, step_size, num_steps, start=None):
    """Projected gradient descent in the maximum norm.

        x ← clamp(x₀ + Π(x + α sign ∇_x L(f(x), y) − x₀), 0, 1),   L the cross-entropy,
        where Π clamps every value to [−ε, ε]

    Args:
        X: the originals x₀, float tensor (N, 3, H, W) in [0, 1]. They stay as they are.
        y: their labels, int64 (N,).
        model: a network in eval mode, from images to class scores (N, C). It stays as it is.
        epsilon: the ball's radius ε.
        step_size: α.
        num_steps: how many steps; 0 is possible.
        start: a perturbation in the ball, (N, 3, H, W); the first x is clamp(x₀ + start, 0, 1).
            None starts from x₀ itself.

    Returns:
        X_adv: like X.
    """
    ### BEGIN SOLUTION
    X_adv = X.clone() if start is None else (X + start).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), y), X_adv)
        perturbation = X_adv.detach() + step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv
    ### END SOLUTION


# %% test="pgd" points=2 aspect="one step, and a start"
X_test = 0.3 + 0.4 * random_images(56, 3, 3, 5, 4)
network, y_test = tiny_network(56), torch.tensor([2, 0, 1])
### BEGIN EXPECTED
leaf = X_test.clone().requires_grad_()
(gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), y_test), leaf)
expected = reference.pgd(X_test, y_test, network, 0.1, 0.03, 1)
mistakes = {
    "the step goes down the loss": X_test - 0.03 * gradient.sign(),
    "the step is ε long, not α": X_test + 0.1 * gradient.sign(),
    "the gradient's sign is not taken": X_test + 0.03 * gradient,
    "the gradient's sign is not taken, nor the loss's mean": X_test + 0.03 * 3 * gradient,
    "there is a step too many": reference.pgd(X_test, y_test, network, 0.1, 0.03, 2),
    "no step is taken: images that the network gets wrong already are attacked, too": X_test,
    "the perturbation is returned, not the image": 0.03 * gradient.sign(),
    "y is ignored and the network's own answer used": reference.pgd(
        X_test, network(X_test).argmax(1), network, 0.1, 0.03, 1
    ),
}
### END EXPECTED
X_adv, again = (pgd(X_test, y_test, network, 0.1, 0.03, 1) for _ in range(2))
assert X_adv is not None, "pgd returned None; is a `return` missing?"
assert torch.equal(torch.as_tensor(X_adv), torch.as_tensor(again)), (
    "two calls gave different images: without a start it begins at X itself, not at random."
)
check_close(X_adv, expected, "pgd with 1 step and no start", mistakes=mistakes)

X_test, start = random_images(54, 3, 3, 2, 4), 0.2 * random_images(55, 3, 3, 2, 4) - 0.1
X_test[0, :, 0, :2], X_test[1, :, 1, 2:] = 1, 0  # where the clamp has to act
network, y_test = tiny_network(55), torch.tensor([0, 1, 3])
### BEGIN EXPECTED
expected = reference.pgd(X_test, y_test, network, 0.1, 0.03, 0, start)
mistakes = {
    "the start is ignored": X_test,
    "the start is not clamped to [0, 1]": X_test + start,
    "the start is taken for the image itself": start.clamp(0, 1),
    "there is a step too many": reference.pgd(X_test, y_test, network, 0.1, 0.03, 1, start),
    "the start is subtracted": (X_test - start).clamp(0, 1),
    "the start is scaled with ε once more": (X_test + 0.1 * start).clamp(0, 1),
}
moved = reference.pgd(X_test, y_test, network, 0.1, 0.03, 1, start)
begin = (X_test + start).clamp(0, 1)
signs = []
for where in (X_test, begin):
    leaf = where.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), y_test), leaf)
    signs.append(gradient.sign())


def arrived(sign, begin=begin):
    """The images after a step of 0.03, back in the ball."""
    return X_test + (begin + 0.03 * sign - X_test).clamp(-0.1, 0.1)


mistakes_of_step = {
    "nothing brings the images back to the ball, or the ball is around the start, not around X": (
        (begin + 0.03 * signs[1]).clamp(0, 1)
    ),
    "every step starts from X again": (X_test + 0.03 * signs[1]).clamp(0, 1),
    "the start is ignored": (X_test + 0.03 * signs[0]).clamp(0, 1),
    "the gradient is always taken at X, not at the latest image": arrived(signs[0]).clamp(0, 1),
    "the images are not clamped to [0, 1]": arrived(signs[1]),
    "the step goes down the loss": arrived(-signs[1]).clamp(0, 1),
}
### END EXPECTED
X_adv = pgd(X_test, y_test, network, 0.1, 0.03, 0, start=start)
check_close(X_adv, expected, "pgd with 0 steps and a start", mistakes=mistakes)
X_adv = pgd(X_test, y_test, network, 0.1, 0.03, 1, start=start)
check_close(X_adv, moved, "pgd with 1 step from a start", mistakes=mistakes_of_step)

# %% test="pgd" points=2 aspect="many steps, the ball and [0, 1]"
X_test, start = random_images(57, 3, 3, 4, 6), 0.2 * random_images(58, 3, 3, 4, 6) - 0.1
X_test[0, :, 0, :3], X_test[1, :, 1, 2:] = 1, 0
network, y_test = tiny_network(1), torch.tensor([1, 2, 0])
### BEGIN EXPECTED
begin = (X_test + start).clamp(0, 1)


def steps(project, at=None, base=None):
    """Seven steps, from `base` or the latest images, after each of which `project` brings them
    back."""
    images = begin
    for _ in range(7):
        leaf = (images if at is None else at).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), y_test), leaf)
        images = project((images if base is None else base) + 0.03 * gradient.sign())
    return images


def to_ball(images, centre=X_test):
    return centre + (images - centre).clamp(-0.1, 0.1)


def path():
    """The images after 0 to 7 steps (8, N, …), their losses and whether they fool, both (8, N)."""
    shown = [reference.pgd(X_test, y_test, network, 0.1, 0.03, k, start) for k in range(8)]
    with torch.no_grad():
        scores = torch.stack([network(images) for images in shown])
    losses = [F.cross_entropy(each, y_test, reduction="none") for each in scores]
    return torch.stack(shown), torch.stack(losses), scores.argmax(2) != y_test


def added_up():
    """Seven steps along all gradients so far."""
    images, total = begin, 0
    for _ in range(7):
        leaf = images.clone().requires_grad_()
        total = total + torch.autograd.grad(F.cross_entropy(network(leaf), y_test), leaf)[0]
        images = to_ball(images + 0.03 * total.sign()).clamp(0, 1)
    return images


free = steps(lambda images: images.clamp(0, 1))
shown, losses, fooled = path()
expected = reference.pgd(X_test, y_test, network, 0.1, 0.03, 7, start)
mistakes = {
    "nothing brings the images back to the ball": free,
    "the images are brought back to the ball at the end only": to_ball(free).clamp(0, 1),
    "the ball is around the start, not around X": steps(
        lambda images: to_ball(images, begin).clamp(0, 1)
    ),
    "every step starts from X again": steps(lambda images: images.clamp(0, 1), base=X_test),
    "every step begins at the start again": steps(
        lambda images: to_ball(images).clamp(0, 1), base=begin
    ),
    "the images are not clamped to [0, 1]": steps(to_ball),
    "the images are clamped to [0, 1] at the end only": steps(to_ball).clamp(0, 1),
    "the gradient is always taken at X, not at the latest image": steps(
        lambda images: to_ball(images).clamp(0, 1), at=X_test
    ),
    "the gradient is always taken at the start, not at the latest image": steps(
        lambda images: to_ball(images).clamp(0, 1), at=begin
    ),
    "the gradients of earlier steps are added up: .grad has to be emptied": added_up(),
    "the images with the highest loss on the way are returned, not the last": (
        shown[losses.argmax(0), range(3)]
    ),
    "images that fool the network already are left as they are": (
        shown[fooled.int().argmax(0), range(3)]
    ),
    "the steps end once the whole batch fools the network": shown[fooled.all(1).int().argmax()],
    "there is a step too many": reference.pgd(X_test, y_test, network, 0.1, 0.03, 8, start),
    "there is a step too few": reference.pgd(X_test, y_test, network, 0.1, 0.03, 6, start),
}
### END EXPECTED
X_adv = pgd(X_test, y_test, network, 0.1, 0.03, 7, start=start)
check_close(X_adv, expected, "pgd with 7 steps and a start", mistakes=mistakes)

# %% test="pgd" points=1 aspect="other networks and sizes"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
network = tiny_network(reference.seed)
for shape, steps in [((4, 3, 6, 5), 6), ((1, 3, 4, 7), 3)]:
    X_test = torch.rand(shape, generator=generator, dtype=torch.float64)
    y_test = torch.randint(0, 4, shape[:1], generator=generator)
    start = 0.2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.1
    for first in (None, start):
        expected = reference.pgd(X_test.clone(), y_test, network, 0.1, 0.04, steps, start=first)
        X_adv = pgd(X_test.clone(), y_test, network, 0.1, 0.04, steps, start=first)
        leaf = X_test.clone().requires_grad_()
        F.cross_entropy(network(leaf), y_test).backward()
        straight = 0.04 * steps * leaf.grad.sign() + (0 if first is None else first)
        check_close(
            X_adv,
            expected,
            f"pgd for images {shape}, {steps} steps and {'no' if first is None else 'a'} start",
            mistakes={
                "the gradient is always taken at X, not at the latest image": (
                    X_test + straight.clamp(-0.1, 0.1)
                ).clamp(0, 1),
            },
        )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test = torch.rand(3, 3, 9, 8, generator=generator, dtype=torch.float64)
    y_test = torch.tensor([4, 1, 0])
    expected = reference.pgd(X_test, y_test, network, 0.1, 0.04, 4)
    X_adv = pgd(X_test.clone(), y_test, network, 0.1, 0.04, 4)
    check_close(X_adv, expected, "pgd for a network with a forward of its own")
### END HIDDEN TESTS

# %% [markdown]
# The plot by which every defence is judged: accuracy against $\varepsilon$. Beside your two
# attacks, as a control, noise of the same size in random directions.

# %%
generator = torch.Generator().manual_seed(0)
levels = (1, 2, 4, 8)


def random_start(X, epsilon):
    """Uniform in the ball of the maximum norm."""
    return epsilon * (2 * torch.rand(X.shape, generator=generator) - 1).to(X.device)


attacked = {}  # by network and radius, for the rest of the lab
for name in ("base", "robust"):
    for level in levels:
        epsilon = level / 255
        attacked[name, level] = pgd(
            X, y, networks[name], epsilon, epsilon / 4, 7, start=random_start(X, epsilon)
        ).detach()
robust = networks["robust"]
curves = {
    "base: random signs": [
        accuracy(base, (X + level / 255 * random_start(X, 1).sign()).clamp(0, 1), y)
        for level in levels
    ],
    "robust: PGD, 7 steps": [accuracy(robust, attacked["robust", level], y) for level in levels],
    "base: FGSM": [accuracy(base, fgsm(X, y, base, level / 255), y) for level in levels],
    "base: PGD, 7 steps": [accuracy(base, attacked["base", level], y) for level in levels],
}
starts = [accuracy(base, X, y), accuracy(robust, X, y), accuracy(base, X, y), accuracy(base, X, y)]
figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
looks = (("#888888", "s--"), ("#009E73", "D-"), ("#E69F00", "^-"), ("#0072B2", "o-"))
for (name, values), start, (colour, line) in zip(curves.items(), starts, looks, strict=True):
    ax.plot([0, *levels], [start, *values], line, color=colour, label=name)
    print(
        f"{name:22}",
        "  ".join(f"{level}/255: {v:.2f}" for level, v in zip(levels, values, strict=True)),
    )
ax.set(xlabel="ε in grey levels of 255", ylabel="accuracy", ylim=(-0.03, 1.05))
ax.set_title("The same few grey levels: harmless at random, fatal when chosen")
ax.legend(loc="lower left", frameon=False)
plt.show()

# %% [markdown]
# Random signs cost `base` nothing or next to nothing, up to 8/255. One step along the gradient costs
# it most of its answers there, and seven smaller steps in the same ball (nearly) all of them.
# `robust` keeps most of its answers at 4/255, for which it was trained, and a minority at twice that
# radius. A caution: such a curve is an upper bound. It says what *this* attack achieved, and a better
# one may achieve more.
#
# ### Exercise: `targeted_pgd`
# ★★☆ · 15 minutes
#
# Any wrong answer will do for `pgd`. An attacker with a plan wants *one*: whoever peels the label
# off an expensive bottle needs the till to read the cheap one. So let the loss of a **target** $t$
# fall, and stay in the ball (Kurakin, Goodfellow and Bengio 2017; Madry et al. 2018):
#
# $$x \leftarrow \text{clamp}\Big(x_0 + \Pi_\varepsilon\big(x - \alpha\, \text{sign}\,
#   \nabla_x L(f(x), t) - x_0\big),\; 0,\; 1\Big)$$
#
# Two things are new besides the sign. This function draws its random start itself, uniformly from
# the ball. And it can choose the hardest target by itself, the class that the network thinks *least
# likely* for the original.
#
# <details><summary>Hint</summary>
#
# `torch.rand` gives numbers from 0 to 1. Which factor and which shift make them run from −ε to ε?
#
# </details>


# %% exercise="targeted_pgd" changes="X.grad, X.requires_grad, model.grad"
def targeted_pgd(X, targets, model, epsilon, step_size, num_steps, generator):
    """Projected gradient descent in the maximum norm towards a class, from a random start.

        x ← clamp(x₀ + Π(x − α sign ∇_x L(f(x), t) − x₀), 0, 1),   L the cross-entropy,
        where Π clamps every value to [−ε, ε];
        the first x is clamp(x₀ + δ, 0, 1), each value of δ uniform in [−ε, ε)

    Args:
        X: the originals x₀, float tensor (N, 3, H, W) in [0, 1]. They stay as they are.
        targets: the classes t to be seen, int64 (N,); or None, for each image's least likely class:
            the lowest score that the network gives to the original.
        model: a network in eval mode, from images to class scores (N, C). It stays as it is.
        epsilon: the ball's radius ε.
        step_size: α.
        num_steps: how many steps; 0 is possible.
        generator: a torch.Generator on the CPU, the only source of randomness. Draw δ from it in one
            call, `torch.rand(X.shape, generator=generator, dtype=X.dtype)`, and rescale it.

    Returns:
        X_adv: like X.
    """
    ### BEGIN SOLUTION
    if targets is None:
        with torch.no_grad():
            targets = model(X).argmin(1)
    start = epsilon * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype) - 1)
    X_adv = (X + start.to(X.device)).clamp(0, 1)
    for _ in range(num_steps):
        X_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X_adv), targets), X_adv)
        perturbation = X_adv.detach() - step_size * gradient.sign() - X
        X_adv = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv
    ### END SOLUTION


# %% test="targeted_pgd" points=1 aspect="the random start"
X_test = random_images(30, 2, 3, 5, 4)
X_test[0, :, 0], X_test[1, :, 4] = 1, 0  # where the clamp has to act
targets = torch.tensor([3, 1])
### BEGIN EXPECTED
uniform = random_images(30, 2, 3, 5, 4)
normal = torch.randn(X_test.shape, generator=torch.Generator().manual_seed(30), dtype=torch.float64)
expected = (X_test + 0.3 * (2 * uniform - 1)).clamp(0, 1)
mistakes = {
    "there is no random start": X_test,
    "the start is not clamped to [0, 1]": X_test + 0.3 * (2 * uniform - 1),
    "the start runs from 0 to ε, not from −ε": (X_test + 0.3 * uniform).clamp(0, 1),
    "the start fills half of the ball: it has to run from −ε to ε": (
        X_test + 0.3 * (uniform - 0.5)
    ).clamp(0, 1),
    "ε is left out of the start": (X_test + 2 * uniform - 1).clamp(0, 1),
    "only the signs of the start count": (X_test + 0.3 * (2 * uniform - 1).sign()).clamp(0, 1),
    "the start is drawn from a normal distribution": (X_test + 0.3 * normal).clamp(0, 1),
    "the start is drawn from a normal distribution and clamped to the ball": (
        X_test + (0.3 * normal).clamp(-0.3, 0.3)
    ).clamp(0, 1),
    "the perturbation is returned, not the image": 0.3 * (2 * uniform - 1),
    "the start has its signs reversed: subtract 1 from twice the numbers": (
        X_test - 0.3 * (2 * uniform - 1)
    ).clamp(0, 1),
    "a step is taken where none is asked for": reference.pgd(
        X_test, targets, tiny_network(3), 0.3, -0.1, 1, 0.3 * (2 * uniform - 1)
    ),
}
### END EXPECTED
first, again = (
    targeted_pgd(X_test, targets, tiny_network(3), 0.3, 0.1, 0, torch.Generator().manual_seed(30))
    for _ in range(2)
)
assert first is not None, "targeted_pgd returned None; is a `return` missing?"
assert torch.equal(torch.as_tensor(first), torch.as_tensor(again)), (
    "equal generators gave different images: draw from the generator, and from nothing else."
)
check_close(first, expected, "targeted_pgd with 0 steps", mistakes=mistakes)
# A generator that has been drawn from before, in two calls.
used = torch.Generator().manual_seed(36)
torch.rand(1, generator=used)
### BEGIN EXPECTED


def calls(count, skipped=0, drawn=1):
    """The images of `count` calls, of a generator that skips some numbers in between."""
    stream = torch.Generator().manual_seed(36)
    torch.rand(drawn, generator=stream)
    images = []
    for _ in range(count):
        images.append(reference.targeted_pgd(X_test, targets, tiny_network(3), 0.3, 0.1, 0, stream))
        for _ in range(skipped):
            torch.rand(X_test.shape, generator=stream, dtype=X_test.dtype)
    return images


one, two = calls(2)
mistakes_one = {"the generator is seeded anew: leave it as it comes": calls(1, drawn=0)[0]}
mistakes_two = {
    "it starts where the first call did: the generator was wound back, or never drawn from": one,
    "more is drawn from the generator than one start": calls(2, skipped=1)[1],
}
### END EXPECTED
first, second = twice(targeted_pgd, X_test, targets, tiny_network(3), 0.3, 0.1, 0, used)
name = "targeted_pgd with a generator that is used already"
check_close(first, one, name, mistakes=mistakes_one)
check_close(
    second, two, "a second call of targeted_pgd, with the same generator", mistakes=mistakes_two
)

# %% test="targeted_pgd" points=1 aspect="one step towards the class"
X_test = 0.3 + 0.4 * random_images(31, 3, 3, 5, 4)
targets, network = torch.tensor([2, 0, 1]), tiny_network(8)
### BEGIN EXPECTED
start = 0.1 * (2 * random_images(32, 3, 3, 5, 4) - 1)
begin = X_test + start


def slope(loss, images):
    """The gradient of a loss for images."""
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(loss(network(leaf)), leaf)[0]


def arrived(gradient, step=0.03):
    """The images after a step against this."""
    return X_test + (start - step * gradient).clamp(-0.1, 0.1)


g = slope(lambda scores: F.cross_entropy(scores, targets), begin)
expected = reference.targeted_pgd(
    X_test, targets, network, 0.1, 0.03, 1, torch.Generator().manual_seed(32)
)
with torch.no_grad():
    seen, least = network(X_test).argmax(1), network(X_test).argmin(1)
mistakes = {
    "the step leads away from the target: its loss has to fall": arrived(-g.sign()),
    "no step is taken": begin,
    "there is a step too many": reference.targeted_pgd(
        X_test, targets, network, 0.1, 0.03, 2, torch.Generator().manual_seed(32)
    ),
    "the step is ε long, not α": arrived(g.sign(), 0.1),
    "the gradient's sign is not taken": arrived(g),
    "the gradient's sign is not taken, nor the loss's mean": arrived(3 * g),
    "the gradient is scaled to length 1 instead of taking its sign": arrived(
        g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    ),
    "the target's score is raised; it is its cross-entropy that has to fall": arrived(
        slope(lambda scores: -scores.gather(1, targets[:, None]).sum(), begin).sign()
    ),
    "the targets are ignored: it flees from what the network sees": arrived(
        -slope(lambda scores: F.cross_entropy(scores, seen), begin).sign()
    ),
    "the targets are ignored: it goes to the least likely class": arrived(
        slope(lambda scores: F.cross_entropy(scores, least), begin).sign()
    ),
    "the gradient is taken at X, not at the random start": arrived(
        slope(lambda scores: F.cross_entropy(scores, targets), X_test).sign()
    ),
    "the step starts from X, not from the random start": X_test - 0.03 * g.sign(),
    "nothing brings the images back to the ball around X": begin - 0.03 * g.sign(),
    "the perturbation is returned, not the image": expected - X_test,
    "only the first image is attacked": torch.cat([expected[:1], begin[1:]]),
}
### END EXPECTED
X_adv = targeted_pgd(X_test, targets, network, 0.1, 0.03, 1, torch.Generator().manual_seed(32))
check_close(X_adv, expected, "targeted_pgd with 1 step", mistakes=mistakes)

# %% test="targeted_pgd" points=2 aspect="many steps, the ball and [0, 1]"
X_test = random_images(33, 3, 3, 4, 6)
X_test[0, :, 0, :3], X_test[1, :, 1, 2:] = 1, 0
targets, network = torch.tensor([1, 3, 0]), tiny_network(9)
### BEGIN EXPECTED
start = 0.1 * (2 * random_images(34, 3, 3, 4, 6) - 1)
begin = (X_test + start).clamp(0, 1)
expected = reference.targeted_pgd(
    X_test, targets, network, 0.1, 0.04, 6, torch.Generator().manual_seed(34)
)


def steps(project, at=None):
    """Six steps, after each of which `project` brings the images back."""
    images = begin
    for _ in range(6):
        leaf = (images if at is None else at).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), targets), leaf)
        images = project(images - 0.04 * gradient.sign())
    return images


def to_ball(images, centre=X_test):
    return centre + (images - centre).clamp(-0.1, 0.1)


mistakes = {
    "nothing brings the images back to the ball": steps(lambda images: images.clamp(0, 1)),
    "the images are brought back to the ball at the end only": to_ball(
        steps(lambda images: images.clamp(0, 1))
    ).clamp(0, 1),
    "the images are not clamped to [0, 1]": steps(to_ball),
    "the images are clamped to [0, 1] at the end only": steps(to_ball).clamp(0, 1),
    "the ball is around the start, not around X": steps(
        lambda images: to_ball(images, begin).clamp(0, 1)
    ),
    "every step starts from X again": reference.pgd(X_test, targets, network, 0.1, -0.04, 1),
    "every step begins at the random start again": reference.pgd(
        X_test, targets, network, 0.1, -0.04, 1, start
    ),
    "the gradient is always taken at X, not at the latest image": steps(
        lambda images: to_ball(images).clamp(0, 1), at=X_test
    ),
    "the gradient is always taken at the random start, not at the latest image": steps(
        lambda images: to_ball(images).clamp(0, 1), at=begin
    ),
    "it starts from X itself": reference.pgd(X_test, targets, network, 0.1, -0.04, 6),
    "the steps lead away from the targets": reference.pgd(
        X_test, targets, network, 0.1, 0.04, 6, start
    ),
    "there is a step too many": reference.pgd(X_test, targets, network, 0.1, -0.04, 7, start),
    "there is a step too few": reference.pgd(X_test, targets, network, 0.1, -0.04, 5, start),
}
### END EXPECTED
X_adv = targeted_pgd(X_test, targets, network, 0.1, 0.04, 6, torch.Generator().manual_seed(34))
check_close(X_adv, expected, "targeted_pgd with 6 steps", mistakes=mistakes)

# %% test="targeted_pgd" points=1 aspect="the least likely class"
X_test, weight = random_images(35, 4, 3, 6, 5), random_images(49, 4, 3, 6, 5) - 0.5
network = linear_network(weight - weight.mean((1, 2, 3), keepdim=True))
### BEGIN EXPECTED
start = 0.4 * (2 * random_images(37, 4, 3, 6, 5) - 1)
with torch.no_grad():
    ranking = network(X_test).argsort(1)
    at_start = network((X_test + start).clamp(0, 1)).argmin(1)


def towards(targets, number=3):
    return reference.pgd(X_test, targets, network, 0.4, -0.1, number, start)


shown = torch.stack([towards(ranking[:, 0], number) for number in range(4)])
reached = torch.stack([network(images).argmax(1) for images in shown]) == ranking[:, 0]
anew = shown[0]
for _ in range(3):
    least = network(anew).argmin(1)
    anew = reference.pgd(X_test, least, network, 0.4, -0.1, 1, anew - X_test)


expected = reference.targeted_pgd(
    X_test, None, network, 0.4, 0.1, 3, torch.Generator().manual_seed(37)
)
mistakes = {
    "the target is the most likely class, not the least": towards(ranking[:, -1]),
    "the target is the second likeliest class, not the least likely": towards(ranking[:, -2]),
    "the least likely class is that of the random start, not that of the original": towards(
        at_start
    ),
    "the least likely class is asked for anew at each step: it is the original's": anew,
    "the steps end once every target is reached, or an image's once its own is": (
        shown[reached.all(1).int().argmax()]
    ),
    "all images go to the first one's least likely class": towards(ranking[:1, 0].expand(4)),
    "it goes away from the least likely class": reference.pgd(
        X_test, ranking[:, 0], network, 0.4, 0.1, 3, start
    ),
    "it flees from what the network sees, to no class in particular": reference.pgd(
        X_test, ranking[:, -1], network, 0.4, 0.1, 3, start
    ),
}
### END EXPECTED
X_adv = targeted_pgd(X_test, None, network, 0.4, 0.1, 3, torch.Generator().manual_seed(37))
check_close(X_adv, expected, "targeted_pgd(X, None, …)", mistakes=mistakes)

# %% test="targeted_pgd" points=1 aspect="other networks and sizes"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for number, (shape, steps) in enumerate([((4, 3, 6, 5), 5), ((1, 3, 4, 7), 3)]):
    network = tiny_network(reference.seed)
    X_test = torch.rand(shape, generator=generator, dtype=torch.float64)
    for targets in (torch.randint(0, 4, shape[:1], generator=generator), None):
        seeds = [torch.Generator().manual_seed(reference.seed + number) for _ in range(2)]
        expected = reference.targeted_pgd(X_test, targets, network, 0.1, 0.04, steps, seeds[0])
        X_adv = targeted_pgd(X_test.clone(), targets, network, 0.1, 0.04, steps, seeds[1])
        check_close(X_adv, expected, f"targeted_pgd for images {shape} and {steps} steps")
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test = torch.rand(3, 3, 9, 8, generator=generator, dtype=torch.float64)
    for targets in (torch.tensor([4, 1, 0]), None):
        seeds = [torch.Generator().manual_seed(reference.seed) for _ in range(2)]
        expected = reference.targeted_pgd(X_test, targets, network, 0.1, 0.04, 4, seeds[0])
        X_adv = targeted_pgd(X_test.clone(), targets, network, 0.1, 0.04, 4, seeds[1])
        check_close(X_adv, expected, "targeted_pgd for a network with a forward of its own")
# Of so many images the start makes another class the least likely for some, and all of them reach
# their targets some steps before the last.
weight = torch.rand(4, 3, 6, 5, generator=generator, dtype=torch.float64) - 0.5
linear = linear_network(weight - weight.mean((1, 2, 3), keepdim=True))
X_many = torch.rand(24, 3, 6, 5, generator=generator, dtype=torch.float64)
seeds = [torch.Generator().manual_seed(reference.seed) for _ in range(2)]
expected = reference.targeted_pgd(X_many, None, linear, 0.4, 0.1, 7, seeds[0])
X_adv = targeted_pgd(X_many.clone(), None, linear, 0.4, 0.1, 7, seeds[1])
check_close(X_adv, expected, "targeted_pgd(X, None, …) for 24 images")
arguments = X_test, torch.tensor([4, 1, 0]), network, 0.1, 0.04, 3
expected = twice(reference.targeted_pgd, *arguments, torch.Generator().manual_seed(reference.seed))
first, second = twice(targeted_pgd, *arguments, torch.Generator().manual_seed(reference.seed))
check_close(first, expected[0], "targeted_pgd with a generator that a second call shares")
assert not torch.equal(first, second), "two calls with one generator give the same images"
assert torch.allclose(second, expected[1]), (
    "a second call with the same generator starts elsewhere: nothing but the start may be drawn"
)
### END HIDDEN TESTS

# %% [markdown]
# One scene at 8/255, towards each of the nine other classes, and beneath it your own picture, if
# there is one. Then the odds: twenty scenes, seven steps towards each class at 4/255.

# %%
generator = torch.Generator().manual_seed(0)


def towards(images, targets, level, model=base):
    """Seven steps of `targeted_pgd` at ε = level/255."""
    epsilon = level / 255
    return targeted_pgd(images, targets, model, epsilon, epsilon / 4, 7, generator).detach()


everything = torch.arange(10, device=device)
rows = []
for image in torch.cat([X[2:3], own_picture()]):
    others = everything[everything != scores_of(base, image[None]).argmax()]
    rows += [image[None], towards(image.expand(9, -1, -1, -1), others, 8)]
pictures = torch.cat(rows)
contact_sheet(
    pictures,
    captions(base, pictures),
    columns=10,
    heading="One picture (left), and what each of nine attacks at 8/255 made the network see",
)
plt.show()

some, some_labels = X[:20], y[:20]
reached = torch.stack(
    [
        scores_of(base, towards(some, torch.full_like(some_labels, target), 4)).argmax(1) == target
        for target in range(10)
    ]
)
counted = some_labels != everything[:, None]  # a scene's own class is no target
rates = (reached & counted).sum(1) / counted.sum(1)
untargeted = 1 - accuracy(base, attacked["base", 4][:20], some_labels)
figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
bars = ax.bar(class_names, rates.tolist(), color="#0072B2")
ax.bar_label(bars, fmt="%.2f", label_type="center", color="white")
ax.axhline(untargeted, color="black", linestyle="--")
ax.text(-0.4, untargeted + 0.01, "any wrong answer, by pgd", va="bottom")
ax.set(xlabel="target", ylabel="share of scenes that reach it", ylim=(0, 1.05))
ax.set_title("One class of your choice is harder to reach than any (base, ε = 4/255)")
plt.show()
print(
    f"To a class of the attacker's choice: {(reached & counted).sum() / counted.sum():.0%} of"
    f" {counted.sum()} attempts, from {rates.min():.0%} ({class_names[rates.argmin()]}) to"
    f" {rates.max():.0%} ({class_names[rates.argmax()]});"
)
print(f"wrong in any way, by as many steps of `pgd`: {untargeted:.0%} of the same scenes.")

# %% [markdown]
# A plan has its price: on average over the targets, in the same ball and with as many steps, fewer
# scenes get where the attacker wants than merely *away*. Where a bar comes near the dashed line, or
# above it, remember that seven steps of `pgd` aren't the best attack either: who reaches a target is
# wrong, too. Don't read much into which class is the easiest: some 18 scenes stand behind each bar,
# and between two bars that differ by less than 0.3 the order may be chance. With twice the radius,
# in the pictures above, hardly a target is out of reach. Mind how sure the network is there: the loss
# of a target goes on falling long after the target has won.
#
# ### Exercise: `pgd_l2`
# ★★★ · 25 minutes · optional
#
# "No pixel by more than ε" isn't the only meaning of small. In the **Euclidean norm** it is the
# length of the whole perturbation that is bounded, and the attacker may spend it where it pays.
# From section 2 you know the best step: along the gradient, of length $\alpha$.
#
# $$x \leftarrow \text{clamp}\Big(x_0 + \Pi_\varepsilon\big(x + \alpha\, \tfrac{g}{\lVert g\rVert_2}
#   - x_0\big),\; 0,\; 1\Big), \qquad
#   \Pi_\varepsilon(\delta) = \delta \cdot
#   \min\!\left(1,\; \frac{\varepsilon}{\lVert\delta\rVert_2}\right)$$
#
# Each image of the batch has a gradient length and a perturbation length of its own.
#
# <details><summary>Hint</summary>
#
# `delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)` holds the length of each perturbation, in a shape
# that divides images. Keep it from being zero with `.clamp(min=1e-12)`.
#
# </details>


# %% exercise="pgd_l2" changes="X.grad, X.requires_grad, model.grad"
def pgd_l2(X, y, model, epsilon, step_size, num_steps):
    """Projected gradient descent in the Euclidean norm, from the image itself.

        x ← clamp(x₀ + Π(x + α g / ‖g‖₂ − x₀), 0, 1),   g = ∇_x L(f(x), y), L the cross-entropy,
        where Π shortens what is longer than ε to length ε, and leaves the rest alone

    Args:
        X: the originals x₀, float tensor (N, 3, H, W) in [0, 1]. They stay as they are.
        y: their labels, int64 (N,).
        model: a network in eval mode, from images to class scores (N, C); the scores of one image
            don't depend on the others. It stays as it is.
        epsilon: the ball's radius ε, for each image.
        step_size: α.
        num_steps: how many steps.

    Returns:
        X_adv: like X. An image whose gradient is exactly zero stays where it is.
    """
    ### BEGIN SOLUTION
    X_adv = X.clone()
    for _ in range(num_steps):
        X_adv.requires_grad_()
        loss = F.cross_entropy(model(X_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, X_adv)
        length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        delta = X_adv.detach() + step_size * gradient / length - X
        length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        X_adv = (X + delta * (epsilon / length).clamp(max=1)).clamp(0, 1)
    return X_adv.detach()
    ### END SOLUTION


# %% test="pgd_l2" points=1 aspect="one step"
X_test = 0.3 + 0.4 * random_images(70, 3, 3, 2, 4)
network, y_test = (
    linear_network(0.5 * random_images(71, 4, 3, 2, 4) - 0.25),
    torch.tensor([0, 3, 1]),
)
### BEGIN EXPECTED
leaf = X_test.clone().requires_grad_()
loss = F.cross_entropy(network(leaf), y_test, reduction="sum")
(gradient,) = torch.autograd.grad(loss, leaf)
u = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
s = gradient.sign()
expected = reference.pgd_l2(X_test, y_test, network, 0.2, 0.08, 1)
mistakes = {
    "the step goes down the loss": X_test - 0.08 * u,
    "the gradient is not divided by its length": X_test + 0.08 * gradient,
    "the gradient is not divided by its length, and is a mean": X_test + 0.08 * gradient / 3,
    "all images share one gradient length: take each image's own": (
        X_test + 0.08 * gradient / gradient.norm()
    ),
    "each channel is divided by a length of its own": (
        X_test + 0.08 * gradient / gradient.norm(dim=(2, 3), keepdim=True)
    ),
    "the gradient is divided by the square of its length": (
        X_test + 0.08 * u / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    ),
    "the gradient's sign is taken, as for the maximum norm": X_test + 0.08 * s,
    "the gradient's sign is taken, as for the maximum norm, then projected": (
        X_test + 0.2 * s / s[0].norm()
    ),
    "a perturbation that is inside the ball is stretched to its surface": X_test + 0.2 * u,
    "there is a step too many": reference.pgd_l2(X_test, y_test, network, 0.2, 0.08, 2),
    "no step is taken": X_test,
    "the perturbation is returned, not the image": 0.08 * u,
}
### END EXPECTED
X_adv = pgd_l2(X_test, y_test, network, 0.2, 0.08, 1)
check_close(X_adv, expected, "pgd_l2 with 1 step", mistakes=mistakes, tolerance=1e-6)

# %% test="pgd_l2" points=1 aspect="many steps, and the ball"
X_test = 0.3 + 0.4 * random_images(72, 3, 3, 2, 4)
network, y_test = linear_network(random_images(73, 4, 3, 2, 4) - 0.5), torch.tensor([2, 0, 1])
### BEGIN EXPECTED


def lengths(delta):
    return delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def steps(project, base=None):
    """Seven steps, from `base` or the latest images, after each of which `project` brings the
    perturbations back."""
    images = X_test
    for _ in range(7):
        leaf = images.clone().requires_grad_()
        loss = F.cross_entropy(network(leaf), y_test, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        moved = (images if base is None else base) + 0.08 * gradient / lengths(gradient)
        images = X_test + project(moved - X_test)
    return images


free = steps(lambda delta: delta) - X_test
expected = reference.pgd_l2(X_test, y_test, network, 0.2, 0.08, 7)
mistakes = {
    "nothing brings the images back to the ball": X_test + free,
    "the images are brought back to the ball at the end only": (
        X_test + free * (0.2 / lengths(free)).clamp(max=1)
    ),
    "each value is clamped to [−ε, ε], as for the maximum norm": steps(
        lambda delta: delta.clamp(-0.2, 0.2)
    ),
    "every step starts from X again": steps(lambda delta: delta, base=X_test),
    "all images share one perturbation length: take each image's own": steps(
        lambda delta: delta * (0.2 / delta.norm()).clamp(max=1)
    ),
    "each channel is shortened on its own": steps(
        lambda delta: delta * (0.2 / delta.norm(dim=(2, 3), keepdim=True)).clamp(max=1)
    ),
    "the step is ε long, not α": reference.pgd_l2(X_test, y_test, network, 0.2, 0.2, 7),
    "there is a step too few": reference.pgd_l2(X_test, y_test, network, 0.2, 0.08, 6),
}
### END EXPECTED
X_adv = pgd_l2(X_test, y_test, network, 0.2, 0.08, 7)
check_close(X_adv, expected, "pgd_l2 with 7 steps", mistakes=mistakes, tolerance=1e-6)

# %% test="pgd_l2" points=1 aspect="no gradient, and the edge of [0, 1]"
# What is darker than 0.25 this network doesn't see, so the second image has no gradient at all.
weight, y_test = 0.5 * random_images(74, 2, 3, 2, 4) - 0.25, torch.tensor([0, 1, 0])
blind = nn.Sequential(nn.Threshold(0.25, 0.0), *linear_network(weight))
X_test = 0.3 + 0.4 * random_images(75, 3, 3, 2, 4)
X_test[1] = 0.1
### BEGIN EXPECTED
expected = reference.pgd_l2(X_test, y_test, blind, 0.2, 0.08, 1)
### END EXPECTED
X_adv = pgd_l2(X_test, y_test, blind, 0.2, 0.08, 1)
check_close(X_adv, expected, "pgd_l2 where one image's gradient is zero", tolerance=1e-6)
# From white and black images the clamp takes back a part of the step.
X_test = torch.stack([torch.ones(3, 2, 4), torch.zeros(3, 2, 4)]).double()
network = linear_network(weight)
### BEGIN EXPECTED
leaf = X_test.clone().requires_grad_()
loss = F.cross_entropy(network(leaf), y_test[:2], reduction="sum")
(gradient,) = torch.autograd.grad(loss, leaf)
u = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
expected = reference.pgd_l2(X_test, y_test[:2], network, 0.2, 0.08, 1)
mistakes = {"the images are not clamped to [0, 1]": X_test + 0.08 * u}
### END EXPECTED
name = "pgd_l2 from a white and a black image"
X_adv = pgd_l2(X_test, y_test[:2], network, 0.2, 0.08, 1)
check_close(X_adv, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="pgd_l2" points=1 aspect="other networks and sizes"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)


def not_predicted(network, X_test):
    """Labels that the network doesn't see, so that no gradient is too small to be divided by."""
    with torch.no_grad():
        ranking = network(X_test).argsort(1)
    return ranking[range(len(X_test)), torch.randint(0, 3, X_test.shape[:1], generator=generator)]


network = tiny_network(reference.seed)
for shape, steps in [((4, 3, 6, 5), 6), ((1, 3, 4, 7), 3)]:
    X_test = torch.rand(shape, generator=generator, dtype=torch.float64)
    y_test = not_predicted(network, X_test)
    expected = reference.pgd_l2(X_test.clone(), y_test, network, 0.5, 0.2, steps)
    X_adv = pgd_l2(X_test.clone(), y_test, network, 0.5, 0.2, steps)
    leaf = X_test.clone().requires_grad_()
    F.cross_entropy(network(leaf), y_test, reduction="sum").backward()
    straight = leaf.grad / leaf.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    check_close(
        X_adv,
        expected,
        f"pgd_l2 for images {shape} and {steps} steps",
        mistakes={
            "the gradient is always taken at X, not at the latest image": (
                X_test + 0.5 * straight
            ).clamp(0, 1),
        },
        tolerance=1e-6,
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
    network = awkward_network(reference.seed, parts=parts, **options)
    X_test = torch.rand(3, 3, 9, 8, generator=generator, dtype=torch.float64)
    y_test = not_predicted(network, X_test)
    expected = reference.pgd_l2(X_test, y_test, network, 0.5, 0.2, 4)
    X_adv = pgd_l2(X_test.clone(), y_test, network, 0.5, 0.2, 4)
    check_close(X_adv, expected, "pgd_l2 for a network with a forward of its own", tolerance=1e-6)
### END HIDDEN TESTS

# %%
few, few_labels = X[:24], y[:24]
radii = (0.5, 1, 2)
euclidean = {
    (name, radius): pgd_l2(few, few_labels, networks[name], radius, radius / 4, 7)
    for name in ("base", "robust")
    for radius in radii
}
figure = plt.figure(figsize=(11, 4.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1.5, 1))
rows = left.subplots(3, 5)
panels = [few, attacked["base", 4][:24] - few, euclidean["base", 1] - few]
for row, panel in zip(rows, panels, strict=True):
    for ax, picture in zip(row, panel, strict=False):
        if panel is few:
            show_image(ax, picture)
        else:
            change = 255 * picture.mean(0).cpu().numpy()
            shown = ax.imshow(change, cmap="RdBu_r", vmin=-8, vmax=8)
        ax.set(xticks=[], yticks=[])
for row, name in zip(rows, ("scene", "max norm\nε = 4/255", "Euclidean\nε = 1"), strict=True):
    row[0].set_ylabel(name)
left.colorbar(shown, ax=rows[1:], label="grey levels, mean of colours", shrink=0.9)
left.suptitle("Max norm: all pixels are used. Euclidean: those that pay")
ax = right.subplots()
for name, colour, line in (("base", "#0072B2", "o-"), ("robust", "#009E73", "D-")):
    values = [accuracy(networks[name], euclidean[name, radius], few_labels) for radius in radii]
    ax.plot([0, *radii], [accuracy(networks[name], few, few_labels), *values], line, color=colour)
    ax.text(1.03, values[1] + 0.02, name, color=colour)
ax.set(xlabel="Euclidean radius ε", ylabel="accuracy", ylim=(-0.03, 1.05))
ax.set_title("PGD in the Euclidean norm")
plt.show()
lengths = [
    (images - few).flatten(1).norm(dim=1).mean()
    for images in (attacked["base", 4][:24], euclidean["base", 1])
]
print(
    f"Euclidean length: {lengths[0]:.2f} at 4/255 in the maximum norm, {lengths[1]:.2f} at radius 1"
)
for name, changed in (("maximum", attacked["base", 4]), ("Euclidean", euclidean["base", 1])):
    energy = (changed[:24] - few).square().sum(1)
    share = ((energy * masks[:24]).sum((1, 2)) / energy.sum((1, 2))).mean()
    print(f"{name} norm: {share:.0%} of the squared change falls on the object", end=" ")
    print(f"({masks[:24].float().mean():.0%} of the picture)")

# %% [markdown]
# The attack that is bounded in length spends most of it on few pixels, many of them on the object
# or near it, and changes single ones by far more than 4/255. It doesn't leave the background alone
# altogether: the lines printed say how much of the squared change falls on the object. Though it
# is shorter, it does about as much harm. `robust`, which was trained in the maximum norm, holds out
# better than `base` here as well, but its lead is smaller than in its own norm. So never call a
# network robust without a norm and a radius. And don't take a norm for human eyesight: of two
# perturbations of equal length, one on a smooth sky is easy to see and one in a texture isn't.
#
# ## 5. One pixel (optional)
#
# Now the other extreme: change a *single* pixel, but change it as you like (Su et al. 2019). The
# gradient is of limited help here. It tells what a *small* change of each pixel does, and one can
# rank pixels by it (Papernot et al. 2016), but this change is large, and a row or a column of the
# image has no derivative. **Differential evolution** needs no gradient: it keeps a population of
# candidates (row, column, red, green, blue), and lets a child that beats its parent take its place.
# All it needs to know is a number to make small.
# The right number is the **margin**: by how much the true class leads. (Probabilities won't do: for
# most images they are all 1.00, and evolution sees no difference between its candidates.)
#
# $$m(x) = s_y(x) - \max_{j \ne y} s_j(x)$$
#
# It is positive where the network is right, and the attack has won as soon as it is negative.


# %% given=true fold=false
def logit_margin(scores, y):
    """By how much each image's label leads the strongest other class.

        margin = s_y − max over j ≠ y of s_j

    Args:
        scores: class scores, float tensor (N, C), C ≥ 2. They stay as they are.
        y: labels, int64 (N,); not always the highest score.

    Returns:
        margins: float tensor (N,), negative where the label is beaten.
    """
    own = scores.gather(1, y[:, None])[:, 0]
    others = scores.scatter(1, y[:, None], -torch.inf)
    return own - others.max(1).values


# %% [markdown]
# ### Exercise: `one_pixel_attack`
# ★★★ · 35 minutes · optional
#
# SciPy brings the evolution; you write what a candidate *is*. With `vectorized=True` SciPy hands
# you a whole generation at once, as an array of shape (5, S) with a candidate in each column, and
# wants S numbers back: so make S images, and look at them in one forward pass.
#
# <details><summary>Hint 1: the call</summary>
#
# `differential_evolution(function, bounds, popsize=popsize, maxiter=maxiter, tol=0, seed=seed,
# vectorized=True, updating="deferred")`. With SciPy's own `tol` it stops as soon as the candidates
# are all about as good, which here is at once. The best candidate is the result's `.x`, of shape
# (5,).
#
# </details>
# <details><summary>Hint 2: rows are whole numbers</summary>
#
# Let the row run from 0 to H and cut off the decimals; only exactly H has to be brought back to
# H − 1. Bounds from 0 to H − 1 would all but never try the last row.
#
# </details>
# <details><summary>Hint 3: S images</summary>
#
# `changed = x.repeat(S, 1, 1, 1)`, then `changed[torch.arange(S), :, rows, columns] = colours` with
# colours of shape (S, 3).
#
# </details>


# %% exercise="one_pixel_attack"
def one_pixel_attack(x, y, model, objective, seed, popsize=8, maxiter=15):
    """The best change of a single pixel, by differential evolution.

        argmin over row, column and colour of objective(f(x with this pixel), y)

    Args:
        x: one image, float tensor (3, H, W) in [0, 1]. It stays as it is.
        y: its label, an int; not always what the network predicts.
        model: a network in eval mode, from images (S, 3, H, W) to class scores (S, C).
        objective: what is to be small: from scores (S, C) and labels, int64 (S,), to a tensor (S,);
            such as logit_margin. The labels are y, S times.
        seed: an int; the same seed gives the same image.
        popsize, maxiter: for differential_evolution: candidates in a generation, divided by 5, and
            generations.

    Returns:
        x_adv: like x, in [0, 1], with at most one pixel changed, in any or all of its channels.
    """
    ### BEGIN SOLUTION
    _, H, W = x.shape

    def images_of(candidates):
        candidates = torch.from_numpy(candidates.T).to(x)
        rows = candidates[:, 0].long().clamp(max=H - 1)
        columns = candidates[:, 1].long().clamp(max=W - 1)
        changed = x.repeat(len(candidates), 1, 1, 1)
        changed[torch.arange(len(candidates)), :, rows, columns] = candidates[:, 2:]
        return changed

    def objective_of(candidates):
        with torch.no_grad():
            scores = model(images_of(candidates))
        labels = torch.full((len(scores),), y, device=x.device)
        return objective(scores, labels).double().cpu().numpy()

    best = differential_evolution(
        objective_of,
        [(0, H), (0, W), (0, 1), (0, 1), (0, 1)],
        popsize=popsize,
        maxiter=maxiter,
        tol=0,
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
    )
    return images_of(best.x[:, None])[0]
    ### END SOLUTION


# %% [markdown]
# The test takes a simpler objective than the margin: the label's score itself. And it takes a
# linear network, for which the best pixel can be found by trying them all.


# %% given=true
def class_score(scores, y):
    """The score of each image's label: an objective to test with."""
    return scores.gather(1, y[:, None])[:, 0]


def peaked_weight(signs, size, row, column):
    """A class's weights (3, H, W): largest at one place, and smaller the farther from it."""
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    distance = (rows - row).abs() + (columns - column).abs()
    return torch.tensor(signs, dtype=torch.float64).view(3, 1, 1) * 5 * torch.exp(-distance)


def best_single_pixel(weight, x):
    """How far one pixel can lower weight · x, for each place: every channel goes to 0 or to 1."""
    return torch.maximum(weight * x, weight * (x - 1)).sum(0)


def pixel_world(size, place):
    """An image (3, H, W) in which the pixel at this place is what lowers the score of class 1 most,
    and the weights (3, 3, H, W) of the linear network for which it does."""
    generator = torch.Generator().manual_seed(4)
    x_test = 0.3 + 0.4 * torch.rand(3, *size, generator=generator, dtype=torch.float64)
    weight = torch.stack(
        [
            peaked_weight((1, 1, 1), size, 0, 0),
            peaked_weight((1, -1, 1), size, *place),
            peaked_weight((-1, -1, 1), size, 0, 0),
        ]
    )
    return x_test, weight


@run_beside
def count_tries(attack, x, network, popsize, maxiter):
    """How many images an attack asks a network about."""
    tried = []

    def counting_score(scores, y):
        tried.append(len(scores))
        return class_score(scores, y)

    attack(x, 1, network, counting_score, 0, popsize, maxiter)
    return sum(tried)


def check_pixel(attack, x_test, network, best, of_predicted, at_the_end):
    """Fail unless an attack on class 1 changes one pixel, and by that lowers the class's score.

    Args:
        best, of_predicted: by how much one pixel can lower the score of class 1, and of class 0.
        at_the_end: whether the best pixel is the last.
    """
    height, width = x_test.shape[1:]
    with torch.no_grad():
        before = network(x_test[None])[0]
    original = x_test.clone()
    try:
        x_adv = attack(x_test, 1, network, class_score, 0, popsize=20, maxiter=40)
    except IndexError as error:
        raise AssertionError(
            f"a pixel outside an image of {height} rows and {width} columns: are rows and"
            " columns exchanged, or was exactly H or W drawn?"
        ) from error
    assert x_adv is not None, "one_pixel_attack returned None; is a `return` missing?"
    assert x_adv.shape == original.shape, (
        f"x_adv: expected shape {tuple(original.shape)}, got {tuple(x_adv.shape)}."
    )
    difference = (x_adv.detach() - original).abs() > 1e-9
    changed = difference.any(0)
    assert changed.sum() <= 1, f"{changed.sum()} pixels are changed, not one: copy x for each."
    assert changed.any(), "no pixel is changed."
    assert x_adv.min() >= 0 and x_adv.max() <= 1, (
        f"x_adv runs from {x_adv.min():.3f} to {x_adv.max():.3f}: colours have to be in [0, 1]."
    )
    with torch.no_grad():
        after = network(x_adv.detach()[None])[0]
    gain = (before - after)[1]
    pixel = x_adv[:, changed][:, 0]
    if (before - after)[0] > 0.8 * of_predicted:
        hint = "it is the predicted class's score that fell: the objective's labels are y"
    elif gain < 0:
        hint = "the objective has to become small, not large"
    elif difference.sum() < 3:
        hint = "only some of its colours change: a candidate has three of them"
    elif pixel.max() - pixel.min() < 1e-6:
        hint = "all three channels get the same value: a candidate has three colours"
    elif at_the_end and not changed[-1, -1]:
        hint = "are the last row and the last column ever tried"
    else:
        hint = "are rows and columns in the right order, and is the best candidate taken"
    assert gain >= 0.8 * best, (
        f"one pixel can lower the score of class 1 from {before[1]:.2f} to"
        f" {before[1] - best:.2f}, yours gives {after[1]:.2f}; {hint}."
    )
    again = attack(original.clone(), 1, network, class_score, 0, popsize=20, maxiter=40)
    assert torch.equal(x_adv, again), (
        "a second call with the same seed gives another image: use seed."
    )


# %% test="one_pixel_attack" points=1 aspect="the last pixel"
x_test, weight = pixel_world((4, 7), (3, 6))
### BEGIN EXPECTED
gains = best_single_pixel(weight[1], x_test)
best, at_the_end = gains.max().item(), gains.argmax().item() == gains.numel() - 1
of_predicted = best_single_pixel(weight[0], x_test).max().item()
### END EXPECTED
network = linear_network(weight)
check_pixel(one_pixel_attack, x_test, network, best, of_predicted, at_the_end)

# %% test="one_pixel_attack" points=1 aspect="more rows than columns"
x_test, weight = pixel_world((6, 4), (5, 1))
### BEGIN EXPECTED
gains = best_single_pixel(weight[1], x_test)
best, at_the_end = gains.max().item(), gains.argmax().item() == gains.numel() - 1
of_predicted = best_single_pixel(weight[0], x_test).max().item()
### END EXPECTED
network = linear_network(weight)
check_pixel(one_pixel_attack, x_test, network, best, of_predicted, at_the_end)

# %% test="one_pixel_attack" points=2 aspect="other networks and sizes"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
# The best pixels lie in the first column, then in the first row; colours go either way.
for size, signs in [((5, 8), (1, -1, -1)), ((3, 7), (-1, 1, 1))]:
    x_test = torch.rand(3, *size, generator=generator, dtype=torch.float64)
    along = torch.randperm(4, generator=generator)[:3].tolist()  # the last ones have visible tests
    places = [(place, 0) if size[0] == 5 else (0, place) for place in along]
    weight = torch.stack([peaked_weight(signs, size, *place) for place in places])
    network = linear_network(weight)
    label = network(x_test[None]).argmin().item()  # not what the network predicts
    gain = best_single_pixel(weight[label], x_test).max()
    x_adv = one_pixel_attack(
        x_test.clone(), label, network, class_score, reference.seed, popsize=20, maxiter=40
    ).detach()
    with torch.no_grad():
        before, after = network(torch.stack([x_test, x_adv]))[:, label]
    changed = ((x_adv - x_test).abs() > 1e-9).any(0).sum()
    assert changed <= 1, f"{changed} pixels are changed, not one"
    assert x_adv.min() >= 0 and x_adv.max() <= 1, "colours have to be in [0, 1]"
    assert before - after >= 0.7 * gain, (
        f"one pixel can lower the score of class {label} by {gain:.2f}; yours does by"
        f" {before - after:.2f}"
    )
options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
network = awkward_network(reference.seed, dtype=torch.float32, **options)
x_test = torch.rand(3, 6, 7, generator=generator)
best = reference.one_pixel_attack(x_test, 3, network, class_score, 0)
x_adv = one_pixel_attack(x_test.clone(), 3, network, class_score, 0)
with torch.no_grad():
    before, after, lowest = network(torch.stack([x_test, x_adv.detach(), best]))[:, 3]
assert ((x_adv.detach() - x_test).abs() > 1e-9).any(0).sum() <= 1, "more than one pixel is changed"
assert before - after >= 0.5 * (before - lowest), (
    f"in another network one pixel can lower the score of class 3 by {before - lowest:.2f}; yours"
    f" does by {before - after:.2f}"
)
tries = count_tries(one_pixel_attack, x_test.clone(), network, 2, 2)
assert tries <= 150, (
    f"with popsize=2 and maxiter=2 there are about 30 candidates; yours tries {tries} images: hand"
    " popsize and maxiter on"
)
### END HIDDEN TESTS

# %%
all_scores = scores_of(base, images)
margins = logit_margin(all_scores, labels)
hardest = margins.masked_fill(margins < 0, torch.inf).argsort()[:6]
tried = torch.cat([hardest, torch.arange(4, device=device)])
attacked_pixels = torch.stack(
    [
        one_pixel_attack(images[i], labels[i].item(), base, logit_margin, seed=0, maxiter=9)
        for i in tried
    ]
)
reached = logit_margin(scores_of(base, attacked_pixels), labels[tried])

figure = plt.figure(figsize=(11, 5), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
for ax, i, picture, answer in zip(
    top.subplots(1, 6), hardest, attacked_pixels, captions(base, attacked_pixels), strict=False
):
    show_image(ax, picture)
    row, column = (picture != images[i]).any(0).nonzero()[0].tolist()
    ax.plot(column, row, "o", markersize=16, markerfacecolor="none", markeredgecolor="white")
    ax.plot(column, row, "o", markersize=18, markerfacecolor="none", markeredgecolor="black")
    ax.set_title(f"{class_names[labels[i]]} → {answer}", fontsize=9)
top.suptitle("The six narrowest right answers of 1,500, and one pixel changed in each (circled)")
left, right = bottom.subplots(1, 2)
left.hist(margins.tolist(), bins=60, color="0.7")
left.axvline(0, color="black")
left.set(xlabel="margin", ylabel="scenes", title="Few scenes lie close to the border …")
for where, colour, marker, name in (
    (slice(0, 6), "#D55E00", "o", "narrowest"),
    (slice(6, 10), "#0072B2", "s", "any four"),
):
    right.plot(
        margins[tried][where].tolist(), reached[where].tolist(), marker, color=colour, label=name
    )
right.plot([0, 15], [0, 15], color="0.6", linewidth=1)
right.text(11, 12.5, "no change", color="0.4", ha="right")
right.axhline(0, color="black")
right.set(xlabel="margin before", ylabel="margin after", title="… and one pixel buys little margin")
right.legend(frameon=False)
plt.show()
bought = (margins[tried] - reached).tolist()
print(
    f"fooled: {(reached[:6] < 0).sum()} of the six narrowest, {(reached[6:] < 0).sum()} of any four"
)
print(f"one pixel bought a margin of {min(bought):.1f} to {max(bought):.1f}")
print(f"median margin of all scenes: {margins.median():.1f}")

# %% [markdown]
# Most of the narrowest answers fall to one pixel, and none of the four scenes that weren't chosen.
# The lower right says why: in these ten scenes a pixel buys a margin of a few units, and the typical
# scene has about ten to spare. So a picture of a one-pixel attack shows a narrow case, unless its
# author says how often the attack fails. Mind also that 400 tries find a good pixel, not surely
# the best: with more tries some of the others may fall.
#
# ## 6. Without the gradient
#
# So far you had the network itself: a **white box**. An attacker from outside sees answers only: a
# **black box**. There are two ways in.
#
# **Transfer.** Make the image on a network of your own and hope that it fools theirs, too.

# %%
attacked["shape", 8] = pgd(
    X, y, networks["shape"], 8 / 255, 2 / 255, 7, start=random_start(X, 8 / 255)
).detach()
sources = {
    "nobody": X,
    "random signs": (X + 8 / 255 * random_start(X, 1).sign()).clamp(0, 1),
} | {f"PGD on {name}": attacked[name, 8] for name in names}
table = np.array(
    [[accuracy(networks[name], pictures, y) for name in names] for pictures in sources.values()]
)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
shown = ax.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
for (row, column), value in np.ndenumerate(table):
    colour = "white" if value < 0.5 else "black"
    ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
ax.set(xticks=range(3), xticklabels=names, yticks=range(5), yticklabels=sources)
ax.set(xlabel="the network that is asked", ylabel="who made the image")
ax.set_title("Images made for one network fool others, too (ε = 8/255)")
figure.colorbar(shown, label="accuracy")
plt.show()

# %% [markdown]
# Read it by rows, and compare with the first, since `shape` errs on some of these scenes anyway.
# What was made on `base` harms `robust`, its finetuned sister, and what was made on `robust` harms
# `base` even more than `robust` itself: to fool a robust network one has to change what matters to
# others, too. What was made on `shape`, which looks at other features, harms the others least.
# Secrecy of the weights is no protection; being *different* is some.
#
# **Queries.** Ask, and learn the gradient from the answers. Move the image a little in some
# direction $u$, forth and back: the difference of the two answers is the slope along $u$. Do this
# for many random directions and add them up, each weighted by its slope (natural evolution
# strategies, Ilyas et al. 2018):
#
# $$\hat g = \frac{1}{K} \sum_{k=1}^{K} \frac{f(x + \sigma u_k) - f(x - \sigma u_k)}{2\sigma}\; u_k,
#   \qquad u_k \sim \mathcal N(0, I)$$
#
# On average this is the gradient, since $\mathbb E[u u^\top] = I$.
#
# ### Exercise: `estimate_gradient`
# ★★☆ · 20 minutes · optional


# %% exercise="estimate_gradient"
def estimate_gradient(f, x, directions, sigma):
    """The gradient of a black box, from central differences along random directions.

        ĝ = 1/K Σ_k (f(x + σ u_k) − f(x − σ u_k)) / (2σ) · u_k

    Args:
        f: the black box, from images (S, 3, H, W), any number of them, to numbers (S,). It has no
            gradient. Images outside [0, 1] are fine here.
        x: one image, float tensor (3, H, W). It stays as it is.
        directions: u_1 to u_K, float tensor (K, 3, H, W).
        sigma: how far to go along each.

    Returns:
        gradient: the estimate ĝ, float tensor (3, H, W).
    """
    ### BEGIN SOLUTION
    slopes = (f(x + sigma * directions) - f(x - sigma * directions)) / (2 * sigma)
    return (slopes.view(-1, 1, 1, 1) * directions).mean(0)
    ### END SOLUTION


# %% given=true
class Paraboloid:
    """A black box to test with: slope · x + curvature · Σ x², for images (S, 3, H, W)."""

    def __init__(self, slope, curvature):
        self.slope, self.curvature = slope, curvature

    @torch.no_grad()
    def __call__(self, images):
        if images.shape[1:] != self.slope.shape:
            raise ValueError(f"the black box takes images (S, 3, H, W), not {tuple(images.shape)}")
        return ((self.slope + self.curvature * images) * images).sum((1, 2, 3))


# %% test="estimate_gradient" points=1 aspect="one direction"
x_test, slope = random_images(60, 3, 2, 4), random_images(61, 3, 2, 4) - 0.5
u, black_box = 2 * random_images(62, 1, 3, 2, 4) - 1, Paraboloid(slope, 0.7)
### BEGIN EXPECTED
# For a parabola central differences are exact, whatever σ is.
along = (u * (slope + 1.4 * x_test)).sum()
ahead = 0.7 * 0.25 * u.square().sum()
expected = reference.estimate_gradient(black_box, x_test, u, 0.25)
mistakes = {
    "f(x + σu) is compared with f(x), not with f(x − σu)": (along + ahead) * u[0],
    "f(x + σu) is compared with f(x), and divided by 2σ": (along + ahead) / 2 * u[0],
    "f(x) is compared with f(x − σu), not f(x + σu)": (along - ahead) * u[0],
    "the 2 of 2σ is missing": 2 * expected,
    "the difference is not divided by σ": 0.25 * expected,
    "the difference is not divided by 2σ": 0.5 * expected,
    "the direction is divided by its length": expected / u.norm(),
    "the direction is divided by the square of its length": expected / u.square().sum(),
    "only the sign of the difference counts": along.sign() * u[0],
    "the sign is reversed": -expected,
    "the slope is never multiplied with its direction": along.expand(3, 2, 4),
}
### END EXPECTED
gradient = estimate_gradient(black_box, x_test, u, 0.25)
check_close(gradient, expected, "estimate_gradient for one direction", mistakes=mistakes)

# %% test="estimate_gradient" points=1 aspect="several directions"
x_test, slope = random_images(63, 3, 2, 4), random_images(64, 3, 2, 4) - 0.5
u, black_box = 2 * random_images(65, 5, 3, 2, 4) - 1, Paraboloid(slope, 0.7)
### BEGIN EXPECTED
slopes = (u * (slope + 1.4 * x_test)).sum((1, 2, 3)).view(-1, 1, 1, 1)
expected = reference.estimate_gradient(black_box, x_test, u, 0.25)
mistakes = {
    "the sum over the directions is taken, not the mean": 5 * expected,
    "each direction is divided by its length": (
        slopes * u / u.square().sum((1, 2, 3), keepdim=True)
    ).mean(0),
    "only the signs of the differences count": (slopes.sign() * u).mean(0),
    "the slopes are averaged before they meet their directions": slopes.mean() * u.mean(0),
    "only the last direction counts": slopes[-1] * u[-1],
    "only the last direction counts, divided by their number": slopes[-1] * u[-1] / 5,
    "only the first direction counts": slopes[0] * u[0],
    "the mean runs over all axes: each pixel has its own": (slopes * u).mean(),
    "the directions aren't averaged: the mean over them is the gradient": slopes * u,
}
### END EXPECTED
gradient = estimate_gradient(black_box, x_test, u, 0.25)
check_close(gradient, expected, "estimate_gradient for five directions", mistakes=mistakes)

# %% test="estimate_gradient" points=1 aspect="other images and distances"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for count, shape, sigma in [(1, (3, 4, 2), 0.1), (9, (3, 3, 5), 1e-3)]:
    x_test, slope = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    u = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    f = Paraboloid(slope, -0.4)
    check_close(
        estimate_gradient(f, x_test.clone(), u.clone(), sigma),
        reference.estimate_gradient(f, x_test, u, sigma),
        f"estimate_gradient for {count} directions, an image {shape} and σ = {sigma}",
    )
### END HIDDEN TESTS

# %% [markdown]
# A black box that answers with its margin and counts how often it was asked. The attacker adds up
# all estimates so far, takes the sign of the sum, and moves on. Two things help: a radius of
# 16/255, and directions that are the same in all three colours, so that there are fewer of them to
# explore.


# %% fold="Figure: Answers alone betray the gradient"
class BlackBox:
    """Answers with the margin that a label has, and counts the questions."""

    def __init__(self, model, label):
        self.model, self.label, self.queries = model, label, 0

    def __call__(self, images):
        self.queries += len(images)
        scores = scores_of(self.model, images)
        return logit_margin(scores, torch.full((len(images),), self.label, device=images.device))


generator = torch.Generator().manual_seed(0)
epsilon = 16 / 255
histories = []
for number in range(3):
    x = X[number]
    ask = BlackBox(base, y[number].item())
    x_adv, total, history = x, torch.zeros_like(x), [(0, ask(x[None]).item())]
    while history[-1][1] > 0 and ask.queries < 1500:
        grey = torch.randn(25, 1, 64, 64, generator=generator).to(device)
        total = total + estimate_gradient(ask, x_adv, grey.expand(-1, 3, -1, -1), sigma=0.01)
        step = x_adv - epsilon / 4 * total.sign() - x
        x_adv = (x + step.clamp(-epsilon, epsilon)).clamp(0, 1)
        history.append((ask.queries, ask(x_adv[None]).item()))
    signs = random_start(x, 1).sign()
    noisy = BlackBox(base, y[number].item())((x + epsilon * signs).clamp(0, 1)[None]).item()
    histories.append((history, noisy, x_adv))

figure = plt.figure(figsize=(10, 3.8), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
ax = left.subplots()
looks = zip(("#0072B2", "#E69F00", "#009E73"), ("-", "--", "-."), strict=True)
for (colour, line), (history, noisy, _) in zip(looks, histories, strict=True):
    ax.plot(*zip(*history, strict=True), color=colour, linestyle=line)
    ax.plot(0, noisy, "x", color=colour, markersize=9)
ax.axhline(0, color="black")
ax.set(xlabel="questions asked", ylabel="margin", title="Answers alone betray the gradient")
ax.text(
    0.97, 0.95, "× : random signs of the same size", transform=ax.transAxes, ha="right", va="top"
)
for number, ax in enumerate(right.subplots(3, 2)):
    for panel, picture in zip(ax, (X[number], histories[number][2]), strict=True):
        show_image(panel, picture)
        panel.set_title(captions(base, picture[None])[0], fontsize=9)
plt.show()
for history, _, _ in histories:
    print(f"after {history[-1][0]} questions the margin is {history[-1][1]:.1f}")

# %% [markdown]
# That is far fewer questions than the gradient has components, 12,288 (4,096 where all colours
# change alike): it needn't be known well, it is enough that the sum of many poor estimates leans the
# right way. The missing gradient isn't free, though: we granted twice the radius, and the changes can
# now be seen. The crosses show that it isn't the size alone that does it. Three scenes are too few to
# say how many questions it takes in general.
#
# ## 7. Defences, and how they fall
#
# Now change sides. The defence that has stood best is the plainest: **adversarial training**. If
# the worst point of the ball is what hurts, train on that,
#
# $$\min_\theta\; \mathbb E_{(x, y)}
#   \max_{\lVert\delta\rVert \le \varepsilon} L(f_\theta(x + \delta), y)$$
#
# with an attack for the inner maximum. Two traps lie in the step. The attack runs the network, too:
# in training mode it would shift BatchNorm's running statistics (and its own gradient would depend
# on the rest of the batch). And attacks that call `.backward()` leave gradients on the *weights*,
# which the optimiser would take for its own.
#
# ### Exercise: `adversarial_training_step`
# ★★☆ · 20 minutes


# %% exercise="adversarial_training_step" changes="model, optimizer"
def adversarial_training_step(X, y, model, optimizer, attack):
    """Attack a batch, then take one step of training on what came out.

        θ ← θ − η ∇_θ L(f(x_adv), y),   x_adv = attack(x, y, f), L the mean cross-entropy

    Args:
        X: images, float tensor (N, 3, H, W) in [0, 1].
        y: their labels, int64 (N,).
        model: a network, with BatchNorm, in either mode. It is attacked in eval mode, trained in
            training mode, and left in training mode.
        optimizer: the optimiser of the model's parameters, which may hold gradients already.
        attack: a function that takes X, y, model and returns images like X. It may leave gradients
            on the parameters. They don't belong to the step.

    Returns:
        loss: the mean cross-entropy on the attacked images, as a number, before the step.
    """
    ### BEGIN SOLUTION
    model.eval()
    X_adv = attack(X, y, model).detach()
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X_adv), y)
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION


# %% given=true
def careless_attack(X, y, model):
    """Not much of an attack, but careless like some: it leaves gradients on the parameters."""
    scores = model(X)
    F.cross_entropy(scores, y).backward()
    return (X + 0.2 * scores.detach().sigmoid().mean()).clamp(0, 1)


def parameters_of(network):
    """A copy of all of a network's parameters, as one vector."""
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


# %% test="adversarial_training_step" points=1 aspect="the modes"
X_test, y_test = random_images(80, 5, 3, 6, 4), torch.tensor([0, 3, 1, 2, 3])
network = tiny_network(1)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
### BEGIN EXPECTED
twin = tiny_network(1)
reference.adversarial_training_step(
    X_test, y_test, twin, torch.optim.SGD(twin.parameters(), lr=0.1), careless_attack
)
expected, clean = twin[1].running_mean, tiny_network(1).train()
clean(X_test)
mistakes = {"the clean images are learned, not the attacked ones": clean[1].running_mean}
### END EXPECTED
_, _, _, network, *_ = call_on_copies(
    adversarial_training_step, X_test, y_test, network, optimizer, careless_attack
)
assert network.training, "the network is left in eval mode; it has to be in training mode."
passes = network[1].num_batches_tracked.item()
assert passes != 2, (
    "BatchNorm's running statistics were moved twice: the attack, too, ran in training mode."
)
assert passes != 0, "BatchNorm's running statistics didn't move: the network learned in eval mode."
assert passes == 1, f"the network ran {passes} times in training mode, not once."
name = "BatchNorm's running mean after a step"
check_close(network[1].running_mean, expected, name, mistakes=mistakes)

# %% test="adversarial_training_step" points=1 aspect="the loss"
X_test, y_test = random_images(81, 5, 3, 6, 4), torch.tensor([1, 3, 0, 2, 2])
network = tiny_network(4)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
### BEGIN EXPECTED
X_attacked = careless_attack(X_test, y_test, tiny_network(4))  # in eval mode
with torch.no_grad():
    expected = F.cross_entropy(tiny_network(4).train()(X_attacked), y_test).item()
    clean = F.cross_entropy(tiny_network(4).train()(X_test), y_test).item()
    evaluated = F.cross_entropy(tiny_network(4)(X_attacked), y_test).item()
twin = tiny_network(4)
reference.adversarial_training_step(
    X_test, y_test, twin, torch.optim.SGD(twin.parameters(), lr=0.1), careless_attack
)
mistakes = {
    "the clean images are learned, not the attacked ones": clean,
    "the sum over the batch is taken, not the mean": 5 * expected,
    "clean and attacked images are mixed": (expected + clean) / 2,
    "it is the loss in eval mode": evaluated,
    "it is the loss after the step": F.cross_entropy(twin(X_attacked), y_test).item(),
}
### END EXPECTED
loss, *_ = call_on_copies(
    adversarial_training_step, X_test, y_test, network, optimizer, careless_attack
)
check_close(loss, expected, "the loss of adversarial_training_step", mistakes=mistakes)

# %% test="adversarial_training_step" points=2 aspect="the step"
X_test, y_test = random_images(82, 5, 3, 6, 4), torch.tensor([0, 3, 1, 2, 3])
network = tiny_network(5)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
### BEGIN EXPECTED


def slope(network, images):
    """The gradient of the mean cross-entropy for all parameters, as one vector."""
    loss = F.cross_entropy(network(images), y_test)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])


X_attacked = careless_attack(X_test, y_test, tiny_network(5))
left_behind, before = slope(tiny_network(5), X_test), parameters_of(network)
gradient = slope(tiny_network(5).train(), X_attacked)
twin = tiny_network(5)
reference.adversarial_training_step(
    X_test, y_test, twin, torch.optim.SGD(twin.parameters(), lr=0.1), careless_attack
)
expected = parameters_of(twin)
mistakes = {
    "the gradients that the attack left behind are learned as well": (
        before - 0.1 * (gradient + left_behind)
    ),
    "only the gradients that the attack left behind are learned": before - 0.1 * left_behind,
    "no step of the optimiser was taken": before,
    "two steps of the optimiser were taken": before - 0.2 * gradient,
    "the loss was raised": before + 0.1 * gradient,
    "the sum over the batch was differentiated, not the mean": before - 0.5 * gradient,
    "the clean images are learned, not the attacked ones": (
        before - 0.1 * slope(tiny_network(5).train(), X_test)
    ),
    "the network learned in eval mode": before - 0.1 * slope(tiny_network(5), X_attacked),
}
### END EXPECTED
_, _, _, network, *_ = call_on_copies(
    adversarial_training_step, X_test, y_test, network, optimizer, careless_attack
)
name = "the parameters after adversarial_training_step"
check_close(parameters_of(network), expected, name, mistakes=mistakes)

# %% test="adversarial_training_step" points=1 aspect="other networks and left-over gradients"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for count, training in [(3, True), (6, False)]:
    X_test = torch.rand(count, 3, 4, 5, generator=generator, dtype=torch.float64)
    y_test = torch.randint(0, 4, (count,), generator=generator)
    results = []
    for step in (adversarial_training_step, reference.adversarial_training_step):
        network = tiny_network(reference.seed).train(training)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)  # left over from something else
        loss, _, _, network, *_ = call_on_copies(
            step, X_test, y_test, network, optimizer, careless_attack
        )
        results.append((loss, parameters_of(network), network[1].running_mean.clone()))
    for actual, expected, name in zip(
        *results, ("the loss", "the parameters", "BatchNorm's running mean"), strict=True
    ):
        check_close(actual, expected, f"{name} after a step with {count} images")
for parts in (False, True):
    X_test = torch.rand(4, 3, 9, 8, generator=generator, dtype=torch.float64)
    y_test, results = torch.tensor([1, 4, 0, 2]), []
    for step in (reference.adversarial_training_step, adversarial_training_step):
        options = {"inplace": True, "functional": True, "hooks": True, "dropout": False}
        network = awkward_network(reference.seed, parts=parts, **options)
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trainable, lr=0.1)
        loss, _, _, network, *_ = call_on_copies(
            step, X_test, y_test, network, optimizer, careless_attack
        )
        means = [value for name, value in network.named_buffers() if name.endswith("running_mean")]
        results.append((loss, parameters_of(network), torch.cat(means)))
    for expected, actual, name in zip(
        *results, ("the loss", "the parameters", "BatchNorm's running means"), strict=True
    ):
        check_close(actual, expected, f"{name} after a step of a network with a frozen weight")
### END HIDDEN TESTS

# %% [markdown]
# A short run: 24 steps of 32 scenes each, from `base` on, against your own `fgsm` from a random
# start. The shipped `robust` had ten times as many, of 64 scenes.

# %%
from copy import deepcopy


def training_attack(X, y, model, epsilon=4 / 255):
    """FGSM with a random start and a step of 1.25 ε, back to the ball (Wong et al. 2020)."""
    attacked = fgsm(X + random_start(X, epsilon), y, model, 1.25 * epsilon)
    return (X + (attacked - X).clamp(-epsilon, epsilon)).clamp(0, 1)


networks["short run"] = deepcopy(base)
optimizer = torch.optim.AdamW(networks["short run"].parameters(), lr=1e-3)
for batch in range(24):
    part = slice(100 + 32 * batch, 132 + 32 * batch)
    adversarial_training_step(
        images[part], labels[part], networks["short run"], optimizer, training_attack
    )
networks["short run"].eval()
attacked["short run", 4] = pgd(
    X, y, networks["short run"], 4 / 255, 1 / 255, 7, start=random_start(X, 4 / 255)
).detach()

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
shown = ("base", "short run", "robust")
for offset, colour, hatch, what in (
    (-0.2, "0.8", "", "no attack"),
    (0.2, "#0072B2", "//", "PGD, 7 steps, ε = 4/255"),
):
    values = [accuracy(networks[name], X if offset < 0 else attacked[name, 4], y) for name in shown]
    bars = ax.bar(np.arange(3) + offset, values, 0.38, color=colour, hatch=hatch, label=what)
    ax.bar_label(bars, fmt="%.2f", padding=2)
ax.set(xticks=range(3), xticklabels=shown, ylabel="accuracy", ylim=(0, 1.3))
ax.set_title("Two dozen steps of adversarial training already help")
ax.legend(loc="upper left", ncols=2, frameon=False)
plt.show()

# %% [markdown]
# Two dozen steps win back a good part of what the attack had taken, and `robust` has somewhat more.
# The accuracy without attack stays what it was, as far as 48 scenes can tell; on photographs such
# training usually costs several per cent. In lab 11 you will see that it helps a little under noise
# and hurts a lot in fog.
#
# ### A cheaper defence?
# Adversarial training is slow. How tempting to leave the network alone and clean the *image*: a
# perturbation of a few grey levels should not survive a little **noise** or a **JPEG** encoding.
# And it works, against an attacker who doesn't know of it. But they will know. Noise they average
# away: they attack the *expected* scores, over several draws (expectation over transformation, EOT;
# Athalye, Engstrom, Ilyas and Kwok 2018):
#
# $$\bar s(x) = \frac{1}{K} \sum_{k=1}^{K} f(t_k(x)),
#   \qquad t_k \text{ the } k\text{-th draw of the defence}$$
#
# And JPEG, through which no gradient flows, they pass by a stand-in: forwards they compute $t(x)$,
# backwards they pretend that it was $g(x)$, a differentiable function that is close to it
# (backward pass differentiable approximation, BPDA; Athalye, Carlini and Wagner 2018). The plainest
# stand-in is the identity, $g(x) = x$, for a picture and its JPEG look alike: **straight through**.
#
# $$\frac{\partial\, t_k(x)}{\partial x} := \frac{\partial\, g(x)}{\partial x} \qquad\Rightarrow
#   \qquad \nabla_x\, \bar s_j(x) = \frac{1}{K} \sum_{k=1}^{K}
#   \Big(\frac{\partial\, g(x)}{\partial x}\Big)^{\!\top} \nabla s_j \big|_{t_k(x)}$$
#
# One function serves both, and every attack that you have written can be run on it.
#
# ### Exercise: `expected_scores`
# ★★☆ · 20 minutes
#
# <details><summary>Hint</summary>
#
# Which expression has the value of $t$ but the gradient of $g$? Add to $g$ something that has the
# value $t - g$, and no gradient: `.detach()` makes one. (A `torch.autograd.Function` of your own
# does it as well.)
#
# </details>


# %% exercise="expected_scores"
def expected_scores(X, model, defence, num_samples, approximation=None):
    """A defended network's scores, averaged over draws, with a gradient that passes the defence.

        s̄(x) = 1/K Σ_k f(t_k(x)),   ∂t_k(x)/∂x := ∂g(x)/∂x

    Args:
        X: images, float tensor (N, 3, H, W).
        model: a network in eval mode, from images to class scores (N, C).
        defence: t, a function from images to images like them, without a gradient. Each call may
            give something else. Call it num_samples times, each time with all of X.
        num_samples: K ≥ 1.
        approximation: g, a function from images to images like them that autograd can follow; it
            always gives the same. None is the identity, g(x) = x.

    Returns:
        scores: float tensor (N, C). Autograd can follow it back to X: through the model exactly,
            at the images t_k(x), and through the defence as if it were g.
    """
    ### BEGIN SOLUTION
    through = X if approximation is None else approximation(X)
    scores = 0
    for _ in range(num_samples):
        defended = through + (defence(X) - through).detach()
        scores = scores + model(defended) / num_samples
    return scores
    ### END SOLUTION


# %% [markdown]
# What the tests and the figure need: a defence to test with, and a stand-in for JPEG that is closer
# to it than the identity. JPEG splits an image into brightness and colour, keeps the colour at half
# the resolution, and rounds. Without the rounding that is a linear function.


# %% given=true fold=false
class RoundAndShift:
    """A defence to test with: five levels of brightness, and a shift that grows with every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, X):
        self.calls += 1
        return (4 * X.detach()).round() / 4 + 0.1 * self.calls


def half_colour(X):
    """Images (N, 3, H, W), H and W even, whose colour is the mean of 2 × 2 pixels: JPEG without its
    rounding."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=X.dtype, device=X.device)
    brightness = (X * weights.view(3, 1, 1)).sum(1, keepdim=True)
    return brightness + F.interpolate(F.avg_pool2d(X - brightness, 2), scale_factor=2)


# %% test="expected_scores" points=1 aspect="the scores"
X_test, network = random_images(7, 2, 3, 5, 4), tiny_network(2)
### BEGIN EXPECTED
draws = [(4 * X_test).round() / 4 + 0.1 * k for k in (1, 2, 3)]
with torch.no_grad():
    each = torch.stack([network(draw) for draw in draws])
    plain, of_mean = network(X_test), network(torch.stack(draws).mean(0))
expected_one, expected = each[0], each.mean(0)
mistakes_one = {
    "the defence is left out, or only its gradient is used": plain,
    "probabilities are given, not scores": each[0].softmax(1),
    "the defence is applied twice": each[1],
}
mistakes = {
    "there is only one draw": each[0],
    "only the last draw counts": each[2],
    "the scores are added up, not averaged": each.sum(0),
    "the defended images are averaged, not their scores": of_mean,
    "probabilities are averaged, not scores": each.softmax(2).mean(0),
    "only the last draw counts, divided by their number": each[2] / 3,
}
### END EXPECTED
one = expected_scores(X_test, network, RoundAndShift(), 1)
three = expected_scores(X_test, network, RoundAndShift(), 3)
name = "the scores that expected_scores gives"
check_close(one, expected_one, f"{name} for one draw", mistakes=mistakes_one)
check_close(three, expected, f"{name} for three draws", mistakes=mistakes)

# %% test="expected_scores" points=2 aspect="straight through"
X_test, network = random_images(8, 2, 3, 5, 4), tiny_network(2)
upstream = random_images(9, 2, 4) - 0.4
arguments = (X_test, network, RoundAndShift(), 3)
### BEGIN EXPECTED
points = [(4 * X_test).round() / 4 + 0.1 * k for k in (1, 2, 3)]
gradients = [
    torch.autograd.grad(network(point.requires_grad_()), point, upstream)[0] for point in points
]
leaf, middle = X_test.clone().requires_grad_(), torch.stack(points).mean(0).detach()
expected = torch.stack(gradients).mean(0)
mistakes = {
    "no gradient passes the defence, where only its gradient is used: go straight through it": (
        torch.zeros_like(X_test)
    ),
    "the gradient is taken at X itself, not at the defended images": torch.autograd.grad(
        network(leaf), leaf, upstream
    )[0],
    "the gradient is taken at the defended images' mean, not at each of them": (
        torch.autograd.grad(network(middle.requires_grad_()), middle, upstream)[0]
    ),
    "only the first draw has a gradient": gradients[0] / 3,
    "only the last draw has a gradient": gradients[2] / 3,
    "only the last draw counts": gradients[2],
    "the gradient passes twice": 2 * expected,
    "the draws are added up, not averaged": 3 * expected,
}
### END EXPECTED
(gradient,) = vector_jacobian_product(expected_scores, arguments, upstream)
name = "the gradient through expected_scores"
check_close(gradient, expected, name, mistakes=mistakes, tolerance=1e-6)

# %% test="expected_scores" points=2 aspect="an approximation"
X_test, network = random_images(10, 2, 3, 6, 4), tiny_network(5)
upstream = random_images(11, 2, 4) - 0.4
arguments = (X_test, network, RoundAndShift(), 2, half_colour)
### BEGIN EXPECTED
expected = reference.expected_scores(X_test, network, RoundAndShift(), 2).detach()
with torch.no_grad():
    mistakes = {
        "the network sees the approximation, not the defended images": network(half_colour(X_test)),
        "the defence is given the approximation, not X": reference.expected_scores(
            half_colour(X_test), network, RoundAndShift(), 2
        ),
        "the approximation is applied after the defence": (
            network(half_colour((4 * X_test).round() / 4 + 0.1))
            + network(half_colour((4 * X_test).round() / 4 + 0.2))
        )
        / 2,
    }
with_g = (X_test, network, RoundAndShift(), 2, half_colour)
(slope,) = vector_jacobian_product(reference.expected_scores, with_g, upstream)
without_g = (X_test, network, RoundAndShift(), 2)
(straight,) = vector_jacobian_product(reference.expected_scores, without_g, upstream)
leaf = X_test.clone().requires_grad_()
slopes = {
    "the approximation is ignored: straight through": straight,
    "both have a gradient, the identity and the approximation": straight + slope,
    "the gradient is taken at the approximation, not at the defended images": (
        torch.autograd.grad(network(half_colour(leaf)), leaf, upstream)[0]
    ),
    "no gradient passes the defence": torch.zeros_like(X_test),
}
### END EXPECTED
scores = expected_scores(X_test, network, RoundAndShift(), 2, half_colour)
(gradient,) = vector_jacobian_product(expected_scores, arguments, upstream)
name = "the scores that expected_scores gives with an approximation"
check_close(scores, expected, name, mistakes=mistakes)
name = "the gradient through expected_scores with an approximation"
check_close(gradient, slope, name, mistakes=slopes, tolerance=1e-6)

# %% test="expected_scores" points=1 aspect="other networks and numbers"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
networks_to_test = [(tiny_network(reference.seed), 4)] + [
    (awkward_network(reference.seed, parts=parts, **options), 5) for parts in (False, True)
]
for network, classes in networks_to_test:
    for shape, samples, through in [
        ((3, 3, 8, 6), 1, None),
        ((1, 3, 6, 10), 4, half_colour),
        ((2, 3, 7, 8), 3, None),
    ]:
        X_test = torch.rand(shape, generator=generator, dtype=torch.float64)
        upstream = torch.randn(shape[0], classes, generator=generator, dtype=torch.float64)
        what = f"expected_scores for images {shape} and {samples} draws"
        expected = reference.expected_scores(X_test, network, RoundAndShift(), samples, through)
        arguments = (X_test, network, RoundAndShift(), samples, through)
        (slope,) = vector_jacobian_product(reference.expected_scores, arguments, upstream)
        scores = expected_scores(X_test.clone(), network, RoundAndShift(), samples, through)
        check_close(scores, expected.detach(), what, tolerance=1e-8)
        arguments = (X_test, network, RoundAndShift(), samples, through)
        (gradient,) = vector_jacobian_product(expected_scores, arguments, upstream)
        check_close(gradient, slope, f"the gradient through {what}", tolerance=1e-6)
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `adaptive_attack`
# ★★★ · 25 minutes
#
# A defence is judged by the *best* attack that anybody finds, and yours has three weaknesses left.
# Where a network is very sure, the cross-entropy is flat, and its gradient drowns in rounding. The
# **margin** has no such plateau, so let that fall (Carlini and Wagner 2017):
#
# $$m(x) = s_y(x) - \max_{j \ne y} s_j(x)$$
#
# Through a defence that rounds, or rolls dice, the last step is not always the best one. And from
# one start the steps may run into a dead end. An attacker needs to succeed only once; so start
# several times, and keep for each image the best picture that the network was ever shown. Such an
# attack, fitted to the defence at hand, is called *adaptive* (Tramèr, Carlini, Brendel and Madry
# 2020).
#
# $$x \leftarrow \text{clamp}\Big(x_0 + \Pi_\varepsilon\big(x - \alpha\, \text{sign}\,
#   \nabla_x m(x) - x_0\big),\; 0,\; 1\Big), \qquad
#   x_{\text{adv}} = \operatorname*{arg\,min}_{x \text{ was shown}} m(x)$$
#
# `logit_margin(scores, y)` of section 5 computes it.
#
# <details><summary>Hint</summary>
#
# Keep two tensors: the best images so far, and their margins, which start at infinity.
# `torch.where(better, new, old)` chooses for each image; for the images, `better` needs the shape
# (N, 1, 1, 1).
#
# </details>


# %% exercise="adaptive_attack" changes="X.grad, X.requires_grad, model.grad"
def adaptive_attack(X, y, model, epsilon, step_size, num_steps, starts):
    """The best of several attacks on the margin m, for each image, in the maximum norm.

        x ← clamp(x₀ + Π(x − α sign ∇_x m(x) − x₀), 0, 1),   where Π clamps every value to [−ε, ε]

    Args:
        X: the originals x₀, float tensor (N, 3, H, W) in [0, 1]. They stay as they are.
        y: their labels, int64 (N,).
        model: a network in eval mode, from images to class scores (N, C). It stays as it is. It may
            roll dice; so judge an image by the same scores that its gradient comes from.
        epsilon: the ball's radius ε.
        step_size: α.
        num_steps: how many steps from each start; 0 is possible.
        starts: perturbations in the ball, (R, N, 3, H, W), R ≥ 1. Run r has clamp(x₀ + starts[r],
            0, 1) for its first image, the same formula for all its steps, and nothing from run r−1.

    Returns:
        X_adv: like X; for each image the one with the smallest margin among all R · (num_steps + 1)
            that the runs came by: their first images, and what each step led to.
    """
    ### BEGIN SOLUTION
    X_adv, smallest = X, torch.full(y.shape, torch.inf).to(X)
    for start in starts:
        images = (X + start).clamp(0, 1)
        for _ in range(num_steps + 1):
            images.requires_grad_()
            margins = logit_margin(model(images), y)
            (gradient,) = torch.autograd.grad(margins.sum(), images)
            images, margins = images.detach(), margins.detach()
            better = margins < smallest
            smallest = torch.where(better, margins, smallest)
            X_adv = torch.where(better.view(-1, 1, 1, 1), images, X_adv)
            perturbation = images - step_size * gradient.sign() - X
            images = (X + perturbation.clamp(-epsilon, epsilon)).clamp(0, 1)
    return X_adv
    ### END SOLUTION


# %% test="adaptive_attack" points=1 aspect="one step down the margin"
X_test = 0.3 + 0.4 * random_images(40, 3, 3, 5, 4)
y_test, network = torch.tensor([2, 0, 3]), tiny_network(12)
starts = 0.1 * random_images(41, 1, 3, 3, 5, 4) - 0.05
### BEGIN EXPECTED
begin = X_test + starts[0]


def moved(loss, step=0.02, at=begin):
    """The images after one step down a loss of the scores."""
    leaf = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(network(leaf)), leaf)
    return X_test + (begin - step * gradient.sign() - X_test).clamp(-0.1, 0.1)


def margin(scores):
    return logit_margin(scores, y_test).sum()


def own(scores):
    return scores[range(3), y_test].sum()


def lead(scores):
    best, second = scores.topk(2).values.T
    return (best - second).sum()


expected = reference.adaptive_attack(X_test, y_test, network, 0.1, 0.02, 1, starts)
with torch.no_grad():
    margins = [logit_margin(network(images), y_test) for images in (begin, expected)]
assert (margins[1] < margins[0]).all()
mistakes = {
    "the first images come back: no step is taken, what it led to is never looked at, or the larger"
    " margin is kept": begin,
    "there is a step too many": expected + moved(margin, at=expected) - begin,
    "the margin is raised: it has to fall": moved(lambda scores: -margin(scores)),
    "the cross-entropy is raised, not the margin lowered": moved(
        lambda scores: -F.cross_entropy(scores, y_test)
    ),
    "the label's score is lowered, not the margin": moved(own),
    "y is ignored: the best score's lead is lowered": moved(lead),
    "the step is ε long, not α": moved(margin, 0.1),
    "the gradient is taken at X, not at the start": moved(margin, at=X_test),
    "the start is ignored": X_test + moved(margin, at=X_test) - begin,
    "the original is kept": X_test,
    "the margins are returned, not the images": margins[1],
}
### END EXPECTED
X_adv = adaptive_attack(X_test, y_test, network, 0.1, 0.02, 1, starts)
check_close(X_adv, expected, "adaptive_attack with 1 start and 1 step", mistakes=mistakes)

# %% test="adaptive_attack" points=2 aspect="the best of all steps"
X_test = random_images(42, 4, 3, 5, 4)
X_test[0, :, 0, :2], X_test[1, :, 1, 2:] = 1, 0  # where the clamp has to act
y_test, network = torch.tensor([1, 0, 2, 3]), tiny_network(28)
starts = 0.6 * random_images(43, 1, 4, 3, 5, 4) - 0.3
### BEGIN EXPECTED
expected = reference.adaptive_attack(X_test, y_test, network, 0.3, 0.25, 6, starts)


def to_ball(images, centre=X_test):
    return (centre + (images - centre).clamp(-0.3, 0.3)).clamp(0, 1)


def path(project=to_ball, number=6):
    """The images of a run, (number + 1, N, …), and their margins, (number + 1, N)."""
    shown, margins, images = [], [], (X_test + starts[0]).clamp(0, 1)
    for _ in range(number + 1):
        leaf = images.clone().requires_grad_()
        margins.append(logit_margin(network(leaf), y_test))
        (gradient,) = torch.autograd.grad(margins[-1].sum(), leaf)
        shown.append(images)
        images = project(images - 0.25 * gradient.sign())
    return torch.stack(shown), torch.stack(margins).detach()


def chosen(images, at):
    """Image n of step at[n], for each n."""
    return images[at, range(4)]


shown, margins = path()
best = margins.argmin(0)
longer, longer_margins = path(number=7)
free, free_margins = path(lambda images: images.clamp(0, 1))
around, around_margins = path(lambda images: to_ball(images, shown[0]))
outside, outside_margins = path(lambda images: X_test + (images - X_test).clamp(-0.3, 0.3))
mistakes = {
    "the last images are returned, not the best": shown[-1],
    "the worst images are kept: the margin has to be small": chosen(shown, margins.argmax(0)),
    "one step is the best for all images: choose for each of them": (
        shown[margins.mean(1).argmin()]
    ),
    "the last step's images are never looked at": chosen(shown, margins[:-1].argmin(0)),
    "an image is kept with its predecessor's margin": chosen(shown, margins[:-1].argmin(0) + 1),
    "the smallest absolute margin is kept": chosen(shown, margins.abs().argmin(0)),
    "the first image that fools the network is kept, not the best": chosen(
        shown, (margins < 0).int().argmax(0)
    ),
    "the last image that is better than the one before it is kept": chosen(
        shown, 6 - (margins.diff(dim=0) < 0).int().flip(0).argmax(0)
    ),
    "there is a step too many": chosen(longer, longer_margins.argmin(0)),
    "nothing brings the images back to the ball": chosen(free, free_margins.argmin(0)),
    "the ball is around the start, not around X": chosen(around, around_margins.argmin(0)),
    "the images are not clamped to [0, 1]": chosen(outside, outside_margins.argmin(0)),
}
### END EXPECTED
X_adv = adaptive_attack(X_test, y_test, network, 0.3, 0.25, 6, starts)
check_close(X_adv, expected, "adaptive_attack with 1 start and 6 steps", mistakes=mistakes)

# %% test="adaptive_attack" points=1 aspect="several starts"
X_test = random_images(44, 4, 3, 4, 6)
y_test, network = torch.tensor([0, 3, 1, 2]), tiny_network(17)
starts = 0.4 * random_images(45, 3, 4, 3, 4, 6) - 0.2
### BEGIN EXPECTED
expected = reference.adaptive_attack(X_test, y_test, network, 0.2, 0.1, 2, starts)
runs = [
    reference.adaptive_attack(X_test, y_test, network, 0.2, 0.1, 2, start[None]) for start in starts
]
with torch.no_grad():
    margins = torch.stack([logit_margin(network(run), y_test) for run in runs])
together = reference.adaptive_attack(X_test, y_test, network, 0.2, 0.1, 2, starts.mean(0)[None])
images, on_and_on = X_test, []
for start in starts:
    begin = (images + start - X_test).clamp(-0.2, 0.2)
    on_and_on.append(reference.adaptive_attack(X_test, y_test, network, 0.2, 0.1, 2, begin[None]))
    images = (X_test + begin).clamp(0, 1)
    for _ in range(3):
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(logit_margin(network(leaf), y_test).sum(), leaf)
        images = (X_test + (images - 0.1 * gradient.sign() - X_test).clamp(-0.2, 0.2)).clamp(0, 1)
on_and_on = torch.stack(on_and_on)
with torch.no_grad():
    on_margins = torch.stack([logit_margin(network(run), y_test) for run in on_and_on])
mistakes = {
    "a run begins where the one before it ended": on_and_on[on_margins.argmin(0), range(4)],
    "only the first start counts": runs[0],
    "only what came last counts: the last images, or the last start's best": runs[-1],
    "one start is the best for all images: choose for each of them": (
        runs[margins.mean(1).argmin()]
    ),
    "the worst run is kept, not the best": torch.stack(runs)[margins.argmax(0), range(4)],
    "the runs' images are averaged": torch.stack(runs).mean(0),
    "the starts are averaged": together,
    "the runs come back one by one: choose the best for each image": torch.stack(runs),
}
### END EXPECTED
X_adv = adaptive_attack(X_test, y_test, network, 0.2, 0.1, 2, starts)
check_close(X_adv, expected, "adaptive_attack with 3 starts", mistakes=mistakes)


# %% given=true
class Dice(nn.Module):
    """A network behind a defence that adds something else with every call: a new one gives the same
    again."""

    def __init__(self, network, seed):
        super().__init__()
        self.network = network
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, X):
        added = torch.rand(X.shape[1:], generator=self.generator, dtype=X.dtype)
        return self.network(X + 0.3 * added)


# %% test="adaptive_attack" points=2 aspect="other networks, and one that rolls dice"
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
options = {"inplace": True, "functional": True, "hooks": True, "gradients": True}
for network, shape, runs, steps in [
    (tiny_network(reference.seed), (4, 3, 6, 5), 2, 5),
    (tiny_network(reference.seed + 1), (1, 3, 4, 7), 3, 0),
    (awkward_network(reference.seed, classes=4, **options), (3, 3, 9, 8), 2, 4),
    (awkward_network(reference.seed, classes=4, parts=True, **options), (2, 3, 8, 9), 1, 3),
]:
    X_test = torch.rand(shape, generator=generator, dtype=torch.float64)
    y_test = torch.randint(0, 4, shape[:1], generator=generator)
    starts = 0.2 * torch.rand(runs, *shape, generator=generator, dtype=torch.float64) - 0.1
    expected = reference.adaptive_attack(X_test, y_test, network, 0.1, 0.06, steps, starts)
    X_adv = adaptive_attack(X_test.clone(), y_test, network, 0.1, 0.06, steps, starts)
    name = f"adaptive_attack for images {shape}, {runs} starts and {steps} steps"
    check_close(X_adv, expected, name)
X_test = torch.rand(5, 3, 6, 5, generator=generator, dtype=torch.float64)
y_test = torch.tensor([3, 1, 0, 2, 1])
starts = 0.2 * torch.rand(2, 5, 3, 6, 5, generator=generator, dtype=torch.float64) - 0.1
expected, X_adv = (
    attack(X_test, y_test, Dice(tiny_network(reference.seed), 5), 0.1, 0.04, 3, starts)
    for attack in (reference.adaptive_attack, adaptive_attack)
)
check_close(X_adv, expected, "adaptive_attack on a network that rolls dice")
### END HIDDEN TESTS

# %% [markdown]
# Three defences at 8/255, each against four attackers: none; one who doesn't know it; one who knows
# it, and goes straight through it with `pgd` and one draw; and one who takes pains: eight draws for
# the noise, `half_colour` for JPEG, and `adaptive_attack` for all, from two starts where a step is
# cheap.

# %%
from io import BytesIO

from PIL import Image


def jpeg(X):
    """Every image as it comes out of a JPEG file of quality 75."""
    decoded = []
    for image in deprocess(X):
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75)
        decoded.append(np.array(Image.open(file)))
    return preprocess(np.stack(decoded)).to(X.device)


def noise(X):
    """Normal noise of 0.08, that is, 20 grey levels."""
    return X + 0.08 * torch.randn(X.shape, generator=generator).to(X.device)


def untouched(X):
    """No defence."""
    return X


class SeenThrough(nn.Module):
    """A defended network, as an attacker sees it who knows the defence."""

    def __init__(self, model, defence, num_samples=1, approximation=None):
        super().__init__()
        self.model, self.defence = model, defence
        self.num_samples, self.approximation = num_samples, approximation

    def forward(self, X):
        return expected_scores(X, self.model, self.defence, self.num_samples, self.approximation)


generator = torch.Generator().manual_seed(0)
few, few_labels, epsilon = X[:24], y[:24], 8 / 255


def adapted(model, num_steps, num_starts):
    """The images that `adaptive_attack` makes for a network or what an attacker sees of it."""
    starts = torch.stack([random_start(few, epsilon) for _ in range(num_starts)])
    return adaptive_attack(few, few_labels, model, epsilon, epsilon / 4, num_steps, starts).detach()


def straight(model, defence):
    """The images that `pgd` makes straight through a defence, with one draw for each step."""
    return pgd(few, few_labels, SeenThrough(model, defence), epsilon, epsilon / 4, 7).detach()


def against(model, defence, straight, pains):
    """A defended network's accuracy under four attackers, each with four throws of fresh dice."""
    return [
        np.mean([accuracy(model, defence(images), few_labels) for _ in range(4)])
        for images in (few, unaware, straight, pains)
    ]


unaware = attacked["base", 8][:24]
pains = {
    "noise": adapted(SeenThrough(base, noise, 8), 7, 1),
    "JPEG": adapted(SeenThrough(base, jpeg, 1, half_colour), 10, 2),
    "JPEG, identity": adapted(SeenThrough(base, jpeg), 10, 2),
    "adversarial": adapted(robust, 10, 2),
}
defences = {
    "noise": against(base, noise, straight(base, noise), pains["noise"]),
    "JPEG": against(base, jpeg, straight(base, jpeg), pains["JPEG"]),
    "adversarial training": against(
        robust, untouched, attacked["robust", 8][:24], pains["adversarial"]
    ),
}
attackers = (
    ("no attack", "0.85", ""),
    ("doesn't know the defence", "#E69F00", ".."),
    ("knows it: straight through", "#56B4E9", "//"),
    ("knows it, and takes pains", "#0072B2", ""),
)
margins = {
    through: logit_margin(scores_of(base, jpeg(pains[through])), few_labels).cpu()
    for through in ("JPEG, identity", "JPEG")
}
figure, (ax, right) = plt.subplots(
    1, 2, figsize=(12, 4.2), width_ratios=(2.2, 1), layout="constrained"
)
for place, (name, colour, hatch) in enumerate(attackers):
    values = [row[place] for row in defences.values()]
    at = np.arange(len(defences)) + 0.21 * (place - 1.5)
    bars = ax.bar(at, values, 0.2, color=colour, hatch=hatch, label=name)
    ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=9)
ax.set(xticks=range(len(defences)), xticklabels=defences, ylabel="accuracy", ylim=(0, 1.35))
ax.set_title("Cleaning the image helps until the attacker hears of it (ε = 8/255)")
ax.legend(loc="upper center", ncols=2, frameon=False)
ends = [f(torch.cat(list(margins.values()))).item() for f in (torch.min, torch.max)]
right.plot(ends, ends, color="0.6", linewidth=1)
right.plot(*margins.values(), "o", color="#0072B2", alpha=0.7)
right.axhline(0, color="black", linewidth=0.8)
right.axvline(0, color="black", linewidth=0.8)
right.set(xlabel="margin: straight through", ylabel="margin: through half_colour")
right.set_title("JPEG: below the line\nthe closer stand-in wins", fontsize=11)
plt.show()

for name in ("noise", "JPEG"):
    _, hoped, known, left = defences[name]
    print(f"{name}: hoped for {hoped:.2f}, straight through {known:.2f}, with pains {left:.2f}")
gained = margins["JPEG, identity"] - margins["JPEG"]
print(
    f"With the same steps, half_colour leads to a lower margin than the identity in"
    f" {(gained > 0).sum()} of {len(few)} scenes, by {gained.mean():.1f} in the mean."
)
kept = defences["adversarial training"][3]
uncertainty = (kept * (1 - kept) / len(few)) ** 0.5
gap = kept - max(defences[name][3] for name in ("noise", "JPEG"))
print(
    f"With the same pains, adversarial training keeps {kept:.2f} (give or take {uncertainty:.2f}),"
    f" {abs(gap):.2f} {'more' if gap >= 0 else 'less'} than the better of the two cleanings:"
)
if gap > 2 * uncertainty:
    print("it stands better against these attacks.")
else:
    print("these few scenes don't show that it stands better.")

# %% [markdown]
# Orange is the number that hopeful papers report: the attack on the bare network, handed to a
# network that cleans its input. What is left of it is the dark blue bar. The scenes, the radius and
# the network are the same; all that has changed is how hard somebody tried. To know
# of the noise and then look at a single draw for each step gains the attacker little or nothing: every
# step follows other dice. Eight draws, and `adaptive_attack` in place of `pgd`, see through it. JPEG falls
# already when it is attacked straight through, and further, in margin, when the stand-in is closer to
# the truth (right): the identity promises effects of fine colour that JPEG throws away, and wastes
# the budget on them. Accuracy alone would hardly show this, for few scenes are left to lose.
#
# Mind the limits. Even the dark bars are upper bounds: an attack can only be too weak, never too
# strong, and more draws, more starts and a still better stand-in may bring them down further, that
# of adversarial training, too. The last lines printed compare it with the other two. At this radius,
# twice that for which `robust` was trained, and with 24 scenes, don't expect a winner. (Orange isn't
# the same test for it, either: those images were made for `base`, another network.) What
# speaks for adversarial training is how it stood up to others: Athalye, Carlini and Wagner (2018)
# attacked nine new defences. Seven of them only hid the gradient, and six of the seven fell
# completely; adversarial training kept what it had claimed.
#
# ### Question: a claim to review
# ★★☆ · 15 minutes

# %% [markdown] question="review_a_defence" points=4
# You review a paper. Its defence adds small random numbers to each image's pixels, and re-encodes
# it. Its table: clean accuracy 95%; FGSM at 8/255, 71%; PGD with 10 steps at 8/255, computed on the
# network without the defence, 88%; PGD with 10 steps at 64/255, 80%; images made on another
# network, 62%. The abstract says: "88% robust accuracy".
#
# 1. Name two things in these numbers that can't be if the attacks were strong, and say why.
# 2. Which two experiments would you ask for?
#
# ### BEGIN SOLUTION
# 1 (2 points, one for each of two). PGD's accuracy (88%) lies above FGSM's (71%): more, smaller
# steps in the same ball should find more, not less. Images from *another* network do better (62%)
# than the white-box attack: who has the network has everything that the other has, and more. A
# radius of 64/255, which is enough to wipe out most of the image, should bring the accuracy near
# chance; 80% says that the attack fails to find what is there. All are signs of masked gradients
# (Athalye, Carlini and Wagner 2018), or, here, of an attack that wasn't told of the defence. "88% is
# the accuracy against an attacker who doesn't know the defence" also earns a point.
#
# 2 (2 points, one for each). An attack that knows the defence: the mean over random draws, as many
# as it takes until more don't help, and straight through the re-encoding. A check that the attack
# is strong enough: more steps, several starts, larger radius until accuracy reaches chance. Also
# good: a query attack without gradients; the accuracy curve over ε beside that of adversarial
# training; the worst case for each image over all attacks tried. No point for "more data sets" or
# "a larger network".
# ### END SOLUTION

# %% [markdown]
# ## 8. With an ImageNet network (optional)
#
# The same functions on a network that knows a thousand classes, and on photographs with 18 times as
# many pixels. If section 2 is right, it should be *easier*.

# %% fold="Figure: SqueezeNet on two photographs"
from utils.images import load_photograph, preprocess
from utils.models import WeightsUnavailable

try:
    squeezenet = load_model("squeezenet1_1").to(device)
except WeightsUnavailable as reason:
    print(reason)
else:
    photographs = torch.cat([preprocess(load_photograph(name)) for name in ("china", "flower")])
    photographs = F.interpolate(photographs, (224, 336), mode="bilinear", antialias=True).to(device)
    answers = scores_of(squeezenet, photographs).argmax(1)
    goldfish = squeezenet.class_names.index("goldfish")
    rows = {
        "photograph": photographs,
        "to goldfish": torch.cat(
            [make_fooling_image(image[None], goldfish, squeezenet) for image in photographs]
        ).detach(),
        "FGSM, ε = 1/255": fgsm(photographs, answers, squeezenet, 1 / 255),
        "FGSM, ε = 4/255": fgsm(photographs, answers, squeezenet, 4 / 255),
    }
    pictures = torch.stack(list(rows.values()), dim=1).flatten(0, 1)
    confidences, answers = scores_of(squeezenet, pictures).softmax(1).max(1)
    contact_sheet(
        pictures,
        [
            f"{name}:\n{squeezenet.class_names[answer]} {confidence:.0%}"
            for name, answer, confidence in zip(list(rows) * 2, answers, confidences, strict=True)
        ],
        columns=4,
        inches=2.7,
        heading="SqueezeNet on two photographs",
    )
    plt.show()

# %% [markdown]
# One or two grey levels are usually enough to fool an ImageNet network that was trained in the
# ordinary way; section 4 says how many answers our small one keeps there. Part of that will be
# section 2's: more pixels, more products to add up. But there are also a thousand classes in place
# of ten, so a wrong one is nearer, and this comparison can't tell the two apart. See whether your
# photographs agree, try `vgg16`, or an image of your own with
# `utils.images.load_image`.
#
# ## What to take away
#
# - The gradient for the image, followed uphill, fools a network, into any class you like.
# - The reason is linearity in many dimensions. Random noise of the same size is harmless.
# - How close an image is to the border is its margin; an attack is a way to spend a budget on it,
#   many pixels a little or one pixel a lot.
# - Hiding the gradient protects nobody: images transfer, and answers give the gradient away.
# - A defence is worth what it does against an attacker who *knows* it, and who tries hard: a weak
#   attack makes any defence look good. Training on attacks has stood up to others best so far,
#   within its radius, at a price. None is universal.
