"""Calls to SAGE: channel, sign-in, client, retries, errors."""
