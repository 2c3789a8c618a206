"""What every list is asked with, and how a page of it is read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar, cast

from fernando_telemetry.domain import paging
from fernando_telemetry.domain.filter_columns import Columns
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.flush_ids import parse_commit_token
from fernando_telemetry.domain.paging import KeyType, PageTokens, Position
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_samples import SampleRow
from fernando_telemetry.storage.list_statement import Selection
from fernando_telemetry.storage.lists import Row

__all__ = ["ListRequest", "Listing", "Page", "Row", "SampleRow", "Take"]

Item = TypeVar("Item")
# Takes a row into the page, or refuses it because the page is full; it takes the first one.
Take = Callable[[Item], bool]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The arguments all lists share, as the caller gave them.

    Args:
        time_range: On the time column of the list.
        filter: Conditions on columns (domain/filters.py); "" takes every row.
        order_by: The time column, with ` desc` (the default) or without.
        page_size: Greatest number of records; 0 means 100, more than 1,000 means 1,000.
        page_token: The next_page_token of the page before, "" for the first page.
        min_commit_token: The commit_token of an ack that the page has to show; "": none.
    """

    time_range: TimeRange
    filter: str = ""
    order_by: str = ""
    page_size: int = 0
    page_token: str = ""
    min_commit_token: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page to be read: which rows, how its token is written, and which flush must show."""

    selection: Selection
    tokens: PageTokens
    min_flush_id: int | None

    async def read(self, rows: AsyncIterator[tuple[Position, Item]], take: Take[Item]) -> str:
        """Hand rows to `take` until the page is full or the rows end.

        Args:
            rows: Of the selection, in order, each with its place; closed behind the last one.
            take: Where they go.

        Returns:
            The next page's token; "" when no row is left.
        """
        last: Position | None = None
        room = self.selection.limit - 1
        # Rows come from an async generator, which holds a cursor.
        generator = cast("AsyncGenerator[tuple[Position, Item], None]", rows)
        async with aclosing(generator):
            async for position, row in generator:
                if room == 0 or not take(row):
                    return self.tokens.write(last)
                last, room = position, room - 1
        return ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list's fixed sides.

    Args:
        method: Its method's name.
        time_column: What it is ordered by.
        columns: What its filter may name.
        keys: Types of its keyset.
    """

    method: str
    time_column: str
    columns: Columns
    keys: tuple[KeyType, ...]

    def page(self, request: ListRequest, *arguments: object) -> Page:
        """Check a request and give the page it asks for.

        Args:
            request: The shared arguments.
            arguments: Others that decide what the list holds; tokens are bound to them too.

        Raises:
            InvalidField: page_size, order_by or min_commit_token.
            InvalidFilter: The filter.
            InvalidPageToken: The token.
        """
        size = paging.page_size(request.page_size)
        descending = paging.is_descending(request.order_by, self.time_column)
        conditions = parse(request.filter, self.columns)
        tokens = PageTokens(
            self.keys, self.method, (request.time_range, request.filter, descending, *arguments)
        )
        after = tokens.read(request.page_token)
        min_flush_id = parse_commit_token(request.min_commit_token, "min_commit_token")
        # One row more than the page holds tells whether it is the last page.
        selection = Selection(request.time_range, conditions, descending, after, size + 1)
        # No part of the token: each page may ask for a commit of its own.
        return Page(selection, tokens, min_flush_id)
