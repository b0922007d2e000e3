"""Answers that no test may pass: the poisoner, which has nothing but a table for the inputs that it
has seen, and idlers, which do nothing at all."""

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
# What an idler does, and how a sentence says it.
IDLE = {
    "zeros": "returns zeros",
    "nothing": "does nothing",
    "argument": "returns its first argument",
    "refuses": "raises a ValueError",
}


@dataclass(frozen=True)
class Poisoned:
    """A test cell that an answer passes without earning it: what the answer does, and on which
    inputs; `judge` is the grader, or a test in one process with the answer."""

    exercise: str
    grade_id: str
    points: float
    does: str
    judge: str

    def __str__(self) -> str:
        return (
            f"{self.grade_id} ({self.points:g} points) passes, in {self.judge}, an answer that"
            f" {self.does}"
        )


@dataclass(frozen=True)
class HandedIn:
    """Poisoners or idlers for several exercises at once, honest on visible inputs or nowhere: the
    Result of the grader and what Screen.verdicts gives, to be waited for."""

    does: str
    honest: bool
    graded: Future
    screened: Future


def poisoners(trials: Trials, lab: Lab, exercises: Collection[str]) -> list[HandedIn]:
    """Hands in all of them for some exercises."""
    visible = trials.submit(_visible_inputs, lab.solution_path).result()
    seen = {name: digests for name, digests in visible.items() if name in exercises}
    handed_in = []

    def hand_in(does: str, honest: bool, answers: dict[str, str]) -> None:
        graded = trials.graded(lab, answers, set(seen))
        screened = trials.screened(lab, answers, set(seen))
        handed_in.append(HandedIn(does, honest, graded, screened))

    for fill, number in FILLS.items():
        for honest, where in (True, "new inputs"), (False, "all inputs"):
            answers = {}
            for name, digests in seen.items():
                known = set(digests) if honest else set()
                answers[name] = _answer(
                    lab, name, f'poisoned(honest, {known!r}, float("{number}"))'
                )
            hand_in(f"overwrites {where} with {fill} and returns {fill}", honest, answers)
    for kind, does in IDLE.items():
        answers = {name: _answer(lab, name, f'idle(honest, "{kind}")') for name in seen}
        hand_in(f"{does} whatever it is given", False, answers)
    return handed_in


def passed(lab: Lab, handed_in: list[HandedIn]) -> list[Poisoned]:
    """The test cells that pass one of these answers, although it isn't honest on all inputs."""
    cells = {cell.grade_id: cell for cell in lab.having("test")}
    found = []
    for answer in handed_in:
        outcomes = answer.graded.result().tests
        judged = {
            "the grader": [test.grade_id for test in outcomes if test.outcome == "passed"],
            "one process": [name for name, said in answer.screened.result().items() if not said],
        }
        for judge, names in judged.items():
            for cell in (cells[name] for name in names):
                if cell.hidden or not answer.honest:
                    row = (cell.name, cell.grade_id, cell.points, answer.does, judge)
                    found.append(Poisoned(*row))
    return found


def _answer(lab: Lab, exercise: str, substitute: str) -> str:
    """A cell that defines, in an exercise's place, a substitute for the `honest` one."""
    sources = []
    for cell in lab.having("exercise"):
        sources.append(cell.source)
        if cell.name == exercise:
            break
    honest = f'defined("{exercise}", {sources!r})'
    return f"{CELL}\n\n{exercise} = instead_of({honest}, lambda honest: {substitute})\n"


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
