"""Functions in processes of their own, which take turns.

What shares a process with something timed slows it down: idle threads spin, and memory is laid out by the other one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from segdistill.interruption import in_one_piece

STOP_TIMEOUT_S = 10
Serve = Callable[[Any], Any]


class Worker:
    """The caller's end of a process that answers requests; a context manager.

    Args:
        name: For its errors.
        build: Called once in the process with `args`; returns the function that answers. Importable, not a closure.
        args: Picklable.
    """

    def __init__(self, name: str, build: Callable[..., Serve], *args: Any) -> None:
        self.name = name
        context = get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, build, args))

    def __enter__(self) -> Worker:
        try:
            with in_one_piece():
                self._process.start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.close()  # the process ends when nobody asks any more
            self._process.join(STOP_TIMEOUT_S)
        self._kill()

    def _kill(self) -> None:
        if self._process.pid is not None:
            self._process.kill()
        self._connection.close()

    def wait_until_ready(self) -> None:
        """Returns when the function is built.

        Raises:
            RuntimeError: If that fails; names the worker and says what happened.
        """
        self._receive()

    def ask(self, request: Any) -> Any:
        """Returns the answer to a request.

        Raises:
            RuntimeError: If the function fails; names the worker and says what happened.
        """
        self._connection.send(request)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join(STOP_TIMEOUT_S)
            raise RuntimeError(f"{self.name}: its process ended with code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise RuntimeError(f"{self.name}: {answer}") from answer
        return answer


def _serve(connection: Connection, build: Callable[..., Serve], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to answer
    try:
        serve = build(*args)
        connection.send("ready")
        while True:
            connection.send(serve(connection.recv()))
    except EOFError:  # the caller is gone
        return
    except Exception as error:
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
