"""The process that a service runs in: settings, command line, signals, logs, memory, telemetry."""
