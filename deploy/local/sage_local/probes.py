"""Asking whether something is there."""

import asyncio
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 2.0


async def grpc_serves(address: str, service: str) -> bool:
    """Say whether a gRPC server calls one of its services healthy."""
    return await asyncio.to_thread(_grpc_serves, address, service)


async def http_answers(url: str) -> bool:
    """Say whether a URL answers with success."""
    return await asyncio.to_thread(_http_answers, url)


def _grpc_serves(address: str, service: str) -> bool:
    # A channel for each question: one that has failed would wait a second before it connects again.
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _http_answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 -- our own URLs alone come here
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
