"""Workers: answers from another process, and errors that say whose."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable

import pytest

from segdistill.utils.worker import SubprocessError, SubprocessWorker


def divider(dividend: int) -> Callable[[int], tuple[float, int]]:
    if dividend < 0:
        raise ValueError("the dividend is negative")
    return lambda divisor: (dividend / divisor, os.getpid())


def leaver() -> Callable[[int], None]:
    return os._exit


def dying() -> Callable[[int], None]:
    return lambda number: os.kill(os.getpid(), number)


def sleeper() -> Callable[[float], None]:
    return time.sleep


def test_a_worker_answers_from_its_own_process_until_it_is_left() -> None:
    with SubprocessWorker("divider", divider, 6) as worker:
        worker.wait_until_ready()
        answers = [worker.call(2), worker.call(4)]
    assert [answer for answer, _ in answers] == [3.0, 1.5]
    assert len({process for _, process in answers} - {os.getpid()}) == 1
    assert not multiprocessing.active_children()


def test_errors_name_the_worker_and_what_happened() -> None:
    with (
        SubprocessWorker("divider", divider, -1) as worker,
        pytest.raises(RuntimeError, match="divider: ValueError: the divid"),
    ):
        worker.wait_until_ready()
    with SubprocessWorker("divider", divider, 1) as worker:
        worker.wait_until_ready()
        with pytest.raises(RuntimeError, match="divider: ZeroDivisionError"):
            worker.call(0)
    with SubprocessWorker("leaver", leaver) as worker:
        worker.wait_until_ready()
        with pytest.raises(RuntimeError, match="leaver: its process ended with code 3"):
            worker.call(3)
        with pytest.raises(SubprocessError, match="leaver: its process ended with code 3"):  # nobody is there any more
            worker.call(3)


def test_a_killed_worker_names_the_signal() -> None:
    with SubprocessWorker("victim", dying) as worker:
        worker.wait_until_ready()
        with pytest.raises(SubprocessError, match="victim: its process was killed by SIGKILL") as raised:
            worker.call(signal.SIGKILL)
    assert raised.value.reason == "its process was killed by SIGKILL"


def test_a_worker_that_hangs_is_killed() -> None:
    with SubprocessWorker("sleeper", sleeper, timeout_s=60) as worker:
        worker.wait_until_ready()
        worker.timeout_s = 0.1
        with pytest.raises(SubprocessError, match=r"sleeper: gave no answer within 0\.1 s"):
            worker.call(3600)
        with pytest.raises(SubprocessError, match="sleeper: its process was killed by SIGKILL"):
            worker.call(0)
    assert not multiprocessing.active_children()
