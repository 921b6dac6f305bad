"""`python -m sage_fingerprint FILM -o OUT`: writes a film's fingerprint, and prints its size and how long it took."""

import argparse
import sys
import time
from pathlib import Path

from sage_fingerprint.codec import encode
from sage_fingerprint.film import fingerprint_file


def main() -> None:
    """Measure one film."""
    parser = argparse.ArgumentParser(prog="python -m sage_fingerprint", description="Writes the fingerprint of a film.")
    parser.add_argument("film", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--threads", type=int, default=2, help="threads that decode (default: 2)")
    arguments = parser.parse_args()
    begun_at = time.perf_counter()
    fingerprint = fingerprint_file(arguments.film, threads=arguments.threads)
    took_s = time.perf_counter() - begun_at
    size = arguments.out.write_bytes(b"".join(encode(fingerprint)))
    minutes = fingerprint.duration_seconds / 60
    sys.stdout.write(
        f"{len(fingerprint):,} frames, {fingerprint.duration_seconds:,.3f} s, {size:,} bytes: "
        f"{size / minutes / 1e6:.3f} MB per minute, {fingerprint.duration_seconds / took_s:.1f} times real time\n"
    )


if __name__ == "__main__":
    main()
