"""The page about a class: its numbers, when it says that there are too few, and that it is safe."""

import random
from html.parser import HTMLParser

import numpy
import pytest

from autograder.authoring.lab import Lab
from autograder.course import report
from autograder.course.results import NoResults
from autograder.grading import job
from autograder.grading.job import Result
from utils.checks import check_close

MISTAKES = ("x is squared", "the transpose is missing", "the mean is taken for the sum")


def result(lab: Lab, student: str, passes: dict[str, bool], **changes) -> Result:
    """A graded result: which tests passed by grade id, the others with `message` or "wrong"."""
    messages = changes.pop("messages", {})
    tests = [
        job.TestOutcome(
            cell.name,
            cell.grade_id,
            cell.points if passes[cell.grade_id] else 0,
            cell.points,
            cell.hidden,
            "passed" if passes[cell.grade_id] else "failed",
            "" if passes[cell.grade_id] else messages.get(cell.grade_id, "expected 1, got 2"),
            cell.aspect,
        )
        for cell in lab.having("test")
    ]
    fields = {
        "status": "graded",
        "score": sum(test.points for test in tests),
        "max_score": sum(test.max_points for test in tests),
        "tests": tests,
        "answers": {cell.grade_id: "pass" for cell in lab.having("exercise")},
    }
    return Result(student=student, lab=lab.name, **fields | changes)


def made_class(lab: Lab, students: int, seed: int = 0) -> list[Result]:
    """Students of different strength; a strong one passes more tests."""
    generator = random.Random(seed)
    made = []
    for number in range(students):
        strength = generator.random()
        passes = {
            cell.grade_id: generator.random() < 0.15 + 0.8 * strength for cell in lab.having("test")
        }
        messages = {
            cell.grade_id: f"{cell.name}(x): 3 of 5 are wrong; it looks as if"
            f" {generator.choice(MISTAKES)}."
            for cell in lab.having("test")
            if generator.random() < 0.7
        }
        made.append(
            result(
                lab,
                f"student {number:03}",
                passes,
                messages=messages,
                seconds=generator.random(),
                answers={
                    cell.grade_id: "\n".join(
                        f"y{generator.randrange(9)} = x {generator.choice('+-*/')}"
                        f" {generator.randrange(50)}"
                        for _ in range(8)
                    )
                    for cell in lab.having("exercise")
                },
            )
        )
    return made


class Page(HTMLParser):
    """Collects a page's elements, its addresses and what a screen reader needs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        self.addresses += [given[key] for key in ("href", "src") if key in given]
        assert not [key for key in given if key.startswith("on")]
        if tag == "th":
            assert given.get("scope") in ("row", "col")
        if tag == "svg":
            assert given.get("aria-hidden") or (given["role"] == "img" and given["aria-labelledby"])


def test_a_test_is_compared_with_the_other_exercises_only(mini: Lab) -> None:
    # Whoever passes one test of `double` passes the other; with `score`, both go the other way.
    results = [
        result(
            mini,
            f"s{number}",
            {
                "test_double": number % 2 == 0,
                "test_double_2": number % 2 == 0,
                "test_score": number % 2 == 1,
                "test_answer": number < 6,
            },
        )
        for number in range(24)
    ]
    blank = dict.fromkeys((test.grade_id for test in results[0].tests), False)
    for number in range(20):
        nothing = result(
            mini, f"blank{number}", blank, messages=dict.fromkeys(blank, report.UNDONE)
        )
        results.append(nothing)
    items = {(item.exercise, item.aspect): item for item in report.item_analysis(results)}
    whole, part = items["double", None], items["double", "test 1"]
    assert (whole.students, whole.points, part.points) == (24, 5, 2)  # The blank ones are out.
    assert whole.share.value == part.share.value == 0.5
    assert whole.discrimination.value == part.discrimination.value < -0.9
    assert "is the test right?" in whole.note
    assert ("score", "test 1") not in items  # It is the exercise as a whole.
    assert part.hidden is False and items["double", "test 2"].hidden


@pytest.mark.parametrize(
    ("students", "right", "said"),
    [
        (19, 10, "too few to say (19 of 20 students)"),
        (40, 4, "too few to say (4 got it right)"),
        (40, 36, "too few to say (4 lost points)"),
    ],
)
def test_too_few_to_say(students: int, right: int, said: str) -> None:
    got = [1.0] * right + [0.0] * (students - right)
    assert report.discriminate(got, range(students)) == (None, said)
    assert report.discriminate(got * 10, [*range(students)] * 10)[0] is not None


def test_discrimination_is_said_to_be_chance_where_it_may_be() -> None:
    found, note = report.discriminate([1.0, 0.0] * 15, [1.0, 2.0, 2.0, 1.0, 0.0] * 6)
    assert found.low < 0 < found.high
    assert note == "can't be told from chance"
    found, note = report.discriminate([1.0, 0.0] * 15, [2.0, 1.0] * 14 + [1.0, 2.0])
    assert found.low > 0.5 and note == ""
    assert report.discriminate([1.0, 0.0] * 15, [3.0] * 30)[0] is None


def test_wilson_interval() -> None:
    # Brown, Cai, DasGupta (2001) and R's prop.test(8, 10, correct = FALSE).
    interval = report.wilson(8, 10)
    assert (interval.low, interval.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert report.wilson(20, 20).low < 0.9 and report.wilson(20, 20).high == 1


def test_mistakes_are_counted_in_students(mini: Lab) -> None:
    wrong = dict.fromkeys([cell.grade_id for cell in mini.having("test")], False)
    said = "double(x): 2 of 2 values are wrong; it looks as if x is squared."
    messages = {
        "test_double": said,
        "test_double_2": said,
        "test_score": "score(x): expected 1.5e-3, got -2",
        "test_answer": report.UNDONE,
    }
    other = messages | {"test_score": "score(x): expected 7, got 8"}
    missing = messages | {"test_score": "None returned; is a `return` missing?"}
    results = [
        result(mini, "ada", wrong, messages=messages),
        result(mini, "bob", wrong, messages=other),
        result(mini, "eve", wrong | {"test_double": True}, messages=missing),
    ]
    named, unnamed = report.mistakes(results)
    assert named == [("double", "x is squared", 3), ("score", "a `return` is missing", 1)]
    assert unnamed == [("score", "score(x): expected 1.5e-3, got -2", 2)]


def test_everyday_mistakes_have_names_too() -> None:
    """As utils.checks words them."""

    def said(result, expected) -> str | None:
        with pytest.raises(AssertionError) as failed:
            check_close(result, expected, "double(x)")
        return report.named_mistake(str(failed.value))

    x = numpy.array([[1.5, -2.25], [3.125, 0.7316], [5.0, 6.0]])
    assert said(-x, x) == "the sign is reversed"
    assert said(None, x) == "a `return` is missing"
    assert said(numpy.where(x > 0, x, numpy.nan), x).startswith("values are NaN")
    assert said(numpy.cos(x), x) is None
    assert report.named_mistake("your code raised ValueError: a; b (line 3 of double)") is None


def test_histogram_holds_everybody() -> None:
    bars = report.histogram([0, 4.9, 5, 50, 50.5], 50)
    assert [count for *_, count in bars] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bars[-1][:2] == (45, 50)


EVIL = "<script>alert(1)</script>\u202e\"'{{ 7 * 7 }}<img src=x onerror=alert(2)>"


def test_page_is_whole_and_safe(mini: Lab) -> None:
    results = made_class(mini, 30)
    ids = [cell.grade_id for cell in mini.having("test")]
    wrong = dict.fromkeys(ids, False)
    messages = {ids[0]: f"it looks as if {EVIL}.", ids[1]: EVIL}
    answers = {"double": f"{EVIL}\n" * 30, "why": EVIL}
    for number in range(2):
        results.append(
            result(
                mini,
                f"{EVIL}{number}",
                wrong,
                messages=messages,
                answers=answers,
                flags=[EVIL],
                repairs=[EVIL],
                seconds=100.0,
            )
        )
    results.append(result(mini, f"r{EVIL}", wrong, status="refused", reason=EVIL, tests=[]))
    results.append(result(mini, f"f{EVIL}", wrong, status="failed", reason=EVIL, tests=[]))
    blank = dict.fromkeys(ids, report.UNDONE)
    results.append(result(mini, f"b{EVIL}", wrong, messages=blank))
    text = report.report(mini, results, [f"{EVIL}.json"])
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "form", "object"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert page.tags.count("table") == page.tags.count("caption") == 3
    assert {"main", "nav", "header", "title", "desc", "h1"} <= set(page.tags)
    assert "49" not in text.split("<main>")[1].split("alert")[1][:40]
    assert "alert(2)&gt;0</bdi> and" in text  # the likeness of the two


def test_nobody_graded_and_one_graded(mini: Lab) -> None:
    ids = dict.fromkeys([cell.grade_id for cell in mini.having("test")], True)
    refused = result(mini, "eve", ids, status="refused", reason="no notebook", tests=[], score=0)
    assert "no notebook" in report.report(mini, [refused])
    assert "too few to say" in report.report(mini, [refused, result(mini, "ada", ids)])


def test_versions_of_the_lab_mixed(mini: Lab) -> None:
    ids = dict.fromkeys([cell.grade_id for cell in mini.having("test")], True)
    older = result(mini, "bob", ids, max_score=9)
    assert "different versions" in report.report(mini, [older, result(mini, "ada", ids)])
    assert "different versions" not in report.report(mini, [result(mini, "ada", ids)] * 2)


def test_folder_of_results(mini: Lab, tmp_path) -> None:
    with pytest.raises(NoResults, match="holds no results; run `autograder grade`"):
        report.write_report(mini, tmp_path / "nowhere")
    for made in made_class(mini, 3):
        made.write(tmp_path / f"{made.student}.json")
    (tmp_path / "half.json").write_text("{")
    told: list[tuple[int, int]] = []
    path = report.write_report(mini, tmp_path, lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    page = path.read_text()
    assert "half.json" in page and "student 002" in page


def test_real_class(grader, tmp_path) -> None:
    squared = "def double(x):\n    return x * x"
    results = [
        grader(grader.notebook(), "ada"),
        grader(grader.notebook(double=squared), "bob"),
        grader(grader.notebook(double="raise NotImplementedError  # your code here"), "cy"),
        grader(b"no notebook", "eve"),
    ]
    assert report.mistakes(results)[0] == [("double", "x is squared", 1)]
    items = {item.exercise: item for item in report.item_analysis(results) if not item.aspect}
    assert (items["double"].students, items["double"].undone) == (3, 1)
    assert items["double"].share.value == pytest.approx(1 / 3)
    assert "the file is not a Jupyter notebook" in report.report(grader.lab, results)
