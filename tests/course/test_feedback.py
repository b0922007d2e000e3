"""The page that a student gets: what is on it, what never is, and how it reaches its reader."""

import base64
import io
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from browser import MARKDOWN, NAMES, Watch, chromium
from conftest import Grader
from courses import LAB, copied
from downloads import canvas_zip, made_class
from nbformat import reads, writes
from nbformat.v4 import new_code_cell, new_output
from PIL import Image

from autograder.authoring.lab import Lab
from autograder.course import feedback, gradebook
from autograder.course.collect import attachments, collect
from autograder.course.feedback import Mark, Standing, page
from autograder.grading.grade import released_notebook
from autograder.grading.job import Result, TestOutcome

HIDDEN = "A hidden test found this, with other inputs than those in your notebook."
STUB = "Why?\n\n*Your answer here.*"


def result(lab: Lab, failed: dict[str, str] | None = None, **changes) -> Result:
    """What the grader says: by grade id the messages of the tests that failed."""
    failed = failed or {}
    tests = [
        TestOutcome(
            exercise=cell.name,
            grade_id=cell.grade_id,
            points=0 if cell.grade_id in failed else cell.points,
            max_points=cell.points,
            hidden=cell.hidden,
            outcome="failed" if cell.grade_id in failed else "passed",
            message=failed.get(cell.grade_id, ""),
            aspect={"test_double": "a row", "test_double_2": "any shape"}.get(cell.grade_id, ""),
        )
        for cell in lab.having("test")
    ]
    made = Result(
        "ada",
        lab.name,
        "graded",
        sum(test.points for test in tests),
        10,
        tests=tests,
        questions=[{"grade_id": "why", "max_points": 2, "answered": True}],
        answers={"why": "Why?\n\nBecause $x^2$."},
    )
    return replace(made, **changes)


def standing(made: Result, why: Mark | None = None, name: str = "Ada Lovelace") -> Standing:
    marks = {test.grade_id: Mark(test.points, test.max_points) for test in made.tests}
    return Standing(name, marks | {"why": why or Mark(None, 2)})


def text(html: str) -> str:
    """A page's text on one line."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split()).replace("&#39;", "'")


def show(lab: Lab, made: Result, **more) -> str:
    given = more.pop("standing", standing(made))
    return text(page(lab, made, given, released_notebook(lab), **more))


def test_points_messages_and_what_to_read_again(mini: Lab) -> None:
    long = "double(x): 3 of 4 values differ, the largest by 2.0: " + "expected 1, got 4, " * 20
    said = show(mini, result(mini, {"test_double": long + "; it looks as if x is squared."}))
    assert "8 / 10 points so far" in said
    assert "2 more points are for written answers that nobody has marked yet" in said
    assert long.strip().rstrip(",") in said  # Nothing is cut off.
    assert "It looks as if x is squared." in said
    assert "In: a row. Costs 2 points." in said
    assert HIDDEN not in said
    assert "double any shape 3 / 5" in said
    assert "score all 4 / 4" in said


def test_a_hidden_tests_failure_says_that_other_inputs_were_tried(mini: Lab) -> None:
    said = show(mini, result(mini, {"test_double_2": "wrong in the second row"}))
    assert "Wrong in the second row. In: any shape. " + HIDDEN in said
    for secret in ("reference", "standard_normal", "BEGIN HIDDEN"):
        assert secret not in said


def test_one_cause_is_said_once(mini: Lab) -> None:
    same = dict.fromkeys(("test_double", "test_double_2"), "not implemented yet")
    said = show(mini, result(mini, same))
    assert said.count("Not implemented yet.") == 1
    assert "In: a row, any shape. Costs 5 points." in said


def test_not_marked_yet_is_no_zero(mini: Lab) -> None:
    said = show(mini, result(mini))
    assert "why not marked yet" in said
    assert "0 / 2" not in said
    assert "10 / 10 points so far" in said


def test_marks_and_comments(mini: Lab) -> None:
    made = result(mini)
    why = Mark(1.5, 2, comment="Good, *but*: $x < 2$")
    html = page(mini, made, standing(made, why), released_notebook(mini))
    assert "11.5 / 12 points" in text(html)
    assert "so far" not in text(html)
    assert "why 1.5 / 2" in text(html)
    assert "<em>but</em>" in html
    assert "<msup>" in html
    assert "Full marks for any reason" not in html  # The note is the TA's.
    stale = show(mini, made, standing=standing(made, replace(why, stale=True)))
    assert "This mark is for an earlier answer of yours" in stale


def test_a_mark_by_hand_replaces_a_tests(mini: Lab) -> None:
    made = result(mini, {"test_double": "wrong"})
    given = standing(made)
    given.marks["test_double"] = Mark(1.5, 2)
    assert "9.5 / 10 points so far" in show(mini, made, standing=given)
    assert "double 4.5 / 5" in show(mini, made, standing=given)


def test_refused_and_failed(mini: Lab) -> None:
    refused = Result("eve", mini.name, "refused", 0, 10, reason="the file is empty")
    said = show(mini, refused)
    assert "Your notebook could not be graded: the file is empty. Mend this" in said
    assert "0 / " not in said
    failed = Result("eve", mini.name, "failed", 0, 10, reason="BrokenPipeError")
    said = show(mini, failed)
    assert "No grade yet" in said
    assert "BrokenPipeError" not in said


def test_lateness_and_repairs(mini: Lab) -> None:
    made = result(mini, repairs=["found double by its content"], flags=["mentions socket"])
    said = show(mini, made, lateness="Handed in 2 days late: 20 % less.")
    assert "Handed in 2 days late: 20 % less." in said
    assert "found double by its content" in said
    assert "socket" not in said  # What a TA may want to look at isn't for the student.


def test_whole_class_with_trouble_in_the_middle(
    grader: Grader, tmp_path: Path, monkeypatch
) -> None:
    course, lab = tmp_path / "course", grader.lab
    shutil.copytree(lab.root / "course", course)
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, "PNG")
    plot = new_output("display_data", {"image/png": base64.b64encode(file.getvalue()).decode()})
    results = []
    for name in ("ada", "bob", "cleo"):
        notebook = reads(writes(grader.notebook()), 4)
        notebook.cells.insert(1, new_code_cell("plot()", outputs=[plot]))
        path = course / "submitted" / name / lab.name / f"{lab.name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(writes(notebook))
        results.append(replace(result(lab), student=name))
    gradebook.record(lab, results, course)
    real = feedback.page

    def fails(lab, result, *rest):
        if result.student == "bob":
            raise RecursionError("too deep")
        return real(lab, result, *rest)

    monkeypatch.setattr(feedback, "page", fails)
    stranger = replace(result(lab), student="dan")
    written, problems = feedback.write(lab, [*results, stranger], course, {"ada": "Late."})
    assert sorted(written) == ["ada", "cleo"]
    assert problems["bob"] == "RecursionError: too deep"
    assert "autograder grade 01_mini" in problems["dan"]
    assert written["ada"] == course / "feedback" / "ada" / "01_mini" / "01_mini.html"
    ada = written["ada"].read_text()
    assert ada.count('<img src="data:image/png') == 1
    assert ("Late." in ada, "Late." in written["cleo"].read_text()) == (True, False)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"cells": 5}', b'{"cells": [{"cell_type": 1}]}'])
def test_figures_of_what_is_no_notebook(mini: Lab, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ipynb").write_bytes(content)
    assert feedback.own_plots(tmp_path, mini) == []


def canvas_finds(name: str) -> tuple[str, str]:
    """Canvas's `infer_comment_context_from_filename`: the user's id and the attachment's."""
    fields = [field for field in name.split("_") if field != "LATE"]
    if fields[0] == "anon":
        return fields[1], fields[2]
    user, attachment = [field for field in fields if re.fullmatch(r"\d+", field)][:2]
    return user, attachment


def test_canvas_finds_who_was_graded_anonymously(mini: Lab, tmp_path: Path) -> None:
    course = copied(mini.root / "course", tmp_path)
    students = made_class(b"{}", LAB, 6)
    archive = canvas_zip(tmp_path / "anonymous.zip", students, anonymous=True)
    collect(LAB, [archive], course)
    known = attachments(LAB, course)
    written = {student: tmp_path / "page.html" for student in known}
    names = feedback.canvas_entries(LAB, written, known)
    found = {canvas_finds(name) for name in names}
    handed_in = {f"{one.number:02}xYz" for one in students if one.handed_in and one.files}
    assert {user for user, _ in found} == handed_in
    with zipfile.ZipFile(archive) as downloaded:
        there = {canvas_finds(name) for name in downloaded.namelist() if "_text" not in name}
    assert found <= there


def test_zips_for_canvas_and_moodle(tmp_path: Path) -> None:
    path = tmp_path / "ada.html"
    path.write_text("her page")
    written = {"ada_2": path, "bob": path}
    canvas = feedback.canvas_entries("01_mini", written, {"ada_2": ("12", 345), "eve": ("1", 2)})
    moodle = feedback.moodle_entries("01_mini", written, {"678": "ada_2", "9": "eve"})
    (name,) = canvas
    assert canvas_finds(name) == ("12", "345")
    (name,) = moodle
    # Moodle: fullname, participant, plugin's type and name, the file's own name.
    assert name.split("_", 4)[1:4] == ["678", "assignfeedback", "file"]
    feedback.write_zip(tmp_path / "a.zip", canvas)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [archive.read(entry) for entry in archive.namelist()] == [b"her page"]


@pytest.mark.slow
def test_nothing_that_a_student_wrote_fires_in_the_page(mini: Lab, tmp_path: Path) -> None:
    fire = "<img src=x onerror=window.fired=1>"
    with chromium() as browser:
        for number, name in enumerate(NAMES):
            answers = {"why": "\n\n".join(MARKDOWN[number :: len(NAMES)])}
            made = result(mini, {"test_double": fire, "test_score": fire}, answers=answers)
            made.repairs = [fire]
            path = tmp_path / "page.html"
            html = page(mini, made, standing(made, None, name), released_notebook(mini), name)
            path.write_text(html, "utf-8", "replace")
            for width in (1280, 390):
                opened = browser.new_page(viewport={"width": width, "height": 800})
                watch = Watch(opened, "file://")
                opened.goto(path.as_uri())
                watch.check(".answer")
                assert name in opened.inner_text("header")
                size = "[document.documentElement.scrollWidth, innerWidth]"
                wide, shown = opened.evaluate(size)
                assert wide <= shown, "the page scrolls sideways"
                opened.close()
