"""Grades submissions: one at a time as a pure function, or a class of them with any executor."""

import ast
import contextlib
import functools
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from autograder.authoring.lab import ROOT, Lab, LabError, read_lab
from autograder.grading.handed_in import Refused, find_notebook, read_notebook, set_aside
from autograder.grading.job import Isolation, Job, Result, SandboxUnavailable
from autograder.grading.matching import ReleasedLab
from autograder.grading.normalise import normalise

if TYPE_CHECKING:
    from autograder.grading.sandbox import Sandbox


@functools.cache
def _warm(lab_path: Path, isolation: Isolation) -> "tuple[Lab, ReleasedLab, Sandbox]":
    """A lab, its released notebook and a sandbox for it, once per process."""
    import torch

    from autograder.grading.sandbox import Sandbox

    torch.set_num_threads(1)  # Several graders share the machine; and sums keep their order.
    lab = read_lab(lab_path)
    released = ReleasedLab(lab, released_notebook(lab))
    return lab, released, Sandbox(imported_modules(lab), isolation)


def released_notebook(lab: Lab) -> nbformat.NotebookNode:
    """The lab as the students got it.

    Raises:
        FileNotFoundError: the lab hasn't been released.
    """
    if not lab.released_path.is_file():
        raise FileNotFoundError(f"{lab.name} is not released; run `autograder release {lab.name}`")
    return nbformat.read(lab.released_path, as_version=4)


def imported_modules(lab: Lab) -> list[str]:
    """The modules that a lab's given and exercise cells import, and what optimisers import."""
    modules = {"torch"}
    if any("torch.optim" in cell.source for cell in lab.having("given", "exercise", "test")):
        modules.add("torch._dynamo")  # The first optimiser imports it, which takes a second.
    for cell in lab.having("given", "exercise"):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    return sorted(modules)


def grade(job: Job, exercises: Collection[str] | None = None) -> Result:
    """Grades one submission: a function of the job, and of nothing else.

    Args:
        exercises: the exercises to test; all of them if None.

    Raises:
        SandboxUnavailable: submissions can't be isolated on this machine.
    """
    from autograder.grading.tester import run_tests

    start = time.monotonic()
    lab, released, sandbox = _warm(job.lab_path, job.isolation)
    result = _empty_result(job, lab)
    try:
        notebook = find_notebook(job.path, lab.name)
        content = read_notebook(notebook)
        result.fingerprint = fingerprint(job, content)
        submission = normalise(content, released)
        result.tests = run_tests(lab, submission, sandbox, job.seed, exercises)
        result.score = sum(test.points for test in result.tests)
        result.repairs, result.flags = set_aside(job.path, notebook)
        result.repairs += submission.repairs
        result.flags += submission.flags + _shadows(job.path)
        result.answers, result.pictures = submission.answers, submission.pictures
        result.other_cells = submission.other_cells
        for question in result.questions:
            question["answered"] = question["grade_id"] in submission.answered
    except Refused as refusal:
        result.status, result.reason = "refused", str(refusal)
    result.seconds = round(time.monotonic() - start, 3)
    return result


def _empty_result(job: Job, lab: Lab) -> Result:
    return Result(
        student=job.student,
        lab=lab.name,
        status="graded",
        score=0,
        max_score=sum(cell.points for cell in lab.having("test")),
        questions=[
            {"grade_id": cell.grade_id, "max_points": cell.points, "answered": False}
            for cell in lab.having("question")
        ],
        seed=job.seed,
    )


def _shadows(path: Path) -> list[str]:
    """Flags files beside the notebook, which are never used."""
    if not path.is_dir():
        return []
    beside = sorted(other.name for other in path.rglob("*.py"))
    if not beside:
        return []
    return [f"Python files beside the notebook, which were ignored: {', '.join(beside[:10])}"]


def fingerprint(job: Job, content: bytes) -> str:
    """A digest of all that a submission's result depends on: the notebook, the lab as written and
    as released, the seed, the isolation, and the code that grades."""
    digest = hashlib.sha256(content)
    released = job.lab_path.parents[1] / "labs" / f"{job.lab_path.stem}.ipynb"
    for part in (
        job.lab_path.read_bytes(),
        released.read_bytes() if released.is_file() else b"",
        f"{job.seed} {job.isolation} {_code_digest()}".encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


@functools.cache
def _code_digest() -> str:
    """A digest of the files of this project that take part in grading, and of the versions of
    what computes with them."""
    digest = hashlib.sha256(f"{sys.version} {version('torch')} {version('numpy')}".encode())
    folders = ("autograder/authoring", "autograder/grading", "utils")
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(ROOT)} {content}".encode())
    return digest.hexdigest()


def find_submissions(folder: Path) -> dict[str, Path]:
    """The submissions in a folder: one notebook or one folder per student, by student.

    Raises:
        FileNotFoundError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; name the one with the submissions")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not entries:
        raise FileNotFoundError(f"the folder {folder} is empty; put one notebook per student in it")
    found = {}
    for path in entries:
        # A file and a folder of one name are two submissions, rather than one of them lost.
        bare = path.suffix == ".ipynb" and not os.path.lexists(folder / path.stem)
        found[path.stem if bare else path.name] = path
    return found


def grade_class(
    jobs: list[Job],
    results: Path,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Callable[[Result], None] = lambda result: None,
) -> dict[str, Result]:
    """Grades many submissions, skipping those whose result is there already and still holds.

    Args:
        results: the folder for `<student>.json`, one per submission, each written as soon as it
            is known.
        workers: the number of processes.
        executor: any executor to use instead of local processes, for example Dask's
            `client.get_executor()`; its workers need one process (not thread) each.
        progress: called with every result.

    Returns:
        A result for every job, by student, in the order of the jobs. What goes wrong in the grader
        itself becomes a refusal with that reason.
    """
    results.mkdir(parents=True, exist_ok=True)
    done: dict[str, Result] = {}
    waiting = []
    for job in jobs:
        earlier = earlier_result(job, results / f"{job.student}.json")
        if earlier is None:
            waiting.append(job)
        else:
            done[job.student] = earlier
            progress(earlier)
    for job, result in _run(waiting, workers, executor):
        result.write(results / f"{job.student}.json")
        done[job.student] = result
        progress(result)
    return {job.student: done[job.student] for job in jobs}


def earlier_result(job: Job, path: Path) -> Result | None:
    """The result in a file, if it is what grading the job now would give; None otherwise."""
    with contextlib.suppress(OSError, ValueError, Refused):
        result = Result.read(path)
        content = read_notebook(find_notebook(job.path, job.lab_path.stem))
        if result.status == "graded" and result.fingerprint == fingerprint(job, content):
            return result
    return None


def _run(jobs: list[Job], workers: int, executor: Executor | None) -> Iterator[tuple[Job, Result]]:
    """Results as they come. A job that takes its whole process down is tried once more, alone."""
    if executor is not None:
        futures = {executor.submit(grade, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], _result_of(future, futures[future])
        return
    again = []
    with processes(max(1, min(workers, len(jobs)))) as pool:
        futures = {pool.submit(grade, job): job for job in jobs}
        for future in as_completed(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                again.append(futures[future])
            else:
                yield futures[future], _result_of(future, futures[future])
    for job in again:
        with processes(1) as pool:
            future = pool.submit(grade, job)
            yield job, _result_of(future, job)


def processes(count: int) -> ProcessPoolExecutor:
    """Processes to grade in, each with a warm sandbox of its own."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def _result_of(future: Future, job: Job) -> Result:
    """A future's result; a failure of the grader itself becomes a refusal."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, SandboxUnavailable | LabError | FileNotFoundError):
        raise error
    result = _empty_result(job, read_lab(job.lab_path))
    result.status = "refused"
    said = "".join(traceback.format_exception_only(error)).strip()
    result.reason = f"the grader itself failed on this submission, please report it: {said}"
    return result
