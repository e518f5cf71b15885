// The writer's job loop: one packet in, its answers out.
#include "writer/writer.h"

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "ipc/log.h"
#include "ipc/pool.h"
#include "writer/layer_stats.h"
#include "writer/segment_job.h"

namespace polykv {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Result<SharedView> view_of(std::vector<UniqueFd>& fds, size_t index, const char* what) {
  if (index >= fds.size()) {
    return fail(ErrorCode::bad_message, cat("a job came without the memory of its ", what));
  }
  return SharedView::map(std::move(fds[index]));
}

Message image_message(const ModelImage& image, const MadeImage& made) {
  Message message("image");
  message.set("fingerprint", to_hex(image.fingerprint()))
      .set("name", image.name())
      .set("positions", static_cast<int64_t>(image.config().n_positions))
      .set("sampling", sampling_text(image.sampling()))
      .set("layers", int64_t{image.config().n_layers})
      .set("kv_heads", int64_t{image.config().n_kv_heads})
      .set("head_dim", int64_t{image.config().head_dim})
      .set("window", int64_t{image.config().windows.tokens})
      .set("window_period", int64_t{image.config().windows.period})
      .set("bytes", static_cast<int64_t>(image.memory().data().size()))
      .set("source", made.from_cache ? "cache" : "packed")
      .set("notices", made.notices);
  return message;
}

// The pieces of a text in the form that the job asks for.
std::vector<TextPiece> pieces_of(const Message& request, const ChatFormat& chat,
                                 std::string_view text) {
  const std::string form = request.text("form");
  if (form == "document") {
    return chat.document(text, request.flag("first"), request.text("role", "system"));
  }
  if (form == "question") return chat.question(text);
  return {{std::string(text), false}};
}

Result<SegmentJob> segment_job(const Message& request, std::vector<UniqueFd> fds) {
  auto token_memory = view_of(fds, 0, "tokens");
  if (!token_memory) return pass(token_memory);
  SegmentJob job;
  job.tokens.resize(token_memory->data().size() / sizeof(uint32_t));
  std::memcpy(job.tokens.data(), token_memory->data().data(), job.tokens.size() * sizeof(uint32_t));
  for (size_t i = 1; i < fds.size(); ++i) {
    auto segment = SegmentView::open(std::move(fds[i]), Verify::header);
    if (!segment) return pass(segment);
    job.past.push_back(std::move(*segment));
  }
  for (const std::string& name : request.texts("codecs")) {
    auto codec = parse_codec(name);
    if (!codec) return pass(codec);
    job.codecs.push_back(*codec);
  }
  std::optional<uint64_t> budget;
  if (request.has("budget_left")) budget = request.id("budget_left");
  job.room = memory_room(budget);
  job.holders = request.text("holders");
  job.per_layer = request.flag("per_layer");
  return job;
}

Status check_job(const SegmentJob& job, const ModelImage& image) {
  const ModelConfig& config = image.config();
  for (uint32_t token : job.tokens) {
    if (token >= config.n_vocab) {
      return fail(ErrorCode::bad_message, cat("token ", token, " is not in the vocabulary"),
                  cat(token), cat(config.n_vocab - 1));
    }
  }
  for (const SegmentView& segment : job.past) {
    const Fingerprint model = segment_model(segment);
    if (model != image.fingerprint() || segment.shape() != config.kv_shape()) {
      return fail(ErrorCode::fingerprint_mismatch,
                  cat("a segment of model ", to_hex(model), " cannot be extended by model ",
                      to_hex(image.fingerprint())),
                  to_hex(model), to_hex(image.fingerprint()));
    }
  }
  if (job.tokens.empty()) return fail(ErrorCode::bad_text, "there is nothing to prefill");
  if (job.per_layer && config.n_layers > kLayersTold) {
    return fail(ErrorCode::usage,
                cat("the model has ", config.n_layers, " layers; at most ", kLayersTold,
                    " are measured one by one: evaluate without --per-layer"),
                cat(config.n_layers), cat(kLayersTold));
  }
  return {};
}

}  // namespace

Writer::Writer(FdSocket supervisor, WriterOptions options)
    : supervisor_(std::move(supervisor)),
      options_(std::move(options)),
      images_(options_.image_cache, options_.n_threads) {}
Writer::~Writer() = default;

Status Writer::serve() {
  Message hello("writer_hello");
  hello.set("pid", static_cast<int64_t>(getpid()));
  if (!options_.model.empty()) hello.set("model", options_.model);
  if (!options_.fallbacks.empty()) hello.set("fallbacks", options_.fallbacks);
  if (auto sent = supervisor_.send(hello.dump()); !sent) return sent;
  while (true) {
    if (!waiting_.empty()) {
      Packet packet = std::move(waiting_.front());
      waiting_.pop_front();
      if (auto handled = handle(std::move(packet)); !handled) return handled;
      continue;
    }
    auto packet = supervisor_.receive();
    if (!packet) {
      if (packet.error().code == ErrorCode::not_running) return {};  // the supervisor went away
      return pass(packet);
    }
    if (auto handled = handle(std::move(*packet)); !handled) return handled;
  }
}

// A job's failure is the answer to that job; only a broken connection ends the loop.
Status Writer::handle(Packet packet) {
  auto request = Message::parse(packet.text);
  if (!request) return supervisor_.send(error_message(request.error()).dump());
  if (request->type() == "drop_job") return {};                                // that job is over
  if (request->type() == "error") return std::unexpected(error_of(*request));  // sent away
  Status done = fail(ErrorCode::bad_message, cat("the writer has no job '", request->type(), "'"),
                     request->type());
  if (request->type() == "pack") done = pack(*request);
  if (request->type() == "have") {
    done = packet.fds.empty() ? fail(ErrorCode::bad_message, "'have' came without an image")
                              : adopt(std::move(packet.fds[0]));
  }
  if (request->type() == "tokenize") done = tokenize(*request, std::move(packet.fds));
  if (request->type() == "prefill") done = prefill_segments(*request, std::move(packet.fds));
  if (done) return done;
  Message failure = error_message(done.error());
  if (request->has("job")) failure.set_id("job", request->id("job"));
  return supervisor_.send(failure.dump());
}

Status Writer::pack(const Message& request) {
  const auto progress = [&](const char* phase, uint64_t done, uint64_t all) {
    Message message("progress");
    message.set("phase", cat(phase, " the model"))
        .set("done", static_cast<int64_t>(done))
        .set("all", static_cast<int64_t>(all))
        .set("rate", 0.0);
    (void)supervisor_.send(message.dump());  // a lost connection shows at the next receive
  };
  auto made = images_.make(request.text("path"), options_.chat_format, progress);
  if (!made) return pass(made);
  if (auto adopted = adopt(std::move(made->fd)); !adopted) return adopted;
  return supervisor_.send(image_message(model_->image, *made).dump(), {image_fd_.get()});
}

Status Writer::adopt(UniqueFd fd) {
  auto own = fd.duplicate();
  if (!own) return pass(own);
  auto model = load_model(std::move(*own));
  if (!model) return pass(model);
  model_ = std::move(*model);
  image_fd_ = std::move(fd);
  return {};
}

Status Writer::tokenize(const Message& request, std::vector<UniqueFd> fds) {
  if (!model_) return fail(ErrorCode::internal, "a text came before the model");
  auto memory = view_of(fds, 0, "text");
  if (!memory) return pass(memory);
  const std::string_view text(reinterpret_cast<const char*>(memory->data().data()),
                              memory->data().size());
  auto tokens = model_->tokenizer.encode(pieces_of(request, model_->chat, text));
  if (!tokens) return pass(tokens);
  auto shared = share_bytes("polykv-tokens", std::as_bytes(std::span(*tokens)), memory_room());
  if (!shared) return pass(shared);
  Message answer("tokens");
  answer.set_id("job", request.id("job")).set("count", static_cast<int64_t>(tokens->size()));
  return supervisor_.send(answer.dump(), {shared->get()});
}

Status Writer::check_wanted(uint64_t job) {
  for (pollfd wait{supervisor_.fd(), POLLIN, 0}; ::poll(&wait, 1, 0) > 0;) {
    auto packet = supervisor_.receive();
    if (!packet) return pass(packet);
    const auto message = Message::parse(packet->text);
    if (message && message->type() == "drop_job" && message->id("job") == job) {
      return fail(ErrorCode::cancelled, "nobody wants this job any more");
    }
    waiting_.push_back(std::move(*packet));
  }
  return {};
}

Status Writer::prefill_segments(const Message& request, std::vector<UniqueFd> fds) {
  if (!model_) return fail(ErrorCode::internal, "a prefill came before the model");
  auto job = segment_job(request, std::move(fds));
  if (!job) return pass(job);
  if (auto ok = check_job(*job, model_->image); !ok) return ok;
  const Clock::time_point start = Clock::now();
  job->n_threads = options_.n_threads;
  if (options_.kernels) job->kernels = &*options_.kernels;
  job->tiles = options_.tiles;
  job->progress = [&](uint32_t done, uint32_t all) {
    Message message("progress");
    const double tokens = static_cast<double>(job->tokens.size()) * done / all;
    message.set_id("job", request.id("job")).set("phase", "prefill");
    message.set("done", int64_t{done}).set("all", int64_t{all});
    message.set("rate", tokens / std::max(seconds_since(start), 1e-9));
    (void)supervisor_.send(message.dump());  // a lost connection shows at the next receive
  };
  job->go_on = [&] { return check_wanted(request.id("job")); };
  auto segments = run_segment_job(model_->image, *job);
  if (!segments) return pass(segments);
  for (size_t i = 0; i < segments->size(); ++i) {
    UniqueFd fd = std::move((*segments)[i].fd);
    if (options_.finish) {
      auto finished = options_.finish(std::move(fd));
      if (!finished) return pass(finished);
      fd = std::move(*finished);
    }
    Message answer("segment");
    answer.set_id("job", request.id("job")).set("codec", codec_name(job->codecs[i]));
    answer.set("tokens", static_cast<int64_t>(job->tokens.size()));
    answer.set("seconds", seconds_since(start)).set("precision", (*segments)[i].precision);
    if (job->per_layer) answer.set("layers", (*segments)[i].layers);
    if (auto sent = supervisor_.send(answer.dump(), {fd.get()}); !sent) return sent;
  }
  return {};
}

}  // namespace polykv
