"""Domain errors of embed, with the details that the catalogue's texts require."""

from collections.abc import Sequence

from sage_runtime.errors import STORE_REASONS, FieldViolation, Reason, SageError

from sage_embed.embeddings.model import UNFINISHED, Embedding, State, provider_name

# Part of SAGE was unreachable, or one of its stores could not be used.
OURS = STORE_REASONS | {Reason.SERVICE_UNAVAILABLE}
# The same request may succeed later.
RETRYABLE = OURS | {Reason.PROVIDER_UNREACHABLE}


def embedding_not_found(embedding_id: str) -> SageError:
    """Return the error for an embedding that does not exist."""
    return SageError(Reason.EMBEDDING_NOT_FOUND, embedding_id=embedding_id)


def embedding_finished(embedding: Embedding) -> SageError:
    """Return the error for cancelling an embedding that has completed or failed."""
    return SageError(Reason.EMBEDDING_FINISHED, embedding_id=embedding.id, state=embedding.state)


def embedding_not_completed(embedding: Embedding) -> SageError:
    """Return the error for reading the vectors of an embedding that is not COMPLETED."""
    return SageError(
        Reason.EMBEDDING_NOT_COMPLETED,
        embedding_id=embedding.id,
        state=embedding.state,
        what_to_do="Embed the video again." if embedding.finished else "Wait until it is COMPLETED.",
    )


def fingerprint_not_found(video_id: str) -> SageError:
    """Return the error for a video that has no fingerprint."""
    return SageError(Reason.FINGERPRINT_NOT_FOUND, video_id=video_id)


def fingerprint_finished(video_id: str, state: State) -> SageError:
    """Return the error for cancelling a fingerprint that has completed or failed."""
    return SageError(Reason.FINGERPRINT_FINISHED, video_id=video_id, state=state)


def fingerprint_not_completed(video_id: str, state: State) -> SageError:
    """Return the error for reading a fingerprint that is not COMPLETED."""
    return SageError(
        Reason.FINGERPRINT_NOT_COMPLETED,
        video_id=video_id,
        state=state,
        what_to_do="Wait until it is COMPLETED." if state in UNFINISHED else "Request it again with CreateFingerprint.",
    )


def fingerprint_object_lost(key: str) -> SageError:
    """Return the error for an object of a completed fingerprint that the store does not have."""
    why = "an object of a fingerprint is missing"
    return SageError(Reason.STORE_MISCONFIGURED, detail=f"{key} is missing", store="fingerprint store", why=why)


def track_missing(embedding: Embedding, track: str) -> SageError:
    """Return the error for a track that the embedding does not have."""
    names = ", ".join(known.name for known in embedding.tracks) or "none"
    return SageError(Reason.TRACK_MISSING, embedding_id=embedding.id, track=track, tracks=names)


def model_unknown(model: str, known: Sequence[str]) -> SageError:
    """Return the error for a model that no engine offers."""
    names = ", ".join(known) or "none"
    violation = FieldViolation("model", f"must be empty or one of: {names}.")
    return SageError(Reason.MODEL_UNKNOWN, violations=(violation,), model=model, models=names)


def model_unavailable(model: str, why: str) -> SageError:
    """Return the error for a model that cannot be used now. `why` becomes part of a sentence."""
    return SageError(Reason.MODEL_UNAVAILABLE, model=model, why=why.rstrip("."))


def provider_failed(embedding: Embedding, why: str) -> SageError:
    """Return the error for work that a provider failed to do. `why` has no full stop."""
    return SageError(Reason.PROVIDER_FAILED, provider=provider_name(embedding.plan.provider), why=why)


class TaskTakenError(SageError):
    """The provider named a task that already belongs to another embedding.

    Args:
        provider: The provider.
        provider_task_id: The task.
    """

    def __init__(self, provider: str, provider_task_id: str) -> None:
        why = f"its task {provider_task_id} belongs to another embedding"
        super().__init__(Reason.PROVIDER_FAILED, provider=provider_name(provider), why=why)


def video_rejected(provider: str, why: str) -> SageError:
    """Return the error for a video that a provider's model does not accept. `why` has no full stop."""
    return SageError(Reason.PROVIDER_REJECTED_VIDEO, provider=provider_name(provider), why=why)


def request_id_reused(request_id: str) -> SageError:
    """Return the error for an idempotency key that was used for a different request."""
    violation = FieldViolation("request_id", "was used for a different request; choose another.")
    return SageError(Reason.REQUEST_ID_REUSED, violations=(violation,), request_id=request_id)


def limit_exceeded(*, limit: str, maximum: int, what_to_do: str) -> SageError:
    """Return the error for reaching a limit of this server."""
    return SageError(Reason.LIMIT_EXCEEDED, limit=limit, max=maximum, what_to_do=what_to_do)


def api_key_missing(provider: str) -> SageError:
    """Return the error for a call that requires a provider's key if none is set."""
    return SageError(Reason.API_KEY_MISSING, provider=provider_name(provider))


def api_key_invalid(provider: str) -> SageError:
    """Return the error for a key that its provider rejects."""
    return SageError(Reason.API_KEY_INVALID, provider=provider_name(provider))


def encryption_key_missing(why: str) -> SageError:
    """Return the error for a key that cannot be encrypted or decrypted. `why` has no full stop."""
    return SageError(Reason.ENCRYPTION_KEY_MISSING, why=why, setting="SAGE_KEY_ENCRYPTION_KEYS")
