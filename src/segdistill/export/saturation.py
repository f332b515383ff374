"""Checks that the products of a quantised file fit into the 16-bit sums of processors without VNNI.

There, x86-64 kernels multiply with `vpmaddubsw`: two products of an unsigned and a signed byte are added, and the sum
is clipped to 16 bits. Clipping silently changes the mask. VNNI adds in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from segdistill.utils.errors import UserError

SAFE_WEIGHT = 64  # 2 * 255 * 64 = 32640 <= 32767, so the sum of two products of such weights is never clipped
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def saturating_operands(model: onnx.ModelProto) -> list[str]:
    """Return the operands of a QDQ file's products that a processor without VNNI could clip for some input.

    Safe operands are float32 ones, unsigned ones, whose products with unsigned activations are added in 32 bits
    everywhere, and constants with magnitudes of at most `SAFE_WEIGHT`. Signed operands that are not constant count as
    clipped.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return [name for name in _signed_operands(model.graph, constants) if not _is_safe(constants.get(name))]


def require_portable(model: onnx.ModelProto, path: Path) -> None:
    """Check that no x86-64 processor clips a file's products, for any input.

    Raises:
        UserError: If one could; names the file, the number of operands and one of them.
    """
    if clipped := saturating_operands(model):
        raise UserError(
            f"{path}: not kept; processors without VNNI can clip the products of {len(clipped)} weights, "
            f"{clipped[0]} among them; target=vnni makes a file for those that have it"
        )


def _signed_operands(graph: onnx.GraphProto, constants: dict[str, TensorProto]) -> Iterator[str]:
    """Yield the tensors that are dequantised from int8 directly before a product."""
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    operands = {name for node in graph.node if node.op_type in MULTIPLYING for name in node.input[:2]}
    for name in sorted(operands & dequantized.keys()):
        quantized, _, *zero_point = dequantized[name].input
        if zero_point and constants[zero_point[0]].data_type == TensorProto.INT8:
            yield quantized


def _is_safe(weight: TensorProto | None) -> bool:
    return weight is not None and bool(abs(numpy_helper.to_array(weight).astype(int)).max(initial=0) <= SAFE_WEIGHT)
