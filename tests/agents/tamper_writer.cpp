// A writer that damages what it hands over, for end-to-end tests: in segments of codec
// $POLYKV_TAMPER it zeroes all V codes and redoes the checksums. Otherwise it is polykv-writer.
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string_view>

#include "tests/agents/tamper.h"
#include "writer/writer.h"

namespace {

using polykv::PlaneEntry;

polykv::Result<polykv::UniqueFd> zero_v_codes(polykv::UniqueFd segment) {
  auto own = segment.duplicate();
  if (!own) return polykv::pass(own);
  auto view = polykv::SegmentView::open(std::move(*own), polykv::Verify::everything);
  if (!view) return polykv::pass(view);
  const char* codec = std::getenv("POLYKV_TAMPER");
  if (codec == nullptr || polykv::codec_name(view->codec()) != codec) return segment;
  const uint32_t head_dim = view->shape().head_dim;
  return polykv::tamper(segment, [&](const PlaneEntry& entry, std::span<std::byte> plane) {
    if (entry.kind != static_cast<uint16_t>(polykv::PlaneKind::v)) return;
    const auto codes = polykv::codes_of(entry, head_dim, plane);
    std::memset(codes.data(), 0, codes.size());
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::string runtime;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string_view(argv[i]) == "--runtime") runtime = argv[i + 1];
  }
  auto socket = polykv::FdSocket::connect(runtime + "/fd");
  if (!socket) return 1;
  polykv::Writer writer(std::move(*socket), {.n_threads = 2, .finish = zero_v_codes});
  return writer.serve() ? 0 : 1;
}
