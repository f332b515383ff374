"""A disk that fills, a folder that cannot be written, a process of its own that is killed: one line, nothing lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.runs import NO_REPORT, command, ended, finished, launched, logged_out, train, until

DEADLINE_S = 300
MEGABYTE = 1_000_000
ALONE = ["distill=none", *NO_REPORT]


@pytest.mark.slow
@pytest.mark.long
def test_a_file_that_finds_no_room_is_one_line_and_the_run_goes_on_later(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 * MEGABYTE, 20 * MEGABYTE))  # a checkpoint has 75

    process = subprocess.run(
        command(tmp_path / "run", *ALONE),
        cwd=tmp_path,
        env=logged_out(tmp_path),
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert process.returncode == 1
    assert f"error: {tmp_path / 'run'}: the disk is full; make room and go on" in process.stderr
    assert "Traceback" not in process.stderr + process.stdout
    assert not list((tmp_path / "run" / "checkpoints").glob("[!.]*"))
    finished(train(f"resume={tmp_path / 'run'}"), tmp_path)
    assert torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_loader_process_is_one_line(tmp_path: Path) -> None:
    budget = [
        "student.fit.max_epochs=50",
        "student.fit.batch_size=2",
        "data.train=48",
        "data.limit=null",
        "data.num_workers=1",
        *ALONE,
    ]
    run = tmp_path / "run"
    process = launched(command(run, *budget), tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until((run / "checkpoints" / "last.ckpt").is_file, process, DEADLINE_S)
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert f"error: {run}: a worker process was killed" in output
    assert "Traceback" not in output
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]


def children(parent: int) -> list[int]:
    """The forked loader processes of a training."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, ppid, arguments in rows if int(ppid) == parent and "train.py" in arguments]


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    process = ended(command(Path("/proc/self/run"), *ALONE), tmp_path)
    assert process.returncode == 1
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "/proc/self/run" in line


@pytest.mark.slow
@pytest.mark.long
def test_two_runs_share_one_cache(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            command(tmp_path / name, *NO_REPORT, "distill.teacher_cache=disk"),
            cwd=tmp_path,
            env=logged_out(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "other")
    ]
    outputs = [process.communicate(timeout=2 * DEADLINE_S)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert sum("training one for 1 epochs" in output for output in outputs) == 1
    weights = [
        torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "other")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])  # the same seed, twice
