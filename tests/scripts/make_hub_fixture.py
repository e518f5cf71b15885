#!/usr/bin/env python3
"""Makes tests/fixtures/hub_*/ and hub_*.json: tiny checkpoints with random weights as Hugging
Face's transformers writes them, and the logits that it finds in them in float64.

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install torch transformers safetensors tokenizers gguf numpy
    /tmp/venv/bin/python tests/scripts/make_hub_fixture.py tests/fixtures

Llama in one file of F16, with RoPE's scaling at work within the fixture's length; Qwen2 in several
files of BF16 with their index. The tokenizers come from tests/fixtures/vocab_*.json.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, decoders

from make_family_fixture import PLAIN, SHOWN, SIZES, N_TOKENS, random_weight
from tokenizer_reference import byte_level

N_VOCAB = 704  # more rows than tokens
SCALED = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, torch.float16, "2GB",
              {"head_dim": 64, "rope_parameters": SCALED, "tie_word_embeddings": False}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, torch.bfloat16, "60KB",
              {"head_dim": 128, "rope_parameters": PLAIN, "tie_word_embeddings": True}),
}
VOCABS = {"llama": "llamabpe", "qwen2": "qwen2"}


def tokenizer(folder, name):
    vocab = json.loads(pathlib.Path(folder, f"vocab_{VOCABS[name]}.json").read_text("utf-8"))
    made = byte_level(vocab)
    made.decoder = decoders.ByteLevel()
    kinds = zip(vocab["tokens"], vocab["token_type"])
    for word, kind in list(kinds):
        if kind != 1:
            made.add_tokens([AddedToken(word, normalized=False, special=kind == 3)])
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return made


def make(folder, name, seed):
    config_class, model_class, dtype, shard, settings = MODELS[name]
    config = config_class(**{**SIZES, "vocab_size": N_VOCAB}, **settings)
    config.eos_token_id = None
    random = np.random.default_rng(seed)
    model = model_class(config)
    state = {key: torch.from_numpy(random_weight(random, key, tuple(old.shape))).to(dtype)
             for key, old in model.state_dict().items()
             if not (key == "lm_head.weight" and config.tie_word_embeddings)}
    model.load_state_dict(state, strict=False)
    made = tokenizer(folder, name)
    ends = made.token_to_id("<|im_end|>")
    model.generation_config.eos_token_id = [ends, made.token_to_id("</s>")]
    out = pathlib.Path(folder, f"hub_{name}")
    model.to(dtype).save_pretrained(out, max_shard_size=shard)
    made.save(str(out / "tokenizer.json"), pretty=False)
    (out / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "<|im_start|><|im_end|>"}) + "\n")
    tokens = random.integers(0, N_VOCAB, N_TOKENS).tolist()
    # Read again: a model that was cast has its RoPE frequencies rounded, too.
    model = model_class.from_pretrained(out, dtype=torch.float64, attn_implementation="eager")
    with torch.inference_mode():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    found = {"tokens": tokens, "positions": list(SHOWN), "eos": ends,
             "logits": [[round(v, 6) for v in logits[i].tolist()] for i in SHOWN]}
    pathlib.Path(folder, f"hub_{name}.json").write_text(json.dumps(found) + "\n")
    print(name, "logits' spread", float(logits.std()))


def main(folder):
    for seed, name in enumerate(MODELS):
        make(folder, name, 40 + seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
