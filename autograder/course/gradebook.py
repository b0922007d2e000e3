"""Writes results into a course: gradebook, autograded notebooks, feedback, grades.csv."""

import csv
import html
import warnings
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat.v4 import new_markdown_cell, new_output
from nbgrader.api import Gradebook
from nbgrader.converters import GenerateFeedback
from nbgrader.preprocessors import ClearHiddenTests, GetGrades, SaveAutoGrades
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

from autograder.authoring.lab import Lab
from autograder.authoring.release import nbgrader_config
from autograder.grading.job import Result


def autograded_notebook(source: nbformat.NotebookNode, result: Result) -> nbformat.NotebookNode:
    """nbgrader's autograded notebook for a result: the lab's cells with the student's answers, and
    under every test the message that it ended with.

    Args:
        source: the lab's source notebook, as nbgrader keeps it in the course's folder source/.
    """
    notebook = nbformat.from_dict(source)
    outcomes = {test.grade_id: test for test in result.tests}
    notes = [result.reason] * bool(result.reason) + result.repairs
    cells = [new_markdown_cell("> " + html.escape(" · ".join(notes)), id="notes")] if notes else []
    for cell in notebook.cells:
        settings = cell.metadata.get("nbgrader", {})
        grade_id = settings.get("grade_id")
        if settings.get("solution"):
            cell.source = result.answers.get(grade_id, "")
        elif settings.get("grade"):
            outcome = outcomes.get(grade_id)
            message = result.reason if outcome is None else outcome.message
            if outcome is None or outcome.outcome != "passed":
                kind = "refused" if outcome is None else outcome.outcome
                lines = [f"{kind}: {message}"]
                cell.outputs = [new_output("error", ename=kind, evalue=message, traceback=lines)]
        cells.append(cell)
    notebook.cells = cells
    return notebook


def record(lab: Lab, results: Iterable[Result], course: Path) -> None:
    """Enters results into the course's gradebook.db and writes autograded/ and feedback/.

    One process does this, after the grading: many writers would slow SQLite down.
    """
    config = nbgrader_config(course)
    source = nbformat.read(course / "source" / lab.name / f"{lab.name}.ipynb", as_version=4)
    released = nbformat.read(course / "release" / lab.name / f"{lab.name}.ipynb", as_version=4)
    stubs = {cell.id: cell for cell in released.cells}
    for cell in source.cells:  # Released checksums tell nbgrader which answers are untouched.
        if "checksum" in stubs[cell.id].metadata.get("nbgrader", {}):
            cell.metadata.nbgrader["checksum"] = stubs[cell.id].metadata.nbgrader["checksum"]
    url = config.CourseDirectory.db_url
    exporter = feedback_exporter(config)
    for result in results:
        notebook = autograded_notebook(source, result)
        with warnings.catch_warnings(), Gradebook(url) as gradebook:
            warnings.simplefilter("ignore", SAWarning)  # of nbgrader's own making
            gradebook.update_or_create_student(result.student)
            gradebook.update_or_create_submission(lab.name, result.student)
        names = {"student": result.student, "assignment": lab.name, "notebook": lab.name}
        resources = {"nbgrader": {**names, "db_url": url}, "metadata": {"name": lab.name}}
        SaveAutoGrades().preprocess(notebook, resources)
        path = course / "autograded" / result.student / lab.name / f"{lab.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        page, _ = exporter.from_notebook_node(notebook, resources)
        path = course / "feedback" / result.student / lab.name / f"{lab.name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")


def feedback_exporter(config: Config) -> HTMLExporter:
    """nbgrader's feedback page, without hidden tests and with a student's markup made harmless.

    The converter only lends its template: looking for folders, it takes a student's name for a
    pattern.
    """
    config.Exporter.default_preprocessors = []
    config = GenerateFeedback(config=config).config
    exporter = HTMLExporter(config=config)
    for preprocessor in (ClearHiddenTests, GetGrades, SanitizeHTML, CSSHTMLHeaderPreprocessor):
        exporter.register_preprocessor(preprocessor(config=config), enabled=True)
    return exporter


def write_csv(results: Iterable[Result], path: Path) -> None:
    """Writes one line per student: student, lab, status, score, max_score, and a short reason."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["student", "lab", "status", "score", "max_score", "reason"])
        for result in results:
            writer.writerow(
                [
                    result.student,
                    result.lab,
                    result.status,
                    result.score,
                    result.max_score,
                    summary(result),
                ]
            )


def summary(result: Result) -> str:
    """Why a result is what it is, in a few words: the refusal, or what went wrong in the first
    exercise that lost points."""
    if result.status == "refused":
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
