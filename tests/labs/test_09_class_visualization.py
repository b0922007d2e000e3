"""Lab 09's references against oracles that nobody here wrote: Captum, SciPy, NumPy, torchvision."""

import captum.attr
import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import nn

from autograder.authoring.reference import load_reference
from utils.models import load_model

lab = load_reference("09_class_visualization")


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, 16, 20, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def base():
    model = load_model("base")
    return nn.Sequential(model.features[1:], model.classifier).requires_grad_(False)


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


def test_jitter_is_scipys_cyclic_shift(images):
    expected = scipy.ndimage.shift(images.numpy(), (0, 0, -4, 3), order=0, mode="grid-wrap")
    np.testing.assert_array_equal(lab.jitter(images, 3, -4), expected)


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
    for shifted in (pictures, lab.jitter(pictures, 3, -2)):
        scores = base(shifted)
        assert torch.equal(scores.argmax(1), classes)
        margin = scores.diagonal() - scores.masked_fill(torch.eye(10).bool(), -torch.inf).amax(1)
        assert margin.min() > 1
