"""A student at a lab in JupyterLab, from the hand-out to the file handed in; at each lab's sliders
and menus; and a TA who opens the course in formgrader: all in a real browser."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from browser import chromium, jupyter_lab
from conftest import Grader, points
from PIL import Image
from playwright.sync_api import Locator, Page

from autograder.authoring.handout import hand_out
from autograder.authoring.lab import Lab, bound_names, find_lab, lab_names
from autograder.authoring.release import source_notebook
from autograder.course import gradebook
from autograder.grading.grade import grade
from autograder.grading.job import Job
from autograder.grading.names import global_names
from autograder.rehearsal.known_answers import known_answers, solution_answers

MOST = 180_000  # milliseconds that anything may take
EXERCISE = "cross_correlate2d"
FIGURE = "One output value is one window, multiplied by the kernel and summed"


@contextlib.contextmanager
def opened(folder: Path, home: Path, address: str) -> Iterator[Page]:
    """JupyterLab on a folder, in a browser that asks nobody but it."""
    with jupyter_lab(folder, home) as root, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(MOST)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{root}/{address}")
        yield page
        assert [url for url in asked if not url.startswith((root, "data:", "blob:"))] == []


def choose(page: Page, menu: str, entry: str) -> None:
    """Chooses an entry of one of JupyterLab's menus."""
    page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
    page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()


def fill(page: Page, cell: Locator, source: str) -> None:
    """Writes a cell anew and runs it, which selects the next one."""
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(source)
    page.keyboard.press("Shift+Enter")


def says(cell: Locator, text: str) -> str:
    """All that a cell put out, once it says `text`."""
    outputs = cell.locator(".jp-OutputArea-output")
    outputs.filter(has_text=text).first.wait_for(state="attached")  # be it out of sight
    return "\n".join(outputs.all_text_contents()).strip()


def run_after(page: Page, text: Locator) -> None:
    """Runs what stands beneath a cell of text, without unfolding it."""
    text.click()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")


@pytest.mark.slow(minutes=2)
def test_a_student_works_in_jupyterlab(tmp_path: Path) -> None:
    lab = find_lab("01_convolution")
    folder = tmp_path / "labs"
    hand_out(folder, [lab], "https://git.example/us/labs")
    subprocess.run(["make", "copies"], cwd=folder, check=True, capture_output=True)
    work = folder / "work"
    cells = nbformat.read(work / f"{lab.name}.ipynb", as_version=4).cells
    places = {cell.id: number for number, cell in enumerate(cells)}
    figure = next(n for n, cell in enumerate(cells) if cell.source.startswith(f"# @title {FIGURE}"))
    with opened(work, tmp_path / "home", f"lab/tree/{lab.name}.ipynb") as page:

        def cell(place: int | str) -> Locator:
            number = places[place] if isinstance(place, str) else place
            return page.locator(f'.jp-Cell[data-windowed-list-index="{number}"]')

        look_around(page, cell, len(cells))
        stub, first = cell(EXERCISE), cell(f"test_{EXERCISE}")

        # Nothing is written yet: Run All stops at the first check, which says how to go on.
        choose(page, "Run", "Run All Cells")
        told = says(first, "is not written yet")
        assert told == (
            f"`{EXERCISE}` is not written yet: fill in its stub above, then run this cell again."
        )
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        run_after(page, cell(figure - 1))
        assert says(cell(figure), "is not written yet") == told
        assert page.get_by_text("Traceback").count() == 0

        # A mistake is named, and what is right is said to be so.
        known = [known for known in known_answers(lab) if known.exercise == EXERCISE]
        wrong = next(one for one in known if one.named and "is flipped" in one.named)
        fill(page, stub, wrong.source)
        page.keyboard.press("Shift+Enter")
        assert "Traceback" not in says(first, wrong.named)
        fill(page, stub, solution_answers(lab)[EXERCISE])
        for _ in range(figure - places[EXERCISE]):
            page.keyboard.press("Shift+Enter")
        assert says(first, "right so far") == f"{EXERCISE}: right so far (one place)"

        # The window follows the slider.
        picture = cell(figure).locator("img.widget-image")
        picture.wait_for()
        source, shown = picture.get_attribute("src"), drawn(picture)
        cell(figure).locator(".noUi-handle").focus()
        page.keyboard.press("ArrowRight")
        cell(figure).locator(".widget-readout", has_text="4").wait_for()
        cell(figure).locator(f'img.widget-image:not([src="{source}"])').wait_for()
        assert drawn(picture) != shown

        # A picture of their own takes the photograph's place, also when all of it runs again.
        own = next(n for n, cell in enumerate(cells) if "OwnImage(MY_IMAGE)" in cell.source)
        photograph = cell(own + 1).locator(".jp-OutputArea-output img")
        run_after(page, cell(own - 1))
        page.keyboard.press("Shift+Enter")
        photograph.wait_for()
        source = photograph.get_attribute("src")
        for name, content, answer in (
            ("notes.txt", b"no picture", "notes.txt can't be read as an image"),
            ("mine.jpg", picture_file(), "mine.jpg: 90 × 60 pixels. Run the cells below."),
        ):
            with page.expect_file_chooser() as chooser:
                cell(own).get_by_role("button", name="Upload a picture").click()
            chooser.value.set_files({"name": name, "mimeType": "", "buffer": content})
            says(cell(own), answer)
        preview = cell(own).locator("img.widget-image")
        assert preview.evaluate("image => [image.width, image.height]") == [90, 60]
        run_after(page, cell(own - 1))
        says(cell(own), "mine.jpg: 90 × 60 pixels.")
        page.keyboard.press("Shift+Enter")
        cell(own + 1).locator(f'.jp-OutputArea-output img:not([src="{source}"])').wait_for()

        # The last cell says how far they are; what is saved is what the grader takes.
        run_after(page, cell(len(cells) - 2))
        summary = says(cell("hand_in"), "exercises are right so far.")
        assert f"1 of {len(lab.exercises)} exercises are right so far." in summary
        assert f"Save this notebook, and hand it in as {lab.name}.ipynb." in summary
        with page.expect_response(lambda response: response.request.method == "PUT"):
            page.keyboard.press("Control+s")
    result = grade(Job("student", work / f"{lab.name}.ipynb", lab.solution_path, seed=1))
    earned = {name for name, worth in points(result).items() if worth}
    assert (earned, result.repairs, result.flags) == ({EXERCISE}, [], [])


def picture_file() -> bytes:
    """A photograph as a student has it: a JPEG file."""
    file = BytesIO()
    Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 50).save(file, "JPEG")
    return file.getvalue()


def look_around(page: Page, cell: Callable[[int | str], Locator], count: int) -> None:
    """What a student sees who opens the lab: its title, and code folded that isn't theirs."""
    page.locator(".jp-Notebook h1", has_text="Lab 01: Convolution").wait_for()
    cell(count - 1).wait_for(state="attached")
    for place, line in (
        ("setup", "# @title Set-up"),
        (f"test_{EXERCISE}", f"# @title Check `{EXERCISE}`: one place"),
    ):
        assert cell(place).locator(".jp-PlaceholderText").text_content() == line
        assert cell(place).locator(".cm-content").count() == 0
    cell(EXERCISE).scroll_into_view_if_needed()
    cell(EXERCISE).locator(".cm-content", has_text="raise NotImplementedError").wait_for()
    check = cell(f"test_{EXERCISE}_2")
    check.locator(".jp-PlaceholderText").click()
    check.locator(".cm-content", has_text="check_close").wait_for()


def drawn(picture: Locator) -> list[int]:
    """The bytes of an image that a page shows."""
    return picture.evaluate(
        "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"
    )


@pytest.mark.slow(minutes=3)
def test_every_labs_explorable_moves_in_jupyterlab(tmp_path: Path) -> None:
    labs = [find_lab(name) for name in lab_names()]
    for lab in labs:
        nbformat.write(explorable(lab), tmp_path / f"{lab.name}.ipynb")
    with opened(tmp_path, tmp_path / "home", "lab") as page:
        idle = page.locator("#jp-main-statusbar", has_text="| Idle")
        for lab in labs:
            try:
                page.locator(".jp-DirListing-item", has_text=lab.name).dblclick()
                idle.wait_for()  # so there is a kernel
                explore(page)
                choose(page, "Kernel", "Shut Down All Kernels…")
                page.get_by_role("button", name="Shut Down All").click()
                idle.wait_for(state="detached")
            except Exception as error:
                error.add_note(f"in {lab.name}")
                raise


def explorable(lab: Lab) -> nbformat.NotebookNode:
    """A lab's solution down to its first explorable figure, without the cells which that needs
    nothing from: neither by the names that it uses nor by those that they use."""
    notebook = source_notebook(lab)
    tests = {cell.grade_id for cell in lab.having("test")}
    above = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.id not in tests]
    while not re.search(r"^explore\(", above[-1].source, re.M):
        above.pop()
    last = above.pop()
    notebook.cells, needed = [last], global_names(last.source)
    for cell in reversed(above):
        bound = bound_names(cell.source)
        if cell.id == "setup" or bound & needed:
            notebook.cells.insert(0, cell)
            needed = needed - bound | global_names(cell.source)
    return notebook


def explore(page: Page) -> None:
    """Runs the notebook that a page shows, moves all that its last cell lets a student move, and
    sees the picture change with each."""
    shown = page.locator(".jp-NotebookPanel:visible")
    errors = shown.locator(
        '[data-mime-type="application/vnd.jupyter.error"], '
        '[data-mime-type="application/vnd.jupyter.stderr"]'
    )
    box = shown.locator(".widget-vbox", has=page.locator("img.widget-image:visible"))
    choose(page, "Run", "Run All Cells")
    box.or_(errors).first.wait_for()
    assert errors.all_text_contents() == []
    image, controls = box.locator("img"), box.locator("> :not(.widget-image)").all()
    assert controls, "there is nothing to move"
    for control in controls:
        source, before = image.get_attribute("src"), drawn(image)
        move(control)
        box.locator(f'img:not([src="{source}"])').wait_for()
        assert drawn(image) != before
    assert errors.all_text_contents() == []


def move(control: Locator) -> None:
    """Moves a slider to its further end, or takes another entry of a menu."""
    track, menu = control.locator(".noUi-target"), control.locator("select")
    if track.count():
        handle, box = track.locator(".noUi-handle"), track.bounding_box()
        now, low, high = (
            float(handle.get_attribute(f"aria-value{which}")) for which in ("now", "min", "max")
        )
        right = now - low < high - now
        track.click(position={"x": box["width"] - 1 if right else 1, "y": box["height"] / 2})
    else:
        menu.select_option(index=0 if menu.evaluate("menu => menu.selectedIndex") else 1)


@pytest.mark.slow
def test_a_ta_opens_the_course_in_formgrader(grader: Grader, tmp_path: Path) -> None:
    lab, course = grader.lab, tmp_path / "course"
    shutil.copytree(lab.root / "course", course)
    path = course / "submitted" / "ada" / lab.name / f"{lab.name}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(grader.notebook(double="def double(x):\n    return x * x"), path)
    result = grade(Job("ada", path, lab.solution_path, seed=1))
    assert 0 < result.score < result.max_score
    assert gradebook.record(lab, [result], course) == {}
    with opened(course, tmp_path / "home", "lab") as page:
        choose(page, "Nbgrader", "Formgrader")
        shown = page.frame_locator("iframe")
        handed_in = shown.locator("tr", has_text=lab.name).locator(".num-submissions a")
        assert handed_in.inner_text() == "1"
        handed_in.click()
        row = shown.locator("tr", has_text="ada")
        assert row.locator(".status").inner_text() == "needs manual grading"
        asked = sum(question["max_points"] for question in result.questions)
        assert row.locator(".score").inner_text() == f"{result.score} / {result.max_score + asked}"
