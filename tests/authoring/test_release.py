"""The form of a student's notebook, the values beside it, and what release does with a student's
work."""

import textwrap
from pathlib import Path

import nbformat
import pytest
from conftest import MINI

from autograder.authoring.lab import ROOT, Lab, LabError, read_lab
from autograder.authoring.release import fold_title, holds_work, release, source_notebook, stale
from utils.recorded import load

REGION = """
x = np.array([1.0, 2.0])
### BEGIN EXPECTED
expected = reference.double(x)
mistakes = {"x is squared": x * x}
### END EXPECTED
check_close(double(x), expected, "double(x)", mistakes=mistakes)
"""


def write(folder: Path, text: str) -> Lab:
    path = folder / "solutions" / "01_mini.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return read_lab(path)


def with_region(text: str = MINI) -> str:
    """The tiny lab with its first test in the new form."""
    header = '# %% test="double" points=2 aspect="two numbers"\n'
    start = text.index('# %% test="double" points=2')
    return (
        text[:start]
        + header
        + REGION.strip()
        + text[text.index('\n\n# %% test="double" points=3') :]
    )


def with_rules(text: str) -> str:
    """The tiny lab, `double` with rules and a test for one of them."""
    text = text.replace('exercise="double"', 'exercise="double" changes="x" without="scipy, torch"')
    text = text.replace(
        "import check_close", "import check_close\nfrom utils.guard import check_without"
    )
    rule = '# %% test="double" points=1 aspect="by hand"\nassert double(2) == 4\n'
    rule += "check_without(double)\n\n"
    return text.replace('# %% test="double" points=3', rule + '# %% test="double" points=3')


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    lab = write(folder, with_rules(with_region()))
    assert release(lab, folder / "course") is None
    return lab


def cells(lab: Lab) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell for cell in nbformat.read(lab.released_path, as_version=4).cells}


def test_title_first_and_set_up_second(lab: Lab) -> None:
    released = list(cells(lab).values())
    assert [cell.id for cell in released[:3]] == ["cell-1", "setup", "given_1"]
    assert released[0].source == "# A tiny lab"
    assert released[1].source.startswith("# @title Set-up\n")


def test_how_far_it_is_last(lab: Lab) -> None:
    last = list(cells(lab).values())[-1]
    assert last.id == "hand_in"
    assert last.source == textwrap.dedent("""\
        # @title How far am I? Hand in
        # Says how far this notebook is; on Colab, also writes it out to hand in.
        from utils.notebook import sum_up

        sum_up(
            "01_mini",
            {
                "double": ["two numbers", "by hand"],
                "score": [""],
                "answer": [""],
            },
            ["why"],
        )""")


def test_a_test_is_one_line_without_its_answer(lab: Lab) -> None:
    version = lab.version(lab.having("test")[0])
    assert cells(lab)["test_double"].source.splitlines() == [
        "# @title Check `double`: two numbers",
        "double = checked(double, changes=('x',), without=('scipy', 'torch'))",
        f'recorded = Recorded("01_mini", "test_double", "{version}")',
        "x = np.array([1.0, 2.0])",
        "expected, mistakes = recorded()",
        'check_close(double(x), expected, "double(x)", mistakes=mistakes)',
        "double = unchecked(double)",
        'print("double: right so far (two numbers)")',
    ]
    # A value has no rules; of a test that is all hidden, students see what it is, and its comment.
    assert cells(lab)["test_answer"].source.splitlines()[1:] == [
        'assert answer == 42, f"answer is {answer!r}, not what was asked for"',
        'print("answer: right so far")',
    ]
    assert cells(lab)["test_double_3"].source.splitlines() == [
        "# @title Hidden tests of `double`: they run when your notebook is graded",
        "# Other numbers are tried here.",
    ]


def test_rules_hold_in_hidden_tests_too(lab: Lab) -> None:
    source = {cell.id: cell.source for cell in source_notebook(lab).cells}["test_double_3"]
    lines = source.splitlines()
    assert lines[2] == "### BEGIN HIDDEN TESTS"
    assert lines[5].startswith("double = checked(double, changes=")
    assert "print(" not in source


def test_what_is_folded(lab: Lab) -> None:
    folded = {key for key, cell in cells(lab).items() if cell.metadata.get("jupyter")}
    assert folded == {
        *("setup", "given_1", "test_double", "test_double_2", "test_double_3"),
        *("test_score", "test_answer", "hand_in"),
    }
    for key in folded:
        cell = cells(lab)[key]
        assert cell.metadata["jupyter"] == {"source_hidden": True}
        assert cell.metadata["cellView"] == "form"
        assert cell.source.startswith("# @title ")


@pytest.mark.parametrize(
    ("cell", "title"),
    [
        ("# %% given=true\nimport os", "Given: imports"),
        ("# %% given=true\nimport os\nB = 1\ndef a(): pass", "Given: `B`, `a`"),
        ("# %% given=true\nb = c = d = e = f = a = 1", "Given: `a`, `b`, `c`, `d`, `e`, …"),
        ("# %% given=true fold=false\nimport os", None),
        ('# %% given=true fold="Data"\nimport os', "Data"),
        ("# %%\nprint(1)", None),
        ('# %% fold="Long"\nprint(1)', "Long"),
        ("# %%\nplt.plot(x)", "Figure"),
        ("# %%\nplt.title('A b')", "Figure: A b"),
        (
            "# %%\naxes.set_title('c')\nfigure.suptitle(f'A\\n{b:.2f} c')\nplt.show()",
            "Figure: A … c",
        ),
        ("# %% fold=false\nplt.plot(x)", None),
        ("# %%\n%matplotlib inline\nplt.plot(x)", None),
        ("# %%\nimport matplotlib.pyplot as plt", None),
        ("# %% [markdown]\n# plt", None),
    ],
)
def test_titles(tmp_path, cell: str, title: str | None) -> None:
    lab = write(tmp_path, MINI + "\n" + cell + "\n")
    assert fold_title(lab.cells[-1]) == title


def test_values_lie_beside_the_notebook_and_in_the_course(lab: Lab) -> None:
    content = load(lab.values_path.read_bytes())
    (passage,) = content["cells"]["test_double"]["regions"][0]
    assert passage["expected"].tolist() == [2.0, 4.0]
    for folder in "source", "release":
        path = lab.root / "course" / folder / lab.name / lab.values_path.name
        assert path.read_bytes() == lab.values_path.read_bytes()


def changed(lab: Lab, old: bytes, new: bytes) -> list[str]:
    """What is stale after a change in the file of values."""
    content = lab.values_path.read_bytes()
    assert old in content
    lab.values_path.write_bytes(content.replace(old, new, 1))
    try:
        return stale(lab)
    finally:
        lab.values_path.write_bytes(content)


def test_stale_values_are_noticed(lab: Lab) -> None:
    assert stale(lab) == []
    four, five = (f"labs/{lab.values_path.name}", "['cells']['test_double']['regions']")
    (said,) = changed(lab, b"\0\0\0\0\0\0\x10\x40", b"\0\0\0\0\0\0\x14\x40")
    assert said.startswith(f"{four}{five}") and said.endswith("has other values")
    (said,) = changed(lab, b"x is squared", b"x is sqvared")[:1]
    assert said.endswith("is gone")
    away = lab.values_path.rename(lab.values_path.with_suffix(".away"))
    assert stale(lab) == [f"labs/{lab.values_path.name} is missing"]
    away.rename(lab.values_path)


def test_values_of_a_lab_without_regions_are_left_over(mini: Lab) -> None:
    mini.values_path.write_bytes(b"")
    try:
        assert stale(mini) == ["labs/01_mini.safetensors is left over"]
    finally:
        mini.values_path.unlink()


def test_release_keeps_a_students_work(tmp_path) -> None:
    lab = write(tmp_path, MINI)
    release(lab, tmp_path / "course")
    untouched = lab.released_path.read_text()
    assert not holds_work(lab.released_path)
    # An earlier release isn't anybody's work.
    write(tmp_path, MINI.replace("Twice x", "Two times x"))
    assert release(read_lab(lab.solution_path), tmp_path / "course") is None
    work = untouched.replace("raise NotImplementedError  # your code here", "return 2 * x", 1)
    lab.released_path.write_text(work)
    kept = release(lab, tmp_path / "course")
    assert kept is not None and kept.parent == lab.released_path.parent
    assert kept.name.startswith("01_mini.your-work-") and kept.suffix == ".ipynb"
    assert kept.read_text() == work
    assert lab.released_path.read_text() == untouched


@pytest.mark.parametrize(
    ("old", "new", "work"),
    [
        ("*Your answer here.*", "Because.", True),
        ("raise NotImplementedError  # your code here", "pass", True),
        ('"print(double(np.arange(3)))"', '"print(double(np.arange(4)))"', False),
        ('"id": "cell-6"', '"id": "9c1b2a77"', True),
        ('"cells": [', "<<<<<<< HEAD", True),
    ],
)
def test_what_counts_as_work(mini: Lab, tmp_path, old: str, new: str, work: bool) -> None:
    text = mini.released_path.read_text()
    assert old in text
    path = tmp_path / "notebook.ipynb"
    path.write_text(text.replace(old, new, 1))
    assert holds_work(path) == work


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        (
            "check_without(double)",
            "double(1)",
            'exercise="double"',
            "needs a test that calls check_w",
        ),
        ("assert double(2) == 4\n", "", 'aspect="by hand"', "what does nothing calls nothing"),
        (
            "twice = x + x",
            "twice = torch.add(x, x)",
            "twice = torch",
            "forbids what the solution do",
        ),
        ("twice = x + x", "twice = helper(x)", "return torch", "forbids what the solution does"),
        ('exercise="answer"', 'exercise="answer" without="torch"', 'exercise="answer"', "no value"),
        ('changes="x"', 'changes="z"', 'exercise="double"', "no parameter 'z'"),
        ("# %%\nprint", "# %% fold=3\nprint", "# %% fold=3", "fold is a title in quotes, or false"),
        ('aspect="by hand"', 'fold="by hand"', "points=1 fold", "one role out of"),
    ],
)
def test_slips(tmp_path, old: str, new: str, place: str, said: str) -> None:
    text = with_rules(MINI)
    assert old in text
    helper = "def helper(x):\n    return torch.add(x, x)\n\n\ndef network"
    text = text.replace(old, new, 1).replace("def network", helper)
    line = text[: text.index(place)].count("\n") + 1
    with pytest.raises(LabError, match=rf"01_mini.py:{line}: .*{said}"):
        write(tmp_path, text)


def test_a_changes_entry_may_name_a_part(tmp_path) -> None:
    lab = write(tmp_path, MINI.replace('exercise="score"', 'exercise="score" changes="model.grad"'))
    assert lab.having("exercise")[1].changes == ("model.grad",)


def test_our_tester_runs_the_region_as_code(lab: Lab, tmp_path) -> None:
    from conftest import Grader, message, points

    grader = Grader(lab, tmp_path)
    values = lab.values_path.rename(tmp_path / "away")
    try:
        assert points(grader(grader.notebook()))["double"] == 6
        wrong = grader(grader.notebook(double="def double(x):\n    return x * x"))
    finally:
        values.rename(lab.values_path)
    assert points(wrong)["double"] == 1  # it is still written by hand
    assert "x is squared" in message(wrong, "double")
    assert wrong.tests[0].aspect == "two numbers"


def test_the_notebook_runs_with_recorded_values(lab: Lab, tmp_path) -> None:
    """As stock nbgrader does, with hidden tests and the reference; and the untouched one fails."""
    from nbclient import NotebookClient

    answers = {cell.id: cell.source for cell in source_notebook(lab).cells}
    for text, expected in (None, ["double: right so far (two numbers)\n"]), ("x * x", ["squared"]):
        notebook = source_notebook(lab)
        wanted = ("setup", "given_1", "double", "test_double", "test_double_2")
        notebook.cells = [cell for cell in notebook.cells if cell.id in wanted]
        if text:
            notebook.cells[2].source = f"def double(x):\n    return {text}"
        path = {"metadata": {"path": str(lab.released_path.parent)}}
        NotebookClient(notebook, timeout=120, allow_errors=True, resources=path).execute()
        outputs = [output for cell in notebook.cells[2:4] for output in cell.outputs]
        said = [output.get("text", output.get("evalue", "")) for output in outputs]
        assert len(said) == 1 and expected[0] in said[0], said
    assert textwrap.dedent(answers["test_double"]).count("recorded()") == 1
