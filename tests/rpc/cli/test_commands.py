"""The commands that do one step each."""

import asyncio
import json
import signal
import sys

import pytest
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import media_pb2

MISSING_VIDEO = f"video_{'0' * 32}"


async def test_upload_prints_ids_in_the_order_of_the_files(sage, fake, films):
    outcome = await sage("upload", *films)
    assert outcome.code == 0, outcome.err
    assert [fake.videos[video_id].filename for video_id in outcome.out.splitlines()] == list(films)


async def test_upload_prints_names_in_a_terminal(sage_in_terminal, fake, films):
    outcome = await sage_in_terminal("upload", films[0])
    assert f"{next(iter(fake.videos))}  {films[0]}" in outcome.out


async def test_upload_continues_after_a_bad_file(sage, fake, films):
    outcome = await sage("upload", films[0], "missing.mp4", films[1])
    assert outcome.code == 2
    assert len(outcome.out.splitlines()) == 2
    assert "There is no file missing.mp4." in outcome.err


async def test_media_type_is_detected_or_given(sage, fake, tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"a")
    (tmp_path / "b.xyz").write_bytes(b"b")
    assert (await sage("upload", "a.mkv")).code == 0
    assert (await sage("upload", "b.xyz")).code == 2
    assert (await sage("upload", "b.xyz", "--content-type", "video/mp4")).code == 0
    assert [video.content_type for video in fake.videos.values()] == ["video/x-matroska", "video/mp4"]


async def test_control_characters_in_file_names_are_escaped(sage, fake, tmp_path):
    """The contract does not allow them. Emoji stay."""
    for name in ("🎬 film.mp4", "a\nb.mp4"):
        (tmp_path / name).write_bytes(name.encode())
        outcome = await sage("upload", name)
        assert outcome.code == 0, outcome.err
    assert len((await sage("videos")).out.splitlines()) == 3
    assert [video.filename for video in fake.videos.values()] == ["🎬 film.mp4", "a\\x0ab.mp4"]


async def test_list_has_every_page_newest_first(sage, fake):
    videos = [fake.add_video(filename=f"film {number}.mp4") for number in range(5)]
    lines = (await sage("videos")).out.splitlines()
    assert [line.split()[0] for line in lines] == ["id", *(video.id for video in reversed(videos))]
    assert "00:00:20:00  640×360 24 fps h264  aac stereo eng" in lines[1]
    limited = json.loads((await sage("videos", "--json", "--limit", "3", "--name", "film")).out)
    assert [video["id"] for video in limited["videos"]] == [video.id for video in reversed(videos)][:3]


async def test_empty_list_is_a_note_on_stderr(sage):
    for command in ("videos", "embeddings"):
        outcome = await sage(command)
        assert (outcome.code, outcome.out) == (0, "")
        assert "There are no" in outcome.err


async def test_list_fits_a_narrow_terminal(sage_in_terminal, fake):
    fake.add_video(filename="a film with a rather long name indeed.mp4")
    outcome = await sage_in_terminal("videos", columns=60, NO_COLOR="1")
    assert max(map(len, outcome.out.splitlines())) <= 60
    assert next(iter(fake.videos)) in outcome.out


async def test_embed_prints_the_id_and_uses_an_existing_embedding_again(sage, fake, films):
    first = await sage("embed", films[0])
    second = await sage("embed", next(iter(fake.videos)))
    assert first.code == second.code == 0, first.err + second.err
    assert first.out == second.out
    embedding = fake.embeddings[first.out.strip()]
    assert embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED


async def test_embed_without_waiting_does_not_watch(sage, fake, films):
    fake.hang_embeddings = True
    outcome = await sage("embed", "--no-wait", "--json", films[0])
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["state"] == "EMBEDDING_STATE_PENDING"
    assert fake.watches == 0


async def test_watch_prints_a_line_per_change(sage, fake):
    for options in ((), ("--json",)):
        embedding = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PENDING)
        outcome = await sage("watch", embedding.id, *options)
        assert outcome.code == 0, outcome.err
        lines = outcome.out.splitlines()
        assert len(lines) == 2
        if options:
            assert [json.loads(line)["progress"]["fraction"] for line in lines] == [0.5, 1.0]
        else:
            assert lines[0] == "processing   50%  Embedded 10 of 20 s."
            assert lines[1].startswith("completed   100%")


@pytest.mark.parametrize("state", [embed_pb2.EMBEDDING_STATE_FAILED, embed_pb2.EMBEDDING_STATE_CANCELLED])
async def test_watch_exits_with_two_unless_the_embedding_completed(sage, fake, state):
    embedding = fake.add_embedding(fake.add_video().id, state=state)
    assert (await sage("watch", embedding.id)).code == 2


async def test_interrupted_watch_leaves_the_work_alone(environ, fake, tmp_path):
    fake.hang_embeddings = True
    embedding = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PENDING)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_cli", "watch", embedding.id),
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await fake.working.wait()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"The work continues." in err
    assert embedding.state == embed_pb2.EMBEDDING_STATE_PROCESSING


async def test_cancel_ends_work_in_progress_only(sage, fake):
    running = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PROCESSING)
    done = fake.add_embedding(fake.add_video().id)
    assert (await sage("cancel", running.id)).code == 0
    assert running.state == embed_pb2.EMBEDDING_STATE_CANCELLED
    refused = await sage("cancel", done.id)
    assert refused.code == 2
    assert "is already COMPLETED and cannot be cancelled" in refused.err


async def test_delete_accepts_videos_and_embeddings_and_checks_all_ids_first(sage, fake):
    video = fake.add_video()
    embedding = fake.add_embedding(video.id)
    assert (await sage("delete", video.id, "typo")).code == 2
    assert fake.videos
    outcome = await sage("delete", video.id, embedding.id)
    assert outcome.code == 0, outcome.err
    assert not fake.videos
    assert not fake.embeddings
    assert (await sage("delete", video.id)).code == 2


async def test_uploads_lists_what_is_open(sage, fake):
    first, second, third = (fake.add_open_upload(f"film-{number}.mov") for number in range(3))
    lines = (await sage("uploads")).out.splitlines()
    assert lines[0].split() == ["id", "name", "received", "begun", "last", "part", "expires"]
    assert [line.split()[0] for line in lines[1:]] == [third.id, second.id, first.id]
    assert "film-2.mov" in lines[1]
    assert "8.4/60.0 MB" in lines[1]
    listed = json.loads((await sage("uploads", "--json", "--limit", "1")).out)["uploads"]
    assert [(one["id"], one["receivedBytes"]) for one in listed] == [(third.id, "8388608")]
    fake.open_uploads.clear()
    outcome = await sage("uploads")
    assert (outcome.code, outcome.out) == (0, "")
    assert "There are no open uploads." in outcome.err


async def test_uploads_drop_checks_all_ids_first(sage, fake):
    first, second, third = (fake.add_open_upload("film.mov").id for _ in range(3))
    outcome = await sage("uploads", "drop", first, "typo")
    assert (outcome.code, len(fake.open_uploads)) == (2, 3)
    assert "`sage uploads` lists" in outcome.err
    outcome = await sage("uploads", "drop", first, second)
    assert (outcome.code, outcome.out) == (0, f"Dropped {first}.\nDropped {second}.\n")
    assert set(fake.open_uploads) == {third}
    assert (await sage("uploads", "drop", first)).code == 2
    for arguments in ((), (third, "--all")):
        assert "Name the uploads to drop, or use --all." in (await sage("uploads", "drop", *arguments)).err


async def test_uploads_drop_all_needs_a_confirmation(sage, fake):
    for _ in range(3):
        fake.add_open_upload("film.mov")
    outcome = await sage("uploads", "drop", "--all")
    assert (outcome.code, len(fake.open_uploads)) == (2, 3)
    assert "--yes" in outcome.err
    assert (await sage("uploads", "--address", "127.0.0.1:9", "drop", "--all", "--yes")).code == 2
    outcome = await sage("uploads", "drop", "--all", "--yes")
    assert (outcome.code, len(outcome.out.splitlines()), fake.open_uploads) == (0, 3, {})
    assert "There are no open uploads." in (await sage("uploads", "drop", "--all", "--yes")).err


async def test_full_store_is_not_retried_and_says_how_to_make_room(sage, fake, films):
    fake.store_is_full = True
    outcome = await sage("upload", films[0])
    assert (outcome.code, fake.uploads) == (2, 1)
    assert "The video store has no room left" in outcome.err
    assert "`sage uploads drop`" in outcome.err


async def test_play_prints_only_the_url(sage, fake):
    video = fake.add_video()
    assert (await sage("play", video.id, "--minutes", "5")).out == f"http://s3/{video.id}?for=300\n"


async def test_models_list_says_why_a_model_is_not_usable(sage):
    out = (await sage("models")).out
    assert out.splitlines()[1].split()[:2] == ["local", "yes"]
    assert "no: no API key is set. Set one with `sage key set`." in out
    models = json.loads((await sage("models", "--json")).out)["models"]
    assert [model["usable"] for model in models] == [True, False, False, False]


async def test_embeddings_are_filtered_by_video_and_state(sage, fake):
    first, second = fake.add_video(), fake.add_video()
    fake.add_embedding(first.id)
    failed = fake.add_embedding(second.id, state=embed_pb2.EMBEDDING_STATE_FAILED)
    for options in (("--video", second.id), ("--state", "failed")):
        document = json.loads((await sage("embeddings", "--json", *options)).out)
        assert [one["id"] for one in document["embeddings"]] == [failed.id]


async def test_address_option_overrides_the_environment(sage, address):
    """It may stand before or after the command."""
    wrong = "127.0.0.1:9"
    assert (await sage("models", "--address", address, SAGE_ADDRESS=wrong)).code == 0
    assert (await sage("--address", address, "models", SAGE_ADDRESS=wrong)).code == 0
    assert (await sage("models", SAGE_ADDRESS=wrong)).code == 2


@pytest.mark.parametrize("command", ["play", "video", "watch", "cancel", "embed"])
async def test_id_of_the_wrong_kind_is_refused(sage, fake, command):
    embedding = fake.add_embedding(fake.add_video().id).id
    outcome = await sage(command, embedding if command in {"play", "video", "embed"} else MISSING_VIDEO)
    assert outcome.code == 2
    assert "embedding" in outcome.err or "video" in outcome.err


async def test_help_lists_every_command_with_a_full_sentence(sage):
    out = (await sage("--help")).out
    for command in [
        "diff",
        "compare",
        "upload",
        "uploads",
        "videos",
        "video",
        "play",
        "embed",
        "watch",
        "cancel",
        "embeddings",
        "models",
        "key",
        "delete",
    ]:
        assert f"\n  {command} " in out
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("command", [["diff"], ["upload"], ["embed"], ["key"], ["key", "set"], ["watch"]])
async def test_help_of_a_command_shows_its_usage(sage, command):
    outcome = await sage(*command, "--help")
    assert outcome.code == 0
    assert f"Usage: sage {' '.join(command)} " in outcome.out


async def test_help_of_diff_has_each_example_on_a_line(sage):
    out = (await sage("diff", "--help")).out
    assert "\n    sage diff old.mp4 new.mp4 --track visual\n" in out
    assert "\n    sage diff old.mp4 new.mp4 --time --threshold 0.2\n" in out


async def test_renamed_copy_is_found_by_its_content(sage, fake, films, tmp_path):
    """One list call finds it, whatever its name; the note says what it is stored as."""
    first = await sage("upload", films[0])
    (tmp_path / "copy.mp4").write_bytes((tmp_path / films[0]).read_bytes())
    fake.video_lists.clear()
    second = await sage("upload", "copy.mp4")
    assert second.out == first.out
    assert fake.uploads == 1
    assert second.err == "copy.mp4: already there as old.mp4.\n"
    (request,) = fake.video_lists
    assert request.sha256 == next(iter(fake.videos.values())).sha256
    assert request.filename_contains == ""


async def test_force_makes_a_new_embedding(sage, fake, films):
    first = await sage("embed", films[0])
    second = await sage("embed", films[0], "--force")
    assert second.code == 0, second.err
    assert first.out != second.out
    assert (await sage("embed", films[0])).out == second.out
    assert fake.creations == 2


async def test_embedding_in_progress_is_joined(sage, fake):
    video = fake.add_video()
    running = fake.add_embedding(video.id, state=embed_pb2.EMBEDDING_STATE_PENDING)
    outcome = await sage("embed", video.id)
    assert outcome.out == f"{running.id}\n"
    assert fake.creations == 0


async def test_video_shows_what_its_file_holds(sage, fake):
    video = fake.add_video(filename="film.mxf")
    media = video.media
    media.width, media.frame_rate_mode = 480, media_pb2.FRAME_RATE_MODE_VARIABLE
    media.field_order = media_pb2.FIELD_ORDER_TOP_FIRST
    media.start_timecode.hours = 10
    media.color.primaries = media.color.matrix = "bt709"
    out = (await sage("video", video.id)).out
    for line in [
        f"id        {video.id}",
        "name      film.mxf",
        "length    00:00:20.000",
        "starts at 10:00:00:00",
        "picture   640×360 24 fps h264, stored as 480×360, variable frame rate, interlaced",
        "colour    bt709 bt709",
        "sound     aac stereo 48 kHz eng",
    ]:
        assert line in out.splitlines()
    assert json.loads((await sage("video", video.id, "--json")).out)["media"]["startTimecode"]["hours"] == 10


async def test_call_that_may_be_repeated_survives_a_broken_connection(sage, fake):
    """Two failures are retried; the third is final."""
    video = fake.add_video()
    fake.unavailable["GetVideo"] = 2
    assert (await sage("video", video.id)).code == 0
    fake.unavailable["GetVideo"] = 3
    assert (await sage("video", video.id)).code == 2
    assert fake.unavailable["GetVideo"] == 0
