import numpy as np
from sage_compare.aligned.chain import Matched, Order
from sage_compare.aligned.lines import Line
from sage_compare.aligned.offsets import settled
from sage_compare.aligned.pictures import make_pair, measure_both, weight_of_cells
from sage_compare.aligned.script import Frames
from sage_fingerprint.model import Fingerprint

COUNT = 120
NO_TITLE = Frames(0, 0)


def still(noise: int) -> Fingerprint:
    """A shot in which one corner brightens by a level every second frame."""
    random = np.random.default_rng(7)
    picture = random.integers(40, 200, (18, 32))
    luma = np.repeat(picture[None], COUNT, 0)
    luma[:, :4, :6] = 60 + np.arange(COUNT)[:, None, None] // 2
    luma += np.random.default_rng(noise).integers(0, 2, luma.shape)
    texture = np.full(luma.shape, 6, np.uint8)
    chroma = np.full((COUNT, 2, 9, 16), 128, np.uint8)
    return Fingerprint(luma.astype(np.uint8), texture, chroma, np.arange(COUNT) / 24, COUNT / 24)


def order_with(a: Frames, b: Frames, *others: Matched) -> Order:
    line = Line(1.0, float(a.first - b.first), b.first, b.end, 10.0, 0.05)
    return Order([Matched(a, b, line), *others], [], [])


def moved(order: Order, title: Frames = NO_TITLE) -> tuple[Frames, Frames]:
    """Return where a piece is put, if b has a title in some frames."""
    a, b = still(1), still(2)
    b.luma[title.first : title.end, 12:15, 4:28] = 235
    weight = weight_of_cells(())
    pair = make_pair(*measure_both(a, b, weight), weight)
    piece = settled(pair, a, b, order).chain[0]
    assert piece.line.start == piece.a.first - piece.b.first
    return piece.a, piece.b


def test_a_piece_of_a_still_shot_is_put_where_the_corner_is_as_bright() -> None:
    a, b = moved(order_with(Frames(45, 75), Frames(40, 70)))
    assert abs(a.first - b.first) <= 1


def test_a_piece_moves_in_the_film_that_has_room() -> None:
    following = Matched(Frames(75, 100), Frames(95, 120), Line(1.0, -20.0, 95, 120, 10.0, 0.05))
    a, b = moved(order_with(Frames(40, 75), Frames(35, 70), following))
    assert a == Frames(40, 75)
    assert abs(a.first - b.first) <= 1


def test_a_piece_that_is_right_stays() -> None:
    assert moved(order_with(Frames(40, 70), Frames(40, 70))) == (Frames(40, 70), Frames(40, 70))


def test_a_title_over_most_of_a_piece_does_not_hide_where_it_belongs() -> None:
    a, b = moved(order_with(Frames(45, 105), Frames(40, 100)), Frames(52, 88))
    assert abs(a.first - b.first) <= 1
