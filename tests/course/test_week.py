"""A TA's week as typed: due date, hand-ins from each place, grades, and back to that place."""

import contextlib
import csv
import hashlib
import io
import re
import shutil
import sqlite3
import zipfile
from collections import Counter
from pathlib import Path

import downloads
import nbformat
import pytest
from conftest import Grader
from courses import LAB, contents, copied, mark_all, mend, own_lab
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring import release
from autograder.authoring.lab import Lab, read_lab
from autograder.course.questions import Server


@pytest.fixture
def lab(grader: Grader, monkeypatch, tmp_path) -> Lab:
    """The tiny lab as the only one, in a project of its own, and its course in this folder."""
    lab = own_lab(grader.lab, tmp_path / "project")
    monkeypatch.setattr(cli, "find_lab", lambda name: read_lab(lab.solution_path))
    monkeypatch.setattr(cli.console, "width", 220)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setattr(Server, "serve_forever", mark_all)
    copied(grader.lab.root / "course", tmp_path)
    monkeypatch.chdir(tmp_path)
    return lab


def run(*arguments: object) -> tuple[int, str]:
    """Runs the command; gives exit code and output."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def twice(*arguments: object) -> str:
    """Runs a command that goes well, and again, which changes nothing; gives the first output."""
    outputs: list[str] = []
    states: list[tuple] = []
    for _ in range(2):
        code, said = run(*arguments)
        assert code == 0, said
        outputs.append(said)
        files = {path: path.read_bytes() for path in Path().glob("*.csv")}
        states.append((contents(Path("course")), files))
    assert states[0] == states[1]
    return outputs[0]


# With the tests as mended, and 1 point for whatever was written as an answer.
POINTS = (13, 8, 13, 8, 7, 0, None)


def mixed_class(lab: Lab, folder: Path) -> list[downloads.Student]:
    """Sixty who hand in right and wrong answers, the untouched lab, and what is no notebook."""
    grader = Grader(lab, folder)
    others = [
        grader.notebook(double="def double(x):\n    return x * x"),
        grader.notebook(answer="answer = 41", why="Because of the axes."),
        grader.notebook(score="import no_such_module", why=""),
        grader.notebook(double="raise NotImplementedError", why="*Your answer here.*"),
    ]
    files = [nbformat.writes(notebook).encode() for notebook in others]
    files += [lab.released_path.read_bytes(), b"%PDF-1.7 printed"]
    right = nbformat.writes(grader.notebook()).encode()
    return downloads.made_class(right, LAB, 60, files)


def summary(said: str) -> dict[str, tuple[str, str]]:
    """The lines of collect's summary: what came and what was done, by student."""
    rows = re.findall(r"│ (\S+) │ (.*?) │ (.*?) │", said)
    assert len({student for student, *_ in rows}) == len(rows)
    return {student: (came, done) for student, came, done in rows}


def check_nothing_is_lost(archive: Path, rows: dict[str, tuple[str, str]]) -> None:
    """That every file of an archive is kept with a student who has a line that counts it."""
    kept = Counter()
    for path in Path("course/collected", LAB).glob("*/attempt-*/**/*"):
        if path.is_file():
            student = path.relative_to(f"course/collected/{LAB}").parts[0]
            kept[student, hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    with zipfile.ZipFile(archive) as entries:
        files = [entries.read(name) for name in entries.namelist() if name[-4:] != ".yml"]
    opened = []
    for content in files:
        if content[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(content)) as inner:
                opened += [inner.read(n) for n in inner.namelist() if "__MACOSX" not in n]
        else:
            opened.append(content)
    came = Counter(hashlib.sha256(content).hexdigest() for content in opened)
    there: Counter[str] = Counter()
    for (student, digest), count in kept.items():
        there[digest] += count
        assert student in rows
    assert came == there
    for student, (said, _) in rows.items():
        count = sum(number for (whose, _), number in kept.items() if whose == student)
        more = re.search(r" and (\d+) more", said)
        named = 0 if said == "nothing" else said.count(", ") + 1 + (int(more[1]) if more else 0)
        assert named == count, student


@pytest.mark.slow
@pytest.mark.parametrize("place", ["canvas", "moodle", "gradescope"])
def test_a_week(lab: Lab, tmp_path: Path, place: str) -> None:
    assert (
        "01_mini: due 2026-11-30 23:59 CET; each day late costs 10 %"
        in run("release", "01", "--due", "2026-11-30 23:59")[1]
    )
    students = mixed_class(lab, tmp_path)
    gradebook = downloads.canvas_gradebook(tmp_path / "canvas.csv", students, "01_mini (45)", 14)
    people = gradebook
    if place == "canvas":
        path = downloads.canvas_zip(tmp_path / "all.zip", students)
    elif place == "moodle":
        path = downloads.moodle_zip(tmp_path / "all.zip", students)
        people = downloads.moodle_worksheet(tmp_path / "moodle.csv", students, 14)
    else:
        path = downloads.gradescope_zip(tmp_path / "all.zip", students)
    code, said = run("collect", "01", path, "--roster", people)
    assert code == 0, said
    rows = summary(said)
    assert len(rows) == 60
    check_nothing_is_lost(path, rows)
    assert twice("collect", "01", path, "--roster", people).count("the same as before") == 59
    for row in (
        "│ last19first19 │" if place == "canvas" else "not in the roster: left the course",
        "│ flast18 │ nothing │ handed in nothing │",
        "new; took 01_mini-2.ipynb, the rest is kept in course/collected/01_mini/flast14",
    ):
        assert row in said

    said = twice("grade", "01", "--workers", "1")
    assert len(re.findall(r"│ \S+ │ (?:[\d.]+/10|refused) │", said)) == 59
    for reason in ("all tests passed", "double: x is squared", "looks like a PDF"):
        assert reason in said
    assert "marks go into the gradebook as they are given" in twice("questions", "01")
    assert "report: course/results/01_mini/report.html" in twice("report", "01")
    said = twice("feedback", "01")
    assert "59 pages: course/feedback/STUDENT/01_mini/01_mini.html" in said
    if place != "gradescope":
        assert f"to upload to {place.title()}, with" in said

    mend(lab, Path("course"))
    said = twice("regrade", "01", "--workers", "1")
    assert "answer: 0/1 → 3/3, passes now; before: answer is 41" in said
    assert "applied: 59 results are in course/gradebook.db" in twice("regrade", "01", "--apply")

    final = 50 if place == "canvas" else 52  # Canvas says LATE, and not when.
    assert f"01_mini │ {final} of 60 final, 1 missing" in twice("export", "01")
    assert "wrote course/course_grades.json" in twice("export", "01", "--json")
    target = people if place == "moodle" else gradebook
    before = target.read_bytes()
    twice("export", "01", "--moodle" if place == "moodle" else "--canvas", target)
    assert target.read_bytes() == before
    written = target.with_name(f"{target.stem}_01_mini.csv")
    old, new = (
        list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        for content in (before, written.read_bytes())
    )
    who, column = (0, 4) if place == "moodle" else (1, 6)
    found = {row[who]: row[column] for row, other in zip(new, old, strict=True) if row != other}
    expected = {}
    for student in students:
        mark = POINTS[student.number % 7 if student.number > 21 else 0]
        if student.number in (16, 17, 18, 19) or mark is None:
            continue  # no notebook, or nothing, or nobody in the file
        if student.late and place != "canvas":
            mark *= 0.9 if student.number == 0 else 0.8  # a day to the minute, or 20 more
        if not (student.late and place == "canvas"):
            name = f"Participant {student.participant}"
            expected[name if place == "moodle" else str(student.user_id)] = f"{mark:g}"
    assert found == expected
    assert run("collect", "01", path)[0] == 0  # once more, after the week


def test_release_beside_somebody_who_keeps_the_gradebook_locked(lab: Lab, monkeypatch) -> None:
    monkeypatch.setattr(release, "SECONDS_TO_WAIT", 0.1)
    with contextlib.closing(sqlite3.connect("course/gradebook.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, said = run("release", "01", "--due", "2026-11-30 23:59")
    assert code == 1
    locked = (
        "course/gradebook.db can't be written (database is locked): close what else has it open"
    )
    assert said == f"{locked}, then run the same command again"
    assert run("release", "01")[0] == 0


def test_bad_input_gets_one_clear_sentence(lab: Lab, tmp_path: Path) -> None:
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
        assert "a folder of submissions" not in said  # which is for `grade` alone
