"""What a notebook says when a cell fails, and that the cell fails all the same."""

import re
from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell

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


@pytest.mark.parametrize(
    "cell",
    [
        "1 / 0",
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
