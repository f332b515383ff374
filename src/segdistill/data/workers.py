"""Loader processes: how many there are, and what they leave unsaid."""

from __future__ import annotations

import sys
from types import TracebackType

import torch

from segdistill.utils.hardware import cpu_count

MAX_WORKERS = 8


def quiet_when_abandoned(worker_id: int) -> None:
    """Suppress the traceback of a loader worker whose parent process ended while taking a batch."""
    report = sys.excepthook  # also called by multiprocessing's thread that hands over tensors

    def report_unless_abandoned(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ConnectionError):
            report(kind, error, trace)

    sys.excepthook = report_unless_abandoned


def default_workers(processes: int = 1) -> int:
    """Return the number of loader workers per process, at most eight: all its cores with a GPU, else half of them."""
    cores = max(1, cpu_count() // processes)
    return min(MAX_WORKERS, cores if torch.cuda.is_available() else max(1, cores // 2))
