"""Marking side by side: marks reach the gradebook, survive, and never overwrite one another."""

import http.client
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import MARKDOWN, Watch, chromium
from nbgrader.api import Gradebook
from playwright.sync_api import Page

from autograder.authoring.lab import Cell, Lab
from autograder.course import gradebook, questions
from autograder.course.questions import Answer, Conflict, Marks, Server, rubric
from autograder.grading.grade import released_notebook
from autograder.grading.job import Result, TestOutcome

LAB = "01_mini"


def result(lab: Lab, student: str, why: str) -> Result:
    tests = [
        TestOutcome(c.name, c.grade_id, c.points, c.points, c.hidden, "passed", "")
        for c in lab.having("test")
    ]
    asked = [{"grade_id": "why", "max_points": 2, "answered": bool(why)}]
    stub = next(c.source for c in released_notebook(lab).cells if c.id == "why")
    answers = {"why": stub.replace("*Your answer here.*", why)}
    return Result(
        student, lab.name, "graded", 10, 10, tests=tests, questions=asked, answers=answers
    )


def hand_in(lab: Lab, course: Path, answers: dict[str, str]) -> None:
    """Grades and records what these students answered."""
    folder = course / "results" / lab.name
    folder.mkdir(parents=True, exist_ok=True)
    results = [result(lab, student, why) for student, why in answers.items()]
    for one in results:
        one.write(folder / f"{one.student}.json")
    assert gradebook.record(lab, results, course) == {}


@pytest.fixture
def course(mini: Lab, tmp_path: Path) -> Path:
    """A course with the tiny lab and nobody in it."""
    return Path(shutil.copytree(mini.root / "course", tmp_path / "course"))


@contextmanager
def serving(lab: Lab, course: Path) -> Iterator[Server]:
    server = Server(lab, course)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def stored(course: Path, student: str) -> tuple[float | None, bool, str | None]:
    """Mark, whether it needs a look, comment: as formgrader shows them."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        grade = book.find_grade("why", LAB, LAB, student)
        comment = book.find_comment("why", LAB, LAB, student)
        return grade.manual_score, grade.needs_manual_grade, comment.manual_comment


def ask(server: Server, method: str, path: str, body: dict | None = None, **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    sent = {"Content-Type": "application/json", "Origin": f"http://{server.host}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, json.dumps(body) if body is not None else None, sent)
    reply = connection.getresponse()
    return reply, reply.read()


def test_order_is_shuffled_alike_together_and_the_same_each_time() -> None:
    def answer(student: str, *words: str) -> Answer:
        return Answer(student, "", frozenset(words), "")

    given = [answer(f"a{n}", "flip", "both", "axes", str(n)) for n in range(5)]
    given += [answer(f"b{n}", "transpose", "it", "all", str(n)) for n in range(5)]
    given += [answer("c", "something", "else")]
    ordered = [one.student for one in questions.in_order(given, "seed")]
    assert sorted(ordered) == sorted(one.student for one in given)
    assert ordered == [one.student for one in questions.in_order(given[::-1], "seed")]
    assert ordered != sorted(ordered)
    kinds = "".join(student[0] for student in ordered)
    assert "aaaaa" in kinds
    assert "bbbbb" in kinds


def test_the_note_in_its_parts() -> None:
    note = (
        "Prompt\n\n### BEGIN SOLUTION\n1 (2 points). Flip both axes (1 point); never the channels."
        " Training\nwould not care (1 point).\n\nAnything else (0.5 points)\n### END SOLUTION"
    )
    assert rubric(Cell("question", note, 1, True)) == [
        ("1 (2 points).", None),
        ("Flip both axes (1 point);", 1),
        ("never the channels.", None),
        ("Training would not care (1 point).", 1),
        ("Anything else (0.5 points)", 0.5),
    ]


def test_marks_survive_a_regrade(mini: Lab, course: Path) -> None:
    hand_in(mini, course, {"ada": "Because.", "bob": "So.", "cleo": ""})
    marks = Marks(mini, course)
    shown = questions.answers(mini, course)["why"]
    assert sorted(answer.student for answer in shown) == ["ada", "bob"]  # Cleo left it untouched.
    ada = next(answer for answer in shown if answer.student == "ada")
    seen = marks.given("why")["ada"].seen
    marks.save("why", ada, 1.5, "well said", seen)
    assert stored(course, "ada") == (1.5, False, "well said")
    assert stored(course, "bob") == (None, True, None)
    hand_in(mini, course, {"ada": "Because.", "bob": "So.", "cleo": ""})
    assert stored(course, "ada") == (1.5, False, "well said")
    given = marks.given("why")["ada"]
    marks.save("why", ada, None, "", given.seen)
    assert stored(course, "ada") == (None, True, None)


@pytest.mark.parametrize("mark", [-0.5, 2.5, 0.25, float("nan"), float("inf")])
def test_only_marks_are_marks(mini: Lab, course: Path, mark: float) -> None:
    hand_in(mini, course, {"ada": "Because."})
    marks, (ada,) = Marks(mini, course), questions.answers(mini, course)["why"]
    with pytest.raises(ValueError, match="from 0 to 2, in halves"):
        marks.save("why", ada, mark, "", marks.given("why")["ada"].seen)
    assert stored(course, "ada") == (None, True, None)


def test_two_who_mark_at_once_do_not_overwrite_each_other(mini: Lab, course: Path) -> None:
    hand_in(mini, course, {"ada": "Because."})
    marks, (ada,) = Marks(mini, course), questions.answers(mini, course)["why"]
    seen = marks.given("why")["ada"].seen
    marks.save("why", ada, 2, "mine", seen)
    with pytest.raises(Conflict, match="somebody else"):
        marks.save("why", ada, 0, "theirs", seen)
    assert stored(course, "ada") == (2, False, "mine")
    marks.save("why", ada, 0, "theirs", marks.given("why")["ada"].seen)
    assert stored(course, "ada") == (0, False, "theirs")


def test_a_mark_is_never_for_an_answer_that_was_not_shown(mini: Lab, course: Path) -> None:
    hand_in(mini, course, {"ada": "Because."})
    marks, (ada,) = Marks(mini, course), questions.answers(mini, course)["why"]
    hand_in(mini, course, {"ada": "Something else."})
    with pytest.raises(Conflict, match="answer has changed"):
        marks.save("why", ada, 2, "", marks.given("why")["ada"].seen)
    assert stored(course, "ada") == (None, True, None)


def test_only_who_knows_the_address_is_served(mini: Lab, course: Path) -> None:
    hand_in(mini, course, {"ada": "Because."})
    with serving(mini, course) as server:
        assert server.server_address[0] == "127.0.0.1"
        root = f"/{server.secret}/"
        body = {"question": "why", "number": 0, "mark": 2, "comment": ""}
        body["seen"] = server.marks.given("why")["ada"].seen
        for path in ("/", "/why", "/x/why", f"/{server.secret}", f"{root}../why", f"{root}nowhere"):
            assert ask(server, "GET", path)[0].status == 404, path
        assert ask(server, "GET", root, Host="evil.example")[0].status == 404
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Content_Type": "text/plain"},
            {"Host": "evil.example"},
            {"Content_Length": "999999"},
        ):
            assert ask(server, "POST", f"{root}save", body, **headers)[0].status == 403, headers
        assert ask(server, "POST", "/wrong/save", body)[0].status == 403
        wrong = ({"mark": 3}, {"mark": "2"}, {"mark": True}, {"number": 9}, {"question": "no"})
        for change in wrong:
            assert ask(server, "POST", f"{root}save", body | change)[0].status == 400, change
        assert ask(server, "POST", f"{root}save", body | {"seen": "x"})[0].status == 409
        assert stored(course, "ada") == (None, True, None)
        reply, said = ask(server, "POST", f"{root}save", body | {"comment": "half \ud83d"})
        assert (reply.status, json.loads(said)["mark"]) == (200, 2)
        assert stored(course, "ada") == (2, False, "half ?")
        reply, page = ask(server, "GET", f"{root}why")
        policy = reply.getheader("Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "script-src 'nonce-" in policy
        assert reply.getheader("Referrer-Policy") == "no-referrer"
        assert b"ada" not in page  # Without names.


def status(page: Page, number: int, text: str) -> None:
    place = page.locator("article").nth(number).locator(".status")
    # From its beginning: "not saved" has "saved" in it.
    place.filter(has_text=re.compile(rf"^\s*{re.escape(text)}")).wait_for(timeout=20_000)


@pytest.mark.slow
def test_marking_in_a_browser(mini: Lab, course: Path) -> None:
    answers = {f"s{number:02}": text for number, text in enumerate(MARKDOWN)}
    hand_in(mini, course, answers)
    with serving(mini, course) as server, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        watch = Watch(page, f"http://{server.host}")
        page.goto(server.url)
        page.click("text=why")
        page.wait_for_url("**/why")
        assert page.locator("article").count() == len(answers)
        assert page.inner_text("#progress") == f"0 of {len(answers)} marked"
        order = [answer.student for answer in server.answers["why"]]

        # By keyboard alone: the second answer, its mark, a comment, the next unmarked one.
        for key in ("j", "j", "m", "1", ".", "5", "Escape", "c"):
            page.keyboard.press(key)
        page.keyboard.type("jkn1 is no key in here")
        status(page, 1, "saved")
        page.locator("article[data-unsaved]").wait_for(state="detached")
        assert stored(course, order[1]) == (1.5, False, "jkn1 is no key in here")
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        where = "document.activeElement.getAttribute('aria-label')"
        assert page.evaluate(where) == "Answer 3"

        # Out of bounds, and a mark that somebody else gives meanwhile.
        mark = page.locator("article").nth(2).locator("[name=mark]")
        mark.fill("7")
        mark.blur()
        status(page, 2, "not saved: a mark is a number from 0 to 2")
        assert stored(course, order[2]) == (None, True, None)
        theirs = server.marks
        seen = theirs.given("why")[order[2]].seen
        theirs.save("why", server.answers["why"][2], 0.5, "theirs", seen)
        mark.fill("2")
        mark.blur()
        status(page, 2, "not saved: somebody else has marked this meanwhile (0.5, “theirs”)")
        assert stored(course, order[2]) == (0.5, False, "theirs")
        page.locator("article").nth(2).locator(".mine").click()
        status(page, 2, "saved")
        assert stored(course, order[2])[0] == 2

        # Everything is there again after a reload, and nothing of what they wrote fired.
        page.reload()
        assert page.inner_text("#progress") == f"2 of {len(answers)} marked"
        assert page.locator("article").nth(1).locator("[name=mark]").input_value() == "1.5"
        watch.check(".answer")
        page.set_viewport_size({"width": 390, "height": 800})
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= shown, "the page scrolls sideways"

        # An answer that changed after it was marked says so until it is looked at.
        hand_in(mini, course, answers | {order[1]: "Another answer."})
    with serving(mini, course) as server, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{server.url}why")
        keep = page.locator(".keep:visible")
        assert keep.count() == 1
        keep.click()
        page.locator(".status", has_text=re.compile(r"^\s*saved ")).wait_for(timeout=20_000)
        assert stored(course, order[1])[:2] == (1.5, False)
