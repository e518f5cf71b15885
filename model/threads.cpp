// The team: chunks are claimed from one atomic word, so that nobody waits for a thread that is
// asleep.
#include "model/threads.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace polykv {
namespace {

// Short: many agents share few cores, and a spinning thread steals from one that works.
constexpr int kSpins = 200;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadTeam::State {
  // High half: number of the run. Low half: chunks not yet claimed. One word, so that a thread
  // which wakes late can never claim a chunk of a run that it has not seen.
  std::atomic<uint64_t> claims{0};
  std::atomic<uint32_t> run_number{0};  // sleepers wait for it to change
  std::atomic<uint32_t> unfinished{0};  // chunks of the present run
  std::atomic<bool> stop{false};
  // Read only after a chunk was claimed: the run cannot end before that chunk has.
  const std::function<void(uint32_t, uint32_t)>* work = nullptr;
  uint32_t n = 0;
  uint32_t grain = 1;
  std::vector<std::thread> threads;

  bool claim(uint32_t* chunk);
  void help();
  void member();
  void start(uint32_t chunks);
};

bool ThreadTeam::State::claim(uint32_t* chunk) {
  uint64_t seen = claims.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(seen) != 0) {
    if (claims.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) {
      *chunk = static_cast<uint32_t>(seen) - 1;
      return true;
    }
  }
  return false;
}

void ThreadTeam::State::help() {
  for (uint32_t chunk = 0; claim(&chunk);) {
    const uint32_t begin = chunk * grain;
    (*work)(begin, n - begin < grain ? n : begin + grain);
    if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
  }
}

void ThreadTeam::State::member() {
  uint32_t seen = 0;
  while (!stop.load(std::memory_order_acquire)) {
    help();
    for (int i = 0; i < kSpins && run_number.load(std::memory_order_acquire) == seen; ++i) pause();
    run_number.wait(seen, std::memory_order_acquire);
    seen = run_number.load(std::memory_order_acquire);
  }
}

void ThreadTeam::State::start(uint32_t chunks) {
  unfinished.store(chunks, std::memory_order_relaxed);
  const uint32_t number = run_number.load(std::memory_order_relaxed) + 1;
  claims.store((uint64_t{number} << 32) | chunks, std::memory_order_release);
  run_number.store(number, std::memory_order_release);
  run_number.notify_all();
}

ThreadTeam::ThreadTeam(unsigned n_threads) : state_(std::make_unique<State>()) {
  try {
    for (unsigned i = 1; i < n_threads; ++i) {
      state_->threads.emplace_back([state = state_.get()] { state->member(); });
    }
  } catch (const std::system_error&) {  // the system allows no more threads: a smaller team, same
                                        // results
  }
}

ThreadTeam::~ThreadTeam() {
  state_->stop.store(true, std::memory_order_release);
  state_->start(0);
  for (std::thread& thread : state_->threads) thread.join();
}

unsigned ThreadTeam::size() const { return static_cast<unsigned>(state_->threads.size()) + 1; }

void ThreadTeam::run(uint32_t n, uint32_t grain,
                     const std::function<void(uint32_t, uint32_t)>& work) {
  if (n == 0) return;
  if (state_->threads.empty() || n <= grain) return work(0, n);
  state_->work = &work;
  state_->n = n;
  state_->grain = grain;
  state_->start((n - 1) / grain + 1);
  state_->help();
  for (int i = 0; i < kSpins && state_->unfinished.load(std::memory_order_acquire) != 0; ++i)
    pause();
  for (uint32_t left; (left = state_->unfinished.load(std::memory_order_acquire)) != 0;) {
    state_->unfinished.wait(left, std::memory_order_acquire);
  }
}

}  // namespace polykv
