"""The example workflows on the real model: what happened in the runtime, not that text came out."""

import json
import os
import signal
import subprocess
import sys
import unittest

import harness

sys.path.insert(0, str(harness.SOURCE / "agents/python/src"))

import polykv  # noqa: E402

WORKFLOWS = harness.SOURCE / "agents/workflows"
LINES_MAX = {"raw_zmq.py": 40}  # the others 79


class Case(harness.Case):

    def setUp(self):
        super().setUp()
        self.document = self.gpl(n_bytes=2000)
        self.start_runtime()
        self.client = polykv.connect(self.runtime)
        self.addCleanup(self.client.close)
        self.events = self.client.events("pool", "agent", timeout=harness.DEADLINE_S)
        self.before = next(self.events)

    def start_runtime(self):
        self.up("--agents", 0, "--context", self.gpl("BSD"))

    def workflow(self, name, *arguments, code=0):
        """Runs it to its end; returns standard output."""
        environment = {**os.environ, "POLYKV_RUNTIME": str(self.runtime),
                       "PYTHONPATH": str(harness.SOURCE / "agents/python/src")}
        done = subprocess.run([sys.executable, WORKFLOWS / name, *map(str, arguments)],
                              env=environment, capture_output=True, text=True,
                              timeout=harness.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, code, f"{name}: {done.stdout}\n{done.stderr}")
        return done.stdout

    def happened(self, *kinds, until):
        """The events of these kinds, up to the first for which `until` is true."""
        found = []
        for event in self.events:
            if isinstance(event, kinds):
                found.append(event)
            if until(event):
                return found
        raise AssertionError("the events ended")

    def assert_as_before(self):
        """The workflow's pools and agents are gone."""
        def gone():
            now = self.client.status()
            return ([pool.pool for pool in now.pools] == [p.pool for p in self.before.pools]
                    and {a.agent for a in now.agents if a.state != "ended"}
                    == {a.agent for a in self.before.agents})
        harness.await_true("pools and agents as before", gone)


class FanOut(Case):

    def test_all_answer_on_one_version_each_in_a_process_of_its_own_and_the_last_merges(self):
        questions = ["What is this text?", "Who wrote it?", "What does it forbid?"]
        answers = json.loads(self.workflow("fan_out.py", self.document, *questions, "--json",
                                           "--max-tokens", 12, "--merge", "Sum it up."))
        self.assertEqual({answer["version"] for answer in answers}, {1})
        self.assertEqual(len({answer["pid"] for answer in answers}), 4)
        self.assertEqual([answer["member"] for answer in answers], [0, 1, 2, None])
        merged = answers[3]
        self.assertGreater(merged["prompt_tokens"],
                           sum(answer["tokens"] for answer in answers[:3]))
        made = self.happened(polykv.PoolReady, polykv.PoolDropped, polykv.AgentBorn,
                             until=lambda event: isinstance(event, polykv.PoolDropped))
        self.assertEqual([type(event) for event in made],
                         [polykv.PoolReady, *[polykv.AgentBorn] * 4, polykv.PoolDropped])
        self.assertEqual(made[0].prefill_tokens, made[0].tokens)
        self.assertEqual({event.pid for event in made[1:5]}, {a["pid"] for a in answers})
        self.assert_as_before()


class Debate(Case):

    def test_every_turn_is_a_version_of_its_own_without_a_prefill(self):
        said = self.workflow("debate.py", self.document, "Is this fair?", "--rounds", 2,
                             "--max-tokens", 16, "--json").splitlines()
        turns = [json.loads(line) for line in said]
        self.assertEqual([(turn["version"], turn["made"]) for turn in turns],
                         [(1, 2), (2, 3), (3, 4), (4, 5)])
        self.assertEqual([turn["prefill_tokens"] for turn in turns], [0] * 4)
        made = self.happened(polykv.PoolReady, polykv.Committed,
                             until=lambda event: isinstance(event, polykv.PoolDropped))
        ready = [event for event in made if isinstance(event, polykv.PoolReady)]
        committed = [event for event in made if isinstance(event, polykv.Committed)]
        self.assertEqual([(event.version, event.prefill_tokens) for event in ready],
                         [(1, ready[0].tokens), (2, 0), (3, 0), (4, 0), (5, 0)])
        self.assertEqual([(event.version, event.segments) for event in committed],
                         [(2, 2), (3, 3), (4, 4), (5, 5)])
        self.assertEqual([event.agent for event in committed], [turn["agent"] for turn in turns])
        self.assertEqual(len({event.agent for event in committed}), 2)
        self.assertEqual(len({event.inode for event in committed}), 4)
        tokens = ready[0].tokens
        for event, turn in zip(committed, turns):
            self.assertGreaterEqual(event.turn_tokens, turn["prompt_tokens"] + turn["tokens"] - 1)
            tokens += event.turn_tokens
            self.assertEqual((event.tokens, event.prefill_tokens), (tokens, 0))
        self.assert_as_before()


class MapFiles(Case):

    def test_a_pool_a_file_each_asked_and_dropped_and_what_fails_is_in_the_table(self):
        files = [self.gpl("BSD"), self.gpl("Artistic", 1500), self.file("empty.txt", ""),
                 self.file("latin1.txt", b"caf\xe9")]
        said = self.workflow("map_files.py", "Which licence is this?", *files, "--max-tokens", 6,
                             "--json", code=1).splitlines()
        rows = [json.loads(line) for line in said]
        self.assertEqual([row["file"] for row in rows], files)
        self.assertIn("empty", rows[2]["error"])
        self.assertIn("utf-8", rows[3]["error"])
        self.assertEqual([row["version"] for row in rows[:2]], [1, 1])
        dropped = []
        ready = self.happened(polykv.PoolReady, until=lambda event: (
            isinstance(event, polykv.PoolDropped) and (dropped.append(event.pool)
                                                       or len(dropped) == 2)))
        self.assertEqual([(event.pool, event.tokens) for event in ready],
                         [(row["pool"], row["tokens"]) for row in rows[:2]])
        self.assertEqual(set(dropped), {row["pool"] for row in rows[:2]})
        self.assert_as_before()

    def test_the_table_holds_what_one_would_have_been_told_by_hand(self):
        name = self.client.pool().start_agents(1)[0]
        by_hand = self.client.create_pool("hand", path=self.document).ask(
            "Which licence is this?", agent=name, max_tokens=8)
        table = self.workflow("map_files.py", "Which licence is this?", self.document,
                              "--max-tokens", 8)
        self.assertIn(" ".join(by_hand.text.split()), table)
        self.assertIn(self.document, table)


class Watchdog(Case):

    def start_runtime(self):
        self.up("--agents", 1, "--context", self.document)

    def test_a_stuck_agent_is_replaced_on_the_same_version_and_says_the_same(self):
        pool = self.client.pool()
        quiet = pool.ask("What is this?", agent="a01", max_tokens=12)
        pool.pin(1)
        pool.append("Something new. " * 20)
        os.kill(quiet.pid, signal.SIGSTOP)
        answer = json.loads(self.workflow(
            "watchdog.py", "What is this?", "--agent", "a01", "--pool-version", 1, "--patience", 3,
            "--tries", 9, "--max-tokens", 12, "--json"))
        self.assertEqual(answer["killed"][0], quiet.pid)
        self.assertNotIn(answer["pid"], answer["killed"])
        self.assertEqual((answer["version"], answer["token_ids"], answer["text"]),
                         (1, list(quiet.token_ids), quiet.text))
        self.assertFalse(os.path.exists(f"/proc/{quiet.pid}/maps")
                         and open(f"/proc/{quiet.pid}/maps").read(), "the old process is gone")
        versions = {v.version: v for v in pool.status().versions}
        self.assertFalse(1 in versions and versions[1].pinned, "the pin was let go")

    def test_a_quick_agent_is_left_alone(self):
        answer = json.loads(self.workflow("watchdog.py", "What is this?", "--agent", "a01",
                                          "--max-tokens", 4, "--patience", 200, "--json"))
        self.assertEqual((answer["killed"], answer["agent"]), ([], "a01"))
        self.assertEqual(self.client.status().agent("a01").pid, answer["pid"])


class Raw(Case):

    def start_runtime(self):
        self.up("--agents", 1, "--context", self.document)

    def test_prints_the_answer_that_the_client_gets(self):
        pool = self.client.pool()
        said = self.workflow("raw_zmq.py", "What is this?")
        self.assertEqual(said, pool.ask("What is this?", max_tokens=100).text + "\n")
        agent, = self.client.status().agents
        self.assertGreater(agent.tokens, 0)
        pool.fork("other")
        pool.drop()
        self.assertEqual(self.workflow("raw_zmq.py", "What is this?", "other"), said)
        self.workflow("raw_zmq.py", "What is this?", "nowhere", code=1)


class Short(unittest.TestCase):

    def test_each_is_short_explains_itself_and_uses_no_client_where_it_says_so(self):
        files = sorted(WORKFLOWS.glob("*.py"))
        self.assertEqual(len(files), 5)
        for file in files:
            with self.subTest(file.name):
                text = file.read_text()
                self.assertLessEqual(text.count("\n"), LINES_MAX.get(file.name, 79))
                self.assertEqual("import polykv" not in text, file.name == "raw_zmq.py")
                self.assertTrue(os.access(file, os.X_OK))

    def test_help_says_what_it_does_without_a_runtime(self):
        for file in sorted(WORKFLOWS.glob("*.py")):
            environment = {**os.environ, "PYTHONPATH": str(harness.SOURCE / "agents/python/src")}
            done = subprocess.run([sys.executable, file, "--help"], env=environment,
                                  capture_output=True, text=True, check=False)
            self.assertIn(file.name, done.stdout + done.stderr)
            self.assertEqual(done.returncode, 2 if file.name == "raw_zmq.py" else 0)


if __name__ == "__main__":
    unittest.main()
