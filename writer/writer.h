// Start here for writer/: text -> tokens -> prefill -> encoded, sealed segments -> supervisor.
//
//   supervisor ── text, tokens, past segments (fds) ──► Writer
//   supervisor ◄── image, tokens, segments (fds) ────── Writer
//
// The writer keeps nothing that matters: the supervisor holds every fd, so a writer that dies loses
// only the job at hand, and a new one is given the image and the segments back. One thread, one job
// at a time.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "ipc/fd_socket.h"
#include "ipc/message.h"
#include "model/kernels.h"
#include "model/model.h"
#include "writer/image_maker.h"

namespace polykv {

struct WriterOptions {
  unsigned n_threads = 2;
  std::optional<Kernels> kernels = {};      // for packed weights; none: libtorch
  bool tiles = true;                        // of a prefill: passed their self-test
  std::vector<std::string> fallbacks = {};  // what is not used, though it is here: for status
  std::string model = {};        // whose writer this is, in the runtime; "" = the first one's
  std::string chat_format = {};  // "" = the one that the model's file says
  std::string image_cache = {};  // directory that keeps packed images; "" = none
  // Last step on a sealed segment before it is handed over; empty = none. Tests damage segments
  // with it.
  std::function<Result<UniqueFd>(UniqueFd)> finish;
};

class Writer {
 public:
  Writer(FdSocket supervisor, WriterOptions options);
  ~Writer();

  // Serves jobs until the supervisor closes the connection (ok) or the connection breaks (its
  // error).
  Status serve();

 private:
  Status handle(Packet packet);
  Status pack(const Message& request);
  Status adopt(UniqueFd fd);
  Status tokenize(const Message& request, std::vector<UniqueFd> fds);
  // Between two layers: has the supervisor dropped this job, or gone away?
  Status check_wanted(uint64_t job);
  Status prefill_segments(const Message& request, std::vector<UniqueFd> fds);

  FdSocket supervisor_;
  WriterOptions options_;
  ImageMaker images_;
  std::unique_ptr<Model> model_;
  UniqueFd image_fd_;           // of model_'s image
  std::deque<Packet> waiting_;  // came while a job was at hand
};

}  // namespace polykv
