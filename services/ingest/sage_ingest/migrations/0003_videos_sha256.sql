-- ListVideos finds the videos with given bytes, so that a client need not upload them again.
CREATE INDEX videos_sha256 ON videos (sha256, id);
