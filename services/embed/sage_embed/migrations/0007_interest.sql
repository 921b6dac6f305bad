-- Who waits for an embedding: the requests that received it, until they are withdrawn.
ALTER TABLE embedding_requests ADD COLUMN withdrawn boolean NOT NULL DEFAULT false;

-- Whether a request without an ID received it. Such a request cannot be withdrawn.
ALTER TABLE embeddings ADD COLUMN requested_without_id boolean NOT NULL DEFAULT false;
UPDATE embeddings SET requested_without_id = true
WHERE NOT EXISTS (SELECT FROM embedding_requests AS request WHERE request.embedding_id = embeddings.id);
