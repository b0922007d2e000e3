"""One page about a lab's class, to read with a coffee: scores, tests, mistakes, likenesses."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from scipy.stats import pearsonr

from autograder.authoring.lab import Lab
from autograder.authoring.release import source_notebook
from autograder.course.archives import replace_file
from autograder.course.likeness import likenesses
from autograder.course.pages import render
from autograder.course.results import read_results
from autograder.grading.grade import released_notebook
from autograder.grading.job import Result, TestOutcome

LEAST_STUDENTS = 20  # to say anything about how a test separates students
LEAST_OF_EACH = 5  # who lost points in a test, and who didn't
BINS = 10
MOST_ROWS = 15
MOST_LINES = 200  # shown of an answer

# What a message says without "it looks as if": a phrase of it, and the mistake's name.
NAMED = {
    "is a `return` missing?": "a `return` is missing",
    "was modified in place": "an input was modified in place",
    "an endless loop?": "it doesn't end",
}
NUMBERS = re.compile(r"[-+×.,()\s]*\d[-+×.,()\se\d]*")
# The name of an everyday mistake, which check_close recognises by itself.
EVERYDAY = re.compile(r": expected [^;]*, got [^;]*; (.+)")
HOW_MANY = re.compile(r"^\d+ of \d+ values")
UNDONE = "not implemented yet"


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Item:
    """What the class tells about one test cell, or about an exercise as a whole.

    Attributes:
        aspect: of the test cell; None for an exercise as a whole.
        students: how many it is computed from, `undone` of whom left the exercise's stub.
        share: of the points that they got, with Wilson's interval: a hard one's is low.
        discrimination: the correlation of its points with the points of all *other* exercises,
            with Fisher's interval; None where there are too few students to say.
        note: what the discrimination says, or why there is none.
    """

    exercise: str
    aspect: str | None
    hidden: bool
    points: float
    students: int
    undone: int
    share: Interval
    discrimination: Interval | None
    note: str


def left_undone(result: Result) -> bool:
    """Whether a notebook was handed in without a single exercise begun."""
    return all(test.outcome == "missing" or test.message == UNDONE for test in result.tests)


def item_analysis(results: Sequence[Result]) -> list[Item]:
    """Every exercise, each followed by its test cells, as the class answered them.

    Notebooks in which nothing was begun are left out: they lose every point together, which would
    make any test seem to separate students well. The points of the same exercise are left out of
    what a test is correlated with, as its tests run in stages and depend on each other.
    """
    begun = [result for result in results if result.status == "graded" and not left_undone(result)]
    cells: dict[str, dict[str, TestOutcome]] = {}
    for result in begun:
        for test in result.tests:
            cells.setdefault(test.exercise, {}).setdefault(test.grade_id, test)
    items = []
    for exercise, tests in cells.items():
        items.append(_item(begun, exercise, list(tests.values()), None))
        if len(tests) > 1:
            for number, test in enumerate(tests.values(), 1):
                items.append(_item(begun, exercise, [test], test.aspect or f"test {number}"))
    return items


def _item(
    begun: Sequence[Result], exercise: str, cells: Sequence[TestOutcome], aspect: str | None
) -> Item:
    grade_ids = {cell.grade_id for cell in cells}
    got, rest, undone = [], [], 0
    for result in begun:
        own = [test for test in result.tests if test.grade_id in grade_ids]
        if len(own) == len(grade_ids):
            got.append(sum(test.points for test in own) / sum(test.max_points for test in own))
            undone += any(test.message == UNDONE for test in own)
            rest.append(sum(test.points for test in result.tests if test.exercise != exercise))
    discrimination, note = discriminate(got, rest)
    return Item(
        exercise,
        aspect,
        aspect is not None and all(cell.hidden for cell in cells),
        sum(cell.max_points for cell in cells),
        len(got),
        undone,
        wilson(sum(got), len(got)),
        discrimination,
        note,
    )


def wilson(successes: float, n: int) -> Interval:
    """Wilson's 95% interval of a proportion; of a mean of shares it is a wider one than needed,
    as nothing between 0 and 1 varies more than a coin of the same mean."""
    z = 1.959964
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def discriminate(got: Sequence[float], rest: Sequence[float]) -> tuple[Interval | None, str]:
    """The correlation of a test's points with the points of the other exercises, and what it says.

    Fisher's interval is meant for normal numbers, and a test's points are few and far between. On
    simulated classes of 20 to 300 with 50 to 92% right it held the truth 93 to 97 times in 100,
    where at least LEAST_OF_EACH were right and wrong.

    Args:
        got: share of the test's points, by student.
        rest: points in all other exercises, in the same order.
    """
    full = sum(share == 1 for share in got)
    if len(got) < LEAST_STUDENTS:
        return None, f"too few to say ({len(got)} of {LEAST_STUDENTS} students)"
    if full < LEAST_OF_EACH:
        return None, f"too few to say ({full} got it right)"
    if len(got) - full < LEAST_OF_EACH:
        return None, f"too few to say ({len(got) - full} lost points)"
    if len(set(rest)) == 1:
        return None, "nothing to compare with: the rest of the lab is the same for all"
    correlation = pearsonr(got, rest)
    low, high = correlation.confidence_interval(0.95)
    found = Interval(float(correlation.statistic), float(low), float(high))
    if high < 0:
        return found, "who is good elsewhere fails here: is the test right?"
    if low <= 0:
        return found, "can't be told from chance"
    if high < 0.3:
        return found, "hardly separates strong from weak"
    return found, ""


def named_mistake(message: str) -> str | None:
    """The mistake that a test's message names, or None where it names none."""
    _, _, mistake = message.partition("it looks as if ")
    everyday = EVERYDAY.search(message)
    if not mistake and everyday:
        mistake = everyday.group(1)
    if mistake:
        return HOW_MANY.sub("values", mistake.removesuffix("."))
    return next((name for phrase, name in NAMED.items() if phrase in message), None)


def mistakes(
    results: Sequence[Result],
) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
    """What went wrong, counted in students, the commonest first. Of the tests of an exercise, which
    run in stages, the first that names a mistake counts; if none does, the first message.

    Returns:
        Mistakes by name, as (exercise, mistake, students), and the messages that name none, as
        (exercise, an example, students); messages that differ only in numbers are one.
    """
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    unnamed: dict[tuple[str, str], set[str]] = defaultdict(set)
    example: dict[tuple[str, str], str] = {}
    for result in results:
        said: dict[str, list[str]] = defaultdict(list)
        for test in result.tests:
            undone = test.message == UNDONE or test.message.startswith("not run:")
            if test.outcome in ("failed", "lost") and not undone:
                said[test.exercise].append(test.message)
        for exercise, messages in said.items():
            mistake = next(filter(None, map(named_mistake, messages)), None)
            if mistake:
                named[exercise, mistake].add(result.student)
            else:
                kind = (exercise, NUMBERS.sub("…", messages[0]))
                example.setdefault(kind, messages[0])
                unnamed[kind].add(result.student)

    def ranked(count: dict[tuple[str, str], set[str]]) -> list[tuple[tuple[str, str], int]]:
        return sorted(((k, len(v)) for k, v in count.items()), key=lambda e: (-e[1], e[0]))

    return (
        [(exercise, mistake, n) for (exercise, mistake), n in ranked(named)],
        [(kind[0], example[kind], n) for kind, n in ranked(unnamed)],
    )


def histogram(scores: Sequence[float], most: float) -> list[tuple[float, float, int]]:
    """(from, to, students) for BINS equal parts of 0 … most; the last includes its upper end."""
    counts, edges = np.histogram(np.clip(scores, 0, most), BINS, (0, most))
    return [
        (float(low), float(high), int(n))
        for low, high, n in zip(edges, edges[1:], counts, strict=False)
    ]


def report(
    lab: Lab,
    results: Sequence[Result],
    unreadable: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """The page, as HTML that needs neither network nor script.

    Args:
        unreadable: the names of files that should have held a result, to be listed.
        progress: called with how many students' answers are read, and of how many.
    """
    graded = [result for result in results if result.status == "graded"]
    named, unnamed = mistakes(graded)
    scores = [result.score for result in graded]
    seconds = sorted(result.seconds for result in graded)
    released = {cell.id: cell.source for cell in released_notebook(lab).cells}
    solution = {cell.id: cell.source for cell in source_notebook(lab).cells}
    answered = {cell.grade_id: cell for cell in lab.having("exercise", "question")}
    questions = defaultdict(list)
    for result in graded:
        for question in result.questions:
            questions[question["grade_id"]].append(bool(question["answered"]))
    return render(
        "report.html",
        lab=lab.name,
        results=results,
        graded=graded,
        refused=[result for result in results if result.status == "refused"],
        failed=[result for result in results if result.status == "failed"],
        undone=[result.student for result in graded if left_undone(result)],
        unreadable=unreadable,
        most=max((result.max_score for result in graded), default=0),
        maxima=sorted({result.max_score for result in graded}),
        scores=scores,
        median=median(scores) if scores else 0,
        quartiles=quantiles(scores, n=4, method="inclusive") if len(scores) > 1 else [],
        histogram=histogram(scores, max(r.max_score for r in graded)) if graded else [],
        items=item_analysis(results),
        least=(LEAST_STUDENTS, LEAST_OF_EACH),
        named=named,
        unnamed=unnamed,
        most_rows=MOST_ROWS,
        most_lines=MOST_LINES,
        questions={name: (sum(answers), len(answers)) for name, answers in questions.items()},
        flagged=[result for result in graded if result.flags],
        alike=likenesses(
            {result.student: result.answers for result in graded},
            {name: (released.get(name, ""), solution.get(name, "")) for name in answered},
            {name for name, cell in answered.items() if cell.markdown},
            progress,
        ),
        repairs=Counter(
            re.sub(r"\d+", "…", repair) for result in graded for repair in result.repairs
        ).most_common(),
        seconds=seconds,
        slowest=sorted(graded, key=lambda result: -result.seconds)[:5],
    )


def write_report(
    lab: Lab, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Writes the page about a folder of results into it, as report.html; returns its path.

    Raises:
        NoResults: the folder holds no result.
    """
    path = folder / "report.html"
    replace_file(path, report(lab, *read_results(folder), progress).encode())
    return path
