"""An aligned comparison for people: a summary, the edits, both timelines."""

from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from sage_cli.show.comparison import Comparison, edits_in, noun_of
from sage_cli.show.readings import AUDIO_TRACKS_DIFFER, summarize
from sage_cli.show.report import count, draw_films, draw_remarks, fact, percent, to_ascii, wrap
from sage_cli.show.script.remarks import describe_burn_in, describe_normalization
from sage_cli.show.script.summary import summarize_edits
from sage_cli.show.script.table import draw_table
from sage_cli.show.script.timelines import draw_timelines


def draw_script_report(comparison: Comparison, *, width: int, ascii_only: bool = False) -> Group:
    """Return the whole report.

    Args:
        comparison: What to report.
        width: Columns of the terminal.
        ascii_only: Whether the output can show only ASCII.
    """
    several = len(comparison.tracks) > 1
    parts = [_headline(comparison)]
    listed = []
    for track in comparison.tracks:
        edits = edits_in(track, beside=None if track is comparison.tracks[0] else comparison.tracks[0])
        if edits:
            listed.append((track, edits))
            sentence = summarize_edits(edits, comparison.new)
            parts += wrap(f"{noun_of(track).capitalize()}: {sentence}" if several else sentence, width)
    parts += [*_remarks(comparison, width), Text(), *draw_films(comparison, width), *_facts(comparison, width)]
    for track, edits in listed:
        parts.append(Text(f"\n{noun_of(track)}" if several else "", style="bold"))
        parts += draw_table(edits, comparison, width=width)
    timelines = draw_timelines(comparison, width=width, ascii_only=ascii_only)
    if timelines:
        parts += [Text(), *timelines]
    return Group(*(Text(to_ascii(part.plain)) if ascii_only else part for part in parts))


def _headline(comparison: Comparison) -> Text:
    style = "bold yellow" if comparison.differ else "bold green"
    if len(comparison.tracks) > 1:
        return Text(f"{summarize(comparison)}.", style=style)
    (track,) = comparison.tracks
    edits, noun = edits_in(track), noun_of(track)
    if edits:
        same = f"The {noun} is {percent(track.similarity_percent)} the same"
        rest = f": {count(len(edits), 'edit')}"
    else:
        same, rest = "No differences", f": the {noun} is the same"
    if comparison.counted_media_differences:
        same, rest = (same, rest) if edits else (f"The {noun} is the same", "")
        rest += f"; {AUDIO_TRACKS_DIFFER}"
    return Text.assemble((same, style), f"{rest}.")


def _remarks(comparison: Comparison, width: int) -> Iterator[Text]:
    """Yield what was taken out before the films were compared, what could be ignored, and what the files differ in."""
    script = comparison.tracks[0].script
    taken_out = {(one.kind, one.a, one.b): one for track in comparison.tracks for one in track.script.normalizations}
    yield from draw_remarks(comparison, normalized={one.kind for one in taken_out.values()})
    for normalization in taken_out.values():
        yield from wrap(describe_normalization(normalization), width, style="blue")
    for burn_in in script.burn_ins:
        yield from wrap(describe_burn_in(burn_in), width, style="cyan")


def _facts(comparison: Comparison, width: int) -> Iterator[Text]:
    script, model = comparison.tracks[0].script, comparison.response.model
    parts = [f"changes from strength {script.min_strength:.3g}"]
    if script.HasField("noise"):
        parts.append(f"noise up to {script.noise.p99:.3g}")
    parts.append(f"model {model}")
    one_line = fact("measure", ", ".join(parts))
    if len(one_line) <= width:
        yield one_line
    else:
        yield from (fact("" if index else "measure", part) for index, part in enumerate(parts))
