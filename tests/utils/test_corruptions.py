"""Corruptions against imagecorruptions, which packages ImageNet-C, and by what each does."""

import numpy as np
import pytest
from PIL import Image

from utils import corruptions
from utils.corruptions import SEVERITIES, corrupt
from utils.scenes import make_scenes


@pytest.fixture(scope="module")
def images():
    return make_scenes(6, np.random.default_rng(0)).images


# ImageNet-C's own severities, for images of 224 pixels, and how far we may be off in uint8.
IMAGENET_C = {
    "gaussian_noise": ((0.08, 0.12, 0.18, 0.26, 0.38), 0),
    "shot_noise": ((60, 25, 12, 5, 3), 0),
    "contrast": ((0.4, 0.3, 0.2, 0.1, 0.05), 0),
    "brightness": ((0.1, 0.2, 0.3, 0.4, 0.5), 1),
    "defocus_blur": (((3, 0.1), (4, 0.5), (6, 0.5)), 1),
    "motion_blur": (((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), 1),
    "fog": (((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)), 1),
    "jpeg_compression": ((25, 18, 15, 10, 7), 0),
}


@pytest.mark.parametrize("name", IMAGENET_C)
def test_against_imagecorruptions(name, images, monkeypatch):
    imagecorruptions = pytest.importorskip("imagecorruptions")
    strengths, tolerance = IMAGENET_C[name]
    monkeypatch.setitem(SEVERITIES, name, strengths)
    for severity in range(1, len(strengths) + 1):
        # The package draws from NumPy's global state: let that be ours, and ours start alike.
        monkeypatch.setattr(np.random, "normal", np.random.RandomState(severity).normal)
        monkeypatch.setattr(np.random, "poisson", np.random.RandomState(severity).poisson)
        monkeypatch.setattr(np.random, "uniform", np.random.RandomState(severity).uniform)
        expected = imagecorruptions.corrupt(images[0], corruption_name=name, severity=severity)
        ours = corrupt(images[:1], name, severity, np.random.RandomState(severity))[0]
        assert np.abs(ours.astype(int) - expected).max() <= tolerance, severity


@pytest.mark.parametrize("name", SEVERITIES)
def test_a_generator_decides_and_the_input_stays(name, images):
    before = images.copy()
    for severity in (1, 5):
        first, again = (corrupt(images, name, severity, np.random.default_rng(1)) for _ in range(2))
        assert first.shape == images.shape and first.dtype == np.uint8
        assert (first == again).all() and (first != images).any()
    assert (images == before).all()


@pytest.mark.parametrize("name", SEVERITIES)
def test_severity_five_changes_more_than_one(name, images):
    mild, severe = (
        np.abs(
            corrupt(images, name, severity, np.random.default_rng(2)).astype(float) - images
        ).mean()
        for severity in (1, 5)
    )
    if name == "elastic_transform":  # its affine part shrinks while its displacements grow
        assert min(mild, severe) > 2
    else:
        assert severe > 1.2 * mild


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "motion_blur", "fog", "elastic_transform", "glass_blur"]
)
def test_each_image_is_corrupted_by_a_draw_of_its_own(name, images):
    first, second = corrupt(images[[0, 0]], name, 5, np.random.default_rng(3))
    assert (first != second).any()


@pytest.mark.parametrize(
    "name", ["defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"]
)
def test_images_do_not_mix(name, images):
    together = corrupt(images, name, 3, np.random.default_rng(0))
    alone = np.concatenate(
        [corrupt(images[i : i + 1], name, 3, np.random.default_rng(0)) for i in range(6)]
    )
    assert np.abs(together.astype(int) - alone).max() <= 1


def test_impulse_noise_hits_the_share_it_names():
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    for severity, share in enumerate(SEVERITIES["impulse_noise"], start=1):
        noisy = corrupt(grey, "impulse_noise", severity, np.random.default_rng(4))
        assert set(np.unique(noisy)) == {0, 128, 255}
        assert abs((noisy != 128).mean() - share) < 0.01


def test_pixelate_shows_blocks():
    generator = np.random.default_rng(5)
    noise = generator.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    blocks = corrupt(noise, "pixelate", 5, generator)[0].reshape(32, 2, 32, 2, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert np.abs(blocks[:, 0, :, 0] - noise[0].reshape(32, 2, 32, 2, 3).mean((1, 3))).max() <= 1


def test_zoom_blur_is_a_mean_of_zooms(images):
    """With Pillow's resampling in place of SciPy's, which agree on smooth images."""
    smooth = np.array(Image.fromarray(images[0]).resize((8, 8)).resize((64, 64)))
    expected = smooth.astype(float)
    for step in range(16):
        margin = 32 - 32 / (1 + 0.01 * step)
        box = (margin, margin, 64 - margin, 64 - margin)
        zoomed = Image.fromarray(smooth).resize((64, 64), Image.Resampling.BILINEAR, box)
        expected += np.asarray(zoomed)
    ours = corrupt(smooth[None], "zoom_blur", 3, np.random.default_rng(0))[0]
    assert np.abs(expected / 17 - ours).mean() < 2 < np.abs(expected / 17 - smooth).mean()


def test_glass_blur_moves_pixels_no_further_than_its_reach(monkeypatch):
    monkeypatch.setitem(SEVERITIES, "glass_blur", ((0.001, 1, 1),))
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, :, 32:] = 200
    blurred = corrupt(image, "glass_blur", 1, np.random.default_rng(6))[0, ..., 0]
    changed = np.flatnonzero((blurred != image[0, ..., 0]).any(0))
    assert changed.min() >= 31 and changed.max() <= 33 and len(changed)


def test_elastic_transform_moves_but_invents_nothing():
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, 24:40, 24:40] = (200, 100, 50)
    moved = corrupt(image, "elastic_transform", 5, np.random.default_rng(7))[0].astype(int)
    assert np.abs(moved[..., 0] - 2 * moved[..., 1]).max() <= 2  # the channels move together
    assert 0.6 < moved.sum() / image.astype(int).sum() < 1.6


def test_all_functions_are_listed():
    assert set(corruptions._FUNCTIONS) == set(SEVERITIES)
    assert all(len(strengths) == 5 for strengths in SEVERITIES.values())


@pytest.mark.parametrize("arguments", [("snow", 1), ("fog", 0), ("fog", 6), ("fog", 1.5)])
def test_what_is_not_on_the_list_is_refused(arguments, images):
    with pytest.raises(ValueError):
        corrupt(images, *arguments, np.random.default_rng(0))
