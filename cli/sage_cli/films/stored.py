"""Finding a stored video by its content, so that a renamed copy is neither uploaded nor embedded again."""

from sage.ingest.v1 import ingest_pb2, media_pb2

from sage_cli.api.client import Client

_UNKNOWN_CODEC = "unknown"


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
    """Return the picture track that the server takes if none is requested, by the rule of `VideoSpec.video_track`."""
    candidates = [
        index for index, track in enumerate(media.video_tracks) if not track.is_cover and track.codec != _UNKNOWN_CODEC
    ]

    def preference(index: int) -> tuple[bool, float, int]:
        track = media.video_tracks[index]
        return track.is_default, track.duration_seconds, track.width * track.height

    # Of equal ones, the first.
    return max(candidates, key=preference, default=media.video_track)
