-- The picture track that the client chose; NULL: the file decides.
ALTER TABLE uploads ADD COLUMN video_track integer CHECK (video_track >= 0);
