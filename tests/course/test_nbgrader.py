"""Stock nbgrader on our labs, and our grades in nbgrader: its gradebook, its formgrader."""

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
import pytest
from browser import MARKDOWN, NAMES, Watch, chromium, jupyter_lab
from nbgrader.api import Gradebook

from autograder.authoring.lab import Lab, find_lab, lab_names
from autograder.authoring.release import release
from autograder.course import gradebook
from autograder.grading.grade import grade
from autograder.grading.job import Job, Result, TestOutcome
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
        notebook = answered_notebook(lab, answers)
        # The figures take most of the time; test_notebooks.py draws them, among the same tests.
        notebook.cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
        nbformat.write(notebook, path)
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


def tried_on(lab: Lab, student: str, tricks: list[str]) -> Result:
    """A result in which all that a student can write is a trick."""
    fire = "<img src=x onerror=window.fired=1>"
    tests = [
        TestOutcome(c.name, c.grade_id, 0, c.points, c.hidden, "failed", fire)
        for c in lab.having("test")
    ]
    answers = {name: f"%%html\n</pre></script>{fire}" for name in lab.exercises}
    return Result(
        student,
        lab.name,
        "graded",
        0,
        10,
        tests=tests,
        questions=[{"grade_id": "why", "max_points": 2, "answered": True}],
        answers=answers | {"why": "\n\n".join(tricks)},
        repairs=[fire, "[x](javascript:window.fired=1)"],
        flags=[f"Python files beside the notebook: {fire}.py"],
        other_cells=[{"cell": 7, "kind": "markdown", "after": "double", "source": fire}],
    )


@pytest.mark.slow
def test_formgrader_shows_a_class_and_nothing_fires(mini: Lab, tmp_path: Path) -> None:
    course = tmp_path / "course"
    shutil.copytree(mini.root / "course", course)
    plain = tried_on(mini, "ada", ["Because *so*: $x^2$ is $\\frac{a}{b}$."])
    refused = Result("eve", mini.name, "refused", 0, 10, reason=MARKDOWN[1])
    tricks = [
        tried_on(mini, name, MARKDOWN[number :: len(NAMES)]) for number, name in enumerate(NAMES)
    ]
    assert gradebook.record(mini, [plain, refused, *tricks], course) == {}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        ids = {one.student.id: one.id for one in book.notebook_submissions("01_mini", "01_mini")}
    with jupyter_lab(course, tmp_path / "home") as root, chromium() as browser:
        said = urllib.request.urlopen(f"{root}/formgrader/api/submissions/01_mini").read()
        assert b'"student": "ada"' in said
        for student, submission in ids.items():
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            watch = Watch(page, root)
            page.goto(f"{root}/formgrader/submissions/{submission}/")
            page.wait_for_function("typeof formgrader !== 'undefined'")
            watch.check(".tex2jax_ignore")
            assert page.locator("textarea.comment").count() == 4, student
            if student == "ada":
                shown = page.locator("#notebook .nbgrader_cell").last
                assert shown.locator("em").inner_text() == "so"
                assert shown.locator("math").count() == 2
            navigation = "document.elementFromPoint(innerWidth / 2, 20).closest('nav') !== null"
            assert page.evaluate(navigation), "the page's own navigation is covered"
            page.close()
        for path in (
            *("manage_submissions/01_mini", "gradebook/01_mini/01_mini", "manage_students"),
            *(f"manage_students/{student}" for student in ids),
            *(f"manage_students/{student}/01_mini" for student in ids),
        ):
            page = browser.new_page()
            watch = Watch(page, root)
            page.goto(f"{root}/formgrader/{path}")
            page.wait_for_load_state("networkidle")
            watch.check("#nothing")
            page.close()
