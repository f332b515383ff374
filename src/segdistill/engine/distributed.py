"""A training in several processes, each with its share of every epoch."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, get_start_method, set_start_method
from multiprocessing.process import BaseProcess
from threading import Event, Thread
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from segdistill.utils.hardware import cpu_count
from segdistill.utils.interruption import in_one_piece

GRACE_S = 60  # in which a failed companion is noticed, as gloo does, and the run ends as any other that fails
log = logging.getLogger(__name__)
SET_HERE = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")


def is_externally_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Tells whether torchrun or Slurm has started every process of the training itself."""
    return "TORCHELASTIC_RUN_ID" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def is_rank_zero() -> bool:
    """Tells whether this process is the one that writes and speaks."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def launch_ranks(count: int, function: Callable[..., object], *args: Any) -> Iterator[None]:
    """Calls `function` in further processes, as ranks 1 and on, while the block does the same as rank 0.

    Lightning's own launcher runs the command line once more for every rank, which in a sweep would be all of its jobs.

    Args:
        count: Processes in all; with one, or where they are launched from outside, there are no companions.
        function: Importable, not a closure.
        args: Picklable.
    """
    if count == 1 or is_externally_launched():
        yield
        return
    threads, alone = max(1, cpu_count() // count), torch.get_num_threads()
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    context, processes, over = get_context("spawn"), [], Event()
    try:
        for rank in range(1, count):
            os.environ["LOCAL_RANK"] = str(rank)  # before its imports: Lightning asks for it there
            process = context.Process(target=_rank_main, args=(get_start_method(), threads, function, args))
            with in_one_piece():
                process.start()
                processes.append(process)
        os.environ["LOCAL_RANK"] = "0"
        torch.set_num_threads(threads)
        Thread(target=_watch, args=(processes, over), daemon=True).start()
        yield
        for process in processes:
            process.join()
    finally:
        over.set()
        for process in processes:
            process.kill()
            process.join()
        torch.set_num_threads(alone)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # the next job of a sweep has companions of its own
        for name in SET_HERE:
            os.environ.pop(name, None)


def _watch(processes: Sequence[BaseProcess], over: Event) -> None:
    """Ends this process if a companion has failed and it does not notice: a GPU would wait for the other one."""
    while not over.wait(1):
        failed = [process.exitcode for process in processes if process.exitcode]
        if failed and not over.wait(GRACE_S):
            log.error("another process of this training ended with code %d", failed[0])
            for process in processes:
                process.kill()
            os._exit(1)


def _rank_main(start_method: str, threads: int, function: Callable[..., object], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first process answers it, and ends this one
    set_start_method(start_method, force=True)  # for loader workers; a spawned process would spawn them, too
    torch.set_num_threads(threads)
    function(*args)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def lost_worker(error: BaseException) -> bool:
    """Tell whether an error is that of a process pool or a loader, one of whose processes was killed."""
    return isinstance(error, BrokenProcessPool) or str(error).startswith("DataLoader worker (pid")


class UnpaddedEvalDDPStrategy(DDPStrategy):
    """DDP that validates as one process would: no picture twice, and everywhere with the first process's buffers.

    `DistributedDataParallel.forward` exchanges buffers at every batch, so that processes with different numbers of
    batches would wait for each other for ever; here validation goes around it. For the same reason SIGTERM keeps the
    handler it has: Lightning's would broadcast from within the signal, at whatever exchange the others may be.
    """

    def setup(self, trainer: pl.Trainer) -> None:
        """Remembers the handler of SIGTERM, before Lightning sets its own."""
        self._on_sigterm = signal.getsignal(signal.SIGTERM)
        super().setup(trainer)

    def on_train_start(self) -> None:
        """Puts the handler of SIGTERM back."""
        super().on_train_start()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_test_start(self) -> None:
        """Puts the handler of SIGTERM back."""
        super().on_test_start()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_validation_start(self) -> None:
        """Exchanges the buffers once."""
        super().on_validation_start()
        for buffer in self.module.buffers():
            torch.distributed.broadcast(buffer, 0)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the step without the wrapper."""
        with self.precision_plugin.val_step_context():
            return self.module.validation_step(*args, **kwargs)

    @property
    def module(self) -> Any:
        """The LightningModule."""
        return self.lightning_module
