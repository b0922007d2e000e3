"""Authors' mistakes are refused with file and line."""

import re

import pytest
from conftest import MINI

from autograder.authoring.lab import LabError, find_lab, read_lab
from autograder.authoring.release import generate, release, stale


def write(tmp_path, text: str):
    path = tmp_path / "solutions" / "01_mini.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_roles_names_and_ids(mini) -> None:
    assert [(cell.role, cell.grade_id, cell.points) for cell in mini.cells] == [
        ("demo", "", 0),
        ("given", "given_1", 0),
        ("exercise", "double", 0),
        ("test", "test_double", 2),
        ("test", "test_double_2", 3),
        ("demo", "", 0),
        ("exercise", "score", 0),
        ("test", "test_score", 4),
        ("exercise", "answer", 0),
        ("test", "test_answer", 1),
        ("question", "why", 2),
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        ('test="double" points=2', 'test="duoble" points=2', 'test="duoble"', "unknown exercise"),
        ('test="double" points=2', 'test="double"', 'test="double"\n', "needs points"),
        ('test="double" points=2', 'test="double" points=0', "points=0", "needs points"),
        ('test="double" points=2', 'tset="double" points=2', "tset", "one role out of"),
        ("points=2\ncheck_close", "points=2\n# nothing", "exercise=", "no test that students"),
        ('exercise="score"', 'exercise="double"', 'exercise="double"', "used 2 times"),
        ('exercise="score"', 'exercise="scores"', 'exercise="scores"', "doesn't define scores"),
        ("    ### END SOLUTION\n\n\n# %% test", "\n\n# %% test", "exercise=", "don't pair up"),
        ("### BEGIN HIDDEN TESTS", "### START HIDDEN TESTS", "points=3", "don't pair up"),
        ('question="why" points=2', 'question="why"', "question=", "needs points"),
        ("[markdown] question", "question", "question=", "must be a [markdown] cell"),
        ("return twice", "return return", "exercise=", "isn't plain Python"),
        ("print(double", "### BEGIN SOLUTION\n### END SOLUTION\nprint(double", None, "only a cell"),
    ],
)
def test_author_mistakes(tmp_path, old: str, new: str, place: str | None, said: str) -> None:
    assert old in MINI
    text = MINI.replace(old, new, 1)
    if "no test" in said:
        text = re.sub(r"# nothing.*?\}\)\n", "# nothing\n", text, flags=re.S)
    path = write(tmp_path, text)
    with pytest.raises(LabError) as error:
        read_lab(path)
    lines = [line for line in str(error.value).splitlines() if said in line]
    assert lines, error.value
    if place is not None:
        assert lines[0].startswith(f"{path}:{line_of(text, place)}: ")


def test_solution_without_markers(tmp_path) -> None:
    text = MINI.replace("    ### BEGIN SOLUTION\n    twice", "    twice", 1)
    text = text.replace("    ### END SOLUTION\n", "", 1)
    line = line_of(text, 'exercise="double"')
    with pytest.raises(LabError, match=rf":{line}: 'double' has no BEGIN SOLUTION"):
        read_lab(write(tmp_path, text))


def test_text_before_the_first_cell(tmp_path) -> None:
    with pytest.raises(LabError, match="must begin with"):
        read_lab(write(tmp_path, '"""A docstring."""\n' + MINI))


def test_all_mistakes_are_told_at_once(tmp_path) -> None:
    text = MINI.replace(" points=2", "").replace(" points=4", "")
    with pytest.raises(LabError) as error:
        read_lab(write(tmp_path, text))
    assert len(str(error.value).splitlines()) == 3


def test_unknown_lab() -> None:
    with pytest.raises(LabError, match=r"no lab '99'; the labs are: 01_convolution"):
        find_lab("99")


def test_students_notebook(mini) -> None:
    text = mini.released_path.read_text()
    for hidden in ("twice = x", "6 * 7", "Full marks", "reference", "SOLUTION", "HIDDEN"):
        assert hidden not in text
    assert text.count("raise NotImplementedError  # your code here") == 3
    assert "*Your answer here.*" in text
    assert stale(mini) == []


def test_release_is_repeatable(mini, tmp_path) -> None:
    assert generate(mini, tmp_path / "a") == generate(mini, tmp_path / "b")


def test_stale_notebook_is_noticed(mini) -> None:
    current = mini.released_path.read_text()
    mini.released_path.write_text(current.replace("Twice x", "Thrice x"))
    try:
        assert stale(mini) == ["labs/01_mini.ipynb is not what solutions/ gives"]
    finally:
        mini.released_path.write_text(current)


@pytest.mark.parametrize(
    "leak",
    [
        "# Like this:\ntwice = x + x\nreturn_twice = twice\n",
        "    twice = x + x\n    return twice\n",
    ],
)
def test_solution_text_in_another_cell(mini, tmp_path, leak: str) -> None:
    (tmp_path / "pyproject.toml").write_text((mini.root / "pyproject.toml").read_text())
    text = MINI.replace("print(double(np.arange(3)))", f"if True:\n{leak}print(1)")
    lab = read_lab(write(tmp_path, text))
    leaks = "    return twice" in leak
    if leaks:
        line = line_of(text, "twice = x + x")
        with pytest.raises(LabError, match=rf":{line}: .*solution of 'double'"):
            release(lab, tmp_path / "course")
        assert not lab.released_path.exists()
    else:
        release(lab, tmp_path / "course")
