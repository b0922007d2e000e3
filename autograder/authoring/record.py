"""Records what a lab's visible tests expect: runs their EXPECTED regions with the reference."""

import random
import traceback
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from autograder.authoring.expected import recording, regions
from autograder.authoring.lab import Cell, Lab, LabError, digest
from autograder.authoring.reference import run_reference
from utils.guard import checked
from utils.recorded import Writer

KEEP = "_keep_expected"


def record(lab: Lab) -> bytes:
    """Runs the visible tests that have EXPECTED regions, the reference in the student's place.

    Returns:
        The lab's file of values, for utils.recorded.

    Raises:
        LabError: a region fails, never runs or gives something that isn't data, or the solution
            fails its own test; as `file:line: sentence`.
    """
    writer = Writer()
    cells = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # Sums keep their order.
    try:
        given, reference = run_reference(lab)
        for cell in lab.having("test"):
            if regions(cell.visible):
                passages = _passages(lab, cell, given, reference, writer)
                cells[cell.grade_id] = {"version": lab.version(cell), "regions": passages}
    finally:
        torch.set_num_threads(threads)
    code = [cell.source for cell in lab.having("given", "exercise", "test")]
    return writer.dump({"source": digest(code), "cells": cells})


def _passages(
    lab: Lab, cell: Cell, given: dict[str, Any], reference: SimpleNamespace, writer: Writer
) -> list[list[Any]]:
    """The values, encoded, of each passage through each region of a test cell."""
    found = regions(cell.visible)
    passages: list[list[Any]] = [[] for _ in found]

    def place(line: int) -> str:
        return f"{lab.solution_path}:{cell.line + line}"

    def keep(number: int, values: dict[str, Any]) -> None:
        try:  # Encoded at once: the test may change them later.
            passages[number].append(
                {name: writer.encode(_evaluated(value), name) for name, value in values.items()}
            )
        except TypeError as error:
            raise LabError(f"{place(found[number].line + 1)}: {error}") from None

    file = f"<{cell.grade_id}>"
    answers = {name: getattr(reference, name) for name in set().union(*lab.exercises.values())}
    for exercise in lab.having("exercise"):
        if exercise.is_function:
            answers[exercise.name] = checked(answers[exercise.name], exercise.changes)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 — a test may use the global generator, by mistake
    torch.manual_seed(0)
    try:
        exec(
            compile(recording(cell.visible, KEEP), file, "exec"),
            {**given, **answers, "reference": reference, KEEP: keep},
        )
    except LabError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = [frame.lineno or 1 for frame in frames if frame.filename == file][-1]
        raise LabError(
            f"{place(line)}: the solution fails this test: {type(error).__name__}: {error}"
        ) from error
    for region, values in zip(found, passages, strict=True):
        if not values:
            raise LabError(
                f"{place(region.line + 1)}: this EXPECTED region never ran, so it records nothing"
            )
    return passages


def _evaluated(value: Any) -> Any:
    """A value; of a dict, with the functions in it called, and left out where they raise."""
    if not isinstance(value, dict):
        return value
    results = {}
    for key, part in value.items():
        if callable(part):
            try:
                part = part()
            except Exception:
                continue
        results[key] = _evaluated(part)
    return results
