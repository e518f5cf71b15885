"""Finds the functions of a C++ file by matching braces: good for lengths, not a parser."""

import re

_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
_CONTAINER = re.compile(r"(?:^|[\s;}])(?:namespace|class|struct|union|enum|extern)\b[^()=]*$")
_AFTER_PARAMETERS = re.compile(
    r"\)\s*(?:const|noexcept(?:\s*\([^()]*\))?|override|final|&&?|\s|->[^{};=]*|requires[^{};]*)*$")
_INITIALISER_LIST = re.compile(r"\)[^(){};?]*:(?!:)[^{};]*$")


def blank(text):
    """The text with comments, literals and directives blanked, line breaks kept."""

    def spaces(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    # A digit separator (1'000) is no literal: remove it first, at the same length.
    text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "0", text)
    return _DIRECTIVE.sub(spaces, _TOKEN.sub(spaces, text))


def _matching(code, start):
    depth = 0
    for place in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[place], 0)
        if depth == 0:
            return place
    return len(code) - 1


def _name(head):
    names = re.findall(r"([~\w:]+|operator\s*\S+)\s*\(", head)
    return names[0].strip() if names else head.split()[-1] if head.split() else "?"


def _kind(head):
    """What a '{' at namespace or class scope opens, judged by the text before it."""
    head = head.rstrip()
    if _AFTER_PARAMETERS.search(head):
        return "function"
    if _INITIALISER_LIST.search(head):
        return "function" if head.endswith(("}", ")")) else "member"
    if not head or _CONTAINER.search(head):
        return "container"
    return "value"


def functions(text):
    """[(name, first line, lines from '{' to '}')] in order."""
    code = blank(text)
    found = []
    place, head_start = 0, 0
    while place < len(code):
        mark = code[place]
        if mark == "{":
            head = code[head_start:place]
            kind = _kind(head)
            if kind == "container":
                head_start = place + 1
            else:
                end = _matching(code, place)
                if kind == "function":
                    first = code.count("\n", 0, place) + 1
                    found.append((_name(head), first, code.count("\n", place, end) + 1))
                    head_start = end + 1
                place = end
        elif mark in ";}":
            head_start = place + 1
        place += 1
    return found
