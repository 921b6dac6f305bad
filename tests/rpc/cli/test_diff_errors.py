"""`sage diff` and `sage compare`: bad input, refusals and lost connections."""

import asyncio
from pathlib import Path

import pytest
from sage.embed.v1 import embed_pb2
from sage_runtime.errors import FieldViolation


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


async def test_broken_watch_resumes_after_the_last_revision(sage, fake, films):
    fake.break_watches = 2
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert fake.watches == 4
    assert sorted(fake.watched_after) == [0, 0, 2, 2]


async def test_broken_watch_of_a_fingerprint_resumes_after_the_last_revision(sage, fake):
    a, b = (fake.add_embedding(fake.add_video().id) for _ in range(2))
    fake.break_watches = 2
    outcome = await sage("diff", a.id, b.id)
    assert outcome.code == 1, outcome.err
    assert sorted(fake.fingerprint_watches) == [0, 0, 2, 2]


async def test_failed_fingerprint_is_made_again(sage, fake):
    """A failure exits with 2 and names the film and the reason; the next run makes a new fingerprint."""
    embedding = fake.add_embedding(fake.add_video(filename="film.mp4").id)
    fake.fail_fingerprints = True
    failed = await sage("diff", embedding.id, embedding.id)
    assert (failed.code, failed.out) == (2, "")
    assert f"{embedding.id} could not be fingerprinted: film.mp4 cannot be read: the stream ends" in failed.err
    fake.fail_fingerprints = False
    assert (await sage("diff", embedding.id, embedding.id)).code == 0
    assert fake.fingerprint_creations == 2


async def test_cancelled_fingerprint_is_reported(sage, fake):
    embedding = fake.add_embedding(fake.add_video().id)
    fake.hang_fingerprints = True
    running = asyncio.create_task(sage("diff", embedding.id, embedding.id))
    await fake.working.wait()
    fake.fingerprints[embedding.video_id].state = embed_pb2.EMBEDDING_STATE_CANCELLED
    fake.cancelled[embedding.video_id].set()
    outcome = await running
    assert outcome.code == 2
    assert f"the fingerprint of {embedding.video_id} was cancelled." in outcome.err


async def test_film_that_is_deleted_and_has_no_fingerprint_is_named(sage, fake):
    """It can still be compared clip by clip; if it has a fingerprint, it can also be aligned."""
    embedding = fake.add_embedding(fake.add_video().id)
    video = fake.videos.pop(embedding.video_id)
    outcome = await sage("diff", embedding.id, embedding.id)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"The video of {embedding.id} is deleted, and it has no fingerprint." in outcome.err
    assert "--time compares without fingerprints." in outcome.err
    assert (await sage("diff", embedding.id, embedding.id, "--time")).code == 0
    fake.add_fingerprint(video.id)
    assert (await sage("diff", embedding.id, embedding.id)).code == 0


async def test_internal_error_of_the_server_is_not_retried(sage, fake, films):
    """It is printed with the request ID, by which the server's log can be searched."""
    fake.fail_watches = True
    outcome = await sage("embed", films[0])
    assert outcome.code == 2
    assert "request-7" in outcome.err
    assert fake.watches == 1


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
        (("old.mp4", "cover.png"), "cover.png is a PNG image, not a video."),
        (("old.mp4", "new.mp4", "--time", "--threshold", "nan"), "nan is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--time", "--threshold", "-1"), "-1 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--time", "--threshold", "2.1"), "2.1 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--clip-seconds", "0"), "0 is not more than 0"),
        (("old.mp4", "new.mp4", "--clip-seconds", "60"), "does not support clips of 60 s"),
        (("old.mp4", "new.mp4", "--model", "none"), "There is no model 'none'."),
        (("old.mp4", "new.mp4", "--model", "marengo3.0"), "cannot be used: no API key is set."),
        (("old.mp4", "new.mp4", "--time", "--track", "audio"), "Model local does not make the track audio."),
        (("old.mp4", "new.mp4", "--time", "--track", "visual", "--track", "audio"), "does not make the track audio."),
        (("old.mp4", "new.mp4", "--track", "visual", "--track", "visual:0.2"), "--track visual is specified twice"),
        (("old.mp4", "new.mp4", "--track", "video"), "has no clips to compare"),
        (("old.mp4", "new.mp4", "--time", "--track", ":0.2"), "':0.2' does not name a track"),
        (("old.mp4", "new.mp4", "--time", "--track", "audio:3"), "3 is not from 0 to 2"),
        (("old.mp4", "new.mp4", "--time", "--track", "audio:"), "'' is not a number"),
        (("old.mp4", "new.mp4", "--threshold", "0.2"), "--threshold needs --time."),
        (("old.mp4", "new.mp4", "--metric", "cosine"), "--metric needs --time"),
        (("old.mp4", "new.mp4", "--track", "audio:0.2"), "The threshold in --track audio:... needs --time."),
        (("old.mp4", "new.mp4", "--track", "transcription"), "--track transcription needs --time."),
        (("old.mp4", "new.mp4", "--time", "--sensitivity", "high"), "--sensitivity does not work with --time"),
        (("old.mp4", "new.mp4", "--time", "--min-strength", "2"), "--min-strength does not work with --time"),
        (("old.mp4", "new.mp4", "--time", "--ignore-region", "0,0,1,1"), "--ignore-region does not work with --time"),
        (("old.mp4", "new.mp4", "--min-strength", "2", "--sensitivity", "low"), "specify one of them"),
        (("old.mp4", "new.mp4", "--sensitivity", "some"), "'some' is not one of 'low', 'normal', 'high'"),
        (("old.mp4", "new.mp4", "--min-strength", "-1"), "-1 is not at least 0"),
        (("old.mp4", "new.mp4", "--ignore-region", "1,2,3"), "'1,2,3' is not four numbers"),
        (("old.mp4", "new.mp4", "--ignore-region", "a,0,1,1"), "is not four numbers"),
        (("old.mp4", "new.mp4", "--ignore-region", "nan,0,1,1"), "is not four numbers"),
        (("old.mp4", "new.mp4", "--ignore-region", "90%,0,20%,10%"), "is not within the picture"),
        (("old.mp4", "new.mp4", "--ignore-region", "-5%,0,20%,10%"), "is not within the picture"),
        (("old.mp4", "new.mp4", "--ignore-region", "5%,5%,0,10%"), "is empty"),
        (("old.mp4", "new.mp4", "--ignore-region", "a:0,0,1,1"), "begins with neither old: nor new:"),
        (("old.mp4", "new.mp4", *("--ignore-region", "0,0,1,1") * 17), "at most 16 in old"),
        (("old.mp4", "new.mp4", "--address", "nowhere"), "'nowhere' is not an address."),
        (("old.mp4",), "Missing argument 'NEW'"),
        ((f"video_{'0' * 32}", "new.mp4"), f"There is no video video_{'0' * 32}."),
        ((f"embed_{'0' * 32}", "new.mp4"), f"There is no embedding embed_{'0' * 32}."),
    ],
)
async def test_error_is_a_sentence_with_a_next_step_and_exits_with_two(sage, films, tmp_path, arguments, words):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cover.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = await sage("diff", *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) >= 2


async def test_embedding_that_contradicts_the_options_is_refused_before_anything_is_paid_for(sage, fake, films):
    fake.marengo = True
    given = fake.add_embedding(fake.add_video().id, model="marengo3.0")
    outcome = await sage("diff", given.id, films[1], "--model", "marengo3.5")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{given.id} was made with --model marengo3.0, not marengo3.5." in outcome.err
    outcome = await sage("diff", films[0], given.id, "--time", "--track", "visual", "--track", "audio")
    assert f"{given.id} was made without the track audio." in outcome.err
    assert (fake.uploads, fake.creations) == (0, 0)


async def test_result_of_a_newer_server_is_an_error_not_a_film_without_differences(sage, fake):
    a = fake.add_embedding(fake.add_video().id)
    fake.unknown_results = True
    outcome = await sage("compare", a.id, a.id)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Update sage." in outcome.err


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


@pytest.mark.parametrize(
    "method", ["ListVideos", "UploadVideo", "CreateEmbedding", "CreateFingerprint", "CompareEmbeddings"]
)
async def test_diff_outlasts_a_short_outage_once_it_has_begun(sage, fake, films, method):
    """A call that a person waits for is tried three times; one that follows work, for a minute."""
    fake.unavailable[method] = 5
    outcome = await sage("diff", *films)
    assert outcome.code == 1, outcome.err
    assert fake.unavailable[method] == 0


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


# A regular file with a size, every read of which fails.
_UNREADABLE = Path("/sys/class/net/lo/speed")


@pytest.mark.skipif(not _UNREADABLE.exists(), reason="needs a file whose reads fail")
@pytest.mark.parametrize("options", [(), ("--content-type", "video/mp4")])
async def test_file_whose_reads_fail_is_named(sage, fake, films, options):
    outcome = await sage("diff", str(_UNREADABLE), films[1], *options)
    assert outcome.code == 2
    assert f"{_UNREADABLE} cannot be read: " in outcome.err
    assert "Check the file and the disk" in outcome.err
