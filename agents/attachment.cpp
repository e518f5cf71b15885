// Asking for a lease.
#include "agents/attachment.h"

#include "ipc/message.h"

namespace polykv {

Result<Grant> request_lease(const AttachOptions& options) {
  auto socket = FdSocket::connect(options.runtime + "/fd");
  if (!socket) return pass(socket);
  Message attach("attach");
  attach.set("agent", options.agent).set("pool", options.pool);
  attach.set("version", static_cast<int64_t>(options.version));
  if (!options.model.empty()) attach.set("model", options.model);
  if (!options.fingerprint.empty()) attach.set("fingerprint", options.fingerprint);
  if (auto sent = socket->send(attach.dump()); !sent) return pass(sent);

  auto packet = socket->receive();
  if (!packet) return pass(packet);
  auto answer = Message::parse(packet->text);
  if (!answer) return pass(answer);
  if (answer->type() == "error") return std::unexpected(error_of(*answer));
  if (answer->type() != "granted" || packet->fds.size() < 3) {
    return fail(ErrorCode::bad_message,
                cat("expected 'granted' with an image, a manifest and segments, got '",
                    answer->type(), "' with ", packet->fds.size(), " descriptors"));
  }
  Grant grant;
  grant.lease = std::move(*socket);
  grant.pool = answer->text("pool");
  grant.version = static_cast<uint64_t>(answer->integer("version"));
  grant.image = std::move(packet->fds[0]);
  grant.manifest = std::move(packet->fds[1]);
  for (size_t i = 2; i < packet->fds.size(); ++i) {
    grant.segments.push_back(std::move(packet->fds[i]));
  }
  return grant;
}

}  // namespace polykv
