"""Image files in all their modes, and the way into a network and back."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from utils.images import (
    brush_strokes,
    deprocess,
    load_image,
    load_photograph,
    preprocess,
    stained_glass,
)


def as_file(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


@pytest.fixture
def picture():
    """Not square, not symmetric, every value different from its neighbours'."""
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_photographs():
    for name in ("china", "flower"):
        photograph = load_photograph(name)
        assert photograph.shape == (427, 640, 3) and photograph.dtype == np.uint8
        photograph[0] = 0  # a copy of one's own
        assert load_photograph(name)[0].any()
    with pytest.raises(ValueError, match="china"):
        load_photograph("moon")


def test_an_rgb_file_comes_as_it_is(picture, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    assert (load_image(path) == picture).all()
    assert (load_image(str(path)) == picture).all()
    assert load_image(path).flags.writeable


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode):
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (8, 1))
    kind = {"CMYK": "JPEG", "I;16": "TIFF", "I": "TIFF", "F": "TIFF"}.get(mode, "PNG")
    if mode in ("I;16", "I"):
        image = Image.fromarray(ramp.astype(np.uint16) * 257).convert(mode)
    elif mode == "F":
        image = Image.fromarray(ramp.astype(np.float32) / 255)
    elif mode == "P":
        image = Image.fromarray(ramp).quantize(64)
    else:
        image = Image.fromarray(ramp).convert("RGB").convert(mode)
    assert image.mode == mode
    loaded = load_image(as_file(image, kind))
    assert loaded.shape == (8, 32, 3) and loaded.dtype == np.uint8
    tolerance = 255 if mode == "1" else 8
    assert np.abs(loaded.astype(int) - ramp[..., None]).max() <= tolerance
    assert loaded[:, 0].max() <= 5 and loaded[:, -1].min() >= 250


def test_transparency_lies_on_white(picture):
    alpha = np.zeros((20, 30, 1), np.uint8)
    alpha[5:] = 255
    loaded = load_image(as_file(Image.fromarray(np.concatenate([picture, alpha], axis=2))))
    assert (loaded[:5] == 255).all() and (loaded[5:] == picture[5:]).all()
    palette = Image.fromarray(picture).quantize(8)
    assert (load_image(as_file(palette, transparency=palette.getpixel((0, 0))))[0, 0] == 255).all()


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 3), (8, 1)])
def test_the_cameras_orientation_is_undone(picture, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (
        load_image(as_file(Image.fromarray(picture), exif=exif)) == np.rot90(picture, turn)
    ).all()


def test_size_crops_the_centre_and_keeps_proportions():
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 255  # the central square
    assert load_image(as_file(Image.fromarray(wide)), 20).min() > 200
    assert load_image(as_file(Image.fromarray(wide)), (10, 25)).shape == (10, 25, 3)


def test_what_is_no_image_is_named(tmp_path, picture):
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    with pytest.raises(ValueError, match=r"notes\.png is not an image"):
        load_image(text)
    whole = as_file(Image.fromarray(np.tile(picture, (10, 10, 1)))).getvalue()
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.png can't be read"):
        load_image(cut)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_image(tmp_path / "nowhere.png")


def test_a_large_photograph_is_read_without_a_warning(monkeypatch, picture):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # the picture has 600
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (load_image(as_file(Image.fromarray(picture))) == picture).all()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match="can't be read"):
        load_image(as_file(Image.fromarray(picture)))


def test_preprocess_and_deprocess_undo_each_other(picture):
    batch = np.stack([picture, picture[::-1]])
    images = preprocess(batch)
    assert images.shape == (2, 3, 20, 30) and images.dtype == torch.float32
    assert images[1, 2, 4, 7] == picture[15, 7, 2] / np.float32(255)
    assert (deprocess(images) == batch).all()
    assert torch.equal(preprocess(deprocess(images)), images)
    assert torch.equal(preprocess(picture), images[:1])
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    assert (deprocess(preprocess(every)) == every).all()


def test_deprocess_clamps_and_rounds():
    images = (
        torch.tensor([-0.5, 1.7, 0.4999 / 255, 0.5001 / 255])
        .view(1, 1, 1, 4)
        .repeat(1, 3, 1, 1)
        .requires_grad_()
    )
    assert deprocess(images)[0, 0, :, 0].tolist() == [0, 255, 0, 1]


@pytest.mark.parametrize("texture", [brush_strokes, stained_glass])
def test_textures(texture):
    first, again, other = (texture(64, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).mean() > 0.5
    assert first.std() > 40
