"""Runs clang-tidy over the sources of a build folder, a few at a time, and remembers clean files.

    python3 tests/style/tidy.py BUILD_FOLDER [PART_OF_A_PATH ...]

Most of its time goes into the headers, which it walks through again for every source. So sources
with the same flags are looked at in batches, each one translation unit that includes them. One with
findings, or whose sources do not go together, is halved until each of the rest stands alone.
A file is looked at again only when it, one of our headers that it includes, its compile command,
.clang-tidy or clang-tidy itself has changed.
"""

import concurrent.futures
import hashlib
import itertools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import cpp_functions

PROGRAM = "clang-tidy-19"
BATCH_MAX = 12
# For every parameter that this check doubts it walks through all headers, and takes half of all the
# time: what a test copies is of no matter.
TESTS_WITHOUT = "-performance-unnecessary-value-param"
# What the formatter leaves at the beginning of a line is outside of classes and functions.
_TYPE = re.compile(r"^(?:(?:struct|class|union|enum(?: class)?) (\w+)(?!.*;)|using (\w+) =)", re.M)
_OTHER = re.compile(r"^(?!(?:using|struct|class|union|enum|namespace|extern|TEST|INSTANTIATE))"
                    r"\w[^\n(){}\[\]=;]*(?<![\w:])([\w:]+) ?[({\[=]", re.M)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)


def commands(build, root):
    """{source below root: its compile command}, from compile_commands.json."""
    entries = json.loads((build / "compile_commands.json").read_text())
    found = {}
    for entry in entries:
        source = pathlib.Path(entry["directory"], entry["file"]).resolve()
        inside = source.is_relative_to(root) and not source.is_relative_to(build)
        if inside and source.suffix == ".cpp":
            found[source] = entry["command"]
    return found


def closure(source, root):
    """The source and all of our headers that it includes, directly or not."""
    seen, waiting = set(), [source]
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        waiting += [root / name for name in _INCLUDE.findall(file.read_text(errors="replace"))]
    return sorted(seen)


def fingerprint(source, command, root, version):
    digest = hashlib.sha256(version + command.encode())
    for file in [root / ".clang-tidy", *closure(source, root)]:
        digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def is_test(source):
    return source.stem.endswith("_test")


def names(source):
    """What a source seems to define; two that share a name would not go together."""
    code = cpp_functions.blank(source.read_text(errors="replace"))
    types = {kind or alias for kind, alias in _TYPE.findall(code)}
    return types | set(_OTHER.findall(code))


def flags(source, command):
    """A compile command without its source and its output."""
    words = shlex.split(command)
    if "-o" in words:
        del words[words.index("-o"):words.index("-o") + 2]
    return tuple(word for word in words if pathlib.Path(word).name != source.name)


def batches(sources, all_commands):
    """The sources in lists of those that may go together, each of one folder."""
    made = {}  # kind: [[names, sources], ...]
    for source in sorted(sources):
        mine = names(source)
        kind = source.parent, is_test(source), flags(source, all_commands[source])
        alike = made.setdefault(kind, [])
        for batch in alike:
            if len(batch[1]) < BATCH_MAX and not batch[0] & mine:
                batch[0].update(mine)
                batch[1].append(source)
                break
        else:
            alike.append([mine, [source]])
    found = [sources for alike in made.values() for _, sources in alike]
    return sorted(found, key=len, reverse=True)  # the longest do not run alone at the end


def is_clean(batch, command, folder):
    """Whether there is nothing to find in a batch; folder: of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    unit = folder / ("batch_test.cpp" if is_test(batch[0]) else "batch.cpp")
    unit.write_text("".join(
        f'#include "{source}"  // NOLINT(bugprone-suspicious-include)\n' for source in batch))
    words = [*flags(batch[0], command), str(unit)]
    entry = {"directory": str(folder), "file": str(unit), "command": shlex.join(words)}
    (folder / "compile_commands.json").write_text(json.dumps([entry]))
    return look_at(unit, folder) == ""


def findings_in(batch, all_commands, build, folder):
    """{source: findings} of a batch; of one that is not clean, by halves."""
    if len(batch) == 1:
        text = look_at(batch[0], build)
        return {batch[0]: text} if text else {}
    if is_clean(batch, all_commands[batch[0]], folder):
        return {}
    half = len(batch) // 2
    return (findings_in(batch[:half], all_commands, build, folder)
            | findings_in(batch[half:], all_commands, build, folder))


def look_at(source, build):
    """The findings in one file, '' if none."""
    # The compile commands are g++'s: a warning that clang does not know is none.
    run = subprocess.run(
        [PROGRAM, "-p", build, "--quiet", "--extra-arg=-Wno-unknown-warning-option",
         *([f"--checks={TESTS_WITHOUT}"] if is_test(source) else []), source],
        capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return ""
    return run.stdout + "\n".join(
        line for line in run.stderr.splitlines() if "error" in line and "generated" not in line)


def run(build, parts=(), workers=None, root=None):
    """{source: findings} of the files with findings."""
    build = pathlib.Path(build).resolve()
    root = pathlib.Path(root or pathlib.Path(__file__).resolve().parents[2]).resolve()
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, check=True).stdout
    clean = build / "tidy-clean"
    clean.mkdir(exist_ok=True)
    marks, all_commands = {}, commands(build, root)
    for source, command in all_commands.items():
        mark = clean / fingerprint(source, command, root, version)
        if not mark.exists() and (not parts or any(part in str(source) for part in parts)):
            marks[source] = mark
    findings = {}
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 2) as pool:
        folders = (build / "tidy-batches" / str(i) for i in itertools.count())
        waiting = {pool.submit(findings_in, batch, all_commands, build, folder): batch
                   for batch, folder in zip(batches(marks, all_commands), folders)}
        for done in concurrent.futures.as_completed(waiting):
            findings.update(done.result())
            for source in waiting[done]:
                if source not in findings:
                    marks[source].touch()
    return findings


def main(arguments):
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    findings = run(arguments[0], arguments[1:])
    for text in findings.values():
        print(text)
    print(f"{len(findings)} files with findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
