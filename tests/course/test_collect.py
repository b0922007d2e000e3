"""Collecting from what Canvas, Moodle and Gradescope give, in every state that it comes in."""

import os
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import downloads
import pytest
from conftest import Grader
from courses import LAB, copied
from downloads import Student, made_class

from autograder.course import archives, collect, roster
from autograder.course.archives import ArchiveError
from autograder.course.collect import Row
from autograder.course.gradebook import open_gradebook
from autograder.course.lateness import lateness

PLACES = ("canvas", "moodle", "gradescope")


@pytest.fixture
def course(grader: Grader, tmp_path: Path) -> Path:
    """A course with the tiny lab, in Berlin."""
    return copied(grader.lab.root / "course", tmp_path)


@pytest.fixture
def notebook(grader: Grader) -> bytes:
    """What the students of the made class hand in: the lab as it was released."""
    return grader.lab.released_path.read_bytes()


def gather(course: Path, *paths: Path, people: Path | None = None) -> dict[str, Row]:
    """Collects, and gives the summary's rows by student, and those that are nobody's by entry."""
    rows, _ = collect.collect(LAB, paths, course, people)
    found = {row.student or row.came: row for row in rows}
    assert len(found) == len(rows), "somebody has two rows"
    return found


def placed(course: Path) -> dict[str, bytes]:
    """Every student's notebook in submitted/."""
    paths = (course / "submitted").glob(f"*/{LAB}/{LAB}.ipynb")
    return {path.parts[-3]: path.read_bytes() for path in paths}


def tree(folder: Path) -> dict[str, bytes]:
    """All files in a course that collecting writes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("submitted", "collected")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def one(number: int = 1, first: str = "Ada", last: str = "Lovelace", **more) -> Student:
    """A student who handed something in."""
    student = Student(first, last, number, f"login{number}", handed_in=downloads.DUE)
    for name, value in more.items():
        setattr(student, name, value)
    return student


def download(place: str, folder: Path, students: list[Student]) -> tuple[Path, Path]:
    """A place's zip and the roster that goes with it; Gradescope's is Canvas's."""
    path = folder / f"{place}.zip"
    people = folder / f"{place}.csv"
    if place == "moodle":
        return downloads.moodle_zip(path, students), downloads.moodle_worksheet(
            people, students, 12
        )
    make = downloads.canvas_zip if place == "canvas" else downloads.gradescope_zip
    return make(path, students), downloads.canvas_gradebook(people, students, "01 (45)", 12)


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_a_whole_class(course: Path, notebook: bytes, tmp_path, place: str, unpacked: bool) -> None:
    students = made_class(notebook, LAB)
    path, people = download(place, tmp_path, students)
    if unpacked:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path := tmp_path / "unpacked")
    rows = gather(course, path, people=people)
    whose = {content: student for student, content in placed(course).items()}
    with open_gradebook(course) as gradebook:
        entered = {student.id: student.to_dict() for student in gradebook.students}
    for student in students:
        own = notebook + b" " * student.number
        if student.number in (16, 17, 18):  # a PDF, a text, nothing
            assert own not in whose
            continue
        name = whose[own]
        assert name in rows
        about = entered[name]
        assert roster.key(about["last_name"])[-3:] in roster.key(student.last)
        if place == "canvas":
            assert about["lms_user_id"] == str(student.user_id)
        assert ("not in the roster" in rows[name].done) == student.left
        stamp = course / "submitted" / name / LAB / "timestamp.txt"
        if place == "canvas":  # It says LATE, and not when.
            assert ("(LATE)" in rows[name].came) == student.late
            assert not stamp.exists()
            assert lateness(LAB, name, course).late_but_unknown == student.late
        elif not (place == "moodle" and student.left):
            resolution = 60 if place == "moodle" else 1
            time = datetime.strptime(stamp.read_text(), "%Y-%m-%d %H:%M:%S UTC\n")
            late = student.handed_in.replace(tzinfo=None) - time
            assert 0 <= late.total_seconds() < resolution
    assert len(whose) == len(students) - 3
    assert sum("no notebook" in row.done for row in rows.values()) == 2
    assert [row.done for row in rows.values() if row.came == "nothing"] == ["handed in nothing"]
    assert len(rows) == len(students)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_that_was_handed_in_is_lost(course: Path, notebook, tmp_path, place: str) -> None:
    students = made_class(notebook, LAB)
    path, people = download(place, tmp_path, students)
    gather(course, path, people=people)
    kept = {content for name, content in tree(course).items() if name.startswith("collected")}
    handed_in = [file for student in students for file in student.files if student.handed_in]
    assert {content for name, content in handed_in if not name.endswith(".zip")} <= kept


@pytest.mark.parametrize("place", PLACES)
def test_collecting_again_changes_nothing(course: Path, notebook, tmp_path, place: str) -> None:
    path, people = download(place, tmp_path, made_class(notebook, LAB, 20))
    first = gather(course, path, people=people)
    before, students = tree(course), roster.known_people(course)
    again = gather(course, path)  # The roster is remembered.
    assert tree(course) == before
    assert roster.known_people(course) == students
    assert first.keys() == again.keys()


@pytest.mark.parametrize("place", PLACES)
def test_without_a_roster(course: Path, notebook: bytes, tmp_path, place: str) -> None:
    students = [student for student in made_class(notebook, LAB, 12)]
    path, _ = download(place, tmp_path, students)
    rows, notes = collect.collect(LAB, [path], course)
    assert any("no roster" in note for note in notes)
    assert len({row.student for row in rows}) == 12
    assert sorted(placed(course).values()) == sorted(notebook + b" " * n for n in range(12))
    before = tree(course)
    collect.collect(LAB, [path], course)
    assert tree(course) == before


@pytest.mark.parametrize("stop", (1, 20, 33, 50))
def test_stopped_in_the_middle_and_run_again(
    course: Path, notebook: bytes, tmp_path, monkeypatch, stop: int
) -> None:
    path, people = download("moodle", tmp_path, made_class(notebook, LAB, 20))
    shutil.copytree(course, untouched := tmp_path / "other")
    gather(untouched, path, people=people)
    left, real = stop, (Path.replace, Path.write_bytes)

    def stopping(which: int):
        def act(*arguments):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return real[which](*arguments)

        return act

    monkeypatch.setattr(Path, "replace", stopping(0))
    monkeypatch.setattr(Path, "write_bytes", stopping(1))
    with pytest.raises(KeyboardInterrupt):
        gather(course, path, people=people)
    monkeypatch.undo()
    gather(course, path, people=people)
    assert tree(course) == tree(untouched)


def test_a_later_download_updates_only_what_is_newer(course: Path, notebook, tmp_path) -> None:
    ada, bob = one(1, files=[(f"{LAB}.ipynb", notebook)]), one(2, "Bob", "Kahn")
    bob.files = [(f"{LAB}.ipynb", notebook + b" ")]
    first, people = download("canvas", tmp_path, [ada, bob])
    gather(course, first, people=people)
    (tmp_path / "later").mkdir()
    ada.files = [(f"{LAB}-1.ipynb", notebook + b"\n")]
    ada.number = 1.5  # Its attachment's number is a later one...
    later = tmp_path / "later.zip"
    with zipfile.ZipFile(later, "w") as archive:
        archive.writestr(f"lovelaceada_12001_67999_{LAB}-1.ipynb", notebook + b"\n")
        archive.writestr(f"kahnbob_12002_67020_{LAB}.ipynb", notebook + b" ")
    rows = gather(course, later)
    assert (rows["login1"].done, rows["login2"].done) == ("2. attempt", "the same as before")
    assert placed(course) == {"login1": notebook + b"\n", "login2": notebook + b" "}
    rows = gather(course, first)  # An older download takes nothing back.
    assert placed(course)["login1"] == notebook + b"\n"
    kept = course / "collected" / LAB / "login1"
    assert (kept / "attempt-1" / f"{LAB}.ipynb").read_bytes() == notebook


def test_the_last_attempt_with_a_notebook_counts(course: Path, notebook: bytes, tmp_path) -> None:
    path = tmp_path / "canvas.zip"
    for number, (name, content) in enumerate([(f"{LAB}.ipynb", notebook), ("x.png", b"png")]):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"lovelaceada_12001_6700{number}_{name}", content)
        rows = gather(course, path)
    assert placed(course) == {"lovelaceada": notebook}
    assert "attempt-1 counts, the last one with a notebook" in rows["lovelaceada"].done


def test_the_labs_notebook_among_several(course: Path, grader: Grader, tmp_path) -> None:
    import nbformat

    worked = nbformat.writes(grader.notebook()).encode()
    untouched = grader.lab.released_path.read_bytes()
    other = b'{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'
    ada = one(files=[(f"{LAB}.ipynb", untouched), ("a.ipynb", worked), (f"{LAB}-3.ipynb", other)])
    for place in PLACES:
        path, people = download(place, tmp_path, [ada])
        rows = gather(course, path, people=people)
        assert placed(course)["login1"] == worked
        assert "took a.ipynb, the rest is kept in" in rows["login1"].done
        shutil.rmtree(course / "collected")


def test_a_notebook_changed_by_hand_stays_until_a_newer_one_comes(
    course, notebook, tmp_path
) -> None:
    path, people = download("canvas", tmp_path, [one(files=[(f"{LAB}.ipynb", notebook)])])
    gather(course, path, people=people)
    target = course / "submitted" / "login1" / LAB / f"{LAB}.ipynb"
    target.write_bytes(b"mended by a TA")
    rows = gather(course, path)
    assert target.read_bytes() == b"mended by a TA"
    assert "changed by hand in submitted/ since: left as it is" in rows["login1"].done
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"lovelaceada_12001_67999_{LAB}.ipynb", notebook + b" ")
    rows = gather(course, path)
    assert target.read_bytes() == notebook + b" "
    assert "what stood in submitted/ is kept as by-hand-" in rows["login1"].done
    assert b"mended by a TA" in tree(course).values()


@pytest.mark.parametrize("folders", [True, False])
def test_moodles_teams(course: Path, notebook: bytes, tmp_path, folders: bool) -> None:
    students = [one(n, f"F{n}", f"L{n}", files=[(f"{LAB}.ipynb", notebook)]) for n in range(5)]
    students[3].files = [(f"{LAB}.ipynb", notebook + b" ")]
    teams = {"Red_pandas": (77, students[:3]), "Team 2": (78, students[3:])}
    path = downloads.moodle_zip(tmp_path / "moodle.zip", students, folders, teams=teams)
    people = downloads.moodle_worksheet(tmp_path / "m.csv", students, 12, groups=teams)
    gather(course, path, people=people)
    assert placed(course) == {f"login{n}": notebook + b" " * (n > 2) for n in range(5)}


def test_gradescopes_teams(course: Path, notebook: bytes, tmp_path) -> None:
    path = downloads.gradescope_zip(tmp_path / "g.zip", [one(files=[(f"{LAB}.ipynb", notebook)])])
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    metadata = next(name for name in entries if name.endswith(".yml"))
    second = b"  - :name: Bob Kahn\n    :sid: S0002\n    :email: bob@uni.example\n  :created_at"
    entries[metadata] = entries[metadata].replace(b"  :created_at", second)
    downloads.write_zip(path, list(entries.items()))
    gather(course, path)
    assert placed(course) == {"login1": notebook, "bob": notebook}


def test_a_canvas_team_is_pointed_out(course: Path, notebook: bytes, tmp_path) -> None:
    _, people = download("canvas", tmp_path, [one()])
    path = tmp_path / "team.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"redpandas_12001_67000_{LAB}.ipynb", notebook)
    assert "calls them 'redpandas': a team?" in gather(course, path, people=people)["login1"].done


@pytest.mark.parametrize("place", ["canvas", "moodle"])
def test_anonymous_marking(course: Path, notebook: bytes, tmp_path, place: str) -> None:
    students = made_class(notebook, LAB, 12)
    path = tmp_path / "anonymous.zip"
    if place == "canvas":
        downloads.canvas_zip(path, students, anonymous=True)
        names = {f"anon_{n:02}xyz" for n in range(12)}
    else:
        downloads.moodle_zip(path, students, blind=True)
        names = {f"participant-{300 + n}" for n in range(12)}
    rows = gather(course, path)
    assert placed(course).keys() == names
    if place == "canvas":
        assert "(LATE)" in rows["anon_00xyz"].came


def test_accents_in_any_normal_form_are_one_person(course: Path, notebook, tmp_path) -> None:
    zoe = one(1, "Zoë", "Muñoz", files=[(f"{LAB}.ipynb", notebook)])
    people = downloads.moodle_worksheet(tmp_path / "m.csv", [zoe], 12, email=False)
    text = people.read_text().replace("301", "999")  # another lab's worksheet, so names decide
    people.write_text(downloads.nfd(text))
    path = downloads.moodle_zip(tmp_path / "m.zip", [zoe])
    assert set(gather(course, path, people=people)) == {"zoe-munoz"}


def test_two_of_one_name_are_never_mixed_up(course: Path, notebook: bytes, tmp_path) -> None:
    wei, other = (
        one(n, "Wei", "Li", files=[(f"{LAB}.ipynb", notebook + b" " * n)]) for n in (1, 2)
    )
    for place in PLACES:
        path, people = download(place, tmp_path, [wei, other])
        gather(course, path, people=people)
        assert placed(course) == {"login1": notebook + b" ", "login2": notebook + b"  "}
    # Where nothing but the name is known and both are in the course, neither gets the other's.
    stranger = one(50, "Wei", "Li", files=[(f"{LAB}.ipynb", notebook)])
    path = downloads.moodle_zip(tmp_path / "next.zip", [stranger])
    rows = gather(course, path)
    assert placed(course)["wei-li"] == notebook
    assert "not in the roster" in rows["wei-li"].done


def test_canvas_numbers_stand_in_its_zip_too(course: Path, notebook: bytes, tmp_path) -> None:
    students = made_class(notebook, LAB, 12)
    lines = [f"{each.login},{each.first} {each.last},{each.email}" for each in students]
    people = tmp_path / "list.csv"
    people.write_text("\n".join(["student,name,email", *lines]))
    anonymous = downloads.canvas_zip(tmp_path / "a.zip", students, anonymous=True)
    gather(course, anonymous, people=people)
    path = downloads.canvas_zip(tmp_path / "canvas.zip", students)
    rows = gather(course, path)
    assert "not in the roster, or one of its 2 of that name" in rows["liwei-12002"].done
    numbers = {person.student: person.lms_user_id for person in roster.known_people(course)}
    for student in students:  # Which of the two Wei Lis has which number, nobody can tell.
        assert numbers[student.login] == ("" if student.first == "Wei" else str(student.user_id))
    before = tree(course), roster.known_people(course)
    gather(course, path)
    assert (tree(course), roster.known_people(course)) == before
    # Somebody else of her name, who isn't in the list, is somebody else in the next lab as well.
    shutil.rmtree(course / "collected")
    stranger = one(50, files=[(f"{LAB}.ipynb", notebook)])
    gather(course, downloads.canvas_zip(tmp_path / "next.zip", [stranger]))
    assert numbers["alovelace"] == next(
        person.lms_user_id
        for person in roster.known_people(course)
        if person.student == "alovelace"
    )


def test_names_that_end_in_numbers_are_told_by_the_roster(course, notebook, tmp_path) -> None:
    _, people = download("canvas", tmp_path, [one(1, "Ada", "Smith_2")])
    path = tmp_path / "canvas.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"smith_2_12001_67000_{LAB}.ipynb", notebook)
        archive.writestr("smith_2_LATE_12001_67001_2026_12_notes.txt", b"notes")
    rows = gather(course, path, people=people)
    assert rows["login1"].came == f"{LAB}.ipynb, 2026_12_notes.txt (LATE)"


def test_times_that_are_spread_are_those_of_handing_in(course: Path, notebook, tmp_path) -> None:
    path = tmp_path / "moodle.zip"
    days = {"Ada": 3, "Bob": 1, "Eve": 2}
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, day) in enumerate(days.items()):
            folder = f"{name} X_{number}_assignsubmission_file"
            info = zipfile.ZipInfo(f"{folder}/{LAB}.ipynb", (2026, 11, day, 23, 59, 58))
            archive.writestr(info, notebook)
    rows = gather(course, path)
    assert rows["bob-x"].done == "new; handed in 2026-11-01 23:59"
    stamp = course / "submitted" / "bob-x" / LAB / "timestamp.txt"
    assert stamp.read_text() == "2026-11-01 22:59:58 UTC\n"


def test_a_students_own_timestamp_is_not_believed(course: Path, notebook: bytes, tmp_path) -> None:
    files = [(f"{LAB}.ipynb", notebook), ("timestamp.txt", b"2020-01-01 00:00:00 UTC")]
    nested = downloads.zipped(files)
    path, people = download("gradescope", tmp_path, [one(files=[("a.zip", nested), *files])])
    gather(course, path, people=people)
    stamp = course / "submitted" / "login1" / LAB / "timestamp.txt"
    assert stamp.read_text() == "2026-11-30 22:59:00 UTC\n"


class RawName(zipfile.ZipInfo):
    """An entry whose name is written as given, without saying that it is UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.comment, 0


@pytest.mark.parametrize("encoding", ["utf-8", "cp437", "cp1252"])
def test_names_in_old_encodings_are_put_right(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = RawName("x")
        info.comment = "Zoë Müller_1_assignsubmission_file".encode(encoding)
        archive.writestr(info, b"")
    (entry,) = archives.read_archive(path, ZoneInfo("UTC"))
    assert entry.name == "Zoë Müller_1_assignsubmission_file"


HOSTILE = {
    "../../evil_1_2_x.ipynb": "leads out of its folder",
    "/tmp/evil_1_2_x.ipynb": "leads out of its folder",
    "C:\\evil_1_2_x.ipynb": "leads out of its folder",
    "a\\..\\..\\evil_1_2_x.ipynb": "leads out of its folder",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_paths_that_lead_out_are_refused(course: Path, notebook, tmp_path, name: str) -> None:
    path = tmp_path / "canvas.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"ada_12001_67000_{LAB}.ipynb", notebook)
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    inner = zipfile.ZipFile(nested := tmp_path / "n.zip", "w")
    inner.writestr(zipfile.ZipInfo(name), b"evil")
    inner.close()
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(nested, "ada_12001_67001_more.zip")
    before = {entry for entry in tmp_path.rglob("*") if "course" not in entry.parts}
    rows = gather(course, path)
    assert b"evil" not in tree(course).values()
    assert {entry for entry in tmp_path.rglob("*") if "course" not in entry.parts} == before
    assert sum(HOSTILE[name] in row.done for row in rows.values()) == 2  # one of them is nested


def test_links_and_encrypted_entries_are_refused(course: Path, notebook, tmp_path) -> None:
    path = tmp_path / "canvas.zip"
    link = zipfile.ZipInfo("ada_12001_67001_link.ipynb")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
        archive.writestr(f"bob_12002_67002_{LAB}.ipynb", notebook)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[directory + 8] |= 1  # says that Bob's is encrypted
    path.write_bytes(content)
    rows = gather(course, path)
    assert "is a link, not a file" in rows["ada"].done
    assert "is encrypted: ask for it without a password" in rows["bob"].done
    assert placed(course) == {}


def test_a_linked_notebook_in_a_folder_is_refused(course: Path, notebook, tmp_path) -> None:
    (folder := tmp_path / "unpacked").mkdir()
    (folder / f"ada_12001_67001_{LAB}.ipynb").symlink_to("/etc/passwd")
    (folder / f"bob_12002_67002_{LAB}.ipynb").write_bytes(notebook)
    rows = gather(course, folder)
    assert "is a link or no regular file" in rows["ada"].done
    assert placed(course) == {"bob": notebook}


def test_bombs_cost_only_who_sent_them(
    course: Path, notebook: bytes, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 2**20)
    monkeypatch.setattr(archives, "MOST_BYTES_TOGETHER", 3 * 2**20)
    monkeypatch.setattr(archives, "MOST_FILES", 50)
    zeros = bytes(2**20)
    bombs = {
        "big": [("a.ipynb", zeros + b"0")],
        "together": [(f"{n}.bin", zeros) for n in range(5)],
        "many": [(f"{n}.txt", b"") for n in range(60)],
        "deep": [
            (
                "1.zip",
                downloads.zipped(
                    [
                        (
                            "2.zip",
                            downloads.zipped(
                                [("3.zip", downloads.zipped([("4.zip", downloads.zipped([]))]))]
                            ),
                        )
                    ]
                ),
            )
        ],
    }
    path = tmp_path / "canvas.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, files) in enumerate(bombs.items()):
            archive.writestr(f"{name}_1200{number}_6700{number}_x.zip", downloads.zipped(files))
        archive.writestr(f"good_12009_67009_{LAB}.ipynb", notebook)
    rows = gather(course, path)
    assert "claims more than 1 MiB" in rows["big"].done
    assert "holds more than anybody needs to hand in" in rows["together"].done
    assert "holds more files than anybody needs" in rows["many"].done
    assert "is a zip within a zip within a zip" in rows["deep"].done
    assert placed(course) == {"good": notebook}


def test_an_entry_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ada_1_2_a.ipynb", bytes(10 * 2**20))
    (entry,) = archives.read_archive(path, ZoneInfo("UTC"))
    with pytest.raises(archives.Unreadable, match="unpacks to more than 1 MiB"):
        entry.read(2**20)
    with pytest.raises(archives.Unreadable, match=r"unpacks to 1\d+ times its size"):
        entry.read()


def test_entries_of_one_name_are_both_kept(course: Path, notebook: bytes, tmp_path) -> None:
    path = tmp_path / "canvas.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(f"ada_12001_67000_{LAB}.ipynb", b"{}")
        archive.writestr(f"ada_12001_67000_{LAB}.ipynb", notebook)
    rows = gather(course, path)
    assert "came more than once" in rows["ada"].done
    assert placed(course) == {"ada": notebook}
    assert b"{}" in tree(course).values()


def test_what_is_nobodys_is_said(course: Path, notebook: bytes, tmp_path) -> None:
    path = tmp_path / "canvas.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"ada_12001_67000_{LAB}.ipynb", notebook)
        archive.writestr("__MACOSX/._x", b"")
        archive.writestr("readme.txt", b"")
    rows = gather(course, path)
    assert rows["readme.txt"].done == rows["__MACOSX/._x"].done == "names no student: left out"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no zip", "is no zip, or a damaged one"),
        (b"", "is no zip, or a damaged one"),
        (downloads.zipped([("notes.txt", b"")]), r"is no download that is known.*notes\.txt"),
        (downloads.zipped([]), "is empty: download the submissions again"),
        (downloads.zipped([("a/submission_metadata.yml", b"- x")]), "can't be read"),
        (downloads.zipped([("submission_metadata.yml", b"a: !!python/name:os.system x")]), "read"),
    ],
)
def test_files_that_are_no_download(course: Path, tmp_path, content: bytes, said: str) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=said):
        gather(course, tmp_path / "x.zip")
    assert placed(course) == {}


def test_there_is_no_such_file(course: Path, tmp_path) -> None:
    with pytest.raises(ArchiveError, match="can't be read: No such file"):
        gather(course, tmp_path / "nowhere.zip")


@pytest.mark.parametrize("ruby", [False, True])
def test_gradescopes_times_in_both_spellings(course: Path, notebook, tmp_path, ruby: bool) -> None:
    ada = one(files=[(f"{LAB}.ipynb", notebook)])
    path = downloads.gradescope_zip(tmp_path / "g.zip", [ada], ruby)
    gather(course, path)
    late = lateness(LAB, "login1", course)
    assert late.handed_in == datetime(2026, 11, 30, 22, 59, tzinfo=UTC)


def test_names_that_systems_mind_are_made_safe(course: Path, notebook: bytes, tmp_path) -> None:
    name = "a<b>|?*" + "ü" * 200 + ".ipynb"
    ada = one(1, "Ada", "..", files=[(name, notebook), (".hidden", b"x"), ("CON", b"y")])
    ada.login = ".."
    path = downloads.gradescope_zip(tmp_path / "g.zip", [ada])
    gather(course, path)
    (student,) = placed(course)
    assert student == "s0001" or student.startswith("ada")
    for path in (course / "collected").rglob("*"):
        assert len(os.fsencode(path.name)) <= 255
        assert not path.name.startswith(".")


@pytest.mark.parametrize(
    "files",
    [
        [("a", b"1"), ("a/b.txt", b"2"), ("A/b.txt", b"3")],
        [("a/b.txt", b"1"), ("A", b"2")],
        [("/".join(["deep" * 20] * 60), b"1"), ("b", b"2")],
    ],
    ids=["file-then-folder", "folder-then-file", "deep"],
)
def test_paths_that_get_in_each_others_way_cost_nobody_else(
    course: Path, notebook: bytes, tmp_path, files
) -> None:
    path = tmp_path / "canvas.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ada_1_10_x.zip", downloads.zipped(files))
        archive.writestr(f"bob_2_11_{LAB}.ipynb", notebook)
        archive.writestr(f"eve_3_{'9' * 5000}_{LAB}.ipynb", notebook)
    rows = gather(course, path)
    assert placed(course) == {"bob": notebook}
    kept = set(tree(course).values())
    assert all(content in kept or "too many folders" in rows["ada"].done for _, content in files)


def test_somebody_in_two_sections_is_one_student(course: Path, notebook: bytes, tmp_path) -> None:
    path, people = download("canvas", tmp_path, [one(files=[(f"{LAB}.ipynb", notebook)])])
    line = next(line for line in people.read_text().splitlines() if "Lovelace" in line)
    people.write_text(people.read_text() + line.replace("Tuesday", "Friday") + "\n")
    assert set(gather(course, path, people=people)) == {"login1"}
