"""Sign-in: API tokens, callers, and the scopes that calls require."""
