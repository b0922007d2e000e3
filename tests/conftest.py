"""A tiny lab to try the grader on, and submissions to it; and the order of the tests."""

import re
import shutil
from concurrent.futures import Executor, Future
from pathlib import Path

import nbformat
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from autograder.authoring.lab import ROOT, Lab, read_lab
from autograder.authoring.release import release
from autograder.grading import grade as grading
from autograder.rehearsal.rehearse import answered_notebook, solution_answers

# The file of a lab's own tests, in the name of one of them.
CLAIMS = re.compile(r"\btest_\d\d_\w+\.py")
MINI = '''\
# %% [markdown]
# # A tiny lab

# %% given=true
import numpy as np
import torch

from utils.checks import check_close


def network():
    """A small network with a mode, parameters and places for hooks."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).eval()


# %% exercise="double"
def double(x):
    """Twice x, an array of any shape."""
    ### BEGIN SOLUTION
    twice = x + x
    return twice
    ### END SOLUTION


# %% test="double" points=2
check_close(double(np.array([1.0, 2.0])), np.array([2.0, 4.0]), "double(x)", mistakes={
    "x is squared": np.array([1.0, 4.0]),
})

# %% test="double" points=3
# Other numbers are tried here.
### BEGIN HIDDEN TESTS
x = np.random.default_rng(reference.seed).standard_normal((2, 3))
check_close(double(x), reference.double(x), "double(x)")
assert np.isfinite(double(x)).all(), "double(x) is not finite"
### END HIDDEN TESTS

# %%
print(double(np.arange(3)))

# %% exercise="score"
def score(model, images):
    """The model's first output for each of the images, (N, 3) -> (N,), mode left as it was."""
    ### BEGIN SOLUTION
    outputs = model(images)
    return outputs[:, 0]
    ### END SOLUTION


# %% test="score" points=4
model, images = network(), torch.arange(12.0).reshape(4, 3)
expected = model(images)[:, 0].detach()
check_close(score(model, images).detach(), expected, "score(model, images)")
assert not model.training, "the model was left in training mode"
assert not any(module._forward_hooks for module in model.modules()), "a hook was left behind"

# %% exercise="answer"
answer = None  # how many?
### BEGIN SOLUTION
answer = 6 * 7
### END SOLUTION

# %% test="answer" points=1
assert answer == 42, f"answer is {answer!r}, not what was asked for"

# %% [markdown] question="why" points=2
# Why?
#
# ### BEGIN SOLUTION
# Full marks for any reason that is given in a whole sentence.
# ### END SOLUTION
'''


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that nobody waits for one such test at the end."""

    def minutes(item: pytest.Item) -> float:
        mark = item.get_closest_marker("slow")
        return mark.kwargs.get("minutes", 2 if CLAIMS.search(item.nodeid) else 0) if mark else 0

    items.sort(key=minutes, reverse=True)


class Together(LoadScopeScheduling):
    """Gives out tests one by one, but those of a lab's claims to one process: they share what a
    walk through the lab computes."""

    def _split_scope(self, nodeid: str) -> str:
        claims = CLAIMS.search(nodeid)
        return claims[0] if claims else nodeid


@pytest.hookimpl(optionalhook=True)  # xdist may be switched off.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    return Together(config, log)


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The tiny lab, released in a folder of its own."""
    root = tmp_path_factory.mktemp("mini")
    (root / "solutions").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    path = root / "solutions" / "01_mini.py"
    path.write_text(MINI)
    lab = read_lab(path)
    release(lab, root / "course")
    return lab


class Grader:
    """Grades submissions to a lab in this process."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.solution = solution_answers(lab)

    def notebook(self, **answers: str) -> nbformat.NotebookNode:
        """The solution with these answers in place of its own."""
        return answered_notebook(self.lab, self.solution | answers)

    def __call__(
        self, notebook: nbformat.NotebookNode | bytes, student: str = "student", seed: int = 0
    ) -> grading.Result:
        path = self.folder / f"{student}.ipynb"
        content = notebook if isinstance(notebook, bytes) else nbformat.writes(notebook).encode()
        path.write_bytes(content)
        return grading.grade(grading.Job(student, path, self.lab.solution_path, seed))


@pytest.fixture
def grader(mini: Lab, tmp_path: Path) -> Grader:
    """A grader for the tiny lab."""
    return Grader(mini, tmp_path)


class Here(Executor):
    """Does everything at once, in this process, so that tests can reach into it."""

    def submit(self, function, *arguments, **keywords):
        future = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


def points(result: grading.Result) -> dict[str, float]:
    """The points of each exercise."""
    total: dict[str, float] = {}
    for test in result.tests:
        total[test.exercise] = total.get(test.exercise, 0) + test.points
    return total


def message(result: grading.Result, exercise: str) -> str:
    """The first failing message of an exercise."""
    return next(t.message for t in result.tests if t.exercise == exercise and t.outcome != "passed")
