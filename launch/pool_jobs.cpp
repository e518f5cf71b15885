// Pools through the writer.
#include "launch/pool_jobs.h"

#include <fstream>
#include <iterator>

#include "ipc/log.h"
#include "launch/pool_requests.h"

namespace polykv {

// One pool_create, append, tokenize, or prefill from tokens on its way through the writer.
struct PoolJobs::Job {
  Asker asker;
  ModelSlot* model = nullptr;
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
  int64_t ttl_seconds = 0;  // of a new pool
  Reservation room;         // for the segments that are being made
  Reservation wide_room;    // for what their K takes more than expected
  bool per_layer = false;
  uint64_t ticket = 0;  // of the writer's job
  Deadlines::Timer deadline = 0;
  bool over = false;  // answered; the writer may still be at it
};

namespace {

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
Result<uint64_t> sealed_bytes(const UniqueFd& fd) {
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
  const std::string now = pool == nullptr ? "gone" : cat("version ", pool->current->number);
  return fail(ErrorCode::conflict,
              cat("pool '", name, "' was written by another request meanwhile and is now ", now,
                  ": ask again"),
              name, now);
}

struct Length {
  uint32_t past, added, reserve;
  uint64_t text_bytes;
};

// The three numbers, and what would fit.
Status check_length(const HeldImage* image, const Length& length) {
  if (image == nullptr) return {};  // still being packed: the writer checks itself
  const int64_t limit = image->n_positions;
  const int64_t all = int64_t{length.past} + length.added + length.reserve;
  if (all <= limit && length.added > 0) return {};
  if (length.added == 0) return fail(ErrorCode::bad_text, "the text has no tokens");
  const int64_t left = std::max<int64_t>(0, limit - length.past - length.reserve);
  const auto fitting = static_cast<uint64_t>(static_cast<double>(length.text_bytes) *
                                             static_cast<double>(left) / length.added);
  const std::string before =
      length.past > 0 ? cat(length.past, " tokens in the pool + ", length.added, " new ones")
                      : cat("context (", length.added, " tokens)");
  return fail(ErrorCode::context_too_long,
              cat(before, " + prompt and answer (", length.reserve, ") is ", all,
                  ", beyond the model's ", limit, " positions: about the first ", fitting, " of ",
                  length.text_bytes, " bytes of this text would fit"),
              cat(all), cat(limit));
}

}  // namespace

Result<PoolJobs::JobRef> PoolJobs::begin(const Asker& asker, const Message& message) {
  auto model = models_.find(message.text("model"));
  if (!model) return pass(model);
  auto job = std::make_shared<Job>();
  job->asker = asker;
  job->model = *model;
  return job;
}

// From here on the job ends in end(), which frees the names of its pools.
void PoolJobs::go(const JobRef& job, double deadline_seconds) {
  job->model->busy_pools.insert(job->names.begin(), job->names.end());
  jobs_.push_back(job);
  job->deadline = deadlines_.after(deadline_seconds, [this, job, deadline_seconds] {
    stop(job, {ErrorCode::timed_out,
               cat("not done within ", deadline_seconds,
                   " seconds: ask again with a longer deadline_seconds, or for less"),
               cat(deadline_seconds), cat(deadline_seconds, " seconds")});
  });
}

void PoolJobs::write_pool(const Asker& asker, const Message& message, UniqueFd text) {
  auto begun = begin(asker, message);
  if (!begun) return replies_.refuse(asker, begun.error());
  const JobRef& job = *begun;
  if (auto good = plan(*job, message); !good) return replies_.refuse(asker, good.error());
  go(job, message.number("deadline_seconds", kDeadlineSeconds));
  auto shared = text ? Result<UniqueFd>(std::move(text)) : share_text(message);
  auto bytes = shared ? sealed_bytes(*shared) : Result<uint64_t>(pass(shared));
  if (!bytes) return end(job, &bytes.error());
  job->text_bytes = *bytes;
  tokenise(job, std::move(*shared));
}

Status PoolJobs::plan(Job& job, const Message& message) const {
  const Registry& registry = job.model->registry;
  job.pool = message.text("pool");
  job.names = {job.pool};
  job.reserve = static_cast<uint32_t>(message.integer("reserve"));
  job.role = message.text("role", "system");
  job.ttl_seconds = message.integer("ttl_seconds");
  if (message.type() == "append") {
    auto current = registry.version(job.pool, 0);
    if (!current) return pass(current);
    job.past = (*current)->segments;
    job.past_tokens = (*current)->n_tokens();
    job.codecs = {registry.find(job.pool)->codec};
  } else {
    auto codec = parse_codec(message.text("codec"));
    if (!codec) return pass(codec);
    job.codecs = {*codec};
    if (auto fresh = check_new_pool(registry, job.pool); !fresh) return fresh;
  }
  return check_not_busy(job.model->busy_pools, job.pool);
}

void PoolJobs::tokenise(const JobRef& job, UniqueFd text) {
  WriterJob task;
  task.request.set("form", "document").set("role", job->role).set("first", job->past.empty());
  task.fds.push_back(std::move(text));
  task.answer = [this, job](const Message& answer, std::vector<UniqueFd> fds) {
    if (job->over) return true;
    job->n_tokens = static_cast<uint32_t>(answer.integer("count"));
    auto fits = check_length(job->model->registry.image(),
                             {job->past_tokens, job->n_tokens, job->reserve, job->text_bytes});
    if (fits && fds.size() != 1) {
      fits = fail(ErrorCode::bad_message, "the writer sent no tokens");
    }
    if (fits) {
      prefill(job, std::move(fds[0]));
    } else {
      end(job, &fits.error());
    }
    return true;
  };
  submit(job, std::move(task));
}

void PoolJobs::prefill(const JobRef& job, UniqueFd tokens) {
  WriterJob task;
  task.request = Message("prefill");
  std::vector<std::string> codecs;
  for (const CodecSpec& codec : job->codecs) codecs.push_back(codec_name(codec));
  task.request.set("codecs", codecs).set("pool", job->pool);
  if (job->per_layer) task.request.set("per_layer", true);
  task.prepare = [this, job](WriterJob& self) { return make_room(*job, self.request); };
  task.fds.push_back(std::move(tokens));
  for (const auto& segment : job->past) {
    auto fd = reopen_read_only(segment->fd.get());
    if (!fd) return end(job, &fd.error());
    task.fds.push_back(std::move(*fd));
  }
  task.answer = [this, job](const Message& answer, std::vector<UniqueFd> fds) {
    if (answer.type() == "progress") {
      if (!job->over) (void)replies_.part(job->asker, answer);
      return false;
    }
    if (!job->over) return take_segment(job, answer, std::move(fds));
    return ++job->n_taken == job->codecs.size();
  };
  submit(job, std::move(task));
}

// Of the segment, if no more planes of K have to be widened than in the pool's others.
uint64_t PoolJobs::expected_bytes(const Job& job, const CodecSpec& codec) {
  SegmentSpec spec;
  spec.shape = job.model->registry.image()->shape;
  spec.codec = codec;
  spec.starts_context = job.past.empty();
  spec.tokens.resize(job.n_tokens);
  for (const auto& segment : job.past) keep_widths(spec, segment->view);
  return segment_bytes(spec);
}

// More of K was widened than was expected: that memory has been promised to nobody yet.
Status PoolJobs::room_for(Job& job, const CodecSpec& codec, uint64_t bytes) {
  const uint64_t expected = expected_bytes(job, codec);
  if (bytes <= expected) return {};
  auto more = pools_.make_room(bytes - expected);
  if (more) job.wide_room = std::move(*more);
  return more ? Status() : Status(pass(more));
}

// Right before the prefill, so that what was published meanwhile is counted.
Status PoolJobs::make_room(Job& job, Message& request) {
  uint64_t bytes = 0;
  for (const CodecSpec& codec : job.codecs) {
    bytes += expected_bytes(job, codec) + manifest_bytes(job.past.size() + 1);
  }
  auto room = pools_.make_room(bytes);
  if (!room) return pass(room);
  job.room = std::move(*room);
  request.set("holders", budget_.holders());
  if (const auto left = budget_.left()) request.set_id("budget_left", *left + job.room.bytes());
  return {};
}

// Verifies and publishes one finished segment. True when it was the job's last.
bool PoolJobs::take_segment(const JobRef& job, const Message& message, std::vector<UniqueFd> fds) {
  auto version = publish_next(*job, message.text("precision"), std::move(fds));
  if (!version) {
    end(job, &version.error());
    return true;
  }
  const std::string& name = job->names[job->n_taken++];
  Message ready = pool_ready(name, **version);
  ready.set("model", job->model->name);
  ready.set("prefill_tokens", job->n_tokens).set("prefill_seconds", message.number("seconds"));
  replies_.announce("pool", ready);
  log_line(LogLevel::info,
           cat("pool ", name, " version ", (*version)->number, ": ", (*version)->n_tokens(),
               " tokens, ", megabytes((*version)->bytes())),
           {{"model", job->model->name}, {"pool", name}, {"request", job->asker.request}});
  if (job->per_layer) ready.set("layers", message.objects("layers"));
  replies_.reply(job->asker, ready);  // a prefill of several codecs is answered once for each
  const bool last = job->n_taken == job->codecs.size();
  if (last) end(job, nullptr);
  return last;
}

Result<std::shared_ptr<Version>> PoolJobs::publish_next(Job& job, std::string precision,
                                                        std::vector<UniqueFd> fds) {
  Registry& registry = job.model->registry;
  const CodecSpec codec = job.codecs[job.n_taken];
  const std::string& name = job.names[job.n_taken];
  if (fds.size() != 1) return fail(ErrorCode::bad_message, "a segment without memory");
  if (auto follows = check_follows(registry, name, job.past); !follows) return pass(follows);
  auto segment = registry.admit(std::move(fds[0]), job.n_tokens, codec, {.past = job.past});
  if (!segment) return pass(segment);
  (*segment)->precision = std::move(precision);
  if (auto fits = room_for(job, codec, (*segment)->view.bytes()); !fits) return pass(fits);
  auto version = registry.publish(name, codec, std::move(*segment));
  if (version && job.past.empty()) pools_.add(*job.model, name, job.ttl_seconds);
  if (version) pools_.used(job.model->name, name);
  return version;
}

void PoolJobs::submit(const JobRef& job, WriterJob task) {
  if (!task.failed) task.failed = [this, job](const Error& error) { end(job, &error); };
  task.waits = [this, job](const Message& progress) {
    if (!job->over) (void)replies_.part(job->asker, progress);
  };
  job->ticket = job->model->writer.submit(std::move(task));
}

// Ends a job, with an error or without. Its pools may be written again; the memory that it was
// promised is free when the writer is done with it, too.
void PoolJobs::end(const JobRef& job, const Error* error) {
  if (std::exchange(job->over, true)) return;
  deadlines_.cancel(job->deadline);
  std::erase(jobs_, job);
  for (const std::string& name : job->names) job->model->busy_pools.erase(name);
  if (error != nullptr) replies_.refuse(job->asker, *error);
}

void PoolJobs::stop(const JobRef& job, const Error& error) {
  log_line(LogLevel::info, cat("stopped: ", error.message),
           {{"pool", job->pool}, {"request", job->asker.request}});
  job->model->writer.drop(job->ticket);
  end(job, &error);
}

void PoolJobs::stop_if(const std::function<bool(const Asker&)>& wanted, const std::string& why) {
  for (const JobRef& job : std::vector<JobRef>(jobs_)) {
    if (wanted(job->asker)) stop(job, {ErrorCode::cancelled, why, {}, {}});
  }
}

void PoolJobs::cancel(const Asker& asker) {
  stop_if([&](const Asker& one) { return one == asker; }, "cancelled before it was done");
}

void PoolJobs::client_gone(const std::string& client) {
  stop_if([&](const Asker& one) { return one.link == 0 && one.client == client; },
          "whoever asked is gone");
}

void PoolJobs::link_gone(uint64_t link) {
  stop_if([&](const Asker& one) { return one.link == link; }, "whoever asked is gone");
}

void PoolJobs::tokenise_for(const Asker& asker, const Message& message, std::vector<UniqueFd> fds) {
  auto begun = begin(asker, message);
  if (!begun) return replies_.refuse(asker, begun.error());
  const JobRef& job = *begun;
  go(job, kDeadlineSeconds);
  WriterJob task;
  task.request.set("form", message.text("form")).set("first", message.flag("first", true));
  task.request.set("role", message.text("role", "system"));
  task.fds = std::move(fds);
  task.answer = [this, job](const Message& answer, const std::vector<UniqueFd>& memory) {
    if (job->over) return true;
    std::vector<int> raw;
    for (const UniqueFd& fd : memory) raw.push_back(fd.get());
    replies_.reply(job->asker, answer, raw);
    end(job, nullptr);
    return true;
  };
  submit(job, std::move(task));
}

void PoolJobs::prefill_for(const Asker& asker, const Message& message, std::vector<UniqueFd> fds) {
  auto begun = begin(asker, message);
  if (!begun) return replies_.refuse(asker, begun.error());
  const JobRef& job = *begun;
  job->per_layer = message.flag("per_layer");
  if (auto good = plan_prefill(*job, message, fds[0]); !good) {
    return replies_.refuse(asker, good.error());
  }
  go(job, kDeadlineSeconds);
  prefill(job, std::move(fds[0]));
}

Status PoolJobs::plan_prefill(Job& job, const Message& message, const UniqueFd& tokens) const {
  const Registry& registry = job.model->registry;
  job.pool = message.text("pool");
  if (auto good = check_name("pool", job.pool); !good) return good;
  if (message.texts("codecs").empty()) {
    return fail(ErrorCode::usage, "'prefill' names no codec: it would make nothing", "codecs");
  }
  for (const std::string& name : message.texts("codecs")) {
    auto codec = parse_codec(name);
    if (!codec) return pass(codec);
    job.codecs.push_back(*codec);
    job.names.push_back(cat(job.pool, "-", name));
    if (auto fresh = check_new_pool(registry, job.names.back()); !fresh) return fresh;
    if (auto free = check_not_busy(job.model->busy_pools, job.names.back()); !free) return free;
  }
  auto bytes = sealed_bytes(tokens);
  if (!bytes) return pass(bytes);
  job.n_tokens = static_cast<uint32_t>(*bytes / sizeof(uint32_t));
  return check_length(registry.image(), {0, job.n_tokens, 0, 0});
}

}  // namespace polykv
