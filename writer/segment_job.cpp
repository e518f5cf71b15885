// Prefill and encode, layer by layer: each finished layer goes straight to the encoders.
#include "writer/segment_job.h"

#include "model/prefill.h"
#include "model/rope.h"

namespace polykv {
namespace {

uint32_t past_tokens(const SegmentJob& job) {
  uint32_t n = 0;
  for (const SegmentView& segment : job.past) n += segment.n_tokens();
  return n;
}

SegmentSpec spec_of(const ModelImage& image, const SegmentJob& job, const CodecSpec& codec) {
  const ModelConfig& config = image.config();
  SegmentSpec spec;
  spec.shape = {config.n_layers, config.n_kv_heads, config.head_dim};
  spec.codec = codec;
  spec.model = image.fingerprint();
  spec.starts_context = job.past.empty();
  spec.mode = job.past.empty() ? EncodeMode::alone : EncodeMode::after_prefix;
  for (const SegmentView& segment : job.past) {
    spec.prefix = chain_hash(spec.prefix, segment.tokens());
  }
  spec.tokens = job.tokens;
  return spec;
}

uint64_t all_bytes(const ModelImage& image, const SegmentJob& job) {
  uint64_t bytes = 0;
  for (const CodecSpec& codec : job.codecs) bytes += segment_bytes(spec_of(image, job, codec));
  return bytes;
}

Result<std::vector<SegmentBuilder>> reserve(const ModelImage& image, const SegmentJob& job) {
  if (auto room = check_room(all_bytes(image, job), job.room, job.holders); !room) {
    return pass(room);
  }
  std::vector<SegmentBuilder> builders;
  for (const CodecSpec& codec : job.codecs) {
    auto builder = SegmentBuilder::create(spec_of(image, job, codec), job.room);
    if (!builder) return pass(builder);
    builders.push_back(std::move(*builder));
  }
  return builders;
}

// One segment's rows of a layer, with K moved from local to absolute positions.
void decode_segment_layer(const SegmentView& segment, const Rope& rope, uint32_t layer,
                          uint32_t offset, float* k, float* v) {
  const KvShape shape = segment.shape();
  for (uint32_t t = 0; t < segment.n_tokens(); ++t) {
    float* k_row = k + size_t{t} * shape.n_kv_heads * shape.head_dim;
    float* v_row = v + size_t{t} * shape.n_kv_heads * shape.head_dim;
    for (uint32_t head = 0; head < shape.n_kv_heads; ++head) {
      decode_row(segment.k(layer, head), t, k_row + size_t{head} * shape.head_dim);
      decode_row(segment.v(layer, head), t, v_row + size_t{head} * shape.head_dim);
    }
    if (offset > 0) rope.rotate(k_row, shape.n_kv_heads, offset);
  }
}

void decode_past_layer(const SegmentJob& job, const Rope& rope, uint32_t layer, float* k,
                       float* v) {
  uint32_t offset = 0;
  for (const SegmentView& segment : job.past) {
    const size_t row = size_t{segment.shape().n_kv_heads} * segment.shape().head_dim;
    decode_segment_layer(segment, rope, layer, offset, k + offset * row, v + offset * row);
    offset += segment.n_tokens();
  }
}

}  // namespace

Result<std::vector<UniqueFd>> run_segment_job(const ModelImage& image, const SegmentJob& job) {
  auto builders = reserve(image, job);
  if (!builders) return pass(builders);

  const Rope rope(image.config());
  PrefillJob prefill_job;
  prefill_job.tokens = job.tokens;
  prefill_job.past_tokens = past_tokens(job);
  prefill_job.past = [&](uint32_t layer, float* k, float* v) {
    decode_past_layer(job, rope, layer, k, v);
  };
  prefill_job.layer_done = [&](const LayerKv& kv) -> Status {
    for (SegmentBuilder& builder : *builders) builder.put_layer(kv.layer, kv.k, kv.v);
    return job.go_on ? job.go_on() : Status();
  };
  prefill_job.progress = job.progress;
  if (auto done = prefill(image, prefill_job, job.n_threads); !done) return pass(done);

  std::vector<UniqueFd> sealed;
  for (SegmentBuilder& builder : *builders) {
    auto fd = std::move(builder).seal();
    if (!fd) return pass(fd);
    sealed.push_back(std::move(*fd));
  }
  return sealed;
}

}  // namespace polykv
