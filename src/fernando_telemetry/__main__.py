"""Entry of the program `fernando-telemetry` and of `python -m fernando_telemetry`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; a StartupError is one sentence and exit code 1."""
    from fernando_telemetry.cli.program import run

    run()


if __name__ == "__main__":
    main()
