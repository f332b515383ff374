"""What ships. Knows nothing of Lightning or Hydra; `segmenter`, `predict` and `latency` run without torch."""

from segdistill.inference.segmenter import Segmenter

__all__ = ["Segmenter"]
