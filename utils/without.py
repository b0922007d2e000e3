"""What a student's function calls, found by reading its source: an exercise may forbid the library
function that it is about.

The function's own cell is read, and whatever it uses from the notebook's other cells: helpers,
lambdas, aliases, tables of functions. A name means what the last cell that binds it says, and all
that this cell binds it to. Code that chooses what to call by a computed name can't be followed,
which is a finding as well.
"""

import ast
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# Ways to reach anything at all.
UNREADABLE = (
    *("eval", "exec", "compile", "globals", "locals", "vars", "sys.modules", "__builtins__"),
    *("sys._getframe", "inspect.currentframe", "gc.get_objects", "importlib.reload"),
    *("pickle.loads", "pkgutil.resolve_name", "pydoc.locate", "operator.attrgetter"),
    *("operator.methodcaller", "runpy.run_module", "runpy.run_path", "timeit.timeit"),
    *("importlib.util.module_from_spec", "code.InteractiveInterpreter", "code.InteractiveConsole"),
    *("get_ipython", "IPython.get_ipython", "subprocess.run", "subprocess.Popen"),
    *("subprocess.check_output", "__main__"),
)
UNREADABLE_ATTRIBUTES = (
    *("__dict__", "__globals__", "__builtins__", "__getattribute__", "__subclasses__"),
    *("f_globals", "f_builtins", "f_locals"),
    *("load_module", "exec_module"),  # a module's loader
)
# Ways to bind a notebook's names in what isn't code: wherever they stand, any name may be another.
BINDERS = ("exec", "eval", "globals", "__main__")
BINDERS_ALONE = ("vars", "locals")  # without arguments
IMPORTERS = ("__import__", "importlib.import_module", "importlib.__import__")


@dataclass(frozen=True)
class _Code:
    """A piece of code that a name of the notebook stands for, and the cell that it is in."""

    node: ast.AST
    cell: str
    name: str


# What a name is bound to: a dotted name ("torch.nn.functional"), code, or None for a value.
_Binding = str | _Code | None
_Scope = dict[str, list[_Binding]]
# A line, what is used in it, and whether it can be read what that calls.
_Use = tuple[int, str, bool]


@dataclass(frozen=True, order=True)
class Finding:
    """A call that an exercise forbids, or code that can't be followed: the title of the cell that
    it is in, the line there, and a sentence."""

    cell: str
    line: int
    sentence: str


def forbidden_calls(
    sources: Mapping[str, str],
    function: str,
    without: Sequence[str],
    unfinished: Collection[str] = (),
) -> list[str]:
    """Where a function calls, itself or by what it uses, what it must not: one sentence each. Takes
    the arguments of `findings`."""
    return [finding.sentence for finding in findings(sources, function, without, unfinished)]


def findings(
    sources: Mapping[str, str],
    function: str,
    without: Sequence[str],
    unfinished: Collection[str] = (),
) -> list[Finding]:
    """Where a function calls, itself or by what it uses, what it must not.

    Args:
        sources: the notebook's code cells in the order in which they ran, by any title.
        function: the name of the function or class.
        without: dotted names, each forbidding itself and everything below it ("torch",
            "scipy.signal", "numpy.convolve"), or a method's name with a dot before it (".unfold").
        unfinished: the titles of cells that ended by an exception: what they bind, they may not
            have come to.

    Returns:
        Those in the function's own cell first, in the order of the lines, which are counted in
        their cell.
    """
    reader = _Reader(sources, without, unfinished)
    waiting = deque(code for code in reader.scope.get(function, []) if isinstance(code, _Code))
    home = waiting[0].cell if waiting else ""
    read: set[ast.AST] = set()
    found: set[Finding] = set()
    while waiting:
        code = waiting.popleft()
        if code.node in read:
            continue
        read.add(code.node)
        where = "" if code.cell == home else f" of the cell of `{code.name}`"
        try:
            uses = list(reader.uses(code, waiting))
        except RecursionError:
            uses = [(1, code.name, False)]
        for line, what, readable in uses:
            end = (
                f"calls `{what}`: here you write that yourself"
                if readable
                else f"has `{what}`, and what that calls can't be read: name what you call"
            )
            found.add(Finding(code.cell, line, f"{function}: line {line}{where} {end}"))
    for cell, line, what in reader.binders() if home else ():
        where = "" if cell == home else " of another cell"
        end = f"has `{what}`, and what that binds can't be read: write your code out"
        if not any((other.cell, other.line) == (cell, line) for other in found):
            found.add(Finding(cell, line, f"{function}: line {line}{where} {end}"))
    return sorted(found, key=lambda finding: (finding.cell != home, finding))


def notebook_sources() -> dict[str, str]:
    """The cells that have run in this notebook, in order; none outside of one."""
    if "IPython" not in sys.modules:
        return {}
    shell = sys.modules["IPython"].get_ipython()
    history = shell.history_manager.input_hist_parsed if shell is not None else []
    return {f"In [{number}]": source for number, source in enumerate(history)}


class _Reader:
    """Reads code in the light of a notebook's names."""

    def __init__(
        self, sources: Mapping[str, str], without: Sequence[str], unfinished: Collection[str]
    ) -> None:
        self.without = without
        self.scope: _Scope = {}
        self.stars: list[str] = []
        # What cells put into modules and libraries' classes, by the attribute (None if computed).
        self.planted: dict[str | None, list[_Code]] = {}
        self.trees: dict[str, ast.Module] = {}
        for cell, source in sources.items():
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue  # It didn't run either.
            self.trees[cell] = tree
            here: set[str] = set()  # names that this cell has bound
            attributes = list(_set_attributes(tree))
            for statement in tree.body:
                for name, bindings in self._bindings([statement], cell).items():
                    if self._is_guard(statement, name):
                        continue
                    certain = cell not in unfinished and isinstance(statement, _BINDING)
                    earlier = [] if certain and name not in here else self.scope.get(name, [])
                    self.scope[name] = earlier + bindings
                    here.add(name)
                for name, binding in _changed(statement, cell):
                    if any(not isinstance(known, str) for known in self.scope.get(name, [])):
                        self.scope[name].append(binding)
            for owner, attribute, value in attributes:
                for meaning in self._resolve(owner, [self.scope]):
                    known = _object(_own_name(meaning)) if isinstance(meaning, str) else None
                    if isinstance(known, ModuleType | type):
                        code = _Code(value, cell, attribute or ast.unparse(owner))
                        self.planted.setdefault(attribute, []).append(code)

    def _is_guard(self, statement: ast.stmt, name: str) -> bool:
        """Whether a statement is a test cell's `name = checked(name)`, or `unchecked`, by the
        functions of utils.guard."""
        return (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Call)
            and (guard := _name(statement.value.func)) in ("checked", "unchecked")
            and all(isinstance(bound, str) for bound in self.scope.get(guard, []))
            and any(_name(argument) == name for argument in statement.value.args)
        )

    def binders(self) -> Iterator[tuple[str, int, str]]:
        """Where a cell may bind names that no code in it shows: the cell, the line, by what."""
        for cell, tree in self.trees.items():
            looked_at = {  # `"x" in globals()` binds nothing
                part.func
                for node in ast.walk(tree)
                if isinstance(node, ast.Compare)
                for part in node.comparators
                if isinstance(part, ast.Call) and not part.args
            }
            for node in ast.walk(tree):
                if node in looked_at:
                    continue
                used: ast.AST = node
                names: tuple[str, ...] = BINDERS
                if isinstance(node, ast.Call) and not node.args and not node.keywords:
                    used, names = node.func, BINDERS_ALONE
                    if used in looked_at:
                        continue
                if isinstance(used, ast.Name | ast.Attribute):
                    for meaning in self._resolve(used, [self.scope]):
                        if isinstance(meaning, str) and _own_name(meaning) in names:
                            yield cell, used.lineno, _own_name(meaning)

    def uses(self, code: _Code, waiting: deque[_Code]) -> Iterator[_Use]:
        """What a piece of code uses that is forbidden, or can't be read; the notebook's other code
        that it uses is added to `waiting`."""
        yield from self._walk(code.node, [self.scope], code.cell, waiting)

    def _walk(
        self, node: ast.AST, scopes: list[_Scope], cell: str, waiting: deque[_Code]
    ) -> Iterator[_Use]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            # Defaults and decorators belong to the scope around; annotations call nothing.
            body: Sequence[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
            outer: list[ast.expr] = [] if isinstance(node, ast.Lambda) else node.decorator_list
            for part in (*outer, *node.args.defaults, *filter(None, node.args.kw_defaults)):
                yield from self._passed_on(node, part, scopes)
                yield from self._walk(part, scopes, cell, waiting)
            inner: _Scope = {a.arg: [None] for a in ast.walk(node.args) if isinstance(a, ast.arg)}
            for name, bindings in self._bindings(body, cell).items():
                inner[name] = inner.get(name, []) + bindings
            for inside in body:
                yield from self._walk(inside, [*scopes, inner], cell, waiting)
            return
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            targets = [g.target for g in node.generators]
            scopes = [*scopes, {name: [None] for t in targets for name in _stored(t)}]
        if isinstance(node, ast.Name | ast.Attribute | ast.Call):
            yield from self._judge(node, scopes, waiting)
        parts = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Call) and _name(node.func) in ("isinstance", "issubclass"):
            parts = list(node.args[:1])  # A type that is only compared with isn't called.
        elif isinstance(node, ast.AnnAssign):
            parts = [node.value] if node.value else []
        for child in parts:
            if not isinstance(node, ast.Attribute | ast.Assign | ast.AnnAssign | ast.NamedExpr):
                yield from self._passed_on(node, child, scopes)
            yield from self._walk(child, scopes, cell, waiting)

    def _passed_on(self, node: ast.AST, part: ast.AST, scopes: list[_Scope]) -> Iterator[_Use]:
        """A module that is forbidden, or holds what is, where it goes on as a value."""
        if not isinstance(part, ast.Name | ast.Attribute):
            return
        if (
            isinstance(node, ast.Call)
            and part in node.args[:1]
            and "getattr" in self._resolve(node.func, scopes)
        ):
            return  # `_chooses` looks at that.
        for meaning in self._resolve(part, scopes):
            name = _own_name(meaning) if isinstance(meaning, str) else ""
            if isinstance(_object(name), ModuleType) and any(
                f"{name}.".startswith(f"{entry}.") or entry.startswith(f"{name}.")
                for entry in self.without
            ):
                yield part.lineno, ast.unparse(part), False

    def _judge(self, node: ast.expr, scopes: list[_Scope], waiting: deque[_Code]) -> Iterator[_Use]:
        """What is wrong with one expression, the parts of it left aside."""
        for meaning in self._resolve(node, scopes):
            if isinstance(meaning, str):
                meaning = _own_name(meaning)
            if isinstance(meaning, _Code):
                waiting.append(meaning)
            elif meaning in UNREADABLE or (
                meaning is not None and meaning.rsplit(".", 1)[-1] in UNREADABLE_ATTRIBUTES
            ):
                yield node.lineno, meaning, False
            elif meaning is not None and any(_forbids(entry, meaning) for entry in self.without):
                yield node.lineno, meaning.lstrip("?"), True
        if isinstance(node, ast.Call) and self._chooses(node, scopes):
            yield node.lineno, ast.unparse(node), False

    def _chooses(self, node: ast.Call, scopes: list[_Scope]) -> bool:
        """Whether a call fetches something by a name that isn't written out."""
        for meaning in self._resolve(node.func, scopes):
            if meaning in IMPORTERS:
                return not (node.args and _text(node.args[0]))
            if meaning == "getattr" and len(node.args) > 1 and _text(node.args[1]) is None:
                owners = self._resolve(node.args[0], scopes)
                return any(entry.startswith(".") for entry in self.without) or any(
                    isinstance(owner, str) for owner in owners
                )
        return False

    def _resolve(
        self, node: ast.expr, scopes: list[_Scope], seen: set[ast.AST] | None = None
    ) -> list[_Binding]:
        """What an expression stands for, as far as it is a name, an attribute or an import.

        Args:
            seen: the code that has been resolved on the way here.
        """
        seen = set() if seen is None else seen
        if isinstance(node, ast.Name):
            return self._look_up(node.id, scopes, seen)
        if isinstance(node, ast.Attribute):
            owners = self._resolve(node.value, scopes, seen)
            meanings: list[_Binding] = [
                f"{owner if isinstance(owner, str) else '?'}.{node.attr}" for owner in owners
            ] or [f"?.{node.attr}"]
            for code in (*self.planted.get(node.attr, ()), *self.planted.get(None, ())):
                if code.node not in seen:
                    seen.add(code.node)
                    meanings += [code, *self._resolve(code.node, [self.scope], seen)]
            return meanings
        if isinstance(node, ast.NamedExpr):
            return self._resolve(node.value, scopes, seen)
        if isinstance(node, ast.Call):
            meanings = self._resolve(node.func, scopes, seen)
            text = _text(node.args[0]) if node.args else None
            if any(meaning in IMPORTERS for meaning in meanings) and text:
                whole = "importlib.import_module" in meanings
                return [text if whole else text.split(".")[0]]
            if "getattr" in meanings and len(node.args) > 1 and (name := _text(node.args[1])):
                made = ast.Attribute(node.args[0], name, ast.Load())
                return self._resolve(made, scopes, seen)
        return [None]

    def _look_up(self, name: str, scopes: list[_Scope], seen: set[ast.AST]) -> list[_Binding]:
        for number in range(len(scopes) - 1, -1, -1):
            if name not in scopes[number]:
                continue
            found: list[_Binding] = []
            for binding in scopes[number][name]:
                if not isinstance(binding, _Code):
                    found.append(binding)
                    continue
                if number == 0:  # What is bound within a function is read with it.
                    found.append(binding)
                if isinstance(binding.node, ast.expr) and binding.node not in seen:
                    seen.add(binding.node)
                    found += self._resolve(binding.node, scopes[: number + 1], seen)
            return found
        modules = [star for star in self.stars if hasattr(sys.modules.get(star), name)]
        return [f"{modules[-1]}.{name}"] if modules else [name]

    def _bindings(self, statements: Sequence[ast.AST], cell: str) -> _Scope:
        """What statements bind in their own scope."""
        scope: _Scope = {}
        elsewhere: set[str] = set()

        def bind(name: str, *bindings: _Binding) -> None:
            scope.setdefault(name, []).extend(bindings)

        waiting = deque(statements)
        while waiting:
            node = waiting.popleft()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bind(node.name, _Code(node, cell, node.name))
                continue
            if isinstance(node, ast.Lambda):
                continue
            if isinstance(node, ast.comprehension):
                waiting.extend([node.iter, *node.ifs])  # Its variable is its own.
                continue
            if isinstance(node, ast.Global | ast.Nonlocal):
                elsewhere.update(node.names)
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bind(
                        alias.asname or alias.name.split(".")[0],
                        alias.name if alias.asname else alias.name.split(".")[0],
                    )
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        self.stars.append(node.module or "")
                    else:
                        bind(alias.asname or alias.name, f"{node.module}.{alias.name}")
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for name, value in _pairs(target, node.value):
                        bind(name, None if value is None else _Code(value, cell, name))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bind(node.id, *([] if node.id in scope else [None]))
            waiting.extend(ast.iter_child_nodes(node))
        return {name: bindings for name, bindings in scope.items() if name not in elsewhere}


# What binds its names in any case.
_BINDING = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom),
    *(ast.Assign, ast.AnnAssign),
)


def _changed(statement: ast.stmt, cell: str) -> Iterator[tuple[str, _Code]]:
    """The names whose parts a cell's statement sets, each with what it puts there; and those that a
    function in it declares global, each with the function."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Global):
                    yield from ((name, _Code(node, cell, node.name)) for name in inner.names)
    targets: list[ast.expr] = []
    value: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets, value = [statement.value.func], statement.value  # table.update(…)
    for target in targets:
        owner = target
        while isinstance(owner, ast.Attribute | ast.Subscript):
            owner = owner.value
        if isinstance(owner, ast.Name) and owner is not target and value is not None:
            yield owner.id, _Code(value, cell, owner.id)


def _set_attributes(tree: ast.AST) -> Iterator[tuple[ast.expr, str | None, ast.expr]]:
    """What a cell sets as attributes, also within its functions: the owner, the attribute's name
    (None if it is computed) and the value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute):
                    yield target.value, target.attr, node.value
        elif isinstance(node, ast.Call) and _name(node.func) == "setattr" and len(node.args) == 3:
            owner, attribute, value = node.args
            yield owner, _text(attribute), value


def _pairs(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None]]:
    """The names in a target of an assignment, each with the expression that it comes from."""
    if isinstance(target, ast.Tuple | ast.List):
        parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        fit = len(parts) == len(target.elts)
        for number, inner in enumerate(target.elts):
            yield from _pairs(inner, parts[number] if fit else value)
    elif isinstance(target, ast.Name):
        yield target.id, value


def _stored(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _text(node: ast.expr) -> str | None:
    """The text of a string that is written out."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _forbids(entry: str, name: str) -> bool:
    """Whether an entry of `without` forbids a dotted name, also under another one of its names."""
    if entry.startswith("."):
        return name.endswith(entry)
    if name == entry or name.startswith(entry + "."):
        thing = _object(name)  # A constant, or a module on the way to something, isn't called.
        return thing is None or (callable(thing) and not isinstance(thing, ModuleType))
    if "." in name and name.rsplit(".", 1)[1] == entry.rsplit(".", 1)[-1]:
        thing = _object(name)
        return callable(thing) and thing is _object(entry)
    return False


def _own_name(name: str) -> str:
    """A dotted name with the module that it leads to by that module's own name, "torch" for
    "utils.checks.torch"; what Python provides, by its name alone."""
    parts = name.split(".")
    own, place = parts[0], 1
    thing: Any = sys.modules.get(own)
    for number, part in enumerate(parts[1:], 2):
        thing = getattr(thing, part, None)
        if not isinstance(thing, ModuleType):
            break
        own, place = thing.__name__, number
    return ".".join([own, *parts[place:]]).removeprefix("builtins.")


def _object(name: str) -> Any:
    """What a dotted name stands for, in the modules that are imported already; None if nothing."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        thing: Any = sys.modules.get(".".join(parts[:count]))
        if thing is not None:
            for part in parts[count:]:
                thing = getattr(thing, part, None)
            return thing
    return None
