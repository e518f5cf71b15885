"""Several models in one runtime: each with a writer, pools and agents of its own."""

import json
import pathlib
import shutil
import unittest

import harness
import links


class TwoModels(harness.Case):

    def test_pools_of_one_name_are_each_models_own_and_both_answer(self):
        self.up("--model", f"twin={harness.MODEL}")
        for model, size in (("main", 1000), ("twin", 3000)):
            self.create(model, self.gpl(n_bytes=size))
            self.polykv("agent", "start", "-n", 1, "--model", model, "--runtime", self.runtime)
        pools = {pool["model"]: pool for pool in self.status()["pools"]}
        self.assertEqual([pool["pool"] for pool in pools.values()], ["main", "main"])
        self.assertLess(pools["main"]["tokens"], pools["twin"]["tokens"])
        pids = {model["writer_pid"] for model in self.status()["models"]}
        self.assertEqual(len(pids), 2, "each model has its own writer")
        for model in ("main", "twin"):
            answer = self.ask("What is this?", "--model", model, "--max-tokens", "8")
            self.assertEqual(answer["model"], model)
            agent = next(a for a in self.status()["agents"] if a["agent"] == answer["agent"])
            self.assertEqual(agent["model"], model)

    def test_unknown_model_is_refused_with_those_that_there_are(self):
        self.up("--context", self.gpl(n_bytes=1000), "--agents", 1)
        said = self.ask("What?", "--model", "other", code=harness.VERSION_GONE)
        self.assertIn("'other'", said)
        self.assertIn("main", said)

    def test_answers_are_sampled_as_the_models_file_says_unless_the_request_says_otherwise(self):
        folder = self.dir / "drawn"
        shutil.copytree(harness.SOURCE / "tests/fixtures/hub_llama", folder)
        config = json.loads((folder / "generation_config.json").read_text())
        config.update(do_sample=True, temperature=1.5, top_k=400)
        (folder / "generation_config.json").write_text(json.dumps(config))
        self.up("--model", f"drawn={folder}")
        self.create("drawn", self.file("text", "The terms of this license."))
        self.polykv("agent", "start", "-n", 1, "--model", "drawn", "--runtime", self.runtime)
        says = {model["model"]: model["sampling"] for model in self.status()["models"]}
        self.assertEqual(says["drawn"], "temperature 1.5, top_k 400")
        self.assertIn("temperature 1.5", self.polykv("status", "--runtime", self.runtime)[0])

        def tokens(*arguments):
            return self.ask("What?", "--model", "drawn", "--max-tokens", 12, "--min-tokens", 12,
                            *arguments)["token_ids"]
        drawn, greedy = tokens(), tokens("--temperature", 0)
        self.assertNotEqual(drawn, greedy)
        self.assertEqual(tokens(), drawn, "seeds stay what they are")
        self.assertNotEqual(tokens("--seed", 1), drawn)
        self.assertEqual(tokens("--seed", 1, "--temperature", 0), greedy)
        self.assertEqual(tokens("--top-k", 1), greedy)

    def create(self, model, path):
        """There is no command that makes a second pool: a client does."""
        link = links.Link(self.runtime, harness.DEADLINE_S)
        self.addCleanup(link.close)
        answer, _ = link.ask({"type": "pool_create", "pool": "main", "model": model,
                              "codec": "k4v4"}, pathlib.Path(path).read_bytes())
        self.assertEqual(answer["type"], "pool_ready", answer)


if __name__ == "__main__":
    unittest.main()
