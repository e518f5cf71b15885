// The only file that knows utf8proc.
#include "model/unicode_nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace polykv {

bool may_compose(std::string_view text) {
  constexpr unsigned char kLeadOf0300 = 0xcc;
  return std::ranges::any_of(
      text, [](char byte) { return static_cast<unsigned char>(byte) >= kLeadOf0300; });
}

Result<std::string> composed(std::string_view text) {
  utf8proc_uint8_t* out = nullptr;
  const auto bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &out,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(out, &std::free);
  if (bytes >= 0)
    return std::string(reinterpret_cast<const char*>(out), static_cast<size_t>(bytes));
  return fail(ErrorCode::internal,
              cat("composing a text of ", text.size(), " bytes failed: ", utf8proc_errmsg(bytes)));
}

}  // namespace polykv
