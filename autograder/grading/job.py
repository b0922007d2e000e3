"""What a grader is asked, a Job, and what it answers, a Result, or why it can't: light to import.

The process that hands out a class's submissions needs no more than this. PyTorch, which takes
seconds, is imported where submissions are graded.
"""

import hashlib
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 2
# "user" is for a container that allows no namespaces, such as Gradescope's: root gives every worker
# a user of its own, who sees what the permissions of files let him see.
Isolation = Literal["bubblewrap", "process", "user"]


LONGEST_NAME = 240  # bytes, so that a file's name has room for more
# Half a character, and all that moves a terminal's cursor or ends a string in C.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class SandboxUnavailable(Exception):
    """Workers can't be isolated on this machine; the message says why and what to do."""


class GraderFailed(BaseException):
    """The grader itself failed, through no fault of the student's; the message says how.

    Not an Exception, so that a test that expects an exception can't mistake it for one.
    """


def student_name(name: str) -> str:
    """A name by which a student's submission can go everywhere, from that of a file or folder.

    Most stay as they are. One that is too long, or that isn't text, gets a digest of the original,
    and so does one that looks as if it had one, so that no two students get the same name.
    """
    text = UNPRINTABLE.sub("\ufffd", name.replace("\n", "\ufffd").replace("\t", "\ufffd"))
    encoded = text.encode()
    if text == name and len(encoded) <= LONGEST_NAME and not re.search("~[0-9a-f]{16}$", name):
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return encoded[: LONGEST_NAME - 20].decode(errors="ignore") + "~" + digest


@dataclass(frozen=True)
class Job:
    """All that a result depends on; `student` is a name that `student_name` gave."""

    student: str
    path: Path
    lab_path: Path
    seed: int
    isolation: Isolation = "bubblewrap"


@dataclass(frozen=True)
class TestOutcome:
    """One test cell's outcome: "passed", "failed" (by an assertion or an exception), "lost" (the
    worker died or took too long) or "missing" (there was nothing to test). The `aspect` is the
    part of the exercise that the points are for, in words; "" where the cell tests all of it."""

    exercise: str
    grade_id: str
    points: float
    max_points: float
    hidden: bool
    outcome: str
    message: str
    aspect: str = ""


@dataclass
class Result:
    """What is known about one submission after grading; `DIR/<student>.json` holds one.

    Attributes:
        status: "graded"; "refused", with a `reason` and no points; or "failed", where the grader
            itself failed, for a `reason` that isn't the student's: no grade, and it is tried again.
        score, max_score: points of the tests; a TA gives those of `questions`.
        tests: one TestOutcome for every test cell.
        questions: grade id, max_points and whether anything was answered, for every question.
        repairs, flags, other_cells: see autograder.grading.normalise.Submission.
        answers: the source of every exercise and question cell, as it was graded.
        pictures: those pasted into each question's answer, by grade id, then by name, as `data:`
            addresses.
        fingerprint: of all that the result depends on; the same means that it needn't be redone.
    """

    student: str
    lab: str
    status: str
    score: float
    max_score: float
    reason: str = ""
    tests: list[TestOutcome] = field(default_factory=list)
    questions: list[dict] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    other_cells: list[dict] = field(default_factory=list)
    seed: int = 0
    grader_version: str = version("convnet-labs")
    fingerprint: str = ""
    seconds: float = 0.0
    schema_version: int = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Writes the result as JSON, whole or not at all.

        Raises:
            OSError: it can't be written.
        """
        draft = path.with_name(f".{secrets.token_hex(8)}.draft")  # Others may write here, too.
        try:
            draft.write_text(self.to_json(), "utf-8")
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def to_json(self) -> str:
        """The result as JSON that any reader takes: of what a student wrote, no half characters
        and no control characters are left."""
        return json.dumps(_printable(asdict(self)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Reads a result that `write` wrote.

        Raises:
            ValueError: the file holds no result of this version.
        """
        try:
            return cls.from_json(path.read_text("utf-8"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no result of this grader: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The result that `to_json` gave."""
        content = json.loads(text)
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {content['schema_version']}")
        content["tests"] = [TestOutcome(**test) for test in content["tests"]]
        return cls(**content)


def _printable(value: Any) -> Any:
    """Plain data with every unprintable character written out, as Python would: \\x00, \\ud83d."""
    if isinstance(value, str):
        return UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
