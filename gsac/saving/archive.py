"""SB3's zip files, checked before anything in them is unpickled.

The files that this package writes end in the archive's comment, ``gsac sha256 DIGEST``, where the digest is of all bytes
before it: whatever was changed, cut off or added is noticed. A file that SB3 itself wrote has no comment; there the
archive must end where it says, its directory must agree with its members, and their CRC-32 must be right.

A digest tells accidents, not intentions: whoever makes a file can make its digest. Load zip files of people whose code
you would run, and take :mod:`gsac.saving.weights` for all others.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

END = b"PK\x05\x06"
END_SIZE = 22
DIGEST_SIZE = 64
COMMENT = b"gsac sha256 "
SEAL = struct.pack("<H", len(COMMENT) + DIGEST_SIZE) + COMMENT
"""The comment's length, which the archive's last record ends with, and the comment as far as the digest."""


def sealed(archive: bytes) -> bytes:
    """A zip archive without a comment, with its digest as its comment. Any program still reads it."""
    assert _ends_without_comment(archive)
    whole = archive[:-2] + SEAL
    return whole + _digest(whole)


def checked(archive: bytes, name: str | Path, members: Iterable[str], kind: str, advice: str) -> io.BytesIO:
    """The archive as it is, once it is known to be whole.

    :param name: of the file, for the error
    :param members: that it must have
    :param kind: what it should hold, such as "GSAC model", for the error
    :param advice: which file to pass, for the error
    :raises ValueError: the archive is damaged, or holds something else
    """
    if not archive.startswith(b"PK"):
        what = "it is not a zip file" if archive else "it is empty"
        raise ValueError(f"{name} holds no {kind}: {what}. {advice}")
    if archive[:-DIGEST_SIZE].endswith(SEAL):
        if archive[-DIGEST_SIZE:] != _digest(archive[:-DIGEST_SIZE]):
            raise ValueError(f"{name} is damaged: its SHA-256 is not the one that was written at its end.")
    elif not _ends_without_comment(archive):
        raise ValueError(
            f"{name} is damaged: a zip file with a {kind} does not end like this. It may have been cut off."
        )
    found = _members(archive, name)
    missing = sorted(set(members) - found)
    if missing:
        raise ValueError(f"{name} holds no {kind}: {', '.join(missing)} is missing among {sorted(found)}.")
    return io.BytesIO(archive)


def _members(archive: bytes, name: str | Path) -> set[str]:
    """The names of all members, each of which has been read."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            damaged = file.testzip()
            names = file.namelist()
    except Exception as error:  # whatever a wrong byte in a directory leads to: zlib, struct and codecs have their own
        raise ValueError(f"{name} is damaged: {error}.") from None
    if damaged is not None:
        raise ValueError(f"{name} is damaged: {damaged} in it has another CRC-32 than was written.")
    if len(set(names)) < len(names):
        raise ValueError(f"{name} is damaged: it has two members of one name.")
    return set(names)


def _ends_without_comment(archive: bytes) -> bool:
    return archive[-END_SIZE:].startswith(END) and archive[-2:] == b"\0\0"


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
