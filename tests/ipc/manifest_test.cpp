// Manifests: round trip, and nothing wrong with one goes unseen.
#include "ipc/manifest.h"

#include <gtest/gtest.h>

#include <cstring>

namespace polykv {
namespace {

ManifestSpan span(uint8_t id, uint32_t begin, uint32_t end, int64_t offset) {
  ManifestSpan result{};
  result.segment[0] = id;
  result.token_begin = begin;
  result.token_end = end;
  result.position_offset = offset;
  result.segment_bytes = 1000u * id;
  return result;
}

Manifest example() {
  Manifest manifest{.version = 3, .spans = {span(1, 0, 4096, 0), span(2, 10, 20, 4086)}};
  manifest.model = {1, 2, 3};
  return manifest;
}

std::vector<std::byte> bytes_of(const Manifest& manifest) {
  auto fd = seal_manifest(manifest, memory_room());
  EXPECT_TRUE(fd) << fd.error().message;
  const auto view = SharedView::map(std::move(*fd));
  return {view->data().begin(), view->data().end()};
}

Result<Manifest> read_bytes(const std::vector<std::byte>& bytes) {
  auto fd = share_bytes("manifest-test", bytes, memory_room());
  if (!fd) return pass(fd);
  return read_manifest(std::move(*fd));
}

void sum_anew(std::vector<std::byte>& bytes) {
  std::memset(bytes.data() + offsetof(ManifestHeader, checksum), 0, sizeof(uint64_t));
  const uint64_t checksum = checksum64(bytes);
  std::memcpy(bytes.data() + offsetof(ManifestHeader, checksum), &checksum, sizeof(checksum));
}

// Changes one field of the bytes and makes the checksum right again.
template <class T>
std::vector<std::byte> forged(size_t offset, T value) {
  std::vector<std::byte> bytes = bytes_of(example());
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  sum_anew(bytes);
  return bytes;
}

TEST(Manifest, survives_shared_memory) {
  auto fd = seal_manifest(example(), memory_room());
  ASSERT_TRUE(fd) << fd.error().message;
  const auto read = read_manifest(std::move(*fd));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->version, 3u);
  EXPECT_EQ(read->model, example().model);
  ASSERT_EQ(read->spans.size(), 2u);
  EXPECT_EQ(std::memcmp(read->spans.data(), example().spans.data(), 2 * sizeof(ManifestSpan)), 0);
  EXPECT_EQ(read->n_tokens(), 4106u);
}

TEST(Manifest, begins_with_readable_magic) {
  EXPECT_EQ(std::memcmp(bytes_of(example()).data(), "PKVMAN\0\0", 8), 0);
}

TEST(Manifest, counts_a_segment_that_is_used_twice_once) {
  Manifest manifest = example();
  EXPECT_EQ(manifest.segment_bytes(), 3000u);
  manifest.spans.push_back(span(1, 0, 10, 5000));
  EXPECT_EQ(manifest.segment_bytes(), 3000u);
}

TEST(Manifest, every_flipped_bit_is_noticed) {
  std::vector<std::byte> bytes = bytes_of(example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const std::byte mask{static_cast<unsigned char>(1u << (bit % 8))};
    bytes[bit / 8] ^= mask;
    const auto read = read_bytes(bytes);
    ASSERT_FALSE(read) << "bit " << bit;
    EXPECT_EQ(read.error().code, ErrorCode::bad_segment);
    bytes[bit / 8] ^= mask;
  }
  EXPECT_TRUE(read_bytes(bytes));
}

TEST(Manifest, every_other_length_is_refused) {
  const std::vector<std::byte> bytes = bytes_of(example());
  for (size_t size = 1; size < bytes.size() + 50; ++size) {
    if (size == bytes.size()) continue;
    std::vector<std::byte> cut = bytes;
    cut.resize(size);
    const auto read = read_bytes(cut);
    ASSERT_FALSE(read) << size;
    EXPECT_EQ(read.error().code, ErrorCode::bad_segment);
  }
}

void expect_refused(const std::vector<std::byte>& bytes, const std::string& what) {
  const auto read = read_bytes(bytes);
  ASSERT_FALSE(read) << what;
  EXPECT_EQ(read.error().code, ErrorCode::bad_segment);
  EXPECT_NE(read.error().message.find(what), std::string::npos) << read.error().message;
}

TEST(Manifest, well_checksummed_nonsense_is_refused_by_name) {
  constexpr size_t kFirst = sizeof(ManifestHeader), kSecond = kFirst + sizeof(ManifestSpan);
  expect_refused(forged(offsetof(ManifestHeader, magic), uint64_t{1}), "magic");
  expect_refused(forged(offsetof(ManifestHeader, abi), kManifestAbi + 1), "ABI version is 2");
  expect_refused(forged(offsetof(ManifestHeader, n_spans), ~uint32_t{0}), "4294967295");
  expect_refused(forged(offsetof(ManifestHeader, n_spans), uint32_t{1}), "size");
  expect_refused(forged(offsetof(ManifestHeader, version), uint64_t{0}), "version");
  expect_refused(forged(offsetof(ManifestHeader, n_tokens), uint64_t{7}), "token count is 7");
  expect_refused(forged(kFirst + offsetof(ManifestSpan, token_end), uint32_t{0}), "span 0");
  expect_refused(forged(kFirst + offsetof(ManifestSpan, token_end), ~uint32_t{0}), "span 0");
  expect_refused(forged(kFirst + offsetof(ManifestSpan, position_offset), int64_t{-1}), "span 0");
  expect_refused(forged(kFirst + offsetof(ManifestSpan, segment_bytes), uint64_t{0}), "span 0");
  expect_refused(forged(kFirst + offsetof(ManifestSpan, segment_bytes), ~uint64_t{0}), "span 0");
  // One position earlier, and the second span overlaps the first.
  expect_refused(forged(kSecond + offsetof(ManifestSpan, position_offset), int64_t{4085}),
                 "at least 4096");
  expect_refused(forged(kSecond + offsetof(ManifestSpan, position_offset), INT64_MAX), "span 1");
  expect_refused(forged(kSecond + offsetof(ManifestSpan, position_offset), INT64_MIN), "span 1");
}

TEST(Manifest, unsealed_memory_is_refused) {
  const auto read = read_manifest(UniqueFd());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::bad_segment);
}

TEST(Manifest, none_is_sealed_or_read_without_spans) {
  Manifest empty = example();
  empty.spans.clear();
  const auto sealed = seal_manifest(empty, memory_room());
  ASSERT_FALSE(sealed);
  EXPECT_EQ(sealed.error().code, ErrorCode::bad_segment);
  EXPECT_EQ(sealed.error().value, "0");
  expect_refused(forged(offsetof(ManifestHeader, n_spans), uint32_t{0}), "number of spans is 0");
  std::vector<std::byte> header_alone = bytes_of(example());
  header_alone.resize(sizeof(ManifestHeader));
  const uint32_t none = 0;
  std::memcpy(header_alone.data() + offsetof(ManifestHeader, n_spans), &none, sizeof none);
  sum_anew(header_alone);
  expect_refused(header_alone, "number of spans is 0");
}

TEST(Manifest, spans_up_to_the_limit_are_sealed_and_no_more) {
  Manifest manifest = example();
  manifest.spans.clear();
  for (uint32_t i = 0; i < kSpansMax; ++i) manifest.spans.push_back(span(1, 0, 1, i));
  EXPECT_EQ(read_bytes(bytes_of(manifest))->spans.size(), kSpansMax);
  manifest.spans.push_back(span(1, 0, 1, kSpansMax));
  const auto refused = seal_manifest(manifest, memory_room());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().value, cat(kSpansMax + 1));
  EXPECT_EQ(refused.error().limit, cat("1..", kSpansMax));
}

}  // namespace
}  // namespace polykv
