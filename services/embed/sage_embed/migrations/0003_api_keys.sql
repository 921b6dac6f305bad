-- A provider's key, encrypted with AES-GCM under one of the server's own keys. The key in clear is nowhere.
CREATE TABLE api_keys (
    provider text PRIMARY KEY,
    encryption_key_id text NOT NULL,
    nonce bytea NOT NULL,
    ciphertext bytea NOT NULL,
    last_four text NOT NULL,
    -- A key that the provider refuses is not stored.
    status text NOT NULL CHECK (status IN ('VALID', 'UNKNOWN')),
    check_time timestamptz NOT NULL
);
