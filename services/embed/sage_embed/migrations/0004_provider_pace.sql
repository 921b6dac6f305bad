-- What workers know together of a provider's rate limit, for each of its keys. Times are those of the database's clock.
CREATE TABLE provider_pace (
    key_fingerprint text PRIMARY KEY,
    -- No request before this moment: the one before was just now.
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    -- No request before this moment: the provider said so, or is given a rest.
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    -- Requests that are sent within a window at the most; null where the provider has refused none.
    allowance bigint CHECK (allowance > 0),
    -- When the allowance was set last.
    allowance_at timestamptz,
    -- Rests one after another.
    holds integer NOT NULL DEFAULT 0,
    -- Requests since the last rest began.
    sent_since_hold integer NOT NULL DEFAULT 0
);

-- The requests of the last two windows: how many went through before the provider refused one is what it allows.
CREATE TABLE provider_requests (
    key_fingerprint text NOT NULL REFERENCES provider_pace ON DELETE CASCADE,
    sent_at timestamptz NOT NULL
);
CREATE INDEX provider_requests_by_time ON provider_requests (key_fingerprint, sent_at);
