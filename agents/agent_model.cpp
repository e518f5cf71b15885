// Image and kernels together.
#include "agents/agent_model.h"

namespace polykv {

std::vector<std::string> fallbacks_of(const KernelChoice& kernels, const AttendChoice& attend) {
  std::vector<std::string> said;
  const auto say = [&](std::string_view kind, std::string_view refused, std::string_view used) {
    said.push_back(cat(kind, " kernels ", refused, " failed their self-test, ", used, " is used"));
  };
  for (const std::string_view name : kernels.refused) say("matrix", name, kernels.set.name);
  for (const std::string_view name : attend.refused) say("attention", name, attend.kernel.name);
  return said;
}

AgentModel::AgentModel(std::unique_ptr<Model> loaded, const KernelChoice& chosen,
                       const AttendChoice& chosen_attend, unsigned n_threads)
    : text(std::move(loaded)),
      image(text->image),
      kernels(chosen.set),
      attend(chosen_attend.kernel),
      fallbacks(fallbacks_of(chosen, chosen_attend)),
      team(n_threads),
      decoder(image, kernels, team) {}

Result<std::unique_ptr<AgentModel>> load_agent_model(UniqueFd image, unsigned n_threads,
                                                     const std::string& isa) {
  auto model = load_model(std::move(image));
  if (!model) return pass(model);
  // First, because it knows all names.
  auto attend = choose_attend_kernel(isa == kFp32Kernels.name ? "ref" : isa);
  if (!attend) return pass(attend);
  auto kernels = choose_matrix_kernels(isa);
  if (!kernels) return pass(kernels);
  return std::make_unique<AgentModel>(std::move(*model), *kernels, *attend, n_threads);
}

}  // namespace polykv
