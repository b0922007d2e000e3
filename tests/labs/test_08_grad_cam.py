"""Lab 08's references against Captum, pytorch-grad-cam, torchvision, skimage and sklearn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.ndimage import gaussian_filter
from skimage.morphology import dilation
from sklearn.metrics import jaccard_score
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from autograder.authoring.lab import find_lab
from autograder.authoring.reference import load_reference
from utils.attribution import guided_backprop
from utils.images import preprocess
from utils.models import load_model
from utils.scenes import make_scenes

reference = load_reference("08_grad_cam")
LAYERS = ["features.relu2", "features.norm4", "features.relu6"]


@pytest.fixture(scope="module")
def base():
    return load_model("base")


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(6, np.random.default_rng(0))


@pytest.fixture(scope="module")
def images(scenes):
    return scenes.tensors()[0]


@pytest.fixture(scope="module")
def classes(scenes):
    """The true class in half of the scenes, another one in the others."""
    return (torch.from_numpy(scenes.shape_class) + torch.tensor([0, 1, 0, 2, 0, 3])) % 10


def assert_close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def captum_maps(model, layer, images, classes):
    """Captum's Grad-CAM, upsampled but not divided, (N, H, W)."""
    maps = LayerGradCam(model, layer).attribute(images, classes, relu_attributions=True).detach()
    return F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize("name", LAYERS)
def test_grad_cam_is_captums(base, images, classes, name):
    maps = captum_maps(base, base.get_submodule(name), images, classes)
    largest = maps.amax((1, 2), keepdim=True)
    expected = torch.where(largest > 0, maps / largest, 0)
    actual = reference.grad_cam(images, classes, base, base.get_submodule(name))
    assert_close(actual, expected)


def test_grad_cam_is_pytorch_grad_cams(base, images, classes):
    targets = [ClassifierOutputTarget(int(c)) for c in classes]
    with GradCAM(base, [base.get_submodule(base.last_conv)]) as method:
        theirs = torch.from_numpy(method(images.clone(), targets=targets))
    ours = reference.grad_cam(images, classes, base, base.get_submodule(base.last_conv))
    lowest = ours.amin((1, 2), keepdim=True)  # they subtract the smallest value before dividing
    spread = ours.amax((1, 2), keepdim=True) - lowest
    assert_close(torch.where(spread > 0, (ours - lowest) / spread, 0), theirs)


def test_grad_cam_is_cam_behind_average_pooling(base, images, classes):
    last = base.get_submodule(base.last_conv)
    features = reference.record_output(images, base, last)
    maps = reference.class_activation_map(features, base.classifier.linear.weight.detach(), classes)
    places = features.shape[2] * features.shape[3]
    maps = maps.relu() / places  # before the division by the largest value
    raw = LayerGradCam(base, last).attribute(images, classes, relu_attributions=True).detach()
    assert_close(maps, raw[:, 0], 1e-6)


def test_grad_cam_of_a_frozen_model(base, images, classes):
    layer = base.get_submodule(base.last_conv)
    expected = reference.grad_cam(images, classes, base, layer)
    frozen = load_model("base").requires_grad_(False)
    actual = reference.grad_cam(images, classes, frozen, frozen.get_submodule(frozen.last_conv))
    assert torch.equal(actual, expected)


def test_class_activation_map_averages_to_the_score(base, images, classes):
    with torch.no_grad():
        features = base.features(images)
        maps = reference.class_activation_map(features, base.classifier.linear.weight, classes)
        scores = base(images).gather(1, classes[:, None])[:, 0]
        assert_close(maps.mean((1, 2)) + base.classifier.linear.bias[classes], scores)


@pytest.mark.parametrize("name", [*LAYERS, "classifier.linear"])
def test_record_output_is_torchvisions_extractor(base, images, name):
    expected = create_feature_extractor(base, [name])(images)[name]
    assert torch.equal(reference.record_output(images, base, base.get_submodule(name)), expected)


@pytest.mark.parametrize("tolerance", [0, 1, 2.3, 3])
def test_pointing_game_is_a_hit_in_the_dilated_mask(tolerance):
    generator = np.random.default_rng(1)
    cam, masks = generator.random((100, 9, 13)), generator.random((100, 9, 13)) < 0.04
    masks[:, 4, 6] = True
    reach = np.arange(-5, 6)
    disc = reach[:, None] ** 2 + reach**2 <= tolerance**2
    expected = [
        dilation(mask, disc)[np.unravel_index(heat.argmax(), heat.shape)]
        for heat, mask in zip(cam, masks, strict=True)
    ]
    hits = reference.pointing_game(torch.from_numpy(cam), torch.from_numpy(masks), tolerance)
    assert hits.tolist() == expected
    assert any(expected) and not all(expected)


def test_intersection_over_union_is_the_jaccard_score(images, scenes):
    cam, masks = images[:, 0], torch.from_numpy(scenes.masks)
    lit = (cam >= 0.4).flatten(1).numpy()
    expected = [jaccard_score(m, r) for m, r in zip(masks.flatten(1).numpy(), lit, strict=True)]
    assert reference.intersection_over_union(cam, masks, 0.4).tolist() == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
def test_guided_grad_cam_is_captums(base, images, classes):
    layer = base.get_submodule(base.last_conv)
    guided = GuidedBackprop(base).attribute(images.clone(), classes).detach()
    assert_close(guided_backprop(images, classes, base), guided)
    maps = captum_maps(base, layer, images, classes)
    expected = GuidedGradCam(base, layer).attribute(
        images.clone(), classes, interpolate_mode="bilinear"
    )
    assert_close(reference.guided_grad_cam(images, classes, base, maps), expected.detach())


def test_insertion_deletion_is_what_rises_authors_compute(base, images, classes):
    """Their evaluation changes an image step by step, each time by the next pixels in order."""
    generator = np.random.default_rng(2)
    maps = generator.permuted(np.tile(np.arange(64.0 * 64), (len(images), 1)), axis=1)
    blurred = gaussian_filter(images.numpy(), (0, 0, 5, 5))
    steps = 8
    expected = np.zeros((2, len(images), steps + 1))
    for n in range(len(images)):
        order = np.flip(np.argsort(maps[n]))
        for kind, (start, finish) in enumerate(
            [(blurred[n], images[n].numpy()), (images[n].numpy(), blurred[n])]
        ):
            current = start.reshape(3, -1).copy()
            for step in range(steps + 1):
                with torch.no_grad():
                    scores = base(torch.from_numpy(current).reshape(1, 3, 64, 64))
                expected[kind, n, step] = scores.softmax(1)[0, classes[n]]
                coordinates = order[512 * step : 512 * (step + 1)]
                current[:, coordinates] = finish.reshape(3, -1)[:, coordinates]
    curves = reference.insertion_deletion(
        images,
        classes,
        base,
        torch.from_numpy(maps).reshape(-1, 64, 64),
        torch.from_numpy(blurred),
        torch.linspace(0, 1, steps + 1),
    )
    assert np.abs(torch.stack(curves).numpy() - expected).max() < 1e-5


def test_what_the_lab_says_of_insertion_and_deletion(base):
    scenes = make_scenes(120, np.random.default_rng(8))[:60]
    X, y = scenes.tensors()
    layer = base.get_submodule(base.last_conv)
    baseline = torch.from_numpy(gaussian_filter(X.numpy(), (0, 0, 5, 5)))
    fractions = torch.tensor([0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1])
    differentiable = X.clone().requires_grad_()
    (saliency,) = torch.autograd.grad(
        base(differentiable).gather(1, y[:, None]).sum(), differentiable
    )
    cam, guided = reference.grad_cam(X, y, base, layer), guided_backprop(X, y, base)
    maps = {
        "cam": cam,
        "another": reference.grad_cam(X, (y + 3) % 10, base, layer),
        "saliency": saliency.abs().sum(1),
        "random": torch.rand(60, 64, 64, generator=torch.Generator().manual_seed(0)),
        "detail": (X - baseline).abs().sum(1),
        "guided": guided.abs().sum(1),
        "product": (guided * cam[:, None]).abs().sum(1),
    }
    insertion, deletion, hits = {}, {}, {}
    for name, values in maps.items():
        curves = reference.insertion_deletion(X, y, base, values, baseline, fractions)
        insertion[name], deletion[name] = (
            torch.trapezoid(curve.mean(0), fractions).item() for curve in curves
        )
        hits[name] = reference.pointing_game(values, torch.from_numpy(scenes.masks)).float().mean()
        if name == "cam":
            assert curves[0][:, 3].mean() > 0.9  # a tenth of the pixels
            assert curves[0][:, 0].mean() < 0.2  # in the blurred image it recognises nothing
    assert insertion["another"] < insertion["random"] + 0.02
    assert deletion["another"] > deletion["random"]
    assert abs(deletion["cam"] - deletion["saliency"]) < 0.05
    assert insertion["cam"] > insertion["saliency"] + 0.05
    assert insertion["detail"] > insertion["saliency"] and deletion["detail"] < deletion["cam"]
    assert min(hits["guided"], hits["product"]) > hits["cam"] > hits["saliency"]
    assert max(deletion["guided"], deletion["product"]) < min(deletion["cam"], deletion["saliency"])
    assert insertion["guided"] < insertion["product"] < insertion["cam"]


def correlation(some, others):
    pairs = zip(some.flatten(1), others.flatten(1), strict=True)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs if a.any() and b.any()])


def test_what_the_lab_says_of_pointing_and_covering(base):
    scenes = make_scenes(120, np.random.default_rng(8))
    masks = torch.from_numpy(scenes.masks)
    cam = reference.grad_cam(*scenes.tensors(), base, base.get_submodule(base.last_conv))
    strictly, tolerantly = (
        reference.pointing_game(cam, masks, pixels).float().mean() for pixels in (0, 3)
    )
    assert 0.75 < strictly < 0.87 and tolerantly > 0.9
    assert (cam >= 0.5).sum() > 1.5 * masks.sum()  # far more than the object
    iou = {
        threshold: reference.intersection_over_union(cam, masks, threshold).mean().item()
        for threshold in np.linspace(0.05, 0.95, 19)
    }
    best = max(iou, key=iou.get)
    assert best > 0.5 and iou[best] < 0.6


def test_what_the_lab_says_of_two_objects_and_of_layers(base):
    pairs = make_scenes(60, np.random.default_rng(14), "two_objects")
    X, first = pairs.tensors()
    second = torch.from_numpy(pairs.second.shape_class)
    absent = (first + 1) % 10
    absent = torch.where(absent == second, (absent + 1) % 10, absent)
    with torch.no_grad():
        features = base.features(X)
    weight = base.classifier.linear.weight.detach()
    peaks = [
        reference.class_activation_map(features, weight, asked).relu().amax((1, 2)).median()
        for asked in (first, second, absent)
    ]
    assert min(peaks[:2]) > 35 and max(peaks[:2]) < 45 and peaks[2] < 5

    masks = torch.from_numpy(pairs.masks), torch.from_numpy(pairs.second.masks)
    own, other, alike = {}, {}, {}
    for number in range(1, 7):
        layer = base.get_submodule(f"features.relu{number}")
        maps = [reference.grad_cam(X, asked, base, layer) for asked in (first, second)]
        own[number], other[number] = (
            torch.cat([reference.pointing_game(*both) for both in zip(maps, order, strict=True)])
            .float()
            .mean()
            for order in (masks, masks[::-1])
        )
        alike[number] = correlation(*maps)
    assert max(abs(alike[1]), abs(alike[2])) < 0.1 and alike[6] < alike[5] < alike[4]
    assert abs(own[1] - other[1]) < 0.1
    assert max(other[number] for number in (3, 4, 5, 6)) < 0.05
    assert own[4] == max(own.values())

    saliency = X.clone().requires_grad_()
    layer = base.get_submodule(base.last_conv)
    methods = {
        "saliency": lambda y: torch.autograd.grad(
            base(saliency).gather(1, y[:, None]).sum(), saliency
        )[0],
        "guided": lambda y: guided_backprop(X, y, base),
        "product": lambda y: reference.guided_grad_cam(
            X, y, base, reference.grad_cam(X, y, base, layer)
        ),
    }
    two = {
        name: correlation(*(method(y).abs().sum(1) for y in (first, second)))
        for name, method in methods.items()
    }
    assert two["saliency"] > 0.4 and two["guided"] > 0.4 and abs(two["product"]) < 0.15
    assert alike[6] < -0.3


def test_what_the_lab_says_of_the_two_networks(base):
    hinting = make_scenes(100, np.random.default_rng(21), "biased")
    X, y = hinting.tensors()
    plain, answers = make_scenes(120, np.random.default_rng(8)).tensors()
    masks, right, hits = torch.from_numpy(hinting.masks), {}, {}
    for name in ("base", "biased"):
        network = load_model(name)
        with torch.no_grad():
            right[name] = [
                (network(images).argmax(1) == classes).float().mean()
                for images, classes in ((X, y), (plain, answers))
            ]
        cam = reference.grad_cam(X, y, network, network.get_submodule(network.last_conv))
        hits[name] = [reference.pointing_game(cam, masks, t).float().mean() for t in (0, 4)]
    assert min(right["base"]) > 0.95
    assert right["biased"][0] > 0.95 and right["biased"][1] < 0.25
    assert hits["biased"][0] < 0.05
    assert 0.7 < hits["base"][0] < 0.85 and hits["base"][1] > 0.9  # near misses


class Negative(nn.Module):
    def forward(self, scores):
        return -scores


def test_what_speaks_against_a_class_hides_it(base):
    pairs = make_scenes(60, np.random.default_rng(14), "two_objects")
    X, first = pairs.tensors()
    layer = base.get_submodule(base.last_conv)
    against = reference.grad_cam(X, first, nn.Sequential(base, Negative()), layer)
    own, other = torch.from_numpy(pairs.masks), torch.from_numpy(pairs.second.masks)
    assert not reference.pointing_game(against, own).any()
    assert reference.pointing_game(against, other, 3).float().mean() > 0.6
    blurred, region = torch.from_numpy(gaussian_filter(X.numpy(), (0, 0, 5, 5))), against >= 0.5
    before, after, control = (
        base(images).softmax(1).gather(1, first[:, None]).mean().item()
        for images in (
            X,
            torch.where(region[:, None], blurred, X),
            torch.where(region.flip(2)[:, None], blurred, X),
        )
    )
    assert after > 0.95 and abs(control - before) < 0.1 and before < 0.6


@pytest.mark.slow
def test_only_the_gradient_finds_what_a_hidden_layer_goes_by(base):
    """Section 7: no linear head answers whether two objects are of the same five classes."""

    def question(count, seed):
        drawn = make_scenes(count, np.random.default_rng(seed), "two_objects")
        with torch.no_grad():
            features = [base.features(part) for part in drawn.tensors()[0].split(100)]
        differ = (drawn.shape_class < 5) != (drawn.second.shape_class < 5)
        return drawn, torch.cat(features), torch.from_numpy(differ).long()

    _, features, answers = question(1200, 51)
    duos, new_features, differ = question(200, 52)
    either = torch.from_numpy(duos.masks | duos.second.masks)
    both = [torch.from_numpy(mask) for mask in (duos.masks, duos.second.masks)]
    means = features.mean((2, 3))
    torch.manual_seed(0)
    linear = nn.Linear(128, 2)
    hidden = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))
    right = {}
    for head in (linear, hidden):
        optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            for batch in torch.randperm(len(means), generator=generator).split(50):
                optimizer.zero_grad()
                F.cross_entropy(head(means[batch]), answers[batch]).backward()
                optimizer.step()
        answer = head(new_features.mean((2, 3))).argmax(1)
        right[head] = (answer == differ).float().mean()
    assert right[linear] < 0.65 and right[hidden] > 0.95
    network = nn.Sequential(base.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), hidden)
    product = (hidden[2].weight @ hidden[0].weight).detach()
    makeshift = reference.class_activation_map(new_features, product, differ)[:, None].relu()
    makeshift = F.interpolate(makeshift, (64, 64), mode="bilinear")[:, 0]
    cam = reference.grad_cam(duos.tensors()[0], differ, network, base.get_submodule(base.last_conv))
    hits = [reference.pointing_game(maps, either, 3).float() for maps in (makeshift, cam)]
    by_answer = [[hit[differ == kind].mean().item() for kind in (0, 1)] for hit in hits]
    assert min(by_answer[0]) < 0.65 and min(by_answer[1]) > 0.85
    assert hits[1].mean() > hits[0].mean() + 0.2
    lit = [(cam * mask).amax((1, 2)) >= 0.5 for mask in both]
    assert (lit[0] & lit[1]).float().mean() < 0.6  # often one of the two only


def own_cell(images, picture, model, layer):
    """The titles that the cell for a network of one's own draws."""
    (cell,) = (c for c in find_lab("08_grad_cam").cells if "MY_MODEL, MY_LAYER = None" in c.source)
    drawn = []

    def overlay(picture, maps, titles, **_):
        assert maps.shape == (1, *picture.shape[2:]) and maps.max() == 1
        drawn.append((tuple(picture.shape), *titles))

    namespace = {
        "torch": torch,
        "images": images,
        "device": "cpu",
        "preprocess": preprocess,
        "grad_cam": reference.grad_cam,
        "overlay": overlay,
        "plt": SimpleNamespace(show=lambda: None),
        "own": SimpleNamespace(load=lambda size=None: picture),
        "model": model,
        "layer": layer,
    }
    exec(cell.source.replace("MY_LAYER = None, None", "MY_LAYER = model, layer"), namespace)
    return drawn


def test_a_network_of_ones_own_is_asked_for_its_answer(base, images, capsys):
    answer = base(images[:1]).argmax(1).item()
    (drawn,) = own_cell(images, None, base, base.get_submodule(base.last_conv))
    assert drawn[0] == (1, 3, 64, 64) and drawn[1].startswith(f"class {answer}: score ")
    picture = np.random.default_rng(0).integers(256, size=(224, 224, 3), dtype=np.uint8)
    (drawn,) = own_cell(images, picture, base, base.get_submodule(base.last_conv))
    assert drawn[0] == (1, 3, 224, 224)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("model", "layer", "said"),
    [
        (None, None, "MY_MODEL is None"),
        (None, nn.ReLU(), "MY_MODEL is None"),
        ("resnet", None, "MY_MODEL is of type str"),
        (nn.Flatten(), None, "MY_LAYER is None"),
        (nn.Flatten(), "layer4", "MY_LAYER is of type str"),
    ],
)
def test_no_network_or_a_wrong_one_draws_nothing(images, model, layer, said, capsys):
    assert own_cell(images, None, model, layer) == []
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(said)
