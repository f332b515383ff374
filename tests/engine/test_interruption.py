"""SIGTERM at any moment: code 143, one line that says how to go on, nothing half done under a final name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.runs import CROPS, NO_REPORT, TINY, command, finished, launched, temporaries, train, until

from segdistill.inference.segmenter import Segmenter
from segdistill.utils import interruption
from segdistill.utils.interruption import Terminated, as_exit, ending_in_order, in_one_piece, way_on

DEADLINE_S = 300
WITHOUT_TEACHER = [
    "distill=none",
    "student.fit.max_epochs=3",
    "student.fit.batch_size=2",
    "data.train=48",
    "data.limit=null",
    *NO_REPORT,
]


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)  # where Python looks for signals


def test_sigterm_is_an_exit_with_the_shells_code_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught, ending_in_order():
        send_sigterm()
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_exception_that_is_swallowed_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "AGAIN_S", 0.01)
    with pytest.raises(Terminated), ending_in_order():  # noqa: PT012 # what is raised again needs what was raised
        with contextlib.suppress(SystemExit):
            send_sigterm()
        signal.pause()


def test_sigterm_waits_for_the_end_of_in_one_piece() -> None:
    done = []
    with pytest.raises(Terminated), ending_in_order(), in_one_piece():  # noqa: PT012 # what comes after it is the point
        send_sigterm()
        done.append("all of it")
    assert done == ["all of it"]


def test_an_existing_sigterm_handler_is_kept() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with ending_in_order():
            send_sigterm()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_a_fit_that_ctrl_c_ended_has_the_code_of_ctrl_c() -> None:
    within_a_fit = SystemExit(1)
    within_a_fit.__context__ = KeyboardInterrupt()  # what Lightning raises it from
    ends = [as_exit(interrupted).code for interrupted in (KeyboardInterrupt(), within_a_fit, Terminated())]
    assert ends == [130, 130, 143]


def test_the_message_names_the_epoch_that_is_repeated(tmp_path: Path) -> None:
    assert way_on(tmp_path).endswith(f"resume={tmp_path} goes on from the first epoch, because none was finished")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert way_on(tmp_path) == f"interrupted; python train.py resume={tmp_path} goes on after the last whole epoch"
    assert "the same command with hydra.sweep.dir=sweeps/x goes on" in way_on(tmp_path, Path("sweeps/x"))


def alive(group: int) -> list[str]:
    """The processes of a group, without those that have ended and that nobody has asked for."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    return [arguments for pgid, state, arguments in rows if int(pgid) == group and not state.startswith("Z")]


def terminated(arguments: list[str], folder: Path, there: Callable[[int], object]) -> str:
    """What a run says that is sent SIGTERM as soon as something is there; no process of it is left.

    `there` is asked with the group of the run's processes.
    """
    process = launched(arguments, folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: there(process.pid), process, DEADLINE_S)
    assert process.poll() is None, process.communicate()[0][-3000:]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 143, output[-3000:]
    assert "Traceback" not in output
    deadline = time.monotonic() + DEADLINE_S
    while alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not temporaries(folder)
    return output


@pytest.mark.slow
@pytest.mark.long
def test_a_training_goes_on_after_its_last_whole_epoch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    output = terminated(command(run, *WITHOUT_TEACHER), tmp_path, lambda group: last.is_file())
    way = f"python train.py resume={run} goes on after the last whole epoch"
    assert output.count(way) == 1
    assert way in (run / "train.log").read_text()
    interrupted = torch.load(last, weights_only=True)
    steps = interrupted["global_step"] // (interrupted["epoch"] + 1)
    assert (steps, interrupted["global_step"] % steps) == (24, 0)  # 48 images in batches of two
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    finished(train(f"resume={run}"), tmp_path)
    resumed = torch.load(last, weights_only=True)
    assert (resumed["epoch"], resumed["global_step"]) == (2, 3 * 24)
    assert resumed["lr_schedulers"][0]["last_epoch"] == 3 * 24


@pytest.mark.slow
def test_before_the_configuration_is_a_run_it_ends_at_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    output = terminated(command(run, *WITHOUT_TEACHER), tmp_path, lambda group: (run / ".hydra").is_dir())
    *before, last = output.splitlines()
    assert last == "terminated"
    assert all("exports nothing" in line or "; then " in line for line in before)  # what it would have done


@pytest.mark.slow
def test_rendering_stops_without_rendering_the_rest(tmp_path: Path) -> None:
    scenes = tmp_path / "cache" / "scenes"
    arguments = command(tmp_path / "run", "data.train=5000", *NO_REPORT)
    output = terminated(arguments, tmp_path, lambda group: list(scenes.glob(".*train*/images/*.png")))
    assert "goes on from the first epoch, because none was finished" in output
    assert not [path for path in scenes.iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.long
def test_ctrl_c_during_timing_keeps_exported_files_and_leaves_no_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    timed = ["distill=none", "logger=csv", "data.test=60", "callbacks.latency.batch_size=1"]
    file = run / "onnx" / "student.int8.onnx"

    def engines_are_timed(group: int) -> bool:
        return file.is_file() and sum("spawn_main" in arguments for arguments in alive(group)) >= 2

    output = terminated(command(run, *timed), tmp_path, engines_are_timed)
    assert "goes on after the last whole epoch" in output
    assert Segmenter(file).metadata["model"] == "student"
    assert not (run / "results.json").exists()


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep_stops_at_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    budget = ["student.fit.max_epochs=2", "distill=none", "seed=0,1", *NO_REPORT]
    placed = [f"hydra.sweep.dir={sweep}", f"cache_dir={tmp_path / 'cache'}"]
    arguments = train("-m", *TINY, *CROPS, *budget, *placed)
    first, second = sweep / "seed=0", sweep / "seed=1"
    last = first / "checkpoints" / "last.ckpt"
    output = terminated(arguments, tmp_path, lambda group: last.is_file())
    assert f"the same command with hydra.sweep.dir={sweep} goes on" in output
    assert json.loads((first / "job.json").read_text())["status"] == "started"
    assert not second.exists()
    finished(arguments, tmp_path)
    assert [json.loads((job / "job.json").read_text())["status"] for job in (first, second)] == ["finished"] * 2
