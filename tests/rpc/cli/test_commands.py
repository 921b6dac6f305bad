"""The commands that do one step each."""

import asyncio
import json
import signal
import sys

import pytest
from sage.embed.v1 import embed_pb2

MISSING_VIDEO = f"video_{'0' * 32}"


async def test_upload_prints_ids(sage, fake, films):
    """Each file becomes a video, whose id has a line for itself, in the order of the files."""
    outcome = await sage("upload", *films)
    assert outcome.code == 0, outcome.err
    assert [fake.videos[video_id].filename for video_id in outcome.out.splitlines()] == list(films)


async def test_upload_names_films_to_people(sage_in_terminal, fake, films):
    """In a terminal the name stands beside the id."""
    outcome = await sage_in_terminal("upload", films[0])
    assert f"{next(iter(fake.videos))}  {films[0]}" in outcome.out


async def test_upload_goes_on_past_a_bad_file(sage, fake, films):
    """One bad file costs the exit code, not the others."""
    outcome = await sage("upload", films[0], "missing.mp4", films[1])
    assert outcome.code == 2
    assert len(outcome.out.splitlines()) == 2
    assert "There is no file missing.mp4." in outcome.err


async def test_upload_says_what_kind_of_video_it_is(sage, fake, tmp_path):
    """The media type is that of the file, or what the user says."""
    (tmp_path / "a.mkv").write_bytes(b"a")
    (tmp_path / "b.xyz").write_bytes(b"b")
    assert (await sage("upload", "a.mkv")).code == 0
    assert (await sage("upload", "b.xyz")).code == 2
    assert (await sage("upload", "b.xyz", "--content-type", "video/mp4")).code == 0
    assert [video.content_type for video in fake.videos.values()] == ["video/x-matroska", "video/mp4"]


async def test_odd_file_names_become_labels(sage, fake, tmp_path):
    """Emoji stay; control characters, which the server refuses, are written out."""
    for name in ("🎬 film.mp4", "a\nb.mp4"):
        (tmp_path / name).write_bytes(name.encode())
        outcome = await sage("upload", name)
        assert outcome.code == 0, outcome.err
    assert len((await sage("videos")).out.splitlines()) == 3
    assert [video.filename for video in fake.videos.values()] == ["🎬 film.mp4", "a\\x0ab.mp4"]


async def test_videos_are_listed_a_line_each(sage, fake):
    """The list has every page, newest first, a line for each video."""
    videos = [fake.add_video(filename=f"film {number}.mp4") for number in range(5)]
    lines = (await sage("videos")).out.splitlines()
    assert [line.split()[0] for line in lines] == ["id", *(video.id for video in reversed(videos))]
    assert "00:00:20:00" in lines[1]
    limited = json.loads((await sage("videos", "--json", "--limit", "3", "--name", "film")).out)
    assert [video["id"] for video in limited["videos"]] == [video.id for video in reversed(videos)][:3]


async def test_empty_lists_are_no_trouble(sage):
    """An empty list is an answer; stdout stays empty, and the note is on stderr."""
    for command in ("videos", "embeddings"):
        outcome = await sage(command)
        assert (outcome.code, outcome.out) == (0, "")
        assert "There are no" in outcome.err


async def test_list_fits_a_narrow_terminal(sage_in_terminal, fake):
    """At 60 columns ids stay whole and no line is longer than the terminal."""
    fake.add_video(filename="a film with a rather long name indeed.mp4")
    outcome = await sage_in_terminal("videos", columns=60, NO_COLOR="1")
    assert max(map(len, outcome.out.splitlines())) <= 60
    assert next(iter(fake.videos)) in outcome.out


async def test_embed_prints_the_id_when_it_is_done(sage, fake, films):
    """A file is uploaded, embedded, and its embedding is used again the next time."""
    first = await sage("embed", films[0])
    second = await sage("embed", next(iter(fake.videos)))
    assert first.code == second.code == 0, first.err + second.err
    assert first.out == second.out
    embedding = fake.embeddings[first.out.strip()]
    assert embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED


async def test_embed_without_waiting_leaves_the_work_to_others(sage, fake, films):
    """With --no-wait the id is printed at once."""
    fake.hang_embeddings = True
    outcome = await sage("embed", "--no-wait", "--json", films[0])
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["state"] == "EMBEDDING_STATE_PENDING"
    assert fake.watches == 0


async def test_watch_tells_each_change(sage, fake):
    """In a pipe each change is a line; with --json each is a document in a line."""
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
async def test_watch_of_what_did_not_complete_exits_with_two(sage, fake, state):
    """An embedding that came to a bad end has a bad exit code."""
    embedding = fake.add_embedding(fake.add_video().id, state=state)
    assert (await sage("watch", embedding.id)).code == 2


async def test_interrupted_watch_leaves_the_work_alone(environ, fake, tmp_path):
    """Ctrl-C in `sage watch` stops the watching only."""
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
    assert b"The work goes on." in err
    assert embedding.state == embed_pb2.EMBEDDING_STATE_PROCESSING


async def test_cancel_cancels(sage, fake):
    """A running embedding is cancelled; one that completed says that it cannot be."""
    running = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PROCESSING)
    done = fake.add_embedding(fake.add_video().id)
    assert (await sage("cancel", running.id)).code == 0
    assert running.state == embed_pb2.EMBEDDING_STATE_CANCELLED
    refused = await sage("cancel", done.id)
    assert refused.code == 2
    assert "is COMPLETED already and cannot be cancelled" in refused.err


async def test_delete_takes_both_kinds(sage, fake):
    """Videos and embeddings are deleted by id; a slip in one of them deletes none."""
    video = fake.add_video()
    embedding = fake.add_embedding(video.id)
    assert (await sage("delete", video.id, "slip")).code == 2
    assert fake.videos
    outcome = await sage("delete", video.id, embedding.id)
    assert outcome.code == 0, outcome.err
    assert not fake.videos
    assert not fake.embeddings
    assert (await sage("delete", video.id)).code == 2


async def test_play_prints_a_url(sage, fake):
    """The URL stands alone on stdout, so that a player can be given it."""
    video = fake.add_video()
    assert (await sage("play", video.id, "--minutes", "5")).out == f"http://s3/{video.id}?for=300\n"


async def test_models_say_which_can_be_used(sage):
    """Every model is listed, with why it cannot be used."""
    out = (await sage("models")).out
    assert out.splitlines()[1].split()[:2] == ["local", "yes"]
    assert "no: no API key is set." in out
    models = json.loads((await sage("models", "--json")).out)["models"]
    assert [model["usable"] for model in models] == [True, False, False, False]


async def test_embeddings_are_filtered(sage, fake):
    """The list can be asked for a video or a state."""
    first, second = fake.add_video(), fake.add_video()
    fake.add_embedding(first.id)
    failed = fake.add_embedding(second.id, state=embed_pb2.EMBEDDING_STATE_FAILED)
    for options in (("--video", second.id), ("--state", "failed")):
        document = json.loads((await sage("embeddings", "--json", *options)).out)
        assert [one["id"] for one in document["embeddings"]] == [failed.id]


@pytest.mark.parametrize("option", ["--address", "SAGE_ADDRESS"])
async def test_address_may_stand_anywhere(sage, address, option):
    """The address is taken from the command, from before it, or from the environment, the nearest first."""
    wrong = "127.0.0.1:9"
    assert (await sage("models", "--address", address, SAGE_ADDRESS=wrong)).code == 0
    assert (await sage("--address", address, "models", SAGE_ADDRESS=wrong)).code == 0
    assert (await sage("models", SAGE_ADDRESS=wrong)).code == 2


@pytest.mark.parametrize("command", ["play", "watch", "cancel", "embed"])
async def test_wrong_kind_of_thing_is_named(sage, fake, command):
    """A command that wants one kind of id says so when it gets the other, or a slip."""
    embedding = fake.add_embedding(fake.add_video().id).id
    outcome = await sage(command, embedding if command in {"play", "embed"} else MISSING_VIDEO)
    assert outcome.code == 2
    assert "embedding" in outcome.err or "video" in outcome.err


async def test_help_of_every_command(sage):
    """Every command explains itself."""
    out = (await sage("--help")).out
    for command in [
        "diff",
        "compare",
        "upload",
        "videos",
        "play",
        "embed",
        "watch",
        "cancel",
        "embeddings",
        "models",
        "delete",
    ]:
        assert f"\n  {command} " in out
