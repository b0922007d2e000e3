"""One submission harms nobody else, and a fault of the grader is nobody's zero.

Each harmful submission stands in the middle of a class of three; its neighbours' results must be
the same, byte for byte, as without it.
"""

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import Grader, Here, message, points

from autograder.course.gradebook import summary
from autograder.grading import grade as grading
from autograder.grading import kernel, sandbox, worker
from autograder.grading.grade import find_submissions, grade_class
from autograder.grading.job import GraderFailed, Job, Result, SandboxUnavailable, student_name
from autograder.grading.sandbox import Sandbox

LATIN_1 = os.fsdecode(b"m\xfcller")
RIGHT = "def double(x):\n    return 2 * x"


UNDISTURBED: list[str] = []  # the neighbours' results where nobody stands between


class Class:
    """A class with ada at its beginning and zoe at its end, and whoever comes between."""

    def __init__(self, grader: Grader, folder: Path) -> None:
        self.grader, self.folder = grader, folder / "class"
        self.results = folder / "results"
        self.folder.mkdir()
        self.hand_in("ada.ipynb")
        self.hand_in("zoe.ipynb", double="def double(x):\n    return x * x")
        self.undisturbed = UNDISTURBED or self.neighbours(self.grade())
        UNDISTURBED[:] = self.undisturbed

    def hand_in(self, name: str, **answers: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        # Not nbformat.writes, which minds half characters.
        path.write_text(json.dumps(self.grader.notebook(**answers)))
        return path

    def grade(self) -> dict[str, Result]:
        """Grades all anew, one after the other, in this process."""
        for path in self.results.glob("*"):
            path.unlink()
        jobs = [
            Job(student, path, self.grader.lab.solution_path, 0)
            for student, path in find_submissions(self.folder).items()
        ]
        return grade_class(jobs, self.results, executor=Here())

    def neighbours(self, graded: dict[str, Result]) -> list[str]:
        for student in ("ada", "zoe"):
            graded[student].seconds = 0
        return [graded[student].to_json() for student in ("ada", "zoe")]

    def middle(self) -> Result:
        """The result of whoever is in the middle, once the neighbours are found as they were."""
        graded = self.grade()
        assert self.neighbours(graded) == self.undisturbed
        (student,) = set(graded) - {"ada", "zoe"}
        written = Result.read(self.results / f"{student}.json")
        assert written == graded[student]
        assert {path.name for path in self.results.iterdir()} == {f"{s}.json" for s in graded}
        return written


@pytest.fixture
def students(grader: Grader, tmp_path: Path) -> Class:
    return Class(grader, tmp_path)


NAMES = {
    "latin-1": LATIN_1,
    "long": "x" * 249,
    "long and not ascii": "é" * 124,
    "like a path": "a∕b⁄c／d..",
    "line break": "a\nb",
    "escape": "\x1b[31mred",
    "right to left": "\u202eeve",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_that_are_no_text(students: Class, name: str) -> None:
    students.hand_in(f"{name}.ipynb")
    assert students.middle().score == 10


def test_no_two_names_become_one() -> None:
    long = "x" * 300
    names = [LATIN_1, "m\ufffdller", "müller", long, long + "y", "x" * 240, "a\nb", "a\tb", "a b"]
    given = [student_name(name) for name in names]
    # Whoever knows how another is called in the end can't be called so.
    forged = [student_name(name) for name in given]
    assert len(set(given)) == len(names)
    assert {new for new, old in zip(forged, given, strict=True) if new != old}.isdisjoint(given)
    for name in (*given, *forged):
        assert len(f"{name}.json".encode()) <= 255
        assert "\n" not in name
    assert student_name("Zoë 李") == "Zoë 李"


def test_python_file_of_such_a_name_beside_the_notebook(students: Class) -> None:
    path = students.hand_in("middle/01_mini.ipynb")
    (path.parent / f"{LATIN_1}.py").write_text("")
    assert students.middle().flags == [
        "Python files beside the notebook, which were ignored: m\\udcfcller.py"
    ]


@pytest.mark.parametrize("character", ["\ud83d", "\x00", "\x1b[2J"])
def test_characters_that_are_no_text(students: Class, character: str) -> None:
    students.hand_in("middle.ipynb", double=f"{RIGHT}  # {character}", why=f"Why? {character}")
    middle = students.middle()
    assert middle.status == "graded"
    assert character not in middle.answers["why"]
    students.hand_in("middle.ipynb", double=f"def double(x):\n    raise ValueError({character!r})")
    assert points(students.middle())["double"] == 0


def test_warnings_and_prints_go_nowhere(students: Class) -> None:
    flood = """
import os, sys
for descriptor in (1, 2):
    os.write(descriptor, bytes(2**18))
print("x" * 2**18, file=sys.stderr)
os.write(2, b"said by a student")
"""
    students.hand_in("middle.ipynb", double=flood + RIGHT)
    assert students.middle().score == 10
    _, _, warm = grading._warmed[students.grader.lab.solution_path, "bubblewrap"]
    assert "student" not in warm.said()


def test_what_the_warm_process_says_is_bounded(warm: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SAID_BYTES", 100)
    os.write(warm._stderr.fileno(), b"early\n" * 100)
    warm.worker(time.monotonic() + 60).close()
    os.write(warm._stderr.fileno(), b"late\n")
    assert warm.said() == "late"
    assert os.fstat(warm._stderr.fileno()).st_size == 5


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable], None]]:
    """Sets what happens in the grading process as soon as it reads the submission that says so."""
    normalise = grading.normalise

    def set_deed(deed: Callable) -> None:
        def normalise_or_die(content: bytes, *arguments):
            if b"a deadly one" in content:
                deed()
            return normalise(content, *arguments)

        monkeypatch.setattr(grading, "normalise", normalise_or_die)

    yield set_deed


def warm_process(students: Class) -> psutil.Process:
    _, _, warm = grading._warmed[students.grader.lab.solution_path, "bubblewrap"]
    return psutil.Process(warm._process.pid)


FAULTS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "Killed"),
    "ended": (lambda: os._exit(0), "without a result"),
    "out of memory": (lambda: bytearray(2**36), "MemoryError"),
    "a fault": (lambda: 1 / 0, "division by zero"),
}


@pytest.mark.parametrize(("deed", "said"), FAULTS.values(), ids=FAULTS)
def test_faults_of_the_grader_are_no_grade(
    students: Class, deadly, deed: Callable, said: str
) -> None:
    students.hand_in("middle.ipynb", why="a deadly one")
    deadly(deed)
    middle = students.middle()
    assert (middle.status, middle.score, middle.fingerprint) == ("failed", 0, "")
    assert said in middle.reason
    assert summary(middle) == middle.reason
    deadly(lambda: None)  # As soon as it works, there is a grade.
    assert students.middle().score == 10


@pytest.mark.slow
@pytest.mark.parametrize("what", ["bubblewrap", "warm process", "stopped"])
def test_sandbox_that_dies_costs_nothing(
    students: Class, deadly, monkeypatch, tmp_path: Path, what: str
) -> None:
    monkeypatch.setattr(sandbox, "START_SECONDS", 30.0)  # a busy machine starts slowly
    students.hand_in("middle.ipynb", why="a deadly one")
    once = tmp_path / "once"

    def end_the_sandbox() -> None:
        if not once.exists():
            once.touch()
            process = warm_process(students)
            if what != "bubblewrap":
                process = process.children(recursive=True)[-1]
            process.send_signal(signal.SIGSTOP if what == "stopped" else signal.SIGKILL)

    deadly(end_the_sandbox)
    middle = students.middle()
    assert (middle.status, middle.score) == ("graded", 10)
    assert once.exists()


@pytest.fixture(scope="module")
def warm() -> Iterator[Sandbox]:
    with Sandbox(["torch"]) as sandbox:
        yield sandbox


def workers_of(warm: Sandbox) -> list[psutil.Process]:
    """The supervisor and the worker, if one is running."""
    return psutil.Process(warm._process.pid).children(recursive=True)[2:]


@pytest.mark.parametrize("which", [0, 1], ids=["supervisor", "worker"])
def test_worker_that_is_killed_from_outside_is_no_fault_of_the_students(
    warm: Sandbox, monkeypatch, which: int
) -> None:
    for last_attempt, error in ((False, GraderFailed), (True, sandbox.WorkerLost)):
        monkeypatch.setattr(warm, "last_attempt", last_attempt)
        patient = warm.worker(time.monotonic() + 60)
        both = workers_of(warm)
        both[which].kill()
        _, left = psutil.wait_procs(both, timeout=10)  # Neither goes on without the other.
        assert not left
        # Where a worker is killed again and again, it is the student who makes that happen.
        with pytest.raises(error if which == 1 else GraderFailed):
            patient.run("cell", "pass")


EXCUSES = {
    "closes its connection": (
        """
import os
def double(x):
    os.closerange(0, 256)
    while True: pass
""",
        "closed its connection to the grader",
    ),
    "has a name that is no text": (
        """
import ctypes
ctypes.CDLL(None).prctl(15, b"\\xff\\n\\xfe", 0, 0, 0)
def double(x):
    while True: pass
""",
        "did not finish within 1 s of processor time",
    ),
}


@pytest.mark.parametrize(("source", "said"), EXCUSES.values(), ids=EXCUSES)
def test_students_doing_is_not_taken_for_a_fault_of_the_grader(
    students: Class, monkeypatch, source: str, said: str
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS_PER_CALL", 1.0)
    students.hand_in("middle.ipynb", double=source)
    middle = students.middle()
    assert points(middle) == {"double": 0, "score": 4, "answer": 1}
    assert said in message(middle, "double")


def test_machine_without_a_filter_is_told_of(monkeypatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr(sandbox, "START_SECONDS", 0.01)
    with (
        pytest.warns(UserWarning, match="no filter of system calls for riscv64"),
        pytest.raises(SandboxUnavailable),
    ):
        Sandbox(["torch"])


def test_reading_that_does_not_end_is_refused(students: Class, deadly, monkeypatch) -> None:
    students.hand_in("middle.ipynb", why="a deadly one")
    deadly(lambda: time.sleep(1000))
    monkeypatch.setattr(sandbox, "SECONDS_PER_SUBMISSION", 3.0)
    monkeypatch.setattr(grading, "SECONDS_BEYOND", 0.0)
    graded = students.grade()
    assert graded["middle"].status == "refused"
    assert "took more than 3 s" in graded["middle"].reason


def test_full_disk_is_no_grade(students: Class, monkeypatch) -> None:
    students.hand_in("middle.ipynb")
    write = Result.write

    def write_while_there_is_room(result: Result, path: Path) -> None:
        if result.student == "middle":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(result, path)

    monkeypatch.setattr(Result, "write", write_while_there_is_room)
    graded = students.grade()
    assert students.neighbours(graded) == students.undisturbed
    assert graded["middle"].status == "failed"
    assert "No space left" in graded["middle"].reason


def test_draft_that_can_not_be_written_leaves_nothing(students: Class, monkeypatch) -> None:
    result = students.grade()["ada"]
    before = (students.results / "ada.json").read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        result.write(students.results / "ada.json")
    assert (students.results / "ada.json").read_bytes() == before
    assert {path.name for path in students.results.iterdir()} == {"ada.json", "zoe.json"}


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_notebook_that_turns_into_something_else(students: Class, monkeypatch, kind: str) -> None:
    path = students.hand_in("middle.ipynb")
    find = grading.find_notebook

    def find_and_replace(found: Path, lab: str) -> Path:
        notebook = find(found, lab)
        if notebook == path:
            path.unlink()
            if kind == "pipe":
                os.mkfifo(path)
            elif kind == "link":
                path.symlink_to(students.folder / "ada.ipynb")
            else:
                path.mkdir()
        return notebook

    monkeypatch.setattr(grading, "find_notebook", find_and_replace)
    middle = students.middle()
    assert middle.status == "refused"
    assert "not a regular file" in middle.reason or "can't be read" in middle.reason


HOARDS = {
    "files without a name": """
import os
files = []
for _ in range(8):
    files.append(os.memfd_create('hoard'))
    for _ in range(64):
        os.write(files[-1], bytes(2**20))
""",
    "shared memory": """
import mmap, os
hoards = [mmap.mmap(-1, 2**20) for _ in range(512)]
""",
    "shared zeros": """
import mmap, os
zero = os.open('/dev/zero', os.O_RDWR)
hoards = [mmap.mmap(zero, 2**20) for _ in range(512)]
""",
    "system v": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.shmget(0, 2**28, 0o1600) < 0:
    raise OSError(ctypes.get_errno(), 'shmget')
""",
    "message queues": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.msgget(0, 0o1600) < 0:
    raise OSError(ctypes.get_errno(), 'msgget')
""",
    "files": """
for place in ('/scratch/', '/dev/shm/'):
    for number in range(2):
        with open(place + str(number), 'wb') as file:
            for _ in range(200):
                file.write(bytes(2**20))
""",
    "empty files": """
for number in range(20_000):
    open(f'/scratch/{number}', 'w').close()
""",
    "descriptors": """
files = [open('/dev/null') for _ in range(300)]
""",
    "host's sockets": "import socket\nsocket.socket(socket.AF_VSOCK)",
    "new namespaces": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) != 0:
    raise OSError(ctypes.get_errno(), 'unshare')
""",
}


@pytest.mark.parametrize("hoard", HOARDS.values(), ids=HOARDS)
def test_what_no_lab_needs_can_not_be_had(students: Class, hoard: str) -> None:
    students.hand_in("middle.ipynb", double=hoard + RIGHT)
    middle = students.middle()
    assert points(middle) == {"double": 0, "score": 4, "answer": 1}
    assert "Error" in message(middle, "double")


@pytest.mark.parametrize("machine", kernel.MACHINES)
def test_filter_names_the_system_calls_by_their_numbers(machine: str) -> None:
    import ctypes

    with contextlib.suppress(OSError):
        library = ctypes.CDLL("libseccomp.so.2")
        place, architecture, numbers = kernel.MACHINES[machine]
        named = {name: both[place] for name, both in kernel.DENIED.items()} | numbers
        resolve = library.seccomp_syscall_resolve_name_arch
        for name, number in named.items():
            assert resolve(ctypes.c_uint32(architecture), name.encode()) == number, name
        return
    pytest.skip("libseccomp isn't here to compare with")


def test_limit_of_a_call_is_processor_time(students: Class, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS_PER_CALL", 1.0)
    students.hand_in("middle.ipynb", double="import time\ntime.sleep(2)\n" + RIGHT)
    assert students.middle().score == 10  # Waiting isn't working: so a loaded machine costs nobody.
    students.hand_in("middle.ipynb", double="while True: pass")
    assert "did not finish within 1 s of processor time" in message(students.middle(), "double")
    spread = """
import os, time
def double(x):
    for _ in range(3):
        if os.fork() == 0:
            while True: pass
    time.sleep(1000)
"""
    students.hand_in("middle.ipynb", double=spread)
    assert "processor time" in message(students.middle(), "double")


def test_calls_do_not_share_a_limit(warm: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS_PER_CALL", 0.5)
    patient = warm.worker(time.monotonic() + 60)
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    for _ in range(3):
        patient.run("cell", burn)
    patient.close()


def test_call_that_sleeps_ends(warm: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_SECONDS_PER_CALL", 1.0)
    patient = warm.worker(time.monotonic() + 60)
    with pytest.raises(sandbox.WorkerLost, match="did not finish within 1 s: does it wait"):
        patient.run("cell", "import time\ntime.sleep(1000)")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives every submission a user of its own")
def test_submissions_of_two_graders_are_different_users(students: Class, warm: Sandbox) -> None:
    _, _, other = grading._warmed[students.grader.lab.solution_path, "bubblewrap"]
    uids = []
    for one in (warm, other):
        patient = one.worker(time.monotonic() + 60)
        uids.append(workers_of(one)[1].uids().real)
        patient.close()
    assert uids[0] != uids[1]
    assert min(uids) >= worker.FIRST_UID


def test_class_that_is_graded_by_two_at_once(students: Class) -> None:
    jobs = [
        Job(student, path, students.grader.lab.solution_path, 0)
        for student, path in find_submissions(students.folder).items()
    ]
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(grade_class, jobs, students.results, executor=Here()) for _ in range(2)]
        for run in runs:
            assert students.neighbours(run.result()) == students.undisturbed
    for student in ("ada", "zoe"):
        assert Result.read(students.results / f"{student}.json").status == "graded"


def test_failed_ones_stand_out(students: Class, deadly, capsys) -> None:
    from autograder import cli

    students.hand_in("middle.ipynb", why="a deadly one")
    deadly(lambda: 1 / 0)
    cli.show(list(students.grade().values()))
    assert "failed" in capsys.readouterr().out
