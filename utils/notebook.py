"""What a notebook says when a cell fails: one line where that is all there is to say."""

import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

UTILS = Path(__file__).resolve().parent


def explain_errors() -> None:
    """Has this notebook show a stub that isn't written yet, and a test's answer, as one line, and
    an exception in a student's function that a test called with the call, without the test's code.

    The cell still fails: Run All stops there, and nbgrader takes it for an error. Outside of a
    notebook, nothing happens.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.set_custom_exc((Exception,), _show)


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
