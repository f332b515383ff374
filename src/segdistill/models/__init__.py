"""Segmentation networks: `forward(image) -> logits`, both at the image's size."""

from segdistill.models.adapters import SegmentationModelAdapter
from segdistill.models.backbones import Backbone
from segdistill.models.deeplab import DeepLabV3, DeepLabV3Plus
from segdistill.models.frozen_teacher import FrozenTeacher

__all__ = ["Backbone", "DeepLabV3", "DeepLabV3Plus", "FrozenTeacher", "SegmentationModelAdapter"]
