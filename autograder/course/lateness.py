"""When a lab is due, who was late, and what that costs: one policy, ours and nbgrader's alike.

A due date stands in the gradebook, as nbgrader keeps it. What lateness costs, and who got more
time, stands in the course's own late.toml. nbgrader applies it through `LatePolicy`, which
nbgrader_config.py names, so `nbgrader autograde`, `nbgrader export` and we agree.
"""

import json
import math
import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nbgrader.api import Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.utils import parse_utc
from sqlalchemy.engine import make_url

from autograder.course.archives import replace_file
from autograder.course.gradebook import grades, open_gradebook, submissions

POLICY = """\
# What lateness costs in this course. `autograder` and `nbgrader` both go by it.

# Times below, and those given to `autograder release --due`, are this zone's.
timezone = "{timezone}"

# Handed in this many minutes after the due time or less is on time still.
grace_minutes = 0

# What each day that has begun after the due time costs, in percent of the points earned: with 10,
# a minute late costs 10 %, a day and a minute 20 %. 0: lateness is shown and costs nothing.
percent_per_day = 0

# However late, no more than this many percent.
most_percent = 100

# Who got more time, a table for each lab, a line for each student (by the course's student id):
# [extensions.01_convolution]
# ada = "2026-12-03 23:59"

# When somebody handed in, where the archive doesn't say (Canvas's says only LATE), or wrongly:
# [handed_in.01_convolution]
# ada = "2026-12-01 10:30"
"""
PLUGIN = """
# Lateness costs what late.toml says.
c.AssignLatePenalties.plugin_class = "autograder.course.lateness.LatePolicy"
"""


class LateError(Exception):
    """A due date or late.toml can't be used; the message says why and what to write instead."""


@dataclass(frozen=True)
class Policy:
    """What late.toml says: see `POLICY`. Times are aware; keyed by lab, then by student."""

    timezone: ZoneInfo
    grace_minutes: float = 0
    percent_per_day: float = 0
    most_percent: float = 100
    extensions: dict[str, dict[str, datetime]] = field(default_factory=dict)
    handed_in: dict[str, dict[str, datetime]] = field(default_factory=dict)

    def due(self, lab: str, student: str, due: datetime | None) -> datetime | None:
        """When a lab that is due then is due for a student: later, with an extension.

        Raises:
            LateError: the extension ends before the lab is due for everybody.
        """
        extended = self.extensions.get(lab, {}).get(student)
        if extended is None or due is None:
            return extended or due
        if extended < due:
            raise LateError(
                f"late.toml: the extension of {student} in {lab} ends at {extended}, before the"
                f" lab is due ({due.astimezone(self.timezone)}): write a later time, or delete it"
            )
        return extended

    def days_late(self, handed_in: datetime | None, due: datetime | None) -> int:
        """How many days after the due time have begun; 0 in time, which the due second is.

        A day ends when the clock on the wall shows the due time again, also where it is put
        forward or back in between.
        """
        if handed_in is None or due is None:
            return 0
        handed_in = handed_in.replace(microsecond=0)
        if handed_in <= due + timedelta(minutes=self.grace_minutes):
            return 0
        came, wanted = (
            time.astimezone(self.timezone).replace(tzinfo=None) for time in (handed_in, due)
        )
        return max(1, math.ceil((came - wanted) / timedelta(days=1)))

    def percent(self, days: int) -> float:
        """What so many days cost, in percent of the points earned."""
        return min(self.most_percent, days * self.percent_per_day)

    def penalty(self, score: float, days: int) -> float:
        """What so many days cost, in points, to the hundredth."""
        return round(score * self.percent(days) / 100, 2)


@dataclass(frozen=True)
class Lateness:
    """A student's lateness in a lab.

    Attributes:
        handed_in: in the course's time zone; None where nothing came, or nobody knows when.
        due: likewise, with the student's extension; None where the lab has no due date.
        days: the days after the due time that had begun; 0 in time.
        late_but_unknown: the archive marked it late without saying when it came; it costs nothing
            until late.toml says when.
        percent, penalty: what it costs, in percent of the points and in points.
        before, after: the points, automatic and given by hand, without and with the penalty.
    """

    handed_in: datetime | None
    due: datetime | None
    days: int
    late_but_unknown: bool
    percent: float
    before: float
    penalty: float

    @property
    def after(self) -> float:
        return round(self.before - self.penalty, 6)

    @property
    def sentence(self) -> str:
        """What to tell about it, as "2 days late: 20 % or 8.4 points less"; "" in time."""
        if self.late_but_unknown:
            return "marked late, but not by how much: late.toml can say when it was handed in"
        if not self.days:
            return ""
        cost = f"{self.percent:g} % or {self.penalty:g} points less" if self.percent else "no cost"
        return f"{self.days} day{'s' * (self.days > 1)} late: {cost}"


class LatePolicy(LateSubmissionPlugin):
    """Tells nbgrader's AssignLatePenalties, its parent, what late.toml makes of a late notebook."""

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float | None:
        """The penalty in points; see nbgrader's own class. Raises LateError."""
        course = Path(make_url(self.parent.db_url).database or "").parent
        policy = read_policy(course)
        lab = self.parent.assignment_id
        days = _found(self.parent.gradebook, policy, lab, student_id, course).days
        return policy.penalty(score, days) or None


def lateness(lab: str, student: str, course: Path) -> Lateness:
    """One student's lateness in a lab, from what the gradebook holds now.

    Raises:
        LateError: late.toml can't be used.
    """
    with open_gradebook(course) as gradebook:
        return _found(gradebook, read_policy(course), lab, student, course)


def record(lab: str, course: Path) -> dict[str, Lateness]:
    """Enters into the gradebook when each student handed a lab in and what lateness costs, so that
    nbgrader's own feedback and export say the same.

    To be called when points have changed: the penalty is a share of them.

    Returns:
        Everybody with a submission in the gradebook, by student.

    Raises:
        LateError: late.toml can't be used.
    """
    policy = read_policy(course)
    found = {}
    with open_gradebook(course) as gradebook:
        known = {student.id for student in gradebook.students}
        for student in {*policy.extensions.get(lab, {}), *policy.handed_in.get(lab, {})} - known:
            raise LateError(
                f"{course / 'late.toml'} has a line in {lab} for {student!r}, who is no student of"
                " this course: mend the name, or delete the line"
            )
        marked = _marked_late(lab, course)
        for submission in submissions(gradebook, lab):
            due = _aware(submission.assignment.duedate)
            late = _lateness(policy, lab, submission.student_id, course, due, submission, marked)
            submission.timestamp = parse_utc(late.handed_in)
            for notebook in submission.notebooks:  # A lab has one.
                notebook.late_submission_penalty = late.penalty or None
            found[submission.student_id] = late
        gradebook.db.commit()
    return found


def _found(gradebook: Gradebook, policy: Policy, lab: str, student: str, course: Path) -> Lateness:
    due = submission = None
    with suppress(MissingEntry):
        due = _aware(gradebook.find_assignment(lab).duedate)
        submission = gradebook.find_submission(lab, student)
    return _lateness(policy, lab, student, course, due, submission, _marked_late(lab, course))


def _lateness(
    policy: Policy,
    lab: str,
    student: str,
    course: Path,
    due: datetime | None,
    submission: SubmittedAssignment | None,
    marked: set[str],
) -> Lateness:
    before = sum(grade.score for grade in grades(submission)) if submission is not None else 0.0
    if due is not None and submission is not None and submission.extension:
        due += submission.extension  # Granted by nbgrader's own means.
    due = policy.due(lab, student, due)
    handed_in = policy.handed_in.get(lab, {}).get(student) or _timestamp(lab, student, course)
    days = policy.days_late(handed_in, due)
    return Lateness(
        handed_in=handed_in and handed_in.astimezone(policy.timezone),
        due=due and due.astimezone(policy.timezone),
        days=days,
        late_but_unknown=handed_in is None and student in marked,
        percent=policy.percent(days),
        before=before,
        penalty=policy.penalty(before, days),
    )


def _aware(time: datetime | None) -> datetime | None:
    """One of nbgrader's times, which are UTC without saying so."""
    return time and time.replace(tzinfo=UTC)


def _timestamp(lab: str, student: str, course: Path) -> datetime | None:
    """When a submission was handed in by nbgrader's timestamp.txt, which collecting wrote."""
    path = course / "submitted" / student / lab / "timestamp.txt"
    if not path.is_file():
        return None
    try:
        return _aware(parse_utc(path.read_text("utf-8").strip()))
    except (ValueError, OverflowError) as error:
        raise LateError(
            f"{path} holds no time: write one as 2026-11-30 22:59:00 UTC, or delete the file"
        ) from error


def _marked_late(lab: str, course: Path) -> set[str]:
    """The students whose submission the archive that it came in marked as late."""
    path = course / "collected" / lab / "collected.json"
    if not path.is_file():
        return set()
    late = json.loads(path.read_text("utf-8"))["late"]
    return {student for student in late if late[student]}


def set_due(lab: str, due: str, course: Path) -> datetime:
    """Sets a lab's due date in the gradebook, and makes the course's late.toml if it has none.

    Args:
        due: as "2026-11-30 23:59", in late.toml's time zone, or with an offset ("… +01:00").

    Raises:
        LateError: that is no date and time, or the clock never shows it, or twice.
    """
    path = course / "late.toml"
    if not path.exists():
        replace_file(path, POLICY.format(timezone=local_zone()).encode())
    time = read_time(due, read_policy(course).timezone)
    settings = course / "nbgrader_config.py"
    text = settings.read_text("utf-8") if settings.exists() else "c = get_config()\n"
    if "AssignLatePenalties.plugin_class" not in text:
        replace_file(settings, (text + PLUGIN).encode())
    with open_gradebook(course) as gradebook:
        gradebook.update_or_create_assignment(lab, duedate=time)
    return time


def local_zone() -> str:
    """The name of this computer's time zone."""
    name = os.environ.get("TZ", "").lstrip(":") or os.path.realpath("/etc/localtime")
    try:
        return ZoneInfo(name.rpartition("zoneinfo/")[2]).key
    except (ZoneInfoNotFoundError, ValueError):
        return "UTC"


def read_time(text: str, zone: ZoneInfo) -> datetime:
    """A time as people write it, in a zone unless it has an offset of its own.

    Raises:
        LateError: it isn't one, or the clock never shows it, or twice.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        time = None
    if time is None or len(text.strip()) <= len("2026-11-30"):
        raise LateError(f"{text!r} is no date and time: write it as 2026-11-30 23:59")
    if time.tzinfo is not None:
        return time
    first, second = (time.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        back = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == time
        raise LateError(
            f"on that day the clocks of {zone.key} show {text} {'twice' if back else 'never'}:"
            f" take another time, or add the offset that you mean ({text} {first.isoformat()[-6:]})"
        )
    return first


def read_policy(course: Path) -> Policy:
    """A course's late.toml; without one, lateness costs nothing.

    Raises:
        LateError: it can't be read, or says what can't be meant.
    """
    path = course / "late.toml"
    if not path.exists():
        return Policy(ZoneInfo(local_zone()))
    try:
        said = tomllib.loads(path.read_text("utf-8-sig"))
        zone = ZoneInfo(said.pop("timezone", local_zone()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LateError(f"{path} is no TOML: {error}") from error
    except (ZoneInfoNotFoundError, ValueError, TypeError) as error:
        raise LateError(
            f'{path}: timezone must be a name such as "Europe/Berlin", in quotes'
        ) from error
    extensions, handed_in = (
        _read_times(path, name, said.pop(name, {}), zone) for name in ("extensions", "handed_in")
    )
    most = {"grace_minutes": 10000, "percent_per_day": 100, "most_percent": 100}
    for name, value in said.items():
        if name not in most:
            raise LateError(f"{path}: {name!r} means nothing; what there is: {', '.join(most)}")
        if type(value) not in (int, float) or not 0 <= value <= most[name]:
            raise LateError(f"{path}: {name} must be a number from 0 to {most[name]:g}")
    return Policy(zone, **said, extensions=extensions, handed_in=handed_in)


def _read_times(
    path: Path, name: str, table: object, zone: ZoneInfo
) -> dict[str, dict[str, datetime]]:
    if not isinstance(table, dict) or not all(isinstance(lab, dict) for lab in table.values()):
        raise LateError(f"{path}: write a table [{name}.LAB] with a line for each student")
    times: dict[str, dict[str, datetime]] = {}
    for lab, students in table.items():
        times[lab] = {}
        for student, time in students.items():
            try:  # TOML has times of its own, which needn't stand in quotes.
                times[lab][student] = read_time(str(time), zone)
            except LateError as error:
                raise LateError(f"{path}, [{name}.{lab}], {student}: {error}") from error
    return times
