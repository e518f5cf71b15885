// Checkpoints of a few kilobytes, right and slightly wrong.
#include <functional>
#include <nlohmann/json.hpp>

#include "ipc/result.h"
#include "tests/fuzz/seeds.h"
#include "tests/model/gguf_writer.h"

namespace polykv::fuzz {
namespace {

using nlohmann::json;

constexpr uint32_t kWidth = 32, kHead = 64, kTokens = 16;

struct TableEntry {
  std::string name;
  std::vector<uint64_t> shape;  // outermost first
};

std::string safetensors(const std::vector<TableEntry>& entries, const char* dtype = "BF16") {
  const uint64_t each = std::string(dtype) == "F32" ? 4 : 2;
  json table = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const TableEntry& entry : entries) {
    uint64_t bytes = each;
    for (const uint64_t n : entry.shape) bytes *= n;
    table[entry.name] = {{"dtype", dtype},
                         {"shape", entry.shape},
                         {"data_offsets", {data.size(), data.size() + bytes}}};
    data.resize(data.size() + bytes, '\x3c');
  }
  const std::string text = table.dump();
  return test::raw<uint64_t>(text.size()) + text + data;
}

std::vector<TableEntry> hub_tensors() {
  const std::string layer = "model.layers.0.";
  return {{"model.embed_tokens.weight", {kTokens, kWidth}},
          {"model.norm.weight", {kWidth}},
          {layer + "input_layernorm.weight", {kWidth}},
          {layer + "post_attention_layernorm.weight", {kWidth}},
          {layer + "self_attn.q_proj.weight", {kHead, kWidth}},
          {layer + "self_attn.k_proj.weight", {kHead, kWidth}},
          {layer + "self_attn.v_proj.weight", {kHead, kWidth}},
          {layer + "self_attn.o_proj.weight", {kWidth, kHead}},
          {layer + "mlp.gate_proj.weight", {kWidth, kWidth}},
          {layer + "mlp.up_proj.weight", {kWidth, kWidth}},
          {layer + "mlp.down_proj.weight", {kWidth, kWidth}}};
}

json hub_config() {
  json config = json::parse(read_fixture("hub_llama/config.json"));
  config.update({{"hidden_size", kWidth},
                 {"intermediate_size", kWidth},
                 {"num_attention_heads", 1},
                 {"num_key_value_heads", 1},
                 {"num_hidden_layers", 1},
                 {"tie_word_embeddings", true},
                 {"vocab_size", kTokens}});
  return config;
}

// The fixture's steps with a vocabulary of a few tokens.
json hub_tokenizer(const char* family) {
  json all = json::parse(read_fixture(cat("hub_", family, "/tokenizer.json")));
  all["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 4}, {"\u0120", 5}};
  all["model"]["merges"] = {{"a", "b"}, {"ab", "c"}};
  all["added_tokens"] = {{{"id", 6}, {"content", "<|im_end|>"}, {"special", true}},
                         {{"id", 7}, {"content", "<think>"}, {"special", false}}};
  return all;
}

// As Llama 2's is: bytes for unknown characters, a space before the text.
json spaced_tokenizer() {
  json words = {{"a", 0}, {"b", 1}, {"ab", 2}, {"\u2581", 3}};
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    words[name] = 4 + i;
  }
  const json spaces = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const json prefix = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  return {
      {"normalizer", {{"type", "Sequence"}, {"normalizers", {prefix, spaces}}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}},
      {"model", {{"type", "BPE"}, {"byte_fallback", true}, {"vocab", words}, {"merges", {"a b"}}}}};
}

std::string folder(const json& config, const json& tokenizer, const std::string& index,
                   const std::string& chat, const std::string& weights) {
  const std::string generation = R"({"bos_token_id": 1, "eos_token_id": [3, 2]})";
  std::string out;
  for (const std::string& part : {config.dump(), generation, tokenizer.dump(), index, chat}) {
    out += part + '\0';
  }
  return out + weights;
}

// Each field of a file left out, or as another type.
void add_spoilt_fields(Seeds& seeds, const std::string& name, const json& whole,
                       const std::function<std::string(const json&)>& input) {
  for (const auto& [key, value] : whole.items()) {
    size_t n = 0;
    for (const json& wrong :
         {json(), json("x"), json(-1), json(1e15), json({1, 2, 3}), json({{"type", "x"}})}) {
      json spoilt = whole;
      spoilt[key] = wrong;
      seeds.inputs[cat(name, '_', key, n++)] = input(spoilt);
    }
  }
}

void add_spoilt_folders(Seeds& seeds, const json& tokenizer, const std::string& few) {
  add_spoilt_fields(seeds, "config", hub_config(),
                    [&](const json& it) { return folder(it, tokenizer, "", "", few); });
  add_spoilt_fields(seeds, "tokenizer", tokenizer,
                    [&](const json& it) { return folder(hub_config(), it, "", "", few); });
  add_spoilt_fields(seeds, "model", tokenizer["model"], [&](const json& it) {
    json all = tokenizer;
    all["model"] = it;
    return folder(hub_config(), all, "", "", few);
  });
  add_spoilt_fields(seeds, "rope", hub_config()["rope_parameters"], [&](const json& it) {
    json all = hub_config();
    all["rope_parameters"] = it;
    return folder(all, tokenizer, "", "", few);
  });
  json other = hub_config();
  other.update({{"quantization_config", {{"bits", 4}}}});
  seeds.inputs["quantised"] = folder(other, tokenizer, "", "", few);
  other = hub_config();
  other.update({{"partial_rotary_factor", 0.5}});
  seeds.inputs["partial"] = folder(other, tokenizer, "", "", few);
  other = hub_config();
  other.update({{"layer_types", {"full_attention", "sliding_attention"}}});
  seeds.inputs["windows"] = folder(other, tokenizer, "", "", few);
  seeds.inputs["index_outside"] =
      folder(hub_config(), tokenizer, R"({"weight_map": {"a": "../x"}})", "", few);
  seeds.inputs["index_empty"] = folder(hub_config(), tokenizer, "{}", "", few);
}

// Gemma 3: windows with a RoPE of their own, norms that are stored less 1.
void add_gemma(Seeds& seeds) {
  const json config = json::parse(read_fixture("hub_gemma3/config.json"));
  const json tokenizer = json::parse(read_fixture("hub_gemma3/tokenizer.json"));
  const std::string weights = read_fixture("hub_gemma3/model.safetensors");
  seeds.inputs["gemma"] = folder(config, tokenizer, "", "<start_of_turn>", weights);
  const std::string few = safetensors({{"model.embed_tokens.weight", {928, 1}}});
  const json within = {{"model_type", "gemma3"}, {"text_config", config}};
  seeds.inputs["gemma_within"] = folder(within, tokenizer, "", "", few);
  add_spoilt_fields(seeds, "gemma", config,
                    [&](const json& it) { return folder(it, tokenizer, "", "", few); });
  for (const char* family : {"qwen2", "mistral", "llama"}) {
    json other = config;
    other.update({{"model_type", family}, {"sliding_window", 7}, {"use_sliding_window", true}});
    seeds.inputs[cat("windows_", family)] = folder(other, tokenizer, "", "", few);
  }
}

}  // namespace

void add_hub_seeds(AllSeeds& all) {
  Seeds& seeds = all["hub"];
  const std::string weights = safetensors(hub_tensors());
  const std::string index = R"({"weight_map": {"a": "model.safetensors"}})";
  const std::string few = safetensors({{"model.embed_tokens.weight", {kTokens, 1}}});
  const json llama = hub_tokenizer("llama"), qwen = hub_tokenizer("qwen2");
  seeds.inputs["whole"] = folder(hub_config(), llama, index, "<|im_start|>", weights);
  seeds.inputs["few_tensors"] = folder(hub_config(), llama, "", "", few);
  add_spoilt_folders(seeds, llama, few);
  json config = hub_config();
  config["model_type"] = "qwen2";
  seeds.inputs["qwen2"] = folder(config, qwen, "", "", few);
  json more = hub_tokenizer("llama");
  more["pre_tokenizer"]["pretokenizers"][0] = {{"type", "Digits"}, {"individual_digits", true}};
  more["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = true;
  seeds.inputs["smollm"] = folder(config, more, "", "", few);
  more["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  seeds.inputs["gpt2"] = folder(config, more, "", "", few);
  const std::string rows = safetensors({{"model.embed_tokens.weight", {260, 1}}});
  config["vocab_size"] = 260;
  seeds.inputs["spaced"] = folder(config, spaced_tokenizer(), "", "", rows);
  json metaspace = spaced_tokenizer();
  metaspace["normalizer"] = nullptr;
  metaspace["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"prepend_scheme", "first"}, {"split", false}};
  add_gemma(seeds);
  seeds.inputs["metaspace"] = folder(config, metaspace, "", "", rows);
  for (const json& names : {hub_config(), llama, llama["model"], spaced_tokenizer()}) {
    for (const auto& [name, value] : names.items()) seeds.words.push_back('"' + name + '"');
  }
  for (const auto& tensor : hub_tensors()) seeds.words.push_back(tensor.name);
  seeds.words.insert(seeds.words.end(),
                     {"\"rope_type\"", "\"yarn\"", "\"llama3\"", "\"linear\"", "null", "true",
                      "false", "\"Sequence\"", "\"Split\"", "\"NFC\"", "\"data_offsets\""});
  all["json"].words = all["safetensors"].words = seeds.words;
  all["json"].inputs["config"] = hub_config().dump();
  all["json"].inputs["tokenizer"] = llama.dump(1);
  all["json"].inputs["deep"] = std::string(32, '[') + std::string(32, ']');
  all["json"].inputs["numbers"] =
      R"([0, -1, 1e9, 1.5, 18446744073709551615, true, null, "\u0041"])";
  add_cut_short(all["safetensors"], "bf16", few, 3);
  all["safetensors"].inputs["bf16"] = few;
  all["safetensors"].inputs["overlap"] =
      R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[2],)"
      R"("data_offsets":[2,6]}})";
  all["safetensors"].inputs["f32"] = safetensors({{"x", {2, 3}}, {"y", {1, 1, 2, 1}}}, "F32");
  all["safetensors"].inputs["f16"] = safetensors({{"x", {2}}, {"y", {3}}, {"z", {1}}}, "F16");
}

}  // namespace polykv::fuzz
