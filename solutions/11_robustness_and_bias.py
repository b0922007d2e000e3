# %% [markdown]
# # Lab 11: Robustness and bias
#
# A network that gets 99% of its test images right has shown that it can do *these* images. Then it
# is fitted to a camera, and there is fog. Or all its cows stood on grass, and here is one on a
# beach. In this lab you put four networks to the test that papers use for the first case, find out
# by which cues they decide for the second, and write down what you found, so that somebody who
# wants to use one of them knows what they get.
#
# | section | what you write | minutes |
# |---|---|---|
# | 1. Thirteen ways to spoil a picture | `correct_answers` | 25 |
# | 2. One number for all of them | `corruption_error` | 20 |
# | 3. Networks compared | `paired_difference` | 20 |
# | 4. Shape or texture? | `shape_bias` | 20 |
# | 5. Take one cue away (optional) | `shuffle_patches` | 30 |
# | 6. What shape training buys (optional) | an answer in words | 20 |
# | 7. Group by group | `disaggregate` | 15 |
# | 8. The network that looks elsewhere, and its repair | `retrain_head` | 45 |
# | 9. Does it know when it is wrong? (optional) | `expected_calibration_error` | 25 |
# | 10. A model card | the card | 35 |
# | 11. With an ImageNet network (optional) | nothing: you look | 10 |
#
# Sections 5, 6, 9 and 11 are optional (11 uses your function from 5). The others need nothing from
# them, and take three hours. If you do them, the model card gains some telling numbers.
#
# The cells beneath each exercise are its tests. Each answers **right so far**, or says in one
# sentence what is wrong. When your work is graded, other shapes and
# numbers are tried as well. No exercise needs one that you wrote before, so a slip costs you only
# once. Adversarial examples, the *worst* change within a budget, are lab 10's. Here nobody is out
# to fool anybody: this is about bad luck, and about bad habits.

# %% given=true
import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils.checks import check_close, check_tuple
from utils.testing_networks import awkward_network

device = "cuda" if torch.cuda.is_available() else "cpu"


def tiny_network(seed, classes=5):
    """A small network with random weights and BatchNorm, in eval mode, for the tests.

    From images (N, 3, H, W) of any size in [0, 1] to scores for the classes, (N, classes).
    """
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.BatchNorm2d(12, momentum=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.Linear(24, classes, bias=False),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 1, generator=generator)
        network(random_images(seed, 64, 6, 5) / 255)  # sets BatchNorm's statistics
    return network.eval()


def random_images(seed, count, height, width):
    """Images with a tint of their own and some noise, float32 (N, 3, H, W) from 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    tint = 200 * torch.rand(count, 3, 1, 1, generator=generator)
    return tint + 55 * torch.rand(count, 3, height, width, generator=generator)


def random_corrupted(seed, names, severities, count, height, width):
    """For each name as many arrays as severities, uint8 (N, H, W, 3): to test with."""
    images = random_images(seed, len(names) * severities * count, height, width)
    shape = (len(names), severities, count, height, width, 3)
    images = images.permute(0, 2, 3, 1).reshape(shape).to(torch.uint8).numpy()
    return {name: list(series) for name, series in zip(names, images, strict=True)}


def random_errors(seed, corruptions, severities):
    """Error rates that grow with severity, float64 (C, S)."""
    generator = np.random.default_rng(seed)
    start = generator.uniform(0.05, 0.6, (corruptions, 1))
    return start + np.cumsum(generator.uniform(0, 0.3 / severities, (corruptions, severities)), 1)


# %% [markdown]
# Four networks of the same architecture are put to the test. What they were trained on is all that
# tells them apart:
#
# | network | trained on |
# |---|---|
# | `base` | scenes: a textured object in clutter, a texture of its own for every shape |
# | `shape` | `base`, finetuned where nine objects in ten have any of the ten textures, by chance |
# | `robust` | `base`, finetuned under attack (adversarial training, lab 10) |
# | `biased` | scenes in which the hue of the background tells the class |

# %%
import matplotlib.pyplot as plt

from utils.corruptions import SEVERITIES, corrupt
from utils.models import load_model
from utils.scenes import CLASS_NAMES, TEXTURE_NAMES, make_scenes

all_four = ("base", "shape", "robust", "biased")
networks = {
    name: load_model(name).to(device, memory_format=torch.channels_last) for name in all_four
}
colours = {"base": "#0072B2", "shape": "#E69F00", "robust": "#009E73", "biased": "#444444"}
markers = {"base": "o", "shape": "^", "robust": "D", "biased": "x"}


def answers_of(network, images):
    """The classes with the highest scores, int64 (N,), for images uint8 (N, H, W, 3)."""
    X = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        parts = [network(part.to(device) / 255).argmax(1).cpu() for part in X.split(32)]
    return torch.cat(parts).numpy()


def without_ticks(axes):
    """Leave out the ticks of all axes."""
    for ax in np.ravel(axes):
        ax.set_xticks([])
        ax.set_yticks([])


many = make_scenes(600, np.random.default_rng(10))
all_right = {
    name: answers_of(network, many.images) == many.shape_class for name, network in networks.items()
}
for name in all_four:
    print(f"{name:6}: accuracy {all_right[name].mean():.2f} on 600 fresh scenes")

# %% [markdown]
# ## 1. Thirteen ways to spoil a picture
#
# Hendrycks & Dietterich (2019) took ImageNet's validation images and spoiled each in fifteen ways
# that cameras, weather and software have in store, at five severities each: ImageNet-C. It is a
# *test*: who trains on these corruptions has learned the answers, not robustness. Our scenes are of
# 64 × 64 pixels, so we take the severities that the authors chose for images of that size. Two of
# the fifteen, **snow and frost, are left out**: at that size their streaks and their photographs of
# ice are too coarse. That leaves thirteen.

# %%
scenes = make_scenes(60, np.random.default_rng(11))
corrupted = {
    name: [
        corrupt(scenes.images, name, severity, np.random.default_rng([11, severity]))
        for severity in range(1, 6)
    ]
    for name in SEVERITIES
}
titles = {name: name.replace("_", "\n", 1) for name in SEVERITIES}
titles |= {"brightness": "bright-\nness", "jpeg_compression": "jpeg", "pixelate": "pixelate"}

figure, axes = plt.subplots(6, 7, figsize=(9.5, 8.8), layout="constrained")
figure.suptitle("One scene, thirteen corruptions: some hide the object, some only annoy")
for number, name in enumerate(SEVERITIES):
    first, column = 3 * (number // 7), number % 7
    for ax, severity in zip(axes[first : first + 3, column], (1, 3, 5), strict=True):
        ax.imshow(corrupted[name][severity - 1][16])
        if column == 0:
            ax.set_ylabel(f"severity {severity}")
    axes[first, column].set_title(titles[name], fontsize=10)
axes[3, 6].imshow(scenes.images[16])
axes[3, 6].set_title("original", fontsize=10)
for ax in axes[4:, 6]:
    ax.axis("off")
without_ticks(axes)
plt.show()

# %% [markdown]
# And what do the networks say? Move it yourself: every change asks all four anew. Your own picture
# joins the menu if you name one in the next cell, or upload it there, and run both cells again. The
# networks see its centre at 64 × 64 pixels.

# %% fold=false
from utils.own_image import OwnImage

MY_IMAGE = None  # the name of an image file of yours, such as "mine.jpg"; or upload one below
own = OwnImage(MY_IMAGE)
own

# %% fold="Four networks, one spoilt picture"
from ipywidgets import Dropdown, IntSlider

from utils.figures import explore

scene_of = {int(label): n for n, label in enumerate(scenes.shape_class[:30])}
menu = {f"a {CLASS_NAMES[label]}": scenes.images[n] for label, n in sorted(scene_of.items())}
if (mine := own.load(64)) is not None:
    menu = {"your picture": mine} | menu


def ask_all(picture, corruption, severity):
    """A picture, the same spoilt, and what each of the networks gives for its ten classes."""
    spoilt = menu[picture]
    if severity:
        spoilt = corrupt(spoilt[None], corruption, severity, np.random.default_rng(13))[0]
    X = torch.from_numpy(spoilt).permute(2, 0, 1)[None].to(device) / 255
    with torch.no_grad():
        said = np.array([networks[name](X).softmax(1)[0].tolist() for name in all_four])
    _, (left, middle, right) = plt.subplots(
        1, 3, figsize=(10.5, 2.9), width_ratios=(1, 1, 2.6), layout="constrained"
    )
    left.imshow(menu[picture])
    left.set_title(picture)
    middle.imshow(spoilt)
    middle.set_title(
        f"{corruption.replace('_', ' ')}, severity {severity}" if severity else "as it is"
    )
    without_ticks((left, middle))
    right.imshow(said, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in enumerate(said.argmax(1)):
        colour = "white" if said[row, column] < 0.5 else "black"
        right.text(column, row, f"{said[row, column]:.2f}", ha="center", va="center", color=colour)
    right.set_xticks(range(10), CLASS_NAMES, rotation=45, ha="right")
    right.set_yticks(range(4), all_four)
    right.set_title("what they say, and with which probability")


explore(
    ask_all,
    picture=Dropdown(options=list(menu)),
    corruption=Dropdown(options=list(SEVERITIES), value="fog"),
    severity=IntSlider(value=3, max=5),
)


# %% [markdown]
# Every network has to name one of its ten classes: for a picture of your own, too, there is no
# "none of these". Look out for a severity at which an answer changes while you still see what it
# is, and for a wrong answer with a high probability.
#
# Severity is the authors' scale, set for each corruption on its own: severity 3 of one is no more
# equal to severity 3 of another than a mile is to an hour. Elastic even changes its kind on the
# way: from a tilt of the whole image to ripples in it.
#
# Now ask a network. Files hold bytes from 0 to 255, channels last; networks take floating-point
# numbers from 0 to 1, channels first. A mistake in this one line of conversion raises no error. It
# looks just like a network that isn't robust.
#
# ### Exercise: `correct_answers`
# ★★☆ · 25 minutes
#
# <details><summary>Hint 1: from bytes to what a network takes</summary>
#
# `torch.from_numpy(images).permute(0, 3, 1, 2) / 255`. (`reshape` would give the same shape, and
# scrambled pixels.)
#
# </details>
# <details><summary>Hint 2: without a gradient</summary>
#
# `with torch.no_grad():` saves time and memory. A batch of some dozens of images at a time is
# fastest, but any number is right.
#
# </details>


# %% exercise="correct_answers"
def correct_answers(model, corrupted, labels):
    """Which of the corrupted images a network gets right.

        right[c, s, n] = (argmax over k of score_k(image n under corruption c at severity s) = y_n)

    Args:
        model: network in eval mode, from images, float32 (N, 3, H, W) in [0, 1] on the device of
            its parameters, to class scores (N, K). It normalises inside, and stays as it is.
        corrupted: dict of C corruptions; the value of each is a list of S arrays, one for each
            severity: images, uint8 (N, H, W, 3).
        labels: y, int64 array (N,), the same for all corruptions and severities.

    Returns:
        right: bool NumPy array (C, S, N), corruptions in the order of the dict.
    """
    ### BEGIN SOLUTION
    where = next(model.parameters()).device
    right = []
    with torch.no_grad():
        for series in corrupted.values():
            for images in series:
                X = torch.from_numpy(images).permute(0, 3, 1, 2)
                parts = [model(part.to(where) / 255).argmax(1).cpu() for part in X.split(32)]
                right.append(torch.cat(parts).numpy() == labels)
    return np.array(right).reshape(len(corrupted), -1, len(labels))
    ### END SOLUTION


# %% test="correct_answers" points=2 aspect="from bytes to answers"
network = tiny_network(0)
test_images = random_corrupted(1, ("fog",), 1, 40, 6, 5)
test_labels = np.random.default_rng(2).integers(5, size=40)
### BEGIN EXPECTED


def answers_after(prepare):
    """The network's answers if bytes (N, H, W, 3) reach it by way of `prepare`."""
    with torch.no_grad():
        return network(prepare(torch.from_numpy(test_images["fog"][0]))).argmax(1).numpy()


def right_after(prepare):
    """Which of these are right, (1, 1, N)."""
    return (answers_after(prepare) == test_labels)[None, None]


expected = reference.correct_answers(network, test_images, test_labels)
mistakes = {
    "the images aren't divided by 255: networks take values in [0, 1]": (
        right_after(lambda images: images.permute(0, 3, 1, 2).float())
    ),
    "the images are reshaped where axes have to be permuted: pixels get scrambled": (
        right_after(lambda images: images.reshape(-1, 3, 6, 5) / 255)
    ),
    "rows and columns are exchanged on the way to (N, 3, H, W)": (
        right_after(lambda images: images.permute(0, 3, 2, 1) / 255)
    ),
    "the images are normalised, which the network does inside": (
        right_after(lambda images: (images.permute(0, 3, 1, 2) / 255 - 0.45) / 0.25)
    ),
    "red and blue are exchanged": (
        right_after(lambda images: images.flip(3).permute(0, 3, 1, 2) / 255)
    ),
    "it says which answers are wrong, not which are right": ~expected,
    "it returns the answers themselves, not whether they are right": (
        answers_after(lambda images: images.permute(0, 3, 1, 2) / 255)[None, None]
    ),
    "the images are averaged, which gives accuracies: keep each answer": expected.mean(2),
    "the result lacks the axes of corruptions and severities: expected (C, S, N)": expected[0, 0],
}
### END EXPECTED
right = correct_answers(network, test_images, test_labels)
check_close(right, expected, "correct_answers for one corruption", mistakes=mistakes)

# %% test="correct_answers" points=2 aspect="corruptions and severities"
network = tiny_network(3)
test_images = random_corrupted(4, ("snow", "fog", "frost"), 2, 20, 6, 5)
test_labels = np.random.default_rng(5).integers(5, size=20)
### BEGIN EXPECTED
expected = reference.correct_answers(network, test_images, test_labels)
mistakes = {
    "corruptions come in alphabetical order, not in the dict's": expected[[1, 2, 0]],
    "the images are averaged, which gives accuracies: keep each answer": expected.mean(2),
    "everything is averaged into one accuracy": expected.mean(),
    "the images come first: expected (C, S, N)": expected.transpose(2, 0, 1),
    "the severities come first: expected (C, S, N)": expected.transpose(1, 0, 2),
    "only the first severity is used": expected[:, [0, 0]],
    "only the last severity is used": expected[:, [1, 1]],
    "only the first corruption is used": expected[[0, 0, 0]],
    "only the last corruption is used": expected[[2, 2, 2]],
    "corruptions and severities share one axis: expected (C, S, N)": expected.reshape(-1, 20),
}
### END EXPECTED
right = correct_answers(network, test_images, test_labels)
check_close(right, expected, "correct_answers(model, corrupted, labels)", mistakes=mistakes)

# %% test="correct_answers" points=2 aspect="other networks and images"
# Other networks, numbers and sizes of images are tried here.
### BEGIN HIDDEN TESTS
for seed, severities, count, size in [(0, 5, 7, (4, 9)), (1, 1, 70, (5, 5)), (2, 3, 1, (7, 4))]:
    seed += reference.seed
    network = tiny_network(seed, classes=3)
    names = [f"corruption {9 - number}" for number in range(4)]
    test_images = random_corrupted(seed, names, severities, count, *size)
    test_labels = np.random.default_rng(seed).integers(3, size=count)
    check_close(
        correct_answers(network, test_images, test_labels),
        reference.correct_answers(network, test_images, test_labels),
        f"correct_answers for 4 corruptions, {severities} severities and {count} images",
    )
for parts in (False, True):
    options = {"inplace": True, "functional": True, "hooks": True, "dtype": torch.float32}
    network = awkward_network(reference.seed, parts=parts, **options)
    test_images = random_corrupted(reference.seed, ("noise", "fog"), 3, 20, 9, 8)
    test_labels = np.random.default_rng(reference.seed).integers(5, size=20)
    expected = reference.correct_answers(network, test_images, test_labels)
    check_close(
        correct_answers(network, test_images, test_labels),
        expected,
        "correct_answers of a network with a forward of its own",
    )
### END HIDDEN TESTS

# %% [markdown]
# Here is `base`, on 60 scenes that it has never seen.

# %% fold="Figure: Elastic costs base next to nothing, contrast nearly everything"
shown = all_four[:3]
right_of = {name: correct_answers(networks[name], corrupted, scenes.shape_class) for name in shown}
clean_of = {name: answers_of(networks[name], scenes.images) == scenes.shape_class for name in shown}
accuracy = right_of["base"].mean(2)
table = np.column_stack([np.full(len(accuracy), clean_of["base"].mean()), accuracy])

figure, ax = plt.subplots(figsize=(7.4, 5.6), layout="constrained")
picture = ax.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
for (row, column), value in np.ndenumerate(table):
    colour = "white" if value < 0.5 else "black"
    ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
ax.set_xticks(range(6), ["none", "1", "2", "3", "4", "5"])
ax.set_yticks(range(13), [name.replace("_", " ") for name in SEVERITIES])
ax.set(xlabel="severity", title="Elastic costs base next to nothing, contrast nearly everything")
figure.colorbar(picture, label="accuracy of base (chance: 0.10)")
plt.show()

# %% [markdown]
# Without corruption `base` is right nearly always. Tilting and rippling cost it next to nothing,
# contrast takes it down to guessing. Read the rows, not the columns: "severity 3" costs nothing in
# some rows and about four answers in ten in another. And mind that 60 scenes make each number
# uncertain by up to ±0.13 (two standard errors at 0.5).
#
# ## 2. One number for all of them
#
# Sixty-five numbers are too many to compare networks by. But a plain mean would be ruled by
# whatever corruption its authors happened to make hardest. So Hendrycks & Dietterich divide: let
# $E_{s,c}$ be the error rate (1 − accuracy) at severity $s$ of corruption $c$. The **corruption
# error** compares it with that of AlexNet, summed over the severities *first*:
#
# $$\mathrm{CE}_c = 100 \cdot
#   \frac{\sum_{s=1}^{5} E_{s,c}}{\sum_{s=1}^{5} E_{s,c}^{\text{AlexNet}}}$$
#
# in per cent: 100 is as bad as AlexNet, 50 half as bad. A CE needs a baseline as a temperature
# needs a zero, and means nothing without saying which.
#
# The **mean corruption error** is what is printed in abstracts:
#
# $$\mathrm{mCE} = \frac{1}{C} \sum_{c=1}^{C} \mathrm{CE}_c$$
#
# It is a mean of ratios. The ratio of the means is something else: there, a corruption that is hard
# for AlexNet would count for more.
#
# A network with few errors on clean images has few on spoilt ones, too. A fairer question may be
# what the corruption **adds** to its errors. The **relative** corruption error subtracts the error
# on clean images from each:
#
# $$\text{relative CE}_c = 100 \cdot
#   \frac{\sum_s \left(E_{s,c} - E_{\text{clean}}\right)}
#        {\sum_s \left(E_{s,c}^{\text{AlexNet}} - E_{\text{clean}}^{\text{AlexNet}}\right)}$$
#
# With zeros for the two clean errors this is CE, so one function does for both.
#
# ### Exercise: `corruption_error`
# ★☆☆ · 20 minutes


# %% exercise="corruption_error"
def corruption_error(errors, baseline, clean_error=0.0, baseline_clean_error=0.0):
    """The corruption error of a network, in per cent of a baseline's.

        CE_c = 100 · Σ_s (E_{s,c} − E_clean) / Σ_s (E^baseline_{s,c} − E^baseline_clean)
        mCE = 1/C Σ_c CE_c

    Args:
        errors: E, the network's error rates in [0, 1], float64 array (C, S): a row for each
            corruption, a column for each severity.
        baseline: error rates of the network to compare with, likewise.
        clean_error, baseline_clean_error: their error rates on the uncorrupted images, floats, for
            relative corruption errors; 0 for ordinary ones.

    Returns:
        mean: mCE, a float, in per cent. A relative one can be negative.
        each: CE, float64 array (C,), in per cent.
    """
    ### BEGIN SOLUTION
    added = (errors - clean_error).sum(1)
    added_to_baseline = (baseline - baseline_clean_error).sum(1)
    each = 100 * added / added_to_baseline
    return each.mean(), each
    ### END SOLUTION


# %% test="corruption_error" points=2 aspect="CE, for each corruption"
errors, baseline = random_errors(0, 4, 3), random_errors(1, 4, 3)
### BEGIN EXPECTED
_, expected = reference.corruption_error(errors, baseline)
mistakes = {
    "100 is missing: CE is in per cent": expected / 100,
    "the baseline is divided by the network": 1e4 / expected,
    "each severity is divided on its own, and the ratios are averaged: sum first": (
        100 * (errors / baseline).mean(1)
    ),
    "the sums run over the corruptions, not over the severities": (
        100 * errors.sum(0) / baseline.sum(0)
    ),
    "only the last severity counts": 100 * errors[:, -1] / baseline[:, -1],
    "everything is summed, so that one number is left": 100 * errors.sum() / baseline.sum(),
    "the mean comes second: expected (mean, each)": expected.mean(),
    "the baseline's sum runs over all corruptions": 100 * errors.sum(1) / baseline.sum(),
    "the severities aren't summed": 100 * errors / baseline,
    "the errors are subtracted, not divided": 100 * (errors.sum(1) - baseline.sum(1)),
    "accuracies are compared, not errors": 100 * (1 - errors).sum(1) / (1 - baseline).sum(1),
    "the network's errors are summed, the baseline's averaged": 3 * expected,
    "the network's errors are averaged, the baseline's summed": expected / 3,
}
### END EXPECTED
result = corruption_error(errors, baseline)
_, each = check_tuple(result, ("mean", "each"), "corruption_error(errors, baseline)")
check_close(each, expected, "each CE from corruption_error(errors, baseline)", mistakes=mistakes)

# %% test="corruption_error" points=2 aspect="mCE, their mean"
errors, baseline = random_errors(2, 5, 3), random_errors(3, 5, 3)
### BEGIN EXPECTED
expected, each = reference.corruption_error(errors, baseline)
mistakes = {
    "100 is missing: mCE is in per cent": expected / 100,
    "it is the ratio of the means, not the mean of the ratios": (
        100 * errors.sum() / baseline.sum()
    ),
    "each severity is divided on its own: sum over the severities first": (
        100 * (errors / baseline).mean()
    ),
    "the corruptions are summed, not averaged": each.sum(),
    "the median is taken, not the mean": np.median(each),
    "the corruptions aren't averaged: it is CE": each,
    "the baseline is divided by the network": (1e4 / each).mean(),
    "the sums run over the corruptions, not over the severities": (
        100 * (errors.sum(0) / baseline.sum(0)).mean()
    ),
    "it is divided by the number of severities, not by that of corruptions": each.sum() / 3,
    "accuracies are compared, not errors": (
        100 * ((1 - errors).sum(1) / (1 - baseline).sum(1)).mean()
    ),
    "the baseline is left out": 100 * errors.mean(),
}
### END EXPECTED
result = corruption_error(errors, baseline)
mean, _ = check_tuple(result, ("mean", "each"), "corruption_error(errors, baseline)")
check_close(mean, expected, "mCE from corruption_error(errors, baseline)", mistakes=mistakes)

# %% test="corruption_error" points=2 aspect="relative to clean images"
errors, baseline = random_errors(4, 5, 3), 0.1 + random_errors(5, 5, 3)
### BEGIN EXPECTED


def without(clean, baseline_clean):
    """The mean where other clean errors are subtracted at each severity."""
    return reference.corruption_error(errors, baseline, clean, baseline_clean)[0]


expected = without(0.04, 0.11)
added, added_to_baseline = errors - 0.04, baseline - 0.11
mistakes = {
    "the clean errors aren't subtracted": without(0, 0),
    "the clean error is subtracted once from the sum, not at each severity": (
        without(0.04 / 3, 0.11 / 3)
    ),
    "the network's clean error is subtracted from both": without(0.04, 0.04),
    "the baseline's clean error is subtracted from both": without(0.11, 0.11),
    "the baseline's clean error isn't subtracted": without(0.04, 0),
    "the network's clean error isn't subtracted": without(0, 0.11),
    "the two clean errors are exchanged": without(0.11, 0.04),
    "the clean errors are added, not subtracted": without(-0.04, -0.11),
    "the clean error is subtracted from the ratio": without(0, 0) - 100 * 0.04 / 0.11,
    "errors are divided by the clean error, not reduced by it": (
        100 * ((errors / 0.04).sum(1) / (baseline / 0.11).sum(1)).mean()
    ),
    "it is the ratio of the means, not the mean of the ratios": (
        100 * added.sum() / added_to_baseline.sum()
    ),
    "each severity is divided on its own: sum over the severities first": (
        100 * (added / added_to_baseline).mean()
    ),
    "the sign of what is added is reversed in one of the two": -expected,
}
### END EXPECTED
result = corruption_error(errors, baseline, 0.04, 0.11)
relative, _ = check_tuple(result, ("mean", "each"), "corruption_error")
words = "the relative mCE, corruption_error(errors, baseline, 0.04, 0.11)[0]"
check_close(relative, expected, words, mistakes=mistakes)

# %% test="corruption_error" points=2 aspect="other error rates"
# Other numbers of corruptions and severities are tried here, and a network that gains.
### BEGIN HIDDEN TESTS
for seed, shape in enumerate([(15, 5), (1, 4), (6, 1)], start=reference.seed):
    errors, baseline = random_errors(seed, *shape), 0.2 + random_errors(seed + 7, *shape)
    for clean_errors in ((), (0.01 * (seed % 20 + 1), 0.17)):
        right = reference.corruption_error(errors, baseline, *clean_errors)
        result = check_tuple(
            corruption_error(errors, baseline, *clean_errors), ("mean", "each"), "corruption_error"
        )
        words = f"corruption_error for {shape} error rates{', relative' * bool(clean_errors)}"
        for part, expected, what in zip(result, right, ("mean", "each"), strict=True):
            check_close(part, expected, f"the {what} from {words}")
errors = np.full((2, 3), 0.2)
mean, each = check_tuple(
    corruption_error(errors, errors, 0.3, 0.1), ("mean", "each"), "corruption_error"
)
words = "from corruption_error of a network that does better on corrupted images"
check_close(mean, -100.0, f"the mean {words}")
check_close(each, np.full(2, -100.0), f"each {words}")
### END HIDDEN TESTS

# %% [markdown]
# Time for published figures. AlexNet's error rates (each the mean over five severities, so $S = 1$
# here) are the ones that everybody divides by; ResNet-50's are its published CE, turned back into
# error rates.

# %%
alexnet = {
    "gaussian noise": 0.886428, "shot noise": 0.894468, "impulse noise": 0.922640,
    "defocus blur": 0.819880, "glass blur": 0.826268, "motion blur": 0.785948,
    "zoom blur": 0.798360, "snow": 0.866816, "frost": 0.826572, "fog": 0.819324,
    "brightness": 0.564592, "contrast": 0.853204, "elastic": 0.646056, "pixelate": 0.717840,
    "jpeg": 0.606500,
}  # fmt: skip
published_ce = [
    79.8, 81.6, 82.6, 74.7, 88.6, 78.0, 79.9, 77.8, 74.8, 66.1, 56.6, 71.4, 84.7, 76.9, 76.8,
]  # fmt: skip
alexnet_errors = np.array(list(alexnet.values()))[:, None]
resnet_errors = alexnet_errors * np.array(published_ce)[:, None] / 100
alexnet_clean, resnet_clean = 0.4348, 0.2385
total, each = corruption_error(resnet_errors, alexnet_errors)
relative_total, relative = corruption_error(
    resnet_errors, alexnet_errors, resnet_clean, alexnet_clean
)
against_itself, _ = corruption_error(alexnet_errors, alexnet_errors)
print(f"AlexNet:   mCE {against_itself:.1f}, clean error {alexnet_clean:.1%}")
print(f"ResNet-50: mCE {total:.1f}, clean error {resnet_clean:.1%}")
ratio = resnet_errors.mean() / alexnet_errors.mean()
print(f"The ratio of their mean errors, which is something else: {ratio:.1%}")

# %% [markdown]
# AlexNet against itself is exactly 100, ResNet-50 76.7, as in the paper. So ResNet-50 is the more
# robust one? It is the more *accurate* one, also where nothing is spoilt: 24% errors for 43%. Here
# are both kinds of corruption error, for each corruption:

# %%
figure, ax = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
ax.axhline(100, color="0.4", linewidth=1)
ax.text(14.6, 101, "AlexNet", color="0.3", ha="right", va="bottom")
ax.vlines(range(15), each, relative, color="0.8", zorder=0)
label = f"CE (mean {total:.1f})"
ax.plot(each, "o", color="#0072B2", label=label)
label = f"relative CE (mean {relative_total:.1f})"
ax.plot(relative, "D", color="#D55E00", markerfacecolor="white", label=label)
names = [name.replace(" ", "\n").replace("brightness", "bright-\nness") for name in alexnet]
ax.set_xticks(range(15), names, fontsize=8)
ax.set(ylabel="per cent of AlexNet's", ylim=(40, 155))
ax.set_title("ResNet-50 errs less than AlexNet everywhere, and loses as much to corruption")
ax.legend(frameon=False, loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# Filled circles lie below 100 all along: three years of progress on ImageNet carried over to spoilt
# images. Open diamonds lie on both sides of the line, their mean at 105: what corruption *takes
# away* from ResNet-50 is no less than what it took from AlexNet. The paper's abstract speaks of
# "negligible changes in relative corruption robustness". Which of the two you want depends on what
# you do: to choose a network, how often it will be wrong (mCE); to learn whether something made
# networks sturdier, what is added (relative mCE). And the latter has a weakness of its own: a
# network that is bad to begin with has less to lose.

# %% [markdown]
# ## 3. Networks compared
#
# Back to our scenes. Nobody has an AlexNet for discs and stars, so `base` takes its place: its CE
# is 100 by definition. Three networks see the same corrupted scenes; `biased` gets nearly nine in
# ten wrong before anything is spoilt, and would only press the others to the edge of the figure. In
# section 8 it meets `base`, on scenes that it can do.
#
# Before we look: is a difference real? With 60 scenes an accuracy of 0.9 is uncertain by ±0.08, and
# two such numbers, taken as if they had nothing to do with each other, could hardly be told apart.
# But they have to do with each other: both networks saw the *same* images. So take the difference
# image by image. For image $n$, and right or wrong as 1 or 0,
#
# $$d_n = \frac{1}{S} \sum_s \left(\text{right}^{B}_{s,n} - \text{right}^{A}_{s,n}\right), \qquad
#   \bar d = \frac{1}{N} \sum_n d_n, \qquad
#   \mathrm{SE} = \sqrt{\frac{1}{N (N - 1)} \sum_n (d_n - \bar d)^2}$$
#
# One image at five severities is *one* image: if a star is hidden behind a patch, then so it is at
# all five. Whoever counts 5 N independent answers gets error bars that are too short.
#
# ### Exercise: `paired_difference`
# ★★☆ · 20 minutes


# %% exercise="paired_difference"
def paired_difference(right_A, right_B):
    """By how much network B is more accurate than A on the same images, and how sure that is.

        d_n = mean over s of (right_B[s, n] − right_A[s, n]),   d̄ = mean over n of d_n
        SE = sqrt(Σ_n (d_n − d̄)² / (N (N − 1)))

    Args:
        right_A: whether A's answer to image n at severity s is right, bool array (S, N), N > 1.
        right_B: the same for B.

    Returns:
        difference: d̄, a float from −1 to 1, positive where B is better.
        standard_error: SE, a float.
    """
    ### BEGIN SOLUTION
    d = right_B.mean(0) - right_A.mean(0)
    return d.mean(), d.std(ddof=1) / np.sqrt(len(d))
    ### END SOLUTION


# %% given=true
def random_answers(seed, severities, count):
    """Right or wrong, bool (S, N), twice: some images are hard for both networks."""
    generator = np.random.default_rng(seed)
    ease = generator.random(count)
    return [generator.random((severities, count)) < ease + shift for shift in (0.1, -0.15)]


# %% test="paired_difference" points=2 aspect="the difference"
right_A, right_B = random_answers(0, 3, 20)
### BEGIN EXPECTED
expected, standard_error = reference.paired_difference(right_A, right_B)
mistakes = {
    "it is A minus B: positive has to mean that B is better": -expected,
    "the standard error comes first": standard_error,
    "the severities are summed, not averaged": 3 * expected,
    "answers are counted, not averaged": 60 * expected,
    "every disagreement counts as a plus, whoever of the two is right": (right_A ^ right_B).mean(),
    "the images aren't averaged": right_B.mean(0) - right_A.mean(0),
    "it is in per cent": 100 * expected,
}
### END EXPECTED
result = paired_difference(right_A, right_B)
difference, _ = check_tuple(result, ("difference", "standard_error"), "paired_difference")
words = "the difference from paired_difference(right_A, right_B)"
check_close(difference, expected, words, mistakes=mistakes)

# %% test="paired_difference" points=2 aspect="its standard error"
right_A, right_B = random_answers(1, 3, 20)
### BEGIN EXPECTED
_, expected = reference.paired_difference(right_A, right_B)
each = right_B.astype(float) - right_A  # (S, N)
d = each.mean(0)
mistakes = {
    "every severity counts as an image of its own: average over them first": (
        each.std(ddof=1) / 60**0.5
    ),
    "every severity counts as an image of its own, and it is divided by N·S": each.std() / 60**0.5,
    "the two networks are treated as if they had seen different images, N·S of them": (
        (right_A.var() / 60 + right_B.var() / 60) ** 0.5
    ),
    "the two networks are treated as if they had seen different images": (
        (right_A.mean(0).var(ddof=1) / 20 + right_B.mean(0).var(ddof=1) / 20) ** 0.5
    ),
    "it is the standard deviation of d, not divided by √N": d.std(ddof=1),
    "it is the standard deviation of d with N below, not divided by √N": d.std(),
    "N stands where N − 1 belongs (ddof=1)": d.std() / 20**0.5,
    "it isn't the root that is taken: it is a variance": expected**2,
    "it is divided by N, not by √N": d.std(ddof=1) / 20,
    "it is 1.96 standard errors": 1.96 * expected,
    "it is 2 standard errors": 2 * expected,
    "it is divided by the root of the severities, not of the images": d.std(ddof=1) / 3**0.5,
    "it is the spread over the severities, not over the images": (
        each.mean(1).std(ddof=1) / 3**0.5
    ),
}
### END EXPECTED
result = paired_difference(right_A, right_B)
_, standard_error = check_tuple(result, ("difference", "standard_error"), "paired_difference")
words = "the standard error from paired_difference(right_A, right_B)"
check_close(standard_error, expected, words, mistakes=mistakes)

# %% test="paired_difference" points=1 aspect="other answers"
# Other numbers of severities and images are tried here.
### BEGIN HIDDEN TESTS
for seed, shape in enumerate([(5, 64), (1, 9), (4, 2)]):
    right_A, right_B = random_answers(reference.seed + seed, *shape)
    right = reference.paired_difference(right_A, right_B)
    result = check_tuple(
        paired_difference(right_A, right_B), ("difference", "standard_error"), "paired_difference"
    )
    for part, expected, what in zip(result, right, ("difference", "standard error"), strict=True):
        check_close(part, expected, f"the {what} from paired_difference for answers {shape}")
### END HIDDEN TESTS

# %%
errors_of = {name: 1 - right_of[name].mean(2) for name in shown}
clean_error = {name: 1 - clean_of[name].mean() for name in shown}
print("        clean   mean accuracy     mCE  relative mCE   (baseline: base)")
for name in shown:
    total, _ = corruption_error(errors_of[name], errors_of["base"])
    relative, _ = corruption_error(
        errors_of[name], errors_of["base"], clean_error[name], clean_error["base"]
    )
    print(
        f"{name:7} {1 - clean_error[name]:.2f} {1 - errors_of[name].mean():12.2f}"
        f" {total:14.0f} {relative:11.0f}"
    )

kinds = [name.replace("_", " ") for name in SEVERITIES]
figure, (left, middle) = plt.subplots(1, 2, figsize=(11.5, 5), layout="constrained", sharey=True)
figure.suptitle(
    "Adversarial training hurts most in fog and low contrast, shape training hurts everywhere"
)
left.axvline(100, color=colours["base"], linewidth=1)
middle.axvline(0, color=colours["base"], linewidth=1)
for offset, name in ((-0.12, "robust"), (0.12, "shape")):
    left.plot(
        corruption_error(errors_of[name], errors_of["base"])[1], np.arange(13) + offset,
        markers[name],
        color=colours[name], label=name,
    )  # fmt: skip
    differences = [
        paired_difference(a, b) for a, b in zip(right_of["base"], right_of[name], strict=True)
    ]
    difference, standard_error = np.array(differences).T
    middle.errorbar(
        difference, np.arange(13) + offset, xerr=2 * standard_error, fmt=markers[name],
        color=colours[name], label=name,
    )  # fmt: skip
left.set_xscale("log")
left.set_xticks([50, 100, 200, 400, 800], [50, 100, 200, 400, 800])
left.minorticks_off()
left.set_yticks(range(13), kinds)
left.invert_yaxis()
left.set(xlabel="CE, per cent of base's (log scale)", title="How many times as many errors …")
middle.set(xlabel="accuracy − accuracy of base (± 2 SE)", title="… and how many answers that is")
left.legend(frameon=False, loc="lower right")
for ax in (left, middle):
    ax.grid(axis="y", color="0.92")
plt.show()

# %%
figure, axes = plt.subplots(1, 4, figsize=(11.5, 3.2), layout="constrained", sharey=True)
figure.suptitle(
    "Under noise robust keeps up with base, in fog and low contrast it sinks as low as shape"
)
for ax, kind in zip(axes, ("gaussian_noise", "impulse_noise", "fog", "contrast"), strict=True):
    row = list(SEVERITIES).index(kind)
    for name in shown:
        ax.plot(
            range(6), [clean_of[name].mean(), *right_of[name][row].mean(1)], marker=markers[name],
            color=colours[name], label=name,
        )  # fmt: skip
    ax.axhline(0.1, color="0.6", linewidth=1, linestyle=":")
    ax.set(title=kind.replace("_", " "), xlabel="severity (0: none)", ylim=(0, 1.03))
    ax.grid(color="0.92")
axes[0].set_ylabel("accuracy")
axes[0].text(0, 0.12, "chance", color="0.4")
axes[0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.15))
plt.show()

# %% [markdown]
# For noise the error bars of `robust` lie across zero. That doesn't say that there is no effect; it
# says that 60 scenes can't show one of this size. So look closer there, and take 300 scenes:

# %%
closer = many[:300]
print("severity 3: accuracy of base, of robust, difference ± 2 SE")
for kind in ("gaussian_noise", "shot_noise", "impulse_noise", "fog"):
    spoilt = {kind: [corrupt(closer.images, kind, 3, np.random.default_rng([12, 3]))]}
    base, robust = (
        correct_answers(networks[name], spoilt, closer.shape_class)[0]
        for name in ("base", "robust")
    )
    difference, standard_error = paired_difference(base, robust)
    print(
        f"{kind:15} {base.mean():.2f} {robust.mean():6.2f}"
        f" {difference:+9.3f} ± {2 * standard_error:.3f}"
    )

# %% [markdown]
# **Adversarial training is no cure-all.** At severity 3 `robust` gains some answers under impulse
# noise, and under Gaussian noise so few that 300 other scenes may not show them. Both resemble what
# it was trained on: many small, independent changes of pixels. Under shot noise there is nothing to
# gain yet, as `base` errs so little. In fog and under low contrast `robust` loses about a quarter of
# all answers or more, perhaps because it has learned to distrust faint patterns: these two make all
# patterns faint. Blur hurts it, too. Gilmer et al. (2019) found the same trade of noise against fog
# and contrast in larger networks (theirs gained in blur), and Yin et al. (2019) explain it by
# frequencies: what helps against noise makes a network rely on low ones, and those are what fog and
# contrast change. Over all thirteen `robust` is the less robust of the two: always ask *to what*.
#
# **Shape training buys no robustness here at all.** `shape` is behind `base` at every corruption,
# noise included. More on this in section 6.
#
# **Mind the left panel.** In elastic, `shape` loses fewer answers than under noise, and still its
# CE is by far the largest: `base`, the baseline, makes hardly any mistake there, so that a few
# mistakes more are many times as many. The mean over corruptions, made so that hard ones don't
# rule, lets *easy* ones rule if the baseline is good at them. With AlexNet below the line, which
# errs at 56% or more everywhere, this never happened. Look at both panels before you quote an mCE
# with a baseline of your own.

# %% [markdown]
# ## 4. Shape or texture?
#
# What does a network go by when it says *star*: that the thing has five points, or the pattern that
# stars always had in training? On ordinary scenes both cues agree, and no accuracy can tell. So
# let them disagree: in a **cue conflict** (Geirhos et al., 2019) the object has the shape of one
# class and the texture of another.

# %%
conflicts = make_scenes(300, np.random.default_rng(5), "cue_conflict")
answers = {name: answers_of(network, conflicts.images) for name, network in networks.items()}

figure, axes = plt.subplots(2, 6, figsize=(12, 5.6), layout="constrained")
figure.suptitle("base names the class of the texture, shape more often that of the shape")
for n, ax in enumerate(axes.flat):
    ax.imshow(conflicts.images[n])
    cues = f"{CLASS_NAMES[conflicts.shape_class[n]]} of {TEXTURE_NAMES[conflicts.texture_class[n]]}"
    said = [f"{name}: {CLASS_NAMES[answers[name][n]]}" for name in ("base", "shape")]
    ax.set_title(f"{cues}\n" + "\n".join(said), fontsize=9)
without_ticks(axes)
plt.show()
pairs = [f"{shape} of {made_of}" for shape, made_of in zip(CLASS_NAMES, TEXTURE_NAMES, strict=True)]
print("In training:", "; ".join(pairs[:5]), "; ".join(pairs[5:]), sep="\n")

# %% [markdown]
# Each such picture is a *trial*, and its answer a vote. Geirhos et al. count the votes for the
# shape among those for either cue:
#
# $$\text{shape bias} = \frac{\#\{\text{answers for the shape}\}}
#   {\#\{\text{answers for the shape}\} + \#\{\text{answers for the texture}\}}$$
#
# Answers that are neither don't count. Nor do trials whose two cues are of the *same* class: there
# the answer says nothing about the cue, and would count as both. Our scenes have no such trials,
# but many data sets do, Geirhos et al.'s among them (80 of 1,280).
#
# ### Exercise: `shape_bias`
# ★★☆ · 20 minutes


# %% exercise="shape_bias"
def shape_bias(answers, shapes, textures):
    """How often a network sides with the shape, where it sides with the shape or the texture.

        shape bias = #shape / (#shape + #texture), over the trials whose cues differ in class

    Args:
        answers: the network's answer to each trial, int64 array (N,).
        shapes: the class of each trial's shape, int64 array (N,).
        textures: the class of each trial's texture, int64 array (N,). Where it is equal to
            shapes, the trial doesn't count.

    Returns:
        a float from 0, always texture, to 1, always shape. At least one answer is for either cue.
    """
    ### BEGIN SOLUTION
    conflict = shapes != textures
    by_shape = np.sum(conflict & (answers == shapes))
    by_texture = np.sum(conflict & (answers == textures))
    return by_shape / (by_shape + by_texture)
    ### END SOLUTION


# %% test="shape_bias" points=2 aspect="votes for either cue"
#                        shape ×4    texture ×3 neither ×3
trial_answers = np.array([0, 1, 2, 3, 2, 0, 3, 4, 4, 0])
trial_shapes = np.array([0, 1, 2, 3, 1, 3, 1, 0, 1, 3])
trial_textures = np.array([1, 0, 3, 1, 2, 0, 3, 2, 3, 1])
### BEGIN EXPECTED
expected = reference.shape_bias(trial_answers, trial_shapes, trial_textures)
mistakes = {
    "answers for neither cue count below": 4 / 10,
    "it is the texture's share, not the shape's": 3 / 7,
    "the classes' biases are averaged: count the votes of all trials together": 17 / 24,
    "votes for the shape are divided by those for the texture": 4 / 3,
    "it is in per cent, not from 0 to 1": 400 / 7,
    "votes are counted, not divided": 4,
}
### END EXPECTED
bias = shape_bias(trial_answers, trial_shapes, trial_textures)
check_close(bias, expected, "shape_bias(answers, shapes, textures)", mistakes=mistakes)

# %% test="shape_bias" points=2 aspect="cues of the same class"
#                        shape ×4     texture ×2  neither ×3   same class: right ×3, wrong ×2
trial_answers = np.array([0, 1, 2, 3, 2, 0, 4, 4, 0, 1, 2, 2, 0, 3])
trial_shapes = np.array([0, 1, 2, 3, 1, 3, 0, 1, 3, 1, 2, 2, 3, 4])
trial_textures = np.array([1, 0, 3, 1, 2, 0, 2, 3, 1, 1, 2, 2, 3, 4])
### BEGIN EXPECTED
expected = reference.shape_bias(trial_answers, trial_shapes, trial_textures)
mistakes = {
    "trials whose cues are of the same class count: leave them out": 7 / 12,
    "trials whose cues are of the same class count, for the shape alone": 7 / 9,
    "answers for neither cue count below, and for the shape those with cues of the same class": 7
    / 14,
    "answers for neither cue count below": 4 / 9,
    "all trials count below, also those with cues of the same class": 4 / 14,
    "the classes' biases are averaged: count the votes of all trials together": 3 / 4,
}
### END EXPECTED
bias = shape_bias(trial_answers, trial_shapes, trial_textures)
check_close(bias, expected, "shape_bias where some cues agree", mistakes=mistakes)

# %% test="shape_bias" points=1 aspect="other trials"
# Other trials and numbers of classes are tried here.
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(reference.seed)
for count, classes in [(40, 3), (300, 12)]:
    trial_shapes, trial_textures = rng.integers(classes, size=(2, count))
    trial_answers = np.where(rng.random(count) < 0.3, trial_shapes, trial_textures)
    trial_answers = np.where(
        rng.random(count) < 0.4, rng.integers(classes, size=count), trial_answers
    )
    check_close(
        shape_bias(trial_answers, trial_shapes, trial_textures),
        reference.shape_bias(trial_answers, trial_shapes, trial_textures),
        f"shape_bias of {count} trials of {classes} classes",
    )
for trial_answers, expected in [(np.array([1, 2]), 1.0), (np.array([0, 0]), 0.0)]:
    bias = shape_bias(trial_answers, np.array([1, 2]), np.array([0, 0]))
    check_close(bias, expected, f"shape_bias of the answers {trial_answers}")
### END HIDDEN TESTS

# %% [markdown]
# There are two ways to sum up. **Per trial**: one shape bias over all trials. **Per category**: one
# for each class of shape, to see whether all classes are alike. The mean over categories can differ
# from the former, as categories with few decided trials weigh as much as those with many.

# %%
shapes, textures = conflicts.shape_class, conflicts.texture_class
figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained", sharey=True)
figure.suptitle("base and robust go by texture in every category, shape by shape")
panels = dict(zip(("base", "robust", "shape"), axes, strict=True))
print("        per trial  mean over categories  answers for either cue")
for name in ("base", "robust", "biased", "shape"):
    decided = (answers[name] == shapes) | (answers[name] == textures)
    by_category = np.full(10, np.nan)
    for category in range(10):
        of_it = shapes == category
        if decided[of_it].any():
            by_category[category] = shape_bias(answers[name][of_it], shapes[of_it], textures[of_it])
    per_trial = shape_bias(answers[name], shapes, textures)
    print(f"{name:7} {per_trial:9.2f} {np.nanmean(by_category):21.2f} {decided.mean():23.0%}")
    if name == "biased":
        continue
    ax = panels[name]
    by_shape, by_texture = (
        np.array([(answers[name] == cue)[shapes == category].mean() for category in range(10)])
        for cue in (shapes, textures)
    )
    ax.barh(range(10), by_shape, color="#E69F00", label="the shape")
    ax.barh(range(10), by_texture, left=by_shape, color="#0072B2", label="the texture")
    ax.barh(
        range(10), 1 - by_shape - by_texture, left=by_shape + by_texture, color="0.88",
        label="neither",
    )  # fmt: skip
    for category, value in enumerate(by_category):
        ax.text(1.02, category, f"{value:.2f}", va="center", fontsize=9)
    ax.set(xlim=(0, 1.15), xlabel="share of the trials", title=f"{name}: {per_trial:.2f} over all")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(range(10), CLASS_NAMES)
axes[0].invert_yaxis()
axes[0].set_ylabel("category of the shape")
handles, names = axes[0].get_legend_handles_labels()
figure.legend(handles, names, ncols=3, loc="outside lower center", title="what is answered")
plt.show()

# %% [markdown]
# The numbers are your shape biases: above each panel over all trials, beside each bar for one
# category. The grey trials don't enter them. `base` sides with the texture in every category,
# `robust` just the same: whatever adversarial training did, it didn't bring shapes. `shape` sides
# with the shape in all of them. By category you see what the total hides: how unequal the classes
# are, and how many answers of `shape` go by neither cue. With about thirty trials in a category,
# and for `shape` fewer decided ones, a single number is uncertain by ±0.15.
#
# And mind the last column of the table. The shape bias of `biased`, which isn't drawn, looks
# balanced. But it answers for either cue no more often than a blind guess would (two classes of
# ten): it looks at neither, and the few votes that count are accidents. Never quote a shape bias
# without the share of decided trials.
#
# For comparison, on Geirhos et al.'s pictures made from photographs: ResNet-50 0.22, people 0.96.
#
# ## 5. Take one cue away (optional)
#
# A cue conflict shows which cue wins. It doesn't show whether the loser could have done the job
# alone. So take away one cue at a time.
#
# **Without the shape**: cut the image into square patches and deal them out anew. Every patch keeps
# its texture; outlines are gone as soon as the patches are smaller than the object.
#
# ### Exercise: `shuffle_patches`
# ★★☆ · 30 minutes · optional
#
# <details><summary>Hint 1: with loops</summary>
#
# Patch number $p$ starts in row `size * (p // columns)` and column `size * (p % columns)`, where
# `columns = W // size`. Copy patch after patch into an empty tensor of the same shape.
#
# </details>
# <details><summary>Hint 2: without loops</summary>
#
# Split both axes of the image: `reshape(N, C, H // size, size, W // size, size)`, then `permute` so
# that the two axes of the grid stand together, right after the batch. The way back is the same in
# reverse.
#
# </details>


# %% exercise="shuffle_patches"
def shuffle_patches(images, size, orders):
    """Images cut into square patches, and put together in another order.

        place p of result n = patch orders[n, p] of image n

    Patches are numbered row by row: first the topmost row of patches from left to right.

    Args:
        images: float tensor (N, C, H, W); size divides H and W. It stays as it is.
        size: a patch's side in pixels.
        orders: a permutation of the P = H/size · W/size patches for each image, int64 tensor
            (N, P).

    Returns:
        shuffled: float tensor (N, C, H, W).
    """
    ### BEGIN SOLUTION
    N, C, H, W = images.shape
    rows, columns = H // size, W // size
    patches = images.reshape(N, C, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(N, rows * columns, C, size, size)
    patches = patches[torch.arange(N)[:, None], orders]
    patches = patches.reshape(N, rows, columns, C, size, size).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(N, C, H, W)
    ### END SOLUTION


# %% given=true
def numbered_image(count, rows, columns, size, channels=3):
    """Images (N, C, H, W) in float64, of rows × columns patches, in which every value differs."""
    shape = (count, channels, rows * size, columns * size)
    return torch.arange(np.prod(shape), dtype=torch.float64).reshape(shape) / 100


def random_orders(seed, count, patches):
    """A random permutation of the patches for each image, int64 (N, P)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, patches, generator=generator).argsort(1)


# %% test="shuffle_patches" points=2 aspect="one image"
test_images, orders = numbered_image(1, 2, 3, 2), random_orders(0, 1, 6)
### BEGIN EXPECTED


def by_loops(column_by_column=False, turn=False, forwards=False):
    """What comes by copying patch after patch."""
    shuffled = torch.zeros_like(test_images)
    for place, patch in enumerate(orders[0].tolist()):
        if forwards:
            place, patch = patch, place
        if column_by_column:
            (left, top), (i, j) = divmod(place, 2), divmod(patch, 2)[::-1]
        else:
            (top, left), (i, j) = divmod(place, 3), divmod(patch, 3)
        copied = test_images[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        shuffled[0, :, 2 * top : 2 * top + 2, 2 * left : 2 * left + 2] = (
            copied.mT if turn else copied
        )
    return shuffled


expected = reference.shuffle_patches(test_images, 2, orders)
patches = test_images.reshape(3, 2, 2, 3, 2).permute(1, 3, 0, 2, 4).reshape(6, 3, 2, 2)[orders[0]]
mistakes = {
    "orders is used the other way round: patch p goes to place orders[p]": by_loops(forwards=True),
    "patches are numbered column by column, not row by row": by_loops(column_by_column=True),
    "each patch is transposed": by_loops(turn=True),
    "nothing is shuffled": test_images,
    "the result isn't put together: reshape the patches into images": patches[None],
    "a reshape without permute tears the patches apart before they are shuffled": (
        test_images.reshape(3, 6, 4)[:, orders[0]].reshape(1, 3, 4, 6)
    ),
    "the patches are joined by a reshape without permute, which tears them apart": (
        patches.reshape(1, 3, 4, 6)
    ),
}
### END EXPECTED
shuffled = shuffle_patches(test_images, 2, orders)
check_close(shuffled, expected, "shuffle_patches for one image", mistakes=mistakes)

# %% test="shuffle_patches" points=1 aspect="an order for each image"
test_images, orders = numbered_image(2, 2, 3, 2), random_orders(1, 2, 6)
### BEGIN EXPECTED
expected = reference.shuffle_patches(test_images, 2, orders)
mistakes = {
    "every image gets the first image's order": (
        reference.shuffle_patches(test_images, 2, orders[[0, 0]])
    ),
    "every image gets the last image's order": (
        reference.shuffle_patches(test_images, 2, orders[[1, 1]])
    ),
    "orders is used the other way round: patch p goes to place orders[p]": (
        reference.shuffle_patches(test_images, 2, orders.argsort(1))
    ),
    "nothing is shuffled": test_images,
}
### END EXPECTED
shuffled = shuffle_patches(test_images, 2, orders)
check_close(shuffled, expected, "shuffle_patches(images, 2, orders)", mistakes=mistakes)

# %% test="shuffle_patches" points=1 aspect="other patches"
# Other sizes and numbers of patches are tried here.
### BEGIN HIDDEN TESTS
for seed, (count, rows, columns, size, channels) in enumerate(
    [(3, 4, 2, 3, 3), (1, 1, 5, 4, 1), (2, 3, 3, 1, 5)]
):
    test_images = numbered_image(count, rows, columns, size, channels)
    orders = random_orders(reference.seed + seed, count, rows * columns)
    check_close(
        shuffle_patches(test_images.clone(), size, orders),
        reference.shuffle_patches(test_images, size, orders),
        f"shuffle_patches for {count} images of {channels} channels, {rows} × {columns} patches",
    )
### END HIDDEN TESTS

# %% [markdown]
# **Without the shape**, once more: take the largest square inside the object and fill the whole
# picture with it, mirrored at its edges. Nothing but texture is left, and nowhere an outline.
# **Without the texture**: paint the object flat, in the mean of its colours, or make it a black
# silhouette on white.

# %%
from scipy import ndimage


def flat_objects(images, masks):
    """Images whose object has the mean of its colours everywhere."""
    flat = images.copy()
    for image, mask in zip(flat, masks, strict=True):
        image[mask] = image[mask].mean(0).round()
    return flat


def texture_only(images, masks):
    """Images filled with the largest square inside the object, mirrored at its edges."""
    filled = []
    for image, mask in zip(images, masks, strict=True):
        depth = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        reach = depth.max() - 1
        square = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
        filled.append(np.pad(square, ((0, 64), (0, 64), (0, 0)), mode="symmetric")[:64, :64])
    return np.stack(filled)


def shuffled_scenes(images, size):
    """Images with their patches shuffled, by your function."""
    X = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    orders = random_orders(size, len(images), (64 // size) ** 2)
    return shuffle_patches(X, size, orders).permute(0, 2, 3, 1).byte().numpy()


tested = many[:150]
sizes = (32, 16, 8, 4)
variants = {"whole": tested.images}
variants |= {f"patches of {size}": shuffled_scenes(tested.images, size) for size in sizes}
variants["texture only"] = texture_only(tested.images, tested.masks)
variants["flat object"] = flat_objects(tested.images, tested.masks)
variants["silhouette"] = np.repeat(np.where(tested.masks, 0, 255).astype(np.uint8)[..., None], 3, 3)

figure, axes = plt.subplots(3, 8, figsize=(12, 4.9), layout="constrained")
figure.suptitle(
    "Shuffled and texture-only images keep the texture, flat objects and silhouettes the shape"
)
for column, (variant, pictures) in zip(axes.T, variants.items(), strict=True):
    column[0].set_title(variant, fontsize=10)
    for ax, n in zip(column, (0, 1, 2), strict=True):
        ax.imshow(pictures[n])
for ax, n in zip(axes[:, 0], (0, 1, 2), strict=True):
    ax.set_ylabel(CLASS_NAMES[tested.shape_class[n]])
without_ticks(axes)
plt.show()

# %%
by_variant = {
    name: {
        variant: answers_of(networks[name], pictures) == tested.shape_class
        for variant, pictures in variants.items()
    }
    for name in shown
}
figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
for name in shown:
    values = [of_one.mean() for of_one in by_variant[name].values()]
    ax.plot(range(5), values[:5], marker=markers[name], color=colours[name], label=name)
    ax.plot([5.5, 6.5, 7.5], values[5:], markers[name], color=colours[name])
ax.axhline(0.1, color="0.6", linewidth=1, linestyle=":")
ax.text(4.95, 0.04, "chance", color="0.4", ha="right")
ax.axvline(5, color="0.8", linewidth=1)
ax.set_xticks(
    [0, 1, 2, 3, 4, 5.5, 6.5, 7.5], [variant.replace(" ", "\n", 1) for variant in variants]
)
ax.set(ylabel="accuracy", ylim=(0, 1.04), xlim=(-0.3, 8))
ax.set_title("base and robust read textures, shape needs the outline, none can read a plain shape")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.1))
ax.grid(axis="y", color="0.92")
plt.show()

# %% [markdown]
# Cut into patches of 16 pixels, a scene has hardly an outline left that we could read, and `base`
# still names most of them, like the "bags of local features" that do so well on ImageNet (Brendel &
# Bethge, 2019). Patches of 8 pixels, hardly more than a period of the texture, cost it about half of its
# answers. From texture alone it names most scenes, though it was never trained on a picture without
# an object. `shape` needs the whole: four patches cost it a third of its answers or more, sixteen
# most of them, and texture alone says almost nothing to it.
#
# But look at the last two columns before you say that `shape` has learned shapes as we know them.
# Paint the object in its mean colour, and `shape` **is at chance as well**. As a black silhouette
# it does hardly better, so it isn't a matter of contrast. To us these are the easiest of all
# pictures. What it has learned is outlines *of textured things*: it has never seen any other. A
# shape bias near one says which of two cues wins, not that the winner is what we call shape.
#
# ## 6. What shape training buys, and what it doesn't (optional)
#
# "Increasing shape bias improves accuracy and robustness" is the second half of the title of
# Geirhos et al.'s paper. Their network, trained on ImageNet and on a version of it in which every
# picture was repainted in the style of some painting, did have a better mCE (69.3 instead of 76.7)
# and a slightly worse clean error (25.4% instead of 23.9%). The better accuracy of the title is
# that of their Shape-ResNet: the same network, finetuned on ImageNet alone (23.3%). What did *our*
# shape training buy? All differences below are between `shape` and `base` on the same images.

# %%
random_textures = make_scenes(150, np.random.default_rng(6), "random_texture")
groups = {
    "noise (3)": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur (4)": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "fog, brightness, contrast": ("fog", "brightness", "contrast"),
    "elastic, pixelate, jpeg": ("elastic_transform", "pixelate", "jpeg_compression"),
}
rights = {
    "cue conflict: the shape": [answers[name] == shapes for name in ("base", "shape")],
    "random textures": [
        answers_of(networks[name], random_textures.images) == random_textures.shape_class
        for name in ("base", "shape")
    ],
    "flat objects": [by_variant[name]["flat object"] for name in ("base", "shape")],
    "ordinary scenes": [by_variant[name]["whole"] for name in ("base", "shape")],
    "texture only": [by_variant[name]["texture only"] for name in ("base", "shape")],
}
rights = {what: [each[None] for each in both] for what, both in rights.items()}
for what, kinds_of_group in groups.items():
    rows = [list(SEVERITIES).index(kind) for kind in kinds_of_group]
    rights[what] = [right_of[name][rows].reshape(-1, len(scenes)) for name in ("base", "shape")]
differences = np.array([paired_difference(*both) for both in rights.values()])

figure, ax = plt.subplots(figsize=(8.6, 4.2), layout="constrained")
places = np.arange(len(rights))
bar_colours = ["#0072B2" if value > 0 else "#D55E00" for value in differences[:, 0]]
ax.barh(places, differences[:, 0], xerr=2 * differences[:, 1], color=bar_colours, ecolor="0.2")
ax.axvline(0, color="0.3", linewidth=1)
ax.axhline(4.5, color="0.8", linewidth=1)
for place, both in zip(places, rights.values(), strict=True):
    ax.text(1.02, place, f"{both[0].mean():.2f} → {both[1].mean():.2f}", va="center")
ax.set_yticks(places, rights)
ax.invert_yaxis()
ax.set(xlim=(-1, 1), xlabel="accuracy of shape − accuracy of base (± 2 SE)")
ax.set_title("Shape training buys shapes in any texture, and costs robustness")
plt.show()

# %% [markdown]
# What shape training buys stands at the top: where texture says nothing about the class, or names
# another, `shape` is right in most cases, and `base` at chance or below. What it doesn't buy stands at the bottom:
# **robustness**. In every group of corruptions `shape` loses at least a tenth of all answers
# against `base`. Nor is this only because it is behind to begin with, on ordinary scenes, where it
# gave up the most reliable cue there was: its *relative* mCE in section 3, which allows for that,
# is far above 100, too.
#
# ### Question: what follows?
# ★★☆ · 20 minutes · optional

# %% [markdown] question="what_follows" points=4
# 1. A colleague reads the figure above and says: "So Geirhos et al. were wrong: shape bias doesn't
#    make networks robust." Give two differences between their experiment and ours, and say for each
#    why it may explain the opposite results.
# 2. Mummadi et al. (2021) trained networks on more kinds of images than Geirhos et al. did, and
#    found no clear link between shape bias and robustness to corruptions. Which *third* thing
#    could have raised both in Geirhos et al.'s network? Describe the experiment that would tell it
#    from shape bias: what you would train, and on which two outcomes you would look.
# 3. Which claim about shape training and robustness do the measurements of this lab support? One
#    sentence, no more general than it may be.
#
# ### BEGIN SOLUTION
# 1 (2 points, one for each difference with its reason). For instance: their texture change was
# style transfer with thousands of paintings, which also changes contrast and colour and adds
# strokes like noise everywhere, on objects and backgrounds; ours swaps ten known textures on the
# object alone, so it adds no variety of low-level statistics. Their data contained ordinary images
# as well in large shares (trained on both); ours had one ordinary scene in ten, and in those
# texture was the easiest cue, so a cue that survives noise was unlearned. In our world the texture
# is a perfect cue, of high contrast and period 4 to 8 pixels; thin outlines at 64 × 64 pixels
# suffer from noise and blur at least as much. Their network nearly kept its clean accuracy, ours
# lost some. Their task has a thousand classes and ResNet-50, ours ten and six layers. "They were
# wrong" or "ours is wrong" earns nothing.
#
# 2 (1 point). The style transfer as a data augmentation: more varied local statistics. Experiment:
# train networks whose inputs raise shape bias without that variety (edge maps, silhouettes, our
# random textures), and networks with the variety but without more shape bias (styles that preserve
# texture as a cue, noise augmentation); look at shape bias *and* mCE. Half a point without both
# outcomes.
#
# 3 (1 point). Such as: "In this world of scenes and for this architecture, finetuning on random
# textures raised shape bias from nearly zero to about 0.9 and lowered accuracy under all thirteen
# corruptions." No point for a claim about networks in general.
# ### END SOLUTION

# %% [markdown]
# ## 7. Group by group
#
# An overall accuracy is a promise to nobody in particular. When Buolamwini & Gebru (2018) tested
# three products that tell a person's gender from a photograph, they erred on up to 34.7% of
# dark-skinned women, and on no more than 0.8% of light-skinned men. The rates for all women, or for
# all dark-skinned people, hide how bad the worst group is. So break results down: by one grouping,
# by another, and by their *intersections*.
#
# ### Exercise: `disaggregate`
# ★☆☆ · 15 minutes


# %% exercise="disaggregate"
def disaggregate(right, first, second, shape):
    """Accuracy and number of images in each intersection of two groupings.

        accuracy[a, b] = mean of right[n] over all n with first[n] = a and second[n] = b

    Args:
        right: whether each answer is right, bool array (N,).
        first: each image's group in the first grouping, int64 array (N,), from 0 to A − 1.
        second: its group in the second, int64 array (N,), from 0 to B − 1.
        shape: (A, B). Every intersection has at least one image.

    Returns:
        accuracy: float64 array (A, B).
        counts: how many images each intersection has, int64 array (A, B).
    """
    ### BEGIN SOLUTION
    counts, hits = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    np.add.at(counts, (first, second), 1)
    np.add.at(hits, (first, second), right)
    return hits / counts, counts
    ### END SOLUTION


# %% given=true
def random_groups(seed, count, A, B):
    """Right or wrong, and two groupings, all of whose intersections occur: three arrays (N,)."""
    generator = np.random.default_rng(seed)
    first, second = np.divmod(np.arange(count) % (A * B), B)
    chosen = generator.random(count) < 0.4
    first, second = np.where(chosen & (np.arange(count) >= A * B), 0, [first, second])
    order = generator.permutation(count)
    right = generator.random(count) < 0.3 + 0.6 * (first + second) / (A + B)
    return right, first[order], second[order]


# %% test="disaggregate" points=2 aspect="accuracy"
right_test, first_test, second_test = random_groups(0, 60, 2, 3)
### BEGIN EXPECTED
expected, counts = reference.disaggregate(right_test, first_test, second_test, (2, 3))
hits = expected * counts
mistakes = {
    "right answers are counted, not divided by the group's size": hits,
    "it is divided by all images, not by those of the intersection": hits / 60,
    "it is divided by the first grouping's sizes": hits / counts.sum(1, keepdims=True),
    "it is divided by the second grouping's sizes": hits / counts.sum(0),
    "it is divided by all right answers: the share of them, not the accuracy": hits / hits.sum(),
    "it is the error rate, not the accuracy": 1 - expected,
    "counts come first": counts,
    "each grouping is averaged on its own, then multiplied": (
        (hits.sum(1) / counts.sum(1))[:, None] * (hits.sum(0) / counts.sum(0))
    ),
    "the sums run over either group, not over the intersection": np.array(
        [
            [right_test[(first_test == a) | (second_test == b)].mean() for b in range(3)]
            for a in range(2)
        ]
    ),
    "repeated indices count once in `array[first, second] += …`: use np.add.at or a loop": (
        (hits > 0) / counts
    ),
}
### END EXPECTED
result = disaggregate(right_test, first_test, second_test, (2, 3))
accuracy, _ = check_tuple(result, ("accuracy", "counts"), "disaggregate")
words = "the accuracy from disaggregate(right, first, second, (2, 3))"
check_close(accuracy, expected, words, mistakes=mistakes)

# %% test="disaggregate" points=1 aspect="counts"
right_test, first_test, second_test = random_groups(1, 50, 2, 3)
### BEGIN EXPECTED
accuracy, expected = reference.disaggregate(right_test, first_test, second_test, (2, 3))
mistakes = {
    "only right answers are counted": accuracy * expected,
    "they are shares of all images": expected / 50,
    "repeated indices count once in `array[first, second] += 1`: use np.add.at or a loop": (
        np.ones_like(expected)
    ),
}
### END EXPECTED
result = disaggregate(right_test, first_test, second_test, (2, 3))
_, counts = check_tuple(result, ("accuracy", "counts"), "disaggregate")
words = "the counts from disaggregate(right, first, second, (2, 3))"
check_close(counts, expected, words, mistakes=mistakes)
assert np.asarray(counts).dtype.kind in "iu", (
    f"{words}: expected whole numbers (int64), got floats."
)

# %% test="disaggregate" points=1 aspect="other groups"
# Other numbers of images and groups are tried here.
### BEGIN HIDDEN TESTS
for seed, (count, A, B) in enumerate([(90, 3, 4), (25, 1, 5), (40, 10, 2)]):
    right_test, first_test, second_test = random_groups(reference.seed + seed, count, A, B)
    result = check_tuple(
        disaggregate(right_test, first_test, second_test, (A, B)),
        ("accuracy", "counts"),
        "disaggregate",
    )
    for part, expected, what in zip(
        result,
        reference.disaggregate(right_test, first_test, second_test, (A, B)),
        ("accuracy", "counts"),
        strict=True,
    ):
        check_close(part, expected, f"the {what} from disaggregate for {A} × {B} groups")
### END HIDDEN TESTS

# %% [markdown]
# The 600 scenes from the beginning, by class and by the size of the object. That is the longer side
# of its box, in three shares of about equal number.

# %%
size = (many.boxes[:, 2:] - many.boxes[:, :2]).max(1)
size_group = np.digitize(size, np.quantile(size, [1 / 3, 2 / 3]))
size_names = ("small", "medium", "large")
print("        overall  worst size   worst class    worst intersection")
for name in shown:
    cells, counts = disaggregate(
        all_right[name], many.shape_class, size_group, (len(CLASS_NAMES), 3)
    )
    by_class = (cells * counts).sum(1) / counts.sum(1)
    by_size = (cells * counts).sum(0) / counts.sum(0)
    worst = np.unravel_index(cells.argmin(), cells.shape)
    print(
        f"{name:7} {all_right[name].mean():.2f} {by_size.min():10.2f}"
        f" {by_class.min():12.2f} ({CLASS_NAMES[by_class.argmin()]})"
        f" {cells.min():9.2f} ({size_names[worst[1]]} {CLASS_NAMES[worst[0]]}, n = {counts[worst]})"
    )

cells, counts = disaggregate(all_right["shape"], many.shape_class, size_group, (10, 3))
by_class = (cells * counts).sum(1) / counts.sum(1)
by_size = (cells * counts).sum(0) / counts.sum(0)
table = np.block([[cells, by_class[:, None]], [by_size, all_right["shape"].mean()]])
sums = np.block([[counts, counts.sum(1)[:, None]], [counts.sum(0), counts.sum()]])
figure, ax = plt.subplots(figsize=(7.6, 5.8), layout="constrained")
picture = ax.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
for (row, column), value in np.ndenumerate(table):
    colour = "white" if value < 0.5 else "black"
    text = f"{value:.2f}  (n = {sums[row, column]})"
    ax.text(column, row, text, ha="center", va="center", color=colour)
ax.axhline(9.5, color="white", linewidth=4)
ax.axvline(2.5, color="white", linewidth=4)
ax.set_xticks(range(4), [*size_names, "all sizes"])
ax.set_yticks(range(11), [*CLASS_NAMES, "all classes"])
ax.xaxis.tick_top()
ax.set_title("The totals hide how badly shape does on small crosses and small hearts")
figure.colorbar(picture, label="accuracy of shape")
plt.show()

# %% [markdown]
# The bottom row says: small objects are a little harder. The last column says: so are crosses,
# hearts and squares. Only the cells say that both *together* matter: small crosses and small hearts
# fail about half of the time, larger ones no more often than other classes do, and the totals hide
# it. But each cell rests on 9 to 31 scenes, so its standard error is about 0.1 where it matters,
# and the worst of thirty cells looks bad in part by chance. Take such a finding as a question, and
# test it on fresh scenes. In two other draws of 600, small crosses and small hearts failed a third
# to a half of the time again; but so did large squares, which don't stand out here.

# %% [markdown]
# ## 8. The network that looks elsewhere, and its repair
#
# `biased` learned from scenes in which every class stands on a ground of its own hue. Nobody had
# told it that the ground isn't meant. In such scenes it is excellent. Two experiments show why.
# First, **turn the hue** of the ground, and only of it, to that of another class: shape and
# ground now disagree, and the formula of section 4 works for any two cues.

# %%
from skimage import color


def turn_grounds(scenes, turns):
    """The scenes' images, each with the hue of its ground turned by turns[n] tenths of a circle."""
    hsv = color.rgb2hsv(scenes.images)
    turned_hue = (hsv[..., 0] + turns[:, None, None] / 10) % 1
    hsv[..., 0] = np.where(scenes.masks, hsv[..., 0], turned_hue)
    return (255 * color.hsv2rgb(hsv)).round().astype(np.uint8)


hinting = make_scenes(60, np.random.default_rng(8), "biased")
turns = np.random.default_rng(9).integers(1, 10, len(hinting))
turned = turn_grounds(hinting, turns)
grounds = (hinting.shape_class + turns) % 10

figure, axes = plt.subplots(2, 6, figsize=(11, 4.6), layout="constrained")
figure.suptitle("Turn the ground's hue and biased follows the ground, base the object")
for row, pictures in zip(axes, (hinting.images, turned), strict=True):
    said = {name: answers_of(networks[name], pictures[:6]) for name in ("base", "biased")}
    for n, ax in enumerate(row):
        ax.imshow(pictures[n])
        lines = [f"{name}: {CLASS_NAMES[said[name][n]]}" for name in said]
        ax.set_title("\n".join(lines), fontsize=9)
axes[0, 0].set_ylabel("as drawn")
axes[1, 0].set_ylabel("ground turned")
without_ticks(axes)
plt.show()

print("        as drawn   ground turned   side with the object, of those with object or ground")
for name in all_four:
    drawn = answers_of(networks[name], hinting.images) == hinting.shape_class
    said = answers_of(networks[name], turned)
    print(
        f"{name:7} {drawn.mean():8.2f} {(said == hinting.shape_class).mean():13.2f}"
        f" {shape_bias(said, hinting.shape_class, grounds):14.2f}"
    )

# %% [markdown]
# Second, **the robustness benchmark**, on scenes of the kind that `biased` knows.

# %%
hinting_corrupted = {
    kind: [corrupt(hinting.images, kind, 3, np.random.default_rng(3))] for kind in SEVERITIES
}
figure, ax = plt.subplots(figsize=(9, 3.6), layout="constrained")
for offset, hatch, name in ((-0.2, "", "base"), (0.2, "//", "biased")):
    right = correct_answers(networks[name], hinting_corrupted, hinting.shape_class)
    ax.bar(
        np.arange(13) + offset, 1 - right.mean((1, 2)), 0.38, color=colours[name], hatch=hatch,
        edgecolor="white", label=f"{name}: mean {1 - right.mean():.2f}",
    )  # fmt: skip
ax.set_xticks(range(13), [titles[kind] for kind in SEVERITIES], fontsize=8)
ax.set(ylabel="error rate at severity 3")
ax.set_title("The benchmark likes the network that looks at the ground")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Turned ground, turned answer: `biased` follows the hue every time, the others never. And in the
# benchmark it makes *fewer* errors than `base` on the whole, with most corruptions none at all:
# blur, ripples and JPEG do nothing to the colour of a whole background. Most of its errors come
# from noise and fog, which do. So by its mean error the network that has learned nothing about
# shapes or textures wins on these scenes. (There is no CE to be had: under two corruptions `base`
# makes no mistake at all, and one can't divide by that.) **A benchmark made from biased data
# inherits the bias.** Corrupting the test images doesn't help, since the shortcut is still in them.
# What helps are images in which the shortcut is broken: neutral scenes (where `biased` does hardly
# better than guessing), turned grounds, cue conflicts.
#
# ### Can it be repaired?
#
# One could collect pictures in which the ground tells nothing, and train again from the start.
# Kirichenko, Izmailov & Wilson (2023) found something much cheaper. Networks that go by a shortcut
# have often learned the right features as well; only their last layer gives them too little weight.
# So leave all layers below it, the **trunk**, frozen, and train a **new last layer** on few
# pictures: as many of each **group**, so that the shortcut tells nothing. In their best known case,
# Waterbirds (Sagawa et al., 2020), the class is land bird or water bird, the shortcut is the ground
# they stand on, and a group is a class on a ground. Ours is a class on one of ten hues: 100 groups.
#
# With the features $x_i$ that the trunk gives for the $n$ pictures chosen, each feature standardised
# to $z = (x - \mu) / \sigma$, logistic regression minimises
#
# $$L(W, b) = -\frac{1}{n} \sum_{i=1}^{n} \log p_{i, y_i} + \frac{\lambda}{2} \sum_{kj} W_{kj}^2,
#   \qquad p_i = \operatorname{softmax}(W z_i + b)$$
#
# by steps against the gradient, from $W = 0$ and $b = 0$. Standardising makes features of any scale
# learn at the same pace. In the end it has to be undone, since the network hands its last layer
# $x$, not $z$.
#
# ### Exercise: `retrain_head`
# ★★★ · 35 minutes
#
# <details><summary>Hint 1: the groups</summary>
#
# `torch.nonzero(groups == g).flatten()` are the positions of the examples of group $g$, in order.
#
# </details>
# <details><summary>Hint 2: the gradient</summary>
#
# With $e_i = (p_i - \text{one-hot}(y_i)) / n$, an array of shape (n, K), the gradient for $b$ is
# $\sum_i e_i$ and that for $W$ is $\sum_i e_i z_i^\mathsf{T} + \lambda W$. Or let autograd do it.
#
# </details>
# <details><summary>Hint 3: back to features that aren't standardised</summary>
#
# $W (x - \mu) / \sigma + b = (W / \sigma)\, x + \left(b - (W / \sigma)\, \mu\right)$
#
# </details>


# %% exercise="retrain_head"
def retrain_head(
    trunk, inputs, labels, groups, per_group, generator, steps=200, rate=0.2, decay=0.01
):
    """A new last layer for a frozen network, trained on as many examples of each group.

    1. Of each group g = 0, 1, …, one after the other, take the first `per_group` of its examples
       in the order torch.randperm(number of g's examples, generator=generator).
    2. Standardise the features of these n examples: z = (x − μ) / σ, with each feature's mean μ
       over them, and σ its standard deviation (with n below, not n − 1) plus 1e-5.
    3. From W = 0 and b = 0, take `steps` steps of gradient descent, (W, b) ← (W, b) − rate · ∇L,
       each on all n examples:  L = mean of −log softmax(W z + b)_y + decay / 2 · Σ W².
    4. Give the layer for x that does what W and b do for z.

    Args:
        trunk: the frozen part of the network, an nn.Module in eval mode, from inputs (n, …) to
            features x (n, D). It stays as it is, and needs no gradient.
        inputs: N examples, float tensor (N, …).
        labels: y, int64 tensor (N,), from 0 to K − 1; all K occur.
        groups: int64 tensor (N,), from 0 to G − 1; each has at least `per_group` examples.
        per_group: how many examples of each group, int.
        generator: torch.Generator on the CPU, the only source of randomness.
        steps: int.
        rate, decay: floats. Only W decays, b doesn't.

    Returns:
        weight: tensor (K, D) of the features' dtype.
        bias: tensor (K,) of the features' dtype.
        chosen: positions of the n = G · per_group examples among the N, int64 tensor (n,), group
            after group, each in the order drawn.
    """
    ### BEGIN SOLUTION
    chosen = []
    for group in range(int(groups.max()) + 1):
        members = torch.nonzero(groups == group).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_group]])
    chosen = torch.cat(chosen)
    with torch.no_grad():
        x = trunk(inputs[chosen])
    mean, deviation = x.mean(0), x.std(0, correction=0) + 1e-5
    z = (x - mean) / deviation
    targets = F.one_hot(labels[chosen], int(labels.max()) + 1).to(z.dtype)
    weight, bias = z.new_zeros(targets.shape[1], z.shape[1]), z.new_zeros(targets.shape[1])
    for _ in range(steps):
        error = ((z @ weight.T + bias).softmax(1) - targets) / len(z)
        weight = weight - rate * (error.T @ z + decay * weight)
        bias = bias - rate * error.sum(0)
    weight = weight / deviation
    return weight, bias - weight @ mean, chosen
    ### END SOLUTION


# %% given=true
no_trunk = nn.Identity().eval()  # for examples that are features already


def grouped_examples(seed, sizes, features, classes, dtype=torch.float64):
    """Examples in groups of these sizes, in random order: inputs (N, D), labels and groups (N,).

    Their features have scales of their own, depend on the class, and the last is always 0. Group g
    is of class g % classes.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=generator)]
    labels = groups % classes
    means = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(groups), features, generator=generator, dtype=torch.float64)
    scales = torch.linspace(0.5, 3, features, dtype=torch.float64)
    inputs = (1 + means[labels] + noise) * scales
    inputs[:, -1] = 0
    return inputs.to(dtype), labels, groups


# %% test="retrain_head" points=2 aspect="as many of each group"
inputs, labels, groups = grouped_examples(0, (6, 3, 5, 4), 4, 2)
generator = torch.Generator().manual_seed(1)
### BEGIN EXPECTED


def drawn(by, part=slice(2), order=torch.randperm):
    """The positions of some of each group in `by`, in this order."""
    generator, parts = torch.Generator().manual_seed(1), []
    for group in range(int(by.max()) + 1):
        members = torch.nonzero(by == group)[:, 0]
        parts.append(members[order(len(members), generator=generator)[part]])
    return torch.cat(parts)


again = torch.Generator().manual_seed(1)
_, _, expected = reference.retrain_head(no_trunk, inputs, labels, groups, 2, again, 1, 0.5, 0.0)
of_all = torch.randperm(18, generator=torch.Generator().manual_seed(1))
mistakes = {
    "the first of each group are taken, not drawn": drawn(
        groups, order=lambda count, generator: torch.arange(count)
    ),
    "classes are balanced, not groups": drawn(labels),
    "the last of the order are taken, not the first": drawn(groups, slice(-2, None)),
    "as many as the smallest group has are taken, not per_group": drawn(groups, slice(3)),
    "all of each group are taken, not per_group": drawn(groups, slice(None)),
    "they are sorted, not in the order drawn": expected.sort().values,
    "one order of all examples is drawn: each group has an order of its own": torch.cat(
        [of_all[groups[of_all] == group][:2] for group in range(4)]
    ),
    "per_group examples are taken from all examples together": of_all[:2],
    "as many examples are drawn without regard to groups": of_all[:8],
    "they are positions within the group, not among all examples": torch.cat(
        [torch.nonzero(groups == g)[:, 0] for g in range(4)]
    ).argsort()[expected]
    - torch.tensor([0, 6, 9, 14]).repeat_interleave(2),
}
### END EXPECTED
result = retrain_head(no_trunk, inputs, labels, groups, 2, generator, 1, 0.5, 0.0)
_, _, chosen = check_tuple(result, ("weight", "bias", "chosen"), "retrain_head")
check_close(chosen, expected, "chosen of retrain_head(…, per_group=2, …)", mistakes=mistakes)

# %% test="retrain_head" points=2 aspect="one step"
inputs, labels, groups = grouped_examples(1, (4, 4, 4, 4, 4), 6, 3)
generator = torch.Generator().manual_seed(2)
### BEGIN EXPECTED
again = torch.Generator().manual_seed(2)
expected, expected_bias, _ = reference.retrain_head(
    no_trunk, inputs, labels, groups, 4, again, 1, 0.5, 0.0
)
mean, deviation = inputs.mean(0), inputs.std(0, correction=0) + 1e-5
sample_deviation = inputs.std(0) + 1e-5
at_least = inputs.std(0, correction=0).clamp(min=1e-5)
as_batchnorm = (inputs.var(0, correction=0) + 1e-5).sqrt()
targets = F.one_hot(labels, 3).double()
start_bias = 0.5 * (targets.mean(0) - 1 / 3)


def step(features):
    """The weights after a step from 0."""
    return 0.5 * (targets - 1 / 3).T @ features / 20


z = (inputs - mean) / deviation
mistakes = {
    "the standardisation isn't undone: the layer is for z, not for x": step(z),
    "the features aren't standardised": step(inputs),
    "the features are divided by σ, but μ isn't subtracted": step(inputs / deviation) / deviation,
    "the features aren't divided by σ, or σ is undone the wrong way round": step(inputs - mean),
    "σ has n − 1 below: it is n (correction=0)": (
        step((inputs - mean) / sample_deviation) / sample_deviation
    ),
    "σ is kept from falling below 1e-5: it is the deviation plus 1e-5": (
        step((inputs - mean) / at_least) / at_least
    ),
    "1e-5 is added to the variance, as in BatchNorm: it is the deviation plus 1e-5": (
        step((inputs - mean) / as_batchnorm) / as_batchnorm
    ),
    "the examples are summed, not averaged": 20 * expected,
    "the step goes uphill: it is − rate · ∇L": -expected,
    "the mean runs over classes, too": expected / 3,
    "the rate is left out": 2 * expected,
    "all examples are standardised as one: each feature has a mean and a deviation of its own": (
        step((inputs - inputs.mean()) / inputs.std(correction=0)) / inputs.std(correction=0)
    ),
    "no step is taken": torch.zeros(3, 6).double(),
}
moved_on = (targets - (z @ step(z).T).softmax(1)).mean(0)
of_bias = {
    "b's step is taken with the new W: both come from the same gradient": (
        0.5 * moved_on - expected @ mean
    ),
    "μ isn't undone: b − (W / σ) μ": start_bias,
    "μ is undone with the wrong sign: b − (W / σ) μ": start_bias + expected @ mean,
    "μ is undone with the W for z, not with W / σ": start_bias - step(z) @ mean,
    "b isn't learned, it stays 0": -expected @ mean,
    "b is left out altogether": torch.zeros(3).double(),
    "the examples are summed, not averaged, in b alone": 20 * start_bias - expected @ mean,
    "b's step goes uphill": -start_bias - expected @ mean,
}
### END EXPECTED
result = retrain_head(no_trunk, inputs, labels, groups, 4, generator, 1, 0.5, 0.0)
weight, bias, _ = check_tuple(result, ("weight", "bias", "chosen"), "retrain_head")
check_close(weight, expected, "weight after one step", mistakes=mistakes)
check_close(bias, expected_bias, "bias after one step", mistakes=of_bias)

# %% test="retrain_head" points=2 aspect="many steps, and decay"
inputs, labels, groups = grouped_examples(3, (4, 4, 4, 4, 4), 6, 3)
generator = torch.Generator().manual_seed(4)
### BEGIN EXPECTED


def trained(steps=12, rate=0.5, decay=0.25):
    """The layer (W, b) with some arguments changed."""
    generator = torch.Generator().manual_seed(4)
    arguments = no_trunk, inputs, labels, groups, 4, generator, steps, rate, decay
    return reference.retrain_head(*arguments)[:2]


def by_optimiser(**options):
    """The same by torch's optimiser."""
    mean, deviation = inputs.mean(0), inputs.std(0, correction=0) + 1e-5
    layer = nn.Linear(6, 3).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5, **options)
    for _ in range(12):
        optimiser.zero_grad()
        F.cross_entropy(layer((inputs - mean) / deviation), labels).backward()
        optimiser.step()
    weight = layer.weight.detach() / deviation
    return weight, layer.bias.detach() - weight @ mean


expected, expected_bias = trained()
layers = {
    "nothing decays": trained(decay=0.0),
    "b decays as well: only W does": by_optimiser(weight_decay=0.25),
    "W decays twice as fast: the gradient of decay / 2 · Σ W² is decay · W": trained(decay=0.5),
    "W decays half as fast: the gradient of decay / 2 · Σ W² is decay · W": trained(decay=0.125),
    "decay is divided by the number of examples": trained(decay=0.25 / 20),
    "decay is divided by the number of weights": trained(decay=0.25 / 18),
    "W grows where it has to decay: the sign is wrong": trained(decay=-0.25),
    "there is one step too few": trained(11),
    "there is one step too many": trained(13),
    "the gradient has momentum": by_optimiser(momentum=0.9, weight_decay=0.25),
    "there is a single step, however many are asked for": trained(1),
}
mistakes = {cause: layer[0] for cause, layer in layers.items()}
of_bias = {cause: layer[1] for cause, layer in layers.items()}
### END EXPECTED
result = retrain_head(no_trunk, inputs, labels, groups, 4, generator, 12, 0.5, 0.25)
weight, bias, _ = check_tuple(result, ("weight", "bias", "chosen"), "retrain_head")
check_close(weight, expected, "weight after 12 steps", mistakes=mistakes)
check_close(bias, expected_bias, "bias after 12 steps", mistakes=of_bias)

# %% test="retrain_head" points=2 aspect="a network, and some of each group"
trunk = tiny_network(5)[:-1].double().eval()
_, labels, groups = grouped_examples(5, (7, 9, 8), 2, 3)
images = random_images(6, 24, 6, 5).double() / 255
generator = torch.Generator().manual_seed(7)
### BEGIN EXPECTED
again = torch.Generator().manual_seed(7)
expected, _, expected_chosen = reference.retrain_head(
    trunk, images, labels, groups, 5, again, 1, 0.5, 0.0
)


def step(x, y, over=None):
    """The weights after a step from 0, features standardised by those in `over`."""
    over = x if over is None else over
    mean, deviation = over.mean(0), over.std(0, correction=0) + 1e-5
    error = F.one_hot(y, 3).double() - 1 / 3
    return 0.5 * error.T @ ((x - mean) / deviation) / len(x) / deviation


def training_mode():
    """What comes of BatchNorm in training mode."""
    busy = copy.deepcopy(trunk).train()
    with torch.no_grad():
        return step(busy(images[expected_chosen]), labels[expected_chosen])


with torch.no_grad():
    x = trunk(images)
mistakes = {
    "μ and σ are those of all examples, not of those chosen": (
        step(x[expected_chosen], labels[expected_chosen], x)
    ),
    "the labels are the first ones, not those of the examples chosen": (
        step(x[expected_chosen], labels[:15])
    ),
    "the inputs are the first ones, not the examples chosen": step(x[:15], labels[expected_chosen]),
    "it trains on all examples, not on those chosen": step(x, labels),
    "the first examples are used, not those chosen": step(x[:15], labels[:15]),
    "the trunk runs in training mode": training_mode,
}
### END EXPECTED
result = retrain_head(trunk, images, labels, groups, 5, generator, 1, 0.5, 0.0)
weight, _, chosen = check_tuple(result, ("weight", "bias", "chosen"), "retrain_head")
check_close(chosen, expected_chosen, "chosen of retrain_head")
check_close(weight, expected, "weight for a network's features", mistakes=mistakes)

# %% test="retrain_head" points=2 aspect="other networks and groups"
# Other networks, groups, numbers of steps and rates are tried here.
### BEGIN HIDDEN TESTS
for number, (sizes, features, classes, per_group, steps, dtype) in enumerate(
    [
        ((9, 6, 7, 8), 5, 4, 6, 40, torch.float64),
        ((1, 3, 2, 1, 1, 4), 3, 2, 1, 7, torch.float32),
        ((12, 10), 8, 2, 9, 0, torch.float64),
        ((30, 20, 25), 12, 3, 17, 90, torch.float32),
    ]
):
    seed = reference.seed + number
    inputs, labels, groups = grouped_examples(seed, sizes, features, classes, dtype)
    results = [
        function(
            no_trunk, inputs, labels, groups, per_group, torch.Generator().manual_seed(seed),
            steps, 0.05 + 0.1 * number, 0.1 * number,
        )
        for function in (reference.retrain_head, retrain_head)
    ]  # fmt: skip
    right, result = (
        results[0],
        check_tuple(results[1], ("weight", "bias", "chosen"), "retrain_head"),
    )
    for part, expected, what in zip(result, right, ("weight", "bias", "chosen"), strict=True):
        words = f"{what} of retrain_head for {len(sizes)} groups, {steps} steps"
        exact = what == "chosen"
        check_close(part, expected, words, tolerance=None if exact else 1e-5)
        assert part.dtype == expected.dtype, f"{words} is {part.dtype}, not {expected.dtype}"
# The last class has a single example, which isn't chosen.
inputs, labels, groups = grouped_examples(reference.seed, (6, 5, 7), 4, 3)
arguments = no_trunk, inputs, labels, groups, 3
*_, chosen = reference.retrain_head(*arguments, torch.Generator().manual_seed(reference.seed))
left = torch.ones(18, dtype=torch.bool)
left[chosen] = False
labels[left.nonzero()[0]] = 3
right, result = (
    function(*arguments, torch.Generator().manual_seed(reference.seed))
    for function in (reference.retrain_head, retrain_head)
)
for part, expected, what in zip(result, right, ("weight", "bias", "chosen"), strict=True):
    words = f"{what} of retrain_head where no example of the last class is chosen"
    check_close(part, expected, words, tolerance=None if what == "chosen" else 1e-6)
network = awkward_network(
    reference.seed, parts=True, inplace=True, functional=True, hooks=True, gradients=True
)
trunk = nn.Sequential(network.features, *network.classifier[:-1]).eval()
images = random_images(reference.seed, 30, 9, 8).double() / 255
_, labels, groups = grouped_examples(reference.seed, (7, 7, 8, 8), 2, 4)
right, result = (
    function(trunk, images, labels, groups, 7, torch.Generator().manual_seed(reference.seed))
    for function in (reference.retrain_head, retrain_head)
)
for part, expected, what in zip(result, right, ("weight", "bias", "chosen"), strict=True):
    check_close(part, expected, f"{what} of retrain_head for an awkward network", tolerance=1e-6)
### END HIDDEN TESTS

# %% [markdown]
# Two networks wait to be repaired. `biased` has never seen anything but scenes whose ground tells
# the class. The other, `misled`, has a past: it is `base`, given a fresh last layer and finetuned on
# such scenes, as the networks for Waterbirds had been trained on ImageNet before.

# %%
from utils.train import fit


def scenes_on_grounds(labels, turns, seed):
    """Scenes whose ground has the hue of class (label + turn) % 10: images, and those classes."""
    drawn = make_scenes(len(labels), np.random.default_rng(seed), "biased", shape_class=labels)
    return turn_grounds(drawn, turns), (labels + turns) % 10


def features_of(network, images):
    """What a network's last layer gets, (N, D), for images uint8 (N, H, W, 3)."""
    X = torch.from_numpy(images).permute(0, 3, 1, 2)
    trunk = nn.Sequential(network.features, *network.classifier[:-1])
    with torch.no_grad():
        return torch.cat([trunk(part.to(device) / 255).cpu() for part in X.split(32)])


classes = np.arange(600) % 10
misleading = make_scenes(600, np.random.default_rng(15), "biased")
generator = torch.Generator().manual_seed(16)
misled = load_model("base")
nn.init.normal_(misled.classifier[-1].weight, std=0.1, generator=generator)
nn.init.zeros_(misled.classifier[-1].bias)
fit(
    misled.to(device), torch.from_numpy(misleading.images).permute(0, 3, 1, 2),
    torch.from_numpy(misleading.shape_class), generator, epochs=2, peak_learning_rate=1e-2,
    permute_channels=False,
)  # fmt: skip
to_repair = {"misled": misled, "biased": networks["biased"]}

balanced, its_grounds = scenes_on_grounds(classes, np.arange(600) // 10 % 10, 17)
turns = np.random.default_rng(18).integers(1, 10, 600)
tested, tested_grounds = scenes_on_grounds(
    classes, np.where(np.arange(600) // 10 % 2, turns, 0), 19
)
agrees = tested_grounds == classes


def by_group(answers):
    """Accuracy where the ground agrees, where it doesn't, and in the worst of 20 groups."""
    cells, counts = disaggregate(answers == classes, classes, agrees.astype(int), (10, 2))
    return *(cells * counts).sum(0)[::-1] / counts.sum(0)[::-1], cells.min()


seen = {name: features_of(network, tested) for name, network in to_repair.items()}
before = {"base": answers_of(networks["base"], tested)}
with torch.no_grad():
    for name, network in to_repair.items():
        before[name] = network.classifier[-1](seen[name].to(device)).argmax(1).cpu().numpy()
print("             ground agrees   disagrees   worst group (of 20 groups of 30 scenes)")
for name in before:
    together, apart, worst = by_group(before[name])
    print(f"{name:12} {together:12.2f} {apart:11.2f} {worst:13.2f}")

# %%
sizes = (1, 2, 4)
groups = torch.from_numpy(10 * classes + its_grounds)
own_labels = torch.from_numpy(misleading.shape_class)
to_learn_from = {
    name: (features_of(network, balanced), torch.from_numpy(classes), groups)
    for name, network in to_repair.items()
}
own = features_of(misled, misleading.images), own_labels, own_labels


def repaired(examples, per_group, of_tested, seed):
    """The answers of a new last layer to the tested scenes, from their features."""
    generator = torch.Generator().manual_seed(seed)
    # The trunk is frozen, so its features are computed once: nothing is left for it to do here.
    weight, bias, _ = retrain_head(no_trunk, *examples, per_group, generator)
    return (of_tested @ weight.T + bias).argmax(1).numpy()


after = {
    "misled, balanced": [
        [repaired(to_learn_from["misled"], size, seen["misled"], seed) for seed in range(5)]
        for size in sizes
    ],
    "misled, as many of its own scenes": [
        [repaired(own, 10 * size, seen["misled"], seed) for seed in range(5)] for size in sizes
    ],
    "biased, balanced": [
        [repaired(to_learn_from["biased"], size, seen["biased"], seed) for seed in range(5)]
        for size in sizes
    ],
}
looks = {
    "misled, balanced": ("o", "#0072B2"),
    "misled, as many of its own scenes": ("s", "#D55E00"),
    "biased, balanced": ("x", colours["biased"]),
}
figure, ax = plt.subplots(figsize=(8.6, 4.4), layout="constrained")
for place, (name, answers_after) in enumerate(after.items()):
    worst = np.array([[by_group(one)[2] for one in row] for row in answers_after])
    marker, colour = looks[name]
    places = 100 * np.array(sizes) * 1.03 ** (place - 1)
    ax.plot(places, worst.mean(1), color=colour)
    ax.plot(places.repeat(5), worst.ravel(), marker, color=colour, markersize=6, alpha=0.6)
    ax.text(470, worst[-1].mean(), name, color=colour, va="center")
for name in ("base", "misled"):
    as_it_is = by_group(before[name])[2]
    ax.axhline(as_it_is, color="0.6", linewidth=1, linestyle=":")
    ax.text(38, as_it_is - 0.015, f"{name} as it is: {as_it_is:.2f}", color="0.35", va="top")
ax.set_xscale("log")
ax.minorticks_off()
ax.set_xticks([100, 200, 400], [100, 200, 400])
ax.set(xlim=(36, 1500), ylim=(-0.05, 1.03))
ax.set(xlabel="pictures to learn a last layer from (5 draws each)", ylabel="accuracy, worst group")
ax.set_title("A new last layer repairs misled, and can't repair biased")
plt.show()

# %%
figure, axes = plt.subplots(1, 6, figsize=(12, 3.2), layout="constrained")
figure.suptitle("Before and after: misled looks at the object again, biased only guesses anew")
missed = np.flatnonzero(~agrees & (before["misled"] != classes))[:6]
for ax, n in zip(axes, missed, strict=True):
    ax.imshow(tested[n])
    lines = [f"{CLASS_NAMES[classes[n]]} on {CLASS_NAMES[tested_grounds[n]]}'s ground"]
    for name in to_repair:
        now = after[f"{name}, balanced"][-1][0][n]
        lines.append(f"{name}: {CLASS_NAMES[before[name][n]]} → {CLASS_NAMES[now]}")
    ax.set_title("\n".join(lines), fontsize=9)
without_ticks(axes)
plt.show()

print("after the repair: ground agrees, disagrees, worst group (mean of 5 draws ± their deviation)")
for name in to_repair:
    for size, row in zip(sizes, after[f"{name}, balanced"], strict=True):
        found = np.array([by_group(one) for one in row])
        spread = found.std(0, ddof=1)
        cells = (f"{m:.2f} ± {s:.2f}" for m, s in zip(found.mean(0), spread, strict=True))
        print(f"{name}, {100 * size} pictures:", ", ".join(cells))

# %% [markdown]
# `misled` goes by the ground, and yet nearly all that it needs is there: its trunk still holds the
# features of shapes and textures that `base` had learned, and a new last layer, from a few hundred
# pictures and in a second, gives them their weight back. It is the balance that does it: as many
# scenes of the kind that it was finetuned on change next to nothing. In the six pictures, all of
# which it had got wrong, you see the answers before and after.
#
# `biased` gains **next to nothing**, from any number of pictures here. Balanced pictures take its
# shortcut away, so that it fails where the ground agrees, too; and where the ground disagrees it
# does hardly better than guessing. The shortcut was perfect and there from the beginning, so that
# this network never needed a feature of the object, and its trunk has none to give a weight to.
# "Last layer re-training is sufficient" holds where the features are there: in Waterbirds because
# ImageNet had taught them, and because 5 in 100 training pictures contradicted the shortcut. For
# `biased`, train again, trunk and all.
#
# Don't read too much into the numbers. Each worst group is one of 20 groups with 30 scenes: ±0.13
# for an accuracy of 0.85 (two standard errors), and the worst of twenty looks bad in part by
# chance, as `base` shows. The five draws share the finetuning and the tested scenes, so that their
# spread tells of the draw alone. And to balance the pictures one had to know of the shortcut, and
# to write down each picture's ground: this is a repair for a bias that somebody has found.

# %% [markdown]
# ## 9. Does it know when it is wrong? (optional)
#
# In fog a network errs more. That is bad; worse is one that errs and is *sure*. Take the largest
# probability that its softmax gives as its **confidence**: of all answers given with a confidence
# of 0.8, eight in ten should be right. Then it is **calibrated**, and somebody else (or a person)
# can be asked where it isn't sure. To measure it, sort the answers by confidence into $M$ bins of
# equal width, $B_m$ for confidences from $(m - 1) / M$, excluded, to $m / M$, included. The
# **expected calibration error** (Guo et al., 2017) is
#
# $$\mathrm{ECE} = \sum_{m=1}^{M} \frac{|B_m|}{N}
#   \left| \operatorname{acc}(B_m) - \operatorname{conf}(B_m) \right|$$
#
# with the accuracy and the mean confidence of the answers in each bin.
#
# ### Exercise: `expected_calibration_error`
# ★★☆ · 25 minutes · optional


# %% exercise="expected_calibration_error"
def expected_calibration_error(confidence, right, bins=10):
    """How far a network's confidence is from its accuracy, and both for each bin.

        ECE = Σ_m |B_m| / N · |acc(B_m) − conf(B_m)|
        B_m = the answers with (m − 1) / M < confidence ≤ m / M,  m = 1, …, M

    Args:
        confidence: each answer's confidence, float64 array (N,), above 0 and at most 1.
        right: whether each answer is right, bool array (N,).
        bins: M, int.

    Returns:
        error: ECE, a float from 0 to 1.
        accuracy: acc, float64 array (M,); 0 where a bin is empty.
        mean_confidence: conf, float64 array (M,); 0 where a bin is empty.
        counts: |B_m|, int64 array (M,).
    """
    ### BEGIN SOLUTION
    number = np.searchsorted(np.arange(1, bins + 1) / bins, confidence)
    counts = np.bincount(number, minlength=bins)
    hits = np.bincount(number, right, bins)
    confidences = np.bincount(number, confidence, bins)
    error = np.abs(hits - confidences).sum() / len(confidence)
    divisor = np.maximum(counts, 1)
    return error, hits / divisor, confidences / divisor, counts
    ### END SOLUTION


# %% given=true
CALIBRATION = ("error", "accuracy", "mean_confidence", "counts")


def random_confidences(seed, count, lowest=0.2):
    """Confidences, float64 (N,), and whether the answers are right: too sure on the whole."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(lowest, 1, count)
    return confidence, generator.random(count) < confidence**2


# %% test="expected_calibration_error" points=1 aspect="which bin"
confidence = np.array([0.15, 0.25, 0.3, 0.5, 0.55, 0.6, 0.7, 0.9, 0.95, 0.99, 1.0])
right = np.arange(11) % 3 > 0
### BEGIN EXPECTED
*_, expected = reference.expected_calibration_error(confidence, right, 4)
mistakes = {
    "a bin has its lower edge and not its upper one: it is the other way round": (
        np.histogram(confidence, 4, (0, 1))[0]
    ),
    "there are always ten bins": np.histogram(confidence - 1e-9, 10, (0, 1))[0],
    "the bins go from the smallest confidence to the largest, not from 0 to 1": (
        np.histogram(confidence, 4)[0]
    ),
    "the bins hold about as many answers each: they have the same width": (
        np.histogram(confidence, np.quantile(confidence, [0, 0.25, 0.5, 0.75, 1]))[0]
    ),
    "they are shares, not counts": expected / 11,
    "only right answers are counted": np.histogram(confidence[right] - 1e-9, 4, (0, 1))[0],
    "the counts are summed up from bin to bin": np.cumsum(expected),
}
### END EXPECTED
result = expected_calibration_error(confidence, right, 4)
*_, counts = check_tuple(result, CALIBRATION, "expected_calibration_error")
check_close(counts, expected, "counts of expected_calibration_error for 4 bins", mistakes=mistakes)

# %% test="expected_calibration_error" points=2 aspect="accuracy and confidence of a bin"
confidence, right = random_confidences(0, 40)
### BEGIN EXPECTED
_, expected, expected_confidence, counts = reference.expected_calibration_error(
    confidence, right, 8
)
filled = counts > 0
mistakes = {
    "right answers are counted, not divided by the bin's size": expected * counts,
    "it is divided by all answers, not by the bin's": expected * counts / 40,
    "it is the error rate, not the accuracy": np.where(filled, 1 - expected, 0),
    "the two arrays are exchanged: accuracy comes first": expected_confidence,
    "empty bins have the value NaN: it is 0": np.where(filled, expected, np.nan),
    "empty bins have the value 1: it is 0": np.where(filled, expected, 1),
    "empty bins are left out: expected M values": expected[filled],
}
of_confidence = {
    "it is the bin's middle, not the mean of its confidences": (np.arange(8) + 0.5) / 8,
    "it is the bin's middle where there are answers, not their mean": (
        np.where(filled, (np.arange(8) + 0.5) / 8, 0)
    ),
    "it is the bin's upper edge, not the mean of its confidences": (np.arange(8) + 1) / 8,
    "confidences are summed, not divided by the bin's size": expected_confidence * counts,
    "it is divided by all answers, not by the bin's": expected_confidence * counts / 40,
    "only right answers count": np.array(
        [
            np.append(confidence[right & (np.ceil(confidence * 8) == m)], [0])[:-1].sum()
            / max(1, (right & (np.ceil(confidence * 8) == m)).sum())
            for m in range(1, 9)
        ]
    ),
}
### END EXPECTED
result = expected_calibration_error(confidence, right, 8)
_, accuracy, mean_confidence, _ = check_tuple(result, CALIBRATION, "expected_calibration_error")
words = "of expected_calibration_error for 8 bins"
check_close(accuracy, expected, f"accuracy {words}", mistakes=mistakes)
check_close(
    mean_confidence, expected_confidence, f"mean_confidence {words}", mistakes=of_confidence
)

# %% test="expected_calibration_error" points=2 aspect="their distance"
confidence, right = random_confidences(1, 60)
right |= confidence < 0.5  # not sure enough here, too sure elsewhere
### BEGIN EXPECTED
expected, accuracy, mean_confidence, counts = reference.expected_calibration_error(
    confidence, right, 5
)
gap, filled = np.abs(accuracy - mean_confidence), counts > 0
mistakes = {
    "the bins aren't weighted: each counts by its share of the answers": gap[filled].mean(),
    "the bins aren't weighted, and empty ones count": gap.mean(),
    "the gaps are summed without weights": gap.sum(),
    "it isn't divided by N": expected * 60,
    "it is the largest gap, not their mean": gap.max(),
    "the gaps cancel: the absolute value belongs to each bin, not to the sum": abs(
        (right - confidence).mean()
    ),
    "the gaps' signs are kept": -abs((right - confidence).mean()),
    "the gaps are squared": (counts * gap**2).sum() / 60,
    "it is the root of the mean square": ((counts * gap**2).sum() / 60) ** 0.5,
    "there are no bins: each answer is compared on its own": np.abs(right - confidence).mean(),
    "it is in per cent": 100 * expected,
    "there are always ten bins": reference.expected_calibration_error(confidence, right, 10)[0],
}
### END EXPECTED
result = expected_calibration_error(confidence, right, 5)
error, *_ = check_tuple(result, CALIBRATION, "expected_calibration_error")
check_close(error, expected, "error of expected_calibration_error for 5 bins", mistakes=mistakes)

# %% test="expected_calibration_error" points=1 aspect="other answers"
# Other numbers of answers and bins are tried here, and confidences on the edges of bins.
### BEGIN HIDDEN TESTS
edges = np.array([0.125, 0.5, 0.5, 0.875, 1.0, 1.0])
unsure, answers_right = random_confidences(reference.seed + 3, 50)
for number, (confidence, right, bins) in enumerate(
    [
        (*random_confidences(reference.seed, 200), 10),
        (*random_confidences(reference.seed + 1, 35, 0.7), 16),
        (*random_confidences(reference.seed + 2, 9), 1),
        (edges, np.array([True, False, True, True, False, False]), 8),
        (np.ones(3), np.array([True, False, True]), 2),
        (0.6 * unsure, answers_right, 10),  # the last bins are empty
    ]
):
    right_parts = reference.expected_calibration_error(confidence, right, bins)
    options = (bins,) if number else ()  # ten unless one says otherwise
    result = check_tuple(
        expected_calibration_error(confidence, right, *options),
        CALIBRATION,
        "expected_calibration_error",
    )
    for part, expected, what in zip(result, right_parts, CALIBRATION, strict=True):
        words = f"{what} of expected_calibration_error for {len(right)} answers, {bins} bins"
        check_close(part, expected, words)
### END HIDDEN TESTS

# %% [markdown]
# Is `base` calibrated, and does it stay so when the pictures get worse? The usual repair for a
# network that isn't is **temperature scaling**: divide all scores by one number $T$, chosen so that
# the cross-entropy on held-out pictures is least. It changes no answer, only the confidence.


# %%
def scores_of(network, images):
    """Class scores, float64 (N, K), for images uint8 (N, H, W, 3)."""
    X = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        return torch.cat([network(part.to(device) / 255).cpu() for part in X.split(32)]).double()


scores = {"clean": scores_of(networks["base"], many.images)}
labels_of = {"clean": torch.from_numpy(many.shape_class)}
for severity in (1, 3, 5):
    spoilt = np.concatenate([series[severity - 1] for series in corrupted.values()])
    scores[f"severity {severity}"] = scores_of(networks["base"], spoilt)
    labels_of[f"severity {severity}"] = torch.from_numpy(np.tile(scenes.shape_class, 13))


def calibration(what, temperature):
    """The calibration error of base, and its bins, for scores divided by a temperature."""
    confidence, answers = (scores[what] / temperature).softmax(1).max(1)
    return expected_calibration_error(confidence.numpy(), (answers == labels_of[what]).numpy())


temperatures = np.geomspace(0.25, 4, 49)
losses = [F.cross_entropy(scores["clean"] / t, labels_of["clean"]).item() for t in temperatures]
fitted = temperatures[np.argmin(losses)]

figure, axes = plt.subplots(1, 4, figsize=(12, 3.7), layout="constrained", sharey=True)
figure.suptitle(
    "base is calibrated up to severity 3, then too sure, and a temperature from clean scenes is no help"
)
for ax, what in zip(axes, scores, strict=True):
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    lines = [what]
    for temperature, marker, colour in ((1.0, "o", "#0072B2"), (fitted, "D", "#D55E00")):
        error, accuracy, mean_confidence, counts = calibration(what, temperature)
        enough = counts >= 5
        spread = 2 * np.sqrt(accuracy * (1 - accuracy) / np.maximum(counts, 1))
        ax.errorbar(
            mean_confidence[enough], accuracy[enough], yerr=spread[enough], fmt=marker, color=colour,
            markerfacecolor=colour if temperature == 1 else "white", label=f"T = {temperature:.2f}",
        )  # fmt: skip
        lines.append(f"ECE {error:.3f} with T = {temperature:.2f}")
    ax.set_title("\n".join(lines), fontsize=10)
    ax.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="confidence")
axes[0].set_ylabel("accuracy of the bin (± 2 SE)")
axes[1].legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# Points on the line: as sure as it may be; below it: too sure. On clean scenes nearly all answers
# are in the last bin, and right (bins with fewer than five answers aren't drawn). Up to severity 3
# `base` loses confidence about as fast as accuracy, all by itself. At severity 5 it doesn't: it is
# too sure in nearly all bins. The temperature fitted to the clean scenes is *below* 1, for there it
# wasn't sure enough. That is the wrong direction for all others, and makes severity 5 worse: what
# is calibrated here needn't be there. Ovadia et al. (2019) found the same with ImageNet-C: the more
# severe the corruption, the less a calibration from clean images is worth.
#
# Read ECE with care. It depends on the bins, and with few answers in a bin chance alone makes a
# gap. The 780 answers of a severity are 13 to a scene, so that the error bars are too short, as in
# section 3. And ECE says nothing about accuracy: a network that answers blindly, with a confidence
# of 0.1, is calibrated to perfection.
#
# ## 10. A model card
#
# Mitchell et al. (2019) ask that a network be handed over with a **model card**: what it is for and
# what not, what it was trained and tested on, and how well it does, **disaggregated**, as in section
# 7.
#
# ### Question: a model card
# ★★☆ · 35 minutes

# %% [markdown] question="model_card" points=6
# A toy maker wants to sort wooden pieces by shape on a conveyor belt: discs, stars, hearts and so
# on, painted in patterns that change with every season. The hall is dusty, and in winter the lens
# mists up. Choose one of `base`, `shape` and `robust`, and write its model card for her, on one
# page at most, under these of Mitchell et al.'s headings:
#
# - **Model details** and **training data**, in one or two sentences each;
# - **Intended use**, and uses that are *out of scope*;
# - **Factors**: by what should the results be broken down, and which of these could you not test?
# - **Metrics** and **quantitative analyses**: at least four numbers from this lab, each with the
#   images it was measured on; at least one for a group or an intersection, and one that speaks
#   against the network;
# - **Caveats and recommendations**: would you install it? What has to be measured first?
#
# ### BEGIN SOLUTION
# 6 points, one for each:
#
# - Details and training data are right: six convolutions, 283,674 parameters, ten classes,
#   synthetic scenes of 64 × 64 pixels; what sets the chosen network apart (finetuned on random
#   textures, or under attack with ε = 4/255, or neither).
# - The use fits the network, and scope is drawn: synthetic scenes, not photographs; one object per
#   picture; ten shapes. For patterns that change, `shape` is the natural choice (its shape bias of 0.92, or,
#   from section 6, 0.7 to 0.8 on random textures, where base is at chance); who chooses another has to say that it reads
#   textures, and will fail in the next season. A choice of `base` "because its accuracy and mCE are
#   best" without that earns no point here.
# - Factors: pattern, corruption and severity (noise for dust, blur or fog for a misted lens),
#   class, size, occlusion; and some that could not be tested: real cameras and lighting, real wood,
#   several pieces at a time, patterns other than the ten, plain paint.
# - At least four numbers, each with its images and how uncertain it is or how many images it rests
#   on.
# - A group or intersection (small hearts or crosses for `shape`), *and* a number that speaks
#   against the network: accuracy in fog and blur, ordinary scenes at about 0.9, and above all flat
#   objects at chance: pieces in one colour would not be recognised at all.
# - A recommendation that follows from the numbers: not without a test on her own pieces and camera;
#   no installation for plain pieces; keep the lens dry; retrain with textures *and* corruptions, to
#   be tested on others than those trained on. "It can be used, as accuracy is high" earns nothing.
# ### END SOLUTION

# %% [markdown]
# ## 11. With an ImageNet network (optional)
#
# A real mCE needs ImageNet-C's 3.75 million images. But your functions run on any network and any
# image. Here: does a network stay with its answer to a crop of a photograph when the crop is
# spoilt, and when its patches are shuffled? (The severities are those for 64 × 64 pixels, and so
# much milder on crops of 256.)

# %%
from utils.images import load_photograph
from utils.models import WeightsUnavailable

try:
    imagenet = {name: load_model(name).to(device) for name in ("squeezenet1_1", "resnet18")}
except WeightsUnavailable as reason:
    print(reason)
else:
    rng = np.random.default_rng(0)
    photographs = [load_photograph("china"), load_photograph("flower")]
    if (mine := own.load(photographs[0].shape[:2])) is not None:
        photographs.append(mine)
    crops = []
    for photograph in photographs:
        for _ in range(6):
            top, left = rng.integers(photograph.shape[0] - 256), rng.integers(384)
            crops.append(photograph[top : top + 256, left : left + 256])
    crops = np.stack(crops)
    kinds = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
    spoilt = {kind: [corrupt(crops, kind, s, rng) for s in (1, 3, 5)] for kind in kinds}
    for name, network in imagenet.items():
        kept = correct_answers(network, spoilt, answers_of(network, crops)).mean(2)
        print(f"{name}: share of {len(crops)} crops whose answer stays, at severities 1, 3 and 5")
        for kind, row in zip(kinds, kept, strict=True):
            print(f"    {kind:17}", *(f"{share:.2f}" for share in row))

    rows = len(photographs)
    figure, axes = plt.subplots(rows, 4, figsize=(12, 3.6 * rows), layout="constrained")
    figure.suptitle("Photographs, whole and in patches, and ResNet-18's answers")
    for row, photograph in zip(axes, crops[::6], strict=True):
        X = torch.from_numpy(photograph).permute(2, 0, 1)[None].float()
        for ax, size in zip(row, (256, 64, 32, 16), strict=True):
            orders = random_orders(size, 1, (256 // size) ** 2)
            pieces = shuffle_patches(X, size, orders).permute(0, 2, 3, 1).byte().numpy()
            answer = answers_of(imagenet["resnet18"], pieces)[0]
            ax.imshow(pieces[0])
            ax.set_title(f"patches of {size}:\n{imagenet['resnet18'].class_names[answer]}")
    without_ticks(axes)
    plt.show()

# %% [markdown]
# Which corruption costs the answers first, and is it the same for both networks? And how small may
# the patches be before the answer changes to something *else made of the same stuff*? Brendel &
# Bethge (2019) built a network that sees nothing but patches of 33 × 33 pixels, and has the right
# answer among its five best for 87.6% of ImageNet's images. Staying with an answer isn't being
# right, though: a network that always says *pagoda* stays with it in any fog.
#
# ## What to take away
#
# - Robustness is a table: to what, how severe, compared with whom. mCE is that table's mean, and a
#   baseline that hardly errs can blow up any row of it.
# - Training against one kind of change, here small adversarial ones, helped a little with what
#   resembles it (impulse noise) and hurt with what doesn't (fog, contrast, blur). No training is *robust*
#   full stop.
# - High accuracy doesn't say which cue was used. Conflicting cues, and images with one cue taken
#   away, do. Shape training moved the network from one cue to the other: it reads shapes in any
#   texture now, is less robust, and still doesn't know a plain shape.
# - A test from the same source as the training data can't see a bias of that source, not even a
#   test for robustness.
# - A shortcut that somebody has found can be repaired cheaply, by a new last layer and few balanced
#   pictures, where the trunk holds the right features. Where it has never learned them, it can't.
# - Where pictures get worse, confidence need not fall as fast as accuracy.
# - Break results down, and write down for what a network has *not* been tested.
#
# <details><summary>The papers</summary>
#
# - Brendel & Bethge (2019), "Approximating CNNs with Bag-of-local-Features models works surprisingly
#   well on ImageNet", ICLR
# - Buolamwini & Gebru (2018), "Gender Shades: Intersectional Accuracy Disparities in Commercial
#   Gender Classification", FAT*
# - Geirhos et al. (2019), "ImageNet-trained CNNs are biased towards texture; increasing shape bias
#   improves accuracy and robustness", ICLR
# - Gilmer et al. (2019), "Adversarial Examples Are a Natural Consequence of Test Error in Noise",
#   ICML
# - Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML
# - Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and
#   Perturbations", ICLR
# - Kirichenko, Izmailov & Wilson (2023), "Last Layer Re-Training is Sufficient for Robustness to
#   Spurious Correlations", ICLR
# - Mitchell et al. (2019), "Model Cards for Model Reporting", FAT*
# - Mummadi et al. (2021), "Does enhanced shape bias improve neural network robustness to common
#   corruptions?", ICLR
# - Ovadia et al. (2019), "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty
#   Under Dataset Shift", NeurIPS
# - Sagawa et al. (2020), "Distributionally Robust Neural Networks for Group Shifts: On the
#   Importance of Regularization for Worst-Case Generalization", ICLR
# - Yin et al. (2019), "A Fourier Perspective on Model Robustness in Computer Vision", NeurIPS
#
# </details>
