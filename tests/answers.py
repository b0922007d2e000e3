"""The lines of a lab that nobody may read who is to solve it."""

import re

from autograder.authoring.expected import EXPECTED
from autograder.authoring.lab import HIDDEN, SOLUTION, Lab


def lines(text: str) -> set[str]:
    """The lines that tell something, without indentation and signs of comments."""
    stripped = (line.strip().removeprefix("#").strip() for line in text.splitlines())
    return {line for line in stripped if len(line) >= 25 and not line.startswith("import ")}


def secrets(lab: Lab, *regions: re.Pattern) -> set[str]:
    """The lines of such regions of a lab that its author shows nowhere else in it."""
    hidden, shown = set(), set()
    for cell in lab.cells:
        for region in regions:
            for found in region.finditer(cell.source):
                hidden |= lines(found[0])
        shown |= lines(EXPECTED.sub("", HIDDEN.sub("", SOLUTION.sub("", cell.source))))
    return hidden - shown
