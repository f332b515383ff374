"""Static INT8 quantisation of an exported file; layers that lose too much accuracy stay in float32.

A "portable" file has 7-bit weights, whose products no x86-64 processor clips: it gives the same masks on all of them,
up to rounding. A "vnni" file has 8-bit weights, for processors with VNNI; others clip its products silently.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from segdistill.export.bias_correction import correct_biases, mean_inputs
from segdistill.export.input_quantization import InputQuantization
from segdistill.export.saturation import require_portable, saturating_operands
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.errors import UserError
from segdistill.utils.io import atomic_write

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
Target = Literal["portable", "vnni"]
WEIGHT_BITS: dict[Target, int] = {"portable": 7, "vnni": 8}
ACTIVATION_TYPE, WEIGHT_TYPE = QuantType.QUInt8, QuantType.QInt8
QUANTIZED = ("Conv", "Add", "Relu", "Clip", "Concat", "MaxPool", "AveragePool", "MatMul", "Gemm")
WEIGHTED = ("Conv", "MatMul", "Gemm")
PROBED = 4  # number of images on which a layer's sensitivity is measured
Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Quantization:
    """How a file was quantised; stored in its metadata as `quantization`.

    Attributes:
        method: Calibration method.
        images: Number of calibration images.
        drop: mIoU drop against the float32 file, a fraction of 1.
        float32_layers: Layers left in float32, the most sensitive first.
        target: Target processors: "portable" or "vnni".
        per_channel: Whether each output channel of a layer has its own scale.
        weight_bits: Bits of each weight, including its sign.
        weight_type: Data type in which the weights are stored.
        activation_type: Data type of the activations.
        saturates_without_vnni: Whether a processor without VNNI clips a sum of products for some input.
    """

    method: str
    images: int
    drop: float
    float32_layers: list[str]
    target: Target
    per_channel: bool
    weight_bits: int
    weight_type: str
    activation_type: str
    saturates_without_vnni: bool


def quantize_int8(
    source: Path,
    path: Path,
    calibration: Images,
    *,
    method: str = "minmax",
    limit: float = 0.005,
    target: Target = "portable",
    per_channel: bool = True,
    score: Callable[[Path], float],
) -> Quantization:
    """Quantise an exported file to INT8: QDQ, biases corrected for the rounding of the weights.

    While the mean IoU drops by more than `limit`, layers return to float32, twice as many each time, in the order of
    the error in the logits that quantising each of them alone causes.

    Args:
        source: float32 file.
        path: File to write.
        calibration: Images uint8 [H, W, 3] from which the ranges of all activations are determined.
        method: Calibration method: "minmax", "entropy" or "percentile".
        limit: Maximum tolerated mIoU drop, a fraction of 1.
        target: "portable": 7-bit weights, the same masks on every x86-64 processor; "vnni": 8-bit weights.
        per_channel: Whether each output channel of a layer has its own scale; otherwise one serves the whole layer.
        score: Function that measures the mean IoU of a file, on other images.

    Returns:
        How the file was quantised.

    Raises:
        UserError: If there are no calibration images, the drop stays too large, or a file with target "portable" would
            not be portable; nothing is left at `path`.
    """
    if not calibration:
        raise UserError(f"{path}: quantisation needs images to calibrate on, there are none")
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        bench = _Bench(source, Path(scratch), calibration, method, target, per_channel)
        reference = score(source)
        ranking: list[str] = []
        kept: list[str] = []
        while True:
            candidate = bench.quantized(without=kept)
            drop = reference - score(candidate)
            if drop <= limit:
                break
            if len(kept) == len(bench.layers):
                raise UserError(
                    f"{path}: not kept; {100 * drop:.2f} points of mean IoU are lost whatever stays in float32"
                )
            ranking = ranking or bench.by_sensitivity()
            kept = ranking[: max(1, 2 * len(kept))]
        model = onnx.load(candidate)
        if target == "portable":
            require_portable(model, path)
        result = Quantization(
            method=method,
            images=len(calibration),
            drop=drop,
            float32_layers=[bench.layers[name] for name in kept],
            target=target,
            per_channel=per_channel,
            weight_bits=WEIGHT_BITS[target],
            weight_type=_plain(WEIGHT_TYPE),
            activation_type=_plain(ACTIVATION_TYPE),
            saturates_without_vnni=bool(saturating_operands(model)),
        )
        with atomic_write(path) as temporary:
            _describe(model, source, result, temporary)
    return result


class _Bench:
    """Quantises parts of a float32 file any number of times, with one calibration.

    Attributes:
        layers: Maps the node of each layer with weights to its module's name.
        input_quantization: Normalisation of the image, if quantisation would undo it; otherwise None.
    """

    def __init__(
        self, source: Path, scratch: Path, calibration: Images, method: str, target: Target, per_channel: bool
    ) -> None:
        self.source, self.prepared, self.scratch = source, scratch / "prepared.onnx", scratch
        self.calibration, self.method, self.weight_bits = calibration, METHODS[method], WEIGHT_BITS[target]
        self.per_channel = per_channel
        quant_pre_process(source, self.prepared, skip_symbolic_shape=True)
        self.graph = onnx.load(self.prepared).graph
        self.means = mean_inputs(self.prepared, calibration)
        self.input_quantization = InputQuantization.of(self.graph)
        self.layers = {node.name: _layer(node.input[1]) for node in self.graph.node if node.op_type in WEIGHTED}

    def quantized(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> Path:
        """Write a file with some nodes quantised; the next call overwrites it."""
        path = self.scratch / "quantized.onnx"
        options: dict[str, object] = {"CalibStridedMinMax": 1}  # one image at a time, else all activations are kept
        if self.input_quantization:
            options["TensorQuantOverrides"] = self.input_quantization.parameters
        quantize_static(
            self.prepared,
            path,
            _Reader(self.calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=self.per_channel,
            reduce_range=self.weight_bits == 7,
            activation_type=ACTIVATION_TYPE,
            weight_type=WEIGHT_TYPE,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(without),
            calibrate_method=self.method,
            calibration_cache_path=self.scratch / "ranges.json",
            extra_options=options,
        )
        model = onnx.load(path)
        correct_biases(model.graph, self.graph, self.means)
        if self.input_quantization:
            self.input_quantization.strip(model.graph)
        onnx.save(model, path)
        return path

    def by_sensitivity(self) -> list[str]:
        """Return the layers, those first whose quantisation alone changes the logits most."""
        probes = [image[None] for image in self.calibration[:PROBED]]
        expected = [Segmenter(self.source).logits(probe) for probe in probes]

        def error(name: str) -> float:
            segmenter = Segmenter(self.quantized(only=[name]))
            return sum(float(np.square(segmenter.logits(p) - e).mean()) for p, e in zip(probes, expected, strict=True))

        errors = {name: error(name) for name in self.layers}
        return sorted(errors, key=lambda name: -errors[name])


class _Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime ships no type information
    def __init__(self, images: Images) -> None:
        self.images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.chosen = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self.chosen, None)
        return None if image is None else {"image": image[None]}


def _layer(weight: str) -> str:
    return weight.removeprefix("network.").removesuffix(".weight")


def _plain(kind: QuantType) -> str:
    """Return the usual name of a type: "uint8", "int8"."""
    return str(kind).removeprefix("Q").lower()


def _describe(model: onnx.ModelProto, source: Path, result: Quantization, path: Path) -> None:
    """Save a quantised model with the metadata of its source and a description of the quantisation."""
    metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata | {"quantization": json.dumps(asdict(result))})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress onnxruntime's log messages, which advise steps that are done here anyway."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
