// An owned file descriptor.
#include "ipc/fd.h"

#include <fcntl.h>
#include <unistd.h>

namespace polykv {

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);  // Linux frees the descriptor even when close reports EINTR
}

Result<UniqueFd> UniqueFd::duplicate() const {
  const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail_errno(cat("duplicate file descriptor ", fd_));
  return UniqueFd(copy);
}

}  // namespace polykv
