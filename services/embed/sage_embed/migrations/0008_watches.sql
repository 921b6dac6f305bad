-- Who waits for an embedding without having requested it: the replicas that serve watches of it. A replica renews its
-- rows; those of one that crashed expire.
CREATE TABLE embedding_watches (
    embedding_id text COLLATE "C" NOT NULL REFERENCES embeddings ON DELETE CASCADE,
    replica text NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (embedding_id, replica)
);
