from __future__ import annotations

import itertools
import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.identifiers import (
    SHARDS,
    identity_hash,
    normal_span_id,
    normal_trace_id,
    shard_of,
    uuid7_run,
)


@given(millis=st.integers(0, 2**48 - 1), bits=st.integers(0, 2**80))
def test_a_run_of_uuids_rises_and_is_of_version_7(millis: int, bits: int) -> None:
    made = list(itertools.islice(uuid7_run(millis, bits), 50))
    assert made == sorted(set(made))
    for one in made:
        assert (one.version, one.variant) == (7, "specified in RFC 4122")
        assert one.int >> 80 == millis


def test_a_run_carries_over_the_version_and_variant_bits() -> None:
    made = list(itertools.islice(uuid7_run(1, 2**62 - 2), 4))
    assert made == sorted(set(made))
    assert {one.version for one in made} == {7}


def test_the_greatest_random_bits_leave_room_for_a_run() -> None:
    first, second = itertools.islice(uuid7_run(1, 2**73 - 1), 2)
    assert first < second
    assert second.int >> 80 == 1


def test_uuids_sort_in_postgresql_as_they_do_here() -> None:
    # PostgreSQL compares a uuid's bytes, Python its number: both big-endian.
    made = list(itertools.islice(uuid7_run(2**40, 7), 10))
    assert sorted(made, key=lambda one: one.bytes) == made


def test_hashes_of_identities_are_fixed_for_ever() -> None:
    assert identity_hash(["cpu_usage", "gauge", ""]) == UUID("360aa141-3823-03d2-6f13-e7ad10eee468")
    assert identity_hash([]) == UUID("cae66941-d9ef-bd40-4e4d-88758ea67670")


@given(first=st.lists(st.text()), second=st.lists(st.text()))
def test_identities_hash_alike_only_when_equal(first: list[str], second: list[str]) -> None:
    assert (identity_hash(first) == identity_hash(second)) == (first == second)


def test_the_borders_of_an_identity_count() -> None:
    texts = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["a", "b", "c"]]
    assert len({identity_hash(parts) for parts in texts}) == len(texts)


def test_shards_are_fixed_for_ever() -> None:
    assert shard_of("", "producer") == zlib.crc32(b"\0producer") % 64
    assert [shard_of("acme", f"host-{number}") for number in range(6)] == [29, 11, 49, 39, 4, 18]


@given(license_id=st.text(), producer=st.text())
def test_a_shard_is_one_of_64(license_id: str, producer: str) -> None:
    assert 0 <= shard_of(license_id, producer) < SHARDS == 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319c"),
        ("0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
        ("8448eb211c80319c", "00000000000000008448eb211c80319c"),
        ("0" * 31 + "1", "0" * 31 + "1"),
        ("0" * 32, None),
        ("0" * 16, None),
        ("", None),
        ("8448eb211c80319", None),
        ("8448eb211c80319c8", None),
        ("8448eb21-1c80319c", None),
        ("8448eb211c80319g", None),
        (" 448eb211c80319c", None),
        ("8448eb211c80319c\n", None),
        ("٣" * 16, None),
        ("ﬀ" * 16, None),
        # Its lower case is two characters, and has no place here at any length.
        ("İ" * 16, None),
    ],
)
def test_trace_ids(text: str, found: str | None) -> None:
    assert normal_trace_id(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b7ad6b7169203331", "b7ad6b7169203331"),
        ("B7AD6B7169203331", "b7ad6b7169203331"),
        ("0" * 15 + "1", "0" * 15 + "1"),
        ("0" * 16, None),
        ("", None),
        ("b7ad6b716920333", None),
        ("b7ad6b7169203331b7ad6b7169203331", None),
        ("b7ad6b7169203331\n", None),
    ],
)
def test_span_ids(text: str, found: str | None) -> None:
    assert normal_span_id(text) == found
