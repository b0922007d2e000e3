"""Chromium and JupyterLab for the tests of pages, and what a student might try on whoever opens
them."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FIRE = "window.fired = true"
COVER = "position:fixed;top:0;left:0;width:100%;height:100%;z-index:99999;background:red"
MARKDOWN = [
    f"<script>{FIRE}</script>",
    f"<img src=x onerror=\"{FIRE}\">",
    f"<svg onload=\"{FIRE}\"><script>{FIRE}</script></svg>",
    f"<svg><animate onbegin=\"{FIRE}\" attributeName=x dur=1s></svg>",
    "<iframe srcdoc=\"<script>parent.fired = true</script>\"></iframe>",
    "<iframe src=https://evil.example/></iframe>",
    f"<details open ontoggle=\"{FIRE}\">x</details>",
    f"<input autofocus onfocus=\"{FIRE}\">",
    "<math><mtext><table><mglyph><style><!--</style>"
    f"<img title=\"--&gt;&lt;img src=1 onerror={FIRE}&gt;\">",
    f"<math href=\"javascript:{FIRE}\">x</math>",
    f"<style>* {{ {COVER} }}</style>",
    f"<div style=\"{COVER}\">x</div>",
    "<form action=https://evil.example/><button>log in</button></form>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content=0;url=https://evil.example/>",
    "<link rel=stylesheet href=https://evil.example/a.css>",
    "<object data=https://evil.example/></object><embed src=https://evil.example/>",
    "<!-- " + f"--><script>{FIRE}</script>",
    "</div></div></div></body></html>" + f"<script>{FIRE}</script>",
    "</textarea></title></style></pre></code>" + f"<img src=x onerror=\"{FIRE}\">",
    f"[x](javascript:{FIRE})",
    f"[x](data:text/html,<script>{FIRE}</script>)",
    f"[x]( java\tscript:{FIRE} )",
    f"[x](&#106;avascript:{FIRE})",
    f"[x][r]\n\n[r]: javascript:{FIRE}",
    f"<javascript:{FIRE}>",
    f"<https://evil.example/\"onmouseover=\"{FIRE}>",
    f"![x](x\"onerror=\"{FIRE})",
    "![x](https://evil.example/x.png)",
    f"![\"onerror=\"{FIRE}](attachment:a.png)",
    f"![x](attachment:\"onerror=\"{FIRE})",
    "![x](attachment:picture.svg)",
    f"&lt;script&gt;{FIRE}&lt;/script&gt;",
    f"&#60;img src=x onerror=\"{FIRE}\"&#62;",
    f"`<img src=x onerror=\"{FIRE}\">`",
    f"```html\n<img src=x onerror=\"{FIRE}\">\n```",
    f"```\"><img src=x onerror={FIRE}>\nx\n```",
    f"```mermaid\ngraph TD; A[\"<img src=x onerror={FIRE}>\"]; click A \"javascript:{FIRE}\"\n```",
    f"    <script>{FIRE}</script>",
    f"> <script>{FIRE}</script>\n> - <img src=x onerror=\"{FIRE}\">",
    f"| a |\n|---|\n| <img src=x onerror=\"{FIRE}\"> |",
    f"<div>\n\n<script>{FIRE}</script>\n\n</div>",
    rf"$\href{{javascript:{FIRE}}}{{x}}$",
    rf"$$\require{{html}}\style{{{COVER}}}{{x}}\class{{navbar}}{{y}}\cssId{{z}}{{x}}$$",
    rf"$\bbox[{COVER}]{{x}}$",
    rf"$\unicode[{COVER}]{{65}}$",
    r"$\rule{1000em}{1000em}\kern-1000em\raise100em{x}\hspace{-1000em}$",
    rf"$\text{{<img src=x onerror='{FIRE}'>}}$",
    rf"$\text{{&lt;img src=x onerror={FIRE}&gt;}}$",
    rf"$x</math><img src=x onerror='{FIRE}'>$",
    rf"\begin{{align}}<img src=x onerror='{FIRE}'>\end{{align}}",
    "a" + "\u0300" * 2000,
    "\u202egnp.x\u202c",
    "<plaintext>",
    "<xmp>",
    "<noscript><p title=\"</noscript><img src=x onerror=window.fired=true>\">",
]  # fmt: skip
NAMES = [
    "<img src=x onerror=window.fired=1>",
    '"><img src=x onerror=window.fired=1>',
    "%22;window.fired=1;%22",
    '";window.fired=1;"',
    "a\\",
    "$\\href{javascript:window.fired=1}{x}$",
    "&lt;script&gt;",
    "x onmouseover=window.fired=1",
    "{{ 7 * 7 }}",
]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium of this machine's; the test is skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    switches = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    switches += " disable-component-update disable-sync"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[f"--{switch}" for switch in switches.split()]
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def jupyter_lab(folder: Path, home: Path) -> Iterator[str]:
    """JupyterLab on a folder, for somebody whose home is `home` and who never opened it before;
    gives its address."""
    news = home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    own = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTHON"))}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    own["HOME"] = str(home)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token="]
    root = f"http://127.0.0.1:{port}"
    with (home / "log.txt").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=own, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"{root}/api/status").read()
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, (home / "log.txt").read_text()
                time.sleep(0.5)
        yield root
    finally:
        server.terminate()
        server.wait()


class Watch:
    """Watches a page for anything that fires, asks for something elsewhere, or covers it."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self.origin = page, origin
        self.elsewhere: list[str] = []
        self.dialogs: list[str] = []
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.route("**/*", self._route)

    def _route(self, route) -> None:
        url = route.request.url
        if url.startswith((self.origin, "data:")):
            route.continue_()
            return
        # nbgrader's own page fetches MathJax from there.
        if not url.startswith("https://cdnjs.cloudflare.com/ajax/libs/mathjax/"):
            self.elsewhere.append(url)
        route.abort()

    def check(self, written: str) -> None:
        """That nothing happened, and that nothing in the elements `written` leaves its place."""
        page = self.page
        assert page.evaluate("window.fired") is None
        assert self.dialogs == []
        assert self.elsewhere == []
        loose = page.evaluate(
            """selector => [...document.querySelectorAll(selector)].flatMap(written => {
              const box = written.getBoundingClientRect();
              return [written, ...written.querySelectorAll("*")].filter(one => {
                const style = getComputedStyle(one), own = one.getBoundingClientRect();
                const clipped = getComputedStyle(written).overflowX === "auto";
                return ["fixed", "absolute", "sticky"].includes(style.position)
                  || ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "FORM", "INPUT", "BUTTON", "STYLE",
                      "LINK", "META", "BASE", "SVG", "A"].includes(one.tagName.toUpperCase())
                  || [...one.attributes].some(a => a.name.startsWith("on"))
                  || (!clipped && own.width > box.width + 1);
              }).map(one => one.outerHTML.slice(0, 200));
            })""",
            written,
        )
        assert loose == []


SCREENS = {"wide": (1280, "screen"), "phone": (390, "screen"), "paper": (700, "print")}


def check_fits(page: Page, screen: str) -> None:
    """Shows a page as on one of `SCREENS`, where paper is A4 with margins of a bit more than 1 cm,
    and checks that nothing is wider than it; and on paper that nothing is cut off or folded away,
    and that there is nothing to click."""
    width, media = SCREENS[screen]
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(media=media)
    wide, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= shown, "the page scrolls sideways"
    if media == "screen":
        return
    cut, hidden, left = page.evaluate(
        """() => {
          const all = [...document.querySelectorAll("body *")];
          const said = list => list.map(one => one.outerHTML.slice(0, 200));
          const clips = one => getComputedStyle(one).overflowX !== "visible"
            || getComputedStyle(one).contain.includes("paint");
          return [
            said(all.filter(one => !(one instanceof SVGElement) && clips(one)
              && (one.scrollWidth > one.clientWidth + 1
                || one.scrollHeight > one.clientHeight + 1))),
            said(all.filter(one => one.matches("details *, main p, main li, main td, main img")
              && !one.closest(".odd, [hidden]") && !one.checkVisibility())),
            said(all.filter(one => one.matches("nav, button") && one.checkVisibility())),
          ];
        }"""
    )
    assert cut == [], "something is cut off"
    assert hidden == [], "something is folded away"
    assert left == [], "there is something to click"
