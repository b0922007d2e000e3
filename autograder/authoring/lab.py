"""A lab as its author wrote it: solutions/NN_name.py, its cells, their roles and mistakes."""

import ast
import hashlib
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jupytext

import utils
from autograder.authoring.expected import EXPECTED, mistakes_in_regions
from utils.without import findings

PACKAGE = Path(__file__).resolve().parents[1]
# The course: where the utils/ lie that are imported here. autograder/start.py finds it first.
ROOT = Path(utils.__file__).parents[1]
ROLES = ("given", "exercise", "test", "question")
# What else a header may say, by role.
KEYS = {
    "given": {"fold"},
    "exercise": {"changes", "without"},
    "test": {"points", "aspect"},
    "question": {"points"},
    "demo": {"fold"},
}
SOLUTION = re.compile(r"^[ \t]*#+ BEGIN SOLUTION\n(.*?)^[ \t]*#+ END SOLUTION[ \t]*$", re.M | re.S)
HIDDEN = re.compile(
    r"^[ \t]*#+ BEGIN HIDDEN TESTS\n(.*?)^[ \t]*#+ END HIDDEN TESTS[ \t]*$", re.M | re.S
)
MARKER = re.compile(r"#+ (?:BEGIN|END) (SOLUTION|HIDDEN TESTS|EXPECTED)")
# What the lines that release adds to a notebook need.
RESERVED = {"checked", "recorded", "unchecked", "Recorded", "explain_errors", "sum_up"}


class LabError(Exception):
    """A lab's source can't be released; each line of the message is `file:line: what is wrong`."""


@dataclass(frozen=True)
class Cell:
    """One cell of a lab.

    Attributes:
        name: the exercise that an exercise or test cell belongs to, or the question's own name; ""
            for given cells, demos and prose.
        points: of a test or a question; 0 for all others.
        grade_id: what nbgrader calls the cell; "" for demos and prose.
        aspect: of a test, what part of the exercise it is worth points for ("a batch").
        changes: of an exercise, the parameters that it may change in place.
        without: of an exercise, what it must not call, as dotted names ("torch", "scipy.signal").
        fold: of a given or demo cell: the title to fold it away under, or False to leave it open;
            None leaves it to release.
    """

    role: str
    source: str
    line: int
    markdown: bool = False
    name: str = ""
    points: float = 0
    grade_id: str = ""
    aspect: str = ""
    changes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    fold: str | bool | None = None

    @property
    def visible(self) -> str:
        """A test cell's source without what students don't get to see; no line moves."""
        return HIDDEN.sub(lambda region: "\n" * region[0].count("\n"), self.source)

    @property
    def is_function(self) -> bool:
        """Whether an exercise is a function, rather than a class or a value."""
        return any(
            isinstance(statement, ast.FunctionDef) and statement.name == self.name
            for statement in ast.parse(self.source).body
        )

    @property
    def hidden(self) -> bool:
        """Whether part of the cell is removed from the student's notebook."""
        return HIDDEN.search(self.source) is not None


@dataclass(frozen=True)
class Lab:
    """A lab: its name (the file's stem), its cells in order, and the course's root folder."""

    name: str
    cells: tuple[Cell, ...]
    root: Path

    def having(self, *roles: str) -> list[Cell]:
        """The cells with one of these roles, in order."""
        return [cell for cell in self.cells if cell.role in roles]

    def as_shown(self) -> "Lab":
        """The lab with what students see of its tests."""
        shown = (replace(c, source=c.visible) if c.role == "test" else c for c in self.cells)
        cells = tuple(c for c in shown if c.role != "test" or has_statements(c.source))
        return replace(self, cells=cells)

    @cached_property
    def exercises(self) -> dict[str, frozenset[str]]:
        """Every exercise's name, with the top-level names that its solution binds."""
        return {cell.name: frozenset(bound_names(cell.source)) for cell in self.having("exercise")}

    def version(self, test: Cell) -> str:
        """What ties a released test cell to its recorded values: a digest of the cell's source and
        of the given cells, which make its inputs."""
        return digest([*(cell.source for cell in self.having("given")), test.source])

    @property
    def solution_path(self) -> Path:
        return self.root / "solutions" / f"{self.name}.py"

    @property
    def released_path(self) -> Path:
        return self.root / "labs" / f"{self.name}.ipynb"

    @property
    def values_path(self) -> Path:
        """What the visible tests expect, for the students' notebook."""
        return self.released_path.with_suffix(".safetensors")


def lab_names(root: Path = ROOT) -> list[str]:
    """The names of all labs, sorted."""
    return sorted(path.stem for path in (root / "solutions").glob("[0-9][0-9]_*.py"))


def find_lab(name: str, root: Path = ROOT) -> Lab:
    """Reads a lab by its name or by its number.

    Raises:
        LabError: there is no such lab, or its source has mistakes.
    """
    found = [lab for lab in lab_names(root) if name in (lab, lab[:2])]
    if not found:
        raise LabError(f"there is no lab {name!r}; the labs are: {', '.join(lab_names(root))}")
    return read_lab(root / "solutions" / f"{found[0]}.py")


def read_project(root: Path) -> dict[str, Any]:
    """What a course's pyproject.toml says of it: `dependencies`, which its notebooks import, and
    under `urls` the `Repository` that Colab fetches them from.

    Raises:
        LabError: it says nothing of these.
    """
    path = root / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        if project["dependencies"] and project["urls"]["Repository"]:
            return project
    except (OSError, ValueError, KeyError):
        pass
    raise LabError(
        f"{path} should name `dependencies` and `urls.Repository` under [project], as the one that"
        " `autograder new` writes"
    )


def digest(sources: list[str]) -> str:
    """A few hexadecimal digits that stand for these texts."""
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:8]


def bound_names(source: str) -> set[str]:
    """The names that a cell's source binds at its top level; empty where it doesn't parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in statement.names)
        else:
            names.update(
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )
    return names


def percent_cells(path: Path) -> list[tuple[int, dict, str, bool]]:
    """A py:percent file's cells as (line of the header, the header's keys, source, is markdown).

    Raises:
        LabError: text stands before the first cell.
    """
    text = path.read_text(encoding="utf-8")
    lines = [n for n, line in enumerate(text.splitlines(), 1) if line.startswith("# %%")]
    cells = jupytext.reads(text, fmt="py:percent").cells
    for cell in cells:
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own note
    if len(cells) != len(lines):
        raise LabError(f"{path}:1: the file must begin with a `# %%` header")
    return [
        (line, dict(cell.metadata), cell.source, cell.cell_type == "markdown")
        for line, cell in zip(lines, cells, strict=True)
    ]


def read_lab(path: Path) -> Lab:
    """Reads and checks a lab's source.

    Raises:
        LabError: the author made mistakes; all of them are listed, each with file and line.
    """
    mistakes: list[str] = []
    cells: list[Cell] = []
    count: Counter[str] = Counter()
    for line, keys, source, markdown in percent_cells(path):
        roles = [role for role in ROLES if role in keys]
        role = roles[0] if roles else "demo"
        if len(roles) > 1 or set(keys) - {role} - KEYS.get(role, set()):
            mistakes.append(
                f"{path}:{line}: a header has one role out of {', '.join(ROLES)}; an exercise may"
                " have changes and without, a test points and aspect, a question points, a given"
                f" cell and a demo fold; this one has {', '.join(keys)}"
            )
            continue
        name = keys[role] if role not in ("demo", "given") else ""
        count[f"{role} {name}"] += 1
        ordinal = count[f"{role} {name}"]
        grade_id = {
            "given": f"given_{ordinal}",
            "exercise": name,
            "test": f"test_{name}" if ordinal == 1 else f"test_{name}_{ordinal}",
            "question": name,
            "demo": "",
        }[role]
        cells.append(
            Cell(
                role,
                source,
                line,
                markdown,
                name,
                keys.get("points", 0),
                grade_id,
                keys.get("aspect", ""),
                _listed(keys.get("changes", "")),
                _listed(keys.get("without", "")),
                keys.get("fold"),
            )
        )
    for cell in cells:
        mistakes += [f"{path}:{cell.line}: {mistake}" for mistake in _mistakes_in(cell, cells)]
    if not mistakes:  # What follows reads code, which has to be whole.
        mistakes += [f"{path}:{line}: {mistake}" for line, mistake in _mistakes_in_code(cells)]
    if mistakes:
        raise LabError("\n".join(mistakes))
    return Lab(path.stem, tuple(cells), path.resolve().parents[1])


def _listed(names: str) -> tuple[str, ...]:
    """The names in a header's value, "model, images"."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _mistakes_in(cell: Cell, cells: list[Cell]) -> list[str]:
    """What is wrong with one cell among its lab's cells, one sentence each."""
    mistakes = []
    exercises = [other.name for other in cells if other.role == "exercise"]
    named = [other.name for other in cells if other.role in ("exercise", "question")]
    markers = Counter(marker.group(0).lstrip("# ") for marker in MARKER.finditer(cell.source))
    for kind, region, role in (
        ("SOLUTION", SOLUTION, ("exercise", "question")),
        ("HIDDEN TESTS", HIDDEN, ("test",)),
        ("EXPECTED", EXPECTED, ("test",)),
    ):
        begins, ends = markers[f"BEGIN {kind}"], markers[f"END {kind}"]
        if not begins == ends == len(region.findall(cell.source)):
            mistakes.append(f"a BEGIN {kind} and its END {kind} don't pair up")
        elif begins and cell.role not in role:
            mistakes.append(f"only a cell with the role {role[0]} may have a {kind} region")
    if cell.markdown != (cell.role == "question") and cell.role != "demo":
        kind = "[markdown]" if cell.role == "question" else "code"
        mistakes.append(f"a cell with the role {cell.role} must be a {kind} cell")
    elif not cell.markdown and cell.role != "demo":
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            mistakes.append(f"the cell isn't plain Python: {error.msg} in its line {error.lineno}")
    if not isinstance(cell.fold, str | None) and cell.fold is not False:
        mistakes.append("fold is a title in quotes, or false")
    if cell.role in ("exercise", "question"):
        if "BEGIN SOLUTION" not in cell.source:
            mistakes.append(f"{cell.name!r} has no BEGIN SOLUTION … END SOLUTION markers")
        if named.count(cell.name) > 1:
            mistakes.append(f"the name {cell.name!r} is used {named.count(cell.name)} times")
    if cell.role == "exercise":
        if cell.name not in bound_names(cell.source):
            mistakes.append(f"the cell of exercise {cell.name!r} doesn't define {cell.name}")
        known = parameters(cell.source, cell.name)
        for name in cell.changes:
            if name.split(".")[0] not in known:
                mistakes.append(f"{cell.name!r} has no parameter {name!r} that it could change")
        tests = [other for other in cells if other.role == "test" and other.name == cell.name]
        if not any(has_statements(HIDDEN.sub("", test.source)) for test in tests):
            mistakes.append(f"exercise {cell.name!r} has no test that students can see")
    if cell.role == "test" and cell.name not in exercises:
        mistakes.append(f"a test for the unknown exercise {cell.name!r}")
    if cell.role in ("test", "question") and not (
        isinstance(cell.points, int | float) and cell.points > 0
    ):
        mistakes.append(f"the {cell.role} {cell.name!r} needs points, a number above 0")
    return mistakes


def _mistakes_in_code(cells: list[Cell]) -> list[tuple[int, str]]:
    """What is wrong with the code of a lab's cells, as (line, sentence)."""
    mistakes = []
    exercises = [cell for cell in cells if cell.role == "exercise"]
    names = set().union(*(bound_names(cell.source) for cell in exercises))
    sources = {str(c.line): c.source for c in cells if c.role in ("given", "exercise")}
    for cell in cells:
        if cell.role == "test":
            mistakes += [
                (cell.line + 1 + line, mistake)
                for line, mistake in mistakes_in_regions(cell.visible, names)
            ]
            for region in HIDDEN.finditer(cell.source):
                if EXPECTED.search(region[0]):
                    line = cell.line + 1 + cell.source[: region.start()].count("\n")
                    mistakes.append((line, "a hidden test calls the reference itself: no EXPECTED"))
        for name in sorted(RESERVED & bound_names(cell.source)) if not cell.markdown else ():
            mistakes.append((cell.line, f"release uses the name {name} itself; take another one"))
    for cell in exercises:
        if not cell.without:
            continue
        if not cell.is_function:
            mistakes.append((cell.line, "`without` is a rule for functions: no class, no value"))
            continue
        mistakes += [
            (
                int(found.cell) + found.line,
                f"`without` forbids what the solution does: {found.sentence}",
            )
            for found in findings(sources, cell.name, cell.without)
        ]
        tests = [test for test in cells if test.role == "test" and test.name == cell.name]
        rules = [test for test in tests if f"check_without({cell.name})" in test.visible]
        if not rules:
            mistakes.append(
                (cell.line, f"`without` needs a test that calls check_without({cell.name})")
            )
        mistakes += [
            (
                rule.line,
                f"what does nothing calls nothing: ask for a right value of {cell.name}, too",
            )
            for rule in rules
            if f"{cell.name}(" not in rule.visible
        ]
    return mistakes


def parameters(source: str, name: str) -> set[str]:
    """The parameters of the function `name` that a cell's source defines at its top level; none
    where it doesn't parse."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return set()
    return {
        argument.arg
        for statement in statements
        if isinstance(statement, ast.FunctionDef) and statement.name == name
        for argument in ast.walk(statement.args)
        if isinstance(argument, ast.arg)
    }


def has_statements(source: str) -> bool:
    """Whether a cell's source has any statement at all (comments and blank lines aren't any)."""
    try:
        return bool(ast.parse(source).body)
    except SyntaxError:
        return True
