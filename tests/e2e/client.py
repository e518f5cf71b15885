"""The Python client on a real runtime, and its README, whose code is run as it stands."""

import asyncio
import contextlib
import io
import math
import os
import re
import signal
import subprocess
import sys
import unittest
import unittest.mock

import harness

CLIENT = str(harness.SOURCE / "agents/python/src")
sys.path.insert(0, CLIENT)

import polykv  # noqa: E402


class Case(harness.Case):
    agents = 2

    def setUp(self):
        super().setUp()
        self.supervisor = self.up("--agents", self.agents, "--context", self.gpl(n_bytes=2000))
        self.client = polykv.connect(self.runtime)
        self.addCleanup(self.client.close)
        self.main = self.client.pool()

    def await_idle(self):
        harness.await_true("idle agents", lambda: all(
            agent.state == "idle" for agent in self.client.status().agents))


class Readme(Case):

    def test_its_code_runs_from_the_first_line_to_the_last(self):
        text = (harness.SOURCE / "agents/python/README.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        self.assertGreater(len(blocks), 8)
        said, names = io.StringIO(), {}
        with unittest.mock.patch.dict(os.environ, POLYKV_RUNTIME=str(self.runtime)):
            with contextlib.redirect_stdout(said):
                for number, block in enumerate(blocks, 1):
                    exec(compile(block, f"README.md, block {number}", "exec"), names)
        self.assertEqual(names["draft"].name, "draft")
        self.assertEqual((names["ready"].version, names["kept"]), (2, 1))
        self.assertEqual((names["done"].version, names["done"].prefill_tokens), (2, 0))
        self.assertGreater(names["second"].reused_tokens, 0)
        self.assertEqual({one.version for one in names["group"].answers}, {2})
        self.assertIn("cancelled\n", said.getvalue())
        self.assertIn("Snapshot(", said.getvalue())
        self.assertEqual([pool.pool for pool in self.client.status().pools], ["main", "notes"])

    def test_names_what_there_is(self):
        text = (harness.SOURCE / "agents/python/README.md").read_text()
        for name in polykv.Options.__annotations__:
            self.assertIn(f"`{name}`", text)
        for name in (harness.SOURCE / "agents/workflows").glob("*.py"):
            self.assertIn(f"`{name.name}`", text)


class Answers(Case):

    def test_logprobs_come_with_each_token_and_change_none(self):
        plain = self.main.ask("What is this?", max_tokens=8)
        told = self.main.ask("What is this?", max_tokens=8, logprobs=True, top_logprobs=3)
        self.assertEqual((told.token_ids, plain.logprobs), (plain.token_ids, ()))
        self.assertEqual(tuple(one.token for one in told.logprobs), told.token_ids)
        self.assertEqual("".join(one.text for one in told.logprobs), told.text)
        for one in told.logprobs:  # greedy: the likeliest, and the shares of few
            self.assertEqual((one.top[0].token, one.top[0].logprob), (one.token, one.logprob))
            self.assertLessEqual(sum(math.exp(other.logprob) for other in one.top), 1.001)
            self.assertEqual(len(one.top), 3)
        asked = self.ask("What is this?", "--max-tokens", 8, "--top-logprobs", 1)
        self.assertEqual([one["token"] for one in asked["logprobs"]], list(told.token_ids))
        lines, _ = self.polykv("ask", "--runtime", self.runtime, "--max-tokens", 8, "--logprobs",
                               "What is this?")
        self.assertEqual(lines.count(f"{told.logprobs[0].logprob:.4f}"), 1)

    def test_the_model_says_how_it_is_sampled(self):
        self.assertEqual(self.client.status().models[0].sampling, "greedy")

    def test_blocking_streamed_and_awaited_are_the_same_tokens(self):
        one = self.main.ask("What is this?", agent="a01", max_tokens=16)
        with self.main.stream("What is this?", agent="a02", max_tokens=16) as stream:
            text = "".join(stream)

        async def ask():
            async with await polykv.aconnect(self.runtime) as client:
                return await client.pool().ask("What is this?", max_tokens=16)
        three = asyncio.run(ask())
        self.assertEqual(one.tokens, 16)
        self.assertEqual(stream.answer.token_ids, one.token_ids)
        self.assertEqual(three.token_ids, one.token_ids)
        self.assertEqual(text, one.text)
        self.assertEqual((one.pid, stream.answer.agent), (self.client.status().agent("a01").pid,
                                                          "a02"))

    def test_a_follow_up_computes_only_what_is_new_and_says_what_it_would_have_said(self):
        talk = self.main.conversation(agent="a01")
        first = talk.say("What is this?", max_tokens=12)
        second = talk.say("Is it long?", max_tokens=12)
        fresh = self.main.ask(messages=talk.messages[:3], agent="a02", max_tokens=12)
        self.assertGreater(second.reused_tokens, first.prompt_tokens)
        self.assertEqual((fresh.reused_tokens, fresh.token_ids), (0, second.token_ids))

    def test_a_long_text_arrives_whole(self):
        with self.assertRaises(polykv.ContextTooLong) as caught:
            self.client.create_pool("long", text="é " * 300_001)
        self.assertIn("of 900003 bytes", str(caught.exception))
        self.assertEqual(caught.exception.limit, "8192")

    def test_a_group_answers_on_one_version_and_an_agent_too_many_starts_nothing(self):
        self.main.append("More of it.")
        group = self.main.group(["What?", "Why?"], max_tokens=4)
        self.assertEqual([answer.version for answer in group.answers], [2, 2])
        self.assertEqual(set(group.agents), {"a01", "a02"})
        tokens = [agent.tokens for agent in self.client.status().agents]
        with self.assertRaises(polykv.PolykvError) as caught:
            self.main.group(["What?", "Why?", "How?"], max_tokens=4)
        self.assertIn("3", str(caught.exception))
        self.assertEqual([agent.tokens for agent in self.client.status().agents], tokens)

    def test_at_least_waits_for_the_version(self):
        stream = self.main.stream("What?", at_least=2, max_tokens=2)
        self.main.append("More of it.")
        self.assertEqual(stream.finish().version, 2)


class Turns(Case):

    def test_the_first_commit_wins_and_the_other_appends(self):
        first = self.main.ask("What is this?", agent="a01", max_tokens=8)
        second = self.main.ask("Who wrote it?", agent="a02", max_tokens=8)
        done = self.client.commit(first)
        self.assertEqual((done.version, done.agent, done.prefill_tokens), (2, "a01", 0))
        with self.assertRaises(polykv.Conflict):
            self.client.commit(second)
        self.assertEqual(self.main.append(second.text, role="assistant").version, 3)

    def test_a_committed_conversation_goes_on_after_itself(self):
        talk = self.main.conversation()
        talk.say("What is this?", max_tokens=8)
        talk.say("Is it long?", max_tokens=8)
        done = talk.commit()
        answer = talk.say("And who wrote it?", max_tokens=8)
        self.assertEqual((answer.version, len(talk.messages)), (done.version, 2))
        self.assertEqual(talk.commit().version, 3)


class Endings(Case):
    agents = 1

    def test_cancelled_it_stops_and_the_agent_answers_the_next(self):
        stream = self.main.stream("Tell a story.", max_tokens=5000, ignore_eos=True)
        pieces = [next(stream)]
        stream.cancel()
        pieces.extend(stream)
        self.assertEqual(stream.answer.reason, "cancelled")
        self.assertEqual(stream.answer.text, "".join(pieces))
        self.assertLess(stream.answer.tokens, 5000)
        self.assertEqual(self.main.ask("What?", max_tokens=2).tokens, 2)

    def test_one_that_waits_for_an_agent_is_cancelled_before_it_starts(self):
        with self.main.stream("Tell a story.", max_tokens=5000, ignore_eos=True) as running:
            next(running)
            waiting = self.main.stream("What?", max_tokens=2)
            waiting.cancel()
            with self.assertRaises(polykv.Cancelled):
                waiting.finish()

    def test_a_deadline_stops_the_work(self):
        with self.assertRaises(polykv.TimedOut):
            self.main.ask("Tell a story.", max_tokens=5000, ignore_eos=True, deadline=0.2)
        self.await_idle()
        self.assertLess(self.client.status().agents[0].tokens, 5000)

    def test_a_client_that_is_killed_stops_costing(self):
        program = ("import polykv\nclient = polykv.connect()\n"
                   "for _ in client.pool().stream('Tell a story.', max_tokens=5000,\n"
                   "                              ignore_eos=True):\n  print('said', flush=True)\n")
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE,
            env={**os.environ, "POLYKV_RUNTIME": str(self.runtime), "PYTHONPATH": CLIENT})
        process.stdout.readline()
        process.kill()
        process.communicate()
        self.await_idle()
        self.assertLess(self.client.status().agents[0].tokens, 5000)

    def test_a_killed_runtime_is_noticed_in_the_middle_of_an_answer(self):
        stream = self.main.stream("Tell a story.", max_tokens=5000, ignore_eos=True)
        next(stream)
        os.kill(self.client.pid, signal.SIGKILL)
        with self.assertRaises(polykv.NotRunning):
            stream.finish()
        with self.assertRaises(polykv.NotRunning):
            self.client.status()
        harness.await_true("no process left", lambda: not harness.processes_of(self.runtime))

    def test_a_lost_agent_is_named_and_its_end_and_rebirth_are_told(self):
        events = self.client.events("agent", timeout=harness.DEADLINE_S)
        before = next(events).agent("a01")
        stream = self.main.stream("Tell a story.", max_tokens=5000, ignore_eos=True)
        next(stream)
        os.kill(before.pid, signal.SIGKILL)
        with self.assertRaises(polykv.AgentLost) as caught:
            stream.finish()
        self.assertEqual((caught.exception.agent, caught.exception.pid), ("a01", before.pid))
        ended, born = next(events), next(events)
        self.assertEqual((type(ended), ended.pid), (polykv.AgentEnded, before.pid))
        self.assertEqual((type(born), born.agent, born.restarts), (polykv.AgentBorn, "a01", 1))
        self.assertNotEqual(born.pid, before.pid)


class Pools(Case):
    agents = 1

    def test_a_pin_keeps_a_version_that_nobody_leases(self):
        self.main.pin(1)
        self.main.append("More of it.")
        self.main.ask("What?", max_tokens=2)  # the agent has moved on
        self.assertEqual(self.main.ask("What?", version=1, max_tokens=2).version, 1)
        self.main.unpin(1)
        self.main.ask("What?", max_tokens=2)
        with self.assertRaises(polykv.VersionGone):
            self.main.ask("What?", version=1)

    def test_a_pool_with_a_time_to_live_is_dropped_when_nobody_asks_it(self):
        events = self.client.events("pool", timeout=harness.DEADLINE_S)
        next(events)
        self.client.create_pool("brief", text="A short text.", ttl=1)
        self.assertEqual(next(events).pool, "brief")
        dropped = next(events)
        self.assertEqual((type(dropped), dropped.pool, dropped.reason),
                         (polykv.PoolDropped, "brief", "expired"))


if __name__ == "__main__":
    unittest.main()
