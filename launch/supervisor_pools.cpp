// Pools: tokenise, check, prefill, verify, publish: each step is a job of the writer. And what
// needs no writer: fork, drop, pin.
#include <chrono>
#include <fstream>
#include <iterator>

#include "ipc/log.h"
#include "launch/pool_requests.h"
#include "launch/supervisor.h"

namespace polykv {

// One pool_create, append, or prefill from tokens on its way through the writer.
struct Supervisor::PoolJob {
  std::string client;  // routing id; if it came by a link, empty
  uint64_t link = 0;   // id of that link
  std::string request;
  std::string pool;
  std::vector<CodecSpec> codecs;
  std::vector<std::string> names;  // pool to publish per codec
  std::vector<std::shared_ptr<HeldSegment>> past;
  uint32_t past_tokens = 0;
  uint32_t reserve = 0;  // positions to leave for prompt and answer
  uint32_t n_tokens = 0;
  uint64_t text_bytes = 0;
  size_t n_taken = 0;
  std::string role;
  UniqueFd text;
};

namespace {

constexpr size_t kHoldersMax = 4000;  // bytes: of a thousand pools the first will do

// The text of a message, or of the file that it names.
Result<std::string> read_text(const Message& message) {
  if (message.has("text")) return message.text("text");
  const std::string path = message.text("path");
  std::ifstream file(path, std::ios::binary);
  if (path.empty() || !file) {
    return fail(ErrorCode::bad_text, cat("cannot read the text file '", path, "'"), path);
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Result<UniqueFd> share_text(const Message& message) {
  auto text = read_text(message);
  if (!text) return pass(text);
  if (text->empty()) return fail(ErrorCode::bad_text, "the text is empty");
  return share_bytes("polykv-text", std::as_bytes(std::span(*text)), memory_room());
}

// Bytes of sealed memory.
Result<uint64_t> view_of(const UniqueFd& fd) {
  auto own = fd.duplicate();
  if (!own) return pass(own);
  auto view = SharedView::map(std::move(*own));
  if (!view) return pass(view);
  return view->data().size();
}

// A segment is computed on one version and may only follow that one.
Status check_follows(const Registry& registry, const std::string& name,
                     const std::vector<std::shared_ptr<HeldSegment>>& past) {
  const Pool* pool = registry.find(name);
  const bool follows = pool == nullptr ? past.empty() : pool->current->segments == past;
  if (follows) return {};
  return fail(ErrorCode::usage,
              cat("pool '", name, "' was written by another request meanwhile: ask again"), name);
}

}  // namespace

std::string Supervisor::holders() const {
  std::multimap<std::string, std::string> agents;
  for (const Link& link : links_) {
    if (link.leased) agents.emplace(link.pool, link.agent);
  }
  std::string sentence = registry_.holders(agents);
  if (sentence.size() > kHoldersMax) sentence = sentence.substr(0, kHoldersMax) + " ...";
  return sentence;
}

// pool_create and append: from text to a published version. The text comes in the message, as a
// path, or (by a link) as memory.
void Supervisor::pool_request(const std::string& client, uint64_t link, const Message& message,
                              UniqueFd text) {
  auto job = std::make_shared<PoolJob>();
  job->client = client;
  job->link = link;
  job->request = message.text("id");
  job->pool = message.text("pool");
  job->names = {job->pool};
  job->reserve = static_cast<uint32_t>(message.integer("reserve"));
  job->role = message.text("role", "system");
  Status good =
      message.type() == "append" ? plan_append(*job) : plan_create(*job, message.text("codec"));
  if (good) good = check_not_busy(busy_pools_, job->pool);
  if (!good) return answer_job(*job, error_message(good.error()));
  busy_pools_.insert(job->pool);
  auto shared = text ? Result<UniqueFd>(std::move(text)) : share_text(message);
  auto view = shared ? view_of(*shared) : Result<uint64_t>(pass(shared));
  if (!view) return end_job(job, &view.error());
  job->text_bytes = *view;
  job->text = std::move(*shared);
  tokenise(job);
}

Status Supervisor::plan_append(PoolJob& job) const {
  auto current = registry_.version(job.pool, 0);
  if (!current) return pass(current);
  job.past = (*current)->segments;
  job.past_tokens = (*current)->n_tokens();
  job.codecs = {registry_.find(job.pool)->codec};
  return {};
}

Status Supervisor::plan_create(PoolJob& job, const std::string& codec_name) const {
  auto codec = parse_codec(codec_name);
  if (!codec) return pass(codec);
  job.codecs = {*codec};
  return check_new_pool(registry_, job.pool);
}

void Supervisor::tokenise(const std::shared_ptr<PoolJob>& job) {
  WriterJob task;
  task.request.set("form", "document").set("role", job->role).set("first", job->past.empty());
  task.fds.push_back(std::move(job->text));
  task.answer = [this, job](const Message& answer, std::vector<UniqueFd> fds) {
    const int64_t count = answer.integer("count");
    auto fits = check_length(*job, count);
    if (fits && fds.size() != 1) {
      fits = fail(ErrorCode::bad_message, "the writer sent no tokens");
    }
    job->n_tokens = static_cast<uint32_t>(count);
    if (fits) {
      prefill(job, std::move(fds[0]));
    } else {
      end_job(job, &fits.error());
    }
    return true;
  };
  task.failed = [this, job](const Error& error) { end_job(job, &error); };
  writer_.submit(std::move(task));
}

// The three numbers, and what would fit.
Status Supervisor::check_length(const PoolJob& job, int64_t count) const {
  if (registry_.image() == nullptr) return {};  // still being packed: the writer checks itself
  const int64_t limit = registry_.image()->n_positions;
  const int64_t all = job.past_tokens + count + job.reserve;
  if (all <= limit && count > 0) return {};
  if (count == 0) return fail(ErrorCode::bad_text, "the text has no tokens");
  const int64_t left = std::max<int64_t>(0, limit - job.past_tokens - job.reserve);
  const auto fitting = static_cast<uint64_t>(
      static_cast<double>(job.text_bytes) * static_cast<double>(left) / static_cast<double>(count));
  const std::string before =
      job.past_tokens > 0 ? cat(job.past_tokens, " tokens in the pool + ", count, " new ones")
                          : cat("context (", count, " tokens)");
  return fail(ErrorCode::context_too_long,
              cat(before, " + prompt and answer (", job.reserve, ") is ", all,
                  ", beyond the model's ", limit, " positions: about the first ", fitting, " of ",
                  job.text_bytes, " bytes of this text would fit"),
              cat(all), cat(limit));
}

void Supervisor::prefill(const std::shared_ptr<PoolJob>& job, UniqueFd tokens) {
  WriterJob task;
  task.request = Message("prefill");
  std::vector<std::string> codecs;
  for (const CodecSpec& codec : job->codecs) codecs.push_back(codec_name(codec));
  task.request.set("codecs", codecs).set("pool", job->pool).set("holders", holders());
  if (options_.budget) {
    const uint64_t held = registry_.held_bytes();
    task.request.set_id("budget_left", *options_.budget > held ? *options_.budget - held : 0);
  }
  task.fds.push_back(std::move(tokens));
  for (const auto& segment : job->past) {
    auto fd = reopen_read_only(segment->fd.get());
    if (!fd) return end_job(job, &fd.error());
    task.fds.push_back(std::move(*fd));
  }
  task.answer = [this, job](const Message& answer, std::vector<UniqueFd> fds) {
    if (answer.type() == "progress") {
      report_progress(*job, answer);
      return false;
    }
    return take_segment(job, answer, std::move(fds));
  };
  task.failed = [this, job](const Error& error) { end_job(job, &error); };
  writer_.submit(std::move(task));
}

// Verifies and publishes one finished segment. True when it was the job's last.
bool Supervisor::take_segment(const std::shared_ptr<PoolJob>& job, const Message& message,
                              std::vector<UniqueFd> fds) {
  const CodecSpec codec = job->codecs[job->n_taken];
  Status good =
      fds.size() == 1 ? Status() : fail(ErrorCode::bad_message, "a segment without memory");
  if (good) good = check_follows(registry_, job->names[job->n_taken], job->past);
  std::shared_ptr<Version> version;
  if (good) {
    auto segment = registry_.admit(std::move(fds[0]), job->n_tokens, codec);
    if (!segment) good = pass(segment);
    if (segment) {
      auto published = registry_.publish(job->names[job->n_taken], codec, std::move(*segment));
      if (published) version = std::move(*published);
      if (!published) good = pass(published);
    }
  }
  if (!good) {
    end_job(job, &good.error());
    return true;
  }
  ++job->n_taken;
  Message ready = pool_ready(job->names[job->n_taken - 1], *version);
  ready.set("prefill_tokens", job->n_tokens).set("prefill_seconds", message.number("seconds"));
  announce(ready);
  log_line(LogLevel::info,
           cat("pool ", job->names[job->n_taken - 1], " version ", version->number, ": ",
               version->n_tokens(), " tokens, ", megabytes(version->bytes())));
  const bool last = job->n_taken == job->codecs.size();
  if (last || job->link != 0) answer_job(*job, ready);
  if (last) end_job(job, nullptr);
  return last;
}

void Supervisor::answer_job(const PoolJob& job, Message message) {
  if (job.link == 0) return reply(job.client, job.request, std::move(message));
  message.set("id", job.request);
  if (Link* link = find_link(job.link)) (void)link->socket.try_send(message.dump());
}

void Supervisor::report_progress(const PoolJob& job, Message message) {
  if (job.link == 0) return (void)reply_part(job.client, job.request, std::move(message));
  message.set("id", job.request);
  if (Link* link = find_link(job.link)) (void)link->socket.try_send(message.dump());
}

// Ends a job, with an error or without. The pool may be written again.
void Supervisor::end_job(const std::shared_ptr<PoolJob>& job, const Error* error) {
  busy_pools_.erase(job->pool);
  if (error != nullptr) answer_job(*job, error_message(*error));
}

// pool_fork, pool_drop, pool_pin, pool_unpin: done at once. A fork and a drop are events, too.
void Supervisor::change_pools(const std::string& client, const Message& message) {
  const std::string request = message.text("id"), pool = message.text("pool");
  Result<Message> answer = Message("ok");
  if (message.type() == "pool_fork") {
    const uint64_t held = registry_.held_bytes();
    const auto left = options_.budget.transform(
        [&](uint64_t budget) { return budget > held ? budget - held : 0; });
    answer = fork_pool(registry_, busy_pools_, memory_room(left), message);
    if (answer) announce(*answer);
  } else if (message.type() == "pool_drop") {
    const Pool* found = registry_.find(pool);
    Message event("pool_dropped");
    event.set("pool", pool).set("version", found == nullptr ? 0 : found->current->number);
    event.set("reason", "asked");
    if (auto dropped = drop_pool(registry_, busy_pools_, message); !dropped) {
      answer = pass(dropped);
    } else {
      announce(event.set("leases", rename_leases(pool, dropped_name(pool))));
      answer = event;
    }
  } else {
    answer = pin_pool(registry_, message);
  }
  if (!answer) return reply(client, request, error_message(answer.error()));
  log_line(LogLevel::info, cat(message.type(), " of pool ", pool));
  reply(client, request, std::move(*answer));
}

// Leases on a dropped pool go on under another name: the old one may become another pool's.
uint64_t Supervisor::rename_leases(const std::string& pool, const std::string& name) {
  uint64_t renamed = 0;
  for (Link& link : links_) {
    if (!link.leased || link.pool != pool) continue;
    link.pool = name;
    ++renamed;
  }
  return renamed;
}

void Supervisor::announce(Message& event) {
  event.set_id("seq", ++event_);
  control_->publish("pool", event);
}

// tokenize{form} with a text by link: the tokens go back as memory.
bool Supervisor::tokenise_for(Link& link, const Message& message, std::vector<UniqueFd> fds) {
  const uint64_t id = link.id;
  const std::string request = message.text("id");
  WriterJob task;
  task.request.set("form", message.text("form")).set("first", message.flag("first", true));
  task.request.set("role", message.text("role", "system"));
  task.fds = std::move(fds);
  const auto send = [this, id, request](Message answer, const std::vector<UniqueFd>& memory) {
    answer.set("id", request);
    std::vector<int> raw;
    for (const UniqueFd& fd : memory) raw.push_back(fd.get());
    if (Link* to = find_link(id)) (void)to->socket.try_send(answer.dump(), raw);
  };
  task.answer = [send](const Message& answer, const std::vector<UniqueFd>& memory) {
    send(answer, memory);
    return true;
  };
  task.failed = [send](const Error& error) { send(error_message(error), {}); };
  writer_.submit(std::move(task));
  return true;
}

// prefill{codecs, pool} with tokens by link: one pool per codec, "<pool>-<codec>", from one
// prefill.
bool Supervisor::prefill_for(Link& link, const Message& message, std::vector<UniqueFd> fds) {
  auto job = std::make_shared<PoolJob>();
  job->link = link.id;
  job->request = message.text("id");
  job->pool = message.text("pool");
  Status good = check_pool_name(job->pool);
  if (good && message.texts("codecs").empty()) {
    good = fail(ErrorCode::usage, "'prefill' names no codec: it would make nothing", "codecs");
  }
  for (const std::string& name : message.texts("codecs")) {
    auto codec = parse_codec(name);
    if (!codec) good = pass(codec);
    if (codec) job->codecs.push_back(*codec);
    job->names.push_back(cat(job->pool, "-", name));
    if (registry_.find(job->names.back()) != nullptr) {
      good = fail(ErrorCode::usage, cat("pool '", job->names.back(), "' exists already"));
    }
  }
  auto own = fds[0].duplicate();
  auto tokens = own ? SharedView::map(std::move(*own)) : Result<SharedView>(pass(own));
  if (good && !tokens) good = pass(tokens);
  if (good) {
    const auto count = static_cast<int64_t>(tokens->data().size() / sizeof(uint32_t));
    job->n_tokens = static_cast<uint32_t>(count);
    good = check_length(*job, count);
  }
  if (good) {
    prefill(job, std::move(fds[0]));
  } else {
    answer_job(*job, error_message(good.error()));
  }
  return true;
}

}  // namespace polykv
