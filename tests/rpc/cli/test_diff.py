"""`sage diff` and `sage compare`: what they send and print, and how they exit."""

import asyncio
import json
import os
import signal
import sys

import pytest
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import embed_pb2
from sage_runtime.errors import FieldViolation


async def test_films_that_differ_exit_with_one(sage, fake, films):
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert "2 differences, 71.1% the same." in outcome.out
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400" in outcome.out
    assert "2  only in new   -                        00:00:20:00-00:00:22:12" in outcome.out
    assert outcome.err == ""
    assert (fake.uploads, fake.creations) == (2, 2)


async def test_films_that_do_not_differ_exit_with_zero(sage, fake, films, tmp_path):
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("No differences, 100% the same.")


async def test_same_file_twice_is_uploaded_and_embedded_once(sage, fake, films):
    outcome = await sage("diff", films[0], films[0])
    assert outcome.code == 0, outcome.err
    assert (fake.uploads, fake.creations) == (1, 1)


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
    assert (fake.uploads, fake.creations) == (2, 2)


async def test_deleted_video_is_uploaded_again(sage, fake, films):
    await sage("diff", *films)
    fake.videos.clear()
    assert (await sage("diff", *films)).code == 1
    assert fake.uploads == 4


async def test_failed_embedding_is_made_again(sage, fake, films):
    """A failure exits with 2 and names the film and the reason; the next run makes a new embedding."""
    fake.fail_embeddings = True
    failed = await sage("diff", *films)
    assert failed.code == 2
    assert failed.out == ""
    # Either film may be the first to fail, and the other is not waited for.
    assert ".mp4 could not be embedded: local failed: the stream cannot be decoded after 12.4 s." in failed.err
    fake.fail_embeddings = False
    assert (await sage("diff", *films)).code == 1


async def test_other_clip_length_is_another_embedding(sage, fake, films):
    await sage("diff", *films)
    await sage("diff", "--clip-seconds", "4", *films)
    assert (fake.uploads, fake.creations) == (2, 4)


async def test_broken_watch_resumes_after_the_last_revision(sage, fake, films):
    fake.break_watches = 2
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert fake.watches == 4
    assert sorted(fake.watched_after) == [0, 0, 2, 2]


async def test_internal_error_of_the_server_is_not_retried(sage, fake, films):
    """It is printed with the request ID, by which the server's log can be searched."""
    fake.fail_watches = True
    outcome = await sage("embed", films[0])
    assert outcome.code == 2
    assert "request-7" in outcome.err
    assert fake.watches == 1


async def test_json_is_one_document(sage, fake, films):
    """Its `differ` agrees with the exit code."""
    outcome = await sage("diff", "--json", *films)
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
    await sage("diff", "--threshold", "0", "--metric", "euclidean", *films)
    await sage("diff", *films)
    first, second = fake.requests
    assert [str(track) for track in first.tracks] == ['name: "visual"\nthreshold: 0\n']
    assert first.metric == compare_pb2.METRIC_EUCLIDEAN
    assert [str(track) for track in second.tracks] == ['name: "visual"\n']
    assert second.metric == compare_pb2.METRIC_UNSPECIFIED
    assert first.mode == second.mode == compare_pb2.COMPARE_MODE_TIME


async def test_quiet_prints_nothing(sage, films):
    """The exit code remains, as with `cmp -s`."""
    outcome = await sage("diff", "--quiet", *films)
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


async def test_films_at_29_97_have_drop_frame_timecode(sage, fake, films):
    fake.frame_rate = (30_000, 1001)
    assert "00:00:04;00-00:00:08;00" in (await sage("diff", *films)).out


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


async def test_compare_of_a_video_without_embedding_names_the_command_that_embeds(sage, fake):
    video = fake.add_video()
    outcome = await sage("compare", video.id, video.id)
    assert outcome.code == 2
    assert f"`sage embed {video.id}`" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.mp4", "new.mp4"), "There is no file missing.mp4."),
        ((".", "new.mp4"), "is a directory"),
        (("old.mp4", "empty.mp4"), "empty.mp4 is empty."),
        (("old.mp4", "cover.png"), "cover.png looks like image/png, not a video."),
        (("old.mp4", "new.mp4", "--threshold", "nan"), "nan is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--threshold", "-1"), "-1 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--threshold", "2.1"), "2.1 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--clip-seconds", "0"), "0 is not more than 0"),
        (("old.mp4", "new.mp4", "--clip-seconds", "60"), "does not support clips of 60 s"),
        (("old.mp4", "new.mp4", "--model", "none"), "There is no model 'none'."),
        (("old.mp4", "new.mp4", "--model", "marengo3.0"), "cannot be used: no API key is set."),
        (("old.mp4", "new.mp4", "--track", "audio"), "Model local does not make the track audio."),
        (("old.mp4", "new.mp4", "--track", "visual", "--track", "audio"), "does not make the track audio."),
        (("old.mp4", "new.mp4", "--track", "visual", "--track", "visual:0.2"), "--track visual is specified twice"),
        (("old.mp4", "new.mp4", "--track", "video"), "has no clips to compare"),
        (("old.mp4", "new.mp4", "--track", ":0.2"), "':0.2' does not name a track"),
        (("old.mp4", "new.mp4", "--track", "audio:3"), "3 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--track", "audio:"), "'' is not a number"),
        (("old.mp4", "new.mp4", "--address", "nowhere"), "'nowhere' is not an address."),
        (("old.mp4",), "Missing argument 'NEW'"),
        ((f"video_{'0' * 32}", "new.mp4"), f"There is no video video_{'0' * 32}."),
        ((f"embed_{'0' * 32}", "new.mp4"), f"There is no embedding embed_{'0' * 32}."),
    ],
)
async def test_error_is_a_sentence_with_a_next_step_and_exits_with_two(sage, films, tmp_path, arguments, words):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cover.png").write_bytes(b"\x89PNG")
    outcome = await sage("diff", *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) >= 2


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


async def test_embedding_that_contradicts_the_options_is_refused_before_anything_is_paid_for(sage, fake, films):
    fake.marengo = True
    given = fake.add_embedding(fake.add_video().id, model="marengo3.0")
    outcome = await sage("diff", given.id, films[1], "--model", "marengo3.5")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{given.id} was made with --model marengo3.0, not marengo3.5." in outcome.err
    outcome = await sage("diff", films[0], given.id, "--track", "visual", "--track", "audio")
    assert f"{given.id} was made without the track audio." in outcome.err
    assert (fake.uploads, fake.creations) == (0, 0)


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
    outcome = await sage("compare", a.id, b.id, *options)
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("Picture the same, sound differs.\n")
    assert "00:00:04:00-00:00:08:00  picture the same, sound differs\n" in outcome.out
    (request,) = fake.requests
    picture, sound = request.tracks
    assert (picture.name, picture.HasField("threshold")) == ("visual", False)
    assert (sound.name, sound.threshold) == ("audio", 0.2)
    document = json.loads((await sage("compare", a.id, b.id, *options, "--json")).out)
    picture, sound = document["tracks"]
    assert (document["differ"], picture["time"]["differences"]) == (True, [])
    assert sound["time"]["differences"][0]["a"]["startTimecode"] == "00:00:04:00"


async def test_threshold_applies_to_tracks_without_their_own(sage, fake):
    a = fake.add_embedding(fake.add_video().id, model="marengo3.0", tracks=("visual", "audio"))
    await sage("compare", a.id, a.id, "--track", "audio:0.2", "--track", "visual", "--threshold", "0.5")
    assert [(track.name, track.threshold) for track in fake.requests[0].tracks] == [("audio", 0.2), ("visual", 0.5)]


async def test_result_of_a_newer_server_is_an_error_not_a_film_without_differences(sage, fake):
    a = fake.add_embedding(fake.add_video().id)
    fake.unknown_results = True
    outcome = await sage("compare", a.id, a.id)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Update sage." in outcome.err


async def test_token_that_may_only_read_compares_what_exists(sage, fake, films):
    """It may not create embeddings, but it needs none if both exist."""
    made = await sage("diff", *films)
    fake.read_only = True
    assert await sage("diff", *films) == made
    refused = await sage("diff", *films, "--clip-seconds", "4")
    assert refused.code == 2
    assert "scope write" in refused.err
    assert (await sage("diff", *films, "--force")).code == 2


async def test_force_makes_new_embeddings(sage, fake, films):
    await sage("diff", *films)
    outcome = await sage("diff", *films, "--force")
    assert outcome.code == 1, outcome.err
    assert (fake.uploads, fake.creations) == (2, 4)


async def test_embeddings_of_other_tracks_are_not_used_again(sage, fake, films):
    fake.marengo = True
    await sage("diff", *films)
    both = ("--track", "visual", "--track", "audio")
    outcome = await sage("diff", *films, *both)
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("Picture and sound differ.\n")
    made = list(fake.embeddings.values())
    assert [list(one.requested_tracks) for one in made] == [["visual"]] * 2 + [["visual", "audio"]] * 2
    await sage("diff", *films, *both)
    await sage("diff", *films)
    assert fake.creations == 4


async def test_embed_makes_the_tracks_that_a_diff_then_uses(sage, fake, films):
    """The order of the tracks does not matter."""
    fake.marengo = True
    for film in films:
        assert (await sage("embed", film, "--track", "visual", "--track", "audio")).code == 0
    await sage("diff", *films, "--track", "audio", "--track", "visual")
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["visual", "audio"]] * 2
    refused = await sage("embed", films[0], "--track", "smell")
    assert (refused.code, refused.out) == (2, "")
    assert "Model marengo3.0 does not make the track smell." in refused.err


async def test_default_model_is_the_best_one_that_makes_the_track(sage, fake, films):
    fake.marengo = True
    outcome = await sage("diff", *films, "--track", "audio")
    assert "model marengo3.0, track audio" in outcome.out
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["audio"]] * 2


async def test_compare_finds_embeddings_that_have_the_tracks(sage, fake):
    """Without one, the error names the command that makes it."""
    fake.marengo = True
    a, b = fake.add_video(), fake.add_video()
    wanted = [fake.add_embedding(video.id, tracks=("visual", "audio")) for video in (a, b)]
    for video in (a, b):
        fake.add_embedding(video.id)
    outcome = await sage("compare", a.id, b.id, "--track", "visual", "--track", "audio")
    assert outcome.code == 1, outcome.err
    assert [fake.requests[0].embedding_id_a, fake.requests[0].embedding_id_b] == [one.id for one in wanted]
    outcome = await sage("compare", a.id, b.id, "--track", "transcription")
    assert outcome.code == 2
    assert f"`sage embed {a.id} --track transcription` makes one." in outcome.err


async def test_tail_that_no_clip_covers_is_reported_and_exits_with_zero(sage, fake, films, tmp_path):
    """It is shorter than a clip, and both films have it."""
    fake.tail_seconds = 1.4
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("No differences; the last 1.4 s were not compared.\n")
    document = json.loads((await sage("diff", films[0], "copy.mp4", "--json")).out)
    assert document["differ"] is False
    assert document["tracks"][0]["tailNotComparedSeconds"] == pytest.approx(1.4)
    fake.tail_seconds = 2.0
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 1
    assert "1 difference" in outcome.out


async def test_bad_input_uploads_nothing(sage, fake, films):
    await sage("diff", "--model", "none", *films)
    await sage("diff", "--threshold", "9", *films)
    await sage("diff", films[0], "missing.mp4")
    assert fake.uploads == 0


async def test_refused_connection_asks_whether_the_server_is_running(sage, films):
    outcome = await sage("diff", *films, "--address", "127.0.0.1:9")
    assert outcome.code == 2
    assert "Cannot connect to SAGE at 127.0.0.1:9." in outcome.err
    assert "`make up`" in outcome.err


async def test_refused_upload_is_reported_with_the_reason(sage, fake, films):
    fake.refuse_uploads = True
    outcome = await sage("diff", *films)
    assert outcome.code == 2
    assert ".mp4" in outcome.err
    assert "it is a picture" in outcome.err
    assert "Traceback" not in outcome.err


async def test_upload_whose_status_got_lost_is_repeated_under_the_same_request_id(sage, fake, films):
    fake.refuse_uploads, fake.lose_statuses = True, 2
    outcome = await sage("upload", films[0])
    assert outcome.code == 2
    assert "it is a picture" in outcome.err
    assert fake.uploads == 3
    assert len(set(fake.request_ids)) == 1


async def test_upload_is_repeated_twice_at_most(sage, fake, films):
    fake.lose_statuses = 9
    outcome = await sage("upload", films[0])
    assert outcome.code == 2
    assert "failed with INTERNAL" in outcome.err
    assert fake.uploads == 3


async def test_each_broken_rule_has_a_line(sage, fake, films):
    fake.violations = (FieldViolation("threshold", "must be small."), FieldViolation("mode", "must be TIME."))
    outcome = await sage("diff", *films)
    assert outcome.code == 2
    assert "  threshold: must be small.\n  mode: must be TIME.\n" in outcome.err


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupt_cancels_what_was_started(environ, fake, films, tmp_path, sent, exit_code):
    """Embeddings of other clients continue."""
    fake.hang_embeddings = True
    other = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PROCESSING)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_cli", "diff", *films),
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await fake.working.wait()
    process.send_signal(sent)
    out, err = await process.communicate()
    assert process.returncode == exit_code
    assert out == b""
    assert err.startswith(b"Interrupted.")
    assert b"cancelled" in err
    assert b"Traceback" not in err
    assert other.state == embed_pb2.EMBEDDING_STATE_PROCESSING
    ours = [one for one in fake.embeddings.values() if one.id != other.id]
    assert {one.state for one in ours} == {embed_pb2.EMBEDDING_STATE_CANCELLED}


async def test_characters_that_the_encoding_lacks_are_escaped(sage, films, tmp_path):
    (tmp_path / "映画.mp4").write_bytes(b"film")
    await sage("upload", "映画.mp4")
    outcome = await sage("videos", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert outcome.code == 0, outcome.err
    assert "\\u6620\\u753b.mp4" in outcome.out
    outcome = await sage("diff", *films, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert "####" in outcome.out


async def test_pipe_has_no_escapes_and_no_progress(sage, films):
    outcome = await sage("diff", *films, TERM="xterm-256color")
    assert "\x1b" not in outcome.out + outcome.err
    assert "%" not in outcome.err


@pytest.mark.parametrize("columns", [60, 80, 132])
async def test_terminal_has_colour_and_progress(sage_in_terminal, films, columns):
    outcome = await sage_in_terminal("diff", *films, columns=columns)
    assert outcome.code == 1, outcome.out
    assert "\x1b[1;33m" in outcome.out
    assert "━" in outcome.out
    report = outcome.out[outcome.out.index("2 differences") :]
    assert "old.mp4" in report


async def test_no_color_is_honoured_in_a_terminal(sage_in_terminal, films):
    """The glyphs alone distinguish the kinds."""
    outcome = await sage_in_terminal("diff", *films, "--quiet", NO_COLOR="1")
    assert outcome.out == ""
    outcome = await sage_in_terminal("diff", *films, NO_COLOR="1")
    report = outcome.out[outcome.out.index("2 differences") :]
    assert "\x1b[" not in report
    assert "█" in report
    assert "+" in report


async def test_empty_no_color_is_ignored(sage_in_terminal, films):
    assert "\x1b[1;33m" in (await sage_in_terminal("diff", *films, NO_COLOR="")).out


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_closed_pipe_ends_the_command_quietly(environ, films, tmp_path, options):
    """`sage diff | head -1` does not exit with the code of a result."""
    ours, theirs = os.pipe()
    os.close(ours)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_cli", "diff", *films, *options),
        cwd=tmp_path,
        env=environ,
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    _, err = await process.communicate()
    assert process.returncode == 141
    assert err == b""
