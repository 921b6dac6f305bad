"""Fails if text that people read contains phrases that this project avoids.

usage: python tools/check_phrases.py [PATH...]      without a path: everything in SCOPE

Checks Markdown as a whole, and of code the comments, docstrings, other strings and names of tests. A line that contains
`phrases: allow` in a comment is skipped, for quotations and for idioms that only look like one of the phrases.
"""

import bisect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCOPE = (
    "*.md", "Makefile", "pyproject.toml", ".ci", "bench", "cli", "clients", "deploy", "docs", "gateway", "protos",
    "samples", "services", "tests", "tools",
)  # fmt: skip
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "gen", "dist", "bin"}
# These quote the phrases.
SKIPPED_FILES = {"tools/check_phrases.py", "tests/unit/tools/test_check_phrases.py"}
# Migrations that were applied somewhere are checksummed and cannot be reworded.
SKIPPED_FILES |= {
    "services/ingest/sage_ingest/migrations/0001_videos.sql",
    "services/ingest/sage_ingest/migrations/0002_uploads.sql",
    "services/embed/sage_embed/migrations/0001_embeddings.sql",
    "services/embed/sage_embed/migrations/0002_provider_tasks.sql",
    "services/embed/sage_embed/migrations/0003_api_keys.sql",
    "services/embed/sage_embed/migrations/0004_provider_pace.sql",
}
ALLOW = "phrases: allow"


@dataclass(frozen=True)
class Phrase:
    """A phrase to avoid: its pattern, which ignores case except for SQL's WHERE, and what to write instead."""

    pattern: str
    instead: str


PHRASES = (
    Phrase(
        r"(?-i:[Ww]here) there (?:is|are|was|were) (?:no|none|one|any|nothing)\b",
        '"if there is no ..." or "without ..."',
    ),
    Phrase(
        r"(?-i:[Ww]here) (?:it|that|this|one|none) (?:is|was) (?:not|set|given|missing|empty)\b", '"if it is not ..."'
    ),
    Phrase(r"(?-i:[Ww]here) (?:none|nothing|not|no one)\b", '"if ... not"'),
    Phrase(r"(?:none|empty|zero|unset|true|false|only|except|nothing|not)`? (?-i:where)\b", '"... if"'),
    Phrase(r"\b(?:fails?|raises?|skipped|refused|happens) (?-i:where)\b", '"... if"'),
    Phrase(r"\banswer(?:s|ed)\b", '"returns", "responds" or "sends"'),
    Phrase(r"\bwants\b", '"requires", "expects" or "needs"'),
    Phrase(
        r"\btakes (?:no|none|any|only|what|whatever|every|it|them|those|in)\b"
        r"(?! longer| more| less| from| over| to\b| time| the | a | \d| argument)",
        '"accepts", "receives" or "removes"',
    ),
    Phrase(r"\b(?:go|goes|went|gone) on\b(?! to\b)", '"continues" or "resumes"'),
    Phrase(r"\b(?:comes?|came|coming) to (?:its|their|an|the) end\b", '"finishes" or "ends"'),
    Phrase(r"\b(?:takes?|took|taken|taking) up(?: again)?\b(?! to| about| less| more| space| room| \d)", '"resumes"'),
    Phrase(
        r"(?<![\w./@-])(?:nobody|somebody|anybody|whoever|whomever)\b", 'the actor, such as "no client" or "anyone who"'
    ),
    Phrase(r"\bof (?:its|their|his|one's|our) own\b", '"its own ..." or "a separate ..."'),
    Phrase(r"\bat the (?:most|least)\b", '"at most" or "at least"'),
    Phrase(r"\bmend(?:s|ed|ing)?\b", '"fix" or "repair"'),
    Phrase(r"\b(?:a )?fault of\b", '"a bug in"'),
    Phrase(r"\b(?:is|was|are|were|been) heard (?:of|from)\b|\bhears? of\b|\bheard of it\b", '"receives" or "notices"'),
    Phrase(r"\bneeds from outside\b|\bis needed from outside\b", '"ports of"'),
    Phrase(r"\bright to write\b", '"fencing token"'),
    Phrase(r"\banew\b", '"again"'),
    Phrase(r"\bwhatever (?:dies|happens(?! to)|it does|the cause)\b", '"after a crash", "after any error"'),
    Phrase(r"\b(?:looks?|looked|looking) whether\b", '"checks whether"'),
    Phrase(r"\b(?:is|are|was|were|be) passed over\b", '"is ignored" or "is skipped"'),
    Phrase(r"\b(?:come|comes|came) into being\b", '"is created"'),
    Phrase(r"\bin the moment in which\b", '"when"'),
    Phrase(r"\bknows? (?:no|nothing)\b(?! more| better)", '"does not know" or "does not import"'),
    Phrase(r"(?<!there )\b(?:is|are) no (?:commit|error|trouble)\b", '"is not a ..."'),
    Phrase(r"\b(?:there|where)(?:by|in|of|upon)\b|\bhitherto\b", "a plain word"),
    Phrase(r"\b(?:fix|fixes|fixed) what can\b|\bwhat can be \w+ed can\b", '"that can be ... automatically"'),
)
# Every phrase begins with a word, so the alternatives are tried at the start of words only, which halves the time.
ANY = re.compile(
    r"\b(?=\w)(?:" + "|".join(f"(?P<p{i}>{phrase.pattern})" for i, phrase in enumerate(PHRASES)) + ")", re.IGNORECASE
)

# Comments, strings and names of tests in Python, the longest form first. Escapes stay: no phrase contains one.
_PYTHON = re.compile(
    r"(?<=def )test_\w+|#[^\n]*|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|\"(?:[^\"\\\n]|\\.)*\""
    r"|'(?:[^'\\\n]|\\.)*'",
    re.DOTALL,
)
# A line comment of C's family, or a string (the rules and messages of contracts).
_SLASHES = re.compile(r"//[^\n]*|\"(?:[^\"\\\n]|\\.)*\"")
_HASHES = re.compile(r"#[^\n]*|\"(?:[^\"\\\n]|\\.)*\"")
_DASHES = re.compile(r"--[^\n]*|'(?:[^'\n])*'")
_PROSE = {
    ".py": _PYTHON, ".pyi": _PYTHON, ".proto": _SLASHES, ".ts": _SLASHES, ".tsx": _SLASHES, ".go": _SLASHES,
    ".sql": _DASHES, ".sh": _HASHES, ".yaml": _HASHES, ".yml": _HASHES, ".toml": _HASHES, "": _HASHES,
}  # fmt: skip
# What an f-string inserts is code.
_VALUES = re.compile(r"\{[^{}\n]*\}")
_MARKERS = re.compile(r"^\s*(?:#+|//+|--+|>|\*)\s?")


@dataclass(frozen=True)
class Finding:
    """A phrase that was found, and in which line it begins."""

    line: int
    text: str
    instead: str


def findings(text: str, suffix: str) -> Iterator[Finding]:
    """Yield what a file's text has of the phrases, also across line breaks."""
    lines = text.splitlines()
    for prose, starts in _paragraphs(_prose_lines(text, lines, suffix)):
        for match in ANY.finditer(prose):
            first = starts[bisect.bisect_right(starts, (match.start(), sys.maxsize)) - 1][1]
            last = starts[bisect.bisect_right(starts, (match.end() - 1, sys.maxsize)) - 1][1]
            if any(ALLOW in lines[number - 1] for number in range(first, last + 1)):
                continue
            phrase = PHRASES[int((match.lastgroup or "p0")[1:])]
            yield Finding(first, match.group(), phrase.instead)


def _prose_lines(text: str, lines: list[str], suffix: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that people read, with their numbers, without comment markers."""
    pattern = _PROSE.get(suffix)
    if pattern is None:
        yield from ((number, _MARKERS.sub("", line)) for number, line in enumerate(lines, 1))
        return
    number, position = 1, 0
    for match in pattern.finditer(text):
        number += text.count("\n", position, match.start())
        position = match.start()
        prose = match.group()
        if prose.startswith("test_"):
            yield from ((number, ""), (number, prose.replace("_", " ")), (number, ""))
            continue
        if prose[0] in "\"'":
            if " " not in prose:  # a value, not a sentence
                continue
            prose = _VALUES.sub("{}", prose)
        for offset, line in enumerate(prose.split("\n")):
            yield number + offset, _MARKERS.sub("", line).strip("\"'")


def _paragraphs(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Join lines that follow each other. Yield each text with the offset and number of each of its lines."""
    parts: list[str] = []
    starts: list[tuple[int, int]] = []
    length, previous = 0, 0
    for number, line in lines:
        words = " ".join(line.split())
        if parts and (number > previous + 1 or not words):
            yield " ".join(parts), starts
            parts, starts, length = [], [], 0
        previous = number
        if words:
            starts.append((length, number))
            parts.append(words)
            length += len(words) + 1
    if parts:
        yield " ".join(parts), starts


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files below the paths that are checked."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
            checked = file.suffix in {*_PROSE, ".md"} and not SKIPPED_FOLDERS.intersection(name.parts[:-1])
            if checked and str(name) not in SKIPPED_FILES and file.is_file():
                yield file


def main() -> int:
    """Print `file:line: "phrase": write ... instead` for each finding. Return 1 if there are any."""
    paths = [Path(name).resolve() for name in sys.argv[1:]] or [path for glob in SCOPE for path in ROOT.glob(glob)]
    count = 0
    for file in files(paths):
        name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
        for finding in findings(file.read_text(encoding="utf-8"), file.suffix):
            print(f'{name}:{finding.line}: "{finding.text}": write {finding.instead} instead')
            count += 1
    if count:
        print(f"{count} phrases to rewrite. If one is right where it is, put `{ALLOW}` into a comment on its line.")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
