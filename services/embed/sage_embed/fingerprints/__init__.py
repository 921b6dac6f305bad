"""Fingerprints as resources: created, read, watched, cancelled, deleted; and the work behind them."""
