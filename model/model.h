// Start here for model/: text and tensors. This room knows no pool.
//
//   file   ─► pack_image ─► sealed image, mapped by every process   model/model_file.h, image.h
//   text   ─► ChatFormat ─► Tokenizer ─► tokens                     model/chat.h, model/tokenizer.h
//   tokens ─► prefill: layer by layer, by libtorch, in the writer   model/prefill.h ─► K/V
//   tokens ─► Decoder: native, in agents, one hook for attention    model/decoder.h ─► logits
//   logits ─► Sampler ─► token ─► TextStream ─► text                model/sampler.h, text_stream.h
#pragma once

#include <memory>

#include "model/chat.h"
#include "model/image.h"
#include "model/tokenizer.h"

namespace polykv {

// A mapped model with what turns its text into tokens and back. Stays where it is made.
struct Model {
  ModelImage image;
  Tokenizer tokenizer;  // reads the image's tables in place
  ChatFormat chat;
};

// Maps a sealed image. bad_segment or unsupported_model as ModelImage::map and ChatFormat::find
// say.
Result<std::unique_ptr<Model>> load_model(UniqueFd image_fd);

}  // namespace polykv
