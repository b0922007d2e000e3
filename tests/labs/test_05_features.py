"""Lab 05's references against scikit-learn, scipy, torch, torchvision and brute force."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.special import entr, softmax
from sklearn import manifold
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.manifold import _utils
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, minmax_scale
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from autograder.authoring.reference import load_reference
from utils.models import load_model
from utils.scenes import make_scenes

reference = load_reference("05_features")


@pytest.fixture(scope="module")
def base():
    return load_model("base")


@pytest.fixture(scope="module")
def images():
    return make_scenes(40, np.random.default_rng(0)).tensors()[0]


@pytest.fixture(scope="module")
def features(base, images):
    name = "classifier.flatten"
    return reference.record_activations(images, base, [name])[name].double().numpy()


def test_weights_are_scaled_as_scikit_learn_scales_them():
    weight = np.random.default_rng(0).normal(size=(6, 3 * 4 * 5))
    expected = minmax_scale(weight, (0, 255), axis=1).round()
    # An image flattened by nn.Flatten and put back is itself.
    as_images = expected.reshape(6, 3, 4, 5)
    assert np.array_equal(nn.Flatten()(torch.from_numpy(as_images)), expected)
    actual = reference.weights_as_images(weight, (3, 4, 5))
    assert np.array_equal(actual.transpose(0, 3, 1, 2), as_images)


def test_activations_are_those_of_torchvisions_extractor(base, images):
    names = ["features.conv1", "features.relu4", "classifier.flatten"]
    with torch.no_grad():
        expected = create_feature_extractor(base, names)(images[:4])
    actual = reference.record_activations(images[:4], base, names)
    assert all(torch.equal(actual[name], expected[name]) for name in names)


def test_receptive_window_is_where_pixels_have_a_path():
    rng = np.random.default_rng(1)
    for length in (1, 2, 3, 4):
        layers = [tuple(map(int, row)) for row in rng.integers([1, 1, 0], 4, (length, 3))]
        chain = nn.Sequential(*(nn.Conv1d(1, 1, *layer, bias=False) for layer in layers)).double()
        for parameter in chain.parameters():
            nn.init.ones_(parameter)
        line = torch.ones(1, 1, 400, dtype=torch.float64, requires_grad=True)
        output = chain(line)[0, 0]
        index = len(output) // 2  # far from both ends
        (gradient,) = torch.autograd.grad(output[index], line)
        # Where a stride is larger than the next kernel, some pixels between the ends have no path.
        reached = gradient[0, 0].nonzero()[:, 0]
        assert (reached[0], reached[-1] + 1) == reference.receptive_window(layers, index)


def test_gradient_lies_within_the_window(base, images):
    chain = [(3, 1, 1), (2, 2, 0), (3, 1, 1), (2, 2, 0), (3, 1, 1), (3, 1, 1)]
    field = reference.receptive_field_gradient(images, base, "features.relu4", 7, 9)
    rows, columns = field.sum(1).nonzero()[:, 0], field.sum(0).nonzero()[:, 0]
    for place, reached in ((7, rows), (9, columns)):
        start, stop = reference.receptive_window(chain, place)
        assert (reached[0], reached[-1] + 1) == (start, stop)


def test_gradient_is_that_of_vmapped_autograd(base, images):
    trunk = create_feature_extractor(base, ["features.norm3"])

    def at_place(image):
        return trunk(image[None])["features.norm3"][0, :, 5, 11].sum()

    gradients = torch.func.vmap(torch.func.grad(at_place))(images[:6])
    expected = gradients.abs().sum(1).mean(0)
    actual = reference.receptive_field_gradient(images[:6], base, "features.norm3", 5, 11)
    assert (actual - expected).abs().max() <= 1e-5 * expected.max()


def test_strongest_places_by_brute_force():
    activations = torch.randn(7, 3, 4, 6, generator=torch.Generator().manual_seed(2))
    best = {}
    for n, row, column in np.ndindex(7, 4, 6):
        best[n] = max(best.get(n, (-np.inf,)), (activations[n, 2, row, column].item(), row, column))
    expected = sorted(best, key=lambda n: -best[n][0])[:5]
    actual = reference.strongest_places(activations, 2, 5)
    assert actual.tolist() == [[n, *best[n][1:]] for n in expected]


@pytest.mark.parametrize("count", [1, 5])
def test_pca_is_scikit_learns_up_to_sign(features, count):
    oracle = PCA(count, svd_solver="full")
    expected = oracle.fit_transform(features)
    projected, components, explained = reference.pca(features, count)
    signs = np.sign((components * oracle.components_).sum(1))
    np.testing.assert_allclose(projected * signs, expected, atol=1e-9)
    np.testing.assert_allclose(components * signs[:, None], oracle.components_, atol=1e-9)
    np.testing.assert_allclose(explained, oracle.explained_variance_ratio_, atol=1e-12)


@pytest.mark.parametrize("perplexity", [2, 10, 30])
def test_conditional_probabilities_are_scikit_learns(features, perplexity):
    squared = cdist(features, features, "sqeuclidean")
    actual = reference.conditional_probabilities(squared, perplexity)
    # Scikit-learn's search stops early, and works in float32.
    expected = _utils._binary_search_perplexity(squared.astype(np.float32), perplexity, 0)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_conditional_probabilities_by_scipys_root_finder():
    points = np.random.default_rng(5).normal(size=(12, 3)) * np.linspace(0.05, 40, 12)[:, None]
    squared = cdist(points, points, "sqeuclidean")
    actual = reference.conditional_probabilities(squared, 4.5)
    np.testing.assert_allclose(np.exp(entr(actual).sum(1)), 4.5, rtol=1e-10)
    for i, row in enumerate(squared):
        others = np.delete(row, i)
        log_beta = brentq(
            lambda b, d=others: entr(softmax(-np.exp(b) * d)).sum() - np.log(4.5), -20, 20
        )
        expected = np.insert(softmax(-np.exp(log_beta) * others), i, 0)
        np.testing.assert_allclose(actual[i], expected, atol=1e-9)


def test_linear_probe_is_scikit_learns_ridge(base, images):
    maps = reference.record_activations(images, base, ["features.relu2"])["features.relu2"]
    maps, labels = maps.double().numpy(), np.arange(40) % 4
    for penalty in (0.01, 1.0):
        pipeline = make_pipeline(StandardScaler(), Ridge(alpha=30 * penalty))
        pipeline.fit(maps[:30].mean((2, 3)), np.eye(4)[labels[:30]])
        expected = pipeline.predict(maps[30:].mean((2, 3)))
        actual = reference.linear_probe(maps[:30], labels[:30], maps[30:], penalty)
        np.testing.assert_allclose(actual, expected, atol=1e-9)


@pytest.mark.parametrize("k", [1, 4, 15])
def test_trustworthiness_is_scikit_learns(features, k):
    for points in (PCA(2).fit_transform(features), np.random.default_rng(4).normal(size=(40, 2))):
        expected = manifold.trustworthiness(features, points, n_neighbors=k)
        assert reference.trustworthiness(features, points, k) == pytest.approx(expected, abs=1e-12)


def test_nearest_neighbours_are_scikit_learns(features):
    oracle = NearestNeighbors(n_neighbors=7).fit(features[10:])
    actual = reference.nearest_neighbours(features[:10], features[10:], 7)
    assert np.array_equal(actual, oracle.kneighbors(features[:10], return_distance=False))
    by_angle = cosine_distances(features[:10], features[10:]).argsort(axis=1)[:, :7]
    assert not np.array_equal(actual, by_angle)


def test_selectivity_of_channels_whose_means_are_known():
    labels = np.repeat([0, 1, 2], [1, 2, 5])
    means = np.array([[6.0, 1.0, 2.0, 0.0], [3.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    spread = np.array([0, -1, 1, -1, 1, 0, 0.5, -0.5])[:, None]  # no class's mean moves
    activations = means[labels] * (1 + spread)
    expected = [(6 - 1.5) / (6 + 1.5), 0, 1, 0]
    np.testing.assert_allclose(reference.selectivity(activations, labels), expected)


@pytest.mark.slow
def test_numbers_of_the_scenes(base):
    """Features fall into classes on the map and pixels don't, and the map can be trusted."""
    from sklearn.metrics import silhouette_score

    scenes = make_scenes(300, np.random.default_rng(5))
    X, labels = scenes.tensors()[0], scenes.shape_class
    name = "classifier.flatten"
    features = reference.record_activations(X, base, [name])[name].double().numpy()
    pixels = reference.pca(X.flatten(1).double().numpy(), 50)[0]
    maps = [manifold.TSNE(init="pca", random_state=0).fit_transform(x) for x in (features, pixels)]
    assert reference.trustworthiness(features, maps[0], 10) >= 0.9
    assert silhouette_score(maps[0], labels) >= 0.6
    assert silhouette_score(maps[1], labels) <= 0.1
