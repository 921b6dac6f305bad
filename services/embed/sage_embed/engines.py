"""The engines that this server has, and the choice between their models."""

from collections.abc import Sequence

from sage_runtime.errors import Reason

from sage_embed.engine import Engine, ModelInfo
from sage_embed.errors import model_unavailable, model_unknown


class Engines:
    """Finds models and the engines that offer them.

    Args:
        engines: The engines, the best first.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)

    async def models(self) -> list[ModelInfo]:
        """Return every model, the usable ones first, and among those the best first.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        return sorted(await self._in_order(), key=lambda model: model.unusable is not None)

    async def aclose(self) -> None:
        """Close the engines. None of them embeds any more."""
        for engine in self._engines:
            await engine.aclose()

    async def choose(self, name: str) -> ModelInfo:
        """Return the usable model of this name; for an empty name the best one.

        Raises:
            SageError: MODEL_UNKNOWN, STORE_UNAVAILABLE; where the model cannot be used, the error that says why:
                MODEL_UNAVAILABLE, API_KEY_MISSING, ENCRYPTION_KEY_MISSING.
        """
        models = await self._in_order()
        wanted = [model for model in models if not name or model.name == name]
        if not wanted:
            raise model_unknown(name, [model.name for model in models])
        best = next((model for model in wanted if not _passed_over(model)), wanted[0])
        if best.unusable is not None:
            raise best.unusable
        return best

    async def engine_of(self, name: str, revision: str) -> Engine:
        """Return the engine that offers a model in this revision.

        Raises:
            SageError: MODEL_UNKNOWN where no engine has the model, MODEL_UNAVAILABLE where it has become another
                revision: its vectors would not go with those that are stored; STORE_UNAVAILABLE.
        """
        for engine in self._engines:
            for model in await engine.models():
                if model.name == name:
                    if model.revision != revision:
                        raise model_unavailable(
                            name, f"the embedding was begun with its revision {revision} and this is {model.revision}"
                        )
                    return engine
        raise model_unknown(name, [model.name for model in await self.models()])

    async def _in_order(self) -> list[ModelInfo]:
        return [model for engine in self._engines for model in await engine.models()]


def _passed_over(model: ModelInfo) -> bool:
    """Return whether the next best model may be taken for this one where nobody asked for it by name.

    A key that is set and cannot be read is no reason to do in silence what was not meant.
    """
    return model.unusable is not None and model.unusable.reason is not Reason.ENCRYPTION_KEY_MISSING
