// Where reader and model meet: attention over the shared spans, in place, merged with the private
// suffix.
#pragma once

#include <vector>

#include "agents/suffix.h"
#include "ipc/pool.h"
#include "model/decoder.h"
#include "model/rope.h"
#include "reader/attend.h"

namespace polykv {

// One stream's attention. Layout, suffix, kernel and team must outlive it. Not thread-safe.
class PoolAttention : public Attention {
 public:
  PoolAttention(const ModelConfig& config, const Layout& layout, Suffix& suffix,
                const AttendKernel& kernel, ThreadTeam& team);

  // REQUIRES: positions follow the layout's last one, within the suffix's room.
  void attend(const AttentionCall& call) override;

 private:
  // One KV head's buffers, so that heads can run on different threads.
  struct HeadWork {
    std::vector<float> q;    // [rows * group, head_dim]
    std::vector<float> max;  // [rows * group]
    std::vector<float> sum;  // [rows * group]
    std::vector<float> acc;  // [rows * group, head_dim]
    std::vector<Partial> states;
    std::vector<float> kernel;  // attend_span's
  };

  void keep(const AttentionCall& call);
  void attend_head(const AttentionCall& call, uint32_t head);
  void load_queries(const AttentionCall& call, uint32_t head, int64_t position_offset);
  void attend_suffix(const AttentionCall& call, uint32_t head);

  ModelConfig config_;
  const Layout& layout_;
  Suffix& suffix_;
  const AttendKernel& kernel_;
  ThreadTeam& team_;
  Rope rope_;
  uint32_t group_;              // query heads per KV head
  std::vector<HeadWork> work_;  // [n_kv_heads]
};

}  // namespace polykv
