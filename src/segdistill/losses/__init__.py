"""Losses against labels and against a teacher, one file each."""

from segdistill.losses.attention import AttentionTransfer, attention_transfer
from segdistill.losses.balanced import BalancedLoss, dice_loss, weighted_cross_entropy
from segdistill.losses.base import FeatureLoss, LogitLoss, ModelOutput
from segdistill.losses.boundary_kl import BoundaryKL, boundary_kl
from segdistill.losses.channelwise_kl import ChannelwiseKL, channelwise_kl
from segdistill.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from segdistill.losses.dist import DIST, dist_loss
from segdistill.losses.distillation import DistillationLoss
from segdistill.losses.focal import FocalLoss, focal_loss
from segdistill.losses.hint import HintLoss, hint_loss
from segdistill.losses.jaccard_metric import JaccardMetricLoss, jaccard_metric_loss
from segdistill.losses.ohem import OhemCrossEntropyLoss, ohem_cross_entropy
from segdistill.losses.pixelwise_kl import PixelwiseKL, pixelwise_kl

__all__ = [
    "DIST",
    "AttentionTransfer",
    "BalancedLoss",
    "BoundaryKL",
    "ChannelwiseKL",
    "CrossEntropyLoss",
    "DistillationLoss",
    "FeatureLoss",
    "FocalLoss",
    "HintLoss",
    "JaccardMetricLoss",
    "LogitLoss",
    "ModelOutput",
    "OhemCrossEntropyLoss",
    "PixelwiseKL",
    "attention_transfer",
    "boundary_kl",
    "channelwise_kl",
    "cross_entropy",
    "dice_loss",
    "dist_loss",
    "focal_loss",
    "hint_loss",
    "jaccard_metric_loss",
    "ohem_cross_entropy",
    "pixelwise_kl",
    "weighted_cross_entropy",
]
