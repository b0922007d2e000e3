"""The symbol table of a piece of code, the same on every version of Python."""

import ast
import symtable
import sys


class _Generators(ast.NodeTransformer):
    """Makes generator expressions of all comprehensions."""

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp) -> ast.GeneratorExp:
        self.generic_visit(node)
        return ast.GeneratorExp(node.elt, node.generators)

    visit_SetComp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> ast.GeneratorExp:
        self.generic_visit(node)
        pair = ast.Tuple([node.key, node.value], ast.Load())
        return ast.GeneratorExp(pair, node.generators)


def symbol_table(source: str) -> symtable.SymbolTable:
    """The symbol table of Python code.

    From Python 3.12 on, a comprehension has no table of its own and its names stand in that of
    what is around it (PEP 709), as if they were bound there. A generator expression has one on
    every version.

    Raises:
        SyntaxError, ValueError, MemoryError, RecursionError: Python can't make one.
    """
    if sys.version_info >= (3, 12):
        source = ast.unparse(_Generators().visit(ast.parse(source)))
    return symtable.symtable(source, "<code>", "exec")
