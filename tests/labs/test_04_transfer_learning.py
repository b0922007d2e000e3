"""Lab 04's reference implementations against scikit-learn, torchvision's features and PyTorch."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor
from walk import walk

from autograder.authoring.reference import load_reference
from utils.corruptions import corrupt
from utils.models import load_model
from utils.scenes import make_scenes

reference = load_reference("04_transfer_learning")


@pytest.fixture(scope="module")
def base():
    return load_model("base")


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(60, np.random.default_rng(0), "held_out").tensors()


def few_points(count, classes, dimensions, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % classes)
    return generator.normal(size=(classes, dimensions))[labels] + generator.normal(
        size=(count, dimensions)
    ), labels


@pytest.mark.parametrize("penalty", [0.01, 0.1, 0.3])
def test_train_head_against_scikit_learn(penalty):
    """Scikit-learn minimises C · the summed loss + ‖W‖²/2, so its C is 1/(λN)."""
    points, labels = few_points(60, 4, 10)
    probe = LogisticRegression(C=1 / (penalty * 60), tol=1e-8, max_iter=10_000).fit(points, labels)
    weight, bias = reference.train_head(
        torch.from_numpy(points), torch.from_numpy(labels), 4, penalty
    )
    assert (weight - torch.from_numpy(probe.coef_)).abs().max() <= 1e-2 * weight.abs().max()
    ours = (torch.from_numpy(points) @ weight.T + bias).softmax(1)
    assert (ours - torch.from_numpy(probe.predict_proba(points))).abs().max() <= 2e-3


def test_replace_head_starts_with_the_logarithm_of_the_number_of_classes(base, scenes):
    images, labels = scenes
    changed = reference.replace_head(base, 5)
    with torch.no_grad():
        loss = F.cross_entropy(changed(images[:20]), labels[:20]).item()
    assert loss == pytest.approx(np.log(5), rel=1e-6)
    assert base.classifier.linear.out_features == 10
    assert torch.equal(changed.features.conv6.weight, base.features.conv6.weight)
    gradients = torch.autograd.grad(
        F.cross_entropy(changed(images[:4]), labels[:4]), list(changed.features.parameters())
    )
    assert not any(gradient.any() for gradient in gradients)


def test_a_frozen_networks_state_survives_training_steps_but_for_the_head(base, scenes):
    images, labels = scenes
    network = reference.replace_head(base, 5)
    before = copy.deepcopy(network.state_dict())
    reference.freeze(network)
    groups = reference.parameter_groups(network, 0.1, 0.1)
    optimizer = torch.optim.SGD(groups)
    for _ in range(3):
        reference.training_mode(network)
        optimizer.zero_grad()
        F.cross_entropy(network(images[:16]), labels[:16]).backward()
        optimizer.step()
    changed = {
        name for name, value in network.state_dict().items() if (value != before[name]).any()
    }
    assert changed == {"classifier.linear.weight", "classifier.linear.bias"}
    network.train()(images[:16])
    assert (network.features.norm1.running_mean != before["features.norm1.running_mean"]).any()


def test_extract_features_against_torchvision():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=4).train()
    two_parts = nn.Sequential()
    layers = dict(network.named_children())
    head = [layers.pop("avgpool"), nn.Flatten(), layers.pop("fc")]
    two_parts.add_module("features", nn.Sequential(*layers.values()))
    two_parts.add_module("classifier", nn.Sequential(*head))
    images = torch.rand(5, 3, 40, 56)
    extractor = create_feature_extractor(network.eval(), ["flatten"])
    with torch.no_grad():
        expected = extractor(images)["flatten"]
    features = reference.extract_features(two_parts.train(), images, 2)
    assert not features.requires_grad
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_parameter_groups_hold_each_trainable_parameter_once(base):
    network = reference.replace_head(base, 5)
    network.features.conv1.requires_grad_(False)
    groups = reference.parameter_groups(network, 0.1, 0.01)
    held = [(id(p), group["lr"]) for group in groups for p in group["params"]]
    head = {id(p) for p in network.classifier.linear.parameters()}
    expected = {
        id(p): 0.1 if id(p) in head else 0.01 for p in network.parameters() if p.requires_grad
    }
    assert dict(held) == expected
    assert len(held) == len(expected)


def test_head_then_finetune_by_hand():
    """A linear network, whose gradients are two products of matrices."""
    generator = np.random.default_rng(4)
    body, head = generator.normal(size=(5, 12)), generator.normal(size=(3, 5))
    images, labels = generator.normal(size=(6, 3, 2, 2)), np.array([0, 2, 1, 1, 0, 2])
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)))
    network.add_module("classifier", nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 3, bias=False)))
    network.double()
    with torch.no_grad():
        network.features[1].weight.copy_(torch.from_numpy(body))
        network.classifier[1].weight.copy_(torch.from_numpy(head))
    trained = reference.head_then_finetune(
        network, torch.from_numpy(images), torch.from_numpy(labels), 3, 0.2, 2, 0.1
    )
    x = images.reshape(6, 12)
    for rates in [(0.2, 0)] * 3 + [(0.1, 0.1)] * 2:
        scores = np.exp(x @ body.T @ head.T)
        error = (scores / scores.sum(1, keepdims=True) - np.eye(3)[labels]) / 6
        of_head, of_body = error.T @ (x @ body.T), (error @ head).T @ x
        head, body = head - rates[0] * of_head, body - rates[1] * of_body
    assert np.allclose(trained.classifier[1].weight.detach().numpy(), head, rtol=1e-10)
    assert np.allclose(trained.features[1].weight.detach().numpy(), body, rtol=1e-10)


@pytest.mark.parametrize("prior", [0, 3])
def test_adapt_batchnorm_by_hand(prior):
    """Two layers with BatchNorm, their batch statistics computed with NumPy."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)]
    network = nn.Sequential(*layers, nn.BatchNorm1d(5), nn.Dropout(0.5)).double().train()
    network(torch.randn(9, 3, 2, 3, dtype=torch.float64))
    images = 2 + torch.randn(6, 3, 2, 3, dtype=torch.float64)
    maps = layers[0](images).detach().numpy()
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    normalised = (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    hidden = layers[4](torch.from_numpy(np.maximum(normalised, 0).reshape(6, 24))).detach().numpy()
    old = copy.deepcopy(network.state_dict())
    state = reference.adapt_batchnorm(network, images, prior).state_dict()
    for name, measured in {
        "1.running_mean": mean,
        "1.running_var": variance * 36 / 35,
        "5.running_mean": hidden.mean(0),
        "5.running_var": hidden.var(0, ddof=1),
    }.items():
        expected = (prior * old[name].numpy() + 6 * measured) / (prior + 6)
        assert np.allclose(state[name].numpy(), expected, rtol=1e-9)


def test_adapt_batchnorm_with_all_momenta_at_one_is_what_update_bn_does():
    """torch.optim.swa_utils.update_bn averages over its batches; here there is one."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    network.append(nn.BatchNorm2d(2))
    images = torch.rand(5, 3, 6, 7)
    ours = reference.adapt_batchnorm(network, images)
    torch.optim.swa_utils.update_bn([images], network)
    assert torch.allclose(ours(images), network.eval()(images), atol=1e-6)


def test_statistics_of_the_fog_help_in_the_fog_unless_two_classes_are_all_they_know(base):
    """What the lab's figure shows, with other images and other draws."""

    def foggy(count, seed, classes=None):
        generator = np.random.default_rng(seed)
        scenes = make_scenes(count, generator, shape_class=classes)
        images = corrupt(scenes.images, "fog", 5, generator)
        return dataclasses.replace(scenes, images=images).tensors()

    images, labels = foggy(150, 5)

    def accuracy(model):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    all_ten = [accuracy(reference.adapt_batchnorm(base, foggy(32, seed)[0])) for seed in (6, 7)]
    two = np.arange(32) % 2
    skewed = [accuracy(reference.adapt_batchnorm(base, foggy(32, seed, two)[0])) for seed in (6, 7)]
    before = accuracy(base)
    assert before < 0.8 and min(all_ten) > 0.9
    assert max(skewed) < min(all_ten) - 0.03


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
def test_pseudo_label_loss_by_hand(threshold):
    """Two labelled and three unlabelled examples, summed up one by one with NumPy."""
    generator = np.random.default_rng(1)
    scores, unlabelled = generator.normal(size=(2, 3)), 2 * generator.normal(size=(3, 3))
    labels = np.array([2, 0])

    def log_probability(row):
        return row - np.log(np.exp(row).sum())

    expected = -np.mean([log_probability(s)[y] for s, y in zip(scores, labels, strict=True)])
    for row in unlabelled:
        best = log_probability(row).max()
        expected -= 0.5 * best / 3 * (np.exp(best) >= threshold)
    loss = reference.pseudo_label_loss(
        torch.from_numpy(scores), torch.from_numpy(labels), torch.from_numpy(unlabelled), 0.5,
        threshold,
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_pseudo_label_loss_against_pytorchs_own_ignoring_of_targets():
    generator = torch.Generator().manual_seed(2)
    u = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    s = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 3, 1])
    probabilities = u.detach().softmax(1)
    targets = torch.where(probabilities.amax(1) >= 0.5, u.argmax(1), -100)
    expected = F.cross_entropy(u, targets, reduction="sum") / 9
    loss = reference.pseudo_label_loss(s, y, u, 1.0, 0.5) - F.cross_entropy(s, y)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    ours, theirs = (torch.autograd.grad(value, u)[0] for value in (loss, expected))
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_frozen_features_suit_the_near_target(base):
    """What the lab's first learning curve shows, by scikit-learn's head on the same features."""
    images, labels = make_scenes(100, np.random.default_rng(3), "held_out").tensors()
    test_images, test_labels = make_scenes(150, np.random.default_rng(4), "held_out").tensors()
    points, test_points = (reference.extract_features(base, part) for part in (images, test_images))
    weight, bias = reference.train_head(points, labels, 5)
    ours = ((test_points @ weight.T + bias).argmax(1) == test_labels).float().mean().item()
    probe = LogisticRegression(C=1 / (0.01 * len(labels)), max_iter=5_000).fit(points, labels)
    assert ours == pytest.approx(probe.score(test_points, test_labels), abs=0.02)
    assert ours >= 0.85


@pytest.fixture(scope="module")
def targets(base):
    """Both targets: images and labels for training, images and labels for the test, features of
    both. Other images than the lab's."""
    digits = load_digits()
    order = np.random.default_rng(5).permutation(len(digits.target))
    pictures = torch.from_numpy(digits.images[order] / 16).float()[:, None].expand(-1, 3, -1, -1)
    pictures, classes = F.interpolate(pictures, (16, 16)), torch.from_numpy(digits.target[order])
    near = [make_scenes(n, np.random.default_rng(n), "held_out").tensors() for n in (400, 200)]
    far = [(pictures[:1000], classes[:1000]), (pictures[1000:1400], classes[1000:1400])]
    features = {
        target: [reference.extract_features(base, images) for images, _ in both]
        for target, both in {"near": near, "far": far}.items()
    }
    return {"near": [*near, *features["near"]], "far": [*far, *features["far"]]}


def few(labels, count, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    return torch.cat([order[labels[order] == c][:count] for c in labels.unique()])


def share(scores, labels):
    return (scores.argmax(1) == labels).float().mean().item()


def head_alone(points, test_points, labels, test_labels, count, seed):
    chosen = few(labels, count, seed)
    W, b = reference.train_head(points[chosen], labels[chosen], len(labels.unique()))
    return share(test_points @ W.T + b, test_labels)


@pytest.mark.slow
def test_what_the_lab_says_of_features_and_pixels(targets):
    """Section 4's curve, over six draws of labels."""
    measured = {}
    for target, ((images, labels), (test_images, test_labels), *features) in targets.items():
        grey = [
            3 * (F.adaptive_avg_pool2d(part.mean(1), 16) - 0.5).flatten(1)
            for part in (images, test_images)
        ]
        for kind, both in {"features": features, "pixels": grey}.items():
            for count in (1, 2, 5, 20, 60):
                of_each = [head_alone(*both, labels, test_labels, count, seed) for seed in range(6)]
                measured[target, kind, count] = np.mean(of_each)
    assert 0.65 < measured["near", "features", 1] < 0.85
    assert measured["near", "features", 20] > 0.9
    for count in (1, 2, 5, 20, 60):
        assert measured["near", "pixels", count] < 0.35
        assert measured["far", "pixels", count] > measured["far", "features", count] + 0.1


@pytest.mark.slow
def test_ten_steps_with_ten_pictures_beat_the_minimum(targets):
    """Section 5 says so of frozen features on the near target, on average; over twenty draws."""
    (_, labels), (_, test_labels), points, test_points = targets["near"]
    better = []
    for seed in range(20):
        chosen = few(labels, 2, seed)
        head = nn.Linear(points.shape[1], 5)
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
        optimizer = torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=0.02)
        for _ in range(10):
            optimizer.zero_grad()
            F.cross_entropy(head(points[chosen]), labels[chosen]).backward()
            optimizer.step()
        early = share(head(test_points), test_labels)
        better.append(early - head_alone(points, test_points, labels, test_labels, 2, seed))
    assert 0.01 < np.mean(better) < 0.1


@pytest.mark.slow
def test_pseudo_labels_help_a_good_start_alone(targets):
    """Section 8's figure, over eight draws of labels."""
    gains, surest = {}, []
    for target, ((_, labels), (_, test_labels), points, test_points) in targets.items():
        for count in (1, 2, 5):
            gained = []
            for seed in range(8):
                chosen = few(labels, count, seed)
                rest = torch.ones(len(labels), dtype=torch.bool)
                rest[chosen] = False
                head = reference.train_head(points[chosen], labels[chosen], len(labels.unique()))
                W, b = (value.clone().requires_grad_() for value in head)
                before = share(test_points @ W.T + b, test_labels)
                optimizer = torch.optim.Adam([W, b], lr=0.02)
                for _ in range(40):
                    scores = points @ W.T + b
                    known = (scores[chosen], labels[chosen])
                    loss = reference.pseudo_label_loss(*known, scores[rest], 1.0, 0.6)
                    optimizer.zero_grad()
                    (loss + 0.005 * W.square().sum()).backward()
                    optimizer.step()
                gained.append(share(test_points @ W.T + b, test_labels) - before)
                if target == "far":
                    sure, answers = (points[rest] @ W.T + b).softmax(1).max(1)
                    surest.append((answers == labels[rest])[sure > 0.8])
            gains[target, count] = np.mean(gained)
    assert min(gains["near", 2], gains["near", 5]) > 0.01
    assert max(gains["far", count] for count in (1, 2, 5)) < 0.01
    assert torch.cat(surest).float().mean() < 0.5


@pytest.fixture(scope="module")
def lab():
    """The numbers behind section 5's figures, and the functions that draw more of them."""
    return walk("04_transfer_learning", until="## 6. Few labels, or none: six settings")


@pytest.mark.slow
def test_drawing_the_digits_larger_does_not_help(lab):
    """Section 4 says so in brackets; three draws of labels."""
    images, labels = (part[lab["shuffled"][:1400]] for part in lab["digit_tensors"](64))
    features = lab["extract_features"](lab["base"], images)
    parts = (features[:1000], labels[:1000], features[1000:], labels[1000:])
    for row, count in enumerate(lab["label_counts"]):
        larger = np.mean([lab["head_accuracy"](*parts, count, seed) for seed in range(3)])
        assert larger < lab["pixel_curve"]["far"][row].mean() - 0.1
        if count >= 5:
            assert larger < lab["frozen_curve"]["far"][row].mean() - 0.1


@pytest.mark.slow
def test_the_near_target_wants_its_features_left_alone_and_the_far_one_changed(lab):
    """Section 5's first figure, its draw of labels and two more."""
    near, far = (
        np.array(
            [
                [lab["trained_accuracy"](target, count, seed, rate) for rate in lab["rates"]]
                for seed in range(3)
            ]
        )
        for target, count in [("near", 2), ("far", 10)]
    )
    assert [near[0].tolist(), far[0].tolist()] == list(lab["by_rate"].values())
    assert near.mean(0).argmax() == 0 and (far[:, 1:] > far[:, :1] + 0.1).all()
    suits_digits = far.mean(0).argmax()
    assert suits_digits > 0 and (near[:, suits_digits] < near[:, 0] - 0.1).all()
    of_frozen = lab["ten_steps"]  # the first one is the figure's: "a lucky draw"
    assert of_frozen[0] == max(of_frozen) > np.mean(of_frozen) + 0.03
    assert np.mean(of_frozen) > lab["converged"].mean() + 0.01


@pytest.fixture(scope="module")
def by_recipe(lab):
    """Test accuracy by recipe, an array (numbers of labels, draws): the lab's two draws, or one,
    and others up to four."""
    rows = [lab["label_counts"].index(count) for count in lab["counts"]]
    measured = {(name, "freeze"): curve[rows] for name, curve in lab["frozen_curve"].items()}
    for (target, recipe), curve in lab["curves"].items():
        more = [
            [
                lab["trained_accuracy"](target, count, seed, **lab["recipes"][recipe])
                for seed in range(curve.shape[1], 4)
            ]
            for count in lab["counts"]
        ]
        measured[target, recipe] = np.concatenate([curve, more], 1)
    return measured


@pytest.mark.slow
def test_freezing_is_as_good_as_finetuning_on_the_near_target_alone(by_recipe):
    """Section 5's figure of the recipes: 1, 5 and 20 labels for each class, four draws."""
    near, far = (
        {name: curve.mean(1) for (place, name), curve in by_recipe.items() if place == target}
        for target in ("near", "far")
    )
    assert (near["freeze"] > near["finetune"] - 0.01).all()
    assert by_recipe["near", "from scratch"].max() < 0.3  # chance is 0.2
    for other in ("finetune", "from scratch"):
        assert (far[other] > far["freeze"]).all()
        assert (far[other][1:] > far["freeze"][1:] + 0.15).all()
    assert (far["from scratch"] > far["finetune"] + 0.05).all()


@pytest.mark.slow
def test_most_of_the_negative_transfer_is_the_learning_rate(lab, by_recipe):
    same_rate = np.mean([lab["trained_accuracy"]("far", 5, seed, 3e-3) for seed in range(4)])
    finetune, scratch = (by_recipe["far", name][1].mean() for name in ("finetune", "from scratch"))
    assert (finetune + scratch) / 2 < same_rate < scratch


@pytest.mark.slow
def test_more_steps_from_scratch_are_not_enough_on_the_near_target(lab, by_recipe, monkeypatch):
    """Two fifths to three quarters, after 300 steps with twenty labels for each class."""
    monkeypatch.setitem(lab["STEPS"]["near"], 20, 300)
    settings = lab["recipes"]["from scratch"]
    trials = [lab["trained_accuracy"]("near", 20, seed, **settings) for seed in range(3)]
    assert min(trials) > 0.4 and max(trials) < 0.75 < by_recipe["near", "freeze"][2].min()


@pytest.mark.slow
def test_with_one_small_rate_the_head_comes_first(lab):
    """Section 5's last figure, its two draws of labels and another; and a head with a rate of its
    own, the remedy that the text names."""

    def two_rates(target, seed):
        images, labels, *test = lab["targets"][target]
        chosen = lab["few_labels"](labels, lab["labels_of_each"][target], seed)
        network = reference.replace_head(lab["base"], len(labels.unique())).eval()
        groups = reference.parameter_groups(network, 0.1, lab["small_rate"][target])
        optimizer = torch.optim.SGD(groups)
        for _ in range(lab["small_steps"][target][-1]):
            optimizer.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        return lab["accuracy"](network, *(part[:100] for part in test))

    first, at_once = (
        {
            t: np.array([lab["after_each"](t, seed, steps) for seed in range(3)])
            for t in ("near", "far")
        }
        for steps in (100, 0)
    )
    ends = {target: [two_rates(target, seed) for seed in range(3)] for target in first}
    gains = {target: curve[:, -1] - curve[:, 0] for target, curve in first.items()}
    assert first["near"][:, 0].mean() > 0.8 and abs(gains["near"].mean()) < 0.05
    assert first["far"][:, 0].max() < 0.5 and gains["far"].min() > 0.05
    for target in first:
        assert (at_once[target][:, -1] < first[target][:, -1] - 0.2).all()
    assert np.mean(ends["near"]) > first["near"][:, -1].mean() - 0.03
    assert np.mean(ends["far"]) > (first["far"][:, -1] + at_once["far"][:, -1]).mean() / 2
