"""docs/week.md shows what the commands print: it is walked, command by command, on a made class."""

import re
import shlex
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import downloads
import pytest
from courses import mark_all
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.lab import ROOT, Lab, find_lab, read_lab
from autograder.course.questions import Server
from autograder.demo import sample_class

PAGE = ROOT / "docs" / "week.md"
Row = tuple[str, ...]


def walk(text: str) -> list[tuple[str, str]]:
    """A page's commands, each with what is shown as its output ("" for nothing)."""
    steps: list[tuple[str, str]] = []
    for block in re.findall(r"^```\n(.*?)^```$", text, re.M | re.S):
        if block.startswith("autograder "):
            steps += [(line, "") for line in block.splitlines()]
        else:
            steps[-1] = (steps[-1][0], block)
    return steps


def lines(printed: str) -> list[Row]:
    """What is printed, line by line; a table's row is one line, with its cells."""
    found: list[Row] = []
    for line in printed.splitlines():
        if line.startswith(("│", "┃")):
            cells = tuple(cell.strip() for cell in re.split("[│┃]", line)[1:-1])
            if line.startswith("│") and not any(cells[:2]):  # goes on in a second line
                joined = zip(found[-1], cells, strict=True)
                cells = tuple(" ".join(filter(None, pair)) for pair in joined)
                found.pop()
            found.append(cells)
        elif words := line.split():
            found.append((" ".join(words),))
    return found


def six(lab: Lab) -> list[downloads.Student]:
    """Six who hand in, the last of whom after the due date, and one who doesn't."""
    made = sample_class(lab)
    states = ["perfect", "mistake_in_convolve2d", "metadata_stripped", "untouched"]
    states += ["not_a_notebook", "correct_variant"]
    students = []
    for number, state in zip((0, 1, 4, 2, 8, 9), states, strict=True):
        first, last = downloads.NAMES[number]
        login = re.sub(r"\W", "", f"{first[0]}{last}".casefold())
        student = downloads.Student(first, last, number, login)
        student.files = [(f"{lab.name}.ipynb", made[state])]
        student.handed_in = downloads.DUE + timedelta(hours=number - 9.5)
        students.append(student)
    students[-1].handed_in = downloads.DUE + timedelta(hours=9)
    return [*students, downloads.Student("Grace", "Hopper", 30, "ghopper")]


@pytest.fixture
def steps(tmp_path: Path, monkeypatch) -> Callable[[str], str]:
    """Runs one command of the page in a course with three downloads; gives what it prints."""
    (tmp_path / "solutions").mkdir()
    (tmp_path / "help").mkdir()
    original = find_lab("01")
    path = Path(shutil.copy(original.solution_path, tmp_path / "solutions"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(cli, "find_lab", lambda name: read_lab(path))
    monkeypatch.setattr(Server, "serve_forever", mark_all)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    students = six(original)
    most = sum(cell.points or 0 for cell in original.having("test", "question")) + 1
    title = f"{original.name} (45)"
    downloads.canvas_gradebook(tmp_path / "gradebook.csv", students, title, most)
    downloads.canvas_zip(tmp_path / "canvas.zip", students[:2])
    downloads.moodle_zip(tmp_path / "moodle.zip", students[2:4])
    downloads.moodle_worksheet(tmp_path / "worksheet.csv", students[2:4], most)
    downloads.gradescope_zip(tmp_path / "gradescope.zip", students[4:6])
    (tmp_path / "help" / f"{original.name}.ipynb").write_bytes(students[1].files[0][1])

    def step(command: str) -> str:
        if command == "autograder release 01":  # A test was mended: it is worth a point more.
            text = path.read_text()
            worth = re.search(r'^# %% test="convolve2d".* points=(\d+)', text, re.M)
            more = worth[0].replace(f"points={worth[1]}", f"points={int(worth[1]) + 1}")
            path.write_text(text.replace(worth[0], more, 1))
        result = CliRunner().invoke(cli.app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        return result.output

    return step


@pytest.mark.slow
def test_the_page_shows_what_the_commands_print(steps, monkeypatch) -> None:
    monkeypatch.setattr(cli.console, "width", 400)
    for command, shown in walk(PAGE.read_text()):
        printed = lines(steps(command))
        for line in lines(shown):
            assert line in printed, f"{command} prints no line {line}, but {printed}"


def test_the_readme_shows_the_same() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## A TA\n")[2]
    block = re.search(r"^```\n(.*?)^```$", section, re.M | re.S)[1]
    shown = dict(walk(PAGE.read_text()))
    command = ""
    for line in block.splitlines():
        if line.startswith("    "):
            assert line.strip() in shown[command].splitlines(), command
        else:
            command = line.partition("  #")[0].rstrip()
            assert command in shown
