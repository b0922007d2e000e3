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


def test_results_in_the_gradebook(grader: Grader, tmp_path) -> None:
    course = tmp_path / "course"
    release(grader.lab, course)
    results = [
        grader(grader.notebook(), "ada"),
        grader(grader.notebook(double="def double(x):\n    return x * x"), "bob"),
        grader(b"no notebook", "eve"),
    ]
    for _ in range(2):  # The second time changes nothing.
        gradebook.record(grader.lab, results, course)
        assert scores(course, "01_mini") == {"ada": (10, 10), "bob": (5, 10), "eve": (0, 10)}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        why = book.find_grade("why", "01_mini", "01_mini", "ada")
        assert (why.auto_score, why.needs_manual_grade) == (None, True)
        why.manual_score = 2
        book.db.commit()
    gradebook.record(grader.lab, results, course)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        assert book.find_grade("why", "01_mini", "01_mini", "ada").score == 2
    page = (course / "feedback" / "bob" / "01_mini" / "01_mini.html").read_text()
    assert "x is squared" in page
    assert "reference.double" not in page
    refused = nbformat.read(course / "autograded" / "eve" / "01_mini" / "01_mini.ipynb", 4)
    assert "not a Jupyter notebook" in refused.cells[0].source
    autograded = (course / "autograded" / "bob" / "01_mini" / "01_mini.ipynb").read_text()
    assert "reference.double" in autograded  # TAs see the hidden tests.


def test_answer_left_untouched_needs_no_ta(grader: Grader, tmp_path) -> None:
    course = tmp_path / "course"
    release(grader.lab, course)
    gradebook.record(grader.lab, [grader(answered_notebook(grader.lab, {}), "ada")], course)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        why = book.find_grade("why", "01_mini", "01_mini", "ada")
        assert (why.auto_score, why.needs_manual_grade) == (0, False)


def test_csv_quotes_what_students_are_called(grader: Grader, tmp_path) -> None:
    result = grader(b"no notebook", 'a,"b"')
    gradebook.write_csv([result], tmp_path / "grades.csv")
    assert '"a,""b""","01_mini","refused",0,10,' in (tmp_path / "grades.csv").read_text()


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
