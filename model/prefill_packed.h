// The linear layers of a prefill by packed weights, as they lie, with the decoder's own kernels:
// exact integers, no weight dequantised, and on AMX or VNNI faster than a product of floats.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "model/kernels.h"
#include "model/threads.h"

namespace polykv {

// A row's result is bitwise independent of the number of rows and threads.
class PackedLayers {
 public:
  virtual ~PackedLayers() = default;
  // y = x * transposed w. x: [n, w.n_cols], y: [n, w.n_rows]. REQUIRES: w is packed.
  virtual void multiply(const Weight& w, const float* x, uint32_t n, float* y) = 0;
  // Whether all that a feed-forward block needs is packed.
  static bool takes_feed_forward(const LayerWeights& layer);
  // y = down(activation(gate(x)) * up(x)). x, y: [n, d_model]. What is between is never there for
  // more than a few hundred rows a thread.
  virtual void feed_forward(const LayerWeights& layer, const float* x, uint32_t n, float* y) = 0;
};

class PackedProducts : public PackedLayers {
 public:
  // set, team and config must outlive it. Not thread-safe.
  PackedProducts(const Kernels& set, ThreadTeam& team, const ModelConfig& config);

  void multiply(const Weight& w, const float* x, uint32_t n, float* y) override;
  void feed_forward(const LayerWeights& layer, const float* x, uint32_t n, float* y) override;

  static constexpr uint32_t kRowsAtOnce = 128;  // they, and a matrix, fit a core's L2 cache

 private:
  struct Scratch {
    explicit Scratch(const ModelConfig& config);
    ActivationBuffer integers;
    std::unique_ptr<float[], FreeAligned> gate, up;  // [kRowsAtOnce, d_ff]
    std::unique_ptr<float[], FreeAligned> row;       // a kernel's own
  };
  template <class Work>
  void over_rows(uint32_t n, const Work& work);
  std::unique_ptr<Scratch> take();
  void give_back(std::unique_ptr<Scratch> scratch);
  Activations operand(const Scratch& scratch, const float* x, uint32_t n, uint32_t n_cols) const;
  void multiply_rows(const Scratch& scratch, const Activations& x, const Weight& w, float* y) const;

  const Kernels& set_;
  ThreadTeam& team_;
  const ModelConfig& config_;
  std::mutex lock_;
  std::vector<std::unique_ptr<Scratch>> idle_;  // under lock_; one a thread at most
};

}  // namespace polykv
