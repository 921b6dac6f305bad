-- Videos that are stored, verified and understood.
CREATE TABLE videos (
    -- Sorts by the time that the upload began: byte order, whatever the database's collation.
    id text COLLATE "C" PRIMARY KEY,
    filename text NOT NULL,
    -- Case-folded by the service, so that filters mean the same under every collation.
    filename_folded text NOT NULL,
    content_type text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 text NOT NULL,
    media jsonb NOT NULL,
    request_id text NOT NULL,
    create_time timestamptz NOT NULL
);

CREATE UNIQUE INDEX videos_request_id ON videos (request_id) WHERE request_id <> '';

-- Objects that may exist in the store and that no video owns: being uploaded, or to be deleted. Whoever works on one
-- renews its lease; once that runs out, any sweep takes it over.
CREATE TABLE pending_objects (
    key text COLLATE "C" PRIMARY KEY,
    holder text NOT NULL,
    lease_until timestamptz NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX pending_objects_lease_until ON pending_objects (lease_until);
