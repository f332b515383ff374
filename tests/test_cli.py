"""The command line as a user meets it: one line, an exit code, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate

from segdistill.cli import CheckConfiguration, with_resumed_overrides
from segdistill.config.explain import explain
from segdistill.config.parse import register
from segdistill.utils.errors import UserError

ROOT = Path(__file__).parents[1]


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill.temperature=hot"], "distill.temperature: Value 'hot' of type 'str' could not be converted"),
        (["distill.tempratur=2"], "distill.tempratur: no such key; did you mean distill.temperature"),
        (["distill.temperature=-1"], "distill.temperature=-1.0: must be a number from 0.1 to 100"),
        (["distill=magic"], "Could not find 'distill/magic' Available options in 'distill': attention boundary"),
        (["experiment=kd_camvid", "data.root=/no/such"], "data.root=/no/such: no such folder"),
        (["experiment=kd_camvid"], "data.root=???: needs a value"),
        (["teacher.checkpoint=/no/such.ckpt"], "teacher.checkpoint=/no/such.ckpt: no such file"),
        (["hydra.run.dir=/dev/null/run"], "/dev/null/run"),
        (["student.network.backbon=x"], "student.network.backbon: no such key"),
        (["distill.temperature"], "distill.temperature"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(arguments: list[str], message: str, tmp_path: Path) -> None:
    ended = train(tmp_path, *arguments)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_help_lists_groups_and_keys_without_importing_torch(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['train.py', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "finally: print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stdout.strip().endswith("False")
    for word in ("kd_deeplab", "kd_camvid", "adabelief", "temperature: 2.0", "backbone_lr_scale: "):
        assert word in ended.stdout


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, segdistill.config.parse, segdistill.inference.segmenter; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def run_directory(folder: Path, overrides: list[str]) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_resume_brings_back_the_settings_and_the_directory(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", ["experiment=smoke", "+trainer.x=1", "seed=3"])
    for target in (run, run / "checkpoints" / "last.ckpt"):
        given = [f"resume={target}", "seed=4", "trainer.x=2"]
        placed = [f"hydra.run.dir='{run}'", "hydra.mode=RUN"]
        resumed = [f"resume='{target}'", *given[1:]]
        assert with_resumed_overrides(given) == ["experiment=smoke", *resumed, *placed]


OUTSIDE = "a run directory may choose files of conf/ alone"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("hydra.callbacks.x={_target_: os.system, command: touch mark}", "may not give orders to Hydra"),
        ("++hydra.job_logging.handlers.x={(): os.system}", "may not give orders to Hydra"),
        ("hydra.searchpath=[file:///tmp]", "may not give orders to Hydra"),
        ("hydra/launcher=ray", "may not give orders to Hydra"),
        ("+experiment@hydra.callbacks=smoke", "may not give orders to Hydra"),
        ("experiment=../../foreign/evil", OUTSIDE),
        ("experiment='/tmp/evil'", OUTSIDE),
        ("logger={wandb: {upload: true}}", OUTSIDE),
        ("--config-dir=/tmp", "is no override"),
        ("--experimental-rerun=evil.pickle", "is no override"),
        ("cache_dir=${oc.env:HOME}", "may not read the environment"),
        ("cache_dir=${${seed}:HOME}", "may not read the environment"),
        ("+logger.x={_target_: pytorch_lightning.loggers.WandbLogger, log_model: all}", "may not start another logger"),
        ("logger.wandb._target_=pytorch_lightning.loggers.WandbLogger", "may not start another logger"),
        ("logger.wandb=${student.network}", "may not start another logger"),
    ],
)
def test_hydra_settings_of_a_run_directory_are_dropped(override: str, reason: str, tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", ["experiment=smoke", override])
    with pytest.raises(UserError) as caught:
        with_resumed_overrides([f"resume={run}"])
    message = str(caught.value)
    assert message.startswith(f"{run}/.hydra/overrides.yaml: {override}: ")
    assert reason in message
    assert len(message.splitlines()) == 1
    if "=" in override and not override.startswith("-"):
        again = override.lstrip("+")
        assert again in with_resumed_overrides([f"resume={run}", again])


@pytest.mark.parametrize(
    "override",
    ["trusted_packages=[evil]", "++trusted_packages=[evil]", "trusted_packages.0=evil", "logger.wandb.upload=true"],
)
def test_trusted_packages_and_upload_come_from_the_command_line_alone(override: str, tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", [override, "seed=3"])
    given = [f"resume={run}"]
    assert with_resumed_overrides(given) == ["seed=3", f"resume='{run}'", f"hydra.run.dir='{run}'", "hydra.mode=RUN"]
    assert override in with_resumed_overrides([*given, override])


def test_overrides_round_trip_through_resume(tmp_path: Path) -> None:
    overrides = [
        "experiment=kd_camvid",
        "data.root='/a b/c'",
        "+data.classes={road: 0, car: [1, 2]}",
        "distill={temperature: 2}",
        "teacher.seed=${seed}",
        "cache_dir=../cache",
        "~logger.csv",
        "debug=null",
        "student.network.factory=torchvision.models.segmentation.fcn_resnet50",
    ]
    run = run_directory(tmp_path / "run", overrides)
    given = [f"resume={run}"]
    assert with_resumed_overrides(given) == [*overrides, f"resume='{run}'", f"hydra.run.dir='{run}'", "hydra.mode=RUN"]


@pytest.mark.parametrize("content", ["{a: 1}", "[[1]]", "a: [", "[1]"])
def test_a_damaged_list_of_overrides_is_one_line(content: str, tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", [])
    (run / ".hydra" / "overrides.yaml").write_text(content)
    with pytest.raises(UserError, match=r"overrides.yaml: (is no list of|cannot be read as a list of) overrides"):
        with_resumed_overrides([f"resume={run}"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["student=torchvision", "student.network.factory=subprocess.Popen", "+student.network.args='touch mark'"],
        ["student=torchvision", "student.network.factory=os.system", "+student.network.command='touch mark'"],
        ["+callbacks.x={_target_: subprocess.run, args: [touch, mark]}"],
        ["optimizer={_target_: subprocess.run, args: [touch, mark]}"],
        ["+student.network.x={_target_: foreign_code.run}", "trusted_packages=[foreign_code]"],
        ["+logger.x={_target_: foreign_code.run}"],
        ["+hydra.callbacks.x={_target_: foreign_code.run}"],
        ["experiment=../../{folder}/evil"],
    ],
)
def test_a_foreign_run_directory_runs_no_code(overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "foreign_code.py").write_text("from pathlib import Path\n\ndef run(**_): Path('mark').touch()\n")
    (tmp_path / "evil.yaml").write_text("# @package _global_\nhydra: {callbacks: {x: {_target_: foreign_code.run}}}\n")
    up = "../" * len(ROOT.parents) + str(tmp_path).lstrip("/")
    run = run_directory(tmp_path / "run", [override.replace("../../{folder}", f"../../{up}") for override in overrides])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(ROOT / "train.py"), f"resume={run}"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert not (tmp_path / "mark").exists()


def test_a_run_that_was_killed_before_its_settings_were_noted_is_refused(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", [])
    (run / ".hydra" / "overrides.yaml").unlink()
    with pytest.raises(UserError, match="was killed before it had noted its settings"):
        with_resumed_overrides([f"resume={run}"])


def test_a_run_of_an_earlier_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("[]")
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0\ntrain: student\n")
    with pytest.raises(UserError, match=r"was written by segdistill 0\.1\.0") as caught:
        with_resumed_overrides([f"resume={tmp_path}"])
    assert "\n" not in str(caught.value)


def test_resume_leaves_everything_else_alone(tmp_path: Path) -> None:
    stray = tmp_path / "stray.ckpt"
    stray.touch()
    for arguments in ([], ["seed=1"], [f"resume={stray}"], [f"resume={tmp_path / 'missing'}"]):
        assert with_resumed_overrides(arguments) == arguments


def test_an_error_inside_what_hydra_instantiates_is_told_in_its_own_words() -> None:
    network = {"_target_": "segdistill.models.DeepLabV3", "num_classes": 3, "backbone": "no_such_network"}
    with pytest.raises(HydraException) as caught:
        instantiate(network)
    assert str(explain(caught.value)).startswith("backbone=no_such_network: timm has no such network")


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("train", "stage"),
        ("distill.terms", "distill.losses"),
        ("loss.name", "loss=focal"),
        ("student.fit.hflip", "augment.flip.p"),
        ("teacher.fit.jitter", "teacher.training.augment.jitter"),
    ],
)
def test_a_key_of_an_earlier_version_is_answered_with_its_new_name(key: str, now: str) -> None:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"), pytest.raises(HydraException) as caught:
        compose("config", [f"{key}=1"])
    assert str(explain(caught.value)).startswith(f"{key}: is called {now}")


@pytest.mark.parametrize(
    ("launcher", "package"),
    [("ray", "hydra-ray-launcher"), ("ray_aws", "hydra-ray-launcher"), ("submitit_slurm", "hydra-submitit-launcher")],
)
def test_a_launcher_that_is_not_installed_names_its_package(launcher: str, package: str) -> None:
    error = HydraException(f"In 'hydra/config': Could not find 'hydra/launcher/{launcher}'\n\nAvailable options in ...")
    assert explain(error) == f"hydra/launcher={launcher}: needs a package: pip install {package}"


def test_the_check_before_a_run_resolves_the_directory_that_it_will_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", return_hydra_config=True)
    CheckConfiguration().on_run_start(config)
    assert str(HydraConfig.get().run.dir).startswith("runs/kd_deeplab/")
