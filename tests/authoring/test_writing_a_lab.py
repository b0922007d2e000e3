"""The example in docs/writing_a_lab.md is a lab: released, graded and rehearsed."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import Grader, message, points

from autograder.authoring.lab import ROOT, Lab, find_lab
from autograder.authoring.release import release, stale
from autograder.rehearsal.rehearse import known_answers, rehearse

PAGE = (ROOT / "docs" / "writing_a_lab.md").read_text()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The page's files, written where the page says, and released."""
    root = tmp_path_factory.mktemp("example")
    shutil.copy(ROOT / "pyproject.toml", root)
    files = re.findall(
        r"^`((?:solutions|tests)/[^`]+)`[^\n]*:\n\n```python\n(.*?)^```$", PAGE, re.M | re.S
    )
    assert [path.split("/")[0] for path, _ in files] == ["solutions", "tests"]
    for name, text in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    lab = find_lab("13", root)
    release(lab, root / "course")
    return lab


def test_the_example_is_released(lab: Lab) -> None:
    assert stale(lab) == []
    text = lab.released_path.read_text()
    assert "expected, mistakes = recorded()" in text
    for secret in ("EXPECTED", "reference", "images.sum", "not averaged", "reshape", "shuffled"):
        assert secret not in text
    assert lab.values_path.stat().st_size < 4000


def test_the_example_is_graded(lab: Lab, tmp_path: Path) -> None:
    grader = Grader(lab, tmp_path)
    assert points(grader(grader.notebook())) == {"channel_means": 5}
    by_mean = next(answer for answer in known_answers(lab) if ".mean" in (answer.named or ""))
    result = grader(grader.notebook(channel_means=by_mean.source))
    assert points(result) == {"channel_means": 4}
    assert message(result, "channel_means").startswith("channel_means: line 2 calls `.mean`")
    one = "def channel_means(images):\n    return images.reshape(3, 20).sum(1)[None] / 20"
    result = grader(grader.notebook(channel_means=one))
    assert [test.outcome for test in result.tests] == ["passed", "failed", "failed", "failed"]
    assert result.tests[1].message == (
        "channel_means(images of shape (2, 3, 4, 5)) raised ValueError: cannot reshape array of"
        " size 120 into shape (3,20) (line 2 of channel_means); it works for one image only"
    )
    in_place = "def channel_means(images):\n    images -= 1\n    return images.mean((2, 3)) + 1"
    said = message(grader(grader.notebook(channel_means=in_place)), "channel_means")
    assert "`images` was modified in place: work on a copy" in said


@pytest.mark.slow
def test_the_example_is_rehearsed(lab: Lab) -> None:
    report = rehearse(lab, workers=1)
    assert report.problems == [
        "channel_means has 4 known mistakes and 2 correct variants; it needs 8 and 3"
    ]
    row = report.quality["channel_means"]
    assert (row.caught, row.named, row.accepted, row.alive) == (4, 4, 2, 0)


def test_the_page_says_what_is_checked_of_a_new_lab() -> None:
    for promise in ("★", "minutes", "four figures", "tests/labs/test_NN_name.py", "README.md"):
        assert promise in PAGE.split("## What makes a lab complete")[1]
