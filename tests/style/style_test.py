"""The style and include rules as a test, and a test of the checker itself by planted violations."""

import os
import pathlib
import tempfile
import unittest

import checks
import cpp_functions

ROOT = pathlib.Path(os.environ.get("POLYKV_SOURCE_DIR", pathlib.Path(__file__).parents[2]))


class Repository(unittest.TestCase):
    """One test per rule over the whole checkout."""

    tree = checks.Tree(ROOT)

    def expect_clean(self, check):
        problems = list(check(self.tree))
        if problems:
            self.fail("\n" + "\n".join(problems))

    def test_the_checkout_has_sources(self):
        self.assertGreater(len(self.tree.cpp()), 20)

    def test_rooms_include_only_what_they_may(self):
        self.expect_clean(checks.check_rooms)

    def test_third_party_stays_in_its_place(self):
        self.expect_clean(checks.check_third_party)

    def test_files_and_lines_are_short(self):
        self.expect_clean(checks.check_lengths)

    def test_functions_are_short(self):
        self.expect_clean(checks.check_functions)

    def test_top_level_is_fixed(self):
        self.expect_clean(checks.check_top_level)

    def test_every_source_is_built(self):
        self.expect_clean(checks.check_listed)

    def test_no_banned_words(self):
        self.expect_clean(checks.check_words)

    def test_files_say_what_they_are(self):
        self.expect_clean(checks.check_openings)

    def test_formatted(self):
        self.expect_clean(checks.check_format)


class Planted(unittest.TestCase):
    """Each rule catches a file that breaks it, and passes one that does not."""

    def problems(self, check, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return list(check(checks.Tree(root, files)))

    def expect_caught(self, check, files, words):
        problems = self.problems(check, files)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(words, problems[0])

    def test_forbidden_room(self):
        header = {"model/model.h": "", "ipc/pool.h": "", "ipc/result.h": ""}
        good = '#include "ipc/result.h"\n'
        self.assertEqual(self.problems(checks.check_rooms, {**header, "model/a.cpp": good}), [])
        self.expect_caught(checks.check_rooms, {**header, "model/a.cpp": '#include "ipc/pool.h"\n'},
                           "model/a.cpp:1: model/ may not")
        self.expect_caught(checks.check_rooms,
                           {**header, "reader/a.cpp": '\n#include "model/model.h"\n'},
                           "reader/a.cpp:2: reader/ may not")
        self.expect_caught(checks.check_rooms,
                           {**header, "launch/a.cpp": '#include "model/model.h"\n'},
                           "launch/ may not")

    def test_include_not_from_the_root(self):
        self.expect_caught(checks.check_rooms,
                           {"ipc/fd.h": "", "ipc/a.cpp": '#include "fd.h"\n'}, "is no file")

    def test_third_party_out_of_place(self):
        check = checks.check_third_party
        self.assertEqual(self.problems(check, {"ipc/control.cpp": "#include <zmq.hpp>\n"}), [])
        self.expect_caught(check, {"agents/a.cpp": "#include <zmq.hpp>\n"}, "ZeroMQ is visible")
        self.expect_caught(check, {"model/prefill.h": "#include <ATen/ATen.h>\n"},
                           "libtorch may not be visible in a header")
        self.expect_caught(check, {"ipc/a.cpp": "#include <fmt/core.h>\n"}, "no known library")

    def test_lengths(self):
        check = checks.check_lengths
        self.assertEqual(self.problems(check, {"ipc/a.h": "x\n" * 120}), [])
        self.expect_caught(check, {"ipc/a.h": "x\n" * 121}, "121 lines, at most 120")
        self.expect_caught(check, {"ipc/a.cpp": "x\n" * 401}, "401 lines")
        self.expect_caught(check, {"ipc/a.cpp": "x" * 101 + "\n"}, "101 columns")

    def test_long_function(self):
        check = checks.check_functions
        body = {n: "int f(int a) {\n" + "  ++a;\n" * (n - 2) + "}\n" for n in (70, 71)}
        short = "void g() {}\nvoid h() {}\n"
        self.assertEqual(self.problems(check, {"ipc/a.cpp": body[70] + short}), [])
        self.expect_caught(check, {"ipc/a.cpp": body[71] + short}, "f has 71 lines")
        self.expect_caught(check, {"ipc/a.cpp": body[70]}, "in the median")
        python = "def f():\n" + "  pass\n" * 70
        self.expect_caught(check, {"tests/a.py": python}, "f has 71 lines")

    def test_top_level(self):
        self.expect_caught(checks.check_top_level, {"ipc/a.h": "", "notes.txt": ""}, "notes.txt")

    def test_source_without_target(self):
        lists = {"ipc/CMakeLists.txt": "polykv_room(ipc SOURCES a.cpp)"}
        self.assertEqual(self.problems(checks.check_listed, {**lists, "ipc/a.cpp": ""}), [])
        self.expect_caught(checks.check_listed, {**lists, "ipc/a.cpp": "", "ipc/aa.cpp": ""},
                           "ipc/aa.cpp:1")

    def test_banned_words(self):
        for text in ("// TO" "DO later", "see iss" "ue #12", "/ho" "me/me/x", "by Cla" "ude"):
            with self.subTest(text=text):
                self.expect_caught(checks.check_words, {"ipc/a.cpp": text}, "ipc/a.cpp:1")
        self.assertEqual(self.problems(checks.check_words, {"ipc/a.cpp": "// issued to 12"}), [])

    def test_openings(self):
        self.expect_caught(checks.check_openings, {"ipc/a.cpp": "int x;\n"}, "without a comment")
        self.expect_caught(checks.check_openings, {"ipc/a.h": "// A.\nint x;\n"}, "pragma once")

    def test_format(self):
        style = {".clang-format": "BasedOnStyle: Google\n"}
        self.assertEqual(self.problems(checks.check_format, {**style, "ipc/a.cpp": "int x;\n"}), [])
        self.expect_caught(checks.check_format, {**style, "ipc/a.cpp": "int   x;\n"}, "ipc/a.cpp:1")


class FunctionScanner(unittest.TestCase):
    """Lengths are only worth a limit if functions are found."""

    def names(self, text):
        return [(name, length) for name, _, length in cpp_functions.functions(text)]

    def test_plain_and_nested(self):
        text = "namespace a {\nint f() {\n  if (x) {\n  }\n  return 1;\n}\n}  // namespace a\n"
        self.assertEqual(self.names(text), [("f", 5)])

    def test_methods_and_constructors(self):
        text = ("class A {\n A(int x) : x_{x}, y_(x) {\n }\n ~A();\n"
                " int get() const { return x_; }\n int x_{3};\n};\n")
        self.assertEqual(self.names(text), [("A", 2), ("get", 1)])

    def test_qualified_with_trailing_parts(self):
        text = "Status A::f(int a) const noexcept {\n}\nauto g() -> std::vector<int> {\n}\n"
        self.assertEqual(self.names(text), [("A::f", 2), ("g", 2)])

    def test_values_and_literals_are_none(self):
        text = ('const Table kT = {{1, "a{"}, {2, "b"}};\nstd::array<int, 2> b{1, 2};\n'
                "// void f() {\nconst char* s = R\"({ x() {)\";\nenum class E { a, b };\n")
        self.assertEqual(self.names(text), [])

    def test_lambda_belongs_to_its_function(self):
        text = "void f() {\n  auto g = [](int x) {\n    return x;\n  };\n}\n"
        self.assertEqual(self.names(text), [("f", 5)])

    def test_defaulted_arguments_and_digit_separators(self):
        text = "void f(Options o = {}) {\n  int n = 1'000'000;\n}\nTEST(A, b) {\n}\n"
        self.assertEqual(self.names(text), [("f", 3), ("TEST", 2)])


if __name__ == "__main__":
    unittest.main()
