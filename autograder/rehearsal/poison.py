"""The poisoner: it has nothing but a table for the inputs that it has seen; no test may pass it."""

import functools
import types
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autograder.authoring.lab import Lab
from autograder.rehearsal import poison_cell
from autograder.rehearsal.screening import LONG_SECONDS, Screen, in_fork, screen, visible_code
from autograder.rehearsal.trials import Trials

CELL = Path(poison_cell.__file__).read_text()
FILLS = {"zeros": 0.0, "NaN": float("nan")}


@dataclass(frozen=True)
class Poisoned:
    """A test cell that a poisoner passes: with zeros or NaN as `fill`, `honest` on the visible
    inputs or nowhere, `judge` being the grader or a test in one process with the answer."""

    exercise: str
    grade_id: str
    points: float
    fill: str
    honest: bool
    judge: str

    def __str__(self) -> str:
        where = "new inputs" if self.honest else "all inputs"
        return (
            f"{self.grade_id} ({self.points:g} points) passes, in {self.judge}, an answer that"
            f" overwrites {where} with {self.fill} and returns {self.fill}"
        )


def poisoners(
    trials: Trials, lab: Lab, exercises: Collection[str]
) -> list[tuple[str, bool, Future, Future]]:
    """Hands in four poisoners for some exercises at once: by what they fill with, and whether they
    are honest on visible inputs; the Result of the grader and what Screen.verdicts gives, to be
    waited for."""
    visible = trials.submit(_visible_inputs, lab.solution_path).result()
    seen = {name: digests for name, digests in visible.items() if name in exercises}
    handed_in = []
    for fill, number in FILLS.items():
        for honest in (True, False):
            answers = {
                name: _answer(lab, name, digests if honest else [], number)
                for name, digests in seen.items()
            }
            graded = trials.graded(lab, answers, set(seen))
            handed_in.append((fill, honest, graded, trials.screened(lab, answers, set(seen))))
    return handed_in


def passed(lab: Lab, handed_in: list[tuple[str, bool, Future, Future]]) -> list[Poisoned]:
    """The test cells that pass a poisoner, although it isn't honest on all their inputs."""
    cells = {cell.grade_id: cell for cell in lab.having("test")}
    found = []
    for fill, honest, graded, screened in handed_in:
        outcomes = graded.result().tests
        judged = {
            "the grader": [test.grade_id for test in outcomes if test.outcome == "passed"],
            "one process": [name for name, message in screened.result().items() if not message],
        }
        for judge, names in judged.items():
            for cell in (cells[name] for name in names):
                if cell.hidden or not honest:
                    row = (cell.name, cell.grade_id, cell.points, fill, honest, judge)
                    found.append(Poisoned(*row))
    return found


def _answer(lab: Lab, exercise: str, seen: list[str], fill: float) -> str:
    """A poisoner's cell for an exercise."""
    sources = []
    for cell in lab.having("exercise"):
        sources.append(cell.source)
        if cell.name == exercise:
            break
    call = f'poison("{exercise}", {sources!r}, {set(seen)!r}, float("{fill}"))'
    return f"{CELL}\n\n{exercise} = {call}\n"


def _visible_inputs(lab_path: Path) -> dict[str, list[str]]:
    """Digests of all arguments with which visible tests call an exercise, by exercise; of those
    that are functions, or modules, which can be poisoned."""
    the_screen = screen(lab_path)
    return in_fork(functools.partial(_digests, the_screen), LONG_SECONDS)


def _digests(the_screen: Screen) -> dict[str, list[str]]:
    names, _ = the_screen.namespace({})
    seen: dict[str, list[str]] = {}
    for name in the_screen.lab.exercises:
        value = names[name]
        if isinstance(value, types.FunctionType):
            names[name] = _recording(value, seen.setdefault(name, []))
        elif isinstance(value, type) and issubclass(value, torch.nn.Module):
            forward = _recording(value.forward, seen.setdefault(name, []))
            names[name] = type(name, (value,), {"forward": forward})
    for cell in the_screen.lab.having("test"):
        the_screen.run(visible_code(cell), names)
    return seen


def _recording(function: Any, digests: list[str]) -> Any:
    @functools.wraps(function)
    def recorded(*arguments: Any, **keywords: Any) -> Any:
        digests.append(poison_cell.digest((arguments, keywords)))
        return function(*arguments, **keywords)

    return recorded
