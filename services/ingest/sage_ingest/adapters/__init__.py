"""The outside world: one dependency per module, each behind a port."""
