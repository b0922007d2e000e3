"""Grades submissions: one at a time as a pure function, or a class of them with any executor."""

import ast
import contextlib
import functools
import gc
import hashlib
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from autograder.authoring.lab import PACKAGE, ROOT, Lab, LabError, read_lab
from autograder.grading import kernel
from autograder.grading.apart import run_apart
from autograder.grading.handed_in import Refused, find_notebook, read_notebook, set_aside
from autograder.grading.job import (
    GraderFailed,
    Isolation,
    Job,
    Result,
    SandboxUnavailable,
    student_name,
)
from autograder.grading.matching import ReleasedLab
from autograder.grading.normalise import normalise

if TYPE_CHECKING:
    from autograder.grading.sandbox import Sandbox

# Whatever the grader fails on is tried once among the others and then alone.
ATTEMPTS = 3
HANDED_OUT = 2  # jobs per worker at a time, so that a class of thousands costs little memory
SECONDS_BEYOND = 60.0  # for what comes after the last test, and for a test that doesn't end

# A lab, its released notebook and a sandbox for it, by what a job says of them: once per process.
_warmed: "dict[tuple[Path, Isolation], tuple[Lab, ReleasedLab, Sandbox]]" = {}


def _warm(job: Job) -> "tuple[Lab, ReleasedLab, Sandbox]":
    """What a job needs, made ready so that a fork of this process, and a worker, find all of it:
    imported modules, compiled cells, and what PyTorch sets up when it is first used."""
    import torch

    from autograder.grading.sandbox import Sandbox
    from autograder.grading.tester import dry_run

    key = job.lab_path, job.isolation
    if key not in _warmed:
        torch.set_num_threads(1)  # Several graders share the machine; and sums keep their order.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # A process that has used a GPU can't fork.
        lab = read_lab(job.lab_path)
        released = ReleasedLab(lab, released_notebook(lab))
        normalise(lab.released_path.read_bytes(), released)
        packages = imported_packages(lab)
        dry_run(lab)
        # PyTorch and NumPy import parts of theirs where they are first used.
        modules = [
            name
            for name in sorted(sys.modules)
            if name.partition(".")[0] in packages and _is_installed(name)
        ]
        gc.collect()
        gc.freeze()  # No fork need copy what is only looked at.
        kernel.collapse_memory()
        sandbox = Sandbox(modules, job.isolation)
        Finalize(None, sandbox.close, exitpriority=0)  # A pool's process runs nothing of atexit's.
        _warmed[key] = lab, released, sandbox
    return _warmed[key]


def released_notebook(lab: Lab) -> nbformat.NotebookNode:
    """The lab as the students got it.

    Raises:
        FileNotFoundError: the lab hasn't been released.
    """
    if not lab.released_path.is_file():
        raise FileNotFoundError(f"{lab.name} is not released; run `autograder release {lab.name}`")
    return nbformat.read(lab.released_path, as_version=4)


def _is_installed(name: str) -> bool:
    """Whether a module that was imported here can be imported in a sandbox, which has Python's
    library, packages and utils."""
    spec = getattr(sys.modules[name], "__spec__", None)
    own = name.partition(".")[0] in ("autograder", "lab", "__main__", "__mp_main__")
    return not own and spec is not None and spec.has_location


def imported_packages(lab: Lab) -> set[str]:
    """The packages that a lab's given and exercise cells import something of, and PyTorch."""
    modules = {"torch"}
    for cell in lab.having("given", "exercise"):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module)
    return {name.partition(".")[0] for name in modules}


def grade(
    job: Job,
    exercises: Collection[str] | None = None,
    last_attempt: bool = True,
    hidden: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> Result:
    """Grades one submission: a function of the job, and of nothing else.

    It happens in a fork of this process, so that nothing is left of it but the result, and a
    submission can take nobody with it. A sandbox that broke is replaced for the next one.

    Args:
        exercises: the exercises to test; all of them if None.
        last_attempt: whether a submission that fails isn't tried again; see Sandbox.
        hidden: whether hidden tests run too.
        progress: called after every test.

    Raises:
        SandboxUnavailable: submissions can't be isolated on this machine.
        FileNotFoundError: the lab hasn't been released.
    """
    from autograder.grading.sandbox import SECONDS_PER_SUBMISSION

    start = time.monotonic()
    lab, released, sandbox = _warm(job)
    if not hidden:
        lab = lab.as_shown()
    sandbox.last_attempt = last_attempt
    deadline = start + SECONDS_PER_SUBMISSION

    def work(step: Callable[[], None]) -> str:
        return _grade(job, lab, released, sandbox, exercises, deadline, step).to_json()

    try:
        seconds = SECONDS_PER_SUBMISSION + SECONDS_BEYOND
        result = Result.from_json(run_apart(work, seconds, progress))
    except TimeoutError:
        result = _empty_result(job, lab)
        result.status = "refused"
        result.reason = (
            f"reading and grading it took more than {SECONDS_PER_SUBMISSION:.0f} s; hand in a"
            " notebook without anything that isn't needed"
        )
    except GraderFailed as failure:
        result = _failed(job, failure)
    if result.status == "failed" and not sandbox.works():
        _warmed.pop((job.lab_path, job.isolation))[2].close()
    result.seconds = round(time.monotonic() - start, 3)
    return result


def _grade(
    job: Job,
    lab: Lab,
    released: ReleasedLab,
    sandbox: "Sandbox",
    exercises: Collection[str] | None,
    deadline: float,
    step: Callable[[], None],
) -> Result:
    from autograder.grading.tester import run_tests

    result = _empty_result(job, lab)
    try:
        notebook = find_notebook(job.path, lab.name)
        content = read_notebook(notebook)
        result.fingerprint = fingerprint(job, content)
        submission = normalise(content, released)
        result.tests = run_tests(lab, submission, sandbox, job.seed, deadline, exercises, step)
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
    except (GraderFailed, Exception) as failure:
        return _failed(job, failure)
    return result


def _failed(job: Job, failure: BaseException) -> Result:
    """The result of a submission that the grader failed on: no grade, and no fingerprint."""
    result = _empty_result(job, read_lab(job.lab_path))
    said = " ".join("".join(traceback.format_exception_only(failure)).split())
    result.status = "failed"
    result.reason = f"the grader itself failed, so there is no grade: {said}"
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
        f"{job.seed} {job.isolation} {code_digest()}".encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


@functools.cache
def code_digest() -> str:
    """A digest of the files of this project that take part in grading, and of the versions of
    what computes with them."""
    digest = hashlib.sha256(f"{sys.version} {version('torch')} {version('numpy')}".encode())
    parts = ((PACKAGE, "authoring/*.py"), (PACKAGE, "grading/*.py"), (ROOT, "utils/**/*"))
    for root, pattern in parts:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(root)} {content}".encode())
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
        found[student_name(path.stem if bare else path.name)] = path
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
            `client.get_executor()`, with so many workers; each needs a process (not a thread) of
            its own, the same checkout, and the same folders.
        progress: called with every result.

    Returns:
        A result for every job, by student, in the order of the jobs. What the grader failed on
        again and again has no grade, but the status "failed".
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
    for job, result in _attempts(waiting, workers, executor):
        try:
            result.write(results / f"{job.student}.json")
        except OSError as error:
            result = _failed(job, error)
        done[job.student] = result
        progress(result)
    return {job.student: done[job.student] for job in jobs}


def earlier_result(job: Job, path: Path) -> Result | None:
    """The result in a file, if it is what grading the job now would give; None otherwise."""
    with contextlib.suppress(Exception, Refused):  # Whatever it is, grading it anew will tell.
        result = Result.read(path)
        content = read_notebook(find_notebook(job.path, job.lab_path.stem))
        if result.status == "graded" and result.fingerprint == fingerprint(job, content):
            return result
    return None


def _attempts(
    jobs: list[Job], workers: int, executor: Executor | None
) -> Iterator[tuple[Job, Result]]:
    """Results as they come. What the grader fails on is tried again when the others are done, alone
    on this machine."""
    graded = False
    for attempt in range(ATTEMPTS):
        failed = []
        last = attempt == ATTEMPTS - 1
        at_once = HANDED_OUT * workers if attempt == 0 else 1
        for job, future in _submit(jobs, min(workers, at_once), at_once, executor, last):
            error = future.exception()
            if isinstance(error, SandboxUnavailable | LabError | FileNotFoundError) and not graded:
                raise error  # It would be the same for everybody.
            result = future.result() if error is None else _failed(job, error)
            if result.status == "failed" and not last:
                failed.append(job)
            else:
                graded = True
                yield job, result
        jobs = failed


def _submit(
    jobs: list[Job], workers: int, at_once: int, executor: Executor | None, last_attempt: bool
) -> Iterator[tuple[Job, Future]]:
    """Jobs with their futures as these are done, not more than so many handed out at once. Where
    one of the local processes dies, new ones are started; the futures of the jobs that they had at
    the time say so."""
    waiting = deque(jobs)
    while waiting:
        running: dict[Future, Job] = {}
        broken = False
        with processes(workers) if executor is None else contextlib.nullcontext(executor) as pool:
            while running or (waiting and not broken):
                try:
                    while waiting and not broken and len(running) < at_once:
                        future = pool.submit(grade, waiting[0], last_attempt=last_attempt)
                        running[future] = waiting.popleft()
                except BrokenProcessPool:
                    if executor is not None:
                        raise
                    broken = True
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future


def processes(count: int) -> ProcessPoolExecutor:
    """Processes to grade in, each with a warm sandbox of its own. They end with this process."""
    return ProcessPoolExecutor(
        count,
        mp_context=get_context("spawn"),
        initializer=kernel.die_with_parent,
        initargs=(os.getpid(),),
    )
