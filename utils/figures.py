"""The figures that labs share: contact sheets, maps on images, panels of differences, sliders.

Each but the sliders draws a new pyplot figure, which a notebook shows by itself; `plt.gcf()` is
that figure.
"""

from collections.abc import Callable, Sequence
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

Images = np.ndarray | torch.Tensor
"""A tensor (N, 3, H, W) or a float array (N, H, W, 3), clipped to [0, 1]; or uint8 (N, H, W, 3)."""


def contact_sheet(
    images: Images,
    titles: Sequence[str] = (),
    *,
    columns: int = 8,
    inches: float = 1.3,
    heading: str = "",
) -> None:
    """Images row by row, each under its title.

    Args:
        images: see `Images`.
        titles: one for each image, or none.
        columns: images in a row.
        inches: an image's width.
        heading: what the figure says.
    """
    pictures = _pictures(images)
    axes = _grid(pictures, titles, columns, inches, heading)
    for axis, picture in zip(axes, pictures, strict=True):
        axis.imshow(picture)


def overlay(
    images: Images,
    maps: np.ndarray | torch.Tensor,
    titles: Sequence[str] = (),
    *,
    masks: np.ndarray | None = None,
    columns: int = 8,
    inches: float = 1.3,
    heading: str = "",
) -> None:
    """Each image in grey under its map, with one scale and one colour bar for all.

    A map covers the image the more, the larger its magnitude: where it is zero the image is bare.
    Maps without negative values run from 0 to the largest value in viridis, others in a diverging
    map about 0. To compare maps by form alone, divide each by its maximum first.

    Args:
        images: see `Images`.
        maps: (N, H, W).
        masks: bool (N, H, W), drawn as outlines.
        titles, columns, inches, heading: as for `contact_sheet`.

    Raises:
        ValueError: where maps and images differ in number or size.
    """
    pictures = _pictures(images)
    maps = torch.as_tensor(maps).detach().cpu().numpy()
    if maps.shape != pictures.shape[:3]:
        raise ValueError(f"maps must have the images' shape {pictures.shape[:3]}, not {maps.shape}")
    largest = np.abs(maps).max() or 1  # all-zero maps have a scale too
    lowest, colours = (-largest, "RdBu_r") if maps.min() < 0 else (0, "viridis")
    axes = _grid(pictures, titles, columns, inches, heading)
    for index, axis in enumerate(axes):
        axis.imshow(pictures[index].mean(-1), cmap="gray", vmin=0, vmax=1)
        covering = 0.8 * (np.abs(maps[index]) / largest) ** 0.5
        shown = axis.imshow(maps[index], cmap=colours, vmin=lowest, vmax=largest, alpha=covering)
        if masks is not None:
            axis.contour(
                masks[index], [0.5], colors="white" if lowest == 0 else "black", linewidths=0.8
            )
    plt.colorbar(shown, ax=axes, fraction=0.02, pad=0.01)


def difference_panel(
    originals: Images, results: Images, titles: Sequence[str] = (), *, inches: float = 1.5
) -> None:
    """A row for each pair: original, result, their difference and ten times it, both on grey, which
    means none.

    Args:
        originals, results: see `Images`; of the same number and size.
        titles: one for each result.
        inches: an image's width.
    """
    originals, results = _pictures(originals), _pictures(results)
    difference = results - originals
    panels = [originals, results, 0.5 + difference / 2, np.clip(0.5 + 5 * difference, 0, 1)]
    pictures = np.stack(panels, axis=1).reshape(-1, *originals.shape[1:])
    names = [
        name
        for title in titles or ["result"] * len(originals)
        for name in ("original", title, "difference", "difference × 10")
    ]
    for axis, picture in zip(_grid(pictures, names, 4, inches, ""), pictures, strict=True):
        axis.imshow(picture)


def explore(draw: Callable[..., None], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Sliders and menus above a figure that is drawn again whenever one of them changes.

    `ipywidgets.interact` would do the same by an Output widget, which makes nbclient (and with it
    nbconvert and nbgrader) wait for ever now and then: https://github.com/jupyter/nbclient/issues/312

    Args:
        draw: draws a pyplot figure; called with the controls' values under their names.
        controls: a widget for each argument of `draw`, described by its name unless by itself.
    """
    # In its own size: a column would stretch it.
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})

    def redraw(change: dict | None = None) -> None:
        draw(**{name: control.value for name, control in controls.items()})
        content = BytesIO()
        plt.gcf().savefig(content, format="png")  # plt.savefig would draw the figure once more
        plt.close()
        picture.value = content.getvalue()

    for name, control in controls.items():
        control.description = control.description or name
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])


def _pictures(images: Images) -> np.ndarray:
    """Float (N, H, W, 3) in [0, 1]."""
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu().permute(0, 2, 3, 1).numpy()
    return images / 255 if images.dtype == np.uint8 else np.clip(images, 0, 1)


def _grid(
    pictures: np.ndarray, titles: Sequence[str], columns: int, inches: float, heading: str
) -> list[Axes]:
    """Axes without frames, one for each picture, with its title."""
    count, height, width = pictures.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (
        inches * columns,
        (inches * height / width + (0.2 if titles else 0)) * rows + (0.3 if heading else 0),
    )
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout=layout, squeeze=False)
    figure.suptitle(heading, fontsize=11)
    for axis in grid.flat:
        axis.set_axis_off()
    axes = list(grid.flat[:count])
    if titles:
        for axis, title in zip(axes, titles, strict=True):
            axis.set_title(title, fontsize=8, pad=2)
    return axes
