"""The process that runs a student's code: forked from a warm interpreter, confined, and obedient.

Run as `python -m autograder.grading.worker FD MODULE…`, inside bubblewrap: imports the modules
once, then forks a worker for every pair of sockets that arrives over the control socket FD. This
process never runs a student's code itself. See sandbox.py for the trusted side, and channel.py for
what may pass between the two.
"""

import contextlib
import enum
import gc
import importlib
import io
import os
import pickle
import random
import resource
import secrets
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle  # noqa: F401  (helpers come by it: imported here, before any fork)
import numpy as np
import psutil
import torch

from autograder.grading import channel, kernel
from utils.changes import Snapshot

MEMORY_BYTES = 2 * 2**30  # of address space for one process, beyond what the warm one has
TOTAL_MEMORY_BYTES = 4 * 2**30  # held by all processes of a submission together
PROCESSES = 16  # threads included
DESCRIPTORS = 256  # of one process; each may stand for memory in the kernel
FILE_BYTES = 256 * 2**20  # of one file, and of all files in a folder that can be written
FILES = 10_000  # in such a folder
SECONDS_TO_KILL = 10.0  # all that a user runs
SECONDS_PER_CHECK = 0.1  # between two looks at memory and processor time
SCRATCH = "/scratch"  # Not /tmp: the project itself may lie there.
# Every submission gets a user of its own, so that limits count it alone, whatever else is graded on
# this machine at the time: one of this many at random, from where no distribution puts any.
FIRST_UID, UIDS = 2_001_000_000, 2**27
SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # Where everybody may write, outside of a sandbox.
# What a process of a submission holds, in /proc/PID/status: shared memory that isn't in one of the
# folders, which have a limit, can't be had.
HELD = (b"RssAnon:", b"RssShmem:", b"VmSwap:", b"VmPTE:")

# What goes over a worker's sockets beside requests and replies.
READY = b"r"  # on the channel: a student's code may come now
ALLOWANCE = struct.Struct("!d")  # to the supervisor: seconds of processor time for this call
ENDING = struct.Struct("!Bi")  # from it: an Ending, and a status as os.wait gives it


class Ending(enum.IntEnum):
    """Why a worker ended: by itself or from outside, or its supervisor had to end it."""

    ITSELF = 0
    MEMORY = 1
    PROCESSOR_TIME = 2
    RELEASED = 3


def serve(control: socket.socket, isolation: str) -> None:
    """Forks a worker for every (channel, lifeline) that arrives, until the other side is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel reaps the supervisors.
    kernel.system("prctl", kernel.PR_SET_DUMPABLE, 0, 0, 0, 0)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            return
        if os.fork() == 0:
            try:
                control.close()
                channel_fd, lifeline = descriptors
                _supervise(channel_fd, lifeline, isolation)
            except BaseException:
                traceback.print_exc()  # The tester keeps it, and sees that no ending was told.
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)


def _supervise(channel_fd: int, lifeline: int, isolation: str) -> None:
    """Starts the worker, and kills all of it when it ends, when the tester lets go or when it takes
    too much.

    Over the lifeline, the tester says how many seconds of processor time each call may take, as it
    begins; at the end, the supervisor says why it ended and with which status. Shutting the
    lifeline down lets go. The worker is process 1 of a PID namespace, so that no child of it can
    outlive it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    most_bytes = psutil.Process().memory_info().vms + MEMORY_BYTES
    uid = None
    if isolation != "process" and os.getuid() == 0:
        uid = FIRST_UID + secrets.randbelow(UIDS)
    supervisor = 0  # as seen from inside
    folder = SCRATCH
    if isolation == "bubblewrap":
        kernel.system("unshare", kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
    else:
        supervisor, folder = os.getpid(), tempfile.mkdtemp(prefix="autograder-")
        if uid is not None:
            os.chown(folder, uid, uid)
        # Whose parent ends becomes a child of this process, and still counts.
        kernel.system("prctl", kernel.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(lifeline)
        _confine(folder, most_bytes, supervisor, isolation, uid)
        with socket.socket(fileno=channel_fd) as connection, contextlib.suppress(EOFError):
            connection.sendall(READY)
            _work(connection)
        os._exit(0)
    os.close(channel_fd)
    ending = _watch(child, lifeline)
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if isolation == "user" and uid is not None:
        _end_user(uid)
        _remove_files(uid)
    elif isolation != "bubblewrap":
        _end_orphans()
    with contextlib.suppress(OSError):
        os.write(lifeline, ENDING.pack(ending, status))
    if isolation != "bubblewrap":
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _end_orphans() -> None:
    """Kills what a worker left behind, of which this process is the parent now."""
    deadline = time.monotonic() + SECONDS_TO_KILL
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _end_user(uid: int) -> None:
    """Kills all processes of a user, wherever they have hidden: in one call that spares nobody, so
    that none can have a child in the meantime. He himself must make it, and they might be faster
    and kill him first; so he tries again."""
    deadline = time.monotonic() + SECONDS_TO_KILL
    while _runs_anything(uid) and time.monotonic() < deadline:
        killer = os.fork()
        if killer == 0:
            _become(uid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        os.waitpid(killer, 0)


def _remove_files(uid: int) -> None:
    """Removes what a user, whose processes have ended, left where everybody may write: it would
    fill the disk or the memory of those who come after."""
    for place in SHARED:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid != uid:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        os.unlink(entry.path)


def _runs_anything(uid: int) -> bool:
    """Whether a user has a process that isn't dead."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.uids().real == uid and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _become(uid: int) -> None:
    """Changes from root to another user, for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _watch(child: int, lifeline: int) -> Ending:
    """Waits for a worker's end, or for a reason to end it."""
    ended = os.pidfd_open(child)
    allowance, most_seconds = 0.0, float("inf")
    due = time.monotonic() + SECONDS_PER_CHECK
    while True:
        waiting = max(0.0, due - time.monotonic())
        readable, _, _ = select.select([lifeline, ended], [], [], waiting)
        if ended in readable:
            return Ending.ITSELF
        if readable:
            message = os.read(lifeline, 4096)
            if not message:  # A worker that is about to end by itself does so now.
                return Ending.ITSELF if select.select([ended], [], [], 0.5)[0] else Ending.RELEASED
            (allowance,) = ALLOWANCE.unpack(message[-ALLOWANCE.size :])
            most_seconds = 0.0  # to be set at the next look
        if time.monotonic() >= due:
            held, seconds = _usage()
            if held > TOTAL_MEMORY_BYTES and _held_once() > TOTAL_MEMORY_BYTES:
                return Ending.MEMORY
            most_seconds = most_seconds or seconds + allowance
            if seconds > most_seconds:
                return Ending.PROCESSOR_TIME
            due = time.monotonic() + SECONDS_PER_CHECK


def _usage() -> tuple[int, float]:
    """The memory in bytes and the processor time in seconds of this process's descendants; what
    several of them share, as forks do, counts for each."""
    held, seconds = 0, 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                # As bytes: a process may call itself what is no text.
                with open(f"/proc/{member.pid}/status", "rb") as status:
                    fields = [line.split() for line in status]
                held += sum(1024 * int(words[1]) for words in fields if words[0] in HELD)
                seconds += sum(member.cpu_times()[:4])
    return held, seconds


def _held_once() -> int:
    """The memory in bytes of this process's descendants, where what n processes share counts 1/n
    for each of them; it takes the kernel far longer to tell than what _usage asks for, and where
    it refuses, that has to do."""
    held = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                try:
                    memory = member.memory_full_info()
                except psutil.AccessDenied:
                    return _usage()[0]
                with open(f"/proc/{member.pid}/status", "rb") as status:
                    tables = [line.split()[1] for line in status if line.startswith(b"VmPTE:")]
                held += memory.pss + memory.swap + 1024 * sum(map(int, tables))
    return held


def _confine(
    folder: str, most_bytes: int, supervisor: int, isolation: str, uid: int | None
) -> None:
    """Takes from this process what a student's code doesn't need."""
    with contextlib.suppress(OSError):  # Where memory runs out, let it be this process that ends.
        Path("/proc/self/oom_score_adj").write_text("1000")
    if isolation == "bubblewrap":
        kernel.system("unshare", kernel.CLONE_NEWNS)
        _hide_other_processes()
        for place in (SCRATCH.encode(), b"/dev/shm"):
            size = f"mode=1777,size={FILE_BYTES},nr_inodes={FILES}".encode()
            flags = kernel.MS_NOSUID | kernel.MS_NODEV
            kernel.system("mount", b"tmpfs", place, b"tmpfs", flags, size)
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    for limit, value in (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    if uid is not None:
        _become(uid)
    if isolation != "process":
        kernel.drop_capabilities()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    kernel.die_with_parent(supervisor)  # only now: a change of user would undo it
    # In a network namespace of its own, a worker may have all the network that there is.
    families = kernel.LOCAL_FAMILIES if isolation == "user" else kernel.SOCKET_FAMILIES
    kernel.filter_system_calls(families)


def _hide_other_processes() -> None:
    """Gives this PID namespace a /proc of its own; an empty one where the kernel forbids that."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    try:
        kernel.system("mount", b"proc", b"/proc", b"proc", flags, None)
    except OSError:
        kernel.system("mount", b"tmpfs", b"/proc", b"tmpfs", flags, b"mode=555,size=4k")


class _Unpickler(pickle.Unpickler):
    """Reads requests; what stays in the worker comes as ("name", …) or ("handle", …)."""

    def __init__(self, request: bytes, namespace: dict, kept: list) -> None:
        super().__init__(io.BytesIO(request))
        self.places: dict[str, Any] = {"name": namespace, "handle": kept}
        self.own: list[Any] = []  # what stood in the request for something that lives here

    def persistent_load(self, key: tuple[str, Any]) -> Any:
        kind, which = key
        if kind == "name" and which not in self.places["name"]:
            raise NameError(f"{which} is not defined")
        self.own.append(self.places[kind][which])
        return self.own[-1]


def _work(connection: socket.socket) -> None:
    """Answers requests until the tester is gone.

    A request is one of
        ("run", title, source): executes a cell;
        ("names", names): what the student's names stand for, those that are defined;
        ("call", function, arguments, keywords): calls something, and tells in `changes` what that
            changed in the arguments, as (path, aspect, new state), the positional arguments being
            called "0", "1", …;
        ("beside", helper, arguments): calls a helper of the tests, which came with the request.
    A reply has `result` or `error`, and after a call `changes`.
    """
    module = ModuleType("__main__")
    sys.modules["__main__"] = sys.modules["lab"] = module
    kept: list = []
    while True:
        request = channel.receive_request(connection)
        reply: dict[str, Any] = {}
        try:
            unpickler = _Unpickler(request, module.__dict__, kept)
            kind, *content = unpickler.load()
            if kind == "run":
                title, source = content
                exec(compile(source, f"<{title}>", "exec"), module.__dict__)
            elif kind == "names":
                found = [name for name in content[0] if name in module.__dict__]
                reply["result"] = {name: module.__dict__[name] for name in found}
            elif kind == "beside":
                helper, arguments = content
                reply["result"] = helper(*arguments)
            else:
                function, arguments, keywords = content
                named = {str(place): value for place, value in enumerate(arguments)} | keywords
                before = Snapshot(named, unpickler.own)
                try:
                    reply["result"] = function(*arguments, **keywords)
                except BaseException as error:  # A test may expect it, and go on.
                    reply["error"] = _describe(error)
                reply["changes"] = [
                    (change.path, change.aspect, change.new) for change in before.changes()
                ]
        except BaseException as error:
            reply = {"error": _describe(error)}
        try:
            channel.send_reply(connection, reply, kept)
        except (OSError, EOFError):
            raise
        except BaseException as error:
            channel.send_reply(connection, {"error": _describe(error)}, kept)


def _describe(error: BaseException) -> dict:
    """An exception as data: its builtin type, its message, and where it was raised: the cell's
    title and the line in it."""
    kind = next(c for c in type(error).__mro__ if c.__module__ == "builtins")
    title, line = "", 0
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith("<") and not frame.filename.startswith("<frozen"):
            title, line = frame.filename[1:-1], frame.lineno or 0
    if isinstance(error, SyntaxError):
        title, line, message = str(error.filename)[1:-1], error.lineno or 0, str(error.msg)
    else:
        message = str(error)
    return {"kind": kind.__name__, "message": message[:500], "title": title, "line": line}


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and torch, so that a grade can be repeated."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # torch.manual_seed asks every kind of device


def main() -> None:
    """The entry point; see the module's docstring."""
    control = socket.socket(fileno=int(sys.argv[1]))
    torch.set_num_threads(1)  # A fork of a process with threads isn't safe.
    # This module too, which requests name: a worker may not be allowed to read it.
    for name in ("autograder.grading.worker", *sys.argv[3:]):
        importlib.import_module(name)
    # Hooks are told apart by numbers, and those on a tester's module come with the tester's.
    torch.utils.hooks.RemovableHandle.next_id = 10**9
    gc.collect()
    gc.freeze()  # No fork need copy what is only looked at.
    kernel.collapse_memory()
    control.send(b"ready")
    serve(control, isolation=sys.argv[2])


if __name__ == "__main__":
    main()
