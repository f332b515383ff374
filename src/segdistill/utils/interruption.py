"""Handle SIGTERM, as sent by schedulers and containers: the run cleans up, says how to resume, and exits with code 143.

The exception is raised in the main thread, like that of Ctrl-C, so that everything that a block has to release at its
end is released: other processes, partial files, locks, loggers.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes of the shell for Ctrl-C and SIGTERM."""


AGAIN_S = 10
"""Seconds after which the exception is raised again: imports and finalizers may swallow one raised by a signal."""


class Terminated(SystemExit):
    """Raised on SIGTERM; if unhandled, it ends the process with code 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


def _end_at_once(signum: int, frame: FrameType | None) -> None:
    sys.stderr.write("terminated\n")
    sys.stderr.flush()
    os._exit(TERMINATED)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Make SIGTERM end the process at once, with a one-line message, while the block runs.

    For blocks with nothing to clean up. An exception would not be safe there: one that interrupts an import leaves half
    a module behind, and may be swallowed.
    """
    before = signal.signal(signal.SIGTERM, _end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Make SIGTERM raise `Terminated` while the block runs, unless another handler is set, as by job schedulers."""
    answered = signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _end_at_once)
    if answered or current_thread() is not main_thread():
        yield
        return
    owner = os.getpid()

    def end(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked process inherits this handler, but has nothing to clean up
            os._exit(TERMINATED)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise Terminated

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def in_one_piece() -> Iterator[None]:
    """Delay SIGTERM until the end of the block, so that no half-started process is left behind unnoticed."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or current_thread() is not main_thread():
        yield
        return
    arrived: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: arrived.append(signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if arrived:
            os.kill(os.getpid(), signal.SIGTERM)


def as_exit(error: SystemExit | KeyboardInterrupt) -> SystemExit:
    """Convert an interruption to an exit with the shell's code; in a fit, Lightning turns Ctrl-C into its own exit."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return SystemExit(INTERRUPTED)
    return Terminated()


def way_on(run_dir: Path, sweep_dir: Path | None = None) -> str:
    """Return a message that says how to resume an interrupted run, and what it repeats.

    A training resumes after its last complete epoch: a checkpoint within an epoch would continue with the images of
    another shuffle, some of them twice and some not at all.

    Args:
        run_dir: Directory of the run.
        sweep_dir: Directory of the sweep, if the run is one of its jobs.
    """
    whole = (run_dir / "checkpoints" / "last.ckpt").is_file()
    repeated = "after the last whole epoch" if whole else "from the first epoch, because none was finished"
    if sweep_dir is not None:
        return f"interrupted; the same command with hydra.sweep.dir={sweep_dir} goes on, in this job {repeated}"
    return f"interrupted; python train.py resume={run_dir} goes on {repeated}"
