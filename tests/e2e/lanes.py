"""Lanes: one process answers several at once, as if each answered alone; they die with it, and
nobody else does."""

import os
import signal
import struct
import sys
import threading
import unittest

import harness
import links

sys.path.insert(0, str(harness.SOURCE / "agents/python/src"))

import polykv  # noqa: E402

QUESTIONS = (harness.SOURCE / "launch/questions.txt").read_text().splitlines()[:15]
FORCED = ["--max-tokens", "32", "--ignore-eos"]


class Same(harness.Case):

    def answers(self, n_processes, n_lanes):
        report = self.run_job("--context", self.gpl(n_bytes=6000), "--agents", n_processes,
                              "--lanes", n_lanes, *FORCED, questions=QUESTIONS)
        self.assertEqual((report["processes"], report["lanes"]), (n_processes, n_lanes))
        self.assertEqual(len({agent["pid"] for agent in report["agents"]}), n_processes)
        for agent in report["agents"]:
            self.assertEqual(len(agent["token_ids"]), 32, agent)
        return [agent["token_ids"] for agent in report["agents"]]

    def test_answers_are_the_same_whatever_the_processes_and_lanes(self):
        alone = self.answers(15, 1)
        self.assertEqual(len({tuple(tokens) for tokens in alone}), 15)
        for n_processes, n_lanes in [(1, 15), (3, 5)]:
            for question, ours, theirs in zip(QUESTIONS, self.answers(n_processes, n_lanes), alone):
                self.assertEqual(ours, theirs, f"{n_processes} x {n_lanes}: {question}")
        self.assert_nothing_left()


class Lanes(harness.Case):

    def start_with(self, n_processes, n_lanes):
        self.up("--context", self.gpl(n_bytes=3000), "--agents", n_processes, "--lanes", n_lanes)
        self.client = polykv.connect(self.runtime)
        self.addCleanup(self.client.close)
        self.pool = self.client.pool("main")

    def stream(self, agent, question="Tell all of it."):
        """A long answer that has begun."""
        stream = self.pool.stream(question, agent=agent, max_tokens=3000, ignore_eos=True)
        next(iter(stream))
        return stream

    def agent(self, name):
        return self.client.status().agent(name)

    def cancel_all(self, *streams):
        for stream in streams:
            stream.cancel()
            self.assertEqual(stream.finish().reason, "cancelled")

    def test_a_killed_process_fails_its_own_requests_only(self):
        self.start_with(2, 3)
        lost = [self.stream("a01") for _ in range(3)]
        kept = [self.stream("a02") for _ in range(2)]
        self.assertEqual(self.agent("a01").running, 3)
        os.kill(self.agent("a01").pid, signal.SIGKILL)
        for stream in lost:
            with self.assertRaises(polykv.AgentLost) as error:
                stream.finish()
            self.assertIn("a01", str(error.exception))
        self.assertEqual(self.agent("a02").running, 2)
        self.cancel_all(*kept)
        harness.await_true("a01 again", lambda: self.agent("a01").state == "idle")
        self.assertEqual(self.agent("a01").lanes, 3)

    def test_what_joins_while_others_generate_answers_as_alone(self):
        self.start_with(1, 3)
        alone = [self.pool.ask(question, max_tokens=16).text for question in QUESTIONS[:4]]
        running = [self.stream("a01"), self.stream("a01", "Tell it once more.")]
        self.assertEqual([self.pool.ask(question, max_tokens=16).text
                          for question in QUESTIONS[:4]], alone)
        self.cancel_all(*running)

    def test_a_group_runs_on_the_lanes_of_one_process(self):
        self.start_with(1, 4)
        alone = [self.pool.ask(question, max_tokens=16).text for question in QUESTIONS[:4]]
        group = self.pool.group(QUESTIONS[:4], max_tokens=16)
        self.assertEqual([answer.text for answer in group.answers], alone)
        with self.assertRaises(polykv.AgentLost) as refused:
            self.pool.group(QUESTIONS[:5], max_tokens=4)
        self.assertEqual((refused.exception.value, refused.exception.limit), ("5", "4"))

    def test_lanes_end_on_the_version_that_they_began_on(self):
        self.start_with(1, 2)
        stream = self.stream("a01")
        self.pool.append("An addition. " * 5)
        self.assertEqual(self.pool.ask("What is this?", max_tokens=8).version, 2)
        stream.cancel()
        self.assertEqual(stream.finish().version, 1)
        harness.await_true("the old lease's end", lambda: [
            version.version for version in self.client.status().pool("main").versions
            if version.leases > 0] == [2])

    def test_each_conversation_finds_the_lane_that_has_computed_it(self):
        self.start_with(1, 3)
        talks = [[{"role": "user", "content": question}] for question in QUESTIONS[:3]]
        for talk in talks:
            answer = self.pool.ask(messages=talk, max_tokens=12)
            talk.extend([{"role": "assistant", "content": answer.text},
                         {"role": "user", "content": "Say it again in other words."}])
        for talk in reversed(talks):
            self.assertGreater(self.pool.ask(messages=talk, max_tokens=4).reused_tokens, 12)

    def test_a_turn_of_any_lane_can_be_committed_while_another_goes_on(self):
        self.start_with(1, 3)
        first = self.pool.ask("What is this?", max_tokens=12)
        self.pool.ask("Who wrote it?", max_tokens=12)
        stream = self.stream("a01")
        self.assertEqual(self.client.commit(first).version, 2)
        self.cancel_all(stream)

    def test_scores_are_served_while_lanes_answer(self):
        self.start_with(1, 2)
        stream = self.stream("a01")
        link = links.Link(self.runtime, harness.DEADLINE_S)
        self.addCleanup(link.close)
        tokens = struct.pack("<3I", 5, 6, 7)
        answer, _ = link.ask({"type": "score", "agent": "a01"}, tokens)
        self.assertEqual((answer["type"], answer["rows"]), ("scores", 3), answer)
        self.assertEqual(self.agent("a01").running, 1, "the answer goes on")
        self.cancel_all(stream)

    def test_many_clients_at_once_are_all_answered(self):
        self.start_with(2, 4)
        texts = {}

        def ask(question):
            with polykv.connect(self.runtime) as client:
                texts[question] = client.pool("main").ask(question, max_tokens=8).text
        threads = [threading.Thread(target=ask, args=[question]) for question in QUESTIONS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(set(texts), set(QUESTIONS))
        for question in QUESTIONS[:3]:
            self.assertEqual(self.pool.ask(question, max_tokens=8).text, texts[question])


if __name__ == "__main__":
    unittest.main()
