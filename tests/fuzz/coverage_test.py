"""Which lines of each parser the fuzz targets' inputs reach: the seeds and the committed inputs
alone, nothing found by chance. Prints the shares; one below the least fails.

    python3 tests/unittest_main.py tests/fuzz/coverage_test.py       # in build/fuzz
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("POLYKV_BUILD_DIR", ROOT / "build/fuzz"))
LEAST_PERCENT = 80

# Target -> the parsers that it is for.
PARSERS = {
    "gguf": ["model/gguf.cpp", "model/gguf_parse.cpp", "model/gguf_types.cpp",
             "model/image_vocab_gguf.cpp", "model/model_file_gguf.cpp", "model/image_config.cpp",
             "model/rope_scaling.cpp", "model/family.cpp"],
    "safetensors": ["model/safetensors.cpp"],
    "hub": ["model/model_file_hub.cpp", "model/hub_parameters.cpp", "model/hub_vocab.cpp"],
    "json": ["model/json.cpp"],
    "vocab": ["model/image_vocab.cpp", "model/token_tables.cpp", "model/tokenizer_user.cpp"],
    "tokenizer": ["model/tokenizer.cpp", "model/tokenizer_bpe.cpp", "model/tokenizer_split.cpp",
                  "model/tokenizer_spaces.cpp", "model/unicode_nfc.cpp"],
    "image": ["model/image_check.cpp", "model/image_map.cpp", "model/image_plan.cpp"],
    "chat": ["model/chat.cpp"],
    "text": ["model/text_stream.cpp", "ipc/utf8.cpp"],
    "segment": ["ipc/segment_view.cpp", "ipc/segment_plan.cpp"],
    "manifest": ["ipc/manifest.cpp"],
    "message": ["ipc/message.cpp", "ipc/message_schema.cpp", "ipc/message_error.cpp"],
    "deployment": ["launch/config_file.cpp", "launch/deployment.cpp"],
    "arguments": ["launch/options.cpp"],
}


def replay(target, folder):
    """{parser: percent of its lines} after one run over each input of the target."""
    program = BUILD / "bin" / f"fuzz_{target}"
    inputs = [BUILD / "seeds" / target, ROOT / "tests/fixtures/fuzz" / target]
    environment = dict(os.environ, LLVM_PROFILE_FILE=f"{folder}/raw", TMPDIR=folder)
    subprocess.run([program, "-runs=0", *(path for path in inputs if path.exists())],
                   env=environment, cwd=folder, capture_output=True, check=True)
    subprocess.run(["llvm-profdata-19", "merge", f"{folder}/raw", "-o", f"{folder}/profile"],
                   check=True)
    files = [ROOT / name for name in PARSERS[target]]
    said = subprocess.run(["llvm-cov-19", "export", "-summary-only",
                           f"-instr-profile={folder}/profile", program, *files],
                          capture_output=True, check=True)
    entries = json.loads(said.stdout)["data"][0]["files"]
    return {str(pathlib.Path(entry["filename"]).resolve().relative_to(ROOT.resolve())):
            entry["summary"]["lines"]["percent"] for entry in entries}


class Coverage(unittest.TestCase):
    def test_inputs_reach_the_lines_of_each_parser(self):
        for target, parsers in PARSERS.items():
            with tempfile.TemporaryDirectory() as folder:
                percents = replay(target, folder)
            self.assertEqual(sorted(percents), sorted(parsers), "every parser is measured")
            for parser, percent in percents.items():
                print(f"{percent:5.1f} % of {parser} (fuzz_{target})")
                with self.subTest(parser=parser):
                    self.assertGreaterEqual(percent, LEAST_PERCENT)
