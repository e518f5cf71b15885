"""Whoever dies, the others go on, and nothing is left behind."""

import json
import os
import pathlib
import signal
import unittest

import harness

QUESTIONS = (harness.SOURCE / "launch/questions.txt").read_text().splitlines()[:4]


class Killed(harness.Case):

    def run_and_kill(self, victim_index):
        """A run of four agents; one is killed while all of them answer."""
        report = self.dir / "killed.json"
        run = self.start("run", "--model", harness.MODEL, "--context", self.gpl(n_bytes=6000),
                         "--questions", self.file("q.txt", "\n".join(QUESTIONS)), "--agents", 4,
                         "--max-tokens", 64, "--ignore-eos", "--runtime", self.runtime,
                         "--json", report)

        def victim():
            if not (self.runtime / "ctl").exists():
                return None
            agents = self.status()["agents"]
            busy = [a for a in agents if a["state"] == "busy"]
            return agents[victim_index]["pid"] if len(busy) == 4 else None

        pid = harness.await_true("four busy agents", victim)
        os.kill(pid, signal.SIGKILL)
        out, _ = run.communicate(timeout=harness.DEADLINE_S)
        return pid, run.returncode, out, json.loads(report.read_text())

    def test_agent_the_report_names_it_and_the_others_answer_as_ever(self):
        whole = self.run_job("--context", self.gpl(n_bytes=6000), "--agents", 4,
                             "--max-tokens", 64, "--ignore-eos", questions=QUESTIONS)
        pid, code, out, report = self.run_and_kill(1)
        self.assertEqual(code, harness.AGENT_LOST, out)
        dead = [a for a in report["agents"] if "error" in a]
        self.assertEqual([a["pid"] for a in dead], [pid])
        self.assertIn("killed by signal 9", dead[0]["error"])
        self.assertIn(f"(pid {pid})", out)
        for ours, reference in zip(report["agents"], whole["agents"]):
            if "error" not in ours:
                self.assertEqual(ours["token_ids"], reference["token_ids"])
        self.assert_nothing_left()

    def test_agent_its_memory_and_lease_are_back_and_a_new_one_serves(self):
        self.up("--context", self.gpl(n_bytes=3000), "--agents", 2)
        before = self.status()
        answer = self.ask("What is this?", "--agent", "a01", "--max-tokens", "8")
        os.kill(before["agents"][0]["pid"], signal.SIGKILL)

        def restarted():
            agent = self.status()["agents"][0]
            return agent["restarts"] == 1 and agent["state"] == "idle" and agent
        agent = harness.await_true("the agent started again", restarted)
        self.assertNotEqual(agent["pid"], before["agents"][0]["pid"])
        again = self.ask("What is this?", "--agent", "a01", "--max-tokens", "8")
        self.assertEqual(again["token_ids"], answer["token_ids"])
        self.assertEqual(self.status()["held_bytes"], before["held_bytes"])

    def test_writer_agents_go_on_and_the_pool_is_there_without_another_prefill(self):
        up = self.up("--context", self.gpl(n_bytes=3000), "--agents", 1)
        before = self.status()
        answer = self.ask("What is this?", "--max-tokens", "8")
        os.kill(before["models"][0]["writer_pid"], signal.SIGKILL)

        def replaced():
            status = self.status()
            writer = status["models"][0]
            return writer["writer_restarts"] == 1 and writer["writer_state"] == "ready" and status
        status = harness.await_true("a new writer", replaced)
        self.assertNotEqual(status["models"][0]["writer_pid"], before["models"][0]["writer_pid"])
        self.assertEqual(status["pools"], before["pools"])
        again = self.ask("What is this?", "--max-tokens", "8")
        self.assertEqual(again["token_ids"], answer["token_ids"])
        out, _ = self.polykv("append", "--runtime", self.runtime, self.file("more", "More text."))
        self.assertIn("version 2", out)
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=harness.DEADLINE_S)
        pid = before["models"][0]["writer_pid"]
        self.assertIn(f"the writer (pid {pid}) ended: killed by signal 9", said)
        self.assertIn("a new one was started", said)

    def test_supervisor_its_children_end_by_themselves(self):
        up = self.up("--context", self.gpl(n_bytes=3000), "--agents", 2)
        children = harness.processes_of(self.runtime)
        self.assertEqual(len(children), 4)  # itself, the writer, two agents
        up.kill()
        harness.await_true("no process left", lambda: not harness.processes_of(self.runtime))
        # The stale directory is taken over by the next one.
        self.up("--context", self.gpl(n_bytes=1000), "--agents", 1)
        self.assertEqual(len(self.status()["agents"]), 1)


class Interrupted(harness.Case):

    def test_up_leaves_no_process_socket_or_file(self):
        up = self.up("--context", self.gpl(n_bytes=2000), "--agents", 2)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=harness.DEADLINE_S)
        self.assertEqual(up.returncode, 0)
        self.assert_nothing_left()

    def test_run_in_the_middle_of_prefill_leaves_nothing(self):
        run = self.start("run", "--model", harness.MODEL, "--context", self.gpl("GPL-3", 20000),
                         "--questions", self.file("q.txt", "Why?"), "--agents", 1,
                         "--runtime", self.runtime)
        harness.await_true("a busy writer", lambda: (self.runtime / "ctl").exists() and
                           self.status()["models"][0]["writer_state"] == "busy")
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=harness.DEADLINE_S)
        self.assertEqual(run.returncode, harness.CANCELLED)
        self.assert_nothing_left()

    def test_down_ends_everything(self):
        up = self.up("--context", self.gpl(n_bytes=2000), "--agents", 1)
        self.polykv("down", "--runtime", self.runtime)
        self.assertFalse(self.runtime.exists(), "down comes back when all is gone")
        up.communicate(timeout=harness.DEADLINE_S)
        self.assertEqual(up.returncode, 0)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
