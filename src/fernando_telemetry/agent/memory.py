"""Memory and swap of the host."""

from __future__ import annotations

import psutil

from fernando_telemetry.agent.samples import Sample


class MemoryCollector:
    """`memory_usage` with its bytes, `swap_usage` with its bytes."""

    name = "memory"

    def collect(self) -> list[Sample]:
        """Read now; a host without swap has `swap_total` 0 and no `swap_usage`."""
        memory = psutil.virtual_memory()
        swap = psutil.swap_memory()
        samples = [
            Sample("memory_usage", memory.percent, "percentage"),
            Sample("memory_used", float(memory.used), "bytes"),
            Sample("memory_available", float(memory.available), "bytes"),
            Sample("memory_total", float(memory.total), "bytes"),
            Sample("swap_used", float(swap.used), "bytes"),
            Sample("swap_total", float(swap.total), "bytes"),
        ]
        if swap.total:
            samples.append(Sample("swap_usage", swap.percent, "percentage"))
        return samples
