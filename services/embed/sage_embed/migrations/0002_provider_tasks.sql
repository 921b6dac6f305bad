ALTER TABLE embeddings
    ADD COLUMN video_has_audio boolean NOT NULL DEFAULT true,
    -- What a provider was asked with last: where its answer was lost, this tells which of its tasks is ours.
    ADD COLUMN submitted_url text NOT NULL DEFAULT '',
    ADD COLUMN submitted_at timestamptz;
