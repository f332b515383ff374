"""Networks: `forward(image) -> logits`, both at the image's size."""

from segdistill.models.backbones import Backbone
from segdistill.models.deeplab import DeepLabV3, DeepLabV3Plus
from segdistill.models.external import External
from segdistill.models.teacher import FrozenTeacher

__all__ = ["Backbone", "DeepLabV3", "DeepLabV3Plus", "External", "FrozenTeacher"]
