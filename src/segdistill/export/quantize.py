"""Static INT8 quantisation of an exported file, with the layers that cannot bear it left in float32.

A "portable" file has weights of 7 bits, which no x86-64 processor clips: it gives the same masks on all of them, to
rounding. A "vnni" file has all 8 bits, for processors that have VNNI; others clip its products silently.
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
PROBED = 4  # pictures that a layer's sensitivity is measured on
Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Quantization:
    """How a file was quantised; stands in its metadata as `quantization`.

    Attributes:
        method: Of the calibration.
        pictures: How many it was calibrated on.
        drop: Of mean IoU against the float32 file, a fraction of 1.
        float32_layers: Layers that were left in float32, the most sensitive first.
        target: Processors that the file is for: "portable" or "vnni".
        weight_bits: Of each weight, its sign among them.
        weight_type: Of the weights as they are stored.
        activation_type: Of what the weights are multiplied with.
        saturates_without_vnni: Whether some input makes a processor without VNNI clip a sum of products.
    """

    method: str
    pictures: int
    drop: float
    float32_layers: list[str]
    target: Target
    weight_bits: int
    weight_type: str
    activation_type: str
    saturates_without_vnni: bool


def quantize_int8(
    source: Path,
    path: Path,
    calibration: Pictures,
    *,
    method: str = "minmax",
    limit: float = 0.005,
    target: Target = "portable",
    score: Callable[[Path], float],
) -> Quantization:
    """Quantises an exported file to INT8: QDQ, weights per channel, biases corrected for the rounding of the weights.

    If the mean IoU drops by more than `limit`, layers return to float32, twice as many each time, in the order of the
    error that each one's quantisation alone makes in the logits.

    Args:
        source: The float32 file.
        path: The file to write.
        calibration: Pictures uint8 [H, W, 3], of which the ranges of all activations are taken.
        method: "minmax", "entropy" or "percentile".
        limit: Largest drop of the score that is borne.
        target: "portable": 7-bit weights, the same masks on every x86-64 processor; "vnni": 8-bit weights.
        score: Measures the mean IoU of a file, on other pictures.

    Raises:
        UserError: If there is nothing to calibrate on, the drop stays too large, or the file would not be portable
            where it must be; nothing is left at `path` then.
    """
    if not calibration:
        raise UserError(f"{path}: quantisation needs pictures to calibrate on, there are none")
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        bench = _Bench(source, Path(scratch), calibration, method, target)
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
            pictures=len(calibration),
            drop=drop,
            float32_layers=[bench.layers[name] for name in kept],
            target=target,
            weight_bits=WEIGHT_BITS[target],
            weight_type=_plain(WEIGHT_TYPE),
            activation_type=_plain(ACTIVATION_TYPE),
            saturates_without_vnni=bool(saturating_operands(model)),
        )
        with atomic_write(path) as temporary:
            _describe(model, source, result, temporary)
    return result


class _Bench:
    """A float32 file that is quantised in part, any number of times, with one calibration.

    Attributes:
        layers: Node of each layer with weights -> its module's name.
        input_quantization: How the picture is normalised, if that is what quantisation would take back.
    """

    def __init__(self, source: Path, scratch: Path, calibration: Pictures, method: str, target: Target) -> None:
        self.source, self.prepared, self.scratch = source, scratch / "prepared.onnx", scratch
        self.calibration, self.method, self.weight_bits = calibration, METHODS[method], WEIGHT_BITS[target]
        quant_pre_process(source, self.prepared, skip_symbolic_shape=True)
        self.graph = onnx.load(self.prepared).graph
        self.means = mean_inputs(self.prepared, calibration)
        self.input_quantization = InputQuantization.of(self.graph)
        self.layers = {node.name: _layer(node.input[1]) for node in self.graph.node if node.op_type in WEIGHTED}

    def quantized(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> Path:
        """Writes a file with some nodes quantised, into a place that the next call overwrites."""
        path = self.scratch / "quantized.onnx"
        options: dict[str, object] = {"CalibStridedMinMax": 1}  # one picture at a time, or every activation is kept
        if self.input_quantization:
            options["TensorQuantOverrides"] = self.input_quantization.parameters
        quantize_static(
            self.prepared,
            path,
            _Reader(self.calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
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
        """Returns the layers, first the one whose quantisation alone changes the logits most."""
        probes = [picture[None] for picture in self.calibration[:PROBED]]
        expected = [Segmenter(self.source).logits(probe) for probe in probes]

        def error(name: str) -> float:
            segmenter = Segmenter(self.quantized(only=[name]))
            return sum(float(np.square(segmenter.logits(p) - e).mean()) for p, e in zip(probes, expected, strict=True))

        errors = {name: error(name) for name in self.layers}
        return sorted(errors, key=lambda name: -errors[name])


class _Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime ships no type information
    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.set_range(0, len(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.chosen = iter(self.pictures[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        picture = next(self.chosen, None)
        return None if picture is None else {"image": picture[None]}


def _layer(weight: str) -> str:
    return weight.removeprefix("network.").removesuffix(".weight")


def _plain(kind: QuantType) -> str:
    """Return a type under its usual name: "uint8", "int8"."""
    return str(kind).removeprefix("Q").lower()


def _describe(model: onnx.ModelProto, source: Path, result: Quantization, path: Path) -> None:
    """Saves a quantised model with the metadata of its source, and how it came to be."""
    metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata | {"quantization": json.dumps(asdict(result))})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back onnxruntime's advice on what is done here anyway."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
