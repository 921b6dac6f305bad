"""The `sage` command: a client like any other."""
