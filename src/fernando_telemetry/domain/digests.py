"""Digests of batches: what a mark remembers of a batch's content, and how two are compared.

    version   1 byte    set of fields that the signature covers; 0: the batch was not decoded,
                        and nothing follows the checksum
    checksum 12 bytes   of the bytes of `records`: CRC-32, length as u64
    counts    5 x 4     records per kind, unsigned, in the order of the contract
    signature 16 bytes  of the decoded records (ingest/content_digest.py)

All numbers are little-endian. Equal bytes have equal counts and signatures, so these decide: Go and
C++ write maps in random order, and an honest retry need not have the bytes of the first try. Where
the versions differ, one server knew fields that the other did not, and only the counts decide: a
newer server must not refuse an honest retry. Where a batch was not decoded there is the checksum
alone; it costs a tenth of a hash, and tells mistakes, not attacks.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

CHECKSUM_BYTES: Final = 12
SIGNATURE_BYTES: Final = 16
COUNTS: Final = 5

_HEAD_BYTES: Final = 1 + CHECKSUM_BYTES
_DECODED: Final = struct.Struct(f"<B{CHECKSUM_BYTES}s{COUNTS}I{SIGNATURE_BYTES}s")
_COUNTS_END: Final = _HEAD_BYTES + 4 * COUNTS


_CHECKSUM: Final = struct.Struct("<IQ")


def _checksum(records: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(records), len(records))


def bytes_digest(records: bytes) -> bytes:
    """Give the digest of a batch that is not decoded: it is refused as a whole."""
    return b"\0" + _checksum(records)


def content_digest(
    records: bytes, version: int, counts: tuple[int, int, int, int, int], signature: bytes
) -> bytes:
    """Give the digest of a decoded batch.

    Args:
        records: Bytes of its `records`.
        version: Set of fields that the signature covers, 1 to 255.
        counts: Events, system metrics, KPIs, spans, samples of columns.
        signature: 16 bytes over the decoded records.
    """
    return _DECODED.pack(version, _checksum(records), *counts, signature)


def is_other_content(first: bytes | None, again: bytes | None) -> bool:
    """Tell whether a batch under a known number is certainly not the first one.

    Args:
        first: Digest in the mark; None: it has none, and nothing can be told.
        again: Digest of what came under its number or request_id.
    """
    if first is None or again is None:
        return False
    same_bytes = first[1:_HEAD_BYTES] == again[1:_HEAD_BYTES]
    if len(first) != _DECODED.size or len(again) != _DECODED.size:
        return not same_bytes
    if first[0] != again[0] and same_bytes:
        return False
    if first[_HEAD_BYTES:_COUNTS_END] != again[_HEAD_BYTES:_COUNTS_END]:
        return True
    return first[0] == again[0] and first[_COUNTS_END:] != again[_COUNTS_END:]
