// Each finished layer goes into all segments.
#include "writer/encoders.h"

#include "ipc/log.h"
#include "writer/layer_stats.h"

namespace polykv {
namespace {

std::string width_name(PlaneCodec codec) {
  return codec == PlaneCodec::f16 ? "f16" : cat(code_bits(codec), " bits");
}

// "layer 3 head 0 from 4 bits to 6 bits, …"
std::string places_of(const std::vector<WidePlane>& wide) {
  constexpr size_t kNamed = 32;
  std::string places;
  for (size_t i = 0; i < std::min(wide.size(), kNamed); ++i) {
    places += cat(i == 0 ? "" : ", ", "layer ", wide[i].layer, " head ", wide[i].head, " from ",
                  width_name(wide[i].asked), " to ", width_name(wide[i].codec));
  }
  return wide.size() > kNamed ? cat(places, " and ", wide.size() - kNamed, " more") : places;
}

void log_wide_planes(const SegmentBuilder& builder, const CodecSpec& codec) {
  const auto wide = builder.wide_planes();
  if (wide.empty()) return;
  log_line(LogLevel::info, cat("a segment in ", codec_name(codec), " has ", wide.size(),
                               " planes of keys that so few bits would spoil; they were widened: ",
                               places_of(wide)));
}

}  // namespace

Result<Encoders> Encoders::reserve(const std::vector<SegmentSpec>& specs, const MemoryRoom& room,
                                   const std::string& holders) {
  Encoders encoders;
  encoders.room_ = room;
  encoders.holders_ = holders;
  for (const SegmentSpec& spec : specs) encoders.bytes_ += segment_bytes(spec);
  if (auto fits = check_room(encoders.bytes_, room, holders); !fits) return pass(fits);
  for (const SegmentSpec& spec : specs) {
    auto builder = SegmentBuilder::create(spec, room);
    if (!builder) return pass(builder);
    encoders.all_.push_back({std::move(*builder), {}});
  }
  return encoders;
}

// As if all had been reserved so at the beginning.
Status Encoders::make_room(uint64_t more) {
  auto fits = check_room(bytes_ + more, room_, holders_);
  if (fits) bytes_ += more;
  if (fits) return {};
  Error error = fits.error();
  error.message = cat("some of this model's keys need more bits than the codec gives, and then ",
                      error.message);
  return std::unexpected(error);
}

Status Encoders::put(const LayerKv& kv, uint32_t n_heads, const Spread& spread) {
  const KeyWatch watch{{kv.query_tokens, kv.q, n_heads},
                       [this](uint64_t more) { return make_room(more); }};
  for (One& one : all_) {
    if (auto done = one.builder.put_watched_layer(kv.layer, kv.k, kv.v, watch, spread); !done) {
      return done;
    }
    if (measures_) one.layers.push_back(layer_stats(one.builder, kv, watch.queries));
  }
  return {};
}

Result<std::vector<MadeSegment>> Encoders::seal() && {
  std::vector<MadeSegment> made;
  for (One& one : all_) {
    log_wide_planes(one.builder, one.builder.codec());
    auto fd = std::move(one.builder).seal();
    if (!fd) return pass(fd);
    made.push_back({std::move(*fd), std::move(one.layers)});
  }
  return made;
}

}  // namespace polykv
