"""A student on a JupyterHub, where nbgitpuller fetches what the course mended."""

import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import MINI
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgitpuller.pull import GitPuller

from autograder.authoring.handout import hand_out
from autograder.authoring.lab import ROOT, Lab, read_lab
from autograder.authoring.release import release
from autograder.grading.grade import grade
from autograder.grading.job import Job

FIRST = MINI.replace("x is squared", "x is squarred").replace(
    "expected = model(images)[:, 0].detach()",
    "### BEGIN EXPECTED\nexpected = reference.score(model, images).detach()\n### END EXPECTED",
)
DOUBLE = "def double(x):\n    return np.multiply(x, 2)"
SCORE = "def score(model, images):\n    return model(images).T[0]"


class Course:
    """A course of one lab, its hand-out, and a student's clone of that."""

    def __init__(self, place: Path) -> None:
        self.solution = place / "course" / "solutions" / "01_mini.py"
        self.handout = place / "labs"
        self.clone = place / "home" / "labs"
        self.notebook = self.clone / "labs" / "01_mini.ipynb"
        self.solution.parent.mkdir(parents=True)
        shutil.copy(ROOT / "pyproject.toml", place / "course")

    def hand_out(self, text: str) -> Lab:
        """Releases and hands out the lab as it is now."""
        self.solution.write_text(text)
        lab = read_lab(self.solution)
        release(lab, self.solution.parents[1] / "course")
        hand_out(self.handout, [lab], f"file://{self.handout}")
        return lab

    def pull(self) -> None:
        """What a click on the link to the hub does."""
        for _ in GitPuller(f"file://{self.handout}", str(self.clone), branch="main").pull():
            pass

    def read(self) -> NotebookNode:
        return nbformat.read(self.notebook, as_version=4)

    def work(self, **sources: str) -> None:
        """Writes these cells, runs the notebook, and saves it."""
        notebook = self.read()
        for cell in notebook.cells:
            cell.source = sources.get(cell.id, cell.source)
        place = {"metadata": {"path": str(self.notebook.parent)}}
        NotebookClient(notebook, timeout=600, allow_errors=True, resources=place).execute()
        nbformat.write(notebook, self.notebook)


@pytest.mark.slow
def test_work_is_kept_and_what_the_course_mended_arrives(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.hand_out(FIRST)
    course.pull()
    course.work(double=DOUBLE, score=SCORE, answer="answer = 42")
    mended = FIRST.replace("squarred", "squared").replace("(4, 3)\n", "(4, 3) / 3\n")
    mended = mended.replace("A small network with", "A small network, with")
    lab = course.hand_out(mended)
    course.pull()

    cells = {cell.id: cell for cell in course.read().cells}
    given = {cell.id: cell for cell in nbformat.read(lab.released_path, as_version=4).cells}
    assert (cells["double"].source, cells["score"].source) == (DOUBLE, SCORE)
    for name in ("given_1", "test_double", "test_score"):
        assert cells[name].source == given[name].source, name
    values = course.notebook.with_suffix(".safetensors")
    assert values.read_bytes() == lab.values_path.read_bytes()
    assert '"v2"' in cells["setup"].source
    course.work()
    said = course.read().cells[-1].outputs[0].text
    assert "3 of 3 exercises are right so far." in said
    result = grade(Job("student", course.notebook, lab.solution_path, seed=1))
    assert (result.score, result.repairs, result.flags) == (result.max_score, [], [])


@pytest.mark.slow
def test_where_both_changed_the_same_lines_the_students_stay(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.hand_out(FIRST)
    course.pull()
    cells = {cell.id: cell for cell in course.read().cells}
    test = cells["test_double"].source.replace("x is squarred", "x is a square")
    stub = cells["double"].source.replace("an array", "any array")
    stub = stub.replace("raise NotImplementedError  # your code here", "return 2 * x")
    course.work(double=stub, score=SCORE, answer="answer = 42", test_double=test)
    mended = FIRST.replace("squarred", "squared").replace("Twice x, an array", "2 x, for an array")
    lab = course.hand_out(mended.replace("how many?", "how many, all in all?"))
    course.pull()

    cells = {cell.id: cell for cell in course.read().cells}
    assert (cells["double"].source, cells["test_double"].source) == (stub, test)
    assert cells["answer"].source == "answer = 42"
    course.work()
    assert "3 of 3 exercises are right so far." in course.read().cells[-1].outputs[0].text
    result = grade(Job("student", course.notebook, lab.solution_path, seed=1))
    assert result.score == result.max_score
    assert [repair for repair in result.repairs if "test_double" in repair], result.repairs
