"""What the requests of all lists share."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from fernando.telemetry.v1 import TimeRange as TimeRangeMessage
from fernando_telemetry.domain.errors import InvalidTimeRange
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.queries.pages import ListRequest
from fernando_telemetry.transport.converters.timestamp import datetime_of


class NewestFirstMessage(Protocol):
    """The fields that the request of every list over time has."""

    filter: str
    page_size: int
    page_token: str

    @property
    def time_range(self) -> TimeRangeMessage:
        """Both sides are needed."""


class SummaryMessage(NewestFirstMessage, Protocol):
    """The fields that the request of every summary has."""

    min_commit_token: str


class ListMessage(NewestFirstMessage, Protocol):
    """The fields that the request of a list of telemetry has."""

    order_by: str
    min_commit_token: str


def time_range_of(message: TimeRangeMessage, path: str = "time_range") -> TimeRange:
    """Give a range; `path` is its field in the request.

    Raises:
        InvalidTimeRange: A side is missing, or the end is not after the start.
        InvalidField: A side is no time of the years 1 to 9999.
    """
    has_start, has_end = message.HasField("start_time"), message.HasField("end_time")
    if not has_start and not has_end:
        raise InvalidTimeRange(f"{path} is required: start_time and end_time, the end excluded.")
    if not has_start:
        raise InvalidTimeRange(f"{path}.start_time is required beside end_time.")
    if not has_end:
        raise InvalidTimeRange(f"{path}.end_time is required beside start_time.")
    return TimeRange(
        datetime_of(message.start_time, f"{path}.start_time"),
        datetime_of(message.end_time, f"{path}.end_time"),
    )


def newest_first_request(message: NewestFirstMessage) -> ListRequest:
    """Give the request of a list that has one order and no commit token.

    Raises:
        InvalidTimeRange: The time range is missing, half given or reversed.
        InvalidField: It is out of the calendar.
    """
    return ListRequest(
        time_range_of(message.time_range), message.filter, "", message.page_size, message.page_token
    )


def summary_request(message: SummaryMessage) -> ListRequest:
    """Give the request of a summary, which has an order of its own.

    Raises:
        InvalidTimeRange: The time range is missing, half given or reversed.
        InvalidField: It is out of the calendar.
    """
    return replace(newest_first_request(message), min_commit_token=message.min_commit_token)


def list_request(message: ListMessage) -> ListRequest:
    """Give a list's request.

    Raises:
        InvalidTimeRange: The time range is missing, half given or reversed.
        InvalidField: It is out of the calendar.
    """
    return ListRequest(
        time_range_of(message.time_range),
        message.filter,
        message.order_by,
        message.page_size,
        message.page_token,
        message.min_commit_token,
    )
