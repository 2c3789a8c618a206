"""How long to wait before the next connection."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter.

    Attributes:
        initial_seconds: Pause after the first failure.
        maximum_seconds: No pause of ours is longer; the server's RetryInfo may be.
        factor: Each pause is this much longer than the one before.
    """

    initial_seconds: float = 0.2
    maximum_seconds: float = 15.0
    factor: float = 2.0

    def pause_seconds(
        self, failures: int, retry_after_seconds: float | None, rng: random.Random
    ) -> float:
        """Give the pause after the n-th failure in a row (from 1).

        A delay the server asked for is kept, plus up to a fifth, so that the clients of a
        restarted server do not come back in one instant; without one it is half to all of the
        exponential pause.
        """
        if retry_after_seconds is not None:
            return retry_after_seconds * rng.uniform(1.0, 1.2)
        # The exponent is bounded only to keep the power finite.
        pause = self.initial_seconds * self.factor ** min(max(failures, 1) - 1, 64)
        return min(pause, self.maximum_seconds) * rng.uniform(0.5, 1.0)
