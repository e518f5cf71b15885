// Every kernel against attention on decoded rows in double precision.
#include "reader/attend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/ipc/planes.h"

namespace polykv {
namespace {

using testing::decode;
using testing::encode_plane;
using testing::made_up_rows;
using testing::OwnedPlane;

constexpr uint32_t kTails[] = {1, 3, 4, 5, 63, 64, 65, 511, 512, 513, 1000};
constexpr const char* kCodecs[] = {"k2v2", "k3v3", "k4v4", "k5v5", "k6v6", "k8v8",
                                   "k8v3", "k3v8", "f16",  "f32",  "paper"};

// K and V of one head with a context of n tokens.
struct Context {
  OwnedPlane k, v;
  uint32_t n_rows() const { return k.view.shape.n_rows; }
  uint32_t dim() const { return k.view.shape.head_dim; }
};

Context made_up_context(CodecSpec codec, uint32_t n, uint32_t dim = 64) {
  const auto plane = [&](PlaneKind kind, PlaneCodec of) {
    const auto seed = 2 * n + static_cast<uint32_t>(kind);
    return encode_plane({kind, of, n, sink_rows(of), dim}, made_up_rows(n, dim, seed));
  };
  return {plane(PlaneKind::k, codec.k), plane(PlaneKind::v, codec.v)};
}

std::vector<float> made_up_queries(uint32_t n, uint32_t dim) {
  auto q = made_up_rows(n, dim, 77);
  for (float& x : q) x *= 1.5f / std::sqrt(static_cast<float>(dim));
  return q;
}

float abs_of(float x) { return std::abs(x); }

// One state for each query.
struct States {
  std::vector<float> max, sum, acc;
  std::vector<Partial> partials;

  States(uint32_t n, uint32_t dim) : max(n), sum(n), acc(size_t{n} * dim) {
    for (uint32_t i = 0; i < n; ++i) {
      partials.push_back({&max[i], &sum[i], acc.data() + size_t{i} * dim});
      clear(partials.back(), dim);
    }
  }
};

void attend_rows(const AttendKernel& kernel, const Context& context, uint32_t begin, uint32_t end,
                 const std::vector<float>& q, States& states) {
  const auto n_queries = static_cast<uint32_t>(q.size() / context.dim());
  // Garbage in the work space must not matter.
  std::vector<float> work(attend_work_floats(n_queries, context.dim()), NAN);
  attend_span(kernel, {&context.k.view, &context.v.view, begin, end, n_queries, q.data(),
                       states.partials.data(), work.data()});
}

std::vector<float> attend(const AttendKernel& kernel, const Context& context, uint32_t begin,
                          uint32_t end, const std::vector<float>& q) {
  const auto n_queries = static_cast<uint32_t>(q.size() / context.dim());
  States states(n_queries, context.dim());
  attend_rows(kernel, context, begin, end, q, states);
  std::vector<float> out(q.size());
  for (uint32_t i = 0; i < n_queries; ++i) {
    normalise(states.partials[i], context.dim(), out.data() + size_t{i} * context.dim());
  }
  return out;
}

// Softmax over [begin, end) of decoded rows, in double.
std::vector<double> wanted(const std::vector<float>& k, const std::vector<float>& v, uint32_t dim,
                           uint32_t begin, uint32_t end, const float* q) {
  std::vector<double> scores;
  for (uint32_t row = begin; row < end; ++row) {
    double score = 0;
    for (uint32_t d = 0; d < dim; ++d)
      score += static_cast<double>(q[d]) * k[size_t{row} * dim + d];
    scores.push_back(score);
  }
  const double top = *std::ranges::max_element(scores);
  double sum = 0;
  std::vector<double> out(dim);
  for (uint32_t row = begin; row < end; ++row) {
    const double weight = std::exp(scores[row - begin] - top);
    sum += weight;
    for (uint32_t d = 0; d < dim; ++d) out[d] += weight * v[size_t{row} * dim + d];
  }
  for (double& x : out) x /= sum;
  return out;
}

// Largest difference over the largest magnitude, over all queries.
double error_of(const Context& context, uint32_t begin, uint32_t end, const std::vector<float>& q,
                const std::vector<float>& got) {
  const auto k = decode(context.k.view);
  const auto v = decode(context.v.view);
  const uint32_t dim = context.dim();
  double error = 0, size = 0;
  for (size_t first = 0; first < q.size(); first += dim) {
    const auto want = wanted(k, v, dim, begin, end, q.data() + first);
    for (uint32_t d = 0; d < dim; ++d) {
      error = std::max(error, std::abs(want[d] - got[first + d]));
      size = std::max(size, std::abs(want[d]));
    }
  }
  return error / size;
}

// Largest error that rounding to integers may cause, as a share of the largest output: measured up
// to 1.8e-2. One wrong token of 65 (kTails), or one wrong dimension, is off by more.
double tolerance(const AttendKernel& kernel, const CodecSpec& codec) {
  const bool coded = is_rotated(codec.k) || is_rotated(codec.v);
  return kernel.name == "ref" || !coded ? 2e-6 : 2e-2;
}

class Attend : public ::testing::TestWithParam<std::tuple<size_t, const char*>> {
 protected:
  void SetUp() override {
    const auto kernels = attend_kernels();
    const size_t index = std::get<0>(GetParam());
    if (index >= kernels.size()) GTEST_SKIP() << "this CPU lacks the kernel's instructions";
    kernel_ = kernels[index];
    codec_ = *parse_codec(std::get<1>(GetParam()));
    tolerance_ = tolerance(kernel_, codec_);
  }
  AttendKernel kernel_{};
  CodecSpec codec_;
  double tolerance_ = 0;
};

TEST_P(Attend, EqualsAttentionOnDecodedRows) {
  for (const uint32_t n : kTails) {
    const Context context = made_up_context(codec_, n);
    for (const uint32_t n_queries : {1u, 3u, 13u, 45u}) {
      const auto q = made_up_queries(n_queries, 64);
      const auto got = attend(kernel_, context, 0, n, q);
      EXPECT_LT(error_of(context, 0, n, q, got), tolerance_)
          << n << " rows, " << n_queries << " queries";
    }
  }
}

TEST_P(Attend, WorksForEveryHeadSize) {
  for (const uint32_t dim : {128u, 256u}) {
    const Context context = made_up_context(codec_, 333, dim);
    for (const uint32_t n_queries : {4u, 20u}) {
      const auto q = made_up_queries(n_queries, dim);
      const auto got = attend(kernel_, context, 0, 333, q);
      EXPECT_LT(error_of(context, 0, 333, q, got), tolerance_) << dim << ", " << n_queries;
    }
  }
}

TEST_P(Attend, TakesAnyRangeOfRows) {
  const Context context = made_up_context(codec_, 1100);
  const auto q = made_up_queries(5, 64);
  constexpr std::pair<uint32_t, uint32_t> kRanges[] = {
      {0, 3}, {3, 700}, {2, 5}, {100, 101}, {71, 77}, {513, 1000}, {511, 513}, {1099, 1100}};
  for (const auto& [begin, end] : kRanges) {
    const auto got = attend(kernel_, context, begin, end, q);
    EXPECT_LT(error_of(context, begin, end, q, got), tolerance_) << begin << ".." << end;
  }
}

TEST_P(Attend, SpansInTurnEqualTheWhole) {
  const Context context = made_up_context(codec_, 900);
  const auto q = made_up_queries(3, 64);
  States states(3, 64);
  for (const auto& [begin, end] : {std::pair{0u, 1u}, {1u, 1u}, {1u, 600u}, {600u, 900u}}) {
    attend_rows(kernel_, context, begin, end, q, states);
  }
  std::vector<float> out(q.size());
  for (uint32_t i = 0; i < 3; ++i) normalise(states.partials[i], 64, out.data() + i * 64);
  EXPECT_LT(error_of(context, 0, 900, q, out), tolerance_);
}

TEST_P(Attend, ResultOfAQueryDoesNotDependOnTheOthers) {
  constexpr std::pair<uint32_t, float> kCases[] = {{5, 1}, {700, 1}, {1500, 40}};
  for (const auto& [n, size] : kCases) {  // large ones: later tiles bring far higher scores
    const Context context = made_up_context(codec_, n);
    constexpr uint32_t kAll = 192;  // 64 rows of a prompt, 3 query heads
    auto q = made_up_queries(kAll, 64);
    for (float& x : q) x *= size;
    const auto together = attend(kernel_, context, 0, n, q);
    for (const uint32_t n_queries : {1u, 2u, 3u, 4u, 5u, 7u, 11u, 45u, 96u}) {
      const uint32_t first = kAll - n_queries;
      const std::vector<float> last(q.end() - n_queries * 64, q.end());
      const auto apart = attend(kernel_, context, 0, n, last);
      EXPECT_EQ(
          std::memcmp(apart.data(), together.data() + first * 64, last.size() * sizeof(float)), 0)
          << n_queries << " of 192 queries, " << n << " rows";
    }
  }
}

// Whole spans and their parts: sets with AVX-512 differ in how they multiply integers, no more.
TEST(AttendKernels, SetsWithAvx512GiveTheSameBits) {
  const auto kernels = attend_kernels();
  if (kernels.size() < 4) GTEST_SKIP() << "this CPU has one such set, or none";
  for (const char* name : kCodecs) {
    for (const uint32_t dim : {64u, 128u, 256u}) {
      const Context context = made_up_context(*parse_codec(name), 333, dim);
      for (const uint32_t n_queries : {3u, 12u, 45u}) {
        const auto q = made_up_queries(n_queries, dim);
        const auto first = attend(kernels[2], context, 1, 330, q);
        for (const AttendKernel& kernel : kernels.subspan(3)) {
          EXPECT_EQ(attend(kernel, context, 1, 330, q), first)
              << kernel.name << ", " << name << ", " << dim << ", " << n_queries;
        }
      }
    }
  }
}

// A row without energy has the scale 0: its values are the mean, but its weight counts.
TEST_P(Attend, RowsThatEqualTheMeanCount) {
  constexpr uint32_t kRows = 200;
  auto rows = made_up_rows(kRows, 64, 5);
  std::fill(rows.begin() + 4 * 64, rows.end(), 0.25f);
  rows[10 * 64 + 3] = 3.0f, rows[11 * 64 + 3] = -2.5f;  // the mean stays
  const Context context{
      encode_plane({PlaneKind::k, codec_.k, kRows, sink_rows(codec_.k), 64},
                   made_up_rows(kRows, 64, 6)),
      encode_plane({PlaneKind::v, codec_.v, kRows, sink_rows(codec_.v), 64}, rows)};
  const auto q = made_up_queries(13, 64);
  EXPECT_LT(error_of(context, 0, kRows, q, attend(kernel_, context, 0, kRows, q)), tolerance_);
}

TEST_P(Attend, OneHotQueryPicksItsRow) {
  const Context context = made_up_context(codec_, 300);
  std::vector<float> row(64), value(64);
  for (const uint32_t target : {0u, 4u, 131u, 299u}) {
    decode_row(context.k.view, target, row.data());
    for (float& x : row) x *= 10.0f;  // a score far above every other row's
    decode_row(context.v.view, target, value.data());
    const auto got = attend(kernel_, context, 0, 300, row);
    const float size = std::abs(*std::ranges::max_element(value, {}, abs_of));
    for (uint32_t d = 0; d < 64; ++d) {
      EXPECT_NEAR(got[d], value[d], size * tolerance_ + 1e-5) << "row " << target;
    }
  }
}

TEST_P(Attend, EqualScoresGiveTheMean) {
  const Context context = made_up_context(codec_, 513);
  const std::vector<float> q(64, 0.0f);
  const auto got = attend(kernel_, context, 0, 513, q);
  const auto v = decode(context.v.view);
  for (uint32_t d = 0; d < 64; ++d) {
    double mean = 0;
    for (uint32_t row = 0; row < 513; ++row) mean += v[row * 64 + d] / 513.0;
    EXPECT_NEAR(got[d], mean, tolerance_);
  }
}

TEST_P(Attend, HugeScoresStayFinite) {
  const Context context = made_up_context(codec_, 200);
  auto q = made_up_queries(3, 64);
  for (float& x : q) x *= 1e20f;
  for (const float x : attend(kernel_, context, 0, 200, q)) EXPECT_TRUE(std::isfinite(x));
}

TEST_P(Attend, EmptyRangeLeavesTheStateAlone) {
  const Context context = made_up_context(codec_, 10);
  const auto q = made_up_queries(1, 64);
  States states(1, 64);
  attend_rows(kernel_, context, 7, 7, q, states);
  EXPECT_EQ(states.sum[0], 0.0f);
  EXPECT_EQ(states.max[0], -std::numeric_limits<float>::infinity());
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<size_t, const char*>>& info) {
  return "kernel" + std::to_string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Attend,
                         ::testing::Combine(::testing::Values<size_t>(0, 1, 2, 3, 4),
                                            ::testing::ValuesIn(kCodecs)),
                         name_of);

class EachKernel : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    if (GetParam() >= attend_kernels().size()) {
      GTEST_SKIP() << "this CPU lacks the kernel's instructions";
    }
    kernel_ = attend_kernels()[GetParam()];
  }
  AttendKernel kernel_{};
};

TEST_P(EachKernel, MixesCodecsOfKeysAndValues) {
  constexpr CodecSpec kMixed[] = {
      {PlaneCodec::rot4, PlaneCodec::f32},     {PlaneCodec::f16, PlaneCodec::rot3},
      {PlaneCodec::rot8, PlaneCodec::rot4},    {PlaneCodec::rot6, PlaneCodec::rot4},
      {PlaneCodec::rot5, PlaneCodec::rot2},    {PlaneCodec::rot8, PlaneCodec::paper_v3},
      {PlaneCodec::paper_k8, PlaneCodec::rot5}};
  for (const CodecSpec codec : kMixed) {
    const Context context = made_up_context(codec, 600);
    const auto q = made_up_queries(3, 64);
    EXPECT_LT(error_of(context, 0, 600, q, attend(kernel_, context, 0, 600, q)),
              tolerance(kernel_, codec))
        << codec_name(codec);
  }
}

TEST_P(EachKernel, WorksWithoutSinks) {
  const auto rows = made_up_rows(600, 64, 3);
  const Context context{encode_plane({PlaneKind::k, PlaneCodec::rot4, 600, 0, 64}, rows),
                        encode_plane({PlaneKind::v, PlaneCodec::rot4, 600, 0, 64}, rows)};
  const auto q = made_up_queries(3, 64);
  EXPECT_LT(error_of(context, 0, 600, q, attend(kernel_, context, 0, 600, q)),
            tolerance(kernel_, {PlaneCodec::rot4, PlaneCodec::rot4}));
}

// A growing suffix: rows that are not written yet lie behind row_end, or do not exist at all.
TEST_P(EachKernel, ReadsNoPlainRowPastTheEnd) {
  for (const PlaneCodec codec : {PlaneCodec::f32, PlaneCodec::f16}) {
    for (const uint32_t n : {1u, 7u, 64u, 70u}) {
      const Context whole = made_up_context({codec, codec}, n);
      const auto q = made_up_queries(3, 64);
      const auto want = attend(kernel_, whole, 0, n, q);
      Context growing = made_up_context({codec, codec}, 100);
      std::memcpy(growing.k.bytes.get(), whole.k.bytes.get(), whole.k.size);
      std::memcpy(growing.v.bytes.get(), whole.v.bytes.get(), whole.v.size);
      std::memset(growing.k.bytes.get() + whole.k.size, 0xff, growing.k.size - whole.k.size);
      std::memset(growing.v.bytes.get() + whole.v.size, 0xff, growing.v.size - whole.v.size);
      EXPECT_EQ(attend(kernel_, growing, 0, n, q), want) << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EachKernel, ::testing::Values<size_t>(0, 1, 2, 3, 4));

}  // namespace
}  // namespace polykv
