#!/usr/bin/env python3
"""Makes tests/fixtures/vocab_*.json: a small vocabulary of each kind, trained on the spot, and what
Hugging Face's library makes of random texts.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tests/scripts/make_vocab_fixture.py tests/fixtures [KIND...]

A file holds tokenizer.ggml.* as a GGUF file would, and "samples", a list of [text, tokens], with
the text that they decode to where that is another.
"""
import json
import pathlib
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tokenizer_reference import (KINDS, USER, WORDS, composed, pre_tokenizer, random_texts,
                                 reference)

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


def gemma():
    """SentencePiece without a space before the text, with runs of white space as the maker's own
    tokens, all of which are low ids."""
    runs = [c * n for c in "\n " for n in range(2, 6)] + ["\n", "<table>"]
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    vocab = sentencepiece()
    learnt = [w for w, kind in zip(vocab["tokens"], vocab["token_type"]) if kind == 1]
    learnt = [w for w in learnt if "\n" not in w and (w.strip("\u2581") or len(w) == 1)]
    tokens = specials + runs + [f"<0x{i:02X}>" for i in range(256)] + learnt
    types = [3, 3, 3, 2, 3, 3, 3] + [4] * len(runs) + [6] * 256 + [1] * len(learnt)
    scores = [0.0] * (len(tokens) - len(learnt)) + [-float(i) for i in range(len(learnt))]
    return {"model": "llama", "tokens": tokens, "token_type": types, "scores": scores,
            "add_space_prefix": False, "bos_token_id": 2, "eos_token_id": 1}


def write(folder, name, vocab):
    encode = reference(vocab)
    users = [w for w, kind in zip(vocab["tokens"], vocab["token_type"]) if kind == USER]
    texts = dict.fromkeys(random_texts(11, SAMPLES, users * 3))
    vocab["samples"] = [[text, encode(text)] + [seen] * (seen != text)
                        for text in texts for seen in [composed(vocab, text)]]
    text = json.dumps(vocab, ensure_ascii=False, separators=(",", ":")).replace("],[\"", "],\n[\"")
    pathlib.Path(folder, f"vocab_{name}.json").write_text(text + "\n", encoding="utf-8")


def main(folder, *names):
    kinds = {pre.replace("-", ""): lambda pre=pre: byte_level(pre)
             for pre in ("gpt-2", "llama-bpe", "qwen2", "tekken")}
    kinds |= {"sentencepiece": sentencepiece, "gemma": gemma}
    for name, make in kinds.items():
        if not names or name in names:
            write(folder, name, make())


if __name__ == "__main__":
    main(*sys.argv[1:])
