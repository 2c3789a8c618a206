"""The settings of every command, and the only reader of the environment.

Sources, strongest first: arguments (the CLI's flags), environment variables `FERNANDO_*`, the
TOML file named by `FERNANDO_CONFIG`, the defaults below. A setting's name is the same in all of
them: `FERNANDO_DATA_DIR`, `data_dir = "…"`, `--data-dir`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fernando_telemetry.domain.calendar import parse_length
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.domain.limits import RETENTION_DAYS, SERIES_PER_METRIC

MIB = 1024 * 1024


def default_data_dir() -> Path:
    """Give `$XDG_DATA_HOME/fernando-telemetry`, with the XDG default where it is unset."""
    home = os.environ.get("XDG_DATA_HOME")
    base = Path(home) if home else Path.home() / ".local" / "share"
    return base / "fernando-telemetry"


def _absolute(value: Any) -> Any:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


FolderPath = Annotated[Path, BeforeValidator(_absolute)]


def _length(value: str) -> str:
    parse_length(value)
    return value


PartitionLengthText = Annotated[str, AfterValidator(_length)]


class Settings(BaseSettings):
    """All settings; each field says its unit, its default and what it does."""

    model_config = SettingsConfigDict(
        env_prefix="FERNANDO_", extra="forbid", frozen=True, validate_default=True
    )

    # Where the data is
    dsn: str = Field("", description="PostgreSQL to use; empty: the embedded one")
    read_dsn: str = Field("", description="A replica for queries; empty: dsn")
    control_dsn: str = Field(
        "", description="Where NOTIFY, advisory locks, DDL and lanes live; empty: dsn"
    )
    data_dir: FolderPath = Field(
        default_factory=default_data_dir, description="Folder of the embedded PostgreSQL"
    )
    migrate: Literal["on", "off"] = Field(
        "on", description="off: refuse an old schema instead of migrating it"
    )

    # The embedded PostgreSQL
    pg_bin: Path | None = Field(None, description="Folder of PostgreSQL binaries, 15 or newer")
    pg_root_mode: Literal["auto", "namespace", "user"] = Field(
        "auto", description="How root runs PostgreSQL: user namespace, or a lesser user"
    )
    pg_start_timeout_seconds: float = Field(
        60.0, gt=0, description="How long PostgreSQL may take to start, recovery included"
    )
    pg_stop_timeout_seconds: float = Field(
        30.0, gt=0, description="How long a fast shutdown may take before it is forced"
    )
    pg_shared_buffers_mib: int = Field(256, ge=1, description="Cache of the embedded PostgreSQL")
    pg_fsync: bool = Field(True, description="off loses acknowledged records in a power cut")

    # The gRPC server
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(4317, ge=0, le=65_535, description="gRPC port; 0: any free one")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that share the port, one core each; 1: no others"
    )
    worker_start_timeout_seconds: float = Field(
        60.0, gt=0, description="How long a worker process may take until it serves"
    )
    insecure_bind: bool = Field(
        False, description="Allow an address beyond loopback without TLS and keys"
    )
    drain_seconds: float = Field(
        20.0, ge=0, description="How long a stop waits for acks and exports"
    )
    keepalive_seconds: float = Field(60.0, gt=0, description="HTTP/2 ping interval of the server")

    # Database sessions
    database_connect_timeout_seconds: float = Field(
        5.0, gt=0, description="How long opening a session, or waiting for a free one, may take"
    )
    database_command_timeout_seconds: float = Field(
        60.0, gt=0, description="How long a statement of the write path may take"
    )
    lock_timeout_seconds: float = Field(
        10.0, gt=0, description="How long a statement waits for a lock"
    )
    query_timeout_seconds: float = Field(30.0, gt=0, description="A query ends after it")
    reader_connections: int = Field(
        4, ge=1, le=100, description="Sessions of each worker for queries; further queries wait"
    )
    exports: int = Field(
        2, ge=1, le=100, description="Exports of each worker at once; each takes a query session"
    )
    export_stall_seconds: float = Field(
        60.0, gt=0, description="An export whose caller takes nothing for so long is cut off"
    )
    tails: int = Field(
        100, ge=1, le=1_000, description="TailEvents calls of each worker; further ones are refused"
    )
    tail_events_per_second: int = Field(
        2_000,
        ge=1,
        description="Events that each worker reads for tails; what is more is dropped and counted",
    )
    commit_token_wait_seconds: float = Field(
        2.0, ge=0, description="How long a read waits for its min_commit_token"
    )
    flushes_kept_days: int = Field(
        30, ge=1, description="How long cursors over committed data can rest"
    )
    rollups: bool = Field(
        True,
        description="Keep roll-ups and answer from them; without, raw rows are read, and what is "
        "stored is noted, to be made up when it is on again",
    )
    rollup_minutely_days: int = Field(
        30, ge=2, description="Older minutes of roll-ups are deleted, whatever raw rows are kept"
    )
    rollup_hourly_days: int = Field(
        400, ge=2, description="Older hours of roll-ups are deleted, whatever raw rows are kept"
    )

    rollup_step_timeout_seconds: float = Field(
        3_600.0,
        gt=0,
        # What is made up has to be there before its partition is dropped as empty.
        le=3_600.0,
        description="How long one hour of `rollups verify` and `rebuild`, or of making up what was "
        "stored without roll-ups, may take; at most 3600",
    )
    service_edges_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="How long the calls between services of ten minutes may take to be worked out",
    )

    # Ingest
    writers: int = Field(
        3, ge=1, le=16, description="Writer connections of each worker, one flush each"
    )
    quick_writers: int = Field(
        1,
        ge=0,
        le=16,
        description="Further ones for batches up to 64 KiB, which then wait behind no large one",
    )
    database_wait_seconds: float = Field(
        30.0, gt=0, description="How long batches are held while the database is away"
    )
    unary_wait_seconds: float = Field(
        2.0, gt=0, description="How long a unary ingest call waits for room, or a lost database"
    )
    admitted_bytes: int = Field(
        64 * MIB, ge=MIB, description="Batches held by all workers, in bytes"
    )
    granted_bytes: int = Field(
        64 * MIB, ge=MIB, description="Shared out to streams as max_batch_bytes, all workers"
    )
    flush_bytes: int = Field(4 * MIB, ge=1024, description="Batches of one flush, in bytes")
    flush_batches: int = Field(256, ge=1, description="Batches of one flush")
    columnar_ingest: bool = Field(
        True, description="Check and encode batches as columns where the libraries are installed"
    )
    series_limit: int = Field(
        SERIES_PER_METRIC,
        ge=1,
        description="Series of one metric and licence seen in 7 days; above it labels overflow",
    )
    series_cache_bytes: int = Field(
        64 * MIB,
        ge=MIB,
        description="Memory of each worker for the ids of series, in bytes",
    )
    stream_age_seconds: float = Field(
        0.0, ge=0, description="A stream is sent elsewhere after it; 0: never"
    )
    retention_events_days: int = Field(
        90,
        ge=0,
        le=RETENTION_DAYS,
        description="Older events are rejected, where no policy is set; 0: none is too old",
    )
    retention_metrics_days: int = Field(
        180, ge=0, le=RETENTION_DAYS, description="Older samples are rejected, likewise"
    )
    retention_business_days: int = Field(
        180,
        ge=0,
        le=RETENTION_DAYS,
        description="KPIs of older periods (period_end) are rejected, likewise",
    )
    retention_traces_days: int = Field(
        30, ge=0, le=RETENTION_DAYS, description="Older spans are rejected, likewise"
    )
    retention_interval_seconds: float = Field(
        600.0, ge=0, description="How often what is past its retention is taken; 0: only when asked"
    )
    retention_refresh_seconds: float = Field(
        5.0, gt=0, description="Within it a changed retention policy holds on every server"
    )
    rejected_keep: bool = Field(
        False, description="Keep rejected records for a replay; they hold personal data"
    )
    rejected_bytes: int = Field(
        256 * MIB, ge=MIB, description="Rejected records kept, in bytes; above it none are added"
    )
    rejected_days: int = Field(7, ge=1, description="Older rejected records are deleted")
    expiry_interval_seconds: float = Field(
        3600.0,
        gt=0,
        description="How often unary requests of 7 days ago and unused producers are forgotten",
    )
    partitions_ahead_days: int = Field(
        3, ge=1, le=30, description="Days whose partitions are made ahead"
    )

    # The disk
    disk_free_stop_percent: float = Field(
        5.0, ge=0, le=50, description="Ingest is refused while less of the disk is free; 0: never"
    )
    disk_budget_bytes: int = Field(
        0, ge=0, description="Ingest is refused while the database is larger; 0: any size"
    )
    disk_full_action: Literal["refuse", "drop_oldest"] = Field(
        "refuse", description="drop_oldest: the oldest partitions are dropped before it is refused"
    )
    disk_path: FolderPath | None = Field(
        None,
        description="Folder on the database's disk; empty: the embedded PostgreSQL's, else none",
    )
    disk_check_interval_seconds: float = Field(
        1.0, gt=0, description="Time between two looks at the room on the disk"
    )

    # Partitions
    partition_length: PartitionLengthText = Field(
        "day",
        description="Time one partition holds: day, hour, ten minutes, or a number of seconds such "
        "as `30 seconds`; shorter where more than ten million rows a day come",
    )
    hot_indexes: str = Field(
        "lean",
        description="Indexes of a partition being written: none, lean or full, then changes such "
        "as `-telemetry_events.lookup_bloom`",
    )
    sealed_indexes: str = Field(
        "full", description="Indexes of a partition whose time has passed, spelt alike"
    )
    seal_grace_seconds: float = Field(
        120.0,
        ge=0,
        description="A partition is sealed this long after its time and its last growth",
    )
    seal_timeout_seconds: float = Field(
        3_600.0, gt=0, description="How long one index build of sealing may take"
    )
    summarise_interval_seconds: float = Field(
        1.0, gt=0, description="How often new rows are entered into BRIN indexes"
    )

    # The agent and the server's own metrics
    agent: bool = Field(True, description="Collect this host's metrics inside serve")
    agent_interval_seconds: float = Field(
        15.0, gt=0, description="Time between two collections of the agent"
    )
    agent_target: str = Field("127.0.0.1:4317", description="Server of a stand-alone agent")
    host_name: str = Field(
        default_factory=socket.gethostname, description="host_name of this host's metrics"
    )
    health_interval_seconds: float = Field(
        15.0, ge=0, description="How often the server records its own health; 0: never"
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe level that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, the TOML file."""
        path = os.environ.get("FERNANDO_CONFIG")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if path:
            sources += (TomlConfigSettingsSource(settings_cls, Path(path)),)
        return sources


def load_settings(**arguments: Any) -> Settings:
    """Read all sources; an argument of None counts as not given.

    Raises:
        StartupError: A value is out of range, a name is unknown or the TOML file does not parse.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    path = os.environ.get("FERNANDO_CONFIG")
    if path and not Path(path).is_file():
        raise StartupError(f"FERNANDO_CONFIG names {path}, which is not a file.")
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise StartupError(f"Setting {name}: {first['msg']} (got {first['input']!r}).") from None
    except ValueError as error:
        raise StartupError(f"The settings file {path} does not parse: {error}.") from None


_COMPUTED_DEFAULTS = {
    "data_dir": "$XDG_DATA_HOME/fernando-telemetry (~/.local/share/fernando-telemetry)",
    "host_name": "the host's name",
}


def render_markdown() -> str:
    """Give docs/reference/settings.md, one row a setting; a test compares the two."""
    lines = [
        "# Settings",
        "",
        "Sources, strongest first: a flag of the command line (where the command has it), the",
        "environment, the TOML file that `FERNANDO_CONFIG` names, the default. The name is the",
        'same everywhere: `FERNANDO_DATA_DIR`, `data_dir = "…"`, `--data-dir`.',
        "",
        "| environment | default | what it does |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = _COMPUTED_DEFAULTS.get(name) or field.get_default()
        if isinstance(default, bool):
            shown = "on" if default else "off"
        else:
            shown = "(empty)" if default in {"", None} else f"{default}"
        lines.append(f"| `FERNANDO_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"
