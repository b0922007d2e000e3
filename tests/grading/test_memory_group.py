"""The kernel's own limit on a sandbox's memory, where a group may be made; and where none may."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.grading import memory_group as groups
from autograder.grading.memory_group import MemoryGroup, memory_group
from autograder.grading.sandbox import JOIN, Sandbox

HOLD = "held = bytearray({} * 2**20); held[:] = bytes(len(held)); print('held')"


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    made = memory_group(100 * 2**20)
    if made is None:
        pytest.skip("no control group may be made here")
    yield made
    made.close()


def run_in(group: MemoryGroup, source: str) -> subprocess.CompletedProcess:
    command = ["/bin/sh", "-c", JOIN, str(group.processes), sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_holds_too_much_is_ended_and_counted(group: MemoryGroup) -> None:
    assert run_in(group, HOLD.format(10)).stdout == "held\n"
    assert group.kills() == 0
    assert run_in(group, HOLD.format(200)).returncode == -signal.SIGKILL
    assert group.kills() == 1


def test_what_two_processes_hold_counts_together(group: MemoryGroup) -> None:
    together = (
        "import os, time\nchild = os.fork()\n"
        + HOLD.format(40)
        + "\nif child == 0:\n    time.sleep(5)\nprint(os.waitpid(child, 0)[1])"
    )
    done = run_in(group, together)
    assert group.kills() >= 1, done


def test_files_in_memory_count(group: MemoryGroup) -> None:
    source = "open('/dev/shm/autograder-test', 'wb').write(bytes(200 * 2**20))"
    try:
        assert run_in(group, source).returncode == -signal.SIGKILL
    finally:
        Path("/dev/shm/autograder-test").unlink(missing_ok=True)


def test_a_sandbox_is_in_its_group_and_takes_it_along(group: MemoryGroup) -> None:
    with Sandbox([]) as sandbox:
        folder = sandbox._group.processes.parent
        assert len(sandbox._group.processes.read_text().split()) >= 2
        assert str(sandbox._process.pid) in sandbox._group.processes.read_text().split()
    assert not folder.exists()


def test_what_a_killed_grader_left_is_removed(group: MemoryGroup) -> None:
    left = group.processes.parent.with_name(f"{groups.NAME}left")
    left.mkdir()
    memory_group(100 * 2**20).close()
    assert not left.exists()


@pytest.mark.parametrize(
    "own, mounts, place",
    [
        ("0::/user.slice/a.scope\n", "cgroup2 {} cgroup2 rw 0 0\n", "user.slice"),
        ("0::/\n", "cgroup2 {} cgroup2 rw 0 0\n", None),
        ("4:memory:/mine\n0::/\n", "cgroup {} cgroup rw,memory 0 0\n", "mine"),
        ("4:cpu:/mine\n", "cgroup {} cgroup rw,cpu 0 0\n", None),
        ("", "", None),
    ],
)
def test_where_a_group_is_made(
    own: str, mounts: str, place: str | None, tmp_path: Path, monkeypatch
) -> None:
    """In folders that only look like the kernel's: the second version's can't be had everywhere."""
    for name in ("user.slice/a.scope", "mine"):
        (tmp_path / "groups" / name).mkdir(parents=True)
    monkeypatch.setattr(groups, "OWN", tmp_path / "own")
    monkeypatch.setattr(groups, "MOUNTS", tmp_path / "mounts")
    groups.OWN.write_text(own)
    groups.MOUNTS.write_text(mounts.format(tmp_path / "groups"))
    made = memory_group(5)
    assert (made and made.processes.parent.parent) == (place and tmp_path / "groups" / place)
