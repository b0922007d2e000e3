"""What a notebook says when a cell fails, and that the cell fails all the same."""

import json
import re
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from utils import notebook
from utils.notebook import explain_errors


class Shell(InteractiveShell):
    """IPython without a screen: keeps what it would show."""

    def _showtraceback(self, kind, error, lines) -> None:
        self.shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))

    def run(self, source: str) -> tuple[BaseException | None, str]:
        """Runs a cell: the exception that it ended with, and what was shown of it."""
        self.shown = ""
        return self.run_cell(source).error_in_exec, self.shown


@pytest.fixture
def shell(monkeypatch) -> Iterator[Shell]:
    monkeypatch.setattr("IPython.core.history.HistoryManager.enabled", False)
    monkeypatch.setattr(notebook, "_outcomes", {})
    shell = Shell.instance()
    explain_errors()
    shell.run("from utils.guard import checked\nfrom utils.checks import check_close")
    yield shell
    Shell.clear_instance()


def test_a_stub_is_one_line_and_an_error(shell: Shell) -> None:
    shell.run("def stub(x):\n    raise NotImplementedError  # your code here")
    for call in "stub(1)", "checked(stub)(1)", "list(map(stub, [1]))":
        error, shown = shell.run(call)
        assert type(error) is NotImplementedError
        assert shown == (
            "`stub` is not written yet: fill in its stub above, then run this cell again."
        )
    shell.run("class Block:\n    def run(self):\n        raise NotImplementedError")
    assert shell.run("Block().run()")[1].startswith("`Block` is not written yet")
    assert shell.run("raise NotImplementedError")[1].startswith("This cell is not written yet")


def test_a_test_answers_in_one_line(shell: Shell) -> None:
    error, shown = shell.run("check_close(1.0, 2.0, 'f(x)')")
    assert type(error) is AssertionError
    assert shown == str(error)
    assert shown.startswith("f(x): expected 2, got 1")
    assert shell.run("assert 1 == 2, 'one is not two'")[1] == "one is not two"


def test_a_students_exception_is_shown_from_their_code_on(shell: Shell) -> None:
    shell.run("def broken(x):\n    return x['key']")
    error, shown = shell.run("value = {}\nchecked(broken)(value)  # the test's line")
    assert type(error) is KeyError
    assert "return x['key']" in shown
    assert "the test's line" not in shown
    assert shown.endswith("broken(x={}) raised KeyError: key")
    assert shown.count("raised KeyError") == 1
    error, shown = shell.run("checked(broken)()")
    assert type(error) is TypeError
    assert shown.startswith("broken() raised TypeError: broken() missing 1 required")


@pytest.mark.parametrize("kind", ["Figure: how it went", "Check `f`: a batch", "Given: `g`"])
def test_what_an_earlier_cell_would_have_given_is_one_line(shell: Shell, kind: str) -> None:
    for body in ("steps + 1", "def draw():\n    return steps\ndraw()"):
        error, shown = shell.run(f"# @title {kind}\n{body}")
        assert type(error) is NameError
        assert shown == (
            "`steps` comes from an earlier cell that hasn't run to its end; run that, then this"
            " cell again."
        )
    shell.run("def mine(x):\n    return x + y")
    for source in (f"# @title {kind}\nmine(1)", f"# @title {kind}\nchecked(mine)(1)"):
        assert "return x + y" in shell.run(source)[1]


@pytest.mark.parametrize(
    "cell",
    [
        "1 / 0",
        "x = 1\nprint(steps)",
        "def mine(x):\n    assert x, 'my own assertion'\nmine(0)",
        "assert 1 == 2",
        "import torch\nraise NotImplementedError('of torch')",
    ],
)
def test_everything_else_is_shown_whole(shell: Shell, cell: str) -> None:
    error, shown = shell.run(cell)
    assert error is not None
    assert "Traceback (most recent call last)" in shown
    assert cell.splitlines()[-1] in shown


def test_outside_of_a_notebook_nothing_happens() -> None:
    explain_errors()


LAST = 'from utils.notebook import sum_up\nsum_up("01_mini", {tests}, {questions})'
TESTS = {"double": ["one", "two"], "answer": [""], "other": ["", ""]}


def summed_up(shell: Shell, capsys, questions: list[str]) -> list[str]:
    """What the last cell prints."""
    capsys.readouterr()
    assert shell.run(LAST.format(tests=TESTS, questions=questions)) == (None, "")
    return capsys.readouterr().out.splitlines()


def check(shell: Shell, name: str, aspect: str, code: str) -> None:
    shell.run(f"# @title Check `{name}`{aspect and f': {aspect}'}\n{code}")


def test_the_last_cell_says_what_the_tests_said(shell: Shell, capsys) -> None:
    assert summed_up(shell, capsys, []) == [
        "double  2 of 2 tests still to be run",
        "answer  1 of 1 tests still to be run",
        "other   2 of 2 tests still to be run",
        "",
        "0 of 3 exercises are right so far.",
        "When your work is graded, other inputs are tried as well.",
        "Save this notebook, and hand it in as 01_mini.ipynb.",
    ]
    check(shell, "double", "one", "x = 1")
    check(shell, "double", "two", "assert 1 == 2, 'double(x):\\nwrong'")
    check(shell, "answer", "", "raise NotImplementedError")
    check(shell, "other", "", "a = 1")
    said = summed_up(shell, capsys, ["why", "what"])
    assert said[:3] == [
        "double  two: double(x): wrong",
        "answer  not written yet",
        "other   1 of 2 tests still to be run",
    ]
    assert said[4:6] == [
        "0 of 3 exercises are right so far.",
        "To be answered in words: why, what.",
    ]


def test_what_was_tested_before_a_change_does_not_count(shell: Shell, capsys) -> None:
    for name, aspects in TESTS.items():
        for number, aspect in enumerate(aspects):
            check(shell, name, aspect, f"x = {number}")
    # A hidden test's frame, where nbgrader runs it, defines nothing.
    shell.run("double = checked(double)\ndouble = unchecked(double)")
    said = summed_up(shell, capsys, [])
    assert [line.split(None, 1)[1] for line in said[:3]] == ["right so far"] * 3
    assert said[4].startswith("3 of 3 exercises are right so far.")
    shell.run("import numpy as np\n\ndef double(x):\n    return x")
    shell.run("answer = 42")
    shell.run("assert answer == 42\nother == 3 if False else None")
    said = summed_up(shell, capsys, [])
    assert said[:3] == [
        "double  2 of 2 tests still to be run",
        "answer  1 of 1 tests still to be run",
        "other   right so far",
    ]


def test_on_colab_the_last_cell_writes_the_notebook_out(
    shell: Shell, capsys, monkeypatch, tmp_path
) -> None:
    google, colab = ModuleType("google"), ModuleType("google.colab")
    content = {"cells": [{"source": "é"}], "metadata": {"colab": {}}}
    downloaded = []
    colab._message = SimpleNamespace(
        blocking_request=lambda what, timeout_sec: {what.removeprefix("get_"): content}
    )
    colab.files = SimpleNamespace(download=downloaded.append)
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.chdir(tmp_path)
    said = summed_up(shell, capsys, [])
    path = tmp_path / "01_mini.ipynb"
    assert said[-1] == (
        f"Your browser downloads 01_mini.ipynb: hand that in. It also lies here: {path}"
    )
    assert downloaded == [str(path)]
    assert json.loads(path.read_text("utf-8")) == content
