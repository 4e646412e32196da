"""The bytes and characters of a corpus's files: unpacked within bounds, UTF-8 only, and errors that name the file."""

from __future__ import annotations

import contextlib
import gzip
import io
from bz2 import BZ2File
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import pyarrow as pa

from lab.errors import InputError, brief
from lab.text.files import MOST_UNPACKED, File
from lab.text.formats.marks import ESCAPED, MARK_BYTES, Marks, Unmarked

CHUNK = 1 << 20
"""Bytes that are unpacked at one time."""
HEAD_BYTES = 512
"""Bytes that tell what a file is."""
ARCHIVES = {
    "zip archive": (0, b"PK\x03\x04"),
    "gzip archive": (0, b"\x1f\x8b"),
    "bzip2 archive": (4, b"1AY&SY"),
    "xz archive": (0, b"\xfd7zXZ"),
    "zstd archive": (0, b"\x28\xb5\x2f\xfd"),
    "lz4 archive": (0, b"\x04\x22\x4d\x18"),
    "7z archive": (0, b"7z\xbc\xaf\x27\x1c"),
    "rar archive": (0, b"Rar!\x1a"),
    "tar archive": (257, b"ustar"),
    "file of UTF-16 or UTF-32": (0, b"\xff\xfe"),
    "file of UTF-16": (0, b"\xfe\xff"),
    "file of UTF-32": (0, b"\x00\x00\xfe\xff"),
}
"""What is no UTF-8 text, whatever its name -> the offset and the bytes that tell it."""


@contextlib.contextmanager
def one_line_errors(file: File) -> Iterator[None]:
    """Turn any error of a reader into an InputError that names the file."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except UnicodeDecodeError as error:
        raise InputError(_where_no_utf8(file, error)) from None
    except Exception as error:
        name = type(error).__name__
        raise InputError(f"corpus file {file.path} cannot be read: {name}: {brief(error, 200)}") from error


def _where_no_utf8(file: File, error: UnicodeDecodeError) -> str:
    """Return the message for a file that is not UTF-8, with the line."""
    place = ""
    with _unpacked(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                place, error = f" at line {number:,}, byte {found.start + 1:,} of it", found
                break
    byte = error.object[error.start]
    return (
        f"corpus file {file.path} cannot be read: it is not UTF-8 (byte 0x{byte:02x}{place}); save it as UTF-8, such "
        "as with iconv -f LATIN1 -t UTF-8"
    )


class _Unpacked(io.RawIOBase):
    """The bytes of a packed file. Raise InputError where they are far more than text would be."""

    def __init__(self, file: File) -> None:
        openers: dict[str, Callable[[str], Any]] = {"gzip": gzip.open, "bz2": BZ2File, "zstd": _open_zstd}
        self.file, self.left = file, file.most_bytes
        self.source = openers[file.packing or ""](str(file.path))

    def readable(self) -> bool:
        """Return True: it is read from."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes into a buffer, and return how many."""
        data = self.source.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise InputError(
                f"corpus file {self.file.path} unpacks to more than {MOST_UNPACKED} times its size, which text does "
                "not: if you trust it, unpack it and give what is in it"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the packed file."""
        self.source.close()
        super().close()


def _open_zstd(path: str) -> Any:
    return pa.CompressedInputStream(pa.OSFile(path), "zstd")


def _unpacked(file: File) -> io.BufferedReader:
    if file.packing is None:
        return file.path.open("rb")
    return io.BufferedReader(_Unpacked(file), CHUNK)


@contextlib.contextmanager
def opened(file: File, marks: Marks) -> Iterator[TextIO]:
    """Open a file as UTF-8 text without byte order marks. Those after its start are counted.

    Line ends of plain text become newlines. In the other formats they may be a part of a value.

    Raises:
        InputError: the file begins as an archive or another encoding does.
    """
    with _unpacked(file) as binary:
        head = binary.peek(HEAD_BYTES)[:HEAD_BYTES]
        kind = next((kind for kind, (at, magic) in ARCHIVES.items() if head[at:].startswith(magic)), None)
        if kind is None and head.count(0) > len(head) // 4:
            kind = "file of UTF-16 or of other binary data"
        if kind:
            todo = "unpack it and give what is in it" if "archive" in kind else "save it as UTF-8"
            raise InputError(f"corpus file {file.path} cannot be read: it is a {kind}, not {_ends(file)}: {todo}")
        lines = {"text": None, "json": "\n"}.get(file.format, "")
        with Unmarked(binary, lines, marks) as stream:
            yield stream


def marked(file: File) -> bool:
    """Return whether a file of text, JSON, CSV or TSV holds a byte order mark after its start.

    In JSON one may be spelled as an escape. All of it is read, and unpacked where it is packed.
    """
    with _unpacked(file) as binary:
        before = binary.read(len(MARK_BYTES)).removeprefix(MARK_BYTES)
        while chunk := binary.read(CHUNK):
            part = before + chunk
            if MARK_BYTES in part or (file.format == "json" and ESCAPED in part.lower()):
                return True
            before = part[1 - len(ESCAPED) :]
    return False


def _ends(file: File) -> str:
    """Return the ends of a file's name."""
    return "".join(file.path.suffixes[-2 if file.packing else -1 :])
