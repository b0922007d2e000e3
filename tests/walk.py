"""A lab's notebook walked through without its tests: the numbers behind its figures."""

import matplotlib.pyplot as plt
import pytest

from autograder.authoring.lab import find_lab
from autograder.authoring.reference import compiled


def walk(name: str, *, until: str = "") -> dict:
    """Runs a lab's given cells, solutions and figures in order, drawing nothing.

    Args:
        name: of the lab.
        until: the heading before which to stop; without one, the last cell is run too.

    Returns:
        What the cells have bound, as a student's notebook would have it at that place.
    """
    lab = find_lab(name)
    namespace = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "show", lambda: plt.close("all"))
        for cell in lab.cells:
            if cell.markdown:
                if until and f"\n{until}\n" in f"\n{cell.source}\n":
                    return namespace
            elif cell.role != "test":
                exec(compiled(cell.source, f"{lab.solution_path.name}:{cell.line}"), namespace)
    assert not until, f"{name} has no heading {until!r}"
    return namespace
