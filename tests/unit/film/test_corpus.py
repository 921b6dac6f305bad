"""The prober and the decoder agree on every film of the corpus, and with how it was made."""

import io

import numpy as np
import pytest
from corpus.films import ALL_REFUSED, PLAYABLE, Film
from sage_embed.engines.local.frames import ClipGrid, End, Sample, Sampler, read_samples
from sage_film.frames import FrameDecoder, ShownFrame
from sage_fingerprint.film import EncodedBlock, FilmSource, read_blocks, read_film
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.videos.model import Media

# Makes about a hundred films.
pytestmark = pytest.mark.slow


def _measured(film: Film) -> Media:
    return measure(io.BytesIO(film.content), size_bytes=len(film.content))


def _reader(film: Film, media: Media, *, threads: int = 2) -> FrameDecoder:
    return FrameDecoder(
        io.BytesIO(film.content),
        start_offset_seconds=media.start_offset_seconds,
        threads=threads,
        video_track=media.video_track,
        timestamps_jump=media.timestamps_jump,
    )


@pytest.mark.parametrize("film", PLAYABLE, ids=lambda film: film.name)
def test_a_film_is_measured_and_decoded_as_it_was_made(film: Film) -> None:
    media = _measured(film)
    expected = {
        "duration_seconds": pytest.approx(film.seconds, abs=1e-6),
        "frame_count": film.frames,
        "frame_rate": film.rate,
        "frame_rate_mode": film.mode,
        "timestamps_jump": False,
        "video_track": 0,
        **film.media,
    }
    expected = {name: value for name, value in expected.items() if value is not None}
    assert {name: getattr(media, name) for name in expected} == expected
    grid = ClipGrid(media.duration_seconds, 2.0)
    reader = _reader(film, media)
    frames = list(reader.frames(end_seconds=grid.duration_seconds))
    assert media.frame_count is not None
    assert media.frame_count - film.lost <= len(frames) <= media.frame_count
    starts = [start for start, _, _ in frames]
    assert starts == sorted(starts)
    assert starts[0] == pytest.approx(0, abs=1e-6)
    *_, end = read_samples(reader, grid, first_clip=0)
    assert isinstance(end, End)
    assert end.at_seconds == media.duration_seconds


LONGER_THAN_A_CLIP = [film for film in PLAYABLE if film.seconds > 2.2]


@pytest.mark.parametrize("film", LONGER_THAN_A_CLIP, ids=lambda film: film.name)
def test_the_frames_of_a_clip_do_not_depend_on_where_decoding_begins_or_on_threads(film: Film) -> None:
    media = _measured(film)
    grid = ClipGrid(media.duration_seconds, 1.0)
    whole = [
        one for one in read_samples(_reader(film, media, threads=1), grid, first_clip=0) if isinstance(one, Sample)
    ]
    rest = [one for one in read_samples(_reader(film, media, threads=3), grid, first_clip=2) if isinstance(one, Sample)]
    assert [one.clip for one in rest] == [one.clip for one in whole if one.clip >= 2]
    for one, other in zip(rest, [one for one in whole if one.clip >= 2], strict=True):
        assert np.array_equal(one.frame.to_ndarray(), other.frame.to_ndarray())


@pytest.mark.parametrize("film", LONGER_THAN_A_CLIP, ids=lambda film: film.name)
def test_one_pass_has_the_samples_and_the_blocks_of_separate_passes(film: Film) -> None:
    media = _measured(film)
    grid = ClipGrid(media.duration_seconds, 1.0)
    expected = list(read_samples(_reader(film, media), grid, first_clip=1))

    def source() -> FilmSource:
        return FilmSource(
            io.BytesIO(film.content),
            media.start_offset_seconds,
            media.duration_seconds,
            media.video_track,
            media.timestamps_jump,
        )

    sampler = Sampler(grid, first_clip=1)
    found = list[Sample | End]()
    blocks = list[EncodedBlock]()
    for item in read_film(source(), threads=2):
        if isinstance(item, ShownFrame):
            found += sampler.add(item)
        else:
            blocks.append(item)
    found += sampler.finish()
    assert blocks == list(read_blocks(source(), threads=2))
    assert found[-1] == expected[-1]
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert one.clip == other.clip
        assert np.array_equal(one.frame.to_ndarray(), other.frame.to_ndarray())


@pytest.mark.parametrize("film", ALL_REFUSED, ids=lambda film: film.name)
def test_a_film_is_refused_in_words(film: Film) -> None:
    with pytest.raises(UnreadableError) as raised:
        _measured(film)
    assert film.refusal in raised.value.why
