// Promises of the model formats, in the words of their headers.
#include "tests/fuzz/model_checks.h"

#include "model/family.h"
#include "model/image_config.h"
#include "model/image_format.h"
#include "model/image_plan.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace polykv::fuzz {
namespace {

// Bytes and elements of a block, written down again so that the parser's own table is checked.
struct Block {
  GgufType type;
  uint64_t elements, bytes;
};
constexpr Block kBlocks[] = {
    {GgufType::f32, 1, 4},      {GgufType::f16, 1, 2},      {GgufType::bf16, 1, 2},
    {GgufType::q4_0, 32, 18},   {GgufType::q4_1, 32, 20},   {GgufType::q5_0, 32, 22},
    {GgufType::q5_1, 32, 24},   {GgufType::q8_0, 32, 34},   {GgufType::q4_k, 256, 144},
    {GgufType::q5_k, 256, 176}, {GgufType::q6_k, 256, 210},
};

// In floating point: no overflow, and exact for all sizes that a file can have.
double wanted_bytes(const FileTensor& tensor) {
  const auto block = std::ranges::find(kBlocks, tensor.type, &Block::type);
  check(block != std::end(kBlocks), "a tensor's type is one of the supported");
  double elements = 1;
  for (const uint64_t n : tensor.shape) elements *= static_cast<double>(n);
  return elements / static_cast<double>(block->elements) * static_cast<double>(block->bytes);
}

bool inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

void check_weight(const Weight& weight, std::span<const std::byte> memory) {
  const auto bytes = weight_bytes(weight);
  check(bytes.has_value(), "a weight of an accepted image has a known form");
  const std::span values(weight.values, bytes->values);
  const std::span scales(reinterpret_cast<const std::byte*>(weight.scales), bytes->scales);
  check(inside(values, memory), "a weight's values lie in the image");
  check(bytes->scales == 0 || inside(scales, memory), "a weight's scales lie in the image");
}

void check_vector(const float* values, uint64_t n, std::span<const std::byte> memory) {
  if (values == nullptr) return;
  check(inside(std::as_bytes(std::span(values, n)), memory), "a vector lies in the image");
}

void check_layer(const LayerWeights& layer, const ModelConfig& c, std::span<const std::byte> all) {
  for (const Weight* weight :
       {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
    check_weight(*weight, all);
  }
  check(layer.attn_norm != nullptr && layer.ffn_norm != nullptr, "every layer has its norms");
  check_vector(layer.attn_norm, c.d_model, all);
  check_vector(layer.ffn_norm, c.d_model, all);
  check_vector(layer.q_bias, uint64_t{c.n_heads} * c.head_dim, all);
  check_vector(layer.k_bias, uint64_t{c.n_kv_heads} * c.head_dim, all);
  check_vector(layer.v_bias, uint64_t{c.n_kv_heads} * c.head_dim, all);
  check_vector(layer.q_norm, c.head_dim, all);
  check_vector(layer.k_norm, c.head_dim, all);
  check(!c.has(kQkNorm) || layer.q_norm != nullptr, "a model with norms of heads has them");
  check(!c.has(kQkvBias) || layer.q_bias != nullptr, "a model with biases has them");
}

}  // namespace

void check_tensors(std::span<const FileTensor> tensors, std::span<const std::byte> file) {
  std::vector<const FileTensor*> order;
  for (const FileTensor& tensor : tensors) {
    check(inside(tensor.data, file), "a tensor lies within its file");
    check(tensor.n_dims >= 1 && tensor.n_dims <= 4, "a tensor has 1 to 4 dimensions");
    check(static_cast<double>(tensor.data.size()) == wanted_bytes(tensor),
          "a tensor is as large as its shape says");
    touch(tensor.data);
    order.push_back(&tensor);
  }
  std::ranges::sort(order, {}, [](const FileTensor* t) { return t->data.data(); });
  for (size_t i = 1; i < order.size(); ++i) {
    const auto before = order[i - 1]->data;
    check(before.data() + before.size() <= order[i]->data.data(), "tensors do not overlap");
  }
  std::ranges::sort(order, {}, [](const FileTensor* t) { return t->name; });
  const auto same = [](const auto* a, const auto* b) { return a->name == b->name; };
  check(std::ranges::adjacent_find(order, same) == order.end(), "tensors have different names");
}

void check_tokenizer(const TokenizerTables& tables, std::string_view text) {
  auto tokenizer = Tokenizer::create(tables);
  check(tokenizer.has_value(), "a vocabulary that was accepted makes a tokenizer");
  const auto tokens = tokenizer->encode(text);
  const auto invalid = invalid_utf8(text);
  check(tokens.has_value() == !invalid, "text is refused if and only if it is not UTF-8");
  if (!tokens) {
    check(tokens.error().code == ErrorCode::bad_text, "it is the text that is bad");
    return check(tokens.error().value == cat(*invalid), "the error names the byte");
  }
  check(tokens->size() <= 3 * text.size() + 1,
        "no more tokens than bytes, of which NFC makes three at most, and a space before them");
  for (const uint32_t token : *tokens) {
    check(token < tables.kinds.size(), "a token is one of the vocabulary");
    check(!tokenizer->is_special(token), "plain text makes no special token");
  }
  (void)tokenizer->decode(*tokens);
}

void check_image(const ModelImage& image) {
  const std::span<const std::byte> all = image.memory().data();
  const ModelConfig& config = image.config();
  check(!check_config(config), "an accepted image has a sane configuration");
  check_weight(image.embedding(), all);
  check_weight(image.head(), all);
  check_vector(image.output_norm(), config.d_model, all);
  for (uint32_t i = 0; i < config.n_layers; ++i) check_layer(image.layer(i), config, all);
  check_tokenizer(image.tokenizer(), "The quick br\xc3\xb8wn <|im_end|> 123\n \xe2\x96\x81 ab");
}

void check_model_refusal(const Error& error) {
  check_refusal(error,
                {ErrorCode::bad_model_file, ErrorCode::unsupported_model, ErrorCode::memory_limit});
}

void check_model(const ModelFile& file, const std::string& path) {
  const auto config = read_config(file.parameters());
  if (!config) check_model_refusal(config.error());
  check(!config || !check_config(*config), "an accepted configuration is sane");
  const auto vocab = file.vocab();
  if (!vocab) check_model_refusal(vocab.error());
  const auto tables = vocab ? build_vocab(*vocab) : Result<VocabTables>(pass(vocab));
  if (!tables) check_model_refusal(tables.error());
  if (tables) check_tokenizer(tables->view(), "ab cd <think> abcd\n");
  const auto chat = file.chat_template();
  if (!chat) check_model_refusal(chat.error());
  auto image = pack_image(path, small_room(), {}, nullptr, "plain");
  if (!image) return check_model_refusal(image.error());
  check(config && tables, "an image is made only from a good configuration and vocabulary");
  const auto mapped = ModelImage::map(std::move(*image), true);
  check(mapped.has_value(), mapped ? "" : mapped.error().message.c_str());
  check_image(*mapped);
}

}  // namespace polykv::fuzz
