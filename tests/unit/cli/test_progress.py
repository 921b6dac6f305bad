"""Progress where no terminal shows it: a line now and then."""

import pytest
from rich.progress import Progress
from sage_cli.show.progress import ProgressBoard, ProgressLog, share_line
from sage_cli.show.terminal import Terminal, open_terminal


class Films:
    """Progress of films, a clock, and the lines that were printed."""

    def __init__(self) -> None:
        self.progress = Progress(disable=True)
        self.now = 0.0
        self.lines: list[str] = []
        self.log = ProgressLog(lambda: self.progress.tasks, self.lines.append, clock=lambda: self.now)

    def add(self, name: str, phase: str = "embedding", total: float | None = 1.0, *, counts_bytes: bool = False):
        return self.progress.add_task(phase, total=total, full_label=name, counts_bytes=counts_bytes, message="")

    def look(self, now: float) -> list[str]:
        """Return the lines that are printed at a time."""
        self.now = now
        self.lines.clear()
        self.log.look()
        return list(self.lines)


@pytest.fixture
def films() -> Films:
    return Films()


def test_film_has_a_line_every_half_minute_even_if_nothing_moves(films):
    """An embedding may wait for hours, and its server may send nothing for longer than that."""
    film = films.add("old.mp4")
    films.progress.update(film, completed=0.02, message="Waiting for a worker.")
    line = ["old.mp4: embedding 2%. Waiting for a worker."]
    assert [films.look(now) for now in (9, 10, 39, 40, 69, 70)] == [[], line, [], line, [], line]


def test_fast_work_has_a_line_every_tenth_but_not_every_second(films):
    film = films.add("old.mp4")
    printed = []
    for now in range(60):
        films.progress.update(film, completed=now / 60)
        printed += films.look(now)
    assert printed == [f"old.mp4: embedding {percent}%" for percent in (17, 33, 50, 67, 83)]


def test_quick_or_finished_work_has_none(films):
    film = films.add("old.mp4")
    assert films.look(9.9) == []
    films.progress.update(film, completed=1.0)
    assert films.look(100) == []


def test_each_film_and_each_phase_has_its_lines(films):
    old = films.add("a/old.mp4", "uploading", 60_000_000, counts_bytes=True)
    films.add("new.mp4", "checking", None)
    films.progress.update(old, completed=30_000_000)
    assert films.look(10) == ["a/old.mp4: uploading 50%, 30.0/60.0 MB", "new.mp4: checking"]
    films.progress.reset(old, total=1.0, description="embedding", full_label="\x1bold", counts_bytes=False, message="")
    assert films.look(20) == ["\\x1bold: embedding 0%"]


def test_board_writes_to_stderr_if_that_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(ProgressLog, "MIN_GAP_S", 0.0)
    terminal = open_terminal()
    with ProgressBoard(terminal) as board:
        line = board.line("old.mp4")
        line.begin_work("embedding")
        line.report(0.25, "TwelveLabs rejected the API key. Set a valid one with SetApiKey.")
        board.log.look()
    out, err = capsys.readouterr()
    assert out == ""
    assert "old.mp4: embedding 25%. TwelveLabs rejected the API key. Set a valid one with `sage key set`.\n" in err


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_or_shown_elsewhere_has_no_log(quiet):
    terminal: Terminal = open_terminal(quiet=quiet)
    assert ProgressBoard(terminal, shown=quiet).log is None


def test_works_on_a_film_share_its_line():
    """The bar shows their mean, and the message is that of the one that is furthest behind."""
    with ProgressBoard(open_terminal()) as board:
        line = board.line("old.mp4")
        embedding, fingerprint = share_line(line, "analysing", 2)
        (task,) = board._progress.tasks
        embedding.report(0.5, "Embedded 10 of 20 s.")
        assert (task.description, task.completed, task.fields["message"]) == (
            "analysing",
            0.25,
            "Embedded 10 of 20 s.",
        )
        fingerprint.begin_work("fingerprint")
        fingerprint.report(0.25, "Fingerprinted 5 of 20 s.")
        assert (task.completed, task.fields["message"]) == (0.375, "Fingerprinted 5 of 20 s.")
        fingerprint.finish("fingerprinted")
        assert (task.completed, task.fields["message"]) == (0.75, "Embedded 10 of 20 s.")
        assert (embedding.label, task.description) == ("old.mp4", "analysing")
