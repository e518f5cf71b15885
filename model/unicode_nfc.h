// Unicode's composed form (NFC), into which some models' texts were brought before they were
// tokenised.
#pragma once

#include <string>
#include <string_view>

#include "ipc/result.h"

namespace polykv {

// False only for a text that is composed already, as texts without combining characters are: every
// character below U+0300 stays as it is. text: valid UTF-8.
bool may_compose(std::string_view text);
// internal if there is no memory. text: valid UTF-8.
Result<std::string> composed(std::string_view text);

}  // namespace polykv
