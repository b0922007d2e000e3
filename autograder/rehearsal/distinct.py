"""Do a visible test's mistakes differ from the truth, and from each other, on its own inputs?"""

import functools
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from autograder.authoring.lab import Cell
from autograder.rehearsal.screening import LONG_SECONDS, Screen, in_fork, screen, visible_code
from utils import checks


@dataclass(frozen=True)
class Alike:
    """Two mistakes that the check in a line of the lab's file can't tell apart; `other` is "" where
    it can't tell one from the truth."""

    exercise: str
    line: int
    mistake: str
    other: str

    def __str__(self) -> str:
        if not self.other:
            return f"{self.mistake!r} gives the expected value, so it is never named"
        return f"{self.mistake!r} and {self.other!r} give the same, so only the first is named"


def alike(lab_path: Path) -> list[Alike]:
    """The mistakes that a lab's visible tests list, but can't tell from another one on some input,
    or from the truth on any. (In a row of inputs from simple to general, one that isn't a mistake
    yet on the first ones is told by the later ones.)"""
    the_screen = screen(lab_path)
    return in_fork(functools.partial(_alike, the_screen), LONG_SECONDS)


def _alike(the_screen: Screen) -> list[Alike]:
    found: dict[Alike, None] = {}
    for cell in the_screen.lab.having("test"):
        seen: dict[tuple[int, str], bool] = {}  # whether some call of a line tells a mistake
        for line, call in _calls(the_screen, cell):
            values = _values(call["mistakes"] or {})
            tolerance = call["tolerance"]
            wrong = {
                mistake: value
                for mistake, value in values.items()
                if not _close(value, call["expected"], tolerance)
            }
            for mistake in values:
                seen[line, mistake] = seen.get((line, mistake), False) or mistake in wrong
            for (first, value), (second, other) in combinations(wrong.items(), 2):
                if _close(other, value, tolerance):
                    found[Alike(cell.name, line, first, second)] = None
        for (line, mistake), told in seen.items():
            if not told:
                found[Alike(cell.name, line, mistake, "")] = None
    return list(found)


def _values(mistakes: Mapping[str, Any]) -> dict[str, Any]:
    """What each mistake gives; without those that are impossible on this input, and raise."""
    values = {}
    for mistake, value in mistakes.items():
        try:
            values[mistake] = value() if callable(value) else value
        except Exception:
            continue
    return values


def _close(value: Any, other: Any, tolerance: float) -> bool:
    try:
        checks.check_close(value, other, "value", tolerance=tolerance)
    except (AssertionError, TypeError, AttributeError):
        return False
    return True


def _calls(the_screen: Screen, cell: Cell) -> list[tuple[int, dict[str, Any]]]:
    """The arguments of every call of check_close in the visible part of a test cell, with its line
    in the lab's file."""
    calls = []
    original, names = checks.check_close, the_screen.given
    signature = inspect.signature(original)

    def recording(*arguments: Any, **keywords: Any) -> None:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        frame = sys._getframe()
        while frame.f_back and frame.f_code.co_filename != f"<{cell.grade_id}>":
            frame = frame.f_back
        calls.append((cell.line + frame.f_lineno, bound.arguments))
        original(*arguments, **keywords)

    hooked = [name for name, value in names.items() if value is original]
    checks.check_close = recording
    names.update(dict.fromkeys(hooked, recording))
    try:
        the_screen.run(visible_code(cell), the_screen.namespace({})[0])
    finally:
        checks.check_close = original
        names.update(dict.fromkeys(hooked, original))
    return calls
