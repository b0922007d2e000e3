"""Tries answers in one process, quickly: for answers of the lab's authors, never for a student's.

A lab's given cells and solution run once; every answer is then tried in a fork of that process, so
that nothing one answer does reaches the next. The verdicts are those of the real grader, but for
what only it can see: here a test shares its objects with the answer, and nothing is out of reach.
"""

import functools
import gc
import os
import pickle
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from autograder.authoring.lab import HIDDEN, Cell, Lab, read_lab
from autograder.authoring.reference import run_reference
from autograder.grading.tester import describe
from autograder.grading.worker import seed_everything
from utils.without import forbidden_calls

Result = TypeVar("Result")
MOST_MEMORY = 3 * 2**30  # bytes of address space, beyond what the warm process has
LONG_SECONDS = 120.0  # of processor time, for what is known to end


class Lost(Exception):
    """A fork ended without a result: it took too long, or too much memory, or crashed."""


def in_fork(task: Callable[[], Result], seconds: float) -> Result:
    """Runs a task in a fork of this process and returns its result, which must pickle.

    Args:
        seconds: of processor time, after which the fork is ended.

    Raises:
        Lost: the fork ended without a result.
        RuntimeError: the task raised an exception.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _limit(seconds)
            try:
                reply: tuple[bool, Any] = True, task()
            except Exception:
                reply = False, traceback.format_exc()
            with open(writing, "wb") as pipe:
                pickle.dump(reply, pipe)
        finally:  # Whatever happens, nothing of this process goes on twice.
            os._exit(0)
    os.close(writing)
    received = bytearray()
    deadline = time.monotonic() + 60 + 5 * seconds  # for code that waits; the machine may be busy
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (part := pipe.read(1 << 20)):
                break
            received += part
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        done, result = pickle.loads(received)
    except (EOFError, pickle.UnpicklingError):
        raise Lost(f"took more than {seconds:.1f} s, or ended the process") from None
    if not done:
        raise RuntimeError(f"the task in a fork failed:\n{result}")
    return result


def _limit(seconds: float) -> None:
    """Limits this process; what its code prints, or warns of, goes nowhere."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]  # that of a fork this one comes from
    most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = os.fdopen(nowhere, "w")


class Screen:
    """A lab whose given cells and solution have run in this process, to try answers against."""

    def __init__(self, lab: Lab) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # A process that has used a GPU can't fork.
        torch.set_num_threads(1)  # Nor can one with threads.
        # Its own lock is one for all processes: a fork that was ended would keep it for ever.
        tqdm.set_lock(threading.RLock())
        self.lab = lab
        self.given, self.reference = run_reference(lab)
        self.tests = [
            (cell, compile(cell.source, f"<{cell.grade_id}>", "exec"))
            for cell in lab.having("test")
        ]
        # The first run imports what torch imports late, which no fork has to do then; the second
        # tells how long an answer may take.
        self._seconds: dict[str, float] = {}
        for exercise in [*lab.exercises, *lab.exercises]:
            start = time.process_time()
            self.verdicts_here({}, {exercise}, 0, True)
            self._seconds[exercise] = time.process_time() - start
        gc.freeze()

    def verdicts(
        self,
        answers: Mapping[str, object],
        exercises: Collection[str],
        seed: int = 0,
        to_the_end: bool = True,
    ) -> dict[str, str]:
        """Tries answers in the place of the solution's, in a fork.

        Args:
            answers: by exercise, a cell's source, or what is to stand for its name as it is.
            exercises: whose tests are run.
            to_the_end: whether tests go on after the first that fails.

        Returns:
            by the tests' grade ids, "" for one that passed, otherwise why it didn't.
        """
        task = functools.partial(self.verdicts_here, answers, exercises, seed, to_the_end)
        seconds = 1 + 5 * sum(self._seconds[exercise] for exercise in exercises)
        try:
            return in_fork(task, seconds)
        except Lost as lost:
            cells = [cell for cell in self.lab.having("test") if cell.name in exercises]
            return {cell.grade_id: str(lost) for cell in cells}

    def verdicts_here(
        self, answers: Mapping[str, object], exercises: Collection[str], seed: int, to_the_end: bool
    ) -> dict[str, str]:
        """What `verdicts` gives, in this process, on which the answers may leave their traces."""
        names, errors = self.namespace(answers)
        verdicts = {}
        for cell, code in self.tests:
            if cell.name not in exercises:
                continue
            message = self.run(code, names, seed)
            verdicts[cell.grade_id] = (message and errors.get(cell.name)) or message
            if message and not to_the_end:
                break
        return verdicts

    def namespace(self, answers: Mapping[str, object]) -> tuple[dict, dict[str, str]]:
        """What these answers and, for the other exercises, the solution define for the tests; and
        why a cell failed, by exercise."""
        names, errors = dict(self.given), {}
        sources = {cell.grade_id: cell.source for cell in self.lab.having("given")}
        for cell in self.lab.having("exercise"):
            answer = answers.get(cell.name, cell.source)
            if isinstance(answer, str):
                sources[cell.grade_id] = answer
                try:
                    exec(compile(answer, f"<{cell.name}>", "exec"), names)
                except Exception as error:
                    errors[cell.name] = self._described(error)
            else:
                names[cell.name] = answer
            if isinstance(names.get(cell.name), FunctionType):  # what check_without asks
                names[cell.name].forbidden_calls = functools.partial(
                    forbidden_calls, sources, cell.name, cell.without
                )
        bound = set().union(*self.lab.exercises.values())
        return {name: names[name] for name in bound & set(names)}, errors

    def run(self, code: CodeType, names: Mapping[str, object], seed: int = 0) -> str:
        """Runs a test in this process; "" if it passes, otherwise why it doesn't."""
        reference = SimpleNamespace(**vars(self.reference) | {"seed": seed})
        seed_everything(seed)
        try:
            exec(code, {**self.given, **names, "reference": reference})
        except Exception as error:
            return self._described(error)
        return ""

    def _described(self, error: Exception) -> str:
        """As the grader says it: an exception from an answer says where in it it happened."""
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename[1:-1] in self.lab.exercises:
                error.student_place = f"line {frame.lineno} of {frame.filename[1:-1]}"  # type: ignore[attr-defined]
        return describe(error)


def visible_code(cell: Cell) -> CodeType:
    """What a student sees of a test cell, with its lines where they are in the lab's file."""
    source = HIDDEN.sub(lambda region: "\n" * region[0].count("\n"), cell.source)
    return compile(source, f"<{cell.grade_id}>", "exec")


@functools.cache
def screen(lab_path: Path) -> Screen:
    """The screen of a lab, once per process."""
    return Screen(read_lab(lab_path))
