"""A group: all its members on one version, or none of them at all."""

import os
import signal
import sys
import threading
import unittest

import harness

sys.path.insert(0, str(harness.SOURCE / "agents/python/src"))

import polykv  # noqa: E402


class Group(harness.Case):

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=2000), "--agents", 2)
        self.client = polykv.connect(self.runtime)
        self.addCleanup(self.client.close)
        self.pool = self.client.pool("main")

    def agent(self, name):
        return {agent["agent"]: agent for agent in self.status()["agents"]}[name]

    def await_state(self, name, state):
        harness.await_true(f"{name} {state}", lambda: self.agent(name)["state"] == state)

    def in_background(self, work):
        """Runs `work` on a client of its own; returns a function that gives its result or error."""
        result = []

        def run():
            with polykv.connect(self.runtime) as client:
                try:
                    result.append(work(client.pool("main")))
                except polykv.PolykvError as error:
                    result.append(error)
        thread = threading.Thread(target=run)
        thread.start()

        def ended():
            thread.join()
            return result[0]
        return ended

    def test_all_run_on_the_version_of_the_request_although_an_append_comes_between(self):
        stream = self.pool.stream("Tell all of it.", agent="a01", max_tokens=2000, ignore_eos=True)
        next(iter(stream))
        ended = self.in_background(
            lambda pool: pool.group(["What is this?", "Who wrote it?"], max_tokens=8))
        # Once a02 answers somebody else, the group has been heard of: it was asked for before.
        self.await_state("a02", "idle")
        harness.await_true("the append", lambda: self.pool.append("An addition. " * 5).version == 2)
        stream.cancel()
        stream.finish()
        group = ended()
        versions = {answer.version for answer in group.answers}
        agents = {answer.agent for answer in group.answers}
        self.assertEqual(agents, {"a01", "a02"})
        self.assertEqual(len(versions), 1)
        self.assertEqual(group.version, versions.pop())

    def test_none_starts_when_one_agent_dies_in_preparation(self):
        self.pool.append("An addition.")  # so that both have a lease to take first
        pid = self.agent("a02")["pid"]
        os.kill(pid, signal.SIGSTOP)
        ended = self.in_background(
            lambda pool: pool.group(["What is this?", "Who wrote it?"], max_tokens=8))
        self.await_state("a02", "preparing")
        os.kill(pid, signal.SIGKILL)
        error = ended()
        self.assertIsInstance(error, polykv.AgentLost)
        self.assertIn("a02", str(error))
        self.await_state("a01", "idle")
        self.assertEqual(self.agent("a01")["tokens"], 0)
        self.assertEqual(self.pool.ask("What is this?", max_tokens=4).agent, "a01")

    def test_more_members_than_agents_are_refused_with_the_numbers(self):
        with self.assertRaises(polykv.AgentLost) as refused:
            self.pool.group(["One?", "Two?", "Three?"], max_tokens=4)
        self.assertEqual((refused.exception.value, refused.exception.limit), ("3", "2"))


if __name__ == "__main__":
    unittest.main()
