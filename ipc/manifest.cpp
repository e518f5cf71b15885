// Manifests: writing them sealed, and believing nothing when reading them.
#include "ipc/manifest.h"

#include <cstring>
#include <limits>
#include <optional>

namespace polykv {
namespace {

constexpr int64_t kPositionMax = std::numeric_limits<int32_t>::max();
constexpr int64_t kOffsetMax = int64_t{1} << 32;
constexpr uint64_t kSegmentBytesMax = uint64_t{1} << 48;  // 200 of them still fit 64 bits

std::unexpected<Error> bad(const std::string& what, const std::string& value,
                           const std::string& limit) {
  return fail(ErrorCode::bad_segment, cat("manifest: ", what, " is ", value, ", wanted ", limit),
              value, limit);
}

int64_t first_position(const ManifestSpan& s) { return s.token_begin + s.position_offset; }
int64_t end_position(const ManifestSpan& s) { return s.token_end + s.position_offset; }

Status check_span(const ManifestSpan& span, size_t index) {
  const std::string where = cat("span ", index, "'s ");
  if (span.token_begin >= span.token_end) {
    return bad(where + "token range", cat(span.token_begin, "..", span.token_end), "begin < end");
  }
  if (span.position_offset < -kOffsetMax || span.position_offset > kOffsetMax ||
      first_position(span) < 0 || end_position(span) > kPositionMax) {
    return bad(where + "position offset", cat(span.position_offset),
               cat("positions in 0..", kPositionMax));
  }
  if (span.segment_bytes == 0 || span.segment_bytes > kSegmentBytesMax) {
    return bad(where + "segment size", cat(span.segment_bytes), cat("1..", kSegmentBytesMax));
  }
  return {};
}

Status check_spans(const std::vector<ManifestSpan>& spans) {
  if (spans.empty() || spans.size() > kSpansMax) {
    return bad("number of spans", cat(spans.size()), cat("1..", kSpansMax));
  }
  int64_t position = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (const Status ok = check_span(spans[i], i); !ok) return ok;
    if (first_position(spans[i]) < position) {
      return bad(cat("span ", i, "'s first position"), cat(first_position(spans[i])),
                 cat("at least ", position, ", where the span before it ends"));
    }
    position = end_position(spans[i]);
  }
  return {};
}

ManifestHeader header_of(const Manifest& manifest) {
  ManifestHeader header{};
  header.magic = kManifestMagic;
  header.abi = kManifestAbi;
  header.n_spans = static_cast<uint32_t>(manifest.spans.size());
  header.version = manifest.version;
  std::memcpy(header.model, manifest.model.data(), sizeof(header.model));
  header.n_tokens = manifest.n_tokens();
  return header;
}

// Header and spans as they lie in memory, with the checksum filled in.
std::vector<std::byte> image_of(ManifestHeader header, const std::vector<ManifestSpan>& spans) {
  std::vector<std::byte> image(sizeof(header) + spans.size() * sizeof(ManifestSpan));
  header.checksum = 0;
  std::memcpy(image.data(), &header, sizeof(header));
  std::memcpy(image.data() + sizeof(header), spans.data(), spans.size() * sizeof(ManifestSpan));
  header.checksum = checksum64(image);
  std::memcpy(image.data(), &header, sizeof(header));
  return image;
}

Status check_header(const ManifestHeader& header, uint64_t bytes) {
  if (header.magic != kManifestMagic) {
    return bad("magic number", cat(header.magic), cat(kManifestMagic));
  }
  if (header.abi != kManifestAbi) return bad("ABI version", cat(header.abi), cat(kManifestAbi));
  if (header.n_spans == 0 || header.n_spans > kSpansMax) {
    return bad("number of spans", cat(header.n_spans), cat("1..", kSpansMax));
  }
  const uint64_t expected = sizeof(header) + header.n_spans * sizeof(ManifestSpan);
  if (bytes != expected) {
    return bad("size", cat(bytes, " bytes"), cat(expected, " for ", header.n_spans, " spans"));
  }
  if (header.version == 0) return bad("version", "0", "1 or more");
  return {};
}

}  // namespace

uint64_t Manifest::n_tokens() const {
  uint64_t sum = 0;
  for (const ManifestSpan& span : spans) sum += span.token_end - span.token_begin;
  return sum;
}

uint64_t Manifest::segment_bytes() const {
  uint64_t sum = 0;
  for (const ManifestSpan& span : spans) {
    bool counted = false;  // a segment that is used twice is mapped once
    for (const ManifestSpan* s = spans.data(); s != &span && !counted; ++s) {
      counted = std::memcmp(s->segment, span.segment, sizeof(span.segment)) == 0;
    }
    if (!counted) sum += span.segment_bytes;
  }
  return sum;
}

Result<UniqueFd> seal_manifest(const Manifest& manifest, const MemoryRoom& room) {
  if (const Status ok = check_spans(manifest.spans); !ok) return pass(ok);
  if (manifest.version == 0) return bad("version", "0", "1 or more");
  return share_bytes("polykv-manifest", image_of(header_of(manifest), manifest.spans), room);
}

Result<Manifest> read_manifest(UniqueFd fd) {
  const auto view = SharedView::map(std::move(fd));
  if (!view) return pass(view);
  const std::span<const std::byte> bytes = view->data();
  ManifestHeader header{};
  if (bytes.size() < sizeof(header)) {
    return bad("size", cat(bytes.size(), " bytes"), cat("at least ", sizeof(header)));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (const Status ok = check_header(header, bytes.size()); !ok) return pass(ok);
  Manifest manifest{.version = header.version, .spans = {}};
  manifest.spans.resize(header.n_spans);
  std::memcpy(manifest.spans.data(), bytes.data() + sizeof(header),
              manifest.spans.size() * sizeof(ManifestSpan));
  std::memcpy(manifest.model.data(), header.model, sizeof(header.model));
  const auto expected = image_of(header, manifest.spans);
  if (std::memcmp(expected.data(), bytes.data(), bytes.size()) != 0) {
    return bad("checksum", cat(header.checksum), "the checksum of its bytes");
  }
  if (const Status ok = check_spans(manifest.spans); !ok) return pass(ok);
  if (manifest.n_tokens() != header.n_tokens) {
    return bad("token count", cat(header.n_tokens), cat(manifest.n_tokens(), ", its spans' sum"));
  }
  return manifest;
}

}  // namespace polykv
