"""The hand-out: a git repository of what students get, and of nothing else."""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote

import nbformat

from autograder.authoring.addressed import addressed, badge, with_badge
from autograder.authoring.lab import ROOT, Lab, find_lab, read_project

STUDENT = Path(__file__).with_name("student")
IGNORED = ".venv/\nwork/\n__pycache__/\n.ipynb_checkpoints/\n"
URL = re.compile(r"(?:https?|file)://[\w.:/@%+~-]+")
# Who commits where git hasn't been told who does.
STAFF = ("-c", "user.name=Course staff", "-c", "user.email=staff@course.invalid")


class HandoutError(Exception):
    """The hand-out can't be written; the message says why and what to do."""


class Handout(NamedTuple):
    """What was handed out: the version, which is a tag, the labs' names, the address that students
    get it from, the branch, and whether anything is new."""

    version: str
    labs: list[str]
    url: str
    branch: str
    new: bool


def hand_out(
    folder: Path, labs: Iterable[Lab], url: str | None = None, hub: str | None = None
) -> Handout:
    """Writes the labs, and those that were handed out before, as a commit of the repository in
    `folder`, which is made if there is none. The commit is tagged v1, v2, …, and its notebooks
    fetch just that version.

    Args:
        url: where students will get it from; if none, from where `folder` was cloned, else the
            Repository of pyproject.toml.
        hub: the address of a JupyterHub with nbgitpuller.

    Raises:
        HandoutError: `folder` holds something else, a lab isn't released or holds somebody's work
            or a solution, or git fails.
        LabError: a lab that was handed out before has mistakes by now.
    """
    for address in filter(None, (url, hub)):
        if not URL.fullmatch(address):
            raise HandoutError(f"{address} is no address such as https://github.com/us/labs")
    before = _open(folder)
    origin = _git(folder, "config", "--default", "", "--get", "remote.origin.url")
    repository = url or _as_web_address(origin)
    if url and not origin:
        _git(folder, "remote", "add", "origin", url)
    chosen = {lab.name: lab for lab in labs}
    for path in (folder / "labs").glob("*.ipynb"):
        if path.stem not in chosen:
            chosen[path.stem] = find_lab(path.stem)
    names = sorted(chosen)
    notebooks = [_notebook(chosen[name]) for name in names]
    branch = _git(folder, "symbolic-ref", "--short", "HEAD")
    for number in range(max(before, 1), before + 2):  # as it was, and else the next version
        given = Handout(f"v{number}", names, repository, branch, number > before)
        _write(folder, given, [chosen[name] for name in names], notebooks, hub)
        _git(folder, "add", "--all")
        if not _git(folder, "status", "--porcelain"):
            return given
    known = _git(folder, "config", "--default", "", "--get", "user.email")
    for command in (
        ("commit", "--quiet", "--message", f"Labs, {given.version}"),
        ("tag", "--annotate", "--message", f"Labs, {given.version}", given.version),
    ):
        _git(folder, *(() if known else STAFF), *command)
    return given


def _git(folder: Path, *command: str) -> str:
    """What git says, in `folder`'s own repository.

    Raises:
        HandoutError: it fails, or there is none.
    """
    try:
        done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise HandoutError("git is needed to write a hand-out: install it first") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise HandoutError(f"git {command[0]} failed in {folder}: {said}")
    return done.stdout.strip()


def _open(folder: Path) -> int:
    """Makes sure that `folder` is a repository of hand-outs, or a new one.

    Returns:
        The number of the version that it holds; 0 if none.
    """
    if not (folder / ".git").exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise HandoutError(f"{folder} is no hand-out and not empty: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        _git(folder, "init", "--quiet", "--initial-branch", "main")
        return 0
    if _git(folder, "status", "--porcelain"):
        raise HandoutError(f"{folder} holds changes that aren't committed: commit or remove them")
    version = folder / "VERSION"
    if version.is_file() and (number := re.fullmatch(r"v(\d+)\n", version.read_text())):
        return int(number[1])
    if _git(folder, "ls-files"):
        raise HandoutError(
            f"{folder} is a git repository of something else: name a new folder, or a clone of an"
            " empty repository"
        )
    return 0


def _as_web_address(origin: str) -> str:
    """The address under which all can read what `origin` names."""
    if shell := re.fullmatch(r"(?:ssh://)?git@([\w.-]+)[:/](.+)", origin):
        origin = f"https://{shell[1]}/{shell[2]}"
    if not origin:
        origin = read_project(ROOT)["urls"]["Repository"]
    if not URL.fullmatch(origin):
        raise HandoutError(f"students can't get it from {origin}: say from where with --url")
    return origin


def _notebook(lab: Lab) -> nbformat.NotebookNode:
    """A lab's released notebook, without outputs."""
    from autograder.authoring.release import holds_work, solution_leaks

    if not lab.released_path.is_file():
        raise HandoutError(f"{lab.name} is not released; run `autograder release {lab.name}`")
    if holds_work(lab.released_path):
        raise HandoutError(
            f"somebody has worked in {lab.released_path}; `autograder release {lab.name}` puts that"
            " aside"
        )
    notebook = nbformat.read(lab.released_path, as_version=4)
    if leaks := solution_leaks(lab, notebook):
        raise HandoutError("\n".join(leaks))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _write(
    folder: Path,
    given: Handout,
    labs: list[Lab],
    notebooks: list[nbformat.NotebookNode],
    hub: str | None,
) -> None:
    """Writes all files of the hand-out; what else lies at its top stays."""
    from nbgrader.utils import compute_checksum

    for name in ("labs", "utils"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "labs").mkdir()
    name = given.url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
    pull = f"/hub/user-redirect/git-pull?repo={quote(given.url, '')}&branch={given.branch}"
    pull += f"&urlpath={quote(f'lab/tree/{name}/labs', '')}"
    rows = []
    for lab, notebook in zip(labs, notebooks, strict=True):
        path = f"labs/{lab.released_path.name}"
        link = badge(given.url, given.branch, path)
        title, _, _ = notebook.cells[0].source.partition("\n")
        rows.append(f"| {title.removeprefix('# ')} | `{path}` | {link}")
        if hub:
            rows[-1] += f" [JupyterHub]({hub.rstrip('/')}{pull}{quote(path[len('labs') :], '')})"
        rows[-1] += " |"
        notebook = copy.deepcopy(notebook)
        notebook.cells[0].source = with_badge(notebook.cells[0].source, link)
        setup = next(cell for cell in notebook.cells if cell.id == "setup")
        setup.source = addressed(setup.source, given.url, given.version)
        setup.metadata.nbgrader.checksum = compute_checksum(setup)
        nbformat.write(notebook, folder / path)
        if lab.values_path.is_file():
            shutil.copyfile(lab.values_path, folder / "labs" / lab.values_path.name)
    code = "\n".join(cell.source for n in notebooks for cell in n.cells if cell.cell_type == "code")
    for file in imported(code):
        (folder / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file.relative_to(ROOT))
    readme = Template((STUDENT / "README.md").read_text("utf-8")).substitute(
        table="\n".join(["| lab | notebook | |", "|---|---|---|", *rows]),
        url=given.url,
        name=name,
        colab=(
            "Click a lab's badge in the table."
            if badge(given.url, given.branch, "")
            else "On [Colab](https://colab.research.google.com), upload the notebook."
        ),
        hub=(
            f"[This link]({hub.rstrip('/')}{pull}) fetches the files there and opens them."
            if hub
            else f"With nbgitpuller, put this after the hub's address: `{pull}`."
        ),
        example=labs[0].released_path.name,
        version=given.version,
    )
    texts = {
        "README.md": readme,
        "Makefile": (STUDENT / "Makefile").read_text("utf-8"),
        "environment.yml": (STUDENT / "environment.yml").read_text("utf-8"),
        "requirements.txt": "\n".join(read_project(ROOT)["dependencies"]) + "\n",
        "LICENSE": (ROOT / "LICENSE").read_text("utf-8"),
        "VERSION": f"{given.version}\n",
        ".gitignore": IGNORED,
    }
    for file_name, text in texts.items():
        (folder / file_name).write_text(text, "utf-8")


def imported(code: str) -> list[Path]:
    """The files of utils/ that this code imports, and those need."""
    found = {ROOT / "utils" / "__init__.py"}
    waiting = [code]
    for source in waiting:
        for name in re.findall(r"\b(?:from|import) utils\.(\w+)", source):
            path = ROOT / "utils" / f"{name}.py"
            if path not in found:
                found.add(path)
                waiting.append(path.read_text("utf-8"))
    if ROOT / "utils" / "models.py" in found:
        found |= set((ROOT / "utils" / "weights").iterdir())
    return sorted(found)
