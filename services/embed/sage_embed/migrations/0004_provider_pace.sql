-- When the next request under a provider's key may be sent, whichever worker sends it.
CREATE TABLE provider_pace (
    key_fingerprint text PRIMARY KEY,
    next_at timestamptz NOT NULL,
    interval_seconds double precision NOT NULL DEFAULT 0
);
