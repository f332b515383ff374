"""Runs exported files, independently of Lightning and Hydra; `segmenter` and `predict` work without torch."""

from segdistill.inference.segmenter import Segmenter

__all__ = ["Segmenter"]
