// Complete, rotate back, encode.
#include "agents/turn.h"

#include <algorithm>

namespace polykv {
namespace {

// How many of the sampled tokens spell the delivered text, and the bytes that they spell.
size_t spelling_tokens(const Tokenizer& tokenizer, const Turn& turn, size_t& bytes) {
  size_t n = 0;
  bytes = 0;
  for (const uint32_t token : turn.answer) {
    const std::string_view spelled = tokenizer.bytes_of(token);
    const bool same = std::string_view(turn.text).substr(bytes).starts_with(spelled);
    if (!same || tokenizer.is_special(token)) break;
    bytes += spelled.size();
    ++n;
  }
  return n;
}

Result<std::vector<uint32_t>> turn_tokens(const Model& text, const Suffix& suffix,
                                          const Turn& turn) {
  size_t bytes = 0;
  const size_t n = spelling_tokens(text.tokenizer, turn, bytes);
  std::vector<TextPiece> rest = text.chat.end_of_answer();
  if (bytes < turn.text.size()) rest.insert(rest.begin(), {turn.text.substr(bytes), false});
  auto end = text.tokenizer.encode(rest);
  if (!end) return end;
  const auto prompt = suffix.tokens().begin();
  std::vector<uint32_t> tokens(prompt, prompt + turn.prompt_tokens);
  tokens.insert(tokens.end(), turn.answer.begin(), turn.answer.begin() + n);
  tokens.insert(tokens.end(), end->begin(), end->end());
  return tokens;
}

Status check_length(const ModelConfig& config, const Layout& layout, size_t n_tokens) {
  const uint64_t all = uint64_t{layout.n_tokens} + n_tokens;
  if (all <= config.n_positions) return {};
  return fail(
      ErrorCode::context_too_long,
      cat("the context (", layout.n_tokens, " tokens) with this turn (", n_tokens, ") is ", all,
          ", beyond the model's ", config.n_positions, " positions: append a shorter text instead"),
      cat(all), cat(config.n_positions));
}

// One layer's rows as segments hold them: [n_tokens, n_kv_heads, head_dim], K at local positions.
// Only those that the layer keeps are filled.
class TurnRows {
 public:
  TurnRows(const ModelConfig& config, const Suffix& suffix, uint32_t offset)
      : config_(config), suffix_(suffix), ropes_(config), offset_(offset) {
    const size_t floats = size_t{suffix.n_tokens()} * config.n_kv_heads * config.head_dim;
    k_.resize(floats);
    v_.resize(floats);
  }
  void put_into(SegmentBuilder& builder, uint32_t layer, const Spread& spread) {
    const size_t width = size_t{config_.n_kv_heads} * config_.head_dim;
    const uint32_t n_tokens = suffix_.n_tokens();
    for (uint32_t row = n_tokens - config_.windows.kept(layer, n_tokens); row < n_tokens; ++row) {
      for (uint32_t head = 0; head < config_.n_kv_heads; ++head) {
        const size_t to = row * width + size_t{head} * config_.head_dim;
        decode_row(suffix_.plane(PlaneKind::k, layer, head, n_tokens), row, &k_[to]);
        decode_row(suffix_.plane(PlaneKind::v, layer, head, n_tokens), row, &v_[to]);
      }
      ropes_.of(layer).rotate(&k_[row * width], config_.n_kv_heads, -int64_t{offset_});
    }
    builder.put_layer(layer, k_.data(), v_.data(), spread);
  }

 private:
  const ModelConfig& config_;
  const Suffix& suffix_;
  LayerRopes ropes_;
  uint32_t offset_;
  std::vector<float> k_, v_;
};

SegmentSpec spec_of(const ModelImage& image, const Layout& layout, const Suffix& suffix,
                    const CodecSpec& codec) {
  SegmentSpec spec;
  spec.shape = image.config().kv_shape();
  spec.codec = codec;
  spec.model = image.fingerprint();
  spec.mode = EncodeMode::after_prefix;
  spec.prefix = prefix_of(layout);
  spec.starts_context = false;
  for (const Span& span : layout.spans) keep_widths(spec, span.segment);
  spec.provenance = Provenance::committed_turn;
  spec.tokens = suffix.tokens();
  return spec;
}

}  // namespace

Fingerprint prefix_of(const Layout& layout) {
  Fingerprint prefix{};
  for (const Span& span : layout.spans) {
    const auto tokens = span.segment.tokens();
    prefix =
        chain_hash(prefix, tokens.subspan(span.token_begin, span.token_end - span.token_begin));
  }
  return prefix;
}

Result<TurnSegment> encode_turn(AgentModel& model, const Layout& layout, Suffix& suffix,
                                const Turn& turn, const TurnOptions& options) {
  check(turn.prompt_tokens <= suffix.n_tokens(), "a turn's prompt is in the suffix");
  const ModelConfig& config = model.image.config();
  auto tokens = turn_tokens(*model.text, suffix, turn);
  if (!tokens) return pass(tokens);
  if (auto fits = check_length(config, layout, tokens->size()); !fits) return pass(fits);
  const auto n_tokens = static_cast<uint32_t>(tokens->size());
  if (auto done = Stream(model, layout, suffix).become(*tokens, n_tokens, nullptr); !done) {
    return pass(done);
  }
  const SegmentSpec spec = spec_of(model.image, layout, suffix, options.codec);
  if (auto room = check_room(segment_bytes(spec), options.room, options.holders); !room) {
    return pass(room);
  }
  auto builder = SegmentBuilder::create(spec, options.room);
  if (!builder) return pass(builder);
  TurnRows rows(config, suffix, layout.n_tokens);
  for (uint32_t layer = 0; layer < config.n_layers; ++layer) {
    rows.put_into(*builder, layer, pieces_on(model.team));
  }
  auto fd = std::move(*builder).seal();
  if (!fd) return pass(fd);
  return TurnSegment{std::move(*fd), n_tokens};
}

}  // namespace polykv
