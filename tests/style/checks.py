"""The style checks. Each takes a Tree and yields sentences, `path:line: what is wrong`."""

import ast
import pathlib
import re
import statistics
import subprocess

import cpp_functions
import rules

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)
_TEXT = {".cpp", ".h", ".py", ".md", ".txt", ".cmake", ".json", ".sh", ".yml", ".svg", ""}
_FIXTURES = ("tests/fixtures/", "tests/data/")


class Tree:
    """The files of a checkout: tracked ones and new ones that git would not ignore."""

    def __init__(self, root, names=None):
        self.root = pathlib.Path(root)
        self.names = sorted(names if names is not None else self._list())
        self._texts = {}

    def _list(self):
        git = subprocess.run(
            ["git", "-C", self.root, "ls-files", "-z", "-co", "--exclude-standard"],
            capture_output=True, check=False)
        if git.returncode == 0:
            names = git.stdout.decode().split("\0")
        else:  # an unpacked archive
            names = (str(p.relative_to(self.root)) for p in self.root.rglob("*"))
            names = [n for n in names if not re.match(r"(\.git|\.deps|build)/|.*__pycache__", n)]
        return [n for n in names if n and (self.root / n).is_file()]

    def text(self, name):
        if name not in self._texts:
            self._texts[name] = (self.root / name).read_text(encoding="utf-8", errors="replace")
        return self._texts[name]

    def cpp(self):
        return [n for n in self.names if n.endswith((".cpp", ".h"))]

    def written(self):
        """What people wrote: no fixtures, no licence."""
        return [n for n in self.names if pathlib.PurePath(n).suffix in _TEXT and n != "LICENSE"
                and not n.startswith(_FIXTURES)]


def _line(text, place):
    return text.count("\n", 0, place) + 1


def _includes(text):
    for match in _INCLUDE.finditer(text):
        yield _line(text, match.start()), match.group(1) == "<", match.group(2)


def check_rooms(tree):
    """Who may include whom; and that the included file exists, named from the root."""
    for name in tree.cpp():
        room = name.split("/")[0]
        allowed = rules.MAY_INCLUDE.get(room)
        if allowed is None:
            yield f"{name}:1: C++ outside the rooms"
            continue
        for line, angle, header in _includes(tree.text(name)):
            if angle:
                continue
            if not (tree.root / header).is_file():
                yield f'{name}:{line}: "{header}" is no file, seen from the root'
            elif not any(re.fullmatch(rule, header) for rule in allowed):
                yield f'{name}:{line}: {room}/ may not include "{header}"'


def _check_foreign(name, line, header):
    for library, (headers, places) in rules.THIRD_PARTY.items():
        if not re.fullmatch(headers, header):
            continue
        if name.endswith(".h") and library not in rules.HEADERS_MAY_SHOW:
            return f"{name}:{line}: {library} may not be visible in a header"
        if not re.fullmatch(places, name):
            return f"{name}:{line}: {library} is visible only in {places}"
        return None
    if rules.SYSTEM_HEADER.fullmatch(header):
        return None
    return f"{name}:{line}: <{header}> is no known library (tests/style/rules.py)"


def check_third_party(tree):
    """Each library visible in one file or one small group, never in our headers."""
    for name in tree.cpp():
        for line, angle, header in _includes(tree.text(name)):
            if angle and (problem := _check_foreign(name, line, header)):
                yield problem


def check_lengths(tree):
    """Lines of files and columns of lines."""
    for name in tree.names:
        if not name.endswith((".cpp", ".h", ".py")) or name.startswith(_FIXTURES):
            continue
        lines = tree.text(name).split("\n")
        limit = rules.HEADER_LINES_MAX if name.endswith(".h") else rules.SOURCE_LINES_MAX
        if len(lines) - 1 > limit:
            yield f"{name}:1: {len(lines) - 1} lines, at most {limit}"
        for number, line in enumerate(lines, 1):
            if len(line) > rules.LINE_COLUMNS_MAX:
                yield f"{name}:{number}: {len(line)} columns, at most {rules.LINE_COLUMNS_MAX}"


def _python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def check_functions(tree):
    """No function over the limit; the median of the programs' own functions is small."""
    own = []
    for name in tree.names:
        if not name.endswith((".cpp", ".h", ".py")):
            continue
        is_python = name.endswith(".py")
        find = _python_functions if is_python else cpp_functions.functions
        for function, line, length in find(tree.text(name)):
            if length > rules.FUNCTION_LINES_MAX:
                yield f"{name}:{line}: {function} has {length} lines, " \
                      f"at most {rules.FUNCTION_LINES_MAX}"
            if not is_python and not name.startswith("tests/"):
                own.append(length)
    if own and statistics.median(own) > rules.FUNCTION_LINES_MEDIAN_MAX:
        yield f".:1: functions have {statistics.median(own)} lines in the median, " \
              f"at most {rules.FUNCTION_LINES_MEDIAN_MAX}"


def check_top_level(tree):
    for top in sorted({n.split("/")[0] for n in tree.names} - rules.TOP_LEVEL):
        yield f"{top}:1: the top level is fixed (tests/style/rules.py), and this is not in it"


def check_listed(tree):
    """A source that no target builds is decoration."""
    lists = {n: tree.text(n) for n in tree.names if n.endswith("CMakeLists.txt")}
    for name in tree.cpp():
        if name.endswith(".h"):
            continue
        file = pathlib.PurePath(name)
        near = [lists.get(str(folder / "CMakeLists.txt"), "") for folder in file.parents]
        if not any(re.search(rf"(?<![\w.]){re.escape(file.name)}\b", text) for text in near):
            yield f"{name}:1: no CMakeLists.txt names it"


def check_words(tree):
    for name in tree.written():
        text = tree.text(name)
        for pattern, meaning in rules.BANNED:
            for match in pattern.finditer(text):
                yield f"{name}:{_line(text, match.start())}: {match.group(0)!r}: {meaning}"


def check_openings(tree):
    """Each C++ file opens with a comment of what it is; a header is included once."""
    for name in tree.cpp():
        text = tree.text(name)
        if not text.startswith("//"):
            yield f"{name}:1: opens without a comment of what it is"
        if name.endswith(".h") and "\n#pragma once\n" not in text:
            yield f"{name}:1: a header without #pragma once"


def check_format(tree, program="clang-format-19"):
    files = [str(tree.root / n) for n in tree.cpp()]
    if not files:
        return
    try:
        run = subprocess.run([program, "--dry-run", "--Werror", "--ferror-limit=1", *files],
                             capture_output=True, text=True, check=False, cwd=tree.root)
    except FileNotFoundError:
        yield f".:1: {program} is missing: run ./launch/setup --tests"
        return
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: (.*)$", run.stderr, re.M):
        path = pathlib.Path(match.group(1)).relative_to(tree.root)
        yield (f"{path}:{match.group(2)}: {match.group(3)} "
               f"(run {program} -i {path})")
    if run.returncode and "error:" not in run.stderr:
        yield f".:1: {program}: {run.stderr.strip()}"
