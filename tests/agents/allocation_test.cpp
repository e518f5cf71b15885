// The token loop takes no memory: every allocation of this program is counted.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "agents/stream.h"
#include "model/logprobs.h"
#include "model/sampler.h"
#include "tests/agents/made_up_context.h"
#include "tests/agents/small_pool.h"

namespace {
std::atomic<int> allocations = 0;

void* counted(size_t bytes, size_t alignment) {
  ++allocations;
  void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
// Inlined, the compiler takes free() for a mistake after new.
[[gnu::noinline]] void given_back(void* p) noexcept { std::free(p); }
}  // namespace

void* operator new(size_t bytes) { return counted(bytes, 16); }
void* operator new[](size_t bytes) { return counted(bytes, 16); }
void* operator new(size_t bytes, std::align_val_t at) {
  return counted(bytes, static_cast<size_t>(at));
}
void* operator new[](size_t bytes, std::align_val_t at) {
  return counted(bytes, static_cast<size_t>(at));
}
void operator delete(void* p) noexcept { given_back(p); }
void operator delete[](void* p) noexcept { given_back(p); }
void operator delete(void* p, size_t) noexcept { given_back(p); }
void operator delete[](void* p, size_t) noexcept { given_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { given_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { given_back(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { given_back(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { given_back(p); }

namespace polykv {
namespace {

class AllocationTest : public test::SmallPool {};

TEST_F(AllocationTest, a_step_takes_no_memory) {
  const Layout layout = layout_of(segment("k4v4"));
  Suffix suffix(model_->image.config(), layout);
  Stream stream(*model_, layout, suffix);
  std::vector<float> logits(model_->image.config().n_vocab);
  ASSERT_TRUE(stream.become({tokens_.data(), 40}, 60, logits.data()));
  Sampler sampler({});
  const int before = allocations;
  for (int i = 0; i < 8; ++i) stream.step(sampler.pick(logits, {}), logits.data());
  EXPECT_EQ(allocations - before, 0);
}

TEST_F(AllocationTest, a_pass_of_several_lanes_takes_no_memory) {
  const Layout layout = layout_of(segment("k4v4"));
  PoolAttention attention(model_->image.config(), layout, model_->attend, model_->team);
  Pass pass(*model_);
  std::vector<float> logits(size_t{3} * model_->image.config().n_vocab);
  std::vector<Suffix> suffixes;
  for (int i = 0; i < 3; ++i) suffixes.emplace_back(model_->image.config(), layout);
  for (Suffix& suffix : suffixes) ASSERT_TRUE(suffix.reserve(0, 64));
  const int before = allocations;
  for (uint32_t i = 0; i < 8; ++i) {
    for (Suffix& suffix : suffixes) pass.add(attention, suffix, {&tokens_[i], 1 + i % 2}, 1);
    pass.run(logits.data());
  }
  EXPECT_EQ(allocations - before, 0);
}

TEST(WindowsAllocation, attention_of_layers_with_a_window_takes_no_memory) {
  const ModelConfig config = test::windowed_config(90);
  const Layout layout = test::MadeUpContext(config, 230).layout({200, 30}, "k4v4");
  ThreadTeam team(2);
  const AttendKernel kernel = choose_attend_kernel()->kernel;
  PoolAttention attention(config, layout, kernel, team);
  Suffix suffix(config, layout);
  ASSERT_TRUE(suffix.reserve(0, 120));
  const uint32_t n_rows = 3;
  const std::vector<float> rows(size_t{n_rows} * config.n_heads * config.head_dim, 0.5F);
  std::vector<float> out(rows.size());
  const std::vector<Suffix*> suffixes(n_rows, &suffix);
  std::vector<uint32_t> positions = {230, 231, 232};
  const int before = allocations;
  for (; positions.back() < 350; std::ranges::for_each(positions, [](uint32_t& p) { p += 3; })) {
    for (uint32_t layer = 0; layer < config.n_layers; ++layer) {
      attention.attend(
          {layer, n_rows, positions.data(), rows.data(), rows.data(), rows.data(), out.data()},
          suffixes.data());
    }
  }
  EXPECT_EQ(allocations - before, 0);
}

TEST_F(AllocationTest, logprobs_take_no_memory) {
  Logprobs logprobs(model_->image.config().n_vocab, Logprobs::kTopMax);
  std::vector<float> logits(model_->image.config().n_vocab);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 977);
  const int before = allocations;
  logprobs.keep(logits);
  for (uint32_t token = 0; token < 8; ++token) (void)logprobs.of(token);
  EXPECT_EQ(allocations - before, 0);
}

TEST_F(AllocationTest, the_counter_counts) {
  const int before = allocations;
  auto number = std::make_unique<int>(1);
  EXPECT_GT(allocations, before) << *number;
}

}  // namespace
}  // namespace polykv
