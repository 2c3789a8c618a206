"""Traffic of the network interfaces."""

from __future__ import annotations

import psutil

from fernando_telemetry.agent.samples import Sample, counter


class NetworkCollector:
    """Counters per interface: bytes, packets, errors and drops, received and sent."""

    name = "network"

    def collect(self) -> list[Sample]:
        """Read now; interfaces that never carried anything are left out."""
        samples: list[Sample] = []
        for interface, seen in psutil.net_io_counters(pernic=True, nowrap=False).items():
            if not (seen.bytes_recv or seen.bytes_sent):
                continue
            labels = {"interface": interface}
            samples += (
                counter("network_received_bytes", float(seen.bytes_recv), "bytes", labels),
                counter("network_sent_bytes", float(seen.bytes_sent), "bytes", labels),
                counter("network_received_packets", float(seen.packets_recv), "count", labels),
                counter("network_sent_packets", float(seen.packets_sent), "count", labels),
                counter("network_receive_errors", float(seen.errin), "count", labels),
                counter("network_send_errors", float(seen.errout), "count", labels),
                counter("network_receive_drops", float(seen.dropin), "count", labels),
                counter("network_send_drops", float(seen.dropout), "count", labels),
            )
        return samples
