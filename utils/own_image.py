"""A student's own picture: named in the notebook, or uploaded where widgets work."""

import html
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from PIL import Image

from utils.images import load_image

SIDE = 160  # pixels of the longer side, as the picture is shown


class OwnImage(ipywidgets.VBox):
    """The picture to show beside the lab's own, and a button that uploads one.

    As the result of a notebook's cell it shows the button, what became of the file, and the
    picture. What was uploaded stays until the notebook is restarted, though the cell runs again. A
    file that is no image changes nothing, and one sentence says so.

    Args:
        file: the name of an image file; None where there is none, or one is to be uploaded.
    """

    _uploaded: tuple[str, bytes] | None = None  # the last one in this notebook, its name and bytes

    def __init__(self, file: str | Path | None = None) -> None:
        self._content: bytes | None = None
        # The browser only offers these first: what comes is looked at.
        self._upload = ipywidgets.FileUpload(
            accept="image/*", description="Upload a picture", layout={"width": "max-content"}
        )
        self._said = ipywidgets.HTML()
        # As large as it is: a box would stretch it over the whole page.
        layout = {"display": "none", "width": "max-content"}
        self._shown = ipywidgets.Image(format="png", layout=layout)
        self._upload.observe(self._take, names="value")
        super().__init__([self._upload, self._said, self._shown])
        if file is not None:
            try:
                content = Path(file).read_bytes()
            except OSError:
                said = f"There is no file {file} here: look at its name, and at the folder."
            else:
                said = self._show(str(file), content)
            if self._content is None:
                print(said)  # where there are no widgets, too
        elif OwnImage._uploaded is not None:
            self._show(*OwnImage._uploaded)

    def load(self, size: int | tuple[int, int] | None = None) -> np.ndarray | None:
        """The picture, uint8 (H, W, 3), RGB, upright; None where there is none.

        Args:
            size: as in `utils.images.load_image`: (height, width) or one side for both scales the
                picture and crops its centre.
        """
        return None if self._content is None else load_image(BytesIO(self._content), size)

    def _take(self, change: dict[str, Any]) -> None:
        """Takes what was uploaded: a dict by file name in ipywidgets 7 (Colab), a tuple in 8."""
        for file in change["new"].values() if isinstance(change["new"], dict) else change["new"]:
            name = file["metadata"]["name"] if "metadata" in file else file["name"]
            content = bytes(file["content"])
            self._show(name, content)
            if self._content is content:
                OwnImage._uploaded = name, content

    def _show(self, name: str, content: bytes) -> str:
        """Takes a file's content for the picture if it is one; returns what there is to say."""
        try:
            picture = load_image(BytesIO(content))
        except ValueError:
            said = f"{name} can't be read as an image: choose a PNG or JPEG file."
        else:
            self._content = content
            said = f"{name}: {picture.shape[1]} × {picture.shape[0]} pixels. Run the cells below."
            preview = Image.fromarray(picture)
            preview.thumbnail((SIDE, SIDE))
            file = BytesIO()
            preview.save(file, "PNG")
            self._shown.value = file.getvalue()
            self._shown.layout.display = "block"
        self._said.value = html.escape(said)
        return said
