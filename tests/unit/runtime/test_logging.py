"""Logs: one JSON object a line, with the request id, without secrets."""

import json
import logging

import pytest
import structlog
from sage_runtime.context import working_on
from sage_runtime.process.telemetry import configure_logging


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def _lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_lines_are_json_with_service_level_time_and_request_id(capsys):
    configure_logging("ingest")
    with working_on("nightly-42"):
        structlog.get_logger().info("stored", bytes=7)
    (line,) = _lines(capsys)
    assert line["timestamp"].endswith("Z")
    assert {name: line[name] for name in ("service", "event", "level", "bytes", "request_id")} == {
        "service": "ingest",
        "event": "stored",
        "level": "info",
        "bytes": 7,
        "request_id": "nightly-42",
    }


def test_other_libraries_log_in_the_same_format(capsys):
    configure_logging("ingest")
    with working_on("nightly-42"):
        logging.getLogger("psycopg.pool").warning("lost %s", "connection")
    (line,) = _lines(capsys)
    assert (line["event"], line["level"], line["request_id"]) == ("lost connection", "warning", "nightly-42")


def test_levels_below_the_threshold_are_dropped(capsys):
    configure_logging("ingest", "warning")
    structlog.get_logger().info("stored")
    logging.getLogger("procrastinate").info("job")
    assert _lines(capsys) == []


def test_libraries_that_log_bodies_stay_quiet_at_debug(capsys):
    """The AWS libraries would log signatures and bodies."""
    configure_logging("ingest", "debug")
    logging.getLogger("botocore.auth").debug("signature")
    assert _lines(capsys) == []


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_have_no_local_variables(capsys, form):
    configure_logging("ingest", "info", form)
    api_key = "hunter" + "2"
    try:
        int(f"broken {len(api_key)}")
    except ValueError:
        structlog.get_logger().exception("failed", size=len(api_key))
    errors = capsys.readouterr().err
    assert "ValueError: invalid literal" in errors
    assert "hunter2" not in errors
