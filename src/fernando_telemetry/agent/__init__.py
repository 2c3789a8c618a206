"""The host agent: collects this machine's metrics and sends them as any client would.

    collectors (cpu, memory, disk, network, process, cgroup)
        -> collection.py   one reading of all, in a thread; a failing collector costs only itself
        -> agent.py        when to read, what to hold while the server is away, when to stop
        -> the SDK's TelemetryProducer

It imports the SDK and never the server. `host_lock.py` keeps it to one agent per host.
"""

from fernando_telemetry.agent.agent import AgentOutcome, HostAgent, run_agent

__all__ = ["AgentOutcome", "HostAgent", "run_agent"]
