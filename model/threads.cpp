// The team: each thread has chunks of its own that lie side by side, and takes the others' last
// ones when it has done them, so that nobody waits for a thread that is asleep.
#include "model/threads.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace polykv {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits without sleeping for as long as that has been worth it of late: to wake a thread takes
// longer than most of a step's runs, but many agents share few cores, and a spinning thread steals
// from one that works.
class Patience {
 public:
  // Whether `changed` came true meanwhile.
  template <class Changed>
  bool wait(const Changed& changed) {
    if (changed()) return true;
    for (int i = 0; i < spins_; ++i) {
      pause();
      if (changed()) {
        spins_ = std::min(kMost, spins_ * 2);
        return true;
      }
    }
    spins_ = std::max(kLeast, spins_ / 2);
    return false;
  }

 private:
  static constexpr int kLeast = 64, kMost = 3000;
  int spins_ = kLeast;
};

constexpr uint64_t both(uint32_t begin, uint32_t end) { return uint64_t{end} << 32 | begin; }

}  // namespace

// Chunks not yet claimed of those that are a thread's own: [begin, end), low half first. Whoever
// claims one may look at the run: it cannot end before that chunk has.
struct alignas(64) Own {
  std::atomic<uint64_t> chunks{0};
  bool claim(bool first, uint32_t* chunk) {
    uint64_t seen = chunks.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(seen) != seen >> 32) {
      const auto begin = static_cast<uint32_t>(seen), end = static_cast<uint32_t>(seen >> 32);
      const uint64_t left = first ? both(begin + 1, end) : both(begin, end - 1);
      if (chunks.compare_exchange_weak(seen, left, std::memory_order_acq_rel)) {
        *chunk = first ? begin : end - 1;
        return true;
      }
    }
    return false;
  }
};

struct ThreadTeam::State {
  explicit State(unsigned n_threads) : size(n_threads), own(std::make_unique<Own[]>(n_threads)) {}
  const unsigned size;  // as asked for: what belongs to a thread that is not there, others take
  const std::unique_ptr<Own[]> own;
  // On lines of their own: some look at the one while others write the other.
  alignas(64) std::atomic<uint32_t> run_number{0};  // members wait for it to change
  alignas(64) std::atomic<uint32_t> unfinished{0};  // chunks of the present run
  alignas(64) std::atomic<bool> stop{false};
  // Read only after a chunk was claimed.
  const std::function<void(uint32_t, uint32_t)>* work = nullptr;
  uint32_t n = 0;
  uint32_t grain = 1;
  Patience patience;
  std::vector<std::thread> threads;

  bool claim(unsigned me, uint32_t* chunk);
  void help(unsigned me);
  void member(unsigned me);
  void start(uint32_t chunks);
};

bool ThreadTeam::State::claim(unsigned me, uint32_t* chunk) {
  if (own[me].claim(true, chunk)) return true;
  for (unsigned i = 1; i < size; ++i) {
    if (own[(me + i) % size].claim(false, chunk)) return true;
  }
  return false;
}

void ThreadTeam::State::help(unsigned me) {
  for (uint32_t chunk = 0; claim(me, &chunk);) {
    const uint32_t begin = chunk * grain;
    (*work)(begin, n - begin < grain ? n : begin + grain);
    if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
  }
}

void ThreadTeam::State::member(unsigned me) {
  uint32_t seen = 0;
  Patience own_patience;
  const auto changed = [&] { return run_number.load(std::memory_order_acquire) != seen; };
  while (!stop.load(std::memory_order_acquire)) {
    help(me);
    if (!own_patience.wait(changed)) run_number.wait(seen, std::memory_order_acquire);
    seen = run_number.load(std::memory_order_acquire);
  }
}

void ThreadTeam::State::start(uint32_t chunks) {
  unfinished.store(chunks, std::memory_order_relaxed);
  for (unsigned i = 0; i < size; ++i) {
    const auto begin = static_cast<uint32_t>(uint64_t{chunks} * i / size);
    const auto end = static_cast<uint32_t>(uint64_t{chunks} * (i + 1) / size);
    own[i].chunks.store(both(begin, end), std::memory_order_release);
  }
  run_number.fetch_add(1, std::memory_order_release);
  run_number.notify_all();
}

ThreadTeam::ThreadTeam(unsigned n_threads) : state_(std::make_unique<State>(n_threads)) {
  try {
    for (unsigned i = 1; i < n_threads; ++i) {
      state_->threads.emplace_back([state = state_.get(), i] { state->member(i); });
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
  State& s = *state_;
  s.work = &work;
  s.n = n;
  s.grain = grain;
  s.start((n - 1) / grain + 1);
  s.help(0);
  const auto done = [&s] { return s.unfinished.load(std::memory_order_acquire) == 0; };
  if (s.patience.wait(done)) return;
  for (uint32_t left; (left = s.unfinished.load(std::memory_order_acquire)) != 0;) {
    s.unfinished.wait(left, std::memory_order_acquire);
  }
}

}  // namespace polykv
