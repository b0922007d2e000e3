"""A lab as a Gradescope autograder: the zip to upload, and what it does there with a submission.

What keeps a submission from tests, results and network there, and what doesn't, is in
docs/gradescope.md.
"""

import json
import os
import re
import sys
import traceback
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from autograder.authoring.lab import PACKAGE, ROOT, Lab, find_lab, read_project
from autograder.grading.grade import grade
from autograder.grading.job import Job, Result

Visibility = Literal["visible", "after_due_date", "after_published", "hidden"]
VISIBILITIES: tuple[Visibility, ...] = get_args(Visibility)

PLACE = Path("/autograder")  # where Gradescope puts everything
PYTHON = "/opt/convnet-labs"  # a virtual environment that students' code may read
SETTINGS = "gradescope.json"
# What grading needs beside what the labs' notebooks import; and what nothing here needs.
NEEDED = ("jupytext", "nbformat", "psutil")
UNNEEDED = ("jupyterlab", "ipywidgets")
WRITTEN = (1980, 1, 1, 0, 0, 0)  # the same for every file, so that the same lab gives the same zip

SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this as root, once, to build the image.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
for version in {versions}; do
  if apt-get install -y -qq "python$version" "python$version-venv"; then break; fi
done
"python$version" -m venv {python}
{python}/bin/pip install --quiet --no-cache-dir {index}-r /autograder/source/requirements.txt
"""

RUN = """\
#!/usr/bin/env bash
# Gradescope runs this as root, for each submission.
cd /autograder/source
export PYTHONPATH=/autograder/source PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
exec {python}/bin/python -m autograder.course.gradescope
"""


class NotInstalled(Exception):
    """A package that grading needs isn't installed here; the message names it."""


def build(
    lab: Lab,
    path: Path,
    hidden: Visibility = "after_published",
    seed: int = 0,
    torch_index: str | None = None,
) -> Path:
    """Writes the zip to upload as the lab's autograder; returns its path.

    Args:
        hidden: when students may see the tests that their notebook doesn't show.
        seed: of the hidden tests' random inputs.
        torch_index: the address of a package index with CPU builds of PyTorch; without one it
            comes from PyPI, several GB larger.

    Raises:
        FileNotFoundError: the lab hasn't been released.
        NotInstalled: a package that grading needs isn't installed, so no version can be pinned.
    """
    if not lab.released_path.is_file():
        raise FileNotFoundError(f"{lab.name} is not released; run `autograder release {lab.name}`")
    name, number = "convnet-labs", version("convnet-labs")
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    versions = [own, *(v for v in ("3.13", "3.12", "3.11") if v != own)]
    index = f"--extra-index-url '{torch_index}' " if torch_index else ""
    texts = {
        "setup.sh": SETUP.format(versions=" ".join(versions), python=PYTHON, index=index),
        "run_autograder": RUN.format(python=PYTHON),
        "requirements.txt": "\n".join(requirements(lab.root)) + "\n",
        SETTINGS: json.dumps({"lab": lab.name, "seed": seed, "hidden": hidden}) + "\n",
        # Tells importlib.metadata the version, without another step of installation.
        f"{name.replace('-', '_')}-{number}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        ),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, text in texts.items():
            mode = 0o755 if place in ("setup.sh", "run_autograder") else 0o644
            _add(archive, place, text.encode(), mode)
        for place, file in _files(lab):
            _add(archive, place, file.read_bytes(), 0o644)
    draft.replace(path)
    return path


def _add(archive: zipfile.ZipFile, place: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(place, WRITTEN)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100000 | mode) << 16
    archive.writestr(entry, content)


def _files(lab: Lab) -> list[tuple[str, Path]]:
    """What of the project is needed there, by its place in the zip: the code that grades, what the
    labs import, and of the labs this one alone."""
    own = Path(__file__)
    found = [PACKAGE / "__init__.py", own.with_name("__init__.py"), own]
    for folder in ("authoring", "grading"):
        found += sorted((PACKAGE / folder).glob("*.py"))
    files = [(f"autograder/{path.relative_to(PACKAGE).as_posix()}", path) for path in found]
    for path in sorted((ROOT / "utils").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            files.append((path.relative_to(ROOT).as_posix(), path))
    files.append((f"solutions/{lab.solution_path.name}", lab.solution_path))
    beside = sorted(lab.released_path.parent.glob(f"{lab.name}.*"))
    return files + [(f"labs/{path.name}", path) for path in beside]


def requirements(root: Path) -> list[str]:
    """What must be installed there, each at the version that is installed here.

    Raises:
        NotInstalled: one isn't.
    """
    named = [re.split(r"[^\w.-]", entry)[0] for entry in read_project(root)["dependencies"]]
    pinned = []
    for name in [*(name for name in named if name not in UNNEEDED), *NEEDED]:
        try:
            # Without "+cpu" and the like, which is where a build came from.
            pinned.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            raise NotInstalled(f"{name} is not installed here: run `make setup`") from None
    return pinned


def grade_submission(place: Path = PLACE) -> None:
    """Grades the submission that Gradescope has laid out below `place`, and writes results.json as
    the last thing, when all that the submission had started is dead."""
    source, results = place / "source", place / "results"
    settings = json.loads((source / SETTINGS).read_text("utf-8"))
    metadata = _read_metadata(place / "submission_metadata.json")
    try:
        close_doors(place)
        lab = find_lab(settings["lab"], source)
        job = Job("student", place / "submission", lab.solution_path, settings["seed"], "user")
        content = outcome(grade(job), metadata, settings["hidden"])
    except Exception as error:
        traceback.print_exc()  # Gradescope shows it to instructors alone.
        content = failure(f"{type(error).__name__}: {error}", metadata)
    results.mkdir(exist_ok=True)
    draft = results / ".results.json"
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(results / "results.json")


def close_doors(place: Path) -> None:
    """Leaves to other users than root of all that Gradescope has laid out only utils/ and this
    Python: not the tests, nor the reference, the submission, its metadata or the results."""
    (place / "results").mkdir(exist_ok=True)
    for path in place.iterdir():
        if path.name != "source" and not path.is_symlink():
            path.chmod(0o700)
    for path in (place / "source").iterdir():
        if path.name != "utils" and not path.is_symlink():
            path.chmod(0o700)
    for path in (place / "source" / "utils").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (place / "source" / "utils").chmod(0o755)
    (place / "source").chmod(0o755)


def _read_metadata(path: Path) -> dict[str, Any]:
    """What Gradescope says about a submission; nothing where it can't be read, as no grade hangs
    on it."""
    try:
        metadata = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def outcome(result: Result, metadata: Mapping[str, Any], hidden: Visibility) -> dict[str, Any]:
    """A result as Gradescope's results.json."""
    if result.status == "failed":
        return failure(result.reason, metadata)
    if result.status == "refused":
        said = [f"This notebook can't be graded: {result.reason}. Hand it in again."]
    else:
        said = [f"The tests give {result.score:g} of {result.max_score:g} points."]
        written = [f"{q['grade_id']} ({q['max_points']:g})" for q in result.questions]
        if written:
            said.append(
                f"A TA marks the written answers, which are not in it: {', '.join(written)}."
            )
        said += [f"Put right before grading: {repair}." for repair in result.repairs]
    return {
        "score": result.score,
        "execution_time": round(result.seconds),
        "output": "\n".join(said + notes(metadata)),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "stdout_visibility": "hidden",
        "tests": _tests(result, hidden),
        "extra_data": {"status": result.status, "seed": result.seed, "flags": result.flags},
    }


def _tests(result: Result, hidden: Visibility) -> list[dict[str, Any]]:
    """One entry for each test, numbered by exercise, and one for each written answer."""
    tests: list[dict[str, Any]] = []
    exercises = list(dict.fromkeys(test.exercise for test in result.tests))
    for number, exercise in enumerate(exercises, 1):
        own = [test for test in result.tests if test.exercise == exercise]
        for part, test in enumerate(own, 1):
            aspect = test.aspect or (f"test {part}" if len(own) > 1 else "")
            passed = test.outcome == "passed"
            tests.append(
                {
                    "number": f"{number}.{part}" if len(own) > 1 else f"{number}",
                    "name": f"{exercise}: {aspect}" if aspect else exercise,
                    "score": test.points,
                    "max_score": test.max_points,
                    "status": "passed" if passed else "failed",
                    "output": test.message or "right",
                    "visibility": hidden if test.hidden else "visible",
                }
            )
    for number, question in enumerate(result.questions, len(exercises) + 1):
        answered = "It was found." if question["answered"] else "Nothing was written."
        tests.append(
            {
                "number": f"{number}",
                "name": f"{question['grade_id']}: a TA marks this",
                "output": f"{answered} Up to {question['max_points']:g} points.",
                "visibility": "visible",
            }
        )
    return tests


def failure(reason: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What Gradescope gets where the grader itself failed: the best earlier score, if there is one;
    otherwise no score at all, which Gradescope shows as a failed autograder and not as a zero."""
    said = [
        "The grader failed on this submission. That is no grade, and not your fault: course staff"
        " can run it again, or you can hand in again.",
        f"What happened: {reason}",
    ]
    content: dict[str, Any] = {
        "output_format": "text",
        "stdout_visibility": "hidden",
        "extra_data": {"status": "failed"},
    }
    best = max(_earlier_scores(metadata), default=None)
    if best is not None:
        said.insert(1, f"Until then your best earlier score stands: {best:g}.")
        content["score"] = best
    content["output"] = "\n".join(said + notes(metadata))
    return content


def notes(metadata: Mapping[str, Any]) -> list[str]:
    """What the metadata say of lateness and of earlier submissions, a sentence each."""
    said = []
    assignment = _mapping(metadata.get("assignment"))
    # A student with an extension has a date of his own.
    dates = [
        _mapping(_mapping(user).get("assignment")).get("due_date")
        for user in _list(metadata.get("users"))
    ]
    due = max(filter(None, map(_time, dates)), default=_time(assignment.get("due_date")))
    came = _time(metadata.get("created_at"))
    if came and due and came > due:
        late = timedelta(seconds=int((came - due).total_seconds()))
        said.append(f"Late by {late}: whatever that costs is not in this score.")
    scores = _earlier_scores(metadata)
    if scores:
        best = f"the best of the {len(scores)} before" if len(scores) > 1 else "the one before"
        said.append(f"This is submission {len(scores) + 1}; {best} got {max(scores):g}.")
    return said


def _earlier_scores(metadata: Mapping[str, Any]) -> list[float]:
    scores = []
    for earlier in _list(metadata.get("previous_submissions")):
        try:
            scores.append(float(_mapping(earlier).get("score")))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue  # It had none.
    return scores


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else []


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else None


if __name__ == "__main__":
    grade_submission()
