#!/usr/bin/env python3
"""Compares our tokens with those of Hugging Face's library for random texts, and with the expected
ids beside llama.cpp's vocabularies.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf tokenizers
    /tmp/venv/bin/pip download --no-deps --no-binary=llama-cpp-python llama-cpp-python  # an sdist
    /tmp/venv/bin/python tests/scripts/check_tokenizers.py build/release/bin/tokenize \\
        llama_cpp_python-*/vendor/llama.cpp/models/ggml-vocab-{llama-spm,llama-bpe,gpt-2,qwen2}.gguf

A vocabulary may also be a whole model, a tokenizer.json, or one that was trained on the spot, where
llama.cpp has none of its kind: tests/fixtures/vocab_tekken.json (tests/scripts/
make_vocab_fixture.py). Every text must also come back from its tokens unchanged, but for what the
vocabulary cannot say: bytes without a token, U+2581 in SentencePiece's, and what is not in
Unicode's form NFC where the model wants it.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
from tokenizers import Tokenizer

from tokenizer_reference import USER, composed, random_texts, reference

COUNT = 12000


def read_json(path):
    """The kind of vocabulary, and the library's own tokenizer without its special tokens."""
    file = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    file["added_tokens"] = [t for t in file["added_tokens"] if not t["special"]]
    # The library finds U+2581 in texts by its added tokens; to us it is a space there.
    users = [t["content"] for t in file["added_tokens"] if "\u2581" not in t["content"]]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    kind = {"model": "llama" if file["model"].get("byte_fallback") else "gpt2"}
    return kind, users, lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def read_vocab(path):
    prefix = "tokenizer.ggml."
    fields = gguf.GGUFReader(path).fields
    return {name[len(prefix):]: fields[name].contents() for name in fields
            if name.startswith(prefix) and name != prefix + "precompiled_charsmap"}


def write_vocab(vocab, path):
    """As a GGUF file without tensors."""
    prefix = "tokenizer.ggml."
    writer = gguf.GGUFWriter(path, "llama")
    for name in ("model", "pre"):
        if name in vocab:
            writer.add_string(prefix + name, vocab[name])
    for name in ("tokens", "token_type", "merges", "scores"):
        if name in vocab:
            writer.add_array(prefix + name, vocab[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def ours(program, path, texts):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    run = subprocess.run([program, path], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def listed(path):
    """The texts and ids of llama.cpp's own test."""
    texts, ids = pathlib.Path(path + ".inp"), pathlib.Path(path + ".out")
    if not texts.exists():
        return []
    parts = texts.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = ids.read_text().splitlines()
    return list(zip(parts, [[int(i) for i in line.split()] for line in lines]))


def report(name, wrong, total):
    print(f"  {name}: {total - len(wrong)} of {total} equal")
    for text, found, wanted in wrong[:5]:
        print(f"    {text!r}\n      ours      {found}\n      reference {wanted}")
    return len(wrong)


def kept(text, vocab):
    return text.replace("\u2581", " ") if vocab["model"] == "llama" else composed(vocab, text)


def check(program, path):
    if path.endswith("tokenizer.json"):
        return check_vocab(program, path, *read_json(path))
    if not path.endswith(".json"):
        vocab = read_vocab(path)
        return check_vocab(program, path, vocab, users_of(vocab), reference(vocab))
    vocab = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        written = str(pathlib.Path(folder, "vocab.gguf"))
        write_vocab(vocab, written)
        return check_vocab(program, written, vocab, users_of(vocab), reference(vocab))


def users_of(vocab):
    return [w for w, kind in zip(vocab["tokens"], vocab["token_type"]) if kind == USER]


def check_vocab(program, path, vocab, users, encode):
    print(path, vocab["model"], vocab.get("pre", ""))
    texts = list(random_texts(7, COUNT, users[:20]))
    answers = ours(program, path, texts)
    wrong = [(text, tokens, encode(text)) for text, (tokens, _) in zip(texts, answers)
             if tokens != encode(text)]
    failures = report("Hugging Face's tokens", wrong, len(texts))
    back = [(text, found, "") for text, (_, found) in zip(texts, answers)
            if found != kept(text, vocab)]
    failures += report("texts that come back", back, len(texts))
    known = listed(path)
    answers = ours(program, path, [text for text, _ in known])
    wrong = [(text, tokens, ids) for (text, ids), (tokens, _) in zip(known, answers)
             if tokens != ids]
    return failures + report("llama.cpp's list", wrong, len(known))


def main(program, *paths):
    return 1 if sum([check(program, path) for path in paths]) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
