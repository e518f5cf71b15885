// Attention of a split with AVX-512 and VNNI where VBMI is there, too.
// As in attend_avx512.cpp, nothing from elsewhere is instantiated.
#include "reader/avx512_permuted.h"
#include "reader/avx512_walk.h"

namespace polykv {

void attend_split_avx512vbmi(const SplitCall& call) {
  Avx512Walk<Permuted, avx512::Vnni>::attend(call);
}

}  // namespace polykv
