"""What grading costs: the floor, our grader and stock `nbgrader autograde`, by turns in one run.

The floor is the same functions and the same tests in one warm process, without any isolation. Run
it on an idle machine.
"""

import os
import resource
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
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from autograder.authoring.lab import Lab, find_lab
from autograder.authoring.release import release
from autograder.grading import grade
from autograder.grading.job import Job
from autograder.rehearsal.known_answers import answered_notebook, solution_answers
from autograder.rehearsal.screening import Screen

LABS = ("01", "02", "07", "10")
ROUNDS = 3
STOCK = 2  # Stock nbgrader takes most of a minute for one: it runs every cell, figures included.
CLASS = 200  # submissions, with one process and with two
GROWTH = (10, 100, 1000)  # submissions in one process


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def floor(lab: Lab) -> float:
    """Seconds for the solution's cells and all tests, in one warm process."""
    screen = Screen(lab)
    return statistics.median(
        seconds(lambda: screen.verdicts_here({}, set(lab.exercises), 0, True))
        for _ in range(2 * ROUNDS)
    )


def handed_in(lab: Lab, course: Path, count: int) -> list[Job]:
    """A class that hands in the solution, as many times."""
    release(lab, course)
    notebook = answered_notebook(lab, solution_answers(lab))
    jobs = []
    for number in range(count):
        path = course / "submitted" / f"student{number:04}" / lab.name / f"{lab.name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
        jobs.append(Job(f"student{number:04}", path, lab.solution_path, seed=0))
    return jobs


def stock(course: Path, lab: Lab) -> None:
    """Stock nbgrader on a whole course; it exits with 1 where it lost a submission."""
    command = [Path(sys.executable).with_name("nbgrader"), "autograde", lab.name, "--force"]
    command.append("--ExecutePreprocessor.timeout=300")
    subprocess.run(command, cwd=course, check=False, capture_output=True)


def whole(jobs: list[Job], results: Path, workers: int) -> float:
    """Seconds for a class, start-up included."""
    shutil.rmtree(results, ignore_errors=True)
    return seconds(partial(grade.grade_class, jobs, results, workers))


def compare_labs(console: Console, folder: Path) -> None:
    """One row per lab, with what one submission of its solution costs, warm."""
    table = Table("lab", "floor", "ours", "overhead", "stock", "stock / ours", title="seconds each")
    for name in track(LABS, "labs", console=console):
        lab = find_lab(name)
        course = folder / name
        jobs = handed_in(lab, course, STOCK)
        grade.grade(jobs[0])  # starts everything
        ours, lowest, theirs = [], [], []
        for _ in range(ROUNDS):
            ours += [seconds(partial(grade.grade, jobs[0])) for _ in range(3)]
            lowest.append(floor(lab))
        theirs = seconds(partial(stock, course, lab)) / STOCK
        low, own = statistics.median(lowest), statistics.median(ours)
        row = (low, own, own - low, theirs, theirs / own)
        table.add_row(name, *(f"{value:.2f}" for value in row[:-1]), f"{row[-1]:.0f}")
    console.print(table)


def compare_processes(console: Console, folder: Path) -> None:
    """A class of lab 01, with one process and with two, by turns."""
    jobs = handed_in(find_lab("01"), folder / "class", CLASS)
    rounds = [
        {workers: whole(jobs, folder / "results", workers) for workers in (1, 2)}
        for _ in track(range(ROUNDS), f"{CLASS} submissions", console=console)
    ]
    one, two = (statistics.median(times[workers] for times in rounds) for workers in (1, 2))
    ratio = statistics.median(times[1] / times[2] for times in rounds)
    console.print(
        f"{CLASS} submissions of lab 01, start-up included: {one:.0f} s with one process,"
        f" {two:.0f} s with two; {ratio:.2f} times as fast"
    )


def growth(console: Console, folder: Path) -> None:
    """Time and memory of the parent with ever larger classes."""
    table = Table("submissions", "seconds each", "memory of the parent (MiB)", title="growth")
    for count in track(GROWTH, "growth", console=console):
        jobs = handed_in(find_lab("11"), folder / f"growth-{count}", count)
        took = whole(jobs, folder / "results", 2) / count
        held = psutil.Process().memory_info().rss / 2**20
        table.add_row(str(count), f"{took:.2f}", f"{held:.0f}")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    console.print(table, f"at most {most:.0f} MiB")


def main() -> None:
    """Prints three tables."""
    console = Console()
    os.environ["JUPYTER_LOG_LEVEL"] = "ERROR"
    with tempfile.TemporaryDirectory() as folder:
        for table in (growth, compare_processes, compare_labs):  # Memory is told before it's used.
            table(console, Path(folder))


if __name__ == "__main__":
    main()
