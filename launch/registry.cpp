// Pools, versions, segments.
#include "launch/registry.h"

#include <cstring>
#include <iomanip>
#include <set>
#include <utility>

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

Fingerprint chain_of(std::span<const std::shared_ptr<HeldSegment>> past) {
  Fingerprint chain{};
  for (const auto& segment : past) chain = chain_hash(chain, segment->view.tokens());
  return chain;
}

// Computed on these tokens, in this way, by a model of this shape?
Status check_origin(const SegmentView& segment, const SegmentOrigin& origin) {
  const SegmentHeader& header = segment.header();
  const Fingerprint wanted = chain_of(origin.past);
  Fingerprint found;
  std::memcpy(found.data(), header.prefix, found.size());
  const EncodeMode mode = origin.past.empty() ? EncodeMode::alone : EncodeMode::after_prefix;
  if (found != wanted || header.encode_mode != static_cast<uint32_t>(mode)) {
    return fail(ErrorCode::bad_segment,
                cat("a segment was computed after other tokens (prefix ", to_hex(found),
                    ") than those of the version that it is to extend (", to_hex(wanted), ")"),
                to_hex(found), to_hex(wanted));
  }
  if (header.provenance != static_cast<uint32_t>(origin.provenance)) {
    return fail(ErrorCode::bad_segment,
                cat("a segment's provenance is ", header.provenance, ", expected ",
                    static_cast<uint32_t>(origin.provenance)),
                cat(header.provenance), cat(static_cast<uint32_t>(origin.provenance)));
  }
  if (origin.past.empty() || segment.shape() == origin.past.front()->view.shape()) return {};
  return fail(ErrorCode::bad_segment, "a segment's shape is not that of the pool's others");
}

// Every live version of a pool, oldest first.
std::vector<std::shared_ptr<Version>> live_versions(const Pool& pool) {
  std::vector<std::shared_ptr<Version>> live;
  for (const auto& earlier : pool.earlier) {
    if (auto version = earlier.lock()) live.push_back(std::move(version));
  }
  if (pool.current) live.push_back(pool.current);
  return live;
}

void forget_expired(Pool& pool) {
  std::erase_if(pool.earlier, [](const auto& earlier) { return earlier.expired(); });
}

std::string pinned_numbers(const Pool& pool) {
  std::string numbers;
  for (const auto& [known, unused] : pool.pinned)
    numbers += cat(numbers.empty() ? "" : ", ", known);
  return numbers;
}

// Bytes of a pool's live versions; a segment shared by several counts once.
uint64_t pool_bytes(const Pool& pool, std::set<const HeldSegment*>& counted) {
  uint64_t bytes = 0;
  for (const auto& version : live_versions(pool)) {
    bytes += manifest_bytes(version->segments.size());
    for (const auto& segment : version->segments) {
      if (counted.insert(segment.get()).second) bytes += segment->view.bytes();
    }
  }
  return bytes;
}

}  // namespace

uint64_t manifest_bytes(size_t n_segments) {
  return sizeof(ManifestHeader) + n_segments * sizeof(ManifestSpan);
}

std::string dropped_name(const std::string& pool) { return pool + " (dropped)"; }

std::string megabytes(uint64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / 1e6 << " MB";
  return out.str();
}

uint64_t Version::bytes() const {
  uint64_t bytes = manifest_bytes(segments.size());
  for (const auto& segment : segments) bytes += segment->view.bytes();
  return bytes;
}

Status Registry::set_image(UniqueFd fd, const std::string& name, const std::string& fingerprint,
                           uint32_t n_positions, const KvShape& shape, std::string sampling) {
  auto own = fd.duplicate();
  if (!own) return pass(own);
  auto view = SharedView::map(std::move(*own));
  if (!view) return pass(view);
  (void)checksum64(view->data());  // faults every page in
  image_ = HeldImage{std::move(fd), std::move(*view),   name, fingerprint, n_positions,
                     shape,         std::move(sampling)};
  return {};
}

Result<std::shared_ptr<HeldSegment>> Registry::admit(UniqueFd fd, uint32_t n_tokens,
                                                     const CodecSpec& codec,
                                                     const SegmentOrigin& origin) const {
  auto own = fd.duplicate();
  if (!own) return pass(own);
  auto view = SegmentView::open(std::move(*own), Verify::everything);
  if (!view) return pass(view);
  const Fingerprint model = segment_model(*view);
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
  if (auto good = check_origin(*view, origin); !good) return pass(good);
  auto segment = std::make_shared<HeldSegment>(HeldSegment{std::move(fd), std::move(*view), {}});
  segment->identity = segment_identity(segment->view);
  return segment;
}

Result<std::shared_ptr<Version>> Registry::publish(const std::string& pool_name,
                                                   const CodecSpec& codec,
                                                   std::shared_ptr<HeldSegment> segment) {
  const Pool* before = find(pool_name);
  std::vector<std::shared_ptr<HeldSegment>> segments;
  if (before != nullptr) segments = before->current->segments;
  segments.push_back(std::move(segment));
  if (segments.size() > kSpansMax) {
    return fail(ErrorCode::memory_limit,
                cat("pool ", pool_name, " has ", kSpansMax,
                    " segments already: start a new pool with its text"),
                cat(segments.size()), cat(kSpansMax));
  }
  return add(pool_name, codec, std::move(segments), memory_room());
}

// The next version of a pool, or the first.
Result<std::shared_ptr<Version>> Registry::add(const std::string& pool_name, const CodecSpec& codec,
                                               std::vector<std::shared_ptr<HeldSegment>> segments,
                                               const MemoryRoom& room) {
  const Pool* before = find(pool_name);
  if (before == nullptr && pools_.size() >= kPoolsMax) {
    return fail(ErrorCode::memory_limit,
                cat("pool '", pool_name, "' would be one more than the ", kPoolsMax,
                    " that a runtime keeps: drop one first"),
                cat(pools_.size() + 1), cat(kPoolsMax));
  }
  const auto last = last_numbers_.find(pool_name);
  const uint64_t dropped = last == last_numbers_.end() ? 0 : last->second;
  auto version = std::make_shared<Version>();
  version->number = (before == nullptr ? dropped : before->current->number) + 1;
  version->manifest.version = version->number;
  version->manifest.model = segment_model(segments.front()->view);
  version->segments = std::move(segments);
  int64_t offset = 0;
  for (const auto& part : version->segments) {
    version->manifest.spans.push_back(span_of(*part, offset));
    offset += part->view.n_tokens();
  }
  auto fd = seal_manifest(version->manifest, room);
  if (!fd) return pass(fd);
  version->manifest_fd = std::move(*fd);

  Pool& pool = pools_[pool_name];
  if (pool.current) pool.earlier.emplace_back(pool.current);
  pool.name = pool_name;
  pool.codec = codec;
  pool.current = version;
  forget_expired(pool);
  return version;
}

Result<std::shared_ptr<Version>> Registry::fork(const std::string& pool_name, uint64_t number,
                                                const std::string& to, const MemoryRoom& room) {
  auto origin = version(pool_name, number);
  if (!origin) return origin;
  return add(to, find(pool_name)->codec, (*origin)->segments, room);
}

Status Registry::drop(const std::string& pool_name) {
  if (auto there = version(pool_name, 0); !there) return pass(there);
  Pool pool = std::move(pools_.extract(pool_name).mapped());
  last_numbers_[pool_name] = pool.current->number;
  pool.name = dropped_name(pool_name);
  pool.pinned.clear();
  pool.earlier.emplace_back(std::exchange(pool.current, nullptr));
  dropped_.push_back(std::move(pool));
  for (Pool& one : dropped_) forget_expired(one);
  std::erase_if(dropped_, [](const Pool& one) { return one.earlier.empty(); });
  return {};
}

Result<uint64_t> Registry::pin(const std::string& pool_name, uint64_t number) {
  auto wanted = version(pool_name, number);
  if (!wanted) return pass(wanted);
  const uint64_t exact = (*wanted)->number;
  pools_[pool_name].pinned[exact] = std::move(*wanted);
  return exact;
}

Result<uint64_t> Registry::unpin(const std::string& pool_name, uint64_t number) {
  const auto wanted = version(pool_name, number);
  if (!wanted) return pass(wanted);
  const uint64_t exact = (*wanted)->number;
  auto& pinned = pools_[pool_name].pinned;
  if (pinned.erase(exact) == 1) return exact;
  const std::string numbers = pinned_numbers(pools_[pool_name]);
  return fail(ErrorCode::usage,
              cat("version ", exact, " of pool '", pool_name, "' is not pinned; pinned ",
                  numbers.empty() ? "are none" : cat("is ", numbers)),
              cat(exact), numbers);
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

uint64_t Registry::held_bytes(const std::set<std::string>& without) const {
  std::set<const HeldSegment*> counted;
  uint64_t bytes = image_ ? image_->view.data().size() : 0;
  for (const auto& [name, pool] : pools_) {
    if (!without.contains(name)) bytes += pool_bytes(pool, counted);
  }
  for (const Pool& pool : dropped_) bytes += pool_bytes(pool, counted);
  return bytes;
}

std::string Registry::holders(const std::multimap<std::string, std::string>& agents_by_pool) const {
  std::string sentence =
      image_ ? cat("model image ", megabytes(image_->view.data().size())) : "nothing";
  std::set<const HeldSegment*> counted;
  const auto add_pool = [&](const Pool& pool) {
    const size_t versions = live_versions(pool).size();
    if (versions == 0) return;  // dropped, and free by now
    sentence += cat(", pool ", pool.name, " ", megabytes(pool_bytes(pool, counted)), " in ",
                    versions, " version(s)");
    if (!pool.pinned.empty()) sentence += cat(", pinned: ", pinned_numbers(pool));
    const auto [first, last] = agents_by_pool.equal_range(pool.name);
    std::string agents;
    for (auto it = first; it != last; ++it) agents += (agents.empty() ? "" : ", ") + it->second;
    if (!agents.empty()) sentence += cat(" (held by ", agents, ")");
  };
  for (const auto& [name, pool] : pools_) add_pool(pool);
  for (const Pool& pool : dropped_) add_pool(pool);
  return sentence;
}

}  // namespace polykv
