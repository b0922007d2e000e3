"""Lab 11's references against published figures, SciPy, scikit-learn and PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from skimage import color
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from autograder.authoring.reference import load_reference
from utils.corruptions import SEVERITIES, corrupt
from utils.models import load_model
from utils.scenes import CLASS_NAMES, make_scenes
from utils.train import accuracy, fit

reference = load_reference("11_robustness_and_bias")

# Hendrycks & Dietterich (2019): AlexNet's mean errors, in the order gaussian, shot, impulse,
# defocus, glass, motion, zoom, snow, frost, fog, brightness, contrast, elastic, pixelate, jpeg.
ALEXNET = np.array(
    [
        0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572,
        0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
    ]
)[:, None]  # fmt: skip
# ResNet-50's CE as published with one decimal, and its relative CE in whole per cent.
RESNET_CE = [
    79.8, 81.6, 82.6, 74.7, 88.6, 78.0, 79.9, 77.8, 74.8, 66.1, 56.6, 71.4, 84.7, 76.9, 76.8,
]  # fmt: skip
RESNET_RELATIVE_CE = [104, 107, 107, 97, 126, 107, 110, 101, 97, 79, 62, 89, 146, 111, 132]
RESNET = ALEXNET * np.array(RESNET_CE)[:, None] / 100
ALEXNET_CLEAN, RESNET_CLEAN = 0.4348, 0.2385


def test_alexnet_against_itself_is_100():
    errors = np.linspace(0.4, 1.6, 5) * ALEXNET  # five severities with these means
    _, each = reference.corruption_error(errors, errors)
    assert each == pytest.approx(np.full(15, 100), abs=1e-9)
    mean, _ = reference.corruption_error(errors, ALEXNET * np.ones(5))
    assert mean == pytest.approx(100, abs=1e-9)
    relative, _ = reference.corruption_error(errors, errors, ALEXNET_CLEAN, ALEXNET_CLEAN)
    assert relative == pytest.approx(100, abs=1e-9)


def test_resnet_50_as_published():
    mean, each = reference.corruption_error(RESNET, ALEXNET)
    assert each == pytest.approx(RESNET_CE, abs=1e-9)
    assert mean == pytest.approx(76.7, abs=0.05)
    mean, each = reference.corruption_error(RESNET, ALEXNET, RESNET_CLEAN, ALEXNET_CLEAN)
    assert mean == pytest.approx(105.0, abs=0.05)
    assert each == pytest.approx(RESNET_RELATIVE_CE, abs=0.6)


def test_correct_answers_against_the_trainers_accuracy():
    scenes = make_scenes(40, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    corrupted = {
        name: [corrupt(scenes.images, name, severity, rng) for severity in (1, 4, 5)]
        for name in ("zoom_blur", "gaussian_noise")
    }
    model = load_model("base")
    right = reference.correct_answers(model, corrupted, scenes.shape_class)
    assert right.shape == (2, 3, 40)
    assert right.dtype == bool
    expected = [
        [accuracy(model, replace(scenes, images=images)) for images in series]
        for series in corrupted.values()
    ]
    assert right.mean(2) == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("severities", [1, 5])
def test_paired_difference_against_scipys_paired_t_test(severities):
    right_A, right_B = reference.random_answers(3, severities, 50)
    difference, standard_error = reference.paired_difference(right_A, right_B)
    expected = scipy.stats.ttest_rel(right_B.mean(0), right_A.mean(0))
    assert difference / standard_error == pytest.approx(expected.statistic, rel=1e-12)
    low, high = expected.confidence_interval(0.95)
    assert difference == pytest.approx((low + high) / 2, abs=1e-12)


def test_paired_difference_covers_the_truth():
    """Of many experiments about 95% have the true difference within 1.96 standard errors."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(400):
        ease = rng.random(80)  # an image is as easy at all severities: not five independent draws
        right_A, right_B = (rng.random((5, 80)) < ease * p for p in (0.9, 0.6))
        difference, standard_error = reference.paired_difference(right_A, right_B)
        covered += abs(difference - (-0.15)) < 1.96 * standard_error
    assert 0.91 < covered / 400 < 0.98


def test_shape_bias_against_scikit_learn():
    rng = np.random.default_rng(5)
    answers, shapes, textures = rng.integers(4, size=(3, 500))
    decided = (shapes != textures) & ((answers == shapes) | (answers == textures))
    expected = accuracy_score(shapes[decided], answers[decided])
    assert reference.shape_bias(answers, shapes, textures) == pytest.approx(expected, abs=1e-12)
    other_way_round = reference.shape_bias(answers, textures, shapes)
    assert other_way_round == pytest.approx(1 - expected, abs=1e-12)


@pytest.mark.parametrize(("count", "rows", "columns", "size"), [(3, 2, 5, 4), (2, 4, 3, 1)])
def test_shuffle_patches_against_unfold_and_fold(count, rows, columns, size):
    images = reference.numbered_image(count, rows, columns, size)
    orders = reference.random_orders(6, count, rows * columns)
    blocks = F.unfold(images, size, stride=size)
    blocks = blocks.gather(2, orders[:, None].expand(-1, blocks.shape[1], -1))
    expected = F.fold(blocks, images.shape[2:], size, stride=size)
    shuffled = reference.shuffle_patches(images, size, orders)
    assert torch.equal(shuffled, expected)
    assert torch.equal(reference.shuffle_patches(shuffled, size, orders.argsort(1)), images)


def test_disaggregate_against_scipys_binned_statistic():
    right, first, second = reference.random_groups(7, 200, 3, 5)
    accuracy_of, counts = reference.disaggregate(right, first, second, (3, 5))
    edges = [np.arange(4) - 0.5, np.arange(6) - 0.5]
    for ours, statistic in ((accuracy_of, "mean"), (counts, "count")):
        theirs = scipy.stats.binned_statistic_2d(first, second, right, statistic, edges).statistic
        assert ours == pytest.approx(theirs, abs=1e-12)
    assert counts.dtype == np.int64


@pytest.mark.parametrize("bins", [8, 15])
def test_expected_calibration_error_against_scikit_learns_calibration_curve(bins):
    confidence, right = reference.random_confidences(11, 300)
    error, accuracy, mean_confidence, counts = reference.expected_calibration_error(
        confidence, right, bins
    )
    expected, expected_confidence = calibration_curve(right, confidence, n_bins=bins)
    filled = counts > 0  # scikit-learn leaves out empty bins
    assert accuracy[filled] == pytest.approx(expected, abs=1e-12)
    assert mean_confidence[filled] == pytest.approx(expected_confidence, abs=1e-12)
    assert not accuracy[~filled].any()
    assert counts.sum() == 300
    gaps = np.abs(expected - expected_confidence)
    assert error == pytest.approx(np.average(gaps, weights=counts[filled]), abs=1e-12)


def test_expected_calibration_error_is_small_for_a_calibrated_network():
    rng = np.random.default_rng(12)
    confidence = rng.uniform(0.1, 1, 40_000)
    error, *_ = reference.expected_calibration_error(confidence, rng.random(40_000) < confidence)
    assert error < 0.02


def test_what_the_lab_says_of_calibration():
    """On other scenes: base is calibrated on clean ones and at severity 3, too sure at 5, and a
    temperature below 1, which is what clean scenes ask for, makes both worse."""
    model, scenes = load_model("base"), make_scenes(40, np.random.default_rng(13))
    names = ("gaussian_noise", "impulse_noise", "defocus_blur", "fog", "contrast", "pixelate")
    images = {"clean": scenes.images}
    for severity in (3, 5):
        rng = np.random.default_rng(14)
        spoilt = [corrupt(scenes.images, name, severity, rng) for name in names]
        images[severity] = np.concatenate(spoilt)
    errors = {}
    for what, pictures in images.items():
        labels = np.resize(scenes.shape_class, len(pictures))
        with torch.no_grad():
            scores = model(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255).double()
        for temperature in (1.0, 0.71):
            confidence, answers = (scores / temperature).softmax(1).max(1)
            errors[what, temperature], *_ = reference.expected_calibration_error(
                confidence.numpy(), answers.numpy() == labels
            )
    assert errors["clean", 1.0] < 0.05
    assert errors[3, 1.0] < 0.07 < errors[5, 1.0] - 0.02
    assert errors[3, 0.71] > errors[3, 1.0]
    assert errors[5, 0.71] > errors[5, 1.0] + 0.03


@pytest.mark.parametrize("per_group", [4, 9])
def test_retrain_head_against_scikit_learns_logistic_regression(per_group):
    inputs, labels, groups = reference.grouped_examples(8, (15, 9, 12, 10), 5, 3)
    generator = torch.Generator().manual_seed(9)
    weight, bias, chosen = reference.retrain_head(
        reference.no_trunk, inputs, labels, groups, per_group, generator, 4000, 0.3, 0.05
    )
    assert (groups[chosen].bincount() == per_group).all()
    assert len(chosen.unique()) == 4 * per_group
    scaler = StandardScaler().fit(inputs[chosen])
    n = len(chosen)
    judge = LogisticRegression(C=1 / (0.05 * n), tol=1e-10, max_iter=10_000)
    judge.fit(scaler.transform(inputs[chosen]), labels[chosen])
    expected = judge.decision_function(scaler.transform(inputs))
    scores = inputs @ weight.T + bias
    # Softmax leaves a constant free for each example; scikit-learn's scores sum to zero.
    scores = scores - scores.mean(1, keepdim=True)
    expected = expected - expected.mean(1, keepdims=True)
    assert scores.numpy() == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 20, 30])
def test_what_the_lab_says_of_the_repair(seed):
    """On other scenes than the lab's: a new last layer helps `misled` if its pictures are balanced,
    and `biased` never."""
    generator = torch.Generator().manual_seed(seed)
    misleading = make_scenes(600, np.random.default_rng(seed + 1), "biased")
    misled = load_model("base")
    torch.nn.init.normal_(misled.classifier[-1].weight, std=0.1, generator=generator)
    torch.nn.init.zeros_(misled.classifier[-1].bias)
    own = torch.from_numpy(misleading.images).permute(0, 3, 1, 2)
    own_labels = torch.from_numpy(misleading.shape_class)
    fit(
        misled, own, own_labels, generator, epochs=2, peak_learning_rate=1e-2,
        permute_channels=False,
    )  # fmt: skip

    def turned(count, seed):
        """Images of every class on every ground, in equal numbers, and both."""
        rng = np.random.default_rng(seed)
        classes, turns = np.arange(count) % 10, np.arange(count) // 10 % 10
        scenes = make_scenes(count, rng, "biased", shape_class=classes)
        images = torch.from_numpy(on_other_grounds(scenes, turns)).permute(0, 3, 1, 2) / 255
        return images, torch.from_numpy(classes), torch.from_numpy((classes + turns) % 10)

    images, labels, grounds = turned(400, seed + 2)
    balanced = images, labels, 10 * labels + grounds, 4
    tested, answers, others = turned(300, seed + 3)
    apart = answers != others
    before, after = {}, {}
    for what, network, examples in (
        ("misled", misled, balanced),
        ("misled, its own scenes", misled, (own / 255, own_labels, own_labels, 40)),
        ("biased", load_model("biased"), balanced),
    ):
        trunk = torch.nn.Sequential(network.features, *network.classifier[:-1]).eval()
        weight, bias, _ = reference.retrain_head(
            trunk, *examples, torch.Generator().manual_seed(seed + 4)
        )
        with torch.no_grad():
            x = trunk(tested)
            for right, scores in (
                (before, network.classifier[-1](x)),
                (after, x @ weight.T + bias),
            ):
                right[what] = (scores.argmax(1) == answers)[apart].float().mean().item()
    assert before["misled"] < 0.75
    assert after["misled"] > max(0.85, before["misled"] + 0.15)
    assert after["misled, its own scenes"] < before["misled"] + 0.1
    assert before["biased"] < 0.05
    assert after["biased"] < 0.25


def on_other_grounds(scenes, turns):
    """The scenes' images, the ground's hue turned by turns[n] tenths of a circle."""
    hsv = color.rgb2hsv(scenes.images)
    hue = (hsv[..., 0] + turns[:, None, None] / 10) % 1
    hsv[..., 0] = np.where(scenes.masks, hsv[..., 0], hue)
    return (255 * color.hsv2rgb(hsv)).round().astype(np.uint8)


def answers_to(model, images):
    """The classes with the highest scores, for images uint8 (N, H, W, 3)."""
    with torch.no_grad():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).argmax(1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [201, 202])
def test_what_the_lab_says_of_the_shortcut(seed):
    """On other scenes: biased follows the ground, base the object; the benchmark likes biased."""
    models = {name: load_model(name) for name in ("base", "biased")}
    scenes = make_scenes(60, np.random.default_rng(seed), "biased")
    turns = np.random.default_rng(seed).integers(1, 10, len(scenes))
    said = {
        name: answers_to(model, on_other_grounds(scenes, turns)) for name, model in models.items()
    }
    assert (said["base"] == scenes.shape_class).mean() > 0.95
    assert (said["biased"] == (scenes.shape_class + turns) % 10).mean() > 0.95
    corrupted = {
        kind: [corrupt(scenes.images, kind, 3, np.random.default_rng(seed))] for kind in SEVERITIES
    }
    wrong = {
        name: 1 - reference.correct_answers(model, corrupted, scenes.shape_class).mean((1, 2))
        for name, model in models.items()
    }
    assert wrong["biased"].mean() < wrong["base"].mean() - 0.02
    assert (wrong["biased"] == 0).sum() >= 7
    noise_and_fog = [kind.endswith("noise") or kind == "fog" for kind in SEVERITIES]
    assert wrong["biased"][noise_and_fog].sum() > wrong["biased"].sum() / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [301, 302])
def test_what_the_lab_says_of_cues_and_of_groups(seed):
    """On other scenes: what is left without one cue, and which classes and sizes are hard."""
    models = {name: load_model(name) for name in ("base", "shape", "robust")}
    many = make_scenes(600, np.random.default_rng(seed))
    some = many[:120]

    def accuracies(images, labels=some.shape_class):
        return {
            name: (answers_to(model, images) == labels).mean() for name, model in models.items()
        }

    def cut(size):
        X = torch.from_numpy(some.images).permute(0, 3, 1, 2).float()
        orders = reference.random_orders(seed, len(some), (64 // size) ** 2)
        return reference.shuffle_patches(X, size, orders).permute(0, 2, 3, 1).byte().numpy()

    right = {size: accuracies(cut(size)) for size in (32, 16, 8)}
    assert min(right[16]["base"], right[16]["robust"]) > 0.7
    assert 0.35 < right[8]["base"] < 0.6
    assert right[32]["shape"] < 0.65
    assert right[16]["shape"] < 0.3
    flat = some.images.copy()
    for image, mask in zip(flat, some.masks, strict=True):
        image[mask] = image[mask].mean(0).round()
    assert max(accuracies(flat).values()) < 0.2
    others = make_scenes(120, np.random.default_rng(seed), "random_texture")
    of_others = accuracies(others.images, others.shape_class)
    assert of_others["shape"] > 0.65
    assert of_others["base"] < 0.2

    size = (many.boxes[:, 2:] - many.boxes[:, :2]).max(1)
    sizes = np.digitize(size, np.quantile(size, [1 / 3, 2 / 3]))
    cells, _ = reference.disaggregate(
        answers_to(models["shape"], many.images) == many.shape_class,
        many.shape_class,
        sizes,
        (10, 3),
    )
    cross, heart, square = (CLASS_NAMES.index(name) for name in ("cross", "heart", "square"))
    for cell in (cells[cross, 0], cells[heart, 0], cells[square, 2]):
        assert 0.5 <= round(cell, 2) <= 0.67


def test_what_the_lab_says_of_the_networks():
    """On other scenes than the lab's: who goes by what, and what training helps or hurts."""
    models = {name: load_model(name) for name in ("base", "shape", "robust")}
    conflicts = make_scenes(100, np.random.default_rng(8), "cue_conflict")
    images, _ = conflicts.tensors()
    with torch.no_grad():
        bias = {
            name: reference.shape_bias(
                model(images).argmax(1).numpy(), conflicts.shape_class, conflicts.texture_class
            )
            for name, model in models.items()
        }
    assert max(bias["base"], bias["robust"]) <= 0.15
    assert bias["shape"] >= 0.80

    scenes = make_scenes(120, np.random.default_rng(9))
    rng = np.random.default_rng(10)
    severities = {"impulse_noise": 3, "fog": 4, "contrast": 2}
    corrupted = {
        name: [corrupt(scenes.images, name, severity, rng)] for name, severity in severities.items()
    }
    right = {
        name: reference.correct_answers(model, corrupted, scenes.shape_class).mean((1, 2))
        for name, model in models.items()
    }
    assert right["robust"][0] > right["base"][0]
    assert (right["robust"][1:] < right["base"][1:] - 0.1).all()
    assert (right["shape"] < right["base"] - 0.05).all()


@pytest.mark.slow
def test_what_the_lab_says_of_noise():
    """On other scenes: robust gains under impulse noise; for Gaussian noise 300 may not show it."""
    models = [load_model(name) for name in ("base", "robust")]
    gains = {"impulse_noise": [], "gaussian_noise": []}  # in standard errors
    for seed in (101, 102, 103):
        scenes = make_scenes(300, np.random.default_rng(seed))
        for kind, found in gains.items():
            spoilt = {kind: [corrupt(scenes.images, kind, 3, np.random.default_rng([seed, 3]))]}
            base, robust = (
                reference.correct_answers(model, spoilt, scenes.shape_class)[0] for model in models
            )
            difference, standard_error = reference.paired_difference(base, robust)
            found.append(difference / standard_error)
    assert min(gains["impulse_noise"]) > 2
    assert -2 < min(gains["gaussian_noise"]) < 2
