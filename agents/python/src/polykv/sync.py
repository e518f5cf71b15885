"""The blocking client: the asyncio one on a loop of its own, in one background thread.

Any thread may call it, several at once: the calls run beside each other. Callbacks run in the
background thread and may not call the client. A client does not survive a fork: connect in the
child.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from ._protocol import Message, Options
from .aio import (AsyncClient, AsyncConversation, AsyncPool, AsyncStream, OnProgress, Path)
from .errors import NotRunning, PolykvError
from .values import (Answer, Committed, Event, GroupAnswer, GroupStarted, Member, PoolDropped,
                     PoolReady, PoolStatus, Snapshot)

T = TypeVar("T")

_CANCEL_S = 1.0  # for the runtime to be told, after an interrupt


class _Call(Generic[T]):
    """Work on its way through the loop. Only `ended` and `result` are for other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        self.ended = threading.Event()
        self._loop, self._work = loop, work
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(lambda _: self.ended.set())

    def cancel(self) -> None:
        if self._task is None:  # interrupted before it was handed over
            self._work.close()
            self.ended.set()
        else:
            self._task.cancel()

    def result(self) -> T:
        assert self._task is not None
        return self._task.result()


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="polykv", daemon=True)
        self._owner = os.getpid()
        self._closed = False
        self._gate = threading.Lock()  # what passes it before the end is heard of at the end
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. If the wait is interrupted (by Ctrl-C), the work is cancelled first."""
        call = _Call(self._loop, work)
        try:
            with self._gate:
                self._check()
                self._loop.call_soon_threadsafe(call.start)
            call.ended.wait()
        except (RuntimeError, NotRunning):  # of the check
            work.close()
            raise
        except BaseException:  # an interrupt, wherever it came
            self._loop.call_soon_threadsafe(call.cancel)
            call.ended.wait(_CANCEL_S)
            raise
        return call.result()

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `last`, lets everybody who still waits hear of it, and ends the thread."""
        if os.getpid() != self._owner:
            return
        with self._gate:
            if self._closed:
                return
            self._closed = True
        finish = _Call(self._loop, self._finish(last))
        self._loop.call_soon_threadsafe(finish.start)
        finish.ended.wait()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        finish.result()

    async def _finish(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await last()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _check(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError("this client belongs to the process that forked: connect again")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback may not call the client: it runs in the client's thread")
        if self._closed:
            raise NotRunning("the client was closed: connect again")


class Client:
    """A connection to a running polykv: `with Client.connect() as client`."""

    def __init__(self, loop: _Loop, inner: AsyncClient) -> None:
        """Use `connect`."""
        self._loop = loop
        self._inner = inner

    @classmethod
    def connect(cls, runtime: Path | None = None, *, timeout: float = 10.0) -> Self:
        """Connects to the runtime directory, by default where `polykv up` is. NotRunning if nobody
        is there, ProtocolVersion if it speaks another version, TimedOut if it says nothing."""
        loop = _Loop()
        try:
            return cls(loop, loop.run(AsyncClient.connect(runtime, timeout=timeout)))
        except BaseException:
            loop.stop(_nothing)
            raise

    @property
    def pid(self) -> int:
        """The runtime's process."""
        return self._inner.pid

    @property
    def version(self) -> str:
        """The runtime's release."""
        return self._inner.version

    @property
    def runtime(self) -> str:
        """The runtime directory."""
        return self._inner.runtime

    def close(self) -> None:
        """Ends the connection. What it still waits for is cancelled in the runtime, too."""
        self._loop.stop(self._inner.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def pool(self, name: str = "main", model: str | None = None) -> "Pool":
        """A handle on a pool; nothing is sent, and the pool need not be there yet."""
        return Pool(self, self._inner.pool(name, model))

    def create_pool(self, name: str, *, text: str | None = None, path: Path | None = None,
                    codec: str = "k4v4", model: str | None = None, role: str | None = None,
                    reserve: int | None = None, ttl: int | None = None,
                    deadline: float | None = None,
                    on_progress: OnProgress | None = None) -> "Pool":
        """Prefills a text of any length, or the file at `path`, into a new pool. The handle's
        `ready` is its first version. `reserve` positions are left free for prompt and answer;
        `ttl` seconds after its last use the pool is dropped."""
        return Pool(self, self._loop.run(self._inner.create_pool(
            name, text=text, path=path, codec=codec, model=model, role=role, reserve=reserve,
            ttl=ttl, deadline=deadline, on_progress=on_progress)))

    def stop_agents(self, agent: str | None = None) -> None:
        """Ends one agent, or all."""
        self._loop.run(self._inner.stop_agents(agent))

    def commit(self, turn: Answer | str, *, deadline: float | None = None) -> Committed:
        """Makes the prompt and answer of an own finished request (or its id) the next version of
        its pool, without a prefill. Conflict if that is too late: then append the text."""
        return self._loop.run(self._inner.commit(turn, deadline=deadline))

    def cancel(self, request: str) -> None:
        """Ends an own request by its id; whoever waits for it hears of it there."""
        self._loop.run(self._inner.cancel(request))

    def status(self) -> Snapshot:
        """Pools, versions, agents, models, bytes, at this moment."""
        return self._loop.run(self._inner.status())

    def shutdown(self) -> None:
        """Ends the runtime and all its processes."""
        self._loop.run(self._inner.shutdown())

    def events(self, *topics: str, timeout: float | None = None) -> Iterator[Snapshot | Event]:
        """First a snapshot, then whatever happens after it, in order; a new snapshot wherever
        events were lost. Topics: "pool", "agent" (both without any), "token". Ends when nothing
        came for `timeout` seconds."""
        events = self._inner.events(*topics, timeout=timeout)

        async def following() -> Snapshot | Event | None:
            return await anext(events, None)

        try:
            while (event := self._loop.run(following())) is not None:
                yield event
        finally:
            with contextlib.suppress(PolykvError):
                self._loop.run(_closed(events))


class Pool:
    """A handle on a pool: its name and model, and what can be done with it."""

    def __init__(self, client: Client, inner: AsyncPool) -> None:
        """Use `Client.pool` or `create_pool`."""
        self.client = client
        self._inner = inner
        self._run = client._loop.run

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def model(self) -> str | None:
        return self._inner.model

    @property
    def ready(self) -> PoolReady | None:
        """Its first version, where this handle made the pool."""
        return self._inner.ready

    def append(self, text: str | None = None, *, path: Path | None = None,
               role: str | None = None, reserve: int | None = None,
               deadline: float | None = None,
               on_progress: OnProgress | None = None) -> PoolReady:
        """A new version: the current one and this text. Only the text is prefilled."""
        return self._run(self._inner.append(text, path=path, role=role, reserve=reserve,
                                            deadline=deadline, on_progress=on_progress))

    def fork(self, to: str, *, version: int | None = None, ttl: int | None = None) -> "Pool":
        """A new pool with the segments of a version of this one: nothing is copied."""
        return Pool(self.client, self._run(self._inner.fork(to, version=version, ttl=ttl)))

    def drop(self) -> PoolDropped:
        """Takes the pool off the list; who still answers from it may finish."""
        return self._run(self._inner.drop())

    def pin(self, version: int | None = None, *, ttl: int | None = None) -> int:
        """Keeps a version (the current one) although newer ones come; returns its number."""
        return self._run(self._inner.pin(version, ttl=ttl))

    def unpin(self, version: int) -> int:
        """Lets a pinned version go."""
        return self._run(self._inner.unpin(version))

    def status(self) -> PoolStatus | None:
        """The pool as the runtime sees it, or None if it is not there."""
        return self._run(self._inner.status())

    def start_agents(self, count: int = 1, *, version: int | None = None,
                     deadline: float | None = None,
                     on_progress: OnProgress | None = None) -> list[str]:
        """Starts agents on a version of this pool; returns their names when all are ready."""
        return self._run(self._inner.start_agents(count, version=version, deadline=deadline,
                                                  on_progress=on_progress))

    def ask(self, prompt: str | None = None, *, messages: Sequence[Message] | None = None,
            **options: Unpack[Options]) -> Answer:
        """One generation: `prompt`, or `messages` as {"role": …, "content": …}, after the text of
        the pool. The names of the options are the protocol's."""
        return self._run(self._inner.ask(prompt, messages=messages, **options))

    def stream(self, prompt: str | None = None, *, messages: Sequence[Message] | None = None,
               **options: Unpack[Options]) -> "Stream":
        """The same, piece by piece as it is generated."""
        return Stream(self, self._run(self._inner.stream(prompt, messages=messages, **options)))

    def group(self, members: Iterable[str | Member], *,
              on_start: Callable[[GroupStarted], None] | None = None,
              on_text: Callable[[int, str], None] | None = None,
              **options: Unpack[Options]) -> GroupAnswer:
        """All members at once on one version, each on an agent of its own, or none of them.
        `on_text` gets each piece of text with the number of its member."""
        return self._run(self._inner.group(members, on_start=on_start, on_text=on_text,
                                           **options))

    def conversation(self, *, agent: str | None = None,
                     version: int | None = None) -> "Conversation":
        """A conversation after the pool's text; what is said stays private to it."""
        return Conversation(self, self._inner.conversation(agent=agent, version=version))


class Stream:
    """Text as it is generated: `for piece in stream`; then `answer` is there. As a context manager
    it cancels what has not ended when it is left."""

    def __init__(self, pool: Pool, inner: AsyncStream) -> None:
        """Use `Pool.stream`."""
        self._run, self._inner = pool._run, inner

    @property
    def request(self) -> str:
        """The id of the request."""
        return self._inner.request

    @property
    def answer(self) -> Answer:
        """The whole answer, once the text has come to its end."""
        return self._inner.answer

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        async def following() -> str | None:
            return await anext(self._inner, None)

        piece = self._run(following())
        if piece is None:
            raise StopIteration
        return piece

    def finish(self) -> Answer:
        """Waits for the end."""
        return self._run(self._inner.finish())

    def cancel(self) -> None:
        """Ends the generation; the answer's reason is "cancelled", its text what there is."""
        self._run(self._inner.cancel())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with contextlib.suppress(NotRunning):
            self._run(self._inner.__aexit__(kind, error, trace))


class Conversation:
    """Turns after a pool's text, kept by the client and by one agent, which does not compute again
    what it still has (`Answer.reused_tokens`). Nothing is committed unless asked.

    `version` and `agent` are those of the first answer; set `version` to None to go on on the
    current one. If the agent is lost, the next turn goes to any other: no word is lost with it.
    """

    def __init__(self, pool: Pool, inner: AsyncConversation) -> None:
        """Use `Pool.conversation`."""
        self.pool = pool
        self._inner = inner

    @property
    def messages(self) -> list[Message]:
        """What was said since the last commit."""
        return self._inner.messages

    @property
    def last(self) -> Answer | None:
        return self._inner.last

    @property
    def agent(self) -> str | None:
        return self._inner.agent

    @agent.setter
    def agent(self, agent: str | None) -> None:
        self._inner.agent = agent

    @property
    def version(self) -> int | None:
        return self._inner.version

    @version.setter
    def version(self, version: int | None) -> None:
        self._inner.version = version

    def say(self, content: str, *, on_text: Callable[[str], None] | None = None,
            **options: Unpack[Options]) -> Answer:
        """One turn. If it fails or is cancelled, the conversation is as before."""
        return self.pool._run(self._inner.say(content, on_text=on_text, **options))

    def commit(self) -> Committed:
        """Makes all turns since the last commit part of the pool and goes on after them."""
        return self.pool._run(self._inner.commit())


async def _nothing() -> None:
    return None


async def _closed(events: Any) -> None:
    await events.aclose()
