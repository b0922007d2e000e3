"""Finds the lab's cells in a student's notebook, whatever happened to them on the way."""

import builtins
import re
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import nbformat

from autograder.authoring.addressed import unaddressed
from autograder.authoring.lab import Lab
from autograder.grading.handed_in import HandedInCell, Refused, enumerated
from autograder.grading.names import MOST_CODE, Code

# Characters: of all cells that must be read as Python, and of a cell and of all cells that are
# compared by their words.
MOST_CODE_IN_ALL = 300_000
MOST_COMPARED, MOST_COMPARED_IN_ALL = 30_000, 1_000_000
LEAST_SHARE = 0.5  # of a released cell's phrases, for another to be taken for a copy of it
PHRASE = 4  # words


@dataclass(frozen=True, eq=False)
class ReleasedCell:
    """A cell that students got: its grade id ("" without one), its role ("locked", "exercise",
    "question" or "free"), its place among the others, and its text."""

    name: str
    role: str
    place: int
    text: str
    code: Code

    @cached_property
    def lines(self) -> frozenset[str]:
        return frozenset(line.strip() for line in self.text.splitlines())

    @cached_property
    def phrases(self) -> frozenset[tuple[str, ...]]:
        return _phrases(self.text)


class ReleasedLab:
    """A lab as its students got it, with all that submissions are compared with.

    Args:
        notebook: the released notebook.
    """

    def __init__(self, lab: Lab, notebook: nbformat.NotebookNode) -> None:
        self.lab = lab
        roles = {cell.grade_id: cell.role for cell in lab.having("exercise", "question")}
        self.cells = []
        for place, cell in enumerate(notebook.cells):
            settings = cell.metadata.get("nbgrader", {})
            name = settings.get("grade_id", "")
            role = roles.get(name) or ("locked" if settings.get("locked") else "free")
            source = cell.source if cell.cell_type == "code" else ""
            self.cells.append(ReleasedCell(name, role, place, _key(cell.source), Code(source)))
        self.wanted = {cell.name: cell for cell in self.cells if cell.name in roles}
        self.locked = {cell.name: cell for cell in self.cells if cell.role == "locked"}
        self.by_text = {
            cell.text: cell for cell in reversed(self.cells) if cell.role in ("locked", "free")
        }
        self.having_phrase: dict[tuple[str, ...], list[ReleasedCell]] = {}
        for cell in self.cells:
            for phrase in cell.phrases:
                self.having_phrase.setdefault(phrase, []).append(cell)

        given = [Code(cell.source) for cell in lab.having("given")]
        self.given_names = frozenset().union(*(code.bound for code in given))
        self.given_imports = {
            name: origin for code in given for name, origin in code.imports.items()
        }
        self.demo_names = frozenset().union(
            *(cell.code.bound for cell in self.cells if cell.role == "free")
        )
        used = frozenset().union(*(Code(cell.source).used for cell in lab.cells if cell.name))
        self.builtins = used.union(*(code.used for code in given)) & BUILTINS


BUILTINS = frozenset(dir(builtins))


@dataclass(eq=False)
class Cell:
    """A cell of a student's notebook.

    Attributes:
        number: its place in the notebook, from 1.
        text: its source, without what the lab's own cells brought into it.
        kind: "code", or "markdown" for all that isn't code.
        released: the released cell of which it is a copy to the letter.
        changed: the locked cell that it was before it was changed.
        like: the released cell, locked or free, that it resembles.
        answers: the exercises and questions that it answers.
        copy: whether it has the name of one of these, but another cell was taken.
        part_of: the question that it answers beside the question's own cell.
        merged: the locked cells whose text was taken out of it.
    """

    number: int
    id: str
    grade_id: str
    text: str
    kind: str
    tags: str
    attachments: Any
    released: ReleasedCell | None = None
    changed: ReleasedCell | None = None
    like: ReleasedCell | None = None
    answers: list[ReleasedCell] = field(default_factory=list)
    merged: list[ReleasedCell] = field(default_factory=list)
    copy: bool = False
    part_of: ReleasedCell | None = None

    @cached_property
    def code(self) -> Code:
        return self.released.code if self.released else Code(self.text)

    @property
    def own(self) -> bool:
        """Whether it is the student's, and no answer so far."""
        return not (self.released or self.changed or self.answers)

    @property
    def places(self) -> list[int]:
        """Where the released cells stand that it is, or was made of."""
        found = [*self.merged, *self.answers, self.released, self.changed, self.like]
        return [cell.place for cell in found if cell is not None]

    @cached_property
    def defined(self) -> Set[str]:
        """The names that it defines, or seems to where it isn't Python as it stands."""
        if self.kind == "code" and self.code.tree is not None:
            return self.code.bound
        return {name for pair in _DEFINITION.findall(self.text[:MOST_CODE]) for name in pair}


_DEFINITION = re.compile(r"^(?:(?:def|class)[ \t]+(\w+)|(\w+)[ \t]*=)", re.M)


def _key(text: str) -> str:
    """A text without what editors change unasked (ends of lines, blanks around it) and what differs
    from one hand-out to the next."""
    return unaddressed("\n".join(line.rstrip() for line in text.splitlines())).strip()


def _phrases(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text[:MOST_COMPARED])
    return frozenset(zip(*(words[start:] for start in range(PHRASE)), strict=False))


def match(handed_in: list[HandedInCell], released: ReleasedLab, repairs: list[str]) -> list[Cell]:
    """Matches a submission's cells with the released ones, adding what is told of it to `repairs`.

    Raises:
        Refused: there is too much code to read, or no cell of the lab.
    """
    cells = [Cell(*cell) for cell in handed_in]
    _set_locked_aside(cells, released, repairs)
    _match_by_name(cells, released, repairs)
    _match_by_content(cells, released, repairs)
    if not any(cell.answers for cell in cells):
        raise Refused(
            f"the notebook holds no cell of {released.lab.name}; was another lab handed in?"
        )
    return cells


def _set_locked_aside(cells: list[Cell], released: ReleasedLab, repairs: list[str]) -> None:
    """Finds the lab's own cells, whatever became of them, and notes which were changed."""
    restored, merged = [], []
    present = set()
    for cell in cells:
        key = _key(cell.text)
        found = released.by_text.get(key)
        if found and (found.role == "locked" or cell.grade_id not in released.wanted):
            cell.released = found
            present.add(found.name)
            continue
        if cell.kind == "code":
            framed = f"\n{key}\n"
            for locked in released.locked.values():
                if len(locked.text) > 20 and f"\n{locked.text}\n" in framed:
                    framed = framed.replace(f"\n{locked.text}\n", "\n", 1)
                    cell.merged.append(locked)
                    present.add(locked.name)
            if cell.merged:
                cell.text = framed.strip("\n")
                merged.append(cell)
                continue
        named = next((name for name in (cell.grade_id, cell.id) if name in released.locked), None)
        if named:
            cell.changed = released.locked[named]
            restored.append(named)
            present.add(named)
    if restored:
        names = ", ".join(dict.fromkeys(restored))
        repairs.append(f"restored the locked cells that had been changed: {names}")
    gone = [name for name in released.locked if name not in present]
    if gone:
        repairs.append(f"put back the locked cells that were missing: {', '.join(gone)}")
    if merged:
        repairs.append(
            "took apart cells that had been merged with the lab's own:"
            f" {enumerated(f'cell {cell.number}' for cell in merged)}"
        )
    length = sum(
        len(cell.text)
        for cell in cells
        if cell.kind == "code" and not cell.released and len(cell.text) <= MOST_CODE
    )
    if length > MOST_CODE_IN_ALL:
        raise Refused(
            f"the notebook holds {length:,} characters of code, more than the"
            f" {MOST_CODE_IN_ALL:,} that are read; remove what the lab doesn't ask for"
        )


def _match_by_name(cells: list[Cell], released: ReleasedLab, repairs: list[str]) -> None:
    """Matches by nbgrader's grade id, then by cell id. Of several cells for an exercise, the last
    that was worked on is taken; for a question, all that were."""
    for kind in ("grade_id", "id"):
        named: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell.own and not cell.copy:
                named.setdefault(getattr(cell, kind), []).append(cell)
        answered = {answer.name for cell in cells for answer in cell.answers}
        for name, wanted in released.wanted.items():
            found = named.get(name, [])
            if not found or name in answered:
                continue
            if wanted.role == "question":
                taken = [cell for cell in found if _key(cell.text) != wanted.text] or found[:1]
            else:
                taken = [_last_worked_on(found, wanted)]
            for cell in found:
                cell.copy = cell not in taken
            for cell in taken:
                cell.answers.append(wanted)
            if len(found) > 1 and wanted.role == "exercise":
                repairs.append(
                    f"{len(found)} cells are named {name}; took the last that had been worked on"
                )


def _last_worked_on(cells: list[Cell], wanted: ReleasedCell) -> Cell:
    """Of several answers the last one, unless it is the stub or still raises its exception."""
    edited = [cell for cell in cells if _key(cell.text) != wanted.text]
    finished = [cell for cell in edited if "raise NotImplementedError" not in cell.text]
    return (finished or edited or cells)[-1]


def _match_by_content(cells: list[Cell], released: ReleasedLab, repairs: list[str]) -> None:
    """Matches what has lost its name: an exercise by what a cell defines, then all by phrases."""
    found = []
    missing = _missing(cells, released.wanted.values())
    for wanted in missing:
        if wanted.role == "exercise":
            defining = [cell for cell in cells if not cell.released and wanted.name in cell.defined]
            # Better a cell of its own than one that was merged with another exercise's.
            defining = [cell for cell in defining if cell.own] or defining
            if defining:
                _last_worked_on(defining, wanted).answers.append(wanted)
                found.append(wanted.name)
    for cell, alike in _alike(cells, released):
        if alike.role in ("locked", "free"):
            if cell.own and cell.like is None:
                cell.like = alike
                cell.changed = alike if alike.role == "locked" else None
        elif alike in _missing(cells, [alike]) and (cell.own or alike.role == "question"):
            cell.answers.append(alike)
            found.append(alike.name)
    if found:
        repairs.append(f"found by their content, as they had lost their ids: {', '.join(found)}")


def _missing(cells: list[Cell], wanted: Iterable[ReleasedCell]) -> list[ReleasedCell]:
    there = {id(answer) for cell in cells for answer in cell.answers}
    return [cell for cell in wanted if id(cell) not in there]


def _alike(cells: list[Cell], released: ReleasedLab) -> list[tuple[Cell, ReleasedCell]]:
    """Student's cells, and released cells that are nowhere else, of whose phrases they hold most:
    questions and exercises first, then the likest. An answer's length makes no difference."""
    there = {place for cell in cells for place in cell.places}
    exercises = frozenset(name for name, cell in released.wanted.items() if cell.role == "exercise")
    pairs = []
    left = MOST_COMPARED_IN_ALL
    for cell in cells if len(there) < len(released.cells) else ():
        left -= min(len(cell.text), MOST_COMPARED)
        if cell.released or cell.changed or left < 0:
            continue
        count: Counter[ReleasedCell] = Counter()
        for phrase in _phrases(cell.text):
            for alike in released.having_phrase.get(phrase, ()):
                count[alike] += 1
        for alike, shared in count.items():
            share = shared / len(alike.phrases)
            if alike.place in there or share < LEAST_SHARE:
                continue
            if alike.role == "exercise" and (cell.kind != "code" or cell.code.bound & exercises):
                continue
            pairs.append((alike.role in ("locked", "free"), -share, cell.number, cell, alike))
    pairs.sort(key=lambda pair: pair[:3])
    return [(cell, alike) for *_, cell, alike in pairs]
