"""Capture the outputs of a network's inner modules."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segdistill.models.output import PROBE_SIZE, evaluated, lowres_logits
from segdistill.utils.errors import UserError


@contextmanager
def capture_features(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Collect the outputs of the named modules while the context is active.

    Args:
        network: Network whose modules are named as in `named_modules()`.
        names: Names of the modules to capture.

    Yields:
        Latest output of each module, by name; empty until the network has run.
    """
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            # A copy, because later layers may change it in place.
            seen[name] = output.clone() if isinstance(output, Tensor) else output

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def feature_channels(network: nn.Module, name: str, key: str, *, trained: bool = False) -> int:
    """Return the number of channels of a module's feature map, after running the network on a small image.

    Args:
        network: Network to run; left unchanged.
        name: Name of the module.
        key: Configuration key for error messages.
        trained: Whether something has to learn from what a loss says of the feature map.

    Raises:
        UserError: If there is no such module, its output is no feature map [B, C, H, W], or nothing learns before it.
    """
    known = [module for module, _ in network.named_modules() if module]
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.4)) or ", ".join(known[:5])
        raise UserError(f"{key}={name}: {type(network).__name__} has no such module; near: {near}")
    with evaluated(network), torch.set_grad_enabled(trained), capture_features(network, [name]) as seen:
        lowres_logits(network, torch.zeros(1, 3, *PROBE_SIZE))
    output = seen.get(name)
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise UserError(f"{key}={name}: gives no feature map [B, C, H, W]; take a module inside it, or after it")
    if trained and not output.requires_grad:
        raise UserError(f"{key}={name}: lies in frozen stages, and nothing learns from it; take a later module")
    return output.shape[1]
