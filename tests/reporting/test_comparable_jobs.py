"""Which jobs of sweeps may stand side by side: none twice, and no repetition with another configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.sweep_jobs import job

from segdistill.reporting.sweep.arguments import read_sweeps
from segdistill.reporting.sweep.comparison import study
from segdistill.reporting.sweep.jobs import read_jobs
from segdistill.reporting.sweep.rows import write_rows
from segdistill.reporting.sweep.shaping import conflicts, differing_keys
from segdistill.utils.errors import UserError

TESTED = {"test/miou": 0.5}


def test_differing_keys_are_named_in_full() -> None:
    one, other = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [1], "e": None}
    assert list(differing_keys(one, other)) == ["a.c", "e"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optimizer": {"lr": 0.2}}, ["optimizer.lr"]),
        ({"optimizer": {"lr": 0.1, "fused": True}}, []),
        ({"optimizer": None}, ["optimizer"]),
        ({"trainer": {"limit_test_batches": 2, "devices": 4}}, ["trainer.limit_test_batches"]),
        ({"data": {"num_workers": 4, "limit": 7}}, ["data.limit"]),
        ({"seed": 1, "teacher": {"seed": 1}}, []),
        ({"seed": 1, "teacher": {"seed": 2}}, ["teacher.seed"]),
        ({"seed": 2, "logger": {"csv": {}}}, []),
    ],
)
def test_configurations_conflict_in_what_both_set_otherwise(changes: dict[str, Any], expected: list[str]) -> None:
    one = {
        "seed": 0,
        "logger": {"csv": None},
        "optimizer": {"lr": 0.1},
        "teacher": {"seed": 0},
        "trainer": {"limit_test_batches": None, "devices": 1},
        "data": {"num_workers": 0, "limit": None},
    }
    other = {**one, "teacher": {"seed": changes.get("seed", 0)}, **changes}
    assert conflicts(one, other) == expected


def test_a_job_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    job(tmp_path, "distill=kl", ["distill=kl", "seed=0", "cache_dir=a"], tested=TESTED)
    job(tmp_path, "distill=kl,seed=0", ["seed=0", "distill=kl"], status="failed", error="disk full")
    assert len(read_jobs(tmp_path).jobs) == 2
    job(tmp_path, "distill=kl,seed=0", ["seed=0", "distill=kl"], tested=TESTED)
    complaint = f"{tmp_path}/distill=kl,seed=0: has the settings and the seed of {tmp_path}/distill=kl; keep one"
    with pytest.raises(UserError, match=complaint):
        read_jobs(tmp_path)


def test_repetitions_with_another_configuration_are_refused(tmp_path: Path) -> None:
    for sweep, seed, config in (("a", 0, {"lr": 0.1, "alpha": 0.5}), ("b", 1, {"lr": 0.2, "alpha": 0.9, "new": 1})):
        job(tmp_path / sweep, "x", ["distill=kl", f"seed={seed}"], tested=TESTED, config={**config, "seed": seed})
    complaint = f"{tmp_path}/b/x: was run with another lr, alpha than {tmp_path}/a/x; they are no repetitions"
    with pytest.raises(UserError, match=complaint):
        read_sweeps([tmp_path / "a", tmp_path / "b"])
    write_rows(read_jobs(tmp_path / "b"), tmp_path / "b.csv")  # which tell no configuration
    assert [len(s.jobs) for s in read_sweeps([tmp_path / "a", tmp_path / "b.csv"]).by_setting()] == [2]


def test_other_overrides_may_have_another_configuration(tmp_path: Path) -> None:
    for method in ("none", "kl"):
        job(tmp_path, method, [f"distill={method}"], tested=TESTED, config={"distill": method})
    assert len(read_jobs(tmp_path).by_setting()) == 2


@pytest.mark.parametrize("kept", [False, True])
def test_the_seed_of_a_sweep_without_one_is_that_of_its_configuration(kept: bool, tmp_path: Path) -> None:
    job(tmp_path / "one", "0", ["distill=none"], tested=TESTED, config={"seed": 0})
    for method in ("none", "kl"):
        job(tmp_path / "more", method, [f"distill={method}", "seed=0"], tested=TESTED, config={"seed": 0})
    one = tmp_path / "one"
    if kept:
        one = tmp_path / "one.csv"
        write_rows(read_jobs(tmp_path / "one"), one)
    with pytest.raises(UserError, match="has the settings and the seed of"):
        read_sweeps([one, tmp_path / "more"])
    (tmp_path / "more" / "none" / "job.json").unlink()
    compared = study(read_sweeps([one, tmp_path / "more"]))
    assert compared is not None
    assert [gain.seeds for gain in compared.gains.values()] == [1]
