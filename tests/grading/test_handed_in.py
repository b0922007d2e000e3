"""What is handed in for a notebook: found and read if it can be, else refused in one sentence."""

import os
import zipfile

import nbformat
import pytest

from autograder.grading import handed_in
from autograder.grading.handed_in import (
    Refused,
    find_notebook,
    read_cells,
    read_notebook,
    set_aside,
)

NOTEBOOK = nbformat.writes(
    nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 'größer'", id="a")])
)


def refusal(content: bytes) -> str:
    with pytest.raises(Refused) as refused:
        read_cells(content)
    return str(refused.value)


def zipped(name: str, tmp_path) -> bytes:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "text")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"%PDF-1.7\n%\xe2\xe3", "looks like a PDF"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "looks like a picture"),
        (b"<!DOCTYPE html>\n<html><head>", "looks like a web page"),
        (b"\n<html>", "looks like a web page"),
        (b"print('hello')", "looks like a Python program"),
        (
            b"# %%\nimport torch\n",
            "looks like a Python program",
        ),
        (b"https://colab.research.google.com/drive/1aBc?usp=sharing\n", "looks like a link"),
        (b"[InternetShortcut]\r\nURL=https://colab.research.google.com/\r\n", "looks like a link"),
        (b'{"url": "https://drive.google.com/open?id=1", "doc_id": "1"}', "looks like a link"),
        (b'{"name": "a package", "version": 1}', "looks like some other JSON"),
        (b"[1, 2]", "looks like some other JSON"),
        (b"12", "looks like some other JSON"),
        (b'"text"', "looks like some other JSON"),
        (b'{"cells": 3}', "looks like some other JSON"),
        (b"What I did: nothing much", "not a Jupyter notebook; hand in"),
        (b'{"cells": [{}, 3], "nbformat": 4}', "none of its cells has a source"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deep"),
        (NOTEBOOK.encode()[:150], "the notebook is damaged"),
    ],
)
def test_what_is_no_notebook_is_refused_by_what_it_looks_like(content: bytes, said: str) -> None:
    assert said in refusal(content)
    assert "\n" not in refusal(content)


def test_archives_are_told_apart(tmp_path) -> None:
    assert "looks like a zip archive" in refusal(zipped("01_mini.ipynb", tmp_path))
    assert "looks like an Office document" in refusal(zipped("word/document.xml", tmp_path))


def test_marks_of_a_merge_conflict_are_named_with_their_line() -> None:
    lines = NOTEBOOK.splitlines()
    lines[4:4] = ["<<<<<<< HEAD", "=======", ">>>>>>> origin/main"]
    assert "marks of a merge conflict" in refusal("\n".join(lines).encode())
    assert "first in line 5)" in refusal("\n".join(lines).encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_unicode_encoding_is_read(encoding: str) -> None:
    cells, repairs = read_cells(NOTEBOOK.encode(encoding))
    assert [cell.text for cell in cells] == ["x = 'größer'"]
    assert len(repairs) == ("16" in encoding)


def test_file_in_another_encoding_loses_no_more_than_its_letters() -> None:
    cells, repairs = read_cells(NOTEBOOK.encode("latin-1"))
    assert cells[0].text == "x = 'gr\ufffd\ufffder'"
    assert "not in UTF-8" in repairs[0]


def test_sources_can_be_written_and_compiled() -> None:
    content = rb'{"cells": [{"source": ["a\ud83d", "\ude00\r\nb\ud83d", "\u0000c"]}]}'
    assert read_cells(content)[0][0].text == "a\U0001f600\nb\ufffd\ufffdc"


@pytest.mark.parametrize("damage", ["3", "{}", '{"source": 3}', '{"source": ["a", 3]}', "null"])
def test_cell_without_a_source_costs_no_other_cell(damage: str) -> None:
    content = f'{{"cells": [{damage}, {{"source": "x", "metadata": {{"nbgrader": 3}}}}]}}'
    cells, repairs = read_cells(content.encode())
    assert [(cell.number, cell.text) for cell in cells] == [(2, "x")]
    assert repairs == ["left out 1 cells that have no source"]


def test_too_many_cells_are_refused() -> None:
    cells = ",".join(['{"source": ""}'] * (handed_in.MOST_CELLS + 1))
    assert "has 2001 cells" in refusal(f'{{"cells": [{cells}]}}'.encode())


def test_too_large_a_notebook_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(handed_in, "MOST_BYTES", 2**20)
    path = tmp_path / "a.ipynb"
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(Refused, match="larger than 1 MiB"):
        read_notebook(path)


def test_links_pipes_and_folders_are_refused(tmp_path) -> None:
    secret = tmp_path / "secret.ipynb"
    secret.write_text("{}")
    (tmp_path / "link.ipynb").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name in ("empty", "linked", "two", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "linked" / "01_mini.ipynb").symlink_to(secret)
    (tmp_path / "other" / "notes.pdf").write_text("")
    for name in "ab":
        (tmp_path / "two" / f"{name}.ipynb").write_text("{}")
    for name, reason in {
        "link.ipynb": "symbolic link",
        "pipe.ipynb": "not a regular file",
        "empty": "no notebook",
        "other": "no notebook, only notes.pdf",
        "linked": "symbolic link",
        "two": r"2 notebooks \(a.ipynb, b.ipynb\)",
        "nowhere": "No such file",
    }.items():
        with pytest.raises(Refused, match=reason):
            find_notebook(tmp_path / name, "01_mini")


def test_labs_own_notebook_is_taken_and_the_others_are_told(tmp_path) -> None:
    for name in ("01_mini.ipynb", "01_mini_old.ipynb", "._01_mini.ipynb", "notes.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "01_mini-checkpoint.ipynb").write_text("{}")
    notebook = find_notebook(tmp_path, "01_mini")
    assert notebook.name == "01_mini.ipynb"
    assert set_aside(tmp_path, notebook) == (
        ["graded 01_mini.ipynb; also there and not looked at: 01_mini_old.ipynb"],
        [],
    )


def test_what_cannot_be_read_beside_the_notebook_is_ignored(tmp_path) -> None:
    (tmp_path / "01_mini (1).ipynb").write_text("{}")
    (tmp_path / "01_mini.ipynb").mkdir()
    (tmp_path / "gone.ipynb").symlink_to(tmp_path / "nowhere")
    assert find_notebook(tmp_path, "01_mini").name == "01_mini (1).ipynb"


@pytest.mark.parametrize("name", ["a.IPYNB", "a.ipynb.txt", "a.ipynb.json"])
def test_endings_that_browsers_make_are_notebooks(tmp_path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    assert find_notebook(tmp_path, "01_mini").name == name


def test_hard_link_is_graded_and_flagged(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "01_mini.ipynb"
    path.write_text("{}")
    assert set_aside(path, find_notebook(path, "01_mini")) == ([], [])
    os.link(path, tmp_path / "other")
    assert "hard link" in set_aside(path, find_notebook(path, "01_mini"))[1][0]


def test_names_that_are_no_text_can_be_told(tmp_path) -> None:
    for name in (b"01_mini.ipynb", b"gr\xf6\xdfe.ipynb"):
        (tmp_path / os.fsdecode(name)).write_text("{}")
    repairs, _ = set_aside(tmp_path, find_notebook(tmp_path, "01_mini"))
    assert repairs[0].encode().endswith(b"gr??e.ipynb")
