"""Runs a piece of work in a process of its own, so that nothing that it does outlasts it."""

import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable

import psutil

from autograder.grading import kernel
from autograder.grading.job import GraderFailed

STEP = b"\0"
MEMORY_BYTES = 4 * 2**30  # of address space, beyond what this process has


def run_apart(
    work: Callable[[Callable[[], None]], str],
    seconds: float,
    progress: Callable[[], None] = lambda: None,
) -> str:
    """Calls `work` in a fork of this process and returns its result, a text without NULs.

    Whatever becomes of the fork, by itself or from outside, this process stays as it was. It should
    have no other threads that hold locks, for a fork has none of them to let go.

    Args:
        work: it gets a function to call at each of its steps.
        progress: called here at each of these steps.

    Raises:
        TimeoutError: it took longer than so many seconds of wall time, and was killed.
        GraderFailed: it ended without a result.
    """
    reader, writer = os.pipe()

    def step() -> None:
        os.write(writer, STEP)

    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            kernel.die_with_parent(parent)
            most_bytes = psutil.Process().memory_info().vms + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
            with open(writer, "wb") as output:
                output.write(work(step).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    status = None
    try:
        received = _receive(reader, time.monotonic() + seconds, progress)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(reader)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise GraderFailed(f"its process ended: {signal.strsignal(os.WTERMSIG(status))}")
    if status != 0 or not received:
        raise GraderFailed("its process ended without a result")
    return received.decode()


def _receive(reader: int, deadline: float, progress: Callable[[], None]) -> bytes:
    """All that comes until the other side closes, but for the steps."""
    poll = select.poll()
    poll.register(reader)
    parts: list[bytes] = []
    while poll.poll(1000 * max(0.0, deadline - time.monotonic())):
        part = os.read(reader, 2**20)
        if not part:
            return b"".join(parts)
        parts.append(part.replace(STEP, b""))
        for _ in range(part.count(STEP)):
            progress()
    raise TimeoutError
