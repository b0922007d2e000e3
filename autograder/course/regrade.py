"""Grades a course's stored submissions again, beside the grades that stand, and says who would get
how many points more or less and why; nothing counts before it is applied."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from autograder.authoring.lab import Lab
from autograder.course.archives import replace_file
from autograder.course.pages import render
from autograder.course.results import read_results
from autograder.grading.grade import fingerprint, grade_class
from autograder.grading.handed_in import Refused, find_notebook, read_notebook
from autograder.grading.job import Job, Result, TestOutcome

Kind = Literal["up", "down", "unchanged", "first grade", "refused", "no grade"]
# In the order in which a TA wants to read them.
KINDS: dict[Kind, str] = {
    "no grade": "the grader failed: no grade",
    "refused": "refused now",
    "down": "fewer points",
    "up": "more points",
    "first grade": "had no grade before",
    "unchanged": "unchanged",
}


class NoPreview(Exception):
    """There is nothing to apply, or what there is no longer holds; the message says what to do."""


@dataclass(frozen=True)
class Difference:
    """A test that gives other points than before; None where it didn't exist, or doesn't now."""

    exercise: str
    aspect: str
    old: tuple[float, float] | None
    new: tuple[float, float] | None
    reason: str


@dataclass(frozen=True)
class Change:
    """What grading again does to one student.

    Attributes:
        old, new: (points, of how many); None without a grade.
        reason: why there is no new grade, or "".
        resubmitted: the answers aren't those that the old grade was for, so that the difference
            may be due to them.
    """

    student: str
    kind: Kind
    old: tuple[float, float] | None
    new: tuple[float, float] | None
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    resubmitted: bool = False


def preview_folder(lab: Lab, course: Path) -> Path:
    """Where the preview of a lab's regrading lies: results/, regrade.json, regrade.html."""
    return course / "regrade" / lab.name


def preview(
    lab: Lab,
    jobs: list[Job],
    course: Path,
    workers: int = 1,
    progress: Callable[[Result], None] = lambda result: None,
) -> list[Change]:
    """Grades every job into the preview's folder and compares with the results that stand.

    Stopped at any moment and run again, it goes on where it was and gives the same.

    Returns:
        A change for every job, and for nobody else.

    Raises:
        NoResults: the lab hasn't been graded yet.
    """
    folder = preview_folder(lab, course)
    stamps = {job.student: _stamp(job) for job in jobs}
    old = {result.student: result for result in read_results(course / "results" / lab.name)[0]}
    graded = grade_class(jobs, folder / "results", workers, progress=progress)
    changes = [compare(old.get(student), result) for student, result in graded.items()]
    changes.sort(key=lambda change: (list(KINDS).index(change.kind), change.student))
    absent = sorted(set(old) - set(graded))
    content = {"lab": lab.name, "stamps": stamps, "changes": [asdict(c) for c in changes]}
    replace_file(folder / "regrade.html", page(lab, changes, absent).encode())
    # Last, as it is what `apply` goes by.
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    replace_file(folder / "regrade.json", text.encode())
    return changes


def previewed(lab: Lab, jobs: list[Job], course: Path) -> dict[str, Result]:
    """The preview's results, by student, if they are what grading the jobs now would give.

    Raises:
        NoPreview: there is no preview, or the lab or a submission has changed since.
    """
    folder = preview_folder(lab, course)
    again = f"run `autograder regrade {lab.name}` and look at what changes"
    try:
        stamps = json.loads((folder / "regrade.json").read_text("utf-8"))["stamps"]
    except (OSError, ValueError, KeyError, TypeError):
        raise NoPreview(f"there is no preview to apply yet; {again}") from None
    now = {job.student: _stamp(job) for job in jobs}
    if stamps != now:
        other = sorted(s for s in now.keys() | stamps.keys() if stamps.get(s) != now.get(s))
        raise NoPreview(
            f"the lab, the grader or the hand-in changed since the preview for {len(other)}"
            f" student{'s' * (len(other) != 1)} ({', '.join(other[:3])}"
            f"{', …' * (len(other) > 3)}); {again} again"
        )
    try:
        return {student: Result.read(folder / "results" / f"{student}.json") for student in now}
    except (OSError, ValueError) as error:
        raise NoPreview(f"the preview isn't whole ({error}); {again} again") from None


def keep(lab: Lab, results: Mapping[str, Result], course: Path) -> None:
    """Makes results the ones that stand; to be called after the gradebook has them, so that what
    was stopped in between is done again."""
    folder = course / "results" / lab.name
    folder.mkdir(parents=True, exist_ok=True)
    for student, result in results.items():
        result.write(folder / f"{student}.json")


def _stamp(job: Job) -> str:
    """A digest of all that a job's result depends on, or of why it has none."""
    try:
        return fingerprint(job, read_notebook(find_notebook(job.path, job.lab_path.stem)))
    except Refused as refusal:
        return hashlib.sha256(str(refusal).encode()).hexdigest()


def compare(old: Result | None, new: Result) -> Change:
    """What a new result changes of an old one; None where there was none."""
    before = old if old is not None and old.status == "graded" else None
    was = None if before is None else (before.score, before.max_score)
    if new.status != "graded":
        kind: Kind = "no grade" if new.status == "failed" else "refused"
        if old is not None and old.status == new.status == "refused":
            kind = "unchanged"
        return Change(new.student, kind, was, None, reason=new.reason)
    now = (new.score, new.max_score)
    if before is None:
        reason = "" if old is None else f"before: {old.reason}"
        return Change(new.student, "first grade", None, now, reason=reason)
    differences = tuple(_differences(before, new))
    kind = "up" if new.score > before.score else "down" if new.score < before.score else "unchanged"
    return Change(new.student, kind, was, now, differences, "", before.answers != new.answers)


def row(change: Change) -> tuple[str, str, str, str]:
    """A change as a row of a table: student, points before, points now, what changes."""
    told = ["the answers changed since the old grade"] * change.resubmitted
    told += [change.reason] * bool(change.reason)
    for test in change.differences:
        name = f"{test.exercise}, {test.aspect}" if test.aspect else test.exercise
        told.append(f"{name}: {_score(test.old)} → {_score(test.new)}, {test.reason}")
    return change.student, _score(change.old), _score(change.new), "\n".join(told)


def _score(points: tuple[float, float] | None) -> str:
    return "–" if points is None else f"{points[0]:g}/{points[1]:g}"


def _differences(old: Result, new: Result) -> list[Difference]:
    tests_before = {test.grade_id: test for test in old.tests}
    tests_now = {test.grade_id: test for test in new.tests}
    found = []
    for grade_id in tests_now | tests_before:
        before, now = tests_before.get(grade_id), tests_now.get(grade_id)
        named = now or before
        assert named is not None
        was, became = _points(before), _points(now)
        if was != became:
            reason = _reason(before, now)
            found.append(Difference(named.exercise, named.aspect, was, became, reason))
    return found


def _points(test: TestOutcome | None) -> tuple[float, float] | None:
    return None if test is None else (test.points, test.max_points)


def _reason(before: TestOutcome | None, now: TestOutcome | None) -> str:
    """Why a test gives other points than before."""
    if now is None:
        return "the test is gone"
    if before is None:
        return f"a new test: {now.message or now.outcome}"
    if before.outcome != now.outcome:
        if now.outcome == "passed":
            return f"passes now; before: {before.message}"
        return now.message
    return f"worth {now.max_points:g} instead of {before.max_points:g}"


def page(lab: Lab, changes: list[Change], absent: list[str]) -> str:
    """The preview as a page.

    Args:
        absent: students with a result and no submission any more.
    """
    return render(
        "regrade.html",
        lab=lab.name,
        kinds=KINDS,
        changes={kind: [change for change in changes if change.kind == kind] for kind in KINDS},
        total=(
            sum(change.old[0] for change in changes if change.old),
            sum(change.new[0] for change in changes if change.new),
        ),
        absent=absent,
    )
