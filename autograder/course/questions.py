"""Marking written answers side by side: a page for each question, served on this machine only.

All answers to one question stand on one page, without names, shuffled, alike ones together. Marks
and comments go into nbgrader's gradebook as they are given. Nothing is marked by itself.
"""

import hashlib
import json
import random
import re
import secrets
import threading
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from markupsafe import Markup
from nbgrader.api import Comment, Grade, Gradebook

from autograder.authoring.lab import SOLUTION, Cell, Lab
from autograder.course import pages
from autograder.course.feedback import question_title
from autograder.course.gradebook import (
    ANSWERS,
    GradebookUnavailable,
    answer_digest,
    folder_name,
    open_gradebook,
)
from autograder.course.rendering import answer_html, own_words
from autograder.course.results import read_results
from autograder.grading.grade import released_notebook

ALIKE = 0.5  # the part of their words that two answers share, to stand together
MOST_BYTES = 2**16  # of what a page sends
POINTS = re.compile(r"\((\d+(?:\.\d+)?) points?\)")


@dataclass(frozen=True)
class Answer:
    """A student's answer to a question: safe HTML, and what the gradebook knows it by."""

    student: str
    digest: str
    words: frozenset[str]
    html: str


class Conflict(Exception):
    """A mark wasn't saved: somebody else's or another answer has come in between."""


@dataclass(frozen=True)
class Given:
    """What the gradebook holds for an answer now; `seen` stands for all of it."""

    mark: float | None
    comment: str
    stale: bool
    digest: str

    @property
    def seen(self) -> str:
        return hashlib.sha256(repr((self.mark, self.comment, self.digest)).encode()).hexdigest()


def answers(lab: Lab, course: Path) -> dict[str, list[Answer]]:
    """The answers to each of a lab's questions, in the order in which to show them.

    Raises:
        NoResults: nobody's submission was graded.
    """
    results, _ = read_results(course / "results" / lab.name)
    stubs = {cell.id: cell.source for cell in released_notebook(lab).cells}
    found: dict[str, list[Answer]] = {}
    for cell in lab.having("question"):
        name = cell.grade_id or ""
        given = []
        for result in results:
            answered = {question["grade_id"]: question["answered"] for question in result.questions}
            if result.status == "graded" and answered.get(name):
                words = own_words(result.answers.get(name, ""), stubs.get(name, ""))
                given.append(
                    Answer(
                        folder_name(result.student),
                        answer_digest(result, name),
                        frozenset(re.findall(r"\w+", words.casefold())),
                        answer_html(words, result.pictures.get(name, {})),
                    )
                )
        found[name] = in_order(given, f"{lab.name} {name}")
    return found


def in_order(given: list[Answer], seed: str) -> list[Answer]:
    """Answers shuffled, and each followed by the ones that are most like it."""
    waiting = sorted(given, key=lambda answer: answer.student)
    random.Random(seed).shuffle(waiting)
    ordered: list[Answer] = []
    while waiting:
        if ordered:
            likeness = [alike(ordered[-1], answer) for answer in waiting]
            best = max(range(len(waiting)), key=likeness.__getitem__)
            ordered.append(waiting.pop(best if likeness[best] >= ALIKE else 0))
        else:
            ordered.append(waiting.pop(0))
    return ordered


def alike(one: Answer, other: Answer) -> float:
    """The part of two answers' words that they share, 0 to 1."""
    either = one.words | other.words
    return len(one.words & other.words) / len(either) if either else 1.0


def rubric(cell: Cell) -> list[tuple[str, float | None]]:
    """A question's grading note in its parts, each with the points that it gives, if it gives any
    by itself: "1 (2 points)." only heads those that follow."""
    note = "\n".join(SOLUTION.findall(cell.source))
    parts = re.split(r"(?<=[.;])\s+|\n\s*\n", note.strip())
    items: list[tuple[str, float | None]] = []
    for part in filter(None, (" ".join(part.split()) for part in parts)):
        worth = POINTS.search(part)
        heads = re.match(r"(?:\(?\w\)?\s*)?\(\d+(?:\.\d+)? points?\)[.:]?$", part)
        items.append((part, float(worth[1]) if worth and not heads else None))
    return items


class Marks:
    """The marks of one lab's written answers, in a course's gradebook."""

    def __init__(self, lab: Lab, course: Path) -> None:
        self.lab, self.course = lab, course
        self._lock = threading.Lock()

    def given(self, name: str) -> dict[str, Given]:
        """What the gradebook holds for everybody's answer to a question, by student.

        Raises:
            GradebookUnavailable: it can't be read.
        """
        with self._lock, open_gradebook(self.course) as book:
            submissions = book.assignment_submissions(self.lab.name)
            students = [submission.student.id for submission in submissions]
            found = {student: self._given(book, name, student)[0] for student in students}
            book.db.rollback()
        return found

    def _given(self, book: Gradebook, name: str, student: str) -> tuple[Given, Grade, Comment]:
        grade = book.find_grade(name, self.lab.name, self.lab.name, student)
        comment = book.find_comment(name, self.lab.name, self.lab.name, student)
        known = book.db.execute(ANSWERS.select().where(ANSWERS.c.grade_id == grade.id)).first()
        stale = grade.manual_score is not None and bool(grade.needs_manual_grade)
        given = Given(
            grade.manual_score, comment.manual_comment or "", stale, known.digest if known else ""
        )
        return given, grade, comment

    def save(self, name: str, answer: Answer, mark: float | None, comment: str, seen: str) -> Given:
        """Enters a mark and a comment, unless something else has been entered since it was `seen`.

        Raises:
            ValueError: the mark isn't one.
            Conflict: the mark in the gradebook, or the answer, is another one by now.
            GradebookUnavailable: it can't be written.
        """
        most = next(c.points for c in self.lab.having("question") if c.grade_id == name) or 0
        if mark is not None and not (0 <= mark <= most and float(2 * mark).is_integer()):
            raise ValueError(f"a mark is a number from 0 to {most:g}, in halves")
        with self._lock, open_gradebook(self.course) as book:
            now, grade, said = self._given(book, name, answer.student)
            if now.digest != answer.digest:
                book.db.rollback()
                raise Conflict("the student's answer has changed: stop this program, start it anew")
            if now.seen != seen:
                book.db.rollback()
                raise Conflict("somebody else has marked this meanwhile")
            grade.manual_score = mark
            grade.needs_manual_grade = mark is None and grade.auto_score is None
            said.manual_comment = comment or None
            said.auto_comment = None
            book.db.commit()
        return Given(mark, comment, False, now.digest)


class Server(ThreadingHTTPServer):
    """Serves a lab's questions to a browser on this machine, to whom knows the address.

    The address holds a secret, so no other page in that browser can ask for anything here.
    """

    daemon_threads = True

    def __init__(self, lab: Lab, course: Path, port: int = 0) -> None:
        self.lab = lab
        self.marks = Marks(lab, course)
        self.answers = answers(lab, course)
        self.secret = secrets.token_urlsafe(16)
        self.questions = {cell.grade_id or "": cell for cell in lab.having("question")}
        stubs = {cell.id: cell.source for cell in released_notebook(lab).cells}
        self.prompts = {
            name: answer_html(SOLUTION.sub("", cell.source).strip() or stubs.get(name, ""), {})
            for name, cell in self.questions.items()
        }
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/{self.secret}/"

    def index(self) -> dict[str, Any]:
        """What the first page shows: each question with how many answers are marked."""
        rows = []
        for name, cell in self.questions.items():
            given = self.marks.given(name)
            here = [given[a.student] for a in self.answers[name] if a.student in given]
            marked = sum(one.mark is not None and not one.stale for one in here)
            rows.append((name, question_title(self.lab, cell), marked, len(here)))
        return {"lab": self.lab.name, "rows": rows}

    def question(self, name: str) -> dict[str, Any]:
        """What one question's page shows."""
        cell = self.questions[name]
        given = self.marks.given(name)
        cards, missing = [], 0
        before: Answer | None = None
        for number, answer in enumerate(self.answers[name]):
            now = given.get(answer.student)
            if now is None or now.digest != answer.digest:
                missing += 1
                continue
            likeness = alike(before, answer) if before else 0
            cards.append((number, Markup(answer.html), now, likeness))
            before = answer
        names = list(self.questions)
        place = names.index(name)
        return {
            "name": name,
            "title": question_title(self.lab, cell),
            "most": cell.points,
            "prompt": Markup(self.prompts[name]),
            "rubric": rubric(cell),
            "cards": cards,
            "missing": missing,
            "lab": self.lab.name,
            "next": names[place + 1] if place + 1 < len(names) else "",
        }


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self._path()
        try:
            if path == "":
                self._page("questions.html", **self.server.index())
            elif path is not None and path in self.server.questions:
                self._page("question.html", **self.server.question(path))
            else:
                self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing here")
        except GradebookUnavailable as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", str(error).encode())

    def do_POST(self) -> None:
        path = self._path()
        length = self.headers.get("Content-Length", "")
        if (
            path != "save"
            or self.headers.get("Content-Type") != "application/json"
            or self.headers.get("Origin") != f"http://{self.server.host}"
            or not length.isdecimal()
            or int(length) > MOST_BYTES
        ):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"")
            return
        try:
            sent = json.loads(self.rfile.read(int(length)))
            name, number = sent["question"], sent["number"]
            answer = self.server.answers[name][number]
            mark, comment, seen = sent["mark"], str(sent["comment"]), sent["seen"]
            if mark is not None and (isinstance(mark, bool) or not isinstance(mark, int | float)):
                raise ValueError("a mark is a number")
            comment = comment.encode("utf-8", "replace").decode()
            given = self.server.marks.save(name, answer, mark, comment, seen)
            self._json(HTTPStatus.OK, given, "")
        except Conflict as conflict:
            now = self.server.marks.given(name)[answer.student]
            self._json(HTTPStatus.CONFLICT, now, str(conflict))
        except GradebookUnavailable as error:
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, None, str(error))
        except (ValueError, TypeError, LookupError) as error:
            self._json(HTTPStatus.BAD_REQUEST, None, str(error))

    def _path(self) -> str | None:
        """What is asked for behind the secret; None for who doesn't know it, or comes by another
        name for this machine."""
        secret, slash, path = self.path.removeprefix("/").partition("/")
        knows = secrets.compare_digest(secret.encode(), self.server.secret.encode())
        return path if knows and slash and self.headers.get("Host") == self.server.host else None

    def _page(self, template: str, **values: Any) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            "default-src 'none'; img-src data:; connect-src 'self'; base-uri 'none';"
            f" form-action 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'"
        )
        page = pages.render(template, nonce=nonce, policy=policy, **values)
        content = page.encode("utf-8", "replace")
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", content, policy)

    def _json(self, status: HTTPStatus, given: Given | None, why: str) -> None:
        said: dict[str, Any] = {"why": why, "at": f"{datetime.now():%H:%M:%S}"}
        if given is not None:
            said |= {"mark": given.mark, "comment": given.comment, "seen": given.seen}
        self._send(status, "application/json", json.dumps(said).encode())

    def _send(
        self, status: HTTPStatus, kind: str, content: bytes, policy: str = "default-src 'none'"
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the addresses hold the secret."""
