"""From a lab's text file to nbgrader's source notebook, and to the student's notebook."""

import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.apps import NbGraderAPI
from traitlets.config import Config

from autograder.authoring.lab import MARKER, SOLUTION, Cell, Lab, LabError

# nbgrader's metadata for each role; None leaves a cell to the students.
METADATA = {
    "given": {"grade": False, "solution": False, "locked": True},
    "exercise": {"grade": False, "solution": True, "locked": False},
    "test": {"grade": True, "solution": False, "locked": True},
    "question": {"grade": True, "solution": True, "locked": False},
    "demo": None,
}
CODE_STUB = "raise NotImplementedError  # your code here"
TEXT_STUB = "*Your answer here.*"


def setup_cell(lab: Lab) -> Cell:
    """The first cell of every released lab: it finds the course's folder, or gets it on Colab."""
    urls = tomllib.loads((lab.root / "pyproject.toml").read_text())["project"]["urls"]
    template = Path(__file__).with_name("setup_cell.py").read_text().rstrip()
    repository = urls["Repository"]
    source = template.replace("{repository}", repository)
    source = source.replace("{name}", repository.rsplit("/", 1)[-1])
    return Cell("given", source, line=0, grade_id="setup")


def source_notebook(lab: Lab) -> nbformat.NotebookNode:
    """nbgrader's source notebook of a lab: solutions and hidden tests included."""
    cells = []
    for number, cell in enumerate([setup_cell(lab), *lab.cells]):
        source = cell.source
        if cell.role == "test":
            # Where stock nbgrader runs the hidden tests, they fetch the reference themselves.
            load = "from autograder.authoring.reference import load_reference\n"
            load += f'reference = load_reference("{lab.name}")\n'
            source = re.sub(r"(#+ BEGIN HIDDEN TESTS\n)", rf"\g<1>{load}", source)
        make = new_markdown_cell if cell.markdown else new_code_cell
        made = make(source, id=cell.grade_id or f"cell-{number}")
        if METADATA[cell.role]:
            made.metadata["nbgrader"] = {
                "schema_version": 3,
                "grade_id": cell.grade_id,
                "task": False,
                "cell_type": "markdown" if cell.markdown else "code",
                **METADATA[cell.role],
            }
            if cell.points is not None:
                made.metadata["nbgrader"]["points"] = cell.points
        cells.append(made)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


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


def generate(lab: Lab, course: Path) -> str:
    """Makes the student's notebook in a course folder, with nbgrader's own generate_assignment,
    which also enters the lab into the course's gradebook.

    Returns:
        The student's notebook, as text.

    Raises:
        LabError: nbgrader refused the lab, or the result still holds a part of a solution.
    """
    source = course / "source" / lab.name / f"{lab.name}.ipynb"
    source.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(source_notebook(lab), source)
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
    return nbformat.writes(notebook) + "\n"


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


def release(lab: Lab, course: Path) -> Path:
    """Writes a lab's student notebook to labs/ and enters the lab into the course's gradebook.

    Raises:
        LabError: the lab can't be released.
    """
    lab.released_path.parent.mkdir(exist_ok=True)
    lab.released_path.write_text(generate(lab, course))
    return lab.released_path


def is_current(lab: Lab) -> bool:
    """Whether labs/ holds what the lab's source would give.

    Raises:
        LabError: the lab can't be released at all.
    """
    with tempfile.TemporaryDirectory() as course:
        expected = generate(lab, Path(course))
    path = lab.released_path
    return path.is_file() and path.read_text() == expected
