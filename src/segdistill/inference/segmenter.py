"""Segmenter: an exported file as a function from image to mask. Needs only onnxruntime, numpy and Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from segdistill.inference.exported import exported_file
from segdistill.inference.metadata import read_classes, read_palette, read_preprocessing
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.preprocessing import Preprocessing

INPUTS = [("image", "tensor(uint8)", 4)]  # [N, H, W, 3] RGB
OUTPUTS = [("mask", "tensor(uint8)", 3), ("logits", "tensor(float)", 4)]  # [N, H, W] and [N, C, H, W]


class Segmenter:
    """Runs an exported file with ONNX Runtime.

    Args:
        path: ONNX file written by `segdistill.export`, or a folder of such files, of which the only one or
            `student.int8.onnx` is meant.
        threads: Number of cores it may use; 0 uses all of them.

    Attributes:
        path: The file.
        metadata: Metadata of the file, as text: classes, palette, input size, origin.
        classes: Class names by id; empty if the file has none.
        palette: Colours [R, G, B] by class id; empty if the file has none.
        preprocessing: What is done to images before the network sees them; None if the file does not tell.

    Raises:
        UserError: If the file cannot be loaded, is another kind of model, or has malformed metadata.

    Example:
        >>> segmenter = Segmenter("student.int8.onnx")  # doctest: +SKIP
        >>> mask = segmenter(read_rgb(Path("frame.jpg")))  # doctest: +SKIP
    """

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        self.path = path = exported_file(Path(path))
        try:
            self._session = _session(path, threads)
            inputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_inputs()]
            outputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_outputs()]
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # ONNX Runtime raises a different class for every kind of failure
            raise UserError(f"{path}: cannot be loaded as an ONNX file ({first_line(error)})") from error
        if inputs != INPUTS or not set(OUTPUTS) <= set(outputs):
            raise UserError(
                f"{path}: is no exported segmentation network: it takes {inputs} and gives {outputs}, "
                f"instead of {INPUTS} and {OUTPUTS}"
            )
        try:
            self.classes = read_classes(self.metadata)
            self.palette = read_palette(self.metadata)
            self.preprocessing = read_preprocessing(self.metadata)
        except ValueError as error:
            raise UserError(f"{path}: malformed metadata: {error}; export the network again") from error

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment an image of any size, uint8 [H, W, 3] RGB, into class ids [H, W].

        The image is prepared as `preprocessing` says, and the mask is brought back to the image's size; rows that the
        network does not see are 255, void.
        """
        own = image.shape[0], image.shape[1]
        steps = self.preprocessing or Preprocessing(own)
        return steps.restored(self.masks(steps.image(image)[None])[0], own)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The [H, W] of prepared images, for which the network was trained; None if the file does not tell."""
        return None if self.preprocessing is None else self.preprocessing.size

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment images, uint8 [N, H, W, 3] RGB, already prepared, into class ids [N, H, W].

        Raises:
            UserError: If the network cannot process them.
        """
        mask: NDArray[np.uint8] = self._run("mask", images)
        if mask.shape != images.shape[:3]:
            raise UserError(f"{self.path}: gives masks {mask.shape} of images {images.shape}")
        return mask

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits, float32 [N, C, H, W], of images, uint8 [N, H, W, 3] RGB, already prepared.

        Raises:
            UserError: If the network cannot process them.
        """
        logits: NDArray[np.float32] = self._run("logits", images)
        return logits

    def _run(self, output: str, images: NDArray[np.uint8]) -> Any:
        try:
            return self._session.run([output], {"image": images})[0]
        except Exception as error:
            raise UserError(f"{self.path}: cannot segment images {images.shape} ({first_line(error)})") from error


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, and reported in one line
    # A fallback to other providers would print the error and retry the only provider.
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
