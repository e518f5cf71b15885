// Choosing a token. Order of equals is by token id, so that results never depend on a sort's whims.
#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace polykv {
namespace {

struct Range {
  const char* name;
  float value;
  float least;
  float most;
  bool least_allowed;
};

Status check_range(const Range& r) {
  const bool above = r.least_allowed ? r.value >= r.least : r.value > r.least;
  if (above && r.value <= r.most) return {};  // false for a NaN
  const std::string range =
      cat(r.least_allowed ? "at least " : "more than ", r.least, ", at most ", r.most);
  return fail(ErrorCode::usage, cat(r.name, " is ", r.value, "; expected ", range), cat(r.value),
              range);
}

void penalise(std::span<float> logits, std::span<const uint32_t> history, float penalty,
              std::vector<uint32_t>& seen) {
  seen.assign(history.begin(), history.end());
  std::ranges::sort(seen);
  const auto doubles = std::ranges::unique(seen);
  seen.erase(doubles.begin(), doubles.end());
  for (const uint32_t token : seen) {
    if (token >= logits.size()) continue;
    float& logit = logits[token];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

// The largest of some logits; not-a-number never wins.
float largest(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  float tops[kLanes];
  std::ranges::fill(tops, -INFINITY);
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      tops[j] = logits[i + j] > tops[j] ? logits[i + j] : tops[j];
    }
  }
  float top = *std::ranges::max_element(tops);
  for (; i < logits.size(); ++i) top = logits[i] > top ? logits[i] : top;
  return top;
}

// The largest logit's token, the lowest id of equals. Only the part that it is in is searched.
uint32_t likeliest(std::span<const float> logits) {
  constexpr size_t kPart = 1024;
  float top = -INFINITY;
  std::span<const float> best;
  for (size_t i = 0; i < logits.size(); i += kPart) {
    const auto part = logits.subspan(i, std::min(kPart, logits.size() - i));
    const float of_part = largest(part);
    if (of_part > top) top = of_part, best = part;
  }
  if (best.empty()) return 0;
  return static_cast<uint32_t>(&*std::ranges::find(best, top) - logits.data());
}

// Weights relative to the likeliest token, whose weight is 1.
class Weights {
 public:
  Weights(std::span<const float> logits, float top, float temperature)
      : logits_(logits), top_(top), temperature_(temperature) {}
  double operator()(uint32_t token) const {
    return std::exp((static_cast<double>(logits_[token]) - top_) / temperature_);
  }
  double sum(const std::vector<uint32_t>& tokens) const {
    return std::accumulate(tokens.begin(), tokens.end(), 0.0,
                           [this](double sum, uint32_t token) { return sum + (*this)(token); });
  }
  bool before(uint32_t a, uint32_t b) const {
    return logits_[a] != logits_[b] ? logits_[a] > logits_[b] : a < b;
  }

 private:
  std::span<const float> logits_;
  double top_, temperature_;
};

// Sorts the first n tokens of the order to the front.
void sort_front(std::vector<uint32_t>& order, size_t sorted, size_t n, const Weights& weights) {
  std::partial_sort(order.begin() + static_cast<ptrdiff_t>(sorted),
                    order.begin() + static_cast<ptrdiff_t>(n), order.end(),
                    [&](uint32_t a, uint32_t b) { return weights.before(a, b); });
}

void keep_top_k(std::vector<uint32_t>& order, size_t k, const Weights& weights) {
  if (k == 0 || k >= order.size()) return;
  sort_front(order, 0, k, weights);
  order.resize(k);
}

// The fewest likeliest tokens that together have the share `top_p`. Mostly few: sorts only as many
// as needed.
void keep_top_p(std::vector<uint32_t>& order, double top_p, const Weights& weights) {
  if (top_p >= 1) return;
  const double wanted = top_p * weights.sum(order);
  double sum = 0;
  size_t sorted = 0;
  for (size_t n = 0; n < order.size(); ++n) {
    if (n == sorted) {
      const size_t next = std::min(order.size(), std::max<size_t>(64, sorted * 4));
      sort_front(order, sorted, next, weights);
      sorted = next;
    }
    sum += weights(order[n]);
    if (sum >= wanted) return order.resize(n + 1);
  }
}

void keep_min_p(std::vector<uint32_t>& order, double min_p, const Weights& weights) {
  if (min_p > 0) std::erase_if(order, [&](uint32_t token) { return weights(token) < min_p; });
}

}  // namespace

Status check_sampling(const SamplingOptions& options) {
  const Range ranges[] = {
      {"temperature", options.temperature, 0, 100, true},
      {"top_p", options.top_p, 0, 1, false},
      {"min_p", options.min_p, 0, 1, true},
      {"repetition_penalty", options.repetition_penalty, 0, 10, false},
  };
  for (const Range& range : ranges) {
    auto fine = check_range(range);
    if (!fine) return fine;
  }
  return {};
}

std::string sampling_text(const SamplingOptions& options) {
  std::string out = options.temperature == 0 ? "greedy" : cat("temperature ", options.temperature);
  if (options.temperature != 0) {
    if (options.top_k != 0) out += cat(", top_k ", options.top_k);
    if (options.top_p != 1) out += cat(", top_p ", options.top_p);
    if (options.min_p != 0) out += cat(", min_p ", options.min_p);
  }
  if (options.repetition_penalty != 1) {
    out += cat(", repetition_penalty ", options.repetition_penalty);
  }
  return out;
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), state_(options.seed) {}

// splitmix64 (Steele, Lea, Flood 2014), 53 bits.
double Sampler::uniform() {
  uint64_t x = state_ += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  return static_cast<double>(x >> 11) * 0x1p-53;
}

uint32_t Sampler::pick(std::span<float> logits, std::span<const uint32_t> history) {
  if (options_.repetition_penalty != 1) {
    penalise(logits, history, options_.repetition_penalty, order_);
  }
  const uint32_t best = likeliest(logits);
  if (options_.temperature == 0 || logits.empty() || !std::isfinite(logits[best])) return best;
  const Weights weights(logits, logits[best], options_.temperature);
  order_.clear();
  for (uint32_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > -INFINITY) order_.push_back(i);  // false for a NaN
  }
  keep_top_k(order_, options_.top_k, weights);
  keep_top_p(order_, options_.top_p, weights);
  keep_min_p(order_, options_.min_p, weights);
  double left = uniform() * weights.sum(order_);
  for (const uint32_t token : order_) {
    left -= weights(token);
    if (left < 0) return token;
  }
  return order_.back();
}

}  // namespace polykv
