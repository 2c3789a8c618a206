"""Identifiers: UUIDv7 runs, hashes of identities, trace ids, shards."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

SHARDS: Final = 64

_HEX_32 = re.compile(r"[0-9a-f]{32}")
_HEX_16 = re.compile(r"[0-9a-f]{16}")
_ZERO_32 = "0" * 32
_ZERO_16 = "0" * 16


def uuid7_run(unix_millis: int, random_bits: int) -> Iterator[UUID]:
    """Give UUIDs of version 7 (RFC 9562) that rise one by one.

    Args:
        unix_millis: Time of the run, 48 bits.
        random_bits: 73 random bits; the 74-bit field counts up from them, so a run of 2^73
            cannot overflow into the time.
    """
    head = (unix_millis & (1 << 48) - 1) << 80 | 7 << 76
    counter = random_bits & (1 << 73) - 1
    while True:
        high, low = counter >> 62, counter & (1 << 62) - 1
        yield UUID(int=head | high << 64 | 2 << 62 | low)
        counter += 1


def identity_hash(parts: Iterable[str]) -> UUID:
    """Hash an identity to 128 bits: BLAKE2b over its length-prefixed parts.

    Equal parts in equal order give equal hashes on every server and version, for ever: stored
    rows depend on it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return UUID(bytes=digest.digest())


def shard_of(license_id: str, producer: str) -> int:
    """Give the shard of a producer or request: fixed for ever, the same on every server."""
    return zlib.crc32(f"{license_id}\0{producer}".encode()) % SHARDS


def normal_trace_id(text: str) -> str | None:
    """Give a trace id as 32 lower-case hex digits, or None where it is not one.

    16 digits (Zipkin, B3) are padded on the left; all zeros is no id (W3C trace context).
    """
    lowered = text.lower()
    if _HEX_32.fullmatch(lowered):
        return lowered if lowered != _ZERO_32 else None
    if _HEX_16.fullmatch(lowered):
        return _ZERO_16 + lowered if lowered != _ZERO_16 else None
    return None


def normal_span_id(text: str) -> str | None:
    """Give a span id as 16 lower-case hex digits, or None where it is not one."""
    lowered = text.lower()
    return lowered if _HEX_16.fullmatch(lowered) and lowered != _ZERO_16 else None
