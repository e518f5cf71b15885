// Asks CPU and system for tiles.
#include "ipc/amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace polykv {

// arch_prctl: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA.
bool has_amx_tiles() {
#if defined(__x86_64__)
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  constexpr long kAskForState = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
  return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace polykv
