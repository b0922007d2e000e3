"""Where a notebook says that it comes from: the address in its set-up cell, and its badge."""

import re

_ADDRESS = re.compile(r"^repository, version = .*$", re.M)
_BADGE = re.compile(r"^\[!\[Open in Colab\]\(\S*\)\]\(\S*\)\n{0,2}", re.M)
_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def addressed(setup: str, repository: str, version: str) -> str:
    """The source of a set-up cell that fetches this version (a tag or a branch) from there."""
    return _ADDRESS.sub(f'repository, version = "{repository}", "{version}"', setup, count=1)


def badge(repository: str, branch: str, path: str) -> str:
    """The badge, in Markdown, that opens a notebook of a repository on Colab; "" where that isn't
    on GitHub, the only place from which Colab opens one."""
    if not (github := _GITHUB.fullmatch(repository)):
        return ""
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{github[1]}/blob/{branch}/{path})"
    )


def with_badge(title: str, badge: str) -> str:
    """A notebook's first cell, with the badge beneath its first line."""
    heading, _, rest = title.partition("\n")
    return f"{heading}\n\n{badge}\n{rest}" if badge else title


def unaddressed(source: str) -> str:
    """A cell's source without what differs from one hand-out to the next."""
    return _BADGE.sub("", _ADDRESS.sub("repository, version =", source))
