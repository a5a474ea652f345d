"""How a segment of the journal looks on disk. Pure: bytes in, bytes out.

A segment is a header block, then batches, each starting at a block's border so that no block that was
acknowledged is ever written again. A batch is a row of records; the last one's span runs to the border.

header  magic, version, boot id, epoch, CRC-32 of these
record  span, length of meta, length of content, CRC-32, meta, content; integers are little-endian
meta    MessagePack: stamp, then one array an operation

Invariants:
  1. A record's CRC starts from the header's, and the header's epoch grows with every use of the segment: what
     an earlier use left behind, or a torn write, is never taken for a record.
  2. Stamps are the boot's monotonic clock in nanoseconds: they order the records of all journals of one boot.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec

from posthouse.journal.operations import Append, Cancel, Gone, Operation, Put

BLOCK = 4096
MAGIC = b"PHJOURNL"
VERSION = 1
HEADER = struct.Struct("<8sI36sQ")
FIELDS = struct.Struct("<III")
CRC = struct.Struct("<I")
OVERHEAD = FIELDS.size + CRC.size


@dataclass(frozen=True, slots=True)
class Header:
    boot_id: str
    epoch: int
    seed: int
    """Where the CRCs of the records start."""


@dataclass(frozen=True, slots=True)
class Record:
    offset: int
    span: int
    stamp: int
    operations: tuple[Operation, ...]
    content_offset: int
    content_length: int


def encode_header(boot_id: str, epoch: int) -> tuple[bytes, int]:
    """The header block and the seed of its records."""
    fields = HEADER.pack(MAGIC, VERSION, boot_id.encode("ascii"), epoch)
    seed = crc32(fields)
    return (fields + CRC.pack(seed)).ljust(BLOCK, b"\0"), seed


def decode_header(block: bytes | memoryview) -> Header | None:
    """The header, or None where there is no whole one of this version."""
    if len(block) < HEADER.size + CRC.size:
        return None
    magic, version, boot_id, epoch = HEADER.unpack_from(block)
    (seed,) = CRC.unpack_from(block, HEADER.size)
    if magic != MAGIC or version != VERSION or crc32(block[: HEADER.size]) != seed:
        return None
    return Header(boot_id.rstrip(b"\0").decode("ascii"), epoch, seed)


def encode_meta(stamp: int, operations: Sequence[Operation]) -> bytes:
    return msgspec.msgpack.encode((stamp, [_fields(operation) for operation in operations]))


def encode_record(seed: int, meta: bytes, content: bytes, span: int) -> bytes:
    """What stands in front of the content."""
    fields = FIELDS.pack(span, len(meta), len(content))
    return fields + CRC.pack(crc32(content, crc32(meta, crc32(fields, seed)))) + meta


def records(segment: bytes | memoryview) -> Iterator[Record]:
    """The records of a segment up to the first that is not whole."""
    view = memoryview(segment)
    header = decode_header(view)
    offset = BLOCK
    while header is not None and offset + OVERHEAD <= len(view):
        span, meta_length, content_length = FIELDS.unpack_from(view, offset)
        (crc,) = CRC.unpack_from(view, offset + FIELDS.size)
        used = OVERHEAD + meta_length + content_length
        if used > span or offset + used > len(view):
            return
        body = view[offset + OVERHEAD : offset + used]
        if crc32(body, crc32(view[offset : offset + FIELDS.size], header.seed)) != crc:
            return
        stamp, rows = msgspec.msgpack.decode(body[:meta_length])
        content_offset = offset + OVERHEAD + meta_length
        yield Record(offset, span, stamp, tuple(map(_operation, rows)), content_offset, content_length)
        offset += span


def _fields(operation: Operation) -> tuple[Any, ...]:
    # Paths are octets: an operator's own Maildir may have names that are not UTF-8.
    name = os.fsencode
    if type(operation) is Put:
        put = operation
        links = [name(link) for link in put.links]
        return ("put", name(put.temporary), name(put.path), links, put.prefix, put.lf, put.mode, put.mtime)
    if type(operation) is Append:
        return ("append", name(operation.path), operation.line)
    if type(operation) is Gone:
        return ("gone", name(operation.path))
    assert type(operation) is Cancel
    return ("cancel", operation.stamp)


def _operation(row: Sequence[Any]) -> Operation:
    kind, *values = row
    name = os.fsdecode
    if kind == "put":
        temporary, path, links, prefix, lf, mode, mtime = values
        return Put(name(temporary), name(path), tuple(map(name, links)), prefix, lf, mode, mtime)
    if kind == "append":
        return Append(name(values[0]), values[1])
    return Gone(name(values[0])) if kind == "gone" else Cancel(values[0])
