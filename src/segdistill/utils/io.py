"""Write files completely or not at all."""

from __future__ import annotations

import errno
import glob
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors for a full disk, an exhausted quota, and a file that is larger than a process may write."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which gets its final name only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host = platform.node().replace(".", "-")
    _remove_leftovers(path, host)
    temporary = path.with_name(f".{host}.{os.getpid()}.{path.name}")
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        remove(temporary)


def _remove_leftovers(path: Path, host: str) -> None:
    """Remove temporary files of killed processes on this host; those of other hosts may still be in use."""
    for left in path.parent.glob(f".{glob.escape(host)}.*.{glob.escape(path.name)}"):
        number = left.name.removeprefix(f".{host}.").partition(".")[0]
        if number.isdigit() and (int(number) == os.getpid() or not _is_alive(int(number))):
            remove(left)


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # on other systems, signal 0 would have an effect
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def read_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty if the file is missing, unreadable or holds something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; NaN is not valid JSON and raises ValueError."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the full-disk error that `error` is or was raised from; None if there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error
        error = error.__cause__ or error.__context__
    return None


def readable_bytes(size: float) -> str:
    """Return a number of bytes as text.

    Example:
        >>> readable_bytes(1.5e9), readable_bytes(250_000)
        ('1.5 GB', '0.2 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
