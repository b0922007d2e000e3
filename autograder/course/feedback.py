"""What a student gets back: one page with every point, what went wrong, and what to read again.

The page stands alone, in one file, with no script and nothing fetched from elsewhere.
"""

import contextlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import Markup

from autograder.authoring.lab import Cell, Lab
from autograder.course import pages
from autograder.course.archives import replace_file
from autograder.course.gradebook import folder_name, open_gradebook, submissions
from autograder.course.rendering import answer_html, own_words
from autograder.grading.grade import released_notebook
from autograder.grading.handed_in import Refused, find_notebook, read_notebook
from autograder.grading.job import Result, TestOutcome
from autograder.grading.pictures import pictures

MOST_PLOTS = 12
MOST_CHARACTERS_OF_PLOTS = 6 * 2**20
CAUSE = "; it looks as if "


@dataclass(frozen=True)
class Mark:
    """What one cell is worth to a student, as the gradebook has it.

    Attributes:
        points: None where a TA still has to give them.
        stale: whether a TA gave them for an earlier answer.
        comment: the TA's, in Markdown.
    """

    points: float | None
    max_points: float
    stale: bool = False
    comment: str = ""


@dataclass(frozen=True)
class Standing:
    """A student in the gradebook: the name to greet by, and a mark for each cell of the lab."""

    name: str
    marks: dict[str, Mark] = field(default_factory=dict)


def standings(lab: str, course: Path) -> dict[str, Standing]:
    """Everybody's marks in a lab, by the student's folder name.

    Raises:
        GradebookUnavailable: the gradebook can't be read.
    """
    found = {}
    with open_gradebook(course) as book:
        for submission in submissions(book, lab):
            student = submission.student
            marks = {}
            for notebook in submission.notebooks:  # A lab has one.
                comments = {comment.name: comment for comment in notebook.comments}
                for grade in notebook.grades:
                    comment = comments.get(grade.name)
                    waits = grade.manual_score is None and grade.auto_score is None
                    marks[grade.name] = Mark(
                        None if waits else grade.score,
                        grade.max_score,
                        grade.manual_score is not None and bool(grade.needs_manual_grade),
                        (comment.manual_comment or "") if comment else "",
                    )
                for name, comment in comments.items():  # of exercises, which have no points
                    marks.setdefault(name, Mark(0, 0, comment=comment.manual_comment or ""))
            name = " ".join(filter(None, [student.first_name, student.last_name]))
            found[student.id] = Standing(name, marks)
        book.db.rollback()
    return found


def write(
    lab: Lab,
    results: Iterable[Result],
    course: Path,
    lateness: dict[str, str],
    progress: Callable[[Result], None] = lambda result: None,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Writes everybody's page to the course's feedback/STUDENT/LAB/LAB.html.

    Args:
        lateness: what to tell each student about lateness, by student; nothing for who isn't in it.

    Returns:
        The pages by student, and why there is none for a student, by student.
    """
    written, problems = {}, {}
    known = standings(lab.name, course)
    released = released_notebook(lab)
    for result in results:
        name = folder_name(result.student)
        try:
            if name not in known:
                raise ValueError(f"not in the gradebook; run `autograder grade {lab.name}` again")
            plots = own_plots(course / "submitted" / result.student / lab.name, lab)
            text = page(lab, result, known[name], released, lateness.get(name, ""), plots)
            path = course / "feedback" / name / lab.name / f"{lab.name}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode("utf-8", "replace"))
            written[result.student] = path
        except Exception as error:  # One student's trouble is nobody else's.
            problems[result.student] = f"{type(error).__name__}: {error}"
        progress(result)
    return written, problems


def page(
    lab: Lab,
    result: Result,
    standing: Standing,
    released: nbformat.NotebookNode,
    lateness: str = "",
    plots: Iterable[tuple[str, str]] = (),
) -> str:
    """One student's page, as HTML.

    Args:
        released: the lab as the students got it.
        lateness: a sentence about it; "" in time.
        plots: the student's own figures, a caption and a `data:` address each.
    """
    graded = result.status == "graded"
    stubs = {cell.id: cell.source for cell in released.cells}
    exercises = [
        _exercise(lab, cell, result, standing) for cell in lab.having("exercise") if graded
    ]
    questions = [
        _question(lab, cell, result, standing, stubs.get(cell.grade_id, ""))
        for cell in lab.having("question")
        if graded or ((mark := standing.marks.get(cell.grade_id or "")) and mark.stale)
    ]
    most = sum(cell.points or 0 for cell in lab.having("test", "question"))
    return pages.render(
        "feedback.html",
        lab=lab.name,
        title=f"{title(lab)}: your feedback",
        name=standing.name or result.student,
        status=result.status,
        reason=result.reason.rstrip("."),
        got=sum(part["got"] or 0 for part in [*exercises, *questions]),
        most=most,
        open=sum(question["most"] for question in questions if question["got"] is None),
        late=lateness,
        exercises=exercises,
        questions=questions,
        repairs=result.repairs,
        plots=plots,
    )


def title(lab: Lab) -> str:
    """The lab's own title, its first heading."""
    for cell in lab.cells:
        if found := re.search(r"^# (.+)$", cell.source if cell.markdown else "", re.M):
            return found[1].strip()
    return lab.name


def heading(lab: Lab, cell: Cell, level: int) -> str:
    """The last heading of a level that stands before a cell; "" if none does."""
    before = lab.cells[: lab.cells.index(cell)]
    text = "\n".join(other.source for other in before if other.markdown)
    headings = re.findall(rf"^#{{{level}}} (.+)$", text, re.M)
    return headings[-1].strip() if headings else ""


def question_title(lab: Lab, cell: Cell) -> str:
    """What a question is called in the lab: its heading, "Question: why flip?", or its name."""
    kind, _, said = heading(lab, cell, 3).partition(":")
    return said.strip() if kind == "Question" and said else str(cell.name).replace("_", " ")


def _exercise(lab: Lab, cell: Cell, result: Result, standing: Standing) -> dict[str, Any]:
    """What the page says of an exercise: points, what works, and the causes of what doesn't, the
    same message once for all the aspects that it cost."""
    tests = [test for test in result.tests if test.exercise == cell.name]
    marks = {test.grade_id: standing.marks.get(test.grade_id) for test in tests}
    by_message: dict[str, list[TestOutcome]] = {}
    for test in tests:
        if test.outcome != "passed":
            by_message.setdefault(test.message, []).append(test)
    passed = [test for test in tests if test.outcome == "passed"]
    aspects = list(dict.fromkeys(test.aspect for test in passed if test.aspect))
    works = "all" if len(passed) == len(tests) else ", ".join(aspects)
    comment = standing.marks.get(cell.grade_id or "", Mark(0, 0)).comment
    return {
        "name": cell.name,
        "got": sum(
            test.points if (mark := marks[test.grade_id]) is None or mark.points is None
            else mark.points
            for test in tests
        ),
        "most": sum(test.max_points for test in tests),
        "works": works or (f"{len(passed)} of {len(tests)} tests" if passed else "nothing yet"),
        "causes": [_cause(message, failed) for message, failed in by_message.items()],
        "section": heading(lab, cell, 2),
        "comment": Markup(answer_html(comment, {})) if comment else "",
    }  # fmt: skip


def _cause(message: str, failed: list[TestOutcome]) -> dict[str, Any]:
    message, _, mistake = message.partition(CAUSE)
    if re.match(r"[a-z]+ ", message):  # a word, and not the student's code
        message = message[:1].upper() + message[1:]
    return {
        "message": message if message.endswith((".", "!", "?", "…")) else f"{message}.",
        "mistake": mistake,
        "aspects": list(dict.fromkeys(test.aspect for test in failed if test.aspect)),
        "hidden": all(test.hidden for test in failed) and failed[0].outcome != "missing",
        "points": sum(test.max_points - test.points for test in failed),
    }


def _question(
    lab: Lab, cell: Cell, result: Result, standing: Standing, stub: str
) -> dict[str, Any]:
    name = cell.grade_id or ""
    mark = standing.marks.get(name, Mark(None, cell.points or 0))
    words = own_words(result.answers.get(name, ""), stub)
    return {
        "title": question_title(lab, cell),
        "got": mark.points,
        "most": cell.points,
        "stale": mark.stale,
        "comment": Markup(answer_html(mark.comment, {})) if mark.comment else "",
        "answer": Markup(answer_html(words, result.pictures.get(name, {}))) if words else "",
    }


def own_plots(submission: Path, lab: Lab) -> list[tuple[str, str]]:
    """The figures in a submitted notebook's outputs, each under the heading that it stands below,
    and its `data:` address; none where it can't be read."""
    plots: list[tuple[str, str]] = []
    said, size = "", 0
    with contextlib.suppress(Refused, OSError, ValueError, RecursionError, LookupError, TypeError,
                             AttributeError):  # fmt: skip
        notebook = json.loads(read_notebook(find_notebook(submission, lab.name)))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                headings = re.findall(r"^#{2,3} (.{1,120})$", "".join(cell["source"]), re.M)
                said = headings[-1] if headings else said
            for output in cell.get("outputs", ()):
                data = output.get("data", {}).get("image/png")
                for address in pictures({"": {"image/png": data}})[0].values() if data else ():
                    size += len(address)
                    if len(plots) == MOST_PLOTS or size > MOST_CHARACTERS_OF_PLOTS:
                        return plots
                    plots.append((said, address))
    return plots


def write_zip(path: Path, entries: dict[str, Path]) -> None:
    """A zip to upload, with each page under the name that brings it to its student; whole or not at
    all, and of the same pages always the same."""
    draft = path.with_name(f".{path.name}.draft")
    with zipfile.ZipFile(draft, "w") as archive:
        for name, page_path in sorted(entries.items()):
            entry = zipfile.ZipInfo(name)  # without the page's own time
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, page_path.read_bytes(), zipfile.ZIP_DEFLATED)
    draft.replace(path)


def canvas_entries(
    lab: str, written: dict[str, Path], attachments: dict[str, tuple[str, int]]
) -> dict[str, Path]:
    """What Canvas finds a student by: the first two fields that are numbers, the user's and the
    attachment's; with anonymous grading the two fields after a first one that is `anon`; see
    `infer_comment_context_from_filename` in Canvas's abstract_assignment.rb."""
    return {
        f"{_letters(student)}_" * user.isdigit()
        + f"{user}_{attachment}_{lab}_feedback.html": written[student]
        for student, (user, attachment) in attachments.items()
        if student in written
    }


def moodle_entries(
    lab: str, written: dict[str, Path], participants: dict[str, str]
) -> dict[str, Path]:
    """What Moodle finds a student by: the second field, his participant number in the assignment,
    and the third and fourth, the kind of feedback."""
    return {
        f"{_letters(student)}_{number}_assignfeedback_file_{lab}_feedback.html": written[student]
        for number, student in participants.items()
        if student in written
    }


def _letters(student: str) -> str:
    """A name that adds no field of its own, least of all a number."""
    return "".join(character for character in student if character.isalpha()) or "student"
