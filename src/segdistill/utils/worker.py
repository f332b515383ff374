"""Functions in processes of their own, which run one at a time.

Anything that shares a process with timed code slows it down: idle threads spin, and other code determines the memory
layout.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from segdistill.utils.interruption import in_one_piece

STOP_TIMEOUT_S = 10
Serve = Callable[[Any], Any]


class SubprocessError(RuntimeError):
    """A worker process failed, died or hangs; the message begins with the worker's name.

    Attributes:
        reason: Description of the failure, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.reason = reason


# ProcessPoolExecutor tells neither signal, exit code nor a failed start's error, and waits for a call that hangs.
class SubprocessWorker:
    """Client of a process that answers requests; a context manager.

    Args:
        name: Name of the worker in error messages.
        build: Importable function (not a closure), called once in the process with `args`; returns the request handler.
        args: Picklable arguments of `build`.
        timeout_s: Seconds without an answer after which the process is considered hung and killed; None waits forever.
    """

    def __init__(self, name: str, build: Callable[..., Serve], *args: Any, timeout_s: float | None = None) -> None:
        self.name, self.timeout_s = name, timeout_s
        context = get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, build, args))

    def __enter__(self) -> SubprocessWorker:
        try:
            with in_one_piece():
                self._process.start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.close()  # the process ends when its connection closes
            self._process.join(STOP_TIMEOUT_S)
        self._kill()

    def _kill(self) -> None:
        if self._process.pid is not None:
            self._process.kill()
        self._connection.close()

    def wait_until_ready(self) -> None:
        """Wait until the function is built.

        Raises:
            SubprocessError: If building it fails.
        """
        self._receive()

    def call(self, request: Any) -> Any:
        """Send a request and return its answer.

        Raises:
            SubprocessError: If the function fails, or its process dies or hangs; the worker cannot be used afterwards.
        """
        with self._alive():
            self._connection.send(request)
        return self._receive()

    def _receive(self) -> Any:
        with self._alive():
            if not self._connection.poll(self.timeout_s):
                self._process.kill()
                raise SubprocessError(self.name, f"gave no answer within {self.timeout_s:g} s")
            answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise SubprocessError(self.name, str(answer)) from answer
        return answer

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):  # the other end of the connection is gone
            self._process.join(STOP_TIMEOUT_S)
            code = self._process.exitcode
            ended = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
            raise SubprocessError(self.name, f"its process {ended}") from None


def _serve(connection: Connection, build: Callable[..., Serve], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the caller
    try:
        serve = build(*args)
        connection.send("ready")
        while True:
            connection.send(serve(connection.recv()))
    except EOFError:  # the caller is gone
        return
    except Exception as error:
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
