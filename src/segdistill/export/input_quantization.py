"""Removes normalisation and quantisation of the input where together they reproduce the image's own bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

NEAR = 1e-3  # tolerance, as a fraction of one byte's step
FLOATS = {"Div": np.divide, "Mul": np.multiply, "Sub": np.subtract, "Add": np.add}


@dataclass(frozen=True)
class InputQuantization:
    """A normalisation of the form (byte - zero_point) * scale, the same for every channel.

    Attributes:
        first: Name of the tensor with the bytes: the image, or its transpose.
        last: Name of the tensor with the normalised image.
        scale: Difference between the normalised values of two consecutive bytes.
        zero_point: Byte whose normalised value is 0.
    """

    first: str
    last: str
    scale: float
    zero_point: int

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> InputQuantization | None:
        """Follow a graph's input while it is only shifted and scaled; return None if that is not of this form."""
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        levels = np.tile(np.arange(256, dtype=np.float64)[None, None, :, None], (1, 3, 1, 1))
        first = last = graph.input[0].name
        cast = False
        while (node := _only_reader(graph, last)) is not None:
            if node.op_type == "Transpose" and not cast:
                first = last = node.output[0]
            elif node.op_type == "Cast":
                cast, last = True, node.output[0]
            elif node.op_type in FLOATS and node.input[0] == last and node.input[1] in constants:
                levels, last = FLOATS[node.op_type](levels, constants[node.input[1]]), node.output[0]
            else:
                break
        return cls._matching(first, last, levels) if cast else None

    @classmethod
    def _matching(cls, first: str, last: str, levels: NDArray[np.float64]) -> InputQuantization | None:
        scale = float((levels.max() - levels.min()) / 255)
        if scale <= 0:
            return None
        zero_point = round(float(-levels.min() / scale))
        exact = scale * (np.arange(256)[None, None, :, None] - zero_point)
        fits = 0 <= zero_point <= 255 and bool(np.abs(levels - exact).max() <= NEAR * scale)
        return cls(first, last, scale, zero_point) if fits else None

    @property
    def parameters(self) -> dict[str, list[dict[str, object]]]:
        """Value of onnxruntime's `TensorQuantOverrides` that quantises the normalised image to its own bytes."""
        own = {"scale": np.array(self.scale, np.float32), "zero_point": np.array(self.zero_point, np.uint8)}
        return {self.last: [own]}

    def strip(self, graph: onnx.GraphProto) -> None:
        """Make the quantised graph read the image's bytes instead of the quantised normalised image."""
        quantize = next((n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == self.last), None)
        if quantize is None:  # the first layer is in float32
            return
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == quantize.output[0]:
                    node.input[index] = self.first
        read = _read(graph)
        while idle := [node for node in graph.node if not read & set(node.output)]:
            for node in idle:
                graph.node.remove(node)
            read = _read(graph)
        for part in (graph.initializer, graph.value_info):
            used = [entry for entry in part if entry.name in read]
            del part[:]
            part.extend(used)


def _read(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input} | {value.name for value in graph.output}


def _only_reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """Return the only node that reads a tensor, not counting Shape nodes; None if there is not exactly one."""
    readers = [node for node in graph.node if name in node.input and node.op_type != "Shape"]
    return readers[0] if len(readers) == 1 else None
