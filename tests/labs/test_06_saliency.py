"""Lab 06's references against Captum, scikit-learn, NumPy, SciPy, finite differences and torch."""

import numpy as np
import pytest
import scipy.stats
import torch
from captum.attr import NoiseTunnel, Saliency
from sklearn.metrics import jaccard_score
from torch import nn
from torch.optim.swa_utils import update_bn

from autograder.authoring.reference import load_reference
from utils.models import load_model
from utils.scenes import make_scenes


@pytest.fixture(scope="module")
def reference():
    return load_reference("06_saliency")


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(4, np.random.default_rng(0)).tensors()


@pytest.fixture(scope="module")
def base():
    return load_model("base")


def assert_close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_saliency_maps_are_captums(reference, scenes, base):
    X, _ = scenes
    y = torch.tensor([3, 1, 4, 1])
    expected = Saliency(base).attribute(X.clone().requires_grad_(), y).sum(1)
    assert_close(reference.compute_saliency_maps(X, y, base), expected, 1e-5)


def test_score_gradients_are_captums(reference, scenes, base):
    X, _ = scenes
    gradients = reference.score_gradients(X, base)
    for c in (0, 7):
        assert_close(
            gradients[:, c],
            Saliency(base).attribute(X.clone().requires_grad_(), c, abs=False),
            1e-5,
        )


def test_probability_gradient_is_captums_behind_a_softmax(reference):
    images, y = reference.random_images(0, 3, 3, 6, 4), torch.tensor([4, 0, 2])
    network = reference.tiny_network(0)
    with torch.no_grad():
        scores = network(images)
    gradients = reference.score_gradients(images, network)
    explain = Saliency(nn.Sequential(network, nn.Softmax(dim=1)))
    expected = explain.attribute(images.clone().requires_grad_(), y, abs=False)
    assert_close(reference.probability_gradient(scores, gradients, y), expected, 1e-10)


def test_smooth_grad_is_captums_on_the_noise_that_captum_drew(reference):
    images, y = reference.random_images(1, 2, 3, 5, 4), torch.tensor([3, 1])
    network, seen = reference.tiny_network(1), []

    def watched(noisy):
        seen.append(noisy.detach().clone())
        return network(noisy)

    tunnel = NoiseTunnel(Saliency(watched))
    with torch.random.fork_rng(devices=[]):  # Captum draws its noise from the global state
        torch.manual_seed(0)
        mean = tunnel.attribute(images, nt_samples=5, stdevs=0.2, target=y, abs=False)
    # Captum repeats each image before it goes on to the next one.
    noise = torch.cat(seen).reshape(2, 5, *images.shape[1:]).transpose(0, 1) - images
    expected = mean.abs().sum(1)
    assert_close(reference.smooth_grad(images, y, network, noise), expected, 1e-10)


def test_pointing_game_finds_the_peaks_that_numpy_finds(reference):
    maps = np.random.default_rng(2).standard_normal((30, 5, 8))
    masks = np.random.default_rng(3).random((30, 5, 8)) < 0.5
    expected = [
        mask[np.unravel_index(m.argmax(), m.shape)] for m, mask in zip(maps, masks, strict=True)
    ]
    hits = reference.pointing_game(torch.from_numpy(maps), torch.from_numpy(masks))
    assert hits.tolist() == expected


def test_saliency_seeds_are_the_extremes_of_a_sorted_map(reference):
    saliency = torch.from_numpy(np.random.default_rng(4).random((8, 10)))
    seeds = reference.saliency_seeds(saliency, 0.1, 0.6)
    rank = scipy.stats.rankdata(saliency).reshape(8, 10)
    np.testing.assert_array_equal(seeds, np.where(rank > 72, 1, np.where(rank <= 48, 2, 0)))


def test_intersection_over_union_is_scikit_learns_jaccard(reference):
    segments, masks = (np.random.default_rng(seed).random((6, 5, 7)) < 0.4 for seed in (5, 6))
    expected = [jaccard_score(m.ravel(), s.ravel()) for s, m in zip(segments, masks, strict=True)]
    iou = reference.intersection_over_union(torch.from_numpy(segments), torch.from_numpy(masks))
    np.testing.assert_allclose(iou, expected, rtol=1e-6)


def test_region_gradient_foretells_a_small_change_of_colour(reference):
    images = reference.random_images(7, 3, 3, 6, 5)
    regions = reference.random_images(8, 3, 6, 5) < 0.4
    network, h = reference.tiny_network(2), 1e-5
    g = reference.region_gradient(reference.score_gradients(images, network)[:, 1], regions)
    for channel in range(3):
        change = torch.zeros_like(images)
        change[:, channel][regions] = h
        with torch.no_grad():
            slope = (network(images + change) - network(images - change))[:, 1] / (2 * h)
        assert_close(g[:, channel], slope, 1e-7)


def test_randomised_layers_are_normal_with_the_old_deviation(reference):
    network = reference.tiny_network(3, width=40)
    generator = torch.Generator().manual_seed(0)
    weight = reference.randomise_layers(network, ["conv2"], generator).conv2.weight.detach()
    scaled = (weight / network.conv2.weight.std()).flatten()
    assert scipy.stats.kstest(scaled.detach(), "norm").pvalue > 0.01


def test_recomputed_batchnorm_is_torchs_update_bn(reference):
    images = reference.random_images(9, 5, 3, 6, 7)
    network = reference.recompute_batchnorm(reference.tiny_network(4), images)
    expected = reference.tiny_network(4)
    update_bn([images], expected)
    for norm in ("norm1", "norm2"):
        for statistic in ("running_mean", "running_var"):
            actual, right = (
                getattr(model.get_submodule(norm), statistic) for model in (network, expected)
            )
            assert_close(actual, right, 1e-12)
