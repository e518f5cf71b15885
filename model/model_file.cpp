// Which format a path leads to.
#include "model/model_file.h"

#include <filesystem>

namespace polykv {

Result<std::unique_ptr<ModelFile>> ModelFile::open(const std::string& path) {
  std::error_code missing;
  if (std::filesystem::is_directory(path, missing)) return open_hub_model(path);
  const std::filesystem::path file(path);
  if (file.extension() == ".safetensors" || file.extension() == ".json") {
    return open_hub_model(file.parent_path().empty() ? "." : file.parent_path().string());
  }
  return open_gguf_model(path);
}

}  // namespace polykv
