"""Every lab's solution runs from top to bottom, says nothing on stderr, and draws its figures."""

import nbformat
import pytest
from nbclient import NotebookClient

from autograder.authoring.lab import find_lab, lab_names
from autograder.authoring.release import source_notebook


@pytest.mark.slow
@pytest.mark.parametrize("name", lab_names())
def test_solution_runs_from_top_to_bottom(name: str, tmp_path) -> None:
    notebook = source_notebook(find_lab(name))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4


@pytest.mark.parametrize("name", lab_names())
def test_lab_states_what_a_student_plans_by(name: str) -> None:
    lab = find_lab(name)
    prose = "\n".join(cell.source for cell in lab.cells if cell.markdown)
    assert prose.count("★") >= len(lab.exercises), "every exercise states its difficulty"
    assert prose.count("minutes") >= len(lab.exercises), "every exercise states its minutes"
    assert lab.having("question"), "a lab asks for an answer in words"


@pytest.mark.parametrize("name", lab_names())
def test_students_notebook_is_clean(name: str) -> None:
    notebook = nbformat.read(find_lab(name).released_path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert notebook.cells[0].source.startswith(f"# Lab {name[:2]}: ")
    assert "google.colab" in notebook.cells[1].source
