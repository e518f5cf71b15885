// A copy of a checkpoint whose files a test may change.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/model/temp_file.h"

namespace polykv::test {

class HubCopy {
 public:
  explicit HubCopy(const std::string& folder) : path_(TempFile("").path() + ".d") {
    std::filesystem::copy(folder, path_);
    for (const auto& file : std::filesystem::directory_iterator(path_)) {
      std::filesystem::permissions(file.path(), std::filesystem::perms::owner_all);
    }
  }
  HubCopy(const HubCopy&) = delete;
  HubCopy& operator=(const HubCopy&) = delete;
  ~HubCopy() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string read(const std::string& name) const {
    std::ifstream in(path_ + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << bytes;
  }

 private:
  std::string path_;
};

}  // namespace polykv::test
