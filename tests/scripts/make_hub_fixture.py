#!/usr/bin/env python3
"""Makes tests/fixtures/hub_*/ and hub_*.json: tiny checkpoints with random weights as Hugging
Face's transformers writes them, and the logits that it finds in them in float64.

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install torch transformers safetensors tokenizers gguf numpy
    /tmp/venv/bin/python tests/scripts/make_hub_fixture.py tests/fixtures [MODEL...]

Llama in one file of F16, with RoPE's scaling at work within the fixture's length; Qwen2 in several
files of BF16 with their index; Mistral and Gemma 3 with windows shorter than the text; Qwen3 in F32
with YaRN over a text longer than the original positions, its logits those of matrices rounded as
packing rounds them. The tokenizers come from tests/fixtures/vocab_*.json, so make these first.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, decoders

from make_family_fixture import (GEMMA_ROPE, N_TOKENS, PLAIN, SIZES, WINDOW, YARN,
                                 random_weight, round_embedding_scale, shown)
from tokenizer_reference import byte_level, gemma, random_texts

N_VOCAB = 704  # more rows than tokens
SCALED = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, torch.float16, "2GB",
              {"head_dim": 64, "rope_parameters": SCALED, "tie_word_embeddings": False}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, torch.bfloat16, "60KB",
              {"head_dim": 128, "rope_parameters": PLAIN, "tie_word_embeddings": True}),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, torch.float16, "2GB",
                {"head_dim": 64, "rope_parameters": PLAIN, "tie_word_embeddings": True,
                 "sliding_window": WINDOW}),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM, torch.bfloat16, "2GB",
               {"head_dim": 64, "rope_parameters": GEMMA_ROPE, "sliding_window": WINDOW,
                "layer_types": ["full_attention", "sliding_attention"][::-1],
                "query_pre_attn_scalar": 24, "vocab_size": 928}),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, torch.float32, "2GB",
              {"head_dim": 64, "rope_parameters": YARN, "max_position_embeddings": 256,
               "tie_word_embeddings": True}),
}
VOCABS = {"llama": "llamabpe", "qwen2": "qwen2", "mistral": "llamabpe", "gemma3": "gemma",
          "qwen3": "qwen2"}
CHATML = {"chat": "<|im_start|><|im_end|>", "end": "<|im_end|>", "other_end": "</s>"}
GEMMA = {"chat": "<start_of_turn><end_of_turn>", "end": "<eos>", "other_end": "<end_of_turn>"}


def tokenizer(folder, name):
    vocab = json.loads(pathlib.Path(folder, f"vocab_{VOCABS[name]}.json").read_text("utf-8"))
    if VOCABS[name] == "gemma":
        return gemma(vocab)
    made = byte_level(vocab)
    made.decoder = decoders.ByteLevel()
    kinds = zip(vocab["tokens"], vocab["token_type"])
    for word, kind in list(kinds):
        if kind != 1:
            made.add_tokens([AddedToken(word, normalized=False, special=kind == 3)])
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return made


def round_matrices(model):
    """As packing does with those in F32 (docs/format.md); F16 and BF16 it takes as they are."""
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = weight.data.to(torch.bfloat16).double()


def make(folder, name, seed):
    config_class, model_class, dtype, shard, settings = MODELS[name]
    config = config_class(**{**SIZES, "vocab_size": N_VOCAB, **settings})
    config.eos_token_id = None
    chat = GEMMA if VOCABS[name] == "gemma" else CHATML
    random = np.random.default_rng(seed)
    model = model_class(config)
    one_less = 1 if name == "gemma3" else 0  # what norms hold of what they multiply by
    state = {key: torch.from_numpy(random_weight(random, key, tuple(old.shape)) -
                                   (one_less if "norm" in key else 0)).to(dtype)
             for key, old in model.state_dict().items()
             if not (key == "lm_head.weight" and config.tie_word_embeddings)}
    model.load_state_dict(state, strict=False)
    made = tokenizer(folder, name)
    ends = made.token_to_id(chat["end"])
    model.generation_config.eos_token_id = [ends, made.token_to_id(chat["other_end"])]
    out = pathlib.Path(folder, f"hub_{name}")
    model.to(dtype).save_pretrained(out, max_shard_size=shard)
    made.save(str(out / "tokenizer.json"), pretty=False)
    (out / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": chat["chat"]}) + "\n")
    tokens = random.integers(0, config.vocab_size, N_TOKENS).tolist()
    # Read again: a model that was cast has its RoPE frequencies rounded, too.
    model = model_class.from_pretrained(out, dtype=torch.float64, attn_implementation="eager")
    round_embedding_scale(model)
    if dtype is torch.float32:
        round_matrices(model)
    with torch.inference_mode():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    found = {"tokens": tokens, "positions": list(shown(config)), "eos": ends,
             "logits": [[round(v, 6) for v in logits[i].tolist()] for i in shown(config)]}
    if chat is GEMMA:  # of GGUF, longer runs of spaces than there are tokens for are cut otherwise
        texts = dict.fromkeys(random_texts(12, 200, ["<table>", "\n\n", " " * 9, "\t\t"] * 3))
        vocab = json.loads(pathlib.Path(folder, "vocab_gemma.json").read_text("utf-8"))
        plain = gemma(vocab, with_special=False)
        found["samples"] = [[text, plain.encode(text, add_special_tokens=False).ids]
                            for text in texts]
    pathlib.Path(folder, f"hub_{name}.json").write_text(json.dumps(found) + "\n")
    print(name, "logits' spread", float(logits.std()))


def main(folder, *names):
    for seed, name in enumerate(MODELS):
        if not names or name in names:
            make(folder, name, 40 + seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
