// What people hand in: context from files, directories or standard input; questions, one a line.
#pragma once

#include <string>
#include <vector>

#include "ipc/result.h"

namespace polykv {

// One file: its text. Several, or a directory (its files in order of name, recursively): each under
// a line with its name. "-": standard input. bad_text names the file, and the byte that is not
// UTF-8.
Result<std::string> read_context(const std::vector<std::string>& paths);

// Lines that are not empty, in order. bad_text if there are none.
Result<std::vector<std::string>> read_questions(const std::string& path);

Status write_file(const std::string& path, const std::string& content);

}  // namespace polykv
