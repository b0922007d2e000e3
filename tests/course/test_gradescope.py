"""The autograder for Gradescope: what it tells of a result, and the zip at work in a container laid
out as theirs, against students who don't want it to be right."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from conftest import Grader

from autograder.authoring.lab import ROOT, Lab, find_lab
from autograder.course import gradescope
from autograder.grading import job
from autograder.grading.job import Result

METADATA = {
    "id": 123456,
    "created_at": "2026-11-24T14:22:32.365935-07:00",
    "assignment": {"due_date": "2026-11-24T12:00:00.000000-07:00", "total_points": "12.0"},
    "users": [{"email": "ada@example.com", "id": 1234, "name": "Ada"}],
    "previous_submissions": [
        {"submission_time": "2026-11-20T14:24:48.087023-07:00", "score": 7.5, "results": {}},
        {"submission_time": "2026-11-21T14:24:48.087023-07:00", "score": 5.0, "results": {}},
        {"submission_time": "2026-11-22T14:24:48.087023-07:00", "score": None, "results": None},
    ],
}


def outcome(exercise: str, points: float, most: float, *, hidden=False, aspect="", message=""):
    kind = "passed" if points else "failed"
    return job.TestOutcome(
        exercise, f"test_{exercise}", points, most, hidden, kind, message, aspect
    )


TESTS = [
    outcome("double", 2, 2, aspect="one case"),
    outcome("double", 0, 3, hidden=True, aspect="a batch", message="x is squared"),
    outcome("answer", 1, 1),
]
GRADED = Result(
    "student", "01_mini", "graded", 3, 6, tests=TESTS, seconds=2.4,
    questions=[{"grade_id": "why", "max_points": 2, "answered": True}],
    repairs=["the cell why had lost its id"],
)  # fmt: skip


def test_graded() -> None:
    said = gradescope.outcome(GRADED, METADATA, "after_published")
    assert said["score"] == 3
    assert [test["number"] for test in said["tests"]] == ["1.1", "1.2", "2", "3"]
    one, batch, answer, why = said["tests"]
    assert (one["name"], one["status"], one["score"]) == ("double: one case", "passed", 2)
    assert (batch["output"], batch["visibility"]) == ("x is squared", "after_published")
    assert one["visibility"] == answer["visibility"] == why["visibility"] == "visible"
    assert "score" not in why and "a TA marks this" in why["name"]
    assert said["output"].splitlines() == [
        "The tests give 3 of 6 points.",
        "A TA marks the written answers, which are not in it: why (2).",
        "Put right before grading: the cell why had lost its id.",
        "Late by 2:22:32: whatever that costs is not in this score.",
        "This is submission 3; the best of the 2 before got 7.5.",
    ]
    assert gradescope.outcome(GRADED, {}, "hidden")["tests"][1]["visibility"] == "hidden"
    assert said["output_format"] == said["test_output_format"] == "text"  # Nothing is markup.


def test_refusal_is_a_zero_with_its_reason() -> None:
    refused = Result("student", "01_mini", "refused", 0, 6, reason="the file is empty")
    said = gradescope.outcome(refused, {}, "hidden")
    assert said["score"] == 0
    assert "can't be graded: the file is empty" in said["output"]


def test_failure_of_the_grader_is_no_zero() -> None:
    failed = Result("student", "01_mini", "failed", 0, 6, reason="the disk was full")
    said = gradescope.outcome(failed, METADATA, "hidden")
    assert said["score"] == 7.5
    assert "your best earlier score stands: 7.5" in said["output"]
    said = gradescope.outcome(failed, {}, "hidden")
    assert "score" not in said and "tests" not in said
    assert "That is no grade" in said["output"] and "the disk was full" in said["output"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"users": 3, "assignment": [], "previous_submissions": {"score": 1}, "created_at": None},
        {"users": [None], "assignment": {"due_date": "soon"}, "previous_submissions": [7, {}]},
        {"created_at": "2026-11-24T14:22:32", "assignment": {"due_date": "2026-11-01"}},
    ],
)
def test_odd_metadata_cost_nobody_his_grade(metadata) -> None:
    assert gradescope.outcome(GRADED, metadata, "hidden")["score"] == 3
    assert gradescope.notes(metadata) == []


def test_extension_counts_instead_of_the_due_date() -> None:
    late = {"due_date": "2026-11-30T12:00:00.000000-07:00"}
    metadata = METADATA | {"users": [{"id": 1, "assignment": late}], "previous_submissions": []}
    assert gradescope.notes(metadata) == []


def test_zip_holds_what_is_needed_and_no_other_lab(tmp_path: Path) -> None:
    lab = find_lab("12")
    first = gradescope.build(lab, tmp_path / "a.zip")
    assert first.read_bytes() == gradescope.build(lab, tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = set(archive.namelist())
        modes = {i.filename: i.external_attr >> 16 & 0o777 for i in archive.infolist()}
        pinned = archive.read("requirements.txt").decode().split()
        setup = archive.read("setup.sh").decode()
    assert {"setup.sh", "run_autograder", "solutions/12_style_transfer.py"} <= names
    assert {f"labs/{p.name}" for p in (ROOT / "labs").glob("12_*")} <= names
    assert [n for n in names if n.startswith(("solutions/", "labs/")) and "12_" not in n] == []
    assert not [n for n in names if "__pycache__" in n or n.startswith(("tests", "course"))]
    assert modes["run_autograder"] == modes["setup.sh"] == 0o755
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pinned)
    assert {"torch", "jupytext", "psutil"} <= {pin.split("==")[0] for pin in pinned}
    assert "index" not in setup
    gradescope.build(lab, first, torch_index="https://example.com/cpu")
    with zipfile.ZipFile(first) as archive:
        assert "--extra-index-url 'https://example.com/cpu' -r" in archive.read("setup.sh").decode()


def test_what_runs_there_needs_nothing_that_is_not_pinned() -> None:
    code = (
        "import sys, autograder.course.gradescope, autograder.grading.tester\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    heavy = {"nbgrader", "nbconvert", "typer", "rich", "sqlalchemy", "pytest", "dask"}
    assert not heavy & set(said.split()), heavy & set(said.split())


# What a container of Docker's lets root do by default; no namespaces among it.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
    *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)


class Container:
    """Runs a lab's autograder as Gradescope would."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.place = folder / "autograder"
        archive = gradescope.build(lab, folder / "autograder.zip", hidden="hidden")
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(self.place / "source")
        shutil.copy(self.place / "source" / "run_autograder", self.place)
        (self.place / "run_autograder").chmod(0o755)
        (self.place / "results").mkdir()

    def __call__(self, notebook, metadata: dict | None = METADATA, after: str = "") -> dict:
        """The results.json for a notebook.

        Args:
            after: a shell command to run when the autograder has ended, in the same container.
        """
        submission = self.place / "submission"
        shutil.rmtree(submission, ignore_errors=True)
        submission.mkdir()
        (self.place / "results" / "results.json").unlink(missing_ok=True)
        if notebook is not None:
            nbformat.write(notebook, submission / "my lab (1).ipynb")
        if metadata is not None:
            (self.place / "submission_metadata.json").write_text(json.dumps(metadata))
        python = Path(sys.prefix)
        command = ["bwrap", "--unshare-pid", "--die-with-parent", "--cap-drop", "ALL"]
        for capability in CAPABILITIES:
            command += ["--cap-add", f"CAP_{capability}"]
        for path in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"):
            command += ["--ro-bind-try", path, path]
        base = Path(sys.base_prefix)
        for parent in reversed(base.parents[:-1]):
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind-try", str(base), str(base)]
        command += ["--perms", "0755", "--dir", "/opt", "--ro-bind", str(python), gradescope.PYTHON]
        command += ["--bind", str(self.place), "/autograder", "--proc", "/proc", "--dev", "/dev"]
        command += ["--perms", "1777", "--tmpfs", "/tmp", "--chdir", "/autograder"]
        script = f"/autograder/run_autograder; {after or 'true'}"
        command += ["/bin/bash", "-c", script]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=500)
        self.said = ran.stdout + ran.stderr
        path = self.place / "results" / "results.json"
        assert path.is_file(), self.said
        return json.loads(path.read_text())


needs_root = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("bwrap"),
    reason="Gradescope's container, where everything runs as root, is imitated by root alone",
)


@pytest.fixture(scope="module")
def container(mini: Lab, tmp_path_factory) -> Container:
    return Container(mini, tmp_path_factory.mktemp("gradescope"))


def scores(result: dict) -> dict[str, float]:
    found: dict[str, float] = {}
    for test in result["tests"]:
        if "score" in test:
            name = test["name"].partition(":")[0]
            found[name] = found.get(name, 0) + test["score"]
    return found


@needs_root
@pytest.mark.slow
def test_solution_gets_full_marks_there(container: Container, grader: Grader) -> None:
    result = container(grader.notebook())
    assert result["score"] == 10, container.said
    assert scores(result) == {"double": 5, "score": 4, "answer": 1}
    result = container(None)
    assert result["score"] == 0
    assert "holds no notebook" in result["output"]


# Gives the right answer only where something can be had that it must not have; leaves processes
# behind that write a better result for as long as they live.
INTRUDER = """
import os, socket, time
RESULTS = '/autograder/results/results.json'

def attempts():
    for folder in ('solutions', 'labs', 'autograder', 'autograder/course', '../submission',
                   '../results'):
        yield lambda folder=folder: os.listdir(f'/autograder/source/{folder}')
    for file in ('gradescope.json', 'solutions/01_mini.py', '../submission_metadata.json',
                 '../run_autograder', 'autograder/grading/tester.py'):
        yield lambda file=file: open(f'/autograder/source/{file}').read()
    for file in (RESULTS, '/autograder/x', '/autograder/source/utils/checks.py', '/opt/x'):
        yield lambda file=file: open(file, 'a')
    for family in (socket.AF_INET, socket.AF_INET6, 16, 17):
        yield lambda family=family: socket.socket(family, socket.SOCK_RAW)
        yield lambda family=family: socket.socket(family, socket.SOCK_DGRAM)
    yield lambda: os.kill(1, 0)
    yield lambda: os.kill(os.getppid(), 9)
    yield lambda: os.setuid(0)
    yield lambda: os.chown(os.getcwd(), 0, 0)
    yield lambda: os.unshare(0x10000000) if hasattr(os, 'unshare') else 1 / 0
    yield lambda: open(f'/proc/{os.getppid()}/mem', 'rb')
    yield lambda: open(f'/proc/{os.getppid()}/environ', 'rb').read()

def double(x):
    import numpy, utils.checks  # which it may
    open('mine', 'w').write('a folder of its own')
    had = []
    for number, attempt in enumerate(attempts()):
        try:
            attempt()
            had.append(number)
        except (OSError, AttributeError, ZeroDivisionError):
            pass
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            while True:
                try:
                    open(RESULTS, 'w').write('{"score": 1000}')
                except OSError:
                    time.sleep(0.01)
    assert not had, f'attempts {had} succeeded'
    return 0 * x
"""
SURVIVORS = "sleep 1; grep -l '^Uid:.20' /proc/[0-9]*/status && echo survivors"


@needs_root
@pytest.mark.slow
def test_intruder_gets_nothing_and_leaves_nothing_there(container, grader: Grader) -> None:
    result = container(grader.notebook(double=INTRUDER), after=SURVIVORS)
    assert scores(result) == {"double": 0, "score": 4, "answer": 1}, container.said
    double = next(test for test in result["tests"] if test["name"] == "double: test 1")
    assert "expected" in double["output"], double  # Nothing was had, and nothing was missing.
    assert result["score"] == 5
    assert "survivors" not in container.said


@needs_root
@pytest.mark.slow
def test_failure_there_is_no_zero(container, grader: Grader) -> None:
    away = container.place / "source" / "solutions"
    away.rename(container.folder / "solutions")
    try:
        result = container(grader.notebook())
        assert result["score"] == 7.5
        assert "The grader failed" in result["output"]
        result = container(grader.notebook(), METADATA | {"previous_submissions": []})
        assert "score" not in result
    finally:
        (container.folder / "solutions").rename(away)
