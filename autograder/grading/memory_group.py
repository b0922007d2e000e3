"""Control groups, by which the kernel itself limits what a sandbox holds, where one may be made."""

import contextlib
import secrets
import time
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
OWN = Path("/proc/self/cgroup")
NAME = "autograder-"


class MemoryGroup:
    """Limits the memory of the processes in it together: their own, what they share, files in
    memory, and what the kernel holds for them.

    Attributes:
        processes: the file that a process joins by writing its number to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes = folder / "cgroup.procs"

    def kills(self) -> int:
        """How often the kernel has ended a process here because there was no memory left."""
        # The second version's file, and the first's.
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                lines = (self._folder / name).read_text().splitlines()
                return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0

    def close(self, seconds: float = 1.0) -> None:
        """Removes it; its processes, which have been killed, may take so many seconds to end."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._folder.rmdir()
            except OSError:
                if time.monotonic() > deadline or not self._folder.exists():
                    return
                time.sleep(0.01)


def memory_group(most_bytes: int) -> MemoryGroup | None:
    """A new group with this limit; None where this process may make none.

    In the first version of control groups it is made below this process's own, in the second one
    beside it, where a group that has processes can have none below it with limits.
    """
    try:
        place, limit = _place()
        for old in place.glob(f"{NAME}*"):  # of graders that were killed; others aren't empty
            MemoryGroup(old).close(0)
        folder = place / f"{NAME}{secrets.token_hex(8)}"
        folder.mkdir()
    except (OSError, ValueError):
        return None
    group = MemoryGroup(folder)
    try:
        (folder / limit).write_text(str(most_bytes))
    except OSError:  # Here groups may be made, and have no limits.
        group.close()
        return None
    return group


def _place() -> tuple[Path, str]:
    """The folder to make a group in, and the file with its limit.

    Raises:
        ValueError: there is none.
    """
    own = dict(line.split(":", 2)[1:] for line in OWN.read_text().splitlines())
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    for _, mounted, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(",") and "memory" in own:
            return Path(mounted + own["memory"]), "memory.limit_in_bytes"
    for _, mounted, kind, *_ in mounts:
        if kind == "cgroup2" and own.get("", "/") != "/":
            return Path(mounted + own[""]).parent, "memory.max"
    raise ValueError("no control groups here")
