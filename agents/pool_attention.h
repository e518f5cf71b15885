// Where reader and model meet: attention over the shared spans, in place, merged with the private
// suffix.
#pragma once

#include <vector>

#include "ipc/pool.h"
#include "model/decoder.h"
#include "model/rope.h"
#include "reader/attend.h"

namespace polykv {

// One stream's attention. The layout, kernel and team must outlive it. Not thread-safe.
class PoolAttention : public Attention {
 public:
  PoolAttention(const ModelConfig& config, const Layout& layout, const AttendKernel& kernel,
                ThreadTeam& team);

  // Forgets the suffix and reserves room for `n_tokens` private tokens: the only allocation.
  void begin(uint32_t n_tokens);
  uint64_t suffix_bytes() const { return (k_.size() + v_.size()) * sizeof(float); }

  // REQUIRES: positions follow the layout's last one, within the room reserved.
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
  size_t suffix_row(uint32_t layer, uint32_t head, uint32_t row) const;
  PlaneView suffix_plane(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t n_rows) const;

  ModelConfig config_;
  const Layout& layout_;
  const AttendKernel& kernel_;
  ThreadTeam& team_;
  Rope rope_;
  uint32_t group_;              // query heads per KV head
  uint32_t room_ = 0;           // private tokens
  std::vector<float> k_, v_;    // [n_layers, n_kv_heads, room, head_dim]; K after RoPE, absolute
  std::vector<HeadWork> work_;  // [n_kv_heads]
};

}  // namespace polykv
