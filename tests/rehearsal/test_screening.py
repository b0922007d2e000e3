"""The quick judges: they agree with the grader, and nothing that they run reaches anything else."""

import os
import shutil
from pathlib import Path

import pytest
from tqdm import tqdm

from autograder.authoring.lab import Lab, find_lab, read_lab
from autograder.authoring.release import release
from autograder.rehearsal.distinct import alike
from autograder.rehearsal.known_answers import known_answers
from autograder.rehearsal.paste import pasted
from autograder.rehearsal.poison import passed, poisoners
from autograder.rehearsal.rehearse import messages
from autograder.rehearsal.screening import Lost, Screen, in_fork
from autograder.rehearsal.trials import Trials

ANSWERS = {
    "right": "def double(x):\n    return 2 * x",
    "half right": "def double(x):\n    return 2 * np.abs(x)",
    "wrong": "def double(x):\n    return x",
    "raises": "def double(x):\n    return x.shape[5]",
    "exits": "import os\ndef double(x):\n    os._exit(0)",
    "a syntax error": "def double(x)\n    return x",
    "defines nothing": "x = 1",
}


def test_the_screen_and_the_grader_agree(mini: Lab, grader) -> None:
    screen = Screen(mini)
    for title, source in ANSWERS.items():
        screened = screen.verdicts({"double": source}, {"double"})
        graded = messages(grader(grader.notebook(double=source)))
        assert {name: bool(graded[name]) for name in screened} == {
            name: bool(message) for name, message in screened.items()
        }, title
    assert set(screened) == {"test_double", "test_double_2"}


def test_what_an_exercise_forbids_fails_the_test_that_asks(mini: Lab, tmp_path: Path) -> None:
    text = mini.solution_path.read_text()
    text = text.replace('exercise="double"', 'exercise="double" without="numpy.add"')
    ask = '# %% test="double" points=1\nfrom utils.guard import check_without\n\n'
    path = tmp_path / "01_mini.py"
    path.write_text(
        text.replace(
            '# %% exercise="score"',
            f'{ask}assert double(2) == 4\ncheck_without(double)\n\n\n# %% exercise="score"',
        )
    )
    screen = Screen(read_lab(path))
    assert set(screen.verdicts({}, {"double"}).values()) == {""}
    said = screen.verdicts({"double": "def double(x):\n    return np.add(x, x)"}, {"double"})
    assert "line 2 calls `numpy.add`" in said.pop("test_double_3")
    assert set(said.values()) == {""}


@pytest.mark.slow
def test_they_agree_on_a_lab() -> None:
    lab = find_lab("01")
    with Trials(os.cpu_count() or 1) as trials:
        pairs = [
            (trials.graded(lab, sources, {name}), trials.screened(lab, sources, {name}))
            for answer in known_answers(lab)[::7]
            for name, sources in [(answer.exercise, {answer.exercise: answer.source})]
        ]
        for graded, screened in pairs:
            assert {k: bool(m) for k, m in messages(graded.result()).items()} == {
                k: bool(m) for k, m in screened.result().items()
            }


def test_an_answer_that_overwrites_the_given_network_reaches_no_other(mini: Lab) -> None:
    screen = Screen(mini)
    spoiling = "network.__code__ = (lambda: None).__code__\ndef double(x):\n    return 2 * x"
    screen.verdicts({"double": spoiling}, {"double"})
    assert set(screen.verdicts({}, {"double", "score"}).values()) == {""}


def test_a_fork_that_doesn_t_end_is_ended(capfd: pytest.CaptureFixture) -> None:
    def endless() -> None:
        print("heard")
        while True:
            pass

    with pytest.raises(Lost, match=r"took more than 0\.2 s"):
        in_fork(endless, 0.2)
    assert in_fork(lambda: 6 * 7, 5) == 42
    assert capfd.readouterr().out == ""


def test_a_progress_bar_in_a_fork_that_was_ended_keeps_no_other_waiting(mini: Lab) -> None:
    Screen(mini)

    def end_with_the_lock() -> None:
        tqdm.get_lock().acquire()
        os._exit(1)

    with pytest.raises(Lost):
        in_fork(end_with_the_lock, 1.0)
    assert in_fork(lambda: list(tqdm(range(3))), 1.0) == [0, 1, 2]


def test_mistakes_that_a_check_can_t_tell_apart(mini: Lab, tmp_path: Path) -> None:
    text = mini.solution_path.read_text()
    old = '    "x is squared": np.array([1.0, 4.0]),\n'
    assert old in text
    new = old + (
        '    "the first is kept": np.array([1.0, 4.0]),\n'
        '    "nothing is wrong": np.array([2.0, 4.0]),\n'
        '    "impossible here": lambda: 1 / 0,\n'
        '    "another one": lambda: np.array([5.0, 6.0]),\n'
    )
    path = tmp_path / "01_mini.py"
    path.write_text(text.replace(old, new))
    found = alike(path)
    line = next(
        n for n, row in enumerate(text.splitlines(), 1) if row.startswith("check_close(dou")
    )
    assert {(pair.exercise, pair.line, pair.mistake, pair.other) for pair in found} == {
        ("double", line, "x is squared", "the first is kept"),
        ("double", line, "nothing is wrong", ""),
    }


def test_code_that_students_see_earns_points(mini: Lab) -> None:
    folder = mini.root / "tests" / "mistakes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01_mini.py").write_text('# %% correct="double"\ndef double(x):\n    return 2 * x\n')
    assert pasted(mini.solution_path, "double") == []
    best = pasted(mini.solution_path, "score")[0]
    assert (best.points, best.max_points) == (4, 4)
    assert "model(images)[:, 0]" in best.code
    assert best.place.startswith("labs/01_mini.ipynb, cell test_score, line ")


@pytest.mark.slow
def test_poison_passes_in_one_process_where_the_reference_comes_last(mini: Lab) -> None:
    with Trials(1) as trials:
        found = passed(mini, poisoners(trials, mini, ["double", "score"]))
    assert {row.grade_id for row in found if row.judge == "one process"} == {"test_double_2"}
    assert [row for row in found if row.judge == "the grader"] == []


@pytest.mark.slow
def test_idlers_pass_where_nothing_is_asked_for(mini: Lab, tmp_path: Path) -> None:
    asks_nothing = '# %% test="double" points=1\ndouble(np.ones(2))\n\n\n'
    asks_nothing += '# %% test="double" points=1\nassert double(np.ones(2)) is not None\n\n\n'
    shutil.copytree(mini.root, tmp_path / "own", ignore=shutil.ignore_patterns("course"))
    lab = find_lab(mini.name, tmp_path / "own")
    text = lab.solution_path.read_text()
    lab.solution_path.write_text(
        text.replace('# %% exercise="score"', asks_nothing + '# %% exercise="score"')
    )
    lab = find_lab(mini.name, tmp_path / "own")
    release(lab, tmp_path / "own" / "course")
    with Trials(1) as trials:
        found = passed(lab, poisoners(trials, lab, ["double"]))
    graded = {(row.grade_id, row.does) for row in found if row.judge == "the grader"}
    assert graded == {
        (name, f"{does} whatever it is given")
        for name, does in (
            ("test_double_3", "returns zeros"),
            ("test_double_3", "does nothing"),
            ("test_double_3", "returns its first argument"),
            ("test_double_4", "returns zeros"),
            ("test_double_4", "returns its first argument"),
        )
    }
