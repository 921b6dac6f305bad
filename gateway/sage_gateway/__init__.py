"""The gateway: Envoy's configuration, written once, and the settings that fill it in."""
