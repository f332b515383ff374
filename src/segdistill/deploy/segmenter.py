"""Segmenter: an exported file as a function from picture to mask. Needs onnxruntime and numpy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


class Segmenter:
    """Runs an exported file with ONNX Runtime.

    Args:
        path: A file written by `segdistill.deploy.export`.
        threads: Cores it may use; 0 takes all of them.

    Attributes:
        metadata: What the file says of itself: classes, palette, input size, origin.
    """

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segments pictures, uint8 [N, H, W, 3] RGB or one [H, W, 3], into class ids [N, H, W] or [H, W]."""
        single = pictures.ndim == 3
        mask: NDArray[np.uint8] = self._session.run(["mask"], {"image": pictures[None] if single else pictures})[0]
        return mask[0] if single else mask

    def logits(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the logits, float32 [N, C, H, W], of pictures uint8 [N, H, W, 3] RGB."""
        logits: NDArray[np.float32] = self._session.run(["logits"], {"image": pictures})[0]
        return logits
