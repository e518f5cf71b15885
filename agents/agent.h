// Start here for agents/: the agent process. Attach (no prefill, no model file), generate, report.
//
//   supervisor ── lease: fds of image, manifest, segments ──► Agent
//   supervisor ◄── start, token, done (ZeroMQ) ─────────────► Agent
//   supervisor ◄── a finished turn, encoded and sealed ─────── Agent
//
// Everything shared is mapped read-only; all that an agent writes is its own. What it computed for
// the last answer stays, so that a conversation goes on from there. The lease's end (the
// supervisor closed or died) ends the process. One thread serves; a team computes.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agents/attachment.h"
#include "agents/lanes.h"
#include "ipc/control.h"

namespace polykv {

struct AgentOptions {
  AttachOptions attach;
  unsigned n_threads = 1;
  unsigned n_lanes = 1;    // generations at once, 1..kLanesMax
  bool verify = false;     // check every checksum of every segment
  std::string isa;         // force kernels by name; "" = the best
  int64_t started_ns = 0;  // CLOCK_MONOTONIC when the process was asked for
};

class Agent {
 public:
  // Takes a lease, maps everything and says hello. Any refusal is returned with its code.
  static Result<std::unique_ptr<Agent>> attach(const AgentOptions& options);
  // Serves requests until told to stop (ok) or until the supervisor goes away (ok).
  Status serve();

 private:
  Agent(const AgentOptions& options, ControlClient control);
  Status take_lease(const std::string& pool, uint64_t version);
  void move_to(std::shared_ptr<Holding> holding);
  Status hold(const Message& request);  // the version that a request names
  Status say_hello();
  Status step();  // one pass of all lanes
  Status serve_control(const Message& message);
  Result<bool> serve_lease();  // false: it has ended
  Status serve_request(const Message& request);
  Status start_generation(const Message& request);
  Status prepare(const Message& request);
  Status encode(const Message& request);
  Status cancel(const Message& request);
  Status take_text(const Lane& lane, const std::string& text);
  Status send_text(const Lane& lane, const std::string& text);
  Status send_done(const Lane& lane);
  Status score_tokens(const Message& request, std::vector<UniqueFd> fds);

  struct Unsent {
    std::string text;
    std::chrono::steady_clock::time_point last_sent;  // of the same answer; of none: long ago
  };

  AgentOptions options_;
  ControlClient control_;
  std::unique_ptr<AgentModel> model_;
  std::shared_ptr<Holding> held_;  // the newest version; lanes may still be on older ones
  std::optional<Lanes> lanes_;
  std::map<std::string, Unsent> unsent_;  // by request, of answers that grow
  bool stop_ = false;
};

}  // namespace polykv
