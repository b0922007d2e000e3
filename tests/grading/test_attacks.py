"""Ways to cheat or disturb: each gains nothing, harms nobody, and ends in a grade with a reason."""

import contextlib
import json
import os
import socket
import threading
import time

import nbformat
import psutil
import pytest
from conftest import Grader, message, points
from nbformat.v4 import new_code_cell, new_output

from autograder.authoring.lab import ROOT, read_lab
from autograder.authoring.release import release
from autograder.course import feedback, gradebook
from autograder.grading import sandbox, worker
from autograder.grading.grade import grade
from autograder.grading.job import Job

WRONG = "def double(x):\n    return 0.0 * x\n"
FAKED = {"double": 0, "score": 4, "answer": 1}

# Each is appended to a wrong answer; none of it may turn the wrong answer into points.
TRICKS = {
    "ast transformer": """
import ast
class Strip(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(Strip())
""",
    "input transformer": "get_ipython().input_transformers_cleanup.append(lambda lines: ['pass'])",
    "execution result": """
from IPython.core.interactiveshell import ExecutionResult
ExecutionResult.success = property(lambda self: True)
""",
    "displayhook": "import sys\nsys.displayhook(1000.0)\n1000.0",
    "nan as last expression": "float('nan')",
    "patched checks": """
import utils.checks
for name in dir(utils.checks):
    if name.startswith('check_'):
        setattr(utils.checks, name, lambda *a, **k: None)
""",
    "patched numpy and torch": """
import numpy, torch
torch.allclose = torch.equal = numpy.allclose = numpy.array_equal = lambda *a, **k: True
numpy.testing.assert_allclose = lambda *a, **k: None
numpy.max = numpy.abs = lambda *a, **k: 0.0
""",
    "patched builtins": """
import builtins
builtins.AssertionError = type('Calm', (Exception,), {})
builtins.abs = builtins.max = lambda *a, **k: 0
builtins.all = builtins.any = lambda *a: True
""",
    "patched kernel": """
import sys
for module in list(sys.modules.values()):
    for name in ('run_cell', 'do_execute', 'check_close'):
        if hasattr(module, name):
            setattr(module, name, lambda *a, **k: None)
""",
    "always equal": """
class Equal(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __le__(self, other): return True
    def __sub__(self, other): return Equal(0)
    __rsub__ = __lt__ = __ge__ = __gt__ = __le__
    def __float__(self): return 0.0
def double(x):
    return Equal(1)
""",
    "array protocol": """
class Chameleon:
    def __array__(self, *a, **k): return numpy.zeros(2)
    def __array_ufunc__(self, *a, **k): return numpy.zeros(2)
    def __array_function__(self, *a, **k): return True
    def __getattr__(self, name): return lambda *a, **k: True
import numpy
def double(x):
    return Chameleon()
""",
    "array subclass": """
import numpy
class Agreeable(numpy.ndarray):
    def __array_function__(self, *a, **k): return numpy.True_
    def __sub__(self, other): return numpy.zeros(self.shape)
    __rsub__ = __sub__
def double(x):
    return (0 * x).view(Agreeable)
""",
    "torch function": """
import torch
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, *a, **k): return torch.tensor(True)
def double(x):
    return torch.zeros(2).as_subclass(Yes)
""",
    "search for expected values": """
import gc, sys
import numpy
def double(x):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if isinstance(value, numpy.ndarray) and numpy.array_equal(value, 2 * x):
                return value
        frame = frame.f_back
    for value in gc.get_objects():
        if type(value).__name__ in ('SimpleNamespace', 'Lab') and hasattr(value, 'double'):
            return value.double(x)
    return 0 * x
""",
    "reading tests and solutions": f"""
import pathlib
def double(x):
    for root in (pathlib.Path({str(ROOT)!r}), pathlib.Path('/')):
        for path in (root / 'solutions').rglob('*.py'):
            return 2 * x
    import autograder.authoring.lab, autograder.authoring.reference
    return 2 * x
""",
    "history": "def double(x):\n    return 2 * x if 'check' in str(In[-1]) else 0 * x",
    "forged reply": """
import os, json, struct
def double(x):
    tree = json.dumps({'result': 1, 'changes': [], 'outcome': 'passed', 'points': 1000}).encode()
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, struct.pack('!III', len(tree), 0, 0) + tree)
        except OSError:
            pass
    return 0 * x
""",
    "pickle as reply": """
import os, pickle, struct
class Boom:
    def __reduce__(self): return (os.system, ('touch /tmp/boom',))
def double(x):
    content = pickle.dumps(Boom())
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, struct.pack('!III', len(content), 0, 0) + content)
        except OSError:
            pass
""",
    "exit": "import os\ndef double(x):\n    os._exit(0)",
    "exit while loading": "import os\nos._exit(0)",
    "kills itself": "import os, signal\ndef double(x):\n    os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes\ndef double(x):\n    return ctypes.string_at(0)",
    "large allocation": "def double(x):\n    return bytearray(3 * 2**30)",
    "large result": "import numpy\ndef double(x):\n    return numpy.zeros(2**27)",
    "deep result": """
def double(x):
    result = []
    for _ in range(10000):
        result = [result]
    return result
""",
    "wide result": "def double(x):\n    return [1] * 10**7",
    "recursive result": "def double(x):\n    a = []\n    a.append(a)\n    return a",
    "huge integer": "def double(x):\n    return 10 ** 100000",
    "output flood": """
import os, sys
def double(x):
    for _ in range(100):
        print('x' * 2**20)
        os.write(2, bytes(2**20))
    return 0 * x
""",
    "recursion": "def double(x):\n    return double(x)",
    "message with markup": "def double(x):\n    raise ValueError('<script>\\x1b[31m</script>')",
    "odd exception": """
class Odd(Exception):
    def __str__(self): raise RuntimeError
def double(x):
    raise Odd
""",
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_trick_gains_nothing(grader: Grader, trick: str) -> None:
    result = grader(grader.notebook(double=WRONG + trick))
    assert result.status == "graded"
    assert points(result) == FAKED
    assert message(result, "double")


def test_patching_the_worker_harms_only_the_patcher(grader: Grader) -> None:
    trick = """
import utils.changes
from autograder.grading import channel
utils.changes._same = utils.changes._state = lambda *arguments: None
utils.changes.Snapshot.changes = lambda *arguments: []
channel.Encoder.encode = lambda *arguments: {'tuple': []}
"""
    result = grader(grader.notebook(double=WRONG + trick))
    assert points(result)["double"] == 0
    assert grader(grader.notebook()).score == 10


@pytest.mark.parametrize(
    "loop",
    [
        "def double(x):\n    while True: pass",
        "while True: pass",
        "import signal\nfor s in range(1, 20):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except OSError: pass\ndef double(x):\n    while True: pass",
        "import time\ndef double(x):\n    time.sleep(10**6)",
        "def double(x):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass",
        # Sends a reply byte by byte, forever.
        "import os, time\ndef double(x):\n    while True:\n        for d in range(3, 64):\n"
        "            try: os.write(d, b'\\0')\n            except OSError: pass\n"
        "        time.sleep(0.01)",
    ],
)
def test_endless_loops_end(grader: Grader, monkeypatch, loop: str) -> None:
    monkeypatch.setattr(sandbox, "SECONDS_PER_CALL", 2.0)
    monkeypatch.setattr(sandbox, "WALL_SECONDS_PER_CALL", 6.0)
    result = grader(grader.notebook(double=WRONG + loop))
    assert points(result) == FAKED
    assert "did not finish within" in message(result, "double") or "isn't a result" in message(
        result, "double"
    )


def test_slow_notebook_ends(grader: Grader, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS_PER_SUBMISSION", 3.0)
    result = grader(grader.notebook(double="import time\ntime.sleep(100)", answer="answer = 42"))
    assert result.status == "graded"
    assert result.score == 0
    assert {test.outcome for test in result.tests} == {"lost"}


def processes_of_students() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.uids().real >= worker.FIRST_UID:
                found.append(process)
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives every submission a user of its own")
def test_children_do_not_outlive_the_grading(grader: Grader) -> None:
    bomb = """
import os, time
def double(x):
    try:
        while True:
            if os.fork() == 0:
                os.setsid()
                time.sleep(1000)
    except OSError:
        return 0 * x
"""
    before = {process.pid for process in processes_of_students()}
    result = grader(grader.notebook(double=bomb))
    assert points(result) == FAKED, result
    deadline = time.monotonic() + 10
    while {p.pid for p in processes_of_students()} - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not {process.pid for process in processes_of_students()} - before


def test_memory_of_all_children_together_is_limited(grader: Grader, monkeypatch) -> None:
    greedy = """
import os, time
def double(x):
    for _ in range(8):
        if os.fork() == 0:
            hoard = b'x' * 2**30
            time.sleep(1000)
    time.sleep(15)
    return 2 * x
"""
    result = grader(grader.notebook(double=greedy))
    assert points(result) == FAKED
    assert "too much memory" in message(result, "double")


PROBES = {
    "the project": f"open({str(ROOT / 'README.md')!r})",
    "the solutions": f"os.listdir({str(ROOT / 'solutions')!r})",
    "passwords": "open('/etc/passwd')",
    "other processes": "[p for p in os.listdir('/proc') if p.isdigit() and p != '1'][0]",
    "the environment": "os.environ['SECRET']",
    "writing": f"open({str(ROOT / 'utils' / 'new.py')!r}, 'w')",
    "writing to the system": "open('/usr/new', 'w')",
    "becoming root": "os.setuid(0)",
    "mounting": "ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0 or 1 / 0",
    "signals": "os.kill(os.getppid() or 10**9, 9)",
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_sandbox_has_walls(grader: Grader, monkeypatch, probe: str) -> None:
    monkeypatch.setenv("SECRET", "of the TA")
    source = f"import os, ctypes\ndef double(x):\n    {probe}\n    return 2 * x"
    result = grader(grader.notebook(double=source))
    assert points(result) == FAKED
    assert "Error" in message(result, "double")


def test_sandbox_has_no_network(grader: Grader) -> None:
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: (server.accept(), reached.set()), daemon=True).start()
        port = server.getsockname()[1]
        source = f"""
import socket
def double(x):
    socket.create_connection(("127.0.0.1", {port}), 2)
    return 2 * x
"""
        result = grader(grader.notebook(double=source))
        assert points(result) == FAKED
        assert "refused" in message(result, "double")
        assert not reached.is_set()
        socket.create_connection(("127.0.0.1", port)).close()
        assert reached.wait(5)


def test_files_do_not_pass_from_one_submission_to_the_next(grader: Grader) -> None:
    leave = "import tempfile\nopen(tempfile.gettempdir() + '/answers', 'w').write('x')\n"
    leave += "open('/dev/shm/answers', 'w').write('x')\n"
    assert grader(grader.notebook(double=leave + grader.solution["double"])).score == 10
    take = "import os, tempfile\ndef double(x):\n    return 2 * x if {} else 0 * x"
    for place in ("os.listdir(tempfile.gettempdir())", "os.listdir('/dev/shm')"):
        assert points(grader(grader.notebook(double=take.format(place)))) == FAKED


def test_skip_tags_on_tests_do_nothing(grader: Grader) -> None:
    notebook = grader.notebook(double=WRONG)
    for cell in notebook.cells:
        cell.metadata["tags"] = ["skip-execution"]
    result = grader(notebook)
    assert points(result) == FAKED
    assert "cells carry a tag that asks to skip them" in result.flags


def test_outputs_that_came_with_the_notebook_do_nothing(grader: Grader) -> None:
    notebook = grader.notebook(double=WRONG)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [new_output("execute_result", {"text/plain": "1000.0"})]
    assert points(grader(notebook)) == FAKED


def test_a_second_test_cell_does_nothing(grader: Grader) -> None:
    notebook = grader.notebook(double=WRONG)
    test = next(cell for cell in notebook.cells if cell.id == "test_double")
    forged = new_code_cell("pass", metadata=test.metadata)
    notebook.cells.insert(0, forged)
    notebook.cells.append(forged)
    assert points(grader(json.dumps(notebook).encode())) == FAKED


def test_suspicious_code_is_flagged(grader: Grader) -> None:
    result = grader(grader.notebook(double=WRONG + TRICKS["ast transformer"]))
    assert result.flags == ["the code mentions ast_transformers, get_ipython"]


@pytest.mark.parametrize("student", ["<b>eve<b>", "a*b[c]?", "Zoë 李", "=cmd()", "a'b\"c"])
def test_odd_names_are_recorded_as_they_are(grader: Grader, tmp_path, student: str) -> None:
    course = tmp_path / "course"
    release(grader.lab, course)
    notebook = grader.notebook(double=WRONG)
    why = next(cell for cell in notebook.cells if cell.id == "why")
    why.source = "Because <script>alert(1)</script> <img src=x onerror=alert(2)>."
    result = grader(notebook, student=student)
    gradebook.record(grader.lab, [result], course)
    written, problems = feedback.write(grader.lab, [result], course, {})
    assert not problems
    assert written[student].parts[-3] == gradebook.folder_name(student)
    page = written[student].read_text()
    assert "alert(1)</script>" not in page
    assert "<img src=x" not in page
    assert "reference.double" not in page
    assert nbformat.read(
        course / "autograded" / gradebook.folder_name(student) / "01_mini" / "01_mini.ipynb", 4
    )


def test_two_functions_of_one_cell_hide_no_forbidden_call(tmp_path) -> None:
    grader = Grader(read_lab(ROOT / "solutions" / "01_convolution.py"), tmp_path)
    answer = """
def cross_correlate2d(image, kernel):
    return second(first(image, kernel))
"""
    added = """
def first(image, kernel):
    image, kernel = torch.from_numpy(image)[None, None], torch.from_numpy(kernel)[None, None]
    return torch.nn.functional.conv2d(image.double(), kernel.double())[0, 0].numpy()

def second(result):
    return result
"""
    notebook = grader.notebook(cross_correlate2d=answer)
    test = next(cell for cell in notebook.cells if cell.id == "test_cross_correlate2d")
    test.source = test.source.replace("check_close", "print", 1) + "\n" + added
    path = tmp_path / "01_convolution.ipynb"
    path.write_text(json.dumps(notebook))
    job = Job("student", path, grader.lab.solution_path, 0)
    result = grade(job, ["cross_correlate2d"])
    assert points(result)["cross_correlate2d"] > 0
    assert any("`torch" in test.message for test in result.tests), result
