"""The pages as they are seen: on a screen, on a phone and on paper, in a real browser."""

import base64
import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import SCREENS, check_fits, chromium
from courses import copied
from PIL import Image
from playwright.sync_api import Page
from test_class_report import made_class
from test_feedback import result, standing

from autograder.authoring.lab import Lab
from autograder.course import gradebook, regrade
from autograder.course.feedback import Mark, page
from autograder.course.questions import Server
from autograder.course.report import report
from autograder.grading.grade import released_notebook
from autograder.grading.job import Result

LONG = "x" * 300
WORDS = "Because the kernel is flipped, and a flip of both axes is what makes it one. " * 12
ANSWER = (
    f"{WORDS}\n\n| left | {LONG[:60]} |\n|---|---|\n| {WORDS} | b |\n\n```\n{LONG}\n```\n\n"
    + r"$$y_{ij} = \sum_{m=0}^{k-1} \sum_{n=0}^{k-1} x_{i+m,\,j+n} \, w_{mn}$$"
)


def with_answers(lab: Lab, results: list[Result]) -> list[Result]:
    """Gives everybody an answer of some length, and code with a line that is too long."""
    for number, one in enumerate(results):
        one.questions = [{"grade_id": "why", "max_points": 2, "answered": True}]
        one.answers["why"] = f"Why?\n\n{number} {ANSWER}"
        one.flags = [f"mentions {LONG}"] if number % 9 == 0 else []
        one.repairs = [f"found by their content: {LONG}"] if number % 9 == 1 else []
    for one in results[:2]:
        one.answers["double"] = f"def double(x):\n    return [x, {', '.join(map(str, range(90)))}]"
    return results


def picture() -> str:
    """A figure as wide as figures are."""
    file = io.BytesIO()
    Image.new("RGB", (1600, 400), "teal").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def feedback_page(lab: Lab) -> str:
    message = f"double(x): 3 of 4 values differ; got {LONG}; it looks as if x is squared."
    (made,) = with_answers(lab, [result(lab, {"test_double": message, "test_score": WORDS})])
    given = standing(made, Mark(1.5, 2, comment=ANSWER), "Ada Lovelace")
    plots = [("2. A figure", picture())] * 3
    return page(lab, made, given, released_notebook(lab), "Handed in 1 day late.", plots)


def regrade_page(lab: Lab) -> str:
    old, new = made_class(lab, 12), made_class(lab, 12, seed=1)
    return regrade.page(lab, list(map(regrade.compare, old, new)), ["eve"])


def report_page(lab: Lab) -> str:
    return report(lab, with_answers(lab, made_class(lab, 40)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [report_page, feedback_page, regrade_page])
def test_pages_fit_screen_phone_and_paper(
    mini: Lab, tmp_path: Path, make: Callable[[Lab], str]
) -> None:
    path = tmp_path / f"{make.__name__}.html"
    path.write_text(make(mini), "utf-8")
    with chromium() as browser:
        opened = browser.new_page()
        opened.goto(path.as_uri())
        for screen in SCREENS:
            check_fits(opened, screen)
            opened.screenshot(path=tmp_path / f"{path.stem}-{screen}.png", full_page=True)


@pytest.mark.slow
def test_question_pages_fit_screen_phone_and_paper(mini: Lab, tmp_path: Path) -> None:
    course = copied(mini.root / "course", tmp_path)
    results = with_answers(mini, made_class(mini, 6))
    (folder := course / "results" / mini.name).mkdir(parents=True)
    for one in results:
        one.write(folder / f"{one.student}.json")
    assert gradebook.record(mini, results, course) == {}
    server = Server(mini, course)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with chromium() as browser:
        opened: Page = browser.new_page()
        for name in ("", "why"):
            opened.goto(f"{server.url}{name}")
            for screen in SCREENS:
                check_fits(opened, screen)
                path = tmp_path / f"question{name}-{screen}.png"
                opened.screenshot(path=path, full_page=True)
    server.shutdown()
    server.server_close()
