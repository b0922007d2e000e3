"""Paste: does any code that students see, in any lab, earn points where it is pasted into a stub?

Every function and every expression of every released notebook (given cells, visible tests, figures,
code in prose and docstrings) is tried as the body of every exercise, its names matched with the
stub's parameters in every order, and whole numbers too where a parameter is one. What an
expression needs is written into it where plain assignments before it say what it is. A quick
comparison with the solution's result on the tests' first input sorts out nearly all; what is left
is tried on the tests.
"""

import ast
import builtins
import contextlib
import copy
import functools
import inspect
import mmap
import re
import resource
import signal
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any, TypeVar

import nbformat
import numpy as np
import torch

from autograder.authoring.lab import lab_names, read_lab
from autograder.authoring.reference import run_reference
from autograder.rehearsal.known_answers import known_answers
from autograder.rehearsal.screening import Lost, Screen, in_fork, screen

MOST_NAMES = 6
TRIVIAL = (
    ast.Name, ast.Constant, ast.Starred, ast.Slice, ast.JoinedStr, ast.FormattedValue, ast.Lambda,
)  # fmt: skip
MOST_STEPS = 3  # in which an expression's names are replaced by what they were assigned
MOST_NODES = 80  # of an expression, with all that is written into it
SECONDS_PER_CALL = 0.02  # of processor time, beyond what the solution takes
SECONDS_PER_PIECE = 0.3  # of processor time; orders that leave names where they are come first
SECONDS_PER_EXERCISE = 60.0  # of processor time; the exercise's own lab comes first
CHUNK = 400  # pieces that are tried in one fork
CHUNK_SECONDS = 120.0
NUMBER = "number_"  # begins the name that stands for a whole number
MOST_TRIED = 12  # of a chunk, on the tests
SIGNS = str.maketrans({"·": "*", "×": "*", "−": "-"})
# Nothing of these gives a result, and drawing takes long.
DRAWING = ("matplotlib", "utils.figures", "ipywidgets", "IPython", "PIL", "builtins.print")


@dataclass(frozen=True)
class Pasted:
    """Code that a student sees and that earns points in an exercise; `place` is where it stands."""

    exercise: str
    points: float
    max_points: float
    place: str
    code: str

    def __str__(self) -> str:
        return (
            f"{self.exercise} gets {self.points:g} of {self.max_points:g} points from"
            f" {self.code!r} ({self.place})"
        )


@dataclass(frozen=True)
class _Piece:
    """Code to paste: `names` are its parameters, in order, and what each of them is asked for."""

    lab: str
    place: str
    code: str
    names: tuple[str, ...]
    asked: tuple[frozenset[str], ...] = ()
    function: str = ""  # the name under which a notebook defines it, unless it is an expression
    kind: str = "expression"

    @property
    def harmless(self) -> bool:
        """Whether it surely leaves its arguments as they are."""
        return self.kind == "expression" and not re.search(r"_\(|\bout=|:=", self.code)


def pasted(lab_path: Path, exercise: str, everywhere: bool = False) -> list[Pasted]:
    """The visible code that earns points in an exercise, most points first.

    Args:
        everywhere: whether code is taken from all labs, not from the exercise's own alone. What
            can't be tried within SECONDS_PER_EXERCISE isn't.
    """
    the_screen = screen(lab_path)
    root, own = lab_path.parents[1], the_screen.lab.name
    pieces, spaces = _visible(root, tuple(lab_names(root)) if everywhere else (own,))
    if not isinstance(the_screen.namespace({})[0][exercise], type | types.FunctionType):
        return []
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        target = _Target(the_screen, exercise)
    ordered = sorted(pieces, key=lambda piece: piece.lab != own)
    at = mmap.mmap(-1, 8)  # shared with the forks: the number of the piece that one is trying
    waiting = [(start, start + CHUNK) for start in range(0, len(ordered), CHUNK)]
    found: list[Pasted] = []
    seconds = 0.0
    while waiting and seconds < SECONDS_PER_EXERCISE:
        start, end = waiting.pop(0)
        chunk = dict(enumerate(ordered[start:end], start))
        try:
            rows, took = in_fork(
                functools.partial(_paste, target, chunk, spaces, at), CHUNK_SECONDS
            )
        except Lost:  # Some library's own code crashed on arguments that it isn't made for.
            crashed = int.from_bytes(at[:8], "little")
            waiting[:0] = [(start, crashed), (crashed + 1, end)]
            rows, took = [], 1.0
        found, seconds = found + rows, seconds + took
    return sorted(found, key=lambda row: (-row.points, len(row.code)))


# What students see.


@functools.cache
def _visible(root: Path, labs: tuple[str, ...]) -> tuple[list[_Piece], dict[str, dict]]:
    """All pieces of these released labs, and by lab what its code may use: what given cells define,
    and what all other cells import and define as functions and classes."""
    pieces: dict[tuple, _Piece] = {}
    spaces = {}
    exercises: set[str] = set()
    for name in labs:
        lab = read_lab(root / "solutions" / f"{name}.py")
        exercises |= set().union(*lab.exercises.values())
        spaces[name] = dict(run_reference(lab)[0])
    for name, space in spaces.items():
        notebook = nbformat.read(root / "labs" / f"{name}.ipynb", as_version=4)
        sources = [
            (f"labs/{name}.ipynb, cell {cell.id}", first, source)
            for cell in notebook.cells
            for first, source in _sources(cell)
        ]
        trees = [(place, first, _parsed(source)) for place, first, source in sources]
        for _, _, tree in trees:
            _define(tree, space)
        for place, first, tree in trees:
            for piece in _pieces(name, place, first, tree, space, exercises):
                own = name if _is_own(piece, space) else ""
                pieces.setdefault((own, piece.code, piece.kind), piece)
    return list(pieces.values()), spaces


def _sources(cell: nbformat.NotebookNode) -> Iterator[tuple[int, str]]:
    """The Python in a cell, with the line that it begins in."""
    if cell.cell_type == "code":
        if cell.id not in ("setup", "hand_in"):
            yield 1, cell.source
        tree = _parsed(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = node.body[0].lineno
                docstring = ast.get_docstring(node, clean=False) or ""
                for number, line in enumerate(docstring.splitlines()):
                    yield first + number, line.strip().translate(SIGNS)
        return
    for block in re.finditer(r"^```(?:python)?\n(.*?)^```", cell.source, re.M | re.S):
        yield cell.source[: block.start(1)].count("\n") + 1, block[1]
    for span in re.finditer(r"`([^`\n]+)`", cell.source):
        yield cell.source[: span.start()].count("\n") + 1, span[1].translate(SIGNS)


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _define(tree: ast.Module, space: dict) -> None:
    """Runs the imports, functions and classes of a cell, and nothing else."""
    for statement in tree.body:
        kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
        if isinstance(statement, kinds) and getattr(statement, "name", "") not in space:
            with contextlib.suppress(Exception):
                exec(compile(ast.Module([statement], []), "<pasted>", "exec"), space)


def _pieces(
    lab: str, place: str, first: int, tree: ast.Module, space: dict, exercises: set[str]
) -> Iterator[_Piece]:
    for statement in tree.body:
        name = getattr(statement, "name", "")
        where = f"{place}, line {first + statement.lineno - 1}"
        if isinstance(statement, ast.ClassDef) and name not in exercises:
            yield _Piece(lab, where, name, (), (), name, "class")
        elif isinstance(statement, ast.FunctionDef) and name not in exercises:
            names = tuple(argument.arg for argument in statement.args.args)
            yield _Piece(lab, where, name, names, (frozenset(),) * len(names), name, "function")
    seen = set()
    for expression, line in _expressions(tree.body, {}):
        for version in (expression, *_opened(expression)):
            free = _free_names(version, space, exercises)
            if free is None or not 1 <= len(free) <= MOST_NAMES:
                continue
            code = ast.unparse(version)
            if code in seen:
                continue
            seen.add(code)
            asked = tuple(_asked(version, name) for name in free)
            yield _Piece(lab, f"{place}, line {first + line - 1}", code, tuple(free), asked)


def _expressions(
    block: list[ast.stmt], known: dict[str, ast.expr]
) -> Iterator[tuple[ast.expr, int]]:
    """All expressions in a block, as they stand and with what is known of their names written into
    them, step by step; and their lines."""
    known = dict(known)
    for statement in block:
        for field in ("body", "orelse", "finalbody"):
            inner = getattr(statement, field, None)
            if isinstance(inner, list):
                nested = isinstance(statement, ast.FunctionDef | ast.ClassDef)
                yield from _expressions(inner, {} if nested else known)
        for node in _own_nodes(statement):
            if isinstance(node, ast.expr) and not isinstance(node, TRIVIAL):
                if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                    continue
                if any(isinstance(part, ast.Slice) for part in getattr(node, "elts", ())):
                    continue
                versions = [node]
                while len(versions) < MOST_STEPS and known.keys() & _loaded(versions[-1]):
                    versions.append(_written(versions[-1], known))
                    if sum(1 for _ in ast.walk(versions[-1])) > MOST_NODES:
                        versions.pop()
                        break
                for version in versions:
                    yield version, node.lineno
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            _learn(statement.targets[0], statement.value, known)
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    known.pop(node.id, None)


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement without those of the statements inside it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.stmt)]


def _learn(target: ast.expr, value: ast.expr, known: dict[str, ast.expr]) -> None:
    """Notes what an assignment says of its names."""
    if isinstance(target, ast.Name):
        value = _written(value, known) if target.id in _loaded(value) else value
        known[target.id] = value
        if target.id in _loaded(value):
            del known[target.id]
    elif isinstance(target, ast.Tuple):
        for number, part in enumerate(target.elts):
            if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
                _learn(part, value.elts[number], known)
            else:
                _learn(part, ast.Subscript(value, ast.Constant(number), ast.Load()), known)


def _opened(node: ast.expr) -> Iterator[ast.expr]:
    """An expression with a name in the place of each whole number above 1, one after the other."""
    numbers = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
    for number in sorted(n for n in numbers if type(n) is int and n > 1):
        yield _Opened(number).visit(copy.deepcopy(node))


class _Opened(ast.NodeTransformer):
    """Puts a name in the place of a number, which may stand for a parameter."""

    def __init__(self, number: int) -> None:
        self.number = number

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) is int and node.value == self.number:
            return ast.Name(f"{NUMBER}{node.value}", ast.Load())
        return node


def _loaded(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


Node = TypeVar("Node", bound=ast.AST)


def _written(node: Node, known: Mapping[str, ast.expr]) -> Node | ast.expr:
    """An expression with what is known of its names in their place; the rest is shared."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node) if isinstance(node.ctx, ast.Load) else node
    changed: dict[str, Any] = {}
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            items = [_written(part, known) if isinstance(part, ast.AST) else part for part in value]
            if any(a is not b for a, b in zip(items, value, strict=True)):
                changed[field] = items
        elif isinstance(value, ast.AST) and (new := _written(value, known)) is not value:
            changed[field] = new
    if not changed:
        return node
    node = copy.copy(node)
    for field, value in changed.items():
        setattr(node, field, value)
    return node


def _free_names(node: ast.expr, space: dict, exercises: set[str]) -> list[str] | None:
    """The names that an expression leaves open, in order; None where it needs what can't be used
    in a stub."""
    bound = {
        inner.id if isinstance(inner, ast.Name) else inner.arg
        for inner in ast.walk(node)
        if isinstance(inner, ast.arg)
        or (isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load))
    }
    free: dict[str, None] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Await | ast.Yield | ast.YieldFrom):
            return None
        if not isinstance(inner, ast.Name) or inner.id in bound | exercises:
            continue
        value = space.get(inner.id, getattr(builtins, inner.id, None))
        module = f"{getattr(value, '__module__', None) or getattr(value, '__name__', '')}"
        if value is print or module.startswith(DRAWING):
            return None
        if not (isinstance(value, types.ModuleType | type) or callable(value)):
            free[inner.id] = None
    return list(free)


def _asked(node: ast.expr, name: str) -> frozenset[str]:
    """The attributes that an expression wants of one of its names."""
    asked = {"bit_length"} if name.startswith(NUMBER) else set()  # as whole numbers have
    for inner in ast.walk(node):
        for field, wanted in (("value", "__getitem__"), ("func", "__call__")):
            kind = ast.Subscript if field == "value" else ast.Call
            child = getattr(inner, field, None)
            if isinstance(inner, kind) and isinstance(child, ast.Name) and child.id == name:
                asked.add(wanted)
        if isinstance(inner, ast.Attribute) and getattr(inner.value, "id", None) == name:
            asked.add(inner.attr)
    return frozenset(asked)


def _is_own(piece: _Piece, space: dict) -> bool:
    """Whether a piece uses what its lab's cells define, so that it means that in this lab only."""
    names = {node.id for node in ast.walk(ast.parse(piece.code)) if isinstance(node, ast.Name)}
    modules = (getattr(space.get(name), "__module__", "") for name in names)
    return any(module in ("lab", "builtins", "__main__") for module in modules)


# Trying it.


@dataclass(frozen=True)
class _Call:
    """A call of the solution by a test: its arguments, in the parameters' order, its result, and
    how much processor time it took."""

    arguments: tuple
    result: Any
    seconds: float


class _Target:
    """An exercise to paste into: its solution, with the first call that a test makes of it, and
    whether all correct answers agree in their result on that."""

    def __init__(self, the_screen: Screen, exercise: str) -> None:
        self.screen, self.exercise = the_screen, exercise
        self.names = the_screen.namespace({})[0]
        self.solution = self.names[exercise]
        self.cells = [cell for cell in the_screen.lab.having("test") if cell.name == exercise]
        if not isinstance(self.solution, type):
            self.signature = inspect.signature(self.solution)
            self.call = _first_call(the_screen, exercise, self.signature)
            self.exact = _is_exact(the_screen, exercise, self.call)


def _paste(
    target: _Target, pieces: dict[int, _Piece], spaces: dict[str, dict], at: mmap.mmap
) -> tuple[list[Pasted], float]:
    """Tries pieces, by number, in this fork; what earns points, and the processor time it took."""
    lab = target.screen.lab
    for earlier, bound in lab.exercises.items():
        if earlier == target.exercise:
            break
        spaces[lab.name].update({name: target.names[name] for name in bound})
    total = sum(cell.points for cell in target.cells)
    found: dict[tuple[str, str], Pasted] = {}
    fitting = _fitting(target, pieces, spaces, at)
    for piece, answer in islice(fitting, MOST_TRIED):
        verdicts = target.screen.verdicts({target.exercise: answer}, {target.exercise})
        points = sum(cell.points for cell in target.cells if not verdicts[cell.grade_id])
        if points:
            row = Pasted(target.exercise, points, total, piece.place, piece.code)
            found.setdefault((piece.place, piece.code), row)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return list(found.values()), sum(part.ru_utime + part.ru_stime for part in usage)


def _fitting(
    target: _Target, pieces: dict[int, _Piece], spaces: dict[str, dict], at: mmap.mmap
) -> Iterator[tuple[_Piece, Any]]:
    """The classes, for a class; otherwise the pieces, as functions with the stub's parameters, that
    give what the solution gives on the tests' first input."""
    signal.signal(signal.SIGVTALRM, _interrupt)
    tried: set[bytes] = set()
    for number, piece in pieces.items():
        at[:8] = number.to_bytes(8, "little")
        if isinstance(target.solution, type):
            if piece.kind == "class":
                yield piece, spaces[piece.lab].get(piece.function)
            continue
        arguments = target.call.arguments
        function = _as_function(piece, spaces[piece.lab])
        if function is None or re.search(rf"\b{target.exercise}\b", piece.code):
            continue
        able = [
            [all(_has(argument, name) for name in asked) for argument in arguments]
            for asked in piece.asked
        ]
        if len(able) > len(arguments) or not all(map(any, able)):
            continue
        parameters = list(target.signature.parameters)
        places = [
            sorted(compress(range(len(row)), row), key=lambda place: parameters[place] != name)
            for name, row in zip(piece.names, able, strict=True)
        ]
        start = time.process_time()
        try:
            for order in _orders(places):
                if _fits(piece, function, order, target, tried):
                    yield piece, _in_order(function, order, target.signature)
                if time.process_time() - start > SECONDS_PER_PIECE:
                    break
        except TimeoutError:  # A piece that takes far longer than the solution isn't one.
            continue


def _orders(places: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """All ways to take a number from each of the lists, none of them twice."""
    if not places:
        yield ()
        return
    for first in places[0]:
        left = [[place for place in row if place != first] for row in places[1:]]
        yield from ((first, *rest) for rest in _orders(left))


def _has(value: Any, attribute: str) -> bool:
    """Whether a value has an attribute; one that raises for its shape, as `mT` may, isn't there."""
    try:
        return hasattr(value, attribute)
    except Exception:
        return False


def _as_function(piece: _Piece, space: dict) -> Callable | None:
    if piece.function:
        function = space.get(piece.function)
        return function if isinstance(function, types.FunctionType) else None
    try:
        return eval(f"lambda {', '.join(piece.names)}: {piece.code}", space)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _in_order(function: Callable, order: tuple[int, ...], signature: inspect.Signature) -> Callable:
    """A function with the stub's signature that passes its parameters on in this order."""

    def answer(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        values = list(bound.arguments.values())
        return function(*(values[place] for place in order))

    return answer


def _first_call(the_screen: Screen, exercise: str, signature: inspect.Signature) -> _Call:
    """The first call that a test makes of the solution."""
    names, _ = the_screen.namespace({})
    solution, calls = names[exercise], []

    def recording(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        before = _copied(tuple(bound.arguments.values()))
        start = time.process_time()
        result = solution(*arguments, **keywords)
        seconds = time.process_time() - start
        calls.append(_Call(before, _copied(result), seconds))
        return result

    names[exercise] = recording
    for cell, code in the_screen.tests:
        if cell.name == exercise and not calls:
            the_screen.run(code, names)
    return calls[0]


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _is_exact(the_screen: Screen, exercise: str, call: _Call) -> bool:
    """Whether correct answers agree with the solution in their result, to a few digits."""
    for answer in known_answers(the_screen.lab):
        if answer.exercise != exercise or answer.named is not None:
            continue
        names, _ = the_screen.namespace({exercise: answer.source})
        try:
            if not _agree(names[exercise](*_copied(call.arguments)), call.result):
                return False
        except Exception:
            return False
    return True


def _fits(
    piece: _Piece,
    function: Callable,
    order: tuple[int, ...],
    target: _Target,
    tried: set[bytes],
) -> bool:
    """Whether a function gives the solution's result on its first call's arguments or, for an
    exercise with many right results, anything of its kind that hasn't been tried yet.

    Raises:
        TimeoutError: it takes too long for what an exercise could be.
    """
    arguments = [target.call.arguments[place] for place in order]
    if not piece.harmless:
        arguments = _copied(arguments)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_PER_CALL + 3 * target.call.seconds)
    try:
        result = function(*arguments)
        if target.exact:
            return _agree(result, target.call.result)
        digest = _content(result)
        new = _alike(result, target.call.result) and digest not in tried
        tried.add(digest)
        return new
    except TimeoutError:
        raise
    except BaseException:
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _interrupt(*_: Any) -> None:
    raise TimeoutError


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.double() if value.is_floating_point() else value).numpy()
    if isinstance(value, np.ndarray | np.generic | int | float):
        return np.asarray(value)
    return None


def _alike(result: Any, expected: Any, agree: bool = False) -> bool:
    """Whether two results are of one kind and size; with `agree`, in their numbers too."""
    first, second = _array(result), _array(expected)
    if second is None or first is None:
        if isinstance(expected, list | tuple):
            return (
                isinstance(result, list | tuple)
                and len(result) == len(expected)
                and all(_alike(a, b, agree) for a, b in zip(result, expected, strict=True))
            )
        if isinstance(expected, dict):
            return (
                isinstance(result, dict)
                and result.keys() == expected.keys()
                and all(_alike(result[key], expected[key], agree) for key in expected)
            )
        if isinstance(expected, str | None):
            return type(result) is type(expected) and (not agree or result == expected)
        return type(result) is type(expected)
    if first.size != second.size or first.dtype.kind not in "biuf":
        return False
    if not agree:
        return bool(np.isfinite(first).all())
    first, second = first.ravel().astype(float), second.ravel().astype(float)
    scale = np.abs(second[np.isfinite(second)]).max(initial=0.0)
    return bool(np.allclose(first, second, rtol=0, atol=1e-4 * (scale or 1.0), equal_nan=True))


_agree = functools.partial(_alike, agree=True)


def _content(value: Any) -> bytes:
    array = _array(value)
    if array is not None:
        return array.tobytes()
    if isinstance(value, list | tuple):
        return b"".join(_content(part) for part in value)
    return repr(type(value)).encode()
