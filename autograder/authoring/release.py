"""From a lab's text file to nbgrader's source notebook, and to the student's notebook."""

import ast
import contextlib
import json
import os
import re
import sqlite3
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.apps import NbGraderAPI
from nbgrader.utils import compute_checksum
from traitlets.config import Config

from autograder.authoring.addressed import addressed
from autograder.authoring.expected import Region, fetching, names_read, regions
from autograder.authoring.lab import (
    MARKER,
    SOLUTION,
    Cell,
    Lab,
    LabError,
    bound_names,
    has_statements,
    read_project,
)

# nbgrader's metadata for each role; None leaves a cell to the students.
METADATA = {
    "given": {"grade": False, "solution": False, "locked": True},
    "exercise": {"grade": False, "solution": True, "locked": False},
    "test": {"grade": True, "solution": False, "locked": True},
    "question": {"grade": True, "solution": True, "locked": False},
    "demo": None,
}
CODE_STUB = "raise NotImplementedError  # your code here"
SECONDS_TO_WAIT = 60  # for others who write into the gradebook
MOST_NAMES = 5  # in the title of a folded cell
TEXT_STUB = "*Your answer here.*"


class Released(NamedTuple):
    """What students get of a lab: the notebook, as text, and the file of what its tests expect,
    None where no test has an EXPECTED region."""

    notebook: str
    values: bytes | None


def setup_cell(lab: Lab) -> Cell:
    """The cell that finds the course's folder, or gets it on Colab: the first after the title."""
    template = Path(__file__).with_name("setup_cell.py").read_text().rstrip()
    source = addressed(template, read_project(lab.root)["urls"]["Repository"], "main")
    return Cell("given", source, line=0, grade_id="setup", fold="Set-up")


def last_cell(lab: Lab) -> Cell:
    """The cell that says how far the notebook is, and on Colab writes it out."""
    tests: dict[str, list[str]] = {}
    for cell in lab.having("test"):
        if has_statements(cell.visible):
            tests.setdefault(cell.name, []).append(cell.aspect)
    lines = [f"    {json.dumps(lab.name)},", "    {"]
    for name, aspects in tests.items():
        lines.append(f"        {json.dumps(name)}: {json.dumps(aspects, ensure_ascii=False)},")
    lines += ["    },", f"    {json.dumps([cell.name for cell in lab.having('question')])},"]
    template = Path(__file__).with_name("last_cell.py").read_text().rstrip()
    source = re.sub(r"\(lab=.*\)$", lambda _: "\n".join(["(", *lines, ")"]), template)
    return Cell("given", source, line=0, grade_id="hand_in", fold="How far am I? Hand in")


def source_notebook(lab: Lab) -> nbformat.NotebookNode:
    """nbgrader's source notebook of a lab: solutions and hidden tests included."""
    numbered = list(enumerate(lab.cells, 1))
    title_first = bool(lab.cells) and lab.cells[0].markdown
    numbered.insert(1 if title_first else 0, (0, setup_cell(lab)))
    numbered.append((0, last_cell(lab)))
    cells = []
    for number, cell in numbered:
        source = test_source(lab, cell) if cell.role == "test" else cell.source
        title = fold_title(cell)
        if title:
            source = f"# @title {title}\n{source}"
        make = new_markdown_cell if cell.markdown else new_code_cell
        made = make(source, id=cell.grade_id or f"cell-{number}")
        if title:
            made.metadata.update({"jupyter": {"source_hidden": True}, "cellView": "form"})
        metadata = METADATA[cell.role]
        if metadata is not None:
            made.metadata["nbgrader"] = {
                "schema_version": 3,
                "grade_id": cell.grade_id,
                "task": False,
                "cell_type": "markdown" if cell.markdown else "code",
                **metadata,
            }
            if cell.role in ("test", "question"):
                made.metadata["nbgrader"]["points"] = cell.points
        cells.append(made)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def test_source(lab: Lab, cell: Cell) -> str:
    """A test cell as nbgrader's source notebook has it: between the line that makes the exercise's
    rules hold and the one that says that all is well, with recorded values for its regions."""
    exercise = next(other for other in lab.having("exercise") if other.name == cell.name)
    before, after = [], []
    if exercise.is_function:
        rules = [cell.name]
        rules += [f"changes={exercise.changes!r}"] * bool(exercise.changes)
        rules += [f"without={exercise.without!r}"] * bool(exercise.without)
        before.append(f"{cell.name} = checked({', '.join(rules)})")
        after.append(f"{cell.name} = unchecked({cell.name})")
    if regions(cell.visible):
        values = (lab.name, cell.grade_id, lab.version(cell))
        before.append("recorded = Recorded({}, {}, {})".format(*map(json.dumps, values)))

    def fetch(number: int, region: Region) -> str:
        return f"{', '.join(region.names)} = recorded({number + 1 if number else ''})"

    said = f"{cell.name}: right so far" + (f" ({cell.aspect})" if cell.aspect else "")
    # Where stock nbgrader runs the hidden tests, they fetch the reference themselves.
    load = "from autograder.authoring.reference import load_reference\n"
    load += f'reference = load_reference("{lab.name}")\n'
    source = fetching(cell.source, fetch)
    if not has_statements(cell.visible):  # All of it is hidden, and students see a comment.
        load += "\n".join(before) + "\n"
        before, after = [], []
    else:
        after.append(f"print({json.dumps(said, ensure_ascii=False)})")
    source = re.sub(r"(#+ BEGIN HIDDEN TESTS\n)", lambda begin: begin[0] + load, source)
    return "\n".join([*before, source, *after])


def fold_title(cell: Cell) -> str | None:
    """The title under which a cell's code is folded away; None where it stays open."""
    if isinstance(cell.fold, str):
        return cell.fold
    if cell.markdown or cell.fold is False:
        return None
    if cell.role == "given":
        names = [f"`{name}`" for name in defined_names(cell.source)]
        names[MOST_NAMES:] = ["…"] * (len(names) > MOST_NAMES)
        return f"Given: {', '.join(names) or 'imports'}"
    if cell.role == "test":
        if not has_statements(cell.visible):
            return f"Hidden tests of `{cell.name}`: they run when your notebook is graded"
        return f"Check `{cell.name}`" + (f": {cell.aspect}" if cell.aspect else "")
    if cell.role == "demo" and draws(cell.source):
        return figure_title(cell.source)
    return None


def defined_names(source: str) -> list[str]:
    """The functions, classes and values that a given cell defines, sorted: what it doesn't
    import."""
    statements = ast.parse(source).body
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted(bound_names(source) - bound_names("\n".join(map(ast.unparse, imports))))


def draws(source: str) -> bool:
    """Whether a demo is the code of a figure: it uses matplotlib. (One with IPython's magics isn't
    read.)"""
    try:
        return "plt" in names_read(source)
    except SyntaxError:
        return False


def figure_title(source: str) -> str:
    """The title of a folded figure: what its code calls it."""
    titles: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            said = node.args[0]
            parts = said.values if isinstance(said, ast.JoinedStr) else [said]
            texts = [str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts]
            titles.setdefault(node.func.attr, " ".join("".join(texts).split()))
    found = [titles[kind] for kind in ("suptitle", "title", "set_title") if kind in titles]
    return f"Figure: {found[0]}" if found and found[0] != "…" else "Figure"


def strings(source: str) -> list[str]:
    """All strings of a cell's code, with … for what an f-string fills in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
        if all(isinstance(text, str) for text in texts):
            found.append("".join(map(str, texts)))
    return found


def nbgrader_config(course: Path) -> Config:
    """nbgrader's configuration for a course folder."""
    course = course.resolve()
    config = Config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    config.ClearSolutions.code_stub = {"python": CODE_STUB}
    config.ClearSolutions.text_stub = TEXT_STUB
    config.NbGraderAPI.log_level = "ERROR"
    return config


def generate(lab: Lab, course: Path) -> Released:
    """Makes the student's notebook in a course folder, with nbgrader's own generate_assignment,
    which also enters the lab into the course's gradebook.

    The file of what the tests expect lies beside the notebook in the course's source/, from where
    nbgrader copies it to release/ and, when it grades, beside each submission.

    Raises:
        LabError: nbgrader refused the lab, a region can't be recorded, the result still holds a
            part of a solution, or another program keeps the gradebook locked.
    """
    wait_for(course / "gradebook.db")
    source = course / "source" / lab.name / f"{lab.name}.ipynb"
    source.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(source_notebook(lab), source)
    beside = source.with_suffix(".safetensors")
    beside.unlink(missing_ok=True)
    values = None
    if any(regions(cell.visible) for cell in lab.having("test")):
        from autograder.authoring.record import record

        values = record(lab)
        beside.write_bytes(values)
    settings = course / "nbgrader_config.py"
    if not settings.exists():
        settings.write_text(
            "# Opens this folder in nbgrader's formgrader: start `jupyter lab` in here.\n"
            "c = get_config()\n"
            'c.CourseDirectory.course_id = ""\n'
        )
    # nbgrader makes a new database by calling `alembic`, which lies beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    folder = os.getcwd()
    try:
        api = NbGraderAPI(config=nbgrader_config(course))
        outcome = api.generate_assignment(lab.name, force=True, create=True)
    finally:
        os.chdir(folder)
    if not outcome["success"]:
        raise LabError(f"{lab.solution_path}:1: nbgrader refused the lab:\n{outcome['log']}")
    released = course / "release" / lab.name / f"{lab.name}.ipynb"
    notebook = nbformat.read(released, as_version=4)
    leaks = solution_leaks(lab, notebook)
    if leaks:
        released.unlink()
        raise LabError("\n".join(leaks))
    return Released(nbformat.writes(notebook) + "\n", values)


def wait_for(gradebook: Path) -> None:
    """Waits until nobody else writes into a gradebook, if there is one; nbgrader waits 5 s only.

    Raises:
        LabError: that takes too long.
    """
    if not gradebook.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(gradebook, SECONDS_TO_WAIT)) as connection:
            connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise LabError(
            f"{gradebook} can't be written ({error}): close what else has it open, then run the"
            " same command again"
        ) from error


def solution_leaks(lab: Lab, notebook: nbformat.NotebookNode) -> list[str]:
    """Where a student's notebook still shows a marker or, in a row, the first telling lines of a
    solution (three of them, fewer where it has no more); `file:line: sentence` each."""
    text = "\n".join(cell.source for cell in notebook.cells)
    leaks = [
        f"{lab.solution_path}:1: the marker {found.group(0)!r} is left in the student's notebook"
        for found in MARKER.finditer(text)
    ]
    shown = "\n".join(_telling_lines(text))
    for cell in lab.having("exercise", "question"):
        for region in SOLUTION.findall(cell.source):
            lines = _telling_lines(region)
            for start in range(max(1, len(lines) - 2)):
                if (part := "\n".join(lines[start : start + 3])) and part in shown:
                    before = cell.source[: cell.source.index(region)].count("\n") + 1
                    offset = [line.strip() for line in region.splitlines()].index(lines[start])
                    leaks.append(
                        f"{lab.solution_path}:{cell.line + before + offset}: the student's"
                        f" notebook shows this part of the solution of {cell.name!r}"
                    )
                    break
    return leaks


def _telling_lines(text: str) -> list[str]:
    """The stripped lines that would give something away: long enough, and code or prose proper."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if len(line) > 11 and not line.startswith(("#", "import "))]


def release(lab: Lab, course: Path) -> Path | None:
    """Writes what students get of a lab to labs/, and enters the lab into the course's gradebook.

    Returns:
        Where a student's work that lay in labs/ is now; None if there was none.

    Raises:
        LabError: the lab can't be released.
    """
    released = generate(lab, course)
    lab.released_path.parent.mkdir(exist_ok=True)
    kept = None
    if lab.released_path.is_file() and holds_work(lab.released_path):
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        kept = lab.released_path.with_suffix(f".your-work-{stamp}.ipynb")
        lab.released_path.rename(kept)
    lab.released_path.write_text(released.notebook)
    if released.values is None:
        lab.values_path.unlink(missing_ok=True)
    else:
        lab.values_path.write_bytes(released.values)
    return kept


def holds_work(path: Path) -> bool:
    """Whether somebody has worked in a released notebook, of this version or an earlier one: a cell
    to fill in isn't what nbgrader's checksum says that it was, a cell was added, or it is no
    notebook any more."""
    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:
        return True
    for cell in cells:
        settings = cell.metadata.get("nbgrader", {})
        if settings.get("solution") and settings.get("checksum") != compute_checksum(cell):
            return True
        if not settings and not re.fullmatch(r"cell-\d+", cell.get("id", "")):
            return True
    return False


def stale(lab: Lab) -> list[str]:
    """What in labs/ isn't what the lab's source would give, one sentence each.

    Recorded values may differ by what processors round differently.

    Raises:
        LabError: the lab can't be released at all.
    """
    with tempfile.TemporaryDirectory() as course:
        expected = generate(lab, Path(course))
    found = []
    path, values = lab.released_path, lab.values_path
    if not path.is_file() or path.read_text() != expected.notebook:
        found.append(f"labs/{path.name} is not what solutions/ gives")
    if values.is_file() != (expected.values is not None):
        found.append(f"labs/{values.name} is {'left over' if values.is_file() else 'missing'}")
    elif expected.values is not None:
        from utils.recorded import differences, load

        there = differences(load(values.read_bytes()), load(expected.values), f"labs/{values.name}")
        found += there
    return found
