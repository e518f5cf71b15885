// A fixed team of threads. Work is divided by item index only, so results never depend on its size.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace polykv {

class ThreadTeam {
 public:
  explicit ThreadTeam(unsigned n_threads);  // >= 1; the caller is one of them
  ~ThreadTeam();
  unsigned size() const;
  // Calls work(begin, end) so that [0, n) is covered once, multiples of `grain` apart; returns when
  // all is done. Not re-entrant.
  void run(uint32_t n, uint32_t grain, const std::function<void(uint32_t, uint32_t)>& work);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The team as whoever calls piece(i) once for every i < n. The team must outlive it.
inline auto pieces_on(ThreadTeam& team) {
  return [&team](uint32_t n, const std::function<void(uint32_t i)>& piece) {
    team.run(n, 1, [&piece](uint32_t begin, uint32_t end) {
      for (uint32_t i = begin; i < end; ++i) piece(i);
    });
  };
}

}  // namespace polykv
