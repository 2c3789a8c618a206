"""The base of the classes: rows as dictionaries, and no writes."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from sqlalchemy import event, inspect
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, Session

# For create_engine(dsn, connect_args=READ_ONLY): PostgreSQL refuses writes of any kind then, and
# times without a zone, such as of datetime.utcnow(), are UTC.
READ_ONLY: Final = {"options": "-c default_transaction_read_only=on -c TimeZone=UTC"}


class ReadOnlyError(Exception):
    """A session was asked to write telemetry, which only the server does."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} can only be read: send records to the server, by the SDK.")


class Reading(DeclarativeBase):
    """A row of a table or view of telemetry."""

    def to_dict(self) -> dict[str, Any]:
        """Give the row by column: datetime, Decimal, UUID and plain Python values."""
        return {column.key: getattr(self, column.key) for column in inspect(type(self)).columns}


@event.listens_for(Reading, "before_insert", propagate=True)
@event.listens_for(Reading, "before_update", propagate=True)
@event.listens_for(Reading, "before_delete", propagate=True)
def _refuse(_mapper: Any, _connection: Any, target: Reading) -> NoReturn:
    raise ReadOnlyError(type(target).__name__)


@event.listens_for(Session, "do_orm_execute")
def _refuse_bulk(state: ORMExecuteState) -> None:
    """Refuse insert(), update() and delete() of the classes as well."""
    if state.is_select:
        return
    for mapper in state.all_mappers:
        if issubclass(mapper.class_, Reading):
            raise ReadOnlyError(mapper.class_.__name__)
