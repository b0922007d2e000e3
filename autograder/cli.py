"""The command `autograder VERB`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autograder.authoring.lab import LabError, find_lab, lab_names

app = typer.Typer(
    help="Release labs, grade submissions safely, write grades.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(soft_wrap=True)
CourseOption = Annotated[Path, typer.Option(help="The course folder, in nbgrader's layout.")]

WorkersOption = Annotated[int, typer.Option(help="Processes to grade with.", min=1)]
CORES = os.cpu_count() or 1


def fail(message: str) -> typer.Exit:
    """Prints what is wrong, and gives the exception to raise."""
    Console(stderr=True, soft_wrap=True).print(message, style="bold red", markup=False)
    return typer.Exit(1)


@app.command()
def release(
    labs: Annotated[list[str] | None, typer.Argument(help="Names or numbers; all if none.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare labs/ with what solutions/ would give.")
    ] = False,
    course: CourseOption = Path("course"),
) -> None:
    """Write the students' notebooks and enter the labs into the course's gradebook."""
    from autograder.authoring import release as releasing

    stale: dict[str, list[str]] = {}
    for name in labs or lab_names():
        try:
            lab = find_lab(name)
            if not check:
                kept = releasing.release(lab, course)
                console.print(
                    f"{lab.name}: wrote {lab.released_path} and entered it into"
                    f" {course}/gradebook.db"
                )
                if kept is not None:
                    console.print(
                        f"somebody had worked in {lab.released_path.name}: kept as {kept}"
                    )
            elif found := releasing.stale(lab):
                stale[lab.name] = found
        except LabError as error:
            raise fail(str(error)) from None
    if stale:
        lines = [f"{name}: {sentence}" for name, found in stale.items() for sentence in found[:5]]
        lines.append(f"run `autograder release {' '.join(stale)}` and commit the result")
        raise fail("\n".join(lines))


@app.command()
def grade(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    submissions: Annotated[
        Path | None,
        typer.Argument(
            help="A folder with one notebook or one folder per student;"
            " the course's submitted/ if none."
        ),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Where to write <student>.json; in the course if none.")
    ] = None,
    workers: WorkersOption = CORES,
    seed: Annotated[int, typer.Option(help="Of the hidden tests' random inputs.")] = 0,
    isolation: Annotated[
        str, typer.Option(help="bubblewrap; or process, which does not keep submissions out.")
    ] = "bubblewrap",
    course: CourseOption = Path("course"),
) -> None:
    """Grade a class. Without SUBMISSIONS, a course's: into its gradebook, with feedback."""
    from autograder.grading.grade import find_submissions, grade_class
    from autograder.grading.job import Job, SandboxUnavailable

    if isolation not in ("bubblewrap", "process"):
        raise fail(f"the isolation is bubblewrap or process, not {isolation}")
    if submissions is not None and results is None:
        raise fail("name the folder for the results with --results DIR")
    try:
        the_lab = find_lab(lab)
        if submissions is None:
            if not (course / "release" / the_lab.name).is_dir():
                raise fail(
                    f"{course} is no course with the lab {the_lab.name}; run"
                    f" `autograder release {the_lab.name} --course {course}`, or name a folder"
                    " of submissions"
                )
            found = {
                student.name: student / the_lab.name
                for student in sorted((course / "submitted").glob("[!.]*"))
                if os.path.lexists(student / the_lab.name)
            }
            if not found:
                raise fail(f"nobody has handed in {the_lab.name}: {course}/submitted has none")
            results = course / "results" / the_lab.name
        else:
            found = find_submissions(submissions)
        jobs = [
            Job(student, path.absolute(), the_lab.solution_path, seed, isolation)
            for student, path in found.items()
        ]
        with progress_bar("grading") as bar:
            task = bar.add_task("", total=len(jobs))
            graded = grade_class(
                jobs,
                results,
                workers,
                progress=lambda result: bar.update(task, advance=1, description=result.student),
            )
    except (LabError, FileNotFoundError, SandboxUnavailable) as error:
        raise fail(str(error)) from None
    show(list(graded.values()))
    console.print(f"results: {results}")
    if submissions is None:
        from autograder.course import gradebook

        gradebook.record(the_lab, graded.values(), course)
        gradebook.write_csv(graded.values(), course / "grades.csv")
        for what in ("grades.csv", "gradebook.db", "autograded", "feedback"):
            console.print(f"{what.removesuffix('.csv').removesuffix('.db')}: {course / what}")


@app.command()
def report(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    results: Annotated[
        Path | None, typer.Option(help="The folder with <student>.json; the course's if none.")
    ] = None,
    course: CourseOption = Path("course"),
) -> None:
    """One page about how the class did: tests, mistakes, likenesses, the grader's own troubles."""
    from autograder.course.report import NoResults, write_report

    try:
        the_lab = find_lab(lab)
        with console.status("reading and comparing"):
            path = write_report(the_lab, results or course / "results" / the_lab.name)
    except (LabError, FileNotFoundError, NoResults) as error:
        raise fail(str(error)) from None
    console.print(f"report: {path}")


@app.command()
def rehearse(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    exercises: Annotated[list[str] | None, typer.Argument(help="All if none.")] = None,
    workers: WorkersOption = CORES,
) -> None:
    """Grade a lab's known mistakes and correct variants, and say what isn't as it should be."""
    from autograder.rehearsal.rehearse import rehearse

    with progress_bar("rehearsing") as bar:
        task = bar.add_task("", total=None)
        try:
            problems = rehearse(
                find_lab(lab),
                workers,
                exercises=exercises or (),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except (LabError, FileNotFoundError) as error:
            raise fail(str(error)) from None
    if problems:
        raise fail("\n".join(problems))
    console.print("every mistake is caught and named, every correct variant gets full marks")


def progress_bar(what: str) -> Progress:
    """A bar for a known number of notebooks."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
    )


def show(results: list) -> None:
    """Prints a table of students, scores and reasons."""
    from autograder.course.gradebook import summary

    table = Table("student", "score", "reason")
    table.columns[1].justify = "right"
    for result in results:
        score = f"{result.score:g}/{result.max_score:g}"
        if result.status == "refused":
            score = "refused"
        table.add_row(*(Text(cell) for cell in (result.student, score, summary(result))))
    console.print(table)
