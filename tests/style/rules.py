"""The rules of the house as data: who may include whom, what is visible where, what is too long."""

import re

LINE_COLUMNS_MAX = 100
HEADER_LINES_MAX = 120
SOURCE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_MEDIAN_MAX = 10

TOP_LEVEL = {
    ".ci", ".clang-format", ".clang-tidy", ".gitignore", "CMakeLists.txt", "CMakePresets.json",
    "CONTRIBUTING.md", "LICENSE", "README.md", "agents", "cmake", "docs", "ipc", "launch", "model",
    "reader", "tests", "writer",
}

# Room -> regular expressions of the project's headers that its files may include.
MAY_INCLUDE = {
    "ipc": [r"ipc/.*"],
    "model": [r"model/.*", r"ipc/(amx|result|fd|limits|memory|checksum|half|utf8|kv_shape)\.h"],
    "reader": [r"reader/.*", r"ipc/.*"],
    "writer": [r"writer/.*", r"model/.*", r"ipc/.*"],
    "agents": [r"agents/.*", r"reader/.*", r"model/.*", r"ipc/.*"],
    "launch": [r"launch/.*", r"ipc/.*"],
    "tests": [r".*"],
}

# Third-party library: (its headers, where they may be included). Never in one of our headers.
THIRD_PARTY = {
    "Boost": (r"boost/.*", r"ipc/memory\.cpp"),
    "ZeroMQ": (r"zmq.*", r"ipc/control(_\w+)?\.cpp|tests/(ipc|launch)/.*\.cpp"),
    "nlohmann-json": (r"nlohmann/.*", r"ipc/(message|json)\w*\.cpp|model/json\.cpp|tests/.*\.cpp"),
    "xxHash": (r"xxhash\.h|xxh3\.h", r"ipc/checksum\.cpp"),
    "PCRE2": (r"pcre2\.h", r"model/(pre_tokenizer|pre_tokenize|tokenizer)\w*\.cpp"),
    "utf8proc": (r"utf8proc\.h", r"model/unicode_nfc\.cpp"),
    "libtorch": (r"(ATen|c10|torch)/.*", r"model/prefill\w*\.cpp"),
    "spdlog": (r"spdlog/.*", r"ipc/log\.cpp"),
    "CLI11": (r"CLI/.*", r"(launch|agents|writer|ipc)/(main|options|command_line)\w*\.cpp"),
    "toml++": (r"toml\+\+/.*", r"launch/config_file\.cpp"),
    "GoogleTest": (r"g(test|mock)/.*", r"tests/.*\.(cpp|h)"),
    "Benchmark": (r"benchmark/.*", r"tests/bench/.*\.cpp"),
}
HEADERS_MAY_SHOW = {"GoogleTest"}  # test helpers are headers, too

# What an angle-bracket include may name besides: C++ standard, C library, POSIX, Linux, intrinsics.
SYSTEM_HEADER = re.compile(
    r"[a-z_0-9]+"
    r"|(sys|linux|netinet|arpa|asm|bits)/[\w/]+\.h"
    r"|(dirent|dlfcn|fcntl|malloc|poll|pthread|sched|signal|spawn|termios|unistd|fnmatch|glob|pwd|"
    r"grp|getopt|time|syscall|elf|link|immintrin|x86intrin|cpuid|sanitizer/\w+)\.h")


def _banned(*parts):
    return "".join(parts)  # so that this file does not hold what it bans


BANNED = [
    (re.compile(r"\b(" + "|".join([_banned("TO", "DO"), _banned("FIX", "ME"), _banned("X", "XX"),
                                   _banned("HA", "CK")]) + r")\b"), "unfinished work"),
    (re.compile(r"(?i)\b(" + "|".join([_banned("cla", "ude"), _banned("anth", "ropic"),
                                       _banned("chat", "gpt"), _banned("open", "ai"),
                                       _banned("co", "pilot"), r"ai[- ]generated",
                                       r"ai[- ]assistant", _banned("coding", " agent")]) + r")\b"),
     "a mention of the author's tools"),
    (re.compile(r"(?i)\b(issue|ticket|pull request)s?\s+#?\d+|\(#\d+\)|\bsession \d+"),
     "a tracker's number: say why instead"),
    (re.compile(r"(?<![\w.])/(work|root|home)/\w"), "an absolute path of one machine"),
    (re.compile(r"\b(pypi|pythonhosted|" + _banned("deb", r"\.debian") + r")\.org\b"),
     "a registry's host"),
]
