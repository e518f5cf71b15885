// The streams of one process, which step together. A lane answers one request at a time, and keeps
// what it computed, so that a conversation goes on from there. Lanes may be on different versions.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agents/answer.h"
#include "agents/pass.h"
#include "agents/turn.h"
#include "ipc/fd_socket.h"

namespace polykv {

// A version that this process holds: it has the lease for as long as one of these lives.
struct Holding {
  FdSocket lease;
  std::string pool;
  Layout layout;
  PoolAttention attention;  // over layout

  Holding(const AgentModel& model, ThreadTeam& team, FdSocket connection, std::string of_pool,
          Layout opened);
};

struct Lane {
  std::shared_ptr<Holding> on;  // what suffix is of; null: none yet
  Suffix suffix;
  std::string request;           // that answer is for
  std::optional<Answer> answer;  // while it grows
  std::optional<Turn> turn;      // what suffix was computed for
  uint64_t last_used = 0;

  explicit Lane(const ModelConfig& config) : suffix(config) {}
};

// Not thread-safe.
class Lanes {
 public:
  Lanes(AgentModel& model, uint32_t n_lanes);

  // Begins in the idle lane whose conversation the prompt goes on with, or the one that has rested
  // longest. conflict if none is idle, or what Answer::begin refuses.
  Status start(std::shared_ptr<Holding> on, const std::string& request, GenerateOptions options);
  bool busy() const;  // has any lane work?
  // One pass: a token of every answer that is past its prompt, and as much of the prompts as fits.
  // on_text: text that is certain now; empty only where a token comes with its logprobs. on_end:
  // answer->result() is whole; the lane is idle afterwards. Neither may start or cancel anything.
  using OnText = std::function<void(const Lane&, const std::string& text)>;
  using OnEnd = std::function<void(const Lane&)>;
  void step(const OnText& on_text, const OnEnd& on_end);
  // Ends the request's answer, if there is one.
  void cancel(const std::string& request, const OnEnd& on_end);

  Lane* with_turn(const std::string& request);  // idle, its suffix holds that request's turn
  // A running lane's hold on this version, or null.
  std::shared_ptr<Holding> find(const std::string& pool, uint64_t version) const;
  // Idle lanes forget what they computed on other versions.
  void keep_only(const std::shared_ptr<Holding>& on);

 private:
  Lane* idle_for(const std::shared_ptr<Holding>& on, std::span<const uint32_t> prompt);
  uint32_t rows_for_prompts() const;
  void add_rows(Lane& lane, uint32_t* prompt_rows);
  void take_all();
  void end(Lane& lane, const OnEnd& on_end);

  AgentModel& model_;
  std::vector<Lane> lanes_;         // never resized: answers point into them
  std::vector<Lane*> deciding_;     // of the present pass, in the order of their logits
  std::vector<std::string> texts_;  // [n_lanes]: what each of those says now
  Pass pass_;
  std::unique_ptr<float[], FreeAligned> logits_;  // [n_lanes, n_vocab]
  uint64_t uses_ = 0;
};

}  // namespace polykv
