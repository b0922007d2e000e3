"""A made-up class, and what Canvas, Moodle and Gradescope give a TA of it.

Written after those systems' own sources (`content_zipper.rb`, `downloader.php`, third-party readers
of Gradescope's metadata), not after our reader of them.
"""

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

MADE = datetime(2026, 12, 4, 9, 0, tzinfo=UTC)  # when the TA clicked on “Download”
DUE = datetime(2026, 11, 30, 22, 59, tzinfo=UTC)


@dataclass
class Student:
    """Somebody in the class: names, and numbers at each place. `handed_in` is None where nothing
    was; `files` are by the student's own name for them."""

    first: str
    last: str
    number: int
    login: str
    files: list[tuple[str, bytes]] = field(default_factory=list)
    text: bool = False
    left: bool = False
    handed_in: datetime | None = None

    @property
    def user_id(self) -> int:
        return 12000 + self.number

    @property
    def participant(self) -> int:
        return 300 + self.number

    @property
    def email(self) -> str:
        return f"{self.login}@uni.example"

    @property
    def late(self) -> bool:
        return self.handed_in is not None and self.handed_in > DUE


NAMES = [
    *(("Ada", "Lovelace"), ("Zoë", "O'Neil-Smith"), ("Wei", "Li"), ("Wei", "Li")),
    *(("José", "Muñoz Ñandú"), ("小龙", "李"), ("John", "Smith_2"), ("Mary_Ann", "van der Berg")),
    *(("Anna", "Straße"), ("Łukasz", "Żak"), ("X Æ 12", "Musk"), ("Ольга", "Иванова")),
]


def zipped(files: list[tuple[str, bytes]]) -> bytes:
    """A zip, as a student makes one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def made_class(
    notebook: bytes, lab: str, size: int = 60, others: Sequence[bytes] = ()
) -> list[Student]:
    """A class in which everything happens; the same at every call.

    Args:
        notebook: the lab's, as somebody handed it in; everybody's differs by a blank at the end.
        others: further ones: those after the first 22 students hand these in as well, in turn.
    """
    notebooks = [notebook, *others]
    picture = b"\x89PNG\r\n\x1a\n" + bytes(20)
    students = []
    for number in range(size):
        first, last = NAMES[number] if number < len(NAMES) else (f"First{number}", f"Last{number}")
        login = f"liwei{number}" if first == "Wei" else re.sub(r"\W", "", f"{first[0]}{last}")
        login = login.lower() if login.isascii() else f"u{number}"
        student = Student(first, last, number, login)
        own = notebooks[number % len(notebooks) if number > 21 else 0] + b" " * number
        student.handed_in = DUE - timedelta(minutes=(number * 37) % 600)
        student.files = {
            13: [(f"{lab}.ipynb", own), ("figure.png", picture), ("scratch.ipynb", b"{}")],
            14: [(f"{lab}.ipynb", b"{}"), (f"{lab}-1.ipynb", own + b"\n"), (f"{lab}-2.ipynb", own)],
            15: [("hand-in.zip", zipped([(f"work/{lab}.ipynb", own), ("__MACOSX/._x", b"")]))],
            16: [("report.pdf", b"%PDF-1.7")],
            17: [],
            18: [],
            21: [("my work_1_2 (final).ipynb", own)],
        }.get(number, [(f"{lab}.ipynb", own)])
        if number == 17:
            student.text = True
        if number == 18:
            student.handed_in = None
        student.left = number == 19
        if number in (0, 20):
            student.handed_in = DUE + timedelta(days=1, minutes=number)
        students.append(student)
    return students


def write_zip(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    """A zip as a server streams it: UTF-8 names, and at each entry the time of writing it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(entries):
            time = MADE + timedelta(seconds=number // 5 * 2)
            archive.writestr(zipfile.ZipInfo(name, time.timetuple()[:6]), content)
    return path


def canvas_name(student: Student) -> str:
    """`get_user_name` and `get_filename` of content_zipper.rb."""
    name = re.sub(r"_(\d+)_", r"\1", f"{student.last}, {student.first}").lower()
    whole = "_".join([name, *["LATE"] * student.late, str(student.user_id)])
    return re.sub(r"[^\w]", "", whole)


def canvas_zip(path: Path, students: list[Student], anonymous: bool = False) -> Path:
    """Canvas's “Download submissions”."""
    entries = []
    for student in students:
        prefix = canvas_name(student)
        if anonymous:
            prefix = "LATE_" * student.late + f"anon_{student.number:02}xYz"
        for place, (name, content) in enumerate(student.files):
            attachment = 67000 + 10 * student.number + place
            safe = re.sub(r'[\x00/\\:*?"<>|]+', "_", name)
            if student.handed_in:
                entries.append((f"{prefix}_{attachment}_{safe}", content))
        if student.text:
            entries.append((f"{prefix}_text.html", b"<p>see my web page</p>"))
    return write_zip(path, entries)


def canvas_gradebook(path: Path, students: list[Student], title: str, points: float) -> Path:
    """Canvas's gradebook as it exports it, with a column for the lab and one for another."""
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    head += ["Quiz 1 (4400)", title, "Final Score"]
    rows = [head, ["Manual Posting"] + [""] * 7]
    rows += [["    Points Possible", "", "", "", "", "10.00", f"{points:.2f}", "(read only)"]]
    for student in students:
        if not student.left:
            name = f"{student.last}, {student.first}"
            row = [name, student.user_id, f"S{student.number:04}", student.login, "Tuesday"]
            rows.append([*row, "7.50", "", "75.00"])
    rows.append(["Student, Test", "99999", "", "a1b2c3", "Tuesday", "", "", "0.0"])
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def moodle_name(student: Student) -> str:
    """The full name, without `_` and what `clean_filename` takes away."""
    return re.sub(r'[:*?"<>|/\\\']', "", f"{student.first} {student.last}".replace("_", " "))


def moodle_zip(
    path: Path,
    students: list[Student],
    folders: bool = True,
    blind: bool = False,
    teams: dict[str, tuple[int, list[Student]]] | None = None,
) -> Path:
    """Moodle's “Download all submissions”.

    Args:
        folders: whether “Download submissions in folders” is on.
        teams: a group's name: its id, and its members; only the first one's files are taken.
    """
    entries = []

    def add(prefix: str, student: Student) -> None:
        for name, content in student.files:
            if folders:
                entries.append((f"{prefix}_assignsubmission_file/{name}", content))
            else:
                entries.append((f"{prefix}_assignsubmission_file_{name}", content))
        if student.text:
            joint = "/" if folders else "_"
            text = f"{prefix}_assignsubmission_onlinetext{joint}onlinetext.html"
            entries.append((text, b"<p>see my web page</p>"))

    for student in students:
        name = "Participant" if blind else moodle_name(student)
        if student.handed_in and not teams:
            add(f"{name}_{student.participant}", student)
    for name, (number, members) in (teams or {}).items():
        add(f"{name.replace('_', ' ')}_{number}", members[0])
    return write_zip(path, entries)


def moodle_worksheet(
    path: Path,
    students: list[Student],
    points: float,
    email: bool = True,
    groups: dict[str, tuple[int, list[Student]]] | None = None,
) -> Path:
    """Moodle's grading worksheet."""
    head = [
        "Identifier",
        "Full name",
        *["Email address"] * email,
        "Status",
        *["Group"] * bool(groups),
    ]
    head += ["Grade", "Maximum grade", "Grade can be changed", "Last modified (submission)"]
    head += ["Last modified (grade)", "Feedback comments"]
    team = {id(one): name for name, (_, all_) in (groups or {}).items() for one in all_}
    rows = [head]
    for student in students:
        if student.left:
            continue
        time = "-"
        if student.handed_in:
            there = student.handed_in + timedelta(hours=1)  # Berlin, in winter
            time = f"{there:%A}, {there.day} {there:%B %Y}, {there:%I:%M %p}"
        row = [f"Participant {student.participant}", f"{student.first} {student.last}"]
        row += [student.email] * email + ["Submitted for grading - "]
        row += [team.get(id(student), "Default group")] * bool(groups)
        rows.append([*row, "", f"{points:.2f}", "Yes", time, "-", ""])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def gradescope_zip(path: Path, students: list[Student], ruby: bool = False) -> Path:
    """Gradescope's “Export submissions”.

    Args:
        ruby: times as Rails's own objects, rather than plain.
    """
    root = "assignment_4711_export"
    lines, entries = ["---"], []
    for student in students:
        if not student.handed_in:
            continue
        folder = f"submission_{880000 + student.number}"
        time = f"{student.handed_in:%Y-%m-%d %H:%M:%S}.123456789 Z"
        name = f"{student.first} {student.last}".replace("'", "''")
        lines += [f"{folder}:", "  :submitters:", f"  - :name: '{name}'"]
        lines += [f"    :sid: S{student.number:04}", f"    :email: {student.email}"]
        if ruby:
            lines += ["  :created_at: !ruby/object:ActiveSupport::TimeWithZone"]
            lines += [f"    utc: {time}", "    zone: !ruby/object:ActiveSupport::TimeZone"]
            lines += ["      name: America/Los_Angeles", f"    time: {time}"]
        else:
            lines += [f"  :created_at: {time}"]
        lines += ["  :score: 0.0", "  :results:", "    :tests: []", "  :history: []"]
        entries += [(f"{root}/{folder}/{name}", content) for name, content in student.files]
        if student.text:
            entries.append((f"{root}/{folder}/answer.txt", b"see my web page"))
    metadata = "\n".join(lines).encode() + b"\n"
    return write_zip(path, [(f"{root}/submission_metadata.yml", metadata), *entries])


def nfd(text: str) -> str:
    """A name with its accents as signs of their own, as macOS writes them."""
    return unicodedata.normalize("NFD", text)
