"""A sweep before its first job: which jobs, under which names, in a folder that may take them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from segdistill.engine.sweep_plan import (
    folder_name,
    job_folder,
    name_by_swept_keys,
    planned_jobs,
    require_own_folder,
    sample_jobs,
)
from segdistill.reporting.sweep.jobs import STATUS
from segdistill.utils.errors import UserError
from segdistill.utils.io import write_json

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def multirun(*task: str, sweeper: str = BASIC, **params: str) -> DictConfig:
    overrides = {"task": list(task), "hydra": []}
    return OmegaConf.create({"hydra": {"sweeper": {"_target_": sweeper, "params": params}, "overrides": overrides}})


def test_every_swept_value_comes_up_once_before_the_sweep() -> None:
    task = ["distill=cwd,dist,kl", "+a.b='x,y'", "c=range(1,3)", "d=interval(1,8)", "~logger"]
    assert list(sample_jobs(multirun(*task, seed="0,1", distill="none,kl"))) == [
        ["seed=0", "distill=cwd", "+a.b='x,y'", "c=1", "~logger"],
        ["seed=1", "distill=cwd", "+a.b='x,y'", "c=1", "~logger"],
        ["seed=0", "distill=dist", "+a.b='x,y'", "c=1", "~logger"],
        ["seed=0", "distill=kl", "+a.b='x,y'", "c=1", "~logger"],
        ["seed=0", "distill=cwd", "+a.b='x,y'", "c=2", "~logger"],
    ]


def test_the_plan_holds_every_combination_as_a_record_tells_it() -> None:
    assert planned_jobs(multirun("t=1,2", "+x=3", "~callbacks.latency", seed="0,1")) == [
        {"seed": seed, "t": t, "x": "3", "~callbacks.latency": ""} for seed in "01" for t in "12"
    ]


def test_another_sweeper_has_no_plan() -> None:
    assert planned_jobs(multirun("t=1,2", sweeper="hydra_plugins.some.Sweeper")) is None


@pytest.mark.parametrize(
    ("task", "excluded"),
    [
        (["t=1,2", "experiment=smoke", "+a.b=1", "~callbacks.latency"], "['a.b','callbacks.latency','experiment']"),
        (["optimizer=sgd,adamw", "optimizer@teacher.training.optimizer=sgd", "x=1"], "['x']"),
        (["t=1", "experiment=smoke"], None),
        (["t=1,2"], None),
    ],
)
def test_jobs_are_named_by_the_keys_that_differ(task: list[str], excluded: str | None) -> None:
    config = multirun(*task)
    name_by_swept_keys(config)
    expected = [] if excluded is None else [f"hydra.job.config.override_dirname.exclude_keys={excluded}"]
    assert list(config.hydra.overrides.hydra) == expected


def test_a_folder_has_a_name_that_file_systems_take() -> None:
    assert folder_name("distill.temperature=4,seed=0") == "distill.temperature=4,seed=0"
    assert folder_name("") == "job-e3b0c442"  # of SHA-256 of nothing
    paths = [folder_name(f"data.root=/data/{name}/x") for name in ("a b", "a_b")]
    assert paths[0].startswith("data.root=_data_a_b_x-")
    assert len(set(paths)) == 2
    assert len(folder_name("x=" + "y" * 400)) < 140


def record(folder: Path, settings: dict[str, str] | None, config: dict[str, Any], status: str = "finished") -> None:
    noted = {"status": status, "config": config, "task": [f"{key}={value}" for key, value in (settings or {}).items()]}
    write_json(folder / STATUS, noted if settings is None else {**noted, "overrides": settings})


def test_a_job_keeps_the_folder_that_holds_it_under_any_name(tmp_path: Path) -> None:
    record(tmp_path / "t=1", {"t": "1", "seed": "0"}, {})
    record(tmp_path / "seed=1", {"t": "1", "seed": "1"}, {}, status="failed")
    record(tmp_path / "t=1,seed=1", {"seed": "1", "t": "1"}, {})
    named = {seed: job_folder(f"t=1,seed={seed}", str(tmp_path), ["t=1", f"+seed={seed}"]) for seed in (0, 1, 2)}
    assert named == {0: "t=1", 1: "t=1,seed=1", 2: "t=1,seed=2"}
    assert job_folder("t=1", str(tmp_path / "absent"), ["t=1"]) == "t=1"


def composed(**changes: Any) -> Callable[[list[str]], dict[str, Any]]:
    return lambda task: {"lr": 0.1, "t": task[0].partition("=")[2], **changes}


def test_a_sweep_with_more_values_is_accepted_in_its_folder(tmp_path: Path) -> None:
    record(tmp_path / "t=1", {"t": "1"}, {"lr": 0.1, "t": "1"})
    record(tmp_path / "t=9", {"t": "9"}, {"lr": 0.1, "t": "9"}, status="failed")
    require_own_folder(tmp_path, planned_jobs(multirun("t=1,2")) or [], composed())
    require_own_folder(tmp_path / "absent", planned_jobs(multirun("t=1,2")) or [], composed())


def test_a_folder_that_holds_a_job_twice_is_refused(tmp_path: Path) -> None:
    for name in ("t=1", "t=1,seed=0"):
        record(tmp_path / name, {"t": "1"}, {"lr": 0.1, "t": "1"})
        noted = json.loads((tmp_path / name / STATUS).read_text())
        write_json(tmp_path / name / STATUS, {**noted, "tested": {"test/miou": 0.5}})
    with pytest.raises(UserError, match=r"t=1,seed=0: has the settings and the seed of .*/t=1; keep one"):
        require_own_folder(tmp_path, planned_jobs(multirun("t=1,2")) or [], composed())


@pytest.mark.parametrize(
    ("settings", "changes", "complaint"),
    [
        ({"t": "1"}, {}, r"t=1: holds a job that this sweep has not \(t=1\); give another hydra.sweep.dir"),
        ({"t": "4"}, {"lr": 0.2}, "t=1: holds a job with another lr; give another hydra.sweep.dir"),
        (None, {}, "t=1: was written by an older version of segdistill"),
    ],
    ids=["other values", "other configuration", "old"],
)
def test_a_folder_of_another_sweep_is_refused(
    tmp_path: Path, settings: dict[str, str] | None, changes: dict[str, Any], complaint: str
) -> None:
    record(tmp_path / "t=1", settings, {"lr": 0.1, "t": "4"})
    with pytest.raises(UserError, match=complaint):
        require_own_folder(tmp_path, planned_jobs(multirun("t=4,8")) or [], composed(**changes))
