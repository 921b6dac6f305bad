"""The chassis of every service: server, sign-in, errors, logs, telemetry, settings. It contains no domain."""
