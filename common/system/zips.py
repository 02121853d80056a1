"""Members of zip archives from outside: unpacked only where that can be bounded."""

from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo


def check_method(entry: ZipInfo) -> None:
    """Refuse a member that ``zipfile`` unpacks without looking at its size.

    Bytes of bzip2 and LZMA are handed to the decompressor block by block, and a block
    of a few bytes may become gigabytes; what is deflated is read piece by piece.

    Raises:
        ValueError: If the member is neither stored nor deflated.
    """
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        msg = f"it is compressed by method {entry.compress_type} of zip; want stored"
        msg += " or deflated"
        raise ValueError(msg)
