"""SIGTERM, as schedulers and containers send it: the run ends in order, says how to go on, and with code 143.

The exception is raised where the main thread is, as Ctrl-C's is, so that whatever has to be put away at the end of a
block is: other processes, half files, locks, loggers.
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
"""The shell's codes for Ctrl-C and SIGTERM."""


AGAIN_S = 10
"""After which an exception is raised once more: imports and finalizers may swallow one that comes from a signal."""


class Terminated(SystemExit):
    """Raised where SIGTERM arrives; unhandled, it ends the process with code 143."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


def _end_at_once(signum: int, frame: FrameType | None) -> None:
    sys.stderr.write("terminated\n")
    sys.stderr.flush()
    os._exit(TERMINATED)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Makes SIGTERM end the process in one line while the block runs: nothing has to be put away there.

    An exception would not be safe: one that interrupts an import leaves half a module behind, and may be swallowed.
    """
    before = signal.signal(signal.SIGTERM, _end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Makes SIGTERM raise `Terminated` while the block runs, unless somebody else answers it, as job schedulers do."""
    answered = signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _end_at_once)
    if answered or current_thread() is not main_thread():
        yield
        return
    owner = os.getpid()

    def end(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # forked, with this handler but none of what there is to put away
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
    """Lets SIGTERM wait for the end of the block: of a process that is half started nobody would know."""
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
    """Returns what ends the process with the shell's code; within a fit Lightning has made an exit of its own of it."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return SystemExit(INTERRUPTED)
    return Terminated()


def way_on(run_dir: Path, sweep_dir: Path | None = None) -> str:
    """Returns how an interrupted run goes on, and what it repeats.

    A training goes on after its last whole epoch: a checkpoint within an epoch would show the pictures of another
    shuffle, some of them twice and some not at all.

    Args:
        run_dir: Of the run.
        sweep_dir: Of the sweep that it is a job of.
    """
    whole = (run_dir / "checkpoints" / "last.ckpt").is_file()
    repeated = "after the last whole epoch" if whole else "from the first epoch, because none was finished"
    if sweep_dir is not None:
        return f"interrupted; the same command with hydra.sweep.dir={sweep_dir} goes on, in this job {repeated}"
    return f"interrupted; python train.py resume={run_dir} goes on {repeated}"
