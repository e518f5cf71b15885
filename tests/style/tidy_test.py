"""clang-tidy over every source that the build compiles, and a test that it does find things."""

import json
import os
import pathlib
import tempfile
import unittest

import tidy

ROOT = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("POLYKV_BUILD_DIR", ROOT / "build/release"))


class Repository(unittest.TestCase):
    def test_sources_are_tidy(self):
        self.assertGreater(len(tidy.commands(BUILD, ROOT)), 20, "too few sources")
        findings = tidy.run(BUILD, root=ROOT)
        if findings:
            self.fail("\n" + "\n".join(findings.values()))


class Planted(unittest.TestCase):
    """A small project of one file, with the repository's settings."""

    def findings(self, text):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()
            (root / ".clang-tidy").write_text((ROOT / ".clang-tidy").read_text())
            (root / "a.cpp").write_text(text)
            (root / "build").mkdir()
            entry = {"directory": folder, "file": "a.cpp", "command": "c++ -std=c++23 -c a.cpp"}
            (root / "build/compile_commands.json").write_text(json.dumps([entry]))
            return tidy.run(root / "build", root=root)

    def test_clean_file_passes(self):
        self.assertEqual(self.findings("int half(int value) { return value / 2; }\n"), {})

    def test_null_as_zero_is_found(self):
        found = "".join(self.findings("int* none() { return 0; }\n").values())
        self.assertIn("modernize-use-nullptr", found)

    def test_bad_name_is_found(self):
        found = "".join(self.findings("int GetHalf(int value) { return value / 2; }\n").values())
        self.assertIn("readability-identifier-naming", found)


class Cache(unittest.TestCase):
    def test_a_changed_header_changes_the_fingerprint(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / ".clang-tidy").write_text("")
            (root / "ipc").mkdir()
            (root / "ipc/inner.h").write_text("// 1\n")
            (root / "ipc/outer.h").write_text('#include "ipc/inner.h"\n')
            source = root / "ipc/a.cpp"
            source.write_text('#include "ipc/outer.h"\n')
            before = tidy.fingerprint(source, "c++", root, b"19")
            self.assertEqual(before, tidy.fingerprint(source, "c++", root, b"19"))
            (root / "ipc/inner.h").write_text("// 2\n")
            self.assertNotEqual(before, tidy.fingerprint(source, "c++", root, b"19"))


if __name__ == "__main__":
    unittest.main()
