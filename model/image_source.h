// What an image was packed from, told apart without reading it.
#pragma once

#include <string>

#include "ipc/checksum.h"
#include "ipc/result.h"

namespace polykv {

struct ImageSource {
  std::string path;         // as it was given
  std::string chat_format;  // asked for; "" = the file's own
  // Which model it is: of the path, links resolved, and the chat format.
  Fingerprint place{};
  // How it looks now: name, inode, size and times of change (to the nanosecond; that of the inode,
  // too, which nobody can set back) of every file that packing may read; and the program that
  // packs, because another build may pack differently.
  Fingerprint state{};
};

// bad_model_file as ModelFile::files.
Result<ImageSource> image_source(const std::string& path, const std::string& chat_format);

}  // namespace polykv
