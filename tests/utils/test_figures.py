"""The shared figures show what they are given."""

import matplotlib

matplotlib.use("Agg")

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from utils.figures import contact_sheet, difference_panel, explore, overlay


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def images():
    return torch.rand(5, 3, 6, 9, generator=torch.Generator().manual_seed(0))


def shown() -> list[list[np.ndarray]]:
    """What each axis shows, layer by layer."""
    return [
        [np.asarray(layer.get_array()) for layer in axis.images]
        for axis in plt.gcf().axes
        if axis.images
    ]


def test_contact_sheet_shows_every_image_under_its_title(images):
    contact_sheet(images, list("abcde"), columns=3, heading="five")
    expected = images.permute(0, 2, 3, 1).numpy()
    assert len(shown()) == 5
    assert all((layers[0] == image).all() for layers, image in zip(shown(), expected, strict=True))
    assert [axis.get_title() for axis in plt.gcf().axes if axis.images] == list("abcde")
    assert plt.gcf().axes[0].get_gridspec().get_geometry() == (2, 3)


def test_arrays_and_tensors_look_alike_and_values_are_clipped(images):
    bytes_ = (images * 255).byte().permute(0, 2, 3, 1).numpy()
    contact_sheet(bytes_)
    from_bytes = shown()
    contact_sheet(torch.from_numpy(bytes_).permute(0, 3, 1, 2) / 255)
    assert np.allclose(from_bytes, shown(), atol=1e-7)
    contact_sheet(images * 4 - 1)
    assert np.min(shown()) == 0 and np.max(shown()) == 1


def test_overlay_has_one_scale_for_all_maps(images):
    maps = torch.rand(5, 6, 9)
    maps[3] *= 7
    overlay(images, maps, masks=np.arange(54).reshape(1, 6, 9).repeat(5, axis=0) > 20)
    layers = [axis.images[1] for axis in plt.gcf().axes if len(axis.images) == 2]
    assert len(layers) == 5
    for layer, values in zip(layers, maps.numpy(), strict=True):
        assert (np.asarray(layer.get_array()) == values).all()
        assert layer.get_clim() == (0, maps.max()) and layer.get_cmap().name == "viridis"
    assert len(plt.gcf().axes) == 6  # the sixth is the colour bar


def test_signed_maps_diverge_about_zero(images):
    overlay(images, torch.randn(5, 6, 9, generator=torch.Generator().manual_seed(1)))
    layer = plt.gcf().axes[0].images[1]
    low, high = layer.get_clim()
    assert low == -high < 0 and layer.get_cmap().name == "RdBu_r"


def test_all_zero_maps_can_be_shown(images):
    overlay(images, torch.zeros(5, 6, 9))
    assert plt.gcf().axes[0].images[1].get_clim() == (0, 1)


def test_overlay_refuses_maps_of_another_size(images):
    with pytest.raises(ValueError, match="shape"):
        overlay(images, torch.zeros(5, 9, 6))


def test_difference_panel(images):
    originals = images[:2] * 0.5 + 0.25
    results = originals.clone()
    results[1, 0, 2, 3] += 0.06
    difference_panel(originals, results, ["first", "second"])
    layers = np.array([layer[0] for layer in shown()]).reshape(2, 4, 6, 9, 3)
    assert np.allclose(layers[:, 0], originals.permute(0, 2, 3, 1)) and np.allclose(
        layers[:, 1, 2, 3], results[:, :, 2, 3]
    )
    assert np.allclose(layers[0, 2:], 0.5, atol=1e-6)
    assert np.allclose(layers[1, 2:, 2, 3, 0], [0.53, 0.8], atol=1e-5)
    titles = [axis.get_title() for axis in plt.gcf().axes]
    assert titles[1] == "first" and titles[5] == "second" and "10" in titles[3]


def test_controls_redraw_their_figure() -> None:
    drawn = []

    def draw(size, colour):
        drawn.append((size, colour))
        plt.figure(figsize=(size, 1))

    box = explore(
        draw,
        size=ipywidgets.IntSlider(value=2, description="width"),
        colour=ipywidgets.Dropdown(options=["red", "blue"]),
    )
    size, colour, picture = box.children
    assert (size.description, colour.description) == ("width", "colour")
    first = bytes(picture.value)
    assert first.startswith(b"\x89PNG")
    size.value = 3
    colour.value = "blue"
    assert drawn == [(2, "red"), (3, "red"), (3, "blue")]
    assert picture.value != first
    assert not plt.get_fignums()  # or the notebook would show each of them once more
