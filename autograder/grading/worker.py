"""The process that runs a student's code: forked from a warm interpreter, confined, and obedient.

Run as `python -m autograder.grading.worker FD MODULE…`, inside bubblewrap: imports the modules
once, then forks a worker for every pair of sockets that arrives over the control socket FD. This
process never runs a student's code itself. See sandbox.py for the trusted side, and channel.py for
what may pass between the two.
"""

import contextlib
import ctypes
import importlib
import io
import os
import pickle
import random
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from types import ModuleType
from typing import Any

import cloudpickle  # noqa: F401  (helpers come by it: imported here, before any fork)
import numpy as np
import psutil
import torch

from autograder.grading import channel
from utils.changes import Snapshot

MEMORY_BYTES = 2 * 2**30  # of address space for one process, beyond what the warm one has
TOTAL_MEMORY_BYTES = 4 * 2**30  # resident, of all processes of a submission together
PROCESSES = 16  # threads included
FILE_BYTES = 256 * 2**20
CPU_SECONDS = 600
SCRATCH = "/scratch"  # Not /tmp: the project itself may lie there.
FIRST_UID = 2**20  # Every submission gets a user of its own, so that limits count it alone.

# From the kernel's headers: sched.h, mount.h, prctl.h, capability.h.
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID = 0x00020000, 0x08000000, 0x20000000
MS_NOSUID, MS_NODEV = 2, 4
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _system(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def serve(control: socket.socket, confined: bool) -> None:
    """Forks a worker for every (channel, lifeline) that arrives, until the other side is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel reaps the supervisors.
    _system("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in range(2**30):
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            try:
                _supervise(*descriptors, uid=FIRST_UID + number, confined=confined)
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)


def _supervise(channel_fd: int, lifeline: int, *, uid: int, confined: bool) -> None:
    """Starts the worker, and kills all of it when it ends or when the tester lets go.

    The worker is process 1 of a PID namespace, so that no child of it can outlive it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    most_bytes = psutil.Process().memory_info().vms + MEMORY_BYTES
    if confined:
        _system("unshare", CLONE_NEWPID | CLONE_NEWIPC)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(lifeline)
        _confine(uid, most_bytes, confined)
        with socket.socket(fileno=channel_fd) as connection, contextlib.suppress(EOFError):
            _work(connection)
        os._exit(0)
    os.close(channel_fd)
    descriptors = [lifeline, os.pidfd_open(child)]
    while not any(select.select(descriptors, [], [], 0.25)) and _memory(child) < TOTAL_MEMORY_BYTES:
        pass
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        os.write(lifeline, struct.pack("!i", status))
    os._exit(0)


def _memory(process: int) -> int:
    """The resident memory, in bytes, of a process and its descendants; 0 where it has ended."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process)
        for member in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                usage = member.memory_info()
                total += usage.rss - usage.shared
    return total


def _confine(uid: int, most_bytes: int, confined: bool) -> None:
    """Takes from this process what a student's code doesn't need."""
    if confined:
        _system("unshare", CLONE_NEWNS)
        _hide_other_processes()
        for place in (SCRATCH.encode(), b"/dev/shm"):
            size = f"mode=1777,size={FILE_BYTES}".encode()
            _system("mount", b"tmpfs", place, b"tmpfs", MS_NOSUID | MS_NODEV, size)
    os.chdir(SCRATCH if confined else "/tmp")
    for limit, value in (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    if confined:
        for capability in range(64):
            _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
        _system("capset", header, struct.pack("6I", 0, 0, 0, 0, 0, 0))
    _system("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _hide_other_processes() -> None:
    """Gives this PID namespace a /proc of its own; an empty one where the kernel forbids that."""
    try:
        _system("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV, None)
    except OSError:
        _system("mount", b"tmpfs", b"/proc", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=555,size=4k")


class _Unpickler(pickle.Unpickler):
    """Reads requests; what stays in the worker comes as ("name", …) or ("handle", …)."""

    def __init__(self, request: bytes, namespace: dict, kept: list) -> None:
        super().__init__(io.BytesIO(request))
        self.places = {"name": namespace, "handle": kept}
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
    A reply has `result` and perhaps `changes`, or `error`.
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
                reply["result"] = function(*arguments, **keywords)
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
    for name in sys.argv[3:]:
        importlib.import_module(name)
    control.send(b"ready")
    serve(control, confined=sys.argv[2] == "confined")


if __name__ == "__main__":
    main()
