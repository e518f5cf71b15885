"""The runtime's `fd` socket: requests that carry a text in sealed memory, one packet each."""

import array
import asyncio
import fcntl
import os
import socket
from collections.abc import Callable

from .errors import NotRunning, PathTooLong, PolykvError

_PACKET_BYTES_MAX = 64 * 1024
_FDS_MAX = 253  # the kernel's SCM_MAX_FD
_PATH_MAX = 107  # bytes of a Unix socket's address
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def sealed(data: bytes) -> int:
    """A descriptor of memory that holds these bytes and that nobody can change any more."""
    fd = os.memfd_create("polykv-text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest):]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def connect(path: str, kind: socket.SocketKind) -> socket.socket:
    """A connection to a socket file of the runtime; says so if nobody listens there."""
    if len(os.fsencode(path)) > _PATH_MAX:
        raise PathTooLong(f"the socket path {path} takes {len(os.fsencode(path))} bytes, at most "
                          f"{_PATH_MAX} fit: choose a shorter runtime directory", value=path,
                          limit=str(_PATH_MAX))
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise NotRunning(f"no runtime listens at {path} ({error.strerror}): start one with "
                         "'polykv up'", value=path) from error
    return connection


class MemoryLink:
    """One connection to `fd`, read on the loop. `on_packet` gets each packet, `on_end` the end."""

    def __init__(self, path: str, on_packet: Callable[[bytes], None],
                 on_end: Callable[[PolykvError], None]) -> None:
        self._socket = connect(path, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)
        self._on_packet, self._on_end = on_packet, on_end
        self.is_open = True

    async def send(self, packet: bytes, data: bytes) -> None:
        """A request and the memory that goes with it."""
        fd = sealed(data)
        try:
            while True:
                try:
                    socket.send_fds(self._socket, [packet], [fd])
                    return
                except BlockingIOError:
                    await self._writable()
        except OSError as error:
            raise NotRunning(f"the runtime took no memory: {error.strerror}") from error
        finally:
            os.close(fd)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket)
            self._socket.close()

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        try:
            packet, ancillary, _, _ = self._socket.recvmsg(
                _PACKET_BYTES_MAX, socket.CMSG_SPACE(_FDS_MAX * 4))
        except BlockingIOError:
            return
        except OSError:
            packet, ancillary = b"", []
        for _, _, data in ancillary:  # no answer that a client asks for brings any
            for fd in array.array("i", data[:len(data) - len(data) % 4]):
                os.close(fd)
        if packet:
            self._on_packet(packet)
        else:
            self.close()
            self._on_end(NotRunning("the runtime closed the connection for memory"))
