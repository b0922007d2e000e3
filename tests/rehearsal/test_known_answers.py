"""The file of a lab's known answers: how it is read, and what is wrong with it."""

import pytest

from autograder.authoring.lab import Lab, LabError
from autograder.rehearsal.known_answers import affected, equivalents, known_answers

TEXT = """\
# %% mistake="double" named="x is squared"
def double(x):
    return x * x

# %% correct="double"
def double(x):
    return 2 * x

# %% equivalent="double" reason="addition commutes"
# - twice = x + x
# + twice = +x + x
"""


def write(mini: Lab, text: str) -> None:
    folder = mini.root / "tests" / "mistakes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01_mini.py").write_text(text)


def test_mistakes_variants_and_equivalents_are_told_apart(mini: Lab) -> None:
    write(mini, TEXT)
    assert [(a.exercise, a.named, a.line) for a in known_answers(mini)] == [
        ("double", "x is squared", 1),
        ("double", None, 5),
    ]
    (known,) = equivalents(mini)
    assert known.change == "- twice = x + x\n+ twice = +x + x"
    assert (known.reason, known.line) == ("addition commutes", 9)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('mistake="double"', 'mistake="duoble"'),
        (' named="x is squared"', ""),
        (' reason="addition commutes"', ""),
        ('correct="double"', 'correct="double" named="x"'),
        ('correct="double"', ""),
    ],
)
def test_headers_that_say_something_else(mini: Lab, old: str, new: str) -> None:
    write(mini, TEXT.replace(old, new, 1))
    with pytest.raises(LabError, match=r'01_mini.py:\d+: a header is `mistake="exercise"'):
        known_answers(mini)


def test_exercises_that_use_an_exercise_are_tested_with_it(mini: Lab) -> None:
    assert affected(mini, "double") == {"double"}
