-- The parts of a long fingerprint that several workers make at once. A worker that begins a long one records them and
-- queues a job for each; there are none before, nor after the fingerprint is finished. A part that is complete is deleted.
CREATE TABLE fingerprint_parts (
    fingerprint_id text COLLATE "C" NOT NULL REFERENCES fingerprints ON DELETE CASCADE,
    -- Index of the next block to store, and of the block that the part ends before.
    next_block integer NOT NULL CHECK (next_block >= 0),
    end_block integer NOT NULL CHECK (end_block >= next_block),
    -- The job in the queue that may store blocks of this part. While there are parts, that of the fingerprint may not.
    job_id bigint NOT NULL,
    -- Failed runs since blocks of this part were last stored.
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (fingerprint_id, end_block)
);

-- The work on fingerprints: a row for each part, or one for a fingerprint that has none.
CREATE VIEW fingerprint_work AS
SELECT
    f.id, f.version, f.video_duration_seconds, f.video_start_offset_seconds, f.video_has_audio, f.video_size_bytes,
    f.video_width, f.video_height, f.video_media, f.state, f.progress, f.progress_message, f.failure_reason,
    f.failure_message, f.create_time, f.start_time, f.finish_time, f.revision, f.block_count, f.frame_count,
    f.size_bytes,
    COALESCE(p.job_id, f.job_id) AS job_id,
    COALESCE(p.attempts, f.attempts) AS attempts,
    COALESCE(p.next_block, f.block_count) AS next_block,
    p.end_block
FROM fingerprints AS f
LEFT JOIN fingerprint_parts AS p ON p.fingerprint_id = f.id;
