// Rows named by an index tensor, whose values no host looks at on a GPU.
#pragma once

#include <cassert>

#include "common/portable.h"

namespace dfops {

// `i` where it is one of n rows, else the nearest one, so that nothing is read outside; on a GPU that is reported by a
// device-side assertion as well, as torch's own indexing does.
DFOPS_HD int64_t row_index(int64_t i, int64_t n) {
#if defined(__CUDA_ARCH__) || defined(DFOPS_EMULATED)
  assert(i >= 0 && i < n && "index out of range");
#endif
  return i < 0 ? 0 : min64(i, n - 1);
}

}  // namespace dfops
