"""Photographs and painted textures, a student's own images, and the way into a network and back."""

import warnings
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from scipy import ndimage
from scipy.spatial import KDTree


def load_photograph(name: Literal["china", "flower"]) -> np.ndarray:
    """One of scikit-learn's two sample photographs, uint8 (427, 640, 3), RGB.

    Raises:
        ValueError: for another name.
    """
    from sklearn.datasets import load_sample_image  # here, as it takes a second to import

    if name not in ("china", "flower"):
        raise ValueError(f"no photograph {name!r}: choose china or flower")
    return load_sample_image(f"{name}.jpg").copy()  # scikit-learn's is read-only


def load_image(
    file: str | Path | BinaryIO, size: int | tuple[int, int] | None = None
) -> np.ndarray:
    """An image file of any mode, upright as its camera meant it, transparency laid on white.

    Args:
        file: a path, or a file open for reading bytes.
        size: None keeps the size; (height, width) or one side for both scales and crops the centre
            to it.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is not an image, is cut short, or is too large to be one.
    """
    try:
        with warnings.catch_warnings():
            # Large photographs are welcome; Pillow still refuses what is twice as large again.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened)
    except (FileNotFoundError, IsADirectoryError):
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{file} is not an image in any format that Pillow reads") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} can't be read as an image: {error}") from error
    image = _to_rgb(image)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return np.array(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(
        ("I", "F")
    ):  # more than 8 bits a pixel, where convert("RGB") would clip
        values = np.asarray(image, dtype=np.float64)
        highest = 65535 if image.mode.startswith("I") else 1
        values = 255 * values / max(highest, values.max())
        image = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def preprocess(image: np.ndarray) -> torch.Tensor:
    """From uint8 (H, W, 3) or (N, H, W, 3) to what networks take: float32 (1 or N, 3, H, W) in [0,
    1].

    There is no normalisation, which every network does inside; so `deprocess` gives exactly the
    same bytes back.
    """
    batch = torch.from_numpy(np.ascontiguousarray(image)).reshape(-1, *image.shape[-3:])
    return batch.permute(0, 3, 1, 2).contiguous().float() / 255


def deprocess(images: torch.Tensor) -> np.ndarray:
    """From (N, 3, H, W) in [0, 1] to uint8 (N, H, W, 3): rounded, clamped where out of range."""
    scaled = (images.detach().cpu().float() * 255).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


_SWIRL_PALETTE = np.array(
    [
        (16, 36, 92),
        (28, 66, 150),
        (58, 112, 196),
        (136, 178, 222),
        (236, 238, 228),
        (244, 190, 66),
        (214, 138, 36),
    ]
)
_GLASS_PALETTE = np.array(
    [
        (178, 24, 34),
        (226, 96, 32),
        (240, 186, 48),
        (32, 126, 74),
        (22, 92, 160),
        (70, 160, 196),
        (98, 50, 130),
    ]
)


def brush_strokes(size: int, generator: np.random.Generator) -> np.ndarray:
    """Swirling strokes in blues, white and ochre, uint8 (size, size, 3): a style to transfer."""
    scale = 3  # painted large, then shrunk
    side = size * scale
    angle = 2.2 * np.pi * _smooth_noise(side, side / 7, generator)
    tone = _smooth_noise(side, side / 9, generator)
    canvas = Image.new("RGB", (side, side), tuple(_SWIRL_PALETTE[0]))
    draw = ImageDraw.Draw(canvas)
    for width, length, count in ((0.034, 0.16, 1400), (0.018, 0.13, 1800), (0.010, 0.09, 2600)):
        path = [
            generator.uniform(0, side, (count, 2))
        ]  # all strokes of a width follow the flow at once
        for _ in range(12):
            x, y = np.clip(path[-1].T, 0, side - 1).astype(int)
            heading = np.stack([np.cos(angle[y, x]), np.sin(angle[y, x])], axis=1)
            path.append(path[-1] + side * length / 12 * heading)
        # Tones run through the palette by place, a little astray with each stroke.
        x, y = path[0].T.astype(int)
        place = np.clip(0.5 + 0.32 * tone[y, x] + generator.normal(0, 0.13, count), 0, 0.999)
        colours = _SWIRL_PALETTE[(place * len(_SWIRL_PALETTE)).astype(int)]
        colours = np.clip(colours + generator.normal(0, 9, (count, 1)), 0, 255).astype(int)
        for stroke, colour in zip(np.stack(path, axis=1), colours, strict=True):
            draw.line(stroke.ravel().tolist(), tuple(colour), round(width * side), "curve")
    return np.array(canvas.resize((size, size), Image.Resampling.LANCZOS))


def stained_glass(size: int, generator: np.random.Generator) -> np.ndarray:
    """Panes of coloured glass in black lead, uint8 (size, size, 3): a style to transfer."""
    panes = 110
    scale = 3  # drawn large, then shrunk
    side = size * scale
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1) / side
    centres = generator.uniform(-0.05, 1.05, (panes, 2))
    for _ in range(2):  # Lloyd's relaxation evens out the panes' sizes
        _, nearest = KDTree(centres).query(grid[::4, ::4])
        members = [grid[::4, ::4][nearest == pane] for pane in range(panes)]
        centres = np.array(
            [part.mean(0) if len(part) else c for part, c in zip(members, centres, strict=True)]
        )
    distances, nearest = KDTree(centres).query(grid, k=2)
    # Distance to the border between the two nearest centres.
    gap = np.linalg.norm(centres[nearest[..., 0]] - centres[nearest[..., 1]], axis=-1)
    border = (distances[..., 1] ** 2 - distances[..., 0] ** 2) / (2 * gap)
    colours = _GLASS_PALETTE[
        generator.integers(len(_GLASS_PALETTE), size=panes)
    ] * generator.uniform(0.7, 1.2, (panes, 1))
    grain = (
        1
        + 0.13 * _smooth_noise(side, side / 40, generator)
        + 0.10 * _smooth_noise(side, side / 12, generator)
    )
    lit = colours[nearest[..., 0]] * (grain * np.clip(0.72 + 9 * border, 0, 1.15))[..., None]
    lead = np.clip((border - 0.006) * side / 2, 0, 1)[..., None]
    image = np.clip(lead * lit + (1 - lead) * np.array([18, 16, 20]), 0, 255).astype(np.uint8)
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def _smooth_noise(side: int, scale: float, generator: np.random.Generator) -> np.ndarray:
    """Noise of unit deviation, float64 (side, side), smooth over a number of pixels."""
    noise = ndimage.gaussian_filter(generator.standard_normal((side, side)), scale, mode="wrap")
    return (noise - noise.mean()) / noise.std()
