"""`sage diff` and `sage compare` from end to end: what they send, print and return."""

import asyncio
import json
import os
import signal
import sys

import pytest
from sage.embed.v1 import embed_pb2
from sage_runtime.errors import FieldViolation


async def test_films_that_differ_exit_with_one(sage, fake, films):
    """Two files are uploaded, embedded, watched and compared, and the differences are printed."""
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert "2 differences, 71.1% the same." in outcome.out
    assert "1  changed       00:00:04:00-00:00:08:00  00:00:04:00-00:00:08:00  0.400" in outcome.out
    assert "2  only in new   -                        00:00:20:00-00:00:22:12" in outcome.out
    assert outcome.err == ""
    assert (fake.uploads, fake.creations) == (2, 2)


async def test_films_that_do_not_differ_exit_with_zero(sage, fake, films, tmp_path):
    """A copy under another name is the same film."""
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("No differences, 100% the same.")


async def test_same_file_twice_is_sent_once(sage, fake, films):
    """A film beside itself is uploaded and embedded once."""
    outcome = await sage("diff", films[0], films[0])
    assert outcome.code == 0, outcome.err
    assert (fake.uploads, fake.creations) == (1, 1)


async def test_same_id_twice_is_embedded_once(sage, fake):
    """A video beside itself is embedded once, though both sides begin at the same moment."""
    video = fake.add_video()
    outcome = await sage("diff", video.id, video.id)
    assert outcome.code == 0, outcome.err
    assert fake.creations == 1


async def test_second_run_sends_and_embeds_nothing(sage, fake, films):
    """What SAGE has is found again, however many other videos have such a name."""
    first = await sage("diff", *films)
    for _ in range(5):
        fake.add_video(filename="old.mp4")
    second = await sage("diff", *films)
    assert second == first
    assert (fake.uploads, fake.creations) == (2, 2)


async def test_deleted_video_is_uploaded_again(sage, fake, films):
    """What has been deleted since is not taken for being there."""
    await sage("diff", *films)
    fake.videos.clear()
    assert (await sage("diff", *films)).code == 1
    assert fake.uploads == 4


async def test_failed_embedding_is_made_again(sage, fake, films):
    """A failure exits with 2 and says which film and why; the next run tries again."""
    fake.fail_embeddings = True
    failed = await sage("diff", *films)
    assert failed.code == 2
    assert failed.out == ""
    # Either film may be the first to fail, and the other is not waited for.
    assert ".mp4 could not be embedded: local failed: the stream cannot be decoded after 12.4 s." in failed.err
    fake.fail_embeddings = False
    assert (await sage("diff", *films)).code == 1


async def test_other_clip_length_is_another_embedding(sage, fake, films):
    """Only an embedding made in the same way is used again."""
    await sage("diff", *films)
    await sage("diff", "--clip-seconds", "4", *films)
    assert (fake.uploads, fake.creations) == (2, 4)


async def test_broken_watch_goes_on_where_it_broke(sage, fake, films):
    """A watch that is cut off is opened again after the last revision that was seen."""
    fake.break_watches = 2
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert fake.watches == 4
    assert sorted(fake.watched_after) == [0, 0, 2, 2]


async def test_servers_own_failure_is_not_tried_again(sage, fake, films):
    """An error that the server answers with is told at once, with the request id that its log has."""
    fake.fail_watches = True
    outcome = await sage("embed", films[0])
    assert outcome.code == 2
    assert "request id request-7" in outcome.err
    assert fake.watches == 1


async def test_json_is_one_document(sage, fake, films):
    """With --json stdout is a document and nothing else, and the exit code says the same."""
    outcome = await sage("diff", "--json", *films)
    document = json.loads(outcome.out)
    assert outcome.code == 1
    assert document["differ"] is True
    assert [difference["kind"] for difference in document["differences"]] == [
        "DIFFERENCE_KIND_CHANGED",
        "DIFFERENCE_KIND_ONLY_IN_B",
    ]
    assert document["differences"][0]["a"]["startTimecode"] == "00:00:04:00"
    assert document["b"]["label"] == "new.mp4"
    assert len(document["series"]["distances"]) == 10


async def test_options_reach_the_comparison(sage, fake, films):
    """Threshold and metric are those of the command line; left out, they are the server's."""
    await sage("diff", "--threshold", "0", "--metric", "euclidean", *films)
    await sage("diff", *films)
    first, second = fake.requests
    assert first.HasField("threshold")
    assert (first.threshold, first.metric) == (0.0, 2)
    assert not second.HasField("threshold")
    assert second.metric == 0


async def test_quiet_leaves_the_exit_code(sage, films):
    """With --quiet nothing is printed, as `cmp -s` has it."""
    outcome = await sage("diff", "--quiet", *films)
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


async def test_drop_frame_has_a_semicolon(sage, fake, films):
    """Films of 29.97 frames a second have drop-frame timecode."""
    fake.frame_rate = (30_000, 1001)
    assert "00:00:04;00-00:00:08;00" in (await sage("diff", *films)).out


async def test_ids_stand_for_films(sage, fake, films):
    """A video id and an embedding id do as well as files, and nothing is uploaded for them."""
    video = fake.add_video(filename="stored.mp4")
    embedding = fake.add_embedding(fake.add_video(filename="embedded.mp4").id, clip_seconds=4)
    outcome = await sage("diff", video.id, embedding.id)
    assert outcome.code == 1, outcome.err
    assert "stored.mp4" in outcome.out
    assert "embedded.mp4" in outcome.out
    assert fake.uploads == 0
    made = [one for one in fake.embeddings.values() if one.video_id == video.id]
    assert [one.clip_seconds for one in made] == [4], "it is embedded like the embedding that it is compared with"


async def test_embedding_of_a_deleted_video_has_clock_time(sage, fake):
    """Without its video an embedding can still be compared; times are seconds then."""
    first, second = (fake.add_embedding(fake.add_video().id) for _ in range(2))
    fake.videos.clear()
    outcome = await sage("compare", first.id, second.id)
    assert outcome.code == 1, outcome.err
    assert "00:00:04.000-00:00:08.000" in outcome.out


async def test_compare_finds_the_embedding_of_a_video(sage, fake):
    """A video id stands for its newest completed embedding that was made like the other one."""
    a, b = fake.add_video(), fake.add_video()
    first = fake.add_embedding(a.id)
    wanted = fake.add_embedding(b.id)
    fake.add_embedding(b.id, clip_seconds=4)
    fake.add_embedding(b.id, state=embed_pb2.EMBEDDING_STATE_FAILED)
    outcome = await sage("compare", first.id, b.id)
    assert outcome.code == 1, outcome.err
    assert fake.requests[0].embedding_id_b == wanted.id


async def test_compare_of_a_video_without_embedding_says_what_to_do(sage, fake):
    """A video that is not embedded is trouble, with the command that embeds it."""
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
        (("old.mp4", "cover.png"), "cover.png looks like image/png, not like a video."),
        (("old.mp4", "new.mp4", "--threshold", "nan"), "nan is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--threshold", "-1"), "-1 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--threshold", "2.1"), "2.1 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--clip-seconds", "0"), "0 is not more than 0"),
        (("old.mp4", "new.mp4", "--clip-seconds", "60"), "does not take clips of 60 s"),
        (("old.mp4", "new.mp4", "--model", "none"), "There is no model 'none'."),
        (("old.mp4", "new.mp4", "--model", "marengo3.0"), "cannot be used: no API key is set."),
        (("old.mp4", "new.mp4", "--track", "audio"), "Model local does not make the track audio."),
        (("old.mp4", "new.mp4", "--second-track", "audio"), "Model local does not make the track audio."),
        (("old.mp4", "new.mp4", "--second-track", "visual"), "visual is compared already"),
        (("old.mp4", "new.mp4", "--track", "video"), "has no clips to compare"),
        (("old.mp4", "new.mp4", "--second-threshold", "0.2"), "--second-threshold needs a --second-track"),
        (("old.mp4", "new.mp4", "--second-track", "audio", "--second-threshold", "3"), "3 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--address", "nowhere"), "'nowhere' is not an address."),
        (("old.mp4",), "Missing argument 'NEW'"),
        ((f"video_{'0' * 32}", "new.mp4"), f"There is no video video_{'0' * 32}."),
        ((f"embed_{'0' * 32}", "new.mp4"), f"There is no embedding embed_{'0' * 32}."),
    ],
)
async def test_trouble_is_a_sentence_and_exits_with_two(sage, films, tmp_path, arguments, words):
    """Whatever is wrong is said in words on stderr, with a next step, and nothing is on stdout."""
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
async def test_model_is_the_one_that_was_asked_for(sage, fake, films, model):
    """The embeddings are made with the model of --model, those of others are not used again, and the report says so."""
    await sage("diff", *films)
    fake.marengo = True
    outcome = await sage("diff", "--model", model, *films)
    assert outcome.code == 1, outcome.err
    assert f"model {model}" in outcome.out
    assert [one.model for one in fake.embeddings.values()] == ["local", "local", model, model]
    await sage("diff", "--model", model, *films)
    assert (fake.uploads, fake.creations) == (2, 4)


async def test_best_model_is_taken_where_none_is_named(sage, fake, films):
    """With a key Marengo is the best, and embeddings of the local model do not stand in for it."""
    await sage("diff", *films)
    fake.marengo = True
    assert "model marengo3.0" in (await sage("diff", *films)).out
    assert fake.creations == 4


async def test_embedding_of_another_model_is_refused_before_anything_is_paid_for(sage, fake, films):
    """An embedding that was named and was made otherwise than asked for is trouble, and nothing is embedded for it."""
    fake.marengo = True
    given = fake.add_embedding(fake.add_video().id, model="marengo3.0")
    outcome = await sage("diff", given.id, films[1], "--model", "marengo3.5")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{given.id} was made with --model marengo3.0, not marengo3.5." in outcome.err
    outcome = await sage("diff", films[0], given.id, "--second-track", "audio")
    assert f"{given.id} was not asked for the track audio." in outcome.err
    assert (fake.uploads, fake.creations) == (0, 0)


async def test_models_are_named_in_the_help(sage):
    """--help lists the models that there are."""
    words = (await sage("diff", "--help")).out
    assert all(model in words for model in (*MARENGO, "local"))


async def test_second_track_is_compared_and_shown(sage, fake):
    """The sound that was changed under the same picture is what is found, in the report and in the document."""
    fake.dubbed = True
    a, b = (fake.add_embedding(fake.add_video().id, model="marengo3.0", tracks=("visual", "audio")) for _ in range(2))
    for video in fake.videos.values():
        video.sha256 = "same"
    outcome = await sage("compare", a.id, b.id, "--second-track", "audio", "--second-threshold", "0.2")
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("Picture the same, sound differs.\n")
    assert "00:00:04:00-00:00:08:00  picture the same, sound differs\n" in outcome.out
    (request,) = fake.requests
    assert (request.track, request.second_track, request.second_threshold) == ("visual", "audio", 0.2)
    assert not request.HasField("threshold")
    document = json.loads((await sage("compare", a.id, b.id, "--second-track", "audio", "--json")).out)
    assert (document["differ"], document["differences"]) == (True, [])
    assert document["second"]["differences"][0]["a"]["startTimecode"] == "00:00:04:00"


async def test_embeddings_without_the_second_track_are_not_used_again(sage, fake, films):
    """What was embedded for the picture alone is embedded again for both, once; that then serves for each alone."""
    fake.marengo = True
    await sage("diff", *films)
    outcome = await sage("diff", *films, "--second-track", "audio")
    assert outcome.code == 1, outcome.err
    assert outcome.out.startswith("Picture and sound differ.\n")
    made = list(fake.embeddings.values())
    assert [list(one.requested_tracks) for one in made] == [["visual"]] * 2 + [["visual", "audio"]] * 2
    await sage("diff", *films, "--second-track", "audio")
    await sage("diff", *films, "--track", "audio")
    await sage("diff", *films)
    assert fake.creations == 4


async def test_embed_makes_the_tracks_that_are_named(sage, fake, films):
    """`sage embed` with --track makes those tracks, which a diff then finds; one that no model makes is trouble."""
    fake.marengo = True
    for film in films:
        assert (await sage("embed", film, "--track", "visual", "--track", "audio")).code == 0
    await sage("diff", *films, "--second-track", "audio")
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["visual", "audio"]] * 2
    refused = await sage("embed", films[0], "--track", "smell")
    assert (refused.code, refused.out) == (2, "")
    assert "Model marengo3.0 does not make the track smell." in refused.err


async def test_track_decides_on_the_model_where_none_is_named(sage, fake, films):
    """A track that the best model does not make is made by the best one that does."""
    fake.marengo = True
    outcome = await sage("diff", *films, "--track", "audio")
    assert "model marengo3.0, track audio" in outcome.out
    assert [list(one.requested_tracks) for one in fake.embeddings.values()] == [["audio"]] * 2


async def test_compare_takes_embeddings_that_have_the_tracks(sage, fake):
    """A video stands for its newest embedding with both tracks, and without one the command that makes it is named."""
    fake.marengo = True
    a, b = fake.add_video(), fake.add_video()
    wanted = [fake.add_embedding(video.id, tracks=("visual", "audio")) for video in (a, b)]
    for video in (a, b):
        fake.add_embedding(video.id)
    outcome = await sage("compare", a.id, b.id, "--second-track", "audio")
    assert outcome.code == 1, outcome.err
    assert [fake.requests[0].embedding_id_a, fake.requests[0].embedding_id_b] == [one.id for one in wanted]
    outcome = await sage("compare", a.id, b.id, "--track", "transcription")
    assert outcome.code == 2
    assert f"`sage embed {a.id} --track transcription` makes one." in outcome.err


async def test_tail_that_was_not_compared_is_said_and_does_not_count(sage, fake, films, tmp_path):
    """Less than a clip at the end of both that no clip covers exits with 0, and the report and the document say so."""
    fake.tail_seconds = 1.4
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("No differences; the last 1.4 s were not compared.\n")
    document = json.loads((await sage("diff", films[0], "copy.mp4", "--json")).out)
    assert document["differ"] is False
    assert document["tailNotComparedSeconds"] == pytest.approx(1.4)
    fake.tail_seconds = 2.0
    outcome = await sage("diff", films[0], "copy.mp4")
    assert outcome.code == 1
    assert "1 difference" in outcome.out


async def test_bad_input_uploads_nothing(sage, fake, films):
    """What can be known to be wrong beforehand is said before a byte is sent."""
    await sage("diff", "--model", "none", *films)
    await sage("diff", "--threshold", "9", *films)
    await sage("diff", films[0], "missing.mp4")
    assert fake.uploads == 0


async def test_server_that_is_not_there(sage, films):
    """A refused connection asks the question that matters."""
    outcome = await sage("diff", *films, "--address", "127.0.0.1:9")
    assert outcome.code == 2
    assert "SAGE does not answer at 127.0.0.1:9." in outcome.err
    assert "`make up`" in outcome.err


async def test_refused_upload_is_told_in_the_servers_words(sage, fake, films):
    """A file that is no video after all is named with the reason, once for each film."""
    fake.refuse_uploads = True
    outcome = await sage("diff", *films)
    assert outcome.code == 2
    assert ".mp4 is not a video that can be read: it is a picture." in outcome.err
    assert "Traceback" not in outcome.err


async def test_refusal_whose_status_got_lost_is_asked_for_again(sage, fake, films):
    """A call that lost what the server said is made again under the same request id, and that is what counts."""
    fake.refuse_uploads, fake.lose_statuses = True, 2
    outcome = await sage("upload", films[0])
    assert outcome.code == 2
    assert "old.mp4 is not a video that can be read: it is a picture." in outcome.err
    assert fake.uploads == 3
    assert len(set(fake.request_ids)) == 1


async def test_status_that_gets_lost_each_time_is_told(sage, fake, films):
    """The same call is not made again without end."""
    fake.lose_statuses = 9
    outcome = await sage("upload", films[0])
    assert outcome.code == 2
    assert "answered INTERNAL" in outcome.err
    assert fake.uploads == 3


async def test_each_broken_rule_is_listed(sage, fake, films):
    """Where several fields are wrong, each has a line."""
    fake.violations = (FieldViolation("threshold", "must be small."), FieldViolation("mode", "must be TIME."))
    outcome = await sage("diff", *films)
    assert outcome.code == 2
    assert "  threshold: must be small.\n  mode: must be TIME.\n" in outcome.err


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupt_cancels_what_was_begun(environ, fake, films, tmp_path, sent, exit_code):
    """Ctrl-C cancels the embeddings that this run created, and nobody else's."""
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


async def test_name_that_the_encoding_lacks_is_escaped(sage, films, tmp_path):
    """Output in an old encoding shows what it can and escapes the rest."""
    (tmp_path / "映画.mp4").write_bytes(b"film")
    await sage("upload", "映画.mp4")
    outcome = await sage("videos", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert outcome.code == 0, outcome.err
    assert "\\u6620\\u753b.mp4" in outcome.out
    outcome = await sage("diff", *films, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert "####" in outcome.out


async def test_pipe_has_no_escapes_and_no_progress(sage, films):
    """In a pipe there is text only."""
    outcome = await sage("diff", *films, TERM="xterm-256color")
    assert "\x1b" not in outcome.out + outcome.err
    assert "%" not in outcome.err


@pytest.mark.parametrize("columns", [60, 80, 132])
async def test_terminal_has_colour_and_progress(sage_in_terminal, films, columns):
    """In a terminal there are bars, then a coloured report that fits."""
    outcome = await sage_in_terminal("diff", *films, columns=columns)
    assert outcome.code == 1, outcome.out
    assert "\x1b[1;33m" in outcome.out
    assert "━" in outcome.out
    report = outcome.out[outcome.out.index("2 differences") :]
    assert "old.mp4" in report


async def test_no_color_is_honoured_in_a_terminal(sage_in_terminal, films):
    """With NO_COLOR the report is plain; without colour the glyphs still tell the kinds."""
    outcome = await sage_in_terminal("diff", *films, "--quiet", NO_COLOR="1")
    assert outcome.out == ""
    outcome = await sage_in_terminal("diff", *films, NO_COLOR="1")
    report = outcome.out[outcome.out.index("2 differences") :]
    assert "\x1b[" not in report
    assert "█" in report
    assert "+" in report


async def test_empty_no_color_does_not_count(sage_in_terminal, films):
    """NO_COLOR counts where it is not empty."""
    assert "\x1b[1;33m" in (await sage_in_terminal("diff", *films, NO_COLOR="")).out


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_reader_that_goes_away_is_no_trouble(environ, films, tmp_path, options):
    """`sage diff | head -1` ends quietly, and not with the code of a result."""
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
