"""Turns the arguments of a command into comparable embeddings, and makes sure that there are fingerprints."""

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import ingest_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError, in_commands, next_step_for, reason_of
from sage_cli.films.fingerprints import Fingerprints
from sage_cli.films.stored import find_stored
from sage_cli.films.targets import EmbeddingTarget, FileTarget, Target, VideoTarget, guess_media_type
from sage_cli.films.uploads import UploadOptions, checksum, filename_of, upload
from sage_cli.films.watching import FINAL_STATES, watch
from sage_cli.show.comparison import DEFAULT_TRACK
from sage_cli.show.progress import AnyLine, Line, share_line

# The contract's default for a request that leaves it open.
DEFAULT_CLIP_SECONDS = 2.0
CANCEL_TIMEOUT_S = 5.0

_KEY_HINTS = {"twelvelabs": "`sage key set` sets its key, `sage key show` shows the current one. "}


@dataclass(frozen=True)
class Recipe:
    """How videos are embedded, so that two of them can be compared.

    Attributes:
        model: Name of the model.
        revision: Version of its weights and preprocessing.
        clip_seconds: Length of a clip.
        tracks: The tracks to make.
    """

    model: str
    revision: str
    clip_seconds: float
    tracks: tuple[str, ...] = (DEFAULT_TRACK,)

    @classmethod
    def of(cls, embedding: embed_pb2.Embedding, tracks: tuple[str, ...]) -> "Recipe":
        """Return the recipe for an embedding that can be compared with this one in these tracks."""
        return cls(embedding.model, embedding.model_revision, embedding.clip_seconds, tracks)

    def made(self, embedding: embed_pb2.Embedding) -> bool:
        """Return whether an embedding was made, or is being made, with this recipe; it may have more tracks."""
        recipe = (self.model, self.revision, self.clip_seconds)
        return (embedding.model, embedding.model_revision, embedding.clip_seconds) == recipe and not missing_tracks(
            embedding, self.tracks
        )


def missing_tracks(embedding: embed_pb2.Embedding, tracks: Sequence[str]) -> Sequence[str]:
    """Return the tracks that were not requested of an embedding.

    A requested track that the video does not have is not missing: requesting it again would not help.
    """
    requested = {*embedding.requested_tracks, *(track.name for track in embedding.tracks)}
    return [track for track in tracks if track not in requested]


async def choose_recipe(
    client: Client, *, model: str | None, clip_seconds: float | None, tracks: tuple[str, ...] = (DEFAULT_TRACK,)
) -> Recipe:
    """Return the recipe for what the user requested. Called before anything is uploaded for it.

    Args:
        client: Lists the models.
        model: Name of the model; None for the best usable one that makes these tracks.
        clip_seconds: Length of a clip; None for 2, or the nearest length within the model's limits.
        tracks: The tracks to make.

    Raises:
        CommandError: There is no such model, it cannot be used, or it does not support these clips or tracks.
    """
    models = await client.list_models()
    if model is None:
        usable = [candidate for candidate in models if candidate.usable]
        if not usable:
            raise CommandError("This server has no usable model.", next_step="`sage models` shows why.")
        # If no model makes the tracks, the error below names the best one.
        chosen = next((candidate for candidate in usable if not _unknown_tracks(candidate, tracks)), usable[0])
    else:
        found = next((candidate for candidate in models if candidate.name == model), None)
        if found is None:
            raise CommandError(f"There is no model {model!r}.", next_step=_usable_models(models))
        if not found.usable:
            next_step = _KEY_HINTS.get(found.provider, "")
            raise CommandError(
                f"Model {model} cannot be used: {in_commands(found.unusable_reason, next_step=next_step)}",
                next_step=next_step + _usable_models(models),
            )
        chosen = found
    if unknown := _unknown_tracks(chosen, tracks):
        raise CommandError(
            f"Model {chosen.name} does not make the track {unknown[0]}.",
            next_step=f"It makes: {', '.join(chosen.tracks)}. `sage models` lists the tracks of every model.",
        )
    if clip_seconds is None:
        clip_seconds = min(max(DEFAULT_CLIP_SECONDS, chosen.min_clip_seconds), chosen.max_clip_seconds)
    if not chosen.min_clip_seconds <= clip_seconds <= chosen.max_clip_seconds:
        raise CommandError(
            f"Model {chosen.name} does not support clips of {clip_seconds:g} s.",
            next_step=f"--clip-seconds accepts {chosen.min_clip_seconds:g} to {chosen.max_clip_seconds:g}.",
        )
    return Recipe(chosen.name, chosen.revision, clip_seconds, tracks)


def _unknown_tracks(model: embed_pb2.Model, tracks: Sequence[str]) -> Sequence[str]:
    return [track for track in tracks if track not in model.tracks]


def _usable_models(models: Sequence[embed_pb2.Model]) -> str:
    usable = ", ".join(candidate.name for candidate in models if candidate.usable)
    return f"Usable models: {usable}." if usable else "`sage models` shows why none can be used."


async def find_completed(
    client: Client, video_id: str, tracks: tuple[str, ...], *, model: str = "", recipe: Recipe | None = None
) -> embed_pb2.Embedding | None:
    """Return a completed embedding of a video with these tracks, or None.

    Args:
        client: Lists the embeddings.
        video_id: The video.
        tracks: Tracks that must have been requested.
        model: Only embeddings of this model; empty for any.
        recipe: Preferred over newer embeddings that were made otherwise.
    """
    newest: embed_pb2.Embedding | None = None
    async for embedding in client.list_embeddings(
        video_id=video_id, model=model, state=embed_pb2.EMBEDDING_STATE_COMPLETED
    ):
        if missing_tracks(embedding, tracks):
            continue
        if recipe is None or recipe.made(embedding):
            return embedding
        newest = newest or embedding
    return newest


class Preparation:
    """Uploads and embeds what is missing, and keeps track of what it has started.

    Args:
        client: The client of the server.
        options: How files are uploaded.
        force: Whether to make new embeddings and fingerprints of videos even if there are some.
    """

    def __init__(self, client: Client, options: UploadOptions, *, force: bool = False) -> None:
        self._client = client
        self._options = options
        self._force = force
        # The requests for unfinished embeddings, by the embedding's ID.
        self._requests: dict[str, str] = {}
        self._embeddings: dict[str, embed_pb2.Embedding] = {}
        self._fingerprints = Fingerprints(client)
        # Two copies of a file are uploaded once, and a video is embedded once: the second waits for the first.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def media_type(self, target: Target) -> str:
        """Return the media type that a file is uploaded as; empty for other targets.

        Raises:
            CommandError: It does not look like a video.
        """
        if not isinstance(target, FileTarget):
            return ""
        return self._options.content_type or guess_media_type(target.path)

    async def video(self, target: FileTarget | VideoTarget, line: Line) -> ingest_pb2.Video:
        """Return the video of a target, uploading the file unless SAGE already has its bytes."""
        if isinstance(target, VideoTarget):
            return await self._client.get_video(target.video_id)
        media_type = self.media_type(target)
        line.begin_bytes("reading", target.size_bytes)
        check = await checksum(target.path, advance=line.advance)
        self._client.be_patient()
        async with self._locks[f"{check.sha256}:{target.video_track}"]:
            video = await find_stored(self._client, check.sha256, video_track=target.video_track)
            if video is None:
                video = await upload(
                    self._client,
                    target.path,
                    check,
                    content_type=media_type,
                    video_track=target.video_track,
                    resumable_over_bytes=self._options.resumable_over_bytes,
                    line=line,
                )
            elif video.filename != filename_of(target.path):
                line.note(f"already there as {video.filename}.")
        line.finish("uploaded")
        return video

    async def embedding(self, target: Target, recipe: Recipe, line: Line) -> embed_pb2.Embedding:
        """Return a completed embedding of a target, doing all missing steps.

        Raises:
            CommandError: It failed, or another client cancelled it.
        """
        if isinstance(target, EmbeddingTarget):
            embedding = await self._client.get_embedding(target.embedding_id)
        else:
            embedding = await self.begin(await self.video(target, line), recipe)
        return await self.follow(embedding, line)

    async def film(self, target: Target, recipe: Recipe, line: Line) -> embed_pb2.Embedding:
        """Return the completed embedding of a film once it has a completed fingerprint too. Both are made side by side.

        Args:
            target: The film.
            recipe: How to embed it.
            line: Shows the progress of both as one.

        Raises:
            CommandError: One of them failed, another client cancelled it, or there can be no fingerprint.
        """
        if isinstance(target, EmbeddingTarget):
            embedding = await self._client.get_embedding(target.embedding_id)
        else:
            embedding = await self.begin(await self.video(target, line), recipe)
        of_embedding, of_fingerprint = share_line(line, "analysing", 2)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self.follow(embedding, of_embedding))
            # That of an embedding's video could not be made again if the video is deleted.
            force = self._force and not isinstance(target, EmbeddingTarget)
            group.create_task(self._fingerprints.ensure(embedding.video_id, of_fingerprint, force=force))
        line.finish("analysed")
        return following.result()

    async def fingerprint(self, embedding: embed_pb2.Embedding, line: Line) -> None:
        """Return once the video of an embedding has a completed fingerprint.

        Raises:
            CommandError: It failed, another client cancelled it, or there can be none.
        """
        await self._fingerprints.ensure(embedding.video_id, line)

    async def begin(self, video: ingest_pb2.Video, recipe: Recipe) -> embed_pb2.Embedding:
        """Return the embedding of a video for a recipe in its current state: an existing or a new one."""
        async with self._locks[video.id]:
            embedding = self._embeddings.get(video.id)
            if embedding is None:
                embedding = self._embeddings[video.id] = await self._create(video.id, recipe)
            return embedding

    async def _create(self, video_id: str, recipe: Recipe) -> embed_pb2.Embedding:
        # Once the request is sent its result must be known, even if this task is cancelled: otherwise the embedding
        # could not be cancelled either.
        request_id = f"sage-cli-{uuid.uuid4().hex}"
        creation = asyncio.ensure_future(
            self._client.create_embedding(
                video_id=video_id,
                model=recipe.model,
                clip_seconds=recipe.clip_seconds,
                tracks=recipe.tracks,
                request_id=request_id,
                force=self._force,
            )
        )
        try:
            response = await asyncio.shield(creation)
        except asyncio.CancelledError:
            with contextlib.suppress(grpc.RpcError):
                self._requests[(await creation).embedding.id] = request_id
            raise
        except grpc.RpcError as error:
            # A token with scope `read` cannot create an embedding, but it can compare an existing one.
            if reason_of(error) != "FORBIDDEN" or self._force:
                raise
            existing = await find_completed(self._client, video_id, recipe.tracks, model=recipe.model, recipe=recipe)
            if existing is None or not recipe.made(existing):
                raise
            return existing
        self._requests[response.embedding.id] = request_id
        return response.embedding

    async def follow(self, embedding: embed_pb2.Embedding, line: AnyLine) -> embed_pb2.Embedding:
        """Watch an embedding until it finishes and return it completed.

        Raises:
            CommandError: It failed, or another client cancelled it.
        """
        if embedding.state not in FINAL_STATES:
            line.begin_work("embedding")
            self._client.be_patient()
            changes = watch(self._client, embedding.id, request_id=self._requests.get(embedding.id, ""))
            async for embedding in changes:
                line.report(embedding.progress.fraction, embedding.progress.message)
        self._requests.pop(embedding.id, None)
        if embedding.state == embed_pb2.EMBEDDING_STATE_FAILED:
            advice = next_step_for(embedding.failure.reason)
            raise CommandError(
                f"{line.label} could not be embedded: {in_commands(embedding.failure.message, next_step=advice)}",
                next_step=f"The embedding is {embedding.id}. {advice or 'Run the command again to retry.'}",
            )
        if embedding.state == embed_pb2.EMBEDDING_STATE_CANCELLED:
            raise CommandError(
                f"{line.label} was not embedded: {embedding.id} was cancelled.",
                next_step="Run the command again to start over.",
            )
        line.finish("embedded")
        return embedding

    async def interrupted(self) -> str:
        """Withdraw the requests for unfinished work, and return what became of it as sentences for people.

        SAGE cancels an embedding or a fingerprint only if no other request has received it and no other client watches
        it. A fingerprint continues as long as its video is being embedded, so the embeddings come first.
        """
        embeddings = []
        for embedding_id, request_id in sorted(self._requests.items()):
            # If SAGE is gone, there is nothing left to do.
            with contextlib.suppress(grpc.RpcError, TimeoutError):
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    embeddings.append(await self._client.cancel_embedding(embedding_id, request_id=request_id))
        self._requests.clear()
        work = {
            "embedding": [embedding.state for embedding in embeddings],
            "fingerprint": [one.state for one in await self._fingerprints.withdraw(timeout_s=CANCEL_TIMEOUT_S)],
        }
        cancelled = {noun: states.count(embed_pb2.EMBEDDING_STATE_CANCELLED) for noun, states in work.items()}
        continued = {noun: sum(state not in FINAL_STATES for state in states) for noun, states in work.items()}
        note = "Interrupted."
        if any(cancelled.values()):
            note += f" {_counted(cancelled)} {'was' if sum(cancelled.values()) == 1 else 'were'} cancelled."
        if sum(continued.values()) == 1:
            note += f" {_counted(continued)} continues, because someone else waits for it too."
        elif any(continued.values()):
            note += f" {_counted(continued)} continue, because someone else waits for them too."
        return note


def _counted(numbers: Mapping[str, int]) -> str:
    """Return how many there are of each, such as `2 embeddings and one fingerprint`."""
    words = [f"one {noun}" if number == 1 else f"{number} {noun}s" for noun, number in numbers.items() if number]
    sentence = " and ".join(words)
    return f"{sentence[0].upper()}{sentence[1:]}"
