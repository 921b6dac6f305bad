"""The engines of this server, and the choice between their models."""

from collections.abc import Sequence

from sage_runtime.errors import Reason, SageError

from sage_embed.embeddings.model import LOCAL_PROVIDER, Video
from sage_embed.engines.engine import Engine, ModelInfo
from sage_embed.errors import model_unavailable, model_unknown, video_rejected


class Engines:
    """Finds models and the engines that offer them.

    Args:
        engines: The engines, best first.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)

    async def models(self) -> list[ModelInfo]:
        """Return every model: usable ones first, then best first.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        return sorted(await self._in_order(), key=lambda model: model.unusable is not None)

    async def aclose(self) -> None:
        """Close the engines. None of them can be used afterwards."""
        for engine in self._engines:
            await engine.aclose()

    async def choose(self, name: str) -> ModelInfo:
        """Return the usable model of this name, or the best one if the name is empty.

        Raises:
            SageError: MODEL_UNKNOWN, STORE_UNAVAILABLE; if the model cannot be used, the error that says why:
                MODEL_UNAVAILABLE, API_KEY_MISSING, ENCRYPTION_KEY_MISSING.
        """
        models = await self._in_order()
        candidates = [model for model in models if not name or model.name == name]
        if not candidates:
            raise model_unknown(name, [model.name for model in models])
        best = next((model for model in candidates if not _may_be_skipped(model)), candidates[0])
        if best.unusable is not None:
            raise best.unusable
        return best

    async def engine_of(self, name: str, revision: str) -> Engine:
        """Return the engine that offers a model in this revision.

        Raises:
            SageError: MODEL_UNKNOWN if no engine has the model; MODEL_UNAVAILABLE if its revision has changed, because
                its vectors would not be comparable with the stored ones; STORE_UNAVAILABLE.
        """
        for engine in self._engines:
            for model in await engine.models():
                if model.name == name:
                    if model.revision != revision:
                        raise model_unavailable(
                            name,
                            f"the embedding was started with revision {revision}, and this server has {model.revision}",
                        )
                    return engine
        raise model_unknown(name, [model.name for model in await self.models()])

    async def _in_order(self) -> list[ModelInfo]:
        return [model for engine in self._engines for model in await engine.models()]


def _may_be_skipped(model: ModelInfo) -> bool:
    """Return whether the next best model may replace this one if no model was named.

    A stored key that cannot be decrypted is a mistake to report, not a reason to silently use another model.
    """
    return model.unusable is not None and model.unusable.reason is not Reason.ENCRYPTION_KEY_MISSING


def check_limits(video: Video, model: ModelInfo) -> None:
    """Raise if the video exceeds a limit of the model. Unknown properties are left to the provider.

    Raises:
        SageError: PROVIDER_REJECTED_VIDEO with the limit and what to do.
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
    fact = f"it has {video.width}x{video.height} pixels"
    # The limits hold for landscape and portrait, so the long side is compared with the long side.
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
    instead = "" if model.provider == LOCAL_PROVIDER else ". Use model local instead"
    return video_rejected(model.provider, f"{fact}; model {model.name} accepts {limit}{instead}")
