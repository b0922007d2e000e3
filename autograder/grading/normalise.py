"""Rebuilds a submission from the lab's released notebook, in whatever state it comes.

Only the sources of exercise and question cells are taken from a student, and of further cells
those that define what the exercises need. Metadata, tags, outputs, tests and given cells are not.
What a student wrote elsewhere is kept for a TA to read. All of this takes time in proportion to
the notebook's size, which is bounded.
"""

import ast
import warnings
from collections import Counter
from dataclasses import dataclass, field

from autograder.grading.handed_in import CONFLICT, enumerated, read_cells
from autograder.grading.matching import BUILTINS, Cell, ReleasedCell, ReleasedLab, match
from autograder.grading.names import MOST_CODE, Code
from autograder.grading.pictures import pictures

# Characters of an answer, and of one and of all cells kept beside the answers.
MOST_ANSWER = 200_000
MOST_OTHER, MOST_OTHER_IN_ALL = 20_000, 200_000

# What is there before any cell is run.
PROVIDED = BUILTINS | {"__file__"}

# What an exercise has no use for; a TA may want to look at a notebook that mentions it.
SUSPICIOUS = (
    "ast_transformers", "autograder", "ctypes", "gc.get", "get_ipython", "_getframe",
    "gradebook", "input_transformers", "nbgrader", "os._exit", "os.kill", "socket", "subprocess",
)  # fmt: skip


@dataclass
class Submission:
    """A normalised submission.

    Attributes:
        steps: what the worker runs, in order, as (title, source, the exercise or None).
        answers: the source of every exercise and question cell, by grade id; without an entry
            where the submission has no such cell.
        pictures: those pasted into each question's answer, by grade id, then by name, as `data:`
            addresses; see autograder.grading.pictures.
        answered: the questions whose answer has a line that the lab didn't.
        repairs: what was put right and what the student had better put right, one sentence each.
        flags: what a TA may want to look at, one sentence each.
        other_cells: what else the student wrote, for a TA to read: each the number of the `cell`
            (from 1), its `kind` ("code" or "markdown"), the grade id of the nearest cell before it
            that has one (`after`, or None), whether it was `run` for the exercises, and its
            `source`.
    """

    steps: list[tuple[str, str, str | None]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    repairs: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    other_cells: list[dict] = field(default_factory=list)


def normalise(content: bytes, released: ReleasedLab) -> Submission:
    """Matches a submitted notebook's cells with the released one's, and orders what is to be run.

    Raises:
        Refused: the content isn't a notebook, is too much, or has nothing to do with this lab.
    """
    submission = Submission()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, about a student's code
        handed_in, submission.repairs = read_cells(content)
        cells = match(handed_in, released, submission.repairs)
        run = _steps(cells, released, submission)
        _answers(cells, released, submission, run)
        _name_conflicts(cells, released, submission, run)
        _other_cells(cells, submission, run)
        submission.flags += _flags(cells)
    return submission


@dataclass(eq=False)
class _Helper:
    """Code of the student's own that may be run for the exercises."""

    cell: Cell
    code: Code


def _steps(cells: list[Cell], released: ReleasedLab, submission: Submission) -> list[_Helper]:
    """Orders what the worker runs: given and exercise cells in the lab's order and, after the cell
    that they follow in the notebook, the student's cells that define what the exercises need.

    Returns:
        The helpers that are run.
    """
    exercises = frozenset(released.lab.exercises)
    taken = {
        answer.name: cell for cell in cells for answer in cell.answers if answer.role == "exercise"
    }
    provided = PROVIDED.union(released.given_names, *(cell.code.bound for cell in taken.values()))
    helpers = _possible_helpers(cells, released)
    binding: dict[str, list[_Helper]] = {}
    for helper in helpers:
        for name in helper.code.bound:
            binding.setdefault(name, []).append(helper)
    chosen: dict[_Helper, None] = {}
    waiting = [cell.code for cell in taken.values()]
    for helper in helpers:
        if helper.code.bound & exercises and helper.cell.own and not helper.cell.copy:
            chosen[helper] = None  # It defines an exercise anew.
            waiting.append(helper.code)
    for code in waiting:
        for name in code.used - provided:
            for helper in binding.pop(name, ()):
                if helper not in chosen:
                    chosen[helper] = None
                    waiting.append(helper.code)
    run = [helper for helper in helpers if helper in chosen]
    if run:
        submission.repairs.append(
            f"ran {len(run)} of the student's own cells, which define what the exercises use"
        )
    given = {cell.grade_id for cell in released.lab.having("given")}
    after: dict[str | None, list[_Helper]] = {}
    last = None
    by_cell: dict[int, list[_Helper]] = {}
    for helper in run:
        by_cell.setdefault(helper.cell.number, []).append(helper)
    for cell in cells:
        for stands in (*cell.merged, *cell.answers, cell.released, cell.changed):
            if stands and (stands.role == "exercise" or stands.name in given):
                last = stands.name
        for helper in by_cell.get(cell.number, ()):
            after.setdefault(last, []).append(helper)

    def run_helpers(anchor: str | None) -> None:
        for helper in after.get(anchor, ()):
            title = f"your cell {helper.cell.number}"
            submission.steps.append((title, helper.code.python, None))

    run_helpers(None)
    for step in released.lab.having("given", "exercise"):
        if step.role == "given":
            submission.steps.append((step.grade_id, step.source, None))
        elif step.name in taken:
            code = taken[step.name].code
            # As far as Python can't say it itself, without harm, when it runs the cell.
            source = f"raise RuntimeError({code.unread!r})" if code.unread else code.python
            submission.steps.append((step.name, source, step.name))
        run_helpers(step.grade_id)
    return run


def _possible_helpers(cells: list[Cell], released: ReleasedLab) -> list[_Helper]:
    """The student's own code cells, demos as they were released, and what stands in the lab's own
    cells that the lab didn't write there."""
    helpers = []
    for cell in cells:
        if cell.kind != "code":
            continue
        if cell.changed and not cell.answers:
            helpers += [_Helper(cell, code) for code in _additions(cell, cell.changed, released)]
        elif cell.own or (cell.released and cell.released.role == "free"):
            helpers.append(_Helper(cell, cell.code))
    return helpers


_DEFINING = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def _additions(cell: Cell, locked: ReleasedCell, released: ReleasedLab) -> list[Code]:
    """The statements that a cell adds to the locked one that it was, and that define something new;
    from a test no variables, which are only its own."""
    code, lines = cell.code, cell.code.python.split("\n")
    if code.tree is None:
        return []
    found = []
    for statement in code.tree.body:
        decorators = getattr(statement, "decorator_list", [])
        first = min(node.lineno for node in (statement, *decorators))
        source = "\n".join(lines[first - 1 : statement.end_lineno])
        if source in locked.text:
            continue
        if locked.name.startswith("test_") and not isinstance(statement, _DEFINING):
            continue
        added = Code(source)
        if added.bound - released.given_names and not _conflicts(added, released):
            found.append(added)
    return found


def _conflicts(code: Code, released: ReleasedLab) -> frozenset[str]:
    """The names of the lab's given cells that a cell gives another meaning."""
    same = {
        name for name, origin in code.imports.items() if released.given_imports.get(name) == origin
    }
    return (code.bound & released.given_names) - same


def _answers(
    cells: list[Cell], released: ReleasedLab, submission: Submission, run: list[_Helper]
) -> None:
    """Collects what was written for every exercise and question. What stands beside a question's
    own cell, or in its place, is told by where it stands, never by what it says."""
    _find_parts(cells, released, {helper.cell for helper in run})
    for name, wanted in released.wanted.items():
        own = [cell for cell in cells if wanted in cell.answers]
        parts = [cell for cell in cells if wanted in cell.answers or cell.part_of is wanted]
        if not parts:
            submission.repairs.append(f"the cell {name} is missing")
            continue
        texts = [_as_answer(cell, wanted) for cell in parts]
        if wanted.role == "question":
            texts = _with_pictures(name, parts, texts, submission)
        text = "\n\n".join(texts)
        if len(text) > MOST_ANSWER:
            text = text[:MOST_ANSWER]
            submission.repairs.append(
                f"the answer to {name} is longer than {MOST_ANSWER:,} characters; the rest of it"
                " was cut off"
            )
        submission.answers[name] = text
        if wanted.role == "question":
            if parts != own or len(own) > 1:
                numbers = enumerated(str(cell.number) for cell in parts)
                submission.repairs.append(f"took the answer to {name} from the cells {numbers}")
            if any(_is_written_in(cell, wanted) for cell in parts):
                submission.answered.add(name)


def _is_written_in(cell: Cell, wanted: ReleasedCell) -> bool:
    """Whether a cell says anything that the released one doesn't."""
    return any(line.strip() not in wanted.lines for line in cell.text.splitlines() if line.strip())


def _as_answer(cell: Cell, wanted: ReleasedCell) -> str:
    if wanted.role == "exercise" or cell.kind == "markdown" or cell.code.tree is None:
        return cell.text
    fence = "~~~" if "```" in cell.text else "```"
    return f"{fence}python\n{cell.text}\n{fence}"


def _with_pictures(
    name: str, parts: list[Cell], texts: list[str], submission: Submission
) -> list[str]:
    """Keeps the pictures that were pasted into an answer's cells.

    Returns:
        The cells' texts, which call by another name a picture whose name an earlier cell's has.
    """
    kept: dict[str, str] = {}
    renamed = []
    for cell, text in zip(parts, texts, strict=True):
        found, left_out = pictures(cell.attachments)
        for picture, address in found.items():
            new = f"{cell.number}-{picture}" if picture in kept else picture
            text = text.replace(f"attachment:{picture}", f"attachment:{new}")
            kept[new] = address
        submission.flags += [f"an attachment of {name} is left out: {why}" for why in left_out]
        renamed.append(text)
    if kept:
        submission.pictures[name] = kept
    return renamed


def _find_parts(cells: list[Cell], released: ReleasedLab, ran: set[Cell]) -> None:
    """Gives the questions the cells that were added for their answers: texts, and code where there
    is nothing else. A text right under a question always belongs to it; in the place of a question
    that is gone, or right above one, it does where that has no answer yet."""
    questions = {cell.place: cell for cell in released.wanted.values() if cell.role == "question"}
    around = _places_around(cells, len(released.cells))
    free = [
        cell
        for cell in cells
        if cell.own and not (cell.copy or cell.like or cell in ran) and cell.text.strip()
    ]
    unanswered = set(questions)
    for is_program in (False, True):
        candidates = [cell for cell in free if _is_program(cell) == is_program]
        for where in ("under", "instead of", "above"):
            allowed = set(questions) if (where, is_program) == ("under", False) else unanswered
            earlier: Counter[tuple[int, int]] = Counter()
            for cell in candidates:
                if cell.part_of:
                    continue
                before, after = around[cell.number]
                places: list[int] = []
                if where == "under":
                    places = [before]
                elif where == "above":
                    places = [after]
                elif before < after:
                    places = [place for place in sorted(questions) if before < place < after]
                places = [place for place in places if place in allowed]
                if places:
                    # Of several questions that are gone, each gets one, and the last the rest.
                    place = places[min(earlier[before, after], len(places) - 1)]
                    earlier[before, after] += 1
                    cell.part_of = questions[place]
            unanswered = {
                place
                for place, question in questions.items()
                if not any(
                    cell.part_of is question
                    or (question in cell.answers and _is_written_in(cell, question))
                    for cell in cells
                )
            }


def _places_around(cells: list[Cell], end: int) -> dict[int, tuple[int, int]]:
    """By cell, the places of the released cells nearest before and after it; -1 and `end` where
    there are none."""
    before, last = {}, -1
    for cell in cells:
        before[cell.number] = last
        last = max(cell.places, default=last)
    around, following = {}, end
    for cell in reversed(cells):
        around[cell.number] = (before[cell.number], following)
        following = min(cell.places, default=following)
    return around


def _is_program(cell: Cell) -> bool:
    """Whether a cell is code, not words that stand in a code cell."""
    if cell.kind != "code" or cell.code.tree is None:
        return False
    return not all(
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant | ast.Name)
        for statement in cell.code.tree.body
    )


def _name_conflicts(
    cells: list[Cell], released: ReleasedLab, submission: Submission, run: list[_Helper]
) -> None:
    """Names what the student's cells give another meaning that it must not have: an honest student
    breaks his own answers by that, and the TA may want to look at it."""
    exercises = frozenset(released.lab.exercises)
    answered = frozenset(answer.name for cell in cells for answer in cell.answers)
    codes = [
        (f"cell {' and '.join(f'`{answer.name}`' for answer in cell.answers)}", cell, cell.code)
        for cell in cells
        if any(answer.role == "exercise" for answer in cell.answers)
    ] + [(f"cell {helper.cell.number}", helper.cell, helper.code) for helper in run]
    imported = dict(released.given_imports)
    for _, _, code in codes:
        imported |= code.imports
    used: frozenset[str] = frozenset()
    for title, cell, code in codes:
        used |= code.used
        if code.tree is None and CONFLICT.search(code.source[:MOST_CODE]):
            submission.repairs.append(
                f"your {title} holds the marks of a merge conflict (<<<<<<<, =======, >>>>>>>):"
                " choose one side and take the marks out"
            )
        solved = [released.lab.exercises.get(answer.name, ()) for answer in cell.answers]
        own = frozenset().union(*solved)
        elsewhere = code.bound & exercises & answered if cell.answers else frozenset()
        for names, whose in (
            (_conflicts(code, released), "which the lab defines"),
            (code.bound & released.builtins, "which Python defines"),
            (elsewhere, "which has a cell of its own"),
        ):
            if names - own:
                listed = enumerated(f"`{name}`" for name in sorted(names - own))
                submission.repairs.append(
                    f"your {title} gives {listed}, {whose}, another meaning: use another name"
                )
                submission.flags.append(f"the {title} gives {listed} another meaning")
        if changed := code.tampers_with(imported):
            listed = enumerated(f"`{name}`" for name in changed)
            submission.repairs.append(
                f"your {title} changes {listed}, which other code relies on: leave it as it is"
            )
            submission.flags.append(f"the {title} changes {listed}")
        if code.stars:
            listed = enumerated(f"`from {name} import *`" for name in code.stars)
            submission.repairs.append(
                f"your {title} has {listed}, which may give any name another meaning: import what"
                " you use by name"
            )
            submission.flags.append(f"the {title} has {listed}")
    ran = {helper.cell for helper in run}
    for cell in cells:
        if cell.kind == "code" and cell.own and cell not in ran:
            names = (_conflicts(cell.code, released) & used) - released.demo_names
            if names:
                listed = enumerated(f"`{name}`" for name in sorted(names))
                submission.repairs.append(
                    f"your cell {cell.number} gives {listed}, which the lab defines, another"
                    " meaning; your exercises were graded with the lab's own: use another name"
                )


def _other_cells(cells: list[Cell], submission: Submission, run: list[_Helper]) -> None:
    """Keeps what the student wrote and what is no answer, so that a TA can read it."""
    ran = {helper.cell for helper in run}
    after = None
    left_out, length = 0, 0
    for cell in cells:
        source = ""
        if cell.own and not cell.part_of:
            source = cell.text
        elif cell.changed and not cell.answers:
            lines = cell.text.splitlines()
            source = "\n".join(line for line in lines if line.strip() not in cell.changed.lines)
        if source.strip():
            length += len(source)
            if len(source) > MOST_OTHER or length > MOST_OTHER_IN_ALL:
                source = source[: max(0, MOST_OTHER_IN_ALL - length + len(source))][:MOST_OTHER]
                left_out += 1
            if source:
                submission.other_cells.append(
                    {
                        "cell": cell.number,
                        "kind": cell.kind,
                        "after": after,
                        "run": cell in ran,
                        "source": source,
                    }
                )
        for stands in (*cell.merged, cell.released, cell.changed, *cell.answers):
            after = stands.name if stands and stands.name else after
    if left_out:
        submission.repairs.append(
            f"{left_out} of the student's own cells were too long to be kept beside the answers"
        )


def _flags(cells: list[Cell]) -> list[str]:
    text = "\n".join(
        cell.text for cell in cells if cell.kind == "code" and not (cell.released or cell.changed)
    )
    words = [word for word in SUSPICIOUS if word in text]
    flags = [f"the code mentions {', '.join(words)}"] if words else []
    if any("skip" in cell.tags for cell in cells):
        flags.append("cells carry a tag that asks to skip them")
    return flags
