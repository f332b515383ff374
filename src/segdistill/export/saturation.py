"""Whether a quantised file's products fit into the 16 bits in which processors without VNNI add them.

There, x86-64 kernels multiply with `vpmaddubsw`: an unsigned byte by a signed one, twice, and the sum of the two
products clipped to 16 bits. What is clipped changes the mask, without a word. VNNI adds in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from segdistill.utils.errors import UserError

SAFE_WEIGHT = 64  # 2 * 255 * 64 = 32640 is at most 32767, so that no two products of such weights are clipped
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def saturating_operands(model: onnx.ModelProto) -> list[str]:
    """Return the operands of a QDQ file's products that some input could make a processor without VNNI clip.

    Safe are operands that are float32 or unsigned, whose products with unsigned activations are added in 32 bits
    everywhere, and constants of at most `SAFE_WEIGHT`. Signed operands that are no constants count as clipped.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return [name for name in _signed_operands(model.graph, constants) if not _is_safe(constants.get(name))]


def require_portable(model: onnx.ModelProto, path: Path) -> None:
    """Check that no input makes any x86-64 processor clip a file's products.

    Raises:
        UserError: If one could; names the file and the operands.
    """
    if clipped := saturating_operands(model):
        raise UserError(
            f"{path}: not kept; processors without VNNI can clip the products of {len(clipped)} weights, "
            f"{clipped[0]} among them; target=vnni makes a file for those that have it"
        )


def _signed_operands(graph: onnx.GraphProto, constants: dict[str, TensorProto]) -> Iterator[str]:
    """Yields what is dequantised from int8 right before a product."""
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    operands = {name for node in graph.node if node.op_type in MULTIPLYING for name in node.input[:2]}
    for name in sorted(operands & dequantized.keys()):
        quantized, _, *zero_point = dequantized[name].input
        if zero_point and constants[zero_point[0]].data_type == TensorProto.INT8:
            yield quantized


def _is_safe(weight: TensorProto | None) -> bool:
    return weight is not None and bool(abs(numpy_helper.to_array(weight).astype(int)).max(initial=0) <= SAFE_WEIGHT)
