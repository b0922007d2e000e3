"""Draws docs/figures/, the labs' figures that docs/figures.toml chooses, from solved notebooks, and
docs/labs.webp, four of them in one picture.

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
WIDTH = 1600  # pixels, of the overview


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


def overview() -> None:
    """Writes docs/labs.webp: a figure on the left, two on the right, one beneath, edge to edge."""
    names = ("12_grid", "08_two_answers", "10_fooling", "09_four_networks")
    left, above, below, bottom = (
        Image.open(DOCS / "figures" / f"{name}.webp").convert("RGB") for name in names
    )
    tall, flat = left.height / left.width, above.height / above.width + below.height / below.width
    right = round(WIDTH * tall / (tall + flat))
    page = Image.new("RGB", (WIDTH, 2 * WIDTH), "white")
    lowest = 0
    for image, width, x, y in (
        (left, WIDTH - right, 0, 0),
        (above, right, WIDTH - right, 0),
        (below, right, WIDTH - right, round(right * above.height / above.width)),
        (bottom, WIDTH, 0, round(right * flat)),
    ):
        height = round(width * image.height / image.width)
        page.paste(image.resize((width, height), Image.Resampling.LANCZOS), (x, y))
        lowest = max(lowest, y + height)
    page.crop((0, 0, WIDTH, lowest)).save(DOCS / "labs.webp", quality=80, method=6)


if __name__ == "__main__":
    for number in sys.argv[1:] or [name[:2] for name in lab_names()]:
        draw(solved(find_lab(number)), number)
    overview()
