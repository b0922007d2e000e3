"""Which hand-ins share what is unusual: shared runs of tokens that neither the lab nor many of the
class have, as evidence to look at, never as a verdict."""

import builtins
import itertools
import keyword
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

CODE_RUN, PROSE_RUN = 10, 6  # tokens; prose varies more, so fewer words in a row are telling
LEAST_SHARED = 20  # runs; about 30 tokens in a row
LEAST_PART = 0.4
MOST_TOKENS = 5_000  # of one cell
MOST_PAIRS = 12

CODE_TOKEN = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|(?P<string>[rRbBfFuU]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|\"[^\"\n]*\"))"
    r"|(?P<name>[^\W\d]\w*)|(?P<number>\d[\w.]*)|(?P<sign>[^\s\w])",
    re.S,
)
WORD = re.compile(r"\w+")
LANGUAGE = frozenset(keyword.kwlist) | frozenset(dir(builtins))


@dataclass(frozen=True)
class Likeness:
    """Two hand-ins with unusual runs of tokens in common.

    Attributes:
        part: which part of what is unusual in the smaller of the two stands in the other as well,
            0 to 1; a run weighs more, the fewer have it.
        runs: how many runs they share.
        cells: where, by grade id, the most telling first: for each of the two the lines of the
            answer, each with whether it lies in a shared run.
    """

    students: tuple[str, str]
    part: float
    runs: int
    cells: dict[str, tuple[list[tuple[str, bool]], list[tuple[str, bool]]]]


def likenesses(
    answers: Mapping[str, Mapping[str, str]],
    known: Mapping[str, Iterable[str]],
    prose: set[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Likeness]:
    """The pairs of students whose answers are unusually alike, the most alike first, at most
    MOST_PAIRS.

    Names don't count, but for Python's own and those of attributes, nor do comments and strings, so
    that renaming hides nothing. What everybody has from the lab, and what is in its solution, is no
    likeness: two right answers have it in common by necessity; nor is what a tenth of a class has.

    Args:
        answers: by student and grade id, the source of the cells.
        known: by grade id, the texts that a likeness to means nothing: stub and solution.
        prose: the grade ids whose answers are words, not code.
        progress: called with how many students are read, and of how many.
    """
    boilerplate = {
        (grade_id, run)
        for grade_id, texts in known.items()
        for text in texts
        for run, _ in _runs(text, grade_id in prose)
    }
    owners: dict[tuple[str, int], set[str]] = defaultdict(set)
    for number, (student, cells) in enumerate(answers.items(), 1):
        for grade_id, source in cells.items():
            for run, _ in _runs(source, grade_id in prose):
                if (grade_id, run) not in boilerplate:
                    owners[grade_id, run].add(student)
        progress(number, len(answers))
    most_owners = max(10, len(answers) // 10)
    unusual: dict[str, float] = defaultdict(float)
    shared: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for shared_run, students in owners.items():
        if len(students) <= most_owners:
            for student in students:
                unusual[student] += _weight(len(students), len(answers))
            for pair in itertools.combinations(sorted(students), 2):
                shared[pair].append(shared_run)
    found = []
    for pair, runs in shared.items():
        weight = sum(_weight(len(owners[run]), len(answers)) for run in runs)
        part = weight / min(unusual[student] for student in pair) if weight else 0.0
        if len(runs) >= LEAST_SHARED and part >= LEAST_PART:
            found.append((part, pair, runs))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    return [
        Likeness(pair, part, len(runs), _evidence(pair, runs, answers, prose))
        for part, pair, runs in found[:MOST_PAIRS]
    ]


def _weight(owners: int, students: int) -> float:
    """What one more owner tells: nothing where all have it, most where two do."""
    return math.log((students + 1) / owners)


def _tokens(source: str, prose: bool) -> list[tuple[str, int]]:
    """Tokens with the number of the line that each begins in."""
    starts = [0, *(found.end() for found in re.finditer("\n", source))]
    tokens: list[tuple[str, int]] = []
    line = 0
    for found in (WORD if prose else CODE_TOKEN).finditer(source):
        while line + 1 < len(starts) and starts[line + 1] <= found.start():
            line += 1
        kind, text = (found.lastgroup, found.group())
        if kind in ("comment", "string"):
            continue
        if prose:
            text = text.casefold()
        elif kind == "name" and text not in LANGUAGE and source[found.start() - 1] != ".":
            text = "a name"
        tokens.append((text, line))
        if len(tokens) == MOST_TOKENS:
            break
    return tokens


def _runs(source: str, prose: bool) -> list[tuple[int, set[int]]]:
    """The runs of tokens in a cell, hashed, each with the lines that it covers."""
    tokens = _tokens(source, prose)
    length = PROSE_RUN if prose else CODE_RUN
    return [
        (
            hash(tuple(text for text, _ in tokens[start : start + length])),
            {line for _, line in tokens[start : start + length]},
        )
        for start in range(len(tokens) - length + 1)
    ]


def _evidence(
    pair: tuple[str, str],
    runs: list[tuple[str, int]],
    answers: Mapping[str, Mapping[str, str]],
    prose: set[str],
) -> dict[str, tuple[list[tuple[str, bool]], list[tuple[str, bool]]]]:
    by_cell: dict[str, set[int]] = defaultdict(set)
    for grade_id, run in runs:
        by_cell[grade_id].add(run)
    cells = {}
    for grade_id, wanted in sorted(by_cell.items(), key=lambda entry: -len(entry[1])):
        sides = []
        for student in pair:
            source = answers[student][grade_id]
            lines = set().union(
                *(where for run, where in _runs(source, grade_id in prose) if run in wanted)
            )
            # Not splitlines: a form feed in a string would count as a line of its own.
            sides.append([(text, n in lines) for n, text in enumerate(source.split("\n"))])
        cells[grade_id] = (sides[0], sides[1])
    return cells
