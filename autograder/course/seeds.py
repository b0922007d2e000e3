"""The seed of a course's hidden tests: drawn once, kept in the course, and known to no student."""

import contextlib
import os
import secrets
import tomllib
import zlib
from dataclasses import dataclass
from pathlib import Path

from autograder.grading.handed_in import Refused, find_notebook, read_notebook

NAME = "seed.toml"
TEXT = """\
# Hidden tests draw their inputs from this number, which was drawn for this course alone. With
# another one every grade is worked out anew.
seed = {seed}
# true: each hand-in meets inputs of its own, so a resubmission meets others than before.
own_inputs = false
"""


class SeedError(Exception):
    """The course's seed can't be read; the message says why and what to do."""


@dataclass(frozen=True)
class Seeds:
    """A course's seed, and whether each hand-in gets one of its own."""

    seed: int
    own_inputs: bool

    def of(self, path: Path, lab: str) -> int:
        """The seed to grade a submission with, a file or a folder; the same for the same file."""
        if self.own_inputs:
            with contextlib.suppress(Refused):  # It is refused again when it is graded.
                return zlib.crc32(read_notebook(find_notebook(path, lab)), self.seed)
        return self.seed


def read_seeds(folder: Path) -> Seeds:
    """The seeds of a course folder, or of a folder of results; drawn where it has none yet.

    Raises:
        SeedError: its file isn't as it was written.
    """
    path = folder / NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, whenever this process is killed; and of two at once, one's.
        draft = folder / f".{NAME}.{os.getpid()}"
        draft.write_text(TEXT.format(seed=secrets.randbelow(2**31)), "utf-8")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    try:
        told = tomllib.loads(path.read_text("utf-8"))
        seed, own_inputs = told["seed"], told["own_inputs"]
        if type(seed) is not int or type(own_inputs) is not bool or not 0 <= seed < 2**32:
            raise ValueError
    except (OSError, ValueError, KeyError) as error:
        raise SeedError(
            f"{path} should hold the lines `seed = NUMBER` and `own_inputs = false` or `true`;"
            " mend it, or delete it to draw another seed"
        ) from error
    return Seeds(seed, own_inputs)
