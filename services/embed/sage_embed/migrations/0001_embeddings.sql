-- Ids sort by time, byte by byte, whatever collation the database has.
CREATE TABLE embeddings (
    id text COLLATE "C" PRIMARY KEY,
    request_id text UNIQUE,
    request_fingerprint text NOT NULL,
    video_id text NOT NULL,
    video_duration_seconds double precision NOT NULL,
    video_start_offset_seconds double precision NOT NULL,
    model text NOT NULL,
    model_revision text NOT NULL,
    provider text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    clip_seconds double precision NOT NULL CHECK (clip_seconds > 0),
    state text NOT NULL CHECK (state IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    progress double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    progress_message text NOT NULL DEFAULT '',
    provider_task_id text NOT NULL DEFAULT '',
    failure_reason text,
    failure_message text,
    create_time timestamptz NOT NULL DEFAULT now(),
    start_time timestamptz,
    finish_time timestamptz,
    revision bigint NOT NULL DEFAULT 1,
    -- The job in the queue that may write to this row. Whoever takes the work over gets a new job.
    job_id bigint NOT NULL,
    -- Runs that ended in trouble since a segment was stored last.
    attempts integer NOT NULL DEFAULT 0,
    CHECK ((state = 'FAILED') = (failure_reason IS NOT NULL)),
    CHECK ((state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (finish_time IS NOT NULL))
);
CREATE INDEX embeddings_by_video ON embeddings (video_id, id);
CREATE INDEX embeddings_unfinished ON embeddings (id) WHERE state IN ('PENDING', 'PROCESSING');

CREATE TABLE tracks (
    embedding_id text COLLATE "C" NOT NULL REFERENCES embeddings ON DELETE CASCADE,
    name text NOT NULL,
    position integer NOT NULL,
    segment_count integer NOT NULL DEFAULT 0,
    covered_start_seconds double precision NOT NULL DEFAULT 0,
    covered_end_seconds double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (embedding_id, name)
);

-- Times are little-endian float64, vectors little-endian float32, row by row.
CREATE TABLE segment_chunks (
    embedding_id text COLLATE "C" NOT NULL,
    track text NOT NULL,
    first_index integer NOT NULL CHECK (first_index >= 0),
    segment_count integer NOT NULL CHECK (segment_count > 0),
    start_seconds bytea NOT NULL,
    end_seconds bytea NOT NULL,
    vectors bytea NOT NULL,
    PRIMARY KEY (embedding_id, track, first_index),
    FOREIGN KEY (embedding_id, track) REFERENCES tracks ON DELETE CASCADE
);
-- Floats do not compress: trying costs time on every write and read.
ALTER TABLE segment_chunks ALTER COLUMN vectors SET STORAGE EXTERNAL;

-- Sent when the transaction commits, so whoever is told reads the new row.
CREATE FUNCTION notify_embedding_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sage_embedding_changed', COALESCE(NEW.id, OLD.id));
    RETURN NULL;
END;
$$;
CREATE TRIGGER embeddings_changed AFTER UPDATE OR DELETE ON embeddings
    FOR EACH ROW EXECUTE FUNCTION notify_embedding_changed();

-- An embedding with its tracks, as every read wants it.
CREATE VIEW embeddings_with_tracks AS
SELECT
    e.*,
    (
        SELECT
            json_agg(
                json_build_array(t.name, t.segment_count, t.covered_start_seconds, t.covered_end_seconds)
                ORDER BY t.position
            )
        FROM tracks AS t
        WHERE t.embedding_id = e.id
    ) AS tracks
FROM embeddings AS e;
