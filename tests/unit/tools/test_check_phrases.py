import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "check_phrases.py"
specification = importlib.util.spec_from_file_location("check_phrases", SCRIPT)
assert specification is not None
assert specification.loader is not None
check_phrases = importlib.util.module_from_spec(specification)
sys.modules["check_phrases"] = check_phrases
specification.loader.exec_module(check_phrases)


def found(text: str, name: str = "page.md") -> list[tuple[int, str]]:
    return [(finding.line, finding.text) for finding in check_phrases.findings(text, Path(name).suffix)]


@pytest.mark.parametrize(
    ("sentence", "phrase"),
    [
        ("The key, None where there is none.", "None where"),
        ("Whether it counts where there is no checksum.", "where there is no"),
        ("The default where it is not set.", "where it is not"),
        ("`None` where the file is gone.", "None` where"),
        ("The server answers a call.", "answers"),
        ("`sage` then wants an address.", "wants"),
        ("The engine takes every key.", "takes every"),
        ("The upload goes on later.", "goes on"),
        ("The stream comes to its end.", "comes to its end"),
        ("The task is taken up again.", "taken up again"),
        ("Nobody waits for it.", "Nobody"),
        ("A queue of its own.", "of its own"),
        ("Four parts at the most.", "at the most"),
        ("Mend the row.", "Mend"),
        ("That is a fault of sage.", "a fault of"),
        ("A job is the right to write.", "right to write"),
        ("The end of a stream is no commit.", "is no commit"),
    ],
)
def test_a_phrase_to_avoid_is_found(sentence: str, phrase: str) -> None:
    assert found(f"# Heading\n\n{sentence}\n") == [(3, phrase)]


@pytest.mark.parametrize(
    "sentence",
    [
        "`None` if absent.",
        "The folder where the state is stored.",
        "The call takes 3 s and no longer than a minute: it takes no more memory.",
        "The gateway takes it from Content-Length.",
        "A second run takes only the time that the stack needs to start; the command takes no arguments.",
        "It ends on Monday; the recommendation goes to the author, who may go on to write it.",
        "At most four parts; at least one.",
        "An empty list is a result, not an error, and there is no error to report.",
        "The answer is in the log.",
        "UPDATE rows SET open = false WHERE NOT EXISTS (SELECT id FROM nothing WHERE none)",
        "Exactly one task, whatever happens to the responses.",
        "postgresql://nobody@127.0.0.1/none",
    ],
)
def test_plain_english_is_not_reported(sentence: str) -> None:
    assert found(sentence) == []


def test_a_phrase_is_found_across_lines_and_reported_where_it_begins() -> None:
    assert found("ANSWERS = 1\n# The stream comes\n# to its end.\n", "module.py") == [(2, "comes to its end")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("module.py", 'def answers() -> str:\n    """Return nothing, or what the server answers."""\n'),
        ("module.py", 'wants = 1\nraise ValueError(f"{wants} wants a key")\n'),
        ("test_module.py", "nobody = 1\ndef test_nobody_waits() -> None: ...\n"),
        ("module.py", 'profile = "nobody"\n"The server answers."\n'),
        ("contract.proto", "string answers = 1;\n// Nobody reads it.\n"),
        ("contract.proto", 'string answers = 1 [(cel) = {\n  message: "wants digits"}];\n'),
        ("schema.sql", "SELECT answers FROM nobody\n-- None where it failed.\n"),
        ("script.sh", "nobody=1\n# It goes on.\n"),
        ("Makefile", "nobody:\n\t@true ## Mend the code\n"),
    ],
)
def test_code_is_checked_in_comments_strings_and_test_names_only(name: str, text: str) -> None:
    assert [line for line, _ in found(text, name)] == [2]


def test_a_line_with_the_allow_comment_is_skipped() -> None:
    assert found("Nobody knows. <!-- phrases: allow -->\n") == []


def test_the_command_reports_file_and_line_and_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Fine.\n\nNobody waits.\n")
    result = subprocess.run([sys.executable, SCRIPT, page], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.startswith(f'{page}:3: "Nobody": write ')
    page.write_text("Fine.\n")
    assert subprocess.run([sys.executable, SCRIPT, page], check=False).returncode == 0
