"""Rehearses a lab before students see it: grades its known mistakes and correct variants.

tests/mistakes/NN_name.py holds them, each as a replacement for an exercise's cell. Every mistake
must lose points, be named in the failing test's message and cost no other exercise a point; every
correct variant and the solution get full marks; the untouched notebook gets none.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import nbformat

from autograder.authoring.lab import Lab, LabError, bound_names, percent_cells
from autograder.authoring.release import source_notebook
from autograder.grading.grade import grade, processes, released_notebook
from autograder.grading.job import Isolation, Job, Result
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


def known_answers(lab: Lab) -> list[KnownAnswer]:
    """The known mistakes and correct variants of a lab.

    Raises:
        LabError: there are none, or a header isn't one of a mistake or a correct variant.
    """
    path = lab.root / "tests" / "mistakes" / f"{lab.name}.py"
    if not path.is_file():
        raise LabError(f"{path}:1: there is no such file; it should hold the lab's known mistakes")
    answers = []
    for line, keys, source, markdown in percent_cells(path):
        if markdown:
            continue
        exercise = keys.get("mistake", keys.get("correct"))
        if exercise not in lab.exercises or ("mistake" in keys) != ("named" in keys):
            raise LabError(
                f'{path}:{line}: a header is `mistake="exercise" named="phrase"` or'
                f' `correct="exercise"`, with one of {", ".join(lab.exercises)}'
            )
        answers.append(KnownAnswer(exercise, keys.get("named"), source, line))
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


def rehearse(
    lab: Lab,
    workers: int,
    isolation: Isolation = "bubblewrap",
    exercises: Iterable[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Grades everything that is known about a lab.

    Args:
        exercises: only these; the whole lab if empty.
        progress: called with how many notebooks are graded, out of how many.

    Returns:
        What isn't as it should be, one sentence each.

    Raises:
        LabError: the lab has no file of mistakes, or a wrong one.
    """
    solution = solution_answers(lab)
    chosen = set(exercises) or set(lab.exercises)
    answers = [answer for answer in known_answers(lab) if answer.exercise in chosen]
    notebooks = {"solution": (solution, chosen), "untouched notebook": ({}, chosen)}
    for answer in answers:
        replaced = solution | {answer.exercise: answer.source}
        notebooks[answer.title] = (replaced, affected(lab, answer.exercise))
    with tempfile.TemporaryDirectory() as folder, processes(workers) as pool:
        futures = {}
        for number, (title, (sources, tested)) in enumerate(notebooks.items()):
            path = Path(folder, f"{number}.ipynb")
            nbformat.write(answered_notebook(lab, sources), path)
            job = Job(title, path, lab.solution_path, seed=number, isolation=isolation)
            futures[pool.submit(grade, job, tested)] = title
        results = {}
        for done, future in enumerate(as_completed(futures), 1):
            results[futures[future]] = future.result()
            progress(done, len(futures))
    problems = [
        f"the solution fails {test.grade_id}: {test.message}"
        for test in results["solution"].tests
        if test.outcome != "passed"
    ]
    problems += [
        f"the untouched notebook passes {test.grade_id}"
        for test in results["untouched notebook"].tests
        if test.outcome == "passed"
    ]
    for answer in answers:
        problems += _problems_of(answer, results[answer.title])
    for exercise in sorted(chosen):
        own = [answer for answer in answers if answer.exercise == exercise]
        correct = sum(answer.named is None for answer in own)
        if len(own) - correct < 4 or correct < 2:
            problems.append(
                f"{exercise} has {len(own) - correct} known mistakes and {correct} correct"
                " variants; it needs 4 and 2"
            )
    return problems


def _problems_of(answer: KnownAnswer, result: Result) -> list[str]:
    if answer.exercise not in bound_names(answer.source):
        return [f"the {answer.title} does not define {answer.exercise}"]
    failed = [test for test in result.tests if test.outcome != "passed"]
    own = [test for test in failed if test.exercise == answer.exercise]
    problems = [
        f"the {answer.title} fails {test.grade_id}: {test.message}"
        for test in failed
        if test not in own or answer.named is None
    ]
    if answer.named is not None and not own:
        problems.append(f"the {answer.title} ({answer.named!r}) gets full marks")
    elif answer.named is not None and not any(answer.named in test.message for test in own):
        problems.append(f"the {answer.title} is not named {answer.named!r}: {own[0].message}")
    return problems
