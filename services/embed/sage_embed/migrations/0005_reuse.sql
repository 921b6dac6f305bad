ALTER TABLE embeddings
    -- Whether later requests for the recipe receive this embedding. A forced embedding takes it from the one before.
    ADD COLUMN reusable boolean NOT NULL DEFAULT false,
    -- sage.ingest.v1.Media, serialized. Empty for embeddings that were requested before this column existed.
    ADD COLUMN video_media bytea NOT NULL DEFAULT '';

-- The order of tracks makes no difference, so they are sorted.
UPDATE embeddings SET
    requested_tracks = ARRAY(SELECT name FROM unnest(requested_tracks) AS name ORDER BY name COLLATE "C");

-- Before this migration every request created an embedding. The newest one of each recipe is reused.
UPDATE embeddings SET reusable = true
WHERE id IN (
    SELECT DISTINCT ON (video_id, model, model_revision, clip_seconds, requested_tracks) id FROM embeddings
    WHERE state IN ('PENDING', 'PROCESSING', 'COMPLETED')
    ORDER BY video_id, model, model_revision, clip_seconds, requested_tracks, id DESC
);

-- One embedding per recipe, however many requests arrive at once. One that fails or is cancelled leaves the index.
CREATE UNIQUE INDEX embeddings_by_recipe ON embeddings (
    video_id, model, model_revision, clip_seconds, requested_tracks
) WHERE reusable AND state IN ('PENDING', 'PROCESSING', 'COMPLETED');

-- What each request ID received. Several requests may receive one embedding.
CREATE TABLE embedding_requests (
    request_id text PRIMARY KEY,
    fingerprint text NOT NULL,
    embedding_id text COLLATE "C" NOT NULL REFERENCES embeddings ON DELETE CASCADE
);
CREATE INDEX embedding_requests_by_embedding ON embedding_requests (embedding_id);
INSERT INTO embedding_requests (request_id, fingerprint, embedding_id)
SELECT request_id, request_fingerprint, id FROM embeddings WHERE request_id IS NOT NULL;

-- A view keeps the columns that its table had when the view was created, so it is created again.
DROP VIEW embeddings_with_tracks;
ALTER TABLE embeddings DROP COLUMN request_id, DROP COLUMN request_fingerprint;
ALTER TABLE tracks DROP COLUMN position;
CREATE VIEW embeddings_with_tracks AS
SELECT
    e.*,
    (
        SELECT
            COALESCE(
                json_agg(
                    json_build_array(t.name, t.segment_count, t.covered_start_seconds, t.covered_end_seconds)
                    ORDER BY t.name COLLATE "C"
                ),
                '[]'
            )
        FROM tracks AS t
        WHERE t.embedding_id = e.id
    ) AS tracks
FROM embeddings AS e;
