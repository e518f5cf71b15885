"""`polykv chat`: follow-ups reuse what the agent has, nothing is committed unless asked."""

import re
import signal
import subprocess

import harness
from terminal import Terminal


class Chat(harness.Case):

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=3000), "--agents", 2)

    def chat(self, *lines, code=0):
        """What a chat of these lines answers, and what it says beside."""
        return self.polykv("chat", "--runtime", self.runtime, "--verbose", "--max-tokens", 12,
                           code=code, stdin="".join(line + "\n" for line in lines).encode())

    def pool(self):
        return self.status()["pools"][0]

    def test_follow_ups_go_to_the_same_agent_and_reuse_its_work(self):
        out, said = self.chat("Who wrote this?", "And when?", "And why?")
        self.assertEqual(len(out.splitlines()), 3, out)
        turns = re.findall(r"\((\w+) on version (\d+): (\d+) prompt tokens, (\d+) of them reused",
                           said)
        self.assertEqual(len(turns), 3, said)
        self.assertEqual(len({(agent, version) for agent, version, _, _ in turns}), 1, turns)
        reused = [int(turn[3]) for turn in turns]
        self.assertEqual(reused[0], 0)
        self.assertGreater(reused[1], int(turns[0][2]) - 1)
        self.assertGreater(reused[2], reused[1])
        self.assertEqual(self.pool()["version"], 1, "nothing was committed")

    def test_commit_makes_the_conversation_the_pools_without_a_prefill(self):
        before = self.pool()
        _, said = self.chat("The magic word is xylophone.", "/commit", "What is the magic word?")
        tokens, prefilled = map(int, re.search(
            r"version 2: (\d+) tokens of this conversation, (\d+) of them prefilled",
            said).groups())
        self.assertEqual(prefilled, 0)
        after = self.pool()
        self.assertEqual((after["version"], after["tokens"]), (2, before["tokens"] + tokens))
        self.assertRegex(said, r"on version 2: \d+ prompt tokens, 0 of them reused")

    def test_what_was_undone_is_not_committed(self):
        _, error = self.chat("Say one thing.", "Say another.", "/undo", "/commit", code=22)
        self.assertIn("undone", error)
        self.assertEqual(self.pool()["version"], 1)

    def test_new_forgets_and_unknown_commands_are_refused(self):
        _, said = self.chat("Say one thing.", "/new", "Say another.", "/help", "/quit", "unread")
        second = re.findall(r"(\d+) prompt tokens, (\d+) of them reused", said)[1]
        self.assertLess(int(second[0]), 20, "what was said before was not said again")
        self.assertIn("/undo", said)
        self.assertIn("/commt", self.chat("/commt", code=harness.USAGE)[1])

    def test_ctrl_c_cancels_the_running_answer_only(self):
        terminal = Terminal([harness.PROGRAMS / "polykv", "chat", "--runtime", self.runtime,
                             "--ignore-eos", "--max-tokens", "4000"])
        self.addCleanup(terminal.close)
        terminal.type("Talk on and on.")
        harness.await_true("the agent talks", lambda: any(
            agent["state"] == "busy" for agent in self.status()["agents"]))
        terminal.process.send_signal(signal.SIGINT)
        harness.await_true("it is told", lambda: "(cancelled" in terminal.text)
        harness.await_true("the agent is free", lambda: all(
            agent["state"] == "idle" for agent in self.status()["agents"]))
        terminal.process.send_signal(signal.SIGINT)
        harness.await_true("it goes on", lambda: "nothing to cancel" in terminal.text)
        terminal.type("/commit")
        harness.await_true("nothing to commit", lambda: "nothing has been said" in terminal.text)
        terminal.type("/quit")
        self.assertEqual(terminal.process.wait(harness.DEADLINE_S), 0)

    def test_in_a_pipe_ctrl_c_ends_it_with_its_code(self):
        process = subprocess.Popen([harness.PROGRAMS / "polykv", "chat", "--runtime", self.runtime,
                                    "--ignore-eos", "--max-tokens", "4000"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(b"Talk on and on.\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.read(1))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=harness.DEADLINE_S)
        self.assertEqual(process.returncode, harness.CANCELLED, said)

    def test_the_runtimes_end_ends_it(self):
        process = subprocess.Popen([harness.PROGRAMS / "polykv", "chat", "--runtime", self.runtime,
                                    "--max-tokens", "4"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(b"Hello?\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.read(1))
        self.polykv("down", "--runtime", self.runtime)
        _, said = process.communicate(timeout=harness.DEADLINE_S)
        self.assertEqual(process.returncode, harness.NOT_RUNNING, said)
