"""What a grader is asked, a Job, and what it answers, a Result, or why it can't: light to import.

The process that hands out a class's submissions needs no more than this. PyTorch, which takes
seconds, is imported where submissions are graded.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

SCHEMA_VERSION = 2
Isolation = Literal["bubblewrap", "process"]


class SandboxUnavailable(Exception):
    """Workers can't be isolated on this machine; the message says why and what to do."""


@dataclass(frozen=True)
class Job:
    """All that a result depends on."""

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
        """Writes the result as JSON, whole or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Reads a result that `write` wrote.

        Raises:
            ValueError: the file holds no result of this version.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {content['schema_version']}")
            content["tests"] = [TestOutcome(**test) for test in content["tests"]]
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no result of this grader: {error}") from error
