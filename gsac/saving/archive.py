"""Checks zip files of SB3's format for damage before anything in them is unpickled.

Files that this package writes end with the archive's comment ``gsac sha256 DIGEST``, the digest of all bytes before it,
so that every change is detected. Files that SB3 wrote have no comment: the archive must be complete, its directory must
agree with its members, and their CRC-32 must be right.

The digest detects damage and does not prove who made the file. Load zip files only from people whose code you would run;
for all others use :mod:`gsac.saving.weights`.
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
END_BEFORE_DIGEST = struct.pack("<H", len(COMMENT) + DIGEST_SIZE) + COMMENT
"""The end of an archive with a digest, without the digest: the comment's length, and the comment before the digest."""


def add_digest(archive: bytes) -> bytes:
    """Appends the digest to a zip archive as its comment, which other programs ignore."""
    assert _ends_without_comment(archive)
    whole = archive[:-2] + END_BEFORE_DIGEST
    return whole + _digest(whole)


def open_checked(archive: bytes, name: str | Path, members: Iterable[str], kind: str, advice: str) -> io.BytesIO:
    """Raises an error if the archive is damaged or lacks members; otherwise returns it as a file.

    :param name: of the file, for errors
    :param members: that it must have
    :param kind: what it should hold, such as "GSAC model", for errors
    :param advice: a sentence that says which file to pass, for errors
    :raises ValueError: the archive is damaged, or holds something else
    """
    if not archive.startswith(b"PK"):
        what = "it is not a zip file" if archive else "it is empty"
        raise ValueError(f"{name} holds no {kind}: {what}. {advice}")
    if archive[:-DIGEST_SIZE].endswith(END_BEFORE_DIGEST):
        if archive[-DIGEST_SIZE:] != _digest(archive[:-DIGEST_SIZE]):
            raise ValueError(f"{name} is damaged: its SHA-256 is not the one that was written at its end.")
    elif not _ends_without_comment(archive):
        raise ValueError(
            f"{name} is damaged: it ends neither as a zip file without a comment nor with a digest. It may be cut off."
        )
    found = _members(archive, name)
    missing = sorted(set(members) - found)
    if missing:
        raise ValueError(f"{name} holds no {kind}: {', '.join(missing)} is missing among {sorted(found)}.")
    return io.BytesIO(archive)


def _members(archive: bytes, name: str | Path) -> set[str]:
    """The names of all members, after reading each and comparing its CRC-32.

    :raises ValueError: the archive or a member is damaged
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            damaged = file.testzip()
            names = file.namelist()
    except Exception as error:  # a wrong byte in the directory may raise errors of zlib, struct, codecs and others
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
