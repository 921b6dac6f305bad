"""What two embeddings must be to be compared."""

from collections.abc import Sequence

from sage_runtime.errors import Reason, SageError

from sage_compare.model import Embedding


def check_comparable(a: Embedding, b: Embedding, tracks: Sequence[str], *, max_segments: int) -> None:
    """Refuse embeddings that are not there yet, do not go together, or are too large to answer for.

    Args:
        a: The one.
        b: The other.
        tracks: The names of the tracks to compare.
        max_segments: How many segments these tracks of an embedding may have together.

    Raises:
        SageError: EMBEDDING_NOT_COMPLETED, MODELS_DIFFER, TRACK_MISSING, LIMIT_EXCEEDED.
    """
    for embedding in (a, b):
        _check_completed(embedding)
    _check_same_model(a, b)
    for embedding in (a, b):
        _check_tracks(embedding, tracks)
        _check_size(embedding, tracks, max_segments=max_segments)


def _check_completed(embedding: Embedding) -> None:
    if not embedding.completed:
        raise SageError(
            Reason.EMBEDDING_NOT_COMPLETED,
            embedding_id=embedding.id,
            state=embedding.state,
            what_to_do="Wait until it is COMPLETED." if embedding.under_way else "Embed the video again.",
        )


def _check_same_model(a: Embedding, b: Embedding) -> None:
    """Refuse vectors that do not lie in one space, and clips that do not last the same."""
    if _made_by(a) != _made_by(b):
        raise SageError(Reason.MODELS_DIFFER, a=_describe(a), b=_describe(b))


def _made_by(embedding: Embedding) -> tuple[str, str, int, float]:
    return embedding.model, embedding.model_revision, embedding.dimensions, embedding.clip_seconds


def _describe(embedding: Embedding) -> str:
    revision = f" ({embedding.model_revision})" if embedding.model_revision else ""
    return f"{embedding.model}{revision}, {embedding.dimensions} dimensions, {embedding.clip_seconds:g} s clips"


def _check_tracks(embedding: Embedding, tracks: Sequence[str]) -> None:
    for name in tracks:
        if not embedding.asked_for(name):
            asked_for = dict.fromkeys((*embedding.requested_tracks, *(track.name for track in embedding.tracks)))
            names = ", ".join(asked_for) or "none"
            raise SageError(Reason.TRACK_MISSING, embedding_id=embedding.id, track=name, tracks=names)


def _check_size(embedding: Embedding, tracks: Sequence[str], *, max_segments: int) -> None:
    count = sum(track.segment_count for track in embedding.tracks if track.name in tracks)
    if count > max_segments:
        raise SageError(
            Reason.LIMIT_EXCEEDED,
            limit="segments in the tracks of an embedding that are compared",
            max=max_segments,
            segment_count=count,
            embedding_id=embedding.id,
            what_to_do=f"Embedding {embedding.id} has {count}; "
            + ("compare one track at a time, or " if len(tracks) > 1 else "")
            + "make one with longer clips.",
        )
