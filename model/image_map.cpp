// Maps a model image and checks all that later code relies on. Nothing is copied but the header and
// a few pointers per layer: tables and weights stay in the shared pages.
#include <algorithm>
#include <cstring>
#include <vector>

#include "model/chat.h"
#include "model/image.h"
#include "model/image_check.h"
#include "model/image_plan.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"

namespace polykv {

struct ModelImage::State {
  SharedView view;
  ImageHeader header;
  Fingerprint fingerprint{};
  Weight embedding, head;
  const float* output_norm = nullptr;
  std::vector<LayerWeights> layers;
  TokenizerTables tokenizer;
  SamplingOptions sampling;
  std::string_view chat_format, name;
};

namespace {

using Bytes = std::span<const std::byte>;

// True if the range lies within [begin, end), aligned.
bool within(const SectionRange& range, uint64_t begin, uint64_t end) {
  return range.offset % kImageAlign == 0 && range.offset >= begin && range.offset <= end &&
         range.bytes <= end - range.offset;
}

// Finds the image's sections, each as a span in place.
class Tables {
 public:
  Tables(const ImageHeader& header, Bytes image) : header_(header), image_(image) {}

  Status check() const {
    for (uint32_t i = 0; i < kImageSections; ++i) {
      if (within(header_.sections[i], sizeof(ImageHeader), header_.weights_begin)) continue;
      return bad_image(cat("section ", i, " lies at ", header_.sections[i].offset, " + ",
                           header_.sections[i].bytes, " bytes, outside the tables"),
                       std::to_string(header_.sections[i].offset));
    }
    return {};
  }
  template <class T>
  std::span<const T> get(ImageSection section) const {
    const SectionRange range = header_.sections[static_cast<size_t>(section)];
    return {reinterpret_cast<const T*>(image_.data() + range.offset), range.bytes / sizeof(T)};
  }
  std::string_view text(ImageSection section) const {
    const auto chars = get<char>(section);
    return {chars.data(), chars.size()};
  }

 private:
  const ImageHeader& header_;
  Bytes image_;
};

// A hash table's entries are index + 1, and one slot at least is empty so that every search ends.
Status check_slots(const char* what, std::span<const uint32_t> slots, size_t n_entries) {
  if (slots.empty() || (slots.size() & (slots.size() - 1)) != 0 || slots.size() <= n_entries) {
    return bad_image(cat(what, " table has ", slots.size(), " slots for ", n_entries, " entries"),
                     std::to_string(slots.size()));
  }
  size_t n_empty = 0;
  for (const uint32_t slot : slots) {
    if (slot > n_entries) {
      return bad_image(cat(what, " table names entry ", slot, " of ", n_entries),
                       std::to_string(slot), std::to_string(n_entries));
    }
    n_empty += slot == 0 ? 1 : 0;
  }
  if (n_empty == 0) return bad_image(cat(what, " table has no empty slot"));
  return {};
}

Status check_texts(const TokenizerTables& t, uint32_t n_vocab) {
  if (t.text_offsets.size() != n_vocab + size_t{1}) {
    return bad_image_value("the number of token offsets", t.text_offsets.size(),
                           n_vocab + uint64_t{1});
  }
  if (t.kinds.size() != n_vocab)
    return bad_image_value("the number of token kinds", t.kinds.size(), n_vocab);
  if (t.text_offsets.front() != 0 || t.text_offsets.back() != t.texts.size()) {
    return bad_image_value("the last token's end", t.text_offsets.back(), t.texts.size());
  }
  for (uint32_t i = 0; i < n_vocab; ++i) {
    if (t.text_offsets[i] >= t.text_offsets[i + 1]) {
      return bad_image(cat("token ", i, " has no text"), std::to_string(i));
    }
    constexpr uint8_t kKinds[] = {kKindNormal, kKindSpecial, kKindUser, kKindByte};
    if (std::ranges::find(kKinds, t.kinds[i]) == std::end(kKinds)) {
      return bad_image(cat("token ", i, " has the unknown kind ", int{t.kinds[i]}),
                       cat(int{t.kinds[i]}));
    }
  }
  return {};
}

// A merge is of plain tokens into a plain one: what plain text becomes are no special tokens.
// That its result has the text of its halves joined is not checked: every start would compare the
// texts of tens of thousands of merges, and a forged one does no more than forged texts could. A
// text becomes other tokens, never special ones, and never more: each merge takes one away.
Status check_merges(const TokenizerTables& t, uint32_t n_vocab) {
  if (t.merges.size() % 3 != 0)
    return bad_image_value("the rest of the merges", t.merges.size() % 3, 0);
  for (size_t i = 0; i < t.merges.size(); ++i) {
    const uint32_t token = t.merges[i];
    if (token >= n_vocab) {
      return bad_image(cat("merge ", i / 3, " names token ", token, " of ", n_vocab),
                       std::to_string(token), std::to_string(n_vocab));
    }
    if (class_of(t.kinds[token]) != TokenClass::plain) {
      return bad_image(cat("merge ", i / 3, " names token ", token, " of the kind ",
                           int{t.kinds[token]}, ", expected tokens of plain text"),
                       std::to_string(token));
    }
  }
  return {};
}

Result<TokenizerTables> read_tables(const ImageHeader& header, const Tables& tables) {
  TokenizerTables t;
  t.text_offsets = tables.get<uint32_t>(ImageSection::text_offsets);
  t.texts = tables.text(ImageSection::texts);
  t.kinds = tables.get<uint8_t>(ImageSection::kinds);
  t.text_slots = tables.get<uint32_t>(ImageSection::text_slots);
  t.merge_slots = tables.get<uint32_t>(ImageSection::merge_slots);
  t.merges = tables.get<uint32_t>(ImageSection::merges);
  t.bos = header.bos;
  t.eos = header.eos;
  t.pre_tokenizer = static_cast<PreTokenizer>(header.pre_tokenizer);
  t.flags = header.tokenizer_flags;
  t.ends = std::span(header.ends).first(header.n_ends);
  const uint32_t n_vocab = header.config.n_vocab;
  auto checked = check_texts(t, n_vocab);
  if (checked) checked = check_merges(t, n_vocab);
  if (checked) checked = check_slots("the token", t.text_slots, n_vocab);
  if (checked) checked = check_slots("the merge", t.merge_slots, t.merges.size() / 3);
  if (!checked) return pass(checked);
  return t;
}

// The entry must be the planned tensor, its planes inside the weights and of exactly the form's
// size.
Result<Weight> read_weight(const TensorEntry& entry, const PlannedTensor& planned,
                           const ImageHeader& header, Bytes image) {
  const auto wrong = [&](const char* what) {
    return bad_image(cat("tensor ", planned.name, ": ", what), planned.name);
  };
  if (entry.role != static_cast<uint16_t>(planned.role) || entry.layer != planned.layer) {
    return wrong("another tensor is in its place");
  }
  if (entry.n_rows != planned.n_rows || entry.n_cols != planned.n_cols) {
    return wrong("its shape is not the configuration's");
  }
  if (entry.reserved != 0) return wrong("its reserved field is not 0");
  Weight w{static_cast<WeightType>(entry.type),
           entry.n_rows,
           entry.n_cols,
           entry.block,
           entry.has_min,
           nullptr,
           nullptr};
  const auto bytes = weight_bytes(w);
  if (!bytes || (w.type == WeightType::f32) != planned.is_vector) return wrong("unknown form");
  if (entry.values.bytes != bytes->values ||
      !within(entry.values, header.weights_begin, image.size())) {
    return wrong("its values lie outside the image or have another size");
  }
  w.values = image.data() + entry.values.offset;
  if (bytes->scales == 0 && entry.scales.bytes == 0) return w;
  if (entry.scales.bytes != bytes->scales ||
      !within(entry.scales, header.weights_begin, image.size())) {
    return wrong("its scales lie outside the image or have another size");
  }
  w.scales = reinterpret_cast<const uint16_t*>(image.data() + entry.scales.offset);
  return w;
}

const float* as_floats(const Weight& weight) {
  return reinterpret_cast<const float*>(weight.values);
}

// Where a layer keeps a matrix; nullptr if the role is no matrix of a layer.
Weight* matrix_of(LayerWeights& layer, TensorRole role) {
  switch (role) {
    case TensorRole::wq:
      return &layer.wq;
    case TensorRole::wk:
      return &layer.wk;
    case TensorRole::wv:
      return &layer.wv;
    case TensorRole::wo:
      return &layer.wo;
    case TensorRole::w_gate:
      return &layer.w_gate;
    case TensorRole::w_up:
      return &layer.w_up;
    case TensorRole::w_down:
      return &layer.w_down;
    default:
      return nullptr;
  }
}

const float** vector_of(LayerWeights& layer, TensorRole role) {
  switch (role) {
    case TensorRole::attn_norm:
      return &layer.attn_norm;
    case TensorRole::attn_post_norm:
      return &layer.attn_post_norm;
    case TensorRole::ffn_norm:
      return &layer.ffn_norm;
    case TensorRole::ffn_post_norm:
      return &layer.ffn_post_norm;
    case TensorRole::q_bias:
      return &layer.q_bias;
    case TensorRole::k_bias:
      return &layer.k_bias;
    case TensorRole::v_bias:
      return &layer.v_bias;
    case TensorRole::q_norm:
      return &layer.q_norm;
    case TensorRole::k_norm:
      return &layer.k_norm;
    default:
      return nullptr;
  }
}

void store_layer(LayerWeights& layer, TensorRole role, const Weight& weight) {
  if (Weight* matrix = matrix_of(layer, role)) *matrix = weight;
  if (const float** vector = vector_of(layer, role)) *vector = as_floats(weight);
}

// State is private to ModelImage: its members are reached through a template.
template <class State>
void store(State& state, const PlannedTensor& planned, const Weight& weight) {
  if (planned.layer != kNoLayer)
    return store_layer(state.layers[planned.layer], planned.role, weight);
  if (planned.role == TensorRole::embedding) state.embedding = weight;
  if (planned.role == TensorRole::head) state.head = weight;
  if (planned.role == TensorRole::output_norm) state.output_norm = as_floats(weight);
}

template <class State>
Status read_weights(State& state, const Tables& tables, Bytes image) {
  const auto plan = image_plan(state.header.config);
  const auto entries = tables.get<TensorEntry>(ImageSection::tensors);
  if (state.header.n_tensors != plan.size() || entries.size() != plan.size()) {
    return bad_image_value("the number of tensors", entries.size(), plan.size());
  }
  state.layers.resize(state.header.config.n_layers);
  for (size_t i = 0; i < plan.size(); ++i) {
    auto weight = read_weight(entries[i], plan[i], state.header, image);
    if (!weight) return pass(weight);
    store(state, plan[i], *weight);
  }
  if (state.header.config.tied_head != 0) state.head = state.embedding;
  return {};
}

template <class State>
Status read_texts(State& state, const Tables& tables) {
  state.name = tables.text(ImageSection::name);
  state.chat_format = tables.text(ImageSection::chat_format);
  if (state.name.size() > 256 || invalid_utf8(state.name))
    return bad_image("its name is no short text");
  if (!ChatFormat::find(state.chat_format)) {
    return bad_image(cat("its chat format is none of ", chat_format_names()));
  }
  return {};
}

}  // namespace

Result<ModelImage> ModelImage::map(UniqueFd fd, bool verify_weights) {
  auto view = SharedView::map(std::move(fd));
  if (!view) return pass(view);
  const Bytes image = view->data();
  if (image.size() < sizeof(ImageHeader)) {
    return bad_image(cat("only ", image.size(), " bytes"), std::to_string(image.size()));
  }
  auto state =
      std::make_unique<State>(State{std::move(*view), {}, {}, {}, {}, nullptr, {}, {}, {}, {}, {}});
  std::memcpy(&state->header, image.data(), sizeof(ImageHeader));
  std::memcpy(state->fingerprint.data(), state->header.fingerprint, state->fingerprint.size());
  const Tables tables(state->header, image);
  auto checked = check_image_header(state->header, image);
  if (checked) checked = tables.check();
  if (checked) checked = read_texts(*state, tables);
  if (checked) checked = read_weights(*state, tables, image);
  if (!checked) return pass(checked);
  auto vocab = read_tables(state->header, tables);
  if (!vocab) return pass(vocab);
  state->tokenizer = *vocab;
  state->sampling = sampling_of(state->header.sampling);
  if (verify_weights &&
      fingerprint128(image.subspan(offsetof(ImageHeader, config))) != state->fingerprint) {
    return bad_image("its bytes do not have the fingerprint in its header",
                     to_hex(state->fingerprint));
  }
  return ModelImage(std::move(state));
}

const ModelConfig& ModelImage::config() const { return state_->header.config; }
const Fingerprint& ModelImage::fingerprint() const { return state_->fingerprint; }
const Weight& ModelImage::embedding() const { return state_->embedding; }
const Weight& ModelImage::head() const { return state_->head; }
const float* ModelImage::output_norm() const { return state_->output_norm; }
const LayerWeights& ModelImage::layer(uint32_t index) const {
  check(index < state_->layers.size(), "ModelImage::layer: the index is below n_layers");
  return state_->layers[index];
}
const TokenizerTables& ModelImage::tokenizer() const { return state_->tokenizer; }
const SamplingOptions& ModelImage::sampling() const { return state_->sampling; }
std::string_view ModelImage::chat_format() const { return state_->chat_format; }
std::string_view ModelImage::name() const { return state_->name; }
const SharedView& ModelImage::memory() const { return state_->view; }

ModelImage::ModelImage(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelImage::ModelImage(ModelImage&&) noexcept = default;
ModelImage& ModelImage::operator=(ModelImage&&) noexcept = default;
ModelImage::~ModelImage() = default;

}  // namespace polykv
