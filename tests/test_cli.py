"""The command as a TA types it: what it prints, writes and refuses."""

import json
import shutil
import zipfile

import nbformat
import pytest
from conftest import Grader
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.lab import read_lab
from autograder.authoring.release import release
from autograder.course.seeds import read_seeds
from autograder.grading import sandbox


@pytest.fixture
def run(grader: Grader, monkeypatch):
    """Runs the command with the tiny lab as the only one; gives exit code and output."""
    monkeypatch.setattr(cli, "find_lab", lambda name: read_lab(grader.lab.solution_path))
    monkeypatch.setattr(cli, "lab_names", lambda: ["01_mini"])
    monkeypatch.setattr(cli.console, "width", 200)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
        return result.exit_code, " ".join(result.output.split())

    return run


def test_grade_a_folder(run, grader: Grader, tmp_path) -> None:
    class_folder = tmp_path / "class"
    class_folder.mkdir()
    nbformat.write(grader.notebook(), class_folder / "ada.ipynb")
    nbformat.write(
        grader.notebook(double="def double(x):\n    return x * x"), class_folder / "b.ipynb"
    )
    code, said = run("grade", "01", class_folder, "--results", tmp_path / "r", "--workers", "1")
    assert code == 0
    assert "ada │ 10/10 │ all tests passed" in said
    assert "b │ 5/10 │ double: x is squared" in said
    assert json.loads((tmp_path / "r" / "ada.json").read_text())["score"] == 10


def test_grade_a_course(run, grader: Grader, tmp_path) -> None:
    course = tmp_path / "course"
    assert run("release", "--course", course)[0] == 0
    for student, notebook in {"ada": grader.notebook(), "empty": None}.items():
        folder = course / "submitted" / student / "01_mini"
        folder.mkdir(parents=True)
        if notebook:
            nbformat.write(notebook, folder / "01_mini.ipynb")
    code, said = run("grade", "01", "--course", course, "--workers", "1")
    assert code == 0
    assert "empty │ refused │ the folder holds no notebook; it should hold one" in said
    for path in ("grades.csv", "gradebook.db", "autograded/ada/01_mini/01_mini.ipynb"):
        assert (course / path).is_file()
    assert str(course / "grades.csv") in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grade", "01", "{tmp}/nowhere", "--results", "r"], "there is no folder"),
        (["grade", "01", "{tmp}", "--results", "r"], "is empty; put one notebook per student"),
        (["grade", "01", "{tmp}"], "name the folder for the results with --results DIR"),
        (["grade", "01", "--course", "{tmp}"], "is no course with the lab 01_mini; run"),
        (["grade", "01", "{tmp}", "--results", "r", "--isolation", "x"], "bubblewrap or process"),
        (["grade", "01", "{tmp}", "--workers", "0"], "Invalid value for '--workers'"),
    ],
)
def test_bad_input_gets_one_clear_sentence(run, tmp_path, arguments, said) -> None:
    code, output = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert code != 0
    assert said in output
    assert "Traceback" not in output


def test_nobody_has_handed_in(run, grader: Grader, tmp_path) -> None:
    release(grader.lab, tmp_path)
    code, said = run("grade", "01", "--course", tmp_path)
    assert code == 1
    assert "nobody has handed in 01_mini" in said


def test_unknown_lab(tmp_path) -> None:
    result = CliRunner().invoke(cli.app, ["release", "99"])
    assert result.exit_code == 1
    assert "the labs are: 01_convolution" in result.output


def test_lab_that_is_not_released(run, grader: Grader, tmp_path) -> None:
    nbformat.write(grader.notebook(), tmp_path / "ada.ipynb")
    away = grader.lab.released_path.rename(grader.lab.released_path.with_suffix(".away"))
    try:
        code, said = run("grade", "01", tmp_path, "--results", tmp_path / "r", "--workers", "1")
    finally:
        away.rename(grader.lab.released_path)
    assert code == 1
    assert "is not released; run `autograder release 01_mini`" in said


def test_release_check(run, grader: Grader) -> None:
    assert run("release", "--check")[0] == 0
    current = grader.lab.released_path.read_text()
    grader.lab.released_path.write_text(current.replace("Twice", "Thrice"))
    try:
        code, said = run("release", "--check")
    finally:
        grader.lab.released_path.write_text(current)
    assert code == 1
    assert "01_mini: " in said
    assert "run `autograder release 01_mini` and commit" in said


def test_without_bubblewrap_grading_stops(run, grader: Grader, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(sandbox.SandboxUnavailable, match=r"install it .* or grade without it by"):
        sandbox.Sandbox(["torch"])


def test_sandbox_that_can_not_start(monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda: ["false"])
    with pytest.raises(sandbox.SandboxUnavailable, match="the sandbox did not start"):
        sandbox.Sandbox(["torch"])


def test_plain_process_isolation_on_request(run, grader: Grader, tmp_path, monkeypatch) -> None:
    class_folder = tmp_path / "class"
    class_folder.mkdir()
    nbformat.write(grader.notebook(), class_folder / "ada.ipynb")
    loop = grader.notebook(double="import os\ndef double(x):\n    os._exit(1)")
    nbformat.write(loop, class_folder / "bob.ipynb")
    code, said = run(
        *("grade", "01", class_folder, "--results", tmp_path / "r"),
        *("--workers", "1", "--isolation", "process"),
    )
    assert code == 0
    assert "ada │ 10/10" in said
    assert "bob │ 5/10 │ double: ended the process (exit status 1)" in said


def test_report_on_a_course_and_on_a_folder(run, grader: Grader, tmp_path) -> None:
    folder = tmp_path / "results" / "01_mini"
    folder.mkdir(parents=True)
    code, said = run("report", "01", "--course", tmp_path)
    assert code == 1
    assert "holds no results; run `autograder grade` first" in said
    grader(grader.notebook(), "ada").write(folder / "ada.json")
    for arguments in (["--course", tmp_path], ["--results", folder]):
        code, said = run("report", "01", *arguments)
        assert code == 0
        assert said == f"report: {folder / 'report.html'}"
        assert "ada" in (folder / "report.html").read_text()


def test_gradescope(run, tmp_path) -> None:
    code, said = run("gradescope", "01", "--course", tmp_path)
    path = tmp_path / "gradescope" / "01_mini.zip"
    assert (code, said) == (0, f"to upload to Gradescope, as the lab's autograder: {path}")
    with zipfile.ZipFile(path) as archive:
        settings = json.loads(archive.read("gradescope.json"))
    assert settings == {
        "lab": "01_mini",
        "seed": read_seeds(tmp_path).seed,
        "hidden": "after_published",
    }
    code, said = run("gradescope", "01", "--out", path, "--hidden", "never")
    assert code == 1 and "--hidden is one of visible," in said
    code, said = run("gradescope", "01", "--out", path, "--torch-index", "https://x'; rm -rf /")
    assert code == 1 and "--torch-index is the address of a package index" in said
