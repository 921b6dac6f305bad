"""What a model asks of a video, checked before anything is paid for."""

from sage_runtime.errors import SageError

from sage_embed.engine import ModelInfo
from sage_embed.errors import video_rejected
from sage_embed.model import LOCAL_PROVIDER, Video


def check_limits(video: Video, model: ModelInfo) -> None:
    """Raise where the video is not one that the model takes. What is not known of the video is left to the provider.

    Raises:
        SageError: PROVIDER_REJECTED_VIDEO, with the limit and what to do.
    """
    _check_duration(video, model)
    if model.max_video_bytes is not None and video.size_bytes > model.max_video_bytes:
        raise _rejected(model, f"it has {video.size_bytes} bytes", f"at most {model.max_video_bytes}")
    _check_resolution(video, model)


def _check_duration(video: Video, model: ModelInfo) -> None:
    fact = f"it is {video.duration_seconds:g} s long"
    if video.duration_seconds < model.min_video_seconds:
        raise _rejected(model, fact, f"at least {model.min_video_seconds:g} s")
    if model.max_video_seconds is not None and video.duration_seconds > model.max_video_seconds:
        raise _rejected(model, fact, f"at most {model.max_video_seconds:g} s")


def _check_resolution(video: Video, model: ModelInfo) -> None:
    if not (video.width and video.height):
        return
    fact = f"its picture has {video.width}x{video.height} pixels"
    # The limits are for a picture that lies or stands, so the long side is compared with the long side.
    short, long = sorted((video.width, video.height))
    if model.min_resolution is not None:
        min_short, min_long = sorted(model.min_resolution)
        if short < min_short or long < min_long:
            raise _rejected(model, fact, f"at least {min_long}x{min_short}")
    if model.max_resolution is not None:
        max_short, max_long = sorted(model.max_resolution)
        if short > max_short or long > max_long:
            raise _rejected(model, fact, f"at most {max_long}x{max_short}")


def _rejected(model: ModelInfo, fact: str, limit: str) -> SageError:
    instead = "" if model.provider == LOCAL_PROVIDER else ". Ask for model local instead"
    return video_rejected(model.provider, f"{fact}; model {model.name} takes {limit}{instead}")
