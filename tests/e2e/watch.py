"""`polykv status --watch`, on a terminal and in a pipe, while agents die and the runtime ends."""

import os
import re
import signal
import subprocess

import harness
from terminal import Terminal


class Watch(harness.Case):

    def setUp(self):
        super().setUp()
        self.runtime_process = self.up("--context", self.gpl(n_bytes=2000), "--agents", 2)
        self.words = [harness.PROGRAMS / "polykv", "status", "--watch", "--runtime", self.runtime]

    def test_a_terminal_sees_an_agent_die_and_come_back_and_then_the_end(self):
        terminal = Terminal(self.words)
        self.addCleanup(terminal.close)
        victim = self.status()["agents"][0]
        harness.await_true("first screen", lambda: str(victim["pid"]) in terminal.text)
        os.kill(victim["pid"], signal.SIGKILL)
        harness.await_true("the death is told", lambda: re.search(
            rf"agent {victim['agent']} \(pid {victim['pid']}\) ended: .*signal 9",
            terminal.screens()[-1]))
        # Started again by the supervisor, under the same name and another pid.
        again = harness.await_true("its successor", lambda: [
            agent["pid"] for agent in self.status()["agents"]
            if agent["agent"] == victim["agent"] and agent["state"] == "idle"
            and agent["pid"] != victim["pid"]])
        harness.await_true("its successor is shown",
                           lambda: re.search(rf"{victim['agent']} +{again[0]} ",
                                             terminal.screens()[-1]))
        # The last line may have come without the whole of its end.
        for line in terminal.screens()[-1].replace("\033[K", "").split("\r\n"):
            self.assertLessEqual(len(line.split("\033")[0].rstrip("\r")), 100)
        self.polykv("down", "--runtime", self.runtime)
        self.assertEqual(terminal.process.wait(harness.DEADLINE_S), harness.NOT_RUNNING)
        self.assertIn("has ended", terminal.text)
        self.assertIn("\033[?1049l", terminal.text, "the first screen is back")

    def test_ctrl_c_leaves_with_the_cursor_back(self):
        terminal = Terminal(self.words, columns=40, rows=10)
        self.addCleanup(terminal.close)
        harness.await_true("a screen", terminal.screens)
        terminal.process.send_signal(signal.SIGINT)
        self.assertEqual(terminal.process.wait(harness.DEADLINE_S), 0)
        self.assertTrue(terminal.text.endswith("\033[?25h\033[?1049l"))

    def test_a_pipe_gets_plain_blocks(self):
        process = subprocess.Popen(self.words, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        blocks, lines = 0, []
        while blocks < 2:
            line = process.stdout.readline()
            lines.append(line)
            blocks += line.startswith("supervisor pid")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(harness.DEADLINE_S), 0)
        text = "".join(lines)
        self.assertNotIn("\033", text)
        self.assertIn("private MB", text)
