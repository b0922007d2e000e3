"""What a student wrote, as HTML in which nothing fires: no script, style, link or outside picture.

Markdown's own HTML is switched off, mathematics becomes MathML here rather than by a script in the
reader's page, and what comes out passes through a sanitiser with a short list of what may stay.
"""

import html
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import FrameType
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import nh3
from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from autograder.authoring.release import TEXT_STUB

SECONDS = 2.0  # of CPU time for one answer
MOST_CHARACTERS = 100_000  # of an answer that is rendered; a longer one is shown as it is
MOST_FORMULA = 2_000  # characters
MOST_ADDRESS = 200

# fmt: off
TAGS = {
    "p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "img",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}
MATHS_TAGS = {
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle",
    "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts",
    "mtable", "mtr", "mtd", "mpadded", "mphantom",
}
# fmt: on
# What these may say; no lengths, no colours, no addresses: with those a formula covers a page.
MATHS_ATTRIBUTES = {
    "accent": {"true", "false"},
    "columnalign": {"left", "center", "right"},
    "display": {"inline", "block"},
    "displaystyle": {"true", "false"},
    "fence": {"true", "false"},
    "form": {"prefix", "infix", "postfix"},
    "linethickness": {"0"},
    "mathvariant": {"normal"},
    "movablelimits": {"true", "false"},
    "stretchy": {"true", "false"},
}
PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")


def answer_html(source: str, pictures: dict[str, str]) -> str:
    """An answer in Markdown as safe HTML.

    Args:
        source: what the student wrote.
        pictures: what was pasted into it, as `data:` addresses by name.

    Returns:
        HTML; what takes longer than SECONDS to render, or fails to, is shown as plain text.
    """
    source = source.encode("utf-8", "replace").decode()
    if len(source) > MOST_CHARACTERS:
        return plain_html(source)
    try:
        with _time_limit(SECONDS):
            return _sanitised(_markdown().render(source, {"pictures": pictures}))
    except Exception:  # Whatever it is about this answer, it is shown and harms no other.
        return plain_html(source)


def own_words(answer: str, released: str) -> str:
    """Of an answer's cell what the student wrote: without the question, where it still stands in
    front, and without the line that held the answer's place."""
    prompt = released.replace(TEXT_STUB, "").strip()
    text = answer.strip()
    if text.startswith(prompt):
        text = text[len(prompt) :]
    return text.replace(TEXT_STUB, "").strip()


def plain_html(text: str) -> str:
    """Text as it is, in HTML."""
    return f"<pre>{html.escape(text.encode('utf-8', 'replace').decode())}</pre>"


def notebook_html(safe: str) -> str:
    """Safe HTML as the source of a Markdown cell, which then comes out of Jupyter unchanged.

    It stands on one line, since a blank line would end Markdown's block of HTML; and no renderer of
    mathematics finds anything in it, and it can't reach out of its box.
    """
    shielded = safe.replace("\n", "&#10;").replace("\r", "").replace("$", "&#36;")
    shielded = shielded.replace("\\", "&#92;")
    ignored = "tex2jax_ignore mathjax_ignore"
    return f'<div class="{ignored}" style="overflow: auto">{shielded}</div>'


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer than this many seconds of CPU time.

    Raises:
        RuntimeError: it isn't the main thread that asks, and only that can be interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("only the main thread's work can be limited in time")

    over = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal over
        over = True
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    # Again and again: Python drops what is raised while it runs an object's finaliser.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    if over:
        raise TimeoutError


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.use(
        dollarmath_plugin,
        allow_digits=False,  # "from $5 to $6"
        renderer=lambda source, options: _maths(source, options["display_mode"]),
    )
    markdown.use(amsmath_plugin, renderer=lambda source: _maths(source, display=True))
    # No link is made and no picture fetched; their addresses are shown as they are.
    markdown.validateLink = lambda url: True  # type: ignore[method-assign]
    markdown.normalizeLink = lambda url: url  # type: ignore[method-assign]
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("link_open", lambda *arguments: "")
    markdown.add_render_rule("link_close", _link_close)
    return markdown


def _image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A pasted picture; anything else is named rather than fetched."""
    address = str(tokens[index].attrs["src"])
    said = html.escape(tokens[index].content or "a picture")
    name = address.removeprefix("attachment:")
    picture = env["pictures"].get(name) or env["pictures"].get(unquote(name))
    if address.startswith("attachment:") and picture:
        return f'<img src="{html.escape(picture)}" alt="{said}">'
    return f"[{said}, not shown: {html.escape(address[:MOST_ADDRESS])}]"


def _link_close(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """Where a link led to, in words; links don't nest."""
    start = next(n for n in reversed(range(index)) if tokens[n].type == "link_open")
    address = str(tokens[start].attrs["href"])
    if address.removeprefix("mailto:") == "".join(token.content for token in tokens[start:index]):
        return ""
    return f" ({html.escape(address[:MOST_ADDRESS])})"


def _maths(source: str, display: bool) -> str:
    """A formula as MathML; as it was written where it can't be read, or would do more than show
    a formula."""
    shown = f"<code>{html.escape(source)}</code>"
    if len(source) > MOST_FORMULA:
        return shown
    # What the library doesn't know by this name.
    source = re.sub(
        r"\\(begin|end)\{(aligned|split|gathered|equation)\*?\}", r"\\\1{align*}", source
    )
    try:
        element = convert_to_element(source, display="block" if display else "inline")
        return _mathml(element)
    except TimeoutError:
        raise
    except Exception:
        return shown


def _mathml(element: Element) -> str:
    if element.tag not in MATHS_TAGS:
        raise ValueError(f"no tag {element.tag} in a formula")
    attributes = "".join(
        f' {name}="{value}"'
        for name, value in element.attrib.items()
        if value in MATHS_ATTRIBUTES.get(name, ())
    )
    # The library puts character references into the text.
    text = html.escape(html.unescape(element.text or ""))
    inside = "".join(_mathml(child) for child in element)
    return f"<{element.tag}{attributes}>{text}{inside}</{element.tag}>"


def _sanitised(unsafe: str) -> str:
    maths = {tag: set(MATHS_ATTRIBUTES) for tag in MATHS_TAGS}
    return nh3.clean(
        unsafe,
        tags=TAGS | MATHS_TAGS,
        clean_content_tags={"script", "style"},
        attributes={"img": {"src", "alt"}, "ol": {"start"}, **maths},
        attribute_filter=_allowed,
        url_schemes={"data"},
        link_rel=None,
    )


def _allowed(tag: str, name: str, value: str) -> str | None:
    if tag == "img":
        return value if name == "alt" or PICTURE.fullmatch(value) else None
    if tag == "ol":
        return value if value.isdecimal() else None
    return value if value in MATHS_ATTRIBUTES.get(name, ()) else None
