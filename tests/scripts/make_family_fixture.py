#!/usr/bin/env python3
"""Makes tests/fixtures/family_*.gguf and family_*.json: tiny models with random weights, one of
each family, one with YaRN and all types of tensors whose blocks are 32 long, and one with those
whose blocks are 256 long; and the logits that an independent implementation finds.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers gguf numpy
    /tmp/venv/bin/python tests/scripts/make_family_fixture.py tests/fixtures [FAMILY...]

The reference is Hugging Face's transformers in float64, with the weights that the file holds: Q8_0
matrices (and the others) as they dequantise. Weights are scaled so that each feature matters.
"""
import itertools
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Q
from k_quants import quantize_k

N_TOKENS, SHOWN = 80, (0, 1, 31, 32, 63, 79)
WINDOW = 20
AROUND_WINDOWS = (0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 2, 2 * WINDOW - 1, 2 * WINDOW,
                  3 * WINDOW - 1, 3 * WINDOW, 79)
N_VOCAB = 288
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0,
        "original_max_position_embeddings": 32}
GEMMA_ROPE = {"full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 8.0},
              "sliding_attention": PLAIN}

SIZES = {"vocab_size": N_VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16384,
         "rms_norm_eps": 1e-5, "attn_implementation": "eager"}
# Name: (architecture in GGUF, configuration, model, heads' rows permuted)
FAMILIES = {
    "llama": ("llama", transformers.LlamaConfig(
        **SIZES, head_dim=64, rope_parameters=LLAMA3, tie_word_embeddings=False),
        transformers.LlamaForCausalLM, True),
    "mistral": ("llama", transformers.MistralConfig(
        **SIZES, head_dim=128, rope_parameters=PLAIN, sliding_window=WINDOW,
        tie_word_embeddings=False), transformers.MistralForCausalLM, True),
    "qwen2": ("qwen2", transformers.Qwen2Config(
        **SIZES, head_dim=64, rope_parameters=PLAIN, tie_word_embeddings=True),
        transformers.Qwen2ForCausalLM, False),
    "qwen3": ("qwen3", transformers.Qwen3Config(
        **SIZES, head_dim=256, rope_parameters=PLAIN, tie_word_embeddings=True),
        transformers.Qwen3ForCausalLM, False),
    "gemma3": ("gemma3", transformers.Gemma3TextConfig(
        **{**SIZES, "num_hidden_layers": 3}, head_dim=256, rope_parameters=GEMMA_ROPE,
        sliding_window=WINDOW, layer_types=["sliding_attention"] * 2 + ["full_attention"],
        query_pre_attn_scalar=256), transformers.Gemma3ForCausalLM, False),
    "yarn": ("qwen3", transformers.Qwen3Config(
        **{**SIZES, "max_position_embeddings": 256}, head_dim=64, rope_parameters=YARN,
        tie_word_embeddings=False), transformers.Qwen3ForCausalLM, False),
    "kquants": ("llama", transformers.LlamaConfig(
        **{**SIZES, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
           "num_key_value_heads": 1}, head_dim=64, rope_parameters=PLAIN,
        tie_word_embeddings=False), transformers.LlamaForCausalLM, True),
}
K_QUANTS = [Q.Q4_K, Q.Q5_K, Q.Q6_K]
TYPES = {"yarn": [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.BF16, Q.Q8_0, Q.F16],  # of the others, Q8_0
         "kquants": K_QUANTS}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GEMMA_NAMES = {"post_attention_layernorm": "post_attention_norm",
               "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"}


def gguf_name(name, arch):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
             "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    stem, kind = rest.rsplit(".", 1)
    names = {**NAMES, **GEMMA_NAMES} if arch == "gemma3" else NAMES
    return f"blk.{layer}.{names[stem]}.{kind}"


def random_weight(random, name, shape):
    """Attention sharp enough to tell positions apart, biases as large as what they are added to."""
    if "norm" in name:
        return (1 + 0.5 * random.normal(size=shape)).astype(np.float32)
    if name.endswith("bias"):
        return (2 * random.normal(size=shape)).astype(np.float32)
    gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
    return (gain * random.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


def interleaved(rows, head_dim):
    """The order of rows that GGUF has: pair i of a head at 2i and 2i + 1."""
    heads = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def rope_factors(config):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    dim = config.head_dim
    plain = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return (plain / scaled.double()).numpy().astype(np.float32)


def byte_tokens():
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    other = [chr(256 + i) for i in range(256 - len(shown))]
    return [chr(b) for b in shown] + other


def shown(config):
    return AROUND_WINDOWS if getattr(config, "sliding_window", None) else SHOWN


def round_embedding_scale(model):
    """As the model has it in the type that it was trained in."""
    embedding = model.get_input_embeddings()
    if hasattr(embedding, "embed_scale"):
        embedding.embed_scale = embedding.embed_scale.to(torch.bfloat16).double()


def add_windows(writer, config, arch):
    if getattr(config, "sliding_window", None) is None:
        return
    writer.add_sliding_window(config.sliding_window)
    if arch == "gemma3":
        writer.add_sliding_window_pattern([t == "sliding_attention" for t in config.layer_types])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["full_attention"]["factor"])


def add_yarn(writer, config):
    if config.rope_parameters.get("rope_type") != "yarn":
        return
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    writer.add_rope_scaling_orig_ctx_len(
        config.rope_parameters["original_max_position_embeddings"])


def rope_base(config):
    return config.rope_parameters.get("full_attention", config.rope_parameters)["rope_theta"]


def add_metadata(writer, config, arch):
    special = ["<|im_start|>", "<|im_end|>"] + [f"<|{i}|>" for i in range(N_VOCAB - 259)]
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope_base(config))
    add_windows(writer, config, arch)
    add_yarn(writer, config)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if arch.startswith("qwen") else "llama-bpe")
    writer.add_token_list(byte_tokens() + ["ab"] + special)
    writer.add_token_types([1] * 257 + [3] * len(special))
    writer.add_token_merges(["a b"])
    writer.add_chat_template("<|im_start|><|im_end|>")


def uneven(random, weight):
    """Sub-blocks of very different sizes, so that a block's scales use all of their bits."""
    size = 2.0 ** random.uniform(-5, 0, (len(weight), weight.shape[1] // 16, 1))
    parts = weight.reshape(len(weight), -1, 16) * size / np.sqrt((size ** 2).mean())
    return parts.reshape(weight.shape).astype(np.float32)


def quantize(weight, kind):
    return (quantize_k if kind in K_QUANTS else gguf.quants.quantize)(weight, kind)


def make(folder, name, seed):
    arch, config, cls, permuted = FAMILIES[name]
    random = np.random.default_rng(seed)
    model = cls(config).double().eval()
    path = str(pathlib.Path(folder, f"family_{name}.gguf"))
    writer = gguf.GGUFWriter(path, arch)
    add_metadata(writer, config, arch)
    types = itertools.cycle(TYPES.get(name, [Q.Q8_0]))
    state = {}
    for key, old in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = random_weight(random, key, tuple(old.shape))
        if weight.ndim == 1:
            written = weight
            if arch == "gemma3":  # whose norms multiply by 1 more than what they hold
                weight = weight - 1
            if permuted and key.endswith(("q_proj.bias", "k_proj.bias")):
                written = interleaved(weight, config.head_dim)
            writer.add_tensor(gguf_name(key, arch), written)
        else:
            kind = next(types)
            if kind in K_QUANTS:
                weight = uneven(random, weight)
            blocks = quantize(weight, kind)
            weight = gguf.quants.dequantize(blocks, kind)
            if permuted and key.endswith(("q_proj.weight", "k_proj.weight")):
                blocks = interleaved(blocks, config.head_dim)
            writer.add_tensor(gguf_name(key, arch), blocks, raw_dtype=kind)
        state[key] = torch.from_numpy(weight.astype(np.float64))
    if config.rope_parameters.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    round_embedding_scale(model)
    tokens = random.integers(0, N_VOCAB, N_TOKENS).tolist()
    with torch.inference_mode():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    found = {"tokens": tokens, "positions": list(shown(config)),
             "logits": [[round(v, 6) for v in logits[i].tolist()] for i in shown(config)]}
    print(name, "logits' spread", float(logits.std()))
    pathlib.Path(folder, f"family_{name}.json").write_text(json.dumps(found) + "\n")


def main(folder, *names):
    for seed, name in enumerate(FAMILIES):
        if not names or name in names:
            make(folder, name, seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
