// Committing turns.
#include "launch/commits.h"

#include <sys/stat.h>

#include <algorithm>

#include "ipc/log.h"
#include "launch/pool_requests.h"

namespace polykv {
namespace {

constexpr const char* kWayOut =
    "append its text instead, the prompt as the user's, the answer as "
    "the assistant's";

// Only what directly follows the current version may become the next one.
Status check_base(const std::string& name, const Pool* pool, const Version* base) {
  if (pool == nullptr) {
    return fail(ErrorCode::version_gone,
                cat("pool '", name, "' was dropped: create one with its text"), name);
  }
  if (pool->current.get() == base) return {};
  const std::string number = base == nullptr ? "" : cat(base->number);
  return fail(
      ErrorCode::conflict,
      cat("the turn was computed on version ", base == nullptr ? "(gone)" : number, " of pool '",
          name, "', whose current version is ", pool->current->number, ": ", kWayOut),
      number, cat(pool->current->number));
}

// The memory is the one that the agent says it made: nobody copied it on the way.
Status check_inode(const UniqueFd& fd, uint64_t said) {
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno("looking at a turn's memory");
  if (status.st_ino == said) return {};
  return fail(ErrorCode::bad_message,
              cat("a turn came in memory ", status.st_ino, ", its agent says ", said), cat(said),
              cat(status.st_ino));
}

}  // namespace

void Commits::commit(const Asker& asker, const Message& message) {
  auto wanted = find(asker, message.text("request"));
  if (!wanted) return replies_.refuse(asker, wanted.error());
  auto room = make_room(*wanted);
  if (!room) return replies_.refuse(asker, room.error());
  encode(asker, *wanted, std::move(*room), message.number("deadline_seconds", kDeadlineSeconds));
}

// As much as the turn most likely takes; the agent, which knows, asks for no more than is left.
Result<Reservation> Commits::make_room(const Wanted& wanted) {
  const auto& segments = wanted.pool->current->segments;
  SegmentSpec spec;
  spec.shape = segments.front()->view.shape();
  spec.codec = wanted.pool->codec;
  spec.starts_context = false;
  spec.tokens.resize(wanted.turn.n_tokens + 1);
  for (const auto& segment : segments) keep_widths(spec, segment->view);
  return pools_.make_room(segment_bytes(spec) + manifest_bytes(segments.size() + 1));
}

// The agent that still has the turn, and where it belongs.
Result<Commits::Wanted> Commits::find(const Asker& asker, const std::string& request) {
  const Asker wanted{.client = asker.client, .link = 0, .request = request};
  for (auto& [name, agent] : agents_.all()) {
    for (const LaneTask& task : agent.tasks) {
      if (!task.work || task.work->asker != wanted) continue;
      return fail(ErrorCode::usage,
                  cat("request '", request, "' has not ended yet: wait for its 'done'"), request);
    }
    const auto turn = std::ranges::find(agent.turns, wanted, &HeldTurn::asker);
    if (turn != agent.turns.end()) return find_base(agent, *turn);
  }
  const std::string why = agents_.why_lost(wanted);
  if (why.empty()) {
    return fail(ErrorCode::usage,
                cat("you have no finished generation '", request,
                    "' (a group's turns cannot be "
                    "committed): name the \"id\" of a 'generate' of yours"),
                request);
  }
  return fail(ErrorCode::conflict, cat(why, ": ", kWayOut), request);
}

Result<Commits::Wanted> Commits::find_base(AgentRecord& agent, const HeldTurn& turn) {
  if (std::ranges::count(agent.tasks, turn.key, &LaneTask::turn) > 0) {
    return fail(ErrorCode::usage,
                cat("the turn of '", turn.asker.request, "' is being committed already"),
                turn.asker.request);
  }
  auto model = models_.find(agent.model);
  if (!model) return pass(model);
  const Pool* pool = (*model)->registry.find(turn.pool);
  const std::shared_ptr<Version> base = turn.version.lock();
  if (auto good = check_base(turn.pool, pool, base.get()); !good) return pass(good);
  return Wanted{&agent, turn, *model, pool};
}

void Commits::encode(const Asker& asker, const Wanted& wanted, Reservation room,
                     double deadline_seconds) {
  AgentRecord& agent = *wanted.agent;
  const uint64_t key = agents_.new_key();
  Open& open = open_[key];
  open = {asker,      wanted.model->name,   wanted.pool->name,
          agent.name, wanted.pool->current, std::move(room),
          0};
  open.deadline = deadlines_.after(deadline_seconds, [this, key, deadline_seconds] {
    refuse(key, deadline_over(deadline_seconds, " and the agent has not handed the turn over"));
  });
  agents_.take(agent, {.key = key, .work = nullptr, .turn = wanted.turn.key});
  Message encode("encode");
  encode.set("id", cat(key)).set("request", cat(wanted.turn.key));
  encode.set("codec", codec_name(wanted.pool->codec)).set("holders", budget_.holders());
  if (const auto left = budget_.left()) encode.set_id("budget_left", *left + open.room.bytes());
  (void)control_.send(agent.routing, encode);  // an agent that died meanwhile is reaped
}

void Commits::take_turn(Link& lease, const Message& message, std::vector<UniqueFd> fds) {
  AgentRecord* agent = agents_.find(lease.agent);
  if (agent == nullptr || message.type() != "turn") return;
  const LaneTask* task = agent->find_task(message.text("id"));
  if (task == nullptr || task->work) return;
  const uint64_t key = task->key;
  free_lane(*agent, key);
  const auto found = open_.find(key);
  if (found == open_.end()) return;  // cancelled, or past its deadline
  const Open& open = found->second;
  auto committed = lease.leased == open.base ? publish(open, *agent, message, std::move(fds))
                                             : fail(ErrorCode::bad_message,
                                                    "a turn came by the lease of another version");
  if (!committed) return refuse(key, committed.error());
  replies_.announce("pool", *committed);
  replies_.reply(close(key)->asker, std::move(*committed));
}

Result<Message> Commits::publish(const Open& open, const AgentRecord& agent, const Message& turn,
                                 std::vector<UniqueFd> fds) {
  auto model = models_.find(open.model);
  if (!model) return pass(model);
  Registry& registry = (*model)->registry;
  const Pool* pool = registry.find(open.pool);
  // Another request may have been first.
  if (auto good = check_base(open.pool, pool, open.base.get()); !good) return pass(good);
  if (fds.size() != 1) return fail(ErrorCode::bad_message, "a turn came without its memory");
  if (auto same = check_inode(fds[0], turn.id("inode")); !same) return pass(same);
  const auto n_tokens = static_cast<uint32_t>(turn.integer("tokens"));
  auto segment =
      registry.admit(std::move(fds[0]), n_tokens, pool->codec,
                     {.past = open.base->segments, .provenance = Provenance::committed_turn});
  if (!segment) return pass(segment);
  auto version = registry.publish(open.pool, pool->codec, std::move(*segment));
  if (!version) return pass(version);
  pools_.used(open.model, open.pool);
  Message ready = pool_ready(open.pool, **version);
  replies_.announce("pool", ready.set("model", open.model));
  log_line(LogLevel::info,
           cat("pool ", open.pool, " version ", (*version)->number, ": a turn of agent ",
               agent.name, ", ", n_tokens, " tokens"),
           {{"request", open.asker.request},
            {"agent", agent.name},
            {"model", open.model},
            {"pool", open.pool}});
  Message committed("committed");
  committed.set("pool", open.pool).set("model", open.model).set("version", (*version)->number);
  committed.set("agent", agent.name).set("pid", agent.pid).set("turn_tokens", n_tokens);
  committed.set("tokens", (*version)->n_tokens()).set("bytes", (*version)->bytes());
  committed.set("segments", (*version)->segments.size()).set("prefill_tokens", 0);
  return committed.set_id("inode", turn.id("inode"));
}

// Ends a commit without a version. The lane is free once its agent has answered.
void Commits::refuse(uint64_t key, const Error& error) {
  if (const auto open = close(key)) replies_.refuse(open->asker, error);
}

std::optional<Commits::Open> Commits::close(uint64_t key) {
  const auto found = open_.extract(key);
  if (!found) return std::nullopt;
  deadlines_.cancel(found.mapped().deadline);
  return std::move(found.mapped());
}

void Commits::free_lane(AgentRecord& agent, uint64_t key) {
  std::erase_if(agent.tasks, [&](const LaneTask& task) { return task.key == key; });
}

void Commits::agent_message(AgentRecord& agent, const LaneTask& task, const Message& message) {
  if (message.type() != "error") return;
  const uint64_t key = task.key, gone = task.turn;
  if (message.text("code") == error_name(ErrorCode::conflict)) {  // its lane has moved on
    std::erase_if(agent.turns, [&](const HeldTurn& turn) { return turn.key == gone; });
  }
  refuse(key, error_of(message));
  free_lane(agent, key);
}

void Commits::agent_lost(AgentRecord& agent, const Error& error) {
  for (const LaneTask& task : std::exchange(agent.tasks, {})) {
    if (!task.work) refuse(task.key, error);
  }
}

void Commits::cancel(const std::string& client, const std::string& request) {
  const Asker wanted{.client = client, .link = 0, .request = request};
  const auto found =
      std::ranges::find_if(open_, [&](const auto& one) { return one.second.asker == wanted; });
  if (found == open_.end()) return;
  refuse(found->first, {ErrorCode::cancelled, "cancelled before the turn was there", {}, {}});
}

void Commits::client_gone(const std::string& client) {
  for (auto it = open_.begin(); it != open_.end();) {
    const auto here = it++;
    if (here->second.asker.client != client) continue;
    refuse(here->first, {ErrorCode::cancelled, "the client is gone", {}, {}});
  }
}

}  // namespace polykv
