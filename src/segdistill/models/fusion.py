"""Merge the layers of a network that is no longer trained."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segdistill.models.feature_hooks import capture_features
from segdistill.models.output import PROBE_SIZE, evaluated, lowres_logits

TOLERANCE = 1e-2
"""Maximum difference between outputs, as a share of the largest output: TF32's rounding, with a margin."""


@torch.no_grad()
def fuse_conv_bn(network: nn.Module, image: Tensor, keep: Iterable[str] = ()) -> nn.Module:
    """Return a faster copy of a network in eval mode.

    Each BatchNorm that is the only reader of a convolution's output is fused into that convolution. These pairs are
    found by running the network once, so that any architecture can be fused.

    Args:
        network: Network in eval mode; left unchanged.
        image: Example input, float32 [B, 3, H, W].
        keep: Names of modules whose outputs must not change.

    Returns:
        The copy, or `network` itself if the copy's outputs differ because something else also read the convolutions.
    """
    quick, example = copy.deepcopy(network), image[:1]
    with torch.autocast(image.device.type, enabled=False):
        kept = {quick.get_submodule(name) for name in keep}
        for norm, convolution in normalised_convolutions(quick, example).items():
            if not kept & {convolution, *norm.modules()}:
                _merge(quick, convolution, norm)
        answers = [_answers(each, example, keep) for each in (network, quick)]
    agree = all((a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in zip(*answers, strict=True))
    return quick if agree else network


@torch.no_grad()
def deployed(network: nn.Module) -> nn.Module:
    """Return a copy for export, on the CPU, in float32, with the same logits in fewer layers.

    Without BatchNorms half as much is traced. Layers with a method `reparameterize` merge their branches themselves,
    as timm's RepVGG and MobileOne do. A network that fails at any of this is returned as it is.
    """
    quick = copy.deepcopy(network).cpu().float()
    with evaluated(quick), suppress(Exception):
        for layer in list(quick.modules()):
            if inspect.ismethod(method := getattr(layer, "reparameterize", None)):
                method()
        return fuse_conv_bn(quick, torch.zeros(1, 3, *PROBE_SIZE))
    return network


def _answers(network: nn.Module, example: Tensor, taps: Iterable[str]) -> list[Tensor]:
    with capture_features(network, taps) as features:
        return [lowres_logits(network, example), *features.values()]


def normalised_convolutions(network: nn.Module, example: Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Map each BatchNorm of a network in eval mode to the convolution whose output it alone normalises."""
    written: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    found: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    calls: Counter[nn.Module] = Counter()

    def note_output(module: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] += 1
        written[id(output)] = module, output  # the tensor is kept, or its id would be reused

    def note_input(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        if id(inputs[0]) in written:
            found[module] = written[id(inputs[0])][0]

    hooks = [m.register_forward_hook(note_output) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(note_input) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    lowres_logits(network, example)
    for hook in hooks:
        hook.remove()
    readers = Counter(found.values())
    return {
        norm: convolution
        for norm, convolution in found.items()
        if calls[norm] == calls[convolution] == readers[convolution] == 1 and norm.track_running_stats
    }


def _merge(network: nn.Module, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    fused = fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = fused.weight, fused.bias
    rest = getattr(norm, "act", nn.Identity())  # timm's BatchNorms apply the activation as well
    if hasattr(rest, "inplace"):
        rest.inplace = True  # nothing else reads the convolution
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is norm:
                setattr(parent, name, rest)
