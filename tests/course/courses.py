"""Courses with the tiny lab, and graded submissions in them, without grading any."""

import shutil
from pathlib import Path

from autograder.course.gradebook import open_gradebook

LAB = "01_mini"


def copied(original: Path, folder: Path) -> Path:
    """A copy of a course, in Berlin, where each day of lateness costs 10 %."""
    course = folder / "course"
    shutil.copytree(original, course)
    (course / "late.toml").write_text('timezone = "Europe/Berlin"\npercent_per_day = 10\n')
    return course


def graded(course: Path, student: str, by_hand: float | None = None, **details: str) -> None:
    """Enters a student's submission with all of the lab's 10 automatic points, and what was given
    by hand out of 2: None while nobody has read it.

    Args:
        details: more of nbgrader's columns of a student, as `last_name`.
    """
    with open_gradebook(course) as gradebook:
        gradebook.update_or_create_student(student, **details)
        submission = gradebook.update_or_create_submission(LAB, student)
        for grade in submission.notebooks[0].grades:
            if grade.name == "why":
                grade.manual_score = by_hand
            else:
                grade.auto_score = grade.max_score
            grade.needs_manual_grade = grade.name == "why" and by_hand is None
        gradebook.db.commit()


def handed_in(course: Path, student: str, time: str) -> None:
    """Writes nbgrader's timestamp of a submission."""
    folder = course / "submitted" / student / LAB
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "timestamp.txt").write_text(time)
