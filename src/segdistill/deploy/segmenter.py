"""Segmenter: an exported file as a function from picture to mask. Needs onnxruntime, numpy and Pillow alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from segdistill.errors import UserError, first_line
from segdistill.pictures import resized_ids, resized_rgb


class Segmenter:
    """Runs an exported file with ONNX Runtime.

    Args:
        path: A file written by `segdistill.deploy.export`.
        threads: Cores it may use; 0 takes all of them.

    Attributes:
        metadata: What the file says of itself: classes, palette, input size, origin.

    Raises:
        UserError: If the file cannot be loaded, or is another kind of model.

    Example:
        >>> segmenter = Segmenter("student.int8.onnx")  # doctest: +SKIP
        >>> mask = segmenter(np.asarray(Image.open("frame.jpg").convert("RGB")))  # doctest: +SKIP
    """

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors are raised, and told in one line
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class of its own for every kind of failure
            raise UserError(f"{path}: cannot be loaded as an ONNX file ({first_line(error)})") from error
        inputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_inputs()]
        outputs = {entry.name for entry in self._session.get_outputs()}
        if inputs != [("image", "tensor(uint8)", 4)] or not {"mask", "logits"} <= outputs:
            raise UserError(
                f"{path}: is no exported segmentation network: it takes {inputs} and gives {sorted(outputs)}, "
                "instead of image, uint8 [N, H, W, 3], and mask, logits"
            )
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def classes(self) -> list[str]:
        """Names by class id."""
        return list(json.loads(self.metadata.get("classes", "[]")))

    @property
    def palette(self) -> list[list[int]]:
        """Colours [R, G, B] by class id."""
        return [list(colour) for colour in json.loads(self.metadata.get("palette", "[]"))]

    @property
    def input_size(self) -> tuple[int, int] | None:
        """[H, W] that the network was trained for; None where the file does not tell."""
        size = json.loads(self.metadata.get("preprocessing", "{}")).get("resize")
        return None if size is None else (int(size[0]), int(size[1]))

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segments a picture of any size, uint8 [H, W, 3] RGB, into class ids [H, W].

        The network sees it at the size it was trained for.
        """
        own = picture.shape[0], picture.shape[1]
        shown = resized_rgb(picture, self.input_size or own)
        return resized_ids(self.masks(shown[None])[0], own)

    def masks(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segments pictures, uint8 [N, H, W, 3] RGB, at the size they have, into class ids [N, H, W]."""
        mask: NDArray[np.uint8] = self._session.run(["mask"], {"image": pictures})[0]
        return mask

    def logits(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the logits, float32 [N, C, H, W], of pictures uint8 [N, H, W, 3] RGB."""
        logits: NDArray[np.float32] = self._session.run(["logits"], {"image": pictures})[0]
        return logits
