"""Begins a course: a folder with a first lab, what its notebooks import, and how to go on."""

import shutil
from pathlib import Path

STARTER = Path(__file__).with_name("starter")


class NotEmpty(Exception):
    """There is something in the folder already; the message says so."""


def begin(folder: Path) -> None:
    """Writes a new course.

    Raises:
        NotEmpty: the folder is not a new one.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotEmpty(f"{folder} is there already and not empty: name a new folder")
    shutil.copytree(
        STARTER, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
