"""Fernando Telemetry: the server, its command line and its host agent.

ARCHITECTURE.md at the repository's root draws how the packages hang together. The import
contracts in pyproject.toml hold that picture in CI.
"""
