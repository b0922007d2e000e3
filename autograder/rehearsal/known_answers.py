"""What is known of the answers to a lab: mistakes, correct variants, equivalent mutations.

tests/mistakes/NN_name.py holds them, a cell each. A mistake and a correct variant replace an
exercise's cell. An equivalent names a change to the solution that no test can notice, as the lines
that go and the lines that come:

    # %% equivalent="max_pool" reason="the window at the border is never read"
    # - for row in range(height):
    # + for row in range(height + 1):
"""

from collections.abc import Mapping
from dataclasses import dataclass

import nbformat

from autograder.authoring.lab import Lab, LabError, percent_cells
from autograder.authoring.release import source_notebook
from autograder.grading.grade import released_notebook
from autograder.grading.names import global_names


@dataclass(frozen=True)
class KnownAnswer:
    """A way in which students answer an exercise: `named` is what the failing test must say of a
    mistake, and None for a correct answer."""

    exercise: str
    named: str | None
    source: str
    line: int

    @property
    def title(self) -> str:
        kind = "correct variant" if self.named is None else "mistake"
        return f"{kind} in line {self.line}, {self.exercise}"


@dataclass(frozen=True)
class Equivalent:
    """A mutation of a solution that changes nothing a test could see, for a `reason`; `change` is
    what autograder.rehearsal.mutants.Mutant calls its change."""

    exercise: str
    change: str
    reason: str
    line: int


def known_answers(lab: Lab) -> list[KnownAnswer]:
    """The known mistakes and correct variants of a lab.

    Raises:
        LabError: there are none, or a header isn't one that this file may have.
    """
    return [answer for answer in _read(lab) if isinstance(answer, KnownAnswer)]


def equivalents(lab: Lab) -> list[Equivalent]:
    """The mutations of a lab's solutions that are known to be equivalent.

    Raises:
        LabError: as known_answers.
    """
    return [answer for answer in _read(lab) if isinstance(answer, Equivalent)]


def _read(lab: Lab) -> list[KnownAnswer | Equivalent]:
    path = lab.root / "tests" / "mistakes" / f"{lab.name}.py"
    if not path.is_file():
        raise LabError(f"{path}:1: there is no such file; it should hold the lab's known mistakes")
    answers: list[KnownAnswer | Equivalent] = []
    for line, keys, source, markdown in percent_cells(path):
        if markdown:
            continue
        kinds = {"mistake": {"named"}, "correct": set(), "equivalent": {"reason"}}
        kind = next((kind for kind in kinds if kind in keys), "")
        if keys.get(kind) not in lab.exercises or set(keys) != {kind} | kinds[kind]:
            raise LabError(
                f'{path}:{line}: a header is `mistake="exercise" named="phrase"`,'
                ' `correct="exercise"` or `equivalent="exercise" reason="why"`, with one of'
                f" {', '.join(lab.exercises)}"
            )
        if kind == "equivalent":
            change = "\n".join(text.removeprefix("# ").rstrip() for text in source.splitlines())
            answers.append(Equivalent(keys[kind], change, keys["reason"], line))
        else:
            answers.append(KnownAnswer(keys[kind], keys.get("named"), source, line))
    return answers


def answered_notebook(lab: Lab, answers: Mapping[str, str]) -> nbformat.NotebookNode:
    """The released notebook with these sources in its exercise and question cells."""
    notebook = released_notebook(lab)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    return notebook


def solution_answers(lab: Lab) -> dict[str, str]:
    """The sources of a lab's solution, by grade id."""
    ids = {cell.grade_id for cell in lab.having("exercise", "question")}
    return {cell.id: cell.source for cell in source_notebook(lab).cells if cell.id in ids}


def affected(lab: Lab, exercise: str) -> set[str]:
    """The exercise and those whose solutions use it, directly or by others."""
    found = {exercise}
    cells = lab.having("exercise")
    for _ in cells:
        for cell in cells:
            used = set().union(*(lab.exercises[name] for name in found))
            if global_names(cell.source) & used:
                found.add(cell.name)
    return found
