// A writer without a model: a text's bytes are its tokens, and the text says how to misbehave.
//   model path: /model/ok, /model/other (other weights), /model/bad (refused), /model/crash (dies
//               packing); a fifo is waited for
//   document:   see the table in prefill(); anything else becomes an honest segment
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "ipc/fd_socket.h"
#include "ipc/message.h"
#include "tests/launch/small_segment.h"

namespace polykv {
namespace {

constexpr int kPositions = 100;
constexpr uint8_t kOtherModel = 0x22;

[[noreturn]] void die() {
  (void)std::raise(SIGKILL);
  std::abort();
}

// Until the fifo's other end was opened and closed.
void wait_for(const std::string& path) {
  std::ifstream fifo(path);
  (void)std::string(std::istreambuf_iterator<char>(fifo), {});
}

struct FakeWriter {
  FdSocket supervisor;
  std::string image_from = "nowhere";
  int prefills = 0;
  Fingerprint model = testing::small_model();

  void send(const Message& message, const std::vector<int>& fds = {}) {
    if (!supervisor.send(message.dump(), fds)) std::exit(1);
  }

  void fail_job(const Message& request, const Error& error) {
    Message failure = error_message(error);
    if (request.has("job")) failure.set_id("job", request.id("job"));
    send(failure);
  }

  void pack(const Message& request) {
    const std::string path = request.text("path");
    if (path == "/model/crash") die();
    if (std::filesystem::is_fifo(path)) {
      wait_for(path);
      Message progress("progress");
      progress.set("phase", "packing the model").set("done", 1).set("all", 2).set("rate", 0.0);
      send(progress);
    } else if (path == "/model/other") {
      model = testing::small_model(kOtherModel);
    } else if (path != "/model/ok") {
      return fail_job(request, {ErrorCode::bad_model_file, "not a model: " + path, path, {}});
    }
    const std::vector<std::byte> bytes(4096, std::byte{1});
    const auto image = share_bytes("polykv-image", bytes, {});
    if (!image) std::exit(1);
    Message answer("image");
    answer.set("fingerprint", to_hex(model)).set("name", "fake");
    answer.set("positions", kPositions).set("bytes", bytes.size());
    const KvShape& shape = testing::kSmallShape;
    answer.set("layers", shape.n_layers).set("kv_heads", shape.n_kv_heads);
    answer.set("head_dim", shape.head_dim);
    answer.set("notices", std::vector<std::string>{});
    if (path == "/model/other") answer.set("source", "cache");
    image_from = "packed here";
    send(answer, {image->get()});
  }

  void take_back(const Message& request) {
    const Fingerprint other = testing::small_model(kOtherModel);
    if (request.text("fingerprint") == to_hex(other)) model = other;
    image_from = "given back";
  }

  static std::string bytes_of(UniqueFd fd) {
    const auto view = SharedView::map(std::move(fd));
    if (!view) std::exit(1);
    return {reinterpret_cast<const char*>(view->data().data()), view->data().size()};
  }

  void tokenize(const Message& request, std::vector<UniqueFd> fds) {
    const std::string text = bytes_of(std::move(fds.at(0)));
    if (text == "crash in tokenize") die();
    const std::vector<uint32_t> tokens(text.begin(), text.end());
    const auto memory = share_bytes("polykv-tokens", std::as_bytes(std::span(tokens)), {});
    if (!memory) std::exit(1);
    Message answer("tokens");
    answer.set_id("job", request.id("job")).set("count", tokens.size());
    send(answer, {memory->get()});
  }

  static std::vector<uint32_t> tokens_of(UniqueFd fd) {
    const std::string bytes = bytes_of(std::move(fd));
    std::vector<uint32_t> tokens(bytes.size() / sizeof(uint32_t));
    std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(uint32_t));
    return tokens;
  }

  // Chain hash of the segments that came after the tokens.
  static Fingerprint prefix_of(std::vector<UniqueFd>& fds) {
    Fingerprint prefix{};
    for (size_t i = 1; i < fds.size(); ++i) {
      const auto segment = SegmentView::open(std::move(fds[i]), Verify::header);
      if (!segment) std::exit(1);
      prefix = chain_hash(prefix, segment->tokens());
    }
    return prefix;
  }

  void prefill(const Message& request, std::vector<UniqueFd> fds) {
    const auto tokens = tokens_of(std::move(fds.at(0)));
    const bool first = fds.size() == 1;
    const Fingerprint prefix = prefix_of(fds);
    const std::string text(tokens.begin(), tokens.end());
    ++prefills;
    Message progress("progress");
    progress.set_id("job", request.id("job")).set("phase", "prefill");
    send(progress.set("done", 1).set("all", 2).set("rate", 1.0));
    if (text == "crash") die();
    if (text == "nonsense") return (void)supervisor.send("{\"type\":");
    if (text == "refuse") {
      return fail_job(request, {ErrorCode::memory_limit, "no room for it", "17", "4"});
    }
    if (text == "tell") return fail_job(request, {ErrorCode::usage, image_from, {}, {}});
    if (text == "count") return fail_job(request, {ErrorCode::usage, cat(prefills), {}, {}});
    if (text == "until dropped") return await_drop(request);
    if (text.starts_with("wait:")) wait_for(text.substr(5));
    for (const std::string& codec : request.texts("codecs")) {
      if (!hand_over(request, tokens, text, codec, first, prefix)) return;
    }
  }

  void await_drop(const Message& request) {
    while (true) {
      auto packet = supervisor.receive();
      if (!packet) std::exit(0);
      const auto message = Message::parse(packet->text);
      if (!message || message->type() != "drop_job") std::exit(5);
      if (message->id("job") != request.id("job")) continue;
      return fail_job(request, {ErrorCode::cancelled, "dropped", {}, {}});
    }
  }

  bool hand_over(const Message& request, const std::vector<uint32_t>& tokens,
                 const std::string& text, const std::string& codec, bool first,
                 const Fingerprint& prefix) {
    const auto refuse = [&](const Error& error) {
      fail_job(request, error);
      return false;
    };
    auto spec = testing::small_spec(tokens, *parse_codec(codec));
    spec.starts_context = first;
    spec.model = model;
    spec.mode = first ? EncodeMode::alone : EncodeMode::after_prefix;
    spec.prefix = prefix;
    if (text == "other prefix") spec.prefix = testing::small_model(0x22);
    if (text == "other model") spec.model = testing::small_model(0x11);
    if (text == "short") spec.tokens.pop_back();
    MemoryRoom room;
    if (request.has("budget_left")) room.budget = request.id("budget_left");
    if (auto fits = check_room(segment_bytes(spec), room, request.text("holders")); !fits) {
      return refuse(fits.error());
    }
    if (text == "hard keys!") spec.k_codecs.assign(2, PlaneCodec::rot8);  // found on the way
    auto segment = testing::small_segment(spec);
    if (segment && text == "spoiled") segment = testing::spoiled_segment(std::move(*segment));
    if (!segment) return refuse(segment.error());
    Message answer("segment");
    answer.set_id("job", request.id("job")).set("codec", codec);
    answer.set("tokens", spec.tokens.size()).set("seconds", 0.5);
    answer.set("precision", codec == "k4v4" ? "fast: tiles" : "best: halves");
    send(answer, text == "no memory" ? std::vector<int>{} : std::vector<int>{segment->get()});
    return true;
  }

  void handle(Packet packet) {
    const auto request = Message::parse(packet.text);
    if (!request) std::exit(1);
    if (request->type() == "pack") pack(*request);
    if (request->type() == "have") take_back(*request);
    if (request->type() == "tokenize") tokenize(*request, std::move(packet.fds));
    if (request->type() == "prefill") prefill(*request, std::move(packet.fds));
  }
};

int run(const std::string& runtime, const std::string& model, const std::string& fallback) {
  auto socket = FdSocket::connect(runtime + "/fd");
  if (!socket) return 1;
  FakeWriter writer{std::move(*socket)};
  Message hello("writer_hello");
  hello.set("pid", 1);  // as in a container: nobody may believe it
  if (!model.empty()) hello.set("model", model);
  if (!fallback.empty()) hello.set("fallbacks", std::vector<std::string>{fallback});
  writer.send(hello);
  while (auto packet = writer.supervisor.receive()) writer.handle(std::move(*packet));
  return 0;
}

}  // namespace
}  // namespace polykv

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  return polykv::run(options["--runtime"], options["--model"], options["--fallback"]);
}
