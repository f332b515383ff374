"""The trained RoadScenes teacher that is part of the package, in float16."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import nn

from segdistill.utils.errors import UserError

WEIGHTS = Path(__file__).parent / "weights" / "roadscenes_deeplabv3plus.safetensors"
"""File of weights; its metadata has classes, network and recipe, and a JSON file beside it has its scores."""


def packaged_test_miou() -> float:
    """Return the packaged teacher's mean IoU on the RoadScenes test split, as a fraction of 1."""
    return float(json.loads(WEIGHTS.with_suffix(".json").read_text())["test_miou"])


def load_packaged(network: nn.Module, class_names: Sequence[str]) -> dict[str, str]:
    """Load the packaged weights into a network.

    Args:
        network: A `DeepLabV3Plus` on EfficientNet-Lite0, like the default teacher.
        class_names: Names of the classes that the network predicts.

    Returns:
        Metadata of the file: `recipe` and others.

    Raises:
        UserError: If the classes or the network differ from those of the file.
    """
    with safe_open(WEIGHTS, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # it is no mapping
    cure = "teacher.source=train trains one"
    known = json.loads(metadata["classes"])
    if known != list(class_names):
        raise UserError(f"teacher.source=packaged: predicts {known}, this data has {list(class_names)}; {cure}")
    expected = network.state_dict()
    if {name: value.shape for name, value in expected.items()} != {n: value.shape for n, value in weights.items()}:
        raise UserError(f"teacher.source=packaged: is {metadata['network']}, no {type(network).__name__}; {cure}")
    network.load_state_dict(weights)
    return metadata
