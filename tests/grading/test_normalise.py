"""Submissions in a sorry state: repaired where that is possible, else refused with a reason."""

import base64
import contextlib
import copy
import functools
import io
import json
import re
from collections.abc import Callable, Iterable
from random import Random

import jupytext
import nbformat
import pytest
from conftest import Grader, points
from hypothesis import given, settings, strategies
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from PIL import Image

from autograder.authoring.addressed import unaddressed
from autograder.authoring.lab import Lab, find_lab
from autograder.grading import matching
from autograder.grading.grade import released_notebook
from autograder.grading.handed_in import Refused, read_cells
from autograder.grading.matching import ReleasedLab
from autograder.grading.normalise import Submission, normalise
from autograder.rehearsal.rehearse import solution_answers


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"print('hello')", "not a Jupyter notebook"),
        (b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "another lab"),
    ],
)
def test_what_is_no_notebook_of_this_lab_is_refused(grader: Grader, content, reason) -> None:
    result = grader(content)
    assert (result.status, result.score) == ("refused", 0)
    assert reason in result.reason


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


def test_extra_cells_are_not_run_for_nothing(grader: Grader) -> None:
    notebook = grader.notebook()
    notebook.cells.append(new_code_cell("while True: pass"))
    result = grader(notebook)
    assert (result.score, result.repairs) == (10, [])


# From here on normalising alone, on notebooks as students get them.


@functools.cache
def lab_with_essays(number: str) -> tuple[Lab, ReleasedLab, str, Submission]:
    """A lab, and its notebook with the solution's answers and an essay for every question."""
    lab = find_lab(number)
    solution = solution_answers(lab)
    notebook = released_notebook(lab)
    for cell in notebook.cells:
        if cell.id in lab.exercises:
            cell.source = solution[cell.id]
        elif cell.id in solution:
            cell.source = cell.source.replace("*Your answer here.*", essay(cell.id, 400))
    text = json.dumps(notebook)
    released = ReleasedLab(lab, released_notebook(lab))
    return lab, released, text, normalise(text.encode(), released)


class Student:
    """A student's notebook, all answered, to be damaged."""

    def __init__(self, number: str) -> None:
        self.lab, self.released, text, self.untouched = lab_with_essays(number)
        self.notebook = nbformat.from_dict(json.loads(text))
        self.stubs = {cell.name: cell.text for cell in self.released.wanted.values()}
        self.questions = [cell.name for cell in self.lab.having("question")]

    def __getitem__(self, grade_id: str) -> NotebookNode:
        return next(cell for cell in self.notebook.cells if cell.get("id") == grade_id)

    def place(self, grade_id: str) -> int:
        return self.notebook.cells.index(self[grade_id])

    def submit(self) -> Submission:
        return normalise(json.dumps(self.notebook).encode(), self.released)


def essay(about: str, length: int) -> str:
    """An answer in words that no lab has, as long as wanted."""
    words = (f"{about}{number} turns out zweifellos {number}-fold." for number in range(length))
    return " ".join(words)[:length]


@pytest.fixture(params=["01", "08"])
def student(request: pytest.FixtureRequest) -> Student:
    return Student(request.param)


def without_ids(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.metadata = {}
        cell.pop("id", None)


def colab(notebook: NotebookNode) -> None:
    notebook.nbformat_minor = 0
    notebook.metadata["colab"] = {"provenance": [], "toc_visible": True}
    for number, cell in enumerate(notebook.cells):
        cell.metadata["id"] = f"xY{number}"
        if cell.cell_type == "code":
            cell.metadata |= {"outputId": "1c", "colab": {"base_uri": "https://localhost:8080/"}}
        del cell["id"]


def colab_copy(notebook: NotebookNode) -> None:
    colab(notebook)
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)


def vs_code(notebook: NotebookNode) -> None:
    notebook.metadata = {"language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata["vscode"] = {"languageId": "python"}
        cell.source = "\r\n".join(line.rstrip() for line in cell.source.splitlines()) + "\r\n"


def kaggle(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.metadata = {"execution": {"iopub.status.busy": "2026"}, "trusted": True}
        cell["id"] = f"k{id(cell)}"


def deepnote(notebook: NotebookNode) -> None:
    notebook.metadata["deepnote_notebook_id"] = "0"
    for cell in notebook.cells:
        cell.metadata = {"cell_id": cell.pop("id"), "deepnote_cell_type": cell.cell_type}


def jupytext_round_trip(notebook: NotebookNode) -> None:
    text = jupytext.writes(notebook, fmt="py:percent")
    notebook.cells = jupytext.reads(text, fmt="py:percent").cells
    for cell in notebook.cells:
        cell.pop("id", None)


def format_3(notebook: NotebookNode) -> None:
    cells = [
        {**cell, "input": cell.source} if cell.cell_type == "code" else dict(cell)
        for cell in notebook.pop("cells")
    ]
    for cell in cells:
        if "input" in cell:
            del cell["source"]
    notebook |= {"nbformat": 3, "worksheets": [{"cells": cells[:9]}, {"cells": cells[9:]}]}


def lists_of_lines(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell["source"] = cell.source.splitlines(keepends=True)


def other_ids_and_an_old_minor(notebook: NotebookNode) -> None:
    notebook.nbformat_minor = 4
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{number:08x}"


def shuffled(notebook: NotebookNode) -> None:
    notebook.cells = notebook.cells[1::2] + notebook.cells[::2][::-1]


def shuffled_without_ids(notebook: NotebookNode) -> None:
    without_ids(notebook)
    shuffled(notebook)


def without_prose(notebook: NotebookNode) -> None:
    notebook.cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]


def without_all_but_answers(notebook: NotebookNode) -> None:
    notebook.cells = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution")]
    without_ids(notebook)


def as_an_older_release(notebook: NotebookNode) -> None:
    """Set-up first, other first lines in tests, another title, a given cell of another number."""
    setup = next(cell for cell in notebook.cells if cell.id == "setup")
    notebook.cells.remove(setup)
    notebook.cells.insert(0, setup)
    for cell in notebook.cells:
        settings = cell.metadata.get("nbgrader", {})
        if settings.get("grade"):
            cell.source = "# Run me.\n" + cell.source if settings["locked"] else cell.source
        elif settings.get("locked"):
            cell.source = cell.source.replace('"""', '"""Once: ', 1)
        elif cell.source.startswith("# Lab"):
            cell.source = cell.source.replace("# Lab", "# Assignment", 1)


def as_an_older_release_without_ids(notebook: NotebookNode) -> None:
    as_an_older_release(notebook)
    without_ids(notebook)


WAYS = [
    *(colab, colab_copy, vs_code, kaggle, deepnote, jupytext_round_trip, format_3, lists_of_lines),
    *(other_ids_and_an_old_minor, without_ids, shuffled, shuffled_without_ids, without_prose),
    *(without_all_but_answers, as_an_older_release, as_an_older_release_without_ids),
]


def stripped(parts: Iterable[tuple]) -> list[tuple]:
    return [tuple(str(part).strip() for part in parts) for parts in parts]


@pytest.mark.parametrize("way", WAYS)
def test_what_other_tools_do_to_a_notebook_changes_nothing(student: Student, way: Callable) -> None:
    way(student.notebook)
    submission = student.submit()
    assert stripped(submission.steps) == stripped(student.untouched.steps)
    assert stripped(submission.answers.items()) == stripped(student.untouched.answers.items())
    assert submission.answered == set(student.questions)
    assert submission.flags == []


def test_untouched_path_tells_nothing(student: Student) -> None:
    untouched = student.untouched
    assert (untouched.repairs, untouched.flags, untouched.other_cells) == ([], [], [])
    assert untouched.answered == set(student.questions)
    sources = [source for _, source, _ in untouched.steps]
    cells = student.lab.having("given", "exercise")
    solution = solution_answers(student.lab)
    assert sources == [solution.get(cell.name, cell.source) for cell in cells]
    student.notebook = released_notebook(student.lab)
    assert (student.submit().answered, student.submit().repairs) == (set(), [])


@pytest.mark.parametrize("length", [3, 300, 600, 900, 5_000, 20_000])
@pytest.mark.parametrize("lost", ["nothing", "ids", "the prompt", "the prompt and ids", "order"])
def test_written_answers_never_vanish(student: Student, length: int, lost: str) -> None:
    for name in student.questions:
        cell = student[name]
        cell.source = student.stubs[name].replace("*Your answer here.*", essay(name, length))
        if "prompt" in lost:
            cell.source = essay(name, length)
    if "ids" in lost or lost == "order":
        without_ids(student.notebook)
    if lost == "order":
        shuffled(student.notebook)
    submission = student.submit()
    for name in student.questions:
        assert submission.answers[name].strip().endswith(essay(name, length).strip())
    assert submission.answered == set(student.questions)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("prompt", ["kept", "answered", "deleted"])
@pytest.mark.parametrize("kind", ["markdown", "two", "code", "comments", "program"])
def test_answers_in_cells_of_their_own_are_found(
    student: Student, ids: bool, prompt: str, kind: str
) -> None:
    for name in student.questions:
        cell = student[name]
        if prompt != "answered":
            cell.source = student.stubs[name]
        new = {
            "markdown": [new_markdown_cell(essay(name, 2_000))],
            "two": [new_markdown_cell(essay(name, 200)), new_markdown_cell(f"And {name}!")],
            "code": [new_code_cell(essay(name, 2_000))],
            "comments": [new_code_cell(f"# {essay(name, 200)}\n'so {name}'")],
            "program": [new_code_cell(f"print('{name}')")],
        }[kind]
        place = student.place(name)
        student.notebook.cells[place + 1 : place + 1] = new
        if prompt == "deleted":
            student.notebook.cells.remove(cell)
    if not ids:
        without_ids(student.notebook)
    submission = student.submit()
    for name in student.questions:
        if kind == "program" and prompt == "answered":  # An experiment beside an answer in words.
            assert any(name in cell["source"] for cell in submission.other_cells)
            continue
        assert name in submission.answered
        assert f"{name}1" in submission.answers[name] or kind == "program"
        for text in {"two": [f"And {name}!"], "program": [f"print('{name}')"]}.get(kind, []):
            assert text in submission.answers[name]
        assert submission.steps == student.untouched.steps
        if kind != "program":
            assert submission.other_cells == []


def test_copies_of_a_question_are_all_kept(student: Student) -> None:
    name = student.questions[0]
    second = copy.deepcopy(student[name])
    second.source = student.stubs[name].replace("*Your answer here.*", "My second thought.")
    student.notebook.cells.insert(student.place(name) + 1, second)
    answer = student.submit().answers[name]
    assert essay(name, 400) in answer
    assert "My second thought." in answer


def test_pictures_of_an_answers_cells_are_kept_under_names_of_their_own(student: Student) -> None:
    name = student.questions[0]
    picture = io.BytesIO()
    Image.new("L", (1, 1)).save(picture, "PNG")
    dot = base64.b64encode(picture.getvalue()).decode()
    place = student.place(name)
    for number in range(2):
        cell = new_markdown_cell("![](attachment:image.png)")
        cell["attachments"] = {"image.png": {"image/png": dot}}
        student.notebook.cells.insert(place + 1 + number, cell)
    submission = student.submit()
    assert len(submission.pictures[name]) == 2
    for kept in submission.pictures[name]:
        assert f"(attachment:{kept})" in submission.answers[name]


def test_two_questions_in_one_cell_are_both_answered() -> None:
    student = Student("08")
    first, second = student.questions
    student[first].source += "\n\n" + student[second].source
    student.notebook.cells.remove(student[second])
    submission = student.submit()
    assert submission.answered == {first, second}
    assert essay(second, 400) in submission.answers[second]


def test_question_merged_into_the_prose_before_it_is_found(student: Student) -> None:
    name = student.questions[0]
    place = student.place(name)
    above = next(c for c in reversed(student.notebook.cells[:place]) if c.cell_type == "markdown")
    above.source += "\n\n" + student[name].source
    student.notebook.cells.remove(student[name])
    assert essay(name, 400) in student.submit().answers[name]


def test_what_a_student_wrote_elsewhere_is_kept_for_the_ta(student: Student) -> None:
    exercise = next(iter(student.lab.exercises))
    place = student.place(exercise)
    demo = next(c for c in student.notebook.cells if c.cell_type == "code" and not c.metadata)
    student.notebook.cells[place:place] = [new_markdown_cell("A note."), new_code_cell("1 / 0")]
    demo.source += "\nprint('changed')"
    student["test_" + exercise].source = "all is well"
    submission = student.submit()
    kept = {cell["source"]: cell for cell in submission.other_cells}
    assert set(kept) == {"A note.", "1 / 0", demo.source, "all is well"}
    assert kept["A note."] == {
        "cell": place + 1,
        "kind": "markdown",
        "after": kept["1 / 0"]["after"],
        "run": False,
        "source": "A note.",
    }
    assert kept["all is well"]["after"] == exercise
    assert submission.answers == student.untouched.answers


def test_what_is_kept_is_bounded(student: Student) -> None:
    cells = [new_markdown_cell("w " * 15_000) for _ in range(30)]
    student.notebook.cells = cells + student.notebook.cells
    submission = student.submit()
    assert len("".join(cell["source"] for cell in submission.other_cells)) <= 200_000
    assert "were too long to be kept" in submission.repairs[-1]


def test_merged_and_split_cells_cost_nothing(student: Student) -> None:
    first, second = list(student.lab.exercises)[:2]
    test = student["test_" + first]
    # An exercise with its test and the next exercise, in one cell.
    student[first].source += f"\n\n{test.source}\n\n{student[second].source}"
    for cell in (test, student[second]):
        student.notebook.cells.remove(cell)
    submission = student.submit()
    titles = [exercise for _, _, exercise in submission.steps if exercise]
    assert titles == list(student.lab.exercises)
    assert set(submission.answers) == set(student.untouched.answers)
    sources = {exercise: source for _, source, exercise in submission.steps}
    assert f"def {second}" in sources[second]
    assert "check_close" not in sources[first]
    assert any("merged" in repair for repair in submission.repairs)
    assert submission.flags == []


def test_test_merged_with_the_exercise_below_it_is_taken_apart(student: Student) -> None:
    first, second = list(student.lab.exercises)[:2]
    test = student["test_" + first]
    expected = student[second].source
    test.source += "\n\n" + expected
    student.notebook.cells.remove(student[second])
    assert student.submit().answers[second] == expected


def test_exercise_split_into_two_cells_is_run_whole(student: Student) -> None:
    exercise = next(iter(student.lab.exercises))
    place, solution = student.place(exercise), student[exercise].source
    student[exercise].source = "import math\nhelper = math.pi"
    student.notebook.cells.insert(place + 1, new_code_cell(solution))
    submission = student.submit()
    place = [title for title, _, _ in submission.steps].index(exercise)
    assert submission.steps[place + 1][1] == solution
    assert student.untouched.steps[place + 1 :] == submission.steps[place + 2 :]


def test_what_a_student_adds_to_a_locked_cell_is_used(student: Student) -> None:
    exercise = next(iter(student.lab.exercises))
    student[exercise].source = "def helped(x):\n    return math.sqrt(twice(x))\n" + student[
        exercise
    ].source.replace("return", "helped(4); return")
    added = "import math\nfrom utils import *\ndef torch(): pass\nunused = 1\n"
    added += "@property\ndef twice(x):\n    return 2 * x\n"
    given = student["given_1"].source
    # After the lab's own text, it is a cell of its own; within it, single statements are taken.
    student["given_1"].source = f"{given}\n\n{added}"
    submission = student.submit()
    assert submission.steps[1][1] == added.strip()
    assert submission.other_cells[0]["run"]
    student["given_1"].source = given.replace("\n", f"\n{added}", 1)
    submission = student.submit()
    assert [source for _, source, _ in submission.steps[1:3]] == [
        "import math",
        "@property\ndef twice(x):\n    return 2 * x",
    ]
    assert submission.steps[0] == student.untouched.steps[0]
    assert len(submission.steps) == len(student.untouched.steps) + 2
    assert "unused = 1" in submission.other_cells[0]["source"]


def test_exercise_that_is_no_python_is_found_by_its_definition(student: Student) -> None:
    exercise = next(iter(student.lab.exercises))
    student[exercise].source = student[exercise].source.replace("return", "return (", 1)
    broken = student[exercise].source
    without_ids(student.notebook)
    assert student.submit().answers[exercise] == broken


@pytest.mark.parametrize(
    "source",
    ["x = " + "-" * 90_000 + "1", "if x: pass\n" + "elif x: pass\n" * 7_000, "#" * 200_000],
)
def test_cell_that_cannot_be_read_costs_its_own_exercise_only(student: Student, source) -> None:
    exercise = next(iter(student.lab.exercises))
    student[exercise].source = source
    steps = student.submit().steps
    changed = [step for step in steps if step not in student.untouched.steps]
    assert len(steps) == len(student.untouched.steps)
    assert [name for _, _, name in changed] == [exercise]
    with pytest.raises(RuntimeError, match=r"too deep|longer than"):
        exec(changed[0][1], {})


def test_too_much_code_is_refused(student: Student) -> None:
    student.notebook.cells += [new_code_cell("x = 1\n" * 15_000) for _ in range(4)]
    with pytest.raises(Refused, match="characters of code, more than the 300,000 that are read"):
        student.submit()


def test_as_many_cells_as_are_read_without_ids(student: Student, monkeypatch) -> None:
    """Each is compared once with each released cell at most, by its words."""
    student.notebook.cells[:0] = [new_markdown_cell(essay("x", 900))] * 1_800
    without_ids(student.notebook)
    compared = []
    phrases = matching._phrases
    monkeypatch.setattr(matching, "_phrases", lambda text: compared.append(1) or phrases(text))
    assert student.submit().answers == student.untouched.answers
    assert len(compared) < 2_000


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("def check_close(*a, **k): pass", "gives `check_close`, which the lab defines, another"),
        ("check_close = print", "gives `check_close`, which the lab defines"),
        ("for torch in [1]: pass", "gives `torch`, which the lab defines"),
        ("import numpy as torch", "gives `torch`, which the lab defines"),
        ("from numpy import sum as check_close", "gives `check_close`, which the lab defines"),
        ("def f():\n    global torch\n    torch = 1", "gives `torch`, which the lab defines"),
        ("del torch", "gives `torch`, which the lab defines"),
        ("BUILTIN = 3", "gives `BUILTIN`, which Python defines"),
        ("def SECOND(): pass", "gives `SECOND`, which has a cell of its own"),
        ("torch.equal = print", "changes `torch.equal`, which other code relies on"),
        ("import utils.checks as c\nc.x = 1", "changes `utils.checks.x`"),
        ("globals()['np'] = 1", "changes `globals()[np]`"),
        ("from numpy import *", "has `from numpy import *`"),
        ("import torch\nimport torch.nn as nn, numpy", None),
        ("def f(np):\n    check_close = np\n    return check_close", None),
        ("x = [np for np in [1]]\nmy_sum = sum([])", None),
        ("import math\nmath_is = math.pi\nx = torch.zeros(3)\nx[0] = 1", None),
    ],
)
def test_names_that_mean_something_else_are_told(student: Student, added, said) -> None:
    first, second = list(student.lab.exercises)[:2]
    standing_for = {"SECOND": second, "BUILTIN": min(student.released.builtins)}
    for word, name in standing_for.items():
        added, said = added.replace(word, name), said and said.replace(word, name)
    student[first].source += "\n\n" + added
    submission = student.submit()
    if said is None:
        assert (submission.repairs, submission.flags) == ([], [])
    else:
        (repair,), (flag,) = submission.repairs, submission.flags
        assert f"your cell `{first}` {said}" in repair
        assert flag.startswith(f"the cell `{first}` ")


def test_own_cell_that_takes_a_given_name_is_told_where_the_exercises_use_it() -> None:
    student = Student("01")
    mine = "def random_layer(seed, x_shape, w_shape):\n    return seed"
    student.notebook.cells.insert(5, new_code_cell(mine))
    assert student.submit().repairs == []  # It changes nothing that is graded.
    student["im2col"].source += "\n\ndef check():\n    return random_layer(1, 2, 3)"
    submission = student.submit()
    (repair,) = submission.repairs
    assert "your cell 6 gives `random_layer`, which the lab defines, another meaning" in repair
    assert "graded with the lab's own" in repair
    assert submission.other_cells[0]["source"] == mine


def test_marks_of_a_merge_conflict_in_a_cell_are_told(student: Student) -> None:
    exercise = next(iter(student.lab.exercises))
    student[exercise].source += "\n<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> mine"
    (repair,) = student.submit().repairs
    assert re.search(f"cell `{exercise}` holds the marks of a merge conflict", repair)


PIECES = (
    *("", "x = 1", "%time", "(", "\ud800", "\0", "\x0c", "def grad_cam(): pass", "return", "del x"),
    *("import torch as np", "from . import *", "globals()[x] = 1", "setattr(*a)", "vars()()"),
    *(
        "match x:\n  case {**a}: pass",
        "lambda: (yield)",
        "<<<<<<< a",
        "An answer.",
        "class A: x = 3",
    ),
)
NAMES = ("grad_cam", "why_the_same", "a_verdict", "test_grad_cam", "given_1", "nothing")
JUNK = strategies.one_of(strategies.none(), strategies.integers(), strategies.text(max_size=3))
SOURCES = strategies.lists(strategies.sampled_from(PIECES), max_size=4)
CELLS = strategies.fixed_dictionaries(
    {},
    optional={
        "cell_type": strategies.sampled_from(["code", "markdown", "raw", "heading", 3]),
        "source": strategies.one_of(JUNK, SOURCES, SOURCES.map("\n".join)),
        "id": strategies.one_of(JUNK, strategies.sampled_from(NAMES)),
        "metadata": strategies.one_of(
            JUNK,
            strategies.fixed_dictionaries({"nbgrader": JUNK}),
            strategies.fixed_dictionaries(
                {"nbgrader": strategies.fixed_dictionaries({"grade_id": JUNK})}
            ),
        ),
        "attachments": strategies.one_of(JUNK, strategies.dictionaries(JUNK.map(str), JUNK)),
    },
)


def handled_badly(cells: list, extra: list, random: Random) -> list:
    """Cells that were deleted, copied, merged, split, stripped, and had others put among them."""
    for _ in range(random.randrange(8)):
        place = random.randrange(len(cells))
        cell, *after = cells[place : place + 2]
        half = random.randrange(len(cell["source"]) + 1)
        cells[place : place + 2] = random.choice(
            (
                after,
                [*after, cell, cell],
                [cell | {"source": "\n\n".join(c["source"] for c in (cell, *after))}],
                [cell | {"source": cell["source"][:half]}, {"source": cell["source"][half:]}],
                [{"source": cell["source"], "cell_type": "code"}, *after],
            )
        )
    for cell in extra:
        cells.insert(random.randrange(len(cells) + 1), cell)
    return cells


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(strategies.lists(strategies.one_of(JUNK, CELLS), max_size=6), strategies.randoms())
def test_nothing_but_refusals_and_no_line_lost(extra: list, random: Random) -> None:
    student = Student("08")
    cells = [dict(cell) for cell in student.notebook.cells]
    content = json.dumps({"cells": handled_badly(cells, extra, random)}).encode()
    try:
        submission = normalise(content, student.released)
    except Refused as refusal:
        assert "\n" not in str(refusal)
        return
    shown = [*submission.answers.values(), *(cell["source"] for cell in submission.other_cells)]
    shown += [source for _, source, _ in submission.steps]
    shown += [cell.text for cell in student.released.cells]
    lines = {line.strip() for text in shown for line in text.splitlines()}
    for cell in read_cells(content)[0]:
        told = {line.strip() for line in unaddressed(cell.text).splitlines()}
        assert told <= lines | {""}
    assert all(told and "\n" not in told for told in submission.repairs + submission.flags)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(strategies.binary(max_size=100), strategies.sampled_from([b"", b'{"cells": [', b"\xff\xfe"]))
def test_bytes_are_refused_or_read(content: bytes, start: bytes) -> None:
    with contextlib.suppress(Refused):
        normalise(start + content, Student("08").released)
