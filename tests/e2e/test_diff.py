"""Real films through Envoy into every service, with the `sage` command."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.films import SAMPLES, TIME_EDITS, re_encode
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


def widened(edit: tuple[int, int]) -> list[float]:
    """Return the clips that a range of frames touches, as one range."""
    start, end = (frame / 24 for frame in edit)
    return [start // CLIP_SECONDS * CLIP_SECONDS, -(-end // CLIP_SECONDS) * CLIP_SECONDS]


def frames_of(side: dict[str, Any] | None) -> list[int] | None:
    """Return a range in the JSON as frames."""
    return side and [int(side["firstFrame"]), int(side["endFrame"])]


def near(found: list[int] | None, true: list[int] | None, *, frames: int) -> bool:
    """Return whether both ends of a range are where they should be."""
    if found is None or true is None:
        return found == true
    return all(abs(one - other) <= frames for one, other in zip(found, true, strict=True))


async def test_diff_finds_the_true_edits_of_the_samples_and_nothing_else(sage: Sage) -> None:
    """Cuts to the frame; what fades into the noise of the encoding, to two frames."""
    run = await sage("diff", "--json", str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4"))
    assert run.code == 1, run.err
    found = [
        edit for edit in json.loads(run.out)["tracks"][0]["script"]["edits"] if edit["kind"] != "EDIT_KIND_MATCHED"
    ]
    truth = [edit for edit in json.loads((SAMPLES / "truth.json").read_text())["edits"] if edit["kind"] != "MATCHED"]
    assert [edit["kind"] for edit in found] == [f"EDIT_KIND_{edit['kind']}" for edit in truth]
    for edit, true in zip(found, truth, strict=True):
        (change,) = true.get("changes", [{"kind": None, "region": None}])
        frames = 2 if change["region"] else 0
        assert near(frames_of(edit["a"]), true["a"], frames=frames), (edit, true)
        assert near(frames_of(edit["b"]), true["b"], frames=frames), (edit, true)
        if change["kind"]:
            assert edit["changes"][0]["kind"] == f"CHANGE_KIND_{change['kind']}", edit


async def test_diff_says_what_was_done_as_a_person_would(sage: Sage) -> None:
    run = await sage("diff", str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4"))
    assert run.code == 1, run.err
    summary = " ".join(run.out.split())
    for words in (
        ": 8 edits; the sound has no others. 2 inserted (4 s), 1 moved (1.5 s), ",
        "shots replaced, ",
        "a logo added bottom right at 00:00:12:",
        "a subtitle added at 00:00:17:",
    ):
        assert words in summary


async def test_films_without_inserted_time_are_compared_clip_by_clip(sage: Sage, films: tuple[Path, Path]) -> None:
    """Each difference is widened to clips."""
    run = await sage("diff", "--time", "--json", *map(str, films))
    assert run.code == 1, run.err
    found = [
        {"kind": KINDS[difference["kind"]], "a": _seconds(difference["a"]), "b": _seconds(difference["b"])}
        for difference in json.loads(run.out)["tracks"][0]["time"]["differences"]
    ]
    *changed, (longer, _) = TIME_EDITS
    assert found == [
        *({"kind": "changed", "a": widened(span), "b": widened(span)} for span, _ in changed),
        {"kind": "only_in_b", "a": None, "b": [frame / 24 for frame in longer]},
    ]


async def test_existing_embeddings_are_aligned_by_their_ids(sage: Sage) -> None:
    ids = [(await sage("embed", str(SAMPLES / name))).word() for name in ("old.mp4", "new.mp4")]
    compared = await sage("compare", *ids)
    assert compared.code == 1, compared.err
    assert "8 edits" in compared.out
    assert (await sage("diff", *ids)).out == compared.out


@pytest.mark.parametrize("options", [(), ("--time",), ("--time", "--metric", "euclidean")])
async def test_a_re_encode_does_not_differ(sage: Sage, tmp_path: Path, options: tuple[str, ...]) -> None:
    other = re_encode(SAMPLES / "old.mp4", tmp_path / "other.mp4", crf=33, width=320, height=180, keep_sound=True)
    run = await sage("diff", "--json", *options, str(SAMPLES / "old.mp4"), str(other))
    assert run.code == 0, run.out + run.err
    track, *others = json.loads(run.out)["tracks"]
    assert [one["name"] for one in others] == ([] if options else ["audio"])
    assert {one["similarityPercent"] for one in (track, *others)} == {100}
    if options:
        assert track["time"]["differences"] == []
        assert track["time"]["comparedCount"] == 10
    else:
        assert [edit["kind"] for edit in track["script"]["edits"]] == ["EDIT_KIND_MATCHED"]


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


async def test_lost_sound_other_channels_and_a_dub_are_differences(sage: Sage, tmp_path: Path) -> None:
    old = SAMPLES / "old.mp4"
    silent = re_encode(old, tmp_path / "silent.mp4", crf=20)
    mono = with_sound(old, tmp_path / "mono.mp4")
    for film, kind in ((silent, "AUDIO_TRACK_COUNT"), (mono, "AUDIO_LAYOUT")):
        run = await sage("diff", "--json", str(old), str(film))
        assert run.code == 1, run.out + run.err
        document = json.loads(run.out)
        assert [edit["kind"] for edit in document["tracks"][0]["script"]["edits"]] == ["EDIT_KIND_MATCHED"]
        assert [one["kind"] for one in document["mediaDifferences"]] == [f"MEDIA_DIFFERENCE_KIND_{kind}"]
    dub = with_sound(old, tmp_path / "dub.mp4", keep_seconds=10)
    run = await sage("diff", "--time", str(mono), str(dub))
    assert run.code == 0, run.out + run.err
    assert run.out.startswith(
        "The picture is 100% the same.\nSound was not compared: model local has no audio track.\n"
    )
    run = await sage("diff", str(mono), str(dub), "--track", "visual")
    assert run.code == 0, run.out + run.err
    assert run.out.startswith("No differences: the picture is the same.\nSound was not compared: ")
    run = await sage("diff", str(mono), str(dub))
    assert run.code == 1, run.out + run.err
    assert run.out.startswith("The picture is the same; the sound is ")
    assert "The sound is dubbed from 00:00:00:00 to 00:00:09:" in " ".join(run.out.split())


async def test_black_bars_are_ignored_or_said_to_be_why_all_of_the_picture_differs(sage: Sage, tmp_path: Path) -> None:
    old = SAMPLES / "old.mp4"
    letterboxed = re_encode(old, tmp_path / "letterboxed.mp4", crf=20, keep_sound=True, bar=44)
    run = await sage("diff", str(old), str(letterboxed))
    assert run.code == 0, run.out + run.err
    assert "Letterbox in new: ignored.\n" in run.out
    run = await sage("diff", "--time", str(old), str(letterboxed))
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


async def test_above_every_distance_only_the_longer_end_remains(sage: Sage, films: tuple[Path, Path]) -> None:
    run = await sage("diff", "--time", "--json", "--threshold", "2", *map(str, films))
    differences = json.loads(run.out)["tracks"][0]["time"]["differences"]
    assert [KINDS[difference["kind"]] for difference in differences] == ["only_in_b"]
