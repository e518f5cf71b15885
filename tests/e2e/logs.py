"""Logs for machines: what runtime, writer and agents say is one JSON object a line."""

import json
import os
import signal

import harness


class JsonLogs(harness.Case):

    def test_every_line_parses_and_says_what_it_is_about(self):
        process = self.start("up", "--model", harness.MODEL, "--runtime", self.runtime,
                             "--log-format", "json", "--context", self.gpl(n_bytes=1000),
                             "--agents", 2)
        for line in process.stdout:
            if line.startswith("ready"):
                break
        done = self.ask("What is this?", "--max-tokens", "8", "--agent", "a01")
        victim = next(agent for agent in self.status()["agents"] if agent["agent"] == "a02")
        os.kill(victim["pid"], signal.SIGKILL)
        harness.await_true("its successor", lambda: any(
            agent["restarts"] == 1 and agent["state"] == "idle"
            for agent in self.status()["agents"]))
        self.polykv("down", "--runtime", self.runtime)
        said = process.communicate(timeout=harness.DEADLINE_S)[0].splitlines()
        lines = [json.loads(line) for line in said]  # nothing else is said after "ready"
        for line in lines:
            self.assertLessEqual({"time", "level", "who", "message"}, set(line), line)
        death = [line for line in lines if line.get("agent") == "a02"]
        self.assertEqual([line["level"] for line in death], ["warning"], lines)
        self.assertIn(str(victim["pid"]), death[0]["message"])
        answered = [line for line in lines if line["message"].startswith("answered")]
        self.assertEqual(len(answered), 1, "a line a request, none a token")
        self.assertEqual((answered[0]["agent"], answered[0]["pool"]), (done["agent"], "main"))
        self.assertTrue(answered[0]["request"])
        self.assertTrue(answered[0]["client"])
