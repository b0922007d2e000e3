"""Finds and reads what a student handed in, or says what is wrong with it."""

import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

MOST_BYTES = 20 * 2**20
MOST_FILES = 10_000
MOST_CELLS = 2_000


class Refused(Exception):
    """A submission can't be graded at all; the message says why, for TA and student."""


def find_notebook(path: Path, lab: str) -> Path:
    """The notebook of one submission, which is a file or a folder; in a folder with several it is
    the one with the lab's name (see `set_aside`).

    Raises:
        Refused: there is none, there are several, or it isn't a regular file.
    """
    if path.is_symlink():
        raise Refused("the submission is a symbolic link; hand in the notebook itself")
    if path.is_dir():
        notebooks, others = _files_in(path)
        regular = [found for found in notebooks if _is_regular(found)]
        found = regular or notebooks
        named = [notebook for notebook in found if notebook.stem == lab]
        if len(named) != 1 and len(found) != 1:
            names = enumerated(other.name for other in found or others)
            if found:
                holds = f"{len(found)} notebooks ({names})"
            else:
                holds = f"no notebook, only {names}" if names else "no notebook"
            raise Refused(f"the folder holds {holds}; it should hold one, named {lab}.ipynb")
        path = (named if len(named) == 1 else found)[0]
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError) as error:
        raise Refused(f"the notebook can't be read: {_reason(error)}") from error
    if stat.S_ISLNK(mode):
        raise Refused("the notebook is a symbolic link; hand in the notebook itself")
    if not stat.S_ISREG(mode):
        raise Refused("the notebook is not a regular file")
    return path


def _files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The notebooks in a folder, and what else lies there, without what systems put there."""
    notebooks: list[Path] = []
    others: list[Path] = []
    seen = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name != "__MACOSX"
        )
        for name in sorted(files):
            seen += 1
            if seen > MOST_FILES:
                raise Refused(
                    f"the folder holds more than {MOST_FILES} files; hand in the notebook alone"
                )
            if not name.startswith("."):
                # Some browsers add an ending to what they save.
                notebook = re.search(r"\.ipynb(\.json|\.txt)?$", name, re.I)
                (notebooks if notebook else others).append(Path(place, name))
    return notebooks, others


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def enumerated(names: Iterable[str], most: int = 10) -> str:
    """Names in a row, readable whatever they are, and not too many."""
    shown = [name.encode("utf-8", "replace").decode()[:100] for name in names]
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def set_aside(path: Path, notebook: Path) -> tuple[list[str], list[str]]:
    """What is to be told of the file that `find_notebook` took, as (repairs, flags)."""
    repairs, flags = [], []
    if path.is_dir():
        others = [other.name for other in _files_in(path)[0] if other != notebook]
        if others:
            repairs.append(
                f"graded {enumerated([notebook.name])}; also there and not looked at:"
                f" {enumerated(others)}"
            )
    if notebook.lstat().st_nlink > 1:
        # Backups and file systems that save space make such links too; what it holds is graded.
        flags.append("the notebook is a hard link: the same file has another name elsewhere")
    return repairs, flags


def read_notebook(path: Path) -> bytes:
    """A notebook's content.

    Raises:
        Refused: the file is too large or can't be read.
    """
    try:
        # What stands there now may not be what stood there before: look at what was opened.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused("the notebook is not a regular file")
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Refused(f"the notebook can't be read: {_reason(error)}") from error
    if len(content) > MOST_BYTES:
        raise Refused(
            f"the notebook is larger than {MOST_BYTES // 2**20} MiB; clear its outputs and hand"
            " it in again"
        )
    return content


class HandedInCell(NamedTuple):
    """A cell as it came: its number (from 1), ids ("" where there are none), source, kind ("code",
    or "markdown" for all that isn't), its tags, as text, and its attachments, whatever they are."""

    number: int
    id: str
    grade_id: str
    text: str
    kind: str
    tags: str
    attachments: Any


def read_cells(content: bytes) -> tuple[list[HandedInCell], list[str]]:
    """A notebook's cells, of any format, and what had to be put right, one sentence each.

    Raises:
        Refused: the content isn't a notebook, or has too many cells.
    """
    encoding = json.detect_encoding(content)
    text = content.decode(encoding, "replace")
    try:
        # Not nbformat.reads: it would validate, and most of what it minds doesn't matter here.
        notebook = json.loads(text)
        if "cells" in notebook:
            raw = list(notebook["cells"])
        else:  # as before format 4
            raw = [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
    except RecursionError:
        raise Refused("the file is nested too deep to be a notebook") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(_what_it_is(content, text, error)) from None
    if len(raw) > MOST_CELLS:
        raise Refused(
            f"the notebook has {len(raw)} cells, more than the {MOST_CELLS} that are read;"
            " remove those that the lab doesn't need"
        )
    read = (_handed_in(number, cell) for number, cell in enumerate(raw, 1))
    cells = [cell for cell in read if cell is not None]
    repairs = []
    if raw and not cells:
        raise Refused("the file is not a Jupyter notebook: none of its cells has a source")
    if len(cells) < len(raw):
        repairs.append(f"left out {len(raw) - len(cells)} cells that have no source")
    if not encoding.startswith("utf-8"):
        repairs.append(f"read the file as {encoding.upper()}, though notebooks are UTF-8")
    elif "\ufffd" in text and b"\xef\xbf\xbd" not in content:
        repairs.append("the file is not in UTF-8; what couldn't be read is shown as \ufffd")
    return cells, repairs


def _handed_in(number: int, cell: Any) -> HandedInCell | None:
    if not isinstance(cell, dict):
        return None
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        return None
    return HandedInCell(
        number=number,
        id=str(cell.get("id", "")),
        grade_id=str(_mapping(cell, "metadata", "nbgrader").get("grade_id", "")),
        text=_readable(source),
        kind="code" if cell.get("cell_type") == "code" else "markdown",
        tags=str(_mapping(cell, "metadata").get("tags", "")),
        attachments=cell.get("attachments"),
    )


def _mapping(cell: dict, *keys: str) -> dict:
    for key in keys:
        cell = cell.get(key, {})
        if not isinstance(cell, dict):
            return {}
    return cell


def _readable(source: str) -> str:
    """A source that can be written, sent and compiled: without half characters and NULs."""
    try:
        source.encode()
    except UnicodeEncodeError:
        source = source.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return source.replace("\0", "\ufffd").replace("\r\n", "\n").replace("\r", "\n")


# How a file begins that is something else, and what that is.
_BEGINNINGS = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x1f\x8b": "a compressed archive",
    b"Rar!": "a compressed archive",
    b"7z\xbc\xaf": "a compressed archive",
    b"\xd0\xcf\x11\xe0": "an Office document",
    b"{\\rtf": "a text document",
    b"<?xml": "an XML file",
}
CONFLICT = re.compile(r"^(?:<{7} .*|={7}|>{7} .*)$", re.M)
_PYTHON = re.compile(r"^(?:import |from \w+ import |def \w+\(|class \w+|# %%|print\()", re.M)
_LINK = re.compile(r"\[InternetShortcut\]|https?://\S+\s*$|\{\s*\"(?:url|doc_id)\"|.*<plist", re.S)


def _what_it_is(content: bytes, text: str, error: Exception) -> str:
    """Why a file is refused as no notebook, as exactly as can be told."""
    start = text[:100_000].lstrip("\ufeff \t\r\n")
    if not start:
        return "the file is empty; save the notebook and hand it in again"
    marks = CONFLICT.search(text)
    if marks and '"cells"' in text:
        line = text.count("\n", 0, marks.start()) + 1
        return (
            "the notebook holds the marks of a merge conflict (<<<<<<<, =======, >>>>>>>; the"
            f" first in line {line}): choose one side with git (`git checkout --ours` or"
            " `--theirs`), open it in Jupyter, save it and hand it in again"
        )
    kind = next((name for begin, name in _BEGINNINGS.items() if content.startswith(begin)), None)
    if content.startswith(b"PK"):
        office = b"word/" in content or b"xl/" in content or b"ppt/" in content
        kind = "an Office document" if office else "a zip archive"
    elif _LINK.match(start[:2000]):
        kind = "a link to a notebook; download it (in Colab: File, Download, .ipynb)"
    elif re.match(r"<!doctype html|<html", start, re.I):
        kind = "a web page, such as an export to HTML"
    elif isinstance(error, json.JSONDecodeError):
        if start.startswith("{") and '"cells"' in text:
            return (
                f"the notebook is damaged: {error.msg} in its line {error.lineno}; open it in"
                " Jupyter, save it, or hand in an earlier copy"
            )
        if kind is None and _PYTHON.search(start):
            kind = "a Python program"
    elif kind is None:
        kind = "some other JSON"
    looks = f" but looks like {kind}" if kind else ""
    return f"the file is not a Jupyter notebook{looks}; hand in the .ipynb file itself"
