"""Marks on their way to Canvas and Moodle, judged by models of what these two do with a file."""

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from courses import LAB, copied, graded, handed_in
from downloads import DUE, Student, gradescope_zip

from autograder.authoring.lab import Lab
from autograder.course import export, lateness
from autograder.course.collect import collect
from autograder.course.export import ExportError, Line, marks, plan_canvas, plan_moodle
from autograder.course.gradebook import open_gradebook
from autograder.grading.job import Result


@dataclass
class Canvas:
    """Canvas's gradebook importer, after its gradebook_importer.rb, on a course of its own.

    Attributes:
        students: name, SIS id and login by user id. assignments: title and points by id.
        scores: what is in the gradebook, by user and assignment; "EX" where excused.
    """

    students: dict[int, tuple[str, str, str]]
    assignments: dict[int, tuple[str, float]]
    scores: dict[tuple[int, int], str] = field(default_factory=dict)

    def upload(self, content: bytes) -> tuple[dict, list[str]]:
        """What an upload changes, as (user id, assignment id): new text; and what it creates."""
        text = content.decode("utf-8")
        lines = text.splitlines()[:3]
        sizes = {}
        for mark in ";,":
            counts = {len(next(csv.reader([line], delimiter=mark))) for line in lines}
            sizes[mark] = counts.pop() if len(counts) == 1 else 0
        mark = ";" if sizes[";"] > sizes[","] else ","
        rows = [
            [self.convert(cell) for cell in row]
            for row in csv.reader(io.StringIO(text), delimiter=mark)
            if not re.fullmatch(r"[;, ]+", mark.join(row))
        ]
        head, created, changes = rows[0], [], {}
        assert "Student" in head[0]
        assert "ID" in head[1]
        width = head.index("Section") + 1 + ("Notes" in head)  # a custom column
        columns = {}
        for place, title in enumerate(head):
            if place < width or re.search(
                "(Current|Final) (Score|Points|Grade)|Override (Score|Grade|Status)", title
            ):
                continue
            match = re.fullmatch(r"(.*?)\s*\((\d+)\)", title)
            number = int(match[2]) if match else None
            if number not in self.assignments:
                titles = {name: one for one, (name, _) in self.assignments.items()}
                number = titles.get(title)
            if number is None:
                created.append(f"assignment {title}")
            else:
                columns[place] = number
        points: list[str] = []
        for row in rows[1:]:
            if "Points Possible" in row[0]:
                points = row
                for place, number in columns.items():
                    if row[place] and "read only" not in row[place]:
                        title, old = self.assignments[number]
                        assert float(row[place]) == old, f"the points of {title} are changed"
                continue
            if all(re.fullmatch(r"(?i)\s*(Muted|Manual Posting.*)?\s*", cell) for cell in row):
                continue
            user = self.find(row, head)
            if user is None:
                created.append(f"student {row[0]}")
                continue
            for place, number in columns.items():
                if points and "read only" in points[place]:
                    continue
                new, old = row[place].strip(), self.scores.get((user, number), "")
                if new.upper() == "EX":
                    new = "EX"
                alike = new == old or (
                    "EX" not in (new, old)
                    and new
                    and old
                    and f"{float(new):.2f}" == f"{float(old):.2f}"
                )
                if not alike:
                    changes[user, number] = new
        return changes, created

    @staticmethod
    def convert(cell: str) -> str:
        """`decimal_comma_to_period`."""
        if not re.fullmatch(r"-?[0-9.,]+%?", cell):
            return cell
        *whole, last = re.split("[,.]", cell)
        return f"{''.join(whole)}.{last}" if whole else last

    def find(self, row: list[str], head: list[str]) -> int | None:
        """`process_student`: by id, SIS id, login, name."""
        if row[1] and int(row[1]) in self.students:
            return int(row[1])
        cells = dict(zip(head, row, strict=False))
        for user, (name, sis, login) in self.students.items():
            if (
                sis == cells.get("SIS User ID")
                or login == cells.get("SIS Login ID")
                or name == row[0]
            ):
                return user
        return None


STUDENTS = {
    11: ("Lovelace, Ada", "S11", "ada"),
    12: ("Li, Wei", "S12", "wei1"),
    13: ("Li, Wei", "S13", "wei2"),
    14: ('O\'Neil "Zoë", Zoë', "S14", "zoe"),
    15: ("Kahn, Bob", "S15", "bob"),
    16: ("Excused, Eve", "S16", "eve"),
    17: ("Nothing, Nils", "S17", "nils"),
    99: ("Student, Test", "", "f00d"),
}
SCORES = {(15, 45): "10.00", (16, 45): "EX", (17, 45): "3.00", (11, 44): "7.50"}


def canvas() -> Canvas:
    return Canvas(STUDENTS, {44: ("Quiz", 10.0), 45: ("01_mini", 12.0)}, dict(SCORES))


def gradebook_file(
    path: Path,
    mark: str = ",",
    ends: str = "\n",
    encoding: str = "utf-8",
    quoting: int = csv.QUOTE_MINIMAL,
    comma: bool = False,
    title: str = "01_mini (45)",
    points: str = "12.00",
) -> Path:
    """Canvas's gradebook as it exports it."""
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Notes"]
    rows = [[*head, "Quiz (44)", title, "Final Score"]]
    rows.append(["Manual Posting", *[""] * 8])
    rows.append(["    Points Possible", *[""] * 5, "10.00", points, "(read only)"])
    for user, (name, sis, login) in STUDENTS.items():
        row = [name, str(user), sis, login, "Tuesday", "=note"]
        row += [SCORES.get((user, 44), ""), SCORES.get((user, 45), ""), "75.00"]
        rows.append(row)
    if comma:
        rows = [[re.sub(r"^(\d+)\.(\d+)$", r"\1,\2", cell) for cell in row] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark, lineterminator=ends, quoting=quoting).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


@pytest.fixture(scope="session")
def prepared(mini: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course where those of `STUDENTS` stand who handed in, with ids from Canvas."""
    course = copied(mini.root / "course", tmp_path_factory.mktemp("export"))
    lateness.set_due(LAB, "2026-11-30 12:00", course)
    people = {"ada": 11, "wei1": 12, "wei2": 13, "zoe": 14, "bob": 15, "eve": 16}
    for login, by_hand in zip(people, (2, 1, None, 0.5, 0, 2), strict=True):
        last, _, first = STUDENTS[people[login]][0].partition(", ")
        number = str(people[login])
        graded(course, login, by_hand, last_name=last, first_name=first, lms_user_id=number)
    with open_gradebook(course) as book:
        book.update_or_create_student("nils", lms_user_id="17")
    handed_in(course, "zoe", "2026-12-01 10:00:00 UTC")  # a day late: 10.5 less 1.05
    return course


@pytest.fixture
def course(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return copied(prepared, tmp_path)


def exported(course: Path, path: Path, provisional: bool = False, column: str | None = None):
    """The plan for Canvas's file, and the bytes that would be written."""
    plan = plan_canvas(path, LAB, marks([LAB], course), column, provisional)
    return plan, plan.sheet.changed()


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"ends": "\r\n", "encoding": "utf-8-sig"},
        {"quoting": csv.QUOTE_ALL},
        {"mark": ";", "comma": True},
        {"comma": True},
    ],
    ids=str,
)
def test_canvas_takes_what_we_write_and_nothing_else_changes(course, tmp_path, style) -> None:
    path = gradebook_file(tmp_path / "canvas.csv", **style)
    before = path.read_bytes()
    plan, content = exported(course, path)
    changes, created = canvas().upload(content)
    assert created == []
    # Wei Li's second mark waits for a TA; Bob's is there already; Eve is excused.
    assert {user: value for (user, _), value in changes.items()} == {
        11: "12",
        12: "11",
        14: "9.45",
    }
    assert {number for _, number in changes} == {45}
    assert path.read_bytes() == before  # written nowhere yet
    lines = zip(before.splitlines(True), content.splitlines(True), strict=True)
    differing = [(old, new) for old, new in lines if old != new]
    assert len(differing) == 3
    for old, new in differing:  # Only one cell differs, and its line around it doesn't.
        same = 0
        while old[same] == new[same]:
            same += 1
        tail = 0
        while old[-1 - tail] == new[-1 - tail]:
            tail += 1
        assert not re.search(rb"[A-Za-z=]", new[same : len(new) - tail])
    why = {line.who: line for line in plan.lines}
    assert why["Kahn, Bob"].why == "the same already"
    assert why["Excused, Eve"] == Line("Excused, Eve", "EX", "", "excused, left so")
    assert why["Nothing, Nils"].why == "nothing graded, left as it is"
    assert "Student, Test" not in why


def test_marks_that_are_not_final_are_written_only_on_request(course: Path, tmp_path) -> None:
    path = gradebook_file(tmp_path / "canvas.csv")
    plan, _ = exported(course, path)
    waits = (
        "waits for a mark given by hand, with `autograder questions` or in nbgrader's formgrader"
    )
    assert waits in [line.why for line in plan.lines if not line.then]
    plan, content = exported(course, path, provisional=True)
    assert canvas().upload(content)[0][13, 45] == "10"
    assert waits in [line.why for line in plan.lines if line.then]


@pytest.mark.parametrize("provisional", [False, True])
def test_failed_and_ungraded_marks_are_never_written(course, tmp_path, provisional) -> None:
    folder = course / "results" / LAB
    folder.mkdir(parents=True)
    with open_gradebook(course) as book:
        book.update_or_create_student("wei1", email="wei1@uni.example")
    Result("ada", LAB, "failed", 0, 10, "the disk is full").write(folder / "ada.json")
    wei = Student("Wei", "Li", 0, "wei1", [("a.ipynb", b"{}")], handed_in=DUE)
    path = gradescope_zip(tmp_path / "z.zip", [wei])
    rows, _ = collect(LAB, [path], course)
    assert [row.student for row in rows] == ["wei1"]
    plan, content = exported(course, gradebook_file(tmp_path / "canvas.csv"), provisional)
    changed = {user for user, _ in canvas().upload(content)[0]}
    assert not changed & {11, 12}
    why = [line.why for line in plan.lines]
    assert "failed: the disk is full" in why
    assert f"collected and not graded yet: `autograder grade {LAB}`" in why
    points = {one.student.student: one.points for one in marks([LAB], course)}
    assert (points["ada"], points["wei1"]) == (None, None)


@pytest.mark.parametrize("title", ["Lab 1 (45)", "01_mini", "01_mini 2 (45)"])
def test_a_column_that_is_not_the_labs_is_never_guessed(course, tmp_path, title: str) -> None:
    path = gradebook_file(tmp_path / "canvas.csv", title=title)
    with pytest.raises(ExportError, match=r"has no column for the lab 01_mini.*'Quiz \(44\)'"):
        exported(course, path)
    if "(45)" in title:
        for column in (title, "45", "(45)"):
            assert canvas().upload(exported(course, path, column=column)[1])[1] == []
    with pytest.raises(ExportError, match="no column for --column 'Final Score'"):
        exported(course, path, column="Final Score")


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ({"points": "100.00"}, "Canvas gives 100.00 points at most, the lab has 12: make it 12"),
        ({"points": ""}, "Canvas gives no points at most"),
        ({"points": "(read only)"}, "is read only: choose another"),
        ({"encoding": "utf-16"}, "is UTF-16, which nobody imports"),
    ],
    ids=str,
)
def test_files_that_can_not_take_the_marks(course: Path, tmp_path, style, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        exported(course, gradebook_file(tmp_path / "canvas.csv", **style))


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Student,ID\nx,1\n", "PK\x03\x04"])
def test_files_that_are_no_gradebook(course: Path, tmp_path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ExportError, match=r"x\.csv (is no gradebook of Canvas's|can't be read)"):
        exported(course, tmp_path / "x.csv")


def test_a_broken_quotation_is_said_with_its_line(course: Path, tmp_path) -> None:
    (tmp_path / "x.csv").write_text('Student,ID\n"Ada" x,1\n')
    with pytest.raises(ExportError, match=r"x\.csv, line 2: a quotation mark"):
        exported(course, tmp_path / "x.csv")


def test_whoever_is_missing_or_doubled_is_said(course: Path, tmp_path) -> None:
    path = gradebook_file(tmp_path / "canvas.csv")
    text = path.read_text()
    ada = next(line for line in text.splitlines() if "Lovelace" in line)
    text = text.replace('"Kahn, Bob",15', '"Other, One",1500')
    path.write_text(f"{text}{ada}\n")
    plan, content = exported(course, path)
    assert 11 not in {user for user, _ in canvas().upload(content)[0]}
    why = {line.who: line.why for line in plan.lines}
    assert "several rows for ada" in why["Lovelace, Ada"]
    assert why["Other, One"] == "nobody in this course, left as it is"
    assert why["bob"] == "has a mark here and no row in the file"


def test_windows_western_characters_stay(course: Path, tmp_path) -> None:
    path = gradebook_file(tmp_path / "canvas.csv", encoding="cp1252")
    _, content = exported(course, path)
    assert "Zoë".encode("cp1252") in content
    assert b"9.45" in content


def test_late_by_nobody_knows_how_much(course: Path, tmp_path) -> None:
    folder = course / "collected" / LAB
    folder.mkdir(parents=True)
    (folder / "collected.json").write_text(json.dumps({"late": {"ada": True}}))
    plan, content = exported(course, gradebook_file(tmp_path / "canvas.csv"))
    assert 11 not in {user for user, _ in canvas().upload(content)[0]}
    assert any("late.toml can say when" in line.why for line in plan.lines)
    with (course / "late.toml").open("a") as file:
        file.write(f'[handed_in.{LAB}]\nada = "2026-12-02 11:00"\n')
    _, content = exported(course, gradebook_file(tmp_path / "canvas.csv"))
    assert canvas().upload(content)[0][11, 45] == "9.6"


# Moodle

HEAD = ["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum grade"]
HEAD += ["Grade can be changed", "Last modified (submission)", "Last modified (grade)", "Feedback"]
GERMAN = ["ID", "Vollständiger Name", "E-Mail-Adresse", "Status", "Bewertung", "Höchste Bewertung"]
GERMAN += ["Bewertung kann geändert werden", "Zuletzt geändert (Abgabe)"]
GERMAN += ["Zuletzt geändert (Bewertung)", "Feedback"]


def worksheet(path: Path, head=HEAD, prefix="Participant", maximum="12.00", locked=()) -> Path:
    """Moodle's grading worksheet for ada, two of the name Wei Li, and bob, who has a grade."""
    rows = [head]
    people = {301: "Ada Lovelace", 302: "Wei Li", 303: "Wei Li", 305: "Bob Kahn"}
    for number, name in people.items():
        changeable = "No" if number in locked else "Yes"
        grade = "10.00" if number == 305 else ""
        row = [f"{prefix} {number}", name, "", "Submitted", grade, maximum, changeable]
        rows.append([*row, "Monday, 30 November 2026, 11:59 PM", "-", "<p>well, done</p>"])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def moodle_takes(content: bytes, head=HEAD, prefix="Participant", maximum=12.0) -> dict[int, str]:
    """What assign_feedback_offline does with a worksheet: the grade of each participant."""
    first, *rows = csv.reader(io.StringIO(content.decode("utf-8")))
    assert first == head
    grade, modified = head.index(head[4]), head.index(head[8])
    taken = {}
    for row in rows:
        number = int(row[head.index(head[0])][len(prefix) :])
        if row[modified] != "-" or row[6] == "No":  # The server's own time is "never".
            continue
        if row[grade] and 0 <= float(row[grade].replace(",", ".")) <= maximum:
            taken[number] = row[grade]
    return taken


NUMBERS = {"302": "wei1", "303": "wei2"}


def test_moodle_takes_what_we_write_and_nothing_else_changes(course: Path, tmp_path) -> None:
    path = worksheet(tmp_path / "m.csv", locked=(302,))
    plan = plan_moodle(path, LAB, marks([LAB], course), None, True, NUMBERS)
    content = plan.sheet.changed()
    assert moodle_takes(content) == {301: "12", 303: "10", 305: "10.00"}
    expected = path.read_bytes().replace(b"Submitted,,12.00,Yes", b"Submitted,12,12.00,Yes", 1)
    expected = expected.replace(b"Submitted,,12.00,Yes", b"Submitted,10,12.00,Yes", 1)
    assert content == expected
    why = [(line.who, line.then, line.why) for line in plan.lines]
    assert ("Wei Li", "", "Moodle says that the grade can't be changed") in why
    assert ("Bob Kahn", "", "the same already") in why


def test_in_moodle_names_alone_don_t_mix_up_two_of_one_name(course: Path, tmp_path) -> None:
    path = worksheet(tmp_path / "m.csv")
    plan = plan_moodle(path, LAB, marks([LAB], course), None, True, {})
    assert moodle_takes(plan.sheet.changed()) == {301: "12", 305: "10.00"}


def test_a_worksheet_in_another_language(course: Path, tmp_path) -> None:
    path = worksheet(tmp_path / "m.csv", GERMAN, "Teilnehmer/in", "12,00")
    numbers = {"301": "ada", "302": "zoe"}
    found = marks([LAB], course)
    with pytest.raises(ExportError, match=r"which column of .* Name it with --column.*Bewertung"):
        plan_moodle(path, LAB, found, None, False, numbers)
    with pytest.raises(ExportError, match="has no column 'Note'"):
        plan_moodle(path, LAB, found, "Note", False, numbers)
    plan = plan_moodle(path, LAB, found, "Bewertung", False, numbers)
    taken = moodle_takes(plan.sheet.changed(), GERMAN, "Teilnehmer/in")
    assert taken == {301: "12", 302: "9,45", 305: "10.00"}
    assert any("whether the points fit wasn't checked" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("12.00", "100.00"), "Moodle gives 100.00 points at most, the lab has 12"),
        (("12.00", "Good"), "Moodle gives Good points at most, the lab has 12"),
        (("Participant", ""), "is no grading worksheet of Moodle's"),
        (("303", "302"), "is no grading worksheet of Moodle's"),
        ((",", ";"), "isn't separated by commas, which Moodle insists on"),
    ],
)
def test_worksheets_that_can_not_take_the_marks(course, tmp_path, change, said) -> None:
    path = worksheet(tmp_path / "m.csv")
    text = path.read_text()
    if change == (",", ";"):
        text = "\n".join(";".join(row) for row in csv.reader(text.splitlines()))
    path.write_text(text.replace(*change) if change[0] != "," else text)
    with pytest.raises(ExportError, match=said):
        plan_moodle(path, LAB, marks([LAB], course), None, False, NUMBERS)


# The course's own table


def test_the_courses_table(course: Path) -> None:
    with open_gradebook(course) as book:
        book.update_or_create_student("ada", last_name="=HYPERLINK(1)", email="@x")
    found = marks([LAB], course)
    export.write_csv(found, course / export.TABLE)
    content = (course / export.TABLE).read_bytes()
    rows = {row["student"]: row for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig")))}
    assert (rows["ada"]["last_name"], rows["ada"]["email"]) == ("'=HYPERLINK(1)", "'@x")
    zoe = {name.removeprefix(f"{LAB} "): value for name, value in rows["zoe"].items()}
    assert {name: zoe[name] for name in ("automatic", "by_hand", "days_late", "penalty")} == {
        "automatic": "10.0",
        "by_hand": "0.5",
        "days_late": "1",
        "penalty": "1.05",
    }
    assert rows["zoe"]["points"] == "9.45"
    assert rows["nils"]["points"] == "0.0"
    assert (rows["nils"][f"{LAB} points"], rows["nils"][f"{LAB} state"]) == ("", "missing")
    assert rows["wei2"][f"{LAB} state"].startswith("waits for a mark given by hand")
    assert export.TABLE != "grades.csv"  # which is nbgrader's own export's
    export.write_json(found, course / "grades.json")
    (record,) = (
        r for r in json.loads((course / "grades.json").read_text()) if r["student"] == "zoe"
    )
    assert record["labs"][LAB]["points"] == 9.45


def test_canvas_takes_a_new_file_for_an_assignment_that_it_has(course: Path) -> None:
    with open_gradebook(course) as book:
        book.update_or_create_student("bob", lms_user_id="anon_aB3")
    content, lines = export.new_canvas(LAB, 45, marks([LAB], course), provisional=False)
    changes, created = canvas().upload(content)
    assert created == []
    assert {user: float(mark) for (user, _), mark in changes.items()} == {
        11: 12,
        12: 11,
        14: 9.45,
        16: 12,
    }
    assert {number for _, number in changes} == {45}
    why = {line.who: line.why for line in lines}
    assert why["bob"].startswith("has no number of Canvas's: collect Canvas's zip")
    assert why["wei2"].startswith("waits for a mark given by hand")
    assert why["nils"] == "nothing graded, left as it is"
    assert "1 day late" in why["zoe"]


def test_a_lab_that_is_not_in_the_gradebook(course: Path) -> None:
    with pytest.raises(ExportError, match="has no lab 02_other: `autograder release 02_other`"):
        marks(["02_other"], course)
