"""Thin callbacks on Lightning's hooks. At the end of a fit they run in the order in which they are configured."""

from segdistill.callbacks.checkpoint import RelocatableCheckpoint
from segdistill.callbacks.dashboard import Dashboard
from segdistill.callbacks.epoch_log import EpochLog
from segdistill.callbacks.epoch_seed import EpochSeed
from segdistill.callbacks.fast_layers import FastLayers
from segdistill.callbacks.forget_results import ForgetResults
from segdistill.callbacks.latency import Latency
from segdistill.callbacks.onnx_export import OnnxExport
from segdistill.callbacks.predictions import Predictions
from segdistill.callbacks.quantize import Quantize
from segdistill.callbacks.restore_best import RestoreBest
from segdistill.callbacks.stop_on_non_finite import StopOnNonFinite

__all__ = [
    "Dashboard",
    "EpochLog",
    "EpochSeed",
    "FastLayers",
    "ForgetResults",
    "Latency",
    "OnnxExport",
    "Predictions",
    "Quantize",
    "RelocatableCheckpoint",
    "RestoreBest",
    "StopOnNonFinite",
]
