"""Every lab's solution runs from top to bottom, says nothing on stderr, and draws its figures."""

import ast
import re
import symtable
from collections import Counter

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from autograder.authoring.lab import find_lab, lab_names
from autograder.authoring.release import source_notebook
from autograder.grading.names import global_names

# Remembers what a notebook lets its reader move; and then moves it.
REMEMBER = """\
import utils.figures

make, explored = utils.figures.explore, []


def explore(draw, **controls):
    explored.append(make(draw, **controls))
    return explored[-1]


utils.figures.explore = explore
"""
MOVE = """\
for box in explored:
    *controls, picture = box.children
    for control in controls:
        seen = {picture.value}
        if hasattr(control, "index"):
            for control.index in (0, len(control.options) - 1):
                seen.add(picture.value)
        else:
            checkbox = isinstance(control.value, bool)
            for control.value in (False, True) if checkbox else (control.min, control.max):
                seen.add(picture.value)
        assert len(seen) > 1, f"nothing moves with {control.description}"
"""
ROW = re.compile(r"^\| (\d+)(\. .+) \| (\d+) \|$", re.M)


@pytest.mark.slow
@pytest.mark.parametrize("name", lab_names())
def test_solution_runs_from_top_to_bottom(name: str, tmp_path) -> None:
    notebook = source_notebook(find_lab(name))
    setup = next(number for number, cell in enumerate(notebook.cells) if cell.id == "setup")
    notebook.cells.insert(setup + 1, new_code_cell(REMEMBER))
    notebook.cells.append(new_code_cell(MOVE))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4


@pytest.mark.parametrize("name", lab_names())
def test_a_lab_takes_a_picture_and_has_something_to_move(name: str) -> None:
    demos = [cell for cell in find_lab(name).cells if cell.role == "demo" and not cell.markdown]
    (own,) = (cell for cell in demos if "OwnImage(MY_IMAGE)" in cell.source)
    assert own.fold is False and own.source.endswith("own = OwnImage(MY_IMAGE)\nown")
    assert any(re.search(r"^explore\(", cell.source, re.M) for cell in demos)


@pytest.mark.parametrize("name", lab_names())
def test_lab_states_what_a_student_plans_by(name: str) -> None:
    lab = find_lab(name)
    prose = "\n".join(cell.source for cell in lab.cells if cell.markdown)
    assert prose.count("★") >= len(lab.exercises), "every exercise states its difficulty"
    assert prose.count("minutes") >= len(lab.exercises), "every exercise states its minutes"
    assert lab.having("question"), "a lab asks for an answer in words"


@pytest.mark.parametrize("name", lab_names())
def test_a_labs_core_takes_three_hours_and_what_is_optional_says_so(name: str) -> None:
    lab = find_lab(name)
    table = {True: Counter(), False: Counter()}  # minutes of each section, optional or not
    for section, rest, minutes in ROW.findall(lab.cells[0].source):
        table["optional" in rest][section] += int(minutes)
    assert table[False].total() <= 180
    tasks = {True: Counter(), False: Counter()}
    headed, exercises, section, title = set(), set(), "", ""
    for cell in lab.cells:
        for line in cell.source.splitlines() if cell.markdown else ():
            if heading := re.match(r"## (\d+)\. .+?( \(optional\))?$", line):
                section, title = heading[1], ""
                headed |= {section} if heading[2] else set()
            elif line.startswith("### "):
                title = line
            elif stars := re.match(r"★+☆* · (\d+) minutes( · optional)?$", line):
                tasks[bool(stars[2])][section] += int(stars[1])
                exercises |= set(re.findall("`(.+)`", title)) if stars[2] else set()
        in_core = section not in table[True] and not title.endswith("(optional)")
        if cell.role == "demo" and not cell.markdown and in_core:
            used = {node.id for node in ast.walk(ast.parse(cell.source)) if hasattr(node, "id")}
            assert not used & exercises, "a figure of the core needs an optional exercise"
    assert tasks[True] <= table[True], "an exercise is optional, but not in the table"
    assert tasks[False] <= table[False], "an exercise isn't optional, but its section in the table"
    assert headed <= set(table[True]) - set(table[False])
    assert set(table[True]) <= headed | set(tasks[True]), "optional in the table only"


@pytest.mark.parametrize("name", lab_names())
def test_students_notebook_is_clean(name: str) -> None:
    notebook = nbformat.read(find_lab(name).released_path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert notebook.cells[0].source.startswith(f"# Lab {name[:2]}: ")
    assert "google.colab" in notebook.cells[1].source


@pytest.mark.parametrize("name", lab_names())
def test_no_test_takes_a_name_that_figures_need(name: str) -> None:
    """A name that a cell binds and a later one reads isn't bound by a test in between."""
    owned: set[str] = set()
    taken: dict[str, int] = {}
    for cell in find_lab(name).cells:
        if cell.markdown:
            continue
        is_test = cell.role == "test"
        missed = {} if is_test else {n: taken[n] for n in global_names(cell.source) & taken.keys()}
        assert not missed, f"line {cell.line} reads what tests in these lines bind anew: {missed}"
        for symbol in symtable.symtable(cell.source, name, "exec").get_symbols():
            bound = symbol.get_name()
            if not (symbol.is_assigned() or symbol.is_imported()):
                continue
            if not is_test:
                owned.add(bound)
                taken.pop(bound, None)
            elif bound in owned:
                taken[bound] = cell.line
