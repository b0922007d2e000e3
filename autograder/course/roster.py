"""Who is in the course: the list that the place of hand-in exports, and nbgrader's students."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from nbgrader.api import Student

from autograder.course.gradebook import open_gradebook

# Names that Windows keeps for itself, and nbgrader's word for nobody.
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?|\.*")
FIRST_LINES = 3  # Canvas decides by these, too, what separates the fields.


class RosterError(Exception):
    """A roster can't be used; the message names the file and says what to do."""


@dataclass(frozen=True)
class Person:
    """Somebody in a roster, or whom an archive names; "" for what isn't known.

    Attributes:
        student: the id in this course, which is also the name of the student's folders.
        name: in full, as written where it comes from ("Lovelace, Ada" or "Ada Lovelace").
        lms_user_id: Canvas's user id. Moodle has none that stays the same from lab to lab.
        participant: Moodle's number for somebody in one assignment.
        login, sis: what the university calls them, as far as the roster says.
        handed_in: when they handed in, in Moodle's words.
        groups: all that the roster says of them, where a team's name is found again.
    """

    name: str
    student: str = ""
    email: str = ""
    lms_user_id: str = ""
    participant: str = ""
    login: str = ""
    sis: str = ""
    handed_in: str = ""
    groups: frozenset[str] = frozenset()

    @property
    def first_and_last(self) -> tuple[str, str]:
        """First and last name; of a name without a comma, the last word is the last name."""
        last, comma, first = self.name.partition(",")
        if not comma:
            first, _, last = self.name.strip().rpartition(" ")
        return first.strip(), last.strip()


def key(text: str) -> str:
    """A name as it is compared: any normal form, case and punctuation mean the same."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LMN")


def name_keys(name: str) -> set[str]:
    """A full name's keys, in either order of first and last name; of a name without a comma, each
    of its words may begin the last name."""
    last, comma, first = name.partition(",")
    if comma:
        return {key(last + first), key(first + last)}
    words = name.split()
    return {key("".join(words[n:] + words[:n])) for n in range(len(words))}


def read_text(path: Path) -> str:
    """A CSV's text: UTF-8, UTF-16 with its mark, or else Windows's Western characters.

    Raises:
        RosterError: there is no such file, or it isn't text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RosterError(f"{path} can't be read: {error.strerror}") from error
    if content[:4] == b"PK\x03\x04":
        raise RosterError(f"{path} is a spreadsheet or a zip: export the list as CSV")
    for encoding in ["utf-16"] if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig"]:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            break
    return content.decode("cp1252", "replace")


def delimiter(text: str) -> str:
    """What separates the fields of a CSV: what splits its first lines alike, and into the most."""
    lines = text.splitlines()[:FIRST_LINES]
    counts = {}
    for mark in ",;\t":
        widths = {len(row) for row in csv.reader(lines, delimiter=mark)}
        counts[mark] = widths.pop() if len(widths) == 1 else 0
    return max(counts, key=lambda mark: counts[mark])


def read_roster(path: Path) -> list[Person]:
    """The people in a CSV: Canvas's gradebook, Moodle's grading worksheet, or a list with the
    columns `student`, `name`, `email` (in any order; name and email may be missing).

    Raises:
        RosterError: it is none of these, or names nobody.
    """
    text = read_text(path)
    rows = [row for row in csv.reader(io.StringIO(text, ""), delimiter=delimiter(text)) if any(row)]
    head = [cell.strip() for cell in rows[0]] if rows else []
    width = len(head)
    records = [row + [""] * (width - len(row)) for row in rows[1:]]
    lower = [cell.casefold() for cell in head]
    if "ID" in head and (head[0].startswith("Student") or head[0] == "LastName"):
        people = _canvas(head, records)
    elif (column := identifier_column(records)) is not None:
        people = _moodle(lower, records, column)
    elif "student" in lower:
        people = [
            Person(
                student=slug(_cell(row, lower, "student")),
                name=_cell(row, lower, "name") or _cell(row, lower, "student"),
                email=_cell(row, lower, "email"),
                login=_cell(row, lower, "student"),
                lms_user_id=_cell(row, lower, "lms_user_id"),
            )
            for row in records
        ]
    else:
        raise RosterError(
            f"{path} is no roster: give Canvas's gradebook (columns Student, ID, …), Moodle's"
            " grading worksheet (with Participant 123 and the like in a column), or a CSV with the"
            " columns student, name, email"
        )
    if not people:
        raise RosterError(f"{path} names no student: export it again, with all students in it")
    for student, count in Counter(person.student for person in people if person.student).items():
        if count > 1:
            raise RosterError(
                f"{path} has {student!r} {count} times: give everybody an id of theirs"
            )
    return people


def _cell(row: list[str], head: list[str], *names: str) -> str:
    return next((row[head.index(name)].strip() for name in names if name in head), "")


def _canvas(head: list[str], records: list[list[str]]) -> list[Person]:
    people: dict[str, Person] = {}  # Somebody in two sections may have two rows.
    for row in records:
        number = _cell(row, head, "ID")
        name = (
            f"{_cell(row, head, 'LastName')}, {_cell(row, head, 'FirstName')}"
            if "LastName" in head
            else row[0].strip()
        )
        if not number or "Points Possible" in row[0] or name == "Student, Test":
            continue
        login = _cell(row, head, "SIS Login ID")
        people[number] = Person(
            name=name,
            email=login if "@" in login else "",
            lms_user_id=number,
            login=login.partition("@")[0],
            sis=_cell(row, head, "SIS User ID"),
        )
    return list(people.values())


def identifier_column(records: list[list[str]]) -> int | None:
    """The column of a Moodle worksheet whose cells all read "Participant 123", in any language."""
    for column in range(min(map(len, records), default=0)):
        found = [re.fullmatch(r"(\D*\D)(\d+)", row[column].strip()) for row in records]
        if all(found) and len({match[1] for match in found if match}) == 1:
            numbers = {match[2] for match in found if match}
            if len(numbers) == len(records):
                return column
    return None


def _moodle(head: list[str], records: list[list[str]], identifier: int) -> list[Person]:
    email = next(
        (
            column
            for column in range(len(head))
            if all(re.fullmatch(r"\S+@\S+", row[column].strip()) for row in records)
        ),
        None,
    )
    # The full name follows the identifier, in every language; blind marking leaves it out.
    named = "full name" in head or (
        identifier + 1 < len(head) and identifier + 1 != email and "status" not in head[:2]
    )
    column = head.index("full name") if "full name" in head else identifier + 1
    people = []
    for row in records:
        number = re.sub(r"\D", "", row[identifier])
        address = row[email].strip() if email is not None else ""
        people.append(
            Person(
                name=row[column].strip() if named else row[identifier].strip(),
                email=address,
                participant=number,
                login=_cell(row, head, "username") or address.partition("@")[0],
                sis=_cell(row, head, "id number"),
                handed_in=_cell(row, head, "last modified (submission)"),
                groups=frozenset(key(cell) for cell in row if cell.strip()),
            )
        )
    return people


def slug(text: str) -> str:
    """A text as the name of a folder: small letters and digits of any alphabet, and `-._`."""
    letters = unicodedata.normalize("NFKD", text).casefold()
    latin = "".join(c for c in letters if not "\u0300" <= c <= "\u036f")
    made = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", latin)).strip("-.")[:60]
    return f"{made}-" if made and RESERVED.fullmatch(made) else made


def give_ids(people: Iterable[Person], taken: Collection[str] = ()) -> list[Person]:
    """Gives everybody without an id one: the login or the email's local part, else the name.

    Where several would get the same, or somebody has it, each gets a number as well, so that the
    ids don't depend on who comes first.
    """
    people = list(people)
    wanted = [person.student or _wanted(person) for person in people]
    often = Counter(wanted)
    used = {*taken, *(person.student for person in people)}
    named = []
    for person, name in zip(people, wanted, strict=True):
        if not person.student:
            if often[name] > 1 or name in used:
                number = person.lms_user_id or person.participant or slug(person.sis)
                name = f"{name}-{number}" if number else name
            stem, count = name, 1
            while name in used:
                count += 1
                name = f"{stem}-{count}"
            used.add(name)
            person = replace(person, student=name)
        named.append(person)
    return named


def _wanted(person: Person) -> str:
    """The most human of the names that can be a folder's. A bare number, which nbgrader's commands
    would take for a number, comes last."""
    first, last = person.first_and_last
    candidates = [person.login, person.email.partition("@")[0], f"{first} {last}"]
    slugs = [slug(candidate) for candidate in candidates]
    number = person.lms_user_id or person.participant or person.sis or person.login
    return next(
        (made for made in slugs if made and not made.isdigit()),
        f"student-{slug(number)}".strip("-"),
    )


def known_people(course: Path) -> list[Person]:
    """The students in the course's gradebook."""
    with open_gradebook(course) as gradebook:
        return [
            Person(
                student=student.id,
                name=", ".join(filter(None, [student.last_name, student.first_name])),
                email=student.email or "",
                lms_user_id=student.lms_user_id or "",
            )
            for student in gradebook.students
        ]


def same(person: Person, others: Iterable[Person]) -> Person | None:
    """The one among others who is this person: by Canvas's id, Moodle's number, email, login or
    university id, and where these say nothing by the name, if only one is called that."""
    others = list(others)
    for attribute in ("student", "lms_user_id", "participant", "email", "login", "sis"):
        if value := getattr(person, attribute).casefold():
            found = [
                other
                for other in others
                if getattr(other, attribute).casefold() == value
                or (attribute == "login" and other.student == slug(value))
            ]
            if len(found) == 1 and not _contradict(person, found[0], attribute):
                return found[0]
    names = name_keys(person.name) - {""}
    found = [
        other
        for other in others
        if name_keys(other.name) & names and not _contradict(person, other)
    ]
    return found[0] if len(found) == 1 else None


def _contradict(person: Person, other: Person, than: str = "") -> bool:
    """Whether something stronger than an attribute says that these are two people."""
    strong = ["student", "lms_user_id", "participant", "email"]
    for attribute in strong[: strong.index(than)] if than in strong else strong:
        values = {getattr(one, attribute).casefold() for one in (person, other)} - {""}
        if len(values) > 1:
            return True
    return False


def enter(people: Iterable[Person], course: Path) -> None:
    """Enters people, who have ids, into nbgrader's table of students; "" changes nothing there."""
    with open_gradebook(course) as gradebook:
        known = {student.id: student for student in gradebook.students}
        for person in people:
            student = known.get(person.student) or Student(id=person.student)
            first, last = person.first_and_last
            student.first_name = first or student.first_name
            student.last_name = last or student.last_name
            student.email = person.email or student.email
            student.lms_user_id = person.lms_user_id or student.lms_user_id
            gradebook.db.add(student)
        gradebook.db.commit()
