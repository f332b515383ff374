"""Runtimes for a network or its exported file, by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

PAUSE_S = 0.05  # before a backend is timed, so that the previous one's threads go to sleep


def _pytorch(path: Path, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    module = torch.load(path, weights_only=False).to(memory_format=torch.channels_last)  # this run wrote the file

    def predict(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            mask: NDArray[np.uint8] = module(torch.from_numpy(images))[0].numpy()
        return mask

    return predict


def _onnxruntime(path: Path, threads: int) -> Predict:
    from segdistill.inference.segmenter import Segmenter

    return Segmenter(path, threads=threads).masks


def _openvino(path: Path, threads: int) -> Predict:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bf16 on processors that support it
    }
    model = openvino.Core().compile_model(path, "CPU", settings)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mask: NDArray[np.uint8] = model([images])["mask"]
        return mask

    return predict


RUNTIMES: dict[str, Callable[[Path, int], Predict]] = {
    "pytorch": _pytorch,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""By name: (path, threads) -> a function from images, uint8 [N, H, W, 3], to masks, uint8 [N, H, W]."""


def installed_runtimes() -> list[str]:
    """Return the names of the installed runtimes for exported files."""
    return [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]
