// What the supervisor holds: what it lets in, what a version is, and what it all weighs.
#include "launch/registry.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "tests/launch/expect_error.h"
#include "tests/launch/small_segment.h"

namespace polykv {
namespace {

using testing::counted_tokens;
using testing::expect_error;
using testing::small_model;
using testing::small_segment;
using testing::small_spec;
using testing::spoiled_segment;

constexpr uint64_t kImageBytes = 8192;
const CodecSpec kCodec = *parse_codec("k4v4");

Registry with_image(const std::string& fingerprint = to_hex(small_model())) {
  Registry registry;
  const std::vector<std::byte> image(kImageBytes, std::byte{5});
  auto fd = share_bytes("polykv-image", image, {});
  EXPECT_TRUE(fd) << fd.error().message;
  const auto set = registry.set_image(std::move(*fd), "tiny", fingerprint, 100);
  EXPECT_TRUE(set) << set.error().message;
  return registry;
}

std::shared_ptr<HeldSegment> admitted(const Registry& registry, uint32_t n_tokens) {
  auto fd = small_segment(small_spec(counted_tokens(n_tokens), kCodec));
  EXPECT_TRUE(fd) << fd.error().message;
  auto segment = registry.admit(std::move(*fd), n_tokens, kCodec);
  EXPECT_TRUE(segment) << segment.error().message;
  return segment ? *segment : nullptr;
}

std::shared_ptr<Version> published(Registry& registry, const std::string& pool, uint32_t n_tokens) {
  auto version = registry.publish(pool, kCodec, admitted(registry, n_tokens));
  EXPECT_TRUE(version) << version.error().message;
  return version ? *version : nullptr;
}

uint64_t manifest_bytes(size_t n_spans) {
  return sizeof(ManifestHeader) + n_spans * sizeof(ManifestSpan);
}

TEST(Registry, versions_count_up_and_share_the_segments_before) {
  Registry registry = with_image();
  const auto first = published(registry, "main", 40);
  const auto second = published(registry, "main", 24);
  EXPECT_EQ(first->number, 1u);
  EXPECT_EQ(second->number, 2u);
  ASSERT_EQ(first->segments.size(), 1u);
  ASSERT_EQ(second->segments.size(), 2u);
  EXPECT_EQ(second->segments[0], first->segments[0]) << "the same segment, not a copy";
  EXPECT_EQ(first->n_tokens(), 40u) << "a published version never changes";
  EXPECT_EQ(second->n_tokens(), 64u);
  EXPECT_EQ(published(registry, "other", 8)->number, 1u) << "numbers are a pool's own";
}

TEST(Registry, manifest_lists_each_segment_at_its_place) {
  Registry registry = with_image();
  published(registry, "main", 40);
  const auto version = published(registry, "main", 24);
  auto own = version->manifest_fd.duplicate();
  ASSERT_TRUE(own);
  const auto manifest = read_manifest(std::move(*own));
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_EQ(manifest->version, 2u);
  EXPECT_EQ(manifest->model, small_model());
  ASSERT_EQ(manifest->spans.size(), 2u);
  EXPECT_EQ(manifest->spans[0].position_offset, 0);
  EXPECT_EQ(manifest->spans[1].position_offset, 40);
  EXPECT_EQ(manifest->spans[1].token_end, 24u);
  EXPECT_EQ(manifest->spans[1].segment_bytes, version->segments[1]->view.bytes());
  EXPECT_TRUE(std::ranges::equal(manifest->spans[1].segment, version->segments[1]->identity));
}

TEST(Registry, earlier_version_lives_as_long_as_somebody_holds_it) {
  Registry registry = with_image();
  auto held = published(registry, "main", 40);
  published(registry, "main", 24);
  published(registry, "main", 16);  // version 2 is held by nobody from here on
  EXPECT_TRUE(registry.version("main", 1));
  const auto gone = registry.version("main", 2);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::version_gone);
  EXPECT_EQ(gone.error().value, "2");
  EXPECT_EQ(gone.error().limit, "1, 3");
  EXPECT_NE(gone.error().message.find("3 is current"), std::string::npos);

  held.reset();
  EXPECT_FALSE(registry.version("main", 1));
  const auto current = registry.version("main", 0);
  ASSERT_TRUE(current);
  EXPECT_EQ((*current)->number, 3u);
}

TEST(Registry, pool_that_is_not_there_is_refused_with_the_ones_that_are) {
  Registry registry = with_image();
  const auto none = registry.version("main", 0);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::version_gone);
  EXPECT_NE(none.error().message.find("none yet"), std::string::npos);
  published(registry, "alpha", 8);
  published(registry, "beta", 8);
  const auto wrong = registry.version("gamma", 0);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().value, "gamma");
  EXPECT_NE(wrong.error().message.find("alpha, beta"), std::string::npos);
  EXPECT_EQ(registry.find("gamma"), nullptr);
}

TEST(Registry, held_bytes_count_a_shared_segment_once) {
  Registry registry = with_image();
  EXPECT_EQ(registry.held_bytes(), kImageBytes);
  auto first = published(registry, "main", 40);
  const auto second = published(registry, "main", 24);
  const uint64_t segments = second->segments[0]->view.bytes() + second->segments[1]->view.bytes();
  EXPECT_EQ(second->bytes(), manifest_bytes(2) + segments);
  EXPECT_EQ(registry.held_bytes(), kImageBytes + manifest_bytes(1) + manifest_bytes(2) + segments);
  first.reset();
  EXPECT_EQ(registry.held_bytes(), kImageBytes + manifest_bytes(2) + segments);
}

TEST(Registry, holders_name_image_pools_versions_and_agents) {
  Registry registry = with_image();
  const auto first = published(registry, "main", 40);
  published(registry, "main", 24);
  const std::string sentence = registry.holders({{"main", "a01"}, {"main", "a02"}});
  EXPECT_NE(sentence.find("model image 0.0 MB"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("pool main"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("in 2 version(s) (held by a01, a02)"), std::string::npos) << sentence;
}

TEST(Registry, pool_is_full_at_as_many_segments_as_a_packet_can_carry) {
  Registry registry = with_image();
  const auto segment = admitted(registry, 1);
  for (uint32_t i = 0; i < kSpansMax; ++i) {
    ASSERT_TRUE(registry.publish("main", kCodec, segment)) << "segment " << i;
  }
  const auto over = registry.publish("main", kCodec, segment);
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().code, ErrorCode::memory_limit);
  EXPECT_EQ(over.error().limit, cat(kSpansMax));
  EXPECT_EQ(registry.find("main")->current->number, kSpansMax) << "a refusal publishes nothing";
}

TEST(Fork, has_the_same_segments_and_costs_its_manifest_only) {
  Registry registry = with_image();
  published(registry, "main", 40);
  const auto origin = published(registry, "main", 24);
  const uint64_t before = registry.held_bytes();
  const auto fork = registry.fork("main", 0, "draft", {});
  ASSERT_TRUE(fork) << fork.error().message;
  EXPECT_EQ((*fork)->number, 1u) << "a pool counts from one, whatever it was forked from";
  EXPECT_EQ((*fork)->segments, origin->segments) << "the same segments, not copies";
  EXPECT_EQ(registry.held_bytes(), before + manifest_bytes(2));
  EXPECT_EQ(registry.find("draft")->codec, kCodec);
  auto own = (*fork)->manifest_fd.duplicate();
  ASSERT_TRUE(own);
  const auto manifest = read_manifest(std::move(*own));
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_EQ(manifest->version, 1u);
  EXPECT_EQ(manifest->model, small_model());
  ASSERT_EQ(manifest->spans.size(), 2u);
  EXPECT_EQ(manifest->spans[1].position_offset, 40);
}

TEST(Fork, of_an_earlier_version_has_that_versions_segments) {
  Registry registry = with_image();
  const auto first = published(registry, "main", 40);
  published(registry, "main", 24);
  const auto fork = registry.fork("main", 1, "draft", {});
  ASSERT_TRUE(fork) << fork.error().message;
  EXPECT_EQ((*fork)->n_tokens(), 40u);
}

TEST(Fork, of_what_is_gone_makes_no_pool_and_names_what_there_is) {
  Registry registry = with_image();
  published(registry, "main", 40);
  published(registry, "main", 24);
  const auto gone = registry.fork("main", 1, "draft", {});
  expect_error(gone, ErrorCode::version_gone, {"version 1", "'main'", "2 is current"});
  EXPECT_EQ(gone.error().value, "1");
  EXPECT_EQ(gone.error().limit, "2");
  expect_error(registry.fork("none", 0, "draft", {}), ErrorCode::version_gone, {"'none'", "main"});
  EXPECT_EQ(registry.find("draft"), nullptr);
}

TEST(Fork, without_room_for_its_manifest_makes_no_pool) {
  Registry registry = with_image();
  published(registry, "main", 40);
  const MemoryRoom room{.budget = manifest_bytes(1) - 1};
  expect_error(registry.fork("main", 0, "draft", room), ErrorCode::memory_limit, {"budget"});
  EXPECT_EQ(registry.find("draft"), nullptr);
}

TEST(Fork, grows_and_is_dropped_without_the_original) {
  Registry registry = with_image();
  published(registry, "main", 40);
  ASSERT_TRUE(registry.fork("main", 0, "draft", {}));
  EXPECT_EQ(published(registry, "draft", 24)->n_tokens(), 64u);
  EXPECT_EQ(registry.find("main")->current->number, 1u);
  EXPECT_EQ(registry.find("main")->current->n_tokens(), 40u);
  ASSERT_TRUE(registry.drop("main"));
  EXPECT_EQ(registry.find("draft")->current->n_tokens(), 64u) << "it holds the segments itself";
}

TEST(Fork, past_as_many_pools_as_a_snapshot_lists_is_refused) {
  Registry registry = with_image();
  published(registry, "main", 1);
  for (size_t i = 1; i < kPoolsMax; ++i) {
    ASSERT_TRUE(registry.fork("main", 0, cat("draft-", i), {})) << i;
  }
  const auto over = registry.fork("main", 0, "over", {});
  expect_error(over, ErrorCode::memory_limit, {"'over'", cat(kPoolsMax), "drop one"});
  EXPECT_EQ(over.error().limit, cat(kPoolsMax));
  expect_error(registry.publish("over", kCodec, admitted(registry, 1)), ErrorCode::memory_limit,
               {"'over'"});
  EXPECT_EQ(published(registry, "main", 1)->number, 2u) << "an append makes no pool";
}

TEST(Drop, frees_at_once_what_nobody_holds) {
  Registry registry = with_image();
  published(registry, "main", 40);
  published(registry, "other", 8);
  const uint64_t other = registry.find("other")->current->bytes();
  ASSERT_TRUE(registry.drop("main"));
  EXPECT_EQ(registry.find("main"), nullptr);
  EXPECT_EQ(registry.held_bytes(), kImageBytes + other);
  EXPECT_EQ(registry.holders({}).find("dropped"), std::string::npos) << registry.holders({});
}

TEST(Drop, counts_what_leases_hold_until_the_last_one_ends) {
  Registry registry = with_image();
  auto first = published(registry, "main", 40);
  auto second = published(registry, "main", 24);
  const uint64_t before = registry.held_bytes();
  ASSERT_TRUE(registry.drop("main"));
  EXPECT_EQ(registry.held_bytes(), before);
  const std::string sentence = registry.holders({{dropped_name("main"), "a01"}});
  EXPECT_NE(sentence.find("pool main (dropped)"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("in 2 version(s) (held by a01)"), std::string::npos) << sentence;
  second.reset();
  EXPECT_EQ(registry.held_bytes(), kImageBytes + first->bytes());
  first.reset();
  EXPECT_EQ(registry.held_bytes(), kImageBytes);
}

TEST(Drop, of_an_unknown_pool_names_those_there_are) {
  Registry registry = with_image();
  published(registry, "main", 8);
  const auto refused = registry.drop("mian");
  expect_error(refused, ErrorCode::version_gone, {"'mian'", "there is main"});
  EXPECT_EQ(refused.error().value, "mian");
  EXPECT_NE(registry.find("main"), nullptr);
}

TEST(Drop, frees_the_name_but_not_the_version_numbers) {
  Registry registry = with_image();
  published(registry, "main", 40);
  const auto leased = published(registry, "main", 24);
  ASSERT_TRUE(registry.drop("main"));
  EXPECT_EQ(published(registry, "main", 8)->number, 3u) << "a lease on 2 is on the old pool's";
  expect_error(registry.version("main", 2), ErrorCode::version_gone, {"version 2"});
}

TEST(Pin, keeps_an_old_version_and_unpin_lets_it_go) {
  Registry registry = with_image();
  published(registry, "main", 40);
  const auto pinned = registry.pin("main", 0);
  ASSERT_TRUE(pinned) << pinned.error().message;
  EXPECT_EQ(*pinned, 1u) << "0 is the current version";
  ASSERT_TRUE(registry.pin("main", 1)) << "twice is once";
  published(registry, "main", 24);
  const auto old = registry.version("main", 1);
  ASSERT_TRUE(old) << old.error().message;
  EXPECT_EQ((*old)->n_tokens(), 40u);
  EXPECT_NE(registry.holders({}).find("pinned: 1"), std::string::npos) << registry.holders({});
}

TEST(Pin, released_lets_the_version_and_its_memory_go) {
  Registry registry = with_image();
  published(registry, "main", 40);
  ASSERT_TRUE(registry.pin("main", 1));
  published(registry, "main", 24);
  const uint64_t before = registry.held_bytes();
  const auto released = registry.unpin("main", 1);
  ASSERT_TRUE(released) << released.error().message;
  EXPECT_EQ(*released, 1u);
  EXPECT_EQ(registry.held_bytes(), before - manifest_bytes(1)) << "version 2 has its segment, too";
  expect_error(registry.version("main", 1), ErrorCode::version_gone, {"version 1"});
}

TEST(Pin, that_cannot_be_is_refused_with_the_choices) {
  Registry registry = with_image();
  published(registry, "main", 40);
  published(registry, "main", 24);
  expect_error(registry.pin("main", 1), ErrorCode::version_gone, {"version 1", "2 is current"});
  expect_error(registry.pin("none", 0), ErrorCode::version_gone, {"'none'"});
  expect_error(registry.unpin("main", 1), ErrorCode::version_gone, {"version 1"});
  expect_error(registry.unpin("main", 2), ErrorCode::usage, {"version 2", "pinned are none"});
  ASSERT_TRUE(registry.pin("main", 2));
  published(registry, "main", 8);
  const auto wrong = registry.unpin("main", 3);
  expect_error(wrong, ErrorCode::usage, {"version 3", "pinned is 2"});
  EXPECT_EQ(wrong.error().value, "3");
  EXPECT_EQ(wrong.error().limit, "2");
}

TEST(Pin, ends_with_its_pool) {
  Registry registry = with_image();
  published(registry, "main", 40);
  ASSERT_TRUE(registry.pin("main", 1));
  ASSERT_TRUE(registry.drop("main"));
  EXPECT_EQ(registry.held_bytes(), kImageBytes);
}

void expect_not_admitted(const Registry& registry, Result<UniqueFd> fd, uint32_t n_tokens,
                         ErrorCode code, const std::string& words) {
  ASSERT_TRUE(fd) << fd.error().message;
  const auto segment = registry.admit(std::move(*fd), n_tokens, kCodec);
  ASSERT_FALSE(segment) << "admitted, expected: " << words;
  EXPECT_EQ(segment.error().code, code) << segment.error().message;
  EXPECT_NE(segment.error().message.find(words), std::string::npos) << segment.error().message;
}

TEST(Admission, segment_of_another_model_is_refused_with_both_fingerprints) {
  const Registry registry = with_image();
  const auto spec = small_spec(counted_tokens(8), kCodec, small_model(0x11));
  expect_not_admitted(registry, small_segment(spec), 8, ErrorCode::fingerprint_mismatch,
                      to_hex(small_model(0x11)));
  expect_not_admitted(registry, small_segment(spec), 8, ErrorCode::fingerprint_mismatch,
                      to_hex(small_model()));
}

TEST(Admission, segment_before_any_model_is_refused) {
  const Registry registry;
  expect_not_admitted(registry, small_segment(small_spec(counted_tokens(8), kCodec)), 8,
                      ErrorCode::fingerprint_mismatch, "no model yet");
}

TEST(Admission, other_length_or_codec_than_asked_for_is_refused_with_both) {
  const Registry registry = with_image();
  const auto spec = small_spec(counted_tokens(8), kCodec);
  expect_not_admitted(registry, small_segment(spec), 9, ErrorCode::bad_segment,
                      "holds 8 tokens in k4v4, expected 9");
  const auto other = small_spec(counted_tokens(8), *parse_codec("k8v3"));
  expect_not_admitted(registry, small_segment(other), 8, ErrorCode::bad_segment,
                      "8 tokens in k8v3, expected 8 in k4v4");
}

TEST(Admission, one_changed_byte_is_found) {
  const Registry registry = with_image();
  auto good = small_segment(small_spec(counted_tokens(80), kCodec));
  ASSERT_TRUE(good);
  expect_not_admitted(registry, spoiled_segment(std::move(*good)), 80, ErrorCode::bad_segment,
                      "checksum");
}

TEST(Admission, memory_that_is_no_segment_is_refused) {
  const Registry registry = with_image();
  const std::vector<std::byte> zeros(4096);
  expect_not_admitted(registry, share_bytes("polykv-zeros", zeros, {}), 8, ErrorCode::bad_segment,
                      "segment");
}

TEST(Admission, image_that_could_still_change_is_refused) {
  Registry registry;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]), write_end(ends[1]);
  auto pipe = read_end.duplicate();
  ASSERT_TRUE(pipe);
  const auto set = registry.set_image(std::move(*pipe), "tiny", to_hex(small_model()), 100);
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, ErrorCode::bad_segment);
  EXPECT_EQ(registry.image(), nullptr);
}

}  // namespace
}  // namespace polykv
