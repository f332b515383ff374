"""Networks as other packages have them, by the names that a configuration gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn


class Returning(nn.Module):
    """Answers in the form it is told to, at half the size, and takes even sizes alone."""

    def __init__(self, classes: int, form: str = "tensor") -> None:
        super().__init__()
        self.encoder, self.top = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, classes, 1)
        self.form = form

    def forward(self, image: Tensor) -> Any:
        if image.shape[-2] % 2 or image.shape[-1] % 2:
            raise RuntimeError("even sizes only")
        logits = self.top(self.encoder(image))
        forms = {
            "tensor": logits,
            "out": {"out": logits, "aux": -logits},
            "object": SimpleNamespace(logits=logits),
            "tuple": (logits, logits),
        }
        return forms[self.form]


def hooked(classes: int, weights: str | None = None) -> nn.Module:
    """A network whose first answer hangs a function into it, as transformers does; `weights` cannot be fetched."""
    if weights:
        raise RuntimeError("no network")

    class Hooked(Returning):
        def forward(self, image: Tensor) -> Any:
            self.top.register_forward_hook(lambda *_: None)
            return super().forward(image)

    network = Hooked(classes)
    network.__class__.__qualname__ = "absent"
    return network


def needs_lists(classes: int, depths: list[int]) -> nn.Module:
    if not isinstance(depths, list):
        raise RuntimeError("depths must be a list")
    return Returning(classes)
