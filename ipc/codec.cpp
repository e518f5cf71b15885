// Names, code points, signs and the Hadamard transform: what every codec is made of.
#include "ipc/codec.h"

#include <array>
#include <cmath>
#include <optional>

namespace polykv {
namespace {

constexpr std::string_view kChoices =
    "k<b>v<b> with b one of 2, 3, 4, 5, 6, 8 (for example k4v4), f16, f32, paper";

// Positive halves of the Lloyd-Max quantisers of N(0,1): every point is the mean of its cell.
// tests/ipc/code_points_test.cpp checks that condition, which determines them.
constexpr std::array kPoints2 = {0.452780035f, 1.510417608f};
constexpr std::array kPoints3 = {0.245094179f, 0.756005281f, 1.343909279f, 2.151945705f};
constexpr std::array kPoints4 = {0.128395030f, 0.388048299f, 0.656759119f, 0.942340456f,
                                 1.256231197f, 1.618046386f, 2.069017227f, 2.732589571f};

// The same of 5 and 6 bits, as multiples of code_step(): whole numbers within a byte, and among
// those the ones with the least square error. tests/ipc/code_points_test.cpp finds them again.
constexpr std::array kPoints5 = {2, 6, 10, 14, 18, 22, 26, 31, 36, 41, 47, 53, 60, 69, 80, 97};
constexpr std::array kPoints6 = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                 33, 35, 38, 41, 44, 47, 50, 53, 57, 61, 65, 70, 76, 83, 92, 106};
// Within 0.02 % of the best steps, and short in binary: all products with them are exact in f32.
constexpr float kStep5 = 69.0f / 2048;
constexpr float kStep6 = 9.0f / 256;

// Points times step: the negative ones in reverse, then the positive ones. Ascending.
template <class T, size_t N>
constexpr std::array<float, 2 * N> mirrored(const std::array<T, N>& points, float step = 1) {
  std::array<float, 2 * N> book{};
  for (size_t i = 0; i < N; ++i) {
    const float point = static_cast<float>(points[i]) * step;
    book[N - 1 - i] = -point;
    book[N + i] = point;
  }
  return book;
}

constexpr auto kBook2 = mirrored(kPoints2);
constexpr auto kBook3 = mirrored(kPoints3);
constexpr auto kBook4 = mirrored(kPoints4);
constexpr auto kBook5 = mirrored(kPoints5, kStep5);
constexpr auto kBook6 = mirrored(kPoints6, kStep6);

constexpr std::array<float, 256> uniform_book() {
  std::array<float, 256> book{};
  for (int i = 0; i < 256; ++i) book[static_cast<size_t>(i)] = static_cast<float>(i - 128);
  return book;
}
constexpr auto kBook8 = uniform_book();

// The splitmix64 generator (Steele, Lea, Flood 2014).
constexpr uint64_t splitmix64(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Bit d % 64 of output d / 64: a set bit means -1.
constexpr std::array<float, 256> seeded_signs() {
  std::array<float, 256> signs{};
  uint64_t state = kSignSeed;
  uint64_t word = 0;
  for (size_t d = 0; d < signs.size(); ++d) {
    if (d % 64 == 0) word = splitmix64(state);
    signs[d] = ((word >> (d % 64)) & 1) != 0 ? -1.0f : 1.0f;
  }
  return signs;
}
constexpr auto kSigns = seeded_signs();

std::optional<PlaneCodec> rotated_codec(char bits) {
  constexpr std::string_view kBits = "234568";
  if (kBits.find(bits) == std::string_view::npos) return std::nullopt;
  return static_cast<PlaneCodec>(16 + (bits - '0'));
}

std::string plane_codec_name(PlaneCodec codec) {
  if (is_rotated(codec)) return std::to_string(code_bits(codec));
  switch (codec) {
    case PlaneCodec::f32:
      return "f32";
    case PlaneCodec::f16:
      return "f16";
    case PlaneCodec::paper_k8:
      return "paper8";
    case PlaneCodec::paper_v3:
      return "paper3";
    default:
      return "?" + std::to_string(static_cast<unsigned>(codec));
  }
}

constexpr CodecSpec kF16{PlaneCodec::f16, PlaneCodec::f16};
constexpr CodecSpec kF32{PlaneCodec::f32, PlaneCodec::f32};
constexpr CodecSpec kPaper{PlaneCodec::paper_k8, PlaneCodec::paper_v3};

}  // namespace

Result<CodecSpec> parse_codec(std::string_view name) {
  if (name == "f16") return kF16;
  if (name == "f32") return kF32;
  if (name == "paper") return kPaper;
  if (name.size() == 4 && name[0] == 'k' && name[2] == 'v') {
    const auto k = rotated_codec(name[1]);
    const auto v = rotated_codec(name[3]);
    if (k && v) return CodecSpec{*k, *v};
  }
  return fail(ErrorCode::unknown_codec, cat("unknown codec \"", name, "\": choose ", kChoices),
              std::string(name), std::string(kChoices));
}

std::string codec_name(const CodecSpec& codec) {
  if (codec == kF16) return "f16";
  if (codec == kF32) return "f32";
  if (codec == kPaper) return "paper";
  return "k" + plane_codec_name(codec.k) + "v" + plane_codec_name(codec.v);
}

int code_bits(PlaneCodec codec) { return is_rotated(codec) ? static_cast<int>(codec) - 16 : 0; }

bool is_rotated(PlaneCodec codec) {
  switch (codec) {
    case PlaneCodec::rot2:
    case PlaneCodec::rot3:
    case PlaneCodec::rot4:
    case PlaneCodec::rot5:
    case PlaneCodec::rot6:
    case PlaneCodec::rot8:
      return true;
    default:
      return false;
  }
}

uint32_t sink_rows(PlaneCodec codec) { return is_rotated(codec) ? kSinkTokens : 0; }

bool is_coarse(const CodecSpec& codec) {
  const auto at_most = [](PlaneCodec plane, int bits) {
    return is_rotated(plane) && code_bits(plane) <= bits;
  };
  return at_most(codec.k, 4) || at_most(codec.v, 3) || codec.v == PlaneCodec::paper_v3;
}

std::span<const float> code_book(int bits) {
  switch (bits) {
    case 2:
      return kBook2;
    case 3:
      return kBook3;
    case 4:
      return kBook4;
    case 5:
      return kBook5;
    case 6:
      return kBook6;
    case 8:
      return kBook8;
    default:
      return {};
  }
}

float code_step(int bits) {
  switch (bits) {
    case 5:
      return kStep5;
    case 6:
      return kStep6;
    case 8:
      return 1;
    default:
      return 0;
  }
}

std::span<const float> sign_vector(uint32_t head_dim) {
  return std::span<const float>(kSigns).first(head_dim);
}

// The stages within eight numbers, without loops of two or four.
static void hadamard_eight(float* x) {
  float a[8], b[8];
  for (uint32_t i = 0; i < 8; i += 2) {
    a[i] = x[i] + x[i + 1];
    a[i + 1] = x[i] - x[i + 1];
  }
  for (uint32_t i = 0; i < 8; i += 4) {
    for (uint32_t j = i; j < i + 2; ++j) {
      b[j] = a[j] + a[j + 2];
      b[j + 2] = a[j] - a[j + 2];
    }
  }
  for (uint32_t i = 0; i < 4; ++i) {
    x[i] = b[i] + b[i + 4];
    x[i + 4] = b[i] - b[i + 4];
  }
}

void hadamard(float* x, uint32_t n) {
  uint32_t done = 1;
  if (n >= 8) {
    for (uint32_t i = 0; i < n; i += 8) hadamard_eight(x + i);
    done = 8;
  }
  for (uint32_t half = done; half < n; half *= 2) {
    for (uint32_t block = 0; block < n; block += 2 * half) {
      for (uint32_t i = block; i < block + half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const float norm = 1.0f / std::sqrt(static_cast<float>(n));
  for (uint32_t i = 0; i < n; ++i) x[i] *= norm;
}

}  // namespace polykv
