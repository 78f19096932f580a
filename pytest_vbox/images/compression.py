"""Uncompressing, within bounds."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import shutil
import sys
import zlib
from pathlib import Path
from typing import IO, Final, cast

from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.report import Report
from pytest_vbox.printable import harmless

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["MAX_BYTES", "name_inside", "uncompress", "zstd"]

#: No disk that is unpacked may be larger.
MAX_BYTES: Final = 256 * 1024**3
_CHUNK: Final = 1024**2
_ROOM: Final = 64 * 1024**2  # left free on the disk
_ENDINGS: Final = frozenset({".gz", ".xz", ".zst", ".bz2", ".lzma"})


def uncompress(source: Path, kind: str, target: Path, report: Report, limit: int = MAX_BYTES) -> None:
    """Uncompress a file. Runs of zeros become holes.

    Args:
        source: The file.
        kind: ``gz``, ``xz``, ``zst`` or ``bz2``.
        target: The new file.
        report: Is told of progress.
        limit: How large the result may become, in bytes.

    Raises:
        ImageError: It is broken, too large, or there is no room.
    """
    what, done = f"uncompress {source.name}", 0
    limit = min(limit, max(0, shutil.disk_usage(target.parent).free - _ROOM))
    try:
        with _opened(source, kind) as packed, target.open("wb") as file:
            while chunk := packed.read(_CHUNK):
                done += len(chunk)
                if done > limit:
                    raise ImageError(
                        f"{source.name} becomes larger than {limit} bytes, the most that there is room for in "
                        f"{target.parent}. Make room there, or let XDG_CACHE_HOME name a folder elsewhere"
                    )
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), 1)
                else:
                    file.write(chunk)
                report(what, done, None)
            file.truncate(done)
    except ImageError:
        target.unlink(missing_ok=True)
        raise
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ImageError(f"no space left in {target.parent} to uncompress {source.name}") from error
        raise ImageError(f"{source.name} cannot be uncompressed: {error}") from harmless(error)
    except (EOFError, lzma.LZMAError, zlib.error, ValueError, zstd.ZstdError) as error:
        target.unlink(missing_ok=True)
        raise ImageError(f"{source.name} is broken, or was cut off: {error}") from harmless(error)


def name_inside(name: str) -> str:
    """The name of what a compressed file holds: without the last ending, if it is one of compression."""
    path = Path(name)
    if path.suffix.lower() in _ENDINGS:
        return path.stem
    return name


def _opened(source: Path, kind: str) -> IO[bytes]:
    match kind:
        case "gz":
            return cast("IO[bytes]", gzip.open(source, "rb"))
        case "xz":
            return cast("IO[bytes]", lzma.open(source, "rb"))
        case "bz2":
            return cast("IO[bytes]", bz2.open(source, "rb"))
    return cast("IO[bytes]", zstd.open(source, "rb"))
