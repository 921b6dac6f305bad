"""Marengo through the whole stack, from two files to their differences, with a key that nobody sees again."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.twelvelabs.server import KEY, StandIn
from sage_local.running import RunningStack
from support.films import SAMPLES, re_encode
from support.leaks import everything_in, leaks
from support.sage_command import Sage
from support.sound import with_sound

CLIP_SECONDS = 2.0
OLD, NEW = str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4")


@pytest.fixture
async def key(sage: Sage, twelvelabs: StandIn) -> AsyncIterator[str]:
    """The key, set as people do it, and removed after the test."""
    run = await sage("key", "set", stdin=KEY + "\n")
    assert run.code == 0, run.err
    yield KEY
    assert (await sage("key", "remove")).code == 0


def touched(side: dict[str, float] | None) -> list[int]:
    """Return the indexes of the clips in a range."""
    if side is None:
        return []
    return list(range(int(side["startSeconds"] // CLIP_SECONDS), int(-(-side["endSeconds"] // CLIP_SECONDS))))


def true_clips() -> list[int]:
    """Return the clips that the true edits of the samples touch."""
    edits = json.loads((SAMPLES / "truth.json").read_text())["edits"]
    ranges = [dict(zip(("startSeconds", "endSeconds"), edit["b"], strict=True)) for edit in edits]
    return sorted({index for one in ranges for index in touched(one)})


async def compared(sage: Sage, *arguments: str) -> dict[str, Any]:
    """Return what `sage diff` finds."""
    run = await sage("diff", "--json", *arguments)
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
async def test_diff_finds_the_true_edits(sage: Sage, twelvelabs: StandIn, options: tuple[str, ...], model: str) -> None:
    """Each edit shows on the clips that it touches and no other clip differs, with one task for each film."""
    document = await compared(sage, *options, OLD, NEW)
    assert document["model"] == model
    found = sorted(index for one in document["differences"] for index in touched(one["b"]))
    assert found == true_clips()
    # What was embedded before is not paid for again.
    before = twelvelabs.creates_received
    assert before in (0, 2)
    await compared(sage, *options, OLD, NEW)
    assert twelvelabs.creates_received == before


@pytest.mark.usefixtures("key")
async def test_a_changed_dub_shows_on_the_second_track_alone(sage: Sage, tmp_path: Path) -> None:
    """The picture is the same; the sound differs from where another dub begins."""
    dubbed = with_sound(SAMPLES / "old.mp4", tmp_path / "dubbed.mp4", keep_seconds=10)
    document = await compared(sage, "--second-track", "audio", OLD, str(dubbed))
    assert document["differences"] == []
    (dub,) = document["second"]["differences"]
    assert touched(dub["b"]) == [5, 6, 7, 8, 9]


@pytest.mark.usefixtures("key")
async def test_a_film_that_marengo_does_not_take_costs_nothing(sage: Sage, twelvelabs: StandIn, tmp_path: Path) -> None:
    """A picture that is too small is refused with the limit, before TwelveLabs hears of it."""
    small = re_encode(SAMPLES / "old.mp4", tmp_path / "small.mp4", crf=33, width=320, height=180)
    video_id = (await sage("upload", str(small))).word()
    run = await sage("embed", video_id, "--model", "marengo3.0")
    assert run.code == 2
    assert "360" in run.err
    assert twelvelabs.creates_received == 0


async def test_the_key_is_shown_to_nobody(sage: Sage, stack: RunningStack, key: str, tmp_path: Path) -> None:
    """After an upload, an embedding and every command about the key: not in answers, the database, or any log."""
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
    """Marengo is refused with what to do; what is left open is done here."""
    run = await sage("diff", "--model", "marengo3.0", OLD, NEW)
    assert run.code == 2
    assert "key" in run.err
    assert (await compared(sage, OLD, NEW))["model"] == "local"
    assert twelvelabs.creates_received == 0


async def test_a_wrong_key_is_refused_and_not_stored(sage: Sage, twelvelabs: StandIn) -> None:
    """TwelveLabs is asked before a key is kept."""
    run = await sage("key", "set", stdin="tlk_a_key_of_somebody_else")
    assert run.code == 2
    assert "somebody" not in run.out + run.err
    assert "There is no key" in (await sage("key", "show")).err
