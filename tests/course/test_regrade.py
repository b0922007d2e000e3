"""Grading again beside the grades that stand: what it says, and that nothing counts before it is
applied."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from conftest import Grader
from courses import mend, own_lab
from nbgrader.api import Gradebook
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.lab import Lab, read_lab
from autograder.authoring.release import release
from autograder.course import gradebook, regrade
from autograder.grading import job
from autograder.grading.job import Result


def outcome(grade_id: str, points: float, most: float, message: str = "") -> job.TestOutcome:
    passed = "passed" if points else "failed"
    return job.TestOutcome("double", grade_id, points, most, False, passed, message, "a batch")


def graded(*tests: job.TestOutcome, student: str = "ada", **changes) -> Result:
    score, most = sum(test.points for test in tests), sum(test.max_points for test in tests)
    fields = {"status": "graded", "score": score, "max_score": most, "tests": list(tests)}
    return Result(student=student, lab="01_mini", **fields | changes)


FAILED = graded(status="failed", score=0, max_score=5, reason="the disk was full")
REFUSED = graded(status="refused", score=0, max_score=5, reason="no notebook")


@pytest.mark.parametrize(
    ("old", "new", "kind", "differences"),
    [
        (
            graded(outcome("a", 0, 2, "x is squared"), outcome("b", 3, 3)),
            graded(outcome("a", 2, 2), outcome("b", 3, 3)),
            "up",
            [((0, 2), (2, 2), "passes now; before: x is squared")],
        ),
        (
            graded(outcome("a", 2, 2)),
            graded(outcome("a", 0, 2, "not for N = 1")),
            "down",
            [((2, 2), (0, 2), "not for N = 1")],
        ),
        (
            graded(outcome("a", 2, 2)),
            graded(outcome("a", 4, 4)),
            "up",
            [((2, 2), (4, 4), "worth 4 instead of 2")],
        ),
        (  # Lost in one test, won in another: the same score, and yet not the same.
            graded(outcome("a", 2, 2), outcome("b", 0, 2, "was wrong")),
            graded(outcome("a", 0, 2, "is wrong"), outcome("b", 2, 2)),
            "unchanged",
            [((2, 2), (0, 2), "is wrong"), ((0, 2), (2, 2), "passes now; before: was wrong")],
        ),
        (
            graded(outcome("a", 2, 2)),
            graded(outcome("b", 0, 1, "is wrong")),
            "down",
            [(None, (0, 1), "a new test: is wrong"), ((2, 2), None, "the test is gone")],
        ),
        (graded(outcome("a", 2, 2)), graded(outcome("a", 2, 2)), "unchanged", []),
        (graded(outcome("a", 2, 2)), FAILED, "no grade", []),
        (REFUSED, FAILED, "no grade", []),
        (graded(outcome("a", 2, 2)), REFUSED, "refused", []),
        (REFUSED, REFUSED, "unchanged", []),
        (None, graded(outcome("a", 0, 2)), "first grade", []),
        (FAILED, graded(outcome("a", 2, 2)), "first grade", []),
    ],
)
def test_what_changes(old, new, kind, differences) -> None:
    change = regrade.compare(old, new)
    assert change.kind == kind
    found = [(each.old, each.new, each.reason) for each in change.differences]
    assert found == differences
    assert (change.new is None) == (new.status != "graded")
    assert (change.old is None) == (old is None or old.status != "graded")


def test_another_hand_in_is_told_from_another_test() -> None:
    old = graded(outcome("a", 2, 2), answers={"double": "one"})
    new = graded(outcome("a", 0, 2, "wrong"), answers={"double": "two"})
    assert regrade.compare(old, new).resubmitted
    assert not regrade.compare(old, replace(old, score=1)).resubmitted
    assert "the answers changed since the old grade" in regrade.row(regrade.compare(old, new))[3]


def test_page_escapes_what_students_wrote(mini: Lab) -> None:
    evil = "<script>alert(1)</script>"
    old = graded(outcome("a", 2, 2), student=evil)
    changes = [
        regrade.compare(old, graded(outcome("a", 0, 2, evil), student=evil)),
        regrade.compare(old, replace(FAILED, student=evil, reason=evil)),
        regrade.compare(old, replace(old)),
    ]
    page = regrade.page(mini, changes, [evil])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 6


@pytest.fixture
def course(grader: Grader, tmp_path: Path, monkeypatch) -> tuple[Lab, Path]:
    """A lab of its own and a course in which it is graded: ada right, bob and eve not, cy refused,
    and ada's written answer marked by hand."""
    lab = own_lab(grader.lab, tmp_path / "project")
    course = lab.root / "course"
    release(lab, course)
    own = Grader(lab, tmp_path)
    notebooks = {
        "ada": own.notebook(),
        "bob": own.notebook(double="def double(x):\n    return x * x"),
        "eve": own.notebook(answer="answer = 41"),
        "cy": b"no notebook",
    }
    results = []
    (course / "results" / lab.name).mkdir(parents=True)
    for student, notebook in notebooks.items():
        results.append(own(notebook, student, seed=7))
        results[-1].write(course / "results" / lab.name / f"{student}.json")
        folder = course / "submitted" / student / lab.name
        folder.mkdir(parents=True)
        shutil.copy(tmp_path / f"{student}.ipynb", folder / f"{lab.name}.ipynb")
    gradebook.record(lab, results, course)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        mark = book.find_grade("why", lab.name, lab.name, "ada")
        mark.manual_score, mark.needs_manual_grade = 2, False
        book.db.commit()
    monkeypatch.setattr(cli, "find_lab", lambda name: read_lab(lab.solution_path))
    monkeypatch.setattr(cli.console, "width", 200)
    return lab, course


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def scores(course: Path) -> dict[str, float]:
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        return {s.student.id: s.score for s in book.assignment_submissions("01_mini")}


def results(course: Path) -> dict[str, str]:
    folder = course / "results" / "01_mini"
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.json"))}


class Stopped(Exception):
    """Stands for a kill."""


def stop(*arguments: object) -> None:
    raise Stopped


@pytest.mark.slow
def test_preview_then_apply(course, monkeypatch) -> None:
    lab, course = course
    code, said = run("regrade", "01", "--course", course, "--apply")
    assert code == 1
    assert "there is no preview to apply yet; run `autograder regrade 01_mini`" in said
    before = scores(course), results(course)
    assert before[0] == {"ada": 12, "bob": 5, "eve": 9, "cy": 0}
    mend(lab, course)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(regrade, "page", stop)
        regrade.preview(lab, jobs_of(lab, course), course)
    graded_then = (course / "regrade/01_mini/results/eve.json").stat().st_mtime_ns
    code, said = run("regrade", "01", "--course", course, "--workers", "1")
    assert code == 0, said
    # It went on where it was stopped, with the seed of the old grade.
    assert (course / "regrade/01_mini/results/eve.json").stat().st_mtime_ns == graded_then
    assert Result.read(course / "regrade/01_mini/results/eve.json").seed == 7
    assert "eve │ 9/10 │ 12/12 │ answer: 0/1 → 3/3, passes now; before: answer is 41" in said
    assert "ada │ 10/10 │ 12/12 │ answer: 1/1 → 3/3, worth 3 instead of 1" in said
    assert "3 more points; 1 unchanged" in said
    assert (scores(course), results(course)) == before
    preview = json.loads((course / "regrade/01_mini/regrade.json").read_text())
    assert {c["student"]: c["kind"] for c in preview["changes"]} == {
        **dict.fromkeys(("ada", "bob", "eve"), "up"),
        "cy": "unchanged",
    }
    assert "answer is 41" in (course / "regrade/01_mini/regrade.html").read_text()

    # Stopped between the gradebook and the results, it is done again as a whole.
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(regrade, "keep", stop)
        run("regrade", "01", "--course", course, "--apply")
    assert results(course) == before[1]
    assert run("regrade", "01", "--course", course, "--apply")[0] == 0
    assert scores(course) == {"ada": 14, "bob": 7, "eve": 12, "cy": 0}
    assert {s: json.loads(r)["score"] for s, r in results(course).items()} == {
        **{"ada": 12, "bob": 7},
        **{"eve": 12, "cy": 0},
    }
    assert "bob" in (course / "grades.csv").read_text()
    code, said = run("regrade", "01", "--course", course, "--workers", "1")
    assert "4 unchanged" in said and "more points" not in said


def jobs_of(lab: Lab, course: Path) -> list[job.Job]:
    return [
        job.Job(path.name, path / lab.name, lab.solution_path, 7)
        for path in sorted((course / "submitted").iterdir())
    ]


def test_what_changed_since_the_preview_is_not_applied(mini: Lab, tmp_path, monkeypatch) -> None:
    def grade_class(jobs, folder, workers, progress) -> dict[str, Result]:
        folder.mkdir(parents=True, exist_ok=True)
        results = {each.student: graded(student=each.student) for each in jobs}
        for student, result in results.items():
            result.write(folder / f"{student}.json")
        return results

    monkeypatch.setattr(regrade, "grade_class", grade_class)
    standing = tmp_path / "results" / "01_mini"
    standing.mkdir(parents=True)
    for student in ("ada", "bob", "cy", "eve"):
        graded(student=student).write(standing / f"{student}.json")
        (tmp_path / "submitted" / student / "01_mini").mkdir(parents=True)
        (tmp_path / "submitted" / student / "01_mini" / "01_mini.ipynb").write_text("one try")
    everybody = jobs_of(mini, tmp_path)
    jobs = [each for each in everybody if each.student == "cy"]
    with pytest.raises(regrade.NoPreview, match="there is no preview to apply yet; run"):
        regrade.previewed(mini, jobs, tmp_path)
    regrade.preview(mini, jobs, tmp_path)
    assert set(regrade.previewed(mini, jobs, tmp_path)) == {"cy"}
    (jobs[0].path / "01_mini.ipynb").write_text("another try")
    with pytest.raises(regrade.NoPreview, match=r"changed since the preview for 1 student \(cy\)"):
        regrade.previewed(mini, jobs, tmp_path)
    regrade.preview(mini, jobs, tmp_path)
    with pytest.raises(regrade.NoPreview, match=r"for 3 students \(ada, bob, eve\)"):
        regrade.previewed(mini, everybody, tmp_path)
    page = (regrade.preview_folder(mini, tmp_path) / "regrade.html").read_text()
    assert "No submission any more" in page and "<bdi>eve</bdi>" in page
    (regrade.preview_folder(mini, tmp_path) / "results" / "cy.json").unlink()
    with pytest.raises(regrade.NoPreview, match="the preview isn't whole"):
        regrade.previewed(mini, jobs, tmp_path)


@pytest.mark.slow
def test_one_student_and_what_is_new(course) -> None:
    lab, course = course
    before = results(course)
    code, said = run("grade", "01", "--course", course, "--student", "evi")
    assert code == 1 and "there is no submission of 'evi'; did you mean eve?" in said
    nbformat.write(
        Grader(lab, course.parent).notebook(), course / "submitted/eve/01_mini/01_mini.ipynb"
    )
    code, said = run("grade", "01", "--course", course, "--student", "eve", "--workers", "1")
    assert code == 0, said
    assert "eve │ 10/10" in said and "bob" not in said
    assert {s for s in before if before[s] != results(course)[s]} == {"eve"}
    assert scores(course) == {"ada": 12, "bob": 5, "eve": 10, "cy": 0}
    assert "bob" in (course / "grades.csv").read_text()
    # ada and bob have grades under another seed, cy none.
    arguments = ("grade", "01", "--course", course, "--seed", "7", "--workers", "1", "--new")
    code, said = run(*arguments, "--student", "ada", "--student", "bob")
    assert code == 0 and "nothing is new" in said
    code, said = run(*arguments)
    assert code == 0
    assert "ada" not in said and "eve │ 10/10" in said and "cy │ refused" in said
