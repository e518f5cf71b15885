#!/usr/bin/env python3
r"""Writes tests/fixtures/tokenizer.jsonl: strings and the tokens that Hugging Face's library makes.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tests/scripts/make_tokenizer_fixture.py MODEL.gguf \
        > tests/fixtures/tokenizer.jsonl

The reference is built from the file's own vocabulary and merges; special tokens are not
parsed in text.
Each line: ["text", [tokens]]; ["unit", n, [tokens]] for the text "unit" * n; or
["unit", n, [first tokens], number of tokens] where the list would be long.
"""
import json
import random
import struct
import sys

from tokenizers import Tokenizer, models, pre_tokenizers

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}


def read_metadata(path):
    with open(path, "rb") as file:
        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q")).decode("utf-8", "surrogateescape")
            if kind == 9:
                item, count = number("I"), number("Q")
                return [value(item) for _ in range(count)]
            return number(SCALARS[kind])

        file.read(16)
        return {value(8): value(number("I")) for _ in range(number("Q"))}


def reference(path):
    meta = read_metadata(path)
    words = meta["tokenizer.ggml.tokens"]
    kinds = meta["tokenizer.ggml.token_type"]
    vocab = {word: i for i, word in enumerate(words) if kinds[i] == 1}
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    return tokenizer


SPACES = "\t\n\v\f\r \x85\xa0\u1680\u180e" + "".join(map(chr, range(0x2000, 0x2010))) + \
    "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"

TEXTS = [
    "", " ", "  ", "\n", "a", "Hello", " Hello", "Hello world",
    "I'm, you're, he'll, we've, it'd, it's, can't", "I'M YOU'RE HE'LL", "'s 't 're", "x's'y",
    "''s", "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "user\n", "assistant\n",
    "system\n", "1234567890", " 1 22  333", "a1b2", "a 5", "a   5", "3.14e-10", "½ ² ³ Ⅷ ①",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Öffnungszeiten: Mo–Fr 9–17 Uhr (außer feiertags)!",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "Die Würde des Menschen ist unantastbar. „Ja“, sagte sie – »nein«.", "我们认为这些真理是不言而喻的：人人生而平等。",
    "床前明月光，疑是地上霜。", "今天是2024年3月5日，气温25度。", "繁體中文與简体中文", "القرآن الكريم كتاب عربي",
    "مرحبا بالعالم، كيف حالك؟ ١٢٣٤٥", "يُولَدُ جميعُ الناسِ أحرارًا", "שלום עולם",
    "नमस्ते दुनिया १२३", "สวัสดีชาวโลก ๑๒๓", "こんにちは世界、カタカナとひらがな", "안녕하세요 세계",
    "Привет, мир! Ёлка №5", "Καλημέρα κόσμε", "გამარჯობა", "Բարև աշխարհ", "አማርኛ ፲፪", "😀",
    "👨‍👩‍👧‍👦 family", "🇩🇪🇫🇷🇯🇵", "👍🏽👍🏿", "❤️‍🔥", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣2️⃣", "a😀b 😀 c", "e\u0301 vs é",
    "Z\u0351\u036b\u0343a\u0334", "def f(x):\n    return x**2  # square\n",
    "if (a<b && c>=d) { x[i]->y += 0x1F; }", "#include <vector>\n\ntemplate <class T>\nT f();",
    "\t\tindented\n\t\t\tmore\r\n\r\n", "SELECT * FROM t WHERE a='b';",
    "https://example.org/a?b=c&d=%20e#f", "foo_bar.bazQux()", "{\"a\": [1, 2.5, null]}",
    "a\r\nb\rc\n", "   leading", "trailing   ", "a  b   c    d", " \n \n ", "\n\n\n\n",
    "a\n\n\nb", "\t a \t b \t", "x \n", "x\n y", "--- === ***", "!!!???...", "....", "_____",
    "a\x00b", "\x01\x02\x03\x05\x07\x08\x0e\x1b\x7f", "\x04", "!\x04!", "\x06\x13\x14\x16\x1d",
    "\U00040000", "\U000fffff\U00010ffff", "\ud7ff\ue000\ufffd\uffff", "１２３ fullwidth ＡＢＣ",
    "𝟘𝟙𝟚 𝒜ℬ𝒞", "₀₁₂ ⁴⁵⁶", "一二三 〇〡〢", "߁߂߃ ০১২ ௧௨௩ ༡༢༣ ᠐᠑", "𐒠𐒡 𑁦𑁧 𞥐𞥑",
    "\U00010d40 \U0001ccf0 \U00011f50", "\U00031350\U00031351 \u1c89a \U0001e030", "ﬁ ﬂ ﷽",
    "\u202eright to left\u202c", "zero\u200bwidth\u200cjoin\u200der\ufeff",
]

UNITS = [
    ("a", 5000), ("ab", 3000), (" ", 5000), ("\n", 3000), ("\t", 1000), ("=", 3000), ("é", 1500),
    ("9", 300), ("中", 500), (" a", 1500), ("😀", 300), ("\r\n", 1000), ("aé", 700),
    ("\u3000", 500), ("'s", 500), ("!a", 500), ("-", 100000), ("e", 100000),
]


def license_lines():
    for name in ("GPL-3", "Artistic", "MPL-2.0", "LGPL-2.1"):
        with open("/usr/share/common-licenses/" + name, encoding="utf-8") as file:
            yield from (line for line in file if line.strip())


def random_texts(rng):
    words = "the of Straße und 数据 عالم return x = 0 17 don't — naïve 😀 KV ﬁ 'll … ( )".split()
    for _ in range(250):
        n = rng.randint(2, 10)
        yield "".join(rng.choice(words) + rng.choice(SPACES + " " * 30) * rng.randint(0, 3)
                      for _ in range(n))
    for _ in range(200):
        yield "".join(rng.choice(SPACES + "ab1é!") for _ in range(rng.randint(1, 15)))
    tops = ((0x80, 150), (0x250, 150), (0x3000, 200), (0x10000, 250), (0x110000, 250),
            (0x32400, 150))
    for top, count in tops:
        for _ in range(count):
            codes = (rng.randrange(top) for _ in range(rng.randint(1, 14)))
            yield "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)


def texts():
    rng = random.Random(20240501)
    yield from TEXTS
    for space in SPACES:
        yield from (space, "a" + space + "b", "a" + space * 2 + "b", space * 3 + "1",
                    "!" + space + "!", " " + space + " x" + space)
    yield from list(license_lines())[:900]
    yield from random_texts(rng)


def main():
    tokenizer = reference(sys.argv[1])

    def write(*start):
        tokens = tokenizer.encode(start[0] * (start[1] if len(start) > 1 else 1)).ids
        print(json.dumps([*start, tokens], ensure_ascii=False, separators=(",", ":")))

    for text in dict.fromkeys(texts()):
        write(text)
    for unit, count in UNITS:
        tokens = tokenizer.encode(unit * count).ids
        if count < 100000:
            write(unit, count)
        else:  # too long to list: the first tokens and the number of all
            print(json.dumps([unit, count, tokens[:8], len(tokens)], separators=(",", ":")))


main()
