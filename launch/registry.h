// What the supervisor keeps: the model image, pools, their versions, and who holds them.
// Pure bookkeeping over fds: no sockets, no processes. One thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ipc/pool.h"

namespace polykv {

struct HeldImage {
  UniqueFd fd;
  SharedView view;  // kept mapped: shared pages stay shared, whoever else comes and goes
  std::string name;
  std::string fingerprint;  // hexadecimal
  uint32_t n_positions = 0;
  KvShape shape{};       // of its segments
  std::string sampling;  // of a request that says nothing, in words
};

struct HeldSegment {
  UniqueFd fd;
  SegmentView view;
  Fingerprint identity{};      // XXH3-128 of its header
  std::string precision = {};  // how it was prefilled, as the writer says; "" = it was not
};

// What a segment was computed on, and how.
struct SegmentOrigin {
  std::span<const std::shared_ptr<HeldSegment>> past = {};  // in order of position
  Provenance provenance = Provenance::prefill;
};

// An immutable version; it lives as long as the pool shows or pins it, or a lease holds it.
struct Version {
  uint64_t number = 0;
  Manifest manifest;
  UniqueFd manifest_fd;
  std::vector<std::shared_ptr<HeldSegment>> segments;  // in order of position

  uint32_t n_tokens() const { return static_cast<uint32_t>(manifest.n_tokens()); }
  uint64_t bytes() const;  // segments and manifest
};

struct Pool {
  std::string name;
  CodecSpec codec;
  std::shared_ptr<Version> current;
  std::vector<std::weak_ptr<Version>> earlier;
  std::map<uint64_t, std::shared_ptr<Version>> pinned;  // stay, whatever is current
};

inline constexpr size_t kPoolsMax = 1000;  // a snapshot lists them all

class Registry {
 public:
  // Touches every page and keeps the mapping.
  Status set_image(UniqueFd fd, const std::string& name, const std::string& fingerprint,
                   uint32_t n_positions, const KvShape& shape = {}, std::string sampling = "");
  const HeldImage* image() const { return image_ ? &*image_ : nullptr; }

  // Verifies everything in a segment that a writer or an agent handed over, and that it says to
  // have been computed on just these.
  Result<std::shared_ptr<HeldSegment>> admit(UniqueFd fd, uint32_t n_tokens, const CodecSpec& codec,
                                             const SegmentOrigin& origin = {}) const;
  // Makes the next version of a pool: its current segments and `segment`. Creates the pool if it is
  // new.
  Result<std::shared_ptr<Version>> publish(const std::string& pool_name, const CodecSpec& codec,
                                           std::shared_ptr<HeldSegment> segment);

  // A pool named `to` whose first version has the same segments as this one: nothing is copied.
  // REQUIRES: there is no pool `to`.
  Result<std::shared_ptr<Version>> fork(const std::string& pool_name, uint64_t number,
                                        const std::string& to, const MemoryRoom& room);
  // The pool is gone from the list; what leases hold of it is counted until they end. Its name may
  // be taken again, its version numbers never are: an old lease cannot be mistaken for a new one.
  Status drop(const std::string& pool_name);
  // Keeps a version (0 = current) although a newer one comes; pinned twice is pinned once.
  Result<uint64_t> pin(const std::string& pool_name, uint64_t number);
  Result<uint64_t> unpin(const std::string& pool_name, uint64_t number);  // usage: is not pinned

  const Pool* find(const std::string& pool) const;
  // version 0 = current. version_gone names what there is.
  Result<std::shared_ptr<Version>> version(const std::string& pool_name, uint64_t number) const;
  const std::map<std::string, Pool>& pools() const { return pools_; }

  // Image, segments once each, manifests; as if these pools were not there.
  uint64_t held_bytes(const std::set<std::string>& without = {}) const;
  // "model image 80.1 MB, pool main 24.0 MB in 2 versions (held by agents a1, a2)".
  std::string holders(const std::multimap<std::string, std::string>& agents_by_pool) const;

 private:
  Result<std::shared_ptr<Version>> add(const std::string& pool_name, const CodecSpec& codec,
                                       std::vector<std::shared_ptr<HeldSegment>> segments,
                                       const MemoryRoom& room);

  std::optional<HeldImage> image_;
  std::map<std::string, Pool> pools_;
  std::vector<Pool> dropped_;  // without a current version: only leases hold them
  std::map<std::string, uint64_t> last_numbers_;  // of dropped pools
};

// Bytes of the manifest of a version of so many segments.
uint64_t manifest_bytes(size_t n_segments);
// What a dropped pool is called as long as leases hold it.
std::string dropped_name(const std::string& pool);
std::string megabytes(uint64_t bytes);  // "24.0 MB" (10^6)

}  // namespace polykv
