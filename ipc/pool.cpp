// From the fds of a lease to a validated layout.
#include "ipc/pool.h"

#include <cstring>

namespace polykv {
namespace {

Result<Span> open_span(const ManifestSpan& listed, UniqueFd fd, const Fingerprint& model,
                       const KvShape& shape, Verify verify) {
  auto segment = SegmentView::open(std::move(fd), verify);
  if (!segment) return pass(segment);
  const Fingerprint found = segment_model(*segment);
  if (found != model) {
    return fail(ErrorCode::fingerprint_mismatch,
                cat("the pool was made by model ", to_hex(found), ", this agent runs ",
                    to_hex(model), ": start the agent with the pool's model"),
                to_hex(found), to_hex(model));
  }
  const Fingerprint identity = segment_identity(*segment);
  if (std::memcmp(identity.data(), listed.segment, identity.size()) != 0 ||
      segment->bytes() != listed.segment_bytes) {
    return fail(ErrorCode::bad_segment, "a segment is not the one that its manifest lists",
                to_hex(identity));
  }
  if (segment->shape() != shape || listed.token_end > segment->n_tokens()) {
    return fail(ErrorCode::bad_segment, "a segment's shape is not that of the model",
                cat(listed.token_end, " tokens"), cat(segment->n_tokens(), " tokens"));
  }
  // What a layer with a window keeps ends where the segment does.
  if (shape.windows.tokens != 0 && listed.token_end != segment->n_tokens()) {
    return fail(
        ErrorCode::bad_segment,
        cat("a span ends at token ", listed.token_end, " of its segment's ", segment->n_tokens(),
            ": layers with a window keep only a segment's last tokens, ",
            "so that a span must end where its segment does"),
        cat(listed.token_end), cat(segment->n_tokens()));
  }
  return Span{std::move(*segment), listed.token_begin, listed.token_end, listed.position_offset};
}

}  // namespace

Fingerprint segment_model(const SegmentView& segment) {
  Fingerprint model;
  std::memcpy(model.data(), segment.header().model, model.size());
  return model;
}

Fingerprint segment_identity(const SegmentView& segment) {
  return fingerprint128(std::as_bytes(std::span(&segment.header(), 1)));
}

Result<Layout> open_layout(UniqueFd manifest_fd, std::vector<UniqueFd> segments,
                           const Fingerprint& model, const KvShape& shape, Verify verify) {
  auto manifest = read_manifest(std::move(manifest_fd));
  if (!manifest) return pass(manifest);
  if (manifest->spans.size() != segments.size()) {
    return fail(ErrorCode::bad_segment, cat("the manifest lists ", manifest->spans.size(),
                                            " segments, ", segments.size(), " came with it"));
  }
  Layout layout;
  layout.version = manifest->version;
  for (size_t i = 0; i < segments.size(); ++i) {
    auto span = open_span(manifest->spans[i], std::move(segments[i]), model, shape, verify);
    if (!span) return pass(span);
    layout.n_tokens += span->token_end - span->token_begin;
    layout.spans.push_back(std::move(*span));
  }
  return layout;
}

}  // namespace polykv
