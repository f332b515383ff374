"""The curves of a run that was started more than once."""

from __future__ import annotations

from pathlib import Path

from segdistill.reporting.curves import read_curves

HEADER = "epoch,step,train/loss,val/miou,test/miou\n"


def start(run_dir: Path, version: int, *lines: str) -> None:
    folder = run_dir / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(HEADER + "\n".join(lines) + "\n")


def test_starts_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for version in range(12):
        start(tmp_path, version, f"{version},{version},{20 - version}.0,,")
    losses, _ = read_curves(tmp_path)
    assert losses == {"train/loss": ([float(step) for step in range(12)], [20.0 - step for step in range(12)])}


def test_steps_that_a_resumed_run_trained_again_are_drawn_once(tmp_path: Path) -> None:
    start(tmp_path, 0, "0,0,9.0,,", "0,1,8.0,,", "0,1,,0.1,", "1,2,7.5,,", "1,3,7.25,,")  # killed in epoch 1
    start(tmp_path, 1, "1,2,7.0,,", "1,3,6.0,,", "1,3,,0.2,", "2,4,,,0.15")
    start(tmp_path, 2, "2,4,5.0,,", "2,5,4.0,,", "2,5,,0.3,", "3,6,,,0.25")  # resumed once more, for longer
    losses, scores = read_curves(tmp_path)
    assert losses["train/loss"] == ([0, 1, 2, 3, 4, 5], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    assert scores["val/miou"] == ([1, 3, 5], [10.0, 20.0, 30.0])
    assert scores["test/miou"] == ([6], [25.0])


def test_a_start_that_logged_nothing_and_a_line_cut_off_by_a_kill_change_nothing(tmp_path: Path) -> None:
    start(tmp_path, 0, "0,0,9.0,,", "0,1,8.0,,", "0,2,7")
    start(tmp_path, 1)
    assert read_curves(tmp_path)[0]["train/loss"] == ([0, 1], [9.0, 8.0])


def test_without_a_csv_there_are_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == ({}, {})
