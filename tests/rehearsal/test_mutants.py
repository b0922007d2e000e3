"""Mutants of small solutions: which there are, how they are called, where they stand."""

from dataclasses import replace

import pytest

from autograder.authoring.lab import Lab
from autograder.rehearsal.mutants import mutants, sample

CELL = '''\
def f(x, y, axis=0):
    """Not a + b in here."""
    ### BEGIN SOLUTION
{body}
    ### END SOLUTION
'''


def changes(mini: Lab, body: str) -> list[str]:
    """The mutants of a function with this body, each as its change in one line."""
    cell = mini.having("exercise")[0]
    source = CELL.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    lab = replace(mini, cells=(replace(cell, name="f", source=source),))
    return [mutant.short for mutant in mutants(lab)]


@pytest.mark.parametrize(
    ("body", "new"),
    [
        ("return x - y", ["return x + y", "return y - x", "return x", "return y", "pass"]),
        ("return x // 2", ["return x / 2", "return -(-(x) // (2))", "return x // 3"]),
        ("return x.abs()", ["return x"]),
        ("return torch.relu(x)", ["return x", "return torch.abs(x)"]),
        ("return x.sum(axis)", ["return x.mean(axis)"]),
        ("return x.sum(0, keepdim=True)", ["return x.sum(0)", "return x.sum(0, keepdim=False)"]),
        ("return x.permute(0, 2)", ["return x.permute(2, 0)", "return x.permute(0, 1)"]),
        ("return g(x, y)", ["return g(y, x)", "return g(x)"]),
        ("return (x, y)", ["return (y, x)"]),
        ("return x[1:]", ["return x[:]", "return x[2:]", "return x[0:]"]),
        ("return x < y", ["return x <= y", "return x >= y"]),
        ("return x if y else 2.0", ["return x", "return 2.0", "return x if y else 4.0"]),
        ("return not x and y", ["return x and y", "return not x or y"]),
        ('return g(x, reduction="sum")', ["return g(x, reduction='mean')"]),
    ],
)
def test_expressions(mini: Lab, body: str, new: list[str]) -> None:
    found = changes(mini, body)
    assert {f"{body} → {text}" for text in new} <= set(found), found


def test_statements(mini: Lab) -> None:
    body = (
        "for a in x:\n    with no_grad():\n        y += a\n    if a > 0:\n        y = a\nreturn y"
    )
    found = changes(mini, body)
    assert {
        "with no_grad(): → if True:",
        "y += a → y = a",
        "y += a → y -= a",
        "y += a → pass",
        "if a > 0: → if True:",
        "if a > 0: → if not (a > 0):",
        "for a in x: → for a in ():",
        "+ break",
        "+ return y",
        "y = a → pass",
    } <= set(found), found


def test_every_program_once_in_the_solution_only(mini: Lab) -> None:
    found = changes(mini, "return x * x")
    assert len(found) == len(set(found))
    assert found.count("return x * x → return x") == 1
    assert not any("Not a" in change or "axis" in change for change in found)


def test_equal_lines_are_numbered(mini: Lab) -> None:
    found = changes(mini, "x = x.abs()\nx = x.abs()\nreturn x")
    assert "x = x.abs() → x = x" in found
    assert "x = x.abs() → x = x (2)" in found


def test_columns_are_characters(mini: Lab) -> None:
    assert "return g('≤ π') + x → return g('≤ π') - x" in changes(mini, "return g('≤ π') + x")


def test_a_mutant_is_a_whole_cell_with_its_line(mini: Lab) -> None:
    first = mini.having("exercise")[0]
    tried = [mutant for mutant in mutants(mini) if mutant.exercise == "double"]
    assert all("def double(x):" in mutant.source for mutant in tried)
    lines = first.source.splitlines()
    assert {lines[mutant.line - first.line - 1].strip() for mutant in tried} == {
        "twice = x + x",
        "return twice",
    }


def test_a_sample_is_the_same_for_the_same_seed(mini: Lab) -> None:
    every = mutants(mini)
    assert sample(every, 3, "a") == sample(every, 3, "a")
    assert {tuple(sample(every, 3, str(n))) for n in range(9)} != {tuple(sample(every, 3, "a"))}
    assert sample(every, 10**6, "a") == every
