// From a text to a published version: tokenise, check, prefill, verify, publish. Each step is a job
// of the model's writer.
//
//   text ──► tokenise ──► tokens ──► prefill ──► segment ──► verify, publish ──► pool_ready
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launch/budget.h"
#include "launch/model_slot.h"
#include "launch/pool_keeper.h"
#include "launch/replies.h"

namespace polykv {

class PoolJobs {
 public:
  PoolJobs(Models& models, PoolKeeper& pools, const Budget& budget, Replies& replies,
           Deadlines& deadlines)
      : models_(models), pools_(pools), budget_(budget), replies_(replies), deadlines_(deadlines) {}

  // pool_create and append. text: of a request by link, else empty.
  void write_pool(const Asker& asker, const Message& message, UniqueFd text);
  // tokenize{form} with a text by link: the tokens go back as memory.
  void tokenise_for(const Asker& asker, const Message& message, std::vector<UniqueFd> fds);
  // prefill{codecs, pool} with tokens by link: one pool per codec, "<pool>-<codec>", from one
  // prefill.
  void prefill_for(const Asker& asker, const Message& message, std::vector<UniqueFd> fds);

  // Ends this request, if it is one of these and not over: it publishes nothing.
  void cancel(const Asker& asker);
  void client_gone(const std::string& client);  // by ZeroMQ
  void link_gone(uint64_t link);

 private:
  struct Job;
  using JobRef = std::shared_ptr<Job>;

  Status plan(Job& job, const Message& message) const;
  Status plan_prefill(Job& job, const Message& message, const UniqueFd& tokens) const;
  void tokenise(const JobRef& job, UniqueFd text);
  void prefill(const JobRef& job, UniqueFd tokens);
  static uint64_t expected_bytes(const Job& job, const CodecSpec& codec);
  Status make_room(Job& job, Message& request);
  Status room_for(Job& job, const CodecSpec& codec, uint64_t bytes);
  bool take_segment(const JobRef& job, const Message& message, std::vector<UniqueFd> fds);
  Result<std::shared_ptr<Version>> publish_next(Job& job, std::string precision,
                                                std::vector<UniqueFd> fds);
  Result<JobRef> begin(const Asker& asker, const Message& message);
  void go(const JobRef& job, double deadline_seconds);
  void submit(const JobRef& job, WriterJob task);
  void stop(const JobRef& job, const Error& error);
  void stop_if(const std::function<bool(const Asker&)>& wanted, const std::string& why);
  void end(const JobRef& job, const Error* error);

  Models& models_;
  PoolKeeper& pools_;
  const Budget& budget_;
  Replies& replies_;
  Deadlines& deadlines_;
  std::vector<JobRef> jobs_;  // all that are not over
};

}  // namespace polykv
