"""Text files whose encoding nobody tells."""

from __future__ import annotations

from pathlib import Path

from workflows.model.errors import PermanentError

MAX_FILE_BYTES = 500_000_000

_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def read_text(path: Path) -> str:
    r"""The text of a file, with `\n` line ends: UTF-8, UTF-16 by its mark, or else Windows' Western European.

    Raises:
        PermanentError: it cannot be read, or is larger than `MAX_FILE_BYTES`.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PermanentError(f"{path} is larger than {MAX_FILE_BYTES // 1_000_000} MB; split it")
        content = path.read_bytes()
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    return _decoded(content).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
