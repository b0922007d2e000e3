"""Our grading and stock `nbgrader autograde` on the same submissions, in one run.

Prints seconds per submission, their ratio, and what each spends its time on.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from rich.console import Console
from rich.progress import track
from rich.table import Table

from autograder.authoring.lab import find_lab
from autograder.authoring.release import release, source_notebook
from autograder.grading import grade, normalise, tester
from autograder.grading.job import Job
from autograder.rehearsal.rehearse import answered_notebook, known_answers, solution_answers

SUBMISSIONS = 20
ROUNDS = 1  # Stock nbgrader takes minutes for a round: it runs every cell, figures included.


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def stock_class(course: Path) -> None:
    """Stock nbgrader on the whole course; it exits with 1 where it lost a submission."""
    command = [Path(sys.executable).with_name("nbgrader"), "autograde", LAB.name, "--force"]
    command.append("--ExecutePreprocessor.timeout=300")
    subprocess.run(command, cwd=course, check=False, capture_output=True)


def only_given_cells() -> nbformat.NotebookNode:
    """The lab's notebook without exercises and tests: what a kernel does before any grading."""
    notebook = source_notebook(LAB)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("locked") and not cell.metadata.nbgrader["grade"]
    ]
    return notebook


LAB = find_lab(sys.argv[1] if len(sys.argv) > 1 else "01")


def main() -> None:
    """Makes a class of mistakes, correct variants and solutions, grades it by turns, and tells."""
    console = Console()
    solution = solution_answers(LAB)
    answers = known_answers(LAB)
    step = max(1, len(answers) // (SUBMISSIONS - 2))
    notebooks = [answered_notebook(LAB, solution)] * 2
    for answer in answers[::step]:
        notebooks.append(answered_notebook(LAB, solution | {answer.exercise: answer.source}))
    os.environ["JUPYTER_LOG_LEVEL"] = "ERROR"
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder, "course")
        release(LAB, course)
        jobs = []
        for number, notebook in enumerate(notebooks):
            path = course / "submitted" / f"student{number:02}" / LAB.name / f"{LAB.name}.ipynb"
            path.parent.mkdir(parents=True)
            nbformat.write(notebook, path)
            jobs.append(Job(f"student{number:02}", path, LAB.solution_path, seed=0))
        times: dict[str, list[float]] = {"ours": [], "ours, two processes": [], "stock": []}
        results = Path(folder, "results")
        for _ in track(range(ROUNDS), "grading by turns", console=console):
            for name, workers in (("ours", 1), ("ours, two processes", 2)):
                shutil.rmtree(results, ignore_errors=True)
                times[name].append(seconds(partial(grade.grade_class, jobs, results, workers)))
            times["stock"].append(seconds(lambda: stock_class(course)))

        table = Table(
            "", "seconds per submission", "stock / this", title=f"{len(jobs)} submissions"
        )
        medians = {name: statistics.median(values) / len(jobs) for name, values in times.items()}
        for name, median in medians.items():
            table.add_row(name, f"{median:.2f}", f"{medians['stock'] / median:.1f}")
        console.print(table)

        # Where the time goes, on one correct submission, warm.
        start_up = seconds(lambda: grade.grade(jobs[0]))
        warm = statistics.median(seconds(lambda: grade.grade(jobs[0])) for _ in range(5))
        lab, released, sandbox = grade._warm(LAB.solution_path, "bubblewrap")
        content = jobs[0].path.read_bytes()
        read = seconds(lambda: normalise.normalise(content, released))
        submission = normalise.normalise(content, released)
        empty = seconds(lambda: tester.run_tests(lab, submission, sandbox, 0, exercises=()))
        kernel = seconds(lambda: NotebookClient(only_given_cells()).execute())
        console.print(
            f"ours: {start_up:.2f} s for the first submission of a process (imports, a warm"
            f" sandbox), then {warm:.2f} s each: {read:.3f} s to normalise, {empty:.3f} s for the"
            " given cells and the reference, the rest for a worker, the tests and the student's"
            " own code\n"
            f"stock: {medians['stock']:.2f} s each, {kernel:.2f} s of it to start a kernel, run"
            " the given cells (imports) and stop it"
        )


if __name__ == "__main__":
    main()
