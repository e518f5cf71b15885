"""The client for asyncio. One loop owns a client; any of its tasks may call it, several at once."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from . import _protocol as protocol
from ._protocol import Message, Options
from ._transport import Bus, Exchange, Transport
from .errors import AgentLost, PolykvError, TimedOut
from .values import (Answer, Committed, Event, GroupAnswer, GroupStarted, Member, PoolDropped,
                     PoolReady, PoolStatus, Progress, Snapshot, event_of, read)

OnProgress = Callable[[Progress], None]
Path = str | os.PathLike[str]


class AsyncClient:
    """A connection to a running polykv: `async with await AsyncClient.connect() as client`."""

    def __init__(self, transport: Transport) -> None:
        """Use `connect`."""
        self._transport = transport
        self.pid = 0  # of the runtime
        self.version = ""  # its release

    @classmethod
    async def connect(cls, runtime: Path | None = None, *, timeout: float = 10.0) -> Self:
        """Connects to the runtime directory, by default where `polykv up` is. NotRunning if nobody
        is there, ProtocolVersion if it speaks another version, TimedOut if it says nothing."""
        path = os.fspath(runtime) if runtime is not None else protocol.default_runtime()
        client = cls(Transport(os.path.abspath(path)))
        try:
            welcome = await client._call(protocol.request("hello", client="python"), "welcome",
                                         wait=timeout)
        except BaseException:
            await client.close()
            raise
        client.pid, client.version = welcome["runtime"], welcome["version"]
        return client

    @property
    def runtime(self) -> str:
        """The runtime directory."""
        return self._transport.runtime

    async def close(self) -> None:
        """Ends the connection. What it still waits for is cancelled in the runtime, too."""
        self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    def pool(self, name: str = "main", model: str | None = None) -> "AsyncPool":
        """A handle on a pool; nothing is sent, and the pool need not be there yet."""
        return AsyncPool(self, name, model)

    async def create_pool(self, name: str, *, text: str | None = None, path: Path | None = None,
                          codec: str = "k4v4", model: str | None = None, role: str | None = None,
                          reserve: int | None = None, ttl: int | None = None,
                          deadline: float | None = None,
                          on_progress: OnProgress | None = None) -> "AsyncPool":
        """Prefills a text of any length, or the file at `path`, into a new pool. The handle's
        `ready` is its first version. `reserve` positions are left free for prompt and answer;
        `ttl` seconds after its last use the pool is dropped."""
        pool = self.pool(name, model)
        fields = {"codec": codec, "role": role, "reserve": reserve, "ttl_seconds": ttl,
                  "deadline_seconds": deadline}
        pool.ready = await pool._write("pool_create", text, path, fields, on_progress)
        return pool

    async def stop_agents(self, agent: str | None = None) -> None:
        """Ends one agent, or all."""
        await self._call(protocol.request("agents_stop", agent=agent), "ok")

    async def commit(self, turn: Answer | str, *, deadline: float | None = None) -> Committed:
        """Makes the prompt and answer of an own finished request (or its id) the next version of
        its pool, without a prefill. Conflict if that is too late: then append the text."""
        name = turn if isinstance(turn, str) else turn.request
        message = protocol.request("commit", request=name, deadline_seconds=deadline)
        return read(Committed, await self._call(message, "committed"))

    async def cancel(self, request: str) -> None:
        """Ends an own request by its id; whoever waits for it hears of it there."""
        await self._call(protocol.request("cancel", request=request), "ok")

    async def status(self) -> Snapshot:
        """Pools, versions, agents, models, bytes, at this moment."""
        return read(Snapshot, await self._call(protocol.request("status"), "snapshot"))

    async def shutdown(self) -> None:
        """Ends the runtime and all its processes."""
        await self._call(protocol.request("shutdown"), "ok")

    async def events(self, *topics: str,
                     timeout: float | None = None) -> AsyncGenerator[Snapshot | Event, None]:
        """First a snapshot, then whatever happens after it, in order; a new snapshot wherever
        events were lost. Topics: "pool", "agent" (both without any), "token". Ends when nothing
        came for `timeout` seconds."""
        order = protocol.EventOrder(topics or ("pool", "agent"))
        bus = self._transport.subscribe(topics or ("pool", "agent"))
        try:
            await self._or_end(bus.connected(), protocol.ANSWER_S)
            yield await self._start(order)
            while (event := await self._next_event(bus, timeout)) is not None:
                news = order.take(event[0], event[1])
                if news is None:
                    yield await self._start(order)
                elif news:
                    yield event_of(event[1])
        finally:
            bus.close()

    async def _start(self, order: protocol.EventOrder) -> Snapshot:
        message = await self._call(protocol.request("status"), "snapshot")
        order.start(message)
        return read(Snapshot, message)

    async def _next_event(self, bus: Bus, timeout: float | None) -> tuple[str, Message] | None:
        try:
            event: tuple[str, Message] = await self._or_end(bus.next(), timeout)
            return event
        except TimedOut:
            return None

    async def _or_end(self, awaitable: Any, timeout: float | None) -> Any:
        """The result, TimedOut, or the failure if the connection ends first."""
        task = asyncio.ensure_future(awaitable)
        ended = asyncio.create_task(self._transport.ended.wait())
        try:
            await asyncio.wait((task, ended), timeout=timeout,
                               return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self._transport.failure or TimedOut("nothing came", limit=f"{timeout} s")
        finally:
            task.cancel()
            ended.cancel()

    async def _call(self, message: Message, *types: str, memory: bytes | None = None,
                    on_part: Callable[[Message], None] | None = None,
                    wait: float | None = None) -> Message:
        """The last answer to a request. Whoever stops waiting cancels it."""
        exchange = await self._transport.open(message, memory)
        try:
            async with _answer_within(message, wait):
                while True:
                    answer = await exchange.next()
                    if exchange.ended:
                        return protocol.expect(answer, *types)
                    if on_part is not None:
                        on_part(answer)
        finally:
            exchange.abandon()


class AsyncPool:
    """A handle on a pool: its name and model, and what can be done with it."""

    def __init__(self, client: AsyncClient, name: str, model: str | None) -> None:
        """Use `AsyncClient.pool` or `create_pool`."""
        self.client = client
        self.name = name
        self.model = model
        self.ready: PoolReady | None = None  # its first version, where this handle made the pool

    @property
    def _fields(self) -> Message:
        named = {} if self.model is None else {"model": self.model}
        return {"pool": self.name, **named}

    async def append(self, text: str | None = None, *, path: Path | None = None,
                     role: str | None = None, reserve: int | None = None,
                     deadline: float | None = None,
                     on_progress: OnProgress | None = None) -> PoolReady:
        """A new version: the current one and this text. Only the text is prefilled."""
        fields = {"role": role, "reserve": reserve, "deadline_seconds": deadline}
        return await self._write("append", text, path, fields, on_progress)

    async def fork(self, to: str, *, version: int | None = None,
                   ttl: int | None = None) -> "AsyncPool":
        """A new pool with the segments of a version of this one: nothing is copied."""
        message = protocol.request("pool_fork", **self._fields, to=to, version=version,
                                   ttl_seconds=ttl)
        pool = self.client.pool(to, self.model)
        pool.ready = read(PoolReady, await self.client._call(message, "pool_ready"))
        return pool

    async def drop(self) -> PoolDropped:
        """Takes the pool off the list; who still answers from it may finish."""
        message = protocol.request("pool_drop", **self._fields)
        return read(PoolDropped, await self.client._call(message, "pool_dropped"))

    async def pin(self, version: int | None = None, *, ttl: int | None = None) -> int:
        """Keeps a version (the current one) although newer ones come; returns its number."""
        message = protocol.request("pool_pin", **self._fields, version=version, ttl_seconds=ttl)
        return int((await self.client._call(message, "ok"))["version"])

    async def unpin(self, version: int) -> int:
        """Lets a pinned version go."""
        message = protocol.request("pool_unpin", **self._fields, version=version)
        return int((await self.client._call(message, "ok"))["version"])

    async def status(self) -> PoolStatus | None:
        """The pool as the runtime sees it, or None if it is not there."""
        return (await self.client.status()).pool(self.name, self.model)

    async def start_agents(self, count: int = 1, *, version: int | None = None,
                           deadline: float | None = None,
                           on_progress: OnProgress | None = None) -> list[str]:
        """Starts agents on a version of this pool; returns their names when all are ready."""
        message = protocol.request("agents_start", **self._fields, count=count, version=version,
                                   deadline_seconds=deadline)
        answer = await self.client._call(message, "ok", on_part=_progress(on_progress))
        return list(answer.get("agents", []))

    async def ask(self, prompt: str | None = None, *, messages: Sequence[Message] | None = None,
                  **options: Unpack[Options]) -> Answer:
        """One generation: `prompt`, or `messages` as {"role": …, "content": …}, after the text of
        the pool. The names of the options are the protocol's."""
        message = protocol.generate(self._fields, prompt, messages, options)
        logprobs = protocol.Logprobs()
        return logprobs.answer(await self.client._call(message, "done", on_part=logprobs.take))

    async def stream(self, prompt: str | None = None, *,
                     messages: Sequence[Message] | None = None,
                     **options: Unpack[Options]) -> "AsyncStream":
        """The same, piece by piece as it is generated."""
        message = protocol.generate(self._fields, prompt, messages, options)
        return AsyncStream(self.client, message, await self.client._transport.open(message))

    async def group(self, members: Iterable[str | Member], *,
                    on_start: Callable[[GroupStarted], None] | None = None,
                    on_text: Callable[[int, str], None] | None = None,
                    **options: Unpack[Options]) -> GroupAnswer:
        """All members at once on one version, each on an agent of its own, or none of them.
        `on_text` gets each piece of text with the number of its member."""
        message = protocol.group_generate(self._fields, members, options)
        parts = protocol.GroupParts(len(message["members"]))

        def take(part: Message) -> None:
            parts.take(part)
            if part["type"] == "group_started" and on_start is not None:
                on_start(read(GroupStarted, part))
            if part["type"] == "token" and on_text is not None:
                on_text(part["member"], part["text"])

        done = await self.client._call(message, "group_done", on_part=take)
        return parts.result(done)

    def conversation(self, *, agent: str | None = None,
                     version: int | None = None) -> "AsyncConversation":
        """A conversation after the pool's text; what is said stays private to it."""
        return AsyncConversation(self, agent, version)

    async def _write(self, type_: str, text: str | None, path: Path | None, fields: Message,
                     on_progress: OnProgress | None) -> PoolReady:
        memory = protocol.text_bytes(text, path)
        message = protocol.request(type_, **self._fields, **fields,
                                   text=text if memory is None else None,
                                   path=None if path is None else os.path.abspath(path))
        return read(PoolReady, await self.client._call(
            message, "pool_ready", memory=memory, on_part=_progress(on_progress)))


class AsyncStream:
    """Text as it is generated: `async for piece in stream`; then `answer` is there. As a context
    manager it cancels what has not ended when it is left."""

    def __init__(self, client: AsyncClient, message: Message, exchange: Exchange) -> None:
        """Use `AsyncPool.stream`."""
        self.request = exchange.request
        self._client, self._message, self._exchange = client, message, exchange
        self._logprobs = protocol.Logprobs()
        self._answer: Answer | PolykvError | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer, once the text has come to its end."""
        if self._answer is None:
            raise RuntimeError("the stream has not come to its end: iterate, or call finish()")
        if isinstance(self._answer, PolykvError):
            raise self._answer
        return self._answer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._exchange.ended:
            raise StopAsyncIteration
        try:
            async with _answer_within(self._message, None):
                part = protocol.expect(await self._exchange.next(), "token", "done")
        except PolykvError as error:
            self._answer = error
            raise
        if not self._exchange.ended:
            self._logprobs.take(part)
            return str(part["text"])
        self._answer = self._logprobs.answer(part)
        raise StopAsyncIteration

    async def finish(self) -> Answer:
        """Waits for the end."""
        async for _ in self:
            pass
        return self.answer

    async def cancel(self) -> None:
        """Ends the generation; the answer's reason is "cancelled", its text what there is."""
        if not self._exchange.ended:
            await self._client.cancel(self.request)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self._exchange.abandon()


class AsyncConversation:
    """Turns after a pool's text, kept by the client and by one agent, which does not compute again
    what it still has (`Answer.reused_tokens`). Nothing is committed unless asked.

    `version` and `agent` are those of the first answer; set `version` to None to go on on the
    current one. If the agent is lost, the next turn goes to any other: no word is lost with it.
    """

    def __init__(self, pool: AsyncPool, agent: str | None, version: int | None) -> None:
        """Use `AsyncPool.conversation`."""
        self.pool = pool
        self.agent = agent
        self.version = version
        self.messages: list[Message] = []
        self.last: Answer | None = None

    async def say(self, content: str, *, on_text: Callable[[str], None] | None = None,
                  **options: Unpack[Options]) -> Answer:
        """One turn. If it fails or is cancelled, the conversation is as before."""
        messages = [*self.messages, {"role": "user", "content": content}]
        if self.agent is not None:
            options.setdefault("agent", self.agent)
        if self.version is not None and "at_least" not in options:
            options.setdefault("version", self.version)
        try:
            async with await self.pool.stream(messages=messages, **options) as stream:
                async for piece in stream:
                    if on_text is not None:
                        on_text(piece)
        except AgentLost:
            self.agent = None
            raise
        answer = stream.answer
        if answer.reason != "cancelled":
            self.messages = [*messages, {"role": "assistant", "content": answer.text}]
            self.last, self.agent, self.version = answer, answer.agent, answer.version
        return answer

    async def commit(self) -> Committed:
        """Makes all turns since the last commit part of the pool and goes on after them."""
        if self.last is None or not self.messages:
            raise RuntimeError("nothing was said since the last commit")
        done = await self.pool.client.commit(self.last)
        self.messages, self.last, self.version = [], None, done.version
        return done


def _progress(on_progress: OnProgress | None) -> Callable[[Message], None]:
    def take(part: Message) -> None:
        if part["type"] == "progress" and on_progress is not None:
            on_progress(read(Progress, part))
    return take


@contextlib.asynccontextmanager
async def _answer_within(message: Message, wait: float | None) -> AsyncIterator[None]:
    """TimedOut if a runtime that lives says nothing for so long."""
    limit = protocol.seconds_to_wait(message) if wait is None else wait
    timer = asyncio.timeout(limit)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise TimedOut(f"the runtime did not answer '{message['type']}' within {limit:g} s: "
                       "it hangs", limit=f"{limit:g} s") from error
