"""One notebook as its student sees it: what is done, what isn't right, and what to do next."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbgrader.utils import compute_checksum

from autograder.authoring.addressed import unaddressed
from autograder.authoring.lab import ROOT, Lab
from autograder.grading.grade import grade, released_notebook
from autograder.grading.handed_in import Refused, find_notebook, read_notebook
from autograder.grading.job import GraderFailed, Isolation, Job, Result, student_name

STUB = "not implemented yet"  # as the tester says it
LEAST_SHARE = 0.5  # of a lab's exercises and questions, for a notebook to be that lab's


class Row(NamedTuple):
    """An exercise or a question: its name, how far it is, its visible tests, a line each, and what
    is left for the grading."""

    name: str
    state: str
    tests: str
    left: str


class Check(NamedTuple):
    """What is known of a notebook: the rows, what is to be told of its cells, and what to do next,
    one sentence each."""

    rows: list[Row]
    notes: list[str]
    next: str


def lab_in(path: Path, labs: Path = ROOT / "labs") -> str:
    """The name of the released lab whose exercises and questions a notebook names most of.

    Raises:
        Refused: the notebook can't be read, or it is no lab's.
    """
    text = read_notebook(find_notebook(path, "")).decode("utf-8", "replace")
    words = set(re.findall(r"\w+", text))
    shares = {}
    for released in sorted(labs.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(released.read_text("utf-8"))["cells"]
        settings = [cell["metadata"].get("nbgrader", {}) for cell in cells]
        names = {each["grade_id"] for each in settings if each.get("solution")}
        shares[released.stem] = len(names & words) / max(len(names), 1)
    found = max(shares, key=lambda name: shares[name], default="")
    if not found or shares[found] < LEAST_SHARE:
        raise Refused(f"{path.name} is none of the labs' notebooks, or little is left of it")
    return found


def check(
    lab: Lab,
    path: Path,
    isolation: Isolation = "bubblewrap",
    progress: Callable[[], None] = lambda: None,
) -> Check:
    """Runs the visible tests on a notebook, as the grader would; the file stays as it is.

    Args:
        progress: called after every test.

    Raises:
        Refused: it couldn't be graded.
        GraderFailed: the grader itself failed.
        SandboxUnavailable: the notebook's code can't be isolated on this machine.
    """
    job = Job(student_name(path.stem), path.absolute(), lab.solution_path, 0, isolation)
    result = grade(job, hidden=False, progress=progress)
    if result.status == "refused":
        raise Refused(result.reason)
    if result.status == "failed":
        raise GraderFailed(result.reason)
    notebook = find_notebook(path, lab.name)
    released = released_notebook(lab)
    older = of_another_release(read_notebook(notebook), released)
    notes = list(result.repairs)
    if older:
        notes.insert(0, f"these cells of the lab's are of another release: {', '.join(older)}")
    if lab.name not in notebook.name:
        notes.append(f"the file is named {notebook.name}: hand it in as {lab.name}.ipynb")
    rows = _rows(lab, result, released)
    return Check(rows, notes, _next(result, rows, bool(older)))


def of_another_release(content: bytes, released: nbformat.NotebookNode) -> list[str]:
    """The locked cells that nobody changed, by nbgrader's checksum, and that yet aren't those of
    this release."""
    here = {cell.id: unaddressed(cell.source) for cell in released.cells}
    try:
        cells = nbformat.reads(content.decode("utf-8", "replace"), as_version=4).cells
        return [
            cell.metadata.nbgrader.grade_id
            for cell in cells
            if cell.metadata.get("nbgrader", {}).get("locked")
            and unaddressed(cell.source) != here.get(cell.metadata.nbgrader.grade_id)
            and cell.metadata.nbgrader.checksum == compute_checksum(cell)
        ]
    except Exception:  # Metadata may hold anything; what matters is told otherwise.
        return []


def _rows(lab: Lab, result: Result, released: nbformat.NotebookNode) -> list[Row]:
    stubs = {
        cell.metadata.nbgrader.grade_id: {line.strip() for line in cell.source.splitlines()}
        for cell in released.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    answered = {question["grade_id"] for question in result.questions if question["answered"]}
    rows = []
    for cell in lab.having("exercise", "question"):
        if cell.role == "question":
            state = "answered" if cell.name in answered else "not answered"
            rows.append(Row(cell.name, state, "", "a TA reads it"))
            continue
        tests = [test for test in result.tests if test.exercise == cell.name]
        lines = {line.strip() for line in result.answers.get(cell.name, "").splitlines()}
        if cell.name not in result.answers:
            state = "missing"
        elif lines - {""} <= stubs[cell.name] or {test.message for test in tests} == {STUB}:
            state = "still a stub"
        elif all(test.outcome == "passed" for test in tests):
            state = "right so far"
        else:
            state = "not right yet"
        said = []
        if state not in ("missing", "still a stub"):
            for number, test in enumerate(tests, 1):
                passed = test.outcome == "passed"
                aspect = test.aspect or (f"test {number}" if len(tests) > 1 else "its test")
                said.append(f"✓ {aspect}" if passed else f"✗ {aspect}: {test.message}")
        hidden = sum(test.hidden for test in lab.having("test") if test.name == cell.name)
        left = f"{hidden} hidden" if hidden else ""
        rows.append(Row(cell.name, state, "\n".join(said), left))
    return rows


def _next(result: Result, rows: list[Row], older: bool) -> str:
    """What to do next, in one sentence: what others hang on comes first."""
    if older:
        return "get the lab anew, and copy your own cells over"
    first = {row.state: row for row in reversed(rows)}
    if row := first.get("missing"):
        return f"the cell {row.name} is gone: copy it from the lab's notebook"
    if row := first.get("not right yet"):
        message = next(
            test.message
            for test in result.tests
            if test.exercise == row.name and test.outcome != "passed"
        )
        return f"mend {row.name}: {message}"
    if row := first.get("still a stub"):
        return f"write {row.name}"
    if row := first.get("not answered"):
        return f"answer {row.name} in words"
    return "hand it in; other inputs are tried then"
