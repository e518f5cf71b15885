// The runtime directory, the model file, the writer and the agent program.
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "ipc/fd_socket.h"
#include "ipc/process.h"
#include "launch/client.h"
#include "launch/deployment.h"
#include "launch/doctor.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;

constexpr int kProgramMs = 60'000;  // libtorch from a cold disk takes its time
constexpr int kAnswerSeconds = 5;

Finding problem(const std::string& name, const Error& error, const std::string& advice) {
  return {name, Verdict::problem, error.message, advice, error.code};
}

// Readable after some seconds.
UniqueFd timer() {
  UniqueFd fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  itimerspec when{};
  when.it_value.tv_sec = kAnswerSeconds;
  ::timerfd_settime(fd.get(), 0, &when, nullptr);
  return fd;
}

std::string read_all(int fd) {
  std::string text(64 * 1024, '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// What a program prints, if it ends well.
Result<std::string> output_of(const std::string& program, const std::string& argument) {
  const UniqueFd output(::memfd_create("polykv-output", MFD_CLOEXEC));
  if (!output) return fail_errno("memfd_create");
  auto child = Child::start(program, {argument}, cat("/proc/self/fd/", output.get()));
  if (!child) return pass(child);
  const auto end = child->wait(kProgramMs);
  std::string said = read_all(output.get());
  if (!end) {
    return fail(ErrorCode::timed_out, cat(program, " ", argument, " did not end"), "",
                cat(kProgramMs, " ms"));
  }
  if (!end->signalled && end->code == 0) return said;
  return fail(ErrorCode::io, cat(program, " ", argument, " ended with ", describe(*end),
                                 said.empty() ? "" : ": ", said));
}

bool is_locked(const std::string& path) {
  const UniqueFd lock(::open((path + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  return lock && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0;
}

Finding running_runtime(const std::string& path) {
  const UniqueFd patience = timer();
  auto client = Client::connect(path, patience.get());
  auto welcome = client ? client->ask(Message("hello").set("client", "doctor"))
                        : Result<Message>(pass(client));
  if (!welcome) {
    return {"runtime", Verdict::warning,
            cat("a supervisor holds ", path, " but does not answer: ", welcome.error().message),
            "look at its log; if it hangs, kill it: agents and writer end with it"};
  }
  return {"runtime", Verdict::ok,
          cat("polykv ", welcome->text("version"), " runs in ", path, ", pid ",
              welcome->integer("runtime"))};
}

// A directory that 'up' would have to make.
Finding future_runtime(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  if (::access(parent.c_str(), W_OK | X_OK) == 0) {
    return {"runtime", Verdict::ok, cat("nothing runs in ", path, "; 'up' will make it")};
  }
  return {"runtime", Verdict::problem, cat(path, " cannot be made in ", parent.string()),
          "choose another with --runtime or POLYKV_RUNTIME", ErrorCode::io};
}

}  // namespace

Finding look_at_runtime(const std::string& path) {
  if (auto fits = check_socket_path(path + "/ctl"); !fits) {
    return problem("runtime", fits.error(), "choose a shorter one with --runtime");
  }
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return future_runtime(path);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0) {
    return {"runtime", Verdict::problem,
            cat(path, " is not a directory of this user with mode 0700"),
            cat("chmod 700 it, or choose another with --runtime"), ErrorCode::io};
  }
  if (is_locked(path)) return running_runtime(path);
  if (fs::exists(path + "/ctl") || fs::exists(path + "/fd")) {
    return {"runtime", Verdict::warning, cat(path, " has sockets of a supervisor that has died"),
            "nothing needs doing: the next 'up' there replaces them"};
  }
  return {"runtime", Verdict::ok, cat("nothing runs in ", path)};
}

namespace {

Finding look_at_folder(const fs::path& folder) {
  for (const char* name : {"config.json", "tokenizer.json"}) {
    if (fs::is_regular_file(folder / name)) continue;
    return {"model", Verdict::problem, cat(folder.string(), " has no ", name),
            "a model's folder holds config.json, tokenizer.json and safetensors",
            ErrorCode::bad_model_file};
  }
  return {"model", Verdict::ok, cat(folder.string(), ", a folder with config.json")};
}

}  // namespace

Finding look_at_model(const std::string& file) {
  std::error_code missing;
  if (fs::is_directory(file, missing)) return look_at_folder(file);
  const fs::path path(file);
  if (path.extension() == ".safetensors") return look_at_folder(path.parent_path());
  std::ifstream in(file, std::ios::binary);
  std::string magic(4, '\0');
  if (!in || !in.read(magic.data(), 4)) {
    return {"model", Verdict::problem, cat(file, " cannot be read"), "check its path and rights",
            ErrorCode::bad_model_file};
  }
  if (magic != "GGUF") {
    return {"model", Verdict::problem, cat(file, " is no GGUF file"),
            "take a GGUF file, or a folder with config.json, tokenizer.json and safetensors",
            ErrorCode::bad_model_file};
  }
  std::error_code error;
  return {"model", Verdict::ok, cat(file, ", ", fs::file_size(file, error) / 1'000'000, " MB")};
}

Finding look_at_writer(const std::string& program) {
  if (program == kNoWriter) return {"writer", Verdict::ok, "is started by hand"};
  auto version = output_of(program, "--version");
  if (version)
    return {"writer", Verdict::ok, cat(program, " ", *version, " starts, libtorch loads")};
  return problem("writer", version.error(),
                 "nothing can be prefilled without it: build it, name it with --writer, or see "
                 "that its libtorch is where it was");
}

Findings look_at_agent(const std::string& program) {
  auto said = output_of(program, "--doctor");
  auto report = said ? Message::parse(*said) : Result<Message>(pass(said));
  if (!report || report->type() != "doctor") {
    const Error error =
        report ? Error{ErrorCode::bad_message, "no report", {}, {}} : report.error();
    return {problem("agent program", error, "build it, or name it with --agent-program")};
  }
  Findings findings{{"agent program", Verdict::ok, program + " starts"}};
  for (const Message& check : report->objects("checks")) {
    const bool good = check.text("verdict") == "ok";
    findings.push_back({check.text("name"), good ? Verdict::ok : Verdict::warning,
                        check.text("found"), check.text("advice")});
  }
  return findings;
}

}  // namespace polykv
