"""Lab 06's references against Captum, scikit-learn, NumPy, SciPy, finite differences and torch."""

from itertools import pairwise
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from sklearn.metrics import jaccard_score
from torch import nn
from torch.optim.swa_utils import update_bn
from walk import walk

from autograder.authoring.lab import find_lab
from autograder.authoring.reference import load_reference
from utils.images import preprocess
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


def test_occlusion_map_is_captums(reference, scenes, base):
    X, _ = scenes
    y = torch.tensor([3, 1, 4, 1])
    for size, stride, grey in [(16, 8, 0.5), (24, 20, 0.2)]:
        expected = Occlusion(base).attribute(
            X, (3, size, size), strides=(3, stride, stride), baselines=grey, target=y
        )
        actual = reference.occlusion_map(X, y, base, size, stride, grey)
        assert_close(actual[:, None].expand_as(expected), expected, 1e-5)


def test_integrated_gradients_are_captums(reference):
    images, y = reference.random_images(4, 3, 3, 6, 5), torch.tensor([3, 1, 0])
    baseline, network = reference.random_images(5, 3, 3, 6, 5), reference.tiny_network(2)
    expected = IntegratedGradients(network).attribute(
        images, baseline, y, n_steps=7, method="riemann_middle"
    )
    assert_close(reference.integrated_gradients(images, y, network, baseline, 7), expected, 1e-6)


def test_integrated_gradients_add_up_to_the_scores_rise(reference):
    images, y = reference.random_images(4, 3, 3, 6, 5), torch.tensor([3, 1, 0])
    baseline, network = reference.random_images(5, 3, 3, 6, 5), reference.tiny_network(2)
    total = reference.integrated_gradients(images, y, network, baseline, 400).sum((1, 2, 3))
    with torch.no_grad():
        rise = (network(images) - network(baseline)).gather(1, y[:, None])[:, 0]
    assert_close(total, rise, 1e-4)


def test_deletion_curve_is_that_of_pixels_sorted_by_numpy(reference):
    images, y = reference.random_images(6, 2, 3, 4, 6), torch.tensor([2, 0])
    saliency, filling = reference.random_images(7, 2, 4, 6), reference.random_images(8, 2, 3, 4, 6)
    network = reference.tiny_network(3)
    curve = reference.deletion_curve(images, y, network, saliency, filling, steps=8)
    for n in range(2):
        places = np.unravel_index(np.argsort(-saliency[n].numpy(), axis=None), (4, 6))
        for t in range(9):
            picture = images[n].numpy().copy()
            for row, column in list(zip(*places, strict=True))[: 3 * t]:
                picture[:, row, column] = filling[n, :, row, column]
            with torch.no_grad():
                scores = network(torch.from_numpy(picture)[None])[0].numpy()
            np.testing.assert_allclose(curve[n, t], scipy.special.softmax(scores)[y[n]])


@pytest.fixture(scope="module")
def lab():
    """The numbers behind the lab's figures."""
    return walk("06_saliency")


@pytest.mark.slow
def test_a_probability_is_asked_about_two_objects(lab):
    """Section 2: the score's map points at the object asked for, the probability's at either."""
    on_asked, on_other = (
        {name: lab["share_of_peaks"](maps, regions) for name, maps in lab["maps_two"].items()}
        for regions in (lab["first"], lab["second"])
    )
    assert on_asked["score"] > 3 * on_other["score"]
    assert abs(on_asked["probability"] - on_other["probability"]) < 0.15
    assert lab["p_single"].median() > 0.999
    assert np.mean(lab["agreement"]) > 0.9


@pytest.mark.slow
def test_pointing_is_no_privilege_of_networks(lab):
    """Section 4: four maps too close to be ranked, and an edge filter not far behind."""
    guess, _, edges, *maps = lab["pointing"].values()
    assert min(maps) > 4 * guess and max(maps) - min(maps) < 0.08
    assert min(maps) - 0.25 < edges < min(maps)


@pytest.mark.slow
def test_completeness_is_a_matter_of_steps(lab):
    errors = {n: (total - lab["risen"]).abs().mean() for n, total in lab["sums"].items()}
    assert errors[2] > errors[4] > errors[16] and errors[16] < 0.01 * lab["risen"].mean()


@pytest.mark.slow
def test_erasing_by_rank(lab):
    """Section 7: every map beats the lot, and an edge filter does about as well as occlusion."""
    for filling in lab["fillings"]:
        area = {name: lab["areas"][name, filling] for name in lab["orders"]}
        mean = {name: values.mean() for name, values in area.items()}
        error = {name: values.std() / len(values) ** 0.5 for name, values in area.items()}
        assert all(mean[name] < 0.5 * mean["by lot"] for name in mean if name != "by lot")
        assert mean["integrated"] == min(mean.values())
        assert abs(mean["edges, no network"] - mean["occlusion"]) < 0.03
        ranked = sorted(mean, key=mean.get)[:5]
        for first, second in pairwise(ranked):
            assert mean[second] - mean[first] < 2.5 * max(error[first], error[second])
    assert lab["by_rank"].mean() < 0.2  # one sixteenth erased, and the network doesn't know it
    assert 0.4 < lab["left"].mean() < 0.6  # five sixteenths erased by lot: half lost


@pytest.mark.slow
def test_growing_from_seeds_beats_a_threshold(lab):
    assert lab["wrong_pixels"].mean() < 0.75 * lab["wrong_by_threshold"]


@pytest.mark.slow
def test_a_network_that_cheats(lab):
    """Section 9: the object does base's work, the background that of biased, unless the baseline
    has its hue; occlusion's peaks and the experiment agree."""
    for name, coloured, neutral in [("base", 1, 1), ("biased", 1, 0.12)]:
        network = lab["networks"][name]
        assert abs(lab["accuracy"](network, lab["X_cheat"], lab["y_cheat"]) - coloured) < 0.05
        assert abs(lab["accuracy"](network, lab["X"], lab["y"]) - neutral) < 0.1
    peaks = lab["pointing_game"](lab["cheat_maps"]["biased"], lab["masks_cheat"]).float().mean()
    assert peaks > 1 / 3 and peaks > 2 * lab["masks_cheat"].float().mean()
    on_object, on_background = lab["shares"]["base"]
    assert on_object > 10 and -2 < on_background < 0
    on_object, on_background = lab["shares"]["biased"]
    assert abs(on_object) < 0.5 and on_background > 6
    for region in (lab["masks_some"], ~lab["masks_some"]):  # from the blurred image
        assert (lab["parts"] * region).sum((1, 2)).mean().abs() < 1
    assert lab["on_object"]["base"] > 0.75 and lab["on_object"]["biased"] < 0.1
    assert min(lab["changed"]["base"]) > 0.95
    recoloured_object, recoloured_background = lab["changed"]["biased"]
    assert recoloured_object > 0.95 and recoloured_background < 0.05


@pytest.mark.slow
def test_what_survives_random_weights(lab):
    """Section 10: blurred maps do, more than other pictures' maps account for; signs don't."""
    curves = {name: np.array(values) for name, values in lab["curves"].items()}
    blurred, others = (
        curves[name] for name in ("saliency maps, blurred", "blurred, with other pictures' maps")
    )
    assert blurred[-1] > 0.5 and curves["saliency maps"][-1] > 0.2
    assert others[-1] > 0.2 and (blurred > others + 0.1).all()
    assert abs(curves["signed gradients"][1:]).max() < 0.1
    assert np.mean(lab["on_one"]) > 0.5  # "more often than not"
    assert np.mean(lab["on_asked"]) < np.mean(lab["on_other"]) + 0.05
    assert max(a - b for a, b in zip(lab["on_asked"], lab["on_other"], strict=True)) > 0.05


@pytest.mark.slow
def test_three_of_captums_maps_agree_to_rounding(lab):
    for name, theirs in lab["summed"].items():
        apart = (theirs - lab["ours"][name]).abs().max() / lab["ours"][name].abs().max()
        assert apart > 0.05 if name == "SmoothGrad" else apart < 1e-5


@pytest.mark.slow
def test_wrong_answers_of_two_networks_hang_on_different_things(lab):
    """Section 12, in the order of its lines: base on the object, biased on the background."""
    assert lab["peaks_of_wrong"]["base, out of focus"] > 0.9
    assert lab["peaks_of_wrong"]["biased, neutral background"] < 0.5


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


def own_cell(scenes, picture, model):
    """What the cell for a network of one's own draws: the figure's title and the map's size."""
    (cell,) = (c for c in find_lab("06_saliency").cells if "MY_MODEL = None" in c.source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "show", lambda: None)
        namespace = {
            "torch": torch,
            "plt": plt,
            "X": scenes[0],
            "device": "cpu",
            "preprocess": preprocess,
            "compute_saliency_maps": load_reference("06_saliency").compute_saliency_maps,
            "own": SimpleNamespace(load=lambda size=None: picture),
            "model": model,
        }
        exec(cell.source.replace("MY_MODEL = None", "MY_MODEL = model"), namespace)
    if (figure := namespace.get("figure")) is None:
        return None
    plt.close(figure)
    return figure.get_suptitle(), figure.axes[1].images[0].get_array().shape


def test_a_network_of_ones_own_is_asked_for_its_answer(scenes, base, capsys):
    answer = base(scenes[0][:1]).argmax(1).item()
    title, size = own_cell(scenes, None, base)
    assert title.startswith(f"Your network's answer: class {answer}, score ") and size == (64, 64)
    picture = np.random.default_rng(0).integers(256, size=(224, 224, 3), dtype=np.uint8)
    assert own_cell(scenes, picture, base)[1] == (224, 224)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "MY_MODEL is None"),
        ("resnet", "MY_MODEL is of type str"),
        (nn.Identity(), "MY_MODEL gives a tensor (1, 3, 64, 64)"),
    ],
)
def test_no_network_or_a_wrong_one_draws_nothing(scenes, model, said, capsys):
    assert own_cell(scenes, None, model) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(said)
