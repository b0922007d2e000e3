"""The labs on the lowest and on the newest versions that pyproject.toml allows, and on Colab's:
`make matrix`.

Makes an environment for each in .matrix/, runs there what ROWS says, on Colab's every lab as
tests/test_colab.py imitates it, and writes docs/versions.md.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from test_colab import VERSIONS

from autograder.authoring.lab import ROOT, find_lab, lab_names
from autograder.authoring.release import source_notebook

PLACE = ROOT / ".matrix"
UV = PLACE / "tools" / "bin" / "uv"
# Column: Python, and which of the versions that fit.
COLUMNS = {"lowest": ("3.11", "lowest-direct"), "newest": ("3.13", "highest")}
COLAB = "Colab"
ON_COLAB = {"every lab as on Colab, and what it writes out graded": ["tests/test_colab.py"]}
# What is run, as arguments of pytest.
ROWS = {
    "every lab's tests, visible and hidden, on its solution": ["tests/matrix.py"],
    "labs 01 and 02 from top to bottom, with their figures": [
        *("tests/labs/test_notebooks.py", "-k", "from_top_to_bottom and (01 or 02)"),
    ],
    "reading a notebook's names": [
        "tests/authoring/test_symbols.py",
        "tests/grading/test_names.py",
    ],
    "the command: release, grade, report": ["tests/test_cli.py"],
}
PAGE = """\
# Versions

What was run last on the lowest versions that `pyproject.toml` allows, on the newest, and on those
that Colab had late in 2026; `make matrix` runs it anew.

{table}
"""


def make(name: str, python: str, *installs: list[str]) -> Path:
    """Makes an environment of that name, by these calls of `uv pip install`; returns its Python."""
    folder = PLACE / name
    install = [UV, "pip", "install", "--quiet", "--python", folder]
    for command in (
        [UV, "venv", "--quiet", "--clear", "--python", python, folder],
        *([*install, *arguments] for arguments in installs),
    ):
        subprocess.run(command, cwd=ROOT, check=True)
    return folder / "bin" / "python"


@pytest.mark.parametrize("name", lab_names())
def test_a_solution_passes_its_lab(name: str) -> None:
    namespace = {"__name__": "__main__"}
    for cell in source_notebook(find_lab(name)).cells:
        if cell.cell_type == "code" and "nbgrader" in cell.metadata:
            exec(compile(cell.source, f"{name}, {cell.id}", "exec"), namespace)


def passes(python: Path, tests: list[str], **variables: str) -> bool:
    """Whether these tests pass on that Python, with these variables in its environment."""
    environment = (
        os.environ
        | variables
        | {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
    )
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


def versions(python: Path) -> dict[str, str]:
    """What that environment has, by name."""
    (site,) = (python.parents[1] / "lib").glob("python3*/site-packages")
    return {
        dist.metadata["Name"].lower(): dist.version.partition("+")[0]
        for dist in importlib.metadata.distributions(path=[str(site)])
    }


def main() -> int:
    """Runs all of it; returns how many cells of the table failed."""
    if not UV.is_file():
        venv.create(PLACE / "tools", with_pip=True)
        subprocess.run([UV.with_name("pip"), "install", "--quiet", "uv"], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # Not the oracles of `make test`, which have bounds of their own.
    tools = [entry for entry in extras["tests"] if entry.startswith("pytest>")]
    wanted = project["dependencies"] + extras["grading"] + tools
    names = [re.split(r"[^\w.-]", entry)[0].lower() for entry in wanted]
    cells: dict[str, list[str]] = {row: [] for row in ("Python", *names, *ROWS, *ON_COLAB)}
    needed = ["--requirement", "pyproject.toml", "--extra", "grading", *tools]
    pythons = {
        name: make(name, python, [*needed, "--resolution", which], ["--no-deps", "--editable", "."])
        for name, (python, which) in COLUMNS.items()
    } | {COLAB: make(COLAB, "3.13", VERSIONS)}
    failed = 0
    for column, python in pythons.items():
        found = versions(python)
        told = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
        cells["Python"].append(told.stdout.split()[1])
        for name in names:
            cells[name].append(found.get(name, "–"))
        # On Colab's runs the notebook alone: ours hands it out, and grades what comes back.
        variables = {"COLAB_PYTHON": str(python)} if column == COLAB else {}
        runs = ON_COLAB if column == COLAB else ROWS
        for row in (*ROWS, *ON_COLAB):
            if row not in runs:
                cells[row].append("–")
                continue
            passed = passes(Path(sys.executable) if variables else python, runs[row], **variables)
            failed += not passed
            cells[row].append("passed" if passed else "FAILED")
    head = f"| | {' | '.join(pythons)} |\n|---|{'---|' * len(pythons)}\n"
    table = head + "\n".join(f"| {row} | {' | '.join(cell)} |" for row, cell in cells.items())
    (ROOT / "docs" / "versions.md").write_text(PAGE.format(table=table))
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
