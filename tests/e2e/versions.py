"""Append: new versions share the old segments; who runs keeps what it holds."""

import os
import pathlib
import threading
import unittest

import harness


def segments_of(pid):
    """Inodes of the segments that a process maps."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "polykv-segment" in line}


class Append(harness.Case):

    def setUp(self):
        super().setUp()
        self.up("--context", self.gpl(n_bytes=4000), "--agents", 2)

    def append(self, text):
        out, _ = self.polykv("append", "--runtime", self.runtime, self.file("more", text))
        return out

    def test_shares_the_old_segment_and_prefills_only_the_new_tokens(self):
        first = self.status()["pools"][0]
        agent = self.status()["agents"][0]
        self.ask("What is this?", "--agent", agent["agent"], "--max-tokens", "2")
        old = segments_of(agent["pid"])
        out = self.append("The magic word of this document is xylophone. " * 5)
        second = self.status()["pools"][0]
        self.assertEqual((second["version"], second["segments"]), (2, 2))
        new_tokens = second["tokens"] - first["tokens"]
        self.assertIn(f"{new_tokens} of them prefilled now", out)
        self.assertLess(new_tokens, 100)
        self.ask("What is the magic word?", "--agent", agent["agent"], "--max-tokens", "2")
        now = segments_of(agent["pid"])
        self.assertEqual(len(old), 1)
        self.assertTrue(old < now, "the old segment is mapped as it was, the new one beside it")
        self.assertEqual(len(now), 2)

    def test_new_starts_get_the_new_version_and_the_old_one_stays_while_it_is_held(self):
        first = self.ask("What is this?", "--agent", "a01", "--max-tokens", "4")
        self.append("An addition. " * 20)
        second = self.ask("What is this?", "--agent", "a02", "--max-tokens", "4")
        self.assertEqual((first["version"], second["version"]), (1, 2))
        held = self.ask("What is this?", "--agent", "a01", "--pool-version", "1",
                        "--max-tokens", "4")
        self.assertEqual(held["token_ids"], first["token_ids"])
        self.ask("What is this?", "--agent", "a01", "--max-tokens", "4")  # moves on: 1 is free now
        error = self.ask("What is this?", "--pool-version", "1", code=20)
        self.assertIn("version 1 of pool 'main' is not there", error)

    def test_a_running_answer_is_not_disturbed(self):
        quiet = self.ask("Explain this text.", "--agent", "a01", "--max-tokens", "48",
                         "--ignore-eos")
        result = {}

        def ask():
            result.update(self.ask("Explain this text.", "--agent", "a01", "--max-tokens", "48",
                                   "--ignore-eos"))
        thread = threading.Thread(target=ask)
        thread.start()
        harness.await_true("a busy agent",
                           lambda: self.status()["agents"][0]["state"] == "busy")
        self.append("More. " * 10)
        thread.join()
        self.assertEqual(result["version"], 1)
        self.assertEqual(result["token_ids"], quiet["token_ids"])

    def test_the_model_reads_what_was_appended(self):
        self.append("Note: the secret number of this document is 7741.")
        answer = self.ask("What is the secret number of this document?", "--max-tokens", "24")
        self.assertIn("7741", answer["text"])


class Budget(harness.Case):

    def test_a_refusal_names_limit_and_holders_and_costs_nothing(self):
        self.up("--context", self.gpl(n_bytes=3000), "--agents", 1, "--budget", "105MB")
        before = self.status()
        _, err = self.polykv("append", "--runtime", self.runtime,
                             self.gpl("GPL-3", 20000), code=harness.MEMORY)
        self.assertIn("budget", err)
        self.assertIn("pool main", err)
        self.assertIn("held by a01", err)
        after = self.status()
        self.assertEqual(after["pools"], before["pools"])
        self.assertEqual(after["held_bytes"], before["held_bytes"])


if __name__ == "__main__":
    unittest.main()
