"""The sockets of one connection on an asyncio loop, and its requests by id."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import zmq

from . import _protocol as protocol
from ._memory import MemoryLink, connect
from .errors import NotRunning, PolykvError, TimedOut, error_of

Message = protocol.Message

_LINGER_MS = 200  # for the last words at close
_QUEUED = 1000  # messages that may wait in a socket, as in the runtime


class _Inbox:
    """Hands each message that a ZeroMQ socket receives to a function, on the loop.

    ZeroMQ's own descriptor is edge-triggered, and a send may swallow its edge: so `drain` is called
    after every send, too.
    """

    def __init__(self, inner: Any, on_message: Callable[[list[bytes]], None]) -> None:
        self._inner, self._on_message = inner, on_message
        self._loop = asyncio.get_running_loop()
        self._fd: int = inner.getsockopt(zmq.FD)
        self._loop.add_reader(self._fd, self.drain)
        self._loop.call_soon(self.drain)

    def drain(self) -> None:
        while not self._inner.closed and self._inner.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._on_message(self._inner.recv_multipart(zmq.NOBLOCK))

    def send(self, frame: bytes) -> None:
        try:
            self._inner.send(frame, zmq.NOBLOCK)
        except zmq.Again as error:
            raise TimedOut(f"{_QUEUED} messages wait for the runtime: it hangs",
                           limit=str(_QUEUED)) from error
        self._loop.call_soon(self.drain)

    def close(self, linger_ms: int = 0) -> None:
        if not self._inner.closed:
            self._loop.remove_reader(self._fd)
            self._inner.close(linger_ms)


class Exchange:
    """One request under way: its answers, in order."""

    def __init__(self, transport: "Transport", message: Message, by_memory: bool) -> None:
        self.request: str = message["id"]
        self.of_group = message["type"] == "group_generate"
        self.by_memory = by_memory
        self.ended = False
        self._transport = transport
        self._arrived: asyncio.Queue[Message | PolykvError] = asyncio.Queue()

    def put(self, message: Message | PolykvError) -> None:
        self._arrived.put_nowait(message)

    async def next(self) -> Message:
        """The next answer; raises the error that ended the request or the connection."""
        message = await self._arrived.get()
        if isinstance(message, PolykvError):
            self.finish()
            raise message
        if protocol.is_last(message, of_group=self.of_group):
            self.finish()
            if message["type"] == "error":
                raise error_of(message)
        return message

    def finish(self) -> None:
        self.ended = True
        self._transport.forget(self.request)

    def abandon(self) -> None:
        """Whoever asked has gone: the runtime stops the work, and nobody waits for its answer."""
        if not self.ended:
            self.finish()
            self._transport.post(protocol.request("cancel", request=self.request))


class Bus:
    """A subscription. Events that nobody takes in time are dropped, as the bus does anyway."""

    def __init__(self, inner: Any, monitor: Any) -> None:
        self._events: asyncio.Queue[tuple[str, Message]] = asyncio.Queue(_QUEUED)
        self._inbox = _Inbox(inner, self._take)
        self._connected = asyncio.Event()
        self._monitor = _Inbox(monitor, lambda _: self._connected.set())

    async def connected(self) -> None:
        """Returns when a snapshot that is asked for now comes after the subscription."""
        await self._connected.wait()
        self._monitor.close()

    async def next(self) -> tuple[str, Message]:
        """Topic and event."""
        return await self._events.get()

    def close(self) -> None:
        self._monitor.close()
        self._inbox.close()

    def _take(self, frames: list[bytes]) -> None:
        if not self._events.full():
            self._events.put_nowait((frames[0].decode(), protocol.decode(frames[-1])))


class Transport:
    """`ctl`, watched for the runtime's end, and `fd` once a long text needs it."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.failure: PolykvError | None = None  # why the connection has ended
        self.ended = asyncio.Event()
        self._exchanges: dict[str, Exchange] = {}
        self._numbers = 0
        self._link: MemoryLink | None = None
        self._buses: list[Bus] = []
        connect(runtime + "/ctl", socket.SOCK_STREAM).close()  # a stale file would look alive
        self._context = zmq.Context()
        dealer = self._socket(zmq.DEALER)
        dealer.setsockopt_string(zmq.IDENTITY, protocol.new_identity())
        # libzmq would connect again, and repeat old requests to a new runtime: the end is the end.
        monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        dealer.connect(f"ipc://{runtime}/ctl")
        self._control = _Inbox(dealer, lambda frames: self._route(frames[-1]))
        self._watch = _Inbox(monitor, lambda _: self._disconnected())

    def _socket(self, kind: int) -> Any:
        made = self._context.socket(kind)
        made.setsockopt(zmq.SNDHWM, _QUEUED)
        made.setsockopt(zmq.RCVHWM, _QUEUED)
        return made

    def subscribe(self, topics: tuple[str, ...]) -> Bus:
        self._check_open()
        inner = self._socket(zmq.SUB)
        for topic in topics:
            inner.setsockopt_string(zmq.SUBSCRIBE, topic)
        bus = Bus(inner, inner.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED))
        inner.connect(f"ipc://{self.runtime}/bus")
        self._buses.append(bus)
        return bus

    async def open(self, message: Message, memory: bytes | None = None) -> Exchange:
        """Sends a request under an id of its own, with the text in `memory` if there is one."""
        self._check_open()
        self._numbers += 1
        message = {**message, "id": f"r{self._numbers}"}
        frame = protocol.encode(message)
        exchange = Exchange(self, message, memory is not None)
        self._exchanges[exchange.request] = exchange
        try:
            if memory is None:
                self._control.send(frame)
            else:
                await self._memory_link().send(frame, memory)
        except BaseException:
            exchange.finish()
            raise
        return exchange

    def post(self, message: Message) -> None:
        """Sends what nobody waits for; it is lost if the runtime has gone."""
        if self.failure is None:
            self._numbers += 1
            self._control.send(protocol.encode({**message, "id": f"r{self._numbers}"}))

    def forget(self, request: str) -> None:
        self._exchanges.pop(request, None)

    def close(self) -> None:
        """Ends the connection. What is under way fails here and is cancelled there."""
        if self.failure is None:
            for exchange in list(self._exchanges.values()):
                exchange.put(NotRunning("the client was closed"))
                exchange.abandon()
        self._end(NotRunning("the client was closed"))
        self._watch.close()
        for bus in self._buses:
            bus.close()
        self._control.close(_LINGER_MS)
        self._context.destroy()

    def _check_open(self) -> None:
        if self.failure is not None:
            raise type(self.failure)(self.failure.message + ": connect again")

    def _memory_link(self) -> MemoryLink:
        if self._link is None or not self._link.is_open:
            self._link = MemoryLink(self.runtime + "/fd", self._route, self._link_ended)
        return self._link

    def _disconnected(self) -> None:
        self._control.drain()  # what it said last has arrived before its end
        self._end(NotRunning("the runtime closed the connection: it ended or was killed"))
        self._control.close()

    def _route(self, frame: bytes) -> None:
        try:
            message = protocol.decode(frame)
        except PolykvError as error:
            return self._end(error)
        exchange = self._exchanges.get(message.get("id", ""))
        if exchange is not None:
            exchange.put(message)
        elif message["type"] == "error" and "id" not in message:
            self._end(error_of(message))  # it could not even read whose request it was

    def _link_ended(self, failure: PolykvError) -> None:
        for exchange in list(self._exchanges.values()):
            if exchange.by_memory:
                exchange.put(failure)

    def _end(self, failure: PolykvError) -> None:
        if self.failure is not None:
            return
        self.failure = failure
        self.ended.set()
        if self._link is not None:
            self._link.close()
        for exchange in list(self._exchanges.values()):
            exchange.put(failure)
