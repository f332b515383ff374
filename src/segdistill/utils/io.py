"""Files that are written whole or not at all."""

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
"""A full disk, a quota that is used up, a file that is larger than a process may write."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path for a file or folder that takes its final name only if the block succeeds."""
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
        _remove(temporary)


def _remove_leftovers(path: Path, host: str) -> None:
    """Remove temporary files of processes that were killed; another machine's may be alive."""
    for left in path.parent.glob(f".{glob.escape(host)}.*.{glob.escape(path.name)}"):
        number = left.name.removeprefix(f".{host}.").partition(".")[0]
        if number.isdigit() and (int(number) == os.getpid() or not _is_alive(int(number))):
            _remove(left)


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere the signal 0 is none of no effect
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds; an empty one where there is none, or it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented JSON; NaN is not JSON and raises ValueError."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk that `error` is or was raised from; None where there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error
        error = error.__cause__ or error.__context__
    return None
