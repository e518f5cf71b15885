"""Fifteen processes answer like one, and each stays within its memory."""

import os
import pathlib
import re
import unittest

import harness

QUESTIONS = (harness.SOURCE / "launch/questions.txt").read_text().splitlines()[:15]
FORCED = ["--max-tokens", "48", "--ignore-eos"]
GPL2 = str(harness.LICENSES / "GPL-2")
MB = 1_000_000


class FifteenAgents(harness.Case):

    def test_answers_equal_one_process_answering_in_turn_whatever_the_threads(self):
        many = self.run_job("--context", GPL2, "--agents", 15, *FORCED, questions=QUESTIONS)
        one = self.run_job("--context", GPL2, "--agents", 1, "--threads", 2, *FORCED,
                           questions=QUESTIONS)
        self.assertEqual(len({a["pid"] for a in many["agents"]}), 15)
        self.assertEqual(len({a["pid"] for a in one["agents"]}), 1)
        for ours, theirs in zip(many["agents"], one["agents"]):
            self.assertEqual(len(ours["token_ids"]), 48)
            self.assertEqual(ours["token_ids"], theirs["token_ids"], ours["question"])
        self.assertEqual(len({tuple(a["token_ids"]) for a in many["agents"]}), 15)
        self.assert_nothing_left()

    def test_resident_memory_of_all_is_image_and_pool_once_and_little_each(self):
        self.up("--context", GPL2, "--agents", 15)
        status = self.status()
        pids = [agent["pid"] for agent in status["agents"]]
        for agent in status["agents"]:
            self.ask("What is this about?", "--agent", agent["agent"], "--max-tokens", "4")
        resident = sum(harness.rollup(pid)["Pss"] for pid in pids)
        shared = status["models"][0]["image_bytes"] + status["pools"][0]["bytes"]
        self.assertEqual(len(set(pids)), 15)
        self.assertLessEqual(resident, shared + 15 * 10 * MB)


class Memory(harness.Case):

    def peak_private(self, n_tokens):
        """Pool tokens and bytes, and an agent's peak private bytes beyond suffix and logits."""
        text = (harness.LICENSES / "GPL-3").read_text()
        words = re.findall(r"\S+\s*", text)
        context = "".join(words[:int(n_tokens / 1.37)])
        report = self.run_job("--context", self.file(f"c{n_tokens}", context), "--agents", 2,
                              "--max-tokens", 32, "--ignore-eos",
                              questions=["What is this?", "Who may copy it?"])
        agent = report["agents"][0]
        return (report["pool"]["tokens"], report["pool"]["bytes"],
                agent["peak_private_bytes"] - agent["suffix_bytes"] - 4 * 49152)

    def test_an_agent_needs_the_same_little_memory_for_small_and_large_pools(self):
        small_tokens, _, small = self.peak_private(1000)
        large_tokens, large_bytes, large = self.peak_private(7550)
        self.assertGreater(large_tokens, 7 * small_tokens)
        self.assertLessEqual(small, 10 * MB)
        self.assertLessEqual(large, 10 * MB)
        # Decoded, the large pool would be 3.9 times its size: nobody holds even a tenth of that.
        self.assertLess(abs(large - small), large_bytes / 10)


class Loading(harness.Case):

    def test_an_agent_loads_no_libtorch_and_opens_no_model_file(self):
        self.up("--context", self.gpl(n_bytes=2000), "--agents", 1)
        pid = self.status()["agents"][0]["pid"]
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        self.assertIn("polykv", maps)
        self.assertNotIn("torch", maps)
        self.assertNotIn(".gguf", maps)
        links = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        self.assertFalse([link for link in links if "gguf" in link])


if __name__ == "__main__":
    unittest.main()
