"""What is recorded in a course: each student on his own, only what changed, never a stale mark."""

import shutil
import sqlite3
import threading
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import pytest
from conftest import Grader
from nbgrader.api import Gradebook
from typer.testing import CliRunner

from autograder.authoring.lab import Lab, LabError, read_lab
from autograder.cli import app
from autograder.course import gradebook
from autograder.course.gradebook import GradebookUnavailable, folder_name, record
from autograder.grading.job import Result, TestOutcome

LAB = "01_mini"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
PICTURE = f"data:image/png;base64,{PIXEL}"


@pytest.fixture
def course(mini: Lab, tmp_path: Path) -> Path:
    """A course with the tiny lab and nobody in it."""
    return Path(shutil.copytree(mini.root / "course", tmp_path / "course"))


def result(
    lab: Lab, student: str, why: str | None = "Because it is so.", double: str = "twice", **changes
) -> Result:
    """What the grader would say of a submission: full marks unless `double` is "wrong"."""
    tests = [
        TestOutcome(
            exercise=cell.name,
            grade_id=cell.grade_id,
            points=0 if (cell.name, double) == ("double", "wrong") else cell.points,
            max_points=cell.points,
            hidden=cell.hidden,
            outcome="failed" if (cell.name, double) == ("double", "wrong") else "passed",
            message="x is squared" if (cell.name, double) == ("double", "wrong") else "",
        )
        for cell in lab.having("test")
    ]
    made = Result(
        student,
        lab.name,
        "graded",
        sum(test.points for test in tests),
        10,
        tests=tests,
        questions=[{"grade_id": "why", "max_points": 2, "answered": why is not None}],
        answers={
            "double": double,
            "score": "s",
            "answer": "a",
            "why": why or "*Your answer here.*",
        },
    )
    return replace(made, **changes)


def refused(lab: Lab, student: str, status: str = "refused") -> Result:
    """What the grader says where there are no grades."""
    unknown = [{"grade_id": "why", "max_points": 2, "answered": False}]
    return Result(student, lab.name, status, 0, 10, reason="it is a picture", questions=unknown)


def grades(course: Path, student: str) -> dict[str, tuple[float | None, float | None, bool]]:
    """By cell: automatic score, mark by hand, whether a TA has to look."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        (notebook,) = book.find_submission(LAB, student).notebooks
        return {
            grade.name: (grade.auto_score, grade.manual_score, grade.needs_manual_grade)
            for grade in notebook.grades
        }


def mark(course: Path, student: str, cell: str = "why", score: float | None = 2) -> None:
    """What a TA does in formgrader: a mark and a comment."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        grade = book.find_grade(cell, LAB, LAB, student)
        grade.manual_score, grade.needs_manual_grade = score, False
        if cell == "why":
            book.find_comment(cell, LAB, LAB, student).manual_comment = "well said"
        book.db.commit()


def comments(course: Path, student: str) -> tuple[str | None, str | None]:
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        comment = book.find_comment("why", LAB, LAB, student)
        return comment.auto_comment, comment.manual_comment


def why(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell with the question `why`."""
    return next(cell for cell in notebook.cells if cell.get("id") == "why")


def notebook(course: Path, student: str) -> nbformat.NotebookNode:
    path = course / "autograded" / folder_name(student) / LAB / f"{LAB}.ipynb"
    return nbformat.read(path, as_version=4)


def everything(course: Path) -> tuple:
    """All that recording writes, but for the random ids."""
    with sqlite3.connect(course / "gradebook.db") as database:
        rows = database.execute(
            "SELECT student_id, cell.name, auto_score, manual_score, needs_manual_grade, digest"
            " FROM grade JOIN submitted_notebook AS notebook ON grade.notebook_id = notebook.id"
            " JOIN submitted_assignment AS submission ON submission.id = notebook.assignment_id"
            " JOIN base_cell AS cell ON cell.id = cell_id"
            " LEFT JOIN autograder_answer AS answer ON answer.grade_id = grade.id ORDER BY 1, 2"
        ).fetchall()
    files = {
        str(path.relative_to(course)): path.read_bytes()
        for path in sorted((course / "autograded").rglob("*"))
        if path.is_file()
    }
    return rows, files


def test_scores_reach_the_gradebook(mini: Lab, course: Path) -> None:
    assert record(mini, [result(mini, "ada"), result(mini, "bob", None, "wrong")], course) == {}
    assert grades(course, "ada") == {
        "test_double": (2, None, False),
        "test_double_2": (3, None, False),
        "test_score": (4, None, False),
        "test_answer": (1, None, False),
        "why": (None, None, True),
    }
    assert grades(course, "bob")["test_double"] == (0, None, False)
    assert grades(course, "bob")["why"] == (0, None, False)  # Left untouched: nothing to mark.
    assert comments(course, "bob") == ("No response.", None)
    text = nbformat.writes(notebook(course, "bob"))
    assert "failed: x is squared" in text
    assert "reference.double" in text  # TAs see the hidden tests.


def test_a_rerun_changes_nothing(mini: Lab, course: Path) -> None:
    results = [result(mini, name) for name in ("ada", "bob", "cleo")]
    record(mini, results, course)
    mark(course, "ada")
    mark(course, "bob", "test_double", 1.5)
    before = everything(course)
    times = [path.stat().st_mtime_ns for path in sorted(course.rglob("autograded/**/*.ipynb"))]
    record(mini, results, course)
    assert everything(course) == before
    assert times == [p.stat().st_mtime_ns for p in sorted(course.rglob("autograded/**/*.ipynb"))]
    assert grades(course, "ada")["why"] == (None, 2, False)
    assert grades(course, "bob")["test_double"] == (2, 1.5, False)
    assert comments(course, "ada") == (None, "well said")


def test_one_late_resubmission_unsettles_one_student(mini: Lab, course: Path) -> None:
    names = ("ada", "bob", "cleo")
    record(mini, [result(mini, name) for name in names], course)
    for name in names:
        mark(course, name)
    again = [result(mini, "ada"), result(mini, "bob", "Something else."), result(mini, "cleo")]
    record(mini, again, course)
    assert [grades(course, name)["why"] for name in names] == [
        (None, 2, False),
        (None, 2, True),
        (None, 2, False),
    ]
    assert comments(course, "bob") == (gradebook.STALE, "well said")
    assert comments(course, "ada") == (None, "well said")
    shown = {n: [f"{c.id}: {c.source}" for c in notebook(course, n).cells] for n in names}
    assert [any(gradebook.STALE in cell for cell in shown[n]) for n in names] == [
        False,
        True,
        False,
    ]
    cells = [cell.split(":")[0] for cell in shown["bob"]]
    assert cells[cells.index("why") + 1] == "note-why"
    # It stays so until the TA has looked again, and then nothing is said any more.
    record(mini, again, course)
    assert grades(course, "bob")["why"] == (None, 2, True)
    mark(course, "bob", score=1)
    record(mini, again, course)
    assert grades(course, "bob")["why"] == (None, 1, False)
    assert comments(course, "bob") == (None, "well said")
    assert gradebook.STALE not in nbformat.writes(notebook(course, "bob"))


@pytest.mark.parametrize(
    "changes",
    [
        {"pictures": {"why": {"a.png": PICTURE}}},
        {"why": "Because it is so"},
        {"why": None},
    ],
)
def test_what_counts_as_another_answer(mini: Lab, course: Path, changes: dict) -> None:
    record(mini, [result(mini, "ada")], course)
    mark(course, "ada")
    record(mini, [result(mini, "ada", **changes)], course)
    assert grades(course, "ada")["why"][1:] == (2, True)


def test_a_test_marked_by_hand_is_looked_at_again_where_its_code_changed(
    mini: Lab, course: Path
) -> None:
    record(mini, [result(mini, "ada", double="wrong")], course)
    mark(course, "ada", "test_double", 1)
    mark(course, "ada", "test_score", 3)
    record(mini, [result(mini, "ada", double="twice")], course)
    assert grades(course, "ada")["test_double"] == (2, 1, True)
    assert grades(course, "ada")["test_score"] == (4, 3, False)


def test_refused_is_not_waiting_for_a_ta(mini: Lab, course: Path) -> None:
    record(mini, [refused(mini, "eve")], course)
    assert set(grades(course, "eve").values()) == {(0, None, False)}
    assert "refused: it is a picture" in notebook(course, "eve").cells[0].source


def test_a_refused_resubmission_shows_the_old_mark_as_old(mini: Lab, course: Path) -> None:
    record(mini, [result(mini, "eve")], course)
    mark(course, "eve")
    record(mini, [refused(mini, "eve")], course)
    assert grades(course, "eve")["why"] == (0, 2, True)
    assert grades(course, "eve")["test_score"] == (0, None, False)


def test_an_old_score_never_stands_for_a_newer_failed_grading(mini: Lab, course: Path) -> None:
    record(mini, [result(mini, "ada")], course)
    mark(course, "ada")
    record(mini, [refused(mini, "ada", "failed")], course)
    assert grades(course, "ada")["test_score"] == (None, None, True)
    assert "failed: it is a picture" in notebook(course, "ada").cells[0].source
    # When the grader is well again, what a TA did still stands.
    record(mini, [result(mini, "ada")], course)
    assert grades(course, "ada")["why"] == (None, 2, False)
    assert grades(course, "ada")["test_score"] == (4, None, False)


def test_a_picture_in_the_middle_of_the_class_harms_nobody(grader: Grader, course: Path) -> None:
    names = ("ada", "bob", "cleo")
    results = []
    for name in names:
        submitted = grader.notebook(
            why="See ![this](attachment:a.png), ![that](attachment:no.png)."
        )
        if name == "bob":
            why(submitted).attachments = {"a.png": {"image/png": PIXEL}}
        results.append(grader(submitted, name))
    assert record(grader.lab, results, course) == {}
    sources = [why(notebook(course, name)).source for name in names]
    assert ["<img" in source for source in sources] == [False, True, False]
    assert all("[that, not shown: attachment:no.png]" in source for source in sources)


@pytest.mark.parametrize("answer", ["half an emoji \ud83d", "![" * 20_000, "\x00\x1b[2J", "[a]: <"])
def test_no_answer_is_too_odd_to_record(mini: Lab, course: Path, answer: str) -> None:
    odd = result(mini, "bob", answer, double=answer)
    assert record(mini, [odd, result(mini, "cleo")], course) == {}
    assert grades(course, "bob")["why"] == (None, None, True)
    assert why(notebook(course, "bob")).source


def test_recording_that_fails_costs_one_student_his_grade(
    mini: Lab, course: Path, monkeypatch
) -> None:
    record(mini, [result(mini, "bob")], course)
    real = gradebook.autograded_notebook

    def fails(source, result, stale=()):
        if result.student == "bob" and result.status == "graded":
            raise RecursionError("too deep")
        return real(source, result, stale)

    monkeypatch.setattr(gradebook, "autograded_notebook", fails)
    seen: list[str] = []
    results = [result(mini, name) for name in ("ada", "bob", "cleo")]
    problems = record(mini, results, course, progress=lambda result: seen.append(result.student))
    assert problems == {"bob": "recording it failed: RecursionError: too deep"}
    assert seen == ["ada", "bob", "cleo"]
    assert [grades(course, n)["test_score"][0] for n in seen] == [4, None, 4]
    assert "failed: recording it failed" in notebook(course, "bob").cells[0].source


def test_killed_half_way_and_run_again(mini: Lab, course: Path, monkeypatch) -> None:
    results = [result(mini, "ada", "first"), result(mini, "bob")]
    record(mini, results, course)
    mark(course, "ada")
    later = [result(mini, "ada", "second"), result(mini, "bob", double="wrong")]
    real = gradebook.autograded_notebook

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gradebook, "autograded_notebook", killed)
    with pytest.raises(KeyboardInterrupt):
        record(mini, later, course)
    monkeypatch.setattr(gradebook, "autograded_notebook", real)
    record(mini, later, course)
    assert grades(course, "ada")["why"] == (None, 2, True)
    assert "second" in why(notebook(course, "ada")).source
    assert grades(course, "bob")["test_double"] == (0, None, False)


def test_two_recorders_at_once(mini: Lab, course: Path) -> None:
    results = [result(mini, f"s{number}") for number in range(12)]
    record(mini, results[:1], course)
    failures: list[object] = []

    def run() -> None:
        try:
            failures.extend(record(mini, results, course))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [grades(course, f"s{number}")["test_score"] for number in range(12)] == [
        (4, None, False)
    ] * 12


def test_a_locked_gradebook_is_waited_for(mini: Lab, course: Path) -> None:
    other = sqlite3.connect(course / "gradebook.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.7, lambda: other.execute("COMMIT"))
    timer.start()
    assert record(mini, [result(mini, "ada")], course) == {}
    timer.join()
    other.close()
    assert grades(course, "ada")["test_score"] == (4, None, False)


def test_one_that_stays_locked_is_a_sentence(mini: Lab, course: Path, monkeypatch) -> None:
    record(mini, [result(mini, "ada")], course)
    before = everything(course)
    monkeypatch.setattr(gradebook, "SECONDS_TO_WAIT", 0.2)
    other = sqlite3.connect(course / "gradebook.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(GradebookUnavailable, match=r"locked.*run the same command again"):
        record(mini, [result(mini, "ada", double="wrong")], course)
    other.execute("COMMIT")
    other.close()
    assert everything(course) == before


def test_tests_changed_without_a_release(mini: Lab, course: Path, tmp_path: Path) -> None:
    gradebook.require_release(mini, course)
    changed = tmp_path / "solutions" / f"{LAB}.py"
    changed.parent.mkdir()
    shutil.copy(mini.root / "pyproject.toml", tmp_path)
    changed.write_text(mini.solution_path.read_text().replace("points=4", "points=5"))
    with pytest.raises(LabError, match=r"01_mini.py was changed since .* run `autograder release"):
        gradebook.require_release(read_lab(changed), course)


def test_grade_says_so_before_it_grades(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["grade", "01", "--course", str(tmp_path)])
    assert outcome.exit_code == 1
    assert "autograder release 01_convolution --course" in " ".join(outcome.output.split())


@pytest.mark.parametrize(
    "student",
    [
        "ada",
        "O'Neil-Smith, Zoë (2)",
        "李小龍",
        "a+b@c.org",
    ],
)
def test_ordinary_names_stay(student: str) -> None:
    assert folder_name(student) == student


def test_odd_names_become_harmless_and_stay_apart(mini: Lab, course: Path) -> None:
    odd = [
        "<img src=x onerror=alert(1)>", '"><b', "%22;alert(1)", "a=b", "a?b#c&d", "[ab]*", "a\\b",
        "=3Cimg", "\udce9t\udce9", "x" * 249, "x" * 248 + "y", "<" * 200, "a\nb", "$x$", "`a`",
        "\u202egpj", "a;b:c|d{e}",
    ]  # fmt: skip
    names = [folder_name(student) for student in odd]
    assert len(set(names)) == len(odd)
    for name in names:
        assert name.isprintable()
        assert not set(name) & set('<>"%&?#[]*\\$`;:|{}/')
        assert len(name.encode()) <= 200
    record(mini, [result(mini, student) for student in odd], course)
    assert sorted(path.name for path in (course / "autograded").iterdir()) == sorted(names)


def test_csv_quotes_what_students_are_called(mini: Lab, tmp_path: Path) -> None:
    gradebook.write_csv([refused(mini, 'a,"b"')], tmp_path / "grades.csv")
    assert '"a,""b""","01_mini","refused",0,10,' in (tmp_path / "grades.csv").read_text()


def test_results_say_what_pictures_they_have(mini: Lab) -> None:
    assert asdict(result(mini, "ada"))["pictures"] == {}
