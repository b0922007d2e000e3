"""The project's own promises: one list of dependencies, a light worker, arrows that run one way."""

import ast
import re
import tomllib

import yaml

from autograder.lab import ROOT, lab_names
from autograder.sandbox import WORKER_FILES


def imports(path) -> set[str]:
    """The top-level packages and the autograder's modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_environment_and_pyproject_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["grading"], *extras["tests"], "--editable ."}
    assert set(pip) == wanted
    assert f"python{project['requires-python']}" in environment["dependencies"]


def test_the_ecosystem_is_complete() -> None:
    text = (ROOT / "environment.yml").read_text()
    for package in (
        *("jupyterlab", "torch", "torchvision", "numpy", "matplotlib"),
        *("scikit-learn", "nbgrader", "pytest"),
    ):
        assert re.search(rf"- {package}\b", text), package


def test_arrows_run_one_way() -> None:
    for path in (ROOT / "utils").rglob("*.py"):
        assert not any(name.startswith("autograder") for name in imports(path)), path
    for name in WORKER_FILES:
        needed = {n for n in imports(ROOT / "autograder" / name) if n.startswith("autograder")}
        assert needed <= {"autograder.channel", "autograder.changes"}, name


def test_every_lab_is_complete() -> None:
    for name in lab_names():
        for path in (f"labs/{name}.ipynb", f"tests/mistakes/{name}.py", f"tests/test_{name}.py"):
            assert (ROOT / path).is_file(), path
