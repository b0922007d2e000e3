"""Procedural scenes whose truth is known: a textured shape in clutter, its class and its mask.

Images must be the same on every platform, so pixels are computed in float32 with correctly rounded
operations only (+, -, ×, ÷, √, minimum, maximum, floor). The few transcendental functions (one sine
and cosine per object, the Fourier transform of the background) run in float64 and are rounded
afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from utils.images import load_photograph

SIDE = 64
"""Height and width of a scene in pixels."""

Variant = Literal["single", "two_objects", "cue_conflict", "biased", "random_texture", "held_out"]

CLASS_NAMES = (
    "disc", "square", "triangle", "star", "cross", "ring", "heart", "crescent", "flower", "fish",
)  # fmt: skip
TEXTURE_NAMES = (
    "dots", "bricks", "stripes", "checker", "grid", "zigzag", "blotches", "concentric", "spokes",
    "scales",
)  # fmt: skip
HELD_OUT_CLASS_NAMES = ("hexagon", "arrow", "drop", "bolt", "half-disc")
HELD_OUT_TEXTURE_NAMES = ("waves", "diamonds", "dashes", "rings", "weave")

_CHUNK = 32  # scenes drawn at a time: few enough for their planes to stay in the processor's cache
_PIXEL = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)


@dataclass(frozen=True)
class Objects:
    """The truth about one object in each of N scenes.

    Attributes:
        shape_class: int64 (N,), indices into the scenes' `class_names`.
        texture_class: int64 (N,), indices into the scenes' `texture_names`. Equal to `shape_class`
            unless the variant is "cue_conflict" or "random_texture".
        masks: bool (N, 64, 64), the object's visible pixels.
    """

    shape_class: np.ndarray
    texture_class: np.ndarray
    masks: np.ndarray

    def __getitem__(self, index: slice | np.ndarray) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        indexed = (np.ndarray, Objects)
        chosen: dict[str, Any] = {k: v[index] for k, v in values.items() if isinstance(v, indexed)}
        return replace(self, **chosen)

    @cached_property
    def hulls(self) -> np.ndarray:
        """Convex hulls of the masks, bool (N, 64, 64)."""
        from skimage.morphology import convex_hull_image  # half a second that few callers need

        return np.stack([convex_hull_image(mask) for mask in self.masks])

    @cached_property
    def boxes(self) -> np.ndarray:
        """Bounding boxes of the masks, int64 (N, 4): left, top, right and bottom (exclusive)."""
        columns, rows = self.masks.max(axis=1), self.masks.max(axis=2)
        first = columns.argmax(1), rows.argmax(1)
        last = SIDE - columns[:, ::-1].argmax(1), SIDE - rows[:, ::-1].argmax(1)
        return np.stack([*first, *last], axis=1)


@dataclass(frozen=True)
class Scenes(Objects):
    """N scenes and their truth.

    Indexing with a slice or an index or boolean array gives the scenes chosen, truth included.

    Attributes:
        images: uint8 (N, 64, 64, 3), RGB. `tensors()` gives what networks take.
        second: the truth about the second object where the variant is "two_objects", else None.
        class_names: what `shape_class` indexes.
        texture_names: what `texture_class` indexes.
    """

    images: np.ndarray
    second: Objects | None
    class_names: tuple[str, ...]
    texture_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images as float32 (N, 3, 64, 64) in [0, 1], and shape classes as int64 (N,)."""
        images = torch.from_numpy(self.images).permute(0, 3, 1, 2).contiguous()
        return images.float() / 255, torch.from_numpy(self.shape_class)


class SceneDataset(Dataset):
    """Scenes as a `torch.utils.data` data set of (image, class).

    An image is float32 (3, 64, 64) in [0, 1], passed through `transform` if given; a class an int.
    """

    def __init__(
        self, scenes: Scenes, transform: Callable[[torch.Tensor], torch.Tensor] | None = None
    ):
        self.scenes = scenes
        self.transform = transform

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(self.scenes.images[index]).permute(2, 0, 1).float() / 255
        label = int(self.scenes.shape_class[index])
        return (self.transform(image) if self.transform else image), label


def make_scenes(
    count: int,
    generator: np.random.Generator,
    variant: Variant = "single",
    *,
    shape_class: np.ndarray | None = None,
) -> Scenes:
    """Draw scenes: a textured object among distractors, at times partly occluded.

    Variants:
        single: one object of one of ten classes, each a shape with its own texture.
        two_objects: two smaller objects of different classes, on opposite sides.
        cue_conflict: the shape of one class with the texture of another (Geirhos et al. 2019).
        random_texture: a shape with any of the ten textures, its own included.
        biased: the hue of the background tells the class.
        held_out: one object of one of the five `HELD_OUT_CLASS_NAMES`.

    Args:
        count: how many scenes.
        generator: the only source of randomness: equal states give equal scenes.
        variant: one of the above.
        shape_class: the classes wanted, int (count,); by default all in equal shares, shuffled.

    Raises:
        ValueError: for an unknown variant, or classes of the wrong number or outside the variant's
            range.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}; got {variant!r}")
    held_out = variant == "held_out"
    class_names = HELD_OUT_CLASS_NAMES if held_out else CLASS_NAMES
    classes = len(class_names)
    if shape_class is None:
        shape_class = generator.permutation(np.arange(count) % classes)
    shape_class = np.asarray(shape_class, dtype=np.int64)
    if shape_class.shape != (count,) or not np.isin(shape_class, np.arange(classes)).all():
        raise ValueError(f"shape_class must hold {count} integers from 0 to {classes - 1}")
    if variant == "cue_conflict":
        texture_class = (shape_class + generator.integers(1, classes, count)) % classes
    elif variant == "random_texture":
        texture_class = generator.integers(classes, size=count)
    else:
        texture_class = shape_class
    second_class = (
        (shape_class + generator.integers(1, classes, count)) % classes
        if variant == "two_objects"
        else None
    )

    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    masks = np.empty((1 if second_class is None else 2, count, SIDE, SIDE), bool)
    first_kind = len(CLASS_NAMES) if held_out else 0
    for start in range(0, count, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        kinds = [(shape_class[chunk] + first_kind, texture_class[chunk] + first_kind)]
        if second_class is not None:
            kinds.append((second_class[chunk], second_class[chunk]))
        hue = shape_class[chunk] / classes if variant == "biased" else None
        images[chunk], masks[:, chunk] = _draw(kinds, hue, generator)
    return Scenes(
        shape_class=shape_class,
        texture_class=texture_class,
        masks=masks[0],
        images=images,
        second=None if second_class is None else Objects(second_class, second_class, masks[1]),
        class_names=class_names,
        texture_names=HELD_OUT_TEXTURE_NAMES if held_out else TEXTURE_NAMES,
    )


# --- Painting. Planes are float32 (n, 64, 64), canvases (n, 3, 64, 64); lengths are in pixels. ---


def _draw(
    kinds: list[tuple[np.ndarray, np.ndarray]],
    hue: np.ndarray | None,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 64, 64, 3), and visible masks, bool (objects, n, 64, 64).

    `kinds` holds (shape, texture) of each object; `hue`, where given, is the background's.
    """
    count = len(kinds[0][0])
    canvas = _background(count, hue, generator)
    for _ in range(4):  # distractors, each there in 70% of the scenes
        x, y = _uniform(generator, 0, SIDE, (2, count))
        half_width, half_height = _uniform(generator, 2.5, 10, (2, count))
        cover = _patch(x, y, half_width, half_height, generator)
        cover *= (generator.random(count) < 0.7)[:, None, None]
        _blend(canvas, _colours(generator, count, saturation=(0.1, 0.7), value=(0.2, 0.95)), cover)

    if len(kinds) == 1:
        radius = _uniform(generator, 0.17, 0.36, (1, count)) * SIDE
        margin = np.maximum(0.8 * radius, 0.22 * SIDE).astype(np.float32)
        centre = margin + _uniform(generator, 0, 1, (1, 2, count)) * (SIDE - 2 * margin)
    else:
        radius = _uniform(generator, 0.18, 0.25, (2, count)) * SIDE
        angle = generator.uniform(0, 2 * np.pi, count)
        away = SIDE * generator.uniform(0.27, 0.30, count) * [np.cos(angle), np.sin(angle)]
        centre = (SIDE / 2 + np.stack([away, -away])).astype(np.float32)
    covers = [
        _paint_object(canvas, shape, texture, x, y, r, generator)
        for (shape, texture), (x, y), r in zip(kinds, centre, radius, strict=True)
    ]

    # The occluder, in 30% of the scenes, lies across the first object's edge.
    angle = generator.uniform(0, 2 * np.pi, count)
    away = np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32) * _uniform(
        generator, 0.7, 1.1, count
    )
    x, y = centre[0] + away * radius[0]
    half_width, half_height = _uniform(generator, 0.25, 0.5, (2, count)) * radius[0]
    occluder = _patch(x, y, half_width, half_height, generator)
    occluder *= (generator.random(count) < 0.3)[:, None, None]
    _blend(canvas, _colours(generator, count, saturation=(0.1, 0.7), value=(0.2, 0.95)), occluder)

    noise = generator.standard_normal(canvas.shape, dtype=np.float32)
    canvas += noise * _uniform(generator, 0, 0.03, (count, 1, 1, 1))
    images = np.floor(np.clip(canvas, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return images.transpose(0, 2, 3, 1), np.stack(covers) * (1 - occluder) > 0.5


def _background(count: int, hue: np.ndarray | None, generator: np.random.Generator) -> np.ndarray:
    """Three colours blended by two planes of 1/f noise; without a hue, 30% crops of photographs."""
    # One complex transform gives both planes, as its real and its imaginary part.
    white = generator.standard_normal((count, SIDE, SIDE, 2)).view(np.complex128)[..., 0]
    exponent = generator.uniform(0.9, 2.0, (count, 1, 1))
    amplitude = np.exp(-exponent * _log_frequency())
    amplitude[:, 0, 0] = 0  # no mean
    amplitude *= SIDE**2 / np.sqrt(
        (amplitude**2).sum((1, 2), keepdims=True)
    )  # unit standard deviation
    noise = np.fft.ifft2(white * amplitude)
    first, second = (
        np.clip(0.5 + 0.3 * part, 0, 1).astype(np.float32) for part in (noise.real, noise.imag)
    )

    base_hue = (
        generator.random(count) if hue is None else hue + generator.uniform(-0.02, 0.02, count)
    )
    saturation, value = ((0.15, 0.65), (0.1, 0.9)) if hue is None else ((0.55, 0.85), (0.3, 0.8))
    spread = 0.25 if hue is None else 0.02
    colours = [
        _colours(
            generator,
            count,
            saturation,
            value,
            base_hue + generator.uniform(-spread, spread, count),
        )
        for _ in range(3)
    ]
    canvas = np.empty((count, 3, SIDE, SIDE), np.float32)
    canvas[:] = colours[0][:, :, None, None]
    _blend(canvas, colours[1], first)
    _blend(canvas, colours[2], second)
    if hue is None:
        for scene in np.flatnonzero(generator.random(count) < 0.3):
            photograph = _shrunk_photographs()[generator.integers(len(_shrunk_photographs()))]
            top, left = (generator.integers(size - SIDE + 1) for size in photograph.shape[1:])
            crop = photograph[generator.permutation(3), top : top + SIDE, left : left + SIDE]
            canvas[scene] = crop[:, :, :: generator.choice((-1, 1))]
    return canvas


def _paint_object(
    canvas: np.ndarray,
    shape_class: np.ndarray,
    texture_class: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Paint an object with its shadow onto each canvas, and give its cover, a plane in [0, 1]."""
    count = len(radius)
    s, t = _local_coordinates(x, y, generator.uniform(-0.6, 0.6, count))
    stretch = _uniform(
        generator, 0.94, 1.06, (count, 1, 1)
    )  # the aspect changes by its square: 12%
    s *= stretch * generator.choice(np.array([-1, 1], np.float32), (count, 1, 1))
    t /= stretch
    radius = radius[:, None, None]
    distance = _by_class(_SHAPES, shape_class, s / radius, t / radius) * radius
    period = np.clip(np.float32(0.3) * radius, np.float32(4.2), np.float32(8))
    phase = generator.uniform(0, 1, (2, count, 1, 1)).astype(np.float32)
    lightness = np.clip(
        np.float32(0.5) + _by_class(_TEXTURES, texture_class, s, t, period, *phase), 0, 1
    )

    shadow = np.zeros_like(distance)  # falls 2 px to the right and below, 4 px soft
    shadow[:, 2:, 2:] = np.clip(np.float32(0.5) - distance[:, :-2, :-2] * np.float32(0.25), 0, 1)
    canvas *= (1 - np.float32(0.45) * shadow)[:, None]

    dark = _colours(generator, count, saturation=(0.3, 0.9), value=(0.0, 0.4))[:, :, None, None]
    light = _colours(generator, count, saturation=(0.3, 0.9), value=(0.65, 1.0))[:, :, None, None]
    slope = _uniform(generator, -0.22, 0.22, (2, count, 1, 1)) / radius
    shading = 1 + slope[0] * s + slope[1] * t
    cover = np.clip(np.float32(0.5) - distance, 0, 1)
    _blend(canvas, (dark + (light - dark) * lightness[:, None]) * shading[:, None], cover)
    return cover


def _patch(
    x: np.ndarray,
    y: np.ndarray,
    half_width: np.ndarray,
    half_height: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """The cover, a plane in [0, 1], of an ellipse or a rectangle, turned at random."""
    s, t = _local_coordinates(x, y, generator.uniform(0, np.pi, len(x)))
    s /= half_width[:, None, None]
    t /= half_height[:, None, None]
    ellipse = (generator.random(len(x)) < 0.5)[:, None, None]
    distance = np.where(ellipse, _radius(s, t), np.maximum(np.abs(s), np.abs(t))) - 1
    return np.clip(
        np.float32(0.5) - distance * np.minimum(half_width, half_height)[:, None, None], 0, 1
    )


def _local_coordinates(
    x: np.ndarray, y: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in coordinates centred at (x, y), turned by an angle in radians: two planes."""
    cosine, sine = (function(angle).astype(np.float32)[:, None] for function in (np.cos, np.sin))
    right, down = _PIXEL - x[:, None], _PIXEL - y[:, None]
    return (
        (cosine * right)[:, None, :] + (sine * down)[:, :, None],
        (-sine * right)[:, None, :] + (cosine * down)[:, :, None],
    )


def _by_class(
    functions: tuple[Callable, ...], classes: np.ndarray, *arguments: np.ndarray
) -> np.ndarray:
    """Apply to each scene the function of its class."""
    result = np.empty((len(classes), SIDE, SIDE), np.float32)
    for kind in np.unique(classes):
        chosen = np.flatnonzero(classes == kind)
        result[chosen] = functions[kind](*(argument[chosen] for argument in arguments))
    return result


def _blend(canvas: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """Lay a colour, (n, 3) or a canvas, over the canvas, in place."""
    canvas += (colour.reshape(*colour.shape, *(1,) * (4 - colour.ndim)) - canvas) * cover[:, None]


def _colours(
    generator: np.random.Generator,
    count: int,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hue: np.ndarray | None = None,
) -> np.ndarray:
    """Random colours, RGB float32 (count, 3), from ranges of saturation and value; hue in turns."""
    hue = (generator.random(count) if hue is None else hue)[:, None]
    saturations = generator.uniform(*saturation, (count, 1))
    values = generator.uniform(*value, (count, 1))
    sector = (np.array([5, 3, 1]) + 6 * hue) % 6
    return (values - values * saturations * np.clip(np.minimum(sector, 4 - sector), 0, 1)).astype(
        np.float32
    )


def _uniform(
    generator: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]
) -> np.ndarray:
    return generator.uniform(low, high, shape).astype(np.float32)


@cache
def _log_frequency() -> np.ndarray:
    frequency = np.fft.fftfreq(SIDE) * SIDE
    return np.log(np.maximum(np.sqrt(frequency[:, None] ** 2 + frequency**2), 1))


@cache
def _shrunk_photographs() -> list[np.ndarray]:
    """Both sample photographs at a half to a sixth of their size, float32 (3, H, W) in [0, 1]."""
    shrunk = []
    for name in ("china", "flower"):
        photograph = load_photograph(name)
        for factor in range(2, 7):
            height, width = (size // factor for size in photograph.shape[:2])
            blocks = photograph[: height * factor, : width * factor].reshape(
                height, factor, width, factor, 3
            )
            sums = blocks.sum((1, 3), dtype=np.int64).transpose(
                2, 0, 1
            )  # integers: exact in any order
            shrunk.append((sums / (255 * factor**2)).astype(np.float32))
    return shrunk


# --- Shapes: signed distance, negative inside, for coordinates (u right, v down) within the unit
# disc. ---


def _radius(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # Not np.hypot, whose last bit depends on the platform.
    return np.sqrt(u * u + v * v)


def _convex(u: np.ndarray, v: np.ndarray, *vertices: tuple[float, float]) -> np.ndarray:
    """A convex polygon, its vertices clockwise as seen: the largest of its edges' distances."""
    edges = []
    for (u0, v0), (u1, v1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        length = ((u1 - u0) ** 2 + (v1 - v0) ** 2) ** 0.5
        normal_u, normal_v = (v1 - v0) / length, (u0 - u1) / length
        edges.append(u * normal_u + v * normal_v - (u0 * normal_u + v0 * normal_v))
    return np.maximum.reduce(edges)


def _disc(u, v):
    return _radius(u, v) - 0.9


def _square(u, v):
    return np.maximum(np.abs(u), np.abs(v)) - 0.76


def _triangle(u, v):
    return _convex(u, v, (0, -0.95), (0.9, 0.65), (-0.9, 0.65))


def _star(u, v):
    # Five reflections' worth of symmetry: fold onto one half-ray (cosine and sine of 36°), then one
    # edge.
    u = np.abs(u)
    v = -v
    for side in (1, -1):
        overshoot = np.maximum(side * 0.80901699 * u - 0.58778525 * v, 0) * 2
        u = u - overshoot * (side * 0.80901699)
        v = v + overshoot * 0.58778525
    return (
        np.abs(u) * 0.91945 + v * 0.39321 - 0.39321
    )  # the edge from the point (0, 1) to the notch (0.269, 0.371)


def _cross(u, v):
    u, v = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(u - 0.92, v - 0.33), np.maximum(u - 0.33, v - 0.92))


def _ring(u, v):
    return np.abs(_radius(u, v) - 0.66) - 0.28


def _heart(u, v):
    # A square standing on its corner, and a disc on each of its upper edges.
    u, v = np.abs(u), v + 0.1
    return (
        np.minimum((u + np.abs(v) - 0.84) * 0.70710678, _radius(u - 0.42, v + 0.42) - 0.59396970)
        + 0.03
    )


def _crescent(u, v):
    return np.maximum(_radius(u, v) - 0.95, 0.75 - _radius(u - 0.42, v))


def _flower(u, v):
    square = u * u + v * v
    cosine = u * u / np.maximum(square, 1e-6)
    petals = ((32 * cosine - 48) * cosine + 18) * cosine - 1  # cos 6θ as a polynomial in cos² θ
    return (np.sqrt(square) - 0.68 - 0.27 * petals) * 0.6


def _fish(u, v):
    body = np.maximum(_radius(u + 0.22, v - 0.44), _radius(u + 0.22, v + 0.44)) - 0.9
    return np.minimum(body, _convex(u, v, (0.2, 0), (0.95, -0.5), (0.95, 0.5)))


def _hexagon(u, v):
    return _convex(
        u, v, (-0.46, -0.8), (0.46, -0.8), (0.92, 0), (0.46, 0.8), (-0.46, 0.8), (-0.92, 0)
    )


def _arrow(u, v):
    shaft = np.maximum(np.abs(u + 0.4) - 0.52, np.abs(v) - 0.3)
    return np.minimum(shaft, _convex(u, v, (0.0, -0.75), (0.95, 0), (0.0, 0.75)))


def _drop(u, v):
    # The sides touch the disc: they meet its centre's vertical at an angle whose sine is 0.58 /
    # 1.3.
    return np.minimum(
        _radius(u, v - 0.35) - 0.58, _convex(u, v, (0, -0.95), (0.519, 0.091), (-0.519, 0.091))
    )


def _bolt(u, v):
    upper = _convex(u, v, (-0.1, -0.95), (0.6, -0.95), (0.15, 0.2), (-0.55, 0.2))
    return np.minimum(upper, _convex(u, v, (-0.15, -0.15), (0.62, -0.15), (-0.4, 0.98)))


def _half_disc(u, v):
    return np.maximum(_radius(u, v + 0.4) - 0.95, -0.4 - v)


# --- Textures: signed distance to the nearest edge, positive where light, for (s, t), a period and
# two phases. ---


def _folded(x: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1 in [0, 0.5], highest at integers."""
    return np.abs(x - np.floor(x) - np.float32(0.5))


def _sine(x: np.ndarray) -> np.ndarray:
    """A parabolic sine of period 1 in [-1, 1]: unlike np.sin, the same on every platform."""
    x = 2 * (x - np.floor(x)) - 1
    return 4 * x * (np.abs(x) - 1)


def _bands(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Light and dark bands of equal width."""
    return (_folded(x / period) - np.float32(0.25)) * period


def _cells(s, t, width, height) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates from a cell's centre, in a lattice with odd rows shifted by half a cell."""
    row = np.floor(t / height)
    column = s / width + np.float32(0.5) * (row % 2)
    return (column - np.floor(column) - np.float32(0.5)) * width, t - (
        row + np.float32(0.5)
    ) * height


def _dots(s, t, period, *phase):
    step = 1.3 * period
    return 0.34 * step - _radius(*_cells(s + phase[0] * step, t + phase[1] * step, step, step))


def _bricks(s, t, period, *phase):
    width, height = 2.1 * period, 1.05 * period
    x, y = _cells(s + phase[0] * width, t + 2 * phase[1] * height, width, height)
    return np.minimum(0.5 * width - np.abs(x), 0.5 * height - np.abs(y)) - 0.17 * period


def _stripes(s, t, period, *phase):
    return _bands(s + phase[0] * period, period)


def _checker(s, t, period, *phase):
    a, b = _bands(s + phase[0] * period, 1.8 * period), _bands(t + phase[1] * period, 1.8 * period)
    return np.maximum(np.minimum(a, b), np.minimum(-a, -b))


def _grid(s, t, period, *phase):
    step = 1.4 * period
    return (
        np.maximum(_folded(s / step + phase[0]), _folded(t / step + phase[1])) * step - 0.34 * step
    )


def _zigzag(s, t, period, *phase):
    ridge = t + _folded(s / (2.2 * period) + phase[0]) * (2.2 * period)
    return _bands(ridge + phase[1] * period, 1.3 * period) * 0.75


def _blotches(s, t, period, *phase):
    step = 2.6 * period
    waves = _sine((s + 0.35 * t) / step + phase[0]) + _sine((t - 0.45 * s) / step + phase[1])
    return 0.28 * period * (waves + _sine((0.8 * s + 0.75 * t) / step + phase[0] - phase[1]))


def _concentric(s, t, period, *phase):
    return _bands(_radius(s, t) + phase[0] * period, period)


def _spokes(s, t, period, *phase):
    square = np.maximum(s * s + t * t, np.float32(1e-6))
    double = (s * s - t * t) / square  # cos 2θ; the polynomial below makes it cos 10θ
    return np.sqrt(square) * ((16 * double * double - 20) * double * double + 5) * double * 0.12


def _scales(s, t, period, *phase):
    # Rows of discs, each hanging over the row beneath it; their rims are dark.
    height = 1.05 * period
    width, radius, rim = 2.2 * height, 1.5 * height, 0.24 * period
    s, t = s + phase[0] * width, t + 2 * phase[1] * height
    x, y = _cells(s, t - height, width, height)
    above = radius - _radius(x, y + 1.5 * height)
    x, y = _cells(s, t, width, height)
    here = radius - _radius(x, y + 0.5 * height)
    return np.where(above > 0, above - rim, np.minimum(here - rim, -above))


def _waves(s, t, period, *phase):
    return _bands(
        t + 0.45 * period * _sine(s / (2.6 * period) + phase[0]) + phase[1] * period, 1.2 * period
    )


def _diamonds(s, t, period, *phase):
    return _checker(0.85 * (s + 0.6 * t), 0.85 * (s - 0.6 * t), 1.05 * period, *phase)


def _dashes(s, t, period, *phase):
    width, height = 2.4 * period, 0.95 * period
    x, y = _cells(s + phase[0] * width, t + 2 * phase[1] * height, width, height)
    return np.minimum(0.32 * width - np.abs(x), 0.27 * height - np.abs(y))


def _rings(s, t, period, *phase):
    step = 2.2 * period
    return 0.13 * step - np.abs(
        _radius(*_cells(s + phase[0] * step, t + phase[1] * step, step, step)) - 0.3 * step
    )


def _weave(s, t, period, *phase):
    cell = 2.4 * period
    s, t = s / cell + phase[0], t / cell + phase[1]
    across = (np.floor(s) + np.floor(t)) % 2 == 0
    strands = 0.5 * _folded(2 * np.where(across, s, t) + np.float32(0.5)) - 0.08  # two in each cell
    ends = 0.45 - _folded(np.where(across, t, s))
    return np.minimum(strands, ends) * cell


_SHAPES = (
    _disc, _square, _triangle, _star, _cross, _ring, _heart, _crescent, _flower, _fish,
    _hexagon, _arrow, _drop, _bolt, _half_disc,
)  # fmt: skip
_TEXTURES = (
    _dots, _bricks, _stripes, _checker, _grid, _zigzag, _blotches, _concentric, _spokes, _scales,
    _waves, _diamonds, _dashes, _rings, _weave,
)  # fmt: skip
