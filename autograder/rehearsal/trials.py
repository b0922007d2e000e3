"""Where answers are tried: processes that hold the real grader, and the quick screen, warm."""

import tempfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat

from autograder.authoring.lab import Lab
from autograder.grading.grade import grade, processes
from autograder.grading.job import Isolation, Job
from autograder.rehearsal.known_answers import answered_notebook, solution_answers
from autograder.rehearsal.screening import screen


class Trials:
    """Tries answers in several processes; use it as a context manager.

    Args:
        progress: called with how many trials are done, out of how many so far.
    """

    def __init__(
        self,
        workers: int,
        isolation: Isolation = "bubblewrap",
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._pool, self._isolation = processes(workers), isolation
        self._folder = tempfile.TemporaryDirectory()
        self._progress = progress
        self._done = self._total = 0

    def __enter__(self) -> "Trials":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()

    def submit(self, task: Callable, *arguments: Any) -> Future:
        """Runs an importable function with these arguments in one of the processes."""
        self._total += 1
        future = self._pool.submit(task, *arguments)
        future.add_done_callback(self._count)
        return future

    def _count(self, future: Future) -> None:
        self._done += 1
        self._progress(self._done, self._total)

    def graded(
        self,
        lab: Lab,
        answers: Mapping[str, str],
        exercises: Collection[str],
        seed: int = 0,
        blank: bool = False,
    ) -> Future:
        """A Result of the real grader.

        Args:
            answers: sources by exercise; of the others, the solution's.
            exercises: whose tests are run.
            blank: whether the others are left as the student gets them, instead.
        """
        notebook = answered_notebook(lab, {} if blank else {**solution_answers(lab), **answers})
        path = Path(self._folder.name, f"{self._total}.ipynb")
        nbformat.write(notebook, path)
        job = Job(path.stem, path, lab.solution_path, seed, self._isolation)
        return self.submit(grade, job, set(exercises))

    def screened(
        self,
        lab: Lab,
        answers: Mapping[str, str],
        exercises: Collection[str],
        seed: int = 0,
        to_the_end: bool = True,
    ) -> Future:
        """Why each test fails, by its grade id, "" where it passes: what Screen.verdicts gives."""
        return self.submit(_screened, lab.solution_path, answers, set(exercises), seed, to_the_end)


def _screened(lab_path: Path, *arguments: Any) -> dict[str, str]:
    return screen(lab_path).verdicts(*arguments)
