// Prefill and encode, layer by layer: each finished layer goes straight to the encoders.
#include "writer/segment_job.h"

#include <algorithm>

#include "ipc/log.h"
#include "model/prefill_path.h"
#include "model/rope.h"
#include "model/threads.h"

namespace polykv {
namespace {

uint32_t past_tokens(const SegmentJob& job) {
  uint32_t n = 0;
  for (const SegmentView& segment : job.past) n += segment.n_tokens();
  return n;
}

SegmentSpec spec_of(const ModelImage& image, const SegmentJob& job, const CodecSpec& codec) {
  SegmentSpec spec;
  spec.shape = image.config().kv_shape();
  spec.codec = codec;
  spec.model = image.fingerprint();
  spec.starts_context = job.past.empty();
  spec.mode = job.past.empty() ? EncodeMode::alone : EncodeMode::after_prefix;
  for (const SegmentView& segment : job.past) {
    spec.prefix = chain_hash(spec.prefix, segment.tokens());
    keep_widths(spec, segment);
  }
  spec.tokens = job.tokens;
  return spec;
}

Result<Encoders> reserve(const ModelImage& image, const SegmentJob& job) {
  std::vector<SegmentSpec> specs;
  for (const CodecSpec& codec : job.codecs) specs.push_back(spec_of(image, job, codec));
  auto encoders = Encoders::reserve(specs, job.room, job.holders);
  if (encoders && job.per_layer) encoders->measure();
  return encoders;
}

// Where a layer of the past is decoded to: [past_tokens, n_kv_heads, head_dim].
struct PastLayer {
  uint32_t layer;
  float *k, *v;
};

// Tokens [begin, end) of a segment, K moved from local to absolute positions.
void decode_rows(const SegmentView& segment, const Rope& rope, uint32_t offset, const PastLayer& to,
                 uint32_t begin, uint32_t end) {
  const KvShape shape = segment.shape();
  const size_t first = size_t{offset} * shape.n_kv_heads * shape.head_dim;
  const uint32_t first_token = segment.first_token(to.layer);
  for (uint32_t t = begin; t < end; ++t) {
    float* k_row = to.k + first + size_t{t} * shape.n_kv_heads * shape.head_dim;
    float* v_row = to.v + first + size_t{t} * shape.n_kv_heads * shape.head_dim;
    for (uint32_t head = 0; head < shape.n_kv_heads; ++head) {
      decode_row(segment.k(to.layer, head), t - first_token, k_row + size_t{head} * shape.head_dim);
      decode_row(segment.v(to.layer, head), t - first_token, v_row + size_t{head} * shape.head_dim);
    }
    if (offset > 0) rope.rotate(k_row, shape.n_kv_heads, offset);
  }
}

// Of a layer with a window only what the first new token sees is decoded; nobody reads the rest.
void decode_past(const SegmentJob& job, const Rope& rope, ThreadTeam& team, const PastLayer& to) {
  constexpr uint32_t kRowsAtOnce = 64;
  uint32_t after = past_tokens(job), offset = 0;
  for (const SegmentView& segment : job.past) {
    after -= segment.n_tokens();
    const uint32_t n_seen = segment.shape().windows.kept(to.layer, segment.n_tokens() + after);
    const uint32_t n_rows = n_seen - std::min(n_seen, after);
    const uint32_t first = segment.n_tokens() - n_rows;
    team.run(n_rows, kRowsAtOnce, [&](uint32_t begin, uint32_t end) {
      decode_rows(segment, rope, offset, to, first + begin, first + end);
    });
    offset += segment.n_tokens();
  }
}

PrefillPrecision precision_of(const SegmentJob& job) {
  const bool coarse = std::ranges::all_of(job.codecs, is_coarse);
  return coarse && job.precision == PrefillPrecision::best ? PrefillPrecision::fast : job.precision;
}

}  // namespace

Result<std::vector<MadeSegment>> run_segment_job(const ModelImage& image, const SegmentJob& job) {
  auto encoders = reserve(image, job);
  if (!encoders) return pass(encoders);

  const LayerRopes ropes(image.config());
  ThreadTeam team(job.n_threads);
  PrefillJob prefill_job;
  prefill_job.tokens = job.tokens;
  prefill_job.past_tokens = past_tokens(job);
  prefill_job.precision = precision_of(job);
  prefill_job.past = [&](uint32_t layer, float* k, float* v) {
    decode_past(job, ropes.of(layer), team, {layer, k, v});
  };
  prefill_job.layer_done = [&](const LayerKv& kv) -> Status {
    if (auto put = encoders->put(kv, image.config().n_heads, pieces_on(team)); !put) return put;
    return job.go_on ? job.go_on() : Status();
  };
  prefill_job.progress = job.progress;
  prefill_job.kernels = job.kernels;
  prefill_job.tiles = job.tiles;
  if (auto done = prefill(image, prefill_job, job.n_threads); !done) return pass(done);
  const std::string precision = describe_path(image, prefill_job);
  log_line(LogLevel::info, cat("prefilled ", job.tokens.size(), " tokens, precision ", precision));
  auto made = std::move(*encoders).seal();
  if (!made) return made;
  for (MadeSegment& segment : *made) segment.precision = precision;
  return made;
}

}  // namespace polykv
