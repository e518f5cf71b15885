// Metadata of files as text, and that text's fingerprint.
#include "model/image_source.h"

#include <sys/stat.h>

#include <filesystem>

#include "model/image_format.h"
#include "model/model_file.h"

namespace polykv {
namespace {

Fingerprint print_of(const std::string& text) {
  return fingerprint128(std::as_bytes(std::span(text)));
}

std::string time_text(const timespec& time) { return cat(time.tv_sec, '.', time.tv_nsec); }

// A line for each file. No device: its number may be another one after a restart.
Result<std::string> file_line(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    return fail(ErrorCode::bad_model_file,
                cat("model file ", path, ": cannot be looked at: ", std::strerror(errno)), path);
  }
  return cat(path, ' ', info.st_ino, ' ', info.st_size, ' ', time_text(info.st_mtim), ' ',
             time_text(info.st_ctim), '\n');
}

std::string program_line() {
  struct stat info{};
  if (::stat("/proc/self/exe", &info) != 0) return "?";
  return cat(info.st_size, ' ', time_text(info.st_mtim), '\n');
}

}  // namespace

Result<ImageSource> image_source(const std::string& path, const std::string& chat_format) {
  auto files = ModelFile::files(path);
  if (!files) return pass(files);
  std::error_code unresolved;
  const std::string place = std::filesystem::weakly_canonical(path, unresolved).string();
  std::string state = cat("image ", kImageAbi, '\n', program_line());
  for (const std::string& file : *files) {
    auto line = file_line(file);
    if (!line) return pass(line);
    state += *line;
  }
  return ImageSource{path, chat_format, print_of(cat(place, '\n', chat_format)), print_of(state)};
}

}  // namespace polykv
