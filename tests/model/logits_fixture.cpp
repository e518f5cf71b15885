// Reading the fixture, and what "the same predictions" means.
#include "tests/model/logits_fixture.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>

namespace polykv::test {
namespace {

template <class T>
std::vector<T> read(std::ifstream& file, size_t n) {
  std::vector<T> values(n);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(n * sizeof(T)));
  if (!file) throw std::runtime_error("the logits fixture ends too early or is missing");
  return values;
}

double log_sum(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float v : logits) sum += std::exp(v - top);
  return top + std::log(sum);
}

// Both over the same buckets, each normalised again, so that the result is never below zero but for
// rounding in f64.
double kld(std::vector<double> log_p, std::vector<double> log_q) {
  double mass_p = 0, mass_q = 0, sum = 0;
  for (double v : log_p) mass_p += std::exp(v);
  for (double v : log_q) mass_q += std::exp(v);
  const double shift = std::log(mass_q) - std::log(mass_p);
  for (size_t i = 0; i < log_p.size(); ++i) {
    sum += std::exp(log_p[i]) / mass_p * (log_p[i] - log_q[i] + shift);
  }
  return sum;
}

double position_kld(const LogitsFixture& fixture, std::span<const float> logits, size_t position) {
  const double all = log_sum(logits);
  std::vector<double> log_p, log_q;
  double seen = 0;
  for (size_t i = position * fixture.n_top; i < (position + 1) * fixture.n_top; ++i) {
    log_p.push_back(fixture.top_log_p[i]);
    log_q.push_back(logits[fixture.top_ids[i]] - all);
    seen += std::exp(log_q.back());
  }
  log_p.push_back(fixture.rest_log_p[position]);
  log_q.push_back(std::log(std::max(1 - seen, 1e-12)));
  return kld(std::move(log_p), std::move(log_q));
}

Agreement summary(std::vector<double> klds, size_t same) {
  Agreement a;
  a.same_top = static_cast<double>(same) / static_cast<double>(klds.size());
  for (double v : klds) a.mean_kld += v / static_cast<double>(klds.size());
  std::nth_element(klds.begin(), klds.begin() + klds.size() / 2, klds.end());
  a.median_kld = klds[klds.size() / 2];
  return a;
}

size_t top_of(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

LogitsFixture read_logits_fixture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  LogitsFixture f;
  const auto magic = read<char>(file, 8);
  if (std::string(magic.begin(), magic.end()) != "PKLOGIT1") throw std::runtime_error("bad magic");
  const auto sizes = read<uint32_t>(file, 5);
  f.n_vocab = sizes[0];
  f.n_positions = sizes[2];
  f.n_top = sizes[3];
  const auto ids = read<uint16_t>(file, sizes[1]);
  f.tokens.assign(ids.begin(), ids.end());
  f.top_ids = read<uint16_t>(file, size_t{f.n_positions} * f.n_top);
  f.top_log_p = read<float>(file, size_t{f.n_positions} * f.n_top);
  f.rest_log_p = read<float>(file, f.n_positions);
  f.full_positions = read<uint32_t>(file, sizes[4]);
  f.full_logits = read<float>(file, size_t{sizes[4]} * f.n_vocab);
  return f;
}

Agreement compare(const LogitsFixture& fixture, std::span<const float> logits, uint32_t first) {
  std::vector<double> klds;
  size_t same = 0;
  for (size_t at = 0; at < logits.size(); at += fixture.n_vocab) {
    const size_t position = first + klds.size();
    const auto row = logits.subspan(at, fixture.n_vocab);
    same += top_of(row) == fixture.top_ids[position * fixture.n_top];
    klds.push_back(position_kld(fixture, row, position));
  }
  return summary(std::move(klds), same);
}

Agreement compare(std::span<const float> reference, std::span<const float> logits,
                  uint32_t n_vocab) {
  std::vector<double> klds;
  size_t same = 0;
  for (size_t at = 0; at < logits.size(); at += n_vocab) {
    const auto p = reference.subspan(at, n_vocab), q = logits.subspan(at, n_vocab);
    same += top_of(p) == top_of(q);
    klds.push_back(kld({p.begin(), p.end()}, {q.begin(), q.end()}));
  }
  return summary(std::move(klds), same);
}

double nll(std::span<const float> logits, uint32_t token) {
  return log_sum(logits) - logits[token];
}

}  // namespace polykv::test
