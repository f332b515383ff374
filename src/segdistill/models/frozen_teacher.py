"""The frozen teacher, its checkpoint, and its place in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segdistill.models.feature_hooks import capture_features
from segdistill.models.fusion import fuse_conv_bn
from segdistill.models.output import lowres_logits
from segdistill.utils.errors import UserError, first_line

NETWORK_PREFIX = "network."
"""Prefix of the network's own weights in a task's checkpoint, and of the adapted network's in an adapter."""


class FrozenTeacher:
    """A network in eval mode, without gradients, and with BatchNorm fused into its convolutions.

    Not an `nn.Module`, so that a task that holds one does not train it, switch its mode or save it.

    Args:
        network: Network with `forward(image) -> logits`.
        taps: Names of modules whose outputs are returned as well.

    Attributes:
        network: The network as it was given, without fusion.
    """

    def __init__(self, network: nn.Module, taps: Sequence[str] = ()) -> None:
        self.network, self.taps = network.eval().requires_grad_(False), list(taps)
        self._quick: nn.Module | None = None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [B, C, h, w] of float32 [B, 3, H, W] at the network's own stride, and tapped outputs."""
        if self._quick is None:
            self._quick = fuse_conv_bn(self.network, image, keep=self.taps)
        with capture_features(self._quick, self.taps) as features:
            return lowres_logits(self._quick, image), features

    def to(self, device: torch.device, memory_format: torch.memory_format) -> None:
        """Move the network in place."""
        self.network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload] # a valid pair
        self._quick = None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing any code in it.

    Raises:
        UserError: If the file cannot be read as a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in as many ways as pickle and zip have
        raise UserError(f"{path}: cannot be read as a checkpoint of weights ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint or a state_dict")
    return content


def load_network(network: nn.Module, path: Path, class_names: Sequence[str] | None) -> None:
    """Load the weights of a task's checkpoint, or of a plain state_dict, into `network`.

    For an adapter the plain one may be that of the network it adapts, as other packages save it.

    Args:
        network: Network that receives the weights.
        path: Path of the checkpoint.
        class_names: Names of the classes that the network predicts; None accepts any.

    Raises:
        UserError: If the file cannot be read, or has other classes or another architecture.
    """
    checkpoint = load_checkpoint(path)
    trained_on = checkpoint.get("class_names") if class_names is not None else None
    class_names = class_names or ()
    if trained_on is not None and len(trained_on) != len(class_names):
        raise UserError(f"{path}: predicts {len(trained_on)} classes, this data has {len(class_names)}")
    if trained_on is not None and list(trained_on) != list(class_names):
        raise UserError(f"{path}: predicts the classes {list(trained_on)}, this data has {list(class_names)}")
    expected = network.state_dict()
    weights = _network_weights(checkpoint, expected.keys())
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or unexpected:
        example = sorted(missing or unexpected)[0]
        raise UserError(
            f"{path}: is of another architecture than {type(network).__name__}: {len(missing)} tensors are "
            f"missing and {len(unexpected)} are unknown, for example {example}"
        )
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            shapes = f"{list(weights[name].shape)}, this network needs {list(tensor.shape)}"
            raise UserError(f"{path}: {name} has shape {shapes}; another architecture or number of classes")
    network.load_state_dict(weights)


def _network_weights(checkpoint: Mapping[str, Any], expected: Set[str]) -> dict[str, Tensor]:
    """Return the weights by the network's own names; those of an adapter start with the same prefix as a task's."""
    content = checkpoint.get("state_dict", checkpoint)
    content = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors.keys() == expected:
        return tensors
    ours = {k.removeprefix(NETWORK_PREFIX): v for k, v in tensors.items() if k.startswith(NETWORK_PREFIX)}
    wrapped = {f"{NETWORK_PREFIX}{name}": value for name, value in tensors.items()}
    return max((ours or tensors, wrapped), key=lambda weights: len(weights.keys() & expected))


@dataclass(frozen=True)
class TeacherCache:
    """Place where the teacher with a given fingerprint is trained and kept, for all later runs and sweep jobs.

    Attributes:
        folder: Folder of `teacher.ckpt`, written once the training is done, and of the training's own files.
    """

    folder: Path

    @classmethod
    def of(cls, cache_dir: Path, cache_key: Mapping[str, Any]) -> TeacherCache:
        """Return the place for the teacher shaped by `cache_key`: network, data, budget, loss, seed."""
        canonical = json.dumps(cache_key, sort_keys=True)
        return cls(cache_dir / "teachers" / hashlib.sha256(canonical.encode()).hexdigest()[:16])

    @property
    def checkpoint(self) -> Path:
        """Checkpoint of the trained teacher; written once its training is complete."""
        return self.folder / "teacher.ckpt"

    @property
    def lock(self) -> Path:
        """Lock file that is held while the teacher is trained."""
        return self.folder.with_suffix(".lock")
