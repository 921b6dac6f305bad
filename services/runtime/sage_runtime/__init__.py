"""The chassis that every service stands on: server, errors, logs, telemetry, settings. It holds no domain."""
