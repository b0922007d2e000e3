"""The command finds its course as git does, begins one, and says where there is none."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from autograder import cli
from autograder.authoring.lab import ROOT, find_lab
from autograder.authoring.new import STARTER, NotEmpty, begin
from autograder.rehearsal.rehearse import rehearse
from autograder.start import course_root


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command, run in a folder."""
    command = [sys.executable, "-c", "from autograder.start import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_course_is_found_from_its_subfolders(tmp_path: Path, monkeypatch) -> None:
    course = tmp_path / "a" / "course"
    for folder in ("solutions", "utils", "labs/deep"):
        (course / folder).mkdir(parents=True)
    (course / "utils" / "checks.py").touch()
    for folder in (course, course / "labs" / "deep", course / "solutions"):
        monkeypatch.chdir(folder)
        assert course_root() == course
    for folder in (tmp_path, tmp_path / "a"):
        monkeypatch.chdir(folder)
        assert course_root() is None


def test_a_hand_in_is_no_course(tmp_path: Path, monkeypatch) -> None:
    """It may hold all that makes a course; who looks at it from inside runs nothing of it."""
    hand_in = tmp_path / "course" / "submitted" / "eve" / "01"
    for root in (tmp_path, hand_in):
        (root / "solutions").mkdir(parents=True)
        (root / "utils").mkdir()
        (root / "utils" / "checks.py").touch()
    (tmp_path / "course" / "gradebook.db").touch()
    monkeypatch.chdir(hand_in)
    assert course_root() == tmp_path
    (tmp_path / "utils" / "checks.py").unlink()
    assert course_root() is None


VERBS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]  # type: ignore[union-attr]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "new"])
def test_where_there_is_no_course_one_sentence_says_so(tmp_path: Path, verb: str) -> None:
    said = run(tmp_path, verb, "01")
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr.startswith("there is no course here or above: ")
    assert said.stderr.count("\n") == 1


def test_help_needs_no_course(tmp_path: Path) -> None:
    said = run(tmp_path, "grade", "--help")
    assert said.returncode == 0, said.stderr
    assert "Grade a class" in said.stdout


def test_without_the_graders_packages_it_says_which_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['typer'] = None; from autograder.start import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", program, "new", "course"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    told = "typer is not installed: pip install 'convnet-labs[grading]'\n"
    assert (said.returncode, said.stderr) == (1, told)


def test_a_new_course_is_another_one_than_ours(tmp_path: Path) -> None:
    said = run(tmp_path, "new", "seeing")
    assert said.returncode == 0, said.stderr
    course = tmp_path / "seeing"
    assert not [path for path in course.rglob("*") if path.is_symlink()]
    for path in ("README.md", ".gitignore", "LICENSE", "utils/weights/base.safetensors"):
        assert (course / path).is_file(), path
    (course / "labs").mkdir()
    said = run(course / "labs", "release", "77")
    assert said.stderr.strip() == "there is no lab '77'; the labs are: 01_first_lab"
    with (course / "utils" / "__init__.py").open("a") as file:
        file.write("raise SystemExit('the utils/ of this very course')\n")
    assert run(course, "release").stderr.strip() == "the utils/ of this very course"


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    said = run(tmp_path.parent, "new", tmp_path.name)
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "is there already and not empty: name a new folder" in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(NotEmpty):
        begin(tmp_path / "mine.txt")


def test_a_new_course_imports_what_ours_does() -> None:
    ours, theirs = (
        tomllib.loads((root / "pyproject.toml").read_text())["project"] for root in (ROOT, STARTER)
    )
    for key in ("dependencies", "requires-python"):
        assert theirs[key] == ours[key]


@pytest.mark.slow
def test_the_first_lab_of_a_new_course_is_ready(tmp_path: Path) -> None:
    from autograder.authoring.release import release

    begin(tmp_path / "course")
    lab = find_lab("01", tmp_path / "course")
    release(lab, tmp_path / "course" / "course")
    assert rehearse(lab, workers=1, seeds=(0, 1), most_mutants=100).problems == []
