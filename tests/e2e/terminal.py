"""A program on a terminal, for tests of what people see there."""

import fcntl
import os
import pty
import struct
import subprocess
import termios


class Terminal:
    """A program on a terminal of its own; what it wrote so far is `text`."""

    def __init__(self, words, columns=100, rows=40):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.set_blocking(ours, False)
        self.ours, self.bytes = ours, b""

    @property
    def text(self):
        while True:
            try:
                more = os.read(self.ours, 65536)
            except (BlockingIOError, OSError):  # nothing yet; or the program has ended
                more = b""
            if not more:
                return self.bytes.decode(errors="replace")
            self.bytes += more

    def type(self, line):
        os.write(self.ours, line.encode() + b"\n")

    def screens(self):
        return self.text.split("\033[H")[1:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
