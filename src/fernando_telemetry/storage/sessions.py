"""Database sessions: how every connection of the server is opened.

Each session sets synchronous_commit = on (a role or database default of off would turn acks into
lies), TimeZone = UTC and its time-outs. Driver errors stop in this package: `translated()` turns
them into errors of the domain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from fernando_telemetry.domain.errors import DatabaseUnavailable, QueryTooExpensive
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.hosts import single_hosts

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # the stubs make it generic, the driver itself does not
    Connection = asyncpg.Connection

# SQLSTATEs of trouble that may pass: connection (08), operator intervention (57), resources (53,
# the full disk included), and what concurrency brings (40). 25006: read-only after a failover.
PASSING_CLASSES = ("08", "53", "57")
PASSING_STATES = frozenset({"40001", "40P01", "25006", "55P03"})

# How long sessions that are still lent are waited for at the end.
CLOSE_GRACE_SECONDS = 1.0


def is_passing(error: BaseException) -> bool:
    """Tell whether the same work may succeed later, on this or another connection."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in PASSING_CLASSES or state in PASSING_STATES
    if isinstance(error, ValueError):  # the driver could not encode a value: it never will
        return False
    # After a killed COPY asyncpg may raise InternalClientError, none of its documented errors.
    return isinstance(
        error,
        OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError,
    )


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What every session of one DSN sets; times in seconds."""

    dsn: str
    application_name: str
    connect_timeout_seconds: float
    command_timeout_seconds: float
    lock_timeout_seconds: float
    statement_timeout_seconds: float
    # Of several hosts in the DSN only one that takes writes will do: after a failover the others
    # answer too, and refuse every flush.
    writes: bool = True

    @classmethod
    def of(
        cls,
        settings: Settings,
        dsn: str,
        role: str,
        statement_timeout_seconds: float | None = None,
        *,
        writes: bool = True,
    ) -> SessionSettings:
        """Give what a session of this program sets.

        Args:
            settings: Its time-outs.
            dsn: Where it goes.
            role: What it is for; PostgreSQL shows it as `fernando-telemetry <role>`.
            statement_timeout_seconds: Default: that of a query.
            writes: Needs a server that is not read-only.
        """
        return cls(
            dsn,
            f"fernando-telemetry {role}",
            settings.database_connect_timeout_seconds,
            settings.database_command_timeout_seconds,
            settings.lock_timeout_seconds,
            statement_timeout_seconds or settings.query_timeout_seconds,
            writes,
        )

    def hosts(self) -> list[str]:
        """Give the DSNs to try in turn; one where the DSN itself says which host it wants."""
        return writing_hosts(self.dsn) if self.writes else [self.dsn]

    def server_settings(self) -> dict[str, str]:
        """Give the session's parameters in PostgreSQL's words."""
        return {
            "application_name": self.application_name,
            "synchronous_commit": "on",
            "TimeZone": "UTC",
            "lock_timeout": f"{int(self.lock_timeout_seconds * 1000)}ms",
            "statement_timeout": f"{int(self.statement_timeout_seconds * 1000)}ms",
            "idle_in_transaction_session_timeout": "60000ms",
            # A cached generic plan would ignore what a session sets for one query.
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
        }


async def connect(settings: SessionSettings) -> Connection:
    """Open one session.

    Raises:
        DatabaseUnavailable: Nothing answers, or it refuses.
    """
    with translated():
        return await _connect(settings)


async def _connect(settings: SessionSettings, **options: Any) -> Connection:
    """Open a session as the settings say."""
    return await connect_to_first(
        settings.hosts(),
        timeout=settings.connect_timeout_seconds,
        command_timeout=settings.command_timeout_seconds,
        server_settings=settings.server_settings(),
        **options,
    )


@asynccontextmanager
async def session_holding(
    settings: SessionSettings, try_lock: str, unlock: str
) -> AsyncIterator[Connection | None]:
    """Lend a session of its own that holds an advisory lock, or None while another one does.

    The lock is given back by a statement: PostgreSQL notices some time later that a session has
    ended, and who asks again before that would be told of another one.

    Args:
        settings: How the session is opened.
        try_lock: Takes the lock for the session; tells whether it did.
        unlock: Gives it back.

    Raises:
        DatabaseUnavailable: Nothing answers, or the session was lost.
    """
    connection = await connect(settings)
    try:
        with translated():
            holds = await connection.fetchval(try_lock)
            yield connection if holds else None
            if holds and not connection.is_closed():
                await connection.fetchval(unlock)
    finally:
        connection.terminate()


def writing_hosts(dsn: str) -> list[str]:
    """Give the DSNs to try in turn; one where the DSN itself says which host it wants."""
    return [dsn] if "target_session_attrs" in dsn else single_hosts(dsn)


async def connect_to_first(hosts: Sequence[str], **options: Any) -> Connection:
    """Open a session on the first host that answers and, of several, takes writes.

    Args:
        hosts: A DSN each.
        options: Of asyncpg's connect; `timeout` is that of each host.
    """
    wanted: Any = "read-write" if len(hosts) > 1 else None
    for place, dsn in enumerate(hosts):
        try:
            return await asyncpg.connect(dsn, target_session_attrs=wanted, **options)
        except Exception as error:
            if place == len(hosts) - 1 or not is_passing(error):
                raise
    raise AssertionError("a DSN names at least one host")


def unavailable(error: BaseException) -> DatabaseUnavailable:
    """Give the error for trouble that may pass, with a sentence that says which where it can."""
    match getattr(error, "sqlstate", None):
        case "53100":
            return DatabaseUnavailable("The database's disk is full.", 2.0)
        case "25006":
            return DatabaseUnavailable("The database is read-only.", 1.0)
        case _:
            return DatabaseUnavailable("The database does not answer.", 1.0)


@contextmanager
def translated(*, query: bool = False) -> Iterator[None]:
    """Turn the driver's errors into the domain's.

    Args:
        query: A statement time-out means a too expensive query, not a database in trouble.

    Raises:
        QueryTooExpensive: The time-out of a query's statement struck.
        DatabaseUnavailable: Any other trouble that may pass.
    """
    try:
        yield
    except Exception as error:
        if query and isinstance(error, asyncpg.QueryCanceledError):
            raise QueryTooExpensive("The query ran past its time-out.") from error
        if is_passing(error):
            raise unavailable(error) from error
        raise


class SessionPool:
    """Sessions of one DSN, opened on demand; a caller waits while all are in use.

    What a caller sets, opens or locks is its transaction's and ends with it, so nothing is asked of
    a session that is given back: a database that hangs would let that fail behind a commit, and in
    a task of the driver's that a cancelled caller no longer awaits.

    Args:
        settings: How each session is opened.
        size: Greatest number of sessions at once.
    """

    def __init__(self, settings: SessionSettings, size: int) -> None:
        self._settings = settings
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                settings = self._settings

                async def connect_one(_: Any, **options: Any) -> Connection:
                    return await _connect(settings, **options)

                connecting: Any = connect_one
                self._pool = await asyncpg.create_pool(
                    min_size=0, max_size=self._size, connect=connecting, reset=_nothing
                )
            return self._pool

    @asynccontextmanager
    async def _transaction(self, *, ask_to_stop: bool, **options: Any) -> AsyncIterator[Connection]:
        """Lend a session inside a transaction.

        Args:
            ask_to_stop: A cancelled statement is ended in PostgreSQL too, which waits for its
                answer; otherwise the session is dropped at once.
            options: Of the transaction.
        """
        pool = await self._opened()
        async with pool.acquire(timeout=self._patience_seconds) as lent:
            connection: Any = lent
            transaction = connection.transaction(**options)
            try:
                await transaction.start()
                yield connection
            except (asyncio.CancelledError, TimeoutError) as error:
                # A database that hangs would not answer the rollback either.
                if isinstance(error, TimeoutError) or not ask_to_stop:
                    connection.terminate()
                else:
                    await self._roll_back(connection, transaction)
                raise
            except asyncpg.ReadOnlySQLTransactionError:
                await self._let_go(connection, pool)
                raise
            except BaseException:
                if not connection.is_closed():
                    await self._roll_back(connection, transaction)
                raise
            try:
                await transaction.commit()
            except (asyncio.CancelledError, TimeoutError):
                # Whether it is done is not known; the session still takes itself to be in it.
                connection.terminate()
                raise

    @staticmethod
    async def _roll_back(connection: Any, transaction: Any) -> None:
        """End a transaction without its work; a session that will not is dropped."""
        try:
            await transaction.rollback()
        except BaseException:
            connection.terminate()
            raise

    @property
    def _patience_seconds(self) -> float:
        """How long a session is waited for."""
        return self._settings.connect_timeout_seconds * len(self._settings.hosts())

    @staticmethod
    async def _let_go(connection: Any, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Let all sessions go: the primary is another server now, and each of them leads astray."""
        connection.terminate()
        await pool.expire_connections()

    async def close(self) -> None:
        """Close all sessions; what is still under way after a moment is cut off."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        # The driver gives a session back in a task of its own, which a cancelled owner does not
        # await: cut off, it would leave an error that nobody fetches.
        try:
            async with asyncio.timeout(CLOSE_GRACE_SECONDS):
                await pool.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()


async def _nothing(_: Any) -> None:
    """Take nothing back."""


class ReaderPool(SessionPool):
    """Sessions for queries, on the read DSN."""

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Lend a session inside one read-only repeatable-read transaction.

        Raises:
            DatabaseUnavailable: No session within the connect time-out, or it was lost.
            QueryTooExpensive: A statement ran past the session's time-out.
        """
        with translated(query=True):
            async with self._transaction(
                ask_to_stop=True, isolation="repeatable_read", readonly=True
            ) as connection:
                yield connection


class ControlPool(SessionPool):
    """Sessions on the control DSN: lanes, series, partitions, advisory locks, NOTIFY."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a session inside one read-committed transaction.

        Raises:
            DatabaseUnavailable: No session within the connect time-out, or it was lost.
        """
        with translated():
            async with self._transaction(ask_to_stop=False) as connection:
                yield connection

    async def run_alone(self, text: str, *values: object) -> None:
        """Run one statement that is a transaction by itself: in one round trip instead of three.

        Raises:
            DatabaseUnavailable: No session within the connect time-out, or it was lost.
        """
        with translated():
            pool = await self._opened()
            async with pool.acquire(timeout=self._patience_seconds) as lent:
                connection: Any = lent
                try:
                    await connection.execute(text, *values)
                except asyncpg.ReadOnlySQLTransactionError:
                    await self._let_go(connection, pool)
                    raise
                except (asyncio.CancelledError, TimeoutError):
                    # Whether it is done is not known.
                    connection.terminate()
                    raise
