"""Submissions in a sorry state: repaired where that is possible, else refused with a reason."""

import copy
import json
import os

import nbformat
import pytest
from conftest import Grader, points
from nbformat.v4 import new_code_cell

from autograder.grading import normalise
from autograder.grading.normalise import Refused, find_notebook, global_names, read_notebook


def cell_named(notebook: nbformat.NotebookNode, grade_id: str) -> nbformat.NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == grade_id)


STUB = """def double(x):
    \"\"\"Twice x, an array of any shape.\"\"\"
    raise NotImplementedError  # your code here"""


def strip_metadata(notebook):
    for cell in notebook.cells:
        cell.metadata = {}
        cell.pop("id")


def strip_grade_ids(notebook):
    for cell in notebook.cells:
        cell.metadata = {}


def double_a_stub(notebook):
    stub = copy.deepcopy(cell_named(notebook, "double"))
    stub.source = STUB
    notebook.cells.append(stub)


def double_an_older_attempt(notebook):
    older = copy.deepcopy(cell_named(notebook, "double"))
    older.source = "def double(x):\n    return 'an older attempt'"
    notebook.cells.insert(0, older)


def reverse(notebook):
    notebook.cells.reverse()


def delete_tests_and_given(notebook):
    notebook.cells = [
        cell for cell in notebook.cells if not cell.metadata.get("nbgrader", {}).get("locked")
    ]


def change_points(notebook):
    cell_named(notebook, "test_double").metadata.nbgrader.points = 1000


def change_tests(notebook):
    cell_named(notebook, "test_score").source = "pass"


def retype(notebook):
    cell = cell_named(notebook, "double")
    cell.cell_type = "markdown"
    cell.pop("outputs", None)
    cell_named(notebook, "test_double").cell_type = "raw"


def odd_schema(notebook):
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.schema_version = 99


def odd_kernel(notebook):
    notebook.metadata.kernelspec = {"name": "julia", "display_name": "Julia"}
    notebook.metadata.language_info = {"name": "R"}


def odd_metadata(notebook):
    for cell in notebook.cells:
        cell.metadata["nbgrader"] = "what?"
        cell.metadata["tags"] = 7 if cell.cell_type == "code" else {"a": 1}


@pytest.mark.parametrize(
    "damage",
    [
        strip_metadata,
        strip_grade_ids,
        double_a_stub,
        double_an_older_attempt,
        reverse,
        delete_tests_and_given,
        change_points,
        change_tests,
        retype,
        odd_schema,
        odd_kernel,
        odd_metadata,
    ],
)
def test_damage_costs_nothing_and_gains_nothing(grader: Grader, damage) -> None:
    for answers, expected in ({}, 10), ({"double": "def double(x):\n    return x"}, 5):
        notebook = grader.notebook(**answers)
        damage(notebook)
        result = grader(json.dumps(notebook).encode())
        assert (result.status, result.score, result.max_score) == ("graded", expected, 10)


def test_repairs_are_told(grader: Grader) -> None:
    notebook = grader.notebook()
    change_tests(notebook)
    assert grader(notebook).repairs == [
        "restored the locked cells that had been changed: test_score"
    ]


def test_missing_cell_costs_its_exercise_only(grader: Grader) -> None:
    notebook = grader.notebook()
    notebook.cells.remove(cell_named(notebook, "double"))
    result = grader(notebook)
    assert points(result) == {"double": 0, "score": 4, "answer": 1}
    assert "the cell double is missing" in result.repairs


def test_notebook_of_format_3(grader: Grader) -> None:
    old = nbformat.convert(grader.notebook(), 3)
    assert grader(nbformat.writes(old, version=3).encode()).score == 10


def test_sources_as_lists_of_lines(grader: Grader) -> None:
    notebook = json.loads(nbformat.writes(grader.notebook()))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
    assert grader(json.dumps(notebook).encode()).score == 10


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"print('hello')", "not a Jupyter notebook"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a Jupyter notebook"),
        (b"{}", "not a Jupyter notebook"),
        (b"[1, 2]", "not a Jupyter notebook"),
        (b'{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "not a Jupyter"),
        (b'{"cells": [{}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "not a Jupyter"),
        (nested(200_000), "nested too deep"),
        (b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "another lab"),
    ],
)
def test_what_is_no_notebook_of_this_lab_is_refused(grader: Grader, content, reason) -> None:
    result = grader(content)
    assert (result.status, result.score) == ("refused", 0)
    assert reason in result.reason


def test_too_large_a_notebook_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(normalise, "MOST_BYTES", 2**20)
    path = tmp_path / "a.ipynb"
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(Refused, match="larger than 1 MiB"):
        read_notebook(path)


def test_links_pipes_and_folders_are_refused(tmp_path) -> None:
    secret = tmp_path / "secret.ipynb"
    secret.write_text("{}")
    (tmp_path / "link.ipynb").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "01_mini.ipynb").symlink_to(secret)
    (tmp_path / "two").mkdir()
    for name in "ab":
        (tmp_path / "two" / f"{name}.ipynb").write_text("{}")
    for name, reason in {
        "link.ipynb": "symbolic link",
        "pipe.ipynb": "not a regular file",
        "empty": "no notebook",
        "linked": "symbolic link",
        "two": "2 notebooks",
    }.items():
        with pytest.raises(Refused, match=reason):
            find_notebook(tmp_path / name, "01_mini")


def test_the_labs_own_notebook_is_found_among_others(tmp_path) -> None:
    for name in ("01_mini.ipynb", "scratch.ipynb"):
        (tmp_path / name).write_text("{}")
    assert find_notebook(tmp_path, "01_mini").name == "01_mini.ipynb"


def test_files_beside_the_notebook_are_ignored_and_told(grader: Grader, tmp_path) -> None:
    from autograder.grading.grade import grade
    from autograder.grading.job import Job

    folder = tmp_path / "eve"
    folder.mkdir()
    nbformat.write(grader.notebook(double="def double(x):\n    return 0 * x"), folder / "a.ipynb")
    (folder / "torch.py").write_text("raise SystemExit")
    (folder / "numpy.py").write_text("raise SystemExit")
    result = grade(Job("eve", folder, grader.lab.solution_path, 0))
    assert points(result) == {"double": 0, "score": 4, "answer": 1}
    assert "numpy.py, torch.py" in result.flags[0]


def test_global_names() -> None:
    source = "import a\ndef f(x):\n    y = x + b\n    return [z for z in c(y)] + a.d\nprint(e, f)"
    assert global_names(source) == {"b", "c", "e", "print"}


def test_extra_cells_are_not_run_for_nothing(grader: Grader) -> None:
    notebook = grader.notebook()
    notebook.cells.append(new_code_cell("while True: pass"))
    result = grader(notebook)
    assert (result.score, result.repairs) == (10, [])
