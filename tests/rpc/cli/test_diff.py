"""`sage diff` and `sage compare`: what they send and print, and how they exit."""

import json

import pytest
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import media_pb2


async def test_films_that_differ_exit_with_one(sage, fake, films):
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith(
        "The picture is 75.2% the same: 2 edits; the sound has no others.\n1 inserted (2.5 s), 1 shot replaced.\n"
    )
    assert "1  ~ replaced   00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00     4 s" in outcome.out
    assert "2  + inserted   -                        00:00:20:00-00:00:22:12   2.5 s" in outcome.out
    assert outcome.err == ""
    assert (fake.uploads, fake.creations, fake.fingerprint_creations) == (2, 2, 2)


async def test_films_that_differ_at_equal_times_exit_with_one(sage, fake, films):
    """Without fingerprints."""
    outcome = await sage("diff", *films, "--time")
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("The picture is 71.1% the same: 2 differences.\n")
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400" in outcome.out
    assert "2  only in new   -                        00:00:20:00-00:00:22:12" in outcome.out
    assert outcome.err == ""
    assert (fake.uploads, fake.creations, fake.fingerprint_creations) == (2, 2, 0)


async def test_films_that_do_not_differ_exit_with_zero(sage, fake, films, tmp_path):
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("No differences: picture and sound are the same.\n")
    outcome = await sage("diff", films[0], "copy.mp4", "--time")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("The picture is 100% the same.\n")


async def test_same_file_twice_is_uploaded_and_embedded_once(sage, fake, films):
    outcome = await sage("diff", films[0], films[0])
    assert outcome.code == 0, outcome.err
    assert (fake.uploads, fake.creations, fake.fingerprint_creations) == (1, 1, 1)


async def test_same_id_twice_is_embedded_once(sage, fake):
    """Also with --force, and even though both sides start at the same time."""
    video = fake.add_video()
    outcome = await sage("diff", video.id, video.id)
    assert outcome.code == 0, outcome.err
    assert fake.creations == 1
    await sage("diff", video.id, video.id, "--force")
    assert fake.creations == 2


async def test_second_run_uploads_and_embeds_nothing(sage, fake, films):
    """It finds its files by their content, however many other videos have the same name."""
    first = await sage("diff", *films)
    for _ in range(5):
        fake.add_video(filename="old.mp4")
    second = await sage("diff", *films)
    assert second == first
    assert (fake.uploads, fake.creations, fake.fingerprint_creations) == (2, 2, 2)


async def test_deleted_video_is_uploaded_again(sage, fake, films):
    await sage("diff", *films)
    fake.videos.clear()
    assert (await sage("diff", *films)).code == 1
    assert fake.uploads == 4


async def test_other_clip_length_is_another_embedding(sage, fake, films):
    await sage("diff", *films)
    await sage("diff", "--clip-seconds", "4", *films)
    assert (fake.uploads, fake.creations) == (2, 4)


async def test_json_is_one_document(sage, fake, films):
    """Its `differ` agrees with the exit code."""
    outcome = await sage("diff", "--json", "--time", *films)
    document = json.loads(outcome.out)
    assert outcome.code == 1
    assert document["differ"] is True
    (track,) = document["tracks"]
    assert [difference["kind"] for difference in track["time"]["differences"]] == [
        "DIFFERENCE_KIND_CHANGED",
        "DIFFERENCE_KIND_ONLY_IN_B",
    ]
    assert track["time"]["differences"][0]["a"]["startTimecode"] == "00:00:04:00"
    assert document["b"]["label"] == "new.mp4"
    assert len(track["time"]["series"]["distances"]) == 10


async def test_options_reach_the_comparison(sage, fake, films):
    """Options that are omitted are left to the server."""
    await sage("diff", "--time", "--threshold", "0", "--metric", "euclidean", *films)
    await sage("diff", "--time", *films)
    first, second = fake.requests
    assert [str(track) for track in first.tracks] == ['name: "visual"\nthreshold: 0\n']
    assert first.metric == compare_pb2.METRIC_EUCLIDEAN
    assert [str(track) for track in second.tracks] == ['name: "visual"\n']
    assert second.metric == compare_pb2.METRIC_UNSPECIFIED
    assert first.mode == second.mode == compare_pb2.COMPARE_MODE_TIME


async def test_times_start_at_the_timecode_of_each_file_unless_asked_for_zero(sage, fake, films):
    """Numbers are dropped only if the file says so."""
    fake.frame_rate = (30_000, 1001)
    assert "00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00" in (await sage("diff", *films)).out
    for drop_frame, shown in ((False, "10:00:04:00-10:00:08:00"), (True, "10:00:04;00-10:00:08;00")):
        timecode = media_pb2.Timecode(hours=10, drop_frame=drop_frame)
        for embedding in fake.embeddings.values():
            embedding.media.start_timecode.CopyFrom(timecode)
        assert f"{shown}  {shown}" in (await sage("diff", *films)).out
        document = json.loads((await sage("diff", *films, "--json")).out)
        assert document["tracks"][0]["script"]["edits"][1]["a"]["startTimecode"] == shown.partition("-")[0]
        zero = shown.replace("10:", "00:")
        assert f"{zero}  {zero}" in (await sage("diff", *films, "--timecode", "zero")).out


async def test_lost_sound_exits_with_one_although_the_picture_is_the_same(sage, fake):
    """The picture alone is compared; the audio tracks are known from the files."""
    a, b = fake.add_embedding(fake.add_video().id), fake.add_embedding(fake.add_video().id)
    for video in fake.videos.values():
        video.sha256 = "same"
    fake.beyond_tracks.not_compared.add(track="audio", reason=compare_pb2.NOT_COMPARED_REASON_MODEL_LACKS_TRACK)
    outcome = await sage("compare", "--time", a.id, b.id)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(
        "The picture is 100% the same.\nSound was not compared: model local has no audio track.\n"
    )
    fake.beyond_tracks.media_differences.add(
        kind=compare_pb2.MEDIA_DIFFERENCE_KIND_AUDIO_TRACK_COUNT, a="1", b="0", counts_as_difference=True
    )
    outcome = await sage("compare", "--time", a.id, b.id)
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("The picture is 100% the same; the audio tracks of the files differ.\n")
    assert json.loads((await sage("compare", "--time", a.id, b.id, "--json")).out)["differ"] is True


async def test_picture_track_is_chosen_per_film_and_named(sage, fake, films):
    """A stored video of the same content is used only if it shows the same picture track."""
    fake.picture_tracks = 3
    outcome = await sage("diff", *films)
    assert "Picture of old: track 0 of 0 to 2 (h264 640×360); --video-track chooses another.\n" in outcome.out
    outcome = await sage("diff", *films, "--video-track", "new:2")
    assert outcome.code == 1, outcome.err
    assert "Picture of old: track 0 of 0 to 2" in outcome.out
    assert "Picture of new: track 2 of 0 to 2" in outcome.out
    assert (fake.uploads, fake.creations) == (3, 3)
    await sage("diff", *films, "--video-track", "2")
    assert (fake.uploads, fake.creations) == (4, 4)
    await sage("diff", *films, "--video-track", "old:2", "--video-track", "new:0")
    assert (fake.uploads, fake.creations) == (4, 4)
    uploaded = await sage("upload", films[0], "--video-track", "1")
    assert "old.mp4: the film is track 1 of 0 to 2 (h264 640×360)" in uploaded.err


async def test_picture_track_of_what_is_stored_cannot_be_chosen(sage, fake, films):
    video = fake.add_video()
    outcome = await sage("diff", films[0], video.id, "--video-track", "1")
    assert (outcome.code, fake.uploads) == (2, 0)
    assert "its picture track cannot be chosen" in outcome.err
    for wrong in (("--video-track", "100"), ("--video-track", "a:1"), ("--video-track", "1", "--video-track", "old:1")):
        assert (await sage("diff", *films, *wrong)).code == 2
    assert fake.uploads == 0


async def test_ids_stand_for_films(sage, fake, films):
    """Nothing is uploaded for them."""
    video = fake.add_video(filename="stored.mp4")
    embedding = fake.add_embedding(fake.add_video(filename="embedded.mp4").id, clip_seconds=4)
    outcome = await sage("diff", video.id, embedding.id)
    assert outcome.code == 1, outcome.err
    assert "stored.mp4" in outcome.out
    assert "embedded.mp4" in outcome.out
    assert fake.uploads == 0
    made = [one for one in fake.embeddings.values() if one.video_id == video.id]
    assert [one.clip_seconds for one in made] == [4], "it must be embedded like the embedding that it is compared with"


async def test_embedding_of_a_deleted_video_can_be_compared(sage, fake):
    """The embedding knows the frame rate. The film is called by the ID that was given."""
    first, second = (fake.add_embedding(fake.add_video().id) for _ in range(2))
    for video_id in fake.videos:
        fake.add_fingerprint(video_id)
    fake.videos.clear()
    outcome = await sage("compare", first.id, second.id)
    assert outcome.code == 1, outcome.err
    assert "00:00:04:00-00:00:08:00" in outcome.out
    assert first.id in outcome.out


async def test_compare_finds_the_embedding_of_a_video(sage, fake):
    """It prefers one that was made like the other side's."""
    a, b = fake.add_video(), fake.add_video()
    first = fake.add_embedding(a.id)
    wanted = fake.add_embedding(b.id)
    fake.add_embedding(b.id, clip_seconds=4)
    fake.add_embedding(b.id, state=embed_pb2.EMBEDDING_STATE_FAILED)
    outcome = await sage("compare", first.id, b.id)
    assert outcome.code == 1, outcome.err
    assert fake.requests[0].embedding_id_b == wanted.id


MARENGO = ["marengo3.0", "marengo3.5", "Marengo-retrieval-2.7"]


@pytest.mark.parametrize("model", MARENGO)
async def test_model_option_is_obeyed_and_reported(sage, fake, films, model):
    await sage("diff", *films)
    fake.marengo = True
    outcome = await sage("diff", "--model", model, *films)
    assert outcome.code == 1, outcome.err
    assert f"model {model}" in outcome.out
    assert [one.model for one in fake.embeddings.values()] == ["local", "local", model, model]
    await sage("diff", "--model", model, *films)
    assert (fake.uploads, fake.creations) == (2, 4)


async def test_best_usable_model_is_the_default(sage, fake, films):
    """With a key that is Marengo; embeddings of the local model are not used instead."""
    await sage("diff", *films)
    fake.marengo = True
    assert "model marengo3.0" in (await sage("diff", *films)).out
    assert fake.creations == 4


async def test_models_are_named_in_the_help(sage):
    words = (await sage("diff", "--help")).out
    assert all(model in words for model in (*MARENGO, "local"))


async def test_tracks_are_compared_and_reported_one_by_one(sage, fake):
    """The picture is the same, the sound is not."""
    fake.dubbed = True
    a, b = (fake.add_embedding(fake.add_video().id, model="marengo3.0", tracks=("visual", "audio")) for _ in range(2))
    for video in fake.videos.values():
        video.sha256 = "same"
    options = ("--track", "visual", "--track", "audio:0.2")
    outcome = await sage("compare", "--time", a.id, b.id, *options)
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("Picture the same, sound differs.\n")
    assert "00:00:04:00-00:00:08:00  picture the same, sound differs\n" in outcome.out
    (request,) = fake.requests
    picture, sound = request.tracks
    assert (picture.name, picture.HasField("threshold")) == ("visual", False)
    assert (sound.name, sound.threshold) == ("audio", 0.2)
    document = json.loads((await sage("compare", "--time", a.id, b.id, *options, "--json")).out)
    picture, sound = document["tracks"]
    assert (document["differ"], picture["time"]["differences"]) == (True, [])
    assert sound["time"]["differences"][0]["a"]["startTimecode"] == "00:00:04:00"


async def test_threshold_applies_to_tracks_without_their_own(sage, fake):
    a = fake.add_embedding(fake.add_video().id, model="marengo3.0", tracks=("visual", "audio"))
    await sage("compare", "--time", a.id, a.id, "--track", "audio:0.2", "--track", "visual", "--threshold", "0.5")
    assert [(track.name, track.threshold) for track in fake.requests[0].tracks] == [("audio", 0.2), ("visual", 0.5)]


async def test_token_that_may_only_read_compares_what_exists(sage, fake, films):
    """It may not create embeddings or fingerprints, but it needs none if both films have them."""
    made = await sage("diff", *films)
    fake.read_only = True
    assert await sage("diff", *films) == made
    fake.fingerprints.clear()
    refused = await sage("diff", *films)
    assert refused.code == 2
    assert "scope write" in refused.err
    assert (await sage("diff", *films, "--time")).code == 1
    refused = await sage("diff", *films, "--clip-seconds", "4")
    assert refused.code == 2
    assert "scope write" in refused.err
    assert (await sage("diff", *films, "--force")).code == 2


async def test_force_makes_new_embeddings_and_fingerprints(sage, fake, films):
    """Nothing of an embedding that is named by its ID is made again: its video may be deleted."""
    await sage("diff", *films)
    outcome = await sage("diff", *films, "--force")
    assert outcome.code == 1, outcome.err
    assert (fake.uploads, fake.creations, fake.fingerprint_creations) == (2, 4, 4)
    given = list(fake.embeddings)[-2:]
    assert (await sage("diff", *given, "--force")).code == 1
    assert (fake.creations, fake.fingerprint_creations) == (4, 4)


async def test_embeddings_of_other_tracks_are_not_used_again(sage, fake, films):
    fake.marengo = True
    await sage("diff", "--time", *films)
    both = ("--track", "visual", "--track", "audio")
    outcome = await sage("diff", "--time", *films, *both)
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("Picture and sound differ.\n")
    made = list(fake.embeddings.values())
    assert [list(one.requested_tracks) for one in made] == [["visual"]] * 2 + [["visual", "audio"]] * 2
    await sage("diff", "--time", *films, *both)
    await sage("diff", "--time", *films)
    assert fake.creations == 4


async def test_embed_makes_the_tracks_that_a_diff_then_uses(sage, fake, films):
    """The order of the tracks does not matter."""
    fake.marengo = True
    for film in films:
        assert (await sage("embed", film, "--track", "visual", "--track", "audio")).code == 0
    await sage("diff", "--time", *films, "--track", "audio", "--track", "visual")
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["visual", "audio"]] * 2
    refused = await sage("embed", films[0], "--track", "smell")
    assert (refused.code, refused.out) == (2, "")
    assert "Model marengo3.0 does not make the track smell." in refused.err


async def test_default_model_is_the_best_one_that_makes_the_track(sage, fake, films):
    fake.marengo = True
    outcome = await sage("diff", "--time", *films, "--track", "audio")
    assert "model marengo3.0, track audio" in outcome.out
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["audio"]] * 2


async def test_compare_finds_embeddings_that_have_the_tracks(sage, fake):
    """Without one, the error names the command that makes it."""
    fake.marengo = True
    a, b = fake.add_video(), fake.add_video()
    wanted = [fake.add_embedding(video.id, tracks=("visual", "audio")) for video in (a, b)]
    for video in (a, b):
        fake.add_embedding(video.id)
    outcome = await sage("compare", "--time", a.id, b.id, "--track", "visual", "--track", "audio")
    assert outcome.code == 1, outcome.err
    assert [fake.requests[0].embedding_id_a, fake.requests[0].embedding_id_b] == [one.id for one in wanted]
    outcome = await sage("compare", "--time", a.id, b.id, "--track", "transcription")
    assert outcome.code == 2
    assert f"`sage embed {a.id} --track transcription` makes one." in outcome.err


async def test_tail_that_no_clip_covers_is_reported_and_exits_with_zero(sage, fake, films, tmp_path):
    """It is shorter than a clip, and both films have it."""
    fake.tail_seconds = 1.4
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    outcome = await sage("diff", "--time", films[0], "copy.mp4")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("The picture is the same; the last 1.4 s were not compared.\n")
    document = json.loads((await sage("diff", "--time", films[0], "copy.mp4", "--json")).out)
    assert document["differ"] is False
    assert document["tracks"][0]["tailNotComparedSeconds"] == pytest.approx(1.4)
    fake.tail_seconds = 2.0
    outcome = await sage("diff", "--time", films[0], "copy.mp4")
    assert outcome.code == 1
    assert "1 difference" in outcome.out
