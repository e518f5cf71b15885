"""Our tokens of llama.cpp's own test texts, by its own vocabularies: both lie beside its sources,
where the comparison with it has unpacked them (tests/bench/compare). None is committed here."""

import json
import os
import pathlib
import subprocess
import unittest

SOURCE = pathlib.Path(os.environ["POLYKV_SOURCE_DIR"])
TOKENIZE = pathlib.Path(os.environ["POLYKV_BINARY_DIR"], "tokenize")
MODELS = SOURCE / ".deps/llama/vendor/llama.cpp/models"
NAMES = ("gpt-2", "llama-bpe", "llama-spm", "qwen2")


def listed(name):
    """The texts of a vocabulary's list and the ids that llama.cpp expects of each."""
    texts = (MODELS / f"ggml-vocab-{name}.gguf.inp").read_text(encoding="utf-8")
    ids = (MODELS / f"ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").splitlines()
    return (texts.split("\n__ggml_vocab_test__\n")[:-1],  # each ends so
            [[int(token) for token in line.split()] for line in ids])


def tokens_of(name, texts):
    """Ours, and the text that they decode to."""
    run = subprocess.run([TOKENIZE, MODELS / f"ggml-vocab-{name}.gguf"], text=True, check=True,
                         input="".join(json.dumps(text) + "\n" for text in texts),
                         capture_output=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


@unittest.skipUnless(MODELS.is_dir(), f"no vocabularies of llama.cpp in {MODELS}")
class LlamaVocab(unittest.TestCase):
    def test_tokens_are_those_that_llama_cpp_expects_and_texts_come_back(self):
        for name in NAMES:
            texts, expected = listed(name)
            self.assertGreater(len(texts), 20, name)
            self.assertEqual(len(texts), len(expected), name)
            for text, wanted, (found, back) in zip(texts, expected, tokens_of(name, texts)):
                with self.subTest(vocabulary=name, text=text):
                    self.assertEqual(found, wanted)
                    self.assertEqual(back, text)

    def test_a_vocabulary_of_another_kind_is_refused_by_name(self):
        for name, kind in (("command-r", "command-r"), ("falcon", "falcon"),
                           ("deepseek-llm", "deepseek-llm"), ("qwen35", "qwen35")):
            if not (MODELS / f"ggml-vocab-{name}.gguf").exists():
                continue
            with self.subTest(vocabulary=name):
                run = subprocess.run([TOKENIZE, MODELS / f"ggml-vocab-{name}.gguf"], text=True,
                                     check=False, input="", capture_output=True)
                self.assertNotEqual(run.returncode, 0)
                self.assertIn(kind, run.stderr)
