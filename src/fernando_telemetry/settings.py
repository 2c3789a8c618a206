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
    pg_start_timeout_seconds: float = Field(60.0, gt=0)
    pg_stop_timeout_seconds: float = Field(30.0, gt=0)
    pg_shared_buffers_mib: int = Field(256, ge=1)
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
    database_connect_timeout_seconds: float = Field(5.0, gt=0)
    database_command_timeout_seconds: float = Field(60.0, gt=0)
    lock_timeout_seconds: float = Field(10.0, gt=0)
    query_timeout_seconds: float = Field(30.0, gt=0, description="A query ends after it")
    reader_connections: int = Field(4, ge=1, le=100)

    # Ingest
    writers: int = Field(2, ge=1, le=16, description="Writer connections, one flush each")
    database_wait_seconds: float = Field(
        30.0, gt=0, description="How long batches are held while the database is away"
    )
    unary_wait_seconds: float = Field(
        2.0, gt=0, description="How long a unary ingest call waits for room"
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
    retention_events_days: int = Field(90, ge=0, description="0: for ever")
    retention_metrics_days: int = Field(180, ge=0, description="0: for ever")
    retention_business_days: int = Field(180, ge=0, description="0: for ever")
    retention_traces_days: int = Field(30, ge=0, description="0: for ever")
    partitions_ahead_days: int = Field(3, ge=1, le=30)

    # The agent and the server's own metrics
    agent: bool = Field(True, description="Collect this host's metrics inside serve")
    agent_interval_seconds: float = Field(15.0, gt=0)
    agent_target: str = Field("127.0.0.1:4317", description="Server of a stand-alone agent")
    host_name: str = Field(default_factory=socket.gethostname)
    health_interval_seconds: float = Field(
        15.0, ge=0, description="How often the server records its own health; 0: never"
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = "info"
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
