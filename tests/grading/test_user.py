"""Isolation by a user of its own, for containers that allow no namespaces: the same tricks."""

import os
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import Grader, message, points
from test_attacks import FAKED, TRICKS, WRONG

from autograder.grading import job, sandbox, worker
from autograder.grading.grade import grade
from autograder.grading.job import Result
from autograder.grading.sandbox import Sandbox

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change the user")

# Kills whatever its user runs, and so also whoever comes as this user to kill it.
KILLER = """
import os, signal, time
def double(x):
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                os.kill(-1, signal.SIGKILL)
            except OSError:
                pass
    time.sleep(60)
    return 2 * x
"""


def graded_as_user(grader: Grader, path: Path, notebook) -> Result:
    nbformat.write(notebook, path)
    return grade(job.Job("student", path, grader.lab.solution_path, 0, "user"))


def processes_of_students() -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["uids", "status"])
        if process.info["uids"].real >= worker.FIRST_UID
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize(
    "trick",
    # What lies on this machine isn't hidden here; that test is the intruder's.
    [trick for name, trick in TRICKS.items() if name != "reading tests and solutions"],
    ids=[name for name in TRICKS if name != "reading tests and solutions"],
)
def test_trick_gains_nothing_as_a_user(grader: Grader, tmp_path, trick: str) -> None:
    path = tmp_path / "trick.ipynb"
    result = graded_as_user(grader, path, grader.notebook(double=WRONG + trick))
    assert result.status == "graded", result.reason
    assert points(result) == FAKED


@needs_root
@pytest.mark.slow
def test_no_process_outlives_its_user(grader: Grader, tmp_path) -> None:
    before = set(processes_of_students())
    path = tmp_path / "killer.ipynb"
    result = graded_as_user(grader, path, grader.notebook(double=KILLER))
    assert points(result) == FAKED
    assert not set(processes_of_students()) - before
    assert not list(Path("/tmp").glob("autograder-*"))


LITTER = """
import os
for place in ("/tmp", "/var/tmp", "/dev/shm"):
    os.makedirs(f"{place}/litter/deep", exist_ok=True)
    os.symlink("/etc", f"{place}/litter/deep/link")
    os.symlink("/etc/passwd", f"{place}/litter-link")
    for name in ("litter/deep/file", "litter-file"):
        open(f"{place}/{name}", "wb").write(bytes(2**20))
"""


@needs_root
def test_no_file_outlives_its_user(grader: Grader, tmp_path) -> None:
    path = tmp_path / "litter.ipynb"
    notebook = grader.notebook(double=LITTER + grader.solution["double"])
    ours = Path("/dev/shm/litter-of-ours")
    ours.touch()
    try:
        # Twice: what is already there, and not theirs, would be an error in the second one.
        for _ in range(2):
            assert graded_as_user(grader, path, notebook).score == 10
            for place in worker.SHARED:
                assert not [left for left in Path(place).glob("litter*") if left != ours]
        assert ours.exists() and Path("/etc/passwd").exists()
    finally:
        ours.unlink()


@pytest.mark.skipif(os.getuid() == 0, reason="root can change the user")
def test_only_root_can_change_the_user() -> None:
    with pytest.raises(job.SandboxUnavailable, match="only root"):
        Sandbox(["torch"], "user")


@needs_root
def test_orphans_count_too(grader: Grader, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS_PER_CALL", 1.0)
    monkeypatch.setattr(sandbox, "WALL_SECONDS_PER_CALL", 20.0)
    orphan = """
import os, time
def double(x):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            while True: pass
        os._exit(0)
    time.sleep(1000)
"""
    result = graded_as_user(grader, tmp_path / "orphan.ipynb", grader.notebook(double=orphan))
    assert points(result) == FAKED
    assert "of processor time" in message(result, "double")


def test_no_orphan_outlives_the_grading_without_a_sandbox(grader: Grader, tmp_path) -> None:
    orphan = f"""
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
time.sleep(1)
"""
    path = tmp_path / "orphan.ipynb"
    nbformat.write(grader.notebook(double=orphan + grader.solution["double"]), path)
    assert grade(job.Job("student", path, grader.lab.solution_path, 0, "process")).score == 10
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
