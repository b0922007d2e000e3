"""From the gradebook to where grades are kept: the course's own table, Canvas's and Moodle's CSV.

The file that Canvas or Moodle gave is changed in one column's cells and stays as it is, byte for
byte, everywhere else.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from autograder.course import lateness, roster
from autograder.course.archives import replace_file
from autograder.course.collect import ungraded
from autograder.course.gradebook import grades, open_gradebook, submissions
from autograder.course.lateness import Lateness
from autograder.course.roster import Person
from autograder.grading.job import Result

# nbgrader's own export writes grades.csv, so ours is called otherwise.
TABLE = "course_grades.csv"
# What Canvas's importer takes for no assignment (NON_ASSIGNMENT_COLUMN_HEADERS).
NO_ASSIGNMENT = re.compile(
    r"(?:Current|Final) (?:Score|Points|Grade)|Override (?:Score|Grade|Status)"
)
NO_STUDENT = re.compile(r"\s*(?:Muted|Manual Posting.*)?\s*", re.I)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportError(Exception):
    """Nothing was exported; the message says why and what to do."""


@dataclass(frozen=True)
class Mark:
    """A student's mark for a lab.

    Attributes:
        automatic, by_hand: the points that tests and people gave.
        late: what is taken off, and what is left; None where nothing was graded that still stands.
        state: "final"; "missing", where nothing was handed in or graded; or why it isn't final.
    """

    student: Person
    lab: str
    automatic: float
    by_hand: float
    max_score: float
    late: Lateness | None
    state: str

    @property
    def points(self) -> float | None:
        """The points that count, or None where there are none."""
        return None if self.late is None else self.late.after

    @property
    def final(self) -> bool:
        return self.state == "final"


def marks(labs: Iterable[str], course: Path) -> list[Mark]:
    """Every student's mark for each of some labs, from the gradebook as it is now.

    Raises:
        ExportError: a lab isn't in the gradebook.
        LateError: late.toml can't be used.
    """
    people = {person.student: person for person in roster.known_people(course)}
    found = []
    for lab in labs:
        with open_gradebook(course) as book:
            maximum = {one.name: one.max_score for one in book.assignments}
        if lab not in maximum:
            raise ExportError(f"{course} has no lab {lab}: `autograder release {lab}` enters it")
        late = lateness.record(lab, course)
        cost = lateness.read_policy(course).percent_per_day
        waiting = ungraded(lab, course)
        with open_gradebook(course) as book:
            handed_in = {one.student_id: one for one in submissions(book, lab)}
            for student, person in sorted(people.items()):
                submission = handed_in.get(student)
                automatic = by_hand = 0.0
                if submission is not None:
                    given = grades(submission)
                    automatic = sum(g.auto_score or 0 for g in given if g.manual_score is None)
                    by_hand = sum(g.score for g in given) - automatic
                state, stands = _state(student, lab, course), True
                if student in waiting:
                    state = f"collected and not graded yet: `autograder grade {lab}`"
                    stands = False
                elif state.startswith("failed"):
                    stands = False
                elif submission is None:
                    state = state or "missing"
                elif any(grade.needs_manual_grade for grade in given):
                    state = state or (
                        "waits for a mark given by hand, with `autograder questions` or in"
                        " nbgrader's formgrader"
                    )
                elif late[student].late_but_unknown and cost:
                    state = state or late[student].sentence
                found.append(
                    Mark(
                        person,
                        lab,
                        automatic,
                        by_hand,
                        maximum[lab],
                        late.get(student) if stands else None,
                        state or "final",
                    )
                )
    return found


def _state(student: str, lab: str, course: Path) -> str:
    """Why the last grading gave no mark that stands, or ""."""
    try:
        result = Result.read(course / "results" / lab / f"{student}.json")
    except (OSError, ValueError):  # Graded by nbgrader itself, or by an earlier grader, or not.
        return ""
    return "" if result.status == "graded" else f"{result.status}: {result.reason}"


def table(found: list[Mark]) -> list[dict]:
    """One record for each student: who, and for each lab the points and how they came about."""
    records: dict[str, dict] = {}
    for mark in found:
        first, last = mark.student.first_and_last
        record = records.setdefault(
            mark.student.student,
            {
                "student": mark.student.student,
                "last_name": last,
                "first_name": first,
                "email": mark.student.email,
                "lms_user_id": mark.student.lms_user_id,
                "points": 0.0,
                "out_of": 0.0,
                "labs": {},
            },
        )
        record["points"] = round(record["points"] + (mark.points or 0), 6)
        record["out_of"] += mark.max_score
        record["labs"][mark.lab] = {
            "points": mark.points,
            "out_of": mark.max_score,
            "automatic": mark.automatic,
            "by_hand": mark.by_hand,
            "days_late": mark.late.days if mark.late else 0,
            "penalty": mark.late.penalty if mark.late else 0.0,
            "state": mark.state,
        }
    return list(records.values())


def write_json(found: list[Mark], path: Path) -> None:
    """Writes the course's table as JSON, whole or not at all."""
    replace_file(path, (json.dumps(table(found), indent=1, ensure_ascii=False) + "\n").encode())


def write_csv(found: list[Mark], path: Path) -> None:
    """Writes the course's table as CSV: a line for each student, columns for each lab. Text that a
    spreadsheet would take for a formula gets an apostrophe in front."""
    lines: list[list] = []
    for record in table(found):
        labs = record.pop("labs")
        cells = {
            f"{lab} {name}": value for lab, all_ in labs.items() for name, value in all_.items()
        }
        whole = record | cells
        if not lines:
            lines.append(list(whole))
        lines.append(["" if value is None else value for value in whole.values()])
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[_defused(cell) for cell in line] for line in lines])
    replace_file(path, text.getvalue().encode("utf-8-sig"))  # with the mark that Excel wants


def _defused(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


@dataclass(frozen=True)
class Field:
    """A field of a CSV: its place in the file's bytes, and its text."""

    start: int
    end: int
    text: str
    quoted: bool


class Sheet:
    """A CSV whose fields can be changed and whose other bytes stay what they are."""

    def __init__(self, path: Path) -> None:
        """Raises ExportError: there is no such file, or it can't be read as CSV."""
        self.path = path
        try:
            self.content = path.read_bytes()
            self.delimiter = roster.delimiter(roster.read_text(path)).encode()
        except (OSError, roster.RosterError) as error:
            raise ExportError(
                f"{path} can't be read: {getattr(error, 'strerror', error)}"
            ) from error
        if self.content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ExportError(f"{path} is UTF-16, which nobody imports: save it as CSV UTF-8")
        try:
            self.content.decode("utf-8")
            self.encoding = "utf-8"
        except UnicodeDecodeError:
            self.encoding = "cp1252"
        self.rows = self._rows()
        self.changes: dict[tuple[int, int], str] = {}
        marks = Counter(
            sign
            for row in self.rows
            for field in row
            for sign in re.findall(r"^-?\d+([.,])\d+$", field.text)
        )
        self.comma = marks[","] > marks["."]

    def _rows(self) -> list[list[Field]]:
        quoted = re.compile(rb'"(?:[^"]|"")*"')
        plain = re.compile(rb"[^\r\n" + re.escape(self.delimiter) + rb"]*")
        position = 3 if self.content.startswith(b"\xef\xbb\xbf") else 0
        rows: list[list[Field]] = []
        row: list[Field] = []
        while position < len(self.content) or row:
            is_quoted = self.content[position : position + 1] == b'"'
            match = (quoted if is_quoted else plain).match(self.content, position)
            after = self.content[match.end() : match.end() + 1] if match else b"?"
            if match is None or after not in (self.delimiter, b"\r", b"\n", b""):
                raise ExportError(
                    f"{self.path}, line {len(rows) + 1}: a quotation mark stands where none can:"
                    " export the file again"
                )
            text = match[0].decode(self.encoding, "replace")
            text = text[1:-1].replace('""', '"') if is_quoted else text
            row.append(Field(match.start(), match.end(), text, is_quoted))
            position = match.end() + len(after)
            if after != self.delimiter:
                if self.content[match.end() : position + 1] == b"\r\n":
                    position += 1
                rows.append(row)
                row = []
        return rows

    def text(self, row: int, column: int) -> str:
        """A cell's text without blanks around it; "" beyond the end of a row."""
        cells = self.rows[row]
        return cells[column].text.strip() if column < len(cells) else ""

    def number(self, points: float) -> str:
        """Points as this file writes numbers: to the hundredth, with its decimal sign."""
        text = f"{points:.2f}".rstrip("0").rstrip(".")
        return text.replace(".", ",") if self.comma else text

    def changed(self) -> bytes:
        """The file's bytes, with the changes."""
        content = self.content
        for (row, column), text in sorted(self.changes.items(), reverse=True):
            field = self.rows[row][column]
            cell = text.encode()
            if field.quoted or self.delimiter in cell:
                cell = b'"' + cell + b'"'
            content = content[: field.start] + cell + content[field.end :]
        return content


def value(text: str) -> float | None:
    """A number with either decimal sign, as Canvas's importer reads it; None of anything else."""
    if not re.fullmatch(r"-?[0-9.,]*[0-9]", text):
        return None
    *whole, last = re.split(r"[.,]", text)
    return float(f"{''.join(whole)}.{last}" if whole else last)


@dataclass(frozen=True)
class Line:
    """A line of the preview: who, what the cell holds, what it will hold ("" for the same), why."""

    who: str
    now: str
    then: str
    why: str


@dataclass
class Plan:
    """What an export would change in a file.

    Attributes:
        column: the header of the column.
        lines: everybody in the file or with a mark, with what becomes of them.
        notes: sentences about the whole.
    """

    sheet: Sheet
    column: str
    lines: list[Line]
    notes: list[str]


def plan_canvas(
    path: Path, lab: str, found: list[Mark], column: str | None, provisional: bool
) -> Plan:
    """What would change in Canvas's gradebook.

    Args:
        found: the lab's marks.
        column: the header "Title (ID)" or the id alone; if None, the column titled like the lab.
        provisional: whether marks that aren't final are written, too.

    Raises:
        ExportError: it is no gradebook of Canvas's, or has no such column, or one that can't take
            the marks.
    """
    sheet = Sheet(path)
    head = [field.text.strip() for field in sheet.rows[0]] if sheet.rows else []
    if "ID" not in head or "Section" not in head or head[0] not in ("Student", "LastName"):
        raise ExportError(
            f"{path} is no gradebook of Canvas's, which begins with Student, ID and has a Section:"
            " choose Grades, Export, Export Entire Gradebook"
        )
    candidates = [
        place
        for place in range(head.index("Section") + 1, len(head))
        if head[place] and not NO_ASSIGNMENT.search(head[place])
    ]
    chosen = _column(path, lab, head, candidates, column)
    possible = None
    rows = []
    for row, fields in enumerate(sheet.rows[1:], 1):
        if "Points Possible" in fields[0].text:
            possible = row
        elif not all(NO_STUDENT.fullmatch(field.text) for field in fields):
            rows.append(row)
    notes = []
    if possible is None:
        notes.append(f"{path} has no row Points Possible, so nobody knows what Canvas's maximum is")
    else:
        cell = sheet.text(possible, chosen)
        if "read only" in cell:
            raise ExportError(f"Canvas says that {head[chosen]!r} is read only: choose another")
        _check_maximum(f"{path}: Canvas", value(cell), cell, found[0].max_score if found else None)
    people = {}
    for row in rows:
        cells = {name: sheet.text(row, place) for place, name in enumerate(head)}
        login = cells.get("SIS Login ID", "")
        name = cells.get("Student") or f"{cells.get('LastName')}, {cells.get('FirstName')}"
        if name == "Student, Test":
            continue
        people[row] = Person(
            name=name,
            email=login if "@" in login else "",
            lms_user_id=cells["ID"],
            login=login.partition("@")[0],
        )
    who = {
        row: roster.same(person, [mark.student for mark in found]) for row, person in people.items()
    }
    lines = _fill(sheet, chosen, people, who, found, provisional, lambda row: "")
    return Plan(sheet, head[chosen], lines, notes)


def new_canvas(
    lab: str, assignment: int, found: list[Mark], provisional: bool
) -> tuple[bytes, list[Line]]:
    """The least that Canvas imports, where its own gradebook isn't at hand: only those whose mark
    is written have a row, as an empty cell would take a score away, and there is no row of points
    possible, which would change the assignment's.

    Args:
        assignment: its number in Canvas, the last one in its address; without it, Canvas would
            create an assignment.

    Returns:
        The file, and everybody with what becomes of them.
    """
    rows = [["Student", "ID", "SIS Login ID", "Section", f"{lab} ({assignment})"]]
    lines = []
    for mark in found:
        user, points = mark.student.lms_user_id, f"{mark.points or 0:.2f}"
        why = _refusal(mark, provisional)
        if not why and not user.isdigit():
            why = (
                "has no number of Canvas's: collect Canvas's zip, or give its gradebook as --roster"
            )
        if not why:
            rows.append([str(_defused(mark.student.name)), user, "", "", points])
        lines.append(Line(mark.student.student, "", "" if why else points, why or _remark(mark)))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(), lines


def plan_moodle(
    path: Path,
    lab: str,
    found: list[Mark],
    column: str | None,
    provisional: bool,
    participants: dict[str, str],
) -> Plan:
    """What would change in Moodle's grading worksheet; see `plan_canvas`.

    Args:
        participants: the student of each participant number, as collecting found out.
    """
    sheet = Sheet(path)
    head = [field.text.strip() for field in sheet.rows[0]] if sheet.rows else []
    rows = [row for row, fields in enumerate(sheet.rows[1:], 1) if any(f.text for f in fields)]
    records = [[sheet.text(row, place) for place in range(len(head))] for row in rows]
    identifier = roster.identifier_column(records)
    if identifier is None:
        raise ExportError(
            f"{path} is no grading worksheet of Moodle's, which has Participant 123 and the like in"
            " a column: choose Grading action, Download grading worksheet"
        )
    if sheet.delimiter != b",":
        raise ExportError(
            f"{path} isn't separated by commas, which Moodle insists on: download the worksheet"
            " again, and don't save it from a spreadsheet"
        )
    if column is None and "Grade" in head:
        column = "Grade"
    if column is None:
        raise ExportError(
            f"which column of {path} holds the grade? Name it with --column; there are:"
            f" {', '.join(head)}"
        )
    if head.count(column) != 1:
        raise ExportError(f"{path} has no column {column!r}; there are: {', '.join(head)}")
    chosen = head.index(column)
    notes = ["Moodle skips whoever got a grade there since the worksheet was downloaded"]
    maximum = head.index("Maximum grade") if "Maximum grade" in head else None
    if maximum is None:
        notes.append("no column Maximum grade: whether the points fit wasn't checked")
    else:
        for row in rows:
            cell = sheet.text(row, maximum)
            most = found[0].max_score if found else None
            _check_maximum(f"{path}: Moodle", value(cell), cell, most)
    locked = head.index("Grade can be changed") if "Grade can be changed" in head else None
    email = next((p for p, name in enumerate(head) if name.casefold() == "email address"), None)
    name = head.index("Full name") if "Full name" in head else None
    people, who = {}, {}
    for row in rows:
        number = re.sub(r"\D", "", sheet.text(row, identifier))
        people[row] = Person(
            name=sheet.text(row, name) if name is not None else sheet.text(row, identifier),
            email=sheet.text(row, email) if email is not None else "",
        )
        students = [mark.student for mark in found]
        known = [one for one in students if one.student == participants.get(number)]
        who[row] = known[0] if known else roster.same(people[row], students)

    def unchangeable(row: int) -> str:
        said = sheet.text(row, locked) if locked is not None else ""
        return "Moodle says that the grade can't be changed" if said == "No" else ""

    lines = _fill(sheet, chosen, people, who, found, provisional, unchangeable)
    return Plan(sheet, column, lines, notes)


def _column(
    path: Path, lab: str, head: list[str], candidates: list[int], column: str | None
) -> int:
    """The column for a lab; never one that would make Canvas create an assignment."""
    named = {place: re.fullmatch(r"(.*?)\s*\((\d+)\)", head[place]) for place in candidates}
    if column is not None:
        found = [
            place
            for place, match in named.items()
            if head[place] == column.strip() or (match and match[2] == column.strip("() "))
        ]
    else:
        wanted = roster.key(lab)
        found = [p for p, match in named.items() if match and roster.key(match[1]) == wanted]
    if len(found) != 1:
        what = f"--column {column!r}" if column is not None else f"the lab {lab}"
        raise ExportError(
            f"{path} has {'no column' if not found else f'{len(found)} columns'} for {what}; name"
            f" one with --column: {', '.join(repr(head[p]) for p in found or candidates) or 'none'}"
        )
    return found[0]


def _check_maximum(place: str, there: float | None, cell: str, ours: float | None) -> None:
    if ours is not None and there != ours:
        raise ExportError(
            f"{place} gives {cell or 'no'} points at most, the lab has {ours:g}: make it {ours:g}"
            " there, and export the file again"
        )


def _refusal(mark: Mark, provisional: bool) -> str:
    """Why a mark isn't to be written; "" if it is."""
    if mark.points is None or (not mark.final and not provisional):
        return "nothing graded, left as it is" if mark.state == "missing" else mark.state
    if not 0 <= mark.points <= mark.max_score:
        return f"{mark.points:g} is not between 0 and {mark.max_score:g}: look at the gradebook"
    return ""


def _remark(mark: Mark) -> str:
    """What to say of a mark that is written: lateness, and why it isn't final."""
    said = [mark.late.sentence if mark.late else "", "" if mark.final else mark.state]
    return "; ".join(filter(None, said))


def _fill(
    sheet: Sheet,
    column: int,
    people: dict[int, Person],
    who: dict[int, Person | None],
    found: list[Mark],
    provisional: bool,
    unchangeable: Callable[[int], str],
) -> list[Line]:
    """Plans every row's change, and says what becomes of each, and whose mark finds no row."""
    by_student = {mark.student.student: mark for mark in found}
    often = Counter(person.student for person in who.values() if person)
    lines = []
    for row, person in people.items():
        now = sheet.text(row, column)
        match = who[row]
        mark = by_student[match.student] if match else None
        then, why = "", ""
        if mark is None:
            why = "nobody in this course, left as it is"
        elif often[mark.student.student] > 1:
            why = f"several rows for {mark.student.student}, none changed: mend the file's ids"
        elif column >= len(sheet.rows[row]):
            why = "the row ends before this column: export the file again"
        elif now.upper() == "EX":
            why = "excused, left so"
        elif said := _refusal(mark, provisional) or unchangeable(row):
            why = said
        elif value(now) is not None and round(value(now) or 0, 2) == round(mark.points or 0, 2):
            why = "the same already"
        else:
            then = sheet.number(mark.points or 0)
            sheet.changes[row, column] = then
            why = _remark(mark)
        lines.append(Line(person.name, now, then, why))
    present = {person.student for person in who.values() if person}
    for mark in found:
        if mark.points is not None and mark.student.student not in present:
            why = "has a mark here and no row in the file"
            lines.append(Line(mark.student.student, "", "", why))
    return lines
