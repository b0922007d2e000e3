"""Runs a lab's tests, in a process that never runs a student's code, against a sandboxed worker."""

import contextlib
import inspect
import time
from collections.abc import Callable, Collection
from functools import partial
from types import CodeType, SimpleNamespace
from typing import Any

from autograder.authoring.lab import HIDDEN, Cell, Lab
from autograder.authoring.reference import compiled, run_reference
from autograder.grading.job import TestOutcome
from autograder.grading.normalise import Submission
from autograder.grading.sandbox import (
    RemoteObject,
    Sandbox,
    Worker,
    WorkerLost,
)
from autograder.grading.worker import seed_everything
from utils.guard import ONE_IMAGE
from utils.without import forbidden_calls

MOST_MESSAGE = 500


class _Session:
    """The worker in which one submission's cells have been run; started anew when it is lost.

    A cell that costs the worker its life, or hangs, is left out from then on, so that the other
    exercises still get their grades.
    """

    def __init__(
        self,
        lab: Lab,
        reference: SimpleNamespace,
        sandbox: Sandbox,
        submission: Submission,
        seed: int,
        deadline: float,
    ) -> None:
        self._sandbox, self._steps, self._seed = sandbox, list(submission.steps), seed
        self._deadline = deadline
        self._worker: Worker | None = None
        self._stand_ins: dict[str, Any] = {}
        self._data: dict[str, Any] = {}  # by name, what the worker of the moment has
        self._data_names: list[str] = []
        self._unfinished: set[str] = set()  # titles of cells that ended by an exception
        sources: dict[str, str] = {}
        for title, source, _ in submission.steps:  # Several may come of one cell.
            sources[title] = f"{sources[title]}\n{source}" if title in sources else source
        for cell in lab.having("exercise"):
            for name in lab.exercises[cell.name]:
                solution = getattr(reference, name)
                self._stand_ins[name] = RemoteObject(
                    self.worker,
                    ("name", name),
                    _parameters(solution),
                    cell.changes,
                    partial(forbidden_calls, sources, name, cell.without, self._unfinished),
                )
                if not callable(solution):
                    self._data_names.append(name)
        self.errors: dict[str, str] = {}  # by exercise: why its cell defined nothing
        self.knows_hidden = False  # whether the worker of the moment has had hidden inputs

    def worker(self) -> Worker:
        """A living worker, with all cells run."""
        while self._worker is None or self._worker.lost:
            self._worker = self._sandbox.worker(self._deadline)
            self.knows_hidden = False
            self._data.clear()
            self._worker.call(seed_everything, self._seed)
            for step in self._steps:
                title, source, exercise = step
                try:
                    self._worker.run(title, source)
                except WorkerLost as lost:
                    self._unfinished.add(title)
                    if time.monotonic() > self._deadline:
                        raise
                    self._steps.remove(step)
                    self.errors[exercise or title] = f"running the cell {title}: {lost}"
                    break
                except Exception as error:
                    self._unfinished.add(title)
                    self.errors[exercise or title] = describe(error)
        return self._worker

    def names(self, cell: Cell) -> dict[str, Any]:
        """What the exercises' names mean in a test cell: data is fetched, once from each worker;
        everything else stays there."""
        worker = self.worker()
        for stand_in in self._stand_ins.values():
            stand_in.left.clear()
        for name in self._data_names:
            if name in cell.source and name not in self._data:
                found = worker.names([name])
                self._data |= {n: v for n, v in found.items() if type(v) is not RemoteObject}
        return self._stand_ins | self._data

    def check_left(self) -> None:
        """Fails a test that went well but for what a call changed before it raised an exception,
        which the test expected."""
        for stand_in in self._stand_ins.values():
            for sentence in stand_in.left:
                raise AssertionError(f"after an exception, {sentence}")

    def run(self, cell: Cell, given: dict[str, Any]) -> tuple[str, str]:
        """Runs a test cell.

        Args:
            given: what its names mean beside those of the exercises.

        Returns:
            The outcome and the message.
        """
        hidden = False
        try:
            names = self.names(cell)
            self.worker().call(seed_everything, self._seed)
            seed_everything(self._seed)
            exec(_code(cell), {**given, **names})
            self.check_left()
            outcome, message = "passed", ""
        except WorkerLost as error:
            outcome, message = "lost", f"{cell.name} {error}"
        except Exception as error:
            hidden = _in_hidden_part(error, cell)
            if self.knows_hidden and not hidden:
                # What it says now it may have kept: one that has seen nothing hidden says it.
                self.close()
                return self.run(cell, given)
            outcome, message = "failed", describe(error, hidden)
        self.knows_hidden |= cell.hidden and (outcome == "passed" or hidden)
        return outcome, message

    def close(self) -> None:
        """Ends the worker; whoever asks for one gets a new one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def dry_run(lab: Lab) -> None:
    """Runs a lab's tests on its own solution in this process, for what they import late and PyTorch
    sets up late: what is graded in a fork of this process finds all of it."""
    given, reference = run_reference(lab)
    for cell in lab.having("test"):
        with contextlib.suppress(Exception):  # A lab that fails its own tests, grading will show.
            exec(_code(cell), {**given, **vars(reference), "reference": reference})


def run_tests(
    lab: Lab,
    submission: Submission,
    sandbox: Sandbox,
    seed: int,
    deadline: float,
    exercises: Collection[str] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[TestOutcome]:
    """Runs a lab's test cells on a submission.

    Args:
        seed: of the hidden tests' random inputs and of everybody's global generators.
        deadline: when the submission's time is over, on time.monotonic's clock.
        exercises: the exercises to test; all of them if None.
        progress: called after every test cell.

    Returns:
        One outcome for every test cell, in order.
    """
    seed_everything(seed)
    given, reference = run_reference(lab, seed)
    session = _Session(lab, reference, sandbox, submission, seed, deadline)
    outcomes = []
    lost: dict[str, str] = {}
    with contextlib.closing(session):
        for cell in lab.having("test"):
            if exercises is not None and cell.name not in exercises:
                continue
            if cell.name in lost:
                outcome, message = "lost", f"not run: {lost[cell.name]}"
            elif cell.name not in submission.answers:
                outcome, message = "missing", f"the notebook has no cell {cell.name}"
            else:
                outcome, message = session.run(cell, {**given, "reference": reference})
                if outcome == "lost":
                    lost[cell.name] = message
                if outcome != "passed" and cell.name in session.errors:
                    message = session.errors[cell.name]
            outcomes.append(
                TestOutcome(
                    exercise=cell.name,
                    grade_id=cell.grade_id,
                    points=cell.points if outcome == "passed" else 0,
                    max_points=cell.points,
                    hidden=cell.hidden,
                    outcome=outcome,
                    message=_one_line(message),
                    aspect=cell.aspect,
                )
            )
            progress()
    return outcomes


def _code(cell: Cell) -> CodeType:
    return compiled(cell.source, f"<{cell.grade_id}>")


def _parameters(value: Any) -> list[str]:
    """What the positional arguments of a function or class are called; empty for all else."""
    try:
        return list(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return []


def _in_hidden_part(error: Exception, cell: Cell) -> bool:
    """Whether the statement that failed stands in the cell's hidden tests, or after them."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != f"<{cell.grade_id}>":
        trace = trace.tb_next
    region = HIDDEN.search(cell.source)
    return (
        trace is not None
        and region is not None
        and trace.tb_lineno > cell.source.count("\n", 0, region.start())
    )


def describe(error: Exception, hidden: bool = False) -> str:
    """An exception in one sentence; one from the student's code says where it happened.

    Args:
        hidden: whether it happened in a hidden test, whose inputs a message must not tell.
    """
    message = str(error.args[0]) if len(error.args) == 1 else str(error)
    place = getattr(error, "student_place", None)
    sentences = getattr(error, "sentences", ())  # A helper's own are its word, and shown.
    told_by_test = place is None or message in sentences or not hidden
    if isinstance(error, AssertionError) and not place and told_by_test:
        return message or "an assertion of the test failed"
    if isinstance(error, NotImplementedError):
        return "not implemented yet"
    told = getattr(error, "kind", type(error).__name__) + (
        ", on inputs that aren't shown" if hidden else f": {message}"
    )
    if place is None:
        return f"your code's result made the test fail: {told}"
    call, one_image = getattr(error, "student_call", ("your code", False))
    return (
        f"{'your code' if hidden else call} raised {told}"
        + (f" ({place})" if place else "")
        + (f"; {ONE_IMAGE}" if one_image else "")
    )


def _one_line(message: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return line if len(line) <= MOST_MESSAGE else f"{line[: MOST_MESSAGE - 1]}…"
