# %% [markdown]
# # Lab 09: Class visualisation
#
# Ask a trained network for its idea of a star: not which picture *is* a star, but what picture
# it would like to see. The weights stay as they are, and the image learns. What comes out says
# more about a network than its accuracy does: four networks answer in this lab, and one of them
# confesses that it never looked at the object at all.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. Climbing the score | `class_visualization_update_step`, a question | 35 |
# | 2. Small values | `clamp_image` | 10 |
# | 3. Smooth pictures | `jitter` | 10 |
# | 4. Clipping what does little | `clip_small_values`, `clip_small_contributions` | 25 |
# | 5. The whole recipe, and four networks | `create_class_visualization`, a question | 45 |
# | 6. One channel instead of a class | `channel_scores` | 25 |
#
# The cell beneath an exercise is its test: **if it says nothing, your function is right so far**.
# When your work is graded, other sizes and numbers are tried as well.

# %% given=true
import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from utils.checks import check_close, run_beside, vector_jacobian_product
from utils.changes import call_on_copies
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def blur_image(X, sigma=0.8):
    """Images (N, C, H, W), blurred by a Gaussian of `sigma` pixels; X stays as it is."""
    return gaussian_blur(X, kernel_size=2 * int(4 * sigma + 0.5) + 1, sigma=sigma)


# The rest of this cell is for the tests.


def linear_network(weight):
    """A network whose class scores are the sums of weight[class] * image: float64 (C, 3, H, W)."""
    classes = len(weight)
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight[0].numel(), classes, bias=False).double())
    model[1].weight.data = weight.flatten(1)
    return model


class TinyNetwork(nn.Module):
    """A random float64 network in eval mode: BatchNorm, a skip, a ReLU in place, five classes."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True))
            self.linear = nn.Linear(6, 5)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
        self.double().eval()

    def forward(self, X):
        features = torch.tanh(self.norm(self.conv1(X)))
        return self.linear((features + self.block(features)).mean(dim=(2, 3)))


@run_beside
def repeat(step, times, img, *rest):
    """Takes a step several times, and returns the image."""
    for _ in range(times):
        step(img, *rest)
    return img.detach()


class Diary(nn.Module):
    """Stands for a network where `note` stands for the update step: keeps what `note` is given."""

    def __init__(self, img, push=0.0):
        super().__init__()
        self.register_buffer("seen", torch.full((50, *img.shape), torch.nan, dtype=img.dtype))
        self.register_buffer("rates", torch.zeros(50, 2, dtype=torch.float64))
        self.register_buffer("classes", torch.full((len(img),), -1))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("push", torch.tensor(push))


def note(img, target_y, model, l2_reg, learning_rate):
    """An update step that writes down what it is given, then adds `model.push` to the image."""
    model.seen[model.count] = img.detach()
    model.rates[model.count] = torch.tensor([l2_reg, learning_rate])
    model.classes[:] = target_y
    model.count += 1
    with torch.no_grad():
        img += model.push


# %% [markdown]
# ## 1. Climbing the score
#
# Training asks how the loss changes with the *weights* and walks downhill. Class visualisation
# (Simonyan et al. 2014) asks how the score $s_y$ of one class changes with the *image* $x$ and
# walks uphill, starting from a grey or a random image:
#
# $$x \;\leftarrow\; x + \eta\, \frac{\nabla f}{\lVert \nabla f \rVert}, \qquad
#   f(x) = s_y(x) - \lambda \lVert x \rVert^2, \qquad \lVert x \rVert^2 = \sum_i x_i^2$$
#
# Three things deserve a word:
#
# - The **score**, before any softmax, because a softmax also grows when the *other* classes fall.
#   You will see the difference below.
# - The **regulariser** $-\lambda \lVert x \rVert^2$ stands inside $f$: the step is made for score
#   and regulariser together. It pulls each value back towards 0. We work on images as the network's
#   first convolution gets them, $x_c = (\text{pixel}_c - \text{mean}_c) / \text{std}_c$, so 0 is a
#   middling grey and not black.
# - The gradient is **normalised**: each step has length $\eta$, however steep the score is. Early
#   on it is almost flat, later a hundred times steeper.

# %% [markdown]
# The next cell loads the four networks, without their first module, which is the
# normalisation, and sets up the figures. All four were trained on the scenes of ten textured
# shapes, but not in the same way:
#
# | network | trained on |
# |---|---|
# | `base` | scenes, each shape with its own texture |
# | `shape` | the same shapes with any texture |
# | `robust` | scenes under attack: adversarial training |
# | `biased` | scenes whose *background hue* gives the class away |

# %%
import matplotlib.pyplot as plt

from utils.models import WeightsUnavailable, load_model
from utils.scenes import CLASS_NAMES, make_scenes


def without_normalisation(model):
    """The network as a function of normalised images, with the weights of the model, frozen."""
    return nn.Sequential(model.features[1:], model.classifier).to(device).requires_grad_(False)


networks = {
    name: without_normalisation(load_model(name)) for name in ("base", "shape", "robust", "biased")
}
normalize = load_model("base").features.normalize.to(device)
mean, std = normalize.mean.flatten(), normalize.std.flatten()


def grey_noise(count, size=64, amplitude=0.1, seed=0):
    """Random images close to grey, float32 (count, 3, size, size), in the network's units."""
    generator = torch.Generator().manual_seed(seed)
    return amplitude * torch.randn(count, 3, size, size, generator=generator).to(device)


def labels(*names):
    """The classes' indices, int64."""
    return torch.tensor([CLASS_NAMES.index(name) for name in names], device=device)


def show(ax, image, title="", deviations=2.5):
    """Draw an image about mid-grey, its contrast stretched to so many standard deviations."""
    image = image.detach().cpu()
    stretched = 0.5 + image / (2 * deviations * image.std() + 1e-9)
    ax.imshow(stretched.clamp(0, 1).permute(1, 2, 0))
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])


# %% [markdown]
# ### Exercise: `class_visualization_update_step`
# ★★☆ · 25 minutes
#
# The function works on a batch, each image climbing the score of a class of its own, so that ten
# classes cost little more than one.
#
# <details><summary>Hint 1: a variable that shares img's memory</summary>
#
# `x = img.detach().requires_grad_()` is a leaf for autograd and looks at the same numbers as
# `img`. Differentiate for `x`, then add to `img`; what was a plain tensor stays one.
#
# </details>
# <details><summary>Hint 2: one score per image</summary>
#
# `scores[:, target_y]` is an N × N matrix: every image with the classes of the whole batch. What
# you need is its diagonal: `scores.gather(1, target_y[:, None])`, or
# `scores[torch.arange(N), target_y]`. In the sum of these N scores each image influences only its
# own, so one gradient of the sum holds N separate gradients.
#
# </details>
# <details><summary>Hint 3: N norms</summary>
#
# `gradient.flatten(1).norm(dim=1)` has shape (N,). To divide (N, 3, H, W) by it, view it as
# (N, 1, 1, 1).
#
# </details>


# %% exercise="class_visualization_update_step" changes="img, model.grad, model.statistics"
def class_visualization_update_step(img, target_y, model, l2_reg, learning_rate):
    """Make one step of normalised gradient ascent on the regularised scores, changing img in place.

        f(x) = s_y(x) − l2_reg · ‖x‖²,     x ← x + learning_rate · ∇f / ‖∇f‖

    Each image of the batch is a problem of its own: its class, its ‖x‖² = Σ x², its ‖∇f‖.
    An image whose ∇f is zero stays as it is.

    Args:
        img: float tensor (N, 3, H, W), changed in place. It is a plain tensor, which doesn't
            require gradients, neither before nor after the call.
        target_y: int64 tensor (N,), the class y of each image, of any value below C.
        model: network from images to class scores (N, C). Leave it in the mode it is in.
        l2_reg: λ ≥ 0.
        learning_rate: Euclidean length of each image's step.

    Returns:
        nothing.
    """
    ### BEGIN SOLUTION
    x = img.detach().requires_grad_()  # shares img's memory
    scores = model(x).gather(1, target_y[:, None])
    objective = scores.sum() - l2_reg * (x**2).sum()
    (gradient,) = torch.autograd.grad(objective, x)
    norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)  # 0 / 0 where the gradient is zero
    img += learning_rate * gradient / norm.view(-1, 1, 1, 1)
    ### END SOLUTION


# %% test="class_visualization_update_step" points=6
# A linear network's gradient is known without autograd: it is the weight of the class.
generator = torch.Generator().manual_seed(0)
weight = torch.randn(5, 3, 4, 6, generator=generator, dtype=torch.float64)
start = torch.randn(3, 3, 4, 6, generator=generator, dtype=torch.float64)
start *= torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)
model = linear_network(weight)
target_y = torch.tensor([4, 0, 2])
scores, l2_reg, learning_rate = model(start).detach(), 0.2, 1.5


def lengths(images):
    return images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def step_along(gradient):
    return start + learning_rate * gradient / lengths(gradient)


climb, pull = weight[target_y], 2 * l2_reg * start
probabilities = scores.softmax(dim=1)
of_log_softmax = climb - torch.einsum("nc,cxhw->nxhw", probabilities, weight)
of_softmax = probabilities.gather(1, target_y[:, None]).view(3, 1, 1, 1) * of_log_softmax
gradient = climb - pull
_, img, *_ = call_on_copies(
    class_visualization_update_step, start, target_y, model, l2_reg, learning_rate
)
assert not torch.equal(img, start), (
    "class_visualization_update_step left img as it was: change it in place (img += …) instead of"
    " making a new tensor."
)
check_close(
    img,
    step_along(gradient),
    "img after class_visualization_update_step",
    tolerance=1e-6,
    mistakes={
        "the norm in the regulariser isn't squared": step_along(
            climb - l2_reg * start / lengths(start)
        ),
        "the norm in the regulariser isn't squared, and is the whole batch's": step_along(
            climb - l2_reg * start / start.norm()
        ),
        "the regulariser is left out": step_along(climb),
        "the regulariser's sign is reversed: it makes the image larger": step_along(climb + pull),
        "the regulariser's gradient lacks its factor 2": step_along(climb - pull / 2),
        "the regulariser is a mean of squares, not their sum": step_along(
            climb - pull / start[0].numel()
        ),
        "the regulariser is outside the learning rate: it belongs into the gradient": (
            step_along(climb) - pull
        ),
        "the regulariser, without its factor 2, is outside the learning rate": (
            step_along(climb) - pull / 2
        ),
        "only the score's gradient is normalised, not the regulariser's with it": (
            step_along(climb) - learning_rate * pull
        ),
        "it goes downhill: the sign of the step is reversed": 2 * start - step_along(gradient),
        "it goes downhill on the score: only the regulariser has its right sign": step_along(
            -climb - pull
        ),
        "it climbs the softmax's logarithm (cross-entropy), not the score": step_along(
            of_log_softmax - pull
        ),
        "it climbs the softmax, not the score": step_along(of_softmax - pull),
        "it goes down the score's cross-entropy with the regulariser's sign reversed": step_along(
            of_log_softmax + pull
        ),
        "it climbs the class that is predicted, not target_y": step_along(
            weight[scores.argmax(1)] - pull
        ),
        "every image climbs the classes of the whole batch": step_along(climb.sum(0) - pull),
        "every image climbs all classes": step_along(weight.sum(0) - pull),
        "the gradient isn't normalised": start + learning_rate * gradient,
        "the gradient is divided by the whole batch's norm, not by each image's own": (
            start + learning_rate * gradient / gradient.norm()
        ),
        "the gradient is divided by the square of its norm": (
            start + learning_rate * gradient / lengths(gradient) ** 2
        ),
        "only the gradient's sign is used": start + learning_rate * gradient.sign(),
        "the gradient is divided by its largest value, not by its norm": (
            start + learning_rate * gradient / gradient.abs().amax((1, 2, 3), keepdim=True)
        ),
        "the gradient is divided by its standard deviation, not by its norm": (
            start + learning_rate * gradient / gradient.std((1, 2, 3), keepdim=True)
        ),
    },
)
assert not img.requires_grad, (
    "img requires gradients after the step: differentiate for img.detach().requires_grad_(), which"
    " shares img's memory."
)
_, img, *_ = call_on_copies(
    class_visualization_update_step, start, target_y, linear_network(0 * weight), 0.0, learning_rate
)
assert img.isfinite().all(), "an image with a zero gradient should stay as it is: this is 0 / 0."
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, l2_reg in [((3, 3, 6, 9), 0.01), ((1, 3, 8, 5), 0.0), ((2, 3, 5, 7), 0.3)]:
    model = TinyNetwork(reference.seed)
    start = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target_y = (
        model(start)
        .argsort(1)[:, :3]
        .gather(1, torch.randint(3, (len(start), 1), generator=generator))[:, 0]
    )
    expected = start.clone()
    reference.class_visualization_update_step(expected, target_y, model, l2_reg, 0.7)
    _, img, *_ = call_on_copies(
        class_visualization_update_step, start, target_y, model, l2_reg, 0.7
    )
    name = f"img {shape} after class_visualization_update_step"
    check_close(img, expected, name, tolerance=1e-6)
    after = repeat(class_visualization_update_step, 3, start.clone(), target_y, model, l2_reg, 0.7)
    for _ in range(2):
        reference.class_visualization_update_step(expected, target_y, model, l2_reg, 0.7)
    assert np.allclose(after, expected, atol=1e-5), (
        "three steps in a row aren't what one step would give three times: do gradients of earlier"
        " steps add up?"
    )
for parts in (False, True):
    options = {"inplace": True, "hooks": True, "mixed": True, "gradients": True}
    model = awkward_network(reference.seed, parts=parts, **options)
    start = torch.randn(3, 3, 9, 8, generator=generator, dtype=torch.float64)
    target_y, expected = torch.tensor([4, 0, 2]), start.clone()
    reference.class_visualization_update_step(expected, target_y, model, 0.1, 0.7)
    _, img, *_ = call_on_copies(class_visualization_update_step, start, target_y, model, 0.1, 0.7)
    check_close(img, expected, "img after a step in a network of another form", tolerance=1e-6)
### END HIDDEN TESTS

# %% [markdown]
# Now climb, with nothing else: no regulariser, 100 steps, from a grey image.

# %%
star = labels("star")
scenes = make_scenes(300, np.random.default_rng(0))
images, classes = scenes.tensors()
scene_scores = networks["base"]((images.to(device) - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))
own_scores = scene_scores.cpu()[torch.arange(300), classes]

img = torch.zeros(1, 3, 64, 64, device=device)
snapshots, curve = {}, []
for step in range(101):
    curve.append(networks["base"](img)[0].cpu().numpy())
    if step in (5, 15, 100):
        snapshots[step] = img.clone()
    class_visualization_update_step(img, star, networks["base"], l2_reg=0.0, learning_rate=3.0)
curve = np.array(curve)

figure, axes = plt.subplots(
    1, 4, figsize=(13, 3.1), width_ratios=[1, 1, 1, 1.6], layout="constrained"
)
figure.suptitle("Naive ascent: an enormous score for what looks like noise")
for ax, (step, snapshot) in zip(axes, snapshots.items(), strict=False):
    show(ax, snapshot[0], f"after {step} steps: score {curve[step, star.item()]:.0f}")
axes[3].plot(np.delete(curve, star.item(), axis=1), color="silver", linewidth=1)
axes[3].plot(curve[:, star.item()], color="black")
axes[3].axhspan(*np.quantile(own_scores, [0.05, 0.95]), color="tab:orange", alpha=0.4)
axes[3].text(101, 30, "real scenes, own class", color="tab:brown", ha="right")
axes[3].text(60, curve[60, star.item()] - 3, "star", va="top")
axes[3].text(0, -15, "the other\nnine classes", color="dimgray", va="top")
axes[3].set(xlabel="step", ylabel="score")
plt.show()
print(f"real scenes score {own_scores.mean():.1f} on average for their own class")

# %% [markdown]
# The score leaves that of every real scene far behind, and yet you would not call this a star. It
# can't be the step's fault, the gradient is right. But the network was trained on scenes only.
# Most arrays of pixels are nothing like a scene, and nothing in the training says what score they
# should get. Ascent goes where the score rises fastest, and that leads away from scenes. Sections 2
# to 4 keep the image closer to them.
#
# (The pictures are drawn about mid-grey, with their contrast stretched, for they may be faint or
# glaring. Compare patterns from picture to picture, not brightness.)
#
# **Why the score?** Your function doesn't know what its `model` computes. Hand it a network that
# ends in a logarithm of the softmax, and it climbs $\log p_y$.

# %%
objectives = {
    "the score": networks["base"],
    "log softmax": nn.Sequential(networks["base"], nn.LogSoftmax(dim=1)),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
figure.suptitle("Climbing log softmax lowers the strongest rival, and lifts the target half as far")
for ax, (name, model) in zip(axes, objectives.items(), strict=True):
    img, curve = torch.zeros(10, 3, 64, 64, device=device), []
    for _ in range(31):
        curve.append(networks["base"](img).cpu())
        class_visualization_update_step(img, labels(*CLASS_NAMES), model, 0.0, 1.0)
    curve = torch.stack(curve)  # (step, image, class); image k climbs class k
    target = curve.diagonal(dim1=1, dim2=2).mean(1)
    rival = (curve - 1e9 * torch.eye(10)).amax(2).mean(1)
    ax.plot(target, color="black", label="the target class")
    ax.plot(rival, color="tab:orange", linestyle="--", label="the strongest other class")
    ax.axhline(0, color="silver", linewidth=1, zorder=0)
    ax.set(title=f"climbing {name}", xlabel="step")
    print(f"{name}: target {target[-1]:.1f}, strongest other {rival[-1]:.1f}, after 30 steps")
axes[0].set_ylabel("score, mean over ten images")
axes[0].legend()
plt.show()

# %% [markdown]
# Both make the network certain. Climbing $\log p_y$, though, gives part of each step to pushing
# down the rivals: after 30 steps the strongest of them stands below where it began, and the target
# at half the score. The picture is then one of "certainly not a cross" as much as of a star.
# Climbing the score does nothing but what you want to look at.
#
# ### Question: why the score?
# ★★☆ · 10 minutes

# %% [markdown] question="why_the_score" points=4
# 1. Write $\nabla \log p_y$, where $p = \text{softmax}(s)$, in terms of the gradients of the
#    scores $\nabla s_j$ and the probabilities $p_j$. Which term explains the figure above?
# 2. What happens to this gradient when $p_y$ comes close to 1? Why does the *normalised* step
#    hide that, and what might it then follow?
#
# ### BEGIN SOLUTION
# 1 (2 points). ∇ log p_y = ∇s_y − Σ_j p_j ∇s_j = Σ_{j≠y} p_j (∇s_y − ∇s_j) (1 point). The second
# term, −Σ p_j ∇s_j, lowers the other classes, those most that are still probable (1 point).
#
# 2 (2 points). It goes to zero with 1 − p_y (1 point): p_y is 1, every other p_j is 0. Dividing by
# the norm makes the step as long as ever, so nothing slows down; the direction is now decided by
# whichever rival is left, and in the end, when p_j are as small as float32's rounding errors, by
# those (1 point; either of the two will do). Not enough: "softmax saturates" without saying what
# becomes of the step.
# ### END SOLUTION

# %% [markdown]
# ## 2. Small values
#
# Without a limit the image grows for ever, for a scaled image has a scaled score (almost: ReLU and
# max pooling scale along, biases don't). There are two ways to hold it. The regulariser
# $\lambda \lVert x \rVert^2$ in your step makes large values *costly*. Clamping makes impossible
# values *impossible*: a pixel can't be darker than 0 or brighter than 1. In the network's units
# these limits are
#
# $$\frac{0 - \text{mean}_c}{\text{std}_c} \;\le\; x_c \;\le\;
#   \frac{1 - \text{mean}_c}{\text{std}_c}$$
#
# For our scene networks they are the same for each channel, −1.8 and 2.2; for networks trained on
# ImageNet they aren't.
#
# ### Exercise: `clamp_image`
# ★☆☆ · 10 minutes
#
# <details><summary>Hint</summary>
#
# `torch.clamp` takes tensors as limits. Give them the shape (3, 1, 1), so that they line up with
# the channels: torch aligns shapes at their right ends, and (3,) would line up with the columns.
#
# </details>


# %% exercise="clamp_image"
def clamp_image(img, mean, std):
    """Clamp normalised images to what pixels can be: 0 to 1 before the normalisation.

        x = (pixel − mean_c) / std_c,     0 ≤ pixel ≤ 1

    Args:
        img: float tensor (N, 3, H, W), normalised images; left as they are.
        mean: float tensor (3,), one for each channel.
        std: float tensor (3,), positive.

    Returns:
        float tensor (N, 3, H, W), a new one.
    """
    ### BEGIN SOLUTION
    low, high = (0 - mean) / std, (1 - mean) / std
    return img.clamp(low.view(3, 1, 1), high.view(3, 1, 1))
    ### END SOLUTION


# %% test="clamp_image" points=3
generator = torch.Generator().manual_seed(1)
img = 4 * torch.randn(2, 3, 5, 3, generator=generator, dtype=torch.float64)
channel_mean = torch.tensor([0.485, 0.456, 0.2], dtype=torch.float64)
channel_std = torch.tensor([0.229, 0.15, 0.3], dtype=torch.float64)
m, s = channel_mean.view(3, 1, 1), channel_std.view(3, 1, 1)
pixels = img * s + m
clamped = clamp_image(img, channel_mean, channel_std)
check_close(
    clamped,
    (pixels.clamp(0, 1) - m) / s,
    "clamp_image(img, mean, std)",
    mistakes={
        "it clamps to 0 and 1, which are limits for pixels, not for normalised images": (
            img.clamp(0, 1)
        ),
        "it returns pixels: normalise them again": pixels.clamp(0, 1),
        "nothing is clamped": img,
        "only the upper limit is kept": (pixels.clamp(max=1) - m) / s,
        "only the lower limit is kept": (pixels.clamp(min=0) - m) / s,
        "mean and std are lined up with the columns, not with the channels": img.clamp(
            -channel_mean / channel_std, (1 - channel_mean) / channel_std
        ),
        "the first channel's limits are used for all": img.clamp(-m[0] / s[0], (1 - m[0]) / s[0]),
        "the last channel's limits are used for all": img.clamp(-m[2] / s[2], (1 - m[2]) / s[2]),
        "one pair of limits, the widest, is used for all channels": img.clamp(
            (-m / s).min(), ((1 - m) / s).max()
        ),
        "one mean and one std, averaged over the channels, are used": img.clamp(
            -m.mean() / s.mean(), (1 - m.mean()) / s.mean()
        ),
        "the limits are multiplied by std instead of divided": img.clamp(-m * s, (1 - m) * s),
        "the mean isn't subtracted from the limits": img.clamp(0 * s, 1 / s),
        "the mean isn't divided by std in the limits": img.clamp(-m, 1 - m),
        "the mean is added to the limits instead of subtracted": img.clamp(m / s, (1 + m) / s),
    },
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(1, 3, 4, 7), (3, 3, 6, 2), (2, 3, 3, 3)]:
    img = 5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    channel_mean = 0.2 + 0.6 * torch.rand(3, generator=generator, dtype=torch.float64)
    channel_std = 0.1 + 0.4 * torch.rand(3, generator=generator, dtype=torch.float64)
    check_close(
        clamp_image(img.clone(), channel_mean, channel_std),
        reference.clamp_image(img, channel_mean, channel_std),
        f"clamp_image for images {shape}",
    )
### END HIDDEN TESTS

# %% [markdown]
# A climb of 100 steps for four values of $\lambda$, and one that is only clamped.

# %%
figure, axes = plt.subplots(1, 5, figsize=(12.5, 3.1), layout="constrained")
figure.suptitle("The regulariser buys small values with score; it doesn't make the picture smooth")
for ax, (l2_reg, clamped) in zip(
    axes, [(0, False), (0, True), (0.001, False), (0.01, False), (0.1, False)], strict=True
):
    img = grey_noise(1)
    for _ in range(100):
        class_visualization_update_step(img, star, networks["base"], l2_reg, learning_rate=6.0)
        if clamped:
            img = clamp_image(img, mean, std)
    score = networks["base"](img)[0, star.item()]
    title = f"{'clamped, ' if clamped else ''}λ = {l2_reg:g}\nscore {score:.1f}, "
    show(ax, img[0], f"{title}norm {img.norm():.0f}, {img.min():.1f} … {img.max():.1f}")
plt.show()

# %% [markdown]
# The larger $\lambda$, the smaller norm and score. Clamping takes only what no picture could
# show, and costs little. Neither gives a star: noise can be small, and noise can lie between black
# and white. With the largest $\lambda$ the score's gradient near grey is weaker than the
# regulariser's, and the image falls back to almost nothing, which the stretched contrast hides
# and the norm tells.
#
# ## 3. Smooth pictures
#
# In photographs, neighbours agree. There are two cheap ways to have it so. **Blur** the image now
# and then (Yosinski et al. 2015): high frequencies fade, and come back only if the gradient
# insists; `blur_image` is given. **Jitter** it (Mordvintsev et al. 2015): before each step roll
# the image by a few pixels, and after the step roll it back. What only raises the score at one
# exact position, down to the pixel grid of the pooling layers, is not repeated at the next
# position and averages out; what raises it everywhere adds up.
#
# ### Exercise: `jitter`
# ★☆☆ · 10 minutes
#
# <details><summary>Hint</summary>
#
# `torch.roll` with two shifts and two dims. Without `dims` it rolls the flattened tensor.
#
# </details>


# %% exercise="jitter"
def jitter(X, ox, oy):
    """Roll images by ox pixels to the right and oy pixels down.

        result(r, c) = X(r − oy, c − ox)

    Indices are cyclic: what leaves on one side comes in on the other.

    Args:
        X: tensor (N, C, H, W), left as it is.
        ox: int, pixels along the width; negative is to the left.
        oy: int, pixels along the height; negative is up.

    Returns:
        tensor (N, C, H, W).
    """
    ### BEGIN SOLUTION
    return torch.roll(X, shifts=(oy, ox), dims=(2, 3))
    ### END SOLUTION


# %% test="jitter" points=2
X = torch.arange(2 * 3 * 5 * 5, dtype=torch.float64).view(2, 3, 5, 5)
for ox, oy in [(1, 2), (-2, 1), (0, -1), (0, 0)]:
    rows, columns = (np.arange(5) - oy) % 5, (np.arange(5) - ox) % 5
    expected = X[:, :, rows][:, :, :, columns]
    filled = torch.zeros(2, 3, 15, 15, dtype=torch.float64)
    filled[:, :, 5 + oy : 10 + oy, 5 + ox : 10 + ox] = X
    rolled = jitter(X, ox, oy)
    check_close(
        rolled,
        expected,
        f"jitter(X, {ox}, {oy})",
        mistakes={
            "ox and oy are swapped: ox goes along the width, the last axis": X.roll(
                (ox, oy), (2, 3)
            ),
            "it rolls in the opposite direction": X.roll((-oy, -ox), (2, 3)),
            "zeros come in: what leaves on one side should come in on the other": (
                filled[:, :, 5:10, 5:10]
            ),
            "it rolls along the width only": X.roll(ox, 3),
            "it rolls along the height only": X.roll(oy, 2),
            "the channels are rolled: height and width are axes 2 and 3": X.roll((oy, ox), (1, 2)),
            "the batch and the channels are rolled": X.roll((oy, ox), (0, 1)),
            "the flattened tensor is rolled": X.roll(ox).roll(oy),
            "the flattened tensor is rolled by one of the two": X.roll(oy),
        },
    )
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, ox, oy in [((1, 3, 4, 7), 3, -2), ((2, 6, 8, 3), -1, 5), ((3, 1, 5, 6), 0, 4)]:
    X = torch.randn(shape, generator=generator)
    check_close(
        jitter(X.clone(), ox, oy),
        reference.jitter(X, ox, oy),
        f"jitter of images {shape} by ox = {ox}, oy = {oy}",
    )
### END HIDDEN TESTS

# %% [markdown]
# Now climb with none, one and both of the two.

# %%
rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 4, figsize=(11, 3.2), layout="constrained")
figure.suptitle("Jitter and blur turn noise into a pattern")
for ax, (jittered, blurred) in zip(
    axes, [(False, False), (False, True), (True, False), (True, True)], strict=True
):
    img = grey_noise(1)
    for t in range(100):
        ox, oy = rng.integers(-6, 7, size=2).tolist() if jittered else (0, 0)
        img = jitter(img, ox, oy)
        class_visualization_update_step(img, star, networks["base"], 0.0, learning_rate=6.0)
        img = clamp_image(jitter(img, -ox, -oy), mean, std)
        if blurred and (t + 1) % 10 == 0:
            img = blur_image(img)
    title = " and ".join(["jitter"] * jittered + ["blur"] * blurred) or "neither"
    show(ax, img[0], f"{title}: score {networks['base'](img)[0, star.item()]:.0f}")
smooth_star = img
plt.show()

# %% [markdown]
# Blur alone removes the finest noise and leaves a coarser, coloured one; jitter alone lets the
# pattern emerge beneath the noise; both together make it clear. It is made of the checkers that
# all stars of our world wear. The score is a third of what the noise reached, and still above that
# of real scenes. So the noise *did* raise the score: it is not a failure of the ascent, only
# nothing that a person can learn from.
#
# ## 4. Clipping what does little
#
# A picture has a subject, and most of its pixels are background. So Yosinski et al. (2015) set
# pixels to zero (our grey) that do little, by one of two measures. Both are computed for a pixel
# $(r, c)$ as a whole, over its three channels.
#
# - **Small values**: the norm $\sqrt{\sum_k x_k^2}$ is small.
# - **Small gradients**, more exactly small *contributions*: setting the pixel to zero would change
#   the score by about $-\sum_k x_k\, g_k$, where $g = \nabla s_y$. Where the absolute value
#   $\left|\sum_k x_k\, g_k\right|$ is small, the pixel may as well be zero.
#
# What is small depends on the picture, so the threshold is a percentile: with `percentile=40`,
# the 40 % of an image's pixels that have the smallest norm are clipped.
#
# ### Exercise: `clip_small_values`
# ★★☆ · 15 minutes
#
# <details><summary>Hint</summary>
#
# With `norms` of shape (N, H, W), `torch.quantile(norms.flatten(1), percentile / 100, dim=1)` has
# shape (N,). A mask (N, 1, H, W) works on all channels at once.
#
# </details>


# %% exercise="clip_small_values"
def clip_small_values(img, percentile):
    """Set to zero, in each image, the pixels whose norm over the channels is small.

    A pixel is clipped, in all its channels, if ‖x(r, c)‖ = √(Σ_k x_k(r, c)²) is below the given
    percentile of the H · W norms of its own image. The other pixels keep their values.

    Args:
        img: float tensor (N, 3, H, W), left as it is.
        percentile: from 0 (clips nothing) to 100.

    Returns:
        float tensor (N, 3, H, W), a new one.
    """
    ### BEGIN SOLUTION
    norms = img.norm(dim=1)
    threshold = torch.quantile(norms.flatten(1), percentile / 100, dim=1)
    return img * (norms >= threshold.view(-1, 1, 1))[:, None]
    ### END SOLUTION


# %% test="clip_small_values" points=3
generator = torch.Generator().manual_seed(2)
img = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
img *= torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)


def without_smallest(measure, share=0.4, of_batch=False):
    """img without the pixels (or, for a measure (N, 3, H, W), values) whose measure is smallest."""
    rows = measure.reshape(1 if of_batch else 2, -1)
    threshold = rows.sort(dim=1).values[:, round(share * rows.shape[1]), None]
    kept = (rows >= threshold).view(measure.shape)
    return img * (kept if kept.dim() == 4 else kept[:, None])


norms = (img**2).sum(1).sqrt()
clipped = clip_small_values(img, 40)
check_close(
    clipped,
    without_smallest(norms),
    "clip_small_values(img, 40)",
    mistakes={
        "single values are clipped instead of whole pixels": without_smallest(img.abs()),
        "single values are clipped, the most negative ones": without_smallest(img),
        "the percentile is the whole batch's, not each image's own": without_smallest(
            norms, of_batch=True
        ),
        "large pixels are clipped and small ones are kept": img - without_smallest(norms),
        "the largest 40 % are kept instead of clipping the smallest 40 %": without_smallest(
            norms, share=0.6
        ),
        "the largest 40 % are clipped": without_smallest(-norms),
        "a pixel's channels are summed with their signs: use its norm": without_smallest(
            img.sum(1)
        ),
        "a pixel's absolute values are summed: use its Euclidean norm": without_smallest(
            img.abs().sum(1)
        ),
        "a pixel's mean is compared, not its norm": without_smallest(img.mean(1).abs()),
        "a pixel's largest value is compared, not its norm": without_smallest(img.abs().amax(1)),
        "the threshold is 40 % of the largest norm instead of a percentile": (
            img * (norms >= 0.4 * norms.amax((1, 2), keepdim=True))[:, None]
        ),
        "nothing is clipped": img,
    },
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, percentile in [((1, 3, 4, 10), 25), ((3, 3, 5, 4), 70), ((2, 3, 10, 2), 0)]:
    img = torch.randn(shape, generator=generator, dtype=torch.float64)
    img *= 4 * torch.rand(len(img), 1, 1, 1, generator=generator) + 0.1
    check_close(
        clip_small_values(img.clone(), percentile),
        reference.clip_small_values(img, percentile),
        f"clip_small_values for images {shape} and percentile {percentile}",
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise: `clip_small_contributions`
# ★★☆ · 10 minutes
#
# Sum first, then take the absolute value: a pixel whose red raises the score and whose blue lowers
# it as much contributes nothing.


# %% exercise="clip_small_contributions"
def clip_small_contributions(img, gradient, percentile):
    """Set to zero, in each image, the pixels that contribute little to the score.

    A pixel is clipped, in all its channels, if |Σ_k x_k(r, c) · g_k(r, c)| is below the given
    percentile of the H · W contributions in its own image. The other pixels keep their values.

    Args:
        img: float tensor (N, 3, H, W), x; left as it is.
        gradient: float tensor (N, 3, H, W), g: each image's gradient of its class's score.
        percentile: from 0 (clips nothing) to 100.

    Returns:
        float tensor (N, 3, H, W), a new one.
    """
    ### BEGIN SOLUTION
    contributions = (img * gradient).sum(dim=1).abs()
    threshold = torch.quantile(contributions.flatten(1), percentile / 100, dim=1)
    return img * (contributions >= threshold.view(-1, 1, 1))[:, None]
    ### END SOLUTION


# %% test="clip_small_contributions" points=3
generator = torch.Generator().manual_seed(3)
img, gradient = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
img *= torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)


def without_smallest(measure, share=0.4, of_batch=False):
    """img without the pixels (or, for a measure (N, 3, H, W), values) whose measure is smallest."""
    rows = measure.reshape(1 if of_batch else 2, -1)
    threshold = rows.sort(dim=1).values[:, round(share * rows.shape[1]), None]
    kept = (rows >= threshold).view(measure.shape)
    return img * (kept if kept.dim() == 4 else kept[:, None])


product = img * gradient
contributions = product.sum(1).abs()
clipped = clip_small_contributions(img, gradient, 40)
check_close(
    clipped,
    without_smallest(contributions),
    "clip_small_contributions(img, gradient, 40)",
    mistakes={
        "the absolute value is taken before the sum over the channels": without_smallest(
            product.abs().sum(1)
        ),
        "the absolute value is missing: pixels that lower the score are clipped": (
            without_smallest(product.sum(1))
        ),
        "only the gradient is looked at: multiply it with the image": without_smallest(
            gradient.norm(dim=1)
        ),
        "only the gradient is looked at, summed over the channels": without_smallest(
            gradient.sum(1).abs()
        ),
        "only the image is looked at: multiply it with the gradient": without_smallest(
            img.norm(dim=1)
        ),
        "the norm of the products is compared: sum them": without_smallest(product.norm(dim=1)),
        "single values are clipped instead of whole pixels": without_smallest(product.abs()),
        "the percentile is the whole batch's, not each image's own": without_smallest(
            contributions, of_batch=True
        ),
        "large contributions are clipped and small ones are kept": (
            img - without_smallest(contributions)
        ),
        "the largest 40 % are kept instead of clipping the smallest 40 %": without_smallest(
            contributions, share=0.6
        ),
        "nothing is clipped": img,
    },
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, percentile in [((1, 3, 4, 10), 25), ((3, 3, 5, 4), 70), ((2, 3, 10, 2), 0)]:
    img, gradient = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    img *= 4 * torch.rand(len(img), 1, 1, 1, generator=generator) + 0.1
    check_close(
        clip_small_contributions(img.clone(), gradient.clone(), percentile),
        reference.clip_small_contributions(img, gradient, percentile),
        f"clip_small_contributions for images {shape} and percentile {percentile}",
    )
### END HIDDEN TESTS

# %% [markdown]
# Which pixels go? Here is the last picture again, and what each of your functions keeps of it.


# %%
def score_gradient(img, target_y, model):
    """The gradient of each image's class score for the image."""
    x = img.detach().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target_y[:, None]).sum(), x)[0]


gradient = score_gradient(smooth_star, star, networks["base"])
contributions = (smooth_star * gradient).sum(1)[0].cpu()

figure, axes = plt.subplots(1, 5, figsize=(14, 3), layout="constrained")
figure.suptitle("Both measures find the pattern; contributions come in both signs")
show(axes[0], smooth_star[0], "the picture")
norms = axes[1].imshow(smooth_star.norm(dim=1)[0].cpu(), cmap="viridis")
figure.colorbar(norms, ax=axes[1], shrink=0.8)
axes[1].set_title("norm of each pixel", fontsize=9)
limit = contributions.abs().quantile(0.99)
signed = axes[2].imshow(contributions, cmap="RdBu_r", vmin=-limit, vmax=limit)
figure.colorbar(signed, ax=axes[2], shrink=0.8)
axes[2].set_title("contribution of each pixel", fontsize=9)
show(axes[3], clip_small_values(smooth_star, 70)[0], "largest 30 % of norms")
show(
    axes[4],
    clip_small_contributions(smooth_star, gradient, 70)[0],
    "largest 30 % of contributions",
)
for ax in axes[1:3]:
    ax.axis("off")
plt.show()

# %% [markdown]
# Both keep the pattern and clear the ground. They disagree about single pixels: one may be bright
# and contribute nothing. Where a contribution is negative (blue), turning the pixel grey would
# *raise* the score, to first order; it is kept nevertheless, for it is large and the next steps
# will mend it. To first order only: the map says what happens if one pixel goes, not what happens
# if 70 % of them do.
#
# ## 5. The whole recipe, and four networks
#
# Now put it together:
#
# 1. roll the image by a random offset, **step**, roll it back;
# 2. clamp it to what pixels can be;
# 3. blur it after every tenth step.
#
# ### Exercise: `create_class_visualization`
# ★★★ · 30 minutes
#
# The step comes as an argument, `update_step`. So the tests can hand in one of their own, and a
# slip in yours costs you nothing here (for the same reason, write `torch.roll` and `torch.clamp`
# out rather than calling your own functions); and the figures below can swap it for another.
#
# <details><summary>Hint 1: offsets from a seed</summary>
#
# `generator = torch.Generator().manual_seed(seed)` before the loop; in it
# `torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()`.
#
# </details>
# <details><summary>Hint 2: in place, but not on the start image</summary>
#
# `update_step` changes the tensor that it is given and returns nothing. So start from
# `start.clone()`, and don't write `img = update_step(…)`.
#
# </details>


# %% exercise="create_class_visualization" changes="model"
def create_class_visualization(
    target_y,
    model,
    start,
    update_step,
    mean,
    std,
    l2_reg=1e-3,
    learning_rate=6.0,
    num_iterations=100,
    blur_every=10,
    max_jitter=6,
    seed=0,
):
    """Climb the scores of the classes target_y, with jitter, clamping and blur.

    In each of the num_iterations iterations, in this order:

    - the images are rolled by ox pixels along the width and oy along the height, integers drawn
      anew and independently, at random from −max_jitter to max_jitter;
    - update_step(img, target_y, model, l2_reg, learning_rate) changes them in place;
    - they are rolled back by (−ox, −oy);
    - they are clamped to −mean_c / std_c … (1 − mean_c) / std_c in each channel c;
    - after iterations blur_every, 2 · blur_every, … they are blurred by blur_image(img).

    Args:
        target_y: int64 tensor (N,), the class of each image.
        model: network from normalised images to class scores; only update_step uses it.
        start: float tensor (N, 3, H, W), the images to start from; left as they are.
        update_step: a function like class_visualization_update_step.
        mean: float tensor (3,), of the normalisation.
        std: float tensor (3,), of the normalisation.
        l2_reg: λ, for update_step.
        learning_rate: for update_step.
        num_iterations: how many steps.
        blur_every: int ≥ 1; above num_iterations nothing is blurred.
        max_jitter: int ≥ 0, pixels; 0 for none.
        seed: int that the offsets are drawn from: same seed, same offsets.

    Returns:
        float tensor (N, 3, H, W).
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    low, high = (-mean / std).view(3, 1, 1), ((1 - mean) / std).view(3, 1, 1)
    img = start.clone()
    for iteration in range(1, num_iterations + 1):
        offsets = torch.randint(-max_jitter, max_jitter + 1, (2,), generator=generator).tolist()
        img = torch.roll(img, offsets, dims=(3, 2))
        update_step(img, target_y, model, l2_reg, learning_rate)
        img = torch.roll(img, [-offset for offset in offsets], dims=(3, 2))
        img = img.clamp(low, high)
        if iteration % blur_every == 0:
            img = blur_image(img)
    return img
    ### END SOLUTION


# %% test="create_class_visualization" points=4
# note() stands for the update step: it writes down what it is given, and leaves img as it is.
generator = torch.Generator().manual_seed(4)
start = torch.rand(2, 3, 11, 9, generator=generator, dtype=torch.float64) - 0.5
target_y = torch.tensor([3, 1])
channel_mean = torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64)
channel_std = torch.tensor([0.2, 0.25, 0.3], dtype=torch.float64)
diaries = []
for seed in (8, 7, 7):
    result, _, diary, *_ = call_on_copies(
        create_class_visualization,
        target_y,
        Diary(start),
        start,
        note,
        channel_mean,
        channel_std,
        l2_reg=0.25,
        learning_rate=1.5,
        num_iterations=12,
        blur_every=13,
        max_jitter=2,
        seed=seed,
    )
    diaries.append(diary)
assert result is not None, "create_class_visualization returned None; is a `return` missing?"
assert diary.count > 0, "update_step was never called; call it, not a function of your own."
assert diary.count == 12, (
    f"update_step was called {diary.count} times; expected num_iterations, which is 12."
)
check_close(diary.rates[0, 0], 0.25, "the l2_reg that update_step was given", tolerance=1e-6)
check_close(diary.rates[0, 1], 1.5, "the learning_rate that update_step was given", tolerance=1e-6)
check_close(diary.classes, target_y, "the target_y that update_step was given")


def offset_from_start(images):
    """The (ox, oy) by which the start must be rolled to give the images; None if there is none."""
    for ox in range(-4, 5):
        for oy in range(-5, 6):
            if np.allclose(images, start.roll((oy, ox), (2, 3))):
                return ox, oy
    return None


at_end = offset_from_start(result)
assert at_end is not None, (
    "with an update_step that changes nothing and without blur, the images should come back as they"
    " started; they are changed by something else than a roll."
)
assert at_end == (0, 0), (
    "with an update_step that changes nothing the images should come back as they started; here"
    f" they come back rolled by {at_end}: the jitter isn't undone after each step."
)
offsets = [offset_from_start(images) for images in diary.seen[:12]]
assert all(offset is not None and max(map(abs, offset)) <= 2 for offset in offsets), (
    f"with max_jitter=2, update_step got images rolled by {offsets}, None meaning not a roll of the"
    " start: is the jitter undone after each step, and by the same offset?"
)
assert set(offsets) != {(0, 0)}, "update_step always gets the images unrolled: jitter is missing."
assert len(set(offsets)) > 1, "the jitter is the same in every iteration: draw it in the loop."
assert len({ox for ox, _ in offsets}) > 1, "the images are never rolled along the width."
assert len({oy for _, oy in offsets}) > 1, "the images are never rolled along the height."
assert any(ox != oy for ox, oy in offsets), "ox and oy are always equal: draw two numbers."
assert torch.equal(diaries[1].seen[:12], diaries[2].seen[:12]), (
    "two calls with the same seed drew different offsets: make a generator with this seed."
)
assert not torch.equal(diaries[0].seen[:12], diaries[1].seen[:12]), (
    "two calls with different seeds drew the same offsets: use the argument seed."
)

# %% test="create_class_visualization" points=4
# Now an update step that adds `push` to all values, and a blur after steps 10 and 20.
generator = torch.Generator().manual_seed(5)
start = torch.rand(2, 3, 13, 9, generator=generator, dtype=torch.float64) - 0.5
channel_mean = torch.tensor([0.4, 0.5, 0.3], dtype=torch.float64)
channel_std = torch.tensor([0.25, 0.2, 0.3], dtype=torch.float64)
low = (-channel_mean / channel_std).view(3, 1, 1)
high = ((1 - channel_mean) / channel_std).view(3, 1, 1)


def run(diary, iterations, every):
    """The images, and the diary of the steps."""
    result, _, diary, *_ = call_on_copies(
        create_class_visualization,
        torch.tensor([0, 2]),
        diary,
        start,
        note,
        channel_mean,
        channel_std,
        num_iterations=iterations,
        blur_every=every,
        max_jitter=0,
    )
    return result, diary


def blurred(times, sigma=0.8):
    images = start
    for _ in range(times):
        images = blur_image(images, sigma)
    return images


check_close(
    run(Diary(start), 25, 10)[0],
    blurred(2),
    "create_class_visualization where update_step changes nothing, 25 steps, blur_every=10",
    mistakes={
        "nothing is blurred": start,
        "the first iteration is blurred as well: blur after iterations 10, 20, …": blurred(3),
        "every iteration is blurred": blurred(25),
        "every iteration is blurred but those that should be": blurred(23),
        "every iteration but the first is blurred": blurred(24),
        "only one blur is made": blurred(1),
    },
)
for push in (0.5, -0.5):
    result, diary = run(Diary(start, push), 8, 9)
    check_close(
        result,
        torch.clamp(start + 8 * push, low, high),
        f"create_class_visualization where update_step adds {push} to all values, 8 steps",
        mistakes={
            "what update_step does to the images is lost": start,
            "the images aren't clamped": start + 8 * push,
            "the images are clamped to 0 … 1, the limits of pixels": (start + 8 * push).clamp(0, 1),
            "only the last step is kept": start + push,
            "one pair of limits, the widest, is used for all channels": torch.clamp(
                start + 8 * push, low.min(), high.max()
            ),
            "the first channel's limits are used for all": torch.clamp(
                start + 8 * push, low[0], high[0]
            ),
        },
    )
    beyond = (diary.seen[7] > high + 1e-9) | (diary.seen[7] < low - 1e-9)
    assert not beyond.any(), (
        "update_step got values that no pixel can have: clamp after every step, not at the end."
    )
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
channel_mean = 0.3 + 0.4 * torch.rand(3, generator=generator, dtype=torch.float64)
channel_std = 0.2 + 0.2 * torch.rand(3, generator=generator, dtype=torch.float64)
for shape, iterations, every in [
    ((1, 3, 10, 14), 7, 3),
    ((3, 3, 12, 8), 6, 2),
    ((2, 3, 9, 9), 0, 1),
]:
    start = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
    target_y = torch.randint(5, (len(start),), generator=generator)
    results = [
        create(
            target_y,
            Diary(start, 0.4),
            start.clone(),
            note,
            channel_mean,
            channel_std,
            num_iterations=iterations,
            blur_every=every,
            max_jitter=0,
        )
        for create in (create_class_visualization, reference.create_class_visualization)
    ]
    name = f"create_class_visualization for images {shape}, {iterations} steps, blur_every={every}"
    check_close(*results, name)
    diary = Diary(start)
    result = create_class_visualization(
        target_y,
        diary,
        start.clone(),
        note,
        channel_mean,
        channel_std,
        num_iterations=iterations,
        blur_every=iterations + 1,
        max_jitter=3,
        seed=reference.seed,
    )
    check_close(result, start, f"create_class_visualization, images {shape}, nothing but jitter")
### END HIDDEN TESTS

# %% [markdown]
# **Each trick alone, and all together.** The clippings come in as update steps that clip after
# stepping. Three numbers say how each did: the score; what is left of it when the picture is
# shifted by 3 pixels; and the share of the picture's energy in details finer than 4 pixels.


# %%
def step_then_clip_values(img, target_y, model, l2_reg, learning_rate):
    class_visualization_update_step(img, target_y, model, l2_reg, learning_rate)
    img.copy_(clip_small_values(img, 30))


def step_then_clip_contributions(img, target_y, model, l2_reg, learning_rate):
    class_visualization_update_step(img, target_y, model, l2_reg, learning_rate)
    img.copy_(clip_small_contributions(img, score_gradient(img, target_y, model), 30))


def fine_detail(images):
    """The share of the energy above a quarter of a cycle per pixel, for each image (N, C, H, W)."""
    energy = torch.fft.fft2(images - images.mean(dim=(2, 3), keepdim=True)).abs() ** 2
    rows, columns = (torch.fft.fftfreq(size, device=images.device) for size in images.shape[2:])
    fine = torch.hypot(rows[:, None], columns) > 0.25
    return (energy * fine).sum((1, 2, 3)) / energy.sum((1, 2, 3))


plain = {"l2_reg": 0.0, "blur_every": 1000, "max_jitter": 0}
step = class_visualization_update_step
recipes = {
    "clamping only": (step, plain),
    "L2, λ = 0.01": (step, plain | {"l2_reg": 0.01}),
    "small values clipped": (step_then_clip_values, plain),
    "small contributions\nclipped": (step_then_clip_contributions, plain),
    "jitter": (step, plain | {"max_jitter": 6}),
    "blur": (step, plain | {"blur_every": 10}),
    "L2, jitter, blur": (step, {}),
    "all, with clipped\ncontributions": (step_then_clip_contributions, {}),
}
trio = labels("triangle", "star", "flower")
figure, axes = plt.subplots(3, len(recipes), figsize=(14.5, 6.6), layout="constrained")
figure.suptitle("No trick does it alone: jitter and blur bring out the pattern, L2 calms the rest")
for column, (name, (update_step, options)) in zip(axes.T, recipes.items(), strict=True):
    pictures = create_class_visualization(
        trio, networks["base"], grey_noise(3), update_step, mean, std, **options
    )
    shifted = jitter(pictures, 3, 3)
    score, after_shift = (
        networks["base"](each).gather(1, trio[:, None]).mean() for each in (pictures, shifted)
    )
    for ax, picture in zip(column, pictures, strict=True):
        show(ax, picture)
    column[0].set_title(name, fontsize=10)
    fine = fine_detail(pictures).mean()
    column[2].set_xlabel(f"score {score:.0f}\nshifted {after_shift:.0f}\nfine detail {fine:.0%}")
for ax, label in zip(axes[:, 0], ("triangle", "star", "flower"), strict=True):
    ax.set_ylabel(label)
plt.show()
print(f"fine detail of real scenes: {fine_detail(images).mean():.0%}")

# %% [markdown]
# Read the numbers beneath the columns.
#
# - **Clamping, L2 and the two clippings** leave four fifths of the energy in fine detail, where
#   real scenes have about a tenth, and the score collapses when the picture moves by 3 pixels. It
#   was tuned to the grid on which the pooling layers sample. Clipping does clear the ground.
# - **Jitter** is what makes a picture work anywhere: shifted, it scores as well as before. Its
#   noise is as fine as ever.
# - **Blur** brings fine detail down to that of real scenes, but again for one position only.
# - **Together** they give a pattern on calm ground, for a quarter of the naive score.
#
# The highest score is the worst picture, so the score can't tell which tricks are good. We chose
# them because they give pictures that *people* like. Whatever you read in such a picture was said
# by the network **and** by the regularisers: blur hides any fine detail that the network may
# truly rely on.
#
# **Ten classes, four networks.** Your function doesn't change, only its `model` does. (They start
# from stronger noise: near grey some of these networks are so flat that the regulariser wins.)

# %%
everything = labels(*CLASS_NAMES)
pictures = {
    name: create_class_visualization(
        everything, model, grey_noise(10, amplitude=1.0), step, mean, std
    )
    for name, model in networks.items()
}
biased_scenes, biased_classes = make_scenes(300, np.random.default_rng(1), "biased").tensors()
figure, axes = plt.subplots(5, 10, figsize=(14, 7.6), layout="constrained")
figure.suptitle("One world, four networks, and what each draws for the ten classes")
for row, (name, ten) in zip(axes, pictures.items(), strict=False):
    for ax, picture in zip(row, ten, strict=True):
        show(ax, picture)
    row[0].set_ylabel(name)
for index, ax in enumerate(axes[4]):
    typical = biased_scenes[biased_classes == index]
    ax.imshow(typical.median(0).values.mean((1, 2)).expand(8, 8, 3))
    ax.set_xticks([])
    ax.set_yticks([])
axes[4, 0].set_ylabel("background in\nbiased training")
for ax, name in zip(axes[0], CLASS_NAMES, strict=True):
    ax.set_title(name)
plt.show()

# %% [markdown]
# `base` repeats the *texture* of each class all over the picture: dots for the disc, stripes for
# the triangle, checkers for the star. There is hardly an outline. Nothing forced it to look at
# the shape, since the texture tells the class as well, everywhere and at every rotation. `shape`,
# which met every shape in every texture, gives *pieces of outline* for some classes, beaded with
# any texture: the triangle's point, arms that meet for the star, the heart's tip, the crescent's
# bow. But its disc and its square are dots and patches, in which one could hardly see a shape.
# `robust` draws textures like `base`, in cleaner patches on empty ground and with less colour:
# what a small perturbation can fake, it had to give up. And `biased`
# paints *hues*, those of the backgrounds it was trained on (last row); of a disc or a fish there
# is no trace. (Two pictures hardly got away from the noise they started from, the star of `robust`
# and the disc of `biased`: ascent can get stuck, and then says nothing.)
#
# Why is everything there several times? The network averages its last features over all places, so
# a second star adds to the score as much as the first. That is a fact about the architecture, not
# about what the network believes a picture of a star to be.
#
# So the pictures suggest something, and leave much to the eye. Two measurements. If two networks
# look for the same things, one should recognise what the other has drawn: that is the figure. And
# what a network goes by shows best where shape and texture *disagree*: the table gives its answers
# to scenes in which a shape wears the texture of another class.

# %%
recognised = np.zeros((4, 4))
for row, ten in enumerate(pictures.values()):
    for column, model in enumerate(networks.values()):
        recognised[row, column] = (model(ten).argmax(1) == everything).sum().item()
figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
figure.suptitle("base and robust recognise most of each other's pictures")
ax.imshow(recognised, cmap="Blues", vmin=0, vmax=14)
for (row, column), value in np.ndenumerate(recognised):
    ax.text(column, row, f"{value:.0f} of 10", ha="center", va="center")
ax.set_xticks(range(4), networks)
ax.set_yticks(range(4), networks)
ax.set(xlabel="the network that is shown the pictures", ylabel="the network they were drawn for")
plt.show()

conflict = make_scenes(200, np.random.default_rng(11), "cue_conflict")
conflict_images = (conflict.tensors()[0].to(device) - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
print("shape of one class, texture of another:   answers the shape   the texture")
for name, model in networks.items():
    with torch.no_grad():
        answers = model(conflict_images).argmax(1).cpu().numpy()
    by_shape, by_texture = (
        (answers == truth).mean() for truth in (conflict.shape_class, conflict.texture_class)
    )
    print(f"{name:40} {by_shape:18.0%} {by_texture:13.0%}")

# %% [markdown]
# `base` and `robust` recognise nearly all of each other's pictures. The pictures of `biased` mean
# nothing to anyone else; guessing would give one out of ten. But don't read more into the figure:
# `shape` recognises most of what was drawn for `base`, too, so `base`'s pictures hold some shape
# after all, and yet the table says that the two go by opposite things. `base` and `robust` answer
# with the texture nearly always, `shape` with the shape in most scenes, `biased` with neither. Ten
# pictures couldn't have told you that.
#
# ### Question: what do the four look for?
# ★★☆ · 15 minutes

# %% [markdown] question="what_the_networks_look_for" points=4
# Use the last two figures and the table.
#
# 1. What does each of the four networks look for in its classes? Name the picture, or the number,
#    that you have it from.
# 2. A colleague concludes: "`biased` has learned what a disc is: it gives its visualisation a
#    higher score than any real disc." What is wrong with it, and with which measurement (not
#    another picture) would you find out what the network relies on?
#
# ### BEGIN SOLUTION
# 1 (2 points). base: the texture of the class (dots, stripes, checkers, …), repeated with hardly
# any shape; the table agrees. shape: the shape, by the table; the pictures show pieces of outline
# for some classes (triangle, star, heart, crescent) and dots for disc and square, so either "the
# shape, as the table says" or the outlines with their exceptions. robust: texture as base, by table
# and pictures, in cleaner patches on calm ground. biased: plain hues, those of the training
# backgrounds; neither shape nor texture in the table.
# Half a point each; other words are fine where they match the figure.
#
# 2 (2 points). A visualisation is an optimum by construction: every network scores its own
# pictures highly, whatever it relies on (1 point). A measurement: accuracy on scenes with neutral
# or exchanged backgrounds; or with the object removed; cue-conflict scenes; pointing game of
# Grad-CAM (1 point). Not enough: "ask for a better visualisation".
# ### END SOLUTION

# %% [markdown]
# ## 6. One channel instead of a class
#
# Nothing in all this needs a class. Any number that a network computes can be climbed: take
# the mean activation of one channel of one layer,
#
# $$a_k(x) = \frac{1}{H' W'} \sum_{r, c} A_k(r, c)$$
#
# with $A$ the layer's output. Write a function that gives all channels' $a_k$, and it is a network
# whose "classes" are channels.
#
# ### Exercise: `channel_scores`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1: a forward hook</summary>
#
# `handle = module.register_forward_hook(function)` calls `function(module, inputs, output)` after
# each forward pass of that module, until `handle.remove()`. Remove it in a `finally`, for the
# forward pass may fail.
#
# </details>
# <details><summary>Hint 2: when to take the mean</summary>
#
# An in-place ReLU after the layer writes over the very tensor that your hook was given. So take
# the mean inside the hook, or clone.
#
# </details>


# %% exercise="channel_scores" changes="model.statistics"
def channel_scores(X, model, layer):
    """The mean activation of each channel of a layer, differentiable with respect to X.

        a_k = mean of A_k over its places, A the output of the layer as it leaves the layer

    Leaves the model as it found it, in its mode and without a hook, also if its forward pass
    raises an error (which is passed on).

    Args:
        X: float tensor (N, 3, H, W).
        model: any network (not only an nn.Sequential) that takes X. What follows the layer may
            be a ReLU that works in place.
        layer: dotted name of a module in it, as for model.get_submodule(layer); its output A has
            shape (N, K, H', W').

    Returns:
        float tensor (N, K), part of autograd's graph.
    """
    ### BEGIN SOLUTION
    means = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: means.append(output.mean(dim=(2, 3)))
    )
    try:
        model(X)
    finally:
        handle.remove()
    return means[0]
    ### END SOLUTION


# %% test="channel_scores" points=5
generator = torch.Generator().manual_seed(6)
X = 3 * torch.randn(2, 3, 4, 7, generator=generator, dtype=torch.float64)
model = TinyNetwork(0)


def hooks_left():
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


with torch.no_grad():
    features = torch.tanh(model.norm(model.conv1(X)))
    convolved = model.block[0](features)
for layer, output, before in [
    ("block.0", convolved, features),
    ("block", convolved.relu(), features),
    ("norm", model.norm(model.conv1(X)).detach(), model.conv1(X).detach()),
]:
    means = channel_scores(X.clone(), model, layer)
    check_close(
        means,
        output.mean((2, 3)),
        f"channel_scores(X, model, {layer!r})",
        mistakes={
            "the ReLU after the layer has overwritten its output in place: take the mean inside the"
            " hook, or clone": output.relu().mean((2, 3)),
            "the channels are summed over the places, not averaged": output.sum((2, 3)),
            "the largest activation is taken, not the mean": output.amax((2, 3)),
            "it is the mean of the layer's input, not of its output": before.mean((2, 3)),
            "the mean goes over the batch too": output.mean((0, 2, 3)),
            "the mean goes over the channels, not over the places": output.mean(1),
            "absolute values are averaged": output.abs().mean((2, 3)),
            "the whole activation map is returned: average over its places": output,
            "it is one channel only, or one number": output.mean(),
            "they are the network's class scores": model(X).detach(),
        },
    )
try:
    channel_scores(torch.zeros(1, 4, 5, 5, dtype=torch.float64), model, "block.0")
except Exception:
    assert not hooks_left(), (
        "after an error in the forward pass a hook is left on the model: remove it in a `finally`."
    )
else:
    raise AssertionError("the forward pass's error, for an image of four channels, was swallowed.")

upstream = torch.randn(2, 6, generator=generator, dtype=torch.float64)
x = X.clone().requires_grad_()
convolution = model.block[0](torch.tanh(model.norm(model.conv1(x))))
(expected,) = torch.autograd.grad(convolution.mean((2, 3)), x, upstream)
(gradient,) = vector_jacobian_product(channel_scores, (X, model, "block.0"), upstream)
check_close(gradient, expected, "the gradient of channel_scores for X")
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, layer in [((1, 3, 6, 5), "conv1"), ((3, 3, 4, 9), "block.0"), ((2, 3, 7, 3), "block")]:
    model = TinyNetwork(reference.seed).train(layer == "conv1")
    X = torch.randn(shape, generator=generator, dtype=torch.float64)
    check_close(
        channel_scores(X.clone(), model, layer),
        reference.channel_scores(X, model, layer),
        f"channel_scores for images {shape} and layer {layer!r}",
    )
for parts in (False, True):
    model = awkward_network(reference.seed, parts=parts, inplace=True, hooks=True, mixed=True)
    X = torch.randn(2, 3, 9, 8, generator=generator, dtype=torch.float64)
    for layer in (*model.maps, *model.blocks):
        expected = reference.channel_scores(X, model, layer).detach()
        upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        (slope,) = vector_jacobian_product(reference.channel_scores, (X, model, layer), upstream)
        name = f"channel_scores for the layer {layer!r} of another network"
        check_close(channel_scores(X.clone(), model, layer), expected, name)
        (gradient,) = vector_jacobian_product(channel_scores, (X, model, layer), upstream)
        check_close(gradient, slope, f"the gradient of {name}")
### END HIDDEN TESTS


# %%
class ChannelNetwork(nn.Module):
    """The network whose class scores are a layer's mean activations."""

    def __init__(self, model, layer):
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, X):
        return channel_scores(X, self.model, self.layer)


figure, axes = plt.subplots(4, 8, figsize=(13, 7), layout="constrained")
figure.suptitle("Eight channels by depth: hues and gratings, then pieces of texture")
for row, depth in zip(axes, (1, 2, 4, 6), strict=True):
    model = ChannelNetwork(networks["base"], f"0.relu{depth}")
    channels = torch.arange(8, device=device)
    eight = create_class_visualization(
        channels,
        model,
        grey_noise(8, size=48, amplitude=1.5),
        class_visualization_update_step,
        mean,
        std,
        num_iterations=60,
    )
    activations = model(eight).gather(1, channels[:, None])[:, 0]
    for ax, picture, activation in zip(row, eight, activations, strict=True):
        show(ax, picture, "silent" if activation < 0.01 else f"{activation:.1f}")
    row[0].set_ylabel(f"relu{depth}")
plt.show()

# %% [markdown]
# (Above each picture: the channel's mean activation in it.) The first layer asks for a hue or for
# a grating of one direction, the second for finer gratings and colours, the fourth for dots, waves
# and corners. In the sixth the textures of whole classes appear, and several channels ask for
# nearly the same one: no single channel *is* a class. (The lines along two sides in the upper rows
# are where the border of the rolled picture lay in the last step. The network pads with zeros
# there, so the gradient at the border is another one, and no later step has evened it out.)
#
# A **silent** channel shows the start image, only blurred. Its ReLU is shut at every place, so its
# gradient is exactly zero and there is no way up from here. Starting from a different image (these
# climbs start from stronger noise than before) or taking the activation before the ReLU helps;
# a smaller learning rate doesn't.
#
# ### Extra: the same step on Fourier coefficients
#
# Nobody said that your step has to move *pixels*. Let the "image" be Fourier coefficients and the
# model first turn them into pixels, low frequencies amplified like in photographs by 1 / frequency
# (Olah et al. 2017). Every image is reachable as before; what changes is which way is steepest.


# %%
class FromFourier(nn.Module):
    """Class scores of Fourier coefficients (N, 6, H, W // 2 + 1): real parts, imaginary parts."""

    def __init__(self, model, size=64):
        super().__init__()
        self.model, self.size = model, size
        frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size))
        self.register_buffer("scale", size / frequency.clamp(min=1 / size))

    def image(self, coefficients):
        real, imaginary = coefficients.chunk(2, dim=1)
        return torch.fft.irfft2(torch.complex(real, imaginary) * self.scale, s=(self.size,) * 2)

    def forward(self, coefficients):
        return self.model(self.image(coefficients))


figure, axes = plt.subplots(2, 10, figsize=(14, 3.4), layout="constrained")
figure.suptitle("Fourier coefficients: smooth without any blur")
for row, name in zip(axes, ("base", "robust"), strict=True):
    model = FromFourier(networks[name]).to(device)
    generator = torch.Generator().manual_seed(0)
    coefficients = 0.001 * torch.randn(10, 6, 64, 33, generator=generator).to(device)
    for _ in range(60):
        class_visualization_update_step(coefficients, everything, model, 0.0, learning_rate=0.3)
    for ax, picture in zip(row, model.image(coefficients), strict=True):
        show(ax, picture)
    row[0].set_ylabel(name)
for ax, name in zip(axes[0], CLASS_NAMES, strict=True):
    ax.set_title(name)
plt.show()

# %% [markdown]
# The textures are those of the figure above, on a smooth ground that nobody blurred. Noise is as
# reachable as before; it is only a long way off now, because a step of the same length changes a
# low frequency more than a high one. So a change of coordinates regularises as well as a penalty
# does. The wide patches of colour are its signature, not the network's wish: `base` was trained
# with shuffled colour channels and has no favourite hue.
#
# ## With an ImageNet network
#
# The same functions on SqueezeNet, 1000 classes and 224 × 224 pixels, with CS231n's numbers: a
# step of 25, jitter up to 16 pixels. In the second row the climb starts from a photograph instead
# of noise, so the class has to grow out of what is there; do this with a channel and stop early,
# and you have DeepDream (Mordvintsev et al. 2015). The weights are downloaded once, about 5 MB;
# the climb takes about a minute on two cores.

# %%
from utils.images import load_photograph

try:
    squeezenet = load_model("squeezenet1_1")
except WeightsUnavailable as reason:
    print(f"Not shown: {reason}")
else:
    normalize = squeezenet.features.normalize.to(device)
    crop = load_photograph("flower")[:427:2, 100:527:2]  # 214 × 214 pixels
    photograph = torch.from_numpy(crop).permute(2, 0, 1)[None].to(device) / 255
    names = ("tarantula", "goldfish", "daisy", "castle")
    wanted = torch.tensor([squeezenet.class_names.index(name) for name in names], device=device)
    starts = {
        "from noise": grey_noise(len(names), size=214),
        "from a photograph": normalize(photograph).repeat(len(names), 1, 1, 1),
    }
    figure, axes = plt.subplots(2, len(names), figsize=(12, 6.4), layout="constrained")
    figure.suptitle("SqueezeNet's idea of four classes")
    for row, (start_name, start) in zip(axes, starts.items(), strict=True):
        pictures = create_class_visualization(
            wanted,
            without_normalisation(squeezenet),
            start,
            class_visualization_update_step,
            normalize.mean.flatten(),
            normalize.std.flatten(),
            learning_rate=25.0 if start_name == "from noise" else 8.0,
            num_iterations=100 if start_name == "from noise" else 40,
            max_jitter=16,
        )
        for ax, picture, name in zip(row, pictures, names, strict=True):
            show(ax, picture, name)
        row[0].set_ylabel(start_name)
    plt.show()

# %% [markdown]
# ## What to keep
#
# - Climb the score, not the softmax; normalise the gradient; put the regulariser inside it.
# - Without regularisation the network's favourite picture is noise, tuned to one position.
# - Jitter asks for a pattern that works anywhere, blur and Fourier coefficients for a smooth one,
#   L2, clamping and clipping for a quiet one. All of them are *our* wishes.
# - The same loop climbs a class, a channel, or anything else that a network computes.
# - The pictures gave the biased network away at a glance. They suggest; measure before you believe.
