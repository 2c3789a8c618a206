"""Fernando Telemetry's SDK: `v1` holds the generated contract, `client` a batching client."""
