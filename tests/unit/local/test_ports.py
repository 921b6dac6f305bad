"""Ports: the requested ones or a helpful error, otherwise free ones that stay the same."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sage_local import ports
from sage_local.errors import StackError
from sage_local.ports import choose_ports, free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_named_with_its_holder_and_its_variable(taken_port: int) -> None:
    with pytest.raises(StackError) as caught:
        choose_ports(["gateway"], wanted={"gateway": taken_port}, last={})
    assert f"Port {taken_port}" in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message
    assert "SAGE_GATEWAY_PORT" in caught.value.next_step


def test_a_port_whose_socket_another_user_made_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "SEAWEED_SOCKETS", tmp_path)
    port = free_port()
    (tmp_path / f"seaweedfs-filer-grpc-{port}.sock").touch()
    assert choose_ports(["filer-grpc"], wanted={}, last={"filer-grpc": port}) == {"filer-grpc": port}
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert choose_ports(["filer-grpc"], wanted={}, last={"filer-grpc": port}) != {"filer-grpc": port}


def test_two_components_cannot_request_the_same_port() -> None:
    port = free_port()
    with pytest.raises(StackError, match="requested for both gateway and s3") as caught:
        choose_ports(["gateway", "s3"], wanted={"gateway": port, "s3": port}, last={})
    assert "SAGE_S3_PORT or SAGE_GATEWAY_PORT" in caught.value.next_step


def test_requested_port_is_not_given_to_another_component_that_had_it() -> None:
    port = free_port()
    chosen = choose_ports(["ingest", "postgres"], wanted={"postgres": port}, last={"ingest": port})
    assert chosen["postgres"] == port
    assert chosen["ingest"] != port


def test_ports_of_the_last_start_are_used_again() -> None:
    port = free_port()
    assert choose_ports(["s3"], wanted={}, last={"s3": port}) == {"s3": port}


def test_a_port_of_the_last_start_that_is_taken_is_replaced(taken_port: int) -> None:
    assert choose_ports(["s3"], wanted={"s3": 0}, last={"s3": taken_port})["s3"] != taken_port


def test_no_two_components_share_a_port() -> None:
    names = [f"component-{number}" for number in range(50)]
    port = free_port()
    ports = choose_ports(names, wanted={}, last=dict.fromkeys(names, port))
    assert len(set(ports.values())) == len(names)


def test_ports_chosen_one_by_one_differ_although_nothing_listens_yet() -> None:
    assert len({free_port() for _ in range(500)}) == 500
