"""Real films through Envoy into every service, with the `sage` command."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.films import SAMPLES, re_encode
from support.sage_command import Sage
from support.sound import with_sound

# The engine embeds clips of this length, so an edit shows in exactly the clips that it touches, and in no others.
CLIP_SECONDS = 2.0
KINDS = {
    "DIFFERENCE_KIND_CHANGED": "changed",
    "DIFFERENCE_KIND_ONLY_IN_A": "only_in_a",
    "DIFFERENCE_KIND_ONLY_IN_B": "only_in_b",
}


def _seconds(side: dict[str, float] | None) -> list[float] | None:
    return side and [side["startSeconds"], side["endSeconds"]]


def widened(edit: list[float]) -> list[float]:
    """Return the clips that a range touches, as one range."""
    return [edit[0] // CLIP_SECONDS * CLIP_SECONDS, -(-edit[1] // CLIP_SECONDS) * CLIP_SECONDS]


def expected() -> list[dict[str, Any]]:
    """Return the true edits of the samples, widened to clips."""
    edits = json.loads((SAMPLES / "truth.json").read_text())["edits"]
    return [
        {"kind": "changed", "a": widened(edit["a"]), "b": widened(edit["b"])}
        if edit["kind"] == "changed"
        else {"kind": edit["kind"], "a": edit["a"], "b": edit["b"]}
        for edit in edits
    ]


async def test_diff_finds_the_true_edits_of_the_samples_and_nothing_else(sage: Sage) -> None:
    run = await sage("diff", "--json", str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4"))
    assert run.code == 1, run.err
    found = [
        {"kind": KINDS[difference["kind"]], "a": _seconds(difference["a"]), "b": _seconds(difference["b"])}
        for difference in json.loads(run.out)["tracks"][0]["time"]["differences"]
    ]
    assert found == expected()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
async def test_a_re_encode_does_not_differ(sage: Sage, tmp_path: Path, metric: str) -> None:
    other = re_encode(SAMPLES / "old.mp4", tmp_path / "other.mp4", crf=33, width=320, height=180, keep_sound=True)
    run = await sage("diff", "--json", "--metric", metric, str(SAMPLES / "old.mp4"), str(other))
    assert run.code == 0, run.out + run.err
    (track,) = json.loads(run.out)["tracks"]
    assert track["time"]["differences"] == []
    assert track["similarityPercent"] == 100
    assert track["time"]["comparedCount"] == 10


async def test_a_file_does_not_differ_from_its_copy(sage: Sage, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(SAMPLES / "new.mp4", copy)
    run = await sage("diff", str(SAMPLES / "new.mp4"), str(copy))
    assert run.code == 0, run.out + run.err


async def test_a_container_codec_and_first_timestamp_make_no_difference(sage: Sage, tmp_path: Path) -> None:
    other = re_encode(
        SAMPLES / "old.mp4", tmp_path / "other.mkv", crf=20, codec="mpeg4", start_seconds=3.7, keep_sound=True
    )
    run = await sage("diff", str(SAMPLES / "old.mp4"), str(other))
    assert run.code == 0, run.out + run.err


async def test_lost_sound_and_other_channels_are_differences_and_a_dub_is_said_to_be_not_compared(
    sage: Sage, tmp_path: Path
) -> None:
    old = SAMPLES / "old.mp4"
    silent = re_encode(old, tmp_path / "silent.mp4", crf=20)
    mono = with_sound(old, tmp_path / "mono.mp4")
    for film, kind in ((silent, "AUDIO_TRACK_COUNT"), (mono, "AUDIO_LAYOUT")):
        run = await sage("diff", "--json", str(old), str(film))
        assert run.code == 1, run.out + run.err
        document = json.loads(run.out)
        assert document["tracks"][0]["time"]["differences"] == []
        assert [one["kind"] for one in document["mediaDifferences"]] == [f"MEDIA_DIFFERENCE_KIND_{kind}"]
    dub = with_sound(mono, tmp_path / "dub.mp4", keep_seconds=10)
    run = await sage("diff", str(mono), str(dub))
    assert run.code == 0, run.out + run.err
    assert run.out.startswith(
        "The picture is 100% the same.\nSound was not compared: model local has no audio track.\n"
    )


async def test_black_bars_are_said_to_be_why_all_of_the_picture_differs(sage: Sage, tmp_path: Path) -> None:
    old = SAMPLES / "old.mp4"
    letterboxed = re_encode(old, tmp_path / "letterboxed.mp4", crf=20, keep_sound=True, bar=44)
    run = await sage("diff", str(old), str(letterboxed))
    assert "Black bars: none in old, letterbox " in run.out, run.out + run.err
    assert "so pictures differ everywhere." in run.out


async def test_the_other_commands_work_one_by_one(sage: Sage) -> None:
    video_id = (await sage("upload", str(SAMPLES / "old.mp4"))).word()
    assert video_id in (await sage("videos")).out
    assert (await sage("play", video_id)).word().startswith("http")
    embedding_id = (await sage("embed", video_id)).word()
    assert (await sage("watch", embedding_id)).code == 0
    assert embedding_id in (await sage("embeddings")).out
    assert "local" in (await sage("models")).out
    assert (await sage("compare", embedding_id, embedding_id)).code == 0
    cancelled = await sage("cancel", embedding_id)
    assert cancelled.code == 2
    assert "COMPLETED" in cancelled.err
    assert (await sage("delete", embedding_id, video_id)).code == 0
    assert video_id not in (await sage("videos")).out


async def test_above_every_distance_only_the_longer_end_remains(sage: Sage) -> None:
    run = await sage("diff", "--json", "--threshold", "2", str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4"))
    differences = json.loads(run.out)["tracks"][0]["time"]["differences"]
    assert [KINDS[difference["kind"]] for difference in differences] == ["only_in_b"]
