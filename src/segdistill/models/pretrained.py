"""Networks of other packages with the head that they were trained with, and what comes with their weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from segdistill.models.backbones import hub_asked_once
from segdistill.utils.errors import UserError, first_line

TORCHVISION, TRANSFORMER, SMP = (
    "torchvision.models.",
    "segdistill.models.pretrained.transformer",
    "segdistill.models.pretrained.smp",
)
"""Factories whose weights tell more than numbers; the first is a package."""
ALBUMENTATIONS_FILE = "albumentations_config_eval.json"
BYTE = 255
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """What comes with the weights of a network.

    Attributes:
        class_names: Names of its classes in the order of their ids; empty if they are not told.
        mean: Mean of each channel in [0, 1] that its images are normalised with; None if it is not told.
        std: Standard deviation of each channel, likewise.
        rebuild: Options of its factory that build the same network without weights.
    """

    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rebuild: Mapping[str, Any] = field(default_factory=dict)


def published(factory: str, options: Mapping[str, Any], network: nn.Module) -> Published:
    """Return what comes with the weights of a network that was built with its own head.

    Args:
        factory: Dotted path of what built it.
        options: Arguments that it was built with.
        network: The network.

    Raises:
        UserError: If the images' normalisation is one that cannot be followed.
    """
    if factory.startswith(TORCHVISION) and options.get("weights") is not None:
        return _of_torchvision(factory, str(options["weights"]))
    if factory == TRANSFORMER:
        return _of_transformers(str(options["pretrained"]), network)
    if factory == SMP:
        return _of_smp(str(options["pretrained"]), network)
    return Published()


def transformer(pretrained: str | None, config: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network for semantic segmentation of transformers: SegFormer, UperNet, DPT and others.

    Args:
        pretrained: Name on the Hugging Face hub, or folder, of its weights; None for random ones.
        config: Fields of its configuration, where `pretrained` is None.

    Raises:
        UserError: If transformers is not installed, or the weights cannot be fetched.
    """
    try:
        from transformers import AutoConfig, AutoModelForSemanticSegmentation
    except ImportError as error:
        raise UserError("teachers of transformers need it: pip install transformers") from error
    if not pretrained:
        built: nn.Module = AutoModelForSemanticSegmentation.from_config(AutoConfig.for_model(**(config or {})))
        return built
    fetched: nn.Module = _fetched(pretrained, AutoModelForSemanticSegmentation.from_pretrained, pretrained)
    return fetched


def smp(pretrained: str | None, config: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network of segmentation-models-pytorch that its `save_pretrained` saved.

    Args:
        pretrained: Name on the Hugging Face hub, or folder, of its weights; None for random ones.
        config: Arguments of `segmentation_models_pytorch.create_model`, where `pretrained` is None.

    Raises:
        UserError: If segmentation-models-pytorch is not installed, or the weights cannot be fetched.
    """
    try:
        import segmentation_models_pytorch as package
    except ImportError as error:
        raise UserError("teachers of SMP need it: pip install segmentation-models-pytorch") from error
    if not pretrained:
        built: nn.Module = package.create_model(**(config or {}))
        return built
    fetched: nn.Module = _fetched(pretrained, package.from_pretrained, pretrained, encoder_weights=None)
    return fetched


def _fetched(pretrained: str, load: Any, *arguments: Any, **options: Any) -> Any:
    """Load from a folder, or from the hub, which is asked once."""
    try:
        with nullcontext() if Path(pretrained).is_dir() else hub_asked_once():
            return load(*arguments, **options)
    except Exception as error:  # the hub's client and each package have errors of their own
        cure = "give a folder that `save_pretrained` wrote, or connect to the network once"
        raise UserError(f"pretrained={pretrained}: cannot be loaded ({first_line(error)}); {cure}") from error


def _of_torchvision(factory: str, weights: str) -> Published:
    from torchvision.models import get_model_weights

    chosen = get_model_weights(factory.rpartition(".")[2])[weights.rpartition(".")[2]]
    names, transforms = tuple(chosen.meta["categories"]), chosen.transforms()
    rebuild = {"num_classes": len(names), "weights_backbone": None}
    return Published(names, tuple(transforms.mean), tuple(transforms.std), rebuild)


def _of_transformers(pretrained: str, network: nn.Module) -> Published:
    from transformers import AutoImageProcessor

    config: Any = network.config
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    if names == tuple(f"LABEL_{index}" for index in range(len(names))):  # what nobody named
        names = ()
    rebuild = {"config": config.to_dict()}
    try:
        processor: Any = _fetched(pretrained, AutoImageProcessor.from_pretrained, pretrained)
    except UserError as error:
        return _unnormalised(pretrained, first_line(error), names, rebuild)
    scale = BYTE * (processor.rescale_factor if processor.do_rescale else 1)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    return Published(names, _divided(mean, scale), _divided(std, scale), rebuild)


def _of_smp(pretrained: str, network: nn.Module) -> Published:
    config: Any = network.config
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    rebuild = {"config": {**arguments, "arch": type(network).__name__, "encoder_weights": None}}
    try:
        path = _fetched(pretrained, _hub_file, pretrained, ALBUMENTATIONS_FILE)
        steps = json.loads(Path(path).read_text(encoding="utf-8"))["transform"]["transforms"]
    except (UserError, OSError, KeyError, ValueError) as error:
        return _unnormalised(pretrained, f"{ALBUMENTATIONS_FILE}: {first_line(error)}", (), rebuild)
    found = next((step for step in steps if step["__class_fullname__"].endswith("Normalize")), None)
    if found is None:
        return _unnormalised(pretrained, f"{ALBUMENTATIONS_FILE} has no Normalize", (), rebuild)
    if found.get("normalization", "standard") != "standard":
        allowed = "only fixed means can be followed; give teacher.network.mean and std"
        raise UserError(f"pretrained={pretrained}: normalises by {found['normalization']}; {allowed}")
    scale = BYTE / found["max_pixel_value"]  # albumentations: (bytes - mean * max) / (std * max)
    return Published((), _divided(found["mean"], scale), _divided(found["std"], scale), rebuild)


def _hub_file(pretrained: str, name: str) -> str:
    if Path(pretrained).is_dir():
        return str(Path(pretrained) / name)
    from huggingface_hub import hf_hub_download

    return str(hf_hub_download(pretrained, name))


def _divided(values: Sequence[float], scale: float) -> tuple[float, ...]:
    return tuple(value / scale for value in values)


def _unnormalised(pretrained: str, reason: str, names: tuple[str, ...], rebuild: Mapping[str, Any]) -> Published:
    log.warning(
        "%s does not tell how its images are normalised (%s): ImageNet's statistics are taken; "
        "teacher.network.mean and std give others",
        pretrained,
        reason,
    )
    return Published(names, rebuild=rebuild)
