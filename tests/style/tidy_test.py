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
    """A small project of a few files, with the repository's settings."""

    def findings(self, *texts):
        """[what is found in each text]; all together make one batch."""
        with tempfile.TemporaryDirectory() as folder:
            room = pathlib.Path(folder).resolve() / "ipc"
            (room / "build").mkdir(parents=True)
            (room / ".clang-tidy").write_text((ROOT / ".clang-tidy").read_text())
            entries = []
            for i, text in enumerate(texts):
                (room / f"{i}.cpp").write_text(text)
                entries.append({"directory": str(room), "file": f"{i}.cpp",
                                "command": f"c++ -std=c++23 -o {i}.o -c {i}.cpp"})
            (room / "build/compile_commands.json").write_text(json.dumps(entries))
            found = tidy.run(room / "build", root=room)
            return [found.get(room / f"{i}.cpp", "") for i in range(len(texts))]

    def test_clean_file_passes(self):
        self.assertEqual(self.findings("int half(int value) { return value / 2; }\n"), [""])

    def test_null_as_zero_is_found(self):
        self.assertIn("modernize-use-nullptr", *self.findings("int* none() { return 0; }\n"))

    def test_bad_name_is_found(self):
        found = self.findings("int GetHalf(int value) { return value / 2; }\n")
        self.assertIn("readability-identifier-naming", *found)

    def test_of_a_batch_the_file_with_the_finding_is_told(self):
        clean = ["int half(int value) { return value / 2; }\n", "int one() { return 1; }\n"]
        found = self.findings(clean[0], "int* none() { return 0; }\n", clean[1])
        self.assertEqual([bool(text) for text in found], [False, True, False])
        self.assertIn("modernize-use-nullptr", found[1])

    def test_files_that_do_not_go_together_are_clean_alone(self):
        # Indented, the name is not seen before the compiler sees it.
        two = "namespace {\n  int two() { return 2; }\n}\n"
        texts = (two + "int a() { return two(); }\n", two + "int b() { return two(); }\n")
        self.assertEqual(self.findings(*texts), ["", ""])

    def test_files_that_define_the_same_name_are_not_of_one_batch(self):
        with tempfile.TemporaryDirectory() as folder:
            sources = [pathlib.Path(folder, name) for name in ("a.cpp", "b.cpp", "c.cpp")]
            for source, text in zip(sources, ("int two() {", "int three() {", "bool two(int x) {")):
                source.write_text(text + " return 2; }\n")
            commands = {source: f"c++ -o x.o -c {source}" for source in sources}
            self.assertEqual(tidy.batches(sources, commands), [sources[:2], sources[2:]])


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
