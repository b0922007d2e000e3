"""Pictures pasted into answers: kept where they can be shown safely."""

import base64
import io

import nbformat
import pytest
from conftest import Grader
from PIL import Image

from autograder.grading import pictures as kept
from autograder.grading.pictures import FORMATS, pictures


def encoded(kind: str = "PNG", size: tuple[int, int] = (3, 2)) -> str:
    file = io.BytesIO()
    Image.new("1" if size[0] > 1000 else "RGB", size).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_what_its_bytes_say(kind: str) -> None:
    found, left_out = pictures({"a.svg": {"image/svg+xml": encoded(kind)}})
    assert found == {"a.svg": f"data:image/{kind.lower()};base64,{encoded(kind)}"}
    assert left_out == []


SVG = base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>').decode()


@pytest.mark.parametrize(
    "attachments, why",
    [
        ({"a": {"image/png": SVG}}, "not a picture"),
        ({"a": {"image/svg+xml": SVG}}, "not a picture"),
        ({"a": {"image/png": "%"}}, "not base64"),
        ({"a": {"image/png": "half an emoji \ud83d"}}, "not base64"),
        ({"a": {"image/png": encoded("TIFF")}}, "not a picture"),
        ({"a": {"image/png": encoded(size=(8000, 8000))}}, "8000 × 8000 pixels are too many"),
        ({"a": {"image/png": "A" * (kept.MOST_BYTES * 3)}}, "larger than 4 MiB"),
        ({"a": {"image/png": "AAAA" * (kept.MOST_BYTES // 3 + 1)}}, "larger than 4 MiB"),
        ({"a": {}}, "not a picture"),
        ({"a": {"image/png": 5}}, "larger than"),
        ({"a": 5}, "not a picture"),
    ],
)
def test_what_is_no_picture_is_left_out(attachments: object, why: str) -> None:
    found, left_out = pictures(attachments)
    assert found == {}
    assert [why in reason for reason in left_out] == [True]


def test_many_pictures_are_bounded_together(monkeypatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES_OF_ALL", 150)
    found, left_out = pictures({str(n): {"image/png": encoded()} for n in range(9)})
    assert sorted(found) == ["0", "1"]
    assert len(left_out) == 1


def test_a_thousand_pictures_are_a_few_and_one_sentence() -> None:
    found, left_out = pictures({str(n): {"image/png": encoded()} for n in range(1000)})
    assert (len(found), left_out) == (20, ["980 of 1000 pictures"])


@pytest.mark.parametrize(
    "attachments", [None, [], "a", {"a": 2}, {"a": {"image/png": ["aGk", "="]}}]
)
def test_attachments_of_any_shape_raise_nothing(attachments: object) -> None:
    assert pictures(attachments)[0] == {}


def test_a_results_pictures_are_those_of_the_answers(grader: Grader, tmp_path) -> None:
    notebook = grader.notebook(why="See ![this](attachment:a.png).")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.attachments = {"a.png": {"image/png": encoded()}, "b.svg": {"image/png": SVG}}
    result = grader(nbformat.writes(notebook).encode())
    assert result.pictures == {"why": {"a.png": f"data:image/png;base64,{encoded()}"}}
    assert [flag for flag in result.flags if "b.svg" in flag]
    result.write(tmp_path / "result.json")
    assert type(result).read(tmp_path / "result.json").pictures == result.pictures
