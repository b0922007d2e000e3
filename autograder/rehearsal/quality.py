"""The table of quality, docs/quality.md: what the rehearsal of every exercise counted."""

from collections.abc import Callable, Sequence
from pathlib import Path

from autograder.authoring.lab import Lab, find_lab, lab_names
from autograder.rehearsal.rehearse import Quality, Report, rehearse

MISTAKE_SEEDS = range(5)
VARIANT_SEEDS = range(10)
OPENING = f"""\
# Quality of the exercises

Written by `autograder quality`; a row is as old as its last run. Each exercise's known mistakes
were graded under {len(MISTAKE_SEEDS)} seeds, its correct variants under {len(VARIANT_SEEDS)}: all
mistakes should be caught and named, and all variants accepted. Mutants are all single small
changes to the solution; those alive get full marks and aren't known to be equivalent. *Pasted* is
how many of the exercise's points the best piece of code earns that stands in any notebook, and
*poisoned* how often a test cell passes an answer that is honest on visible inputs only, or nowhere.
Both should be 0.

"""
HEADER = (
    "| lab | exercise | mistakes caught | named | variants accepted | mutants killed | equivalent"
    " | alive | pasted | poisoned |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)


def measure(
    lab: Lab, workers: int, exercises: Sequence[str], progress: Callable[[int, int], None]
) -> Report:
    """Rehearses a lab, or some of its exercises, wholly: all mutants, all seeds."""
    return rehearse(
        lab,
        workers,
        exercises=exercises,
        seeds=MISTAKE_SEEDS,
        variant_seeds=VARIANT_SEEDS,
        most_mutants=10**9,
        everywhere=True,
        progress=progress,
    )


def write(path: Path, lab: Lab, quality: dict[str, Quality]) -> None:
    """Puts rows into the table, in the labs' order and their exercises'; all other rows stay."""
    rows = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("| `"):
                _, name, _, exercise, _ = line.split("`")
                rows[name, exercise] = line
    rows |= {(lab.name, exercise): _row(lab, counted) for exercise, counted in quality.items()}
    ordered = [
        rows[name, exercise]
        for name in lab_names(lab.root)
        for exercise in find_lab(name, lab.root).exercises
        if (name, exercise) in rows
    ]
    path.write_text(OPENING + HEADER + "\n".join(ordered) + "\n")


def _row(lab: Lab, q: Quality) -> str:
    killed = q.mutants - q.equivalent - q.alive
    cells = [
        f"`{lab.name}`",
        f"`{q.exercise}`",
        f"{q.caught} of {q.mistakes}",
        f"{q.named}",
        f"{q.accepted} of {q.variants}",
        f"{killed} of {q.mutants}",
        f"{q.equivalent}",
        f"{q.alive}",
        f"{q.pasted:g} of {q.points:g}",
        f"{q.poisoned}",
    ]
    return f"| {' | '.join(cells)} |"
