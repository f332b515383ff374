"""Export of a trained network to one self-describing ONNX file, kept only if it agrees with the network."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from segdistill.inference.metadata import MAX_CLASSES
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.io import atomic_write

MIN_AGREEMENT = 0.999  # share of pixels with the same class
MAX_LOGIT_ERROR = 1e-3
MIN_FP16_AGREEMENT = 0.99


class ExportWrapper(nn.Module):
    """A network with the interface of exported files: images in, masks and logits out.

    Args:
        network: Module with `forward(image float32 [N, 3, H, W] in [0, 1]) -> logits [N, C, H, W]`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment uint8 [N, H, W, 3] RGB into (mask uint8 [N, H, W], logits float32 [N, C, H, W])."""
        logits = self.network(image.permute(0, 3, 1, 2).float() / 255)
        return logits.argmax(dim=1).to(torch.uint8), logits


@dataclass(frozen=True)
class Agreement:
    """Agreement of an exported file with its original.

    Attributes:
        pixels: Share of pixels with the same class.
        logit_error: Maximum absolute difference of a logit.
    """

    pixels: float
    logit_error: float


def export_wrapper(network: nn.Module) -> ExportWrapper:
    """Return a copy of a network ready for export: in an `ExportWrapper`, on the CPU, float32, in eval mode."""
    module = ExportWrapper(copy.deepcopy(network)).cpu().float().eval()
    for layer in module.modules():
        if isinstance(getattr(layer, "inplace", None), bool):
            layer.inplace = False  # type: ignore[assignment] # the exporter is slow at removing in-place operations
    return module


def export_onnx(
    network: nn.Module,
    path: Path,
    images: NDArray[np.uint8],
    metadata: Mapping[str, str],
    *,
    traced: nn.Module | None = None,
) -> Agreement:
    """Export a network; keep the file only if ONNX Runtime agrees with PyTorch on `images`.

    Args:
        network: Module with `forward(image float32 [N, 3, H, W] in [0, 1]) -> logits [N, C, H, W]`, at most 256
            classes.
        path: File to write; batch size, height and width of its input are dynamic.
        images: Images uint8 [N, H, W, 3] RGB to compare on; real ones, because noise has no clear classes.
        metadata: Metadata of the file.
        traced: Network with the same logits that is written in place of `network`.

    Returns:
        The agreement of the file with `network` on `images`.

    Raises:
        UserError: If the exporter fails, if they disagree, or if there are too many classes for uint8 masks; nothing
            is left at `path`.
    """
    original = export_wrapper(network).to(memory_format=torch.channels_last)
    expected_mask, expected_logits = _run(original, images)
    if expected_logits.shape[1] > MAX_CLASSES:
        raise UserError(f"{path}: {expected_logits.shape[1]} classes do not fit into a mask of 8 bits")
    with atomic_write(path) as temporary:
        _write(export_wrapper(network if traced is None else traced), temporary, images.shape[1:3], metadata)
        exported = Segmenter(temporary)
        agreement = Agreement(
            pixels=float(np.mean(exported.masks(images) == expected_mask)),
            logit_error=float(np.abs(exported.logits(images) - expected_logits).max()),
        )
        if not (agreement.pixels >= MIN_AGREEMENT and agreement.logit_error <= MAX_LOGIT_ERROR):
            raise UserError(
                f"{path}: not kept; ONNX Runtime and PyTorch agree on {agreement.pixels:.3%} of the pixels (at "
                f"least {MIN_AGREEMENT:.1%}) with a logit error of {agreement.logit_error:.1e} (at most "
                f"{MAX_LOGIT_ERROR:.0e})"
            )
    return agreement


def export_fp16(source: Path, path: Path, images: NDArray[np.uint8]) -> float:
    """Write a copy of an exported file that computes in float16, which is faster on GPUs; keep its input and outputs.

    Args:
        source: float32 file.
        path: File to write.
        images: Images uint8 [N, H, W, 3] RGB to compare on.

    Returns:
        Share of pixels with the same class in both files.

    Raises:
        UserError: If that share is too small; nothing is left at `path`.
    """
    model = onnx.load(source)
    with _quiet():
        half = convert_float_to_float16(model, keep_io_types=True)
    with atomic_write(path) as temporary:
        onnx.checker.check_model(half, full_check=True)
        onnx.save(half, temporary)
        agreement = float(np.mean(Segmenter(temporary).masks(images) == Segmenter(source).masks(images)))
        if not agreement >= MIN_FP16_AGREEMENT:
            raise UserError(f"{path}: not kept; in float16 {agreement:.3%} of the pixels keep their class")
    return agreement


@torch.no_grad()
def _run(module: ExportWrapper, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    mask, logits = module(torch.tensor(images))
    return mask.numpy(), logits.numpy()


def try_export(network: nn.Module, size: Sequence[int]) -> None:
    """Export a network and discard the file, to find out before training whether it can be exported.

    Args:
        network: Network as in `export_onnx`; its weights do not matter.
        size: [H, W] of the example input for tracing.

    Raises:
        UserError: If the exporter fails, or ONNX Runtime cannot load the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.onnx"
        _write(export_wrapper(network), path, size, {}, optimize=False)
        Segmenter(path)


def _write(
    module: ExportWrapper, path: Path, size: Sequence[int], metadata: Mapping[str, str], *, optimize: bool = True
) -> None:
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)  # a batch size of one could be exported as a constant
    free = torch.export.Dim.DYNAMIC
    try:
        with _quiet():
            torch.onnx.export(
                module,
                (example,),
                path,
                input_names=["image"],
                output_names=["mask", "logits"],
                dynamic_shapes={"image": {0: free, 1: free, 2: free}},
                dynamo=True,
                external_data=False,
                verbose=False,
                optimize=optimize,
            )
    except torch.onnx.OnnxExporterError as error:  # its text is a page of advice; its cause says what is wrong
        raise UserError(f"torch.onnx.export fails: {first_line(error.__cause__ or error)}") from error
    model = onnx.load(path)
    _name_dimensions(model.graph)
    _forget_sources(model.graph)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _name_dimensions(graph: onnx.GraphProto) -> None:
    """Replace the exporter's symbols for the dynamic dimensions by N, H and W, also within formulas."""
    free = graph.input[0].type.tensor_type.shape.dim[:3]
    names = {dim.dim_param: name for dim, name in zip(free, "NHW", strict=True)}
    symbol = re.compile("|".join(rf"\b{re.escape(old)}\b" for old in names))
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = symbol.sub(lambda match: names[match[0]], dim.dim_param)


def _forget_sources(graph: onnx.GraphProto) -> None:
    """Remove each node's reference to its Python source, which takes up a tenth of a small file."""
    for part in [*graph.node, *graph.initializer, *graph.value_info, graph]:
        del part.metadata_props[:]
        part.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's progress output, warnings and log messages; exceptions still propagate."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
