"""The command `autograder VERB`."""

import contextlib
import difflib
import functools
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from autograder.authoring.lab import ROOT, Lab, LabError, find_lab, lab_names
from autograder.grading.job import Isolation, Result, student_name

app = typer.Typer(
    help="Release labs, grade submissions safely, write grades.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(soft_wrap=True)
COURSE = Path(os.path.relpath(ROOT / "course"))
CourseOption = Annotated[Path, typer.Option(help="The course folder, in nbgrader's layout.")]
WorkersOption = Annotated[int, typer.Option(help="Processes to grade with.", min=1)]
IsolationOption = Annotated[
    str, typer.Option(help="bubblewrap; or process, which does not keep submissions out.")
]
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
    due: Annotated[
        str | None,
        typer.Option(help='When it is due, as "2026-11-30 23:59", in the time zone of late.toml.'),
    ] = None,
    course: CourseOption = COURSE,
) -> None:
    """Write the students' notebooks and enter the labs into the course's gradebook."""
    from autograder.authoring import release as releasing

    if due is not None and (check or not labs):
        raise fail("name the labs that are due then, as in `autograder release 01 --due …`")
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
                if due is not None:
                    set_due(lab.name, due, course)
            elif found := releasing.stale(lab):
                stale[lab.name] = found
        except LabError as error:
            raise fail(str(error)) from None
    if stale:
        lines = [f"{name}: {sentence}" for name, found in stale.items() for sentence in found[:5]]
        lines.append(f"run `autograder release {' '.join(stale)}` and commit the result")
        raise fail("\n".join(lines))


@app.command()
def handout(
    folder: Annotated[Path, typer.Argument(help="A new folder, or the hand-out's repository.")],
    labs: Annotated[
        list[str] | None,
        typer.Argument(help="Names or numbers, beside those handed out before; all if none."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Where students get it; the repository's origin if none."),
    ] = None,
    hub: Annotated[
        str | None, typer.Option(help="The address of a JupyterHub with nbgitpuller.")
    ] = None,
) -> None:
    """Write what students get, and nothing else, as a git repository to publish."""
    from autograder.authoring.handout import HandoutError, hand_out

    try:
        given = hand_out(folder, [find_lab(name) for name in labs or lab_names()], url, hub)
    except (LabError, HandoutError) as error:
        raise fail(str(error)) from None
    if not given.new:
        console.print(f"{folder}: nothing is new since {given.version}", markup=False)
        return
    held = ", ".join(given.labs)
    console.print(
        f"{folder}: {given.version} holds {held}; students get it from {given.url}", markup=False
    )
    console.print(f"next: git -C {folder} push --follow-tags origin {given.branch}", markup=False)


@app.command()
def new(folder: Annotated[Path, typer.Argument(help="A folder that isn't there yet.")]) -> None:
    """Begin a course of your own: a first lab, what notebooks import, and how to go on."""
    from autograder.authoring.new import NotEmpty, begin

    try:
        begin(folder)
    except (NotEmpty, OSError) as error:
        raise fail(str(error)) from None
    console.print(f"{folder}: a course with one lab, solutions/01_first_lab.py", markup=False)
    console.print(f"next: cd {folder}; autograder release 01; README.md has the rest", markup=False)


def set_due(lab: str, due: str, course: Path) -> None:
    """Sets a lab's due date, and says what lateness costs."""
    from autograder.course import lateness
    from autograder.course.gradebook import GradebookUnavailable

    try:
        time = lateness.set_due(lab, due, course)
        policy = lateness.read_policy(course)
    except (lateness.LateError, GradebookUnavailable) as error:
        raise fail(str(error)) from None
    cost = (
        f"each day late costs {policy.percent_per_day:g} %, {policy.most_percent:g} % at most"
        if policy.percent_per_day
        else "lateness costs nothing"
    )
    console.print(f"{lab}: due {time:%Y-%m-%d %H:%M %Z}; {cost}, as {course / 'late.toml'} says")


@app.command()
def collect(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    archives: Annotated[
        list[Path],
        typer.Argument(help="Zips of Canvas, Moodle or Gradescope, or folders unpacked from them."),
    ],
    roster: Annotated[
        Path | None,
        typer.Option(
            help="Canvas's gradebook, Moodle's grading worksheet, or a CSV with student, name,"
            " email; the one given before if none."
        ),
    ] = None,
    course: CourseOption = COURSE,
) -> None:
    """Collect submissions from downloads into the course's submitted/."""
    from autograder.course import collect as collecting
    from autograder.course.archives import ArchiveError
    from autograder.course.gradebook import GradebookUnavailable
    from autograder.course.lateness import LateError
    from autograder.course.roster import RosterError

    try:
        the_lab = find_lab(lab)
        if not (course / "release" / the_lab.name).is_dir():
            raise fail(
                f"{course} is no course with the lab {the_lab.name}; run `autograder release"
                f" {the_lab.name} --course {course}` first"
            )
        with progress_bar("collecting") as bar:
            task = bar.add_task("", total=None)
            rows, notes = collecting.collect(
                the_lab.name,
                archives,
                course,
                roster,
                progress=lambda done, total, what: bar.update(
                    task, completed=done, total=total, description=what
                ),
            )
    except (LabError, ArchiveError, RosterError, LateError, GradebookUnavailable) as error:
        raise fail(str(error)) from None
    table = Table("student", "what came", "what was done")
    for row in rows:
        table.add_row(*(Text(cell) for cell in (row.student or "–", row.came, row.done)))
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
    console.print(
        f"next: autograder grade {the_lab.name}" + f" --course {course}" * (course != COURSE)
    )


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
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler's address: its workers grade instead.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the hidden tests' inputs; the course's own, in seed.toml, if none."),
    ] = None,
    isolation: IsolationOption = "bubblewrap",
    student: Annotated[
        list[str] | None, typer.Option(help="Grade only this student; repeat it for several.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Grade only what has no grade that still holds.")
    ] = False,
    course: CourseOption = COURSE,
) -> None:
    """Grade a class. Without SUBMISSIONS, a course's: into its gradebook."""
    from autograder.course.seeds import SeedError, Seeds, read_seeds
    from autograder.grading.cluster import ClusterUnavailable, cluster
    from autograder.grading.grade import earlier_result, find_submissions, grade_class
    from autograder.grading.job import Job, SandboxUnavailable

    kind = checked_isolation(isolation)
    try:
        the_lab = find_lab(lab)
        if submissions is None:
            from autograder.course import gradebook

            otherwise = ", or name a folder of submissions"
            gradebook.require_release(the_lab, course, otherwise)
            found = handed_in(the_lab.name, course)
            results = course / "results" / the_lab.name
        elif results is None:
            raise fail("name the folder for the results with --results DIR")
        else:
            found = find_submissions(submissions)
        if seed is None:
            seeds = read_seeds(course if submissions is None else results)
        else:
            seeds = Seeds(seed, own_inputs=False)
        jobs = [
            Job(
                name,
                path.absolute(),
                the_lab.solution_path,
                seeds.of(path, the_lab.name),
                kind,
            )
            for name, path in chosen(found, student).items()
        ]
        if new:
            jobs = [job for job in jobs if not earlier_result(job, results / f"{job.student}.json")]
            if not jobs:
                console.print("nothing is new: every hand-in has a grade that still holds")
                return
        with contextlib.ExitStack() as stack:
            executor = None
            if scheduler is not None:
                folder = submissions or course / "submitted"
                needed = [the_lab.solution_path, folder.absolute()]
                executor, workers = stack.enter_context(cluster(scheduler, needed))
            bar = stack.enter_context(progress_bar("grading"))
            task = bar.add_task("", total=len(jobs))
            graded = grade_class(
                jobs,
                results,
                workers,
                executor,
                progress=lambda result: bar.update(task, advance=1, description=result.student),
            )
    except (LabError, OSError, SandboxUnavailable, ClusterUnavailable, SeedError) as error:
        raise fail(str(error)) from None
    show(list(graded.values()))
    console.print(f"results: {results}")
    if submissions is None:
        problems = enter(the_lab, graded.values(), course)
        for what in ("grades.csv", "gradebook.db", "autograded"):
            console.print(f"{what.removesuffix('.csv').removesuffix('.db')}: {course / what}")
        if problems:
            raise fail(problems)
    failed = sum(result.status == "failed" for result in graded.values())
    if failed:
        raise fail(
            f"{failed} of {len(graded)} have no grade, because the grader itself failed on them;"
            " the table says how. Run the same command again to try them anew"
        )


def enter(lab: Lab, results: Iterable[Result], course: Path) -> str:
    """Enters results into a course's gradebook, with what lateness takes, and writes grades.csv.

    Returns:
        Whose result couldn't be recorded and why, a line each.
    """
    from autograder.course import gradebook, lateness
    from autograder.course.results import read_results

    results = list(results)
    with progress_bar("recording") as bar:
        task = bar.add_task("", total=len(results))
        try:
            problems = gradebook.record(
                lab,
                results,
                course,
                progress=lambda result: bar.update(task, advance=1, description=result.student),
            )
            lateness.record(lab.name, course)
        except (gradebook.GradebookUnavailable, lateness.LateError) as error:
            raise fail(str(error)) from None
    standing, _ = read_results(course / "results" / lab.name)
    of_all = {result.student: result for result in [*standing, *results]}
    gradebook.write_csv(of_all.values(), course / "grades.csv")
    return "\n".join(f"{student}: {why}" for student, why in problems.items())


def checked_isolation(isolation: str) -> Isolation:
    """The isolation of this name; refuses one that there isn't."""
    offered: tuple[Isolation, ...] = ("bubblewrap", "process")
    for kind in offered:
        if isolation == kind:
            return kind
    raise fail(f"the isolation is bubblewrap or process, not {isolation}")


def handed_in(lab: str, course: Path) -> dict[str, Path]:
    """Where each student's submission to a lab lies in a course."""
    found = {
        student_name(student.name): student / lab
        for student in sorted((course / "submitted").glob("[!.]*"))
        if os.path.lexists(student / lab)
    }
    if not found:
        raise fail(f"nobody has handed in {lab}: {course}/submitted has none")
    return found


def chosen(found: dict[str, Path], students: list[str] | None) -> dict[str, Path]:
    """The submissions of these students; of all if none are named."""
    for name in students or ():
        if name not in found:
            close = difflib.get_close_matches(name, found, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise fail(f"there is no submission of {name!r}{hint}")
    return {name: path for name, path in found.items() if not students or name in students}


@app.command()
def check(
    notebook: Annotated[Path, typer.Argument(help="A student's notebook; it stays as it is.")],
    lab: Annotated[
        str | None, typer.Option(help="The lab's name or number; told from the notebook if none.")
    ] = None,
    isolation: IsolationOption = "bubblewrap",
) -> None:
    """Say of one notebook what is done, what isn't right yet, and what to do next."""
    from autograder.course import check as checking
    from autograder.grading.handed_in import Refused
    from autograder.grading.job import GraderFailed, SandboxUnavailable

    kind = checked_isolation(isolation)
    try:
        the_lab = find_lab(lab or checking.lab_in(notebook))
        with progress_bar("running the tests that students see") as bar:
            task = bar.add_task("", total=len(the_lab.as_shown().having("test")))
            found = checking.check(the_lab, notebook, kind, lambda: bar.advance(task))
    except (LabError, Refused, GraderFailed, FileNotFoundError, SandboxUnavailable) as error:
        raise fail(str(error)) from None
    table = Table(
        "", "state", "tests that students see", "left for the grading", title=the_lab.name
    )
    for row in found.rows:
        table.add_row(*(Text(cell) for cell in row), end_section=True)
    console.print(table)
    for note in found.notes:
        console.print(note, markup=False)
    console.print(f"next: {found.next}", markup=False)


@app.command()
def regrade(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Enter what the preview shows into the gradebook.")
    ] = False,
    workers: WorkersOption = CORES,
    isolation: IsolationOption = "bubblewrap",
    course: CourseOption = COURSE,
) -> None:
    """Grade a course's hand-ins again, after a test was mended: first a preview, then --apply."""
    from autograder.course import gradebook
    from autograder.course import regrade as regrading
    from autograder.course.results import NoResults, read_results
    from autograder.course.seeds import SeedError, read_seeds
    from autograder.grading.job import Job, SandboxUnavailable

    kind = checked_isolation(isolation)
    try:
        the_lab = find_lab(lab)
        gradebook.require_release(the_lab, course)
        results = course / "results" / the_lab.name
        # With the seed of the grade that stands, the same inputs are tried again.
        used = {result.student: result.seed for result in read_results(results)[0]}
        drawn = read_seeds(course)
        jobs = [
            Job(
                name,
                path.absolute(),
                the_lab.solution_path,
                used.get(name, drawn.of(path, the_lab.name)),
                kind,
            )
            for name, path in handed_in(the_lab.name, course).items()
        ]
        if apply:
            graded = regrading.previewed(the_lab, jobs, course)
            problems = enter(the_lab, graded.values(), course)
            regrading.keep(the_lab, graded, course)
            console.print(f"applied: {len(graded)} results are in {course}/gradebook.db")
            if problems:
                raise fail(problems)
            return
        with progress_bar("grading again") as bar:
            task = bar.add_task("", total=len(jobs))
            changes = regrading.preview(
                the_lab,
                jobs,
                course,
                workers,
                progress=lambda result: bar.update(task, advance=1, description=result.student),
            )
    except (
        *(LabError, FileNotFoundError, SandboxUnavailable, SeedError),
        *(NoResults, regrading.NoPreview),
    ) as error:
        raise fail(str(error)) from None
    table = Table("student", "before", "now", "what changes")
    for column in table.columns[1:3]:
        column.justify = "right"
    for change in changes:
        if change.kind != "unchanged":
            table.add_row(*(Text(cell) for cell in regrading.row(change)))
    if table.row_count:
        console.print(table)
    counts = Counter(change.kind for change in changes)
    said = [f"{counts[kind]} {words}" for kind, words in regrading.KINDS.items() if counts[kind]]
    console.print("; ".join(said))
    console.print(f"preview: {regrading.preview_folder(the_lab, course) / 'regrade.html'}")
    console.print("nothing of it counts before the same command with --apply")


@app.command()
def export(
    labs: Annotated[
        list[str] | None, typer.Argument(help="Names or numbers; all of the course's if none.")
    ] = None,
    canvas: Annotated[
        Path | None, typer.Option(help="Canvas's gradebook, into which a lab's marks go.")
    ] = None,
    canvas_id: Annotated[
        int | None,
        typer.Option(
            help="Without Canvas's gradebook: the assignment's number there, for a new file.", min=1
        ),
    ] = None,
    moodle: Annotated[
        Path | None, typer.Option(help="Moodle's grading worksheet, into which a lab's marks go.")
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="The course's table, which is the default.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    column: Annotated[
        str | None,
        typer.Option(help='Canvas: "Title (ID)" of the assignment. Moodle: the grade\'s column.'),
    ] = None,
    provisional: Annotated[
        bool, typer.Option("--provisional", help="Also marks that aren't final yet.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="Where to write; a new file if none, which is said.")
    ] = None,
    course: CourseOption = COURSE,
) -> None:
    """Write grades: the course's own table, or into the file that Canvas or Moodle gave."""
    from autograder.course import export as exporting
    from autograder.course.collect import participants
    from autograder.course.gradebook import GradebookUnavailable, open_gradebook
    from autograder.course.lateness import LateError

    if sum(place is not None for place in (canvas, canvas_id, moodle)) + as_csv + as_json > 1:
        raise fail("choose one of --canvas, --canvas-id, --moodle, --csv and --json")
    source = canvas or moodle
    try:
        if labs:
            names = [find_lab(lab).name for lab in labs]
        else:
            with open_gradebook(course) as gradebook:
                names = sorted(assignment.name for assignment in gradebook.assignments)
        if (source is not None or canvas_id is not None) and len(names) != 1:
            raise fail(f"one column takes one lab: name one of {', '.join(names)}")
        found = exporting.marks(names, course)
        if canvas_id is not None:
            content, lines = exporting.new_canvas(names[0], canvas_id, found, provisional)
            show_plan(lines)
            path = to or course / f"canvas_{names[0]}.csv"
            exporting.replace_file(path, content)
            console.print("what is in Canvas isn't known here: an excuse there is overwritten, too")
            console.print(f"wrote {path}", markup=False)
            return
        if source is None:
            path = to or course / Path(exporting.TABLE).with_suffix(".json" if as_json else ".csv")
            (exporting.write_json if as_json else exporting.write_csv)(found, path)
            show_marks(found)
            console.print(f"wrote {path}", markup=False)
            return
        if canvas is not None:
            plan = exporting.plan_canvas(canvas, names[0], found, column, provisional)
        else:
            numbers = participants(names[0], course)
            plan = exporting.plan_moodle(source, names[0], found, column, provisional, numbers)
        show_plan(plan.lines)
        for note in plan.notes:
            console.print(note, markup=False)
        console.print(
            f"{plan.column}: {len(plan.sheet.changes)} of {len(plan.lines)} change", markup=False
        )
        path = to or source.with_name(f"{source.stem}_{names[0]}{source.suffix}")
        exporting.replace_file(path, plan.sheet.changed())
    except (LabError, exporting.ExportError, LateError, GradebookUnavailable) as error:
        raise fail(str(error)) from None
    console.print(f"wrote {path}", markup=False)


def show_plan(lines: list) -> None:
    """Prints what becomes of everybody in an export."""
    table = Table("who", "now", "then", "why")
    for line in lines:
        table.add_row(*(Text(cell) for cell in (line.who, line.now, line.then, line.why)))
    console.print(table)


def show_marks(found: list) -> None:
    """Prints how many marks of each lab are final, and which aren't."""
    table = Table("lab", "student", "points", "not final because")
    for lab in dict.fromkeys(mark.lab for mark in found):
        here = [mark for mark in found if mark.lab == lab]
        missing = sum(mark.state == "missing" for mark in here)
        table.add_row(
            lab, f"{sum(mark.final for mark in here)} of {len(here)} final, {missing} missing"
        )
        for mark in here:
            if not mark.final and mark.state != "missing":
                points = "" if mark.points is None else f"{mark.points:g}"
                table.add_row("", *(Text(c) for c in (mark.student.student, points, mark.state)))
    console.print(table)


@app.command()
def report(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    results: Annotated[
        Path | None, typer.Option(help="The folder with <student>.json; the course's if none.")
    ] = None,
    course: CourseOption = COURSE,
) -> None:
    """One page about how the class did: tests, mistakes, likenesses, the grader's own troubles."""
    from autograder.course.report import write_report
    from autograder.course.results import NoResults

    try:
        the_lab = find_lab(lab)
        with progress_bar("reading and comparing") as bar:
            task = bar.add_task("", total=None)
            folder = results or course / "results" / the_lab.name
            path = write_report(the_lab, folder, functools.partial(_show_done, bar, task))
    except (LabError, FileNotFoundError, NoResults) as error:
        raise fail(str(error)) from None
    console.print(f"report: {path}")


@app.command()
def feedback(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    student: Annotated[
        list[str] | None, typer.Option(help="Only this student's page; repeat it for several.")
    ] = None,
    course: CourseOption = COURSE,
) -> None:
    """Write each student's page, and the zips that Canvas and Moodle hand out."""
    from autograder.course import collect as collecting
    from autograder.course import feedback as feeding
    from autograder.course import lateness
    from autograder.course.gradebook import GradebookUnavailable
    from autograder.course.results import NoResults, read_results

    try:
        the_lab = find_lab(lab)
        results, unreadable = read_results(course / "results" / the_lab.name)
        wanted = chosen({result.student: Path() for result in results}, student)
        results = [result for result in results if result.student in wanted]
        late = {
            name: f"Handed in {one.sentence}. That leaves {one.after:g} points."
            if one.penalty
            else f"Handed in {one.sentence}."
            for name, one in lateness.record(the_lab.name, course).items()
            if one.days
        }
        with progress_bar("writing") as bar:
            task = bar.add_task("", total=len(results))
            written, problems = feeding.write(
                the_lab,
                results,
                course,
                late,
                progress=lambda result: bar.update(task, advance=1, description=result.student),
            )
    except (LabError, FileNotFoundError, NoResults, GradebookUnavailable) as error:
        raise fail(str(error)) from None
    except lateness.LateError as error:
        raise fail(str(error)) from None
    folder = course / "feedback"
    console.print(f"{len(written)} pages: {folder}/STUDENT/{the_lab.name}/{the_lab.name}.html")
    attachments = collecting.attachments(the_lab.name, course)
    numbers = collecting.participants(the_lab.name, course)
    for system, entries in {
        "Canvas": feeding.canvas_entries(the_lab.name, written, attachments),
        "Moodle": feeding.moodle_entries(the_lab.name, written, numbers),
    }.items():
        if entries:
            path = folder / f"{the_lab.name}_{system.lower()}.zip"
            feeding.write_zip(path, entries)
            console.print(f"to upload to {system}, with {len(entries)} pages: {path}")
    problems |= {name: "holds no result; grade again" for name in unreadable}
    if problems:
        raise fail("\n".join(f"{name}: {why}" for name, why in problems.items()))


@app.command()
def questions(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    port: Annotated[int, typer.Option(help="Of this machine; a free one if 0.")] = 0,
    course: CourseOption = COURSE,
) -> None:
    """Mark written answers side by side, in a browser on this machine."""
    from autograder.course import lateness
    from autograder.course.gradebook import GradebookUnavailable
    from autograder.course.questions import Server
    from autograder.course.results import NoResults

    try:
        the_lab = find_lab(lab)
        if not the_lab.having("question"):
            raise fail(f"{the_lab.name} has no question that is answered in words")
        server = Server(the_lab, course, port)
    except (LabError, FileNotFoundError, NoResults, GradebookUnavailable) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"the port {port} can't be used: {error.strerror}; choose another") from None
    console.print(f"open {server.url}", markup=False, highlight=False)
    console.print("marks go into the gradebook as they are given; Ctrl-C when you are done")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
        try:
            lateness.record(the_lab.name, course)
        except (lateness.LateError, GradebookUnavailable) as error:
            raise fail(f"all marks are in the gradebook, without lateness: {error}") from None


@app.command()
def gradescope(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    out: Annotated[Path | None, typer.Option(help="The zip; in the course if none.")] = None,
    hidden: Annotated[
        str,
        typer.Option(
            help="When students see the tests that their notebook doesn't show: visible,"
            " after_due_date, after_published or hidden."
        ),
    ] = "after_published",
    seed: Annotated[
        int | None,
        typer.Option(help="Of the hidden tests' inputs; the course's own, in seed.toml, if none."),
    ] = None,
    torch_index: Annotated[
        str | None, typer.Option(help="A package index with CPU builds of PyTorch.")
    ] = None,
    course: CourseOption = COURSE,
) -> None:
    """Build the zip that grades a lab on Gradescope; docs/gradescope.md says what it does there."""
    from autograder.course import gradescope as building
    from autograder.course.seeds import SeedError, read_seeds

    if hidden not in building.VISIBILITIES:
        raise fail(f"--hidden is one of {', '.join(building.VISIBILITIES)}, not {hidden}")
    if torch_index is not None and not re.fullmatch(r"https?://[\w.:/@%+~-]+", torch_index):
        raise fail(f"--torch-index is the address of a package index, not {torch_index}")
    try:
        the_lab = find_lab(lab)
        path = out or course / "gradescope" / f"{the_lab.name}.zip"
        if seed is None:
            seed = read_seeds(course).seed
        building.build(the_lab, path, hidden, seed, torch_index)
    except (LabError, FileNotFoundError, building.NotInstalled, SeedError) as error:
        raise fail(str(error)) from None
    console.print(f"to upload to Gradescope, as the lab's autograder: {path}")


@app.command()
def rehearse(
    lab: Annotated[str, typer.Argument(help="The lab's name or number.")],
    exercises: Annotated[list[str] | None, typer.Argument(help="All if none.")] = None,
    seeds: Annotated[
        str, typer.Option(help="Of hidden tests: how many (3), or which ones (0,4,7).")
    ] = "3",
    mutants: Annotated[
        int, typer.Option(help="Most mutants of the solution to try, a sample.", min=0)
    ] = 12,
    workers: WorkersOption = CORES,
) -> None:
    """Prove a lab: known mistakes and variants, mutants, poisoned and pasted answers."""
    from autograder.rehearsal import rehearse as rehearsing

    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        raise fail(f"--seeds is how many seeds, or seeds and commas, not {seeds!r}") from None
    chosen = numbers if len(numbers) > 1 else list(range(max(1, numbers[0])))
    with progress_bar("rehearsing") as bar:
        task = bar.add_task("", total=None)
        try:
            report = rehearsing.rehearse(
                find_lab(lab),
                workers,
                exercises=exercises or (),
                seeds=chosen,
                variant_seeds=chosen,
                most_mutants=mutants,
                progress=functools.partial(_show_done, bar, task),
            )
        except (LabError, FileNotFoundError) as error:
            raise fail(str(error)) from None
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    if report.problems:
        raise fail("\n".join(report.problems))
    console.print("every mistake is caught and named, every correct variant gets full marks")


@app.command("mutants")
def try_mutants(
    labs: Annotated[list[str] | None, typer.Argument(help="Names or numbers; all if none.")] = None,
    workers: WorkersOption = CORES,
) -> None:
    """Try every single small change to the labs' solutions, and show those that get full marks."""
    from autograder.rehearsal import mutants
    from autograder.rehearsal.known_answers import equivalents
    from autograder.rehearsal.trials import Trials

    alive = []
    try:
        for name in labs or lab_names():
            lab = find_lab(name)
            known = {(known.exercise, known.change) for known in equivalents(lab)}
            with progress_bar(f"mutants of {lab.name}") as bar:
                task = bar.add_task("", total=None)
                show_progress = functools.partial(_show_done, bar, task)
                with Trials(workers, progress=show_progress) as trials:
                    left = mutants.survivors(trials, lab, mutants.mutants(lab))
            alive += [
                f"{lab.solution_path.name}:{mutant.line}: {mutant.exercise}\n{mutant.change}\n"
                for mutant in left
                if (mutant.exercise, mutant.change) not in known
            ]
    except (LabError, FileNotFoundError) as error:
        raise fail(str(error)) from None
    if alive:
        console.print("\n".join(alive), markup=False)
        raise fail(f"{len(alive)} mutants get full marks and aren't known to be equivalent")
    console.print("every mutant is killed, or known to be equivalent")


@app.command()
def quality(
    labs: Annotated[list[str] | None, typer.Argument(help="Names or numbers; all if none.")] = None,
    exercise: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    workers: WorkersOption = CORES,
) -> None:
    """Rehearse all labs with all their mutants, and write the table docs/quality.md (hours)."""
    from autograder.rehearsal.quality import measure, write

    path = ROOT / "docs" / "quality.md"
    with progress_bar("measuring") as bar:
        task = bar.add_task("", total=None)
        try:
            for lab in map(find_lab, labs or lab_names()):
                bar.update(task, description=lab.name)
                progress = functools.partial(_show_done, bar, task)
                report = measure(lab, workers, exercise or (), progress)
                write(path, lab, report.quality)
                for text in (*report.problems, *report.notes):
                    console.print(f"{lab.name}: {text}", markup=False)
        except (LabError, FileNotFoundError) as error:
            raise fail(str(error)) from None
    console.print(f"wrote {path}")


def _show_done(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def progress_bar(what: str) -> Progress:
    """A bar for a known number of notebooks, or tests; gone when they are done."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )


def show(results: list) -> None:
    """Prints a table of students, scores and reasons."""
    from autograder.course.gradebook import summary

    table = Table("student", "score", "reason")
    table.columns[1].justify = "right"
    for result in results:
        score = f"{result.score:g}/{result.max_score:g}"
        if result.status != "graded":
            score = result.status
        table.add_row(*(Text(cell) for cell in (result.student, score, summary(result))))
    console.print(table)
