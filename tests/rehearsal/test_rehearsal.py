"""Every lab's known mistakes and correct variants, graded with the real grader."""

import os

import pytest

from autograder.authoring.lab import LabError, find_lab, lab_names
from autograder.rehearsal.rehearse import affected, known_answers, rehearse

WELL_KNOWN = """\
# %% mistake="double" named="x is squared"
def double(x):
    return x * x

# %% mistake="double" named="returned None"
def double(x):
    x + x

# %% mistake="double" named="got 1"
def double(x):
    return x

# %% mistake="double" named="sign"
def double(x):
    return -2 * x

# %% correct="double"
def double(x):
    return 2 * x

# %% correct="double"
def double(x):
    return np.add(x, x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", lab_names())
def test_mistakes_lose_points_and_are_named(name: str) -> None:
    assert rehearse(find_lab(name), workers=os.cpu_count() or 1) == []


def write(mini, text: str) -> None:
    folder = mini.root / "tests" / "mistakes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01_mini.py").write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", None),
        ("return x * x", "return 2 * x", "('x is squared') gets full marks"),
        ('named="x is squared"', 'named="x is cubed"', "is not named 'x is cubed'"),
        ("np.add(x, x)", "x", "the correct variant in line 21, double fails test_double"),
        ('correct="double"', 'mistake="double" named="x"', "5 known mistakes and 1 correct"),
        ("def double(x):\n    return 2", "def duoble(x):\n    return 2", "does not define double"),
    ],
)
def test_what_a_rehearsal_says(mini, old: str, new: str, said: str | None) -> None:
    write(mini, WELL_KNOWN.replace(old, new, 1) if old else WELL_KNOWN)
    problems = rehearse(mini, workers=1, exercises=["double"])
    assert bool(problems) == bool(said), problems
    assert said is None or any(said in problem for problem in problems), problems


def test_mistake_for_an_unknown_exercise(mini) -> None:
    write(mini, WELL_KNOWN.replace('mistake="double"', 'mistake="duoble"', 1))
    with pytest.raises(LabError, match=r'01_mini.py:1: a header is `mistake="exercise"'):
        known_answers(mini)


def test_exercises_that_use_an_exercise_are_tested_with_it(mini) -> None:
    assert affected(mini, "double") == {"double"}
