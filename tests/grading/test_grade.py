"""Grading honest submissions: marks, messages, and what a result says."""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict

import nbformat
import pytest
import torch
from conftest import Grader, message, points
from nbformat.v4 import new_code_cell

from autograder.authoring.lab import ROOT, read_lab
from autograder.authoring.reference import run_reference
from autograder.authoring.release import release
from autograder.grading import grade as grading
from autograder.grading.grade import find_submissions, fingerprint, grade_class
from autograder.grading.job import SCHEMA_VERSION, Job, Result
from autograder.grading.sandbox import RemoteObject, Sandbox

FULL = {"double": 5, "score": 4, "answer": 1}


def test_solution_gets_full_marks(grader: Grader) -> None:
    result = grader(grader.notebook())
    assert (result.status, result.score, result.max_score) == ("graded", 10, 10)
    assert points(result) == FULL
    assert (result.repairs, result.flags) == ([], [])
    assert result.questions == [{"grade_id": "why", "max_points": 2, "answered": True}]


def test_untouched_notebook_gets_nothing(grader: Grader) -> None:
    result = grader(nbformat.read(grader.lab.released_path, as_version=4))
    assert result.score == 0
    assert message(result, "double") == "not implemented yet"
    assert result.questions[0]["answered"] is False


def test_every_test_cell_is_reported(grader: Grader) -> None:
    tests = grader(grader.notebook()).tests
    assert [(t.grade_id, t.max_points, t.hidden) for t in tests] == [
        ("test_double", 2, False),
        ("test_double_2", 3, True),
        ("test_score", 4, False),
        ("test_answer", 1, False),
    ]


def test_mistake_is_named_and_costs_nothing_else(grader: Grader) -> None:
    result = grader(grader.notebook(double="def double(x):\n    return x * x"))
    assert points(result) == FULL | {"double": 0}
    assert "x is squared" in message(result, "double")


def test_result_that_is_right_only_on_the_visible_input(grader: Grader) -> None:
    source = "def double(x):\n    return np.array([2.0, 4.0])"
    result = grader(grader.notebook(double=source))
    assert points(result)["double"] == 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def double(x):\n    return y", "NameError: name 'y' is not defined (line 2 of double)"),
        ("def double(x):\n    1 / 0", "ZeroDivisionError: division by zero (line 2 of double)"),
        ("def double(x) return", "SyntaxError"),
        ("pass", "NameError: double is not defined"),
        ("def double(x):\n    pass", "returned None"),
        ("def double(x):\n    return object()", "double"),
        ("def double():\n    return 1", "TypeError"),
        (
            "class E(Exception): pass\ndef double(x):\n    raise E('mine')",
            "mine (line 3 of double)",
        ),
        ("def double(x):\n    raise SystemExit(3)", "SystemExit"),
        ("import nowhere\ndef double(x):\n    return 2 * x", "No module named 'nowhere'"),
    ],
)
def test_exceptions_say_what_and_where(grader: Grader, source: str, said: str) -> None:
    result = grader(grader.notebook(double=source))
    assert points(result) == FULL | {"double": 0}
    assert said in message(result, "double")


# What a function does to its arguments beside its right result, and what is said about it.
CHANGES = {
    "images *= 1.5": "`images` was modified in place",
    "images.requires_grad_()": "`images` was left with another requires_grad",
    "model.train()": "`model` was left in another mode",
    "model[0].register_forward_hook(lambda *a: None)": "`model.0` was left with other hooks",
    "model[1].momentum = 0.5": "`model.1` was left with other attributes",
    "model.kept = 3": "`model` was left with other attributes",
    "model[1].running_mean += 1": "`model.1.running_mean` moved, for the model ran in training",
    "model[1].running_mean = torch.zeros(2)": "`model.1` was given other buffers",
    "model[0].weight = torch.nn.Parameter(model[0].weight * 1)": "`model.0` was given other param",
    "model[0].weight.data.zero_()": "`model.0.weight` was modified in place",
    "model[0].weight.requires_grad_(False)": "`model.0.weight` was left with another requires_gra",
    "model(images).sum().backward()": "`model.0.weight` was left with another .grad",
    "model[0] = torch.nn.Linear(3, 2)": "`model` was given other submodules",
    "model.append(torch.nn.Identity())": "`model` was given other submodules",
    "torch.set_grad_enabled(False)": "`torch` was left with other settings",
    "torch.set_default_dtype(torch.float64)": "`torch` was left with other settings",
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_arguments_are_reported_and_cost_the_exercise_alone(grader, change: str) -> None:
    source = f"""
def score(model, images):
    result = model(images)[:, 0].detach()
    {change}
    return result
"""
    result = grader(grader.notebook(score=source))
    assert points(result) == FULL | {"score": 0}
    assert CHANGES[change] in message(result, "score")


def declared(grader: Grader, tmp_path, changes: str, test: str) -> Grader:
    """A grader for the tiny lab whose `score` may make some changes and has another test."""
    text = grader.lab.solution_path.read_text()
    text = text.replace('exercise="score"', f'exercise="score" changes="{changes}"')
    start, end = text.index('# %% test="score"'), text.index('# %% exercise="answer"')
    text = text[:start] + f'# %% test="score" points=4\n{test}\n\n' + text[end:]
    text = text.replace("import check_close", "import check_close\nfrom utils.changes import *")
    (tmp_path / "solutions").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "solutions" / "01_mini.py").write_text(text)
    lab = read_lab(tmp_path / "solutions" / "01_mini.py")
    release(lab, tmp_path / "course")
    return Grader(lab, tmp_path)


READS_CHANGES = """
model, images = network(), torch.arange(12.0).reshape(4, 3)
_, after, _ = call_on_copies(score, model, images)
assert after.training and after[0].weight.eq(7).all() and not after[0].bias.requires_grad
assert after[1].momentum == 0.5 and after[1].running_mean.eq(3).all() and after.kept == [1, 2]
assert len(after[1]._forward_hooks) == 1 and after[0].bias.grad.eq(2).all()
score(model, images)
assert not model.training and not model[0].weight.eq(7).any() and not hasattr(model, "kept")
"""
MAKES_CHANGES = """
def score(model, images):
    model.train()
    model[0].weight.data.fill_(7)
    model[0].bias.requires_grad_(False).grad = torch.full((2,), 2.0)
    model[1].momentum = 0.5
    model[1].running_mean = torch.full((2,), 3.0)
    model[1].register_forward_hook(print)
    model.kept = [1, 2]
"""


def test_declared_changes_reach_copies_that_the_test_reads(grader, tmp_path) -> None:
    grade = declared(grader, tmp_path, "model", READS_CHANGES)
    result = grade(grade.notebook(score=MAKES_CHANGES))
    assert points(result) == FULL, message(result, "score")
    result = grade(grade.notebook(score=MAKES_CHANGES + "    images.zero_()\n"))
    assert "`images` was modified in place" in message(result, "score")
    result = grade(
        grade.notebook(score=MAKES_CHANGES + "    model[0] = model[0]\n    model[1:] = []")
    )
    assert points(result)["score"] == 0


def test_other_peoples_hooks_are_not_mistaken_for_a_function_s_own(grader, tmp_path) -> None:
    test = """
model = network()
model[0]._forward_hooks[0] = print  # what torch calls a process's first hook
assert score(model, torch.ones(2, 3)).shape == (2,)
"""
    grade = declared(grader, tmp_path, "images", test)
    source = """
def score(model, images):
    handle = model[0].register_forward_hook(lambda *_: None)
    scores = model(images)[:, 0]
    handle.remove()
    return scores.detach()
"""
    result = grade(grade.notebook(score=source))
    assert points(result) == FULL, message(result, "score")


def test_one_kind_of_change_may_be_declared_alone(grader, tmp_path) -> None:
    test = "assert score(network(), torch.ones(2, 3)).shape == (2,)"
    grade = declared(grader, tmp_path, "model.grad, images.grad, images.requires_grad", test)
    source = """
def score(model, images):
    images.requires_grad_()
    scores = model(images)[:, 0]
    scores.sum().backward()
    {}
    return scores
"""
    assert points(grade(grade.notebook(score=source.format("pass")))) == FULL
    result = grade(grade.notebook(score=source.format("images.data.zero_()")))
    assert "`images` was modified in place" in message(result, "score")
    result = grade(grade.notebook(score=source.format("model.train()")))
    assert "`model` was left in another mode" in message(result, "score")


def test_changes_beside_a_module_that_lives_in_the_worker(mini) -> None:
    run_reference(mini)  # helpers are sent with all that the lab's own module holds
    cell = """
import torch
block = torch.nn.BatchNorm1d(2)
def halve(block, x):
    block(x)  # changes the block's running statistics
    x /= 2
"""
    x = torch.arange(4.0).reshape(2, 2)
    with Sandbox(["torch"]) as sandbox:
        worker = sandbox.worker(time.monotonic() + 60)
        worker.run("cell", cell)
        block, halve = (RemoteObject(lambda: worker, ("name", name)) for name in ("block", "halve"))
        _, changes = worker.call(halve, block, x)
        assert block.run_beside(getattr, "num_batches_tracked") == 1
        worker.close()
    assert [(change.path, change.aspect) for change in changes] == [("1", "value")]
    assert torch.equal(changes[0].new, torch.tensor([[0.0, 0.5], [1.0, 1.5]]))
    assert torch.equal(x, torch.arange(4.0).reshape(2, 2))


def test_wrong_value_of_an_exercise_that_is_no_function(grader: Grader) -> None:
    result = grader(grader.notebook(answer="answer = 41"))
    assert message(result, "answer") == "answer is 41, not what was asked for"


def test_same_seed_same_result(grader: Grader) -> None:
    noisy = "def double(x):\n    return x + np.random.rand(*x.shape)"

    def without_time(result: Result) -> dict:
        return asdict(result) | {"seconds": 0}

    first, again = (without_time(grader(grader.notebook(double=noisy), seed=5)) for _ in range(2))
    assert first == again
    other = grader(grader.notebook(double=noisy), seed=6)
    assert message(other, "double") != first["tests"][0]["message"]
    assert grader(grader.notebook(), seed=6).score == grader(grader.notebook(), seed=7).score == 10


def test_hidden_inputs_depend_on_the_seed(grader: Grader) -> None:
    source = "def double(x):\n    return 3 * x"
    said = {grader(grader.notebook(double=source), seed=seed).tests[1].message for seed in (1, 2)}
    assert len(said) == 2


@pytest.mark.parametrize(
    "source",
    [
        "def double(x):\n    raise ValueError(str(x))",
        "def double(x):\n    raise AssertionError(str(x))",
        "def double(x):\n    raise type(str(x), (Exception,), {})",
        "def double(x):\n    return {str(x): 1}[0]",
        "def double(x):\n    return type(str(x), (), {})()",
        "def double(x):\n    exec(compile('1/0', '<' + str(x) + '>', 'exec'))",
        'def double(x):\n    exec("raise AssertionError(str(x))", {"x": x})',
        'exec(compile("def double(x):\\n    raise AssertionError(str(x))", "mine", "exec"))',
    ],
)
def test_hidden_inputs_come_back_in_no_message(grader: Grader, source: str) -> None:
    source = source.replace("str(x)", "'secret' + repr(x)")
    result = grader(grader.notebook(double=source))
    assert [test.outcome for test in result.tests[:2]] == ["failed", "failed"]
    assert "secret" not in result.tests[1].message
    if "raise ValueError" in source:
        assert result.tests[1].message == (
            "your code raised ValueError, on inputs that aren't shown (line 2 of double)"
        )


def test_hidden_inputs_come_back_in_no_later_test(grader: Grader) -> None:
    kept = "kept = []\ndef double(x):\n    kept.append(x)\n    return 2 * x"
    tell = "def score(model, images):\n    raise ValueError(f'secret {[len(x) for x in kept]}')"
    result = grader(grader.notebook(double=kept, score=tell))
    assert points(result) == {"double": 5, "score": 0, "answer": 1}
    assert "secret []" in message(result, "score")


def test_class_is_graded_resumed_and_written(grader: Grader, tmp_path) -> None:
    class_folder, results = tmp_path / "class", tmp_path / "results"
    class_folder.mkdir()
    (class_folder / "folder_student").mkdir()
    nbformat.write(grader.notebook(), class_folder / "ada.ipynb")
    nbformat.write(grader.notebook(answer="answer = 1"), class_folder / "folder_student/x.ipynb")
    (class_folder / "zoe.ipynb").write_text("no notebook")
    (class_folder / ".DS_Store").write_text("")
    jobs = [
        Job(student, path, grader.lab.solution_path, 0)
        for student, path in find_submissions(class_folder).items()
    ]
    graded = grade_class(jobs, results, workers=1)
    assert {name: result.score for name, result in graded.items()} == {
        "ada": 10,
        "folder_student": 9,
        "zoe": 0,
    }
    assert graded["zoe"].status == "refused"
    assert graded["zoe"].reason.startswith("the file is not a Jupyter notebook")
    assert sorted(path.name for path in results.iterdir()) == [
        "ada.json",
        "folder_student.json",
        "zoe.json",
    ]
    written = json.loads((results / "ada.json").read_text())
    assert written["schema_version"] == SCHEMA_VERSION
    assert written["tests"][0]["exercise"] == "double"

    # What is there and still holds is kept; what changed is graded anew.
    kept = json.loads((results / "ada.json").read_text()) | {"flags": ["kept"]}
    (results / "ada.json").write_text(json.dumps(kept))
    nbformat.write(grader.notebook(), class_folder / "folder_student/x.ipynb")
    again = grade_class(jobs, results, workers=1)
    assert again["ada"].flags == ["kept"]
    assert again["folder_student"].score == 10


def test_any_executor_will_do(grader: Grader, tmp_path) -> None:
    nbformat.write(grader.notebook(), tmp_path / "ada.ipynb")
    job = Job("ada", tmp_path / "ada.ipynb", grader.lab.solution_path, 0)
    with ThreadPoolExecutor(1) as executor:
        graded = grade_class([job], tmp_path / "results", executor=executor)
    assert graded["ada"].score == 10


@pytest.mark.slow
def test_a_dask_cluster_is_such_an_executor(grader: Grader, tmp_path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    jobs = []
    for student in ("ada", "zoe"):
        path = tmp_path / f"{student}.ipynb"
        nbformat.write(grader.notebook(), path)
        jobs.append(Job(student, path, grader.lab.solution_path, 0))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        graded = grade_class(jobs, tmp_path / "results", executor=client.get_executor())
    assert {name: result.score for name, result in graded.items()} == {"ada": 10, "zoe": 10}


class _Dies(ThreadPoolExecutor):
    """A pool whose process dies of one submission, and takes those that wait with it."""

    def submit(self, function, job, **keywords):
        if getattr(self, "broken", False):
            raise BrokenProcessPool("a process died")
        future = super().submit(function, job, **keywords)
        if job.student == "deadly" or self._max_workers > 1:
            self.broken = True
            future = Future()
            future.set_exception(BrokenProcessPool("a process died"))
        return future


def test_submission_that_kills_the_grader_costs_nobody_else(
    grader: Grader, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("autograder.grading.grade.processes", _Dies)
    jobs = []
    for student in ("ada", "deadly", "zoe"):
        path = tmp_path / f"{student}.ipynb"
        nbformat.write(grader.notebook(), path)
        jobs.append(Job(student, path, grader.lab.solution_path, 0))
    graded = grade_class(jobs, tmp_path / "results", workers=2)
    assert {name: result.score for name, result in graded.items()} == {
        "ada": 10,
        "deadly": 0,
        "zoe": 10,
    }
    assert graded["deadly"].status == "failed"
    assert "the grader itself failed" in graded["deadly"].reason


def test_file_and_folder_of_one_name_are_both_graded(tmp_path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada.ipynb").write_text("")
    assert set(find_submissions(tmp_path)) == {"ada", "ada.ipynb"}


IMPORTS = """
import sys, tempfile
from pathlib import Path
import nbformat
from autograder.authoring.lab import find_lab
from autograder.grading import grade as grading
from autograder.grading.job import Job
from autograder.rehearsal.rehearse import answered_notebook, solution_answers

lab = find_lab(sys.argv[1])
path = Path(tempfile.mkdtemp(), "student.ipynb")
nbformat.write(answered_notebook(lab, solution_answers(lab)), path)

def run_here(work, seconds, progress):
    before = set(sys.modules)
    result = work(progress)
    print(*sorted(set(sys.modules) - before))
    return result

grading.run_apart = run_here
result = grading.grade(Job("student", path, lab.solution_path, 0))
assert result.score == result.max_score, result
"""


@pytest.mark.slow
def test_what_every_submission_needs_is_imported_once() -> None:
    command = [sys.executable, "-c", IMPORTS, "01"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == []


def test_missing_or_empty_folder(tmp_path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="folder"):
            find_submissions(folder)


def test_result_that_is_no_result_is_graded_anew(grader: Grader, tmp_path) -> None:
    path = tmp_path / "student.json"
    for text in ("", "{}", '{"schema_version": 99}', "[1]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no result"):
            Result.read(path)


def test_own_cells_that_define_helpers_are_run(grader: Grader) -> None:
    notebook = grader.notebook(double="def double(x):\n    return helper(x)")
    helper = new_code_cell("import math\ndef helper(x):\n    return factor * x")
    notebook.cells.insert(2, helper)
    notebook.cells.insert(2, new_code_cell("factor = 2\nprint(undefined)"))
    notebook.cells.insert(2, new_code_cell("raise RuntimeError('never needed')"))
    result = grader(notebook)
    assert result.score == 10
    assert any("own cells" in repair for repair in result.repairs)


def test_changed_demo_that_defines_a_helper_is_run(grader: Grader) -> None:
    notebook = grader.notebook(double="def double(x):\n    return twice(x)")
    demo = next(cell for cell in notebook.cells if "print(double" in cell.source)
    demo.source = "twice = lambda x: 2 * x"
    assert grader(notebook).score == 10


def test_exercise_redefined_in_a_cell_of_the_students_own(grader: Grader) -> None:
    notebook = grader.notebook(double="def double(x):\n    return x")
    place = next(n for n, cell in enumerate(notebook.cells) if cell.id == "double")
    notebook.cells.insert(place + 1, new_code_cell("def double(x):\n    return 2 * x"))
    assert grader(notebook).score == 10


def test_magics_are_ignored(grader: Grader) -> None:
    notebook = grader.notebook(
        double="%%time\n%matplotlib inline\n!ls\ndef double(x):\n    return 2 * x"
    )
    assert grader(notebook).score == 10


@pytest.mark.parametrize(
    "changed", ["utils/checks.py", "autograder/grading/tester.py", "autograder/authoring/lab.py"]
)
def test_a_change_in_the_code_that_grades_changes_the_fingerprint(
    mini, tmp_path, monkeypatch, changed: str
) -> None:
    for folder in ("utils", "autograder"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(grading, "ROOT", tmp_path)
    monkeypatch.setattr(grading, "PACKAGE", tmp_path / "autograder")

    def digest() -> str:
        grading.code_digest.cache_clear()
        return fingerprint(Job("ada", tmp_path, mini.solution_path, 0), b"")

    before = digest()
    assert digest() == before
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    assert digest() != before
    grading.code_digest.cache_clear()


def test_what_else_a_fingerprint_sees(mini, tmp_path) -> None:
    lab = tmp_path / "solutions" / "01_mini.py"
    lab.parent.mkdir()
    (tmp_path / "labs").mkdir()
    digests = set()
    for solution in "ab":
        lab.write_text(solution)
        for released in "ab":
            (tmp_path / "labs" / "01_mini.ipynb").write_text(released)
            for seed in range(2):
                for isolation in ("bubblewrap", "process"):
                    for content in (b"a", b"b"):
                        job = Job("ada", tmp_path, lab, seed, isolation)
                        digests.add(fingerprint(job, content))
    assert len(digests) == 2**5
