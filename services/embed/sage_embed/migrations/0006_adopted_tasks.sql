ALTER TABLE embeddings
    -- Whether the provider's task was started for an earlier embedding of the recipe that failed or was cancelled.
    ADD COLUMN task_adopted boolean NOT NULL DEFAULT false;

-- From now on the URL of a submission is stored without its signature, and kept.
UPDATE embeddings SET submitted_url = regexp_replace(submitted_url, 'x-amz-(signature|security-token)=[^&]*', '', 'gi');

-- A task is paid for once. It belongs to one embedding, except that a new one may adopt it from those that ended.
DROP INDEX embeddings_by_provider_task;
CREATE UNIQUE INDEX embeddings_by_provider_task ON embeddings (provider, provider_task_id)
WHERE provider_task_id <> '' AND state IN ('PENDING', 'PROCESSING', 'COMPLETED');

-- Finds the task that a new embedding of the recipe adopts.
CREATE INDEX embeddings_ended_with_task ON embeddings (
    video_id, model, model_revision, clip_seconds, requested_tracks, id
) WHERE submitted_at IS NOT NULL AND state IN ('FAILED', 'CANCELLED');

ALTER TABLE provider_pace
    -- Whether the allowance is based on enough requests. If not, it doubles with every window.
    ADD COLUMN measured boolean NOT NULL DEFAULT true;

-- A view keeps the columns that its table had when the view was created, so it is created again.
DROP VIEW embeddings_with_tracks;
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
