// Checks, and the fields that a start takes from a request.
#include "launch/work_request.h"

#include <map>

namespace polykv {
namespace {

void copy_sampling(const Message& from, Message& start) {
  for (const char* field : {"max_tokens", "min_tokens", "top_k", "top_logprobs"}) {
    if (from.has(field)) start.set(field, from.integer(field));
  }
  for (const char* field : {"temperature", "top_p", "min_p", "repetition_penalty"}) {
    if (from.has(field)) start.set(field, from.number(field));
  }
  if (from.has("seed")) start.set("seed", from.text("seed"));
  if (from.has("stop")) start.set("stop", from.texts("stop"));
  for (const char* field : {"ignore_eos", "logprobs"}) {
    if (from.has(field)) start.set(field, from.flag(field));
  }
}

// A conversation ends with what is to be answered.
Status copy_prompt(const Message& from, Message& start) {
  if (from.has("prompt")) {
    start.set("prompt", from.text("prompt"));
    return {};
  }
  const std::vector<Message> messages = from.objects("messages");
  if (messages.empty()) {
    return fail(ErrorCode::bad_text, "\"messages\" is empty: there is nothing to answer", "0", "1");
  }
  if (messages.back().text("role") == "assistant") {
    return fail(ErrorCode::bad_text,
                "the last of \"messages\" is the assistant's own: there is nothing to answer; end "
                "with one of the user or the system",
                "assistant", "user, system");
  }
  start.set("messages", messages);
  return {};
}

Status check_agent(AgentTable& agents, const Member& member, const std::string& model) {
  if (member.agent.empty()) return {};
  const AgentRecord* agent = agents.find(member.agent);
  if (agent == nullptr) {
    return fail(ErrorCode::usage, cat("there is no agent '", member.agent, "'"), member.agent);
  }
  if (agent->state == AgentRecord::State::ended) {
    return fail(ErrorCode::agent_lost, cat("agent '", member.agent, "' has ended"), member.agent);
  }
  if (agent->model == model) return {};
  return fail(
      ErrorCode::usage,
      cat("agent '", member.agent, "' is of model '", agent->model, "', not of '", model, "'"),
      member.agent);
}

// REQUIRES: every agent that is named is there.
Status check_named(AgentTable& agents, const Work& work) {
  std::map<std::string, size_t> named;
  for (const Member& member : work.members) {
    if (!member.agent.empty()) ++named[member.agent];
  }
  for (const auto& [name, wanted] : named) {
    const size_t lanes = agents.find(name)->lanes;
    if (wanted <= lanes) continue;
    return fail(ErrorCode::usage,
                cat(wanted == 2 ? "two" : cat(wanted), " members want agent '", name,
                    "', which has ", lanes, " lane(s): each runs on a lane of its own"),
                name, cat(lanes));
  }
  return {};
}

// one: where prompt, agent and seed are; all: where the rest is. The same for a generate.
Status add_member(Work& work, AgentTable& agents, const Message& all, const Message& one) {
  Member member;
  member.key = agents.new_key();
  member.agent = one.text("agent");
  member.start.set("id", cat(member.key)).set("pool", work.pool);
  copy_sampling(all, member.start);
  if (one.has("seed")) member.start.set("seed", one.text("seed"));
  if (auto copied = copy_prompt(one, member.start); !copied) return copied;
  if (auto good = check_agent(agents, member, work.model); !good) return good;
  work.members.push_back(std::move(member));
  return {};
}

Status add_members(Work& work, AgentTable& agents, const Message& message) {
  if (!work.group) return add_member(work, agents, message, message);
  for (const Message& member : message.objects("members")) {
    if (auto added = add_member(work, agents, message, member); !added) return added;
  }
  if (work.members.empty()) {
    return fail(ErrorCode::usage, "\"members\" is empty: a group has at least one", "0", "1");
  }
  return check_named(agents, work);
}

}  // namespace

Result<WorkRef> work_of(Models& models, AgentTable& agents, const Asker& asker,
                        const Message& message) {
  auto model = models.find(message.text("model"));
  if (!model) return pass(model);
  auto work = std::make_shared<Work>();
  work->asker = asker;
  work->group = message.type() == "group_generate";
  work->model = (*model)->name;
  work->pool = message.text("pool");
  work->at_least = static_cast<uint64_t>(message.integer("at_least"));
  work->deadline_seconds = message.number("deadline_seconds", kDeadlineSeconds);
  const auto number = static_cast<uint64_t>(message.integer("version"));
  auto version = (*model)->registry.version(work->pool, number);
  if (!version) return pass(version);
  if ((*version)->number >= work->at_least) work->version = std::move(*version);
  if (auto added = add_members(*work, agents, message); !added) return pass(added);
  if (auto enough = check_enough(agents, *work); !enough) return pass(enough);
  return work;
}

Status check_enough(const AgentTable& agents, const Work& work) {
  const size_t alive = agents.alive_of(work.model);
  if (alive == 0) {
    return fail(ErrorCode::agent_lost,
                cat("no agent is running for model '", work.model, "': start some first"),
                work.model);
  }
  const size_t lanes = agents.lanes_of(work.model);
  if (lanes >= work.members.size()) return {};
  return fail(
      ErrorCode::agent_lost,
      cat("a group of ", work.members.size(), " members needs as many lanes of agents, ", "there ",
          lanes == 1 ? "is 1" : cat("are ", lanes), ": start more agents, or ask for fewer"),
      cat(work.members.size()), cat(lanes));
}

Status find_version(Models& models, Work& work) {
  auto model = models.find(work.model);
  if (!model) return pass(model);
  auto current = (*model)->registry.version(work.pool, 0);
  if (!current) return pass(current);
  if ((*current)->number >= work.at_least) work.version = std::move(*current);
  return {};
}

}  // namespace polykv
