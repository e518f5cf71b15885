// What packing takes of private memory: the vocabulary, never the tensors. A program of its own: it
// counts whatever is allocated in its process.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>

#include "model/image_weights.h"
#include "tests/ipc/temp_dir.h"
#include "tests/model/real_model.h"

namespace {

std::atomic<uint64_t> allocated = 0, most_allocated = 0;

constexpr size_t kBefore = 16;  // bytes: the size, and alignment for what follows

void* counted(size_t bytes) {
  auto* memory = static_cast<std::byte*>(std::malloc(bytes + kBefore));
  if (memory == nullptr) std::abort();
  std::memcpy(memory, &bytes, sizeof bytes);
  const uint64_t now = allocated += bytes;
  uint64_t most = most_allocated;
  while (now > most && !most_allocated.compare_exchange_weak(most, now)) {
  }
  return memory + kBefore;
}

void uncounted(void* memory) {
  if (memory == nullptr) return;
  std::byte* start = static_cast<std::byte*>(memory) - kBefore;
  size_t bytes = 0;
  std::memcpy(&bytes, start, sizeof bytes);
  allocated -= bytes;
  std::free(start);
}

}  // namespace

void* operator new(size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { uncounted(memory); }
void operator delete(void* memory, size_t) noexcept { uncounted(memory); }

namespace polykv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// How much of the mapped file at `path` lies in memory: counted page by page, where
// /proc/self/status has estimates and counts the program's own pages, too.
uint64_t mapped_file_bytes(const std::string& path) {
  const std::string name = std::filesystem::canonical(path).string();
  std::ifstream file("/proc/self/smaps");
  uint64_t bytes = 0;
  bool is_of_path = false;
  for (std::string line; std::getline(file, line);) {
    const std::string_view key = std::string_view(line).substr(0, line.find(' '));
    if (!key.ends_with(':')) is_of_path = line.ends_with(name);  // a mapping's first line
    if (is_of_path && key == "Rss:") bytes += std::stoull(line.substr(key.size())) * 1024;
  }
  return bytes;
}

struct Peak {
  uint64_t heap = 0;  // bytes
  uint64_t file = 0;  // of the mapped model file, seen between two rounds
  uint64_t image = 0;
};

Peak peak_of_packing(const std::string& path) {
  const uint64_t heap_before = allocated;
  most_allocated = heap_before;
  Peak peak;
  const auto look = [&](uint64_t, uint64_t all) {
    peak.file = std::max(peak.file, mapped_file_bytes(path));
    peak.image = all;
  };
  const auto fd = pack_image(path, memory_room(), look, nullptr, "", 2);
  EXPECT_TRUE(fd) << fd.error().message;
  peak.heap = most_allocated - heap_before;
  return peak;
}

void print(const char* what, const Peak& peak, uint64_t stated) {
  std::printf("%s: image %.1f MB, private %.1f MB of stated %.1f MB, mapped %.1f MB\n", what,
              static_cast<double>(peak.image) / 1e6, static_cast<double>(peak.heap) / 1e6,
              static_cast<double>(stated) / 1e6, static_cast<double>(peak.file) / 1e6);
}

// As docs/format.md states it.
constexpr uint64_t kBytesPerToken = 250, kBytesPerMerge = 120, kBytesBeside = 4'000'000;
constexpr uint64_t kMappedBeside = 8'000'000;  // tables

TEST(PackMemory, OfARealModelIsItsVocabularyNotItsTensors) {
  POLYKV_NEEDS_MODEL();
  const TokenizerTables& tables = test::real_model()->tokenizer();
  const uint64_t stated = tables.kinds.size() * kBytesPerToken +
                          tables.merges.size() / 3 * kBytesPerMerge + kBytesBeside;
  const Peak peak = peak_of_packing(test::model_path());
  print("the test model", peak, stated);
  EXPECT_LE(peak.heap, stated);
  EXPECT_LE(peak.file, kRoundBytes + 2 * kPieceBytes + kMappedBeside);
  EXPECT_GT(peak.file, 0U) << "the measure measures";
  EXPECT_GT(peak.image, 2 * (kRoundBytes + kMappedBeside)) << "the bound would be no bound";
}

// Adds tokens of letters and the merges that lead to them until there are `n_vocab`.
void grow_vocabulary(json& model, uint32_t first_id, uint32_t n_vocab) {
  json& vocab = model["vocab"];
  std::vector<std::string> words;
  for (char letter = 'A'; letter <= 'Z'; ++letter) words.emplace_back(1, letter);
  for (size_t at = 0; first_id < n_vocab; ++at) {
    for (char letter = 'A'; letter <= 'Z' && first_id < n_vocab; ++letter) {
      const std::string word = words[at] + letter;
      if (vocab.contains(word)) continue;
      vocab[word] = first_id++;
      model["merges"].push_back({words[at], std::string(1, letter)});
      words.push_back(word);
    }
  }
}

void write_json(const std::string& path, const json& value) {
  std::ofstream(path, std::ios::trunc) << value.dump();
}

json read_json(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

// Embedding and head with zeros for the new tokens.
void grow_tensors(const std::string& path, uint32_t n_vocab) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  json table = json::parse(bytes.substr(8, size));
  std::string data;
  for (auto& [name, entry] : table.items()) {
    if (name == "__metadata__") continue;
    const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    std::string tensor = bytes.substr(8 + size + begin, end - begin);
    if (name == "lm_head.weight" || name == "model.embed_tokens.weight") {
      tensor.resize(tensor.size() / entry["shape"][0].get<uint64_t>() * n_vocab);
      entry["shape"][0] = n_vocab;
    }
    entry["data_offsets"] = {data.size(), data.size() + tensor.size()};
    data += tensor;
  }
  const std::string text = table.dump();
  const uint64_t text_bytes = text.size();
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      << std::string(reinterpret_cast<const char*>(&text_bytes), 8) << text << data;
}

TEST(PackMemory, OfAVocabularyOfAQuarterOfAMillionIsBounded) {
  constexpr uint32_t kVocab = 262'144;
  const TempDir base;
  const std::string folder = base / "hub";
  fs::copy(POLYKV_SOURCE_DIR "/tests/fixtures/hub_llama", folder);
  for (const auto& file : fs::directory_iterator(folder)) {
    fs::permissions(file.path(), fs::perms::owner_all);
  }
  json config = read_json(folder + "/config.json");
  config["vocab_size"] = kVocab;
  write_json(folder + "/config.json", config);
  json tokenizer = read_json(folder + "/tokenizer.json");
  grow_vocabulary(tokenizer["model"], 648, kVocab);
  const uint64_t merges = tokenizer["model"]["merges"].size();
  write_json(folder + "/tokenizer.json", tokenizer);
  grow_tensors(folder + "/model.safetensors", kVocab);
  const uint64_t stated = kVocab * kBytesPerToken + merges * kBytesPerMerge + kBytesBeside;
  const Peak peak = peak_of_packing(folder);
  print("262144 tokens", peak, stated);
  EXPECT_GT(merges, 250'000U);
  EXPECT_LE(peak.heap, stated);
  EXPECT_GE(peak.heap, stated / 4) << "the measure measures";
}

}  // namespace
}  // namespace polykv
