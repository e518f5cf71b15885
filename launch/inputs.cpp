// Reading and checking texts.
#include "launch/inputs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "ipc/utf8.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kTextBytesMax = 256 << 20;  // far beyond any model's positions

Result<std::string> check_text(std::string text, const std::string& name) {
  if (text.empty()) return fail(ErrorCode::bad_text, cat(name, " is empty"), name);
  if (auto at = invalid_utf8(text)) {
    return fail(ErrorCode::bad_text,
                cat(name, " is not UTF-8 text: byte ", *at,
                    " does not belong there; convert it, "
                    "for example with iconv"),
                cat(*at));
  }
  return text;
}

Result<std::string> read_stream(std::istream& in, const std::string& name) {
  return check_text(std::string(std::istreambuf_iterator<char>(in), {}), name);
}

Result<std::string> read_file(const fs::path& path) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  if (error) {
    return fail(ErrorCode::bad_text, cat("cannot read ", path.string(), ": ", error.message()),
                path.string());
  }
  if (bytes > kTextBytesMax) {
    return fail(ErrorCode::bad_text,
                cat(path.string(), " has ", bytes, " bytes, at most ", kTextBytesMax, " are read"),
                cat(bytes), cat(kTextBytesMax));
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::bad_text, cat("cannot read ", path.string()), path.string());
  return read_stream(in, path.string());
}

// Files below a path, in order of name.
Result<std::vector<fs::path>> files_of(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return std::vector<fs::path>{path};
  std::vector<fs::path> files;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end;
       it.increment(error)) {
    const bool hidden = it->path().filename().string()[0] == '.';
    if (hidden && it->is_directory(error)) it.disable_recursion_pending();
    if (!hidden && it->is_regular_file(error)) files.push_back(it->path());
  }
  if (error) {
    return fail(ErrorCode::bad_text, cat("cannot read directory ", path, ": ", error.message()),
                path);
  }
  if (files.empty())
    return fail(ErrorCode::bad_text, cat("directory ", path, " has no files"), path);
  std::ranges::sort(files);
  return files;
}

}  // namespace

Result<std::string> read_context(const std::vector<std::string>& paths) {
  if (paths.empty()) {
    return fail(ErrorCode::bad_text, "no context: name files or directories with --context");
  }
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    if (path == "-") {
      files.emplace_back("-");
      continue;
    }
    auto found = files_of(path);
    if (!found) return pass(found);
    files.insert(files.end(), found->begin(), found->end());
  }
  std::string all;
  for (const fs::path& file : files) {
    auto text = file == "-" ? read_stream(std::cin, "standard input") : read_file(file);
    if (!text) return text;
    if (files.size() == 1) return text;
    all += cat(all.empty() ? "" : "\n", "=== ", file.string(), " ===\n", *text);
  }
  return all;
}

Result<std::vector<std::string>> read_questions(const std::string& path) {
  auto text = path == "-" ? read_stream(std::cin, "standard input") : read_file(path);
  if (!text) return pass(text);
  std::vector<std::string> questions;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) questions.push_back(line);
  }
  if (questions.empty()) return fail(ErrorCode::bad_text, cat(path, " has no questions"), path);
  return questions;
}

Status write_file(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << content;
  out.close();
  if (!out) return fail_errno(cat("writing ", path));
  return {};
}

}  // namespace polykv
