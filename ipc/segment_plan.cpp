// The one description of a segment's header and table.
#include "ipc/segment_plan.h"

#include <algorithm>
#include <cstring>

namespace polykv {
namespace {

constexpr uint16_t kNoPlace = 0xffff;  // layer and head of the tokens plane

Status check_range(const char* what, uint32_t value, uint32_t limit) {
  if (value >= 1 && value <= limit) return {};
  return bad_segment(what, cat(value), cat("1..", limit));
}

// A window of one token would leave planes without rows; a period says something of windows only.
Status check_windows(const LayerWindows& windows) {
  if (windows.tokens == 1) return bad_segment("window", "1 token", "0, for none, or 2 and more");
  if (windows.tokens != 0 || windows.period == 0) return {};
  return bad_segment("window period", cat(windows.period), "0, because no layer has a window");
}

Status check_shape(const SegmentHeader& header) {
  if (auto ok = check_range("n_tokens", header.n_tokens, kSegmentTokensMax); !ok) return ok;
  if (auto ok = check_range("n_layers", header.n_layers, kSegmentLayersMax); !ok) return ok;
  if (auto ok = check_range("n_kv_heads", header.n_kv_heads, kSegmentHeadsMax); !ok) return ok;
  const uint32_t dim = header.head_dim;
  if (dim != 64 && dim != 128 && dim != 256) {
    return bad_segment("head_dim", cat(dim), "64, 128 or 256");
  }
  if (auto ok = check_windows(header.windows); !ok) return ok;
  const uint32_t sinks_max = std::min(kSinkTokens, header.n_tokens);
  if (header.n_sinks <= sinks_max) return {};
  return bad_segment("n_sinks", cat(header.n_sinks), cat("at most ", sinks_max));
}

Status check_codec(PlaneKind kind, uint16_t codec) {
  if (codec_fits(kind, static_cast<PlaneCodec>(codec))) return {};
  return bad_segment(kind == PlaneKind::k ? "k_codec" : "v_codec", cat(codec),
                     "a codec that this build knows");
}

Status check_modes(const SegmentHeader& header) {
  if (header.encode_mode > static_cast<uint32_t>(EncodeMode::after_prefix)) {
    return bad_segment("encode_mode", cat(header.encode_mode), "0 or 1");
  }
  if (header.provenance > static_cast<uint32_t>(Provenance::committed_turn)) {
    return bad_segment("provenance", cat(header.provenance), "0 or 1");
  }
  const bool alone = header.encode_mode == static_cast<uint32_t>(EncodeMode::alone);
  const auto is_zero = [](uint8_t byte) { return byte == 0; };
  if (alone && !std::ranges::all_of(header.prefix, is_zero)) {
    return bad_segment("prefix", "set", "zero, because the segment was encoded alone");
  }
  if (header.reserved0 != 0 || !std::ranges::all_of(header.reserved1, is_zero)) {
    return bad_segment("a reserved header field", "set", "zero");
  }
  if (header.sign_seed == kSignSeed) return {};
  return bad_segment("sign_seed", cat(header.sign_seed), cat(kSignSeed));
}

PlaneEntry tokens_entry(const SegmentHeader& header, uint64_t offset) {
  PlaneEntry entry{};
  entry.kind = static_cast<uint16_t>(PlaneKind::tokens);
  entry.layer = kNoPlace;
  entry.head = kNoPlace;
  entry.n_rows = header.n_tokens;
  entry.offset = offset;
  entry.bytes = uint64_t{header.n_tokens} * sizeof(uint32_t);
  return entry;
}

}  // namespace

SegmentHeader header_of(const SegmentSpec& spec) {
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.abi = kSegmentAbi;
  header.header_bytes = sizeof(SegmentHeader);
  std::memcpy(header.model, spec.model.data(), sizeof(header.model));
  std::memcpy(header.prefix, spec.prefix.data(), sizeof(header.prefix));
  header.encode_mode = static_cast<uint32_t>(spec.mode);
  header.provenance = static_cast<uint32_t>(spec.provenance);
  header.n_tokens = static_cast<uint32_t>(spec.tokens.size());
  header.n_layers = spec.shape.n_layers;
  header.n_kv_heads = spec.shape.n_kv_heads;
  header.head_dim = spec.shape.head_dim;
  const uint32_t sinks = std::max(sink_rows(spec.codec.k), sink_rows(spec.codec.v));
  header.n_sinks = spec.starts_context ? std::min(sinks, header.n_tokens) : 0;
  header.windows = spec.shape.windows;
  header.n_planes = plane_count(header);
  header.k_codec = static_cast<uint16_t>(spec.codec.k);
  header.v_codec = static_cast<uint16_t>(spec.codec.v);
  header.sign_seed = kSignSeed;
  return header;
}

std::vector<PlaneEntry> plan_table(SegmentHeader& header, const std::vector<PlaneCodec>& k_codecs) {
  check(k_codecs.empty() || k_codecs.size() == header.n_planes / 2, "one codec for each K plane");
  std::vector<PlaneEntry> table(header.n_planes);
  for (uint32_t i = 1; i < header.n_planes; ++i) {  // after the tokens: K, V, …
    table[i].codec = i % 2 == 1 ? header.k_codec : header.v_codec;
    if (i % 2 == 1 && !k_codecs.empty()) table[i].codec = static_cast<uint16_t>(k_codecs[i / 2]);
  }
  place_planes(header, table, 0);
  return table;
}

void place_planes(SegmentHeader& header, std::vector<PlaneEntry>& table, uint32_t first) {
  uint64_t offset = sizeof(SegmentHeader) + uint64_t{header.n_planes} * sizeof(PlaneEntry);
  if (first > 0) offset = align_plane(table[first - 1].offset + table[first - 1].bytes);
  for (uint32_t i = first; i < header.n_planes; ++i) {
    table[i] = wanted_entry(header, i, static_cast<PlaneCodec>(table[i].codec), offset);
    offset = align_plane(offset + table[i].bytes);
  }
  header.bytes = offset;
}

KvShape shape_of(const SegmentHeader& header) {
  return {header.n_layers, header.n_kv_heads, header.head_dim, header.windows};
}

CodecSpec codec_of(const SegmentHeader& header) {
  return {static_cast<PlaneCodec>(header.k_codec), static_cast<PlaneCodec>(header.v_codec)};
}

uint32_t first_token_of(const SegmentHeader& header, uint32_t layer) {
  return header.n_tokens - header.windows.kept(layer, header.n_tokens);
}

void add_if_wide(const SegmentHeader& header, uint32_t layer, uint32_t head, PlaneCodec codec,
                 std::vector<WidePlane>& wide) {
  const auto asked = static_cast<PlaneCodec>(header.k_codec);
  if (width_of(codec) > width_of(asked)) wide.push_back({layer, head, asked, codec});
}

PlaneEntry wanted_entry(const SegmentHeader& header, uint32_t index, PlaneCodec codec,
                        uint64_t offset) {
  if (index == 0) return tokens_entry(header, offset);
  const uint32_t place = (index - 1) / 2;
  PlaneEntry entry{};
  entry.kind = static_cast<uint16_t>(index % 2 == 1 ? PlaneKind::k : PlaneKind::v);
  entry.codec = static_cast<uint16_t>(codec);
  entry.layer = static_cast<uint16_t>(place / header.n_kv_heads);
  entry.head = static_cast<uint16_t>(place % header.n_kv_heads);
  entry.n_rows = header.windows.kept(entry.layer, header.n_tokens);
  const uint32_t first = header.n_tokens - entry.n_rows;
  if (is_rotated(codec)) entry.n_sinks = header.n_sinks - std::min(header.n_sinks, first);
  entry.offset = offset;
  entry.bytes = plane_layout(plane_shape(header, entry)).bytes;
  return entry;
}

PlaneShape plane_shape(const SegmentHeader& header, const PlaneEntry& entry) {
  return {static_cast<PlaneKind>(entry.kind), static_cast<PlaneCodec>(entry.codec), entry.n_rows,
          entry.n_sinks, header.head_dim};
}

uint32_t plane_count(const SegmentHeader& header) {
  return 1 + 2 * header.n_layers * header.n_kv_heads;
}

uint64_t align_plane(uint64_t offset) { return (offset + kAlign - 1) / kAlign * kAlign; }

uint64_t header_checksum(const SegmentHeader& header) {
  return checksum64(
      std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, header_checksum)));
}

uint64_t table_checksum(const std::vector<PlaneEntry>& table) {
  return checksum64(std::as_bytes(std::span(table)));
}

Status check_header_fields(const SegmentHeader& header) {
  if (auto ok = check_shape(header); !ok) return ok;
  if (auto ok = check_codec(PlaneKind::k, header.k_codec); !ok) return ok;
  if (auto ok = check_codec(PlaneKind::v, header.v_codec); !ok) return ok;
  if (auto ok = check_modes(header); !ok) return ok;
  const uint32_t planes = plane_count(header);
  if (header.n_planes == planes) return {};
  return bad_segment("n_planes", cat(header.n_planes), cat(planes));
}

bool codec_fits(PlaneKind kind, PlaneCodec codec) {
  if (is_rotated(codec) || codec == PlaneCodec::f16 || codec == PlaneCodec::f32) return true;
  return codec == (kind == PlaneKind::k ? PlaneCodec::paper_k8 : PlaneCodec::paper_v3);
}

std::unexpected<Error> bad_segment(const std::string& what, const std::string& value,
                                   const std::string& limit) {
  return fail(ErrorCode::bad_segment, cat("segment: ", what, " is ", value, ", wanted ", limit),
              value, limit);
}

uint64_t segment_bytes(const SegmentSpec& spec) {
  SegmentHeader header = header_of(spec);
  plan_table(header, spec.k_codecs);
  return header.bytes;
}

void keep_widths(SegmentSpec& spec, const SegmentView& earlier) {
  if (!is_rotated(spec.codec.k) || earlier.shape() != spec.shape) return;
  for (const WidePlane& wide : earlier.wide_planes()) {
    const size_t n_planes = size_t{spec.shape.n_layers} * spec.shape.n_kv_heads;
    if (spec.k_codecs.empty()) spec.k_codecs.assign(n_planes, spec.codec.k);
    PlaneCodec& codec = spec.k_codecs[size_t{wide.layer} * spec.shape.n_kv_heads + wide.head];
    if (width_of(wide.codec) > width_of(codec)) codec = wide.codec;
  }
}

Fingerprint chain_hash(const Fingerprint& prefix, std::span<const uint32_t> tokens) {
  std::vector<std::byte> bytes(prefix.size() + tokens.size_bytes());
  std::memcpy(bytes.data(), prefix.data(), prefix.size());
  if (!tokens.empty()) {
    std::memcpy(bytes.data() + prefix.size(), tokens.data(), tokens.size_bytes());
  }
  return fingerprint128(bytes);
}

}  // namespace polykv
