// Which format a path leads to.
#include "model/model_file.h"

#include <filesystem>
#include <optional>

namespace polykv {

namespace {

// The folder that a path means; nullopt: it means a GGUF file.
std::optional<std::string> hub_folder(const std::string& path) {
  std::error_code missing;
  if (std::filesystem::is_directory(path, missing)) return path;
  const std::filesystem::path file(path);
  if (file.extension() != ".safetensors" && file.extension() != ".json") return std::nullopt;
  return file.parent_path().empty() ? "." : file.parent_path().string();
}

}  // namespace

Result<std::unique_ptr<ModelFile>> ModelFile::open(const std::string& path) {
  const auto folder = hub_folder(path);
  return folder ? open_hub_model(*folder) : open_gguf_model(path);
}

Result<std::vector<std::string>> ModelFile::files(const std::string& path) {
  const auto folder = hub_folder(path);
  return folder ? hub_files(*folder) : std::vector{path};
}

}  // namespace polykv
