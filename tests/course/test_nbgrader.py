"""Stock nbgrader on our labs, and our grades in nbgrader: its gradebook, its formgrader."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from conftest import Grader
from nbgrader.api import Gradebook

from autograder.authoring.lab import find_lab, lab_names
from autograder.authoring.release import release
from autograder.course import gradebook
from autograder.grading.grade import grade
from autograder.grading.job import Job
from autograder.rehearsal.rehearse import answered_notebook, solution_answers

BIN = Path(sys.executable).parent


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def scores(course: Path, lab: str) -> dict[str, tuple[float, float]]:
    """Every student's automatic score and its maximum, from the course's gradebook."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        return {
            submission.student.id: (
                sum(grade.auto_score or 0 for nb in submission.notebooks for grade in nb.grades),
                submission.max_code_score,
            )
            for submission in book.assignment_submissions(lab)
        }


@pytest.mark.slow
@pytest.mark.parametrize("name", lab_names())
def test_stock_autograde(name: str, tmp_path) -> None:
    lab = find_lab(name)
    release(lab, tmp_path)
    for student, answers in ("solution", solution_answers(lab)), ("untouched", {}):
        path = tmp_path / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(answered_notebook(lab, answers), path)
    subprocess.run(
        [BIN / "nbgrader", "autograde", name, "--ExecutePreprocessor.timeout=300"],
        cwd=tmp_path,
        env=environment(),
        check=True,
        capture_output=True,
        timeout=900,
    )
    full = sum(cell.points for cell in lab.having("test"))
    assert scores(tmp_path, name) == {"solution": (full, full), "untouched": (0, full)}


@pytest.mark.parametrize("name", lab_names())
def test_our_grader_gives_the_solution_full_marks(name: str, tmp_path) -> None:
    lab = find_lab(name)
    for answers, expected in (solution_answers(lab), 1), ({}, 0):
        path = tmp_path / f"{expected}.ipynb"
        nbformat.write(answered_notebook(lab, answers), path)
        result = grade(Job("student", path, lab.solution_path, seed=expected))
        lost = [test for test in result.tests if test.outcome != "passed"]
        assert result.score == expected * result.max_score, lost
        assert (result.repairs, result.flags) == ([], [])


@pytest.mark.slow
def test_course_opens_in_the_formgrader(grader: Grader, tmp_path) -> None:
    course = tmp_path / "course"
    release(grader.lab, course)
    gradebook.record(grader.lab, [grader(grader.notebook(), "ada")], course)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [BIN / "jupyter", "server", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--ServerApp.password="]
    command += ["--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': True}"]
    server = subprocess.Popen(
        command,
        cwd=course,
        env=environment() | {"JUPYTER_CONFIG_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        root = f"http://127.0.0.1:{port}/formgrader"
        deadline = time.monotonic() + 90
        while True:
            try:
                submissions = urllib.request.urlopen(f"{root}/api/submissions/01_mini").read()
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, "the server did not answer"
                time.sleep(0.5)
        assert b'"student": "ada"' in submissions
        assert b'"score": 10.0' in submissions
        page = urllib.request.urlopen(f"{root}/gradebook/01_mini/01_mini").read()
        assert b"Manual Grading" in page
    finally:
        server.terminate()
        server.wait()
