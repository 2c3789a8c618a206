"""Queries on kept rejected records."""

from __future__ import annotations

from typing import Final

from fernando_telemetry.domain.filter_columns import REJECTED_COLUMNS
from fernando_telemetry.domain.limits import RECORD_BYTES
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.storage.lists import Row, listed
from fernando_telemetry.storage.rejected_records import REJECTED_RECORDS
from fernando_telemetry.storage.sessions import ReaderPool

_REJECTED: Final = Listing(
    "ListRejectedRecords", "rejected_at", REJECTED_COLUMNS, REJECTED_RECORDS.key_types
)


class RejectedQueries:
    """Answers questions about rejected records.

    Args:
        readers: Sessions of the read DSN.
    """

    def __init__(self, readers: ReaderPool) -> None:
        self._readers = readers

    async def list_rejected_records(self, request: ListRequest, take: Take[Row]) -> str:
        """Give a page of rejected records, by (rejected_at, rejected_id).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
        """
        page = _REJECTED.page(request)
        async with self._readers.snapshot() as connection:
            rows = listed(connection, REJECTED_RECORDS, page.selection, RECORD_BYTES)
            return await page.read(rows, take)
