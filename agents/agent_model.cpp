// Image and kernels together.
#include "agents/agent_model.h"

namespace polykv {

AgentModel::AgentModel(std::unique_ptr<Model> loaded, const Kernels& chosen,
                       const AttendKernel& chosen_attend, unsigned n_threads)
    : text(std::move(loaded)),
      image(text->image),
      kernels(chosen),
      attend(chosen_attend),
      team(n_threads),
      decoder(image, kernels, team) {}

Result<std::unique_ptr<AgentModel>> load_agent_model(UniqueFd image, unsigned n_threads,
                                                     const std::string& isa) {
  auto model = load_model(std::move(image));
  if (!model) return pass(model);
  // Byte permutations (VBMI) help attention only: the products of that level are the one below's.
  auto kernels = choose_kernels(isa == "avx512vbmi" ? "avx512" : isa);
  if (!kernels) return pass(kernels);
  auto attend = choose_attend_kernel(isa);
  if (!attend) return pass(attend);
  return std::make_unique<AgentModel>(std::move(*model), *kernels, *attend, n_threads);
}

}  // namespace polykv
