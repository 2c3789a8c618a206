"""Digests of batches: what a mark remembers of a batch's content, and how two are compared.

    version   1 byte    set of fields that the signature covers; 0: the batch was not decoded,
                        and nothing follows the hash
    hash     16 bytes   of the bytes of `records` (first half of SHA-256)
    counts    5 x 4     records per kind, unsigned little-endian, in the order of the contract
    signature 16 bytes  of the decoded records (ingest/content_digest.py)

Equal bytes are a repeat at once. Else the counts and the signature decide, since Go and C++ write
maps in random order: an honest retry need not have the bytes of the first try. Where the versions
differ, one server knew fields that the other did not, and only the counts decide: a newer server
must not refuse an honest retry.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

HASH_BYTES: Final = 16
SIGNATURE_BYTES: Final = 16
COUNTS: Final = 5

_HEAD_BYTES: Final = 1 + HASH_BYTES
_DECODED: Final = struct.Struct(f"<B{HASH_BYTES}s{COUNTS}I{SIGNATURE_BYTES}s")
_COUNTS_END: Final = _HEAD_BYTES + 4 * COUNTS


def bytes_digest(records: bytes) -> bytes:
    """Give the digest of a batch that is not decoded: it is refused as a whole."""
    return b"\0" + hashlib.sha256(records).digest()[:HASH_BYTES]


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
    whole = hashlib.sha256(records).digest()[:HASH_BYTES]
    return _DECODED.pack(version, whole, *counts, signature)


def is_other_content(first: bytes | None, again: bytes | None) -> bool:
    """Tell whether a batch under a known number is certainly not the first one.

    Args:
        first: Digest in the mark; None: it has none, and nothing can be told.
        again: Digest of what came under its number or request_id.
    """
    if first is None or again is None or first[1:_HEAD_BYTES] == again[1:_HEAD_BYTES]:
        return False
    if len(first) != _DECODED.size or len(again) != _DECODED.size:
        return True
    if first[_HEAD_BYTES:_COUNTS_END] != again[_HEAD_BYTES:_COUNTS_END]:
        return True
    return first[0] == again[0] and first[_COUNTS_END:] != again[_COUNTS_END:]
