"""Networks small enough for a test."""

from __future__ import annotations

from torch import Tensor, nn


class Tiny(nn.Module):
    """The least that has a backbone, a head and a normalisation."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Conv2d(4, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(image))
        return logits


class Pixelwise(nn.Module):
    """Three classes from one 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.conv(image)
        return logits


class Branching(Pixelwise):
    """A branch on the image's values, which the exporter cannot follow."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image if image.mean() > 0.5 else 1 - image)
