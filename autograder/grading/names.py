"""What a cell defines, uses and tampers with, read from its source: nothing is run."""

import ast
import re
import symtable
from functools import cached_property

from autograder.authoring.symbols import symbol_table

MOST_CODE = 100_000  # characters of one cell; a lab's whole notebook has fewer
DEEPEST_CHAIN = 100

# One token of a line that decides whether the next line begins a statement. Every branch takes
# what it begins with, so that a line is read once.
_TOKEN = re.compile(
    r"""(?P<long>\"{3}|'{3})|"(?:\\.|[^"\\])*(?:"|\\?$)|'(?:\\.|[^'\\])*(?:'|\\?$)|\#.*"""
    r"""|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<next>\\$)"""
)
_MAGIC = ("%", "!", "?")
_QUOTED = re.compile(r"['\"#]")
_ASSIGNED_MAGIC = re.compile(r"(\s*[A-Za-z_][\w, ]{0,200}=)\s*[%!](?!=)")

# Settings that anybody may change; a module's other attributes belong to all who import it.
SETTINGS = ("torch.backends.", "torch.autograd.", "matplotlib.", "sys.ps")


class Code:
    """A cell's source as Python, and the names in it; each is found out once, when asked for."""

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def python(self) -> str:
        """The source without IPython's magics, where it isn't Python with them."""
        return self._parsed[0]

    @property
    def tree(self) -> ast.Module | None:
        """The syntax tree; None where the source isn't Python, or can't be read."""
        return self._parsed[1]

    @property
    def unread(self) -> str:
        """Why the source can't be read at all; "" where it can, or where it is no Python and
        running it will say so."""
        return self._parsed[2]

    @cached_property
    def _parsed(self) -> tuple[str, ast.Module | None, str]:
        if len(self.source) > MOST_CODE:
            return self.source, None, f"the cell is longer than {MOST_CODE:,} characters"
        for remove in (str, without_magics):
            python = remove(self.source)
            try:
                return python, ast.parse(python), ""
            except (SyntaxError, ValueError):
                continue
            except (MemoryError, RecursionError, SystemError):  # as the parser's stack ends
                return self.source, None, "the cell is nested too deep for Python to read it"
        return python, None, ""

    @cached_property
    def _nodes(self) -> list[ast.AST]:
        """What binds, changes or calls something outside functions."""
        return [] if self.tree is None else _of_scope(self.tree)

    @cached_property
    def _tables(self) -> list[symtable.SymbolTable]:
        """The symbol tables of all scopes, the cell's own first."""
        if self.tree is None:
            return []
        try:
            tables = [symbol_table(self.python)]
        except (SyntaxError, ValueError, MemoryError, RecursionError, SystemError):
            return []
        for table in tables:
            tables.extend(table.get_children())
        return tables

    @cached_property
    def bound(self) -> frozenset[str]:
        """The global names that running the cell, or a function in it, binds or deletes."""
        return frozenset(
            symbol.get_name()
            for number, table in enumerate(self._tables)
            for symbol in table.get_symbols()
            if (symbol.is_assigned() or symbol.is_imported())
            and (number == 0 or symbol.is_declared_global())
        )

    @cached_property
    def used(self) -> frozenset[str]:
        """The global names that the cell uses and leaves for others to define."""
        return (
            frozenset(
                symbol.get_name()
                for number, table in enumerate(self._tables)
                for symbol in table.get_symbols()
                if symbol.is_referenced() and (symbol.is_global() or number == 0)
            )
            - self.bound
        )

    @cached_property
    def imports(self) -> dict[str, str]:
        """What the cell's own imports bind: by name, in dots, what it comes to stand for, where
        nothing else in the cell binds that name."""
        stored = _stored(self._nodes)
        return {
            name: origin
            for node in self._nodes
            for name, origin in _imported(node).items()
            if name not in stored
        }

    @property
    def stars(self) -> list[str]:
        """The modules of which the cell imports everything."""
        return [
            _module(node)
            for node in self._nodes
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        ]

    def tampers_with(self, imported: dict[str, str]) -> list[str]:
        """Attributes of modules that the cell sets or deletes, and ways round plain assignment
        ("globals()"), as far as a reader can tell.

        Args:
            imported: what stands for a module, or something in one, before the cell is run.
        """
        found = set()
        waiting: list[tuple[ast.AST, dict[str, str]]] = []
        if self.tree is not None:
            waiting.append((self.tree, imported))
        while waiting:
            scope, outside = waiting.pop()
            nodes = self._nodes if scope is self.tree else _of_scope(scope)
            meant = _meanings(scope, nodes, outside)
            for node in nodes:
                if isinstance(node, _SCOPES):
                    waiting.append((node, meant))
                if changed := _changed(node, meant):
                    found.add(changed)
        return sorted(changed for changed in found if not changed.startswith(SETTINGS))


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_SCOPES = (*_FUNCTIONS, ast.Lambda)
_READ_ONLY = (ast.Name, ast.Attribute, ast.Subscript)
_TELLING = frozenset(
    (
        *(*_NAMED, ast.Lambda, ast.MatchMapping, ast.Import, ast.ImportFrom, ast.Global),
        *(ast.Nonlocal, ast.Assign, ast.NamedExpr, ast.AnnAssign, ast.Call),
    )
)


def _of_scope(scope: ast.AST) -> list[ast.AST]:
    """The nodes of one scope that bind, change or call something; a function within it is one node,
    with what is evaluated where it stands (decorators, defaults), without its body. Comprehensions
    and classes count as part of the scope."""
    nodes: list[ast.AST] = []
    body = getattr(scope, "body", [])
    waiting = list(body) if isinstance(body, list) else [body]
    while waiting:
        node = waiting.pop()
        kind = type(node)
        if kind in _TELLING or (kind in _READ_ONLY and type(node.ctx) is not ast.Load):
            nodes.append(node)
        if kind in _SCOPES:
            waiting += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            waiting += getattr(node, "decorator_list", [])
            continue
        for name in node._fields if kind is not ast.Name else ():
            value = getattr(node, name, None)
            if isinstance(value, list):
                waiting += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST) and name not in ("ctx", "op"):
                waiting.append(value)
    return nodes


def _stored(nodes: list[ast.AST]) -> set[str]:
    """The names that nodes bind by anything but an import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, _NAMED) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return names


def _module(node: ast.ImportFrom) -> str:
    return "." * node.level + (node.module or "")


def _imported(node: ast.AST) -> dict[str, str]:
    """What an import statement binds, by name: the thing's own name in dots."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.split(".")[0]: alias.name
            if alias.asname
            else alias.name.split(".")[0]
            for alias in node.names
        }
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{_module(node)}.{alias.name}" for alias in node.names}
    return {}


def _meanings(scope: ast.AST, nodes: list[ast.AST], outside: dict[str, str]) -> dict[str, str]:
    """Which names stand for modules, or things in them, within a scope; imports and plain
    assignments in it are followed, wherever they stand."""
    own = _stored(nodes)
    aliases = []
    imports: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Global | ast.Nonlocal):
            own.difference_update(node.names)
        elif isinstance(node, ast.Assign):
            aliases += [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None:
            aliases.append((node.target, node.value))
        else:
            imports |= _imported(node)
    if isinstance(scope, _SCOPES):
        own |= {node.arg for node in ast.walk(scope.args) if isinstance(node, ast.arg)}
    meant = {name: origin for name, origin in outside.items() if name not in own} | imports
    for target, value in sorted(aliases, key=lambda alias: alias[1].lineno):
        if isinstance(target, ast.Name) and (origin := _origin(value, meant)) is not None:
            meant[target.id] = origin
    return meant


def _origin(node: ast.AST, meant: dict[str, str]) -> str | None:
    """What an expression stands for, in dots, where it is a module or something in one."""
    after: list[str] = []
    for _ in range(DEEPEST_CHAIN):
        if isinstance(node, ast.Attribute):
            after.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if _origin_of_name(node.value, meant) != "sys.modules":
                return None
            return ".".join([str(node.slice.value), *reversed(after)])
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name in ("globals", "locals") and not node.args:
                return ".".join(["globals()", *reversed(after)])
            if not node.args:
                return None
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                return ".".join([str(first.value), *reversed(after)])
            if name == "vars":
                after.append("__dict__")
            elif name == "getattr" and len(node.args) > 1:
                after.append(_constant(node.args[1]))
            else:
                return None
            node = first
        elif isinstance(node, ast.Name):
            if node.id not in meant:
                return None
            return ".".join([meant[node.id], *reversed(after)])
        else:
            return None
    return None


def _origin_of_name(node: ast.AST, meant: dict[str, str]) -> str | None:
    """As _origin, for a name with at most one attribute, `sys.modules`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{meant.get(node.value.id)}.{node.attr}"
    return meant.get(node.id) if isinstance(node, ast.Name) else None


def _constant(node: ast.AST) -> str:
    return str(node.value)[:50] if isinstance(node, ast.Constant) else "…"


def _changed(node: ast.AST, meant: dict[str, str]) -> str | None:
    """The attribute of a module that one node of `_of_scope` sets or deletes."""
    if isinstance(node, ast.Attribute):
        origin = _origin(node.value, meant)
        return origin and f"{origin}.{node.attr}"
    if isinstance(node, ast.Subscript):
        origin = _origin(node.value, meant)
        return f"{origin}[{_constant(node.slice)}]" if _is_namespace(origin) else None
    if isinstance(node, ast.Call):
        called = node.func
        if isinstance(called, ast.Name) and called.id in ("setattr", "delattr"):
            origin = _origin(node.args[0], meant) if len(node.args) > 1 else None
            return origin and f"{origin}.{_constant(node.args[1])}"
        if isinstance(called, ast.Attribute) and called.attr in _CHANGE_A_DICT:
            origin = _origin(called.value, meant)
            return f"{origin}.{called.attr}(…)" if _is_namespace(origin) else None
    return None


_CHANGE_A_DICT = (
    *("update", "setdefault", "pop", "clear", "popitem"),
    *("__setitem__", "__delitem__", "__ior__"),
)


def _is_namespace(origin: str | None) -> bool:
    return origin is not None and (
        origin in ("globals()", "sys.modules") or origin.endswith(".__dict__")
    )


def global_names(source: str) -> frozenset[str]:
    """The names that a cell's source uses and leaves for others to define."""
    return Code(source).used


def without_magics(source: str) -> str:
    """A cell's source with `pass` in place of IPython's magics, shell commands and questions.

    Only lines that begin a statement can be any, so strings and brackets are followed from line to
    line, each being read once.
    """
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    if indent:  # As IPython does, a cell may stand indented as a whole.
        lines = [line.removeprefix(indent) for line in lines]
    quote, depth, goes_on = "", 0, False
    for number, line in enumerate(lines):
        if not quote and depth == 0 and not goes_on:
            text = line.strip()
            if text[:1] in _MAGIC or (text.endswith("?") and not _QUOTED.search(text)):
                lines[number] = line[: len(line) - len(line.lstrip())] + "pass"
                continue
            if assigned := _ASSIGNED_MAGIC.match(line):
                lines[number] = f"{assigned[1]} None"
                continue
        goes_on, place = False, 0
        while place < len(line):
            if quote:
                end = line.find(quote, place)
                while end > 0 and _escaped(line, end):
                    end = line.find(quote, end + 1)
                if end < 0:
                    break
                quote, place = "", end + 3
                continue
            token = _TOKEN.search(line, place)
            if token is None:
                break
            place = token.end()
            quote = token["long"] or ""
            depth = max(0, depth + bool(token["open"]) - bool(token["close"]))
            goes_on = token["next"] is not None
    return "\n".join(lines)


def _escaped(line: str, place: int) -> bool:
    """Whether the character at a place follows an odd number of backslashes."""
    before = line[max(0, place - 1000) : place]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
