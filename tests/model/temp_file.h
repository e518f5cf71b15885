// A file of a test's own, removed at its end.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace polykv::test {

class TempFile {
 public:
  explicit TempFile(const std::string& bytes) : path_(unique_path()) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  ~TempFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  static std::string unique_path() {
    std::string name = (std::filesystem::temp_directory_path() / "polykv-test-XXXXXX").string();
    ::close(::mkstemp(name.data()));
    return name;
  }
  std::string path_;
};

}  // namespace polykv::test
