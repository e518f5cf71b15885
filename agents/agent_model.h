// What an agent needs of a model: shared memory and fixed buffers, made once per process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "model/model.h"
#include "reader/attend.h"

namespace polykv {

struct AgentModel {
  std::unique_ptr<Model> text;
  const ModelImage& image;
  Kernels kernels;
  AttendKernel attend;
  std::vector<std::string> fallbacks;  // better kernels that failed their self-test
  ThreadTeam team;
  Decoder decoder;

  AgentModel(std::unique_ptr<Model> loaded, const KernelChoice& chosen,
             const AttendChoice& chosen_attend, unsigned n_threads);
};
// What is said of kernels that failed their self-test.
std::vector<std::string> fallbacks_of(const KernelChoice& kernels, const AttendChoice& attend);
// `isa` forces kernels by name; "" = the best; "fp32" = nothing rounded, to measure the others.
Result<std::unique_ptr<AgentModel>> load_agent_model(UniqueFd image, unsigned n_threads,
                                                     const std::string& isa);

}  // namespace polykv
