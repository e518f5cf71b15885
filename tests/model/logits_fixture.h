// What an independent implementation predicts for a real text
// (tests/scripts/make_logits_fixture.py).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace polykv::test {

struct LogitsFixture {
  uint32_t n_vocab = 0, n_positions = 0, n_top = 0;
  std::vector<uint32_t> tokens;          // more than n_positions of them
  std::vector<uint16_t> top_ids;         // [n_positions, n_top], likeliest first
  std::vector<float> top_log_p;          // [n_positions, n_top]
  std::vector<float> rest_log_p;         // [n_positions]: all other tokens together
  std::vector<uint32_t> full_positions;  // positions with exact logits
  std::vector<float> full_logits;        // [full_positions, n_vocab]

  std::span<const uint32_t> window() const { return std::span(tokens).first(n_positions); }
};
LogitsFixture read_logits_fixture(const std::string& path);

struct Agreement {
  double median_kld = 0, mean_kld = 0;
  double same_top = 0;  // share of positions with the same likeliest token
};
// Positions [first, first + logits.size() / n_vocab) of the fixture against logits of ours. KLD
// over the fixture's buckets: a lower bound of the true one, which an f16 rounding of K and V
// brings to 3e-7 and predictions of the neighbouring position to 6 (the script prints both).
Agreement compare(const LogitsFixture& fixture, std::span<const float> logits, uint32_t first = 0);

// The same between two sets of logits, over the whole vocabulary.
Agreement compare(std::span<const float> reference, std::span<const float> logits,
                  uint32_t n_vocab);

// Exact negative log likelihood of `token`.
double nll(std::span<const float> logits, uint32_t token);

}  // namespace polykv::test
