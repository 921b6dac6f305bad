"""`sage diff` and `sage compare` in mode ALIGNED: their options, fingerprints, edit scripts and sound."""

import json

import pytest
from sage.compare.v1 import compare_pb2
from support.scripts import PICTURE, SOUND


async def test_options_of_an_aligned_comparison_reach_it(sage, fake, films):
    """Numbers above 1 and those with % are percent; a region without a side is in both films."""
    regions = ("--ignore-region", "new:5%,4%,20%,6%", "--ignore-region", "0.5,0,0.5,0.1")
    await sage("diff", *films, "--sensitivity", "high", *regions, "--ignore-region", "old:90,90,10,10")
    await sage("diff", *films, "--min-strength", "4.5")
    await sage("diff", *films)
    first, second, third = fake.requests
    assert first.mode == third.mode == compare_pb2.COMPARE_MODE_ALIGNED
    assert (first.sensitivity, first.HasField("min_strength")) == (compare_pb2.SENSITIVITY_HIGH, False)
    shares = [
        [share for one in ignored for share in (one.x, one.y, one.width, one.height)]
        for ignored in (first.ignored_regions_a, first.ignored_regions_b)
    ]
    assert shares[0] == pytest.approx([0.5, 0, 0.5, 0.1, 0.9, 0.9, 0.1, 0.1])
    assert shares[1] == pytest.approx([0.05, 0.04, 0.2, 0.06, 0.5, 0, 0.5, 0.1])
    assert (second.sensitivity, second.min_strength) == (compare_pb2.SENSITIVITY_UNSPECIFIED, 4.5)
    assert (third.sensitivity, third.HasField("min_strength")) == (compare_pb2.SENSITIVITY_UNSPECIFIED, False)
    assert not third.ignored_regions_a
    assert not third.ignored_regions_b


async def test_compare_makes_missing_fingerprints_and_no_embeddings(sage, fake):
    a, b = (fake.add_embedding(fake.add_video().id) for _ in range(2))
    assert (await sage("compare", a.id, b.video_id)).code == 1
    assert (await sage("compare", a.id, b.id)).code == 1
    assert (fake.creations, fake.fingerprint_creations) == (0, 2)


async def test_sound_is_aligned_whichever_model_made_the_embedding(sage, fake, films):
    """It comes from the fingerprints; the local model has no sound."""
    fake.script, fake.sound = PICTURE, SOUND
    outcome = await sage("diff", *films, "--track", "visual", "--track", "audio")
    assert outcome.code == 1, outcome.err
    assert "9 edits; the sound has 4 others." in outcome.out
    assert "shifted by +80 ms from" in " ".join(outcome.out.split())
    assert [track.name for track in fake.requests[0].tracks] == ["visual", "audio"]
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["visual"]] * 2


async def test_sound_is_compared_by_default_if_both_films_have_any(sage, fake, films):
    """What --track names is compared instead. If one film is silent, the audio tracks of the files differ."""
    await sage("diff", *films)
    await sage("diff", *films, "--track", "visual")
    await sage("diff", *films, "--time")
    del next(iter(fake.embeddings.values())).media.audio_tracks[:]
    await sage("diff", *films)
    compared = [[track.name for track in request.tracks] for request in fake.requests]
    assert compared == [["visual", "audio"], ["visual"], ["visual"], ["visual"]]


async def test_every_kind_of_edit_is_listed_and_in_the_json(sage, fake, films):
    fake.script = PICTURE
    outcome = await sage("diff", *films)
    words = ("replaced", "inserted", "deleted", "logo", "retimed", "subtitle", "black", "moved")
    assert all(f" {word} " in outcome.out for word in words)
    document = json.loads((await sage("diff", *films, "--json")).out)
    track, sound = document["tracks"]
    assert (track["name"], sound["name"]) == ("visual", "audio")
    assert (document["mode"], document["differ"]) == ("COMPARE_MODE_ALIGNED", True)
    assert [edit["kind"] for edit in track["script"]["edits"]].count("EDIT_KIND_MOVED") == 1
    assert track["script"]["edits"][1]["b"]["startTimecode"] == "00:00:02:00"
