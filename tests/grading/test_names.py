"""What can be read from a cell's source: names, and modules that it tampers with."""

import pytest

from autograder.grading.names import MOST_CODE, Code, global_names, without_magics


@pytest.mark.parametrize(
    ("source", "bound"),
    [
        ("x = y", "x"),
        ("x, (y, *z) = w", "x y z"),
        ("x += 1", "x"),
        ("x: int = 1", "x"),
        ("def f(x):\n    y = 1\n    return lambda z: (w := z)", "f"),
        ("async def f(): pass", "f"),
        ("class C:\n    x = 1\n    def f(self): y = 2", "C"),
        ("class C:\n    global x\n    x = 1", "C x"),
        ("import a.b, c as d\nfrom e import f, g as h", "a d f h"),
        ("for x in y:\n    z = x", "x z"),
        ("with a as b, c as (d, e): pass", "b d e"),
        ("try: pass\nexcept E as e: pass", "e"),
        ("match a:\n    case {'k': b, **c}: pass\n    case [d, *e] as f: pass", "b c d e f"),
        ("if (x := 1): pass", "x"),
        ("[y for x in z if (y := x)]", "y"),
        ("[x for x in y]", ""),
        ("del x", "x"),
        ("def f():\n    global x, y\n    x = y", "f x"),
        ("def f():\n    def g():\n        global x\n        del x", "f x"),
        ("x.y = 1\nx[0] = 2", ""),
        ("if a:\n    while b:\n        x = 1", "x"),
        ("this is no Python", ""),
        ("return 1\nreturn 2", ""),
    ],
)
def test_bound_names(source: str, bound: str) -> None:
    assert Code(source).bound == set(bound.split())


def test_global_names() -> None:
    source = "import a\ndef f(x):\n    y = x + b\n    return [z for z in c(y)] + a.d\nprint(e, f)"
    assert global_names(source) == {"b", "c", "e", "print"}


def test_imports_say_what_a_name_stands_for() -> None:
    source = "import a.b\nimport a.c as d\nfrom e.f import g as h\nfrom . import i\nimport j\nj = 1"
    imports = {"a": "a", "d": "a.c", "h": "e.f.g", "i": "..i"}
    assert Code(source).imports == imports
    assert Code("import k\nfor k in l: pass\nfrom m import *").imports == {"*": "m.*"}


GIVEN = {"torch": "torch", "np": "numpy", "check_close": "utils.checks.check_close", "sys": "sys"}


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("torch.equal = lambda a, b: True", "torch.equal"),
        ("def f():\n    torch.equal = g", "torch.equal"),
        ("class A:\n    def f(self):\n        torch.nn.ReLU.forward = g", "torch.nn.ReLU.forward"),
        ("import utils.checks\nutils.checks.x = 1", "utils.checks.x"),
        ("from utils import checks as c\nc.x = 1", "utils.checks.x"),
        ("t = torch\nn = t.nn\nn.x: int = 1", "torch.nn.x"),
        ("def f():\n    t = torch.nn\n    t.x += 1", "torch.nn.x"),
        ("(t := torch).x = 1\nt.y = 1", "torch.y"),
        ("for torch.equal in [f]: pass", "torch.equal"),
        ("with f() as np.allclose: pass", "numpy.allclose"),
        ("a, (b, torch.x) = c", "torch.x"),
        ("del np.allclose", "numpy.allclose"),
        ("check_close.__code__ = f.__code__", "utils.checks.check_close.__code__"),
        ("setattr(torch, 'equal', f)", "torch.equal"),
        ("lambda: setattr(torch.nn, name, f)", "torch.nn.…"),
        ("delattr(np, 'all')", "numpy.all"),
        ("vars(torch)['equal'] = f", "torch.__dict__[equal]"),
        ("torch.__dict__.update(equal=f)", "torch.__dict__.update(…)"),
        ("getattr(torch, 'nn').x = 1", "torch.nn.x"),
        ("globals()['check_close'] = f", "globals()[check_close]"),
        ("globals().update(x=1)", "globals().update(…)"),
        ("g = globals()\ng['x'] = 1", "globals()[x]"),
        ("sys.modules['torch'] = f", "sys.modules[torch]"),
        ("import sys as s\ns.modules['utils.checks'].x = 1", "utils.checks.x"),
        ("import importlib\nimportlib.import_module('torch').x = 1", "torch.x"),
        ("__import__('torch').x = 1", "torch.x"),
        # None of these changes a module.
        ("torch.equal(a, b)\nx = np.zeros(3)\nx[0] = 1\nx.shape = (3, 1)", ""),
        ("def f(torch):\n    torch.x = 1", ""),
        ("def f(x):\n    np = x\n    np.y = 1", ""),
        ("f = lambda torch: setattr(torch, 'x', 1)", ""),
        ("model = torch.nn.Linear(1, 1)\nmodel.weight = x\nsetattr(model, 'bias', None)", ""),
        ("class A:\n    def __init__(self):\n        self.x = 1", ""),
        ("torch.backends.cudnn.benchmark = False\nsys.ps1 = ''", ""),
        ("cache = {}\ncache.update(a=1)\ncache['x'] = 1", ""),
        ("def f():\n    d = vars(self)\n    d['x'] = locals()", ""),
    ],
)
def test_tampering_with_modules_is_seen(source: str, changed: str) -> None:
    assert Code(source).tampers_with(GIVEN) == changed.split()


def test_imports_of_everything_are_seen() -> None:
    source = "from a.b import *\nfrom c import d\ntry:\n    from e import *\nexcept f: g"
    assert sorted(Code(source).stars) == ["a.b", "e"]


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("%time f()\nx = 1", "pass\nx = 1"),
        ("%%time\nx = 1", "pass\nx = 1"),
        ("for i in x:\n    %time f(i)\n!ls", "for i in x:\n    pass\npass"),
        ("files = !ls\nt = %timeit -o f()", "files = None\nt = None"),
        ("np.pad?\n?np.pad\nx", "pass\npass\nx"),
        ("x = '''\n%d\n!\n'''\n%time", "x = '''\n%d\n!\n'''\npass"),
        ('x = """a\\"""\n%d\n"""\n%time', 'x = """a\\"""\n%d\n"""\npass'),
        ("x = (a\n% b)\n%time", "x = (a\n% b)\npass"),
        ("x = a \\\n% b\n%time", "x = a \\\n% b\npass"),
        ("x = '('  # (\n%time", "x = '('  # (\npass"),
        ("x = 'it\\'s ('\n%time", "x = 'it\\'s ('\npass"),
        ("  %time\n  x = 1\n  if x:\n    y", "pass\nx = 1\nif x:\n  y"),
        ("# why?\n'why?'\n%time", "# why?\n'why?'\npass"),
        ("a !=\\\nb\n%time", "a !=\\\nb\npass"),
    ],
)
def test_magics_are_taken_out_and_nothing_else(source: str, left: str) -> None:
    assert without_magics(source) == left
    assert Code(source).python == left


def test_python_is_left_alone() -> None:
    source = "x = (1\n  % 2)\nprint('%d' % x)"
    assert Code(source).python == source


@pytest.mark.parametrize(
    "source",
    [
        "-" * 90_000 + "1",
        "if x: pass\n" + "elif x: pass\n" * 7_000,
        "x" + ".y" * 40_000,
        "x = " + "+".join("1" * 30_000),
        "lambda: " * 10_000 + "1",
        "1 if 1 else " * 8_000 + "1",
        "1" + "**1" * 20_000,
        "x" * (MOST_CODE + 1),
    ],
)
def test_what_the_parser_cannot_hold_is_told(source: str) -> None:
    code = Code(source)
    assert code.tree is None
    assert "too deep" in code.unread or "longer than" in code.unread
    assert (code.bound, code.used, code.imports, code.tampers_with({})) == (set(), set(), {}, [])


@pytest.mark.parametrize(
    "source",
    [
        "(" * 50_000,
        "x = '\0'",
        "x = '\ud800'",
        "\n" * 90_000 + "(",
        "'" * 90_001,
        '"""' * 20_001 + "%",
        "%" * 45_000 + "\n" + "(" * 45_000,
        "a" + "?" * 45_000 + "\n(" * 20_000,
        "\\" * 90_000,
        "x = '" + "\\" * 90_000 + "\n%\n(",
        "'''" + "\\" * 90_000 + "'''\n(" * 10,
        '"""\\"' + '\\"""' * 20_000,
    ],
)
def test_what_is_no_python_is_dealt_with(source: str) -> None:
    code = Code(source)
    assert (code.tree, code.unread, code.bound) == (None, "", set())


def test_deep_code_that_does_parse_is_looked_through() -> None:
    code = Code("x = " + "-" * 800 + "1\ntorch.x" + " = torch.x" * 50_0 + " = 1")
    assert "torch.x" in code.tampers_with({"torch": "torch"})
