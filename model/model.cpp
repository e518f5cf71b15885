// Image, tokenizer and chat format together.
#include "model/model.h"

#include "model/image_format.h"
#include "model/token_tables.h"

namespace polykv {

namespace {

ContextStart context_start(const TokenizerTables& tables) {
  if (tables.bos == kNoToken || tables.kinds[tables.bos] != kKindSpecial) return {};
  return {std::string(token_text(tables, tables.bos)), (tables.flags & kAddBos) != 0};
}

}  // namespace

Result<std::unique_ptr<Model>> load_model(UniqueFd image_fd) {
  auto image = ModelImage::map(std::move(image_fd), false);
  if (!image) return pass(image);
  auto tokenizer = Tokenizer::create(*image);
  if (!tokenizer) return pass(tokenizer);
  auto chat = ChatFormat::find(image->chat_format(), context_start(image->tokenizer()));
  if (!chat) return pass(chat);
  return std::make_unique<Model>(std::move(*image), std::move(*tokenizer), std::move(*chat));
}

}  // namespace polykv
