import html
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from utils.own_image import OwnImage

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def nothing_uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnImage, "_uploaded", None)


def picture(kind: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
    """A file with a red picture."""
    file = BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(file, kind)
    return file.getvalue()


def upload(own: OwnImage, name: str, content: bytes) -> None:
    """What ipywidgets 8 does when a student has chosen a file."""
    own.children[0].value = (
        {"name": name, "type": "", "size": len(content), "content": content, "last_modified": NOW},
    )


def said(own: OwnImage) -> str:
    return html.unescape(own.children[1].value)


def test_without_a_picture_there_is_none(capsys) -> None:
    own = OwnImage(None)
    assert own.load() is None and own.load(64) is None
    assert said(own) == "" and capsys.readouterr().out == ""


def test_a_file_is_named(tmp_path: Path, capsys) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(picture())
    own = OwnImage(path)
    assert own.load().shape == (20, 30, 3) and own.load(8).shape == (8, 8, 3)
    assert (own.load((5, 7)) == (255, 0, 0)).all()
    assert "30 × 20 pixels" in said(own) and own.children[2].layout.display == "block"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["nowhere.png", ".", "notes.txt", "a" * 300])
def test_what_is_no_picture_is_said_in_one_sentence(tmp_path: Path, name, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("not a picture")
    own = OwnImage(name)
    (line,) = capsys.readouterr().out.splitlines()
    assert name in line and ("no file" in line or "can't be read as an image" in line)
    assert own.load() is None


def test_an_upload_replaces_the_picture_and_stays(capsys) -> None:
    own = OwnImage()
    upload(own, "<b>mine</b>.jpg", picture("JPEG"))
    assert own.load(4).shape == (4, 4, 3) and "&lt;b&gt;mine" in own.children[1].value
    upload(own, "notes.png", b"not a picture")
    assert "notes.png can't be read as an image" in said(own)
    assert own.load().shape == (20, 30, 3)  # as it was
    upload(own, "wide.png", picture(size=(40, 10)))
    assert own.load().shape == (10, 40, 3)
    assert OwnImage(None).load().shape == (10, 40, 3)  # the cell ran again
    assert capsys.readouterr().out == ""


def test_a_named_file_goes_before_an_upload(tmp_path: Path) -> None:
    upload(OwnImage(), "wide.png", picture(size=(40, 10)))
    path = tmp_path / "mine.png"
    path.write_bytes(picture())
    assert OwnImage(path).load().shape == (20, 30, 3)


def test_an_upload_as_ipywidgets_7_has_it() -> None:
    own = OwnImage()
    file = {"metadata": {"name": "mine.png", "size": 9}, "content": picture()}
    own._take({"new": {"mine.png": file}})
    assert own.load().shape == (20, 30, 3) and "mine.png" in said(own)
