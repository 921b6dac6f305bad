"""From what a command was given to embeddings that can be compared."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.client import Client
from sage_cli.comparison import DEFAULT_TRACK
from sage_cli.errors import Trouble, next_step_for, reason_of
from sage_cli.media_type import guess_media_type
from sage_cli.progress import Line
from sage_cli.targets import EmbeddingTarget, FileTarget, Target, VideoTarget
from sage_cli.uploads import Fingerprint, Sending, find_video, fingerprint, upload
from sage_cli.watching import FINAL_STATES, watch

# What the contract says of a request that leaves the length of a clip open.
DEFAULT_CLIP_SECONDS = 2.0
CANCEL_TIMEOUT_S = 5.0

# What may be missing where a provider's models cannot be used.
_KEY_HINTS = {"twelvelabs": "`sage key set` sets its key, `sage key show` tells of it. "}
_AGAIN = "Run the command again to try once more."


@dataclass(frozen=True)
class Recipe:
    """How videos are embedded, so that two of them can be compared.

    Attributes:
        model: The name of the model.
        revision: The version of its weights and recipe.
        clip_seconds: Length of a clip.
        tracks: The tracks to make. An embedding that has more will do.
    """

    model: str
    revision: str
    clip_seconds: float
    tracks: tuple[str, ...] = (DEFAULT_TRACK,)

    def made(self, embedding: embed_pb2.Embedding) -> bool:
        """Return whether an embedding was, or is being, made in this way.

        A track that was asked for and that the video does not have is made: asking again would not find it either.
        """
        recipe = (self.model, self.revision, self.clip_seconds)
        return (embedding.model, embedding.model_revision, embedding.clip_seconds) == recipe and not missing_tracks(
            embedding, self.tracks
        )


def missing_tracks(embedding: embed_pb2.Embedding, tracks: Sequence[str]) -> Sequence[str]:
    """Return the tracks that an embedding was not asked for."""
    asked_for = {*embedding.requested_tracks, *(track.name for track in embedding.tracks)}
    return [track for track in tracks if track not in asked_for]


async def choose_recipe(
    client: Client, *, model: str | None, clip_seconds: float | None, tracks: tuple[str, ...] = (DEFAULT_TRACK,)
) -> Recipe:
    """Return the recipe of what the user asked for, before anything is uploaded for it.

    Args:
        client: Whose models to choose from.
        model: The model's name. None: the best that can be used now and makes these tracks.
        clip_seconds: Length of a clip. None: 2, or what is nearest to it within the model's bounds.
        tracks: The tracks to make.

    Raises:
        Trouble: There is no such model, it cannot be used, or does not take clips of this length or make these tracks.
    """
    models = await client.list_models()
    if model is None:
        usable = [candidate for candidate in models if candidate.usable]
        if not usable:
            raise Trouble("This server has no model that can be used.", next_step="`sage models` says why.")
        # The best one does for the message where none makes the tracks.
        chosen = next((candidate for candidate in usable if not _unknown_tracks(candidate, tracks)), usable[0])
    else:
        found = next((candidate for candidate in models if candidate.name == model), None)
        if found is None:
            raise Trouble(f"There is no model {model!r}.", next_step=_models_hint(models))
        if not found.usable:
            raise Trouble(
                f"Model {model} cannot be used: {found.unusable_reason}",
                next_step=_KEY_HINTS.get(found.provider, "") + _models_hint(models),
            )
        chosen = found
    if unknown := _unknown_tracks(chosen, tracks):
        raise Trouble(
            f"Model {chosen.name} does not make the track {unknown[0]}.",
            next_step=f"It makes: {', '.join(chosen.tracks)}. `sage models` lists what others make.",
        )
    if clip_seconds is None:
        clip_seconds = min(max(DEFAULT_CLIP_SECONDS, chosen.min_clip_seconds), chosen.max_clip_seconds)
    if not chosen.min_clip_seconds <= clip_seconds <= chosen.max_clip_seconds:
        raise Trouble(
            f"Model {chosen.name} does not take clips of {clip_seconds:g} s.",
            next_step=f"--clip-seconds may be {chosen.min_clip_seconds:g} to {chosen.max_clip_seconds:g}.",
        )
    return Recipe(chosen.name, chosen.revision, clip_seconds, tracks)


def _unknown_tracks(model: embed_pb2.Model, tracks: Sequence[str]) -> Sequence[str]:
    return [track for track in tracks if track not in model.tracks]


def _models_hint(models: Sequence[embed_pb2.Model]) -> str:
    usable = ", ".join(candidate.name for candidate in models if candidate.usable)
    return f"These can be used: {usable}." if usable else "`sage models` says why none can be used."


class Preparation:
    """Uploads and embeds what is missing, and knows what it has begun.

    Args:
        client: Where to.
        sending: How files are sent.
    """

    def __init__(self, client: Client, sending: Sending) -> None:
        self._client = client
        self._sending = sending
        self._begun: set[str] = set()
        # Two copies of one file are sent once, and one video is embedded once: the second waits for the first.
        self._locks: defaultdict[Fingerprint | str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def media_type(self, target: Target) -> str:
        """Return the media type that a file is uploaded as; empty for what is not a file.

        Raises:
            Trouble: It does not look like a video.
        """
        return (self._sending.content_type or guess_media_type(target.path)) if isinstance(target, FileTarget) else ""

    async def video(self, target: FileTarget | VideoTarget, line: Line) -> ingest_pb2.Video:
        """Return the video of a target, uploading it where SAGE does not have it."""
        if isinstance(target, VideoTarget):
            return await self._client.get_video(target.video_id)
        media_type = self.media_type(target)
        line.begin_bytes("reading", target.size_bytes)
        print_ = await fingerprint(target, advance=line.advance)
        async with self._locks[print_]:
            video = await find_video(self._client, print_)
            if video is None:
                video = await upload(
                    self._client,
                    target,
                    print_,
                    content_type=media_type,
                    parts_over_bytes=self._sending.parts_over_bytes,
                    line=line,
                )
        line.finish("uploaded")
        return video

    async def embedding(self, target: Target, recipe: Recipe, line: Line) -> embed_pb2.Embedding:
        """Return a completed embedding of a target, doing all that is missing.

        Raises:
            Trouble: It failed, or somebody cancelled it.
        """
        if isinstance(target, EmbeddingTarget):
            embedding = await self._client.get_embedding(target.embedding_id)
        else:
            video = await self.video(target, line)
            async with self._locks[video.id]:
                embedding = await self.begin(video, recipe)
        return await self.follow(embedding, line)

    async def begin(self, video: ingest_pb2.Video, recipe: Recipe) -> embed_pb2.Embedding:
        """Return an embedding of a video that is completed or under way, beginning one where there is none."""
        under_way: embed_pb2.Embedding | None = None
        async for embedding in self._client.list_embeddings(video_id=video.id, model=recipe.model):
            if not recipe.made(embedding):
                continue
            if embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED:
                return embedding
            if embedding.state not in FINAL_STATES:
                under_way = under_way or embedding
        if under_way is not None:
            return under_way
        # Once the request is out it must be known what came of it, or nobody could cancel it.
        creation = asyncio.ensure_future(
            self._client.create_embedding(
                video_id=video.id, model=recipe.model, clip_seconds=recipe.clip_seconds, tracks=recipe.tracks
            )
        )
        try:
            embedding = await asyncio.shield(creation)
        except asyncio.CancelledError:
            with contextlib.suppress(grpc.RpcError):
                self._begun.add((await creation).id)
            raise
        self._begun.add(embedding.id)
        return embedding

    async def follow(self, embedding: embed_pb2.Embedding, line: Line) -> embed_pb2.Embedding:
        """Follow an embedding to its end and return it completed."""
        if embedding.state not in FINAL_STATES:
            line.begin_work("embedding")
            async for embedding in watch(self._client, embedding.id):  # noqa: B020 - each is the newer state of it
                line.report(embedding.progress.fraction, embedding.progress.message)
        self._begun.discard(embedding.id)
        if embedding.state == embed_pb2.EMBEDDING_STATE_FAILED:
            raise Trouble(
                f"{line.label} could not be embedded: {embedding.failure.message}",
                next_step=f"The embedding is {embedding.id}. {next_step_for(embedding.failure.reason) or _AGAIN}",
            )
        if embedding.state == embed_pb2.EMBEDDING_STATE_CANCELLED:
            raise Trouble(
                f"{line.label} is not embedded: {embedding.id} was cancelled.",
                next_step="Run the command again to begin anew.",
            )
        line.finish("embedded")
        return embedding

    async def cancel_begun(self) -> int:
        """Cancel the embeddings that were begun here and are not finished, and return how many there were."""
        cancelled = 0
        for embedding_id in sorted(self._begun):
            try:
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    await self._client.cancel_embedding(embedding_id)
            except (grpc.RpcError, TimeoutError):
                # It may have come to its end just now, or SAGE may be gone: nothing more can be done from here.
                continue
            cancelled += 1
        self._begun.clear()
        return cancelled


async def find_video_of(client: Client, video_id: str) -> ingest_pb2.Video | None:
    """Return a video, or None where it is deleted: its embeddings outlive it."""
    try:
        return await client.get_video(video_id)
    except grpc.RpcError as error:
        if reason_of(error) == "VIDEO_NOT_FOUND":
            return None
        raise
