"""Checks the defaults of a stream or request: a bad one would spoil every record."""

from __future__ import annotations

from fernando.telemetry.v1 import RecordDefaults as DefaultsMessage
from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.ingest.checks import values
from fernando_telemetry.ingest.checks.context import RecordDefaults


def checked_defaults(given: DefaultsMessage) -> RecordDefaults:
    """Check every default as the field it stands for.

    Raises:
        InvalidField: One is too long or has a NUL.
    """
    try:
        return RecordDefaults(
            license_id=values.text(given.license_id, "license_id") or "",
            source=values.text(given.source, "source") or "",
            source_version=values.text(given.source_version, "source_version") or "",
            service_name=values.text(given.service_name, "service_name") or "",
            host_name=values.text(given.host_name, "host_name") or "",
            instance_id=values.text(given.instance_id, "instance_id") or "",
        )
    except Rejection as bad:
        raise InvalidField(f"defaults.{bad.field_path}", bad.detail) from None
