"""Text inside a message, compressed by bzip2 if that makes it shorter.

text       bool coded, bin data: the text itself if not coded

The receiver knows the exact size.  Coded data is one bzip2 stream, shorter than the
text.  A decoder accepts any such stream.
"""

import bz2

from fedprune.common.codec import checks
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import MAX_STRUCTURE

_LEVEL = 9  # blocks of 900 kB


def compress_text(text: bytes) -> tuple[bool, bytes]:
    """Return whether a text is coded, and the shorter of both forms."""
    found = bz2.compress(text, _LEVEL)
    return (True, found) if len(found) < len(text) else (False, text)


def read_text(field: str, size: object, coded: object, data: object) -> bytes:
    """Return a text of exactly the announced size; trust nothing in its fields.

    Raises:
        PayloadError: If it is too large, of another size, cut off or damaged, or if
            anything follows its stream.
    """
    expected = checks.integer(size, f"{field}.size", 0, MAX_STRUCTURE)
    found = checks.blob(data, field)
    if checks.boolean(coded, f"{field}.coded"):
        if len(found) >= expected:
            detail = f"{len(found)} coded bytes for {expected}; want fewer"
            raise PayloadError(Reason.BAD_SIZE, field, detail)
        found = _expand(found, expected, field)
    return checks.blob(found, field, expected)


def _expand(data: bytes, expected: int, field: str) -> bytes:
    """Return the text of one whole stream; stop one byte beyond the announced size."""
    stream = bz2.BZ2Decompressor()
    try:
        found = stream.decompress(data, max_length=expected + 1)
    except OSError as error:
        detail = f"not a bzip2 stream: {error}"
        raise PayloadError(Reason.BAD_VALUE, field, detail) from error
    if len(found) > expected:
        detail = f"more than the {expected} bytes that were announced"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    if not stream.eof:
        raise PayloadError(Reason.BAD_SIZE, field, "a bzip2 stream that is cut off")
    if stream.unused_data:
        detail = f"{len(stream.unused_data)} bytes after its bzip2 stream"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    return found
