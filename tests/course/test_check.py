"""`autograder check`: one notebook as its student sees it, and one sentence of what to do next."""

import nbformat
import pytest
from conftest import Grader
from nbgrader.utils import compute_checksum
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.lab import Lab, find_lab
from autograder.authoring.release import source_notebook
from autograder.course.check import Check, check, lab_in
from autograder.grading.handed_in import Refused

SQUARE = "def double(x):\n    return x * x"
# Right where students see it, wrong on negative numbers, which hidden tests try.
POSITIVE = "def double(x):\n    return 2 * abs(x)"
STUB = "raise NotImplementedError  # your code here"


def checked(grader: Grader, notebook: nbformat.NotebookNode) -> Check:
    """Checks a notebook, and that its file stays as it is."""
    path = grader.folder / "01_mini.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    steps: list[int] = []
    found = check(grader.lab, path, progress=lambda: steps.append(1))
    assert len(steps) == len(grader.lab.as_shown().having("test"))
    assert path.read_bytes() == before
    assert [other.name for other in grader.folder.iterdir()] == [path.name]
    return found


def test_a_notebook_on_its_way(grader: Grader) -> None:
    stub = f"def score(model, images):\n    # later\n    {STUB}"
    found = checked(grader, grader.notebook(double=SQUARE, score=stub, why="*Your answer here.*"))
    assert found.rows[0].tests.startswith("✗ its test: double(x)")
    assert "x is squared" in found.rows[0].tests
    assert [(row.name, row.state, row.left) for row in found.rows] == [
        ("double", "not right yet", "1 hidden"),
        ("score", "still a stub", ""),
        ("answer", "right so far", ""),
        ("why", "not answered", "a TA reads it"),
    ]
    assert found.rows[2].tests == "✓ its test"
    assert found.notes == []
    assert found.next.startswith("mend double: ") and "x is squared" in found.next


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "hand it in; other inputs are tried then"),
        ({"double": POSITIVE}, "hand it in; other inputs are tried then"),
        ({"why": ""}, "answer why in words"),
        ({"why": "", "double": f"def double(x):\n    {STUB}"}, "write double"),
        ({"answer": "answer = 41"}, "mend answer: answer is 41, not what was asked for"),
        ({"double": "import os\nos._exit(3)"}, "mend double: running the cell double: ended"),
    ],
)
def test_what_to_do_next(grader: Grader, answers: dict[str, str], said: str) -> None:
    assert checked(grader, grader.notebook(**answers)).next.startswith(said)


def test_cells_lost_doubled_and_renamed(grader: Grader) -> None:
    notebook = grader.notebook()
    by_id = {cell.id: cell for cell in notebook.cells}
    copy = by_id["double"].copy() | {"id": "double-copy", "source": SQUARE}
    notebook.cells.append(nbformat.from_dict(copy))
    del by_id["score"].metadata["nbgrader"]
    by_id["score"].id = "renamed"
    notebook.cells.remove(by_id["answer"])
    found = checked(grader, notebook)
    assert found.next == "the cell answer is gone: copy it from the lab's notebook"
    for sentence in (
        "2 cells are named double; took the last that had been worked on",
        "found by their content, as they had lost their ids: score",
        "the cell answer is missing",
    ):
        assert sentence in found.notes
    assert [row.state for row in found.rows] == [
        *("not right yet", "right so far", "missing", "answered")
    ]


def test_cells_of_another_release(grader: Grader) -> None:
    notebook = grader.notebook()
    test = next(cell for cell in notebook.cells if cell.id == "test_answer")
    test.source = test.source.replace("42", "43")
    assert "another release" not in " ".join(checked(grader, notebook).notes)  # a student's doing
    test.metadata.nbgrader.checksum = compute_checksum(test)
    found = checked(grader, notebook)
    assert found.notes[0] == "these cells of the lab's are of another release: test_answer"
    assert found.next == "get the lab anew, and copy your own cells over"


@pytest.mark.parametrize("number", ["01", "07", "12"])
def test_the_lab_is_told_from_the_notebook(number: str, tmp_path) -> None:
    lab = find_lab(number)
    path = tmp_path / "homework.ipynb"
    path.write_bytes(lab.released_path.read_bytes())
    assert lab_in(path) == lab.name
    stripped = source_notebook(lab)
    for cell in stripped.cells:
        cell.metadata, cell.id = nbformat.NotebookNode(), cell.id[::-1]
    nbformat.write(stripped, path)
    assert lab_in(path) == lab.name


def test_a_notebook_of_no_lab(mini: Lab) -> None:
    assert lab_in(mini.released_path, mini.released_path.parent) == "01_mini"
    with pytest.raises(Refused, match=r"01_mini.ipynb is none of the labs' notebooks, or little"):
        lab_in(mini.released_path)


@pytest.fixture
def run(grader: Grader, monkeypatch):
    """Runs the command, to which every lab is the tiny one."""
    monkeypatch.setattr(cli, "find_lab", lambda name: grader.lab)
    monkeypatch.setattr(cli.console, "width", 120)

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["check", *(str(argument) for argument in arguments)])
        return result.exit_code, " ".join(result.output.split())

    return run


def test_the_command(run, grader: Grader) -> None:
    path = grader.folder / "mine.ipynb"
    nbformat.write(grader.notebook(double=SQUARE), path)
    code, said = run(path, "--lab", "mini")
    assert code == 0
    assert "│ double │ not right yet │ ✗ its test: double(x)" in said
    assert "the file is named mine.ipynb: hand it in as 01_mini.ipynb next: mend double: " in said


def test_bad_input_gets_one_sentence(run, grader: Grader) -> None:
    folder = grader.folder
    (folder / "notes.ipynb").write_bytes(b"%PDF-1.4 ")
    nbformat.write(grader.notebook(), folder / "mini.ipynb")
    for arguments, sentence in (
        ([folder / "nowhere.ipynb"], "the notebook can't be read: No such file or directory"),
        ([folder / "mini.ipynb"], "mini.ipynb is none of the labs' notebooks, or little is left"),
        (
            [folder / "notes.ipynb", "--lab", "mini"],
            "the file is not a Jupyter notebook but looks like a PDF; hand in the .ipynb file",
        ),
        ([folder / "mini.ipynb", "--isolation", "x"], "the isolation is bubblewrap or process"),
    ):
        code, said = run(*arguments)
        assert code == 1 and said.startswith(sentence), said
        assert "Traceback" not in said


def test_another_labs_notebook(run, grader: Grader) -> None:
    path = grader.folder / "01_mini.ipynb"
    path.write_bytes(find_lab("02").released_path.read_bytes())
    said = "the notebook holds no cell of 01_mini; was another lab handed in?"
    assert run(path, "--lab", "mini") == (1, said)
