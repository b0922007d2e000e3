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
# | 1. Climbing the score | `class_visualization_update_step`, a question | 40 |
# | 2. Small values | `clamp_image` | 10 |
# | 3. Smooth pictures | nothing: you look | 5 |
# | 4. The whole recipe, and four networks | `create_class_visualization`, a question | 50 |
# | 5. Waves instead of pixels | `fourier_image` | 30 |
# | 6. DeepDream | `deep_dream` | 40 |
# | 7. One channel instead of a class (optional) | `channel_scores` | 25 |
# | 8. Clipping what does little (optional) | `clip_small_values`, `clip_small_contributions` | 25 |
# | 9. With an ImageNet network (optional) | nothing: you look | 10 |
#
# Sections 7 to 9 are optional: nothing else needs them. The others take three hours.
#
# The cells beneath each exercise are its tests, one for each thing that can go wrong. Each answers
# **right so far**, or says in one sentence what is wrong. When your work is graded, other sizes,
# numbers and networks are tried as well.

# %% given=true
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from utils.changes import call_on_copies
from utils.checks import check_close, random_images, run_beside, vector_jacobian_product
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def blur_image(X, sigma=0.8):
    """Images (N, C, H, W), blurred by a Gaussian of `sigma` pixels; X stays as it is."""
    return gaussian_blur(X, kernel_size=2 * int(4 * sigma + 0.5) + 1, sigma=sigma)


def resize(X, size):
    """Images (N, C, H, W) at another size (height, width), between pixels linearly."""
    return F.interpolate(X, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)


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
        self.register_buffer("push", torch.as_tensor(push).clone())


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
# The next cell loads four networks. As `models` they take pixels from 0 to 1; as `networks`, without
# their first module, images that are normalised already. All four were trained on the scenes of ten
# textured shapes, but not in the same way:
#
# | network | trained on |
# |---|---|
# | `base` | scenes, each shape with its own texture |
# | `shape` | the same shapes with any texture |
# | `robust` | scenes under attack: adversarial training |
# | `biased` | scenes whose *background hue* gives the class away |

# %% fold="The four networks, and how figures are drawn"
import matplotlib.pyplot as plt

from utils.figures import explore
from utils.images import load_photograph, preprocess
from utils.models import WeightsUnavailable, load_model
from utils.own_image import OwnImage
from utils.scenes import CLASS_NAMES, make_scenes


def without_normalisation(model):
    """The network as a function of normalised images, with the weights of the model."""
    return nn.Sequential(model.features[1:], model.classifier)


models = {
    name: load_model(name).to(device).requires_grad_(False)
    for name in ("base", "shape", "robust", "biased")
}
networks = {name: without_normalisation(model) for name, model in models.items()}
normalize = models["base"].features.normalize
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


def show_pixels(ax, image, title=""):
    """Draw an image of pixels from 0 to 1 as it is."""
    ax.imshow(image.clamp(0, 1).permute(1, 2, 0).cpu())
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])


# %% [markdown]
# In section 6 a network dreams into a photograph: a flower, or a picture of **your own**, of which
# the middle square is used. Name an image file here, or upload one, now or later.

# %% fold=false
MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% [markdown]
# ### Exercise: `class_visualization_update_step`
# ★★☆ · 30 minutes
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


# %% test="class_visualization_update_step" points=2 aspect="one image, the score alone"
# A linear network's gradient is known: it is the weight of the class.
generator = torch.Generator().manual_seed(0)
weight = torch.randn(5, 3, 4, 6, generator=generator, dtype=torch.float64)
start = torch.randn(1, 3, 4, 6, generator=generator, dtype=torch.float64)
target_y, learning_rate = torch.tensor([2]), 1.5
_, img, *_ = call_on_copies(
    class_visualization_update_step, start, target_y, linear_network(weight), 0.0, learning_rate
)
assert not torch.equal(img, start), (
    "class_visualization_update_step left img as it was: change it in place (img += …) instead of"
    " making a new tensor."
)
### BEGIN EXPECTED
expected = start.clone()
reference.class_visualization_update_step(
    expected, target_y, linear_network(weight), 0.0, learning_rate
)
gradient = weight[target_y]
scores = linear_network(weight)(start).detach()
of_log_softmax = gradient - torch.einsum("nc,cxhw->nxhw", scores.softmax(dim=1), weight)


def step_along(gradient):
    return start + learning_rate * gradient / gradient.norm()


mistakes = {
    "it goes downhill: the sign of the step is reversed": step_along(-gradient),
    "the gradient isn't normalised": start + learning_rate * gradient,
    "the gradient is divided by the square of its norm": (
        start + learning_rate * gradient / gradient.norm() ** 2
    ),
    "only the gradient's sign is used": start + learning_rate * gradient.sign(),
    "the gradient is divided by its largest value, not by its norm": (
        start + learning_rate * gradient / gradient.abs().amax()
    ),
    "the gradient is divided by its standard deviation, not by its norm": (
        start + learning_rate * gradient / gradient.std()
    ),
    "the gradient is divided by the sum of its absolute values, not by its Euclidean norm": (
        start + learning_rate * gradient / gradient.abs().sum()
    ),
    "it climbs the softmax or its logarithm (cross-entropy), not the score": (
        step_along(of_log_softmax)
    ),
    "it goes down the softmax or its logarithm: climb the score": step_along(-of_log_softmax),
    "it climbs the class that is predicted, not target_y": step_along(weight[scores.argmax(1)]),
    "it climbs all classes": step_along(weight.sum(0)),
    "the learning rate is ignored": start + gradient / gradient.norm(),
}
### END EXPECTED
name = "img after class_visualization_update_step"
check_close(img, expected, name, tolerance=1e-6, mistakes=mistakes)
assert not img.requires_grad, (
    "img requires gradients after the step: differentiate for img.detach().requires_grad_(), which"
    " shares img's memory."
)

# %% test="class_visualization_update_step" points=2 aspect="a batch"
generator = torch.Generator().manual_seed(7)
weight = torch.randn(5, 3, 4, 6, generator=generator, dtype=torch.float64)
weight *= torch.tensor([3.0, 0.7, 1.0, 2.0, 0.5]).view(5, 1, 1, 1)
start = torch.randn(3, 3, 4, 6, generator=generator, dtype=torch.float64)
target_y = torch.tensor([4, 0, 2])
_, img, *_ = call_on_copies(
    class_visualization_update_step, start, target_y, linear_network(weight), 0.0, 1.5
)
### BEGIN EXPECTED
expected = start.clone()
reference.class_visualization_update_step(expected, target_y, linear_network(weight), 0.0, 1.5)
gradient = weight[target_y]


def step_along(gradient):
    return start + 1.5 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


mistakes = {
    "every image climbs the classes of the whole batch": step_along(
        gradient.sum(0).expand(start.shape)
    ),
    "every image climbs the first image's class": step_along(gradient[[0, 0, 0]]),
    "the gradient is divided by the whole batch's norm, not by each image's own": (
        start + 1.5 * gradient / gradient.norm()
    ),
    "the gradient is divided by the first image's norm, not by each image's own": (
        start + 1.5 * gradient / gradient[0].norm()
    ),
    "each channel is divided by a norm of its own": (
        start + 1.5 * gradient / gradient.flatten(2).norm(dim=2)[..., None, None]
    ),
    "each pixel is divided by a norm of its own": (
        start + 1.5 * gradient / gradient.norm(dim=1, keepdim=True)
    ),
    "only the first image is changed": torch.cat([expected[:1], start[1:]]),
}
### END EXPECTED
name = "img after class_visualization_update_step, for three images"
check_close(img, expected, name, tolerance=1e-6, mistakes=mistakes)

# %% test="class_visualization_update_step" points=2 aspect="the regulariser"
generator = torch.Generator().manual_seed(8)
weight = torch.randn(5, 3, 4, 6, generator=generator, dtype=torch.float64)
start = torch.randn(3, 3, 4, 6, generator=generator, dtype=torch.float64)
start *= torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)
target_y, l2_reg, learning_rate = torch.tensor([4, 0, 2]), 0.2, 1.5
_, img, *_ = call_on_copies(
    class_visualization_update_step, start, target_y, linear_network(weight), l2_reg, learning_rate
)
### BEGIN EXPECTED
expected = start.clone()
reference.class_visualization_update_step(
    expected, target_y, linear_network(weight), l2_reg, learning_rate
)
climb, pull = weight[target_y], 2 * l2_reg * start


def lengths(images):
    return images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def step_along(gradient):
    return start + learning_rate * gradient / lengths(gradient)


mistakes = {
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
    "the regulariser is the mean of all squares of the batch, not their sum": step_along(
        climb - pull / start.numel()
    ),
    "the regulariser is the sum of absolute values, not of squares": step_along(
        climb - l2_reg * start.sign()
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
    "it goes downhill on the score: only the regulariser has its right sign": step_along(
        -climb - pull
    ),
}
### END EXPECTED
name = "img after class_visualization_update_step with a regulariser"
check_close(img, expected, name, tolerance=1e-6, mistakes=mistakes)

# %% test="class_visualization_update_step" points=1 aspect="a gradient of zero"
# The score of class 1 is the same for all images, that of class 2 nearly so.
generator = torch.Generator().manual_seed(9)
weight = torch.randn(3, 3, 4, 5, generator=generator, dtype=torch.float64)
weight *= torch.tensor([1.0, 0.0, 1e-3]).view(3, 1, 1, 1)
start = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
target_y = torch.tensor([2, 1])
_, img, *_ = call_on_copies(
    class_visualization_update_step, start, target_y, linear_network(weight), 0.0, 1.5
)
### BEGIN EXPECTED
expected = start.clone()
reference.class_visualization_update_step(expected, target_y, linear_network(weight), 0.0, 1.5)
climb = weight[target_y]
lengths = climb.flatten(1).norm(dim=1).clamp(min=0.01).view(-1, 1, 1, 1)
mistakes = {"a norm less than 0.01 is taken for 0.01": start + 1.5 * climb / lengths}
### END EXPECTED
assert img.isfinite().all(), "an image with a zero gradient should stay as it is: this is 0 / 0."
name = "img, of which one has a gradient of zero"
check_close(img, expected, name, tolerance=1e-6, mistakes=mistakes)

# %% test="class_visualization_update_step" points=2 aspect="other networks"
# Other networks and sizes are tried here, and several steps in a row.
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


# %% test="clamp_image" points=2 aspect="the limits of each channel"
generator = torch.Generator().manual_seed(1)
img = 4 * torch.randn(2, 3, 5, 3, generator=generator, dtype=torch.float64)
channel_mean = torch.tensor([0.485, 0.456, 0.2], dtype=torch.float64)
channel_std = torch.tensor([0.229, 0.15, 0.3], dtype=torch.float64)
### BEGIN EXPECTED
expected = reference.clamp_image(img, channel_mean, channel_std)
m, s = channel_mean.view(3, 1, 1), channel_std.view(3, 1, 1)
pixels = img * s + m
mistakes = {
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
}
### END EXPECTED
name = "clamp_image(img, mean, std)"
check_close(clamp_image(img, channel_mean, channel_std), expected, name, mistakes=mistakes)

# %% test="clamp_image" points=1 aspect="other sizes"
# Other sizes and numbers are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape in [(1, 3, 4, 7), (3, 3, 6, 2), (2, 3, 3, 3)]:
    img = 5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    channel_mean = 0.2 + 0.6 * torch.rand(3, generator=generator, dtype=torch.float64)
    channel_std = 0.1 + 0.4 * torch.rand(3, generator=generator, dtype=torch.float64)
    expected = reference.clamp_image(img, channel_mean, channel_std)
    name = f"clamp_image for images {shape}"
    check_close(clamp_image(img.clone(), channel_mean, channel_std), expected, name)
### END HIDDEN TESTS

# %% [markdown]
# A climb of 60 steps for four values of $\lambda$, and one that is only clamped.

# %%
figure, axes = plt.subplots(1, 5, figsize=(12.5, 3.7), layout="constrained")
figure.suptitle("The regulariser buys small values with score; it doesn't make the picture smooth")
for ax, (l2_reg, clamped) in zip(
    axes, [(0, False), (0, True), (0.001, False), (0.01, False), (0.1, False)], strict=True
):
    img = grey_noise(1)
    for _ in range(60):
        class_visualization_update_step(img, star, networks["base"], l2_reg, learning_rate=6.0)
        if clamped:
            img = clamp_image(img, mean, std)
    score = networks["base"](img)[0, star.item()]
    show(ax, img[0], f"λ = {l2_reg:g}{', clamped' if clamped else ''}")
    values = f"values {img.min():.1f} … {img.max():.1f}"
    ax.set_xlabel(f"score {score:.1f}, norm {img.norm():.0f}\n{values}")
plt.show()

# %% [markdown]
# The larger $\lambda$, the smaller norm and score. Clamping takes only what no picture could
# show, which in so short a climb costs little. Neither gives a star: noise can be small, and noise
# can lie between black and white. With the largest $\lambda$ the score's gradient near grey is
# weaker than the regulariser's, and the image falls back to almost nothing, which the stretched
# contrast hides and the norm tells.
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
# Here is a climb of 60 steps with none, one and both of the two. `torch.roll` is cyclic: what leaves
# on one side comes in on the other, so nothing is lost on the way there and back.

# %%
rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 4, figsize=(11, 3.2), layout="constrained")
figure.suptitle("Jitter and blur turn noise into a pattern")
for ax, (jittered, blurred) in zip(
    axes, [(False, False), (False, True), (True, False), (True, True)], strict=True
):
    img = grey_noise(1)
    for t in range(60):
        ox, oy = rng.integers(-6, 7, size=2).tolist() if jittered else (0, 0)
        img = torch.roll(img, (oy, ox), dims=(2, 3))
        class_visualization_update_step(img, star, networks["base"], 0.0, learning_rate=6.0)
        img = clamp_image(torch.roll(img, (-oy, -ox), dims=(2, 3)), mean, std)
        if blurred and (t + 1) % 10 == 0:
            img = blur_image(img)
    title = " and ".join(["jitter"] * jittered + ["blur"] * blurred) or "neither"
    show(ax, img[0], f"{title}: score {networks['base'](img)[0, star.item()]:.0f}")
plt.show()

# %% [markdown]
# Blur alone removes the finest noise and leaves a coarser, coloured one; jitter alone lets the
# pattern emerge beneath the noise; both together make it clear. It is made of the checkers that
# all stars of our world wear. The score is less than a third of what the noise reached, and still
# above that of real scenes. So the noise *did* raise the score: it is not a failure of the ascent, only
# nothing that a person can learn from.
#
# ## 4. The whole recipe, and four networks
#
# Now put it together:
#
# 1. roll the image by a random offset, **step**, roll it back;
# 2. clamp it to what pixels can be;
# 3. blur it after every tenth step.
#
# ### Exercise: `create_class_visualization`
# ★★★ · 35 minutes
#
# The step comes as an argument, `update_step`: so any other step can take its place, and the tests
# hand in one of their own.
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


# %% test="create_class_visualization" points=2 aspect="the steps"
# note() stands for the update step: it writes down what it is given, and adds model.push to it.
generator = torch.Generator().manual_seed(4)
start = torch.rand(2, 3, 11, 9, generator=generator, dtype=torch.float64) - 0.5
push = 0.02 * torch.randn(start.shape, generator=generator, dtype=torch.float64)
target_y = torch.tensor([3, 1])
channel_mean = torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64)
channel_std = torch.tensor([0.2, 0.25, 0.3], dtype=torch.float64)
arguments = (start, note, channel_mean, channel_std)
options = {"l2_reg": 0.25, "learning_rate": 1.5, "num_iterations": 12, "blur_every": 13}
result, _, diary, *_ = call_on_copies(
    create_class_visualization, target_y, Diary(start, push), *arguments, **options, max_jitter=0
)
assert result is not None, "create_class_visualization returned None; is a `return` missing?"
assert diary.count > 0, "update_step was never called; call it, not a function of your own."
assert diary.count == 12, (
    f"update_step was called {diary.count} times; expected num_iterations, which is 12."
)
check_close(diary.rates[0, 0], 0.25, "the l2_reg that update_step was given", tolerance=1e-6)
check_close(diary.rates[0, 1], 1.5, "the learning_rate that update_step was given", tolerance=1e-6)
check_close(diary.classes, target_y, "the target_y that update_step was given")
### BEGIN EXPECTED
expected = reference.create_class_visualization(
    target_y, Diary(start, push), *arguments, **options, max_jitter=0
)
mistakes = {
    "what update_step does to the images is lost": start,
    "only the last step is kept": start + push,
    "the last step is lost": start + 11 * push,
}
### END EXPECTED
name = "create_class_visualization, 12 steps without jitter and blur"
check_close(result, expected, name, mistakes=mistakes)

# %% test="create_class_visualization" points=3 aspect="jitter"
# Here note() leaves the images as they are. 50 offsets between −2 and 2 are drawn, twice over.
generator = torch.Generator().manual_seed(14)
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
        num_iterations=50,
        blur_every=51,
        max_jitter=2,
        seed=seed,
    )
    diaries.append(diary)
assert diary.count == 50, (
    f"update_step was called {diary.count} times; expected num_iterations, which is 50."
)


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
    " started; they are changed by something else than a roll (of these 50 steps none should be"
    " followed by a blur)."
)
assert at_end == (0, 0), (
    "with an update_step that changes nothing the images should come back as they started; here"
    f" they come back rolled by {at_end}: the jitter isn't undone after each step."
)
offsets = [offset_from_start(images) for images in diary.seen]
assert all(offset is not None and max(map(abs, offset)) <= 2 for offset in offsets), (
    f"with max_jitter=2, update_step got images rolled by {offsets[:6]}, …, None meaning not a roll"
    " of the start: is the jitter undone after each step, and by the same offset?"
)
assert set(offsets) != {(0, 0)}, "update_step always gets the images unrolled: jitter is missing."
assert len(set(offsets)) > 1, "the jitter is the same in every iteration: draw it in the loop."
along_width, along_height = zip(*offsets, strict=True)
assert len(set(along_width)) > 1, "the images are never rolled along the width."
assert len(set(along_height)) > 1, "the images are never rolled along the height."
assert along_width != along_height, "ox and oy are always equal: draw two numbers."
assert min(along_width) < 0 < max(along_width), "along the width, jitter is to one side only."
assert min(along_height) < 0 < max(along_height), "along the height, jitter is to one side only."
assert {-2, 2} <= {*along_width, *along_height}, (
    f"with max_jitter=2 the offsets of 50 steps are from {min(along_width + along_height)} to"
    f" {max(along_width + along_height)}: both −2 and 2 should occur (randint leaves out its upper"
    " limit)."
)
different, repeated = len(set(offsets)), sum(map(tuple.__eq__, offsets, offsets[1:]))
assert different > 12, (
    f"with max_jitter=2 there are 25 offsets (ox, oy), and 50 steps had only {different} of them: draw"
    " both numbers independently, each from all of −2, −1, 0, 1, 2."
)
assert repeated < 12, (
    f"{repeated} of 50 steps had the offset of the step before: draw a new one for every step."
)
assert torch.equal(diaries[1].seen, diaries[2].seen), (
    "two calls with the same seed drew different offsets: make a generator with this seed."
)
assert not torch.equal(diaries[0].seen, diaries[1].seen), (
    "two calls with different seeds drew the same offsets: use the argument seed."
)

# %% test="create_class_visualization" points=2 aspect="clamping"
# Now note() adds a pattern that leads out of the range of pixels on both sides.
generator = torch.Generator().manual_seed(15)
start = torch.rand(2, 3, 13, 9, generator=generator, dtype=torch.float64) - 0.5
push = 0.6 * torch.randn(start.shape, generator=generator, dtype=torch.float64)
target_y = torch.tensor([0, 2])
channel_mean = torch.tensor([0.4, 0.5, 0.3], dtype=torch.float64)
channel_std = torch.tensor([0.25, 0.2, 0.3], dtype=torch.float64)
low, high = -channel_mean / channel_std, (1 - channel_mean) / channel_std
arguments = (start, note, channel_mean, channel_std)
options = {"num_iterations": 5, "blur_every": 9, "max_jitter": 0}
result, _, diary, *_ = call_on_copies(
    create_class_visualization, target_y, Diary(start, push), *arguments, **options
)
### BEGIN EXPECTED
expected = reference.create_class_visualization(target_y, Diary(start, push), *arguments, **options)
mistakes = {
    "the images aren't clamped": start + 5 * push,
    "the images are clamped to 0 … 1, the limits of pixels": (
        reference.create_class_visualization(
            target_y, Diary(start, push), start, note, torch.zeros(3), torch.ones(3), **options
        )
    ),
    "what update_step does to the images is lost": start,
    "one pair of limits, the widest, is used for all channels": (
        (start + 5 * push).clamp(low.min(), high.max())
    ),
    "the first channel's limits are used for all": (start + 5 * push).clamp(low[0], high[0]),
    "it is clamped before the step, not after it": reference.create_class_visualization(
        target_y, Diary(start, push), *arguments, **options | {"num_iterations": 4}
    )
    + push,
}
### END EXPECTED
name = "create_class_visualization, 5 steps of which some lead out of the range"
check_close(result, expected, name, mistakes=mistakes)
beyond = diary.seen[:5] > high.view(3, 1, 1) + 1e-9
beyond |= diary.seen[:5] < low.view(3, 1, 1) - 1e-9
assert not beyond.any(), (
    "update_step got values that no pixel can have: clamp after every step, not at the end."
)

# %% test="create_class_visualization" points=2 aspect="blur, and the order"
generator = torch.Generator().manual_seed(16)
start = torch.rand(2, 3, 13, 9, generator=generator, dtype=torch.float64) - 0.5
push = 0.8 * torch.randn(start.shape, generator=generator, dtype=torch.float64)
target_y = torch.tensor([0, 2])
channel_mean = torch.tensor([0.4, 0.5, 0.3], dtype=torch.float64)
channel_std = torch.tensor([0.25, 0.2, 0.3], dtype=torch.float64)
arguments = (start, note, channel_mean, channel_std)
options = {"num_iterations": 7, "blur_every": 3, "max_jitter": 0}
result, *_ = call_on_copies(
    create_class_visualization, target_y, Diary(start, push), *arguments, **options
)
### BEGIN EXPECTED
expected = reference.create_class_visualization(target_y, Diary(start, push), *arguments, **options)
limits = [
    value.view(3, 1, 1) for value in (-channel_mean / channel_std, (1 - channel_mean) / channel_std)
]


def climb(order, blurred_after=(3, 6)):
    """Seven iterations that do these things in this order."""
    img = start
    for iteration in range(1, 8):
        for what in order:
            if what == "step":
                img = img + push
            elif what == "clamp":
                img = img.clamp(*limits)
            elif iteration in blurred_after:
                img = blur_image(img)
    return img


right = ("step", "clamp", "blur")
mistakes = {
    "nothing is blurred": climb(right, ()),
    "the first iteration is blurred as well: blur after iterations 3, 6, …": (
        climb(right, (1, 4, 7))
    ),
    "it is blurred before the step (or an iteration too early): step, clamp, then blur": (
        climb(right, (2, 5))
    ),
    "every iteration is blurred": climb(right, range(1, 8)),
    "every iteration is blurred but those that should be": climb(right, (1, 2, 4, 5, 7)),
    "only one blur is made, after iteration 3": climb(right, (3,)),
    "only one blur is made, at the end": climb(right, (7,)),
    "it is blurred before it is clamped: step, clamp, then blur": climb(("step", "blur", "clamp")),
    "it is clamped before the step: step, clamp, then blur": climb(("clamp", "step", "blur")),
}
### END EXPECTED
name = "create_class_visualization, 7 steps with blur_every=3"
check_close(result, expected, name, mistakes=mistakes)

# With jitter, too: three blurs, each of which reaches three pixels far, so jitter up to 3 pixels can
# make a difference near the border only.
start = torch.rand(1, 3, 28, 26, generator=generator, dtype=torch.float64) - 0.5
options = {"num_iterations": 3, "blur_every": 1, "max_jitter": 3}
result, *_ = call_on_copies(
    create_class_visualization, target_y[:1], Diary(start), start, *arguments[1:], **options
)
### BEGIN EXPECTED
expected = reference.create_class_visualization(
    target_y[:1], Diary(start), start, *arguments[1:], **options
)
### END EXPECTED
agree = np.isclose(result, expected, atol=1e-6)
assert agree.all() or not agree[:, :, 12:-12, 12:-12].all(), (
    "with jitter and a blur after each step the images differ near their border: roll back first,"
    " then blur, for what a blur does at the border should be done at the picture's own."
)

# %% test="create_class_visualization" points=1 aspect="other sizes"
# Other sizes and numbers are tried here.
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
    push = 0.8 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target_y = torch.randint(5, (len(start),), generator=generator)
    results = [
        create(
            target_y,
            Diary(start, push),
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
# **Each trick alone, and all together.** Three numbers say how each did: the score; what is left of
# it when the picture is shifted by 3 pixels; and the share of the picture's energy in details finer
# than 4 pixels.


# %%
def fine_detail(images):
    """The share of the energy above a quarter of a cycle per pixel, for each image (N, C, H, W)."""
    energy = torch.fft.fft2(images - images.mean(dim=(2, 3), keepdim=True)).abs() ** 2
    rows, columns = (torch.fft.fftfreq(size, device=images.device) for size in images.shape[2:])
    fine = torch.hypot(rows[:, None], columns) > 0.25
    return (energy * fine).sum((1, 2, 3)) / energy.sum((1, 2, 3))


def three_numbers(pictures, target_y, model):
    """Score, score after a shift by 3 pixels, share of fine detail: means over images, in words."""
    score, shifted = (
        model(each).gather(1, target_y[:, None]).mean()
        for each in (pictures, torch.roll(pictures, (3, 3), dims=(2, 3)))
    )
    fine = fine_detail(pictures).mean()
    return f"score {score:.0f}\nshifted {shifted:.0f}\nfine detail {fine:.0%}"


step = class_visualization_update_step
plain = {"l2_reg": 0.0, "blur_every": 1000, "max_jitter": 0}
trio = labels("triangle", "star", "flower")


def draw_recipes(recipes):
    """A column of three pictures for each recipe, name → (update_step, options), after 60 steps."""
    figure, axes = plt.subplots(
        3, len(recipes), figsize=(2 * len(recipes), 7), layout="constrained"
    )
    for column, (name, (update_step, options)) in zip(axes.T, recipes.items(), strict=True):
        pictures = create_class_visualization(
            trio,
            networks["base"],
            grey_noise(3),
            update_step,
            mean,
            std,
            num_iterations=60,
            **options,
        )
        for ax, picture in zip(column, pictures, strict=True):
            show(ax, picture)
        column[0].set_title(name, fontsize=10)
        column[2].set_xlabel(three_numbers(pictures, trio, networks["base"]))
    for ax, label in zip(axes[:, 0], ("triangle", "star", "flower"), strict=True):
        ax.set_ylabel(label)
    return figure


figure = draw_recipes(
    {
        "clamping only": (step, plain),
        "L2, λ = 0.01": (step, plain | {"l2_reg": 0.01}),
        "jitter": (step, plain | {"max_jitter": 6}),
        "blur": (step, plain | {"blur_every": 10}),
        "L2, jitter, blur": (step, {}),
    }
)
figure.suptitle("No trick does it alone: jitter and blur bring out the pattern, L2 calms the rest")
plt.show()
print(f"fine detail of real scenes: {fine_detail(images).mean():.0%}")

# %% [markdown]
# Read the numbers beneath the columns.
#
# - **Clamping and L2** leave four fifths of the energy in fine detail, where real scenes have about
#   a tenth, and the score collapses when the picture moves by 3 pixels. It was tuned to the grid on
#   which the pooling layers sample.
# - **Jitter** is what makes a picture work anywhere: shifted, it scores nearly as well as before. Its
#   noise is as fine as ever.
# - **Blur** brings fine detail down near that of real scenes, but again for one position only.
# - **Together** they give a pattern on calm ground, for about a quarter of the naive score.
#
# The highest score is the worst picture, so the score can't tell which tricks are good. We chose
# them because they give pictures that *people* like. Whatever you read in such a picture was said
# by the network **and** by the regularisers: blur hides any fine detail that the network may
# truly rely on.
#
# Mix your own recipe for a star. Where your notebook can show sliders, they choose among climbs that
# the next cell has made beforehand; on the left is what the same number of steps gives without any
# trick.

# %%
from itertools import product

from ipywidgets import Dropdown, SelectionSlider

pixels, blurs, strengths = (0, 6), {"never": 1000, "every 10 steps": 10}, (0.0, 0.001, 0.01)
climbs = {}
for max_jitter, blur, l2_reg in product(pixels, blurs, strengths):
    img, done = grey_noise(1), 0
    for steps in (10, 20, 40, 60):
        img = create_class_visualization(
            star,
            networks["base"],
            img,
            step,
            mean,
            std,
            l2_reg=l2_reg,
            blur_every=blurs[blur],
            max_jitter=max_jitter,
            num_iterations=steps - done,
            seed=done,
        )
        climbs[steps, max_jitter, blur, l2_reg], done = img, steps


def mix(steps, jitter, blur, l2_reg):
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 4.2), layout="constrained")
    figure.suptitle(f"A star after {steps} steps")
    for ax, recipe, name in zip(
        axes,
        [(0, "never", 0.0), (jitter, blur, l2_reg)],
        ["clamping only", f"jitter {jitter}, blur {blur}, λ = {l2_reg:g}"],
        strict=True,
    ):
        picture = climbs[steps, *recipe]
        show(ax, picture[0], name)
        ax.set_xlabel(three_numbers(picture, star, networks["base"]))


explore(
    mix,
    steps=SelectionSlider(options=(10, 20, 40, 60), value=60),
    jitter=SelectionSlider(options=pixels, value=6, description="jitter, pixels"),
    blur=Dropdown(options=list(blurs), value="every 10 steps"),
    l2_reg=SelectionSlider(options=strengths, value=0.01, description="λ"),
)

# %% [markdown]
# **Ten classes, four networks.** Your function doesn't change, only its `model` does. (They start
# from stronger noise: near grey some of these networks are so flat that the regulariser wins.)

# %%
everything = labels(*CLASS_NAMES)
pictures = {
    name: create_class_visualization(
        everything, model, grey_noise(10, amplitude=1.0), step, mean, std, num_iterations=60
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
# any texture: the triangle's point, arms that meet for the star, the heart's tip, long lines for the
# crescent. But its disc and its square are dots and patches, in which one could hardly see a shape.
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
# `base` and `robust` recognise most of each other's pictures. The pictures of `biased` mean
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
# ## 5. Waves instead of pixels
#
# Nobody said that your step has to move *pixels*. An image is also a sum of waves, and its Fourier
# coefficients say how much of each wave there is in it. Olah, Mordvintsev & Schubert (2017,
# "Feature Visualization", Distill) let the ascent change *those*:
#
# $$x = \sigma\Big(\mathcal F^{-1}\big(s \cdot (a + i\,b)\big)\Big), \qquad
#   s(u, v) = \frac{1}{\max\big(\sqrt{f_u^2 + f_v^2},\ 1 / \max(H, W)\big)}$$
#
# - $a$ and $b$ are what is learned, a real and an imaginary part for each wave; together they are
#   the **spectrum**.
# - $f_u$ and $f_v$ are the wave's frequencies, in cycles per pixel, down the rows and along the
#   columns. The factor $s$ amplifies low frequencies, as they are stronger in photographs too,
#   about as 1 / frequency (Field 1987). The frequency 0, the mean, would get an infinite factor;
#   it gets that of the longest wave.
# - $\mathcal F^{-1}$ adds the waves up, and the logistic function $\sigma$ brings every value
#   between 0 and 1. So $x$ are pixels, and nothing needs to be clamped.
#
# A real image needs only half of its coefficients: the other half are their complex conjugates. Of
# $W$ columns $\lfloor W/2 \rfloor + 1$ are left, which is 4 for $W = 6$ **and** for $W = 7$.
#
# ### Exercise: `fourier_image`
# ★★☆ · 30 minutes
#
# <details><summary>Hint 1: the frequencies</summary>
#
# `torch.fft.fftfreq(H)` are the $f_u$ of all rows, in the order in which a spectrum has them: up to
# one half, then the negative ones. `torch.fft.rfftfreq(W)` are the $f_v$ of the columns that are
# left.
#
# </details>
# <details><summary>Hint 2: an image that is one column too narrow</summary>
#
# `torch.fft.irfft2` takes the size of the image as `s=(H, W)`; without it, it guesses that the
# width is even.
#
# </details>


# %% exercise="fourier_image"
def fourier_image(spectrum, width):
    """The images that spectra stand for: low frequencies amplified, waves added up, then σ.

        image = σ(F⁻¹(s · (spectrum[…, 0] + i · spectrum[…, 1])))
        s(u, v) = 1 / max(√(f_u² + f_v²), 1 / max(H, W))

    F⁻¹ is the orthonormal inverse Fourier transform for real images, torch.fft.irfft2 with
    norm="ortho"; f_u and f_v are frequencies in cycles per pixel; σ is the logistic function.

    Args:
        spectrum: float tensor (N, 3, H, W // 2 + 1, 2), real parts and imaginary parts.
        width: W, even or odd, which the spectrum alone can't tell.

    Returns:
        float tensor (N, 3, H, W) of the spectrum's dtype, between 0 and 1, part of autograd's
        graph.
    """
    ### BEGIN SOLUTION
    height, like = spectrum.shape[2], {"dtype": spectrum.dtype, "device": spectrum.device}
    rows, columns = torch.fft.fftfreq(height, **like), torch.fft.rfftfreq(width, **like)
    frequency = torch.hypot(rows[:, None], columns)
    scale = 1 / frequency.clamp(min=1 / max(height, width))
    waves = torch.complex(*spectrum.unbind(-1)) * scale
    return torch.fft.irfft2(waves, s=(height, width), norm="ortho").sigmoid()
    ### END SOLUTION


# %% test="fourier_image" points=2 aspect="one image, an even width"
generator = torch.Generator().manual_seed(20)
spectrum = 0.4 * torch.randn(1, 3, 5, 4, 2, generator=generator, dtype=torch.float64)
### BEGIN EXPECTED
expected = reference.fourier_image(spectrum, 6)
real, imaginary = spectrum.unbind(-1)
rows = torch.fft.fftfreq(5, dtype=torch.float64)[:, None]
columns = torch.fft.rfftfreq(6, dtype=torch.float64)
frequency = torch.hypot(rows, columns)


def values(frequency, lowest=1 / 6, real=real, imaginary=imaginary, norm="ortho"):
    """What comes before the logistic function, for these frequencies."""
    waves = torch.complex(real, imaginary) / frequency.clamp(min=lowest)
    return torch.fft.irfft2(waves, s=(5, 6), norm=norm)


def wide(lowest, constant):
    """Another factor for the frequency 0."""
    factor = 1 / frequency.clamp(min=lowest)
    factor[0, 0] = constant
    return torch.fft.irfft2(torch.complex(real, imaginary) * factor, s=(5, 6), norm="ortho")


ones = torch.ones(5, 4, dtype=torch.float64)
mistakes = {
    "the factor s is missing: all frequencies count the same": values(ones).sigmoid(),
    "it is multiplied by the frequency instead of divided by it": (
        values(1 / frequency.clamp(min=1 / 6), lowest=0).sigmoid()
    ),
    "the logistic function is missing": values(frequency),
    "tanh stands where the logistic function belongs": values(frequency).tanh(),
    "it is clamped to 0 … 1 where the logistic function belongs": values(frequency).clamp(0, 1),
    "the frequencies f_u and f_v are added, without squares and root": (
        values(rows.abs() + columns).sigmoid()
    ),
    "the root is missing from √(f_u² + f_v²)": values(frequency**2).sigmoid(),
    "the larger of f_u and f_v stands for both": (
        values(torch.maximum(rows.abs(), columns)).sigmoid()
    ),
    "only the columns' frequencies count": values(columns.expand(5, 4)).sigmoid(),
    "only the rows' frequencies count": values(rows.abs().expand(5, 4)).sigmoid(),
    "the rows' frequencies rise up to 1: those of the second half are negative, see fftfreq": (
        values(torch.hypot(torch.arange(5)[:, None] / 5.0, columns)).sigmoid()
    ),
    "the frequencies are bounded by 1 / min(H, W), not by 1 / max(H, W)": (
        values(frequency, 1 / 5).sigmoid()
    ),
    "the frequencies are in cycles per image, not per pixel": (
        values(torch.hypot(5 * rows, 6 * columns), 1).sigmoid()
    ),
    "the mean, of frequency 0, is left out": wide(1 / 6, 0.0).sigmoid(),
    "the mean, of frequency 0, gets the factor 1": wide(1 / 6, 1.0).sigmoid(),
    "the imaginary part is left out": values(frequency, imaginary=0 * imaginary).sigmoid(),
    "the real and the imaginary part are exchanged": (
        values(frequency, real=imaginary, imaginary=real).sigmoid()
    ),
    "the imaginary part has the wrong sign": values(frequency, imaginary=-imaginary).sigmoid(),
    'the transform isn\'t orthonormal: norm="ortho"': values(frequency, norm="backward").sigmoid(),
    "the transform is multiplied by √(H · W) where it should be divided": (
        values(frequency, norm="forward").sigmoid()
    ),
}
### END EXPECTED
name = "fourier_image(spectrum, 6)"
check_close(fourier_image(spectrum, 6), expected, name, mistakes=mistakes)

# %% test="fourier_image" points=2 aspect="a batch, an odd width"
generator = torch.Generator().manual_seed(21)
spectrum = 0.4 * torch.randn(2, 3, 8, 4, 2, generator=generator, dtype=torch.float64)
### BEGIN EXPECTED
expected = reference.fourier_image(spectrum, 7)
even = reference.fourier_image(spectrum, 6)
frequency = torch.hypot(
    torch.fft.fftfreq(8, dtype=torch.float64)[:, None], torch.fft.rfftfreq(7, dtype=torch.float64)
)
waves = torch.complex(*spectrum.unbind(-1))
mistakes = {
    "the width is taken for even: say s=(H, W) to irfft2": even,
    "the width is taken for even in irfft2, though not in the frequencies": (
        torch.fft.irfft2(waves / frequency.clamp(min=1 / 8), norm="ortho").sigmoid()
    ),
    "the width is taken for even in the frequencies": (
        torch.fft.irfft2(
            waves
            / torch.hypot(
                torch.fft.fftfreq(8, dtype=torch.float64)[:, None],
                torch.fft.rfftfreq(6, dtype=torch.float64),
            ).clamp(min=1 / 8),
            s=(8, 7),
            norm="ortho",
        ).sigmoid()
    ),
    "the frequencies are bounded by 1 / min(H, W), here 1 / W, not by 1 / max(H, W)": (
        torch.fft.irfft2(waves / frequency.clamp(min=1 / 7), s=(8, 7), norm="ortho").sigmoid()
    ),
    "the images of the batch are added up": (
        torch.fft.irfft2(waves.sum(0) / frequency.clamp(min=1 / 8), s=(8, 7), norm="ortho")
    ).sigmoid(),
}
### END EXPECTED
name = "fourier_image(spectrum, 7)"
check_close(fourier_image(spectrum, 7), expected, name, mistakes=mistakes)

# %% test="fourier_image" points=1 aspect="the gradient"
generator = torch.Generator().manual_seed(22)
spectrum = 0.4 * torch.randn(2, 3, 4, 3, 2, generator=generator, dtype=torch.float64)
upstream = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
### BEGIN EXPECTED
(expected,) = vector_jacobian_product(reference.fourier_image, (spectrum, 5), upstream)
### END EXPECTED
(gradient,) = vector_jacobian_product(fourier_image, (spectrum, 5), upstream)
check_close(gradient, expected, "the gradient of fourier_image for the spectrum")

# %% test="fourier_image" points=2 aspect="other sizes"
# Other sizes and dtypes are tried here.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for N, H, W, dtype in [
    (3, 8, 9, torch.float64),
    (1, 9, 4, torch.float32),
    (2, 1, 7, torch.float64),
    (4, 6, 1, torch.float64),
    (2, 3, 12, torch.float32),
]:
    spectrum = 0.4 * torch.randn(N, 3, H, W // 2 + 1, 2, generator=generator, dtype=dtype)
    expected = reference.fourier_image(spectrum, W)
    image = fourier_image(spectrum, W)
    name = f"fourier_image for N, H, W = {N}, {H}, {W}"
    check_close(image, expected, name)
    assert image.dtype == dtype, (
        f"{name}: expected {dtype}, as the spectrum has, got {image.dtype}."
    )
### END HIDDEN TESTS

# %% [markdown]
# Now pixels and spectra climb side by side: as many steps, no jitter, no blur, no regulariser. Your
# update step takes tensors of four axes, so the spectrum's real and imaginary parts lie side by
# side in the last one. Pixels go through the logistic function as well. The lengths of the steps
# can't be compared, for one is measured in pixels and one in coefficients; they are such that the
# pictures end with about the same contrast.


# %% fold=false
class Painted(nn.Module):
    """A model's class scores for the images that `paint` makes of what the ascent changes."""

    def __init__(self, model, paint):
        super().__init__()
        self.model, self.paint = model, paint

    def forward(self, parameters):
        return self.model(self.paint(parameters))


def from_spectrum(flat):
    """Images 64 pixels wide from spectra (N, 3, H, 33 · 2)."""
    return fourier_image(flat.unflatten(3, (33, 2)), 64)


# %%
five = labels("disc", "star", "heart", "flower", "fish")
kinds = {  # what is changed: how it is painted, where it starts, the length of a step
    "pixels": (torch.sigmoid, grey_noise(5), 6.0),
    "spectrum": (from_spectrum, grey_noise(5, 66, 0.01)[:, :, :64], 1.0),
}
figure, axes = plt.subplots(2, 10, figsize=(14, 3.4), layout="constrained")
figure.suptitle("60 steps on pixels, 60 on spectra: smooth without blur, and in colour")
for column, name in enumerate(("base", "robust")):
    for row, (kind, (paint, start, learning_rate)) in zip(axes, kinds.items(), strict=True):
        model, parameters = Painted(models[name], paint), start.clone()
        for _ in range(60):
            class_visualization_update_step(parameters, five, model, 0.0, learning_rate)
        pictures = paint(parameters)
        for ax, picture, y in zip(row[5 * column :], pictures, five, strict=False):
            show_pixels(ax, picture, f"{name}: {CLASS_NAMES[y]}" if kind == "pixels" else "")
        numbers = three_numbers(pictures, five, models[name]).replace("\n", ", ")
        print(f"{name:8}{kind:10}{numbers}, contrast {pictures.std():.2f}")
        row[0].set_ylabel(kind)
plt.show()

# %% [markdown]
# No regulariser, no jitter, no blur, and yet the lower row is no noise. Nothing was forbidden
# either: any image that pixels can reach, spectra can reach too. What has changed is
# *which way is steepest*. A wave of frequency $f$ is divided by $f$ twice, when the gradient comes
# back to the spectrum and when the step goes out to the pixels; so the ascent follows the gradient
# with its low frequencies amplified by $1 / f^2$. The pixels' score is higher after as many steps,
# and breaks down under a shift by more. A choice of coordinates regularises as a penalty does, and
# is as much *our* wish.
#
# The wide patches of colour are its signature, not the network's: `base` was trained with shuffled
# colour channels and has no favourite hue. Low frequencies are cheap now, in each channel for
# itself, so they come along. (Olah et al. also turn the colours' axes, to those along which
# photographs vary most.)
#
# ## 6. DeepDream
#
# Ascent can start anywhere, at a photograph as well. And it needs no class: ask a *layer* to see
# more of whatever it sees in the picture. This is **DeepDream** (Mordvintsev, Olah & Tyka 2015,
# "Inceptionism: Going Deeper into Neural Networks", Google Research Blog). With $A(x)$ the layer's
# output, climb
#
# $$f(x) = \tfrac12 \lVert A(x) \rVert^2 = \tfrac12 \sum_{k, r, c} A_k(r, c)^2, \qquad
#   \frac{\partial f}{\partial A_k(r, c)} = A_k(r, c)$$
#
# Each activation is pushed by itself: what is strong gets stronger, what is silent stays silent.
# The step has a mean length instead of a norm, so that it means the same at every size: with
# $g = \nabla f$, a pixel changes by $\eta$ on average,
#
# $$x \;\leftarrow\; x + \eta\, \frac{g}{\text{mean}\,|g|}$$
#
# One thing is missing. A layer's patterns have the few pixels that it was trained on, whatever the
# photograph's size. To dream at several scales, work in **octaves**: shrink the photograph, dream;
# keep the *detail*, that is, what the dream has added; enlarge the detail, add it to the photograph
# at the next size, and dream on. The picture itself is not enlarged, only the detail is, so the
# photograph stays as sharp as it was.
#
# ### Exercise: `deep_dream`
# ★★★ · 40 minutes
#
# `resize(X, size)` is given. The jitter's offsets come as an argument, so nothing here is random.
#
# <details><summary>Hint 1: one octave first</summary>
#
# Write the loop over one octave's offsets: roll, gradient, step, clamp, roll back. The first three
# tests ask for no more. `torch.autograd.grad(objective, x)` needs an x that requires gradients and
# from which the objective was computed: the *rolled* image.
#
# </details>
# <details><summary>Hint 2: what passes from octave to octave</summary>
#
# Only `detail`. It is zero before the first octave, and `img - base` after each. `base` is made
# from the photograph anew each time, so it is never blurred by shrinking and enlarging.
#
# </details>


# %% exercise="deep_dream" changes="features.grad, features.statistics"
def deep_dream(photograph, features, sizes, offsets, learning_rate=0.02):
    """Have a layer see more of what it sees in photographs, octave by octave.

    detail = 0. In each octave, for its size:

    - base = resize(photograph, size), and the dream starts from img = base + resize(detail, size);
    - for each (ox, oy) of the octave's offsets, img is rolled by ox pixels along the width and oy
      along the height, changed to img + learning_rate · g / mean|g|, clamped to 0 … 1, and rolled
      back, where g = ∇ ½‖features(img)‖²;
    - detail = img − base.

    Each image of the batch is a problem of its own, with its own mean|g|. Where g is zero, the step
    adds nothing.

    Args:
        photograph: float tensor (N, 3, H, W), pixels from 0 to 1; left as it is.
        features: nn.Module from images of any size to a layer's output (N, K, h, w). Leave it in
            the mode it is in.
        sizes: list of (height, width), one for each octave, from small to large.
        offsets: int64 tensor (len(sizes), steps, 2): the (ox, oy) of each step in each octave.
        learning_rate: η, by how much a step changes a value on average.

    Returns:
        float tensor (N, 3, *sizes[-1]), the last octave's img.
    """
    ### BEGIN SOLUTION
    detail = torch.zeros_like(photograph)
    for size, octave in zip(sizes, offsets.tolist(), strict=True):
        base = resize(photograph, size)
        img = base + resize(detail, size)
        for ox, oy in octave:
            x = torch.roll(img, (oy, ox), dims=(2, 3)).requires_grad_()
            (gradient,) = torch.autograd.grad(features(x).square().sum() / 2, x)
            strength = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
            stepped = (x.detach() + learning_rate * gradient / strength).clamp(0, 1)
            img = torch.roll(stepped, (-oy, -ox), dims=(2, 3))
        detail = img - base
    return img
    ### END SOLUTION


# %% test="deep_dream" points=2 aspect="one step"
# One octave of the photograph's own size, one step, no jitter.
photograph = random_images(30, 1, 3, 7, 9)
features = awkward_network(30, parts=True).features
sizes, offsets = [(7, 9)], torch.zeros(1, 1, 2, dtype=torch.int64)
### BEGIN EXPECTED
expected = reference.deep_dream(photograph, features, sizes, offsets, 0.2)
x = photograph.clone().requires_grad_()
activations = features(x)


def gradient_of(objective):
    return torch.autograd.grad(objective, x, retain_graph=True)[0]


def unclamped(objective):
    gradient = gradient_of(objective)
    return photograph + 0.2 * gradient / gradient.abs().mean()


def stepped(gradient, measure):
    return (photograph + 0.2 * gradient / measure).clamp(0, 1)


half = activations.square().sum() / 2
g = gradient_of(half)
mistakes = {
    "it goes downhill: the sign of the step is reversed": (stepped(-g, g.abs().mean())),
    "the activations themselves are summed, not their squares": (
        unclamped(activations.sum()).clamp(0, 1)
    ),
    "the largest activation is climbed, not the norm of all": (
        unclamped(activations.amax()).clamp(0, 1)
    ),
    "the gradient isn't divided by mean|g|": stepped(g, 1),
    "the gradient is divided by its norm, not by the mean of |g|": stepped(g, g.norm()),
    "the gradient is divided by its standard deviation, not by the mean of |g|": stepped(
        g, g.std()
    ),
    "the gradient is divided by its largest value, not by the mean of |g|": (
        stepped(g, g.abs().amax())
    ),
    "the gradient is divided by its mean: take absolute values first": stepped(g, g.mean()),
    "the gradient is divided by the sum of |g|, not by its mean": stepped(g, g.abs().sum()),
    "only the gradient's sign is used": stepped(g.sign(), 1),
    "the images aren't clamped to 0 … 1": unclamped(half),
    "they are clamped from below only": unclamped(half).clamp(min=0),
    "they are clamped from above only": unclamped(half).clamp(max=1),
    "the learning rate is ignored": reference.deep_dream(photograph, features, sizes, offsets),
    "only the detail is returned, without the photograph": expected - photograph,
    "nothing is changed": photograph,
}
### END EXPECTED
name = "deep_dream with one octave and one step"
result = deep_dream(photograph, features, sizes, offsets, 0.2)
check_close(result, expected, name, mistakes=mistakes)

# %% test="deep_dream" points=2 aspect="a batch, with a black image"
# The layer has no bias, so it is silent where an image is black, and the gradient there is zero; for
# the others it is small.
generator = torch.Generator().manual_seed(31)
photograph = random_images(31, 3, 3, 6, 5) * torch.tensor([0.4, 0.0, 0.8]).view(3, 1, 1, 1)
features = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()).double()
features[0].weight.data = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64) / 100
sizes, offsets = [(6, 5)], torch.zeros(1, 2, 2, dtype=torch.int64)
### BEGIN EXPECTED
expected = reference.deep_dream(photograph, features, sizes, offsets, 0.05)


def of_batch(measure):
    """Two steps, the gradient divided by this measure of the whole batch's."""
    img = photograph
    for _ in range(2):
        x = img.clone().requires_grad_()
        (g,) = torch.autograd.grad(features(x).square().sum() / 2, x)
        img = (img + 0.05 * g / measure(g)).clamp(0, 1)
    return img


mistakes = {
    "the mean of |g| is the whole batch's, not each image's own": of_batch(
        lambda g: g.abs().mean()
    ),
    "the first image's mean of |g| is used for all": of_batch(lambda g: g[0].abs().mean()),
    "each channel is divided by a mean of its own": of_batch(
        lambda g: g.abs().mean((2, 3), keepdim=True).clamp(min=1e-12)
    ),
    "each pixel is divided by a mean of its own": of_batch(
        lambda g: g.abs().mean(1, keepdim=True).clamp(min=1e-12)
    ),
    "a mean less than 0.01 is taken for 0.01": of_batch(
        lambda g: g.abs().mean((1, 2, 3), keepdim=True).clamp(min=0.01)
    ),
    "only the first step is made": reference.deep_dream(
        photograph, features, sizes, offsets[:, :1], 0.05
    ),
}
### END EXPECTED
name = "deep_dream for three images, one of them black"
result = deep_dream(photograph, features, sizes, offsets, 0.05)
check_close(result, expected, name, mistakes=mistakes)

# %% test="deep_dream" points=3 aspect="steps with jitter"
photograph = random_images(32, 1, 3, 7, 9)
features = awkward_network(32, parts=True).features
sizes, offsets = [(7, 9)], torch.tensor([[[2, 1], [-3, 2], [1, -2]]])
### BEGIN EXPECTED
expected = reference.deep_dream(photograph, features, sizes, offsets, 0.1)


def with_offsets(offsets):
    return reference.deep_dream(photograph, features, sizes, offsets, 0.1)


def by_hand(rolled_step, clamped=True, bound=lambda img: img):
    """The octave by another step: rolled_step(img, ox, oy) gives what is added, unscaled."""
    img = photograph
    for ox, oy in offsets[0].tolist():
        g = rolled_step(img, ox, oy)
        img = img + 0.1 * g / g.abs().mean()
        img = img.clamp(0, 1) if clamped else img
    return bound(img)


def gradient_at(img):
    x = img.clone().requires_grad_()
    return torch.autograd.grad(features(x).square().sum() / 2, x)[0]


def jittered(img, ox, oy):
    return gradient_at(img.roll((oy, ox), (2, 3))).roll((-oy, -ox), (2, 3))


first = photograph.clone()
mistakes = {
    "there is no jitter": with_offsets(0 * offsets),
    "ox and oy are swapped: ox goes along the width, the last axis": with_offsets(offsets.flip(2)),
    "it rolls in the opposite direction": with_offsets(-offsets),
    "it isn't rolled back after a step": (
        with_offsets(offsets.cumsum(1)).roll(tuple(offsets[0].sum(0).flip(0).tolist()), (2, 3))
    ),
    "the first step's offset is used for all": with_offsets(offsets[:, :1].expand(1, 3, 2)),
    "it rolls along the width only": with_offsets(offsets * torch.tensor([1, 0])),
    "it rolls along the height only": with_offsets(offsets * torch.tensor([0, 1])),
    "the gradient isn't rolled back with the image": by_hand(
        lambda img, ox, oy: gradient_at(img.roll((oy, ox), (2, 3)))
    ),
    "only the gradient is rolled back: the step goes to an image that was never rolled": by_hand(
        lambda img, ox, oy: gradient_at(img).roll((-oy, -ox), (2, 3))
    ),
    "it is clamped at the end only, not after each step": by_hand(
        jittered, clamped=False, bound=lambda img: img.clamp(0, 1)
    ),
    "it is never clamped": by_hand(jittered, clamped=False),
    "the gradient is taken once, at the photograph, and used for all steps": by_hand(
        lambda img, ox, oy: jittered(first, ox, oy)
    ),
    "only the first step is made": with_offsets(offsets[:, :1]),
    "only the last step is made": with_offsets(offsets[:, -1:]),
}
### END EXPECTED
name = "deep_dream with one octave of three steps"
result = deep_dream(photograph, features, sizes, offsets, 0.1)
check_close(result, expected, name, mistakes=mistakes)

# %% test="deep_dream" points=3 aspect="octaves"
photograph = random_images(33, 2, 3, 11, 13)
features = awkward_network(33, parts=True).features
sizes = [(5, 6), (8, 9), (11, 13)]
offsets = torch.tensor([[[1, -1], [0, 2]], [[-2, 1], [3, 0]], [[2, 2], [-1, -3]]])
### BEGIN EXPECTED
expected = reference.deep_dream(photograph, features, sizes, offsets, 0.05)


def octave(start, number):
    """One octave from a start of its size."""
    return reference.deep_dream(
        start, features, [sizes[number]], offsets[number : number + 1], 0.05
    )


bases = [resize(photograph, size) for size in sizes]


def enlarge_the_picture():
    img = photograph
    for number, size in enumerate(sizes):
        img = octave(resize(img, size), number)
    return img


def dream(new_detail):
    """All octaves, where new_detail(img, start, base, enlarged) is what is handed on."""
    detail = torch.zeros_like(photograph)
    for number, base in enumerate(bases):
        enlarged = resize(detail, sizes[number])
        start = base + enlarged
        img = octave(start, number)
        detail = new_detail(img, start, base, enlarged)
    return img


mistakes = {
    "the whole picture is enlarged from octave to octave, so the photograph gets blurred: shrink the"
    " photograph anew, and enlarge the detail": enlarge_the_picture,
    "the detail of the octaves before is lost: each starts from the photograph": (
        lambda: octave(bases[2], 2)
    ),
    "the detail is only what the last octave added: img − base has what came before, too": (
        lambda: dream(lambda img, start, base, enlarged: img - start)
    ),
    "the detail of earlier octaves counts twice: img − base has it already": (
        lambda: dream(lambda img, start, base, enlarged: img - base + enlarged)
    ),
    "the detail has the wrong sign": (lambda: dream(lambda img, start, base, enlarged: base - img)),
    "the picture stands where the detail belongs: subtract the base": (
        lambda: dream(lambda img, start, base, enlarged: img)
    ),
    "the first octave's offsets are used for all": lambda: reference.deep_dream(
        photograph, features, sizes, offsets[[0, 0, 0]], 0.05
    ),
    "the last octave's offsets are used for all": lambda: reference.deep_dream(
        photograph, features, sizes, offsets[[2, 2, 2]], 0.05
    ),
    "each octave makes only its first step": lambda: reference.deep_dream(
        photograph, features, sizes, offsets[:, :1], 0.05
    ),
    "the octaves go from large to small": lambda: reference.deep_dream(
        photograph, features, sizes[::-1], offsets, 0.05
    ),
    "only the first octave is dreamt": lambda: octave(bases[0], 0),
    "the detail is returned, not the picture": lambda: expected - photograph,
}
### END EXPECTED
name = "deep_dream with three octaves"
result = deep_dream(photograph, features, sizes, offsets, 0.05)
check_close(result, expected, name, mistakes=mistakes)

# %% test="deep_dream" points=2 aspect="other layers and sizes"
# Other networks, dtypes and sizes are tried here; the last octave may have another size than the
# photograph.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, sizes, steps, options in [
    ((2, 3, 9, 12), [(6, 8), (9, 12)], 2, {"inplace": True, "hooks": True, "mixed": True}),
    ((1, 3, 12, 7), [(12, 7)], 3, {"gradients": True}),
    ((3, 3, 8, 8), [(5, 7), (6, 8), (10, 9)], 1, {"dtype": torch.float32}),
]:
    features = awkward_network(reference.seed, parts=True, **options).features
    dtype = options.get("dtype", torch.float64)
    photograph = torch.rand(shape, generator=generator, dtype=dtype)
    offsets = torch.randint(-3, 4, (len(sizes), steps, 2), generator=generator)
    expected = reference.deep_dream(photograph, features, sizes, offsets)
    name = f"deep_dream for photographs {shape} and octaves {sizes}"
    check_close(
        deep_dream(photograph, features, sizes, offsets),
        expected,
        name,
        tolerance=1e-4 if dtype == torch.float32 else None,
    )
### END HIDDEN TESTS

# %% [markdown]
# Now dream. Below, the last layer of `shape` on a flower, or on your own picture: 40 steps at full
# size, 40 at the smallest, and ten in each of four octaves.

# %%
own_photograph = own.load(256)
photograph = (
    load_photograph("flower")[50:370, 160:480] if own_photograph is None else own_photograph
)
photograph = resize(preprocess(photograph).to(device), (256, 256))
sizes = [(side, side) for side in (96, 132, 184, 256)]
offsets = torch.randint(-8, 9, (4, 10, 2), generator=torch.Generator().manual_seed(0))


def up_to(model, layer):
    """The part of a model that ends with this layer."""
    names = [name for name, _ in model.features.named_children()]
    return model.features[: names.index(layer) + 1]


layer, at_once = up_to(models["shape"], "relu6"), offsets.reshape(1, 40, 2)
dreams = {
    "the photograph": photograph,
    "at full size only": deep_dream(photograph, layer, sizes[-1:], at_once),
    "at the smallest size only, enlarged": resize(
        deep_dream(photograph, layer, sizes[:1], at_once), sizes[-1]
    ),
    "four octaves": deep_dream(photograph, layer, sizes, offsets),
}
figure, axes = plt.subplots(1, 4, figsize=(14, 3.9), layout="constrained")
figure.suptitle("Octaves give the dream large forms without blurring the photograph")
for ax, (name, picture) in zip(axes, dreams.items(), strict=True):
    show_pixels(ax, picture[0], name)
    print(f"{name + ':':36} layer's norm {layer(picture).norm():6.0f}")
plt.show()

# %% [markdown]
# At full size the layer sees little of the flower at a time, and dreams of short, fine strokes. At
# the smallest size the whole flower fits into what it sees, and there is a frame about all of it;
# but enlarged, everything is coarse. The octaves have both: a wide frame, drawn finely. (Octaves are
# *our* wish, again: see in which of the pictures the layer's norm is largest. If the picture is your
# own, look in it for the same: many thin strokes, then few coarse ones, then few drawn finely.)
#
# **Which layer, which network?** The same flower, or your picture, for three layers of two networks.

# %%
figure, axes = plt.subplots(2, 4, figsize=(13, 6.8), layout="constrained")
figure.suptitle("What a layer begins to see, it goes on seeing")
for row, name in zip(axes, ("base", "shape"), strict=True):
    show_pixels(row[0], photograph[0], "the photograph")
    row[0].set_ylabel(name)
    for ax, depth in zip(row[1:], (2, 4, 6), strict=True):
        layer = up_to(models[name], f"relu{depth}")
        picture = (
            dreams["four octaves"]  # this one is there already
            if (name, depth) == ("shape", 6)
            else deep_dream(photograph, layer, sizes, offsets)
        )
        growth = layer(picture).norm() / layer(photograph).norm()
        show_pixels(ax, picture[0], f"relu{depth}: norm × {growth:.0f}")
plt.show()

# %% [markdown]
# No dogs and no eyes here, with which DeepDream became famous. They came from a network that had
# learned ImageNet's classes, more than a hundred of which are breeds of dogs. A network can only
# dream of what it knows, and ours know ten textures and ten outlines.
#
# - **relu2** hardens edges: the petals get dark and bright rims, in `shape` beaded ones.
# - **relu4** fills the flower's heart, where the petals are small and close, with dots in rows, and
#   parts of the ground. In the smooth outer petals there was little to start from.
# - **relu6** is where the two networks part. `base`, which goes by texture, lays patches of checkers
#   and of feathery waves over the flower and doesn't care what they cross. `shape` draws
#   *outlines*, beaded as in its pictures of section 4: one about the whole flower, squarer than the
#   flower is, and others where there was hardly a line.
#
# That is how the dreams look to us, on one photograph; the measurement stands in section 4's table.
# What the norm says is only that the ascent has worked. A picture of your own may show other things:
# which of these three does it confirm?
#
# ## 7. One channel instead of a class (optional)
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
# ★★☆ · 25 minutes · optional
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


# %% test="channel_scores" points=2 aspect="the means"
generator = torch.Generator().manual_seed(6)
X = 3 * torch.randn(2, 3, 4, 7, generator=generator, dtype=torch.float64)
model = TinyNetwork(0)
for layer in ("norm", "block"):
    ### BEGIN EXPECTED
    expected = reference.channel_scores(X, model, layer).detach()
    with torch.no_grad():
        before = model.conv1(X) if layer == "norm" else torch.tanh(model.norm(model.conv1(X)))
        output = model.get_submodule(layer)(before)
        scores = model(X)
    mistakes = {
        "the channels are summed over the places, not averaged": output.sum((2, 3)),
        "the largest activation is taken, not the mean": output.amax((2, 3)),
        "it is the mean of the layer's input, not of its output": before.mean((2, 3)),
        "the mean goes over the batch too": output.mean((0, 2, 3)),
        "the mean goes over the channels, not over the places": output.mean(1),
        "the whole activation map is returned: average over its places": output,
        "it is one channel only, or one number": output.mean(),
        "squares are averaged": (output**2).mean((2, 3)),
        "they are the network's class scores": scores,
    }
    ### END EXPECTED
    name = f"channel_scores(X, model, {layer!r})"
    check_close(channel_scores(X.clone(), model, layer), expected, name, mistakes=mistakes)

# %% test="channel_scores" points=1 aspect="before a ReLU in place"
generator = torch.Generator().manual_seed(16)
X = 3 * torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
model = TinyNetwork(1)
### BEGIN EXPECTED
expected = reference.channel_scores(X, model, "block.0").detach()
with torch.no_grad():
    output = model.block[0](torch.tanh(model.norm(model.conv1(X))))
mistakes = {
    "the ReLU after the layer has overwritten its output in place: take the mean inside the hook,"
    " or clone": output.relu().mean((2, 3)),
    "absolute values are averaged": output.abs().mean((2, 3)),
}
### END EXPECTED
name = "channel_scores(X, model, 'block.0')"
check_close(channel_scores(X.clone(), model, "block.0"), expected, name, mistakes=mistakes)

# %% test="channel_scores" points=1 aspect="the gradient"
generator = torch.Generator().manual_seed(17)
X = 3 * torch.randn(2, 3, 4, 7, generator=generator, dtype=torch.float64)
upstream = torch.randn(2, 6, generator=generator, dtype=torch.float64)
model = TinyNetwork(2)
### BEGIN EXPECTED
(expected,) = vector_jacobian_product(reference.channel_scores, (X, model, "block.0"), upstream)
### END EXPECTED
(gradient,) = vector_jacobian_product(channel_scores, (X, model, "block.0"), upstream)
check_close(gradient, expected, "the gradient of channel_scores for X")

# %% test="channel_scores" points=1 aspect="after an error"
# A forward pass that fails should leave no hook behind, nor be silenced.
model, wrong = TinyNetwork(3), torch.zeros(1, 4, 5, 5, dtype=torch.float64)
X = torch.ones(1, 3, 5, 5, dtype=torch.float64)
try:
    channel_scores(wrong, model, "block.0")
except Exception:
    left = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not left, (
        "after an error in the forward pass the model was left with other hooks: remove yours in a"
        " `finally`."
    )
else:
    raise AssertionError("the forward pass's error, for an image of four channels, was swallowed.")
### BEGIN EXPECTED
expected = reference.channel_scores(X, model, "block.0").detach()
### END EXPECTED
check_close(channel_scores(X, model, "block.0"), expected, "channel_scores after an error")

# %% test="channel_scores" points=1 aspect="other networks"
# Other networks, layers and sizes are tried here.
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
    layer = f"relu{depth}"
    model = ChannelNetwork(up_to(models["base"], layer)[1:], layer)  # what follows isn't needed
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
# ## 8. Clipping what does little (optional)
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
# ★★☆ · 15 minutes · optional
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
        percentile: from 0 (clips nothing) to 100 (keeps the largest only).

    Returns:
        float tensor (N, 3, H, W), a new one.
    """
    ### BEGIN SOLUTION
    norms = img.norm(dim=1)
    threshold = torch.quantile(norms.flatten(1), percentile / 100, dim=1)
    return img * (norms >= threshold.view(-1, 1, 1))[:, None]
    ### END SOLUTION


# %% test="clip_small_values" points=2 aspect="the smallest 40 %"
generator = torch.Generator().manual_seed(2)
img = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
img *= torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
### BEGIN EXPECTED
expected = reference.clip_small_values(img, 40)


def without_smallest(measure, share=0.4, of_batch=False):
    """img without the pixels (or, for a measure (N, 3, H, W), values) whose measure is smallest."""
    rows = measure.reshape(1 if of_batch else 2, -1)
    threshold = rows.sort(dim=1).values[:, round(share * rows.shape[1]), None]
    kept = (rows >= threshold).view(measure.shape)
    return img * (kept if kept.dim() == 4 else kept[:, None])


norms = (img**2).sum(1).sqrt()
mistakes = {
    "single values are clipped instead of whole pixels": without_smallest(img.abs()),
    "single values are clipped, the most negative ones": without_smallest(img),
    "the percentile is the whole batch's, not each image's own": without_smallest(
        norms, of_batch=True
    ),
    "large pixels are clipped and small ones are kept": img - expected,
    "the largest 40 % are kept instead of clipping the smallest 40 %": without_smallest(
        norms, share=0.6
    ),
    "the largest 40 % are clipped": without_smallest(-norms),
    "a pixel's channels are summed with their signs: use its norm": without_smallest(img.sum(1)),
    "a pixel's absolute values are summed: use its Euclidean norm": without_smallest(
        img.abs().sum(1)
    ),
    "a pixel's mean is compared, not its norm": without_smallest(img.mean(1).abs()),
    "a pixel's largest value is compared, not its norm": without_smallest(img.abs().amax(1)),
    "the threshold is 40 % of the largest norm instead of a percentile": (
        img * (norms >= 0.4 * norms.amax((1, 2), keepdim=True))[:, None]
    ),
    "nothing is clipped": img,
}
### END EXPECTED
name = "clip_small_values(img, 40)"
check_close(clip_small_values(img, 40), expected, name, mistakes=mistakes)

# %% test="clip_small_values" points=1 aspect="other sizes and percentiles"
# Other sizes and percentiles are tried here, from 0 to 100.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, percentile in [
    ((1, 3, 4, 10), 25),
    ((3, 3, 5, 4), 70),
    ((2, 3, 10, 2), 0),
    ((2, 3, 3, 4), 100),
    ((1, 3, 10, 10), 52),
]:
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
# ★★☆ · 10 minutes · optional
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
        percentile: from 0 (clips nothing) to 100 (keeps the largest only).

    Returns:
        float tensor (N, 3, H, W), a new one.
    """
    ### BEGIN SOLUTION
    contributions = (img * gradient).sum(dim=1).abs()
    threshold = torch.quantile(contributions.flatten(1), percentile / 100, dim=1)
    return img * (contributions >= threshold.view(-1, 1, 1))[:, None]
    ### END SOLUTION


# %% test="clip_small_contributions" points=2 aspect="the smallest 40 %"
generator = torch.Generator().manual_seed(4)
img, gradient = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
img *= torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
### BEGIN EXPECTED
expected = reference.clip_small_contributions(img, gradient, 40)


def without_smallest(measure, share=0.4, of_batch=False):
    """img without the pixels (or, for a measure (N, 3, H, W), values) whose measure is smallest."""
    rows = measure.reshape(1 if of_batch else 2, -1)
    threshold = rows.sort(dim=1).values[:, round(share * rows.shape[1]), None]
    kept = (rows >= threshold).view(measure.shape)
    return img * (kept if kept.dim() == 4 else kept[:, None])


product = img * gradient
contributions = product.sum(1).abs()
mistakes = {
    "the absolute value is taken before the sum over the channels": without_smallest(
        product.abs().sum(1)
    ),
    "the absolute value is missing: pixels that lower the score are clipped": without_smallest(
        product.sum(1)
    ),
    "only the gradient is looked at: multiply it with the image": without_smallest(
        gradient.norm(dim=1)
    ),
    "only the gradient is looked at, summed over the channels": without_smallest(
        gradient.sum(1).abs()
    ),
    "only the image is looked at: multiply it with the gradient": without_smallest(img.norm(dim=1)),
    "the norm of the products is compared: sum them": without_smallest(product.norm(dim=1)),
    "single values are clipped instead of whole pixels": without_smallest(product.abs()),
    "the percentile is the whole batch's, not each image's own": without_smallest(
        contributions, of_batch=True
    ),
    "large contributions are clipped and small ones are kept": img - expected,
    "the largest 40 % are kept instead of clipping the smallest 40 %": without_smallest(
        contributions, share=0.6
    ),
    "nothing is clipped": img,
}
### END EXPECTED
name = "clip_small_contributions(img, gradient, 40)"
check_close(clip_small_contributions(img, gradient, 40), expected, name, mistakes=mistakes)

# %% test="clip_small_contributions" points=1 aspect="other sizes and percentiles"
# Other sizes and percentiles are tried here, from 0 to 100.
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(reference.seed)
for shape, percentile in [
    ((1, 3, 4, 10), 25),
    ((3, 3, 5, 4), 70),
    ((2, 3, 10, 2), 0),
    ((2, 3, 3, 4), 100),
    ((1, 3, 10, 10), 52),
]:
    img, gradient = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    img *= 4 * torch.rand(len(img), 1, 1, 1, generator=generator) + 0.1
    check_close(
        clip_small_contributions(img.clone(), gradient.clone(), percentile),
        reference.clip_small_contributions(img, gradient, percentile),
        f"clip_small_contributions for images {shape} and percentile {percentile}",
    )
### END HIDDEN TESTS

# %% [markdown]
# Which pixels go? Here is a star by the whole recipe, and what each of your functions keeps of it.


# %%
def score_gradient(img, target_y, model):
    """The gradient of each image's class score for the image."""
    x = img.detach().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target_y[:, None]).sum(), x)[0]


smooth_star = create_class_visualization(
    star, networks["base"], grey_noise(1), step, mean, std, l2_reg=0.0
)
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
# In the recipe the clippings come in as update steps that clip after stepping.


# %%
def step_then_clip_values(img, target_y, model, l2_reg, learning_rate):
    class_visualization_update_step(img, target_y, model, l2_reg, learning_rate)
    img.copy_(clip_small_values(img, 30))


def step_then_clip_contributions(img, target_y, model, l2_reg, learning_rate):
    class_visualization_update_step(img, target_y, model, l2_reg, learning_rate)
    img.copy_(clip_small_contributions(img, score_gradient(img, target_y, model), 30))


figure = draw_recipes(
    {
        "values clipped": (step_then_clip_values, plain),
        "contributions clipped": (step_then_clip_contributions, plain),
        "all, with the latter": (step_then_clip_contributions, {}),
    }
)
figure.suptitle("Clipping clears the ground, and leaves fine detail as it is")
plt.show()

# %% [markdown]
# Compare with the figure of section 4. Alone, either clipping leaves as much fine detail as clamping
# did, and a score that collapses when the picture moves. Together with L2, jitter and blur it leaves
# the pattern on empty ground.
#
# ## 9. With an ImageNet network (optional)
#
# The same functions on SqueezeNet, 1000 classes and 224 × 224 pixels, with CS231n's numbers: a
# step of 25, jitter up to 16 pixels. In the second row the climb starts from a photograph instead
# of noise, so the class has to grow out of what is there. The third row is `deep_dream` on the
# photograph of section 6, of a larger size, in four layers. The weights are downloaded once, about
# 5 MB; the climbs take a minute or two on two cores.

# %%
try:
    squeezenet = load_model("squeezenet1_1").to(device).requires_grad_(False)
except WeightsUnavailable as reason:
    print(f"Not shown: {reason}")
else:
    normalize = squeezenet.features.normalize
    small = resize(photograph, (214, 214))
    names = ("tarantula", "goldfish", "daisy", "castle")
    wanted = torch.tensor([squeezenet.class_names.index(name) for name in names], device=device)
    starts = {
        "from noise": grey_noise(len(names), size=214),
        "from a photograph": normalize(small).repeat(len(names), 1, 1, 1),
    }
    figure, axes = plt.subplots(3, len(names), figsize=(12, 9.6), layout="constrained")
    figure.suptitle("SqueezeNet's idea of four classes, and four of its layers' dreams")
    for row, (start_name, start) in zip(axes, starts.items(), strict=False):
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
    for ax, depth in zip(axes[2], (5, 8, 11, 13), strict=True):  # normalisation is module 0
        picture = deep_dream(photograph, squeezenet.features[: depth + 1], sizes, offsets)
        show_pixels(ax, picture[0], f"features[{depth}]")
    axes[2, 0].set_ylabel("a layer's dream")
    plt.show()

# %% [markdown]
# ## What to keep
#
# - Climb the score, not the softmax; normalise the gradient; put the regulariser inside it.
# - Without regularisation the network's favourite picture is noise, tuned to one position.
# - Jitter asks for a pattern that works anywhere, blur and Fourier coefficients for a smooth one,
#   L2, clamping and clipping for a quiet one. All of them are *our* wishes.
# - The same loop climbs a class, a channel, a layer's norm, or anything else that a network
#   computes, from noise or from a photograph.
# - The pictures gave the biased network away at a glance. They suggest; measure before you believe.
