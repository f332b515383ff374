"""Bias correction for the shift that rounded weights cause in a convolution's mean output.

The rounding error of a weight is the same at every position, so a layer's mean output shifts by that error times its
mean input (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2).
This is nearly all that 7-bit weights lose against 8-bit ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Means = Mapping[str, NDArray[np.float64]]


def mean_inputs(path: Path, images: Sequence[NDArray[np.uint8]]) -> Means:
    """Measure the mean of each input channel of every convolution of a float32 file.

    Args:
        path: float32 file.
        images: Images uint8 [H, W, 3] of any sizes.

    Returns:
        Mean inputs, float64 [C], by node name.
    """
    model = onnx.load(path)
    convolutions = {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    inputs = sorted(set(convolutions.values()))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "mean_axes"))
    for name in inputs:  # averaged inside the session, so that no feature map leaves it
        mean = helper.make_tensor_value_info(f"{name}_mean", TensorProto.FLOAT, None)
        model.graph.node.append(helper.make_node("ReduceMean", [name, "mean_axes"], [mean.name], keepdims=0))
        model.graph.output.append(mean)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    totals = [np.zeros(()) for _ in inputs]
    for image in images:
        seen = session.run([f"{name}_mean" for name in inputs], {"image": image[None]})
        totals = [total + mean for total, mean in zip(totals, seen, strict=True)]
    means = {name: total / len(images) for name, total in zip(inputs, totals, strict=True)}
    return {node: means[name] for node, name in convolutions.items()}


def correct_biases(graph: onnx.GraphProto, source: onnx.GraphProto, means: Means) -> None:
    """Correct the biases of a QDQ graph's convolutions in place.

    Convolutions that are in float32, have no bias or share it with another one stay unchanged.

    Args:
        graph: Quantised graph.
        source: float32 graph from which it was made.
        means: Result of `mean_inputs` for the float32 graph.
    """
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.initializer}
    weights = {node.name: exact[node.input[1]] for node in source.node if node.name in means and node.input[1] in exact}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    dequantized = {node.output[0]: node.input for node in graph.node if node.op_type == "DequantizeLinear"}
    corrected = [node for node in graph.node if node.name in weights and dequantized.keys() >= set(node.input[1:3])]
    uses = Counter(dequantized[name][0] for node in corrected for name in node.input[2:])
    for node in corrected:
        if len(node.input) < 3 or uses[dequantized[node.input[2]][0]] > 1:
            continue
        (weight, weight_scale), (bias, bias_scale) = (
            [numpy_helper.to_array(constants[name]) for name in dequantized[operand][:2]] for operand in node.input[1:]
        )
        rounded = weight * weight_scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
        shift = _mean_shift(rounded - weights[node.name], means[node.name])
        stored = constants[dequantized[node.input[2]][0]]
        shifted = bias - np.rint(shift / bias_scale).astype(np.int32)
        stored.CopyFrom(numpy_helper.from_array(shifted, stored.name))


def _mean_shift(error: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shift of each mean output [O] from weight errors [O, C / groups, ...] at mean inputs [C]."""
    outputs, channels = error.shape[:2]
    groups = len(mean) // channels
    seen = np.repeat(mean.reshape(groups, channels), outputs // groups, axis=0)
    shift: NDArray[np.float64] = (error.reshape(outputs, channels, -1).sum(2) * seen).sum(1)
    return shift
