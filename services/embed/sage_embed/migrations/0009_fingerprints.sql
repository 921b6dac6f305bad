-- Fingerprints. A video has one, whichever models embed it.
CREATE TABLE fingerprints (
    -- The video's ID.
    id text COLLATE "C" PRIMARY KEY,
    version integer NOT NULL CHECK (version > 0),
    video_duration_seconds double precision NOT NULL,
    video_start_offset_seconds double precision NOT NULL,
    video_has_audio boolean NOT NULL,
    video_size_bytes bigint NOT NULL,
    video_width integer NOT NULL,
    video_height integer NOT NULL,
    video_media bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    progress double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    progress_message text NOT NULL DEFAULT '',
    failure_reason text,
    failure_message text,
    create_time timestamptz NOT NULL DEFAULT now(),
    start_time timestamptz,
    finish_time timestamptz,
    revision bigint NOT NULL DEFAULT 1,
    -- The job in the queue that may write to this row, as for embeddings.
    job_id bigint NOT NULL,
    -- Failed runs since blocks were last stored.
    attempts integer NOT NULL DEFAULT 0,
    -- Whether a request without an ID received it. Such a request cannot be withdrawn.
    requested_without_id boolean NOT NULL DEFAULT false,
    -- What is stored.
    block_count integer NOT NULL DEFAULT 0,
    frame_count bigint NOT NULL DEFAULT 0,
    size_bytes bigint NOT NULL DEFAULT 0,
    -- When the sweep last found that its video exists.
    check_time timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'FAILED') = (failure_reason IS NOT NULL)),
    CHECK ((state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (finish_time IS NOT NULL))
);
CREATE INDEX fingerprints_unfinished ON fingerprints (id) WHERE state IN ('PENDING', 'PROCESSING');
CREATE INDEX fingerprints_by_check ON fingerprints (check_time);

-- The requests with an ID that received a fingerprint, until they are withdrawn.
CREATE TABLE fingerprint_requests (
    fingerprint_id text COLLATE "C" NOT NULL REFERENCES fingerprints ON DELETE CASCADE,
    request_id text NOT NULL,
    PRIMARY KEY (fingerprint_id, request_id)
);

-- Every object that was or will be put into the store. The row comes first, so no object is ever unknown. There is no
-- foreign key, because objects outlive a deleted fingerprint until the sweep has removed them.
CREATE TABLE fingerprint_objects (
    key text COLLATE "C" PRIMARY KEY,
    fingerprint_id text COLLATE "C" NOT NULL,
    first_block integer NOT NULL CHECK (first_block >= 0),
    block_count integer NOT NULL CHECK (block_count > 0),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    stored boolean NOT NULL DEFAULT false,
    -- When the sweep may remove the object. NULL while a fingerprint has it, or a worker is about to store it.
    remove_time timestamptz
);
CREATE INDEX fingerprint_objects_in_use ON fingerprint_objects (fingerprint_id, first_block)
WHERE remove_time IS NULL;
CREATE INDEX fingerprint_objects_to_remove ON fingerprint_objects (remove_time) WHERE remove_time IS NOT NULL;

-- IDs of videos and of embeddings differ, so both are announced on one channel.
CREATE TRIGGER fingerprints_changed AFTER UPDATE OR DELETE ON fingerprints
    FOR EACH ROW EXECUTE FUNCTION notify_embedding_changed();
