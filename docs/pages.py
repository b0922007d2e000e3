"""The pages that are made from what stands elsewhere: a hook of mkdocs, named in mkdocs.yml.

A page for each lab, of what its own text says and of the figures that docs/figures.toml chooses;
CONTRIBUTING, the changelog, and the README's sections where a page asks for them.
"""

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from autograder.authoring.lab import ROOT, SOLUTION, Cell, Lab, find_lab, lab_names

DOCS = Path(__file__).parent
TASK = re.compile(r"^### (.+)\n(★+☆*) · (\d+) minutes(.*)$", re.M)
SECTION = re.compile(r"^\| (.+) \| (.+) \| (\d+) \|$", re.M)
NO_QUALITY = """\
# Quality of the exercises

This copy has no table yet. `make quality` rehearses all labs (hours) and writes it: for each
exercise, how many of its known mistakes are caught and named, how many correct variants accepted,
how many small changes to its solution noticed, and what pasted or poisoned code would earn.
"""


class Task(NamedTuple):
    """An exercise or question as its lab announces it: the heading, its stars, minutes (reading
    included), and the cells that its points come from."""

    heading: str
    stars: str
    minutes: int
    graded: list[Cell]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the labs in the navigation."""
    labs = [f"labs/{name}.md" for name in lab_names()]
    config.nav = [{"The labs": labs} if "The labs" in part else part for part in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    made = {
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
        **{f"labs/{name}.md": lab_page(find_lab(name)) for name in lab_names()},
    }
    if files.get_file_from_path("quality.md") is None:
        made["quality.md"] = NO_QUALITY
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Puts the README's sections and the labs' table into a page that asks for them, turns links to
    the repository's files into links to their pages, and links the lecture's topics to labs."""
    if page.file.src_uri == "lecture.md":
        for name in lab_names():
            markdown = markdown.replace(f"| {name[:2]} |", f"| [{name[:2]}](labs/{name}.md) |")
    markdown = re.sub(r"<!-- README: (.+) -->", lambda name: readme(name[1]), markdown)
    markdown = re.sub(r"<!-- labs -->", lambda _: labs_table(), markdown)
    markdown = re.sub(r"\]\((?:\.\./)?(CONTRIBUTING|CHANGELOG)\.md\)",
                      lambda link: f"]({link[1].lower()}.md)", markdown)  # fmt: skip
    return markdown.replace("](docs/", "](")


def readme(heading: str) -> str:
    """What stands under a heading of the README, up to the next heading.

    Raises:
        LookupError: there is no such heading.
    """
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"^##? {re.escape(heading)}\n(.*?)(?=^##? |\Z)", text, re.M | re.S)
    if not found:
        raise LookupError(f"the README has no heading {heading!r}")
    return found[1].strip()


def labs_table() -> str:
    """All labs with what one writes, from the README's table, and how long it takes."""
    rows = ["| lab | you write | minutes |", "|---|---|--:|"]
    written = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", readme("The labs"), re.M))
    for name in lab_names():
        lab = find_lab(name)
        link = f"[{title(lab)}](labs/{name}.md)"
        rows.append(f"| {link} | {written[name]} | {minutes_in(lab)} |")
    return "\n".join(rows)


def title(lab: Lab) -> str:
    """The lab's title, as in “Lab 01: Convolution, forward and back”."""
    return lab.cells[0].source.partition("\n")[0].removeprefix("# ")


def sections(lab: Lab) -> list[tuple[str, str, int]]:
    """The lab's own table of sections: its name, what one writes, minutes."""
    return [(name, what, int(time)) for name, what, time in SECTION.findall(lab.cells[0].source)]


def minutes_in(lab: Lab) -> str:
    """A lab's minutes, what is optional apart."""
    count = {False: 0, True: 0}
    for name, what, time in sections(lab):
        count["optional" in f"{name} {what}"] += time
    return f"{count[False]}" + f" and {count[True]} optional" * bool(count[True])


def tasks(lab: Lab) -> list[Task]:
    """A lab's exercises and questions, in order."""
    found, announced = [], []
    for cell in lab.cells:
        if cell.markdown:
            announced += TASK.findall(SOLUTION.sub("", cell.source))
        if cell.role in ("exercise", "question"):
            heading, stars, minutes, more = announced.pop(0)
            heading = heading.removeprefix("Exercise: ") + more.replace(" · ", ", ")
            tests = [test for test in lab.having("test") if test.name == cell.name]
            graded = tests if cell.role == "exercise" else [cell]
            found.append(Task(heading, stars, int(minutes), graded))
    return found


def lab_page(lab: Lab) -> str:
    """A lab's page: what it teaches, how long it takes, its figures, exercises and topics."""
    introduction = lab.cells[0].source.partition("\n")[2].partition("\n| section")[0].strip()
    todo = tasks(lab)
    questions = lab.having("question")
    stars = Counter(task.stars for task in todo)
    topics = lecture_rows(lab)
    tested = sum(cell.points for cell in lab.having("test"))
    marked = sum(cell.points for cell in questions)
    difficulty = ", ".join(
        f"{count} × {star}" for star, count in sorted(stars.items(), reverse=True)
    )
    facts = [
        f"**{minutes_in(lab)} minutes**, reading included",
        f"**{len(lab.exercises)} exercises** and {len(questions)} to answer in words: {difficulty}",
        f"**{tested + marked:g} points**: {tested:g} from tests, {marked:g} from a TA",
    ]
    parts = [
        f"# {title(lab)}",
        introduction,
        "\n".join(f"- {fact}" for fact in facts),
        "## What you will see",
        *map(shown, figures(lab)),
        "## Section by section",
        table(("section", "what you write", "minutes"), sections(lab)),
        "## Exercises",
        "Each aspect has points of its own. Some tests are hidden: they try other inputs.",
        table(
            ("exercise", "difficulty", "minutes", "points", "for"),
            [(task.heading, task.stars, task.minutes, *points(task)) for task in todo],
        ),
    ]
    if topics:
        parts += [
            "## In the lecture",
            table(("topic", "what it is", "exercises"), topics),
        ]
    return "\n\n".join(parts) + "\n"


def points(task: Task) -> tuple[str, str]:
    """What a task is worth, and what for."""
    if task.graded[0].role == "question":
        return f"{task.graded[0].points:g}", "an answer in words"
    worth = Counter()
    for cell in task.graded:
        worth[cell.aspect or "all of it"] += cell.points
    return f"{sum(worth.values()):g}", ", ".join(f"{name} ({p:g})" for name, p in worth.items())


def table(heading: tuple[str, ...], rows: list[tuple]) -> str:
    """A table in Markdown."""
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines)


def figures(lab: Lab) -> list[dict[str, str]]:
    """The lab's figures that are chosen: file, title, alt, says."""
    chosen = tomllib.loads((DOCS / "figures.toml").read_text("utf-8"))["figure"]
    return [figure for figure in chosen if figure["file"].startswith(f"{lab.name[:2]}_")]


def shown(figure: dict[str, str]) -> str:
    """A figure with its sentence beneath."""
    return (
        f'<figure markdown="span">\n![{figure["alt"]}](../figures/{figure["file"]})\n'
        f"<figcaption>{figure['says']}</figcaption>\n</figure>"
    )


def lecture_rows(lab: Lab) -> list[tuple[str, str, str]]:
    """The lecture's topics that are done in a lab: number, topic, exercises."""
    pattern = rf"^\| ([A-H]\d) \| ([^|]+) \| {lab.name[:2]} \| ([^|]+) \|"
    return re.findall(pattern, (DOCS / "lecture.md").read_text("utf-8"), re.M)
