"""What a download of submissions holds: zips and unpacked folders, read without trusting them."""

import io
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO
from zoneinfo import ZoneInfo

MOST_BYTES = 64 * 2**20  # of one file
MOST_BYTES_TOGETHER = 256 * 2**20  # of all that one student handed in, unpacked
MOST_RATIO = 200  # what a file of more than 8 MiB may grow by
MOST_FILES = 2000  # of one student
MOST_DEPTH = 3  # of zips within zips
MOST_PATH = 1000  # bytes of a path within what one student handed in
JUNK = re.compile(r"__MACOSX|\.DS_Store|Thumbs\.db|desktop\.ini|\.ipynb_checkpoints|\._.*")
UNOPENED = (".7z", ".rar", ".tar", ".gz", ".bz2", ".xz")


class ArchiveError(Exception):
    """A download can't be used; the message names the file and says what to do."""


class Unreadable(Exception):
    """One entry can't be used; the message is why, as the end of a sentence."""


@dataclass(frozen=True)
class Entry:
    """A file in a download.

    Attributes:
        path: its parts, put right where it was written in another encoding.
        time: its time in the download; that needn't be when it was handed in.
        size: in bytes, as the download claims.
        refusal: why it isn't to be read, if so.
    """

    path: tuple[str, ...]
    time: datetime | None
    size: int
    open: Callable[[], IO[bytes]]
    refusal: str = ""
    compressed: int = 0

    @property
    def name(self) -> str:
        return "/".join(self.path)

    def read(self, most: int = MOST_BYTES) -> bytes:
        """The file's content, of which no more than `most` bytes are ever unpacked.

        Raises:
            Unreadable: it is refused, too large or damaged.
        """
        if self.refusal:
            raise Unreadable(self.refusal)
        try:
            with self.open() as file:
                content = file.read(most + 1)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise Unreadable(f"is damaged ({error}): download it again") from error
        if len(content) > most:
            raise Unreadable(f"unpacks to more than {most // 2**20} MiB: look at it by hand")
        if self.compressed and len(content) > max(8 * 2**20, MOST_RATIO * self.compressed):
            raise Unreadable(
                f"unpacks to {len(content) // self.compressed} times its size: look at it by hand"
            )
        return content


def read_archive(path: Path, zone: ZoneInfo) -> list[Entry]:
    """The files in a zip, or in a folder that one was unpacked to.

    Args:
        zone: of the times in a zip that don't say theirs.

    Raises:
        ArchiveError: it is neither, or the zip is damaged.
    """
    if path.is_dir():
        return _folder(path)
    try:
        return zip_entries(zipfile.ZipFile(path), zone)
    except OSError as error:
        raise ArchiveError(f"{path} can't be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ArchiveError(
            f"{path} is no zip, or a damaged one ({error}): download it again, and name the zip or"
            " the folder that you unpacked it to"
        ) from error


def _reader(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _folder(folder: Path) -> list[Entry]:
    entries = []
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(root, name)
            facts = path.lstat()
            refusal = "" if stat.S_ISREG(facts.st_mode) else "is a link or no regular file"
            parts = tuple(unicodedata.normalize("NFC", p) for p in path.relative_to(folder).parts)
            time = datetime.fromtimestamp(facts.st_mtime, UTC)
            entries.append(Entry(parts, time, facts.st_size, _reader(path), refusal))
    return sorted(entries, key=lambda entry: entry.path)


def zip_entries(archive: zipfile.ZipFile, zone: ZoneInfo) -> list[Entry]:
    """A zip's files, in its order; with a refusal where they aren't to be read."""
    entries = []
    for info in archive.infolist():
        name, time = _name(info), _time(info, zone)
        if name.endswith(("/", "\\")):
            continue
        parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
        refusal = ""
        if not parts or ".." in parts or name[0] in "/\\" or re.match(r"[A-Za-z]:[/\\]", name):
            refusal = "has a path that leads out of its folder, which no honest download has"
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            refusal = "is a link, not a file: ask for the file itself"
        elif info.flag_bits & 1:
            refusal = "is encrypted: ask for it without a password"
        elif info.file_size > MOST_BYTES:
            refusal = f"claims more than {MOST_BYTES // 2**20} MiB: look at it by hand"
        entries.append(
            Entry(
                parts,
                time,
                info.file_size,
                partial(archive.open, info),
                refusal,
                info.compress_size,
            )
        )
    return entries


def _extra(info: zipfile.ZipInfo) -> dict[int, bytes]:
    """A zip entry's extra fields, by their number."""
    fields, rest = {}, info.extra
    while len(rest) >= 4:
        number, size = int.from_bytes(rest[:2], "little"), int.from_bytes(rest[2:4], "little")
        fields[number], rest = rest[4 : 4 + size], rest[4 + size :]
    return fields


def _name(info: zipfile.ZipInfo) -> str:
    """An entry's name in NFC, put right where the zip didn't say how it was encoded."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        raw = name.encode("cp437")
        unicode_path = _extra(info).get(0x7075, b"")
        if unicode_path[:1] == b"\x01" and unicode_path[1:5] == zlib.crc32(raw).to_bytes(
            4, "little"
        ):
            raw = unicode_path[5:]
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            # DOS's characters, or Windows's: the one in which it reads as Latin letters.
            readings = [name, raw.decode("cp1252", "replace")]
            name = max(readings, key=_latin)
    return unicodedata.normalize("NFC", name.replace("\0", "_"))


def _latin(text: str) -> int:
    """How many of a text's characters beyond ASCII are Latin letters."""
    return sum(unicodedata.name(c, "").startswith("LATIN") for c in text if ord(c) > 127)


def _time(info: zipfile.ZipInfo, zone: ZoneInfo) -> datetime | None:
    stamp = _extra(info).get(0x5455, b"")
    if len(stamp) >= 5 and stamp[0] & 1:
        return datetime.fromtimestamp(int.from_bytes(stamp[1:5], "little"), UTC)
    try:
        return datetime(*info.date_time, tzinfo=zone)
    except ValueError:
        return None


def times_are_hand_ins(entries: list[Entry]) -> bool:
    """Whether a download's times can be those of handing in.

    Canvas and Moodle stamp each file with the moment at which they put it into the zip, so the
    times follow the order of the files, or all lie within the hour that making it took at most.
    Times of handing in are spread, and in no order.
    """
    times = [entry.time for entry in entries if entry.time is not None]
    spread = (max(times) - min(times)).total_seconds() if times else 0
    return spread > 3600 and times != sorted(times)


@dataclass
class Unpacked:
    """What one student handed in: files by their safe path, and notes on what was left out."""

    files: dict[str, bytes]
    notes: list[str]

    def add(self, path: tuple[str, ...], content: bytes) -> None:
        """Keeps a file, under another name where its own is taken.

        Raises:
            Unreadable: that would be too many, or too much.
        """
        together = sum(map(len, self.files.values())) + len(content)
        if together > MOST_BYTES_TOGETHER or len(self.files) >= MOST_FILES:
            raise Unreadable("holds more than anybody needs to hand in: look at it by hand")
        safe = "/".join(safe_name(part) for part in path)
        if len(safe.encode()) > MOST_PATH:
            raise Unreadable("lies too many folders deep: look at it by hand")
        free = free_name(safe, self.files)
        if free != safe:
            self.notes.append(f"{'/'.join(path)} came more than once: also kept as {free}")
        self.files[free] = content


def unpack(
    path: tuple[str, ...], entry: Entry, zone: ZoneInfo, unpacked: Unpacked, depth: int = 0
) -> None:
    """Adds a file that a student handed in to what is unpacked, opening zips.

    Args:
        path: what to call it: the student's own name for it.
        zone: see `read_archive`.
        depth: how many zips it lies in.
    """
    if any(JUNK.fullmatch(part) for part in path):
        if depth == 0:
            unpacked.notes.append(f"{'/'.join(path)} is a computer's own, left out")
        return
    name = "/".join(path)
    try:
        content = entry.read()
        if path[-1].casefold().endswith(UNOPENED):
            unpacked.notes.append(f"{name} isn't a zip, so it wasn't opened: look into it by hand")
        elif path[-1].casefold().endswith(".zip") and zipfile.is_zipfile(io.BytesIO(content)):
            if depth == MOST_DEPTH:
                raise Unreadable("is a zip within a zip within a zip: look into it by hand")
            inner = zip_entries(zipfile.ZipFile(io.BytesIO(content)), zone)
            if len(inner) > MOST_FILES:
                raise Unreadable("holds more files than anybody needs: look into it by hand")
            for part in inner:
                unpack((*path[:-1], path[-1][:-4], *part.path), part, zone, unpacked, depth + 1)
            return
        unpacked.add(path, content)
    except (Unreadable, zipfile.BadZipFile, ValueError) as error:
        unpacked.notes.append(f"{name} {error}")


def safe_name(part: str) -> str:
    """A part of a path as a file's name anywhere: nothing hidden, no signs that systems mind."""
    cleaned = "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in part).strip()
    cleaned = cleaned.lstrip(".").rstrip(". ") or "_"
    while len(cleaned.encode()) > 180:
        stem, dot, suffix = cleaned.rpartition(".")
        cleaned = f"{stem[:-8]}{dot}{suffix}" if stem[:-8] else cleaned[:60]
    return cleaned


def free_name(name: str, files: Collection[str]) -> str:
    """A path that can stand beside some files, in systems that mind case or don't: with a number
    where one of them has its name, or is a folder's name on its way, or lies below it."""
    taken = {file.casefold() for file in files}
    folders = {str(above) for file in taken for above in PurePosixPath(file).parents}
    path = PurePosixPath(name)
    above = list(path.parts[:-1])
    for level in range(len(above)):
        while "/".join(above[: level + 1]).casefold() in taken:
            above[level] += " (2)"
    path, count = PurePosixPath(*above, path.name), 1
    free = path
    while str(free).casefold() in taken | folders:
        count += 1
        free = path.with_name(f"{path.stem} ({count}){path.suffix}")
    return str(free)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)
