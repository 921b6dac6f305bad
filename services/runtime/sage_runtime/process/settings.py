"""Settings from environment variables, with errors at start-up that say what to change."""

import sys
from typing import Annotated, Literal, NoReturn, TypeVar

import pydantic
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

MIB = 1024 * 1024

# Values of variables with these words in their names are never printed: database URLs contain passwords.
_SECRET_WORDS = ("URL", "KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL")


def _check_listen(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT such as 127.0.0.1:50051")
    return value


def _check_optional_listen(value: str) -> str:
    return _check_listen(value) if value else value


ListenAddress = Annotated[str, AfterValidator(_check_listen)]
OptionalListenAddress = Annotated[str, AfterValidator(_check_optional_listen)]


class Settings(BaseSettings):
    """Settings of a process: frozen, and read only from the environment.

    Every field names its variable in `validation_alias`. An empty variable counts as unset, so that a deployment can
    list all of them. Tests create settings with the field names as keywords.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        env_ignore_empty=True,
        validate_by_name=True,
        validate_by_alias=True,
        # `load` writes the messages about values, because it knows which are secret.
        hide_input_in_errors=True,
    )


class ServerSettings(Settings):
    """Settings of every gRPC server. A service's settings extend it and name their own `listen` variable.

    Attributes:
        listen: HOST:PORT to serve on. Port 0: any free port.
        grace_s: Seconds that calls in progress have to finish after a stop signal before they are cancelled.
        drain_wait_s: Seconds between reporting NOT_SERVING and refusing new calls, so that load balancers notice. 0
            without a load balancer; with 4, no call was lost behind Envoy with health checks every 2 s.
        health_interval_s: Seconds between two checks of a service's dependencies.
        health_timeout_s: Seconds after which such a check counts as failed.
        log_level: Lowest level to log.
        log_format: `json`, one object per line, or `console` for people.
        metrics_listen: HOST:PORT on which Prometheus scrapes /metrics. Empty: no metrics.
        metrics_public: Allows SAGE_METRICS_LISTEN to be reachable from other machines. Metrics need no token.
        otlp_endpoint: OpenTelemetry collector to send traces to, such as http://127.0.0.1:4317. Empty: no traces.
        max_message_bytes: Largest gRPC message to send or receive, in bytes.
        max_concurrent_calls: Maximum number of concurrent calls; more are refused with RESOURCE_EXHAUSTED. Health calls
            and calls that have not sent their first message do not count.
        max_health_calls: Maximum number of concurrent health calls, including watches, of one connection. They need
            no token.
        first_message_s: Seconds that a call has to send its first message.
        sign_in: `auto`: callers must sign in if there is a tokens file; without one, the server refuses to listen
            beyond this machine. `on`: the server refuses to start without tokens. `off`: every call is accepted.
        tokens_file: Files of API tokens, separated by commas. Each line is NAME:SCOPE:SHA256[:EXPIRES], as
            `python -m sage_runtime.auth` writes it.
        tokens_reload_s: Seconds between two checks for changes to these files.
        tokens_max_stale_s: Seconds that the previous tokens stay valid while these files are missing or have a mistake.
            Then calls that need a token are refused, and health reports NOT_SERVING. Until then the health name
            `tokens` reports it.
        reflect_also: Full names of services, separated by commas, that reflection describes in addition to the
            server's own. For the server that provides reflection for the gateway.
    """

    listen: ListenAddress = Field(default="127.0.0.1:0", validation_alias="SAGE_LISTEN")
    grace_s: float = Field(default=20.0, ge=0, le=3600, validation_alias="SAGE_GRACE_SECONDS")
    drain_wait_s: float = Field(default=0.0, ge=0, le=600, validation_alias="SAGE_DRAIN_WAIT_SECONDS")
    health_interval_s: float = Field(default=5.0, gt=0, le=600, validation_alias="SAGE_HEALTH_INTERVAL_SECONDS")
    health_timeout_s: float = Field(default=2.0, gt=0, le=60, validation_alias="SAGE_HEALTH_TIMEOUT_SECONDS")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", validation_alias="SAGE_LOG_LEVEL")
    log_format: Literal["json", "console"] = Field(default="json", validation_alias="SAGE_LOG_FORMAT")
    metrics_listen: OptionalListenAddress = Field(default="", validation_alias="SAGE_METRICS_LISTEN")
    metrics_public: bool = Field(default=False, validation_alias="SAGE_METRICS_PUBLIC")
    otlp_endpoint: str = Field(default="", validation_alias="SAGE_OTLP_ENDPOINT")
    max_message_bytes: int = Field(
        default=4 * MIB, ge=64 * 1024, le=256 * MIB, validation_alias="SAGE_MAX_MESSAGE_BYTES"
    )
    max_concurrent_calls: int = Field(default=1000, ge=1, validation_alias="SAGE_MAX_CONCURRENT_CALLS")
    max_health_calls: int = Field(default=100, ge=1, validation_alias="SAGE_MAX_HEALTH_CALLS")
    first_message_s: float = Field(default=10.0, gt=0, le=600, validation_alias="SAGE_FIRST_MESSAGE_SECONDS")
    sign_in: Literal["auto", "on", "off"] = Field(default="auto", validation_alias="SAGE_SIGN_IN")
    tokens_file: str = Field(default="", validation_alias="SAGE_TOKENS_FILE")
    tokens_reload_s: float = Field(default=2.0, gt=0, le=600, validation_alias="SAGE_TOKENS_RELOAD_SECONDS")
    tokens_max_stale_s: float = Field(
        default=300.0, ge=0, le=7 * 86_400, validation_alias="SAGE_TOKENS_MAX_STALE_SECONDS"
    )
    reflect_also: str = Field(default="", validation_alias="SAGE_REFLECT_ALSO")


S = TypeVar("S", bound=Settings)


def load(cls: type[S]) -> S:
    """Return the settings from the environment, or exit with code 2.

    Bad settings are reported on stderr, one line per variable: its name, what is wrong, and its value unless that may
    be a secret.
    """
    try:
        return cls()
    except pydantic.ValidationError as error:
        fail(*(describe_error(cls, item) for item in error.errors(include_url=False, include_context=False)))
    except SettingsError as error:
        # A value that must be JSON, such as a list, and is not. The cause is left out because it quotes the value.
        fail(f"{error}; it must be JSON")


def fail(*lines: str) -> NoReturn:
    """Write one line per reason to stderr and exit with code 2."""
    for line in lines:
        sys.stderr.write(f"error: {line}\n")
    raise SystemExit(2)


def variable_of(cls: type[Settings], field: str) -> str:
    """Return the environment variable that a field is read from."""
    alias = cls.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else field


def describe_error(cls: type[Settings], item: object) -> str:
    """Return what is wrong with a variable, from an entry of `ValidationError.errors()`. It never contains a secret."""
    details = item if isinstance(item, dict) else {}
    variable = str(details["loc"][0]) if details.get("loc") else ""
    message = str(details.get("msg", "is not valid")).removeprefix("Value error, ").removeprefix("Input ")
    if details.get("type") == "missing":
        message = "is required and not set"
    elif variable and not _is_secret(cls, variable):
        message += f" (it is {details.get('input')!r})"
    return f"{variable}: {message}" if variable else message


def _is_secret(cls: type[Settings], variable: str) -> bool:
    if any(word in variable.upper() for word in _SECRET_WORDS):
        return True
    return any(
        "Secret" in str(field.annotation)
        for name, field in cls.model_fields.items()
        if variable in {name, field.validation_alias}
    )
