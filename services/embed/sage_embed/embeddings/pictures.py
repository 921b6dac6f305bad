"""Reads the picture track from ingest's description of a video."""

from sage.ingest.v1 import media_pb2
from sage_film.tracks import NoSuchTrackError, PictureTrack, choose_track

from sage_embed.embeddings.model import Picture


def picture_of(media: media_pb2.Media) -> Picture:
    """Return the picture track of a video. Videos that were measured before there was a choice list no tracks."""
    if not media.video_tracks:
        return Picture(timestamps_jump=media.timestamps_jump)
    tracks = [
        PictureTrack(
            codec=track.codec,
            width=track.width,
            height=track.height,
            is_default=track.is_default,
            is_cover=track.is_cover,
            duration_seconds=track.duration_seconds,
            # Not every player passes over a still that the file does not mark as a cover.
            is_still=track.is_cover,
        )
        for track in media.video_tracks
    ]
    try:
        is_default = choose_track(tracks) == media.video_track
    except NoSuchTrackError:
        is_default = False
    return Picture(media.video_track, is_default=is_default, timestamps_jump=media.timestamps_jump)
