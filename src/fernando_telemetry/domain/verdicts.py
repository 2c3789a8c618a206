"""What an ack says of a record: a verdict with its reason, and where the trouble lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from fernando_telemetry.domain.limits import VERDICTS_PER_ACK

RecordKind = Literal["event", "system_metric", "business_metric", "span", "metric_columns"]
KINDS: Final = get_args(RecordKind)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A record that was rejected, or stored with a change.

    Attributes:
        kind: List of the batch the record stands in.
        index: Its place in that list, from 0 (for columns: the sample's).
        reason: Word of VerdictReason, such as `text_too_long`.
        field_path: Field in the contract's words, such as `labels.region`.
        detail: A sentence with the limit or what was expected; never the record's content.
        kept: True where the record was stored, adjusted.
    """

    kind: RecordKind
    index: int
    reason: str
    field_path: str
    detail: str
    kept: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of one batch and its first verdicts (100 at most).

    Attributes:
        rejections: Verdicts of all rejected records where those are kept, else None.
    """

    accepted: int = 0
    rejected: int = 0
    adjusted: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    truncated: bool = False
    rejections: list[Verdict] | None = None

    @property
    def rejection(self) -> Verdict | None:
        """The first verdict of a record that was not stored."""
        return next((verdict for verdict in self.verdicts if not verdict.kept), None)

    def add(self, verdict: Verdict) -> None:
        """Note a verdict; rejected or adjusted is counted, also past the hundredth."""
        if verdict.kept:
            self.adjusted += 1
        else:
            self.rejected += 1
            if self.rejections is not None:
                self.rejections.append(verdict)
        if len(self.verdicts) < VERDICTS_PER_ACK:
            self.verdicts.append(verdict)
        else:
            self.truncated = True

    def refuse(self, verdict: Verdict) -> None:
        """Note that a record which was counted as accepted is rejected after all.

        Where it was to be stored with a change, the verdict on that goes: an ack has one a record.
        """
        self.accepted -= 1
        for place, one in enumerate(self.verdicts):
            if one.kept and (one.kind, one.index) == (verdict.kind, verdict.index):
                del self.verdicts[place]
                self.adjusted -= 1
                break
        self.add(verdict)
        self.sort()

    def add_kept(self, count: int) -> None:
        """Count adjusted records whose verdicts are past the hundredth."""
        self.adjusted += count
        self.truncated = self.truncated or count > 0

    def sort(self) -> None:
        """Put the verdicts in the order of an ack: by kind and index."""
        self.verdicts.sort(key=lambda verdict: (KINDS.index(verdict.kind), verdict.index))

    def take_back(self, reason: str, count: int) -> None:
        """Forget all verdicts of a reason for adjusted records, of which there are `count`."""
        self.adjusted -= count
        self.verdicts = [verdict for verdict in self.verdicts if verdict.reason != reason]
        self.truncated = self.adjusted + self.rejected > len(self.verdicts)


class Rejection(Exception):
    """Raised by a check: this record cannot be stored.

    Args:
        reason: Word of VerdictReason.
        field_path: Field in the contract's words.
        detail: A sentence for the sender.
    """

    def __init__(self, reason: str, field_path: str, detail: str) -> None:
        self.reason = reason
        self.field_path = field_path
        self.detail = detail
        super().__init__(f"{field_path}: {reason}: {detail}")
