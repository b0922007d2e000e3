"""EXPECTED regions: what they record, what the student's notebook has in their place, and what an
author may get wrong about them."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MINI

from autograder.authoring.expected import fetching, regions
from autograder.authoring.lab import ROOT, Lab, LabError, read_lab
from autograder.authoring.record import record
from utils.recorded import load

TEST = '# %% test="double" points=2\n'
END = "### END EXPECTED\n"


def lab_with(folder: Path, test: str, given: str = "", solution: str | None = None) -> Lab:
    """The tiny lab with another first test."""
    start = MINI.index(TEST) + len(TEST)
    text = MINI[:start] + textwrap.dedent(test) + "\n" + MINI[MINI.index(TEST.replace("2", "3")) :]
    text = text.replace("def network", f"{given}\n\ndef network")
    if solution is not None:
        text = text.replace("twice = x + x", solution)
    path = folder / "solutions" / "01_mini.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return read_lab(path)


def passages(folder: Path, test: str) -> list[list[dict]]:
    """The values that the test's regions record."""
    return load(record(lab_with(folder, test)))["cells"]["test_double"]["regions"]


def test_each_passage_is_recorded_with_what_the_rest_of_the_cell_uses(tmp_path) -> None:
    found = passages(
        tmp_path,
        """
        for n in (1, 2):
            x = np.arange(n)
            ### BEGIN EXPECTED
            helper = np.full
            expected = reference.double(x)
            mistakes = {
                "squared": lambda: x * x,
                "impossible": lambda: x.reshape(-1, 7, 7),
                "a shape": helper(3, 0.5),
            }
            ### END EXPECTED
            check_close(double(x), expected, "double(x)", mistakes=mistakes)
            expected += 100
        ### BEGIN EXPECTED
        alone = [n for n in range(3)]
        ### END EXPECTED
        assert double(np.array(n)) == alone[-1] * 2
        """,
    )
    assert [list(values) for values in found[0]] == [["expected", "mistakes"]] * 2
    assert [values["expected"].tolist() for values in found[0]] == [[0], [0, 2]]
    assert list(found[0][1]["mistakes"]) == ["squared", "a shape"]
    assert found[0][1]["mistakes"]["squared"].tolist() == [0, 1]
    assert found[1] == [{"alone": [0, 1, 2]}]


def test_a_value_is_recorded_before_the_test_changes_it(tmp_path) -> None:
    found = passages(
        tmp_path,
        """
        expected = []
        for n in range(2):
            ### BEGIN EXPECTED
            expected = [*expected, n]
            both = expected
            ### END EXPECTED
            expected.append(7)
            assert double(n) == 2 * n, both
        """,
    )
    assert [values["both"] for values in found[0]] == [[0], [0, 7, 1]]


def test_regions_work_within_functions(tmp_path) -> None:
    found = passages(
        tmp_path,
        """
        def try_it(n):
            ### BEGIN EXPECTED
            expected = reference.double(n)
            ### END EXPECTED
            assert double(n) == expected

        for n in (3, 4):
            try_it(n)
        """,
    )
    assert found == [[{"expected": 6}, {"expected": 8}]]


def test_names_of_comprehensions_and_inner_functions_are_not_bound() -> None:
    source = textwrap.dedent(
        """
        for row in range(3):
            ### BEGIN EXPECTED
            total = sum(row for row in range(4))
            def inner():
                column = 3
                return column
            other = inner()
            ### END EXPECTED
            print(row, total, column, other)
        """
    )
    assert [region.names for region in regions(source)] == [("other", "total")]


def test_one_line_takes_a_regions_place() -> None:
    source = textwrap.dedent(
        """
        if True:
            ### BEGIN EXPECTED
            a = 1
            b = 2
            ### END EXPECTED
            print(a, b)
        # BEGIN EXPECTED
        c = 3
        # END EXPECTED
        print(c)
        """
    )
    assert fetching(source, lambda number, region: f"{region.names} {number}") == textwrap.dedent(
        """
        if True:
            ('a', 'b') 0
            print(a, b)
        ('c',) 1
        print(c)
        """
    )


def test_the_same_bytes_every_time(tmp_path) -> None:
    test = """
    ### BEGIN EXPECTED
    expected = torch.rand(3)
    ### END EXPECTED
    assert (double(expected) == 2 * expected).all()
    """
    lab = lab_with(tmp_path, test)
    first = record(lab)
    torch.rand(1)
    np.random.rand(1)  # noqa: NPY002
    assert record(lab) == first


REGION = "### BEGIN EXPECTED\nexpected = {}\n### END EXPECTED\nassert double(1) == expected"


@pytest.mark.parametrize(
    ("test", "offset", "said"),
    [
        (REGION.format("double(1)"), 1, "must not use double, .* write reference.double"),
        (REGION.format("[answer, 2][1]"), 1, "must not use answer"),
        (REGION.format("2\nreturn"), 1, "has to be whole statements"),
        (REGION.format("2\nbreak"), 1, "has to be whole statements"),
        (REGION.format("("), 0, "isn't plain Python"),
        (REGION.replace("expected = {}", "if True:\n    expected = 2\nelse:"), 0, "isn't plain"),
        (REGION.replace("== expected", "== 2"), 1, "binds no name that the rest of its cell uses"),
        (REGION.replace("### END EXPECTED\n", "").format(2), 0, "BEGIN EXPECTED .* don't pair up"),
        (REGION.replace("### BEGIN EXPECTED\n", "").format(2), 0, "don't pair up"),
        ("x = 1\nassert double(x) == reference.double(x)", 2, "isn't there for students"),
        (
            "assert double(1) == 2\n### BEGIN HIDDEN TESTS\n" + REGION + "\n### END HIDDEN TESTS",
            2,
            "no EXPECTED",
        ),
        ("recorded = 2\nassert double(1) == recorded", 0, "release uses the name recorded itself"),
    ],
)
def test_slips_that_reading_finds(tmp_path, test: str, offset: int, said: str) -> None:
    line = MINI[: MINI.index(TEST)].count("\n") + 3 + offset  # the given cell has two more lines
    with pytest.raises(LabError) as error:
        lab_with(tmp_path, test)
    assert re.search(rf"01_mini.py:{line}: .*{said}", str(error.value)), error.value


@pytest.mark.parametrize(
    ("test", "offset", "said"),
    [
        (
            REGION.format("reference.double"),
            1,
            "expected is of type function, which can't be recorded",
        ),
        (REGION.format("{'a': [np]}"), 1, r"expected\['a'\]\[0\] is of type module, which can't"),
        (REGION.format("torch.ones(2).bfloat16()"), 1, "tensor of torch.bfloat16"),
        (REGION.format("np.array(['text'])"), 1, "array of <U4"),
        (REGION.format("1 / 0"), 2, "ZeroDivisionError"),
        (REGION.format("3"), 4, "the solution fails this test: AssertionError"),
        ("if False:\n" + textwrap.indent(REGION, "    ").format(2), 2, "never ran"),
    ],
)
def test_slips_that_recording_finds(tmp_path, test: str, offset: int, said: str) -> None:
    line = MINI[: MINI.index(TEST)].count("\n") + 3 + offset
    with pytest.raises(LabError, match=rf"01_mini.py:{line}: .*{said}"):
        record(lab_with(tmp_path, test))


def test_a_solution_that_breaks_its_own_rule_is_refused(tmp_path) -> None:
    test = REGION.replace("double(1)", "double(np.ones(1))").format("2")
    with pytest.raises(LabError, match=r"`x` was modified in place"):
        record(lab_with(tmp_path, test, solution="x += x\n    twice = x"))
