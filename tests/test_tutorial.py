"""docs/tutorial.md, followed to the letter: from a wheel in an environment of its own to grades."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from autograder.authoring.lab import ROOT, bound_names

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"((?:(?!```).*\n)*)```(\w*)\n((?:(?!```).*\n)*)```\n", PAGE)
OURS = ("convnet_labs", "__editable__", "pip", "autograder")


def link(source: str, target: str) -> None:
    """A second name for a file, as a copy would take minutes."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def furnish(environment: Path) -> None:
    """Gives a virtual environment all packages that we have but this one, so that none has to be
    fetched, and their commands."""
    made = [sys.executable, "-m", "venv", "--without-pip", environment]
    subprocess.run(made, check=True)
    ours = Path(sysconfig.get_path("purelib"))
    theirs = environment / ours.relative_to(sys.prefix)
    for path in ours.iterdir():
        if not path.name.startswith(OURS):
            if path.is_dir():
                shutil.copytree(path, theirs / path.name, copy_function=link)
            else:
                link(str(path), str(theirs / path.name))
    for path in Path(sys.executable).parent.iterdir():
        there = environment / "bin" / path.name
        script = path.read_bytes()
        if script.startswith(b"#!" + sys.prefix.encode()) and not path.name.startswith(OURS):
            there.write_bytes(script.replace(sys.prefix.encode(), bytes(environment), 1))
            there.chmod(0o755)


def words(text: str) -> str:
    """A text without the lines of tables, and with single spaces."""
    return " ".join(re.sub("[│┃]", " ", text).split())


@pytest.mark.slow
def test_whoever_follows_the_tutorial_grades_a_submission(tmp_path: Path) -> None:
    furnish(tmp_path / "teaching")
    (tmp_path / "convnet-labs").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "convnet-labs")
    for name in ("autograder", "utils"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            ROOT / name, tmp_path / "convnet-labs" / name, symlinks=True, ignore=ignored
        )
    variables = {
        "PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "COLUMNS": "200",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as what becomes of the isolation
    }
    state, folder, said = ["set -e"], tmp_path, ""

    def run(commands: str) -> str:
        script = "\n".join([*state, commands])
        command = ["bash", "-c", f"exec 2>&1; {script}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    for before, language, block in BLOCKS:
        if language == "python":
            named = re.findall(r"`([\w/.]+\.(?:py|ipynb))`", before)[-1]
            if named.endswith(".py"):
                (folder / named).write_text(block)
                continue
            notebook = nbformat.read(folder / named, as_version=4)
            (cell,) = (c for c in notebook.cells if "your code here" in c.source)
            assert bound_names(cell.source) == bound_names(block)
            cell.source = block
            nbformat.write(notebook, folder / named)
        elif not block.startswith("│"):
            said += run(block)
            state += [line for line in block.splitlines() if line.startswith(("cd ", "source "))]
            folder = tmp_path / run("pwd").strip()
        else:  # what the block above prints
            for line in block.splitlines():
                assert words(line) in words(said), said
    assert folder == tmp_path / "seeing"
    assert "every mistake is caught and named" in said
    where = "python -P -c 'import autograder; print(autograder.__file__)'"
    assert run(where).startswith(str(tmp_path / "teaching"))
    assert "No module named 'utils'" in run("python -P -c 'import utils' 2>&1 || true")
    with (folder / "utils" / "changes.py").open("a") as file:  # which the sandbox imports
        file.write("raise SystemExit('the utils/ of this very course')\n")
    assert "the utils/ of this very course" in run("autograder grade 02 2>&1 || true")
