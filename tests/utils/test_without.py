"""Forbidden calls are found whatever they are called, and nothing else is."""

import textwrap

import pytest
import scipy.signal  # noqa: F401 — modules that are imported are known by all their names
import torch  # noqa: F401

from utils.without import findings, forbidden_calls

GIVEN = textwrap.dedent(
    """
    import numpy as np
    import torch.nn.functional as G
    import importlib
    from torch import nn
    from scipy import signal

    conv = G.conv2d
    helper = lambda x: conv(x)
    table = {"one": [lambda x: x, G.conv2d]}
    first, second = np.dot, G.conv2d

    def wraps(x):
        return inner(x)

    def inner(x):
        return signal.convolve2d(x, x)

    class Layer:
        def run(self, x):
            return nn.Conv2d(1, 1, 3)(x)
    """
)
CONV = "torch.nn.functional.conv2d"


def called(body: str, without: tuple[str, ...] = ("torch", "scipy"), after: str = "") -> list[str]:
    """What is found in a function f(x) with this body, between the backquotes."""
    source = "def f(x, other=None):\n" + textwrap.indent(body, "    ")
    found = forbidden_calls({"given": GIVEN, "f": source, "after": after}, "f", without)
    return [sentence.split("`")[-2] for sentence in found]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return G.conv2d(x)", CONV),
        ("return conv(x)", CONV),
        ("c = G.conv2d\nreturn c(x)", CONV),
        ("m = G\nreturn m.conv2d(x)", CONV),
        ("m = n = G\nc = m.conv2d\nreturn c(x)", CONV),
        ("return helper(x)", CONV),
        ("return table['one'][1](x)", CONV),
        ("return second(x)", CONV),
        ("return list(map(G.conv2d, [x]))", CONV),
        ("from functools import partial\nreturn partial(G.conv2d, x)()", CONV),
        ("return getattr(G, 'conv2d')(x)", CONV),
        ("return getattr(getattr(nn, 'functional'), 'conv2d')(x)", CONV),
        ("import torch as t\nreturn t.nn.functional.conv2d(x)", CONV),
        ("from torch.nn.functional import conv2d as c\nreturn c(x)", CONV),
        ("return __import__('torch').conv2d(x)", "torch.conv2d"),
        ("return importlib.import_module('torch.nn.functional').conv2d(x)", CONV),
        ("from importlib import import_module as i\nreturn i('torch').conv2d(x)", "torch.conv2d"),
        ("def g(y=G.conv2d):\n    return y(x)\nreturn g()", CONV),
        ("return (lambda z: G.conv2d(z))(x)", CONV),
        ("return [G.conv2d(z) for z in x]", CONV),
        ("@G.conv2d\ndef g():\n    pass\nreturn g", CONV),
        ("if (c := G.conv2d):\n    return c(x)", CONV),
        ("[0 for G in []]\nreturn G.conv2d(x)", CONV),
        ("g = lambda G: 0\nreturn G.conv2d(x)", CONV),
        ("global G\nG = G\nreturn G.conv2d(x)", CONV),
        ("return Layer().run(x)", "torch.nn.Conv2d"),
        ("return wraps(x)", "scipy.signal.convolve2d"),
        ("return x.convolve(scipy_like=signal.fftconvolve)", "scipy.signal.fftconvolve"),
        ("return eval('G')", "eval"),
        ("exec('y = 1')", "exec"),
        ("import runpy\nreturn runpy.run_module('torch')['conv2d'](x)", "runpy.run_module"),
        ("import operator as o\nreturn o.methodcaller('conv2d', x)(0)", "operator.methodcaller"),
        ("return get_ipython().run_cell('G')", "get_ipython"),
        ("import __main__\nreturn __main__.G.conv2d(x)", "__main__"),
        ("return globals()['G']", "globals"),
        ("import sys\nreturn sys.modules['torch']", "sys.modules"),
        ("return getattr(G, 'conv' + '2d')(x)", "getattr(G, 'conv' + '2d')"),
        ("return __import__('tor' + 'ch')", "__import__('tor' + 'ch')"),
        ("import utils.checks as c\nreturn c.torch.conv2d(x)", "torch.conv2d"),
        ("from utils.checks import torch as t\nreturn t.conv2d(x)", "torch.conv2d"),
        ("return importlib.sys.modules['torch'].conv2d(x)", "sys.modules"),
        ("import builtins\nreturn builtins.eval('G.conv2d')(x)", "eval"),
        ("return np.__builtins__['__import__']('torch')", "numpy.__builtins__"),
        ("return G.__dict__['conv2d'](x)", "torch.nn.functional.__dict__"),
        ("return wraps.__globals__['G'].conv2d(x)", "?.__globals__"),
        ("import operator\nreturn operator.attrgetter('conv2d')(G)(x)", "G"),
        ("return object.__getattribute__(G, 'conv2d')(x)", "object.__getattribute__"),
        ("def g(y=G):\n    return y.conv2d(x)\nreturn g()", "G"),
        ("for y in [G]:\n    return y.conv2d(x)", "G"),
        ("return {'G': G}['G'].conv2d(x)", "G"),
        ("return importlib.util.find_spec('torch').loader.load_module()", "?.loader.load_module"),
    ],
)
def test_forbidden(body: str, what: str) -> None:
    assert what in called(body)


@pytest.mark.parametrize(
    "body",
    [
        "return np.einsum('ij,ij->i', x, x)",
        "return np.lib.stride_tricks.sliding_window_view(x, 2)",
        "return np.tensordot(x, x), x @ x, x.sum()",
        "return first(x, x)",
        "return isinstance(x, nn.Module) or torch.float64 is x",
        "y: nn.Module = x\nreturn y",
        "x = x.T\nx = x.real\nx = x.imag\nx = x.flat\nreturn x",
        "torch = x\nreturn torch.conv2d()",
        "def g(G):\n    return G.conv2d(x)\nreturn g(x)",
        "return getattr(x, 'sha' + 'pe')",
        "import re\nreturn re.compile('x')",
        "return 'torch.conv2d(x)'  # torch.conv2d(x)",
    ],
)
def test_allowed(body: str) -> None:
    assert called(body) == []


def test_entries_may_be_finer() -> None:
    assert called("return G.relu(G.conv2d(x))", (CONV,)) == [CONV]
    assert called("import torch\nreturn torch.conv2d(x)", (CONV,)) == ["torch.conv2d"]
    assert called("return x.unfold(0, 1, 1)", (".unfold",)) == [".unfold"]
    assert called("return getattr(x, 'unfold')(0)", (".unfold",)) == [".unfold"]
    assert called("return np.convolve(x, x)", ("numpy.convolve",)) == ["numpy.convolve"]
    assert called("return np.dot(x, x)", ("numpy.convolve", ".unfold", "scipy.signal")) == []


def test_a_name_means_what_the_last_cell_says() -> None:
    assert called("return conv(x)", after="def conv(x):\n    return x") == []
    assert called("return first(x)", after="first = conv")[0] == CONV
    assert called("return conv(x)", after="if 1:\n    conv = None")[0] == CONV


@pytest.mark.parametrize(
    "cell",
    [
        "def f(x):\n    return G.conv2d(x)\nraise ValueError\ndef f(x):\n    return x",
        "def f(x):\n    return G.conv2d(x)\nwith a:\n    def f(x):\n        return x",
        "def f(x):\n    return x\ndef g():\n    global f\n    f = lambda x: G.conv2d(x)\ng()",
        "def f(x):\n    return f.c(x)\nf.c = G.conv2d",
        "t = {}\ndef f(x):\n    return t['c'](x)\nt['c'] = G.conv2d",
        "t = []\ndef f(x):\n    return t[0](x)\nt.append(G.conv2d)",
        "def checked(f):\n    return G.conv2d\ndef f(x):\n    return x\nf = checked(f)",
        "np.tool = G.conv2d\ndef f(x):\n    return np.tool(x)",
        "np.tool = G\ndef f(x):\n    return np.tool.conv2d(x)",
        "np.ndarray.tool = G.conv2d\ndef f(x):\n    return x.tool()",
        "def g():\n    setattr(np, 'tool', G.conv2d)\ng()\ndef f(x):\n    return np.tool(x)",
        "setattr(np, 'to' + 'ol', G.conv2d)\ndef f(x):\n    return np.tool(x)",
    ],
)
def test_a_decoy_hides_nothing(cell: str) -> None:
    found = forbidden_calls({"given": GIVEN, "cell": cell}, "f", ("torch",))
    assert CONV in found[0]


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("exec('tool = G.conv2d')", "exec"),
        ("import builtins as b\nb.exec('tool = G.conv2d')", "exec"),
        ("run = exec\nrun('tool = G.conv2d')", "exec"),
        ("def g():\n    globals()['tool'] = G.conv2d\ng()", "globals"),
        ("eval('(tool := G.conv2d)')", "eval"),
        ("vars()['tool'] = G.conv2d", "vars"),
        ("0 in eval('[tool := G.conv2d]')", "eval"),
        ("'x' in globals().setdefault('tool', G.conv2d)", "globals"),
        ("import __main__\n__main__.tool = G.conv2d", "__main__"),
    ],
)
def test_a_name_that_no_code_binds_is_found_where_it_is_bound(cell: str, what: str) -> None:
    cells = {"given": GIVEN, "other": cell, "f": "def f(x):\n    return tool(x)"}
    found, *_ = forbidden_calls(cells, "f", ("torch",))
    assert f"of another cell has `{what}`, and what that binds can't be read" in found
    assert (
        f"line 1 has `{what}`"
        in forbidden_calls({"f": f"{cell}\ndef f(x):\n    return 0"}, "f", ("torch",))[0]
        or "\n" in cell
    )


def test_what_only_looks_binds_nothing() -> None:
    cell = "model.eval()\nvars(model)\nnp.eval = 0\n'y' in globals() or 'y' in vars()\n"
    cells = {"given": GIVEN, "f": f"{cell}def f(x):\n    return x.eval()"}
    assert forbidden_calls(cells, "f", ("torch",)) == []


def test_what_other_objects_are_given_is_no_call() -> None:
    net = "class Net:\n    def __init__(self):\n        self.conv = G.conv2d\nnet = Net()"
    cells = {
        "given": GIVEN,
        "cell": f"{net}\nnet.b = conv\ndef f(x):\n    return x.conv, x.b, np.dot(x, x)",
    }
    assert forbidden_calls(cells, "f", ("torch",)) == []


def test_a_cell_that_ended_early_hides_nothing() -> None:
    cells = {"given": GIVEN, "one": "f = conv", "two": "raise ValueError\ndef f(x):\n    return x"}
    assert forbidden_calls(cells, "f", ("torch",)) == []
    assert CONV in forbidden_calls(cells, "f", ("torch",), unfinished=["two"])[0]


def test_the_lines_a_guard_leaves_in_tests_change_nothing() -> None:
    after = "f = checked(f, without=('torch',))\nf = unchecked(f)"
    assert called("return G.conv2d(x)", after=after) == [CONV]


def test_sentences_name_call_line_and_cell() -> None:
    cells = {"one": GIVEN, "two": "def f(x):\n    y = wraps(x)\n    return G.relu(y)"}
    found = findings(cells, "f", ("torch.nn.functional", "scipy"))
    assert [(item.cell, item.line) for item in found] == [("two", 3), ("one", 17)]
    assert [item.sentence for item in found] == [
        "f: line 3 calls `torch.nn.functional.relu`: here you write that yourself",
        "f: line 17 of the cell of `inner` calls `scipy.signal.convolve2d`: here you write that"
        " yourself",
    ]


def test_what_can_not_be_read_does_no_harm() -> None:
    assert forbidden_calls({"a": "%matplotlib inline", "b": "def f(:"}, "f", ("torch",)) == []
    deep = "def f(x):\n    return " + "+".join("x" * 5000)
    assert isinstance(forbidden_calls({"a": deep}, "f", ("torch",)), list)
    loop = "a = b\nb = a\ndef f(x):\n    return a.b.c + f(x)"
    assert forbidden_calls({"a": loop}, "f", ("torch",)) == []
