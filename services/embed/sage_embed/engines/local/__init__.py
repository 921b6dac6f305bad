"""The local engine: vectors from a small network on this machine, without an account."""
