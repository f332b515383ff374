"""Training in several processes, each with its share of every epoch."""

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

GRACE_S = 60  # seconds to notice a failed rank, as gloo does, so that the run ends like any other that fails
log = logging.getLogger(__name__)
SET_HERE = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")


def is_externally_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether torchrun or Slurm has started every process of the training."""
    return "TORCHELASTIC_RUN_ID" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def is_rank_zero() -> bool:
    """Return whether this process is the one that writes files and logs."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def launch_ranks(count: int, function: Callable[..., object], *args: Any) -> Iterator[None]:
    """Call `function` in further processes, as ranks 1 and up, while the block does the same as rank 0.

    Lightning's own launcher reruns the command line for every rank, which in a sweep would repeat all of its jobs.

    Args:
        count: Total number of processes; for one, or under an external launcher, nothing is started.
        function: Importable function, not a closure.
        args: Picklable arguments of `function`.
    """
    if count == 1 or is_externally_launched():
        yield
        return
    threads, alone = max(1, cpu_count() // count), torch.get_num_threads()
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    context, processes, over = get_context("spawn"), [], Event()
    try:
        for rank in range(1, count):
            os.environ["LOCAL_RANK"] = str(rank)  # before its imports, because Lightning reads it there
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
            torch.distributed.destroy_process_group()  # the next job of a sweep starts its own ranks
        for name in SET_HERE:
            os.environ.pop(name, None)


def _watch(processes: Sequence[BaseProcess], over: Event) -> None:
    """End this process if another rank has failed and this one does not notice: a GPU would wait for it."""
    while not over.wait(1):
        failed = [process.exitcode for process in processes if process.exitcode]
        if failed and not over.wait(GRACE_S):
            log.error("another process of this training ended with code %d", failed[0])
            for process in processes:
                process.kill()
            os._exit(1)


def _rank_main(start_method: str, threads: int, function: Callable[..., object], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rank zero handles it, and ends this process
    set_start_method(start_method, force=True)  # for loader workers, which a spawned process would spawn as well
    torch.set_num_threads(threads)
    function(*args)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def lost_worker(error: BaseException) -> bool:
    """Return whether an error means that a process of a process pool or of a loader was killed."""
    return isinstance(error, BrokenProcessPool) or str(error).startswith("DataLoader worker (pid")


class UnpaddedEvalDDPStrategy(DDPStrategy):
    """DDP that validates like a single process: no image twice, and all ranks with the buffers of rank zero.

    `DistributedDataParallel.forward` synchronises buffers at every batch, so that processes with different numbers of
    batches would wait for each other forever; here validation bypasses it. For the same reason SIGTERM keeps its
    handler: Lightning's would broadcast from within the signal, whatever the other processes exchange at that moment.
    """

    def setup(self, trainer: pl.Trainer) -> None:
        """Save the SIGTERM handler before Lightning sets its own."""
        self._on_sigterm = signal.getsignal(signal.SIGTERM)
        super().setup(trainer)

    def on_train_start(self) -> None:
        """Restore the SIGTERM handler."""
        super().on_train_start()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_test_start(self) -> None:
        """Restore the SIGTERM handler."""
        super().on_test_start()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_validation_start(self) -> None:
        """Broadcast the buffers of rank zero once."""
        super().on_validation_start()
        for buffer in self.module.buffers():
            torch.distributed.broadcast(buffer, 0)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run the step without the DDP wrapper."""
        with self.precision_plugin.val_step_context():
            return self.module.validation_step(*args, **kwargs)

    @property
    def module(self) -> Any:
        """The LightningModule, without the DDP wrapper."""
        return self.lightning_module
