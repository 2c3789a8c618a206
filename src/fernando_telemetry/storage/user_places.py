"""Which bit of a sketch a user sets; the function user_place in SQL tells the same.

The hash is SHA-256, and most of what sketches would cost a flush: users come again, so those met
last are kept. A dict of them costs as much as the hash, as each look at one of many Python objects
waits for memory three times; a table in numpy looks all users of a flush up at once.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.user_sketch import (
    COMPONENT_BITS,
    COMPONENT_HASH_BITS,
    COMPONENTS,
    PLACE_HASH_BITS,
)
from fernando_telemetry.storage.columns import Integers

# A user may be in one of two slots. Of 100,000 users nearly all are found again, of more fewer.
SLOT_BITS: Final = 18
# A UUID as text has 36. Longer ones are hashed each time.
MOST_BYTES: Final = 40

Words = np.ndarray[Any, np.dtype[np.uint64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_WORD_BYTES: Final = 8
_KEY_WORDS: Final = MOST_BYTES // _WORD_BYTES
# The first so many bytes of a word.
_MASKS: Final = np.array([(1 << 8 * count) - 1 for count in range(_WORD_BYTES + 1)], np.uint64)
_MULTIPLIER: Final = np.uint64(0x9E37_79B9_7F4A_7C15)

_HASH_BYTES: Final = 8
_UNUSED_BITS: Final = _HASH_BYTES * 8 - COMPONENT_HASH_BITS - PLACE_HASH_BITS
# Where the hash's first bits, read as a number, cross one of these, the component is another.
_THRESHOLDS: Final = 1 << np.arange(1, COMPONENTS)


class UserPlaces:
    """Tells users' bits, and keeps those met last.

    Args:
        slot_bits: Of users kept, the binary logarithm; 18 take 11 MB.
    """

    def __init__(self, slot_bits: int = SLOT_BITS) -> None:
        self._slot_bits = slot_bits
        # By slot: a user's bytes, their number plus one (0: free), and the bit.
        self._keys = np.zeros((1 << slot_bits, _KEY_WORDS), np.uint64)
        self._sizes = np.zeros(1 << slot_bits, np.uint8)
        self._places = np.zeros(1 << slot_bits, np.uint16)

    def __call__(self, users: pa.Array) -> Integers:
        """Give the bit of each user.

        Args:
            users: Texts, none of them NULL; they may repeat.
        """
        sizes, words = _words_of(users)
        slots = self._slots(sizes, words)
        is_known = self._are_at(slots, sizes, words)
        others = np.flatnonzero(~is_known)
        slots[others] ^= 1
        is_known[others] = self._are_at(
            slots[others], sizes[others], [word[others] for word in words]
        )
        places = self._places[slots].astype(np.int64)
        new = np.flatnonzero(~is_known)
        if len(new):
            places[new] = _places_of(users.take(pa.array(new)))
            self._keep(new[sizes[new] <= MOST_BYTES], slots, sizes, words, places)
        return places

    def _slots(self, sizes: Integers, words: list[Words]) -> Integers:
        mixed = sizes.astype(np.uint64) * _MULTIPLIER
        for word in words:
            mixed = (mixed ^ word) * _MULTIPLIER
            mixed ^= mixed >> np.uint64(29)
        slots = mixed * _MULTIPLIER >> np.uint64(64 - self._slot_bits)
        return slots.astype(np.int64)

    def _are_at(self, slots: Integers, sizes: Integers, words: list[Words]) -> Mask:
        are: Mask = self._sizes[slots] == sizes + 1
        for number, word in enumerate(words):
            are &= self._keys[slots, number] == word
        return are

    def _keep(
        self,
        rows: Integers,
        slots: Integers,
        sizes: Integers,
        words: list[Words],
        places: Integers,
    ) -> None:
        # The first of a user's two slots where it is free, else the second.
        firsts = slots[rows] ^ 1
        chosen = np.where(self._sizes[firsts] == 0, firsts, slots[rows])
        # One for each slot: of several, the assignments below might take one here, one there.
        chosen, of_slots = np.unique(chosen, return_index=True)
        rows = rows[of_slots]
        self._sizes[chosen] = sizes[rows] + 1
        self._places[chosen] = places[rows]
        self._keys[chosen] = 0
        for number, word in enumerate(words):
            self._keys[chosen, number] = word[rows]


def _words_of(users: pa.Array) -> tuple[Integers, list[Words]]:
    """Give the users' numbers of bytes, and their first 40 bytes in words, filled up with zeros.

    There are as many words as the longest of them needs.
    """
    offsets = np.frombuffer(users.buffers()[1], np.int32)
    offsets = offsets[users.offset : users.offset + len(users) + 1].astype(np.int64)
    sizes = np.diff(offsets)
    length = int(offsets[-1] - offsets[0])
    text = np.zeros(length + MOST_BYTES, np.uint8)
    if length:
        text[:length] = np.frombuffer(users.buffers()[2], np.uint8, length, int(offsets[0]))
    # The word that begins at each byte.
    at = np.ndarray((length + MOST_BYTES - _WORD_BYTES + 1,), np.uint64, text.data, 0, (1,))
    starts = offsets[:-1] - offsets[0]
    words: list[Words] = []
    for number in range(min(_KEY_WORDS, -(-int(sizes.max(initial=0)) // _WORD_BYTES))):
        before = number * _WORD_BYTES
        left = np.clip(sizes - before, 0, _WORD_BYTES)
        # Beyond a user's end its word is masked out whole.
        words.append(at[np.minimum(starts + before, length)] & _MASKS[left])
    return sizes, words


def _places_of(users: pa.Array) -> Integers:
    """Hash users, each different one once."""
    encoded = users.cast(pa.binary()).dictionary_encode()
    digests = [sha256(user).digest()[:_HASH_BYTES] for user in encoded.dictionary.to_pylist()]
    hashes = np.frombuffer(b"".join(digests), ">u8") >> np.uint64(_UNUSED_BITS)
    components = (
        COMPONENTS - 1 - np.searchsorted(_THRESHOLDS, hashes >> np.uint64(PLACE_HASH_BITS), "right")
    )
    within = (hashes & np.uint64((1 << PLACE_HASH_BITS) - 1)) % np.uint64(COMPONENT_BITS)
    places: Integers = components * COMPONENT_BITS + within.astype(np.int64)
    found: Integers = places[encoded.indices.to_numpy()]
    return found
