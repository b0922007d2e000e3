"""Starts workers in a bubblewrap sandbox and talks to them: the trusted side of worker.py."""

import builtins
import contextlib
import copy
import io
import os
import pickle
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

import utils
from autograder.authoring.lab import PACKAGE, ROOT
from autograder.authoring.reference import MODULE
from autograder.grading import channel, kernel
from autograder.grading.job import GraderFailed, Isolation, SandboxUnavailable
from autograder.grading.memory_group import memory_group
from autograder.grading.worker import (
    ALLOWANCE,
    ENDING,
    READY,
    SCRATCH,
    TOTAL_MEMORY_BYTES,
    Ending,
)
from utils.changes import ASPECTS, Change, apply, reachable
from utils.guard import call_in_words, one_image

# A call's limit counts processor time, of all of the worker's processes, so that a loaded machine
# costs nobody points; the limits on wall time behind it are for what sleeps. A submission's spans
# everything that is done to it.
SECONDS_PER_CALL = 20.0
WALL_SECONDS_PER_CALL = 120.0
SECONDS_PER_SUBMISSION = 900.0
START_SECONDS = 120.0
SECONDS_TO_END = 30.0
MOST_SAID_BYTES = 2**20  # of what the warm process says on stderr
# Of the warm process and a worker with all its processes: more than the supervisor lets a worker
# have, which is told more exactly, but takes a look to be seen.
GROUP_BYTES = TOTAL_MEMORY_BYTES + 2 * 2**30
# Joins a group before anything else; where that can't be, the supervisor's looks have to do.
JOIN = 'echo $$ > "$0" 2>/dev/null; exec "$@"'

# What a worker may see of this package: nothing that knows a test or a solution.
WORKER_FILES = (
    "__init__.py",
    "grading/__init__.py",
    "grading/worker.py",
    "grading/kernel.py",
    "grading/channel.py",
)
# What the warm process needs to make namespaces and then drop everything; a worker has none.
CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL")


class WorkerLost(BaseException):
    """The worker ended, or had to be ended; the message says why, for the student.

    Not an Exception, so that a test that expects an exception can't mistake it for one.
    """


class StudentError(Exception):
    """An exception in a student's code whose type isn't one of ERRORS; `kind` names it."""

    kind = "Exception"


# The only types that a reply can make the tester raise; each takes a message.
ERRORS = {
    kind.__name__: kind
    for kind in (
        *(ArithmeticError, AssertionError, AttributeError, EOFError, FileNotFoundError),
        *(FloatingPointError, ImportError, IndentationError, IndexError, KeyError, LookupError),
        *(MemoryError, ModuleNotFoundError, NameError, NotImplementedError, OSError),
        *(OverflowError, PermissionError, RecursionError, RuntimeError, StopIteration),
        *(SyntaxError, TabError, TimeoutError, TypeError, UnboundLocalError, ValueError),
        ZeroDivisionError,
    )
}
# Others are told by name, if it is one of Python's own.
NAMES = {name for name, kind in vars(builtins).items() if isinstance(kind, type)}


class RemoteObject:
    """Stands for a function or object that lives in the worker: call it, use its attributes.

    Args:
        worker: gives the worker of the moment.
        key: ("name", the student's name for it) or ("handle", a number from a reply).
        parameters: what its positional arguments are called.
        allowed: what it may change in its arguments, as in an exercise's header.
        forbidden: finds in the submission's sources what it calls but must not.
    """

    def __init__(
        self,
        worker: Callable[[], "Worker"],
        key: tuple[str, Any],
        parameters: Sequence[str] = (),
        allowed: Collection[str] = (),
        forbidden: Callable[[], list[str]] = list,
    ) -> None:
        self._worker, self._key, self._parameters, self._allowed = worker, key, parameters, allowed
        self._forbidden = forbidden
        self.left: list[str] = []  # what it may not change and did, in calls that raised something

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Calls it with copies of the arguments.

        Raises:
            AssertionError: it changed something in its arguments that it may not change.
            WorkerLost, Exception: as Worker.call.
        """
        return self._call(arguments, keywords)[0]

    def call_on_copies(self, *arguments: Any, **keywords: Any) -> tuple:
        """See utils.changes.call_on_copies."""
        result, changes = self._call(arguments, keywords)
        copies, named = copy.deepcopy((arguments, keywords))
        try:
            apply(changes, _by_name(copies, named))
        except Exception as error:
            raise StudentError(f"{self!r} changed its arguments beyond description") from error
        return result, *copies

    def _call(self, arguments: tuple, keywords: dict[str, Any]) -> tuple[Any, list[Change]]:
        try:
            result, changes = self._worker().call(self, *arguments, **keywords)
        except Exception as error:
            if self._key[0] == "name":
                error.student_call = self._told(arguments, keywords)  # type: ignore[attr-defined]
            self.left += self._sentences(getattr(error, "changes", ()))
            raise
        for sentence in self._sentences(changes):
            raise AssertionError(sentence)
        return result, changes

    def _sentences(self, changes: Iterable[Change]) -> list[str]:
        """What is to be said of changes that aren't allowed."""
        told = [Change(self._path(change), change.aspect, None) for change in changes]
        return [change.sentence() for change in told if not change.is_allowed(self._allowed)]

    def _told(self, arguments: tuple, keywords: dict[str, Any]) -> tuple[str, bool]:
        """A call that raised an exception, in words, and whether it works for one image only."""
        named = {self._parameter(place): value for place, value in enumerate(arguments)} | keywords
        told, one = call_in_words(self._key[1], named), one_image(named)
        if one is None:
            return told, False
        try:
            values = list(one.values())[: len(arguments)]
            self._worker().call(self, *values, **{name: one[name] for name in keywords})
        except (Exception, WorkerLost):
            return told, False
        return told, True

    def _path(self, change: Change) -> str:
        """The change's path, with the name of the parameter in the place of its number."""
        if not change.root.isdigit():
            return change.path
        return self._parameter(int(change.root)) + change.path[len(change.root) :]

    def _parameter(self, place: int) -> str:
        """What the positional argument at this place is called."""
        known = place < len(self._parameters)
        return self._parameters[place] if known else f"argument {place + 1}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._worker().call(getattr, self, name)[0]

    def forbidden_calls(self) -> list[str]:
        """See utils.guard.check_without: nothing runs over there for it."""
        return self._forbidden()

    def run_beside(self, helper: Callable, *arguments: Any) -> Any:
        """Runs a helper over there, with the real object as its first argument; see
        utils.checks.run_beside."""
        return self._worker().beside(helper, self, *arguments)

    def __repr__(self) -> str:
        name = self._key[1] if self._key[0] == "name" else "object"
        return f"<the student's {name}>"


class _Pickler(pickle.Pickler):
    """Writes requests; what lives in the worker goes by its key."""

    def persistent_id(self, item: Any) -> tuple[str, Any] | None:
        return item._key if type(item) is RemoteObject else None

    def reducer_override(self, item: Any) -> Any:
        return channel.reduce_tensor(item) or NotImplemented


class _Helper:
    """A function of the tests on its way to the worker: by value, with all of the lab's and of
    utils' own functions that it uses, for by name it would find there what a student made of
    them."""

    def __init__(self, function: Callable) -> None:
        modules = [sys.modules[MODULE], utils]
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            self._pickled = cloudpickle.dumps(function)
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)

    def __reduce__(self) -> tuple:
        return pickle.loads, (self._pickled,)


def _result(reply: dict[str, Any]) -> Any:
    """A reply's result; raises its error, if it has one."""
    if reply["error"]:
        raise reply["error"]
    return reply["result"]


def _by_name(arguments: tuple, keywords: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments under the names that a worker's changes go by."""
    return {str(place): value for place, value in enumerate(arguments)} | keywords


class Worker:
    """One worker process, in which one submission's code runs.

    Args:
        lifeline: closing it kills the worker and all its children; it tells how the worker ended.
        deadline: when the submission's time is over, on time.monotonic's clock.
        sandbox: what forked it.
    """

    def __init__(
        self,
        connection: socket.socket,
        lifeline: socket.socket,
        deadline: float,
        sandbox: "Sandbox",
    ) -> None:
        self._connection, self._lifeline, self._deadline = connection, lifeline, deadline
        self._lines: dict[str, int] = {}  # of every cell that was run, by its title
        self._sandbox = sandbox
        self._memory_kills = sandbox.memory_kills()
        self.lost: WorkerLost | None = None

    def run(self, title: str, source: str) -> None:
        """Executes a cell; raises its exception as `call` does."""
        self._lines[title] = source.count("\n") + 1
        _result(self._request(("run", title, source)))

    def names(self, names: Collection[str]) -> dict[str, Any]:
        """What the student's names stand for: data, or stand-ins; without those not defined."""
        found = _result(self._request(("names", sorted(names))))
        return {name: found[name] for name in names if name in found}

    def call(self, function: Any, *arguments: Any, **keywords: Any) -> tuple[Any, list[Change]]:
        """Calls a function with pickled copies of the arguments.

        Returns:
            The result, and what the function changed in its copies; the arguments here stay as
            they are. Paths begin with an argument's keyword, or its number from 0 on.

        Raises:
            WorkerLost: the worker died, took too long, or sent what isn't a result.
            Exception: what the function raised, as its nearest type in ERRORS; its `changes` are
                what it had changed by then.
        """
        reply = self._request(("call", function, arguments, keywords))
        try:
            changes = [Change(*change) for change in reply["changes"]]
            if changes:
                paths = {"torch", *(path for path, _ in reachable(_by_name(arguments, keywords)))}
                assert all(change.path in paths and change.aspect in ASPECTS for change in changes)
        except Exception:
            raise self._lose("returned something that isn't a result") from None
        if reply["error"]:
            reply["error"].changes = changes
        return _result(reply), changes

    def beside(self, helper: Callable, *arguments: Any) -> Any:
        """Calls a helper of the tests over there, itself sent along; raises as `call` does, and the
        exception's `sentences` are those that the helper can say."""
        reply = self._request(("beside", _Helper(helper), arguments))
        if reply["error"]:
            code = getattr(helper, "__code__", None)
            reply["error"].sentences = getattr(code, "co_consts", ())
        return _result(reply)

    def _request(self, request: tuple) -> dict[str, Any]:
        if self.lost:
            raise self.lost
        pickled = io.BytesIO()
        _Pickler(pickled, protocol=pickle.HIGHEST_PROTOCOL).dump(request)
        deadline = self._begin()
        try:
            channel.send_request(self._connection, pickled.getvalue(), deadline)
            reply = channel.receive_reply(self._connection, deadline)
            error = self._error(reply["error"]) if "error" in reply else None
            reply = {"result": None, "changes": [], **self._localise(reply), "error": error}
        except TimeoutError:
            raise self._lose(self._late(deadline)) from None
        except EOFError:
            raise self._lose(None) from None
        except channel.ChannelError as broken:
            raise self._lose(f"returned {broken}") from None
        except Exception:
            raise self._lose("returned something that isn't a result") from None
        return reply

    def _error(self, told: dict[str, Any]) -> Exception:
        """The exception to raise here for one that was raised over there. Its `student_place` is
        the line of the student's cell that raised it, or "" where no such line did."""
        kind, message = str(told["kind"]), str(told["message"])
        error: Exception = ERRORS.get(kind, StudentError)(message)
        if isinstance(error, StudentError) and kind in NAMES:
            error.kind = kind
        title, line = str(told["title"]), int(told["line"])
        known = 0 < line <= self._lines.get(title, 0)
        error.student_place = f"line {line} of {title}" if known else ""  # type: ignore[attr-defined]
        return error

    def _localise(self, value: Any) -> Any:
        """Puts stand-ins in the place of handles."""
        if type(value) is channel.Handle:
            return RemoteObject(lambda: self, ("handle", value.number))
        if type(value) in (list, tuple):
            return type(value)(self._localise(item) for item in value)
        if type(value) is dict:
            return {key: self._localise(item) for key, item in value.items()}
        return value

    def _begin(self) -> float:
        """Tells the supervisor that a call begins; gives the time by which it must have ended."""
        with contextlib.suppress(OSError):  # Whether it is gone, the connection will show.
            self._lifeline.send(ALLOWANCE.pack(SECONDS_PER_CALL))
        return min(time.monotonic() + WALL_SECONDS_PER_CALL, self._deadline)

    def _late(self, deadline: float) -> str:
        if deadline == self._deadline:
            return f"could not run: the notebook took {SECONDS_PER_SUBMISSION:.0f} s in all"
        return f"did not finish within {WALL_SECONDS_PER_CALL:.0f} s: does it wait for something?"

    def _lose(self, reason: str | None) -> WorkerLost:
        """Ends the worker. Without a reason, finds out why it had ended.

        Raises:
            GraderFailed: that isn't the student's doing.
        """
        ending, status = self.close()
        if reason is None:
            reason = self._why(ending, status)
        self.lost = WorkerLost(reason)
        return self.lost

    def _why(self, ending: Ending | None, status: int) -> str:
        if ending is None:
            raise GraderFailed(f"the sandbox ended: {self._sandbox.said()}")
        if ending is Ending.MEMORY or self._sandbox.memory_kills() > self._memory_kills:
            return f"took too much memory, more than {TOTAL_MEMORY_BYTES / 2**30:g} GiB"
        if ending is Ending.PROCESSOR_TIME:
            return (
                f"did not finish within {SECONDS_PER_CALL:.0f} s of processor time: an endless"
                " loop?"
            )
        if ending is Ending.RELEASED:
            return "closed its connection to the grader"
        if os.WIFEXITED(status):
            return f"ended the process (exit status {os.WEXITSTATUS(status)})"
        if os.WTERMSIG(status) != signal.SIGKILL:
            return f"crashed the process ({signal.strsignal(os.WTERMSIG(status))})"
        # In its PID namespace a worker can't kill itself: this came from outside.
        if not self._sandbox.last_attempt:
            raise GraderFailed("a worker was killed from outside: is the machine out of memory?")
        return "was stopped by the system: too much memory?"

    def close(self) -> tuple[Ending | None, int]:
        """Ends the worker with all its children. Returns why it had ended, None where nobody can
        tell, and its status as os.wait tells it."""
        self._connection.close()
        message = b""
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)
            self._lifeline.settimeout(SECONDS_TO_END)
            message = self._lifeline.recv(ENDING.size)
        self._lifeline.close()
        if len(message) != ENDING.size:
            return None, 0
        ending, status = ENDING.unpack(message)
        return Ending(ending), status


class Sandbox:
    """A warm process that forks a worker in 10 to 40 ms; use it as a context manager.

    Args:
        modules: what the warm process imports beforehand, so that no worker has to.
        isolation: "bubblewrap", or "process" for limits on time and memory only, or "user" for
            these and a user of its own, who has no network; only root can give it that.

    Attributes:
        last_attempt: whether a submission isn't tried again, so that a worker that is killed from
            outside must be the student's doing, as where it makes the machine run out of memory.

    Raises:
        SandboxUnavailable: bubblewrap is missing or may not make namespaces here; or this isn't
            root, who alone can change the user.
    """

    def __init__(self, modules: Iterable[str], isolation: Isolation = "bubblewrap") -> None:
        if isolation == "user" and os.getuid() != 0:
            raise SandboxUnavailable("only root can give every submission a user of its own")
        self.last_attempt = False
        self._control, theirs = socket.socketpair()
        confined = isolation == "bubblewrap"
        command = [sys.executable, "-P", "-m", "autograder.grading.worker", str(theirs.fileno())]
        command += [isolation, *modules]
        scratch = SCRATCH if confined else "/tmp"
        variables = {
            "HOME": scratch,
            "MPLBACKEND": "agg",
            "MPLCONFIGDIR": scratch,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin")),
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "TMPDIR": scratch,
            "USER": "student",
        }
        if confined:
            command = [*_bubblewrap(), *command]
        if kernel.filter_program(platform.machine()) is None:
            warnings.warn(
                f"there is no filter of system calls for {platform.machine()}: a submission may"
                " hold more memory than its limit says, and reaches more of the kernel",
                stacklevel=2,
            )
        # Elsewhere files in memory may outlast a worker, and would count for the next one.
        self._group = memory_group(GROUP_BYTES) if confined else None
        if self._group:
            command = ["/bin/sh", "-c", JOIN, str(self._group.processes), *command]
        # A file, not a pipe: nobody need read it for the other side to go on.
        self._stderr = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env=variables,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )
        theirs.close()
        self._control.settimeout(START_SECONDS)
        answer = b""
        with contextlib.suppress(OSError):
            answer = self._control.recv(5)
        if answer != b"ready":
            said = self.said()
            self.close()
            raise SandboxUnavailable(
                f"the sandbox did not start ({said});"
                " mend that, or grade without it by --isolation process, which lets submissions"
                " read this machine's files"
            )

    def worker(self, deadline: float) -> Worker:
        """Forks a fresh worker, which must be done by the deadline on time.monotonic's clock.

        Raises:
            GraderFailed: there is none to be had; no student's code has run.
        """
        if os.fstat(self._stderr.fileno()).st_size > MOST_SAID_BYTES:
            self._stderr.truncate(0)
            self._stderr.seek(0)  # For the warm process too: it writes where this file stands.
        (connection, theirs), (lifeline, their_lifeline) = socket.socketpair(), socket.socketpair()
        connection.settimeout(START_SECONDS)
        try:
            with theirs, their_lifeline:
                descriptors = [theirs.fileno(), their_lifeline.fileno()]
                socket.send_fds(self._control, [b"f"], descriptors)
            ready = connection.recv(len(READY)) == READY
        except OSError:
            ready = False
        if not ready:
            connection.close()
            lifeline.close()
            raise GraderFailed(f"the sandbox started no worker: {self.said()}")
        return Worker(connection, lifeline, deadline, self)

    def works(self) -> bool:
        """Whether it still starts workers."""
        try:
            self.worker(time.monotonic() + START_SECONDS).close()
        except GraderFailed:
            return False
        return True

    def memory_kills(self) -> int:
        """How often the kernel has ended one of its processes for the memory that they hold."""
        return self._group.kills() if self._group else 0

    def said(self) -> str:
        """The last line of what the warm process has said on stderr."""
        place = max(0, os.fstat(self._stderr.fileno()).st_size - 4096)
        said = os.pread(self._stderr.fileno(), 4096, place).decode(errors="replace")
        return (said.strip().splitlines() or ["no reason given"])[-1]

    def close(self) -> None:
        """Ends the warm process and every worker."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._stderr.close()
        if self._group:
            self._group.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bubblewrap() -> list[str]:
    """The command that confines what follows it: no network, nothing writable but SCRATCH, and
    nothing to read but the system's libraries, this Python, utils/ and the worker itself."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(
            "bubblewrap is needed to run submissions safely and was not found: install it"
            " (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap), or"
            " grade without it by --isolation process, which lets submissions read this"
            " machine's files"
        )
    command = [program, "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid"]
    command += ["--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.getuid() != 0:
        command += ["--unshare-user"]
    for capability in CAPABILITIES:
        command += ["--cap-add", capability]
    for place in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache"):
        command += ["--ro-bind-try", place, place]
    visible = {Path(sys.prefix), Path(sys.base_prefix), ROOT / "utils"}
    visible = {path for path in visible if not path.is_relative_to("/usr")}
    # bubblewrap makes missing parents for root alone; a worker, who isn't root, must pass them.
    for parent in sorted({parent for p in (*visible, PACKAGE) for parent in p.parents[:-1]}):
        command += ["--perms", "0755", "--dir", str(parent)]
    for path in sorted(visible):
        command += ["--ro-bind", str(path), str(path)]
    # Of this package only the worker's files, also where it lies among installed ones.
    command += ["--tmpfs", str(PACKAGE)]
    files = [PACKAGE / name for name in WORKER_FILES]
    for parent in sorted({file.parent for file in files}):
        command += ["--perms", "0755", "--dir", str(parent)]
    for file in files:
        command += ["--ro-bind", str(file), str(file)]
    command += ["--remount-ro", str(PACKAGE)]
    if not any(path.is_relative_to("/tmp") for path in visible):
        command += ["--symlink", SCRATCH, "/tmp"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", SCRATCH]
    command += ["--ro-bind", "/dev/null", "/dev/zero"]  # Shared memory that no limit counts.
    return [*command, "--remount-ro", "/"]
