// Attention on encoded bytes.
#include "tests/bench/memory_region.h"
