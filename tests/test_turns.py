"""Workers: answers from another process, and errors that say whose."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import pytest

from segdistill.turns import Worker


def divider(dividend: int) -> Callable[[int], tuple[float, int]]:
    if dividend < 0:
        raise ValueError("the dividend is negative")
    return lambda divisor: (dividend / divisor, os.getpid())


def leaver() -> Callable[[int], None]:
    return os._exit


def test_a_worker_answers_from_its_own_process_until_it_is_left() -> None:
    with Worker("divider", divider, 6) as worker:
        worker.wait_until_ready()
        answers = [worker.ask(2), worker.ask(4)]
    assert [answer for answer, _ in answers] == [3.0, 1.5]
    assert len({process for _, process in answers} - {os.getpid()}) == 1
    assert not multiprocessing.active_children()


def test_errors_name_the_worker_and_what_happened() -> None:
    with Worker("divider", divider, -1) as worker, pytest.raises(RuntimeError, match="divider: ValueError: the divid"):
        worker.wait_until_ready()
    with Worker("divider", divider, 1) as worker:
        worker.wait_until_ready()
        with pytest.raises(RuntimeError, match="divider: ZeroDivisionError"):
            worker.ask(0)
    with Worker("leaver", leaver) as worker:
        worker.wait_until_ready()
        with pytest.raises(RuntimeError, match="leaver: its process ended with code 3"):
            worker.ask(3)
