"""Whatever a step of the week was doing when it was killed, the same command does it whole."""

import itertools
import shlex
import shutil
from pathlib import Path

import downloads
import nbformat
import pytest
from conftest import Grader
from courses import LAB, contents, copied, mark_all, mend, own_lab
from kills import killed
from typer.testing import CliRunner

from autograder import cli
from autograder.authoring.lab import Lab, read_lab
from autograder.course.questions import Server

STEPS = {
    "release": "release 01 --due '2026-12-24 12:00'",
    "collect": "collect 01 first.zip moodle.zip --roster people.csv",
    "collect again": "collect 01 later.zip",
    "report": "report 01",
    "feedback": "feedback 01",
    "export": "export 01",
    "export --canvas": "export 01 --canvas canvas.csv --provisional",
    "regrade --apply": "regrade 01 --apply",
    "gradescope": "gradescope 01",
}


def students(grader: Grader) -> list[downloads.Student]:
    """Four, of whom one answers 41, one hands in a picture as well, and one no notebook."""
    made = downloads.made_class(nbformat.writes(grader.notebook()).encode(), LAB, 17)
    chosen = [made[number] for number in (1, 5, 13, 16)]
    wrong = nbformat.writes(grader.notebook(answer="answer = 41")).encode()
    chosen[0].files = [(f"{LAB}.ipynb", wrong)]
    return chosen


def run(arguments: str) -> str:
    """Runs the command in the current folder; gives what it printed."""
    result = CliRunner().invoke(cli.app, shlex.split(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def own() -> Lab:
    """The lab of the current folder."""
    return read_lab(Path("solutions/01_mini.py").absolute())


@pytest.fixture(scope="module")
def week(mini: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a course and downloads as they are before each step, by step."""
    start = tmp_path_factory.mktemp("week") / "collect"
    lab = own_lab(mini, start)
    grader = Grader(lab, start)
    people = students(grader)
    downloads.canvas_gradebook(start / "people.csv", people, "01_mini (45)", 12)
    downloads.canvas_zip(start / "first.zip", people[:2])
    downloads.moodle_zip(start / "moodle.zip", people[2:])
    downloads.canvas_gradebook(start / "canvas.csv", people, "01_mini (45)", 14)
    later = f"{downloads.canvas_name(people[1])}_{people[1].user_id}_67999_{LAB}-1.ipynb"
    downloads.write_zip(start / "later.zip", [(later, people[0].files[0][1] + b" ")])
    copied(mini.root / "course", start)
    folders = {"collect": start}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "find_lab", lambda name: own())
        patch.setattr(Server, "serve_forever", mark_all)

        def before(step: str) -> None:
            folders[step] = start.with_name(step)
            shutil.copytree(Path.cwd(), folders[step])
            patch.chdir(folders[step])

        patch.chdir(start)
        before("collect again")
        run(STEPS["collect"])
        run("grade 01 --workers 1")
        run("questions 01")
        for step in ("release", "report", "feedback", "export", "gradescope", "regrade --apply"):
            before(step)
        mend(own(), Path("course"))
        run("regrade 01 --workers 1")
        before("export --canvas")
        run(STEPS["regrade --apply"])
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_moment_and_run_again(week, tmp_path, monkeypatch, step: str) -> None:
    monkeypatch.setattr(cli, "find_lab", lambda name: own())

    def fresh() -> Path:
        shutil.rmtree(tmp_path / "here", ignore_errors=True)
        shutil.copytree(week[step], tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
        return tmp_path / "here"

    here = fresh()
    run(STEPS[step])
    whole = contents(here / "course"), (here / "canvas_01_mini.csv").exists()
    for number in itertools.count(1):
        if not killed(lambda: run(STEPS[step]), fresh(), number):
            break
        run(STEPS[step])
        now = contents(here / "course"), (here / "canvas_01_mini.csv").exists()
        assert now == whole, f"killed at moment {number}"
    assert contents(here / "course") == whole[0]  # Not killed in the end.
    assert number > 2
