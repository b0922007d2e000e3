"""The site: built strictly, at home without a network, of labs as they are, and with no answer."""

import html.parser
import re
import subprocess
import sys
import tomllib
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from answers import lines, secrets
from browser import chromium

from autograder.authoring.lab import HIDDEN, ROOT, SOLUTION, find_lab, lab_names
from autograder.authoring.release import strings

pytest.importorskip("material")
MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    run = subprocess.run([*build, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


class Elements(html.parser.HTMLParser):
    """What a page has: all ids, what it links to, and what a browser fetches for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.ids |= {given.get("id"), given.get("name")} - {None}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        elif tag == "link":
            self.fetched.add(given["href"])
        if given.get("src"):
            self.fetched.add(given["src"])


def pages(site: Path) -> dict[Path, Elements]:
    """Every page but the one for a server's missing ones."""
    found = {path.resolve(): Elements(path) for path in site.rglob("*.html")}
    return {path: page for path, page in found.items() if path.name != "404.html"}


def test_every_link_and_anchor_leads_somewhere_and_nothing_is_fetched_elsewhere(site) -> None:
    built = pages(site)
    assert len(built) > len(lab_names()) + 10
    for path, page in built.items():
        for address in page.links | page.fetched:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https"):
                assert address not in page.fetched, f"{path.name} fetches {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} links to {address}"
            if parts.fragment and target in built:
                assert unquote(parts.fragment) in built[target].ids, f"{path.name}: {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text("utf-8"))


def test_no_line_of_a_solution_or_hidden_test_is_in_the_site(site) -> None:
    shown = set()
    for path in [*site.rglob("*.html"), *(site / "search").iterdir()]:
        text = unescape(re.sub(r"<[^>]+>", "", path.read_text("utf-8")))
        shown |= lines(text.replace(r"\n", "\n").replace(r"\"", '"'))
    assert any(line.startswith("Endless loops, crashes and memory hogs cost") for line in shown)
    for name in lab_names():
        # The example lab has an idiom of 25 characters.
        own = {line for line in secrets(find_lab(name), SOLUTION, HIDDEN) if len(line) > 25}
        assert len(own) > 20
        assert own & shown == set()


@pytest.mark.parametrize("name", lab_names())
def test_a_labs_page_says_what_the_lab_says(site, name: str) -> None:
    lab = find_lab(name)
    text = (site / "labs" / f"{name}.html").read_text("utf-8")
    assert unescape(re.search(r"<h1[^>]*>([^<]+)", text)[1]) == (
        lab.cells[0].source.partition("\n")[0].removeprefix("# ")
    )
    for exercise in lab.exercises:
        points = sum(cell.points for cell in lab.having("test") if cell.name == exercise)
        row = re.search(rf"<tr>\s*<td><code>{exercise}</code>.*?</tr>", text, re.S)[0]
        cells = re.findall(r"<td>(.*?)</td>", row)
        assert set(cells[1]) <= {"★", "☆"}
        assert int(cells[2]) > 0
        assert float(cells[3]) == points
    rows = re.findall(r"^\| (\d.+) \| (\d+) \|$", lab.cells[0].source, re.M)
    optional = sum(int(time) for row, time in rows if "optional" in row)
    core = sum(int(time) for _, time in rows) - optional
    assert f"<strong>{core}{f' and {optional} optional' * bool(optional)} minutes</strong>" in text


def test_figures_are_the_labs_own_and_small() -> None:
    chosen = tomllib.loads((ROOT / "docs" / "figures.toml").read_text("utf-8"))["figure"]
    drawn = {path.name: path.stat().st_size for path in (ROOT / "docs" / "figures").iterdir()}
    assert {figure["file"] for figure in chosen} == set(drawn)
    assert max(drawn.values()) <= MOST_BYTES
    for name in lab_names():
        figures = [figure for figure in chosen if figure["file"].startswith(f"{name[:2]}_")]
        assert 2 <= len(figures) <= 3
        demos = [cell for cell in find_lab(name).having("demo") if not cell.markdown]
        titles = {text for cell in demos for text in strings(cell.source)}
        for figure in figures:
            assert figure["title"] in titles
            for text in (figure["alt"], figure["says"]):
                assert re.fullmatch(r"[A-Z“`].+\.", text)


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_without_a_network(site, width: int) -> None:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        page = context.new_page()
        failed, errors = [], []
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.on("request", lambda r: failed.append(r.url) if r.url.startswith("http") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name, figures in (("index.html", 1), ("labs/08_grad_cam.html", 2)):
            page.goto((site / name).as_uri())
            page.wait_for_load_state("networkidle")
            widths = page.evaluate(
                "[...document.querySelectorAll('article img')].map(i => i.naturalWidth)"
            )
            assert len(widths) >= figures
            assert min(widths) > 100
            overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(overflow) <= 0, name
        if width > 1000:  # where the field is open
            page.locator("input.md-search__input").click()
            page.keyboard.type("guided")
            found = page.locator(".md-search-result__link").first
            found.wait_for()
            assert found.get_attribute("href")
        assert failed == []
        assert errors == []
