"""Names that are bound where they seem to be, whatever Python reads them."""

import pytest

from autograder.authoring.symbols import symbol_table


@pytest.mark.parametrize(
    "source, bound",
    [
        ("a = [n for n in b]", {"a"}),
        ("a = {n for n in b}", {"a"}),
        ("a = {n: m for n, m in b}", {"a"}),
        ("a = [[m for m in n] for n in [k for k in b]]", {"a"}),
        ("a = f'{[n for n in b]}'", {"a"}),
        ("for n in b:\n    n = [k for k in n]", {"n"}),
        ("import a\nclass B:\n    c = [n for n in d]\ndef f():\n    g = 1", {"a", "B", "f"}),
    ],
)
def test_a_comprehensions_names_are_its_own(source: str, bound: set[str]) -> None:
    found = {
        symbol.get_name()
        for symbol in symbol_table(source).get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    }
    assert found == bound


def test_code_that_is_none_says_so() -> None:
    with pytest.raises(SyntaxError):
        symbol_table("a = ")
