"""The errors that comparisons raise. `sage_runtime.errors` maps their reasons to statuses and public texts."""

from sage_runtime.errors import Reason, SageError

from sage_compare.inputs.embedding import Embedding
from sage_compare.inputs.fingerprints import StoredFingerprint


def embedding_not_completed(embedding: Embedding) -> SageError:
    """Return the error for an embedding whose vectors are not all stored."""
    return SageError(
        Reason.EMBEDDING_NOT_COMPLETED,
        embedding_id=embedding.id,
        state=embedding.state,
        what_to_do="Wait until it is COMPLETED." if embedding.in_progress else "Embed the video again.",
    )


def models_differ(a: Embedding, b: Embedding) -> SageError:
    """Return the error for embeddings whose vectors are not comparable or whose clips differ in length."""
    return SageError(Reason.MODELS_DIFFER, a=_described(a), b=_described(b))


def _described(embedding: Embedding) -> str:
    revision = f" ({embedding.model_revision})" if embedding.model_revision else ""
    return f"{embedding.model}{revision}, {embedding.dimensions} dimensions, {embedding.clip_seconds:g} s clips"


def track_missing(embedding: Embedding, track: str) -> SageError:
    """Return the error for a track that was not requested when the embedding was made."""
    names = dict.fromkeys((*embedding.requested_tracks, *(found.name for found in embedding.tracks)))
    return SageError(Reason.TRACK_MISSING, embedding_id=embedding.id, track=track, tracks=", ".join(names) or "none")


def too_many_segments(embedding: Embedding, count: int, *, limit: int, track_count: int) -> SageError:
    """Return the error for an embedding that is too large to compare in one call."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="segments of one embedding in one comparison",
        max=limit,
        segment_count=count,
        embedding_id=embedding.id,
        what_to_do=f"Embedding {embedding.id} has {count}; "
        + ("compare one track at a time, or " if track_count > 1 else "")
        + "make one with longer clips.",
    )


def fingerprint_not_completed(fingerprint: StoredFingerprint) -> SageError:
    """Return the error for a fingerprint whose bytes are not all stored."""
    wait = "Wait until it is COMPLETED." if fingerprint.in_progress else "Request it again with CreateFingerprint."
    return SageError(
        Reason.FINGERPRINT_NOT_COMPLETED, video_id=fingerprint.video_id, state=fingerprint.state, what_to_do=wait
    )


def fingerprint_outdated(fingerprint: StoredFingerprint) -> SageError:
    """Return the error for a fingerprint of another version."""
    return SageError(
        Reason.FINGERPRINT_NOT_COMPLETED,
        video_id=fingerprint.video_id,
        state=f"of version {fingerprint.version}",
        what_to_do="Request it again with CreateFingerprint.",
    )


def fingerprint_damaged(fingerprint: StoredFingerprint, *, detail: str) -> SageError:
    """Return the error for a fingerprint whose bytes cannot be read."""
    return SageError(
        Reason.FINGERPRINT_NOT_COMPLETED,
        detail=detail,
        video_id=fingerprint.video_id,
        state="damaged",
        what_to_do="Delete it with DeleteFingerprint and request it again with CreateFingerprint.",
    )


def film_too_long(fingerprint: StoredFingerprint, *, limit: int) -> SageError:
    """Return the error for a film with more frames than are aligned."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="frames of one film",
        max=limit,
        frame_count=fingerprint.frame_count,
        video_id=fingerprint.video_id,
        what_to_do=f"Video {fingerprint.video_id} has {fingerprint.frame_count}. Mode TIME has no such limit.",
    )
