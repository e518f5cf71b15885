"""Requests that carry sealed memory both ways: token ids and logits (docs/protocol.md)."""

import array
import json
import mmap
import os
import socket

from polykv import _memory

from . import CompareError

_FDS = 16


class MemoryRequests:
    """A blocking connection to a runtime's `fd` socket, one request at a time."""

    def __init__(self, runtime):
        self._socket = _memory.connect(str(runtime / "fd"), socket.SOCK_SEQPACKET)
        self._next = 0

    def close(self):
        self._socket.close()

    def ask(self, message, data, answers=1):
        """[(answer, memory or None)] of a request."""
        self._next += 1
        packet = json.dumps({"v": 1, "id": f"m{self._next}", **message}).encode()
        fd = _memory.sealed(data)
        try:
            socket.send_fds(self._socket, [packet], [fd])
        finally:
            os.close(fd)
        found = []
        while len(found) < answers:
            answer, memory = self._receive()
            if answer["type"] == "error":
                raise CompareError(f"polykv refused '{message['type']}': {answer['message']}")
            if answer["type"] != "progress":
                found.append((answer, memory))
        return found

    def _receive(self):
        packet, fds, _, _ = socket.recv_fds(self._socket, 64 * 1024, _FDS)
        if not packet:
            raise CompareError("polykv closed the connection for memory")
        memory = None
        for fd in fds:
            size = os.fstat(fd).st_size
            if size:
                memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
            os.close(fd)
        return json.loads(packet), memory

    def tokenise(self, text, form):
        """Token ids of a text: as a "document", a "question", or "raw"."""
        request = {"type": "tokenize", "job": "0", "form": form}
        (_, memory), = self.ask(request, text.encode())
        return array.array("I", memory[:] if memory else b"").tolist()

    def prefill(self, pool, tokens, codecs):
        """Pools `pool`-`codec` of these token ids, each from the same prefill."""
        request = {"type": "prefill", "job": "0", "pool": pool, "codecs": list(codecs)}
        self.ask(request, array.array("I", tokens).tobytes(), len(codecs))

    def score(self, agent, tokens):
        """(memory of logits [tokens, vocabulary] f32, vocabulary)."""
        request = {"type": "score", "agent": agent}
        (answer, memory), = self.ask(request, array.array("I", tokens).tobytes())
        return memory, answer["vocab"]
