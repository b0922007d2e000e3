"""Every lab's rehearsal; and what a rehearsal says of a tiny lab that isn't ready."""

import pytest

from autograder.authoring.lab import Lab, find_lab, lab_names
from autograder.rehearsal.rehearse import rehearse

WELL_KNOWN = """\
# %% mistake="double" named="x is squared"
def double(x):
    return x * x

# %% mistake="double" named="returned None"
def double(x):
    x + x

# %% mistake="double" named="half"
def double(x):
    return 1.0 * x

# %% mistake="double" named="sign"
def double(x):
    return -2 * x

# %% correct="double"
def double(x):
    return 2 * x

# %% correct="double"
def double(x):
    return np.add(x, x)

# %% equivalent="double" reason="twice is what is returned"
# - twice = x + x
# - return twice
# + return x + x
"""


@pytest.mark.slow(minutes=3)
@pytest.mark.parametrize("name", lab_names())
def test_a_lab_is_ready(name: str) -> None:
    """One seed and a few mutants here; all of it by `autograder rehearse` and `make mutants`."""
    report = rehearse(find_lab(name), 1, seeds=(0,), variant_seeds=(0,), most_mutants=2)
    assert report.problems == []


def write(mini: Lab, text: str) -> None:
    folder = mini.root / "tests" / "mistakes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01_mini.py").write_text(text)


@pytest.mark.slow
def test_what_a_rehearsal_says(mini: Lab) -> None:
    """A lab that passes, but for one planted fault of each kind in its known answers."""
    text = WELL_KNOWN
    for old, new in (
        ('named="sign"', 'named="returned"'),
        ("np.add(x, x)", "x"),
        ("def double(x):\n    return 2", "def duoble(x):\n    return 2"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    write(mini, text + '\n# %% mistake="double" named="twice"\ndef double(x):\n    return 2 * x\n')
    report = rehearse(mini, 1, exercises=["double"], seeds=(0, 5), most_mutants=99)
    for said in (
        "line 9, double is not named 'half'",
        "the mistake in line 13, double is not named 'returned'",
        "the correct variant in line 21, double fails test_double",
        "the correct variant in line 17, double does not define double",
        "('twice') gets full marks",
    ):
        assert any(said in problem for problem in report.problems), (said, report.problems)
    assert any("no such mutant any more" in note for note in report.notes)
    row = report.quality["double"]
    assert (row.mistakes, row.caught, row.variants, row.accepted) == (5, 4, 2, 0)
    assert row.alive == 0 and row.mutants > 3
