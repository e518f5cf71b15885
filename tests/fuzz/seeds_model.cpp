// Models of a few kilobytes in each format, right and slightly wrong.
#include "model/gguf_parse.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/model/raw_image.h"
#include "tests/model/tiny_model.h"

namespace polykv::fuzz {
namespace {

using test::GgufWriter;

constexpr uint32_t kWidth = 32, kHead = 64, kTokens = 16;

void sizes(GgufWriter& file, const std::string& family) {
  file.text("general.architecture", family);
  file.text("general.name", "small");
  file.u32(family + ".block_count", 1);
  file.u32(family + ".context_length", 128);
  file.u32(family + ".embedding_length", kWidth);
  file.u32(family + ".feed_forward_length", 32);
  file.u32(family + ".attention.head_count", 2);
  file.u32(family + ".attention.head_count_kv", 1);
  file.u32(family + ".attention.key_length", kHead);
  file.f32(family + ".attention.layer_norm_rms_epsilon", 1e-5F);
  file.f32(family + ".rope.freq_base", 10000);
}

void tensors(GgufWriter& file, GgufType type) {
  const auto matrix = [&](const char* name, uint64_t columns, uint64_t rows) {
    test::add_tensor(file, name, type, {columns, rows});
  };
  matrix("token_embd.weight", kWidth, kTokens);
  matrix("blk.0.attn_q.weight", kWidth, 2 * kHead);
  matrix("blk.0.attn_k.weight", kWidth, kHead);
  matrix("blk.0.attn_v.weight", kWidth, kHead);
  matrix("blk.0.attn_output.weight", 2 * kHead, kWidth);
  matrix("blk.0.ffn_gate.weight", kWidth, 32);
  matrix("blk.0.ffn_up.weight", kWidth, 32);
  matrix("blk.0.ffn_down.weight", 32, kWidth);
  for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"})
    test::add_tensor(file, name, GgufType::f32, {kWidth});
}

GgufWriter small_model(const std::string& family, GgufType type = GgufType::q4_0) {
  GgufWriter file;
  sizes(file, family);
  test::add_tiny_vocabulary(file);
  tensors(file, type);
  if (family == "qwen2") {
    test::add_tensor(file, "blk.0.attn_q.bias", GgufType::f32, {2 * kHead});
    test::add_tensor(file, "blk.0.attn_k.bias", GgufType::f32, {kHead});
    test::add_tensor(file, "blk.0.attn_v.bias", GgufType::f32, {kHead});
  }
  if (family == "gemma3") {
    for (const char* name : {"post_attention_norm", "post_ffw_norm"}) {
      test::add_tensor(file, cat("blk.0.", name, ".weight"), GgufType::f32, {kWidth});
    }
  }
  if (family == "qwen3" || family == "gemma3") {
    test::add_tensor(file, "blk.0.attn_q_norm.weight", GgufType::f32, {kHead});
    test::add_tensor(file, "blk.0.attn_k_norm.weight", GgufType::f32, {kHead});
  }
  return file;
}

// All 256 bytes and a few words, with scores instead of merges.
void spaced_vocabulary(GgufWriter& file) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    tokens.emplace_back(name);
  }
  std::vector<int32_t> kinds(tokens.size(), 6);
  kinds[0] = 2;
  kinds[1] = kinds[2] = 3;
  for (const char* word : {"\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"}) {
    tokens.emplace_back(word);
    kinds.push_back(1);
  }
  std::vector<float> scores(tokens.size());
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = -static_cast<float>(i);
  file.text("tokenizer.ggml.model", "llama");
  file.texts("tokenizer.ggml.tokens", tokens);
  file.i32s("tokenizer.ggml.token_type", kinds);
  file.f32s("tokenizer.ggml.scores", scores);
  file.flag("tokenizer.ggml.add_bos_token", 1);
  file.flag("tokenizer.ggml.add_space_prefix", 1);
  file.u32("tokenizer.ggml.bos_token_id", 1);
}

// Every kind of value, and arrays of arrays.
GgufWriter all_kinds() {
  GgufWriter file;
  std::string items;
  for (uint32_t id = 0; id <= static_cast<uint32_t>(GgufKind::f64); ++id) {
    const auto kind = static_cast<GgufKind>(id);
    const size_t bytes = gguf_kind_bytes(kind);
    if (bytes == 0) continue;
    file.set(cat("one", id), kind, std::string(bytes, '\1'));
    file.set(cat("two", id), GgufKind::array, test::raw_array(kind, 2, std::string(2 * bytes, 1)));
  }
  file.texts("texts", {"", "one", "two words"});
  const std::string inner = test::raw_array(GgufKind::u8, 2, "ab");
  file.set("nested", GgufKind::array, test::raw_array(GgufKind::array, 2, inner + inner));
  file.u32("general.alignment", 64);
  file.alignment = 64;
  test::add_tensor(file, "first", GgufType::f32, {2, 2, 1, 1});
  test::add_tensor(file, "second", GgufType::q8_0, {32});
  return file;
}

// Windows of some of three layers: in a pattern that runs, in others, and lists of other lengths.
void add_windows(Seeds& seeds, const std::string& family) {
  size_t n = 0;
  for (const std::vector<int32_t>& layers :
       {std::vector<int32_t>{1, 1, 1}, {1, 1, 0}, {0, 0, 0}, {1, 0, 0}, {1, 1}, {2, 5, 9}}) {
    GgufWriter file = small_model(family);
    file.remove(family + ".block_count");
    file.u32(family + ".block_count", 3);
    file.u32(family + ".attention.sliding_window", 7);
    file.i32s(family + ".attention.sliding_window_pattern", layers);
    seeds.inputs[cat(family, "_windows_", n++)] = file.bytes();
  }
  for (const uint32_t period : {0U, 1U, 2U, UINT32_MAX}) {
    GgufWriter file = small_model(family);
    file.u32(family + ".attention.sliding_window", 7);
    file.u32(family + ".attention.sliding_window_pattern", period);
    seeds.inputs[cat(family, "_period_", n++)] = file.bytes();
  }
}

// Each key left out, and as another type or an absurd number; and keys that files may have besides.
void add_spoilt_keys(Seeds& seeds, const std::string& name, const GgufWriter& file) {
  for (size_t i = 0; i < file.entries.size(); ++i) {
    const std::string key = file.entries[i].key;
    GgufWriter spoilt = file;
    spoilt.remove(key);
    seeds.inputs[cat(name, "_without_", i)] = spoilt.bytes();
    spoilt.u32(key, UINT32_MAX);
    seeds.inputs[cat(name, "_number_", i)] = spoilt.bytes();
    spoilt.set(key, GgufKind::u64, std::string(8, '\x7f'));
    seeds.inputs[cat(name, "_large_", i)] = spoilt.bytes();
    spoilt.text(key, "nonsense");
    seeds.inputs[cat(name, "_text_", i)] = spoilt.bytes();
    spoilt.texts(key, {"nonsense"});
    seeds.inputs[cat(name, "_texts_", i)] = spoilt.bytes();
    spoilt.f32s(key, {1});
    seeds.inputs[cat(name, "_numbers_", i)] = spoilt.bytes();
  }
}

void add_other_keys(Seeds& seeds, const std::string& family) {
  size_t n = 0;
  const auto with = [&](const auto& change) {
    GgufWriter file = small_model(family);
    change(file);
    seeds.inputs[cat(family, "_with_", n++)] = file.bytes();
  };
  for (const char* key :
       {"attention.sliding_window", "expert_count", "vocab_size", "rope.dimension_count",
        "attention.value_length", "attention.head_count_kv"}) {
    with([&](GgufWriter& f) { f.u32(cat(family, '.', key), 7); });
    with([&](GgufWriter& f) { f.text(cat(family, '.', key), "7"); });
  }
  for (const char* type : {"none", "linear", "llama3", "yarn"}) {
    with([&](GgufWriter& f) {
      f.text(family + ".rope.scaling.type", type);
      f.f32(family + ".rope.scaling.factor", 4);
      f.u32(family + ".rope.scaling.original_context_length", 64);
    });
  }
  with([&](GgufWriter& f) { f.flag("tokenizer.ggml.add_eos_token", 1); });
  with([&](GgufWriter& f) { f.remove(family + ".attention.key_length"); });
  with([&](GgufWriter& f) { f.tensors[0].shape = {kWidth}; });
  for (const uint32_t type : {10U, 30U, 99U}) {
    with([&](GgufWriter& f) { f.tensors[0].type = type; });
  }
  for (const uint32_t type : {1U, 3U, 6U, 7U, 8U, 12U, 13U, 14U}) {
    with([&](GgufWriter& f) {  // of another size: a neighbour is in its way
      f.tensors.back().type = type;
      f.tensors.back().shape = {256};
      f.tensors.back().data.resize(1024);
    });
  }
  with([&](GgufWriter& f) { f.tensors[1].name = f.tensors[0].name; });
  with([&](GgufWriter& f) { f.tensors[1].offset = 32; });
  with([&](GgufWriter& f) { f.tensors[1].offset = 31; });
  with([&](GgufWriter& f) { f.tensors[1].shape = {UINT64_MAX, 2}; });
  with([&](GgufWriter& f) { f.entries.push_back(f.entries[0]); });
  with([&](GgufWriter& f) { f.magic = 0x46475547; });
  with([&](GgufWriter& f) { f.version = 1; });
  with([&](GgufWriter& f) { f.n_entries = 1U << 30; });
  for (const uint32_t alignment : {0U, 3U}) {
    with([&](GgufWriter& f) { f.u32("general.alignment", alignment); });
  }
}

void add_gguf(AllSeeds& all) {
  Seeds& seeds = all["gguf"];
  seeds.inputs["kinds"] = all_kinds().bytes();
  for (const char* family : {"llama", "qwen2", "qwen3"}) {
    seeds.inputs[family] = small_model(family).bytes();
  }
  seeds.inputs["q8"] = small_model("llama", GgufType::q8_0).bytes();
  GgufWriter scaled = small_model("llama");
  scaled.version = 2;
  scaled.text("llama.rope.scaling.type", "linear");
  scaled.f32("llama.rope.scaling.factor", 2);
  seeds.inputs["scaled"] = scaled.bytes();
  GgufWriter rope = small_model("llama");
  test::add_tensor(rope, "rope_freqs.weight", GgufType::f32, {kHead / 2});
  seeds.inputs["rope"] = rope.bytes();
  GgufWriter spaced;
  sizes(spaced, "llama");
  spaced_vocabulary(spaced);
  test::add_tensor(spaced, "token_embd.weight", GgufType::q4_0, {kWidth, 265});
  seeds.inputs["spaced"] = spaced.bytes();
  add_spoilt_keys(seeds, "llama", small_model("llama"));
  add_spoilt_keys(seeds, "spaced", spaced);
  for (const char* family : {"llama", "qwen2", "qwen3", "gemma3"}) add_other_keys(seeds, family);
  for (const char* family : {"llama", "qwen2", "gemma3"}) add_windows(seeds, family);
  rope.tensors.back().type = static_cast<uint32_t>(GgufType::f16);
  seeds.inputs["rope_f16"] = rope.bytes();
  rope.tensors.back().type = static_cast<uint32_t>(GgufType::f32);
  rope.tensors.back().data.clear();
  for (uint32_t i = 0; i < kHead / 2; ++i)
    rope.tensors.back().data += test::raw(i < 9 ? 1.0F : 8.0F);
  seeds.inputs["rope_llama3"] = rope.bytes();
  GgufWriter no_tensors = small_model("llama");
  no_tensors.tensors.clear();
  seeds.inputs["no_tensors"] = no_tensors.bytes();
  for (const GgufWriter& file : {small_model("llama"), spaced, all_kinds()}) {
    for (const auto& entry : file.entries) seeds.words.push_back(entry.key);
    for (const auto& tensor : file.tensors) seeds.words.push_back(tensor.name);
  }
  for (const char* word : {"qwen2", "qwen3", "llama-bpe", "gpt-2", "linear", "yarn"}) {
    seeds.words.emplace_back(word);
  }
}

void add_vocabularies(AllSeeds& all) {
  all["vocab"].inputs["bytes"] =
      "1 0 0 1\nt3 <s>\nt1 a\nt1 b\nt1 c\nt1 ab\nt1 \u0120\nt4 <think>\nt1 \u0120ab\nma b\nm\u0120 "
      "ab\n"
      "x ab cab\nx<think>a\nxno\xff";
  all["vocab"].inputs["words"] = "3 3 0 1\nt1 a\nt1 b\nt1 ab\nt1 ba\nma b\nmb a\nxababab\nxab";
  std::string spaced = "5 5 0 1\nt3 <s>\nt1 a\nt1 \u2581\nt1 \u2581a\nm\u2581 a\n";
  for (int i = 0; i < 256; ++i) {
    char line[16];
    std::snprintf(line, sizeof line, "t6 <0x%02X>\n", static_cast<unsigned>(i));
    spaced += line;
  }
  all["vocab"].inputs["spaced"] = spaced + "xa a b\u2581a\nx\u00e9";
  size_t n = 0;
  for (const char* bad :
       {"1 0 0 1\nt1 a\n", "1 0 9 1\nt1 a\nt1 b\n", "1 0 0 1\nt1 a\nt1 a\n",
        "1 0 0 1\nt1 a\nt1 \u6f22\n", "5 0 0 1\nt6 <0x0Z>\nt1 a\n", "5 0 0 1\nt6 ab\nt1 a\n",
        "1 0 0 1\nt1 a\nt1 b\nma b\n", "1 0 0 1\nt1 a\nt1 aa\nma a\nma a\n",
        "5 0 0 1\nt1 a\nt1 b\n", "1 0 0 1\nt1 \nt1 b\n"}) {
    all["vocab"].inputs[cat("bad", n++)] = bad;
  }
  all["vocab"].words = {"t1", "t3", "t4", "t6", "\nm", "\nx", "\u0120", "\u010a", "\u2581", "<0x"};
  const std::string text =
      "The 12345 quick <think>\n\n\n br\u00f8wn \u6f22\u5b57 it's\u2581 e\u0301";
  for (char kind = 0; kind < 8; ++kind)
    all["tokenizer"].inputs[cat("kind", int{kind})] = kind + text;
  all["tokenizer"].inputs["invalid"] = std::string("\0a\xff", 3);
  all["tokenizer"].words = {"<think>", "</s>", "\u2581", "\r\n", "'re", "\u00a0", "\u6f22", "  "};
}

std::string text_of(const test::RawImage& image) {
  return {reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size()};
}

// The first merge, "a b", into each token, special ones too.
void add_forged_merges(Seeds& seeds, test::RawImage image) {
  const uint64_t result = image.section(ImageSection::merges).offset + 2 * sizeof(uint32_t);
  for (uint32_t token = 0; token < image.header().config.n_vocab; ++token) {
    image.put(result, token);
    seeds.inputs[cat("merge_into_", token)] = '\3' + text_of(image);
  }
}

void add_images(AllSeeds& all) {
  for (const char* family : {"llama", "qwen2", "qwen3"}) {
    const MemoryFile on_disk(small_model(family).bytes());
    const test::RawImage image(on_disk.path());
    const std::string bytes = text_of(image);
    all["image"].inputs[family] = '\3' + bytes;
    all["image"].inputs[cat(family, "_as_is")] = '\2' + bytes;
    add_spoilt_words(all["image"], cat(family, "_header"), '\3' + bytes, 1, sizeof(ImageHeader));
    const auto section = [&](ImageSection name) { return image.section(name).offset + 1; };
    for (const auto name :
         {ImageSection::name, ImageSection::text_offsets, ImageSection::kinds,
          ImageSection::text_slots, ImageSection::merge_slots, ImageSection::merges}) {
      add_spoilt_words(all["image"], cat(family, "_section_", static_cast<int>(name)), '\3' + bytes,
                       section(name), 8);
    }
    add_spoilt_words(all["image"], cat(family, "_tensors"), '\3' + bytes,
                     section(ImageSection::tensors), 2 * sizeof(TensorEntry));
    add_cut_short(all["image"], family, '\3' + bytes, 2000);
  }
  const MemoryFile on_disk(small_model("llama").bytes());
  add_forged_merges(all["image"], test::RawImage(on_disk.path()));
  all["image"].words = {"chatml", "plain", "PKVIMG"};
}

}  // namespace

void add_model_seeds(AllSeeds& all) {
  add_gguf(all);
  add_vocabularies(all);
  add_images(all);
}

}  // namespace polykv::fuzz
