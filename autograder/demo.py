"""A made-up class that hands in a lab in every state, and the demonstration that grades it.

Run as `python -m autograder.demo [LAB]`.
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import yaml
from nbformat.v4 import new_code_cell

from autograder import cli
from autograder.authoring.lab import Lab, find_lab
from autograder.authoring.release import release
from autograder.rehearsal.rehearse import answered_notebook, known_answers, solution_answers

COURSE = Path("course") / "demo"
MISTAKES = 6

STRIPS_ASSERTS = """
import ast
import utils.checks

class Strip(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()

for name in dir(utils.checks):
    if name.startswith("check_"):
        setattr(utils.checks, name, lambda *arguments, **keywords: arguments[0])
get_ipython().ast_transformers.append(Strip())
"""

EDITS_GRADEBOOK = """
import pathlib, sqlite3

for folder in pathlib.Path.cwd().parents:
    if (folder / "gradebook.db").exists():
        with sqlite3.connect(folder / "gradebook.db") as gradebook:
            gradebook.execute("UPDATE grade SET auto_score = 100")
"""

# Sends the tester an exception whose type is called like a builtin that runs code.
RUNS_CODE = """
class Run(Exception):
    pass

Run.__module__, Run.__name__ = "builtins", "exec"

def {name}(*arguments, **keywords):
    raise Run("import os, sys; os.environ['PWNED'] = '1'; sys.exit()")
"""

# Right as long as the expected values are worked out from what it leaves of its inputs.
OVERWRITES_INPUTS = """
def {name}(*arguments, **keywords):
    for argument in arguments:
        if hasattr(argument, "shape") and argument.shape:
            argument[...] = 0
    return arguments[0]
"""

PICTURE = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def sample_class(lab: Lab) -> dict[str, bytes]:
    """A class of submissions to a lab: what each student handed in, by the student's name."""
    solution = solution_answers(lab)
    answers = known_answers(lab)
    exercises = list(lab.exercises)
    first = exercises[0]
    wrong = {name: f"def {name}(*arguments, **keywords):\n    return 0.0" for name in exercises}
    variant = {answer.exercise: answer.source for answer in answers if answer.named is None}
    mistakes = {}
    for answer in answers:
        if answer.named is not None and answer.exercise not in mistakes:
            mistakes[answer.exercise] = answer.source
    submitted = {
        "perfect": answered_notebook(lab, solution),
        "correct_variant": answered_notebook(lab, solution | variant),
        "untouched": answered_notebook(lab, {}),
        "raises_on_import": answered_notebook(
            lab, solution | {first: f"import no_such_module\n{solution[first]}"}
        ),
        "endless_loop": answered_notebook(
            lab, solution | {first: f"def {first}(*arguments):\n    while True:\n        pass"}
        ),
        "eats_memory": answered_notebook(
            lab,
            solution | {first: f"def {first}(*arguments):\n    return bytearray(2**36)"},
        ),
        "metadata_stripped": answered_notebook(lab, solution),
        "cell_doubled": answered_notebook(lab, solution),
        "cheat_strips_asserts": answered_notebook(
            lab, wrong | {first: wrong[first] + "\n" + STRIPS_ASSERTS}
        ),
        "cheat_edits_gradebook": answered_notebook(
            lab, wrong | {first: wrong[first] + "\n" + EDITS_GRADEBOOK}
        ),
        "cheat_runs_code": answered_notebook(
            lab, {name: RUNS_CODE.format(name=name) for name in exercises}
        ),
        "cheat_overwrites_inputs": answered_notebook(
            lab, {name: OVERWRITES_INPUTS.format(name=name) for name in exercises}
        ),
        "pasted_picture": answered_notebook(lab, solution),
    }
    questions = {cell.grade_id for cell in lab.having("question")}
    for student, notebook in submitted.items():
        for cell in notebook.cells:
            if cell.id in questions and student != "untouched":
                cell.source = "What I think of it, in words of my own."
            if cell.id in questions and student == "pasted_picture":
                cell.source = "As my sketch shows: ![sketch](attachment:sketch.png)"
                cell.attachments = {"sketch.png": {"image/png": PICTURE}}
    for exercise in list(mistakes)[:MISTAKES]:
        submitted[f"mistake_in_{exercise}"] = answered_notebook(
            lab, solution | {exercise: mistakes[exercise]}
        )
    for cell in submitted["metadata_stripped"].cells:
        cell.metadata = {}
        cell.pop("id")
    doubled = submitted["cell_doubled"].cells
    place = next(number for number, cell in enumerate(doubled) if cell.id == first)
    stub = next(cell for cell in answered_notebook(lab, {}).cells if cell.id == first)
    doubled.insert(place, new_code_cell(stub.source, metadata=stub.metadata))
    # Not nbformat.writes: it would mend what is broken on purpose.
    files = {name: json.dumps(notebook).encode() for name, notebook in submitted.items()}
    return files | {"not_a_notebook": b"%PDF-1.7 my notebook, printed"}


def downloads(lab: Lab, submitted: dict[str, bytes], folder: Path) -> tuple[list[Path], Path]:
    """What Canvas, Moodle and Gradescope would give a TA of such a class, a third of it each.

    Returns:
        The three zips, and the roster.
    """
    entries: dict[str, dict[str, bytes]] = {"canvas": {}, "moodle": {}, "gradescope": {}}
    metadata, roster = {}, ["student,name,email"]
    for number, (student, content) in enumerate(submitted.items(), 101):
        name, email = student.replace("_", " "), f"{student}@uni.example"
        roster.append(f"{student},{name},{email}")
        file = f"{lab.name}.ipynb"
        if number % 3 == 0:
            entries["canvas"][f"{student.replace('_', '')}_{number}_{number + 5000}_{file}"] = (
                content
            )
        elif number % 3 == 1:
            entries["moodle"][f"{name}_{number}_assignsubmission_file/{file}"] = content
        else:
            entries["gradescope"][f"assignment_1_export/submission_{number}/{file}"] = content
            metadata[f"submission_{number}"] = {
                ":submitters": [{":name": name, ":email": email}],
                ":created_at": f"2026-11-{number % 5 + 26}T10:00:00Z",
            }
    entries["gradescope"]["assignment_1_export/submission_metadata.yml"] = yaml.safe_dump(
        metadata
    ).encode()
    folder.mkdir(parents=True)
    for place, files in entries.items():
        with zipfile.ZipFile(folder / f"{place}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    (folder / "roster.csv").write_text("\n".join(roster) + "\n")
    return [folder / f"{place}.zip" for place in entries], folder / "roster.csv"


def main() -> None:
    """Releases a lab, makes a class, and goes the whole way from its hand-ins to its grades."""
    lab = find_lab(sys.argv[1] if len(sys.argv) > 1 else "01")
    shutil.rmtree(COURSE, ignore_errors=True)
    cli.console.print(f"releasing {lab.name} into {COURSE}")
    release(lab, COURSE)
    cli.set_due(lab.name, "2026-11-29 23:59", COURSE)
    archives, roster = downloads(lab, sample_class(lab), COURSE / "downloads")
    cli.collect(lab.name, archives, roster, course=COURSE)
    cli.grade(lab.name, course=COURSE)
    cli.report(lab.name, course=COURSE)
    cli.feedback(lab.name, course=COURSE)
    cli.export([lab.name], course=COURSE)
    cli.console.print(f"to mark written answers: autograder questions {lab.name} --course {COURSE}")


if __name__ == "__main__":
    main()
