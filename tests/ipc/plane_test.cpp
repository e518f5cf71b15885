// Packing, encoding and decoding of planes.
#include "ipc/plane.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>

#include "ipc/half.h"
#include "tests/ipc/planes.h"

namespace polykv {
namespace {

using testing::decode;
using testing::encode_plane;
using testing::made_up_rows;
using testing::OwnedPlane;
using testing::relative_error;

constexpr PlaneCodec kRotated[] = {PlaneCodec::rot2, PlaneCodec::rot3, PlaneCodec::rot4,
                                   PlaneCodec::rot5, PlaneCodec::rot6, PlaneCodec::rot8};

PlaneShape shape_of(PlaneKind kind, PlaneCodec codec, uint32_t n_rows, uint32_t dim = 64) {
  return {kind, codec, n_rows, sink_rows(codec), dim};
}

std::vector<uint8_t> made_up_codes(uint32_t n, int bits, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> codes(n);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % (1u << bits));
  return codes;
}

class Packing : public ::testing::TestWithParam<int> {};

TEST_P(Packing, RoundTripsForEveryRowCount) {
  const int bits = GetParam();
  for (const PlaneKind kind : {PlaneKind::k, PlaneKind::v}) {
    for (uint32_t rows = 1; rows <= kTileRows; ++rows) {
      const uint64_t bytes = tile_bytes(kind, bits, rows, 64);
      const auto n_codes = static_cast<uint32_t>(bytes * 8 / bits);
      EXPECT_EQ(n_codes, (kind == PlaneKind::v ? (rows + 3) / 4 * 4 : rows) * 64);
      const auto codes = made_up_codes(n_codes, bits, rows);
      std::vector<std::byte> tile(bytes);
      pack_tile(codes.data(), bits, n_codes, tile.data());
      std::vector<uint8_t> back(n_codes, 0xff);
      unpack_tile(tile.data(), bits, n_codes, back.data());
      ASSERT_EQ(back, codes) << rows << " rows";
    }
  }
}

TEST_P(Packing, IsPlanarByFields) {
  const int bits = GetParam();
  const int low = bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits;
  constexpr uint32_t kCodes = 128;
  const auto codes = made_up_codes(kCodes, bits, 1);
  std::vector<std::byte> tile(kCodes * bits / 8);
  pack_tile(codes.data(), bits, kCodes, tile.data());
  const uint32_t low_bytes = kCodes * low / 8;
  for (uint32_t i = 0; i < kCodes; ++i) {
    int code =
        std::to_integer<int>(tile[i % low_bytes]) >> (i / low_bytes * low) & ((1 << low) - 1);
    if (bits > low) {
      const int high = bits - low;
      const uint32_t bytes = kCodes * high / 8;
      const int byte = std::to_integer<int>(tile[low_bytes + i % bytes]);
      code |= (byte >> (i / bytes * high) & ((1 << high) - 1)) << low;
    }
    ASSERT_EQ(code, codes[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, Packing, ::testing::Values(2, 3, 4, 5, 6, 8));

TEST(CodeIndex, GroupsFourAndIsAPermutation) {
  for (const PlaneKind kind : {PlaneKind::k, PlaneKind::v}) {
    for (const uint32_t rows : {4u, 8u, 60u, 64u}) {
      std::set<uint32_t> seen;
      for (uint32_t t = 0; t < rows; ++t) {
        for (uint32_t d = 0; d < 64; ++d) seen.insert(code_index(kind, rows, 64, t, d));
      }
      EXPECT_EQ(seen.size(), rows * 64);
      EXPECT_EQ(*seen.rbegin(), rows * 64 - 1);
    }
  }
  EXPECT_EQ(code_index(PlaneKind::k, 5, 64, 3, 6), (1u * 5 + 3) * 4 + 2);
  EXPECT_EQ(code_index(PlaneKind::v, 8, 64, 6, 3), (1u * 64 + 3) * 4 + 2);
}

TEST(PlaneLayout, SectionsAreAlignedAndInOrder) {
  for (const PlaneCodec codec : kRotated) {
    for (const uint32_t n : {1u, 3u, 4u, 5u, 68u, 69u, 1000u}) {
      for (const PlaneKind kind : {PlaneKind::k, PlaneKind::v}) {
        const PlaneLayout layout = plane_layout(shape_of(kind, codec, n));
        EXPECT_EQ(layout.mean, 0u);
        EXPECT_GE(layout.sinks, 64 * sizeof(float));
        EXPECT_GE(layout.scales, layout.sinks + std::min(n, 4u) * 64 * 2);
        EXPECT_GE(layout.codes, layout.scales + n - std::min(n, 4u));
        EXPECT_EQ((layout.sinks | layout.scales | layout.codes) % 64, 0u);
        const uint64_t coded = n - std::min(n, 4u);
        const uint64_t last = kind == PlaneKind::v ? (coded + 3) / 4 * 4 : coded;
        EXPECT_EQ(layout.bytes, layout.codes + last * 64 * code_bits(codec) / 8);
      }
    }
  }
}

// The bound is the code's distortion for a Gaussian with a margin for n = 64 and the u8 scale.
double error_bound(PlaneCodec codec) {
  switch (codec) {
    case PlaneCodec::rot2:
      return 0.135;
    case PlaneCodec::rot3:
      return 0.040;
    case PlaneCodec::rot4:
      return 0.0112;
    case PlaneCodec::rot5:
      return 0.0030;
    case PlaneCodec::rot6:
      return 0.0008;
    default:
      return 0.0001;
  }
}

TEST(EncodeRotated, ErrorIsThatOfTheCodeBook) {
  for (const PlaneCodec codec : kRotated) {
    for (const uint32_t dim : {64u, 128u, 256u}) {
      for (const PlaneKind kind : {PlaneKind::k, PlaneKind::v}) {
        const auto rows = made_up_rows(500, dim, dim);
        const OwnedPlane plane = encode_plane(shape_of(kind, codec, 500, dim), rows);
        const double error = relative_error(rows, decode(plane.view));
        EXPECT_LT(error, error_bound(codec)) << code_bits(codec) << " bits, head_dim " << dim;
        EXPECT_GT(error, error_bound(codec) / 10);
      }
    }
  }
}

TEST(EncodeRotated, CommonOffsetsCostNothing) {
  const uint32_t dim = 128;
  auto rows = made_up_rows(2000, dim, 5);
  for (float& x : rows) x += 2.0f;
  auto alternating = made_up_rows(2000, dim, 6);
  for (size_t i = 0; i < alternating.size(); ++i) alternating[i] += i % 2 == 0 ? 2.0f : -2.0f;
  for (const auto& input : {rows, alternating}) {
    const OwnedPlane plane =
        encode_plane(shape_of(PlaneKind::v, PlaneCodec::rot3, 2000, dim), input);
    EXPECT_LT(relative_error(input, decode(plane.view)), 0.04);
  }
}

// A row with an offset on every channel, alone in the segment, so that no mean can absorb it.
TEST(EncodeRotated, SignsSpreadAnOffsetThatTheMeanDoesNotHold) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const uint32_t dim = 64, n = 4000;
  std::vector<float> rows(size_t{n} * dim);
  for (uint32_t row = 0; row < n; ++row) {
    const float offset = row % 2 == 0 ? 2.0f : -2.0f;
    for (uint32_t d = 0; d < dim; ++d) rows[row * dim + d] = offset + normal(random);
  }
  const OwnedPlane ours = encode_plane({PlaneKind::v, PlaneCodec::rot3, n, 0, dim}, rows);
  const OwnedPlane paper = encode_plane({PlaneKind::v, PlaneCodec::paper_v3, n, 0, dim}, rows);
  EXPECT_LE(relative_error(rows, decode(ours.view)), 0.045);
  EXPECT_GT(relative_error(rows, decode(paper.view)), 0.3);  // the published form has no signs
}

TEST(EncodeRotated, ScaleIsUnbiased) {
  const auto rows = made_up_rows(400, 64, 8);
  const OwnedPlane plane = encode_plane(shape_of(PlaneKind::k, PlaneCodec::rot3, 400), rows);
  const auto back = decode(plane.view);
  double dot = 0, energy = 0;
  for (uint32_t row = 4; row < 400; ++row) {
    for (uint32_t d = 0; d < 64; ++d) {
      const double x = rows[row * 64 + d] - plane.view.mean[d];
      dot += x * (back[row * 64 + d] - plane.view.mean[d]);
      energy += x * x;
    }
  }
  EXPECT_NEAR(dot / energy, 1.0, 2e-3);  // least squares would give about 0.965
}

TEST(EncodeRotated, MeanLeavesTheSinksOut) {
  auto rows = made_up_rows(100, 64, 9);
  for (uint32_t i = 0; i < 4 * 64; ++i) rows[i] = 1000.0f;
  const OwnedPlane plane = encode_plane(shape_of(PlaneKind::k, PlaneCodec::rot4, 100), rows);
  for (uint32_t d = 0; d < 64; ++d) {
    double mean = 0;
    for (uint32_t row = 4; row < 100; ++row) mean += rows[row * 64 + d] / 96.0;
    EXPECT_NEAR(plane.view.mean[d], mean, 1e-5);
  }
}

TEST(EncodeRotated, SinksAreExactHalves) {
  const auto rows = made_up_rows(70, 64, 10);
  for (const PlaneCodec codec : kRotated) {
    const OwnedPlane plane = encode_plane(shape_of(PlaneKind::v, codec, 70), rows);
    const auto back = decode(plane.view);
    for (uint32_t i = 0; i < 4 * 64; ++i) {
      EXPECT_EQ(back[i], half_to_float(float_to_half(rows[i])));
    }
  }
}

TEST(EncodeRotated, FewerRowsThanSinksAreAllExact) {
  for (uint32_t n = 1; n <= 4; ++n) {
    const auto rows = made_up_rows(n, 64, n);
    for (const PlaneCodec codec : kRotated) {
      const OwnedPlane plane = encode_plane(shape_of(PlaneKind::k, codec, n), rows);
      EXPECT_EQ(coded_rows(plane.view.shape), 0u);
      EXPECT_LT(relative_error(rows, decode(plane.view)), 1e-6);
    }
  }
}

TEST(EncodeRotated, OneRowWithoutSinksIsItsOwnMean) {
  const auto rows = made_up_rows(1, 64, 11);
  const OwnedPlane plane = encode_plane({PlaneKind::v, PlaneCodec::rot4, 1, 0, 64}, rows);
  EXPECT_LT(relative_error(rows, decode(plane.view)), 1e-12);
}

TEST(EncodeRotated, EightBitsNeverClip) {
  auto rows = made_up_rows(200, 64, 12);
  for (uint32_t d = 0; d < 64; ++d) rows[20 * 64 + d] *= 100.0f;
  rows[30 * 64 + 7] = 60.0f;
  const OwnedPlane plane = encode_plane(shape_of(PlaneKind::k, PlaneCodec::rot8, 200), rows);
  const auto back = decode(plane.view);
  const float step = plane.view.scale_max;
  for (size_t i = 4 * 64; i < rows.size(); ++i) {
    EXPECT_NEAR(back[i], rows[i], step * 4) << i;  // 64 errors of half a step, rotated: far below
  }
  EXPECT_LT(relative_error(rows, back), 1e-4);
}

TEST(EncodeRotated, ConstantRowsAreTheMean) {
  const std::vector<float> zeros(100 * 64, 0.0f);
  for (const PlaneCodec codec : kRotated) {
    const OwnedPlane plane = encode_plane(shape_of(PlaneKind::k, codec, 100), zeros);
    EXPECT_EQ(decode(plane.view), zeros);
    const std::vector<float> threes(100 * 64, 3.0f);
    EXPECT_EQ(decode(encode_plane(shape_of(PlaneKind::v, codec, 100), threes).view), threes);
  }
}

TEST(EncodeRotated, BadNumbersDoNotSpoilOtherRows) {
  constexpr float kBad[] = {
      std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
      -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::max(), 1e-45f};
  for (const PlaneCodec codec :
       {PlaneCodec::rot4, PlaneCodec::rot8, PlaneCodec::paper_k8, PlaneCodec::paper_v3}) {
    for (const float bad : kBad) {
      auto rows = made_up_rows(80, 64, 13);
      rows[2 * 64] = bad;
      rows[50 * 64 + 3] = bad;
      const PlaneKind kind = codec == PlaneCodec::paper_v3 ? PlaneKind::v : PlaneKind::k;
      const auto back = decode(encode_plane(shape_of(kind, codec, 80), rows).view);
      EXPECT_TRUE(std::ranges::all_of(back, [](float x) { return std::isfinite(x); })) << bad;
    }
  }
}

TEST(EncodeRotated, SameRowsGiveTheSameBytes) {
  const auto rows = made_up_rows(300, 64, 14);
  const OwnedPlane a = encode_plane(shape_of(PlaneKind::v, PlaneCodec::rot5, 300), rows);
  const OwnedPlane b = encode_plane(shape_of(PlaneKind::v, PlaneCodec::rot5, 300), rows);
  EXPECT_EQ(std::memcmp(a.bytes.get(), b.bytes.get(), a.size), 0);
}

TEST(EncodeLayer, HeadsAreIndependent) {
  const uint32_t n = 90, heads = 3, dim = 64;
  const auto rows = made_up_rows(n, heads * dim, 15);
  const PlaneShape shape = shape_of(PlaneKind::k, PlaneCodec::rot4, n);
  const uint64_t size = plane_layout(shape).bytes;
  std::vector<std::byte> bytes(heads * size);
  for (uint32_t head = 0; head < heads; ++head) {
    std::byte* const ours = bytes.data() + head * size;
    const float scale_max = encode_head(shape, {rows.data(), heads}, head, ours);
    std::vector<float> alone;
    for (uint32_t row = 0; row < n; ++row) {
      const auto first = rows.begin() + (row * heads + head) * dim;
      alone.insert(alone.end(), first, first + dim);
    }
    const OwnedPlane plane = encode_plane(shape, alone);
    EXPECT_EQ(plane.view.scale_max, scale_max);
    EXPECT_EQ(std::memcmp(plane.bytes.get(), ours, size), 0);
  }
}

TEST(EncodeReference, F32IsExactAndF16IsHalf) {
  const auto rows = made_up_rows(33, 128, 16);
  EXPECT_EQ(decode(encode_plane(shape_of(PlaneKind::k, PlaneCodec::f32, 33, 128), rows).view),
            rows);
  auto halves = rows;
  for (float& x : halves) x = half_to_float(float_to_half(x));
  EXPECT_EQ(decode(encode_plane(shape_of(PlaneKind::v, PlaneCodec::f16, 33, 128), rows).view),
            halves);
}

TEST(EncodePaper, KeysHaveOneScaleForAllHeadsAndRoundHalfToEven) {
  const uint32_t dim = 64;
  std::vector<float> rows(2 * dim, 0.0f);  // one token, two heads
  rows[0] = 1.5f;
  rows[1] = 2.5f;
  rows[2] = -0.5f;
  rows[dim] = -127.0f;  // the layer's largest: scale 1
  rows[dim + 1] = 126.51f;
  const PlaneShape shape = shape_of(PlaneKind::k, PlaneCodec::paper_k8, 1);
  std::vector<std::byte> bytes(2 * dim);
  EXPECT_EQ(encode_head(shape, {rows.data(), 2}, 0, bytes.data()), 1.0f);
  EXPECT_EQ(encode_head(shape, {rows.data(), 2}, 1, bytes.data() + dim), 1.0f);
  const auto code = [&](size_t i) { return static_cast<int8_t>(bytes[i]); };
  EXPECT_EQ(code(0), 2);
  EXPECT_EQ(code(1), 2);
  EXPECT_EQ(code(2), 0);
  EXPECT_EQ(code(dim), -127);
  EXPECT_EQ(code(dim + 1), 127);
}

TEST(EncodePaper, ValuesAreNormAndIndexWithoutSigns) {
  const uint32_t dim = 64;
  std::vector<float> rows(2 * dim, 0.0f);
  rows[0] = 3.0f;                                           // H spreads one spike evenly: z = 1
  for (uint32_t d = 0; d < dim; ++d) rows[dim + d] = 0.5f;  // H gathers a constant: z0 = 8
  const OwnedPlane plane = encode_plane(shape_of(PlaneKind::v, PlaneCodec::paper_v3, 2), rows);
  EXPECT_EQ(plane.view.norms[0], 3.0f);
  EXPECT_EQ(plane.view.norms[1], 4.0f);
  const auto code = [&](size_t i) { return std::to_integer<int>(plane.view.codes[i]); };
  for (uint32_t d = 0; d < dim; ++d) EXPECT_EQ(code(d), 5) << d;  // 1 is nearest to 0.756
  EXPECT_EQ(code(dim), 7);
  for (uint32_t d = 1; d < dim; ++d) EXPECT_EQ(code(dim + d), 3) << d;  // 0 ties: the lower index
  float out[64];
  decode_row(plane.view, 0, out);
  EXPECT_NEAR(out[0], 3.0f * 0.756f, 1e-6);  // n * sum(c) / D
  for (uint32_t d = 1; d < dim; ++d) EXPECT_NEAR(out[d], 0.0f, 1e-6);
}

TEST(EncodePaper, ErrorIsAsMeasuredForTheMethod) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  std::vector<float> rows(20000 * 64);
  for (float& x : rows) x = normal(random);
  const OwnedPlane v = encode_plane(shape_of(PlaneKind::v, PlaneCodec::paper_v3, 20000), rows);
  EXPECT_NEAR(relative_error(rows, decode(v.view)), 0.0335, 0.0008);
  const OwnedPlane k = encode_plane(shape_of(PlaneKind::k, PlaneCodec::paper_k8, 20000), rows);
  EXPECT_LT(relative_error(rows, decode(k.view)), 2e-4);
}

TEST(DecodePaper, AlienCodesStayInsideTheTable) {
  const auto rows = made_up_rows(3, 64, 18);
  OwnedPlane plane = encode_plane(shape_of(PlaneKind::v, PlaneCodec::paper_v3, 3), rows);
  std::memset(plane.bytes.get() + plane_layout(plane.view.shape).codes, 0xff, 3 * 64);
  for (const float x : decode(plane.view)) EXPECT_TRUE(std::isfinite(x));
}

}  // namespace
}  // namespace polykv
