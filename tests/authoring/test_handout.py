"""The hand-out: all that students need, no line of what they mustn't see, one commit a version."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from answers import lines, secrets
from conftest import Grader
from nbgrader.utils import compute_checksum
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.expected import EXPECTED
from autograder.authoring.handout import Handout, HandoutError, hand_out
from autograder.authoring.lab import HIDDEN, ROOT, SOLUTION, Lab, find_lab, lab_names
from autograder.grading.matching import ReleasedLab
from autograder.grading.normalise import normalise

URL = "https://github.com/us/labs"


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> SimpleNamespace:
    """All labs, and their hand-out."""
    folder = tmp_path_factory.mktemp("all") / "labs"
    labs = [find_lab(name) for name in lab_names()]
    return SimpleNamespace(folder=folder, labs=labs, given=hand_out(folder, labs, URL))


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts)


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def strings(value: object) -> Iterator[str]:
    """All texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings([*value, *value.values()])
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def leaks(folder: Path, labs: list[Lab]) -> set[tuple[str, str]]:
    """The lines in a hand-out's files that students mustn't see: of the same lab's solutions, notes
    for grading, hidden tests and answers; elsewhere of all solutions, but for short ones, which
    are idioms."""
    own = {lab.name: secrets(lab, SOLUTION, HIDDEN, EXPECTED) for lab in labs}
    assert all(len(found) > 20 for found in own.values())
    of_all = {line for lab in labs for line in secrets(lab, SOLUTION) if len(line) >= 45}
    found = set()
    for path in files(folder):
        if path.suffix == ".safetensors":
            continue  # what tests expect, as data
        text = path.read_text("utf-8")
        if path.suffix == ".ipynb":
            text = "".join(f"{part}\n" for part in strings(json.loads(text)))
        for line in lines(text) & (of_all | own.get(path.stem, set())):
            found.add((path.name, line))
    return found


def test_no_line_of_a_solution_or_hidden_test_is_handed_out(course, tmp_path) -> None:
    assert leaks(course.folder, course.labs) == set()
    copy = shutil.copytree(course.folder, tmp_path / "copy", ignore=lambda *_: [".git"])
    notebook = nbformat.read(copy / "labs" / "12_style_transfer.ipynb", as_version=4)
    secret = max(secrets(course.labs[-1], SOLUTION), key=len)
    notebook.cells[-1].metadata["note"] = f"    {secret}"
    nbformat.write(notebook, copy / "labs" / "12_style_transfer.ipynb")
    (copy / "utils" / "checks.py").write_text(f"def check():\n    {secret}\n")
    found = {("12_style_transfer.ipynb", secret), ("checks.py", secret)}
    assert leaks(copy, course.labs) == found


def test_it_holds_what_students_need_and_no_more(course) -> None:
    there = {path.relative_to(course.folder).as_posix() for path in files(course.folder)}
    top = {"README.md", "Makefile", "environment.yml", "requirements.txt", "LICENSE", "VERSION"}
    assert {path for path in there if "/" not in path} == top | {".gitignore"}
    labs = {f"labs/{lab.released_path.name}" for lab in course.labs}
    values = {f"labs/{lab.values_path.name}" for lab in course.labs if lab.values_path.is_file()}
    assert {path for path in there if path.startswith("labs/")} == labs | values
    for path in values:
        assert (course.folder / path).read_bytes() == (ROOT / path).read_bytes()
    utils = {path for path in there if path.endswith(".py")}
    code = "\n".join((course.folder / path).read_text() for path in labs | utils)
    imported = set(re.findall(r"(?:from|import) utils\.(\w+)", code))
    assert utils == {f"utils/{name}.py" for name in imported | {"__init__"}}
    assert "report" not in imported
    assert there - labs - values - utils - top - {".gitignore"} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "utils" / "weights").iterdir()
    }


def test_students_install_what_notebooks_import_and_no_more(course) -> None:
    installed = (course.folder / "requirements.txt").read_text().split()
    assert {"jupyterlab>=4.2", "torch>=2.5"} < set(installed)
    assert not re.search("nbgrader|pytest|typer|jupytext|foolbox", " ".join(installed))
    assert "--requirement requirements.txt" in (course.folder / "environment.yml").read_text()
    planned = subprocess.run(
        ["make", "--dry-run", "lab"], cwd=course.folder, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"pip install .*", planned) == [
        "pip install --quiet --disable-pip-version-check --requirement requirements.txt"
    ]
    assert "jupyter lab --notebook-dir work" in planned


def test_copies_to_work_in_are_kept(course, tmp_path) -> None:
    folder = tmp_path / "labs"
    git(tmp_path, "clone", "--quiet", str(course.folder), str(folder))
    subprocess.run(["make", "copies"], cwd=folder, check=True)
    mine = folder / "work" / "01_convolution.ipynb"
    assert mine.read_bytes() == (folder / "labs" / mine.name).read_bytes()
    assert (folder / "work" / "07_guided_backprop.safetensors").is_file()
    mine.write_text("mine")
    subprocess.run(["make", "copies"], cwd=folder, check=True)
    assert mine.read_text() == "mine"
    assert git(folder, "status", "--porcelain") == ""


def test_a_student_can_open_it_in_four_ways(course) -> None:
    readme = (course.folder / "README.md").read_text()
    assert f"git clone {URL}\ncd labs\nmake lab\n" in readme
    assert "git-pull?repo=https%3A%2F%2Fgithub.com%2Fus%2Flabs&branch=main&urlpath=" in readme
    assert "$" not in readme
    for lab in course.labs:
        path = f"labs/{lab.released_path.name}"
        opens = f"(https://colab.research.google.com/github/us/labs/blob/main/{path})"
        assert opens in readme
        title = nbformat.read(course.folder / path, as_version=4).cells[0].source.splitlines()
        assert title[0].startswith("# Lab ") and title[2].endswith(opens)


def test_the_grader_takes_it_for_the_released_notebook(course) -> None:
    lab = course.labs[5]
    path = course.folder / "labs" / lab.released_path.name
    given = nbformat.read(path, as_version=4)
    setup = given.cells[1]
    assert f'repository, version = "{URL}", "v1"\n' in setup.source
    assert setup.metadata.nbgrader.checksum == compute_checksum(setup)
    submission = normalise(
        path.read_bytes(), ReleasedLab(lab, nbformat.read(lab.released_path, as_version=4))
    )
    assert submission.repairs == submission.flags == submission.other_cells == []


def test_on_colab_the_set_up_cell_fetches_its_own_version(course, tmp_path) -> None:
    lab = next(lab for lab in course.labs if lab.values_path.is_file())
    folder = tmp_path / "all"
    url = f"file://{folder}"
    hand_out(folder, [lab], url)
    (folder / "utils" / "checks.py").write_text("raise SystemExit('the newest, not v1')\n")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "newer")
    notebook = nbformat.read(folder / "labs" / lab.released_path.name, as_version=4)
    assert "Colab](" not in notebook.cells[0].source  # Colab opens from GitHub alone
    test = next(cell.source for cell in notebook.cells if "Recorded(" in cell.source[30:])
    fetch = re.search(r"^recorded = .*", test, re.M)[0]
    program = f"""\
import sys
from types import ModuleType
sys.modules["google.colab"] = ModuleType("google.colab")
{notebook.cells[1].source}
{fetch}
import utils.checks
print(utils.checks.__file__)
"""
    (tmp_path / "content").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "content",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.stderr == ""
    assert done.stdout.strip() == str(tmp_path / "content" / "all-v1" / "utils" / "checks.py")


def test_versions(mini: Lab, tmp_path) -> None:
    folder = tmp_path / "out"
    assert hand_out(folder, [mini], URL) == Handout("v1", ["01_mini"], URL, "main", True)
    (folder / "syllabus.md").write_text("Week 1\n")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "ours")
    # The address is remembered; one for git alone is given to students as one that all can read.
    assert hand_out(folder, [mini]) == Handout("v1", ["01_mini"], URL, "main", False)
    git(folder, "remote", "set-url", "origin", "git@github.com:us/other.git")
    other = "https://github.com/us/other.git"
    assert hand_out(folder, [mini]) == Handout("v2", ["01_mini"], other, "main", True)
    assert (folder / "syllabus.md").is_file()
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%s").splitlines() == ["Labs, v2", "ours", "Labs, v1"]
    for version, url in ("v1", URL), ("v2", other):
        notebook = json.loads(git(folder, "show", f"{version}:labs/01_mini.ipynb"))
        assert f'repository, version = "{url}", "{version}"\n' in notebook["cells"][1]["source"]


def test_labs_that_went_out_before_stay(tmp_path) -> None:
    two, twelve = find_lab("02"), find_lab("12")
    hand_out(tmp_path, [twelve], URL)
    given = hand_out(tmp_path, [two], URL)
    assert given.labs == ["02_vgg_accounting", "12_style_transfer"]
    assert (tmp_path / "labs" / "12_style_transfer.safetensors").is_file()


def repository(folder: Path) -> None:
    git(folder, "init", "--quiet")
    (folder / "thesis.tex").write_text("mine")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "mine")


def unsaved(folder: Path) -> None:
    git(folder, "init", "--quiet")
    (folder / "draft.md").write_text("mine")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda folder: (folder / "mine.txt").write_text("mine"), "no hand-out and not empty"),
        (repository, "is a git repository of something else"),
        (unsaved, "holds changes that aren't committed"),
    ],
)
def test_what_isnt_a_hand_out_stays_as_it_is(mini: Lab, tmp_path, prepare, said: str) -> None:
    prepare(tmp_path)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    with pytest.raises(HandoutError, match=said):
        hand_out(tmp_path, [mini], URL)
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("raise NotImplementedError  # your code here", "return 2 * x", "has worked in"),
        (
            '# A tiny lab"',
            '# A tiny lab\\ntwice = x + x\\nreturn twice"',
            "shows this part of the solution",
        ),
    ],
)
def test_a_lab_that_isnt_clean_is_not_handed_out(mini, tmp_path, old, new, said) -> None:
    text = mini.released_path.read_text()
    assert old in text
    mini.released_path.write_text(text.replace(old, new, 1))
    try:
        with pytest.raises(HandoutError, match=said):
            hand_out(tmp_path / "out", [mini], URL)
    finally:
        mini.released_path.write_text(text)
    assert not (tmp_path / "out" / "labs").exists()


def test_outputs_stay_behind(grader: Grader, tmp_path) -> None:
    path = grader.lab.released_path
    text = path.read_text()
    path.write_text(
        text.replace(
            '"outputs": []',
            '"outputs": [{"output_type": "stream", "name": "stdout", "text": "seen"}]',
        )
    )
    try:
        hand_out(tmp_path, [grader.lab], URL)
    finally:
        path.write_text(text)
    assert "seen" not in (tmp_path / "labs" / path.name).read_text()


def test_the_command(grader: Grader, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cli, "find_lab", lambda name: grader.lab)
    monkeypatch.setattr(cli, "lab_names", lambda: ["01_mini"])
    folder = str(tmp_path / "out")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["handout", folder, *arguments])
        return result.exit_code, result.output

    assert run("--url", "labs'; import os") == (
        1,
        "labs'; import os is no address such as https://github.com/us/labs\n",
    )
    hub = "https://hub.example.org"
    assert run("01", "--url", URL, "--hub", hub) == (
        0,
        textwrap.dedent(f"""\
            {folder}: v1 holds 01_mini; students get it from {URL}
            next: git -C {folder} push --follow-tags origin main
            """),
    )
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"[This link]({hub}/hub/user-redirect/git-pull?repo=" in readme
    row = next(line for line in readme.splitlines() if "`labs/01_mini.ipynb`" in line)
    assert "[JupyterHub](" in row and "%2Flab%2Ftree%2F" not in row
    assert row.endswith("&urlpath=lab%2Ftree%2Flabs%2Flabs%2F01_mini.ipynb) |")
    assert run("--hub", hub) == (0, f"{folder}: nothing is new since v1\n")
