// Image, tokenizer and chat format together.
#include "model/model.h"

namespace polykv {

Result<std::unique_ptr<Model>> load_model(UniqueFd image_fd) {
  auto image = ModelImage::map(std::move(image_fd), false);
  if (!image) return pass(image);
  auto tokenizer = Tokenizer::create(*image);
  if (!tokenizer) return pass(tokenizer);
  auto chat = ChatFormat::find(image->chat_format());
  if (!chat) return pass(chat);
  return std::make_unique<Model>(std::move(*image), std::move(*tokenizer), std::move(*chat));
}

}  // namespace polykv
