-- Uploads in parts. One that is OPEN holds its pending object under its own id, and expires with that lease.
CREATE TABLE uploads (
    -- Sorts by the time that the upload began.
    id text COLLATE "C" PRIMARY KEY,
    video_id text COLLATE "C" NOT NULL UNIQUE,
    object_key text COLLATE "C" NOT NULL UNIQUE,
    multipart_id text NOT NULL,
    filename text NOT NULL,
    content_type text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 text NOT NULL,
    part_bytes bigint NOT NULL CHECK (part_bytes > 0),
    request_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('OPEN', 'COMPLETED', 'ABORTED')),
    -- Why it was aborted where its bytes were at fault: reason, facts and fields of the error.
    failure jsonb,
    -- Who completes it, and until when nobody else does.
    completer text NOT NULL DEFAULT '',
    completing_until timestamptz,
    create_time timestamptz NOT NULL,
    close_time timestamptz
);

-- An upload that was aborted frees its request id.
CREATE UNIQUE INDEX uploads_request_id ON uploads (request_id) WHERE request_id <> '' AND state <> 'ABORTED';
CREATE INDEX uploads_close_time ON uploads (close_time) WHERE state <> 'OPEN';
CREATE INDEX uploads_open ON uploads (id) WHERE state = 'OPEN';

-- The parts that have arrived. They go when their upload is forgotten.
CREATE TABLE upload_parts (
    upload_id text COLLATE "C" NOT NULL REFERENCES uploads ON DELETE CASCADE,
    part_number integer NOT NULL CHECK (part_number > 0),
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    -- What the object store calls these very bytes.
    tag text NOT NULL,
    PRIMARY KEY (upload_id, part_number)
);
