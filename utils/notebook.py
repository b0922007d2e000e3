"""What a notebook says when a cell fails, one line where that is all there is to say, and in its
last cell: how far it is."""

import json
import linecache
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

UTILS = Path(__file__).resolve().parent
_TEST = re.compile(r"# @title Check `(\w+)`(?:: (.*))?\n")
# What a cell gives a meaning; not the frame of a hidden test, where stock nbgrader runs it.
_DEFINITION = re.compile(
    r"^(?:(?:def|class)[ \t]+(\w+)|(\w+)[ \t]*=(?!=)(?! (?:un)?checked\())", re.M
)

# What came of each test cell, by its exercise and aspect, then by its source: "" where it passed.
# What was run before the exercise's last definition doesn't count.
_outcomes: dict[str, dict[str, dict[str, str]]] = {}


def explain_errors() -> None:
    """Has this notebook show a stub that isn't written yet, a test's answer, and what a cell of the
    course's lacks from an earlier cell as one line, and an exception in a student's function that a
    test called with the call, without the test's code; and has it remember, for `sum_up`, what its
    tests said.

    The cell still fails: Run All stops there, and nbgrader takes it for an error. Outside of a
    notebook, nothing happens.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.set_custom_exc((Exception,), _show)
        shell.events.register("post_run_cell", _remember)


def _remember(result: Any) -> None:
    """Notes what came of a cell; `result` is IPython's ExecutionResult."""
    source = result.info.raw_cell
    if test := _TEST.match(source):
        error = result.error_before_exec or result.error_in_exec
        said = "" if error is None else str(error) or type(error).__name__
        if isinstance(error, NotImplementedError) and not str(error):
            said = "not written yet"
        aspects = _outcomes.setdefault(test[1], {})
        aspects.setdefault(test[2] or "", {})[source] = " ".join(said.split())
    else:
        for names in _DEFINITION.findall(source):
            _outcomes.pop(names[0] or names[1], None)


def sum_up(lab: str, tests: Mapping[str, Sequence[str]], questions: Sequence[str]) -> None:
    """Prints what the tests said of each exercise since it was last defined; on Colab, also writes
    the notebook out under the lab's name and has the browser download it.

    Args:
        tests: by exercise, the aspects of its test cells; "" where a cell has none.
        questions: what is answered in words.
    """
    right = 0
    width = max(map(len, tests), default=0)
    for exercise, aspects in tests.items():
        found = _outcomes.get(exercise, {})
        said = [f"{a}: {m}" if a else m for a in found for m in found[a].values() if m]
        ran = sum(min(aspects.count(a), len(found.get(a, ()))) for a in dict.fromkeys(aspects))
        if not said and ran < len(aspects):
            said = [f"{len(aspects) - ran} of {len(aspects)} tests still to be run"]
        right += not said
        print(f"{exercise:{width}}  {said[0] if said else 'right so far'}")
    print(f"\n{right} of {len(tests)} exercises are right so far.")
    if questions:
        print(f"To be answered in words: {', '.join(questions)}.")
    print("When your work is graded, other inputs are tried as well.")
    if "google.colab" not in sys.modules:
        print(f"Save this notebook, and hand it in as {lab}.ipynb.")
        return
    from google.colab import _message, files

    path = Path(f"{lab}.ipynb").resolve()
    content = _message.blocking_request("get_ipynb", timeout_sec=60)["ipynb"]
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    files.download(str(path))
    print(f"Your browser downloads {path.name}: hand that in. It also lies here: {path}")


def _show(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType,
    tb_offset: int | None = None,
) -> None:
    """Shows an exception; `shell` is IPython's InteractiveShell."""
    lines = _lines(shell, kind, error, trace)
    if lines is None:
        shell.showtraceback(running_compiled_code=True)  # IPython's own way
    else:
        shell._showtraceback(kind, error, lines)


def _lines(
    shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType
) -> list[str] | None:
    """What to show of an exception; None where it is to be shown whole."""
    last = [frame for frame, _ in traceback.walk_tb(trace)][-1]
    message = str(error)
    if isinstance(error, NotImplementedError) and not message and last.f_globals is shell.user_ns:
        return [_not_written(last)]
    if isinstance(error, AssertionError) and message and _is_a_test(last, shell):
        return [message]
    if isinstance(error, NameError) and linecache.getline(last.f_code.co_filename, 1).startswith(
        "# @title"
    ):
        return [
            f"`{error.name}` comes from an earlier cell that hasn't run to its end; run that, then"
            " this cell again."
        ]
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    inner: TracebackType | None = trace
    while inner is not None and inner.tb_frame.f_code.co_filename != str(UTILS / "guard.py"):
        inner = inner.tb_next
    if not notes or inner is None:
        return None
    if inner.tb_next is None:
        return notes  # The call itself failed: it doesn't fit the function.
    shown = shell.InteractiveTB.structured_traceback(kind, error, inner.tb_next, tb_offset=0)
    text = "\n".join(shown)
    return [*shown, *(note for note in notes if note not in text)]


def _not_written(frame: FrameType) -> str:
    name = frame.f_code.co_qualname.split(".")[0]
    if name == "<module>":
        return "This cell is not written yet: fill it in, then run it again."
    return f"`{name}` is not written yet: fill in its stub above, then run this cell again."


def _is_a_test(frame: FrameType, shell: Any) -> bool:
    """Whether an assertion failed in a check of ours, or in a cell outside of any function."""
    if Path(frame.f_code.co_filename).parent == UTILS:
        return True
    return frame.f_globals is shell.user_ns and frame.f_code.co_name == "<module>"
