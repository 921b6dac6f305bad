-- Which key a provider was asked with last, by its fingerprint: whether there is a task is only told to whoever asks with
-- a key of the same account.
ALTER TABLE embeddings ADD COLUMN submitted_key text NOT NULL DEFAULT '';

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
