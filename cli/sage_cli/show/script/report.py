"""An aligned comparison for people: a summary, the edits, both timelines."""

from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from sage_cli.show.comparison import Comparison, edits_in, noun_of
from sage_cli.show.readings import AUDIO_TRACKS_DIFFER, listed
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
    main, *others = comparison.tracks
    found = [(track, edits_in(track, beside=None if track is main else main)) for track in comparison.tracks]
    parts = [*_headline(comparison, width)]
    sentence = summarize_edits(found[0][1], comparison.new, beside=[edit for _, edits in found[1:] for edit in edits])
    parts += wrap(sentence, width)
    parts += [*_remarks(comparison, width), Text(), *draw_films(comparison, width), *_facts(comparison, width)]
    several = any(edits for _, edits in found[1:])
    for track, edits in found:
        if edits:
            parts.append(Text(f"\n{noun_of(track)}" if several else "", style="bold"))
            parts += draw_table(edits, comparison, width=width, beside=others if track is main else ())
    timelines = draw_timelines(comparison, width=width, ascii_only=ascii_only)
    if timelines:
        parts += [Text(), *timelines]
    return Group(*(Text(to_ascii(part.plain)) if ascii_only else part for part in parts))


def _headline(comparison: Comparison, width: int) -> Iterator[Text]:
    style = "bold yellow" if comparison.differ else "bold green"
    main, *others = comparison.tracks
    edits = edits_in(main)
    if not comparison.differ:
        nouns = [noun_of(track) for track in comparison.tracks]
        yield Text.assemble(
            ("No differences", style), f": {f'the {nouns[0]} is' if not others else f'{listed(nouns)} are'} the same."
        )
        return
    same = f"The {noun_of(main)} is {f'{percent(main.similarity_percent)} ' if edits else ''}the same"
    rest = f": {count(len(edits), 'edit')}" if edits else ""
    for track in others:
        own = edits_in(track, beside=main)
        if edits:
            rest += f"; the {noun_of(track)} has {count(len(own), 'other') if own else 'no others'}"
        else:
            same_share = f"{percent(track.similarity_percent)} the same: {count(len(own), 'edit')}"
            rest += f"; the {noun_of(track)} is {same_share if own else 'the same'}"
    if comparison.counted_media_differences:
        rest += f"; {AUDIO_TRACKS_DIFFER}"
    first, *more = wrap(f"{same}{rest}.", width)
    first.stylize(style, 0, len(same))
    yield from (first, *more)


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
