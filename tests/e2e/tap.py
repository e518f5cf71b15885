"""A runtime directory that passes everything on to the real one and keeps a copy of it all."""

import array
import json
import pathlib
import socket
import threading

import zmq

_FDS_MAX = 253


class Tap:
    """`ctl`, `bus` and `fd` in a directory of their own, each message in `seen` as (way, message).
    Ways: ">" to the runtime, "<" from it."""

    def __init__(self, directory, runtime):
        self.directory, self.runtime = pathlib.Path(directory), pathlib.Path(runtime)
        self.seen = []
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.directory / "fd"))
        self._listener.listen()
        ready = threading.Event()
        self._threads = [threading.Thread(target=self._pass_frames, args=(ready,), daemon=True),
                         threading.Thread(target=self._accept, daemon=True)]
        for thread in self._threads:
            thread.start()
        ready.wait()

    def close(self):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def types(self, way):
        return {message["type"] for seen_way, message in self.seen if seen_way == way}

    def _keep(self, way, frame):
        self.seen.append((way, json.loads(frame)))

    def _pass_frames(self, ready):
        front, below = self._context.socket(zmq.ROUTER), {}
        front.bind(f"ipc://{self.directory}/ctl")
        bus, listeners = self._context.socket(zmq.SUB), self._context.socket(zmq.XPUB)
        listeners.bind(f"ipc://{self.directory}/bus")
        bus.setsockopt(zmq.SUBSCRIBE, b"")
        bus.connect(f"ipc://{self.runtime}/bus")
        poller = zmq.Poller()
        for one in (front, bus, listeners):
            poller.register(one, zmq.POLLIN)
        ready.set()
        while not self._stop.is_set():
            for one, _ in poller.poll(50):  # ms, to look for the end
                frames = one.recv_multipart()
                if one is listeners:
                    continue
                self._keep(">" if one is front else "<", frames[-1])
                if one is front:
                    self._below(below, frames[0], poller).send(frames[1])
                elif one is bus:
                    listeners.send_multipart(frames)
                else:
                    front.send_multipart([one.getsockopt(zmq.IDENTITY), frames[-1]])
        self._context.destroy(0)

    def _below(self, below, client, poller):
        if client not in below:
            below[client] = self._context.socket(zmq.DEALER)
            below[client].setsockopt(zmq.IDENTITY, client)
            below[client].connect(f"ipc://{self.runtime}/ctl")
            poller.register(below[client], zmq.POLLIN)
        return below[client]

    def _accept(self):
        while True:
            try:
                above, _ = self._listener.accept()
            except OSError:
                return
            below = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            below.connect(str(self.runtime / "fd"))
            for way, source, target in ((">", above, below), ("<", below, above)):
                threading.Thread(target=self._pass_packets, args=(way, source, target),
                                 daemon=True).start()

    def _pass_packets(self, way, source, target):
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(source, 1 << 16, _FDS_MAX)
            except OSError:
                break
            if not packet:
                break
            self._keep(way, packet)
            with _closing(fds):
                try:
                    socket.send_fds(target, [packet], fds)
                except OSError:
                    break
        for end in (source, target):  # the end of either is the end of both
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _closing:
    """Descriptors that are ours only while they are passed on."""

    def __init__(self, fds):
        self._fds = array.array("i", fds)

    def __enter__(self):
        return self._fds

    def __exit__(self, *_):
        for fd in self._fds:
            socket.close(fd)
