"""Rebuilds a submission from the lab's released notebook, in whatever state it comes.

Only the sources of exercise and question cells are taken from a student, and of further cells
those that define what the exercises need. Metadata, tags, outputs, tests and given cells are not.
"""

import ast
import builtins
import difflib
import re
import stat
import symtable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import nbformat.reader

from autograder.authoring.lab import Lab, bound_names
from autograder.grading.pictures import pictures

MOST_BYTES = 20 * 2**20
LEAST_SIMILAR = 0.6
MAGIC = re.compile(r"^\s*[%!?].*$|^[^#'\"\n]*\?$", re.M)

# What an exercise has no use for; a TA may want to look at a notebook that mentions it.
SUSPICIOUS = (
    "ast_transformers", "autograder", "ctypes", "_exit", "gc.get", "get_ipython", "_getframe",
    "gradebook", "input_transformers", "nbgrader", "os.kill", "socket", "subprocess",
)  # fmt: skip


class Refused(Exception):
    """A submission can't be graded at all; the message says why, for TA and student."""


@dataclass
class Submission:
    """A normalised submission.

    Attributes:
        steps: what the worker runs, in order, as (title, source, the exercise or None).
        answers: the source of every exercise and question cell, by grade id; without an entry
            where the submission has no such cell.
        pictures: those pasted into each question's answer, by grade id, then by name, as `data:`
            addresses; see autograder.grading.pictures.
        repairs: what was put right, one sentence each.
        flags: what a TA may want to look at, one sentence each.
    """

    steps: list[tuple[str, str, str | None]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)


@dataclass
class _Cell:
    """A cell of a student's notebook, and the released cell that it was matched with."""

    id: str
    grade_id: str
    source: str
    code: bool
    tags: str
    attachments: object = None
    match: str | None = None


def find_notebook(path: Path, lab: str) -> Path:
    """The notebook of one submission, which is a file or a folder.

    Raises:
        Refused: there is none, there are several, or it isn't a regular file.
    """
    if path.is_symlink():
        raise Refused("the submission is a symbolic link; hand in the notebook itself")
    if path.is_dir():
        found = sorted(
            found for found in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in found.parts
        )
        named = [notebook for notebook in found if notebook.stem == lab]
        if len(named) != 1 and len(found) != 1:
            count = "no notebook" if not found else f"{len(found)} notebooks"
            raise Refused(f"the folder holds {count}; it should hold one, named {lab}.ipynb")
        path = (named if len(named) == 1 else found)[0]
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise Refused("the notebook is a symbolic link; hand in the notebook itself")
    if not stat.S_ISREG(mode):
        raise Refused("the notebook is not a regular file")
    return path


def read_notebook(path: Path) -> bytes:
    """A notebook's content.

    Raises:
        Refused: the file is too large or can't be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Refused(f"the notebook can't be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise Refused(
            f"the notebook is larger than {MOST_BYTES // 2**20} MiB; clear its outputs and hand"
            " it in again"
        )
    return content


def normalise(content: bytes, lab: Lab, released: nbformat.NotebookNode) -> Submission:
    """Matches a submitted notebook's cells with the released one's, and orders what is to be run.

    Raises:
        Refused: the content isn't a notebook, or has nothing to do with this lab.
    """
    submission = Submission()
    cells = _parse(content)
    wanted = {cell.grade_id: cell for cell in lab.having("exercise", "question")}
    sources = {cell.id: cell.source for cell in released.cells if cell.id in wanted}
    _match_given_and_tests(cells, released, submission)
    _match_by_id(cells, sources, list(wanted), submission)
    _match_by_content(cells, sources, wanted, submission)
    matched = {cell.match: cell for cell in cells if cell.match in wanted}
    if not matched:
        raise Refused(f"the notebook holds no cell of {lab.name}; was another lab handed in?")
    for grade_id in wanted:
        if grade_id in matched:
            submission.answers[grade_id] = matched[grade_id].source
        else:
            submission.repairs.append(f"the cell {grade_id} is missing")
    for cell in lab.having("question"):
        answer = matched.get(cell.grade_id)
        kept, left_out = pictures(answer.attachments if answer else None)
        if kept:
            submission.pictures[cell.grade_id] = kept
        submission.flags += [
            f"an attachment of {cell.grade_id} is left out: {why}" for why in left_out
        ]
    submission.steps = _steps(lab, cells, submission)
    submission.flags += _flags(cells)
    return submission


def _parse(content: bytes) -> list[_Cell]:
    try:
        # Not nbformat.reads: it would validate, and most of what it minds doesn't matter here.
        notebook = nbformat.convert(nbformat.reader.reads(content.decode("utf-8-sig")), 4)
        cells = [
            _Cell(
                id=str(cell.get("id", "")),
                grade_id=str(_mapping(cell, "metadata", "nbgrader").get("grade_id", "")),
                source=_text(cell["source"]),
                code=cell["cell_type"] == "code",
                tags=str(_mapping(cell, "metadata").get("tags", "")),
                attachments=cell.get("attachments"),
            )
            for cell in notebook["cells"]
        ]
    except RecursionError:
        raise Refused("the file is nested too deep to be a notebook") from None
    except Exception:
        empty = not content.strip()
        raise Refused(
            "the file is empty" if empty else "the file is not a Jupyter notebook"
        ) from None
    return cells


def _mapping(cell: dict, *keys: str) -> dict:
    for key in keys:
        cell = cell.get(key, {})
        if not isinstance(cell, dict):
            return {}
    return cell


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _match_given_and_tests(
    cells: list[_Cell], released: nbformat.NotebookNode, submission: Submission
) -> None:
    """Sets the locked cells aside, whatever became of them, and notes which were changed."""
    locked = {
        cell.metadata["nbgrader"]["grade_id"]: cell.source
        for cell in released.cells
        if cell.metadata.get("nbgrader", {}).get("locked")
    }
    by_source = {source.strip(): grade_id for grade_id, source in locked.items()}
    restored = []
    for cell in cells:
        named = next((name for name in (cell.grade_id, cell.id) if name in locked), None)
        cell.match = by_source.get(cell.source.strip(), named)
        if cell.match and cell.source.strip() != locked[cell.match].strip():
            restored.append(cell.match)
    if restored:
        names = ", ".join(dict.fromkeys(restored))
        submission.repairs.append(f"restored the locked cells that had been changed: {names}")
    gone = [name for name in locked if name not in {cell.match for cell in cells}]
    if gone:
        submission.repairs.append(f"put back the locked cells that were missing: {', '.join(gone)}")


def _match_by_id(
    cells: list[_Cell], sources: dict[str, str], wanted: list[str], submission: Submission
) -> None:
    """Matches by nbgrader's grade id, then by cell id; of several, the last that was worked on."""
    for kind in ("grade_id", "id"):
        for name in wanted:
            if any(cell.match == name for cell in cells):
                continue
            found = [cell for cell in cells if getattr(cell, kind) == name and not cell.match]
            if not found:
                continue
            _last_worked_on(found, sources[name]).match = name
            if len(found) > 1:
                submission.repairs.append(
                    f"{len(found)} cells are named {name}; took the last that had been worked on"
                )
                for cell in found:
                    cell.match = cell.match or f"a copy of {name}"


def _last_worked_on(cells: list[_Cell], stub: str) -> _Cell:
    """Of several answers the last one, unless it is the stub or still raises its exception."""
    edited = [cell for cell in cells if cell.source.strip() != stub.strip()]
    finished = [cell for cell in edited if "raise NotImplementedError" not in cell.source]
    return (finished or edited or cells)[-1]


def _match_by_content(
    cells: list[_Cell], sources: dict[str, str], wanted: dict, submission: Submission
) -> None:
    """Matches what has lost its ids: code by what it defines, then anything by likeness."""
    for name, cell in wanted.items():
        if any(other.match == name for other in cells):
            continue
        free = [other for other in cells if not other.match]
        found = [other for other in free if not cell.markdown and name in bound_names(other.source)]
        if found:
            found = [_last_worked_on(found, sources[name])]
        else:
            likeness = [
                (difflib.SequenceMatcher(None, sources[name], other.source).ratio(), number)
                for number, other in enumerate(free)
            ]
            best = max(likeness, default=(0.0, 0))
            found = [free[best[1]]] if best[0] >= LEAST_SIMILAR else []
        for other in found:
            other.match = name
            submission.repairs.append(f"the cell {name} had lost its id; found it by its content")


def _steps(
    lab: Lab, cells: list[_Cell], submission: Submission
) -> list[tuple[str, str, str | None]]:
    """What the worker runs: given and exercise cells in the lab's order and, after the cell that
    they follow in the notebook, the student's cells that define what the exercises need."""
    exercises = set(lab.exercises)
    cleaned: dict[int, str] = {}
    for number, cell in enumerate(cells):
        if cell.code or cell.match in exercises:
            cleaned[number] = _without_magics(cell.source)
    taken = {cell.match: cleaned[n] for n, cell in enumerate(cells) if cell.match in exercises}
    provided = set(dir(builtins)) | {"__file__"}
    for cell in lab.having("given"):
        provided |= bound_names(cell.source)
    for source in taken.values():
        provided |= bound_names(source)
    free = {
        number: source
        for number, source in cleaned.items()
        if not cells[number].match or cells[number].match.startswith("a copy of")
    }
    helpers: set[int] = set()
    waiting = list(taken.values())
    while waiting:
        needed = global_names(waiting.pop()) - provided
        for number, source in free.items():
            binds = bound_names(source)
            redefines = binds & exercises and not cells[number].match
            if number not in helpers and (binds & needed or redefines):
                helpers.add(number)
                waiting.append(source)
    after: dict[str | None, list[int]] = {}
    last = None
    for number, cell in enumerate(cells):
        if cell.match in exercises or (cell.match or "").startswith("given_"):
            last = cell.match
        elif number in helpers:
            after.setdefault(last, []).append(number)
    if helpers:
        submission.repairs.append(
            f"ran {len(helpers)} of the student's own cells, which define what the exercises use"
        )
    steps = []

    def run_helpers(anchor: str | None) -> None:
        for number in after.get(anchor, ()):
            steps.append((f"your cell {number + 1}", free[number], None))

    run_helpers(None)
    for cell in lab.having("given", "exercise"):
        if cell.role == "given":
            steps.append((cell.grade_id, cell.source, None))
        elif cell.name in taken:
            steps.append((cell.name, taken[cell.name], cell.name))
        run_helpers(cell.grade_id)
    return steps


def _without_magics(source: str) -> str:
    """A cell's source without IPython's magics, where it isn't Python with them."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return MAGIC.sub("", source)
    return source


def global_names(source: str) -> set[str]:
    """The names that a cell's source uses and leaves for others to define."""
    try:
        table = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    tables = [table]
    while tables:
        table = tables.pop()
        tables.extend(table.get_children())
        top = table.get_type() == "module"
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (symbol.is_global() or top)
        }
    return names - bound_names(source)


def _flags(cells: list[_Cell]) -> list[str]:
    text = "\n".join(cell.source for cell in cells if cell.code and not _is_locked(cell))
    words = [word for word in SUSPICIOUS if word in text]
    flags = [f"the code mentions {', '.join(words)}"] if words else []
    if any("skip" in cell.tags for cell in cells):
        flags.append("cells carry a tag that asks to skip them")
    return flags


def _is_locked(cell: _Cell) -> bool:
    match = cell.match or ""
    return match == "setup" or match.startswith(("given_", "test_"))
