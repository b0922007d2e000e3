"""The demonstration goes the whole way, and its table is right line by line."""

import pytest

from autograder import demo
from autograder.authoring.lab import find_lab
from autograder.course.results import read_results


@pytest.mark.slow
def test_every_student_of_the_demo_gets_what_is_due(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["demo", "12"])
    monkeypatch.delenv("PWNED", raising=False)
    demo.main()
    found, unreadable = read_results(demo.COURSE / "results" / "12_style_transfer")
    results = {result.student: result for result in found}
    lab = find_lab("12")
    most = sum(cell.points for cell in lab.having("test"))
    first = next(iter(lab.exercises))
    of_first = sum(cell.points for cell in lab.having("test") if cell.name == first)
    assert not unreadable
    right = ("perfect", "correct_variant", "metadata_stripped", "cell_doubled", "pasted_picture")
    for student in right:
        assert results[student].score == most, student
    for student in ("raises_on_import", "endless_loop", "eats_memory"):
        assert 0 < results[student].score <= most - of_first, student
    for student in (student for student in results if student.startswith("mistake_in_")):
        assert 0 < results[student].score < most, student
    for student in ("untouched", *(student for student in results if student[:6] == "cheat_")):
        assert results[student].score == 0, student
        assert results[student].status == "graded", student
    assert results["not_a_notebook"].status == "refused"
    assert results["pasted_picture"].pictures
    said = capsys.readouterr().out
    for place in ("report", "feedback", "gradebook", "questions"):
        assert place in said
