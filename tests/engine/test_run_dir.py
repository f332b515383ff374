"""A run directory holds one run, whose settings stay unless they are given again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.runs import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping

from segdistill.callbacks import Dashboard, Latency, Quantize
from segdistill.config.parse import register
from segdistill.config.schema import Config
from segdistill.engine import run_dir as run_dir_module
from segdistill.engine.pipeline import alters_weights
from segdistill.engine.run_dir import RunDirInUseError, owned, require_own_run
from segdistill.engine.sweep import run_job
from segdistill.engine.teacher import offer_teacher
from segdistill.models.frozen_teacher import TeacherCache
from segdistill.reporting.sweep.jobs import STATUS
from segdistill.utils.errors import UserError
from segdistill.utils.io import read_object


def composed(run_dir: Path, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        placed = [*overrides, f"hydra.run.dir={run_dir}"]
        return compose("config", overrides=placed, return_hydra_config=True)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that began with a temperature of 3."""
    folder = tmp_path / "run"
    config = composed(folder, "distill.temperature=3")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / ".hydra").mkdir()
    OmegaConf.save(config.hydra.overrides.task, folder / ".hydra" / "overrides.yaml")
    OmegaConf.save(
        OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), folder / ".hydra" / "config.yaml"
    )
    return folder


def test_a_new_run_does_not_begin_where_another_one_lies(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"hydra.run.dir={run_dir}: holds a run; resume={run_dir} goes on"):
        require_own_run(composed(run_dir, "distill.temperature=3"))
    elsewhere = f"resume={run_dir}"
    require_own_run(composed(tmp_path / "new", elsewhere))
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run"):
        require_own_run(composed(other, elsewhere))


@pytest.mark.parametrize("target", ["", "/checkpoints/last.ckpt"])
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["student.fit.max_epochs=20"],
        ["distill.temperature=4"],
        ["optimizer=sgd"],
        ["optimizer@teacher.training.optimizer=sgd"],
        ["experiment=student_baseline"],
        ["cache_dir=/elsewhere", "logger=csv", "trusted_packages=[mine]"],
    ],
)
def test_a_run_goes_on_with_its_own_settings_and_with_what_is_given_again(
    run_dir: Path, target: str, more: list[str]
) -> None:
    require_own_run(composed(run_dir, f"resume={run_dir}{target}", "distill.temperature=3", *more))


def test_a_file_of_conf_that_changed_meanwhile_is_named(run_dir: Path) -> None:
    saved = run_dir / ".hydra" / "config.yaml"
    saved.write_text(saved.read_text().replace("dice_weight: 0.5", "dice_weight: 0.7", 1))
    resumed = [f"resume={run_dir}", "distill.temperature=3"]
    with pytest.raises(
        UserError, match=r"conf/ now gives (teacher\.training\.)?loss\.dice_weight=0\.5 instead of 0\.7"
    ):
        require_own_run(composed(run_dir, *resumed, "student.fit.max_epochs=20"))
    require_own_run(composed(run_dir, *resumed, "loss.dice_weight=0.7", "teacher.training.loss.dice_weight=0.7"))


def test_one_process_at_a_time_runs_in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_dir_module, "PATIENCE_S", 0.1)
    with owned(tmp_path), pytest.raises(RunDirInUseError, match=f"{tmp_path}: another process runs in it"):  # noqa: SIM117
        with owned(tmp_path):
            pass
    with owned(tmp_path):
        pass


def test_a_job_that_another_process_runs_keeps_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def used(config: Config, folder: Path) -> None:
        raise RunDirInUseError(f"{folder}: another process runs in it")

    monkeypatch.setattr("segdistill.engine.pipeline.run", used)
    assert math.isnan(run_job(composed(tmp_path), tmp_path, []))
    assert read_object(tmp_path / STATUS)["status"] == "started"


def test_a_teacher_that_other_runs_may_use_already_is_not_replaced(tmp_path: Path) -> None:
    cache, best = TeacherCache.of(tmp_path, {"seed": 0}), tmp_path / "best.ckpt"
    for weights in (b"first", b"second"):
        best.write_bytes(weights)
        offer_teacher(best, cache)
    assert cache.checkpoint.read_bytes() == b"first"


@pytest.mark.parametrize(
    ("callback", "shapes"),
    [
        (EarlyStopping("val/miou"), True),
        (Quantize(aware_epochs=2), True),
        (Quantize(), False),
        (Latency(), False),
        (Dashboard(), False),
    ],
)
def test_a_teacher_is_offered_only_if_its_weights_are_those_that_its_key_names(
    callback: Callback, shapes: bool
) -> None:
    assert alters_weights(callback) == shapes
