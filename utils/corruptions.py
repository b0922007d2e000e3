"""Corruptions of scenes at severities 1 to 5: ImageNet-C's list as far as 64×64 pixels bear it.

Definitions: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations" (2019). Severities: those of its authors' Tiny-ImageNet-C, the version for 64×64
images (`make_tinyimagenet_c.py` in the paper's repository). Snow and frost are left out: their
streaks and photographs of ice are too coarse for this size.
"""

from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, util

SEVERITIES = {
    # Standard deviation.
    "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
    # Photons at full brightness.
    "shot_noise": (250, 100, 50, 30, 15),
    # Share of the values.
    "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
    # Radius and softness of the disc.
    "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    # Standard deviation of the blur, reach, rounds.
    "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    # Radius and standard deviation.
    "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    # How many zooms, in steps of 1%.
    "zoom_blur": (7, 12, 16, 21, 26),
    # Thickness, and how fast detail decays.
    "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    # Added to the value of HSV.
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    # Factor about each channel's mean.
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    # Amplitude and smoothness of the displacements, reach of the affine map: shares of the side.
    "elastic_transform": (
        (0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02),
    ),
    # Factor of the side.
    "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
    # Quality.
    "jpeg_compression": (65, 58, 50, 40, 25),
}  # fmt: skip
"""Each corruption's strength at severities 1 to 5; lengths in pixels, brightness in [0, 1]."""


def corrupt(
    images: np.ndarray, name: str, severity: int, generator: np.random.Generator
) -> np.ndarray:
    """Corrupt images, each by a draw of its own.

    For scenes, truth kept: `dataclasses.replace(scenes, images=corrupt(scenes.images, ...))`.

    Args:
        images: uint8 (N, S, S, 3), RGB; for "fog", S must be a power of two.
        name: a key of `SEVERITIES`.
        severity: 1 to 5.
        generator: the only source of randomness; not every corruption draws from it.

    Returns:
        uint8 (N, S, S, 3).

    Raises:
        ValueError: for an unknown corruption or severity.
    """
    if name not in SEVERITIES:
        raise ValueError(f"no corruption {name!r}: choose from {', '.join(SEVERITIES)}")
    if severity not in range(1, 6):
        raise ValueError(f"severity must be an integer from 1 to 5; got {severity!r}")
    result = _FUNCTIONS[name](images / 255, SEVERITIES[name][severity - 1], generator)
    # Truncated as in the authors' code, but for what is a rounding error below a whole number.
    return (np.clip(result, 0, 1) * 255 + 1e-6).astype(np.uint8)


# Each function takes images, float64 (N, S, S, 3) in [0, 1], and leaves clipping to `corrupt`.


def _gaussian_noise(images, deviation, generator):
    return images + generator.normal(size=images.shape, scale=deviation)


def _shot_noise(images, photons, generator):
    return generator.poisson(images * photons) / photons


def _impulse_noise(images, amount, generator):
    return util.random_noise(images, mode="s&p", amount=amount, rng=generator)


def _defocus_blur(images, strength, generator):
    radius, softness = strength
    reach = np.arange(-np.ceil(radius) - 1, np.ceil(radius) + 2)
    disc = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(float)
    disc = ndimage.gaussian_filter(disc / disc.sum(), softness, radius=1)
    return ndimage.convolve(images, disc[None, :, :, None], mode="mirror")


def _glass_blur(images, strength, generator):
    deviation, reach, rounds = strength
    blur = (0, deviation, deviation, 0)
    images = ndimage.gaussian_filter(images, blur, mode="nearest")
    each, side = np.arange(len(images)), images.shape[1]
    for _ in range(rounds):
        offsets = generator.integers(-reach, reach, (side, side, 2, len(images)))
        for row in range(side - reach - 1, reach, -1):
            for column in range(side - reach - 1, reach, -1):
                # The authors mean to swap two pixels, but copy one: so their images came about.
                down, right = offsets[row, column]
                images[:, row, column] = images[each, row + down, column + right]
    return ndimage.gaussian_filter(images, blur, mode="nearest")


def _motion_blur(images, strength, generator):
    radius, deviation = strength
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    weights /= weights.sum()
    side, margin = images.shape[1], len(steps)
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    blurred = np.zeros_like(images)
    for index, angle in enumerate(np.deg2rad(generator.uniform(-45, 45, len(images)))):
        tops = margin + np.ceil(steps * np.sin(angle) - 0.5).astype(int)
        lefts = margin + np.ceil(steps * np.cos(angle) - 0.5).astype(int)
        for weight, top, left in zip(weights, tops, lefts, strict=True):
            blurred[index] += weight * padded[index, top : top + side, left : left + side]
    return blurred


def _zoom_blur(images, zooms, generator):
    side = images.shape[1]
    planes = images.transpose(0, 3, 1, 2)
    total = planes.copy()
    for factor in 1 + 0.01 * np.arange(zooms):
        crop = int(np.ceil(side / factor))
        start = (side - crop) // 2
        # Zooming is linear in the rows and in the columns: one matrix does both, for all images at
        # once.
        matrix = ndimage.zoom(np.eye(side)[start : start + crop], (factor, 1), order=1)
        start = (len(matrix) - side) // 2
        matrix = matrix[start : start + side]
        total += matrix @ planes @ matrix.T
    return total.transpose(0, 2, 3, 1) / (zooms + 1)


def _fog(images, strength, generator):
    thickness, decay = strength
    brightest = images.max((1, 2, 3), keepdims=True)
    fog = _plasma(len(images), images.shape[1], decay, generator)[..., None]
    return (images + thickness * fog) * brightest / (brightest + thickness)


def _plasma(count: int, side: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """Clouds in [0, 1], float64 (count, side, side), periodic, by the diamond-square algorithm."""
    clouds = np.zeros((count, side, side))
    step, roughness = side, 100.0

    def wander(sums: np.ndarray) -> np.ndarray:
        return sums / 4 + roughness * generator.uniform(-roughness, roughness, sums.shape)

    while step >= 2:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        sums = corners + np.roll(corners, -1, axis=1)
        clouds[:, half::step, half::step] = wander(sums + np.roll(sums, -1, axis=2))
        centres = clouds[:, half::step, half::step]
        beside = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        clouds[:, ::step, half::step] = wander(beside)
        beneath = centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        clouds[:, half::step, ::step] = wander(beneath)
        step, roughness = half, roughness / decay
    clouds -= clouds.min((1, 2), keepdims=True)
    return clouds / clouds.max((1, 2), keepdims=True)


def _brightness(images, amount, generator):
    hsv = color.rgb2hsv(images)
    hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
    return color.hsv2rgb(hsv)


def _contrast(images, factor, generator):
    means = images.mean((1, 2), keepdims=True)
    return (images - means) * factor + means


def _elastic_transform(images, strength, generator):
    count, side = images.shape[:2]
    amplitude, smoothness, reach = (side * share for share in strength)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).astype(float)
    centre, third = side // 2, side // 3
    corners = np.array([[third, third], [third, -third], [-third, -third]]) + centre
    moved = corners + generator.uniform(-reach, reach, (count, 3, 2))
    displacement = generator.uniform(-1, 1, (count, 2, side, side))
    displacement = amplitude * ndimage.gaussian_filter(
        displacement, (0, 0, smoothness, smoothness), truncate=3
    )
    result = np.empty_like(images)
    for index in range(count):
        # The affine map that takes the moved corners back, and the displacements, as one
        # resampling.
        affine = np.linalg.solve(np.column_stack([moved[index], np.ones(3)]), corners)
        points = (grid + displacement[index]).reshape(2, -1)
        sources = (affine[:2].T @ points + affine[2:].T).reshape(2, side, side)
        for channel in range(3):
            result[index, ..., channel] = ndimage.map_coordinates(
                images[index, ..., channel], sources, order=1, mode="mirror"
            )
    return result


def _pixelate(images, factor, generator):
    side = images.shape[1]
    small = (int(side * factor),) * 2
    box = Image.Resampling.BOX
    return np.stack(
        [
            np.asarray(image.resize(small, box).resize((side, side), box)) / 255
            for image in _pillow(images)
        ]
    )


def _jpeg_compression(images, quality, generator):
    results = []
    for image in _pillow(images):
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        results.append(np.asarray(Image.open(file)) / 255)
    return np.stack(results)


def _pillow(images: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(image) for image in np.round(images * 255).astype(np.uint8)]


_FUNCTIONS = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
