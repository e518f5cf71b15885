// The product is that of the mathematics library inside libtorch: what ATen itself offers rounds
// the sums to bfloat16 again.
#include "model/prefill_split.h"

#include <ATen/cpu/Utils.h>

#include <algorithm>

#ifdef __x86_64__
#include <cpuid.h>
#endif

// Weak: a libtorch that was built with another library lacks it.
extern "C" [[gnu::weak]] void cblas_gemm_bf16bf16f32(int layout, int trans_a, int trans_b, int m,
                                                     int n, int k, float alpha, const uint16_t* a,
                                                     int lda, const uint16_t* b, int ldb,
                                                     float beta, float* c, int ldc);

namespace polykv {
namespace {

constexpr uint32_t kRowGrain = 64;

// lo_plane: 1 or 2; hi takes the other two.
void split_heads(ThreadTeam& team, const SplitHeads& heads, size_t lo_plane) {
  const size_t width = heads.head_dim;
  team.run(static_cast<uint32_t>(heads.n_rows), kRowGrain, [&](uint32_t begin, uint32_t end) {
    uint16_t* out = heads.out + begin * heads.n_heads * 3 * width;
    for (size_t r = begin; r < end; ++r) {
      for (size_t h = 0; h < heads.n_heads; ++h, out += 3 * width) {
        const float* x = heads.x + r * heads.stride + h * width;
        split_avx512(x, width, out, out + lo_plane * width);
        std::copy_n(out, width, out + (3 - lo_plane) * width);
      }
    }
  });
}

}  // namespace

#ifdef __x86_64__
bool can_split() {
  constexpr unsigned kTilesOfBfloat16 = (1u << 22) | (1u << 24);  // AMX-BF16, AMX-TILE
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (cblas_gemm_bf16bf16f32 == nullptr || !__builtin_cpu_supports("avx512bf16")) return false;
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d & kTilesOfBfloat16) == kTilesOfBfloat16 && at::cpu::init_amx();  // the kernel's leave
}
#else
bool can_split() { return false; }
void split_avx512(const float*, size_t, uint16_t*, uint16_t*) {}
#endif

void split_rows(ThreadTeam& team, const float* x, size_t n_rows, size_t n_cols, uint16_t* out) {
  team.run(static_cast<uint32_t>(n_rows), kRowGrain, [&](uint32_t begin, uint32_t end) {
    for (size_t r = begin; r < end; ++r) {
      uint16_t* hi = out + r * 2 * n_cols;
      split_avx512(x + r * n_cols, n_cols, hi, hi + n_cols);
    }
  });
}

void split_queries(ThreadTeam& team, const SplitHeads& heads) { split_heads(team, heads, 2); }
void split_keys(ThreadTeam& team, const SplitHeads& heads) { split_heads(team, heads, 1); }

void multiply_split(const SplitProduct& p) {
  constexpr int kRowMajor = 101, kAsIs = 111, kTransposed = 112;  // of the C interface of BLAS
  const int stride = 2 * p.n_cols;
  // hi * lo + lo * hi, the small ones, in one product over both halves; then hi * hi onto them.
  cblas_gemm_bf16bf16f32(kRowMajor, kAsIs, kTransposed, p.n_rows, p.n_outputs, stride, 1.0f, p.x,
                         stride, p.w, stride, 0.0f, p.y, p.n_outputs);
  cblas_gemm_bf16bf16f32(kRowMajor, kAsIs, kTransposed, p.n_rows, p.n_outputs, p.n_cols, 1.0f, p.x,
                         stride, p.w + p.n_cols, stride, 1.0f, p.y, p.n_outputs);
}

}  // namespace polykv
