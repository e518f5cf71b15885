// Where reader and model meet: attention over the shared spans, in place, merged with the private
// suffix of each row's stream.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

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
  // is. REQUIRES: positions follow the layout's last one, within the suffix's room. No allocation.
  void attend(const AttentionCall& call, Suffix* const* suffixes);

 private:
  using Floats = std::unique_ptr<float[], FreeAligned>;

  // Rows of one span.
  struct Part {
    const Span* span;
    uint32_t begin, end;
    uint32_t shift;  // index into shifts_
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
  };
  struct RowRange {
    uint32_t begin, end;
  };

  void add_parts(const Span& span);
  uint32_t shift_of(int64_t position_offset);
  void turn(const AttentionCall& call);
  void keep(const Rows& rows) const;
  Worker& take_worker();
  void attend_piece(const Rows& rows, uint32_t head, uint32_t piece, Worker& worker) const;
  void attend_part(const Rows& rows, uint32_t head, uint32_t part, Worker& worker) const;
  void attend_suffix(const Rows& rows, uint32_t head, uint32_t row, Worker& worker) const;
  void start(const Rows& rows, uint32_t head, uint32_t part, RowRange range, Worker& worker) const;
  void load_queries(const AttentionCall& call, uint32_t head, uint32_t shift, RowRange range,
                    float* to) const;
  Partial state(uint32_t n_queries, uint32_t head, uint32_t part, uint32_t query) const;
  void join(const AttentionCall& call, uint32_t row) const;
  const float* cos_of(uint32_t shift, uint32_t row) const;

  ModelConfig config_;
  const Layout& layout_;
  const AttendKernel& kernel_;
  ThreadTeam& team_;
  Rope rope_;
  uint32_t group_;                     // query heads per KV head
  std::vector<int64_t> shifts_;        // distinct position offsets; the first, 0, is the suffix's
  std::vector<Part> parts_;            // of one head, in order of position
  std::vector<uint32_t> turned_;       // positions that angles_ is of
  Floats angles_;                      // [shifts, rows, 2, head_dim / 2]: cosines, sines
  Floats max_, sum_;                   // [heads, parts + 1, rows * group]
  Floats acc_;                         // [heads, parts + 1, rows * group, head_dim]
  std::unique_ptr<Worker[]> workers_;  // [threads]
};

}  // namespace polykv
