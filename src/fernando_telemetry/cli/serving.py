"""The server's life as a process: start, what it prints, signals, exit code."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fernando_telemetry.cli.signals import started, stop_on_signals, stopped_or_failed
from fernando_telemetry.heap import Heap, settle
from fernando_telemetry.logs import configure_logs
from fernando_telemetry.settings import Settings, default_data_dir

if TYPE_CHECKING:
    from fernando_telemetry.app import Application
    from fernando_telemetry.supervisor import Supervisor

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Run a server until a signal or a failure.

    Returns:
        0 after SIGTERM or SIGINT, 1 where something it cannot live without has ended.

    Raises:
        StartupError: It could not start.
    """
    configure_logs(settings.log_level, settings.log_format)
    Heap().begin()
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    stop = stop_on_signals()
    app = _server(settings)
    async with AsyncExitStack() as running:
        if not await started(app, stop):
            return 0
        running.push_async_callback(app.stop)
        agent = await _start_agent(running, settings, app.address, stop)
        settle()
        print(banner(app, agent, settings), flush=True)
        await stopped_or_failed(app, stop)
        if stop.is_set():
            log.info("stopping")
            return 0
    return 1


def _server(settings: Settings) -> Application | Supervisor:
    """Give the server of this process, or the parent of several."""
    if settings.workers > 1:
        from fernando_telemetry.supervisor import Supervisor

        return Supervisor(settings)
    from fernando_telemetry.app import Application

    return Application(settings)


async def _start_agent(
    running: AsyncExitStack, settings: Settings, address: str, stop: asyncio.Event
) -> str:
    """Start the agent as a client of this very server and say in words whether it runs."""
    if not settings.agent:
        return "off"
    from fernando_telemetry.agent import AgentOutcome, run_agent

    task = asyncio.create_task(
        run_agent(settings, stop, target=address, owner=f"serve on {address}"), name="agent"
    )

    async def end() -> None:
        # It is a client of this server: it goes first.
        stop.set()
        await asyncio.wait({task}, timeout=5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def noticed(done: asyncio.Task[AgentOutcome]) -> None:
        if not done.cancelled() and done.exception() is not None:
            log.error("agent_ended", exc_info=done.exception())

    task.add_done_callback(noticed)
    running.push_async_callback(end)
    # Its first step takes the host's lock, or finds it taken.
    await asyncio.sleep(0)
    if task.done() and not task.cancelled() and task.exception() is None:
        return f"not started: {task.result().detail}"
    return f"this host, every {settings.agent_interval_seconds:g} s"


def run_agent_alone(settings: Settings) -> int:
    """Run the agent without a server, until a signal.

    Returns:
        0 after a signal, 1 where it may not run (another one does) or the server refuses it.
    """
    configure_logs(settings.log_level, settings.log_format)

    async def run() -> int:
        from fernando_telemetry.agent import run_agent

        outcome = await run_agent(settings, stop_on_signals())
        if outcome.reason == "stopped":
            return 0
        print(f"fernando-telemetry: the agent has ended: {outcome.detail}", file=sys.stderr)
        return 1

    return asyncio.run(run())


def program_path() -> str:
    """Give the command that runs this very program from any folder."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py" or not script.exists():
        return f"{shlex.quote(sys.executable)} -m fernando_telemetry"
    return shlex.quote(str(script.resolve()))


def banner(app: Application | Supervisor, agent: str, settings: Settings) -> str:
    """Say where everything is, with commands that work as printed from another terminal."""
    program = program_path()
    target = f" --target {app.address}"
    workers = settings.workers
    where = (
        f"data      {app.embedded.data_dir} (PostgreSQL {app.embedded.version}, embedded)"
        if app.embedded is not None
        else "data      the PostgreSQL that FERNANDO_DSN names"
    )
    return "\n".join(
        (
            "",
            "Fernando Telemetry is SERVING.",
            f"  gRPC      {app.address}",
            f"  {where}",
            f"  agent     {agent}",
            *([f"  workers   {workers}"] if workers > 1 else []),
            "",
            "From another terminal:",
            f"  send      {program} send event --event-type user_action --event-name hello{target}",
            f"  query     {program} query events --last 5m{target}",
            *([f"  sql       {program} {_sql(settings)}"] if app.embedded is not None else []),
            f"  stop      kill {os.getpid()}      (or Ctrl-C here)",
            "",
        )
    )


def _sql(settings: Settings) -> str:
    """Give a statement for this server's database, which is found by its folder."""
    folder = settings.data_dir
    named = "" if folder == default_data_dir() else f" --data-dir {shlex.quote(str(folder))}"
    statement = "SELECT event_name, count(*) FROM telemetry_events GROUP BY 1"
    return f"sql {shlex.quote(statement)}{named}"
