"""Mutants: every single small change to a lab's solutions, each of which a test should notice.

The operators are ours, on Python's ast: what kept libraries have (cosmic-ray's and mutmut's
operators, numbers and keywords) is the smaller part of what goes wrong in code on tensors, and
theirs come with a runner, a database and a network stack. A mutation replaces a stretch of the
solution's text, so that its change can be shown, and named, as lines that go and lines that come.
"""

import ast
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise

from autograder.authoring.lab import SOLUTION, Cell, Lab
from autograder.rehearsal.trials import Trials

OPERATORS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Add: ("-", "*"),
    ast.Sub: ("+",),
    ast.Mult: ("/", "+"),
    ast.Div: ("*",),
    ast.FloorDiv: ("*", "/"),
    ast.Mod: ("//",),
    ast.Pow: ("*",),
    ast.MatMult: ("*",),
    ast.BitAnd: ("|",),
    ast.BitOr: ("&",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
    ast.And: ("or",),
    ast.Or: ("and",),
}
SYMBOLS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|",
}  # fmt: skip
# Functions, methods and words in strings that are taken for each other.
CONFUSED = (
    ("sum", "mean"), ("max", "min"), ("amax", "amin"), ("maximum", "minimum"), ("any", "all"),
    ("argmax", "argmin"), ("zeros", "ones"), ("zeros_like", "ones_like"), ("floor", "ceil"),
    ("square", "abs"), ("sqrt", "square"), ("std", "var"), ("rand", "randn"), ("eval", "train"),
    ("softmax", "sigmoid"), ("relu", "abs"), ("repeat", "repeat_interleave"), ("ravel", "T"),
    ("sort", "argsort"), ("median", "mean"), ("sign", "abs"), ("log", "exp"),
)  # fmt: skip
# Variables that are taken for each other, among those that a solution binds.
TWINS = (
    ("H", "W"), ("h", "w"), ("HH", "WW"), ("height", "width"), ("row", "column"), ("r", "c"),
    ("i", "j"), ("N", "C"), ("kernel_height", "kernel_width"), ("rows", "columns"),
    ("out_height", "out_width"), ("pool_height", "pool_width"), ("dx", "dw"), ("x", "y"),
    ("mean", "std"),
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One exercise's cell with one change.

    Attributes:
        change: the lines that go ("- …") and those that come ("+ …"); where a solution has the
            same lines several times, the later ones say which: "(2)".
        line: of the change, in the lab's file.
        source: the changed cell.
    """

    exercise: str
    change: str
    line: int
    source: str

    @property
    def short(self) -> str:
        """The change in one line."""
        return self.change.replace("\n+ ", " → ", 1).removeprefix("- ").replace("\n", " ⏎ ")


@dataclass(frozen=True)
class _Edit:
    """A stretch of text, in characters from the cell's start, and what takes its place."""

    start: int
    end: int
    text: str


def mutants(lab: Lab) -> list[Mutant]:
    """All mutants of a lab's solutions, in order, each different program once."""
    return [mutant for cell in lab.having("exercise") for mutant in _mutants_of(cell)]


def sample(every: list[Mutant], most: int, seed: str) -> list[Mutant]:
    """At most so many of the mutants, the same ones for the same seed, in order."""
    if len(every) <= most:
        return every
    chosen = random.Random(seed).sample(range(len(every)), most)
    return [every[number] for number in sorted(chosen)]


def survivors(trials: Trials, lab: Lab, tried: list[Mutant]) -> list[Mutant]:
    """Those of the mutants that get full marks for their exercise, from the screen and then from
    the real grader too."""

    def passing(mutants: list[Mutant], futures: list[Future], failed: Callable) -> list[Mutant]:
        pairs = zip(mutants, futures, strict=True)
        return [mutant for mutant, future in pairs if not failed(future.result())]

    screened = [
        trials.screened(lab, {mutant.exercise: mutant.source}, {mutant.exercise}, 0, False)
        for mutant in tried
    ]
    left = passing(tried, screened, lambda verdicts: any(verdicts.values()))
    graded = [
        trials.graded(lab, {mutant.exercise: mutant.source}, {mutant.exercise}) for mutant in left
    ]
    return passing(
        left, graded, lambda result: result.score < sum(t.max_points for t in result.tests)
    )


def _mutants_of(cell: Cell) -> list[Mutant]:
    source = cell.source
    tree = ast.parse(source)
    seen = {ast.dump(tree)}
    changes: Counter[str] = Counter()
    found = []
    regions = [match.span(1) for match in SOLUTION.finditer(source)]
    for edit in sorted(set(_Finder(source, tree).edits()), key=lambda edit: edit.start):
        if not any(start <= edit.start and edit.end <= end for start, end in regions):
            continue
        changed = source[: edit.start] + edit.text + source[edit.end :]
        try:
            program = ast.dump(ast.parse(changed))
        except SyntaxError:
            continue
        if program in seen:
            continue
        seen.add(program)
        change = _change(source, changed)
        changes[change] += 1
        if changes[change] > 1:
            change += f" ({changes[change]})"
        line = cell.line + source[: edit.start].count("\n") + 1
        found.append(Mutant(cell.name, change, line, changed))
    return found


def _change(old: str, new: str) -> str:
    """The lines in which two texts differ."""
    before, after = old.splitlines(), new.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    lines = [f"- {line.strip()}" for line in before] + [f"+ {line.strip()}" for line in after]
    return "\n".join(line for line in lines if len(line) > 2)


class _Finder:
    """Finds the edits in one cell."""

    def __init__(self, source: str, tree: ast.Module) -> None:
        self.source, self.tree = source, tree
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):  # zip's `strict` only checks what holds anyway
                node.keywords = [word for word in node.keywords if word.arg != "strict"]
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.bound = {
            node.id if isinstance(node, ast.Name) else node.arg
            for node in ast.walk(tree)
            if isinstance(node, ast.arg)
            or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        }
        self.twins = {a: b for pair in TWINS for a, b in (pair, pair[::-1])}
        self.confused = {a: b for pair in reversed(CONFUSED) for a, b in (pair, pair[::-1])}

    def edits(self) -> Iterator[_Edit]:
        for node in ast.walk(self.tree):
            for name in (type(node), *type(node).__mro__[1:-1]):
                method = getattr(self, f"_in_{name.__name__}", None)
                if method is not None:
                    yield from method(node)

    # Where things stand in the text, and edits made of that.

    def _place(self, line: int, column: int) -> int:
        """The position, in characters, of one of ast's, which counts columns in bytes."""
        start = self.starts[line - 1]
        text = self.source[start:].split("\n", 1)[0]
        return start + len(text.encode()[:column].decode())

    def _span(self, node: ast.AST) -> tuple[int, int]:
        start = self._place(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return start, self._place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self.source[start:end]

    def _by(self, old: ast.AST, new: ast.AST | str) -> _Edit:
        """The edit that puts a node or a text in a node's place."""
        text = new if isinstance(new, str) else self._text(new)
        loose = ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.Compare | ast.IfExp | ast.Lambda
        if isinstance(new, loose) and isinstance(old, ast.expr):
            text = f"({text})"
        return _Edit(*self._span(old), text)

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[_Edit]:
        """The edit that changes the operator between two nodes."""
        start, end = self._span(left)[1], self._span(right)[0]
        gap = re.sub(r"#[^\n]*", lambda comment: " " * len(comment[0]), self.source[start:end])
        if (at := gap.find(old)) >= 0:
            yield _Edit(start + at, start + at + len(old), new)

    def _swapped(self, nodes: list[ast.expr]) -> Iterator[_Edit]:
        """The edits that exchange neighbours in a row of expressions."""
        for left, right in pairwise(nodes):
            if isinstance(left, ast.Starred) or isinstance(right, ast.Starred):
                continue
            (start, stop), (begin, end) = self._span(left), self._span(right)
            text = self.source
            yield _Edit(start, end, text[begin:end] + text[stop:begin] + text[start:stop])

    def _without(self, nodes: list, index: int) -> _Edit:
        """The edit that takes one of the things between commas away."""
        if index:
            return _Edit(self._span(nodes[index - 1])[1], self._span(nodes[index])[1], "")
        if len(nodes) > 1:
            return _Edit(self._span(nodes[0])[0], self._span(nodes[1])[0], "")
        return _Edit(*self._span(nodes[0]), "")

    def _is_module(self, node: ast.expr) -> bool:
        """Whether an expression is a name, or a name with dots, that the cell doesn't bind."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id not in self.bound

    # What can be changed in each kind of node.

    def _in_BinOp(self, node: ast.BinOp) -> Iterator[_Edit]:
        symbol = SYMBOLS.get(type(node.op), "")
        for new in OPERATORS.get(type(node.op), ()):
            yield from self._between(node.left, node.right, symbol, new)
        yield self._by(node, node.left)
        yield self._by(node, node.right)
        if isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.MatMult | ast.Pow):
            yield from self._swapped([node.left, node.right])
        if isinstance(node.op, ast.FloorDiv):
            yield self._by(node, f"-(-({self._text(node.left)}) // ({self._text(node.right)}))")

    def _in_Compare(self, node: ast.Compare) -> Iterator[_Edit]:
        symbols = {
            ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==",
            ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
        }  # fmt: skip
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            for new in OPERATORS[type(operator)]:
                yield from self._between(left, right, symbols[type(operator)], new)

    def _in_BoolOp(self, node: ast.BoolOp) -> Iterator[_Edit]:
        old = "and" if isinstance(node.op, ast.And) else "or"
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from self._between(left, right, old, OPERATORS[type(node.op)][0])
        for value in node.values:
            yield self._by(node, value)

    def _in_UnaryOp(self, node: ast.UnaryOp) -> Iterator[_Edit]:
        yield self._by(node, node.operand)

    def _in_Constant(self, node: ast.Constant) -> Iterator[_Edit]:
        if isinstance(node.value, bool):
            yield self._by(node, str(not node.value))
        elif isinstance(node.value, int):
            yield self._by(node, str(node.value + 1))
            yield self._by(node, str(node.value - 1))
        elif isinstance(node.value, float):
            yield self._by(node, repr(2 * node.value) if node.value else "1.0")
            yield self._by(node, repr(node.value / 2) if node.value else "-1.0")
        elif isinstance(node.value, str) and self._text(node)[:1] in "\"'":
            yield self._by(node, repr(self.confused.get(node.value, f"{node.value}_")))

    def _in_JoinedStr(self, node: ast.JoinedStr) -> Iterator[_Edit]:
        yield self._by(node, "''")

    def _in_Name(self, node: ast.Name) -> Iterator[_Edit]:
        twin = self.twins.get(node.id)
        if isinstance(node.ctx, ast.Load) and {node.id, twin} <= self.bound:
            yield self._by(node, twin or "")

    def _in_Attribute(self, node: ast.Attribute) -> Iterator[_Edit]:
        if node.attr in self.confused:
            end = self._span(node)[1]
            yield _Edit(end - len(node.attr), end, self.confused[node.attr])
        if node.attr in ("T", "mT", "H", "mH", "real", "data"):
            yield self._by(node, node.value)

    def _in_Call(self, node: ast.Call) -> Iterator[_Edit]:
        arguments = [*node.args, *node.keywords]
        if isinstance(node.func, ast.Name) and node.func.id in self.confused:
            yield self._by(node.func, self.confused[node.func.id])
        if isinstance(node.func, ast.Attribute) and not self._is_module(node.func.value):
            yield self._by(node, node.func.value)  # x.abs() → x
        elif node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
            yield self._by(node, node.args[0])  # torch.relu(x) → x
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in ("transpose", "swapaxes", "maximum", "minimum"):  # in any order the same
            yield from self._swapped(node.args)
        for index, argument in enumerate(arguments):
            if index or isinstance(argument, ast.keyword):
                yield self._without(arguments, index)

    def _in_Tuple(self, node: ast.Tuple) -> Iterator[_Edit]:
        if isinstance(node.ctx, ast.Load):
            yield from self._swapped(node.elts)

    def _in_List(self, node: ast.List) -> Iterator[_Edit]:
        yield from self._swapped(node.elts)
        for index in range(len(node.elts)):
            yield self._without(node.elts, index)

    def _in_Dict(self, node: ast.Dict) -> Iterator[_Edit]:
        yield from self._swapped(node.values)

    def _in_Slice(self, node: ast.Slice) -> Iterator[_Edit]:
        for bound in (node.lower, node.upper, node.step):
            if bound is not None:
                yield self._by(bound, "")

    def _in_IfExp(self, node: ast.IfExp) -> Iterator[_Edit]:
        yield self._by(node, node.body)
        yield self._by(node, node.orelse)

    def _in_comprehension(self, node: ast.comprehension) -> Iterator[_Edit]:
        for condition in node.ifs:
            yield self._by(condition, "True")
            yield self._by(condition, f"not ({self._text(condition)})")

    def _in_If(self, node: ast.If) -> Iterator[_Edit]:
        for new in ("True", "False", f"not ({self._text(node.test)})"):
            yield self._by(node.test, new)

    def _in_While(self, node: ast.While) -> Iterator[_Edit]:
        yield self._by(node.test, "False")

    def _in_For(self, node: ast.For) -> Iterator[_Edit]:
        yield self._by(node.iter, "()")
        yield self._after(node.body[-1], "break")

    def _in_With(self, node: ast.With) -> Iterator[_Edit]:
        """Leaves the context out: `with torch.no_grad():` becomes `if True:`."""
        if all(item.optional_vars is None for item in node.items):
            start = self._span(node)[0]
            yield _Edit(start, self._span(node.items[-1].context_expr)[1], "if True")

    def _in_AugAssign(self, node: ast.AugAssign) -> Iterator[_Edit]:
        old = f"{SYMBOLS[type(node.op)]}="
        yield from self._between(node.target, node.value, old, "=")
        for new in OPERATORS[type(node.op)]:
            yield from self._between(node.target, node.value, old, f"{new}=")

    def _in_FunctionDef(self, node: ast.FunctionDef) -> Iterator[_Edit]:
        """Returns too early: at the end of each of the loops that come before the last return."""
        for decorator in node.decorator_list:
            start, end = self._span(decorator)
            yield _Edit(start - 1, end, "")
        last = node.body[-1]
        if isinstance(last, ast.Return) and last.value is not None:
            for loop in ast.walk(node):
                if isinstance(loop, ast.For | ast.While):
                    yield self._after(loop.body[-1], self._text(last))

    def _in_stmt(self, node: ast.stmt) -> Iterator[_Edit]:
        """Leaves a statement out."""
        simple = ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return | ast.Raise
        if isinstance(node, simple | ast.Delete | ast.Break | ast.Continue):
            yield self._by(node, "pass")

    def _after(self, statement: ast.stmt, new: str) -> _Edit:
        """The edit that adds a statement after another one, in the same block."""
        end = self._span(statement)[1]
        indent = " " * statement.col_offset
        return _Edit(end, end, f"\n{indent}{new}")
