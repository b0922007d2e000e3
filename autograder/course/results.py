"""What is known about a lab's class: a folder with one result per student."""

from pathlib import Path

from autograder.grading.job import Result


class NoResults(Exception):
    """There is nothing to report on; the message says what to do."""


def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """The results in a folder, by student, and the names of the files that hold none.

    Raises:
        NoResults: there is no such folder, or it holds no result.
    """
    results, unreadable = [], []
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            results.append(Result.read(path))
        except (OSError, ValueError):
            unreadable.append(path.name)
    if not results:
        raise NoResults(f"{folder} holds no results; run `autograder grade` first")
    return results, unreadable
