// Writes the seeds of every fuzz target: `fuzz_seeds FOLDER` makes FOLDER/<target>/<seed> and
// FOLDER/<target>.dict.
#include "tests/fuzz/seeds.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "ipc/result.h"

namespace polykv::fuzz {
namespace {

namespace fs = std::filesystem;

// A line of libFuzzer's dictionaries.
std::string quoted(const std::string& word) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out + "\"\n";
}

void write(const fs::path& folder, const std::string& target, const Seeds& seeds) {
  fs::create_directories(folder / target);
  for (const auto& [name, bytes] : seeds.inputs) {
    std::ofstream(folder / target / name, std::ios::binary) << bytes;
  }
  if (seeds.words.empty()) return;  // libFuzzer wants no empty dictionary
  std::ofstream words(folder / (target + ".dict"));
  for (const std::string& word : seeds.words) {
    if (!word.empty() && word.size() <= 64) words << quoted(word);
  }
}

}  // namespace

void add_spoilt_words(Seeds& seeds, const std::string& name, const std::string& input, size_t begin,
                      size_t bytes) {
  constexpr size_t kWord = 4;
  seeds.inputs[name] = input;
  for (size_t at = begin; at + kWord <= std::min(begin + bytes, input.size()); at += kWord) {
    std::string spoilt = input;
    seeds.inputs[cat(name, "_ones_", at)] = spoilt.replace(at, kWord, kWord, '\xff');
    seeds.inputs[cat(name, "_one_", at)] =
        spoilt.replace(at, kWord, std::string("\1\0\0\0", kWord));
  }
}

void add_cut_short(Seeds& seeds, const std::string& name, const std::string& input, size_t step) {
  for (size_t size = 0; size < input.size(); size += step) {
    seeds.inputs[cat(name, "_cut_", size)] = input.substr(0, size);
  }
}

std::string read_fixture(const std::string& name) {
  std::ifstream in(POLYKV_SOURCE_DIR "/tests/fixtures/" + name, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  check(!bytes.empty(), name.c_str());
  return bytes;
}

}  // namespace polykv::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("fuzz_seeds FOLDER\n", stderr);
    return 2;
  }
  polykv::fuzz::AllSeeds all;
  polykv::fuzz::add_model_seeds(all);
  polykv::fuzz::add_hub_seeds(all);
  polykv::fuzz::add_runtime_seeds(all);
  std::filesystem::remove_all(argv[1]);
  for (const auto& [target, seeds] : all) polykv::fuzz::write(argv[1], target, seeds);
  return 0;
}
