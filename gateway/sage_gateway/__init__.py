"""The gateway: a template of Envoy's configuration and the settings that fill it in."""
