// What must hold of a model file, a vocabulary and an image that were accepted.
#pragma once

#include "model/gguf.h"
#include "model/image.h"
#include "model/image_vocab.h"
#include "model/model_file.h"

namespace polykv::fuzz {

// Each lies within `file` and is as large as its shape says; none overlaps another; names differ.
void check_tensors(std::span<const FileTensor> tensors, std::span<const std::byte> file);

// Encoding ends, gives plain tokens of the vocabulary, and decoding takes them.
void check_tokenizer(const TokenizerTables& tables, std::string_view text);

// Configuration, vocabulary and tokenizer of an opened model, then the image made from it.
void check_model(const ModelFile& file, const std::string& path);

// Every byte that the image's accessors give out lies in its memory.
void check_image(const ModelImage& image);

inline constexpr ErrorCode kModelCodes[] = {ErrorCode::bad_model_file,
                                            ErrorCode::unsupported_model};
void check_model_refusal(const Error& error);

}  // namespace polykv::fuzz
