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

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fernando_telemetry.domain.errors import StartupError

MIB = 1024 * 1024


def default_data_dir() -> Path:
    """Give `$XDG_DATA_HOME/fernando-telemetry`, with the XDG default where it is unset."""
    home = os.environ.get("XDG_DATA_HOME")
    base = Path(home) if home else Path.home() / ".local" / "share"
    return base / "fernando-telemetry"


def _absolute(value: Any) -> Any:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


FolderPath = Annotated[Path, BeforeValidator(_absolute)]


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
    insecure_bind: bool = Field(
        False, description="Allow an address beyond loopback without TLS and keys"
    )
    drain_seconds: float = Field(20.0, ge=0, description="How long a stop waits for acks")
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
        4, ge=1, le=100, description="Sessions for queries; further queries wait"
    )

    # Ingest
    writers: int = Field(2, ge=1, le=16, description="Writer connections, one flush each")
    database_wait_seconds: float = Field(
        30.0, gt=0, description="How long batches are held while the database is away"
    )
    unary_wait_seconds: float = Field(
        2.0, gt=0, description="How long a unary ingest call waits for room, or a lost database"
    )
    admitted_bytes: int = Field(64 * MIB, ge=MIB, description="Batches held, in bytes")
    granted_bytes: int = Field(
        64 * MIB, ge=MIB, description="Shared out to streams as max_batch_bytes"
    )
    flush_bytes: int = Field(2 * MIB, ge=1024, description="Batches of one flush, in bytes")
    flush_batches: int = Field(256, ge=1, description="Batches of one flush")
    stream_age_seconds: float = Field(
        0.0, ge=0, description="A stream is sent elsewhere after it; 0: never"
    )
    retention_events_days: int = Field(
        90, ge=0, description="Older events are rejected; 0: none is too old"
    )
    retention_metrics_days: int = Field(
        180, ge=0, description="Older samples are rejected; 0: none is too old"
    )
    retention_business_days: int = Field(
        180, ge=0, description="KPIs of older periods (period_end) are rejected; 0: none is too old"
    )
    retention_traces_days: int = Field(
        30, ge=0, description="Older spans are rejected; 0: none is too old"
    )
    rejected_keep: bool = Field(
        False, description="Keep rejected records for a replay; they hold personal data"
    )
    rejected_bytes: int = Field(
        256 * MIB, ge=MIB, description="Rejected records kept, in bytes; above it none are added"
    )
    rejected_days: int = Field(7, ge=1, description="Older rejected records are deleted")
    partitions_ahead_days: int = Field(
        3, ge=1, le=30, description="Days whose partitions are made ahead"
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
    "data_dir": "$XDG_DATA_HOME/fernando-telemetry",
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
