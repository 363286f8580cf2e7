"""Reading the text of a file that somebody wrote with some editor, or saying why it can't be read."""

from __future__ import annotations

import codecs
from pathlib import Path

from overlay.errors import DocumentError
from overlay.memory.note import LARGEST_TEXT, without_control_characters

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_bytes(path: Path, *, is_one_note: bool = True) -> bytes:
    """The bytes of a file; of one that becomes one note, only if a note can hold as much.

    Raises:
        DocumentError: it can't be read, or is too large.
    """
    try:
        if is_one_note and (size := path.stat().st_size) > LARGEST_TEXT:
            raise DocumentError(
                path,
                None,
                f"this file has {size / 1e6:.0f} MB; a note takes {LARGEST_TEXT // 1_000_000} MB",
                "divide it into several files, such as one a chapter",
            )
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(path, None, f"this file can't be read: {error.strerror}", "check the path") from None


def decode(data: bytes, path: Path) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark; every line ends with a line feed.

    Raises:
        DocumentError: it is something else, such as a picture; the line is that of the first wrong byte.
    """
    return decode_exactly(data, path).replace("\r\n", "\n").replace("\r", "\n")


def decode_exactly(data: bytes, path: Path) -> str:
    """As `decode`, with the line ends that the file has."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    data = data[len(mark) :]
    if encoding == "utf-8" and (place := data.find(b"\0")) >= 0:
        raise DocumentError(
            path,
            data.count(b"\n", 0, place) + 1,
            "a NUL byte stands here, so this is a binary file",
            "take the file out, or save it as UTF-8 text",
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count("\n".encode(encoding), 0, error.start) + 1
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        raise DocumentError(path, line, f"this file is not {name} text ({error.reason})", "save it as UTF-8") from None


def check_characters(text: str, path: Path) -> None:
    """Raise DocumentError, with the line, if a control character stands in a file that becomes a note."""
    clean = without_control_characters(text)
    if clean != text:
        place = next(place for place, (one, other) in enumerate(zip(text, clean, strict=True)) if one != other)
        raise DocumentError(
            path,
            text.count("\n", 0, place) + 1,
            f"the control character U+{ord(text[place]):04X} stands here",
            "take it out; a binary file is no text",
        )
