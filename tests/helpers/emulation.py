"""Products of bytes as processors with AVX2 and no VNNI compute them, in NumPy, for any machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

INT16 = np.iinfo(np.int16)
Ints = NDArray[np.int64]


def pair_sums(unsigned: NDArray[np.uint8], signed: NDArray[np.int8]) -> Ints:
    """Returns the sums of two neighbouring products, [..., ceil(k / 2)], of bytes [..., k]."""
    products = unsigned.astype(np.int64) * signed.astype(np.int64)
    odd = products.shape[-1] % 2
    padded = np.pad(products, [(0, 0)] * (products.ndim - 1) + [(0, odd)])
    sums: Ints = padded.reshape(*products.shape[:-1], -1, 2).sum(-1)
    return sums


def avx2_product(unsigned: NDArray[np.uint8], signed: NDArray[np.int8]) -> Ints:
    """Returns the dot products [...] of bytes [..., k]: vpmaddubsw clips each pair, vpmaddwd adds the pairs."""
    products: Ints = pair_sums(unsigned, signed).clip(INT16.min, INT16.max).sum(-1)
    return products


def clipped_pairs(weight: NDArray[np.int8]) -> int:
    """Counts the pairs of weights [C, ...] that some pixels drive beyond 16 bits, in the worst order of a channel.

    A pair's sum is largest where the pixels of its positive weights are 255 and the others 0, and smallest the other
    way round. Which weights a kernel multiplies together is its own affair, so the largest ones come together here.
    """
    rows = np.sort(weight.reshape(len(weight), -1), axis=1)
    both = np.concatenate([rows, rows[:, ::-1]])  # an odd one is left alone at either end
    positive, negative = np.where(both > 0, 255, 0).astype(np.uint8), np.where(both < 0, 255, 0).astype(np.uint8)
    sums = np.concatenate([pair_sums(positive, both), pair_sums(negative, both)])
    return int(((sums > INT16.max) | (sums < INT16.min)).sum())


def layer_weights(path: Path) -> dict[str, NDArray[np.int8]]:
    """Returns every constant that a quantised file's Conv, Gemm and MatMul nodes multiply with, by its name."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    layers = [node for node in graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]
    names = [quantized.get(name, name) for node in layers for name in node.input[:2]]
    return {name: constants[name] for name in names if name in constants}
