"""A course draws its own seed, keeps it, and gives each hand-in inputs of its own where asked."""

import itertools

import pytest
from kills import killed

from autograder.course.seeds import SeedError, read_seeds


def test_a_course_draws_a_seed_once(tmp_path) -> None:
    drawn = read_seeds(tmp_path / "course")
    assert read_seeds(tmp_path / "course") == drawn
    others = {read_seeds(tmp_path / name).seed for name in "abcde"}
    assert len(others | {drawn.seed}) == 6


def test_a_seed_is_drawn_whole_or_not_at_all(tmp_path) -> None:
    for number in itertools.count(1):
        course = tmp_path / f"course{number}"
        if not killed(lambda course=course: read_seeds(course), course, number):
            break
        assert read_seeds(course) == read_seeds(course)
    assert number > 2


def test_a_resubmission_meets_other_inputs_only_where_the_course_says_so(tmp_path) -> None:
    notebook, course = tmp_path / "ada.ipynb", tmp_path / "course"
    notebook.write_text("{}")
    seeds = read_seeds(course)
    assert seeds.of(notebook, "01_mini") == seeds.seed
    text = (course / "seed.toml").read_text()
    (course / "seed.toml").write_text(text.replace("own_inputs = false", "own_inputs = true"))
    own = read_seeds(course)
    first = own.of(notebook, "01_mini")
    assert own.of(notebook, "01_mini") == first != own.seed
    notebook.write_text("{ }")
    assert own.of(notebook, "01_mini") != first
    assert own.of(tmp_path / "nothing", "01_mini") == own.seed


@pytest.mark.parametrize(
    "text", ["", "seed = 1", "seed = 'x'\nown_inputs = true", "seed = -1", "="]
)
def test_a_file_that_is_not_as_it_was_written_is_told(tmp_path, text: str) -> None:
    (tmp_path / "seed.toml").write_text(text)
    with pytest.raises(SeedError, match="delete it to draw another seed"):
        read_seeds(tmp_path)
