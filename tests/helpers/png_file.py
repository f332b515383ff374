"""PNG files that Pillow cannot write: 16-bit colour, and a chunk that tells the significant bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels


def write_png16(
    path: Path, levels: NDArray[np.uint16], significant_bits: Sequence[int] = (), exif: bytes = b""
) -> None:
    """Writes uint16 [H, W, channels], unfiltered, with an sBIT or an eXIf chunk if they are given."""
    height, width, channels = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = [_chunk(b"IHDR", header), _chunk(b"gAMA", struct.pack(">I", 45455))]
    chunks += [_chunk(b"sBIT", bytes(significant_bits))] if significant_bits else []
    chunks += [_chunk(b"eXIf", exif)] if exif else []
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")])
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
