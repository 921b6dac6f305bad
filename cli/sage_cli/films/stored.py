"""Finding a stored video by its content, so that a renamed copy is neither uploaded nor embedded again."""

from sage.ingest.v1 import ingest_pb2, media_pb2

from sage_cli.api.client import Client

_UNKNOWN_CODEC = "unknown"
# As the server does: this short is one picture, and tracks this close in length are equally long.
_STILL_SECONDS = 0.2
_SAME_LENGTH = 0.95


async def find_stored(client: Client, sha256: str, *, video_track: int | None) -> ingest_pb2.Video | None:
    """Return the newest video with these bytes and this picture track, whatever its name, or None.

    Args:
        client: Lists the videos.
        sha256: SHA-256 of the file.
        video_track: The picture track that is the film; None for the one that the server chooses.
    """
    async for video in client.videos_with(sha256):
        media = video.media
        wanted = default_video_track(media) if video_track is None else video_track
        # A video without a list of tracks was stored before there was a choice.
        if media.video_track == wanted or (video_track is None and not media.video_tracks):
            return video
    return None


def default_video_track(media: media_pb2.Media) -> int:
    """Return the picture track that the server takes if none is requested, by the rule of `VideoSpec.video_track`.

    Covers, other stills and tracks that the server cannot decode are skipped.
    """
    tracks = media.video_tracks
    films = [index for index, track in enumerate(tracks) if not track.is_cover and track.codec != _UNKNOWN_CODEC]
    films = [index for index in films if not 0 < tracks[index].duration_seconds <= _STILL_SECONDS] or films
    films = [index for index in films if tracks[index].is_default] or films
    longest = max((tracks[index].duration_seconds for index in films), default=0.0)
    films = [index for index in films if tracks[index].duration_seconds >= longest * _SAME_LENGTH]
    # Of equal ones, the first.
    return max(films, key=lambda index: tracks[index].width * tracks[index].height, default=media.video_track)
