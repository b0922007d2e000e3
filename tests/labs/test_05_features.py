"""Lab 05's references against scikit-learn, scipy, torch, torchvision and brute force."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.spatial.distance import cdist, pdist
from scipy.special import entr, softmax
from scipy.stats import spearmanr
from sklearn import manifold
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.manifold import _utils
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, minmax_scale
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor
from walk import walk

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


@pytest.fixture(scope="module")
def lab():
    """The numbers behind the lab's figures."""
    return walk("05_features")


def nearest_are_alike(points, labels):
    """The share of points whose nearest neighbour has their label."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return (labels[distances.argmin(axis=1)] == labels).mean()


@pytest.mark.slow
def test_patches_share_a_texture_by_training(lab):
    assert lab["agreement"]["base"] > lab["agreement"]["untrained"] + 2


@pytest.mark.slow
def test_what_pca_shows_of_the_scenes(lab):
    labels, (projected, _, explained) = lab["labels"], lab["analyses"]["features of base"]
    assert explained[:9].sum() > 0.9 and explained[9] < explained[8]  # the curve's corner
    assert nearest_are_alike(projected[:, :2], labels) < 0.85  # "several in a heap"
    assert nearest_are_alike(projected[:, :9], labels) > 0.97
    for name in ("features, untrained", "pixels"):
        assert nearest_are_alike(lab["analyses"][name][0][:, :2], labels) < 0.2  # "one heap"
    assert abs(lab["brightness"]) > 0.95
    corners = pdist(lab["means"] - lab["means"].mean(axis=0))
    assert corners.std() < 0.15 * corners.mean()  # "at equal distances from one another"


@pytest.mark.slow
def test_clear_classes_in_features_and_a_map_of_noise_that_nobody_should_trust(lab):
    labels, features, drawn = lab["labels"], lab["features"], lab["drawn"]

    def trust(values, points):
        return manifold.trustworthiness(values, points, n_neighbors=10)

    for perplexity in (30, 100):
        assert nearest_are_alike(drawn["features of base", perplexity], labels) > 0.97
    assert trust(features, drawn["features of base", 30]) > 0.99
    assert silhouette_score(drawn["features of base", 30], labels) > 0.6
    assert silhouette_score(drawn["pixels", 30], labels) < 0.1
    assert trust(features, drawn["features of base", 2]) > 0.97  # classes torn, and T is high
    assert trust(lab["noise"], drawn["noise", 2]) < 0.75
    of_map, of_plane = (
        spearmanr(pdist(features), pdist(points)).statistic
        for points in (drawn["features of base", 30], lab["plane"])
    )
    assert of_map < of_plane and trust(features, lab["plane"]) < 0.95


@pytest.mark.slow
def test_one_k_is_not_enough(lab):
    def trust(values, points, k):
        return reference.trustworthiness(values, points, k)

    drawn, features, noise = lab["drawn"], lab["features"], lab["noise"]
    best_of_noise = max(trust(noise, drawn["noise", perplexity], 1) for perplexity in (2, 30))
    assert best_of_noise > trust(features, lab["plane"], 1)
    at_80 = [trust(features, drawn["features of base", p], 80) for p in (2, 30, 100)]
    assert at_80[0] == min(at_80) and max(at_80) < 0.9
    assert all(trust(features, drawn["features of base", p], 20) > 0.94 for p in (2, 30, 100))


@pytest.mark.slow
def test_what_the_probes_read_off(lab):
    right = {key: np.array(values) for key, values in lab["by_depth"].items()}
    of_class = right["the class", "base"]
    assert of_class[0] < 0.35 and of_class[-1] > 0.97
    assert (np.diff(of_class) > -0.02).all()  # "step by step"
    assert right["the class", "untrained"].max() < 0.35
    colour = "the background's colour"
    assert (np.diff(right[colour, "base"]) < 0.02).all() and right[colour, "base"][-1] < 0.45
    assert right[colour, "untrained"][-1] > 0.6
    large = right["is the object large?", "base"]
    assert large[3:].min() > large[:2].max()


@pytest.mark.slow
def test_no_channel_is_needed_or_special_or_knows_a_shape(lab):
    preferring, at_random = (
        dict(zip(lab["gone"], recalls, strict=True)) for recalls in lab["recalls"].values()
    )
    assert preferring[12] > 0.9 and preferring[24] < 0.5
    assert at_random[48] > at_random[0] - 0.02
    assert lab["prefer"].max() < 24  # "more than there are channels whose favourite is this class"
    channels, directions, untrained = (values.mean() for values in lab["detectors"].values())
    assert directions > channels - 0.01 and untrained < 0.8
    assert abs(lab["shape_areas"][5] - 0.5) < 0.05 and lab["texture_areas"][5] > 0.9  # the ring's
    assert (abs(lab["shape_areas"] - 0.5) < 0.1).sum() >= 8  # "nearly every other class"
    assert (lab["texture_areas"] > lab["shape_areas"]).all()
    last, untrained = (lab["selectivities"][name][-1] for name in ("base", "untrained"))
    assert last.min() > 0.3 > untrained.max()


@pytest.mark.slow
def test_neighbours_in_features_share_a_class_and_in_pixels_by_chance(lab):
    def alike(values, truth):
        found = reference.nearest_neighbours(values, values, 6)[:, 1:]
        return (truth[found] == truth[:, None]).mean()

    new = lab["new_representations"]
    assert alike(lab["features"], lab["labels"]) > 0.95
    assert alike(new["features of base"], lab["new"].shape_class) > 0.7
    assert alike(lab["pixels"], lab["labels"]) < 0.15
    assert alike(new["pixels"], lab["new"].shape_class) < 0.3


@pytest.mark.slow
def test_linear_nodes_on_pixels_know_the_flaw_and_little_else(lab):
    assert lab["train_linear"]("biased")[1] > 0.8
    assert 0.1 < lab["train_linear"]("single")[1] < 0.25  # "isn't much better than chance"


@pytest.mark.slow
def test_deeper_values_use_a_smaller_part_of_their_window(lab):
    used = []
    for number, place in ((2, 16), (4, 8), (5, 4), (6, 4)):
        chain = lab["windows"](lab["base"].features, f"relu{number}")
        start, stop = reference.receptive_window(chain, place)
        field = reference.receptive_field_gradient(
            lab["X"][:100], lab["base"], f"features.relu{number}", place, place
        )
        side = lab["side_holding"](field.numpy(), 0.9, (start + stop) / 2)
        used.append(side / (stop - start))
    assert used == sorted(used, reverse=True) and used[-1] < 0.8


@pytest.mark.slow
def test_no_map_of_the_toy_is_right(lab):
    def measured(points):
        """The three groups' radii, and the distances of their middles: 01, 02, 12."""
        groups = points.reshape(3, 50, 2)
        middles = groups.mean(axis=1)
        return np.linalg.norm(groups - middles[:, None], axis=2).mean(axis=1), pdist(middles)

    radii, apart = measured(lab["toy"])
    assert radii[1] > 5 * radii[0] and apart[1] > 4 * apart[0]
    radii, apart = measured(lab["tsne"](lab["toy"], 30))
    assert radii.max() < 1.3 * radii.min() and apart.max() < 1.3 * apart.min()
    at_100 = lab["tsne"](lab["toy"], 100)
    _, apart = measured(at_100)
    assert apart[1] > 2 * apart[0]  # the far group is far away
    tight = at_100[:50]
    halves = KMeans(2, n_init=5, random_state=0).fit_predict(tight)
    assert silhouette_score(tight, halves) > 0.7  # and the tight one is torn in two
