#!/usr/bin/env python3
"""Makes tests/fixtures/vocab_*.json: a small vocabulary of each kind, trained on the spot, and what
Hugging Face's library makes of random texts.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tests/scripts/make_vocab_fixture.py tests/fixtures

A file holds tokenizer.ggml.* as a GGUF file would, and "samples", a list of [text, tokens], with
the text that they decode to where that is another.
"""
import json
import pathlib
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tokenizer_reference import KINDS, WORDS, composed, pre_tokenizer, random_texts, reference

SIZE, SAMPLES = 640, 400
USERS = ["<think>", "</think>", "<think", "\n\n\n"]
SPECIALS = ["<s>", "</s>"]


def corpus():
    text = pathlib.Path("/usr/share/common-licenses/GPL-3").read_text(encoding="utf-8")
    return [text, " ".join(WORDS * 20)]


def train(tokenizer, alphabet, size):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    return words, [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]


def byte_level(pre):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(KINDS[pre])
    words, merges = train(tokenizer, pre_tokenizers.ByteLevel.alphabet(), SIZE)
    tokens = words + SPECIALS + USERS
    types = [1] * len(words) + [3] * len(SPECIALS) + [4] * len(USERS)
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "merges": merges}


def sentencepiece():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    words, _ = train(tokenizer, list(map(chr, range(33, 127))), SIZE)
    singles, longer = [w for w in words if len(w) == 1], [w for w in words if len(w) > 1]
    tokens = ["<unk>"] + SPECIALS + [f"<0x{i:02X}>" for i in range(256)] + longer + singles + USERS
    types = [2, 3, 3] + [6] * 256 + [1] * len(words) + [4] * len(USERS)
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))] + [0.0] * len(USERS)
    return {"model": "llama", "tokens": tokens, "token_type": types, "scores": scores}


def write(folder, name, vocab):
    encode = reference(vocab)
    texts = dict.fromkeys(random_texts(11, SAMPLES, USERS * 3))
    vocab["samples"] = [[text, encode(text)] + [seen] * (seen != text)
                        for text in texts for seen in [composed(vocab, text)]]
    text = json.dumps(vocab, ensure_ascii=False, separators=(",", ":")).replace("],[\"", "],\n[\"")
    pathlib.Path(folder, f"vocab_{name}.json").write_text(text + "\n", encoding="utf-8")


def main(folder):
    for pre in ("gpt-2", "llama-bpe", "qwen2", "tekken"):
        write(folder, pre.replace("-", ""), byte_level(pre))
    write(folder, "sentencepiece", sentencepiece())


if __name__ == "__main__":
    main(*sys.argv[1:])
