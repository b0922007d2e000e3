"""Draws docs/figures/, the labs' figures that docs/figures.toml chooses, from solved notebooks.

`make figures` runs all labs (some minutes); `python docs/figures.py 01 08` runs these.
"""

import base64
import io
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from autograder.authoring.lab import Lab, find_lab, lab_names
from autograder.authoring.release import source_notebook, strings

DOCS = Path(__file__).parent
MOST_BYTES = 100_000


def solved(lab: Lab) -> nbformat.NotebookNode:
    """A lab's notebook with solutions and all outputs."""
    notebook = source_notebook(lab)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=1800, resources=resources).execute()
    return notebook


def picture(notebook: nbformat.NotebookNode, title: str, which: int = 1) -> bytes:
    """The PNG of the figure whose code has this title among its strings; of several that the cell
    draws, which one.

    Raises:
        LookupError: no executed cell draws such a figure.
    """
    for cell in notebook.cells:
        drawn = [output.data["image/png"] for output in cell.get("outputs", ())
                 if "image/png" in output.get("data", {})]  # fmt: skip
        if len(drawn) >= which and title in strings(cell.source):
            return base64.b64decode(drawn[which - 1])
    raise LookupError(f"no figure is called “{title}”")


def as_webp(png: bytes) -> bytes:
    """The same picture in at most MOST_BYTES: without loss where that is enough."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for options in ({"lossless": True}, *({"quality": quality} for quality in range(90, 0, -10))):
        buffer = io.BytesIO()
        image.save(buffer, "webp", method=6, **options)
        if buffer.tell() <= MOST_BYTES:
            break
    return buffer.getvalue()


def draw(notebook: nbformat.NotebookNode, number: str) -> None:
    """Writes the figures that are chosen for a lab."""
    for figure in tomllib.loads((DOCS / "figures.toml").read_text("utf-8"))["figure"]:
        if figure["file"].startswith(f"{number}_"):
            content = as_webp(picture(notebook, figure["title"], figure.get("which", 1)))
            (DOCS / "figures" / figure["file"]).write_bytes(content)
            print(f"docs/figures/{figure['file']}: {len(content):,} bytes")


if __name__ == "__main__":
    for number in sys.argv[1:] or [name[:2] for name in lab_names()]:
        draw(solved(find_lab(number)), number)
