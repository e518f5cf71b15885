// A Hugging Face folder: config.json, generation_config.json, tokenizer.json, the index and the
// chat template, each ended by a zero byte, then the file of tensors.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"

using namespace polykv;

namespace {

constexpr const char* kFiles[] = {"config.json",         "generation_config.json",
                                  "tokenizer.json",      "model.safetensors.index.json",
                                  "chat_template.jinja", "model.safetensors"};

// One folder for the whole run.
class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "polykv-fuzz-XXXXXX").string()) {
    check(::mkdtemp(path_.data()) != nullptr, "a temporary folder can be made");
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  // An empty part is a file that is not there. Most inputs change one part of the one before.
  void put(const char* name, std::string_view content) {
    const std::string file = path_ + "/" + name;
    std::string& there = contents_[name];
    if (there == content) return;
    there = content;
    if (content.empty()) {
      std::filesystem::remove(file);
    } else {
      std::ofstream(file, std::ios::binary) << content;
    }
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::map<std::string_view, std::string> contents_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder folder;
  const auto parts = fuzz::parts_of(fuzz::text_of(data, size), std::size(kFiles) - 1);
  for (size_t i = 0; i < parts.size(); ++i) folder.put(kFiles[i], parts[i]);
  const auto model = open_hub_model(folder.path());
  if (model) {
    fuzz::check_model(**model, folder.path());
  } else {
    fuzz::check_model_refusal(model.error());
  }
  return 0;
}
