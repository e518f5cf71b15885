// Pools, versions, segments.
#include "launch/registry.h"

#include <cstring>
#include <iomanip>
#include <set>

namespace polykv {
namespace {

ManifestSpan span_of(const HeldSegment& segment, int64_t offset) {
  ManifestSpan span{};
  std::memcpy(span.segment, segment.identity.data(), segment.identity.size());
  span.token_end = segment.view.n_tokens();
  span.position_offset = offset;
  span.segment_bytes = segment.view.bytes();
  return span;
}

// Every live version of a pool, oldest first.
std::vector<std::shared_ptr<Version>> live_versions(const Pool& pool) {
  std::vector<std::shared_ptr<Version>> live;
  for (const auto& earlier : pool.earlier) {
    if (auto version = earlier.lock()) live.push_back(std::move(version));
  }
  live.push_back(pool.current);
  return live;
}

// Bytes of a pool's live versions; a segment shared by several counts once.
uint64_t pool_bytes(const Pool& pool, std::set<const HeldSegment*>& counted) {
  uint64_t bytes = 0;
  for (const auto& version : live_versions(pool)) {
    bytes += sizeof(ManifestHeader) + version->segments.size() * sizeof(ManifestSpan);
    for (const auto& segment : version->segments) {
      if (counted.insert(segment.get()).second) bytes += segment->view.bytes();
    }
  }
  return bytes;
}

}  // namespace

std::string megabytes(uint64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / 1e6 << " MB";
  return out.str();
}

uint64_t Version::bytes() const {
  uint64_t bytes = sizeof(ManifestHeader) + segments.size() * sizeof(ManifestSpan);
  for (const auto& segment : segments) bytes += segment->view.bytes();
  return bytes;
}

Status Registry::set_image(UniqueFd fd, const std::string& name, const std::string& fingerprint,
                           uint32_t n_positions) {
  auto own = fd.duplicate();
  if (!own) return pass(own);
  auto view = SharedView::map(std::move(*own));
  if (!view) return pass(view);
  (void)checksum64(view->data());  // faults every page in
  image_ = HeldImage{std::move(fd), std::move(*view), name, fingerprint, n_positions};
  return {};
}

Result<std::shared_ptr<HeldSegment>> Registry::admit(UniqueFd fd, uint32_t n_tokens,
                                                     const CodecSpec& codec) const {
  auto own = fd.duplicate();
  if (!own) return pass(own);
  auto view = SegmentView::open(std::move(*own), Verify::everything);
  if (!view) return pass(view);
  Fingerprint model;
  std::memcpy(model.data(), view->header().model, model.size());
  if (!image_ || to_hex(model) != image_->fingerprint) {
    return fail(
        ErrorCode::fingerprint_mismatch,
        cat("a segment made by model ", to_hex(model), " was handed over, this runtime runs ",
            image_ ? image_->fingerprint : "no model yet"),
        to_hex(model));
  }
  if (view->n_tokens() != n_tokens || !(view->codec() == codec)) {
    return fail(ErrorCode::bad_segment,
                cat("a segment holds ", view->n_tokens(), " tokens in ", codec_name(view->codec()),
                    ", expected ", n_tokens, " in ", codec_name(codec)));
  }
  auto segment = std::make_shared<HeldSegment>(HeldSegment{std::move(fd), std::move(*view), {}});
  segment->identity = segment_identity(segment->view);
  return segment;
}

Result<std::shared_ptr<Version>> Registry::publish(const std::string& pool_name,
                                                   const CodecSpec& codec,
                                                   std::shared_ptr<HeldSegment> segment) {
  const Pool* before = find(pool_name);
  auto version = std::make_shared<Version>();
  version->number = before == nullptr ? 1 : before->current->number + 1;
  version->manifest.version = version->number;
  std::memcpy(version->manifest.model.data(), segment->view.header().model,
              version->manifest.model.size());
  if (before != nullptr) version->segments = before->current->segments;
  version->segments.push_back(std::move(segment));
  if (version->segments.size() > kSpansMax) {
    return fail(ErrorCode::memory_limit,
                cat("pool ", pool_name, " has ", kSpansMax,
                    " segments already: start a new pool with its text"),
                cat(version->segments.size()), cat(kSpansMax));
  }
  int64_t offset = 0;
  for (const auto& part : version->segments) {
    version->manifest.spans.push_back(span_of(*part, offset));
    offset += part->view.n_tokens();
  }
  auto fd = seal_manifest(version->manifest, memory_room());
  if (!fd) return pass(fd);
  version->manifest_fd = std::move(*fd);

  Pool& pool = pools_[pool_name];
  if (pool.current) pool.earlier.emplace_back(pool.current);
  std::erase_if(pool.earlier, [](const auto& earlier) { return earlier.expired(); });
  pool.name = pool_name;
  pool.codec = codec;
  pool.current = version;
  return version;
}

const Pool* Registry::find(const std::string& pool) const {
  const auto found = pools_.find(pool);
  return found == pools_.end() ? nullptr : &found->second;
}

Result<std::shared_ptr<Version>> Registry::version(const std::string& pool_name,
                                                   uint64_t number) const {
  const Pool* pool = find(pool_name);
  if (pool == nullptr) {
    std::string names;
    for (const auto& [known, unused] : pools_) names += (names.empty() ? "" : ", ") + known;
    return fail(ErrorCode::version_gone,
                cat("there is no pool '", pool_name, "'; there ",
                    names.empty() ? "are none yet" : "is ", names),
                pool_name);
  }
  std::string numbers;
  for (const auto& version : live_versions(*pool)) {
    const bool wanted = number == 0 ? version == pool->current : version->number == number;
    if (wanted) return version;
    numbers += cat(numbers.empty() ? "" : ", ", version->number);
  }
  return fail(
      ErrorCode::version_gone,
      cat("version ", number, " of pool '", pool_name, "' is not there (any more); there is ",
          numbers, ", ", pool->current->number, " is current"),
      cat(number), numbers);
}

uint64_t Registry::held_bytes() const {
  std::set<const HeldSegment*> counted;
  uint64_t bytes = image_ ? image_->view.data().size() : 0;
  for (const auto& [name, pool] : pools_) bytes += pool_bytes(pool, counted);
  return bytes;
}

std::string Registry::holders(const std::multimap<std::string, std::string>& agents_by_pool) const {
  std::string sentence =
      image_ ? cat("model image ", megabytes(image_->view.data().size())) : "nothing";
  std::set<const HeldSegment*> counted;
  for (const auto& [name, pool] : pools_) {
    sentence += cat(", pool ", name, " ", megabytes(pool_bytes(pool, counted)), " in ",
                    live_versions(pool).size(), " version(s)");
    const auto [first, last] = agents_by_pool.equal_range(name);
    std::string agents;
    for (auto it = first; it != last; ++it) agents += (agents.empty() ? "" : ", ") + it->second;
    if (!agents.empty()) sentence += cat(" (held by ", agents, ")");
  }
  return sentence;
}

}  // namespace polykv
