"""Marengo through the full stack, from two files to their differences, with a key that is never returned."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.twelvelabs.server import StandIn
from sage_local.stack import RunningStack
from support.films import SAMPLES, TIME_EDITS, re_encode
from support.leaks import everything_in, leaks
from support.sage_command import Sage
from support.sound import with_sound

CLIP_SECONDS = 2.0
OLD, NEW = str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4")


def touched(side: dict[str, float] | None) -> list[int]:
    """Return the indexes of the clips in a range."""
    if side is None:
        return []
    return list(range(int(side["startSeconds"] // CLIP_SECONDS), int(-(-side["endSeconds"] // CLIP_SECONDS))))


def true_clips() -> list[int]:
    """Return the clips that the true edits of the films touch."""
    ranges = [{"startSeconds": first / 24, "endSeconds": end / 24} for (first, end), _ in TIME_EDITS]
    return sorted({index for one in ranges for index in touched(one)})


async def compared(sage: Sage, *arguments: str) -> dict[str, Any]:
    """Return what `sage diff` finds at equal times, by the vectors alone."""
    run = await sage("diff", "--time", "--json", *arguments)
    assert run.code in (0, 1), run.err
    document: dict[str, Any] = json.loads(run.out)
    return document


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("options", "model"),
    [
        ((), "marengo3.0"),
        (("--model", "marengo3.0"), "marengo3.0"),
        (("--model", "marengo3.5"), "marengo3.5"),
        (("--model", "Marengo-retrieval-2.7"), "Marengo-retrieval-2.7"),
    ],
    ids=["left open", "3.0", "3.5", "2.7"],
)
async def test_diff_finds_the_true_edits(
    sage: Sage, twelvelabs: StandIn, films: tuple[Path, Path], options: tuple[str, ...], model: str
) -> None:
    document = await compared(sage, *options, *map(str, films))
    assert document["model"] == model
    found = sorted(index for one in document["tracks"][0]["time"]["differences"] for index in touched(one["b"]))
    assert found == true_clips()
    # The same films are not paid for again.
    before = twelvelabs.creates_received
    assert before in (0, 2)
    await compared(sage, *options, *map(str, films))
    assert twelvelabs.creates_received == before


@pytest.mark.usefixtures("key")
async def test_a_changed_dub_shows_on_the_audio_track_only(sage: Sage, tmp_path: Path) -> None:
    dubbed = with_sound(SAMPLES / "old.mp4", tmp_path / "dubbed.mp4", keep_seconds=10)
    document = await compared(sage, "--track", "visual", "--track", "audio", OLD, str(dubbed))
    picture, sound = (track["time"]["differences"] for track in document["tracks"])
    assert picture == []
    (dub,) = sound
    assert touched(dub["b"]) == [5, 6, 7, 8, 9]


@pytest.mark.usefixtures("key")
async def test_a_film_that_marengo_refuses_is_not_billed(sage: Sage, twelvelabs: StandIn, tmp_path: Path) -> None:
    small = re_encode(SAMPLES / "old.mp4", tmp_path / "small.mp4", crf=33, width=320, height=180)
    video_id = (await sage("upload", str(small))).word()
    run = await sage("embed", video_id, "--model", "marengo3.0")
    assert run.code == 2
    assert "360" in run.err
    assert twelvelabs.creates_received == 0


async def test_the_key_appears_in_no_output_database_or_log(
    sage: Sage, stack: RunningStack, key: str, tmp_path: Path
) -> None:
    film = re_encode(SAMPLES / "old.mp4", tmp_path / "film.mp4", crf=30, width=640, height=360)
    document = await compared(sage, OLD, str(film))
    assert document["model"] == "marengo3.0"
    shown = await sage("key", "show")
    assert key[-4:] in shown.out
    assert (await sage("key", "check")).code == 0
    said = shown.out + shown.err + (await sage("models")).out + (await sage("embeddings", "--json")).out
    assert leaks(key, said.encode()) == []
    assert leaks(key, everything_in(stack.database_urls["postgres"])) == []
    logs = b"".join(log.read_bytes() for log in stack.logs.glob("*.log"))
    assert b"embedding_completed" in logs
    assert leaks(key, logs) == []


async def test_without_a_key_the_local_model_is_used(sage: Sage, twelvelabs: StandIn) -> None:
    run = await sage("diff", "--model", "marengo3.0", OLD, NEW)
    assert run.code == 2
    assert "key" in run.err
    assert (await compared(sage, OLD, NEW))["model"] == "local"
    assert twelvelabs.creates_received == 0


async def test_an_invalid_key_is_refused_and_not_stored(sage: Sage, twelvelabs: StandIn) -> None:
    run = await sage("key", "set", stdin="tlk_a_key_of_somebody_else")
    assert run.code == 2
    assert "somebody" not in run.out + run.err
    assert "There is no key" in (await sage("key", "show")).err
