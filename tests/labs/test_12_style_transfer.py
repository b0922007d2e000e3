"""Lab 12's references against scikit-learn, SciPy, PyTorch's gradient check and sums by hand; and
what the lab says of its figures, for other pictures and seeds."""

from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import minimize
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import sqeuclidean
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.metrics.pairwise import linear_kernel
from walk import walk

from autograder.authoring.reference import load_reference
from utils.images import brush_strokes, preprocess
from utils.models import load_model
from utils.scenes import make_scenes

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


@pytest.fixture(scope="module")
def figures():
    """What the lab's cells have bound: the pictures, the network and the numbers drawn."""
    return SimpleNamespace(**walk("12_style_transfer"))


def drawing(image):
    """A picture without its colours."""
    return image.mean(1).flatten()


def colours(image):
    """A picture without its brightness."""
    return (image - image.mean(1, keepdim=True)).flatten()


def alike(part, image, other):
    """The correlation of one part of two pictures."""
    return float(torch.corrcoef(torch.stack([part(image), part(other)]))[0, 1])


def grams(figures, image):
    """The Gram matrices of the pixels and of the six rectified layers."""
    features = lab.extract_features(image, figures.network)
    return [lab.gram_matrix(features[layer]) for layer in (0, *figures.relus)]


def grams_apart(figures, image, other):
    """By how much these Gram matrices differ, relative to the first picture's."""
    pairs = zip(grams(figures, image), grams(figures, other), strict=True)
    return np.array([float((a - b).norm() / a.norm()) for a, b in pairs])


@pytest.mark.slow
def test_what_counts_as_a_change_of_content(figures):
    def shares(image, original, other):
        triples = zip(*map(figures.pixels_and_layers, (image, original, other)), strict=True)
        return [
            float((x - kept).square().sum() / (different - kept).square().sum())
            for x, kept, different in triples
        ]

    for name, other in (("pagoda", figures.dahlia), ("dahlia", figures.pagoda)):
        photograph = getattr(figures, name)
        blurred = lab.resize(lab.resize(photograph, (48, 48)), photograph.shape[2:])
        changed = photograph.roll(2, dims=3), blurred, 0.5 * photograph
        moved, blur, half = (np.array(shares(x, photograph, other)) for x in changed)
        for change in (moved, blur, half):
            assert (change[1:] > change[0]).sum() >= 4  # "most layers mind all three more"
        assert (np.diff(moved[2:]) < 0).all() and moved[6] < 0.02
        assert half[6] > half[5] > half[3] > half[2] and half[6] > 2 * half[1]
        if name == "pagoda":
            assert 0.2 < moved[2] < 0.3
            assert (blur[2:] > blur[1]).all() and (half[4:] > 0.9).all()
        else:
            assert blur[6] < blur[1]


@pytest.mark.slow
def test_what_layers_still_know(figures):
    network, relus = figures.network, figures.relus
    for name in ("pagoda", "dahlia"):
        small = lab.resize(getattr(figures, name), (96, 96))
        features = lab.extract_features(small, network)
        biased = figures.without_norms(load_model("biased"))
        unshuffled = lab.extract_features(small, biased)
        for seed in (0, 1):
            start = 0.5 + 0.1 * (lab.noise(seed, 1, 3, 96, 96).float() - 0.5)
            back = [
                lab.invert_features([features[at]], [at], network[: at + 1], start) for at in relus
            ]
            lines = [alike(drawing, image, small) for image in back]
            assert (np.diff(lines) < 0).all()  # "the less of the photograph comes back"
            assert (back[0] - small).abs().mean() < 0.01
            # The grain: descent has met the layer almost wholly, and the picture is far rougher.
            left = lab.extract_features(back[1], network)[relus[1]] - features[relus[1]]
            assert left.square().sum() < 0.01 * features[relus[1]].square().sum()
            assert all(lab.tv_loss(image, 1) > 2 * lab.tv_loss(small, 1) for image in back[1:])
            # A network that saw its colours as they are keeps them further.
            at = relus[2]
            kept = lab.invert_features([unshuffled[at]], [at], biased[: at + 1], start)
            assert alike(colours, kept, small) > alike(colours, back[2], small) + 0.2
            for at, image in zip(relus[3:], back[3:], strict=True):  # "a better one finds more"
                better = lab.minimise(
                    lambda x, at=at, wanted=features[at]: (
                        (lab.extract_features(x, network[: at + 1])[at] - wanted).square().sum()
                    ),
                    start,
                    100,
                )
                assert (better - small).abs().mean() < (image - small).abs().mean()
                assert alike(drawing, better, small) > alike(drawing, image, small)
            if name == "pagoda":
                assert lines[2] > 0.9 and alike(colours, back[2], small) < 0.1
                assert lines[4] > 0.4 and lines[5] < 0.2


@pytest.mark.slow
def test_what_gram_matrices_forget_and_keep(figures):
    for photograph in (figures.pagoda, figures.dahlia):
        for seed in (0, 1):
            order = torch.randperm(192 * 192, generator=torch.Generator().manual_seed(seed))
            confetti = photograph.flatten(2)[:, :, order].reshape(photograph.shape)
            apart = grams_apart(figures, photograph, confetti)
            assert apart[0] < 1e-6 and (apart[1:] > 0.5).all()
    # The windows of layers 1 and 4, in pixels, and the pixels that a value of layer 6 stands for.
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)).requires_grad_()
    features = lab.extract_features(image, figures.network)
    for number, wide in ((1, 3), (4, 26)):
        values = features[figures.relus[number - 1]]
        middle = values.shape[2] // 2
        total = values[0, :, middle, middle].sum()
        (gradient,) = torch.autograd.grad(total, image, retain_graph=True)
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        assert rows.max() - rows.min() + 1 == wide
    assert features[figures.relus[5]].shape[2] == 96 / 8


@pytest.mark.slow
def test_texture_from_noise_by_layers(figures):
    start = 0.5 + 0.1 * (lab.noise(0, 1, 3, 128, 128).float() - 0.5)
    for style in (figures.strokes, figures.glass):
        target = grams(figures, style)

        def left(image, target=target):
            before = zip(grams(figures, image), grams(figures, start), target, strict=True)
            return np.array([float((x - to).norm() / (s - to).norm()) for x, s, to in before])

        pixels, first, second, fourth = (
            left(figures.synthesise(style, layers)) for layers in figures.depths.values()
        )
        assert pixels[0] < 0.05 and (pixels[1:] > 0.5).all()  # "a rough palette", and no more
        assert first[1] < 0.5 * pixels[1]
        assert (second[2:] < 0.7 * first[2:]).all()
        assert (second - fourth < 0.1).all()  # "after that there is less to gain"


@pytest.mark.slow
def test_a_little_total_variation_removes_noise(figures):
    for photograph in (figures.pagoda, figures.dahlia):
        clean = lab.resize(photograph, (96, 96))
        for seed in (0, 1):
            generator = torch.Generator().manual_seed(seed)
            noisy = (clean + 0.12 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
            assert lab.tv_loss(clean, 1) < 0.2 * lab.tv_loss(noisy, 1)
            off = {0: float((noisy - clean).abs().mean())}
            for weight in (0.1, 0.3, 1.0, 5.0, 50.0):
                smooth = lab.minimise(
                    lambda x, w=weight, to=noisy: (x - to).square().sum() + lab.tv_loss(x, w),
                    noisy,
                    60,
                )
                off[weight] = float((smooth - clean).abs().mean())
            assert min(off, key=off.get) == 1.0
            assert off[1.0] == pytest.approx(off[0] / 2, rel=0.05)
            assert off[50.0] > off[0]


@pytest.mark.slow
def test_a_small_weight_smooths_and_three_of_four_pictures_lose_no_style(figures):
    smoother, cost = {}, {}
    for pair in product(("pagoda", "dahlia"), ("strokes", "glass")):
        content, style = (lab.resize(getattr(figures, name), (128, 128)) for name in pair)
        losses = figures.prepare(lab.match_colours(content, style).clamp(0, 1), style)
        (_, style_without, rough), (_, style_with, smooth) = (
            losses(figures.paint(content, style, gamma=gamma, steps=30)) for gamma in (0, 0.2)
        )
        # The style loss is 1 where nothing is painted yet.
        smoother[pair], cost[pair] = float(1 - smooth / rough), float(style_with - style_without)
    exception = "dahlia", "strokes"
    assert min(smoother, key=smoother.get) == max(cost, key=cost.get) == exception
    assert smoother.pop(exception) > 0 and cost.pop(exception) > 0.03
    assert min(smoother.values()) > 0.1 and max(cost.values()) < 0.02


@pytest.mark.slow
def test_the_network_hardly_sees_colours(figures):
    scenes, labels = make_scenes(200, np.random.default_rng(5)).tensors()

    def right(images):
        with torch.no_grad():
            return float((load_model("base")(images).argmax(1) == labels).float().mean())

    for others in (scenes[:, [2, 0, 1]], scenes.mean(1, keepdim=True).expand_as(scenes)):
        assert right(others) > right(scenes) - 0.03
    for name in ("pagoda", "dahlia", "strokes", "glass"):
        image = getattr(figures, name)
        grey = image.mean(1, keepdim=True).expand_as(image)
        for other in (grey, *(image[:, order] for order in list(permutations(range(3)))[1:])):
            assert (grams_apart(figures, image, other)[5:] < 0.25).all()
    # The two clouds of colours: red with blue.
    red_blue = [float(torch.corrcoef(x[0].flatten(1))[0, 2]) for x in figures.matched.values()]
    assert red_blue[0] > 0.9 and red_blue[1] > 0.9
    assert abs(red_blue[2]) < 0.2 and abs(red_blue[3]) < 0.2


@pytest.mark.slow
def test_style_falls_while_content_is_spent(figures):
    for photograph, style in (
        (figures.pagoda, figures.strokes),
        (figures.dahlia, figures.strokes),
    ):
        content, style = (lab.resize(x, (128, 128)) for x in (photograph, style))
        arguments = figures.painter, figures.relus[3], figures.style_layers, (0.1, 1.0, 0.2)
        losses = lab.make_losses(content, style, *arguments, figures.MEASURES)
        totals, pictures = [], []

        def watched(image, losses=losses, totals=totals, pictures=pictures):
            total, _ = losses(image)
            totals.append(float(total.detach()))
            pictures.append(image.detach().clone().clamp(0, 1))
            return total

        end = lab.minimise(watched, content, 60)
        assert totals[3] > 0.8 * totals[0]  # the length of a step is being looked for
        assert totals[19] < 0.1 * totals[0]
        assert (pictures[-1] - pictures[19]).abs().mean() > (
            pictures[19] - pictures[9]
        ).abs().mean()
        # Without divisors, the style is the smallest by far.
        now, then, wanted = (
            lab.extract_features(x, figures.painter) for x in (end, content, style)
        )
        targets = [lab.gram_matrix(wanted[layer]) for layer in figures.style_layers]
        of_style = lab.style_loss(then, figures.style_layers, targets, [1.0] * len(targets))
        at = figures.relus[3]
        assert lab.content_loss(1.0, now[at], then[at]) > 100 * of_style
        assert lab.tv_loss(end, 1.0) > 100 * of_style


@pytest.mark.slow
def test_without_a_style_of_ones_own_the_ground_is_the_style(figures):
    red, green, blue = figures.my_style[0]
    assert 0.1 < float((green > red + 0.15).float().mean()) < 0.2  # the ring
    red, green, blue = figures.my_picture[0, :, 5:40, 80:123].mean((1, 2))  # the sky
    assert green > red + 0.1 and blue > red + 0.1
    below = figures.my_picture[..., 64:, :].mean()
    assert abs(below - figures.my_style.median()) < 0.05  # as dim as the ground


@pytest.mark.slow
def test_coarse_to_fine(figures):
    def tried(photograph, style):
        """Content, style, and the share of the change that 8 × 8 pixels have in common."""
        start = lab.match_colours(photograph, style).clamp(0, 1)
        losses, rows = figures.prepare(start, style), []
        for scales, steps in [((1,), 60), ((0.5, 1), 30), ((0.25, 0.5, 1), 20)]:
            image = figures.paint(photograph, style, scales=scales, steps=steps)
            change = image - start
            coarse = lab.resize(change, (24, 24)).square().mean() / change.square().mean()
            rows.append([float(x) for x in (*losses(image)[:2], coarse)])
        return np.transpose(rows)

    others = [preprocess(brush_strokes(192, np.random.default_rng(seed))) for seed in (1, 2)]
    for style in (figures.strokes, *others):
        content_part, style_part, coarse = tried(figures.pagoda, style)
        assert (np.diff(content_part) > 0).all() and (np.diff(coarse) > 0).all()
        assert style_part[1] < 0.9 * style_part[0] and style_part[2] > style_part[1]
    assert (np.diff(tried(figures.dahlia, figures.strokes)[1]) > 0).all()  # "nor is it always so"


@pytest.mark.slow
def test_what_is_gained_in_style_is_paid_in_content(figures):
    curves = [figures.ratio_losses]
    content, style = (lab.resize(x, (128, 128)) for x in (figures.dahlia, figures.glass))
    losses = figures.prepare(lab.match_colours(content, style).clamp(0, 1), style)
    images = [figures.paint(content, style, alpha=ratio, steps=30) for ratio in figures.ratios]
    curves.append(np.array([[float(loss) for loss in losses(image)[:2]] for image in images]))
    for curve in curves:
        assert (np.diff(curve[:, 0]) < 0).all() and (np.diff(curve[:, 1]) > 0).all()


@pytest.mark.slow
def test_whose_colours(figures):
    content, style = (lab.resize(x, (128, 128)) for x in (figures.dahlia, figures.strokes))
    painted = figures.paint(content, style, steps=30)
    recoloured = lab.match_colours(style, content).clamp(0, 1)
    first = figures.paint(content, recoloured, steps=30)
    brightness = (content + (painted - content).mean(1, keepdim=True)).clamp(0, 1)
    assert (first.mean((2, 3)) - content.mean((2, 3))).abs().max() < 0.03
    assert alike(colours, painted, content) < 0.8 < 0.9 < alike(colours, first, content)
    assert alike(colours, brightness, content) > 0.95
    night, after, day = (x[..., :16, :].mean() for x in (content, first, brightness))
    assert abs(after - night) < 0.05 and day > 2 * night


@pytest.mark.slow
def test_what_stained_glass_costs(figures):
    style = lab.resize(figures.glass, (96, 96))
    found = [figures.accuracies]
    for seed in (2, 3):
        scenes, labels = make_scenes(40, np.random.default_rng(seed)).tensors()
        recoloured = torch.cat([lab.match_colours(scene[None], style) for scene in scenes])
        recoloured = recoloured.clamp(0, 1)
        arguments = figures.prepare, (0.3, 1.0, 0.2), (1,), 25
        stages = scenes, recoloured, lab.style_transfer(recoloured, style, *arguments)
        with torch.no_grad():
            found.append(
                [
                    [
                        float((load_model(name)(x).argmax(1) == labels).float().mean())
                        for x in stages
                    ]
                    for name in figures.names
                ]
            )
    mean = np.mean(found, axis=0)
    assert (mean[:, 0] - mean[:, 1] < 0.2).all()
    for accuracies in np.array(found):
        assert (accuracies[:, 2] < 0.5 * accuracies[:, 0]).all()
        assert accuracies[2, 2] == accuracies[:, 2].max() < 0.5  # `robust`
    leads = [accuracies[1][2] - accuracies[0][2] for accuracies in found]
    assert np.mean(leads) < leads[0] and np.mean(leads) < 0.15
