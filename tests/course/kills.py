"""Kills a command at a moment of choice, as `kill -9` does, to see whether it can be run again."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree")


def killed(act: Callable[[], object], folder: Path, number: int) -> bool:
    """Does something in a fork, which is killed at the number-th moment at which it changes what
    lies below a folder: when a file is open to be written and nothing is written yet, when another
    change is about to be made, or a transaction about to be committed.

    Returns:
        Whether there was such a moment; if not, it ran to its end.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or status == 0, "it failed by itself"
        return os.WIFSIGNALED(status)
    moments, last = 0, False

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(name: str, arguments: tuple) -> None:
        nonlocal last
        path = arguments[0] if arguments and isinstance(arguments[0], str | Path) else ""
        if last or not os.path.abspath(path).startswith(f"{folder}{os.sep}"):
            return
        if name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            if moments + 1 == number:
                last = True
                os.open(path, arguments[2], 0o644)
            moment()
        elif name in CHANGES:
            moment()

    try:
        event.listen(Engine, "commit", lambda connection: moment())
        sys.addaudithook(hook)
        act()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
