"""TwelveLabs as an HTTP transport for the real SDK, with the other ports of its engine, on a virtual clock."""

import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.engine import (
    EngineEvent,
    EngineRequest,
    Progressed,
    Resume,
    SegmentsProduced,
    Submitting,
    TaskStarted,
    Vectors,
)
from sage_embed.engines.twelvelabs.engine import TwelveLabsEngine
from sage_embed.engines.twelvelabs.pace import ProviderPace
from sage_embed.engines.twelvelabs.session import Clock
from sage_embed.keys.model import ProviderKey, ProviderKeys
from sage_runtime.errors import SageError
from sage_runtime.errors.catalogue import public_text

KEY = ProviderKey("tlk_secret_key", "fingerprint")
URL = "https://store.example/videos/a.mp4?X-Amz-Date=now&X-Amz-Signature=signed"
# What is stored of it.
SENT = "https://store.example/videos/a.mp4?X-Amz-Date=now"
HTML = "<html><body>502 Bad Gateway</body></html>"
DROPPED = httpx.RemoteProtocolError("Server disconnected without sending a response.")
_EPOCH = datetime(2030, 1, 1, tzinfo=UTC)

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class VirtualClock:
    """Time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleeps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Advance the time."""
        self.sleeps.append(seconds)
        self.seconds += seconds

    def now(self) -> datetime:
        """Return the current time."""
        return _EPOCH + timedelta(seconds=self.seconds)

    def clock(self) -> Clock:
        """Return the clock for the engine."""
        return Clock(sleep=self.sleep, monotonic=lambda: self.seconds)


@dataclass
class FixedKeys(ProviderKeys):
    """Hands out one key after another, and the last one forever."""

    keys: deque[ProviderKey | None] = field(default_factory=lambda: deque([KEY]))

    async def current(self) -> ProviderKey | None:
        return self.keys.popleft() if len(self.keys) > 1 else self.keys[0]


@dataclass
class CountingPace(ProviderPace):
    """Grants every turn and counts."""

    turns: int = 0
    held: float = 0.0
    limits: list[float | None] = field(default_factory=list)

    async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
        self.turns += 1

    async def limited(self, key: ProviderKey, *, retry_after_s: float | None) -> None:
        self.limits.append(retry_after_s)

    def held_s(self, key: ProviderKey) -> float:
        return self.held


@dataclass
class Marengo:
    """TwelveLabs with one video, for one engine.

    Attributes:
        duration_seconds: The video's length.
        polls_before_ready: How often a task is `processing` before it is `ready`.
        list_lag: How many requests for the list do not show existing tasks yet.
        told: By step, the responses that replace the correct ones, in order.
        create_answers: The responses that replace those to successful create requests, in order.
        seen: The number of requests by step.
        requests: All requests.
        reported: The messages for users while an engine waits.
    """

    clock: VirtualClock = field(default_factory=VirtualClock)
    keys: FixedKeys = field(default_factory=FixedKeys)
    pace: CountingPace = field(default_factory=CountingPace)
    duration_seconds: float = 9.0
    polls_before_ready: int = 1
    list_lag: int = 0
    told: dict[str, deque[Answer]] = field(default_factory=dict)
    create_answers: deque[Answer] = field(default_factory=deque)
    change: Callable[[list[dict[str, object]]], None] = lambda _: None
    lists_urls: bool = True
    metadata: dict[str, object] = field(default_factory=dict)
    tasks: dict[str, dict[str, object]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    requests: list[httpx.Request] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)

    def tell(self, step: str, *answers: Answer) -> None:
        """Set the responses to the next requests of a step."""
        self.told.setdefault(step, deque()).extend(answers)

    def engine(self, settings: TwelveLabsSettings | None = None) -> TwelveLabsEngine:
        """Return an engine that uses it."""
        return TwelveLabsEngine(
            self.keys,
            self.pace,
            # With a single slot for results, a slot that is not released blocks the next test step at once.
            (settings or TwelveLabsSettings()).model_copy(update={"results_at_once": 1}),
            http_client=lambda: httpx.AsyncClient(transport=httpx.MockTransport(self._answer)),
            clock=self.clock.clock(),
        )

    def order(self, task_id: str = "t1") -> dict[str, object]:
        """Return the submission of a task."""
        return self.tasks[task_id]

    def make_task(self, url: str = URL, *, model: str = "marengo3.0") -> str:
        """Create a task without a request."""
        task_id = f"t{len(self.tasks) + 1}"
        self.tasks[task_id] = {"url": url, "model": model, "polls": 0, "created_at": self.clock.now().isoformat()}
        return task_id

    def _answer(self, request: httpx.Request) -> httpx.Response:
        step, task_id = _step(request)
        self.seen[step] += 1
        self.requests.append(request)
        if told := self.told.get(step):
            return _given(told.popleft(), request)
        if step == "create":
            answer = self._create(request)
            return _given(self.create_answers.popleft(), request) if self.create_answers else answer
        if step == "list":
            return self._list()
        if task_id not in self.tasks:
            if "/embed/" in request.url.path:
                return refusal(400, "parameter_invalid", "The task_id parameter is invalid.")
            return refusal(404, "resource_not_exists", "The resource does not exist.")
        return self._task(task_id, step)

    def _create(self, request: httpx.Request) -> httpx.Response:
        if "/embed-v2/" in request.url.path:
            body = json.loads(request.content)
            task_id = self.make_task(body["video"]["media_source"]["url"], model=body["model_name"])
            self.tasks[task_id] |= {"options": body["video"]["embedding_option"]}
            self.tasks[task_id] |= {"scopes": body["video"]["embedding_scope"]}
            return httpx.Response(202, json={"_id": task_id, "status": "processing", "data": None})
        form = form_of(request)
        task_id = self.make_task(form["video_url"][0], model=form["model_name"][0])
        self.tasks[task_id] |= {"options": ["visual-text", "audio"], "scopes": form["video_embedding_scope"]}
        return httpx.Response(200, json={"_id": task_id})

    def _list(self) -> httpx.Response:
        lagging = self.list_lag > 0
        self.list_lag -= 1
        tasks = [
            {
                "_id": task_id,
                "model_name": task["model"],
                "created_at": task["created_at"],
                "video_embedding": {"metadata": {"input_url": task["url"]} if self.lists_urls else {}},
            }
            for task_id, task in reversed(self.tasks.items())
        ]
        info = {"limit_per_page": 50, "page": 1, "total_page": 1, "total_results": len(tasks)}
        return httpx.Response(200, json={"data": [] if lagging else tasks, "page_info": info})

    def _task(self, task_id: str, step: str) -> httpx.Response:
        task = self.tasks[task_id]
        if step != "result":
            task["polls"] = int(str(task["polls"])) + 1
        if int(str(task["polls"])) <= self.polls_before_ready:
            return httpx.Response(200, json={"_id": task_id, "status": "processing", "data": None})
        if step == "status":
            return httpx.Response(200, json={"_id": task_id, "status": "ready", "video_embedding": {}})
        v1 = step == "result"
        vectors = self._vectors(task, v1=v1)
        self.change(vectors)
        metadata = {"duration": self.duration_seconds, "input_url": task["url"]} | self.metadata
        if v1:
            body = {"_id": task_id, "status": "ready", "video_embedding": {"metadata": metadata, "segments": vectors}}
        else:
            body = {"_id": task_id, "status": "ready", "data": vectors, "metadata": metadata}
        return httpx.Response(200, content=json.dumps(body))

    def _vectors(self, task: Mapping[str, object], *, v1: bool) -> list[dict[str, object]]:
        options, scopes = task.get("options", ["visual"]), task.get("scopes", ["clip"])
        assert isinstance(options, list)
        assert isinstance(scopes, list)
        dimensions = 1024 if task["model"] == "Marengo-retrieval-2.7" else 512
        names = ("start_offset_sec", "end_offset_sec", "float") if v1 else ("start_sec", "end_sec", "embedding")
        found = []
        for option in options:
            if "clip" in scopes:
                # A rest shorter than a clip gets no vector.
                times = [(start, start + 2) for start in range(0, int(self.duration_seconds) - 1, 2)]
                found += [("clip", option, start, end) for start, end in times]
            if scopes[-1] != "clip":
                found.append((scopes[-1], option, 0, self.duration_seconds))
        return [
            {
                "embedding_scope": scope,
                "embedding_option": option,
                names[0]: start,
                names[1]: end,
                names[2]: vector(option, start, dimensions).tolist(),
            }
            for scope, option, start, end in found
        ]


def vector(option: str, start_seconds: float, dimensions: int = 512) -> Vectors:
    """Return the vector of a clip."""
    seed = np.random.default_rng([len(option), int(start_seconds)])
    return seed.standard_normal(dimensions).astype(np.float32)


def refusal(status: int, code: str, message: str = "", **headers: str) -> httpx.Response:
    """Return an error in the flat shape."""
    return httpx.Response(status, json={"code": code, "message": message}, headers=headers)


def request_of(
    marengo: Marengo,
    *,
    model: str = "marengo3.0",
    tracks: tuple[str, ...] = ("visual",),
    resume: Resume | None = None,
    has_audio: bool = True,
    urls: Iterable[str] = (URL,),
) -> EngineRequest:
    """Return a request for the video."""
    left = deque(urls)

    async def video_url() -> str:
        return left.popleft()

    async def report(progress: Progressed) -> None:
        marengo.reported.append(progress.message)

    return EngineRequest(
        video_url=video_url,
        duration_seconds=marengo.duration_seconds,
        start_offset_seconds=0.0,
        has_audio=has_audio,
        model=model,
        clip_seconds=2.0,
        tracks=tracks,
        resume=resume or Resume(None, None, None, {}),
        now=marengo.clock.now(),
        report=report,
    )


@dataclass
class Outcome:
    """The events of an engine.

    Attributes:
        submitted: The submitted URLs.
        started: The IDs of the tasks.
        said: The messages for users.
        produced: The segments, in order.
    """

    submitted: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    produced: list[SegmentsProduced] = field(default_factory=list)

    def add(self, event: EngineEvent) -> None:
        """Record an event."""
        match event:
            case Submitting(url, _):
                self.submitted.append(url)
            case TaskStarted(task_id):
                self.started.append(task_id)
            case Progressed(_, message):
                self.said.append(message)
            case SegmentsProduced():
                self.produced.append(event)
                if event.progress is not None:
                    self.said.append(event.progress.message)

    def track(self, name: str) -> Vectors:
        """Return all vectors of a track."""
        return np.concatenate([one.segments.vectors for one in self.produced if one.segments.track == name])

    def tracks(self) -> list[str]:
        """Return the tracks that have segments, in order."""
        return list(dict.fromkeys(one.segments.track for one in self.produced))


def _step(request: httpx.Request) -> tuple[str, str]:
    if request.url.host == "store.example":
        return "store", ""
    parts = request.url.path.split("/")
    tail = parts[parts.index("tasks") + 1 :]
    if request.method == "POST":
        return "create", ""
    if not tail:
        return "list", ""
    if tail[1:] == ["status"]:
        return "status", tail[0]
    return ("result" if "embed" in parts else "retrieve"), tail[0]


def _given(answer: Answer, request: httpx.Request) -> httpx.Response:
    if isinstance(answer, Exception):
        raise answer
    return answer(request) if callable(answer) else answer


def form_of(request: httpx.Request) -> dict[str, list[str]]:
    """Return the fields of a form, each with all its values."""
    boundary = request.headers["content-type"].partition("boundary=")[2]
    fields: dict[str, list[str]] = {}
    for part in request.content.decode().split(f"--{boundary}")[1:-1]:
        head, _, value = part.partition("\r\n\r\n")
        fields.setdefault(head.partition('name="')[2].partition('"')[0], []).append(value.removesuffix("\r\n"))
    return fields


async def run(
    marengo: Marengo,
    request: EngineRequest | None = None,
    *,
    settings: TwelveLabsSettings | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Embed a video and return its events, also in `outcome` in case of an error."""
    outcome, engine = outcome or Outcome(), marengo.engine(settings)
    async for event in engine.embed(request or request_of(marengo)):
        outcome.add(event)
    await engine.aclose()
    return outcome


async def fail(marengo: Marengo, request: EngineRequest | None = None, **options: TwelveLabsSettings) -> SageError:
    """Embed a video and return the error, which must contain neither the key nor the URL's signature."""
    with pytest.raises(SageError) as caught:
        await run(marengo, request, **options)
    for text in (public_text(caught.value), str(caught.value), caught.value.detail):
        assert KEY.secret not in text
        assert "X-Amz-Signature" not in text
    return caught.value
