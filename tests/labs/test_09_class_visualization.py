"""Lab 09's references against oracles that nobody here wrote: Captum, SciPy, NumPy, Pillow."""

import captum.attr
import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from torch import nn

from autograder.authoring.reference import load_reference
from utils.models import load_model

lab = load_reference("09_class_visualization")


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, 16, 20, generator=generator, dtype=torch.float64)


def network(name):
    """A shipped network as the lab has it, of images that are normalised already."""
    model = load_model(name)
    return nn.Sequential(model.features[1:], model.classifier).requires_grad_(False)


@pytest.fixture(scope="module")
def base():
    return network("base")


def test_a_step_goes_along_captums_saliency(images):
    model, target_y = lab.TinyNetwork(0), torch.tensor([4, 0, 2])
    saliency = captum.attr.Saliency(model).attribute(
        images.clone().requires_grad_(), target_y, abs=False
    )
    img = images.clone()
    lab.class_visualization_update_step(img, target_y, model, 0.0, 0.3)
    step = (img - images).flatten(1)
    cosine = nn.functional.cosine_similarity(step, saliency.flatten(1))
    assert torch.allclose(cosine, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(step.norm(dim=1), torch.full((3,), 0.3, dtype=torch.float64))


def test_a_step_follows_the_numerical_gradient_of_score_and_regulariser():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(1, 3, 4, 5, generator=generator, dtype=torch.float64)
    model, l2_reg = lab.TinyNetwork(1), 0.02

    def objective(x):
        return (model(x)[0, 3] - l2_reg * x.norm() ** 2).item()

    gradient = torch.zeros_like(start)
    for index in np.ndindex(start.shape):
        moved = start.clone()
        moved[index] += 1e-5
        gradient[index] = objective(moved)
        moved[index] -= 2e-5
        gradient[index] = (gradient[index] - objective(moved)) / 2e-5
    img = start.clone()
    lab.class_visualization_update_step(img, torch.tensor([3]), model, l2_reg, 1.0)
    assert torch.allclose(img - start, gradient / gradient.norm(), rtol=0, atol=1e-7)


def test_clamping_is_numpys_clip_of_pixels(images):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    m, s = mean.numpy().reshape(3, 1, 1), std.numpy().reshape(3, 1, 1)
    pixels = np.clip(3 * images.numpy() * s + m, 0, 1)
    clamped = lab.clamp_image(3 * images, mean, std).numpy()
    np.testing.assert_allclose(clamped * s + m, pixels, atol=1e-6)


def test_blur_is_scipys_gaussian(images):
    blurred = scipy.ndimage.gaussian_filter(images, (0, 0, 0.8, 0.8), mode="mirror")
    np.testing.assert_allclose(lab.blur_image(images, 0.8), blurred, atol=1e-6)


@pytest.mark.parametrize("percentile", [0, 12.5, 80])
def test_clipping_is_numpys_percentile(images, percentile):
    gradient = images.flip(0, 3)
    norms = np.linalg.norm(images, axis=1)
    contributions = np.abs(np.einsum("nkhw,nkhw->nhw", images, gradient))
    for clipped, measure in [
        (lab.clip_small_values(images, percentile), norms),
        (lab.clip_small_contributions(images, gradient, percentile), contributions),
    ]:
        small = measure < np.percentile(measure, percentile, axis=(1, 2), keepdims=True)
        np.testing.assert_array_equal(clipped, np.where(small[:, None], 0, images))


def test_contributions_are_captums_input_times_gradient(images):
    weight = torch.randn(4, 3, 16, 20, generator=torch.Generator().manual_seed(2)).double()
    model, target_y = lab.linear_network(weight), torch.tensor([1, 3, 0])
    attribution = captum.attr.InputXGradient(model).attribute(
        images.clone().requires_grad_(), target_y
    )
    measure = attribution.sum(1).abs().detach().numpy()
    small = measure < np.percentile(measure, 60, axis=(1, 2), keepdims=True)
    clipped = lab.clip_small_contributions(images, weight[target_y], 60)
    np.testing.assert_array_equal(clipped, np.where(small[:, None], 0, images))


@pytest.mark.parametrize("layer", ["conv1", "norm", "block.0", "block"])
def test_channel_scores_are_captums_layer_activations(images, layer):
    model = lab.TinyNetwork(0)
    activation = captum.attr.LayerActivation(model, model.get_submodule(layer)).attribute(images)
    means = lab.channel_scores(images, model, layer)
    assert torch.allclose(means, activation.mean((2, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (8, 5), (3, 4), (1, 2), (2, 1)])
def test_a_fourier_image_is_a_sum_of_waves(height, width):
    rng = np.random.default_rng(height * width)
    real, imaginary = rng.standard_normal((2, height, width // 2 + 1))
    r, c = np.mgrid[:height, :width]
    waves = np.zeros((height, width))
    for u, v in np.ndindex(real.shape):
        down, along = (u if 2 * u < height else u - height) / height, v / width
        scale = 1 / max(np.hypot(down, along), 1 / max(height, width))
        angle = 2 * np.pi * (down * r + along * c)
        wave = real[u, v] * np.cos(angle) - imaginary[u, v] * np.sin(angle)
        mirrored = 0 < 2 * v < width  # its conjugate is in a column that was left out
        waves += scale * wave * (2 if mirrored else 1)
    expected = 1 / (1 + np.exp(-waves / np.sqrt(height * width)))
    spectrum = torch.from_numpy(np.stack([real, imaginary], axis=-1)).expand(2, 3, -1, -1, -1)
    image = lab.fourier_image(spectrum, width)
    np.testing.assert_allclose(image[1, 2], expected, atol=1e-12)


@pytest.mark.parametrize("width", [10, 11])
def test_every_image_has_a_spectrum(width):
    image = np.random.default_rng(width).uniform(0.01, 0.99, (2, 3, 7, width))
    coefficients = np.fft.rfft2(np.log(image / (1 - image)), norm="ortho")
    frequency = np.hypot(np.fft.fftfreq(7)[:, None], np.fft.rfftfreq(width))
    coefficients *= np.maximum(frequency, 1 / width)
    spectrum = torch.from_numpy(np.stack([coefficients.real, coefficients.imag], axis=-1))
    np.testing.assert_allclose(lab.fourier_image(spectrum, width), image, atol=1e-12)


def test_a_small_step_of_the_spectrum_is_the_pixels_gradient_over_the_squared_frequency():
    height, width = 8, 11
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)
    spectrum = torch.zeros(1, 3, height, 6, 2, dtype=torch.float64).requires_grad_()
    (lab.fourier_image(spectrum, width) * upstream).sum().backward()
    moved = lab.fourier_image(spectrum.detach() + 1e-6 * spectrum.grad, width) - 0.5
    ratio = np.fft.rfft2(moved) / np.fft.rfft2(upstream)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    product = (ratio * frequency**2)[..., 1:]  # the first column holds its waves twice
    np.testing.assert_allclose(product, np.full_like(product, product[0, 0, 0, 0]), rtol=1e-6)


def resized(images, size):
    """Pillow's bilinear resampling of each channel, which averages where it shrinks."""
    flat = [
        Image.fromarray(channel.astype(np.float32))
        for channel in images.reshape(-1, *images.shape[2:])
    ]
    shrunk = [np.asarray(channel.resize(size[::-1], Image.Resampling.BILINEAR)) for channel in flat]
    return np.stack(shrunk).reshape(*images.shape[:2], *size).astype(float)


def test_a_dream_through_a_linear_layer_is_numpys():
    rng = np.random.default_rng(0)
    photograph, weight = rng.uniform(size=(2, 3, 12, 17)), rng.standard_normal((4, 3, 1, 1))
    features = nn.Conv2d(3, 4, 1, bias=False).double()
    features.weight.data = torch.from_numpy(weight)
    sizes, offsets = [(6, 9), (9, 12), (12, 17)], rng.integers(-3, 4, (3, 4, 2))
    gram = np.einsum("koij,kcij->oc", weight, weight)
    detail = np.zeros_like(photograph)
    for size, octave in zip(sizes, offsets, strict=True):
        base = resized(photograph, size)
        img = base + resized(detail, size)
        for _ in octave:  # a layer that sees one pixel at a time doesn't notice the jitter
            gradient = np.einsum("oc,nchw->nohw", gram, img)
            img = img + 0.03 * gradient / np.abs(gradient).mean((1, 2, 3), keepdims=True)
            img = np.clip(img, 0, 1)
        detail = img - base
    dream = lab.deep_dream(
        torch.from_numpy(photograph), features, sizes, torch.from_numpy(offsets), 0.03
    )
    np.testing.assert_allclose(dream, img, atol=1e-5)


@pytest.mark.parametrize("layer", ["relu2", "relu4", "relu6"])
def test_a_dream_makes_a_layer_see_more(layer):
    features = load_model("base").features
    names = [name for name, _ in features.named_children()]
    features = features[: names.index(layer) + 1].requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    photograph = torch.rand(1, 3, 48, 64, generator=generator)
    offsets = torch.randint(-4, 5, (2, 5, 2), generator=generator)
    dream = lab.deep_dream(photograph, features, [(36, 48), (48, 64)], offsets)
    assert features(dream).norm() > 1.5 * features(photograph).norm()
    assert dream.min() >= 0
    assert dream.max() <= 1


def test_pixels_and_spectra_climb_as_the_lab_says(base):
    """The pixels' score is higher, and loses more in a shift; their detail is finer."""
    model, five = load_model("base").requires_grad_(False), torch.tensor([0, 3, 6, 8, 9])
    generator = torch.Generator().manual_seed(0)
    flat = 0.01 * torch.randn(5, 3, 64, 66, generator=generator)
    numbers = []
    for paint, start, rate in [
        (torch.sigmoid, 0.1 * torch.randn(5, 3, 64, 64, generator=generator), 6.0),
        (lambda flat: lab.fourier_image(flat.unflatten(3, (33, 2)), 64), flat, 1.0),
    ]:
        for _ in range(30):
            x = start.requires_grad_()
            score = model(paint(x)).gather(1, five[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, x)
            start = x.detach() + rate * nn.functional.normalize(gradient.flatten(1)).view(x.shape)
        pictures = paint(start)
        score, shifted = (
            model(each).gather(1, five[:, None]).mean()
            for each in (pictures, pictures.roll((3, 3), (2, 3)))
        )
        energy = torch.fft.rfft2(pictures - pictures.mean((2, 3), keepdim=True)).abs() ** 2
        fine = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)) > 0.25
        numbers.append((score, shifted / score, (energy * fine).sum() / energy.sum()))
    pixels, spectra = numbers
    assert pixels[0] > spectra[0]
    assert pixels[1] < spectra[1]
    assert pixels[2] > 3 * spectra[2]


def test_the_recipe_reaches_every_class_in_the_range_of_pixels(base):
    classes = torch.arange(10)
    start = 0.1 * torch.randn(10, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = torch.full((3,), 0.45), torch.full((3,), 0.25)
    pictures = lab.create_class_visualization(
        classes,
        base,
        start,
        lab.class_visualization_update_step,
        mean,
        std,
        num_iterations=40,
    )
    pixels = pictures * 0.25 + 0.45
    assert pixels.min() > -1e-6
    assert pixels.max() < 1 + 1e-6
    for shifted in (pictures, pictures.roll((-2, 3), (2, 3))):
        scores = base(shifted)
        assert torch.equal(scores.argmax(1), classes)
        margin = scores.diagonal() - scores.masked_fill(torch.eye(10).bool(), -torch.inf).amax(1)
        assert margin.min() > 1


def climbed(model, target_y, amplitude, seed, **options):
    """Pictures after 60 steps from noise of this amplitude, as the lab's figures draw them."""
    generator = torch.Generator().manual_seed(seed)
    return lab.create_class_visualization(
        target_y,
        model,
        amplitude * torch.randn(len(target_y), 3, 64, 64, generator=generator),
        lab.class_visualization_update_step,
        torch.full((3,), 0.45),
        torch.full((3,), 0.25),
        num_iterations=60,
        seed=seed,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_each_trick_does_what_the_lab_says(base, seed):
    trio = torch.tensor([2, 3, 8])
    plain = {"l2_reg": 0.0, "blur_every": 1000, "max_jitter": 0}
    score, shifted, fine = {}, {}, {}
    for name, options in {
        "clamping": plain,
        "L2": plain | {"l2_reg": 0.01},
        "jitter": plain | {"max_jitter": 6},
        "blur": plain | {"blur_every": 10},
        "all": {},
    }.items():
        pictures = climbed(base, trio, 0.1, seed, **options)
        score[name], shifted[name] = (
            base(each).gather(1, trio[:, None]).mean().item()
            for each in (pictures, pictures.roll((3, 3), (2, 3)))
        )
        energy = torch.fft.fft2(pictures - pictures.mean((2, 3), keepdim=True)).abs() ** 2
        frequency = torch.fft.fftfreq(64)
        high = torch.hypot(frequency[:, None], frequency) > 0.25
        fine[name] = ((energy * high).sum((1, 2, 3)) / energy.sum((1, 2, 3))).mean().item()
    for name in ("clamping", "L2"):
        assert 0.75 < fine[name] < 0.85
        assert shifted[name] < 0.3 * score[name]
    assert shifted["jitter"] > 0.85 * score["jitter"]
    assert fine["jitter"] > 0.65
    assert shifted["blur"] < 0.6 * score["blur"]
    assert fine["blur"] < 0.2
    assert shifted["all"] > 0.85 * score["all"]
    assert fine["all"] < 0.2
    assert 0.2 < score["all"] / score["clamping"] < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_who_recognises_whose_pictures(seed):
    networks = {name: network(name) for name in ("base", "shape", "robust", "biased")}
    classes = torch.arange(10)
    pictures = {name: climbed(model, classes, 1.0, seed) for name, model in networks.items()}
    recognised = {
        (drawn_for, shown_to): (model(ten).argmax(1) == classes).sum().item()
        for drawn_for, ten in pictures.items()
        for shown_to, model in networks.items()
    }
    assert recognised["base", "robust"] >= 7
    assert recognised["robust", "base"] >= 7
    assert recognised["base", "shape"] >= 7
    for other in ("base", "shape", "robust"):
        assert recognised["biased", other] <= 2
        assert recognised[other, "biased"] <= 2
