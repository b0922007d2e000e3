"""Courses with the tiny lab, and graded submissions in them, without grading any."""

import re
import shutil
from pathlib import Path

from conftest import MINI

from autograder.authoring.lab import Lab, read_lab
from autograder.authoring.release import release
from autograder.course.gradebook import open_gradebook
from autograder.course.questions import Server

LAB = "01_mini"


def copied(original: Path, folder: Path) -> Path:
    """A copy of a course, in Berlin, where each day of lateness costs 10 %."""
    course = folder / "course"
    shutil.copytree(original, course)
    (course / "late.toml").write_text('timezone = "Europe/Berlin"\npercent_per_day = 10\n')
    return course


def own_lab(lab: Lab, folder: Path) -> Lab:
    """A copy of the tiny lab that can be changed, in a project of its own."""
    shutil.copytree(lab.root, folder, ignore=shutil.ignore_patterns("course"))
    return read_lab(folder / "solutions" / lab.solution_path.name)


def mend(lab: Lab, course: Path) -> None:
    """41 is right as well, and worth 3; the lab is released again."""
    changed = MINI.replace('test="answer" points=1', 'test="answer" points=3')
    changed = changed.replace("assert answer == 42", "assert answer in (41, 42)")
    lab.solution_path.write_text(changed)
    release(read_lab(lab.solution_path), course)


def mark_all(server: Server) -> None:
    """Stands for serve_forever: gives every written answer that has no mark 1 point, as a page
    would, and stops."""
    for name, answers in server.answers.items():
        shown = {number: given for number, _, given, _ in server.question(name)["cards"]}
        assert shown.keys() == set(range(len(answers)))
        for number, given in shown.items():
            if given.mark is None or given.stale:
                server.marks.save(name, answers[number], 1, "fair", given.seen)
    raise KeyboardInterrupt


def contents(course: Path) -> dict:
    """All that a course holds: files by their path, but for hidden ones and for how long grading
    took, and what its gradebook says of due dates, students, submissions, marks and
    comments."""
    found: dict = {}
    for path in sorted(course.rglob("*")):
        name = path.relative_to(course)
        if path.is_file() and path.name != "gradebook.db" and "/." not in f"/{name}":
            found[str(name)] = re.sub(rb'"seconds": [\d.]+', b"", path.read_bytes())
    with open_gradebook(course) as book:
        found |= {lab.name: lab.duedate for lab in book.assignments}
        for student in book.students:
            found[student.id] = student.to_dict()
            for submission in book.student_submissions(student.id):
                key = student.id, submission.name
                found[key] = submission.timestamp, submission.late_submission_penalty
                for notebook in submission.notebooks:
                    found |= {
                        (*key, grade.name): (
                            *(grade.auto_score, grade.manual_score, grade.max_score),
                            bool(grade.needs_manual_grade),
                        )
                        for grade in notebook.grades
                    }
                    found |= {
                        (*key, comment.name, "comment"): (
                            comment.auto_comment or None,
                            comment.manual_comment or None,
                        )
                        for comment in notebook.comments
                    }
        book.db.rollback()
    return found


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
