"""Errors of the domain: what went wrong, with typed fields and no transport words.

    TelemetryError
    ├── InvalidInput
    │   ├── InvalidField          a field of a request, by path
    │   ├── InvalidFilter         with the position in the filter text
    │   ├── InvalidPageToken
    │   ├── InvalidTimeRange
    │   ├── Undecodable           bytes that are not the message they should be
    │   ├── BatchRefused          a unary request's batch, with the refusal
    │   ├── CursorInvalid         damaged, or of another installation
    │   ├── AggregationNotApplicable
    │   └── TooLarge
    ├── NotFound
    ├── NotImplementedYet
    ├── HelloRequired             a batch before the hello, or a second hello
    ├── SequenceGap
    ├── ProducerFenced            a newer stream of the same producer took over
    ├── RequestIdReused           a request_id that came with other content before
    ├── Passing                   may pass: retry after `retry_after_seconds`
    │   ├── Overloaded
    │   │   └── DiskBudgetReached
    │   ├── Draining
    │   ├── DatabaseUnavailable
    │   ├── CommitTokenNotReached
    │   └── SlowConsumer
    ├── QueryTooExpensive
    ├── CursorTooOld
    └── StartupError              one sentence for the operator, exit code 1
        └── PortTaken

`transport/status.py` has the one table that gives each a gRPC status and an ErrorReason.
"""

from __future__ import annotations

from datetime import datetime


class TelemetryError(Exception):
    """Root of all errors a caller may see. `str(error)` is a sentence meant for the caller."""


class InvalidInput(TelemetryError):
    """The request cannot succeed as it stands; sending it again changes nothing."""


class InvalidField(InvalidInput):
    """A field has a value that is not allowed.

    Args:
        field: Path of the field as the contract spells it, such as `time_range.start_time`.
        description: What is wrong and what would be right, as a sentence.
    """

    def __init__(self, field: str, description: str) -> None:
        self.field = field
        self.description = description
        super().__init__(f"{field}: {description}")


class InvalidFilter(InvalidInput):
    """A filter does not parse or names what it may not.

    Args:
        position: Offset in characters, from 0, where the trouble starts.
        description: What is wrong and what was expected, as a sentence.
    """

    def __init__(self, position: int, description: str) -> None:
        self.position = position
        self.description = description
        super().__init__(f"filter, position {position}: {description}")


class InvalidPageToken(InvalidInput):
    """A page token is damaged, or belongs to a request with other arguments."""


class InvalidTimeRange(InvalidInput):
    """A time range is missing, half given or reversed."""


class Undecodable(InvalidInput):
    """The bytes of a request are not the protobuf message of its method."""


class BatchRefused(InvalidInput):
    """A unary ingest request was refused as a whole; nothing of it is stored.

    Args:
        reason: The refusal's enum word, such as `too_many_records`.
        description: What is wrong, as a sentence.
    """

    def __init__(self, reason: str, description: str) -> None:
        self.reason = reason
        super().__init__(description)


class CursorInvalid(InvalidInput):
    """A cursor is damaged, or was not given by this installation.

    Args:
        field: Path of the field that has it.
        description: What is wrong, as a sentence.
    """

    def __init__(self, field: str, description: str) -> None:
        self.field = field
        super().__init__(f"{field}: {description}")


class AggregationNotApplicable(InvalidInput):
    """An aggregation makes no sense for what it should be of.

    Args:
        aggregation: Its word.
        metric_type: The word of the metric's type; "" where it is not the type that matters.
        description: Why, as a sentence.
    """

    def __init__(self, aggregation: str, metric_type: str, description: str) -> None:
        self.aggregation = aggregation
        self.metric_type = metric_type
        super().__init__(description)


class TooLarge(InvalidInput):
    """A request is larger than any setting of the server allows."""


class NotFound(TelemetryError):
    """The thing asked for does not exist."""


class NotImplementedYet(TelemetryError):
    """The contract has this method or option, this version of the server does not."""


class HelloRequired(TelemetryError):
    """The first message of a stream must be its only hello."""


class SequenceGap(TelemetryError):
    """A batch number is not the one that had to come.

    Args:
        expected: The number that would be accepted.
        got: The number that came.
    """

    def __init__(self, expected: int, got: int) -> None:
        self.expected = expected
        self.got = got
        super().__init__(f"batch {got} came where {expected} was expected")


class ProducerFenced(TelemetryError):
    """A newer stream said hello with the same producer_id; nothing more is taken from this one.

    Args:
        producer_id: The producer.
        epoch: The epoch of the stream that ends.
    """

    def __init__(self, producer_id: str, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        super().__init__("Another stream said hello with this producer_id and took over.")


class RequestIdReused(TelemetryError):
    """A request_id was used before with other content."""


class Passing(TelemetryError):
    """Trouble that may pass; nothing was stored or answered.

    Args:
        sentence: What is the matter.
        retry_after_seconds: When a retry is worth it, as a hint.
    """

    def __init__(self, sentence: str, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(sentence)


class Overloaded(Passing):
    """The server's buffers are full."""


class DiskBudgetReached(Overloaded):
    """The database has no room on its disk for new records."""


class Draining(Passing):
    """The server is shutting down."""


class DatabaseUnavailable(Passing):
    """The database does not answer, or answers that it cannot work now."""


class QueryTooExpensive(TelemetryError):
    """A query ran past its time or row budget; there is no partial answer."""


class CommitTokenNotReached(Passing):
    """A read asked for a commit that does not show where it reads, or not yet."""


class SlowConsumer(Passing):
    """The caller of a stream took nothing for so long that it was cut off; it goes on by its token.

    Args:
        stall_seconds: How long it took nothing.
    """

    def __init__(self, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        super().__init__(
            f"The caller took nothing for {stall_seconds:g} s: go on from the last token.", 1.0
        )


class CursorTooOld(TelemetryError):
    """What follows a cursor is no longer kept.

    Args:
        oldest_available_at: Since when flushes are kept; None where there are none.
    """

    def __init__(self, oldest_available_at: datetime | None) -> None:
        self.oldest_available_at = oldest_available_at
        super().__init__("What follows the cursor is no longer kept: begin anew.")


class StartupError(TelemetryError):
    """The server cannot start; the sentence says why and what to do. Exit code 1."""


class NoServerRuns(StartupError):
    """No server runs on a data directory.

    Args:
        data_dir: The folder.
    """

    def __init__(self, data_dir: object) -> None:
        super().__init__(
            f"No server runs on {data_dir}: start one with `fernando-telemetry serve`, or name "
            "another folder with --data-dir."
        )


class PortTaken(StartupError):
    """The address cannot be listened on.

    Args:
        host: As the settings name it.
        port: The port.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} cannot be bound: another server (fernando-telemetry, an "
            "OpenTelemetry collector) may use it; choose another with --port."
        )
