"""Lab 12's references against scikit-learn, SciPy, PyTorch's gradient check and sums by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import minimize
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import sqeuclidean
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.metrics.pairwise import linear_kernel

from autograder.authoring.reference import load_reference

lab = load_reference("12_style_transfer")


def images(seed, *shape):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_content_loss_is_the_squared_euclidean_distance():
    current, original = images(0, 2, 3, 4, 5), images(1, 2, 3, 4, 5)
    expected = 0.3 * sqeuclidean(current.numpy().ravel(), original.numpy().ravel())
    assert float(lab.content_loss(0.3, current, original)) == pytest.approx(expected, rel=1e-12)


def test_gram_matrix_by_hand():
    # Channels (1, 2) and (3, 4): 1 + 4 = 5, 3 + 8 = 11, 9 + 16 = 25; C·H·W = 4.
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    plain = torch.tensor([[[5.0, 11.0], [11.0, 25.0]]])
    torch.testing.assert_close(lab.gram_matrix(features, normalize=False), plain)
    torch.testing.assert_close(lab.gram_matrix(features), plain / 4)


def kernels(features):
    return [linear_kernel(image.flatten(1)) / image.numel() for image in features]


def test_gram_matrix_is_the_linear_kernel_between_channels():
    features = images(2, 3, 4, 2, 5)
    np.testing.assert_allclose(lab.gram_matrix(features), kernels(features), rtol=1e-12)


def test_gram_matrix_forgets_positions():
    features = images(3, 2, 4, 3, 5)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    shuffled = features.flatten(2)[:, :, order].reshape(features.shape)
    torch.testing.assert_close(lab.gram_matrix(shuffled), lab.gram_matrix(features))


def test_style_loss_adds_up_layers_and_images():
    feats = [images(seed, 2, 3 + seed, 4, 2 + seed) for seed in range(3)]
    targets = [images(9, 2, 5, 5), images(8, 2, 3, 3)]
    expected = sum(
        weight * sqeuclidean(kernel.ravel(), wanted.numpy().ravel())
        for layer, target, weight in zip([2, 0], targets, [2.0, 0.1], strict=True)
        for kernel, wanted in zip(kernels(feats[layer]), target, strict=True)
    )
    loss = lab.style_loss(feats, [2, 0], targets, [2.0, 0.1])
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_tv_loss_is_the_grid_laplacians_quadratic_form():
    img = images(4, 2, 3, 5, 7)
    matrix = laplacian(grid_to_graph(5, 7, return_as=np.ndarray).astype(float) - np.eye(35))
    flat = img.flatten(2).numpy()
    expected = 0.7 * np.einsum("nci,ij,ncj->", flat, matrix, flat)
    assert float(lab.tv_loss(img, 0.7)) == pytest.approx(expected, rel=1e-12)


def test_losses_have_right_gradients():
    features = images(5, 2, 3, 2, 3).requires_grad_()
    target = images(6, 2, 3, 3)
    for function in (
        lambda x: lab.content_loss(0.4, x, images(7, 2, 3, 2, 3)),
        lab.gram_matrix,
        lambda x: lab.style_loss([x], [0], [target], [3.0]),
        lambda x: lab.tv_loss(x, 0.2),
    ):
        assert torch.autograd.gradcheck(function, features)


def test_match_colours_maps_by_the_matrix_roots():
    mix = images(8, 3, 3) + torch.eye(3)
    image = torch.einsum("ij,njhw->nihw", mix, images(9, 1, 3, 6, 7))
    target = images(10, 1, 3, 5, 9)
    pixels, wanted = image[0].flatten(1).numpy(), target[0].flatten(1).numpy()
    covariance, wanted_covariance = np.cov(pixels, bias=True), np.cov(wanted, bias=True)
    A = sqrtm(wanted_covariance) @ np.linalg.inv(sqrtm(covariance))
    mean, wanted_mean = pixels.mean(1, keepdims=True), wanted.mean(1, keepdims=True)
    result = lab.match_colours(image, target)[0].flatten(1).numpy()
    np.testing.assert_allclose(result, A @ (pixels - mean) + wanted_mean, rtol=1e-9)
    np.testing.assert_allclose(np.cov(result, bias=True), wanted_covariance, rtol=1e-9)


def test_invert_features_gets_near_scipys_bounded_minimum():
    network = lab.tiny_network(0).requires_grad_(False)
    photograph, start = images(11, 1, 3, 8, 11), images(12, 1, 3, 8, 11)
    layers = [3, 1]
    # Features of an image that leaves [0, 1], so that the bounds matter.
    targets = [lab.extract_features(1.5 * photograph, network)[layer] for layer in layers]

    def loss(flat):
        image = torch.tensor(flat).reshape(start.shape).requires_grad_()
        features = lab.extract_features(image, network)
        value = sum(
            (features[layer] - target).square().sum()
            for layer, target in zip(layers, targets, strict=True)
        )
        (gradient,) = torch.autograd.grad(value, image)
        return value.item(), gradient.flatten().numpy()

    flat = start.flatten().numpy()
    best = minimize(loss, flat, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * flat.size).fun
    reached = loss(lab.invert_features(targets, layers, network, start).flatten().numpy())[0]
    assert reached < best + 0.01 * loss(flat)[0]


def test_style_transfer_reaches_the_normal_equations_minimum():
    content, style = 0.4 + 0.2 * images(13, 1, 3, 4, 6), 0.4 + 0.2 * images(14, 1, 3, 4, 6)
    weights = (50.0, 1.0, 20.0)
    image = lab.style_transfer(content, style, lab.slope_losses, weights, (0.5, 1), 60)
    # slope_losses is quadratic: means of 72 squares for content and size, slopes by the Laplacian.
    matrix = laplacian(grid_to_graph(4, 6, return_as=np.ndarray).astype(float) - np.eye(24))
    pull, shrink = weights[0] / 72, weights[2] / 72
    right_side = pull * content.flatten(2)[0].numpy() + style.flatten(2)[0].numpy() @ matrix
    expected = np.linalg.solve(matrix + (pull + shrink) * np.eye(24), right_side.T).T
    assert expected.min() > 0 and expected.max() < 1
    np.testing.assert_allclose(image.flatten(2)[0], expected, atol=1e-5)


def test_style_transfer_starts_each_scale_from_the_one_before():
    # Nothing pulls at the image: what comes back is the content, resized from scale to scale.
    content, style = images(16, 1, 3, 8, 12), images(17, 2, 3, 7, 9)
    image = lab.style_transfer(content, style, lab.slope_losses, (0, 0, 0), (0.5, 1), 3)
    half = torch.nn.functional.interpolate(content, size=(4, 6), mode="bilinear", antialias=True)
    expected = torch.nn.functional.interpolate(half, size=(8, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(image, expected)


def test_minimise_beats_nothing_it_was_given():
    start = images(15, 1, 3, 4, 5)
    before = start.clone()
    image = lab.minimise(lambda x: (x - 1.5).square().sum(), start, 20)
    torch.testing.assert_close(image, torch.ones_like(image))  # clamped
    assert torch.equal(start, before) and start.grad is None


def test_make_losses_measures_the_start_by_itself():
    """With the lab's losses: the content costs no content and all of the style, and the style of
    an image costs nothing where the image is the style."""
    network, layers = lab.tiny_network(3), [4, 1]
    measures = [
        getattr(lab, name) for name in ("content_loss", "gram_matrix", "style_loss", "tv_loss")
    ]
    content, style = lab.noise(1, 2, 3, 9, 12), lab.noise(2, 1, 3, 9, 12)
    arguments = network, 1, layers, (2.0, 3.0, 5.0), measures
    losses = lab.make_losses(content, style, *arguments)
    total, parts = losses(content)
    squares = sum(content.diff(dim=dim).square().sum() for dim in (2, 3))
    assert [float(part.detach()) for part in parts] == pytest.approx([0, 1, float(squares) / 108])
    assert float(total.detach()) == pytest.approx(3 + 5 * float(squares) / 108)
    _, (_, nothing, _) = losses(style.expand(2, -1, -1, -1))
    assert float(nothing.detach()) == pytest.approx(0, abs=1e-12)


def test_make_losses_mixes_gram_matrices_by_shares():
    network = lab.tiny_network(4)
    measures = lab.content_loss, lab.gram_matrix, lab.style_loss, lab.tv_loss
    content, image = lab.noise(3, 2, 1, 3, 9, 12)
    styles = lab.noise(4, 2, 3, 10, 11)
    losses = lab.make_losses(content, styles, network, 1, [1], (1, 1, 1), measures, (0.25, 0.75))

    def distance(picture):
        channels = network[:2](picture)[0].flatten(1)
        wanted = 0
        for share, style in zip((0.25, 0.75), styles, strict=True):
            flat = network[:2](style[None])[0].flatten(1)
            wanted = wanted + share * torch.einsum("ik,jk->ij", flat, flat) / flat.numel()
        own = torch.einsum("ik,jk->ij", channels, channels) / channels.numel()
        return (own - wanted).pow(2).sum()

    _, parts = losses(image)
    assert float(parts[1].detach()) == pytest.approx(
        float((distance(image) / distance(content)).detach())
    )
