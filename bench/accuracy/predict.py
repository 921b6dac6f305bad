"""SAGE's own comparison, called directly: fingerprint, then align. Fingerprints are kept beside the films."""

import hashlib
from pathlib import Path

import numpy as np
import sage_fingerprint
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import EditScript, Region
from sage_fingerprint.film import fingerprint_file
from sage_fingerprint.model import Fingerprint
from sage_ingest.probing.measure import measure
from sage_ingest.videos.model import Media

_FIELDS = ("luma", "texture", "chroma", "frame_seconds", "duration_seconds", "sound")


def aligned(old: Path, new: Path) -> EditScript:
    """Return what SAGE says was done to one film to make the other."""
    return align(film_of(old), film_of(new), Options())


def film_of(path: Path) -> Film:
    """Return a film as the service gives it to the alignment."""
    with path.open("rb") as file:
        media = measure(file, size_bytes=path.stat().st_size)
    active = media.active_picture
    region = None
    if active is not None:
        region = Region(
            active.left / media.width,
            active.top / media.height,
            active.width / media.width,
            active.height / media.height,
        )
    return Film(fingerprint_of(path), media.frame_rate, region, _dynamic_range(media))


def _dynamic_range(media: Media) -> str:
    transfer = media.color.transfer if media.color else ""
    return {"smpte2084": "PQ", "arib-std-b67": "HLG"}.get(transfer or "", "SDR")


def fingerprint_of(path: Path) -> Fingerprint:
    """Return the fingerprint of a film: the one that is kept, if the code that makes it is the same."""
    kept = path.with_name(f"{path.stem}.{_code()}.npz")
    if kept.exists():
        with np.load(kept) as found:
            fields = {name: found[name] for name in _FIELDS if name in found}
        return Fingerprint(**{**fields, "duration_seconds": float(fields["duration_seconds"])})
    made = fingerprint_file(path)
    stored = {name: getattr(made, name) for name in _FIELDS if getattr(made, name) is not None}
    part = kept.with_suffix(".part.npz")
    np.savez(part, **stored)
    part.rename(kept)
    return made


def _code() -> str:
    """Return a name for the code that makes fingerprints."""
    folder = Path(sage_fingerprint.__file__).parent
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.glob("*.py")))).hexdigest()[:10]
