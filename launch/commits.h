// A finished turn becomes the next version of its pool, without a prefill: the agent that computed
// it encodes what it has, and the segment that it hands over is verified and published.
//
//   commit ──► encode (agent) ──► turn, by the lease ──► verify, publish ──► committed
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ipc/control.h"
#include "launch/agent_table.h"
#include "launch/pool_keeper.h"

namespace polykv {

class Commits {
 public:
  Commits(Models& models, AgentTable& agents, PoolKeeper& pools, const Budget& budget,
          ControlServer& control, Replies& replies, Deadlines& deadlines)
      : models_(models),
        agents_(agents),
        pools_(pools),
        budget_(budget),
        control_(control),
        replies_(replies),
        deadlines_(deadlines) {}

  // conflict: the pool's current version is not the one that the turn was computed on, or the agent
  // has had another request since.
  void commit(const Asker& asker, const Message& message);
  void cancel(const std::string& client, const std::string& request);
  void client_gone(const std::string& client);

  void take_turn(Link& lease, const Message& message, std::vector<UniqueFd> fds);
  // Its refusal. REQUIRES: the task is one of an encode.
  void agent_message(AgentRecord& agent, const LaneTask& task, const Message& message);
  void agent_lost(AgentRecord& agent, const Error& error);

 private:
  struct Open {
    Asker asker;
    std::string model, pool, agent;
    std::shared_ptr<Version> base;  // that the turn was computed on
    Reservation room;               // for the segment
    Deadlines::Timer deadline = 0;
  };
  struct Wanted {
    AgentRecord* agent = nullptr;
    HeldTurn turn;
    ModelSlot* model = nullptr;
    const Pool* pool = nullptr;
  };

  Result<Wanted> find(const Asker& asker, const std::string& request);
  Result<Wanted> find_base(AgentRecord& agent, const HeldTurn& turn);
  Result<Reservation> make_room(const Wanted& wanted);
  void encode(const Asker& asker, const Wanted& wanted, Reservation room, double deadline_seconds);
  Result<Message> publish(const Open& open, const AgentRecord& agent, const Message& turn,
                          std::vector<UniqueFd> fds);
  void refuse(uint64_t key, const Error& error);
  std::optional<Open> close(uint64_t key);
  static void free_lane(AgentRecord& agent, uint64_t key);

  Models& models_;
  AgentTable& agents_;
  PoolKeeper& pools_;
  const Budget& budget_;
  ControlServer& control_;
  Replies& replies_;
  Deadlines& deadlines_;
  std::map<uint64_t, Open> open_;  // by the id that the agent was told to encode under
};

}  // namespace polykv
