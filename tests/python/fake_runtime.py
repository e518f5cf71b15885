"""A runtime whose answers a test writes down: three sockets, and a script for a supervisor."""

import fcntl
import json
import pathlib
import queue
import socket
import threading

import golden
import zmq


class FakeRuntime:
    """Answers each request as `script[type](request)` says: messages to send, in order, each a pair
    (type, fields). What the script does not know is answered with an error. None, to a request over
    `fd`, hangs up."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.seen = []  # every request, in order
        self.memories = []  # bytes that came with requests over `fd`
        self.seals = []  # and the seals of each
        self.script = {
            "hello": lambda _: [("welcome", {})],
            "status": lambda _: [("snapshot", {})],
            "cancel": lambda _: [("ok", {})],
        }
        self._orders = queue.SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait()

    def send(self, client, name, **fields):
        """A message to a client that has asked something before (`request["client_"]`)."""
        message = golden.message(name, **fields)
        self._orders.put(lambda: self._control.send_multipart([client, encode(message)]))

    def send_raw(self, client, frame):
        self._orders.put(lambda: self._control.send_multipart([client, frame]))

    def publish(self, topic, name, **fields):
        frames = [topic.encode(), encode(golden.message(name, **fields))]
        self._orders.put(lambda: self._bus.send_multipart(frames))

    def die(self):
        """Closes everything at once, as the kernel does for a killed process."""
        self._orders.put(None)
        self._thread.join()

    def requests(self, name):
        return [request for request in self.seen if request["type"] == name]

    def _serve(self):
        context = zmq.Context()
        self._control, self._bus = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
        self._control.bind(f"ipc://{self.directory}/ctl")
        self._bus.bind(f"ipc://{self.directory}/bus")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.directory / "fd"))
        self._listener.listen()
        self._links = {}
        self._poller = zmq.Poller()
        self._poller.register(self._control, zmq.POLLIN)
        self._poller.register(self._bus, zmq.POLLIN)
        self._poller.register(self._listener.fileno(), zmq.POLLIN)
        self._ready.set()
        while self._turn():
            pass
        for link in self._links.values():
            link.close()
        self._listener.close()
        context.destroy(10_000)  # ms: what was sent arrives

    def _turn(self):
        for place, _ in self._poller.poll(10):  # ms: then the test's orders
            if place is self._control:
                client, frame = self._control.recv_multipart()
                self._answer(json.loads(frame), client)
            elif place is self._bus:
                self._bus.recv()
            elif place == self._listener.fileno():
                link, _ = self._listener.accept()
                self._links[link.fileno()] = link
                self._poller.register(link.fileno(), zmq.POLLIN)
            else:
                self._receive_memory(place)
        while not self._orders.empty():
            order = self._orders.get()
            if order is None:
                return False
            order()
        return True

    def _receive_memory(self, place):
        packet, fds, _, _ = socket.recv_fds(self._links[place], 65536, 4)
        if not packet:
            self._poller.unregister(place)
            self._links.pop(place).close()
            return
        with open(fds[0], "rb") as memory:
            memory.seek(0)
            self.seals.append(fcntl.fcntl(memory, fcntl.F_GET_SEALS))
            self.memories.append(memory.read())
        request = json.loads(packet)
        self.seen.append(request)
        answers = self.script[request["type"]](request)
        if answers is None:  # hangs up
            self._poller.unregister(place)
            self._links.pop(place).close()
            return
        for name, fields in answers:
            self._links[place].send(encode(golden.message(name, **{"id": request["id"], **fields})))

    def _answer(self, request, client):
        self.seen.append({**request, "client_": client})
        refuse = [("error", {"code": "bad_message", "message": "not in the script"})]
        script = self.script.get(request["type"], lambda _: refuse)
        for name, fields in script({**request, "client_": client}):
            message = golden.message(name, **{"id": request["id"], **fields})
            self._control.send_multipart([client, encode(message)])


def encode(message):
    return json.dumps(message).encode()
