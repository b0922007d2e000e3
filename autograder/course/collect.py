"""From downloads of Canvas, Moodle and Gradescope to submitted/, with the time of handing in.

Everything that a download holds is kept in collected/LAB/STUDENT/; the notebook that counts goes to
submitted/STUDENT/LAB/LAB.ipynb. What stands in collected.json is all that collecting remembers, so
that it can be repeated, and goes on where it was stopped.
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.parser
import yaml

from autograder.course import roster
from autograder.course.archives import (
    ArchiveError,
    Entry,
    Unpacked,
    Unreadable,
    read_archive,
    replace_file,
    times_are_hand_ins,
    unpack,
)
from autograder.course.lateness import read_policy
from autograder.course.roster import Person

# Canvas: [NAME_][LATE_]USERID_ATTACHMENTID_FILENAME, where NAME can hold digits and `_` itself.
CANVAS_TEXT = re.compile(r"(?P<name>.*?)_?(?P<late>(?:^|_)LATE)?_(?P<user>\d+)_(?:text|link)\.html")
CANVAS_ANONYMOUS = re.compile(
    r"(?P<late>LATE_)?(?P<user>anon_[^\W_]+)_(?:(?P<attachment>\d{1,20})_(?P<file>.+)|(?:text|link)\.html)"
)
MOODLE = re.compile(
    r"(?P<name>.*?)(?:_(?P<number>\d+))?_assignsubmission_(?P<plugin>[a-z0-9]+)(?:_(?P<file>.*))?",
    re.S,
)
NUMBER = re.compile(r"\d{1,20}")
GRADESCOPE = "submission_metadata.yml"
MOST_METADATA = 64 * 2**20


@dataclass
class HandIn:
    """What one student, or a team, handed in at one time.

    Attributes:
        person: as the download names them.
        late: whether the download marks it as late.
        time: of handing in; None where the download doesn't say.
        made: the time in the download, which tells a later download from an earlier one.
        attachment: the highest of Canvas's attachment ids, which grow with time.
        files: the student's own path of each file, with its attachment id, and the entry.
        team: the others who handed it in together with `person`.
    """

    person: Person
    late: bool = False
    time: datetime | None = None
    made: datetime | None = None
    attachment: int = 0
    files: list[tuple[tuple[str, ...], int, Entry]] = field(default_factory=list)
    team: list[Person] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A line of the summary: the student's id, or "" for nobody; what came; what was done."""

    student: str
    came: str
    done: str


@dataclass
class Download:
    """A download as it was read: where from, the hand-ins, and entries that are nobody's."""

    place: str
    hand_ins: list[HandIn]
    nobody: list[Row]


def read_download(path: Path, people: list[Person], zone: ZoneInfo) -> Download:
    """Reads whose is what in a download, recognised by what it holds.

    Args:
        people: those in the roster, by whose ids ambiguous names are split.

    Raises:
        ArchiveError: it is no download of Canvas, Moodle or Gradescope.
    """
    entries = read_archive(path, zone)
    if not entries:
        raise ArchiveError(f"{path} is empty: download the submissions again")
    nobody = [Row("", e.name, e.refusal) for e in entries if e.refusal and ".." in e.path]
    sound = [entry for entry in entries if not (entry.refusal and ".." in entry.path)]
    metadata = [e for e in sound if e.path[-1] == GRADESCOPE and len(e.path) <= 2]
    if metadata:
        return _gradescope(path, metadata[0], sound, nobody)
    split: Callable[[str], tuple[str, Person, bool, int, str] | None]
    if any("_assignsubmission_" in part for entry in sound for part in entry.path):
        place, split = "Moodle", _split_moodle
    else:
        users = {person.lms_user_id for person in people}
        place, split = "Canvas", lambda part: _split_canvas(part, users)
    hand_ins: dict[str, HandIn] = {}
    timed = times_are_hand_ins(sound)
    for entry in sound:
        splits = ((level, split(part)) for level, part in enumerate(entry.path))
        level, found = next(((level, one) for level, one in splits if one), (0, None))
        if found is None:
            nobody.append(Row("", entry.name, "names no student: left out"))
            continue
        whose, person, late, attachment, name = found
        hand_in = hand_ins.setdefault(whose, HandIn(person))
        hand_in.late |= late
        hand_in.attachment = max(hand_in.attachment, attachment)
        if entry.time is not None:
            hand_in.made = max(hand_in.made or entry.time, entry.time)
            hand_in.time = hand_in.made if timed else None
        inside = entry.path[level + 1 :]
        hand_in.files.append(
            ((name, *inside) if name else inside or entry.path[-1:], attachment, entry)
        )
    if not hand_ins:
        raise ArchiveError(
            f"{path} is no download that is known: give the zip of Canvas's “Download submissions”,"
            " Moodle's “Download all submissions” or Gradescope's “Export submissions” as it came,"
            f" or the folder that it unpacked to (the first entry is {entries[0].name})"
        )
    return Download(place, list(hand_ins.values()), nobody)


def _split_canvas(part: str, users: set[str]) -> tuple[str, Person, bool, int, str] | None:
    """Of an entry's name: whose it is, the person, whether late, the attachment, the file."""
    if match := CANVAS_ANONYMOUS.fullmatch(part):
        person = Person(name=match["user"], lms_user_id=match["user"], login=match["user"])
        name = match["file"] or part
        return match["user"], person, bool(match["late"]), int(match["attachment"] or 0), name
    fields = part.split("_")
    pairs = [
        place
        for place in range(len(fields) - 2)
        if all(NUMBER.fullmatch(field) for field in fields[place : place + 2])
    ]
    if not pairs:
        match = CANVAS_TEXT.fullmatch(part)
        if match is None:
            return None
        person = Person(name=match["name"], lms_user_id=match["user"])
        return match["user"], person, bool(match["late"]), 0, part
    # Canvas itself takes the first pair; a name that ends in a number is told by the roster.
    place = next((place for place in pairs if fields[place] in users), pairs[0])
    user, attachment = fields[place], int(fields[place + 1])
    late = place > 0 and fields[place - 1] == "LATE"
    person = Person(name="_".join(fields[: place - late]), lms_user_id=user)
    return user, person, late, attachment, "_".join(fields[place + 2 :])


def _split_moodle(part: str) -> tuple[str, Person, bool, int, str] | None:
    match = MOODLE.fullmatch(part)
    if match is None:
        return None
    number = match["number"] or ""
    whose = f"{match['name']}_{number}"
    name = match["file"] or ("" if match["plugin"] == "file" else match["plugin"])
    return whose, Person(name=match["name"], participant=number), False, 0, name


class _Metadata(yaml.SafeLoader):
    """Reads Gradescope's metadata, where Ruby's own types stand for plain ones."""


_Metadata.add_multi_constructor(
    "!ruby/",
    lambda loader, suffix, node: (
        loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.MappingNode)
        else loader.construct_scalar(node)
    ),
)


def _gradescope(path: Path, metadata: Entry, entries: list[Entry], nobody: list[Row]) -> Download:
    try:
        said = yaml.load(metadata.read(MOST_METADATA), _Metadata)
        hand_ins = {str(name): _gradescope_hand_in(about) for name, about in said.items()}
    except (
        Unreadable,
        yaml.YAMLError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ArchiveError(
            f"{path}: {metadata.name} can't be read ({type(error).__name__}: {error}): export the"
            " submissions again"
        ) from error
    root = metadata.path[:-1]
    for entry in entries:
        below = entry.path[len(root) :]
        if entry is metadata:
            continue
        if entry.path[: len(root)] == root and len(below) > 1 and below[0] in hand_ins:
            hand_ins[below[0]].files.append((below[1:], 0, entry))
        else:
            nobody.append(Row("", entry.name, "belongs to no submission in the metadata: left out"))
    return Download("Gradescope", list(hand_ins.values()), nobody)


def _gradescope_hand_in(about: dict[str, Any]) -> HandIn:
    people = [
        Person(
            name=str(one.get(":name") or ""),
            email=str(one.get(":email") or ""),
            sis=str(one.get(":sid") or ""),
        )
        for one in about[":submitters"]
    ]
    created = about.get(":created_at")
    if isinstance(created, dict):  # Rails's own time, with the zone beside it.
        created = created.get("utc") or created.get("time")
    time = dateutil.parser.parse(str(created)) if created else None
    if time is not None and time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return HandIn(people[0], time=time, made=time, team=people[1:])


def collect(
    lab: str,
    archives: Iterable[Path],
    course: Path,
    roster_path: Path | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> tuple[list[Row], list[str]]:
    """Collects a lab's submissions from downloads into a course.

    Args:
        roster_path: the roster; if None, the one given last, or else the archives alone tell.
        progress: called with the number of hand-ins done, of all, and whose is next.

    Returns:
        The summary's rows: one for each student, and for each entry that is nobody's; and
        sentences about the whole.

    Raises:
        ArchiveError, RosterError, LateError: see there. Nothing has been collected then.
    """
    book = Book(course, lab)
    notes: list[str] = []
    listed = _roster(course, roster_path, notes)
    downloads = [(path, read_download(path, listed, book.zone)) for path in archives]
    if downloads and roster_path is not None:
        replace_file(course / "roster.csv", roster_path.read_bytes())
    hand_ins = [(path, one) for path, download in downloads for one in download.hand_ins]
    numbers = {one.person.participant for _, one in hand_ins}
    if not numbers & {person.participant for person in listed}:
        # Moodle numbers everybody anew in each assignment.
        listed = [replace(person, participant="") for person in listed]
        if numbers - {""} and listed:
            notes.append("the roster has none of these participant numbers: matched by name")
    listed, placed = _who_is_who(listed, [one for _, one in hand_ins], book)
    found = [person for members in placed for person in members]
    roster.enter({person.student: person for person in [*listed, *found]}.values(), course)
    total = sum(map(len, placed))
    done = 0
    for (path, hand_in), members in zip(hand_ins, placed, strict=True):
        for person in members:
            progress(done, total, person.student)
            book.keep(person, hand_in, path.name)
            done += 1
    progress(done, total, "")
    rows = [row for _, download in downloads for row in download.nobody]
    rows += book.settle(listed)
    if not listed:
        notes.append(
            "no roster: names are those of the archives, and nobody can be missed; give the list"
            " that the place of hand-in exports with --roster"
        )
    for path, download in downloads:
        if all(one.time is None for one in download.hand_ins):
            notes.append(
                f"{path} doesn't say when each was handed in"
                + (", only who was LATE" if download.place == "Canvas" else "")
                + ": late.toml can say it"
            )
    return rows, notes


def _roster(course: Path, given: Path | None, notes: list[str]) -> list[Person]:
    remembered = course / "roster.csv"
    if given is not None:
        return roster.read_roster(given)
    if remembered.is_file():
        notes.append(f"the roster is the one given before ({remembered})")
        return roster.read_roster(remembered)
    return []


def identity(person: Person) -> str:
    """What tells somebody from everybody else within one lab's downloads."""
    if person.lms_user_id or person.participant:
        return f"{'user' if person.lms_user_id else 'participant'} " + (
            person.lms_user_id or person.participant
        )
    return person.email.casefold() or person.sis or roster.key(person.name)


def _who_is_who(
    listed: list[Person], hand_ins: list[HandIn], book: "Book"
) -> tuple[list[Person], list[list[Person]]]:
    """The roster's people with their ids, and for every hand-in those whose it is.

    What was settled when the lab was collected before stays.
    """
    known = roster.known_people(book.course)
    listed = _recognise(listed, known, book)
    listed = roster.give_ids(listed, {person.student for person in known})
    users = {person.student: person.lms_user_id for person in known}
    listed = [
        replace(one, lms_user_id=one.lms_user_id or users.get(one.student, "")) for one in listed
    ]
    book.who |= {identity(person): person.student for person in listed}
    others = [*listed, *(one for one in known if one.student not in {p.student for p in listed})]
    members: list[list[Person]] = []
    for hand_in in hand_ins:
        name = roster.key(hand_in.person.name)
        numbers = {person.participant for person in listed}
        team = [
            person
            for person in listed
            if hand_in.person.participant not in numbers - {""}
            and name in person.groups - roster.name_keys(person.name)
        ]
        members.append(team or [hand_in.person, *hand_in.team])
    everybody = {identity(person): person for people in members for person in people}
    found = _recognise(list(everybody.values()), others, book)
    taken = {person.student for person in others}
    settled = dict(zip(everybody, roster.give_ids(found, taken), strict=True))
    book.who |= {name: person.student for name, person in settled.items()}
    details = {person.student: person for person in others}
    for name, person in settled.items():
        # Canvas's number for somebody stands in its download, too; anonymous marking has none.
        number = everybody[name].lms_user_id
        known_as = details.get(person.student, person)
        if number.isdigit() and not known_as.lms_user_id:
            known_as = replace(known_as, lms_user_id=number)
        settled[name] = known_as
    return listed, [[settled[identity(person)] for person in people] for people in members]


def _recognise(people: list[Person], others: list[Person], book: "Book") -> list[Person]:
    """People with the ids of those among the others who they are; without one where they are
    nobody, or where two of them would be one."""
    found = []
    for person in people:
        before = book.who.get(identity(person)) if not person.student else None
        match = roster.same(person, others)
        found.append(before or (match.student if match else person.student))
    return [
        replace(person, student=student if found.count(student) == 1 else person.student)
        for person, student in zip(people, found, strict=True)
    ]


class Book:
    """What was collected of a lab: `collected.json`, and the files beside it.

    Attributes:
        who: the student of each `identity`.
        hand_ins: by student, every different hand-in that ever came, in the order of coming.
        late: by student, whether the hand-in that counts was marked as late.
        placed: by student, the digest of the notebook that was put into submitted/.
        waiting: by student, when the last grading was that didn't know yet what came; see
            `graded_at`.
    """

    def __init__(self, course: Path, lab: str) -> None:
        self.course, self.lab = course, lab
        self.zone = read_policy(course).timezone
        self.folder = course / "collected" / lab
        self.path = self.folder / "collected.json"
        said = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        self.who: dict[str, str] = said.get("who", {})
        self.hand_ins: dict[str, list[dict]] = said.get("hand_ins", {})
        self.late: dict[str, bool] = said.get("late", {})
        self.placed: dict[str, str] = said.get("placed", {})
        self.waiting: dict[str, list[int]] = said.get("waiting", {})
        self.fresh: dict[str, str] = {}  # what this run brought, in words, by student

    def write(self) -> None:
        """Writes collected.json, whole or not at all."""
        said = {
            "who": self.who,
            "hand_ins": self.hand_ins,
            "late": self.late,
            "placed": self.placed,
            "waiting": self.waiting,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(said, indent=1, ensure_ascii=False)
        replace_file(self.path, text.encode())

    def keep(self, person: Person, hand_in: HandIn, archive: str) -> None:
        """Keeps all files of a hand-in of one student, unless they are kept already."""
        draft = self.folder / ".draft"
        shutil.rmtree(draft, ignore_errors=True)  # of a run that was stopped
        draft.mkdir(parents=True)
        unpacked = Unpacked({}, [])
        attachments: dict[str, int] = {}
        for path, attachment, entry in hand_in.files:
            unpack(path, entry, self.zone, unpacked)
            attachments |= dict.fromkeys(unpacked.files.keys() - attachments.keys(), attachment)
        for name, content in unpacked.files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        digests = {
            name: hashlib.sha256(content).hexdigest() for name, content in unpacked.files.items()
        }
        earlier = self.hand_ins.setdefault(person.student, [])
        time = _moodle_time(person.handed_in, self.zone) or hand_in.time
        made = time or hand_in.made or datetime.fromtimestamp(0, UTC)
        about = {
            "archive": archive,
            "called": hand_in.person.name,
            "late": hand_in.late,
            "time": time and time.astimezone(UTC).isoformat(" ", "seconds"),
            "order": [hand_in.attachment, made.astimezone(UTC).isoformat()],
            "files": digests,
            "attachments": attachments,
            "notes": unpacked.notes,
        }
        for record in earlier:
            if record["files"] == digests:  # The same again: it tells no more than when, perhaps.
                if about["time"] and not record["time"]:
                    record |= {"time": about["time"], "order": about["order"]}
                self.fresh.setdefault(person.student, "the same as before")
                return
        folder = f"attempt-{len(earlier) + 1}"
        about["folder"] = folder
        kept = self.folder / person.student / folder
        shutil.rmtree(kept, ignore_errors=True)  # of a run that was stopped before it was written
        kept.parent.mkdir(exist_ok=True)
        draft.replace(kept)
        earlier.append(about)
        self.fresh[person.student] = f"{len(earlier)}. attempt" if len(earlier) > 1 else "new"

    def settle(self, listed: list[Person]) -> list[Row]:
        """Puts the hand-ins that count into submitted/, and says for everybody what was done."""
        shutil.rmtree(self.folder / ".draft", ignore_errors=True)
        counting = {student: self._counting(student) for student in self.hand_ins}
        self.late = {student: record["late"] for student, (record, _) in counting.items()}
        for student, (record, notebook) in counting.items():
            alone = notebook is None and student not in self.waiting
            if alone or self._is_newer(student, record, notebook):
                self.waiting[student] = graded_at(self.lab, student, self.course)
        self.write()  # before submitted/: where this is stopped, it can be done again
        rows = []
        in_roster = {person.student for person in listed}
        for student, (record, notebook) in sorted(counting.items()):
            said = self._place(student, record, notebook)
            called = record["called"]
            if person := next((one for one in listed if one.student == student), None):
                known = {*roster.name_keys(person.name), *person.groups}
                if called and roster.key(called) not in known:
                    said.append(
                        f"the download calls them {called!r}: a team? Its others got nothing"
                    )
            if listed and student not in in_roster:
                alike = sum(roster.key(called) in roster.name_keys(one.name) for one in listed)
                said.append(
                    f"not in the roster, or one of its {alike} of that name: the list that the"
                    " place of hand-in exports can tell"
                    if alike
                    else "not in the roster: left the course, or the roster is an old one"
                )
            rows.append(Row(student, self._came(student, record), "; ".join(said)))
        for person in sorted(listed, key=lambda person: person.student):
            if person.student not in counting:
                rows.append(Row(person.student, "nothing", "handed in nothing"))
        self.write()
        return rows

    def _counting(self, student: str) -> tuple[dict, str | None]:
        """The hand-in that counts: the latest with a notebook, or the latest; and the notebook."""
        ordered = sorted(self.hand_ins[student], key=lambda record: record["order"], reverse=True)
        for record in ordered:
            if (notebook := self._notebook(student, record)) is not None:
                return record, notebook
        return ordered[0], None

    def _notebook(self, student: str, record: dict) -> str | None:
        """Of a hand-in's notebooks the lab's: the one with its cells, worked on, with its name, and
        of several versions the last."""
        names = [name for name in record["files"] if name.casefold().endswith(".ipynb")]
        if len(names) <= 1:
            return next(iter(names), None)
        released = self.course / "release" / self.lab / f"{self.lab}.ipynb"
        cells = _cells(released.read_bytes())
        folder = self.folder / student / record["folder"]

        def rank(name: str) -> tuple:
            own = _cells((folder / name).read_bytes())
            stem = PurePosixPath(name).stem
            base = re.sub(r"(?:-\d+| ?\(\d+\))+$", "", stem)
            version = [int(number) for number in re.findall(r"\d+", stem[len(base) :])]
            return (
                bool(own.keys() & cells.keys()),
                any(own[grade_id] != cells[grade_id] for grade_id in own.keys() & cells.keys()),
                base.casefold() == self.lab.casefold(),
                record["attachments"][name],
                version,
                -name.count("/"),
                name,
            )

        return max(names, key=rank)

    def _came(self, student: str, record: dict) -> str:
        names = list(record["files"])
        said = ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)
        if record["late"]:
            said += " (LATE)"
        return said or "nothing that could be kept"

    def _place(self, student: str, record: dict, notebook: str | None) -> list[str]:
        """Puts a notebook and its time into submitted/; gives what to say about it."""
        said = [self.fresh.get(student, "not in this download, stays as it was")]
        folder = self.course / "submitted" / student / self.lab
        folder.mkdir(parents=True, exist_ok=True)
        others = len(self.hand_ins[student]) - 1
        if others and record is not self.hand_ins[student][-1]:
            said.append(f"{record['folder']} counts, the last one with a notebook")
        target = folder / f"{self.lab}.ipynb"
        newer = self._is_newer(student, record, notebook)
        if notebook is None:
            said.append(f"no notebook: kept in {self.folder / student}")
        elif newer:
            if self._is_by_hand(student):
                content = target.read_bytes()
                name = f"by-hand-{hashlib.sha256(content).hexdigest()[:8]}.ipynb"
                replace_file(self.folder / student / name, content)
                said.append(f"what stood in submitted/ is kept as {name}")
            replace_file(target, (self.folder / student / record["folder"] / notebook).read_bytes())
        elif self._is_by_hand(student):
            said.append("changed by hand in submitted/ since: left as it is")
        if notebook is not None:
            self.placed[student] = record["files"][notebook]
            beside = [name for name in record["files"] if name != notebook]
            if beside:
                said.append(f"took {notebook}, the rest is kept in {self.folder / student}")
        stamp = folder / "timestamp.txt"
        if record["time"]:
            time = datetime.fromisoformat(record["time"])
            replace_file(stamp, f"{time:%Y-%m-%d %H:%M:%S} UTC\n".encode())
            said.append(f"handed in {time.astimezone(self.zone):%Y-%m-%d %H:%M}")
        elif newer:  # What stands there is of an earlier hand-in.
            stamp.unlink(missing_ok=True)
        return said + record["notes"]

    def _digest(self, student: str) -> str:
        """Of the notebook that stands in submitted/; "" where none does."""
        target = self.course / "submitted" / student / self.lab / f"{self.lab}.ipynb"
        return hashlib.sha256(target.read_bytes()).hexdigest() if target.is_file() else ""

    def _is_by_hand(self, student: str) -> bool:
        """Whether what stands in submitted/ never came in a download."""
        there = self._digest(student)
        return bool(there) and all(
            there not in record["files"].values() for record in self.hand_ins[student]
        )

    def _is_newer(self, student: str, record: dict, notebook: str | None) -> bool:
        """Whether a notebook is to go to submitted/: another one stands there, and no person
        changed that one after this had been put there."""
        wanted = record["files"].get(notebook)
        if wanted is None or wanted == self._digest(student):
            return False
        return not (self._is_by_hand(student) and self.placed.get(student) == wanted)


def _cells(content: bytes) -> dict[str, str]:
    """The source of a notebook's cells that students write, by grade id; of anything else, none."""
    found = {}
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError, LookupError):
        for cell in json.loads(content)["cells"]:
            settings = cell.get("metadata", {}).get("nbgrader", {})
            if settings.get("solution"):
                found[settings["grade_id"]] = "".join(cell["source"])
    return found


def _moodle_time(text: str, zone: ZoneInfo) -> datetime | None:
    """A time as an English Moodle writes it ("Monday, 30 November 2026, 11:59 PM")."""
    if not re.search(r"[A-Za-z]{3}", text):  # Without a month's name, day and month are a guess.
        return None
    try:
        return dateutil.parser.parse(text).replace(tzinfo=zone)
    except (ValueError, OverflowError):
        return None


def graded_at(lab: str, student: str, course: Path) -> list[int]:
    """When a submission was graded last, by us and by nbgrader: times of files, 0 for none."""
    paths = (
        course / "results" / lab / f"{student}.json",
        course / "autograded" / student / lab / f"{lab}.ipynb",
    )
    return [path.stat().st_mtime_ns if path.is_file() else 0 for path in paths]


def ungraded(lab: str, course: Path) -> set[str]:
    """The students whose submission was collected and hasn't been graded since."""
    waiting = Book(course, lab).waiting
    return {student for student in waiting if waiting[student] == graded_at(lab, student, course)}


def participants(lab: str, course: Path) -> dict[str, str]:
    """The student of each Moodle participant number in a lab, as collecting found out."""
    who = Book(course, lab).who
    prefix = "participant "
    return {name.removeprefix(prefix): who[name] for name in who if name.startswith(prefix)}


def attachments(lab: str, course: Path) -> dict[str, tuple[str, int]]:
    """Of each student whose hand-in came from Canvas the user id (with anonymous grading
    "anon_ID") and the id of the attachment that counts: what feedback that goes back there has to
    be called by."""
    book = Book(course, lab)
    found = {}
    for name, student in book.who.items():
        user = name.removeprefix("user ")
        known = user.isdigit() or user.startswith("anon_")
        if name != user and known and student in book.hand_ins:
            record, notebook = book._counting(student)
            attachment = record["attachments"].get(notebook, record["order"][0])
            if attachment:
                found[student] = user, attachment
    return found
