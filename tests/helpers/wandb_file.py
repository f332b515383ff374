"""Reads W&B's offline files, which wandb itself no longer does in Python: a record log of protobufs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

FILE_HEADER, CHUNK_HEADER, BLOCK = 7, 7, 32768
WHOLE, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Yields the records of a .wandb file, a log as LevelDB writes them: chunks in blocks of 32 KiB."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = FILE_HEADER, b""
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK_HEADER:  # too little for a chunk: padded
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + CHUNK_HEADER])
        position += CHUNK_HEADER
        parts += content[position : position + length]
        position += length
        if kind in (WHOLE, LAST):
            yield vars(wandb_internal_pb2)["Record"].FromString(parts)  # made at run time by protobuf
            parts = b""
