"""Due dates, what lateness costs, and that nbgrader's own classes say the same."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import nbformat
import pytest
from conftest import Grader
from courses import LAB, copied, graded, handed_in
from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin
from nbgrader.preprocessors import AssignLatePenalties
from traitlets.config import PyFileConfigLoader

from autograder.course import lateness
from autograder.course.gradebook import open_gradebook
from autograder.course.lateness import LateError, Policy, read_policy, read_time, set_due

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("due", "handed_in", "days"),
    [
        ("2026-11-30 23:59:00", "2026-11-30 12:00:00", 0),
        ("2026-11-30 23:59:00", "2026-11-30 23:59:00", 0),
        ("2026-11-30 23:59:00", "2026-11-30 23:59:00.900", 0),
        ("2026-11-30 23:59:00", "2026-11-30 23:59:01", 1),
        ("2026-11-30 23:59:00", "2026-12-01 23:59:00", 1),
        ("2026-11-30 23:59:00", "2026-12-01 23:59:01", 2),
        # The day on which the clocks go back has 25 hours, the one on which they go forward 23.
        ("2026-10-24 23:59:00", "2026-10-25 23:59:00", 1),
        ("2026-10-24 23:59:00", "2026-10-25 23:59:01", 2),
        ("2027-03-27 23:59:00", "2027-03-28 23:59:00", 1),
        ("2027-03-27 23:59:00", "2027-03-28 23:59:01", 2),
        # An hour later, while the clock shows an earlier time.
        ("2026-10-25 02:30:00+02:00", "2026-10-25 02:10:00+01:00", 1),
    ],
)
def test_days_are_those_of_the_clock_on_the_wall(due: str, handed_in: str, days: int) -> None:
    times = [datetime.fromisoformat(text) for text in (handed_in, due)]
    times = [time if time.tzinfo else time.replace(tzinfo=BERLIN) for time in times]
    in_utc = [time.astimezone(UTC) for time in times]
    assert Policy(BERLIN).days_late(*in_utc) == days


def test_without_a_due_date_or_a_time_nobody_is_late() -> None:
    assert Policy(BERLIN).days_late(at("2026-11-30"), None) == 0
    assert Policy(BERLIN).days_late(None, at("2026-11-30")) == 0


def test_grace_is_met_exactly_and_starts_no_day() -> None:
    policy, due = Policy(BERLIN, grace_minutes=15), at("2026-11-30 12:00")
    assert policy.days_late(due + timedelta(minutes=15), due) == 0
    assert policy.days_late(due + timedelta(minutes=15, seconds=1), due) == 1
    assert policy.days_late(due + timedelta(days=1, seconds=1), due) == 2


def test_what_days_cost() -> None:
    policy = Policy(BERLIN, percent_per_day=12.5, most_percent=30)
    assert [policy.percent(days) for days in range(4)] == [0, 12.5, 25, 30]
    assert policy.penalty(9.99, 1) == 1.25  # to the hundredth
    assert policy.penalty(0, 3) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tomorrow", "is no date and time: write it as 2026-11-30 23:59"),
        ("2026-11-30", "is no date and time: write it as 2026-11-30 23:59"),
        ("2026-03-29 02:30", "the clocks of Europe/Berlin show 2026-03-29 02:30 never"),
        ("2026-10-25 02:30", r"show 2026-10-25 02:30 twice.*\(2026-10-25 02:30 \+02:00\)"),
    ],
)
def test_times_that_are_none(text: str, said: str) -> None:
    with pytest.raises(LateError, match=said):
        read_time(text, BERLIN)


def test_a_time_is_the_zones_unless_it_says_otherwise() -> None:
    assert read_time("2026-11-30 23:59", BERLIN) == datetime(2026, 11, 30, 22, 59, tzinfo=UTC)
    assert read_time("2026-07-30 23:59", BERLIN) == datetime(2026, 7, 30, 21, 59, tzinfo=UTC)
    assert read_time("2026-10-25 02:30 +02:00", BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("percent_per_day = 101", "percent_per_day must be a number from 0 to 100"),
        ("percent_per_day = -1", "percent_per_day must be a number from 0 to 100"),
        ("grace_minutes = nan", "grace_minutes must be a number"),
        ('most_percent = "50"', "most_percent must be a number from 0 to 100"),
        ("percent_a_day = 10", "'percent_a_day' means nothing; what there is: grace_minutes"),
        ('timezone = "Berlin"', "timezone must be a name such as"),
        ("timezone = Berlin", "late.toml is no TOML"),
        ("extensions = 3", r"write a table \[extensions.LAB\]"),
        ('[extensions]\nada = "2026-12-01 12:00"', r"write a table \[extensions.LAB\]"),
        ('[extensions.01_mini]\nada = "soon"', r"\[extensions.01_mini\], ada: 'soon' is no date"),
    ],
)
def test_late_toml_that_can_not_be_meant(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "late.toml").write_text(text)
    with pytest.raises(LateError, match=said):
        read_policy(tmp_path)


@pytest.fixture
def course(grader: Grader, tmp_path: Path) -> Path:
    """A course with the tiny lab, due at midday of 30 November in Berlin, 10 % a day."""
    course = copied(grader.lab.root / "course", tmp_path)
    set_due(LAB, "2026-11-30 12:00", course)
    return course


def hand_in(course: Path, student: str, time: str, by_hand: float | None = None) -> None:
    """A submission with all of the 10 automatic points, and some of the two given by hand."""
    handed_in(course, student, time)
    graded(course, student, by_hand)
    with open_gradebook(course) as gradebook:
        gradebook.update_or_create_submission(LAB, student, timestamp=time)


def nbgraders_penalty(course: Path, student: str) -> float | None:
    """What nbgrader's own preprocessor, as the course configures it, takes off."""
    config = PyFileConfigLoader("nbgrader_config.py", str(course)).load_config()
    url = f"sqlite:///{course / 'gradebook.db'}"
    names = {"student": student, "assignment": LAB, "notebook": LAB, "db_url": url}
    AssignLatePenalties(config=config).preprocess(nbformat.v4.new_notebook(), {"nbgrader": names})
    with open_gradebook(course) as gradebook:
        return gradebook.find_submission(LAB, student).notebooks[0].late_submission_penalty


@pytest.mark.parametrize(
    ("time", "penalty"),
    [
        ("2026-11-30 11:00:00 UTC", None),
        ("2026-11-30 11:00:01 UTC", 1.1),
        ("2026-12-02 11:00:01 UTC", 3.3),
        ("2026-12-30 11:00:00 UTC", 11),
    ],
)
def test_nbgrader_and_we_take_off_the_same(course: Path, time: str, penalty: float | None) -> None:
    hand_in(course, "ada", time, by_hand=1)
    late = lateness.record(LAB, course)["ada"]
    assert (late.before, late.penalty, late.after) == (11, penalty or 0, 11 - (penalty or 0))
    assert late == lateness.lateness(LAB, "ada", course)
    assert nbgraders_penalty(course, "ada") == penalty
    CsvExportPlugin(to=str(course / "theirs.csv")).export(
        Gradebook(f"sqlite:///{course / 'gradebook.db'}")
    )
    assert f",11.0,{float(penalty or 0)},{late.after}," in (course / "theirs.csv").read_text()


def test_a_mark_given_by_hand_later_is_counted(course: Path) -> None:
    hand_in(course, "ada", "2026-12-01 10:00:00 UTC")
    assert lateness.record(LAB, course)["ada"].penalty == 1
    hand_in(course, "ada", "2026-12-01 10:00:00 UTC", by_hand=2)
    assert lateness.record(LAB, course)["ada"].penalty == 1.2
    with open_gradebook(course) as gradebook:
        assert gradebook.find_submission(LAB, "ada").late_submission_penalty == 1.2


def test_extensions_and_corrected_times(course: Path) -> None:
    for student in ("ada", "bob", "eve"):
        hand_in(course, student, "2026-12-01 10:00:00 UTC", by_hand=0)
    with (course / "late.toml").open("a") as file:
        file.write(f'[extensions.{LAB}]\nada = "2026-12-01 11:00"\nbob = "2026-12-01 10:59:59"\n')
        file.write(f"[handed_in.{LAB}]\neve = 2026-12-02T12:00:01\n")
    late = lateness.record(LAB, course)
    assert {student: late[student].days for student in late} == {"ada": 0, "bob": 1, "eve": 3}
    for student, penalty in ("ada", None), ("bob", 1), ("eve", 3):
        assert nbgraders_penalty(course, student) == penalty
    assert late["bob"].sentence == "1 day late: 10 % or 1 points less"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('ada = "2026-11-30 11:59"', "ends at .*, before the lab is due"),
        ('adda = "2026-12-01 11:59"', "a line in 01_mini for 'adda', who is no student"),
    ],
)
def test_extensions_that_can_not_be_meant(course: Path, line: str, said: str) -> None:
    hand_in(course, "ada", "2026-12-01 10:00:00 UTC")
    with (course / "late.toml").open("a") as file:
        file.write(f"[extensions.{LAB}]\n{line}\n")
    with pytest.raises(LateError, match=said):
        lateness.record(LAB, course)


def test_setting_a_due_date_again_changes_it_and_nothing_else(course: Path) -> None:
    before = [(course / name).read_text() for name in ("late.toml", "nbgrader_config.py")]
    assert before[1].count("LatePolicy") == 1
    set_due(LAB, "2026-12-01 12:00", course)
    assert [(course / name).read_text() for name in ("late.toml", "nbgrader_config.py")] == before
    with open_gradebook(course) as gradebook:
        assert gradebook.find_assignment(LAB).duedate == datetime(2026, 12, 1, 11)  # UTC


def test_the_first_due_date_documents_the_policy_and_costs_nothing(
    grader: Grader, tmp_path
) -> None:
    course = copied(grader.lab.root / "course", tmp_path)
    (course / "late.toml").unlink()
    set_due(LAB, "2026-11-30 12:00 +01:00", course)
    policy = read_policy(course)
    assert (policy.grace_minutes, policy.percent_per_day, policy.most_percent) == (0, 0, 100)
    hand_in(course, "ada", "2026-12-03 10:00:00 UTC", by_hand=2)
    late = lateness.record(LAB, course)["ada"]
    assert (late.days, late.after, late.sentence) == (3, 12, "3 days late: no cost")


def test_a_student_who_handed_in_nothing_is_not_late(course: Path) -> None:
    late = lateness.lateness(LAB, "nobody", course)
    assert (late.days, late.before, late.penalty, late.sentence) == (0, 0, 0, "")
    assert late.due == at("2026-11-30 12:00")
