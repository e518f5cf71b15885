"""Agents and writers that no supervisor started: from another shell, from a container."""

import os
import pathlib
import shutil
import signal
import subprocess

import harness

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]


def namespaces_refused():
    """Why a process may not have namespaces of its own here; '' if it may."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"unshare: {tried.stderr.strip()}"


def pids_of_program(name, directory):
    """Of the processes of a runtime that are this program, as this test sees them."""
    return [pid for pid in harness.processes_of(directory)
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name]


class HandCase(harness.Case):

    def by_hand(self, words):
        process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process


class AgentByHand(HandCase):

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=2000), "--agents", 1)

    def agent(self, name="hand"):
        found = [agent for agent in self.status()["agents"] if agent["agent"] == name]
        return found[0] if found else None

    def words(self, runtime, name="hand"):
        return [harness.PROGRAMS / "polykv-agent", "--runtime", runtime, "--agent", name,
                "--pool", "main"]

    def expect_service(self, known_pid):
        """It answers as every agent, is shown with its pid, and its death is noticed."""
        self.assertEqual(self.agent()["pid"], known_pid)
        self.assertGreater(self.agent()["private_bytes"], 0, "the memory of that very process")
        mine = self.ask("What is this?", "--agent", "hand", "--max-tokens", "6")
        theirs = self.ask("What is this?", "--agent", "a01", "--max-tokens", "6")
        self.assertEqual(mine["text"], theirs["text"])
        self.assertEqual(mine["pid"], known_pid, "every answer names it by the same pid")
        os.kill(known_pid, signal.SIGKILL)
        harness.await_true("its death is noticed", lambda: self.agent()["state"] == "ended")
        self.assertEqual(self.ask("Still there?", "--max-tokens", "2")["agent"], "a01")

    def test_from_another_shell(self):
        process = self.by_hand(self.words(self.runtime))
        harness.await_true("it is there", self.agent)
        self.expect_service(process.pid)

    def test_from_namespaces_that_share_the_runtime_directory_under_another_path(self):
        refused = namespaces_refused()
        if refused:
            self.skipTest(refused)
        elsewhere = self.dir / "elsewhere"
        elsewhere.mkdir()
        agent = " ".join(f"'{word}'" for word in self.words(elsewhere))
        self.by_hand([*UNSHARE, "sh", "-c",
                      f"mount --bind '{self.runtime}' '{elsewhere}' && "
                      f"mount -t proc proc /proc && exec {agent}"])
        harness.await_true("it is there", self.agent)
        pids = pids_of_program("polykv-agent", elsewhere)
        self.assertEqual(len(pids), 1)
        inside = pathlib.Path(f"/proc/{pids[0]}/status").read_text()
        self.assertRegex(inside, rf"NSpid:\t{pids[0]}\t1\n", "it believes to be pid 1")
        self.expect_service(pids[0])

    def test_a_name_that_is_taken_is_refused(self):
        process = self.by_hand(self.words(self.runtime, "a01"))
        process.wait(harness.DEADLINE_S)
        self.assertEqual(self.agent("a01")["state"], "idle")
        self.assertNotEqual(self.agent("a01")["pid"], process.pid)


class WriterByHand(HandCase):

    def writer(self):
        return self.by_hand([harness.PROGRAMS / "polykv-writer", "--runtime", self.runtime])

    def model(self):
        return self.status()["models"][0]

    def read_until(self, process, words):
        said = []
        for line in process.stdout:
            said.append(line)
            if words in line:
                return
        self.fail(f"it ended before it said '{words}': {''.join(said)}")

    def test_the_runtime_waits_for_it_and_for_the_next_one(self):
        runtime = self.start("up", "--model", harness.MODEL, "--runtime", self.runtime,
                             "--writer", "none", "--context", self.gpl(n_bytes=1000))
        self.read_until(runtime, "waiting for a writer")
        self.assertEqual(self.model()["writer_state"], "awaited")
        first = self.writer()
        self.read_until(runtime, "ready")
        self.assertEqual(self.model()["writer_pid"], first.pid)
        first.kill()
        first.wait()
        harness.await_true("its end is noticed",
                           lambda: self.model()["writer_state"] == "awaited")
        second = self.writer()
        self.polykv("append", "--runtime", self.runtime, self.file("more", "One more line."))
        self.assertEqual(self.model()["writer_pid"], second.pid)
        self.assertEqual(self.status()["pools"][0]["version"], 2)
        third = self.writer()
        third.wait(harness.DEADLINE_S)
        self.assertEqual(self.model()["writer_pid"], second.pid, "there is one already")
