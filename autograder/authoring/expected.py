"""The regions of a test cell that compute what it expects: found, checked, replaced, recorded.

    ### BEGIN EXPECTED
    expected = reference.double(x)
    mistakes = {"x is squared": x * x}
    ### END EXPECTED

Our tester runs such a region as it stands. The student's notebook has one line in its place, which
fetches the values that the region's names had when the lab was released.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Collection
from dataclasses import dataclass

from autograder.authoring.symbols import symbol_table

EXPECTED = re.compile(
    r"^(?P<indent>[ \t]*)(?P<begin>#+ BEGIN EXPECTED)[ \t]*\n"
    r"(?P<code>.*?)^[ \t]*#+ END EXPECTED[ \t]*$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Region:
    """One EXPECTED region of a test cell.

    Attributes:
        line: of its first marker, counted in the cell from 0.
        source: its code, without the indentation.
        names: what it binds and the rest of the cell uses, sorted: what is recorded.
    """

    line: int
    source: str
    names: tuple[str, ...]


def regions(source: str) -> list[Region]:
    """The regions of a test cell, in order.

    Raises:
        SyntaxError: a region, or the cell without its regions, isn't plain Python.
    """
    used = names_read(without_regions(source))
    found = []
    for match in EXPECTED.finditer(source):
        code = textwrap.dedent(match["code"])
        compile(code, "<region>", "exec")  # so that it doesn't return or break either
        bound = {
            symbol.get_name()
            for symbol in symbol_table(code).get_symbols()
            if symbol.is_assigned() or symbol.is_imported()
        }
        line = source[: match.start()].count("\n")
        found.append(Region(line, code, tuple(sorted(bound & used))))
    return found


def without_regions(source: str) -> str:
    """A test cell with nothing in place of its regions; no line moves."""
    return EXPECTED.sub(
        lambda region: region["indent"] + "pass" + "\n" * region[0].count("\n"), source
    )


def fetching(source: str, line: Callable[[int, Region], str]) -> str:
    """A test cell with each region replaced by one line, made from the region's number, from 0
    on, and the region."""
    numbered = iter(enumerate(regions(source)))
    return EXPECTED.sub(lambda match: match["indent"] + line(*next(numbered)), source)


def recording(source: str, function: str) -> str:
    """A test cell that, each time after a region has run, calls `function` with the region's
    number and a dict of its names. No line moves: the call takes the place of the last marker."""
    numbered = iter(enumerate(regions(source)))

    def call(match: re.Match[str]) -> str:
        number, region = next(numbered)
        values = ", ".join(f"{name!r}: {name}" for name in region.names)
        call = f"{match['indent']}{function}({number}, {{{values}}})"
        return f"{match['indent']}{match['begin']}\n{match['code']}{call}"

    return EXPECTED.sub(call, source)


def mistakes_in_regions(visible: str, exercises: Collection[str]) -> list[tuple[int, str]]:
    """What an author got wrong about regions in the visible part of a test cell.

    Args:
        exercises: the names that the lab's exercises bind.

    Returns:
        Pairs of a line, counted in the cell from 0, and a sentence.
    """
    rest = without_regions(visible)
    try:
        ast.parse(rest)
        found = regions(visible)
    except SyntaxError:
        return [(0, "an EXPECTED region has to be whole statements, indented as its markers are")]
    mistakes = [
        (node.lineno - 1, "`reference` isn't there for students: use it in an EXPECTED region")
        for node in ast.walk(ast.parse(rest))
        if isinstance(node, ast.Name) and node.id == "reference"
    ]
    for region in found:
        for name in sorted(names_read(region.source) & set(exercises)):
            mistakes.append(
                (
                    region.line,
                    f"an EXPECTED region must not use {name}, which is the student's there: write"
                    f" reference.{name}",
                )
            )
        if not region.names:
            mistakes.append(
                (region.line, "this EXPECTED region binds no name that the rest of its cell uses")
            )
    return mistakes


def names_read(source: str) -> set[str]:
    """The names that a piece of code reads."""
    return {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)
    }
