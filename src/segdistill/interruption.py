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
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""The shell's codes for Ctrl-C and SIGTERM."""


class Terminated(SystemExit):
    """Raised where SIGTERM arrives; unhandled, it ends the process with code 143.

    Attributes:
        told: Whether the user has heard of it, and how to go on.
    """

    told = False

    def __init__(self) -> None:
        super().__init__(TERMINATED)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM raise `Terminated` in the main thread while the block runs; says so if nobody else did."""
    owner = os.getpid()

    def end(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # forked, with this handler but none of what there is to put away
            os._exit(TERMINATED)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Terminated as terminated:
        if not terminated.told:
            sys.stderr.write("terminated\n")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def as_exit(error: SystemExit | KeyboardInterrupt) -> SystemExit:
    """Returns what ends the process with the shell's code; within a fit Lightning has made an exit of its own of it."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return SystemExit(INTERRUPTED)
    terminated = Terminated()
    terminated.told = True
    return terminated


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
