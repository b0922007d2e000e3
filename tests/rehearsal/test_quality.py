"""The table of quality is renewed row by row, in the labs' order; and the one in docs/ is whole."""

from collections import Counter
from pathlib import Path

import pytest

from autograder.authoring.lab import ROOT, LabError, find_lab, lab_names
from autograder.rehearsal.known_answers import equivalents, known_answers
from autograder.rehearsal.mutants import mutants
from autograder.rehearsal.quality import write
from autograder.rehearsal.rehearse import Quality, rehearse


def rows(path: Path) -> list[tuple[str, str, str]]:
    """Lab, exercise and mutants killed, of each row."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| `")]
    return [(line.split("`")[1], line.split("`")[3], line.split(" | ")[5]) for line in lines]


def test_rows_are_renewed_one_by_one(tmp_path: Path) -> None:
    path, first, eighth = tmp_path / "quality.md", find_lab("01"), find_lab("08")
    write(path, eighth, {"grad_cam": Quality("grad_cam", mutants=3, alive=1)})
    write(path, first, {name: Quality(name, mutants=5) for name in ("col2im", "im2col")})
    write(path, first, {"im2col": Quality("im2col", mutants=7, equivalent=1)})
    assert rows(path) == [
        (first.name, "im2col", "6 of 7"),
        (first.name, "col2im", "5 of 5"),
        (eighth.name, "grad_cam", "2 of 3"),
    ]


def test_the_table_in_docs_knows_every_answer_and_nothing_is_left_to_do() -> None:
    """It can't tell that a test has changed since; but what was added or removed, it can."""
    expected = []
    for lab in map(find_lab, lab_names()):
        answers, known = known_answers(lab), Counter(e.exercise for e in equivalents(lab))
        changes = Counter(mutant.exercise for mutant in mutants(lab))
        kinds = Counter((answer.exercise, answer.named is None) for answer in answers)
        points: Counter[str] = Counter()
        for cell in lab.having("test"):
            points[cell.name] += cell.points
        expected += [
            f"| `{lab.name}` | `{name}` | {wrong} of {wrong} | {wrong} | {right} of {right}"
            f" | {changes[name] - known[name]} of {changes[name]} | {known[name]} | 0"
            f" | 0 of {points[name]:g} | 0 |"
            for name in lab.exercises
            for wrong, right in [(kinds[name, False], kinds[name, True])]
        ]
    table = (ROOT / "docs" / "quality.md").read_text()
    assert [line for line in table.splitlines() if line.startswith("| `")] == expected


def test_an_unknown_exercise_is_refused() -> None:
    with pytest.raises(LabError, match=r"01_convolution has no exercise 'grad_cam'; it has cross_"):
        rehearse(find_lab("01"), 1, exercises=["grad_cam"])
