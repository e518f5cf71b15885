// Where reader and model meet: attention over the shared spans, in place, merged with the private
// suffix of each row's stream. Where a layer has a window, each row has rows of its own to see:
// what lies before them is not read.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "agents/sight.h"
#include "agents/suffix.h"
#include "ipc/pool.h"
#include "model/activations.h"
#include "model/decoder.h"
#include "model/rope.h"
#include "reader/attend.h"

namespace polykv {

// Attention of any streams over one layout. Layout, kernel and team must outlive it. Not
// thread-safe.
class PoolAttention {
 public:
  PoolAttention(const ModelConfig& config, const Layout& layout, const AttendKernel& kernel,
                ThreadTeam& team);

  const Layout& layout() const { return layout_; }
  // The rows of all streams share one pass over the spans. suffixes: [call.n_rows] whose each row
  // is. REQUIRES: those of one suffix lie together; positions follow the layout's last one, within
  // the suffix's room. No allocation.
  void attend(const AttentionCall& call, Suffix* const* suffixes);

 private:
  using Floats = std::unique_ptr<float[], FreeAligned>;

  // What layers of one kind see, and the angles by which they see the rows of a pass.
  struct Seen {
    Sight sight;
    Floats angles;  // [shifts, rows, 2, head_dim / 2]: cosines, sines
  };
  // What a thread needs while it attends.
  struct Worker {
    std::atomic_flag taken;
    Floats q;     // [rows * group, head_dim]
    Floats work;  // attend_span's
    std::vector<Partial> states;
  };

  // The rows of one pass.
  struct Rows {
    const AttentionCall& call;
    Suffix* const* suffixes;  // [call.n_rows]
    const Seen& seen;
  };
  using Chosen = std::span<const uint32_t>;  // some of them: indices into the call
  struct RowRange {
    uint32_t begin, end;
  };

  const Seen& seen_of(uint32_t layer) const;
  void turn(const AttentionCall& call);
  size_t angle(uint32_t shift, uint32_t row) const;
  static bool is_alone(const Rows& rows, uint32_t row);
  void keep(const Rows& rows, uint32_t head, uint32_t row) const;
  Worker& take_worker();
  void attend_piece(const Rows& rows, uint32_t piece, Worker& worker) const;
  RowRange seen_suffix(const Rows& rows, uint32_t row) const;
  void ask_for_suffix(const Rows& rows, uint32_t head, uint32_t row) const;
  void attend_part(const Rows& rows, uint32_t head, uint32_t part, Worker& worker) const;
  void attend_window(const Rows& rows, uint32_t head, const Part& part, Worker& worker) const;
  void attend_rows(const Rows& rows, uint32_t head, const Part& part, RowRange started,
                   Worker& worker) const;
  void attend_suffix(const Rows& rows, uint32_t head, uint32_t row, Worker& worker) const;
  void start(const Rows& rows, uint32_t head, uint32_t part, Chosen chosen, Worker& worker) const;
  void load_queries(const Rows& rows, uint32_t head, uint32_t shift, Chosen chosen,
                    float* to) const;
  Partial state(const Rows& rows, uint32_t head, uint32_t part, uint32_t query) const;
  void join(const Rows& rows, uint32_t row) const;

  ModelConfig config_;
  const Layout& layout_;
  const AttendKernel& kernel_;
  ThreadTeam& team_;
  LayerRopes ropes_;
  uint32_t group_;                                   // query heads per KV head
  std::vector<Seen> seen_;                           // [1 or 2]: with windows last
  std::vector<uint32_t> turned_;                     // positions that the angles are of
  std::array<uint32_t, Decoder::kRowsMax> ordered_;  // rows; by position if a layer has a window
  Floats max_, sum_;                                 // [heads, parts + 1, rows * group]
  Floats acc_;                                       // [heads, parts + 1, rows * group, head_dim]
  std::unique_ptr<Worker[]> workers_;                // [threads]
};

}  // namespace polykv
