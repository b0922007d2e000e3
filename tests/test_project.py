"""The project's own promises: one list of dependencies, a worker that knows no test, whole labs."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from autograder import cli
from autograder.authoring.lab import ROOT, find_lab, lab_names
from autograder.authoring.release import strings
from autograder.grading.sandbox import WORKER_FILES


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


def test_the_worker_imports_nothing_that_knows_a_test_or_a_solution() -> None:
    for name in WORKER_FILES:
        needed = {n for n in imports(ROOT / "autograder" / name) if n.startswith("autograder")}
        assert needed <= {"autograder.grading.channel", "autograder.grading.kernel"}, name


def test_every_lab_is_complete() -> None:
    for name in lab_names():
        for path in (
            f"labs/{name}.ipynb",
            f"tests/mistakes/{name}.py",
            f"tests/labs/test_{name}.py",
        ):
            assert (ROOT / path).is_file(), path


TOPICS = {"A": 4, "B": 2, "C": 3, "D": 4, "E": 6, "F": 4, "G": 2, "H": 3}


def test_every_topic_of_the_lecture_has_its_exercises_and_its_figure() -> None:
    rows = re.findall(
        r"^\| ([A-H]\d) \| [^|]+ \| (\d\d) \| ([^|]+) \| ([^|]+) \|$",
        (ROOT / "docs" / "lecture.md").read_text(),
        re.M,
    )
    wanted = {f"{part}{number}" for part, count in TOPICS.items() for number in range(1, count + 1)}
    assert {topic for topic, *_ in rows} == wanted
    for topic, number, exercises, title in rows:
        lab = find_lab(number)
        for exercise in re.findall(r"`(\w+)`", exercises) or [""]:
            assert exercise in lab.exercises, f"{topic}: lab {number} has no exercise {exercise}"
        demos = [cell for cell in lab.having("demo") if not cell.markdown]
        drawn = [cell for cell in demos if title in strings(cell.source)]
        assert drawn, f"{topic}: lab {number} has no figure “{title}”"


def test_readme_lists_every_lab() -> None:
    listed = re.findall(r"^\| `(\d\d_\w+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert listed == lab_names()


def made() -> set[str]:
    """What `make` can be asked for."""
    return set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split())


def test_make_help_lists_all_that_there_is_to_make() -> None:
    # Within another make it would also tell the folder.
    command = ["make", "--no-print-directory", "help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^make (\w+) +\S.+$", run.stdout, re.M)
    assert set(listed) == made() - {"sandbox"}  # a part of others
    assert len(listed) == len(run.stdout.splitlines())


PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    quoted = re.findall(r"^```\n(.*?)^```$|`([^`\n]+)`", text, re.M | re.S)
    code = "\n".join(block or word for block, word in quoted)
    verbs = get_command(cli.app).commands
    for verb, words in re.findall(r"^autograder ([a-z]+)(.*)$", code, re.M):
        options = {option for parameter in verbs[verb].params for option in parameter.opts}
        assert set(re.findall(r"(?<= )--[a-z-]+", words.partition("  #")[0])) <= options, verb
    assert set(re.findall(r"^make ([a-z]+)", code, re.M)) <= made()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"\b(?:autograder|benchmarks|docs|tests|utils)/[\w/.]+\w", code)
    for path in [(ROOT / page).parent / link for link in links] + [ROOT / path for path in named]:
        assert path.exists() or re.search("NN_|13_|02_accuracy", path.name), path


def test_the_tables_of_the_week_have_the_headings_that_are_printed() -> None:
    calls = [node for node in ast.walk(ast.parse(Path(cli.__file__).read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Table"]  # fmt: skip
    printed = {tuple(ast.literal_eval(heading) for heading in call.args) for call in calls}
    lines = re.findall("^┃ (.+?) +┃$", (ROOT / "docs" / "week.md").read_text(), re.M)
    shown = {tuple(re.split(" *┃ *", line)) for line in lines}
    assert len(shown) == 6
    assert shown <= printed


def test_the_version_that_is_installed_is_in_the_changelog() -> None:
    released = re.findall(r"^## \[([\d.]+)\] – (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0][1] == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", released[0][1])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in released[1:])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    dated = [number for number, date in released if date != "unreleased"]
    assert version == (dated[0] if dated else "0.1.0")
