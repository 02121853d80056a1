"""Members of untrusted zip archives: decompressed only by methods with a size bound."""

from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo


def check_method(entry: ZipInfo) -> None:
    """Refuse a member that ``zipfile`` decompresses without a size bound.

    It decompresses bzip2 and LZMA block by block, and a block of a few bytes may become
    gigabytes; a deflated member is read piece by piece.

    Raises:
        ValueError: If the member is neither stored nor deflated.
    """
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        msg = f"it is compressed by method {entry.compress_type} of zip; want stored"
        msg += " or deflated"
        raise ValueError(msg)
