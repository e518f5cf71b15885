// A deployment as a TOML file: one for `polykv up --config`, printed by --print-config.
//
//   budget = "2GB"
//   [[model]]
//   file = "model.gguf"            # beside the file that says so, unless absolute
//   [[pool]]
//   name = "main"
//   context = ["report.txt", "notes/"]
//   agents = 3
#pragma once

#include <string>

#include "launch/deployment.h"

namespace polykv {

// The file over `base`: keys that it lacks stay. usage error that names file, line and key for
// what is no TOML, an unknown key, a wrong type or a value out of range.
Result<Deployment> read_config(const std::string& path, Deployment base);
// Everything that is set, so that it reads back as the same deployment.
std::string print_config(const Deployment& deployment);

}  // namespace polykv
