"""Options of gRPC servers and channels, and what each was chosen for."""

import json

MIB = 1024 * 1024

Options = tuple[tuple[str, int | str], ...]


def server_options(*, max_message_bytes: int) -> Options:
    """Return the options of every server.

    Eight stalled uploads took a server to about 1 GB of memory with gRPC's own flow control, which widens its windows
    as it measures bandwidth; with the probe off and 1 MiB of lookahead it stayed at 150 MB and was no slower.
    """
    return (
        # Two servers on one port would share its connections without a word; the second must fail instead.
        ("grpc.so_reuseport", 0),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", MIB),
        # A proxy's keepalive pings on idle connections would else be answered with "too many pings".
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Past 1,000 calls that wait to be begun gRPC ends some of them, with CANCELLED and no reason. A service has its
        # own limits and says which is reached; the gateway lets 4,096 calls through.
        ("grpc.server.max_pending_requests", 8192),
        ("grpc.server.max_pending_requests_hard_limit", 16384),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    )


def channel_options(*, max_message_bytes: int) -> Options:
    """Return the options of every channel to a sibling service."""
    return (
        # Whether a call may be repeated is for the one who makes it to say.
        ("grpc.enable_retries", 0),
        # Behind a headless name there are several servers; the default would send everything to the first.
        ("grpc.lb_policy_name", "round_robin"),
        # One that stops says so in its health, and gets no more calls from then on.
        ("grpc.service_config", json.dumps({"healthCheckConfig": {"serviceName": ""}})),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A sibling that restarts is found again within seconds; the default waits up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    )
