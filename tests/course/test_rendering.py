"""What a student wrote, as HTML: ordinary Markdown and mathematics show, nothing else gets in."""

import re
import threading
import time
from html.parser import HTMLParser

import pytest
from browser import MARKDOWN

from autograder.course import rendering
from autograder.course.rendering import answer_html, notebook_html, own_words

PICTURE = "data:image/png;base64,iVBORw0KGgo="
VOID = {"br", "hr", "img"}


class Checked(HTMLParser):
    """Collects what HTML consists of, and what of it nobody should have let in."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag not in rendering.TAGS | rendering.MATHS_TAGS:
            self.wrong.append(tag)
        for name, value in attributes:
            allowed = {"img": {"src", "alt"}, "ol": {"start"}}.get(tag, set())
            if name not in allowed | set(rendering.MATHS_ATTRIBUTES):
                self.wrong.append(f"{tag} {name}")
            if name == "src" and not value.startswith("data:image/"):
                self.wrong.append(f"{tag} {value}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("source", MARKDOWN)
def test_nothing_but_text_and_formatting_comes_out(source: str) -> None:
    assert Checked(answer_html(source, {"a.png": PICTURE})).wrong == []


def test_all_of_it_together() -> None:
    assert Checked(answer_html("\n\n".join(MARKDOWN), {})).wrong == []


def test_ordinary_markdown_shows() -> None:
    shown = answer_html(
        "Because *of* **this**:\n\n3. `x = 1`\n4. two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "```python\nx = 1\n\ny\n```\n\n> so\n\n![a plot](attachment:my%20plot.png)",
        {"my plot.png": PICTURE},
    )
    for part in (
        "<em>of</em>",
        "<strong>this</strong>",
        '<ol start="3">',
        "<code>x = 1</code>",
        "<td>1</td>",
        "<pre><code>x = 1\n\ny\n</code></pre>",
        "<blockquote>",
        f'<img src="{PICTURE}" alt="a plot">',
    ):
        assert part in shown


@pytest.mark.parametrize(
    "formula, part",
    [
        (r"$\frac{a}{b}$", "<mfrac>"),
        (r"$$\sum_i x_i$$", 'display="block"'),
        (r"$\begin{bmatrix}1&2\\3&4\end{bmatrix}$", "<mtable>"),
        ("\\begin{align}a&=b\\\\c&=d\\end{align}", "<mtr>"),
        (r"$$\begin{aligned}a&=b\\c&=d\end{aligned}$$", "<mtr>"),
        (r"$\binom{n}{k}$", 'linethickness="0"'),
        (r"$\mathbb{R}^{N \times C}$", "ℝ"),
        (r"$\frac$", r"<code>\frac</code>"),
        ("from $5 to $6", "from $5 to $6"),
        (f"${'x' * 2001}$", f"<code>{'x' * 2001}</code>"),
    ],
)
def test_mathematics_shows(formula: str, part: str) -> None:
    assert part in answer_html(formula, {})


def test_links_are_shown_and_not_made() -> None:
    shown = answer_html("[the paper](https://arxiv.org/abs/1) and <https://b.org>", {})
    assert "the paper (https://arxiv.org/abs/1) and https://b.org" in shown


@pytest.mark.parametrize("source", ["![" * 20_000, "[a](" * 20_000, "*a_ " * 20_000, "$x" * 40_000])
def test_what_takes_too_long_is_shown_as_text(source: str, monkeypatch) -> None:
    monkeypatch.setattr(rendering, "SECONDS", 0.005)
    shown = answer_html(source, {})
    assert shown.startswith("<pre>")
    assert Checked(shown).text == source


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_holds_where_python_drops_what_is_raised() -> None:
    class Finalised:
        def __del__(self) -> None:
            until = time.process_time() + 0.1
            while time.process_time() < until:
                pass

    with pytest.raises(TimeoutError), rendering._time_limit(0.01):
        Finalised()


def test_where_nothing_can_be_limited_it_is_shown_as_text() -> None:
    shown: list[str] = []
    thread = threading.Thread(target=lambda: shown.append(answer_html("*a*", {})))
    thread.start()
    thread.join()
    assert shown == ["<pre>*a*</pre>"]


def test_half_an_emoji_and_a_very_long_answer() -> None:
    assert "a?" in answer_html("a\ud83d", {})
    assert answer_html("<b>" * 40_000, {}) == rendering.plain_html("<b>" * 40_000)


def test_html_in_a_notebook_is_one_line_without_mathematics() -> None:
    source = answer_html("```\na\n\n$x$ \\(y\\)\n```\n\n\\begin{a} $z$", {})
    cell = notebook_html(source)
    assert "\n" not in cell
    assert not set("$\\") & set(cell)
    assert "a\n\n$x$ \\(y\\)" in Checked(cell.partition(">")[2].removesuffix("</div>")).text
    assert re.match(r'<div class="tex2jax_ignore', cell)


@pytest.mark.parametrize(
    "answer, words",
    [
        ("# Why?\n\nSay it.\n\nBecause.", "Because."),
        ("# Why?\n\nSay it.\n\n*Your answer here.*", ""),
        ("# Why?\n\nSay it.\n\n*Your answer here.* Because.", "Because."),
        ("Because.", "Because."),
    ],
)
def test_own_words(answer: str, words: str) -> None:
    assert own_words(answer, "# Why?\n\nSay it.\n\n*Your answer here.*") == words
