"""A writer's and an agent's processes started by hand, in mount and pid namespaces of their own."""

import os
import pathlib
import signal
import subprocess
import unittest

import harness


def can_unshare():
    try:
        return subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False,
                              capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class InItsOwnNamespaces(harness.Case):

    def setUp(self):
        super().setUp()
        if not can_unshare():
            self.skipTest("this user may not make mount and pid namespaces (unshare)")

    def by_hand(self, program, *arguments):
        """Starts a program of ours in new namespaces; in there it is process 1 or 2."""
        process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--mount-proc",
                                    "--kill-child", harness.PROGRAMS / program, "--runtime",
                                    self.runtime, *arguments])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def agent(self, name):
        return next((a for a in self.status()["agents"] if a["agent"] == name), None)

    def test_an_agent_is_known_by_its_pid_out_here_and_answers_like_any_other(self):
        self.up("--context", self.gpl(n_bytes=2000), "--agents", 1)
        self.by_hand("polykv-agent", "--agent", "hand", "--pool", "main")
        agent = harness.await_true("the agent", lambda: self.agent("hand"))
        command = pathlib.Path(f"/proc/{agent['pid']}/cmdline").read_bytes()
        self.assertIn(b"polykv-agent", command.split(b"\0")[0])
        self.assertGreater(agent["private_bytes"], 0)
        mine = self.ask("What is this?", "--agent", "hand", "--max-tokens", "8")
        other = self.ask("What is this?", "--agent", "a01", "--max-tokens", "8")
        self.assertEqual(mine["token_ids"], other["token_ids"])
        self.assertEqual(mine["pid"], agent["pid"])
        os.kill(agent["pid"], signal.SIGKILL)
        harness.await_true("its end", lambda: self.agent("hand")["state"] == "ended")
        leases = self.status()["pools"][0]["leases"]
        self.assertEqual(leases, 1, "its lease ended with it")

    def test_a_writer_of_a_model_that_has_one_is_sent_away(self):
        self.up("--context", self.gpl(n_bytes=1000))
        before = self.status()["models"][0]
        writer = self.by_hand("polykv-writer", "--model", "main")
        self.assertEqual(writer.wait(timeout=harness.DEADLINE_S), harness.BUSY)
        after = self.status()["models"][0]
        self.assertEqual(after["writer_pid"], before["writer_pid"])
        self.assertEqual(after["writer_restarts"], 0)


if __name__ == "__main__":
    unittest.main()
