"""What the scripts about tokenizers share: a reference tokenizer made from a vocabulary by Hugging
Face's library, and random texts. Needs: pip install tokenizers.

A vocabulary is a dict as the metadata of a GGUF file has it, without "tokenizer.ggml.".
"""
import random

from tokenizers import (AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers,
                        processors)

CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s|" \
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = CASES % "{1,3}", CASES % ""
CAPITALS, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BEFORE = r"[^\r\n\p{L}\p{N}]?"
TEKKEN = BEFORE + CAPITALS + "*" + SMALL + "+|" + BEFORE + CAPITALS + "+" + SMALL + "*" + \
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KINDS = {"smollm": "smollm", "gpt-2": "gpt2", "llama-bpe": "llama3", "qwen2": "qwen2",
         "tekken": "tekken"}
PATTERNS = {"llama3": LLAMA3, "qwen2": QWEN2, "tekken": TEKKEN}
WHOLE_WORDS = ("llama3", "tekken")  # a piece that is a token is that token, unmerged
NORMAL, USER, BYTE = 1, 4, 6


def cut(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def pre_tokenizer(kind):
    if kind == "smollm":
        return pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if kind == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return cut(PATTERNS[kind])


def merges_of_scores(vocab):
    """As transformers.convert_slow_tokenizer.generate_merges does."""
    words, kinds, scores = vocab["tokens"], vocab["token_type"], vocab["scores"]
    ids = {word: i for i, word in enumerate(words) if kinds[i] == NORMAL}
    found = []
    for word, i in ids.items():
        pairs = ((word[:at], word[at:]) for at in range(1, len(word)))
        pairs = [p for p in pairs if p[0] in ids and p[1] in ids]
        pairs.sort(key=lambda p: (ids[p[0]], ids[p[1]]))
        found += [(scores[i], pair) for pair in pairs]
    found.sort(key=lambda f: (f[0], len(f[1][0]), len(f[1][1])), reverse=True)
    return [pair for _, pair in found]


def sentencepiece(vocab):
    words, kinds = vocab["tokens"], vocab["token_type"]
    texts = {word: i for i, word in enumerate(words) if kinds[i] != 3}
    tokenizer = Tokenizer(models.BPE(vocab=texts, merges=merges_of_scores(vocab),
                                     byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    steps = [normalizers.Replace(" ", "\u2581")]
    if vocab.get("add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("\u2581"))
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def gemma(vocab, with_special=True):
    """As tokenizer.json of Gemma 3 has it: ids are ranks, the maker's runs of white space merge as
    all else does, a tab is a token instead of a byte, and contexts begin with <bos>. Without its
    special tokens they are plain text."""
    kinds = vocab["token_type"]
    words = [w.replace(" ", "\u2581") if kinds[i] == USER else w
             for i, w in enumerate(vocab["tokens"])]
    words[words.index("<0x09>")] = "\t"
    ids = {word: i for i, word in enumerate(words)}
    merging = {w: i for w, i in ids.items() if w == "\t" or kinds[i] in (NORMAL, USER)}
    merges = [(i, len(w[:at]), len(w[at:]), w[:at], w[at:]) for w, i in merging.items()
              for at in range(1, len(w)) if w[:at] in merging and w[at:] in merging]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[m[3:] for m in sorted(merges)],
                                     byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", ids["<bos>"])])
    for i, word in enumerate(words):
        if kinds[i] == USER or with_special and kinds[i] not in (NORMAL, BYTE):
            tokenizer.add_tokens([AddedToken(word, normalized=False, special=kinds[i] != USER)])
    return tokenizer


def byte_level(vocab):
    kind = KINDS[vocab["pre"]]
    texts = {word: i for i, word in enumerate(vocab["tokens"]) if vocab["token_type"][i] == NORMAL}
    merges = [tuple(merge.split(" ", 1)) for merge in vocab["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=texts, merges=merges, ignore_merges=kind in WHOLE_WORDS))
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer(kind)
    return tokenizer


def reference(vocab):
    """Special tokens are not looked for in text, those that a vocabulary's maker defined are."""
    tokenizer = (sentencepiece if vocab["model"] == "llama" else byte_level)(vocab)
    users = [w for w, kind in zip(vocab["tokens"], vocab["token_type"]) if kind == USER]
    ids = {word: i for i, word in enumerate(vocab["tokens"])}
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in users])
    to_ours = {tokenizer.token_to_id(word): ids[word] for word in users}

    def encode(text):
        return [to_ours.get(t, t) for t in tokenizer.encode(text, add_special_tokens=False).ids]
    return encode


SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200b))) + \
    "\u2028\u2029\u202f\u205f\u3000"
WORDS = ("the of and Straße und 数据 العالم return x = 0 17 2024 12345 don't I'M we'LL — naïve 😀 KV "
         "ﬁ 'll … ( ) {} [] <s> </s> <unk> <0x0A> // == != -> \" https://a.b/c?d=e&f #42 été мир "
         "नमस्ते สวัสดี 안녕 a_b camelCase CamelCase3 ½ Ⅷ ² e\u0301 'ſ 'S 'ves\u212a").split(" ")


# Hangul in parts, marks out of order, characters that are always replaced: what NFC changes.
COMBINING = ("\u1112\u1161\u11ab\u1100\u1173\u11af a\u0323\u0307 a\u0307\u0323 o\u0302\u0301 "
             "\u212b \u0344 \u0958 \u2126 q\u0323\u0301 \uac00\u11a8 \u0cc6\u0cc2\u0cd5").split(" ")


def composed(vocab, text):
    """The text as the tokenizer sees it."""
    import unicodedata
    nfc = vocab.get("pre") == "qwen2"
    return unicodedata.normalize("NFC", text) if nfc else text


def assigned(text):
    """Without characters that came after Unicode 14: there libraries differ by their age."""
    import unicodedata
    return "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs"))


def random_texts(seed, count, users=()):
    rng = random.Random(seed)
    words = WORDS + COMBINING + list(users)
    for i in range(count):
        form = i % 4
        if form == 0:
            yield "".join(rng.choice(words) + rng.choice(SPACES + " " * 60) * rng.randint(0, 3)
                          for _ in range(rng.randint(1, 12)))
        elif form == 1:
            yield "".join(rng.choice(SPACES + "ab1é!'sS\r\n") for _ in range(rng.randint(1, 16)))
        elif form == 2 and i % 16 == 2:
            marks = "".join(map(chr, range(0x300, 0x345)))
            jamo = "".join(map(chr, (*range(0x1100, 0x1113), *range(0x1161, 0x1176),
                                     *range(0x11a8, 0x11c3), 0xac00, 0xac1c)))
            yield "".join(rng.choice("aeioucnAEO \u1e9b\u0915" + marks + jamo)
                          for _ in range(rng.randint(1, 16)))
        elif form == 2:
            top = rng.choice((0x80, 0x250, 0x3000, 0x10000, 0x20000))
            yield assigned("".join(chr(rng.randrange(top)) for _ in range(rng.randint(1, 16))))
        else:
            yield " ".join(rng.choice(words) for _ in range(rng.randint(1, 8))) + rng.choice(
                ("", ".\n", "\r\n\r\n", "!!", "  "))
