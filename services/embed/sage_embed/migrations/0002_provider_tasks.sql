ALTER TABLE embeddings
    ADD COLUMN video_has_audio boolean NOT NULL DEFAULT true,
    -- Zero where it is not known.
    ADD COLUMN video_size_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN video_width integer NOT NULL DEFAULT 0,
    ADD COLUMN video_height integer NOT NULL DEFAULT 0,
    -- What was asked for; `tracks` has what there is of it.
    ADD COLUMN requested_tracks text[] NOT NULL DEFAULT '{}',
    -- What a provider was asked with last: where its answer was lost, this tells which of its tasks is ours. Whoever has
    -- the URL can read the video, so it goes as soon as the task's id is known or the embedding has come to its end.
    ADD COLUMN submitted_url text NOT NULL DEFAULT '',
    ADD COLUMN submitted_at timestamptz,
    -- Which key it was asked with, by its fingerprint: whether there is a task is only told to whoever asks with a key of
    -- the same account.
    ADD COLUMN submitted_key text NOT NULL DEFAULT '';

UPDATE embeddings SET
    requested_tracks = ARRAY(SELECT t.name FROM tracks AS t WHERE t.embedding_id = embeddings.id ORDER BY t.position);
ALTER TABLE embeddings ALTER COLUMN requested_tracks DROP DEFAULT;

-- A task is paid for once and belongs to one embedding.
CREATE UNIQUE INDEX embeddings_by_provider_task ON embeddings (provider, provider_task_id)
WHERE provider_task_id <> '';

-- Made anew, as its columns are those that the table had when it was made.
DROP VIEW embeddings_with_tracks;
CREATE VIEW embeddings_with_tracks AS
SELECT
    e.*,
    (
        SELECT
            COALESCE(
                json_agg(
                    json_build_array(t.name, t.segment_count, t.covered_start_seconds, t.covered_end_seconds)
                    ORDER BY t.position
                ),
                '[]'
            )
        FROM tracks AS t
        WHERE t.embedding_id = e.id
    ) AS tracks
FROM embeddings AS e;
