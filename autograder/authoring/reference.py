"""The reference implementations: a lab's own solution cells, run as a namespace."""

import sys
from types import ModuleType, SimpleNamespace

from autograder.authoring.lab import Lab, find_lab

MODULE = "lab"  # The name under which given classes and functions travel between processes.


def run_reference(lab: Lab, seed: int = 0) -> tuple[dict, SimpleNamespace]:
    """Runs a lab's given and exercise cells, each given cell once.

    Returns:
        What the given cells define, and the namespace of the solution's functions, which also
        holds `seed` for the hidden tests' random inputs.
    """
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    given, reference = module.__dict__, {"__name__": MODULE}
    for cell in lab.having("given", "exercise"):
        code = compile(cell.source, f"{lab.solution_path.name}:{cell.line}", "exec")
        if cell.role == "given":
            exec(code, given)
            reference.update(given)
        else:
            exec(code, reference)
    return given, SimpleNamespace(**reference | {"seed": seed})


def load_reference(lab: str) -> SimpleNamespace:
    """The reference implementations of a lab, as attributes; what hidden tests call `reference`
    where stock nbgrader runs them."""
    return run_reference(find_lab(lab))[1]
