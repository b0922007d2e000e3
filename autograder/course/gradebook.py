"""Writes results into a course: nbgrader's gradebook, autograded notebooks for its formgrader."""

import contextlib
import csv
import hashlib
import html
import io
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_output
from nbgrader.api import (
    Assignment,
    Comment,
    Grade,
    Gradebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.api import Notebook as NotebookRow
from sqlalchemy import Column, MetaData, String, Table, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, OperationalError, SAWarning
from sqlalchemy.orm import scoped_session, selectinload

from autograder.authoring.lab import Lab, LabError
from autograder.authoring.release import nbgrader_config, source_notebook
from autograder.course.archives import replace_file
from autograder.course.rendering import answer_html, notebook_html, plain_html
from autograder.grading.job import Result

SECONDS_TO_WAIT = 60  # for others who write into the gradebook
MOST_NAME = 200  # bytes of a student's folder name
STALE = "The answer changed after it was marked: look again, then save or resolve the mark."

# Which answer a grade was last recorded for: a table of ours in nbgrader's database, so that it
# changes together with the grades. nbgrader minds no further tables.
ANSWERS = Table(
    "autograder_answer",
    MetaData(),
    Column("grade_id", String(32), primary_key=True),
    Column("digest", String(64), nullable=False),
)


class GradebookUnavailable(Exception):
    """The course's gradebook can't be written; the message says why and what to do."""


def require_release(lab: Lab, course: Path, otherwise: str = "") -> None:
    """Checks that a course's gradebook has the lab, as it is written now.

    Args:
        otherwise: what else can be done where there is no such course.

    Raises:
        LabError: it hasn't; the message says what to run.
    """
    source = course / "source" / lab.name / f"{lab.name}.ipynb"
    again = f"run `autograder release {lab.name} --course {course}`"
    if not source.is_file() or not (course / "release" / lab.name).is_dir():
        raise LabError(f"{course} is no course with the lab {lab.name}; {again}{otherwise}")
    if nbformat.writes(source_notebook(lab)) != nbformat.writes(nbformat.read(source, 4)):
        raise LabError(f"{lab.solution_path} was changed since {lab.name} was released: {again}")


def folder_name(student: str) -> str:
    """A student's name as the gradebook and the folders of a course have it: the same for nearly
    everybody; what formgrader would take for markup, for a part of an address or for a pattern is
    written as `=` and two hexadecimal digits a byte."""
    name = "".join(
        character
        if (character.isalnum() or character in " _-.,'()@+~" or not character.isascii())
        and character.isprintable()
        else "".join(f"={byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
        for character in student
    )
    if len(name.encode()) > MOST_NAME:
        digest = hashlib.sha256(student.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return f"{name.encode()[: MOST_NAME // 2].decode(errors='ignore')}={digest}"
    return name


@contextlib.contextmanager
def open_gradebook(course: Path) -> Iterator[Gradebook]:
    """A course's gradebook, in which every transaction waits for its turn.

    Raises:
        GradebookUnavailable: another program kept it locked, or it can't be written.
    """
    path = course.resolve() / "gradebook.db"
    if not path.is_file():
        raise GradebookUnavailable(f"there is no {path}; run `autograder release` first")
    url = f"{nbgrader_config(course).CourseDirectory.db_url}?timeout={SECONDS_TO_WAIT}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # of nbgrader's own making
            with Gradebook(url) as book:
                # SQLite refuses at once whoever reads before he writes while another writes too:
                # a transaction takes the right to write when it begins.
                event.listen(book.engine, "begin", _begin)
                ANSWERS.metadata.create_all(book.engine)
                yield book
    except DatabaseError as error:
        raise GradebookUnavailable(
            f"{path} can't be written ({error.orig}): close what else has it open, then run the"
            " same command again; nothing that was graded is lost"
        ) from error


def submissions(book: Gradebook, lab: str) -> list[SubmittedAssignment]:
    """A lab's submissions with their students, notebooks, grades and comments: in a few queries,
    where nbgrader by itself asks for each of them anew."""
    notebooks = selectinload(SubmittedAssignment.notebooks)
    return (
        book.db.query(SubmittedAssignment)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .filter(Assignment.name == lab)
        .options(
            selectinload(SubmittedAssignment.student),
            notebooks.selectinload(SubmittedNotebook.grades).undefer(Grade.max_score),
            notebooks.selectinload(SubmittedNotebook.comments),
        )
        .all()
    )


def grades(submission: SubmittedAssignment) -> list[Grade]:
    """All grades of a submission; they add up to its score, which nbgrader is slow to tell."""
    return [grade for notebook in submission.notebooks for grade in notebook.grades]


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@dataclass(frozen=True)
class _Rows:
    """The ids of a lab's rows in the gradebook: its own, its notebook's, and those of the cells
    with a grade and with a comment, by their names."""

    assignment: str
    notebook: str
    graded: dict[str, str]
    commented: dict[str, str]


def record(
    lab: Lab,
    results: Iterable[Result],
    course: Path,
    progress: Callable[[Result], None] = lambda result: None,
) -> dict[str, str]:
    """Enters results into the course's gradebook.db and writes autograded/, each student's at
    once and on his own; what didn't change is left as it is, marks and comments above all.

    One process does this, after the grading; several at once do no harm.

    Returns:
        Why a student's result couldn't be recorded as it is, by student. He then has no grade.

    Raises:
        GradebookUnavailable: another program keeps the gradebook locked.
    """
    problems: dict[str, str] = {}
    source = nbformat.read(course / "source" / lab.name / f"{lab.name}.ipynb", as_version=4)
    with open_gradebook(course) as book:
        rows = _lab_rows(book, lab)
        for result in results:
            problem = _recorded(book, rows, lab, result, source, course)
            if problem:
                problems[result.student] = f"recording it failed: {problem}"
                failed = Result(result.student, lab.name, "failed", 0, result.max_score)
                failed.reason = problems[result.student]
                _recorded(book, rows, lab, failed, source, course)
            progress(result)
    return problems


def _lab_rows(book: Gradebook, lab: Lab) -> _Rows:
    notebook: NotebookRow = book.find_notebook(lab.name, lab.name)
    rows = _Rows(
        notebook.assignment_id,
        notebook.id,
        {cell.name: cell.id for cell in notebook.grade_cells},
        {cell.name: cell.id for cell in notebook.solution_cells},
    )
    book.db.commit()
    return rows


def _recorded(
    book: Gradebook,
    rows: _Rows,
    lab: Lab,
    result: Result,
    source: nbformat.NotebookNode,
    course: Path,
) -> str:
    """Records one result; says what prevented it, if anything did. The notebook comes last: where
    this stops half way, the next run does it all again."""
    try:
        stale = _grades(book, rows, lab, result)
        text = nbformat.writes(autograded_notebook(source, result, stale)) + "\n"
        folder = course / "autograded" / folder_name(result.student) / lab.name
        path = folder / f"{lab.name}.ipynb"
        if not path.is_file() or path.read_text("utf-8") != text:
            folder.mkdir(parents=True, exist_ok=True)
            draft = folder / f".{lab.name}.{os.getpid()}"
            draft.write_text(text, "utf-8")
            draft.replace(path)
    except OperationalError:
        raise
    except Exception as error:  # One student's trouble is nobody else's.
        book.db.rollback()
        return f"{type(error).__name__}: {error}"
    return ""


def _grades(book: Gradebook, rows: _Rows, lab: Lab, result: Result) -> set[str]:
    """Enters one result's grades, in one transaction.

    Returns:
        The names of the marks that were given for another answer than this one.
    """
    db = book.db
    submitted = _submitted_notebook(db, rows, folder_name(result.student))
    grades = _cells(db, Grade, rows.graded, submitted)
    comments = _cells(db, Comment, rows.commented, submitted)
    ids = [grade.id for grade in grades.values()]
    found = db.execute(ANSWERS.select().where(ANSWERS.c.grade_id.in_(ids)))
    recorded = {row.grade_id: row.digest for row in found}
    changed, stale = [], set()
    for name, (score, answer) in _scores(lab, result).items():
        grade = grades[name]
        grade.auto_score = score
        digest = _digest(answer)
        same = recorded.get(grade.id) == digest
        if grade.manual_score is None:
            grade.needs_manual_grade = score is None
        elif result.status != "failed" and not same:
            grade.needs_manual_grade = True
        if result.status != "failed" and not same:
            changed.append({"grade_id": grade.id, "digest": digest})
        if grade.manual_score is not None and grade.needs_manual_grade:
            stale.add(name)
    empty = {question["grade_id"] for question in result.questions if not question["answered"]}
    for name, comment in comments.items():
        missing = result.status == "graded" and name in empty
        comment.auto_comment = STALE if name in stale else "No response." if missing else None
    if changed:
        db.execute(ANSWERS.insert().prefix_with("OR REPLACE"), changed)
    db.commit()
    return stale


def _submitted_notebook(db: scoped_session, rows: _Rows, student: str) -> str:
    """The id of a student's notebook in the gradebook, made where there is none."""
    if db.get(Student, student) is None:
        db.add(Student(id=student))
    submission = (
        db.query(SubmittedAssignment.id)
        .filter_by(assignment_id=rows.assignment, student_id=student)
        .scalar()
    )
    if submission is None:
        made = SubmittedAssignment(assignment_id=rows.assignment, student_id=student)
        db.add(made)
        db.flush()
        submission = made.id
    notebook = (
        db.query(SubmittedNotebook.id)
        .filter_by(assignment_id=submission, notebook_id=rows.notebook)
        .scalar()
    )
    if notebook is None:
        made = SubmittedNotebook(assignment_id=submission, notebook_id=rows.notebook)
        db.add(made)
        db.flush()
        notebook = made.id
    return notebook


def _cells(
    db: scoped_session, kind: type[Grade] | type[Comment], cells: dict[str, str], submitted: str
) -> dict:
    """A submitted notebook's grades or comments by the cell's name, made where the lab got a cell
    after he handed in."""
    found = {row.cell_id: row for row in db.query(kind).filter_by(notebook_id=submitted)}
    for cell_id in cells.values():
        if cell_id not in found:
            found[cell_id] = kind(cell_id=cell_id, notebook_id=submitted)
            db.add(found[cell_id])
    db.flush()
    return {name: found[cell_id] for name, cell_id in cells.items()}


def _scores(lab: Lab, result: Result) -> dict[str, tuple[float | None, str]]:
    """What a result gives to each cell with a grade: the points, None where a TA or another run
    of the grader has to give them, and what a mark by hand would be about."""
    cells = lab.having("test", "question")
    if result.status == "failed":
        return {cell.grade_id: (None, "") for cell in cells}
    if result.status == "refused":
        return {cell.grade_id: (0, "") for cell in cells}
    points = {test.grade_id: test.points for test in result.tests}
    answered = {question["grade_id"]: question["answered"] for question in result.questions}
    scores: dict[str, tuple[float | None, str]] = {}
    for cell in cells:
        answer = result.answers.get(cell.name, "")
        if cell.role == "test":
            scores[cell.grade_id] = (points[cell.grade_id], f"{points[cell.grade_id]:g} {answer}")
        else:
            score = None if answered[cell.grade_id] else 0
            scores[cell.grade_id] = (score, _with_pictures(result, cell.grade_id))
    return scores


def _with_pictures(result: Result, name: str) -> str:
    return result.answers.get(name, "") + "".join(result.pictures.get(name, {}).values())


def _digest(answer: str) -> str:
    return hashlib.sha256(answer.encode("utf-8", "replace")).hexdigest()


def answer_digest(result: Result, question: str) -> str:
    """What the gradebook knows an answer to a question by, once the result is recorded."""
    return _digest(_with_pictures(result, question))


def autograded_notebook(
    source: nbformat.NotebookNode, result: Result, stale: Collection[str] = ()
) -> nbformat.NotebookNode:
    """nbgrader's autograded notebook for a result: the lab's cells with the student's answers, and
    under every test the message that it ended with. What a student wrote is in it as text or as
    HTML made harmless: Jupyter's pages fire whatever a Markdown cell holds.

    Args:
        source: the lab's source notebook, as nbgrader keeps it in the course's folder source/.
        stale: the grade ids of the marks that were given for another answer.
    """
    notebook = nbformat.from_dict(source)
    outcomes = {test.grade_id: test for test in result.tests}
    notes = [f"{result.status}: {result.reason}"] * bool(result.reason)
    cells = _note("notes", notes + result.repairs + result.flags) + _other_cells(result, None)
    for cell in notebook.cells:
        settings = cell.metadata.get("nbgrader", {})
        grade_id = settings.get("grade_id")
        if settings.get("solution"):
            answer = result.answers.get(grade_id, "").encode("utf-8", "replace").decode()
            if cell.cell_type == "markdown":
                answer = notebook_html(answer_html(answer, result.pictures.get(grade_id, {})))
            cell.source = answer
        elif settings.get("grade"):
            outcome = outcomes.get(grade_id)
            message = result.reason if outcome is None else outcome.message
            if outcome is None or outcome.outcome != "passed":
                kind = result.status if outcome is None else outcome.outcome
                lines = [f"{kind}: {message}"]
                cell.outputs = [new_output("error", ename=kind, evalue=message, traceback=lines)]
        cells.append(cell)
        if grade_id in stale:
            cells += _note(f"note-{grade_id}", [STALE])
        if grade_id:
            cells += _other_cells(result, grade_id)
    notebook.cells = cells
    return notebook


def _other_cells(result: Result, after: str | None) -> list[nbformat.NotebookNode]:
    """What else the student wrote after a cell, as text: nothing of it goes unseen."""
    cells = []
    for other in result.other_cells:
        if other["after"] == after:
            shown = f"<p>The student's cell {other['cell']}:</p>{plain_html(other['source'])}"
            cells.append(new_markdown_cell(notebook_html(shown), id=f"other-{other['cell']}"))
    return cells


def _note(cell_id: str, sentences: list[str]) -> list[nbformat.NotebookNode]:
    """A cell that says these sentences to the TA; none where there are none."""
    if not sentences:
        return []
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    source = notebook_html(f"<ul>{items}</ul>".encode("utf-8", "replace").decode())
    return [new_markdown_cell(source, id=cell_id)]


def write_csv(results: Iterable[Result], path: Path) -> None:
    """Writes one line per student: student, lab, status, score, max_score, and a short reason."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["student", "lab", "status", "score", "max_score", "reason"])
    for result in results:
        writer.writerow(
            [
                result.student,
                result.lab,
                result.status,
                "" if result.status == "failed" else result.score,
                result.max_score,
                summary(result),
            ]
        )
    replace_file(path, text.getvalue().encode("utf-8"))


def summary(result: Result) -> str:
    """Why a result is what it is, in a few words: the refusal, or what went wrong in the first
    exercise that lost points."""
    if result.status != "graded":
        return result.reason
    first: dict[str, str] = {}
    for test in result.tests:
        if test.outcome != "passed":
            first.setdefault(test.exercise, _brief(test.message, test.exercise))
    if not first:
        return "all tests passed"
    reason = next(iter(first.values()))
    alike = [exercise for exercise, brief in first.items() if brief == reason]
    names = alike[0] if len(alike) == 1 else f"{len(alike)} exercises"
    rest = len(first) - len(alike)
    return f"{names}: {reason}" + (f" (and {rest} more)" if rest else "")


def _brief(message: str, exercise: str) -> str:
    """A message without its numbers: the mistake that it names, where it names one."""
    _, _, mistake = message.partition("it looks as if ")
    return (mistake or message).removeprefix(f"{exercise} ").removesuffix(".")
