"""Runs a lab's tests, in a process that never runs a student's code, against a sandboxed worker."""

import contextlib
import time
from collections.abc import Collection

from autograder.authoring.lab import Lab
from autograder.authoring.reference import run_reference
from autograder.grading.job import TestOutcome
from autograder.grading.normalise import Submission
from autograder.grading.sandbox import (
    SECONDS_PER_SUBMISSION,
    RemoteObject,
    Sandbox,
    Worker,
    WorkerLost,
)
from autograder.grading.worker import itself, seed_everything

MOST_MESSAGE = 500


class _Session:
    """The worker in which one submission's cells have been run; started anew when it is lost.

    A cell that costs the worker its life, or hangs, is left out from then on, so that the other
    exercises still get their grades.
    """

    def __init__(self, sandbox: Sandbox, submission: Submission, seed: int) -> None:
        self._sandbox, self._steps, self._seed = sandbox, list(submission.steps), seed
        self._deadline = time.monotonic() + SECONDS_PER_SUBMISSION
        self._worker: Worker | None = None
        self.errors: dict[str, str] = {}  # by exercise: why its cell defined nothing

    def worker(self) -> Worker:
        """A living worker, with all cells run."""
        while self._worker is None or self._worker.lost:
            self._worker = self._sandbox.worker(self._deadline)
            self._worker.call(seed_everything, self._seed)
            for step in self._steps:
                title, source, exercise = step
                try:
                    self._worker.run(title, source)
                except WorkerLost as lost:
                    if time.monotonic() > self._deadline:
                        raise
                    self._steps.remove(step)
                    self.errors[exercise or title] = f"running the cell {title}: {lost}"
                    break
                except Exception as error:
                    self.errors[exercise or title] = describe(error)
        return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


def run_tests(
    lab: Lab,
    submission: Submission,
    sandbox: Sandbox,
    seed: int,
    exercises: Collection[str] | None = None,
) -> list[TestOutcome]:
    """Runs a lab's test cells on a submission.

    Args:
        seed: of the hidden tests' random inputs and of everybody's global generators.
        exercises: the exercises to test; all of them if None.

    Returns:
        One outcome for every test cell, in order.
    """
    given, reference = run_reference(lab, seed)
    session = _Session(sandbox, submission, seed)
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
                try:
                    names = _stand_ins(lab, session)
                    seed_everything(seed)
                    session.worker().call(seed_everything, seed)
                    exec(
                        compile(cell.source, f"<{cell.grade_id}>", "exec"),
                        {**given, **names, "reference": reference},
                    )
                    outcome, message = "passed", ""
                except WorkerLost as error:
                    outcome, message = "lost", f"{cell.name} {error}"
                    lost[cell.name] = message
                except Exception as error:
                    outcome, message = "failed", describe(error)
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
    return outcomes


def _stand_ins(lab: Lab, session: _Session) -> dict[str, object]:
    """What the exercises' names mean in a test: data is fetched, everything else stays there."""
    names: dict[str, object] = {}
    for name in sorted(set().union(*lab.exercises.values())):
        stand_in = RemoteObject(session.worker, ("name", name))
        try:
            value = session.worker().call(itself, stand_in)
        except NameError:
            value = stand_in
        names[name] = stand_in if type(value) is RemoteObject else value
    return names


def describe(error: Exception) -> str:
    """An exception in one sentence; one from the student's code says where it happened."""
    message = str(error.args[0]) if len(error.args) == 1 else str(error)
    place = getattr(error, "student_place", None)
    if isinstance(error, AssertionError) and place is None:
        return message or "an assertion of the test failed"
    if isinstance(error, NotImplementedError):
        return "not implemented yet"
    if place is None:
        return f"your code's result made the test fail: {type(error).__name__}: {message}"
    where = f" ({place})" if place else ""
    return f"your code raised {type(error).__name__}: {message}{where}"


def _one_line(message: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return line if len(line) <= MOST_MESSAGE else f"{line[: MOST_MESSAGE - 1]}…"
