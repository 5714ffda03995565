// out[i] = mean over the parts of part[i * length / size], along one axis.
#pragma once

#include "common/portable.h"
#include "common/strip.h"

namespace dfops::merge {

constexpr int kMostParts = 8;

// The first position of the output that reads position j of a part.
DFOPS_HD int64_t first_reader(int64_t j, int64_t length, int64_t size) {
  return quotient(j * size + length - 1, length);
}

template <class scalar_t>
struct Part {
  scalar_t* data;
  int64_t length;
};

// Passed to kernels by value. A null pointer stands for an empty part.
template <class scalar_t>
struct Parts {
  Part<scalar_t> part[kMostParts];
  int count;
};

}  // namespace dfops::merge
