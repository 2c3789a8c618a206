"""The contract compiles with the protoc of Debian, as other languages' users would do it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.contract.repository import PROTOS, run, sources, well_known_types


def test_protoc_compiles_every_file(tmp_path: Path) -> None:
    protoc = shutil.which("protoc")
    if protoc is None:
        pytest.skip("protoc is not installed (Debian: protobuf-compiler)")
    out = tmp_path / "contract.binpb"
    result = run(
        protoc,
        f"-I{PROTOS}",
        f"-I{well_known_types()}",
        f"--descriptor_set_out={out}",
        *sources(),
        cwd=PROTOS,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert out.stat().st_size > 0


def test_every_file_is_proto3() -> None:
    # Editions would need protoc 27; Debian 12 and Ubuntu 24.04 have 3.21.
    for source in sources():
        first = PROTOS.joinpath(source).read_text().splitlines()[0]
        assert re.fullmatch(r'syntax = "proto3";', first), source
