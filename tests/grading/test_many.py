"""Many submissions: killed at any moment and run again, or on the workers of a cluster."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import MINI, Grader, Here

from autograder.authoring.lab import ROOT, Lab, read_lab
from autograder.authoring.release import release
from autograder.grading.cluster import ClusterUnavailable, cluster
from autograder.grading.grade import find_submissions, grade_class
from autograder.grading.job import Job, Result

GRADE = """
import sys
from pathlib import Path
from autograder.grading.grade import find_submissions, grade_class
from autograder.grading.job import Job

if __name__ == "__main__":
    lab, submissions, results = map(Path, sys.argv[1:])
    jobs = [Job(name, path, lab, 3) for name, path in find_submissions(submissions).items()]
    grade_class(jobs, results, workers=2)
"""
ANSWERS = [
    {},
    {"double": "def double(x):\n    return x * x"},
    {"double": "def double(x):\n    return x + np.random.rand(*x.shape)"},
    {"score": "import os\nos._exit(3)"},
    {"answer": "answer = 41"},
]


def make_class(grader: Grader, folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        notebook = grader.notebook(**ANSWERS[number % len(ANSWERS)])
        nbformat.write(notebook, folder / f"student{number}.ipynb")


def jobs_of(lab: Lab, folder: Path) -> list[Job]:
    found = find_submissions(folder)
    return [Job(student, path, lab.solution_path, 3) for student, path in found.items()]


def outcomes(results: Path) -> dict[str, str]:
    """All that the results say, without how long they took."""
    told = {}
    for path in results.glob("*.json"):
        result = Result.read(path)
        result.seconds = 0
        told[path.name] = result.to_json()
    return told


@pytest.fixture(scope="module")
def other_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A second tiny lab."""
    root = tmp_path_factory.mktemp("other")
    path = root / "solutions" / "02_other.py"
    path.parent.mkdir()
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    path.write_text(MINI.replace("x + x", "2.0 * x").replace("points=4", "points=6"))
    lab = read_lab(path)
    release(lab, root / "course")
    return lab


def by_kind(main: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The processes of a run: each kind forks or starts the next."""
    kinds: dict[str, list[psutil.Process]] = {"main": [main]}
    for process in main.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command, parent = " ".join(process.cmdline()), process.parent()
            above = " ".join(parent.cmdline()) if parent else ""
            if "spawn_main" in command:
                kind = "grading" if "spawn_main" in above else "pool"
            elif process.name() == "bwrap":
                kind = "bubblewrap"
            elif process.name() != "bwrap" and "grading.worker" in command:
                depth = 0
                while parent and parent.name() != "bwrap":
                    depth, parent = depth + 1, parent.parent()
                kind = ("warm", "supervisor", "worker")[min(depth, 2)]
            else:
                continue
            kinds.setdefault(kind, []).append(process)
    return kinds


@pytest.mark.slow
def test_kills_at_any_moment_cost_nothing(mini: Lab, other_lab: Lab, tmp_path: Path) -> None:
    chance = random.Random(14)
    (tmp_path / "grade.py").write_text(GRADE)
    seen: set[psutil.Process] = set()
    kinds_of_all = ["main", "pool", "grading", "bubblewrap", "warm", "supervisor", "worker"]
    for lab in (mini, other_lab):
        folder, results = tmp_path / lab.name, tmp_path / f"results of {lab.name}"
        make_class(Grader(lab, tmp_path), folder, 50)
        waiting = [*kinds_of_all, *chance.sample(kinds_of_all, 3)]
        chance.shuffle(waiting)
        finished = False
        while not finished:
            command = [sys.executable, tmp_path / "grade.py", lab.solution_path, folder, results]
            run = subprocess.Popen(
                [*map(str, command)],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stderr=subprocess.DEVNULL,
            )
            main = psutil.Process(run.pid)
            while run.poll() is None:
                time.sleep(0.1)
                with contextlib.suppress(psutil.NoSuchProcess):
                    kinds = by_kind(main)
                    seen.update(process for group in kinds.values() for process in group)
                    done = len(list(results.glob("*.json"))) if results.exists() else 0
                    # One kill for every five results.
                    if waiting and 10 - len(waiting) <= done / 5 and waiting[0] in kinds:
                        time.sleep(chance.uniform(0, 0.1))
                        chance.choice(kinds[waiting.pop(0)]).kill()
            finished = run.wait() == 0
        assert not waiting
        # What was struck too often is tried anew by the same command.
        grade_class(jobs_of(lab, folder), results, executor=Here())
        grade_class(jobs_of(lab, folder), tmp_path / "undisturbed", executor=Here())
        assert outcomes(results) == outcomes(tmp_path / "undisturbed")
        for path in (tmp_path / "undisturbed").iterdir():
            path.unlink()
    _, left = psutil.wait_procs(seen, timeout=10)
    assert not left


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler's address, and two workers, each a command of its own."""
    pytest.importorskip("distributed", reason="needs the extra `cluster`")
    file = tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    here = ["--host", "127.0.0.1"]
    commands = [["scheduler", "--port", "0", *here, *options]]
    commands += [["worker", "--nthreads", "1", "--no-nanny", *here, *options]] * 2
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]],
                    env=environment,
                    stderr=subprocess.DEVNULL,
                )
            )
            stack.callback(process.kill)
            processes.append(process)
            deadline = time.monotonic() + 60
            while not file.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
        from distributed import Client

        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=120)
            address = client.scheduler.address
        yield address, processes[1:]


@pytest.mark.slow
def test_cluster_grades_the_same_though_a_worker_is_killed(
    mini: Lab, tmp_path: Path, dask: tuple[str, list[subprocess.Popen]]
) -> None:
    address, workers = dask
    folder, results = tmp_path / "class", tmp_path / "results"
    make_class(Grader(mini, tmp_path), folder, 20)
    seen: list[Result] = []

    def watch(result: Result) -> None:
        seen.append(result)
        if len(seen) == 5:
            children = psutil.Process(workers[0].pid).children(recursive=True)
            workers[0].kill()
            _, left = psutil.wait_procs(children, timeout=10)
            assert not left

    with cluster(address, [mini.solution_path, folder]) as (executor, count):
        assert count == 2
        grade_class(jobs_of(mini, folder), results, count, executor, progress=watch)
    assert len(seen) == 20
    grade_class(jobs_of(mini, folder), tmp_path / "local", executor=Here())
    assert outcomes(results) == outcomes(tmp_path / "local")
    with (
        pytest.raises(ClusterUnavailable, match="doesn't see /nowhere"),
        cluster(address, [Path("/nowhere")]),
    ):
        pass
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
