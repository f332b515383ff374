from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from helpers.batches import batches
from helpers.settings import schedule_config
from torch import Tensor, nn

from segdistill.losses import DistillationLoss, PixelwiseKL, cross_entropy
from segdistill.models import FrozenTeacher
from segdistill.models.frozen_teacher import TeacherCache, load_network
from segdistill.tasks import DistillationTask
from segdistill.utils.errors import UserError

NAMES = ["background", "car", "lane"]


class TinyNetwork(nn.Module):
    """A network with all that makes training differ from evaluation."""

    def __init__(self, classes: int = len(NAMES), width: int = 4) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(width, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(image))
        return logits


def distillation_task() -> DistillationTask:
    torch.manual_seed(0)
    return DistillationTask(
        TinyNetwork(width=2),
        FrozenTeacher(TinyNetwork()),
        DistillationLoss(cross_entropy, {"kl": PixelwiseKL(temperature=2.0)}),
        class_names=NAMES,
        optimizer=partial(torch.optim.AdamW, lr=0.1),
        schedule=schedule_config(),
    )


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def as_checkpoint(network: nn.Module, names: list[str] = NAMES) -> dict[str, Any]:
    """What a task leaves: the network's weights under its own name, beside Lightning's state."""
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    return {"epoch": 3, "state_dict": weights, "class_names": names}


def assert_loaded(network: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_frozen_teacher_is_in_eval_mode_and_asks_for_no_gradient() -> None:
    network = TinyNetwork().train()
    teacher = FrozenTeacher(network)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    logits, _ = teacher(torch.rand(2, 3, 5, 7, requires_grad=True))
    assert logits.grad_fn is None
    assert not logits.requires_grad


def test_a_frozen_teacher_answers_the_same_twice_and_keeps_its_statistics() -> None:
    teacher, image = FrozenTeacher(TinyNetwork()), torch.rand(2, 3, 5, 7)
    before = snapshot(teacher.network)
    assert torch.equal(teacher(image)[0], teacher(image)[0])
    assert_loaded(teacher.network, before)


def test_the_teacher_is_no_submodule_of_the_task() -> None:
    task = distillation_task()
    student = task.networks["student"]
    assert set(task.networks) == {"teacher", "student"}
    assert {id(p) for p in task.parameters()} == {id(p) for p in student.parameters()}
    # By identity: `==` of a torchmetrics module makes another metric, which is always true.
    assert not any(module is task.teacher.network for module in task.modules())
    assert set(task.state_dict()) == {f"network.{name}" for name in student.state_dict()}


def test_train_mode_of_a_task_leaves_its_teacher_in_eval_mode() -> None:
    task = distillation_task()
    task.train()
    task.requires_grad_(True)
    assert all(module.training for module in task.networks["student"].modules())
    assert not any(module.training for module in task.teacher.network.modules())
    assert not any(parameter.requires_grad for parameter in task.teacher.network.parameters())


def test_the_optimizer_holds_every_parameter_of_the_student_once_and_no_other() -> None:
    task = distillation_task()
    task.trainer = Mock(spec=pl.Trainer, estimated_stepping_batches=10)
    groups = task.configure_optimizers()["optimizer"].param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in task.networks["student"].parameters())
    # Two parts, each with and without weight decay.
    assert {(group["part"], group["weight_decay"] > 0) for group in groups} == {
        ("backbone", True),
        ("backbone", False),
        ("head", True),
        ("head", False),
    }


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # two batches need none
@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # between Lightning and torch
def test_a_fit_trains_the_student_alone_and_saves_it_alone(tmp_path: Path) -> None:
    task = distillation_task()
    teacher, student = (snapshot(task.networks[role]) for role in ("teacher", "student"))
    data = torch.rand(4, 3, 8, 8), torch.randint(len(NAMES), (4, 8, 8))
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, batches(*data, 2), batches(*data))
    assert_loaded(task.teacher.network, teacher)
    for name, tensor in task.networks["student"].state_dict().items():
        assert not torch.equal(tensor, student[name]), name
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    saved = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {f"network.{name}" for name in student}
    assert saved["class_names"] == NAMES
    restored = TinyNetwork(width=2)
    load_network(restored, tmp_path / "student.ckpt", NAMES)
    assert_loaded(restored, snapshot(task.networks["student"]))


@pytest.mark.parametrize("content", [as_checkpoint, lambda network: network.state_dict()], ids=["task", "plain"])
def test_weights_of_a_task_and_a_plain_state_dict_are_both_loaded(
    tmp_path: Path, content: Callable[[nn.Module], dict[str, Any]]
) -> None:
    trained, network, path = TinyNetwork(), TinyNetwork(), tmp_path / "teacher.ckpt"
    torch.save(content(trained), path)
    key = "head.1.weight"
    assert not torch.equal(network.get_parameter(key), trained.get_parameter(key))
    load_network(network, path, NAMES)
    assert_loaded(network, snapshot(trained))


class Payload:
    """Code that unpickling would run: it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(
            lambda: as_checkpoint(TinyNetwork(4), [*NAMES, "sky"]),
            "predicts 4 classes, this data has 3",
            id="number of classes",
        ),
        pytest.param(
            lambda: as_checkpoint(TinyNetwork(), ["background", "lane", "car"]),
            "['background', 'lane', 'car'], this data has ['background', 'car', 'lane']",
            id="order of classes",
        ),
        pytest.param(
            lambda: TinyNetwork(4).state_dict(),
            "head.1.weight has shape [4, 4, 1, 1], this network needs [3, 4, 1, 1]",
            id="number of classes of a plain state_dict",
        ),
        pytest.param(
            lambda: as_checkpoint(nn.Sequential(nn.Conv2d(3, 3, 1))),
            "another architecture than TinyNetwork: 9 tensors are missing and 2 are unknown",
            id="architecture",
        ),
        pytest.param(lambda: {}, "another architecture", id="nothing"),
        pytest.param(lambda: torch.zeros(3), "holds a Tensor", id="a tensor"),
        pytest.param(lambda: {0: torch.zeros(3)}, "another architecture", id="numbered tensors"),
        pytest.param(lambda: {"state_dict": [torch.zeros(3)]}, "another architecture", id="a list of tensors"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, content: Callable[[], object], reason: str) -> None:
    path, network = tmp_path / "other.ckpt", TinyNetwork()
    torch.save(content(), path)
    before = snapshot(network)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*{re.escape(reason)}") as raised:
        load_network(network, path, NAMES)
    assert "\n" not in str(raised.value)
    assert_loaded(network, before)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world\n",
        b"teacher: deeplab\nalpha: 0.5\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
        b".",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
    ],
    ids=["empty", "text", "yaml", "lfs pointer", "a full stop", "png", "zip"],
)
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: cannot be read as a checkpoint"):
        load_network(TinyNetwork(), path, NAMES)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 0.99])
def test_a_truncated_checkpoint_is_refused_by_name(tmp_path: Path, part: float, zipped: bool) -> None:
    path = tmp_path / "teacher.ckpt"
    torch.save(as_checkpoint(TinyNetwork()), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: cannot be read as a checkpoint"):
        load_network(TinyNetwork(), path, NAMES)


@pytest.mark.parametrize(
    "writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_code_in_a_checkpoint_is_refused_and_never_run(
    tmp_path: Path, writer: Callable[[object, Path], object]
) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "it ran"
    writer({**as_checkpoint(TinyNetwork()), "extra": Payload(mark)}, path)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: cannot be read as a checkpoint"):
        load_network(TinyNetwork(), path, NAMES)
    assert not mark.exists()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.ckpt"
    with pytest.raises(UserError, match=re.escape(str(path))):
        load_network(TinyNetwork(), path, NAMES)


SHAPED_BY: dict[str, Any] = {"network": {"name": "plus", "stride": 16}, "data": "abc", "scale": [0.5, 2.0], "seed": 0}


def test_the_order_of_keys_does_not_change_the_cache_folder(tmp_path: Path) -> None:
    reordered = {
        "seed": 0,
        "scale": [0.5, 2.0],
        "data": "abc",
        "network": {"stride": 16, "name": "plus"},
    }
    cache = TeacherCache.of(tmp_path, SHAPED_BY)
    assert TeacherCache.of(tmp_path, reordered) == cache
    assert tmp_path in cache.checkpoint.parents
    assert cache.checkpoint.parent == cache.folder
    # The lock outlives the folder, which may be removed while others wait for it.
    assert cache.folder not in cache.lock.parents


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"name": "lite", "stride": 16}},
        {"network": {"name": "plus", "stride": 8}},
        {"network": {"name": "plus"}},
        {"data": "abd"},
        {"scale": [2.0, 0.5]},
        {"seed": 1},
        {"seed": "0"},
        {"seed": None},
        {"extra": None},
    ],
    ids=str,
)
def test_any_change_of_what_shaped_the_teacher_gives_another_cache_folder(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    assert TeacherCache.of(tmp_path, {**SHAPED_BY, **change}).folder != TeacherCache.of(tmp_path, SHAPED_BY).folder
