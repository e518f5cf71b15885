"""The runtime's `fd` socket from a test: leases and requests with memory, packet by packet."""

import array
import fcntl
import json
import math
import os
import socket

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def memory_of(data):
    """A descriptor of sealed memory with these bytes."""
    fd = os.memfd_create("polykv-test", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def bytes_of(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0)


class Link:
    """One connection; `ask` returns the answer and its descriptors, which close() closes."""

    def __init__(self, runtime, timeout_s):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(timeout_s)
        self.socket.connect(str(runtime / "fd"))
        self.fds = []

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)

    def ask(self, message, data=None):
        fd = None if data is None else memory_of(data)
        packet = json.dumps({"v": 1, "id": "1", **message}).encode()
        socket.send_fds(self.socket, [packet], [] if fd is None else [fd])
        if fd is not None:
            os.close(fd)
        while True:
            packet, fds, _, _ = socket.recv_fds(self.socket, 65536, 253)
            self.fds += fds
            answer = json.loads(packet)
            if answer["type"] != "progress":
                return answer, fds

    def attach(self, pool, version=0):
        """A lease: the descriptors of the segments, in order."""
        answer, fds = self.ask({"type": "attach", "agent": "a-test", "pool": pool,
                                "version": version})
        assert answer["type"] == "granted", answer
        return fds[2:]  # after image and manifest

    def tokenize(self, text):
        answer, fds = self.ask({"type": "tokenize", "job": "0", "form": "raw"}, text.encode())
        assert answer["type"] == "tokens", answer
        return array.array("I", bytes_of(fds[0]))

    def score(self, agent, tokens):
        """What the agent predicts after each of these tokens: log-probabilities, row by row."""
        answer, fds = self.ask({"type": "score", "agent": agent}, tokens.tobytes())
        assert answer["type"] == "scores", answer
        logits = array.array("f", bytes_of(fds[0]))
        width = answer["vocab"]
        return [log_softmax(logits[at:at + width]) for at in range(0, len(logits), width)]


def log_softmax(row):
    highest = max(row)
    total = math.log(sum(math.exp(x - highest) for x in row)) + highest
    return [x - total for x in row]


def divergences(ours, theirs):
    """KL(theirs || ours) of each row, ascending."""
    return sorted(sum(math.exp(p) * (p - q) for p, q in zip(a, b)) for a, b in zip(theirs, ours))


def median(values):
    return sorted(values)[len(values) // 2]
