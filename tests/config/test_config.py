"""The configuration: what composes, what is refused and in which words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from segdistill.config.data import FolderConfig, RoadScenesConfig
from segdistill.config.parse import parse, register
from segdistill.config.schema import Config
from segdistill.config.suggest import near_keys
from segdistill.utils.errors import ConfigError

KL = {"_target_": "segdistill.losses.PixelwiseKL", "weight": 1.0, "temperature": 2.0}
ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
ON_A_FOLDER = ("kd_camvid", "kd_original")
DATA = sorted(path.stem for path in (ROOT / "conf" / "data").glob("*.yaml"))


@pytest.fixture(autouse=True)
def hydra_with_the_schema() -> Iterator[None]:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def parsed(*overrides: str) -> Config:
    return parse(compose("config", overrides=list(overrides)))


def test_the_schema_is_not_copied_for_every_group_that_help_lists_and_no_composition_changes_it() -> None:
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    registered = copy.deepcopy(store.load("schema.yaml").node)
    changed = compose("config", overrides=["seed=7", "student.fit.max_epochs=3"])
    assert (changed.seed, changed.student.fit.max_epochs) == (7, 3)
    assert store.load("schema.yaml").node == registered


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_into_the_typed_schema(experiment: str, tmp_path: Path) -> None:
    overrides = [f"experiment={experiment}"] + [f"data.root={tmp_path}"] * (experiment in ON_A_FOLDER)
    assert isinstance(parsed(*overrides), Config)


@pytest.mark.parametrize("data", DATA)
def test_the_smoke_experiment_takes_any_data(data: str, tmp_path: Path) -> None:
    if data == "huggingface" and find_spec("datasets") is None:
        pytest.skip("needs datasets: pip install datasets")
    values = {"data.root": tmp_path, "data.input_size": "[96,128]", "data.classes": "{road: 0, car: 1}"}
    values |= {f"data.{key}": key for key in ("name", "image_column", "mask_column")}
    composed = compose("config", overrides=["experiment=smoke", f"data={data}"])
    needed = OmegaConf.missing_keys(composed) | ({"data.classes"} if composed.data.get("classes") == {} else set())
    config = parsed("experiment=smoke", f"data={data}", *(f"++{key}={values[key]}" for key in needed))
    assert config.data.limit == 16
    assert isinstance(config.data, RoadScenesConfig) == data.startswith("roadscenes")


def test_promised_experiments_exist() -> None:
    assert {"kd_deeplab", "kd_camvid", "teacher", "student_baseline", "smoke"} <= set(EXPERIMENTS)


def test_defaults_that_users_rely_on() -> None:
    default = parsed()
    assert (default.distill.temperature, default.loss["dice_weight"]) == (2.0, 0.5)
    assert parsed("~experiment").schedule.backbone_lr_scale == 0.1
    assert default.schedule.backbone_lr_scale == 1.0  # its training is short
    assert isinstance(default.data, RoadScenesConfig)
    assert default.data.val == 143
    assert default.distill.losses == {"kl": KL}
    assert parsed("experiment=teacher").stage == "teacher"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_gives_another_network_no_key_that_it_did_not_ask_for(experiment: str, tmp_path: Path) -> None:
    overrides = [f"experiment={experiment}", "student=torchvision", "teacher=torchvision"]
    composed = parsed(*overrides, *([f"data.root={tmp_path}"] if experiment in ON_A_FOLDER else []))
    keys = {"_target_", "factory", "multiple_of", "weights", "weights_backbone"}
    assert set(composed.student.network) == set(composed.teacher.network) == keys


def test_a_loss_can_be_added_and_one_changed() -> None:
    cwd = "{_target_: segdistill.losses.ChannelwiseKL, weight: 3}"
    added = parsed(f"+distill.losses.cwd={cwd}", "distill.losses.kl.weight=2", "distill.temperature=4").distill.losses
    assert added == {
        "kl": {**KL, "weight": 2, "temperature": 4.0},
        "cwd": {"_target_": "segdistill.losses.ChannelwiseKL", "weight": 3},
    }


def test_the_baseline_differs_from_the_distilled_student_in_its_losses_alone() -> None:
    silent = replace(parsed().distill, losses={}, alpha_schedule="constant")  # without losses alpha is not used
    assert parsed("experiment=student_baseline") == replace(parsed(), distill=silent)


def test_camvid_owns_its_eleven_classes_and_ignores_the_twelfth_value(tmp_path: Path) -> None:
    data = parsed("data=camvid", f"data.root={tmp_path}").data
    assert isinstance(data, FolderConfig)
    assert list(data.classes.values()) == list(range(11))
    assert data.void == [11]


@pytest.mark.parametrize(
    ("override", "key", "allowed"),
    [
        ("distill.temperature=-1", "distill.temperature", "0.1 to 100"),
        ("distill.temperature=0", "distill.temperature", "0.1 to 100"),
        ("distill.temperature=0.01", "distill.temperature", "0.1 to 100"),
        ("distill.temperature=nan", "distill.temperature", "0.1 to 100"),
        ("distill.alpha=1.5", "distill.alpha", "0 to 1"),
        ("distill.losses.kl.weight=-1", "distill.losses.kl.weight", "above 0"),
        ("distill.losses.kl.weight=much", "distill.losses.kl.weight", "above 0"),
        ("distill.losses.kl.temperature=0", "distill.losses.kl.temperature", "0.1 to 100"),
        ("+distill.losses.foo={weight: 1}", "distill.losses.foo", "needs a `_target_`"),
        ("distill.losses.kl=1", "distill.losses.kl", "needs a `_target_`"),
        ("distill.losses.kl._target_=segdistill.losses.PixelwisKL", "distill.losses.kl._target_", "PixelwiseKL"),
        ("distill.losses.kl._target_=torch.load", "distill.losses.kl._target_", "may not be called as loss"),
        ("loss._target_=segdistill.losses.FocaLoss", "loss._target_", "FocalLoss"),
        ("distill.teacher_cache=ram", "distill.teacher_cache", "'auto', 'none', 'memory', 'disk'"),
        ("distill.alpha_schedule=step", "distill.alpha_schedule", "cosine"),
        ("teacher.num_classes=19", "teacher.class_map", "goes together with num_classes"),
        ("+teacher.class_map.car=[1]", "teacher.class_map", "goes together with num_classes"),
        ("+teacher.class_map.car=[1.5]", "teacher.class_map.car", "must be ids or names of the teacher's classes"),
        ("stage=everything", "stage", "student"),
        ("seed=-1", "seed", "2\\*\\*32"),
        ("student.fit.max_epochs=0", "student.fit.max_epochs", "at least 1"),
        ("student.fit.full_frame_epochs=10", "student.fit.full_frame_epochs", "from 0 to max_epochs=9"),
        ("teacher.fit.batch_size=0", "teacher.fit.batch_size", "at least 1"),
        ("student.fit.crop=[240]", "student.fit.crop", "height, width"),
        ("student.fit.scale=[2,1]", "student.fit.scale", "low <= high"),
        ("augment.flip=0.5", "augment.flip", "needs a `_target_`"),
        ("+teacher.training.augment.blur={sigma: 1}", "teacher.training.augment.blur", "needs a `_target_`"),
        ("augment.jitter._target_=torchvision.transforms.v2.ColorJiter", "augment.jitter._target_", "ColorJitter"),
        ("augment.jitter._target_=torch.load", "augment.jitter._target_", "may not be called as augmentation"),
        ("data.input_size=[4,4]", "data.input_size", "at least 16"),
        ("data.cut_bottom=-1", "data.cut_bottom", "from 0 to 253: input_size has 269 rows"),
        ("data.cut_bottom=254", "data.cut_bottom", "from 0 to 253"),
        ("data.gamma=0", "data.gamma", "from 0.1 to 10"),
        ("data.eval_batch_size=0", "data.eval_batch_size", "at least 1"),
        ("data.num_workers=-1", "data.num_workers", "at least 0"),
        ("data.image_cache=ram", "data.image_cache", "auto"),
        ("data.eval_tile=[64]", "data.eval_tile", "height, width"),
        ("data.eval_tile=[128,256]", "data.eval_tile", "larger than the overlap, 128"),
        ("data.train=0", "data.train", "at least 1"),
        ("data.seed=-1", "data.seed", "at least 0"),
        ("schedule.warmup=1", "schedule.warmup", "below 1"),
        ("schedule.power=0", "schedule.power", "above 0"),
        ("schedule.backbone_lr_scale=-1", "schedule.backbone_lr_scale", "at least 0"),
        ("trainer.accelerator=tpu", "trainer.accelerator", "cuda"),
        ("teacher.seed=-1", "teacher.seed", "2\\*\\*32"),
        ("trainer.precision=8", "trainer.precision", "bf16-mixed"),
        ("teacher.checkpoint=/no/such.ckpt", "teacher.checkpoint", "no such file"),
        ("resume=/no/such/run", "resume", "no such file or folder"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_full_key(override: str, key: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        parsed(override)
    assert str(caught.value).startswith(f"{key}=")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=/no/such/folder"], "data.root=/no/such/folder: no such folder"),
        (["data.void=[70000]"], "data.void=[70000]: must be a mask value from 0 to 65535"),
        (["data.void=[3]"], "data.classes.road=3: already belongs to void"),
        (["data.classes.sky=1"], "data.classes.building=1: already belongs to classes.sky"),
        (["data.classes.sky=[]"], "data.classes.sky=[]: must be a mask value from 0 to 65535, a colour"),
        (["data.classes.sky=red"], "data.classes.sky=red: must be a mask value"),
        (["data.palette.sky=[1,2]"], "data.palette.sky=[1, 2]: must be [R, G, B]"),
        (["+data.palette.moon=[1,2,3]"], "data.palette.moon=[1, 2, 3]: no such class"),
        (["~data.splits.val"], "data.splits=['test', 'train']: must name train and val"),
    ],
)
def test_a_folder_that_cannot_work_is_refused(overrides: list[str], message: str, tmp_path: Path) -> None:
    root = [] if overrides[0].startswith("data.root") else [f"data.root={tmp_path}"]
    with pytest.raises(ConfigError) as caught:
        parsed("data=camvid", *root, *overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", ["hint", "attention", "combined"])
def test_features_need_the_live_teacher(method: str) -> None:
    with pytest.raises(ConfigError, match=r"distill\.teacher_cache=disk: must be none with losses.(hint|attention)"):
        parsed(f"distill={method}", "distill.teacher_cache=disk")


def test_a_folder_that_is_no_run_directory_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run directory; give one, or one of its checkpoints"):
        parsed(f"resume={tmp_path}")
    (tmp_path / ".hydra").mkdir()
    assert parsed(f"resume={tmp_path}").resume == str(tmp_path)


@pytest.mark.parametrize("upload", ["'no'", "1", "null"])
def test_uploading_is_a_plain_yes_or_no(upload: str) -> None:
    with pytest.raises(ConfigError, match=r"logger\.wandb\.upload=.*: must be true or false"):
        parsed(f"logger.wandb.upload={upload}")


def test_a_teacher_that_is_to_be_trained_takes_no_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "teacher.ckpt"
    checkpoint.touch()
    with pytest.raises(ConfigError, match="must be null where stage=teacher"):
        parsed("experiment=teacher", f"teacher.checkpoint={checkpoint}")


@pytest.mark.parametrize("override", ["stage=teacher", "experiment=teacher"])
def test_a_teacher_that_is_trained_alone_follows_the_seed(override: str) -> None:
    assert [parsed(override, f"seed={seed}").teacher.seed for seed in range(3)] == [0, 1, 2]
    assert parsed("seed=3").teacher.seed == 0
    with pytest.raises(ConfigError, match=r"teacher.seed=5: must not differ from seed"):
        parsed(override, "seed=3", "teacher.seed=5")


def test_a_teachers_training_is_its_own() -> None:
    default = parsed()
    changed = parsed("optimizer.lr=5", "loss.power=5", "schedule.power=5", "optimizer=sgd")
    assert changed.teacher.training == default.teacher.training
    assert changed.training("student").loss["power"] == 5
    own = parsed("optimizer@teacher.training.optimizer=sgd", "loss@teacher.training.loss=cross_entropy")
    assert own.training("teacher").optimizer["_target_"] == "torch.optim.SGD"
    assert own.training("student") == default.training("student")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["student.fit.crop=[500,288]"],
            "student.fit.crop=[500, 288]: must be at most data.input_size=[269, 484] times",
        ),
        (
            ["teacher.source=train", "teacher.fit.crop=[176,900]"],
            "teacher.fit.crop=[176, 900]: must be at most data.input_size=[269, 484] times",
        ),
        (
            ["data.cut_bottom=109", "student.fit.crop=[257,288]"],
            "student.fit.crop=[257, 288]: must be at most data.input_size without data.cut_bottom=[160, 484] times 1.6",
        ),
        (["student.fit.batch_size=481"], "student.fit.batch_size=481: must be at most 480: the training split has 480"),
        (["data.limit=3"], "student.fit.batch_size=4: must be at most 3: the training split has 3 images"),
        (
            ["trainer=ddp", "student.fit.batch_size=300"],
            "must be at most 240: the training split has 480 images, shared",
        ),
    ],
)
def test_a_crop_or_a_batch_that_the_data_cannot_fill_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(*overrides)
    assert message in str(caught.value)


def test_a_teacher_that_is_not_trained_may_have_any_crop() -> None:
    assert parsed("distill=none", "teacher.fit.crop=[900,900]").teacher.fit.crop == [900, 900]


def test_a_key_without_a_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.root=\?\?\?: needs a value"):
        parsed("data=camvid")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.overfit_batches=1", "trainer.overfit_batches=1: no such key"),
        ("+student.fit.epochs=3", "student.fit.epochs=3: no such key; did you mean student.fit.max_epochs"),
        ("++data.crop=[64,64]", r"data.crop=\[64, 64\]: no such key; did you mean teacher.fit.crop or"),
        ("+whatever=1", "whatever=1: no such key"),
    ],
)
def test_a_key_that_is_added_but_read_by_nobody_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(override)


def test_a_network_needs_a_target() -> None:
    with pytest.raises(ConfigError, match="_target_"):
        parsed("~student.network._target_")


def test_the_parsed_configuration_does_not_change_what_it_was_parsed_from() -> None:
    composed = compose("config")
    before = OmegaConf.to_yaml(composed)
    parse(composed)
    assert OmegaConf.to_yaml(composed) == before


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("distill.tempratur", "distill.temperature"),
        ("trainer.max_epochs", "student.fit.max_epochs"),
        ("data.rooot", "data.root"),
        ("batch_size", "student.fit.batch_size"),
    ],
)
def test_a_misspelt_key_brings_near_ones(wrong: str, near: str) -> None:
    assert near in near_keys(wrong)


@pytest.mark.parametrize("experiment", ["kd_deeplab", "student_baseline", "smoke"])
def test_debugging_makes_any_experiment_small(experiment: str) -> None:
    fast, overfit, profile = (parsed(f"experiment={experiment}", f"debug={d}") for d in ("fast", "overfit", "profile"))
    assert (fast.data.limit, fast.student.fit.max_epochs, fast.teacher.fit.max_epochs) == (8, 1, 1)
    assert overfit.data.overfit
    assert not overfit.distill.losses
    assert overfit.student.fit.crop is None
    assert profile.trainer.profiler == "simple"


def test_trainer_ddp_selects_several_processes() -> None:
    assert parsed("trainer=ddp").trainer.devices == 2
    assert parsed("trainer=ddp", "trainer.devices=4").trainer.devices == 4
    with pytest.raises(ConfigError, match=r"trainer.devices=0: must be at least 1"):
        parsed("trainer.devices=0")


def test_a_study_sweeps_methods_over_seeds() -> None:
    composed = compose("config", overrides=["experiment=study"], return_hydra_config=True)
    assert dict(composed.hydra.sweeper.params) == {"seed": "0,1,2", "distill": "none,kl,cwd,dist"}
    assert composed.hydra.mode.name == "MULTIRUN"


@pytest.mark.parametrize(
    ("overrides", "source"),
    [
        ([], "packaged"),
        (["teacher.source=train"], "train"),
        (["teacher.network.backbone=mobilenetv2_100"], "train"),
        (["teacher=torchvision"], "train"),
        (["data.gamma=0.5"], "train"),
        (["data.cut_bottom=9"], "packaged"),
        (["experiment=smoke"], "train"),
        (["data=camvid", "data.root=."], "train"),
    ],
)
def test_the_packaged_teacher_is_taken_where_it_fits(overrides: list[str], source: str) -> None:
    assert parsed(*overrides).teacher_source == source


def test_a_source_needs_what_it_reads() -> None:
    with pytest.raises(ConfigError, match=r"data\.gamma=0\.5: must be 1 where teacher\.source=packaged"):
        parsed("teacher.source=packaged", "data.gamma=0.5")
    with pytest.raises(ConfigError, match=r"teacher\.checkpoint=None: must be a file where source=checkpoint"):
        parsed("teacher.source=checkpoint")
    with pytest.raises(ConfigError, match=r"teacher\.class_map=.*: is needed where source=pretrained"):
        parsed("teacher.source=pretrained")


def test_the_weights_of_a_teacher_do_not_depend_on_how_it_is_logged() -> None:
    plain, logged = (
        parsed(*o).trainer.shaping for o in ([], ["trainer.log_every_n_steps=9", "+trainer.profiler=simple"])
    )
    assert plain == logged
    assert plain != parsed("trainer.gradient_clip_val=1.0").trainer.shaping


def test_the_last_epoch_is_validated() -> None:
    with pytest.raises(ConfigError, match=r"trainer.check_val_every_n_epoch=5: must divide student.fit.max_epochs=9"):
        parsed("trainer.check_val_every_n_epoch=5")
    with pytest.raises(ConfigError, match=r"trainer.check_val_every_n_epoch=9: must divide teacher.fit.max_epochs=35"):
        parsed("trainer.check_val_every_n_epoch=9", "teacher.source=train", "teacher.fit.max_epochs=35")
    with pytest.raises(ConfigError, match=r"trainer.limit_val_batches=0: must be above 0"):
        parsed("trainer.limit_val_batches=0")
    assert parsed("trainer.check_val_every_n_epoch=3").trainer.check_val_every_n_epoch == 3
