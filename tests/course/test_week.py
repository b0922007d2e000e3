"""A TA's week as typed: due date, hand-ins from each place, grades, and back to that place."""

import csv
import io
import shutil
from pathlib import Path

import downloads
import nbformat
import pytest
from conftest import Grader
from courses import LAB, copied
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.lab import read_lab
from autograder.course.gradebook import open_gradebook


@pytest.fixture
def run(grader: Grader, monkeypatch, tmp_path):
    """Runs the command with the tiny lab as the only one; gives exit code and output."""
    monkeypatch.setattr(cli, "find_lab", lambda name: read_lab(grader.lab.solution_path))
    monkeypatch.setattr(cli.console, "width", 220)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    copied(grader.lab.root / "course", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
        return result.exit_code, " ".join(result.output.split())

    return run


@pytest.mark.slow
@pytest.mark.parametrize("place", ["canvas", "moodle", "gradescope"])
def test_a_week(run, grader: Grader, tmp_path: Path, place: str) -> None:
    assert (
        "01_mini: due 2026-11-30 23:59 CET; each day late costs 10 %"
        in run("release", "01", "--due", "2026-11-30 23:59")[1]
    )
    right = nbformat.writes(grader.notebook()).encode()
    students = downloads.made_class(right, LAB)
    gradebook = downloads.canvas_gradebook(tmp_path / "canvas.csv", students, "01_mini (45)", 12)
    people = gradebook
    if place == "canvas":
        path = downloads.canvas_zip(tmp_path / "all.zip", students)
    elif place == "moodle":
        path = downloads.moodle_zip(tmp_path / "all.zip", students)
        people = downloads.moodle_worksheet(tmp_path / "moodle.csv", students, 12)
    else:
        path = downloads.gradescope_zip(tmp_path / "all.zip", students)
    code, said = run("collect", "01", path, "--roster", people)
    assert code == 0
    for row in (
        "│ last19first19 │" if place == "canvas" else "not in the roster: left the course",
        "│ flast18 │ nothing │ handed in nothing │",
        "new; took 01_mini-2.ipynb, the rest is kept in course/collected/01_mini/flast14",
    ):
        assert row in said
    # A late one, one of two of a name, several attempts, and no notebook, for real.
    chosen = ["alovelace", "liwei3", "flast14", "flast16"]
    named = [word for student in chosen for word in ("--student", student)]
    code, said = run("grade", "01", *named, "--workers", "1")
    assert code == 0, said
    with open_gradebook(Path("course")) as book:
        for student in chosen[:3]:
            why = book.find_grade("why", LAB, LAB, student)
            why.manual_score, why.needs_manual_grade = 1, False
        book.db.commit()
    code, said = run("export", "01")
    assert code == 0
    final = 2 if place == "canvas" else 3
    assert f"01_mini │ {final} of 60 final, 1 missing" in said
    assert "wrote course/course_grades.csv" in said
    target = people if place == "moodle" else gradebook
    before = target.read_bytes()
    code, said = run("export", "01", "--moodle" if place == "moodle" else "--canvas", target)
    assert code == 0, said
    assert target.read_bytes() == before
    written = target.with_name(f"{target.stem}_01_mini.csv")
    old, new = (
        list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        for content in (before, written.read_bytes())
    )
    changed = {row[0]: (row, other) for row, other in zip(new, old, strict=True) if row != other}
    # Canvas says LATE and not when, so that one's mark isn't final; the others say, a day.
    late = {} if place == "canvas" else {students[0].participant: "9.9"}
    expected = late | {students[3].participant: "11", students[14].participant: "11"}
    if place == "moodle":
        marks = {name: row[4] for name, (row, _) in changed.items()}
        assert marks == {f"Participant {number}": mark for number, mark in expected.items()}
    else:
        marks = {row[1]: row[6] for row, _ in changed.values()}
        assert marks == {str(number + 11700): mark for number, mark in expected.items()}
    assert run("collect", "01", path)[0] == 0  # once more, after the week


def test_bad_input_gets_one_clear_sentence(run, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    shutil.make_archive(str(tmp_path / "empty"), "zip", (tmp_path / "e").mkdir() or tmp_path / "e")
    for arguments, expected in (
        (("release", "--due", "2026-11-30 23:59"), "name the labs that are due then"),
        (("release", "01", "--due", "soon"), "'soon' is no date and time: write it as 2026"),
        (("collect", "01", "nowhere.zip"), "nowhere.zip can't be read: No such file"),
        (("collect", "01", "empty.zip"), "empty.zip is empty: download the submissions again"),
        (("collect", "01", "empty.zip", "--roster", "x.csv"), "x.csv is no roster: give Canvas's"),
        (("collect", "01", "empty.zip", "--course", "other"), "other is no course with the lab"),
        (("export", "--course", "other"), "there is no"),
        (("export", "01", "--canvas", "x.csv", "--json"), "choose one of --canvas, --canvas-id"),
        (("regrade", "01", "--course", "other"), "other is no course with the lab 01_mini; run"),
        (("regrade", "01"), "holds no results; run `autograder grade` first"),
        (("export", "01", "--canvas", "x.csv"), "x.csv is no gradebook of Canvas's"),
        (("export", "01", "--moodle", "x.csv"), "x.csv is no grading worksheet of Moodle's"),
    ):
        code, said = run(*arguments)
        assert code == 1, said
        assert expected in said
        assert "Traceback" not in said
